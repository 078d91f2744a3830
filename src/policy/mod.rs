//! May this request pass? Pure: facts in, a decision out.

mod decision;
mod explain;
mod expression;
mod names;
mod requirement;
mod resource;
mod route;

use std::net::IpAddr;

use http::Method;

pub use decision::{Authentication, Challenge, Decision, Denial, LoginDemand, Permit};
pub use explain::{Candidate, Check, Finding, Standing};
pub use expression::{Expression, Refusal, Side, Why};
pub use names::Names;
pub use requirement::{Case, ClaimRule, Requirement, Requirements, Wanted};
pub use resource::{Resource, WELL_KNOWN};
pub use route::{
    Access, Admission, ClientCertificate, Host, Lookup, Mode, OnForbidden, OnUnauthenticated, Origin, Path, Preflight,
    Route, RouteId, RouteUrl, Routes, Scheme, Tie,
};

use crate::{
    certificate::Certificate,
    identity::{Identity, Proof, TokenError},
    time::Timestamp,
};

/// What the decision may know of a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestFacts<'a> {
    pub method: &'a Method,
    /// Lower case, without port.
    pub host: &'a str,
    pub port: Option<u16>,
    /// The canonical path.
    pub path: &'a str,
    pub query: Option<&'a str>,
    pub client: Client,
    pub initiator: Initiator,
    pub address: IpAddr,
    /// What the client proved to be in the handshake of TLS.
    pub certificate: Option<&'a Certificate>,
}

/// Who waits for the answer, as far as it can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// A browser that navigates: it can be sent elsewhere, and shows pages.
    Navigation,
    /// Anything else: scripts, fetches of a page.
    Programmatic,
    /// A WebSocket handshake: a GET that opens a channel to act through.
    WebSocket,
    /// A browser that asks whether a page of another site may send the request that follows (Fetch, "CORS-preflight").
    Preflight,
}

/// Whose page made the request, where a browser says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initiator {
    /// The site itself, the person's own hand, or a client that does not say.
    OwnSite,
    /// A page of another site.
    ForeignSite,
}

/// Decides whether a request may pass, and what to ask for when it may not.
pub fn decide(route: &Route, request: &RequestFacts<'_>, authentication: Authentication, now: Timestamp) -> Decision {
    match route.mode {
        Mode::Enforce => judge(route, request, authentication, now),
        Mode::Shadow => in_the_shadow(route, request, authentication, now),
    }
}

/// Lets everybody pass, and notes what they would have been told. Who is known is told to the application all the same.
fn in_the_shadow(
    route: &Route,
    request: &RequestFacts<'_>,
    authentication: Authentication,
    now: Timestamp,
) -> Decision {
    let known = match (&authentication, &route.access) {
        (Authentication::Verified(identity), Access::Protected(admission)) => Some(identity)
            .filter(|identity| admission.accepts(identity.proof) && now < identity.expires_at)
            .cloned(),
        (Authentication::Verified(_) | Authentication::Anonymous | Authentication::Rejected(_), _) => None,
    };
    match judge(route, request, authentication, now) {
        Decision::Allow(permit) => Decision::Allow(permit),
        // Nobody acts in the name of whom a page of another site sent: it is as if they had no session.
        refusal @ Decision::Deny(Denial::CrossSite) => Decision::Allow(Permit::in_spite_of(refusal, route.id, None)),
        refusal @ (Decision::Login(_) | Decision::Challenge(_) | Decision::Deny(_)) => {
            Decision::Allow(Permit::in_spite_of(refusal, route.id, known))
        }
    }
}

