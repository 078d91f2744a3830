//! Headers that the operator sets, adds and removes, beside what the gateway says itself.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::headers::{folded, is_the_gateways, remove_all};
use crate::policy::Origin;

/// Changes to the headers of a message.
#[derive(Clone, Debug, Default)]
pub struct Edits {
    pub remove: Vec<HeaderName>,
    /// In the place of whatever is there.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Beside whatever is there.
    pub add: Vec<(HeaderName, HeaderValue)>,
}

/// The changes of a route.
#[derive(Clone, Debug, Default)]
pub struct RouteEdits {
    pub request: Edits,
    pub response: Edits,
    /// Whether browsers are told to be careful where the application does not tell them.
    pub security: bool,
}

/// Headers of a message or of a connection that nobody may edit, folded (I4, I9).
const OF_THE_MESSAGE: [&str; 10] = [
    "cookie",
    "location",
    "max-forwards",
    "sec-websocket-accept",
    "sec-websocket-extensions",
    "sec-websocket-key",
    "sec-websocket-protocol",
    "sec-websocket-version",
    "set-cookie",
    "via",
];

/// Whether a header is none of the operator's: it frames the message, is a credential, or only the gateway says it.
pub fn is_untouchable(name: &HeaderName) -> bool {
    let folded = folded(name.as_str());
    is_the_gateways(&folded) || OF_THE_MESSAGE.contains(&&*folded)
}

impl Edits {
    /// Before anything is written in a name, every spelling of it goes that an application could take for it (I4).
    pub(super) fn apply_to_request(&self, headers: &mut HeaderMap) {
        for name in self.remove.iter().chain(self.set.iter().map(|(name, _)| name)) {
            let gone = folded(name.as_str());
            remove_all(headers, |other| folded(other) == gone);
        }
        self.apply(headers);
    }

    fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name.clone(), value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name.clone(), value.clone());
        }
    }

    /// Every name in them.
    pub fn names(&self) -> impl Iterator<Item = &HeaderName> {
        let written = self.set.iter().chain(&self.add).map(|(name, _)| name);
        self.remove.iter().chain(written)
    }
}

impl RouteEdits {
    pub(super) fn apply_to_answer(&self, origin: &Origin, headers: &mut HeaderMap) {
        self.response.apply(headers);
        if self.security {
            secure(origin, headers);
        }
    }
}

/// A year (RFC 6797 §6.1).
const HSTS: HeaderValue = HeaderValue::from_static("max-age=31536000");
const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");
const REFERRER: HeaderValue = HeaderValue::from_static("strict-origin-when-cross-origin");
const SAME_ORIGIN: HeaderValue = HeaderValue::from_static("SAMEORIGIN");

/// What the application says itself stays.
fn secure(origin: &Origin, headers: &mut HeaderMap) {
    let framed = has_frame_ancestors(headers);
    let told = [
        (header::STRICT_TRANSPORT_SECURITY, HSTS, origin.is_https()),
        (header::X_CONTENT_TYPE_OPTIONS, NOSNIFF, true),
        (header::REFERRER_POLICY, REFERRER, true),
        (header::X_FRAME_OPTIONS, SAME_ORIGIN, !framed),
    ];
    for (name, value, applies) in told {
        if applies {
            headers.entry(name).or_insert(value);
        }
    }
}

/// Whether the content security policy says who may frame it, which `X-Frame-Options` would only confuse (CSP3 §6.4.2).
fn has_frame_ancestors(headers: &HeaderMap) -> bool {
    let policies = headers.get_all(header::CONTENT_SECURITY_POLICY).iter();
    let mut directives = policies.flat_map(|policy| policy.as_bytes().split(|b| matches!(b, b';' | b',')));
    directives.any(|directive| {
        let name = directive
            .trim_ascii()
            .split(u8::is_ascii_whitespace)
            .next()
            .unwrap_or_default();
        name.eq_ignore_ascii_case(b"frame-ancestors")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Scheme;

    fn secured(scheme: Scheme, headers: &[(&'static str, &'static str)]) -> HeaderMap {
        let origin = Origin {
            scheme,
            host: "a".into(),
            port: None,
        };
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        let mut headers = headers.iter().map(pair).collect();
        secure(&origin, &mut headers);
        headers
    }

    #[test]
    fn browsers_are_told_only_what_the_application_does_not_say() {
        let bare = secured(Scheme::Https, &[]);
        assert_eq!((bare.len(), &bare["x-frame-options"]), (4, &SAME_ORIGIN));
        assert!(!secured(Scheme::Http, &[]).contains_key("strict-transport-security"));
        let own = [("x-frame-options", "DENY"), ("referrer-policy", "no-referrer")];
        let own = secured(Scheme::Https, &own);
        assert_eq!(own["x-frame-options"], "DENY");
        assert_eq!(own["referrer-policy"], "no-referrer");
        for policy in [
            "default-src 'self'; Frame-Ancestors 'none'",
            "frame-ancestors https://a",
        ] {
            let framed = secured(Scheme::Https, &[("content-security-policy", policy)]);
            assert!(!framed.contains_key("x-frame-options"), "{policy}");
        }
        let other = secured(
            Scheme::Https,
            &[("content-security-policy", "default-src frame-ancestors")],
        );
        assert!(other.contains_key("x-frame-options"));
    }

    #[test]
    fn i4_what_frames_or_vouches_is_not_edited_in_any_spelling() {
        for name in [
            "host",
            "authorization",
            "Cookie",
            "Set_Cookie",
            "content-length",
            "Transfer.Encoding",
            "connection",
            "X_Forwarded_For",
            "x-forwarded-anything",
            "remote-user",
            "forwarded",
            "via",
            "upgrade",
            "sec-websocket-key",
            "x-auth-request-user",
        ] {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            assert!(is_untouchable(&name), "{name}");
        }
        for name in [
            "x-api-key",
            "referer",
            "cache-control",
            "server",
            "content-security-policy",
        ] {
            assert!(!is_untouchable(&HeaderName::from_static(name)), "{name}");
        }
    }
}
