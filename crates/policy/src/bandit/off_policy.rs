//! What another policy would have earned, from the log of the one that ran.

use crate::experiment::Moments;

/// One logged choice.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Logged {
    /// The probability with which it was chosen, above 0.
    pub propensity: f64,
    /// The probability with which the other policy chooses it.
    pub target: f64,
    /// Its reward.
    pub reward: f64,
    /// What a model expects as the reward of this choice; 0 without a model.
    pub expected: f64,
    /// What the model expects of the other policy in this place; 0 without a model.
    pub expected_of_target: f64,
}

/// Estimates of the other policy's mean reward.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OffPolicy {
    /// Inverse propensity scoring: unbiased, noisy.
    pub inverse_propensity: f64,
    /// Self-normalised: hardly biased, less noisy.
    pub self_normalised: f64,
    /// Doubly robust (Dudik, Langford and Li, 2011): unbiased, and as good as the model.
    pub doubly_robust: f64,
    /// The standard error of the doubly robust one.
    pub standard_error: f64,
    /// How many choices the log is worth for this question: the squared sum of weights by the sum of squared weights.
    pub effective_choices: f64,
}

/// Estimates the mean reward of another policy. Choices without a propensity above 0 are passed over; `None` if none is left.
pub fn off_policy(log: impl IntoIterator<Item = Logged>) -> Option<OffPolicy> {
    let (mut weights, mut squares, mut weighted) = (0.0, 0.0, 0.0);
    let mut robust = Moments::default();
    for choice in log {
        let weight = choice.target / choice.propensity;
        if !(choice.propensity > 0.0 && weight.is_finite() && choice.reward.is_finite()) {
            continue;
        }
        weights += weight;
        squares += weight * weight;
        weighted += weight * choice.reward;
        robust.push(choice.expected_of_target + weight * (choice.reward - choice.expected));
    }
    (robust.units > 0).then(|| OffPolicy {
        inverse_propensity: weighted / robust.units as f64,
        self_normalised: if weights > 0.0 {
            weighted / weights
        } else {
            0.0
        },
        doubly_robust: robust.mean,
        standard_error: robust.variance_of_mean().sqrt(),
        effective_choices: if squares > 0.0 {
            weights * weights / squares
        } else {
            0.0
        },
    })
}
