//! Experiments: looks at every one whenever something may have changed, tells the services which ones their requests take part in, and shows how they
//! stand.
//!
//! Expected flow: [`Controller::due_experiments`] in every round, before the services are reconciled. Guarantees: no experiment is in force before all
//! that answers for its variants is there; two experiments whose units could be the same are never in force at a time on one service, nor within one
//! exclusion group. Caveat: one whose spec cannot be any more, since bounds were set after it was stored, is not in force and says so;
//! the revisions that it names are kept as if it were. Assumptions: the numbers are the serving process's, and at most a few seconds old. A winner stays in the status: it is forgotten by
//! nobody but people.

mod course;
mod spec;
mod standing;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use coracle_api::experiment::{ExperimentSpec, ExperimentStatus};
use coracle_api::kind::{EXPERIMENT, ROLLOUT};
use coracle_api::structural::Cause;
use coracle_serving::ServiceId;
use coracle_serving::experiment::{
    BookId, ExperimentSummary, PlannedExperiment, PlannedSlice, VariantTarget,
};
use serde_json::Value;

use self::course::{Command, Seen};
use self::spec::Wanted;
use self::standing::Obstacle;
use super::Controller;
use super::conditions::Verdict;
use super::events::Happened;
use super::faults;
use super::{one_command, rollouts};
use crate::annotations::EXPERIMENT as COMMAND;
use crate::object;
use crate::store::{Stored, Write};

/// How often those are looked at that may end by themselves.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often numbers that drift are written.
const SHOW_EVERY: Duration = Duration::from_secs(5);

/// What a service's experiments come to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct OnService {
    /// Those that are in force, in the order in which they are asked.
    pub(crate) planned: Vec<PlannedExperiment>,
    /// The revisions that they need, in force or not.
    pub(crate) revisions: Vec<String>,
}

/// Every experiment.
#[derive(Debug, Default)]
pub(crate) struct Experiments {
    services: BTreeMap<ServiceId, OnService>,
    /// By namespace and name.
    entries: BTreeMap<(String, String), Entry>,
    may_end: bool,
}

/// What is remembered of an experiment from look to look.
#[derive(Debug, Default)]
struct Entry {
    uid: String,
    status: ExperimentStatus,
    /// The command that is done, but may not have been removed yet.
    done: Option<String>,
    /// When the status was written last, on the monotonic clock.
    shown_at: Duration,
    /// Whether a write was put off because the last was a moment ago.
    is_behind: bool,
}

impl Experiments {
    /// Returns what the experiments of a service come to.
    pub(crate) fn of(&self, service: &ServiceId) -> Option<&OnService> {
        self.services.get(service)
    }

    /// Notes that the status of an experiment was written, and with it the command removed: the next one is another one.
    pub(super) fn note_written(&mut self, experiment: &Stored) {
        let namespace = experiment.key.namespace().to_owned();
        let key = (namespace, experiment.key.name().to_owned());
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.done = None;
        }
    }

    /// Returns how long it is to the next look; `None` if nothing changes by itself.
    pub(crate) fn next_look(&self) -> Option<Duration> {
        let is_behind = self.entries.values().any(|entry| entry.is_behind);
        (self.may_end || is_behind).then_some(LOOK_EVERY)
    }
}

/// Checks the spec of an Experiment, and its name; of one that was there as `old`, only a spec that says another thing.
///
/// # Errors
/// Says which fields have which values, and what is allowed.
pub(crate) fn check(old: Option<&Value>, experiment: &Value) -> Result<(), Vec<Cause>> {
    // One that cannot be read was refused by its schema.
    faults::check_changed(old, experiment, None, || {
        read_wanted(experiment).and_then(Result::err)
    })
}

/// Checks the command of an Experiment whose spec was checked; `old` is what it was before.
///
/// # Errors
/// Says what is wrong with it.
pub(crate) fn check_command(old: Option<&Value>, experiment: &Value) -> Result<(), String> {
    let Some(text) = object::text(experiment, "annotations", COMMAND) else {
        return Ok(());
    };
    let Some(Ok(wanted)) = read_wanted(experiment) else {
        return Ok(());
    };
    let command = Command::read(text, &wanted.planned)
        .map_err(|why| format!("annotation {COMMAND}: {why}"))?;
    let is_new = one_command::is_new(COMMAND, old, text)?;
    let refusal = old.filter(|_| is_new);
    let refusal = refusal.and_then(|old| command.refusal(&status_of(old), &wanted));
    refusal.map_or(Ok(()), Err)
}

fn read_wanted(experiment: &Value) -> Option<Result<Wanted, Vec<Cause>>> {
    let about = (object::namespace(experiment), object::name(experiment));
    Some(spec::read(&read_spec(experiment)?, about))
}

