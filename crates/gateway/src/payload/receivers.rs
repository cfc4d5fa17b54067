//! Who takes payloads: one queue for each, so that none waits for another.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use coracle_base::Clock;
use coracle_serving::{ExportLoss, ExportStatistics};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::event::Event;
use super::{PayloadConfig, PayloadTarget, file, http};
use crate::log::Log;
use crate::warning::Warnings;

/// A receiver that gets nothing for so long is let go of.
const IDLE_MAX: Duration = Duration::from_secs(600);
/// The most receivers at a time.
const RECEIVERS_MAX: usize = 1_024;

/// An event with its room in its receiver's queue; given back when it is dropped.
pub(super) struct Queued {
    pub(super) event: Event,
    held: Arc<AtomicU64>,
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.held.fetch_sub(self.event.n_bytes(), Ordering::Relaxed);
    }
}

/// What a receiver's task counts and says.
#[derive(Clone)]
pub(super) struct Report {
    exports: Arc<ExportStatistics>,
    warnings: Arc<Warnings>,
    to: String,
}

impl Report {
    /// Notes that an event was taken, or why it was not.
    pub(super) fn ended(&self, result: Result<(), String>) {
        match result {
            Ok(()) => self.exports.payloads.send(1),
            Err(why) => {
                self.exports.payloads.lose(ExportLoss::Refused, 1);
                let message = format!("payloads for {} are lost: {why}", self.to);
                self.warnings.say(&message);
            }
        }
    }
}

struct Receiver {
    queue: mpsc::UnboundedSender<Queued>,
    held: Arc<AtomicU64>,
    used: Instant,
    warnings: Arc<Warnings>,
}

/// All receivers.
pub(super) struct Receivers {
    config: PayloadConfig,
    exports: Arc<ExportStatistics>,
    log: Log,
    clock: Arc<dyn Clock>,
    open: HashMap<PayloadTarget, Receiver>,
    tasks: JoinSet<()>,
}

impl Receivers {
    pub(super) fn new(
        config: PayloadConfig,
        exports: Arc<ExportStatistics>,
        (log, clock): (Log, Arc<dyn Clock>),
    ) -> Self {
        Self {
            config,
            exports,
            log,
            clock,
            open: HashMap::new(),
            tasks: JoinSet::new(),
        }
    }

    /// Hands events on until it is told to stop; then waits for their receivers, for `finish_max` at most.
    pub(super) async fn run(
        mut self,
        mut events: mpsc::UnboundedReceiver<Event>,
        mut stopped: oneshot::Receiver<()>,
        finish_max: Duration,
    ) {
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.hand_on(event),
                    None => break,
                },
                // What is in the queue still comes.
                _told = &mut stopped, if !events.is_closed() => events.close(),
            }
            // What has ended is forgotten.
            while self.tasks.try_join_next().is_some() {}
        }
        self.open.clear();
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(finish_max, ended).await.is_err() {
            let n_bytes = self.exports.payloads.held_bytes();
            let message = format!("payloads of {n_bytes} bytes were not recorded in time");
            self.log.warn(&message);
        }
    }

    fn hand_on(&mut self, event: Event) {
        let target = event.context.target.clone();
        if !self.open.contains_key(&target) {
            self.open
                .retain(|_, receiver| receiver.used.elapsed() < IDLE_MAX);
            if self.open.len() >= RECEIVERS_MAX {
                self.exports.payloads.lose(ExportLoss::QueueFull, 1);
                return;
            }
            let receiver = self.start(&target);
            self.open.insert(target.clone(), receiver);
        }
        let Some(receiver) = self.open.get_mut(&target) else {
            return;
        };
        receiver.used = Instant::now();
        let n_bytes = event.n_bytes();
        let held = receiver.held.load(Ordering::Relaxed);
        if held.saturating_add(n_bytes) > self.config.memory_max.as_u64() / 2 {
            self.exports.payloads.lose(ExportLoss::QueueFull, 1);
            let message = "payloads are lost: their receiver is slower than what comes";
            receiver.warnings.say(message);
            return;
        }
        receiver.held.fetch_add(n_bytes, Ordering::Relaxed);
        let held = Arc::clone(&receiver.held);
        // Without a task there is nobody to record it.
        drop(receiver.queue.send(Queued { event, held }));
    }

    /// Starts the task of a receiver.
    fn start(&mut self, target: &PayloadTarget) -> Receiver {
        let (queue, events) = mpsc::unbounded_channel();
        let warnings = Arc::new(Warnings::new(self.log.clone(), Arc::clone(&self.clock)));
        let report = Report {
            exports: Arc::clone(&self.exports),
            warnings: Arc::clone(&warnings),
            to: match target {
                PayloadTarget::Url(url) => http::without_secrets(url),
                PayloadTarget::Directory(path) => path.display().to_string(),
            },
        };
        match target {
            PayloadTarget::Url(url) => {
                self.tasks.spawn(http::run(url.clone(), events, report));
            }
            PayloadTarget::Directory(path) => {
                let (bytes_max, n_max) = (self.config.file_max, self.config.n_files_max);
                let files = file::Files::new(path.clone(), bytes_max.as_u64(), n_max);
                self.tasks
                    .spawn_blocking(move || file::run(files, events, &report));
            }
        }
        Receiver {
            queue,
            held: Arc::default(),
            used: Instant::now(),
            warnings,
        }
    }
}
