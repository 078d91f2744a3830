//! Where lines go: a queue with a size, and a thread that writes.
//!
//! A reader of the log that stands still must not stop the gateway: what finds no place in the queue is counted and
//! left out.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::Duration,
};

use tracing::Level;

use super::{LogFormat, line::Line};

/// Lines that wait to be written.
const QUEUE: usize = 8_192;
/// Bytes that are written at once, about.
const BATCH: usize = 64 * 1_024;
/// How long a line waits for others: who sleeps need not be woken for each, nor write each.
const GATHER: Duration = Duration::from_millis(5);
/// How long the end of the program waits for the last lines.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Takes lines without ever waiting.
#[derive(Clone, Debug)]
pub(super) struct Sink {
    queue: SyncSender<Message>,
    lost: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Message {
    Line(String),
    /// Everything before this is to be written; then the sender of this is let go.
    Flush(SyncSender<()>),
}

impl Sink {
    /// # Errors
    /// When there is no thread to be had.
    pub(super) fn start(output: impl Write + Send + 'static, format: LogFormat) -> io::Result<Self> {
        let (queue, messages) = sync_channel(QUEUE);
        let lost = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            output,
            format,
            messages,
            lost: lost.clone(),
            batch: Vec::with_capacity(BATCH),
        };
        thread::Builder::new().name("log".into()).spawn(|| writer.run())?;
        Ok(Self { queue, lost })
    }

    /// Takes a line that ends with a line feed.
    pub(super) fn line(&self, line: String) {
        if self.queue.try_send(Message::Line(line)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits a moment for everything to be written.
    pub(super) fn flush(&self) {
        const NAP: Duration = Duration::from_millis(10);
        let (done, wait) = sync_channel(0);
        let mut message = Message::Flush(done);
        let mut left = LAST_LINES;
        while let Err(TrySendError::Full(again)) = self.queue.try_send(message) {
            if left.is_zero() {
                return;
            }
            thread::sleep(NAP);
            left = left.saturating_sub(NAP);
            message = again;
        }
        // Nobody ever sends: the other end is dropped when all is written.
        match wait.recv_timeout(left) {
            Ok(()) | Err(RecvTimeoutError::Disconnected | RecvTimeoutError::Timeout) => {}
        }
    }
}

struct Writer<W> {
    output: W,
    format: LogFormat,
    messages: Receiver<Message>,
    lost: Arc<AtomicU64>,
    batch: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Writes until nobody is left who could log.
    fn run(mut self) {
        while let Ok(message) = self.messages.recv() {
            let flush = self.take(message);
            if flush.is_none() {
                thread::sleep(GATHER);
            }
            self.write(flush);
        }
    }

    /// Writes all that waits, a batch at a time.
    fn write(&mut self, mut flush: Option<SyncSender<()>>) {
        loop {
            while flush.is_none() && self.batch.len() < BATCH {
                let Ok(message) = self.messages.try_recv() else { break };
                flush = self.take(message);
            }
            self.confess();
            if self.batch.is_empty() && flush.is_none() {
                return;
            }
            // Nobody can be told that the log cannot be written.
            let _ = self.output.write_all(&self.batch).and_then(|()| self.output.flush());
            self.batch.clear();
            flush = None;
        }
    }

    fn take(&mut self, message: Message) -> Option<SyncSender<()>> {
        match message {
            Message::Line(line) => {
                self.batch.extend_from_slice(line.as_bytes());
                None
            }
            Message::Flush(done) => Some(done),
        }
    }

    /// Says how much was left out.
    fn confess(&mut self) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let mut line = Line::begin(self.format, Level::WARN, module_path!());
            line.message("lines of the log were lost: they are read too slowly");
            line.plain("lost", lost);
            self.batch.extend_from_slice(line.end().as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        mpsc::{Sender, channel},
    };

    use super::*;

    /// A pipe whose reader takes one write for each permission.
    struct Pipe {
        permissions: Receiver<()>,
        written: Arc<Mutex<String>>,
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.permissions.recv();
            self.written.lock().unwrap().push_str(str::from_utf8(bytes).unwrap());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn pipe() -> (Sink, Sender<()>, Arc<Mutex<String>>) {
        let (permit, permissions) = channel();
        let written = Arc::<Mutex<String>>::default();
        let pipe = Pipe {
            permissions,
            written: written.clone(),
        };
        (Sink::start(pipe, LogFormat::Json).unwrap(), permit, written)
    }

    #[test]
    fn lines_keep_their_order_and_a_flush_waits_for_them() {
        let (sink, permit, written) = pipe();
        drop(permit);
        for number in 0..100 {
            sink.line(format!("{number}\n"));
        }
        sink.flush();
        let expected: String = (0..100).map(|number| format!("{number}\n")).collect();
        assert_eq!(*written.lock().unwrap(), expected);
    }

    #[test]
    fn a_reader_that_stands_still_costs_lines_and_no_time() {
        let (sink, permit, written) = pipe();
        for _ in 0..QUEUE * 2 {
            sink.line(format!("{}\n", "x".repeat(100)));
        }
        sink.flush();
        assert_eq!(*written.lock().unwrap(), "");
        drop(permit);
        sink.flush();
        let text = written.lock().unwrap();
        assert!(text.contains("\"lost\":"), "{text:.300}");
        assert!(text.lines().count() > QUEUE);
    }
}
