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
    again::Again,
    body::{Progress, RequestBody, UploadEnd},
    instance::Failed,
    lifeline::{self, Lifeline},
    pool::{Lease, Pool},
};
use crate::time::Alarm;

impl Upstream {
    /// Sends a request; once more where a connection that was used before closed without a word (F-07).
    ///
    /// Servers close what is idle, and a request may cross that on its way. One of which nothing was sent comes back and
    /// is sent as it is; a safe one without a body may have been seen to, and does no harm twice.
    pub(super) async fn exchange(
        &self,
        pool: &Arc<Pool>,
        request: Request<RequestBody>,
        again: &mut Again,
        progress: Option<&Progress>,
        lifeline: &mut Lifeline,
    ) -> Result<(Response<Incoming>, Lease), Failed> {
        let connect = lifeline.at_most(self.settings.timeouts.connect);
        let mut lease = match pool.lease(again, connect).await {
            Ok(lease) => lease,
            Err(error) => return Err(Failed::unsent(error, request)),
        };
        let mut request = match lease.used {
            true => again.keeping(request),
            false => request,
        };
        loop {
            lease.carry(&request);
            // Put where it is looked at, for whoever waits would hand it on from one to the next.
            let mut answer = None;
            {
                let sent = lease.sender.try_send_request(request);
                let asked = pin!(async { answer = Some(sent.await) });
                self.in_time(&mut lease.alarm, asked, progress, lifeline).await?;
            }
            let Some(answer) = answer else {
                return Err(UpstreamError::TimedOut.into());
            };
            match answer {
                Ok(response) => return Ok((response, lease)),
                Err(error) => {
                    request = self.once_more(error, &lease, again, progress)?;
                    let connect = lifeline.at_most(self.settings.timeouts.connect);
                    match lease.pool().open(connect).await {
                        Ok(fresh) => {
                            self.count_retry();
                            lease = fresh;
                        }
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
            let uploaded = lifeline::within(alarm, Duration::MAX, lifeline, uploaded).await;
            let uploaded = uploaded.map_err(|late| match late {
                UpstreamError::Over => UpstreamError::OverInUpload,
                other => other,
            })?;
            if let Some(answer) = uploaded? {
                return Ok(answer);
            }
        }
        lifeline::within(alarm, self.settings.timeouts.response, lifeline, answer).await
    }

    /// The request, where the other side had closed a connection that was used before, and said nothing.
    fn once_more(
        &self,
        mut error: TrySendError<Request<RequestBody>>,
        lease: &Lease,
        again: &mut Again,
        progress: Option<&Progress>,
    ) -> Result<Request<RequestBody>, Failed> {
        let unsent = error.take_message();
        let error = failure(&error.into_error(), progress);
        match unsent {
            Some(request) if lease.used => Ok(request),
            Some(request) => Err(Failed::unsent(error, request)),
            None if lease.has_heard() => {
                again.give_up();
                Err(error.into())
            }
            None if lease.used => self.second_attempt(again, error),
            None => Err(error.into()),
        }
    }

    /// The request once more, after a connection broke off that may have brought it there.
    pub(super) fn second_attempt(
        &self,
        again: &mut Again,
        error: UpstreamError,
    ) -> Result<Request<RequestBody>, Failed> {
        let broke_off = matches!(error, UpstreamError::Unreachable(_));
        Ok(broke_off.then(|| again.spend()).flatten().ok_or(error)?)
    }

    /// Counts what is sent once more, for whatever reason.
    pub(super) fn count_retry(&self) {
        if let Some(retries) = &self.retries {
            retries.inc();
        }
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
