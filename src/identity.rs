//! Who somebody is: the words that every room shares. Pure.

mod claims;
mod peer;
mod proxies;
mod strength;
mod words;

use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::Value;

pub use claims::{ClaimPath, Claims};
pub use peer::{OVER_UNIX, Peer, Told, UNKNOWN, Vouchers};
pub use proxies::Proxies;
pub use strength::{Shortfall, Strength, auth_time};
pub use words::Words;

use crate::time::Timestamp;

/// The name that the configuration gives an authorization server: `corp` in `[provider.corp]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProviderId(Arc<str>);

impl ProviderId {
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProviderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An issuer identifier, compared byte by byte and never normalised (RFC 8414 §2).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Issuer(Arc<str>);

impl Issuer {
    pub fn new(identifier: &str) -> Self {
        Self(identifier.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A subject identifier: not empty, at most 255 visible ASCII characters (OIDC Core §2).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Subject(Arc<str>);

impl Subject {
    pub const MAX_LENGTH: usize = 255;

    /// `None` for what cannot be a subject.
    pub fn new(identifier: &str) -> Option<Self> {
        let fits = (1..=Self::MAX_LENGTH).contains(&identifier.len());
        let visible = identifier.bytes().all(|b| (0x20..0x7f).contains(&b));
        (fits && visible).then(|| Self(identifier.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Subject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(&text).ok_or_else(|| de::Error::custom("not a subject identifier"))
    }
}

/// The scope values that a token carries (RFC 6749 §3.3).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Scopes(Vec<Box<str>>);

impl Scopes {
    /// Reads the space-separated list.
    pub fn parse(list: &str) -> Self {
        list.split(' ').filter(|scope| !scope.is_empty()).collect()
    }

    pub fn contains(&self, scope: &str) -> bool {
        self.0.iter().any(|held| &**held == scope)
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|scope| &**scope)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> FromIterator<&'a str> for Scopes {
    fn from_iter<I: IntoIterator<Item = &'a str>>(scopes: I) -> Self {
        Self(scopes.into_iter().map(Into::into).collect())
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, scope) in self.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            f.write_str(scope)?;
        }
        Ok(())
    }
}

/// How an identity came to the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Proof {
    /// A login that this gateway remembers.
    Session,
    /// An access token that the request carries (RFC 6750).
    AccessToken,
}

/// Somebody whose proof was checked.
#[derive(Clone, Debug)]
pub struct Identity {
    pub provider: ProviderId,
    pub issuer: Issuer,
    pub subject: Subject,
    pub proof: Proof,
    /// What the provider's `username_claim` says.
    pub username: Option<Box<str>>,
    /// The e-mail address, present only when it counts as verified.
    pub email: Option<Box<str>>,
    /// What the provider's `groups_claim` says.
    pub groups: Vec<Box<str>>,
    /// Whether there may be groups that nobody told: no groups, and not the same as none.
    pub groups_unknown: bool,
    pub scopes: Scopes,
    pub claims: Claims,
    /// When the proof ends.
    pub expires_at: Timestamp,
    /// What an application was told of them.
    pub words: Words,
}

impl Identity {
    /// Whether both are of one person: what a `sub` means, only its issuer says (OIDC Core §5.7).
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.issuer == other.issuer && self.subject == other.subject
    }
}

/// Where a provider keeps what the gateway asks of every identity.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimNames {
    pub username: ClaimPath,
    pub groups: ClaimPath,
    /// Until when an e-mail address counts although nobody said `email_verified`.
    pub unverified_email_until: Option<Timestamp>,
}

impl ClaimNames {
    /// An address is somebody's name only where it counts as theirs.
    pub fn username(&self, claims: &Claims, now: Timestamp) -> Option<Box<str>> {
        if self.username.is_email() {
            return self.email(claims, now);
        }
        claims.at(&self.username)?.as_str().map(Into::into)
    }

    pub fn groups(&self, claims: &Claims) -> Vec<Box<str>> {
        claims.texts_at(&self.groups).into_iter().map(Into::into).collect()
    }

    /// Whether there may be groups that [`groups`](Self::groups) does not have: somebody else keeps them, or they are
    /// no list of texts.
    pub fn groups_unknown(&self, claims: &Claims) -> bool {
        let is_told = match claims.at(&self.groups) {
            None | Some(Value::Null | Value::String(_)) => true,
            Some(Value::Array(values)) => values.iter().all(Value::is_string),
            Some(Value::Bool(_) | Value::Number(_) | Value::Object(_)) => false,
        };
        !is_told || claims.is_elsewhere(&self.groups)
    }

