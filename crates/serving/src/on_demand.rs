//! Loads models when requests ask for them, within a memory budget: for models that no plan names.
//!
//! Expected flow: a [`Sleeper`] is made for each model; the model's [`Wake`] calls [`OnDemand::wake`]; threads take what was asked
//! for in the order in which it was. Guarantees: a model is loaded by one thread at a time; what nobody waits for any more when
//! its turn comes is not loaded; one that has failed is not tried again for [`RETRY_PAUSE`].

use std::collections::{BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use coracle_base::{Clock, Code};

use crate::budget::{Evicted, LoadReason, MemoryBudget, NoRoom, SizeEstimate};
use crate::plan::LoadFailure;
use crate::served_model::Wake;
use crate::{LoadedModel, ServedModel};

/// How long a failure is the answer to those who ask for the model again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Where a model comes from.
pub trait ModelSource: Send + Sync {
    /// Returns the size of its file, which is read as a whole; 0 if that cannot be told.
    fn file_bytes(&self) -> u64;

    /// Loads it.
    ///
    /// # Errors
    /// [`LoadFailure`] with words a person can act on.
    fn load(&self, reason: LoadReason) -> Result<LoadedModel, LoadFailure>;
}

/// A model that is loaded when it is asked for.
pub struct Sleeper {
    id: u64,
    source: Box<dyn ModelSource>,
    model: Mutex<Weak<ServedModel>>,
    /// Held while it is loaded.
    loading: Mutex<()>,
    /// Why it did not load, and until when that is believed.
    failure: Mutex<Option<(Duration, LoadFailure)>>,
    evicted: Evicted,
}

impl std::fmt::Debug for Sleeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sleeper")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Sleeper {
    /// Returns the sleeper of what is loaded from `source`; `evicted` is called when it was let go of to make room.
    #[must_use]
    pub fn new(source: Box<dyn ModelSource>, evicted: Evicted) -> Self {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            source,
            model: Mutex::default(),
            loading: Mutex::default(),
            failure: Mutex::default(),
            evicted,
        }
    }

    fn model(&self) -> Option<Arc<ServedModel>> {
        lock(&self.model).upgrade()
    }

    fn estimate(&self) -> SizeEstimate {
        SizeEstimate {
            file_bytes: self.source.file_bytes(),
            known_bytes: self.model().and_then(|model| model.known_bytes()),
        }
    }
}

/// Loads models when requests ask for them.
pub struct OnDemand {
    budget: Arc<MemoryBudget>,
    clock: Arc<dyn Clock>,
    queue: Mutex<Queue>,
    changed: Condvar,
    is_stopped: AtomicBool,
}

impl std::fmt::Debug for OnDemand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OnDemand")
            .field("budget", &self.budget)
            .finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Queue {
    /// What waits for its turn, and since when.
    ahead: VecDeque<(Arc<Sleeper>, Duration)>,
    /// What waits or is being loaded.
    asked: BTreeSet<u64>,
}

/// Ends the threads when it is dropped, and waits for them.
#[derive(Debug)]
pub struct OnDemandThreads {
    on_demand: Arc<OnDemand>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Drop for OnDemandThreads {
    fn drop(&mut self) {
        self.on_demand.is_stopped.store(true, Ordering::Release);
        // Whoever is about to wait for work has looked already, or waits by the time that the lock is free.
        drop(lock(&self.on_demand.queue));
        self.on_demand.changed.notify_all();
        for thread in self.threads.drain(..) {
            // One that panicked has ended, too.
            drop(thread.join());
        }
    }
}

impl OnDemand {
    /// Returns what loads within `budget`; nothing is loaded for requests until its threads are started.
    #[must_use]
    pub fn new(budget: Arc<MemoryBudget>, clock: Arc<dyn Clock>) -> Self {
        Self {
            budget,
            clock,
            queue: Mutex::default(),
            changed: Condvar::new(),
            is_stopped: AtomicBool::new(false),
        }
    }

    /// Returns the budget.
    #[must_use]
    pub fn budget(&self) -> &Arc<MemoryBudget> {
        &self.budget
    }

    /// Starts `n` threads that load.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub fn start(self: &Arc<Self>, n: usize) -> std::io::Result<OnDemandThreads> {
        let mut threads = OnDemandThreads {
            on_demand: Arc::clone(self),
            threads: Vec::new(),
        };
        for _ in 0..n.max(1) {
            let on_demand = Arc::clone(self);
            let thread = std::thread::Builder::new().name("coracle-load".to_owned());
            threads.threads.push(thread.spawn(move || on_demand.run())?);
        }
        Ok(threads)
    }

    /// Puts `sleeper` behind a model that is served: requests wake it.
    #[must_use]
    pub fn serve(self: &Arc<Self>, sleeper: &Arc<Sleeper>, model: ServedModel) -> Arc<ServedModel> {
        let wake: Wake = {
            let (on_demand, sleeper) = (Arc::downgrade(self), Arc::clone(sleeper));
            Box::new(move || {
                if let Some(on_demand) = on_demand.upgrade() {
                    on_demand.wake(&sleeper);
                }
            })
        };
        let model = Arc::new(model.with_wake(wake));
        *lock(&sleeper.model) = Arc::downgrade(&model);
        model
    }

