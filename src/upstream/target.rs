//! The canonical request target: parsed once, for routing, policy, log and the bytes sent upstream.

use std::{borrow::Cow, sync::Arc};

use http::{
    HeaderMap, Uri, Version, header,
    request::Parts,
    uri::{Authority, PathAndQuery},
};

use super::glance::{Glance, Seen};

/// A request target that every program reads alike (I1, I2); whoever notes it shares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target(Arc<Read>);

#[derive(Debug, PartialEq, Eq)]
struct Read {
    host: Box<str>,
    port: Option<u16>,
    path_and_query: PathAndQuery,
    /// Where the path encodes what a route may spell plainly: the path as it is compared.
    compared: Option<String>,
}

/// Why a request target is ambiguous: 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AmbiguousTarget(pub &'static str);

impl Target {
    /// Reads the target, the `Host` and the framing of a request (RFC 9112 §3.2, §6.1).
    ///
    /// # Errors
    /// When two programs could read any of them differently.
    pub fn read<'a>(head: impl Into<Seen<&'a Parts>>) -> Result<Self, AmbiguousTarget> {
        let head = head.into();
        if head.has(Glance::TRANSFER_ENCODING) {
            one_framing(&head.headers)?;
        }
        let (host, port) = host_and_port(authority(&head)?)?;
        let (path_and_query, compared) = canonical(head.uri.path_and_query())?;
        let read = Read {
            host: host.to_ascii_lowercase().into(),
            port,
            path_and_query,
            compared,
        };
        Ok(Self(read.into()))
    }

    /// Lower case, without port and without a trailing dot; IPv6 in brackets.
    pub fn host(&self) -> &str {
        &self.0.host
    }

    pub fn port(&self) -> Option<u16> {
        self.0.port
    }

    /// As it is compared with routes and rules: nothing is encoded that they can spell plainly. What is sent upstream may
    /// have more of it encoded, as it came, for to some applications that is another path (RFC 3986 §2.2).
    pub fn path(&self) -> &str {
        match &self.0.compared {
            Some(path) => path,
            None => self.0.path_and_query.path(),
        }
    }

    pub fn query(&self) -> Option<&str> {
        self.0.path_and_query.query()
    }

    /// Path and query, as they are sent upstream.
    pub fn path_and_query(&self) -> &str {
        self.0.path_and_query.as_str()
    }

    pub(super) fn to_uri(&self) -> Uri {
        Uri::from(self.0.path_and_query.clone())
    }
}

/// A transfer coding is `chunked`, once, or there is none (I9).
fn one_framing(headers: &HeaderMap) -> Result<(), AmbiguousTarget> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(only), None) if only.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(AmbiguousTarget("its body is framed in more than one way")),
    }
}

/// The one authority that a request names: by exactly one `Host`, and by nothing that differs from it. In HTTP/2,
/// `:authority` may stand in the place of `Host` (RFC 9113 §8.3.1, N-129).
fn authority(parts: &Parts) -> Result<&str, AmbiguousTarget> {
    let uri = &parts.uri;
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host,
        (None, _) if parts.version == Version::HTTP_2 => {
            let authority = uri.authority().map(Authority::as_str);
            return authority.ok_or(AmbiguousTarget("it names no host"));
        }
        _ => return Err(AmbiguousTarget("it does not have exactly one Host")),
    };
    let host = host.to_str().map_err(|_| AmbiguousTarget("its Host is not a host"))?;
    match (uri.scheme(), uri.authority()) {
        (None, None) => {}
        (Some(_), Some(target)) if target.as_str().eq_ignore_ascii_case(host) => {}
        (Some(_), _) => return Err(AmbiguousTarget("its target names another host than its Host")),
        (None, Some(_)) => return Err(AmbiguousTarget("its target is not a path")),
    }
    Ok(host)
}

/// A host without its trailing dot, and what follows it: a colon and a port, or nothing. Whoever names a user there means
/// to confuse.
fn host_and_port(authority: &str) -> Result<(&str, Option<u16>), AmbiguousTarget> {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    let end = match authority.strip_prefix('[') {
        Some(rest) => rest
            .find(']')
            .filter(|end| {
                let address = rest.get(..*end).unwrap_or_default();
                address.parse::<std::net::Ipv6Addr>().is_ok()
            })
            // Both brackets are the host's.
            .map(|end| end.saturating_add(2)),
        None => Some(authority.bytes().position(|b| !is_plain(b)).unwrap_or(authority.len())),
    };
    let split = end.and_then(|end| authority.split_at_checked(end));
    let (host, rest) = split.ok_or(AmbiguousTarget("its Host is not a host"))?;
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.is_empty() {
        return Err(AmbiguousTarget("its Host is not a host"));
    }
    Ok((host, port(rest)?))
}

fn port(rest: &str) -> Result<Option<u16>, AmbiguousTarget> {
    if rest.is_empty() {
        return Ok(None);
    }
    let Some(digits) = rest.strip_prefix(':') else {
        return Err(AmbiguousTarget("its Host is not a host"));
    };
    let digits = Some(digits).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
    let port = digits.and_then(|digits| digits.parse().ok());
    port.map(Some).ok_or(AmbiguousTarget("its Host has no proper port"))
}

