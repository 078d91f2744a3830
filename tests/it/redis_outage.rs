//! Redis is not well, and two hundred requests a second go on (F-06).

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use reqwest::{Client, Response};
use serde_json::json;
use tokio::{
    sync::Mutex,
    task::{JoinHandle, JoinSet, block_in_place},
    time::{interval, sleep},
};

use crate::support::{
    browser::{Browser, client},
    house::{self, House},
    redis::{Redis, redis_is_installed},
    redis_groups::{Cluster, Watched},
    relay::{self, Relay},
};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// On the way to the only server.
    Wire(relay::Fault),
    /// The only server becomes a replica, and refuses every change.
    Demoted,
    /// The only server dies, and comes back without anything.
    Emptied,
    /// The master dies, and the Sentinels make its replica the master.
    Succeeded,
    /// The session moves from one node of a cluster to another.
    Moved,
    /// The node of a cluster that has the session dies, and its replica takes over.
    TakenOver,
}

enum Servers {
    Alone(Redis, Relay),
    Watched(Watched),
    Cluster(Cluster),
}

/// How long a trouble lasts that does not end by itself.
const WHILE: Duration = Duration::from_millis(2_000);
const RECOVERY: Duration = Duration::from_secs(2);
const SESSIONS: &str = "vestibule:s:*";
/// Two loads at once would be twice the load.
static ONE_LOAD: Mutex<()> = Mutex::const_new(());

impl Servers {
    async fn start(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Wire(_) | Trouble::Demoted | Trouble::Emptied => {
                let redis = Redis::start();
                let relay = Relay::to(redis.port).await;
                Self::Alone(redis, relay)
            }
            Trouble::Succeeded => Self::Watched(block_in_place(Watched::start)),
            Trouble::Moved | Trouble::TakenOver => Self::Cluster(block_in_place(Cluster::start)),
        }
    }

    fn url(&self) -> String {
        match self {
            Self::Alone(_, relay) => format!("redis://127.0.0.1:{}", relay.port),
            Self::Watched(watched) => watched.url(),
            Self::Cluster(cluster) => cluster.url(),
        }
    }

    /// Lets the trouble come and go; it has just gone when this ends.
    async fn suffer(&mut self, trouble: Trouble, house: &House) {
        match (trouble, self) {
            (Trouble::Wire(fault), Self::Alone(_, relay)) => {
                relay.set(fault);
                sleep(WHILE).await;
                relay.set(relay::Fault::None);
            }
            (Trouble::Demoted, Self::Alone(redis, _)) => {
                // Of a master that is not there, so that it keeps what it has.
                redis.say(&["REPLICAOF", "127.0.0.1", "1"]);
                as_time_goes_by(house).await;
                redis.say(&["REPLICAOF", "NO", "ONE"]);
            }
            (Trouble::Emptied, Self::Alone(redis, _)) => {
                redis.kill();
                sleep(WHILE).await;
            }
            (Trouble::Succeeded, Self::Watched(watched)) => block_in_place(|| watched.lose_the_master()),
            (Trouble::Moved, Self::Cluster(cluster)) => {
                let on_its_way = block_in_place(|| cluster.begin_to_move(SESSIONS));
                // That it was seen is written where it is by now.
                house.clock.advance(Duration::from_secs(61));
                sleep(WHILE).await;
                block_in_place(|| cluster.end_to_move(&on_its_way));
                house.clock.advance(Duration::from_secs(61));
                sleep(WHILE).await;
            }
            (Trouble::TakenOver, Self::Cluster(cluster)) => block_in_place(|| {
                let master = cluster.insure(SESSIONS);
                cluster.lose(master);
            }),
            (trouble, Self::Alone(..) | Self::Watched(_) | Self::Cluster(_)) => panic!("{trouble:?} needs others"),
        }
    }
}

