//! Values that are written as strings: durations, sizes, scopes, claims, header templates.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use http::{HeaderName, Method};
use ipnet::IpNet;

use super::{
    read::{FromText, Wrong, wrong},
    vocabulary::unknown_word,
};
use crate::{
    identity::{ClaimPath, Subject},
    secret::Secret,
    upstream::headers::{Piece, Template},
};

impl FromText for String {
    fn from_text(text: &str) -> Result<Self, Wrong> {
        let printable = !text.is_empty() && !text.chars().any(char::is_control);
        let instead = "write some text, without control characters";
        printable
            .then(|| text.into())
            .ok_or_else(|| wrong("is empty or has control characters", instead))
    }
}

impl FromText for PathBuf {
    fn from_text(text: &str) -> Result<Self, Wrong> {
        String::from_text(text).map(Self::from)
    }
}

/// A length of time; no longer than a year, so that no arithmetic on it can overflow.
impl FromText for Duration {
    const EXAMPLE: &'static str = "\"30s\"";

    fn from_text(text: &str) -> Result<Self, Wrong> {
        let instead =
            "write a number and a unit, like \"250ms\", \"30s\", \"5m\", \"1h30m\" or \"7d\"; at most \"366d\"";
        let bad = || wrong(format!("is not a duration: \"{text}\""), instead);
        let longest = Self::from_secs(366 * 86_400);
        duration(text).filter(|duration| *duration <= longest).ok_or_else(bad)
    }
}

/// The sum of numbers with units.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() || text.is_empty() {
        let (number, after) = leading_number(rest)?;
        let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, next) = after.split_at_checked(end)?;
        sum = sum.checked_add(match unit {
            "ms" => Duration::from_millis(number),
            "s" => Duration::from_secs(number),
            "m" => Duration::from_secs(number.checked_mul(60)?),
            "h" => Duration::from_secs(number.checked_mul(3_600)?),
            "d" => Duration::from_secs(number.checked_mul(86_400)?),
            _ => return None,
        })?;
        rest = next;
    }
    Some(sum)
}

fn leading_number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (digits, rest) = text.split_at_checked(end)?;
    Some((digits.parse().ok()?, rest))
}

/// A limit of a wait: longer than nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeout(pub(super) Duration);

impl FromText for Timeout {
    const EXAMPLE: &'static str = "\"30s\"";

    fn from_text(text: &str) -> Result<Self, Wrong> {
        let duration = Duration::from_text(text)?;
        let instead = "a wait needs a limit: write one like \"30s\"";
        (!duration.is_zero())
            .then_some(Self(duration))
            .ok_or_else(|| wrong("leaves no time at all", instead))
    }
}

/// How far two clocks may differ: 120 seconds at most (N-075).
#[derive(Clone, Copy, Debug)]
pub(super) struct Skew(pub(super) Duration);

impl FromText for Skew {
    const EXAMPLE: &'static str = "\"30s\"";

    fn from_text(text: &str) -> Result<Self, Wrong> {
        let duration = Duration::from_text(text)?;
        (duration <= Duration::from_secs(120))
            .then_some(Self(duration))
            .ok_or_else(|| {
                wrong(
                    "is more than a clock may be off",
                    "write \"120s\" or less, and mind the clock",
                )
            })
    }
}

/// A number of bytes between two limits, both included.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size<const MIN: u64, const MAX: u64>(pub(super) u64);

impl<const MIN: u64, const MAX: u64> Size<MIN, MAX> {
    pub(super) fn to_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl<const MIN: u64, const MAX: u64> FromText for Size<MIN, MAX> {
    const EXAMPLE: &'static str = "\"32KiB\"";

    fn from_text(text: &str) -> Result<Self, Wrong> {
        let size = size(text).ok_or_else(|| {
            let instead = "write a number and a unit, like \"512B\", \"32KiB\", \"10MiB\" or \"1GiB\"";
            wrong(format!("is not a size: \"{text}\""), instead)
        })?;
        (MIN..=MAX)
            .contains(&size)
            .then_some(Self(size))
            .ok_or_else(|| wrong("is out of range", format!("write a size from \"{MIN}B\" to \"{MAX}B\"")))
    }
}

fn size(text: &str) -> Option<u64> {
    let (number, unit) = leading_number(text)?;
    let factor = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(factor)
}

impl FromText for SocketAddr {
    const EXAMPLE: &'static str = "\"127.0.0.1:4180\"";

