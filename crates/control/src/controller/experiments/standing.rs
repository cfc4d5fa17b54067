//! Whether an experiment can be in force, and whether its variants answer: what is in the way, the conditions that say so, and the events of its coming and
//! going.

use std::time::Duration;

use coracle_api::experiment::ExperimentStatus;
use coracle_api::kind::{INFERENCE_SERVICE, REVISION};
use coracle_api::status::Condition;
use coracle_serving::experiment::VariantTarget;
use coracle_serving::{RevisionId, RevisionState, ServiceId};

use super::About;
use super::course::WAITING;
use crate::controller::conditions::{Conditions, Verdict};
use crate::controller::events::Happened;
use crate::controller::{Controller, readiness, seldon};
use crate::rest::rfc3339;
use crate::store::Key;

/// The condition that tells whether an experiment is in force.
const IN_FORCE: &str = "InForce";
/// The condition that tells whether all that answers for the variants is ready.
const VARIANTS_READY: &str = "VariantsReady";
/// The reason of an experiment whose spec cannot be.
pub(super) const INVALID: &str = "InvalidSpec";
/// The reason of what comes by itself, if one waits.
const NOT_READY: &str = "NotReady";

/// Why an experiment cannot be in force.
pub(super) struct Obstacle {
    reason: &'static str,
    pub(super) message: String,
}

impl Obstacle {
    pub(super) fn new(reason: &'static str, message: String) -> Self {
        Self { reason, message }
    }
}

/// Writes the conditions of an experiment that was `before`; tells of what people want to know.
pub(super) fn note(
    status: &mut ExperimentStatus,
    before: &ExperimentStatus,
    (obstacle, variants): (Option<Obstacle>, Verdict),
    now: Duration,
) -> Vec<Happened> {
    let find = |name: &str| {
        let mut conditions = before.conditions.iter();
        conditions.find(|condition| condition.condition_type == name)
    };
    let mut happened = Vec::new();
    let reason = find(IN_FORCE).and_then(|condition| condition.reason.as_deref());
    if let Some(obstacle) = &obstacle {
        let fell = !before.phase.is_empty() && before.phase != WAITING;
        let is_new = obstacle.reason != NOT_READY && reason != Some(obstacle.reason);
        let message = match fell {
            true => format!(
                "it is no longer in force, and its requests go as the service itself says: {}",
                obstacle.message
            ),
            false => obstacle.message.clone(),
        };
        happened.extend((fell || is_new).then_some(Happened {
            is_warning: true,
            reason: "ExperimentWaits",
            message,
        }));
    }
    let in_force = obstacle.map_or(Verdict::True, |obstacle| {
        Verdict::no(obstacle.reason, obstacle.message)
    });
    let was_ready = find(VARIANTS_READY).map(|condition| condition.status.as_str());
    let was_in_force = find(IN_FORCE).is_some_and(|condition| condition.status == "True");
    let variants = as_before(find(VARIANTS_READY), variants);
    match (&in_force, was_ready, &variants) {
        (Verdict::True, was, Verdict::False { message, .. }) if was != Some("False") => {
            happened.push(Happened {
                is_warning: true,
                reason: "ExperimentVariantNotReady",
                message: message.clone(),
            });
        }
        (Verdict::True, Some("False"), Verdict::True) if was_in_force => happened.push(Happened {
            is_warning: false,
            reason: "ExperimentVariantsReady",
            message: "all that answers for its variants is ready".to_owned(),
        }),
        _ => {}
    }
    let now = rfc3339(now);
    let mut conditions = Conditions::new(&before.conditions, &now);
    conditions.add(IN_FORCE, &in_force);
    conditions.add_info(VARIANTS_READY, &variants);
    status.conditions = conditions.finish();
    happened
}

/// Returns a verdict; what is not known yet, as after a restart or while a successor is loaded, is as it was.
fn as_before(before: Option<&Condition>, verdict: Verdict) -> Verdict {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    match (&verdict, before) {
        (Verdict::Unknown { .. }, Some(before)) => match before.status.as_str() {
            "True" => Verdict::True,
            "False" if before.reason.as_deref() == Some(NOT_READY) => {
                Verdict::no(NOT_READY, text(&before.message))
            }
            _ => verdict,
        },
        _ => verdict,
    }
}

/// Returns what of the conditions is worth telling at once.
pub(super) fn marks(status: &ExperimentStatus) -> Vec<(String, String, Option<String>)> {
    let mark = |condition: &Condition| {
        let reason = condition.reason.clone();
        (
            condition.condition_type.clone(),
            condition.status.clone(),
            reason,
        )
    };
    status.conditions.iter().map(mark).collect()
}

/// Says which variant something is about.
fn of_variant(name: &str, obstacle: Obstacle) -> Obstacle {
    let message = format!("variant {name}: {}", obstacle.message);
    Obstacle::new(obstacle.reason, message)
}

