//! One gateway takes over from another, and nobody notices.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::support::{
    lasting::{HANDSHAKE, application},
    load::{Books, Habit, Load},
    process::{Process, free_address},
    upstream::EchoUpstream,
    wire::{PATIENCE, head},
};

fn start(listen: &[String], upstream: SocketAddr) -> Process {
    let admin = free_address();
    let listen: Vec<_> = listen.iter().map(|address| format!("\"{address}\"")).collect();
    let text = format!(
        r#"
server.listen = [{}]
server.reuse_port = true
server.workers = 2
server.h2c = true
server.drain_delay = "300ms"
server.trusted_proxies = ["unix"]
admin.listen = "{admin}"
log.access = false

[provider.corp]
issuer = "http://127.0.0.1:9"
client_id = "wiki"
client_auth = "none"

[route.public]
url = "http://wiki.example.com/"
upstream = "http://{upstream}"
auth = ["public"]
"#,
        listen.join(", ")
    );
    Process::start(&text, &[], admin, admin)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_a_second_gateway_takes_over_from_the_first() {
    let (directory, books) = (tempfile::tempdir().unwrap(), Books::open().await);
    let (address, socket) = (free_address(), directory.path().join("http"));
    let listen = [address.to_string(), format!("unix:{}", socket.display())];
    let mut first = start(&listen, books.address);
    let load = Arc::<Load>::default();
    let mut clients = tokio::task::JoinSet::new();
    for habit in [Habit::Stays, Habit::Comes, Habit::Stays, Habit::Comes] {
        clients.spawn(load.clone().ask_over_tcp(address, habit));
    }
    clients.spawn(load.clone().ask_over_unix(socket.clone()));
    for _ in 0..4 {
        clients.spawn(load.clone().ask_over_http2(address));
    }
    load.goes_on(400).await;

    let mut second = start(&listen, books.address);
    load.goes_on(400).await;
    first.signal("-TERM");
    let status = tokio::task::spawn_blocking(move || first.child.wait().unwrap())
        .await
        .unwrap();
    assert!(status.success());
    load.goes_on(400).await;

    load.end();
    clients.join_all().await;
    load.nothing_went_wrong(&books);
    assert!(socket.exists(), "the first has left what is the second's");
    second.stop();
    assert!(!socket.exists());
}

#[tokio::test]
async fn without_the_key_an_address_is_not_shared() {
    let upstream = EchoUpstream::start().await;
    let listen = [free_address().to_string()];
    let _first = start(&listen, upstream.address);
    let text = format!(
        "server.listen = [\"{}\"]\nadmin.listen = \"{}\"\n[provider.corp]\nissuer = \"http://127.0.0.1:9\"\nclient_id = \"a\"\nclient_auth = \"none\"\n\
         [route.a]\nurl = \"http://wiki.example.com/\"\nupstream = \"http://127.0.0.1:9\"\nauth = [\"public\"]\n",
        listen[0],
        free_address()
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let second = std::process::Command::new(crate::support::process::PROGRAM)
        .args(["run", "--config"])
        .arg(file.path())
        .output()
        .unwrap();
    let error = String::from_utf8(second.stderr).unwrap();
    assert!(error.contains("another program does: stop it"), "{error}");
}

#[tokio::test]
async fn f_14_websockets_are_told_that_the_gateway_goes_away() {
    const GOING_AWAY: [u8; 4] = [0x88, 2, 0x03, 0xE9];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = listener.local_addr().unwrap();
    tokio::spawn(application(listener));
    let address = free_address();
    let mut gateway = start(&[address.to_string()], upstream);
    let open = async || {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET / HTTP/1.1\r\nHost: wiki.example.com\r\n{HANDSHAKE}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        assert!(head(&mut stream).await.starts_with("HTTP/1.1 101 "));
        stream.write_all(b"hi").await.unwrap();
        stream.read_exact(&mut [0; 4]).await.unwrap();
        stream
    };
    let (mut polite, deaf) = (open().await, open().await);
    gateway.signal("-TERM");
    let mut said = Vec::new();
    timeout(PATIENCE, polite.read_to_end(&mut said)).await.unwrap().unwrap();
    assert_eq!(said, GOING_AWAY);
    // One that does not answer is not waited for until the end of `drain_timeout`, which is 30 seconds.
    let ended = tokio::task::spawn_blocking(move || gateway.child.wait().unwrap());
    assert!(
        timeout(Duration::from_secs(20), ended)
            .await
            .expect("it waits")
            .unwrap()
            .success()
    );
    drop(deaf);
}

#[tokio::test]
async fn f_14_a_second_signal_ends_it_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free_address();
    let mut gateway = start(&[address.to_string()], listener.local_addr().unwrap());
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = b"GET / HTTP/1.1\r\nHost: wiki.example.com\r\n\r\n";
    stream.write_all(request).await.unwrap();
    // The application has the request, and thinks about it.
    let _thinking = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    gateway.signal("-TERM");
    gateway.line_with("stopping");
    gateway.signal("-TERM");
    gateway.line_with("stopped at once");
    let ended = tokio::task::spawn_blocking(move || gateway.child.wait().unwrap());
    assert!(timeout(PATIENCE, ended).await.expect("it goes on").unwrap().success());
    assert!(
        matches!(stream.read(&mut [0; 8]).await, Ok(0) | Err(_)),
        "there is no answer any more"
    );
}