/// Checks that a patch of an Experiment brings no command while there is one.
///
/// # Errors
/// Says which one is not done yet.
pub(crate) fn check_patch(live: &Value, patch: &Value) -> Result<(), String> {
    one_command::check_patch(COMMAND, live, patch)
}

/// Returns what the book of an experiment is kept by.
fn book(experiment: &Value) -> BookId {
    let (namespace, name) = (object::namespace(experiment), object::name(experiment));
    let salt = experiment.pointer("/spec/salt").and_then(Value::as_str);
    BookId {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        uid: object::meta_str(experiment, "uid").to_owned(),
        salt: spec::salt(salt, (namespace, name)),
    }
}

fn read_spec(experiment: &Value) -> Option<ExperimentSpec> {
    serde_json::from_value(experiment.get("spec")?.clone()).ok()
}

/// An experiment with the service that it is about.
struct About {
    experiment: Arc<Stored>,
    wanted: Wanted,
    service: ServiceId,
}

/// One whose spec cannot be: it was stored while it could.
struct Unfit {
    experiment: Arc<Stored>,
    causes: Vec<Cause>,
    service: ServiceId,
}

/// Returns the entry of an experiment; one that is new goes on from its status.
fn entry<'a>(experiments: &'a mut Experiments, experiment: &Value) -> &'a mut Entry {
    let uid = object::meta_str(experiment, "uid");
    let entry = experiments.entries.entry(key_of(experiment)).or_default();
    if entry.uid != uid {
        *entry = Entry {
            uid: uid.to_owned(),
            status: status_of(experiment),
            ..Entry::default()
        };
    }
    entry
}

fn key_of(experiment: &Value) -> (String, String) {
    let namespace = object::namespace(experiment).to_owned();
    (namespace, object::name(experiment).to_owned())
}

impl Controller {
    /// Returns the books that may be needed: those of all experiments that are there, and of the canaries that are not over. The ones in force are
    /// in the plan besides.
    pub(super) fn books(&self) -> BTreeSet<BookId> {
        let (experiments, _) = self.store.list(&EXPERIMENT, None);
        let (rollouts, _) = self.store.list(&ROLLOUT, None);
        let experiments = experiments.iter().map(|stored| book(&stored.object));
        let rollouts = rollouts.iter();
        let trials = rollouts.filter_map(|stored| rollouts::book_under_way(&stored.object));
        experiments.chain(trials).collect()
    }

    /// Looks at every experiment; returns the services whose requests it concerns.
    pub(super) fn due_experiments(&mut self) -> BTreeSet<ServiceId> {
        let (mut abouts, unfit) = self.all_experiments();
        // Who has users keeps what others would take from it; else the oldest does.
        abouts.sort_by_key(|about| {
            let object = &about.experiment.object;
            let created = object::meta_str(object, "creationTimestamp").to_owned();
            let waits = !self.has_begun(object);
            (waits, created, object::name(object).to_owned())
        });
        let mut services: BTreeMap<ServiceId, OnService> = BTreeMap::new();
        let mut slices: Vec<(PlannedSlice, String)> = Vec::new();
        let mut there = BTreeSet::new();
        for one in &unfit {
            there.insert(key_of(&one.experiment.object));
            // Its variants are at hand once it is mended.
            let on_service = services.entry(one.service.clone()).or_default();
            on_service.revisions.extend(named_revisions(one));
            self.hold_experiment(one);
        }
        let mut may_end = false;
        for about in &abouts {
            let name = object::name(&about.experiment.object);
            there.insert(key_of(&about.experiment.object));
            let on_service = services.entry(about.service.clone()).or_default();
            on_service.revisions.extend(revisions_of(about));
            let obstacle = conflict(about, on_service, &slices);
            let planned = self.look_at_experiment(about, obstacle);
            may_end |= about.wanted.after > Duration::ZERO && planned.is_some();
            if let Some(planned) = planned {
                slices.extend(planned.slice.clone().map(|slice| (slice, name.to_owned())));
                let on_service = services.entry(about.service.clone()).or_default();
                on_service.planned.push(planned);
            }
        }
        self.experiments.may_end = may_end;
        self.experiments
            .entries
            .retain(|key, _| there.contains(key));
        let before = std::mem::replace(&mut self.experiments.services, services);
        let now = &self.experiments.services;
        let both = before.keys().chain(now.keys());
        let changed = both.filter(|id| before.get(*id) != now.get(*id));
        changed.cloned().collect()
    }