/// The session is seen, and is due for fresh tokens; both would be written down.
async fn as_time_goes_by(house: &House) {
    let calls = house.token_calls();
    for seconds in [61, 184] {
        house.clock.advance(Duration::from_secs(seconds));
        sleep(WHILE / 2).await;
    }
    assert_eq!(house.token_calls(), calls, "what cannot be kept is not asked for");
}

/// What happened to the requests.
#[derive(Debug, Default)]
struct Seen {
    statuses: BTreeMap<u16, usize>,
    redirects: usize,
    deleted_cookies: usize,
    without_retry_after: usize,
}

impl Seen {
    fn note(&mut self, answer: &Response) {
        let status = answer.status();
        *self.statuses.entry(status.as_u16()).or_default() += 1;
        self.redirects += usize::from(status.is_redirection());
        let cookies = answer.headers().get_all("set-cookie").iter();
        self.deleted_cookies += cookies
            .filter(|line| line.to_str().unwrap().contains("Max-Age=0"))
            .count();
        self.without_retry_after += usize::from(status == 503 && !answer.headers().contains_key("retry-after"));
    }

    fn only(&self, allowed: &[u16]) -> bool {
        self.statuses.keys().all(|status| allowed.contains(status))
            && (self.redirects, self.deleted_cookies, self.without_retry_after) == (0, 0, 0)
    }
}

/// Requests that go on until somebody says that it is over.
struct Load {
    over: Arc<AtomicBool>,
    seen: JoinHandle<Seen>,
}

impl Load {
    fn of(every: Duration, ask: impl Fn(&Client) -> reqwest::RequestBuilder + Send + 'static) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let (stop, client) = (over.clone(), client());
        let seen = tokio::spawn(async move {
            let mut tick = interval(every);
            let mut asked = JoinSet::new();
            while !stop.load(Ordering::SeqCst) {
                tick.tick().await;
                let request = ask(&client);
                asked.spawn(async move { request.send().await.unwrap() });
            }
            let mut seen = Seen::default();
            while let Some(answer) = asked.join_next().await {
                seen.note(&answer.unwrap());
            }
            seen
        });
        Self { over, seen }
    }

    async fn end(self) -> Seen {
        self.over.store(true, Ordering::SeqCst);
        self.seen.await.unwrap()
    }
}

struct Scene {
    house: House,
    servers: Servers,
    alice: Browser,
    _url: tempfile::NamedTempFile,
}

impl Scene {
    async fn open(trouble: Trouble) -> Self {
        let servers = Servers::start(trouble).await;
        let url = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(url.path(), servers.url()).unwrap();
        // Shorter than a trouble, and longer than a busy machine hesitates.
        let redis = format!("redis = {{ url_file = {:?}, timeout = \"1s\" }}", url.path());
        let house = House::open_keeping(&format!("store = \"redis\"\nread_cache = \"0s\"\n{redis}")).await;
        let mut alice = Browser::new();
        let form = alice.open(&house.url("/")).await;
        assert_eq!(alice.log_in(&form, "alice", "alice").await.status, 200);
        Self {
            house,
            servers,
            alice,
            _url: url,
        }
    }

    /// Navigations with the session, two hundred a second.
    fn navigations(&self) -> Load {
        let (url, cookie) = (self.house.url("/"), self.alice.session_cookie());
        Load::of(Duration::from_millis(5), move |client| {
            client
                .get(&url)
                .header("accept", "text/html")
                .header("cookie", format!("vestibule={cookie}"))
        })
    }

    /// Scripts with a JWT, forty a second.
    fn scripts(&self) -> Load {
        let url = self.house.url("/");
        let now = self.house.now();
        let claims = json!({
            "iss": self.house.provider.issuer(), "aud": house::AUDIENCE, "sub": "alice", "client_id": "script",
            "iat": now, "exp": now + 86_400, "jti": "1",
        });
        let token = self.house.sign(&json!({"alg": "RS256", "typ": "at+jwt"}), &claims);
        Load::of(Duration::from_millis(25), move |client| {
            client.get(&url).bearer_auth(&token)
        })
    }

