//! The groups of somebody who has more of them than a token holds (OIDC Core §5.6.2).

use std::sync::Arc;

use http::{StatusCode, Uri};
use serde_json::Value;

use super::{Provider, ProviderError};
use crate::{
    identity::Claims,
    oauth::{
        answer::AnswerError,
        distributed::{self, Page, Source},
        token::Login,
        userinfo,
    },
    secret::Secret,
    time::Timestamp,
};

/// What is of no use once the groups were asked for, and may hold tokens.
pub(super) const SPENT: [&str; 1] = ["_claim_sources"];

/// More groups than this, and no rule can be meant for them.
const MAX_GROUPS: usize = 10_000;
const MAX_PAGES: usize = 50;

impl Provider {
    /// The groups that a login says are elsewhere; `None` where there is nowhere to ask, or whoever is asked will not
    /// tell. Then they stay unknown, and no rule takes that for "none".
    ///
    /// # Errors
    /// When whoever has them is not well.
    pub(super) async fn groups_elsewhere(
        self: &Arc<Self>,
        login: &Login,
        now: Timestamp,
    ) -> Result<Option<Value>, ProviderError> {
        let Some(access_token) = &login.access_token else {
            return Ok(None);
        };
        let source = || Source::of(&login.claims, &self.claim_names().groups, &self.settings.issuer);
        let answered = match (&self.endpoints.groups, source()) {
            (Some(endpoint), _) => self.listed(endpoint, access_token).await,
            (None, Some(source)) => self.told_by(&source, login, access_token, now).await,
            (None, None) => {
                tracing::warn!(provider = %self.id(), "groups are kept elsewhere, and no groups_endpoint says where");
                return Ok(None);
            }
        };
        match answered {
            Ok(groups) => Ok(groups),
            Err(Trouble::Refused(status)) => {
                tracing::warn!(provider = %self.id(), %status, "groups are kept elsewhere, and are not told");
                Ok(None)
            }
            Err(Trouble::Provider(error)) => Err(error),
        }
    }

    /// Page by page, as Microsoft Graph lists them.
    async fn listed(&self, endpoint: &Uri, access_token: &Secret) -> Result<Option<Value>, Trouble> {
        let mut groups = Vec::new();
        let mut next = Some(endpoint.clone());
        for _ in 0..MAX_PAGES {
            let Some(page) = next.take().filter(|_| groups.len() <= MAX_GROUPS) else {
                break;
            };
            let request = userinfo::request(&page, access_token).map_err(|error| self.trouble(error))?;
            let answer = self.call("groups", request).await?;
            let page = Page::read(&answer, endpoint).map_err(|error| self.untold(error, answer.status()))?;
            groups.extend(page.ids.into_iter().map(Value::String));
            next = page.next;
        }
        match next.is_some() || groups.len() > MAX_GROUPS {
            true => Err(self.nonsense("somebody has more groups than can be").into()),
            false => Ok(Some(Value::Array(groups))),
        }
    }

    /// In a signed answer, as OpenID Connect has it.
    async fn told_by(
        self: &Arc<Self>,
        source: &Source,
        login: &Login,
        access_token: &Secret,
        now: Timestamp,
    ) -> Result<Option<Value>, Trouble> {
        let request = source.request(access_token).map_err(|error| self.trouble(error))?;
        let answer = self.call("groups", request).await?;
        let metadata = self.metadata(now).await?;
        let rules = self.id_token_rules(&metadata);
        let keys = self.keys(now).await?;
        let claims = distributed::read(&answer, &login.subject, &rules, &keys, now)
            .map_err(|error| self.untold(error, answer.status()))?
            .map_err(|error| self.nonsense(format!("the token with the groups is not good: {error}")))?;
        Ok(claims.member(self.claim_names().groups.first_segment()).cloned())
    }

    /// Whoever refuses the token that it was just given does not want to tell; that is no outage.
    fn untold(&self, error: AnswerError, status: StatusCode) -> Trouble {
        match error {
            AnswerError::Credentials | AnswerError::Unexpected(_) => Trouble::Refused(status),
            error @ (AnswerError::Overloaded(_) | AnswerError::Refused(_) | AnswerError::Nonsense(_)) => {
                self.trouble(error).into()
            }
        }
    }

    /// The claims, with the groups where the file says that they stand.
    pub(super) fn with_groups(&self, claims: Claims, groups: Value) -> Claims {
        claims.with(self.claim_names().groups.first_segment(), groups)
    }

    pub(super) fn with_groups_of(&self, claims: Claims, earlier: &Claims) -> Claims {
        let name = self.claim_names().groups.first_segment();
        match earlier.member(name) {
            Some(groups) => claims.with(name, groups.clone()),
            None => claims.without(&[name]),
        }
    }
}

enum Trouble {
    Refused(StatusCode),
    Provider(ProviderError),
}

impl From<ProviderError> for Trouble {
    fn from(error: ProviderError) -> Self {
        Self::Provider(error)
    }
}
