//! What the plan says of a flow: plain data.

use serde::{Deserialize, Serialize};

use crate::fallback::FallbackSettings;
use crate::shadow::ShadowSettings;

/// A flow that is to take requests.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct PlannedFlow {
    /// The name that its model is asked by.
    pub name: String,
    /// The step that requests come to.
    pub root: Step,
    /// The service, or the flow, that copies of its requests go to.
    #[serde(default)]
    pub shadow: Option<ShadowSettings>,
    /// What is done where it gives no answer, and how many of its requests there may be at a time; of calls to its models their services say it.
    #[serde(default)]
    pub fallback: Option<FallbackSettings>,
}

/// A step of a flow.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub enum Step {
    /// Asks a model.
    Ask(AskStep),
    /// Gives always the same answer: Seldon's `SIMPLE_MODEL`.
    Fixed {
        /// The node's name.
        node: String,
    },
    /// One after another, each with what the one before gave.
    Chain(Vec<Self>),
    /// One of several.
    One(OneStep),
    /// Several with the same request, whose answers become one.
    All(AllStep),
}

/// A model to ask.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct AskStep {
    /// The node's name.
    pub node: String,
    /// The service, of the flow's namespace.
    pub service: String,
    /// The one revision of it; without one the service's own split decides.
    #[serde(default)]
    pub revision: Option<String>,
}

/// Steps of which each request takes one.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct OneStep {
    /// The node's name.
    pub node: String,
    /// How it is chosen.
    pub routing: Routing,
    /// The branches with their names.
    pub branches: Vec<(String, Step)>,
}

/// How a branch is chosen.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub enum Routing {
    /// Of any 100 requests in a row each branch gets as many as its share, evenly spread.
    Shares(Vec<u8>),
    /// Each request is drawn by itself: the first branch has this probability, the second the rest.
    Random {
        /// The probability.
        first: f64,
    },
    /// Always the first.
    First,
    /// By what the branches have earned.
    Bandit(PlannedBandit),
}

/// A router that learns.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub enum PlannedBandit {
    /// The best branch, but with a probability one of the others.
    EpsilonGreedy {
        /// The probability.
        epsilon: f64,
        /// The branch that is the best as long as nothing is known.
        start: Option<usize>,
        /// What its random numbers begin with.
        seed: u64,
    },
    /// Each branch as often as it is the best by the posterior.
    Thompson {
        /// What its random numbers begin with.
        seed: u64,
    },
}

/// Steps that all get the same request.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct AllStep {
    /// The node's name.
    pub node: String,
    /// How their answers become one.
    pub join: Join,
    /// The steps.
    pub branches: Vec<Step>,
}

/// How several answers become one.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub enum Join {
    /// The first branch's is given.
    First,
    /// The mean of each number.
    Average,
}

impl PlannedFlow {
    /// Visits the revisions that it needs.
    #[must_use]
    pub fn revisions(&self) -> Vec<&str> {
        let asks = self.root.asks().into_iter();
        asks.filter_map(|ask| ask.revision.as_deref()).collect()
    }
}

impl Step {
    /// Returns the models that it may ask.
    #[must_use]
    pub fn asks(&self) -> Vec<&AskStep> {
        match self {
            Self::Ask(ask) => vec![ask],
            Self::Fixed { .. } => Vec::new(),
            Self::Chain(steps) => steps.iter().flat_map(Self::asks).collect(),
            Self::One(one) => {
                let branches = one.branches.iter();
                branches.flat_map(|(_, branch)| branch.asks()).collect()
            }
            Self::All(all) => all.branches.iter().flat_map(Self::asks).collect(),
        }
    }
}
