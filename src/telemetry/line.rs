//! A line of the log, as JSON or as text; nothing that is logged can end the line or begin another.

use std::fmt::{self, Write as _};

use tracing::{
    Event, Level,
    field::{Field, Visit},
};

use super::LogFormat;

/// A line that is being written.
#[derive(Debug)]
pub(super) struct Line {
    format: LogFormat,
    text: String,
}

impl Line {
    /// Begins with when, how serious and where.
    pub(super) fn begin(format: LogFormat, level: Level, target: &str) -> Self {
        let mut line = Self {
            format,
            text: String::with_capacity(400),
        };
        let now = jiff::Timestamp::now();
        // A string takes whatever is written.
        let _ = match format {
            LogFormat::Json => write!(line.text, "{{\"time\":\"{now:.3}\",\"level\":\"{}\"", lower(level)),
            LogFormat::Text => write!(line.text, "{now:.3} {level:>5} "),
        };
        match format {
            LogFormat::Json => line.string("target", target),
            LogFormat::Text => line.text.extend([target, ":"]),
        }
        line
    }

    pub(super) fn message(&mut self, message: &str) {
        match self.format {
            LogFormat::Json => self.string("message", message),
            LogFormat::Text => {
                self.text.push(' ');
                escape(&mut self.text, message);
            }
        }
    }

    pub(super) fn string(&mut self, name: &str, value: &str) {
        self.name(name);
        match self.format {
            LogFormat::Json => quote(&mut self.text, value),
            LogFormat::Text if value.is_empty() || value.contains(' ') => quote(&mut self.text, value),
            LogFormat::Text => escape(&mut self.text, value),
        }
    }

    /// A value that is written alike in both formats: a number or a boolean.
    pub(super) fn plain(&mut self, name: &str, value: impl fmt::Display) {
        self.name(name);
        let _ = write!(self.text, "{value}");
    }

    pub(super) fn end(mut self) -> String {
        self.text.push_str(match self.format {
            LogFormat::Json => "}\n",
            LogFormat::Text => "\n",
        });
        self.text
    }

    fn name(&mut self, name: &str) {
        match self.format {
            LogFormat::Json => {
                self.text.push(',');
                quote(&mut self.text, name);
                self.text.push(':');
            }
            LogFormat::Text => self.text.extend([" ", name, "="]),
        }
    }
}

/// The line of an event.
pub(super) fn of_event(format: LogFormat, event: &Event<'_>) -> String {
    let mut fields = Fields::default();
    event.record(&mut fields);
    let target = fields.target.as_deref().unwrap_or(event.metadata().target());
    let mut line = Line::begin(format, *event.metadata().level(), target);
    line.message(&fields.message);
    for (name, value) in fields.others {
        match value {
            Value::Text(text) => line.string(name, &text),
            Value::Plain(plain) => line.plain(name, plain),
        }
    }
    line.end()
}

/// What an event says; its message may come anywhere among the fields, and belongs first.
#[derive(Default)]
struct Fields {
    message: String,
    /// The real target of a record that came from the `log` crate.
    target: Option<String>,
    others: Vec<(&'static str, Value)>,
}

enum Value {
    Text(String),
    Plain(String),
}

impl Fields {
    fn text(&mut self, field: &Field, value: String) {
        match field.name() {
            "message" => self.message = value,
            "log.target" => self.target = Some(value),
            name if name.starts_with("log.") => {}
            name => self.others.push((name, Value::Text(value))),
        }
    }

    fn plain(&mut self, field: &Field, value: impl ToString) {
        if !field.name().starts_with("log.") {
            self.others.push((field.name(), Value::Plain(value.to_string())));
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, format!("{value:?}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.plain(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.plain(field, value);
    }
}

fn lower(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// A JSON string (RFC 8259 §7), with the control characters beyond ASCII escaped as well.
fn quote(text: &mut String, value: &str) {
    text.push('"');
    escape(text, value);
    text.push('"');
}

/// Escapes what would end a string, a line, or move a terminal's cursor; plain runs are copied whole.
fn escape(text: &mut String, value: &str) {
    for piece in value.split_inclusive(needs_escape) {
        let Some(last) = piece.chars().next_back().filter(|last| needs_escape(*last)) else {
            text.push_str(piece);
            continue;
        };
        text.push_str(piece.strip_suffix(last).unwrap_or_default());
        let _ = match last {
            '"' | '\\' => write!(text, "\\{last}"),
            '\n' => write!(text, "\\n"),
            '\r' => write!(text, "\\r"),
            '\t' => write!(text, "\\t"),
            // All of them lie in the Basic Multilingual Plane: four digits are enough.
            _ => write!(text, "\\u{:04x}", u32::from(last)),
        };
    }
}

fn needs_escape(character: char) -> bool {
    matches!(character, '"' | '\\' | '\u{2028}' | '\u{2029}') || character.is_control()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const HOSTILE: &str = "a\"b\\c\r\nINFO forged\u{1b}[2J\u{85}\u{2028}ü\0";

    #[test]
    fn json_reads_back_what_was_logged() {
        let mut line = Line::begin(LogFormat::Json, Level::WARN, "vestibule::x");
        line.message(HOSTILE);
        line.string("path", HOSTILE);
        line.plain("status", 200);
        let text = line.end();
        assert!(!text.trim_end().contains(char::is_control), "{text}");
        let read: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (read["message"].as_str(), read["path"].as_str()),
            (Some(HOSTILE), Some(HOSTILE))
        );
        assert_eq!(
            (&read["level"], &read["target"]),
            (&"warn".into(), &"vestibule::x".into())
        );
        assert_eq!(read["status"], 200);
        let time: jiff::Timestamp = read["time"].as_str().unwrap().parse().unwrap();
        assert!(time > jiff::Timestamp::UNIX_EPOCH);
    }

    #[test]
    fn text_is_one_line_whatever_is_logged() {
        let mut line = Line::begin(LogFormat::Text, Level::INFO, "vestibule::x");
        line.message(HOSTILE);
        line.string("reason", "no such thing");
        line.string("host", "");
        line.plain("status", 404);
        let text = line.end();
        assert!(
            text.ends_with(" reason=\"no such thing\" host=\"\" status=404\n"),
            "{text}"
        );
        assert!(
            text.contains("  INFO vestibule::x: a\\\"b\\\\c\\r\\n")
                && text.contains("\\u001b[2J\\u0085\\u2028ü\\u0000")
        );
        assert_eq!(text.lines().count(), 1);
    }
}
