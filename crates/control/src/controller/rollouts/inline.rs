//! Rollouts that an InferenceService asks for by an annotation: the simple case. A Rollout of the service's name is made of it, which is the service's, and
//! is what people look at and command. Its steps are the annotation's; what else its spec says is whoever's who writes it.
//!
//! While the annotation stands, no new revision takes all requests at once: if its Rollout is not there or cannot be made, and no other one decides, what
//! served goes on, and a condition of the service says why. Caveat: without the annotation the Rollout goes, as one does that is deleted.

use std::collections::{BTreeMap, BTreeSet};

use coracle_api::kind::{INFERENCE_SERVICE, ROLLOUT};
use coracle_api::rollout::RolloutSpec;
use coracle_serving::ServiceId;
use serde_json::{Value, json};

use super::spec;
use crate::annotations::ROLLOUT_STEPS as STEPS;
use crate::controller::Controller;
use crate::controller::conditions::Verdict;
use crate::controller::faults;
use crate::controller::times::read_time;
use crate::object;
use crate::store::{Key, Stored, Write};

/// Why a service's steps are not in force.
const NOT_IN_FORCE: &str = "RolloutStepsNotInForce";

/// Whether the steps of each service that asks for some are in force.
pub(super) type Standings = BTreeMap<ServiceId, Verdict>;

/// Reads the steps that a service asks for, as a Rollout has them.
///
/// # Errors
/// Says which step is wrong, and what is allowed.
pub(crate) fn read(service: &Value) -> Result<Option<Vec<Value>>, String> {
    let Some(text) = object::text(service, "annotations", STEPS) else {
        return Ok(None);
    };
    let mut texts: Vec<&str> = text.split(',').map(str::trim).collect();
    // That it ends with all of the requests goes without saying.
    let is_all = |text: &&str| text.strip_suffix('%').map(str::trim_end) == Some("100");
    if texts.len() > 1 && texts.last().is_some_and(is_all) {
        texts.pop();
    }
    let steps = texts.into_iter().map(read_step);
    let steps: Vec<Value> = steps.collect::<Result<_, _>>()?;
    let spec = json!({"inferenceService": object::name(service), "steps": steps});
    let spec: RolloutSpec =
        serde_json::from_value(spec).map_err(|error| format!("annotation {STEPS}: {error}"))?;
    match spec::read(&spec) {
        Ok(_) => Ok(Some(steps)),
        Err(causes) => Err(format!("annotation {STEPS}: {}", faults::text(&causes))),
    }
}

fn read_step(text: &str) -> Result<Value, String> {
    let (share, duration) = match text.split_once(" for ") {
        Some((share, duration)) => (share.trim(), Some(duration.trim())),
        None => (text, None),
    };
    let percent = share.strip_suffix('%');
    let percent = percent.and_then(|percent| percent.trim().parse::<u8>().ok());
    let percent = percent.filter(|percent| (1..=99).contains(percent));
    let percent = percent.ok_or_else(|| {
        format!("annotation {STEPS}: '{text}' is no step; write such as 10% for 1h, of 1% to 99%")
    })?;
    let mut step = json!({"percent": percent});
    if let Some(duration) = duration {
        let place = format!("annotation {STEPS}");
        read_time(&place, duration, "30s or 10m").map_err(|cause| cause.to_string())?;
        step["duration"] = json!(duration);
    }
    Ok(step)
}

impl Controller {
    /// Makes, changes and removes the Rollouts that services ask for; returns the services whose steps came into force, or are so no more. A Rollout of
    /// the name that is nobody's, or another's, is left alone.
    pub(super) fn due_inline_rollouts(&mut self) -> BTreeSet<ServiceId> {
        let (services, _) = self.store.list(&INFERENCE_SERVICE, None);
        let before = std::mem::take(&mut self.rollouts.inline);
        for service in &services {
            if object::is_terminating(&service.object) {
                continue;
            }
            let id = ServiceId {
                namespace: service.key.namespace().to_owned(),
                name: service.key.name().to_owned(),
            };
            let key = Key::new(&ROLLOUT, &id.namespace, &id.name);
            let live = self.store.get(&key);
            let own = live.as_ref().filter(|live| is_of(service, live));
            let steps = read(&service.object);
            if let Some(verdict) = standing(steps.as_ref(), live.as_deref(), own.is_some()) {
                self.rollouts.inline.insert(id.clone(), verdict);
            }
            // Validation has seen it.
            let Ok(steps) = steps else {
                continue;
            };
            let write = match (steps, own, &live) {
                (Some(steps), None, None) => {
                    let wanted = wanted(service, &steps);
                    Some(self.created(key, &wanted))
                }
                (Some(steps), Some(own), _) => changed(own, &steps),
                (None, Some(own), _) => Some(Write::Delete {
                    key,
                    expected: own.version,
                }),
                _ => None,
            };
            self.pending.extend(write.map(|write| (id, write)));
        }
        self.tell_standings(&before)
    }

