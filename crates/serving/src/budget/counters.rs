//! What is counted of loads and evictions.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Why a model is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadReason {
    /// Before a request asks for it: at the start, or because its files or the plan say so.
    Ahead,
    /// A request waits for it.
    Request,
}

impl LoadReason {
    /// Every reason, in declaration order.
    pub const ALL: [Self; 2] = [Self::Ahead, Self::Request];

    /// Returns the name, fit for a label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ahead => "ahead",
            Self::Request => "request",
        }
    }

    fn index(self) -> usize {
        match self {
            Self::Ahead => 0,
            Self::Request => 1,
        }
    }
}

/// The upper bounds of the histogram of loads in ns: 1-2.5-5 steps from 250 us to 100 s.
pub(crate) const RELOAD_BOUNDS_NS: [u64; 18] = [
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    25_000_000_000,
    50_000_000_000,
    100_000_000_000,
];

/// What is counted of loads and evictions.
#[derive(Debug, Default)]
pub struct BudgetCounters {
    evictions: AtomicU64,
    loads: [AtomicU64; LoadReason::ALL.len()],
    failures: AtomicU64,
    reloads: [AtomicU64; RELOAD_BOUNDS_NS.len() + 1],
    reload_ns: AtomicU64,
}

impl BudgetCounters {
    pub(crate) fn evicted(&self) {
        self.evictions.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a load that went well; `waited` is the time from the request that asked for it until the model was there.
    pub fn loaded(&self, reason: LoadReason, waited: Duration) {
        self.loads[reason.index()].fetch_add(1, Ordering::Relaxed);
        if reason == LoadReason::Request {
            let ns = u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX);
            let bucket = RELOAD_BOUNDS_NS.partition_point(|&bound| bound < ns);
            self.reloads[bucket].fetch_add(1, Ordering::Relaxed);
            self.reload_ns.fetch_add(ns, Ordering::Relaxed);
        }
    }

    /// Counts a load that failed, for want of room too.
    pub fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how many models were let go of to make room.
    #[must_use]
    pub fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Relaxed)
    }

    /// Returns how many loads went well.
    #[must_use]
    pub fn loads(&self, reason: LoadReason) -> u64 {
        self.loads[reason.index()].load(Ordering::Relaxed)
    }

    /// Returns how many loads failed.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Returns the number of loads for requests by the time that those waited, and the sum of the times.
    #[must_use]
    pub fn reloads(&self) -> (Vec<u64>, Duration) {
        let counts = self.reloads.iter();
        let counts = counts.map(|count| count.load(Ordering::Relaxed));
        let sum = Duration::from_nanos(self.reload_ns.load(Ordering::Relaxed));
        (counts.collect(), sum)
    }
}
