//! What is counted: per event loop, without locks, summed when asked.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use coracle_base::{Clock, Code};

use crate::exemplar::{Exemplar, Exemplars};
use crate::histogram::{Histogram, HistogramTotals, N_TIME_BUCKETS, time_bucket};
use crate::in_work::InWork;
use crate::load::LatencyCounts;
use crate::per_thread::{PerThread, Slot, Writer};
use crate::{InferenceCounters, Rejection, TraceId};

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
    /// Seldon's over REST.
    Seldon,
    /// Whatever else the program of a process runtime answers.
    Other,
}

impl Protocol {
    /// Every protocol, in declaration order.
    pub const ALL: [Self; 7] = [
        Self::V1,
        Self::V2,
        Self::Grpc,
        Self::Tfs,
        Self::TfsGrpc,
        Self::Seldon,
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
            Self::Seldon => "seldon",
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
            Self::Seldon => 5,
            Self::Other => 6,
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
    match outcome {
        Ok(()) => 0,
        // Codes are in declaration order in `Code::ALL`, too.
        Err(code) => 1 + code as usize,
    }
}

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

/// Returns a time in ns; 584 years at most.
pub(crate) fn to_ns(time: Duration) -> u64 {
    time.as_secs()
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::from(time.subsec_nanos()))
}

/// One thread's counters of one model; on cache lines of their own, so that threads do not disturb each other.
#[derive(Debug, Default)]
#[repr(align(128))]
struct CallCounters {
    latency: Histogram<N_TIME_BUCKETS>,
    success_sum_ns: AtomicU64,
    compute_ns: AtomicU64,
    started: AtomicU64,
    finished: AtomicU64,
    flow: Flow,
    requests: [[AtomicU64; N_OUTCOMES]; Protocol::ALL.len()],
    rejections: [AtomicU64; Rejection::ALL.len()],
    exemplars: Exemplars,
    /// Those of the calls above that the model is not judged by.
    unjudged: UnjudgedCounters,
    /// Those of its own that have not ended, since they are watched.
    in_work: OnceLock<Box<InWork>>,
}

/// Calls that stood in for another service's model: a service has no say in when these come, nor in whether they are fit for it. And those that began before
/// the trial of a rollout that the model is in: they say how it was then.
#[derive(Debug, Default)]
struct UnjudgedCounters {
    finished: AtomicU64,
    failed: AtomicU64,
    latency: Histogram<N_TIME_BUCKETS>,
}

/// The counters of one model.
#[derive(Debug)]
pub struct ModelStatistics {
    calls: PerThread<CallCounters>,
    inferences: InferenceCounters,
    /// Whether it is kept when each call in work began.
    is_watched: AtomicBool,
    /// Which trial of a rollout the model is in; 0 is none.
    trial: AtomicU64,
    /// When that began, on the monotonic clock.
    trial_began_ns: AtomicU64,
    /// What the model had done by then.
    before_trial: Mutex<Judged>,
}

/// The calls that a model is judged by, of those that have ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Judged {
    /// These and all others.
    pub(crate) n_ended: u64,
    pub(crate) n_finished: u64,
    pub(crate) n_failed: u64,
    /// By how long they took.
    pub(crate) latency: Vec<u64>,
}

impl ModelStatistics {
    pub(crate) fn new(n_workers: usize) -> Self {
        Self {
            calls: PerThread::new(n_workers),
            inferences: InferenceCounters::new(n_workers),
            is_watched: AtomicBool::new(false),
            trial: AtomicU64::new(0),
            trial_began_ns: AtomicU64::new(0),
            before_trial: Mutex::default(),
        }
    }

    /// Returns what is counted of the inferences that went well.
    #[must_use]
    pub fn inferences(&self) -> &InferenceCounters {
        &self.inferences
    }

    /// Counts the start of a call at `now` on event loop `worker`, whose calls all begin and end on its own thread; it is
    /// in flight until what is returned is finished or dropped, which `clock` then tells the time of.
    #[must_use]
    pub fn start<'a>(&'a self, worker: usize, now: Duration, clock: &'a dyn Clock) -> InFlight<'a> {
        let call = self.resume(worker, now, clock);
        call.slot.add(&call.slot.counters.started, 1);
        call.slot.counters.flow.change(now, 1);
        if self.is_watched.load(Ordering::Relaxed) {
            let in_work = &call.slot.counters.in_work;
            in_work.get_or_init(Box::default).begin(now);
        }
        call
    }

