//! Events: what happened to objects, for people. Written at the end of a round with all else that it puts off.
//!
//! Guarantees: no two events have the same name, be they of one round, so that none is lost; what happens to an object again within
//! [`AGAIN_WITHIN`] is told by the event that told it before, which counts it, as Kubernetes' recorder does, so that nothing that comes and goes pushes
//! all else out; of each object the newest [`EVENTS_MAX`] are kept, and none of an object that is gone.

mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use coracle_api::Kind;
use coracle_api::kind::{EVENT, EXPERIMENT, INFERENCE_SERVICE, ROLLOUT, SELDON_DEPLOYMENT};
use coracle_serving::ServiceId;
use serde_json::{Value, json};

pub(super) use self::words::are_same_words;
use super::{Controller, Readiness};
use crate::object;
use crate::rest::rfc3339;
use crate::store::{Key, StoreError, Stored, Write};

/// The most events that are kept of an object.
pub(super) const EVENTS_MAX: usize = 30;
/// How long after the last time something that happens again is counted by its event.
const AGAIN_WITHIN: Duration = Duration::from_secs(600);
/// Who writes the events.
const COMPONENT: &str = "coracle";
/// The kinds of objects that events are about.
const KINDS: [&Kind; 4] = [
    &INFERENCE_SERVICE,
    &ROLLOUT,
    &EXPERIMENT,
    &SELDON_DEPLOYMENT,
];

/// Something that people are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Happened {
    pub(crate) is_warning: bool,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Happened {
    /// Returns the type of its event.
    pub(crate) fn event_type(&self) -> &'static str {
        match self.is_warning {
            true => "Warning",
            false => "Normal",
        }
    }
}

/// The kind, namespace and name of the object that an event is about.
type Involved = (String, String, String);
/// What a round knows of events, by what they are about.
#[derive(Default)]
pub(super) struct Known {
    /// Those that were there when it looked first, of each namespace that it looked at.
    there: BTreeMap<String, BTreeMap<Involved, Vec<Arc<Stored>>>>,
    /// Where they are in what it has put off, which only grows.
    put_off: BTreeMap<Involved, Vec<usize>>,
}

