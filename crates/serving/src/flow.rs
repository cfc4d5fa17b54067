//! Flows: steps over models that answer one request together, as Seldon's graphs and KServe's do. A [`PlannedFlow`] is what the plan says of one, a
//! [`Flow`] is what requests are led through; `gateway` does the asking. Where requests go is decided by a [`Router`]; what comes of it comes back as a
//! [`Reward`].
//!
//! A flow holds its models by revision, so that it changes in one step: when all revisions of its successor are there.

mod memory;
mod planned;
mod reward;
mod router;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coracle_base::Code;

use crate::admission::{Place, Refusal, deadline_in};
use crate::fallback::{Fallback, FallbackMemory};
use crate::plan::{RevisionId, ServiceId};
use crate::shadow::ShadowTap;
use crate::{Priority, ServedModel};

pub use memory::Memory;
pub use planned::{AllStep, AskStep, Join, OneStep, PlannedBandit, PlannedFlow, Routing, Step};
pub use reward::{FeedbackCounters, NOBODY, NoReward, Reward};
pub use router::Router;

/// A flow that takes requests.
#[derive(Debug)]
pub struct Flow {
    name: String,
    root: FlowStep,
    /// By the node's key, for those that succeed it.
    routers: BTreeMap<String, Arc<Router>>,
    rewarded: BTreeMap<String, Arc<FeedbackCounters>>,
    /// The revisions that it names.
    held: Vec<(RevisionId, Arc<ServedModel>)>,
    outcomes: Arc<FlowOutcomes>,
    shadow: Option<Arc<ShadowTap>>,
    fallback: Option<Arc<Fallback>>,
}

/// A place among the requests of a flow; it is given back when the request has been answered, or nothing that it asked runs any more.
#[derive(Debug)]
pub struct FlowLease {
    place: Mutex<Place>,
}

impl FlowLease {
    /// Gives the place back before the last one who holds it has gone.
    pub fn give_back(&self) {
        drop(
            self.place
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
    }
}

/// A step of a flow that takes requests.
#[derive(Debug)]
pub enum FlowStep {
    /// Asks a model.
    Ask(FlowAsk),
    /// Gives always the same answer.
    Fixed {
        /// The node's name.
        node: String,
    },
    /// One after another, each with what the one before gave.
    Chain(Vec<Self>),
    /// One of several.
    One {
        /// Decides which.
        router: Arc<Router>,
        /// The several.
        branches: Vec<Self>,
    },
    /// Several with the same request, whose answers become one.
    All {
        /// The node's name.
        node: String,
        /// How.
        join: Join,
        /// The several.
        branches: Vec<Self>,
    },
}

impl FlowStep {
    /// Returns what it asks; the depth of steps is bounded by whoever plans them.
    fn asks(&self) -> Vec<&FlowAsk> {
        match self {
            Self::Ask(ask) => vec![ask],
            Self::Fixed { .. } => Vec::new(),
            Self::Chain(steps)
            | Self::One {
                branches: steps, ..
            }
            | Self::All {
                branches: steps, ..
            } => steps.iter().flat_map(Self::asks).collect(),
        }
    }
}

/// A model of a flow.
#[derive(Debug)]
pub struct FlowAsk {
    /// The node's name.
    pub node: String,
    /// The model.
    pub target: FlowTarget,
    feedback: Arc<FeedbackCounters>,
}

impl FlowAsk {
    /// Tells whether it asks a revision, which stays what it is.
    #[must_use]
    pub fn is_revision(&self) -> bool {
        matches!(self.target, FlowTarget::Revision(_))
    }
}

/// Who answers for a node.
#[derive(Debug)]
pub enum FlowTarget {
    /// One revision.
    Revision(Arc<ServedModel>),
    /// A service, as its own split says.
    Service(ServiceId),
}

/// How requests of a flow ended.
#[derive(Debug, Default)]
struct FlowOutcomes {
    ok: AtomicU64,
    failed: [AtomicU64; Code::ALL.len()],
    stood_in: AtomicU64,
}

impl Flow {
    /// Returns the flow of `id` that `planned` says, with what `before` has learnt and counted at nodes that are the same; `None` if a revision
    /// that `find` is asked for is not there yet.
    #[must_use]
    pub fn try_new(
        id: &ServiceId,
        planned: &PlannedFlow,
        find: &dyn Fn(&RevisionId) -> Option<Arc<ServedModel>>,
        before: Option<&Self>,
    ) -> Option<Self> {
        Self::try_remembering(id, planned, find, (before, None))
    }

