//! Experiments: which variant answers a request, who was shown what, and what came of it.
//!
//! A [`PlannedExperiment`] is part of a route's plan. [`Experiments`] keeps a book for each: [`Book::expose`] is called for every request that takes part,
//! without waiting; one thread writes exposures and outcomes to an append-only file (`journal`), and keeps their sums by unit (`ledger`), bounded in
//! number. A book that is opened again is read from its file. How it stands is [`Book::standing`]. The rules are in [`coracle_policy::experiment`],
//! [`coracle_policy::assignment`] and [`coracle_policy::bandit`]; what HTTP has to do with it is the gateway's.

mod book;
mod figures;
mod folded;
mod journal;
mod kept;
mod ledger;
mod linear;
mod number;
mod outcome;
mod record;
mod recorder;
mod series;
mod settled;
mod split;
mod stage_units;
mod standing;
mod tally;
#[cfg(test)]
mod tests;
mod trial;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use book::{Book, Exposure, ExposureEnd};
pub use figures::ExperimentFigures;
pub use outcome::{NewOutcome, OutcomeFault, Taken, UnitRef};
pub use record::{LineForm, ReadLine, WrittenLine};
pub use recorder::{Experiments, NotRecorded};
pub use series::Point;
pub use settled::SettledRate;
pub use split::{By, Decided, Decision, RouteExperiments, Split, SplitTarget};
pub use stage_units::{EventSums, SideUnits, StageUnits};
pub use standing::{ArmStanding, MetricStanding, OffPolicyStanding, Standing, VariantStanding};
pub use trial::{
    CANARY, DriftSummary, PlannedStage, ROLLOUT_BOOK, STABLE, StageSummary, UnitMoments,
};

/// An experiment on a route: who gets what, and what is looked at.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct PlannedExperiment {
    /// The object's name; its namespace is that of the route.
    pub name: String,
    /// The object's uid: another one is another experiment.
    pub uid: String,
    /// What the hashes of units are salted with; another one is another split.
    pub salt: String,
    /// What of a request is its unit.
    pub unit: UnitSource,
    /// The variants.
    pub variants: Vec<PlannedVariant>,
    /// The place of the variant that the others are compared with, and that requests without a unit get.
    pub control: usize,
    /// How many of a million units take part.
    pub share_ppm: u32,
    /// The part of an exclusion group.
    pub slice: Option<PlannedSlice>,
    /// Variants given by hand, by unit.
    pub overrides: BTreeMap<String, String>,
    /// How variants are chosen.
    pub allocation: Allocation,
    /// What of a request [`BanditStrategy::LinUcb`] chooses by.
    #[serde(default)]
    pub features: Vec<PlannedFeature>,
    /// The variant that gets all requests, once it is settled.
    pub winner: Option<String>,
    /// What is looked at; the first one is what bandits are rewarded by.
    pub metrics: Vec<PlannedMetric>,
    /// How it is judged.
    pub analysis: PlannedAnalysis,
    /// The stage of a rollout that it is; `None` for an experiment of its own.
    #[serde(default)]
    pub stage: Option<PlannedStage>,
}

impl PlannedExperiment {
    /// Returns how much uncertainty is worth to a bandit that chooses by features, and its floor; `None` for what chooses otherwise.
    #[must_use]
    pub fn linear(&self) -> Option<(f64, f64)> {
        match self.allocation {
            Allocation::Bandit {
                strategy: BanditStrategy::LinUcb(alpha),
                floor,
            } => Some((alpha, floor)),
            _ => None,
        }
    }

    /// Visits the revisions that answer for its variants.
    pub fn revisions(&self) -> impl Iterator<Item = &str> {
        self.variants
            .iter()
            .filter_map(|variant| match &variant.target {
                VariantTarget::Revision(name) => Some(name.as_str()),
                VariantTarget::Own | VariantTarget::Service(_) => None,
            })
    }
}

/// What of a request is its unit.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub enum UnitSource {
    /// The value of a header; the name is in lower case.
    Header(String),
    /// The value of a cookie.
    Cookie(String),
    /// A field of the JSON body, such as `user.id`.
    Field(String),
    /// A parameter of a V2 request.
    Parameter(String),
    /// The first element of an input, by its name.
    Input(String),
    /// The request itself.
    Request,
}

impl Default for UnitSource {
    fn default() -> Self {
        Self::Header(String::new())
    }
}

/// A variant of an experiment.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct PlannedVariant {
    /// Its name.
    pub name: String,
    /// Its weight; weights need not sum to anything.
    pub weight: u32,
    /// Who answers.
    pub target: VariantTarget,
}

/// Who answers for a variant.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub enum VariantTarget {
    /// The service, as its own split says.
    Own,
    /// A revision of the service.
    Revision(String),
    /// Another service of the namespace.
    Service(String),
}

/// A part of the units of an exclusion group, in millionths.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct PlannedSlice {
    /// The group's name, with its namespace.
    pub group: String,
    /// Where it begins.
    pub begin_ppm: u32,
    /// Where it ends.
    pub end_ppm: u32,
}

