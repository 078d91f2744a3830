//! The authorization request and its response (RFC 6749 §4.1.1–§4.1.2, RFC 7636, RFC 9207).

use crate::{
    identity::{Issuer, ProviderId},
    secret::Secret,
    time::Timestamp,
};

/// What is drawn at random for one login attempt; drawn at the edge and passed in.
#[derive(Clone, Debug)]
pub struct LoginSecrets {
    /// At least 128 bits (RFC 6749 §10.12). Its part before the first `.` names the pending login's cookie.
    pub state: String,
    pub nonce: String,
    /// 43 to 128 unreserved characters (RFC 7636 §4.1).
    pub code_verifier: Secret,
}

/// A login that was started and has not returned; sealed into a cookie of its own.
#[derive(Clone, Debug)]
pub struct PendingLogin;

impl PendingLogin {
    pub fn to_json(&self) -> Vec<u8> {
        unimplemented!()
    }

    pub fn from_json(_bytes: &[u8]) -> Option<Self> {
        unimplemented!()
    }

    pub fn provider(&self) -> &ProviderId {
        unimplemented!()
    }

    pub fn issuer(&self) -> &Issuer {
        unimplemented!()
    }

    /// The path and query to go back to, as the gateway wrote it itself.
    pub fn return_to(&self) -> &str {
        unimplemented!()
    }

    /// Accepts the answer that belongs to this attempt, and nothing else.
    ///
    /// # Errors
    /// State foreign or stale, `iss` wrong or missing though promised, or the provider's own `error`.
    pub fn accept(self, _response: AuthorizationResponse, _now: Timestamp) -> Result<CodeGrant, AuthorizationError> {
        unimplemented!()
    }
}

/// The parameters that came back to the redirect URI; each at most once.
#[derive(Clone, Debug)]
pub struct AuthorizationResponse;

impl AuthorizationResponse {
    /// # Errors
    /// A repeated parameter, neither `code` nor `error`, or no `state` (RFC 6749 §3.1).
    pub fn from_query(_query: &str) -> Result<Self, AuthorizationError> {
        unimplemented!()
    }

    pub fn state(&self) -> &str {
        unimplemented!()
    }
}

/// Why an authorization response is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorizationError {
    #[error("the parameter {0} stands twice or not at all")]
    Parameter(&'static str),
    #[error("the state is not the one of this attempt")]
    State,
    #[error("the attempt is too old")]
    Stale,
    #[error("the response is from another issuer")]
    Issuer,
    /// The provider said so; the code is one of RFC 6749 §4.1.2.1 and OIDC Core §3.1.2.6, or `other`.
    #[error("the provider refused: {0}")]
    Refused(&'static str),
}

/// Proof that a code belongs to an attempt of this browser; the only way to a token request.
#[derive(Debug)]
pub struct CodeGrant {
    _private: (),
}

impl CodeGrant {
    pub fn return_to(&self) -> &str {
        unimplemented!()
    }
}
