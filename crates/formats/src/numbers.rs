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
