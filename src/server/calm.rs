//! Frames that cost their sender nothing: whoever sends too many of them is cut off.
//!
//! h2 bounds what it keeps of a client, not how often it is made to work. So the frames are counted on their way in, by
//! their heads (RFC 9113 §4.1) and nothing else of them.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

/// So many of them within [`WHILE`] are too many: nobody who uses HTTP/2 comes near it.
const MANY: u32 = 10_000;
const WHILE: Duration = Duration::from_secs(10);

/// What a client begins with (RFC 9113 §3.4).
const PREFACE: usize = 24;

/// A client's connection; reading from it fails when the client floods it.
#[derive(Debug)]
pub(super) struct Calm<I> {
    io: I,
    frames: Frames,
    idle_frames: u32,
    /// Since when they are counted.
    since: Instant,
}

impl<I> Calm<I> {
    pub(super) fn new(io: I) -> Self {
        Self {
            io,
            frames: Frames {
                to_skip: PREFACE,
                head: [0; HEAD],
                filled: 0,
            },
            idle_frames: 0,
            since: Instant::now(),
        }
    }

    /// The clock is asked only when there are many.
    fn look(&mut self, bytes: &[u8], now: impl FnOnce() -> Instant) -> io::Result<()> {
        let idle_frames = self.frames.idle_in(bytes);
        self.idle_frames = self.idle_frames.saturating_add(idle_frames);
        if self.idle_frames < MANY {
            return Ok(());
        }
        let now = now();
        if now.duration_since(self.since) < WHILE {
            return Err(io::Error::other("the client floods the connection with frames"));
        }
        self.since = now;
        self.idle_frames = 0;
        Ok(())
    }
}

const HEAD: usize = 9;

/// Where in the row of frames the bytes are.
#[derive(Debug)]
struct Frames {
    /// Of the preface, and then of a payload.
    to_skip: usize,
    head: [u8; HEAD],
    /// How much of a head is there.
    filled: usize,
}

impl Frames {
    /// How many frames that ask for nothing begin in these bytes.
    fn idle_in(&mut self, mut bytes: &[u8]) -> u32 {
        let mut idle: u32 = 0;
        loop {
            let skipped = self.to_skip.min(bytes.len());
            self.to_skip = self.to_skip.saturating_sub(skipped);
            bytes = bytes.get(skipped..).unwrap_or_default();
            let Some((byte, rest)) = bytes.split_first() else {
                return idle;
            };
            if let Some(place) = self.head.get_mut(self.filled) {
                *place = *byte;
            }
            self.filled = self.filled.saturating_add(1);
            bytes = rest;
            if self.filled == HEAD {
                let [high, middle, low, kind, ..] = self.head;
                let length = u32::from_be_bytes([0, high, middle, low]);
                self.filled = 0;
                self.to_skip = usize::try_from(length).unwrap_or(usize::MAX);
                idle = idle.saturating_add(u32::from(is_idle(kind, length)));
            }
        }
    }
}

/// PRIORITY, RST_STREAM, SETTINGS, PING, and DATA without content. Not WINDOW_UPDATE, of which a fast download needs many,
/// and not what begins a request.
fn is_idle(kind: u8, length: u32) -> bool {
    matches!((kind, length), (2 | 3 | 4 | 6, _) | (0, 0))
}

impl<I: AsyncRead + Unpin> AsyncRead for Calm<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buffer))?;
        let new = buffer.filled().get(before..).unwrap_or_default();
        Poll::Ready(self.look(new, Instant::now))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Calm<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap();
        [&[0, 0, length, kind, 0, 0, 0, 0, 1], payload].concat()
    }

    #[test]
    fn frames_are_counted_however_their_bytes_come() {
        let row = [
            vec![b'x'; PREFACE],
            frame(4, &[6; 12]),
            frame(1, &[6; 40]),
            frame(0, &[6; 9]),
            frame(0, &[]),
            frame(8, &[6; 4]),
            frame(6, &[6; 8]),
            frame(3, &[6; 4]),
            frame(2, &[6; 5]),
        ]
        .concat();
        for size in 1..=row.len() {
            let mut calm = Calm::new(());
            let idle: u32 = row.chunks(size).map(|bytes| calm.frames.idle_in(bytes)).sum();
            assert_eq!(idle, 5, "in pieces of {size}");
        }
    }

    #[test]
    fn many_are_too_many_only_within_a_while() {
        let many = frame(6, &[0; 8]).repeat(9_999);
        let mut calm = Calm::new(());
        calm.frames.to_skip = 0;
        let later = calm.since + WHILE;
        assert!(calm.look(&many, || later).is_ok());
        assert!(calm.look(&many, || later).is_ok());
        assert!(calm.look(&many, || later).is_ok());
        assert!(calm.look(&many, || later).is_err());
    }
}
