//! SIGTERM while everything is under way at once.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::timeout,
};
use vestibule::{
    demo::authorization_server::{AccessTokenKind, AuthorizationServer, Client, Fault, Place, User},
    secret::Secret,
    session::SealingKey,
    time::SystemClock,
};

use crate::support::{
    browser::{Browser, client},
    h2c::{self, Application, data, flow, heard, whole},
    lasting::{self, Lasting},
    load::{Books, HOST, Habit, Load},
    process::{Process, free_address},
    tunnel::{Socket, connect},
    wire::{PATIENCE, head},
};

const SECRET: &str = "s3cret";
const GOING_AWAY: &[u8] = &[0x88, 2, 0x03, 0xE9];

/// A gateway in a process of its own, before applications of every kind.
struct Scene {
    gateway: Process,
    text: String,
    key: String,
    provider: AuthorizationServer,
    /// For the load alone.
    books: Books,
    halting: Halting,
}

impl Scene {
    /// With these two times of `[server]`.
    async fn open(drain_delay: &str, drain_timeout: &str) -> Self {
        let (address, admin) = (free_address(), free_address());
        let at = |path: &str| format!("http://{address}{path}");
        let provider = AuthorizationServer::builder(Arc::new(SystemClock))
            .client(Client {
                id: "wiki".into(),
                secret: Some(Secret::new(SECRET)),
                redirect_uris: vec![at("/oauth2/callback")],
                post_logout_redirect_uris: Vec::new(),
                backchannel_logout_uri: None,
                audience: at("").into(),
                access_tokens: AccessTokenKind::Jwt,
                scopes: ["openid", "profile", "email"].map(str::to_owned).into(),
            })
            .user(User::named("alice"))
            .user(User::named("bob"))
            .listen("127.0.0.1:0".parse().unwrap())
            .await
            .unwrap();
        let (books, desk) = (Books::open().await, Books::open().await);
        let (halting, calls) = (Halting::open().await, Application::start().await);
        let live = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let live_at = live.local_addr().unwrap();
        tokio::spawn(lasting::application(live));
        let route = |name: &str, url: String, upstream: String, auth: &str| {
            format!("\n[route.{name}]\nurl = \"{url}\"\nupstream = \"{upstream}\"\nauth = [\"{auth}\"]\n")
        };
        let text = [
            format!(
                r#"
server.listen = ["{address}"]
server.workers = 2
server.h2c = true
server.drain_delay = "{drain_delay}"
server.drain_timeout = "{drain_timeout}"
admin.listen = "{admin}"
log.access = false

[session]
key_files = ["key"]

[provider.corp]
issuer = "{}"
client_id = "wiki"
client_secret_file = "secret"
"#,
                provider.issuer()
            ),
            route("wiki", at("/"), format!("http://{}", desk.address), "session"),
            route("desk", at("/desk"), format!("http://{}", desk.address), "public"),
            route(
                "halting",
                at("/halting"),
                format!("http://{}", halting.address),
                "public",
            ),
            route("calls", at("/calls"), format!("h2c://{}", calls.address), "public"),
            route("live", at("/live"), format!("http://{live_at}"), "public"),
            route(
                "books",
                format!("http://{HOST}/"),
                format!("http://{}", books.address),
                "public",
            ),
        ]
        .concat();
        let key = SealingKey::random().to_text().expose().to_owned();
        Self {
            gateway: started(&text, &key, address, admin),
            text,
            key,
            provider,
            books,
            halting,
        }
    }

    fn url(&self, path: &str) -> String {
        self.gateway.url(path)
    }

    /// Another gateway like the first.
    fn next(&self) -> Process {
        started(&self.text, &self.key, self.gateway.address, self.gateway.admin)
    }

    /// Tells the gateway to end, and waits until it says so to whoever asks.
    async fn terminate(&self) {
        self.gateway.signal("-TERM");
        let ready = format!("http://{}/readyz", self.gateway.admin);
        let told = async {
            while client().get(&ready).send().await.unwrap().status() != 503 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, told).await.expect("it stays ready");
    }