    fn from_text(text: &str) -> Result<Self, Wrong> {
        let instead = "write an address and a port, like \"127.0.0.1:4180\" or \"[::]:4180\"";
        text.parse()
            .map_err(|_| wrong(format!("is not an address to listen at: \"{text}\""), instead))
    }
}

/// Whose forwarding headers count; never everybody's (I7).
impl FromText for IpNet {
    const EXAMPLE: &'static str = "\"10.0.0.0/8\"";

    fn from_text(text: &str) -> Result<Self, Wrong> {
        let instead = "write a network like \"10.0.0.0/8\", or one address like \"10.0.0.7/32\"";
        let network: Self = text
            .parse()
            .map_err(|_| wrong(format!("is not a network: \"{text}\""), instead))?;
        if network.prefix_len() == 0 {
            return Err(wrong(
                "trusts everybody",
                "write the networks that the proxies are in, and no others",
            ));
        }
        if network.trunc() != network {
            let instead = format!("write \"{}\"", network.trunc());
            return Err(wrong("has bits set beyond its length", instead));
        }
        Ok(network)
    }
}

/// What is logged: a level, or levels by target, as in `info,vestibule::provider=debug`.
#[derive(Clone, Debug)]
pub(super) struct LogFilter(pub(super) String);

const LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];

impl FromText for LogFilter {
    fn from_text(text: &str) -> Result<Self, Wrong> {
        for part in text.split(',') {
            let (target, level) = part.rsplit_once('=').unwrap_or(("vestibule", part));
            if !LEVELS.contains(&level) {
                return Err(unknown_word(level, LEVELS));
            }
            let plain = |c: char| c.is_ascii_alphanumeric() || "_:-".contains(c);
            if target.is_empty() || !target.chars().all(plain) {
                return Err(wrong(
                    "has a target that is none",
                    "write it like \"info,vestibule::provider=debug\"",
                ));
            }
        }
        Ok(Self(text.into()))
    }
}

/// The name of a provider or a route: it stands in URLs, logs and metrics.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name(pub(super) String);

impl FromText for Name {
    fn from_text(text: &str) -> Result<Self, Wrong> {
        let fits = (1..=64).contains(&text.len());
        let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        (fits && plain)
            .then(|| Self(text.into()))
            .ok_or_else(|| wrong("is not a plain one", "write 1 to 64 letters, digits, `-` and `_`"))
    }
}

/// One scope value (RFC 6749 §3.3).
#[derive(Clone, Debug)]
pub(super) struct Scope(pub(super) String);

impl FromText for Scope {
    fn from_text(text: &str) -> Result<Self, Wrong> {
        let allowed = |b: u8| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
        (!text.is_empty() && text.bytes().all(allowed))
            .then(|| Self(text.into()))
            .ok_or_else(|| {
                wrong(
                    "is not a scope",
                    "write each scope as a string of its own: [\"openid\", \"email\"]",
                )
            })
    }
}

impl FromText for Subject {
    fn from_text(text: &str) -> Result<Self, Wrong> {
        let instead = "write the `sub` claim: 1 to 255 ASCII characters";
        Self::new(text).ok_or_else(|| wrong("is not a subject", instead))
    }
}

/// An e-mail address, as far as it can be told by looking.
#[derive(Clone, Debug)]
pub(super) struct Email(pub(super) String);

impl FromText for Email {
    fn from_text(text: &str) -> Result<Self, Wrong> {
        let parts = text
            .split_once('@')
            .filter(|(local, domain)| !local.is_empty() && is_domain(domain));
        let instead = "write one address, like \"ann@example.com\"; domains go into `email_domains`";
        parts
            .map(|_| Self(text.into()))
            .ok_or_else(|| wrong("is not an e-mail address", instead))
    }
}

/// What follows the `@` of an e-mail address.
#[derive(Clone, Debug)]
pub(super) struct EmailDomain(pub(super) String);

impl FromText for EmailDomain {
    fn from_text(text: &str) -> Result<Self, Wrong> {
        let instead = "write what follows the `@`, like \"example.com\"; each subdomain by itself";
        is_domain(text)
            .then(|| Self(text.to_ascii_lowercase()))
            .ok_or_else(|| wrong("is not the domain of an e-mail address", instead))
    }
}

fn is_domain(text: &str) -> bool {
    let plain = |label: &str| !label.is_empty() && label.chars().all(|c| c.is_alphanumeric() || c == '-');
    text.split('.').all(plain)
}

impl FromText for ClaimPath {
    const EXAMPLE: &'static str = "\"realm_access.roles\"";

    fn from_text(text: &str) -> Result<Self, Wrong> {
        let instead = "write \"groups\", \"realm_access.roles\", \"/a~1b/c\" or a URL";
        Self::parse(text).ok_or_else(|| wrong("is not the path of a claim", instead))
    }
}

