//! Points in time, and the one seam through which the program learns what time it is.

mod alarm;
pub mod duration;

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

pub use alarm::Alarm;

/// A point on the wall clock, in whole seconds since the Unix epoch (RFC 7519 §2, `NumericDate`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    pub const fn from_unix(seconds: i64) -> Self {
        Self(seconds)
    }

    pub const fn unix(self) -> i64 {
        self.0
    }

    /// The later point; saturates at the end of time instead of wrapping.
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(whole_seconds(duration)))
    }

    /// The earlier point; saturates at the beginning of time instead of wrapping.
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(whole_seconds(duration)))
    }

    /// How long ago `earlier` was; zero when it lies in the future.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

fn whole_seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// Where `now` comes from.
pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> Timestamp;
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "this is the clock that everybody else asks")]
        let now = SystemTime::now();
        // Before 1970 there were no tokens: a clock that far off reads as the epoch, and everything has yet to begin.
        let elapsed = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Timestamp(whole_seconds(elapsed))
    }
}

/// A clock that moves only when it is told to.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    pub const fn starting_at(now: Timestamp) -> Self {
        Self(AtomicI64::new(now.0))
    }

    pub fn advance(&self, duration: Duration) {
        self.0.fetch_add(whole_seconds(duration), Ordering::SeqCst);
    }

    pub fn set(&self, now: Timestamp) {
        self.0.store(now.0, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        let end = Timestamp::from_unix(i64::MAX);
        assert_eq!(end.plus(Duration::from_secs(1)), end);
        let start = Timestamp::from_unix(i64::MIN);
        assert_eq!(start.minus(Duration::MAX), start);
    }

    #[test]
    fn the_future_is_no_time_ago() {
        let now = Timestamp::from_unix(100);
        assert_eq!(now.since(Timestamp::from_unix(160)), Duration::ZERO);
        assert_eq!(now.since(Timestamp::from_unix(40)), Duration::from_secs(60));
    }

    #[test]
    fn the_manual_clock_moves_only_when_told() {
        let clock = ManualClock::starting_at(Timestamp::from_unix(1_000));
        assert_eq!(clock.now().unix(), 1_000);
        clock.advance(Duration::from_secs(30));
        assert_eq!(clock.now().unix(), 1_030);
    }
}
