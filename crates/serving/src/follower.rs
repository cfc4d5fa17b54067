//! Follows plans: loads what is to be held in memory, switches routes when everything they need is there, lets go of
//! the rest, and tells what it observed.
//!
//! Expected flow: [`Follower::run`] on a thread of its own; plans come in by [`PlanSender::send`]; loading happens on
//! threads of its own, at most [`LOADS_MAX`] at a time. Guarantees: a revision that is not loaded takes no requests; a
//! route changes in one step, and only once all its revisions are ready; requests that have begun finish on what they
//! started. Caveat: a plan that is replaced before its revisions are loaded is never served.

mod books;
mod coming;
mod crew;
mod flows;
mod hold;
mod load;
mod misfits;
mod observed;
mod routes;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use coracle_base::{Clock, Code};
use coracle_model::Model;

use self::crew::Crew;
use self::hold::Holds;
use self::load::Load;
use self::misfits::Misfits;
pub use self::misfits::{FitsFlow, FitsOutputs, KnownOf, KnownOutputs};
pub use self::observed::ObservedCell;
use crate::batch::BatchSettings;
use crate::experiment::{BookId, Experiments};
use crate::flow::{Flow, Memory, PlannedFlow};
use crate::plan::{
    LoadFailure, Plan, PlannedRevision, PlannedRoute, RevisionId, RevisionState, ServiceId,
};
use crate::process::{ProcessOrder, ProcessRunner, ProcessState};
use crate::revision_log::{LogSource, RevisionLog};
use crate::route::Route;
use crate::{Chaos, Coming, LoadPhases, LoadedModel, MemoryBudget, ServedModel, SharedTable};

/// Fetches and loads revisions; called from several threads.
pub trait Loader: Send + Sync {
    /// Returns the revision's model. `progress` is called with what is being done, `make_room` with the size of the model's file
    /// before it is read.
    ///
    /// # Errors
    /// [`LoadFailure`] with words a person can act on.
    fn load(
        &self,
        id: &RevisionId,
        revision: &PlannedRevision,
        progress: &(dyn Fn(LogSource, &str) + Sync),
        make_room: &dyn Fn(u64) -> Result<(), LoadFailure>,
    ) -> Result<(Box<dyn Model>, LoadPhases), LoadFailure>;

    /// Returns where the files of a revision are that is served by processes; `None` if it has none.
    ///
    /// # Errors
    /// [`LoadFailure`] with words a person can act on.
    fn fetch(
        &self,
        _id: &RevisionId,
        _revision: &PlannedRevision,
        _progress: &(dyn Fn(LogSource, &str) + Sync),
    ) -> Result<Option<PathBuf>, LoadFailure> {
        Ok(None)
    }

    /// Forgets what it has kept of a revision that is not served any more.
    fn forget(&self, _id: &RevisionId) {}

    /// Is told that models were let go of, so that it can give back what they held.
    fn let_go(&self) {}
}

/// The most revisions that are loaded at a time.
const LOADS_MAX: usize = 4;

enum Event {
    Plan(Plan),
    Progress(RevisionId, String),
    Loaded(RevisionId, u32, Box<Result<Loaded, LoadFailure>>),
    /// What is known of the processes of a revision has changed.
    Processes(RevisionId, Vec<ProcessState>),
    /// A request came for a model that was let go of.
    Wake(RevisionId),
    /// A model was set aside, for this reason, or is well again.
    Health(RevisionId, Option<String>),
    /// A model was let go of to make room for others.
    Evicted(RevisionId),
    /// A load has waited as faults on purpose say.
    Held(RevisionId),
    Stop,
}

/// What loading a revision comes to.
enum Loaded {
    /// The model in memory.
    Model(LoadedModel),
    /// The files, which processes are to have.
    Files(Option<PathBuf>),
}

/// Where plans are sent to.
#[derive(Clone, Debug)]
pub struct PlanSender(Sender<Event>);

