//! Bodies of requests, on their way to an application.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as _, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::{
    sync::{Notify, oneshot},
    time::sleep,
};

use super::{
    body::{BodyError, Patience, Polled, is_trailers, poll_incoming, trailers_of},
    headers::Taken,
};

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
