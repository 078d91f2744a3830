//! A small web server for loopback: its socket, its limits, and what its pages are made of.

use std::{
    convert::Infallible,
    future::Future,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited, combinators::BoxBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
    time::timeout,
};

const MOST_CONNECTIONS: usize = 1_024;
const MOST_BODY_BYTES: usize = 1024 * 1024;
/// For a head, and for a body.
const PATIENCE: Duration = Duration::from_secs(15);

/// Mostly a text that is there as a whole; some answers go on for as long as somebody listens.
pub(super) type Answer = Response<BoxBody<Bytes, Infallible>>;

/// What stands behind a socket.
pub(super) trait Site: Send + Sync + 'static {
    /// Answers a request, whose body has been read.
    fn answer(self: Arc<Self>, request: Request<Bytes>) -> impl Future<Output = Answer> + Send;
}

/// Binds a socket.
///
/// # Errors
/// `InvalidInput` for anything but loopback: what is told here is not for a network.
pub(super) async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    if !address.ip().is_loopback() {
        let complaint = format!("{address} is not a loopback address, and this server is for development");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, complaint));
    }
    TcpListener::bind(address).await
}

/// A site that is being served; dropping it closes the socket and every connection.
#[derive(Debug)]
pub(super) struct Open {
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Open {
    pub(super) fn serve<S: Site>(listener: TcpListener, site: Arc<S>) -> Self {
        Self {
            task: Mutex::new(Some(tokio::spawn(accept(listener, site)))),
        }
    }

    /// Tells the site to stop at once; the future is ready when socket and connections are closed.
    pub(super) fn stop(&self) -> impl Future<Output = ()> + Send + use<> {
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = &task {
            task.abort();
        }
        async move {
            if let Some(task) = task {
                // The only outcome is that it was cancelled.
                let _ = task.await;
            }
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        drop(self.stop());
    }
}

async fn accept<S: Site>(listener: TcpListener, site: Arc<S>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < MOST_CONNECTIONS => match accepted {
                Ok((stream, _)) => drop(connections.spawn(converse(stream, site.clone()))),
                // Out of files, most likely: somebody must leave first.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn converse<S: Site>(stream: TcpStream, site: Arc<S>) {
    let answer = service_fn(|request| whole(request, site.clone()));
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    // A client that goes away, or never speaks, is no news.
    let _ = server
        .serve_connection(TokioIo::new(stream), answer)
        .with_upgrades()
        .await;
}

async fn whole<S: Site>(request: Request<Incoming>, site: Arc<S>) -> Result<Answer, http::Error> {
    let (head, body) = request.into_parts();
    Ok(
        match timeout(PATIENCE, Limited::new(body, MOST_BODY_BYTES).collect()).await {
            Ok(Ok(body)) => site.answer(Request::from_parts(head, body.to_bytes())).await,
            Ok(Err(_)) => text(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long, or broken\n"),
            Err(_) => text(StatusCode::REQUEST_TIMEOUT, "the body took too long\n"),
        },
    )
}

/// Values of a query or of a form, in their order.
#[derive(Clone, Debug, Default)]
pub(super) struct Parameters(pub(super) Vec<(String, String)>);

impl Parameters {
    pub(super) fn parse(encoded: &[u8]) -> Self {
        Self(form_urlencoded::parse(encoded).into_owned().collect())
    }

    pub(super) fn of_query<B>(request: &Request<B>) -> Self {
        Self::parse(request.uri().query().unwrap_or_default().as_bytes())
    }

    /// The value, unless it is absent or empty (RFC 6749 §3.1: then it counts as omitted).
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(candidate, _)| candidate == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// Whether a name stands there twice, which RFC 6749 §3.1 forbids.
    pub(super) fn repeat(&self) -> bool {
        let mut names: Vec<&str> = self
            .0
            .iter()
            .map(|(name, _)| name.as_str())
            .filter(|name| *name != "resource")
            .collect();
        names.sort_unstable();
        names.windows(2).any(|pair| pair.first() == pair.last())
    }
}

pub(super) fn text(status: StatusCode, text: &str) -> Answer {
    answer(
        status,
        "text/plain; charset=utf-8",
        Bytes::copy_from_slice(text.as_bytes()),
    )
}

pub(super) fn html(status: StatusCode, html: String) -> Answer {
    answer(status, "text/html; charset=utf-8", html.into())
}

pub(super) fn json(status: StatusCode, value: &serde_json::Value) -> Answer {
    answer(status, "application/json", value.to_string().into())
}

/// An answer that sends a browser on, with GET.
pub(super) fn see_other(location: &str) -> Answer {
    let mut answer = text(StatusCode::SEE_OTHER, "");
    if let Ok(location) = HeaderValue::from_str(location) {
        answer.headers_mut().insert(header::LOCATION, location);
    }
    answer
}

/// Any answer at all; a content type that no header can hold is left out.
pub(super) fn answer(status: StatusCode, content_type: &str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body).boxed());
    *answer.status_mut() = status;
    if let Ok(content_type) = HeaderValue::from_str(content_type) {
        answer.headers_mut().insert(header::CONTENT_TYPE, content_type);
    }
    answer
}

/// Text for HTML, between tags or in a quoted attribute.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#x27;"),
            other => escaped.push(other),
        }
    }
    escaped
}
