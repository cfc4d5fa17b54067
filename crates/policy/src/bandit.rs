//! Bandits: variants that are chosen by what they have earned so far.
//!
//! Every choice comes with its propensity, the probability with which it was made, which must be logged with the reward: gathered adaptively,
//! plain means are biased, and [`off_policy`] needs it. A floor of exploration keeps propensities away from zero. Rewards are numbers in `[0, 1]`; a reward of
//! zero is a reward, a missing one is not. Randomness is an argument; the state is plain data.

mod linear;
mod off_policy;

use crate::experiment::Moments;

pub use linear::{FEATURE_MAX, FEATURES_MAX, LinUcb, LinearArm};
pub use off_policy::{Logged, OffPolicy, off_policy};

/// How the next arm is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Strategy {
    /// The arm with the best mean, but with this probability any arm.
    EpsilonGreedy(f64),
    /// An arm with the best mean, each as often where several are, but with this probability one of the others; arms without a reward have a mean of 0.
    /// That is how Seldon's router has it.
    EpsilonOthers(f64),
    /// An arm as often as it is the best by the posterior (Thompson, 1933; Beta posteriors with uniform priors).
    Thompson,
    /// The arm with the greatest upper confidence bound (UCB1: Auer, Cesa-Bianchi and Fischer, 2002).
    Ucb1,
}

/// The arms with what they have earned.
#[derive(Clone, Debug, PartialEq)]
pub struct Bandit {
    /// How arms are chosen.
    pub strategy: Strategy,
    /// The probability with which any arm is chosen instead, so that none is forgotten. 0.01 is usual.
    pub floor: f64,
    /// The rewards of each arm.
    pub arms: Vec<Moments>,
}

/// A choice, to be logged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// The arm's number.
    pub arm: usize,
    /// The probability with which it was chosen.
    pub propensity: f64,
}

impl Choice {
    /// Draws an arm with these probabilities; `uniform` is a number in `[0, 1)`.
    ///
    /// # Panics
    /// Without arms.
    #[must_use]
    pub fn draw(propensities: &[f64], uniform: f64) -> Self {
        let mut rest = uniform;
        let chosen = propensities.iter().position(|propensity| {
            rest -= propensity;
            rest < 0.0
        });
        // Rounding may leave a little; the last arm that can be chosen has it.
        let possible = |propensity: &f64| *propensity > 0.0;
        let chosen = chosen.or_else(|| propensities.iter().rposition(possible));
        let arm = chosen.unwrap_or(0);
        Self {
            arm,
            propensity: propensities[arm],
        }
    }
}

/// How many posterior draws make the propensities of Thompson's strategy.
const PROPENSITY_DRAWS: u32 = 200;

impl Bandit {
    /// Returns a bandit that knows nothing of its arms.
    ///
    /// # Panics
    /// Without arms.
    #[must_use]
    pub fn new(strategy: Strategy, floor: f64, n_arms: usize) -> Self {
        assert!(n_arms > 0, "a bandit has arms");
        Self {
            strategy,
            floor: floor.clamp(0.0, 1.0),
            arms: vec![Moments::default(); n_arms],
        }
    }

    /// Takes a reward; one outside `[0, 1]` is held to it. Arms that are not there are passed over.
    pub fn reward(&mut self, arm: usize, reward: f64) {
        if let Some(arm) = self.arms.get_mut(arm)
            && !reward.is_nan()
        {
            arm.push(reward.clamp(0.0, 1.0));
        }
    }

    /// Takes the rewards of `n_trials` of which `n_won` had a reward of 1 and the others of 0. Arms that are not there are passed over.
    pub fn reward_trials(&mut self, arm: usize, n_won: u64, n_trials: u64) {
        if let Some(arm) = self.arms.get_mut(arm).filter(|_| n_trials > 0) {
            let (won, lost) = (n_won.min(n_trials), n_trials.saturating_sub(n_won));
            let mean = won as f64 / n_trials as f64;
            arm.merge(&Moments {
                units: n_trials,
                mean,
                squares: won as f64 * (1.0 - mean).powi(2) + lost as f64 * mean.powi(2),
            });
        }
    }

    /// Chooses an arm without its propensity, for who logs none; `uniform` gives independent numbers in `[0, 1)`.
    ///
    /// With Thompson's strategy this is one draw from each posterior, two hundred times less work than [`Bandit::choose`].
    pub fn draw(&self, mut uniform: impl FnMut() -> f64) -> usize {
        if self.strategy != Strategy::Thompson || uniform() < self.floor {
            let even = vec![1.0 / self.arms.len() as f64; self.arms.len()];
            let propensities = match self.strategy {
                Strategy::Thompson => even,
                _ => self.propensities(&mut uniform),
            };
            return Choice::draw(&propensities, uniform()).arm;
        }
        self.best_of_posterior(&mut uniform)
    }

    /// Chooses an arm; `uniform` gives independent numbers in `[0, 1)`.
    pub fn choose(&self, mut uniform: impl FnMut() -> f64) -> Choice {
        let propensities = self.propensities(&mut uniform);
        Choice::draw(&propensities, uniform())
    }

