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

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        let Self::Full(full) = self.get_mut();
        std::pin::Pin::new(full).poll_frame(cx).map_err(|never| match never {})
    }

    fn is_end_stream(&self) -> bool {
        let Self::Full(full) = self;
        full.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        let Self::Full(full) = self;
        full.size_hint()
    }
}
