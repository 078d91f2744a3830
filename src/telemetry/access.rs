//! One line a request.

use std::{net::IpAddr, sync::OnceLock, time::Duration};

use tracing::Level;

use super::{LogFormat, line::Line, sink::Sink};

const TARGET: &str = "vestibule::access";

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
    /// What would have been decided, were the route not in the shadow.
    pub would: Option<&'static str>,
    /// Why, where the decision is not to allow, or would not be.
    pub reason: Option<&'a str>,
    /// What the request proved: `session`, `bearer`, `anonymous` (on public routes too) or `rejected`.
    pub authentication: Option<&'static str>,
    /// A pseudonym of issuer and subject.
    pub subject: Option<&'a str>,
    pub client: IpAddr,
    pub duration: Duration,
    /// The part of `duration` that the upstream took.
    pub upstream: Option<Duration>,
}

/// Where the lines go; empty where nobody wants them. They pass the machinery for events by, for they are many.
static LINES: OnceLock<(Sink, LogFormat)> = OnceLock::new();

/// Whether anybody wants a line for each request.
pub fn wants_access() -> bool {
    LINES.get().is_some()
}

/// Writes the line, if access lines are wanted.
pub fn access(record: &AccessRecord<'_>) {
    if let Some((sink, format)) = LINES.get() {
        sink.line(line(*format, record));
    }
}

/// Wants the lines from now on, if the filter of the log lets them through.
pub(super) fn open(sink: Sink, format: LogFormat) {
    if tracing::enabled!(target: TARGET, Level::INFO) {
        // The log is set up once, so this is the first time.
        let _ = LINES.set((sink, format));
    }
}

fn line(format: LogFormat, record: &AccessRecord<'_>) -> String {
    let mut line = Line::begin(format, Level::INFO, TARGET);
    line.message("request");
    line.string("id", record.id);
    line.string("method", record.method);
    line.string("host", record.host);
    line.string("path", record.path);
    line.plain("status", record.status);
    line.string("decision", record.decision);
    let optional = [
        ("route", record.route.map(|(_, name)| name)),
        ("would", record.would),
        ("reason", record.reason),
        ("authentication", record.authentication),
        ("subject", record.subject),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            line.string(name, value);
        }
    }
    line.string("client", &record.client.to_string());
    line.plain("duration_ms", Milliseconds(record.duration));
    if let Some(upstream) = record.upstream {
        line.plain("upstream_ms", Milliseconds(upstream));
    }
    line.end()
}

/// Milliseconds with three decimals, without detour over floating point.
struct Milliseconds(Duration);

impl std::fmt::Display for Milliseconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (whole, rest) = (self.0.as_millis(), self.0.subsec_micros() % 1_000);
        write!(f, "{whole}.{rest:03}")
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use serde_json::json;

    use super::*;

    fn record() -> AccessRecord<'static> {
        AccessRecord {
            id: "0badcafe-1",
            method: "GET",
            host: "wiki.example.com",
            path: "/a\"b\n",
            status: 403,
            route: Some((0, "wiki")),
            decision: "deny",
            would: None,
            reason: Some("no group"),
            authentication: None,
            subject: None,
            client: Ipv4Addr::LOCALHOST.into(),
            duration: Duration::from_micros(12_005),
            upstream: None,
        }
    }

    #[test]
    fn a_line_has_the_columns_that_the_request_has() {
        let text = line(LogFormat::Json, &record());
        let mut read: serde_json::Map<_, _> = serde_json::from_str(&text).unwrap();
        read.remove("time");
        let expected = json!({
            "level": "info", "target": "vestibule::access", "message": "request", "id": "0badcafe-1",
            "method": "GET", "host": "wiki.example.com", "path": "/a\"b\n", "status": 403, "decision": "deny",
            "route": "wiki", "reason": "no group", "client": "127.0.0.1", "duration_ms": 12.005,
        });
        assert_eq!(serde_json::Value::Object(read), expected);
    }

    #[test]
    fn without_a_log_nothing_is_written() {
        access(&record());
    }
}
