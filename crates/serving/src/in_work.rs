//! Calls in work, by how long they are: what hangs says nothing by ending. One event loop writes, anybody reads; kept only of models that are compared.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::histogram::time_bucket;
use crate::load::LatencyCounts;
use crate::statistics::to_ns;

/// How many calls at a time are known of an event loop; more of them are not.
const CALLS_MAX: usize = 256;

/// When the calls began that an event loop has in work.
#[derive(Debug)]
pub(crate) struct InWork {
    /// Those that are known.
    n_calls: AtomicU64,
    /// When each began, in ns from 1 on; 0 is a free place.
    begun: [AtomicU64; CALLS_MAX],
}

impl Default for InWork {
    fn default() -> Self {
        Self {
            n_calls: AtomicU64::new(0),
            begun: [const { AtomicU64::new(0) }; CALLS_MAX],
        }
    }
}

/// Returns a time as it is kept.
fn kept(time: Duration) -> u64 {
    to_ns(time).saturating_add(1)
}

impl InWork {
    /// Notes a call that began at `started`.
    pub(crate) fn begin(&self, started: Duration) {
        if self.change(0, kept(started)) {
            let n_calls = self.n_calls.load(Ordering::Relaxed);
            self.n_calls.store(n_calls + 1, Ordering::Relaxed);
        }
    }

    /// Notes that a call that began at `started` is over; of those of the same time it does not matter which.
    pub(crate) fn end(&self, started: Duration) {
        let n_calls = self.n_calls.load(Ordering::Relaxed);
        if n_calls > 0 && self.change(kept(started), 0) {
            self.n_calls.store(n_calls - 1, Ordering::Relaxed);
        }
    }

    /// Writes `to` to the first place that holds `from`; tells whether there is one.
    fn change(&self, from: u64, to: u64) -> bool {
        let mut places = self.begun.iter();
        let place = places.find(|place| place.load(Ordering::Relaxed) == from);
        if let Some(place) = place {
            place.store(to, Ordering::Relaxed);
        }
        place.is_some()
    }

    /// Adds the calls in work that began at `since` or later to `counts`, by how long they are at `now`.
    pub(crate) fn count(&self, since: Duration, now: Duration, counts: &mut LatencyCounts) {
        let begun = self.begun.iter().map(|place| place.load(Ordering::Relaxed));
        for begun in begun.filter(|begun| *begun >= kept(since)) {
            let bucket = time_bucket(kept(now).saturating_sub(begun));
            if let Some(count) = counts.get_mut(bucket) {
                *count += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::N_TIME_BUCKETS;

    #[test]
    fn calls_are_counted_by_how_long_they_are_in_work_and_none_after_its_end() {
        let in_work = InWork::default();
        let at = Duration::from_millis;
        let counts = |now| {
            let mut counts = [0; N_TIME_BUCKETS];
            in_work.count(Duration::ZERO, at(now), &mut counts);
            counts
        };
        let bucket = |ms: u64| time_bucket(ms * 1_000_000);
        for started in [0, 0, 900] {
            in_work.begin(at(started));
        }
        // One that was not known to begin.
        in_work.end(at(500));
        let mut expected = [0; N_TIME_BUCKETS];
        (expected[bucket(1_000)], expected[bucket(100)]) = (2, 1);
        assert_eq!(counts(1_000), expected);
        let mut late = [0; N_TIME_BUCKETS];
        in_work.count(at(900), at(1_000), &mut late);
        assert_eq!((late[bucket(100)], late.iter().sum::<u64>()), (1, 1));
        in_work.end(at(0));
        in_work.end(at(900));
        assert_eq!(counts(60_000)[N_TIME_BUCKETS - 1], 1);
        in_work.end(at(0));
        assert_eq!(counts(60_000), [0; N_TIME_BUCKETS]);
        // No more are known than there are places, and no place is lost.
        for _ in 0..2 {
            (0..400).for_each(|started| in_work.begin(at(started)));
            assert_eq!(counts(0).iter().sum::<u64>(), 256);
            (0..400).for_each(|started| in_work.end(at(started)));
            assert_eq!(counts(0), [0; N_TIME_BUCKETS]);
        }
    }
}
