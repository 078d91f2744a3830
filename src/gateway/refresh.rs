//! One refresh of a session's tokens, from the provider's answer to where the session is kept.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

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
    /// As it was when its tokens were to be replaced.
    pub(super) session: Arc<Session>,
    pub(super) now: Timestamp,
}

/// The longest that one replica keeps the others waiting: longer than all limits of a call together.
const LOCK: Duration = Duration::from_secs(15);
/// How often a replica looks whether another has finished.
const LOOK: Duration = Duration::from_millis(50);
/// How long fresh tokens are tried to be kept, so that an outage of the store does not cost them; the old ones are spent.
const WRITE: Duration = Duration::from_secs(300);
/// How long those who wait for them wait for that too.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often they are tried to be kept.
const RETRY: Duration = Duration::from_millis(200);

impl Refresh {
    /// Refreshes a session that is kept there; tells `early` of tokens that cannot be kept yet.
    pub(super) async fn run(&self, place: Place, early: &watch::Sender<Option<Renewal>>) -> Renewal {
        match place {
            Place::Browser => self.for_browser().await,
            Place::Store { ticket, tenant, .. } => {
                let shelf = Shelf {
                    sessions: &self.sessions,
                    ticket: &ticket,
                    tenant: &tenant,
                    replaced: &self.session.login,
                    now: self.now,
                    early,
                };
                self.in_store(&shelf).await
            }
        }
    }

    async fn for_browser(&self) -> Renewal {
        match self.provider.refresh(&self.session.login, self.now).await {
            Ok(login) => match self.sessions.was_ended(&self.session, &Place::Browser).await {
                Ok(true) => self.in_vain(&login),
                // When nobody knows, the tokens must not be lost: whoever comes with them is asked again.
                Ok(false) | Err(_) => Renewal::Renewed(login.into(), Place::Browser),
            },
            Err(error) if error.ends_session() => Renewal::Ended,
            Err(error) => Renewal::Failed(error),
        }
    }

    /// One replica refreshes, the others wait for what it writes (F-17).
    async fn in_store(&self, shelf: &Shelf<'_>) -> Renewal {
        let holder = random_text::<12>();
        match self.turn(shelf, &holder).await {
            Ok(Turn::Ours(session, place)) => {
                let renewal = self.with_the_lock(&session, place, shelf).await;
                // Where this fails, the lock ends by itself.
                let _ = self.sessions.unlock(shelf.ticket, &holder).await;
                renewal
            }
            Ok(Turn::Theirs(renewal)) => renewal,
            Err(error) => Renewal::Unknown(error),
        }
    }