    /// Says whether it is kept from now on when each call in work began.
    pub(crate) fn watch(&self, is_watched: bool) {
        self.is_watched.store(is_watched, Ordering::Relaxed);
    }

    /// Lets the model be in this trial of a rollout; if it is another one than before, calls that began before `now` say nothing of the model any more.
    pub(crate) fn begin_trial(&self, trial: u64, now: Duration) {
        if self.trial() == trial {
            return;
        }
        self.trial_began_ns.store(to_ns(now), Ordering::Relaxed);
        *self.lock_before_trial() = self.judged();
        // Who reads it reads what was before it.
        self.trial.store(trial, Ordering::Release);
    }

    /// Returns which trial of a rollout the model is in; 0 is none.
    pub(crate) fn trial(&self) -> u64 {
        self.trial.load(Ordering::Acquire)
    }

    fn lock_before_trial(&self) -> MutexGuard<'_, Judged> {
        self.before_trial
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what the model had done before the trial.
    pub(crate) fn before_trial(&self) -> Judged {
        self.lock_before_trial().clone()
    }

    /// Returns the calls in work that were begun since they are watched, and in the trial, by how long they are at `now`; without those that stand in for
    /// others.
    pub(crate) fn in_work(&self, now: Duration) -> LatencyCounts {
        let mut counts = LatencyCounts::default();
        let since = Duration::from_nanos(self.trial_began_ns.load(Ordering::Relaxed));
        for in_work in self.calls.iter().filter_map(|calls| calls.in_work.get()) {
            in_work.count(since, now, &mut counts);
        }
        counts
    }

    /// Returns a call that was counted as started at `started` before.
    pub(crate) fn resume<'a>(
        &'a self,
        worker: usize,
        started: Duration,
        clock: &'a dyn Clock,
    ) -> InFlight<'a> {
        InFlight {
            slot: self.calls.slot(Writer::EventLoop(worker)),
            started,
            clock,
            stands_in: false,
            trial_began_ns: &self.trial_began_ns,
        }
    }

    /// Returns the sum of calls in flight over time up to `now`, in seconds times calls: its growth in a second is the mean
    /// number of calls in flight during that second. Wraps around.
    #[must_use]
    pub fn flow_ns(&self, now: Duration) -> u64 {
        let sums = self.calls.iter().map(|calls| calls.flow.sum_at(now));
        sums.fold(0, u64::wrapping_add)
    }

    /// Returns how many calls have begun.
    #[must_use]
    pub fn started(&self) -> u64 {
        self.calls.sum(|calls| &calls.started)
    }

    /// Returns how many calls have ended.
    #[must_use]
    pub fn finished(&self) -> u64 {
        self.calls.sum(|calls| &calls.finished)
    }

    /// Counts the time that a processor spent on a call.
    pub fn compute(&self, writer: Writer, elapsed: Duration) {
        let slot = self.calls.slot(writer);
        slot.add(&slot.counters.compute_ns, to_ns(elapsed));
    }

    /// Counts a call that was turned away, beside its end.
    pub fn reject(&self, why: Rejection) {
        let slot = self.calls.slot(Writer::Other);
        slot.add(&slot.counters.rejections[why.index()], 1);
    }

    /// Returns how many calls were turned away for this reason.
    #[must_use]
    pub fn rejections(&self, why: Rejection) -> u64 {
        self.calls.sum(|calls| &calls.rejections[why.index()])
    }

    /// Returns how many calls of `protocol` ended as `outcome`.
    #[must_use]
    pub fn requests(&self, protocol: Protocol, outcome: Outcome) -> u64 {
        self.calls
            .sum(|calls| &calls.requests[protocol.index()][outcome_index(outcome)])
    }

    /// Returns how many calls are in flight.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        // Finished is read first, so that a call between the two reads counts as in flight, not as negative.
        let finished = self.finished();
        self.started().saturating_sub(finished)
    }

    /// Returns when a call began or ended last, on the monotonic clock; zero if none has.
    #[must_use]
    pub fn last_change(&self) -> Duration {
        let calls = self.calls.iter();
        let changes = calls.map(|calls| calls.flow.changed_at_ns.load(Ordering::Relaxed));
        Duration::from_nanos(changes.max().unwrap_or(0))
    }

    /// Returns the latencies of calls, from the complete request to the complete answer.
    pub(crate) fn latency(&self) -> HistogramTotals {
        HistogramTotals::of(self.calls.iter().map(|calls| &calls.latency))
    }

    /// Returns the calls that the model is judged by.
    pub(crate) fn judged(&self) -> Judged {
        let unjudged = HistogramTotals::of(self.calls.iter().map(|calls| &calls.unjudged.latency));
        let n_unjudged = self.calls.sum(|calls| &calls.unjudged.finished);
        let n_failed = self.calls.sum(|calls| &calls.unjudged.failed);
        // These are read last: what ends meanwhile counts as the service's own for now, and never as less than none.
        let buckets = self.latency().buckets.into_iter();
        let buckets = buckets.zip(unjudged.buckets);
        let n_ended = self.finished();
        Judged {
            n_ended,
            n_finished: n_ended.saturating_sub(n_unjudged),
            n_failed: self.ended()[1].0.saturating_sub(n_failed),
            latency: buckets
                .map(|(all, unjudged)| all.saturating_sub(unjudged))
                .collect(),
        }
    }

    /// Returns the bound that so many of 100 calls took at most; `None` if fewer than `n_least` have ended, or it is beyond the last bound.
    #[must_use]
    pub fn latency_percentile(&self, percent: u8, n_least: u64) -> Option<Duration> {
        let buckets = self.latency().buckets;
        let n_calls: u64 = buckets.iter().sum();
        if n_calls < n_least.max(1) {
            return None;
        }
        let rank = n_calls.saturating_mul(u64::from(percent)).div_ceil(100);
        let mut n_seen = 0;
        let bucket = buckets.iter().position(|count| {
            n_seen += count;
            n_seen >= rank
        })?;
        let bound = crate::histogram::TIME_BOUNDS.get(bucket)?;
        Some(Duration::from_nanos(bound.value))
    }

    /// Returns the trace of the last request of a bucket of latencies, of those that had one.
    pub(crate) fn exemplar(&self, bucket: usize) -> Option<Exemplar> {
        let exemplars = self.calls.iter();
        let exemplars = exemplars.filter_map(|calls| calls.exemplars.get(bucket));
        exemplars.max_by_key(|exemplar| exemplar.at)
    }

    /// Returns the time that processors spent on calls.
    #[must_use]
    pub fn compute_time(&self) -> Duration {
        Duration::from_nanos(self.calls.sum(|calls| &calls.compute_ns))
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
        let success_ns = self.calls.sum(|calls| &calls.success_sum_ns);
        let failed_ns = self.latency().sum.saturating_sub(success_ns);
        [
            (counts[0], Duration::from_nanos(success_ns)),
            (counts[1], Duration::from_nanos(failed_ns)),
        ]
    }
}

