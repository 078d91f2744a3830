//! Heads of messages: the request's as it is written, the answer's as it is read (RFC 9112 §2.1).

use std::mem::MaybeUninit;

use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body as _;
use httparse::{ParserConfig, Status};
use hyper::ext::ReasonPhrase;
use memchr::memchr_iter;

use super::{Broken, chunks::Chunks};
use crate::upstream::upload::RequestBody;

/// How the end of a request's body is told (RFC 9112 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Nothing,
    /// Bytes that are still to be sent.
    Length(u64),
    Chunked,
}

/// How the end of an answer's body is told (RFC 9112 §6.3).
#[derive(Debug)]
pub(super) enum Framing {
    Nothing,
    /// Bytes that are still to come.
    Length(u64),
    Chunked(Chunks),
    /// It ends with the connection.
    UntilClose,
}

/// What a connection has to know of an answer's head.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) framing: Framing,
    /// Whether another request may follow (RFC 9112 §9.3).
    pub(super) keeps: bool,
}

/// No answer has more lines in its head.
const LINES: usize = 100;

/// Writes the head of a request. How its body is framed is said here and nowhere else.
pub(super) fn write(request: &Request<RequestBody>, out: &mut Vec<u8>) -> Sent {
    let sent = framing(request.body());
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    put(out, &[request.method().as_str().as_bytes(), b" ", target.as_bytes()]);
    put(out, &[b" HTTP/1.1\r\n"]);
    for (name, value) in request.headers() {
        if !matches!(*name, header::CONTENT_LENGTH | header::TRANSFER_ENCODING) {
            put(out, &[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
        }
    }
    match sent {
        // Some servers insist on a length where a body could be (RFC 9110 §8.6).
        Sent::Nothing if matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH) => {
            put(out, &[b"content-length: 0\r\n"]);
        }
        Sent::Nothing => {}
        Sent::Length(length) => {
            let mut digits = itoa::Buffer::new();
            put(out, &[b"content-length: ", digits.format(length).as_bytes(), b"\r\n"]);
        }
        Sent::Chunked => put(out, &[b"transfer-encoding: chunked\r\n"]),
    }
    put(out, &[b"\r\n"]);
    sent
}

fn put(out: &mut Vec<u8>, pieces: &[&[u8]]) {
    for piece in pieces {
        out.extend_from_slice(piece);
    }
}

fn framing(body: &RequestBody) -> Sent {
    match (body.is_end_stream(), body.size_hint().exact()) {
        (true, _) => Sent::Nothing,
        (false, Some(length)) => Sent::Length(length),
        (false, None) => Sent::Chunked,
    }
}

/// Where a head ends, when it does. Nothing is looked for before `from`, up to where it was looked for before.
pub(super) fn end(bytes: &[u8], from: usize) -> Option<usize> {
    // The line's end that the next bytes may complete.
    let from = from.saturating_sub(3);
    let ends = memchr_iter(b'\n', bytes.get(from..)?);
    ends.map(|at| at.saturating_add(from)).find_map(|at| {
        let next = at.saturating_add(1);
        match bytes.get(next..)? {
            [b'\n', ..] => next.checked_add(1),
            [b'\r', b'\n', ..] => next.checked_add(2),
            _ => None,
        }
    })
}

/// Reads a head that is whole; none where it only says that an answer will come (RFC 9110 §15.2). What concerns the
/// connection alone is left out, where it names nothing else.
///
/// # Errors
/// When it is none, or says in two ways where its body ends.
pub(super) fn read(head: BytesMut, method: &Method, answer: &mut Response<()>) -> Result<Option<Known>, Broken> {
    let head = head.freeze();
    let mut lines = [const { MaybeUninit::uninit() }; LINES];
    let mut parsed = httparse::Response::new(&mut []);
    match ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, &head, &mut lines) {
        Ok(Status::Complete(length)) if length == head.len() => {}
        Ok(_) => return Err(Broken::Nonsense("its head does not end where it seems to")),
        Err(httparse::Error::TooManyHeaders) => return Err(Broken::Nonsense("its head has more than 100 lines")),
        Err(_) => return Err(Broken::Nonsense("its head is none of HTTP/1.1")),
    }
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(Broken::Nonsense("it has no proper status"))?;
    if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(None);
    }
    let reason = parsed.reason.unwrap_or_default();
    if Some(reason) != status.canonical_reason()
        && let Ok(reason) = ReasonPhrase::try_from(reason.as_bytes())
    {
        answer.extensions_mut().insert(reason);
    }
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.clear();
    headers.reserve(parsed.headers.len());
    let mut lines = Lines::of(parsed.version == Some(1));
    for line in &*parsed.headers {
        let name = HeaderName::from_bytes(line.name.as_bytes());
        let name = name.map_err(|_| Broken::Nonsense("a header has no proper name"))?;
        let value = HeaderValue::from_maybe_shared(head.slice_ref(line.value));
        let value = value.map_err(|_| Broken::Nonsense("a header has no proper value"))?;
        if lines.are_passed_on(&name, &value)? {
            headers.append(name, value);
        }
    }
    Ok(Some(lines.conclude(method, status, headers)))
}

