//! Acts on InferenceServices: publishes the plan that follows from all of them, and writes what is observed into their
//! status. Start at [`Controller::run`]; the rules are in `service` and `traffic`.

pub(crate) mod caching;
mod conditions;
mod containers;
mod credentials;
mod events;
pub(crate) mod experiments;
pub(crate) mod fallbacks;
mod faults;
pub(crate) mod mirrors;
mod one_command;
mod pending;
mod placeholders;
pub(crate) mod pods;
mod residency;
mod revisions;
pub(crate) mod rollouts;
pub(crate) mod runtimes;
pub(crate) mod scaling;
pub(crate) mod seldon;
mod served_by;
mod service;
pub(crate) mod shadows;
mod sources;
mod templates;
mod times;
mod traffic;
mod variables;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use coracle_api::Kind;
use coracle_api::kind::{
    CLUSTER_SERVING_RUNTIME, CONFIG_MAP, HORIZONTAL_POD_AUTOSCALER, INFERENCE_SERVICE, POD,
    REVISION, SECRET, SERVICE_ACCOUNT, SERVING_RUNTIME,
};
use coracle_api::status::InferenceServiceStatus;
use coracle_base::Clock;
use coracle_serving::{
    Observed, ObservedCell, Plan, PlannedRoute, RevisionId, RevisionState, ServiceId,
};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::object;
use crate::rest::rfc3339;
use crate::store::{Change, ChangeKind, Key, Store, StoreError, Stored, Write};
use crate::usage::LoadQueue;
use experiments::Experiments;
use mirrors::Mirrors;
use pods::Replicas;
use residency::Residency;
use revisions::SERVICE_LABEL;
use rollouts::{QueryBoard, Rollouts};
use runtimes::Candidate;
use scaling::{Decisions, Known, Now, Scaled, Scaler, hpa};
pub use served_by::Programs;
use service::{Outcome, Surroundings};

/// How long the controller waits after a change for others that come with it.
const SETTLE: Duration = Duration::from_millis(3);
/// How long after a write failed the controller tries again.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// How long after a failure that may pass a revision is loaded again; doubles with every try.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// The longest such wait.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// What a controller works with.
pub struct ControllerConfig {
    /// Which programs may run here.
    pub programs: Programs,
    /// What revisions do, as the serving process tells.
    pub loads: Arc<LoadQueue>,
    /// Whom rollouts' questions are put to.
    pub queries: Arc<QueryBoard>,
    /// Told what the autoscalers decide.
    pub decisions: Arc<Decisions>,
    /// Where the gateway is, such as `http://localhost:8080`.
    pub base_url: String,
    /// Given every plan that differs from the one before.
    pub publish: Box<dyn Fn(&Plan) + Send + Sync>,
    /// Told, in a sentence, when a service becomes ready, ceases to be, or fails.
    pub report: Box<dyn Fn(Readiness, &str) + Send + Sync>,
}

/// How a service fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It became ready.
    Ready,
    /// It ceased to be ready, or its newest revision failed.
    NotReady,
}

/// Acts on InferenceServices.
pub struct Controller {
    store: Arc<Store>,
    observed: Arc<ObservedCell>,
    observed_changed: Arc<Notify>,
    clock: Arc<dyn Clock>,
    config: ControllerConfig,
    plan: Plan,
    last_observed: Observed,
    residency: Residency,
    /// Changes of the store up to this version have been looked at.
    version: u64,
    retries: BTreeMap<RevisionId, Retry>,
    scaler: Scaler,
    rollouts: Rollouts,
    experiments: Experiments,
    mirrors: Mirrors,
    /// What is told by SeldonDeployments that have no replicas.
    idle: BTreeMap<ServiceId, PlannedRoute>,
    has_published: bool,
    /// Whether an object may be gone whose events are there still.
    is_any_gone: bool,
    known_events: events::Known,
    /// Whether the services that name a shadow may have it beside those of the others, as they were told.
    shadow_rooms: BTreeMap<ServiceId, bool>,
    /// What the round is to write, with the service it is about.
    pending: Vec<(ServiceId, Write)>,
}

