//! Ends what lasts longer than it may: one task of a gateway, which hears of endings and looks at the clock.

use std::{
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
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
        loop {
            let heard = tokio::select! {
                heard = self.endings.recv() => Some(heard),
                _ = rounds.tick() => None,
            };
            let Some(streams) = self.streams.upgrade() else { return };
            match heard {
                None => look(&streams).await,
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

/// Cuts what is over by the clock; a session may have been seen elsewhere meanwhile, so its store is asked first.
async fn look(streams: &Streams) {
    let now = streams.clock.now();
    streams.cut_tokens(now);
    for held in streams.doubtful(now) {
        match streams.sessions().lasts_until(&held).await {
            Ok(ends_at) => streams.settle(&held.session, ends_at, now),
            Err(error) => {
                // It would not answer for the next one either; the next round asks again.
                tracing::warn!(%error, "nobody knows whether sessions with open streams have ended");
                return streams.cut_overdue(now.minus(UNKNOWN));
            }
        }
    }
}
