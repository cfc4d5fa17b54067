//! LinUCB: arms whose reward depends on what is known of the request (Li, Chu, Langford and Schapire, 2010, disjoint models).

use super::Choice;

/// The most features that an arm can have.
pub const FEATURES_MAX: usize = 32;
/// The greatest magnitude of a feature: squares of many such are still numbers.
pub const FEATURE_MAX: f64 = 1e6;

/// One linear model per arm, with the uncertainty of its predictions.
#[derive(Clone, Debug, PartialEq)]
pub struct LinUcb {
    /// How much uncertainty is worth, at least 0; 1 is usual.
    pub alpha: f64,
    /// The probability with which any arm is chosen instead.
    pub floor: f64,
    arms: Vec<LinearArm>,
}

/// Ridge regression of an arm's reward on the features, kept as the inverse of its matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearArm {
    /// Inverse of (identity + sum of outer products of the features), by rows.
    inverse: Vec<f64>,
    /// Sum of rewards times features.
    earned: Vec<f64>,
}

impl LinUcb {
    /// Returns arms that know nothing.
    ///
    /// # Panics
    /// Without arms.
    #[must_use]
    pub fn new(alpha: f64, floor: f64, n_arms: usize, n_features: usize) -> Self {
        Self::of_arms(alpha, floor, vec![LinearArm::new(n_features); n_arms])
    }

    /// Returns a bandit over these arms, all of which have as many features.
    ///
    /// # Panics
    /// Without arms.
    #[must_use]
    pub fn of_arms(alpha: f64, floor: f64, arms: Vec<LinearArm>) -> Self {
        assert!(!arms.is_empty(), "a bandit has arms");
        Self {
            alpha,
            floor: floor.clamp(0.0, 1.0),
            arms,
        }
    }

    /// Chooses an arm for a request with these features; `None` if there are not as many as there should be, or one is no number of at most
    /// [`FEATURE_MAX`].
    pub fn choose(&self, features: &[f64], mut uniform: impl FnMut() -> f64) -> Option<Choice> {
        if !self.arms.iter().all(|arm| arm.takes(features)) {
            return None;
        }
        let scores = self.arms.iter().map(|arm| arm.bound(features, self.alpha));
        let best = scores
            .enumerate()
            // Of several the first.
            .max_by(|left, right| left.1.total_cmp(&right.1).then(right.0.cmp(&left.0)));
        let best = best.map_or(0, |(arm, _)| arm);
        let n_arms = self.arms.len() as f64;
        let arm = if uniform() < self.floor {
            ((uniform() * n_arms) as usize).min(self.arms.len() - 1)
        } else {
            best
        };
        let greedy = f64::from(u8::from(arm == best)) * (1.0 - self.floor);
        Some(Choice {
            arm,
            propensity: greedy + self.floor / n_arms,
        })
    }

    /// Takes the reward of a choice for a request with these features. What is not valid is passed over.
    pub fn reward(&mut self, arm: usize, features: &[f64], reward: f64) {
        if let Some(arm) = self.arms.get_mut(arm) {
            arm.learn(features, reward);
        }
    }
}

impl LinearArm {
    /// Returns an arm that knows nothing.
    #[must_use]
    pub fn new(n_features: usize) -> Self {
        let mut inverse = vec![0.0; n_features * n_features];
        for index in 0..n_features {
            inverse[index * (n_features + 1)] = 1.0;
        }
        Self {
            inverse,
            earned: vec![0.0; n_features],
        }
    }

    /// Returns an arm that knows what [`LinearArm::parts`] has told; `None` if that is none's.
    #[must_use]
    pub fn of_parts(inverse: Vec<f64>, earned: Vec<f64>) -> Option<Self> {
        let n_features = earned.len();
        let is_square = n_features <= FEATURES_MAX && inverse.len() == n_features * n_features;
        let mut numbers = inverse.iter().chain(&earned);
        let is_finite = numbers.all(|number| number.is_finite());
        (is_square && is_finite).then_some(Self { inverse, earned })
    }

    /// Returns what it knows: the inverse of its matrix, by rows, and the rewards times the features.
    #[must_use]
    pub fn parts(&self) -> (&[f64], &[f64]) {
        (&self.inverse, &self.earned)
    }

