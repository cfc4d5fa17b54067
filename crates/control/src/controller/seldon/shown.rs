//! How a SeldonDeployment stands, from the InferenceServices that were made of it.

use coracle_api::kind::INFERENCE_SERVICE;
use coracle_api::seldon::graph::service_name;
use coracle_api::seldon::{
    SeldonAddress, SeldonDeploymentSpec, SeldonDeploymentState, SeldonDeploymentStatus,
    SeldonPredictor, SeldonServiceState,
};
use std::collections::BTreeSet;

use coracle_serving::{RevisionId, RevisionState, ServiceId};
use serde_json::Value;

use super::children::{all_replicas, parts, replicas, shadow_name};
use super::flows::Graphs;
use super::{idle, resilience};
use crate::controller::conditions::{Conditions, Verdict};
use crate::controller::revisions::{self, STABLE, canary_track};
use crate::controller::service::references;
use crate::controller::{Controller, fallbacks, readiness};
use crate::object;
use crate::rest::rfc3339;
use crate::store::{Key, Stored};

/// What is known of a deployment besides its InferenceServices.
pub(super) struct Standing<'a> {
    /// Its graphs, if one of them is more than a model.
    pub(super) graphs: Option<Graphs<'a>>,
    /// Why it cannot be served, if it cannot.
    pub(super) in_the_way: Option<String>,
    /// Whether requests go as it says.
    pub(super) in_force: bool,
}

pub(super) fn status_of(deployment: &Stored) -> SeldonDeploymentStatus {
    let status = deployment.object.get("status").cloned();
    let status = status.and_then(|status| serde_json::from_value(status).ok());
    status.unwrap_or_default()
}

/// A model of a deployment.
struct Part<'a> {
    predictor: &'a SeldonPredictor,
    node: &'a str,
    service: String,
    /// The track of the service's revisions.
    track: String,
}

/// Returns the models of predictors each of which is one.
fn of_predictors<'a>(deployment: &Stored, spec: &'a SeldonDeploymentSpec) -> Vec<Part<'a>> {
    let (taking, shadow) = parts(spec);
    let own = || deployment.key.name().to_owned();
    let taking = taking.into_iter().enumerate().map(|(index, predictor)| {
        let track = match index {
            0 => STABLE.to_owned(),
            _ => canary_track(&predictor.name),
        };
        (predictor, own(), track)
    });
    let shadow = shadow.map(|predictor| {
        let service = shadow_name(deployment.key.name(), predictor);
        (predictor, service, STABLE.to_owned())
    });
    let all = taking.chain(shadow);
    let parts = all.map(|(predictor, service, track)| Part {
        predictor,
        node: &predictor.graph.name,
        service,
        track,
    });
    parts.collect()
}

/// Returns the models of graphs.
fn of_graphs<'a>(deployment: &Stored, graphs: &'a Graphs<'_>) -> Vec<Part<'a>> {
    let nodes = graphs.all().flat_map(|(predictor, graph)| {
        let models = graph.all().into_iter();
        let models = models.filter(|node| node.role.server().is_some());
        models.map(move |node| (*predictor, node.unit.name.as_str()))
    });
    let parts = nodes.map(|(predictor, node)| Part {
        predictor,
        node,
        service: service_name(deployment.key.name(), &predictor.name, node),
        track: STABLE.to_owned(),
    });
    parts.collect()
}

impl Controller {
    /// Returns the status of a deployment; its spec, and that without the predictors that have no replicas.
    pub(super) fn seldon_status(
        &self,
        deployment: &Stored,
        (spec, awake): (&SeldonDeploymentSpec, &SeldonDeploymentSpec),
        standing: Standing<'_>,
    ) -> Value {
        let own = deployment.key.name();
        let parts = match &standing.graphs {
            None => of_predictors(deployment, awake),
            Some(graphs) => of_graphs(deployment, graphs),
        };
        let services: BTreeSet<&str> = parts.iter().map(|part| part.service.as_str()).collect();
        let verdicts = services.into_iter();
        let verdicts = verdicts.map(|service| self.service_verdict(deployment, service));
        let services = verdicts.fold(Verdict::True, |all, one| all.and(&one));
        let services = match standing.in_force {
            true => services,
            false => services.and(&Verdict::not_yet("Creating", "requests are being led anew")),
        };
        let why = standing.in_the_way;
        let services = why.map_or(services, |why| Verdict::no("NotOwned", why));
        let mut status = SeldonDeploymentStatus {
            state: match &services {
                Verdict::True => "Available",
                Verdict::False { .. } => "Failed",
                Verdict::Unknown { .. } => "Creating",
            }
            .to_owned(),
            description: match &services {
                Verdict::True => idle::description(spec),
                Verdict::False { message, .. } | Verdict::Unknown { message, .. } => {
                    Some(message.clone()).filter(|message| !message.is_empty())
                }
            },
            replicas: Some(all_replicas(spec)),
            address: Some(SeldonAddress {
                url: self.seldon_url(deployment, spec),
            }),
            observed_generation: Some(object::generation(&deployment.object)),
            ..SeldonDeploymentStatus::default()
        };
        for part in &parts {
            let of_part = (part.service.as_str(), part.track.as_str());
            let state = self.predictor_state(deployment, of_part, (spec, part.predictor));
            let name = format!("{own}-{}-0-{}", part.predictor.name, part.node);
            status.deployment_status.insert(name, state);
            let endpoint = SeldonServiceState {
                svc_name: part.service.clone(),
                http_endpoint: Some(format!(
                    "{}/seldon/{}/{}",
                    self.config.base_url,
                    deployment.key.namespace(),
                    part.service
                )),
            };
            let name = match standing.graphs {
                None => format!("{own}-{}", part.predictor.name),
                Some(_) => part.service.clone(),
            };
            status.service_status.insert(name, endpoint);
        }
        idle::show(own, spec, &mut status);
        let before = status_of(deployment);
        let now = rfc3339(self.clock.unix_time());
        let mut conditions = Conditions::new(&before.conditions, &now);
        for name in ["DeploymentsReady", "Ready", "ServicesReady"] {
            conditions.add(name, &services);
        }
        if self.waking(deployment, spec).is_some() {
            conditions.add_info(idle::WAKING, &Verdict::True);
        }
        if let Some(verdict) = self.stand_in_verdict(deployment, spec, standing.graphs.is_some()) {
            conditions.add_info(references::FALLBACK, &verdict);
        }
        status.conditions = conditions.finish();
        serde_json::to_value(status).unwrap_or_default()
    }