    /// The same, with what routers like its own had learnt before the server began.
    #[must_use]
    pub fn try_remembering(
        id: &ServiceId,
        planned: &PlannedFlow,
        find: &dyn Fn(&RevisionId) -> Option<Arc<ServedModel>>,
        (before, memory): (Option<&Self>, Option<&Memory>),
    ) -> Option<Self> {
        let mut builder = Builder {
            id,
            find,
            before,
            memory,
            routers: BTreeMap::new(),
            rewarded: BTreeMap::new(),
            held: Vec::new(),
        };
        let root = builder.step(&planned.root, "")?;
        for router in builder.routers.values() {
            router.take_over();
        }
        Some(Self {
            name: planned.name.clone(),
            root,
            routers: builder.routers,
            rewarded: builder.rewarded,
            held: builder.held,
            shadow: planned
                .shadow
                .clone()
                .map(|settings| Arc::new(ShadowTap::new(id.clone(), settings))),
            outcomes: before
                .map(|before| Arc::clone(&before.outcomes))
                .unwrap_or_default(),
            fallback: planned.fallback.as_ref().map(|settings| {
                // Other models have other outputs: what was known of them is known no more, but for last good answers and who is in work.
                let before = before.and_then(|before| before.fallback.as_deref());
                let memory = FallbackMemory::among(Some(settings), before);
                Arc::new(Fallback::new(settings.clone()).with_memory(memory))
            }),
        })
    }

    /// Tells whether its models are those that `find` knows, or has none for: a revision that went and came back is another model.
    #[must_use]
    pub fn is_current(&self, find: &dyn Fn(&RevisionId) -> Option<Arc<ServedModel>>) -> bool {
        let mut held = self.held.iter();
        held.all(|(revision, held)| find(revision).is_none_or(|now| Arc::ptr_eq(&now, held)))
    }

    /// Returns the name that its model is asked by: its first node's.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns where copies of its requests go, if they go anywhere.
    #[must_use]
    pub fn shadow(&self) -> Option<&Arc<ShadowTap>> {
        self.shadow.as_ref()
    }

    /// Returns what is done where it gives no answer.
    #[must_use]
    pub fn fallback(&self) -> Option<&Arc<Fallback>> {
        self.fallback.as_ref()
    }

    /// Waits, for `time` at most, until there is a place among its requests; `None` if there may be any number of them.
    ///
    /// # Errors
    /// [`Refusal`] if too many wait, or the time is over.
    ///
    /// # Cancel safety
    /// A wait that is dropped leaves its place in the queue.
    pub async fn enter(
        &self,
        priority: Priority,
        time: Duration,
    ) -> Result<Option<Arc<FlowLease>>, Refusal> {
        let bulkhead = self.fallback.as_ref().and_then(|own| own.bulkhead());
        let Some(bulkhead) = bulkhead else {
            return Ok(None);
        };
        let place = match bulkhead.try_place() {
            Some(place) => place,
            None => bulkhead.place(priority, deadline_in(time)).await?,
        };
        Ok(Some(Arc::new(FlowLease {
            place: Mutex::new(place),
        })))
    }

