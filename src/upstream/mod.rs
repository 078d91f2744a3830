//! The resource server: scrub, identity headers, forward.

pub mod body;
pub mod headers;
pub mod target;

use std::{net::IpAddr, sync::Arc, time::Duration};

use http::{HeaderName, Response};

use crate::{
    policy::{Origin, Permit},
    telemetry::Metrics,
    trust::TrustRoots,
};
use body::Body;
use headers::{IdentityHeader, Scrubbed};

/// Where a route's requests go, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    pub destination: Destination,
    /// Send the client's `Host` on, instead of the destination's.
    pub preserve_host: bool,
    pub identity_headers: Vec<IdentityHeader>,
    pub timeouts: Timeouts,
    /// The longest request body, in bytes; absent: no limit.
    pub body_bytes: Option<u64>,
    pub trust: TrustRoots,
}

/// A base URL without path: `http://10.0.0.5:8080`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Destination {
    pub tls: bool,
    /// A name or an address; IPv6 without brackets.
    pub host: Box<str>,
    pub port: u16,
}

/// Limits of each wait for an upstream.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Until connected, TLS included.
    pub connect: Duration,
    /// From the request's last byte to the response's first.
    pub response: Duration,
    /// Between two pieces of a body, either way, and of an upgraded connection.
    pub idle: Duration,
    /// A whole exchange, upgraded connections included; absent: no limit.
    pub stream: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            response: Duration::from_secs(60),
            idle: Duration::from_secs(300),
            stream: None,
        }
    }
}

/// Where the client stands, for `X-Forwarded-*`, `Forwarded` and `Via`.
#[derive(Clone, Debug)]
pub struct Arrival<'a> {
    pub origin: &'a Origin,
    pub peer: IpAddr,
}

/// What an upstream did instead of answering.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    #[error("took too long")]
    TimedOut,
    #[error("spoke nonsense: {0}")]
    Nonsense(String),
    #[error("the request body is longer than allowed")]
    BodyTooLarge,
    #[error("the client went away while it sent the body")]
    ClientGone,
    /// A claim that must be told the application cannot be written as a header.
    #[error("the identity cannot be written into {0}")]
    Identity(HeaderName),
}

/// All upstreams; the one of a route stands at its `RouteId`.
pub struct Upstreams;

impl Upstreams {
    /// # Errors
    /// When a TLS configuration cannot be made.
    pub fn new(_settings: Vec<Settings>, _metrics: Arc<Metrics>) -> Result<Self, rustls::Error> {
        unimplemented!()
    }

    /// Sends the request on, as whom the permit says. A WebSocket is spliced after the upstream's 101.
    pub async fn forward(
        &self,
        _request: Scrubbed,
        _permit: Permit,
        _arrival: Arrival<'_>,
    ) -> Result<Response<Body>, UpstreamError> {
        unimplemented!()
    }
}
