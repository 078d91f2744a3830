//! Finds the server that is the master now, and opens connections to it.

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, Pipeline,
    ProtocolVersion, RedisConnectionInfo, RedisError, RedisFuture, RedisResult, TlsCertificates, Value,
    aio::{AsyncPushSender, ConnectionLike, MultiplexedConnection},
    cluster::ClusterClient,
    cluster_async::ClusterConnection,
};
use tokio::task::JoinSet;

use super::settings::{Credentials, Host, RedisSettings, Topology};
use crate::trust::TrustRoots;

/// How connections are opened; cloned where several are tried at once.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    settings: Arc<RedisSettings>,
    certificates: TlsCertificates,
    /// How long a step of opening may take.
    patience: Duration,
}

/// A connection that many requests use at once.
#[derive(Clone)]
pub(super) enum Link {
    Server(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Connector {
    pub(super) fn new(settings: Arc<RedisSettings>, patience: Duration) -> Self {
        let root_cert = match &settings.trust {
            TrustRoots::Platform => None,
            TrustRoots::Only(certificates) => Some(pem(certificates.iter().map(AsRef::as_ref))),
        };
        let certificates = TlsCertificates {
            client_tls: None,
            root_cert,
        };
        Self {
            settings,
            certificates,
            patience,
        }
    }

    /// A connection to whoever is the master now.
    pub(super) async fn open(&self) -> RedisResult<Link> {
        match &self.settings.topology {
            Topology::Single => self.open_single().await.map(Link::Server),
            Topology::Sentinel { .. } => Ok(Link::Server(self.open_master().await?.1)),
            Topology::Cluster => self.open_cluster().await.map(Link::Cluster),
        }
    }

    /// A connection that hears what is published, on the master or on any node of a cluster.
    pub(super) async fn open_listener(&self, hear: impl AsyncPushSender + Clone) -> RedisResult<MultiplexedConnection> {
        match &self.settings.topology {
            Topology::Single | Topology::Cluster => self.listen_anywhere(hear).await,
            Topology::Sentinel { .. } => {
                let (master, _) = self.open_master().await?;
                self.listen_at(&master, hear).await
            }
        }
    }

    /// A connection to one node of a cluster, for what is asked of every node.
    pub(super) async fn open_node(&self, node: &Host) -> RedisResult<Link> {
        self.open_at(node, &self.settings.login, 0).await.map(Link::Server)
    }

    async fn open_single(&self) -> RedisResult<MultiplexedConnection> {
        let host = self.settings.hosts.first().ok_or_else(|| nobody("there is no host"))?;
        self.open_server(host).await
    }

    async fn open_server(&self, host: &Host) -> RedisResult<MultiplexedConnection> {
        self.open_at(host, &self.settings.login, self.settings.database).await
    }

    async fn open_cluster(&self) -> RedisResult<ClusterConnection> {
        let nodes = self.settings.hosts.iter();
        let nodes = nodes.map(|host| self.info(host, &self.settings.login, 0));
        let mut builder = ClusterClient::builder(nodes.collect::<RedisResult<Vec<_>>>()?)
            .connection_timeout(self.patience)
            .response_timeout(self.settings.timeout)
            .retries(CLUSTER_RETRIES)
            .max_retry_wait(CLUSTER_RETRY_WAIT);
        if self.settings.tls {
            builder = builder.certs(self.certificates.clone());
        }
        builder.build()?.get_async_connection().await
    }

    async fn listen_anywhere(&self, hear: impl AsyncPushSender + Clone) -> RedisResult<MultiplexedConnection> {
        let mut failure = nobody("there is no host");
        for host in &self.settings.hosts {
            match self.listen_at(host, hear.clone()).await {
                Ok(listener) => return Ok(listener),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    async fn listen_at(&self, host: &Host, hear: impl AsyncPushSender + Clone) -> RedisResult<MultiplexedConnection> {
        let info = self.info(host, &self.settings.login, 0)?;
        // Only the third version of the protocol brings messages between answers.
        let redis = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let client = self.client(info.set_redis_settings(redis))?;
        let config = self.config().set_push_sender(hear);
        in_time(
            self.patience,
            client.get_multiplexed_async_connection_with_config(&config),
        )
        .await
    }

    async fn open_at(&self, host: &Host, login: &Credentials, database: i64) -> RedisResult<MultiplexedConnection> {
        let client = self.client(self.info(host, login, database)?)?;
        in_time(
            self.patience,
            client.get_multiplexed_async_connection_with_config(&self.config()),
        )
        .await
    }

    /// The store limits every answer itself.
    fn config(&self) -> AsyncConnectionConfig {
        AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.patience))
            .set_response_timeout(None)
    }

    fn client(&self, info: ConnectionInfo) -> RedisResult<Client> {
        if self.settings.tls {
            Client::build_with_tls(info, self.certificates.clone())
        } else {
            Client::open(info)
        }
    }

    fn info(&self, host: &Host, login: &Credentials, database: i64) -> RedisResult<ConnectionInfo> {
        let Host { name, port } = host.clone();
        let address = match self.settings.tls {
            false => ConnectionAddr::Tcp(name, port),
            true => ConnectionAddr::TcpTls {
                host: name,
                port,
                insecure: false,
                tls_params: None,
            },
        };
        let mut redis = RedisConnectionInfo::default().set_db(database).set_skip_set_lib_name();
        if let Some(user) = &login.user {
            redis = redis.set_username(user);
        }
        if let Some(password) = &login.password {
            redis = redis.set_password(password.expose());
        }
        Ok(address.into_connection_info()?.set_redis_settings(redis))
    }
}

/// Asking the Sentinels.
impl Connector {
    /// The master that a Sentinel names and that calls itself one: Sentinels learn of a fail-over one after the other.
    ///
    /// All are asked at once, so that one that hangs costs nothing.
    async fn open_master(&self) -> RedisResult<(Host, MultiplexedConnection)> {
        let mut asked = JoinSet::new();
        for sentinel in self.settings.hosts.clone() {
            let connector = self.clone();
            asked.spawn(async move { connector.open_master_of(sentinel).await });
        }
        let mut failure = nobody("no Sentinel was asked");
        while let Some(answer) = asked.join_next().await {
            match answer {
                Ok(Ok(master)) => return Ok(master),
                Ok(Err(error)) => failure = error,
                Err(_) => failure = nobody("asking a Sentinel failed"),
            }
        }
        Err(failure)
    }

    async fn open_master_of(&self, sentinel: Host) -> RedisResult<(Host, MultiplexedConnection)> {
        let master = self.master_of(sentinel).await?;
        let mut connection = self.open_server(&master).await?;
        let role = in_time(self.patience, redis::cmd("ROLE").query_async(&mut connection)).await?;
        match role {
            Value::Array(role) if role.first().is_some_and(is_master) => Ok((master, connection)),
            _ => Err(nobody("the server that Sentinel names is not the master yet")),
        }
    }

    async fn master_of(&self, sentinel: Host) -> RedisResult<Host> {
        let Topology::Sentinel { master, login } = &self.settings.topology else {
            return Err(nobody("there are no Sentinels"));
        };
        let mut connection = self.open_at(&sentinel, login, 0).await?;
        let mut question = redis::cmd("SENTINEL");
        question.arg("get-master-addr-by-name").arg(&**master);
        let answer: Option<(String, u16)> = in_time(self.patience, question.query_async(&mut connection)).await?;
        let (name, port) = answer.ok_or_else(|| nobody("Sentinel knows no master of this name"))?;
        Ok(Host { name, port })
    }
}

/// The store's own patience ends before more tries could help.
const CLUSTER_RETRIES: u32 = 3;
/// In milliseconds.
const CLUSTER_RETRY_WAIT: u64 = 50;

async fn in_time<T>(patience: Duration, answer: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    let too_late = |_| std::io::Error::from(std::io::ErrorKind::TimedOut);
    tokio::time::timeout(patience, answer).await.map_err(too_late)?
}

fn is_master(role: &Value) -> bool {
    matches!(role, Value::BulkString(role) if role == b"master")
}

fn nobody(why: &'static str) -> RedisError {
    (ErrorKind::Client, why).into()
}

/// Certificates as the Redis client wants them.
fn pem<'a>(certificates: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut text = String::new();
    for certificate in certificates {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        text.push_str(&STANDARD.encode(certificate));
        text.push_str("\n-----END CERTIFICATE-----\n");
    }
    text.into_bytes()
}

impl ConnectionLike for Link {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Server(connection) => connection.req_packed_command(cmd),
            Self::Cluster(connection) => connection.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Server(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Server(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Link(..)")
    }
}
