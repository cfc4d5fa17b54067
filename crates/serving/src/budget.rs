//! A bound on the memory that loaded models hold together, so that far more models can be served than fit.
//!
//! Expected flow: whoever loads a model asks for room before ([`MemoryBudget::make_room`]), loads it, says what it came to
//! ([`Room::settle`]), puts it into service, and names it as one that may go ([`MemoryBudget::keep`]). Room is made by letting go of
//! models, the one that was used longest ago first; their next request loads them again.
//!
//! Guarantees: loads get their room in the order in which they ask, and few are under way at a time where they are large; a model with calls in flight goes only if nothing else can, and
//! not before it has been there for [`choice::RESIDENCE_MIN`], so that those who waited for it are answered; its calls end on it,
//! and its memory counts until they have. Requests pay nothing: when a model was used last is read from its counters.
//!
//! What several models hold together counts once, and goes with the last of them.
//!
//! Caveats: what is counted is what the models say of themselves, and while one is loaded some multiple of its file's size. What a model is going to hold
//! together with others counts once more while it is loaded, since it is there as copies of what the file holds until it is found to be equal. So models
//! that fit together, but not beside the loading of one of them, let each other go.

mod choice;
mod counters;
mod holdings;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use coracle_base::{ByteCount, Clock};
use thiserror::Error;

use self::choice::{Candidate, choose};
pub(crate) use self::counters::RELOAD_BOUNDS_NS;
pub use self::counters::{BudgetCounters, LoadReason};
use self::holdings::{Holdings, Together};
use crate::{LoadedModel, ModelStatistics, ServedModel};

/// How often a load that waits for room looks whether there is some: calls that end tell nobody.
const LOOK_PERIOD: Duration = Duration::from_millis(2);
/// The share of the budget that may lie freed in the allocator before it is given back to the system: one in so many.
const UNTRIMMED_SHARE: u64 = 64;

/// How many times the size of its file loading a model takes at most besides the model: the bytes, and what they are parsed into.
/// Measured with the example `model_memory` of `formats`: 2 to 9, the most for texts and for trees written as text. The resident
/// memory of a server rises by 10 while it loads such trees (`cargo xtask bench models`), since what is freed meanwhile is not back yet.
const FILE_COPIES: u64 = 12;
/// The share of the budget that loads under way may take together, one in so many; a load that is alone may take all.
const LOADING_SHARE: u64 = 4;

/// Why there is no room for a model.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NoRoom {
    /// It is larger than the whole budget.
    #[error("model '{name}' takes {needed} of memory, more than the whole memory budget of {budget}", needed = .needed.to_rounded(), budget = .budget.to_rounded())]
    TooLarge {
        /// The model's name.
        name: String,
        /// What it takes, or its file, which is read as a whole.
        needed: ByteCount,
        /// The budget.
        budget: ByteCount,
    },
    /// Nobody waits for it any more.
    #[error("nobody waits for model '{name}' any more")]
    NotWanted {
        /// The model's name.
        name: String,
    },
}

/// What is known of a model's size before it is loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SizeEstimate {
    /// The size of its file, which is in memory while it is read.
    pub file_bytes: u64,
    /// The memory that it held when it was loaded last.
    pub known_bytes: Option<u64>,
}

impl SizeEstimate {
    /// Returns what loading takes: the model, and its file beside it, and what that is parsed into.
    fn while_loading(self) -> u64 {
        let model = self.known_bytes.unwrap_or(self.file_bytes);
        model.saturating_add(self.file_bytes.saturating_mul(FILE_COPIES))
    }

    /// Returns the least that it takes in any case.
    fn at_least(self) -> u64 {
        self.known_bytes.unwrap_or(0).max(self.file_bytes)
    }
}

/// A bound on the memory of all loaded models together.
pub struct MemoryBudget {
    limit: u64,
    clock: Arc<dyn Clock>,
    /// Gives what was freed back to the system.
    give_back: Box<dyn Fn() + Send + Sync>,
    state: Mutex<State>,
    changed: Condvar,
    counters: BudgetCounters,
}

impl std::fmt::Debug for MemoryBudget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryBudget")
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    /// The bytes of all models in memory and of all loads under way.
    used: u64,
    /// Those of all loads under way.
    loading: u64,
    models: BTreeMap<u64, Held>,
    /// What several of them hold.
    together: Together,
    next_id: u64,
    /// Loads that wait for room, first come first.
    tickets: BTreeSet<u64>,
    /// What was freed since the system was given something back.
    freed: u64,
}

/// Is called when a model has been let go of.
pub type Evicted = Arc<dyn Fn() + Send + Sync>;

/// A model that is in memory.
struct Held {
    holdings: Holdings,
    stage: Stage,
}

enum Stage {
    /// Loaded, and not in service yet.
    Arriving,
    Serving {
        model: Weak<ServedModel>,
        since: Duration,
        evicted: Evicted,
    },
    /// Let go of; calls that have it end on it.
    Leaving,
}

