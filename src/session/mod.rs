//! What is remembered about a login: in the browser, sealed.

mod cookie;
mod ending;
mod held;
mod inherited;
mod memory;
mod redis;
mod seal;
mod settings;
pub mod store;
mod stored;
mod ticket;

use std::{sync::Arc, time::Duration};

pub use cookie::{CookieJar, TooLarge};
pub use ending::Whose;
pub use held::{Held, Place, Presented, Session};
use http::HeaderValue;
pub use memory::MemoryStore;
use moka::sync::Cache;
pub use redis::{RedisSettings, RedisSettingsError, RedisStore};
pub use seal::{Context, KeyId, KeyRing, SealingKey};
pub use settings::{CookieSettings, SameSite, Settings, StoreSettings};
use store::Record;
pub use store::{Ended, Replaced, SessionStore, StoreError};
pub use ticket::{Label, Ticket};
use tokio::sync::broadcast;

use crate::{
    policy::Origin,
    secret::{Fingerprint, FingerprintKey},
    time::Timestamp,
};

/// The sessions of a gateway, wherever they are kept.
#[derive(Debug)]
pub struct Sessions {
    settings: Settings,
    ring: KeyRing,
    index_keys: Vec<FingerprintKey>,
    /// Cookies that were opened before: opening and reading one costs more than recognising it.
    opened: Cache<Fingerprint, Opened>,
    fingerprints: FingerprintKey,
    /// The sessions themselves, or which of those that browsers hold have ended.
    store: Arc<dyn SessionStore>,
}

#[derive(Clone, Debug)]
struct Opened {
    held: Arc<Held>,
    by_old_key: bool,
    opened_at: Timestamp,
    bytes: u32,
}

const SESSION: &str = "session";
/// Of opened sessions that are kept at hand.
const OPENED_BYTES: u64 = 32 * 1024 * 1024;
const OPENED_LIFETIME: Duration = Duration::from_secs(300);

