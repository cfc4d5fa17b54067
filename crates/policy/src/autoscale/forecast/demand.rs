//! What a second asked for, whether or not there was room for it.
//!
//! A spike that finds too few replicas piles up: the requests in flight then tell of the shortage and not of the load, and a
//! forecast learnt from them would want replicas for a queue that would not have been there. So demand is taken from the requests that
//! arrived, times the time that a request takes once it has a place (Little's law).

use super::super::spec::Metric;
use super::super::window::Sample;

/// How much the past counts, second by second: the time a request takes is a mean over about a minute.
const MEMORY: f64 = 0.98;

/// Learns how long requests take.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Demand {
    /// Request-seconds in service, and requests finished, both fading.
    in_service: f64,
    finished: f64,
}

impl Demand {
    /// Returns how much of `metric` the second asked for, `None` while that cannot be told; `value` is what was measured.
    pub(crate) fn observe(&mut self, metric: Metric, sample: &Sample, value: f64) -> Option<f64> {
        self.in_service *= MEMORY;
        self.finished *= MEMORY;
        let in_service = sample.concurrency - sample.queue_depth;
        if in_service.is_finite() && sample.requests.is_finite() {
            self.in_service += in_service.max(0.0);
            self.finished += sample.requests.max(0.0);
        }
        let arrived = sample.arrived.filter(|arrived| arrived.is_finite());
        let asked = match (metric, arrived) {
            (Metric::Concurrency | Metric::Rps, Some(arrived)) if arrived <= 0.0 => 0.0,
            // Not a number until the first request is done.
            (Metric::Concurrency, Some(arrived)) => arrived * self.in_service / self.finished,
            (Metric::Rps, Some(arrived)) => arrived,
            _ => value,
        };
        asked.is_finite().then(|| asked.max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn demand_is_arrivals_times_the_time_in_service() {
        let sample = Sample {
            arrived: Some(60.0),
            requests: 8.0,
            concurrency: 1_000.0,
            queue_depth: 998.0,
            ..Sample::default()
        };
        let mut demand = Demand::default();
        assert_eq!(
            demand.observe(Metric::Concurrency, &sample, 1_000.0),
            Some(15.0)
        );
        assert_eq!(demand.observe(Metric::Rps, &sample, 8.0), Some(60.0));
        assert_eq!(demand.observe(Metric::Cpu, &sample, 2.0), Some(2.0));
    }

    #[test]
    fn without_arrivals_it_is_what_was_measured() {
        let mut demand = Demand::default();
        let mut sample = Sample {
            concurrency: 7.0,
            ..Sample::default()
        };
        assert_eq!(demand.observe(Metric::Concurrency, &sample, 7.0), Some(7.0));
        sample.arrived = Some(3.0);
        assert_eq!(
            demand.observe(Metric::Concurrency, &sample, 7.0),
            None,
            "nothing is done yet"
        );
        sample.arrived = Some(0.0);
        assert_eq!(demand.observe(Metric::Concurrency, &sample, 7.0), Some(0.0));
    }
}
