//! An authorization server over the wire: discovery, keys, tokens and introspection, with their caches.

mod bearer;
pub mod checkup;
mod groups;
mod inherited;
mod kept;
mod logout;
mod presented;
pub mod settings;
pub mod transport;

use std::{fmt::Display, sync::Arc};

use bytes::Bytes;
use http::{Request, Response, Uri};

pub use self::logout::LogoutError;
pub use self::presented::{Finding, PresentedToken, Verdict};
pub use self::settings::{BearerKind, BearerSettings, CallLimits, EndpointOverrides, Settings, UseUserinfo};
use self::{
    bearer::Bearer,
    kept::Kept,
    transport::{HttpTransport, Transport},
};
use crate::{
    identity::{ClaimNames, ClaimPath, Claims, ProviderId, Strength, TokenError},
    oauth::{
        answer::AnswerError,
        authorization::{Account, AuthorizationRequest, CodeGrant, LoginSecrets, PendingLogin},
        discovery::{self, Metadata},
        id_token,
        jwks::KeySet,
        jwt::Algorithm,
        token::{self, Login, TokenResponse},
        userinfo,
    },
    secret::FingerprintKey,
    telemetry::Metrics,
    time::Timestamp,
};

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
    Refused { provider: ProviderId, code: &'static str },
}

/// The code of a refresh that yielded somebody else, or a login that is not good (OIDC Core §12.2).
const OTHER_LOGIN: &str = "other_login";

impl ProviderError {
    /// Whether a refresh that ends like this ends the session; an outage never does (N-038, N-050).
    pub fn ends_session(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                code: "invalid_grant" | OTHER_LOGIN,
                ..
            }
        )
    }
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
#[derive(Debug)]
pub struct Providers {
    providers: Vec<Arc<Provider>>,
    fingerprints: FingerprintKey,
}

impl Providers {
    /// What `earlier` ones know is kept, of those that did not change.
    ///
    /// # Errors
    /// When a TLS configuration cannot be made.
    pub fn new(settings: Vec<Settings>, metrics: &Arc<Metrics>, earlier: Option<&Self>) -> Result<Self, rustls::Error> {
        let open = |settings: Settings| {
            if let Some(known) = earlier.and_then(|earlier| earlier.inherited(&settings)) {
                return Ok(known);
            }
            let transport = HttpTransport::new(&settings.trust, settings.limits)?;
            Ok(Arc::new(Provider::new(settings, Arc::new(transport), metrics.clone())))
        };
        Ok(Self {
            providers: settings.into_iter().map(open).collect::<Result<_, rustls::Error>>()?,
            fingerprints: earlier.map_or_else(FingerprintKey::random, |earlier| earlier.fingerprints.clone()),
        })
    }

    pub fn by_id(&self, id: &ProviderId) -> Option<&Arc<Provider>> {
        self.providers.iter().find(|provider| provider.id() == id)
    }

    pub fn count(&self) -> usize {
        self.providers.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Provider>> {
        self.providers.iter()
    }

    /// Who presents this token, as one of the `allowed` providers says.
    pub async fn authenticate_bearer(&self, allowed: &[ProviderId], token: &str, now: Timestamp) -> Verdict {
        let presented = self.presented(allowed, token);
        if let Some(verdict) = presented.known(now).await {
            return verdict;
        }
        match presented.by_signature(now).await {
            Some(finding) => finding.verdict,
            None => presented.by_introspection(now).await.verdict,
        }
    }

    /// A token, and those of the `allowed` providers that may know it.
    pub fn presented<'a>(&'a self, allowed: &[ProviderId], token: &'a str) -> PresentedToken<'a> {
        let candidates = allowed
            .iter()
            .filter_map(|id| self.by_id(id))
            .filter_map(|provider| Some((provider, provider.bearer.as_deref()?)));
        PresentedToken {
            token,
            fingerprint: self.fingerprints.of(&[token.as_bytes()]),
            candidates: candidates.collect(),
        }
    }
}

/// One authorization server.
#[derive(Debug)]
pub struct Provider {
    settings: Settings,
    endpoints: Endpoints,
    transport: Arc<dyn Transport>,
    metrics: Arc<Metrics>,
    metadata: Kept<Metadata>,
    keys: Kept<KeySet>,
    bearer: Option<Arc<Bearer>>,
}

/// The endpoints that the file gives.
#[derive(Debug)]
struct Endpoints {
    authorization: Option<url::Url>,
    token: Option<Uri>,
    userinfo: Option<Uri>,
    introspection: Option<Uri>,
    revocation: Option<Uri>,
    end_session: Option<url::Url>,
    jwks: Option<Uri>,
    groups: Option<Uri>,
}

impl Endpoints {
    fn of(overrides: &EndpointOverrides) -> Self {
        let url = |endpoint: &Option<String>| discovery::trustworthy(endpoint.as_ref()?);
        Self {
            authorization: url(&overrides.authorization),
            token: discovery::uri(url(&overrides.token)),
            userinfo: discovery::uri(url(&overrides.userinfo)),
            introspection: discovery::uri(url(&overrides.introspection)),
            revocation: discovery::uri(url(&overrides.revocation)),
            end_session: url(&overrides.end_session),
            jwks: discovery::uri(url(&overrides.jwks_uri)),
            groups: discovery::uri(url(&overrides.groups)),
        }
    }
}

/// Signatures of ID tokens that are taken where the file does not say.
const ID_TOKEN_ALGORITHMS: [Algorithm; 4] = [Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::EdDSA];

impl Provider {
    fn new(settings: Settings, transport: Arc<dyn Transport>, metrics: Arc<Metrics>) -> Self {
        let bearer = settings.bearer.clone();
        Self {
            endpoints: Endpoints::of(&settings.endpoints),
            metadata: Kept::new(settings.id.clone()),
            keys: Kept::new(settings.id.clone()),
            bearer: bearer.map(|bearer| Arc::new(Bearer::new(bearer, &settings, &metrics))),
            transport,
            metrics,
            settings,
        }
    }

