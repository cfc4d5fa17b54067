//! How a SeldonDeployment stands, from the InferenceServices that were made of it.

use coracle_api::kind::INFERENCE_SERVICE;
use coracle_api::seldon::{
    SeldonAddress, SeldonDeploymentSpec, SeldonDeploymentState, SeldonDeploymentStatus,
    SeldonPredictor, SeldonServiceState,
};
use coracle_serving::{RevisionId, RevisionState};
use serde_json::Value;

use super::children::{all_replicas, parts, replicas, shadow_name};
use crate::controller::conditions::{Conditions, Verdict};
use crate::controller::revisions::{self, STABLE, canary_track};
use crate::controller::{Controller, readiness};
use crate::object;
use crate::rest::rfc3339;
use crate::store::{Key, Stored};

impl Controller {
    /// Returns the status of a deployment; `in_the_way` is why it cannot be served, if it cannot.
    pub(super) fn seldon_status(
        &self,
        deployment: &Stored,
        spec: &SeldonDeploymentSpec,
        in_the_way: Option<String>,
    ) -> Value {
        let (taking, shadow) = parts(spec);
        let own = deployment.key.name().to_owned();
        let of_shadow = shadow.map(|shadow| shadow_name(&deployment.object, shadow));
        let verdicts = [Some(&own), of_shadow.as_ref()].into_iter().flatten();
        let verdicts = verdicts.map(|service| self.service_verdict(deployment, service));
        let services = verdicts.fold(Verdict::True, |all, one| all.and(&one));
        let services = in_the_way.map_or(services, |why| Verdict::no("NotOwned", why));
        let mut status = SeldonDeploymentStatus {
            state: match &services {
                Verdict::True => "Available",
                Verdict::False { .. } => "Failed",
                Verdict::Unknown { .. } => "Creating",
            }
            .to_owned(),
            description: match &services {
                Verdict::True => None,
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
        for predictor in &spec.predictors {
            let (service, track) = match (shadow, &of_shadow, taking.first()) {
                (Some(shadow), Some(service), _) if shadow.name == predictor.name => {
                    (service, STABLE.to_owned())
                }
                (_, _, Some(first)) if first.name == predictor.name => (&own, STABLE.to_owned()),
                _ => (&own, canary_track(&predictor.name)),
            };
            let state = self.predictor_state(deployment, (service, &track), (spec, predictor));
            let name = format!("{own}-{}-0-{}", predictor.name, predictor.graph.name);
            status.deployment_status.insert(name, state);
            let endpoint = SeldonServiceState {
                svc_name: service.clone(),
                http_endpoint: Some(format!(
                    "{}/seldon/{}/{service}",
                    self.config.base_url,
                    deployment.key.namespace()
                )),
            };
            let name = format!("{own}-{}", predictor.name);
            status.service_status.insert(name, endpoint);
        }
        let before: SeldonDeploymentStatus = deployment
            .object
            .get("status")
            .and_then(|status| serde_json::from_value(status.clone()).ok())
            .unwrap_or_default();
        let now = rfc3339(self.clock.unix_time());
        let mut conditions = Conditions::new(&before.conditions, &now);
        for name in ["DeploymentsReady", "Ready", "ServicesReady"] {
            conditions.add(name, &services);
        }
        status.conditions = conditions.finish();
        serde_json::to_value(status).unwrap_or_default()
    }

    /// Returns where requests go.
    fn seldon_url(&self, deployment: &Stored, spec: &SeldonDeploymentSpec) -> String {
        let (namespace, name) = (deployment.key.namespace(), deployment.key.name());
        let base = format!("{}/seldon/{namespace}/{name}", self.config.base_url);
        let first = spec.predictors.iter().find(|one| !one.is_shadow());
        match (spec.protocol(), first) {
            ("v2", Some(first)) => format!("{base}/v2/models/{}/infer", first.graph.name),
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
