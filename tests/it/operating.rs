//! The program as an operator runs it: a process, its log, its signals and its memory.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use vestibule::{
    demo::authorization_server::{AccessTokenKind, AuthorizationServer, Client, Fault, Place, User},
    secret::Secret,
    time::SystemClock,
};

use crate::support::{
    browser::{Browser, client},
    process::{Process, free_address},
    upstream::EchoUpstream,
    wire::{PATIENCE, head},
};

/// The token of whoever runs it.
const OPERATOR: &str = "the-token-of-the-operator";
const AUDIENCE: &str = "https://wiki.example.com";
const SECRET: &str = "a-client-secret-to-look-for";

/// `vestibule run`, between a provider and an application.
struct Scene {
    gateway: Process,
    provider: AuthorizationServer,
    upstream: EchoUpstream,
}

impl Scene {
    async fn start() -> Self {
        let (address, admin) = (free_address(), free_address());
        let at = |path: &str| format!("http://{address}{path}");
        let provider = AuthorizationServer::builder(Arc::new(SystemClock))
            .client(Client {
                id: "wiki".into(),
                secret: Some(Secret::new(SECRET)),
                redirect_uris: vec![at("/oauth2/callback")],
                post_logout_redirect_uris: vec![at("/oauth2/sign_out")],
                backchannel_logout_uri: None,
                audience: AUDIENCE.into(),
                access_tokens: AccessTokenKind::Jwt,
                scopes: ["openid", "profile", "email", "groups"].map(str::to_owned).into(),
            })
            .user(User::named("alice"))
            .listen("127.0.0.1:0".parse().unwrap())
            .await
            .unwrap();
        let upstream = EchoUpstream::start().await;
        let text = format!(
            r#"
version = 1
server.listen = ["{address}"]
server.workers = 2
server.drain_delay = "0s"
server.limits.failed_credentials_per_minute = 0 # a flood comes from everywhere
admin.listen = "{admin}"
admin.token_file = "operator"

[provider.corp]
issuer = "{}"
client_id = "wiki"
client_secret_file = "secret"
bearer.audiences = ["{AUDIENCE}"]

[route.wiki]
url = "http://{address}/"
upstream = "http://{}"
auth = ["session", "bearer"]

[route.public]
url = "http://{address}/public"
upstream = "http://{}"
auth = ["public"]
"#,
            provider.issuer(),
            upstream.address,
            upstream.address
        );
        Self {
            gateway: Process::start(&text, &[("secret", SECRET), ("operator", OPERATOR)], address, admin),
            provider,
            upstream,
        }
    }

    fn url(&self, path: &str) -> String {
        self.gateway.url(path)
    }

    async fn log_in(&self, alice: &mut Browser, path: &str) -> u16 {
        let form = alice.open(&self.url(path)).await;
        alice.log_in(&form, "alice", "alice").await.status.as_u16()
    }
}

#[tokio::test]
async fn every_request_is_a_line_and_no_line_has_a_secret() {
    let mut scene = Scene::start().await;
    let token = scene.provider.issue_jwt("alice", AUDIENCE, "openid");
    let opaque = scene.provider.issue_opaque("alice", AUDIENCE, "openid");
    let mut alice = Browser::new();
    assert_eq!(scene.log_in(&mut alice, "/page?query=hidden").await, 200);
    let callback = alice
        .history
        .iter()
        .find(|url| url.path() == "/oauth2/callback")
        .unwrap()
        .clone();
    for token in [&token, &opaque, &"bad-token-to-look-for".to_owned()] {
        client().get(scene.url("/")).bearer_auth(token).send().await.unwrap();
    }
    let denied = client().get(scene.url("/a%2fb")).send().await.unwrap();
    let reference = denied.json::<Value>().await.unwrap()["reference"]
        .as_str()
        .unwrap()
        .to_owned();
    let cookie = alice.session_cookie();
    let lines = scene.gateway.stop();

    let parsed: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).expect(line))
        .collect();
    let access: Vec<&Value> = parsed
        .iter()
        .filter(|line| line["target"] == "vestibule::access")
        .collect();
    let page = access
        .iter()
        .find(|line| line["path"] == "/page" && line["status"] == 200)
        .expect("no line of the page");
    assert_eq!(
        (&page["method"], &page["route"], &page["decision"]),
        (&"GET".into(), &"wiki".into(), &"allow".into())
    );
    assert_eq!(page["authentication"], "session");
    assert_eq!(page["subject"].as_str().unwrap().len(), 16, "a pseudonym");
    assert!(
        access
            .iter()
            .any(|line| line["id"] == reference.as_str() && line["status"] == 400),
        "{reference}"
    );
    assert!(
        access
            .iter()
            .any(|line| line["status"] == 401 && line["authentication"] == "rejected" && !line["reason"].is_null())
    );

    let all = lines.join("\n");
    let (_, code) = callback.query_pairs().find(|(name, _)| name == "code").unwrap();
    let secrets = [
        SECRET,
        &token,
        &opaque,
        "bad-token-to-look-for",
        &cookie,
        &code,
        "query=hidden",
        "alice",
    ];
    for secret in secrets {
        assert!(!all.contains(secret), "the log has {secret:.20}…");
    }
}