    /// Counts an answer that is none of its own.
    pub fn count_fallback(&self) {
        self.outcomes.stood_in.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how many answers were none of its own.
    #[must_use]
    pub fn n_fallbacks(&self) -> u64 {
        self.outcomes.stood_in.load(Ordering::Relaxed)
    }

    /// Visits the revisions that it leads to.
    pub fn revisions(&self) -> impl Iterator<Item = &RevisionId> {
        self.held.iter().map(|(revision, _)| revision)
    }

    /// Returns the step that requests come to.
    #[must_use]
    pub fn root(&self) -> &FlowStep {
        &self.root
    }

    /// Returns what it asks, in the order of its steps.
    #[must_use]
    pub fn asks(&self) -> Vec<&FlowAsk> {
        self.root.asks()
    }

    /// Visits the routers by their keys: a node's name, after the branch's where the first step splits requests.
    pub fn routers(&self) -> impl Iterator<Item = (&str, &Router)> {
        let routers = self.routers.iter();
        routers.map(|(key, router)| (key.as_str(), router.as_ref()))
    }

    /// Visits what models were told of their answers, by the nodes' keys.
    pub fn feedback(&self) -> impl Iterator<Item = (&str, &FeedbackCounters)> {
        let rewarded = self.rewarded.iter();
        rewarded.map(|(key, counters)| (key.as_str(), counters.as_ref()))
    }

    /// Counts a request that ended so.
    pub fn count(&self, outcome: Result<(), Code>) {
        let counter = match outcome {
            Ok(()) => Some(&self.outcomes.ok),
            Err(code) => {
                let index = Code::ALL.iter().position(|one| *one == code);
                index.and_then(|index| self.outcomes.failed.get(index))
            }
        };
        if let Some(counter) = counter {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns how many requests ended in each way, `None` being well; ways in which none did are passed over.
    pub fn outcomes(&self) -> impl Iterator<Item = (Option<Code>, u64)> {
        let failed = Code::ALL.into_iter().map(Some).zip(&self.outcomes.failed);
        let all = std::iter::once((None, &self.outcomes.ok)).chain(failed);
        let counts = all.map(|(code, counter)| (code, counter.load(Ordering::Relaxed)));
        counts.filter(|(code, count)| code.is_none() || *count > 0)
    }
}

struct Builder<'a> {
    id: &'a ServiceId,
    find: &'a dyn Fn(&RevisionId) -> Option<Arc<ServedModel>>,
    before: Option<&'a Flow>,
    memory: Option<&'a Memory>,
    routers: BTreeMap<String, Arc<Router>>,
    rewarded: BTreeMap<String, Arc<FeedbackCounters>>,
    held: Vec<(RevisionId, Arc<ServedModel>)>,
}

impl Builder<'_> {
    /// Builds a step; `within` is what the keys of its nodes begin with. The depth of steps is bounded by whoever plans them.
    fn step(&mut self, planned: &Step, within: &str) -> Option<FlowStep> {
        Some(match planned {
            Step::Ask(ask) => FlowStep::Ask(self.ask(ask, within)?),
            Step::Fixed { node } => FlowStep::Fixed { node: node.clone() },
            Step::Chain(steps) => FlowStep::Chain(self.steps(steps, within)?),
            Step::One(one) => {
                let key = format!("{within}{}", one.node);
                let before = self.before.and_then(|before| before.routers.get(&key));
                let before = before.filter(|before| before.is_as(one));
                let memory = self.memory.map(|memory| (memory, self.id));
                let new = || Arc::new(Router::remembering(one, &key, memory));
                let router = before.map_or_else(new, Arc::clone);
                self.routers.insert(key, Arc::clone(&router));
                let splits = matches!(one.routing, Routing::Shares(_));
                let branches = one.branches.iter().map(|(name, branch)| match splits {
                    true => self.step(branch, &format!("{within}{name}/")),
                    false => self.step(branch, within),
                });
                FlowStep::One {
                    branches: branches.collect::<Option<_>>()?,
                    router,
                }
            }
            Step::All(all) => FlowStep::All {
                node: all.node.clone(),
                join: all.join,
                branches: self.steps(&all.branches, within)?,
            },
        })
    }

    fn steps(&mut self, planned: &[Step], within: &str) -> Option<Vec<FlowStep>> {
        let steps = planned.iter().map(|step| self.step(step, within));
        steps.collect()
    }

    fn ask(&mut self, planned: &AskStep, within: &str) -> Option<FlowAsk> {
        let namespace = || self.id.namespace.clone();
        let target = match &planned.revision {
            None => FlowTarget::Service(ServiceId {
                namespace: namespace(),
                name: planned.service.clone(),
            }),
            Some(revision) => {
                let revision = RevisionId {
                    namespace: namespace(),
                    name: revision.clone(),
                };
                let model = (self.find)(&revision)?;
                self.held.push((revision, Arc::clone(&model)));
                FlowTarget::Revision(model)
            }
        };
        let key = format!("{within}{}", planned.node);
        let before = self.before.and_then(|before| before.rewarded.get(&key));
        let feedback = before.map(Arc::clone).unwrap_or_default();
        self.rewarded.insert(key, Arc::clone(&feedback));
        Some(FlowAsk {
            node: planned.node.clone(),
            target,
            feedback,
        })
    }
}

#[cfg(test)]
mod tests;