    /// Until the session counts again.
    async fn recovers(&self) {
        let since = Instant::now();
        let client = client();
        let mut status = 0;
        while status != 200 {
            assert!(since.elapsed() < RECOVERY, "it does not recover, but answers {status}");
            let request = client
                .get(self.house.url("/"))
                .header("cookie", format!("vestibule={}", self.alice.session_cookie()));
            status = request.send().await.unwrap().status().as_u16();
        }
    }

    /// Nobody is sent to log in and nobody loses a cookie, who needs no session notices nothing, and soon all is well.
    async fn endures(trouble: Trouble) {
        if !redis_is_installed() {
            return;
        }
        let _one = ONE_LOAD.lock().await;
        let mut scene = Self::open(trouble).await;
        let (navigations, scripts) = (scene.navigations(), scene.scripts());
        scene.servers.suffer(trouble, &scene.house).await;
        if trouble != Trouble::Emptied {
            scene.recovers().await;
        }
        let (navigations, scripts) = (navigations.end().await, scripts.end().await);
        assert!(navigations.only(&[200, 503]), "{trouble:?}: {navigations:?}");
        assert!(scripts.only(&[200]), "{trouble:?}: a JWT needs no store: {scripts:?}");
        // Who serves on, only not for changes, need not be noticed.
        if !matches!(trouble, Trouble::Moved | Trouble::Demoted) {
            assert!(
                navigations.statuses.contains_key(&503),
                "{trouble:?} was not noticed: {navigations:?}"
            );
        }
        match trouble {
            Trouble::Emptied => scene.one_login_and_no_loop().await,
            Trouble::Demoted => scene.needs_what_cannot_be_kept().await,
            Trouble::Wire(_) | Trouble::Succeeded | Trouble::Moved | Trouble::TakenOver => {}
        }
    }

    /// Where fresh tokens are needed and could not be kept, they are not asked for.
    async fn needs_what_cannot_be_kept(&mut self) {
        let url = self.house.url("/");
        // Whatever was under way is written by then.
        self.is_written_down().await;
        self.demote(&["127.0.0.1", "1"]);
        self.house.clock.advance(Duration::from_secs(5 * 60 + 5));
        let calls = self.house.token_calls();
        let page = self.alice.open(&url).await;
        assert_eq!((page.status.as_u16(), self.house.token_calls()), (503, calls));
        assert!(!page.header("retry-after").is_empty());
        self.demote(&["NO", "ONE"]);
        self.recovers().await;
        assert_eq!(self.house.token_calls(), calls + 1);
    }

