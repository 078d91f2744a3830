//! Who reads the answer: a browser that navigates, or something that parses it.

use http::{HeaderMap, HeaderName, HeaderValue, Method, header, request::Parts};

use crate::{
    policy::{Client, Initiator, Origin},
    upstream::{
        glance::{Glance, Seen},
        headers::is_grpc,
    },
};

const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const X_REQUESTED_WITH: HeaderName = HeaderName::from_static("x-requested-with");

/// What can be told of the reader from the request's headers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader {
    pub(super) client: Client,
    pub(super) initiator: Initiator,
    /// It understands nothing but an answer of gRPC.
    pub(super) is_grpc: bool,
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            client: Client::Programmatic,
            initiator: Initiator::OwnSite,
            is_grpc: false,
        }
    }
}

impl Reader {
    pub(super) fn of<'a>(head: impl Into<Seen<&'a Parts>>, origin: &Origin) -> Self {
        let head = head.into();
        let is_grpc = is_grpc(&head);
        Self {
            client: match is_grpc {
                true => Client::Programmatic,
                false => client(head),
            },
            initiator: match head.has(Glance::ORIGIN) || head.has(Glance::SEC_FETCH) {
                true => initiator(&head.headers, origin),
                // Nobody but a browser says more.
                false => Initiator::OwnSite,
            },
            is_grpc,
        }
    }

    /// Whether an answer should be a page.
    pub(super) fn wants_page(self) -> bool {
        self.client == Client::Navigation
    }
}

/// Tells a navigation from a fetch: what the browser says of itself counts most, then what it accepts (N-009).
fn client(head: Seen<&Parts>) -> Client {
    let (method, headers) = (&head.method, &head.headers);
    if head.has(Glance::UPGRADE) && *method == Method::GET && says(headers, &header::UPGRADE, "websocket") {
        return Client::WebSocket;
    }
    if is_preflight(method, headers) {
        return Client::Preflight;
    }
    // First what a program most often lacks: the rest need not be looked for then.
    if !head.has(Glance::ACCEPT) || !accepts_html(headers) {
        return Client::Programmatic;
    }
    let scripted = head.has(Glance::X_REQUESTED_WITH) && says(headers, &X_REQUESTED_WITH, "xmlhttprequest");
    let part = head.has(Glance::SEC_FETCH) && !is_fetched_as_page(headers);
    if scripted || part {
        return Client::Programmatic;
    }
    Client::Navigation
}

/// Whether nothing of what the browser says of the fetch speaks against it (Fetch Metadata Request Headers §2.1, §2.2).
fn is_fetched_as_page(headers: &HeaderMap) -> bool {
    let mode = headers.get(&SEC_FETCH_MODE);
    let dest = headers.get(&SEC_FETCH_DEST);
    mode.is_none_or(|mode| is(mode, "navigate"))
        && dest.is_none_or(|dest| ["document", "frame", "iframe"].iter().any(|page| is(dest, page)))
}

/// Exactly what browsers send of their own accord, and no body.
fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    let is_one = |name| headers.get_all(name).iter().count() == 1;
    let length = || headers.get(header::CONTENT_LENGTH);
    *method == Method::OPTIONS
        && is_one(header::ORIGIN)
        && is_one(header::ACCESS_CONTROL_REQUEST_METHOD)
        && !headers.contains_key(header::TRANSFER_ENCODING)
        && length().is_none_or(|length| length == "0")
}

fn accepts_html(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .map(HeaderValue::as_bytes)
        .filter(|value| value.is_ascii())
        .flat_map(|value| value.split(|byte| *byte == b','))
        .filter_map(|range| range.split(|byte| *byte == b';').next())
        .any(|range| range.trim_ascii().eq_ignore_ascii_case(b"text/html"))
}

/// Whose page asked: fetch metadata where the browser sends it, else the `Origin` header (RFC 6454 §7).
fn initiator(headers: &HeaderMap, origin: &Origin) -> Initiator {
    let own_origin = headers
        .get(header::ORIGIN)
        .map(|sent| is_origin(sent.as_bytes(), origin));
    let own_site = match headers.get(&SEC_FETCH_SITE) {
        Some(site) => matches!(site.as_bytes(), b"same-origin" | b"none") || own_origin == Some(true),
        None => own_origin != Some(false),
    };
    if own_site {
        Initiator::OwnSite
    } else {
        Initiator::ForeignSite
    }
}

