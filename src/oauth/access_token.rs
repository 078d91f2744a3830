//! Access tokens, as the resource server reads them (RFC 9068 §4, RFC 7662 §2.2).

use std::time::Duration;

use super::{introspection::Introspected, jwt, registered};
use crate::{
    identity::{Claims, Issuer, Scopes, Subject, TokenError},
    time::Timestamp,
};

/// What every access token of a provider must fulfil.
#[derive(Clone, Debug)]
pub struct Rules {
    pub issuer: Issuer,
    /// One of them must be in the token's `aud`.
    pub audiences: Vec<String>,
    /// What `typ` must say; `None`: any that is not another kind of token.
    pub kind: Option<String>,
    pub clock_skew: Duration,
    /// Until when an introspected token counts although nobody said for whom it is.
    pub missing_audience_until: Option<Timestamp>,
}

/// An access token whose every claim was checked, as far as time does not change it.
#[derive(Clone, Debug)]
pub struct AccessToken {
    pub subject: Subject,
    pub scopes: Scopes,
    pub claims: Claims,
    /// With the skew where one excuses it; `None` where the server did not say, which only introspection may.
    pub expires_at: Option<Timestamp>,
}

/// The kinds of JWT that may be an access token where none is asked for. All others are named after what they are for,
/// and an authorization server signs them with the same keys (RFC 8725 §3.11).
const KINDS: [&str; 2] = ["jwt", "at+jwt"];

/// The texts that the profile requires beside the claims of every token (RFC 9068 §2.2).
const PROFILE: [&str; 2] = ["client_id", "jti"];

/// Checks the claims of a JWT whose signature is good.
pub fn from_jwt(token: jwt::Verified, rules: &Rules, now: Timestamp) -> Result<AccessToken, TokenError> {
    let expected = rules.kind.as_deref().map(jwt::media_type);
    is_access_token(token.kind().as_deref(), expected.as_deref())?;
    let claims = token.claims;
    registered::issued_by(&claims, rules.issuer.as_str())?;
    let expires_at = registered::lifetime(&claims, rules.clock_skew, now)?;
    for_this_place(&claims, rules)?;
    registered::unbound(&claims)?;
    // An ID token is for the client and opens nothing, also where no `typ` tells it apart.
    if claims.member("nonce").is_some() || claims.member("at_hash").is_some() {
        return Err(TokenError::Type);
    }
    if expected.as_deref() == Some("at+jwt") {
        fulfils_profile(&claims, now)?;
    }
    Ok(AccessToken {
        subject: registered::subject(&claims)?,
        scopes: registered::scopes(&claims)?,
        expires_at: Some(expires_at.plus(rules.clock_skew)),
        claims,
    })
}

/// Checks what introspection said: `aud`, and each other claim where it is there, since the server vouches for the token.
pub fn from_introspection(answer: Introspected, rules: &Rules, now: Timestamp) -> Result<AccessToken, TokenError> {
    let Introspected::Active(claims) = answer else {
        return Err(TokenError::Inactive);
    };
    if claims.member("iss").is_some() {
        registered::issued_by(&claims, rules.issuer.as_str())?;
    }
    // A token that may be for anybody may be for somebody else (RFC 9700 §2.3).
    let excused = rules.missing_audience_until.is_some_and(|until| now < until);
    match claims.member("aud") {
        Some(_) => for_this_place(&claims, rules)?,
        None if excused => {}
        None => return Err(TokenError::Audience),
    }
    let expires_at = registered::date(&claims, "exp", now)?;
    // The answer is from this very moment, so no skew excuses it (RFC 7662 §4).
    if expires_at.is_some_and(|end| end <= now) {
        return Err(TokenError::Expired);
    }
    registered::begun(&claims, rules.clock_skew, now)?;
    registered::unbound(&claims)?;
    match claims
        .member("token_type")
        .map(|kind| kind.as_str().unwrap_or("").to_ascii_lowercase())
    {
        None => {}
        Some(kind) if kind == "bearer" || kind == "access_token" => {}
        Some(_) => return Err(TokenError::Type),
    }
    // A token of a client that acts for nobody but itself may have no `sub`.
    let subject = match claims.member("sub") {
        Some(_) => registered::subject(&claims)?,
        None => claims
            .text("client_id")
            .and_then(Subject::new)
            .ok_or(TokenError::Claim("sub"))?,
    };
    Ok(AccessToken {
        subject,
        scopes: registered::scopes(&claims)?,
        claims,
        expires_at,
    })
}

fn is_access_token(kind: Option<&str>, expected: Option<&str>) -> Result<(), TokenError> {
    let is_other = |kind: &str| kind.ends_with("jwt") && !KINDS.contains(&kind);
    match (expected, kind) {
        (Some(expected), Some(kind)) if expected == kind => Ok(()),
        (Some(_), _) => Err(TokenError::Type),
        (None, Some(kind)) if is_other(kind) => Err(TokenError::Type),
        (None, _) => Ok(()),
    }
}

fn fulfils_profile(claims: &Claims, now: Timestamp) -> Result<(), TokenError> {
    for name in PROFILE {
        claims.text(name).ok_or(TokenError::Claim(name))?;
    }
    registered::date(claims, "iat", now)?.ok_or(TokenError::Claim("iat"))?;
    Ok(())
}

fn for_this_place(claims: &Claims, rules: &Rules) -> Result<(), TokenError> {
    let audiences = registered::audiences(claims)?;
    match rules.audiences.iter().any(|ours| audiences.contains(&ours.as_str())) {
        true => Ok(()),
        false => Err(TokenError::Audience),
    }
}
