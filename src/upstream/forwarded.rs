//! What the application is told of where a request came from (RFC 7239, RFC 9110 §7.6.3).

use std::{borrow::Cow, net::IpAddr};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Version, header};

use crate::{
    identity::{Peer, Told},
    policy::Origin,
};

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
pub(super) fn write(peer: &Peer, site: &Site, before: &[IpAddr], received: Version, headers: &mut HeaderMap) {
    headers.insert(PROTO, HeaderValue::from_static(site.scheme));
    headers.insert(PORT, site.port.clone());
    headers.insert(HOST, site.authority.clone());
    let told = told(peer, site, before);
    for (name, value) in [(FOR, &told.chain), (header::FORWARDED, &told.forwarded)] {
        if let Some(value) = value {
            headers.insert(name, value.clone());
        }
    }
    let via = if received == Version::HTTP_2 { VIA_HTTP_2 } else { VIA };
    headers.append(header::VIA, HeaderValue::from_static(via));
}

/// Most clients come without proxies, and with one connection to one site: what is told of them is written once.
fn told<'a>(peer: &'a Peer, site: &Site, before: &[IpAddr]) -> Cow<'a, Told> {
    let write = || {
        let (chain, forwarded) = chains(before.iter().copied().chain([peer.address]), &site.tail);
        let value = |text: Vec<u8>| HeaderValue::from_bytes(&text).ok().filter(|value| !value.is_empty());
        Told {
            address: peer.address,
            site: (*site.tail).into(),
            chain: value(chain),
            forwarded: value(forwarded),
        }
    };
    if !before.is_empty() {
        return Cow::Owned(write());
    }
    match peer.told(write) {
        told if told.address == peer.address && *told.site == *site.tail => Cow::Borrowed(told),
        _ => Cow::Owned(write()),
    }
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
    use crate::policy::Scheme;

    /// `X-Forwarded-For` and `Forwarded`.
    fn written(peer: &Peer, host: &str, before: &[IpAddr]) -> [String; 2] {
        let origin = Origin {
            scheme: Scheme::Https,
            host: host.into(),
            port: None,
        };
        let mut headers = HeaderMap::new();
        write(peer, &Site::of(&origin), before, Version::HTTP_11, &mut headers);
        [FOR, header::FORWARDED].map(|name| headers[name].to_str().unwrap().to_owned())
    }

    #[test]
    fn i7_what_was_written_once_is_told_of_nobody_else_and_at_no_other_site() {
        let peer = Peer::at([192, 0, 2, 1].into());
        let client = IpAddr::from([198, 51, 100, 7]);
        for _ in 0..2 {
            let here = ["192.0.2.1", "for=192.0.2.1;host=\"a\";proto=https"];
            assert_eq!(written(&peer, "a", &[]), here);
            let elsewhere = ["192.0.2.1", "for=192.0.2.1;host=\"b\";proto=https"];
            assert_eq!(written(&peer, "b", &[]), elsewhere);
            let behind = [
                "198.51.100.7, 192.0.2.1",
                "for=198.51.100.7, for=192.0.2.1;host=\"a\";proto=https",
            ];
            assert_eq!(written(&peer, "a", &[client]), behind);
            let other = ["198.51.100.7", "for=198.51.100.7;host=\"a\";proto=https"];
            assert_eq!(written(&peer.clone().seen_at(client), "a", &[]), other);
        }
    }

    proptest! {
        #[test]
        fn an_address_is_written_as_everywhere_else(address: IpAddr) {
            let mut text = Vec::new();
            push_address(&mut text, address);
            prop_assert_eq!(String::from_utf8(text).unwrap(), address.to_string());
        }
    }
}
