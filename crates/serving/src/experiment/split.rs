//! Which variant takes a request.

use std::sync::Arc;

use coracle_policy::SpecError;
use coracle_policy::assignment::{Assignment, Slice, Variant};
use coracle_policy::bandit::{Choice, FEATURE_MAX};

use super::book::Book;
use super::linear;
use super::{Allocation, PlannedExperiment, UnitSource, VariantTarget};
use crate::plan::ServiceId;
use crate::served_model::ServedModel;

/// The experiments of a route, in the order in which they are asked.
#[derive(Debug)]
pub struct RouteExperiments {
    splits: Vec<Split>,
    /// The stage of a rollout, which splits nothing itself.
    trial: Option<Box<Split>>,
}

/// One experiment of a route.
#[derive(Debug)]
pub struct Split {
    planned: PlannedExperiment,
    assignment: Assignment,
    targets: Vec<SplitTarget>,
    winner: Option<usize>,
    book: Arc<Book>,
}

/// Who answers for a variant.
#[derive(Clone, Debug)]
pub enum SplitTarget {
    /// The service, as its own split says.
    Own,
    /// This revision.
    Revision(Arc<ServedModel>),
    /// Another service.
    Service(ServiceId),
}

/// How a variant was come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// By hashing the unit.
    Hash,
    /// By hand.
    Override,
    /// By a bandit's draw.
    Bandit,
    /// By the route's own split, which a rollout sets.
    Route,
}

/// The variant that takes a request.
#[derive(Clone, Debug)]
pub struct Decision<'a> {
    /// The experiment.
    pub split: &'a Split,
    /// The variant's place.
    pub variant: usize,
    /// How it was come by; `None` if the request has no unit, or the experiment is settled: it is no exposure then.
    pub by: Option<By>,
    /// The probability with which it was chosen, if by a draw.
    pub propensity: Option<f64>,
    /// What it was chosen by, in the order of the planned features; empty where that is not so.
    pub features: Vec<f64>,
}

/// Whether an experiment takes a request.
#[derive(Clone, Debug)]
pub enum Decided<'a> {
    /// One does; with its unit, if that is in the experiment.
    Variant(Decision<'a>, Option<String>),
    /// None does: its unit is outside of all.
    Outside,
}

impl RouteExperiments {
    /// Returns the experiments of a route.
    #[must_use]
    pub fn new(splits: Vec<Split>) -> Self {
        let is_trial = |split: &Split| split.planned.stage.is_some();
        let (trials, splits): (Vec<Split>, Vec<Split>) = splits.into_iter().partition(is_trial);
        Self {
            splits,
            trial: trials.into_iter().next().map(Box::new),
        }
    }

    /// Returns the part in a rollout's stage of a request that `revision` answers; `unit` reads its unit. One without a unit is counted, and has none; where errors and
    /// latency are judged by unit it is judged all the same.
    pub fn observe(
        &self,
        revision: &str,
        unit: impl Fn(&UnitSource) -> Option<String>,
    ) -> Option<(Decision<'_>, Option<String>)> {
        let trial = self.trial.as_deref()?;
        let is_its = |target: &SplitTarget| match target {
            SplitTarget::Revision(model) => {
                let id = model.revision();
                id.is_some_and(|id| id.name == revision)
            }
            _ => false,
        };
        let variant = trial.targets.iter().position(is_its)?;
        let unit = match &trial.planned.unit {
            UnitSource::Request => None,
            source => {
                let unit = unit(source);
                if unit.is_none() {
                    trial.book.count_unassigned();
                }
                let is_judged = trial.planned.stage.is_some_and(|stage| stage.by_unit);
                if unit.is_none() && !is_judged {
                    return None;
                }
                unit
            }
        };
        let decision = Decision {
            by: Some(By::Route),
            ..trial.settled(variant)
        };
        Some((decision, unit))
    }

    /// Returns the stage of a rollout, if there is one.
    #[must_use]
    pub fn trial(&self) -> Option<&Split> {
        self.trial.as_deref()
    }

    /// Returns the experiments.
    #[must_use]
    pub fn splits(&self) -> &[Split] {
        &self.splits
    }

    /// Returns where the variants of all its experiments are.
    pub fn targets(&self) -> impl Iterator<Item = &SplitTarget> {
        self.splits.iter().flat_map(|split| &split.targets)
    }

    /// Tells whether the body of a request has to be read for its unit.
    #[must_use]
    pub fn reads_bodies(&self) -> bool {
        let features = self.splits.iter().flat_map(|split| &split.planned.features);
        let features = features.map(|feature| &feature.source);
        let units = self.splits.iter().map(|split| &split.planned.unit);
        let mut sources = units.chain(features);
        sources.any(|unit| {
            matches!(
                unit,
                UnitSource::Field(_) | UnitSource::Parameter(_) | UnitSource::Input(_)
            )
        })
    }

    /// Decides who takes a request; `unit` reads its unit, and `feature` one of its features.
    ///
    /// The first experiment that the unit is in takes it; the winner of one that is settled takes its own units so, and all that no other one takes. Without
    /// a unit the control of the first experiment does, unless one is settled, and it is counted there; so it is where variants are chosen by features, and
    /// one of them is not there.
    pub fn decide(
        &self,
        unit: impl Fn(&UnitSource) -> Option<String>,
        feature: impl Fn(&UnitSource) -> Option<f64>,
    ) -> Decided<'_> {
        let (mut without, mut won) = (None, None);
        for split in &self.splits {
            let unit = unit(&split.planned.unit);
            if let Some(variant) = split.winner {
                let decision = split.settled(variant);
                let unit = unit.filter(|unit| split.holds(unit));
                if unit.is_some() {
                    return Decided::Variant(decision, unit);
                }
                won = won.or(Some(decision));
                continue;
            }
            let Some(unit) = unit else {
                without = without.or(Some(split));
                continue;
            };
            if let Some(decision) = split.take(&unit, &feature) {
                return Decided::Variant(decision, Some(unit));
            }
        }
        if let Some(split) = without {
            split.book.count_unassigned();
        }
        let control = || without.map(|split| split.settled(split.planned.control));
        match won.or_else(control) {
            Some(decision) => Decided::Variant(decision, None),
            None => Decided::Outside,
        }
    }
}

