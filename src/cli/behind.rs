//! What stands behind a route, in words.

use http::HeaderName;

use super::check::spoken;
use crate::upstream::{Balance, HealthCheck, Settings, edits::Edits};

/// Where its requests go, and how.
pub(super) fn behind(upstream: &Settings) -> Vec<String> {
    let places: Vec<String> = upstream.destinations.iter().map(ToString::to_string).collect();
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
    lines.extend(upstream.health.as_ref().map(asked));
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

fn asked(check: &HealthCheck) -> String {
    format!(
        "which is asked for {} every {}, and left out while it is ill",
        check.path,
        spoken(check.interval)
    )
}

fn edited(what: &str, edits: &Edits) -> Option<String> {
    let names: Vec<&str> = edits.names().map(HeaderName::as_str).collect();
    (!names.is_empty()).then(|| format!("in {what}, the file changes {}", names.join(", ")))
}
