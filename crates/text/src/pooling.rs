//! The vectors of a text's tokens to one vector: the ways of sentence-transformers.

use crate::padded::Span;
use crate::settings::{Pooling, Sentence};

/// A vector is divided by no less.
const LENGTH_MIN: f64 = 1e-12;

/// Pools the rows of a run and appends what comes of each: `hidden` has `width` vectors of `n_dims` for each of `spans`.
pub(crate) fn pool(
    hidden: &[f32],
    (width, n_dims): (usize, usize),
    spans: &[Span],
    sentence: &Sentence,
    out: &mut Vec<f32>,
) {
    let row_len = width.saturating_mul(n_dims).max(1);
    for (row, span) in hidden.chunks_exact(row_len).zip(spans) {
        let tokens = || row.chunks_exact(n_dims).skip(span.start).take(span.len);
        let start = out.len();
        for pooling in &sentence.poolings {
            one(*pooling, tokens, n_dims, out);
        }
        // Behind further steps the result is not this one.
        if sentence.is_normalized && sentence.dense.is_empty() {
            normalize(out.get_mut(start..).unwrap_or_default());
        }
    }
}

fn one<'t, I: Iterator<Item = &'t [f32]>>(
    pooling: Pooling,
    tokens: impl Fn() -> I,
    n_dims: usize,
    out: &mut Vec<f32>,
) {
    match pooling {
        Pooling::Cls => out.extend(tokens().next().unwrap_or_default()),
        Pooling::Lasttoken => out.extend(tokens().last().unwrap_or_default()),
        Pooling::Max => {
            let start = out.len();
            out.extend(tokens().next().unwrap_or_default());
            let largest = out.get_mut(start..).unwrap_or_default();
            for token in tokens().skip(1) {
                for (largest, &value) in largest.iter_mut().zip(token) {
                    // What is not a number stays.
                    if value > *largest || value.is_nan() {
                        *largest = value;
                    }
                }
            }
        }
        Pooling::Mean => weighted(tokens(), n_dims, |_place| 1.0, |sum| sum, out),
        Pooling::MeanSqrtLenTokens => weighted(tokens(), n_dims, |_place| 1.0, f64::sqrt, out),
        Pooling::Weightedmean => weighted(tokens(), n_dims, |place| place, |sum| sum, out),
    }
}

/// Appends the sum of vectors by their weights, divided by what `divisor` makes of the sum of weights.
fn weighted<'t>(
    tokens: impl Iterator<Item = &'t [f32]>,
    n_dims: usize,
    weight: impl Fn(f64) -> f64,
    divisor: impl Fn(f64) -> f64,
    out: &mut Vec<f32>,
) {
    let mut sums = vec![0.0_f64; n_dims];
    let (mut place, mut weights) = (0.0, 0.0);
    for token in tokens {
        place += 1.0;
        let weight = weight(place);
        weights += weight;
        for (sum, &value) in sums.iter_mut().zip(token) {
            *sum += weight * f64::from(value);
        }
    }
    let divisor = divisor(weights);
    out.extend(sums.into_iter().map(|sum| single(sum / divisor)));
}

fn normalize(vector: &mut [f32]) {
    let squares = vector.iter().map(|&value| f64::from(value).powi(2));
    let length = squares.sum::<f64>().sqrt().max(LENGTH_MIN);
    for value in vector {
        *value = single(f64::from(*value) / length);
    }
}

#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    reason = "rounding is the point"
)]
pub(crate) fn single(value: f64) -> f32 {
    value as f32
}

/// Divides the vectors of `n_dims` by their lengths.
pub(crate) fn normalize_all(vectors: &mut [f32], n_dims: usize) {
    for vector in vectors.chunks_exact_mut(n_dims.max(1)) {
        normalize(vector);
    }
}

#[cfg(test)]
mod tests;
