//! Ends what lasts longer than it may: one task of a gateway, which hears of endings and looks at the clock.

use std::{
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    task::{JoinHandle, JoinSet},
    time::{MissedTickBehavior, interval},
};

use super::streams::Streams;
use crate::session::Ended;

/// How often the clock is looked at.
const ROUND: Duration = Duration::from_secs(1);
/// How long a session that seems to be over is given when the store does not say whether it was seen elsewhere.
const UNKNOWN: Duration = Duration::from_secs(60);

/// Starts the task, unless there is one. Whoever notes an exchange calls this: the runtime of the last task may be gone.
pub(super) fn see_to(streams: &Arc<Streams>) {
    if streams.watched.swap(true, Ordering::AcqRel) {
        return;
    }
    let watch = Watch {
        endings: streams.sessions().endings(),
        streams: Arc::downgrade(streams),
        _flag: Flag(Arc::downgrade(streams)),
    };
    // What ended while nobody listened has to be looked for.
    streams.doubt();
    tokio::spawn(watch.run());
}

struct Watch {
    endings: Receiver<Ended>,
    streams: Weak<Streams>,
    _flag: Flag,
}

/// Taken down with the task, also when its runtime ends before it.
struct Flag(Weak<Streams>);

impl Drop for Flag {
    fn drop(&mut self) {
        if let Some(streams) = self.0.upgrade() {
            streams.watched.store(false, Ordering::Release);
        }
    }
}

impl Watch {
    /// Runs as long as there is a gateway, or an exchange that it began.
    async fn run(mut self) {
        let mut rounds = interval(ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looking: Option<JoinHandle<()>> = None;
        loop {
            let heard = tokio::select! {
                heard = self.endings.recv() => Some(heard),
                _ = rounds.tick() => None,
            };
            let Some(streams) = self.streams.upgrade() else { return };
            match heard {
                None => {
                    streams.cut_tokens(streams.clock.now());
                    streams.cut_certificates(streams.clock.now());
                    // What is heard meanwhile does not wait for the store.
                    if looking.as_ref().is_none_or(JoinHandle::is_finished) {
                        looking = Some(tokio::spawn(look(streams)));
                    }
                }
                Some(Ok(Ended::Unheard) | Err(RecvError::Lagged(_))) => streams.doubt(),
                Some(Ok(ended)) => streams.hear(&ended),
                Some(Err(RecvError::Closed)) => {
                    rounds.tick().await;
                    self.endings = streams.sessions().endings();
                    streams.doubt();
                }
            }
        }
    }
}

/// Sessions that a store is asked about at once.
const AT_ONCE: usize = 32;

/// Cuts what is over by the clock; a session may have been seen elsewhere meanwhile, so its store is asked first.
async fn look(streams: Arc<Streams>) {
    let now = streams.clock.now();
    let mut doubtful = streams.doubtful(now).into_iter();
    let mut asked = JoinSet::new();
    loop {
        for held in doubtful.by_ref().take(AT_ONCE.saturating_sub(asked.len())) {
            let sessions = streams.sessions();
            asked.spawn(async move { (sessions.lasts_until(&held).await, held) });
        }
        match asked.join_next().await {
            None => return,
            Some(Ok((Ok(ends_at), held))) => streams.settle(&held.session, ends_at, now),
            Some(Ok((Err(error), _))) => {
                // It would not answer for the next one either; the next round asks again.
                tracing::warn!(%error, "nobody knows whether sessions with open streams have ended");
                return streams.cut_overdue(now.minus(UNKNOWN));
            }
            // It panicked, and has said so; the next round asks again.
            Some(Err(_)) => {}
        }
    }
}
