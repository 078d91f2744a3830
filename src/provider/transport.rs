//! The one way to send bytes to a provider: within limits, and wherever a redirect would lead, not there (N-032).

use std::{fmt, future::Future, pin::Pin, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::settings::CallLimits;
use crate::trust::TrustRoots;

/// Why there is no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SendError {
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    #[error("it takes too long")]
    TimedOut,
    #[error("too many calls to it are under way")]
    Overloaded,
    #[error("its answer is longer than allowed")]
    TooLong,
}

pub type Answer<'a> = Pin<Box<dyn Future<Output = Result<Response<Bytes>, SendError>> + Send + 'a>>;

/// Bytes to a provider, and its answer.
pub trait Transport: Send + Sync + fmt::Debug {
    fn send(&self, request: Request<Bytes>) -> Answer<'_>;
}

type Client = legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// HTTP/1.1 over TCP and TLS.
#[derive(Debug)]
pub struct HttpTransport {
    client: Client,
    limits: CallLimits,
    /// Whoever calls or waits for its turn has one of these.
    places: Semaphore,
    turns: Semaphore,
}

/// As many calls may wait for their turn as may be under way, times this.
const QUEUE: usize = 4;
/// Shorter than servers keep an idle connection, so that a call seldom meets one that is being closed.
const IDLE: Duration = Duration::from_secs(15);
const USER_AGENT: &str = concat!("vestibule/", env!("CARGO_PKG_VERSION"));

impl HttpTransport {
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(trust: &TrustRoots, limits: CallLimits) -> Result<Self, rustls::Error> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(limits.connect));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(trust.client_config()?.as_ref().clone())
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(limits.concurrency)
            .build(connector);
        Ok(Self {
            client,
            limits,
            places: Semaphore::new(limits.concurrency.saturating_mul(QUEUE.saturating_add(1))),
            turns: Semaphore::new(limits.concurrency),
        })
    }

    async fn exchange(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>, SendError> {
        let (_place, _turn) = self.turn().await?;
        let headers = request.headers_mut();
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        let answer = self.client.request(request.map(Full::new)).await;
        let (parts, body) = answer
            .map_err(|error| SendError::Unreachable(root(&error)))?
            .into_parts();
        let body = Limited::new(body, self.limits.response_bytes).collect().await;
        let body = body.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
            Some(_) => SendError::TooLong,
            None => SendError::Unreachable(error.to_string()),
        })?;
        Ok(Response::from_parts(parts, body.to_bytes()))
    }

    async fn turn(&self) -> Result<(SemaphorePermit<'_>, SemaphorePermit<'_>), SendError> {
        let place = self.places.try_acquire().map_err(|_| SendError::Overloaded)?;
        let turn = self.turns.acquire().await.map_err(|_| SendError::Overloaded)?;
        Ok((place, turn))
    }
}

impl Transport for HttpTransport {
    fn send(&self, request: Request<Bytes>) -> Answer<'_> {
        Box::pin(async move {
            let answer = tokio::time::timeout(self.limits.total, self.exchange(request)).await;
            answer.unwrap_or(Err(SendError::TimedOut))
        })
    }
}

/// The cause at the bottom: what the operator can do something about.
fn root(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.last().map(ToString::to_string).unwrap_or_default()
}
