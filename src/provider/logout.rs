//! The end of a session, as the provider tells it and is told of it.

use std::sync::Arc;

use super::{Provider, ProviderError, Providers};
use crate::{
    identity::{Issuer, TokenError},
    oauth::{
        jwt::Unverified,
        logout,
        logout_token::{self, LogoutToken},
        revocation,
    },
    secret::Secret,
    time::Timestamp,
};

/// What became of a logout token.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LogoutError {
    /// The token is bad, and stays so.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// We cannot know: the provider has to say it again.
    #[error(transparent)]
    Provider(#[from] ProviderError),
}

impl Providers {
    /// Checks a logout token by the keys of who claims to have issued it (OIDC Back-Channel Logout §2.6).
    ///
    /// Where several clients of one issuer are configured, it is for one of them.
    ///
    /// # Errors
    /// `UnknownIssuer` before any key is fetched.
    pub async fn check_logout_token(
        &self,
        token: &str,
        now: Timestamp,
    ) -> Result<(Arc<Provider>, LogoutToken), LogoutError> {
        let unverified = Unverified::read(token)?;
        let claimed = unverified.claimed_issuer().ok_or(TokenError::Claim("iss"))?;
        let mut outcome = Err(TokenError::UnknownIssuer.into());
        for provider in self.iter().filter(|provider| provider.issuer().as_str() == claimed) {
            match provider.check_logout_token(token, now).await {
                Ok(good) => return Ok((provider.clone(), good)),
                // For one of the others of this issuer, perhaps.
                Err(error) => outcome = worse(outcome, error),
            }
        }
        outcome
    }

    /// A provider of this issuer; it may have others, for other clients.
    pub fn of_issuer(&self, issuer: &str) -> Option<&Arc<Provider>> {
        self.iter().find(|provider| provider.issuer().as_str() == issuer)
    }
}

/// Who could not be asked might have known the token.
fn worse<T>(before: Result<T, LogoutError>, error: LogoutError) -> Result<T, LogoutError> {
    match before {
        Err(LogoutError::Provider(_)) => before,
        Ok(_) | Err(LogoutError::Token(_)) => Err(error),
    }
}

impl Provider {
    pub fn issuer(&self) -> &Issuer {
        &self.settings.issuer
    }

    async fn check_logout_token(self: &Arc<Self>, token: &str, now: Timestamp) -> Result<LogoutToken, LogoutError> {
        let metadata = self.metadata(now).await?;
        let rules = self.id_token_rules(&metadata);
        let keys = self.keys(now).await?;
        let checked = logout_token::check(token, &rules, &keys, now);
        if !matches!(checked, Err(TokenError::UnknownKey)) {
            return Ok(checked?);
        }
        // Somebody else's unknown key has just been looked for: a new one may be published since.
        let newer = self.keys_newer_than(&keys, now).await;
        let newer = newer.ok_or_else(|| self.unavailable("its keys were fetched a moment ago"))??;
        Ok(logout_token::check(token, &rules, &newer, now)?)
    }

    /// Where the browser goes to end its session at the provider; `None` where the provider offers no such page or
    /// cannot be reached: signing out here never depends on it (OIDC RP-Initiated Logout §2).
    pub async fn end_session_url(
        self: &Arc<Self>,
        id_token_hint: Option<&Secret>,
        post_logout_redirect_uri: &str,
        state: &str,
        now: Timestamp,
    ) -> Option<String> {
        let client_id = &self.settings.client.client_id;
        let at = |endpoint| logout::url(endpoint, client_id, id_token_hint, post_logout_redirect_uri, state);
        if let Some(endpoint) = &self.endpoints.end_session {
            return Some(at(endpoint));
        }
        let metadata = self.metadata(now).await.ok()?;
        metadata.end_session_endpoint.as_ref().map(at)
    }

    /// Gives a refresh token back where the provider takes it; nobody waits for that, and nothing depends on it.
    pub fn revoke(self: &Arc<Self>, refresh_token: Secret, now: Timestamp) {
        let provider = self.clone();
        tokio::spawn(async move {
            if let Err(error) = provider.revoke_here(&refresh_token, now).await {
                tracing::warn!(provider = %provider.id(), %error, "a refresh token could not be revoked");
            }
        });
    }

    async fn revoke_here(self: &Arc<Self>, refresh_token: &Secret, now: Timestamp) -> Result<(), ProviderError> {
        let endpoint = match &self.endpoints.revocation {
            Some(endpoint) => Some(endpoint.clone()),
            None => self.metadata(now).await?.revocation_endpoint.clone(),
        };
        let Some(endpoint) = endpoint else { return Ok(()) };
        let request = revocation::request(&endpoint, &self.settings.client, refresh_token);
        let answer = self.call("revocation", request).await?;
        revocation::read(&answer).map_err(|error| self.trouble(error))
    }
}