impl PlanSender {
    /// Makes the follower follow `plan`.
    pub fn send(&self, plan: Plan) {
        // A follower that is gone has stopped serving; nobody is left to follow.
        drop(self.0.send(Event::Plan(plan)));
    }

    /// Ends the follower.
    pub fn stop(&self) {
        drop(self.0.send(Event::Stop));
    }
}

/// What a follower works with.
#[derive(Clone)]
pub struct FollowerConfig {
    /// Gets the models.
    pub loader: Arc<dyn Loader>,
    /// Runs what is served by processes; without one, that fails to load.
    pub processes: Option<Arc<dyn ProcessRunner>>,
    /// What is served by.
    pub table: Arc<SharedTable>,
    /// Told what is observed.
    pub observed: Arc<ObservedCell>,
    /// Told what happens to each revision.
    pub log: RevisionLog,
    /// Faults on purpose, if there may be some.
    pub chaos: Option<Chaos>,
    /// The bound on the memory of models, if there is one; what processes hold does not count.
    pub budget: Option<Arc<MemoryBudget>>,
    /// Measures loading.
    pub clock: Arc<dyn Clock>,
    /// The number of event loops that call the models.
    pub n_workers: usize,
    /// The books of experiments; without them there are none.
    pub experiments: Option<Experiments>,
    /// What routers have learnt; without it that does not outlive the server.
    pub routers: Option<Memory>,
    /// Tells default predictions that no answer could be; without it they are not told.
    pub fits: Option<FitsOutputs>,
}

/// Follows plans.
pub struct Follower {
    events: Receiver<Event>,
    sender: Sender<Event>,
    config: FollowerConfig,
    plan: Plan,
    slots: BTreeMap<RevisionId, Slot>,
    waiting: VecDeque<RevisionId>,
    loading: BTreeSet<RevisionId>,
    holds: Holds,
    /// The routes of the table.
    routes: BTreeMap<ServiceId, (PlannedRoute, Arc<Route>)>,
    /// The flows of the table.
    flows: BTreeMap<ServiceId, (PlannedFlow, Arc<Flow>)>,
    /// The books of experiments that are kept.
    books: Option<BTreeSet<BookId>>,
    /// What was found of default predictions.
    misfits: Misfits,
    /// The services of the plan of which nothing is there yet; `None` before the first plan.
    coming: Option<BTreeMap<ServiceId, Coming>>,
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follower")
            .field("plan", &self.plan)
            .finish_non_exhaustive()
    }
}

/// A revision of the plan.
struct Slot {
    state: RevisionState,
    attempt: u32,
    /// What requests are handed; there since the model was first loaded, or from the start if it needs not be.
    served: Option<Arc<ServedModel>>,
    /// What the plan said last.
    replicas: u32,
    concurrency: Option<u32>,
    /// Its processes, if it is served by some.
    crew: Option<Crew>,
    /// What is known of the model's outputs since it was first loaded.
    outputs: Option<KnownOutputs>,
}

impl Slot {
    fn outputs(&self) -> Option<KnownOutputs> {
        self.outputs.clone()
    }

    /// Takes the number of replicas and their concurrency from the plan; lets go of the model if there are to be none.
    fn scale(&mut self, planned: &PlannedRevision, log: impl Fn(&str)) {
        (self.replicas, self.concurrency) = (planned.replicas, planned.concurrency);
        let Some(served) = &self.served else { return };
        served.set_concurrency(planned.places(planned.replicas));
        if self.crew.is_some() {
            return;
        }
        let RevisionState::Ready {
            memory_bytes,
            replicas,
        } = &mut self.state
        else {
            return;
        };
        if *replicas == planned.replicas {
            return;
        }
        log(&format!("{replicas} -> {} replicas", planned.replicas));
        if planned.replicas == 0 {
            served.unload();
            (*memory_bytes, *replicas) = (0, 0);
            log("let go of the model; the next request loads it again");
        } else if served.is_loaded() {
            *replicas = planned.replicas;
        }
    }

