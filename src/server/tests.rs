use std::net::Ipv4Addr;

use bytes::Bytes;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
    time::{Instant, sleep, timeout},
};

use super::*;

mod http2;
mod tls;
mod workers;

/// Answers by path.
#[derive(Default)]
struct Stub {
    /// Lets `/slow` finish.
    gate: Notify,
    /// Is told that `/slow` was asked.
    asked: Notify,
}

impl Handle for Stub {
    async fn administer(&self, request: Request<Incoming>, _: IpAddr) -> Response<Body> {
        Response::new(format!("administered {}", request.uri().path()).into())
    }

    fn trusts(&self, peer: IpAddr) -> bool {
        peer.is_loopback()
    }

    fn redirect(&self, request: &Request<Incoming>, _: &Peer) -> Response<Body> {
        Response::new(format!("redirected {}", request.uri().path()).into())
    }

    async fn handle(&self, mut request: Request<Incoming>, peer: Peer) -> Response<Body> {
        match request.uri().path() {
            "/panic" => panic!("a bug"),
            "/slow" => {
                self.asked.notify_one();
                self.gate.notified().await;
                Response::new(Bytes::from_static(b"late").into())
            }
            "/upgrade" => {
                let key = request.headers().get("sec-websocket-key");
                let accept = websocket::accepting(key.map_or("", |key| key.to_str().unwrap()));
                let upgrade = hyper::upgrade::on(&mut request);
                tokio::spawn(async move {
                    let mut socket = TokioIo::new(upgrade.await.unwrap());
                    let mut byte = [0];
                    while socket.read_exact(&mut byte).await.is_ok() && socket.write_all(&byte).await.is_ok() {}
                });
                let switching = Response::builder()
                    .status(101)
                    .header("upgrade", "echo")
                    .header("sec-websocket-accept", accept);
                switching.header("connection", "upgrade").body(Body::empty()).unwrap()
            }
            "/long" => Response::new(Bytes::from(vec![b'x'; 64 << 20]).into()),
            path => Response::new(Bytes::from(format!("{} {path}", peer.address)).into()),
        }
    }
}

struct House {
    stub: Arc<Stub>,
    metrics: Arc<Metrics>,
    running: Running,
}

fn loopback() -> Listen {
    Listen::Tcp((Ipv4Addr::LOCALHOST, 0).into())
}

fn settings() -> Settings {
    Settings {
        listen: vec![loopback()],
        redirect: Vec::new(),
        tls: None,
        admin: Some(loopback()),
        unix_mode: 0o600,
        proxy_protocol: false,
        reuse_port: false,
        workers: 2,
        spoken: Spoken::Either,
        limits: Limits {
            header_bytes: 4_096,
            header_count: 20,
            target_bytes: 1_024,
            keep_alive: Duration::from_millis(1_500),
            header_timeout: Duration::from_millis(300),
            stall: Duration::from_millis(600),
            ..Limits::default()
        },
        drain_delay: Duration::ZERO,
        drain_timeout: Duration::from_secs(10),
    }
}

fn open(settings: Settings) -> House {
    let (stub, metrics) = (Arc::<Stub>::default(), Arc::<Metrics>::default());
    let server = Server::bind(settings, None, stub.clone(), metrics.clone()).unwrap();
    House {
        stub,
        metrics,
        running: server.start().unwrap(),
    }
}

impl House {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.running.addresses()[0]).await.unwrap()
    }

    async fn connect_admin(&self) -> TcpStream {
        TcpStream::connect(self.running.admin_address().unwrap()).await.unwrap()
    }
}

/// Sends, waits for an answer, and reads until the connection closes or nothing more comes for a while.
async fn exchange(stream: &mut TcpStream, bytes: impl AsRef<[u8]>) -> String {
    let _ = stream.write_all(bytes.as_ref()).await;
    let mut answer = read(stream, Duration::from_secs(10)).await;
    loop {
        match read(stream, Duration::from_millis(200)).await {
            more if more.is_empty() => return String::from_utf8(answer).unwrap(),
            more => answer.extend(more),
        }
    }
}

/// What comes within a time; nothing when the connection closes.
async fn read(stream: &mut TcpStream, patience: Duration) -> Vec<u8> {
    let mut buffer = vec![0; 4_096];
    let length = timeout(patience, stream.read(&mut buffer)).await;
    buffer.truncate(length.map_or(0, |length| length.unwrap_or(0)));
    buffer
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")
}

/// How long until the other end closes.
async fn closes_after(stream: &mut TcpStream) -> Duration {
    let start = Instant::now();
    let end = timeout(Duration::from_secs(10), stream.read(&mut [0; 1])).await;
    assert!(matches!(end, Ok(Ok(0) | Err(_))), "{end:?}");
    start.elapsed()
}

