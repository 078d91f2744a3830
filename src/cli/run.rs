//! `vestibule run`: serves.

use std::{io, path::Path, sync::Arc};

use tokio::{
    runtime::Builder,
    signal::unix::{Signal, SignalKind, signal},
};

use super::{
    No, notify,
    reload::{Reloader, Started},
    watch::Watch,
};
use crate::{
    config::{self, Settings, Sources, Warning},
    gateway::{self, Generations, Parts},
    server::{
        BindError, Listen, Running, Server,
        tls::{Front, TlsError},
    },
    telemetry::{self, Metrics},
    time::{Clock, SystemClock},
};

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Gateway(#[from] gateway::StartError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("{source}; {}", remedy(.source))]
    Bind {
        #[from]
        source: BindError,
    },
    #[error("the system gives no threads: {0}; raise its limits, or lower `workers` in [server]")]
    Threads(io::Error),
    #[error("signals cannot be received: {0}")]
    Signals(io::Error),
}

/// What to do about an address that cannot be listened at.
fn remedy(error: &BindError) -> &'static str {
    match (&error.address, error.error.kind()) {
        (Listen::Systemd(_), _) => {
            "start the program by a socket unit of systemd (deploy/vestibule.socket), whose FileDescriptorName= is the \
             name that is written after \"systemd:\""
        }
        (Listen::Unix(_), io::ErrorKind::AddrInUse) => {
            "another program listens there: stop it, or write another path as `listen` in [server] or [admin]"
        }
        (Listen::Unix(_), _) => {
            "check that its directory is there and that the program may write in it, and that no other file has its name"
        }
        (Listen::Tcp(_), io::ErrorKind::AddrInUse) => {
            "another program does: stop it, or write another address as `listen` in [server] or [admin]"
        }
        (Listen::Tcp(_), io::ErrorKind::AddrNotAvailable) => {
            "this machine has no such address: correct `listen` in [server] or [admin], \
             or listen at 0.0.0.0 or [::] for all it has"
        }
        (Listen::Tcp(_), io::ErrorKind::PermissionDenied) => {
            "ports below 1024 are for those whom the system allows: write a higher one as `listen` in [server] or \
             [admin], or give the program CAP_NET_BIND_SERVICE"
        }
        (Listen::Tcp(_), _) => "check `listen` in [server] and [admin], and `redirect_listen` in [server.tls]",
    }
}

/// Opens the gateway that the settings describe, on threads of its own, and returns: with what gives it others.
///
/// Dropping the first of the two ends it at once.
///
/// # Errors
/// When it cannot be made of its settings, and when an address or a thread is not to be had.
pub fn open(settings: Settings, clock: Arc<dyn Clock>) -> Result<(Running, Reloader), StartError> {
    let metrics = Arc::new(Metrics::default());
    metrics.serves(settings.unenforced(), clock.now().unix());
    let started = Started::with(&settings);
    let server = settings.server.clone();
    let gateway = Generations::first(parts(settings), clock.clone(), metrics.clone())?;
    let gateway = Arc::new(gateway);
    let front = match &server.tls {
        Some(tls) => Some(Arc::new(Front::new(tls, metrics.clone())?)),
        None => None,
    };
    let running = Server::bind(server, front.clone(), gateway.clone(), metrics.clone())?.start();
    let running = running.map_err(StartError::Threads)?;
    Ok((running, Reloader::new(gateway, front, metrics, clock, started)))
}

/// What the gateway is made of.
pub(super) fn parts(settings: Settings) -> Parts {
    Parts {
        settings: settings.gateway,
        routes: settings.routes,
        providers: settings.providers,
        upstreams: settings.upstreams,
        signing_keys: settings.signing_keys,
        session: settings.session,
        scrub: settings.scrub,
    }
}

pub(super) fn run(file: &Path) -> Result<(), No> {
    let mut sources = Sources::default();
    let settings = config::load_noting(file, &mut sources, SystemClock.now())?;
    let _log = telemetry::init(&settings.log)?;
    warn(&settings.warnings);
    let watch = Watch::over(file, sources, settings.watch);
    serve(settings, watch)
}

pub(super) fn warn(warnings: &[Warning]) {
    for warning in warnings {
        tracing::warn!(line = warning.line, column = warning.column, "{}", warning.message);
    }
}

/// Serves until it is told to stop, and by another file whenever there is one.
fn serve(settings: Settings, watch: Watch) -> Result<(), No> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.map_err(StartError::Threads)?.block_on(async {
        let mut signals = Signals::new().map_err(StartError::Signals)?;
        let reload = signal(SignalKind::hangup()).map_err(StartError::Signals)?;
        let (running, reloader) = open(settings, Arc::new(SystemClock))?;
        announce(&running);
        notify::ready();
        tokio::select! {
            outcome = until_stopped(running, &mut signals) => outcome,
            never = watch.keep_up(reloader, reload) => match never {},
        }
    })
}

fn announce(running: &Running) {
    let places = running.places();
    for address in &places.listen {
        tracing::info!(%address, "listening");
    }
    for address in &places.redirect {
        tracing::info!(%address, "listening to send clients to https");
    }
    if let Some(address) = &places.admin {
        tracing::info!(%address, "listening for the operator: /livez, /readyz, /metrics");
    }
}

/// The first signal drains, the second ends what is left.
pub(super) async fn until_stopped(running: Running, signals: &mut Signals) -> Result<(), No> {
    tokio::select! {
        () = running.over() => return Err(No::Ended),
        () = signals.next() => tracing::info!("stopping: requests under way may finish, a second signal ends them"),
    }
    notify::stopping();
    running.drain();
    tokio::select! {
        () = running.over() => tracing::info!("stopped"),
        () = signals.next() => tracing::warn!("stopped at once: requests under way are cut off"),
    }
    Ok(())
}

/// SIGTERM and SIGINT.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_start_names_the_place_and_the_remedy() {
        for (kind, words) in [
            (io::ErrorKind::AddrInUse, "another program does: stop it"),
            (io::ErrorKind::AddrNotAvailable, "listen at 0.0.0.0"),
            (io::ErrorKind::PermissionDenied, "CAP_NET_BIND_SERVICE"),
            (io::ErrorKind::Other, "check `listen` in [server]"),
        ] {
            let address = Listen::Tcp(([127, 0, 0, 1], 80).into());
            let error = kind.into();
            let text = StartError::from(BindError { address, error }).to_string();
            assert!(
                text.starts_with("cannot listen at 127.0.0.1:80: ") && text.contains(words),
                "{text}"
            );
        }
    }
}
