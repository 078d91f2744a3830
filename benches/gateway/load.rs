//! Many requests at once.

use std::process::Command;

use super::process::OTHERS;

const CONNECTIONS: &str = "32";

/// A request that is sent over and over.
pub(crate) struct Request {
    pub(crate) url: String,
    /// A name and a value.
    pub(crate) header: Option<(&'static str, String)>,
}

impl Request {
    /// Sends it for so long, over many connections that are kept, and counts the answers.
    pub(crate) fn load(&self, seconds: u32) -> Result<u64, String> {
        let mut command = Command::new("taskset");
        command.args([
            "-c",
            OTHERS,
            "wrk",
            "-t",
            "1",
            "-c",
            CONNECTIONS,
            "-d",
            &format!("{seconds}s"),
        ]);
        if let Some((name, value)) = &self.header {
            command.args(["-H", &format!("{name}: {value}")]);
        }
        command.arg(&self.url);
        let output = command.output().map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout);
        let wrong = text
            .lines()
            .find(|line| line.contains("Non-2xx") || line.contains("Socket errors"));
        if let Some(wrong) = wrong {
            return Err(wrong.trim().to_owned());
        }
        let line = text.lines().find(|line| line.contains(" requests in "));
        let count = line.and_then(|line| line.trim().split(' ').next()?.parse().ok());
        count
            .filter(|count| *count > 0)
            .ok_or_else(|| format!("wrk says: {text}"))
    }
}
