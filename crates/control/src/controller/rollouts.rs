//! Rollouts: looks at every one whenever something may have changed, tells the services what share their newest revision gets, and shows
//! how they stand.
//!
//! Expected flow: [`Controller::due_rollouts`] in every round, before the services are reconciled. Guarantees: a new revision of a service with a
//! rollout gets no request before the rollout says so; a control process that is started anew goes on in the middle of a stage, with evidence
//! that is two seconds old at most. Caveat: a rollout that is deleted leaves its service as if there had never been one: the newest revision
//! takes all requests (unless the service asks for one by annotation: `inline`). The rules are in `course` and [`coracle_policy::rollout`].

mod command;
mod course;
mod inline;
mod metrics;
mod queries;
mod spec;
mod totals;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use coracle_api::kind::{INFERENCE_SERVICE, ROLLOUT};
use coracle_api::rollout::{RolloutSpec, RolloutStatus};
use coracle_api::status::Condition;
use coracle_api::structural::Cause;
use coracle_policy::rollout::QueryLook;
use coracle_serving::experiment::{BookId, StageSummary};
use coracle_serving::{RevisionId, ServiceId};
use serde_json::Value;

use super::conditions::{Conditions, Verdict};
use super::events::{self, Happened};
use super::faults;
use super::revisions::{self, STABLE};
use super::{Controller, seldon, service};
use crate::object;
use crate::rest::rfc3339;
use crate::store::{Key, Store, Stored, Write};
use crate::usage::LoadQueue;

use command::{COMMAND, Command};
pub(crate) use course::Course;
use course::{REFUSED, Seen, WAITING};
pub(crate) use inline::read as read_inline;
pub use queries::QueryBoard;
pub(crate) use queries::{Asking, QueryKey};
pub(crate) use totals::Watched;

/// The condition that tells whether a rollout decides about its service.
const ACCEPTED: &str = "Accepted";
/// The condition that tells whether the last command had its effect.
const COMMAND_TAKEN: &str = "CommandTaken";
/// How often rollouts under way are looked at, if nothing else happens.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often numbers that drift are written.
const SHOW_EVERY: Duration = Duration::from_secs(2);
/// How often it is written how long a stage has lasted, where nothing else changes: well within what a restart makes up for.
const LASTED_EVERY: Duration = Duration::from_secs(30);

/// Every rollout, by its service.
#[derive(Debug, Default)]
pub(crate) struct Rollouts {
    entries: BTreeMap<ServiceId, Entry>,
    /// Whether the steps that services ask for by annotation are in force.
    inline: inline::Standings,
    /// What is to be asked elsewhere, while all are looked at.
    asking: BTreeMap<QueryKey, Asking>,
}

#[derive(Debug)]
struct Entry {
    /// The uid of the object, and its name.
    uid: String,
    name: String,
    course: Course,
    /// The command that is done, until it is removed.
    done: Option<String>,
    /// When the status was written last, on the monotonic clock.
    shown_at: Duration,
}

impl Rollouts {
    /// Returns the rollout of a service.
    pub(crate) fn of(&self, service: &ServiceId) -> Option<&Course> {
        self.entries.get(service).map(|entry| &entry.course)
    }

    /// Tells whether the steps that a service asks for by annotation are in force; `None` if it asks for none.
    pub(crate) fn steps_of(&self, service: &ServiceId) -> Option<&Verdict> {
        self.inline.get(service)
    }

    /// Notes that the status of a service's rollout was written, and with it the command removed: the next one is another one.
    pub(super) fn note_written(&mut self, service: &ServiceId, rollout: &str) {
        if let Some(entry) = self.entries.get_mut(service)
            && entry.name == rollout
        {
            entry.done = None;
        }
    }

    /// Returns how long it is to the next look; `None` if nothing changes by itself.
    pub(crate) fn next_look(&self) -> Option<Duration> {
        let mut entries = self.entries.values();
        entries
            .any(|entry| entry.course.is_under_way())
            .then_some(LOOK_EVERY)
    }
}

