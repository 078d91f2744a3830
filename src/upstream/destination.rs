//! One server of an application: where it is, and what is spoken with it.

use std::{fmt, net::IpAddr, path::Path};

use http::HeaderValue;

/// A base URL without path: `http://10.0.0.5:8080`, `unix:/run/app.sock`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Destination {
    pub scheme: DestinationScheme,
    pub place: Place,
}

/// What is spoken with an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DestinationScheme {
    Http,
    Https,
    /// HTTP/2 over TLS, by ALPN (RFC 9113 §3.2).
    H2,
    /// HTTP/2 in clear text, by prior knowledge (RFC 9113 §3.3).
    H2c,
}

/// Where an upstream listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    Tcp {
        /// A name or an address; IPv6 without brackets.
        host: Box<str>,
        port: u16,
    },
    /// A socket in the file system of this machine.
    Unix(Box<Path>),
}

impl DestinationScheme {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::H2 => "h2",
            Self::H2c => "h2c",
        }
    }

    pub fn is_encrypted(self) -> bool {
        match self {
            Self::Https | Self::H2 => true,
            Self::Http | Self::H2c => false,
        }
    }
}

impl Destination {
    /// Whether it is this machine.
    pub fn is_local(&self) -> bool {
        match &self.place {
            Place::Tcp { host, .. } => {
                let address = host.parse::<IpAddr>();
                address.map_or(&**host == "localhost", |address| address.is_loopback())
            }
            Place::Unix(_) => true,
        }
    }

    /// As `Host` names it (RFC 9110 §7.2); a socket in the file system has no name, and is called `localhost`.
    pub(super) fn authority(&self) -> HeaderValue {
        let standard = if self.scheme.is_encrypted() { 443 } else { 80 };
        let authority = match &self.place {
            Place::Tcp { host, port } if *port == standard => bracketed(host),
            Place::Tcp { host, port } => format!("{}:{port}", bracketed(host)),
            Place::Unix(_) => "localhost".into(),
        };
        // The configuration lets nothing else in.
        HeaderValue::try_from(authority).unwrap_or(HeaderValue::from_static("localhost"))
    }
}

fn bracketed(host: &str) -> String {
    match host.contains(':') {
        true => format!("[{host}]"),
        false => host.to_owned(),
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Tcp { host, port } => write!(f, "{}://{}:{port}", self.scheme.as_str(), bracketed(host)),
            Place::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
