//! The log on stderr: events and, on request, a line per answer.
//!
//! Lines go through a bounded queue to one writing thread, so that a slow terminal or pipe never holds an
//! event loop up. Lines that find the queue full are lost and counted.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use coracle_base::Clock;
use coracle_serving::{HttpStatistics, ServedModel, TraceId};

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text for people.
    Human,
    /// One JSON object a line.
    Json,
}

/// Which answers get a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// Every answer.
    All,
    /// Answers with statuses from 400 up.
    Errors,
    /// None.
    Off,
}

/// Lines that may wait for the writing thread.
const QUEUE_LINES: usize = 8_192;

/// The log. Clones write to the same queue.
#[derive(Clone, Debug)]
pub struct Log {
    queue: SyncSender<String>,
    format: LogFormat,
    access: AccessLog,
    clock: Arc<dyn Clock>,
}

/// Waits for the last lines to be written.
#[derive(Debug)]
pub struct LogWriter {
    thread: JoinHandle<()>,
}

impl LogWriter {
    /// Waits until every line is written; all [`Log`]s must be gone, or this waits for them.
    pub fn join(self) {
        // A writer that panicked has nothing more to write.
        drop(self.thread.join());
    }
}

/// One answer, for the access log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) status: u16,
    pub(crate) elapsed: Duration,
    pub(crate) n_bytes_in: usize,
    pub(crate) n_bytes_out: usize,
    pub(crate) request_id: &'a str,
    /// The trace that the request is part of.
    pub(crate) trace_id: Option<TraceId>,
}

impl Log {
    /// Starts the writing thread and returns the log.
    #[must_use]
    pub fn start(format: LogFormat, access: AccessLog, clock: Arc<dyn Clock>) -> (Self, LogWriter) {
        let (queue, lines) = sync_channel(QUEUE_LINES);
        let thread = std::thread::spawn(move || write_lines(&lines));
        let log = Self {
            queue,
            format,
            access,
            clock,
        };
        (log, LogWriter { thread })
    }

    /// Writes an event; waits if the queue is full, since events are few.
    pub fn info(&self, message: &str) {
        self.event("info", message);
    }

    /// Writes an event that needs attention.
    pub fn warn(&self, message: &str) {
        self.event("warn", message);
    }

    fn event(&self, level: &str, message: &str) {
        let line = match (self.format, level) {
            (LogFormat::Human, "info") => message.to_owned(),
            (LogFormat::Human, level) => format!("{level}: {message}"),
            (LogFormat::Json, level) => {
                let time = self.timestamp();
                format!(
                    "{{\"time\":\"{time}\",\"level\":\"{level}\",\"message\":{}}}",
                    json_string(message)
                )
            }
        };
        // Without a writer there is nobody to tell.
        drop(self.queue.send(line));
    }

    /// Tells whether an answer with this status is to have a line.
    pub(crate) fn takes(&self, status: u16) -> bool {
        match self.access {
            AccessLog::Off => false,
            AccessLog::Errors => status >= 400,
            AccessLog::All => true,
        }
    }

    /// Writes a line for an answer, if this one is to have one; `model` keeps it too.
    pub(crate) fn answer(
        &self,
        answer: Answer<'_>,
        statistics: &HttpStatistics,
        model: Option<&ServedModel>,
    ) {
        if !self.takes(answer.status) {
            return;
        }
        let Answer {
            method,
            path,
            status,
            elapsed,
            n_bytes_in,
            n_bytes_out,
            request_id,
            trace_id,
        } = answer;
        let time = self.timestamp();
        let milliseconds = elapsed.as_secs_f64() * 1e3;
        let line = match self.format {
            LogFormat::Human => {
                let trace = trace_id
                    .map(|id| format!(" trace={id}"))
                    .unwrap_or_default();
                let line = format!(
                    "{method} {} {status} {milliseconds:.3}ms in={n_bytes_in} out={n_bytes_out} id={request_id}{trace}",
                    path.escape_debug()
                );
                // The model's own log has the time already.
                model.inspect(|model| model.log(&line));
                format!("{time} {line}")
            }
            LogFormat::Json => format!(
                "{{\"time\":\"{time}\",\"method\":{},\"path\":{},\"status\":{status},\"ms\":{milliseconds:.3},\"bytes_in\":{n_bytes_in},\"bytes_out\":{n_bytes_out},\"request_id\":{}{}}}",
                json_string(method),
                json_string(path),
                json_string(request_id),
                // Hexadecimal digits need no escapes.
                trace_id
                    .map(|id| format!(",\"trace_id\":\"{id}\""))
                    .unwrap_or_default()
            ),
        };
        if self.format == LogFormat::Json {
            model.inspect(|model| model.log(&line));
        }
        if self.queue.try_send(line).is_err() {
            statistics.drop_log_line();
        }
    }

    fn timestamp(&self) -> humantime::Rfc3339Timestamp {
        humantime::format_rfc3339_millis(SystemTime::UNIX_EPOCH + self.clock.unix_time())
    }
}

fn json_string(text: &str) -> String {
    let mut quoted = Vec::new();
    coracle_protocol::json_string(text, &mut quoted);
    String::from_utf8_lossy(&quoted).into_owned()
}

/// Writes lines until every sender is gone; flushes whenever none is waiting.
fn write_lines(lines: &Receiver<String>) {
    let mut batch = String::new();
    while let Ok(line) = lines.recv() {
        batch.push_str(&line);
        batch.push('\n');
        while batch.len() < 64 << 10
            && let Ok(line) = lines.try_recv()
        {
            batch.push_str(&line);
            batch.push('\n');
        }
        // A closed stderr must not end the server.
        drop(std::io::stderr().write_all(batch.as_bytes()));
        batch.clear();
    }
}
