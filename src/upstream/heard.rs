//! Whether anything came back: once an answer has begun, no other is asked for.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

/// What is known of a connection.
#[derive(Clone, Debug)]
pub(super) struct Past(Arc<(Instant, AtomicUsize)>);

/// A point in a connection's past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark(usize);

impl Past {
    pub(super) fn begin() -> Self {
        Self(Arc::new((Instant::now(), AtomicUsize::default())))
    }

    pub(super) fn opened(&self) -> Instant {
        self.0.0
    }

    pub(super) fn mark(&self) -> Mark {
        Mark(self.0.1.load(Ordering::Relaxed))
    }

    /// Whether the connection has brought anything since then.
    pub(super) fn has_heard(&self, since: Mark) -> bool {
        self.mark() != since
    }

    fn hear(&self) {
        // Only one task reads at a time, and nothing dearer is needed.
        let Mark(pieces) = self.mark();
        self.0.1.store(pieces.wrapping_add(1), Ordering::Relaxed);
    }
}

/// A socket that notes whether it brings anything.
#[derive(Debug)]
pub(super) struct Heard<S> {
    stream: S,
    past: Past,
}

impl<S> Heard<S> {
    pub(super) fn new(stream: S, past: Past) -> Self {
        Self { stream, past }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.past.hear();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heard<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
