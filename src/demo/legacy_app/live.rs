//! News of the coffee pot, over an event stream and over a WebSocket (RFC 6455), for as long as somebody listens.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinSet,
    time::{Interval, MissedTickBehavior, interval, timeout},
};

use crate::demo::site::{self, Answer};

const MOST_SOCKETS: usize = 1_024;
const EVERY: Duration = Duration::from_secs(1);
/// For a handshake to end, and for a message to go out.
const PATIENCE: Duration = Duration::from_secs(15);

const CONDITIONS: [&str; 4] = ["full", "half full", "all but empty", "empty; more is brewing"];

/// Looks at the pot, the first time at once.
#[derive(Debug)]
struct Looks {
    clock: Interval,
    conditions: std::iter::Enumerate<std::iter::Cycle<std::array::IntoIter<&'static str, 4>>>,
}

impl Looks {
    fn begin() -> Self {
        let mut clock = interval(EVERY);
        // Nobody wants to hear afterwards what they were too slow for.
        clock.set_missed_tick_behavior(MissedTickBehavior::Skip);
        Self {
            clock,
            conditions: CONDITIONS.into_iter().cycle().enumerate(),
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<String>> {
        ready!(self.clock.poll_tick(context));
        let seen = self.conditions.next();
        Poll::Ready(seen.map(|(number, condition)| look(number.saturating_add(1), condition)))
    }

    async fn next(&mut self) -> Option<String> {
        std::future::poll_fn(|context| self.poll(context)).await
    }
}

fn look(number: usize, condition: &str) -> String {
    format!("Look {number}: the pot is {condition}.")
}

/// An event stream; who loses it is to come back after a second.
pub(super) fn events() -> Answer {
    let mut answer = site::answer(StatusCode::OK, "text/event-stream", Bytes::new());
    answer
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    *answer.body_mut() = Events(Looks::begin()).boxed();
    answer
}

struct Events(Looks);

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let news = ready!(self.0.poll(context));
        Poll::Ready(news.map(|news| Ok(Frame::data(format!("retry: 1000\ndata: {news}\n\n").into()))))
    }
}

/// All WebSockets that are open; they close when it is dropped.
#[derive(Debug, Default)]
pub(super) struct Sockets(Mutex<JoinSet<()>>);

impl Sockets {
    /// Answers the handshake (RFC 6455 §4.2.2).
    pub(super) fn open(&self, request: &Request<Bytes>) -> Answer {
        let upgrade = request.extensions().get::<OnUpgrade>();
        let Some((accept, upgrade)) = accept(request.headers()).zip(upgrade) else {
            return upgrade_required();
        };
        let mut sockets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while sockets.try_join_next().is_some() {}
        if sockets.len() >= MOST_SOCKETS {
            return site::text(StatusCode::SERVICE_UNAVAILABLE, "too many look at the pot\n");
        }
        sockets.spawn(converse(upgrade.clone()));
        switching(accept)
    }
}

fn accept(headers: &HeaderMap) -> Option<HeaderValue> {
    let is = |name, wanted: &str| {
        let value = headers.get(name).map(HeaderValue::as_bytes);
        value.is_some_and(|value| value.eq_ignore_ascii_case(wanted.as_bytes()))
    };
    let key = headers.get(header::SEC_WEBSOCKET_KEY)?;
    (is(header::UPGRADE, "websocket") && is(header::SEC_WEBSOCKET_VERSION, "13"))
        .then(|| accept_key(key.as_bytes()))
        .flatten()
}

/// The proof that the handshake was understood; what SHA-1 lacks does not matter for it.
fn accept_key(key: &[u8]) -> Option<HeaderValue> {
    let mut hash = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(key);
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    HeaderValue::from_str(&STANDARD.encode(hash.finish())).ok()
}

fn switching(accept: HeaderValue) -> Answer {
    let mut answer = Answer::new(http_body_util::Empty::new().boxed());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    answer.headers_mut().insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    to_websocket(answer)
}

