//! The sessions of a gateway under a new configuration: the same sessions.

use super::{Sessions, Settings};

impl Sessions {
    /// The same sessions, kept where they are, under new settings; `None` when these hold no key.
    ///
    /// What was opened is opened anew, because the keys may be others. A key that was drawn at the start stays.
    pub fn under(&self, settings: Settings) -> Option<Self> {
        let mut settings = settings;
        settings.store = self.settings.store.clone();
        if settings.ephemeral_keys && self.settings.ephemeral_keys {
            settings.keys = self.settings.keys.clone();
        }
        let mut sessions = Self::in_store(settings, self.store.clone())?;
        sessions.remembered_for = self.remembered_for.max(sessions.remembered_for);
        let same_wait = sessions.settings.idle_timeout == self.settings.idle_timeout;
        if same_wait && sessions.ring.has_keys_of(&self.ring) {
            // Who came with an old key is known already.
            sessions.lagging = self.lagging.clone();
        }
        Some(sessions)
    }
}
