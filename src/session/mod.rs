//! What is remembered about a login: in the browser, sealed.

mod cookie;
mod due;
mod ending;
mod held;
mod index;
mod inherited;
mod keep;
mod lagging;
mod marks;
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
use lagging::Lagging;
pub use memory::MemoryStore;
use moka::sync::Cache;
pub use redis::{RedisSettings, RedisSettingsError, RedisStore, SharedEndings};
pub use seal::{Context, KeyId, KeyRing, SealingKey};
pub use settings::{CookieSettings, SameSite, Settings, StoreSettings};
use store::Record;
pub use store::{Ended, Listing, Replaced, SessionStore, StoreError};
pub use ticket::{Label, Ticket};

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
    /// Which of the sessions that browsers hold are sealed with an old key, as far as anybody can tell.
    lagging: Option<Arc<Lagging>>,
    /// How long an ending is remembered: the longest that a session could live since the start, so that none comes back
    /// when lives are made short and long again.
    remembered_for: Duration,
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
            StoreSettings::Cookie { shared: None } => Arc::new(MemoryStore::new(0)),
            StoreSettings::Cookie { shared: Some(redis) } => Arc::new(SharedEndings::connect((**redis).clone())),
            StoreSettings::Memory { max_bytes } => Arc::new(MemoryStore::new(*max_bytes)),
            StoreSettings::Redis(redis) => Arc::new(RedisStore::connect((**redis).clone())),
        };
        Self::in_store(settings, store)
    }

    fn in_store(settings: Settings, store: Arc<dyn SessionStore>) -> Option<Self> {
        let ring = KeyRing::new(&settings.keys)?;
        let lifetime = match &settings.store {
            StoreSettings::Cookie { .. } => OPENED_LIFETIME,
            StoreSettings::Memory { .. } | StoreSettings::Redis(_) => settings.read_cache,
        };
        let opened = Cache::builder()
            .weigher(|_, opened: &Opened| opened.bytes)
            .max_capacity(OPENED_BYTES)
            .time_to_live(lifetime)
            .build();
        let in_browsers = matches!(settings.store, StoreSettings::Cookie { .. });
        let lagging = (in_browsers && ring.has_old_keys()).then(|| Lagging::within(settings.idle_timeout).into());
        Some(Self {
            lagging,
            remembered_for: settings.max_lifetime,
            index_keys: ring.index_keys(),
            settings,
            ring,
            opened,
            fingerprints: FingerprintKey::random(),
            store,
        })
    }

    /// How long an ending is remembered.
    pub fn remembered_for(&self) -> Duration {
        self.remembered_for
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
        let Some(parts) = jar.parts() else { return Ok(None) };
        let fingerprint = self.fingerprint(origin, &parts);
        let fresh = |opened: &Opened| self.is_fresh(opened, now);
        let opened = match self.opened.get(&fingerprint).filter(fresh) {
            Some(opened) => opened,
            None => {
                let (name, tenant) = (jar.name(""), self.tenant(origin));
                let opened = self.open(&name, &tenant, &cookie::joined(parts), now).await?;
                let Some(opened) = opened else { return Ok(None) };
                if self.is_fresh(&opened, now) {
                    self.opened.insert(fingerprint, opened.clone());
                }
                opened
            }
        };
        let Opened { held, by_old_key, .. } = opened;
        let Held { session, place, .. } = &*held;
        if self.ends_at(session) <= now || self.was_ended(session, place).await? {
            return Ok(None);
        }
        if let Some(lagging) = self.lagging.as_ref().filter(|_| by_old_key) {
            lagging.came(&session.id, now);
        }
        let stale = by_old_key || now.since(session.seen_at) >= self.restamp_after();
        Ok(Some(Presented { held, stale }))
    }

    /// What a browser holds cannot change; what a store holds can, at any moment.
    fn is_fresh(&self, opened: &Opened, now: Timestamp) -> bool {
        match opened.held.place {
            Place::Browser => true,
            Place::Store { .. } if self.settings.read_cache.is_zero() => false,
            // By whole seconds; the cache itself forgets to the millisecond.
            Place::Store { .. } => now.since(opened.opened_at) <= self.settings.read_cache,
        }
    }

    /// Of a value and all that it is bound to: with the settings, the origin makes the name of the cookie and its tenant.
    fn fingerprint(&self, origin: &Origin, [first, second, third]: &[&str; 3]) -> Fingerprint {
        let (host, port) = match &self.settings.cookie.domain {
            Some(_) => ("", None),
            None => (&*origin.host, origin.port),
        };
        let port = port.map(u16::to_be_bytes);
        self.fingerprints.of(&[
            origin.scheme.as_str().as_bytes(),
            host.as_bytes(),
            port.as_ref().map_or(&[], |port| port.as_slice()),
            first.as_bytes(),
            second.as_bytes(),
            third.as_bytes(),
        ])
    }

    async fn open(&self, name: &str, tenant: &str, text: &str, now: Timestamp) -> Result<Option<Opened>, StoreError> {
        match &self.settings.store {
            StoreSettings::Cookie { .. } => Ok(self.open_sealed(name, tenant, text, now)),
            StoreSettings::Memory { .. } | StoreSettings::Redis(_) => self.open_stored(name, tenant, text, now).await,
        }
    }

    fn open_sealed(&self, name: &str, tenant: &str, text: &str, now: Timestamp) -> Option<Opened> {
        let opened = self.ring.open(context(name, tenant), text)?;
        let session = Arc::new(stored::read(&opened.plaintext)?);
        if let Some(lagging) = self.lagging.as_ref().filter(|_| opened.old_key.is_none()) {
            lagging.moved_on(&session.id);
        }
        let held = Held {
            session,
            place: Place::Browser,
            sealed_by: opened.key,
        };
        Some(Opened {
            held: held.into(),
            by_old_key: opened.old_key.is_some(),
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
        let Some(record) = self.store.read(&ticket.id).await? else {
            return Ok(None);
        };
        let found = held_in(&record, &ticket, tenant);
        Ok(found.map(|(session, place)| Opened {
            held: Held {
                session,
                place,
                sealed_by: ticket.sealed_by,
            }
            .into(),
            by_old_key: ticket.old_key.is_some() || Label::needs_old_key(&self.ring, &record.label),
            opened_at: now,
            bytes: weight(record.sealed.len()),
        }))
    }

    /// The session as it is in the store by now.
    pub async fn current(&self, ticket: &Ticket, tenant: &str) -> Result<Option<(Arc<Session>, Place)>, StoreError> {
        let record = self.store.read(&ticket.id).await?;
        Ok(record.and_then(|record| held_in(&record, ticket, tenant)))
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
        self.end_in_store(ticket.id.clone()).await.map(drop)
    }

    /// Whether the first key has replaced another.
    pub fn has_old_keys(&self) -> bool {
        self.ring.has_old_keys()
    }

    /// How many sessions end when the old keys are taken out; `None` when nobody can tell.
    ///
    /// Of those that browsers hold only who came counts; when nobody can have stayed away for so long, 0 means nobody.
    pub async fn on_old_keys(&self, now: Timestamp) -> Result<Option<usize>, StoreError> {
        if !self.has_old_keys() {
            return Ok(Some(0));
        }
        match &self.lagging {
            Some(lagging) => Ok(lagging.count(now)),
            None => self.store.count(&|label| Label::needs_old_key(&self.ring, label)).await,
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

fn held_in(record: &Record, ticket: &Ticket, tenant: &str) -> Option<(Arc<Session>, Place)> {
    let session = ticket.read(record, tenant)?;
    let place = Place::Store {
        ticket: ticket.clone(),
        version: record.version,
        tenant: tenant.into(),
    };
    Some((Arc::new(session), place))
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
