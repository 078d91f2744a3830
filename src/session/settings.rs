//! The `[session]` table.

use std::time::Duration;

use super::{RedisSettings, SealingKey};

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
    /// How long before the access token's end it is refreshed; see [`super::Session::refresh_due`].
    pub refresh_before: Duration,
    pub cookie: CookieSettings,
    pub store: StoreSettings,
    /// Whether an application gets the access token.
    pub keep_access_token: bool,
    /// How long a session that was read from the store is not read again.
    pub read_cache: Duration,
}

/// Where sessions are kept.
#[derive(Clone, Debug, PartialEq)]
pub enum StoreSettings {
    /// In the browser, sealed.
    Cookie {
        /// What replicas tell each other through of sessions that have ended; absent: each knows its own.
        shared: Option<Box<RedisSettings>>,
    },
    /// In this process.
    Memory { max_bytes: u64 },
    /// In Redis, shared by several gateways.
    Redis(Box<RedisSettings>),
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self::Cookie { shared: None }
    }
}

impl StoreSettings {
    /// Whether only the browsers have the sessions.
    pub fn is_cookie(&self) -> bool {
        match self {
            Self::Cookie { .. } => true,
            Self::Memory { .. } | Self::Redis(_) => false,
        }
    }
}

/// The `cookie` key of the `[session]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
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
