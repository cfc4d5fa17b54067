//! What is counted of what leaves the server besides answers: payloads for the record, and spans of traces.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why something was lost on its way out. The list is closed: each is a label's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportLoss {
    /// There was no room to keep it: the receiver is slower than what comes.
    QueueFull,
    /// The receiver did not take it.
    Refused,
}

impl ExportLoss {
    /// Every reason, in declaration order.
    pub const ALL: [Self; 2] = [Self::QueueFull, Self::Refused];

    /// Returns the name, fit for a label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Refused => "refused",
        }
    }
}

/// The counters of one kind of things that leave the server.
#[derive(Debug, Default)]
pub struct ExportCounters {
    sent: AtomicU64,
    lost: [AtomicU64; ExportLoss::ALL.len()],
    held_bytes: AtomicU64,
}

impl ExportCounters {
    /// Counts what was taken by its receiver.
    pub fn send(&self, n: u64) {
        self.sent.fetch_add(n, Ordering::Relaxed);
    }

    /// Counts what was lost.
    pub fn lose(&self, why: ExportLoss, n: u64) {
        self.lost[why as usize].fetch_add(n, Ordering::Relaxed);
    }

    /// Takes room for `n_bytes`; false, and none is taken, if that would be more than `most` in all.
    #[must_use]
    pub fn try_hold(&self, n_bytes: u64, most: u64) -> bool {
        let before = self.held_bytes.fetch_add(n_bytes, Ordering::Relaxed);
        let is_room = before.saturating_add(n_bytes) <= most;
        if !is_room {
            self.release(n_bytes);
        }
        is_room
    }

    /// Gives room back.
    pub fn release(&self, n_bytes: u64) {
        self.held_bytes.fetch_sub(n_bytes, Ordering::Relaxed);
    }

    /// Returns how many were taken by their receivers.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Returns how many were lost for this reason.
    #[must_use]
    pub fn lost(&self, why: ExportLoss) -> u64 {
        self.lost[why as usize].load(Ordering::Relaxed)
    }

    /// Returns the bytes that wait.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.held_bytes.load(Ordering::Relaxed)
    }
}

/// All of them.
#[derive(Debug, Default)]
pub struct ExportStatistics {
    /// Requests and answers for the record.
    pub payloads: ExportCounters,
    /// Spans of traces.
    pub spans: ExportCounters,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_bounded() {
        let counters = ExportCounters::default();
        assert!(counters.try_hold(6, 10) && !counters.try_hold(5, 10));
        assert_eq!(counters.held_bytes(), 6);
        assert!(counters.try_hold(4, 10));
        counters.release(10);
        assert!(!counters.try_hold(u64::MAX, 10));
        assert_eq!(counters.held_bytes(), 0);
        counters.lose(ExportLoss::Refused, 2);
        assert_eq!(ExportLoss::ALL.map(|why| counters.lost(why)), [0, 2]);
    }
}
