//! The token endpoint (RFC 6749 §4.1.3, §5, §6).

use crate::{
    identity::{Claims, Issuer, ProviderId, Scopes, Subject},
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
    pub access_token: Secret,
    pub access_expires_at: Timestamp,
    pub refresh_token: Option<Secret>,
    /// The raw ID token, for `id_token_hint`.
    pub id_token: Option<Secret>,
}
