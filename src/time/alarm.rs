//! A timer for waits that are nearly always over before their time.

use std::{
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    task::unconstrained,
    time::{Instant, Sleep, sleep_until},
};

/// A timer that is kept from one wait to the next.
///
/// It stays set when a wait is over, and a later one leaves it so unless it has to end earlier; when it goes off too
/// early, it is set again. So many short waits in a row cost the runtime's clockwork nothing.
#[derive(Debug, Default)]
pub struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Ready when the deadline is over; whoever polled last is woken then, and perhaps once before.
    pub fn poll(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.0.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        while timer.deadline() < deadline {
            ready!(ring(timer, cx));
            timer.as_mut().reset(deadline);
        }
        ring(timer, cx)
    }

    /// What the work comes to, or nothing when it takes longer than `limit`.
    pub async fn within<T>(&mut self, limit: Duration, mut work: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        let mut deadline = None;
        std::future::poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(done));
            }
            // The clock is read only once there is something to wait for.
            let deadline = deadline.get_or_insert_with(|| Instant::now().checked_add(limit));
            let Some(deadline) = *deadline else {
                return Poll::Pending;
            };
            self.poll(deadline, cx).map(|()| None)
        })
        .await
    }
}

/// Asked also where the task has done as much in its turn as it may: work that never rests would never be interrupted.
fn ring(timer: &mut Pin<Box<Sleep>>, cx: &mut Context<'_>) -> Poll<()> {
    pin!(unconstrained(timer.as_mut())).poll(cx)
}

#[cfg(test)]
mod tests {
    use std::{future::pending, pin::pin};

    use tokio::time::sleep;

    use super::*;

    const BRIEF: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(60);

    /// Whether a wait for what never comes lasts as long as it should.
    async fn waits_out(alarm: &mut Alarm, limit: Duration) -> bool {
        let begun = Instant::now();
        assert_eq!(alarm.within(limit, pin!(pending::<()>())).await, None);
        (limit..LONG / 2).contains(&begun.elapsed())
    }

    #[tokio::test]
    async fn each_wait_lasts_as_long_as_it_says() {
        let mut alarm = Alarm::default();
        for limit in [2 * BRIEF, 5 * BRIEF, BRIEF, 2 * BRIEF] {
            assert!(waits_out(&mut alarm, limit).await, "{limit:?}");
        }
    }

    #[tokio::test]
    async fn a_wait_is_neither_cut_short_nor_drawn_out_by_the_one_before() {
        let mut alarm = Alarm::default();
        for before in [2 * BRIEF, LONG] {
            assert_eq!(alarm.within(before, pin!(sleep(BRIEF / 4))).await, Some(()));
            assert!(waits_out(&mut alarm, 4 * BRIEF).await, "{before:?}");
        }
    }

    #[tokio::test]
    async fn one_that_went_off_meanwhile_is_set_again() {
        let mut alarm = Alarm::default();
        assert_eq!(alarm.within(2 * BRIEF, pin!(sleep(BRIEF / 4))).await, Some(()));
        sleep(4 * BRIEF).await;
        assert!(waits_out(&mut alarm, BRIEF).await);
    }

    #[tokio::test]
    async fn work_that_never_rests_is_interrupted() {
        let mut alarm = Alarm::default();
        let work = pin!(std::future::poll_fn(|cx| {
            while pin!(tokio::task::coop::consume_budget()).poll(cx).is_ready() {}
            Poll::<()>::Pending
        }));
        let waited = tokio::time::timeout(LONG, alarm.within(BRIEF, work));
        assert_eq!(waited.await, Ok(None));
    }

    #[tokio::test]
    async fn what_is_done_at_once_sets_nothing() {
        let mut alarm = Alarm::default();
        assert_eq!(alarm.within(BRIEF, pin!(async { 1 })).await, Some(1));
        assert!(alarm.0.is_none());
    }

    #[tokio::test]
    async fn a_limit_beyond_the_end_of_time_is_none() {
        let mut alarm = Alarm::default();
        assert_eq!(alarm.within(Duration::MAX, pin!(sleep(BRIEF))).await, Some(()));
    }
}