    async fn one_login_and_no_loop(&mut self) {
        let down = self.alice.open(&self.house.url("/")).await;
        assert_eq!(down.status, 503);
        assert!(down.text.contains("not been logged out"), "{}", down.text);
        let Servers::Alone(redis, _) = &mut self.servers else {
            panic!("there are several");
        };
        block_in_place(|| redis.restart());
        let since = Instant::now();
        while self.alice.fetch(&self.house.url("/")).await.status != 401 {
            assert!(since.elapsed() < RECOVERY, "nobody notices that it is empty");
        }
        let calls = self.house.token_calls();
        let again = self.alice.open(&self.house.url("/again")).await;
        assert_eq!(again.status, 200, "the provider knows alice still");
        let navigations = self.navigations();
        sleep(WHILE).await;
        let navigations = navigations.end().await;
        assert!(navigations.only(&[200]), "{navigations:?}");
        assert_eq!(self.house.token_calls(), calls + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f_06_a_black_hole_in_front_of_redis() {
    Scene::endures(Trouble::Wire(relay::Fault::BlackHole)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f_06_a_redis_two_seconds_away() {
    Scene::endures(Trouble::Wire(relay::Fault::Late(Duration::from_secs(2)))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f_06_connections_to_redis_that_are_reset() {
    Scene::endures(Trouble::Wire(relay::Fault::Reset)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f_06_a_redis_that_becomes_a_replica() {
    Scene::endures(Trouble::Demoted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f_06_a_redis_that_comes_back_empty_means_one_login_and_no_loop() {
    Scene::endures(Trouble::Emptied).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f_06_a_master_that_the_sentinels_replace() {
    Scene::endures(Trouble::Succeeded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f_06_a_session_that_moves_through_the_cluster() {
    Scene::endures(Trouble::Moved).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f_06_a_node_of_the_cluster_that_dies() {
    Scene::endures(Trouble::TakenOver).await;
}

/// The provider has given the new tokens, and they cannot be written down for a while.
#[tokio::test(flavor = "multi_thread")]
async fn fresh_tokens_outlive_an_outage_of_redis() {
    if !redis_is_installed() {
        return;
    }
    let mut scene = Scene::open(Trouble::Demoted).await;
    let (calls, url) = (scene.a_refresh_is_under_way().await, scene.house.url("/"));
    scene.relay().set(relay::Fault::Reset);
    // The answer of the provider comes in the meantime, and finds no store.
    sleep(2 * WHILE).await;
    scene.relay().set(relay::Fault::None);
    scene.recovers().await;
    // Past the end of the old access token; with the old refresh token there would be no way on.
    scene.house.clock.advance(Duration::from_secs(60));
    assert_eq!(scene.alice.fetch(&url).await.status, 200);
    assert_eq!(scene.house.token_calls(), calls + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn fresh_tokens_serve_while_redis_takes_no_changes() {
    if !redis_is_installed() {
        return;
    }
    let mut scene = Scene::open(Trouble::Demoted).await;
    let (calls, url) = (scene.a_refresh_is_under_way().await, scene.house.url("/"));
    scene.demote(&["127.0.0.1", "1"]);
    // Past the end of the old access token: she waits for the new ones, and for no more than she needs.
    scene.house.clock.advance(Duration::from_secs(60));
    assert_eq!(scene.alice.fetch(&url).await.status, 200);
    assert_eq!(scene.alice.fetch(&url).await.status, 200);
    scene.demote(&["NO", "ONE"]);
    scene.recovers().await;
    assert_eq!(scene.house.token_calls(), calls + 1);
    scene.is_written_down().await;
}

impl Scene {
    fn redis(&self) -> &Redis {
        match &self.servers {
            Servers::Alone(redis, _) => redis,
            Servers::Watched(_) | Servers::Cluster(_) => panic!("there are several"),
        }
    }

    fn relay(&self) -> &Relay {
        match &self.servers {
            Servers::Alone(_, relay) => relay,
            Servers::Watched(_) | Servers::Cluster(_) => panic!("there is none"),
        }
    }

    fn demote(&self, master: &[&str]) {
        let words = [&["REPLICAOF"], master].concat();
        assert_eq!(self.redis().say(&words), "OK");
    }

    /// The provider has been asked and has not answered; says how often it had been asked before.
    async fn a_refresh_is_under_way(&mut self) -> usize {
        let url = self.house.url("/");
        self.house
            .fault(house::Place::Token, house::Fault::delay(Duration::from_secs(1)));
        self.house.clock.advance(Duration::from_secs(4 * 60 + 5));
        let calls = self.house.token_calls();
        while self.house.token_calls() == calls {
            assert_eq!(self.alice.fetch(&url).await.status, 200);
        }
        calls
    }

    /// Whether Redis has the second version of the session, or a later one.
    async fn is_written_down(&self) {
        let key = self.redis().say(&["--scan", "--pattern", SESSIONS]);
        let since = Instant::now();
        while self.redis().say(&["HGET", &key, "v"]) == "1" {
            assert!(since.elapsed() < 2 * RECOVERY, "the tokens are in one process only");
            sleep(Duration::from_millis(50)).await;
        }
    }
}
