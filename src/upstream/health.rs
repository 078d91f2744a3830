//! Servers that are asked, again and again, whether they are well.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderValue, Request, Response, Uri, Version, header,
    uri::{Authority, PathAndQuery, Scheme},
};
use http_body::Body;
use hyper::body::Incoming;
use tokio::{
    runtime::Handle,
    task::AbortHandle,
    time::{sleep, timeout},
};

use super::{
    Settings, UpstreamError,
    body::Source,
    condition::Condition,
    grpc_health,
    instance::{Instance, Line},
    pool::Pool,
    settings::{HealthCheck, Question},
    trunk::{Trunk, Turn},
    upload::RequestBody,
};
use crate::secret::random_bytes;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The tasks that ask; they end with this at the latest.
#[derive(Debug, Default)]
pub(super) struct Checks(Vec<AbortHandle>);

impl Drop for Checks {
    fn drop(&mut self) {
        self.end();
    }
}

/// The first question comes soon, but not everybody's at once.
const SOON: Duration = Duration::from_secs(1);

impl Checks {
    pub(super) fn end(&self) {
        self.0.iter().for_each(AbortHandle::abort);
    }

    /// Nothing where nobody asks for it.
    pub(super) fn begin(settings: &Settings, instances: &[Instance]) -> Self {
        // Without a runtime there are no requests either.
        let (Some(check), Ok(runtime)) = (&settings.health, Handle::try_current()) else {
            return Self::default();
        };
        let tasks = instances.iter().filter_map(|instance| {
            let patient = Patient {
                line: instance.line.clone(),
                host: check.host.clone().unwrap_or_else(|| instance.host.clone()),
                name: instance.name.clone(),
                condition: instance.condition.clone()?,
                check: check.clone(),
            };
            Some(runtime.spawn(patient.watch()).abort_handle())
        });
        Self(tasks.collect())
    }
}

/// Who is asked, and how.
struct Patient {
    line: Line,
    host: HeaderValue,
    name: Arc<str>,
    condition: Arc<Condition>,
    check: HealthCheck,
}

impl Patient {
    async fn watch(self) {
        sleep(some_of(self.check.interval.min(SOON))).await;
        let (mut was_well, mut in_a_row) = (true, 0_u32);
        loop {
            let mut turn = None;
            let is_well = timeout(self.check.timeout, self.is_well(&mut turn)).await;
            if let (Err(_), Some(turn)) = (&is_well, &turn) {
                turn.retire_if_silent();
            }
            // It lasted until the answer was read.
            drop(turn);
            let is_well = is_well.unwrap_or(false);
            in_a_row = match is_well == was_well {
                true => in_a_row.saturating_add(1),
                false => 1,
            };
            was_well = is_well;
            let enough = match is_well {
                true => self.check.healthy,
                false => self.check.unhealthy,
            };
            if in_a_row >= enough {
                self.condition.is_found(is_well, &self.name);
            }
            // Up to a fifth longer, so that many gateways do not ask in step.
            let pause = self
                .check
                .interval
                .saturating_add(some_of(self.check.interval.mul_f64(0.2)));
            sleep(pause).await;
        }
    }

    async fn is_well(&self, turn: &mut Option<Turn>) -> bool {
        let answered = match &self.line {
            Line::Http1(pool) => match self.ask_alone(pool).await {
                Ok(answer) => Ok(self.is_good(answer).await),
                Err(error) => Err(error),
            },
            Line::Http2(trunk) => match self.ask_among_others(trunk, turn).await {
                Ok(answer) => Ok(self.is_good(answer).await),
                Err(error) => Err(error),
            },
        };
        answered.unwrap_or(false)
    }

    async fn is_good<B: Body<Data = Bytes, Error: Into<BoxError>>>(&self, answer: Response<B>) -> bool {
        match &self.check.question {
            Question::Get { statuses, .. } => match &**statuses {
                [] => answer.status().is_success(),
                statuses => statuses.contains(&answer.status()),
            },
            Question::Grpc(_) => grpc_health::serves(answer).await,
        }
    }

    /// By a connection of its own, so that connecting is tried as well.
    async fn ask_alone(&self, pool: &Arc<Pool>) -> Result<Response<Source>, UpstreamError> {
        let mut lease = pool.open(self.check.timeout).await?;
        let mut answer = lease.begin(&mut self.request(None));
        let answered = lease.answer(&mut answer).1.await;
        answered.map_err(|error| UpstreamError::Unreachable(error.to_string()))?;
        Ok(answer.map(|()| Source::Connection(lease)))
    }

    async fn ask_among_others(
        &self,
        trunk: &Trunk,
        turn: &mut Option<Turn>,
    ) -> Result<Response<Incoming>, UpstreamError> {
        let turn = turn.insert(trunk.turn(self.check.timeout).await?);
        let answer = turn.sender.send_request(self.request(Some(trunk.scheme()))).await;
        let answer = answer.map_err(|error| UpstreamError::Unreachable(error.to_string()))?;
        turn.answered();
        Ok(answer)
    }

    /// With a scheme it is for HTTP/2.
    fn request(&self, scheme: Option<Scheme>) -> Request<RequestBody> {
        let mut request = Request::new(RequestBody::Empty);
        let mut uri = http::uri::Parts::default();
        uri.path_and_query = Some(match &self.check.question {
            Question::Get { path, .. } => path.clone(),
            Question::Grpc(service) => {
                grpc_health::ask(service, &mut request);
                PathAndQuery::from_static(grpc_health::PATH)
            }
        });
        let headers = request.headers_mut();
        headers.insert(header::USER_AGENT, HeaderValue::from_static("vestibule-health"));
        match scheme {
            None => {
                headers.insert(header::HOST, self.host.clone());
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Some(scheme) => {
                uri.scheme = Some(scheme);
                uri.authority = Authority::try_from(self.host.as_bytes()).ok();
                *request.version_mut() = Version::HTTP_2;
            }
        }
        *request.uri_mut() = Uri::from_parts(uri).unwrap_or_default();
        request
    }
}

/// A random part of a time.
fn some_of(time: Duration) -> Duration {
    let [part] = random_bytes::<1>();
    time.mul_f64(f64::from(part) / 256.0)
}
