//! Counts the sessions that an old key still holds, so that whoever runs the gateway knows when to take it out.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::time::{MissedTickBehavior, interval};

use crate::{session::Sessions, telemetry::Metrics, time::Clock};

const ROUND: Duration = Duration::from_secs(30);

/// Starts a task that counts as long as there are these sessions, unless they have one key only.
pub(super) fn count(sessions: &Arc<Sessions>, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) {
    if !sessions.has_old_keys() {
        return metrics.sessions_on_old_key(Some(0));
    }
    metrics.sessions_on_old_key(None);
    // Without one there are no requests either.
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(run(Arc::downgrade(sessions), clock, metrics));
    }
}

async fn run(sessions: Weak<Sessions>, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) {
    let mut rounds = interval(ROUND);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        let Some(sessions) = sessions.upgrade() else { return };
        let counted = sessions.on_old_keys(clock.now()).await;
        if let Err(error) = &counted {
            tracing::warn!(%error, "the sessions on old keys cannot be counted");
        }
        metrics.sessions_on_old_key(counted.ok().flatten());
    }
}
