//! What is counted of inferences that went well: rows and the time of each phase; per event loop, without locks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

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

#[derive(Debug, Default)]
#[repr(align(128))]
struct Counters {
    count: AtomicU64,
    n_rows: AtomicU64,
    queue_ns: AtomicU64,
    decode_ns: AtomicU64,
    run_ns: AtomicU64,
    encode_ns: AtomicU64,
    last_ended_ns: AtomicU64,
    n_pooled: AtomicU64,
    n_joined: AtomicU64,
}

/// The counters of one model.
#[derive(Debug)]
pub struct InferenceCounters {
    workers: Vec<Counters>,
}

impl InferenceCounters {
    pub(crate) fn new(n_workers: usize) -> Self {
        let mut workers = Vec::new();
        workers.resize_with(n_workers.max(1), Counters::default);
        Self { workers }
    }

    /// Counts an inference of event loop `worker`.
    pub fn add(&self, worker: usize, inference: Inference) {
        let counters = &self.workers[worker % self.workers.len()];
        let n_rows = u64::try_from(inference.n_rows).unwrap_or(u64::MAX);
        for (counter, by) in [
            (&counters.count, 1),
            (&counters.n_rows, n_rows),
            (&counters.queue_ns, nanoseconds(inference.queue)),
            (&counters.decode_ns, nanoseconds(inference.decode)),
            (&counters.run_ns, nanoseconds(inference.run)),
            (&counters.encode_ns, nanoseconds(inference.encode)),
        ] {
            counter.fetch_add(by, Ordering::Relaxed);
        }
        let ended = nanoseconds(inference.ended);
        counters.last_ended_ns.fetch_max(ended, Ordering::Relaxed);
        for (counter, by) in [
            (&counters.n_pooled, inference.pooled),
            (&counters.n_joined, inference.joined),
        ] {
            if by {
                counter.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Returns the sums over all event loops.
    #[must_use]
    pub fn totals(&self) -> InferenceTotals {
        let loads = |counter: fn(&Counters) -> &AtomicU64| {
            let counters = self.workers.iter();
            counters.map(move |worker| counter(worker).load(Ordering::Relaxed))
        };
        let time = |counter| Duration::from_nanos(loads(counter).sum());
        InferenceTotals {
            count: loads(|worker| &worker.count).sum(),
            n_rows: loads(|worker| &worker.n_rows).sum(),
            queue: time(|worker| &worker.queue_ns),
            decode: time(|worker| &worker.decode_ns),
            run: time(|worker| &worker.run_ns),
            encode: time(|worker| &worker.encode_ns),
            last_ended: Duration::from_nanos(
                loads(|worker| &worker.last_ended_ns).max().unwrap_or(0),
            ),
            n_pooled: loads(|worker| &worker.n_pooled).sum(),
            n_joined: loads(|worker| &worker.n_joined).sum(),
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_summed_over_event_loops() {
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
        counters.add(0, inference(5, 100));
        counters.add(1, inference(7, 90));
        let totals = counters.totals();
        assert_eq!((totals.count, totals.n_rows), (2, 12));
        assert_eq!((totals.n_pooled, totals.n_runs()), (2, 1));
        assert_eq!(totals.queue + totals.decode, Duration::from_nanos(6));
        assert_eq!(totals.run + totals.encode, Duration::from_nanos(14));
        assert_eq!(totals.last_ended, Duration::from_nanos(100));
    }
}
