//! What is counted of the HTTP layer, for the whole server.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::per_thread::{PerThread, Writer};

/// One event loop's answers with statuses 1xx to 5xx.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Responses([AtomicU64; 5]);

/// HTTP answers by status class, and connections; for the whole server.
#[derive(Debug)]
pub struct HttpStatistics {
    responses: PerThread<Responses>,
    opened: AtomicU64,
    closed: AtomicU64,
    refused: AtomicU64,
    log_lines_dropped: AtomicU64,
}

impl HttpStatistics {
    /// Returns counters at zero, for so many event loops.
    #[must_use]
    pub fn new(n_workers: usize) -> Self {
        Self {
            responses: PerThread::new(n_workers),
            opened: AtomicU64::new(0),
            closed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            log_lines_dropped: AtomicU64::new(0),
        }
    }

    /// Counts an answer of event loop `worker`, on its own thread.
    pub fn respond(&self, worker: usize, status: u16) {
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        let slot = self.responses.slot(Writer::EventLoop(worker));
        slot.add(&slot.counters.0[class], 1);
    }

    /// Counts an opened connection.
    pub fn open(&self) {
        self.opened.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a closed connection.
    pub fn close(&self) {
        self.closed.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection that was turned away because there were too many.
    pub fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a line that the log could not take.
    pub fn drop_log_line(&self) {
        self.log_lines_dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of answers with statuses `class * 100` to `class * 100 + 99`.
    #[must_use]
    pub fn responses(&self, class: usize) -> u64 {
        match class {
            1..=5 => self.responses.sum(|responses| &responses.0[class - 1]),
            _ => 0,
        }
    }

    /// Returns the number of open connections.
    #[must_use]
    pub fn connections(&self) -> u64 {
        let closed = self.closed.load(Ordering::Relaxed);
        self.opened.load(Ordering::Relaxed).saturating_sub(closed)
    }

    /// Returns the number of connections turned away.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Returns the number of lines that the log could not take.
    #[must_use]
    pub fn log_lines_dropped(&self) -> u64 {
        self.log_lines_dropped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_counted_by_class() {
        let statistics = HttpStatistics::new(2);
        for (worker, status) in [(0, 200), (1, 204), (0, 404), (1, 503), (1, 999)] {
            statistics.respond(worker, status);
        }
        assert_eq!(
            (1..=5)
                .map(|class| statistics.responses(class))
                .collect::<Vec<_>>(),
            [0, 2, 0, 1, 2]
        );
    }
}
