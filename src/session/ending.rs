//! Sessions that end although no browser asks for it.

use std::sync::Arc;

use tokio::{sync::broadcast, task::yield_now};

use super::{CookieJar, Ended, Held, Label, Listing, Place, Session, Sessions, StoreError};
use crate::{
    identity::{Issuer, Subject},
    policy::Origin,
    secret::{Fingerprint, FingerprintKey},
    time::Timestamp,
};

/// Which sessions, of one provider.
#[derive(Clone, Copy, Debug)]
pub enum Whose<'a> {
    Everybody,
    /// All of a person.
    Subject(&'a Subject),
    /// Those that came from one session at the provider.
    Sid(&'a str),
}

/// Opening many takes a while, in which others have their turn.
const LABELS_AT_ONCE: usize = 100;

impl Sessions {
    /// Ends sessions wherever they are; says how many a store found, which knows none of those that browsers hold.
    ///
    /// Of those that browsers hold, what began later than `at` goes on.
    ///
    /// # Errors
    /// When the store does not answer; some may have ended by then, and doing it again does no harm.
    pub async fn end_of(
        &self,
        issuer: &Issuer,
        whose: Whose<'_>,
        at: Timestamp,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        let issuer = issuer.as_str();
        let name = match whose {
            Whose::Everybody => vec!["issuer", issuer],
            Whose::Subject(subject) => vec!["subject", issuer, subject.as_str()],
            Whose::Sid(sid) => vec!["sid", issuer, sid],
        };
        let found = self.end_under(&name, at.min(now)).await?;
        if found > 0 {
            // What was read from the store a moment ago is not there any more.
            self.opened.invalidate_all();
        }
        Ok(found)
    }

    /// Ends one session that a store keeps; says whether there was one.
    pub async fn end_id(&self, id: &str) -> Result<bool, StoreError> {
        let ended = self.end_in_store(id.into()).await?;
        // What was read from the store a moment ago is not there any more.
        self.opened.invalidate_all();
        Ok(ended)
    }

    /// Ends one session in the store, and tells of it.
    pub(super) async fn end_in_store(&self, id: Box<str>) -> Result<bool, StoreError> {
        let store = self.store.clone();
        to_its_end(async move { store.end(&id).await }).await
    }

    /// Ends what stands under an index, and began until `at`; says how many were found.
    pub(super) async fn end_under(&self, index: &[&str], at: Timestamp) -> Result<usize, StoreError> {
        let (store, indices, life) = (self.store.clone(), self.all_indices(index), self.remembered_for);
        to_its_end(async move {
            let mut found: usize = 0;
            for index in indices {
                found = found.saturating_add(store.end_all(&index, at, life).await?);
            }
            Ok(found)
        })
        .await
    }

    /// Sessions that a store keeps, and what may be shown of them; none of those that browsers hold.
    ///
    /// Says whether those are all.
    pub async fn listed(&self, limit: usize) -> Result<(Vec<(Box<str>, Label)>, bool), StoreError> {
        let Listing { found, complete } = self.store.list(limit).await?;
        let mut shown = Vec::with_capacity(found.len());
        for some in found.chunks(LABELS_AT_ONCE) {
            let opened = some.iter().filter_map(|(id, label)| {
                let label = Label::open(&self.ring, id, label)?;
                Some((id.clone(), label))
            });
            shown.extend(opened);
            yield_now().await;
        }
        Ok((shown, complete))
    }

    /// A session in the browser's own cookies that was ended while that browser was away; told of once.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn ended_meanwhile(
        &self,
        jar: &CookieJar<'_>,
        origin: &Origin,
        now: Timestamp,
    ) -> Result<Option<Arc<Session>>, StoreError> {
        if !self.settings.store.is_cookie() {
            return Ok(None);
        }
        let (name, tenant) = (jar.name(""), self.tenant(origin));
        let opened = jar
            .joined()
            .and_then(|text| self.open_sealed(&name, &tenant, &text, now));
        let Some(opened) = opened else { return Ok(None) };
        let Held { session, place, .. } = &*opened.held;
        let over = self.ends_at(session) <= now || !self.was_ended(session, place).await?;
        if over
            || !self
                .use_up(&["returned", &session.id], self.last_moment(session), now)
                .await?
        {
            return Ok(None);
        }
        Ok(Some(session.clone()))
    }

    /// Whether something that counts once has been used up before.
    pub async fn is_used(&self, what: &[&str]) -> Result<bool, StoreError> {
        for mark in self.marks(what) {
            if self.store.is_used(&mark).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Uses something up until a moment; says whether nobody had done so before.
    pub async fn use_up(&self, what: &[&str], until: Timestamp, now: Timestamp) -> Result<bool, StoreError> {
        let mut first = true;
        for mark in self.marks(what) {
            first &= self.store.first_use(&mark, until.since(now)).await?;
        }
        Ok(first)
    }

    /// Under every key of the ring, so that replicas agree while keys are replaced.
    fn marks(&self, what: &[&str]) -> Vec<Fingerprint> {
        self.all_indices(&[&["used"], what].concat())
    }
}

/// Ends sessions also when whoever asked for it has gone: one that is half ended has streams that nobody closes.
async fn to_its_end<T: Send + 'static>(
    ending: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, StoreError> {
    let ended = tokio::spawn(ending).await;
    ended.unwrap_or_else(|_| Err(StoreError::Unavailable("it was cut short".into())))
}

/// Which have ended, as far as anybody knows by now.
impl Sessions {
    /// Tells of sessions as they end, on whatever replica.
    pub fn endings(&self) -> broadcast::Receiver<Ended> {
        self.store.endings()
    }

    /// When the session ends as far as anybody knows by now; `None` when it has ended.
    ///
    /// # Errors
    /// When the store does not answer; nobody knows then.
    pub async fn lasts_until(&self, held: &Held) -> Result<Option<Timestamp>, StoreError> {
        match &held.place {
            Place::Browser if self.was_ended(&held.session, &held.place).await? => Ok(None),
            Place::Browser => Ok(Some(self.ends_at(&held.session))),
            Place::Store { ticket, tenant, .. } => {
                let found = self.current(ticket, tenant).await?;
                Ok(found.map(|(session, _)| self.ends_at(&session)))
            }
        }
    }

    /// Whether a session that a browser holds has been ended here; a store forgets such a session by itself.
    pub async fn was_ended(&self, session: &Session, place: &Place) -> Result<bool, StoreError> {
        match place {
            Place::Browser => self.began_before_an_ending(session).await,
            Place::Store { .. } => Ok(false),
        }
    }

    /// Whether sessions like this one have been ended since it began.
    pub(super) async fn began_before_an_ending(&self, session: &Session) -> Result<bool, StoreError> {
        let indices = self.indices(session);
        if self.store.none_ended(indices) {
            return Ok(false);
        }
        let ended_at = self.store.ended_at(indices).await?;
        Ok(ended_at.is_some_and(|at| session.started_at <= at))
    }

    /// Under what a session is found by those who end it.
    pub fn indices<'a>(&self, session: &'a Session) -> &'a [Fingerprint] {
        session.indices(|| self.new_indices(session))
    }

    /// Under every key of the ring: what ended while another key was the first has ended.
    fn new_indices(&self, session: &Session) -> Box<[Fingerprint]> {
        let (issuer, subject) = (session.login.issuer.as_str(), session.login.subject.as_str());
        let sid = session.login.claims.text("sid");
        let of_key = |key: &FingerprintKey| {
            let of = |parts: &[&str]| key.of(&parts.iter().map(|part| part.as_bytes()).collect::<Vec<_>>());
            let always = [
                of(&["issuer", issuer]),
                of(&["subject", issuer, subject]),
                of(&["session", &session.id]),
            ];
            always.into_iter().chain(sid.map(|sid| of(&["sid", issuer, sid])))
        };
        self.index_keys.iter().flat_map(of_key).collect()
    }

    /// The same index under every key of the ring: each replica finds it under the key that it has first.
    pub(super) fn all_indices(&self, parts: &[&str]) -> Vec<Fingerprint> {
        let parts: Vec<_> = parts.iter().map(|part| part.as_bytes()).collect();
        self.index_keys.iter().map(|key| key.of(&parts)).collect()
    }
}
