//! The `[provider.NAME]` table.

use std::time::Duration;

use crate::{
    identity::{ClaimNames, ClaimPath, Issuer, ProviderId, Scopes},
    oauth::{client::ClientRegistration, jwt::Algorithm},
    time::Timestamp,
    trust::TrustRoots,
};

/// One `[provider.NAME]` table.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub id: ProviderId,
    pub display_name: String,
    pub issuer: Issuer,
    pub client: ClientRegistration,
    pub scopes: Scopes,
    /// Added to every authorization request, none of the protocol's own parameters.
    pub authorization_params: Vec<(String, String)>,
    /// Absent: RS256, PS256, ES256 and EdDSA, as far as the metadata lists them.
    pub id_token_algorithms: Option<Vec<Algorithm>>,
    /// For a token response without `expires_in`.
    pub assumed_token_lifetime: Duration,
    /// How far the clocks may differ when an ID token is checked.
    pub clock_skew: Duration,
    pub claim_names: ClaimNames,
    pub userinfo: UseUserinfo,
    /// What routes ask of an identity: fetched from userinfo where the ID token lacks it.
    pub wanted_claims: Vec<ClaimPath>,
    /// Endpoints of the file win over those of the metadata.
    pub endpoints: EndpointOverrides,
    pub bearer: Option<BearerSettings>,
    pub trust: TrustRoots,
    pub limits: CallLimits,
}

/// When the userinfo endpoint is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UseUserinfo {
    /// When the ID token lacks a wanted claim.
    #[default]
    Auto,
    Always,
    Never,
}

/// Endpoints that the file gives explicitly; absolute URLs, https or loopback.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointOverrides {
    pub authorization: Option<String>,
    pub token: Option<String>,
    pub userinfo: Option<String>,
    pub introspection: Option<String>,
    pub revocation: Option<String>,
    pub end_session: Option<String>,
    pub jwks_uri: Option<String>,
    /// Where the groups are that it keeps elsewhere: a list as Microsoft Graph has it.
    pub groups: Option<String>,
}

/// One `[provider.NAME.bearer]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BearerSettings {
    pub kind: BearerKind,
    /// Not empty: one of them must be in the token's `aud`.
    pub audiences: Vec<String>,
    pub algorithms: Vec<Algorithm>,
    /// `None`: any that is not another kind of token (RFC 8725 §3.11).
    pub typ: Option<String>,
    pub clock_skew: Duration,
    pub cache_ttl: Duration,
    pub negative_ttl: Duration,
    /// How many tokens each cache keeps.
    pub cache_entries: u64,
    /// Until when an introspected token counts although nobody said for whom it is.
    pub missing_audience_until: Option<Timestamp>,
}

/// How an access token is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BearerKind {
    Jwt,
    Introspection,
    /// A JWT by the provider's keys, anything else by introspection.
    #[default]
    Auto,
}

/// Limits of each call to the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallLimits {
    pub connect: Duration,
    /// From the first byte sent to the last byte read.
    pub total: Duration,
    /// Calls under way at once; `4 ×` as many may wait.
    pub concurrency: usize,
    pub response_bytes: usize,
}

impl Default for CallLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            total: Duration::from_secs(5),
            concurrency: 16,
            response_bytes: 1024 * 1024,
        }
    }
}
