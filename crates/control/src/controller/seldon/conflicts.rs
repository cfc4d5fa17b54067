//! What is in the way of a SeldonDeployment: things of others that have the names that it needs. A deployment whose own names are taken goes on as before;
//! one whose shadow's are taken is served as if it had no shadow.

use std::collections::BTreeSet;

use coracle_api::kind::{INFERENCE_SERVICE, SELDON_DEPLOYMENT};
use coracle_api::seldon::SeldonDeploymentSpec;
use coracle_serving::ServiceId;
use serde_json::Value;

use super::children::{children, parts, shadow_name};
use super::flows::{Graphs, beside, graphs};
use super::{id_of, is_of};
use crate::controller::Controller;
use crate::object;
use crate::store::{Key, Stored};

/// Returns a spec without its shadow.
pub(super) fn without_shadow(spec: &SeldonDeploymentSpec) -> SeldonDeploymentSpec {
    let mut spec = spec.clone();
    spec.predictors.retain(|one| !one.is_shadow());
    spec
}

/// Returns what a deployment's shadow is called, if it has one.
pub(super) fn shadow_of(id: &ServiceId, spec: &SeldonDeploymentSpec) -> Option<ServiceId> {
    let (_, shadow) = parts(spec);
    Some(beside(id, &shadow_name(&id.name, shadow?)))
}

/// Returns the names of the InferenceServices of a deployment.
fn names(deployment: &Value, spec: &SeldonDeploymentSpec) -> BTreeSet<String> {
    let graphs = graphs(object::name(deployment), spec);
    let children = children(deployment, spec, graphs.as_ref());
    let names = children.iter().map(|child| object::name(child).to_owned());
    names.collect()
}

impl Controller {
    /// Returns what has a name that a deployment needs to take requests.
    pub(super) fn in_the_way(
        &self,
        deployment: &Stored,
        graphs: Option<&Graphs<'_>>,
        wanted: &[Value],
    ) -> Option<String> {
        // A flow takes the requests of its name.
        let of_flow = graphs.map(|_| deployment.key.name());
        let names = wanted.iter().map(object::name).chain(of_flow);
        self.foreign(deployment, names)
    }

    /// Returns what has a name that a deployment's shadow needs; names that are `taken` are those of older deployments' shadows.
    pub(super) fn in_the_shadows_way(
        &self,
        deployment: &Stored,
        spec: &SeldonDeploymentSpec,
        taken: &BTreeSet<ServiceId>,
    ) -> Option<String> {
        let id = id_of(deployment);
        let shadow = shadow_of(&id, spec)?;
        let name = &shadow.name;
        let key = Key::new(&SELDON_DEPLOYMENT, &id.namespace, name);
        if self.store.get(&key).is_some() {
            return Some(format!(
                "there is no shadow: it would be {name}, which is a SeldonDeployment of its own"
            ));
        }
        if taken.contains(&shadow) {
            return Some(format!(
                "there is no shadow: it would be {name}, which is the shadow of an older SeldonDeployment"
            ));
        }
        let own = names(&deployment.object, &without_shadow(spec));
        let mut all = names(&deployment.object, spec);
        all.insert(shadow.name);
        let of_shadow = all.difference(&own).map(String::as_str);
        let foreign = self.foreign(deployment, of_shadow)?;
        Some(format!("there is no shadow: {foreign}"))
    }

    /// Returns which of these InferenceServices is another's, in words.
    fn foreign<'n>(
        &self,
        deployment: &Stored,
        mut names: impl Iterator<Item = &'n str>,
    ) -> Option<String> {
        let service = names.find(|name| {
            let key = Key::new(&INFERENCE_SERVICE, deployment.key.namespace(), name);
            let live = self.store.get(&key);
            live.is_some_and(|live| !is_of(&deployment.object, &live.object))
        })?;
        Some(format!(
            "the InferenceService {service} is there already, and is none of this SeldonDeployment's"
        ))
    }
}
