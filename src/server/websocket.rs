//! A WebSocket in one stream of HTTP/2 (RFC 8441): from here on it is asked for as over HTTP/1.1 (RFC 6455 §4.1), so that
//! all that holds there holds here.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::ext::Protocol;

use super::connection::plain;
use crate::{secret::random_bytes, upstream::body::Body};

/// What a server adds to the key before it hashes both (RFC 6455 §1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What belongs to HTTP/1.1 alone.
const OF_THE_HANDSHAKE: [HeaderName; 4] = [
    header::CONNECTION,
    header::UPGRADE,
    header::SEC_WEBSOCKET_KEY,
    header::SEC_WEBSOCKET_ACCEPT,
];

/// A WebSocket that was asked for, until there is an answer.
#[derive(Debug)]
pub(super) struct Handshake {
    /// What an application that knows WebSockets answers.
    accept: String,
}

impl Handshake {
    /// Makes a request for a WebSocket of an extended CONNECT; none of any other request, which stays as it is.
    pub(super) fn begin<B>(request: &mut Request<B>) -> Option<Self> {
        let protocol = request.extensions().get::<Protocol>()?;
        if request.method() != Method::CONNECT || protocol.as_str() != "websocket" {
            return None;
        }
        let key = STANDARD.encode(random_bytes::<16>());
        let accept = accepting(&key);
        *request.method_mut() = Method::GET;
        let headers = request.headers_mut();
        remove(headers);
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_KEY, HeaderValue::try_from(key).ok()?);
        Some(Self { accept })
    }

    /// The answer as HTTP/2 has it, and whether the stream is a WebSocket from now on. Any success would make it one, so
    /// an application that does not know WebSockets has failed (RFC 8441 §5).
    pub(super) fn end(&self, mut response: Response<Body>) -> (Response<Body>, Established) {
        match response.status() {
            StatusCode::SWITCHING_PROTOCOLS if self.is_accepted(response.headers()) => {
                *response.status_mut() = StatusCode::OK;
                remove(response.headers_mut());
                response.headers_mut().remove(header::CONTENT_LENGTH);
                (response, Established::Yes)
            }
            status if status.is_success() || status.is_informational() => {
                let failure = plain(StatusCode::BAD_GATEWAY, "There is no WebSocket here.\n");
                (failure, Established::No)
            }
            _ => (response, Established::No),
        }
    }

    fn is_accepted(&self, headers: &HeaderMap) -> bool {
        let accept = headers.get(header::SEC_WEBSOCKET_ACCEPT);
        accept.is_some_and(|accept| accept.as_bytes().trim_ascii() == self.accept.as_bytes())
    }
}

/// Whether a stream has become a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Established {
    Yes,
    No,
}

fn remove(headers: &mut HeaderMap) {
    for name in OF_THE_HANDSHAKE {
        headers.remove(name);
    }
}

/// The hash is no secret and protects nothing: it shows that the other end knows the protocol.
pub(super) fn accepting(key: &str) -> String {
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{GUID}").as_bytes());
    STANDARD.encode(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_accepted_as_the_standard_says() {
        // RFC 6455 §1.3.
        assert_eq!(accepting("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn only_a_connect_for_a_websocket_becomes_one() {
        let begun = |method: Method, protocol: Option<&'static str>| {
            let mut request = Request::builder().method(method).uri("http://a/").body(()).unwrap();
            if let Some(protocol) = protocol {
                request.extensions_mut().insert(Protocol::from_static(protocol));
            }
            Handshake::begin(&mut request).map(|_| request)
        };
        let request = begun(Method::CONNECT, Some("websocket")).unwrap();
        assert_eq!(
            (request.method(), &request.headers()["upgrade"]),
            (&Method::GET, &HeaderValue::from_static("websocket"))
        );
        assert!(begun(Method::CONNECT, None).is_none());
        assert!(begun(Method::CONNECT, Some("connect-udp")).is_none());
        assert!(begun(Method::CONNECT, Some("WebSocket")).is_none());
        assert!(begun(Method::GET, Some("websocket")).is_none());
    }

    #[test]
    fn only_the_right_switch_makes_one() {
        let handshake = Handshake { accept: "right".into() };
        let end = |status: u16, accept: &str| {
            let response = Response::builder()
                .status(status)
                .header("sec-websocket-accept", accept);
            let (response, established) = handshake.end(response.body(Body::empty()).unwrap());
            (response.status().as_u16(), established)
        };
        assert_eq!(end(101, "right"), (200, Established::Yes));
        assert_eq!(end(101, "wrong"), (502, Established::No));
        assert_eq!(end(200, "right"), (502, Established::No));
        assert_eq!(end(403, "right"), (403, Established::No));
    }
}
