//! How long a client may keep us waiting for a request.
//!
//! hyper knows one time limit for all that comes before the last byte of a request's head. Here it is two: a client
//! may be silent between requests for long, but once it speaks it must come to the point. The socket notes that bytes
//! arrived, and the timer that hyper asks for notices.
//!
//! hyper knows no limit for a client that does not take its answer. The socket does: it breaks.

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use hyper::rt::{Sleep, Timer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Limits, tls::Line};
use crate::time::Alarm;

/// A client's socket; what it carries is let go when it closes, upgraded or not.
#[derive(Debug)]
pub(super) struct Socket<T> {
    line: Line,
    spoke: Arc<AtomicBool>,
    stall: Duration,
    /// Runs while the client takes nothing.
    stalled: Option<Pin<Box<tokio::time::Sleep>>>,
    _carried: T,
}

/// Makes hyper's timers for the head of a request.
#[derive(Debug)]
pub(super) struct Patience {
    spoke: Arc<AtomicBool>,
    head: Duration,
    /// Of all waits on this connection; there is one at a time.
    alarm: Arc<Mutex<Alarm>>,
}

/// The socket, and the timer that watches it.
pub(super) fn pair<T>(line: Line, carried: T, limits: &Limits) -> (Socket<T>, Patience) {
    let spoke = Arc::<AtomicBool>::default();
    let socket = Socket {
        line,
        spoke: spoke.clone(),
        stall: limits.stall,
        stalled: None,
        _carried: carried,
    };
    let patience = Patience {
        spoke,
        head: limits.header_timeout,
        alarm: Arc::default(),
    };
    (socket, patience)
}

impl<T> Socket<T> {
    /// What a write came to; one that waits for too long breaks.
    fn in_time<W>(&mut self, written: Poll<io::Result<W>>, cx: &mut Context<'_>) -> Poll<io::Result<W>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stall = self.stall;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(stall)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl Timer for Patience {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        let now = Instant::now();
        self.sleep_until(now.checked_add(duration).unwrap_or(now))
    }

    /// hyper asks for this when it begins to wait for a request.
    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        self.spoke.store(false, Ordering::Relaxed);
        Box::pin(Wait {
            deadline: deadline.into(),
            spoke: self.spoke.clone(),
            head: Some(self.head),
            alarm: self.alarm.clone(),
        })
    }
}

struct Wait {
    deadline: tokio::time::Instant,
    spoke: Arc<AtomicBool>,
    /// Until the head has begun.
    head: Option<Duration>,
    alarm: Arc<Mutex<Alarm>>,
}

impl Sleep for Wait {}

impl Future for Wait {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.spoke.load(Ordering::Relaxed)
            && let Some(head) = self.head.take()
        {
            let now = tokio::time::Instant::now();
            self.deadline = now.checked_add(head).unwrap_or(now);
        }
        let mut alarm = self.alarm.lock().unwrap_or_else(PoisonError::into_inner);
        alarm.poll(self.deadline, cx)
    }
}

impl<T: Unpin> AsyncRead for Socket<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.line).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            self.spoke.store(true, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: Unpin> AsyncWrite for Socket<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.line).poll_write(cx, bytes);
        self.in_time(written, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.line).poll_flush(cx);
        match self.line.keeps_back() {
            true => self.in_time(flushed, cx),
            false => flushed,
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.line).poll_shutdown(cx);
        match self.line.keeps_back() {
            true => self.in_time(shut, cx),
            false => shut,
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.line).poll_write_vectored(cx, slices);
        self.in_time(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.line.is_write_vectored()
    }
}