impl FromText for Method {
    const EXAMPLE: &'static str = "\"GET\"";

    fn from_text(text: &str) -> Result<Self, Wrong> {
        let upper = text.to_ascii_uppercase();
        if matches!(&*upper, "CONNECT" | "TRACE") {
            return Err(wrong(
                format!("cannot be \"{text}\": it is never forwarded"),
                "leave it out",
            ));
        }
        if text != upper {
            return Err(wrong("is written in upper case", format!("write \"{upper}\"")));
        }
        let named = text.bytes().all(|b| b.is_ascii_uppercase() || b == b'-');
        let method = Self::from_bytes(text.as_bytes()).ok().filter(|_| named);
        method.ok_or_else(|| {
            wrong(
                format!("is not a method: \"{text}\""),
                "write one like \"GET\" or \"POST\"",
            )
        })
    }
}

impl FromText for Secret {
    fn from_text(text: &str) -> Result<Self, Wrong> {
        let missing = || wrong("is empty", "write the secret that the provider gave");
        (!text.is_empty()).then(|| Self::new(text)).ok_or_else(missing)
    }
}

/// The name of a cookie (RFC 6265 §4.1.1), without the prefixes that the gateway puts before it.
#[derive(Clone, Debug)]
pub(super) struct CookieName(pub(super) String);

impl FromText for CookieName {
    fn from_text(text: &str) -> Result<Self, Wrong> {
        let fits = (1..=64).contains(&text.len());
        let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        let prefixed = text.starts_with("__");
        (fits && plain && !prefixed).then(|| Self(text.into())).ok_or_else(|| {
            let instead =
                "write 1 to 64 letters, digits, `-` and `_`; `__Host-` and `__Secure-` are added where they fit";
            wrong("is not the name of a cookie", instead)
        })
    }
}

/// The domain of a cookie, without a leading dot (RFC 6265 §5.2.3).
#[derive(Clone, Debug)]
pub(super) struct CookieDomain(pub(super) String);

impl CookieDomain {
    /// Whether a browser keeps the cookie for this host (RFC 6265 §5.1.3).
    pub(super) fn covers(&self, host: &str) -> bool {
        host == self.0 || host.strip_suffix(&self.0).is_some_and(|rest| rest.ends_with('.'))
    }
}

impl FromText for CookieDomain {
    fn from_text(text: &str) -> Result<Self, Wrong> {
        // A name without a dot is a public suffix to browsers, and an address has no domain.
        let fits = is_domain(text) && text.is_ascii() && text.contains('.') && text.parse::<Ipv4Addr>().is_err();
        fits.then(|| Self(text.to_ascii_lowercase())).ok_or_else(|| {
            wrong(
                "is not the domain of a cookie",
                "write a domain that holds all hosts, like \"example.com\"",
            )
        })
    }
}

/// Headers that belong to the message or to the gateway, with every `-` as in [`folded`] (I4, I6, I7, I9).
const TAKEN: &[&str] = &[
    "age",
    "alt-svc",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "date",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "max-forwards",
    "origin",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-authentication-info",
    "proxy-connection",
    "range",
    "referer",
    "sec-fetch-dest",
    "sec-fetch-mode",
    "sec-fetch-site",
    "sec-fetch-user",
    "sec-websocket-accept",
    "sec-websocket-extensions",
    "sec-websocket-key",
    "sec-websocket-protocol",
    "sec-websocket-version",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "www-authenticate",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-forwarded-server",
    "x-real-ip",
];

/// A name as many programs read it: lower case, and everything but letters and digits is a dash (I4).
pub(super) fn folded(name: &str) -> String {
    let fold = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_lowercase()
        } else {
            '-'
        }
    };
    name.chars().map(fold).collect()
}

/// The name of a header that tells the application about an identity.
impl FromText for HeaderName {
    fn from_text(text: &str) -> Result<Self, Wrong> {
        if TAKEN.contains(&&*folded(text)) {
            return Err(wrong(
                "belongs to the message itself",
                "choose a header of your own, like \"X-User\"",
            ));
        }
        let name = Self::from_bytes(text.as_bytes()).ok();
        name.ok_or_else(|| wrong("is not the name of a header", "write one like \"X-User\""))
    }
}

impl FromText for Template {
    const EXAMPLE: &'static str = "\"{user}\"";

