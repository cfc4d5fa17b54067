//! The InferenceServices that a SeldonDeployment asks for. A pure function of its spec.

use coracle_api::defaulting;
use coracle_api::kind::{INFERENCE_SERVICE, SELDON_DEPLOYMENT};
use coracle_api::seldon::graph::service_name;
use coracle_api::seldon::rules::{Server, containers};
use coracle_api::seldon::{SeldonDeploymentSpec, SeldonPredictor, SeldonUnit};
use serde_json::{Value, json};

use super::flows::Graphs;
use super::{ID_LABEL, autoscaled, resilience};
use crate::annotations::{GIVEN_BY_SELDON, SHADOW, SHADOW_PERCENT};
use crate::controller::scaling::REPLICAS_MAX;
use crate::controller::service::MODEL_NAME;
use crate::object;

const MODE: &str = "serving.kserve.io/deploymentMode";
/// The annotations that say what is asked for; others are their writer's.
pub(super) const ANNOTATIONS: [&str; 4] = [SHADOW, SHADOW_PERCENT, MODE, GIVEN_BY_SELDON];
/// The variable of a model's environment that names the method it answers with.
const METHOD: &str = "CORACLE_METHOD";

/// Returns the name of the InferenceService, or of the flow, of a deployment's shadow.
pub(super) fn shadow_name(deployment: &str, shadow: &SeldonPredictor) -> String {
    format!("{deployment}-{}", shadow.name)
}

/// Returns how many of 100 requests a shadow gets copies of; without a share all.
pub(super) fn shadow_percent(shadow: &SeldonPredictor) -> u8 {
    let share = shadow.traffic.and_then(|share| u8::try_from(share).ok());
    share
        .filter(|share| (1..=100).contains(share))
        .unwrap_or(100)
}

/// Returns the predictors that take requests, and the one that gets copies.
pub(super) fn parts(
    spec: &SeldonDeploymentSpec,
) -> (Vec<&SeldonPredictor>, Option<&SeldonPredictor>) {
    let (shadows, taking): (Vec<_>, Vec<_>) =
        spec.predictors.iter().partition(|one| one.is_shadow());
    (taking, shadows.into_iter().next())
}

/// Returns how many copies of a predictor there are to be.
pub(super) fn replicas(spec: &SeldonDeploymentSpec, predictor: &SeldonPredictor) -> i32 {
    asked_replicas(spec, predictor).unwrap_or(1).max(0)
}

fn asked_replicas(spec: &SeldonDeploymentSpec, predictor: &SeldonPredictor) -> Option<i32> {
    own_replicas(predictor).or(spec.replicas)
}

/// Returns how many copies there are to be of a predictor, if it says so itself.
pub(super) fn own_replicas(predictor: &SeldonPredictor) -> Option<i32> {
    let mut components = predictor.component_specs.iter().flatten();
    let of_component = components.find_map(|component| component.replicas);
    of_component.or(predictor.replicas)
}

/// Returns how many copies there are to be of all predictors; those stored before there was a bound may say anything.
pub(super) fn all_replicas(spec: &SeldonDeploymentSpec) -> i32 {
    let counts = spec.predictors.iter().map(|one| replicas(spec, one));
    counts.fold(0, i32::saturating_add)
}

/// Checks that there are to be no more copies than there can be.
///
/// # Errors
/// Says how many there are to be of what, and what is allowed.
pub(super) fn check_replicas(spec: &SeldonDeploymentSpec) -> Result<(), String> {
    for (index, predictor) in spec.predictors.iter().enumerate() {
        let n = asked_replicas(spec, predictor).unwrap_or(1);
        if n < 0 {
            return Err(format!(
                "spec.predictors[{index}]: {n} replicas of {}; at least 0 are allowed",
                predictor.name
            ));
        }
        if u32::try_from(n).is_ok_and(|n| n > REPLICAS_MAX) {
            return Err(format!(
                "spec.predictors[{index}]: {n} replicas of {}; at most {REPLICAS_MAX} are allowed",
                predictor.name
            ));
        }
    }
    Ok(())
}

