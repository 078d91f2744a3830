//! Many requests at once.

use std::process::Command;

use super::process::OTHERS;

const CONNECTIONS: &str = "32";
/// As many requests at once in HTTP/2, on fewer connections.
const CONNECTIONS_2: &str = "8";
const STREAMS: &str = "4";

/// A request that is sent over and over.
pub(crate) struct Request {
    pub(crate) url: String,
    pub(crate) version: Version,
    /// A name and a value.
    pub(crate) header: Option<(&'static str, String)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    Http1,
    Http2,
}

impl Request {
    /// Sends it for so long, over many connections that are kept, and counts the answers.
    pub(crate) fn load(&self, seconds: u32) -> Result<u64, String> {
        let arguments = match self.version {
            Version::Http1 => format!("wrk -t 1 -c {CONNECTIONS} -d {seconds}s"),
            Version::Http2 => format!("h2load -t 1 -c {CONNECTIONS_2} -m {STREAMS} -D {seconds}"),
        };
        let mut command = Command::new("taskset");
        command.args(["-c", OTHERS]).args(arguments.split(' '));
        if let Some((name, value)) = &self.header {
            command.args(["-H", &format!("{name}: {value}")]);
        }
        command.arg(&self.url);
        let output = command.output().map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout);
        let count = match self.version {
            Version::Http1 => count_of_wrk(&text),
            Version::Http2 => count_of_h2load(&text),
        };
        count
            .filter(|count| *count > 0)
            .ok_or_else(|| format!("the load generator says: {text}"))
    }
}

/// Nothing when anything went wrong.
fn count_of_wrk(text: &str) -> Option<u64> {
    if text.contains("Non-2xx") || text.contains("Socket errors") {
        return None;
    }
    let line = text.lines().find(|line| line.contains(" requests in "))?;
    line.trim().split(' ').next()?.parse().ok()
}

/// Nothing when anything went wrong.
fn count_of_h2load(text: &str) -> Option<u64> {
    let numbers = |name: &str| -> Option<Vec<u64>> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let parts = line.split(", ").map(|part| part.trim().split(' ').next()?.parse().ok());
        parts.collect()
    };
    // What was under way at the end may be counted as good and not as done.
    let is_failure = numbers("requests: ")?.get(4) != Some(&0);
    let statuses = numbers("status codes: ")?;
    let is_good = !is_failure && statuses.iter().skip(1).all(|count| *count == 0);
    statuses.first().copied().filter(|_| is_good)
}