/// What the lines say of the connection and of the body's end.
#[derive(Debug)]
struct Lines {
    is_http_11: bool,
    length: Option<u64>,
    is_length_repeated: bool,
    coding: Option<Coding>,
    keep_alive: bool,
    close: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Chunked,
    /// None, as it was once said.
    Identity,
}

impl Lines {
    fn of(is_http_11: bool) -> Self {
        Self {
            is_http_11,
            length: None,
            is_length_repeated: false,
            coding: None,
            keep_alive: false,
            close: false,
        }
    }

    /// Takes note of a line, and says whether others have to see it, too.
    fn are_passed_on(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<bool, Broken> {
        match *name {
            header::CONTENT_LENGTH => {
                let is_first = self.length.is_none();
                for length in value.as_bytes().split(|b| *b == b',') {
                    let length = digits(length.trim_ascii()).ok_or(Broken::Nonsense("its length is no number"))?;
                    self.is_length_repeated |= self.length.is_some();
                    if self.length.replace(length).is_some_and(|before| before != length) {
                        return Err(Broken::Nonsense("it has several lengths"));
                    }
                }
                Ok(is_first)
            }
            header::TRANSFER_ENCODING => {
                let coding = match value.as_bytes() {
                    it if it.eq_ignore_ascii_case(b"chunked") => Coding::Chunked,
                    it if it.eq_ignore_ascii_case(b"identity") => Coding::Identity,
                    _ => return Err(Broken::Nonsense("it has a transfer coding other than chunked")),
                };
                match (self.coding.replace(coding), self.is_http_11) {
                    (None, true) => Ok(false),
                    (Some(_), _) => Err(Broken::Nonsense("it has several transfer codings")),
                    (None, false) => Err(Broken::Nonsense("it has a transfer coding in HTTP/1.0")),
                }
            }
            header::CONNECTION => {
                let mut names_others = false;
                for option in value.as_bytes().split(|b| *b == b',').map(<[u8]>::trim_ascii) {
                    match option {
                        it if it.eq_ignore_ascii_case(b"keep-alive") => self.keep_alive = true,
                        it if it.eq_ignore_ascii_case(b"close") => self.close = true,
                        _ => names_others = true,
                    }
                }
                Ok(names_others)
            }
            _ => Ok(true),
        }
    }

    fn conclude(self, method: &Method, status: StatusCode, headers: &mut HeaderMap) -> Known {
        match (self.coding, self.length) {
            // Where both stand, the chunks tell where the body ends (RFC 9112 §6.3).
            (Some(_), Some(_)) => drop(headers.remove(header::CONTENT_LENGTH)),
            // Said several times, it is passed on once (RFC 9110 §8.6).
            (None, Some(length)) if self.is_length_repeated => {
                headers.insert(header::CONTENT_LENGTH, length.into());
            }
            _ => {}
        }
        let has_none = *method == Method::HEAD
            || status.is_informational()
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let framing = match (has_none, self.coding, self.length) {
            (true, _, _) => Framing::Nothing,
            (false, Some(Coding::Chunked), _) => Framing::Chunked(Chunks::default()),
            (false, None, Some(length)) => Framing::Length(length),
            (false, Some(Coding::Identity), _) | (false, None, None) => Framing::UntilClose,
        };
        let keeps = !self.close
            && (self.is_http_11 || self.keep_alive)
            && !matches!(framing, Framing::UntilClose)
            && status != StatusCode::SWITCHING_PROTOCOLS;
        Known { framing, keeps }
    }
}

/// A number, and nothing that some programs take for one.
fn digits(text: &[u8]) -> Option<u64> {
    let digits = Some(text).filter(|text| text.iter().all(u8::is_ascii_digit))?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}
