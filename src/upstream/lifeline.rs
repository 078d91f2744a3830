//! What an exchange that lasts hangs on: it ends when that does.

use std::{
    any::Any,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Method;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{UpstreamError, headers::Scrubbed, target::Target};
use crate::{
    identity::{Identity, Peer},
    policy::{Client, Initiator, RequestFacts},
    time::{Alarm, Timestamp},
};

/// Watches over exchanges that last, and cuts those whose ground is gone.
pub trait Watch: fmt::Debug + Send + Sync {
    /// Notes an exchange; dropping the cutter ends it. Yields its number.
    fn enter(self: Arc<Self>, ground: &Ground, cutter: Cutter) -> u64;

    /// Cancelled when the gateway goes away.
    fn leaving(&self) -> &CancellationToken;

    /// Forgets an exchange that has ended by itself.
    fn leave(&self, ground: &Ground, number: u64);
}

/// Why an exchange was let in, kept so that it can be decided again.
#[derive(Clone, Debug)]
pub struct Ground {
    pub asked: Asked,
    pub holder: Holder,
    /// The configuration under which it was decided.
    pub generation: u64,
}

/// Whom an exchange is for.
#[derive(Clone, Debug)]
pub enum Holder {
    /// Nobody in particular.
    Anybody,
    /// Whoever has a bearer token; it is good until the identity expires.
    Token(Arc<Identity>),
    /// A session; what it is, only the watch knows.
    Session(Arc<dyn Any + Send + Sync>),
}

/// A request as the decision sees it.
#[derive(Clone, Debug)]
pub struct Asked {
    method: Method,
    target: Target,
    client: Client,
    initiator: Initiator,
    peer: Peer,
}

impl Asked {
    /// What a request asked for; `peer` is its client.
    pub fn of(request: &Scrubbed, client: Client, initiator: Initiator, peer: Peer) -> Self {
        Self {
            method: request.parts.method.clone(),
            target: request.target.clone(),
            client,
            initiator,
            peer,
        }
    }

    pub fn came_with_a_certificate(&self) -> bool {
        self.peer.came_with_a_certificate()
    }

    /// Whether the client's certificate does not count any more.
    pub fn has_lost_its_certificate(&self, now: Timestamp) -> bool {
        self.peer.has_lost_its_certificate(now)
    }

    pub fn facts(&self, now: Timestamp) -> RequestFacts<'_> {
        RequestFacts {
            method: &self.method,
            host: self.target.host(),
            port: self.target.port(),
            path: self.target.path(),
            query: self.target.query(),
            client: self.client,
            initiator: self.initiator,
            address: self.peer.address,
            certificate: self.peer.certificate(now),
        }
    }
}

/// Ends an exchange.
#[derive(Debug)]
pub struct Cutter(#[expect(dead_code, reason = "dropping it is how it is used")] oneshot::Sender<()>);

/// The exchange's own end of it; the watch hears of it only when the exchange turns out to last.
#[derive(Debug)]
pub struct Lifeline {
    watch: Arc<dyn Watch>,
    /// In a box, for it goes along with the answer through many hands.
    bounds: Box<Bounds>,
    noted: Option<Noted>,
}

#[derive(Debug)]
struct Bounds {
    ground: Ground,
    /// When the whole exchange must be over.
    deadline: Option<Instant>,
}

#[derive(Debug)]
struct Noted {
    number: u64,
    cut: oneshot::Receiver<()>,
}

impl Lifeline {
    pub fn new(watch: Arc<dyn Watch>, ground: Ground) -> Self {
        let bounds = Bounds { ground, deadline: None };
        Self {
            watch,
            bounds: bounds.into(),
            noted: None,
        }
    }

    /// Says when the whole exchange must be over; absent: it may last.
    pub(super) fn ends_at(&mut self, deadline: Option<Instant>) {
        self.bounds.deadline = deadline;
    }

    /// What is left of its time; absent: it may last.
    pub(super) fn left(&self) -> Option<Duration> {
        let deadline = self.bounds.deadline?;
        Some(deadline.saturating_duration_since(Instant::now()))
    }

    /// As much of a limit as is left of its time.
    pub(super) fn at_most(&self, limit: Duration) -> Duration {
        self.left().map_or(limit, |left| left.min(limit))
    }

    /// Whether the exchange has to end; from the first time this is asked, it counts as one that lasts.
    pub fn poll_cut(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let noted = match &mut self.noted {
            Some(noted) => noted,
            None => {
                let (sender, cut) = oneshot::channel();
                let number = self.watch.clone().enter(&self.bounds.ground, Cutter(sender));
                self.noted.insert(Noted { number, cut })
            }
        };
        if noted.cut.is_terminated() {
            return Poll::Ready(());
        }
        // Nothing is ever sent: what is waited for is that the cutter is gone.
        Pin::new(&mut noted.cut).poll(cx).map(drop)
    }

    /// Whether the exchange counts as one that lasts.
    pub fn is_noted(&self) -> bool {
        self.noted.is_some()
    }

    /// Cancelled when the gateway goes away.
    pub(super) fn leaving(&self) -> CancellationToken {
        self.watch.leaving().clone()
    }

    /// Waits until the exchange has to end.
    pub(super) async fn cut(&mut self) {
        std::future::poll_fn(|cx| self.poll_cut(cx)).await;
    }
}

impl Drop for Lifeline {
    fn drop(&mut self) {
        if let Some(noted) = &self.noted {
            self.watch.leave(&self.bounds.ground, noted.number);
        }
    }
}

/// An answer that is waited for longer than this counts as an exchange that lasts.
const SOON: Duration = Duration::from_secs(1);

/// Waits for so long at most, and no longer than the lifeline holds and the whole exchange may last.
pub(super) async fn within<T>(
    alarm: &mut Alarm,
    limit: Duration,
    lifeline: &mut Lifeline,
    mut work: Pin<&mut impl Future<Output = T>>,
) -> Result<T, UpstreamError> {
    let (limit, late) = match lifeline.left() {
        Some(left) if left < limit => (left, UpstreamError::Over),
        Some(_) | None => (limit, UpstreamError::TimedOut),
    };
    let first = limit.min(SOON);
    if let Some(done) = alarm.within(first, work.as_mut()).await {
        return Ok(done);
    }
    let rest = timeout(limit.saturating_sub(first), work);
    let done = tokio::select! {
        done = rest => done,
        () = lifeline.cut() => return Err(UpstreamError::Cut),
    };
    done.map_err(|_| late)
}
