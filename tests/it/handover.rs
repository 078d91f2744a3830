//! One gateway takes over from another, and nobody notices.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
    time::timeout,
};

use crate::support::{
    lasting::{HANDSHAKE, application},
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

/// Clients that ask again and again.
#[derive(Default)]
struct Load {
    enough: AtomicBool,
    answered: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

/// Whether a client asks again on the connection that it has.
#[derive(Clone, Copy, PartialEq)]
enum Habit {
    Stays,
    Comes,
}

impl Load {
    fn note(&self, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => drop(self.answered.fetch_add(1, Ordering::SeqCst)),
            Err(failure) => self.failures.lock().unwrap().push(failure),
        }
    }

    async fn ask_over_tcp(self: Arc<Self>, address: SocketAddr, habit: Habit) {
        while !self.enough.load(Ordering::SeqCst) {
            match TcpStream::connect(address).await {
                Ok(stream) => self.use_up(stream, habit).await,
                Err(error) => self.note(Err(format!("connecting: {error}"))),
            }
        }
    }

    async fn ask_over_unix(self: Arc<Self>, path: std::path::PathBuf) {
        while !self.enough.load(Ordering::SeqCst) {
            match UnixStream::connect(&path).await {
                Ok(stream) => self.use_up(stream, Habit::Comes).await,
                Err(error) => self.note(Err(format!("connecting: {error}"))),
            }
        }
    }

    /// Asks on a connection for as long as it is kept.
    async fn use_up(&self, mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin, habit: Habit) {
        while !self.enough.load(Ordering::SeqCst) {
            let asked = timeout(PATIENCE, ask(&mut stream)).await;
            let asked = asked.unwrap_or_else(|_| Err("no answer in time".into()));
            let is_kept = asked == Ok(Kept::Yes);
            self.note(asked.map(drop));
            if !is_kept || habit == Habit::Comes {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn goes_on(&self, requests: usize) {
        let wanted = self.answered.load(Ordering::SeqCst) + requests;
        let more = async {
            while self.answered.load(Ordering::SeqCst) < wanted {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(20), more).await.expect("nobody answers");
    }
}

#[derive(PartialEq)]
enum Kept {
    Yes,
    No,
}

async fn ask(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin)) -> Result<Kept, String> {
    let request = b"GET / HTTP/1.1\r\nHost: wiki.example.com\r\n\r\n";
    stream
        .write_all(request)
        .await
        .map_err(|error| format!("asking: {error}"))?;
    let mut answer = Vec::new();
    let mut room = [0; 4_096];
    loop {
        let length = stream
            .read(&mut room)
            .await
            .map_err(|error| format!("reading: {error}"))?;
        if length == 0 {
            return Err(format!("closed after {}", String::from_utf8_lossy(&answer)));
        }
        answer.extend_from_slice(&room[..length]);
        let text = String::from_utf8_lossy(&answer).to_ascii_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let announced = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() < announced.unwrap().parse().unwrap() {
            continue;
        }
        if !head.starts_with("http/1.1 200 ") {
            return Err(text);
        }
        return Ok(match head.contains("\r\nconnection: close") {
            true => Kept::No,
            false => Kept::Yes,
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_a_second_gateway_takes_over_from_the_first() {
    let (directory, upstream) = (tempfile::tempdir().unwrap(), EchoUpstream::start().await);
    let (address, socket) = (free_address(), directory.path().join("http"));
    let listen = [address.to_string(), format!("unix:{}", socket.display())];
    let mut first = start(&listen, upstream.address);
    let load = Arc::<Load>::default();
    let mut clients = tokio::task::JoinSet::new();
    for habit in [Habit::Stays, Habit::Comes, Habit::Stays, Habit::Comes] {
        clients.spawn(load.clone().ask_over_tcp(address, habit));
    }
    clients.spawn(load.clone().ask_over_unix(socket.clone()));
    load.goes_on(200).await;

    let mut second = start(&listen, upstream.address);
    load.goes_on(100).await;
    first.signal("-TERM");
    let status = tokio::task::spawn_blocking(move || first.child.wait().unwrap())
        .await
        .unwrap();
    assert!(status.success());
    load.goes_on(200).await;

    load.enough.store(true, Ordering::SeqCst);
    clients.join_all().await;
    assert_eq!(*load.failures.lock().unwrap(), Vec::<String>::new());
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
