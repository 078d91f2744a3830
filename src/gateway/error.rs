//! Everything that can go wrong on the walk, summed once.

use std::time::Duration;

use http::Method;

use super::BadQuestion;
use crate::{
    identity::{Shortfall, Strength},
    oauth::authorization::AuthorizationError,
    provider::ProviderError,
    session::{KeepError, StoreError, TooLarge},
    upstream::{UpstreamError, target::AmbiguousTarget},
};

/// Why a request gets no answer from the application.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("ambiguous request: {0}")]
    AmbiguousTarget(#[from] AmbiguousTarget),
    /// The gateway forwards to itself, by whatever way (RFC 9110 §7.6.3).
    #[error("the request went round and round")]
    Loop,
    /// Another proxy asks what cannot be answered.
    #[error(transparent)]
    Question(#[from] BadQuestion),
    /// Nobody but another proxy passes on what comes to this route.
    #[error("the route's requests are passed on by another proxy, which asks here; this one came here itself")]
    PassedOnElsewhere,
    #[error("the method is never forwarded")]
    MethodUnsupported,
    #[error("no route")]
    NoRoute,
    #[error("the route does not take this method")]
    MethodNotAllowed(Vec<Method>),
    /// A path below the reserved prefix that means nothing.
    #[error("no such endpoint")]
    NoEndpoint,
    /// A parameter of a reserved endpoint repeats or cannot be what it says.
    #[error("the parameter {0} cannot be used")]
    Parameter(&'static str),
    /// The browser brought no attempt that this response belongs to.
    #[error("the login attempt is unknown to this browser, or was finished before")]
    LoginUnknown,
    #[error(transparent)]
    LoginResponse(#[from] AuthorizationError),
    /// The provider logged somebody in, but not as strongly or as lately as it was asked to (RFC 9470 §5).
    #[error("the login does not meet {shortfall}: wanted {}", wanted.in_words(*shortfall))]
    LoginTooWeak { shortfall: Shortfall, wanted: Strength },
    #[error("logged in again and again without arriving")]
    LoginLoop,
    #[error(transparent)]
    SessionTooLarge(TooLarge),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Somebody logged in, and the store could not be told.
    #[error("a login was not kept: {0}")]
    LoginUnkept(StoreError),
    /// A page of another site tried to sign somebody out.
    #[error("a page of another site asked to sign out")]
    ForeignSignOut,
    /// Strangers ended so many sessions that one more could push out an ending that counts.
    #[error("too many front-channel logouts")]
    TooManyLogouts,
    /// One address does something that costs more often than the file allows.
    #[error("too many of this kind from one address")]
    TooOften { retry_after: Duration },
    #[error(transparent)]
    Provider(#[from] ProviderError),
    #[error("the upstream {0}")]
    Upstream(#[from] UpstreamError),
    /// Sealing failed: the cryptography refused to work.
    #[error("could not seal a cookie")]
    Seal,
}

impl From<KeepError> for Error {
    fn from(error: KeepError) -> Self {
        match error {
            KeepError::TooLarge(error) => Self::SessionTooLarge(error),
            KeepError::Store(error) => Self::Store(error),
        }
    }
}

/// Why a gateway cannot be made of its settings.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("there is no session key")]
    NoKey,
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    #[error("a page cannot be read: {0}")]
    Page(#[from] minijinja::Error),
}
