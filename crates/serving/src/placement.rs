//! Where a call runs: on the event loop that read it, or on the compute pool.

use std::cell::Cell;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use coracle_model::RunTime;

/// Where a call runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// On the event loop that read the request: no hand-over, for calls that are over soon.
    EventLoop,
    /// On the compute pool: for calls that would keep other connections waiting.
    ComputePool,
}

/// What is expected to take longer than this does not run on an event loop.
const EVENT_LOOP_MAX: Duration = Duration::from_micros(500);
/// What is expected to take longer than this does not run on an event loop either that has one caller only: who connects at the wrong
/// moment, and who is to learn that a caller has left, waits for it.
const ONE_CALLER_MAX: Duration = Duration::from_millis(10);
/// Runs that cost less are not put together on an event loop: what they cost is little beside their requests.
const JOINT_MIN: Duration = Duration::from_micros(5);
/// The numbers of calls of which it is looked whether they cost less together.
const JOINT_CALLS: [usize; 3] = [2, 4, 8];
/// The share of the cost one by one that they must not exceed.
const JOINT_SHARE: f64 = 0.75;
/// Before anything was measured, bodies beyond this many bytes are not decoded on an event loop.
const UNMEASURED_BYTES_MAX: usize = 32 * 1024;
/// Before anything was measured, calls of more rows do not run on an event loop.
const UNMEASURED_ROWS_MAX: usize = 64;
/// The weight of a new measurement: one in eight.
const SMOOTHING: f64 = 0.125;
/// A measurement that is off by no more than this share of the mean changes nothing: where costs are steady, event loops
/// write to nothing that others read.
const TOLERANCE: f64 = 0.25;
/// A measurement counts for no more than so many times the mean: one that was taken while its thread had no processor says nothing of
/// the model. A second in a row counts for so many times more, and what is after that is believed.
const OUTLIER: f64 = 4.0;
/// How many measurements in a row that lie so far off are not believed.
const OUTLIERS_MAX: u8 = 2;
/// The first measurement of a size counts for no more than so many times what other sizes let expect.
const FIRST_OUTLIER: f64 = 2.0;
/// A run that takes longer than this changes the mean in any case: one more write is nothing beside it.
const LONG_RUN: Duration = Duration::from_micros(200);
/// Of so many calls of which it was found that they do not cost less together, the last ones are put together all the same: that
/// may have been found in a bad moment.
const JOINT_LOOKS: u32 = 1_024;
/// How many.
const JOINT_TRIALS: u32 = 32;
/// Of so many looks at what is best put together, one tries a size that seemed not to be.
const LOOKS_PER_TRIAL: u32 = 64;
/// Costs are kept apart for 1, 2, 4, 8, ... rows, up to 2^23.
const N_SIZES: usize = 24;

/// An exponentially weighted mean; zero before the first measurement. Of two measurements at once one may be lost, which a
/// mean can bear.
#[derive(Debug, Default)]
struct Mean(AtomicU64);

impl Mean {
    fn get(&self) -> Option<f64> {
        let mean = f64::from_bits(self.0.load(Ordering::Relaxed));
        (mean > 0.0).then_some(mean)
    }

