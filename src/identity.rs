//! Who somebody is: the words that every room shares. Pure.

mod peer;
mod proxies;
mod strength;

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::Value;

pub use peer::{OVER_UNIX, Peer, UNKNOWN, Vouchers};
pub use proxies::Proxies;
pub use strength::{Shortfall, Strength, auth_time};

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

/// A JSON object of claims in which no name stands twice, at any depth (RFC 7519 §4).
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Claims(BTreeMap<Box<str>, Value>);

impl Claims {
    /// Reads a JSON object; a duplicate member name anywhere in it is an error.
    pub fn from_json(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    pub fn member(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// A member that is a string; a member of another type reads as absent.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.member(name)?.as_str()
    }

    pub fn at(&self, path: &ClaimPath) -> Option<&Value> {
        let (first, rest) = path.segments.split_first()?;
        rest.iter()
            .try_fold(self.member(first)?, |value, segment| value.get(&**segment))
    }

    /// The strings at a path: one for a string, each for an array of strings, none for anything else.
    pub fn texts_at(&self, path: &ClaimPath) -> Vec<&str> {
        match self.at(path) {
            Some(Value::String(text)) => vec![text],
            Some(Value::Array(values)) => values.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// Whether somebody else keeps the claim: it is not here, and `_claim_names` has it (OIDC Core §5.6.2), or
    /// `hasgroups` as Entra ID writes it where there is no room for more.
    pub fn is_elsewhere(&self, path: &ClaimPath) -> bool {
        self.member(path.first_segment()).is_none() && self.is_said_to_be_elsewhere(path)
    }

    /// The same, also where it was fetched from there.
    pub fn is_said_to_be_elsewhere(&self, path: &ClaimPath) -> bool {
        let name = path.first_segment();
        // However oddly it is written: who says that there is more has said it.
        let named = match self.member("_claim_names") {
            Some(Value::Object(names)) => names.contains_key(name),
            Some(Value::Array(names)) => names.iter().any(|named| named == name),
            Some(named) => named == name,
            None => false,
        };
        let flag = self.member("hasgroups").filter(|_| name == "groups");
        let is_no = |flag: &Value| matches!(flag, Value::Null | Value::Bool(false)) || *flag == "false" || *flag == 0;
        named || flag.is_some_and(|flag| !is_no(flag))
    }

    /// Puts a member in the place of what was there.
    pub fn with(mut self, name: &str, value: Value) -> Self {
        self.0.insert(name.into(), value);
        self
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }

    /// Adds the members of `other` that are not here yet.
    pub fn fill_from(&mut self, other: Self) {
        for (name, value) in other.0 {
            self.0.entry(name).or_insert(value);
        }
    }

    /// Only the members that `keep` names.
    pub fn only(mut self, keep: &[&str]) -> Self {
        self.0.retain(|name, _| keep.contains(&&**name));
        self
    }

    /// Without the members that `drop` names.
    pub fn without(mut self, drop: &[&str]) -> Self {
        self.0.retain(|name, _| !drop.contains(&&**name));
        self
    }
}

impl<N: Into<Box<str>>> FromIterator<(N, Value)> for Claims {
    fn from_iter<I: IntoIterator<Item = (N, Value)>>(members: I) -> Self {
        Self(members.into_iter().map(|(name, value)| (name.into(), value)).collect())
    }
}

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor).map(Self)
    }
}

struct MembersVisitor;

impl<'de> de::Visitor<'de> for MembersVisitor {
    type Value = BTreeMap<Box<str>, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = BTreeMap::new();
        while let Some((name, Unrepeated(value))) = map.next_entry::<Box<str>, Unrepeated>()? {
            if members.contains_key(&name) {
                return Err(de::Error::custom("duplicate member name"));
            }
            members.insert(name, value);
        }
        Ok(members)
    }
}

/// A JSON value whose objects repeat no member name.
struct Unrepeated(Value);

