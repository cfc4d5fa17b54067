//! When requests are to be sent, and the seeded numbers behind it.

use std::time::Duration;

/// How requests of an open loop follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrivals {
    /// Evenly.
    Constant,
    /// As callers come that know nothing of one another: gaps are exponentially distributed.
    Poisson,
}

impl Arrivals {
    /// Returns its name, as `--arrivals` takes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Constant => "constant",
            Self::Poisson => "poisson",
        }
    }
}

/// The times at which one of several threads is to send.
///
/// Together the threads send at the whole rate: evenly spaced times are dealt out in turn, and independent Poisson processes add up to one.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    arrivals: Arrivals,
    /// Between two requests of this thread, on average.
    gap_s: f64,
    next_s: f64,
    rng: Rng,
}

impl Schedule {
    /// Returns the schedule of thread `index` of `n_threads` at `rate` requests per second for all of them.
    pub(crate) fn new(
        arrivals: Arrivals,
        rate: f64,
        (index, n_threads): (usize, usize),
        seed: u64,
    ) -> Self {
        let gap_s = n_threads as f64 / rate;
        // Far apart: a thread's numbers must not be another's, shifted.
        let mut rng = Rng::new(seed ^ Rng::new(index as u64).bits());
        let next_s = match arrivals {
            Arrivals::Constant => index as f64 / rate,
            Arrivals::Poisson => gap_s * rng.exponential(),
        };
        Self {
            arrivals,
            gap_s,
            next_s,
            rng,
        }
    }

    /// Returns when the next request is to be sent, from the beginning.
    pub(crate) fn peek(&self) -> Duration {
        Duration::from_secs_f64(self.next_s)
    }

    /// Goes on to the one after it.
    pub(crate) fn advance(&mut self) {
        self.next_s += match self.arrivals {
            Arrivals::Constant => self.gap_s,
            Arrivals::Poisson => self.gap_s * self.rng.exponential(),
        };
    }
}

/// Seeded random numbers: SplitMix64, which passes BigCrush and needs no more than its state. Not for secrets.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// Returns the numbers of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Returns a number from 0 up to, not including, 1.
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Returns an exponentially distributed number with mean 1.
    pub fn exponential(&mut self) -> f64 {
        -(1.0 - self.uniform()).ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(arrivals: Arrivals, n_threads: usize, until: Duration) -> Vec<Duration> {
        let mut all = Vec::new();
        for index in 0..n_threads {
            let mut schedule = Schedule::new(arrivals, 1_000.0, (index, n_threads), 7);
            while schedule.peek() < until {
                all.push(schedule.peek());
                schedule.advance();
            }
        }
        all.sort_unstable();
        all
    }

    #[test]
    fn constant_arrivals_are_even_over_all_threads() {
        let times = times(Arrivals::Constant, 3, Duration::from_secs(2));
        assert_eq!(times.len(), 2_000);
        for (index, time) in times.iter().enumerate() {
            let expected = index as f64 / 1_000.0;
            assert!(
                (time.as_secs_f64() - expected).abs() < 1e-6,
                "{index}: {time:?}"
            );
        }
    }

    #[test]
    fn poisson_arrivals_have_the_rate_and_the_spread_of_one() {
        let times = times(Arrivals::Poisson, 4, Duration::from_secs(100));
        // 100,000 expected, with a standard deviation of 316.
        assert!(times.len().abs_diff(100_000) < 1_300, "{}", times.len());
        let gaps: Vec<f64> = times
            .windows(2)
            .map(|pair| (pair[1] - pair[0]).as_secs_f64())
            .collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        // Of an exponential distribution the deviation is the mean.
        assert!(
            (variance.sqrt() / mean - 1.0).abs() < 0.02,
            "{}",
            variance.sqrt() / mean
        );
    }

    #[test]
    fn a_seed_gives_the_same_times_again() {
        let once = times(Arrivals::Poisson, 2, Duration::from_secs(1));
        assert_eq!(once, times(Arrivals::Poisson, 2, Duration::from_secs(1)));
    }
}
