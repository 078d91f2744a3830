//! The authorization request and its response (RFC 6749 §4.1.1–§4.1.2, RFC 7636, RFC 9207).

use std::time::Duration;

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Request, Uri};
use serde::{Deserialize, Serialize};
use url::Url;

use super::{
    client::ClientRegistration,
    id_token,
    jwks::KeySet,
    token::{Login, TokenResponse},
};
use crate::{
    identity::{Issuer, ProviderId, Scopes, Strength, TokenError},
    secret::{Secret, same_bytes},
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

/// The request that a browser is sent to the provider with.
#[derive(Debug)]
pub struct AuthorizationRequest<'a> {
    pub provider: &'a ProviderId,
    pub issuer: &'a Issuer,
    pub client_id: &'a str,
    pub endpoint: &'a Url,
    pub scopes: &'a Scopes,
    /// Beside the protocol's own.
    pub parameters: &'a [(String, String)],
    pub redirect_uri: String,
    pub return_to: String,
    /// What the login has to be like (OIDC Core §3.1.2.1).
    pub strength: Strength,
    /// What the person is asked, whatever login they have at the provider (OIDC Core §3.1.2.1).
    pub prompt: Option<&'static str>,
    /// The provider promises to name itself in the response (RFC 9207 §3).
    pub response_names_issuer: bool,
}

/// As whom somebody wants to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Account {
    /// As whoever the provider knows them.
    Any,
    /// As somebody else: the provider has to ask, though it knows them.
    Another,
}

/// How long a browser may take to come back.
const LIFETIME: Duration = Duration::from_secs(600);
/// How far the clocks of two replicas may differ: one begins a login, another ends it.
const SKEW: Duration = Duration::from_secs(30);

impl AuthorizationRequest<'_> {
    /// Where to send the browser, and what to remember until it returns.
    pub fn begin(self, secrets: LoginSecrets, now: Timestamp) -> (String, PendingLogin) {
        let challenge = digest::digest(&digest::SHA256, secrets.code_verifier.expose().as_bytes());
        let mut url = self.endpoint.clone();
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", self.client_id)
            .append_pair("redirect_uri", &self.redirect_uri)
            .append_pair("scope", &self.scopes.to_string())
            .append_pair("state", &secrets.state)
            .append_pair("nonce", &secrets.nonce)
            .append_pair("code_challenge", &URL_SAFE_NO_PAD.encode(challenge))
            .append_pair("code_challenge_method", "S256");
        let mut asked = strength_parameters(&self.strength);
        asked.extend(self.prompt.map(|prompt| ("prompt", prompt.to_owned())));
        // A parameter stands once, and the route knows best how strong a login it needs.
        let others = self
            .parameters
            .iter()
            .filter(|(name, _)| asked.iter().all(|(own, _)| own != name));
        url.query_pairs_mut().extend_pairs(&asked).extend_pairs(others);
        let pending = PendingLogin {
            provider: self.provider.clone(),
            issuer: self.issuer.clone(),
            state: secrets.state,
            nonce: secrets.nonce,
            code_verifier: secrets.code_verifier,
            redirect_uri: self.redirect_uri,
            return_to: self.return_to,
            scopes: self.scopes.clone(),
            strength: self.strength,
            response_names_issuer: self.response_names_issuer,
            started_at: now,
        };
        (url.into(), pending)
    }
}

/// `acr_values` and `max_age`; nobody can be asked for an `amr`.
fn strength_parameters(strength: &Strength) -> Vec<(&'static str, String)> {
    let acr_values = (!strength.acr.is_empty()).then(|| ("acr_values", strength.acr.join(" ")));
    let max_age = strength.max_age.map(|age| ("max_age", age.as_secs().to_string()));
    acr_values.into_iter().chain(max_age).collect()
}