impl<'de> Deserialize<'de> for Unrepeated {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UnrepeatedVisitor).map(Self)
    }
}

struct UnrepeatedVisitor;

impl<'de> de::Visitor<'de> for UnrepeatedVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Unrepeated(value)) = seq.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Value, A::Error> {
        let members = MembersVisitor.visit_map(map)?;
        Ok(members
            .into_iter()
            .map(|(name, value)| (String::from(name), value))
            .collect())
    }
}

/// Where a claim stands: `groups`, `realm_access.roles`, a JSON pointer (RFC 6901), or a URL taken whole.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClaimPath {
    segments: Vec<Box<str>>,
}

impl ClaimPath {
    /// `None` when a segment is empty.
    pub fn parse(text: &str) -> Option<Self> {
        let segments: Vec<Box<str>> = match text.strip_prefix('/') {
            Some(pointer) => pointer
                .split('/')
                .map(|segment| segment.replace("~1", "/").replace("~0", "~").into())
                .collect(),
            // Namespaced claims are URLs, and the dots of a host name do not nest.
            None if text.contains("://") => vec![text.into()],
            None => text.split('.').map(Into::into).collect(),
        };
        segments
            .iter()
            .all(|segment| !segment.is_empty())
            .then_some(Self { segments })
    }

    /// Of an address of mail (OIDC Core §5.1).
    pub fn email() -> Self {
        Self {
            segments: vec!["email".into()],
        }
    }

    /// Whether it is the address of which `email_verified` speaks (OIDC Core §5.1).
    pub fn is_email(&self) -> bool {
        !self.is_nested() && self.first_segment() == "email"
    }

    pub fn is_nested(&self) -> bool {
        self.segments.len() > 1
    }

    /// `None` when a segment is empty, or there is none.
    pub fn from_segments(segments: &[&str]) -> Option<Self> {
        let good = !segments.is_empty() && segments.iter().all(|segment| !segment.is_empty());
        good.then(|| Self {
            segments: segments.iter().map(|segment| (*segment).into()).collect(),
        })
    }

    pub fn first_segment(&self) -> &str {
        self.segments.first().map_or("", |segment| segment)
    }
}

impl fmt::Display for ClaimPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.segments.join("."))
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
        let path = |name: &str| ClaimPath {
            segments: vec![name.into()],
        };
        Self {
            username: path("preferred_username"),
            groups: path("groups"),
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
    fn a_name_that_stands_twice_is_refused_at_any_depth() {
        assert!(Claims::from_json(br#"{"role":"user","role":"admin"}"#).is_err());
        assert!(Claims::from_json(br#"{"a":[{"b":{"role":1,"role":2}}]}"#).is_err());
        assert!(Claims::from_json(br#"{"a":{"role":1},"b":{"role":2}}"#).is_ok());
    }

    #[test]
    fn claims_are_an_object_and_nothing_follows_it() {
        for text in ["[]", "null", "1", "", "{} {}", r#"{"a":1"#] {
            assert!(Claims::from_json(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn claims_that_nest_too_deeply_are_refused() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
        assert!(Claims::from_json(deep.as_bytes()).is_err());
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
    fn a_path_is_dotted_or_a_pointer_or_a_url() {
        let claims = claims(json!({
            "realm_access": {"roles": ["reporter", 7, "author"]},
            "https://id.example.com/groups": "ops",
            "a.b": {"c/d": "e"},
        }));
        let at = |path: &str| claims.texts_at(&ClaimPath::parse(path).unwrap());
        assert_eq!(at("realm_access.roles"), ["reporter", "author"]);
        assert_eq!(at("https://id.example.com/groups"), ["ops"]);
        assert_eq!(at("/a.b/c~1d"), ["e"]);
        assert!(at("realm_access").is_empty());
        assert!(at("nowhere.at.all").is_empty());
        assert!(ClaimPath::parse("a..b").is_none());
        assert!(ClaimPath::parse("").is_none());
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