    pub fn id(&self) -> &ProviderId {
        &self.settings.id
    }

    pub fn display_name(&self) -> &str {
        &self.settings.display_name
    }

    /// Whether its access tokens count.
    pub fn accepts_bearer(&self) -> bool {
        self.bearer.is_some()
    }

    pub fn claim_names(&self) -> &ClaimNames {
        &self.settings.claim_names
    }

    /// Where to send the browser, and what to remember until it returns (RFC 6749 §4.1.1, RFC 7636 §4.3).
    ///
    /// # Errors
    /// When the provider's metadata cannot be had, or it does not do PKCE with S256 (RFC 9700 §2.1.1).
    pub async fn authorization_request(
        self: &Arc<Self>,
        secrets: LoginSecrets,
        redirect_uri: String,
        return_to: String,
        strength: Strength,
        account: Account,
        now: Timestamp,
    ) -> Result<(String, PendingLogin), ProviderError> {
        let metadata = self.metadata(now).await?;
        if metadata.refuses_s256 {
            return Err(self.nonsense("it does not offer PKCE with S256"));
        }
        let endpoint = self
            .endpoints
            .authorization
            .as_ref()
            .or(metadata.authorization_endpoint.as_ref());
        let request = AuthorizationRequest {
            provider: &self.settings.id,
            issuer: &self.settings.issuer,
            client_id: &self.settings.client.client_id,
            endpoint: endpoint.ok_or_else(|| self.nonsense("it has no authorization endpoint"))?,
            scopes: &self.settings.scopes,
            parameters: &self.settings.authorization_params,
            redirect_uri,
            return_to,
            strength,
            prompt: match account {
                Account::Any => None,
                Account::Another => self.prompt_for_another(&metadata),
            },
            response_names_issuer: metadata.response_names_issuer,
        };
        Ok(request.begin(secrets, now))
    }

    /// What makes the provider ask who it is; nothing where the file has it ask at every login.
    fn prompt_for_another(&self, metadata: &Metadata) -> Option<&'static str> {
        let mut parameters = self.settings.authorization_params.iter();
        let asks_anyway = |prompt: &str| prompt.split(' ').any(|word| matches!(word, "login" | "select_account"));
        match parameters.any(|(name, value)| name == "prompt" && asks_anyway(value)) {
            true => None,
            false if metadata.changes_account_by_login => Some("login"),
            false => Some("select_account"),
        }
    }

    /// Redeems an authorization code, checks the ID token, and asks userinfo where needed (OIDC Core §3.1.3).
    ///
    /// Runs to its end even when nobody waits any more, for a code that was sent is spent.
    pub async fn redeem(self: &Arc<Self>, grant: CodeGrant, now: Timestamp) -> Result<Login, ProviderError> {
        let provider = self.clone();
        let task = tokio::spawn(async move { provider.redeem_here(&grant, now).await });
        task.await
            .unwrap_or_else(|_| Err(self.unavailable("the login was cut short")))
    }

    async fn redeem_here(self: &Arc<Self>, grant: &CodeGrant, now: Timestamp) -> Result<Login, ProviderError> {
        let metadata = self.metadata(now).await?;
        let endpoint = self.token_endpoint(&metadata)?;
        let answer = self
            .call("token", grant.request(endpoint, &self.settings.client))
            .await?;
        let tokens = TokenResponse::read(&answer).map_err(|error| self.trouble(error))?;
        let rules = self.id_token_rules(&metadata);
        let lifetime = self.settings.assumed_token_lifetime;
        let login = self
            .with_keys(now, |keys| grant.finish(&tokens, &rules, keys, lifetime, now))
            .await?;
        let mut login = login.map_err(|error| self.nonsense(format!("the ID token is not good: {error}")))?;
        if let Some(more) = self.userinfo(&login, &metadata).await? {
            login.claims = token::completed(login.claims, more);
        }
        if login.claims.is_elsewhere(&self.claim_names().groups) {
            login.claims = match self.groups_elsewhere(&login, now).await? {
                Some(groups) => self.with_groups(login.claims, groups),
                None => login.claims,
            };
        }
        login.claims = login.claims.without(&groups::SPENT);
        Ok(login)
    }

