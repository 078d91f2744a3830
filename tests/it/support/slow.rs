//! An application that stops halfway, and clients that are in no hurry.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};

use super::wire::{PATIENCE, head};

/// An application that says the first half of everything, and the second when it is told to.
pub struct Halting {
    pub address: SocketAddr,
    pub goes_on: watch::Sender<bool>,
}

pub const HALF: usize = 20_000;
pub const EVENT: &str = "d\r\ndata: hello\n\n\r\n";

impl Halting {
    pub async fn open() -> Self {
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
pub struct Slow(pub TcpStream);

impl Slow {
    /// With this after the first line.
    pub async fn begin(address: SocketAddr, line: &str, rest: &str) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("{line} HTTP/1.1\r\nHost: {address}\r\n{rest}");
        stream.write_all(request.as_bytes()).await.unwrap();
        Self(stream)
    }

    /// One whose answer has begun, up to here.
    pub async fn answered(address: SocketAddr, line: &str, so_far: &str) -> Self {
        let mut slow = Self::begin(address, line, "\r\n").await;
        let head = timeout(PATIENCE, head(&mut slow.0)).await.unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        slow.says(so_far).await;
        slow
    }

    pub async fn says(&mut self, text: &str) {
        let mut said = vec![0; text.len()];
        timeout(PATIENCE, self.0.read_exact(&mut said)).await.unwrap().unwrap();
        assert_eq!(String::from_utf8_lossy(&said).to_lowercase(), text);
    }

    /// Everything until the connection is closed.
    pub async fn rest(mut self) -> String {
        let mut rest = String::new();
        let read = timeout(PATIENCE, self.0.read_to_string(&mut rest)).await;
        read.expect("it stays open").unwrap();
        rest
    }
}

/// A client of HTTP/2 that has nothing to ask, until the connection is closed: the last stream and the code of each
/// GOAWAY. None of them comes while it could come back to the same gateway.
pub async fn farewells(address: SocketAddr) -> Vec<(u32, u32)> {
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
