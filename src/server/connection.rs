//! One connection: HTTP on a socket, within limits.

use std::{
    any::Any,
    convert::Infallible,
    error::Error,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::{Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri, Version, header};
use hyper::{body::Incoming, server::conn::http1, service::Service};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    task::coop::unconstrained,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    Handle, Limits, http2, patience,
    protocol::Protocol,
    visitor::Visitor,
    workers::{Entrance, Shared},
};
use crate::{identity::Peer, upstream::body::Body};

/// What is read of a client at once, and so what it can make us keep of a body that nobody takes: with half of it an upload
/// costs a third more.
const BUFFER: usize = 128 * 1_024;
/// How long a client may go on after the last answer before it is cut off.
const LINGER: Duration = Duration::from_secs(1);

/// Serves a visitor until the connection ends; `closing` lets it finish what is under way.
///
/// `carried` lives as long as the socket, which may outlive this after an upgrade.
pub(super) async fn serve<S, T>(visitor: Visitor, carried: T, limits: &Limits, closing: CancellationToken, service: S)
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Send,
    S::Future: Send + 'static,
    T: Send + Unpin + 'static,
{
    let peer = visitor.address;
    let outcome = match visitor.protocol {
        Protocol::Http1 => serve_http1(visitor, carried, limits, closing, service).await,
        // In a box, for most connections speak the other one and are spared the room.
        Protocol::Http2 => Box::pin(http2::serve(visitor, carried, limits, closing, service)).await,
    };
    if let Err(error) = outcome {
        tracing::debug!(%peer, %error, "a connection broke");
    }
}

async fn serve_http1<S, T>(
    visitor: Visitor,
    carried: T,
    limits: &Limits,
    closing: CancellationToken,
    service: S,
) -> Result<(), Broken>
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
    T: Send + Unpin + 'static,
{
    let carried = (visitor.permit, carried);
    let (socket, patience) = patience::pair(visitor.line, carried, limits);
    let mut connection = http1::Builder::new()
        .timer(patience)
        .header_read_timeout(limits.keep_alive)
        .max_header_size(limits.header_bytes)
        .max_headers(limits.header_count)
        .max_buf_size(limits.header_bytes.max(BUFFER))
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    let outcome = match unless_cancelled(&mut connection, &closing).await {
        Some(outcome) => outcome,
        None => {
            Pin::new(&mut connection).graceful_shutdown();
            (&mut connection).await
        }
    };
    // An upgraded socket is somebody else's now.
    if let Some(parts) = connection.into_parts() {
        linger(parts.io.into_inner()).await;
    }
    outcome.map_err(Into::into)
}

/// What the work comes to, or nothing once the token is cancelled.
///
/// The token's own way asks to be woken anew whenever the work gets on; here that is asked for once.
async fn unless_cancelled<T>(work: &mut (impl Future<Output = T> + Unpin), token: &CancellationToken) -> Option<T> {
    if token.is_cancelled() {
        return None;
    }
    // Asked once, it must not put off its answer because much was done in this turn.
    let mut cancelled = pin!(unconstrained(token.cancelled()));
    let mut waker: Option<Waker> = None;
    poll_fn(|cx| {
        if let Poll::Ready(outcome) = Pin::new(&mut *work).poll(cx) {
            return Poll::Ready(Some(outcome));
        }
        let is_cancelled = match &waker {
            Some(waker) if waker.will_wake(cx.waker()) => token.is_cancelled(),
            Some(_) | None => {
                waker = Some(cx.waker().clone());
                cancelled.as_mut().poll(cx).is_ready()
            }
        };
        match is_cancelled {
            true => Poll::Ready(None),
            false => Poll::Pending,
        }
    })
    .await
}

/// Why a connection ended before its time.
pub(super) type Broken = Box<dyn Error + Send + Sync>;

/// Closes in stages (RFC 9112 §9.6): a client that is still sending when the socket closes is reset by its kernel, and
/// might never read why.
async fn linger(mut socket: impl AsyncRead + AsyncWrite + Unpin) {
    let mut waste = [0; 1_024];
    let hear_out = async {
        let _ = socket.shutdown().await;
        while matches!(socket.read(&mut waste).await, Ok(1..)) {}
    };
    let _ = timeout(LINGER, hear_out).await;
}

/// What answers the requests of one connection.
#[derive(Debug)]
pub(super) struct Reception<H> {
    pub(super) shared: Arc<Shared<H>>,
    pub(super) peer: Peer,
    pub(super) entrance: Entrance,
}

impl<H> Clone for Reception<H> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            peer: self.peer.clone(),
            entrance: self.entrance,
        }
    }
}

impl<H: Handle> Reception<H> {
    /// Answers, whatever happens.
    pub(super) async fn answer(self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let shared = &*self.shared;
        if length(request.uri()) > shared.limits.target_bytes {
            return Ok(plain(StatusCode::URI_TOO_LONG, "The address is too long.\n"));
        }
        let version = request.version();
        let answer = match self.entrance {
            Entrance::Main => caught(pin!(shared.handler.handle(request, self.peer))).await,
            Entrance::Redirect => caught(pin!(async { shared.handler.redirect(&request, &self.peer) })).await,
        };
        // The hook for panics has logged it, with its place.
        let mut answer = answer.unwrap_or_else(|_| {
            shared.metrics.panic();
            plain(StatusCode::INTERNAL_SERVER_ERROR, "Something went wrong here.\n")
        });
        // Whoever goes on asks somebody else, before this connection is closed under the next request.
        if version <= Version::HTTP_11
            && shared.stop.drain.is_cancelled()
            && answer.status() != StatusCode::SWITCHING_PROTOCOLS
        {
            let close = HeaderValue::from_static("close");
            answer.headers_mut().insert(header::CONNECTION, close);
        }
        Ok(answer)
    }
}

/// Bytes of a request target; `http` keeps no text of the whole.
fn length(target: &Uri) -> usize {
    let authority = target.authority().map_or(0, |authority| authority.as_str().len());
    let path = target.path_and_query().map_or(0, |path| path.as_str().len());
    authority.saturating_add(path)
}

pub(super) fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Bytes::from_static(text.as_bytes()).into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

type Panic = Box<dyn Any + Send>;

/// The outcome, or the panic instead; the future is not touched again after one.
async fn caught<F: Future>(mut future: Pin<&mut F>) -> Result<F::Output, Panic> {
    poll_fn(move |cx| {
        let mut poll = || Pin::as_mut(&mut future).poll(cx);
        match catch_unwind(AssertUnwindSafe(&mut poll)) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    })
    .await
}