    /// Uses a refresh token (RFC 6749 §6, OIDC Core §12). The new login keeps what the answer left out.
    ///
    /// # Errors
    /// [`ProviderError::ends_session`] tells whether the session is over.
    pub async fn refresh(self: &Arc<Self>, login: &Login, now: Timestamp) -> Result<Login, ProviderError> {
        let Some(refresh_token) = &login.refresh_token else {
            return Err(self.nonsense("there is no refresh token"));
        };
        let metadata = self.metadata(now).await?;
        let request = token::refresh_request(self.token_endpoint(&metadata)?, &self.settings.client, refresh_token);
        let answer = self.call("refresh", request).await?;
        let tokens = TokenResponse::read(&answer).map_err(|error| self.trouble(error))?;
        let rules = self.id_token_rules(&metadata);
        let lifetime = self.settings.assumed_token_lifetime;
        let renew = |keys: &KeySet| token::refreshed(login, tokens.clone(), &rules, keys, lifetime, now);
        let without_id_token = || TokenResponse {
            id_token: None,
            ..tokens.clone()
        };
        // The old refresh token is spent: where nobody can check the new ID token, the old one stays.
        let unchecked = || token::refreshed(login, without_id_token(), &rules, &KeySet::default(), lifetime, now);
        let renewed = match &tokens.id_token {
            None => unchecked(),
            Some(_) => self.with_keys(now, renew).await.unwrap_or_else(|_| unchecked()),
        };
        let mut renewed = renewed.map_err(|error| {
            tracing::warn!(provider = %self.id(), %error, "the ID token of a refresh is not good");
            self.refused(OTHER_LOGIN)
        })?;
        // The new tokens must not be lost because userinfo is not well: then the old claims stand a while longer.
        let userinfo = self.userinfo(&renewed, &metadata).await.unwrap_or_default();
        let said = match tokens.id_token {
            Some(_) => &renewed.claims,
            None => &login.claims,
        };
        let elsewhere = said.is_said_to_be_elsewhere(&self.claim_names().groups);
        let groups = match elsewhere {
            true => Some(self.groups_elsewhere(&renewed, now).await),
            false => None,
        };
        renewed.claims = token::renewed(renewed.claims, userinfo, login.claims.clone());
        renewed.claims = match groups {
            // An outage takes nobody's groups away, as little as it does the claims of userinfo.
            Some(Err(_)) => self.with_groups_of(renewed.claims, &login.claims),
            Some(Ok(Some(groups))) => self.with_groups(renewed.claims, groups),
            Some(Ok(None)) => renewed.claims.without(&[self.claim_names().groups.first_segment()]),
            None => renewed.claims,
        };
        renewed.claims = renewed.claims.without(&groups::SPENT);
        Ok(renewed)
    }

    /// What userinfo says, where a claim is missing or the file asks for it, and the provider offers it.
    async fn userinfo(&self, login: &Login, metadata: &Metadata) -> Result<Option<Claims>, ProviderError> {
        let lacks = |claim: &ClaimPath| login.claims.at(claim).is_none();
        let wanted = match self.settings.userinfo {
            UseUserinfo::Never => false,
            UseUserinfo::Always => true,
            UseUserinfo::Auto => self.settings.wanted_claims.iter().any(lacks),
        };
        let endpoint = self.endpoints.userinfo.as_ref().or(metadata.userinfo_endpoint.as_ref());
        let (Some(endpoint), Some(access_token)) = (endpoint.filter(|_| wanted), &login.access_token) else {
            return Ok(None);
        };
        let request = userinfo::request(endpoint, access_token).map_err(|error| self.trouble(error))?;
        let answer = self.call("userinfo", request).await?;
        let claims = userinfo::read(&answer, &login.subject).map_err(|error| match error {
            // Our own credentials are not asked for here: it is the token that it just gave.
            AnswerError::Credentials => self.nonsense("userinfo refuses the access token"),
            error => self.trouble(error),
        })?;
        Ok(Some(claims))
    }

