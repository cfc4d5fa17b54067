//! What a revision did in each of the last seconds, and averages over windows of them, as Knative takes them.

use std::time::Duration;

use super::spec::Aggregation;

/// The sum of weights in a weighted average comes at least this near to 1.
const WEIGHTS_SUM_MIN: f64 = 0.9999;
/// The least weight of the newest second in a weighted average.
const NEWEST_WEIGHT_MIN: f64 = 0.2;

/// What a revision did in one second, all replicas together. Numbers that are not finite or below zero count as 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// The mean number of requests in flight, those waiting for a place (or for a replica) included.
    pub concurrency: f64,
    /// Requests finished.
    pub requests: f64,
    /// Requests that arrived, held and refused ones included; only predictions use it, and do with `concurrency` if it is `None`.
    pub arrived: Option<f64>,
    /// The mean number of requests waiting for a place.
    pub queue_depth: f64,
    /// Processor time used, in core-seconds.
    pub cpu_cores: f64,
    /// Memory in use, in bytes.
    pub memory_bytes: f64,
    /// The 99th percentile of latency of the requests finished; `None` if there were none.
    pub latency_p99: Option<Duration>,
}

impl Sample {
    fn cleaned(self) -> Self {
        let clean = |number: f64| {
            if number.is_finite() {
                number.max(0.0)
            } else {
                0.0
            }
        };
        Self {
            concurrency: clean(self.concurrency),
            requests: clean(self.requests),
            arrived: None,
            queue_depth: clean(self.queue_depth),
            cpu_cores: clean(self.cpu_cores),
            memory_bytes: clean(self.memory_bytes),
            latency_p99: self.latency_p99,
        }
    }

    fn add(&mut self, other: Self) {
        self.concurrency += other.concurrency;
        self.requests += other.requests;
        self.queue_depth += other.queue_depth;
        self.cpu_cores += other.cpu_cores;
        self.memory_bytes += other.memory_bytes;
        self.latency_p99 = self.latency_p99.max(other.latency_p99);
    }
}

/// A window that ends now: its length, and since when there are samples in it without a gap as long as the window.
#[derive(Clone, Copy, Debug)]
struct Span {
    seconds: u64,
    first: u64,
}

/// The last seconds of a revision in a ring of fixed size, with a long (stable) and a short (panic) window over it.
#[derive(Clone, Debug)]
pub(crate) struct Samples {
    ring: Vec<Sample>,
    /// The newest second written; `None` before the first.
    last: Option<u64>,
    stable: Span,
    panic: Span,
}

/// Which of the two windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Stable,
    Panic,
}

impl Samples {
    pub(crate) fn new(stable_window: Duration, panic_window: Duration) -> Self {
        let span = |window: Duration| Span {
            seconds: window.as_secs().max(1),
            first: 0,
        };
        let stable = span(stable_window);
        let mut panic = span(panic_window);
        panic.seconds = panic.seconds.min(stable.seconds);
        Self {
            ring: vec![Sample::default(); stable.seconds as usize],
            last: None,
            stable,
            panic,
        }
    }

    /// Changes the windows; keeps what fits.
    pub(crate) fn resize(&mut self, stable_window: Duration, panic_window: Duration) {
        let mut resized = Self::new(stable_window, panic_window);
        if let Some(last) = self.last {
            let oldest = self
                .stable
                .first
                .max((last + 1).saturating_sub(self.stable.seconds));
            for second in oldest..=last {
                resized.write(second, self.ring[self.index(second)]);
            }
        }
        *self = resized;
    }

    /// Adds what was done in the second that contains `now`; older than the stable window is passed over.
    pub(crate) fn record(&mut self, now: Duration, sample: Sample) {
        self.write(now.as_secs(), sample.cleaned());
    }

    fn write(&mut self, second: u64, sample: Sample) {
        match self.last {
            Some(last) if second + self.stable.seconds <= last => return,
            Some(last) if second <= last => {}
            last => {
                let gap_start = last.map_or(second, |last| last + 1);
                let gap_start = gap_start.max((second + 1).saturating_sub(self.stable.seconds));
                for passed in gap_start..=second {
                    let index = self.index(passed);
                    self.ring[index] = Sample::default();
                }
                self.last = Some(second);
                for span in [&mut self.stable, &mut self.panic] {
                    if last.is_none_or(|last| second - last >= span.seconds) {
                        span.first = second;
                    }
                }
            }
        }
        for span in [&mut self.stable, &mut self.panic] {
            span.first = span.first.min(second);
        }
        let index = self.index(second);
        self.ring[index].add(sample);
    }

