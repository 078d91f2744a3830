//! What is wrong with a file: where, why, and what to write instead.

use std::{fmt, ops::Range};

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// A range of bytes of the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    start: usize,
    end: usize,
}

impl From<Range<usize>> for Span {
    fn from(range: Range<usize>) -> Self {
        let Range { start, end } = range;
        Self { start, end }
    }
}

impl Span {
    /// The line that it begins in, from 1.
    pub(super) fn line(self, text: &str) -> usize {
        let before = text.get(..self.start).unwrap_or_default();
        before.matches('\n').count().saturating_add(1)
    }
}

/// Something to tell the operator, not yet tied to the text.
#[derive(Debug)]
struct Finding {
    severity: Severity,
    at: Span,
    message: String,
    /// What to write instead.
    instead: String,
    elsewhere: Option<(Span, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Severity {
    Problem,
    Warning,
    /// Only for whoever checks the file.
    Advice,
}

/// Everything that was found so far.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<Finding>);

impl Findings {
    pub(super) fn problem(&mut self, at: Span, message: impl Into<String>, instead: impl Into<String>) -> &mut Self {
        self.push(Severity::Problem, at, message.into(), instead.into())
    }

    pub(super) fn warning(&mut self, at: Span, message: impl Into<String>, instead: impl Into<String>) -> &mut Self {
        self.push(Severity::Warning, at, message.into(), instead.into())
    }

    pub(super) fn advice(&mut self, at: Span, message: impl Into<String>, instead: impl Into<String>) -> &mut Self {
        self.push(Severity::Advice, at, message.into(), instead.into())
    }

    /// Points the last finding at the other place that it is about.
    pub(super) fn see(&mut self, place: Span, label: impl Into<String>) {
        if let Some(last) = self.0.last_mut() {
            last.elsewhere = Some((place, label.into()));
        }
    }

    fn push(&mut self, severity: Severity, at: Span, message: String, instead: String) -> &mut Self {
        let elsewhere = None;
        self.0.push(Finding {
            severity,
            at,
            message,
            instead,
            elsewhere,
        });
        self
    }

    pub(super) fn has_problems(&self) -> bool {
        self.0.iter().any(|finding| finding.severity == Severity::Problem)
    }

    /// Ties the findings to the text, in the order of the text: the problems, the warnings and the advice.
    pub(super) fn explain(mut self, origin: &str, text: &str) -> (Problems, Vec<Warning>, Vec<Warning>) {
        self.0.sort_by_key(|finding| finding.at);
        let source = Source {
            origin,
            text: &without_secrets(text),
        };
        let of = |severity| {
            let found = self.0.iter().filter(move |finding| finding.severity == severity);
            found.map(|finding| source.explain(finding))
        };
        let problems = of(Severity::Problem).map(Problem).collect();
        let warnings = of(Severity::Warning).map(Warning).collect();
        (
            Problems(problems),
            warnings,
            of(Severity::Advice).map(Warning).collect(),
        )
    }
}

/// Why a file cannot be used; at least one problem, in the order of the text.
#[derive(Debug, thiserror::Error)]
pub struct Problems(Vec<Problem>);

impl Problems {
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }

    /// A file that cannot even be read.
    pub(super) fn unreadable(origin: &str, error: &std::io::Error) -> Self {
        let message = format!("cannot read {origin}: {error}");
        let snippet = format!("error: {message}");
        let (line, column, instead) = (0, 0, "name a file that this user may read".into());
        Self(vec![Problem(Explanation {
            line,
            column,
            message,
            instead,
            snippet,
        })])
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in self.iter() {
            writeln!(f, "{}\n", problem.snippet)?;
        }
        let count = self.0.len();
        write!(f, "{count} {}", if count == 1 { "problem" } else { "problems" })
    }
}

/// What must be changed before the file can be used.
#[derive(Clone, Debug)]
pub struct Problem(Explanation);

/// What works, and deserves a second look.
#[derive(Clone, Debug)]
pub struct Warning(Explanation);

/// A finding and the text that it is about.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    pub message: String,
    /// What to write instead.
    pub instead: String,
    /// All of it, with the lines of the file and a caret.
    pub snippet: String,
}

impl std::ops::Deref for Problem {
    type Target = Explanation;

    fn deref(&self) -> &Explanation {
        &self.0
    }
}

impl std::ops::Deref for Warning {
    type Target = Explanation;

    fn deref(&self) -> &Explanation {
        &self.0
    }
}

struct Source<'a> {
    origin: &'a str,
    text: &'a str,
}

