//! The program as an operator runs it: a process, its log, its signals and its memory.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::{SocketAddr, TcpListener},
    process::{Child, ChildStdout, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use vestibule::{
    demo::authorization_server::{AccessTokenKind, AuthorizationServer, Client, User},
    secret::Secret,
    time::SystemClock,
};

use crate::support::{
    browser::{Browser, client},
    upstream::EchoUpstream,
    wire::{PATIENCE, head},
};

const AUDIENCE: &str = "https://wiki.example.com";
const SECRET: &str = "a-client-secret-to-look-for";

/// `vestibule run`, between a provider and an application.
struct Process {
    child: Child,
    address: SocketAddr,
    admin: SocketAddr,
    provider: AuthorizationServer,
    upstream: EchoUpstream,
    /// Read at the start and at the end, and by nobody in between.
    log: BufReader<ChildStdout>,
    first: Vec<String>,
    _directory: tempfile::TempDir,
}

impl Process {
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
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("vestibule.toml");
        fs::write(directory.path().join("secret"), SECRET).unwrap();
        let text = format!(
            r#"
version = 1
server.listen = ["{address}"]
server.workers = 2
server.drain_delay = "0s"
admin.listen = "{admin}"

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
        fs::write(&file, text).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_vestibule"))
            .args(["run", "--config"])
            .arg(&file)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stdout.take().unwrap());
        let mut first = Vec::new();
        while first
            .last()
            .is_none_or(|line: &String| !line.contains("for the operator"))
        {
            let mut line = String::new();
            if log.read_line(&mut line).unwrap() == 0 {
                let mut error = String::new();
                child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
                panic!("it did not start: {error}");
            }
            first.push(line);
        }
        Self {
            child,
            address,
            admin,
            provider,
            upstream,
            log,
            first,
            _directory: directory,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill")
            .args([signal, &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    /// Stops it as an operator does, and yields all that it logged.
    fn stop(&mut self) -> Vec<String> {
        self.signal("-TERM");
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).unwrap();
        assert!(self.child.wait().unwrap().success());
        let first = self.first.iter().map(|line| line.trim_end().to_owned());
        first.chain(rest.lines().map(str::to_owned)).collect()
    }

    /// What it occupies, in KiB.
    fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    async fn log_in(&self, alice: &mut Browser, path: &str) -> u16 {
        let form = alice.open(&self.url(path)).await;
        alice.log_in(&form, "alice", "alice").await.status.as_u16()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn every_request_is_a_line_and_no_line_has_a_secret() {
    let mut gateway = Process::start().await;
    let token = gateway.provider.issue_jwt("alice", AUDIENCE, "openid");
    let opaque = gateway.provider.issue_opaque("alice", AUDIENCE, "openid");
    let mut alice = Browser::new();
    assert_eq!(gateway.log_in(&mut alice, "/page?query=hidden").await, 200);
    let callback = alice
        .history
        .iter()
        .find(|url| url.path() == "/oauth2/callback")
        .unwrap()
        .clone();
    for token in [&token, &opaque, &"bad-token-to-look-for".to_owned()] {
        client().get(gateway.url("/")).bearer_auth(token).send().await.unwrap();
    }
    let denied = client().get(gateway.url("/a%2fb")).send().await.unwrap();
    let reference = denied.json::<Value>().await.unwrap()["reference"]
        .as_str()
        .unwrap()
        .to_owned();
    let cookie = alice.session_cookie();
    let lines = gateway.stop();

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
async fn f_14_what_is_under_way_at_sigterm_is_finished() {
    let mut gateway = Process::start().await;
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    let start = format!(
        "POST /public/ HTTP/1.1\r\nHost: {}\r\nContent-Length: 10\r\n\r\nfirst",
        gateway.address
    );
    stream.write_all(start.as_bytes()).await.unwrap();
    let live = format!("http://{}/readyz", gateway.admin);
    assert_eq!(client().get(&live).send().await.unwrap().status(), 200);
    gateway.signal("-TERM");
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
    assert_eq!(gateway.upstream.last()["body"], "first-last");
    assert!(gateway.child.wait().unwrap().success());
    assert!(
        TcpStream::connect(gateway.address).await.is_err(),
        "nobody listens any more"
    );
}

#[tokio::test]
async fn f_23_provider_and_upstream_restart_and_a_flood_leaves_nothing_behind() {
    let mut gateway = Process::start().await;
    let mut alice = Browser::new();
    assert_eq!(gateway.log_in(&mut alice, "/").await, 200);
    flood(&gateway, 1_000, "warm").await;
    let before = gateway.resident();
    flood(&gateway, 8_000, "bad").await;
    let after = gateway.resident();
    // What is remembered of bad tokens is bounded, and gone after ten seconds.
    assert!(after < before + 32 * 1024, "{before} KiB became {after} KiB");

    gateway.provider.start_again().await.unwrap();
    gateway.upstream.stop().await;
    assert_eq!(
        client().get(gateway.url("/public/")).send().await.unwrap().status(),
        502
    );
    gateway.upstream = EchoUpstream::start_at(gateway.upstream.address).await;
    assert_eq!(
        client().get(gateway.url("/public/")).send().await.unwrap().status(),
        200
    );
    assert_eq!(alice.fetch(&gateway.url("/")).await.status, 200);
    assert_eq!(gateway.log_in(&mut Browser::new(), "/again").await, 200);
    assert!(gateway.child.try_wait().unwrap().is_none(), "it lives");
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
    let mut gateway = Process::start().await;
    // A pipe holds some hundred lines; whoever writes more of them waits for a reader that does not come.
    let client = client();
    for _ in 0..2_000 {
        let answer = timeout(PATIENCE, client.get(gateway.url("/public/")).send())
            .await
            .expect("it stopped");
        assert_eq!(answer.unwrap().status(), 200);
    }
    gateway.signal("-TERM");
    let ended = async {
        while gateway.child.try_wait().unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, ended).await.expect("it waits for a reader");
}