impl Controller {
    /// Returns why an experiment cannot be in force yet; `was_running` if it has been.
    pub(super) fn obstacle(&self, about: &About, was_running: bool) -> Option<Obstacle> {
        let own = &about.service;
        if let Some(why) = self.missing(own, "spec.inferenceService") {
            return Some(why);
        }
        let mut variants = about.wanted.planned.variants.iter();
        variants.find_map(|variant| {
            let namespace = own.namespace.clone();
            let why = match &variant.target {
                VariantTarget::Own => self.service_obstacle(own, was_running),
                VariantTarget::Service(name) => {
                    let name = name.clone();
                    self.service_obstacle(&ServiceId { namespace, name }, was_running)
                }
                VariantTarget::Revision(name) => {
                    let name = name.clone();
                    self.revision_obstacle(&RevisionId { namespace, name }, was_running)
                }
            }?;
            Some(of_variant(&variant.name, why))
        })
    }

    /// Says that there is no service that `field` names.
    fn missing(&self, id: &ServiceId, field: &str) -> Option<Obstacle> {
        let key = Key::new(&INFERENCE_SERVICE, &id.namespace, &id.name);
        if self.store.get(&key).is_some() {
            return None;
        }
        let why = seldon::no_service(&self.store, &id.namespace, &id.name);
        let message = format!("{why}; apply it, or let {field} name another one");
        Some(Obstacle::new("NoService", message))
    }

    fn service_obstacle(&self, id: &ServiceId, was_running: bool) -> Option<Obstacle> {
        if let Some(why) = self.missing(id, "the variant's inferenceService") {
            return Some(why);
        }
        let route = self.last_observed.routes.get(id);
        let is_served = route.is_some_and(|route| !route.targets.is_empty());
        (!is_served && !was_running).then(|| {
            let Verdict::False { message, .. } = self.service_readiness(id) else {
                let message = format!("InferenceService {} is not served yet", id.name);
                return Obstacle::new(NOT_READY, message);
            };
            Obstacle::new(NOT_READY, message)
        })
    }

    /// Tells whether a service that is there is ready.
    fn service_readiness(&self, id: &ServiceId) -> Verdict {
        let key = Key::new(&INFERENCE_SERVICE, &id.namespace, &id.name);
        let stored = self.store.get(&key);
        let status = stored
            .as_ref()
            .and_then(|stored| stored.object.get("status"));
        let name = &id.name;
        match readiness(status) {
            ("True", _) => Verdict::True,
            ("False", why) => {
                let why = match why {
                    "" => String::new(),
                    why => format!(": {}", why.trim_end_matches('.')),
                };
                Verdict::no(
                    NOT_READY,
                    format!(
                        "InferenceService {name} is not ready{why}; see `kubectl describe isvc {name}`"
                    ),
                )
            }
            _ => Verdict::not_yet(
                NOT_READY,
                format!("InferenceService {name} is not ready yet"),
            ),
        }
    }

    fn revision_obstacle(&self, id: &RevisionId, was_running: bool) -> Option<Obstacle> {
        let key = Key::new(&REVISION, &id.namespace, &id.name);
        if self.store.get(&key).is_none() {
            let message = format!(
                "there is no revision {}; `kubectl get revisions` lists those that there are",
                id.name
            );
            return Some(Obstacle::new("NoRevision", message));
        }
        match self.revision_readiness(id) {
            Verdict::True => None,
            Verdict::False { message, .. } => Some(Obstacle::new("RevisionFailed", message)),
            Verdict::Unknown { .. } if was_running => None,
            Verdict::Unknown { message, .. } => Some(Obstacle::new(NOT_READY, message)),
        }
    }

    /// Tells whether a revision is ready.
    fn revision_readiness(&self, id: &RevisionId) -> Verdict {
        match self.last_observed.revisions.get(id) {
            Some(RevisionState::Ready { .. }) => Verdict::True,
            Some(RevisionState::Failed { failure, .. }) => Verdict::no(
                "RevisionFailed",
                format!(
                    "{} failed: {}; see `kubectl describe revision {}`",
                    id.name, failure.message, id.name
                ),
            ),
            _ => Verdict::not_yet(NOT_READY, format!("{} is being loaded", id.name)),
        }
    }

    /// Tells whether all that answers for an experiment's variants is ready.
    pub(super) fn variants_verdict(&self, about: &About) -> Verdict {
        let namespace = &about.service.namespace;
        let of_service = |id: &ServiceId| {
            let missing = self.missing(id, "the variant's inferenceService");
            missing.map_or_else(
                || self.service_readiness(id),
                |why| Verdict::no(why.reason, why.message),
            )
        };
        let variants = about.wanted.planned.variants.iter().map(|variant| {
            let verdict = match &variant.target {
                VariantTarget::Own => of_service(&about.service),
                VariantTarget::Service(name) => of_service(&ServiceId {
                    namespace: namespace.clone(),
                    name: name.clone(),
                }),
                VariantTarget::Revision(name) => self.revision_readiness(&RevisionId {
                    namespace: namespace.clone(),
                    name: name.clone(),
                }),
            };
            let named = |why: String| format!("variant {}: {why}", variant.name);
            match verdict {
                Verdict::True => Verdict::True,
                Verdict::False { reason, message } => Verdict::no(&reason, named(message)),
                Verdict::Unknown { reason, message } => Verdict::not_yet(&reason, named(message)),
            }
        });
        variants.fold(Verdict::True, |all, one| all.and(&one))
    }
}
