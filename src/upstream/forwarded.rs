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
    let (chain, forwarded) = chains(before.iter().copied().chain([peer]), &site.tail);
    headers.insert(PROTO, HeaderValue::from_static(site.scheme));
    headers.insert(PORT, site.port.clone());
    headers.insert(HOST, site.authority.clone());
    for (name, value) in [(FOR, chain), (header::FORWARDED, forwarded)] {
        if value.is_empty() {
            continue;
        }
        if let Ok(value) = HeaderValue::from_bytes(&value) {
            headers.insert(name, value);
        }
    }
    let via = if received == Version::HTTP_2 { VIA_HTTP_2 } else { VIA };
    headers.append(header::VIA, HeaderValue::from_static(via));
}

/// What `X-Forwarded-For` and `Forwarded` say of the way from the client to here.
fn chains(way: impl Iterator<Item = IpAddr>, tail: &str) -> (Vec<u8>, Vec<u8>) {
    let mut chain = Vec::with_capacity(64);
    let mut forwarded = Vec::with_capacity(128);
    for address in way {
        let address = address.to_canonical();
        if !forwarded.is_empty() {
            forwarded.extend_from_slice(b", ");
        }
        // Of one without an address, X-Forwarded-For has no word (RFC 7239 §6.2).
        if address.is_unspecified() {
            forwarded.extend_from_slice(b"for=unknown");
            continue;
        }
        if !chain.is_empty() {
            chain.extend_from_slice(b", ");
        }
        let begin = chain.len();
        push_address(&mut chain, address);
        let text = chain.get(begin..).unwrap_or_default();
        let [open, close]: [&[u8]; 2] = match address {
            IpAddr::V4(_) => [b"for=", b""],
            IpAddr::V6(_) => [b"for=\"[", b"]\""],
        };
        for piece in [open, text, close] {
            forwarded.extend_from_slice(piece);
        }
    }
    forwarded.extend_from_slice(tail.as_bytes());
    (chain, forwarded)
}

/// As `Display` writes it, whose machinery takes four times as long for four octets: each request has one.
fn push_address(text: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            let mut digits = itoa::Buffer::new();
            for (place, octet) in address.octets().into_iter().enumerate() {
                if place > 0 {
                    text.push(b'.');
                }
                text.extend_from_slice(digits.format(octet).as_bytes());
            }
        }
        IpAddr::V6(address) => text.extend_from_slice(address.to_string().as_bytes()),
    }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_address_is_written_as_everywhere_else(address: IpAddr) {
            let mut text = Vec::new();
            push_address(&mut text, address);
            prop_assert_eq!(String::from_utf8(text).unwrap(), address.to_string());
        }
    }
}
