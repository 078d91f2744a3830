//! What is taken from a request before it may go on, and what the application is told instead.

use http::HeaderName;
use hyper::body::Incoming;

use super::target::Target;
use crate::identity::ClaimPath;
use std::net::IpAddr;

/// A header that tells the application about the identity.
#[derive(Clone, Debug)]
pub struct IdentityHeader {
    pub name: HeaderName,
    pub template: Template,
}

/// Text with holes: `"{user}"`, `"Bearer of {email}"`.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    pub pieces: Vec<Piece>,
}

/// A piece of a template.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    Text(Box<str>),
    /// `{user}`: what the provider's `username_claim` says.
    User,
    /// `{email}`: the verified address.
    Email,
    /// `{groups}`: joined with a comma.
    Groups,
    /// `{scopes}`: joined with a space.
    Scopes,
    /// `{sub}`.
    Subject,
    /// `{issuer}`.
    Issuer,
    /// Any other name: a string, number or boolean at that path; an array of strings is joined with a comma.
    Claim(ClaimPath),
}

/// What the scrubber removes, beside the families it always removes.
#[derive(Clone, Debug, Default)]
pub struct ScrubSettings {
    /// Every header that any route may emit.
    pub identity_headers: Vec<HeaderName>,
    /// The gateway's cookies are called this or begin with this and a dash, after `__Host-` or `__Secure-`.
    pub cookie_name: Box<str>,
    /// Peers whose `X-Forwarded-For` counts.
    pub trusted_proxies: Vec<ipnet::IpNet>,
}

/// Takes identity, credential and forwarding headers out of requests; made once at load.
#[derive(Debug)]
pub struct Scrubber;

impl Scrubber {
    pub fn new(_settings: ScrubSettings) -> Self {
        unimplemented!()
    }

    /// Takes out everything that only the gateway may say, and hands over the credential.
    pub fn scrub(&self, _request: http::Request<Incoming>, _target: Target, _peer: IpAddr) -> (Scrubbed, Credential) {
        unimplemented!()
    }
}

/// A request that says nothing in the gateway's name; only a scrubber makes one.
#[derive(Debug)]
pub struct Scrubbed {
    _private: (),
}

impl Scrubbed {
    pub fn target(&self) -> &Target {
        unimplemented!()
    }

    pub fn parts(&self) -> &http::request::Parts {
        unimplemented!()
    }

    /// What a trusted proxy reported of where the request came from; without the peer.
    pub fn forwarded_for(&self) -> &[IpAddr] {
        unimplemented!()
    }

    /// The body, for an endpoint of the gateway itself; the request goes nowhere afterwards.
    pub fn into_body(self) -> Incoming {
        unimplemented!()
    }
}

/// What the request says of who sent it.
#[derive(Debug)]
pub struct Credential {
    pub authorization: Authorization,
    /// The gateway's own cookies, in the order of the request: name and value.
    pub cookies: Vec<(String, String)>,
}

/// The `Authorization` header.
#[derive(Debug)]
pub enum Authorization {
    Absent,
    /// The token of `Bearer`; not checked in any way (RFC 6750 §2.1).
    Bearer(crate::secret::Secret),
    /// Another scheme.
    Other,
    /// Several headers, an empty token, or characters that no token has.
    Malformed,
}