fn judge(route: &Route, request: &RequestFacts<'_>, authentication: Authentication, now: Timestamp) -> Decision {
    if route.client_certificate == ClientCertificate::Require && request.certificate.is_none() {
        return Decision::Deny(Denial::NoCertificate);
    }
    let Access::Protected(admission) = &route.access else {
        return Decision::Allow(Permit::for_anybody(route.id));
    };
    if admission.lets_ask(request) {
        return Decision::Allow(Permit::for_preflight(route.id));
    }
    let identity = match authentication {
        Authentication::Anonymous => return ask_who(admission, request),
        Authentication::Rejected(error) => return Decision::Challenge(Challenge::from(error)),
        Authentication::Verified(identity) => identity,
    };
    if !admission.accepts(identity.proof) {
        return without(TokenError::NotAccepted, admission, request, identity.proof);
    }
    if identity.expires_at <= now {
        return without(TokenError::Expired, admission, request, identity.proof);
    }
    if identity.proof == Proof::Session && forged(admission, request) {
        return Decision::Deny(Denial::CrossSite);
    }
    let case = Case {
        identity: &identity,
        request,
        now,
    };
    if let Some(index) = admission.deny.iter().position(|rule| rule.all_apply(case)) {
        return Decision::Deny(Denial::Rule(index));
    }
    let allow = &admission.allow;
    if let Some(requirement) = allow.first_unmet(case) {
        return Decision::Deny(match allow.is_unknown(requirement, case) {
            true => Denial::Unknown(requirement),
            false => Denial::Unmet(requirement),
        });
    }
    if !allow.scopes_held(&identity) {
        return Decision::Challenge(Challenge::InsufficientScope(allow.scopes.clone()));
    }
    if allow.strength.shortfall(&identity.claims, now).is_some() {
        return ask_again(admission, request, &identity);
    }
    Decision::Allow(Permit::for_identity(route.id, identity))
}

/// A browser that can log in is asked to; everybody else is told that a credential is missing.
fn ask_who(admission: &Admission, request: &RequestFacts<'_>) -> Decision {
    if admission.session && redirectable(admission.on_unauthenticated, request) {
        return Decision::Login(LoginDemand {
            providers: admission.providers.clone(),
            strength: admission.allow.strength.clone(),
        });
    }
    Decision::Challenge(Challenge::TokenMissing)
}

/// Who logged in too weakly or too long ago does so again, and who sent a token is told what it lacks (RFC 9470 §3).
fn ask_again(admission: &Admission, request: &RequestFacts<'_>, identity: &Identity) -> Decision {
    let strength = admission.allow.strength.clone();
    match identity.proof {
        Proof::Session if redirectable(admission.on_unauthenticated, request) => Decision::Login(LoginDemand {
            providers: [identity.provider.clone()].into(),
            strength,
        }),
        Proof::Session | Proof::AccessToken => Decision::Challenge(Challenge::InsufficientAuthentication(strength)),
    }
}

/// Only what asks for a page can be sent to log in, and never a request with a body (RFC 9700 §4.12).
fn redirectable(rule: OnUnauthenticated, request: &RequestFacts<'_>) -> bool {
    let safe = matches!(*request.method, Method::GET | Method::HEAD);
    match rule {
        OnUnauthenticated::Auto => safe && request.client == Client::Navigation,
        OnUnauthenticated::Redirect => safe && request.client != Client::WebSocket,
        OnUnauthenticated::Unauthorized => false,
    }
}

/// A session that does not count is nobody; a token that does not count is a bad credential.
fn without(error: TokenError, admission: &Admission, request: &RequestFacts<'_>, proof: Proof) -> Decision {
    match proof {
        Proof::Session => ask_who(admission, request),
        Proof::AccessToken => Decision::Challenge(Challenge::from(error)),
    }
}

/// A page of another site cannot use the cookie for anything but looking (RFC 10017 §6.1.3.3).
fn forged(admission: &Admission, request: &RequestFacts<'_>) -> bool {
    let reads = matches!(*request.method, Method::GET | Method::HEAD | Method::OPTIONS);
    let looks = reads && request.client != Client::WebSocket;
    request.initiator == Initiator::ForeignSite && !looks && !admission.cross_site
}

#[cfg(test)]
mod tests;
