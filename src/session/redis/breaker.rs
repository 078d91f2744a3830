//! After some failures in a row nobody waits any more: one request in a while finds out whether it is over.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tracing::{info, warn};

/// Lets requests through as long as they succeed.
#[derive(Debug, Default)]
pub(super) struct Breaker(Mutex<Failures>);

#[derive(Debug, Default)]
struct Failures {
    in_a_row: u32,
    /// When the next request may try again.
    next_try: Option<Instant>,
}

const TOLERATED: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);

impl Breaker {
    /// Whether a request may be sent now.
    pub(super) fn admits(&self, now: Instant) -> bool {
        self.with(|failures| match failures.next_try {
            Some(next_try) if now < next_try => false,
            Some(_) => {
                // One tries; whether it comes back or is given up, the next does so after the same pause.
                failures.next_try = now.checked_add(PAUSE);
                true
            }
            None => true,
        })
    }

    pub(super) fn succeeded(&self) {
        let failures = self.with(std::mem::take);
        if failures.next_try.is_some() {
            info!("the session store answers again");
        }
    }

    pub(super) fn failed(&self, now: Instant, error: &dyn std::fmt::Display) {
        let opened = self.with(|failures| {
            failures.in_a_row = failures.in_a_row.saturating_add(1);
            let opens = failures.in_a_row >= TOLERATED && failures.next_try.is_none();
            if opens {
                failures.next_try = now.checked_add(PAUSE);
            }
            opens
        });
        if opened {
            warn!(%error, "the session store does not answer; requests that need it fail at once");
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Failures) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(now: Instant) -> Breaker {
        let breaker = Breaker::default();
        for _ in 0..TOLERATED {
            assert!(breaker.admits(now));
            breaker.failed(now, &"black hole");
        }
        breaker
    }

    #[test]
    fn after_five_failures_one_in_a_second_tries() {
        let now = Instant::now();
        let breaker = broken(now);
        assert!(!breaker.admits(now));
        assert!(!breaker.admits(now + PAUSE / 2));
        assert!(breaker.admits(now + PAUSE));
        assert!(!breaker.admits(now + PAUSE));
        breaker.failed(now + PAUSE, &"black hole");
        assert!(!breaker.admits(now + PAUSE + PAUSE / 2));
        assert!(breaker.admits(now + 2 * PAUSE));
    }

    #[test]
    fn one_success_lets_everybody_through() {
        let now = Instant::now();
        let breaker = broken(now);
        assert!(breaker.admits(now + PAUSE));
        breaker.succeeded();
        assert!(breaker.admits(now + PAUSE));
        assert!(breaker.admits(now + PAUSE));
    }

    #[test]
    fn failures_between_successes_are_tolerated() {
        let (now, breaker) = (Instant::now(), Breaker::default());
        for _ in 0..20 {
            breaker.failed(now, &"reset");
            breaker.succeeded();
        }
        assert!(breaker.admits(now));
    }
}
