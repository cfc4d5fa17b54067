//! What the metrics show of experiments: counters, which cost no look at the units.

use super::ExperimentId;
use super::book::Book;
use super::recorder::Experiments;

/// What the metrics show of an experiment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExperimentFigures {
    /// Which one.
    pub id: ExperimentId,
    /// Requests that took part, by variant.
    pub exposures: Vec<(String, u64)>,
    /// Outcomes that were taken.
    pub n_outcomes: u64,
    /// Requests without a unit.
    pub n_unassigned: u64,
    /// Exposures that are not in the books.
    pub n_lost: u64,
    /// Whether it has a winner.
    pub is_settled: bool,
}

impl Book {
    /// Returns what the metrics show. It may wait for the thread that writes.
    fn figures(&self) -> ExperimentFigures {
        let counters = self.counters();
        let ledger = self.ledger();
        let arms = ledger.arms.iter();
        ExperimentFigures {
            id: self.id.clone(),
            exposures: arms.map(|arm| (arm.name.clone(), arm.requests)).collect(),
            n_outcomes: ledger.n_outcomes,
            n_unassigned: counters.unassigned,
            n_lost: counters.lost.saturating_add(counters.units_lost),
            is_settled: self.planned().winner.is_some(),
        }
    }
}

impl Experiments {
    /// Returns what the metrics show of all that are in force. It may wait for the thread that writes: no event loop calls it.
    #[must_use]
    pub fn figures(&self) -> Vec<ExperimentFigures> {
        self.books().iter().map(|book| book.figures()).collect()
    }
}