/// Checks the spec of a Rollout, and its name; of one that was there as `old`, only a spec that says another thing, but for whether it is paused.
///
/// # Errors
/// Says which fields have which values, and what is allowed.
pub(crate) fn check(old: Option<&Value>, rollout: &Value) -> Result<(), Vec<Cause>> {
    faults::check_changed(old, rollout, Some("paused"), || {
        // One that cannot be read was refused by its schema.
        let read = read_spec(rollout).map(|spec| spec::read(&spec));
        read.and_then(Result::err)
    })
}

/// Checks the command of a Rollout; `old` is what it was before.
///
/// # Errors
/// Says what is wrong with it.
pub(crate) fn check_command(old: Option<&Value>, rollout: &Value) -> Result<(), String> {
    command::check(old, rollout)
}

/// Checks that a patch of a Rollout brings no command while there is one.
///
/// # Errors
/// Says which one is not done yet.
pub(crate) fn check_patch(live: &Value, patch: &Value) -> Result<(), String> {
    command::check_patch(live, patch)
}

fn read_spec(rollout: &Value) -> Option<RolloutSpec> {
    serde_json::from_value(rollout.get("spec")?.clone()).ok()
}

/// A rollout with the service that it is about.
struct About {
    rollout: Arc<Stored>,
    spec: RolloutSpec,
    /// Null if there is none.
    service: Value,
    /// Says that there is none, if so.
    missing: String,
    id: ServiceId,
}

impl About {
    fn wanted(&self) -> Result<spec::Wanted, Vec<Cause>> {
        spec::read_split_by(&self.spec, service::sticky(&self.service))
    }

    /// Returns the revision that serves, and the newest one.
    fn revisions(&self, store: &Store) -> (Option<String>, Option<String>) {
        let component = service::status_of(&self.service).components;
        let component = component.and_then(|components| components.predictor);
        let all = revisions::of(store, &self.service);
        (
            component.and_then(|component| component.latest_rolledout_revision),
            revisions::newest(&all, STABLE).map(|revision| revision.name.clone()),
        )
    }

    /// Tells whether there is what it decides about.
    fn accepted(&self) -> Verdict {
        match self.service.is_null() {
            true => Verdict::no("NoService", self.missing.clone()),
            false => Verdict::True,
        }
    }

    /// Returns what orders rollouts by age; those of the same second by name.
    fn age(&self) -> (&str, &str) {
        let rollout = &self.rollout.object;
        (
            object::meta_str(rollout, "creationTimestamp"),
            object::name(rollout),
        )
    }
}

/// Returns the conditions of a rollout that decides about its service; `command` is there if there was one, with why it was refused, if it was.
fn conditions_of(
    about: &About,
    (before, now): (&[Condition], &str),
    command: Option<Option<&str>>,
) -> Vec<Condition> {
    let mut conditions = Conditions::new(before, now);
    conditions.add(ACCEPTED, &about.accepted());
    keep_command(&mut conditions, before, command);
    conditions.finish()
}

/// Tells of a rollout that decides about its service no longer, or again.
fn acceptance(about: &About, before: &[Condition], now: &Verdict) -> Option<Happened> {
    let before = before.iter().find(|one| one.condition_type == ACCEPTED);
    let reason = before.and_then(|before| before.reason.as_deref());
    let happened = |is_warning, reason, message| Happened {
        is_warning,
        reason,
        message,
    };
    match now {
        Verdict::False { reason: now, .. } if reason == Some(now) => None,
        Verdict::False { message, .. } => {
            Some(happened(true, "RolloutNotAccepted", message.clone()))
        }
        _ if reason.is_none() => None,
        _ => {
            let message = format!("it decides about {} now", about.id);
            Some(happened(false, "RolloutAccepted", message))
        }
    }
}

