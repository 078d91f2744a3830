//! Uploads whose answer does not wait for their end, and may end before they do.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::support::{
    browser::{Browser, client},
    h2c::{Client, data, flow, whole},
    house::House,
    wire::head,
};

/// For what has to come about.
const LONG: Duration = Duration::from_secs(20);

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
/// The beginning of one that goes on.
const EVENTS: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n";
const OF_ANYBODY: &str = "auth = [\"session\", \"bearer\"] # anybody";

/// A gateway before an application whose connections the test has in hand.
struct Early {
    house: House,
    listener: TcpListener,
}

/// An upload that goes on and on, as the client sees it.
struct Dripping {
    answer: OwnedReadHalf,
    upload: JoinHandle<()>,
}

impl Early {
    async fn open() -> Self {
        Self::open_with("").await
    }

    /// With more in the file of the route.
    async fn open_with(keys: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = listener.local_addr().unwrap();
        let house = House::open_with_h2c(|address| {
            format!("\n[route.raw]\nurl = \"http://{address}/raw\"\nupstream = \"http://{upstream}\"\n{OF_ANYBODY}\n{keys}\n")
        })
        .await;
        Self { house, listener }
    }

    fn bearer(&self) -> String {
        format!("Authorization: Bearer {}\r\n", self.house.jwt("alice"))
    }

    /// The application's next connection, after the head of its first request.
    async fn asked(&self) -> TcpStream {
        let (mut stream, _) = timeout(LONG, self.listener.accept())
            .await
            .expect("it is not asked")
            .unwrap();
        timeout(LONG, head(&mut stream)).await.expect("it is asked nothing");
        stream
    }

    /// An upload that goes on, of which the application has said this when some of it was there.
    async fn dripping(&self, credential: &str, said: &str) -> (Dripping, TcpStream) {
        let mut dripping = Dripping::begin(self.house.address, credential).await;
        let mut upstream = self.asked().await;
        upstream.read_u8().await.unwrap();
        upstream.write_all(said.as_bytes()).await.unwrap();
        dripping.hears("ok").await;
        (dripping, upstream)
    }

    /// An upload of more than all buffers take, its answer and its end, and the application, which has taken nothing.
    async fn flooding(&self) -> (OwnedReadHalf, JoinHandle<()>, TcpStream) {
        let (address, credential) = (self.house.address, self.bearer());
        let stream = TcpStream::connect(address).await.unwrap();
        let (answer, mut request) = stream.into_split();
        let start = format!("POST /raw HTTP/1.1\r\nHost: {address}\r\n{credential}Content-Length: 1000000000\r\n\r\n");
        request.write_all(start.as_bytes()).await.unwrap();
        let upload = tokio::spawn(async move { while request.write_all(&[b'x'; 65_536]).await.is_ok() {} });
        (answer, upload, self.asked().await)
    }
}

impl Dripping {
    async fn begin(address: SocketAddr, credential: &str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let (answer, mut request) = stream.into_split();
        let start = format!(
            "POST /raw HTTP/1.1\r\nHost: {address}\r\n{credential}Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"
        );
        request.write_all(start.as_bytes()).await.unwrap();
        let upload = tokio::spawn(drip(request));
        Self { answer, upload }
    }

    /// Reads so far.
    async fn hears(&mut self, end: &str) {
        let mut heard = Vec::new();
        let hear = async {
            while !heard.ends_with(end.as_bytes()) {
                heard.push(self.answer.read_u8().await.unwrap());
            }
        };
        timeout(LONG, hear).await.expect("it is not answered");
        assert!(
            heard.starts_with(b"HTTP/1.1 200 "),
            "{}",
            String::from_utf8_lossy(&heard)
        );
    }

    /// That the connection closes, at both ends.
    async fn ends(mut self, upstream: TcpStream) {
        has_ended(upstream).await;
        let mut rest = Vec::new();
        // A client that goes on for long enough is reset.
        let read = timeout(LONG, self.answer.read_to_end(&mut rest)).await;
        let _ = read.expect("the client's connection stays open");
        timeout(LONG, self.upload).await.expect("the client can go on").unwrap();
    }
}

