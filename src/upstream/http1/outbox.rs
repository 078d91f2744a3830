//! A request on its way out: its head, and its body as fast as the other side takes it.

use std::{
    io::{self, IoSlice, Write as _},
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use http::Request;
use http_body::Body as _;
use tokio::io::AsyncWrite;

use super::head::{self, Sent};
use crate::upstream::upload::RequestBody;

#[derive(Debug)]
pub(super) struct Outbox {
    /// The head, or the line before a chunk; its room serves request after request.
    head: Vec<u8>,
    /// Bytes of it that were sent.
    sent: usize,
    data: Bytes,
    /// What ends a chunk.
    tail: &'static [u8],
    body: RequestBody,
    framing: Sent,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing was sent, nor asked of the body.
    Untouched,
    Open,
    /// Nothing more is put in.
    Last,
    /// All was sent, or nothing ever was to be.
    Over,
    /// The other side takes no more.
    Failed,
    /// The other side waits for more, and there is none.
    Broken,
}

/// Why a request does not get out.
#[derive(Debug)]
pub(super) enum Unsendable {
    /// The connection takes no more.
    Io(io::Error),
    /// The body ends before its end.
    Body,
}

/// What goes out together with the head, so that most requests are one piece.
const SHORT: usize = 2 * 1_024;
/// What most heads need, and what goes out with them.
const ROOM: usize = 16 * 1_024;

impl Default for Outbox {
    fn default() -> Self {
        Self {
            head: Vec::new(),
            sent: 0,
            data: Bytes::new(),
            tail: b"",
            body: RequestBody::Empty,
            framing: Sent::Nothing,
            state: State::Over,
        }
    }
}

impl Outbox {
    /// Puts a request in; its body is taken out of it.
    pub(super) fn put(&mut self, request: &mut Request<RequestBody>) {
        self.head.clear();
        self.sent = 0;
        self.framing = head::write(request, &mut self.head);
        self.body = mem::replace(request.body_mut(), RequestBody::Empty);
        self.state = State::Untouched;
    }

    /// The body of a request of which nothing was sent.
    pub(super) fn take_untouched(&mut self) -> Option<RequestBody> {
        self.is_untouched()
            .then(|| mem::replace(&mut self.body, RequestBody::Empty))
    }

    pub(super) fn is_untouched(&self) -> bool {
        self.state == State::Untouched
    }

    /// Keeps no more room than the next request is likely to need.
    pub(super) fn rest(&mut self) {
        if self.head.capacity() > ROOM {
            self.head = Vec::new();
        }
    }

    /// Whether the body ended before its end.
    pub(super) fn is_broken(&self) -> bool {
        self.state == State::Broken
    }

    /// Whether all was sent.
    pub(super) fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// Whether nothing more will be sent.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.state, State::Over | State::Failed | State::Broken)
    }

    /// Ready when all was sent.
    ///
    /// # Errors
    /// When it cannot be. Where anything of it was sent this is said once, and then nothing is sent any more.
    pub(super) fn poll(
        &mut self,
        io: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Unsendable>> {
        if self.is_done() {
            return Poll::Ready(Ok(()));
        }
        let sent = ready!(self.send(io, cx));
        match &sent {
            Err(Unsendable::Body) => self.end(State::Broken),
            Err(Unsendable::Io(_)) if !self.is_untouched() => self.end(State::Failed),
            Err(Unsendable::Io(_)) | Ok(()) => {}
        }
        Poll::Ready(sent)
    }

    fn end(&mut self, state: State) {
        self.state = state;
        self.data = Bytes::new();
        self.tail = b"";
        self.body = RequestBody::Empty;
    }

    fn send(&mut self, io: &mut (impl AsyncWrite + Unpin), cx: &mut Context<'_>) -> Poll<Result<(), Unsendable>> {
        loop {
            // No more is taken of the body than the other side takes, but what goes out with the head.
            let has_room = self.is_empty() || self.is_untouched();
            if self.framing != Sent::Nothing && self.state != State::Last && has_room {
                let has_more = self.refill(cx)?;
                // Nothing to add: what is there goes out, and then it is waited for.
                if has_more.is_pending() && self.head.len() == self.sent {
                    ready!(Pin::new(&mut *io).poll_flush(cx)).map_err(Unsendable::Io)?;
                    return Poll::Pending;
                }
            }
            if !self.is_empty() {
                let length = ready!(self.write(io, cx)).map_err(Unsendable::Io)?;
                if length == 0 {
                    return Poll::Ready(Err(Unsendable::Io(io::ErrorKind::WriteZero.into())));
                }
                self.advance(length);
                continue;
            }
            if self.framing == Sent::Nothing || self.state == State::Last {
                ready!(Pin::new(&mut *io).poll_flush(cx)).map_err(Unsendable::Io)?;
                self.end(State::Over);
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Asks the body for more.
    fn refill(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, Unsendable> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
            return Ok(Poll::Pending);
        };
        self.state = State::Open;
        if self.head.len() == self.sent {
            self.head.clear();
            self.sent = 0;
        }
        match (frame.transpose().map_err(|_| Unsendable::Body)?, &mut self.framing) {
            (Some(frame), framing) => {
                // Trailers end here; there is nothing behind them.
                let Ok(data) = frame.into_data() else {
                    return Ok(Poll::Ready(()));
                };
                match framing {
                    Sent::Length(left) => {
                        let length = data.len().try_into().unwrap_or(u64::MAX);
                        *left = left.checked_sub(length).ok_or(Unsendable::Body)?;
                    }
                    Sent::Chunked if data.is_empty() => {}
                    Sent::Chunked => {
                        // To a vector nothing fails.
                        let _ = write!(self.head, "{:x}\r\n", data.len());
                        self.tail = b"\r\n";
                    }
                    Sent::Nothing => {}
                }
                self.data = data;
                if self.body.is_end_stream() {
                    self.conclude()?;
                }
            }
            (None, _) => self.conclude()?,
        }
        Ok(Poll::Ready(()))
    }

    fn conclude(&mut self) -> Result<(), Unsendable> {
        match self.framing {
            Sent::Length(1..) => return Err(Unsendable::Body),
            Sent::Chunked if self.tail.is_empty() => self.tail = b"0\r\n\r\n",
            Sent::Chunked => self.tail = b"\r\n0\r\n\r\n",
            Sent::Length(0) | Sent::Nothing => {}
        }
        self.state = State::Last;
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.head.len() == self.sent && self.data.is_empty() && self.tail.is_empty()
    }

    fn write(&mut self, io: &mut (impl AsyncWrite + Unpin), cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let head = self.head.get(self.sent..).unwrap_or_default();
        match (self.data.is_empty(), self.tail.is_empty()) {
            (true, true) => Pin::new(io).poll_write(cx, head),
            _ if self.data.len() <= SHORT => {
                // Copied it costs the kernel less than to gather it.
                self.head.extend_from_slice(&self.data);
                self.head.extend_from_slice(self.tail);
                self.data = Bytes::new();
                self.tail = b"";
                let head = self.head.get(self.sent..).unwrap_or_default();
                Pin::new(io).poll_write(cx, head)
            }
            _ => {
                let pieces = [head, &self.data, self.tail].map(IoSlice::new);
                Pin::new(io).poll_write_vectored(cx, &pieces)
            }
        }
    }

    fn advance(&mut self, mut length: usize) {
        if self.is_untouched() {
            self.state = State::Open;
        }
        let of_head = length.min(self.head.len().saturating_sub(self.sent));
        self.sent = self.sent.saturating_add(of_head);
        length = length.saturating_sub(of_head);
        let of_data = length.min(self.data.len());
        self.data.advance(of_data);
        length = length.saturating_sub(of_data);
        self.tail = self.tail.get(length..).unwrap_or_default();
    }
}