/// Tells of a rollout whose service has gone or come, and says in its status that there is none.
fn note_acceptance(
    about: &About,
    before: &RolloutStatus,
    status: &mut RolloutStatus,
) -> Option<Happened> {
    if about.service.is_null() {
        status.message.clone_from(&about.missing);
    }
    acceptance(about, &before.conditions, &about.accepted())
}

/// Adds what became of the last command.
fn keep_command(
    conditions: &mut Conditions<'_>,
    before: &[Condition],
    command: Option<Option<&str>>,
) {
    let refused = |message: &str| Verdict::no("NoEffect", message);
    match command {
        Some(Some(message)) => conditions.add_info(COMMAND_TAKEN, &refused(message)),
        Some(None) => conditions.add_info(COMMAND_TAKEN, &Verdict::True),
        None => {
            let before = before
                .iter()
                .find(|one| one.condition_type == COMMAND_TAKEN);
            let Some(before) = before else { return };
            let message = before.message.as_deref().unwrap_or_default();
            let verdict = match before.status.as_str() {
                "True" => Verdict::True,
                _ => refused(message),
            };
            conditions.add_info(COMMAND_TAKEN, &verdict);
        }
    }
}

impl Controller {
    /// Looks at every rollout; returns the services whose split it concerns.
    pub(super) fn due_rollouts(&mut self) -> BTreeSet<ServiceId> {
        let mut services = self.due_inline_rollouts();
        let (stored, _) = self.store.list(&ROLLOUT, None);
        let mut there = BTreeSet::new();
        let mut watched = BTreeSet::new();
        self.rollouts.asking.clear();
        let abouts = stored.into_iter().filter_map(|rollout| self.about(rollout));
        let mut abouts: Vec<About> = abouts.collect();
        // The oldest decides.
        abouts.sort_by(|one, other| one.age().cmp(&other.age()));
        for (index, about) in abouts.iter().enumerate() {
            if there.insert(about.id.clone()) {
                match about.wanted() {
                    Ok(wanted) => self.look_at((about, &wanted), &mut watched, &mut services),
                    Err(causes) => {
                        services.extend(self.hold(about, &causes).then(|| about.id.clone()));
                    }
                }
                continue;
            }
            let decides = abouts.iter().take(index).find(|other| other.id == about.id);
            if let Some(decides) = decides {
                self.turn_down(about, object::name(&decides.rollout.object));
            }
        }
        let gone = self.rollouts.entries.keys();
        services.extend(gone.filter(|id| !there.contains(id)).cloned());
        self.rollouts.entries.retain(|id, _| there.contains(id));
        self.config.loads.watched().watch(&watched);
        let asking = std::mem::take(&mut self.rollouts.asking);
        self.config.queries.want(asking, self.clock.monotonic());
        services
    }

    fn about(&self, rollout: Arc<Stored>) -> Option<About> {
        if object::is_terminating(&rollout.object) {
            return None;
        }
        let spec = read_spec(&rollout.object)?;
        let id = ServiceId {
            namespace: rollout.key.namespace().to_owned(),
            name: spec.inference_service.clone(),
        };
        let key = Key::new(&INFERENCE_SERVICE, &id.namespace, &id.name);
        let service = self.store.get(&key).map(|stored| stored.object.clone());
        let missing = match service {
            Some(_) => String::new(),
            None => format!(
                "{}; apply it, or let spec.inferenceService name another one",
                seldon::no_service(&self.store, &id.namespace, &id.name)
            ),
        };
        Some(About {
            rollout,
            spec,
            missing,
            service: service.unwrap_or_default(),
            id,
        })
    }

