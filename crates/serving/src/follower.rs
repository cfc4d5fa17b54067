//! Follows plans: loads what is to be held in memory, switches routes when everything they need is there, lets go of
//! the rest, and tells what it observed.
//!
//! Expected flow: [`Follower::run`] on a thread of its own; plans come in by [`PlanSender::send`]; loading happens on
//! threads of its own, at most [`LOADS_MAX`] at a time. Guarantees: a revision that is not loaded takes no requests; a
//! route changes in one step, and only once all its revisions are ready; requests that have begun finish on what they
//! started. Caveat: a plan that is replaced before its revisions are loaded is never served.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coracle_base::{ByteCount, Clock, Code};
use coracle_model::Model;
use coracle_tensor::{Tensor, Values};

use crate::plan::{
    LoadFailure, Observed, Plan, PlannedRevision, PlannedRoute, RevisionId, RevisionState,
    ServiceId,
};
use crate::revision_log::{LogSource, RevisionLog};
use crate::route::{Route, RouteTarget};
use crate::{LoadPhases, ModelTable, ServedModel, SharedTable};

/// Fetches and loads revisions; called from several threads.
pub trait Loader: Send + Sync {
    /// Returns the revision's model. `progress` is called with what is being done.
    ///
    /// # Errors
    /// [`LoadFailure`] with words a person can act on.
    fn load(
        &self,
        id: &RevisionId,
        revision: &PlannedRevision,
        progress: &(dyn Fn(LogSource, &str) + Sync),
    ) -> Result<(Box<dyn Model>, LoadPhases), LoadFailure>;
}

/// The most revisions that are loaded at a time.
const LOADS_MAX: usize = 4;

enum Event {
    Plan(Plan),
    Progress(RevisionId, String),
    Loaded(RevisionId, u32, Box<Result<ServedModel, LoadFailure>>),
    Stop,
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

/// What is observed, and who wants to know.
pub struct ObservedCell {
    observed: Mutex<Observed>,
    changed: Box<dyn Fn() + Send + Sync>,
}

impl std::fmt::Debug for ObservedCell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ObservedCell").finish_non_exhaustive()
    }
}

impl ObservedCell {
    /// Returns a cell that calls `changed` after every change.
    #[must_use]
    pub fn new(changed: Box<dyn Fn() + Send + Sync>) -> Self {
        Self {
            observed: Mutex::default(),
            changed,
        }
    }

    /// Returns what is observed now.
    #[must_use]
    pub fn get(&self) -> Observed {
        self.observed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Replaces what is observed.
    pub fn set(&self, observed: Observed) {
        let mut current = self.observed.lock().unwrap_or_else(PoisonError::into_inner);
        if *current == observed {
            return;
        }
        *current = observed;
        drop(current);
        (self.changed)();
    }
}

/// What a follower works with.
#[derive(Clone)]
pub struct FollowerConfig {
    /// Gets the models.
    pub loader: Arc<dyn Loader>,
    /// What is served by.
    pub table: Arc<SharedTable>,
    /// Told what is observed.
    pub observed: Arc<ObservedCell>,
    /// Told what happens to each revision.
    pub log: RevisionLog,
    /// Measures loading.
    pub clock: Arc<dyn Clock>,
    /// The number of event loops that call the models.
    pub n_workers: usize,
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
    /// The routes of the table.
    routes: BTreeMap<ServiceId, (PlannedRoute, Arc<Route>)>,
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
    model: Option<Arc<ServedModel>>,
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
            routes: BTreeMap::new(),
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
                            && slot.model.is_none()
                        {
                            slot.state = RevisionState::Loading { progress };
                        }
                    }
                    Event::Loaded(id, attempt, result) => self.take(&id, attempt, *result),
                    Event::Stop => return,
                }
                self.start_loads();
                next = self.events.try_recv().ok();
            }
            self.switch();
            self.report();
        }
    }

    fn follow(&mut self, plan: Plan) {
        self.plan = plan;
        for (id, planned) in &self.plan.revisions {
            let again = |slot: &Slot| {
                slot.attempt < planned.attempt && matches!(slot.state, RevisionState::Failed { .. })
            };
            if let Some(Slot {
                state: RevisionState::Ready { replicas, .. },
                ..
            }) = self.slots.get_mut(id)
                && *replicas != planned.replicas
            {
                let line = format!("{replicas} -> {} replicas", planned.replicas);
                self.config.log.write(id, LogSource::Serve, &line);
                *replicas = planned.replicas;
            }
            let slot = self.slots.get(id);
            if slot.is_none_or(again) {
                self.slots.insert(
                    id.clone(),
                    Slot {
                        state: RevisionState::Loading {
                            progress: "waiting for its turn".to_owned(),
                        },
                        attempt: planned.attempt,
                        model: None,
                    },
                );
                self.waiting.push_back(id.clone());
            }
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
            if self.loading.contains(&id) {
                continue;
            }
            slot.state = RevisionState::Loading {
                progress: "loading".to_owned(),
            };
            self.loading.insert(id.clone());
            let load = Load {
                id: id.clone(),
                planned: planned.clone(),
                config: self.config.clone(),
                sender: self.sender.clone(),
            };
            let thread = std::thread::Builder::new().name("coracle-load".to_owned());
            if let Err(error) = thread.spawn(move || load.run()) {
                let failure = LoadFailure {
                    code: Code::ResourceExhausted,
                    message: format!("cannot start a thread to load the model: {error}"),
                    is_transient: true,
                };
                let attempt = self
                    .plan
                    .revisions
                    .get(&id)
                    .map_or(0, |planned| planned.attempt);
                self.take(&id, attempt, Err(failure));
            }
        }
    }

    fn take(&mut self, id: &RevisionId, attempt: u32, result: Result<ServedModel, LoadFailure>) {
        self.loading.remove(id);
        // What was let go of in the meantime is dropped.
        let Some(slot) = self.slots.get_mut(id) else {
            return;
        };
        match result {
            Ok(model) => {
                let planned = self.plan.revisions.get(id);
                slot.state = RevisionState::Ready {
                    memory_bytes: model.memory_bytes(),
                    replicas: planned.map_or(1, |planned| planned.replicas),
                };
                slot.model = Some(Arc::new(model));
            }
            Err(failure) => slot.state = RevisionState::Failed { attempt, failure },
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
        if changed {
            let routes = self
                .routes
                .iter()
                .map(|(id, (_, route))| (id.clone(), Arc::clone(route)));
            self.config
                .table
                .store(ModelTable::from_routes(routes.collect()));
        }
        let is_planned = |id: &RevisionId| self.plan.revisions.contains_key(id);
        for id in self.slots.keys().filter(|id| !is_planned(id)) {
            self.config.log.forget(id);
        }
        self.slots.retain(|id, _| is_planned(id));
        self.waiting.retain(is_planned);
    }

    fn build_route(&self, id: &ServiceId, planned: &PlannedRoute) -> Option<Route> {
        let mut targets = Vec::new();
        for target in &planned.targets {
            let revision = RevisionId {
                namespace: id.namespace.clone(),
                name: target.revision.clone(),
            };
            let model = self
                .slots
                .get(&revision)
                .and_then(|slot| slot.model.as_ref());
            match model {
                Some(model) => targets.push(RouteTarget {
                    model: Arc::clone(model),
                    percent: target.percent,
                    tags: target.tags.clone(),
                }),
                // One that takes no requests may come later.
                None if target.percent == 0 => {}
                None => return None,
            }
        }
        Route::try_new(targets, planned.sticky.clone())
    }

    fn report(&self) {
        let revisions = self
            .slots
            .iter()
            .map(|(id, slot)| (id.clone(), slot.state.clone()));
        let routes = self
            .routes
            .iter()
            .map(|(id, (planned, _))| (id.clone(), planned.clone()));
        self.config.observed.set(Observed {
            revisions: revisions.collect(),
            routes: routes.collect(),
        });
    }
}