/// The target as it is sent, and its path as it is compared where that is another.
fn canonical(target: Option<&PathAndQuery>) -> Result<(PathAndQuery, Option<String>), AmbiguousTarget> {
    let target = target.filter(|target| target.as_str().starts_with('/'));
    let target = target.ok_or(AmbiguousTarget("its target is not a path"))?;
    if target.query().is_some_and(|query| !query.is_ascii()) {
        return Err(AmbiguousTarget("its query is not ASCII"));
    }
    // One look is enough for most of them.
    if is_plain(target.path()) {
        return Ok((target.clone(), None));
    }
    let path = decoded(target.path())?;
    unambiguous_segments(&path)?;
    let compared = compared(&path);
    let (Cow::Owned(path), query) = (path, target.query()) else {
        return Ok((target.clone(), compared));
    };
    let rewritten = query.map_or(path.clone(), |query| format!("{path}?{query}"));
    let rewritten = PathAndQuery::try_from(rewritten);
    let rewritten = rewritten.map_err(|_| AmbiguousTarget("its path cannot be written plainly"))?;
    Ok((rewritten, compared))
}

/// Whether nothing in a path is encoded or may be read differently, and no segment begins like one that is removed.
fn is_plain(path: &str) -> bool {
    let mut before = b' ';
    path.bytes().all(|byte| {
        let pair = (before, byte);
        before = byte;
        stands_for_itself(byte) && !matches!(pair, (b'/', b'/' | b'.'))
    })
}

/// Whether a character may stand in a path as it is: to many applications it is the same when it is encoded.
fn may_be_plain(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'%' | b'\\' | b';' | b'#' | b'?' | b'/')
}

/// The path with that decoded; `None` where none of it is encoded.
fn compared(path: &str) -> Option<String> {
    if !path.as_bytes().contains(&b'%') {
        return None;
    }
    let encoded = |rest: &[u8]| match rest {
        [b'%', high, low, ..] => {
            let byte = hex(*high)? << 4 | hex(*low)?;
            may_be_plain(byte).then_some(byte)
        }
        _ => None,
    };
    let bytes = path.as_bytes();
    let mut percents = path.match_indices('%').map(|(at, _)| at);
    let first = percents.find(|at| bytes.get(*at..).and_then(encoded).is_some())?;
    let mut plain = String::with_capacity(path.len());
    let mut rest = bytes;
    plain.push_str(path.get(..first)?);
    rest = rest.get(first..)?;
    while let Some((byte, after)) = rest.split_first() {
        match encoded(rest) {
            Some(byte) => {
                plain.push(byte.into());
                rest = rest.get(3..)?;
            }
            // A canonical path is ASCII.
            None => {
                plain.push((*byte).into());
                rest = after;
            }
        }
    }
    Some(plain)
}

/// Whether a byte of a path means itself to every program.
const fn stands_for_itself(byte: u8) -> bool {
    byte > b' ' && byte < 0x7f && !matches!(byte, b'%' | b'\\' | b';' | b'#')
}

/// The path with no character encoded that need not be (RFC 3986 §6.2.2).
fn decoded(path: &str) -> Result<Cow<'_, str>, AmbiguousTarget> {
    if path.bytes().all(stands_for_itself) {
        return Ok(Cow::Borrowed(path));
    }
    let mut decoded = String::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digits = (bytes.next().and_then(hex), bytes.next().and_then(hex));
            let (Some(high), Some(low)) = digits else {
                return Err(AmbiguousTarget("its path has a % that encodes nothing"));
            };
            push_encoded(&mut decoded, (high << 4) | low)?;
        } else if stands_for_itself(byte) {
            decoded.push(byte.into());
        } else {
            return Err(AmbiguousTarget("its path has characters that are read differently"));
        }
    }
    Ok(Cow::Owned(decoded))
}

