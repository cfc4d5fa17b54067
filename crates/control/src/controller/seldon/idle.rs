//! Predictors of a SeldonDeployment that have no replicas: they take no requests, which go to the others as these share them; where none has any, requests
//! are answered with why.

use std::collections::{BTreeMap, BTreeSet};

use coracle_api::seldon::{
    SeldonDeploymentSpec, SeldonDeploymentState, SeldonDeploymentStatus, SeldonPredictor,
};
use coracle_serving::{Absence, PlannedRoute, ServiceId};

use super::children::{own_replicas, parts, replicas};
use super::flows::graphs;
use super::id_of;
use super::shown::status_of;
use crate::controller::Controller;
use crate::object;
use crate::store::Stored;

/// The condition of a deployment that had no replicas, while those that it has again are not there: a control process that is started anew knows by it.
pub(super) const WAKING: &str = "Waking";

/// Returns a spec without the predictors that have no replicas, if there are such: the first one of those that are left has what the others leave of the
/// requests.
pub(super) fn without_idle(spec: &SeldonDeploymentSpec) -> Option<SeldonDeploymentSpec> {
    if idle(spec).is_empty() {
        return None;
    }
    let mut kept = spec.clone();
    kept.predictors.retain(|one| !is_idle(spec, one));
    let share = |traffic: Option<i32>| u64::try_from(traffic.unwrap_or(0)).unwrap_or(0);
    let (taking, _) = parts(&kept);
    let total: u64 = taking.iter().map(|one| share(one.traffic)).sum();
    if taking.is_empty() {
        // Nobody is left whose requests a shadow could get copies of.
        kept.predictors.clear();
        return Some(kept);
    }
    let mut left = 100;
    let taking = kept.predictors.iter_mut().filter(|one| !one.is_shadow());
    for one in taking.rev() {
        let percent = (share(one.traffic) * 100).checked_div(total).unwrap_or(0);
        one.traffic = Some(i32::try_from(percent).unwrap_or(0));
        left -= one.traffic.unwrap_or(0);
    }
    let mut taking = kept.predictors.iter_mut().filter(|one| !one.is_shadow());
    if let Some(first) = taking.next() {
        first.traffic = first.traffic.map(|percent| percent + left);
    }
    Some(kept)
}

/// Tells whether a predictor is to have no replicas. `spec.replicas` is not for those that `hpaSpec` scales, which have one at least.
fn is_idle(spec: &SeldonDeploymentSpec, one: &SeldonPredictor) -> bool {
    let mut components = one.component_specs.iter().flatten();
    let is_scaled = components.any(|component| component.hpa_spec.is_some());
    replicas(spec, one) == 0 && (!is_scaled || own_replicas(one).is_some())
}

/// Returns the names of the predictors that have no replicas.
fn idle(spec: &SeldonDeploymentSpec) -> Vec<&str> {
    let idle = spec.predictors.iter();
    let idle = idle.filter(|one| is_idle(spec, one));
    idle.map(|one| one.name.as_str()).collect()
}

/// Says which predictors have no replicas, and what that means, if there are such.
pub(super) fn description(spec: &SeldonDeploymentSpec) -> Option<String> {
    let idle = idle(spec);
    if idle.is_empty() {
        return None;
    }
    Some(match takes_none(spec) {
        true => "no predictor has replicas: requests are answered with 503 until one has; set replicas to 1".to_owned(),
        false => format!("no replicas, and so no requests: {}", idle.join(", ")),
    })
}

/// Tells whether none of the predictors that take requests has replicas.
fn takes_none(spec: &SeldonDeploymentSpec) -> bool {
    let (taking, _) = parts(spec);
    taking.iter().all(|one| is_idle(spec, one))
}

/// Tells whether a deployment had no replicas when its status was written, or was waking.
fn had_none(status: &SeldonDeploymentStatus) -> bool {
    let mut conditions = status.conditions.iter();
    status.replicas == Some(0) || conditions.any(|one| one.condition_type == WAKING)
}

/// Returns the route of a deployment none of whose predictors has replicas.
pub(super) fn route(name: &str, spec: &SeldonDeploymentSpec) -> Option<PlannedRoute> {
    if !takes_none(spec) {
        return None;
    }
    let why = format!("the SeldonDeployment {name} has 0 replicas; it answers once it has some");
    absent(spec, why)
}

fn absent(spec: &SeldonDeploymentSpec, why: String) -> Option<PlannedRoute> {
    let (taking, _) = parts(spec);
    let model = taking.first()?.graph.name.clone();
    Some(PlannedRoute {
        absence: Some(Absence { model, why }),
        ..PlannedRoute::default()
    })
}

/// Shows the predictors that have no replicas.
pub(super) fn show(name: &str, spec: &SeldonDeploymentSpec, status: &mut SeldonDeploymentStatus) {
    let all = graphs(name, spec);
    for one in &spec.predictors {
        if !is_idle(spec, one) {
            continue;
        }
        let graph = all.iter().flat_map(|graphs| graphs.all());
        let graph = graph.filter(|(predictor, _)| predictor.name == one.name);
        let nodes = graph.flat_map(|(_, node)| node.all());
        let models = nodes.filter(|node| node.role.server().is_some());
        let mut nodes: Vec<&str> = models.map(|node| node.unit.name.as_str()).collect();
        if all.is_none() {
            nodes.push(&one.graph.name);
        }
        for node in nodes {
            let key = format!("{name}-{}-0-{node}", one.name);
            let state = SeldonDeploymentState {
                description: None,
                replicas: 0,
                available_replicas: 0,
            };
            status.deployment_status.insert(key, state);
        }
    }
}

impl Controller {
    /// Returns the route of a deployment that had no replicas, until those are there that it has again.
    pub(super) fn waking(
        &self,
        deployment: &Stored,
        spec: &SeldonDeploymentSpec,
    ) -> Option<PlannedRoute> {
        let id = &id_of(deployment);
        let status = status_of(deployment);
        if takes_none(spec) || !(self.idle.contains_key(id) || had_none(&status)) {
            return None;
        }
        let observed = &self.last_observed;
        let route = observed.routes.get(id);
        let is_served = route.is_some_and(|route| !route.targets.is_empty());
        if is_served || observed.flows.contains_key(id) {
            return None;
        }
        let name = &id.name;
        let is_of_now = status.observed_generation == Some(object::generation(&deployment.object));
        let failure = status
            .description
            .filter(|_| status.state == "Failed" && is_of_now);
        let now = match failure {
            Some(why) => format!("are not loaded: {why}"),
            None => "are being loaded".to_owned(),
        };
        absent(
            spec,
            format!("the SeldonDeployment {name} had 0 replicas; those that it has now {now}"),
        )
    }

    /// Puts the routes of deployments without replicas in the place of those before; returns the services that it concerns.
    pub(super) fn take_idle(
        &mut self,
        idle: BTreeMap<ServiceId, PlannedRoute>,
    ) -> BTreeSet<ServiceId> {
        let before = std::mem::replace(&mut self.idle, idle);
        let ids = before.keys().chain(self.idle.keys());
        let changed = ids.filter(|id| before.get(*id) != self.idle.get(*id));
        changed.cloned().collect()
    }
}
