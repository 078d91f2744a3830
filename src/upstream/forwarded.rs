//! What the application is told of where a request came from (RFC 7239, RFC 9110 §7.6.3).

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Version, header};

use crate::policy::Origin;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const PORT: HeaderName = HeaderName::from_static("x-forwarded-port");

const VIA: &str = "1.1 vestibule";
const VIA_HTTP_2: &str = "2.0 vestibule";

/// What depends on the site alone.
#[derive(Clone, Debug)]
pub(super) struct Site {
    origin: Origin,
    /// Host and port, as the configuration has them.
    pub(super) authority: HeaderValue,
    scheme: &'static str,
    port: HeaderValue,
    /// How `Forwarded` ends.
    tail: String,
}

impl Site {
    pub(super) fn of(origin: &Origin) -> Self {
        let scheme = origin.scheme.as_str();
        let authority = match origin.port {
            Some(port) => format!("{}:{port}", origin.host),
            None => origin.host.to_string(),
        };
        Self {
            origin: origin.clone(),
            scheme,
            port: origin.port.unwrap_or(origin.scheme.default_port()).into(),
            tail: format!(";host=\"{authority}\";proto={scheme}"),
            // The configuration and the reading of targets let nothing else in.
            authority: HeaderValue::try_from(authority).unwrap_or(HeaderValue::from_static("localhost")),
        }
    }

    pub(super) fn is_of(&self, origin: &Origin) -> bool {
        self.origin == *origin
    }
}

/// Writes the whole family anew, from the socket, from trusted proxies and from the configuration (I7, I8).
pub(super) fn write(peer: IpAddr, site: &Site, before: &[IpAddr], received: Version, headers: &mut HeaderMap) {
    let mut chain = String::new();
    let mut forwarded = String::with_capacity(128);
    for address in before.iter().chain([&peer]) {
        let address = address.to_canonical();
        let comma = if forwarded.is_empty() { "" } else { ", " };
        // Of one without an address, X-Forwarded-For has no word (RFC 7239 §6.2).
        if address.is_unspecified() {
            forwarded.extend([comma, "for=unknown"]);
            continue;
        }
        let text = address.to_string();
        chain.extend([if chain.is_empty() { "" } else { ", " }, &text]);
        match address {
            IpAddr::V4(_) => forwarded.extend([comma, "for=", &text]),
            IpAddr::V6(_) => forwarded.extend([comma, "for=\"[", &text, "]\""]),
        }
    }
    forwarded.push_str(&site.tail);
    headers.insert(PROTO, HeaderValue::from_static(site.scheme));
    headers.insert(PORT, site.port.clone());
    headers.insert(HOST, site.authority.clone());
    for (name, value) in [(FOR, chain), (header::FORWARDED, forwarded)] {
        if value.is_empty() {
            continue;
        }
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
    let via = if received == Version::HTTP_2 { VIA_HTTP_2 } else { VIA };
    headers.append(header::VIA, HeaderValue::from_static(via));
}

/// Counts `Max-Forwards` down; `None` when it has run out and the request ends here (RFC 9110 §7.6.2).
pub(super) fn counted_down(method: &Method, headers: &mut HeaderMap) -> Option<()> {
    if method != Method::OPTIONS {
        return Some(());
    }
    let Some(left) = headers.get(header::MAX_FORWARDS) else {
        return Some(());
    };
    // What is no number counts nothing.
    let Some(left) = left.to_str().ok().and_then(|left| left.parse::<u32>().ok()) else {
        return Some(());
    };
    headers.insert(header::MAX_FORWARDS, HeaderValue::from(left.checked_sub(1)?));
    Some(())
}

/// How often the gateway has named itself.
pub(super) fn hops(headers: &HeaderMap) -> usize {
    let lines = headers.get_all(header::VIA).iter();
    let hops = lines.flat_map(|line| line.as_bytes().split(|b| *b == b','));
    let ours = [VIA.as_bytes(), VIA_HTTP_2.as_bytes()];
    hops.filter(|hop| ours.contains(&hop.trim_ascii())).count()
}
