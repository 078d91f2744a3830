//! One server of an application, and one attempt to get an answer from it.

use std::sync::{Arc, OnceLock, atomic::AtomicUsize};

use http::{HeaderValue, Request, Response, header};

use super::{
    Destination, DestinationScheme, Settings, Upstream, UpstreamError,
    body::Source,
    condition::{Condition, Load},
    dial::Dialer,
    exchange::Exchange,
    health::Checks,
    pool::Pool,
    trunk::Trunk,
    upload::RequestBody,
};
use crate::telemetry::Metrics;

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

/// The answer's head, and where its body comes from.
pub(super) type Answered = Response<Source>;

impl Upstream {
    /// What is known of a server, and connections to it, are kept from others that lead there.
    pub(super) fn new(
        settings: Settings,
        others: &[Self],
        earlier: &[Self],
        metrics: &Metrics,
    ) -> Result<Self, rustls::Error> {
        let counts = settings.onward.destinations().len() > 1 || settings.health.is_some();
        let mut instances = Vec::with_capacity(settings.onward.destinations().len());
        for destination in settings.onward.destinations() {
            let known = others.iter().chain(earlier);
            let line = match known.filter_map(|known| known.line_to(destination, &settings)).next() {
                Some(line) => line.clone(),
                None => Line::to(destination, &settings)?,
            };
            let name: Arc<str> = destination.to_string().into();
            let condition = counts.then(|| {
                let before = earlier.iter().find(|before| before.settings.name == settings.name);
                let before = before.and_then(|before| before.condition_of(destination));
                let condition = before.unwrap_or_else(|| {
                    let numbers = metrics.upstream(&settings.name, &name);
                    Condition::new(&settings.name, numbers).into()
                });
                if settings.health.is_none() {
                    // Nobody would find it well again.
                    condition.is_found(true, &name);
                }
                condition
            });
            instances.push(Instance {
                destination: destination.clone(),
                host: destination.authority(),
                name,
                line,
                condition,
            });
        }
        Ok(Self {
            retries: (!instances.is_empty()).then(|| metrics.upstream_retries(&settings.name)),
            checks: Checks::begin(&settings, &instances),
            settings,
            instances,
            turn: AtomicUsize::default(),
            site: OnceLock::new(),
        })
    }

    /// Connections that are good for these settings too.
    fn line_to(&self, destination: &Destination, settings: &Settings) -> Option<&Line> {
        let fits = self.settings.tls == settings.tls;
        let mut instances = self.instances.iter().filter(|_| fits);
        let there = instances.find(|instance| instance.destination == *destination);
        there.map(|instance| &instance.line)
    }

    fn condition_of(&self, destination: &Destination) -> Option<Arc<Condition>> {
        let mut instances = self.instances.iter();
        let there = instances.find(|instance| instance.destination == *destination);
        there.and_then(|instance| instance.condition.clone())
    }

    /// The head of the answer, of the only server or of one of several.
    pub(super) async fn answer(
        &self,
        request: Request<RequestBody>,
        exchange: &mut Exchange<'_>,
    ) -> Result<(Answered, Option<Load>), UpstreamError> {
        match &*self.instances {
            [only] => Ok((self.attempt(only, request, exchange).await?, None)),
            _ => self.balanced(request, exchange).await,
        }
    }

    /// Sends a request to one server, and waits for the head of its answer.
    pub(super) async fn attempt(
        &self,
        instance: &Instance,
        mut request: Request<RequestBody>,
        exchange: &mut Exchange<'_>,
    ) -> Result<Answered, Failed> {
        if !self.settings.preserve_host {
            request.headers_mut().insert(header::HOST, instance.host.clone());
        }
        if self.instances.len() > 1 {
            // Another one may be asked.
            exchange.again.keep(&request);
        }
        match &instance.line {
            Line::Http1(pool) => self.exchange(pool, request, exchange).await,
            Line::Http2(trunk) => self.exchange_stream(trunk, request, exchange).await,
        }
    }
}
