//! Addresses: the URLs of routes, upstreams and providers. What could be read in two ways is refused, not repaired.

use std::path::Path as FilePath;

use http::uri::PathAndQuery;
use rustls::pki_types::ServerName;

use super::read::{FromText, Wrong, wrong};
use crate::{
    policy::{Host, Path, RouteUrl, Scheme},
    upstream::{Asker, Destination, DestinationScheme, GrpcService, Place},
};

/// The URL of a route, before it is known whether its path is exact.
#[derive(Clone, Debug)]
pub(super) struct RouteAddress {
    pub(super) scheme: Scheme,
    host: Host,
    port: Option<u16>,
    /// Canonical, with its leading slash; possibly with a trailing one.
    path: String,
}

impl RouteAddress {
    pub(super) fn exact(&self) -> RouteUrl {
        self.with(Path::Exact(self.path.as_str().into()))
    }

    pub(super) fn prefix(&self) -> RouteUrl {
        self.with(Path::Prefix(self.path.trim_end_matches('/').into()))
    }

    fn with(&self, path: Path) -> RouteUrl {
        let (scheme, host, port) = (self.scheme, self.host.clone(), self.port);
        RouteUrl {
            scheme,
            host,
            port,
            path,
        }
    }
}

impl FromText for RouteAddress {
    fn from_text(text: &str) -> Result<Self, Wrong> {
        let parts = Parts::of(text)?;
        let host = match parts.host.strip_prefix("*.") {
            Some(domain) => Host::Wildcard(host(domain)?.into()),
            None => Host::Exact(host(parts.host)?.into()),
        };
        if parts.path.contains(['?', '#']) {
            return Err(wrong("has a query or a fragment", "write scheme, host and path only"));
        }
        let path = if parts.path.is_empty() { "/" } else { parts.path };
        canonical(path)?;
        Ok(Self {
            scheme: parts.scheme,
            host,
            port: parts.port.filter(|port| *port != parts.scheme.default_port()),
            path: path.into(),
        })
    }
}

/// One word of `upstream`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Onward {
    To(Destination),
    AskedBy(Asker),
}

impl FromText for Onward {
    fn from_text(text: &str) -> Result<Self, Wrong> {
        match text {
            "forward-auth" => Ok(Self::AskedBy(Asker::ForwardAuth)),
            "ext-authz" => Ok(Self::AskedBy(Asker::ExtAuthz)),
            text => Destination::from_text(text).map(Self::To),
        }
    }
}

impl FromText for Destination {
    fn from_text(text: &str) -> Result<Self, Wrong> {
        if let Some(path) = text.strip_prefix("unix:") {
            return socket(path);
        }
        let with_http_2 = |(scheme, rest): (&str, _)| {
            let scheme = match &*scheme.to_ascii_lowercase() {
                "h2" => (Scheme::Https, DestinationScheme::H2),
                "h2c" => (Scheme::Http, DestinationScheme::H2c),
                _ => return None,
            };
            Some((scheme, rest))
        };
        let (parts, scheme) = match text.split_once("://").and_then(with_http_2) {
            Some(((like, scheme), rest)) => (Parts::after(like, rest)?, scheme),
            None if !text.contains("://") => {
                let instead = format!("write the scheme too: \"http://{text}\"");
                return Err(wrong(format!("is not an http or https URL: \"{text}\""), instead));
            }
            None => Parts::of(text).map(|parts| match parts.scheme {
                Scheme::Http => (parts, DestinationScheme::Http),
                Scheme::Https => (parts, DestinationScheme::Https),
            })?,
        };
        if !matches!(parts.path, "" | "/") {
            let instead = "write scheme, host and port only; the path of the request is kept";
            return Err(wrong("has a path", instead));
        }
        let host = host(parts.host)?;
        let place = Place::Tcp {
            host: host.trim_start_matches('[').trim_end_matches(']').into(),
            port: parts.port.unwrap_or(parts.scheme.default_port()),
        };
        Ok(Self { scheme, place })
    }
}