/// A login that was started and has not returned; sealed into a cookie of its own.
#[derive(Clone, Debug)]
pub struct PendingLogin {
    provider: ProviderId,
    issuer: Issuer,
    state: String,
    nonce: String,
    code_verifier: Secret,
    redirect_uri: String,
    return_to: String,
    scopes: Scopes,
    strength: Strength,
    response_names_issuer: bool,
    started_at: Timestamp,
}

/// A pending login as it is written; only ever inside a seal.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    v: u8,
    provider: ProviderId,
    issuer: Issuer,
    state: String,
    nonce: String,
    code_verifier: String,
    redirect_uri: String,
    return_to: String,
    scopes: Scopes,
    #[serde(default, skip_serializing_if = "Strength::is_empty")]
    strength: Strength,
    names_issuer: bool,
    started_at: Timestamp,
}

const VERSION: u8 = 1;

impl PendingLogin {
    pub fn to_json(&self) -> Vec<u8> {
        let written = Written {
            v: VERSION,
            provider: self.provider.clone(),
            issuer: self.issuer.clone(),
            state: self.state.clone(),
            nonce: self.nonce.clone(),
            code_verifier: self.code_verifier.expose().to_owned(),
            redirect_uri: self.redirect_uri.clone(),
            return_to: self.return_to.clone(),
            scopes: self.scopes.clone(),
            strength: self.strength.clone(),
            names_issuer: self.response_names_issuer,
            started_at: self.started_at,
        };
        // Texts and numbers always serialise; what would not, could not be read again either.
        serde_json::to_vec(&written).unwrap_or_default()
    }

    pub fn from_json(bytes: &[u8]) -> Option<Self> {
        let written: Written = serde_json::from_slice(bytes).ok()?;
        (written.v == VERSION).then(|| Self {
            provider: written.provider,
            issuer: written.issuer,
            state: written.state,
            nonce: written.nonce,
            code_verifier: Secret::new(written.code_verifier),
            redirect_uri: written.redirect_uri,
            return_to: written.return_to,
            scopes: written.scopes,
            strength: written.strength,
            response_names_issuer: written.names_issuer,
            started_at: written.started_at,
        })
    }

    pub fn provider(&self) -> &ProviderId {
        &self.provider
    }

    pub fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// The path and query to go back to, as the gateway wrote it itself.
    pub fn return_to(&self) -> &str {
        &self.return_to
    }

    /// Accepts the answer that belongs to this attempt, and nothing else.
    ///
    /// `arrived_at` is the redirect URI that it came to: another provider's means that this one handed the browser on to
    /// get hold of a code that is not its own (RFC 9700 §4.4).
    ///
    /// # Errors
    /// State foreign or stale, redirect URI of another provider, `iss` wrong or missing though promised, or the provider's
    /// own `error`.
    pub fn accept(
        self,
        response: AuthorizationResponse,
        arrived_at: &str,
        now: Timestamp,
    ) -> Result<CodeGrant, AuthorizationError> {
        if !same_bytes(self.state.as_bytes(), response.state.as_bytes()) {
            return Err(AuthorizationError::State);
        }
        if self.started_at > now.plus(SKEW) || now.since(self.started_at) > LIFETIME {
            return Err(AuthorizationError::Stale);
        }
        if arrived_at != self.redirect_uri {
            return Err(AuthorizationError::Issuer);
        }
        match &response.issuer {
            Some(issuer) if issuer == self.issuer.as_str() => {}
            None if !self.response_names_issuer => {}
            Some(_) | None => return Err(AuthorizationError::Issuer),
        }
        match response.outcome {
            Outcome::Code(code) => Ok(CodeGrant { code, pending: self }),
            Outcome::Error(code) => Err(AuthorizationError::Refused(code)),
        }
    }
}

/// The parameters that came back to the redirect URI; each at most once.
#[derive(Clone, Debug)]
pub struct AuthorizationResponse {
    state: String,
    issuer: Option<String>,
    outcome: Outcome,
}