#[tokio::test]
async fn requests_are_answered_one_after_another_and_at_once() {
    let house = open(settings());
    let mut stream = house.connect().await;
    let answer = exchange(&mut stream, get("/a")).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("127.0.0.1 /a"),
        "{answer}"
    );
    let answer = exchange(&mut stream, [get("/b"), get("/c")].concat()).await;
    assert!(
        answer.contains("127.0.0.1 /bHTTP/1.1 200 ") && answer.ends_with("/c"),
        "{answer}"
    );
    assert!(house.metrics.encode().contains("vestibule_connections 1\n"));
}

#[tokio::test]
async fn what_is_too_long_has_a_status_of_its_own() {
    let house = open(settings());
    let header = |length| format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "x".repeat(length));
    let many = format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: y\r\n".repeat(20));
    for (request, status) in [
        (get(&format!("/{}", "x".repeat(1_023))), 200),
        (get(&format!("/{}", "x".repeat(1_024))), 414),
        (get(&format!("/?{}", "x".repeat(2_000))), 414),
        (get(&format!("http://{}/", "x".repeat(1_024))), 414),
        (header(3_900), 200),
        (header(4_096), 431),
        (header(1_000_000), 431),
        (many, 431),
        ("GET / HTTP/1.1\r\nhost a\r\n\r\n".into(), 400),
    ] {
        let answer = exchange(&mut house.connect().await, &request).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{} bytes: {answer}",
            request.len()
        );
    }
}

