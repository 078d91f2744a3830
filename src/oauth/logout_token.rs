//! The logout token: a provider says that somebody's session there is over (OIDC Back-Channel Logout 1.0 §2.4).

use std::time::Duration;

use serde_json::Value;

use super::{id_token::Rules, jwks::KeySet, jwt::Unverified, registered};
use crate::{
    identity::{Claims, Subject, TokenError},
    time::Timestamp,
};

/// A logout token that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogoutToken {
    /// Tells this token from every other of the same provider.
    pub id: Box<str>,
    pub over: Over,
    pub issued_at: Timestamp,
    /// From then on it is refused for its age, so its `id` need not be remembered any longer.
    pub refused_from: Timestamp,
}

/// What is over at the provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Over {
    /// One session.
    Session(Box<str>),
    /// All sessions of somebody.
    Person(Subject),
}

/// A token that is older was kept by somebody, or was delayed beyond use.
const MAX_AGE: Duration = Duration::from_secs(300);
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";
/// A longer identifier is nobody's.
const MAX_IDENTIFIER: usize = 255;

/// Checks a logout token (§2.6), all but whether it was used before.
///
/// # Errors
/// `UnknownKey` where fetching the keys anew may help; anything else is final.
pub fn check(token: &str, rules: &Rules, keys: &KeySet, now: Timestamp) -> Result<LogoutToken, TokenError> {
    let token = Unverified::read(token)?.verify(keys, &rules.algorithms)?;
    // Providers older than the registration of the type say `JWT`, or nothing.
    if token.kind().is_some_and(|kind| kind != "logout+jwt" && kind != "jwt") {
        return Err(TokenError::Type);
    }
    let claims = &token.claims;
    registered::issued_by(claims, rules.issuer.as_str())?;
    let audiences = registered::audiences(claims)?;
    if audiences.is_empty() || audiences.iter().any(|audience| *audience != rules.client_id) {
        return Err(TokenError::Audience);
    }
    let expires_at = registered::lifetime(claims, rules.clock_skew, now)?;
    let issued_at = registered::date(claims, "iat", now)?.ok_or(TokenError::Claim("iat"))?;
    let refused_from = expires_at.min(issued_at.plus(MAX_AGE)).plus(rules.clock_skew);
    if refused_from <= now {
        return Err(TokenError::Expired);
    }
    is_logout(claims)?;
    Ok(LogoutToken {
        id: identifier(claims, "jti")?.ok_or(TokenError::Claim("jti"))?.into(),
        over: over(claims)?,
        issued_at,
        refused_from,
    })
}

/// It tells of a logout, and cannot stand for an ID token (§2.4).
fn is_logout(claims: &Claims) -> Result<(), TokenError> {
    if claims.member("nonce").is_some() {
        return Err(TokenError::Type);
    }
    let event = claims
        .member("events")
        .and_then(Value::as_object)
        .and_then(|events| events.get(EVENT));
    match event {
        Some(Value::Object(_)) => Ok(()),
        Some(_) | None => Err(TokenError::Claim("events")),
    }
}

/// One session where it is named, else all of the person.
fn over(claims: &Claims) -> Result<Over, TokenError> {
    let subject = match claims.member("sub") {
        Some(_) => Some(registered::subject(claims)?),
        None => None,
    };
    match (identifier(claims, "sid")?, subject) {
        (Some(sid), _) => Ok(Over::Session(sid.into())),
        (None, Some(subject)) => Ok(Over::Person(subject)),
        (None, None) => Err(TokenError::Claim("sub")),
    }
}

fn identifier<'a>(claims: &'a Claims, name: &'static str) -> Result<Option<&'a str>, TokenError> {
    let Some(value) = claims.member(name) else {
        return Ok(None);
    };
    let text = value.as_str().ok_or(TokenError::Claim(name))?;
    match (1..=MAX_IDENTIFIER).contains(&text.len()) {
        true => Ok(Some(text)),
        false => Err(TokenError::Claim(name)),
    }
}
