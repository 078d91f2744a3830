//! A connection that was kept and closes under a request: what is sent once more, and what never (F-07).

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use h2::Reason;
use reqwest::{Client, Method};
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::support::{
    browser::{builder, client},
    h2c::{Application, fields},
    house::House,
    lasting::HANDSHAKE,
    wire::{PATIENCE, head},
};

/// What a server does when it is asked for `/app/ill`.
#[derive(Clone, Copy, Debug)]
enum Ill {
    /// Its connection is reset.
    Reset,
    /// Its connection closes, and nothing was said.
    Close,
    /// It says so much before.
    Says(&'static str),
}

/// On which connections it is ill.
#[derive(Clone, Copy, Debug, PartialEq)]
enum On {
    /// Those that served before.
    Kept,
    All,
}

/// A server that is well until it is asked for `/app/ill`.
struct Server {
    address: SocketAddr,
    count: Arc<Count>,
}

#[derive(Default)]
struct Count {
    connections: AtomicUsize,
    /// How often it was asked for that; on a connection that had served before.
    asked: AtomicUsize,
    asked_on_kept: AtomicUsize,
}

impl Count {
    fn asked(&self, was_kept: bool) {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.asked_on_kept.fetch_add(usize::from(was_kept), Ordering::SeqCst);
    }
}

impl Server {
    async fn start(ill: Ill, on: On) -> Self {
        Self::serving(move |stream, count| serve(stream, ill, on, count)).await
    }

    async fn serving<S>(serve: impl Fn(TcpStream, Arc<Count>) -> S + Send + 'static) -> Self
    where
        S: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, count) = (listener.local_addr().unwrap(), Arc::<Count>::default());
        let server = Self {
            address,
            count: count.clone(),
        };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, count.clone()));
            }
        });
        server
    }

    fn asked(&self) -> usize {
        self.count.asked.load(Ordering::SeqCst)
    }

    fn asked_on_kept(&self) -> usize {
        self.count.asked_on_kept.load(Ordering::SeqCst)
    }

    fn connections(&self) -> usize {
        self.count.connections.load(Ordering::SeqCst)
    }
}

async fn serve(mut stream: TcpStream, ill: Ill, on: On, count: Arc<Count>) {
    let mut was_kept = false;
    while let Some(head) = next_head(&mut stream).await {
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().unwrap());
        stream.read_exact(&mut vec![0; length]).await.unwrap();
        if head.contains(" /app/ill ") {
            count.asked(was_kept);
            if was_kept || on == On::All {
                match ill {
                    Ill::Reset => SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap(),
                    Ill::Close => {}
                    Ill::Says(words) => stream.write_all(words.as_bytes()).await.unwrap(),
                }
                return;
            }
        }
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        was_kept = true;
    }
}

async fn next_head(stream: &mut TcpStream) -> Option<String> {
    let mut first = [0];
    // Until the other side has closed.
    let read = stream.peek(&mut first).await.ok()?;
    match read {
        0 => None,
        _ => Some(head(stream).await),
    }
}

async fn house_before(scheme: &str, servers: &[&Server]) -> House {
    let servers: Vec<_> = servers
        .iter()
        .map(|server| format!("\"{scheme}://{}\"", server.address))
        .collect();
    let mut house = House::open().await;
    house.file.push_str(&format!(
        "\n[route.app]\nurl = \"http://{}/app\"\nupstream = [{}]\nauth = [\"public\"]\n",
        house.address,
        servers.join(", ")
    ));
    house.reload(&house.file).unwrap();
    house
}

/// Asks for what breaks a connection, on one that has served before. Yields the status, and how often the server was asked.
async fn ask_on_kept(house: &House, server: &Server, method: &Method, body: Option<&'static str>) -> (u16, usize) {
    // The same connection to the gateway, and so the same worker, which has connections of its own.
    let client = client();
    let asked = async {
        loop {
            assert_eq!(send(house, &client, &Method::GET, "/app/well", None).await, 200);
            let (before, before_on_kept) = (server.asked(), server.asked_on_kept());
            let status = send(house, &client, method, "/app/ill", body).await;
            if server.asked_on_kept() > before_on_kept {
                return (status, server.asked() - before);
            }
        }
    };
    timeout(PATIENCE * 2, asked).await.expect("no connection is kept")
}

/// What is counted of second attempts.
async fn retries(house: &House) -> usize {
    let (_, metrics) = house.admin("/metrics").await;
    let begin = "vestibule_upstream_retries_total{route=\"app\"} ";
    let counted = metrics.lines().find_map(|line| line.strip_prefix(begin));
    counted.unwrap().parse().unwrap()
}