    /// Tells whether what stands in for graphs is there, and could be an answer; of single models their InferenceServices tell it.
    fn stand_in_verdict(
        &self,
        deployment: &Stored,
        spec: &SeldonDeploymentSpec,
        has_graphs: bool,
    ) -> Option<Verdict> {
        let fallback = resilience::of_graphs(&deployment.object, spec);
        let fallback = fallback.filter(|_| has_graphs)?;
        let place = (self.store.as_ref(), deployment.key.namespace());
        let words = (fallbacks::SERVICE, "nothing stands in by it");
        let other = fallback.service;
        let found = other.map(|other| references::found(place, &other.name, words));
        let id = ServiceId {
            namespace: deployment.key.namespace().to_owned(),
            name: deployment.key.name().to_owned(),
        };
        let misfit = self.last_observed.misfits.get(&id).map(references::misfit);
        match (found, misfit) {
            (Some(found), Some(misfit)) => Some(found.and(&misfit)),
            (found, misfit) => found.or(misfit),
        }
    }

    /// Returns where requests go.
    fn seldon_url(&self, deployment: &Stored, spec: &SeldonDeploymentSpec) -> String {
        let (namespace, name) = (deployment.key.namespace(), deployment.key.name());
        let base = format!("{}/seldon/{namespace}/{name}", self.config.base_url);
        let first = spec.predictors.iter().find(|one| !one.is_shadow());
        match (spec.protocol(), first) {
            ("v2", Some(first)) => format!("{base}/v2/models/{}/infer", first.graph.name),
            ("tensorflow", Some(first)) => {
                format!("{base}/v1/models/{}:predict", first.graph.name)
            }
            _ => format!("{base}/api/v1.0/predictions"),
        }
    }

    fn service_verdict(&self, deployment: &Stored, service: &str) -> Verdict {
        let key = Key::new(&INFERENCE_SERVICE, deployment.key.namespace(), service);
        let stored = self.store.get(&key);
        let status = stored
            .as_ref()
            .and_then(|stored| stored.object.get("status"));
        match readiness(status) {
            ("True", _) => Verdict::True,
            ("False", message) => Verdict::no("NotReady", message),
            (_, message) => Verdict::not_yet("Creating", message),
        }
    }

    fn predictor_state(
        &self,
        deployment: &Stored,
        (service, track): (&str, &str),
        (spec, predictor): (&SeldonDeploymentSpec, &SeldonPredictor),
    ) -> SeldonDeploymentState {
        let namespace = deployment.key.namespace();
        let key = Key::new(&INFERENCE_SERVICE, namespace, service);
        let all = self
            .store
            .get(&key)
            .map(|stored| revisions::of(&self.store, &stored.object));
        let newest = all.as_deref().and_then(|all| revisions::newest(all, track));
        let state = newest.and_then(|newest| {
            let id = RevisionId {
                namespace: namespace.to_owned(),
                name: newest.name.clone(),
            };
            self.last_observed.revisions.get(&id)
        });
        SeldonDeploymentState {
            description: match state {
                Some(RevisionState::Failed { failure, .. }) => Some(failure.message.clone()),
                _ => None,
            },
            replicas: replicas(spec, predictor),
            available_replicas: match state {
                Some(RevisionState::Ready { replicas, .. }) => {
                    i32::try_from(*replicas).unwrap_or(i32::MAX)
                }
                _ => 0,
            },
        }
    }
}
