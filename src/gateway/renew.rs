//! Fresh tokens for a session: one refresh per token, however many requests and replicas need it.

use std::{sync::Arc, time::Duration};

use moka::future::Cache;
use tokio::time::{Instant, sleep};

use crate::{
    identity::ProviderId,
    oauth::token::Login,
    provider::{Provider, ProviderError},
    secret::random_text,
    session::{Place, Replaced, Session, Sessions, StoreError, Ticket},
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
/// The longest that one replica keeps the others waiting: longer than all limits of a call together.
const LOCK: Duration = Duration::from_secs(15);
/// How often a replica looks whether another has finished.
const LOOK: Duration = Duration::from_millis(50);
/// How long fresh tokens are tried to be kept; the old ones are spent by then.
const WRITE: Duration = Duration::from_secs(10);

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

/// One refresh, on its way.
struct Refresh {
    sessions: Arc<Sessions>,
    provider: Arc<Provider>,
    /// The tokens that are to be replaced.
    login: Arc<Login>,
    now: Timestamp,
}

impl Refresh {
    async fn for_browser(&self) -> Renewal {
        match self.provider.refresh(&self.login, self.now).await {
            Ok(login) => Renewal::Renewed(login.into(), Place::Browser),
            Err(error) if error.ends_session() => Renewal::Ended,
            Err(error) => Renewal::Failed(error),
        }
    }

    /// One replica refreshes, the others wait for what it writes (F-17).
    async fn in_store(&self, ticket: &Ticket, tenant: &str) -> Renewal {
        let holder = random_text::<12>();
        match self.turn(ticket, tenant, &holder).await {
            Ok(Turn::Ours(session, place)) => {
                let renewal = self.with_the_lock(&session, place, ticket, tenant).await;
                // Where this fails, the lock ends by itself.
                let _ = self.sessions.unlock(ticket, &holder).await;
                renewal
            }
            Ok(Turn::Theirs(renewal)) => renewal,
            Err(error) => Renewal::Unknown(error),
        }
    }

    /// Waits until it is this replica's turn, or until another has done it.
    async fn turn(&self, ticket: &Ticket, tenant: &str, holder: &str) -> Result<Turn, StoreError> {
        let begun = Instant::now();
        loop {
            let locked = self.sessions.lock(ticket, holder, LOCK).await?;
            let Some((session, place)) = self.sessions.current(ticket, tenant).await? else {
                return Ok(Turn::Theirs(Renewal::Ended));
            };
            if self.is_newer(&session) {
                if locked {
                    self.sessions.unlock(ticket, holder).await?;
                }
                return Ok(Turn::Theirs(Renewal::Renewed(session.login.clone(), place)));
            }
            if locked {
                return Ok(Turn::Ours(session, place));
            }
            if begun.elapsed() > LOCK {
                return Ok(Turn::Theirs(Renewal::Failed(ProviderError::Unavailable {
                    provider: self.provider.id().clone(),
                    reason: "another replica does not finish its refresh".into(),
                })));
            }
            sleep(LOOK).await;
        }
    }

    async fn with_the_lock(&self, session: &Session, place: Place, ticket: &Ticket, tenant: &str) -> Renewal {
        match self.provider.refresh(&session.login, self.now).await {
            Ok(login) => self.write(session, login.into(), place, ticket, tenant).await,
            Err(error) if error.ends_session() => match self.sessions.current(ticket, tenant).await {
                // A replica whose lock had run out was faster: its tokens count.
                Ok(Some((session, place))) if self.is_newer(&session) => Renewal::Renewed(session.login.clone(), place),
                Ok(_) => match self.sessions.end_ticket(ticket).await {
                    Ok(()) => Renewal::Ended,
                    Err(error) => Renewal::Unknown(error),
                },
                Err(error) => Renewal::Unknown(error),
            },
            Err(error) => Renewal::Failed(error),
        }
    }

    /// Writes what cannot be had a second time, whatever it takes.
    async fn write(
        &self,
        session: &Session,
        login: Arc<Login>,
        place: Place,
        ticket: &Ticket,
        tenant: &str,
    ) -> Renewal {
        let begun = Instant::now();
        let mut fresh = session.renewed(login.clone(), self.now);
        let mut place = place;
        loop {
            let error = match self.sessions.write(&fresh, &mut place, self.now).await {
                Ok(Replaced::Done) => return Renewal::Renewed(login, place),
                Ok(Replaced::Gone) => return Renewal::Ended,
                // Somebody noted that the session was seen, and may do so again.
                Ok(Replaced::Changed) => match self.sessions.current(ticket, tenant).await {
                    Ok(None) => return Renewal::Ended,
                    Ok(Some((session, newer))) => {
                        fresh = session.renewed(login.clone(), self.now);
                        place = newer;
                        continue;
                    }
                    Err(error) => error,
                },
                Err(error) => error,
            };
            if begun.elapsed() > WRITE {
                tracing::error!(%error, "fresh tokens could not be kept; the session ends with its access token");
                return Renewal::Renewed(login, place);
            }
            sleep(LOOK).await;
        }
    }

    fn is_newer(&self, session: &Session) -> bool {
        let rotated = match (&session.login.refresh_token, &self.login.refresh_token) {
            (Some(theirs), Some(ours)) => !theirs.matches(ours.expose()),
            (theirs, ours) => theirs.is_some() != ours.is_some(),
        };
        rotated || session.login.access_expires_at != self.login.access_expires_at
    }
}

enum Turn {
    Ours(Arc<Session>, Place),
    Theirs(Renewal),
}