    fn is_loaded(&self) -> bool {
        let served = self.served.as_ref();
        match &self.crew {
            // The rest is its runner's.
            Some(crew) => crew.files.is_some(),
            None => served.is_some_and(|served| served.is_loaded()),
        }
    }
}

fn waiting() -> RevisionState {
    RevisionState::Loading {
        progress: "waiting for its turn".to_owned(),
    }
}

impl Follower {
    /// Returns a follower, and where it takes plans from.
    #[must_use]
    pub fn new(config: FollowerConfig) -> (Self, PlanSender) {
        let (sender, events) = channel();
        let follower = Self {
            events,
            sender: sender.clone(),
            config,
            plan: Plan::default(),
            slots: BTreeMap::new(),
            waiting: VecDeque::new(),
            loading: BTreeSet::new(),
            holds: Holds::default(),
            routes: BTreeMap::new(),
            flows: BTreeMap::new(),
            books: None,
            misfits: Misfits::default(),
            coming: None,
        };
        (follower, PlanSender(sender))
    }

    /// Follows plans until it is told to stop.
    pub fn run(mut self) {
        while let Ok(event) = self.events.recv() {
            // What has come in the meantime is taken together: with many services every look at all of them counts.
            let mut next = Some(event);
            while let Some(event) = next {
                match event {
                    Event::Plan(plan) => self.follow(plan),
                    Event::Progress(id, progress) => {
                        if let Some(slot) = self.slots.get_mut(&id)
                            && slot.served.is_none()
                        {
                            slot.state = RevisionState::Loading { progress };
                        }
                    }
                    Event::Loaded(id, attempt, result) => self.loaded(&id, attempt, *result),
                    Event::Wake(id) => self.wake(id),
                    Event::Health(id, trouble) => self.hear_health(&id, trouble),
                    Event::Evicted(id) => self.note_eviction(&id),
                    Event::Held(id) => {
                        self.holds.end(&id);
                        self.waiting.push_back(id);
                    }
                    Event::Processes(id, states) => self.hear(&id, states),
                    Event::Stop => return,
                }
                self.start_loads();
                next = self.events.try_recv().ok();
            }
            self.switch();
            self.keep_books();
            self.report();
        }
    }

    fn follow(&mut self, plan: Plan) {
        self.plan = plan;
        let mut has_let_go = false;
        let mut rescaled = Vec::new();
        for (id, planned) in &self.plan.revisions {
            let Some(slot) = self.slots.get_mut(id) else {
                let slot = self.new_slot(id, planned);
                if slot.served.is_none() {
                    self.waiting.push_back(id.clone());
                }
                self.slots.insert(id.clone(), slot);
                continue;
            };
            if slot.attempt < planned.attempt && matches!(slot.state, RevisionState::Failed { .. })
            {
                slot.attempt = planned.attempt;
                if slot.served.is_none() {
                    slot.state = waiting();
                }
                self.waiting.push_back(id.clone());
            }
            if let Some(served) = &slot.served {
                served.set_response_cache(planned.response_cache);
            }
            if (slot.replicas, slot.concurrency) != (planned.replicas, planned.concurrency) {
                let was_loaded = slot.is_loaded();
                slot.scale(planned, |line| {
                    self.config.log.write(id, LogSource::Serve, line);
                });
                has_let_go |= was_loaded && !slot.is_loaded();
                if planned.replicas > 0 && slot.served.is_some() && !slot.is_loaded() {
                    self.waiting.push_back(id.clone());
                }
                if slot.crew.is_some() {
                    rescaled.push((id.clone(), planned.replicas));
                }
            }
        }
        for (id, replicas) in rescaled {
            self.order(&id, replicas);
        }
        if has_let_go {
            self.config.loader.let_go();
        }
    }

