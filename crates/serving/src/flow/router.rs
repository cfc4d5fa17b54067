//! Which branch of a flow takes a request.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use coracle_policy::bandit::{Bandit, Strategy};

use super::memory::{Keeper, Memory};
use super::planned::{OneStep, PlannedBandit, Routing, Step};
use crate::plan::ServiceId;
use crate::route::spread;

/// Decides which branch takes a request, and takes what came of it.
#[derive(Debug)]
pub struct Router {
    node: String,
    routing: Routing,
    names: Vec<String>,
    /// For each request of a cycle the branch that takes it, where branches have shares.
    schedule: Vec<u8>,
    /// The number of requests so far.
    turn: AtomicUsize,
    /// What random numbers are made of.
    draws: AtomicU64,
    /// What is known of the branches, where it learns.
    known: Option<Arc<Known>>,
    /// The requests of each branch.
    taken: Vec<AtomicU64>,
}

/// What a bandit knows.
#[derive(Debug)]
pub(super) struct Known {
    /// What it chooses by as long as there was no reward.
    opening: Bandit,
    /// Read by requests without waiting.
    now: ArcSwap<Bandit>,
    /// Held by whoever changes it.
    changing: Mutex<()>,
    /// Where it is kept, if it is.
    keeper: Option<Keeper>,
}

impl Router {
    /// Returns a router that has seen nothing; its random numbers are others than those of routers with other keys.
    #[must_use]
    pub fn new(planned: &OneStep, key: &str) -> Self {
        Self::remembering(planned, key, None)
    }

