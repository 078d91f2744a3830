//! `vestibule decisions`: why somebody was refused.

use std::fmt::{self, Write};

use clap::Args;
use http::Method;
use serde::Deserialize;

use super::{
    No,
    admin::{Admin, Tell, columns, encoded, harmless, harmless_words, tell},
};
use crate::time::{Timestamp, duration::Shown};

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    admin: Admin,
    /// The reference that a page, a problem document or the log has; absent: the last refusals.
    #[arg(conflicts_with_all = FILTERS)]
    id: Option<String>,
    /// Of this route only.
    #[arg(long, value_name = "NAME")]
    route: Option<String>,
    /// Only those: login, challenge, deny, error or endpoint.
    #[arg(long, value_name = "WORD")]
    decision: Option<String>,
    /// Only this person's: the provider's `sub`, or the pseudonym in the log.
    #[arg(long, value_name = "SUB")]
    subject: Option<String>,
    /// So many at most.
    #[arg(long, value_name = "COUNT")]
    limit: Option<usize>,
}

const FILTERS: [&str; 4] = ["route", "decision", "subject", "limit"];

pub(super) fn decisions(options: &Options) -> Result<(), No> {
    let admin = &options.admin;
    match &options.id {
        Some(id) => tell::<Decision>(
            admin,
            &admin.asked(Method::GET, &format!("/decisions/{}", encoded(id)))?,
        ),
        None => tell::<Listed>(admin, &admin.asked(Method::GET, &options.path())?),
    }
}

impl Options {
    fn path(&self) -> String {
        let limit = self.limit.map(|limit| limit.to_string());
        let mut query = form_urlencoded::Serializer::new(String::new());
        let values = [&self.route, &self.decision, &self.subject, &limit];
        for (name, value) in FILTERS.into_iter().zip(values) {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        format!("/decisions?{}", query.finish())
    }
}

#[derive(Debug, Deserialize)]
struct Listed {
    decisions: Vec<Decision>,
    left_out: usize,
    now: Timestamp,
}

#[derive(Debug, Deserialize)]
struct Decision {
    id: String,
    at: Timestamp,
    method: String,
    host: String,
    path: String,
    status: u16,
    route: Option<String>,
    decision: String,
    would: Option<String>,
    reason: Option<String>,
    authentication: Option<String>,
    provider: Option<String>,
    subject: Option<String>,
    pseudonym: Option<String>,
    username: Option<String>,
    client: String,
    asked: Option<Asked>,
}

#[derive(Debug, Deserialize)]
struct Asked {
    table: String,
    requirements: Vec<Requirement>,
}

#[derive(Debug, Deserialize)]
struct Requirement {
    requirement: String,
    claim: Option<String>,
    wanted: Option<String>,
    met: bool,
}

const COLUMNS: [&str; 7] = ["ID", "AGE", "STATUS", "DECISION", "REASON", "WHO", "WHAT"];

impl Tell for Listed {
    fn text(&self) -> String {
        let lines = self.decisions.iter().map(|decision| decision.cells(self.now));
        columns(COLUMNS, lines)
    }

    fn note(&self) -> Option<String> {
        (self.left_out > 0).then(|| format!("{} more were left out: ask by a filter, or with --limit", self.left_out))
    }
}

impl Tell for Decision {
    fn text(&self) -> String {
        self.to_string()
    }

    fn note(&self) -> Option<String> {
        None
    }
}

impl Decision {
    fn cells(&self, now: Timestamp) -> [String; COLUMNS.len()] {
        let who = self.username.as_ref().or(self.subject.as_ref());
        [
            harmless(&self.id),
            Shown(now.since(self.at)).to_string(),
            self.status.to_string(),
            self.decided(),
            self.reason.as_deref().map_or("-".to_owned(), harmless_words),
            who.map_or("-".to_owned(), |who| harmless(who)),
            harmless_words(&format!("{} {}{}", self.method, self.host, self.path)),
        ]
    }

    fn decided(&self) -> String {
        match &self.would {
            Some(would) => format!("would-{}", harmless(would)),
            None => harmless(&self.decision),
        }
    }

    /// What there is to say, by name.
    fn facts(&self) -> [(&'static str, Option<String>); 9] {
        let known = |text: &Option<String>| text.as_deref().map(harmless);
        let subject = known(&self.subject).zip(known(&self.pseudonym));
        [
            ("reference", Some(harmless(&self.id))),
            ("at", Some(moment(self.at))),
            ("route", known(&self.route)),
            ("decision", Some(self.decided())),
            ("reason", self.reason.as_deref().map(harmless_words)),
            ("who", known(&self.username)),
            (
                "subject",
                subject.map(|(subject, pseudonym)| format!("{subject} ({pseudonym} in the log)")),
            ),
            ("provider", known(&self.provider)),
            ("proved by", known(&self.authentication)),
        ]
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (method, host, path) = (harmless(&self.method), harmless(&self.host), harmless(&self.path));
        writeln!(f, "{method} {host}{path}: {}", self.status)?;
        for (name, value) in self.facts() {
            if let Some(value) = value {
                writeln!(f, "  {name:9}  {value}")?;
            }
        }
        writeln!(f, "  {:9}  {}", "from", harmless(&self.client))?;
        if let Some(asked) = &self.asked {
            f.write_str(&asked.text())?;
        }
        Ok(())
    }
}

impl Asked {
    fn text(&self) -> String {
        let mut text = format!("[{}]\n", harmless(&self.table));
        for asked in &self.requirements {
            let met = if asked.met { "yes" } else { "no " };
            let claim = asked.claim.as_ref().map(|claim| format!(" {}", harmless(claim)));
            let wanted = asked
                .wanted
                .as_ref()
                .map(|wanted| format!(": {}", harmless_words(wanted)));
            // Writing into a text does not fail.
            let _ = writeln!(
                text,
                "  {met}  {}{}{}",
                harmless(&asked.requirement),
                claim.unwrap_or_default(),
                wanted.unwrap_or_default()
            );
        }
        text
    }
}

fn moment(at: Timestamp) -> String {
    jiff::Timestamp::from_second(at.unix()).map_or_else(|_| at.unix().to_string(), |at| at.to_string())
}
