//! What is taken from a request before it may go on.

use std::{collections::HashSet, net::IpAddr, sync::Arc};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Version,
    header::{self, Entry},
    request::Parts,
};
use hyper::{body::Incoming, upgrade::OnUpgrade};

pub use super::template::{
    Encoding, Filter, Form, GroupFilter, IdentityHeader, IdentityHeaders, Lists, MAX_VALUE_BYTES, Piece, Source,
    Template,
};
use super::{
    forwarded,
    glance::{Glance, Seen},
    target::Target,
};
use crate::{identity::Proxies, secret::Secret};

/// What the scrubber removes, beside the families it always removes.
#[derive(Clone, Debug, Default)]
pub struct ScrubSettings {
    /// Every header that any route may emit.
    pub identity_headers: Vec<HeaderName>,
    /// The gateway's cookies are called this or begin with this and a dash, after `__Host-` or `__Secure-`.
    pub cookie_name: Box<str>,
    /// Peers whose `X-Forwarded-For` counts.
    pub trusted_proxies: Proxies,
}

/// Takes identity, credential and forwarding headers out of requests; made once at load.
#[derive(Debug)]
pub struct Scrubber {
    taken: Arc<Taken>,
    /// Those that any route may emit, as they are written.
    emitted: Vec<HeaderName>,
    own_cookies: OwnCookies,
    trusted_proxies: Proxies,
}

/// The names that only the gateway may say something under.
#[derive(Debug)]
pub(super) struct Taken {
    /// Folded; they are the operator's, so that nobody else can make them collide.
    identity_headers: HashSet<Box<str>, foldhash::fast::RandomState>,
    /// How any of them begins.
    initials: Initials,
}

/// Some of the characters that folded names begin with, and perhaps others.
#[derive(Debug, Default)]
struct Initials(u64);

/// A request that says nothing in the gateway's name; only a scrubber makes one.
#[derive(Debug)]
pub struct Scrubbed {
    pub(super) parts: Box<Parts>,
    pub(super) body: Incoming,
    pub(super) target: Target,
    pub(super) forwarded_for: Vec<IpAddr>,
    /// How many gateways like this one it has passed (RFC 9110 §7.6.3).
    hops: usize,
    /// The client's side of a WebSocket to be (RFC 6455 §4.2.1).
    pub(super) upgrade: Option<OnUpgrade>,
    /// The `Authorization` header as it came, for an application that has said that it is its own.
    pub(super) authorization: Option<HeaderValue>,
}

/// What the request says of who sent it.
#[derive(Debug)]
pub struct Credential {
    pub authorization: Authorization,
    /// The gateway's own cookies, in the order of the request: name and value.
    pub cookies: Vec<(String, String)>,
}

/// The `Authorization` header.
#[derive(Debug)]
pub enum Authorization {
    Absent,
    /// The token of `Bearer`; not checked in any way (RFC 6750 §2.1).
    Bearer(Secret),
    /// Another scheme.
    Other,
    /// An empty token, or characters that no token has.
    Malformed,
    /// More than one header (RFC 9110 §11.6.2).
    Several,
}

/// Headers that concern this connection or the gateway alone, and those by which others say who somebody is or where a
/// request came from; folded (I4, I6, I7, I9).
const TAKEN: &[&str] = &[
    "authorization",
    "connection",
    "content-length",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    // A CGI program would take it for the setting HTTP_PROXY (CVE-2016-5385).
    "proxy",
    "te",
    "trailer",
    "transfer-encoding",
    "true-client-ip",
    "upgrade",
    "fastly-client-ip",
    "client-ip",
    "kubeflow-userid",
    "sm-user",
    "sm-groups",
];

/// Whole families of such headers, by how their folded names begin.
const FAMILIES: &[&str] = &["proxy-", "remote-", "impersonate-", "oidc-", "cf-"];

