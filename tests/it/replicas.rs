//! Two gateways, one Redis, and a provider that forgives no refresh token used twice (F-17).

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use reqwest::Client as HttpClient;
use tokio::task::JoinSet;
use vestibule::{
    demo::authorization_server::{AccessTokenKind, AuthorizationServer, Client, Fault, Place, User},
    secret::Secret,
    session::SealingKey,
    time::SystemClock,
};

use crate::support::{
    browser::{self, Browser, client},
    process::{Process, free_address},
    redis::{Redis, redis_is_installed},
    upstream::EchoUpstream,
};

/// An access token lives two seconds, and is replaced when it is one second old.
const TOKEN: Duration = Duration::from_secs(2);
const GENERATIONS: usize = 50;
const PARALLEL: usize = 100;
/// The generations whose tokens die with the replica that was given them.
const LOST: [usize; 5] = [5, 14, 23, 32, 41];

/// Two replicas behind one address, which is that of the first.
struct Replicas {
    first: Process,
    second: Process,
    /// What both run with, but for where they listen.
    setting: Setting,
    provider: AuthorizationServer,
    _redis: Redis,
    _upstream: EchoUpstream,
}

struct Setting {
    file: String,
    beside: [(&'static str, String); 3],
}

impl Setting {
    fn run(&self, address: SocketAddr) -> Process {
        let admin = free_address();
        let listeners = format!("server.listen = [\"{address}\"]\nadmin.listen = \"{admin}\"\n");
        let beside = self.beside.each_ref().map(|(name, content)| (*name, content.as_str()));
        Process::start(&format!("{listeners}{}", self.file), &beside, address, admin)
    }
}

impl Replicas {
    async fn start() -> Self {
        let public = free_address();
        let at = |path: &str| format!("http://{public}{path}");
        let provider = AuthorizationServer::builder(Arc::new(SystemClock))
            .access_token_lifetime(TOKEN)
            .client(Client {
                id: "wiki".into(),
                secret: Some(Secret::new("s3cret")),
                redirect_uris: vec![at("/oauth2/callback")],
                post_logout_redirect_uris: vec![at("/oauth2/sign_out")],
                audience: "https://wiki.example.com".into(),
                access_tokens: AccessTokenKind::Opaque,
                scopes: ["openid", "profile", "email"].map(str::to_owned).into(),
                backchannel_logout_uri: None,
            })
            .user(User::named("alice"))
            .listen("127.0.0.1:0".parse().unwrap())
            .await
            .unwrap();
        let (redis, upstream) = (Redis::start(), EchoUpstream::start().await);
        let file = format!(
            r#"
version = 1
server.workers = 2

[session]
store = "redis"
key_files = ["session.key"]
# A busy machine is not what is tried here.
redis = {{ url_file = "redis.url", timeout = "5s" }}

[provider.corp]
issuer = "{}"
client_id = "wiki"
client_secret_file = "secret"
userinfo = "always"

[route.wiki]
url = "http://{public}/"
upstream = "http://{}"
"#,
            provider.issuer(),
            upstream.address
        );
        let beside = [
            ("session.key", SealingKey::random().to_text().expose().to_owned()),
            ("redis.url", redis.url()),
            ("secret", "s3cret".to_owned()),
        ];
        let setting = Setting { file, beside };
        Self {
            first: setting.run(public),
            second: setting.run(free_address()),
            setting,
            provider,
            _redis: redis,
            _upstream: upstream,
        }
    }

    async fn logged_in(&self) -> Browser {
        let mut alice = Browser::new();
        let form = alice.open(&self.first.url("/")).await;
        assert_eq!(alice.log_in(&form, "alice", "alice").await.status, 200);
        alice
    }

    /// So many requests at once, every second one at the second replica.
    fn ask(&self, client: &HttpClient, cookie: &str, count: usize) -> JoinSet<u16> {
        let to = [self.first.address, self.second.address];
        let ask = |index: usize| ask_one(client.clone(), to[index % 2], to[0], cookie.to_owned());
        (0..count).map(ask).collect()
    }

    /// How often new tokens were given, for a code or for a refresh token: the gateway then asks whose they are.
    fn given(&self) -> usize {
        self.provider.calls(Place::Userinfo)
    }

    /// Asks until the tokens are replaced.
    async fn one_generation(&self, client: &HttpClient, cookie: &str, name: usize) {
        let (given, begun) = (self.given(), Instant::now());
        while self.given() == given {
            let statuses = self.ask(client, cookie, PARALLEL).join_all().await;
            // A refresh token that was used twice would have ended the session by the next generation at the latest.
            assert!(
                statuses.iter().all(|status| *status == 200),
                "generation {name}: {statuses:?}"
            );
            assert!(begun.elapsed() < 20 * TOKEN, "generation {name} never ends");
        }
    }

    /// The second replica has the provider's answer, and dies before it has written it down; then it runs again.
    ///
    /// Yields what was asked meanwhile, at both.
    async fn lose_a_generation(&mut self, client: &HttpClient, cookie: &str) -> JoinSet<u16> {
        let given = self.given();
        self.provider
            .fault(Place::Userinfo, Fault::delay(Duration::from_secs(60)));
        let (to, host) = (self.second.address, self.first.address);
        let mut asked = JoinSet::new();
        while self.given() == given {
            asked.spawn(ask_one(client.clone(), to, host, cookie.to_owned()));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        for index in 0..PARALLEL {
            let to = if index.is_multiple_of(2) { to } else { host };
            asked.spawn(ask_one(client.clone(), to, host, cookie.to_owned()));
        }
        self.second.signal("-KILL");
        self.second.child.wait().unwrap();
        self.provider.clear_faults();
        self.second = self.setting.run(to);
        asked
    }
}

/// The status, or 0 when whoever was asked is no more.
async fn ask_one(client: HttpClient, to: SocketAddr, host: SocketAddr, cookie: String) -> u16 {
    let request = client
        .get(format!("http://{to}/"))
        .header("host", host.to_string())
        .header("cookie", format!("vestibule={cookie}"));
    request.send().await.map_or(0, |answer| answer.status().as_u16())
}

/// What somebody sees whose tokens were lost: all goes on for a while, and then there is one login without a password.
async fn one_login_and_no_loop(mut alice: Browser, asked: JoinSet<u16>, url: String) {
    let begun = Instant::now();
    loop {
        let status = alice.fetch(&url).await.status.as_u16();
        if status == 401 {
            break;
        }
        assert!(matches!(status, 200 | 503), "{status}");
        assert!(
            begun.elapsed() < Duration::from_secs(40),
            "nobody notices that it is over"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let statuses = asked.join_all().await;
    assert!(
        statuses.iter().all(|status| matches!(status, 0 | 200 | 401 | 503)),
        "{statuses:?}"
    );
    assert_eq!(alice.open(&url).await.status, 200, "the provider knows alice still");
    assert_eq!(alice.fetch(&url).await.status, 200, "and so does the gateway");
}

#[tokio::test(flavor = "multi_thread")]
async fn f_17_fifty_generations_of_tokens_are_each_refreshed_once() {
    if !redis_is_installed() {
        return;
    }
    let mut replicas = Replicas::start().await;
    let mut alice = replicas.logged_in().await;
    let mut client = client();
    let mut bereft = JoinSet::new();
    for generation in 0..GENERATIONS {
        let cookie = alice.session_cookie();
        if LOST.contains(&generation) {
            let asked = replicas.lose_a_generation(&client, &cookie).await;
            bereft.spawn(one_login_and_no_loop(alice, asked, replicas.first.url("/")));
            alice = replicas.logged_in().await;
            // The connections to the dead one are of no use.
            client = browser::client();
        } else {
            replicas.one_generation(&client, &cookie, generation).await;
        }
    }
    bereft.join_all().await;
    // Tokens were asked for as often as given, but for the one time that each lost session was found out.
    let (asked, begun) = (|| replicas.provider.calls(Place::Token), Instant::now());
    while asked() != replicas.given() + LOST.len() {
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "asked for {} times, given {} times",
            asked(),
            replicas.given()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let statuses = replicas.ask(&client, &alice.session_cookie(), 2).join_all().await;
    assert_eq!(statuses, [200, 200], "the last generation stands");
}

#[tokio::test]
async fn what_ends_at_one_replica_has_ended_at_the_other() {
    if !redis_is_installed() {
        return;
    }
    let replicas = Replicas::start().await;
    let cookie = replicas.logged_in().await.session_cookie();
    let client = client();
    assert_eq!(replicas.ask(&client, &cookie, 2).join_all().await, [200, 200]);
    let out = client
        .post(format!("http://{}/oauth2/sign_out", replicas.second.address))
        .header("host", replicas.first.address.to_string())
        .header("cookie", format!("vestibule={cookie}"));
    assert!(out.send().await.unwrap().status().is_success());
    let begun = Instant::now();
    while replicas.ask(&client, &cookie, 2).join_all().await != [401, 401] {
        assert!(begun.elapsed() < Duration::from_secs(5), "it goes on elsewhere");
    }
}
