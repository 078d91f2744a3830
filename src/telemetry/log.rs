//! The log of the process: lines on standard output.

use std::{io, panic};

use tracing::{Event, Subscriber};
use tracing_subscriber::{
    EnvFilter, Layer,
    layer::{Context, SubscriberExt as _},
    util::{SubscriberInitExt as _, TryInitError},
};

use super::{LogFormat, LogSettings, access, line, sink::Sink};

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("the level of the log is no filter: {0}")]
    Level(#[from] tracing_subscriber::filter::ParseError),
    #[error("no thread for the log: {0}")]
    Thread(#[from] io::Error),
    #[error("the log is set up already: {0}")]
    Twice(#[from] TryInitError),
}

/// Writes the last lines when it is dropped.
#[derive(Debug)]
#[must_use = "the last lines are written when this is dropped"]
pub struct LogGuard(Sink);

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.0.flush();
    }
}

/// Sets up the log of this process; once.
///
/// # Errors
/// When the level cannot be read, and when there is a log already.
pub fn init(settings: &LogSettings) -> Result<LogGuard, LogError> {
    let filter = EnvFilter::try_new(&settings.level)?;
    let sink = Sink::start(io::stdout(), settings.format)?;
    let events = Events {
        sink: sink.clone(),
        format: settings.format,
    };
    tracing_subscriber::registry().with(filter).with(events).try_init()?;
    if settings.access {
        access::open(sink.clone(), settings.format);
    }
    panic::set_hook(Box::new(|panic| tracing::error!(%panic, "a bug")));
    Ok(LogGuard(sink))
}

/// Turns events into lines.
struct Events {
    sink: Sink,
    format: LogFormat,
}

impl<S: Subscriber> Layer<S> for Events {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.sink.line(line::of_event(self.format, event));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Output(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn events_become_lines_with_their_fields() {
        let output = Output::default();
        let sink = Sink::start(output.clone(), LogFormat::Json).unwrap();
        let events = Events {
            sink: sink.clone(),
            format: LogFormat::Json,
        };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(events), || {
            tracing::warn!(target: "here", line = 3, ok = true, name = "a\nb", error = %"bad", "it is {}", "odd");
        });
        sink.flush();
        let text = output.0.lock().unwrap();
        let mut read: serde_json::Map<_, _> = serde_json::from_slice(&text).unwrap();
        read.remove("time");
        let expected = serde_json::json!({
            "level": "warn", "target": "here", "message": "it is odd",
            "line": 3, "ok": true, "name": "a\nb", "error": "bad",
        });
        assert_eq!(serde_json::Value::Object(read), expected);
    }
}
