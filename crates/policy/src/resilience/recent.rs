//! Counts over a window that moves: ten buckets in a ring.

use std::time::Duration;

const BUCKETS: usize = 10;

/// Two counts per bucket: all, and those of interest.
#[derive(Clone, Debug)]
pub(crate) struct Recent {
    bucket: Duration,
    counts: [(u64, u64); BUCKETS],
    /// The number of the newest bucket.
    newest: u64,
}

impl Recent {
    pub(crate) fn new(window: Duration) -> Self {
        Self {
            bucket: (window / BUCKETS as u32).max(Duration::from_millis(1)),
            counts: [(0, 0); BUCKETS],
            newest: 0,
        }
    }

    /// Adds to the bucket of `now`.
    pub(crate) fn add(&mut self, now: Duration, (all, marked): (u64, u64)) {
        self.pass(now);
        let (all_before, marked_before) = &mut self.counts[(self.newest % BUCKETS as u64) as usize];
        *all_before += all;
        *marked_before += marked;
    }

    /// Returns the counts of the window that ends at `now`.
    pub(crate) fn total(&mut self, now: Duration) -> (u64, u64) {
        self.pass(now);
        let add = |(all, marked): (u64, u64), next: &(u64, u64)| (all + next.0, marked + next.1);
        self.counts.iter().fold((0, 0), add)
    }

    pub(crate) fn clear(&mut self) {
        self.counts = [(0, 0); BUCKETS];
    }

    fn pass(&mut self, now: Duration) {
        let number = now.as_nanos() / self.bucket.as_nanos();
        let number = u64::try_from(number).unwrap_or(u64::MAX).max(self.newest);
        let passed = (number - self.newest).min(BUCKETS as u64);
        for bucket in 1..=passed {
            let index = (self.newest + bucket) % BUCKETS as u64;
            self.counts[index as usize] = (0, 0);
        }
        // After a long pause all buckets are empty, and any of them may be the newest.
        self.newest = number;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_the_window_is_forgotten() {
        let mut recent = Recent::new(Duration::from_secs(10));
        let at = Duration::from_secs;
        recent.add(at(100), (5, 1));
        recent.add(at(105), (3, 2));
        assert_eq!(recent.total(at(109)), (8, 3));
        assert_eq!(recent.total(at(110)), (3, 2));
        assert_eq!(recent.total(at(114)), (3, 2));
        assert_eq!(recent.total(at(115)), (0, 0));
        recent.add(at(1_000_007), (1, 1));
        assert_eq!(recent.total(at(1_000_016)), (1, 1));
        // A clock that lags does not bring back what has passed.
        recent.add(at(500), (1, 0));
        assert_eq!(recent.total(at(1_000_016)), (2, 1));
    }
}
