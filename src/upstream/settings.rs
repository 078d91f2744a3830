//! Where requests go, and within which limits.

use std::{fmt, net::IpAddr, time::Duration};

use http::{HeaderName, HeaderValue, StatusCode, uri::PathAndQuery};

use super::{headers::IdentityHeader, vouch::Vouching};
use crate::trust::TrustRoots;

/// Where a route's requests go, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name of the route.
    pub name: Box<str>,
    /// Its servers, at least one; the same is spoken with all of them.
    pub destinations: Vec<Destination>,
    pub balance: Balance,
    pub ejection: Ejection,
    pub health: Option<HealthCheck>,
    /// Send the client's `Host` on, instead of the destination's.
    pub preserve_host: bool,
    pub identity_headers: Vec<IdentityHeader>,
    /// What the application trusts beside them, and nobody may send.
    pub strip: Vec<HeaderName>,
    pub vouching: Vouching,
    pub authorization: AuthorizationOwner,
    pub timeouts: Timeouts,
    pub bodies: BodyLimits,
    pub trust: TrustRoots,
}

/// Which of several servers a request goes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// One after the other.
    #[default]
    RoundRobin,
    /// The one that is busy with the fewest.
    LeastRequests,
}

/// When one of several servers is left out for a while.
#[derive(Clone, Copy, Debug)]
pub struct Ejection {
    /// So many exchanges in a row without an answer.
    pub failures: u32,
    /// The first time; each further one takes twice as long, up to 32 times.
    pub time: Duration,
}

impl Default for Ejection {
    fn default() -> Self {
        Self {
            failures: 3,
            time: Duration::from_secs(10),
        }
    }
}

/// How servers are asked whether they are well.
#[derive(Clone, Debug)]
pub struct HealthCheck {
    pub path: PathAndQuery,
    /// What stands in `Host`; absent: the server's own address.
    pub host: Option<HeaderValue>,
    pub interval: Duration,
    pub timeout: Duration,
    /// So many good answers in a row make a server well.
    pub healthy: u32,
    /// So many bad ones make it ill.
    pub unhealthy: u32,
    /// What a good answer has; none: any 2xx.
    pub statuses: Vec<StatusCode>,
}

/// Whose the `Authorization` header of a request is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuthorizationOwner {
    /// It is a credential for here, and goes no further.
    #[default]
    Gateway,
    /// Nobody here reads it, and it goes on as it came.
    Application,
}

/// Limits of what a client sends.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// The longest request body.
    pub bytes: u64,
    /// Between two pieces of it.
    pub idle: Duration,
}

impl Default for BodyLimits {
    fn default() -> Self {
        Self {
            bytes: 1 << 30,
            idle: Duration::from_secs(30),
        }
    }
}

/// A base URL without path: `http://10.0.0.5:8080`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Destination {
    pub scheme: DestinationScheme,
    /// A name or an address; IPv6 without brackets.
    pub host: Box<str>,
    pub port: u16,
}

/// What is spoken with an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DestinationScheme {
    Http,
    Https,
    /// HTTP/2 in clear text, by prior knowledge (RFC 9113 §3.3).
    H2c,
}

impl DestinationScheme {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::H2c => "h2c",
        }
    }
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

impl Destination {
    /// Whether it is this machine.
    pub fn is_local(&self) -> bool {
        let address = self.host.parse::<IpAddr>();
        address.map_or(&*self.host == "localhost", |address| address.is_loopback())
    }

    /// As `Host` names it (RFC 9110 §7.2).
    pub(super) fn authority(&self) -> HeaderValue {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.to_string(),
        };
        let standard = match self.scheme {
            DestinationScheme::Https => 443,
            DestinationScheme::Http | DestinationScheme::H2c => 80,
        };
        let authority = match self.port == standard {
            true => host,
            false => format!("{host}:{}", self.port),
        };
        // The configuration lets nothing else in.
        HeaderValue::try_from(authority).unwrap_or(HeaderValue::from_static("localhost"))
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, host, port } = self;
        match host.contains(':') {
            true => write!(f, "{}://[{host}]:{port}", scheme.as_str()),
            false => write!(f, "{}://{host}:{port}", scheme.as_str()),
        }
    }
}