    /// Returns a router that knows what was learnt before by one like it, as the memory says.
    #[must_use]
    pub fn remembering(
        planned: &OneStep,
        key: &str,
        memory: Option<(&Memory, &ServiceId)>,
    ) -> Self {
        let n_branches = planned.branches.len();
        let schedule = match &planned.routing {
            Routing::Shares(shares) => {
                let shares: Vec<usize> = shares.iter().map(|&share| usize::from(share)).collect();
                spread(&shares)
            }
            _ => Vec::new(),
        };
        let (known, seed) = match &planned.routing {
            Routing::Bandit(bandit) => {
                let keeper = memory.and_then(|(memory, id)| {
                    memory.keeper(id, key, identity(bandit, &planned.branches))
                });
                let (known, seed) = Known::new(bandit, n_branches, keeper);
                (Some(Arc::new(known)), seed)
            }
            _ => (None, 0),
        };
        let names = planned.branches.iter().map(|(name, _)| name.clone());
        Self {
            node: planned.node.clone(),
            routing: planned.routing.clone(),
            names: names.collect(),
            schedule,
            turn: AtomicUsize::new(0),
            draws: AtomicU64::new(seed ^ hash(key)),
            known,
            taken: (0..n_branches).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Makes it the one whose knowledge is kept, as it takes requests from now on.
    pub(super) fn take_over(&self) {
        let keeper = self.known.as_ref().and_then(|known| known.keeper());
        if let Some(keeper) = keeper {
            keeper.claim();
        }
    }

    /// Tells whether it does what is planned: then what it has learnt stays.
    pub(super) fn is_as(&self, planned: &OneStep) -> bool {
        let names = planned.branches.iter().map(|(name, _)| name);
        self.node == planned.node && self.routing == planned.routing && self.names.iter().eq(names)
    }

    /// Returns the node's name.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Returns the names of the branches.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Tells whether a reward is of use only for the branch that it was earned by.
    #[must_use]
    pub fn needs_branch(&self) -> bool {
        matches!(self.routing, Routing::Bandit(_) | Routing::Shares(_))
    }

    /// Tells whether its branches have shares, as predictors of a deployment do.
    #[must_use]
    pub fn has_shares(&self) -> bool {
        matches!(self.routing, Routing::Shares(_))
    }

    /// Tells whether rewards change where requests go.
    #[must_use]
    pub fn learns(&self) -> bool {
        self.known.is_some()
    }

    /// Returns the branch that takes the next request, and counts it.
    #[must_use]
    pub fn choose(&self) -> usize {
        let branch = match &self.routing {
            Routing::First => 0,
            Routing::Shares(_) => {
                let turn = self.turn.fetch_add(1, Ordering::Relaxed);
                let place = turn.checked_rem(self.schedule.len());
                let branch = place.and_then(|place| self.schedule.get(place));
                branch.map_or(0, |&branch| usize::from(branch))
            }
            Routing::Random { first } => usize::from(self.next_uniform() >= *first),
            Routing::Bandit(_) => self.known.as_ref().map_or(0, |known| {
                known.with(|bandit| bandit.draw(|| self.next_uniform()))
            }),
        };
        if let Some(taken) = self.taken.get(branch) {
            taken.fetch_add(1, Ordering::Relaxed);
        }
        branch
    }

    /// Takes what a branch has earned: a mean reward of 0 to 1 over so many rows, of which so many whole ones count as won, as Seldon's routers have it.
    pub fn reward(&self, branch: usize, reward: f64, n_rows: u64) {
        if let Some(known) = &self.known {
            known.reward(branch, reward, n_rows);
        }
    }

    /// Returns how many requests each branch has taken.
    pub fn taken(&self) -> impl Iterator<Item = (&str, u64)> {
        let counts = self.taken.iter().map(|taken| taken.load(Ordering::Relaxed));
        self.names.iter().map(String::as_str).zip(counts)
    }

    /// Returns the mean reward and the number of rows of each branch, where it learns.
    #[must_use]
    pub fn earned(&self) -> Vec<(f64, u64)> {
        let known = self.known.iter();
        let arms = known.flat_map(|known| known.now.load().arms.clone());
        arms.map(|arm| (arm.mean, arm.units)).collect()
    }

    /// Returns the next number in `[0, 1)`: splitmix64 (Steele, Lea and Flood, 2014), whose state is a counter.
    fn next_uniform(&self) -> f64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let state = self.draws.fetch_add(STEP, Ordering::Relaxed);
        let mut mixed = state.wrapping_add(STEP);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        (mixed >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Returns what makes a router one that may go on with what another has learnt, as a line.
fn identity(bandit: &PlannedBandit, branches: &[(String, Step)]) -> String {
    let names: Vec<&str> = branches.iter().map(|(name, _)| name.as_str()).collect();
    let names = names.join(" ");
    match bandit {
        PlannedBandit::EpsilonGreedy {
            epsilon,
            start,
            seed,
        } => format!("epsilon-greedy {epsilon} {start:?} {seed}: {names}"),
        PlannedBandit::Thompson { seed } => format!("thompson {seed}: {names}"),
    }
}

/// FNV-1a.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

impl Known {
    /// Returns what a bandit knows at first, and what its random numbers begin with.
    fn new(planned: &PlannedBandit, n_branches: usize, keeper: Option<Keeper>) -> (Self, u64) {
        let (strategy, start, seed) = match planned {
            PlannedBandit::EpsilonGreedy {
                epsilon,
                start,
                seed,
            } => (Strategy::EpsilonOthers(*epsilon), *start, *seed),
            PlannedBandit::Thompson { seed } => (Strategy::Thompson, None, *seed),
        };
        let mut bandit = Bandit::new(strategy, 0.0, n_branches.max(1));
        let mut opening = bandit.clone();
        if let Some(keeper) = &keeper {
            keeper.recall(&mut bandit);
        }
        if let Some(arm) = start.and_then(|start| opening.arms.get_mut(start)) {
            arm.mean = 1.0;
        }
        let known = Self {
            opening,
            now: ArcSwap::from_pointee(bandit),
            changing: Mutex::new(()),
            keeper,
        };
        (known, seed)
    }

    fn with<T>(&self, choose: impl FnOnce(&Bandit) -> T) -> T {
        let now = self.now.load();
        match now.arms.iter().all(|arm| arm.units == 0) {
            true => choose(&self.opening),
            false => choose(&now),
        }
    }

    /// Returns what is known by now.
    pub(super) fn now(&self) -> Arc<Bandit> {
        self.now.load_full()
    }

    pub(super) fn keeper(&self) -> Option<&Keeper> {
        self.keeper.as_ref()
    }

    fn reward(self: &Arc<Self>, branch: usize, reward: f64, n_rows: u64) {
        let won = (reward.clamp(0.0, 1.0) * n_rows as f64) as u64;
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = Bandit::clone(&self.now.load());
        next.reward_trials(branch, won, n_rows);
        self.now.store(Arc::new(next));
        if let Some(keeper) = &self.keeper {
            keeper.keep(self);
        }
    }
}
