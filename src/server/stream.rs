//! One stream of HTTP/2: an answer that nobody takes is given up, and one that may not go on is reset, without harm to
//! the others on the connection. Both also while hyper waits for the client and asks the answer for nothing.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use h2::Reason;
use http_body::{Frame, SizeHint};
use hyper::rt::Executor;
use tokio::time::Instant;

use super::http2::{Traffic, UnderWay};
use crate::{
    time::Alarm,
    upstream::{
        body::{Body, BodyError},
        lifeline::Lifeline,
    },
};

/// An answer is handed over in pieces of at most this size: no more of it waits for room at the client.
const PIECE: usize = 16 * 1_024;
/// How many times longer a stream may stand still while others on its connection get on: a slow line has many to serve.
const PATIENCE_IN_TRAFFIC: u32 = 10;

tokio::task_local! {
    /// Of the stream that this task serves.
    static TAKER: Arc<Taker>;
}

/// Whether the client takes what it is offered; hyper asks for the next piece when there is room for it.
#[derive(Debug, Default)]
struct Taker {
    has_to_take: AtomicBool,
    /// Wraps around.
    taken: AtomicUsize,
    /// Of the answer, until the watch has it.
    lifeline: Mutex<Option<Lifeline>>,
    /// A WebSocket, until the task that serves it has begun.
    upgraded: Mutex<Option<UnderWay>>,
}

impl Taker {
    fn upgraded(&self) -> MutexGuard<'_, Option<UnderWay>> {
        self.upgraded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lifeline(&self) -> MutexGuard<'_, Option<Lifeline>> {
        self.lifeline.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts a task for each stream, and ends it when its client takes nothing.
#[derive(Clone, Debug)]
pub(super) struct Spawner {
    stall: Duration,
    traffic: Arc<Traffic>,
}

impl Spawner {
    pub(super) fn new(stall: Duration, traffic: Arc<Traffic>) -> Self {
        Self { stall, traffic }
    }
}

impl<F> Executor<F> for Spawner
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        // hyper starts another task for a stream that has become a WebSocket, in the one that has served it so far.
        let upgraded = TAKER.try_with(|taker| taker.upgraded().take()).ok().flatten();
        let taker = Arc::<Taker>::default();
        let mut watch = Watch {
            taker: taker.clone(),
            traffic: self.traffic.clone(),
            stall: self.stall,
            alarm: Alarm::default(),
            standstill: None,
            lifeline: None,
        };
        let watched = async move {
            let mut stream = pin!(stream);
            // A stream that nobody serves any more is reset: CANCEL (RFC 9113 §7), which gRPC reads as CANCELLED.
            poll_fn(|cx| {
                if watch.has_noted_a_cut(cx) || stream.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(());
                }
                watch.poll(cx)
            })
            .await;
            drop(upgraded);
        };
        tokio::spawn(TAKER.scope(taker, watched));
    }
}

struct Watch {
    taker: Arc<Taker>,
    traffic: Arc<Traffic>,
    stall: Duration,
    alarm: Alarm,
    standstill: Option<Standstill>,
    lifeline: Option<Lifeline>,
}

/// Since when the client has not taken what it was offered.
struct Standstill {
    /// What it had taken before, and what of all streams.
    taken: usize,
    taken_of_all: usize,
    patience: Instant,
    end: Instant,
}

impl Watch {
    /// Whether an exchange that lasts has to end, before more of it is handed over.
    fn has_noted_a_cut(&mut self, cx: &mut Context<'_>) -> bool {
        let noted = self.lifeline.as_mut().filter(|lifeline| lifeline.is_noted());
        noted.is_some_and(|lifeline| lifeline.poll_cut(cx).is_ready())
    }

