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
