//! How long things take; the one reader of the monotonic clock outside timers.

use std::time::{Duration, Instant};

/// Started once, read as often as needed.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    pub fn start() -> Self {
        Self(Instant::now())
    }

    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}
