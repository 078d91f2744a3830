//! An application whose answers do not end, and clients that wait for them to.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::STANDARD};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::wire::{PATIENCE, head};

pub const HANDSHAKE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

const EVENTS: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
const EVENT: &str = "d\r\ndata: hello\n\n\r\n";

/// A path that is thought about for so long before there is an answer.
pub const SLOW: &str = "slow";
pub const SLOWNESS: Duration = Duration::from_millis(800);

/// A path that has no answer.
pub const NEVER: &str = "never";

/// Says everything twice over a WebSocket; to others, one event and then nothing.
pub async fn application(listener: TcpListener) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(serve(stream));
    }
}

async fn serve(mut stream: TcpStream) {
    let head = head(&mut stream).await;
    let key = key_in(&head);
    let head = head.to_ascii_lowercase();
    if head.contains(SLOW) {
        tokio::time::sleep(SLOWNESS).await;
    }
    if head.contains(NEVER) {
        std::future::pending::<()>().await;
    }
    if !head.contains("upgrade: websocket") {
        let _ = stream.write_all(format!("{EVENTS}{EVENT}").as_bytes()).await;
        let _ = stream.read(&mut [0; 64]).await;
        return;
    }
    let switch = switch(&key.unwrap());
    stream.write_all(switch.as_bytes()).await.unwrap();
    let mut buffer = [0; 64];
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        stream.write_all(&buffer[..length]).await.unwrap();
        stream.write_all(&buffer[..length]).await.unwrap();
    }
}

/// What a handshake wants to be hashed.
pub fn key_in(head: &str) -> Option<String> {
    head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.to_owned())
    })
}

/// The answer to a handshake (RFC 6455 §4.2.2).
pub fn switch(key: &str) -> String {
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let accept = STANDARD.encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()));
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    )
}

/// An exchange that goes on.
pub struct Lasting(TcpStream);

impl Lasting {
    /// An event stream whose first event has come.
    pub async fn events(address: SocketAddr, path: &str, credential: &str) -> Self {
        Self::events_of(address, address, path, credential).await
    }

    /// One of a host that another address stands for.
    pub async fn events_of(address: SocketAddr, host: SocketAddr, path: &str, credential: &str) -> Self {
        let headers = "Accept: text/event-stream\r\n";
        let mut stream = ask(address, host, path, credential, headers).await;
        let head = timeout(PATIENCE, head(&mut stream)).await.unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let mut event = [0; EVENT.len()];
        timeout(PATIENCE, stream.read_exact(&mut event)).await.unwrap().unwrap();
        assert_eq!(String::from_utf8_lossy(&event).to_lowercase(), EVENT);
        Self(stream)
    }

    /// A WebSocket over which a word has been said.
    pub async fn websocket(address: SocketAddr, path: &str, credential: &str) -> Self {
        let mut stream = ask(address, address, path, credential, HANDSHAKE).await;
        let head = timeout(PATIENCE, head(&mut stream)).await.unwrap();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        stream.write_all(b"hi").await.unwrap();
        let mut heard = [0; 4];
        timeout(PATIENCE, stream.read_exact(&mut heard)).await.unwrap().unwrap();
        assert_eq!(&heard, b"hihi");
        Self(stream)
    }

    /// The last bytes, when it ends within five seconds.
    pub async fn end(mut self) -> Vec<u8> {
        let begun = Instant::now();
        let mut last = Vec::new();
        let read = timeout(PATIENCE, self.0.read_to_end(&mut last)).await;
        read.expect("it goes on").unwrap();
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "it took {:?}",
            begun.elapsed()
        );
        last
    }

    /// That nothing comes for longer than the gateway takes to notice something; not even the end.
    pub async fn goes_on(&mut self) {
        let read = timeout(Duration::from_millis(2_500), self.0.read(&mut [0; 64])).await;
        assert!(read.is_err(), "it ended, or said {read:?}");
    }
}

async fn ask(address: SocketAddr, host: SocketAddr, path: &str, credential: &str, headers: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{credential}{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}
