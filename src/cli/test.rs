//! `vestibule test`: what the `[[test]]` tables expect, and what would happen.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    path::Path,
};

use super::{
    No,
    admin::harmless_words,
    rehearsal::{Outcome, Told, rehearse},
};
use crate::{
    config::{self, Settings, rehearsal::Test},
    time::{Clock, SystemClock, Timestamp},
};

pub(super) fn test(file: &Path) -> Result<(), No> {
    let now = SystemClock.now();
    let settings = config::load(file, now)?;
    let report = report(&settings, &file.display().to_string(), now);
    write!(io::stdout(), "{}", report.text)?;
    match report.failed {
        0 => Ok(()),
        failed => Err(No::Refused(format!(
            "{failed} of {} tests failed",
            settings.tests.len()
        ))),
    }
}

struct Report {
    text: String,
    failed: usize,
}

fn report(settings: &Settings, file: &str, now: Timestamp) -> Report {
    let mut report = Report {
        text: String::new(),
        failed: 0,
    };
    for test in &settings.tests {
        let outcome = rehearse(settings, &test.rehearsal, now);
        let differences = differences(test, &outcome);
        let asked = format!("{} {}", test.rehearsal.method, test.rehearsal.url);
        if differences.is_empty() {
            let _ = writeln!(report.text, "ok    {asked}: {}", test.expectation);
            continue;
        }
        report.failed = report.failed.saturating_add(1);
        let _ = writeln!(report.text, "FAIL  {asked}\n      {file}:{}", test.line);
        for line in differences {
            let _ = writeln!(report.text, "      {}", harmless_words(&line));
        }
    }
    if settings.tests.is_empty() {
        report
            .text
            .push_str("there is no [[test]] in the file, so nothing was tested\n");
    }
    report
}

/// What was expected and what would be, line by line; nothing where they agree.
fn differences(test: &Test, outcome: &Outcome<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    if outcome.word() != test.expectation {
        lines.push(format!("- {}", test.expectation));
        lines.push(format!("+ {}", outcome.word()));
        lines.extend(outcome.reasons().into_iter().map(|reason| format!("  {reason}")));
        return lines;
    }
    for (name, wanted) in &test.upstream_headers {
        let told = outcome
            .headers
            .iter()
            .find(|(told, _)| told == name)
            .map(|(_, told)| told);
        let passes = outcome.is_allowed().then_some(told).flatten();
        let found = match passes {
            Some(Told::Value(value)) if value == wanted => continue,
            Some(Told::Value(value)) => format!("{name}: {value}"),
            Some(Told::Secret(words)) if words == wanted => continue,
            Some(Told::Secret(words)) => format!("{name}: {words}"),
            Some(Told::Missing) => format!("{name} is missing: so is its claim"),
            Some(Told::Unwritable) => format!("{name} cannot hold the claim: the request would fail"),
            None => format!("{name} is not told here"),
        };
        lines.push(format!("- {name}: {wanted}"));
        lines.push(format!("+ {found}"));
    }
    lines
}
