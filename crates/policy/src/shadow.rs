//! How a shadow's answers differ from those that were given: agreement of labels, distances of numbers, drift of distributions.
//!
//! Pairs of answers to the same request go in one by one; what is kept is bounded, however many come. Start at [`Labels`] for classifiers and at
//! [`Numbers`] for scores and regressions.

mod distribution;

use std::collections::BTreeMap;

use crate::experiment::Moments;
use crate::random::Random;

pub use distribution::{Drift, Profile, kolmogorov_smirnov};

/// The most different pairs of labels that are told apart.
const PAIRS_MAX: usize = 4_096;

/// Which labels the two gave, and how often they agree.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Labels {
    /// How often the stable revision gave the first and the shadow the second. Bounded: see `others`.
    pub pairs: BTreeMap<(String, String), u64>,
    /// Pairs that came after 4,096 different ones: how many agreed, and how many did not.
    pub others: (u64, u64),
}

impl Labels {
    /// Takes the two labels of a request.
    pub fn push(&mut self, stable: &str, shadow: &str) {
        let pair = (stable.to_owned(), shadow.to_owned());
        if self.pairs.len() >= PAIRS_MAX && !self.pairs.contains_key(&pair) {
            if stable == shadow {
                self.others.0 += 1;
            } else {
                self.others.1 += 1;
            }
            return;
        }
        *self.pairs.entry(pair).or_default() += 1;
    }

    /// Returns how many pairs there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.pairs.values().sum::<u64>() + self.others.0 + self.others.1
    }

    /// Returns the share of requests in which both gave the same label; `None` without any.
    #[must_use]
    pub fn agreement(&self) -> Option<f64> {
        let same = self
            .pairs
            .iter()
            .filter(|((stable, shadow), _)| stable == shadow);
        let same: u64 = same.map(|(_, count)| count).sum::<u64>() + self.others.0;
        (self.count() > 0).then(|| same as f64 / self.count() as f64)
    }

    /// Returns Cohen's kappa: agreement beyond what chance would give, 1 for always and 0 for none (Cohen, 1960). `None` where chance
    /// alone always agrees, and where there were too many pairs to tell apart.
    #[must_use]
    pub fn kappa(&self) -> Option<f64> {
        if self.others != (0, 0) {
            return None;
        }
        let all = self.count() as f64;
        let mut marginals: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for ((stable, shadow), count) in &self.pairs {
            marginals.entry(stable).or_default().0 += count;
            marginals.entry(shadow).or_default().1 += count;
        }
        let chances = marginals.values();
        let chance: f64 = chances
            .map(|(a, b)| *a as f64 / all * (*b as f64 / all))
            .sum();
        let kappa = (self.agreement()? - chance) / (1.0 - chance);
        kappa.is_finite().then_some(kappa)
    }
}

/// How far the shadow's numbers are from the stable revision's.
#[derive(Clone, Debug, PartialEq)]
pub struct Numbers {
    /// Shadow minus stable.
    pub differences: Moments,
    /// The greatest distance.
    pub distance_max: f64,
    /// How many pairs are farther apart than each tolerance.
    pub beyond: Vec<(f64, u64)>,
    /// Pairs of which just one was not a number.
    pub n_only_one_missing: u64,
}

impl Numbers {
    /// Returns a comparison that counts distances beyond each of `tolerances`.
    #[must_use]
    pub fn new(tolerances: &[f64]) -> Self {
        Self {
            differences: Moments::default(),
            distance_max: 0.0,
            beyond: tolerances.iter().map(|tolerance| (*tolerance, 0)).collect(),
            n_only_one_missing: 0,
        }
    }

    /// Takes the two numbers of a request; returns their distance, infinite if just one is not a number.
    ///
    /// Two missing numbers agree, as do two infinities of one sign.
    pub fn push(&mut self, stable: f64, shadow: f64) -> f64 {
        let is_same = stable.is_nan() && shadow.is_nan() || stable == shadow;
        let distance = if is_same {
            0.0
        } else if stable.is_nan() != shadow.is_nan() {
            self.n_only_one_missing += 1;
            f64::INFINITY
        } else {
            (shadow - stable).abs()
        };
        if distance.is_finite() && !stable.is_nan() {
            self.differences
                .push(if is_same { 0.0 } else { shadow - stable });
        }
        self.distance_max = self.distance_max.max(distance);
        for (tolerance, count) in &mut self.beyond {
            *count += u64::from(distance > *tolerance);
        }
        distance
    }
}

/// The requests whose answers were farthest apart: a bounded list, farthest first.
///
/// Of those that are exactly as far apart as the least that is kept, a fair sample is: each of them that has come is in it with the same
/// probability (reservoir sampling), so that neither the first ones nor a burst fill the list.
#[derive(Clone, Debug, PartialEq)]
pub struct Worst<T> {
    kept: Vec<(f64, T)>,
    kept_max: usize,
    /// The least distance that a full list keeps, with how many such requests have come.
    least: Option<(f64, u64)>,
    random: Random,
}

impl<T> Worst<T> {
    /// Returns a list of at most `kept_max` requests.
    #[must_use]
    pub fn new(kept_max: usize) -> Self {
        Self {
            kept: Vec::new(),
            kept_max,
            least: None,
            random: Random::new(1),
        }
    }

    /// Takes a request with the distance of its answers; `request` is called only if it is kept. Equal answers are not.
    pub fn push(&mut self, distance: f64, request: impl FnOnce() -> T) {
        if distance > 0.0 {
            if self.kept.len() >= self.kept_max && !self.make_room(distance) {
                return;
            }
            let place = self.kept.partition_point(|(kept, _)| *kept >= distance);
            self.kept.insert(place, (distance, request()));
        }
    }

    /// Lets one of the least go for a request of this distance, unless it is less itself, or not drawn.
    fn make_room(&mut self, distance: f64) -> bool {
        let Some(least) = self.kept.last().map(|(least, _)| *least) else {
            return false;
        };
        if distance < least {
            return false;
        }
        let first = self.kept.partition_point(|(kept, _)| *kept > least);
        let n_kept = (self.kept.len() - first) as u64;
        // All that are farther apart than the least are kept: so were all of these, if others were the least until now.
        let known = self.least.filter(|(known, _)| *known == least);
        let n_before = known.map_or(n_kept, |(_, n_before)| n_before);
        let n_come = n_before + u64::from(distance == least);
        self.least = Some((least, n_come));
        let drawn = match distance == least {
            true => self.random.next_u64() % n_come,
            false => self.random.next_u64() % n_kept,
        };
        if drawn >= n_kept {
            return false;
        }
        self.kept.remove(first + drawn as usize);
        true
    }

    /// Returns the requests kept with their distances, farthest first.
    #[must_use]
    pub fn kept(&self) -> &[(f64, T)] {
        &self.kept
    }
}

#[cfg(test)]
mod tests;
