//! The verdict, and the proof of it.

use std::{fmt, sync::Arc};

use super::{RouteId, requirement::Requirement};
use crate::identity::{Identity, ProviderId, Scopes, Strength, TokenError};

/// What is known about who sent the request.
#[derive(Clone, Debug)]
pub enum Authentication {
    /// No credential, or a session that is unknown or ended: the cookie is ambient.
    Anonymous,
    Verified(Arc<Identity>),
    /// A credential that was presented and does not count.
    Rejected(TokenError),
}

/// The answer to "may this request pass?".
#[derive(Debug)]
pub enum Decision {
    Allow(Permit),
    Login(LoginDemand),
    Challenge(Challenge),
    Deny(Denial),
}

/// The proof that a request may pass. Only [`super::decide`] makes one, and nothing is forwarded without it.
///
/// ```compile_fail
/// // The fields are private: nobody else can make one …
/// let permit = vestibule::policy::Permit { route: vestibule::policy::RouteId::new(0), identity: None, refusal: None };
/// ```
///
/// ```compile_fail
/// // … and neither can its constructors be called.
/// let permit = vestibule::policy::Permit::for_anybody(vestibule::policy::RouteId::new(0));
/// ```
///
/// ```compile_fail
/// // Nor can one be used twice.
/// fn twice(permit: vestibule::policy::Permit) -> (vestibule::policy::Permit, vestibule::policy::Permit) {
///     (permit.clone(), permit)
/// }
/// ```
#[derive(Debug)]
pub struct Permit {
    route: RouteId,
    identity: Option<Arc<Identity>>,
    /// What would have been decided, where that does not count.
    refusal: Option<Box<Decision>>,
    /// Whether nothing goes along that could say who asks.
    is_bare: bool,
}

impl Permit {
    pub(super) fn for_anybody(route: RouteId) -> Self {
        Self {
            route,
            identity: None,
            refusal: None,
            is_bare: false,
        }
    }

    /// For what browsers ask before a request of another site.
    pub(super) fn for_preflight(route: RouteId) -> Self {
        Self {
            is_bare: true,
            ..Self::for_anybody(route)
        }
    }

    pub(super) fn in_spite_of(refusal: Decision, route: RouteId, identity: Option<Arc<Identity>>) -> Self {
        Self {
            route,
            identity,
            refusal: Some(refusal.into()),
            is_bare: false,
        }
    }

    pub(super) fn for_identity(route: RouteId, identity: Arc<Identity>) -> Self {
        Self {
            route,
            identity: Some(identity),
            refusal: None,
            is_bare: false,
        }
    }

    /// What the route would have decided, were it not in the shadow.
    pub fn refusal(&self) -> Option<&Decision> {
        self.refusal.as_deref()
    }

    /// Whether no cookie and no credential of the client may go along, nor a body.
    pub fn is_bare(&self) -> bool {
        self.is_bare
    }

    pub fn route(&self) -> RouteId {
        self.route
    }

    /// Who passes; nobody in particular on a public route.
    pub fn identity(&self) -> Option<&Arc<Identity>> {
        self.identity.as_ref()
    }
}

/// The browser has to log in with one of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginDemand {
    pub providers: Arc<[ProviderId]>,
    /// How strongly and lately, where the route asks for it.
    pub strength: Strength,
}

/// What a client is asked for (RFC 6750 §3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// No credential was sent: 401 without an error code (RFC 6750 §3.1).
    TokenMissing,
    /// The `Authorization` header cannot be read: 400 `invalid_request`.
    InvalidRequest,
    /// The credential does not count: 401 `invalid_token`.
    InvalidToken(TokenError),
    /// The identity lacks a scope: 403 `insufficient_scope`, all that the route needs named.
    InsufficientScope(Scopes),
    /// The authentication is too weak or too old: 401 `insufficient_user_authentication` (RFC 9470 §3).
    InsufficientAuthentication(Strength),
}

impl From<TokenError> for Challenge {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Malformed => Self::InvalidRequest,
            TokenError::TooLong
            | TokenError::NotAccepted
            | TokenError::UnknownIssuer
            | TokenError::Signature
            | TokenError::Algorithm
            | TokenError::UnknownKey
            | TokenError::Type
            | TokenError::Header
            | TokenError::Audience
            | TokenError::Expired
            | TokenError::NotYetValid
            | TokenError::Claim(_)
            | TokenError::Inactive
            | TokenError::SenderConstrained
            | TokenError::OtherPerson => Self::InvalidToken(error),
        }
    }
}

impl Decision {
    /// In a word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Allow(_) => "allow",
            Self::Login(_) => "login",
            Self::Challenge(_) => "challenge",
            Self::Deny(_) => "deny",
        }
    }

    /// Why, for the log; nothing where it is allowed.
    pub fn reason(&self) -> String {
        match self {
            Self::Allow(_) => String::new(),
            Self::Login(_) => "login_needed".into(),
            Self::Challenge(challenge) => challenge.to_string(),
            Self::Deny(denial) => denial.to_string(),
        }
    }
}

impl fmt::Display for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TokenMissing => f.write_str("token_missing"),
            Self::InvalidRequest => f.write_str("invalid_request"),
            Self::InvalidToken(error) => error.fmt(f),
            Self::InsufficientScope(_) => f.write_str("insufficient_scope"),
            Self::InsufficientAuthentication(_) => f.write_str("insufficient_user_authentication"),
        }
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unmet(requirement) => write!(f, "allow.{requirement}"),
            Self::Unknown(requirement) => write!(f, "allow.{requirement}: the provider keeps them elsewhere"),
            Self::Rule(index) => write!(f, "deny[{index}]"),
            Self::CrossSite => f.write_str("cross_site"),
            Self::NoCertificate => f.write_str("client_certificate"),
        }
    }
}

/// Why somebody may not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// A requirement of `allow` is not met.
    Unmet(Requirement),
    /// Nobody knows whether it is met, for the provider keeps elsewhere what it looks at.
    Unknown(Requirement),
    /// The `deny` table with this index applies, or may.
    Rule(usize),
    /// A page of another site tried to act with the person's cookie.
    CrossSite,
    /// The route asks for a client certificate, and there was none.
    NoCertificate,
}
