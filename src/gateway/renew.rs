//! Fresh tokens for a session: one refresh per token, however many requests need it.

use std::{sync::Arc, time::Duration};

use moka::future::Cache;

use crate::{
    oauth::token::Login,
    provider::{Provider, ProviderError},
    session::Session,
    time::Timestamp,
};

/// What became of a refresh.
#[derive(Clone, Debug)]
pub(super) enum Renewal {
    Renewed(Arc<Login>),
    /// The provider refused the refresh token, or now speaks of somebody else: the session is over.
    Ended,
    /// Nobody knows; the session lives on (N-038).
    Failed(ProviderError),
}

#[derive(Clone, Debug)]
struct Outcome {
    renewal: Renewal,
    at: Timestamp,
}

/// A session's refresh token is used once: this is the session and the access token that it replaces.
type Generation = (Box<str>, Timestamp);

/// How long requests that still carry the old cookie share the result of the refresh.
const GRACE: Duration = Duration::from_secs(60);
/// How long a failure stands before the provider is asked again.
const PAUSE: Duration = Duration::from_secs(2);
const MAX_OUTCOMES: u64 = 10_000;

#[derive(Debug)]
pub(super) struct Renewals {
    outcomes: Cache<Generation, Outcome>,
}

impl Default for Renewals {
    fn default() -> Self {
        Self {
            outcomes: Cache::builder().max_capacity(MAX_OUTCOMES).time_to_live(GRACE).build(),
        }
    }
}

impl Renewals {
    /// Refreshes in a task of its own, which outlives the request: a refresh token that was sent is spent (I18).
    pub(super) async fn renew(&self, provider: &Arc<Provider>, session: &Session, now: Timestamp) -> Renewal {
        let generation = (session.id.clone(), session.login.access_expires_at);
        let (outcomes, login) = (self.outcomes.clone(), session.login.clone());
        let (provider, id) = (provider.clone(), provider.id().clone());
        let refresh = async move {
            let renewal = match provider.refresh(&login, now).await {
                Ok(login) => Renewal::Renewed(Arc::new(login)),
                Err(error) if error.ends_session() => Renewal::Ended,
                Err(error) => Renewal::Failed(error),
            };
            Outcome { renewal, at: now }
        };
        // Replaced in one step: whoever looked before a refresh that went well must not undo it, and refresh twice.
        let old_failure =
            move |outcome: &Outcome| matches!(outcome.renewal, Renewal::Failed(_)) && outcome.at.plus(PAUSE) <= now;
        let task = tokio::spawn(async move {
            let entry = outcomes.entry(generation);
            entry.or_insert_with_if(refresh, old_failure).await.into_value()
        });
        match task.await {
            Ok(outcome) => outcome.renewal,
            Err(_) => Renewal::Failed(ProviderError::Unavailable {
                provider: id,
                reason: "the refresh was cut short".into(),
            }),
        }
    }
}
