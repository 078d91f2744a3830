//! What the application is told of an identity.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use super::UpstreamError;
use crate::identity::{ClaimPath, Identity};

/// A header that tells the application about the identity.
#[derive(Clone, Debug)]
pub struct IdentityHeader {
    pub name: HeaderName,
    pub template: Template,
}

/// Text with holes: `"{user}"`, `"Bearer of {email}"`.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    pub pieces: Vec<Piece>,
}

/// A piece of a template.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    Text(Box<str>),
    /// `{user}`: what the provider's `username_claim` says.
    User,
    /// `{email}`: the verified address.
    Email,
    /// `{groups}`: joined with a comma.
    Groups,
    /// `{scopes}`: joined with a space.
    Scopes,
    /// `{sub}`.
    Subject,
    /// `{issuer}`.
    Issuer,
    /// Any other name: a string, number or boolean at that path; an array of strings is joined with a comma.
    Claim(ClaimPath),
}

/// A longer value is refused by many applications, and by more of them cut short.
const MAX_VALUE_BYTES: usize = 16 * 1024;

/// Writes one header for each template whose claims are all there; a missing claim is a missing header (I5).
///
/// # Errors
/// When a claim has a character that no header can hold, or one that would make two values of one.
pub(super) fn write(
    identity: &Identity,
    templates: &[IdentityHeader],
    headers: &mut HeaderMap,
) -> Result<(), UpstreamError> {
    for header in templates {
        if let Some(value) = identity_header(identity, header)? {
            headers.insert(header.name.clone(), value);
        }
    }
    Ok(())
}

/// The value of one header; `None` where a claim is missing.
///
/// # Errors
/// As for all of them.
pub fn identity_header(identity: &Identity, header: &IdentityHeader) -> Result<Option<HeaderValue>, UpstreamError> {
    let refused = || UpstreamError::Identity(header.name.clone());
    let Some(text) = header.template.fill(identity).map_err(|Unwritable| refused())? else {
        return Ok(None);
    };
    HeaderValue::from_bytes(text.as_bytes())
        .map(Some)
        .map_err(|_| refused())
}

/// A value that cannot be written so that it is read as what it is.
struct Unwritable;

impl Template {
    /// `None` when a claim is missing or empty.
    fn fill(&self, identity: &Identity) -> Result<Option<String>, Unwritable> {
        let mut text = String::new();
        for piece in &self.pieces {
            let before = text.len();
            piece.fill(identity, &mut text)?;
            if text.len() == before {
                return Ok(None);
            }
        }
        match text.len() <= MAX_VALUE_BYTES && !text.bytes().any(|b| b.is_ascii_control()) {
            true => Ok(Some(text)),
            false => Err(Unwritable),
        }
    }
}

impl Piece {
    fn fill(&self, identity: &Identity, text: &mut String) -> Result<(), Unwritable> {
        match self {
            Self::Text(literal) => text.push_str(literal),
            Self::User => text.push_str(identity.username.as_deref().unwrap_or("")),
            Self::Email => text.push_str(identity.email.as_deref().unwrap_or("")),
            Self::Groups => return joined(identity.groups.iter().map(|group| &**group), ',', text),
            Self::Scopes => return joined(identity.scopes.iter(), ' ', text),
            Self::Subject => text.push_str(identity.subject.as_str()),
            Self::Issuer => text.push_str(identity.issuer.as_str()),
            Self::Claim(path) => return claim(identity.claims.at(path), text),
        }
        Ok(())
    }
}

fn claim(value: Option<&Value>, text: &mut String) -> Result<(), Unwritable> {
    match value {
        None | Some(Value::Null | Value::Object(_)) => Ok(()),
        Some(Value::String(value)) => {
            text.push_str(value);
            Ok(())
        }
        Some(value @ (Value::Number(_) | Value::Bool(_))) => {
            text.push_str(&value.to_string());
            Ok(())
        }
        Some(Value::Array(values)) => match values.iter().map(Value::as_str).collect::<Option<Vec<_>>>() {
            Some(values) => joined(values.into_iter(), ',', text),
            None => Err(Unwritable),
        },
    }
}

