//! What a round of the controller puts off: its writes, made with one wait for the disk.

use std::collections::BTreeSet;
use std::sync::Arc;

use coracle_api::kind::{EVENT, Kind};
use coracle_serving::ServiceId;
use serde_json::Value;

use super::{Controller, experiments, rollouts};
use crate::object;
use crate::store::{Key, StoreError, Stored, Write};

impl Controller {
    /// Writes what the round has put off, with one wait for the disk; returns the services of what failed.
    pub(super) fn write_pending(&mut self) -> BTreeSet<ServiceId> {
        self.prune_events();
        if std::mem::take(&mut self.is_any_gone) {
            self.drop_events_of_gone();
        }
        let (services, writes): (Vec<ServiceId>, Vec<Write>) =
            std::mem::take(&mut self.pending).into_iter().unzip();
        if writes.is_empty() {
            return BTreeSet::new();
        }
        let rollouts: Vec<Option<String>> = writes.iter().map(rollouts::shown_by).collect();
        let experiments: Vec<bool> = writes.iter().map(experiments::is_shown_by).collect();
        let creates: Vec<bool> = writes
            .iter()
            .map(|write| matches!(write, Write::Create { .. }))
            .collect();
        let counted: Vec<Option<(Key, Value)>> = writes.iter().map(counted_event).collect();
        let results = self.store.write_all(writes).into_iter().zip(counted);
        let results = results.map(|(result, counted)| match (result, counted) {
            (Err(StoreError::NotFound | StoreError::Conflict), Some((key, event))) => {
                self.write_event_again(&key, event)
            }
            (result, _) => result,
        });
        let results: Vec<Result<Arc<Stored>, StoreError>> = results.collect();
        let mut failed = BTreeSet::new();
        let shown = rollouts.into_iter().zip(experiments).zip(creates);
        for ((service, ((rollout, is_experiment), is_new)), result) in
            services.into_iter().zip(shown).zip(results)
        {
            if let Ok(stored) = &result
                && is_new
                && self.has_lost_its_controller(stored)
            {
                // Who deleted that had not seen this one yet.
                drop(self.store.delete_whatever(&stored.key));
                failed.insert(service);
                continue;
            }
            match (result, rollout) {
                (Ok(_), Some(rollout)) => self.rollouts.note_written(&service, &rollout),
                (Ok(stored), None) if is_experiment => self.experiments.note_written(&stored),
                (Ok(_), None) => {}
                (Err(_), _) => drop(failed.insert(service)),
            }
        }
        failed
    }

    /// Tells whether the object that made this one is gone, with what it owned.
    fn has_lost_its_controller(&self, stored: &Stored) -> bool {
        let owners = stored.object.pointer("/metadata/ownerReferences");
        let owners = owners.and_then(Value::as_array).into_iter().flatten();
        let mut makers = owners.filter(|owner| owner["controller"] == true);
        makers.any(|owner| {
            let text = |field: &str| owner[field].as_str().unwrap_or_default();
            Kind::find_by_name(text("apiVersion"), text("kind")).is_some_and(|kind| {
                let key = Key::new(kind, stored.key.namespace(), text("name"));
                let live = self.store.get(&key);
                live.is_none_or(|live| object::meta_str(&live.object, "uid") != text("uid"))
            })
        })
    }
}

/// Returns the event that a write counts once more.
fn counted_event(write: &Write) -> Option<(Key, Value)> {
    match write {
        Write::Update { key, object, .. } if key.is_of(&EVENT) => {
            Some((key.clone(), object.clone()))
        }
        _ => None,
    }
}