/// A call in flight.
#[derive(Debug)]
pub struct InFlight<'a> {
    slot: Slot<'a, CallCounters>,
    started: Duration,
    /// Tells when a call ends that is dropped.
    clock: &'a dyn Clock,
    stands_in: bool,
    trial_began_ns: &'a AtomicU64,
}

impl InFlight<'_> {
    /// Returns it as a call that stands in for another service's model: it is counted, and its model is not judged by it.
    #[must_use]
    pub fn standing_in(self) -> Self {
        let mut call = self;
        call.no_longer_in_work();
        call.stands_in = true;
        call
    }

    /// Leaves it in flight, for whoever counts its end.
    pub fn hand_over(self) {
        std::mem::forget(self);
    }

    /// Tells whether the model is judged by it.
    fn is_judged(&self) -> bool {
        let trial_began_ns = self.trial_began_ns.load(Ordering::Relaxed);
        !self.stands_in && to_ns(self.started) >= trial_began_ns
    }

    fn no_longer_in_work(&self) {
        if let Some(in_work) = self.slot.counters.in_work.get() {
            in_work.end(self.started);
        }
    }

    /// Keeps the trace that the call is part of as an example of its latency; `ended` is on the monotonic clock, `at` the same
    /// time since 1970.
    pub fn exemplify(&self, trace: TraceId, ended: Duration, at: Duration) {
        let value_ns = to_ns(ended.saturating_sub(self.started));
        let exemplar = Exemplar {
            trace,
            value_ns,
            at,
        };
        let exemplars = &self.slot.counters.exemplars;
        exemplars.keep(time_bucket(value_ns), exemplar);
    }

    /// Counts the end of the call at `now`.
    pub fn finish(self, protocol: Protocol, outcome: Outcome, now: Duration) {
        let is_judged = self.is_judged();
        let (slot, counters) = (self.slot, self.slot.counters);
        let elapsed_ns = to_ns(now.saturating_sub(self.started));
        let requests = &counters.requests[protocol.index()];
        slot.add(&requests[outcome_index(outcome)], 1);
        counters
            .latency
            .add(&slot, time_bucket(elapsed_ns), elapsed_ns);
        if outcome.is_ok() {
            slot.add(&counters.success_sum_ns, elapsed_ns);
        }
        counters.flow.change(now, -1);
        slot.add(&counters.finished, 1);
        if !is_judged {
            let unjudged = &counters.unjudged;
            slot.add(&unjudged.finished, 1);
            slot.add(&unjudged.failed, u64::from(outcome.is_err()));
            let bucket = time_bucket(elapsed_ns);
            unjudged.latency.add(&slot, bucket, elapsed_ns);
        }
        if !self.stands_in {
            self.no_longer_in_work();
        }
        // Counted already.
        std::mem::forget(self);
    }
}