/// The longest path of a socket that every system takes.
const LONGEST_SOCKET: usize = 100;

/// A socket in the file system, where HTTP/1.1 is spoken.
fn socket(path: &str) -> Result<Destination, Wrong> {
    let plain = path.starts_with('/') && !path.starts_with("//") && !path.ends_with('/');
    if !plain || path.len() > LONGEST_SOCKET || path.chars().any(char::is_control) {
        let what = format!("is not the path of a socket: \"{path}\"");
        return Err(wrong(
            what,
            "write an absolute path, like \"unix:/run/app.sock\", of 100 bytes at most",
        ));
    }
    Ok(Destination {
        scheme: DestinationScheme::Http,
        place: Place::Unix(FilePath::new(path).into()),
    })
}

/// Whom a certificate has to name.
#[derive(Clone, Debug)]
pub(super) struct TlsName(pub(super) ServerName<'static>);

impl FromText for TlsName {
    const EXAMPLE: &'static str = "\"app.internal\"";

    fn from_text(text: &str) -> Result<Self, Wrong> {
        let name = ServerName::try_from(text.to_owned());
        let bad = |_| {
            wrong(
                format!("is not a name: \"{text}\""),
                "write one like \"app.internal\", or an address",
            )
        };
        name.map(Self).map_err(bad)
    }
}

/// A URL, cut at its delimiters and not changed.
struct Parts<'a> {
    scheme: Scheme,
    host: &'a str,
    port: Option<u16>,
    /// Everything after the authority.
    path: &'a str,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Result<Self, Wrong> {
        let no_url = || {
            let what = format!("is not an http or https URL: \"{text}\"");
            wrong(what, "write it like \"https://wiki.example.com\"")
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(no_url)?;
        let scheme = match &*scheme.to_ascii_lowercase() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(no_url()),
        };
        Self::after(scheme, rest)
    }

    fn after(scheme: Scheme, rest: &'a str) -> Result<Self, Wrong> {
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
        if authority.contains('@') {
            return Err(wrong("has a user name in it", "leave out everything up to the `@`"));
        }
        let (host, port) = host_and_port(authority)?;
        Ok(Self {
            scheme,
            host,
            port,
            path,
        })
    }
}

/// `host`, `host:8080`, `[::1]`, `[::1]:8080`.
fn host_and_port(authority: &str) -> Result<(&str, Option<u16>), Wrong> {
    let colon = authority
        .rfind(':')
        .filter(|colon| authority.rfind(']').is_none_or(|bracket| bracket < *colon));
    let Some((host, digits)) = colon.and_then(|colon| authority.split_at_checked(colon)) else {
        return Ok((authority, None));
    };
    let port = digits.strip_prefix(':').and_then(|digits| digits.parse().ok());
    match port.filter(|port| *port != 0) {
        Some(port) => Ok((host, Some(port))),
        None => Err(wrong(
            "has a port that is none",
            "write a port from 1 to 65535, or none",
        )),
    }
}

/// The host in the only spelling that every program has of it: lower case, IPv6 in brackets.
fn host(text: &str) -> Result<String, Wrong> {
    let lower = text.to_ascii_lowercase();
    let parsed = url::Host::parse(&lower).map_err(|_| {
        let instead = "write a name, an IPv4 address, or an IPv6 address in brackets";
        wrong(format!("has a host that is none: \"{text}\""), instead)
    })?;
    let canonical = parsed.to_string();
    let canonical = canonical.trim_end_matches('.');
    if lower == canonical && !lower.contains('*') {
        Ok(lower)
    } else {
        let what = format!("writes its host in an unusual way: \"{text}\"");
        Err(wrong(
            what,
            format!("write \"{canonical}\"; a `*` can only be the first label"),
        ))
    }
}