    /// Ready when the exchange has to end, or the client has taken nothing for too long.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.lifeline.is_none() {
            self.lifeline = self.taker.lifeline().take();
        }
        if let Some(lifeline) = &mut self.lifeline
            && lifeline.poll_cut(cx).is_ready()
        {
            return Poll::Ready(());
        }
        self.poll_standstill(cx)
    }

    fn poll_standstill(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.taker.has_to_take.load(Ordering::Relaxed) {
            self.standstill = None;
            return Poll::Pending;
        }
        let taken = self.taker.taken.load(Ordering::Relaxed);
        if self
            .standstill
            .as_ref()
            .is_none_or(|standstill| standstill.taken != taken)
        {
            self.standstill = self.begin(taken);
        }
        let Some(standstill) = &mut self.standstill else {
            return Poll::Pending;
        };
        loop {
            ready!(self.alarm.poll(standstill.patience, cx));
            let of_all = self.traffic.taken();
            if of_all == standstill.taken_of_all || standstill.patience >= standstill.end {
                return Poll::Ready(());
            }
            standstill.taken_of_all = of_all;
            let next = standstill.patience.checked_add(self.stall);
            standstill.patience = next.unwrap_or(standstill.end).min(standstill.end);
        }
    }

    /// None where the limits are beyond the end of time.
    fn begin(&self, taken: usize) -> Option<Standstill> {
        let now = Instant::now();
        Some(Standstill {
            taken,
            taken_of_all: self.traffic.taken(),
            patience: now.checked_add(self.stall)?,
            end: now.checked_add(self.stall.checked_mul(PATIENCE_IN_TRAFFIC)?)?,
        })
    }
}

/// The body of an answer on its way into its stream.
#[derive(Debug)]
pub(super) struct Outgoing {
    body: Body,
    /// What did not fit into the last piece.
    rest: Bytes,
    taker: Option<Arc<Taker>>,
    /// None once it is somebody else's.
    under_way: Option<UnderWay>,
}

impl Outgoing {
    /// To be called in the task of the stream.
    pub(super) fn new(mut body: Body, under_way: Option<UnderWay>) -> Self {
        let taker = TAKER.try_with(Arc::clone).ok();
        if let Some(taker) = &taker {
            *taker.lifeline() = body.take_lifeline();
        }
        Self {
            body,
            rest: Bytes::new(),
            taker,
            under_way,
        }
    }

    /// Of a stream that is a WebSocket from now on; to be called in its task too.
    pub(super) fn none(under_way: UnderWay) -> Self {
        // Without a task, nobody could serve it.
        let _ = TAKER.try_with(|taker| *taker.upgraded() = Some(under_way));
        Self::new(Body::empty(), None)
    }

    /// Notes that the client has taken what it was offered, if it was.
    fn note_taken(&self) {
        let Some(taker) = &self.taker else { return };
        if taker.has_to_take.swap(false, Ordering::Relaxed) {
            taker.taken.fetch_add(1, Ordering::Relaxed);
            if let Some(under_way) = &self.under_way {
                under_way.traffic().take();
            }
        }
    }

    fn offer(&mut self, mut data: Bytes) -> Frame<Bytes> {
        self.rest = match data.len() > PIECE {
            true => data.split_off(PIECE),
            false => Bytes::new(),
        };
        if let Some(taker) = &self.taker {
            taker.has_to_take.store(true, Ordering::Relaxed);
        }
        Frame::data(data)
    }
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let outgoing = self.get_mut();
        outgoing.note_taken();
        if !outgoing.rest.is_empty() {
            let rest = std::mem::take(&mut outgoing.rest);
            return Poll::Ready(Some(Ok(outgoing.offer(rest))));
        }
        let frame = ready!(Pin::new(&mut outgoing.body).poll_frame(cx));
        Poll::Ready(frame.map(|frame| match frame {
            Ok(frame) => Ok(match frame.into_data() {
                Ok(data) => outgoing.offer(data),
                Err(trailers) => trailers,
            }),
            Err(error) => Err(reason(&error).into()),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Why a stream is reset in the middle of its answer (RFC 9113 §7). Never REFUSED_STREAM, after which the client would
/// ask again by itself.
fn reason(error: &BodyError) -> Reason {
    match error {
        BodyError::Cut | BodyError::Abandoned(_) => Reason::CANCEL,
        BodyError::Broken(_) | BodyError::Unfinished(_) | BodyError::Idle | BodyError::TooLarge => {
            Reason::INTERNAL_ERROR
        }
    }
}