    /// Shows that another rollout decides about the service.
    fn turn_down(&mut self, about: &About, other: &str) {
        let shown = status_of(&about.rollout.object);
        let message = format!(
            "Rollout {other}, which is older, decides about {}; delete one of them",
            about.id
        );
        let now = rfc3339(self.clock.unix_time());
        let mut conditions = Conditions::new(&shown.conditions, &now);
        let accepted = Verdict::no("AnotherRollout", message.clone());
        let happened = acceptance(about, &shown.conditions, &accepted);
        self.record_rollout(about, happened.as_slice());
        conditions.add(ACCEPTED, &accepted);
        let command = object::text(&about.rollout.object, "annotations", COMMAND);
        keep_command(
            &mut conditions,
            &shown.conditions,
            command.map(|_| Some(message.as_str())),
        );
        let status = RolloutStatus {
            phase: WAITING.to_owned(),
            message,
            conditions: conditions.finish(),
            observed_generation: Some(object::generation(&about.rollout.object)),
            ..RolloutStatus::default()
        };
        if shown != status || command.is_some() {
            self.write_rollout(about, &status);
        }
    }

    fn look_at(
        &mut self,
        (about, wanted): (&About, &spec::Wanted),
        watched: &mut BTreeSet<RevisionId>,
        services: &mut BTreeSet<ServiceId>,
    ) {
        let (stable, newest) = about.revisions(&self.store);
        let revision = |name: &Option<String>| {
            name.as_ref().map(|name| RevisionId {
                namespace: about.id.namespace.clone(),
                name: name.clone(),
            })
        };
        let ids = (revision(&stable), revision(&newest));
        watched.extend([&ids.0, &ids.1].into_iter().flatten().cloned());
        let totals = |id: &Option<RevisionId>| {
            let watched = self.config.loads.watched();
            id.as_ref().map(|id| watched.of(id)).unwrap_or_default()
        };
        let refusal = service::refusal(&about.service);
        let states = &self.last_observed.revisions;
        let state = |id: &Option<RevisionId>| id.as_ref().and_then(|id| states.get(id));
        let has_program = [&ids.0, &ids.1].into_iter().flatten().any(|id| {
            let planned = self.plan.revisions.get(id);
            planned.is_some_and(|planned| planned.source.process.is_some())
        });
        let command = object::text(&about.rollout.object, "annotations", COMMAND);
        let entry = entry(&mut self.rollouts, about);
        let is_new = command.is_some_and(|command| entry.done.as_deref() != Some(command));
        let stage = told_of_stage(&self.config.loads, about, newest.as_deref());
        let looks = answers(&self.config.queries, &entry.course, &about.id);
        let seen = Seen {
            wanted,
            is_paused: about.spec.paused == Some(true),
            is_stopped: service::is_stopped(&about.service),
            command: command.filter(|_| is_new).and_then(Command::find),
            stable: stable.as_deref(),
            newest: newest.as_deref(),
            newest_state: state(&ids.1),
            stable_state: state(&ids.0),
            refusal: refusal.as_deref(),
            is_split_by_hand: is_split_by_hand(&about.service),
            stable_totals: totals(&ids.0),
            newest_totals: totals(&ids.1),
            stage: stage.as_ref(),
            looks,
            has_program,
            now: self.clock.unix_time(),
            monotonic: self.clock.monotonic(),
        };
        let before = entry.course.status.clone();
        let book_before = entry.course.book.take();
        let mut happened = entry.course.look(&seen);
        happened.extend(note_acceptance(about, &before, &mut entry.course.status));
        entry.course.book = entry.course.planned_book(&seen, &about.rollout.object);
        let asking = entry.course.asking(&seen, &about.id);
        entry.done = command.map(str::to_owned);
        let refused = happened.iter().find(|event| event.reason == REFUSED);
        let refused = refused.map(|event| event.message.as_str());
        let now = rfc3339(seen.now);
        let conditions = &before.conditions;
        entry.course.status.conditions =
            conditions_of(about, (conditions, &now), seen.command.map(|_| refused));
        entry.course.status.observed_generation = Some(object::generation(&about.rollout.object));
        let after = &entry.course.status;
        if (&before.phase, before.percent, &before.canary_revision)
            != (&after.phase, after.percent, &after.canary_revision)
            || book_before != entry.course.book
        {
            services.insert(about.id.clone());
        }
        self.rollouts.asking.extend(asking);
        self.show(about, !happened.is_empty());
        self.record_rollout(about, &happened);
    }

