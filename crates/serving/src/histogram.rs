//! Histograms: bounds, and counts by bucket.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::per_thread::Slot;

/// The upper bound of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bound {
    /// In ns for times, else the number itself.
    pub(crate) value: u64,
    /// As both text formats have it: in seconds for times, the shortest decimal that is a float to OpenMetrics.
    pub(crate) label: &'static str,
}

const fn bound(value: u64, label: &'static str) -> Bound {
    Bound { value, label }
}

/// The bounds of times: 1-2.5-5 steps from 1 us to 10 s.
pub(crate) const TIME_BOUNDS: [Bound; 22] = [
    bound(1_000, "1e-06"),
    bound(2_500, "2.5e-06"),
    bound(5_000, "5e-06"),
    bound(10_000, "1e-05"),
    bound(25_000, "2.5e-05"),
    bound(50_000, "5e-05"),
    bound(100_000, "0.0001"),
    bound(250_000, "0.00025"),
    bound(500_000, "0.0005"),
    bound(1_000_000, "0.001"),
    bound(2_500_000, "0.0025"),
    bound(5_000_000, "0.005"),
    bound(10_000_000, "0.01"),
    bound(25_000_000, "0.025"),
    bound(50_000_000, "0.05"),
    bound(100_000_000, "0.1"),
    bound(250_000_000, "0.25"),
    bound(500_000_000, "0.5"),
    bound(1_000_000_000, "1.0"),
    bound(2_500_000_000, "2.5"),
    bound(5_000_000_000, "5.0"),
    bound(10_000_000_000, "10.0"),
];

/// The bounds of numbers of rows.
pub(crate) const ROW_BOUNDS: [Bound; 14] = [
    bound(1, "1.0"),
    bound(2, "2.0"),
    bound(4, "4.0"),
    bound(8, "8.0"),
    bound(16, "16.0"),
    bound(32, "32.0"),
    bound(64, "64.0"),
    bound(128, "128.0"),
    bound(256, "256.0"),
    bound(512, "512.0"),
    bound(1_024, "1024.0"),
    bound(4_096, "4096.0"),
    bound(16_384, "16384.0"),
    bound(65_536, "65536.0"),
];

/// The buckets of a histogram of times; the last one has no bound.
pub(crate) const N_TIME_BUCKETS: usize = TIME_BOUNDS.len() + 1;
/// The buckets of a histogram of rows.
pub(crate) const N_ROW_BUCKETS: usize = ROW_BOUNDS.len() + 1;

/// By the number of significant bits of a value: the first bucket that it may be in.
const fn first_buckets<const N: usize>(bounds: &[Bound; N]) -> [u8; 65] {
    let mut table = [0_u8; 65];
    let mut bits: u32 = 1;
    while bits <= 64 {
        // The least value of so many bits.
        let least = 1_u64 << (bits - 1);
        let mut bucket = 0;
        while bucket < N && bounds[bucket].value < least {
            bucket += 1;
        }
        #[expect(clippy::cast_possible_truncation, reason = "there are few buckets")]
        {
            table[bits as usize] = bucket as u8;
        }
        bits += 1;
    }
    table
}

static FIRST_TIME_BUCKETS: [u8; 65] = first_buckets(&TIME_BOUNDS);
static FIRST_ROW_BUCKETS: [u8; 65] = first_buckets(&ROW_BOUNDS);

/// Returns the first bucket whose bound is not below `value`: a look into the table, and at most three comparisons, since bounds are
/// a factor of two apart or more.
fn bucket_of(value: u64, bounds: &[Bound], first: &[u8; 65]) -> usize {
    let bits = usize::try_from(u64::BITS - value.leading_zeros()).unwrap_or(0);
    let mut bucket = usize::from(first[bits]);
    while bounds.get(bucket).is_some_and(|bound| bound.value < value) {
        bucket += 1;
    }
    bucket
}

/// Returns the bucket of a time.
pub(crate) fn time_bucket(ns: u64) -> usize {
    bucket_of(ns, &TIME_BOUNDS, &FIRST_TIME_BUCKETS)
}

/// Returns the bucket of a number of rows.
pub(crate) fn row_bucket(n_rows: u64) -> usize {
    bucket_of(n_rows, &ROW_BOUNDS, &FIRST_ROW_BUCKETS)
}

/// One thread's counts by bucket, and the sum of what was counted.
#[derive(Debug)]
pub(crate) struct Histogram<const N_BUCKETS: usize> {
    buckets: [AtomicU64; N_BUCKETS],
    sum: AtomicU64,
}

impl<const N_BUCKETS: usize> Default for Histogram<N_BUCKETS> {
    fn default() -> Self {
        Self {
            buckets: [const { AtomicU64::new(0) }; N_BUCKETS],
            sum: AtomicU64::new(0),
        }
    }
}

impl<const N_BUCKETS: usize> Histogram<N_BUCKETS> {
    /// Counts `value`, which is of `bucket`.
    pub(crate) fn add<T>(&self, slot: &Slot<'_, T>, bucket: usize, value: u64) {
        slot.add(&self.buckets[bucket], 1);
        slot.add(&self.sum, value);
    }

    /// Returns the sum of all values.
    pub(crate) fn sum(&self) -> u64 {
        self.sum.load(Ordering::Relaxed)
    }
}

/// All threads' counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HistogramTotals {
    /// By bucket; not cumulative.
    pub(crate) buckets: Vec<u64>,
    pub(crate) sum: u64,
}

impl HistogramTotals {
    /// Adds up histograms.
    pub(crate) fn of<'a, const N_BUCKETS: usize>(
        histograms: impl Iterator<Item = &'a Histogram<N_BUCKETS>>,
    ) -> Self {
        let mut totals = Self {
            buckets: vec![0; N_BUCKETS],
            sum: 0,
        };
        for histogram in histograms {
            for (total, bucket) in totals.buckets.iter_mut().zip(&histogram.buckets) {
                *total = total.wrapping_add(bucket.load(Ordering::Relaxed));
            }
            totals.sum = totals.sum.wrapping_add(histogram.sum());
        }
        totals
    }

    /// Returns how many values were counted.
    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_in_the_first_bucket_whose_bound_is_not_below_it() {
        let check = |bounds: &[Bound], bucket: fn(u64) -> usize| {
            let near = bounds.iter().flat_map(|bound| {
                let value = bound.value;
                [value - 1, value, value + 1]
            });
            for value in near.chain([0, 1, 2, 3, u64::MAX, 1 << 63]) {
                let expected = bounds.partition_point(|bound| bound.value < value);
                assert_eq!(bucket(value), expected, "{value}");
            }
        };
        check(&TIME_BOUNDS, time_bucket);
        check(&ROW_BOUNDS, row_bucket);
    }

    #[test]
    fn labels_are_the_bounds() {
        for bound in TIME_BOUNDS {
            let seconds: f64 = bound.label.parse().unwrap();
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let expected = bound.value as f64 / 1e9;
            assert!((seconds - expected).abs() < 1e-15, "{bound:?}");
        }
        for bound in ROW_BOUNDS {
            assert_eq!(
                format!("{:?}", f64::from(u32::try_from(bound.value).unwrap())),
                bound.label
            );
        }
    }
}
