//! When the tokens of a session should be replaced.

use std::time::Duration;

use super::Session;
use crate::time::Timestamp;

impl Session {
    /// When its access token should be replaced: `before` its end, or up to a quarter earlier.
    ///
    /// How much earlier follows from the session and its token, so that all requests and all replicas agree, and so
    /// that sessions that began together do not all come to the provider together. A token serves at least half of its
    /// life: one that lives shorter than `before` would otherwise be replaced at every request.
    pub fn refresh_due(&self, before: Duration) -> Timestamp {
        due(
            &self.id,
            self.login.access_received_at,
            self.login.access_expires_at,
            before,
        )
    }
}

fn due(session: &str, from: Timestamp, until: Timestamp, before: Duration) -> Timestamp {
    let half = until.since(from).checked_div(2).unwrap_or_default();
    let ahead = before.saturating_add(jitter(session, until, before));
    until.minus(ahead.min(half))
}

/// Whole seconds, at most a quarter of `before`.
fn jitter(session: &str, until: Timestamp, before: Duration) -> Duration {
    let quarter = before.as_secs().checked_div(4).unwrap_or_default();
    let steps = quarter.saturating_add(1);
    Duration::from_secs(spread(session, until).checked_rem(steps).unwrap_or_default())
}

/// The hash FNV-1a: known to every release alike, and nothing depends on that nobody can foresee it.
fn spread(session: &str, until: Timestamp) -> u64 {
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let end = until.unix().to_be_bytes();
    let bytes = session.bytes().chain(end);
    bytes.fold(BASIS, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    const FROM: Timestamp = Timestamp::from_unix(1_800_000_000);

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn due_after(session: &str, life: u64, before: u64) -> u64 {
        due(session, FROM, FROM.plus(seconds(life)), seconds(before))
            .since(FROM)
            .as_secs()
    }

    #[test]
    fn a_short_token_serves_half_of_its_life() {
        for (life, earliest) in [(30, 15), (61, 31), (119, 60), (3, 2), (2, 1), (1, 1), (0, 0)] {
            assert_eq!(due_after("a", life, 60), earliest, "{life}");
        }
    }

    #[test]
    fn sessions_that_began_together_are_spread_evenly() {
        let moments: Vec<_> = (0..1_600)
            .map(|id| due_after(&format!("session-{id}"), 300, 60))
            .collect();
        let distinct: HashSet<_> = moments.iter().collect();
        assert_eq!(distinct.len(), 16, "every second of 225..=240");
        for moment in 225..=240 {
            let there = moments.iter().filter(|it| **it == moment).count();
            assert!((50..=150).contains(&there), "{there} at {moment}");
        }
    }

    #[test]
    fn one_session_moves_from_generation_to_generation() {
        let moments: HashSet<_> = (300..400).map(|life| life - due_after("a", life, 60)).collect();
        assert!(moments.len() > 8, "{moments:?}");
    }

    #[test]
    fn a_token_that_was_over_before_it_came_is_due_at_its_end() {
        assert_eq!(
            due("a", FROM, FROM.minus(seconds(9)), seconds(60)),
            FROM.minus(seconds(9))
        );
    }

    proptest! {
        #[test]
        fn it_is_due_before_its_end_and_not_in_the_first_half_of_its_life(
            session in ".{0,40}", life in 0_u64..100_000, before in 0_u64..100_000,
        ) {
            let after = due_after(&session, life, before);
            prop_assert!(after <= life);
            prop_assert!(after >= life.div_ceil(2));
        }

        #[test]
        fn the_jitter_is_at_most_a_quarter(session in ".{0,40}", life in 300_u64..100_000, before in 0_u64..100) {
            let ahead = life - due_after(&session, life, before);
            prop_assert!(ahead >= before);
            prop_assert!(ahead <= before + before / 4);
        }

        #[test]
        fn no_time_is_too_far_away(session in ".{0,40}", from: i64, until: i64, before: u64) {
            let (from, until) = (Timestamp::from_unix(from), Timestamp::from_unix(until));
            let due = due(&session, from, until, seconds(before));
            prop_assert!(due <= until);
        }
    }
}
