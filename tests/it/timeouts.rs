//! The limits of each wait for an application, as its route has them.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};

use crate::support::{
    browser::client,
    grpc::{Call, Service, installed},
    house::House,
    lasting::{HANDSHAKE, Lasting, application},
    wire::{PATIENCE, head},
};

/// A server that does this with everybody.
async fn serving<S>(serve: impl Fn(TcpStream) -> S + Send + 'static) -> SocketAddr
where
    S: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

/// A house before an application that it has little patience with, at `/short`, and much, at `/long`.
async fn house_before(upstream: &str, limit: &str) -> House {
    let route = |address: SocketAddr, name: &str, time: &str| {
        format!(
            "\n[route.{name}]\nurl = \"http://{address}/{name}\"\nupstream = \"{upstream}\"\nauth = [\"public\"]\n\
             timeouts.{limit} = \"{time}\"\n"
        )
    };
    House::open_with_h2c(|address| [route(address, "short", "300ms"), route(address, "long", "1h")].concat()).await
}

/// How an exchange ends: its status, and whether the answer is whole.
async fn outcome(house: &House, path: &str) -> (u16, bool) {
    let answer = client().get(house.url(path)).send().await.unwrap();
    let status = answer.status().as_u16();
    (status, answer.bytes().await.is_ok())
}

/// That the short patience ends so, while the long one, which began before, goes on.
async fn only_the_short_one_ends(house: &House, expected: (u16, bool)) {
    let mut long = Box::pin(outcome(house, "/long"));
    assert!(timeout(Duration::from_millis(50), &mut long).await.is_err());
    let ended = tokio::select! {
        ended = timeout(PATIENCE * 2, outcome(house, "/short")) => ended,
        ended = &mut long => panic!("the long one ended: {ended:?}"),
    };
    assert_eq!(ended.expect("it is waited for without end"), expected);
}

/// Reads a head, says so much, and then nothing for ever.
async fn saying(words: &'static str) -> SocketAddr {
    serving(move |mut stream| async move {
        head(&mut stream).await;
        stream.write_all(words.as_bytes()).await.unwrap();
        std::future::pending::<()>().await;
    })
    .await
}

/// Says nothing for ever.
async fn hanging(stream: TcpStream) {
    let _open = stream;
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn whoever_takes_a_connection_and_shakes_no_hands_is_given_up() {
    let silent = serving(hanging).await;
    let house = house_before(&format!("https://{silent}"), "connect").await;
    only_the_short_one_ends(&house, (504, true)).await;
}

#[tokio::test]
async fn an_answer_that_does_not_begin_is_given_up() {
    let house = house_before(&format!("http://{}", saying("").await), "response").await;
    only_the_short_one_ends(&house, (504, true)).await;
}

#[tokio::test]
async fn an_answer_that_stops_is_cut_off() {
    let upstream = saying("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").await;
    let house = house_before(&format!("http://{upstream}"), "idle").await;
    only_the_short_one_ends(&house, (200, false)).await;
}

/// An answer without an end, in pieces with a pause between them.
async fn endless(piece: usize, pause: Duration) -> SocketAddr {
    serving(move |mut stream| async move {
        head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        while stream.write_all(&vec![b'x'; piece]).await.is_ok() {
            sleep(pause).await;
        }
    })
    .await
}

#[tokio::test]
async fn an_answer_that_goes_on_and_on_is_cut_off() {
    let upstream = endless(10, Duration::from_millis(20)).await;
    let house = house_before(&format!("http://{upstream}"), "stream").await;
    only_the_short_one_ends(&house, (200, false)).await;
}

#[tokio::test]
async fn an_answer_that_its_client_takes_slowly_is_cut_off_too() {
    // There is always more of it than is taken.
    let upstream = endless(256 * 1_024, Duration::ZERO).await;
    let house = house_before(&format!("http://{upstream}"), "stream").await;
    let mut stream = TcpStream::connect(house.address).await.unwrap();
    let request = format!("GET /short HTTP/1.1\r\nHost: {}\r\n\r\n", house.address);
    stream.write_all(request.as_bytes()).await.unwrap();
    let read = async {
        let mut some = vec![0; 64 * 1_024];
        while let Ok(1..) = stream.read(&mut some).await {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE * 2, read).await.expect("it goes on");
}

#[tokio::test]
async fn the_wait_for_an_answer_is_a_part_of_the_whole() {
    let house = house_before(&format!("http://{}", saying("").await), "stream").await;
    only_the_short_one_ends(&house, (504, true)).await;
}

#[tokio::test]
async fn so_is_the_handshake_with_the_application() {
    let silent = serving(hanging).await;
    let house = house_before(&format!("https://{silent}"), "connect = \"1h\"\ntimeouts.stream").await;
    only_the_short_one_ends(&house, (504, true)).await;
}

#[tokio::test]
async fn an_upload_that_goes_on_and_on_is_a_part_of_the_whole() {
    let upstream = serving(async |mut stream| {
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    })
    .await;
    let house = house_before(&format!("http://{upstream}"), "stream").await;
    let stream = TcpStream::connect(house.address).await.unwrap();
    let (mut answer, mut request) = stream.into_split();
    let start = format!(
        "POST /short HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
        house.address
    );
    request.write_all(start.as_bytes()).await.unwrap();
    let upload = tokio::spawn(async move {
        while request.write_all(b"1\r\nx\r\n").await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    });
    let mut status = [0; 12];
    let read = timeout(PATIENCE * 2, answer.read_exact(&mut status)).await;
    read.expect("it goes on").unwrap();
    assert_eq!(&status, b"HTTP/1.1 504");
    upload.abort();
}

#[tokio::test]
async fn a_websocket_over_which_nothing_is_said_closes() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = listener.local_addr().unwrap();
    tokio::spawn(application(listener));
    let house = house_before(&format!("http://{upstream}"), "idle").await;
    let mut long = Lasting::websocket(house.address, "/long", "").await;
    assert_eq!(Lasting::websocket(house.address, "/short", "").await.end().await, b"");
    long.goes_on().await;
}

#[tokio::test]
async fn a_websocket_over_which_much_is_said_closes_with_its_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = listener.local_addr().unwrap();
    tokio::spawn(application(listener));
    let house = house_before(&format!("http://{upstream}"), "stream").await;
    let mut stream = TcpStream::connect(house.address).await.unwrap();
    let request = format!("GET /short HTTP/1.1\r\nHost: {}\r\n{HANDSHAKE}\r\n", house.address);
    stream.write_all(request.as_bytes()).await.unwrap();
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 101 "));
    let talk = async {
        let mut heard = [0; 64];
        while stream.write_all(b"on").await.is_ok() && matches!(stream.read(&mut heard).await, Ok(1..)) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE * 2, talk).await.expect("it goes on");
}

#[tokio::test]
async fn a_call_of_grpc_ends_with_its_time() {
    if !installed() {
        return;
    }
    let service = Service::start();
    let house = House::open_with_h2c(|address| {
        format!(
            "\n[route.short]\nurl = \"http://{address}/house.Open\"\nupstream = \"h2c://{}\"\nauth = [\"public\"]\n\
             timeouts.stream = \"300ms\"\n",
            service.address
        )
    })
    .await;
    let mut watch = Call::begin(house.address, "house.Open/Watch", &[]);
    watch.say("");
    let (watch, heard) = watch.hear().await;
    assert_eq!(heard, "watching");
    let end = timeout(PATIENCE * 2, watch.rest()).await.expect("it goes on");
    assert!(
        end.len() == 1 && end[0].starts_with("= ") && !end[0].starts_with("= OK"),
        "{end:?}"
    );
}
