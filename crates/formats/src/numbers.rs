//! Conversions between numbers that parsers need and `TryFrom` does not offer.

/// Rounds to single precision; exact for a number that was widened from a single.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    reason = "rounding is the point"
)]
pub(crate) fn to_single(value: f64) -> f32 {
    value as f32
}

/// Returns a count as a number; exact below 2^53.
#[expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "counts of things in memory are below 2^53"
)]
pub(crate) fn from_count(count: usize) -> f64 {
    count as f64
}

/// The first integer that a double does not tell from the next one.
pub(crate) const EXACT_END: u64 = 1 << 53;

/// What is allowed of categories that are integers, for messages.
pub(crate) const EXACT_ALLOWED: &str = "integers that are categories are served below 2^53 either side of zero, where doubles tell them apart";

/// Tells whether `value` is among the numbers of which doubles leave integers out.
pub(crate) fn leaves_out_integers(value: f64) -> bool {
    const FIRST: f64 = 9_007_199_254_740_992.0;
    value.abs() >= FIRST
}

/// Returns the sum of single-precision numbers as numpy adds them: eight sums side by side, blocks of at most 128.
pub(crate) fn single_sum(values: &[f32]) -> f32 {
    const BLOCK: usize = 128;
    if values.len() > BLOCK {
        let half = values.len() / 2;
        let (left, right) = values.split_at(half.saturating_sub(half % 8));
        return single_sum(left) + single_sum(right);
    }
    let (eights, rest) = values.as_chunks::<8>();
    let Some((first, others)) = eights.split_first() else {
        return rest.iter().sum();
    };
    let mut sums = *first;
    for eight in others {
        for (sum, value) in sums.iter_mut().zip(eight) {
            *sum += value;
        }
    }
    let [a, b, c, d, e, f, g, h] = sums;
    let sum = ((a + b) + (c + d)) + ((e + f) + (g + h));
    rest.iter().fold(sum, |sum, value| sum + value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn singles_are_added_as_numpy_adds_them() {
        // numpy.sum of float32: (arange(n) % 7 / 3 + 0.1).
        for (n, expected) in [(5, 3.833_333_5), (30, 31.333_334), (1000, 1099.0)] {
            let values: Vec<f32> = (0..n)
                .map(|i: u16| to_single(f64::from(i % 7) / 3.0 + 0.1))
                .collect();
            assert_eq!(single_sum(&values), expected);
        }
    }
}
