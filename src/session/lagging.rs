//! Sessions in cookies that an old key sealed: nobody can count what browsers hold, but who comes can be counted.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::time::Timestamp;

/// Who came with an old key and has not come back with the new one.
#[derive(Debug)]
pub(super) struct Lagging {
    idle_timeout: Duration,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// When each came, by the id of the session.
    came: HashMap<Box<str>, Timestamp>,
    /// From when on who is not among them has no session any more; absent before the first count.
    sure_from: Option<Timestamp>,
}

const LIMIT: usize = 100_000;

impl Lagging {
    /// For sessions that end when they are not used for so long.
    pub(super) fn within(idle_timeout: Duration) -> Self {
        Self {
            idle_timeout,
            seen: Mutex::default(),
        }
    }

    pub(super) fn came(&self, session: &str, now: Timestamp) {
        let mut seen = self.seen();
        if seen.came.len() >= LIMIT && !seen.came.contains_key(session) {
            seen.sure_from = Some(now.plus(self.idle_timeout));
            return;
        }
        seen.came.insert(session.into(), now);
    }

    pub(super) fn moved_on(&self, session: &str) {
        self.seen().came.remove(session);
    }

    /// How many there are; `None` when there seem to be none and it is too early to tell.
    pub(super) fn count(&self, now: Timestamp) -> Option<usize> {
        let mut seen = self.seen();
        let sure_from = *seen.sure_from.get_or_insert_with(|| now.plus(self.idle_timeout));
        seen.came.retain(|_, came| now < came.plus(self.idle_timeout));
        let count = seen.came.len();
        (count > 0 || now >= sure_from).then_some(count)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_unix(1_800_000_000);
    const IDLE: Duration = Duration::from_secs(1_800);

    #[test]
    fn nobody_is_nobody_only_after_an_idle_timeout() {
        let lagging = Lagging::within(IDLE);
        assert_eq!(lagging.count(NOW), None);
        assert_eq!(lagging.count(NOW.plus(IDLE / 2)), None);
        assert_eq!(lagging.count(NOW.plus(IDLE)), Some(0));
    }

    #[test]
    fn who_came_is_counted_until_the_new_key_or_the_end_of_the_session() {
        let lagging = Lagging::within(IDLE);
        lagging.count(NOW);
        for session in ["a", "b", "a"] {
            lagging.came(session, NOW.plus(IDLE / 2));
        }
        assert_eq!(lagging.count(NOW.plus(IDLE)), Some(2));
        lagging.moved_on("a");
        assert_eq!(lagging.count(NOW.plus(IDLE)), Some(1));
        assert_eq!(lagging.count(NOW.plus(2 * IDLE)), Some(0));
    }

    #[test]
    fn who_was_too_many_to_be_counted_is_waited_for() {
        let lagging = Lagging::within(IDLE);
        lagging.count(NOW);
        let late = NOW.plus(IDLE);
        for session in 0..=LIMIT {
            lagging.came(&session.to_string(), late);
        }
        assert_eq!(lagging.count(late), Some(LIMIT));
        for session in 0..LIMIT {
            lagging.moved_on(&session.to_string());
        }
        assert_eq!(lagging.count(late), None);
        assert_eq!(lagging.count(late.plus(IDLE)), Some(0));
    }
}
