//! What is counted of inferences that went well: rows and the time of each phase; per thread, without locks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::histogram::{
    Histogram, HistogramTotals, N_ROW_BUCKETS, N_TIME_BUCKETS, row_bucket, time_bucket,
};
use crate::per_thread::{PerThread, Writer};
use crate::statistics::to_ns;

/// One inference that went well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inference {
    /// The rows of the request.
    pub n_rows: usize,
    /// From its arrival until a thread took it.
    pub queue: Duration,
    /// Decoding.
    pub decode: Duration,
    /// Running the model.
    pub run: Duration,
    /// Encoding.
    pub encode: Duration,
    /// When it ended, on the monotonic clock.
    pub ended: Duration,
    /// Whether it ran on the compute pool.
    pub pooled: bool,
    /// Whether it shared the run of another one.
    pub joined: bool,
}

/// All inferences so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InferenceTotals {
    /// How many there were.
    pub count: u64,
    /// The rows of all.
    pub n_rows: u64,
    /// The time of all from arrival until a thread took them.
    pub queue: Duration,
    /// The time of decoding.
    pub decode: Duration,
    /// The time of running the model.
    pub run: Duration,
    /// The time of encoding.
    pub encode: Duration,
    /// When the last one ended, on the monotonic clock.
    pub last_ended: Duration,
    /// How many ran on the compute pool.
    pub n_pooled: u64,
    /// How many shared the run of another one.
    pub n_joined: u64,
}

impl InferenceTotals {
    /// Returns how many runs of the model they were.
    #[must_use]
    pub fn n_runs(&self) -> u64 {
        self.count.saturating_sub(self.n_joined)
    }
}

/// A part of the time of an inference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Queue,
    Decode,
    Run,
    Encode,
}

/// One thread's counters.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Counters {
    count: AtomicU64,
    n_rows: AtomicU64,
    last_ended_ns: AtomicU64,
    n_pooled: AtomicU64,
    n_joined: AtomicU64,
    /// By phase.
    times: [Histogram<N_TIME_BUCKETS>; 4],
    /// The rows of each run.
    runs: Histogram<N_ROW_BUCKETS>,
}

/// The counters of one model.
#[derive(Debug)]
pub struct InferenceCounters {
    threads: PerThread<Counters>,
}

impl InferenceCounters {
    pub(crate) fn new(n_workers: usize) -> Self {
        Self {
            threads: PerThread::new(n_workers),
        }
    }

    /// Counts an inference.
    pub fn add(&self, writer: Writer, inference: Inference) {
        let slot = self.threads.slot(writer);
        let counters = slot.counters;
        slot.add(&counters.count, 1);
        let n_rows = u64::try_from(inference.n_rows).unwrap_or(u64::MAX);
        slot.add(&counters.n_rows, n_rows);
        slot.raise(&counters.last_ended_ns, to_ns(inference.ended));
        slot.add(&counters.n_pooled, u64::from(inference.pooled));
        slot.add(&counters.n_joined, u64::from(inference.joined));
        let times = [
            inference.queue,
            inference.decode,
            inference.run,
            inference.encode,
        ];
        for (histogram, time) in counters.times.iter().zip(times) {
            let ns = to_ns(time);
            histogram.add(&slot, time_bucket(ns), ns);
        }
    }

    /// Counts a run of the model over `n_rows` rows, be they of one request or of several.
    pub fn ran(&self, writer: Writer, n_rows: usize) {
        let slot = self.threads.slot(writer);
        let n_rows = u64::try_from(n_rows).unwrap_or(u64::MAX);
        slot.counters.runs.add(&slot, row_bucket(n_rows), n_rows);
    }

    /// Returns the times of one phase.
    pub(crate) fn phase(&self, phase: Phase) -> HistogramTotals {
        let threads = self.threads.iter();
        HistogramTotals::of(threads.map(|counters| &counters.times[phase as usize]))
    }

    /// Returns the rows of runs.
    pub(crate) fn runs(&self) -> HistogramTotals {
        HistogramTotals::of(self.threads.iter().map(|counters| &counters.runs))
    }

    /// Returns the sums over all threads.
    #[must_use]
    pub fn totals(&self) -> InferenceTotals {
        let time = |phase: Phase| {
            let threads = self.threads.iter();
            let sums = threads.map(|counters| counters.times[phase as usize].sum());
            Duration::from_nanos(sums.fold(0, u64::wrapping_add))
        };
        let ended = self.threads.iter();
        let ended = ended.map(|counters| counters.last_ended_ns.load(Ordering::Relaxed));
        InferenceTotals {
            count: self.threads.sum(|counters| &counters.count),
            n_rows: self.threads.sum(|counters| &counters.n_rows),
            queue: time(Phase::Queue),
            decode: time(Phase::Decode),
            run: time(Phase::Run),
            encode: time(Phase::Encode),
            last_ended: Duration::from_nanos(ended.max().unwrap_or(0)),
            n_pooled: self.threads.sum(|counters| &counters.n_pooled),
            n_joined: self.threads.sum(|counters| &counters.n_joined),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_summed_over_threads() {
        let counters = InferenceCounters::new(2);
        let inference = |n_rows, ended| Inference {
            n_rows,
            queue: Duration::from_nanos(1),
            decode: Duration::from_nanos(2),
            run: Duration::from_nanos(3),
            encode: Duration::from_nanos(4),
            ended: Duration::from_nanos(ended),
            pooled: true,
            joined: n_rows == 7,
        };
        counters.add(Writer::EventLoop(0), inference(5, 100));
        counters.add(Writer::EventLoop(1), inference(7, 90));
        counters.add(Writer::Other, inference(3, 80));
        let totals = counters.totals();
        assert_eq!((totals.count, totals.n_rows), (3, 15));
        assert_eq!((totals.n_pooled, totals.n_runs()), (3, 2));
        assert_eq!(totals.queue + totals.decode, Duration::from_nanos(9));
        assert_eq!(totals.run + totals.encode, Duration::from_nanos(21));
        assert_eq!(totals.last_ended, Duration::from_nanos(100));
    }
}
