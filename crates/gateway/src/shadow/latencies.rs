//! How long calls took: counts over bins that grow by a fifth, in constant memory.

use std::time::Duration;

/// Bins per doubling of the time.
const BINS_PER_DOUBLING: f64 = 4.0;
/// The upper bound of the first bin.
const LEAST_NS: f64 = 1_000.0;
/// The last bin holds what took longer than about five minutes.
const N_BINS: usize = 114;

/// How long calls took.
#[derive(Clone, Debug)]
pub(super) struct Latencies {
    counts: Vec<u64>,
    sum: Duration,
}

impl Default for Latencies {
    fn default() -> Self {
        Self {
            counts: vec![0; N_BINS],
            sum: Duration::ZERO,
        }
    }
}

impl Latencies {
    /// Takes the time of a call.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the number of a bin; a negative one becomes 0"
    )]
    pub(super) fn push(&mut self, elapsed: Duration) {
        let doublings = (elapsed.as_nanos() as f64 / LEAST_NS).log2();
        let bin = (doublings * BINS_PER_DOUBLING).ceil() as usize;
        if let Some(count) = self.counts.get_mut(bin.min(N_BINS - 1)) {
            *count += 1;
        }
        self.sum = self.sum.saturating_add(elapsed);
    }

    /// Returns the number of calls.
    pub(super) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Returns the mean time in seconds.
    #[expect(clippy::cast_precision_loss, reason = "a mean")]
    pub(super) fn mean_s(&self) -> Option<f64> {
        let count = self.count();
        (count > 0).then(|| self.sum.as_secs_f64() / count as f64)
    }

    /// Returns the time in seconds that so many of 100 calls took at most, to a fifth of it.
    #[expect(clippy::cast_precision_loss, reason = "the number of a bin")]
    pub(super) fn percentile_s(&self, percent: u64) -> Option<f64> {
        let count = self.count();
        let rank = (count * percent).div_ceil(100).max(1);
        let mut n_seen = 0;
        let bin = self.counts.iter().position(|count| {
            n_seen += count;
            n_seen >= rank
        })?;
        Some(LEAST_NS * (bin as f64 / BINS_PER_DOUBLING).exp2() / 1e9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_right_to_a_fifth() {
        let mut latencies = Latencies::default();
        assert_eq!(
            (latencies.percentile_s(50), latencies.mean_s()),
            (None, None)
        );
        for ms in 1..=100 {
            latencies.push(Duration::from_millis(ms));
        }
        for (percent, expected) in [(1, 0.001), (50, 0.050), (99, 0.099), (100, 0.100)] {
            let found = latencies.percentile_s(percent).unwrap();
            assert!(
                found >= expected && found <= expected * 1.19,
                "{percent}: {found}"
            );
        }
        assert!((latencies.mean_s().unwrap() - 0.0505).abs() < 1e-9);
        // What is beyond the last bin is in it, and nothing is in the first.
        latencies.push(Duration::ZERO);
        latencies.push(Duration::from_secs(86_400));
        assert_eq!(latencies.count(), 102);
    }
}
