//! Clients that ask again and again, and an application that keeps books on what it was given.

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use h2::{Reason, RecvStream, client::SendRequest};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
    task::JoinSet,
    time::timeout,
};

use super::wire::PATIENCE;

/// Where the clients think that they are.
pub const HOST: &str = "wiki.example.com";

/// Requests at once of a client that speaks HTTP/2.
const AT_ONCE: usize = 8;

/// Clients that ask again and again, every other time with something that must arrive once.
#[derive(Default)]
pub struct Load {
    enough: AtomicBool,
    /// Whether a client that finds nobody may stay away.
    may_be_refused: AtomicBool,
    number: AtomicUsize,
    answered: AtomicUsize,
    /// Answers that said that the connection ends with them.
    farewells: AtomicUsize,
    given: Mutex<Vec<String>>,
    /// What nobody took, for the next who gives.
    left_over: Mutex<Vec<String>>,
    failures: Mutex<Vec<String>>,
}

/// Whether a client asks again on the connection that it has.
#[derive(Clone, Copy, PartialEq)]
pub enum Habit {
    Stays,
    Comes,
}

#[derive(PartialEq)]
enum Kept {
    Yes,
    No,
}

impl Load {
    pub async fn ask_over_tcp(self: Arc<Self>, address: SocketAddr, habit: Habit) {
        while let Some(stream) = self.connected(TcpStream::connect(address)).await {
            self.use_up(stream, habit).await;
        }
    }

    pub async fn ask_over_unix(self: Arc<Self>, path: PathBuf) {
        while let Some(stream) = self.connected(UnixStream::connect(&path)).await {
            self.use_up(stream, Habit::Comes).await;
        }
    }

    /// Asks for several things at once on a connection, until that is told to end.
    pub async fn ask_over_http2(self: Arc<Self>, address: SocketAddr) {
        while let Some(stream) = self.connected(TcpStream::connect(address)).await {
            let (client, connection) = h2::client::handshake(stream).await.unwrap();
            let connection = tokio::spawn(connection);
            let asking = (0..AT_ONCE).map(|_| self.clone().ask_in_streams(client.clone()));
            asking.collect::<JoinSet<()>>().join_all().await;
            drop(client);
            let end = timeout(PATIENCE, connection).await.expect("it stays open").unwrap();
            if let Err(error) = end {
                self.note(Err(format!("the connection broke: {error}")));
            }
        }
    }

