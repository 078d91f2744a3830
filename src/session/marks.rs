//! Which sessions have ended, of those that browsers hold: bounded, and quick to say that one has not.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{secret::Fingerprint, time::Timestamp};

/// Since when sessions under an index have ended, for as long as one of them could live.
///
/// Every request of such a session asks, and hardly one of them is over: a table of counters says so without a lock.
pub(super) struct Marks {
    /// How many marks share a place; one that reaches the top stays there.
    counters: Box<[AtomicU8]>,
    kept: RwLock<Kept>,
    limit: usize,
}

#[derive(Default)]
struct Kept {
    by_index: HashMap<Fingerprint, Mark>,
    /// The first is the next that nobody needs any more.
    by_end: BTreeSet<(Instant, Fingerprint)>,
}

#[derive(Clone, Copy)]
struct Mark {
    at: Timestamp,
    until: Instant,
}

/// One in forty indices meets a foreign mark when there are ten thousand marks.
const COUNTERS: usize = 1 << 18;

impl Marks {
    /// For so many at most; when there are more, those go first that are over soonest.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            counters: (0..COUNTERS).map(|_| AtomicU8::new(0)).collect(),
            kept: RwLock::default(),
            limit,
        }
    }

    /// Notes that what began until `at` has ended; says whether that is more than was known.
    ///
    /// Whoever ends less than somebody did before brings nothing back.
    pub(super) fn note(&self, index: Fingerprint, at: Timestamp, life: Duration) -> bool {
        let now = Instant::now();
        let until = now.checked_add(life.min(LONGEST)).unwrap_or(now);
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        let known = kept.by_index.get(&index).copied();
        let mark = Mark {
            at: known.map_or(at, |known| known.at.max(at)),
            until: known.map_or(until, |known| known.until.max(until)),
        };
        match known {
            Some(known) => drop(kept.by_end.remove(&(known.until, index))),
            None => {
                self.make_room(&mut kept, now);
                self.count_in(&index);
            }
        }
        kept.by_end.insert((mark.until, index));
        kept.by_index.insert(index, mark);
        known.is_none_or(|known| known.at < at || known.until <= now)
    }

    /// Since when sessions under any of these have ended.
    pub(super) fn ended_at(&self, indices: &[Fingerprint]) -> Option<Timestamp> {
        if self.none_of(indices) {
            return None;
        }
        let now = Instant::now();
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let marks = indices.iter().filter_map(|index| kept.by_index.get(index));
        marks.filter(|mark| mark.until > now).map(|mark| mark.at).max()
    }

    /// Whether none of these has a mark for sure.
    pub(super) fn none_of(&self, indices: &[Fingerprint]) -> bool {
        let is_free = |counter: &AtomicU8| counter.load(Ordering::Acquire) == 0;
        indices.iter().all(|index| self.counter(index).is_none_or(is_free))
    }

    /// All that still count, and for how long.
    pub(super) fn all(&self) -> Vec<(Fingerprint, Timestamp, Duration)> {
        let now = Instant::now();
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let marks = kept.by_index.iter().filter(|(_, mark)| mark.until > now);
        marks
            .map(|(index, mark)| (*index, mark.at, mark.until.saturating_duration_since(now)))
            .collect()
    }

    fn make_room(&self, kept: &mut Kept, now: Instant) {
        while let Some((until, index)) = kept.by_end.first().copied() {
            if until > now && kept.by_index.len() < self.limit {
                return;
            }
            kept.by_end.remove(&(until, index));
            kept.by_index.remove(&index);
            self.count_out(&index);
        }
    }

    // Only changed by who has the lock; what is counted in before it is kept is never overlooked.

    fn count_in(&self, index: &Fingerprint) {
        if let Some(counter) = self.counter(index) {
            let count = counter.load(Ordering::Relaxed);
            counter.store(count.saturating_add(1), Ordering::Release);
        }
    }

    fn count_out(&self, index: &Fingerprint) {
        if let Some(counter) = self.counter(index) {
            let count = counter.load(Ordering::Relaxed);
            if count < u8::MAX {
                counter.store(count.saturating_sub(1), Ordering::Release);
            }
        }
    }

    /// Fingerprints are evenly spread over all values, so that some of their bits do for a place.
    fn counter(&self, index: &Fingerprint) -> Option<&AtomicU8> {
        let [a, b, c, ..] = *index.as_bytes();
        let place = u32::from_be_bytes([0, a, b, c]);
        self.counters.get(place as usize % COUNTERS)
    }
}