/// Memory set aside for a load.
#[derive(Debug)]
pub struct Room {
    budget: Arc<MemoryBudget>,
    name: String,
    bytes: u64,
}

/// The memory of a loaded model, counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    budget: Arc<MemoryBudget>,
    id: u64,
}

impl MemoryBudget {
    /// Returns a budget of `limit`, of which nothing is used.
    #[must_use]
    pub fn new(limit: ByteCount, clock: Arc<dyn Clock>) -> Self {
        Self {
            limit: limit.as_u64(),
            clock,
            give_back: Box::new(|| ()),
            state: Mutex::default(),
            changed: Condvar::new(),
            counters: BudgetCounters::default(),
        }
    }

    /// Returns it with what gives freed memory back to the system; called now and then, by threads that load.
    #[must_use]
    pub fn with_give_back(mut self, give_back: Box<dyn Fn() + Send + Sync>) -> Self {
        self.give_back = give_back;
        self
    }

    /// Returns the bound, in bytes.
    #[must_use]
    pub fn limit_bytes(&self) -> u64 {
        self.limit
    }

    /// Returns what models in memory and loads under way take, in bytes.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.state().used
    }

    /// Returns how many models are in memory and serve.
    #[must_use]
    pub fn n_resident(&self) -> usize {
        let state = self.state();
        let serving = |held: &&Held| matches!(held.stage, Stage::Serving { .. });
        state.models.values().filter(serving).count()
    }

    /// Returns what is counted.
    #[must_use]
    pub fn counters(&self) -> &BudgetCounters {
        &self.counters
    }

    /// Tells whether a load fits without anything having to go, and nobody waits for room.
    #[must_use]
    pub fn has_room(&self, estimate: SizeEstimate) -> bool {
        let state = self.state();
        let after = state.used.saturating_add(estimate.while_loading());
        state.tickets.is_empty() && after <= self.limit
    }

    /// Tells whether a model may fit at all.
    ///
    /// # Errors
    /// [`NoRoom::TooLarge`] if it is known to be larger than the whole budget.
    pub fn check(&self, name: &str, estimate: SizeEstimate) -> Result<(), NoRoom> {
        match estimate.at_least() {
            bytes if bytes > self.limit => Err(self.too_large(name, bytes)),
            _ => Ok(()),
        }
    }

    /// Waits for its turn and for room to load the model `name`; lets go of what was used longest ago.
    ///
    /// Blocks: for threads that load. Waits for as long as `is_wanted` says so, which is asked from time to time.
    ///
    /// # Errors
    /// [`NoRoom::TooLarge`] if it is known to be larger than the budget, [`NoRoom::NotWanted`] if nobody waits for it any more.
    pub fn make_room(
        self: &Arc<Self>,
        name: &str,
        estimate: SizeEstimate,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<Room, NoRoom> {
        self.check(name, estimate)?;
        // What loads alone may take all there is.
        let bytes = estimate.while_loading().min(self.limit);
        let mut state = self.state();
        let ticket = state.next_id;
        state.next_id += 1;
        state.tickets.insert(ticket);
        loop {
            if !is_wanted() {
                state.tickets.remove(&ticket);
                self.changed.notify_all();
                let name = name.to_owned();
                return Err(NoRoom::NotWanted { name });
            }
            let loading = state.loading.saturating_add(bytes);
            let is_turn = state.loading == 0 || loading <= self.limit / LOADING_SHARE;
            if is_turn && state.tickets.first() == Some(&ticket) {
                if state.used.saturating_add(bytes) <= self.limit {
                    state.used += bytes;
                    state.loading += bytes;
                    state.tickets.remove(&ticket);
                    self.changed.notify_all();
                    drop(state);
                    self.trim();
                    return Ok(Room {
                        budget: Arc::clone(self),
                        name: name.to_owned(),
                        bytes,
                    });
                }
                let evictions = self.choose_evictions(&mut state, bytes);
                let is_making_room = !evictions.going.is_empty();
                drop(state);
                self.evict(evictions);
                state = self.state();
                if is_making_room {
                    continue;
                }
            }
            let waited = self.changed.wait_timeout(state, LOOK_PERIOD);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Names a model that has been put into service as one that may go; `evicted` is called when it has.
    pub fn keep(&self, model: &Arc<ServedModel>, evicted: Evicted) {
        let Some(loaded) = model.loaded() else { return };
        let Some(charge) = loaded.charge() else {
            return;
        };
        let since = self.clock.monotonic();
        if let Some(held) = self.state().models.get_mut(&charge.id) {
            held.stage = Stage::Serving {
                model: Arc::downgrade(model),
                since,
                evicted,
            };
        }
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn too_large(&self, name: &str, needed: u64) -> NoRoom {
        NoRoom::TooLarge {
            name: name.to_owned(),
            needed: ByteCount::new(needed),
            budget: ByteCount::new(self.limit),
        }
    }

    /// Chooses what is to go so that `bytes` more fit, and notes that it goes.
    fn choose_evictions(&self, state: &mut State, bytes: u64) -> Evictions {
        let mut evictions = Evictions::default();
        let wanted = state.used.saturating_add(bytes);
        if wanted <= self.limit {
            return evictions;
        }
        let mut together = state.together.clone();
        let leaving = state.models.values();
        let leaving = leaving.filter(|held| matches!(held.stage, Stage::Leaving));
        let leaving: u64 = leaving.map(|held| together.release(&held.holdings)).sum();
        let missing = wanted.saturating_sub(self.limit).saturating_sub(leaving);
        if missing == 0 {
            return evictions;
        }
        let mut candidates = Vec::new();
        for (&id, held) in &state.models {
            if let Stage::Serving { model, since, .. } = &held.stage {
                let model = model.upgrade();
                candidates.push(candidate(id, &held.holdings, *since, model.as_deref()));
                evictions.seen.extend(model);
            }
        }
        let now = self.clock.monotonic();
        for id in choose(&mut candidates, &together, missing, now) {
            let Some(held) = state.models.get_mut(&id) else {
                continue;
            };
            if let Stage::Serving { model, evicted, .. } =
                std::mem::replace(&mut held.stage, Stage::Leaving)
            {
                evictions.going.push((model, evicted));
            }
        }
        evictions
    }

    /// Lets go of models. Not under the lock: what is dropped here gives back its charge.
    fn evict(&self, evictions: Evictions) {
        for (model, evicted) in evictions.going {
            if let Some(model) = model.upgrade() {
                model.unload();
                self.counters.evicted();
                evicted();
            }
        }
    }

    /// Gives memory back to the system once enough of it lies about.
    fn trim(&self) {
        let mut state = self.state();
        if state.freed <= self.limit / UNTRIMMED_SHARE {
            return;
        }
        state.freed = 0;
        drop(state);
        (self.give_back)();
    }
}

/// Models that are to be let go of.
#[derive(Default)]
struct Evictions {
    going: Vec<(Weak<ServedModel>, Evicted)>,
    /// All that were looked at. Each may be the last to hold its model, so none of them is dropped under the lock.
    seen: Vec<Arc<ServedModel>>,
}

fn candidate<'h>(
    id: u64,
    holdings: &'h Holdings,
    since: Duration,
    model: Option<&ServedModel>,
) -> Candidate<'h> {
    let statistics = model.map(ServedModel::statistics);
    let n_in_flight = statistics.map_or(0, ModelStatistics::in_flight);
    let used_at = statistics.map_or(Duration::ZERO, ModelStatistics::last_change);
    Candidate {
        id,
        holdings,
        is_busy: n_in_flight > 0 || model.is_some_and(|model| model.n_waiting() > 0),
        since,
        used_at: used_at.max(since),
    }
}

impl Room {
    /// Takes the model that was loaded in this room; what it was set aside for loading is free again.
    ///
    /// # Errors
    /// [`NoRoom::TooLarge`] if the model turns out to be larger than the whole budget.
    pub fn settle(mut self, loaded: LoadedModel) -> Result<LoadedModel, NoRoom> {
        let budget = Arc::clone(&self.budget);
        let total = u64::try_from(loaded.total_bytes()).unwrap_or(u64::MAX);
        if total > budget.limit {
            return Err(budget.too_large(&self.name, total));
        }
        let holdings = Holdings::of(&loaded);
        let mut state = budget.state();
        let id = state.next_id;
        state.next_id += 1;
        let set_aside = std::mem::take(&mut self.bytes);
        let bytes = state.together.hold(&holdings);
        state.used = state.used.saturating_sub(set_aside).saturating_add(bytes);
        state.loading = state.loading.saturating_sub(set_aside);
        state.freed = state.freed.saturating_add(set_aside.saturating_sub(bytes));
        let stage = Stage::Arriving;
        state.models.insert(id, Held { holdings, stage });
        // It is there already: if it is more than was thought, others go at once.
        let evictions = budget.choose_evictions(&mut state, 0);
        drop(state);
        budget.changed.notify_all();
        budget.evict(evictions);
        budget.trim();
        Ok(loaded.with_charge(Charge { budget, id }))
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut state = self.budget.state();
        state.used = state.used.saturating_sub(self.bytes);
        state.loading = state.loading.saturating_sub(self.bytes);
        state.freed = state.freed.saturating_add(self.bytes);
        drop(state);
        self.budget.changed.notify_all();
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let mut state = self.budget.state();
        if let Some(held) = state.models.remove(&self.id) {
            let bytes = state.together.release(&held.holdings);
            state.used = state.used.saturating_sub(bytes);
            state.freed = state.freed.saturating_add(bytes);
        }
        drop(state);
        self.budget.changed.notify_all();
    }
}

#[cfg(test)]
mod tests;