    /// Writes events of steps that are not in force; returns the services whose steps stand otherwise than `before`.
    fn tell_standings(&mut self, before: &Standings) -> BTreeSet<ServiceId> {
        let now = &self.rollouts.inline;
        let ids = before.keys().chain(now.keys());
        let differing = ids.filter(|id| before.get(id) != now.get(id));
        let differing: BTreeSet<ServiceId> = differing.cloned().collect();
        for id in &differing {
            if let Some(Verdict::False { reason, message }) = self.rollouts.inline.get(id).cloned()
            {
                self.record_for(id, "Warning", &reason, &message);
            }
        }
        differing
    }
}

/// Tells whether the steps that a service asks for are in force; `None` if it asks for none.
fn standing(
    steps: Result<&Option<Vec<Value>>, &String>,
    live: Option<&Stored>,
    is_own: bool,
) -> Option<Verdict> {
    let goes_on = "a new revision takes no requests until a Rollout says so";
    let not = |why: String| Some(Verdict::no(NOT_IN_FORCE, format!("{why}; {goes_on}")));
    match (steps, live) {
        (Ok(None), _) => None,
        (Err(why), _) => not(why.clone()),
        (Ok(Some(_)), None) => Some(Verdict::not_yet("", "the Rollout is being made")),
        (Ok(Some(_)), Some(live)) if !is_own => not(format!(
            "the Rollout {} is there already, and is not of annotation {STEPS}",
            live.key.name()
        )),
        (Ok(Some(_)), Some(live)) if object::is_terminating(&live.object) => {
            not(format!("the Rollout {} is being deleted", live.key.name()))
        }
        (Ok(Some(_)), Some(_)) => Some(Verdict::True),
    }
}

fn is_of(service: &Stored, rollout: &Stored) -> bool {
    let uid = object::meta_str(&service.object, "uid");
    let owners = rollout.object.pointer("/metadata/ownerReferences");
    let mut owners = owners.and_then(Value::as_array).into_iter().flatten();
    owners.any(|owner| owner["uid"] == uid && owner["controller"] == true)
}

fn wanted(service: &Stored, steps: &[Value]) -> Value {
    json!({
        "apiVersion": ROLLOUT.api_version(),
        "kind": ROLLOUT.kind,
        "metadata": {
            "name": service.key.name(),
            "namespace": service.key.namespace(),
            "ownerReferences": [{
                "apiVersion": INFERENCE_SERVICE.api_version(),
                "kind": INFERENCE_SERVICE.kind,
                "name": service.key.name(),
                "uid": object::meta_str(&service.object, "uid"),
                "controller": true,
                "blockOwnerDeletion": true
            }]
        },
        "spec": {"inferenceService": service.key.name(), "steps": steps}
    })
}

/// Returns the write that gives a Rollout its steps and its service, if it has others.
fn changed(live: &Stored, steps: &[Value]) -> Option<Write> {
    let mut object = live.object.clone();
    object["spec"]["steps"] = json!(steps);
    object["spec"]["inferenceService"] = live.key.name().into();
    if object == live.object {
        return None;
    }
    object["metadata"]["generation"] = json!(object::generation(&live.object) + 1);
    Some(Write::Update {
        key: live.key.clone(),
        expected: live.version,
        object,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Option<Vec<Value>>, String> {
        read(&json!({"metadata": {"name": "iris", "annotations": {STEPS: text}}}))
    }

    #[test]
    fn steps_are_read_as_people_write_them() {
        let steps = json!([{"percent": 10, "duration": "1h"}, {"percent": 50}]);
        for text in [
            "10% for 1h, 50%, 100%",
            "10% for 1h,50%",
            " 10 % for 1h , 50% ",
            "10 % for 1h, 50 %, 100 %",
        ] {
            assert_eq!(json!(of(text).unwrap().unwrap()), steps, "{text}");
        }
        assert_eq!(read(&json!({"metadata": {}})), Ok(None));
        for (text, words) in [
            ("", "'' is no step"),
            ("10", "'10' is no step"),
            ("100%", "'100%' is no step"),
            ("0% for 1h", "'0% for 1h' is no step"),
            (
                "10% for ever",
                "Invalid value: \"ever\": must be a time such as 30s or 10m",
            ),
            ("10% for 1h; 50%", "must be a time"),
            (
                "50%, 10%",
                "annotation serving.coracle.dev/rollout-steps: spec.steps[1].percent: Invalid value: 10: must be above the 50",
            ),
        ] {
            let error = of(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
