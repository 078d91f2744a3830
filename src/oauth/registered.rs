//! The registered claims, read strictly: a claim of the wrong type is an error, never absent (RFC 7519 §4.1).

use std::time::Duration;

use serde_json::Value;

use crate::{
    identity::{Claims, Scopes, Subject, TokenError},
    time::Timestamp,
};

/// A time further away than this is a mistake or an attack: a hundred years, in seconds.
const FAR: f64 = 100.0 * 365.25 * 86_400.0;

/// A `NumericDate` (RFC 7519 §2), whole or with a fraction.
pub(super) fn date(claims: &Claims, name: &'static str, now: Timestamp) -> Result<Option<Timestamp>, TokenError> {
    let Some(value) = claims.member(name) else {
        return Ok(None);
    };
    let seconds = value.as_f64().ok_or(TokenError::Claim(name))?;
    if !seconds.is_finite() || (seconds - now.unix() as f64).abs() > FAR {
        return Err(TokenError::Claim(name));
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the range was just checked, and fractions do not matter"
    )]
    Ok(Some(Timestamp::from_unix(seconds.floor() as i64)))
}

/// Checks `exp`, `nbf` and `iat`, and says when the token ends (RFC 7519 §4.1.4 to §4.1.6).
pub(super) fn lifetime(claims: &Claims, skew: Duration, now: Timestamp) -> Result<Timestamp, TokenError> {
    let expires_at = date(claims, "exp", now)?.ok_or(TokenError::Claim("exp"))?;
    begun(claims, skew, now)?;
    match now < expires_at.plus(skew) {
        true => Ok(expires_at),
        false => Err(TokenError::Expired),
    }
}

/// Checks `nbf` and `iat` where they are there.
pub(super) fn begun(claims: &Claims, skew: Duration, now: Timestamp) -> Result<(), TokenError> {
    for name in ["nbf", "iat"] {
        if date(claims, name, now)?.is_some_and(|begins_at| begins_at > now.plus(skew)) {
            return Err(TokenError::NotYetValid);
        }
    }
    Ok(())
}

/// `iss` is one string, compared byte by byte; an array that holds the right one is refused.
pub(super) fn issued_by(claims: &Claims, issuer: &str) -> Result<(), TokenError> {
    match claims.text("iss") {
        Some(found) if found == issuer => Ok(()),
        Some(_) => Err(TokenError::UnknownIssuer),
        None => Err(TokenError::Claim("iss")),
    }
}

/// `aud`: one string or an array of nothing but strings.
pub(super) fn audiences(claims: &Claims) -> Result<Vec<&str>, TokenError> {
    let wrong = TokenError::Claim("aud");
    match claims.member("aud").ok_or(wrong)? {
        Value::String(one) => Ok(vec![one]),
        Value::Array(many) => many.iter().map(|one| one.as_str().ok_or(wrong)).collect(),
        _ => Err(wrong),
    }
}

pub(super) fn subject(claims: &Claims) -> Result<Subject, TokenError> {
    claims
        .text("sub")
        .and_then(Subject::new)
        .ok_or(TokenError::Claim("sub"))
}

/// `scope` (RFC 8693 §4.2), or `scp` where a provider calls it so; a list or an array.
pub(super) fn scopes(claims: &Claims) -> Result<Scopes, TokenError> {
    let (name, value) = match (claims.member("scope"), claims.member("scp")) {
        (Some(scope), _) => ("scope", scope),
        (None, Some(scp)) => ("scp", scp),
        (None, None) => return Ok(Scopes::default()),
    };
    match value {
        Value::String(list) => Ok(Scopes::parse(list)),
        Value::Array(scopes) => scopes
            .iter()
            .map(|scope| scope.as_str().ok_or(TokenError::Claim(name)))
            .collect(),
        _ => Err(TokenError::Claim(name)),
    }
}

/// A token that is bound to a key says nothing when it comes without that key (RFC 9449 §7.2, RFC 8705 §3).
pub(super) fn unbound(claims: &Claims) -> Result<(), TokenError> {
    match claims.member("cnf") {
        None => Ok(()),
        Some(_) => Err(TokenError::SenderConstrained),
    }
}