/// What concerns a whole message and is settled before its body: never in trailers.
pub(super) const OF_A_HEAD: [&str; 11] = [
    "accept-encoding",
    "cache-control",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "location",
    "max-forwards",
    "set-cookie",
    "www-authenticate",
];

/// The same, after `x-`.
const X_FAMILIES: &[&str] = &[
    "forwarded",
    "original-",
    "rewrite-",
    "real-ip",
    "client-ip",
    "client-cert",
    "cluster-client-ip",
    "envoy-",
    "remote-",
    "auth-",
    "authenticated-",
    "authentik-",
    "webauth-",
    "pomerium-",
    "vouch-",
    "token-",
    "goog-authenticated-",
    "goog-iap-",
    "amzn-oidc-",
    "ms-client-principal",
    "ssl-client-",
];

impl Scrubber {
    pub fn new(settings: ScrubSettings) -> Self {
        let names = settings.identity_headers.iter();
        let identity_headers: HashSet<Box<str>, _> = names.map(|name| folded(name.as_str()).into()).collect();
        let taken = Taken {
            initials: identity_headers
                .iter()
                .map(|name| Initials::of(name))
                .fold(Initials::default(), Initials::and),
            identity_headers,
        };
        Self {
            taken: taken.into(),
            emitted: settings.identity_headers,
            own_cookies: OwnCookies(settings.cookie_name.into()),
            trusted_proxies: settings.trusted_proxies,
        }
    }

    pub fn own_cookies(&self) -> OwnCookies {
        self.own_cookies.clone()
    }

    /// Takes out everything that only the gateway may say, and hands over the credential.
    pub fn scrub(
        &self,
        head: Seen<Box<Parts>>,
        body: Incoming,
        target: Target,
        peer: IpAddr,
    ) -> (Scrubbed, Credential) {
        let (there, mut parts) = head.into_head();
        let upgrade = there.has(Glance::UPGRADE) && asks_for_websocket(&parts);
        let upgrade = upgrade.then(|| on_upgrade(&mut parts));
        let (authorization, as_it_came) = match there.has(Glance::AUTHORIZATION) {
            true => authorization(&parts.headers),
            false => (Authorization::Absent, None),
        };
        let forwarded_for = self.forwarded_for(&parts.headers, peer);
        if there.has(Glance::CONNECTION) {
            remove_nominated(&mut parts.headers);
        }
        // Whoever passes the request on writes the host anew: it need not be taken away first.
        remove_all(&mut parts.headers, |name| name != "host" && self.taken.takes(name));
        let hops = match there.has(Glance::VIA) {
            true => forwarded::hops(&parts.headers),
            false => 0,
        };
        let cookies = match there.has(Glance::COOKIE) {
            true => {
                if parts.version == Version::HTTP_2 {
                    join_cookies(&mut parts.headers);
                }
                self.own_cookies.take(&mut parts.headers)
            }
            false => Vec::new(),
        };
        let credential = Credential { authorization, cookies };
        let scrubbed = Scrubbed {
            parts,
            body,
            target,
            forwarded_for,
            hops,
            upgrade,
            authorization: as_it_came,
        };
        (scrubbed, credential)
    }

    /// Takes the credential out of a request that another proxy passes on.
    pub fn take_credential(&self, headers: &mut HeaderMap) -> Credential {
        join_cookies(headers);
        Credential {
            authorization: authorization(headers).0,
            cookies: self.own_cookies.take(headers),
        }
    }

    /// What must not reach an application from anybody else, and is not among what it is `told`: every identity header,
    /// also as `sent` spells it, and the credential.
    pub fn never_from_others(&self, sent: &HeaderMap, told: &HeaderMap) -> Vec<HeaderName> {
        let emitted = |name: &str| {
            let folded = folded(name);
            self.emitted.iter().any(|emitted| *emitted == *folded)
        };
        let spelled = sent.keys().filter(|name| emitted(name.as_str()));
        let credential = [header::AUTHORIZATION, header::COOKIE];
        let mut names: Vec<HeaderName> = Vec::new();
        for name in self.emitted.iter().chain(spelled).chain(&credential) {
            if !told.contains_key(name) && !names.contains(name) {
                names.push(name.clone());
            }
        }
        names
    }