    /// Orders so many processes for a revision whose files are there.
    fn order(&mut self, id: &RevisionId, replicas: u32) {
        let (Some(planned), Some(slot)) = (self.plan.revisions.get(id), self.slots.get_mut(id))
        else {
            return;
        };
        let (Some(spec), Some(crew)) = (&planned.source.process, &mut slot.crew) else {
            return;
        };
        let (Some(files), Some(runner)) = (&crew.files, &self.config.processes) else {
            return;
        };
        crew.n_ordered = replicas;
        let (sender, of) = (self.sender.clone(), id.clone());
        let order = ProcessOrder {
            spec: spec.as_ref().clone(),
            models: files.clone(),
            replicas,
            backends: Arc::clone(&crew.backends),
            report: Arc::new(move |states| {
                drop(sender.send(Event::Processes(of.clone(), states)));
            }),
        };
        let line = format!("{replicas} processes are to run");
        self.config.log.write(id, LogSource::Serve, &line);
        runner.order(id, order);
    }

    /// Takes what is known of a revision's processes.
    fn hear(&mut self, id: &RevisionId, states: Vec<ProcessState>) {
        let (Some(planned), Some(slot)) = (self.plan.revisions.get(id), self.slots.get_mut(id))
        else {
            return;
        };
        let Some(crew) = &mut slot.crew else { return };
        crew.states = states;
        slot.state = crew.state(slot.attempt);
        let is_first = slot.served.is_none() && matches!(slot.state, RevisionState::Ready { .. });
        if let (RevisionState::Failed { failure, .. }, Some(served)) = (&slot.state, &slot.served) {
            served.fail(&failure.message);
        }
        let crew = self.slots.get(id).and_then(|slot| slot.crew.as_ref());
        let served = is_first.then(|| self.new_served(id, planned, crew));
        if let (Some(served), Some(slot)) = (served, self.slots.get_mut(id)) {
            slot.served = Some(served);
        }
    }

    /// Takes whether a revision's model takes calls. One that was set aside has failed until a call goes well again or it is
    /// loaded anew; nobody need try, as requests do.
    fn hear_health(&mut self, id: &RevisionId, trouble: Option<String>) {
        let Some(slot) = self.slots.get_mut(id) else {
            return;
        };
        let Some(served) = &slot.served else { return };
        slot.state = match trouble {
            // Loaded anew in the meantime.
            Some(_) if served.is_loaded() => return,
            Some(message) => RevisionState::Failed {
                attempt: slot.attempt,
                failure: LoadFailure {
                    code: Code::Internal,
                    message,
                    is_transient: false,
                },
            },
            None => RevisionState::Ready {
                memory_bytes: served.loaded().map_or(0, |loaded| loaded.memory_bytes()),
                replicas: slot.replicas.max(1),
            },
        };
    }

    /// Returns the slot of a revision that is new. One that is to have no replicas is loaded by its first request.
    fn new_slot(&self, id: &RevisionId, planned: &PlannedRevision) -> Slot {
        let crew = planned.source.process.as_ref().map(|_| Crew::default());
        let new = || self.new_served(id, planned, crew.as_ref());
        let served = (planned.replicas == 0).then(new);
        Slot {
            state: match served {
                Some(_) => RevisionState::Ready {
                    memory_bytes: 0,
                    replicas: 0,
                },
                None => waiting(),
            },
            attempt: planned.attempt,
            served,
            replicas: planned.replicas,
            concurrency: planned.concurrency,
            crew,
            outputs: None,
        }
    }