    /// Says whether there was no sample for a whole stable window.
    pub(crate) fn is_empty(&self, now: Duration) -> bool {
        let last = self.last;
        last.is_none_or(|last| now.as_secs().saturating_sub(last) > self.stable.seconds)
    }

    /// Returns the average of `value` over a window.
    pub(crate) fn average(
        &self,
        now: Duration,
        which: Which,
        aggregation: Aggregation,
        value: impl Fn(&Sample) -> f64,
    ) -> f64 {
        match aggregation {
            Aggregation::Linear => self.linear(now, which, value),
            Aggregation::WeightedExponential => self.weighted(now, which, value),
        }
    }

    /// The seconds of the window that are written, and how many seconds the window has so far.
    fn written(&self, now: Duration, which: Which) -> Option<(std::ops::RangeInclusive<u64>, u64)> {
        let span = self.span(which);
        let last = self.last?;
        let silent = now.as_secs().saturating_sub(last);
        if silent >= span.seconds {
            return None;
        }
        let length = (last - span.first + 1).min(span.seconds - silent);
        Some((last + 1 - length..=last, length))
    }

    fn linear(&self, now: Duration, which: Which, value: impl Fn(&Sample) -> f64) -> f64 {
        let Some((seconds, length)) = self.written(now, which) else {
            return 0.0;
        };
        let total: f64 = seconds
            .map(|second| value(&self.ring[self.index(second)]))
            .sum();
        // Cut to six digits, as Knative does, so that sums of rounded numbers do not ask for a replica more.
        (total / length as f64 * 1e6).floor() / 1e6
    }

    fn weighted(&self, now: Duration, which: Which, value: impl Fn(&Sample) -> f64) -> f64 {
        let Some((seconds, _)) = self.written(now, which) else {
            return 0.0;
        };
        let n_seconds = self.span(which).seconds as f64;
        let newest = (1.0 - (1.0 - WEIGHTS_SUM_MIN).powf(1.0 / n_seconds)).max(NEWEST_WEIGHT_MIN);
        let silent = now.as_secs().saturating_sub(*seconds.end());
        let mut weight = newest * (1.0 - newest).powf(silent as f64);
        let mut average = 0.0;
        for second in seconds.rev() {
            average += weight * value(&self.ring[self.index(second)]);
            weight *= 1.0 - newest;
        }
        average
    }

    /// Returns the mean of the seconds' 99th percentiles in the panic window, each counting by its requests.
    pub(crate) fn latency_p99(&self, now: Duration) -> Option<Duration> {
        let (seconds, _) = self.written(now, Which::Panic)?;
        let (mut sum, mut requests) = (0.0, 0.0);
        for second in seconds {
            let sample = &self.ring[self.index(second)];
            if let Some(latency) = sample.latency_p99 {
                let weight = sample.requests.max(1.0);
                sum += latency.as_secs_f64() * weight;
                requests += weight;
            }
        }
        (requests > 0.0).then(|| Duration::from_secs_f64(sum / requests))
    }

    fn span(&self, which: Which) -> Span {
        match which {
            Which::Stable => self.stable,
            Which::Panic => self.panic,
        }
    }