    /// Lets no new revision have requests, since the spec says nothing that can be: one that was stored while it could. Tells whether shares change by that.
    fn hold(&mut self, about: &About, causes: &[Cause]) -> bool {
        let (unix_time, monotonic) = (self.clock.unix_time(), self.clock.monotonic());
        let now = rfc3339(unix_time);
        let course = &mut entry(&mut self.rollouts, about).course;
        // No stage goes on meanwhile, and no deadline.
        course.skip_time(unix_time, monotonic);
        let status = &mut course.status;
        let why = format!("spec cannot be: {}", faults::text(causes));
        let before = status.phase.clone();
        // Of what is over it is kept how it went: nobody says so again.
        if !matches!(before.as_str(), course::PROMOTED | course::ROLLED_BACK) {
            WAITING.clone_into(&mut status.phase);
            status.message.clone_from(&why);
        }
        let is_other = status.phase != before;
        let verdict = Verdict::no("InvalidSpec", &*why);
        let happened = acceptance(about, &status.conditions, &verdict);
        let shown = std::mem::take(&mut status.conditions);
        let mut conditions = Conditions::new(&shown, &now);
        conditions.add(ACCEPTED, &verdict);
        let command = object::text(&about.rollout.object, "annotations", COMMAND);
        keep_command(&mut conditions, &shown, command.map(|_| Some(&*why)));
        status.conditions = conditions.finish();
        status.observed_generation = Some(object::generation(&about.rollout.object));
        self.show(about, happened.is_some());
        self.record_rollout(about, happened.as_slice());
        is_other
    }

    /// Writes the status, if it is another one than is shown: at once if something happened, else every now and then.
    fn show(&mut self, about: &About, has_happened: bool) {
        let now = self.clock.monotonic();
        let Some(entry) = self.rollouts.entries.get_mut(&about.id) else {
            return;
        };
        let shown = status_of(&about.rollout.object);
        let status = &entry.course.status;
        let every = shown_every(&shown, status);
        let has_command = object::text(&about.rollout.object, "annotations", COMMAND).is_some();
        let drifts_only = (&shown.phase, shown.percent, &shown.canary_revision)
            == (&status.phase, status.percent, &status.canary_revision)
            && shown.conditions == status.conditions
            && shown.observed_generation == status.observed_generation
            && !is_other_wait(&shown.message, &status.message)
            && !has_happened
            && !has_command;
        let is_early = |every| drifts_only && now < entry.shown_at + every;
        if every.map_or(!has_command, is_early) {
            return;
        }
        entry.shown_at = now;
        let status = status.clone();
        self.write_rollout(about, &status);
    }

    /// Writes a status; with it goes the command, which is done.
    fn write_rollout(&mut self, about: &About, status: &RolloutStatus) {
        let mut object = about.rollout.object.clone();
        object["status"] = serde_json::to_value(status).unwrap_or_default();
        let metadata = object::metadata_mut(&mut object);
        if let Some(annotations) = metadata
            .get_mut("annotations")
            .and_then(Value::as_object_mut)
        {
            annotations.remove(COMMAND);
        }
        let write = Write::Update {
            key: about.rollout.key.clone(),
            expected: about.rollout.version,
            object,
        };
        self.pending.push((about.id.clone(), write));
    }

    /// Writes what happened as events of the rollout and of its service.
    fn record_rollout(&mut self, about: &About, happened: &[Happened]) {
        for event in happened {
            let (reason, message) = (event.reason, &event.message);
            self.record_for(&about.id, event.event_type(), reason, message);
            self.record_about(&about.id, (&ROLLOUT, &about.rollout.object), event);
        }
    }
}

/// Returns what the serving process has told of the stage of a trial of `canary`.
fn told_of_stage(loads: &LoadQueue, about: &About, canary: Option<&str>) -> Option<StageSummary> {
    let rollout = &about.rollout.object;
    let book = metrics::book_name(object::name(rollout));
    let summary = loads.experiment(&about.id.namespace, &book)?;
    let uid = metrics::book_uid(object::meta_str(rollout, "uid"), canary?);
    summary.stage.filter(|_| summary.uid == uid)
}