    fn new_served(
        &self,
        id: &RevisionId,
        planned: &PlannedRevision,
        crew: Option<&Crew>,
    ) -> Arc<ServedModel> {
        let wake = {
            let (id, sender) = (id.clone(), self.sender.clone());
            Box::new(move || drop(sender.send(Event::Wake(id.clone()))))
        };
        let tell_health = {
            let (id, sender) = (id.clone(), self.sender.clone());
            Box::new(move |trouble: Option<&str>| {
                let trouble = trouble.map(str::to_owned);
                drop(sender.send(Event::Health(id.clone(), trouble)));
            })
        };
        let served = ServedModel::unloaded(planned.model_name.clone(), self.config.n_workers)
            .with_revision(id, self.config.log.clone(), wake)
            .with_timeout(planned.timeout)
            .with_payloads(planned.payloads.clone())
            .with_batching(
                planned
                    .batching
                    .clone()
                    .unwrap_or_else(BatchSettings::opportunistic),
            )
            .with_health_listener(tell_health)
            .with_response_cache(planned.response_cache);
        let served = match crew {
            Some(crew) => served.with_backends(Arc::clone(&crew.backends)),
            None => served,
        };
        served.set_concurrency(planned.places(planned.replicas));
        Arc::new(served)
    }

    /// Loads a model that was let go of, for the request that came for it.
    fn wake(&mut self, id: RevisionId) {
        let Some(slot) = self.slots.get(&id) else {
            return;
        };
        let Some(served) = &slot.served else { return };
        if !slot.is_loaded() && !self.loading.contains(&id) {
            // Somebody waits for this one.
            self.waiting.push_front(id);
        } else if slot.crew.as_ref().is_some_and(|crew| crew.n_ordered == 0) {
            self.order(&id, 1);
        } else if let (true, RevisionState::Failed { failure, .. }) =
            (slot.crew.is_some(), &slot.state)
        {
            // It is started again after a while that nobody waits for.
            served.fail(&failure.message);
        }
    }

    /// Notes that a model was let go of to make room; its replicas are what they were, and wait for the next request.
    fn note_eviction(&mut self, id: &RevisionId) {
        let Some(slot) = self.slots.get_mut(id) else {
            return;
        };
        let is_gone = slot
            .served
            .as_ref()
            .is_some_and(|served| !served.is_loaded());
        if let (true, RevisionState::Ready { memory_bytes, .. }) = (is_gone, &mut slot.state) {
            *memory_bytes = 0;
            let line =
                "let go of the model to make room for others; the next request loads it again";
            self.config.log.write(id, LogSource::Serve, line);
        }
    }

    /// Makes a model that was loaded within the memory budget one that may go again.
    fn keep_within_budget(&self, id: &RevisionId, served: &Arc<ServedModel>) {
        if let Some(budget) = &self.config.budget {
            let (of, sender) = (id.clone(), self.sender.clone());
            let evicted = move || drop(sender.send(Event::Evicted(of.clone())));
            budget.keep(served, Arc::new(evicted));
        }
    }

    fn start_loads(&mut self) {
        while self.loading.len() < LOADS_MAX {
            let Some(id) = self.waiting.pop_front() else {
                return;
            };
            let (Some(planned), Some(slot)) =
                (self.plan.revisions.get(&id), self.slots.get_mut(&id))
            else {
                continue;
            };
            let is_done = self.loading.contains(&id) || slot.is_loaded();
            if is_done || self.holds.keep((&id, planned), &self.config, &self.sender) {
                continue;
            }
            if slot.served.is_none() {
                slot.state = RevisionState::Loading {
                    progress: "loading".to_owned(),
                };
            }
            self.loading.insert(id.clone());
            let attempt = planned.attempt;
            let load = Load {
                id: id.clone(),
                planned: planned.clone(),
                config: self.config.clone(),
                sender: self.sender.clone(),
                served: slot.served.clone(),
                asked_at: self.config.clock.monotonic(),
            };
            let thread = std::thread::Builder::new().name("coracle-load".to_owned());
            if let Err(error) = thread.spawn(move || load.run()) {
                let failure = LoadFailure {
                    code: Code::ResourceExhausted,
                    message: format!("cannot start a thread to load the model: {error}"),
                    is_transient: true,
                };
                self.take(&id, attempt, Err(failure));
            }
        }
    }

