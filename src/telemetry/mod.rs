//! What the gateway tells its operator: logs and metrics.

mod stopwatch;

use std::time::Duration;

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

/// The line of one request; its fields are the columns of the access log.
#[derive(Debug)]
pub struct AccessRecord<'a> {
    /// The reference id that the person sees on an error page.
    pub id: &'a str,
    pub method: &'a str,
    pub host: &'a str,
    /// Without query.
    pub path: &'a str,
    pub status: u16,
    /// Index and name of the route.
    pub route: Option<(usize, &'a str)>,
    /// `allow`, `login`, `challenge`, `deny`, `endpoint`, `error`, `not_found`.
    pub decision: &'static str,
    /// Why, where the decision is not to allow.
    pub reason: Option<&'a str>,
    /// `session`, `bearer` or absent.
    pub proof: Option<&'static str>,
    /// A pseudonym of issuer and subject.
    pub subject: Option<&'a str>,
    pub client: std::net::IpAddr,
    pub duration: Duration,
    /// The part of `duration` that the upstream took.
    pub upstream: Option<Duration>,
}

/// Writes the line.
pub fn access(_record: &AccessRecord<'_>) {
    unimplemented!()
}