    /// Tells whether an experiment runs or has a winner.
    fn has_begun(&self, experiment: &Value) -> bool {
        let known = self.experiments.entries.get(&key_of(experiment));
        let known = known.filter(|entry| entry.uid == object::meta_str(experiment, "uid"));
        match known {
            Some(entry) => course::has_begun(&entry.status),
            None => course::has_begun(&status_of(experiment)),
        }
    }

    /// Returns the experiments, those apart whose spec cannot be.
    fn all_experiments(&self) -> (Vec<About>, Vec<Unfit>) {
        let (stored, _) = self.store.list(&EXPERIMENT, None);
        let (mut abouts, mut unfit) = (Vec::new(), Vec::new());
        for experiment in stored {
            if object::is_terminating(&experiment.object) {
                continue;
            }
            let Some(spec) = read_spec(&experiment.object) else {
                continue;
            };
            let namespace = experiment.key.namespace();
            let read = spec::read(&spec, (namespace, experiment.key.name()));
            let service = ServiceId {
                namespace: namespace.to_owned(),
                name: spec.inference_service,
            };
            match read {
                Ok(mut wanted) => {
                    object::meta_str(&experiment.object, "uid").clone_into(&mut wanted.planned.uid);
                    abouts.push(About {
                        experiment,
                        wanted,
                        service,
                    });
                }
                Err(causes) => unfit.push(Unfit {
                    experiment,
                    causes,
                    service,
                }),
            }
        }
        (abouts, unfit)
    }

    /// Lets an experiment be in force no longer, since its spec says nothing that can be, and says so.
    fn hold_experiment(&mut self, unfit: &Unfit) {
        let object = &unfit.experiment.object;
        let now = self.clock.unix_time();
        let why = format!("spec cannot be: {}", faults::text(&unfit.causes));
        let entry = entry(&mut self.experiments, object);
        let before = entry.status.clone();
        let text = object::text(object, "annotations", COMMAND);
        let command = text.filter(|text| entry.done.as_deref() != Some(text));
        let mut happened: Vec<Happened> = command
            .map(|command| course::refused(format!("{command}: {why}")))
            .into_iter()
            .collect();
        entry.done = text.map(str::to_owned);
        let status = &mut entry.status;
        course::WAITING.clone_into(&mut status.phase);
        status.message.clone_from(&why);
        let variants = Verdict::not_yet(standing::INVALID, &*why);
        let obstacle = Some(Obstacle::new(standing::INVALID, why));
        happened.extend(standing::note(status, &before, (obstacle, variants), now));
        status.observed_generation = Some(object::generation(object));
        let is_drift = is_drift(&before, status) && text.is_none() && happened.is_empty();
        let place = (&unfit.experiment, &unfit.service);
        self.show_experiment(place, is_drift);
        self.record_experiment(place, &happened);
    }

    /// Looks at an experiment; returns what is planned of it.
    fn look_at_experiment(
        &mut self,
        about: &About,
        conflict: Option<String>,
    ) -> Option<PlannedExperiment> {
        let object = &about.experiment.object;
        let key = key_of(object);
        let uid = object::meta_str(object, "uid");
        let known = entry(&mut self.experiments, object);
        let was_running = course::has_begun(&known.status);
        let conflict = conflict.map(|message| Obstacle::new("AnotherExperiment", message));
        let obstacle = conflict.or_else(|| self.obstacle(about, was_running));
        let variants = self.variants_verdict(about);
        let summary = self.config.loads.experiment(&key.0, &key.1);
        let summary = summary.filter(|summary: &ExperimentSummary| summary.uid == uid);
        let entry = self.experiments.entries.get_mut(&key)?;
        let text = object::text(object, "annotations", COMMAND);
        let is_new = text.is_some_and(|text| entry.done.as_deref() != Some(text));
        let command = text.filter(|_| is_new);
        let command = command.and_then(|text| Command::read(text, &about.wanted.planned).ok());
        let before = entry.status.clone();
        let seen = Seen {
            wanted: &about.wanted,
            obstacle: obstacle.as_ref().map(|obstacle| obstacle.message.clone()),
            summary: summary.as_ref(),
            command,
            now: self.clock.unix_time(),
        };
        let mut happened = course::look(&mut entry.status, &seen);
        happened.extend(standing::note(
            &mut entry.status,
            &before,
            (obstacle, variants),
            seen.now,
        ));
        entry.done = text.map(str::to_owned);
        let status = &mut entry.status;
        status.observed_generation = Some(object::generation(object));
        status.url = Some(format!(
            "{}/serving/{}/{}/experiments/{}",
            self.config.base_url, key.0, about.service.name, key.1
        ));
        let is_in_force = status.phase != course::WAITING;
        let winner = status.winner.clone();
        let is_drift = is_drift(&before, status) && text.is_none() && happened.is_empty();
        let place = (&about.experiment, &about.service);
        self.show_experiment(place, is_drift);
        self.record_experiment(place, &happened);
        is_in_force.then(|| PlannedExperiment {
            winner,
            ..about.wanted.planned.clone()
        })
    }