    /// Waits until nobody is let in any more.
    async fn doors_are_closed(&self) {
        let closed = async {
            while TcpStream::connect(self.gateway.address).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(Duration::from_secs(30), closed)
            .await
            .expect("the doors stay open");
    }

    /// Waits for its end, which is a good one.
    async fn is_over(mut self) {
        let ended = tokio::task::spawn_blocking(move || self.gateway.child.wait().unwrap());
        let ended = timeout(Duration::from_secs(20), ended).await;
        assert!(ended.expect("it goes on").unwrap().success());
    }
}

fn started(text: &str, key: &str, address: SocketAddr, admin: SocketAddr) -> Process {
    Process::start(text, &[("secret", SECRET), ("key", key)], address, admin)
}

/// An application that says the first half of everything, and the second when it is told to.
struct Halting {
    address: SocketAddr,
    goes_on: watch::Sender<bool>,
}

const HALF: usize = 20_000;
const EVENT: &str = "d\r\ndata: hello\n\n\r\n";

impl Halting {
    async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let halting = Self {
            address: listener.local_addr().unwrap(),
            goes_on: watch::Sender::new(false),
        };
        let told = halting.goes_on.subscribe();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(Self::answer(stream, told.clone()));
            }
        });
        halting
    }

    async fn answer(mut stream: TcpStream, mut told: watch::Receiver<bool>) {
        let asked = head(&mut stream).await;
        let (first, second) = match asked.contains("/events") {
            true => (
                format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n{EVENT}"
                ),
                format!("{EVENT}0\r\n\r\n"),
            ),
            false => (
                format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}",
                    2 * HALF,
                    "a".repeat(HALF)
                ),
                "b".repeat(HALF),
            ),
        };
        let _ = stream.write_all(first.as_bytes()).await;
        let _ = told.wait_for(|goes_on| *goes_on).await;
        let _ = stream.write_all(second.as_bytes()).await;
    }
}

/// A request over HTTP/1.1, as far as it has got.
struct Slow(TcpStream);

impl Slow {
    /// With this after the first line.
    async fn begin(address: SocketAddr, line: &str, rest: &str) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("{line} HTTP/1.1\r\nHost: {address}\r\n{rest}");
        stream.write_all(request.as_bytes()).await.unwrap();
        Self(stream)
    }

    /// One whose answer has begun, up to here.
    async fn answered(address: SocketAddr, line: &str, so_far: &str) -> Self {
        let mut slow = Self::begin(address, line, "\r\n").await;
        let head = timeout(PATIENCE, head(&mut slow.0)).await.unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        slow.says(so_far).await;
        slow
    }

    async fn says(&mut self, text: &str) {
        let mut said = vec![0; text.len()];
        timeout(PATIENCE, self.0.read_exact(&mut said)).await.unwrap().unwrap();
        assert_eq!(String::from_utf8_lossy(&said).to_lowercase(), text);
    }

    /// Everything until the connection is closed.
    async fn rest(mut self) -> String {
        let mut rest = String::new();
        let read = timeout(PATIENCE, self.0.read_to_string(&mut rest)).await;
        read.expect("it stays open").unwrap();
        rest
    }
}

