//! Response bodies: the gateway's own, and those that stream through.

use bytes::Bytes;
use http_body_util::Full;

/// The body of every response that leaves the gateway.
#[derive(Debug)]
pub enum Body {
    Full(Full<Bytes>),
}

impl Body {
    pub fn empty() -> Self {
        Self::Full(Full::default())
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Full(Full::new(bytes))
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}
