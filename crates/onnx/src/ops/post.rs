//! What `ai.onnx.ml` makes of scores: its five transforms, computed as ONNX Runtime does.

use coracle_model::LoadError;

use crate::attributes::Attributes;
use crate::error::unsupported;

/// A transform of the scores of one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Post {
    None,
    Softmax,
    Logistic,
    SoftmaxZero,
    Probit,
}

impl Post {
    pub(crate) fn read(attributes: &Attributes<'_, '_>) -> Result<Self, LoadError> {
        Ok(match attributes.word("post_transform", "NONE")? {
            "NONE" => Self::None,
            "SOFTMAX" => Self::Softmax,
            "LOGISTIC" => Self::Logistic,
            "SOFTMAX_ZERO" => Self::SoftmaxZero,
            "PROBIT" => Self::Probit,
            other => return Err(unsupported(format!("post_transform '{other}'"))),
        })
    }

    /// Returns the transform with this number in `TreeEnsemble`, version 5.
    pub(crate) fn numbered(number: i64) -> Result<Self, LoadError> {
        Ok(match number {
            0 => Self::None,
            // ONNX calls 1 softmax and 2 logistic, ONNX Runtime the other way round.
            1 | 2 => {
                return Err(unsupported(format!(
                    "post_transform {number}, which ONNX and ONNX Runtime read differently"
                )));
            }
            3 => Self::SoftmaxZero,
            4 => Self::Probit,
            other => return Err(unsupported(format!("post_transform {other}"))),
        })
    }

    /// Returns the transform as ONNX Runtime's regressors apply it: with one target it knows only one of them.
    pub(crate) fn of_one(self, n_targets: usize) -> Self {
        match (n_targets, self) {
            (1, Self::Probit) => Self::Probit,
            (1, _) => Self::None,
            (_, post) => post,
        }
    }

    /// Returns the scores of two classes of which there is one score. Of all transforms ONNX Runtime knows the logistic one there.
    pub(crate) fn of_two(self, score: f32) -> [f32; 2] {
        match self {
            Self::Logistic => [logistic(-score), logistic(score)],
            Self::None | Self::Softmax | Self::SoftmaxZero | Self::Probit => [1.0 - score, score],
        }
    }

    /// Transforms the scores of one row in place.
    pub(crate) fn apply(self, scores: &mut [f32]) {
        match self {
            Self::None => {}
            Self::Logistic => scores
                .iter_mut()
                .for_each(|score| *score = logistic(*score)),
            Self::Probit => scores.iter_mut().for_each(|score| *score = probit(*score)),
            Self::Softmax => softmax(scores),
            Self::SoftmaxZero => softmax_zero(scores),
        }
    }
}

/// Why one score for two classes is refused with the normal quantile.
pub(crate) const UNDEFINED_PROBIT: &str =
    "post_transform 'PROBIT' with one score for two classes; nothing says what the second is";

pub(crate) fn logistic(score: f32) -> f32 {
    let of_magnitude = 1.0 / (1.0 + (-score.abs()).exp());
    if score < 0.0 {
        1.0 - of_magnitude
    } else {
        of_magnitude
    }
}

/// Returns the normal quantile, by the approximation that ONNX Runtime uses.
#[expect(clippy::approx_constant, reason = "the constants of the original")]
pub(crate) fn probit(score: f32) -> f32 {
    let x = 2.0 * score - 1.0;
    let sign = if x < 0.0 { -1.0 } else { 1.0 };
    let log = ((1.0 - x) * (1.0 + x)).ln();
    let v = 2.0 / (3.14159_f32 * 0.147) + 0.5 * log;
    let v2 = 1.0 / 0.147_f32 * log;
    let v3 = -v + (v * v - v2).sqrt();
    1.414_213_5_f32 * (sign * v3.sqrt())
}

fn maximum(scores: &[f32]) -> f32 {
    scores.iter().copied().fold(
        f32::MIN,
        |largest, score| {
            if score > largest { score } else { largest }
        },
    )
}

fn softmax(scores: &mut [f32]) {
    let largest = maximum(scores);
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        *score = (*score - largest).exp();
        sum += *score;
    }
    scores.iter_mut().for_each(|score| *score /= sum);
}

/// As softmax, but scores of zero stay zero.
fn softmax_zero(scores: &mut [f32]) {
    let largest = maximum(scores);
    let scale = (-largest).exp();
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        if score.abs() > 0.000_000_1 {
            *score = (*score - largest).exp();
            sum += *score;
        } else {
            *score *= scale;
        }
    }
    scores.iter_mut().for_each(|score| *score /= sum);
}