    /// Tells whether features are as many as it has, and numbers of at most [`FEATURE_MAX`].
    #[must_use]
    pub fn takes(&self, features: &[f64]) -> bool {
        let is_one = |feature: &f64| feature.abs() <= FEATURE_MAX;
        features.len() == self.earned.len() && features.iter().all(is_one)
    }

    /// Returns how much each feature adds to the reward that is expected.
    #[must_use]
    pub fn weights(&self) -> Vec<f64> {
        self.solve(&self.earned)
    }

    /// Returns the reward that is expected, held to `[0, 1]`; 0 for features that it does not take.
    #[must_use]
    pub fn expected(&self, features: &[f64]) -> f64 {
        match self.takes(features) {
            true => dot(&self.solve(features), &self.earned).clamp(0.0, 1.0),
            false => 0.0,
        }
    }

    /// Returns the inverse matrix times `vector`.
    fn solve(&self, vector: &[f64]) -> Vec<f64> {
        let rows = self.inverse.chunks(vector.len().max(1));
        rows.map(|row| dot(row, vector)).collect()
    }

    /// Returns the reward that is expected, with `alpha` times what it may be more.
    pub(super) fn bound(&self, features: &[f64], alpha: f64) -> f64 {
        let solved = self.solve(features);
        // The model's weights are the inverse times what was earned, and the inverse is symmetric.
        dot(&solved, &self.earned) + alpha * dot(&solved, features).max(0.0).sqrt()
    }

    /// Takes a reward, held to `[0, 1]`, for a request with these features: adds an outer product to the matrix by Sherman and Morrison's formula. What
    /// is not valid is passed over.
    pub fn learn(&mut self, features: &[f64], reward: f64) {
        if !self.takes(features) || !reward.is_finite() {
            return;
        }
        let solved = self.solve(features);
        let scale = 1.0 + dot(&solved, features);
        for (row, left) in self.inverse.chunks_mut(features.len().max(1)).zip(&solved) {
            for (cell, right) in row.iter_mut().zip(&solved) {
                *cell -= left * right / scale;
            }
        }
        let reward = reward.clamp(0.0, 1.0);
        for (earned, feature) in self.earned.iter_mut().zip(features) {
            *earned += reward * feature;
        }
    }
}

fn dot(left: &[f64], right: &[f64]) -> f64 {
    left.iter()
        .zip(right)
        .map(|(left, right)| left * right)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// By hand for one feature of 2 and a reward of 1: the matrix is 1 + 4 = 5, the weight 2 / 5, the bound 0.8 + sqrt(4 / 5).
    #[test]
    fn one_update_is_ridge_regression() {
        let mut arm = LinUcb::new(1.0, 0.0, 1, 1).arms[0].clone();
        arm.learn(&[2.0], 1.0);
        assert!((arm.bound(&[2.0], 1.0) - (0.8 + 0.8_f64.sqrt())).abs() < 1e-12);
    }

    #[test]
    fn the_arm_that_fits_the_request_is_learnt() {
        let mut random = Random::new(4);
        let mut bandit = LinUcb::new(0.5, 0.02, 2, 2);
        let mut n_right = 0;
        for round in 0..3_000 {
            let is_night = random.unit() < 0.5;
            let features = [1.0, f64::from(u8::from(is_night))];
            let choice = bandit.choose(&features, || random.unit()).unwrap();
            // Arm 0 is good by day, arm 1 by night.
            let rate = if (choice.arm == 1) == is_night {
                0.7
            } else {
                0.3
            };
            let reward = f64::from(u8::from(random.unit() < rate));
            bandit.reward(choice.arm, &features, reward);
            if round >= 1_000 {
                n_right += i32::from((choice.arm == 1) == is_night);
            }
        }
        assert!(n_right > 1_850, "{n_right} of 2000");
    }

    #[test]
    fn features_that_are_not_as_they_should_be_are_not_taken() {
        let mut bandit = LinUcb::new(1.0, 0.0, 2, 2);
        let before = bandit.clone();
        assert_eq!(bandit.choose(&[1.0], || 0.5), None);
        assert_eq!(bandit.choose(&[1.0, f64::NAN], || 0.5), None);
        bandit.reward(0, &[1.0], 1.0);
        bandit.reward(9, &[1.0, 1.0], 1.0);
        bandit.reward(0, &[1.0, 1.0], f64::NAN);
        assert_eq!(bandit, before);
    }
}
