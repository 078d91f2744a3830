//! What the walk itself can be told.

/// The part of `[server]` that the walk knows.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `/oauth2`: canonical, without a trailing slash, not empty.
    pub auth_prefix: Box<str>,
}
