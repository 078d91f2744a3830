//! HTTP/2 in clear text: an application that speaks nothing else, and a client that asks many things at once.

use std::{
    convert::Infallible,
    error::Error as _,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, client::conn::http2::SendRequest, server::conn::http2::Builder, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};

use super::wire::PATIENCE;

/// A body that is written while it is read.
#[derive(Debug)]
pub struct Flow(mpsc::Receiver<Frame<Bytes>>);

/// Its other end.
pub type Pen = mpsc::Sender<Frame<Bytes>>;

pub fn flow() -> (Pen, Flow) {
    let (pen, flow) = mpsc::channel(16);
    (pen, Flow(flow))
}

/// A body that is all there.
pub fn body(text: &str, trailers: &[(&str, &str)]) -> Flow {
    let (pen, flow) = flow();
    if !text.is_empty() {
        pen.try_send(data(text)).unwrap();
    }
    if !trailers.is_empty() {
        pen.try_send(Frame::trailers(fields(trailers))).unwrap();
    }
    flow
}

pub fn data(text: &str) -> Frame<Bytes> {
    Frame::data(Bytes::copy_from_slice(text.as_bytes()))
}

pub fn fields(pairs: &[(&str, &str)]) -> HeaderMap {
    let field = |(name, value): &(&str, &str)| {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        (name, HeaderValue::from_str(value).unwrap())
    };
    pairs.iter().map(field).collect()
}

impl http_body::Body for Flow {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|frame| frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_closed() && self.0.is_empty()
    }
}

/// An application whose answers have trailers.
pub struct Application {
    pub address: SocketAddr,
    pub connections: Arc<AtomicUsize>,
    /// Answers that were begun, and not let go.
    pub open: Arc<AtomicUsize>,
    last: Arc<Mutex<Value>>,
}

impl Application {
    pub async fn start() -> Self {
        Self::start_taking(200).await
    }

    /// That takes so many streams at once on a connection.
    pub async fn start_taking(streams: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let application = Self {
            address: listener.local_addr().unwrap(),
            connections: Arc::default(),
            open: Arc::default(),
            last: Arc::default(),
        };
        let (connections, open, last) = (
            application.connections.clone(),
            application.open.clone(),
            application.last.clone(),
        );
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                let (open, last) = (open.clone(), last.clone());
                let service = service_fn(move |request| answer(request, open.clone(), last.clone()));
                let mut builder = Builder::new(TokioExecutor::new());
                let connection = builder.max_concurrent_streams(streams);
                let connection = connection.serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection);
            }
        });
        application
    }

    /// What the last request looked like that was read to its end.
    pub fn last(&self) -> Value {
        self.last.lock().unwrap().clone()
    }

    /// Waits until it has let go of all answers.
    pub async fn is_let_go(&self) {
        let let_go = async {
            while self.open.load(Ordering::SeqCst) > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, let_go).await.expect("it is kept open");
    }
}

/// Counts as long as it lives.
struct Count(Arc<AtomicUsize>);

impl Drop for Count {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

type Said = UnsyncBoxBody<Bytes, hyper::Error>;

/// `…/events` says something and goes on, `…/parrot` says what it hears, and all others describe the request.
async fn answer(
    request: Request<Incoming>,
    open: Arc<AtomicUsize>,
    last: Arc<Mutex<Value>>,
) -> Result<Response<Said>, hyper::Error> {
    open.fetch_add(1, Ordering::SeqCst);
    let count = Count(open);
    let (parts, heard) = request.into_parts();
    let said = match parts.uri.path().rsplit('/').next() {
        Some("events") => {
            let (pen, flow) = flow();
            pen.try_send(data("hello")).unwrap();
            tokio::spawn(async move {
                pen.closed().await;
                drop(count);
            });
            boxed(flow)
        }
        Some("parrot") => {
            let (pen, flow) = flow();
            tokio::spawn(repeat(heard, pen, count));
            boxed(flow)
        }
        _ => {
            let heard = heard.collect().await?;
            let pairs = |fields: &HeaderMap| -> Vec<Value> {
                fields
                    .iter()
                    .map(|(name, value)| json!([name.as_str(), value.to_str().unwrap()]))
                    .collect()
            };
            let seen = json!({
                "target": parts.uri.to_string(),
                "version": format!("{:?}", parts.version),
                "headers": pairs(&parts.headers),
                "trailers": heard.trailers().map(pairs),
                "body": String::from_utf8_lossy(&heard.to_bytes()),
            });
            *last.lock().unwrap() = seen.clone();
            let trailers = [("checksum", "abc"), ("set-cookie", "vestibule=x")];
            boxed(body(&seen.to_string(), &trailers))
        }
    };
    Ok(Response::new(said))
}

async fn repeat(mut heard: Incoming, pen: Pen, _count: Count) {
    loop {
        let frame = tokio::select! {
            frame = heard.frame() => frame,
            () = pen.closed() => return,
        };
        let Some(Ok(frame)) = frame else { return };
        let _ = pen.send(frame).await;
    }
}

fn boxed(flow: Flow) -> Said {
    flow.map_err(|never| match never {}).boxed_unsync()
}

/// One connection to a gateway.
#[derive(Clone)]
pub struct Client {
    sender: SendRequest<Flow>,
    address: SocketAddr,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (sender, connection) = handshake.await.unwrap();
        tokio::spawn(connection);
        Self { sender, address }
    }

    pub async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Response<Incoming> {
        self.send("GET", path, headers, body("", &[])).await
    }

    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Flow) -> Response<Incoming> {
        self.try_send(method, path, headers, body).await.unwrap()
    }

    /// What comes of a request that may be refused as a stream.
    pub async fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Flow,
    ) -> hyper::Result<Response<Incoming>> {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address))
            .body(body);
        let mut request = request.unwrap();
        request.headers_mut().extend(fields(headers));
        let answer = timeout(PATIENCE, self.sender.clone().send_request(request));
        answer.await.expect("no answer")
    }
}

/// The next piece; none at the end.
pub async fn heard(answer: &mut Response<Incoming>) -> Option<Result<String, h2::Reason>> {
    let frame = timeout(PATIENCE, answer.body_mut().frame())
        .await
        .expect("nothing comes");
    Some(match frame? {
        // An end may come as a piece without content.
        Ok(frame) if frame.data_ref().is_some_and(Bytes::is_empty) => return None,
        Ok(frame) => Ok(String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()),
        Err(error) => Err(error
            .source()
            .unwrap()
            .downcast_ref::<h2::Error>()
            .unwrap()
            .reason()
            .unwrap()),
    })
}

/// The text of an answer, and its trailers.
pub async fn whole(answer: Response<Incoming>) -> (String, HeaderMap) {
    let whole = timeout(PATIENCE, answer.into_body().collect()).await.unwrap().unwrap();
    let trailers = whole.trailers().cloned().unwrap_or_default();
    (String::from_utf8(whole.to_bytes().to_vec()).unwrap(), trailers)
}