    /// Takes what a load has come to.
    fn loaded(&mut self, id: &RevisionId, attempt: u32, result: Result<Loaded, LoadFailure>) {
        match result {
            Ok(Loaded::Files(files)) => self.take_files(id, files),
            Ok(Loaded::Model(model)) => self.take(id, attempt, Ok(model)),
            Err(failure) => self.take(id, attempt, Err(failure)),
        }
    }

    fn take_files(&mut self, id: &RevisionId, files: Option<PathBuf>) {
        self.loading.remove(id);
        let Some(slot) = self.slots.get_mut(id) else {
            return;
        };
        if let Some(crew) = &mut slot.crew {
            crew.files = Some(files);
        }
        // What a request has started is there once, until the plan lets go of it.
        let replicas = slot.replicas.max(1);
        self.order(id, replicas);
    }

    fn take(&mut self, id: &RevisionId, attempt: u32, result: Result<LoadedModel, LoadFailure>) {
        self.loading.remove(id);
        // What was let go of in the meantime is dropped.
        let (true, Some(planned)) = (self.slots.contains_key(id), self.plan.revisions.get(id))
        else {
            self.config.loader.forget(id);
            return;
        };
        let new = || self.new_served(id, planned, None);
        let served = match self.slots.get(id).and_then(|slot| slot.served.clone()) {
            Some(served) => Some(served),
            None => result.is_ok().then(new),
        };
        let Some(slot) = self.slots.get_mut(id) else {
            return;
        };
        slot.served = served;
        match result {
            Ok(loaded) => {
                let signature = loaded.model().signature();
                slot.outputs = Some(misfits::outputs_of(signature, slot.outputs.take()));
                // What a request has loaded is there once, until the plan lets go of it.
                let replicas = slot.replicas.max(1);
                slot.state = RevisionState::Ready {
                    memory_bytes: loaded.memory_bytes(),
                    replicas,
                };
                if let Some(served) = slot.served.clone() {
                    served.load(loaded);
                    self.keep_within_budget(id, &served);
                }
            }
            Err(failure) => {
                if let Some(served) = &slot.served {
                    served.fail(&failure.message);
                }
                slot.state = RevisionState::Failed { attempt, failure };
            }
        }
    }

    /// Switches every route whose revisions are all there, and lets go of what no route and no plan needs.
    fn switch(&mut self) {
        let mut changed = false;
        for (id, planned) in &self.plan.routes {
            if self
                .routes
                .get(id)
                .is_some_and(|(current, _)| current == planned)
            {
                continue;
            }
            if let Some(route) = self.build_route(id, planned) {
                self.routes
                    .insert(id.clone(), (planned.clone(), Arc::new(route)));
                changed = true;
            }
        }
        let n_routes = self.routes.len();
        self.routes
            .retain(|id, _| self.plan.routes.contains_key(id));
        changed |= self.routes.len() != n_routes;
        changed |= self.switch_flows();
        changed |= self.note_coming();
        if changed {
            self.config.table.store(self.table());
        }
        let is_planned = |id: &RevisionId| self.plan.revisions.contains_key(id);
        for (id, slot) in self.slots.iter().filter(|(id, _)| !is_planned(id)) {
            if let Some(served) = &slot.served {
                served.retire();
            }
            self.config.loader.forget(id);
            if let (Some(_), Some(runner)) = (&slot.crew, &self.config.processes) {
                runner.forget(id);
            }
            self.config.log.forget(id);
        }
        let n_slots = self.slots.len();
        self.slots.retain(|id, _| is_planned(id));
        self.waiting.retain(is_planned);
        self.holds.retain(is_planned);
        if self.slots.len() < n_slots {
            self.config.loader.let_go();
        }
    }
}

#[cfg(test)]
mod tests;