/// A client of HTTP/2 that has nothing to ask, until the connection is closed: the last stream and the code of each
/// GOAWAY. None of them comes while it could come back to the same gateway.
async fn farewells(address: SocketAddr) -> Vec<(u32, u32)> {
    const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    const PING: u8 = 6;
    const GOAWAY: u8 = 7;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    stream.write_all(SETTINGS).await.unwrap();
    let mut farewells = Vec::new();
    let mut frame = [0; 9];
    while stream.read_exact(&mut frame).await.is_ok() {
        let length = u32::from_be_bytes([0, frame[0], frame[1], frame[2]]);
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload).await.unwrap();
        let number = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        match frame[3] {
            PING if frame[4] == 0 => {
                frame[4] = 1;
                stream.write_all(&frame).await.unwrap();
                stream.write_all(&payload).await.unwrap();
            }
            GOAWAY => {
                assert!(TcpStream::connect(address).await.is_err(), "it would come back here");
                farewells.push((number(0), number(4)));
            }
            _ => {}
        }
    }
    farewells
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_14_whatever_is_under_way_at_sigterm_comes_to_its_end() {
    let scene = Scene::open("5s", "60s").await;
    let address = scene.gateway.address;
    let load = Arc::<Load>::default();
    let mut clients = JoinSet::new();
    for habit in [Habit::Stays, Habit::Stays, Habit::Comes] {
        clients.spawn(load.clone().ask_over_tcp(address, habit));
    }
    for _ in 0..2 {
        clients.spawn(load.clone().ask_over_http2(address));
    }
    let (half, event) = ("a".repeat(HALF), EVENT.to_lowercase());
    let mut alice = Browser::new();
    let form = alice.open(&scene.url("/page")).await;
    let download = Slow::answered(address, "GET /halting/download", &half).await;
    let events = Slow::answered(address, "GET /halting/events", &event).await;
    let upload = "Content-Length: 10\r\n\r\nfirst";
    let mut upload = Slow::begin(address, "POST /desk", upload).await;
    let mut idle = Slow::begin(address, "GET /desk", "\r\n").await;
    timeout(PATIENCE, head(&mut idle.0)).await.unwrap();
    let new = TcpStream::connect(address).await.unwrap();
    let websocket = Lasting::websocket(address, "/live/a", "").await;
    let tunnels = connect(address).await;
    let mut tunnel = Socket::open(&tunnels, &scene.url("/live/b"), &[]).await;
    let http2 = h2c::Client::connect(address).await;
    let mut downloaded = http2.get("/halting/download", &[]).await;
    let mut told = http2.get("/halting/events", &[]).await;
    assert_eq!(heard(&mut told).await.unwrap().unwrap(), "data: hello\n\n");
    let (pen, paper) = flow();
    let mut call = http2.send("POST", "/calls/parrot", &[("te", "trailers")], paper).await;
    pen.send(data("one")).await.unwrap();
    assert_eq!(heard(&mut call).await.unwrap().unwrap(), "one");
    let said_farewell = tokio::spawn(farewells(address));
    load.goes_on(100).await;

    scene.terminate().await;
    load.may_be_refused();
    // Whoever sends clients here has not noticed yet: they are served, and sent away over HTTP/1.1.
    let late = Slow::begin(address, "GET /desk", "\r\n").await.rest().await;
    assert!(
        late.starts_with("HTTP/1.1 200 ") && late.contains("\r\nconnection: close\r\n"),
        "{late}"
    );
    let page = alice.log_in(&form, "alice", "alice").await;
    assert_eq!(
        (page.status.as_u16(), &*page.text),
        (200, "thanks for "),
        "{:?}",
        alice.history
    );
    tunnel.is_answered("still here").await;
    load.goes_on(20).await;

    scene.doors_are_closed().await;
    assert_eq!(websocket.end().await, GOING_AWAY);
    assert_eq!(tunnel.hear().await.unwrap().unwrap(), GOING_AWAY);
    assert!(tunnel.hear().await.is_none());
    tunnel.send.send_data(Bytes::new(), true).unwrap();
    assert_eq!(new.peek(&mut [0]).await.unwrap(), 0, "nobody waits for its first word");
    let rest = idle.rest().await;
    assert_eq!(rest, "thanks for ", "after its answer there is nothing");
    let [first, .., last] = *timeout(PATIENCE, said_farewell).await.unwrap().unwrap() else {
        panic!("it takes two (RFC 9113 §6.8)");
    };
    assert_eq!((first, last), ((u32::MAX >> 1, 0), (0, 0)));

    scene.halting.goes_on.send_replace(true);
    upload.0.write_all(b"-last").await.unwrap();
    let answer = upload.rest().await;
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nthanks for first-last"), "{answer}");
    assert_eq!(download.rest().await, "b".repeat(HALF));
    assert_eq!(events.rest().await.to_lowercase(), format!("{event}0\r\n\r\n"));
    let mut received = String::new();
    while let Some(piece) = heard(&mut downloaded).await {
        received.push_str(&piece.unwrap());
    }
    assert!(
        received == format!("{half}{}", "b".repeat(HALF)),
        "{} bytes",
        received.len()
    );
    assert_eq!(whole(told).await.0, "data: hello\n\n");
    pen.send(data("two")).await.unwrap();
    assert_eq!(heard(&mut call).await.unwrap().unwrap(), "two");
    let trailers = h2c::fields(&[("grpc-status", "0")]);
    pen.send(http_body::Frame::trailers(trailers)).await.unwrap();
    drop(pen);
    let (rest, trailers) = whole(call).await;
    assert_eq!(
        (&*rest, trailers.get("grpc-status").unwrap()),
        ("", &"0".parse().unwrap())
    );

    timeout(PATIENCE, clients.join_all())
        .await
        .expect("somebody still asks");
    load.nothing_went_wrong(&scene.books);
    assert!(load.farewells() > 0, "nobody was sent away");
    // Long before the time is up.
    scene.is_over().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_14_what_has_no_end_is_cut_when_the_time_is_up_and_looks_cut() {
    let scene = Scene::open("100ms", "2s").await;
    let address = scene.gateway.address;
    let half = "a".repeat(HALF);
    let event = EVENT.to_lowercase();
    let download = Slow::answered(address, "GET /halting/download", &half).await;
    let events = Slow::answered(address, "GET /halting/events", &event).await;
    let thinking = Slow::begin(address, &format!("GET /live/{}", lasting::NEVER), "\r\n").await;
    let upload = Slow::begin(address, "POST /desk", "Content-Length: 10\r\n\r\nfirst").await;
    let http2 = h2c::Client::connect(address).await;
    let mut told = http2.get("/calls/events", &[]).await;
    assert_eq!(heard(&mut told).await.unwrap().unwrap(), "hello");
    let websocket = Lasting::websocket(address, "/live/a", "").await;

    scene.terminate().await;
    assert_eq!(websocket.end().await, GOING_AWAY);
    scene.doors_are_closed().await;
    assert_eq!(download.rest().await, "", "it lacks what was announced");
    assert_eq!(events.rest().await, "", "it lacks its last chunk");
    assert_eq!(thinking.rest().await, "");
    assert_eq!(upload.rest().await, "");
    let end = timeout(PATIENCE, whole_or_cut(told)).await.unwrap();
    assert!(end.is_err(), "a stream that is cut has no end");
    scene.is_over().await;
}

async fn whole_or_cut(answer: http::Response<hyper::body::Incoming>) -> hyper::Result<()> {
    use http_body_util::BodyExt;
    answer.into_body().collect().await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_14_a_login_that_is_under_way_is_finished_here_or_by_the_next_gateway() {
    let scene = Scene::open("0s", "60s").await;
    let (mut alice, mut bob) = (Browser::new(), Browser::new());
    let form = alice.open(&scene.url("/page")).await;
    let callback = bob.open(&scene.url("/page")).await;
    let callback = bob.authorize(&callback, "bob", "bob").await;
    scene.provider.fault(Place::Token, Fault::delay(Duration::from_secs(2)));
    let finishing = tokio::spawn(async move {
        let answer = bob.peek(callback.as_str()).await;
        (bob, answer)
    });
    let asked = async {
        while scene.provider.calls(Place::Token) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, asked).await.expect("nobody redeems the code");
    scene.terminate().await;
    scene.doors_are_closed().await;
    let (mut bob, answer) = timeout(PATIENCE, finishing).await.unwrap().unwrap();
    assert_eq!(answer.status.as_u16(), 302, "{}", answer.text);

    let mut next = scene.next();
    scene.provider.clear_faults();
    assert_eq!(bob.fetch(&scene.url("/page")).await.status, 200, "he has been let in");
    assert_eq!(alice.log_in(&form, "alice", "alice").await.status, 200);
    next.stop();
    scene.is_over().await;
}
