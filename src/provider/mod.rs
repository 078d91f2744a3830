//! An authorization server over the wire: discovery, keys, tokens and introspection, with their caches.

pub mod transport;

use std::{sync::Arc, time::Duration};

use crate::{
    identity::{ClaimNames, ClaimPath, Identity, Issuer, ProviderId, Scopes, TokenError},
    oauth::{
        authorization::{CodeGrant, LoginSecrets, PendingLogin},
        client::ClientRegistration,
        jwt::Algorithm,
        token::Login,
    },
    secret::Secret,
    telemetry::Metrics,
    time::Timestamp,
    trust::TrustRoots,
};

/// One `[provider.NAME]` table.
#[derive(Clone, Debug)]
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
#[derive(Clone, Debug, Default)]
pub struct EndpointOverrides {
    pub authorization: Option<String>,
    pub token: Option<String>,
    pub userinfo: Option<String>,
    pub introspection: Option<String>,
    pub revocation: Option<String>,
    pub end_session: Option<String>,
    pub jwks_uri: Option<String>,
}

/// One `[provider.NAME.bearer]` table.
#[derive(Clone, Debug)]
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
#[derive(Clone, Copy, Debug)]
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

/// What a provider did instead of answering.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProviderError {
    /// It cannot be reached, is too slow, overloaded, or refuses this gateway's own credentials.
    #[error("{provider} is unavailable: {reason}")]
    Unavailable { provider: ProviderId, reason: String },
    /// It answered what the protocol does not allow.
    #[error("{provider} answered nonsense: {reason}")]
    Nonsense { provider: ProviderId, reason: String },
    /// It refused the grant (RFC 6749 §5.2): `invalid_grant` and its kin.
    #[error("{provider} refused: {code}")]
    Refused { provider: ProviderId, code: String },
}

/// What became of a bearer token.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BearerError {
    /// The token is bad: the client's problem.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// We cannot know: ours.
    #[error(transparent)]
    Provider(#[from] ProviderError),
}

/// All configured providers.
pub struct Providers;

impl Providers {
    /// # Errors
    /// When a TLS configuration cannot be made.
    pub fn new(_settings: Vec<Settings>, _metrics: Arc<Metrics>) -> Result<Self, rustls::Error> {
        unimplemented!()
    }

    pub fn by_id(&self, _id: &ProviderId) -> Option<&Arc<Provider>> {
        unimplemented!()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Provider>> {
        [].iter()
    }

    /// Who presents this token, as one of the `allowed` providers says.
    ///
    /// Providers are told apart by the token's `iss` before any key is fetched; an opaque token is asked about at
    /// each provider that introspects, in order.
    pub async fn authenticate_bearer(
        &self,
        _allowed: &[ProviderId],
        _token: &str,
        _now: Timestamp,
    ) -> Result<Arc<Identity>, BearerError> {
        unimplemented!()
    }
}

/// One authorization server.
pub struct Provider;

impl Provider {
    pub fn id(&self) -> &ProviderId {
        unimplemented!()
    }

    pub fn display_name(&self) -> &str {
        unimplemented!()
    }

    pub fn claim_names(&self) -> &ClaimNames {
        unimplemented!()
    }

    /// Where to send the browser, and what to remember until it returns (RFC 6749 §4.1.1, RFC 7636 §4.3).
    pub async fn authorization_request(
        self: &Arc<Self>,
        _secrets: LoginSecrets,
        _redirect_uri: String,
        _return_to: String,
        _now: Timestamp,
    ) -> Result<(String, PendingLogin), ProviderError> {
        unimplemented!()
    }

    /// Redeems an authorization code, checks the ID token, and asks userinfo where needed (OIDC Core §3.1.3).
    pub async fn redeem(self: &Arc<Self>, _grant: CodeGrant, _now: Timestamp) -> Result<Login, ProviderError> {
        unimplemented!()
    }

    /// Uses a refresh token (RFC 6749 §6, OIDC Core §12). The new login keeps what the answer left out.
    pub async fn refresh(self: &Arc<Self>, _login: &Login, _now: Timestamp) -> Result<Login, ProviderError> {
        unimplemented!()
    }

    /// Where the browser goes to end its session at the provider; `None` where the provider offers no such page or
    /// cannot be reached: signing out here never depends on it (OIDC RP-Initiated Logout §2).
    pub async fn end_session_url(
        self: &Arc<Self>,
        _id_token_hint: Option<&Secret>,
        _post_logout_redirect_uri: &str,
        _state: &str,
        _now: Timestamp,
    ) -> Option<String> {
        unimplemented!()
    }
}
