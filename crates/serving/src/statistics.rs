//! What is counted: per event loop, without locks, summed when asked.

use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Duration;

use coracle_base::{Clock, Code};

use crate::InferenceCounters;

/// A protocol in which calls come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// KServe's V1 over REST.
    V1,
    /// The Open Inference Protocol over REST.
    V2,
    /// The Open Inference Protocol over gRPC.
    Grpc,
    /// TensorFlow Serving's over REST, where it is not V1.
    Tfs,
    /// TensorFlow Serving's over gRPC.
    TfsGrpc,
    /// Whatever else the program of a process runtime answers.
    Other,
}

impl Protocol {
    /// Every protocol, in declaration order.
    pub const ALL: [Self; 6] = [
        Self::V1,
        Self::V2,
        Self::Grpc,
        Self::Tfs,
        Self::TfsGrpc,
        Self::Other,
    ];

    /// Returns the name, fit for a label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
            Self::Grpc => "grpc",
            Self::Tfs => "tfs",
            Self::TfsGrpc => "tfs_grpc",
            Self::Other => "other",
        }
    }

    fn index(self) -> usize {
        match self {
            Self::V1 => 0,
            Self::V2 => 1,
            Self::Grpc => 2,
            Self::Tfs => 3,
            Self::TfsGrpc => 4,
            Self::Other => 5,
        }
    }
}

/// How a call ended: well, or with a failure.
pub type Outcome = Result<(), Code>;

/// Returns the label of an outcome: `ok` or the code's name.
pub(crate) fn outcome_label(outcome: Outcome) -> &'static str {
    match outcome {
        Ok(()) => "ok",
        Err(code) => code.as_str(),
    }
}

/// Every outcome: `ok` first, then the codes in declaration order.
pub(crate) fn outcomes() -> impl Iterator<Item = Outcome> {
    std::iter::once(Ok(())).chain(Code::ALL.map(Err))
}

const N_OUTCOMES: usize = Code::ALL.len() + 1;

fn outcome_index(outcome: Outcome) -> usize {
    outcomes().position(|known| known == outcome).unwrap_or(0)
}

/// The upper bounds of the latency histogram in ns: 1-2.5-5 steps from 50 us to 10 s.
pub(crate) const LATENCY_BOUNDS_NS: [u64; 17] = [
    50_000,
    100_000,
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
];

const N_BUCKETS: usize = LATENCY_BOUNDS_NS.len() + 1;

/// How many calls there were at each time, summed up over time; written by one event loop only.
///
/// Readers must not see one half of a change: the writer makes `sequence` odd while it writes.
#[derive(Debug, Default)]
struct Flow {
    sequence: AtomicU64,
    in_flight: AtomicU64,
    changed_at_ns: AtomicU64,
    /// Calls times ns, up to the last change.
    sum: AtomicU64,
}

impl Flow {
    /// Notes that at `now` calls began (+1) or ended (-1).
    fn change(&self, now: Duration, by: i64) {
        let now = to_ns(now);
        let sequence = self.sequence.load(Ordering::Relaxed);
        self.sequence
            .store(sequence.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        let n = self.in_flight.load(Ordering::Relaxed);
        let elapsed = now.saturating_sub(self.changed_at_ns.load(Ordering::Relaxed));
        let sum = self.sum.load(Ordering::Relaxed);
        self.sum
            .store(sum.wrapping_add(n.wrapping_mul(elapsed)), Ordering::Relaxed);
        self.changed_at_ns.store(now, Ordering::Relaxed);
        self.in_flight
            .store(n.saturating_add_signed(by), Ordering::Relaxed);
        self.sequence
            .store(sequence.wrapping_add(2), Ordering::Release);
    }

    /// Returns the sum up to `now`, in calls times ns.
    fn sum_at(&self, now: Duration) -> u64 {
        loop {
            let sequence = self.sequence.load(Ordering::Acquire);
            let n = self.in_flight.load(Ordering::Relaxed);
            let elapsed = to_ns(now).saturating_sub(self.changed_at_ns.load(Ordering::Relaxed));
            let sum = self.sum.load(Ordering::Relaxed);
            fence(Ordering::Acquire);
            if sequence.is_multiple_of(2) && self.sequence.load(Ordering::Relaxed) == sequence {
                return sum.wrapping_add(n.wrapping_mul(elapsed));
            }
            std::hint::spin_loop();
        }
    }
}

fn to_ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// One event loop's counters of one model; on cache lines of their own, so that loops do not disturb each other.
#[derive(Debug, Default)]
#[repr(align(128))]
struct WorkerCounters {
    requests: [[AtomicU64; N_OUTCOMES]; Protocol::ALL.len()],
    latency: [AtomicU64; N_BUCKETS],
    latency_sum_ns: AtomicU64,
    success_sum_ns: AtomicU64,
    compute_ns: AtomicU64,
    started: AtomicU64,
    finished: AtomicU64,
    flow: Flow,
}

/// The counters of one model.
#[derive(Debug)]
pub struct ModelStatistics {
    workers: Vec<WorkerCounters>,
    inferences: InferenceCounters,
}

impl ModelStatistics {
    pub(crate) fn new(n_workers: usize) -> Self {
        let mut workers = Vec::new();
        workers.resize_with(n_workers.max(1), WorkerCounters::default);
        Self {
            workers,
            inferences: InferenceCounters::new(n_workers),
        }
    }

