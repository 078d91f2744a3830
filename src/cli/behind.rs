//! What stands behind a route, in words.

use http::HeaderName;

use super::check::spoken;
use crate::upstream::{Balance, HealthCheck, Question, Settings, edits::Edits};

/// Where its requests go, and how.
pub(super) fn behind(upstream: &Settings) -> Vec<String> {
    let places: Vec<String> = upstream.onward.destinations().iter().map(ToString::to_string).collect();
    let mut lines = match &*places {
        [only] => vec![format!("goes to {only}")],
        several => vec![
            format!("goes to {}, {}", several.join(" or "), chosen(upstream.balance)),
            format!(
                "one that fails {} times in a row is left out for {}, and longer the next time",
                upstream.ejection.failures,
                spoken(upstream.ejection.time)
            ),
        ],
    };
    if let Some(prefix) = &upstream.prefix {
        lines.push(format!(
            "without {} in the path, which it is told in x-forwarded-prefix",
            prefix.path
        ));
    }
    lines.extend(upstream.health.as_ref().map(|check| asked(check, places.len())));
    lines.extend(edited("requests", &upstream.edits.request));
    lines.extend(edited("answers", &upstream.edits.response));
    if upstream.edits.security {
        lines.push("browsers are told to be careful, where the application does not tell them".into());
    }
    lines
}

fn chosen(balance: Balance) -> &'static str {
    match balance {
        Balance::RoundRobin => "one after the other",
        Balance::LeastRequests => "to the one that is busy with the fewest",
    }
}

fn asked(check: &HealthCheck, servers: usize) -> String {
    let every = spoken(check.interval);
    let (question, ill) = match &check.question {
        Question::Get { path, .. } => (format!("for {path} every {every}"), "is ill"),
        Question::Grpc(service) => {
            let who = match service.as_str() {
                "" => "it",
                name => name,
            };
            (format!("by gRPC every {every} whether {who} serves"), "does not")
        }
    };
    match servers {
        1 => format!("which is asked {question}, and has the requests while it {ill} too, for there is no other"),
        _ => format!("which is asked {question}, and left out while it {ill}"),
    }
}

fn edited(what: &str, edits: &Edits) -> Option<String> {
    let names: Vec<&str> = edits.names().map(HeaderName::as_str).collect();
    (!names.is_empty()).then(|| format!("in {what}, the file changes {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{
        config::{self, Surroundings},
        time::Timestamp,
    };

    fn words(keys: &str) -> String {
        let text = format!("[route.a]\nurl = \"https://a/b\"\nauth = [\"public\"]\n{keys}\n");
        let surroundings = Surroundings {
            directory: Path::new("/nonexistent"),
            variable: |_| None,
        };
        let settings = config::parse(&text, "test.toml", surroundings, Timestamp::from_unix(0)).unwrap();
        behind(&settings.upstreams[0]).join("\n")
    }

    #[test]
    fn what_stands_behind_is_said() {
        assert_eq!(words("upstream = \"unix:/run/a.sock\""), "goes to unix:/run/a.sock");
        let several = "upstream = [\"h2://a\", \"h2://b:8443\"]\nbalance = \"least_requests\"\n\
                       strip_prefix = true\nsecurity_headers = true\nrequest_headers.set = { X-A = \"secret\" }\n\
                       health = { path = \"/healthz\" }";
        let expected = "goes to h2://a:443 or h2://b:8443, to the one that is busy with the fewest
one that fails 3 times in a row is left out for 10 seconds, and longer the next time
without /b in the path, which it is told in x-forwarded-prefix
which is asked for /healthz every 10 seconds, and left out while it is ill
in requests, the file changes x-a
browsers are told to be careful, where the application does not tell them";
        assert_eq!(words(several), expected);
        let single = words("upstream = \"http://a\"\nhealth = { path = \"/healthz\", interval = \"500ms\" }");
        let expected = "goes to http://a:80
which is asked for /healthz every 500 milliseconds, and has the requests while it is ill too, for there is no other";
        assert_eq!(single, expected);
        for (service, who) in [("", "it"), ("a.B", "a.B")] {
            let asked = words(&format!("upstream = \"h2c://a\"\nhealth.grpc_service = \"{service}\""));
            let expected = format!(
                "which is asked by gRPC every 10 seconds whether {who} serves, and has the requests while it does not too"
            );
            assert!(asked.contains(&expected), "{asked}");
        }
    }
}
