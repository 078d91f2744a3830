//! A client's bytes, over TCP or a Unix socket; and those that were looked at before anybody else read them.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf as _, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};

use crate::upstream::wire::Wire;

#[derive(Debug)]
pub(super) struct Pipe {
    socket: Socket,
    /// What was read already, and is to be read by whoever serves the connection.
    ahead: BytesMut,
}

#[derive(Debug)]
enum Socket {
    Tcp(Wire),
    Unix(UnixStream),
}

impl From<TcpStream> for Pipe {
    fn from(stream: TcpStream) -> Self {
        Self::of(Socket::Tcp(stream.into()))
    }
}

impl From<UnixStream> for Pipe {
    fn from(stream: UnixStream) -> Self {
        Self::of(Socket::Unix(stream))
    }
}

impl Pipe {
    fn of(socket: Socket) -> Self {
        Self {
            socket,
            ahead: BytesMut::new(),
        }
    }

    /// What the client began with, as far as it was fetched.
    pub(super) fn ahead(&self) -> &[u8] {
        &self.ahead
    }

    /// Waits for more of it, so much at most; 0 bytes are the end.
    ///
    /// # Errors
    /// When the connection breaks.
    pub(super) async fn fetch(&mut self, most: usize) -> io::Result<usize> {
        let mut room = (&mut self.socket).take(most.try_into().unwrap_or(u64::MAX));
        room.read_buf(&mut self.ahead).await
    }

    /// Takes away what is nobody else's to read.
    pub(super) fn drop_ahead(&mut self, length: usize) {
        self.ahead.advance(length.min(self.ahead.len()));
    }
}

impl AsyncRead for Pipe {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.socket).poll_read(cx, buffer);
        }
        let length = self.ahead.len().min(buffer.remaining());
        buffer.put_slice(&self.ahead.split_to(length));
        if self.ahead.is_empty() {
            self.ahead = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(wire) => Pin::new(wire).poll_read(cx, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.socket {
            Socket::Tcp(wire) => Pin::new(wire).poll_write(cx, bytes),
            Socket::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Tcp(wire) => Pin::new(wire).poll_flush(cx),
            Socket::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Tcp(wire) => Pin::new(wire).poll_shutdown(cx),
            Socket::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.socket {
            Socket::Tcp(wire) => Pin::new(wire).poll_write_vectored(cx, slices),
            Socket::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}
