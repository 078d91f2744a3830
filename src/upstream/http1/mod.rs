//! A connection to a server by HTTP/1.1, for one exchange at a time (RFC 9112).
//!
//! It is driven by whoever waits for its answer, and not by a task of its own: no request and no answer is handed from
//! one task to another, and none is woken that has nothing to do but to wake the next.

mod chunks;
mod head;
mod outbox;
mod stream;

use std::{
    io, mem,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Response};
use http_body::SizeHint;
use tokio::time::Instant;
use tokio_util::io::poll_read_buf;

use super::{dial::Dialed, upload::RequestBody};
use chunks::Next;
use head::{Framing, Known};
use outbox::{Outbox, Unsendable};
use stream::Stream;

pub(super) use stream::Upgraded;

#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
    opened: Instant,
    outbox: Outbox,
    /// Of the request: the answer to HEAD has no body.
    method: Method,
    /// What came and was not taken yet.
    read: BytesMut,
    /// Of it, in which no end of a head was found.
    searched: usize,
    /// How much is read at once.
    appetite: usize,
    /// Whether it was more than a little since the connection rested.
    is_grown: bool,
    /// Heads that only said that an answer will come.
    interim: usize,
    /// Who waits for the answer while the request is still sent by somebody else.
    waiting: Option<Waker>,
    /// Whether anything came since a request was begun.
    heard: bool,
    framing: Framing,
    /// Whether the other side serves another request after this one, by its own word.
    keeps: bool,
    /// Empty, but with room: the next answer's.
    headers: HeaderMap,
}

/// Why an exchange ends before its end.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    #[error("the connection closed before the end of the answer")]
    Closed,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("{0}")]
    Nonsense(&'static str),
    #[error("the request's body ended before its end")]
    Upload,
}

/// How often an answer may be announced before it comes.
const INTERIM: usize = 16;
/// Headers that there is always room for, once there was.
const ROOM: usize = 64;
/// What is read at once of a head, and at first of a body.
const LITTLE: usize = 8 * 1_024;
/// The most that is read of a body at once; one whose reader is slow takes two to four times as much. No head of an
/// answer may be longer.
const MUCH: usize = 240 * 1_024;

impl Connection {
    pub(super) fn over(dialed: Dialed) -> Self {
        Self {
            stream: dialed.into(),
            opened: Instant::now(),
            outbox: Outbox::default(),
            method: Method::GET,
            read: BytesMut::new(),
            searched: 0,
            appetite: LITTLE,
            is_grown: false,
            interim: 0,
            waiting: None,
            heard: false,
            framing: Framing::Nothing,
            keeps: true,
            headers: HeaderMap::new(),
        }
    }

    pub(super) fn opened(&self) -> Instant {
        self.opened
    }

    /// Begins an exchange; the body is taken out of the request. What is given back is for the head of the answer.
    pub(super) fn begin(&mut self, request: &mut Request<RequestBody>) -> Response<()> {
        self.method = request.method().clone();
        self.outbox.put(request);
        self.searched = 0;
        self.interim = 0;
        self.heard = false;
        self.keeps = false;
        let mut answer = Response::new(());
        *answer.headers_mut() = mem::take(&mut self.headers);
        answer
    }

    /// Keeps the map of a request that has its answer, for the next answer's head.
    pub(super) fn reuse(&mut self, mut headers: HeaderMap) {
        if headers.capacity() <= ROOM {
            headers.clear();
            self.headers = headers;
        }
    }

    /// The body of a request of which nothing was sent.
    pub(super) fn take_untouched(&mut self) -> Option<RequestBody> {
        self.outbox.take_untouched()
    }

    /// Whether anything of an answer came.
    pub(super) fn has_heard(&self) -> bool {
        self.heard
    }

    /// Sends on, and reads the head of the answer.
    ///
    /// # Errors
    /// When there is none. One that comes is taken though the request could not be sent (RFC 9112 §9.5).
    pub(super) fn poll_answer(&mut self, answer: &mut Response<()>, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        match self.outbox.poll(&mut self.stream, cx) {
            Poll::Ready(Err(Unsendable::Body)) => return Poll::Ready(Err(Broken::Upload)),
            Poll::Ready(Err(Unsendable::Io(error))) if self.outbox.is_untouched() => {
                return Poll::Ready(Err(Broken::Io(error)));
            }
            Poll::Ready(_) | Poll::Pending => {}
        }
        loop {
            if let Some(known) = self.head(answer)? {
                self.framing = known.framing;
                self.keeps = known.keeps;
                return Poll::Ready(Ok(()));
            }
            if self.read.len() >= MUCH {
                return Poll::Ready(Err(Broken::Nonsense("its head is too long")));
            }
            match ready!(self.poll_more(cx))? {
                0 => return Poll::Ready(Err(Broken::Closed)),
                _ => self.heard = true,
            }
        }
    }

