//! The canonical request target: parsed once, for routing, policy, log and the bytes sent upstream.

use http::request::Parts;

/// A request target that every program reads alike (I1, I2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target;

/// Why a request target is ambiguous: 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AmbiguousTarget(pub &'static str);

impl Target {
    /// Reads method, target and `Host` of a request.
    pub fn read(_parts: &Parts) -> Result<Self, AmbiguousTarget> {
        unimplemented!()
    }

    /// Lower case, without port and without a trailing dot; IPv6 in brackets.
    pub fn host(&self) -> &str {
        unimplemented!()
    }

    pub fn port(&self) -> Option<u16> {
        unimplemented!()
    }

    pub fn path(&self) -> &str {
        unimplemented!()
    }

    pub fn query(&self) -> Option<&str> {
        unimplemented!()
    }

    /// Path and query, as they are sent upstream.
    pub fn path_and_query(&self) -> &str {
        unimplemented!()
    }
}
