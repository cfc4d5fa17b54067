//! Units of a rollout's stage that gave their places to later ones: what they came to stays in the sums.
//!
//! For stages whose units are requests only. A request comes once and outcomes name the last of them alone, so that of the oldest nothing more is to be
//! known; a user who comes again would count as two.

use std::collections::HashMap;

use coracle_policy::experiment::Moments;
use serde::{Deserialize, Serialize};

use super::PlannedExperiment;
use super::ledger::Ledger;
use super::trial::UnitMoments;

/// At a time one in so many of the units goes: each time all of them are gone through.
const FOLDED_SHARE: usize = 4;

/// What units came to that are no longer known.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Folded {
    /// When the stage began that they were of, in ms since 1970.
    since_ms: u64,
    /// By metric, of the first variant and of the second.
    outcomes: Vec<(UnitMoments, UnitMoments)>,
}

impl Folded {
    /// Adds those of another part of the same file.
    pub(super) fn join(&mut self, other: Self) {
        match self.outcomes.is_empty() {
            true => *self = other,
            false => self.add(other.since_ms, other.outcomes),
        }
    }

    /// Adds units' values to those of the stage that began at `since_ms`; those of another one are forgotten.
    fn add(&mut self, since_ms: u64, outcomes: Vec<(UnitMoments, UnitMoments)>) {
        let before = std::mem::take(&mut self.outcomes);
        let is_same = self.since_ms == since_ms;
        self.since_ms = since_ms;
        self.outcomes = match is_same {
            true => joined(outcomes, &before),
            false => outcomes,
        };
    }
}

impl Ledger {
    /// Makes room: the units that came first go, and what they came to is kept.
    pub(super) fn fold_oldest(&mut self, planned: &PlannedExperiment) {
        let Some(stage) = planned.stage else { return };
        let n_going = (self.units.len() / FOLDED_SHARE).max(1);
        let mut times: Vec<u64> = self.units.values().map(|unit| unit.first_at).collect();
        if times.len() < n_going {
            return;
        }
        let (_, last, _) = times.select_nth_unstable(n_going - 1);
        let last = *last;
        // Of those that came together any may go.
        let mut n_left = n_going;
        let going: HashMap<_, _> = self
            .units
            .extract_if(|_, unit| {
                let goes = n_left > 0 && unit.first_at <= last;
                n_left -= usize::from(goes);
                goes
            })
            .collect();
        let n_gone = going.len();
        let staying = std::mem::replace(&mut self.units, going);
        let outcomes = self.outcomes_of_units(planned);
        self.units = staying;
        self.give_back(n_gone);
        self.folded.add(stage.since_ms, outcomes);
    }

    /// Returns the units' values of a rollout's stage, by metric: of the first variant and of the second.
    pub(super) fn outcomes(&self, planned: &PlannedExperiment) -> Vec<(UnitMoments, UnitMoments)> {
        let outcomes = self.outcomes_of_units(planned);
        let is_of_stage = |folded: &&Folded| {
            let stage = planned.stage;
            stage.is_some_and(|stage| stage.since_ms == folded.since_ms)
        };
        match Some(&self.folded).filter(is_of_stage) {
            Some(folded) => joined(outcomes, &folded.outcomes),
            None => outcomes,
        }
    }
}

/// Adds sums metric by metric.
fn joined(
    ours: Vec<(UnitMoments, UnitMoments)>,
    theirs: &[(UnitMoments, UnitMoments)],
) -> Vec<(UnitMoments, UnitMoments)> {
    let sum = |(units, mean, squares): UnitMoments, other: UnitMoments| {
        let mut sum = Moments {
            units,
            mean,
            squares,
        };
        let (units, mean, squares) = other;
        sum.merge(&Moments {
            units,
            mean,
            squares,
        });
        (sum.units, sum.mean, sum.squares)
    };
    let nothing = std::iter::repeat(&((0, 0.0, 0.0), (0, 0.0, 0.0)));
    let both = ours.into_iter().zip(theirs.iter().chain(nothing));
    both.map(|((stable, canary), (more_stable, more_canary))| {
        (sum(stable, *more_stable), sum(canary, *more_canary))
    })
    .collect()
}