/// An absolute path that means the same to everybody (I1, I2).
fn canonical(path: &str) -> Result<(), Wrong> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-._~!$&'()*+,=:@".contains(&b);
    if !path.bytes().all(plain) {
        let instead = "write a path of letters, digits and -._~!$&'()*+,=:@";
        return Err(wrong(
            format!("has characters that mean different things to different programs: \"{path}\""),
            instead,
        ));
    }
    let inner = path.strip_prefix('/').unwrap_or(path);
    let segments = || inner.strip_suffix('/').unwrap_or(inner).split('/');
    if segments().any(|segment| matches!(segment, "." | "..")) {
        return Err(wrong(
            format!("has dot segments: \"{path}\""),
            "write the path that is meant",
        ));
    }
    if !inner.is_empty() && segments().any(str::is_empty) {
        return Err(wrong(format!("has empty segments: \"{path}\""), "write single slashes"));
    }
    Ok(())
}

/// A path that the gateway keeps for itself: canonical, not the root, without a trailing slash.
#[derive(Clone, Debug)]
pub(super) struct ReservedPath(pub(super) String);

impl FromText for ReservedPath {
    fn from_text(text: &str) -> Result<Self, Wrong> {
        let shaped = text.starts_with('/') && text.len() > 1 && !text.ends_with('/');
        if !shaped {
            return Err(wrong("is not a path to keep things under", "write it like \"/oauth2\""));
        }
        canonical(text).map(|()| Self(text.into()))
    }
}

/// What a health check asks for.
#[derive(Clone, Debug)]
pub(super) struct CheckPath(pub(super) PathAndQuery);

impl FromText for CheckPath {
    const EXAMPLE: &'static str = "\"/healthz\"";

    fn from_text(text: &str) -> Result<Self, Wrong> {
        let plain = text.starts_with('/') && text.bytes().all(|b| (0x21..0x7f).contains(&b) && b != b'#');
        let path = plain.then(|| PathAndQuery::try_from(text).ok()).flatten();
        path.map(Self)
            .ok_or_else(|| wrong(format!("is not a path: \"{text}\""), "write it like \"/healthz\""))
    }
}

/// The service of gRPC that a health check asks for.
#[derive(Clone, Debug)]
pub(super) struct CheckService(pub(super) GrpcService);

impl FromText for CheckService {
    const EXAMPLE: &'static str = "\"orders.v1.Orders\"";

    fn from_text(text: &str) -> Result<Self, Wrong> {
        let bad = || {
            wrong(
                format!("is not the name of a service: \"{text}\""),
                "write one like \"orders.v1.Orders\", or \"\" for the server as a whole",
            )
        };
        GrpcService::named(text).map(Self).ok_or_else(bad)
    }
}

/// A URL of a provider, kept byte by byte: https, or http to this machine (RFC 8414 §2, N-058).
#[derive(Clone, Debug)]
pub(super) struct ProviderUrl {
    pub(super) text: String,
    /// Whether it is http, and thus on this machine.
    pub(super) is_local: bool,
}

impl FromText for ProviderUrl {
    fn from_text(text: &str) -> Result<Self, Wrong> {
        let parts = Parts::of(text)?;
        let host = host(parts.host)?;
        if parts.scheme == Scheme::Http && !is_loopback(&host) {
            let instead = "write https; http is for a provider on this machine, at localhost, 127.0.0.1 or [::1]";
            return Err(wrong("is not encrypted", instead));
        }
        if parts.path.contains('#') {
            return Err(wrong("has a fragment", "leave out everything from the `#` on"));
        }
        let plain = text
            .bytes()
            .all(|b| (0x21..0x7f).contains(&b) && !b"\\\"<>^`{|}".contains(&b));
        if !plain || url::Url::parse(text).is_err() {
            return Err(wrong(
                format!("is not a URL: \"{text}\""),
                "write it as the provider's metadata has it",
            ));
        }
        let is_local = parts.scheme == Scheme::Http;
        Ok(Self {
            text: text.into(),
            is_local,
        })
    }
}