    /// Asks for a model to be loaded, for those who wait for it.
    pub fn wake(&self, sleeper: &Arc<Sleeper>) {
        let now = self.clock.monotonic();
        let failure = lock(&sleeper.failure).clone();
        if let Some((_, failure)) = failure.filter(|(until, _)| now < *until) {
            if let Some(model) = sleeper.model() {
                model.fail(&failure.message);
            }
            return;
        }
        let mut queue = lock(&self.queue);
        if queue.asked.insert(sleeper.id) {
            queue.ahead.push_back((Arc::clone(sleeper), now));
            drop(queue);
            self.changed.notify_one();
        }
    }

    /// Loads a model that is new before requests ask for it, if nothing has to go for it.
    ///
    /// # Errors
    /// [`LoadFailure`] if it does not load, or is known to be larger than the budget.
    pub fn load_if_room(&self, sleeper: &Sleeper) -> Result<(), LoadFailure> {
        let Some(model) = sleeper.model() else {
            return Ok(());
        };
        let estimate = sleeper.estimate();
        self.budget.check(model.name(), estimate)?;
        if self.budget.has_room(estimate) {
            self.load_ahead(sleeper)?;
        }
        Ok(())
    }

    /// Loads a model before requests ask for it, in place of what serves now if it does; blocks until there is room.
    ///
    /// # Errors
    /// [`LoadFailure`] if it does not load or is larger than the budget; what serves goes on.
    pub fn load_ahead(&self, sleeper: &Sleeper) -> Result<(), LoadFailure> {
        let _loading = lock(&sleeper.loading);
        self.load_again(sleeper)
    }

    /// Notes that a model's file is another one from now on; loads it if it is in memory, or if it `must` be.
    ///
    /// # Errors
    /// As [`OnDemand::load_ahead`].
    pub fn refresh(&self, sleeper: &Sleeper, must: bool) -> Result<(), LoadFailure> {
        let _loading = lock(&sleeper.loading);
        *lock(&sleeper.failure) = None;
        let Some(model) = sleeper.model() else {
            return Ok(());
        };
        model.renew_content();
        match must || model.is_loaded() {
            true => self.load_again(sleeper),
            false => Ok(()),
        }
    }

    fn load_again(&self, sleeper: &Sleeper) -> Result<(), LoadFailure> {
        let Some(model) = sleeper.model() else {
            return Ok(());
        };
        let now = self.clock.monotonic();
        self.load(sleeper, &model, (LoadReason::Ahead, now), &|| true)
    }

    /// Loads what is asked for until it is stopped.
    fn run(&self) {
        while let Some((sleeper, since)) = self.next() {
            if let Some(model) = sleeper.model() {
                let _loading = lock(&sleeper.loading);
                if !model.is_loaded() {
                    self.load_for_request(&sleeper, &model, since);
                }
            }
            lock(&self.queue).asked.remove(&sleeper.id);
            // Who came while it was let go of again, and found it asked for, is told to ask anew.
            if let Some(model) = sleeper.model() {
                model.nudge();
            }
        }
    }

    fn load_for_request(&self, sleeper: &Sleeper, model: &Arc<ServedModel>, since: Duration) {
        let is_wanted = || model.n_waiting() > 0 && !self.is_stopped();
        let why = (LoadReason::Request, since);
        if let Err(failure) = self.load(sleeper, model, why, &is_wanted) {
            model.fail(&failure.message);
            let until = self.clock.monotonic() + RETRY_PAUSE;
            if failure.code != Code::Unavailable {
                *lock(&sleeper.failure) = Some((until, failure));
            }
        }
    }

    fn load(
        &self,
        sleeper: &Sleeper,
        model: &Arc<ServedModel>,
        (reason, since): (LoadReason, Duration),
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<(), LoadFailure> {
        let load = || {
            let room = self
                .budget
                .make_room(model.name(), sleeper.estimate(), is_wanted)?;
            let loaded = sleeper.source.load(reason)?;
            Ok(room.settle(loaded)?)
        };
        let loaded = catch_unwind(AssertUnwindSafe(load)).unwrap_or_else(|_panic| {
            Err(LoadFailure {
                code: Code::Internal,
                message: "loading failed; this is a defect of the server, not of the model"
                    .to_owned(),
                is_transient: false,
            })
        });
        let loaded = loaded.inspect_err(|failure| {
            if failure.code != Code::Unavailable {
                self.budget.counters().failed();
            }
        })?;
        let waited = self.clock.monotonic().saturating_sub(since);
        self.budget.counters().loaded(reason, waited);
        model.load(loaded);
        self.budget.keep(model, Arc::clone(&sleeper.evicted));
        Ok(())
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Acquire)
    }

    /// Waits for the next model that somebody waits for; `None` at the end.
    fn next(&self) -> Option<(Arc<Sleeper>, Duration)> {
        let mut queue = lock(&self.queue);
        loop {
            if self.is_stopped() {
                return None;
            }
            if let Some((sleeper, since)) = queue.ahead.pop_front() {
                // Under the lock: whoever begins to wait from here on asks anew.
                if sleeper.model().is_some_and(|model| model.n_waiting() > 0) {
                    return Some((sleeper, since));
                }
                queue.asked.remove(&sleeper.id);
                continue;
            }
            queue = self
                .changed
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl From<NoRoom> for LoadFailure {
    fn from(error: NoRoom) -> Self {
        Self {
            code: match error {
                NoRoom::TooLarge { .. } => Code::FailedPrecondition,
                NoRoom::NotWanted { .. } => Code::Unavailable,
            },
            message: error.to_string(),
            is_transient: matches!(error, NoRoom::NotWanted { .. }),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