    async fn with_keys<L>(
        self: &Arc<Self>,
        now: Timestamp,
        check: impl Fn(&KeySet) -> Result<L, TokenError>,
    ) -> Result<Result<L, TokenError>, ProviderError> {
        let keys = self.keys(now).await?;
        let checked = check(&keys);
        if !matches!(checked, Err(TokenError::UnknownKey)) {
            return Ok(checked);
        }
        match self.keys_newer_than(&keys, now).await {
            Some(newer) => Ok(check(&*newer?)),
            None => Ok(checked),
        }
    }

    fn id_token_rules(&self, metadata: &Metadata) -> id_token::Rules {
        let offered = |algorithm: &Algorithm| match &metadata.id_token_algorithms {
            Some(offered) => offered.contains(algorithm),
            None => true,
        };
        let algorithms = match &self.settings.id_token_algorithms {
            Some(algorithms) => algorithms.clone(),
            None => ID_TOKEN_ALGORITHMS.into_iter().filter(offered).collect(),
        };
        id_token::Rules {
            issuer: self.settings.issuer.clone(),
            client_id: self.settings.client.client_id.clone(),
            algorithms,
            clock_skew: self.settings.clock_skew,
        }
    }

    fn token_endpoint<'a>(&'a self, metadata: &'a Metadata) -> Result<&'a Uri, ProviderError> {
        let endpoint = self.endpoints.token.as_ref().or(metadata.token_endpoint.as_ref());
        endpoint.ok_or_else(|| self.nonsense("it has no token endpoint"))
    }

    async fn metadata(self: &Arc<Self>, now: Timestamp) -> Result<Arc<Metadata>, ProviderError> {
        self.metadata.current(now, self.clone().discover()).await
    }

    /// Tries each place where the metadata may be; the first that has it wins.
    async fn discover(self: Arc<Self>) -> Result<Metadata, ProviderError> {
        let mut error = self.unavailable("its issuer is not a URL");
        for request in discovery::requests(&self.settings.issuer) {
            let answer = self.call("discovery", request).await?;
            match Metadata::read(&answer, &self.settings.issuer) {
                Ok(metadata) => return Ok(metadata),
                Err(reason) => error = self.unavailable(reason),
            }
        }
        tracing::warn!(provider = %self.id(), %error, "no metadata");
        Err(error)
    }

    async fn keys(self: &Arc<Self>, now: Timestamp) -> Result<Arc<KeySet>, ProviderError> {
        self.keys.current(now, self.clone().fetch_keys(now)).await
    }

    async fn keys_newer_than(
        self: &Arc<Self>,
        seen: &Arc<KeySet>,
        now: Timestamp,
    ) -> Option<Result<Arc<KeySet>, ProviderError>> {
        self.keys.newer(seen, now, self.clone().fetch_keys(now)).await
    }

    async fn fetch_keys(self: Arc<Self>, now: Timestamp) -> Result<KeySet, ProviderError> {
        let endpoint = match &self.endpoints.jwks {
            Some(endpoint) => endpoint.clone(),
            None => {
                let endpoint = self.metadata(now).await?.jwks_uri.clone();
                endpoint.ok_or_else(|| self.unavailable("it has no jwks_uri"))?
            }
        };
        let answer = self.call("keys", KeySet::request(&endpoint)).await?;
        KeySet::read(&answer).map_err(|error| self.unavailable(error))
    }

    async fn call(&self, name: &'static str, request: Request<Bytes>) -> Result<Response<Bytes>, ProviderError> {
        let answer = self.transport.send(request).await;
        let outcome = match &answer {
            Ok(answer) if answer.status().is_success() => "ok",
            Ok(_) => "refused",
            Err(_) => "failed",
        };
        self.metrics.provider_call(self.id().as_str(), name, outcome);
        answer.map_err(|error| {
            tracing::warn!(provider = %self.id(), call = name, %error, "the provider does not answer");
            self.unavailable(error)
        })
    }

    /// What the token endpoint's failure means to whoever waits for a login.
    fn trouble(&self, error: AnswerError) -> ProviderError {
        match error {
            AnswerError::Overloaded(_) | AnswerError::Credentials => {
                tracing::warn!(provider = %self.id(), %error, "the provider cannot be used");
                self.unavailable(error)
            }
            AnswerError::Refused(code) => self.refused(code),
            AnswerError::Nonsense(_) | AnswerError::Unexpected(_) => self.nonsense(error),
        }
    }

    fn unavailable(&self, reason: impl Display) -> ProviderError {
        ProviderError::Unavailable {
            provider: self.settings.id.clone(),
            reason: reason.to_string(),
        }
    }

    fn nonsense(&self, reason: impl Display) -> ProviderError {
        ProviderError::Nonsense {
            provider: self.settings.id.clone(),
            reason: reason.to_string(),
        }
    }

    fn refused(&self, code: &'static str) -> ProviderError {
        ProviderError::Refused {
            provider: self.settings.id.clone(),
            code,
        }
    }
}

#[cfg(test)]
mod tests;