/// A value that holds the delimiter would be read as two.
fn joined<'a>(values: impl Iterator<Item = &'a str>, delimiter: char, text: &mut String) -> Result<(), Unwritable> {
    for (index, value) in values.enumerate() {
        if value.contains(delimiter) {
            return Err(Unwritable);
        }
        if index > 0 {
            text.push(delimiter);
        }
        text.push_str(value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        identity::{Issuer, Proof, ProviderId, Scopes, Subject},
        time::Timestamp,
        upstream::headers::{ScrubSettings, Scrubber},
    };
    use proptest::prelude::*;
    use serde_json::json;

    fn identity(user: Option<&str>, groups: &[String]) -> Identity {
        Identity {
            provider: ProviderId::new("corp"),
            issuer: Issuer::new("https://id.example.com"),
            subject: Subject::new("1").unwrap(),
            proof: Proof::Session,
            username: user.map(Into::into),
            email: None,
            groups: groups.iter().map(|group| group.as_str().into()).collect(),
            scopes: Scopes::default(),
            claims: [("n", json!(7)), ("list", json!(["a", "b"])), ("mixed", json!(["a", 1]))]
                .into_iter()
                .collect(),
            expires_at: Timestamp::from_unix(0),
        }
    }

    fn header(name: &'static str, piece: Piece) -> IdentityHeader {
        IdentityHeader {
            name: HeaderName::from_static(name),
            template: Template { pieces: vec![piece] },
        }
    }

    fn claim(path: &str) -> Piece {
        Piece::Claim(ClaimPath::parse(path).unwrap())
    }

    fn written(piece: Piece, identity: &Identity) -> Result<Option<String>, UpstreamError> {
        let mut headers = HeaderMap::new();
        write(identity, &[header("x-user", piece)], &mut headers)?;
        Ok(headers
            .get("x-user")
            .map(|value| String::from_utf8(value.as_bytes().to_vec()).unwrap()))
    }

    #[test]
    fn a_claim_is_written_as_what_it_is_or_not_at_all() {
        let somebody = identity(Some("zoë"), &["staff".into(), "ops".into()]);
        let text = |piece| written(piece, &somebody).unwrap();
        assert_eq!(text(Piece::User).unwrap(), "zoë");
        assert_eq!(text(Piece::Groups).unwrap(), "staff,ops");
        assert_eq!(text(claim("n")).unwrap(), "7");
        assert_eq!(text(claim("list")).unwrap(), "a,b");
        assert_eq!(text(claim("absent")), None);
        assert_eq!(text(Piece::Email), None);
        assert!(written(claim("mixed"), &somebody).is_err());
    }

    #[test]
    fn what_would_be_read_as_something_else_is_not_written() {
        for user in ["a\r\nX-Admin: 1", "a\0", "a\u{7f}", "a\tb"] {
            assert!(written(Piece::User, &identity(Some(user), &[])).is_err(), "{user:?}");
        }
        assert!(written(Piece::Groups, &identity(None, &["a,admins".into()])).is_err());
        assert!(written(Piece::User, &identity(Some(&"x".repeat(MAX_VALUE_BYTES + 1)), &[])).is_err());
    }

    proptest! {
        #[test]
        fn i_5_after_strip_and_emit_there_is_one_value_or_none(
            spoofed in proptest::collection::vec(("[xX][-_.][uU]ser|[xX][-_]Groups|accept", "[a-z]{1,5}"), 0..12),
            user in proptest::option::of("[a-zA-Z0-9 ._-]{1,20}"),
            groups in proptest::collection::vec("[a-z]{1,8}", 0..4),
        ) {
            let templates = [header("x-user", Piece::User), header("x-groups", Piece::Groups)];
            let scrubber = Scrubber::new(ScrubSettings {
                identity_headers: templates.iter().map(|header| header.name.clone()).collect(),
                cookie_name: "vestibule".into(),
                trusted_proxies: Vec::new(),
            });
            let mut headers = HeaderMap::new();
            for (name, value) in &spoofed {
                headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
            }
            scrubber.clean(&mut headers);
            write(&identity(user.as_deref(), &groups), &templates, &mut headers).unwrap();
            let values = |name: &str| headers.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect::<Vec<_>>();
            prop_assert_eq!(values("x-user"), user.into_iter().collect::<Vec<_>>());
            let joined = (!groups.is_empty()).then(|| groups.join(","));
            prop_assert_eq!(values("x-groups"), joined.into_iter().collect::<Vec<_>>());
            let others = headers.keys().filter(|name| !["x-user", "x-groups", "accept"].contains(&name.as_str())).count();
            prop_assert_eq!(others, 0);
        }
    }
}