/// Far beyond the life of any session, and what a clock can still add.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

impl fmt::Debug for Marks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Marks").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::secret::random_bytes;

    const LIFE: Duration = Duration::from_secs(60);

    fn index() -> Fingerprint {
        Fingerprint::from_bytes(random_bytes())
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_unix(second)
    }

    #[test]
    fn what_was_noted_is_known_and_nothing_else() {
        let (marks, noted, other) = (Marks::new(10), index(), index());
        assert!(marks.none_of(&[noted, other]));
        assert!(marks.note(noted, at(5), LIFE));
        assert!(!marks.none_of(&[other, noted]));
        assert_eq!(marks.ended_at(&[other, noted]), Some(at(5)));
        assert_eq!(marks.ended_at(&[other]), None);
    }

    #[test]
    fn only_more_than_was_known_is_news() {
        let (marks, index) = (Marks::new(10), index());
        assert!(marks.note(index, at(5), LIFE));
        assert!(!marks.note(index, at(5), LIFE));
        assert!(!marks.note(index, at(4), LIFE));
        assert_eq!(marks.ended_at(&[index]), Some(at(5)));
        assert!(marks.note(index, at(6), LIFE));
    }

    #[test]
    fn what_is_over_soonest_makes_room() {
        let marks = Marks::new(2);
        let [long, short, middle] = [(); 3].map(|()| index());
        for (index, life) in [(long, 3 * LIFE), (short, LIFE), (middle, 2 * LIFE)] {
            marks.note(index, at(1), life);
        }
        let known = [long, short, middle].map(|index| marks.ended_at(&[index]).is_some());
        assert_eq!(known, [true, false, true]);
        assert!(marks.none_of(&[short]), "and takes no time any more");
    }

    #[test]
    fn a_mark_whose_time_is_over_says_nothing() {
        let (marks, over) = (Marks::new(10), index());
        marks.note(over, at(5), Duration::ZERO);
        assert_eq!(marks.ended_at(&[over]), None);
        assert!(marks.all().is_empty());
        assert!(marks.note(over, at(5), LIFE), "news again");
    }

    #[test]
    fn nothing_ends_unseen_while_others_look_and_make_room() {
        let marks = Marks::new(2_500);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for second in 0..500 {
                        // Of these there are too many; they are over sooner than the two thousand that count.
                        marks.note(index(), at(second), LIFE);
                        let index = index();
                        marks.note(index, at(second), 2 * LIFE);
                        assert_eq!(marks.ended_at(&[index]), Some(at(second)));
                    }
                });
            }
        });
        assert_eq!(marks.all().len(), 2_500);
    }

    proptest! {
        #[test]
        fn marks_agree_with_a_plain_list(notes in prop::collection::vec((0_u8..20, 0_i64..50), 0..60)) {
            let (marks, mut plain) = (Marks::new(100), HashMap::new());
            let index = |number: u8| Fingerprint::from_bytes([number; 32]);
            for (number, second) in notes {
                marks.note(index(number), at(second), LIFE);
                let known = plain.entry(number).or_insert(second);
                *known = second.max(*known);
            }
            for number in 0..20 {
                prop_assert_eq!(marks.ended_at(&[index(number)]), plain.get(&number).map(|second| at(*second)));
            }
        }
    }
}
