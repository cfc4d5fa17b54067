//! Services that are not served: those that cannot be, and those that are told not to.

use std::collections::BTreeMap;
use std::time::Duration;

use coracle_api::status::{
    ComponentStatus, Components, FailureInfo, InferenceServiceStatus, ModelStates, ModelStatus,
    TrafficTarget,
};
use coracle_serving::{PlannedRoute, PlannedTarget};
use serde_json::Value;

use super::super::conditions::{Conditions, Verdict};
use super::super::revisions;
use super::super::templates::{Canaries, Template, Templates};
use super::super::traffic::{Rollout, Share, whole};
use super::{Outcome, Refusal, Surroundings, View, observed_route, references, status_of};
use crate::object;
use crate::rest::rfc3339;

/// How a service is shown whose spec is refused.
const INVALID: &str = "InvalidSpec";

/// How a service is shown that is told not to serve.
pub(crate) const STOPPED: &str = "Stopped";

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
        observed: observed_route(service, around.observed),
    };
    let (_, rollout) = view.wanted();
    let last = view.last_shares(&rollout);
    let stand_in = view.stand_in(&rollout);
    let shares = view.makeshift(&last).unwrap_or_else(|| last.clone());
    let observed = view.observed.clone();
    let (observed, by_revision) = observed.map(|route| view.hold_stand_in(route)).unzip();
    let route = match &observed {
        Some(route) => Some(view.with_shares(route.clone(), &shares)),
        None => view.planned_route(view.route(&shares, stand_in.as_ref()), &rollout),
    };
    // Whatever else answers meanwhile, what the requests are meant for is loaded.
    let mut needed: Vec<String> = last.iter().map(|share| share.revision.clone()).collect();
    needed.extend(rollout.rolled_out.clone());
    for route in observed.iter().chain(&route) {
        needed.extend(route.targets.iter().map(|target| target.revision.clone()));
    }
    needed.extend(stand_in.and_then(|one| one.revision));
    let of_experiments = around.experiments.map(|on| on.revisions.clone());
    needed.extend(of_experiments.unwrap_or_default());
    let serving = all.iter().filter(|one| needed.contains(&one.name));
    let planned: BTreeMap<_, _> = serving
        .map(|revision| (view.id(&revision.name), view.plan(revision)))
        .collect();
    Outcome {
        status: refused_status(
            &view.with_traffic(&last),
            refusal,
            observed.as_ref().map(|route| {
                let by_revision = by_revision.flatten();
                references::of_route(service, route, by_revision, around.store)
            }),
            (object::generation(service), around.now),
        ),
        scaling: view.scalings(&planned),
        revisions: planned,
        route,
    }
}

impl View<'_> {
    /// Returns the split by which the service was served when its spec came to be refused: the one that is in force then, and from then on, after a restart,
    /// too, the one that its status tells. One that was stopped before has none there; what had all requests has them again.
    fn last_shares(&self, rollout: &Rollout) -> Vec<Share> {
        let share = |target: TrafficTarget| {
            Some(Share {
                revision: target.revision_name?,
                percent: u8::try_from(target.percent?).ok()?.min(100),
                latest: target.latest_revision == Some(true),
                tag: target.tag,
            })
        };
        let told = self.component().traffic.into_iter().filter_map(share);
        let told = whole(told.filter(|share| self.exists(&share.revision)).collect());
        let state = self.before.model_status.as_ref();
        let was_refused = state.is_some_and(|state| state.transition_status == INVALID);
        match (self.observed.is_some(), told.is_empty()) {
            (false, true) => self.all_again(rollout).into_iter().collect(),
            (true, true) => self.shown(&told),
            (true, false) if !was_refused => self.shown(&told),
            (_, false) => told,
        }
    }

    /// Gives a route that is in force these shares, if its own are others, as after a restart without the files of a revision that can be loaded now. All
    /// else stays as it is.
    fn with_shares(&self, route: PlannedRoute, shares: &[Share]) -> PlannedRoute {
        let taking = |targets: &[PlannedTarget]| {
            let taking = targets.iter().filter(|target| target.percent > 0);
            let taking = taking.map(|target| (target.revision.clone(), target.percent));
            taking.collect::<BTreeMap<String, u8>>()
        };
        let wanted = self.route(shares, None).unwrap_or_default();
        let mut targets = wanted.targets;
        if targets.is_empty() || taking(&targets) == taking(&route.targets) {
            return route;
        }
        let is_new = |name: &str| targets.iter().all(|target| target.revision != name);
        let others = route.targets.into_iter();
        let others = others.filter(|target| is_new(&target.revision));
        let others: Vec<PlannedTarget> = others
            .map(|target| PlannedTarget {
                percent: 0,
                ..target
            })
            .collect();
        targets.extend(others);
        PlannedRoute { targets, ..route }
    }

    /// Returns the status before with this split.
    fn with_traffic(&self, shares: &[Share]) -> InferenceServiceStatus {
        let mut before = self.before.clone();
        let components = before.components.as_mut();
        if let Some(component) = components.and_then(|all| all.predictor.as_mut()) {
            component.traffic = self.traffic(shares);
        }
        before
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
    let verdict = Verdict::no(STOPPED, "");
    let mut conditions = Conditions::new(&before.conditions, &now);
    conditions.add("IngressReady", &verdict);
    conditions.add("PredictorReady", &verdict);
    conditions.add("Ready", &verdict);
    conditions.add_info(STOPPED, &Verdict::True);
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
