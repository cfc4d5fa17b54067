//! Requests and answers for the record, as CloudEvents: KServe's `logger`, or wherever the server is told to put them.
//!
//! A request never waits for its record: events go into a queue that is bounded by the bytes it holds, and are lost, and
//! counted, where there is no room. A thread of its own hands them to their receivers (`receivers`): a service over HTTP
//! (`http`), or files (`file`). Start at [`PayloadLog::recording`], which every inference with a record goes through.

mod event;
mod file;
mod http;
mod receivers;
mod recording;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use coracle_base::{ByteCount, Clock};
use coracle_serving::{ExportLoss, ExportStatistics, PayloadMode};
use tokio::sync::{mpsc, oneshot};

use self::event::Event;
use self::recording::Standing;
use crate::log::Log;

pub(crate) use self::recording::{Caller, Recording};

/// Who takes payloads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PayloadTarget {
    /// A service at this URL.
    Url(String),
    /// Files of this directory.
    Directory(PathBuf),
}

/// What is recorded, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayloadConfig {
    /// Who takes the payloads of models that do not say so themselves; nobody if absent.
    pub target: Option<PayloadTarget>,
    /// Which of those are recorded.
    pub mode: PayloadMode,
    /// The request headers that are recorded with those.
    pub headers: Vec<String>,
    /// The most that waits for its receivers, in all; one receiver has half of it at most.
    pub memory_max: ByteCount,
    /// The size of a file at which the next one is begun.
    pub file_max: ByteCount,
    /// The number of files that are kept.
    pub n_files_max: usize,
}

/// How long what waits may take to be recorded once the server has stopped.
const FINISH_MAX: Duration = Duration::from_secs(5);

/// Where payloads go. Clones write to the same queue.
#[derive(Clone, Debug)]
pub(crate) struct PayloadLog {
    queue: mpsc::UnboundedSender<Event>,
    standing: Arc<Standing>,
}

/// Waits for the last payloads to be recorded.
#[derive(Debug)]
pub(crate) struct PayloadWriter {
    thread: JoinHandle<()>,
    stop: oneshot::Sender<()>,
}

impl PayloadWriter {
    /// Waits until every payload is recorded, or the time for that is over; no more are taken.
    pub(crate) fn join(self) {
        drop(self.stop);
        // One that panicked has nothing more to record.
        drop(self.thread.join());
    }
}

impl PayloadLog {
    /// Starts the thread that records. `source` is the URI of this server; what waits when it stops has `finish_max` to be
    /// recorded, and five seconds at most.
    pub(crate) fn start(
        config: PayloadConfig,
        (source, finish_max): (String, Duration),
        exports: Arc<ExportStatistics>,
        (log, clock): (Log, Arc<dyn Clock>),
    ) -> io::Result<(Self, PayloadWriter)> {
        let (queue, events) = mpsc::unbounded_channel();
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let receivers = receivers::Receivers::new(
            config.clone(),
            Arc::clone(&exports),
            (log, Arc::clone(&clock)),
        );
        let thread = std::thread::Builder::new().name("coracle-payloads".to_owned());
        let thread = thread.spawn(move || {
            runtime.block_on(receivers.run(events, stopped, finish_max.min(FINISH_MAX)));
            // What hangs is left behind.
            runtime.shutdown_background();
        })?;
        let standing = Arc::new(Standing::new(config, source, exports, clock));
        Ok((Self { queue, standing }, PayloadWriter { thread, stop }))
    }

    /// Puts an event into the queue, if there is room.
    fn send(&self, event: Option<Event>) {
        match event {
            Some(event) => {
                // Without a writer there is nobody to record it.
                drop(self.queue.send(event));
            }
            None => self
                .standing
                .exports
                .payloads
                .lose(ExportLoss::QueueFull, 1),
        }
    }
}
