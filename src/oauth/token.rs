//! The token endpoint (RFC 6749 §4.1.3, §5, §6).

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri};
use serde_json::Value;

use super::{
    answer::{AnswerError, body_object, json_object, unhappy},
    client::ClientRegistration,
    id_token,
    jwks::KeySet,
    registered,
};
use crate::{
    identity::{Claims, Issuer, ProviderId, Scopes, Subject, TokenError},
    secret::Secret,
    time::Timestamp,
};

/// What a completed login or a refresh yields: checked, and ready to be remembered.
#[derive(Clone, Debug)]
pub struct Login {
    pub provider: ProviderId,
    pub issuer: Issuer,
    pub subject: Subject,
    /// Claims of the ID token, completed by userinfo; without the protocol's own (`nonce`, `at_hash`, `aud`, …).
    pub claims: Claims,
    pub scopes: Scopes,
    /// `None` where there was no room to remember it.
    pub access_token: Option<Secret>,
    pub access_received_at: Timestamp,
    pub access_expires_at: Timestamp,
    pub refresh_token: Option<Secret>,
    /// The raw ID token, for `id_token_hint`.
    pub id_token: Option<Secret>,
}

/// A successful answer of the token endpoint (RFC 6749 §5.1); its ID token has yet to be checked.
#[derive(Clone, Debug)]
pub struct TokenResponse {
    pub access_token: Secret,
    /// Never zero: a token that was over when it came would be no answer.
    pub expires_in: Option<Duration>,
    pub refresh_token: Option<Secret>,
    pub id_token: Option<Secret>,
    /// Where it differs from what was asked for.
    pub scopes: Option<Scopes>,
}

/// Nothing is good for longer than ten years, whatever a provider says.
const MAX_LIFETIME: u64 = 10 * 365 * 86_400;

impl TokenResponse {
    /// # Errors
    /// When the endpoint refused, is not well, or said what the protocol does not allow.
    pub fn read(response: &Response<Bytes>) -> Result<Self, AnswerError> {
        let status = response.status();
        if status == StatusCode::BAD_REQUEST || status == StatusCode::UNAUTHORIZED {
            return Err(refusal(response).unwrap_or_else(|| unhappy(status)));
        }
        let body = json_object(response)?;
        if body.member("error").is_some_and(|error| !error.is_null()) {
            return Err(AnswerError::Nonsense("the answer is a success and an error"));
        }
        let bearer = body
            .text("token_type")
            .is_some_and(|kind| kind.eq_ignore_ascii_case("bearer"));
        if !bearer {
            return Err(AnswerError::Nonsense("the token type is not Bearer"));
        }
        let access_token = secret(&body, "access_token")?;
        Ok(Self {
            access_token: access_token.ok_or(AnswerError::Nonsense("there is no access token"))?,
            expires_in: body
                .member("expires_in")
                .and_then(seconds)
                .filter(|life| !life.is_zero()),
            refresh_token: secret(&body, "refresh_token")?,
            id_token: secret(&body, "id_token")?,
            scopes: granted(&body)?,
        })
    }
}

/// Asks for fresh tokens (RFC 6749 §6).
pub fn refresh_request(endpoint: &Uri, client: &ClientRegistration, refresh_token: &Secret) -> Request<Bytes> {
    let grant = [
        ("grant_type", "refresh_token"),
        ("refresh_token", refresh_token.expose()),
    ];
    client.post(endpoint, &grant)
}

/// The login with its fresh tokens; who it is never changes, and its claims are those of the new ID token or none.
///
/// Tokens that the answer left out stay as they were.
///
/// # Errors
/// When the new ID token is not good, or is about somebody else (OIDC Core §12.2).
pub fn refreshed(
    login: &Login,
    tokens: TokenResponse,
    rules: &id_token::Rules,
    keys: &KeySet,
    assumed_lifetime: Duration,
    now: Timestamp,
) -> Result<Login, TokenError> {
    let mut next = login.clone();
    if let Some(id_token) = &tokens.id_token {
        let access_token = tokens.access_token.expose();
        let (subject, claims) = id_token::check(id_token.expose(), access_token, None, rules, keys, now)?;
        if subject != login.subject {
            return Err(TokenError::Claim("sub"));
        }
        next.claims = claims;
        next.id_token = tokens.id_token;
    } else {
        next.claims = Claims::default();
    }
    next.access_token = Some(tokens.access_token);
    next.access_received_at = now;
    next.access_expires_at = now.plus(tokens.expires_in.unwrap_or(assumed_lifetime));
    next.refresh_token = tokens.refresh_token.or(next.refresh_token);
    next.scopes = tokens.scopes.unwrap_or(next.scopes);
    Ok(next)
}

/// What stays true of a login however often its tokens are refreshed (OIDC Core §12.2).
const LASTING: [&str; 7] = ["iss", "sub", "sid", "auth_time", "acr", "amr", "azp"];

/// The claims after a refresh: what was said anew, and of the old ones what nobody can have taken back.
///
/// Where userinfo was not asked, or did not answer, all old claims stand that the new ID token does not replace.
pub fn renewed(fresh: Claims, userinfo: Option<Claims>, old: Claims) -> Claims {
    match userinfo {
        Some(more) => completed(completed(fresh, more), old.only(&LASTING)),
        None => completed(fresh, old),
    }
}

/// The claims with what another source adds to them; an address counts as verified only by who names it.
pub fn completed(mut claims: Claims, more: Claims) -> Claims {
    let speaks_of_address = ["email", "email_verified"]
        .iter()
        .any(|name| claims.member(name).is_some());
    let other_address = speaks_of_address && claims.member("email") != more.member("email");
    claims.fill_from(match other_address {
        true => more.without(&["email", "email_verified"]),
        false => more,
    });
    claims
}

/// The error of an answer that is one; its description is for nobody here (RFC 6749 §5.2).
fn refusal(response: &Response<Bytes>) -> Option<AnswerError> {
    let body = body_object(response).ok()?;
    Some(match body.text("error")? {
        "invalid_client" => AnswerError::Credentials,
        "invalid_grant" => AnswerError::Refused("invalid_grant"),
        "invalid_request" => AnswerError::Refused("invalid_request"),
        "invalid_scope" => AnswerError::Refused("invalid_scope"),
        "unauthorized_client" => AnswerError::Refused("unauthorized_client"),
        "unsupported_grant_type" => AnswerError::Refused("unsupported_grant_type"),
        _ => AnswerError::Refused("other"),
    })
}

/// Scopes that cannot be read may be fewer than were asked for (RFC 6749 §3.3).
fn granted(body: &Claims) -> Result<Option<Scopes>, AnswerError> {
    match body.member("scope") {
        None | Some(Value::Null) => Ok(None),
        Some(_) => registered::scopes(body)
            .map(Some)
            .map_err(|_| AnswerError::Nonsense("the scope is not a list")),
    }
}

/// A token: not empty, and of characters that a header can hold.
fn secret(body: &Claims, name: &str) -> Result<Option<Secret>, AnswerError> {
    match body.member(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if !text.is_empty() && text.bytes().all(|b| (0x20..0x7f).contains(&b)) => {
            Ok(Some(Secret::new(text.as_str())))
        }
        Some(_) => Err(AnswerError::Nonsense("a token is not a text")),
    }
}

/// Some providers write the number as a text. What is no number of seconds counts as not said.
fn seconds(value: &Value) -> Option<Duration> {
    let seconds = match value {
        Value::String(text) => text.parse().ok()?,
        Value::Number(number) => number.as_u64()?,
        _ => return None,
    };
    Some(Duration::from_secs(seconds.min(MAX_LIFETIME)))
}