/// Returns what was answered since the last look, of the stage that a rollout is in.
fn answers(queries: &QueryBoard, course: &Course, service: &ServiceId) -> Vec<(usize, QueryLook)> {
    let Some(since_ms) = course.stage_since_ms() else {
        return Vec::new();
    };
    let taken = |place| {
        let service = service.clone();
        let key = QueryKey {
            service,
            since_ms,
            place,
        };
        Some((place, queries.take(&key)?))
    };
    (0..metrics::METRICS_MAX).filter_map(taken).collect()
}

/// Returns the name of the Rollout whose status a write is.
pub(super) fn shown_by(write: &Write) -> Option<String> {
    match write {
        Write::Update { key, .. } if key.is_of(&ROLLOUT) => Some(key.name().to_owned()),
        _ => None,
    }
}

/// Returns the entry of a rollout; one that is new goes on from its status.
fn entry<'a>(rollouts: &'a mut Rollouts, about: &About) -> &'a mut Entry {
    let uid = object::meta_str(&about.rollout.object, "uid");
    let new = || Entry {
        uid: uid.to_owned(),
        name: object::name(&about.rollout.object).to_owned(),
        course: Course::new(status_of(&about.rollout.object)),
        done: None,
        shown_at: Duration::ZERO,
    };
    let entry = rollouts.entries.entry(about.id.clone()).or_insert_with(new);
    if entry.uid != uid {
        *entry = new();
    }
    entry
}

/// Returns what the book of a rollout's canary is kept by; `None` without one, or once it is over: one that is tried again begins anew.
pub(super) fn book_under_way(rollout: &Value) -> Option<BookId> {
    let status = status_of(rollout);
    let canary = status.canary_revision.as_deref()?;
    let is_over = matches!(
        status.phase.as_str(),
        course::PROMOTED | course::ROLLED_BACK
    );
    let (name, uid) = (object::name(rollout), object::meta_str(rollout, "uid"));
    (!is_over).then(|| BookId {
        namespace: object::namespace(rollout).to_owned(),
        name: metrics::book_name(name),
        uid: metrics::book_uid(uid, canary),
        salt: name.to_owned(),
    })
}

fn status_of(rollout: &Value) -> RolloutStatus {
    let status = rollout.get("status").cloned().unwrap_or_default();
    serde_json::from_value(status).unwrap_or_default()
}

/// Returns how often a status that has changed is written where numbers drift only; `None` if it need not be.
fn shown_every(shown: &RolloutStatus, status: &RolloutStatus) -> Option<Duration> {
    let mut but_for_time = shown.clone();
    but_for_time.canary_lasted_ms = status.canary_lasted_ms;
    if let (Some(shown), Some(progress)) = (&mut but_for_time.progress, &status.progress) {
        shown.lasted_ms = progress.lasted_ms;
    }
    if but_for_time != *status {
        return Some(SHOW_EVERY);
    }
    // A stage that is paused has no need to know.
    let lasts = shown != status && status.phase == course::PROGRESSING;
    lasts.then_some(LASTED_EVERY)
}

/// Tells whether a message says that something is waited for that was not before, or is not waited for any more.
fn is_other_wait(shown: &str, message: &str) -> bool {
    let is_wait = |message: &str| message.contains(course::WAITS);
    (is_wait(shown) || is_wait(message)) && !events::are_same_words(shown, message)
}

fn is_split_by_hand(service: &Value) -> bool {
    let fields = [
        "/spec/predictor/canaryTrafficPercent",
        "/spec/predictor/canary",
        "/spec/canary",
    ];
    fields
        .iter()
        .any(|field| service.pointer(field).is_some_and(|value| !value.is_null()))
}

#[cfg(test)]
mod tests;
