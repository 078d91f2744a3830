//! SIGTERM while everything is under way at once.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::Response;
use hyper::body::Incoming;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
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
    h2c::{self, Application, Pen, data, flow, heard, whole},
    lasting::{self, Lasting},
    load::{Books, HOST, Habit, Load},
    process::{Process, free_address},
    slow::{EVENT, HALF, Halting, Slow, farewells},
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
        let provider = AuthorizationServer::builder(Arc::new(SystemClock))
            .client(Client {
                id: "wiki".into(),
                secret: Some(Secret::new(SECRET)),
                redirect_uris: Vec::new(),
                post_logout_redirect_uris: Vec::new(),
                backchannel_logout_uri: None,
                audience: "https://wiki.example.com".into(),
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
        let (address, admin) = (free_address(), free_address());
        let at = |path: &str| format!("http://{address}{path}");
        provider.register_redirect("wiki", &at("/oauth2/callback"), &at("/oauth2/sign_out"));
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
    async fn comes_to_an_end(mut self) {
        let ended = tokio::task::spawn_blocking(move || self.gateway.child.wait().unwrap());
        let ended = timeout(Duration::from_secs(20), ended).await;
        assert!(ended.expect("it goes on").unwrap().success());
    }
}

fn started(text: &str, key: &str, address: SocketAddr, admin: SocketAddr) -> Process {
    Process::start(text, &[("secret", SECRET), ("key", key)], address, admin)
}

/// Of each kind of exchange.
const MANY: usize = 20;

/// Somebody who has one of everything under way.
struct Busybody {
    download: Slow,
    events: Slow,
    upload: Slow,
    websocket: Lasting,
    /// Has been answered, and has nothing more to ask.
    idle: Slow,
    /// Has yet to say its first word.
    new: TcpStream,
    tunnel: Socket,
    /// In streams beside one another.
    downloaded: Response<Incoming>,
    told: Response<Incoming>,
    call: Response<Incoming>,
    pen: Pen,
}

impl Busybody {
    async fn at(address: SocketAddr) -> Self {
        let mut idle = Slow::begin(address, "GET /desk", "\r\n").await;
        timeout(PATIENCE, head(&mut idle.0)).await.unwrap();
        idle.says("thanks for ").await;
        let http2 = h2c::Client::connect(address).await;
        let mut told = http2.get("/halting/events", &[]).await;
        assert_eq!(heard(&mut told).await.unwrap().unwrap(), "data: hello\n\n");
        let (pen, paper) = flow();
        let mut call = http2.send("POST", "/calls/parrot", &[("te", "trailers")], paper).await;
        pen.send(data("one")).await.unwrap();
        assert_eq!(heard(&mut call).await.unwrap().unwrap(), "one");
        Self {
            download: Slow::answered(address, "GET /halting/download", &"a".repeat(HALF)).await,
            events: Slow::answered(address, "GET /halting/events", EVENT).await,
            upload: Slow::begin(address, "POST /desk", "Content-Length: 10\r\n\r\nfirst").await,
            websocket: Lasting::websocket(address, "/live/a", "").await,
            idle,
            new: TcpStream::connect(address).await.unwrap(),
            tunnel: Socket::open(&connect(address).await, &format!("http://{address}/live/b"), &[]).await,
            downloaded: http2.get("/halting/download", &[]).await,
            told,
            call,
            pen,
        }
    }

    /// When the doors are closed and the application goes on, all of it ends as it should.
    async fn comes_to_an_end(mut self) {
        assert_eq!(self.websocket.end().await, GOING_AWAY);
        assert_eq!(self.tunnel.hear().await.unwrap().unwrap(), GOING_AWAY);
        assert!(self.tunnel.hear().await.is_none());
        self.tunnel.send.send_data(Bytes::new(), true).unwrap();
        assert_eq!(self.idle.rest().await, "");
        assert_eq!(self.new.peek(&mut [0]).await.unwrap(), 0, "it is waited for");

        self.upload.0.write_all(b"-last").await.unwrap();
        let answer = self.upload.rest().await;
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nthanks for first-last"), "{answer}");
        let second = "b".repeat(HALF);
        assert!(self.download.rest().await == second);
        assert!(whole(self.downloaded).await.0 == format!("{}{second}", "a".repeat(HALF)));
        assert_eq!(self.events.rest().await.to_lowercase(), format!("{EVENT}0\r\n\r\n"));
        assert_eq!(whole(self.told).await.0, "data: hello\n\n");

        self.pen.send(data("two")).await.unwrap();
        assert_eq!(heard(&mut self.call).await.unwrap().unwrap(), "two");
        let trailers = h2c::fields(&[("grpc-status", "0")]);
        self.pen.send(http_body::Frame::trailers(trailers)).await.unwrap();
        drop(self.pen);
        let (rest, trailers) = whole(self.call).await;
        assert_eq!((&*rest, trailers["grpc-status"].as_bytes()), ("", &b"0"[..]));
    }
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
    let begun: JoinSet<_> = (0..MANY).map(|_| Busybody::at(address)).collect();
    let mut busybodies = begun.join_all().await;
    let mut alice = Browser::new();
    let form = alice.open(&scene.url("/page")).await;
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
    assert_eq!((page.status.as_u16(), &*page.text), (200, "thanks for "));
    busybodies[0].tunnel.is_answered("still here").await;
    load.goes_on(20).await;

    scene.doors_are_closed().await;
    scene.halting.goes_on.send_replace(true);
    let ends = busybodies.into_iter().map(Busybody::comes_to_an_end);
    ends.collect::<JoinSet<()>>().join_all().await;
    let [first, .., last] = *timeout(PATIENCE, said_farewell).await.unwrap().unwrap() else {
        panic!("it takes two (RFC 9113 §6.8)");
    };
    assert_eq!((first, last), ((u32::MAX >> 1, 0), (0, 0)));
    let clients = timeout(PATIENCE, clients.join_all()).await;
    clients.expect("somebody still asks");
    load.nothing_went_wrong(&scene.books);
    assert!(load.farewells() > 0, "nobody was sent away");
    // Long before the time is up.
    scene.comes_to_an_end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_14_what_has_no_end_is_cut_when_the_time_is_up_and_looks_cut() {
    let scene = Scene::open("100ms", "2s").await;
    let address = scene.gateway.address;
    let half = "a".repeat(HALF);
    let download = Slow::answered(address, "GET /halting/download", &half).await;
    let events = Slow::answered(address, "GET /halting/events", EVENT).await;
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
    scene.comes_to_an_end().await;
}

async fn whole_or_cut(answer: Response<Incoming>) -> hyper::Result<()> {
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
    scene.comes_to_an_end().await;
}