#[tokio::test]
async fn a_head_that_comes_slowly_is_cut_off() {
    let mut settings = settings();
    settings.limits.keep_alive = Duration::from_secs(30);
    let house = open(settings);
    let mut stream = house.connect().await;
    sleep(Duration::from_millis(600)).await;
    stream.write_all(b"GET /").await.unwrap();
    let (mut reader, mut writer) = stream.split();
    let mut answer = [0; 1];
    let trickle = async {
        while writer.write_all(b"x").await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let start = Instant::now();
    let end = tokio::select! {
        end = reader.read(&mut answer) => end,
        () = trickle => panic!("reset"),
    };
    assert_eq!(end.unwrap(), 0);
    let waited = start.elapsed();
    assert!(
        waited > Duration::from_millis(250) && waited < Duration::from_millis(1_200),
        "{waited:?}"
    );
}

#[tokio::test]
async fn silence_is_cut_off_later_than_a_slow_head() {
    let house = open(settings());
    let mut fresh = house.connect().await;
    let waited = closes_after(&mut fresh).await;
    assert!(
        waited > Duration::from_millis(1_200) && waited < Duration::from_secs(3),
        "{waited:?}"
    );
    let mut used = house.connect().await;
    assert!(exchange(&mut used, get("/")).await.contains(" 200 "));
    sleep(Duration::from_millis(700)).await;
    assert!(exchange(&mut used, get("/")).await.contains(" 200 "));
    let waited = closes_after(&mut used).await;
    assert!(
        waited > Duration::from_millis(900) && waited < Duration::from_secs(3),
        "{waited:?}"
    );
}

#[tokio::test]
async fn an_answer_that_takes_longer_than_any_head_may_is_waited_for() {
    let house = open(settings());
    let mut stream = house.connect().await;
    stream.write_all(get("/slow").as_bytes()).await.unwrap();
    sleep(Duration::from_millis(1_800)).await;
    house.stub.gate.notify_one();
    assert!(exchange(&mut stream, "").await.ends_with("late"));
}

#[tokio::test]
async fn f_08_an_answer_that_nobody_takes_is_given_up() {
    let house = open(settings());
    let mut stream = house.connect().await;
    stream.write_all(get("/long").as_bytes()).await.unwrap();
    let open = || house.metrics.encode().contains("vestibule_connections 1\n");
    // As long as it takes a little now and then, it may go on.
    for _ in 0..4 {
        sleep(Duration::from_millis(300)).await;
        stream.read_exact(&mut vec![0; 4 << 20]).await.unwrap();
    }
    assert!(open());
    let given_up = async {
        while open() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(10), given_up)
        .await
        .expect("it waits for ever");
}

#[tokio::test]
async fn a_bug_ends_one_request_only() {
    let house = open(settings());
    let mut stream = house.connect().await;
    let answer = exchange(&mut stream, get("/panic")).await;
    assert!(
        answer.starts_with("HTTP/1.1 500 ") && !answer.contains("a bug"),
        "{answer}"
    );
    assert!(exchange(&mut stream, get("/")).await.contains(" 200 "));
    assert!(house.metrics.encode().contains("vestibule_panics_total 1\n"));
}

#[tokio::test]
async fn one_more_than_allowed_waits_for_a_place() {
    let mut settings = settings();
    settings.limits.connections = 2;
    let house = open(settings);
    let (mut first, mut second) = (house.connect().await, house.connect().await);
    for stream in [&mut first, &mut second] {
        assert!(exchange(stream, get("/")).await.contains(" 200 "));
    }
    let mut third = house.connect().await;
    third.write_all(get("/").as_bytes()).await.unwrap();
    assert!(read(&mut third, Duration::from_millis(200)).await.is_empty());
    drop(first);
    assert!(exchange(&mut third, "").await.contains(" 200 "));
}

#[tokio::test]
async fn the_admin_listener_tells_how_it_is() {
    let house = open(settings());
    for (request, head, body) in [
        (get("/livez"), "200 OK", "ok\n"),
        (get("/readyz"), "200 OK", "ok\n"),
        (get("/readyz?verbose"), "200 OK", "ok\n"),
        (get("/metrics"), "200 OK", "# EOF\n"),
        (
            get("/metrics"),
            "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n",
            "",
        ),
        (get("/"), "404 Not Found", "try /livez, /readyz or /metrics\n"),
        (get("/livez").replace("GET", "POST"), "405 Method Not Allowed", "only\n"),
        (get("/livez").replace("GET", "HEAD"), "200 OK", "\r\n\r\n"),
    ] {
        let answer = exchange(&mut house.connect_admin().await, &request).await;
        assert!(answer.contains(head) && answer.ends_with(body), "{request}: {answer}");
    }
}

#[tokio::test]
async fn a_drain_says_so_takes_clients_for_a_while_and_lets_them_finish() {
    let house = open(Settings {
        drain_delay: Duration::from_millis(800),
        ..settings()
    });
    let (mut idle, mut busy) = (house.connect().await, house.connect().await);
    assert!(exchange(&mut idle, get("/")).await.contains(" 200 "));
    busy.write_all(get("/slow").as_bytes()).await.unwrap();
    house.stub.asked.notified().await;
    house.running.drain();
    let ready = exchange(&mut house.connect_admin().await, get("/readyz")).await;
    assert!(
        ready.starts_with("HTTP/1.1 503 ") && ready.ends_with("shutting down\n"),
        "{ready}"
    );
    assert!(
        exchange(&mut house.connect().await, get("/late"))
            .await
            .contains(" 200 ")
    );
    closes_after(&mut idle).await;
    let address = house.running.addresses()[0];
    while TcpStream::connect(address).await.is_ok() {
        sleep(Duration::from_millis(10)).await;
    }
    assert!(
        exchange(&mut house.connect_admin().await, get("/livez"))
            .await
            .contains(" 200 ")
    );
    house.stub.gate.notify_one();
    let answer = exchange(&mut busy, "").await;
    assert!(
        answer.contains("connection: close\r\n") && answer.ends_with("late"),
        "{answer}"
    );
    timeout(Duration::from_secs(5), house.running.stop()).await.unwrap();
}

#[tokio::test]
async fn an_upgraded_connection_counts_until_it_closes() {
    let house = open(settings());
    let mut stream = house.connect().await;
    let request = get("/upgrade").replace("\r\n\r\n", "\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n");
    assert!(exchange(&mut stream, request).await.starts_with("HTTP/1.1 101 "));
    house.running.drain();
    assert_eq!(exchange(&mut stream, "hello").await, "hello");
    assert!(house.metrics.encode().contains("vestibule_connections 1\n"));
    drop(stream);
    timeout(Duration::from_secs(5), house.running.stop()).await.unwrap();
    assert!(house.metrics.encode().contains("vestibule_connections 0\n"));
}

#[tokio::test]
async fn who_takes_too_long_is_cut_off_in_the_end() {
    let house = open(Settings {
        drain_timeout: Duration::from_millis(300),
        ..settings()
    });
    let mut busy = house.connect().await;
    busy.write_all(get("/slow").as_bytes()).await.unwrap();
    house.stub.asked.notified().await;
    timeout(Duration::from_secs(5), house.running.stop()).await.unwrap();
    closes_after(&mut busy).await;
}

#[tokio::test]
async fn dropping_it_ends_it_at_once() {
    let house = open(settings());
    let mut busy = house.connect().await;
    busy.write_all(get("/slow").as_bytes()).await.unwrap();
    house.stub.asked.notified().await;
    drop(house.running);
    assert!(closes_after(&mut busy).await < Duration::from_secs(2));
}

#[test]
fn an_address_is_taken_once() {
    let house = open(settings());
    let taken = house.running.addresses()[0];
    let listen = vec![taken.into()];
    let second = Server::bind(
        Settings { listen, ..settings() },
        None,
        house.stub.clone(),
        house.metrics.clone(),
    );
    let error = second.err().unwrap();
    assert_eq!(
        (error.address, error.error.kind()),
        (Listen::Tcp(taken), io::ErrorKind::AddrInUse)
    );
}

#[tokio::test]
async fn either_family_has_its_listener() {
    let listen = vec![loopback(), Listen::Tcp("[::1]:0".parse().unwrap())];
    let house = open(Settings { listen, ..settings() });
    for address in house.running.addresses() {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let answer = exchange(&mut stream, get("/")).await;
        assert!(answer.ends_with(&format!("{} /", address.ip())), "{answer}");
    }
}