    /// Removes what is taken, and what `Connection` nominates, before the gateway adds anything of its own (I6).
    pub fn clean(&self, headers: &mut HeaderMap) {
        remove_nominated(headers);
        remove_all(headers, |name| self.taken.takes(name));
    }

    pub(super) fn taken(&self) -> Arc<Taken> {
        self.taken.clone()
    }

    /// Where the client is, in the words of a trusted peer; `None` where it does not say.
    pub fn client(&self, headers: &HeaderMap, peer: IpAddr) -> Option<IpAddr> {
        self.forwarded_for(headers, peer).first().map(IpAddr::to_canonical)
    }

    /// From the client to the nearest trusted proxy: what stands left of the first address that nobody vouches for is
    /// the client's own word, and dropped (I7).
    fn forwarded_for(&self, headers: &HeaderMap, peer: IpAddr) -> Vec<IpAddr> {
        if self.trusted_proxies.are_none() || !self.trusts(peer) {
            return Vec::new();
        }
        let mut chain = Vec::new();
        let lines = headers
            .get_all("x-forwarded-for")
            .iter()
            .filter_map(|line| line.to_str().ok());
        let addresses: Vec<_> = lines.flat_map(|line| line.split(',')).collect();
        for address in addresses.iter().rev() {
            // What is no address of anybody says as little as what is none.
            let address = address.trim().parse().ok().filter(|it: &IpAddr| !it.is_unspecified());
            let Some(address) = address else { break };
            chain.push(address);
            if !self.trusts(address) {
                break;
            }
        }
        chain.reverse();
        chain
    }

    /// Whether the word of whoever is there counts on where others are.
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted_proxies.include(address)
    }
}

impl Taken {
    /// Leaves of a request's trailers what neither only the gateway may say, nor only a head (RFC 9110 §6.5.1).
    pub(super) fn clean_trailers(&self, trailers: &mut HeaderMap) {
        remove_all(trailers, |name| self.takes(name) || OF_A_HEAD.contains(&name));
    }

    fn takes(&self, name: &str) -> bool {
        // Most are told apart by how they begin, for that is alike in every spelling.
        if !name.starts_with('x') && !begins_like_taken(name) && !self.initials.include(&Initials::of(name)) {
            return false;
        }
        // Names come in lower case; a dash is what most of the others are read as.
        match name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        {
            true => self.takes_folded(name),
            false => self.takes_folded(&folded(name)),
        }
    }

    fn takes_folded(&self, name: &str) -> bool {
        is_the_gateways(name) || self.identity_headers.contains(name)
    }
}

impl Initials {
    /// Of a name in any spelling.
    fn of(name: &str) -> Self {
        let first = name.chars().next().map_or('-', fold);
        // Letters do not meet each other in the lowest six bits.
        Self(1 << (u32::from(first) & 63))
    }

    fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn include(&self, other: &Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// Whether a folded name is one that the gateway takes out on every route, whatever the routes tell.
pub(super) fn is_the_gateways(name: &str) -> bool {
    match name.strip_prefix("x-") {
        Some(rest) => X_FAMILIES.iter().any(|family| rest.starts_with(family)),
        None => {
            begins_like_taken(name) && (TAKEN.contains(&name) || FAMILIES.iter().any(|family| name.starts_with(family)))
        }
    }
}

/// A few letters tell most of what comes with a request from what is taken.
fn begins_like_taken(name: &str) -> bool {
    matches!(
        name.as_bytes(),
        [b'a', b'u', ..]
            | [b'c', b'f' | b'l', ..]
            | [b'c', b'o', b'n', ..]
            | [b'e', b'x', ..]
            | [b'f', b'a' | b'o', ..]
            | [b'h', b'o' | b't', ..]
            | [b'i', b'm', ..]
            | [b'k', b'e' | b'u', ..]
            | [b'o', b'i', ..]
            | [b'p', b'r', b'o', ..]
            | [b'r', b'e', b'm', ..]
            | [b's', b'm', ..]
            | [b't', b'e' | b'r', ..]
            | [b'u', b'p', ..]
    )
}

impl Scrubbed {
    pub fn target(&self) -> &Target {
        &self.target
    }

    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// For an endpoint of the gateway itself.
    pub fn into_body(self) -> Incoming {
        self.body
    }

    /// How many gateways like this one it has passed (RFC 9110 §7.6.3).
    pub fn hops(&self) -> usize {
        self.hops
    }

    /// What a trusted proxy reported of where the request came from; without the peer.
    pub fn forwarded_for(&self) -> &[IpAddr] {
        &self.forwarded_for
    }
}

/// A name as many programs read it: lower case, and everything but letters and digits is a dash (I4).
pub fn folded(name: &str) -> String {
    name.chars().map(fold).collect()
}

fn fold(c: char) -> char {
    match c.is_ascii_alphanumeric() {
        true => c.to_ascii_lowercase(),
        false => '-',
    }
}

/// Removes what any `Connection` line names, in whatever case (RFC 9110 §7.6.1).
pub(super) fn remove_nominated(headers: &mut HeaderMap) {
    let lines = headers.get_all(header::CONNECTION).iter();
    let names = lines.flat_map(|line| line.as_bytes().split(|b| *b == b','));
    // What most lines name goes wherever this is asked for, nominated or not.
    let goes_anyway = |name: &[u8]| {
        [&b"keep-alive"[..], b"upgrade"]
            .iter()
            .any(|it| it.eq_ignore_ascii_case(name))
    };
    let nominated: Vec<HeaderName> = names
        .map(<[u8]>::trim_ascii)
        .filter(|name| !goes_anyway(name))
        .filter_map(|name| HeaderName::from_bytes(name).ok())
        .collect();
    for name in nominated {
        headers.remove(name);
    }
}

/// Removes the headers whose names are to go; a look at each costs less than a search for each name there is.
pub(super) fn remove_all(headers: &mut HeaderMap, goes: impl Fn(&str) -> bool) {
    let going: Vec<HeaderName> = headers.keys().filter(|name| goes(name.as_str())).cloned().collect();
    for name in going {
        headers.remove(name);
    }
}

/// By HTTP/2 such a request cannot come, for there is no upgrade in it (RFC 9113 §8.2.2): it was made of an extended CONNECT.
fn asks_for_websocket(request: &Parts) -> bool {
    let headers = &request.headers;
    let mut upgrades = headers.get_all(header::UPGRADE).iter();
    let websocket = matches!((upgrades.next(), upgrades.next()),
        (Some(only), None) if only.as_bytes().eq_ignore_ascii_case(b"websocket"));
    websocket
        && request.method == Method::GET
        && matches!(request.version, Version::HTTP_11 | Version::HTTP_2)
        && headers
            .get_all(header::CONNECTION)
            .iter()
            .flat_map(|line| line.as_bytes().split(|b| *b == b','))
            .any(|name| name.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
}

/// The client's side of the connection, when it is free.
fn on_upgrade(parts: &mut Parts) -> OnUpgrade {
    let mut request = http::Request::new(());
    *request.extensions_mut() = std::mem::take(&mut parts.extensions);
    let upgrade = hyper::upgrade::on(&mut request);
    parts.extensions = std::mem::take(request.extensions_mut());
    upgrade
}

/// One line of all cookies, for HTTP/2 may bring each by itself (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let lines: Vec<_> = headers
        .get_all(header::COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if lines.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&lines.join(&b"; "[..]))
    {
        headers.insert(header::COOKIE, joined);
    }
}

/// Whether it is a call of gRPC: HTTP/2, POST, and its content type, but not that of gRPC-Web.
pub fn is_grpc(parts: &Parts) -> bool {
    parts.version == Version::HTTP_2
        && parts.method == Method::POST
        && parts.headers.get(header::CONTENT_TYPE).is_some_and(|value| {
            let rest = value.as_bytes().strip_prefix(b"application/grpc");
            rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
        })
}

/// What the header says, and the header itself.
fn authorization(headers: &HeaderMap) -> (Authorization, Option<HeaderValue>) {
    let mut lines = headers.get_all(header::AUTHORIZATION).iter();
    match (lines.next(), lines.next()) {
        (None, _) => (Authorization::Absent, None),
        (Some(only), None) => {
            let mut as_it_came = only.clone();
            as_it_came.set_sensitive(true);
            (read_authorization(only), Some(as_it_came))
        }
        (Some(_), Some(_)) => (Authorization::Several, None),
    }
}

fn read_authorization(line: &HeaderValue) -> Authorization {
    let line = line.as_bytes().trim_ascii();
    let end = line.iter().position(|b| *b == b' ').unwrap_or(line.len());
    let (scheme, rest) = line.split_at_checked(end).unwrap_or((line, b""));
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        let is_text = rest.iter().all(|b| matches!(b, b' '..=b'~' | b'\t'));
        return match is_text && scheme.is_ascii() {
            true => Authorization::Other,
            false => Authorization::Malformed,
        };
    }
    let token = std::str::from_utf8(rest.trim_ascii()).ok();
    match token.filter(|token| is_token(token)) {
        Some(token) => Authorization::Bearer(Secret::new(token)),
        None => Authorization::Malformed,
    }
}

/// `b64token` (RFC 6750 §2.1).
fn is_token(text: &str) -> bool {
    let body = text.trim_end_matches('=').as_bytes();
    let may_stand = |b: u8| b.is_ascii_alphanumeric() | matches!(b, b'-' | b'.' | b'_' | b'~' | b'+' | b'/');
    // All are looked at, whatever the first ones are: so many of them are at once.
    !body.is_empty() && body.iter().fold(true, |all, b| all & may_stand(*b))
}

/// Which cookies are the gateway's own.
#[derive(Clone, Debug)]
pub struct OwnCookies(Arc<str>);

impl OwnCookies {
    pub fn include(&self, name: &str) -> bool {
        let bare = name
            .strip_prefix("__Host-")
            .or(name.strip_prefix("__Secure-"))
            .unwrap_or(name);
        match bare.strip_prefix(&*self.0) {
            Some(rest) => rest.is_empty() || rest.starts_with('-'),
            None => false,
        }
    }