fn push_encoded(path: &mut String, byte: u8) -> Result<(), AmbiguousTarget> {
    match byte {
        b if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~') => path.push(b.into()),
        0..0x20 | 0x7f | b'/' | b'\\' | b'#' | b'?' => {
            return Err(AmbiguousTarget("its path hides a separator or a control character"));
        }
        b => {
            path.push('%');
            path.extend([b >> 4, b & 15].into_iter().filter_map(upper_hex));
        }
    }
    Ok(())
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

fn upper_hex(digit: u8) -> Option<char> {
    char::from_digit(digit.into(), 16).map(|digit| digit.to_ascii_uppercase())
}

/// No segment that some programs remove and others keep; `;` was refused with the characters.
fn unambiguous_segments(path: &str) -> Result<(), AmbiguousTarget> {
    let mut pairs = path.as_bytes().windows(2);
    if !pairs.any(|pair| matches!(pair, [b'/', b'/' | b'.'])) {
        return Ok(());
    }
    let inner = path.strip_prefix('/').unwrap_or(path);
    let mut segments = inner.split('/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "" if !last => return Err(AmbiguousTarget("its path has an empty segment")),
            "." | ".." => return Err(AmbiguousTarget("its path has a dot segment")),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use proptest::prelude::*;

    fn read(target: &str, host: &str) -> Result<Target, AmbiguousTarget> {
        let uri: Uri = target.parse().map_err(|_| AmbiguousTarget("not a URI"))?;
        let request = Request::get(uri).header(header::HOST, host).body(()).unwrap();
        Target::read(&request.into_parts().0)
    }

    #[test]
    fn what_need_not_be_encoded_is_not() {
        let path = |target: &str| read(target, "a").map(|target| target.path_and_query().to_owned());
        assert_eq!(path("/%61dmin/%7Euser?x=%61").unwrap(), "/admin/~user?x=%61");
        assert_eq!(path("/caf%c3%a9").unwrap(), "/caf%C3%A9");
        assert_eq!(path("/a/b/?").unwrap(), "/a/b/?");
        assert_eq!(path("/").unwrap(), "/");
    }

    #[test]
    fn i1_what_a_route_spells_plainly_is_compared_plainly_and_sent_as_it_came() {
        for (came, compared, sent) in [
            ("/users%3Apurge", "/users:purge", "/users%3Apurge"),
            (
                "/%40admin/%21%24%26%27%28%29%2a%2B%2C%3d?x=%3A",
                "/@admin/!$&'()*+,=",
                "",
            ),
            ("/a%2525%3A", "/a%2525:", "/a%2525%3A"),
            ("/report%5B1%5D%22%3C%3E%5E%60%7B%7C%7D", "/report[1]\"<>^`{|}", ""),
            ("/%20%3B%C3%A9", "/%20%3B%C3%A9", "/%20%3B%C3%A9"),
            ("/%C3%A9%40", "/%C3%A9@", "/%C3%A9%40"),
            ("/@plain:", "/@plain:", "/@plain:"),
        ] {
            let target = read(came, "a").unwrap();
            assert_eq!(target.path(), compared);
            if !sent.is_empty() {
                assert_eq!(target.path_and_query(), sent);
                assert_eq!(target.to_uri().path(), sent);
            }
        }
    }

    #[test]
    fn hosts_are_lower_case_and_without_the_last_dot() {
        let target = read("/", "Wiki.Example.COM.:8443").unwrap();
        assert_eq!((target.host(), target.port()), ("wiki.example.com", Some(8443)));
        assert_eq!(read("/", "[::1]:80").unwrap().host(), "[::1]");
        for host in [
            "", ".", "a b", "a@b", "a:b", "a:", "a:99999", "a/b", "a,b", "[::1", "[v1.x]", "a:1:2",
        ] {
            assert!(read("/", host).is_err(), "{host}");
        }
    }

    #[test]
    fn n_129_an_authority_of_http_2_stands_alone_or_beside_a_host_that_is_the_same() {
        let read = |uri: &str, hosts: &[&str], version| {
            let mut request = Request::get(uri).version(version);
            for host in hosts {
                request = request.header(header::HOST, *host);
            }
            Target::read(&request.body(()).unwrap().into_parts().0)
        };
        let of = |uri: &str, hosts: &[&str]| read(uri, hosts, Version::HTTP_2);
        assert_eq!(of("http://A:80/x", &[]).unwrap().host(), "a");
        assert_eq!(of("http://a:80/x", &["A:80"]).unwrap().port(), Some(80));
        assert_eq!(of("/x", &["a"]).unwrap().host(), "a");
        for (uri, hosts) in [
            ("http://a/", &["b"] as &[_]),
            ("http://a/", &["a:80"]),
            ("http://a/", &["a", "a"]),
            ("http://u@a/", &[]),
            ("http://u@a/", &["u@a"]),
            ("/", &[]),
        ] {
            assert!(of(uri, hosts).is_err(), "{uri} {hosts:?}");
        }
        assert!(read("http://a/", &[], Version::HTTP_11).is_err());
    }

    proptest! {
        #[test]
        fn what_is_plain_at_one_look_is_plain_at_every_look(path in "/[a-zA-Z%;./\\\\~\u{0}-\u{ff}]{0,8}") {
            if is_plain(&path) {
                prop_assert!(matches!(decoded(&path), Ok(Cow::Borrowed(same)) if same == path));
                prop_assert!(unambiguous_segments(&path).is_ok() && compared(&path).is_none());
            }
        }

        #[test]
        fn an_accepted_target_is_read_again_as_itself(path in "(/[a-zA-Z0-9%;.\\\\~_-]{0,6}){1,4}", query in "(\\?[a-z%/.]{0,5})?") {
            if let Ok(target) = read(&format!("{path}{query}"), "a") {
                let again = read(target.path_and_query(), "a").unwrap();
                prop_assert_eq!(&again, &target);
                let decoded = percent_encoding::percent_decode_str(target.path()).collect::<Vec<u8>>();
                prop_assert_eq!(decoded.iter().filter(|b| **b == b'/').count(), target.path().matches('/').count());
                let text = String::from_utf8_lossy(&decoded).into_owned();
                prop_assert!(!text.split('/').any(|segment| matches!(segment, "." | "..")));
            }
        }
    }
}
