//! LinUCB: arms whose reward depends on what is known of the request (Li, Chu, Langford and Schapire, 2010, disjoint models).

use super::Choice;

/// One linear model per arm, with the uncertainty of its predictions.
#[derive(Clone, Debug, PartialEq)]
pub struct LinUcb {
    /// How much uncertainty is worth, at least 0; 1 is usual.
    pub alpha: f64,
    /// The probability with which any arm is chosen instead.
    pub floor: f64,
    n_features: usize,
    arms: Vec<Arm>,
}

/// Ridge regression of the reward on the features, kept as the inverse of its matrix.
#[derive(Clone, Debug, PartialEq)]
struct Arm {
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
        assert!(n_arms > 0, "a bandit has arms");
        let mut inverse = vec![0.0; n_features * n_features];
        for index in 0..n_features {
            inverse[index * (n_features + 1)] = 1.0;
        }
        let arm = Arm {
            inverse,
            earned: vec![0.0; n_features],
        };
        Self {
            alpha,
            floor: floor.clamp(0.0, 1.0),
            n_features,
            arms: vec![arm; n_arms],
        }
    }

    /// Chooses an arm for a request with these features; `None` if there are not as many as there should be, or one is no number.
    pub fn choose(&self, features: &[f64], mut uniform: impl FnMut() -> f64) -> Option<Choice> {
        if !self.is_valid(features) {
            return None;
        }
        let scores = self
            .arms
            .iter()
            .map(|arm| arm.upper_bound(features, self.alpha));
        let best = scores
            .enumerate()
            .max_by(|left, right| left.1.total_cmp(&right.1));
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
        if !self.is_valid(features) || !reward.is_finite() {
            return;
        }
        if let Some(arm) = self.arms.get_mut(arm) {
            arm.learn(features, reward.clamp(0.0, 1.0));
        }
    }

    fn is_valid(&self, features: &[f64]) -> bool {
        features.len() == self.n_features && features.iter().all(|feature| feature.is_finite())
    }
}

impl Arm {
    /// Returns the inverse matrix times `vector`.
    fn solve(&self, vector: &[f64]) -> Vec<f64> {
        let rows = self.inverse.chunks(vector.len().max(1));
        rows.map(|row| dot(row, vector)).collect()
    }

    fn upper_bound(&self, features: &[f64], alpha: f64) -> f64 {
        let solved = self.solve(features);
        // The model's weights are the inverse times what was earned, and the inverse is symmetric.
        dot(&solved, &self.earned) + alpha * dot(&solved, features).max(0.0).sqrt()
    }

    /// Adds an outer product to the matrix by Sherman and Morrison's formula.
    fn learn(&mut self, features: &[f64], reward: f64) {
        let solved = self.solve(features);
        let scale = 1.0 + dot(&solved, features);
        for (row, left) in self.inverse.chunks_mut(features.len().max(1)).zip(&solved) {
            for (cell, right) in row.iter_mut().zip(&solved) {
                *cell -= left * right / scale;
            }
        }
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
        assert!((arm.upper_bound(&[2.0], 1.0) - (0.8 + 0.8_f64.sqrt())).abs() < 1e-12);
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
