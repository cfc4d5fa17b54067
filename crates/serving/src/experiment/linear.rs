//! Bandits that choose by what is known of the request: features are named, read from each request, and kept with what is remembered of it until its
//! reward comes.
//!
//! What was learnt hangs on the features' names: with other ones it begins anew. A constant is added to them, so that a variant may be better for all requests.

use coracle_policy::bandit::{LinUcb, LinearArm};
use serde::{Deserialize, Serialize};

use super::PlannedExperiment;
use super::ledger::Ledger;

/// What is known of features' worth, by variant.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(super) struct Learnt {
    /// The features' names.
    names: Vec<String>,
    /// By the ledger's number of the variant.
    #[serde(with = "parts")]
    arms: Vec<LinearArm>,
}

/// Arms as [`LinearArm::parts`] tells them.
mod parts {
    use serde::de::Error as _;
    use serde::{Deserializer, Serializer};

    use super::{Deserialize, LinearArm};

    pub(super) fn serialize<S: Serializer>(
        arms: &[LinearArm],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(arms.iter().map(LinearArm::parts))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<LinearArm>, D::Error> {
        let all: Vec<(Vec<f64>, Vec<f64>)> = Deserialize::deserialize(deserializer)?;
        let arms = all.into_iter().map(|(inverse, earned)| {
            let arm = LinearArm::of_parts(inverse, earned);
            arm.ok_or_else(|| D::Error::custom("no square matrix of numbers"))
        });
        arms.collect()
    }
}

/// Returns what a linear model is given for a request: a constant, and its features.
pub(super) fn vector(features: impl IntoIterator<Item = f64>) -> Vec<f64> {
    std::iter::once(1.0).chain(features).collect()
}

/// Returns the features of a request in the order in which they are planned, with the constant; `None` unless all are there.
pub(super) fn planned_vector(
    planned: &PlannedExperiment,
    known: &[(impl AsRef<str>, f64)],
) -> Option<Box<[f64]>> {
    planned.linear()?;
    let of = |name: &str| {
        let mut known = known.iter();
        known.find(|(known, _)| known.as_ref() == name)
    };
    let features = planned
        .features
        .iter()
        .map(|feature| Some(of(&feature.name)?.1));
    let features: Option<Vec<f64>> = features.collect();
    Some(vector(features?).into_boxed_slice())
}

fn names(planned: &PlannedExperiment) -> impl Iterator<Item = &str> {
    planned.features.iter().map(|feature| feature.name.as_str())
}

impl Learnt {
    /// Returns what is known of the variant with this number, if it is of the planned features.
    fn arm(&self, planned: &PlannedExperiment, index: Option<usize>) -> Option<&LinearArm> {
        let arm = self.arms.get(index.filter(|_| self.is_of(planned))?)?;
        (arm.parts().1.len() == planned.features.len() + 1).then_some(arm)
    }

    fn is_of(&self, planned: &PlannedExperiment) -> bool {
        self.names.iter().map(String::as_str).eq(names(planned))
    }

    /// Has so many variants at least.
    fn hold(&mut self, n_arms: usize) {
        while self.arms.len() < n_arms {
            self.arms.push(LinearArm::new(self.names.len() + 1));
        }
    }
}

impl Ledger {
    fn linear_arm(&self, planned: &PlannedExperiment, variant: &str) -> LinearArm {
        let index = self.arms.iter().position(|arm| arm.name == variant);
        let arm = self.rewards.learnt.arm(planned, index).cloned();
        arm.unwrap_or_else(|| LinearArm::new(planned.features.len() + 1))
    }

    /// Returns a bandit over the planned variants that chooses by features, if that is planned.
    pub(super) fn linear_bandit(&self, planned: &PlannedExperiment) -> Option<LinUcb> {
        let (alpha, floor) = planned.linear()?;
        let variants = planned.variants.iter();
        let arms: Vec<LinearArm> = variants
            .map(|variant| self.linear_arm(planned, &variant.name))
            .collect();
        (!arms.is_empty()).then(|| LinUcb::of_arms(alpha, floor, arms))
    }

    /// Returns how much the constant and each feature add to what a variant is expected to earn.
    pub(super) fn linear_weights(
        &self,
        planned: &PlannedExperiment,
        variant: &str,
    ) -> Vec<(String, f64)> {
        if planned.linear().is_none() {
            return Vec::new();
        }
        let weights = self.linear_arm(planned, variant).weights();
        let all = std::iter::once("constant").chain(names(planned));
        all.map(str::to_owned).zip(weights).collect()
    }

    /// Begins anew if the planned features are others than before: with what was learnt of them, the numbers are forgotten that are
    /// remembered of requests until their outcomes come, for these do not say of which features they are.
    pub(super) fn hold_features(&mut self, planned: &PlannedExperiment) {
        let learnt = &mut self.rewards.learnt;
        if planned.linear().is_none() || learnt.is_of(planned) {
            return;
        }
        let is_first = learnt.names.is_empty();
        learnt.names = names(planned).map(str::to_owned).collect();
        learnt.arms.clear();
        if is_first {
            return;
        }
        self.units
            .values_mut()
            .for_each(|unit| unit.last_features = Box::default());
        self.requests.forget_features();
    }

    /// Takes the reward of a variant for a request with these features; returns what was expected of each variant before, by the ledger's numbers. Nothing
    /// of both without features.
    pub(super) fn learn_linear(
        &mut self,
        planned: &PlannedExperiment,
        (variant, features): (usize, &[f64]),
        reward: f64,
    ) -> Box<[f32]> {
        if planned.linear().is_none() || features.len() != planned.features.len() + 1 {
            return Box::default();
        }
        let learnt = &mut self.rewards.learnt;
        learnt.hold(self.arms.len());
        let arms = learnt.arms.iter();
        let expected = arms.map(|arm| arm.expected(features) as f32).collect();
        if let Some(arm) = learnt.arms.get_mut(variant) {
            arm.learn(features, reward);
        }
        expected
    }
}
