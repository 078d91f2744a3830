//! What an operator's programs ask: alive, ready, and how much of everything.

use std::{convert::Infallible, io, net::IpAddr, sync::Arc};

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::{body::Incoming, service::service_fn};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{Handle, Limits, bind::Listener, connection, listen::Door, visitor::Visitor};
use crate::{telemetry::Metrics, upstream::body::Body};

/// Open connections at once; an operator's programs are few.
const CONNECTIONS: usize = 64;
const TEXT: &str = "text/plain; charset=utf-8";
const METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the admin listener tells of.
#[derive(Debug)]
pub(super) struct Office<H> {
    pub(super) handler: Arc<H>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) draining: CancellationToken,
}

/// Answers until the last worker has ended.
pub(super) async fn serve<H: Handle>(listener: Listener, office: Office<H>, over: CancellationToken) -> io::Result<()> {
    let office = Arc::new(office);
    let mut door = Door::open(listener, Arc::new(Semaphore::new(CONNECTIONS)), over.clone())?;
    while let Some(guest) = door.next().await {
        let (office, over, peer) = (office.clone(), over.clone(), guest.peer);
        let service = service_fn(move |request: Request<_>| {
            let office = office.clone();
            async move { Ok::<_, Infallible>(office.reply(request, peer).await) }
        });
        tokio::spawn(async move {
            connection::serve(Visitor::plain(guest), (), &Limits::default(), over, service).await;
        });
    }
    Ok(())
}

impl<H: Handle> Office<H> {
    async fn reply(&self, request: Request<Incoming>, peer: IpAddr) -> Response<Body> {
        match request.uri().path() {
            path if is_at("/sessions", path) || is_at("/decisions", path) => {
                self.handler.administer(request, peer).await
            }
            path => self.answer(request.method(), path),
        }
    }

    fn answer(&self, method: &Method, path: &str) -> Response<Body> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            let mut refusal = response(StatusCode::METHOD_NOT_ALLOWED, TEXT, "GET and HEAD only\n".into());
            let allow = HeaderValue::from_static("GET, HEAD");
            refusal.headers_mut().insert(header::ALLOW, allow);
            return refusal;
        }
        match path {
            "/livez" => response(StatusCode::OK, TEXT, "ok\n".into()),
            "/readyz" if self.draining.is_cancelled() => {
                response(StatusCode::SERVICE_UNAVAILABLE, TEXT, "shutting down\n".into())
            }
            "/readyz" => response(StatusCode::OK, TEXT, "ok\n".into()),
            "/metrics" => response(StatusCode::OK, METRICS, self.metrics.encode()),
            _ => response(StatusCode::NOT_FOUND, TEXT, "try /livez, /readyz or /metrics\n".into()),
        }
    }
}

fn is_at(place: &str, path: &str) -> bool {
    let rest = path.strip_prefix(place);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn response(status: StatusCode, content_type: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
