//! Events: what happened to objects, for people. Written at the end of a round with all else that it puts off.
//!
//! Guarantees: no two events have the same name, be they of one round, so that none is lost; of each object the newest [`EVENTS_MAX`] are kept, and
//! none of an object that is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use coracle_api::Kind;
use coracle_api::kind::{EVENT, EXPERIMENT, INFERENCE_SERVICE, ROLLOUT, SELDON_DEPLOYMENT};
use coracle_serving::ServiceId;
use serde_json::{Value, json};

use super::{Controller, Readiness};
use crate::object;
use crate::rest::rfc3339;
use crate::store::{Key, Stored, Write};

/// The most events that are kept of an object.
pub(super) const EVENTS_MAX: usize = 30;
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
        let now = rfc3339(self.clock.unix_time());
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
            "source": {"component": "coracle"}
        });
        let key = Key::new(&EVENT, namespace, &name);
        self.pending
            .push((id.clone(), Write::Create { key, object }));
    }

    /// Puts off that the oldest events are forgotten of every object that has new ones.
    pub(super) fn prune_events(&mut self) {
        let mut n_new: BTreeMap<Involved, usize> = BTreeMap::new();
        for (_, write) in &self.pending {
            if let Write::Create { key, object } = write
                && key.is_of(&EVENT)
            {
                *n_new.entry(involved(object)).or_default() += 1;
            }
        }
        let namespaces: BTreeSet<String> = n_new.keys().map(|(_, one, _)| one.clone()).collect();
        let mut old: BTreeMap<Involved, Vec<Arc<Stored>>> = BTreeMap::new();
        for namespace in &namespaces {
            for event in self.store.list(&EVENT, Some(namespace)).0 {
                let about = involved(&event.object);
                if n_new.contains_key(&about) {
                    old.entry(about).or_default().push(event);
                }
            }
        }
        for (about, mut events) in old {
            events.sort_by_key(|stored| stored.version);
            let n = events.len() + n_new.get(&about).copied().unwrap_or_default();
            let surplus = events.iter().take(n.saturating_sub(EVENTS_MAX));
            let surplus: Vec<Arc<Stored>> = surplus.cloned().collect();
            self.forget_events(&about, &surplus);
        }
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
