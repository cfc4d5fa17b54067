//! What came of a request or a unit, on its way into the books.

use thiserror::Error;

/// Who an outcome is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnitRef {
    /// The unit itself.
    Unit(String),
    /// The unit of the request with this id.
    Request(String),
}

/// What came of a request or a unit.
#[derive(Clone, Debug, PartialEq)]
pub struct NewOutcome {
    /// Who it is about.
    pub about: UnitRef,
    /// What tells it from others: one that comes again is taken once.
    pub id: Option<String>,
    /// Metrics with their values; finite numbers.
    pub metrics: Vec<(String, f64)>,
}

/// What became of an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is counted.
    Counted,
    /// It was there already.
    Duplicate,
    /// It came after the windows of all its metrics, or after the winner was shown to the unit: it is written down, and does not count. Or it is about a
    /// unit or a request that a rollout's stage does not know, which may have been another canary's.
    Late,
}

/// Why an outcome is not taken.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum OutcomeFault {
    /// The unit has not been shown anything.
    #[error("unit \"{0}\" has had no request in this experiment")]
    UnknownUnit(String),
    /// The request is not among those that are remembered.
    #[error(
        "request \"{request}\" is not known: it took no part in this experiment, or is not among its last {kept} requests (the unit may be named instead)"
    )]
    UnknownRequest {
        /// Its id.
        request: String,
        /// How many are remembered.
        kept: usize,
    },
    /// The experiment has no such metric.
    #[error("metric \"{name}\" is none of this experiment's: {known}")]
    UnknownMetric {
        /// Its name.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// A bandit's reward that is none.
    #[error(
        "metric \"{name}\" is {value}: it rewards a bandit, which takes values between 0 and 1"
    )]
    NoReward {
        /// The metric's name.
        name: String,
        /// Its value.
        value: String,
    },
}

impl OutcomeFault {
    /// Tells whether it is about a unit or a request that is not known.
    pub(super) fn is_of_unknown(&self) -> bool {
        matches!(self, Self::UnknownUnit(_) | Self::UnknownRequest { .. })
    }
}
