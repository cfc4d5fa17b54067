//! Mirrors: an Experiment of Seldon Core v2 whose `mirror` gets copies of a service's requests is a shadow of that service.
//!
//! Expected flow: [`Controller::due_mirrors`] in every round, before the services are reconciled. Guarantees: a service has one shadow; its own annotation goes before an
//! Experiment, and the oldest Experiment before others, which say so in their conditions. Caveat: weights between candidates are refused, since services have splits of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use coracle_api::inference_service::is_name;
use coracle_api::kind::{INFERENCE_SERVICE, SELDON_EXPERIMENT};
use coracle_api::seldon_experiment::{SeldonExperimentSpec, SeldonExperimentStatus};
use coracle_serving::{RevisionId, ServiceId, ShadowKept, ShadowSettings};
use serde_json::Value;

use super::conditions::{Conditions, Verdict};
use super::{Controller, seldon, service, shadows};
use crate::object;
use crate::rest::rfc3339;
use crate::store::{Key, Stored, Write};

/// The shadows that Experiments of Seldon's ask for, by the service whose requests are copied.
#[derive(Debug, Default)]
pub(super) struct Mirrors {
    in_force: BTreeMap<ServiceId, ShadowSettings>,
}

impl Mirrors {
    /// Returns the shadow of a service, if an Experiment asks for one.
    pub(super) fn of(&self, service: &ServiceId) -> Option<&ShadowSettings> {
        self.in_force.get(service)
    }

    /// Returns the services that have one.
    pub(super) fn services(&self) -> impl Iterator<Item = &ServiceId> {
        self.in_force.keys()
    }
}

/// What an Experiment asks for.
#[derive(Debug, PartialEq)]
struct Wanted {
    default: String,
    shadow: ShadowSettings,
}

/// Checks an Experiment of Seldon's.
///
/// # Errors
/// Says which field has which value, and what is allowed.
pub(crate) fn check(experiment: &Value) -> Result<(), String> {
    // One that cannot be read was refused by its schema.
    match read_spec(experiment) {
        Some(spec) => read(&spec, object::name(experiment)).map(drop),
        None => Ok(()),
    }
}

fn read_spec(experiment: &Value) -> Option<SeldonExperimentSpec> {
    serde_json::from_value(experiment.get("spec")?.clone()).ok()
}

fn read(spec: &SeldonExperimentSpec, name: &str) -> Result<Wanted, String> {
    if !matches!(spec.resource_type.as_deref(), None | Some("" | "model")) {
        let given = spec.resource_type.as_deref().unwrap_or_default();
        return Err(format!(
            "spec.resourceType: '{given}' is not served; model is"
        ));
    }
    if spec.candidates.is_empty() && spec.mirror.is_none() {
        return Err(format!("experiment {name} has no candidates or mirror"));
    }
    let instead =
        "an Experiment of serving.coracle.dev splits users, canaryTrafficPercent revisions";
    if let Some(second) = spec.candidates.get(1) {
        return Err(format!(
            "spec.candidates[1]: '{}': requests are not split between services by weights; {instead}",
            second.name
        ));
    }
    let Some(mirror) = &spec.mirror else {
        return Err(format!(
            "spec.mirror: it must be there, since a split is not served; {instead}"
        ));
    };
    let Some(default) = &spec.default else {
        return Err(
            "spec.default: the InferenceService whose requests are copied must be there; there are no endpoints of experiments"
                .to_owned(),
        );
    };
    if spec.candidates.iter().all(|one| one.name != *default) {
        return Err(format!(
            "default model/pipeline {default} not found in experiment {name} candidates"
        ));
    }
    if mirror.name == *default {
        return Err(format!(
            "each candidate and mirror must be unique but found resource {default} duplicated in experiment {name}"
        ));
    }
    for (field, named) in [("default", default), ("mirror.name", &mirror.name)] {
        if !is_name(named) {
            return Err(format!(
                "spec.{field}: '{named}' is no name of an InferenceService of the same namespace"
            ));
        }
    }
    let percent = u8::try_from(mirror.percent).ok();
    let percent = percent.filter(|percent| (1..=100).contains(percent));
    let percent = percent.ok_or_else(|| {
        let given = mirror.percent;
        format!("spec.mirror.percent: {given} is not between 1 and 100")
    })?;
    Ok(Wanted {
        default: default.clone(),
        shadow: ShadowSettings {
            service: mirror.name.clone(),
            percent,
            kept: ShadowKept::Answers,
        },
    })
}