    /// The head of the answer, once it is whole; those that only say that one will come are passed over.
    fn head(&mut self, answer: &mut Response<()>) -> Result<Option<Known>, Broken> {
        while let Some(length) = head::end(&self.read, self.searched) {
            if length > MUCH {
                return Err(Broken::Nonsense("its head is too long"));
            }
            self.searched = 0;
            if let Some(known) = head::read(self.read.split_to(length), &self.method, answer)? {
                return Ok(Some(known));
            }
            self.interim = self.interim.saturating_add(1);
            if self.interim > INTERIM {
                return Err(Broken::Nonsense("it says again and again that an answer will come"));
            }
        }
        self.searched = self.read.len();
        Ok(None)
    }

    /// Sends what is left of a request whose answer has begun.
    pub(super) fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Where the other side takes no more, its answer says why.
        let _ = ready!(self.outbox.poll(&mut self.stream, cx));
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
        Poll::Ready(())
    }

    /// Whether nothing is left of it.
    pub(super) fn has_no_rest(&self) -> bool {
        self.outbox.is_done()
    }

    /// The next data of the answer's body.
    pub(super) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        if self.outbox.is_broken() {
            return Poll::Ready(Some(Err(Broken::Upload)));
        }
        if !self.outbox.is_done() {
            self.waiting = Some(cx.waker().clone());
        }
        loop {
            let length = self.read.len();
            let taken = match &mut self.framing {
                Framing::Nothing | Framing::Length(0) => return Poll::Ready(None),
                Framing::Chunked(chunks) => match chunks.next(&mut self.read)? {
                    Next::Data(data) => return Poll::Ready(Some(Ok(data))),
                    Next::Over => return Poll::Ready(None),
                    Next::More => 0,
                },
                Framing::Length(left) => {
                    let taken = usize::try_from(*left).map_or(length, |left| left.min(length));
                    *left = left.saturating_sub(taken.try_into().unwrap_or(u64::MAX));
                    taken
                }
                Framing::UntilClose => length,
            };
            if taken > 0 {
                return Poll::Ready(Some(Ok(self.read.split_to(taken).freeze())));
            }
            match (ready!(self.poll_more(cx))?, &self.framing) {
                (0, Framing::UntilClose) => self.framing = Framing::Nothing,
                (0, _) => return Poll::Ready(Some(Err(Broken::Closed))),
                _ => {}
            }
        }
    }

    /// Whether nothing of the answer is still to come.
    pub(super) fn is_over(&self) -> bool {
        match &self.framing {
            Framing::Nothing | Framing::Length(0) => true,
            Framing::Chunked(chunks) => chunks.are_over(),
            Framing::Length(_) | Framing::UntilClose => false,
        }
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        match &self.framing {
            Framing::Nothing => SizeHint::with_exact(0),
            Framing::Length(left) => SizeHint::with_exact(*left),
            Framing::Chunked(_) | Framing::UntilClose => SizeHint::default(),
        }
    }

    /// Whether it is good for another request. What came beyond the answer nobody asked for, and nobody knows what it is.
    pub(super) fn is_good(&self) -> bool {
        self.keeps && self.is_over() && self.outbox.is_over() && self.read.is_empty()
    }

    /// Leaves it until it is needed again.
    pub(super) fn rest(&mut self) {
        if mem::take(&mut self.is_grown) {
            self.appetite = LITTLE;
            self.read = BytesMut::new();
        }
        self.outbox.rest();
    }

    /// Whether the other side has left it alone while nothing was asked of it.
    pub(super) fn is_quiet(&mut self) -> bool {
        self.stream.is_quiet()
    }

    /// The connection after a 101.
    pub(super) fn upgraded(self) -> Upgraded {
        Upgraded {
            ahead: self.read,
            stream: self.stream,
        }
    }

    /// Reads; 0 bytes are the end.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        // Of a short message much is left, and the next may have it.
        let room = self.read.capacity().saturating_sub(self.read.len());
        if room < self.appetite / 2 {
            self.read.reserve(self.appetite);
        }
        let room = self.read.capacity().saturating_sub(self.read.len());
        let length = ready!(poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.read))?;
        if length >= room {
            self.appetite = self.appetite.saturating_mul(2).min(MUCH);
            self.is_grown = true;
        } else if length < self.appetite / 4 {
            self.appetite = (self.appetite / 2).max(LITTLE);
        }
        Poll::Ready(Ok(length))
    }
}

#[cfg(test)]
mod tests;
