//! Which of several servers a request goes to, and when it goes to a second one.

use std::{ptr, sync::atomic::Ordering};

use http::Request;
use tokio::time::Instant;

use super::{
    Balance, Upstream, UpstreamError,
    condition::{Condition, Load},
    exchange::Exchange,
    instance::{Answered, Failed, Instance},
    upload::RequestBody,
};

impl Upstream {
    /// Asks one of several servers, and another one when the first had nothing of the request, or when it does no harm to
    /// ask twice (F-07).
    pub(super) async fn balanced(
        &self,
        request: Request<RequestBody>,
        exchange: &mut Exchange<'_>,
    ) -> Result<(Answered, Option<Load>), UpstreamError> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let first = self.choose(turn, None).ok_or_else(nowhere)?;
        let failed = match self.observed(first, request, exchange).await {
            Ok(answered) => return Ok(answered),
            Err(failed) => failed,
        };
        let Some(second) = self.choose(turn, Some(first)) else {
            return Err(failed.error);
        };
        let request = match failed.unsent {
            Some(unsent) => *unsent,
            // What broke off may have been seen to in part.
            None => self.second_attempt(&mut exchange.again, failed.error)?,
        };
        self.count_retry();
        Ok(self.observed(second, request, exchange).await?)
    }

    /// One attempt, which counts for the condition of who is asked.
    async fn observed(
        &self,
        instance: &Instance,
        request: Request<RequestBody>,
        exchange: &mut Exchange<'_>,
    ) -> Result<(Answered, Option<Load>), Failed> {
        let load = instance.condition.as_ref().map(Load::on);
        let outcome = self.attempt(instance, request, exchange).await;
        if let Some(condition) = &instance.condition {
            match &outcome {
                Ok(_) => condition.answered(&instance.name),
                Err(failed) if failed.is_its_fault() => {
                    condition.failed(&instance.name, self.settings.ejection, Instant::now());
                }
                Err(_) => {}
            }
        }
        outcome.map(|answered| (answered, load))
    }

    /// One that is fit, or any where none is.
    fn choose(&self, turn: usize, not: Option<&Instance>) -> Option<&Instance> {
        let now = Instant::now();
        let others = self
            .instances
            .iter()
            .filter(|instance| not.is_none_or(|not| !ptr::eq(*instance, not)));
        let fit = others.clone().filter(|instance| self.is_fit(instance, now));
        let chosen = pick(self.settings.balance, fit, turn);
        chosen.or_else(|| pick(self.settings.balance, others, turn))
    }
}

impl Upstream {
    /// What an earlier configuration found out by asking counts only where this one asks, too.
    fn is_fit(&self, instance: &Instance, now: Instant) -> bool {
        let asks = self.settings.health.is_some();
        let unfit = |condition: &Condition| condition.is_ejected(now) || (asks && condition.is_ill());
        !instance.condition.as_ref().is_some_and(|condition| unfit(condition))
    }
}

fn pick<'a>(
    balance: Balance,
    candidates: impl Iterator<Item = &'a Instance> + Clone,
    turn: usize,
) -> Option<&'a Instance> {
    let start = turn.checked_rem(candidates.clone().count())?;
    match balance {
        Balance::RoundRobin => candidates.clone().nth(start),
        // Of equals, each in its turn.
        Balance::LeastRequests => {
            let from_start = candidates.clone().skip(start).chain(candidates.clone().take(start));
            from_start.min_by_key(|instance| instance.load())
        }
    }
    // Somebody may have become unfit in between.
    .or_else(|| candidates.clone().next())
}

impl Instance {
    fn load(&self) -> usize {
        self.condition.as_ref().map_or(0, |condition| condition.load())
    }
}

impl Failed {
    /// Whether the server is to blame, and neither the client nor the gateway.
    fn is_its_fault(&self) -> bool {
        match self.error {
            UpstreamError::Unreachable(_)
            | UpstreamError::TimedOut
            | UpstreamError::Over
            | UpstreamError::Nonsense(_) => true,
            UpstreamError::BodyTooLarge
            | UpstreamError::ClientGone
            | UpstreamError::Identity(_)
            | UpstreamError::Cut
            // A client may have taken that long to send.
            | UpstreamError::OverInUpload => false,
        }
    }
}

pub(super) fn nowhere() -> UpstreamError {
    UpstreamError::Unreachable("the route has no upstream".into())
}
