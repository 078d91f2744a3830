//! Replicas of one gateway behind one address, each with a wire of its own to one Redis.

use std::{
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use reqwest::{RequestBuilder, Response, header};
use tokio::net::TcpListener;
use vestibule::{
    cli::run,
    config::{self, Surroundings},
    demo::authorization_server::{AccessTokenKind, AuthorizationServer, Client, Gone, User},
    secret::{Secret, random_text},
    server::Running,
    session::SealingKey,
    time::{Clock, ManualClock},
};

use super::{
    browser::{Browser, client},
    house::OPENING,
    lasting::application,
    process::free_address,
    redis::Redis,
    relay::Relay,
    upstream::EchoUpstream,
};

const AUDIENCE: &str = "https://wiki.example.com";

pub struct Fleet {
    pub clock: Arc<ManualClock>,
    pub provider: AuthorizationServer,
    pub redis: Redis,
    /// Where browsers think that they are.
    pub public: SocketAddr,
    upstream: EchoUpstream,
    streams: SocketAddr,
    /// Of replicas that have yet to start, as is `store`.
    pub keys: Vec<SealingKey>,
    pub store: &'static str,
    directory: tempfile::TempDir,
}

/// One of them; it ends when it is dropped.
pub struct Replica {
    pub address: SocketAddr,
    pub relay: Relay,
    public: SocketAddr,
    gateway: Running,
}

impl Fleet {
    pub async fn start() -> Self {
        let clock = Arc::new(ManualClock::starting_at(OPENING));
        let public = free_address();
        let at = |path: &str| format!("http://{public}{path}");
        let provider = AuthorizationServer::builder(clock.clone())
            .access_token_lifetime(Duration::from_secs(60 * 60))
            .client(Client {
                id: "wiki".into(),
                secret: Some(Secret::new("s3cret")),
                redirect_uris: vec![at("/oauth2/callback")],
                post_logout_redirect_uris: vec![at("/oauth2/sign_out")],
                audience: AUDIENCE.into(),
                access_tokens: AccessTokenKind::Jwt,
                scopes: ["openid", "profile", "email"].map(str::to_owned).into(),
                backchannel_logout_uri: None,
            })
            .user(User::named("alice"))
            .user(User::named("mallory"))
            .listen("127.0.0.1:0".parse().unwrap())
            .await
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let streams = listener.local_addr().unwrap();
        tokio::spawn(application(listener));
        Self {
            clock,
            provider,
            redis: Redis::start(),
            public,
            upstream: EchoUpstream::start().await,
            streams,
            keys: vec![SealingKey::random()],
            store: "cookie",
            directory: tempfile::tempdir().unwrap(),
        }
    }

    /// One that listens where browsers go.
    pub async fn replica(&self) -> Replica {
        self.replica_at(self.public).await
    }

    /// One that a balancer sends requests to.
    pub async fn other_replica(&self) -> Replica {
        self.replica_at(free_address()).await
    }

    async fn replica_at(&self, address: SocketAddr) -> Replica {
        let relay = Relay::to(self.redis.port).await;
        let folder = self.directory.path();
        let file = |name: String, content: &str| {
            let path = folder.join(name);
            std::fs::write(&path, content).unwrap();
            path
        };
        let url = file(
            format!("{}.url", relay.port),
            &format!("redis://127.0.0.1:{}", relay.port),
        );
        let key = |key: &SealingKey| file(random_text::<8>(), key.to_text().expose());
        let keys: Vec<_> = self.keys.iter().map(key).collect();
        let secret = file("secret".into(), "s3cret");
        let Self {
            public, streams, store, ..
        } = self;
        let text = format!(
            r#"
version = 1
server.listen = ["{address}"]
server.workers = 2
server.drain_delay = "0s"
admin.listen = "127.0.0.1:0"

[session]
store = "{store}"
key_files = {keys:?}
redis = {{ url_file = {url:?} }}

[provider.corp]
issuer = "{}"
client_id = "wiki"
client_secret_file = {secret:?}
bearer.audiences = ["{AUDIENCE}"]

[route.wiki]
url = "http://{public}/"
upstream = "http://{}"
auth = ["session", "bearer"]

[route.live]
url = "http://{public}/live"
upstream = "http://{streams}"

[route.public]
url = "http://{public}/public"
upstream = "http://{}"
auth = ["public"]
"#,
            self.provider.issuer(),
            self.upstream.address,
            self.upstream.address,
        );
        let surroundings = Surroundings {
            directory: Path::new(""),
            variable: |_| None,
        };
        let settings = config::parse(&text, "fleet.toml", surroundings, self.clock.now()).unwrap();
        Replica {
            address,
            relay,
            public: self.public,
            gateway: run::open(settings, self.clock.clone()).unwrap().0,
        }
    }

    /// A browser of somebody who has logged in where browsers go.
    pub async fn logged_in(&self, user: &str) -> Browser {
        let mut browser = Browser::new();
        let form = browser.open(&format!("http://{}/", self.public)).await;
        assert_eq!(browser.log_in(&form, user, user).await.status, 200);
        browser
    }

    pub fn jwt(&self) -> String {
        self.provider.issue_jwt("alice", AUDIENCE, "openid")
    }

    /// What the provider sends when all sessions of somebody are over there.
    pub fn logout_token(&self, user: &str) -> String {
        self.provider.logout_token("wiki", &Gone::User(user.to_owned()))
    }
}

impl Replica {
    /// A GET with these headers, through the balancer.
    pub async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        let request = client().get(format!("http://{}{path}", self.address));
        self.ask(
            headers
                .iter()
                .fold(request, |request, (name, value)| request.header(*name, *value)),
        )
        .await
    }

    /// The status of a request with this session.
    pub async fn status(&self, cookie: &str) -> u16 {
        let cookie = format!("vestibule={cookie}");
        self.get("/", &[("cookie", &cookie)]).await.status().as_u16()
    }

    pub async fn sign_out(&self, cookie: &str) -> Response {
        let request = client().post(format!("http://{}/oauth2/sign_out", self.address));
        self.ask(request.header(header::COOKIE, format!("vestibule={cookie}")))
            .await
    }

    pub async fn backchannel_logout(&self, token: &str) -> u16 {
        let request = client().post(format!("http://{}/oauth2/backchannel_logout", self.address));
        self.ask(request.form(&[("logout_token", token)]))
            .await
            .status()
            .as_u16()
    }

    /// How long it takes until the session is over, which must never be more than five seconds.
    pub async fn until_over(&self, cookie: &str) -> Duration {
        let since = Instant::now();
        loop {
            match self.status(cookie).await {
                401 => return since.elapsed(),
                // A Redis that is slow for a moment makes nobody sure.
                200 | 503 => assert!(since.elapsed() < Duration::from_secs(10), "it goes on"),
                other => panic!("{other}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What `/metrics` says after this name.
    pub async fn metric(&self, name: &str) -> String {
        let admin = self.gateway.admin_address().unwrap();
        let page = client().get(format!("http://{admin}/metrics")).send().await.unwrap();
        let text = page.text().await.unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {name} in {text}")).to_owned()
    }

    async fn ask(&self, request: RequestBuilder) -> Response {
        let request = request.header(header::HOST, self.public.to_string());
        request.send().await.unwrap()
    }
}
