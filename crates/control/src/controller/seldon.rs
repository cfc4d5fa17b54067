//! SeldonDeployments: makes InferenceServices of them, and shows how those stand.
//!
//! Expected flow: [`Controller::due_seldon_deployments`] in every round, before the services are reconciled. A SeldonDeployment is served by one
//! InferenceService of its name, whose stable predictor is the first that takes requests and whose canaries are the others, and by one more for
//! its shadow; one with graphs of several nodes by one InferenceService for each model, and a flow over them (`flows`). Guarantees: an InferenceService that
//! is another's is left alone, and the status says so; what served before goes on then, and a shadow whose name is taken costs nothing but the shadow
//! (`conflicts`); what is no longer asked for goes.
//! Assumptions: the SeldonDeployment passed [`rules::check`].

mod autoscaled;
mod children;
mod conflicts;
mod flows;
mod idle;
mod resilience;
mod shown;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use coracle_api::kind::{INFERENCE_SERVICE, SELDON_DEPLOYMENT};
use coracle_api::seldon::{SeldonDeploymentSpec, rules};
use coracle_serving::ServiceId;
use coracle_serving::flow::PlannedFlow;
use serde_json::{Value, json};

use super::Controller;
use crate::object;
use crate::rest::rfc3339;
use crate::store::{Key, Store, Stored, Write};
use children::children;
use conflicts::{shadow_of, without_shadow};
use flows::{FlowStanding, graphs};
use shown::Standing;

/// The label that names the SeldonDeployment that something is of, as Seldon's own objects have it.
pub(crate) const ID_LABEL: &str = "seldon-deployment-id";

/// Says that there is no InferenceService of a name, and what there is instead: a graph is none.
pub(crate) fn no_service(store: &Store, namespace: &str, name: &str) -> String {
    let key = Key::new(&SELDON_DEPLOYMENT, namespace, name);
    let deployment = store.get(&key);
    let spec = deployment.and_then(|deployment| read_spec(&deployment.object));
    match spec.is_some_and(|spec| graphs(name, &spec).is_some()) {
        false => format!("there is no InferenceService {name} in namespace {namespace}"),
        true => format!(
            "there is no InferenceService {name} in namespace {namespace}, but a SeldonDeployment that is a graph of several nodes, which takes no part in this: its requests are split by its predictors (traffic, shadow) and routers"
        ),
    }
}

/// Checks a SeldonDeployment that has passed its schema.
///
/// # Errors
/// Says, in Seldon's words where it has some, what is wrong or not served.
pub(crate) fn check(deployment: &Value) -> Result<(), String> {
    // One that cannot be read was refused by its schema.
    match read_spec(deployment) {
        Some(spec) => {
            rules::check(object::name(deployment), &spec)?;
            children::check_replicas(&spec)?;
            let graphs = graphs(object::name(deployment), &spec);
            children::check_secrets(&spec, graphs.as_ref())?;
            autoscaled::check(&spec, graphs.as_ref())?;
            let made = children(deployment, &spec, graphs.as_ref());
            resilience::check(deployment, &spec, (graphs.as_ref(), &made))
        }
        None => Ok(()),
    }
}

fn read_spec(deployment: &Value) -> Option<SeldonDeploymentSpec> {
    serde_json::from_value(deployment.get("spec")?.clone()).ok()
}

fn id_of(deployment: &Stored) -> ServiceId {
    ServiceId {
        namespace: deployment.key.namespace().to_owned(),
        name: deployment.key.name().to_owned(),
    }
}

/// Returns what orders deployments by age; those of the same second by name.
fn age(deployment: &Stored) -> (&str, &Key) {
    let made_at = object::meta_str(&deployment.object, "creationTimestamp");
    (made_at, &deployment.key)
}

/// Returns the services of the flows that are others than before.
pub(super) fn differing(
    before: &BTreeMap<ServiceId, PlannedFlow>,
    now: &BTreeMap<ServiceId, PlannedFlow>,
) -> Vec<ServiceId> {
    let ids = before.keys().chain(now.keys());
    let differing = ids.filter(|id| before.get(id) != now.get(id));
    let flows = differing.flat_map(|id| {
        let both = [before.get(id), now.get(id)].into_iter().flatten();
        both.map(move |flow| (&id.namespace, flow))
    });
    let services = flows.flat_map(|(namespace, flow)| {
        flow.root.asks().into_iter().map(move |ask| ServiceId {
            namespace: namespace.clone(),
            name: ask.service.clone(),
        })
    });
    services.collect()
}

/// Tells whether an object was made of a deployment.
fn is_of(deployment: &Value, child: &Value) -> bool {
    let uid = object::meta_str(deployment, "uid");
    let owners = child.pointer("/metadata/ownerReferences");
    let mut owners = owners.and_then(Value::as_array).into_iter().flatten();
    owners.any(|owner| owner["uid"] == uid && owner["kind"] == SELDON_DEPLOYMENT.kind)
}

impl Controller {
    /// Makes, changes and removes the InferenceServices of all SeldonDeployments, and shows how they stand; returns the services of those that came to have no
    /// replicas, or have some again.
    pub(super) fn due_seldon_deployments(&mut self) -> BTreeSet<ServiceId> {
        let (mut stored, _) = self.store.list(&SELDON_DEPLOYMENT, None);
        // Of two that want one name for their shadows the older has it.
        stored.sort_by(|one, other| age(one).cmp(&age(other)));
        let mut flows = BTreeMap::new();
        let mut idle = BTreeMap::new();
        let mut taken = BTreeSet::new();
        for deployment in stored {
            if object::is_terminating(&deployment.object) {
                continue;
            }
            if let Some(spec) = read_spec(&deployment.object) {
                let id = id_of(&deployment);
                let route =
                    idle::route(&id.name, &spec).or_else(|| self.waking(&deployment, &spec));
                idle.extend(route.map(|route| (id, route)));
                for (id, flow) in self.make_services(&deployment, &spec, &mut taken) {
                    flows.entry(id).or_insert(flow);
                }
            }
        }
        self.plan.flows = flows;
        self.take_idle(idle)
    }