    /// Takes the gateway's own cookies; the others stay as they are, byte by byte (N-123).
    fn take(&self, headers: &mut HeaderMap) -> Vec<(String, String)> {
        let mut taken = Vec::new();
        let Entry::Occupied(lines) = headers.entry(header::COOKIE) else {
            return taken;
        };
        let kept: Vec<_> = lines.iter().filter_map(|line| self.split(line, &mut taken)).collect();
        if taken.is_empty() {
            return taken;
        }
        lines.remove();
        for line in kept {
            headers.append(header::COOKIE, line);
        }
        taken
    }

    /// What is left of a line without the gateway's own cookies; `None` where that is nothing.
    fn split(&self, line: &HeaderValue, taken: &mut Vec<(String, String)>) -> Option<HeaderValue> {
        let before = taken.len();
        let mut kept: Vec<&[u8]> = Vec::new();
        let mut rest = Some(line.as_bytes());
        while let Some(pairs) = rest {
            // A session is two thousand bytes: they are looked through many at a time.
            let pair = match memchr::memchr(b';', pairs).and_then(|end| pairs.split_at_checked(end)) {
                Some((pair, behind)) => {
                    rest = behind.get(1..);
                    pair
                }
                None => {
                    rest = None;
                    pairs
                }
            };
            let pair = pair.trim_ascii();
            match self.own(pair) {
                Some(own) => taken.push(own),
                None => kept.push(pair),
            }
        }
        if taken.len() == before {
            return Some(line.clone());
        }
        kept.retain(|pair| !pair.is_empty());
        let rest = kept.join(&b"; "[..]);
        HeaderValue::from_bytes(&rest).ok().filter(|rest| !rest.is_empty())
    }

