//! A WebSocket goes through the same door.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::support::{
    house::House,
    lasting::{HANDSHAKE, application},
    wire::{head, status},
};

async fn twice_behind(house: &mut House) -> SocketAddr {
    house.stop_upstream().await;
    let listener = TcpListener::bind(house.upstream.address).await.unwrap();
    tokio::spawn(application(listener));
    house.address
}

#[tokio::test]
async fn bytes_flow_both_ways_after_the_handshake() {
    let mut house = House::open().await;
    let token = house.jwt("alice");
    let address = twice_behind(&mut house).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET /live HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n{HANDSHAKE}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let answer = head(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert!(
        answer
            .to_ascii_lowercase()
            .contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="),
        "{answer}"
    );
    for word in ["hello", "again"] {
        stream.write_all(word.as_bytes()).await.unwrap();
        let mut heard = vec![0; word.len() * 2];
        stream.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard, word.repeat(2).as_bytes());
    }
    stream.shutdown().await.unwrap();
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0, "the end is passed on");
}

#[tokio::test]
async fn n_009_a_stranger_gets_401_and_no_bytes_through() {
    let mut house = House::open().await;
    let address = twice_behind(&mut house).await;
    let request = format!("GET /live HTTP/1.1\r\nHost: {address}\r\nAccept: text/html\r\n{HANDSHAKE}\r\n");
    assert_eq!(status(address, request.as_bytes()).await, 401);
}