    /// Makes what serves a deployment; returns its flows, if it has some. Shadows' names that are `taken` are older deployments'; its own is added.
    fn make_services(
        &mut self,
        deployment: &Arc<Stored>,
        spec: &SeldonDeploymentSpec,
        taken: &mut BTreeSet<ServiceId>,
    ) -> Vec<(ServiceId, PlannedFlow)> {
        let id = id_of(deployment);
        let shadow_lost = self.in_the_shadows_way(deployment, spec, taken);
        let reduced = shadow_lost.is_some().then(|| without_shadow(spec));
        let spec = reduced.as_ref().unwrap_or(spec);
        let awake = idle::without_idle(spec);
        let awake = awake.as_ref().unwrap_or(spec);
        taken.extend(shadow_of(&id, awake));
        let graphs = graphs(&id.name, awake);
        let wanted = children(&deployment.object, awake, graphs.as_ref());
        let in_the_way = self.in_the_way(deployment, graphs.as_ref(), &wanted);
        self.make_children(deployment, &wanted);
        let mut flow = match in_the_way {
            None if awake.predictors.is_empty() => FlowStanding {
                planned: Vec::new(),
                in_force: !self.last_observed.flows.contains_key(&id),
            },
            None => {
                let fallback = resilience::of_graphs(&deployment.object, awake);
                let graphs = graphs.as_ref().map(|graphs| (graphs, fallback));
                self.flow_standing(&id, (deployment, &wanted), graphs)
            }
            Some(_) => self.flow_before(&id),
        };
        if flow.in_force {
            self.remove_others(&id, deployment, &wanted);
        }
        let standing = Standing {
            graphs,
            in_the_way: in_the_way.or_else(|| shadow_lost.clone()),
            in_force: flow.in_force,
        };
        let status = self.seldon_status(deployment, (spec, awake), standing);
        if deployment.object.get("status") != Some(&status) {
            let mut object = deployment.object.clone();
            object["status"] = status;
            let write = Write::Update {
                key: deployment.key.clone(),
                expected: deployment.version,
                object,
            };
            self.pending.push((id.clone(), write));
        }
        // What was before may have had the shadow, too.
        if shadow_lost.is_some() {
            flow.drop_shadow(&id);
        }
        taken.extend(flow.planned.iter().map(|(name, _)| name.clone()));
        flow.planned
    }

    /// Makes the InferenceServices of a deployment what they are to be; those that are others' are left alone.
    fn make_children(&mut self, deployment: &Stored, wanted: &[Value]) {
        let id = id_of(deployment);
        for child in wanted {
            let key = Key::new(&INFERENCE_SERVICE, &id.namespace, object::name(child));
            let write = match self.store.get(&key) {
                None => Some(self.created(key, child)),
                Some(live) if is_of(&deployment.object, &live.object) => changed(&live, child),
                Some(_) => None,
            };
            self.pending.extend(write.map(|write| (id.clone(), write)));
        }
    }

    /// Returns the write that makes an object of what it is to be.
    pub(super) fn created(&self, key: Key, child: &Value) -> Write {
        let mut object = child.clone();
        let metadata = object::metadata_mut(&mut object);
        metadata.insert("uid".to_owned(), uuid::Uuid::new_v4().to_string().into());
        metadata.insert("generation".to_owned(), json!(1));
        let now = rfc3339(self.clock.unix_time());
        metadata.insert("creationTimestamp".to_owned(), now.into());
        Write::Create { key, object }
    }

    /// Removes the InferenceServices of a deployment that are not wanted any more, with what is theirs.
    fn remove_others(&mut self, id: &ServiceId, deployment: &Stored, wanted: &[Value]) {
        let uid = object::meta_str(&deployment.object, "uid");
        for child in self.store.owned_by(uid) {
            let is_wanted = |one: &Value| object::name(one) == child.key.name();
            if !child.key.is_of(&INFERENCE_SERVICE) || wanted.iter().any(is_wanted) {
                continue;
            }
            let own = self.store.owned_by(object::meta_str(&child.object, "uid"));
            for gone in own.iter().chain([&child]) {
                let write = Write::Delete {
                    key: gone.key.clone(),
                    expected: gone.version,
                };
                self.pending.push((id.clone(), write));
            }
        }
    }
}

/// Returns the write that makes an InferenceService what it should be, if it is not.
fn changed(live: &Stored, wanted: &Value) -> Option<Write> {
    let mut object = live.object.clone();
    object["spec"] = wanted["spec"].clone();
    let given = resilience::given(&live.object);
    let metadata = object::metadata_mut(&mut object);
    let labels = metadata.entry("labels").or_insert_with(|| json!({}));
    for (name, value) in object::texts(wanted, "labels") {
        labels[name] = value.into();
    }
    let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
    if let Some(annotations) = annotations.as_object_mut() {
        annotations.retain(|name, _| {
            !children::ANNOTATIONS.contains(&name.as_str()) && !given.contains(name)
        });
        for (name, value) in object::texts(wanted, "annotations") {
            annotations.insert(name.to_owned(), value.into());
        }
    }
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
mod tests;