    /// Returns the probability with which each arm is to be chosen until rewards change it.
    ///
    /// With Thompson's strategy these are shares of 200 draws, which takes some ten microseconds per arm: where requests are many, keep them for a
    /// second and [`Choice::draw`] from them. The propensity of a choice is exact either way, being what it was drawn with.
    pub fn propensities(&self, uniform: impl FnMut() -> f64) -> Vec<f64> {
        let n_arms = self.arms.len() as f64;
        let own = match self.strategy {
            Strategy::EpsilonGreedy(epsilon) => {
                let epsilon = epsilon.clamp(0.0, 1.0);
                let mut own = self.certainly(|arm| arm.mean);
                own.iter_mut()
                    .for_each(|share| *share = *share * (1.0 - epsilon) + epsilon / n_arms);
                own
            }
            Strategy::EpsilonOthers(epsilon) => self.best_or_others(epsilon.clamp(0.0, 1.0)),
            Strategy::Ucb1 => {
                let all: u64 = self.arms.iter().map(|arm| arm.units).sum();
                let log = 2.0 * (all.max(1) as f64).ln();
                self.certainly(|arm| arm.mean + (log / arm.units.max(1) as f64).sqrt())
            }
            Strategy::Thompson => self.thompson(uniform),
        };
        let explore = self.floor / n_arms;
        own.iter()
            .map(|share| share * (1.0 - self.floor) + explore)
            .collect()
    }

    /// Gives all to the arm with the greatest score; arms without a reward come first.
    fn certainly(&self, score: impl Fn(&Moments) -> f64) -> Vec<f64> {
        let unknown = self.arms.iter().position(|arm| arm.units == 0);
        let scores = self.arms.iter().map(score).enumerate();
        let best = scores.max_by(|left, right| left.1.total_cmp(&right.1));
        let chosen = unknown.or(best.map(|(arm, _)| arm));
        let arms = 0..self.arms.len();
        arms.map(|arm| f64::from(u8::from(Some(arm) == chosen)))
            .collect()
    }

    /// Gives the arms with the best mean their share, and what is left of each to the arms that are not it.
    fn best_or_others(&self, epsilon: f64) -> Vec<f64> {
        let n_arms = self.arms.len();
        let means = self.arms.iter().map(|arm| arm.mean);
        let best = means.clone().fold(f64::MIN, f64::max);
        let n_best = means.clone().filter(|mean| *mean == best).count() as f64;
        let n_others = n_arms.saturating_sub(1) as f64;
        let share = |mean: f64| {
            // With one arm there are no others.
            if n_others == 0.0 {
                return 1.0;
            }
            let is_best = f64::from(u8::from(mean == best));
            let as_best = is_best / n_best;
            as_best * (1.0 - epsilon) + (1.0 - as_best) * epsilon / n_others
        };
        means.map(share).collect()
    }

    /// Returns the arm that is the best of a draw from each posterior.
    fn best_of_posterior(&self, uniform: &mut impl FnMut() -> f64) -> usize {
        let mut best = (0, f64::MIN);
        for (index, arm) in self.arms.iter().enumerate() {
            let earned = arm.mean * arm.units as f64;
            let draw = beta(uniform, earned + 1.0, arm.units as f64 - earned + 1.0);
            if draw > best.1 {
                best = (index, draw);
            }
        }
        best.0
    }

    /// Estimates how often each arm is the best of a draw from the posteriors.
    fn thompson(&self, mut uniform: impl FnMut() -> f64) -> Vec<f64> {
        let mut n_best = vec![0_u32; self.arms.len()];
        for _ in 0..PROPENSITY_DRAWS {
            n_best[self.best_of_posterior(&mut uniform)] += 1;
        }
        let shares = n_best.into_iter();
        shares
            .map(|n| f64::from(n) / f64::from(PROPENSITY_DRAWS))
            .collect()
    }
}

/// Draws from a Beta distribution; parameters below 1, which no counts have, are taken for 1.
fn beta(uniform: &mut impl FnMut() -> f64, alpha: f64, beta: f64) -> f64 {
    let (x, y) = (
        gamma(uniform, alpha.max(1.0)),
        gamma(uniform, beta.max(1.0)),
    );
    x / (x + y)
}

/// Draws from a gamma distribution with a shape of at least 1 (Marsaglia and Tsang, 2000).
fn gamma(uniform: &mut impl FnMut() -> f64, shape: f64) -> f64 {
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        // A normal number by Box and Muller, 1958.
        let radius = (-2.0 * (1.0 - uniform()).ln()).sqrt();
        let normal = radius * (std::f64::consts::TAU * uniform()).cos();
        let v = (1.0 + c * normal).powi(3);
        if v > 0.0 && (1.0 - uniform()).ln() < 0.5 * normal * normal + d - d * v + d * v.ln() {
            return d * v;
        }
    }
}

#[cfg(test)]
mod tests;