    /// An address counts when the provider says `email_verified: true` (OIDC Core §5.1).
    pub fn email(&self, claims: &Claims, now: Timestamp) -> Option<Box<str>> {
        let verified = claims.member("email_verified") == Some(&Value::Bool(true));
        let excused = self.unverified_email_until.is_some_and(|until| now < until);
        claims.text("email").filter(|_| verified || excused).map(Into::into)
    }
}

impl Default for ClaimNames {
    fn default() -> Self {
        Self {
            username: ClaimPath::member("preferred_username"),
            groups: ClaimPath::member("groups"),
            unverified_email_until: None,
        }
    }
}

/// Why a credential that was presented does not count. For the log; the wire only says `invalid_token`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TokenError {
    #[error("the Authorization header cannot be read")]
    Malformed,
    #[error("the token is longer than allowed")]
    TooLong,
    #[error("the route does not accept this kind of credential")]
    NotAccepted,
    #[error("no configured provider issued the token")]
    UnknownIssuer,
    #[error("the signature does not verify")]
    Signature,
    #[error("the algorithm is not allowed")]
    Algorithm,
    #[error("no key of the provider fits")]
    UnknownKey,
    #[error("the typ header is not the one expected")]
    Type,
    #[error("the header asks for something that is not understood")]
    Header,
    #[error("the token is for another audience")]
    Audience,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    NotYetValid,
    #[error("the claim {0} is missing or of the wrong type")]
    Claim(&'static str),
    #[error("the authorization server says that the token is not active")]
    Inactive,
    #[error("the token is bound to a key that the request does not prove")]
    SenderConstrained,
    #[error("the token is of somebody else than the session")]
    OtherPerson,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn claims(value: Value) -> Claims {
        Claims::from_json(value.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn groups_are_known_only_where_all_of_them_can_be_read() {
        let names = ClaimNames::default();
        for known in [
            json!({}),
            json!({"groups": null}),
            json!({"groups": []}),
            json!({"groups": "ops"}),
            json!({"hasgroups": false}),
        ] {
            assert!(!names.groups_unknown(&claims(known.clone())), "{known}");
        }
        for unknown in [
            json!({"groups": [{"name": "ops"}]}),
            json!({"groups": ["staff", 7]}),
            json!({"groups": {"ops": {}}}),
            json!({"groups": 7}),
            json!({"_claim_names": {"groups": "src1"}}),
            json!({"_claim_names": ["groups"]}),
            json!({"hasgroups": 1}),
            json!({"hasgroups": "true"}),
        ] {
            assert!(names.groups_unknown(&claims(unknown.clone())), "{unknown}");
        }
    }

    #[test]
    fn a_subject_is_short_visible_ascii() {
        assert!(Subject::new("248289761001").is_some());
        assert!(Subject::new("").is_none());
        assert!(Subject::new("a\nb").is_none());
        assert!(Subject::new("å").is_none());
        assert!(Subject::new(&"a".repeat(256)).is_none());
    }

    #[test]
    fn an_address_is_a_name_only_where_it_counts() {
        let now = Timestamp::from_unix(1_000);
        let names = ClaimNames {
            username: ClaimPath::parse("/email").unwrap(),
            ..ClaimNames::default()
        };
        let claimed = |verified: bool| claims(json!({"email": "ann@example.com", "email_verified": verified}));
        assert_eq!(names.username(&claimed(true), now).as_deref(), Some("ann@example.com"));
        assert_eq!(names.username(&claimed(false), now), None);
    }

    #[test]
    fn an_address_counts_when_it_is_verified() {
        let now = Timestamp::from_unix(1_000);
        let names = ClaimNames::default();
        let email = |verified: Value| {
            let claims = claims(json!({"email": "ann@example.com", "email_verified": verified}));
            names.email(&claims, now)
        };
        assert!(email(json!(true)).is_some());
        for verified in [json!(false), json!("true"), json!(1), json!(null)] {
            assert!(email(verified).is_none());
        }
    }

    #[test]
    fn an_excuse_for_unverified_addresses_ends_on_its_date() {
        let names = ClaimNames {
            unverified_email_until: Some(Timestamp::from_unix(2_000)),
            ..ClaimNames::default()
        };
        let claims = claims(json!({"email": "ann@example.com"}));
        assert!(names.email(&claims, Timestamp::from_unix(1_999)).is_some());
        assert!(names.email(&claims, Timestamp::from_unix(2_000)).is_none());
    }
}