impl Drop for InFlight<'_> {
    /// A call whose caller has gone ends without an outcome.
    fn drop(&mut self) {
        self.slot.counters.flow.change(self.clock.monotonic(), -1);
        self.slot.add(&self.slot.counters.finished, 1);
        if !self.is_judged() {
            self.slot.add(&self.slot.counters.unjudged.finished, 1);
        }
        if !self.stands_in {
            self.no_longer_in_work();
        }
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
        let latency = statistics.latency();
        let bucket = |ns| latency.buckets[time_bucket(ns)];
        let found = [50_000, 100_000, u64::MAX].map(bucket);
        assert_eq!((found, latency.count()), ([1, 1, 1], 3));
    }

    /// What stands in for others is among the requests, and a revision is judged without it.
    #[test]
    fn what_stands_in_for_others_is_no_one_s_own() {
        let (statistics, clock) = (ModelStatistics::new(1), ManualClock::new());
        let at = Duration::from_micros;
        let start = || statistics.start(0, at(0), &clock);
        start().finish(Protocol::V1, Ok(()), at(50));
        start().finish(Protocol::V1, Err(Code::Internal), at(50));
        for outcome in [Ok(()), Err(Code::DeadlineExceeded)] {
            let call = start().standing_in();
            call.finish(Protocol::V1, outcome, Duration::from_secs(20));
        }
        drop(start().standing_in());
        let late = Err(Code::DeadlineExceeded);
        assert_eq!(statistics.requests(Protocol::V1, late), 1);
        assert_eq!((statistics.finished(), statistics.in_flight()), (5, 0));
        let judged = statistics.judged();
        assert_eq!((judged.n_finished, judged.n_failed), (2, 1));
        assert_eq!(judged.latency[time_bucket(50_000)], 2);
        assert_eq!(judged.latency.iter().sum::<u64>(), 2);
    }

    /// Of a canary that is tried once more only what it did since then is told, whatever still hangs.
    #[test]
    fn calls_of_an_earlier_trial_say_nothing_of_this_one() {
        let (statistics, clock) = (ModelStatistics::new(1), ManualClock::new());
        let at = Duration::from_secs;
        let start = |now| statistics.start(0, now, &clock);
        let late = Err(Code::DeadlineExceeded);
        statistics.watch(true);
        statistics.begin_trial(7, at(1));
        start(at(1)).finish(Protocol::V1, late, at(2));
        let [hanging, left] = [2, 3].map(|seconds| start(at(seconds)));
        assert_eq!(statistics.in_work(at(4)).iter().sum::<u64>(), 2);
        statistics.begin_trial(8, at(5));
        let before = statistics.before_trial();
        assert_eq!((before.n_finished, before.n_failed), (1, 1));
        let own = start(at(5));
        assert_eq!(statistics.in_work(at(6)).iter().sum::<u64>(), 1);
        hanging.finish(Protocol::V1, late, at(9));
        drop(left);
        own.finish(Protocol::V1, Ok(()), at(9));
        // It is the same one until there is another.
        statistics.begin_trial(8, at(10));
        let judged = statistics.judged();
        assert_eq!((judged.n_ended, judged.n_finished), (4, 2));
        assert_eq!((judged.n_failed, statistics.trial()), (1, 8));
        assert_eq!(judged.latency.iter().sum::<u64>(), 2);
        assert_eq!(statistics.in_work(at(10)).iter().sum::<u64>(), 0);
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
}
