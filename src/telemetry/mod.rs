//! What the gateway tells its operator: logs and metrics.

mod access;
mod line;
mod log;
mod metrics;
mod routes;
mod sink;
mod stopwatch;
mod upstreams;

pub use access::{AccessRecord, access, wants_access};
pub use log::{LogError, LogGuard, init};
pub use metrics::{Metrics, OpenConnection, Reload, Unenforced};
pub use routes::RouteCounts;
pub use stopwatch::Stopwatch;
pub use upstreams::UpstreamNumbers;

/// The `[log]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
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
