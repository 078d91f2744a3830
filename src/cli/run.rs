//! `vestibule run`: serves.

use std::path::Path;

use super::No;
use crate::{
    config::{self, Settings},
    time::{Clock, SystemClock},
};

pub(super) fn run(file: &Path) -> Result<(), No> {
    let settings = config::load(file, SystemClock.now())?;
    // The telemetry is set up here, from `settings.log`, so that the warnings below are its first lines.
    for warning in &settings.warnings {
        tracing::warn!(line = warning.line, column = warning.column, "{}", warning.message);
    }
    serve(settings)
}

/// Serves until it is told to stop.
fn serve(_settings: Settings) -> Result<(), No> {
    Err(No::NotYet("this build cannot serve yet"))
}