    fn forget(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    fn record(&self, measured: f64) {
        let is_near = |mean: f64| (measured - mean).abs() <= TOLERANCE * mean;
        if !self.get().is_some_and(is_near) {
            self.take_in(measured);
        }
    }

    fn take_in(&self, measured: f64) {
        let mean = match self.get() {
            None => measured,
            Some(mean) => mean + SMOOTHING * (measured - mean),
        };
        self.0.store(mean.to_bits(), Ordering::Relaxed);
    }
}

/// What a model's calls have cost: decoding per byte of request, running per row, apart for few and many rows (a run has a
/// fixed cost, and large runs do several rows at once), and encoding per row.
#[derive(Debug, Default)]
pub struct CallCost {
    decode_ns_per_byte: Mean,
    run_ns_per_row: [Mean; N_SIZES],
    encode_ns_per_row: Mean,
    run_time: AtomicU8,
    /// What was loaded when the runs were measured.
    content: AtomicU64,
    /// How many measurements of runs in a row lay far off.
    n_outliers: AtomicU8,
    /// How often it was asked whether a size is to be tried again.
    n_looks: AtomicU32,
}

thread_local! {
    /// How often calls did not seem to cost less together, or fewer ran together than were there: on each event loop.
    static JOINT: (Cell<u32>, Cell<u32>) = const { (Cell::new(0), Cell::new(0)) };
}

/// Counts up; returns the number before.
fn count_up(counter: &Cell<u32>) -> u32 {
    counter.replace(counter.get().wrapping_add(1))
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn per(elapsed: Duration, n: usize) -> f64 {
    elapsed.as_nanos() as f64 / n.max(1) as f64
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn ratio(n: usize, of: usize) -> f64 {
    n as f64 / of.max(1) as f64
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an estimate of a time, which is no less than nothing"
)]
fn times(ns_per: f64, n: usize) -> Duration {
    Duration::from_nanos((ns_per * n as f64) as u64)
}

/// What is known of the time of a model's runs, as a number: short, to be measured, any.
const SHORT: u8 = 0;
const UNKNOWN: u8 = 1;
const ANY: u8 = 2;

/// Returns which of the sizes `n_rows` is of.
fn size_index(n_rows: usize) -> usize {
    let log2 = n_rows.max(1).ilog2();
    usize::try_from(log2).unwrap_or(0).min(N_SIZES - 1)
}

impl CallCost {
    /// Returns a cost of which nothing is known.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in what is known of the time of runs, before any is measured of what was loaded now; `content` is the number of the files.
    pub(crate) fn expect(&self, run_time: RunTime, content: u64) {
        let number = match run_time {
            RunTime::Short => SHORT,
            RunTime::Unknown => UNKNOWN,
            RunTime::Any | RunTime::Elsewhere => ANY,
        };
        self.run_time.store(number, Ordering::Relaxed);
        let is_other = self.content.swap(content, Ordering::Relaxed) != content;
        if is_other || run_time != RunTime::Short {
            self.run_ns_per_row.iter().for_each(Mean::forget);
        }
    }

    /// Takes in how long a body of `n_bytes` took to decode.
    pub fn record_decode(&self, n_bytes: usize, elapsed: Duration) {
        self.decode_ns_per_byte.record(per(elapsed, n_bytes));
    }

    /// Takes in how long a run of `n_rows` took.
    pub fn record_run(&self, n_rows: usize, elapsed: Duration) {
        let mean = &self.run_ns_per_row[size_index(n_rows)];
        let measured = per(elapsed, n_rows);
        let most = match mean.get() {
            Some(mean) => OUTLIER * mean,
            None => FIRST_OUTLIER * self.plausible_ns_per_row(n_rows),
        };
        let measured = self.believed(measured, most);
        if elapsed < LONG_RUN {
            mean.record(measured);
        } else {
            mean.take_in(measured);
        }
    }

    /// Returns for how much a measurement counts that is to be no more than `most`.
    fn believed(&self, measured: f64, most: f64) -> f64 {
        let n_before = self.n_outliers.load(Ordering::Relaxed);
        if measured <= most {
            if n_before > 0 {
                self.n_outliers.store(0, Ordering::Relaxed);
            }
            return measured;
        }
        self.n_outliers
            .store(n_before.saturating_add(1), Ordering::Relaxed);
        if n_before < OUTLIERS_MAX {
            measured.min(most * OUTLIER.powi(i32::from(n_before)))
        } else {
            measured
        }
    }

    /// Returns what a row of a run of `n_rows` costs at most by what other sizes do, infinity if none was measured: not more than a
    /// row of fewer, and the whole run not more than one of more rows.
    fn plausible_ns_per_row(&self, n_rows: usize) -> f64 {
        let sizes = self.run_ns_per_row().map(|(least_rows, ns_per_row)| {
            if least_rows <= n_rows {
                ns_per_row
            } else {
                ns_per_row * ratio(least_rows, n_rows)
            }
        });
        sizes.fold(f64::INFINITY, f64::min)
    }

    /// Takes in how long the answer of `n_rows` took to encode.
    pub fn record_encode(&self, n_rows: usize, elapsed: Duration) {
        self.encode_ns_per_row.record(per(elapsed, n_rows));
    }

    /// Returns how long a body of `n_bytes` is expected to take to decode; `None` if nothing is known.
    #[must_use]
    pub fn decoding(&self, n_bytes: usize) -> Option<Duration> {
        self.decode_ns_per_byte
            .get()
            .map(|ns_per_byte| times(ns_per_byte, n_bytes))
    }

    /// Returns how long a run of `n_rows` is expected to take, with its encoding; `None` if nothing is known.
    ///
    /// A size that was not measured costs per row what the next smaller one costs that was, which is rather too much; else
    /// what the next larger one costs, which is soon measured better.
    #[must_use]
    pub fn running(&self, n_rows: usize) -> Option<Duration> {
        let size = size_index(n_rows);
        let (smaller, larger) = self.run_ns_per_row.split_at(size + 1);
        let mut nearest = smaller.iter().rev().chain(larger);
        let run = nearest.find_map(Mean::get)?;
        let encode = self.encode_ns_per_row.get().unwrap_or(0.0);
        Some(times(run + encode, n_rows))
    }

    /// Tells whether a run of `n_rows` is expected to be over soon enough for an event loop.
    fn fits_event_loop(&self, n_rows: usize) -> bool {
        let running = self.running(n_rows);
        running.is_some_and(|running| place(running) == Placement::EventLoop)
    }

    /// Tells whether a run of `n_rows` was measured, and is expected to be over soon enough for an event loop that has one caller only, who
    /// waits for `time_left`: no one tells him there that his time is over.
    #[must_use]
    pub fn fits_one_caller(&self, n_rows: usize, time_left: Duration) -> bool {
        let most = ONE_CALLER_MAX.min(time_left / 2);
        self.run_time.load(Ordering::Relaxed) != ANY
            && self.is_measured(n_rows)
            && self.running(n_rows).is_some_and(|running| running <= most)
    }

    /// Returns how many calls of so many rows each run together on an event loop: as many as are expected to be over soon enough; one, at
    /// least.
    pub fn joint_calls(&self, rows: impl Iterator<Item = usize> + Clone) -> usize {
        let most = |fits: &dyn Fn(usize) -> bool| {
            let mut n_rows = 0_usize;
            let sums = rows.clone().map(|rows| {
                n_rows = n_rows.saturating_add(rows.max(1));
                n_rows
            });
            // Fewer may seem not to fit though more do.
            let fitting = sums.enumerate().filter(|(_, n_rows)| fits(*n_rows));
            fitting.last().map_or(1, |(index, _)| index + 1)
        };
        let n_calls = most(&|n_rows| self.fits_event_loop(n_rows));
        let is_trial = || {
            let look = JOINT.with(|(_, looks)| count_up(looks));
            look % LOOKS_PER_TRIAL == LOOKS_PER_TRIAL - 1
        };
        if n_calls >= rows.clone().count() || !is_trial() {
            return n_calls;
        }
        // A size that was measured in a bad moment is measured again if others let expect that it fits.
        let fits = |n_rows| {
            let at_most = times(self.plausible_ns_per_row(n_rows), n_rows);
            place(at_most) == Placement::EventLoop
        };
        n_calls.max(most(&fits))
    }

    /// Tells whether calls of `n_rows` each, which run on an event loop, are better put together there: if several cost at most three
    /// quarters of what they cost one by one, or nobody knows that yet. Now and then it is tried again.
    pub(crate) fn is_less_together(&self, n_rows: usize) -> bool {
        let alone = self.running(n_rows).unwrap_or_default();
        if alone < JOINT_MIN {
            return false;
        }
        let is_less = JOINT_CALLS.into_iter().any(|n_calls| {
            let together = n_rows.saturating_mul(n_calls);
            let all = self.running(together).unwrap_or_default();
            let one_by_one = times(per(alone, 1), n_calls);
            !self.is_measured(together) || all <= one_by_one.mul_f64(JOINT_SHARE)
        });
        is_less || {
            let look = JOINT.with(|(looks, _)| count_up(looks));
            look % JOINT_LOOKS >= JOINT_LOOKS - JOINT_TRIALS
        }
    }

    /// Returns which of so many sizes that were measured is to be tried again now, if one is: each in its turn.
    pub(crate) fn next_trial(&self, n_sizes: usize) -> Option<usize> {
        let look = self.n_looks.fetch_add(1, Ordering::Relaxed);
        let turn = usize::try_from(look / LOOKS_PER_TRIAL).ok()?;
        (look % LOOKS_PER_TRIAL == LOOKS_PER_TRIAL - 1).then(|| turn.checked_rem(n_sizes))?
    }

    /// Tells whether runs of about `n_rows` were measured.
    pub(crate) fn is_measured(&self, n_rows: usize) -> bool {
        self.run_ns_per_row[size_index(n_rows)].get().is_some()
    }

    /// Returns the mean cost of decoding in ns per byte; 0 if nothing was measured.
    #[must_use]
    pub fn decode_ns_per_byte(&self) -> f64 {
        self.decode_ns_per_byte.get().unwrap_or(0.0)
    }

    /// Returns the mean costs of running in ns per row, for each measured size: the least number of rows of the size, the
    /// cost.
    pub fn run_ns_per_row(&self) -> impl Iterator<Item = (usize, f64)> {
        let sizes = self.run_ns_per_row.iter().enumerate();
        sizes.filter_map(|(size, mean)| Some((1_usize << size, mean.get()?)))
    }

    /// Returns where a body of `n_bytes` is decoded.
    #[must_use]
    pub fn decode_placement(&self, n_bytes: usize) -> Placement {
        match self.decoding(n_bytes) {
            Some(decoding) => place(decoding),
            None if n_bytes <= UNMEASURED_BYTES_MAX => Placement::EventLoop,
            None => Placement::ComputePool,
        }
    }

    /// Returns where a call of `n_rows` runs.
    #[must_use]
    pub fn run_placement(&self, n_rows: usize) -> Placement {
        let run_time = self.run_time.load(Ordering::Relaxed);
        if run_time != SHORT && (run_time == ANY || !self.is_measured(n_rows)) {
            return Placement::ComputePool;
        }
        match self.running(n_rows) {
            Some(running) => place(running),
            None if n_rows <= UNMEASURED_ROWS_MAX => Placement::EventLoop,
            None => Placement::ComputePool,
        }
    }
}

fn place(expected: Duration) -> Placement {
    if expected <= EVENT_LOOP_MAX {
        Placement::EventLoop
    } else {
        Placement::ComputePool
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn before_anything_is_measured_small_calls_stay_on_the_event_loop() {
        let cost = CallCost::new();
        assert_eq!(cost.decode_placement(32 << 10), Placement::EventLoop);
        assert_eq!(cost.decode_placement(33 << 10), Placement::ComputePool);
        assert_eq!(cost.run_placement(64), Placement::EventLoop);
        assert_eq!(cost.run_placement(65), Placement::ComputePool);
    }

    #[test]
    fn cheap_calls_stay_on_the_event_loop() {
        let cost = CallCost::new();
        // 50 ns a byte: 10,000 bytes take half a millisecond.
        cost.record_decode(100, Duration::from_nanos(5_000));
        assert_eq!(cost.decode_placement(10_000), Placement::EventLoop);
        assert_eq!(cost.decode_placement(10_001), Placement::ComputePool);
        // 5 us a row to run and 5 us to encode.
        cost.record_run(1, Duration::from_micros(5));
        cost.record_encode(10, Duration::from_micros(50));
        assert_eq!(cost.running(50), Some(Duration::from_micros(500)));
        assert_eq!(cost.run_placement(50), Placement::EventLoop);
        assert_eq!(cost.run_placement(51), Placement::ComputePool);
    }

    #[test]
    fn runs_of_any_time_never_come_to_the_event_loop_and_unknown_ones_once_measured() {
        let cost = CallCost::new();
        cost.expect(RunTime::Unknown, 0);
        assert_eq!(cost.run_placement(1), Placement::ComputePool);
        cost.record_run(1, Duration::from_micros(5));
        assert_eq!(cost.run_placement(1), Placement::EventLoop);
        // Another size is another measurement.
        assert_eq!(cost.run_placement(2), Placement::ComputePool);
        cost.record_run(3, Duration::from_micros(5));
        assert_eq!(cost.run_placement(2), Placement::EventLoop);
        // Other files, other times.
        cost.expect(RunTime::Unknown, 0);
        assert_eq!(cost.run_placement(1), Placement::ComputePool);
        for run_time in [RunTime::Any, RunTime::Elsewhere] {
            cost.expect(run_time, 0);
            cost.record_run(1, Duration::from_micros(1));
            assert_eq!(cost.run_placement(1), Placement::ComputePool);
        }
        cost.expect(RunTime::Any, 0);
        cost.record_run(1, Duration::from_micros(5));
        assert_eq!(cost.run_placement(1), Placement::ComputePool);
        cost.expect(RunTime::Short, 0);
        assert_eq!(cost.run_placement(1), Placement::EventLoop);
    }

    #[test]
    fn one_caller_is_answered_on_the_event_loop_if_that_is_known_to_take_some_milliseconds() {
        let time = Duration::from_millis(20);
        for (run_time, fits) in [
            (RunTime::Short, true),
            (RunTime::Unknown, true),
            (RunTime::Any, false),
            (RunTime::Elsewhere, false),
        ] {
            let cost = CallCost::new();
            cost.expect(run_time, 0);
            assert!(!cost.fits_one_caller(1, time));
            cost.record_run(1, Duration::from_millis(10));
            assert_eq!(cost.run_placement(1), Placement::ComputePool);
            assert_eq!(cost.fits_one_caller(1, time), fits, "{run_time:?}");
            // He would be answered at the last moment, or after it.
            assert!(!cost.fits_one_caller(1, Duration::from_millis(19)));
            // Another size is another measurement.
            assert!(!cost.fits_one_caller(2, time));
            cost.record_run(2, Duration::from_millis(21));
            assert!(!cost.fits_one_caller(2, time));
        }
    }

    #[test]
    fn few_and_many_rows_are_measured_apart() {
        let cost = CallCost::new();
        cost.record_run(1, Duration::from_micros(100));
        cost.record_run(1_000, Duration::from_millis(1));
        assert_eq!(cost.running(1), Some(Duration::from_micros(100)));
        // 512 to 1023 rows cost 1 us each, as more of them do; fewer cost what one does.
        assert_eq!(cost.running(600), Some(Duration::from_micros(600)));
        assert_eq!(cost.running(5_000), Some(Duration::from_millis(5)));
        assert_eq!(cost.running(2), Some(Duration::from_micros(200)));
        let large = CallCost::new();
        large.record_run(1_000, Duration::from_millis(1));
        assert_eq!(large.running(1), Some(Duration::from_micros(1)));
        assert_eq!(large.run_ns_per_row().collect::<Vec<_>>(), [(512, 1_000.0)]);
        assert_eq!(
            large.running(usize::MAX).map(place),
            Some(Placement::ComputePool)
        );
    }

    #[test]
    fn calls_are_put_together_where_that_costs_less_or_nobody_knows() {
        let cost = CallCost::new();
        assert!(!cost.is_less_together(1));
        cost.record_run(1, Duration::from_micros(4));
        assert!(!cost.is_less_together(1));
        let cost = CallCost::new();
        cost.record_run(1, Duration::from_micros(10));
        assert!(cost.is_less_together(1));
        // Two, four and eight rows cost as much as so many runs.
        cost.record_run(2, Duration::from_micros(20));
        assert!(cost.is_less_together(1));
        cost.record_run(4, Duration::from_micros(40));
        cost.record_run(8, Duration::from_micros(80));
        assert!(!cost.is_less_together(1));
        let cost = CallCost::new();
        cost.record_run(1, Duration::from_micros(10));
        cost.record_run(2, Duration::from_micros(20));
        cost.record_run(4, Duration::from_micros(40));
        cost.record_run(8, Duration::from_micros(60));
        assert!(cost.is_less_together(1));
        assert!(!cost.is_less_together(0));
    }

    #[test]
    fn what_was_found_in_a_bad_moment_is_tried_again() {
        let cost = CallCost::new();
        for rows in [1, 2, 4, 8] {
            cost.record_run(
                rows,
                Duration::from_micros(10) * u32::try_from(rows).unwrap(),
            );
        }
        let asked = (0..2_048).filter(|_| cost.is_less_together(1));
        assert_eq!(asked.count(), 64);
        // Two rows seemed to take too long. Four were never measured, and seem to as well.
        let cost = CallCost::new();
        cost.record_run(1, Duration::from_micros(300));
        cost.record_run(2, Duration::from_millis(5));
        (0..40).for_each(|_| cost.record_run(1, Duration::from_micros(60)));
        assert_eq!(cost.joint_calls([1].into_iter()), 1);
        let four = || cost.joint_calls([1; 4].into_iter());
        let asked: Vec<usize> = (0..128).map(|_| four()).collect();
        assert_eq!(asked.iter().filter(|calls| **calls == 4).count(), 2);
        assert_eq!(asked.iter().filter(|calls| **calls == 1).count(), 126);
        // Once they are measured they are taken.
        cost.record_run(4, Duration::from_micros(70));
        assert_eq!(four(), 4);
        assert_eq!(cost.joint_calls([1, 1].into_iter()), 1);
        // What does not fit by what is known of others is not tried.
        let slow = CallCost::new();
        slow.record_run(1, Duration::from_micros(400));
        assert!((0..128).all(|_| slow.joint_calls([1; 4].into_iter()) == 1));
    }

    #[test]
    fn a_measurement_of_a_bad_moment_counts_for_little() {
        let cost = CallCost::new();
        (0..3).for_each(|_| cost.record_run(1, Duration::from_micros(40)));
        // The thread had no processor for a while.
        cost.record_run(1, Duration::from_millis(20));
        assert_eq!(cost.running(1), Some(Duration::from_micros(55)));
        // So had the first run of four rows, and of eight.
        let cost = CallCost::new();
        cost.record_run(1, Duration::from_micros(40));
        cost.record_run(4, Duration::from_millis(20));
        assert_eq!(cost.running(4), Some(Duration::from_micros(320)));
        cost.record_run(16, Duration::from_micros(160));
        cost.record_run(8, Duration::from_millis(20));
        assert_eq!(cost.running(8), Some(Duration::from_micros(320)));
        // The first of all is believed.
        let cost = CallCost::new();
        cost.record_run(4, Duration::from_millis(20));
        assert_eq!(cost.running(4), Some(Duration::from_millis(20)));
        // What has become slow is found out at the third run.
        let cost = CallCost::new();
        cost.record_run(1, Duration::from_micros(5));
        for _ in 0..2 {
            cost.record_run(1, Duration::from_millis(20));
            assert_eq!(cost.run_placement(1), Placement::EventLoop);
        }
        cost.record_run(1, Duration::from_millis(20));
        assert_eq!(cost.run_placement(1), Placement::ComputePool);
        // Bad moments that are far apart are not added up.
        let cost = CallCost::new();
        cost.record_run(1, Duration::from_micros(40));
        for _ in 0..10 {
            cost.record_run(1, Duration::from_millis(20));
            (0..20).for_each(|_| cost.record_run(1, Duration::from_micros(40)));
            assert_eq!(cost.run_placement(1), Placement::EventLoop);
        }
    }

    #[test]
    fn other_files_are_measured_anew() {
        let cost = CallCost::new();
        cost.expect(RunTime::Short, 7);
        cost.record_run(1, Duration::from_micros(40));
        cost.record_run(8, Duration::from_micros(80));
        // The same again, after it was let go of for a while.
        cost.expect(RunTime::Short, 7);
        assert_eq!(cost.running(8), Some(Duration::from_micros(80)));
        cost.expect(RunTime::Short, 8);
        assert_eq!(cost.running(1), None);
        // Its warm-up is believed, whatever the last one took.
        cost.record_run(1, Duration::from_millis(20));
        assert_eq!(cost.run_placement(1), Placement::ComputePool);
    }

    #[test]
    fn a_model_that_becomes_slow_moves_to_the_pool_and_back() {
        let cost = CallCost::new();
        let settle = |elapsed| (0..100).for_each(|_| cost.record_run(1, elapsed));
        settle(Duration::from_micros(2));
        assert_eq!(cost.run_placement(1), Placement::EventLoop);
        settle(Duration::from_millis(2));
        assert_eq!(cost.run_placement(1), Placement::ComputePool);
        settle(Duration::from_micros(2));
        assert_eq!(cost.run_placement(1), Placement::EventLoop);
    }

    #[test]
    fn steady_costs_write_nothing() {
        let mean = Mean::default();
        mean.record(100.0);
        mean.record(124.0);
        mean.record(76.0);
        assert_eq!(mean.get(), Some(100.0));
        mean.record(180.0);
        assert_eq!(mean.get(), Some(110.0));
    }
}