    /// Writes the status, if it is another one than is shown: at once if something happened, else every now and then.
    fn show_experiment(
        &mut self,
        (experiment, service): (&Arc<Stored>, &ServiceId),
        is_drift: bool,
    ) {
        let now = self.clock.monotonic();
        let entry = entry(&mut self.experiments, &experiment.object);
        let shown = status_of(&experiment.object);
        let has_command = object::text(&experiment.object, "annotations", COMMAND).is_some();
        let is_same = shown == entry.status && !has_command;
        let is_early =
            is_drift && shown.phase == entry.status.phase && now < entry.shown_at + SHOW_EVERY;
        entry.is_behind = is_early && !is_same;
        if is_same || is_early {
            return;
        }
        entry.shown_at = now;
        let mut object = experiment.object.clone();
        object["status"] = serde_json::to_value(&entry.status).unwrap_or_default();
        let annotations = object::metadata_mut(&mut object).get_mut("annotations");
        if let Some(annotations) = annotations.and_then(Value::as_object_mut) {
            annotations.remove(COMMAND);
        }
        let write = Write::Update {
            key: experiment.key.clone(),
            expected: experiment.version,
            object,
        };
        self.pending.push((service.clone(), write));
    }

    /// Writes what happened as events of the experiment and of its service.
    fn record_experiment(
        &mut self,
        (experiment, service): (&Arc<Stored>, &ServiceId),
        happened: &[Happened],
    ) {
        let experiment = &experiment.object;
        let name = object::name(experiment);
        for event in happened {
            let message = format!("experiment {name}: {}", event.message);
            self.record_for(service, event.event_type(), event.reason, &message);
            self.record_about(service, (&EXPERIMENT, experiment), event);
        }
    }
}

/// Tells whether a write shows the status of an Experiment.
pub(super) fn is_shown_by(write: &Write) -> bool {
    matches!(write, Write::Update { key, .. } if key.is_of(&EXPERIMENT))
}

/// The revisions that an experiment's variants need.
fn revisions_of(about: &About) -> impl Iterator<Item = String> + '_ {
    let variants = about.wanted.planned.variants.iter();
    variants.filter_map(|variant| match &variant.target {
        VariantTarget::Revision(name) => Some(name.clone()),
        _ => None,
    })
}

/// The revisions that the variants name of one whose spec cannot be.
fn named_revisions(unfit: &Unfit) -> impl Iterator<Item = String> + '_ {
    let variants = unfit.experiment.object.pointer("/spec/variants");
    let variants = variants.and_then(Value::as_array).into_iter().flatten();
    let names = variants.filter_map(|variant| variant.get("revision")?.as_str());
    names.map(str::to_owned)
}

/// Returns why an experiment cannot be in force beside those that are.
fn conflict(
    about: &About,
    on_service: &OnService,
    slices: &[(PlannedSlice, String)],
) -> Option<String> {
    let own = about.wanted.planned.slice.as_ref();
    let in_other_group = on_service.planned.iter().find(|other| {
        let group = |slice: Option<&PlannedSlice>| slice.map(|slice| slice.group.clone());
        own.is_none() || group(other.slice.as_ref()) != group(own)
    });
    if let Some(other) = in_other_group {
        return Some(format!(
            "experiment {} is on {} already; experiments of one service must be parts of one exclusionGroup",
            other.name, about.service.name
        ));
    }
    let own = own?;
    let meets = |slice: &PlannedSlice| {
        slice.group == own.group && slice.begin_ppm < own.end_ppm && own.begin_ppm < slice.end_ppm
    };
    let other = slices.iter().find(|(slice, _)| meets(slice));
    other.map(|(slice, name)| {
        format!(
            "experiment {name} has {} to {} percent of the units of its exclusionGroup",
            f64::from(slice.begin_ppm) / 10_000.0,
            f64::from(slice.end_ppm) / 10_000.0
        )
    })
}

/// Tells whether only numbers are others.
fn is_drift(before: &ExperimentStatus, after: &ExperimentStatus) -> bool {
    let key = |status: &ExperimentStatus| {
        (
            status.phase.clone(),
            status.winner.clone(),
            status.verdict.clone(),
            status.verdict_variant.clone(),
            status.observed_generation,
            standing::marks(status),
        )
    };
    key(before) == key(after)
}

fn status_of(experiment: &Value) -> ExperimentStatus {
    let status = experiment.get("status").cloned().unwrap_or_default();
    serde_json::from_value(status).unwrap_or_default()
}
