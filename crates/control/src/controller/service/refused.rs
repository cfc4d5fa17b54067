//! Services that are not served: those that cannot be, and those that are told not to.

use std::collections::BTreeMap;
use std::time::Duration;

use coracle_api::status::{
    ComponentStatus, Components, FailureInfo, InferenceServiceStatus, ModelStates, ModelStatus,
    TrafficTarget,
};
use coracle_serving::{PlannedRoute, RevisionState};
use serde_json::Value;

use super::super::conditions::{Conditions, Verdict};
use super::super::revisions;
use super::super::templates::{Canaries, Template, Templates};
use super::super::traffic::Share;
use super::route::absent;
use super::{Outcome, Refusal, Surroundings, View, observed_route, references, status_of};
use crate::object;
use crate::rest::rfc3339;

/// How a service is shown whose spec is refused.
const INVALID: &str = "InvalidSpec";

/// Returns why the spec of a service is refused, as its status tells, if it does.
pub(crate) fn refusal(service: &Value) -> Option<String> {
    let status = status_of(service);
    let is_of_now = status.observed_generation == Some(object::generation(service));
    let model = status.model_status.filter(|_| is_of_now)?;
    let failure = model.last_failure_info?;
    failure
        .message
        .filter(|_| model.transition_status == INVALID)
}

/// A service that cannot be served; what it served before goes on.
pub(super) fn refused(
    service: &Value,
    before: &InferenceServiceStatus,
    around: &Surroundings<'_>,
    refusal: &Refusal,
) -> Outcome {
    let route = observed_route(service, around.observed);
    let all = revisions::of(around.store, service);
    let templates = Templates {
        stable: Template::default(),
        canaries: Canaries::Revisions(None),
    };
    let view = View {
        service,
        around,
        templates: &templates,
        revisions: &all,
        before,
        observed: route.clone(),
    };
    let (route, by_revision) = route.map(|route| view.hold_stand_in(route)).unzip();
    let (planned_route, mut needed) = match &route {
        Some(route) => (Some(route.clone()), revisions_of(route)),
        None => view.last_route(),
    };
    needed.extend(
        around
            .experiments
            .iter()
            .flat_map(|on| on.revisions.clone()),
    );
    let serving = all.iter().filter(|one| needed.contains(&one.name));
    let planned: BTreeMap<_, _> = serving
        .map(|revision| (view.id(&revision.name), view.plan(revision)))
        .collect();
    Outcome {
        status: refused_status(
            before,
            refusal,
            route.as_ref().map(|route| {
                let by_revision = by_revision.flatten();
                references::of_route(service, route, by_revision, around.store)
            }),
            (object::generation(service), around.now),
        ),
        scaling: view.scalings(&planned),
        revisions: planned,
        route: planned_route.or_else(|| absent(service)),
    }
}

fn revisions_of(route: &PlannedRoute) -> Vec<String> {
    let targets = route.targets.iter();
    targets.map(|target| target.revision.clone()).collect()
}

impl View<'_> {
    /// Returns the route by which the service was served last, as its status tells, with the revisions that are to be loaded: after a restart nothing is observed
    /// yet, and what served before it goes on. A revision that cannot be loaded leaves its share to the one with the largest.
    fn last_route(&self) -> (Option<PlannedRoute>, Vec<String>) {
        let share = |target: TrafficTarget| {
            Some(Share {
                revision: target.revision_name?,
                percent: u8::try_from(target.percent?).ok()?.min(100),
                latest: target.latest_revision == Some(true),
                tag: target.tag,
            })
        };
        let shares = self.component().traffic.into_iter().filter_map(share);
        let shares: Vec<Share> = shares
            .filter(|share| self.exists(&share.revision))
            .collect();
        let mut needed: Vec<String> = shares.iter().map(|one| one.revision.clone()).collect();
        let has_failed = |share: &Share| {
            let state = self.state(&share.revision);
            matches!(state, Some(RevisionState::Failed { .. }))
        };
        let mut taking: Vec<Share> = shares.into_iter().filter(|one| !has_failed(one)).collect();
        let given = taking
            .iter()
            .fold(0_u8, |sum, share| sum.saturating_add(share.percent));
        if let Some(most) = taking.iter_mut().max_by_key(|share| share.percent) {
            most.percent = most.percent.saturating_add(100_u8.saturating_sub(given));
        }
        let stand_in = self.stand_in(&self.wanted().1);
        needed.extend(stand_in.as_ref().and_then(|one| one.revision.clone()));
        (self.route(&taking, stand_in.as_ref()), needed)
    }
}

fn refused_status(
    before: &InferenceServiceStatus,
    refusal: &Refusal,
    of_route: Option<Vec<(&str, Verdict)>>,
    (generation, now): (i64, Duration),
) -> InferenceServiceStatus {
    let text = rfc3339(now);
    let verdict = Verdict::no(refusal.reason, refusal.message.clone());
    let mut conditions = Conditions::new(&before.conditions, &text);
    let has_route = of_route.is_some();
    let ingress = if has_route {
        Verdict::True
    } else {
        verdict.clone()
    };
    conditions.add("IngressReady", &ingress);
    conditions.add("PredictorReady", &verdict);
    conditions.add("Ready", &verdict);
    for (name, verdict) in of_route.into_iter().flatten() {
        conditions.add_info(name, &verdict);
    }
    let last = before
        .model_status
        .as_ref()
        .and_then(|status| status.last_failure_info.clone());
    let since = last.filter(|last| last.message.as_ref() == Some(&refusal.message));
    let active = if has_route { "Loaded" } else { "Pending" };
    InferenceServiceStatus {
        conditions: conditions.finish(),
        observed_generation: Some(generation),
        model_status: Some(ModelStatus {
            copies: None,
            last_failure_info: Some(FailureInfo {
                reason: Some(refusal.reason.to_owned()),
                message: Some(refusal.message.clone()),
                time: since.and_then(|last| last.time).or(Some(text)),
                ..FailureInfo::default()
            }),
            states: Some(ModelStates {
                active_model_state: active.to_owned(),
                target_model_state: "FailedToLoad".to_owned(),
            }),
            transition_status: INVALID.to_owned(),
        }),
        ..before.clone()
    }
}

/// A service that is told not to serve. Which revision had all requests stays known: once it serves again, that is the one that does, whatever became
/// of a newer one.
pub(super) fn stopped(
    service: &Value,
    before: &InferenceServiceStatus,
    around: &Surroundings<'_>,
) -> Outcome {
    let now = rfc3339(around.now);
    let verdict = Verdict::no("Stopped", "");
    let mut conditions = Conditions::new(&before.conditions, &now);
    conditions.add("IngressReady", &verdict);
    conditions.add("PredictorReady", &verdict);
    conditions.add("Ready", &verdict);
    conditions.add_info("Stopped", &Verdict::True);
    let component = before.components.clone().and_then(|all| all.predictor);
    let standing = component.filter(|one| one.latest_rolledout_revision.is_some());
    let standing = standing.map(|one| Components {
        predictor: Some(ComponentStatus {
            latest_rolledout_revision: one.latest_rolledout_revision,
            previous_rolledout_revision: one.previous_rolledout_revision,
            ..ComponentStatus::default()
        }),
    });
    Outcome {
        status: InferenceServiceStatus {
            components: standing,
            conditions: conditions.finish(),
            deployment_mode: before.deployment_mode.clone(),
            observed_generation: Some(object::generation(service)),
            ..InferenceServiceStatus::default()
        },
        ..Outcome::default()
    }
}