    fn from_text(text: &str) -> Result<Self, Wrong> {
        if text.is_empty() || !text.bytes().all(|b| (0x20..0x7f).contains(&b)) {
            return Err(wrong("is empty or not plain ASCII", "write something like \"{user}\""));
        }
        let instead = "write a claim between braces, like \"{user}\", and a brace itself twice, like \"{{\"";
        let pieces =
            pieces(text).ok_or_else(|| wrong(format!("has a brace that does not fit: \"{text}\""), instead))?;
        Ok(Self { pieces })
    }
}

fn pieces(text: &str) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let hole = rest.strip_prefix('{').filter(|after| !after.starts_with('{'));
        if let Some(after) = hole {
            let (name, after) = after.split_once('}')?;
            flush(&mut literal, &mut pieces);
            pieces.push(hole_named(name)?);
            rest = after;
            continue;
        }
        // What is left of a brace is a pair of them.
        let width = if "{}".contains(first) {
            rest.strip_prefix("{{").or(rest.strip_prefix("}}")).map(|_| 2)?
        } else {
            1
        };
        literal.push(first);
        rest = rest.get(width..)?;
    }
    flush(&mut literal, &mut pieces);
    Some(pieces)
}

fn flush(literal: &mut String, pieces: &mut Vec<Piece>) {
    if !literal.is_empty() {
        pieces.push(Piece::Text(std::mem::take(literal).into()));
    }
}

fn hole_named(name: &str) -> Option<Piece> {
    Some(match name {
        "user" => Piece::User,
        "email" => Piece::Email,
        "groups" => Piece::Groups,
        "scopes" => Piece::Scopes,
        "sub" => Piece::Subject,
        "issuer" => Piece::Issuer,
        claim if claim.contains(['{', ' ']) => return None,
        claim => Piece::Claim(ClaimPath::parse(claim)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_sum_of_numbers_with_units() {
        let seconds = |text| Duration::from_text(text).map(|duration| duration.as_secs()).ok();
        assert_eq!(seconds("30s"), Some(30));
        assert_eq!(seconds("1h30m"), Some(5_400));
        assert_eq!(seconds("7d"), Some(604_800));
        assert_eq!(seconds("0s"), Some(0));
        for bad in [
            "",
            "30",
            "s",
            "30 s",
            "-5s",
            "1.5h",
            "5y",
            "367d",
            "99999999999999999999s",
            "30s x",
        ] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_size_has_a_binary_unit() {
        let bytes = |text| Size::<1, { 1 << 40 }>::from_text(text).map(|size| size.0).ok();
        assert_eq!(bytes("512B"), Some(512));
        assert_eq!(bytes("32KiB"), Some(32 * 1024));
        for bad in [
            "",
            "32",
            "32kB",
            "KiB",
            "0B",
            "99999999999999999999GiB",
            "18446744073709551615KiB",
        ] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
    }

    #[test]
    fn i7_nobody_trusts_everybody() {
        for everybody in ["0.0.0.0/0", "10.2.0.0/0", "::/0", "fd00::/0"] {
            assert!(IpNet::from_text(everybody).is_err(), "{everybody}");
        }
        assert!(IpNet::from_text("10.0.0.0/8").is_ok());
        assert!(IpNet::from_text("10.2.0.0/8").is_err());
    }

    #[test]
    fn a_template_is_text_with_holes() {
        let claim = |path| Piece::Claim(ClaimPath::parse(path).unwrap());
        let read = |text| Template::from_text(text).map(|template| template.pieces).ok();
        assert_eq!(read("{user}"), Some(vec![Piece::User]));
        assert_eq!(
            read("a{b.c}d"),
            Some(vec![Piece::Text("a".into()), claim("b.c"), Piece::Text("d".into())])
        );
        assert_eq!(
            read("{{{sub}}}"),
            Some(vec![Piece::Text("{".into()), Piece::Subject, Piece::Text("}".into())])
        );
        for bad in ["", "{", "}", "{user", "user}", "{}", "{a..b}", "{a{b}", "a\nb", "ü"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn i4_a_header_of_the_message_is_not_told_by_any_spelling() {
        for name in [
            "Host",
            "COOKIE",
            "X_Forwarded_For",
            "transfer-encoding",
            "Authorization",
            "a b",
            "",
        ] {
            assert!(HeaderName::from_text(name).is_err(), "{name}");
        }
        assert!(HeaderName::from_text("X-Forwarded-User").is_ok());
    }

    #[test]
    fn i10_what_is_never_forwarded_is_not_a_method_of_a_route() {
        for method in ["CONNECT", "TRACE", "get", "", "GET /", "G=T"] {
            assert!(Method::from_text(method).is_err(), "{method}");
        }
        assert!(Method::from_text("PROPFIND").is_ok());
    }
}