async fn drip(mut request: OwnedWriteHalf) {
    while request.write_all(b"1\r\nx\r\n").await.is_ok() {
        sleep(Duration::from_millis(20)).await;
    }
}

/// That what is sent to an application comes to its end, and not as a whole.
async fn has_ended(mut upstream: TcpStream) {
    let mut last = Vec::new();
    let read = timeout(LONG, upstream.read_to_end(&mut last)).await;
    let _ = read.expect("the application is still sent the upload");
    assert!(!last.ends_with(b"0\r\n\r\n"), "it looks complete");
}

#[tokio::test]
async fn an_upload_ends_with_its_answer() {
    let early = Early::open().await;
    for answer in [
        OK,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ] {
        let (dripping, upstream) = early.dripping(&early.bearer(), answer).await;
        dripping.ends(upstream).await;
    }
}

#[tokio::test]
async fn an_upload_ends_with_an_answer_that_has_no_body() {
    let early = Early::open().await;
    let mut dripping = Dripping::begin(early.house.address, &early.bearer()).await;
    let mut upstream = early.asked().await;
    upstream
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .await
        .unwrap();
    dripping.hears("\r\n\r\n").await;
    dripping.ends(upstream).await;
}

#[tokio::test]
async fn an_upload_over_http_2_ends_with_its_answer() {
    let early = Early::open().await;
    let (piece, body) = flow();
    let client = Client::connect(early.house.address).await;
    let token = format!("Bearer {}", early.house.jwt("alice"));
    let upload = tokio::spawn(async move { client.send("POST", "/raw", &[("authorization", &token)], body).await });
    let dripping = tokio::spawn(async move {
        while piece.send(data("x")).await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    });
    let mut upstream = early.asked().await;
    upstream.write_all(OK.as_bytes()).await.unwrap();
    let answer = timeout(LONG, upload).await.unwrap().unwrap();
    assert_eq!(whole(answer).await.0, "ok");
    has_ended(upstream).await;
    timeout(LONG, dripping).await.expect("the client can go on").unwrap();
}

#[tokio::test]
async fn whoever_has_an_answer_before_the_end_of_an_upload_may_end_it_and_keeps_the_connection() {
    let early = Early::open().await;
    let (address, credential) = (early.house.address, early.bearer());
    // On a busy machine somebody may come too late once.
    for attempt in 1.. {
        let mut client = TcpStream::connect(address).await.unwrap();
        let start = format!("POST /raw HTTP/1.1\r\nHost: {address}\r\n{credential}Content-Length: 10\r\n\r\nhalf");
        client.write_all(start.as_bytes()).await.unwrap();
        let mut upstream = early.asked().await;
        upstream.write_all(OK.as_bytes()).await.unwrap();
        let answered = async {
            let head = timeout(LONG, head(&mut client)).await.unwrap();
            assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
            client.read_exact(&mut [0; 2]).await?;
            // It is far away.
            sleep(Duration::from_millis(100)).await;
            client.write_all(b" whole").await?;
            let mut upload = [0; 10];
            upstream.read_exact(&mut upload).await?;
            assert_eq!(&upload, b"half whole");
            let next = format!("GET /raw HTTP/1.1\r\nHost: {address}\r\n{credential}\r\n");
            client.write_all(next.as_bytes()).await?;
            let mut first = [0; 4];
            upstream.read_exact(&mut first).await?;
            assert_eq!(&first, b"GET ");
            Ok::<_, std::io::Error>(())
        };
        let outcome = tokio::select! {
            answered = timeout(LONG, answered) => answered.expect("it waits for ever"),
            _ = early.listener.accept() => Err(std::io::Error::other("it has another connection")),
        };
        match outcome {
            Ok(()) => return,
            Err(error) => assert!(attempt < 5, "it is not kept: {error}"),
        }
    }
}

