//! A socket that takes short messages in one piece.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// TCP; what is short is put together and sent, which costs the kernel less than to gather it.
#[derive(Debug)]
pub struct Wire(TcpStream);

/// Bytes that are cheaper copied than gathered: a head and a small body.
const SHORT: usize = 2 * 1_024;

impl From<TcpStream> for Wire {
    fn from(stream: TcpStream) -> Self {
        Self(stream)
    }
}

impl Wire {
    /// Reads what is there, and waits for nothing.
    pub(super) fn try_read(&self, room: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(room)
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream = Pin::new(&mut self.0);
        if let [only] = slices {
            return stream.poll_write(cx, only);
        }
        if slices
            .iter()
            .fold(0_usize, |sum, slice| sum.saturating_add(slice.len()))
            > SHORT
        {
            return stream.poll_write_vectored(cx, slices);
        }
        let mut room = [MaybeUninit::uninit(); SHORT];
        let mut message = ReadBuf::uninit(&mut room);
        for slice in slices {
            message.put_slice(slice);
        }
        stream.poll_write(cx, message.filled())
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    #[tokio::test]
    async fn what_is_written_in_pieces_arrives_whole_and_in_order() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut wire, mut peer) = (Wire::from(stream), listener.accept().await.unwrap().0);
        for lengths in [[5, 0, 7], [1, SHORT - 2, 1], [1, SHORT, 1], [SHORT, SHORT, SHORT]] {
            let pieces = [vec![b'a'; lengths[0]], vec![b'b'; lengths[1]], vec![b'c'; lengths[2]]];
            let slices = pieces.each_ref().map(|piece| IoSlice::new(piece));
            let written = wire.write_vectored(&slices).await.unwrap();
            assert_eq!(written, lengths.iter().sum::<usize>());
            let mut read = vec![0; written];
            peer.read_exact(&mut read).await.unwrap();
            assert_eq!(read, pieces.concat());
        }
    }
}