async fn send(house: &House, client: &Client, method: &Method, path: &str, body: Option<&'static str>) -> u16 {
    let mut request = client.request(method.clone(), house.url(path));
    if let Some(body) = body {
        request = request.body(body);
    }
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn f_07_what_does_no_harm_is_sent_once_more_on_a_new_connection() {
    for ill in [Ill::Reset, Ill::Close] {
        let server = Server::start(ill, On::Kept).await;
        let house = house_before("http", &[&server]).await;
        for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
            assert_eq!(
                ask_on_kept(&house, &server, &method, None).await,
                (200, 2),
                "{method} {ill:?}"
            );
        }
        // Without a body, though it says so at length.
        assert_eq!(ask_on_kept(&house, &server, &Method::GET, Some("")).await, (200, 2));
        let before = server.connections();
        assert_eq!(ask_on_kept(&house, &server, &Method::GET, None).await, (200, 2));
        assert!(server.connections() > before);
        assert_eq!(retries(&house).await, 5);
    }
}

#[tokio::test]
async fn f_07_a_handshake_of_a_websocket_too() {
    let server = Server::start(Ill::Close, On::Kept).await;
    let house = house_before("http", &[&server]).await;
    let mut stream = TcpStream::connect(house.address).await.unwrap();
    let mut ask = async |path: &str, headers: &str| {
        let request = format!("GET /app/{path} HTTP/1.1\r\nHost: {}\r\n{headers}\r\n", house.address);
        stream.write_all(request.as_bytes()).await.unwrap();
        head(&mut stream).await
    };
    let asked = async {
        while server.asked_on_kept() == 0 {
            assert!(ask("well", "").await.starts_with("HTTP/1.1 200 "));
            // The server does not switch, but it has been asked.
            assert!(ask("ill", HANDSHAKE).await.starts_with("HTTP/1.1 200 "));
        }
    };
    timeout(PATIENCE * 2, asked).await.expect("no connection is kept");
}

#[tokio::test]
async fn f_07_a_get_that_may_be_a_delete_to_the_application_is_sent_once() {
    let server = Server::start(Ill::Close, On::Kept).await;
    let house = house_before("http", &[&server]).await;
    let client = builder()
        .default_headers(fields(&[("x-http-method-override", "DELETE")]))
        .build()
        .unwrap();
    let asked = async {
        while server.asked_on_kept() == 0 {
            let before = server.asked();
            assert_eq!(send(&house, &client, &Method::GET, "/app/well", None).await, 200);
            let status = send(&house, &client, &Method::GET, "/app/ill", None).await;
            assert_eq!(server.asked() - before, 1, "{status}");
        }
    };
    timeout(PATIENCE * 2, asked).await.expect("no connection is kept");
}

#[tokio::test]
async fn f_07_what_may_do_harm_twice_is_sent_once() {
    for ill in [Ill::Reset, Ill::Close] {
        let server = Server::start(ill, On::Kept).await;
        let house = house_before("http", &[&server]).await;
        for (method, body) in [
            (Method::POST, Some("once")),
            (Method::POST, Some("")),
            (Method::POST, None),
            (Method::PUT, Some("once")),
            (Method::DELETE, None),
            (Method::GET, Some("who knows what it does")),
        ] {
            let answer = ask_on_kept(&house, &server, &method, body).await;
            assert_eq!(answer, (502, 1), "{method} {body:?} {ill:?}");
        }
    }
}

#[tokio::test]
async fn f_07_once_an_answer_has_begun_no_other_is_asked_for() {
    for words in [
        "H",
        "HTTP/1.1 200 OK\r\nContent-Le",
        "HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n",
    ] {
        let server = Server::start(Ill::Says(words), On::Kept).await;
        let house = house_before("http", &[&server]).await;
        assert_eq!(
            ask_on_kept(&house, &server, &Method::GET, None).await,
            (502, 1),
            "{words}"
        );
        // Nor another server.
        let servers = [
            Server::start(Ill::Says(words), On::All).await,
            Server::start(Ill::Says(words), On::All).await,
        ];
        let house = house_before("http", &[&servers[0], &servers[1]]).await;
        let client = client();
        for asked in 1..=3 {
            assert_eq!(send(&house, &client, &Method::GET, "/app/ill", None).await, 502);
            assert_eq!(servers[0].asked() + servers[1].asked(), asked, "{words}");
        }
    }
}

#[tokio::test]
async fn f_07_a_server_that_breaks_new_connections_is_asked_once_on_them_and_never_three_times() {
    for ill in [Ill::Reset, Ill::Close] {
        let server = Server::start(ill, On::All).await;
        let house = house_before("http", &[&server]).await;
        assert_eq!(send(&house, &client(), &Method::GET, "/app/ill", None).await, 502);
        assert_eq!(server.asked(), 1, "{ill:?}");
        assert_eq!(
            ask_on_kept(&house, &server, &Method::GET, None).await,
            (502, 2),
            "{ill:?}"
        );
    }
}