fn involved(event: &Value) -> Involved {
    let field = |name: &str| {
        let text = object::at(event, &["involvedObject", name]).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    (field("kind"), field("namespace"), field("name"))
}

/// Tells whether a kind's objects have events that go with them.
pub(super) fn is_told_of(key: &Key) -> bool {
    KINDS.iter().any(|kind| key.is_of(kind))
}

impl Controller {
    /// Writes an event about a service, if it is still there.
    pub(super) fn record_for(
        &mut self,
        id: &ServiceId,
        event_type: &str,
        reason: &str,
        message: &str,
    ) {
        let key = Key::new(&INFERENCE_SERVICE, &id.namespace, &id.name);
        if let Some(stored) = self.store.get(&key) {
            self.record(id, &stored.object, event_type, reason, message);
        }
    }

    /// Warns of a service, or, where there is none of the name, of the SeldonDeployment that is a graph.
    pub(super) fn warn_of(&mut self, id: &ServiceId, reason: &'static str, message: String) {
        let key = |kind| Key::new(kind, &id.namespace, &id.name);
        if self.store.get(&key(&INFERENCE_SERVICE)).is_some() {
            return self.record_for(id, "Warning", reason, &message);
        }
        if let Some(deployment) = self.store.get(&key(&SELDON_DEPLOYMENT)) {
            let happened = Happened {
                is_warning: true,
                reason,
                message,
            };
            self.record_about(id, (&SELDON_DEPLOYMENT, &deployment.object), &happened);
        }
    }

    /// Writes an event about a service, and reports it.
    pub(super) fn record(
        &mut self,
        id: &ServiceId,
        service: &Value,
        event_type: &str,
        reason: &str,
        message: &str,
    ) {
        let readiness = match event_type {
            "Normal" => Readiness::Ready,
            _ => Readiness::NotReady,
        };
        let report = format!(
            "{}/{}: {message}",
            object::namespace(service),
            object::name(service)
        );
        (self.config.report)(readiness, &report);
        let about = (&INFERENCE_SERVICE, service);
        self.put_off_event(id, about, (event_type, reason, message));
    }

    /// Writes an event about an object of a service.
    pub(super) fn record_about(
        &mut self,
        id: &ServiceId,
        about: (&Kind, &Value),
        happened: &Happened,
    ) {
        let words = (happened.event_type(), happened.reason, &*happened.message);
        self.put_off_event(id, about, words);
    }

    fn put_off_event(
        &mut self,
        id: &ServiceId,
        (kind, about): (&Kind, &Value),
        (event_type, reason, message): (&str, &str, &str),
    ) {
        let unix_time = self.clock.unix_time();
        let now = rfc3339(unix_time);
        let namespace = object::namespace(about);
        // A round writes at one version; what it has put off only grows.
        let (version, index) = (self.store.version(), self.pending.len());
        let name = format!("{}.{version:016x}{index:04x}", object::name(about));
        let object = json!({
            "apiVersion": "v1",
            "kind": EVENT.kind,
            "metadata": {"name": name, "namespace": namespace, "uid": uuid::Uuid::new_v4().to_string(), "creationTimestamp": now},
            "involvedObject": {
                "apiVersion": kind.api_version(),
                "kind": kind.kind,
                "name": object::name(about),
                "namespace": namespace,
                "uid": object::meta_str(about, "uid"),
                "resourceVersion": object::meta_str(about, "resourceVersion")
            },
            "type": event_type,
            "reason": reason,
            "message": message,
            "count": 1,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "source": {"component": COMPONENT}
        });
        let about = involved(&object);
        if self.count_put_off(&about, &object, unix_time) {
            return;
        }
        let write = self.counted_again(&about, &object, unix_time);
        let write = write.unwrap_or_else(|| Write::Create {
            key: Key::new(&EVENT, namespace, &name),
            object,
        });
        let put_off = &mut self.known_events.put_off;
        put_off.entry(about).or_default().push(index);
        self.pending.push((id.clone(), write));
    }

    /// Lets the last event of this round that tells the same count it once more; tells whether there is one.
    fn count_put_off(&mut self, about: &Involved, new: &Value, unix_time: Duration) -> bool {
        let places = self.known_events.put_off.get(about).into_iter().flatten();
        for place in places.rev() {
            if let Some((_, Write::Create { object, .. } | Write::Update { object, .. })) =
                self.pending.get_mut(*place)
                && is_counted(object, new, unix_time)
            {
                count(object, new);
                return true;
            }
        }
        false
    }

    /// Returns the write by which the last event before this round that tells the same counts it once more, if there is one.
    fn counted_again(
        &mut self,
        about: &Involved,
        new: &Value,
        unix_time: Duration,
    ) -> Option<Write> {
        let events = self.known_events(about).iter();
        let same = events.filter(|event| is_counted(&event.object, new, unix_time));
        let last = same.max_by_key(|event| event.version)?;
        let mut object = last.object.clone();
        count(&mut object, new);
        Some(Write::Update {
            key: last.key.clone(),
            expected: last.version,
            object,
        })
    }

    /// Writes an event that was to be counted once more, and that somebody has deleted or changed since this round looked.
    pub(super) fn write_event_again(
        &self,
        key: &Key,
        mut object: Value,
    ) -> Result<Arc<Stored>, StoreError> {
        let Some(there) = self.store.get(key) else {
            let uid = uuid::Uuid::new_v4().to_string();
            object::metadata_mut(&mut object).insert("uid".to_owned(), uid.into());
            return self.store.create(key.clone(), object);
        };
        let mut again = there.object.clone();
        for field in ["count", "lastTimestamp", "message"] {
            again[field] = object[field].take();
        }
        self.store.update(key, there.version, again)
    }

    /// Returns the events of an object that were there when this round looked first.
    fn known_events(&mut self, about: &Involved) -> &[Arc<Stored>] {
        let store = &self.store;
        let of_namespace = self.known_events.there.entry(about.1.clone());
        let of_namespace = of_namespace.or_insert_with_key(|namespace| {
            let mut known: BTreeMap<Involved, Vec<Arc<Stored>>> = BTreeMap::new();
            for event in store.list(&EVENT, Some(namespace)).0 {
                known
                    .entry(involved(&event.object))
                    .or_default()
                    .push(event);
            }
            known
        });
        of_namespace.get(about).map_or(&[], Vec::as_slice)
    }

    /// Puts off that the oldest events are forgotten of every object that has new ones.
    pub(super) fn prune_events(&mut self) {
        let mut n_new: BTreeMap<Involved, usize> = BTreeMap::new();
        let mut counted: BTreeSet<Key> = BTreeSet::new();
        for (_, write) in &self.pending {
            match write {
                Write::Create { key, object } if key.is_of(&EVENT) => {
                    *n_new.entry(involved(object)).or_default() += 1;
                }
                Write::Update { key, .. } if key.is_of(&EVENT) => {
                    counted.insert(key.clone());
                }
                _ => {}
            }
        }
        for (about, n_new) in n_new {
            let mut events = self.known_events(&about).to_vec();
            // What is counted again is among the newest from now on.
            events.sort_by_key(|stored| (counted.contains(&stored.key), stored.version));
            let n = events.len() + n_new;
            let surplus = events.iter().take(n.saturating_sub(EVENTS_MAX));
            let surplus: Vec<Arc<Stored>> = surplus.cloned().collect();
            self.forget_events(&about, &surplus);
        }
        self.known_events = Known::default();
    }

    /// Puts off that the events of objects that are gone go, too.
    pub(super) fn drop_events_of_gone(&mut self) {
        let (events, _) = self.store.list(&EVENT, None);
        for event in events {
            let about = involved(&event.object);
            let Some(kind) = KINDS.iter().find(|kind| kind.kind == about.0) else {
                continue;
            };
            let there = self.store.get(&Key::new(kind, &about.1, &about.2));
            let uid = object::at(&event.object, &["involvedObject", "uid"]);
            let uid = uid.and_then(Value::as_str).unwrap_or_default();
            if there.is_none_or(|stored| object::meta_str(&stored.object, "uid") != uid) {
                self.forget_events(&about, &[event]);
            }
        }
    }

    fn forget_events(&mut self, about: &Involved, events: &[Arc<Stored>]) {
        let (_, namespace, name) = about.clone();
        let id = ServiceId { namespace, name };
        let deletions = events.iter().map(|event| super::deletion(event));
        self.pending
            .extend(deletions.map(|deletion| (id.clone(), deletion)));
    }
}

/// Tells whether an event counts what a new one tells.
fn is_counted(event: &Value, new: &Value, unix_time: Duration) -> bool {
    is_same(event, new) && is_recent(event, unix_time)
}

/// Tells whether an event of this process tells what a new one does. What goes wrong again and again tells so with other numbers, such as how often
/// it has been started.
fn is_same(event: &Value, new: &Value) -> bool {
    let is_own = object::at(event, &["source", "component"]).is_some_and(|one| one == COMPONENT);
    let fields = ["type", "reason"];
    if !is_own
        || uid(event) != uid(new)
        || fields
            .iter()
            .any(|field| event.get(field) != new.get(field))
    {
        return false;
    }
    let (before, now) = (text(event, "message"), text(new, "message"));
    before == now || text(new, "type") == "Warning" && are_same_words(before, now)
}

fn uid(event: &Value) -> Option<&Value> {
    object::at(event, &["involvedObject", "uid"])
}

fn text<'a>(event: &'a Value, field: &str) -> &'a str {
    let text = event.get(field).and_then(Value::as_str);
    text.unwrap_or_default()
}

/// Tells whether an event was counted last a short while ago.
fn is_recent(event: &Value, unix_time: Duration) -> bool {
    let last = event.get("lastTimestamp").and_then(Value::as_str);
    let last = last.and_then(|text| humantime::parse_rfc3339(text).ok());
    let last = last.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    last.is_some_and(|last| unix_time.saturating_sub(last) < AGAIN_WITHIN)
}

/// Counts by an event what a new one would tell.
fn count(event: &mut Value, new: &Value) {
    let n_before = event.get("count").and_then(Value::as_u64).unwrap_or(1);
    event["count"] = n_before.saturating_add(1).into();
    for field in ["lastTimestamp", "message"] {
        event[field] = new.get(field).cloned().unwrap_or_default();
    }
}

#[cfg(test)]
mod tests;
