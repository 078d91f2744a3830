//! The ID token: who logged in, and that it was for us (OIDC Core §2, §3.1.3.7).

use std::time::Duration;

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{
    jwks::KeySet,
    jwt::{Algorithm, Unverified},
    registered,
};
use crate::{
    identity::{Claims, Issuer, Subject, TokenError},
    secret::same_bytes,
    time::Timestamp,
};

/// What every ID token of a provider must fulfil.
#[derive(Clone, Debug)]
pub struct Rules {
    pub issuer: Issuer,
    pub client_id: String,
    pub algorithms: Vec<Algorithm>,
    pub clock_skew: Duration,
}

/// An ID token that is made at login is fresh; an older one was kept by somebody.
const MAX_AGE: Duration = Duration::from_secs(600);

/// The claims of the protocol itself: of no use to anybody once they are checked.
const SPENT: [&str; 8] = ["nonce", "at_hash", "c_hash", "s_hash", "aud", "exp", "iat", "nbf"];

/// Checks an ID token, and yields who it speaks of and its claims.
///
/// `nonce` is the one that was sent; after a refresh there is none (OIDC Core §12.2).
///
/// # Errors
/// `UnknownKey` where fetching the keys anew may help; anything else is final.
pub fn check(
    token: &str,
    access_token: &str,
    nonce: Option<&str>,
    rules: &Rules,
    keys: &KeySet,
    now: Timestamp,
) -> Result<(Subject, Claims), TokenError> {
    let token = Unverified::read(token)?.verify(keys, &rules.algorithms)?;
    // Some providers leave `typ` out; one that says something else made another kind of token.
    if token.kind().is_some_and(|kind| kind != "jwt") {
        return Err(TokenError::Type);
    }
    let claims = &token.claims;
    registered::issued_by(claims, rules.issuer.as_str())?;
    for_us(claims, &rules.client_id)?;
    registered::lifetime(claims, rules.clock_skew, now)?;
    let issued_at = registered::date(claims, "iat", now)?.ok_or(TokenError::Claim("iat"))?;
    if issued_at.plus(MAX_AGE).plus(rules.clock_skew) < now {
        return Err(TokenError::Expired);
    }
    match (nonce, claims.text("nonce")) {
        (Some(sent), Some(returned)) if same_bytes(sent.as_bytes(), returned.as_bytes()) => {}
        (None, _) => {}
        (Some(_), _) => return Err(TokenError::Claim("nonce")),
    }
    belongs_to(claims, access_token, token.algorithm)?;
    let subject = registered::subject(claims)?;
    Ok((subject, token.claims.without(&SPENT)))
}

/// No audience but this client, and where `azp` says for whom it was made, for this client (§3.1.3.7 items 3 to 5).
fn for_us(claims: &Claims, client_id: &str) -> Result<(), TokenError> {
    let audiences = registered::audiences(claims)?;
    if audiences.is_empty() || audiences.iter().any(|audience| *audience != client_id) {
        return Err(TokenError::Audience);
    }
    match claims.member("azp") {
        None => Ok(()),
        Some(party) if party == client_id => Ok(()),
        Some(_) => Err(TokenError::Claim("azp")),
    }
}

/// `at_hash`, where it is there, is the left half of the access token's hash (§3.1.3.8).
fn belongs_to(claims: &Claims, access_token: &str, algorithm: Algorithm) -> Result<(), TokenError> {
    let Some(claimed) = claims.member("at_hash") else {
        return Ok(());
    };
    let function = match algorithm {
        Algorithm::RS256 | Algorithm::PS256 | Algorithm::ES256 => &digest::SHA256,
        Algorithm::RS384 | Algorithm::PS384 | Algorithm::ES384 => &digest::SHA384,
        Algorithm::RS512 | Algorithm::PS512 | Algorithm::EdDSA => &digest::SHA512,
    };
    let hash = digest::digest(function, access_token.as_bytes());
    let half = hash.as_ref().get(..hash.as_ref().len() / 2).unwrap_or_default();
    match claimed.as_str() == Some(&URL_SAFE_NO_PAD.encode(half)) {
        true => Ok(()),
        false => Err(TokenError::Claim("at_hash")),
    }
}