/// How variants are chosen.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub enum Allocation {
    /// By hashing the unit, with the weights.
    #[default]
    Fixed,
    /// By what they have earned; each request is a draw.
    Bandit {
        /// How.
        strategy: BanditStrategy,
        /// The probability with which any variant is chosen instead.
        floor: f64,
    },
}

/// A number of a request that a bandit chooses by.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct PlannedFeature {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub source: UnitSource,
}

/// A bandit's strategy.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub enum BanditStrategy {
    /// The best, but with this probability any.
    EpsilonGreedy(f64),
    /// As often as it is the best by the posterior.
    Thompson,
    /// The greatest upper confidence bound.
    Ucb1,
    /// The greatest upper confidence bound for a request with these features, with so many times the uncertainty.
    LinUcb(f64),
}

/// A metric of an experiment.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct PlannedMetric {
    /// Its name, which outcomes have too.
    pub name: String,
    /// What a unit's value is.
    pub kind: MetricForm,
    /// What is known of the unit before: the metric whose last value it is.
    pub covariate: Option<String>,
    /// Whether a unit without an outcome counts as 0; otherwise it does not count.
    pub zero_if_missing: bool,
    /// Whether less is better.
    pub is_lower_better: bool,
    /// What it is for.
    pub role: MetricRole,
    /// The difference that matters, above 0.
    pub expected: f64,
    /// By how much a guardrail may be worse.
    pub margin: f64,
    /// How long after a unit's first request its outcomes count, in ms, of a bandit after the request that is credited; always without it.
    #[serde(default)]
    pub window_ms: Option<u64>,
}

impl PlannedMetric {
    /// Tells whether outcomes with this name are part of its values, above the line or below it.
    #[must_use]
    pub fn counts(&self, name: &str) -> bool {
        self.counted().any(|counted| counted == name)
    }

    /// Returns the names of the outcomes that its values are made of: its own, and of a ratio the one below the line. What is known from before is none.
    pub fn counted(&self) -> impl Iterator<Item = &str> {
        let (own, below) = match &self.kind {
            MetricForm::Errors | MetricForm::Latency => (None, None),
            MetricForm::Ratio(below) => (Some(self.name.as_str()), below.as_deref()),
            MetricForm::Conversion | MetricForm::Sum | MetricForm::Mean => {
                (Some(self.name.as_str()), None)
            }
        };
        own.into_iter().chain(below)
    }
}

/// What a unit's value is in a metric.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub enum MetricForm {
    /// 1 if any outcome is above 0, else 0.
    Conversion,
    /// The sum of its outcomes.
    Sum,
    /// The mean of its outcomes.
    Mean,
    /// The sum of its outcomes, over the sum of those of another metric; over its requests without one.
    Ratio(Option<String>),
    /// Its failed requests over its requests.
    Errors,
    /// The seconds that its requests took, over their number.
    Latency,
}

/// What a metric is for.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub enum MetricRole {
    /// It decides.
    Primary,
    /// It is looked at.
    #[default]
    Secondary,
    /// It must not get worse.
    Guardrail,
}

/// How an experiment is judged.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct PlannedAnalysis {
    /// The most probable that no difference is taken for one.
    pub alpha: f64,
    /// How p-values are corrected.
    pub correction: CorrectionForm,
    /// Units that each variant must have before one is better.
    pub units_min: u64,
}

impl Default for PlannedAnalysis {
    fn default() -> Self {
        Self {
            alpha: 0.05,
            correction: CorrectionForm::BenjaminiHochberg,
            units_min: 100,
        }
    }
}

/// How p-values are corrected.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub enum CorrectionForm {
    /// Benjamini and Hochberg.
    BenjaminiHochberg,
    /// Bonferroni.
    Bonferroni,
    /// Not at all.
    None,
}

/// An experiment's name within its namespace.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ExperimentId {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl std::fmt::Display for ExperimentId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What a book is of, and kept by: another object, or another salt, is another experiment.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct BookId {
    /// The namespace.
    pub namespace: String,
    /// The experiment's name.
    pub name: String,
    /// What the object's uid is, or stands for it.
    pub uid: String,
    /// The salt.
    pub salt: String,
}

impl BookId {
    /// Returns that of an experiment that is planned.
    #[must_use]
    pub fn of(namespace: &str, planned: &PlannedExperiment) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: planned.name.clone(),
            uid: planned.uid.clone(),
            salt: planned.salt.clone(),
        }
    }
}

/// How an experiment stands, for the control side.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ExperimentSummary {
    /// Which one.
    pub id: ExperimentId,
    /// The object's uid.
    pub uid: String,
    /// Each variant with its units and requests.
    pub variants: Vec<(String, u64, u64)>,
    /// Requests without a unit.
    pub n_unassigned: u64,
    /// What is to be done.
    pub verdict: SummaryVerdict,
    /// Why.
    pub why: String,
    /// What has come of a rollout's stage, if it is one.
    #[serde(default)]
    pub stage: Option<StageSummary>,
}

/// What is to be done with an experiment.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub enum SummaryVerdict {
    /// Wait.
    Wait,
    /// Nothing can be believed.
    Mismatch,
    /// This variant does harm.
    Harm(String),
    /// This variant is better.
    Better(String),
}
