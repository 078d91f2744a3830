//! One server of an application, and one attempt to get an answer from it.

use std::sync::Arc;

use http::{HeaderValue, Request, Response, header};
use hyper::body::Incoming;

use super::{
    Destination, DestinationScheme, Settings, Upstream, UpstreamError,
    body::{Hold, Progress, RequestBody},
    condition::Condition,
    dial::Dialer,
    headers::Taken,
    lifeline::Lifeline,
    pool::Pool,
    trunk::Trunk,
};

/// Where requests of one route go, or one of several such places.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) destination: Destination,
    /// For whoever reads the log and the metrics.
    pub(super) name: Arc<str>,
    /// As it calls itself.
    pub(super) host: HeaderValue,
    pub(super) line: Line,
    /// Absent where there is no other, and nobody asks how it is.
    pub(super) condition: Option<Arc<Condition>>,
}

/// How it is reached.
#[derive(Clone, Debug)]
pub(super) enum Line {
    Http1(Arc<Pool>),
    Http2(Arc<Trunk>),
}

impl Line {
    /// # Errors
    /// When TLS cannot be set up for this destination.
    pub(super) fn to(destination: &Destination, settings: &Settings) -> Result<Self, rustls::Error> {
        let dialer = Dialer::new(destination.clone(), &settings.tls)?;
        Ok(match destination.scheme {
            DestinationScheme::Http | DestinationScheme::Https => Self::Http1(Arc::new(Pool::new(dialer))),
            DestinationScheme::H2 | DestinationScheme::H2c => Self::Http2(Arc::new(Trunk::new(dialer))),
        })
    }
}

/// No answer; where nothing of the request was sent, it is still here.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) error: UpstreamError,
    pub(super) unsent: Option<Box<Request<RequestBody>>>,
}

impl From<UpstreamError> for Failed {
    fn from(error: UpstreamError) -> Self {
        Self { error, unsent: None }
    }
}

impl From<Failed> for UpstreamError {
    fn from(failed: Failed) -> Self {
        failed.error
    }
}

impl Failed {
    pub(super) fn unsent(error: UpstreamError, request: Request<RequestBody>) -> Self {
        let unsent = Some(Box::new(request));
        Self { error, unsent }
    }
}

/// The answer's head, and what it has of the connection.
pub(super) type Answered = (Response<Incoming>, Hold);

impl Upstream {
    /// Sends a request to one server, and waits for the head of its answer.
    pub(super) async fn attempt(
        &self,
        instance: &Instance,
        taken: &Arc<Taken>,
        mut request: Request<RequestBody>,
        progress: Option<&Progress>,
        lifeline: &mut Lifeline,
    ) -> Result<Answered, Failed> {
        if !self.settings.preserve_host {
            request.headers_mut().insert(header::HOST, instance.host.clone());
        }
        match &instance.line {
            Line::Http1(pool) => {
                let answer = self.exchange(pool, request, progress, lifeline);
                answer.await.map(|(response, lease)| (response, Hold::Whole(lease)))
            }
            Line::Http2(trunk) => {
                let answer = self.exchange_stream(trunk, taken, request, progress, lifeline);
                answer.await.map(|(response, stream)| (response, Hold::Stream(stream)))
            }
        }
    }
}