/// When a revision that failed is loaded again.
#[derive(Clone, Copy, Debug)]
struct Retry {
    attempt: u32,
    /// On the monotonic clock; `None` once the try has begun.
    at: Option<Duration>,
}

impl std::fmt::Debug for Controller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Controller")
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl Controller {
    /// Returns a controller over `store`; `observed_changed` is to be notified at every change
    /// of `observed`.
    #[must_use]
    pub fn new(
        store: Arc<Store>,
        (observed, observed_changed): (Arc<ObservedCell>, Arc<Notify>),
        clock: Arc<dyn Clock>,
        config: ControllerConfig,
    ) -> Self {
        Self {
            scaler: Scaler::new(Arc::clone(&config.loads), Arc::clone(&config.decisions)),
            store,
            observed,
            observed_changed,
            clock,
            config,
            plan: Plan::default(),
            last_observed: Observed::default(),
            residency: Residency::default(),
            version: 0,
            retries: BTreeMap::new(),
            rollouts: Rollouts::default(),
            experiments: Experiments::default(),
            mirrors: Mirrors::default(),
            idle: BTreeMap::new(),
            has_published: false,
            // Before this process began, one may have gone.
            is_any_gone: true,
            known_events: events::Known::default(),
            shadow_rooms: BTreeMap::new(),
            pending: Vec::new(),
        }
    }

    /// Acts until the future is dropped.
    pub async fn run(mut self) {
        let mut changed = self.store.subscribe();
        self.ensure_built_in_runtimes();
        self.version = self.store.version();
        let mut dirty = self.all_services();
        loop {
            changed.mark_unchanged();
            // Reconciling writes to the disk.
            (self, dirty) = match tokio::task::spawn_blocking(move || self.round(dirty)).await {
                Ok(result) => result,
                // A panic here is a defect; without a controller nothing more can be done.
                Err(_panicked) => return,
            };
            // What could not be written is tried again: the disk is full, or others wrote at the same time.
            let again = (!dirty.is_empty()).then_some(AGAIN_AFTER);
            tokio::select! {
                result = changed.changed() => if result.is_err() { return },
                () = self.observed_changed.notified() => {}
                () = sleep(self.next_retry()) => {}
                () = sleep(self.scaler.next_look(self.clock.monotonic())) => {}
                () = sleep(self.rollouts.next_look().or(self.experiments.next_look())) => {}
                () = self.config.loads.told() => {}
                () = sleep(again) => {}
            }
            tokio::time::sleep(SETTLE).await;
        }
    }

    /// Looks at everything that has changed, reconciles what it concerns, publishes the plan; returns what must be tried
    /// again.
    fn round(mut self, mut dirty: BTreeSet<ServiceId>) -> (Self, BTreeSet<ServiceId>) {
        dirty.extend(self.changed_services());
        dirty.extend(self.changed_observations());
        dirty.extend(self.due_retries());
        dirty.extend(self.due_scaling());
        dirty.extend(self.due_rollouts());
        let before = self.plan.clone();
        dirty.extend(self.due_seldon_deployments());
        dirty.extend(self.due_experiments());
        dirty.extend(self.due_mirrors());
        let (mut again, mut seen) = (BTreeSet::new(), BTreeSet::new());
        let runtimes = self.runtimes();
        while !dirty.is_empty() {
            for id in dirty {
                if self.reconcile(&id, &runtimes).is_err() {
                    again.insert(id.clone());
                }
                seen.insert(id);
            }
            // Of a service a round writes once.
            let with_room = self.shadows_with_room().into_iter();
            let (twice, others): (BTreeSet<_>, _) = with_room.partition(|id| seen.contains(id));
            again.extend(twice);
            dirty = others;
        }
        self.plan.books = Some(self.books());
        if self.plan != before || !self.has_published {
            self.has_published = true;
            (self.config.publish)(&self.plan);
        }
        again.extend(self.write_pending());
        (self, again)
    }

    fn all_services(&self) -> BTreeSet<ServiceId> {
        let (services, _) = self.store.list(&INFERENCE_SERVICE, None);
        services.iter().map(|stored| service_id(stored)).collect()
    }

    /// Returns the services that changes of the store concern.
    fn changed_services(&mut self) -> BTreeSet<ServiceId> {
        let Ok(changes) = self.store.changes_after(self.version) else {
            self.version = self.store.version();
            self.is_any_gone = true;
            return self.all_services();
        };
        let (mut services, mut come_or_gone) = (BTreeSet::new(), BTreeSet::new());
        for Change { kind, stored, .. } in changes {
            self.version = stored.version;
            let key = &stored.key;
            self.is_any_gone |= kind == ChangeKind::Deleted && events::is_told_of(key);
            if key.is_of(&INFERENCE_SERVICE) {
                services.insert(service_id(&stored));
                if kind != ChangeKind::Modified {
                    come_or_gone.insert(service_id(&stored));
                }
            } else if key.is_of(&SECRET)
                || key.is_of(&CONFIG_MAP)
                || key.is_of(&SERVICE_ACCOUNT)
                || key.is_of(&SERVING_RUNTIME)
            {
                let all = self.all_services().into_iter();
                services.extend(all.filter(|id| id.namespace == key.namespace()));
            } else if key.is_of(&CLUSTER_SERVING_RUNTIME) {
                services.extend(self.all_services());
            }
        }
        services.extend(self.naming(&come_or_gone));
        services
    }

    /// Returns the services that name one of these in their annotations.
    fn naming(&self, named: &BTreeSet<ServiceId>) -> Vec<ServiceId> {
        if named.is_empty() {
            return Vec::new();
        }
        let (all, _) = self.store.list(&INFERENCE_SERVICE, None);
        let is_naming = |stored: &&Arc<Stored>| {
            let names = service::references::names(&stored.object).into_iter();
            let namespace = stored.key.namespace();
            let mut ids = names.map(|name| ServiceId {
                namespace: namespace.to_owned(),
                name,
            });
            ids.any(|id| named.contains(&id))
        };
        let naming = all.iter().filter(is_naming);
        naming.map(|stored| service_id(stored)).collect()
    }

    /// Returns the services whose revisions or routes are observed to be others.
    fn changed_observations(&mut self) -> BTreeSet<ServiceId> {
        let observed = self.observed.get();
        let before = std::mem::replace(&mut self.last_observed, observed);
        let mut services = BTreeSet::new();
        let now = &self.last_observed;
        for id in now.routes.keys().chain(before.routes.keys()) {
            if now.routes.get(id) != before.routes.get(id) {
                services.insert(id.clone());
            }
        }
        for id in now.revisions.keys().chain(before.revisions.keys()) {
            let states = (before.revisions.get(id), now.revisions.get(id));
            let is_same = match states {
                (Some(before), Some(now)) => residency::differ_in_residency_only(before, now),
                (before, now) => before == now,
            };
            if !is_same && states.0 != states.1 {
                services.extend(service_of(id));
            }
        }
        services.extend(seldon::differing(&before.flows, &now.flows));
        for id in now.processes.keys().chain(before.processes.keys()) {
            if now.processes.get(id) != before.processes.get(id) {
                services.extend(service_of(id));
            }
        }
        let misfits = fallbacks::changed_misfits(&before.misfits, &now.misfits);
        let restarts = pods::restarts(&before.processes, &now.processes);
        for (id, state) in &now.revisions {
            match state {
                RevisionState::Failed { attempt, failure } if failure.is_transient => {
                    let retry = self.retries.entry(id.clone()).or_insert(Retry {
                        attempt: 0,
                        at: None,
                    });
                    if retry.attempt == *attempt && retry.at.is_none() {
                        let wait = RETRY_AFTER
                            .saturating_mul(2_u32.saturating_pow(*attempt))
                            .min(RETRY_AFTER_MAX);
                        retry.at = Some(self.clock.monotonic() + wait);
                    }
                }
                RevisionState::Ready { .. } => drop(self.retries.remove(id)),
                _ => {}
            }
        }
        self.retries.retain(|id, _| now.revisions.contains_key(id));
        let at = self.clock.monotonic();
        let moved = self
            .residency
            .changes(&before.revisions, &now.revisions, at);
        for (id, reason, message) in moved {
            if let Some(service) = service_of(&id) {
                self.record_for(&service, "Normal", reason, &message);
            }
        }
        for (id, message) in misfits {
            if let Some(message) = message {
                self.warn_of(&id, "FallbackDoesNotFit", message);
            }
            services.insert(id);
        }
        for (id, message) in restarts {
            if let Some(service) = service_of(&id) {
                self.record_for(&service, "Warning", "BackOff", &message);
            }
        }
        services
    }

    /// Lets the autoscalers decide, if it is time; returns the services that it concerns.
    fn due_scaling(&mut self) -> BTreeSet<ServiceId> {
        let now = self.now();
        let mut changes = self.scaler.woken(&self.last_observed, now.monotonic);
        let (decided, mut services) = self.scaler.look(&self.last_observed, now);
        changes.extend(decided);
        for change in changes {
            self.record_scaling(&change);
            services.insert(change.service);
        }
        services
    }

    /// Writes an event with the numbers behind a change of replicas, in the form of Kubernetes' autoscaler.
    fn record_scaling(&mut self, change: &Scaled) {
        let message = format!(
            "Revision {}: New size: {}; was {}; reason: {}",
            change.revision.name, change.decision.desired, change.before, change.decision.reason
        );
        self.record_for(&change.service, "Normal", "SuccessfulRescale", &message);
    }

    /// Begins the tries whose time has come; returns their services.
    fn due_retries(&mut self) -> BTreeSet<ServiceId> {
        let now = self.clock.monotonic();
        let mut services = BTreeSet::new();
        for (id, retry) in &mut self.retries {
            if retry.at.is_some_and(|at| at <= now) {
                retry.at = None;
                retry.attempt += 1;
                services.extend(service_of(id));
            }
        }
        services
    }

    /// Returns how long it is to the next try; `None` if there is none.
    fn next_retry(&self) -> Option<Duration> {
        let next = self.retries.values().filter_map(|retry| retry.at).min()?;
        Some(next.saturating_sub(self.clock.monotonic()))
    }

    fn runtimes(&self) -> Vec<Candidate> {
        let (cluster_wide, _) = self.store.list(&CLUSTER_SERVING_RUNTIME, None);
        let (own, _) = self.store.list(&SERVING_RUNTIME, None);
        let all = cluster_wide.iter().chain(&own);
        all.filter_map(|stored| Candidate::read(&stored.object))
            .collect()
    }

    fn ensure_built_in_runtimes(&self) {
        for mut runtime in runtimes::built_in() {
            let metadata = object::metadata_mut(&mut runtime);
            metadata.insert("uid".to_owned(), uuid::Uuid::new_v4().to_string().into());
            metadata.insert("generation".to_owned(), json!(1));
            metadata.insert(
                "creationTimestamp".to_owned(),
                rfc3339(self.clock.unix_time()).into(),
            );
            let key = Key::new(&CLUSTER_SERVING_RUNTIME, "", object::name(&runtime));
            // One that is there already may have been changed by its user.
            drop(self.store.create(key, runtime));
        }
    }

    fn reconcile(&mut self, id: &ServiceId, runtimes: &[Candidate]) -> Result<(), StoreError> {
        let stored = self
            .store
            .get(&Key::new(&INFERENCE_SERVICE, &id.namespace, &id.name));
        let Some(stored) = stored.filter(|stored| !object::is_terminating(&stored.object)) else {
            self.forget(id);
            self.shadow_rooms.remove(id);
            return Ok(());
        };
        let shadow_room = self.take_shadow_room(id, &stored.object);
        let attempts: BTreeMap<RevisionId, u32> = self
            .retries
            .iter()
            .map(|(id, retry)| (id.clone(), retry.attempt))
            .collect();
        let mut outcome = service::reconcile(
            &stored.object,
            &Surroundings {
                store: &self.store,
                observed: &self.last_observed,
                runtimes,
                programs: &self.config.programs,
                attempts: &attempts,
                course: self.rollouts.of(id),
                steps: self.rollouts.steps_of(id),
                experiments: self.experiments.of(id),
                mirror: self.mirrors.of(id),
                shadow_room: &shadow_room,
                base_url: &self.config.base_url,
                now: self.clock.unix_time(),
            },
        )?;
        self.scale(id, &mut outcome);
        self.take(id, &outcome);
        self.write_status(id, &stored, &outcome.status);
        self.write_revisions(id, &outcome);
        self.write_pods(id, &outcome);
        self.write_autoscalers(id, &outcome);
        Ok(())
    }

    fn now(&self) -> Now {
        Now {
            monotonic: self.clock.monotonic(),
            unix: self.clock.unix_time(),
        }
    }

    /// Gives every revision of a service the replicas that its autoscaler says.
    fn scale(&mut self, id: &ServiceId, outcome: &mut Outcome) {
        let now = self.now();
        for (revision, planned) in &mut outcome.revisions {
            let Some(scaling) = outcome.scaling.remove(revision) else {
                continue;
            };
            let observed = match self.last_observed.revisions.get(revision) {
                Some(RevisionState::Ready { replicas, .. }) => Some(*replicas),
                _ => None,
            };
            let key = Key::new(&REVISION, &id.namespace, &revision.name);
            let desired = self.store.get(&key).and_then(|stored| {
                let desired = stored.object.pointer("/status/desiredReplicas")?;
                u32::try_from(desired.as_u64()?).ok()
            });
            let known = Known { observed, desired };
            planned.replicas = self.scaler.watch(revision, id, scaling, known, now);
        }
        self.scaler
            .retain(id, |revision| outcome.revisions.contains_key(revision));
    }

    /// Shows the autoscalers; those of revisions that are no longer there go.
    fn write_autoscalers(&mut self, id: &ServiceId, outcome: &Outcome) {
        let kind = &HORIZONTAL_POD_AUTOSCALER;
        let prefix = format!("{}-predictor-", id.name);
        let mut there = self.own_objects(kind, id, &prefix);
        let mut writes = Vec::new();
        for revision in outcome.revisions.keys() {
            let key = Key::new(&REVISION, &id.namespace, &revision.name);
            let (Some(stored), Some((n_desired, decision, spec))) =
                (self.store.get(&key), self.scaler.view(revision))
            else {
                continue;
            };
            let n_ready = match self.last_observed.revisions.get(revision) {
                Some(RevisionState::Ready { replicas, .. }) => *replicas,
                _ => 0,
            };
            let view = hpa::View {
                revision: &stored.object,
                spec,
                decision,
                n_desired,
                n_ready,
                now: self.clock.unix_time(),
            };
            let before = there.remove(&revision.name);
            let object = view.object(before.as_deref().map(|stored| &stored.object));
            let key = Key::new(kind, &id.namespace, &revision.name);
            writes.extend(write_of(key, before.as_deref(), object));
        }
        writes.extend(there.into_values().map(|stored| deletion(&stored)));
        self.pending
            .extend(writes.into_iter().map(|write| (id.clone(), write)));
    }

    /// Returns the objects of a kind that show what a service has, by name.
    fn own_objects(
        &self,
        kind: &Kind,
        id: &ServiceId,
        prefix: &str,
    ) -> BTreeMap<String, Arc<Stored>> {
        let objects = self.store.list_named(kind, &id.namespace, prefix);
        objects
            .into_iter()
            .filter(|stored| {
                object::text(&stored.object, "labels", SERVICE_LABEL) == Some(&id.name)
            })
            .map(|stored| (stored.key.name().to_owned(), stored))
            .collect()
    }

    /// Shows the replicas as pods; those that are no longer there go.
    fn write_pods(&mut self, id: &ServiceId, outcome: &Outcome) {
        let prefix = format!("{}-predictor-", id.name);
        let mut there = self.own_objects(&POD, id, &prefix);
        let mut writes = Vec::new();
        for (revision, planned) in &outcome.revisions {
            let key = Key::new(&REVISION, &id.namespace, &revision.name);
            let Some(stored) = self.store.get(&key) else {
                continue;
            };
            let replicas = Replicas {
                revision: &stored.object,
                uri: &planned.source.uri,
                n_wanted: planned.replicas,
                state: self.last_observed.revisions.get(revision),
                processes: match self.last_observed.processes.get(revision) {
                    Some(processes) => Some(processes),
                    None => planned.source.process.is_some().then_some(&[]),
                },
                now: self.clock.unix_time(),
            };
            for index in 0..replicas.count() {
                let name = replicas.name(index);
                let before = there.remove(&name);
                let object = replicas.pod(index, before.as_deref().map(|pod| &pod.object));
                let key = Key::new(&POD, &id.namespace, &name);
                writes.extend(write_of(key, before.as_deref(), object));
            }
        }
        writes.extend(there.into_values().map(|pod| deletion(&pod)));
        self.pending
            .extend(writes.into_iter().map(|write| (id.clone(), write)));
    }

    fn forget(&mut self, id: &ServiceId) {
        self.take_route(id, None);
        self.remove_revisions(id);
        // They go with their owner; one that was just being written would stay.
        let prefix = format!("{}-predictor-", id.name);
        for kind in [&POD, &HORIZONTAL_POD_AUTOSCALER] {
            for stored in self.own_objects(kind, id, &prefix).into_values() {
                self.pending.push((id.clone(), deletion(&stored)));
            }
        }
        self.scaler.retain(id, |_| false);
    }

    fn remove_revisions(&mut self, id: &ServiceId) {
        // By their own names: their models may be called otherwise.
        self.plan
            .revisions
            .retain(|revision, _| service_of(revision).as_ref() != Some(id));
    }

    fn take(&mut self, id: &ServiceId, outcome: &Outcome) {
        self.remove_revisions(id);
        self.plan.revisions.extend(outcome.revisions.clone());
        self.take_route(id, outcome.route.as_ref());
    }

    /// Plans a service's route; without one what is told by its SeldonDeployment, if that has no replicas.
    fn take_route(&mut self, id: &ServiceId, route: Option<&PlannedRoute>) {
        match route.or(self.idle.get(id)) {
            Some(route) => drop(self.plan.routes.insert(id.clone(), route.clone())),
            None => drop(self.plan.routes.remove(id)),
        }
    }

    fn write_status(&mut self, id: &ServiceId, stored: &Stored, status: &InferenceServiceStatus) {
        let status = serde_json::to_value(status).unwrap_or_default();
        if stored.object.get("status") == Some(&status) {
            return;
        }
        self.record_readiness(id, &stored.object, &status);
        let mut object = stored.object.clone();
        object["status"] = status;
        let write = Write::Update {
            key: stored.key.clone(),
            expected: stored.version,
            object,
        };
        self.pending.push((id.clone(), write));
    }

    /// Writes an event when a service becomes ready, ceases to be, is stopped, or fails in another way than before. What is not known
    /// for the moment, as while requests are split anew, is no event.
    fn record_readiness(&mut self, id: &ServiceId, service: &Value, status: &Value) {
        let (was, before) = readiness(service.get("status"));
        let (is, why) = readiness(Some(status));
        let name = object::name(service);
        match (was, is) {
            ("True", "True") => {}
            (_, "True") => {
                let message = format!("InferenceService [{name}] is Ready");
                self.record(id, service, "Normal", "InferenceServiceReady", &message);
            }
            ("True", "False") => {
                let message =
                    format!("InferenceService [{name}] is no longer Ready because of: {why}");
                self.record(id, service, "Warning", "InferenceServiceNotReady", &message);
            }
            (_, "False") if was == "False" && before == why => {}
            (_, "False") if why == service::STOPPED => {
                let message = format!("InferenceService [{name}] is not Ready because of: {why}");
                self.record(id, service, "Warning", "InferenceServiceNotReady", &message);
            }
            (_, "False") => self.record(id, service, "Warning", "ModelLoadFailed", why),
            _ => {}
        }
    }

    /// Shows in the revisions what is observed of them.
    fn write_revisions(&mut self, id: &ServiceId, outcome: &Outcome) {
        for (revision, planned) in &outcome.revisions {
            let key = Key::new(&REVISION, &id.namespace, &revision.name);
            let Some(stored) = self.store.get(&key) else {
                continue;
            };
            let status =
                revision_status(planned.replicas, self.last_observed.revisions.get(revision));
            if stored.object.get("status") != Some(&status) {
                let mut object = stored.object.clone();
                object["status"] = status;
                let expected = stored.version;
                let write = Write::Update {
                    key,
                    expected,
                    object,
                };
                self.pending.push((id.clone(), write));
            }
        }
    }
}

