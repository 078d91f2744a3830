//! Redis servers that stand in for each other: watched by Sentinels, and as a cluster.

use super::redis::Redis;

/// A master, its replica, and three Sentinels who watch them.
pub struct Watched {
    pub master: Redis,
    replica: Redis,
    sentinels: Vec<Redis>,
}

impl Watched {
    pub fn start() -> Self {
        let master = Redis::start();
        let replica = Redis::start_with(&[&format!("replicaof 127.0.0.1 {}", master.port)]);
        replica.until_it_says(&["INFO", "replication"], "master_link_status:up");
        let lines = format!(
            "sentinel monitor mymaster 127.0.0.1 {} 2\nsentinel down-after-milliseconds mymaster 1000\n\
             sentinel failover-timeout mymaster 3000",
            master.port
        );
        let sentinels: Vec<Redis> = (0..3).map(|_| Redis::sentinel(&[&lines])).collect();
        for sentinel in &sentinels {
            sentinel.until_it_says(&["SENTINEL", "CKQUORUM", "mymaster"], "OK 3 usable");
            sentinel.until_it_says(&["INFO", "sentinel"], "slaves=1");
        }
        Self {
            master,
            replica,
            sentinels,
        }
    }

    pub fn url(&self) -> String {
        format!("redis+sentinel://{}/mymaster", addresses(&self.sentinels).join(","))
    }

    /// Kills the master when its replica has all of it, and waits until a Sentinel names the replica.
    pub fn lose_the_master(&mut self) {
        assert_eq!(self.master.say(&["WAIT", "1", "5000"]), "1");
        self.master.kill();
        let replica = self.replica.port.to_string();
        self.sentinels[0].until_it_says(&["SENTINEL", "get-master-addr-by-name", "mymaster"], &replica);
    }
}

/// Three masters, of whom each has a third of the keys.
pub struct Cluster {
    pub nodes: Vec<Redis>,
}

const IN_A_CLUSTER: [&str; 3] = [
    "cluster-enabled yes",
    "cluster-config-file nodes.conf",
    "cluster-node-timeout 2000",
];

impl Cluster {
    pub fn start() -> Self {
        let nodes: Vec<Redis> = (0..3).map(|_| Redis::start_with(&IN_A_CLUSTER)).collect();
        let addresses = addresses(&nodes);
        let mut words = vec!["--cluster", "create"];
        words.extend(addresses.iter().map(String::as_str));
        words.push("--cluster-yes");
        nodes[0].say(&words);
        let cluster = Self { nodes };
        cluster.until_all_is_well();
        cluster
    }

    pub fn url(&self) -> String {
        format!("redis+cluster://{}", addresses(&self.nodes).join(","))
    }

    fn until_all_is_well(&self) {
        for node in &self.nodes {
            node.until_it_says(&["CLUSTER", "INFO"], "cluster_state:ok");
        }
    }

    /// Which node has a key of this pattern, and the key.
    fn holder(&self, pattern: &str) -> (usize, String) {
        let of = |node: &Redis| node.say(&["--scan", "--pattern", pattern]);
        let mut found = self.nodes.iter().map(of).enumerate();
        found.find(|(_, key)| !key.is_empty()).expect("no node has it")
    }

    /// Moves the slot of a key to another node, but leaves the others believing that it is where it was.
    pub fn begin_to_move(&self, pattern: &str) -> Move {
        let (from, key) = self.holder(pattern);
        let to = (from + 1) % self.nodes.len();
        let (source, target) = (&self.nodes[from], &self.nodes[to]);
        let slot = source.say(&["CLUSTER", "KEYSLOT", &key]);
        let (source_id, target_id) = (source.say(&["CLUSTER", "MYID"]), target.say(&["CLUSTER", "MYID"]));
        for (node, state, other) in [(target, "IMPORTING", &source_id), (source, "MIGRATING", &target_id)] {
            assert_eq!(node.say(&["CLUSTER", "SETSLOT", &slot, state, other]), "OK");
        }
        let port = target.port.to_string();
        assert_eq!(source.say(&["MIGRATE", "127.0.0.1", &port, &key, "0", "5000"]), "OK");
        Move { slot, target_id }
    }

    pub fn end_to_move(&self, Move { slot, target_id }: &Move) {
        for node in &self.nodes {
            assert_eq!(node.say(&["CLUSTER", "SETSLOT", slot, "NODE", target_id]), "OK");
        }
    }

    /// Gives the master that has a key a replica, which by then has all of it.
    pub fn insure(&mut self, pattern: &str) -> usize {
        let (master, _) = self.holder(pattern);
        let replica = Redis::start_with(&IN_A_CLUSTER);
        let (id, port) = (self.nodes[master].say(&["CLUSTER", "MYID"]), replica.port.to_string());
        assert_eq!(self.nodes[master].say(&["CLUSTER", "MEET", "127.0.0.1", &port]), "OK");
        replica.until_it_says(&["CLUSTER", "NODES"], &id);
        // Refused until it has heard that the other is a master.
        replica.until_it_says(&["CLUSTER", "REPLICATE", &id], "OK");
        replica.until_it_says(&["INFO", "replication"], "master_link_status:up");
        self.nodes.push(replica);
        for node in &self.nodes {
            node.until_it_says(&["CLUSTER", "INFO"], "cluster_known_nodes:4");
        }
        self.until_all_is_well();
        master
    }

    /// Kills a master, and waits until its replica has taken over.
    pub fn lose(&mut self, master: usize) {
        self.nodes[master].kill();
        let replica = self.nodes.last().unwrap();
        replica.until_it_says(&["INFO", "replication"], "role:master");
        replica.until_it_says(&["CLUSTER", "INFO"], "cluster_state:ok");
    }
}

/// A slot on its way.
pub struct Move {
    slot: String,
    target_id: String,
}

fn addresses(servers: &[Redis]) -> Vec<String> {
    servers.iter().map(|it| format!("127.0.0.1:{}", it.port)).collect()
}
