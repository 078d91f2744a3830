//! What the walk itself can be told.

use crate::secret::Secret;

/// The part of `[server]` and `[admin]` that the walk knows.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `/oauth2`: canonical, without a trailing slash, not empty.
    pub auth_prefix: Box<str>,
    /// Who has it may see and end sessions on the admin listener; absent: nobody may.
    pub admin_token: Option<Secret>,
}