    /// Returns what is counted of the inferences that went well.
    #[must_use]
    pub fn inferences(&self) -> &InferenceCounters {
        &self.inferences
    }

    fn worker(&self, worker: usize) -> &WorkerCounters {
        &self.workers[worker % self.workers.len()]
    }

    /// Counts the start of a call at `now` on event loop `worker`, whose calls all begin and end on one thread; it is
    /// in flight until what is returned is finished or dropped, which `clock` then tells the time of.
    #[must_use]
    pub fn start<'a>(&'a self, worker: usize, now: Duration, clock: &'a dyn Clock) -> InFlight<'a> {
        let counters = self.worker(worker);
        counters.started.fetch_add(1, Ordering::Relaxed);
        counters.flow.change(now, 1);
        self.resume(worker, now, clock)
    }

    /// Returns a call that was counted as started at `started` before.
    pub(crate) fn resume<'a>(
        &'a self,
        worker: usize,
        started: Duration,
        clock: &'a dyn Clock,
    ) -> InFlight<'a> {
        InFlight {
            counters: self.worker(worker),
            started,
            clock,
        }
    }

    /// Returns the sum of calls in flight over time up to `now`, in seconds times calls: its growth in a second is the mean
    /// number of calls in flight during that second. Wraps around.
    #[must_use]
    pub fn flow_ns(&self, now: Duration) -> u64 {
        let sums = self.workers.iter().map(|worker| worker.flow.sum_at(now));
        sums.fold(0, u64::wrapping_add)
    }

    /// Returns how many calls have begun.
    #[must_use]
    pub fn started(&self) -> u64 {
        self.sum(|worker| &worker.started)
    }

    /// Returns how many calls have ended.
    #[must_use]
    pub fn finished(&self) -> u64 {
        self.sum(|worker| &worker.finished)
    }

    /// Counts the time that a processor spent on a call.
    pub fn compute(&self, worker: usize, elapsed: Duration) {
        let elapsed_ns = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        let counter = &self.worker(worker).compute_ns;
        counter.fetch_add(elapsed_ns, Ordering::Relaxed);
    }

    fn sum(&self, counter: impl Fn(&WorkerCounters) -> &AtomicU64) -> u64 {
        let loads = self
            .workers
            .iter()
            .map(|worker| counter(worker).load(Ordering::Relaxed));
        loads.sum()
    }

    /// Returns how many calls of `protocol` ended as `outcome`.
    #[must_use]
    pub fn requests(&self, protocol: Protocol, outcome: Outcome) -> u64 {
        self.sum(|worker| &worker.requests[protocol.index()][outcome_index(outcome)])
    }

    /// Returns how many calls are in flight.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        // Finished is read first, so that a call between the two reads counts as in flight, not as negative.
        let finished = self.sum(|worker| &worker.finished);
        self.sum(|worker| &worker.started).saturating_sub(finished)
    }

    /// Returns the number of calls in each latency bucket; the last one has no bound.
    #[must_use]
    pub fn latency_buckets(&self) -> Vec<u64> {
        (0..N_BUCKETS)
            .map(|bucket| self.sum(|worker| &worker.latency[bucket]))
            .collect()
    }

    /// Returns the time that processors spent on calls.
    #[must_use]
    pub fn compute_time(&self) -> Duration {
        Duration::from_nanos(self.sum(|worker| &worker.compute_ns))
    }

    /// Returns how many calls ended well and how many failed, each with the sum of their latencies.
    #[must_use]
    pub fn ended(&self) -> [(u64, Duration); 2] {
        let mut counts = [0, 0];
        for protocol in Protocol::ALL {
            for outcome in outcomes() {
                counts[usize::from(outcome.is_err())] += self.requests(protocol, outcome);
            }
        }
        let success_ns = self.sum(|worker| &worker.success_sum_ns);
        let all_ns = self.sum(|worker| &worker.latency_sum_ns);
        let failed_ns = all_ns.saturating_sub(success_ns);
        [
            (counts[0], Duration::from_nanos(success_ns)),
            (counts[1], Duration::from_nanos(failed_ns)),
        ]
    }

    /// Returns the sum of all latencies.
    #[must_use]
    pub fn latency_sum(&self) -> Duration {
        Duration::from_nanos(self.sum(|worker| &worker.latency_sum_ns))
    }
}

/// A call in flight.
#[derive(Debug)]
pub struct InFlight<'a> {
    counters: &'a WorkerCounters,
    started: Duration,
    /// Tells when a call ends that is dropped.
    clock: &'a dyn Clock,
}