    fn own(&self, pair: &[u8]) -> Option<(String, String)> {
        let at = pair.iter().position(|b| *b == b'=')?;
        let (name, value) = pair.split_at_checked(at)?;
        let name = std::str::from_utf8(name.trim_ascii())
            .ok()
            .filter(|name| self.include(name))?;
        // What is not text cannot be a sealed value; it stays here all the same.
        let value = std::str::from_utf8(value.get(1..)?.trim_ascii()).unwrap_or("");
        Some((name.to_owned(), value.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scrubber() -> Scrubber {
        Scrubber::new(ScrubSettings {
            identity_headers: vec![HeaderName::from_static("x-staff")],
            cookie_name: "vestibule".into(),
            trusted_proxies: Proxies {
                networks: vec!["10.0.0.0/8".parse().unwrap()],
                over_unix: true,
            },
        })
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| {
            (
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            )
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn i_7_the_client_is_the_first_address_that_nobody_vouches_for() {
        let chain = |peer: &str, line: &str| {
            scrubber().forwarded_for(&headers(&[("x-forwarded-for", line)]), peer.parse().unwrap())
        };
        let texts = |chain: Vec<IpAddr>| chain.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            texts(chain("10.0.0.1", "6.6.6.6, 192.0.2.7, 10.0.0.2")),
            ["192.0.2.7", "10.0.0.2"]
        );
        assert!(chain("192.0.2.1", "6.6.6.6").is_empty());
        assert_eq!(texts(chain("10.0.0.1", "6.6.6.6, unknown, 10.0.0.2")), ["10.0.0.2"]);
        assert_eq!(texts(chain("0.0.0.0", "6.6.6.6, 192.0.2.7")), ["192.0.2.7"]);
        assert!(
            chain("0.0.0.0", "6.6.6.6, 0.0.0.0").is_empty(),
            "nobody sends from there"
        );
        assert!(
            chain("::", "6.6.6.6").is_empty(),
            "a client that its proxy does not know"
        );
    }

    #[test]
    fn trailers_say_nothing_in_the_gateways_name_and_nothing_of_a_head() {
        let mut trailers = headers(&[
            ("x-staff", "1"),
            ("x_staff", "1"),
            ("x-forwarded-user", "root"),
            ("authorization", "Bearer x"),
            ("cookie", "a=b"),
            ("content-length", "3"),
            ("checksum", "abc"),
        ]);
        scrubber().taken.clean_trailers(&mut trailers);
        assert_eq!(trailers, headers(&[("checksum", "abc")]));
    }

    #[test]
    fn cookies_that_come_one_by_one_are_joined() {
        let mut lines = headers(&[("cookie", "a=1"), ("cookie", "vestibule=x; b=2"), ("cookie", "c=3")]);
        join_cookies(&mut lines);
        assert_eq!(lines, headers(&[("cookie", "a=1; vestibule=x; b=2; c=3")]));
    }

    #[test]
    fn grpc_is_told_by_its_content_type() {
        let call = |version, method: Method, kind: &str| {
            let request = http::Request::builder().version(version).method(method);
            is_grpc(&request.header("content-type", kind).body(()).unwrap().into_parts().0)
        };
        for kind in ["application/grpc", "application/grpc+proto", "application/grpc;x=y"] {
            assert!(call(Version::HTTP_2, Method::POST, kind), "{kind}");
        }
        for kind in ["application/grpc-web", "application/grpc-web+proto", "application/json"] {
            assert!(!call(Version::HTTP_2, Method::POST, kind), "{kind}");
        }
        assert!(!call(Version::HTTP_11, Method::POST, "application/grpc"));
        assert!(!call(Version::HTTP_2, Method::GET, "application/grpc"));
    }

    #[test]
    fn n_064_bearer_is_read_in_any_case_and_nothing_odd_is_a_token() {
        let read = |value: &str| authorization(&headers(&[("authorization", value)])).0;
        assert!(
            matches!(read("bEARER   abc.d-_~+/=="), Authorization::Bearer(token) if token.expose() == "abc.d-_~+/==")
        );
        assert!(matches!(read("Basic abc"), Authorization::Other));
        for value in [
            "Bearer",
            "Bearer ",
            "Bearer a b",
            "Bearer a,b",
            "Bearer =",
            "Bearer \"a\"",
        ] {
            assert!(matches!(read(value), Authorization::Malformed), "{value}");
        }
        let twice = headers(&[("authorization", "Bearer a"), ("authorization", "Bearer a")]);
        assert!(matches!(authorization(&twice), (Authorization::Several, None)));
    }

    #[test]
    fn n_122_only_the_gateways_own_cookies_are_taken() {
        let own = scrubber().own_cookies;
        for name in [
            "vestibule",
            "vestibule-1",
            "__Host-vestibule",
            "__Secure-vestibule-login-x",
        ] {
            assert!(own.include(name), "{name}");
        }
        for name in ["vestibules", "my-vestibule", "__host-vestibule", "a"] {
            assert!(!own.include(name), "{name}");
        }
        let mut sent = headers(&[("cookie", "a=1;b=\"2\"; a=3"), ("cookie", "vestibule=x; c=4;  d")]);
        assert_eq!(own.take(&mut sent), [("vestibule".into(), "x".into())]);
        assert_eq!(
            sent.get_all("cookie").iter().collect::<Vec<_>>(),
            ["a=1;b=\"2\"; a=3", "c=4; d"]
        );
    }

    #[test]
    fn i4_an_identity_header_goes_in_every_spelling_however_it_begins() {
        for (emitted, sent) in [
            ("staff", "Staff"),
            ("staff-id", "staff_id"),
            ("_staff", ".Staff"),
            ("9lives", "9Lives"),
            ("!a", "-a"),
        ] {
            let scrubber = Scrubber::new(ScrubSettings {
                identity_headers: vec![HeaderName::from_static("x-other"), HeaderName::from_static(emitted)],
                ..ScrubSettings::default()
            });
            let mut sent = headers(&[(sent, "spoof"), ("accept", "a")]);
            scrubber.clean(&mut sent);
            assert_eq!(sent, headers(&[("accept", "a")]), "{emitted}");
        }
    }

    #[test]
    fn whatever_is_taken_begins_like_it() {
        for name in TAKEN.iter().chain(FAMILIES) {
            assert!(begins_like_taken(name), "{name}");
        }
    }

    proptest! {
        #[test]
        fn i_4_no_spelling_of_a_taken_name_stays(
            index in 0..TAKEN.len(),
            separators in proptest::collection::vec(prop::sample::select(vec!['-', '_', '.', '!']), 4),
            upper in any::<bool>(),
        ) {
            let mut separators = separators.into_iter().cycle();
            let name: String = TAKEN[index].chars().map(|c| if c == '-' { separators.next().unwrap() } else { c }).collect();
            let name = if upper { name.to_uppercase() } else { name };
            let mut sent = headers(&[(&name, "spoof"), ("X_Staff", "spoof"), ("x.forwarded.user", "spoof"), ("accept", "a")]);
            scrubber().clean(&mut sent);
            prop_assert_eq!(sent.len(), 1);
        }
    }
}