#[tokio::test]
async fn whoever_hangs_up_before_the_answer_leaves_a_line() {
    let mut scene = Scene::start().await;
    scene
        .provider
        .fault(Place::Introspection, Fault::delay(Duration::from_secs(5)));
    let token = scene.provider.issue_opaque("alice", AUDIENCE, "openid");
    let mut hasty = TcpStream::connect(scene.gateway.address).await.unwrap();
    let address = scene.gateway.address;
    let request = format!("GET /hasty HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\r\n");
    hasty.write_all(request.as_bytes()).await.unwrap();
    while scene.provider.calls(Place::Introspection) == 0 {
        tokio::task::yield_now().await;
    }
    drop(hasty);
    let line: Value = serde_json::from_str(&scene.gateway.line_with("/hasty")).unwrap();
    assert_eq!((&line["route"], &line["status"]), (&"wiki".into(), &499.into()));
}

#[tokio::test]
async fn whoever_ends_sessions_leaves_a_line_that_names_nobody() {
    let mut scene = Scene::start().await;
    assert_eq!(scene.log_in(&mut Browser::new(), "/").await, 200);
    let url = format!("http://{}/sessions?provider=corp&subject=alice", scene.gateway.admin);
    let guess = client().delete(&url).bearer_auth("guess").send().await.unwrap();
    assert_eq!(guess.status(), 401);
    let line = scene.gateway.line_with("no administrator");
    assert!(line.contains("127.0.0.1") && !line.contains("guess"), "{line}");
    let revoked = client().delete(&url).bearer_auth(OPERATOR).send().await.unwrap();
    assert_eq!(revoked.status(), 200);
    let line = scene.gateway.line_with("an administrator ended sessions");
    for words in ["127.0.0.1", "provider=corp subject="] {
        assert!(line.contains(words), "{line}\nlacks {words}");
    }
    assert!(!line.contains("\"ended\""), "those in cookies are not counted: {line}");
    assert!(!line.contains("alice") && !line.contains(OPERATOR), "{line}");
}

