//! An exchange on a connection that others share: the request for HTTP/2, and when it is sent once more.

use std::{error::Error as _, pin::pin, sync::Arc};

use h2::Reason;
use http::{
    HeaderValue, Method, Request, Response, Uri, Version, header,
    uri::{Authority, Scheme},
};
use hyper::body::Incoming;

use super::{
    Upstream, UpstreamError,
    body::{Leash, Progress, RequestBody},
    exchange::failure,
    headers::Taken,
    instance::Failed,
    lifeline::Lifeline,
    trunk::{Trunk, Turn},
};
use crate::time::Alarm;

impl Upstream {
    /// Sends a request once; again only where nothing of it was sent, or nothing was done about it (F-07).
    pub(super) async fn exchange_stream(
        &self,
        trunk: &Trunk,
        taken: &Arc<Taken>,
        request: Request<RequestBody>,
        progress: Option<&Progress>,
        lifeline: &mut Lifeline,
    ) -> Result<(Response<Incoming>, Box<(Turn, Leash)>), Failed> {
        let connect = self.settings.timeouts.connect;
        let mut request = translated(request, trunk.scheme())?;
        let leash = request.body_mut().share(taken);
        let mut turn = match trunk.turn(connect).await {
            Ok(turn) => turn,
            Err(error) => return Err(Failed::unsent(error, request)),
        };
        let again = copied(&request);
        let mut alarm = Alarm::default();
        let first = {
            let answer = pin!(turn.sender.try_send_request(request));
            self.in_time(&mut alarm, answer, progress, lifeline).await?
        };
        let mut error = match first {
            Ok(response) => return Ok((response, Box::new((turn, leash)))),
            Err(error) => error,
        };
        let unsent = error.take_message();
        let error = error.into_error();
        let request = unsent.or_else(|| again.filter(|request| was_left_alone(&error, request.method())));
        let request = request.ok_or_else(|| failure(&error, progress))?;
        let mut turn = match trunk.open(connect).await {
            Ok(turn) => turn,
            Err(error) => return Err(Failed::unsent(error, request)),
        };
        let answer = pin!(turn.sender.try_send_request(request));
        match self.in_time(&mut alarm, answer, progress, lifeline).await? {
            Ok(response) => Ok((response, Box::new((turn, leash)))),
            Err(error) => Err(failure(&error.into_error(), progress).into()),
        }
    }
}

/// The same request for HTTP/2 (RFC 9113 §8.2.2, §8.3.1).
fn translated(request: Request<RequestBody>, scheme: Scheme) -> Result<Request<RequestBody>, UpstreamError> {
    let (mut parts, body) = request.into_parts();
    parts.version = Version::HTTP_2;
    let mut uri = parts.uri.into_parts();
    uri.scheme = Some(scheme);
    // A request that goes to a second server has been translated before.
    if let Some(host) = parts.headers.remove(header::HOST) {
        uri.authority = Authority::try_from(host.as_bytes()).ok();
    }
    parts.uri = Uri::from_parts(uri).map_err(|error| UpstreamError::Unreachable(error.to_string()))?;
    // A WebSocket cannot be asked for here: the application says so itself.
    for name in [header::TRANSFER_ENCODING, header::CONNECTION, header::UPGRADE] {
        parts.headers.remove(name);
    }
    // What many servers of gRPC insist on.
    parts.headers.insert(header::TE, HeaderValue::from_static("trailers"));
    Ok(Request::from_parts(parts, body))
}

/// The request once more, where it has no body that could be half sent.
pub(super) fn copied(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    match request.body() {
        RequestBody::Empty => {
            let mut copy = Request::new(RequestBody::Empty);
            *copy.method_mut() = request.method().clone();
            *copy.uri_mut() = request.uri().clone();
            *copy.version_mut() = request.version();
            *copy.headers_mut() = request.headers().clone();
            Some(copy)
        }
        RequestBody::Upload(_) => None,
    }
}

/// Whether the other side did nothing about a request (RFC 9113 §8.7).
///
/// What is left when a connection closes after a GOAWAY looks like what the GOAWAY left out, and may have been seen to:
/// only what does no harm twice is tried again then.
fn was_left_alone(error: &hyper::Error, method: &Method) -> bool {
    let cause = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
    cause
        .filter(|cause| cause.is_remote())
        .is_some_and(|cause| match cause.reason() {
            Some(Reason::REFUSED_STREAM) => cause.is_reset(),
            Some(Reason::NO_ERROR) => cause.is_go_away() && method.is_safe(),
            _ => false,
        })
}