/// Returns the secret with the credentials for a node's files, if it names one.
fn secret(unit: &SeldonUnit) -> Option<&str> {
    let name = unit.env_secret_ref_name.as_deref();
    name.filter(|name| !name.is_empty())
}

/// Checks that the predictors that share one InferenceService name one secret.
///
/// # Errors
/// Says which one names another.
pub(super) fn check_secrets(
    spec: &SeldonDeploymentSpec,
    graphs: Option<&Graphs<'_>>,
) -> Result<(), String> {
    let taking = spec.predictors.iter().enumerate();
    let mut taking = taking.filter(|(_, one)| graphs.is_none() && !one.is_shadow());
    let Some((_, first)) = taking.next() else {
        return Ok(());
    };
    let own = secret(&first.graph);
    match taking.find(|(_, one)| secret(&one.graph) != own) {
        None => Ok(()),
        Some((index, other)) => Err(format!(
            "spec.predictors[{index}].graph.envSecretRefName: '{}' of {} and '{}' of {}; predictors that are one model each have the same secret here",
            secret(&other.graph).unwrap_or_default(),
            other.name,
            own.unwrap_or_default(),
            first.name
        )),
    }
}

/// Returns the InferenceServices of a deployment.
pub(super) fn children(
    deployment: &Value,
    spec: &SeldonDeploymentSpec,
    graphs: Option<&Graphs<'_>>,
) -> Vec<Value> {
    match graphs {
        None => of_predictors(deployment, spec),
        Some(graphs) => of_nodes(deployment, spec, graphs),
    }
}

/// Returns the InferenceServices of the models of graphs.
fn of_nodes(deployment: &Value, spec: &SeldonDeploymentSpec, graphs: &Graphs<'_>) -> Vec<Value> {
    let nodes = graphs.all().flat_map(|(predictor, graph)| {
        let models = graph.all().into_iter();
        let models = models.filter(|node| node.role.server().is_some());
        models.map(move |node| (*predictor, &node.unit))
    });
    let services = nodes.map(|(one, unit)| {
        let name = service_name(object::name(deployment), &one.name, &unit.name);
        let mut wanted = predictor(spec, one, unit);
        if let Some(account) = &unit.service_account_name {
            wanted["serviceAccountName"] = json!(account);
        }
        let wanted = json!({"predictor": wanted});
        let mut annotations = json!({MODE: "Standard"});
        let of = (spec, Some(one));
        resilience::give(deployment, of, (true, secret(unit)), &mut annotations);
        service(deployment, &name, (wanted, annotations))
    });
    services.collect()
}

/// Returns the InferenceServices of predictors each of which is one model.
fn of_predictors(deployment: &Value, spec: &SeldonDeploymentSpec) -> Vec<Value> {
    let (taking, shadow) = parts(spec);
    let Some((first, others)) = taking.split_first() else {
        return Vec::new();
    };
    let mut stable = first_model(spec, first);
    if !others.is_empty() {
        // A canary has no more than the stable predictor.
        let most = taking.iter().map(|one| replicas(spec, one)).max();
        stable["minReplicas"] = json!(most.unwrap_or(1));
    }
    let canaries = others.iter().map(|other| {
        let mut canary = first_model(spec, other);
        canary["name"] = json!(other.name);
        json!({"predictor": canary, "trafficPercent": other.traffic.unwrap_or(0)})
    });
    let canaries: Vec<Value> = canaries.collect();
    let mut wanted = json!({"predictor": stable});
    if !canaries.is_empty() {
        // Who of them answered is told by these names.
        wanted["predictor"]["name"] = json!(first.name);
        wanted["canary"] = canaries.into();
    }
    let mut annotations = json!({MODE: "Standard"});
    let only = others.is_empty().then_some(*first);
    let of_files = (false, secret(&first.graph));
    resilience::give(deployment, (spec, only), of_files, &mut annotations);
    if let Some(shadow) = shadow {
        annotations[SHADOW] = json!(shadow_name(object::name(deployment), shadow));
        if shadow.traffic.is_some_and(|percent| percent > 0) {
            annotations[SHADOW_PERCENT] = json!(shadow_percent(shadow).to_string());
        }
    }
    let mut children = vec![service(
        deployment,
        object::name(deployment),
        (wanted, annotations),
    )];
    if let Some(shadow) = shadow {
        let wanted = json!({"predictor": first_model(spec, shadow)});
        let name = shadow_name(object::name(deployment), shadow);
        let mut annotations = json!({MODE: "Standard"});
        resilience::give_secret(secret(&shadow.graph), &mut annotations);
        children.push(service(deployment, &name, (wanted, annotations)));
    }
    children
}

