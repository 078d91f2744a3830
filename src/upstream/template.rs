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
        let refused = || UpstreamError::Identity(header.name.clone());
        let Some(text) = header.template.fill(identity).map_err(|Unwritable| refused())? else {
            continue;
        };
        let value = HeaderValue::from_bytes(text.as_bytes()).map_err(|_| refused())?;
        headers.insert(header.name.clone(), value);
    }
    Ok(())
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
