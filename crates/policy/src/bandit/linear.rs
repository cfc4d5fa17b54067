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

/// Ridge regression of an arm's reward on the features, kept as a factor of its matrix: an inverse that is kept up to date loses what it
/// has of digits, and its sign, where features are large and alike.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearArm {
    /// Cholesky's factor (lower triangle, by rows) of identity + sum of outer products of the features.
    factor: Vec<f64>,
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
        let mut factor = vec![0.0; n_features * n_features];
        for index in 0..n_features {
            factor[index * (n_features + 1)] = 1.0;
        }
        Self {
            factor,
            earned: vec![0.0; n_features],
        }
    }

    /// Returns an arm that knows what [`LinearArm::parts`] has told; `None` if that is none's.
    #[must_use]
    pub fn of_parts(factor: Vec<f64>, earned: Vec<f64>) -> Option<Self> {
        let n_features = earned.len();
        let is_square = n_features <= FEATURES_MAX && factor.len() == n_features * n_features;
        let mut numbers = factor.iter().chain(&earned);
        let is_finite = numbers.all(|number| number.is_finite());
        // The matrix is at least the identity.
        let mut diagonal = factor.iter().step_by(n_features + 1);
        let is_factor = diagonal.all(|number| *number >= 1.0 - 1e-9);
        (is_square && is_finite && is_factor).then_some(Self { factor, earned })
    }

    /// Returns what it knows: the lower factor of its matrix, by rows, and the rewards times the features.
    #[must_use]
    pub fn parts(&self) -> (&[f64], &[f64]) {
        (&self.factor, &self.earned)
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
        let mut weights = self.forward(&self.earned);
        let n = weights.len();
        // The second half: by the factor turned over, from the last feature on.
        for row in (0..n).rev() {
            let known = (row + 1..n).map(|below| self.factor[below * n + row] * weights[below]);
            let known: f64 = known.sum();
            weights[row] = (weights[row] - known) / self.factor[row * (n + 1)];
        }
        weights
    }

    /// Returns the reward that is expected, held to `[0, 1]`; 0 for features that it does not take.
    #[must_use]
    pub fn expected(&self, features: &[f64]) -> f64 {
        match self.takes(features) {
            true => dot(&self.forward(features), &self.forward(&self.earned)).clamp(0.0, 1.0),
            false => 0.0,
        }
    }

    /// Returns what the factor times gives `vector`: of two such, the product is theirs with the inverse of the matrix between them.
    fn forward(&self, vector: &[f64]) -> Vec<f64> {
        let n = vector.len();
        let mut solved: Vec<f64> = Vec::with_capacity(n);
        for (row, value) in self.factor.chunks(n.max(1)).zip(vector) {
            let diagonal = row[solved.len()];
            solved.push((value - dot(row, &solved)) / diagonal);
        }
        solved
    }

    /// Returns the reward that is expected, with `alpha` times what it may be more.
    pub(super) fn bound(&self, features: &[f64], alpha: f64) -> f64 {
        let solved = self.forward(features);
        dot(&solved, &self.forward(&self.earned)) + alpha * dot(&solved, &solved).sqrt()
    }

    /// Takes a reward, held to `[0, 1]`, for a request with these features: adds an outer product to the matrix by a rank-one update of its factor (Golub
    /// and Van Loan, section 6.5.4), which keeps it positive whatever the features are. What is not valid is passed over.
    pub fn learn(&mut self, features: &[f64], reward: f64) {
        if !self.takes(features) || !reward.is_finite() {
            return;
        }
        let n = features.len();
        let mut rest = features.to_vec();
        for column in 0..n {
            let diagonal = self.factor[column * (n + 1)];
            let length = diagonal.hypot(rest[column]);
            let (cosine, sine) = (length / diagonal, rest[column] / diagonal);
            self.factor[column * (n + 1)] = length;
            for (row, left) in rest.iter_mut().enumerate().skip(column + 1) {
                let cell = &mut self.factor[row * n + column];
                *cell = (*cell + sine * *left) / cosine;
                *left = cosine * *left - sine * *cell;
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

    /// Prices, ages in milliseconds and such come large and nearly the same; an inverse that is kept up to date has lost its sign after some
    /// thousand of these.
    #[test]
    fn large_features_that_are_alike_leave_the_uncertainty_what_it_is() {
        let mut random = Random::new(7);
        let mut arm = LinearArm::new(5);
        let mut widest = f64::INFINITY;
        for round in 1..=100_000 {
            let a = [1e6, 5e5, 123_456.7, 9.0][(random.unit() * 4.0) as usize];
            let features = [1.0, a, 0.9 * a, 0.8 * a + 1.0, 0.7 * a];
            arm.learn(&features, random.unit());
            if round % 1_000 == 0 {
                let width = arm.bound(&features, 1.0) - arm.bound(&features, 0.0);
                let n_seen = f64::from(round);
                // Each of the four was seen a quarter of the time or so: its width is that of so many observations.
                assert!(
                    width > 0.0 && width < 3.0 / n_seen.sqrt(),
                    "{round}: {width}"
                );
                widest = widest.min(width);
                let expected = arm.expected(&features);
                assert!((expected - 0.5).abs() < 0.2, "{round}: {expected}");
            }
        }
        assert!(widest < 0.01, "{widest}");
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