fn is_origin(sent: &[u8], origin: &Origin) -> bool {
    sent == origin.to_string().as_bytes()
}

fn says(headers: &HeaderMap, name: &HeaderName, value: &str) -> bool {
    headers.get(name).is_some_and(|sent| is(sent, value))
}

fn is(sent: &HeaderValue, value: &str) -> bool {
    sent.as_bytes().eq_ignore_ascii_case(value.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Scheme;
    use http::Request;

    fn read(method: &str, headers: &[(&str, &str)]) -> Reader {
        let mut request = Request::builder().method(method).uri("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let origin = Origin {
            scheme: Scheme::Https,
            host: "wiki.example.com".into(),
            port: None,
        };
        Reader::of(&request.body(()).unwrap().into_parts().0, &origin)
    }

    const HTML: (&str, &str) = ("accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8");

    #[test]
    fn n_009_only_a_navigation_navigates() {
        let client = |headers: &[(&str, &str)]| read("GET", headers).client;
        assert_eq!(client(&[HTML]), Client::Navigation);
        let browser = [HTML, ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
        assert_eq!(client(&browser), Client::Navigation);
        assert_eq!(client(&[]), Client::Programmatic);
        assert_eq!(client(&[("accept", "*/*")]), Client::Programmatic);
        assert_eq!(client(&[("accept", "application/json")]), Client::Programmatic);
        assert_eq!(
            client(&[HTML, ("x-requested-with", "XMLHttpRequest")]),
            Client::Programmatic
        );
        assert_eq!(client(&[HTML, ("sec-fetch-mode", "cors")]), Client::Programmatic);
        assert_eq!(client(&[HTML, ("sec-fetch-dest", "image")]), Client::Programmatic);
        assert_eq!(client(&[HTML, ("upgrade", "WebSocket")]), Client::WebSocket);
    }

    #[test]
    fn a_preflight_is_what_browsers_send_and_nothing_like_it() {
        let asks = [("origin", "https://b"), ("access-control-request-method", "POST")];
        assert_eq!(read("OPTIONS", &asks).client, Client::Preflight);
        assert_eq!(
            read("OPTIONS", &[asks[0], asks[1], ("content-length", "0")]).client,
            Client::Preflight
        );
        for (method, headers) in [
            ("GET", &asks as &[_]),
            ("POST", &asks),
            ("OPTIONS", &asks[..1]),
            ("OPTIONS", &asks[1..]),
            ("OPTIONS", &[asks[0], asks[0], asks[1]]),
            ("OPTIONS", &[asks[0], asks[1], ("content-length", "1")]),
            ("OPTIONS", &[asks[0], asks[1], ("transfer-encoding", "chunked")]),
        ] {
            assert_eq!(
                read(method, headers).client,
                Client::Programmatic,
                "{method} {headers:?}"
            );
        }
    }

    #[test]
    fn n_124_a_foreign_page_is_told_from_our_own() {
        let initiator = |headers: &[(&str, &str)]| read("POST", headers).initiator;
        let foreign = [
            &[("sec-fetch-site", "cross-site")] as &[_],
            &[("sec-fetch-site", "same-site"), ("origin", "https://evil.example.com")],
            &[("origin", "https://evil.example.com")],
            &[("origin", "null")],
            &[("origin", "http://wiki.example.com")],
            &[("origin", "https://wiki.example.com.evil.com")],
        ];
        let own = [
            &[] as &[_],
            &[("origin", "https://wiki.example.com")],
            &[("sec-fetch-site", "same-origin"), ("origin", "null")],
            &[("sec-fetch-site", "none")],
        ];
        assert!(
            foreign
                .iter()
                .all(|headers| initiator(headers) == Initiator::ForeignSite)
        );
        assert!(own.iter().all(|headers| initiator(headers) == Initiator::OwnSite));
    }
}
