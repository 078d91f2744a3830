//! Bodies of answers: the gateway's own, and those that stream through within limits.

use std::{
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};

use super::{
    clean,
    condition::Load,
    crossing, headers,
    http1::{Broken, Upgraded},
    lease::Lease,
    lifeline::Lifeline,
    trunk::Turn,
    upload::{Leash, Progress, UploadEnd},
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

pub(super) type Polled = Poll<Option<Result<Frame<Bytes>, BodyError>>>;

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

pub(super) fn is_trailers(frame: &Polled) -> bool {
    matches!(frame, Poll::Ready(Some(Ok(frame))) if frame.is_trailers())
}

/// The trailers without what they may not say; the end where nothing is left.
pub(super) fn trailers_of(frame: Polled, clean: impl FnOnce(&mut HeaderMap)) -> Polled {
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
pub(super) fn poll_incoming(incoming: &mut Incoming, cx: &mut Context<'_>) -> Polled {
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
    pub(super) fn with(&mut self, frame: Polled, cx: &mut Context<'_>) -> Polled {
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