impl Controller {
    /// Looks at every Experiment of Seldon's; returns the services whose shadow is another one than before.
    pub(super) fn due_mirrors(&mut self) -> BTreeSet<ServiceId> {
        let (mut stored, _) = self.store.list(&SELDON_EXPERIMENT, None);
        stored.retain(|experiment| !object::is_terminating(&experiment.object));
        stored.sort_by_key(|experiment| {
            let created = object::meta_str(&experiment.object, "creationTimestamp");
            (created.to_owned(), experiment.key.name().to_owned())
        });
        let mut by_service: BTreeMap<ServiceId, (String, ShadowSettings)> = BTreeMap::new();
        for experiment in &stored {
            let spec = read_spec(&experiment.object);
            let name = experiment.key.name();
            // Validation has seen it.
            let Some(wanted) = spec.and_then(|spec| read(&spec, name).ok()) else {
                continue;
            };
            let id = ServiceId {
                namespace: experiment.key.namespace().to_owned(),
                name: wanted.default.clone(),
            };
            let before = by_service.get(&id).map(|(name, _)| name.as_str());
            let mirror = match self.mirror(&id, &wanted, before) {
                Verdict::True => self.shadow_room(&id, by_service.keys()),
                verdict => verdict,
            };
            if mirror == Verdict::True {
                by_service.insert(id.clone(), (name.to_owned(), wanted.shadow.clone()));
            }
            self.show_mirror(experiment, &id, &mirror);
        }
        let now = by_service.into_iter();
        let now = now.map(|(id, (_, settings))| (id, settings)).collect();
        let before = std::mem::replace(&mut self.mirrors.in_force, now);
        let now = &self.mirrors.in_force;
        let both = before.keys().chain(now.keys());
        let changed = both.filter(|id| before.get(*id) != now.get(*id));
        changed.cloned().collect()
    }

    /// Tells whether copies of a service's requests go to the mirror; `before` is the older Experiment that has it already.
    fn mirror(&self, id: &ServiceId, wanted: &Wanted, before: Option<&str>) -> Verdict {
        let default = match self.candidate(id) {
            Ok(service) => service,
            Err(verdict) => return verdict,
        };
        if let Some(before) = before {
            let why = format!(
                "Resource {} already in experiment {before} as a baseline. A model or pipeline can only appear in one experiment as a baseline",
                id.name
            );
            return Verdict::no("AnotherExperiment", why);
        }
        if let Ok(Some(shadow)) = shadows::read(&default) {
            let why = format!(
                "annotation {} of {id} names {}, which goes first",
                shadows::SERVICE,
                shadow.service
            );
            return Verdict::no("AnotherShadow", why);
        }
        let mirror = ServiceId {
            namespace: id.namespace.clone(),
            name: wanted.shadow.service.clone(),
        };
        match self.candidate(&mirror) {
            Ok(_) => Verdict::True,
            Err(verdict) => verdict,
        }
    }

    /// Returns a service whose requests can be copied, or that can be given copies.
    fn candidate(&self, id: &ServiceId) -> Result<Value, Verdict> {
        let key = Key::new(&INFERENCE_SERVICE, &id.namespace, &id.name);
        let Some(stored) = self.store.get(&key) else {
            let why = seldon::no_service(&self.store, &id.namespace, &id.name);
            return Err(Verdict::no("NoInferenceService", why));
        };
        let component = service::status_of(&stored.object).components;
        let component = component.and_then(|components| components.predictor);
        let ready = component.and_then(|component| component.latest_ready_revision);
        let Some(ready) = ready else {
            let why = format!("InferenceService {} is not ready", id.name);
            return Err(Verdict::not_yet("NotReady", why));
        };
        let revision = RevisionId {
            namespace: id.namespace.clone(),
            name: ready,
        };
        let planned = self.plan.revisions.get(&revision);
        if planned.is_some_and(|planned| planned.source.process.is_some()) {
            let why = format!(
                "InferenceService {} runs as a program, of which no request is copied",
                id.name
            );
            return Err(Verdict::no("Program", why));
        }
        Ok(stored.object.clone())
    }

    fn show_mirror(&mut self, experiment: &Arc<Stored>, id: &ServiceId, mirror: &Verdict) {
        let object = &experiment.object;
        let shown = object.get("status").cloned().unwrap_or_default();
        let shown: SeldonExperimentStatus = serde_json::from_value(shown).unwrap_or_default();
        let now = rfc3339(self.clock.unix_time());
        let candidates = match self.candidate(id) {
            Ok(_) => Verdict::True,
            Err(verdict) => verdict,
        };
        let all = candidates.and(mirror);
        let mut conditions = Conditions::new(&shown.conditions, &now);
        conditions.add("CandidatesReady", &candidates);
        conditions.add("MirrorReady", mirror);
        conditions.add("ExperimentReady", &all);
        conditions.add("Ready", &all);
        let status = SeldonExperimentStatus {
            conditions: conditions.finish(),
            observed_generation: Some(object::generation(object)),
        };
        if shown == status {
            return;
        }
        let mut object = object.clone();
        object["status"] = serde_json::to_value(&status).unwrap_or_default();
        let write = Write::Update {
            key: experiment.key.clone(),
            expected: experiment.version,
            object,
        };
        self.pending.push((id.clone(), write));
    }
}

#[cfg(test)]
mod tests;
