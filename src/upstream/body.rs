//! Bodies: the gateway's own, and those that stream through within limits.

use std::{
    mem,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, Sleep, sleep, sleep_until},
};

use super::{
    clean,
    condition::Load,
    crossing, headers,
    headers::Taken,
    http1::{Broken, Upgraded},
    lease::Lease,
    lifeline::Lifeline,
    trunk::Turn,
};

/// The body of every response that leaves the gateway.
#[derive(Debug)]
pub enum Body {
    Full(Full<Bytes>),
    /// One with trailers.
    Trailed(Box<(Full<Bytes>, Option<HeaderMap>)>),
    /// In a box, for the answer passes through many hands.
    Streamed(Box<Streamed>),
}

/// Why a body ends before its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error(transparent)]
    Broken(#[from] hyper::Error),
    #[error(transparent)]
    Unfinished(#[from] Broken),
    #[error("nothing came for too long")]
    Idle,
    #[error("it is longer than allowed")]
    TooLarge,
    /// The session or the token that it was opened with is over.
    #[error("whoever asked for it may not have it any more")]
    Cut,
    /// Nobody waits for the answer any more; the source is what the upstream is told.
    #[error("the exchange is over")]
    Abandoned(#[source] h2::Error),
}

impl Body {
    pub fn empty() -> Self {
        Self::Full(Full::default())
    }

    /// What ends with these trailers, in HTTP/2.
    pub fn with_trailers(bytes: Bytes, trailers: HeaderMap) -> Self {
        Self::Trailed(Box::new((Full::new(bytes), Some(trailers))))
    }

    /// Leaves it to somebody else to end the exchange when it has to end.
    pub fn take_lifeline(&mut self) -> Option<Lifeline> {
        match self {
            Self::Full(_) | Self::Trailed(_) => None,
            Self::Streamed(streamed) => streamed.lifeline.take(),
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Full(Full::new(bytes))
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

type Polled = Poll<Option<Result<Frame<Bytes>, BodyError>>>;

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        match self.get_mut() {
            Self::Full(full) => Pin::new(full).poll_frame(cx).map_err(|never| match never {}),
            Self::Trailed(trailed) => {
                let (full, trailers) = &mut **trailed;
                let frame = ready!(Pin::new(full).poll_frame(cx)).map(|frame| frame.map_err(|never| match never {}));
                Poll::Ready(frame.or_else(|| trailers.take().map(|trailers| Ok(Frame::trailers(trailers)))))
            }
            Self::Streamed(streamed) => streamed.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(full) => full.is_end_stream(),
            Self::Trailed(trailed) => trailed.0.is_end_stream() && trailed.1.is_none(),
            Self::Streamed(streamed) => streamed.source.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(full) => full.size_hint(),
            Self::Trailed(trailed) => trailed.0.size_hint(),
            Self::Streamed(streamed) => streamed.source.size_hint(),
        }
    }
}

/// Where the body of an answer comes from.
#[derive(Debug)]
pub(super) enum Source {
    /// A connection of its own; when the answer has ended well, it is good for another request.
    Connection(Lease),
    /// One stream of a connection, and the upload that goes on as long as it.
    Stream(
        Incoming,
        #[expect(dead_code, reason = "both count as long as they are held")] Box<(Turn, Leash)>,
    ),
    /// There is no more.
    Over,
}

impl http_body::Body for Source {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        match self.get_mut() {
            Self::Connection(lease) => {
                let data = lease.poll_data(cx);
                data.map(|data| data.map(|data| Ok(Frame::data(data?))))
            }
            Self::Stream(incoming, _) => poll_incoming(incoming, cx),
            Self::Over => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Connection(lease) => lease.is_over(),
            Self::Stream(incoming, _) => incoming.is_end_stream(),
            Self::Over => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Connection(lease) => lease.size_hint(),
            Self::Stream(incoming, _) => incoming.size_hint(),
            Self::Over => SizeHint::with_exact(0),
        }
    }
}

impl Source {
    /// The connection after a 101.
    pub(super) fn upgraded(self) -> Option<Upgraded> {
        match self {
            Self::Connection(lease) => lease.upgraded(),
            Self::Stream(..) | Self::Over => None,
        }
    }
}

/// A response of the upstream.
#[derive(Debug)]
pub struct Streamed {
    source: Source,
    /// Whether any of it was passed on.
    has_begun: bool,
    /// Why it ends here.
    broken: Option<BodyError>,
    /// Where the request has a body.
    upload: Option<Arc<Progress>>,
    /// Of one of several servers.
    load: Option<Load>,
    patience: Patience,
    /// Absent when somebody else ends the exchange.
    lifeline: Option<Lifeline>,
}

impl Streamed {
    pub(super) fn new(
        source: Source,
        upload: Option<Arc<Progress>>,
        load: Option<Load>,
        patience: Patience,
        lifeline: Lifeline,
    ) -> Self {
        let mut streamed = Self {
            source,
            has_begun: false,
            broken: None,
            upload,
            load,
            patience,
            lifeline: Some(lifeline),
        };
        if streamed.source.is_end_stream() {
            streamed.give_back();
        }
        streamed
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Polled {
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let frame = Pin::new(&mut self.source).poll_frame(cx);
        let mut frame = self.patience.with(frame, cx);
        if let Poll::Ready(Some(Err(error))) = frame {
            // What came before it goes out first: whoever is told of an error drops what was not sent yet.
            self.broken = Some(error);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if is_trailers(&frame) {
            frame = trailers_of(frame, clean_answer);
        }
        // A body of one piece that is there does not last.
        let lasts = match frame {
            Poll::Pending => true,
            Poll::Ready(Some(Ok(_))) => mem::replace(&mut self.has_begun, true),
            Poll::Ready(_) => false,
        };
        if let Some(lifeline) = &mut self.lifeline
            && lasts
            && lifeline.poll_cut(cx).is_ready()
        {
            return Poll::Ready(Some(Err(BodyError::Cut)));
        }
        let ended = match &frame {
            Poll::Ready(None) => true,
            Poll::Ready(Some(Ok(_))) => self.source.is_end_stream(),
            Poll::Ready(Some(Err(_))) | Poll::Pending => false,
        };
        if ended {
            self.give_back();
        }
        frame
    }

    fn give_back(&mut self) {
        self.load = None;
        let Source::Connection(lease) = mem::replace(&mut self.source, Source::Over) else {
            return;
        };
        match self.upload.take() {
            Some(upload) if lease.is_sending() => {
                tokio::spawn(crossing::see_out(lease, upload, self.lifeline.take()));
            }
            Some(upload) if upload.end() != UploadEnd::Complete => {}
            Some(_) | None => lease.give_back(),
        }
    }
}

fn is_trailers(frame: &Polled) -> bool {
    matches!(frame, Poll::Ready(Some(Ok(frame))) if frame.is_trailers())
}

/// The trailers without what they may not say; the end where nothing is left.
fn trailers_of(frame: Polled, clean: impl FnOnce(&mut HeaderMap)) -> Polled {
    frame.map(|frame| {
        let mut trailers = frame?.ok()?.into_trailers().ok()?;
        clean(&mut trailers);
        (!trailers.is_empty()).then(|| Ok(Frame::trailers(trailers)))
    })
}

fn clean_answer(trailers: &mut HeaderMap) {
    clean(trailers);
    headers::remove_all(trailers, |name| headers::OF_A_HEAD.contains(&name));
}

/// The next piece of data, or the trailers.
fn poll_incoming(incoming: &mut Incoming, cx: &mut Context<'_>) -> Polled {
    let frame = Pin::new(incoming).poll_frame(cx);
    frame.map(|frame| frame.map(|frame| frame.map_err(BodyError::Broken)))
}

/// How long to wait for the next piece; costs nothing as long as nothing has to be waited for.
#[derive(Debug)]
pub(super) struct Patience {
    idle: Duration,
    /// When the whole exchange must be over.
    deadline: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
    renewed: bool,
}

impl Patience {
    pub(super) fn new(idle: Duration, deadline: Option<Instant>) -> Self {
        Self {
            idle,
            deadline,
            sleep: None,
            renewed: false,
        }
    }

    /// What came, or an error when it has been waited for too long.
    fn with(&mut self, frame: Polled, cx: &mut Context<'_>) -> Polled {
        if frame.is_ready() {
            self.renewed = true;
            // Where there is always more than is taken, nothing is ever waited for.
            let is_over = || self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
            return match frame {
                Poll::Ready(Some(Ok(_))) if is_over() => Poll::Ready(Some(Err(BodyError::Idle))),
                frame => frame,
            };
        }
        ready!(self.poll(cx));
        Poll::Ready(Some(Err(BodyError::Idle)))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let until = Instant::now().checked_add(self.idle);
        let until = match (until, self.deadline) {
            (Some(idle), Some(deadline)) => idle.min(deadline),
            (Some(until), None) | (None, Some(until)) => until,
            (None, None) => return Poll::Pending,
        };
        let sleep = match &mut self.sleep {
            None => self.sleep.insert(Box::pin(sleep_until(until))),
            Some(sleep) => {
                if self.renewed {
                    sleep.as_mut().reset(until);
                }
                sleep
            }
        };
        self.renewed = false;
        sleep.as_mut().poll(cx)
    }
}

/// The body of a request on its way to the upstream.
#[derive(Debug)]
pub(super) enum RequestBody {
    Empty,
    /// The gateway's own.
    Whole(Full<Bytes>),
    /// In a box, for the request passes through many hands.
    Upload(Box<Upload>),
}

#[derive(Debug)]
pub(super) struct Upload {
    incoming: Incoming,
    /// Bytes that may still come.
    left: u64,
    patience: Patience,
    progress: Arc<Progress>,
    /// Absent: it has a connection of its own, which has no trailers, and whose lease ends it by closing.
    shared: Option<Box<Shared>>,
}

/// Of an upload on a connection that others share.
#[derive(Debug)]
struct Shared {
    taken: Arc<Taken>,
    leashed: oneshot::Receiver<()>,
}

/// Dropping it ends an upload: on a connection that others share, nothing else does.
#[derive(Debug)]
pub(super) struct Leash(#[expect(dead_code, reason = "dropping it is how it is used")] Option<oneshot::Sender<()>>);

/// How far an upload has come, told to whoever waits for the response.
#[derive(Debug, Default)]
pub(super) struct Progress {
    end: AtomicU8,
    ended: Notify,
    /// How often the upstream had room for more.
    asked: AtomicU64,
    /// Whether it asked last and the client had nothing: then it is the client that all wait for.
    unanswered: AtomicBool,
}

/// How an upload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UploadEnd {
    NotYet,
    Complete,
    ClientGone,
    TooLarge,
    /// The upstream took no more.
    Refused,
}

impl RequestBody {
    /// The body, and who to ask how far it has come; there is nobody to ask where there is no body.
    ///
    /// # Errors
    /// When it says of itself that it is longer than `limit`.
    pub(super) fn of(
        incoming: Incoming,
        limit: u64,
        patience: Patience,
    ) -> Result<(Self, Option<Arc<Progress>>), BodyError> {
        if incoming.is_end_stream() {
            return Ok((Self::Empty, None));
        }
        if incoming.size_hint().lower() > limit {
            return Err(BodyError::TooLarge);
        }
        let progress = Arc::new(Progress::default());
        let upload = Upload {
            incoming,
            left: limit,
            patience,
            progress: progress.clone(),
            shared: None,
        };
        Ok((Self::Upload(upload.into()), Some(progress)))
    }
}

impl RequestBody {
    /// Puts it on a connection that others share: it passes trailers on, but for what is taken, and it ends with its
    /// leash.
    pub(super) fn share(&mut self, taken: &Arc<Taken>) -> Leash {
        let Self::Upload(upload) = self else { return Leash(None) };
        let (leash, leashed) = oneshot::channel();
        let taken = taken.clone();
        upload.shared = Some(Box::new(Shared { taken, leashed }));
        Leash(Some(leash))
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Whole(full) => Pin::new(full).poll_frame(cx).map_err(|never| match never {}),
            Self::Upload(upload) => upload.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Whole(full) => full.is_end_stream(),
            Self::Upload(upload) => upload.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Whole(full) => full.size_hint(),
            Self::Upload(upload) => upload.incoming.size_hint(),
        }
    }
}

impl Upload {
    fn poll(&mut self, cx: &mut Context<'_>) -> Polled {
        if self.is_let_go(cx) {
            self.progress.end_as(UploadEnd::ClientGone);
            return Poll::Ready(Some(Err(BodyError::Abandoned(h2::Reason::CANCEL.into()))));
        }
        let frame = poll_incoming(&mut self.incoming, cx);
        let mut frame = self.patience.with(frame, cx);
        if is_trailers(&frame) {
            frame = match &self.shared {
                Some(shared) => trailers_of(frame, |trailers| shared.taken.clean_trailers(trailers)),
                None => Poll::Ready(None),
            };
        }
        self.progress.note(&frame);
        let frame = ready!(frame);
        let end = match &frame {
            None => Some(UploadEnd::Complete),
            Some(Err(_)) => Some(UploadEnd::ClientGone),
            Some(Ok(frame)) if frame.is_trailers() => Some(UploadEnd::Complete),
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, Bytes::len);
                let Some(left) = self.left.checked_sub(u64::try_from(length).unwrap_or(u64::MAX)) else {
                    self.progress.end_as(UploadEnd::TooLarge);
                    return Poll::Ready(Some(Err(BodyError::TooLarge)));
                };
                self.left = left;
                self.incoming.is_end_stream().then_some(UploadEnd::Complete)
            }
        };
        if let Some(end) = end {
            self.progress.end_as(end);
        }
        Poll::Ready(frame)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.progress.end_as(UploadEnd::Refused);
    }
}

impl Upload {
    fn is_let_go(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(shared) = &mut self.shared else { return false };
        shared.leashed.is_terminated() || Pin::new(&mut shared.leashed).poll(cx).is_ready()
    }
}

impl Progress {
    fn end_as(&self, end: UploadEnd) {
        let _ = self
            .end
            .compare_exchange(0, end as u8, Ordering::SeqCst, Ordering::SeqCst);
        self.ended.notify_one();
    }

    fn note(&self, frame: &Polled) {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.unanswered.store(frame.is_pending(), Ordering::Relaxed);
    }

    pub(super) fn end(&self) -> UploadEnd {
        match self.end.load(Ordering::SeqCst) {
            0 => UploadEnd::NotYet,
            1 => UploadEnd::Complete,
            2 => UploadEnd::ClientGone,
            3 => UploadEnd::TooLarge,
            _ => UploadEnd::Refused,
        }
    }

    /// Waits until there is no more to send.
    pub(super) async fn ended(&self) {
        self.ended.notified().await;
    }

    /// Waits until the upstream has taken nothing for `idle` to twice `idle`, though there was something to take.
    pub(super) async fn stalled(&self, idle: Duration) {
        let mut seen = None;
        loop {
            let asked = self.asked.load(Ordering::Relaxed);
            if seen == Some(asked) && !self.unanswered.load(Ordering::Relaxed) {
                return;
            }
            seen = Some(asked);
            sleep(idle).await;
        }
    }
}
