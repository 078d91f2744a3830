//! Another configuration in the place of the one that serves.

use std::{fmt, mem, sync::Arc, time::Duration};

use crate::{
    config::{Problems, Settings},
    gateway::{Generations, StartError},
    server::{
        self,
        tls::{Front, TlsError},
    },
    session::{CookieSettings, StoreSettings},
    telemetry::{LogSettings, Metrics, Reload},
    time::Clock,
};

/// Gives a gateway that serves other settings.
pub struct Reloader {
    gateway: Arc<Generations>,
    front: Option<Arc<Front>>,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    started: Started,
}

impl fmt::Debug for Reloader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloader").finish_non_exhaustive()
    }
}

/// Why the earlier configuration serves on.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    #[error(transparent)]
    Problems(#[from] Problems),
    #[error("{} cannot change without a restart", .0.join(" and "))]
    NeedsRestart(Vec<&'static str>),
    #[error(transparent)]
    Gateway(#[from] StartError),
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl Reloader {
    pub(super) fn new(
        gateway: Arc<Generations>,
        front: Option<Arc<Front>>,
        metrics: Arc<Metrics>,
        clock: Arc<dyn Clock>,
        started: Started,
    ) -> Self {
        Self {
            gateway,
            front,
            metrics,
            clock,
            started,
        }
    }

    /// Serves by these settings from now on, and says so in the log.
    ///
    /// # Errors
    /// When something is wrong with them. The log says what, and nothing has changed.
    pub fn take(&mut self, loaded: Result<Settings, Problems>) -> Result<(), ReloadError> {
        let outcome = loaded
            .map_err(ReloadError::from)
            .and_then(|settings| self.replace(settings));
        match &outcome {
            Ok(cut) => {
                self.metrics.reload(Reload::Done);
                tracing::info!(cut, "the configuration was reloaded");
            }
            Err(error) => {
                self.metrics.reload(Reload::Refused);
                tell(error);
                tracing::error!("the configuration was not reloaded: the earlier one serves on");
            }
        }
        outcome.map(drop)
    }

    fn replace(&self, mut settings: Settings) -> Result<usize, ReloadError> {
        let changed = Started::with(&settings);
        let refused = self.started.refuses(&changed);
        if !refused.is_empty() {
            return Err(ReloadError::NeedsRestart(refused));
        }
        let tls = self.front.as_ref().zip(settings.server.tls.as_ref());
        let tls = tls
            .map(|(front, settings)| Ok::<_, TlsError>((front, front.prepare(settings, self.clock.now())?)))
            .transpose()?;
        let (warnings, unenforced) = (mem::take(&mut settings.warnings), settings.unenforced());
        let take_tls = || {
            if let Some((front, prepared)) = tls {
                front.take(prepared);
            }
        };
        let cut = self.gateway.replace(super::run::parts(settings), take_tls)?;
        self.metrics.serves(unenforced, self.clock.now().unix());
        super::run::warn(&warnings);
        for key in self.started.postpones(&changed) {
            tracing::warn!(
                key,
                "this changes with the next restart; the rest of the file counts from now on"
            );
        }
        Ok(cut)
    }
}

/// Says what is wrong, each thing in a line of its own.
fn tell(error: &ReloadError) {
    match error {
        ReloadError::Problems(problems) => {
            for problem in problems.iter() {
                let (line, column, instead) = (problem.line, problem.column, &*problem.instead);
                tracing::error!(line, column, instead, "{}", problem.message);
            }
        }
        ReloadError::NeedsRestart(keys) => {
            for key in keys {
                tracing::error!(key, "this cannot change without a restart");
            }
        }
        ReloadError::Gateway(error) => tracing::error!("{error}"),
        ReloadError::Tls(error) => tracing::error!("{error}"),
    }
}

/// What only a start can set.
#[derive(Debug)]
pub(super) struct Started {
    server: server::Settings,
    log: LogSettings,
    store: StoreSettings,
    cookie: CookieSettings,
    idle_timeout: Duration,
    max_lifetime: Duration,
}

impl Started {
    pub(super) fn with(settings: &Settings) -> Self {
        Self {
            server: settings.server.clone(),
            log: settings.log.clone(),
            store: settings.session.store.clone(),
            cookie: settings.session.cookie.clone(),
            idle_timeout: settings.session.idle_timeout,
            max_lifetime: settings.session.max_lifetime,
        }
    }

    /// Keys of which half a change is worse than none.
    ///
    /// The URLs of the routes go with the addresses that are listened at, and everybody's session is in the store, under
    /// the name and domain of the cookie.
    fn refuses(&self, changed: &Self) -> Vec<&'static str> {
        let (server, store, cookie) = (&changed.server, &changed.store, &changed.cookie);
        named(&[
            ("`listen` in [server]", self.server.listen != server.listen),
            (
                "`proxy_protocol` in [server]",
                self.server.proxy_protocol != server.proxy_protocol,
            ),
            ("`listen` in [admin]", self.server.admin != server.admin),
            (
                "`redirect_listen` in [server.tls]",
                self.server.redirect != server.redirect,
            ),
            (
                "whether there is [server.tls]",
                self.server.tls.is_some() != server.tls.is_some(),
            ),
            ("`store` in [session], or the table of the store", self.store != *store),
            ("`name` in [session.cookie]", self.cookie.name != cookie.name),
            ("`domain` in [session.cookie]", self.cookie.domain != cookie.domain),
            (
                "`idle_timeout` in [session], beyond the `max_lifetime` of the start",
                self.forgets_too_soon(changed),
            ),
        ])
    }

    /// That a session in a cookie has ended is remembered for as long as it could have lived by then: with a longer life
    /// it would come back.
    fn forgets_too_soon(&self, changed: &Self) -> bool {
        self.store.is_cookie() && changed.idle_timeout > self.max_lifetime
    }

    /// Keys that wait for a restart, and leave the rest alone.
    fn postpones(&self, changed: &Self) -> Vec<&'static str> {
        let (server, log) = (&changed.server, &changed.log);
        named(&[
            ("`workers` in [server]", self.server.workers != server.workers),
            ("`unix_mode` in [server]", self.server.unix_mode != server.unix_mode),
            ("`reuse_port` in [server]", self.server.reuse_port != server.reuse_port),
            ("`h2c` in [server]", self.server.spoken != server.spoken),
            (
                "`drain_delay` in [server]",
                self.server.drain_delay != server.drain_delay,
            ),
            (
                "`drain_timeout` in [server]",
                self.server.drain_timeout != server.drain_timeout,
            ),
            ("[server.limits]", self.server.limits != server.limits),
            ("[log]", self.log != *log),
        ])
    }
}

fn named(keys: &[(&'static str, bool)]) -> Vec<&'static str> {
    let changed = keys.iter().filter(|(_, changed)| *changed);
    changed.map(|(key, _)| *key).collect()
}
