//! What another policy would have earned, from the log of the one that ran.

use crate::experiment::Moments;

/// One logged choice.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Logged {
    /// The probability with which it was chosen, above 0.
    pub propensity: f64,
    /// The probability with which the other policy chooses it.
    pub target: f64,
    /// Its reward, in `[0, 1]`.
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
    /// The standard error of the doubly robust one; without a model, of the one by inverse propensities.
    pub robust_error: f64,
    /// The standard error of the self-normalised one: by the delta method (Owen, Monte Carlo theory, 2013, section 9.2), but at least that
    /// of as many plain choices as the log is worth with two rewards of 0 and two of 1 besides, as Agresti and Coull (1998) add them. Where
    /// a few choices bear most of the weight and none of them was rewarded, the delta method alone sees hardly any error.
    pub self_normalised_error: f64,
    /// How many choices the log is worth for this question: the squared sum of weights by the sum of squared weights.
    pub effective_choices: f64,
}

/// Estimates the mean reward of another policy. Choices without a propensity above 0 are passed over; `None` if the other policy might have made none of
/// those that are left: then nothing is known of it, and no error would say so.
pub fn off_policy(log: impl IntoIterator<Item = Logged>) -> Option<OffPolicy> {
    // Sums of the weights and of their squares: alone, times the reward, and times its square.
    let (mut weights, mut squares) = ([0.0; 3], [0.0; 3]);
    let mut robust = Moments::default();
    for choice in log {
        let weight = choice.target / choice.propensity;
        if !(choice.propensity > 0.0 && weight.is_finite() && choice.reward.is_finite()) {
            continue;
        }
        for (power, of_reward) in [1.0, choice.reward, choice.reward * choice.reward]
            .into_iter()
            .enumerate()
        {
            weights[power] += weight * of_reward;
            squares[power] += weight * weight * of_reward;
        }
        robust.push(choice.expected_of_target + weight * (choice.reward - choice.expected));
    }
    if weights[0] <= 0.0 {
        return None;
    }
    let mean = weights[1] / weights[0];
    let effective = weights[0] * weights[0] / squares[0];
    let delta = squares[2] - 2.0 * mean * squares[1] + mean * mean * squares[0];
    let padded = |moment: f64| (moment * effective + 2.0) / (effective + 4.0);
    let spread = padded(weights[2] / weights[0]) - padded(mean) * padded(mean);
    let variance = (delta / (weights[0] * weights[0])).max(spread / effective);
    Some(OffPolicy {
        inverse_propensity: weights[1] / robust.units as f64,
        self_normalised: mean,
        doubly_robust: robust.mean,
        robust_error: robust.variance_of_mean().sqrt(),
        self_normalised_error: variance.max(0.0).sqrt(),
        effective_choices: effective,
    })
}