    /// Waits until so many more were answered.
    pub async fn goes_on(&self, requests: usize) {
        let wanted = self.answered.load(Ordering::SeqCst) + requests;
        let more = async {
            while self.answered.load(Ordering::SeqCst) < wanted {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(20), more).await.expect("nobody answers");
    }

    /// From now on, a client that finds nobody goes home.
    pub fn may_be_refused(&self) {
        self.may_be_refused.store(true, Ordering::SeqCst);
    }

    pub fn end(&self) {
        self.enough.store(true, Ordering::SeqCst);
    }

    pub fn farewells(&self) -> usize {
        self.farewells.load(Ordering::SeqCst)
    }

    /// That every request was answered, and what was given has arrived once and no more.
    pub fn nothing_went_wrong(&self, books: &Books) {
        assert_eq!(*self.failures.lock().unwrap(), Vec::<String>::new());
        let given = self.given.lock().unwrap();
        let given: HashMap<_, _> = given.iter().map(|what| (what.clone(), 1)).collect();
        let entries = books.entries.lock().unwrap();
        let wrong: Vec<_> = entries
            .iter()
            .filter(|(what, times)| given.get(*what) != Some(times))
            .collect();
        assert!(wrong.is_empty(), "more than once, or without an answer: {wrong:?}");
        assert_eq!(entries.len(), given.len(), "something never arrived");
    }

    /// A connection, as long as more is wanted.
    async fn connected<S>(&self, connecting: impl Future<Output = std::io::Result<S>>) -> Option<S> {
        if self.enough.load(Ordering::SeqCst) {
            return None;
        }
        match timeout(PATIENCE, connecting).await.expect("nobody lets it in") {
            Ok(stream) => Some(stream),
            Err(error) => {
                let expected =
                    self.may_be_refused.load(Ordering::SeqCst) && error.kind() == std::io::ErrorKind::ConnectionRefused;
                if !expected {
                    self.note(Err(format!("connecting: {error}")));
                }
                None
            }
        }
    }

    /// Asks on a connection for as long as it is kept.
    async fn use_up(&self, mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin, habit: Habit) {
        while !self.enough.load(Ordering::SeqCst) {
            let gift = self.gift();
            let asked = timeout(PATIENCE, ask(&mut stream, gift.as_deref())).await;
            let asked = asked.unwrap_or_else(|_| Err("no answer in time".into()));
            let is_kept = asked == Ok(Kept::Yes);
            if asked == Ok(Kept::No) {
                self.farewells.fetch_add(1, Ordering::SeqCst);
            }
            self.note(asked.map(|_| gift));
            if !is_kept || habit == Habit::Comes {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Asks in one stream after the other, until the connection takes no more.
    ///
    /// A request that crossed the GOAWAY is asked again elsewhere (RFC 9113 §6.8): were it one that the gateway had taken,
    /// what is given would arrive twice.
    async fn ask_in_streams(self: Arc<Self>, client: SendRequest<Bytes>) {
        let mut gift = None;
        while !self.enough.load(Ordering::SeqCst) {
            gift = gift.or_else(|| self.gift());
            match timeout(PATIENCE, ask_in_stream(client.clone(), gift.as_deref())).await {
                Ok(Ok(outcome)) => self.note(outcome.map(|()| gift.take())),
                Ok(Err(error)) if error.is_remote() && error.reason() == Some(Reason::NO_ERROR) => break,
                Ok(Err(error)) => self.note(Err(format!("in a stream: {error}"))),
                Err(_) => self.note(Err("no answer in a stream in time".into())),
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.left_over.lock().unwrap().extend(gift);
    }

    /// Every other time, something that nobody has taken yet.
    fn gift(&self) -> Option<String> {
        let left_over = self.left_over.lock().unwrap().pop();
        if left_over.is_some() {
            return left_over;
        }
        let number = self.number.fetch_add(1, Ordering::SeqCst);
        number.is_multiple_of(2).then(|| format!("gift {number}"))
    }

    fn note(&self, outcome: Result<Option<String>, String>) {
        match outcome {
            Ok(gift) => {
                self.answered.fetch_add(1, Ordering::SeqCst);
                self.given.lock().unwrap().extend(gift);
            }
            Err(failure) => self.failures.lock().unwrap().push(failure),
        }
    }
}

async fn ask(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin), gift: Option<&str>) -> Result<Kept, String> {
    let request = match gift {
        None => format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"),
        Some(gift) => {
            let length = gift.len();
            format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {length}\r\n\r\n{gift}")
        }
    };
    let asked = stream.write_all(request.as_bytes()).await;
    asked.map_err(|error| format!("asking: {error}"))?;
    let mut answer = Vec::new();
    let mut room = [0; 4_096];
    loop {
        let read = stream.read(&mut room).await;
        let length = read.map_err(|error| format!("reading: {error}"))?;
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
        if !head.starts_with("http/1.1 200 ") || body != thanks(gift.unwrap_or_default()) {
            return Err(text);
        }
        return Ok(match head.contains("\r\nconnection: close") {
            true => Kept::No,
            false => Kept::Yes,
        });
    }
}

async fn ask_in_stream(client: SendRequest<Bytes>, gift: Option<&str>) -> Result<Result<(), String>, h2::Error> {
    let mut client = client.ready().await?;
    let method = if gift.is_some() { "POST" } else { "GET" };
    let request = Request::builder().method(method).uri(format!("http://{HOST}/"));
    let (answer, mut body) = client.send_request(request.body(()).unwrap(), gift.is_none())?;
    if let Some(gift) = gift {
        // What comes of it, the answer tells.
        let _ = body.send_data(Bytes::from(gift.to_owned()), true);
    }
    whole(answer.await?, gift).await
}

async fn whole(answer: Response<RecvStream>, gift: Option<&str>) -> Result<Result<(), String>, h2::Error> {
    let (head, mut body) = answer.into_parts();
    let mut text = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        text.extend_from_slice(&piece);
    }
    let text = String::from_utf8_lossy(&text);
    Ok(match head.status.as_u16() {
        200 if text == thanks(gift.unwrap_or_default()) => Ok(()),
        status => Err(format!("{status} in a stream: {text}")),
    })
}

/// Small letters alone, as is what is given.
fn thanks(gift: &str) -> String {
    format!("thanks for {gift}")
}

/// An application that thanks for what it is given.
pub struct Books {
    pub address: SocketAddr,
    entries: Arc<Mutex<HashMap<String, usize>>>,
}

impl Books {
    pub async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let books = Self {
            address: listener.local_addr().unwrap(),
            entries: Arc::default(),
        };
        let entries = books.entries.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let entries = entries.clone();
                tokio::spawn(async move {
                    let service = service_fn(|request| enter(request, &entries));
                    let builder = hyper::server::conn::http1::Builder::new();
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        books
    }
}

async fn enter(
    request: Request<Incoming>,
    entries: &Mutex<HashMap<String, usize>>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let gift = request.into_body().collect().await?.to_bytes();
    let gift = String::from_utf8_lossy(&gift).into_owned();
    let answer = Response::new(Full::from(thanks(&gift)));
    if !gift.is_empty() {
        *entries.lock().unwrap().entry(gift).or_default() += 1;
    }
    Ok(answer)
}
