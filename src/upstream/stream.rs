//! An exchange on a connection that others share: the request for HTTP/2, and when it is sent once more.

use std::{error::Error, io, pin::pin};

use h2::Reason;
use http::{
    HeaderValue, Request, Response, Uri, Version, header,
    uri::{Authority, Scheme},
};
use hyper::{body::Incoming, client::conn::TrySendError};

use super::{
    Upstream, UpstreamError,
    body::Source,
    exchange::{Exchange, fault_of_the_upload},
    instance::{Answered, Failed},
    trunk::{Trunk, Turn},
    upload::{Progress, RequestBody},
};
use crate::time::Alarm;

impl Upstream {
    /// Sends a request; once more where nothing was done about it, or where it does no harm twice and the connection had
    /// served others and closed without a word about it (F-07).
    pub(super) async fn exchange_stream(
        &self,
        trunk: &Trunk,
        request: Request<RequestBody>,
        exchange: &mut Exchange<'_>,
    ) -> Result<Answered, Failed> {
        let progress = exchange.progress;
        let connect = exchange.lifeline.at_most(self.settings.timeouts.connect);
        let mut request = translated(request, trunk.scheme())?;
        let leash = request.body_mut().share(exchange.taken);
        let turn = match exchange.again.is_spent() {
            true => trunk.fresh(connect).await,
            false => trunk.turn(connect).await,
        };
        let mut turn = match turn {
            Ok(turn) => turn,
            Err(error) => return Err(Failed::unsent(error, request)),
        };
        exchange.again.keep(&request);
        let was_used = turn.is_used();
        let mut alarm = Alarm::default();
        let mut error = match self.ask(&mut turn, request, &mut alarm, exchange).await? {
            Ok(response) => return Ok(response.map(|body| Source::Stream(body, Box::new((turn, leash))))),
            Err(error) => error,
        };
        let unsent = error.take_message();
        let error = error.into_error();
        let request = match unsent {
            Some(request) => request,
            None if was_left_alone(&error) => exchange
                .again
                .spend_untouched()
                .ok_or_else(|| failure_of(&error, progress))?,
            None if was_used && broke_off(&error) => {
                self.second_attempt(&mut exchange.again, failure_of(&error, progress))?
            }
            None => return Err(failure_of(&error, progress).into()),
        };
        if is_refusal(&error) && self.instances.len() > 1 {
            // It may have too much to do, and another one less.
            return Err(Failed::unsent(failure_of(&error, progress), request));
        }
        let request = translated(request, trunk.scheme())?;
        let connect = exchange.lifeline.at_most(self.settings.timeouts.connect);
        let turn = match is_refusal(&error) {
            true => trunk.another(turn, connect).await,
            false => {
                turn.retire();
                trunk.fresh(connect).await
            }
        };
        let mut turn = match turn {
            Ok(turn) => turn,
            Err(error) => return Err(Failed::unsent(error, request)),
        };
        self.count_retry();
        match self.ask(&mut turn, request, &mut alarm, exchange).await? {
            Ok(response) => Ok(response.map(|body| Source::Stream(body, Box::new((turn, leash))))),
            Err(error) => Err(failure_of(&error.into_error(), progress).into()),
        }
    }

    async fn ask(
        &self,
        turn: &mut Turn,
        request: Request<RequestBody>,
        alarm: &mut Alarm,
        exchange: &mut Exchange<'_>,
    ) -> Result<Result<Response<Incoming>, TrySendError<Request<RequestBody>>>, UpstreamError> {
        let answer = pin!(turn.sender.try_send_request(request));
        let answer = self.in_time(alarm, answer, exchange).await;
        match &answer {
            Ok(Ok(_)) => turn.answered(),
            Err(UpstreamError::TimedOut | UpstreamError::Over | UpstreamError::OverInUpload) => turn.retire_if_silent(),
            Ok(Err(_)) | Err(_) => {}
        }
        answer
    }
}

fn failure(error: &hyper::Error, progress: Option<&Progress>) -> UpstreamError {
    fault_of_the_upload(progress).unwrap_or_else(|| match error.is_parse() {
        true => UpstreamError::Nonsense(error.to_string()),
        false => UpstreamError::Unreachable(error.to_string()),
    })
}

/// A reset of one stream, or a breach of the protocol, is an answer of whoever sent it and none that can be passed on.
fn failure_of(error: &hyper::Error, progress: Option<&Progress>) -> UpstreamError {
    match (failure(error, progress), cause::<h2::Error>(error)) {
        (UpstreamError::Unreachable(_), Some(cause)) if !was_left_alone(error) => {
            UpstreamError::Nonsense(cause.to_string())
        }
        (failure, _) => failure,
    }
}

/// The same request for HTTP/2 (RFC 9113 §8.2.2, §8.3.1).
fn translated(request: Request<RequestBody>, scheme: Scheme) -> Result<Request<RequestBody>, UpstreamError> {
    let (mut parts, body) = request.into_parts();
    parts.version = Version::HTTP_2;
    let mut uri = parts.uri.into_parts();
    uri.scheme = Some(scheme);
    // A request that is sent once more may have been translated before.
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

/// Whether the other side did nothing about a request, by its own word (RFC 9113 §8.7): it refused the stream, or left it
/// out of those that its GOAWAY counts as seen to. The others end with their connection, and not with the GOAWAY.
fn was_left_alone(error: &hyper::Error) -> bool {
    let is_farewell = |cause: &h2::Error| cause.is_remote() && cause.is_go_away();
    is_refusal(error) || cause(error).is_some_and(is_farewell)
}

fn is_refusal(error: &hyper::Error) -> bool {
    cause(error).is_some_and(|cause: &h2::Error| {
        cause.is_remote() && cause.is_reset() && cause.reason() == Some(Reason::REFUSED_STREAM)
    })
}

/// Whether the connection closed, and nobody knows what was seen to.
fn broke_off(error: &hyper::Error) -> bool {
    cause::<io::Error>(error).is_some()
}

fn cause<E: Error + 'static>(error: &hyper::Error) -> Option<&E> {
    error.source().and_then(|source| source.downcast_ref())
}
