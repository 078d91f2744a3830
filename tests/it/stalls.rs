//! Nobody is waited for without end: not for an upstream that takes nothing, nor for one that says nothing.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};

use crate::support::{
    house::House,
    wire::{PATIENCE, head},
};

/// An upstream that accepts, and leaves the rest to the test.
async fn upstream_in_hand() -> (SocketAddr, mpsc::Receiver<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (arrived, arrivals) = mpsc::channel(4);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = arrived.send(stream).await;
        }
    });
    (address, arrivals)
}

async fn hasty_house_before(upstream: SocketAddr) -> House {
    House::open_with(|gateway| {
        format!(
            r#"
[route.raw]
url = "http://{gateway}/raw"
upstream = "http://{upstream}"
auth = ["public"]
timeouts.response = "300ms"
timeouts.idle = "300ms"
"#
        )
    })
    .await
}

/// The status line, while the body is still being sent.
async fn answer_to(house: &House, request: String, body: &'static [u8]) -> String {
    let stream = TcpStream::connect(house.address).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    writer.write_all(request.as_bytes()).await.unwrap();
    let upload = tokio::spawn(async move {
        while !body.is_empty() && writer.write_all(body).await.is_ok() {}
        writer
    });
    let mut line = Vec::new();
    let read =
        tokio::io::AsyncBufReadExt::read_until(&mut tokio::io::BufReader::new(&mut reader), b'\n', &mut line).await;
    upload.abort();
    read.unwrap();
    String::from_utf8(line).unwrap()
}

#[tokio::test]
async fn f_07_an_upstream_that_takes_nothing_of_an_upload_is_given_up() {
    let (address, mut arrivals) = upstream_in_hand().await;
    let house = hasty_house_before(address).await;
    let request = format!(
        "POST /raw HTTP/1.1\r\nHost: {}\r\nContent-Length: 1000000000\r\n\r\n",
        house.address
    );
    let answer = timeout(PATIENCE, answer_to(&house, request, &[b'x'; 65_536])).await;
    assert!(
        answer.expect("it waits for ever").starts_with("HTTP/1.1 504 "),
        "a stalled upload"
    );
    drop(arrivals.recv().await);
}

#[tokio::test]
async fn f_07_so_is_one_that_takes_nothing_of_an_upload_in_small_pieces() {
    let (address, mut arrivals) = upstream_in_hand().await;
    let house = hasty_house_before(address).await;
    let request = format!(
        "POST /raw HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
        house.address
    );
    let piece: &str = format!("3e8\r\n{}\r\n", "x".repeat(1_000)).leak();
    let answer = timeout(PATIENCE, answer_to(&house, request, piece.as_bytes())).await;
    assert!(
        answer.expect("all is taken and kept").starts_with("HTTP/1.1 504 "),
        "a stalled upload"
    );
    drop(arrivals.recv().await);
}

#[tokio::test]
async fn a_client_that_sends_slowly_is_not_taken_for_an_upstream_that_takes_nothing() {
    let (address, mut arrivals) = upstream_in_hand().await;
    let house = hasty_house_before(address).await;
    let mut client = TcpStream::connect(house.address).await.unwrap();
    let request = format!(
        "POST /raw HTTP/1.1\r\nHost: {}\r\nContent-Length: 2\r\n\r\nh",
        house.address
    );
    client.write_all(request.as_bytes()).await.unwrap();
    let mut upstream = timeout(PATIENCE, arrivals.recv()).await.unwrap().unwrap();
    head(&mut upstream).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    client.write_all(b"i").await.unwrap();
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    upstream.write_all(answer).await.unwrap();
    let answer = timeout(PATIENCE, head(&mut client)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn a_get_with_a_body_of_unknown_length_keeps_it_and_is_not_waited_for_without_end() {
    let house = House::open().await;
    let chunked = |target: &str, house: &House| {
        format!(
            "GET {target} HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
            house.address
        )
    };
    let answer = answer_to(&house, chunked("/public/", &house), b"").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(house.upstream.last()["body"], "hi");

    let (address, _arrivals) = upstream_in_hand().await;
    let house = hasty_house_before(address).await;
    let answer = timeout(PATIENCE, answer_to(&house, chunked("/raw", &house), b"")).await;
    assert!(answer.expect("it waits for ever").starts_with("HTTP/1.1 504 "));
}
