//! Counts as doubles.

/// Returns a count as a double; exact for any count that memory allows.
#[expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "counts are far below 2^53"
)]
pub(super) fn exact(n: usize) -> f64 {
    n as f64
}