#[tokio::test]
async fn f_14_what_is_under_way_at_sigterm_is_finished() {
    let mut scene = Scene::start().await;
    let mut stream = TcpStream::connect(scene.gateway.address).await.unwrap();
    let start = format!(
        "POST /public/ HTTP/1.1\r\nHost: {}\r\nContent-Length: 10\r\n\r\nfirst",
        scene.gateway.address
    );
    stream.write_all(start.as_bytes()).await.unwrap();
    let live = format!("http://{}/readyz", scene.gateway.admin);
    assert_eq!(client().get(&live).send().await.unwrap().status(), 200);
    scene.gateway.signal("-TERM");
    // Whoever asks learns that nobody should be sent here any more.
    let refused = async {
        while client()
            .get(&live)
            .send()
            .await
            .is_ok_and(|response| response.status() == 200)
        {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, refused).await.expect("it stays ready");
    stream.write_all(b"-last").await.unwrap();
    let answer = timeout(PATIENCE, head(&mut stream)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(scene.upstream.last()["body"], "first-last");
    assert!(scene.gateway.child.wait().unwrap().success());
    assert!(
        TcpStream::connect(scene.gateway.address).await.is_err(),
        "nobody listens any more"
    );
}

#[tokio::test]
async fn f_23_provider_and_upstream_restart_and_a_flood_leaves_nothing_behind() {
    let mut scene = Scene::start().await;
    let mut alice = Browser::new();
    assert_eq!(scene.log_in(&mut alice, "/").await, 200);
    flood(&scene.gateway, 1_000, "warm").await;
    let before = scene.gateway.resident();
    flood(&scene.gateway, 8_000, "bad").await;
    let after = scene.gateway.resident();
    // What is remembered of bad tokens is bounded, and gone after ten seconds.
    assert!(after < before + 32 * 1024, "{before} KiB became {after} KiB");

    scene.provider.start_again().await.unwrap();
    scene.upstream.stop().await;
    assert_eq!(client().get(scene.url("/public/")).send().await.unwrap().status(), 502);
    scene.upstream = EchoUpstream::start_at(scene.upstream.address).await;
    assert_eq!(client().get(scene.url("/public/")).send().await.unwrap().status(), 200);
    assert_eq!(alice.fetch(&scene.url("/")).await.status, 200);
    assert_eq!(scene.log_in(&mut Browser::new(), "/again").await, 200);
    assert!(scene.gateway.child.try_wait().unwrap().is_none(), "it lives");
}

/// So many requests with different bad tokens, on eight connections.
async fn flood(gateway: &Process, count: usize, name: &str) {
    let address = gateway.address;
    let connections: Vec<_> = (0..8)
        .map(|connection| {
            let name = format!("{name}-{connection}");
            tokio::spawn(async move {
                let mut stream = TcpStream::connect(address).await.unwrap();
                let mut answer = vec![0; 16 * 1024];
                for index in 0..count / 8 {
                    let head =
                        format!("GET / HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {name}-{index}\r\n\r\n");
                    stream.write_all(head.as_bytes()).await.unwrap();
                    let mut length = 0;
                    while !ends(&answer[..length]) {
                        let more = timeout(PATIENCE, stream.read(&mut answer[length..]))
                            .await
                            .unwrap()
                            .unwrap();
                        assert!(more > 0, "it hung up");
                        length += more;
                    }
                    let status = &answer[9..12];
                    assert!(
                        status == b"401" || status == b"503",
                        "{}",
                        String::from_utf8_lossy(&answer[..length])
                    );
                }
            })
        })
        .collect();
    for connection in connections {
        connection.await.unwrap();
    }
}

/// A problem document ends with a brace.
fn ends(answer: &[u8]) -> bool {
    answer.ends_with(b"}")
}

#[tokio::test]
async fn f_15_a_log_that_nobody_reads_stops_nothing() {
    let mut scene = Scene::start().await;
    // A pipe holds some hundred lines; whoever writes more of them waits for a reader that does not come.
    let client = client();
    for _ in 0..2_000 {
        let answer = timeout(PATIENCE, client.get(scene.url("/public/")).send())
            .await
            .expect("it stopped");
        assert_eq!(answer.unwrap().status(), 200);
    }
    scene.gateway.signal("-TERM");
    let ended = async {
        while scene.gateway.child.try_wait().unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, ended).await.expect("it waits for a reader");
}

#[tokio::test]
async fn f_12_sighup_loads_the_file_again_and_a_bad_one_is_told_line_by_line() {
    let mut scene = Scene::start().await;
    let mut alice = Browser::new();
    assert_eq!(scene.log_in(&mut alice, "/").await, 200);
    let file = scene.gateway.read("vestibule.toml");
    let bad = file.replace("auth = [\"public\"]", "auht = [\"public\"]");
    let place = bad.lines().position(|line| line.starts_with("auht")).unwrap() + 1;
    scene.gateway.write("vestibule.toml", &bad);
    scene.gateway.signal("-HUP");
    let line: Value = serde_json::from_str(&scene.gateway.line_with("auht")).unwrap();
    assert_eq!(
        (&line["level"], &line["line"], &line["column"]),
        (&"error".into(), &place.into(), &1.into())
    );
    scene.gateway.line_with("the configuration was not reloaded");

    // What the file refers to is a part of it.
    std::fs::rename(scene.gateway.path("secret"), scene.gateway.path("hidden")).unwrap();
    scene.gateway.write("vestibule.toml", &file);
    scene.gateway.signal("-HUP");
    scene.gateway.line_with("cannot read secret");
    scene.gateway.line_with("the configuration was not reloaded");
    assert_eq!(client().get(scene.url("/public/")).send().await.unwrap().status(), 200);
    let metrics = client().get(format!("http://{}/metrics", scene.gateway.admin)).send();
    let metrics = metrics.await.unwrap().text().await.unwrap();
    assert!(
        metrics.contains("vestibule_config_reloads_total{outcome=\"refused\"} 2\n"),
        "{metrics}"
    );

    std::fs::rename(scene.gateway.path("hidden"), scene.gateway.path("secret")).unwrap();
    scene
        .gateway
        .write("vestibule.toml", &file.replace("/public\"", "/open\""));
    scene.gateway.signal("-HUP");
    scene.gateway.line_with("the configuration was reloaded");
    assert_eq!(client().get(scene.url("/open/")).send().await.unwrap().status(), 200);
    assert_eq!(client().get(scene.url("/public/")).send().await.unwrap().status(), 401);
    assert_eq!(alice.fetch(&scene.url("/")).await.status, 200);
}

#[tokio::test]
async fn a_file_that_changes_is_loaded_when_it_has_been_written() {
    let mut scene = Scene::start().await;
    let file = scene.gateway.read("vestibule.toml");
    // As orchestrators do it: the file is a link to a link, and the one in between is flipped.
    let at = |name: &str| scene.gateway.path(name);
    for (name, path) in [("one", "/public\""), ("two", "/open\"")] {
        std::fs::create_dir(at(name)).unwrap();
        std::fs::write(at(name).join("vestibule.toml"), file.replace("/public\"", path)).unwrap();
    }
    std::os::unix::fs::symlink("one", at("data")).unwrap();
    std::os::unix::fs::symlink("data/vestibule.toml", at("link")).unwrap();
    std::fs::rename(at("link"), at("vestibule.toml")).unwrap();
    std::os::unix::fs::symlink("two", at("flipped")).unwrap();
    std::fs::rename(at("flipped"), at("data")).unwrap();
    scene.gateway.line_with("the configuration was reloaded");
    assert_eq!(client().get(scene.url("/open/")).send().await.unwrap().status(), 200);

    // A secret counts as well, and a bad one is told of once.
    scene.gateway.write("secret", "");
    scene.gateway.line_with("secret holds no secret");
    scene.gateway.line_with("the configuration was not reloaded");
    scene.gateway.write("secret", "another");
    scene.gateway.line_with("the configuration was reloaded");

    let off = file.replace("server.workers", "server.watch = false\nserver.workers");
    std::fs::remove_file(scene.gateway.path("vestibule.toml")).unwrap();
    scene.gateway.write("vestibule.toml", &off);
    scene.gateway.line_with("the configuration was reloaded");
    scene.gateway.write("vestibule.toml", &format!("{off}\n[admim]\n"));
    tokio::time::sleep(Duration::from_secs(7)).await;
    let rest = scene.gateway.stop().join("\n");
    assert!(!rest.contains("admim"), "nobody asked for it");
}

#[tokio::test]
async fn a_route_in_the_shadow_lets_everybody_pass_and_counts_who_would_not() {
    let house = crate::support::house::House::open_with(|address| {
        format!(
            "\n[route.new]\nurl = \"http://{address}/new\"\nupstream = \"http://127.0.0.1:9\"\nmode = \"shadow\"\n\
             auth = [\"bearer\"]\nallow.groups = [\"admins\"]\n"
        )
    })
    .await;
    let ask = async |token: Option<String>| {
        let request = client().get(house.url("/new"));
        let request = match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        request.send().await.unwrap().status()
    };
    // Behind the door is nobody, which is a 502.
    assert_eq!(ask(None).await, 502);
    assert_eq!(ask(Some(house.jwt("alice"))).await, 502);
    assert_eq!(ask(Some(house.jwt("admin"))).await, 502);
    let (_, metrics) = house.admin("/metrics").await;
    for line in [
        "vestibule_shadow_routes 1\n",
        "vestibule_shadow_refusals_total{route=\"new\",would=\"challenge\"} 1\n",
        "vestibule_shadow_refusals_total{route=\"new\",would=\"deny\"} 1\n",
    ] {
        assert!(metrics.contains(line), "{metrics}\nlacks {line}");
    }
}
