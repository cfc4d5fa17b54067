//! How long to wait before a process that ended is started again: the kubelet's rule.

use std::time::Duration;

/// The numbers of the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackOffPace {
    /// The wait after the second end; it doubles with each further one.
    pub base: Duration,
    /// The longest wait.
    pub max: Duration,
    /// A process that has run for so long is forgiven its past.
    pub forgiven_after: Duration,
}

impl Default for BackOffPace {
    fn default() -> Self {
        Self {
            base: Duration::from_secs(10),
            max: Duration::from_secs(300),
            forgiven_after: Duration::from_secs(600),
        }
    }
}

/// Counts the ends of one replica's processes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BackOff {
    pace: BackOffPace,
    n_ends: u32,
}

impl BackOff {
    pub(crate) fn new(pace: BackOffPace) -> Self {
        Self { pace, n_ends: 0 }
    }

    /// Returns how long to wait now that a process has ended that ran for `ran`. The first end costs no wait: a
    /// process that was killed from outside is back at once.
    pub(crate) fn ended(&mut self, ran: Duration) -> Duration {
        if ran >= self.pace.forgiven_after {
            self.n_ends = 0;
        }
        let wait = match self.n_ends.checked_sub(1) {
            None => Duration::ZERO,
            Some(n) => self.pace.base.saturating_mul(2_u32.saturating_pow(n)),
        };
        self.n_ends = self.n_ends.saturating_add(1);
        wait.min(self.pace.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_five_minutes_and_start_over_after_ten_good_ones() {
        let mut back_off = BackOff::new(BackOffPace::default());
        let mut waits = |ran: u64, n: usize| -> Vec<u64> {
            let ran = Duration::from_secs(ran);
            (0..n).map(|_| back_off.ended(ran).as_secs()).collect()
        };
        assert_eq!(waits(1, 9), [0, 10, 20, 40, 80, 160, 300, 300, 300]);
        assert_eq!(waits(599, 1), [300]);
        assert_eq!(waits(600, 1), [0]);
        assert_eq!(waits(0, 2), [10, 20]);
    }

    #[test]
    fn no_count_of_ends_overflows() {
        let mut back_off = BackOff::new(BackOffPace::default());
        back_off.n_ends = u32::MAX;
        assert_eq!(back_off.ended(Duration::ZERO), Duration::from_secs(300));
        assert_eq!(back_off.n_ends, u32::MAX);
    }
}