#[tokio::test]
async fn f_07_of_several_servers_too_none_gets_it_a_third_time() {
    let servers = [
        Server::start(Ill::Close, On::All).await,
        Server::start(Ill::Reset, On::All).await,
    ];
    let house = house_before("http", &[&servers[0], &servers[1]]).await;
    let client = client();
    let asked = || servers[0].asked() + servers[1].asked();
    let both_kept = async {
        while servers.iter().any(|server| server.asked_on_kept() == 0) {
            // One for each of them.
            for _ in 0..2 {
                assert_eq!(send(&house, &client, &Method::GET, "/app/well", None).await, 200);
            }
            let before = asked();
            assert_eq!(send(&house, &client, &Method::GET, "/app/ill", None).await, 502);
            assert_eq!(asked() - before, 2);
            let before = asked();
            assert_eq!(send(&house, &client, &Method::POST, "/app/ill", None).await, 502);
            assert_eq!(asked() - before, 1);
        }
    };
    timeout(PATIENCE * 2, both_kept).await.expect("no connection is kept");
}

/// One of HTTP/2, whose connection breaks off without a farewell.
async fn serve_h2(stream: TcpStream, on: On, count: Arc<Count>) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    let mut was_kept = false;
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        if request.uri().path() == "/app/ill" {
            count.asked(was_kept);
            if was_kept || on == On::All {
                return;
            }
        }
        respond.send_response(http::Response::new(()), true).unwrap();
        was_kept = true;
    }
}

#[tokio::test]
async fn f_07_a_connection_that_all_share_and_that_breaks_off_is_no_different() {
    let server = Server::serving(|stream, count| serve_h2(stream, On::Kept, count)).await;
    let house = house_before("h2c", &[&server]).await;
    for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
        assert_eq!(ask_on_kept(&house, &server, &method, None).await, (200, 2), "{method}");
    }
    for method in [Method::POST, Method::DELETE] {
        assert_eq!(ask_on_kept(&house, &server, &method, None).await, (502, 1), "{method}");
    }
    let server = Server::serving(|stream, count| serve_h2(stream, On::All, count)).await;
    let house = house_before("h2c", &[&server]).await;
    assert_eq!(send(&house, &client(), &Method::GET, "/app/ill", None).await, 502);
    assert_eq!(server.asked(), 1);
    assert_eq!(ask_on_kept(&house, &server, &Method::GET, None).await, (502, 2));
}

/// One of HTTP/2 that resets the streams of `/app/ill`.
async fn resetting(stream: TcpStream, reason: Reason, count: Arc<Count>) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        if request.uri().path() == "/app/ill" {
            count.asked(false);
            respond.send_reset(reason);
        } else {
            respond.send_response(http::Response::new(()), true).unwrap();
        }
    }
}

async fn two_resetting(reason: Reason) -> (House, [Server; 2]) {
    let servers = [
        Server::serving(move |stream, count| resetting(stream, reason, count)).await,
        Server::serving(move |stream, count| resetting(stream, reason, count)).await,
    ];
    (house_before("h2c", &[&servers[0], &servers[1]]).await, servers)
}

#[tokio::test]
async fn f_07_what_is_refused_is_sent_to_another_server_and_to_no_third_one() {
    let (house, servers) = two_resetting(Reason::REFUSED_STREAM).await;
    for (number, method) in (1..).zip([Method::GET, Method::DELETE, Method::OPTIONS]) {
        assert_eq!(send(&house, &client(), &method, "/app/ill", None).await, 502);
        assert_eq!((servers[0].asked(), servers[1].asked()), (number, number), "{method}");
        assert_eq!(retries(&house).await, number);
    }
    let well = Application::start().await;
    let well = Server {
        address: well.address,
        count: Arc::default(),
    };
    let house = house_before("h2c", &[&servers[0], &well]).await;
    for method in [Method::GET, Method::DELETE] {
        // Whose turn it is.
        for _ in 0..2 {
            assert_eq!(send(&house, &client(), &method, "/app/ill", None).await, 200);
        }
    }
    assert_eq!(servers[0].asked(), 3 + 2);
}

#[tokio::test]
async fn f_07_a_stream_that_is_reset_is_an_answer_and_nobody_else_is_asked() {
    for reason in [Reason::INTERNAL_ERROR, Reason::CANCEL, Reason::NO_ERROR] {
        let (house, servers) = two_resetting(reason).await;
        assert_eq!(send(&house, &client(), &Method::GET, "/app/ill", None).await, 502);
        assert_eq!(servers[0].asked() + servers[1].asked(), 1, "{reason}");
        assert_eq!(retries(&house).await, 0);
    }
}
