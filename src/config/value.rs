//! Other values that are written as strings: addresses, names, scopes, claims, cookies.

use std::{net::Ipv4Addr, path::PathBuf};

use http::Method;
use ipnet::IpNet;

use super::{
    read::{FromText, Wrong, wrong},
    vocabulary::unknown_word,
};
use crate::{
    certificate,
    identity::{ClaimPath, Subject},
    secret::Secret,
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

/// Whose forwarding headers count; never everybody's (I7).
impl FromText for IpNet {
    const EXAMPLE: &'static str = "\"10.0.0.0/8\"";

    fn from_text(text: &str) -> Result<Self, Wrong> {
        let instead = "write a network like \"10.0.0.0/8\", or one address like \"10.0.0.7/32\"";
        let network: Self = text
            .parse()
            .map_err(|_| wrong(format!("is not a network: \"{text}\""), instead))?;
        // Halves of all addresses are as bad as all of them; the widest networks that anybody owns are these.
        let widest = match network {
            Self::V4(_) => 8,
            Self::V6(_) => 7,
        };
        if network.prefix_len() < widest {
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

/// What a client certificate is called.
impl FromText for certificate::Name {
    const EXAMPLE: &'static str = "\"CN=ops-1,O=Example\"";

    fn from_text(text: &str) -> Result<Self, Wrong> {
        let bad = |instead| wrong(format!("is not the name of a certificate: \"{text}\""), instead);
        Self::read(text).map_err(bad)
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
            .filter(|(local, domain)| !local.is_empty() && !local.contains('*') && is_domain(domain));
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

/// An expression, on one line or several; what is in it shows when it is compiled.
#[derive(Clone, Debug)]
pub(super) struct ExpressionText(pub(super) String);

impl FromText for ExpressionText {
    const EXAMPLE: &'static str = "'\"staff\" in groups'";

    fn from_text(text: &str) -> Result<Self, Wrong> {
        let plain = |c: char| !c.is_control() || matches!(c, '\n' | '\t');
        let good = !text.trim().is_empty() && text.chars().all(plain);
        good.then(|| Self(text.into())).ok_or_else(|| {
            wrong(
                "is empty or has control characters",
                format!("write one like {}", Self::EXAMPLE),
            )
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i7_nobody_trusts_everybody() {
        for everybody in ["0.0.0.0/0", "10.2.0.0/0", "::/0", "fd00::/0"] {
            assert!(IpNet::from_text(everybody).is_err(), "{everybody}");
        }
        assert!(IpNet::from_text("10.0.0.0/8").is_ok());
        assert!(IpNet::from_text("10.2.0.0/8").is_err());
    }

    #[test]
    fn i10_what_is_never_forwarded_is_not_a_method_of_a_route() {
        for method in ["CONNECT", "TRACE", "get", "", "GET /", "G=T"] {
            assert!(Method::from_text(method).is_err(), "{method}");
        }
        assert!(Method::from_text("PROPFIND").is_ok());
    }
}