/// An issuer identifier: a URL without query (RFC 8414 §2).
#[derive(Clone, Debug)]
pub(super) struct IssuerUrl(pub(super) ProviderUrl);

impl FromText for IssuerUrl {
    fn from_text(text: &str) -> Result<Self, Wrong> {
        let url = ProviderUrl::from_text(text)?;
        if text.contains('?') {
            return Err(wrong(
                "has a query",
                "write the issuer exactly as the provider's metadata has it",
            ));
        }
        Ok(Self(url))
    }
}

/// Whether a host is this machine (RFC 6761 §6.3).
pub(super) fn is_loopback(host: &str) -> bool {
    match url::Host::parse(host) {
        Ok(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Ok(url::Host::Ipv4(address)) => address.is_loopback(),
        Ok(url::Host::Ipv6(address)) => address.is_loopback(),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(text: &str) -> Option<String> {
        RouteAddress::from_text(text)
            .ok()
            .map(|address| address.prefix().to_string())
    }

    #[test]
    fn a_route_has_an_origin_and_a_path() {
        assert_eq!(
            route("https://Wiki.example.com").as_deref(),
            Some("https://wiki.example.com/")
        );
        assert_eq!(
            route("https://wiki.example.com:443/a/").as_deref(),
            Some("https://wiki.example.com/a/")
        );
        assert_eq!(route("http://[::1]:8080/a").as_deref(), Some("http://[::1]:8080/a/"));
        assert_eq!(
            route("https://*.example.com").as_deref(),
            Some("https://*.example.com/")
        );
    }

    #[test]
    fn i1_what_can_be_read_in_two_ways_is_not_a_route() {
        for text in [
            "wiki.example.com",
            "ftp://a",
            "https://",
            "https://a b",
            "https://u@a",
            "https://a:0",
            "https://a:99999",
            "https://a:",
            "https://a?q",
            "https://a/#f",
            "https://a//b",
            "https://a/../b",
            "https://a/./",
            "https://a/%41",
            "https://a/b;c",
            "https://a/b\\c",
            "https://127.1",
            "https://0x7f.0.0.1",
            "https://a.",
            "https://ü.example",
            "https://a.*.example",
            "https://*",
            "https://**.example",
            "https://::1",
            "https://a/\u{e9}",
            "https:///a",
        ] {
            assert_eq!(route(text), None, "{text}");
        }
    }

    #[test]
    fn an_upstream_is_an_origin() {
        let read = |text| Destination::from_text(text).ok();
        let local = read("http://[::1]:3000/").unwrap();
        assert_eq!(
            (local.scheme, local.to_string()),
            (DestinationScheme::Http, "http://[::1]:3000".into())
        );
        let shown = |text| read(text).unwrap().to_string();
        assert_eq!(shown("https://app.example"), "https://app.example:443");
        assert_eq!(shown("H2://app.example"), "h2://app.example:443");
        assert_eq!(shown("unix:/run/app.sock"), "unix:/run/app.sock");
        for bad in [
            "app:3000",
            "http://app/path",
            "http://app?x",
            "http://*.app",
            "unix:run/app.sock",
            "unix:///run/app.sock",
            "unix:/run/",
            "unix:",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn n058_a_provider_is_encrypted_or_on_this_machine() {
        let read = |text| IssuerUrl::from_text(text).is_ok();
        assert!(read("https://id.example.com/realms/corp"));
        assert!(read("http://localhost:8080") && read("http://127.0.0.1:1") && read("http://[::1]"));
        for bad in [
            "http://id.example.com",
            "http://localhost.example.com",
            "https://id/?x",
            "https://id/#x",
            "https://i d",
        ] {
            assert!(!read(bad), "{bad}");
        }
    }
}
