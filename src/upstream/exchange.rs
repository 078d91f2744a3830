//! An exchange on a connection of its own.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use http::{Request, Response};
use hyper::{body::Incoming, client::conn::TrySendError};

use super::{
    Upstream, UpstreamError,
    body::{Progress, RequestBody, UploadEnd},
    instance::Failed,
    lifeline::{self, Lifeline},
    pool::{Lease, Pool},
};
use crate::time::Alarm;

impl Upstream {
    /// Sends a request once; again only where nothing of it was sent, because the other side had closed (F-07).
    pub(super) async fn exchange(
        &self,
        pool: &Arc<Pool>,
        request: Request<RequestBody>,
        progress: Option<&Progress>,
        lifeline: &mut Lifeline,
    ) -> Result<(Response<Incoming>, Lease), Failed> {
        let connect = self.settings.timeouts.connect;
        let mut lease = match pool.lease(connect).await {
            Ok(lease) => lease,
            Err(error) => return Err(Failed::unsent(error, request)),
        };
        let mut request = request;
        loop {
            let answer = pin!(lease.sender.try_send_request(request));
            let answer = self.in_time(&mut lease.alarm, answer, progress, lifeline);
            match answer.await? {
                Ok(response) => return Ok((response, lease)),
                Err(error) => {
                    request = once_more(error, lease.used, progress)?;
                    match lease.pool().open(connect).await {
                        Ok(fresh) => lease = fresh,
                        Err(error) => return Err(Failed::unsent(error, request)),
                    }
                }
            }
        }
    }

    /// The response's time runs from the last byte of the request.
    pub(super) async fn in_time<T>(
        &self,
        alarm: &mut Alarm,
        mut answer: Pin<&mut impl Future<Output = T>>,
        progress: Option<&Progress>,
        lifeline: &mut Lifeline,
    ) -> Result<T, UpstreamError> {
        if let Some(progress) = progress {
            let uploaded = pin!(async {
                tokio::select! {
                    answer = &mut answer => Ok(Some(answer)),
                    () = progress.ended() => Ok(None),
                    () = progress.stalled(self.settings.timeouts.idle) => Err(UpstreamError::TimedOut),
                }
            });
            // The upload has limits of its own.
            let uploaded = lifeline::within(alarm, Duration::MAX, lifeline, uploaded).await?;
            if let Some(answer) = uploaded? {
                return Ok(answer);
            }
        }
        lifeline::within(alarm, self.settings.timeouts.response, lifeline, answer).await
    }
}

/// The request, where nothing of it was sent because the other side had closed a connection that was used before.
fn once_more(
    mut error: TrySendError<Request<RequestBody>>,
    used: bool,
    progress: Option<&Progress>,
) -> Result<Request<RequestBody>, Failed> {
    let unsent = error.take_message();
    let error = failure(&error.into_error(), progress);
    match unsent {
        Some(request) if used => Ok(request),
        Some(request) => Err(Failed::unsent(error, request)),
        None => Err(error.into()),
    }
}

pub(super) fn failure(error: &hyper::Error, progress: Option<&Progress>) -> UpstreamError {
    match progress.map(Progress::end) {
        Some(UploadEnd::TooLarge) => return UpstreamError::BodyTooLarge,
        Some(UploadEnd::ClientGone) => return UpstreamError::ClientGone,
        Some(UploadEnd::NotYet | UploadEnd::Complete) | None => {}
    }
    match error.is_parse() {
        true => UpstreamError::Nonsense(error.to_string()),
        false => UpstreamError::Unreachable(error.to_string()),
    }
}
