//! When a configuration is loaded again: at a signal, and when its files have changed.
//!
//! The files are looked at instead of listened to: that works on every disk, through the links that orchestrators flip
//! and the renaming of editors, and cannot run out of anything.

use std::{
    convert::Infallible,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    signal::unix::Signal,
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};

use super::{notify, reload::Reloader};
use crate::{
    config::{self, Problems, Settings, Sources},
    time::{Clock, SystemClock},
};

/// How often the files are looked at. What changed is loaded when it looks the same twice: nobody is writing any more.
const ROUND: Duration = Duration::from_secs(2);

/// The files of a configuration.
#[derive(Debug)]
pub(super) struct Watch {
    file: PathBuf,
    /// As they were when they were loaded last, whatever came of it.
    loaded: Sources,
    /// As they were seen a round ago, where that is something else.
    changing: Option<Sources>,
    /// Whether anybody wants them looked at.
    enabled: bool,
}

impl Watch {
    pub(super) fn over(file: &Path, loaded: Sources, enabled: bool) -> Self {
        Self {
            file: file.to_owned(),
            loaded,
            changing: None,
            enabled,
        }
    }

    /// Gives the gateway another configuration whenever there is one.
    pub(super) async fn keep_up(mut self, mut reloader: Reloader, mut told: Signal) -> Infallible {
        let mut rounds = interval(ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let due = tokio::select! {
                Some(()) = told.recv() => true,
                _ = rounds.tick() => self.enabled && self.has_changed().await,
            };
            if !due {
                continue;
            }
            notify::reloading();
            if let Some(loaded) = self.load().await {
                self.enabled = loaded.as_ref().map_or(self.enabled, |settings| settings.watch);
                // What became of it stands in the log.
                drop(reloader.take(loaded));
            }
            notify::ready();
        }
    }

    /// Whether there is something new, and it is all there.
    async fn has_changed(&mut self) -> bool {
        let loaded = self.loaded.clone();
        // Elsewhere, as all that waits for a disk: one that does not answer must not keep anybody from stopping.
        let Ok(now) = spawn_blocking(move || loaded.again()).await else {
            return false;
        };
        if now.are_as(&self.loaded) {
            self.changing = None;
            return false;
        }
        let settled = self.changing.as_ref().is_some_and(|before| before.are_as(&now));
        self.changing = Some(now);
        settled
    }

    async fn load(&mut self) -> Option<Result<Settings, Problems>> {
        let file = self.file.clone();
        let load = move || {
            let mut sources = Sources::default();
            let loaded = config::load_noting(&file, &mut sources, SystemClock.now());
            (loaded, sources)
        };
        match spawn_blocking(load).await {
            Ok((loaded, sources)) => {
                self.loaded = sources;
                self.changing = None;
                Some(loaded)
            }
            Err(error) => {
                tracing::error!(%error, "the configuration could not be loaded");
                None
            }
        }
    }
}
