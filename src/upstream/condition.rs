//! How well one of several servers is: what its answers say, and what it says when it is asked.

use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::settings::Ejection;
use crate::telemetry::UpstreamNumbers;

/// What is known of one server; it outlasts a reload.
#[derive(Debug)]
pub(super) struct Condition {
    /// Exchanges that are under way.
    load: AtomicUsize,
    /// In a row.
    failures: AtomicU32,
    /// Since it last answered.
    ejections: AtomicU32,
    /// In milliseconds from [`START`]; 0: it is not left out.
    ejected_until: AtomicU64,
    /// Whether it failed its health checks.
    is_ill: AtomicBool,
    /// For whoever reads the log.
    route: Box<str>,
    numbers: UpstreamNumbers,
}

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// No ejection is longer than this many times the first.
const LONGEST: u32 = 32;

impl Condition {
    pub(super) fn new(route: &str, numbers: UpstreamNumbers) -> Self {
        LazyLock::force(&START);
        Self {
            load: AtomicUsize::default(),
            failures: AtomicU32::default(),
            ejections: AtomicU32::default(),
            ejected_until: AtomicU64::default(),
            is_ill: AtomicBool::default(),
            route: route.into(),
            numbers,
        }
    }

    /// Whether it is left out for now because it did not answer.
    pub(super) fn is_ejected(&self, now: Instant) -> bool {
        self.ejected_until.load(Ordering::Relaxed) > millis(now)
    }

    /// Whether it failed its health checks, where somebody makes them.
    pub(super) fn is_ill(&self) -> bool {
        self.is_ill.load(Ordering::Relaxed)
    }

    pub(super) fn load(&self) -> usize {
        self.load.load(Ordering::Relaxed)
    }

    /// It answered.
    pub(super) fn answered(&self, upstream: &str) {
        if self.failures.load(Ordering::Relaxed) == 0 {
            return;
        }
        self.failures.store(0, Ordering::Relaxed);
        self.ejections.store(0, Ordering::Relaxed);
        if self.ejected_until.swap(0, Ordering::Relaxed) != 0 {
            tracing::info!(route = &*self.route, upstream, "the upstream answers again");
            self.tell();
        }
    }

    /// It did not answer; `failures` in a row leave it out for a while, and each further one for twice as long.
    pub(super) fn failed(&self, upstream: &str, ejection: Ejection, now: Instant) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let until = self.ejected_until.load(Ordering::Relaxed);
        if failures < ejection.failures || until > millis(now) {
            return;
        }
        let before = self.ejections.load(Ordering::Relaxed);
        let length = ejection
            .time
            .saturating_mul(1_u32.checked_shl(before).unwrap_or(LONGEST).min(LONGEST));
        let end = millis(now).saturating_add(whole_millis(length)).max(1);
        // Of those that fail together, one ejects.
        let ejects = self
            .ejected_until
            .compare_exchange(until, end, Ordering::Relaxed, Ordering::Relaxed);
        if ejects.is_ok() {
            self.ejections.store(before.saturating_add(1), Ordering::Relaxed);
            self.numbers.ejections.inc();
            tracing::warn!(
                route = &*self.route,
                upstream,
                failures,
                seconds = length.as_secs_f64(),
                "the upstream is left out for a while"
            );
            self.tell();
        }
    }

    /// Health checks have found it well, or ill, often enough to be believed.
    pub(super) fn is_found(&self, well: bool, upstream: &str) {
        if self.is_ill.swap(!well, Ordering::Relaxed) == well {
            match well {
                true => tracing::info!(route = &*self.route, upstream, "the upstream passes its health checks"),
                false => tracing::warn!(route = &*self.route, upstream, "the upstream fails its health checks"),
            }
            self.tell();
        }
    }

    fn tell(&self) {
        let ejected = self.ejected_until.load(Ordering::Relaxed) != 0;
        self.numbers
            .is_healthy(!ejected && !self.is_ill.load(Ordering::Relaxed));
    }
}

fn millis(instant: Instant) -> u64 {
    whole_millis(instant.saturating_duration_since(*START))
}

fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Counts as an exchange for as long as it lives.
#[derive(Debug)]
pub(super) struct Load(Arc<Condition>);

impl Load {
    pub(super) fn on(condition: &Arc<Condition>) -> Self {
        condition.load.fetch_add(1, Ordering::Relaxed);
        Self(condition.clone())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.load.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;

    const EJECTION: Ejection = Ejection {
        failures: 2,
        time: Duration::from_secs(10),
    };

    fn after(start: Instant, seconds: u64) -> Instant {
        start.checked_add(Duration::from_secs(seconds)).unwrap()
    }

    #[test]
    fn failures_in_a_row_eject_for_longer_and_longer_and_an_answer_ends_it() {
        let metrics = Metrics::default();
        let condition = Condition::new("wiki", metrics.upstream("wiki", "http://a"));
        let start = after(Instant::now(), 1);
        let fail = |at| condition.failed("a", EJECTION, after(start, at));
        let fit = |at| !condition.is_ejected(after(start, at));
        fail(0);
        assert!(fit(0));
        fail(0);
        fail(1);
        assert!(!fit(9) && fit(10));
        // Once it is back, one failure is enough.
        fail(10);
        assert!(!fit(29) && fit(30));
        assert!(
            metrics
                .encode()
                .contains("upstream_healthy{route=\"wiki\",upstream=\"http://a\"} 0\n")
        );
        assert!(
            metrics
                .encode()
                .contains("upstream_ejections_total{route=\"wiki\",upstream=\"http://a\"} 2\n")
        );
        condition.answered("a");
        assert!(fit(10) && metrics.encode().contains("upstream=\"http://a\"} 1\n"));
        fail(40);
        assert!(fit(40), "it begins anew");
        drop(condition);
        assert!(!metrics.encode().contains("http://a"));
    }

    #[test]
    fn no_ejection_is_longer_than_32_times_the_first() {
        let condition = Condition::new("wiki", Metrics::default().upstream("wiki", "http://a"));
        let mut now = after(Instant::now(), 1);
        for _ in 0..70 {
            condition.failed("a", EJECTION, now);
            now = after(now, 320);
            assert!(!condition.is_ejected(now));
        }
    }

    #[test]
    fn who_fails_health_checks_is_left_out_until_they_pass() {
        let condition = Condition::new("wiki", Metrics::default().upstream("wiki", "http://a"));
        condition.is_found(false, "a");
        assert!(condition.is_ill());
        condition.is_found(true, "a");
        assert!(!condition.is_ill());
    }
}