    fn index(&self, second: u64) -> usize {
        (second % self.ring.len() as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    fn samples(stable: u64, panic: u64) -> Samples {
        Samples::new(at(stable), at(panic))
    }

    fn write(samples: &mut Samples, seconds: std::ops::Range<u64>, concurrency: f64) {
        for second in seconds {
            let sample = Sample {
                concurrency,
                ..Sample::default()
            };
            samples.record(at(second), sample);
        }
    }

    fn linear(samples: &Samples, now: u64, which: Which) -> f64 {
        samples.average(at(now), which, Aggregation::Linear, |s| s.concurrency)
    }

    #[test]
    fn averages_divide_by_the_seconds_that_have_passed() {
        let mut samples = samples(60, 6);
        write(&mut samples, 100..106, 5.0);
        assert_eq!(linear(&samples, 105, Which::Stable), 5.0);
        write(&mut samples, 106..112, 10.0);
        assert_eq!(linear(&samples, 111, Which::Stable), 7.5);
        assert_eq!(linear(&samples, 111, Which::Panic), 10.0);
    }

    #[test]
    fn gaps_within_a_window_count_as_zero_and_silence_at_its_end_does_not() {
        let mut samples = samples(60, 6);
        write(&mut samples, 0..1, 10.0);
        write(&mut samples, 4..5, 10.0);
        assert_eq!(linear(&samples, 4, Which::Stable), 4.0);
        assert_eq!(linear(&samples, 30, Which::Stable), 4.0);
        assert_eq!(linear(&samples, 63, Which::Stable), 10.0);
        assert_eq!(linear(&samples, 64, Which::Stable), 0.0);
    }

    #[test]
    fn a_window_begins_anew_after_a_gap_as_long_as_itself() {
        let mut samples = samples(60, 6);
        write(&mut samples, 0..60, 10.0);
        write(&mut samples, 70..71, 30.0);
        assert_eq!(linear(&samples, 70, Which::Panic), 30.0);
        assert_eq!(linear(&samples, 70, Which::Stable), 8.666_666);
        write(&mut samples, 200..201, 30.0);
        assert_eq!(linear(&samples, 200, Which::Stable), 30.0);
    }

    #[test]
    fn two_samples_of_one_second_add_up_and_late_ones_are_placed() {
        let mut samples = samples(60, 6);
        write(&mut samples, 10..11, 1.0);
        write(&mut samples, 10..11, 2.0);
        write(&mut samples, 8..9, 9.0);
        assert_eq!(linear(&samples, 10, Which::Stable), 4.0);
        write(&mut samples, 100..101, 1.0);
        write(&mut samples, 12..13, 7.0);
        assert_eq!(linear(&samples, 100, Which::Stable), 1.0);
    }

    #[test]
    fn emptiness_is_a_stable_window_without_samples() {
        let mut samples = samples(60, 6);
        assert!(samples.is_empty(at(0)));
        write(&mut samples, 10..11, 0.0);
        assert!(!samples.is_empty(at(70)));
        assert!(samples.is_empty(at(71)));
    }

    /// The example in Knative's source: exponent 0.6 over [10, 10, 5, 5] gives 5.544, and 9.072 the other way round.
    /// With 4 buckets the exponent is 0.9 by its formula; the same sums are written out for that.
    #[test]
    fn weighted_averages_follow_knative() {
        let mut samples = samples(4, 4);
        write(&mut samples, 0..2, 10.0);
        write(&mut samples, 2..4, 5.0);
        let average = |samples: &Samples, now| {
            samples.average(
                at(now),
                Which::Stable,
                Aggregation::WeightedExponential,
                |s| s.concurrency,
            )
        };
        let expected = 5.0 * 0.9 + 5.0 * 0.09 + 10.0 * 0.009 + 10.0 * 0.0009;
        assert!((average(&samples, 3) - expected).abs() < 1e-9);
        let silent = 0.1 * (5.0 * 0.9 + 5.0 * 0.09 + 10.0 * 0.009);
        assert!((average(&samples, 4) - silent).abs() < 1e-9);
    }

    #[test]
    fn resizing_keeps_what_fits() {
        let mut samples = samples(60, 6);
        write(&mut samples, 0..50, 2.0);
        write(&mut samples, 50..60, 8.0);
        samples.resize(at(20), at(2));
        assert_eq!(linear(&samples, 59, Which::Stable), 5.0);
        samples.resize(at(120), at(12));
        assert_eq!(linear(&samples, 59, Which::Stable), 5.0);
        assert_eq!(
            linear(&samples, 59, Which::Panic),
            (8.0 * 10.0 + 2.0 * 2.0) / 12.0
        );
    }

    #[test]
    fn numbers_that_are_none_count_as_zero() {
        let mut samples = samples(60, 6);
        write(&mut samples, 0..1, f64::NAN);
        write(&mut samples, 1..2, f64::INFINITY);
        write(&mut samples, 2..3, -5.0);
        assert_eq!(linear(&samples, 2, Which::Stable), 0.0);
    }

    #[test]
    fn latency_is_weighted_by_requests() {
        let mut samples = samples(60, 6);
        for (second, requests, millis) in [(0, 30.0, 10), (1, 10.0, 50)] {
            let sample = Sample {
                requests,
                latency_p99: Some(Duration::from_millis(millis)),
                ..Sample::default()
            };
            samples.record(at(second), sample);
        }
        assert_eq!(samples.latency_p99(at(1)), Some(Duration::from_millis(20)));
        assert_eq!(samples.latency_p99(at(7)), None);
    }
}
