//! HTTP/2 on a connection: many requests at once, each within the limits that HTTP/1 has for a connection.

use std::{
    convert::Infallible,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{Request, Response, StatusCode};
use hyper::{
    body::Incoming,
    server::conn::http2::Builder,
    service::{Service, service_fn},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{sync::Notify, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    Limits,
    calm::Calm,
    connection::{Broken, plain},
    patience, stream,
    visitor::Visitor,
    websocket::{Established, Handshake},
};
use crate::{time::Alarm, upstream::body::Body};

/// Requests at once on one connection.
const STREAMS: u32 = 100;
/// What a client may send of one request before somebody has read it.
const STREAM_WINDOW: u32 = 64 * 1_024;
/// And of all together.
const CONNECTION_WINDOW: u32 = 1_024 * 1_024;
/// What is kept of an answer that the client has no room for.
const SEND_BUFFER: usize = 64 * 1_024;
/// The largest frame that is read (RFC 9113 §4.2: the least there is).
const FRAME: u32 = 16 * 1_024;
/// Names and values that both ends remember of earlier heads (RFC 7541 §4.2).
const HEADER_TABLE: u32 = 4_096;
/// Streams that a client may have opened and reset before anybody looked at them (CVE-2023-44487).
const RESETS: usize = 20;
/// Streams that a client may make us reset by its mistakes (CVE-2025-8671).
const MISTAKES: usize = 128;

/// All limits in one place: hyper's own may change, by its own word.
///
/// A client that is silent, or in the middle of a head, cannot answer a ping: so the pings are its time limit.
fn limited(limits: &Limits, streams: stream::Spawner) -> Builder<stream::Spawner> {
    let mut builder = Builder::new(streams);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_frame_size(FRAME)
        .header_table_size(HEADER_TABLE)
        .max_pending_accept_reset_streams(RESETS)
        .max_local_error_reset_streams(MISTAKES)
        // For WebSockets (RFC 8441 §3).
        .enable_connect_protocol()
        .keep_alive_interval(limits.header_timeout)
        .keep_alive_timeout(limits.header_timeout);
    builder
}

/// Serves a visitor until the connection ends, or has been without a request for too long.
pub(super) async fn serve<S, T>(
    visitor: Visitor,
    carried: T,
    limits: &Limits,
    closing: CancellationToken,
    service: S,
) -> Result<(), Broken>
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Send,
    S::Future: Send + 'static,
    T: Send + Unpin + 'static,
{
    let traffic = Arc::<Traffic>::default();
    let (socket, _) = patience::pair(visitor.line, (visitor.permit, carried), limits);
    let most_fields = limits.header_count;
    let answer = service_fn(|mut request: Request<Incoming>| {
        let under_way = UnderWay::begin(&traffic);
        let handshake = Handshake::begin(&mut request);
        let answer = (request.headers().len() <= most_fields).then(|| service.call(request));
        async move {
            let answer = match answer {
                Some(answer) => answer.await?,
                None => too_many_fields(),
            };
            let (answer, established) = match handshake {
                Some(handshake) => handshake.end(answer),
                None => (answer, Established::No),
            };
            Ok::<_, Infallible>(answer.map(|body| match established {
                Established::Yes => stream::Outgoing::none(under_way),
                Established::No => stream::Outgoing::new(body, Some(under_way)),
            }))
        }
    });
    let streams = stream::Spawner::new(limits.stall, traffic.clone());
    let mut connection = pin!(limited(limits, streams).serve_connection(TokioIo::new(Calm::new(socket)), answer));
    let outcome = tokio::select! {
        outcome = connection.as_mut() => Some(outcome),
        () = closing.cancelled() => None,
        () = traffic.rests(limits.keep_alive) => None,
        () = sleep(limits.connection_age) => None,
    };
    if let Some(outcome) = outcome {
        return outcome.map_err(Into::into);
    }
    // Says that it goes (RFC 9113 §6.8), and finishes what is under way.
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        outcome = connection => outcome.map_err(Into::into),
        () = traffic.rests(limits.stall) => Ok(()),
    }
}

fn too_many_fields() -> Response<Body> {
    plain(
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        "The request has too many fields.\n",
    )
}

/// What goes on on a connection.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    requests: AtomicUsize,
    /// Pieces of answers that the client took, wrapping around.
    taken: AtomicUsize,
    changed: Notify,
}

impl Traffic {
    /// Waits until there has been no request for so long.
    async fn rests(&self, limit: Duration) {
        let mut alarm = Alarm::default();
        loop {
            let changed = pin!(self.changed.notified());
            if self.requests.load(Ordering::Relaxed) > 0 {
                changed.await;
            } else if alarm.within(limit, changed).await.is_none() {
                return;
            }
        }
    }

    pub(super) fn take(&self) {
        self.taken.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

/// A request, from its head to the end of its answer.
#[derive(Debug)]
pub(super) struct UnderWay(Arc<Traffic>);

impl UnderWay {
    fn begin(traffic: &Arc<Traffic>) -> Self {
        traffic.requests.fetch_add(1, Ordering::Relaxed);
        traffic.changed.notify_one();
        Self(traffic.clone())
    }

    pub(super) fn traffic(&self) -> &Traffic {
        &self.0
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
        self.0.changed.notify_one();
    }
}
