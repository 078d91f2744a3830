//! `vestibule demo`: everything in one process, to try it.

use std::{
    io::{self, Write},
    path::Path,
    sync::Arc,
};

use clap::Args;
use tokio::runtime::Builder;

use super::{
    No,
    run::{Signals, StartError, open, until_stopped},
};
use crate::{
    config::{self, Settings, Surroundings},
    demo::{DEFAULT_PORT, Demo},
    telemetry::{self, LogSettings},
    time::{Clock, SystemClock},
};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// The gateway's port; its probes, the authorization server and the application take the three behind it.
    #[arg(long, value_name = "PORT", default_value_t = DEFAULT_PORT)]
    port: u16,
}

pub(super) fn demo(options: &Options) -> Result<(), No> {
    let _log = telemetry::init(&quiet())?;
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.map_err(StartError::Threads)?.block_on(serve(options.port))
}

async fn serve(port: u16) -> Result<(), No> {
    let mut signals = Signals::new().map_err(StartError::Signals)?;
    let clock = Arc::new(SystemClock);
    let demo = Demo::start(port, clock.clone())
        .await
        .map_err(|error| No::Demo { port, error })?;
    let (running, _) = open(settings(port)?, clock)?;
    writeln!(io::stdout(), "{}", demo.banner())?;
    until_stopped(running, &mut signals).await
}

/// From the ordinary file, on the ordinary way.
fn settings(port: u16) -> Result<Settings, No> {
    let surroundings = Surroundings {
        directory: Path::new(""),
        variable: |_| None,
    };
    let text = Demo::config_text(port);
    Ok(config::parse(
        &text,
        "config/demo.toml",
        surroundings,
        SystemClock.now(),
    )?)
}

/// What goes wrong is told; the banner stays in sight.
fn quiet() -> LogSettings {
    LogSettings {
        level: "warn".into(),
        access: false,
        ..LogSettings::default()
    }
}