/// The loading of one revision, on its own thread.
struct Load {
    id: RevisionId,
    planned: PlannedRevision,
    config: FollowerConfig,
    sender: Sender<Event>,
}

impl Load {
    fn run(self) {
        let FollowerConfig {
            loader, log, clock, ..
        } = &self.config;
        let source = Mutex::new(LogSource::Fetch);
        let progress = |now: LogSource, text: &str| {
            *source.lock().unwrap_or_else(PoisonError::into_inner) = now;
            log.write(&self.id, now, text);
            let event = Event::Progress(self.id.clone(), text.to_owned());
            drop(self.sender.send(event));
        };
        let load = || loader.load(&self.id, &self.planned, &progress);
        let result =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(load)).unwrap_or_else(|_panic| {
                Err(LoadFailure {
                    code: Code::Internal,
                    message: "loading failed; this is a defect of the server, not of the model"
                        .to_owned(),
                    is_transient: false,
                })
            });
        if let Err(failure) = &result {
            let source = *source.lock().unwrap_or_else(PoisonError::into_inner);
            log.write(&self.id, source, &format!("error: {}", failure.message));
        }
        let result = result.map(|(model, phases)| {
            let name = self.planned.model_name.clone();
            let served = ServedModel::new(name, model, phases, self.config.n_workers);
            let mut served = served.with_revision(&self.id, log.clone());
            let started = clock.monotonic();
            warm_up(&served);
            served.set_warm_up(clock.monotonic().saturating_sub(started));
            served.log(&loaded_line(&served));
            served
        });
        let attempt = self.planned.attempt;
        drop(
            self.sender
                .send(Event::Loaded(self.id, attempt, Box::new(result))),
        );
    }
}

/// Tells what was loaded and how long it took.
fn loaded_line(served: &ServedModel) -> String {
    let description = served.model().description();
    let milliseconds = |time: Duration| format!("{:.1}", time.as_secs_f64() * 1e3);
    let phases = served.phases();
    let parts = phases
        .named()
        .map(|(name, time)| format!("{name} {}", milliseconds(time)));
    let bytes = u64::try_from(served.memory_bytes()).unwrap_or(u64::MAX);
    format!(
        "loaded {}: {}, {} {}, {} in memory, {} ms ({}); ready",
        served.name(),
        description.root.class,
        description.library,
        description
            .library_version
            .as_deref()
            .unwrap_or("of unknown version"),
        ByteCount::new(bytes).to_rounded(),
        milliseconds(phases.total()),
        parts.join(", ")
    )
}

/// Runs the model once on a row of zeros, so that the first request finds its memory mapped and its caches warm.
fn warm_up(model: &ServedModel) {
    let signature = model.model().signature();
    let [input] = signature.inputs.as_slice() else {
        return;
    };
    let Some(n_columns) = input.n_columns() else {
        return;
    };
    if let Ok(row) = Tensor::try_new(vec![1, n_columns], Values::F64(vec![0.0; n_columns])) {
        // A model that refuses zeros is none the worse for it.
        drop(model.run(&[row], &signature.default_outputs));
    }
}

#[cfg(test)]
mod tests;
