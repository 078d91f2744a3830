//! Two gateways, one Redis, and a provider that forgives no refresh token used twice (F-17).

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use reqwest::Client as HttpClient;
use vestibule::{
    demo::authorization_server::{AccessTokenKind, AuthorizationServer, Client, Fault, Place, User},
    secret::Secret,
    session::SealingKey,
    time::SystemClock,
};

use crate::support::{
    browser::{Browser, client},
    process::{Process, free_address},
    redis::{Redis, redis_is_installed},
    upstream::EchoUpstream,
};

/// An access token lives three seconds and is replaced when it is one second old.
const TOKEN: Duration = Duration::from_secs(3);
const GENERATIONS: usize = 50;
const PARALLEL: usize = 100;

/// Two replicas behind one address, which is that of the first.
struct Replicas {
    first: Process,
    second: Process,
    provider: AuthorizationServer,
    redis: Redis,
    _upstream: EchoUpstream,
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
        let key = SealingKey::random();
        let run = |address: SocketAddr| {
            let admin = free_address();
            let text = format!(
                r#"
version = 1
server.listen = ["{address}"]
server.workers = 2
admin.listen = "{admin}"
session = {{ store = "redis", key_files = ["session.key"], refresh_before = "2s", redis = {{ url_file = "redis.url" }} }}

[provider.corp]
issuer = "{}"
client_id = "wiki"
client_secret_file = "secret"

[route.wiki]
url = "http://{public}/"
upstream = "http://{}"
"#,
                provider.issuer(),
                upstream.address
            );
            let files = [
                ("session.key", key.to_text().expose().to_owned()),
                ("redis.url", redis.url()),
                ("secret", "s3cret".to_owned()),
            ];
            let files = files.each_ref().map(|(name, content)| (*name, content.as_str()));
            Process::start(&text, &files, address, admin)
        };
        Self {
            first: run(public),
            second: run(free_address()),
            provider,
            redis,
            _upstream: upstream,
        }
    }

    async fn logged_in(&self) -> Browser {
        let mut alice = Browser::new();
        let form = alice.open(&self.first.url("/")).await;
        assert_eq!(alice.log_in(&form, "alice", "alice").await.status, 200);
        alice
    }

    /// Statuses of so many requests at once, every second one at the second replica.
    async fn ask(&self, client: &HttpClient, cookie: &str, count: usize) -> Vec<u16> {
        let ask = |index: usize| {
            let to = if index.is_multiple_of(2) {
                &self.first
            } else {
                &self.second
            };
            tokio::spawn(ask_one(
                client.clone(),
                to.address,
                self.first.address,
                cookie.to_owned(),
            ))
        };
        let asked: Vec<_> = (0..count).map(ask).collect();
        let mut statuses = Vec::new();
        for answer in asked {
            statuses.push(answer.await.unwrap());
        }
        statuses
    }
}

async fn ask_one(client: HttpClient, to: SocketAddr, host: SocketAddr, cookie: String) -> u16 {
    let request = client
        .get(format!("http://{to}/"))
        .header("host", host.to_string())
        .header("cookie", format!("vestibule={cookie}"));
    request.send().await.map_or(0, |answer| answer.status().as_u16())
}

#[tokio::test]
async fn f_17_fifty_generations_of_tokens_are_each_refreshed_once() {
    if !redis_is_installed() {
        return;
    }
    let replicas = Replicas::start().await;
    let cookie = replicas.logged_in().await.session_cookie();
    let client = client();
    let refreshes = || replicas.provider.calls(Place::Token) - 1;
    let begun = Instant::now();
    while refreshes() < GENERATIONS {
        let before = refreshes();
        let statuses = replicas.ask(&client, &cookie, PARALLEL).await;
        // A token that was used twice would have ended the session by the next generation at the latest.
        assert!(
            statuses.iter().all(|status| *status == 200),
            "generation {before}: {statuses:?}"
        );
        assert!(begun.elapsed() < 4 * TOKEN * 50, "generation {before} never ends");
    }
    // A generation lasts one second at least: more refreshes than seconds would be more than one each.
    assert!(
        refreshes() <= begun.elapsed().as_secs() as usize + 1,
        "{} in {:?}",
        refreshes(),
        begun.elapsed()
    );
}

#[tokio::test]
async fn f_17_a_replica_that_dies_with_the_answer_costs_one_login_and_no_loop() {
    if !redis_is_installed() {
        return;
    }
    let mut replicas = Replicas::start().await;
    let mut alice = replicas.logged_in().await;
    let cookie = alice.session_cookie();
    let client = client();
    let calls = replicas.provider.calls(Place::Token);
    // The provider has replaced the token, and the second replica dies before it hears of it.
    replicas
        .provider
        .fault(Place::Token, Fault::delay(Duration::from_secs(60)));
    let host = replicas.first.address;
    let (to, asked) = (replicas.second.address, cookie.clone());
    let mut hangs = Vec::new();
    while replicas.provider.calls(Place::Token) == calls {
        hangs.push(tokio::spawn(ask_one(client.clone(), to, host, asked.clone())));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    replicas.second.signal("-KILL");
    replicas.second.child.wait().unwrap();
    replicas.provider.clear_faults();

    // Nobody can have the tokens that were lost on the way: the provider refuses the old ones, and the session ends.
    let begun = Instant::now();
    let mut status = 200;
    while status != 401 && begun.elapsed() < Duration::from_secs(40) {
        status = alice.fetch(&replicas.first.url("/")).await.status.as_u16();
        assert!(matches!(status, 200 | 503 | 401), "{status}");
    }
    assert_eq!(status, 401, "it ends");
    assert!(replicas.redis.say(&["PING"]).contains("PONG"));
    // One click, no password: the provider knows alice still.
    assert_eq!(alice.open(&replicas.first.url("/again")).await.status, 200);
    assert_eq!(alice.fetch(&replicas.first.url("/")).await.status, 200);
}

#[tokio::test]
async fn what_ends_at_one_replica_has_ended_at_the_other() {
    if !redis_is_installed() {
        return;
    }
    let replicas = Replicas::start().await;
    let cookie = replicas.logged_in().await.session_cookie();
    let client = client();
    assert_eq!(replicas.ask(&client, &cookie, 2).await, [200, 200]);
    let out = client
        .post(format!("http://{}/oauth2/sign_out", replicas.second.address))
        .header("host", replicas.first.address.to_string())
        .header("cookie", format!("vestibule={cookie}"));
    assert!(out.send().await.unwrap().status().is_success());
    let begun = Instant::now();
    while replicas.ask(&client, &cookie, 2).await != [401, 401] {
        assert!(begun.elapsed() < Duration::from_secs(5), "it goes on elsewhere");
    }
}