#[tokio::test]
async fn an_application_that_stops_reading_keeps_neither_connection_and_its_answer_is_whole() {
    const LENGTH: usize = 300_000;
    let early = Early::open().await;
    let (mut answer, upload, mut upstream) = early.flooding().await;
    let said = format!(
        "HTTP/1.1 413 Content Too Large\r\nContent-Length: {LENGTH}\r\n\r\n{}",
        "a".repeat(LENGTH)
    );
    upstream.write_all(said.as_bytes()).await.unwrap();
    let mut heard = Vec::new();
    let hear = async {
        while !heard.ends_with(&[b'a'; LENGTH]) {
            assert_ne!(answer.read_buf(&mut heard).await.unwrap(), 0, "it is cut short");
        }
    };
    timeout(LONG, hear).await.expect("it is not answered");
    assert!(heard.starts_with(b"HTTP/1.1 413 "));
    timeout(LONG, upload).await.expect("the client can go on").unwrap();
    // What it had not read is still there, and then nothing more.
    has_ended(upstream).await;
}

#[tokio::test]
async fn a_connection_on_which_an_upload_broke_off_serves_nobody_else() {
    let early = Early::open().await;
    let (address, credential) = (early.house.address, early.bearer());
    let mut client = TcpStream::connect(address).await.unwrap();
    let start = format!("POST /raw HTTP/1.1\r\nHost: {address}\r\n{credential}Content-Length: 1000\r\n\r\nhello");
    client.write_all(start.as_bytes()).await.unwrap();
    let mut upstream = early.asked().await;
    upstream.write_all(EVENTS.as_bytes()).await.unwrap();
    let head = timeout(LONG, head(&mut client)).await.unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    client.shutdown().await.unwrap();
    // To the application it looks as if the next request were the rest of this one.
    let _ = upstream.write_all(b"0\r\n\r\n").await;
    has_ended(upstream).await;
    let next = format!("GET /raw HTTP/1.1\r\nHost: {address}\r\n{credential}\r\n");
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(next.as_bytes()).await.unwrap();
    early.asked().await;
}

#[tokio::test]
async fn an_upload_that_the_client_has_sent_arrives_whole_though_its_answer_ends_first() {
    const LENGTH: usize = 3_000_000;
    let early = Early::open().await;
    let (address, credential) = (early.house.address, early.bearer());
    let stream = TcpStream::connect(address).await.unwrap();
    let (_answer, mut request) = stream.into_split();
    let start = format!("POST /raw HTTP/1.1\r\nHost: {address}\r\n{credential}Content-Length: {LENGTH}\r\n\r\n");
    request.write_all(start.as_bytes()).await.unwrap();
    let upload = tokio::spawn(async move { request.write_all(&[b'x'; LENGTH]).await.map(|()| request) });
    let mut upstream = early.asked().await;
    // As much of it as the sockets take is under way; where that is not all, the rest is on its way as well.
    let sent = timeout(Duration::from_millis(500), upload).await;
    upstream.write_all(OK.as_bytes()).await.unwrap();
    let mut taken = 0;
    let mut some = vec![0; 65_536];
    while let Ok(length @ 1..) = timeout(LONG, upstream.read(&mut some)).await.expect("it does not end") {
        taken += length;
        if taken == LENGTH {
            break;
        }
    }
    assert_eq!(taken, LENGTH);
    drop(sent);
}

#[tokio::test]
async fn an_upload_ends_when_its_answer_may_not_go_on() {
    let early = Early::open().await;
    let mut browser = Browser::new();
    let form = browser.open(&early.house.url("/")).await;
    browser.log_in(&form, "alice", "alice").await;
    let cookie = format!("Cookie: vestibule={}\r\n", browser.session_cookie());
    let (hers, at_hers) = early.dripping(&cookie, EVENTS).await;
    let (scripts, at_scripts) = early.dripping(&early.bearer(), EVENTS).await;
    assert_eq!(early.house.provider.log_out("alice").await.unwrap(), [200]);
    hers.ends(at_hers).await;
    let closed = early.house.file.replacen(OF_ANYBODY, "auth = [\"session\"]", 1);
    assert_ne!(closed, early.house.file);
    early.house.reload(&closed).unwrap();
    scripts.ends(at_scripts).await;
    let gone = client()
        .post(early.house.url("/raw"))
        .bearer_auth(early.house.jwt("alice"));
    assert_eq!(gone.send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn an_upload_ends_with_the_time_of_its_exchange() {
    let early = Early::open_with("timeouts.stream = \"2s\"").await;
    let (dripping, upstream) = early.dripping(&early.bearer(), EVENTS).await;
    dripping.ends(upstream).await;
}
