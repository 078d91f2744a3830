//! Fresh tokens for a session: one refresh per token, however many requests and replicas need it.

use std::{sync::Arc, time::Duration};

use moka::future::Cache;

use super::refresh::Refresh;
use crate::{
    identity::ProviderId,
    oauth::token::Login,
    provider::{Provider, ProviderError},
    session::{Place, Session, Sessions, StoreError},
    time::Timestamp,
};

/// What became of a refresh.
#[derive(Clone, Debug)]
pub(super) enum Renewal {
    /// The fresh tokens, and where they are kept by now; those of a browser have yet to go there.
    Renewed(Arc<Login>, Place),
    /// The provider refused the refresh token, or now speaks of somebody else: the session is over.
    Ended,
    /// Nobody knows; the session lives on (N-038).
    Failed(ProviderError),
    /// The same, because the store does not answer.
    Unknown(StoreError),
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
    pub(super) async fn renew(
        &self,
        sessions: &Arc<Sessions>,
        provider: &Arc<Provider>,
        session: &Session,
        place: &Place,
        now: Timestamp,
    ) -> Renewal {
        let generation = (session.id.clone(), session.login.access_expires_at);
        let outcomes = self.outcomes.clone();
        let refresh = Refresh {
            sessions: sessions.clone(),
            provider: provider.clone(),
            login: session.login.clone(),
            now,
        };
        let place = place.clone();
        let outcome = async move {
            let renewal = match place {
                Place::Browser => refresh.for_browser().await,
                Place::Store { ticket, tenant, .. } => refresh.in_store(&ticket, &tenant).await,
            };
            Outcome { renewal, at: now }
        };
        let id: ProviderId = provider.id().clone();
        // Replaced in one step: whoever looked before a refresh that went well must not undo it, and refresh twice.
        let over = move |outcome: &Outcome| outcome.is_failure() && outcome.at.plus(PAUSE) <= now;
        let task = tokio::spawn(async move {
            let entry = outcomes.entry(generation);
            entry.or_insert_with_if(outcome, over).await.into_value()
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

impl Outcome {
    fn is_failure(&self) -> bool {
        matches!(self.renewal, Renewal::Failed(_) | Renewal::Unknown(_))
    }
}
