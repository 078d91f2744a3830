//! Cookies of the gateway: their names, their attributes, and one value over several of them.

use std::{borrow::Cow, time::Duration};

use cookie::Cookie;
use http::HeaderValue;

use super::{CookieSettings, SameSite};
use crate::policy::Origin;

/// Browsers keep 4096 bytes of name and value together (RFC 6265bis §5.6); the rest is room for the name.
const PART_BYTES: usize = 3_800;
/// Three parts stay under the 12 KiB that common servers take in one head beside everything else.
const MAX_PARTS: usize = 3;
/// What the cookies of the parts are called after.
const PARTS: [&str; MAX_PARTS] = ["", "1", "2"];

/// The gateway's cookies as the origin that sets them sees them.
#[derive(Debug)]
pub struct CookieJar<'a> {
    settings: &'a CookieSettings,
    secure: bool,
    received: &'a [(String, String)],
}

/// A value that would need more cookies than a browser and an upstream bear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the session is too large for cookies: {bytes} bytes, at most {limit} fit", limit = PART_BYTES * MAX_PARTS)]
pub struct TooLarge {
    pub bytes: usize,
}

impl<'a> CookieJar<'a> {
    pub fn new(settings: &'a CookieSettings, origin: &Origin, received: &'a [(String, String)]) -> Self {
        Self {
            settings,
            secure: origin.is_https(),
            received,
        }
    }

    /// The full name: `__Host-` where the browser can bind the cookie to this host (RFC 6265bis §4.1.3).
    pub fn name(&self, suffix: &str) -> String {
        let dash = if suffix.is_empty() { "" } else { "-" };
        format!("{}{}{dash}{suffix}", self.prefix(), self.settings.name)
    }

    fn prefix(&self) -> &'static str {
        match (self.secure, &self.settings.domain) {
            (true, None) => "__Host-",
            (true, Some(_)) => "__Secure-",
            (false, _) => "",
        }
    }

    /// Whether this is [`Self::name`], without making it: every request asks.
    fn is_name(&self, sent: &str, suffix: &str) -> bool {
        let rest = sent.strip_prefix(self.prefix());
        match rest.and_then(|rest| rest.strip_prefix(&*self.settings.name)) {
            Some("") => suffix.is_empty(),
            Some(rest) => !suffix.is_empty() && rest.strip_prefix('-') == Some(suffix),
            None => false,
        }
    }

    /// The value of a cookie that was sent exactly once; one that was sent twice was tossed in by somebody (N-121).
    pub fn value(&self, suffix: &str) -> Option<&'a str> {
        let mut values = self.received.iter().filter(|(sent, _)| self.is_name(sent, suffix));
        let (_, value) = values.next()?;
        values.next().is_none().then_some(value)
    }

    /// Suffixes of the cookies that were sent, those that begin with `prefix`.
    pub fn suffixes(&self, prefix: &str) -> impl Iterator<Item = &'a str> {
        let stem = self.name(prefix);
        let cut = stem.len().saturating_sub(prefix.len());
        self.received
            .iter()
            .filter(move |(name, _)| name.starts_with(&stem))
            .filter_map(move |(name, _)| name.get(cut..))
    }

    /// Sets a cookie; `max_age` in whole seconds.
    pub fn set(&self, suffix: &str, value: &str, max_age: Duration) -> Option<HeaderValue> {
        self.header(suffix, value, max_age)
    }

    /// Deletes a cookie, with the name, path, domain and `Secure` that it was set with (N-119).
    pub fn delete(&self, suffix: &str) -> Option<HeaderValue> {
        self.header(suffix, "", Duration::ZERO)
    }

    fn header(&self, suffix: &str, value: &str, max_age: Duration) -> Option<HeaderValue> {
        let seconds = i64::try_from(max_age.as_secs()).unwrap_or(i64::MAX);
        let mut cookie = Cookie::build((self.name(suffix), value))
            .path("/")
            .http_only(true)
            .secure(self.secure)
            .same_site(self.same_site(suffix))
            .max_age(cookie::time::Duration::seconds(seconds));
        if let Some(domain) = &self.settings.domain {
            cookie = cookie.domain(&**domain);
        }
        let mut header = HeaderValue::from_str(&cookie.build().to_string()).ok()?;
        header.set_sensitive(true);
        Some(header)
    }

    /// Only the session can be strict: the rest has to come along when the provider sends the browser back.
    fn same_site(&self, suffix: &str) -> cookie::SameSite {
        let session = suffix.bytes().all(|b| b.is_ascii_digit());
        match self.settings.same_site {
            SameSite::Strict if session => cookie::SameSite::Strict,
            SameSite::Strict | SameSite::Lax => cookie::SameSite::Lax,
        }
    }

    /// The parts of a split value, the last ones empty: `N.` before the first part tells how many there are.
    pub(super) fn parts(&self) -> Option<[&'a str; MAX_PARTS]> {
        let (count, first) = self.value("")?.split_once('.')?;
        let count = count
            .parse::<usize>()
            .ok()
            .filter(|count| (1..=MAX_PARTS).contains(count))?;
        let mut parts = [first, "", ""];
        for (part, suffix) in parts.iter_mut().zip(PARTS).take(count).skip(1) {
            *part = self.value(suffix)?;
        }
        Some(parts)
    }

    /// The split value as a whole.
    pub fn joined(&self) -> Option<Cow<'a, str>> {
        self.parts().map(joined)
    }

    /// Splits a value over as many cookies as it needs, and deletes the parts of a longer one before it.
    pub fn set_split(&self, value: &str, max_age: Duration) -> Result<Vec<HeaderValue>, TooLarge> {
        let parts = split(value);
        if parts.len() > MAX_PARTS {
            return Err(TooLarge { bytes: value.len() });
        }
        let mut headers = Vec::with_capacity(parts.len());
        for (index, part) in parts.iter().enumerate() {
            headers.extend(match index {
                0 => self.set("", &format!("{}.{part}", parts.len()), max_age),
                _ => self.set(&index.to_string(), part, max_age),
            });
        }
        headers.extend(self.delete_parts(parts.len()));
        Ok(headers)
    }

    /// Deletes the split value, as far as the browser sent any of it.
    pub fn delete_split(&self) -> Vec<HeaderValue> {
        let whole = self.was_sent("").then(|| self.delete("")).flatten();
        whole.into_iter().chain(self.delete_parts(1)).collect()
    }

    fn delete_parts(&self, from: usize) -> impl Iterator<Item = HeaderValue> {
        (from..MAX_PARTS)
            .map(|index| index.to_string())
            .filter(|suffix| self.was_sent(suffix))
            .filter_map(|suffix| self.delete(&suffix))
    }

    fn was_sent(&self, suffix: &str) -> bool {
        self.received.iter().any(|(sent, _)| self.is_name(sent, suffix))
    }
}