impl Split {
    /// Returns an experiment; `find` finds who answers for its variants.
    ///
    /// # Errors
    /// If its numbers make no sense.
    pub fn try_new(
        planned: &PlannedExperiment,
        book: Arc<Book>,
        find: impl Fn(&VariantTarget) -> SplitTarget,
    ) -> Result<Self, SpecError> {
        let assignment = assignment(planned)?;
        let targets = planned.variants.iter();
        let winner = planned.winner.as_ref().and_then(|winner| {
            let mut variants = planned.variants.iter();
            variants.position(|variant| variant.name == *winner)
        });
        Ok(Self {
            targets: targets.map(|variant| find(&variant.target)).collect(),
            assignment,
            winner,
            book,
            planned: planned.clone(),
        })
    }

    fn settled(&self, variant: usize) -> Decision<'_> {
        Decision {
            split: self,
            variant,
            by: None,
            propensity: None,
            features: Vec::new(),
        }
    }

    /// Tells whether a unit is in the experiment.
    fn holds(&self, unit: &str) -> bool {
        self.assignment.assign(unit).is_some()
    }

    /// Returns what a unit gets; `None` if it is not in the experiment.
    fn take(
        &self,
        unit: &str,
        feature: impl Fn(&UnitSource) -> Option<f64>,
    ) -> Option<Decision<'_>> {
        let assigned = self.assignment.assign(unit)?;
        let decision = |variant, by, propensity| Decision {
            split: self,
            variant,
            by: Some(by),
            propensity,
            features: Vec::new(),
        };
        if assigned.is_override {
            return Some(decision(assigned.variant, By::Override, None));
        }
        if self.planned.linear().is_some() {
            let decision = self.take_by_features(feature);
            if decision.is_none() {
                self.book.count_unassigned();
            }
            return Some(decision.unwrap_or_else(|| self.settled(self.planned.control)));
        }
        if let Allocation::Bandit { .. } = self.planned.allocation {
            let choice = self.draw();
            let (variant, propensity) = (choice.arm, Some(choice.propensity));
            return Some(decision(variant, By::Bandit, propensity));
        }
        Some(decision(assigned.variant, By::Hash, None))
    }

    /// Returns what a request with these features gets; `None` unless all are there, and numbers.
    fn take_by_features(
        &self,
        feature: impl Fn(&UnitSource) -> Option<f64>,
    ) -> Option<Decision<'_>> {
        let features = self.planned.features.iter();
        let features: Option<Vec<f64>> = features.map(|one| feature(&one.source)).collect();
        let features = features?;
        if !features.iter().all(|feature| feature.abs() <= FEATURE_MAX) {
            return None;
        }
        let vector = linear::vector(features.iter().copied());
        let uniform = || self.book.next_uniform();
        let linear = self.book.linear();
        let choice = linear
            .as_ref()
            .and_then(|linear| linear.choose(&vector, uniform));
        // What is known is of before a change.
        let choice = choice.filter(|choice| choice.arm < self.targets.len());
        let choice = choice.unwrap_or_else(|| self.draw());
        Some(Decision {
            by: Some(By::Bandit),
            propensity: Some(choice.propensity),
            features,
            ..self.settled(choice.arm)
        })
    }

    fn draw(&self) -> Choice {
        let n_variants = self.planned.variants.len();
        let propensities = self.book.propensities();
        // Those of another number of variants are of before a change.
        if propensities.len() == n_variants {
            return Choice::draw(&propensities, self.book.next_uniform());
        }
        let even = 1.0 / f64::from(u32::try_from(n_variants).unwrap_or(1));
        Choice::draw(&vec![even; n_variants], self.book.next_uniform())
    }

    /// Returns what was planned.
    #[must_use]
    pub fn planned(&self) -> &PlannedExperiment {
        &self.planned
    }

    /// Returns where exposures go.
    #[must_use]
    pub fn book(&self) -> &Arc<Book> {
        &self.book
    }

    /// Returns the name of a variant.
    #[must_use]
    pub fn variant(&self, variant: usize) -> &str {
        let variant = self.planned.variants.get(variant);
        variant.map_or("", |variant| &variant.name)
    }

    /// Returns who answers for a variant.
    #[must_use]
    pub fn target(&self, variant: usize) -> &SplitTarget {
        self.targets.get(variant).unwrap_or(&SplitTarget::Own)
    }
}

/// Returns how an experiment's units are split.
pub(super) fn assignment(planned: &PlannedExperiment) -> Result<Assignment, SpecError> {
    let variants = planned.variants.iter().map(|variant| Variant {
        name: variant.name.clone(),
        weight: f64::from(variant.weight),
    });
    let parts = |ppm: u32| f64::from(ppm) / 1e6;
    let mut assignment = Assignment::try_new(&planned.salt, variants.collect())?
        .with_share(parts(planned.share_ppm))?;
    if let Some(slice) = &planned.slice {
        assignment = assignment.with_slice(Slice {
            group: slice.group.clone(),
            begin: parts(slice.begin_ppm),
            end: parts(slice.end_ppm),
        })?;
    }
    for (unit, variant) in &planned.overrides {
        assignment = assignment.with_override(unit, variant)?;
    }
    Ok(assignment)
}