impl Source<'_> {
    fn explain(&self, finding: &Finding) -> Explanation {
        let (line, column) = self.position(finding.at);
        Explanation {
            line,
            column,
            message: finding.message.clone(),
            instead: finding.instead.clone(),
            snippet: self.snippet(finding),
        }
    }

    fn position(&self, at: Span) -> (usize, usize) {
        let before = self.text.get(..self.within(at).start).unwrap_or_default();
        let line = before.matches('\n').count().saturating_add(1);
        let column = before
            .rsplit('\n')
            .next()
            .unwrap_or_default()
            .chars()
            .count()
            .saturating_add(1);
        (line, column)
    }

    fn snippet(&self, finding: &Finding) -> String {
        let level = match finding.severity {
            Severity::Problem => Level::ERROR,
            Severity::Warning => Level::WARNING,
            Severity::Advice => Level::NOTE,
        };
        let mut snippet = Snippet::source(self.text)
            .path(self.origin)
            .annotation(AnnotationKind::Primary.span(self.within(finding.at)));
        if let Some((place, label)) = &finding.elsewhere {
            snippet = snippet.annotation(AnnotationKind::Context.span(self.within(*place)).label(label.as_str()));
        }
        let group = Group::with_title(level.primary_title(finding.message.as_str()))
            .element(snippet)
            .element(Level::HELP.message(finding.instead.as_str()));
        Renderer::plain().render(&[group])
    }

    /// The span in whole characters of the text.
    fn within(&self, at: Span) -> Range<usize> {
        let boundary = |index: usize| {
            let is_boundary = |index: &usize| self.text.is_char_boundary(*index);
            (0..=index.min(self.text.len())).rev().find(is_boundary).unwrap_or(0)
        };
        let start = boundary(at.start);
        start..boundary(at.end).max(start)
    }
}

/// The text with a star for every byte of an inline secret, so that no snippet shows it (I20).
///
/// Looks for the key in the bare text, because a file with a syntax error has nothing better.
fn without_secrets(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, value)) = secret_start(rest).and_then(|start| rest.split_at_checked(start)) {
        let (secret, after) = value.split_at_checked(secret_length(value)).unwrap_or((value, ""));
        shown.push_str(before);
        shown.extend(secret.bytes().map(starred));
        rest = after;
    }
    shown.push_str(rest);
    shown
}

/// Where the value of the first `client_secret` begins.
fn secret_start(text: &str) -> Option<usize> {
    const KEY: &str = "client_secret";
    text.match_indices(KEY).find_map(|(index, _)| {
        let rest = text.get(index.saturating_add(KEY.len())..)?;
        let value = rest.trim_start_matches(['"', '\'', ' ', '\t']).strip_prefix('=')?;
        Some(text.len().saturating_sub(value.len()))
    })
}

/// To the end of the line, or of the multi-line string that begins here.
fn secret_length(value: &str) -> usize {
    let string = value.trim_start_matches([' ', '\t']);
    let quote = ["\"\"\"", "\'\'\'"].into_iter().find(|quote| string.starts_with(quote));
    let Some((quote, inner)) = quote.and_then(|quote| Some((quote, string.strip_prefix(quote)?))) else {
        return value.find('\n').unwrap_or(value.len());
    };
    let after = inner.split_once(quote).map_or("", |(_, after)| after);
    value.len().saturating_sub(after.len())
}

fn starred(byte: u8) -> char {
    if byte.is_ascii_whitespace() {
        char::from(byte)
    } else {
        '*'
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snippet_never_shows_an_inline_secret() {
        for line in [
            "client_secret = \"hunter2\"\n",
            "p = { \"client_secret\"=\"hunter2\" }",
            "client_secret=hünter2",
        ] {
            let shown = without_secrets(line);
            assert_eq!(shown.len(), line.len());
            assert!(!shown.contains("nter2"), "{shown}");
        }
        let lines = "client_secret = \"\"\"\nhunter2\nhunter2\"\"\"\nclient_id = \"a\"";
        assert_eq!(
            without_secrets(lines),
            "client_secret = ***\n*******\n**********\nclient_id = \"a\""
        );
        let file = "client_secret_file = \"/run/secrets/client\"\n";
        assert_eq!(without_secrets(file), file);
    }

    #[test]
    fn a_position_counts_lines_and_characters_from_one() {
        let source = Source {
            origin: "f",
            text: "a = 1\nü = 2\n",
        };
        assert_eq!(source.position((0..1).into()), (1, 1));
        assert_eq!(source.position((9..10).into()), (2, 3));
        assert_eq!(source.position((99..100).into()), (3, 1));
    }
}