impl InFlight<'_> {
    /// Counts the end of the call at `now`.
    pub fn finish(self, protocol: Protocol, outcome: Outcome, now: Duration) {
        let counters = self.counters;
        let add = |counter: &AtomicU64, by: u64| counter.fetch_add(by, Ordering::Relaxed);
        let elapsed_ns = to_ns(now.saturating_sub(self.started));
        let bucket = LATENCY_BOUNDS_NS.partition_point(|&bound| bound < elapsed_ns);
        add(
            &counters.requests[protocol.index()][outcome_index(outcome)],
            1,
        );
        add(&counters.latency[bucket], 1);
        add(&counters.latency_sum_ns, elapsed_ns);
        if outcome.is_ok() {
            add(&counters.success_sum_ns, elapsed_ns);
        }
        counters.flow.change(now, -1);
        add(&counters.finished, 1);
        // Counted already.
        std::mem::forget(self);
    }
}

impl Drop for InFlight<'_> {
    /// A call whose caller has gone ends without an outcome.
    fn drop(&mut self) {
        self.counters.flow.change(self.clock.monotonic(), -1);
        self.counters.finished.fetch_add(1, Ordering::Relaxed);
    }
}

/// HTTP answers by status class, and connections; for the whole server.
#[derive(Debug, Default)]
pub struct HttpStatistics {
    /// Answers with statuses 1xx to 5xx.
    responses: [AtomicU64; 5],
    opened: AtomicU64,
    closed: AtomicU64,
    refused: AtomicU64,
    log_lines_dropped: AtomicU64,
}

impl HttpStatistics {
    /// Returns counters at zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts an answer.
    pub fn respond(&self, status: u16) {
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        self.responses[class].fetch_add(1, Ordering::Relaxed);
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
        let counter = class
            .checked_sub(1)
            .and_then(|index| self.responses.get(index));
        counter.map_or(0, |counter| counter.load(Ordering::Relaxed))
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
    use coracle_base::ManualClock;

    use super::*;

    #[test]
    fn workers_are_summed() {
        let (statistics, clock) = (ModelStatistics::new(2), ManualClock::new());
        let at = Duration::from_micros;
        let calls = [0, 1, 1].map(|worker| statistics.start(worker, at(0), &clock));
        assert_eq!(statistics.in_flight(), 3);
        let [first, second, third] = calls;
        first.finish(Protocol::V1, Ok(()), at(50));
        second.finish(Protocol::V1, Ok(()), at(51));
        third.finish(
            Protocol::V2,
            Err(Code::InvalidArgument),
            Duration::from_secs(11),
        );
        assert_eq!(statistics.in_flight(), 0);
        assert_eq!(statistics.requests(Protocol::V1, Ok(())), 2);
        let ended = [
            (2, Duration::from_micros(101)),
            (1, Duration::from_secs(11)),
        ];
        assert_eq!(statistics.ended(), ended);
        assert_eq!(
            statistics.requests(Protocol::V2, Err(Code::InvalidArgument)),
            1
        );
        assert_eq!(statistics.requests(Protocol::V2, Ok(())), 0);
        let buckets = statistics.latency_buckets();
        assert_eq!((buckets[0], buckets[1], buckets[N_BUCKETS - 1]), (1, 1, 1));
        assert_eq!(buckets.iter().sum::<u64>(), 3);
    }

    #[test]
    fn the_flow_is_the_number_of_calls_over_time() {
        let (statistics, clock) = (ModelStatistics::new(2), ManualClock::new());
        let at = Duration::from_secs;
        let second_ns = 1_000_000_000;
        let first = statistics.start(0, at(10), &clock);
        let second = statistics.start(1, at(11), &clock);
        // One from 10 to 12, another one from 11 to 12.
        assert_eq!(statistics.flow_ns(at(12)), 3 * second_ns);
        first.finish(Protocol::V1, Ok(()), at(12));
        assert_eq!(statistics.flow_ns(at(13)), 4 * second_ns);
        second.finish(Protocol::V1, Ok(()), at(14));
        assert_eq!(statistics.flow_ns(at(99)), 5 * second_ns);
        // A call whose caller goes was in flight until then.
        let left = statistics.start(0, at(100), &clock);
        clock.advance(at(103));
        drop(left);
        assert_eq!(statistics.in_flight(), 0);
        assert_eq!(statistics.flow_ns(at(200)), 8 * second_ns);
        assert_eq!(statistics.finished(), 3);
    }

    #[test]
    fn statuses_are_counted_by_class() {
        let statistics = HttpStatistics::new();
        for status in [200, 204, 404, 503, 999] {
            statistics.respond(status);
        }
        assert_eq!(
            (1..=5)
                .map(|class| statistics.responses(class))
                .collect::<Vec<_>>(),
            [0, 2, 0, 1, 2]
        );
    }
}