    /// Waits until it is this replica's turn, or until another has done it.
    async fn turn(&self, shelf: &Shelf<'_>, holder: &str) -> Result<Turn, StoreError> {
        let begun = Instant::now();
        loop {
            let locked = self.sessions.lock(shelf.ticket, holder, LOCK).await?;
            let Some((session, place)) = shelf.current().await? else {
                return Ok(Turn::Theirs(Renewal::Ended));
            };
            if shelf.has_newer(&session) {
                if locked {
                    self.sessions.unlock(shelf.ticket, holder).await?;
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

    async fn with_the_lock(&self, session: &Session, place: Place, shelf: &Shelf<'_>) -> Renewal {
        match self.provider.refresh(&session.login, self.now).await {
            Ok(login) => {
                let login = Arc::new(login);
                match shelf.write(session, login.clone(), place).await {
                    Renewal::Ended => self.in_vain(&login),
                    renewal => renewal,
                }
            }
            Err(error) if error.ends_session() => match shelf.current().await {
                // A replica whose lock had run out was faster: its tokens count.
                Ok(Some((session, place))) if shelf.has_newer(&session) => {
                    Renewal::Renewed(session.login.clone(), place)
                }
                Ok(_) => match self.sessions.end_ticket(shelf.ticket).await {
                    Ok(()) => Renewal::Ended,
                    Err(error) => Renewal::Unknown(error),
                },
                Err(error) => Renewal::Unknown(error),
            },
            Err(error) => Renewal::Failed(error),
        }
    }

    /// The session ended meanwhile: whoever ended it gave the spent refresh token back, and nobody else has this one.
    fn in_vain(&self, login: &Login) -> Renewal {
        if let Some(refresh_token) = &login.refresh_token {
            self.provider.revoke(refresh_token.clone(), self.now);
        }
        Renewal::Ended
    }
}

enum Turn {
    Ours(Arc<Session>, Place),
    Theirs(Renewal),
}

/// Where a store keeps the session whose tokens are replaced.
struct Shelf<'a> {
    sessions: &'a Sessions,
    ticket: &'a Ticket,
    tenant: &'a str,
    replaced: &'a Login,
    now: Timestamp,
    early: &'a watch::Sender<Option<Renewal>>,
}

impl Shelf<'_> {
    async fn current(&self) -> Result<Option<(Arc<Session>, Place)>, StoreError> {
        self.sessions.current(self.ticket, self.tenant).await
    }

    /// Writes what cannot be had a second time, whatever it takes; but never over tokens that came later.
    async fn write(&self, session: &Session, login: Arc<Login>, mut place: Place) -> Renewal {
        let begun = Instant::now();
        let mut fresh = session.renewed(login.clone(), self.now);
        loop {
            let error = match self.sessions.write(&fresh, &mut place, self.now).await {
                Ok(Replaced::Done) => return Renewal::Renewed(login, place),
                Ok(Replaced::Gone) => return Renewal::Ended,
                Ok(Replaced::Changed) => match self.current().await {
                    Ok(None) => return Renewal::Ended,
                    // The lock ran out meanwhile, or an answer of the store was lost on the way: that one counts.
                    Ok(Some((newer, place))) if self.has_newer(&newer) => {
                        return Renewal::Renewed(newer.login.clone(), place);
                    }
                    // Somebody noted that the session was seen, and may do so again.
                    Ok(Some((seen, newer))) => {
                        fresh = seen.renewed(login.clone(), self.now);
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
            if begun.elapsed() > PATIENCE {
                // This replica can use them all the same.
                self.early
                    .send_replace(Some(Renewal::Renewed(login.clone(), place.clone())));
            }
            sleep(RETRY).await;
        }
    }

    /// Whether the session has other tokens by now than those that are to be replaced.
    fn has_newer(&self, session: &Session) -> bool {
        let (theirs, ours) = (&session.login, self.replaced);
        let rotated = match (&theirs.refresh_token, &ours.refresh_token) {
            (Some(theirs), Some(ours)) => !theirs.matches(ours.expose()),
            (theirs, ours) => theirs.is_some() != ours.is_some(),
        };
        rotated
            || theirs.access_received_at != ours.access_received_at
            || theirs.access_expires_at != ours.access_expires_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        identity::{Claims, Issuer, ProviderId, Scopes, Subject},
        policy::{Origin, Scheme},
        secret::Secret,
        session::{CookieSettings, SealingKey, Settings, StoreSettings},
    };

    const NOW: Timestamp = Timestamp::from_unix(1_800_000_000);

    fn login(generation: u32) -> Login {
        Login {
            provider: ProviderId::new("corp"),
            issuer: Issuer::new("https://id.example.com"),
            subject: Subject::new("ann").unwrap(),
            claims: Claims::default(),
            scopes: Scopes::parse("openid"),
            access_token: None,
            access_received_at: NOW,
            access_expires_at: NOW.plus(Duration::from_secs(300)),
            refresh_token: Some(Secret::new(format!("refresh {generation}"))),
            id_token: None,
        }
    }

    /// A session with its first tokens, in a store that a refresh and others write to.
    struct Scene {
        sessions: Sessions,
        session: Arc<Session>,
        place: Place,
        early: watch::Sender<Option<Renewal>>,
    }

    impl Scene {
        async fn set() -> Self {
            let sessions = Sessions::new(Settings {
                keys: vec![SealingKey::random()],
                ephemeral_keys: false,
                idle_timeout: Duration::from_secs(1_800),
                max_lifetime: Duration::from_secs(28_800),
                refresh_before: Duration::from_secs(60),
                cookie: CookieSettings::default(),
                store: StoreSettings::Memory { max_bytes: 1_000_000 },
                keep_access_token: false,
                read_cache: Duration::ZERO,
            })
            .unwrap();
            let origin = Origin {
                scheme: Scheme::Https,
                host: "wiki.example.com".into(),
                port: None,
            };
            let session = Session::begin(login(1), NOW);
            let empty = sessions.jar(&origin, &[]);
            let cookies = sessions.begin(&session, &empty, &origin, NOW).await.unwrap();
            let cookie = cookies[0].to_str().unwrap();
            let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
            let received = [(name.to_owned(), value.to_owned())];
            let jar = sessions.jar(&origin, &received);
            let held = sessions.present(&jar, &origin, NOW).await.unwrap().unwrap().held;
            Self {
                session: held.session.clone(),
                place: held.place.clone(),
                early: watch::Sender::new(None),
                sessions,
            }
        }

        fn shelf(&self) -> Shelf<'_> {
            let Place::Store { ticket, tenant, .. } = &self.place else {
                panic!("it is in a store");
            };
            Shelf {
                sessions: &self.sessions,
                ticket,
                tenant,
                replaced: &self.session.login,
                now: NOW,
                early: &self.early,
            }
        }

        /// What somebody else does while the refresh is on its way.
        async fn meanwhile(&self, written: Session) {
            let mut place = self.place.clone();
            let replaced = self.sessions.write(&written, &mut place, NOW).await.unwrap();
            assert_eq!(replaced, Replaced::Done);
        }

        /// What the refresh says that the tokens are by now, and what the store says.
        async fn written(&self, generation: u32) -> (String, String) {
            let shelf = self.shelf();
            let renewal = shelf.write(&self.session, login(generation).into(), self.place.clone());
            let Renewal::Renewed(login, _) = renewal.await else {
                panic!("the session lives");
            };
            let (stored, _) = shelf.current().await.unwrap().unwrap();
            (refresh_token(&login), refresh_token(&stored.login))
        }
    }

    fn refresh_token(login: &Login) -> String {
        login.refresh_token.as_ref().unwrap().expose().to_owned()
    }

    fn both(text: &str) -> (String, String) {
        (text.to_owned(), text.to_owned())
    }

    #[tokio::test]
    async fn whose_lock_ran_out_does_not_write_over_newer_tokens() {
        let scene = Scene::set().await;
        scene.meanwhile(scene.session.renewed(login(2).into(), NOW)).await;
        assert_eq!(scene.written(99).await, both("refresh 2"));
    }

    #[tokio::test]
    async fn who_was_seen_meanwhile_has_the_fresh_tokens_all_the_same() {
        let scene = Scene::set().await;
        let later = NOW.plus(Duration::from_secs(70));
        scene.meanwhile(scene.session.seen(later)).await;
        assert_eq!(scene.written(2).await, both("refresh 2"));
    }

    #[tokio::test]
    async fn who_is_seen_late_does_not_bring_old_tokens_back() {
        let scene = Scene::set().await;
        assert_eq!(scene.written(2).await, both("refresh 2"));
        let (sessions, mut old) = (&scene.sessions, scene.place.clone());
        let late = sessions.write(&scene.session.seen(NOW), &mut old, NOW).await;
        assert_eq!(late.unwrap(), Replaced::Changed);
    }

    #[tokio::test]
    async fn a_session_that_ended_meanwhile_stays_ended() {
        let scene = Scene::set().await;
        let shelf = scene.shelf();
        scene.sessions.end_ticket(shelf.ticket).await.unwrap();
        let renewal = shelf.write(&scene.session, login(2).into(), scene.place.clone()).await;
        assert!(matches!(renewal, Renewal::Ended), "{renewal:?}");
        assert!(shelf.current().await.unwrap().is_none());
    }
}
