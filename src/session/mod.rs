//! What is remembered about a login.

use std::time::Duration;

use crate::secret::Secret;

/// The `[session]` table.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The first seals, all open; each is 32 bytes.
    pub keys: Vec<SealingKey>,
    /// Whether the keys were drawn at start because the file names none.
    pub ephemeral_keys: bool,
    pub idle_timeout: Duration,
    pub max_lifetime: Duration,
    pub refresh_before: Duration,
    pub cookie: CookieSettings,
}

/// 32 bytes that seal cookies.
#[derive(Clone, Debug)]
pub struct SealingKey(Secret);

impl SealingKey {
    pub const LENGTH: usize = 32;

    /// Reads base64url or base64 text of exactly 32 bytes, as `vestibule keygen` prints it; surrounding blanks are ignored.
    pub fn from_text(_text: &str) -> Option<Self> {
        unimplemented!()
    }

    pub fn random() -> Self {
        unimplemented!()
    }

    /// The text that `from_text` reads.
    pub fn to_text(&self) -> Secret {
        self.0.clone()
    }
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