/// Why a session cannot be kept.
#[derive(Clone, Debug, thiserror::Error)]
pub enum KeepError {
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Sessions {
    /// `None` when the settings hold no key.
    pub fn new(settings: Settings) -> Option<Self> {
        let store: Arc<dyn SessionStore> = match &settings.store {
            StoreSettings::Cookie => Arc::new(MemoryStore::new(0)),
            StoreSettings::Memory { max_bytes } => Arc::new(MemoryStore::new(*max_bytes)),
            StoreSettings::Redis(redis) => Arc::new(RedisStore::connect((**redis).clone())),
        };
        Self::in_store(settings, store)
    }

    fn in_store(settings: Settings, store: Arc<dyn SessionStore>) -> Option<Self> {
        let ring = KeyRing::new(&settings.keys)?;
        let lifetime = match &settings.store {
            StoreSettings::Cookie => OPENED_LIFETIME,
            StoreSettings::Memory { .. } | StoreSettings::Redis(_) => settings.read_cache,
        };
        let opened = Cache::builder()
            .weigher(|_, opened: &Opened| opened.bytes)
            .max_capacity(OPENED_BYTES)
            .time_to_live(lifetime)
            .build();
        Some(Self {
            index_keys: ring.index_keys(),
            settings,
            ring,
            opened,
            fingerprints: FingerprintKey::random(),
            store,
        })
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub fn ring(&self) -> &KeyRing {
        &self.ring
    }

    pub fn jar<'a>(&'a self, origin: &Origin, received: &'a [(String, String)]) -> CookieJar<'a> {
        CookieJar::new(&self.settings.cookie, origin, received)
    }

    /// What a cookie of this origin is bound to.
    pub fn tenant(&self, origin: &Origin) -> String {
        match &self.settings.cookie.domain {
            Some(domain) => format!("domain {domain}"),
            None => origin.to_string(),
        }
    }

    /// The session that the browser's cookies lead to, unless it is unknown, tampered with, or over.
    ///
    /// # Errors
    /// When the store does not answer; nobody knows then.
    pub async fn present(
        &self,
        jar: &CookieJar<'_>,
        origin: &Origin,
        now: Timestamp,
    ) -> Result<Option<Presented>, StoreError> {
        let Some(text) = jar.joined() else { return Ok(None) };
        let (name, tenant) = (jar.name(""), self.tenant(origin));
        let fingerprint = self.fingerprint(&name, &tenant, &text);
        let fresh = |opened: &Opened| self.is_fresh(opened, now);
        let opened = match self.opened.get(&fingerprint).filter(fresh) {
            Some(opened) => opened,
            None => {
                let opened = self.open(&name, &tenant, &text, now).await?;
                let Some(opened) = opened else { return Ok(None) };
                self.opened.insert(fingerprint, opened.clone());
                opened
            }
        };
        let Opened { held, by_old_key, .. } = opened;
        let Held { session, place, .. } = &*held;
        if self.ends_at(session) <= now || self.was_ended(session, place).await? {
            return Ok(None);
        }
        let stale = by_old_key || now.since(session.seen_at) >= self.restamp_after();
        Ok(Some(Presented { held, stale }))
    }

    /// What a browser holds cannot change; what a store holds can, at any moment.
    fn is_fresh(&self, opened: &Opened, now: Timestamp) -> bool {
        match opened.held.place {
            Place::Browser => true,
            Place::Store { .. } => now.since(opened.opened_at) < self.settings.read_cache,
        }
    }

    fn fingerprint(&self, name: &str, tenant: &str, text: &str) -> Fingerprint {
        self.fingerprints
            .of(&[name.as_bytes(), tenant.as_bytes(), text.as_bytes()])
    }

    async fn open(&self, name: &str, tenant: &str, text: &str, now: Timestamp) -> Result<Option<Opened>, StoreError> {
        match &self.settings.store {
            StoreSettings::Cookie => Ok(self.open_sealed(name, tenant, text, now)),
            StoreSettings::Memory { .. } | StoreSettings::Redis(_) => self.open_stored(name, tenant, text, now).await,
        }
    }

    fn open_sealed(&self, name: &str, tenant: &str, text: &str, now: Timestamp) -> Option<Opened> {
        let opened = self.ring.open(context(name, tenant), text)?;
        let held = Held {
            session: Arc::new(stored::read(&opened.plaintext)?),
            place: Place::Browser,
            sealed_by: opened.key,
        };
        Some(Opened {
            held: held.into(),
            by_old_key: opened.by_old_key,
            opened_at: now,
            bytes: weight(text.len()),
        })
    }

    async fn open_stored(
        &self,
        name: &str,
        tenant: &str,
        text: &str,
        now: Timestamp,
    ) -> Result<Option<Opened>, StoreError> {
        let Some(ticket) = Ticket::open(&self.ring, name, tenant, text) else {
            return Ok(None);
        };
        let found = self.current(&ticket, tenant).await?;
        Ok(found.map(|(session, place)| Opened {
            held: Held {
                session,
                place,
                sealed_by: ticket.sealed_by,
            }
            .into(),
            by_old_key: ticket.by_old_key,
            opened_at: now,
            // They are kept for a second, so their number is bounded by what can be read in one.
            bytes: 1,
        }))
    }

    /// The session as it is in the store by now.
    pub async fn current(&self, ticket: &Ticket, tenant: &str) -> Result<Option<(Arc<Session>, Place)>, StoreError> {
        let Some(record) = self.store.read(&ticket.id).await? else {
            return Ok(None);
        };
        let Some(session) = ticket.read(&record, tenant) else {
            return Ok(None);
        };
        let place = Place::Store {
            ticket: ticket.clone(),
            version: record.version,
            tenant: tenant.into(),
        };
        Ok(Some((Arc::new(session), place)))
    }

    /// Takes the one right to refresh a session, unless another replica has it.
    pub async fn lock(&self, ticket: &Ticket, holder: &str, life: Duration) -> Result<bool, StoreError> {
        self.store.lock(&ticket.id, holder, life).await
    }

    pub async fn unlock(&self, ticket: &Ticket, holder: &str) -> Result<(), StoreError> {
        self.store.unlock(&ticket.id, holder).await
    }

    /// Writes a session over the version that its place names, and notes the new one there.
    pub async fn write(&self, session: &Session, place: &mut Place, now: Timestamp) -> Result<Replaced, StoreError> {
        let Place::Store {
            ticket,
            version,
            tenant,
        } = place
        else {
            return Ok(Replaced::Gone);
        };
        let replaced = self.replace(ticket, *version, session, tenant, now).await?;
        if replaced == Replaced::Done {
            *version = version.saturating_add(1);
        }
        Ok(replaced)
    }

    /// Ends a session in the store.
    pub async fn end_ticket(&self, ticket: &Ticket) -> Result<(), StoreError> {
        self.store.end(&ticket.id).await.map(drop)
    }

    /// Whether a session that a browser holds has been ended here; a store forgets such a session by itself.
    async fn was_ended(&self, session: &Session, place: &Place) -> Result<bool, StoreError> {
        let Place::Browser = place else { return Ok(false) };
        let ended_at = self.store.ended_at(self.indices(session)).await?;
        Ok(ended_at.is_some_and(|at| session.started_at <= at))
    }

    /// Keeps a new session, and ends the one that the browser came with (I15).
    pub async fn begin(
        &self,
        session: &Session,
        jar: &CookieJar<'_>,
        origin: &Origin,
        now: Timestamp,
    ) -> Result<Vec<HeaderValue>, KeepError> {
        if matches!(self.settings.store, StoreSettings::Cookie) {
            return Ok(self.in_cookies(session, jar, origin, now)?);
        }
        let (name, tenant) = (jar.name(""), self.tenant(origin));
        if let Some(old) = jar
            .joined()
            .and_then(|text| Ticket::open(&self.ring, &name, &tenant, &text))
        {
            self.store.end(&old.id).await?;
        }
        let ticket = Ticket::issue(&self.ring);
        let (record, life) = self.record(&ticket, session, 1, &tenant, now)?;
        let indices = self.indices(session);
        self.store.create(&ticket.id, record, indices, life).await?;
        let sealed = ticket.seal(&self.ring, &name, &tenant).unwrap_or_default();
        Ok(jar.set_split(&sealed, self.last_moment(session).since(now))?)
    }

    /// Keeps a session as seen `now`, and yields the cookies that the browser needs for that.
    pub async fn keep(
        &self,
        session: &Session,
        place: &Place,
        jar: &CookieJar<'_>,
        origin: &Origin,
        now: Timestamp,
    ) -> Result<Vec<HeaderValue>, KeepError> {
        match place {
            Place::Browser => Ok(self.in_cookies(session, jar, origin, now)?),
            Place::Store {
                ticket,
                version,
                tenant,
            } => {
                // Who was faster has seen the same browser.
                if let Err(error) = self.replace(ticket, *version, &session.seen(now), tenant, now).await {
                    tracing::warn!(%error, "a session was not noted as seen");
                }
                if !ticket.by_old_key {
                    return Ok(Vec::new());
                }
                let sealed = ticket.seal(&self.ring, &jar.name(""), tenant).unwrap_or_default();
                Ok(jar.set_split(&sealed, self.last_moment(session).since(now))?)
            }
        }
    }

    /// Ends the session that the browser's cookies lead to; deleting them is the caller's.
    pub async fn end(
        &self,
        jar: &CookieJar<'_>,
        origin: &Origin,
        now: Timestamp,
    ) -> Result<Option<Arc<Session>>, StoreError> {
        let Some(Presented { held, .. }) = self.present(jar, origin, now).await? else {
            return Ok(None);
        };
        self.end_at(&held.session, &held.place, now).await?;
        if let Some(text) = jar.joined() {
            self.opened
                .invalidate(&self.fingerprint(&jar.name(""), &self.tenant(origin), &text));
        }
        Ok(Some(held.session.clone()))
    }

    async fn end_at(&self, session: &Session, place: &Place, now: Timestamp) -> Result<(), StoreError> {
        match place {
            Place::Store { ticket, .. } => self.end_ticket(ticket).await?,
            Place::Browser => {
                for index in self.all_indices(&["session", &session.id]) {
                    self.store.end_all(&index, now, self.settings.max_lifetime).await?;
                }
            }
        }
        Ok(())
    }

    async fn replace(
        &self,
        ticket: &Ticket,
        seen: u64,
        session: &Session,
        tenant: &str,
        now: Timestamp,
    ) -> Result<Replaced, StoreError> {
        let (record, life) = self.record(ticket, session, seen.saturating_add(1), tenant, now)?;
        self.store.replace(&ticket.id, seen, record, life).await
    }

    fn record(
        &self,
        ticket: &Ticket,
        session: &Session,
        version: u64,
        tenant: &str,
        now: Timestamp,
    ) -> Result<(Record, Duration), StoreError> {
        let record = ticket.record(session, version, &self.ring, tenant);
        let record = record.ok_or_else(|| StoreError::Unavailable("sealing failed".into()))?;
        Ok((record, self.ends_at(session).since(now)))
    }

    fn in_cookies(
        &self,
        session: &Session,
        jar: &CookieJar<'_>,
        origin: &Origin,
        now: Timestamp,
    ) -> Result<Vec<HeaderValue>, TooLarge> {
        let session = session.seen(now);
        let (name, tenant) = (jar.name(""), self.tenant(origin));
        let max_age = self.last_moment(&session).since(now);
        let seal = |session: &Session| {
            let sealed = self.ring.seal(context(&name, &tenant), &stored::write(session));
            jar.set_split(&sealed.unwrap_or_default(), max_age)
        };
        // The raw ID token only makes signing out at the provider smoother: it goes first when room is short. The access
        // token is spent once userinfo was asked; who the person is, and the way to fresh tokens, stay.
        seal(&session)
            .or_else(|_| seal(&session.without_id_token()))
            .or_else(|_| seal(&session.without_id_and_access_token()))
    }

    /// Under what a session is found by those who end it.
    pub fn indices<'a>(&self, session: &'a Session) -> &'a [Fingerprint] {
        session.indices(|| self.new_indices(session))
    }

