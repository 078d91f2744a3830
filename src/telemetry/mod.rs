//! What the gateway tells its operator: logs and metrics.

mod access;
mod line;
mod log;
mod sink;
mod stopwatch;

pub use access::{AccessRecord, access};
pub use log::{LogError, LogGuard, init};
pub use stopwatch::Stopwatch;

/// The `[log]` table.
#[derive(Clone, Debug)]
pub struct LogSettings {
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,vestibule::provider=debug`.
    pub level: String,
    /// One line a request.
    pub access: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    #[default]
    Json,
    Text,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            format: LogFormat::default(),
            level: "info".into(),
            access: true,
        }
    }
}

/// Counters and histograms in Prometheus' text format; handles are resolved when the program loads.
#[derive(Debug, Default)]
pub struct Metrics;

impl Metrics {
    /// For these routes and providers, in the order of their ids.
    pub fn new(_routes: &[&str], _providers: &[&str]) -> Self {
        unimplemented!()
    }

    /// Everything, for `/metrics`.
    pub fn encode(&self) -> String {
        unimplemented!()
    }

    pub fn request(&self, _record: &AccessRecord<'_>) {
        unimplemented!()
    }
}
