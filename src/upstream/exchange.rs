//! An exchange on a connection of its own.

use std::{
    mem,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use http::Request;

use super::{
    Upstream, UpstreamError,
    again::Again,
    body::Source,
    headers::Taken,
    http1::Broken,
    instance::{Answered, Failed},
    lease::Lease,
    lifeline::{self, Lifeline},
    pool::Pool,
    upload::{Progress, RequestBody, UploadEnd},
};
use crate::time::Alarm;

/// What goes with a request, whichever servers it is sent to.
#[derive(Debug)]
pub(super) struct Exchange<'a> {
    /// What trailers may not say either.
    pub(super) taken: &'a Arc<Taken>,
    /// Where there is a body.
    pub(super) progress: Option<&'a Progress>,
    pub(super) lifeline: &'a mut Lifeline,
    pub(super) again: Again,
}

impl Upstream {
    /// Sends a request; once more where a connection that was used before closed without a word (F-07).
    ///
    /// Servers close what is idle, and a request may cross that on its way. One of which nothing was sent comes back and
    /// is sent as it is; a safe one without a body may have been seen to, and does no harm twice.
    pub(super) async fn exchange(
        &self,
        pool: &Arc<Pool>,
        mut request: Request<RequestBody>,
        exchange: &mut Exchange<'_>,
    ) -> Result<Answered, Failed> {
        let connect = exchange.lifeline.at_most(self.settings.timeouts.connect);
        let mut lease = match pool.lease(&exchange.again, connect).await {
            Ok(lease) => lease,
            Err(error) => return Err(Failed::unsent(error, request)),
        };
        loop {
            let mut response = lease.begin(&mut request);
            let answered = {
                let (alarm, answer) = lease.answer(&mut response);
                self.in_time(alarm, pin!(answer), exchange).await?
            };
            let Err(broken) = answered else {
                let headers = mem::take(request.headers_mut());
                return Ok(response.map(|()| Source::Connection(lease.answered(headers))));
            };
            self.once_more(&broken, &mut lease, &mut request, exchange)?;
            let connect = exchange.lifeline.at_most(self.settings.timeouts.connect);
            lease = match lease.pool().open(connect).await {
                Ok(fresh) => fresh,
                Err(error) => return Err(Failed::unsent(error, request)),
            };
            self.count_retry();
        }
    }

    /// The response's time runs from the last byte of the request.
    pub(super) async fn in_time<T>(
        &self,
        alarm: &mut Alarm,
        mut answer: Pin<&mut impl Future<Output = T>>,
        exchange: &mut Exchange<'_>,
    ) -> Result<T, UpstreamError> {
        let lifeline = &mut *exchange.lifeline;
        if let Some(progress) = exchange.progress {
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

    /// Whether the request may be sent on a new connection: where the other side had closed one that was used before, and
    /// said nothing.
    fn once_more(
        &self,
        broken: &Broken,
        lease: &mut Lease,
        request: &mut Request<RequestBody>,
        exchange: &mut Exchange<'_>,
    ) -> Result<(), Failed> {
        let error = failure(broken, exchange.progress);
        if let Some(body) = lease.take_untouched() {
            *request.body_mut() = body;
            return match lease.used {
                true => Ok(()),
                false => Err(Failed::unsent(
                    error,
                    mem::replace(request, Request::new(RequestBody::Empty)),
                )),
            };
        }
        if lease.has_heard() {
            exchange.again.give_up();
        }
        let broke_off = matches!(error, UpstreamError::Unreachable(_));
        match lease.used && broke_off && exchange.progress.is_none() && exchange.again.may_repeat(request) {
            true => Ok(()),
            false => Err(error.into()),
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

fn failure(broken: &Broken, progress: Option<&Progress>) -> UpstreamError {
    fault_of_the_upload(progress).unwrap_or_else(|| match broken {
        Broken::Nonsense(_) => UpstreamError::Nonsense(broken.to_string()),
        Broken::Closed | Broken::Io(_) | Broken::Upload => UpstreamError::Unreachable(broken.to_string()),
    })
}

/// What the client did to a request that found no answer.
pub(super) fn fault_of_the_upload(progress: Option<&Progress>) -> Option<UpstreamError> {
    match progress?.end() {
        UploadEnd::TooLarge => Some(UpstreamError::BodyTooLarge),
        UploadEnd::ClientGone => Some(UpstreamError::ClientGone),
        UploadEnd::NotYet | UploadEnd::Complete | UploadEnd::Refused => None,
    }
}