fn service(deployment: &Value, name: &str, (spec, annotations): (Value, Value)) -> Value {
    let mut service = json!({
        "apiVersion": INFERENCE_SERVICE.api_version(),
        "kind": INFERENCE_SERVICE.kind,
        "metadata": {
            "name": name,
            "namespace": object::namespace(deployment),
            "labels": {(ID_LABEL): object::name(deployment)},
            "annotations": annotations,
            "ownerReferences": [{
                "apiVersion": SELDON_DEPLOYMENT.api_version(),
                "kind": SELDON_DEPLOYMENT.kind,
                "name": object::name(deployment),
                "uid": object::meta_str(deployment, "uid"),
                "controller": true,
                "blockOwnerDeletion": true
            }]
        },
        "spec": spec
    });
    defaulting::inference_service(&mut service);
    service
}

/// Returns a predictor of an InferenceService, of the model that a graph is. Every field that a predictor may have is there, since a canary has those of
/// the stable one that it does not say.
fn first_model(spec: &SeldonDeploymentSpec, one: &SeldonPredictor) -> Value {
    let mut made = predictor(spec, one, &one.graph);
    let account = |one: &SeldonPredictor| one.graph.service_account_name.clone();
    if spec.predictors.iter().any(|other| account(other).is_some()) {
        let own = account(one).unwrap_or_else(|| "default".to_owned());
        made["serviceAccountName"] = json!(own);
    }
    made
}

/// Returns a predictor of an InferenceService, of the model of one node.
fn predictor(spec: &SeldonDeploymentSpec, predictor: &SeldonPredictor, unit: &SeldonUnit) -> Value {
    let server = unit.implementation.as_deref().and_then(Server::find);
    let mut all = containers(predictor).map(|(_, container)| container);
    let container = all.find(|container| container["name"] == unit.name.as_str());
    let field = |name: &str| container.and_then(|container| container.get(name)).cloned();
    let method = spec.method(unit);
    let mut env: Vec<Value> = vec![
        json!({"name": MODEL_NAME, "value": unit.name}),
        json!({"name": "PREDICT_PROBA", "value": (method == Some("predict_proba")).to_string()}),
    ];
    // What KServe has no variable for.
    let other = method.filter(|method| !matches!(*method, "predict" | "predict_proba"));
    env.extend(other.map(|method| json!({"name": METHOD, "value": method})));
    env.extend(
        field("env")
            .and_then(|env| env.as_array().cloned())
            .into_iter()
            .flatten(),
    );
    let mut made = json!({
        "minReplicas": replicas(spec, predictor),
        "model": {
            "modelFormat": {"name": server.map_or("", Server::format)},
            "storageUri": unit.model_uri,
            "env": env,
            "resources": field("resources").unwrap_or_else(|| json!({}))
        }
    });
    if let Some(autoscaled) = autoscaled::of_unit(predictor, unit) {
        autoscaled.put(&mut made);
    }
    if let Some(timeout) = resilience::timeout(spec, predictor) {
        made["timeout"] = json!(timeout.as_millis().div_ceil(1_000).max(1));
    }
    made
}
