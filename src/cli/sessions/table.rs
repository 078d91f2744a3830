//! Sessions in columns.

use std::{fmt, net::IpAddr};

use serde::Deserialize;

use crate::{
    cli::admin::{columns, harmless},
    time::{Timestamp, duration::Shown},
};

/// What the gateway answers to who asks for a list.
#[derive(Debug, Deserialize)]
pub(super) struct Listed {
    sessions: Vec<Session>,
    pub(super) note: Option<String>,
    /// When it was written.
    now: Timestamp,
}

#[derive(Debug, Deserialize)]
struct Session {
    id: String,
    provider: String,
    subject: String,
    started_at: Timestamp,
    started_from: Option<IpAddr>,
    seen_at: Timestamp,
    seen_from: Option<IpAddr>,
}

const COLUMNS: [&str; 7] = ["ID", "PROVIDER", "SUBJECT", "AGE", "FROM", "IDLE", "SEEN FROM"];

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sessions = self.sessions.iter().map(|session| session.cells(self.now));
        f.write_str(&columns(COLUMNS, sessions))
    }
}

impl Session {
    fn cells(&self, now: Timestamp) -> [String; COLUMNS.len()] {
        let address = |address: Option<IpAddr>| address.map_or("?".to_owned(), |address| address.to_string());
        [
            harmless(&self.id),
            harmless(&self.provider),
            harmless(&self.subject),
            Shown(now.since(self.started_at)).to_string(),
            address(self.started_from),
            Shown(now.since(self.seen_at)).to_string(),
            address(self.seen_from),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_ages_are_durations() {
        let listed: Listed = serde_json::from_str(
            r#"{"now": 10000, "note": null, "complete": true, "left_out": 0, "sessions": [
                {"id": "a1", "provider": "corp", "subject": "ann", "started_at": 100, "started_from": "203.0.113.7",
                 "seen_at": 9970, "seen_from": "2001:db8::1"},
                {"id": "b22", "provider": "x", "subject": "b\u001b[2J b", "started_at": 9999, "started_from": null,
                 "seen_at": 9999, "seen_from": null}]}"#,
        )
        .unwrap();
        assert_eq!(
            listed.to_string(),
            "\
ID   PROVIDER  SUBJECT            AGE    FROM         IDLE  SEEN FROM
a1   corp      ann                2h45m  203.0.113.7  30s   2001:db8::1
b22  x         b\\u{1b}[2J\\u{20}b  1s     ?            1s    ?
"
        );
    }
}
