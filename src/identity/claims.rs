//! What a provider says of somebody, and where in it something stands.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::Value;

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

    /// Of a member of the whole.
    pub(super) fn member(name: &str) -> Self {
        Self {
            segments: vec![name.into()],
        }
    }

    /// Of an address of mail (OIDC Core §5.1).
    pub fn email() -> Self {
        Self::member("email")
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
}
