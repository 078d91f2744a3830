//! Where requests go, and within which limits.

use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode, uri::PathAndQuery};

use rustls::pki_types::ServerName;

use super::{Destination, Prefix, edits::RouteEdits, headers::IdentityHeaders, vouch::Vouching};
use crate::trust::{ClientCertificate, TrustRoots};

/// Where a route's requests go, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name of the route.
    pub name: Box<str>,
    pub onward: Onward,
    pub balance: Balance,
    pub ejection: Ejection,
    pub health: Option<HealthCheck>,
    /// Send the client's `Host` on, instead of the destination's.
    pub preserve_host: bool,
    /// What the application does not see of the path.
    pub prefix: Option<Prefix>,
    pub edits: RouteEdits,
    pub identity_headers: IdentityHeaders,
    /// What the application trusts beside them, and nobody may send.
    pub strip: Vec<HeaderName>,
    pub vouching: Vouching,
    pub authorization: AuthorizationOwner,
    pub timeouts: Timeouts,
    pub bodies: BodyLimits,
    pub tls: UpstreamTls,
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
    pub question: Question,
    /// What stands in `Host`; absent: the server's own address.
    pub host: Option<HeaderValue>,
    pub interval: Duration,
    pub timeout: Duration,
    /// So many good answers in a row make a server well.
    pub healthy: u32,
    /// So many bad ones make it ill.
    pub unhealthy: u32,
}

/// What they are asked.
#[derive(Clone, Debug)]
pub enum Question {
    Get {
        path: PathAndQuery,
        /// What a good answer has; none: any 2xx.
        statuses: Vec<StatusCode>,
    },
    /// `grpc.health.v1.Health/Check`, over HTTP/2.
    Grpc(GrpcService),
}

/// The name of a service of gRPC; without a name, the server as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcService(Box<str>);

impl GrpcService {
    /// Bytes in a name.
    pub const LONGEST: usize = 127;

    /// `None` where it is no name: too long, or with blanks or anything that is not ASCII.
    pub fn named(name: &str) -> Option<Self> {
        let is_name = name.len() <= Self::LONGEST && name.bytes().all(|b| b.is_ascii_graphic());
        is_name.then(|| Self(name.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
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

/// Where requests go from here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Onward {
    /// The servers of the application, at least one; the same is spoken with all of them.
    To(Vec<Destination>),
    /// Nowhere: another proxy passes them on, and asks the gateway before it does.
    AskedBy(Asker),
}

impl Onward {
    pub fn destinations(&self) -> &[Destination] {
        match self {
            Self::To(destinations) => destinations,
            Self::AskedBy(_) => &[],
        }
    }
}

/// The kind of proxy that asks about requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Asker {
    /// Names the original in headers, under the gateway's own address: nginx, Traefik, Caddy, HAProxy.
    ForwardAuth,
    /// Envoy, whose question over HTTP goes to the original's host.
    ExtAuthz,
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

/// How the servers of an application prove themselves, and we to them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UpstreamTls {
    pub roots: TrustRoots,
    pub certificate: Option<ClientCertificate>,
    /// Whom their certificate has to name; absent: the host of the URL.
    pub server_name: Option<ServerName<'static>>,
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