/// Returns the status and message of the condition `Ready`.
fn readiness(status: Option<&Value>) -> (&str, &str) {
    let conditions = status
        .and_then(|status| status.get("conditions"))
        .and_then(Value::as_array);
    let mut conditions = conditions.into_iter().flatten();
    let ready = conditions.find(|condition| condition["type"] == "Ready");
    let text = |field: &str| {
        ready
            .and_then(|ready| ready.get(field))
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let why = match text("message") {
        // As of a service that is stopped.
        "" => text("reason"),
        message => message,
    };
    (text("status"), why)
}

fn revision_status(n_wanted: u32, state: Option<&RevisionState>) -> Value {
    let (status, reason, message, n_replicas) = match state {
        Some(RevisionState::Ready { replicas, .. }) => ("True", "", String::new(), *replicas),
        Some(RevisionState::Failed { failure, .. }) => {
            ("False", "ModelLoadFailed", failure.message.clone(), 0)
        }
        Some(RevisionState::Loading { progress }) => ("Unknown", "Deploying", progress.clone(), 0),
        None => ("Unknown", "Deploying", "waiting to be loaded".to_owned(), 0),
    };
    let mut condition = json!({"type": "Ready", "status": status});
    if !reason.is_empty() {
        condition["reason"] = reason.into();
        condition["message"] = message.into();
    }
    // Knative's words for what has no replicas for want of requests.
    let active = match state {
        Some(RevisionState::Ready { replicas: 0, .. }) => json!({
            "type": "Active",
            "status": "False",
            "severity": "Info",
            "reason": "NoTraffic",
            "message": "The target is not receiving traffic."
        }),
        Some(RevisionState::Ready { .. }) => {
            json!({"type": "Active", "status": "True", "severity": "Info"})
        }
        _ => json!({"type": "Active", "status": "Unknown", "severity": "Info"}),
    };
    json!({"conditions": [active, condition], "actualReplicas": n_replicas, "desiredReplicas": n_wanted})
}

/// Returns the write that makes an object be like this; `None` if it is.
fn write_of(key: Key, before: Option<&Stored>, object: Value) -> Option<Write> {
    match before {
        Some(before) if before.object == object => None,
        Some(before) => Some(Write::Update {
            key,
            expected: before.version,
            object,
        }),
        None => Some(Write::Create { key, object }),
    }
}

fn deletion(stored: &Stored) -> Write {
    Write::Delete {
        key: stored.key.clone(),
        expected: stored.version,
    }
}

/// Returns the service of a revision.
fn service_of(id: &RevisionId) -> Option<ServiceId> {
    let (service, _) = id.name.rsplit_once("-predictor-")?;
    Some(ServiceId {
        namespace: id.namespace.clone(),
        name: service.to_owned(),
    })
}

fn service_id(stored: &Stored) -> ServiceId {
    ServiceId {
        namespace: stored.key.namespace().to_owned(),
        name: stored.key.name().to_owned(),
    }
}

async fn sleep(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
