//! Asking the authorization server about a token (RFC 7662).

use bytes::Bytes;
use http::{Request, Response, Uri};
use serde_json::Value;

use super::{
    answer::{AnswerError, json_object},
    client::ClientRegistration,
};
use crate::identity::Claims;

/// What the server says of a token.
#[derive(Clone, Debug, PartialEq)]
pub enum Introspected {
    Active(Claims),
    Inactive,
}

/// Asks; the token is in the body and never in the URL (§2.1).
pub fn request(endpoint: &Uri, client: &ClientRegistration, token: &str) -> Request<Bytes> {
    client.post(endpoint, &[("token", token), ("token_type_hint", "access_token")])
}

/// Only the boolean `true` makes a token active; everything else an answer may say then does not count (§2.2).
///
/// # Errors
/// When the answer is none; the token is then neither good nor bad.
pub fn read(response: &Response<Bytes>) -> Result<Introspected, AnswerError> {
    let claims = json_object(response)?;
    match claims.member("active") {
        Some(Value::Bool(true)) => Ok(Introspected::Active(claims.without(&["active"]))),
        _ => Ok(Introspected::Inactive),
    }
}