/// What the parts make together.
pub(super) fn joined<'a>(parts: [&'a str; MAX_PARTS]) -> Cow<'a, str> {
    match parts {
        [whole, "", ""] => Cow::Borrowed(whole),
        parts => Cow::Owned(parts.concat()),
    }
}

/// Sealed text is ASCII, so that it can be cut anywhere.
fn split(value: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = value;
    while let Some((part, behind)) = rest.split_at_checked(PART_BYTES) {
        parts.push(part);
        rest = behind;
    }
    if !rest.is_empty() || parts.is_empty() {
        parts.push(rest);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Scheme;
    use proptest::prelude::*;

    fn origin(scheme: Scheme) -> Origin {
        Origin {
            scheme,
            host: "wiki.example.com".into(),
            port: None,
        }
    }

    /// What a browser would send back.
    fn sent_back(headers: &[HeaderValue]) -> Vec<(String, String)> {
        let parse = |header: &HeaderValue| Cookie::parse(header.to_str().unwrap().to_owned()).unwrap();
        let kept = |cookie: &Cookie<'_>| !cookie.max_age().unwrap().is_zero();
        let cookies = headers.iter().map(parse).filter(kept);
        cookies
            .map(|cookie| (cookie.name().to_owned(), cookie.value().to_owned()))
            .collect()
    }

    #[test]
    fn n_116_on_https_the_cookie_is_bound_to_the_host() {
        let settings = CookieSettings::default();
        let jar = CookieJar::new(&settings, &origin(Scheme::Https), &[]);
        let header = jar.set("", "x", Duration::from_secs(60)).unwrap();
        assert_eq!(
            header.to_str().unwrap(),
            "__Host-vestibule=x; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=60"
        );
    }

    #[test]
    fn a_domain_gives_up_the_host_prefix() {
        let settings = CookieSettings {
            domain: Some("example.com".into()),
            ..CookieSettings::default()
        };
        let jar = CookieJar::new(&settings, &origin(Scheme::Https), &[]);
        assert_eq!(jar.name("login"), "__Secure-vestibule-login");
        let header = jar.set("", "x", Duration::from_secs(60)).unwrap();
        assert!(header.to_str().unwrap().contains("Domain=example.com"));
    }

    #[test]
    fn n_121_a_name_that_was_sent_twice_is_absent() {
        let settings = CookieSettings::default();
        let received = [("vestibule".into(), "1.a".into()), ("vestibule".into(), "1.b".into())];
        let jar = CookieJar::new(&settings, &origin(Scheme::Http), &received);
        assert_eq!(jar.value(""), None);
        assert_eq!(jar.joined(), None);
    }

    #[test]
    fn n_118_no_cookie_is_larger_than_a_browser_keeps() {
        let settings = CookieSettings::default();
        let jar = CookieJar::new(&settings, &origin(Scheme::Https), &[]);
        let headers = jar
            .set_split(&"x".repeat(PART_BYTES * MAX_PARTS), Duration::from_secs(60))
            .unwrap();
        assert_eq!(headers.len(), MAX_PARTS);
        assert!(
            sent_back(&headers)
                .iter()
                .all(|(name, value)| name.len() + value.len() <= 4_096)
        );
    }

    #[test]
    fn f_18_a_value_that_does_not_fit_is_refused() {
        let settings = CookieSettings::default();
        let jar = CookieJar::new(&settings, &origin(Scheme::Https), &[]);
        let bytes = PART_BYTES * MAX_PARTS + 1;
        let refused = jar.set_split(&"x".repeat(bytes), Duration::from_secs(60));
        assert_eq!(refused.unwrap_err(), TooLarge { bytes });
    }

    #[test]
    fn f_18_parts_of_a_longer_value_are_deleted() {
        let settings = CookieSettings::default();
        let long = CookieJar::new(&settings, &origin(Scheme::Https), &[]);
        let received = sent_back(&long.set_split(&"x".repeat(9_000), Duration::from_secs(60)).unwrap());
        let jar = CookieJar::new(&settings, &origin(Scheme::Https), &received);
        let headers = jar.set_split("short", Duration::from_secs(60)).unwrap();
        assert_eq!(headers.len(), 3);
        assert_eq!(sent_back(&headers).len(), 1);
        assert_eq!(jar.delete_split().len(), 3);
    }

    #[test]
    fn a_cookie_is_known_by_its_whole_name() {
        let settings = CookieSettings::default();
        for scheme in [Scheme::Http, Scheme::Https] {
            let jar = CookieJar::new(&settings, &origin(scheme), &[]);
            let names: Vec<String> = ["", "1", "login-x", "11"].map(|suffix| jar.name(suffix)).into();
            for suffix in ["", "1", "login-x", "11", "-", "x"] {
                for name in names
                    .iter()
                    .map(String::as_str)
                    .chain(["vestibule-", "vestibulex", "__Host-vestibul", ""])
                {
                    assert_eq!(jar.is_name(name, suffix), *name == jar.name(suffix), "{name} {suffix}");
                }
            }
        }
    }

    #[test]
    fn a_missing_part_is_no_value() {
        let settings = CookieSettings::default();
        let jar = CookieJar::new(&settings, &origin(Scheme::Http), &[]);
        let mut received = sent_back(&jar.set_split(&"x".repeat(9_000), Duration::from_secs(60)).unwrap());
        received.remove(1);
        assert_eq!(
            CookieJar::new(&settings, &origin(Scheme::Http), &received).joined(),
            None
        );
    }

    #[test]
    fn counts_that_nobody_wrote_are_no_value() {
        let settings = CookieSettings::default();
        for value in ["", "x", "0.x", "4.x", "99999999999999999999.x", "-1.x", "2.x"] {
            let received = [("vestibule".to_owned(), value.to_owned())];
            assert_eq!(
                CookieJar::new(&settings, &origin(Scheme::Http), &received).joined(),
                None,
                "{value}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_split_joins_again(length in 0..=PART_BYTES * MAX_PARTS) {
            let settings = CookieSettings::default();
            let value: String = (0..length).map(|index| char::from(b'a' + (index % 26) as u8)).collect();
            let jar = CookieJar::new(&settings, &origin(Scheme::Https), &[]);
            let received = sent_back(&jar.set_split(&value, Duration::from_secs(60)).unwrap());
            let joined = CookieJar::new(&settings, &origin(Scheme::Https), &received).joined();
            prop_assert_eq!(joined.as_deref(), Some(&*value));
        }
    }
}
