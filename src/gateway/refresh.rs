//! One refresh of a session's tokens, from the provider's answer to where the session is kept.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::renew::Renewal;
use crate::{
    oauth::token::Login,
    provider::{Provider, ProviderError},
    secret::random_text,
    session::{Place, Replaced, Session, Sessions, StoreError, Ticket},
    time::Timestamp,
};

/// One refresh, on its way.
pub(super) struct Refresh {
    pub(super) sessions: Arc<Sessions>,
    pub(super) provider: Arc<Provider>,
    /// The tokens that are to be replaced.
    pub(super) login: Arc<Login>,
    pub(super) now: Timestamp,
}

/// The longest that one replica keeps the others waiting: longer than all limits of a call together.
const LOCK: Duration = Duration::from_secs(15);
/// How often a replica looks whether another has finished.
const LOOK: Duration = Duration::from_millis(50);
/// How long fresh tokens are tried to be kept; the old ones are spent by then.
const WRITE: Duration = Duration::from_secs(10);

impl Refresh {
    pub(super) async fn for_browser(&self) -> Renewal {
        match self.provider.refresh(&self.login, self.now).await {
            Ok(login) => Renewal::Renewed(login.into(), Place::Browser),
            Err(error) if error.ends_session() => Renewal::Ended,
            Err(error) => Renewal::Failed(error),
        }
    }

    /// One replica refreshes, the others wait for what it writes (F-17).
    pub(super) async fn in_store(&self, ticket: &Ticket, tenant: &str) -> Renewal {
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
