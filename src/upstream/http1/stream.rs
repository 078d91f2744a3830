//! What an HTTP/1.1 connection runs over.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use bytes::{Buf as _, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UnixStream,
    task::unconstrained,
};

use crate::upstream::{
    dial::{Dialed, Encrypted},
    wire::Wire,
};

#[derive(Debug)]
pub(super) enum Stream {
    Tcp(Wire),
    Tls(Box<Encrypted>),
    Unix(UnixStream),
}

impl From<Dialed> for Stream {
    fn from(dialed: Dialed) -> Self {
        match dialed {
            Dialed::Tcp(stream) => Self::Tcp(stream.into()),
            Dialed::Tls(stream) => Self::Tls(stream),
            Dialed::Unix(stream) => Self::Unix(stream),
        }
    }
}

impl Stream {
    /// Whether the other side has neither closed it nor said anything, as far as is known here.
    pub(super) fn is_quiet(&mut self) -> bool {
        let mut room = [0];
        let read = match self {
            Self::Tcp(wire) => wire.try_read(&mut room),
            Self::Unix(stream) => stream.try_read(&mut room),
            Self::Tls(stream) => {
                let mut cx = Context::from_waker(Waker::noop());
                let mut buffer = ReadBuf::new(&mut room);
                // Whoever has done much in its turn is told that nothing is there.
                let read = pin!(unconstrained(poll_fn(
                    |cx| Pin::new(&mut *stream).poll_read(cx, &mut buffer)
                )));
                return read.poll(&mut cx).is_pending();
            }
        };
        read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}

macro_rules! whichever {
    ($stream:expr, $inner:ident => $done:expr) => {
        match $stream {
            Stream::Tcp($inner) => $done,
            Stream::Tls($inner) => $done,
            Stream::Unix($inner) => $done,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        whichever!(&mut *self, stream => Pin::new(stream).poll_read(cx, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        whichever!(&mut *self, stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        whichever!(&mut *self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        whichever!(&mut *self, stream => Pin::new(stream).poll_shutdown(cx))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        whichever!(&mut *self, stream => Pin::new(stream).poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        whichever!(self, stream => stream.is_write_vectored())
    }
}

/// A connection that speaks another protocol from now on, and what it said in it already (RFC 9110 §7.8).
#[derive(Debug)]
pub(in crate::upstream) struct Upgraded {
    pub(super) ahead: BytesMut,
    pub(super) stream: Stream,
}

impl AsyncRead for Upgraded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let length = self.ahead.len().min(buffer.remaining());
        buffer.put_slice(self.ahead.get(..length).unwrap_or_default());
        self.ahead.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Upgraded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
