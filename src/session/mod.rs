//! What is remembered about a login: in the browser, sealed.

mod cookie;
mod memory;
mod seal;
pub mod store;
mod stored;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

pub use cookie::{CookieJar, TooLarge};
use http::HeaderValue;
pub use memory::MemoryStore;
use moka::sync::Cache;
pub use seal::{Context, KeyRing, Opened, SealingKey};

use crate::{
    identity::{ClaimNames, Identity, Proof},
    oauth::token::Login,
    policy::Origin,
    secret::{Fingerprint, FingerprintKey, random_text},
    time::Timestamp,
};

/// The `[session]` table.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The first seals, all open.
    pub keys: Vec<SealingKey>,
    /// Whether the keys were drawn at start because the file names none.
    pub ephemeral_keys: bool,
    pub idle_timeout: Duration,
    /// From the login on; never extended.
    pub max_lifetime: Duration,
    /// How long before the access token's end it is refreshed.
    pub refresh_before: Duration,
    pub cookie: CookieSettings,
}

/// The `cookie` key of the `[session]` table.
#[derive(Clone, Debug)]
pub struct CookieSettings {
    /// Without prefix; `__Host-` is put before it on https, `__Secure-` when there is a domain.
    pub name: Box<str>,
    pub same_site: SameSite,
    pub domain: Option<Box<str>>,
}

impl Default for CookieSettings {
    fn default() -> Self {
        Self {
            name: "vestibule".into(),
            same_site: SameSite::default(),
            domain: None,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SameSite {
    #[default]
    Lax,
    Strict,
}

/// A login that lasts.
#[derive(Clone, Debug)]
pub struct Session {
    /// New at every login, so that none can be planted (I15).
    pub id: Box<str>,
    pub login: Arc<Login>,
    pub started_at: Timestamp,
    pub seen_at: Timestamp,
    /// Made when it is first asked for, and shared by the requests that bring the same cookie.
    identity: OnceLock<Arc<Identity>>,
}

impl Session {
    pub fn begin(login: Login, now: Timestamp) -> Self {
        Self {
            id: random_text::<16>().into(),
            login: login.into(),
            started_at: now,
            seen_at: now,
            identity: OnceLock::new(),
        }
    }

    /// The same session with fresh tokens; its lifetime goes on as it was.
    pub fn renewed(&self, login: Arc<Login>, now: Timestamp) -> Self {
        Self {
            id: self.id.clone(),
            login,
            started_at: self.started_at,
            seen_at: now,
            identity: OnceLock::new(),
        }
    }

    fn seen(&self, now: Timestamp) -> Self {
        Self {
            seen_at: now,
            identity: OnceLock::new(),
            ..self.clone()
        }
    }

    /// Who logged in, until `expires_at`.
    pub fn identity(&self, names: &ClaimNames, expires_at: Timestamp, now: Timestamp) -> Arc<Identity> {
        let identity = || Arc::new(self.new_identity(names, expires_at, now));
        self.identity.get_or_init(identity).clone()
    }

    fn new_identity(&self, names: &ClaimNames, expires_at: Timestamp, now: Timestamp) -> Identity {
        let login = &self.login;
        Identity {
            provider: login.provider.clone(),
            issuer: login.issuer.clone(),
            subject: login.subject.clone(),
            proof: Proof::Session,
            username: names.username(&login.claims),
            email: names.email(&login.claims, now),
            groups: names.groups(&login.claims),
            scopes: login.scopes.clone(),
            claims: login.claims.clone(),
            expires_at,
        }
    }
}

/// Sessions in sealed cookies: nothing to run, nothing to share but the keys.
#[derive(Debug)]
pub struct Sessions {
    settings: Settings,
    ring: KeyRing,
    /// Cookies that were opened before: opening and reading one costs more than recognising it.
    opened: Cache<Fingerprint, Remembered>,
    fingerprints: FingerprintKey,
}

#[derive(Clone, Debug)]
struct Remembered {
    session: Arc<Session>,
    by_old_key: bool,
    bytes: u32,
}

const SESSION: &str = "session";
/// Of opened sessions that are kept at hand.
const OPENED_BYTES: u64 = 32 * 1024 * 1024;
const OPENED_LIFETIME: Duration = Duration::from_secs(300);

/// A session as the browser brought it.
#[derive(Debug)]
pub struct Presented {
    pub session: Arc<Session>,
    /// Whether it should go back to the browser: its idle time moved on, or its key is an old one.
    pub stale: bool,
}

impl Sessions {
    /// `None` when the settings hold no key.
    pub fn new(settings: Settings) -> Option<Self> {
        let ring = KeyRing::new(&settings.keys)?;
        let opened = Cache::builder()
            .weigher(|_, remembered: &Remembered| remembered.bytes)
            .max_capacity(OPENED_BYTES)
            .time_to_live(OPENED_LIFETIME)
            .build();
        Some(Self {
            settings,
            ring,
            opened,
            fingerprints: FingerprintKey::random(),
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

    /// The session in the browser's cookies, unless it is unknown, tampered with, or over.
    pub fn present(&self, jar: &CookieJar<'_>, origin: &Origin, now: Timestamp) -> Option<Presented> {
        let text = jar.joined()?;
        let (name, tenant) = (jar.name(""), self.tenant(origin));
        let parts = [name.as_bytes(), tenant.as_bytes(), text.as_bytes()];
        let fingerprint = self.fingerprints.of(&parts);
        let remembered = match self.opened.get(&fingerprint) {
            Some(remembered) => remembered,
            None => {
                let remembered = self.open(context(&name, &tenant), &text)?;
                self.opened.insert(fingerprint, remembered.clone());
                remembered
            }
        };
        let Remembered {
            session, by_old_key, ..
        } = remembered;
        if self.ends_at(&session) <= now {
            return None;
        }
        let stale = by_old_key || now.since(session.seen_at) >= self.restamp_after();
        Some(Presented { session, stale })
    }

    fn open(&self, context: Context<'_>, text: &str) -> Option<Remembered> {
        let opened = self.ring.open(context, text)?;
        Some(Remembered {
            session: Arc::new(stored::read(&opened.plaintext)?),
            by_old_key: opened.by_old_key,
            // Parsed claims take about three times their text.
            bytes: u32::try_from(text.len()).unwrap_or(u32::MAX).saturating_mul(3),
        })
    }

    /// The cookies that keep the session, as seen `now`.
    pub fn keep(
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

    /// When the session is over if nothing more is heard of it.
    pub fn ends_at(&self, session: &Session) -> Timestamp {
        let idle = session.seen_at.plus(self.settings.idle_timeout);
        idle.min(self.last_moment(session))
    }

    fn last_moment(&self, session: &Session) -> Timestamp {
        session.started_at.plus(self.settings.max_lifetime)
    }

    /// Writing the cookie at every request would cost more than it tells.
    fn restamp_after(&self) -> Duration {
        const LONGEST: Duration = Duration::from_secs(60);
        self.settings
            .idle_timeout
            .checked_div(10)
            .map_or(LONGEST, |tenth| tenth.min(LONGEST))
    }
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