fn upgrade_required() -> Answer {
    let mut answer = site::text(StatusCode::UPGRADE_REQUIRED, "here is a WebSocket\n");
    let version = HeaderValue::from_static("13");
    answer.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, version);
    to_websocket(answer)
}

fn to_websocket(mut answer: Answer) -> Answer {
    let headers = answer.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    answer
}

/// An empty close frame (RFC 6455 §5.5.1).
const GOODBYE: [u8; 2] = [0x88, 0];

async fn converse(upgrade: OnUpgrade) {
    if let Ok(Ok(upgraded)) = timeout(PATIENCE, upgrade).await {
        // Whoever has gone hears nothing more.
        let _ = tell(TokioIo::new(upgraded)).await;
    }
}

async fn tell(mut socket: TokioIo<Upgraded>) -> std::io::Result<()> {
    let mut looks = Looks::begin();
    let mut heard = [0; 64];
    loop {
        let frame = tokio::select! {
            news = looks.next() => news.and_then(|news| text_frame(&news)),
            // The page says nothing but goodbye.
            read = socket.read(&mut heard) => read.map(|_| None)?,
        };
        let goes_on = frame.is_some();
        let frame = frame.unwrap_or_else(|| GOODBYE.to_vec());
        timeout(PATIENCE, socket.write_all(&frame)).await??;
        if !goes_on {
            return socket.shutdown().await;
        }
    }
}

/// A whole message in one frame, which a server sends unmasked (RFC 6455 §5.2); `None` for more than 125 bytes.
fn text_frame(text: &str) -> Option<Vec<u8>> {
    let length = u8::try_from(text.len()).ok().filter(|length| *length < 126)?;
    Some([&[0x81, length], text.as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;
    use crate::demo::legacy_app::LegacyApp;

    #[test]
    fn the_accept_key_is_that_of_the_example_in_the_standard() {
        let accept = accept_key(b"dGhlIHNhbXBsZSBub25jZQ==").unwrap();
        assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[tokio::test]
    async fn a_socket_has_news_until_it_hears_goodbye() {
        let application = LegacyApp::listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let mut socket = shake_hands(&application).await;
        let news = b"\x81\x18Look 1: the pot is full.";
        let mut frame = [0; 26];
        socket.read_exact(&mut frame).await.unwrap();
        assert_eq!(&frame, news);
        socket.write_all(&[0x88, 0x80, 0, 0, 0, 0]).await.unwrap();
        assert_eq!(rest_of(socket).await, GOODBYE);
    }

    #[tokio::test]
    async fn a_socket_closes_with_its_application() {
        let application = LegacyApp::listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let mut socket = shake_hands(&application).await;
        socket.read_u8().await.unwrap();
        drop(application);
        rest_of(socket).await;
    }

    #[test]
    fn a_request_without_a_handshake_is_told_to_make_one() {
        let answer = Sockets::default().open(&Request::new(Bytes::new()));
        assert_eq!(answer.status(), StatusCode::UPGRADE_REQUIRED);
        assert_eq!(answer.headers()["sec-websocket-version"], "13");
    }

    async fn shake_hands(application: &LegacyApp) -> TcpStream {
        let mut socket = TcpStream::connect(application.address()).await.unwrap();
        let request = "GET /live/socket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(socket.read_u8().await.unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "));
        socket
    }

    async fn rest_of(mut socket: TcpStream) -> Vec<u8> {
        let mut rest = Vec::new();
        let read = timeout(PATIENCE, socket.read_to_end(&mut rest)).await;
        read.expect("it goes on").unwrap();
        rest
    }

    #[test]
    fn every_condition_fits_into_a_short_frame() {
        for condition in CONDITIONS {
            let text = look(usize::MAX, condition);
            assert_eq!(text_frame(&text).unwrap()[1], u8::try_from(text.len()).unwrap());
        }
        assert_eq!(text_frame(&"x".repeat(126)), None);
    }
}
