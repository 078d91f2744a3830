//! What the walk itself can be told.

use std::num::NonZeroU32;

use crate::{identity::ProviderId, secret::Secret};

/// The part of `[server]` and `[admin]` that the walk knows.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `/oauth2`: canonical, without a trailing slash, not empty.
    pub auth_prefix: Box<str>,
    /// Who has it may see and end sessions, and see refusals, on the admin listener; absent: nobody may.
    pub admin_token: Option<Secret>,
    /// So many refusals are kept, of people who are known and of strangers each; 0: none.
    pub decisions: usize,
    pub per_minute: PerMinute,
}

/// The endpoint that a provider sends browsers back to.
///
/// Beside others each has its own, so that no code reaches another's attempt, also where responses do not name their
/// issuer (RFC 9700 §4.4.2.2).
pub fn redirect_endpoint(provider: &ProviderId, providers: usize) -> String {
    match providers {
        0 | 1 => "callback".to_owned(),
        _ => format!("callback/{provider}"),
    }
}

impl Settings {
    /// None where nobody may ask for them.
    pub(super) fn decisions_kept(&self) -> usize {
        self.admin_token.as_ref().map_or(0, |_| self.decisions)
    }
}

/// How often one address may do something in a minute; absent: as often as it likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PerMinute {
    pub logins: Option<NonZeroU32>,
    pub failed_credentials: Option<NonZeroU32>,
    pub logouts: Option<NonZeroU32>,
}

/// Enough for an office behind one address; little for whoever tries things out.
impl Default for PerMinute {
    fn default() -> Self {
        Self {
            logins: NonZeroU32::new(300),
            failed_credentials: NonZeroU32::new(60),
            logouts: NonZeroU32::new(60),
        }
    }
}
