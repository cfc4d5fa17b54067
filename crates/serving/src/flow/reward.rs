//! What came of an answer: it goes to the models and routers that gave it.

use std::sync::atomic::{AtomicU64, Ordering};

use thiserror::Error;

use super::router::Router;
use super::{Flow, FlowStep};

/// What models were told of their answers.
#[derive(Debug, Default)]
pub struct FeedbackCounters {
    count: AtomicU64,
    /// The bits of the sum of rewards.
    reward: AtomicU64,
}

impl FeedbackCounters {
    /// Counts a reward; one of 0 is one.
    pub fn add(&self, reward: f64) {
        self.count.fetch_add(1, Ordering::Relaxed);
        let add = |bits: u64| (f64::from_bits(bits) + reward).to_bits();
        let mut before = self.reward.load(Ordering::Relaxed);
        while let Err(now) = self.reward.compare_exchange_weak(
            before,
            add(before),
            Ordering::Relaxed,
            Ordering::Relaxed,
        ) {
            before = now;
        }
    }

    /// Returns how many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Returns their sum.
    #[must_use]
    pub fn reward(&self) -> f64 {
        f64::from_bits(self.reward.load(Ordering::Relaxed))
    }
}

/// The branch of an answer that no branch has given, such as a fallback's; with Seldon the number of a router that ends the way of a request.
pub const NOBODY: i64 = -2;

/// What came of an answer.
pub struct Reward<'a> {
    /// How good it was.
    pub reward: f64,
    /// How many rows it had.
    pub n_rows: u64,
    /// Which branch the request took at a node: a number, -1 for all of them, or [`NOBODY`].
    pub routing: &'a dyn Fn(&str) -> Option<i64>,
}

impl std::fmt::Debug for Reward<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reward")
            .field("reward", &self.reward)
            .field("n_rows", &self.n_rows)
            .finish_non_exhaustive()
    }
}

/// Why a reward cannot be given.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NoReward {
    /// It is not said which branch earned it.
    #[error(
        "response.meta.routing does not say which branch of '{node}' answered; send the answer's meta back as it came"
    )]
    Unrouted {
        /// The router.
        node: String,
    },
    /// There is no such branch.
    #[error("response.meta.routing names branch {branch} of '{node}', which has {n_branches}")]
    NoBranch {
        /// The router.
        node: String,
        /// The branch.
        branch: i64,
        /// How many it has.
        n_branches: usize,
    },
}

/// Who is to have a reward.
#[derive(Default)]
struct Receivers<'a> {
    nodes: Vec<(&'a str, &'a super::FlowAsk)>,
    routers: Vec<(&'a Router, usize)>,
}

impl Flow {
    /// Gives a reward to the models that answered and to the routers that led there; returns the models' nodes.
    ///
    /// A router that does not learn and of which nothing is said gives it to all its branches, as Seldon's executor does.
    ///
    /// # Errors
    /// [`NoReward`]; nobody has it then.
    pub fn reward(&self, reward: &Reward<'_>) -> Result<Vec<&str>, NoReward> {
        let mut receivers = Receivers::default();
        find(&self.root, reward, &mut receivers)?;
        for (router, branch) in receivers.routers {
            router.reward(branch, reward.reward, reward.n_rows);
        }
        let nodes = receivers.nodes.into_iter();
        let nodes = nodes.map(|(node, ask)| {
            ask.feedback.add(reward.reward);
            node
        });
        Ok(nodes.collect())
    }
}

fn find<'a>(
    step: &'a FlowStep,
    reward: &Reward<'_>,
    receivers: &mut Receivers<'a>,
) -> Result<(), NoReward> {
    match step {
        FlowStep::Ask(ask) => receivers.nodes.push((&ask.node, ask)),
        FlowStep::Fixed { .. } => {}
        FlowStep::Chain(steps) => {
            for step in steps {
                find(step, reward, receivers)?;
            }
        }
        FlowStep::All { branches, .. } => {
            for branch in branches {
                find(branch, reward, receivers)?;
            }
        }
        FlowStep::One { router, branches } => {
            let node = || router.node().to_owned();
            match (reward.routing)(router.node()) {
                None | Some(-1) if router.needs_branch() && branches.len() > 1 => {
                    return Err(NoReward::Unrouted { node: node() });
                }
                Some(NOBODY) => {}
                None | Some(-1) => {
                    for branch in branches {
                        find(branch, reward, receivers)?;
                    }
                }
                Some(branch) => {
                    let index = usize::try_from(branch).ok();
                    let found = index.and_then(|index| Some((index, branches.get(index)?)));
                    let (index, step) = found.ok_or_else(|| NoReward::NoBranch {
                        node: node(),
                        branch,
                        n_branches: branches.len(),
                    })?;
                    receivers.routers.push((router, index));
                    find(step, reward, receivers)?;
                }
            }
        }
    }
    Ok(())
}