#[derive(Clone, Debug)]
enum Outcome {
    Code(Secret),
    Error(&'static str),
}

/// The error codes that a response may carry (RFC 6749 §4.1.2.1, OIDC Core §3.1.2.6).
const CODES: [&str; 16] = [
    "access_denied",
    "account_selection_required",
    "consent_required",
    "interaction_required",
    "invalid_request",
    "invalid_request_object",
    "invalid_request_uri",
    "invalid_scope",
    "login_required",
    "registration_not_supported",
    "request_not_supported",
    "request_uri_not_supported",
    "server_error",
    "temporarily_unavailable",
    "unauthorized_client",
    "unsupported_response_type",
];

impl AuthorizationResponse {
    /// # Errors
    /// A repeated parameter, neither `code` nor `error`, or no `state` (RFC 6749 §3.1).
    pub fn from_query(query: &str) -> Result<Self, AuthorizationError> {
        let code = parameter(query, "code")?;
        let error = parameter(query, "error")?;
        let outcome = match (code, error) {
            (Some(code), None) => Outcome::Code(Secret::new(code)),
            (None, Some(error)) => {
                Outcome::Error(CODES.iter().find(|code| **code == error).copied().unwrap_or("other"))
            }
            _ => return Err(AuthorizationError::Parameter("code")),
        };
        Ok(Self {
            state: parameter(query, "state")?.ok_or(AuthorizationError::Parameter("state"))?,
            issuer: parameter(query, "iss")?,
            outcome,
        })
    }

    pub fn state(&self) -> &str {
        &self.state
    }
}

/// A parameter without a value counts as absent (RFC 6749 §3.1).
fn parameter(query: &str, name: &'static str) -> Result<Option<String>, AuthorizationError> {
    let mut values = form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == name);
    let value = values.next().map(|(_, value)| value.into_owned());
    match values.next() {
        Some(_) => Err(AuthorizationError::Parameter(name)),
        None => Ok(value.filter(|value| !value.is_empty())),
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
    code: Secret,
    pending: PendingLogin,
}

impl CodeGrant {
    pub fn return_to(&self) -> &str {
        &self.pending.return_to
    }

    /// What the login was asked to be like; whoever begins a session has to see whether it is.
    pub fn strength(&self) -> &Strength {
        &self.pending.strength
    }

    /// Redeems the code (RFC 6749 §4.1.3, RFC 7636 §4.5).
    pub fn request(&self, endpoint: &Uri, client: &ClientRegistration) -> Request<Bytes> {
        let grant = [
            ("grant_type", "authorization_code"),
            ("code", self.code.expose()),
            ("redirect_uri", &self.pending.redirect_uri),
            ("code_verifier", self.pending.code_verifier.expose()),
        ];
        client.post(endpoint, &grant)
    }

    /// Checks what came back, and says who logged in.
    ///
    /// # Errors
    /// `UnknownKey` where fetching the keys anew may help; a login without an ID token is none.
    pub fn finish(
        &self,
        tokens: &TokenResponse,
        rules: &id_token::Rules,
        keys: &KeySet,
        assumed_lifetime: Duration,
        now: Timestamp,
    ) -> Result<Login, TokenError> {
        let id_token = tokens.id_token.as_ref().ok_or(TokenError::Claim("id_token"))?;
        let (access_token, nonce) = (tokens.access_token.expose(), self.pending.nonce.as_str());
        let (subject, claims) = id_token::check(id_token.expose(), access_token, Some(nonce), rules, keys, now)?;
        Ok(Login {
            provider: self.pending.provider.clone(),
            issuer: self.pending.issuer.clone(),
            subject,
            claims,
            scopes: tokens.scopes.clone().unwrap_or_else(|| self.pending.scopes.clone()),
            access_token: Some(tokens.access_token.clone()),
            access_received_at: now,
            access_expires_at: now.plus(tokens.expires_in.unwrap_or(assumed_lifetime)),
            refresh_token: tokens.refresh_token.clone(),
            id_token: tokens.id_token.clone(),
        })
    }
}
