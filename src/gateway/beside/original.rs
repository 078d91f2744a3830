//! The request that another proxy asks about: read as it would be read if it had come here, or not at all.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, header, request::Parts};

use super::Manner;
use crate::{
    policy::Scheme,
    upstream::target::{AmbiguousTarget, Target},
};

const FORWARDED_METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
const ORIGINAL_METHOD: HeaderName = HeaderName::from_static("x-original-method");
const ORIGINAL_URL: HeaderName = HeaderName::from_static("x-original-url");
const ORIGINAL_URI: HeaderName = HeaderName::from_static("x-original-uri");

const REWRITE_URL: HeaderName = HeaderName::from_static("x-rewrite-url");

const SEC_WEBSOCKET_KEY: HeaderName = HeaderName::from_static("sec-websocket-key");
const SEC_WEBSOCKET_VERSION: HeaderName = HeaderName::from_static("sec-websocket-version");

/// What a request is about, and what its client sent with it.
#[derive(Debug)]
pub(in crate::gateway) struct Original {
    /// With its `Host`; what concerned the body alone is gone.
    pub(super) parts: Parts,
    pub(super) target: Target,
    pub(super) scheme: Scheme,
    /// Where the client is.
    pub(super) address: IpAddr,
}

/// Why a question gets no answer that lets anybody in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadQuestion {
    #[error("{0} asks about others' requests and is no trusted proxy")]
    Untrusted(IpAddr),
    /// Only under an address that no browser uses: whoever could ask in public would be told their own tokens.
    #[error("the question came to the host of a route, not to the gateway's own address")]
    InPublic,
    #[error("the question does not name {0} exactly once")]
    Unnamed(&'static str),
    #[error("the question names the original twice, and not alike: {0}")]
    Contradiction(&'static str),
    #[error("what the question names as {0} cannot be that")]
    Unreadable(&'static str),
    #[error("the question does not say where the client is; X-Forwarded-For has to")]
    NoAddress,
    #[error("{0} is not the scheme of this route")]
    Scheme(&'static str),
    #[error("the route is not one that is asked about in this manner")]
    NotAsked,
}

/// The parts of a request as somebody named them; nothing of it is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Named<'a> {
    pub(super) method: &'a str,
    pub(super) scheme: &'a str,
    /// Host and port.
    pub(super) authority: &'a str,
    /// Path and query.
    pub(super) uri: &'a str,
}

/// The same, each by itself what it should be.
struct Line {
    method: Method,
    scheme: Scheme,
    host: HeaderValue,
    uri: Uri,
}

/// What a question cannot be about, and what it lacks.
#[derive(Debug)]
pub(super) enum Unread {
    Question(BadQuestion),
    /// The original itself can be read in more than one way.
    Target(AmbiguousTarget),
}

impl From<BadQuestion> for Unread {
    fn from(error: BadQuestion) -> Self {
        Self::Question(error)
    }
}

impl Original {
    /// Reads the original of a question over HTTP, where each manner has its own place for it.
    ///
    /// # Errors
    /// When the original is not named exactly once, or could be read in two ways.
    pub(super) fn of(manner: Manner<'_>, question: Parts, address: IpAddr) -> Result<Self, Unread> {
        let line = Named::by(manner, &question)?.line(&question.headers)?;
        Self::with(line, question.headers, address)
    }

    /// Reads an original whose parts are named, with the headers that its client sent. Some applications would believe
    /// those that name it in another way.
    ///
    /// # Errors
    /// When it could be read in two ways.
    pub(super) fn named(named: Named<'_>, headers: HeaderMap, address: IpAddr) -> Result<Self, Unread> {
        let line = named.line(&headers)?;
        Self::with(line, headers, address)
    }

    fn with(line: Line, mut headers: HeaderMap, address: IpAddr) -> Result<Self, Unread> {
        headers.insert(header::HOST, line.host);
        // The question's own body is not the original's.
        for framing in [header::CONTENT_LENGTH, header::TRANSFER_ENCODING] {
            headers.remove(framing);
        }
        // Proxies keep `Upgrade` to themselves; these a page cannot write, and only a handshake has them (RFC 6455 §4.1). One
        // in HTTP/2 has no key (RFC 8441 §5).
        if headers.contains_key(&SEC_WEBSOCKET_KEY) || headers.contains_key(&SEC_WEBSOCKET_VERSION) {
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        }
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.method = line.method;
        parts.uri = line.uri;
        parts.headers = headers;
        let target = Target::read(&parts).map_err(Unread::Target)?;
        Ok(Self {
            parts,
            target,
            scheme: line.scheme,
            address,
        })
    }
}

impl<'a> Named<'a> {
    fn by(manner: Manner<'a>, question: &'a Parts) -> Result<Self, BadQuestion> {
        let headers = &question.headers;
        Ok(match manner {
            Manner::Status => {
                let url = needed(headers, &ORIGINAL_URL, "X-Original-URL")?;
                let method = needed(headers, &ORIGINAL_METHOD, "X-Original-Method")?;
                Self::by_url(method, url).ok_or(BadQuestion::Unreadable("X-Original-URL"))?
            }
            Manner::Whole => Self {
                method: needed(headers, &FORWARDED_METHOD, "X-Forwarded-Method")?,
                scheme: needed(headers, &FORWARDED_PROTO, "X-Forwarded-Proto")?,
                authority: needed(headers, &FORWARDED_HOST, "X-Forwarded-Host")?,
                uri: needed(headers, &FORWARDED_URI, "X-Forwarded-Uri")?,
            },
            Manner::Envoy(uri) => Self {
                method: question.method.as_str(),
                scheme: needed(headers, &FORWARDED_PROTO, "X-Forwarded-Proto")?,
                authority: match (question.uri.authority(), needed(headers, &header::HOST, "Host")) {
                    (_, Ok(host)) => host,
                    (Some(authority), Err(_)) if question.version == Version::HTTP_2 => authority.as_str(),
                    (_, Err(error)) => return Err(error),
                },
                uri,
            },
        })
    }

    fn by_url(method: &'a str, url: &'a str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let (authority, uri) = rest.split_at_checked(rest.find('/')?)?;
        Some(Self {
            method,
            scheme,
            authority,
            uri,
        })
    }
}

impl Named<'_> {
    /// Each by itself, beside headers that do not name it otherwise.
    fn line(self, headers: &HeaderMap) -> Result<Line, BadQuestion> {
        self.is_uncontradicted(headers)?;
        // What follows a fragment's sign would be dropped here, and may be kept elsewhere.
        let path = Some(self.uri).filter(|uri| uri.starts_with('/') && !uri.contains('#'));
        Ok(Line {
            method: Method::from_bytes(self.method.as_bytes()).map_err(|_| BadQuestion::Unreadable("the method"))?,
            scheme: match self.scheme {
                "http" | "ws" => Scheme::Http,
                "https" | "wss" => Scheme::Https,
                _ => return Err(BadQuestion::Unreadable("the scheme")),
            },
            host: HeaderValue::try_from(self.authority).map_err(|_| BadQuestion::Unreadable("the host"))?,
            uri: path
                .and_then(|path| path.parse().ok())
                .ok_or(BadQuestion::Unreadable("the path"))?,
        })
    }

    /// A header that names the original and says something else was written by the client, or by mistake.
    fn is_uncontradicted(self, headers: &HeaderMap) -> Result<(), BadQuestion> {
        let alike = [
            (&FORWARDED_METHOD, "X-Forwarded-Method", self.method),
            (&FORWARDED_PROTO, "X-Forwarded-Proto", self.scheme),
            (&FORWARDED_HOST, "X-Forwarded-Host", self.authority),
            (&FORWARDED_URI, "X-Forwarded-Uri", self.uri),
            (&ORIGINAL_METHOD, "X-Original-Method", self.method),
            (&ORIGINAL_URI, "X-Original-URI", self.uri),
            (&REWRITE_URL, "X-Rewrite-URL", self.uri),
        ];
        let says = |name: &HeaderName, is_so: &dyn Fn(&[u8]) -> bool| {
            headers.get_all(name).iter().all(|line| is_so(line.as_bytes()))
        };
        for (name, shown, expected) in alike {
            if !says(name, &|line| line == expected.as_bytes()) {
                return Err(BadQuestion::Contradiction(shown));
            }
        }
        let is_url = |line: &[u8]| {
            let parts = [self.scheme, "://", self.authority];
            let rest = parts
                .iter()
                .try_fold(line, |rest, part| rest.strip_prefix(part.as_bytes()));
            rest == Some(self.uri.as_bytes())
        };
        match says(&ORIGINAL_URL, &is_url) {
            true => Ok(()),
            false => Err(BadQuestion::Contradiction("X-Original-URL")),
        }
    }
}

/// What stands there exactly once, and is not empty.
fn needed<'a>(headers: &'a HeaderMap, name: &HeaderName, shown: &'static str) -> Result<&'a str, BadQuestion> {
    let mut lines = headers.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (Some(only), None) => match only.to_str() {
            Ok(text) if !text.is_empty() => Ok(text),
            Ok(_) | Err(_) => Err(BadQuestion::Unreadable(shown)),
        },
        _ => Err(BadQuestion::Unnamed(shown)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(manner: Manner<'_>, headers: &[(&str, &str)]) -> Result<String, String> {
        let mut question = Request::get("/oauth2/auth");
        for (name, value) in headers {
            question = question.header(*name, *value);
        }
        let (question, ()) = question.body(()).unwrap().into_parts();
        match Original::of(manner, question, [203, 0, 113, 7].into()) {
            Ok(Original { parts, target, .. }) => Ok(format!(
                "{} {} {}",
                parts.method,
                target.host(),
                target.path_and_query()
            )),
            Err(Unread::Question(error)) => Err(error.to_string()),
            Err(Unread::Target(error)) => Err(error.to_string()),
        }
    }

    const FORWARDED: [(&str, &str); 4] = [
        ("x-forwarded-method", "PUT"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "Wiki.example.com"),
        ("x-forwarded-uri", "/%61?b=c"),
    ];
    const ORIGINAL: [(&str, &str); 2] = [
        ("x-original-method", "PUT"),
        ("x-original-url", "https://wiki.example.com/a?b=https://x/"),
    ];

    #[test]
    fn each_manner_has_its_own_place() {
        assert_eq!(read(Manner::Whole, &FORWARDED).unwrap(), "PUT wiki.example.com /a?b=c");
        assert_eq!(
            read(Manner::Status, &ORIGINAL).unwrap(),
            "PUT wiki.example.com /a?b=https://x/"
        );
        let envoy = [("x-forwarded-proto", "http"), ("host", "wiki.example.com")];
        assert_eq!(read(Manner::Envoy("/x"), &envoy).unwrap(), "GET wiki.example.com /x");
        assert!(read(Manner::Whole, &ORIGINAL).is_err() && read(Manner::Status, &FORWARDED).is_err());
    }

    #[test]
    fn what_is_missing_or_stands_twice_is_not_guessed() {
        for left_out in 0..FORWARDED.len() {
            let mut some = FORWARDED.to_vec();
            let (name, _) = some.remove(left_out);
            assert!(read(Manner::Whole, &some).is_err(), "without {name}");
            let twice = [&FORWARDED[..], &FORWARDED[left_out..=left_out]].concat();
            assert!(read(Manner::Whole, &twice).is_err(), "twice {name}");
        }
        assert!(read(Manner::Status, &ORIGINAL[..1]).is_err() && read(Manner::Status, &ORIGINAL[1..]).is_err());
    }

    #[test]
    fn another_name_for_the_original_must_be_the_same() {
        for (name, value) in [
            ("x-original-url", "https://wiki.example.com/public"),
            ("x-original-uri", "/public"),
            ("x-original-method", "GET"),
        ] {
            let both = [&FORWARDED[..], &[(name, value)]].concat();
            assert!(read(Manner::Whole, &both).unwrap_err().contains("not alike"), "{name}");
        }
        for (name, value) in FORWARDED {
            let both = [&ORIGINAL[..], &[(name, value)]].concat();
            let agrees = name == "x-forwarded-method" || name == "x-forwarded-proto";
            assert_eq!(read(Manner::Status, &both).is_ok(), agrees, "{name}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_not_read() {
        let whole = |uri| {
            let mut headers = FORWARDED;
            headers[3].1 = uri;
            read(Manner::Whole, &headers)
        };
        for uri in [
            "/a/../b",
            "//a",
            "/a%2fb",
            "/a;b",
            "/a\\b",
            "/public#/../admin",
            "a",
            "http://b/",
            "*",
            "/a b",
        ] {
            assert!(whole(uri).is_err(), "{uri}");
        }
        for url in [
            "https://u@wiki/",
            "https://wiki",
            "//wiki/",
            "ftp://wiki/",
            "https:///x",
            "https://a,b/",
        ] {
            let headers = [ORIGINAL[0], ("x-original-url", url)];
            assert!(read(Manner::Status, &headers).is_err(), "{url}");
        }
    }

    #[test]
    fn a_handshake_is_known_without_the_header_that_proxies_keep() {
        let headers = [&FORWARDED[..], &[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")]].concat();
        let mut question = Request::get("/");
        for (name, value) in headers {
            question = question.header(name, value);
        }
        let (question, ()) = question.body(()).unwrap().into_parts();
        let original = Original::of(Manner::Whole, question, [127, 0, 0, 1].into()).unwrap();
        assert_eq!(original.parts.headers["upgrade"], "websocket");
    }

    proptest! {
        #[test]
        fn i2_an_original_is_read_as_the_request_itself_would_be(
            uri in "(/[a-zA-Z0-9%;.#?&=\\\\~_-]{0,6}){1,4}",
            host in "[a-zA-Z.@:\\[\\]0-9]{1,12}",
        ) {
            let headers = [FORWARDED[0], FORWARDED[1], ("x-forwarded-host", &host), ("x-forwarded-uri", &uri)];
            if let Ok(original) = read(Manner::Whole, &headers) {
                let request = Request::put(&uri).header("host", &host).body(()).unwrap();
                let target = Target::read(&request.into_parts().0).unwrap();
                prop_assert_eq!(original, format!("PUT {} {}", target.host(), target.path_and_query()));
                prop_assert!(!uri.contains('#'));
            }
        }
    }
}