    fn new_indices(&self, session: &Session) -> Box<[Fingerprint]> {
        let (issuer, subject) = (session.login.issuer.as_str(), session.login.subject.as_str());
        let sid = session.login.claims.text("sid");
        let of = |key: &FingerprintKey| {
            let of = |parts: &[&str]| key.of(&parts.iter().map(|part| part.as_bytes()).collect::<Vec<_>>());
            let always = [
                of(&["issuer", issuer]),
                of(&["subject", issuer, subject]),
                of(&["session", &session.id]),
            ];
            always.into_iter().chain(sid.map(|sid| of(&["sid", issuer, sid])))
        };
        // Under every key: what ended before the keys were replaced has ended all the same.
        self.index_keys.iter().flat_map(of).collect()
    }

    /// The same index under every key of the ring: each replica finds it under the key that it has first.
    fn all_indices(&self, parts: &[&str]) -> Vec<Fingerprint> {
        let parts: Vec<_> = parts.iter().map(|part| part.as_bytes()).collect();
        self.index_keys.iter().map(|key| key.of(&parts)).collect()
    }

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

    /// When the session is over if nothing more is heard of it.
    pub fn ends_at(&self, session: &Session) -> Timestamp {
        let idle = session.seen_at.plus(self.settings.idle_timeout);
        idle.min(self.last_moment(session))
    }

    fn last_moment(&self, session: &Session) -> Timestamp {
        session.started_at.plus(self.settings.max_lifetime)
    }

    /// Keeping it anew at every request would cost more than it tells.
    fn restamp_after(&self) -> Duration {
        const LONGEST: Duration = Duration::from_secs(60);
        self.settings
            .idle_timeout
            .checked_div(10)
            .map_or(LONGEST, |tenth| tenth.min(LONGEST))
    }
}

/// Parsed claims take about three times their text.
fn weight(text: usize) -> u32 {
    u32::try_from(text).unwrap_or(u32::MAX).saturating_mul(3)
}

fn context<'a>(name: &'a str, tenant: &'a str) -> Context<'a> {
    Context {
        purpose: SESSION,
        name,
        tenant,
    }
}

#[cfg(test)]
mod tests;
