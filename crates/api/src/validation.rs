//! KServe's rules for InferenceServices, in the words of its validating webhook.

mod runtimes;
mod scaling;

use k8s_openapi::api::core::v1::Container;
use serde_json::Value;
use thiserror::Error;

pub use runtimes::{NamedRuntime, serving_runtime};

use crate::inference_service::{
    Canary, CanarySpec, ComponentExtensionSpec, InferenceServiceSpec, ModelSource, ModelSpec, Open,
    PredictorSpec, StorageUri, is_name,
};

/// The annotation that says what keeps a caller with one revision: `header=NAME` or `cookie=NAME`.
pub const STICKY: &str = "serving.coracle.dev/sticky";

/// A rule that an InferenceService breaks.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct RuleError(String);

type Checked = Result<(), RuleError>;

fn broken(message: impl Into<String>) -> Checked {
    Err(RuleError(message.into()))
}

/// Checks an InferenceService that has passed its schema; `old` is the object before, if there was one.
///
/// # Errors
/// The first rule that is broken.
pub fn inference_service(old: Option<&Value>, object: &Value) -> Checked {
    let name = text(object, "/metadata/name");
    if !is_name(name) {
        return broken(format!(
            "the InferenceService \"{name}\" is invalid: a InferenceService name must consist of lower case alphanumeric characters or '-', and must start with alphabetical character. (e.g. \"my-name\" or \"abc-123\", regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
        ));
    }
    let spec = object.get("spec").cloned().unwrap_or_default();
    let spec: InferenceServiceSpec = serde_json::from_value(spec).map_err(|error| {
        RuleError(format!(
            "the InferenceService \"{name}\" is invalid: spec: {error}"
        ))
    })?;
    check_deployment_mode(old, object)?;
    check_autoscaler_class(object)?;
    check_sticky(object)?;
    check_predictor(object, &spec.predictor)?;
    check_others(object, &spec)?;
    check_canary(object, &spec)?;
    check_rename(old, &spec)
}

/// The components beside the predictor.
fn check_others(object: &Value, spec: &InferenceServiceSpec) -> Checked {
    if let Some(transformer) = &spec.transformer {
        check_storage_uris(transformer.storage_uris.as_deref().unwrap_or_default())?;
        if transformer.pod.containers.is_empty() {
            return broken(
                "exactly one of [PodSpec, ComponentExtensionSpec] must be specified in TransformerSpec",
            );
        }
        check_containers(object, &transformer.pod.containers)?;
        check_extension(object, &transformer.extension)?;
    }
    if let Some(explainer) = &spec.explainer {
        check_storage_uris(explainer.storage_uris.as_deref().unwrap_or_default())?;
        if explainer.art.is_some() != explainer.pod.containers.is_empty() {
            return broken(
                "exactly one of [ART, PodSpec, ComponentExtensionSpec] must be specified in ExplainerSpec",
            );
        }
        check_containers(object, &explainer.pod.containers)?;
        check_extension(object, &explainer.extension)?;
    }
    Ok(())
}

/// No container takes another Python's modules.
fn check_containers(object: &Value, containers: &[Container]) -> Checked {
    for container in containers {
        check_environment(object, container)?;
    }
    Ok(())
}

fn check_environment(object: &Value, container: &Container) -> Checked {
    let mut variables = container.env.iter().flatten();
    if variables.any(|variable| variable.name == "PYTHONPATH") {
        return broken(format!(
            "the InferenceService \"{}\" is invalid: setting PYTHONPATH in container \"{}\" is not allowed for security reasons",
            text(object, "/metadata/name"),
            container.name
        ));
    }
    Ok(())
}

/// With KServe's list, a stable predictor takes a canary's name together with its model.
fn check_rename(old: Option<&Value>, spec: &InferenceServiceSpec) -> Checked {
    let before = old.and_then(|old| old.pointer("/spec/predictor"));
    let Some(before) = before else {
        return Ok(());
    };
    let name = before.get("name").and_then(Value::as_str);
    let model = serde_json::to_value(&spec.predictor.model).unwrap_or_default();
    let is_list = matches!(spec.canary, Some(Canary::List(_)));
    if is_list && name.is_some() && name != spec.predictor.name.as_deref() {
        let same = before.get("model").is_some_and(|before| {
            let typed = serde_json::from_value::<ModelSpec>(before.clone());
            typed.is_ok_and(|typed| serde_json::to_value(typed).is_ok_and(|typed| typed == model))
        });
        if same {
            return broken("predictor.name change requires a model change (e.g. storageUri)");
        }
    }
    Ok(())
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn annotation<'a>(object: &'a Value, name: &str) -> &'a str {
    let annotations = object.pointer("/metadata/annotations");
    annotations
        .and_then(|annotations| annotations.get(name))
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn check_autoscaler_class(object: &Value) -> Checked {
    match annotation(object, "serving.kserve.io/autoscalerClass") {
        "" | "hpa" | "external" | "keda" | "none" => Ok(()),
        other => broken(format!(
            "[{other}] is not a supported autoscaler class type"
        )),
    }
}

fn check_sticky(object: &Value) -> Checked {
    let text = annotation(object, STICKY);
    let is_token = |name: &str| {
        !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    match text.split_once('=') {
        None if text.is_empty() => Ok(()),
        Some(("header" | "cookie", name)) if is_token(name) => Ok(()),
        _ => broken(format!(
            "annotation {STICKY}: {text:?} is neither header=NAME nor cookie=NAME"
        )),
    }
}

/// The mode, once recorded in the status, stays.
fn check_deployment_mode(old: Option<&Value>, object: &Value) -> Checked {
    let canonical = |mode: &str| match mode {
        "RawDeployment" => "Standard".to_owned(),
        "Serverless" => "Knative".to_owned(),
        mode => mode.to_owned(),
    };
    let recorded = old
        .map(|old| canonical(text(old, "/status/deploymentMode")))
        .unwrap_or_default();
    let asked = canonical(annotation(object, "serving.kserve.io/deploymentMode"));
    if !recorded.is_empty() && !asked.is_empty() && recorded != asked {
        return broken(format!(
            "update rejected: deploymentMode cannot be changed from '{recorded}' to '{asked}'"
        ));
    }
    Ok(())
}

fn check_predictor(object: &Value, predictor: &PredictorSpec) -> Checked {
    check_collocated(&predictor.pod.containers)?;
    let n_blocks = usize::from(predictor.model.is_some())
        + predictor
            .frameworks()
            .iter()
            .filter(|(_, block)| block.is_some())
            .count()
        + usize::from(!predictor.pod.containers.is_empty());
    // Containers beside a model are collocated helpers.
    let beside_model = predictor.model.is_some() && !predictor.pod.containers.is_empty();
    if n_blocks - usize::from(beside_model) != 1 {
        return broken(
            "exactly one of [Name, SKLearn, XGBoost, Tensorflow, PyTorch, Triton, ONNX, HuggingFace, PMML, LightGBM, Paddle, Model, StorageUris, StorageContainerName, WorkerSpec, PodSpec] must be specified in PredictorSpec",
        );
    }
    if let Some(model) = &predictor.model
        && !model.container.name.is_empty()
    {
        return broken("the 'name' field is not allowed in standard predictor");
    }
    match predictor.source() {
        Some((_, source)) => check_source(predictor, source)?,
        None => check_storage_uris(predictor.storage_uris.as_deref().unwrap_or_default())?,
    }
    if let Some(model) = &predictor.model {
        check_confidential(&model.source)?;
        check_environment(object, &model.container)?;
    }
    check_containers(object, &predictor.pod.containers)?;
    check_extension(object, &predictor.extension)
}

/// A transformer in the predictor's pod fetches nothing; a predictor of one's own names a protocol that there is.
fn check_collocated(containers: &[Container]) -> Checked {
    for container in containers {
        for variable in container.env.iter().flatten() {
            let value = variable.value.as_deref().unwrap_or_default();
            match (container.name.as_str(), variable.name.as_str()) {
                ("transformer-container", "STORAGE_URI") => {
                    return broken("storage uri should not be specified in transformer container");
                }
                ("transformer-container", _) => {}
                (_, "PROTOCOL") if !matches!(value, "v1" | "v2") => {
                    return broken(format!("invalid protocol {value}. Must be one of [v1, v2]"));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn check_confidential(source: &ModelSource) -> Checked {
    let Some(confidential) = &source.confidential else {
        return Ok(());
    };
    if confidential.enabled == Some(true) && source.storage_uri.is_none() {
        return broken("confidential model serving requires storageUri to be set");
    }
    let id = confidential.resource_id.as_deref().unwrap_or_default();
    let parts = id.strip_prefix("kbs:///").map(|path| path.split('/'));
    let is_good = parts.is_some_and(|parts| {
        parts.clone().count() == 3 && parts.into_iter().all(|part| !part.is_empty())
    });
    if !id.is_empty() && !is_good {
        return broken("resourceId must be in the format kbs:///<repo>/<type>/<tag>");
    }
    Ok(())
}

fn check_extension(object: &Value, extension: &ComponentExtensionSpec) -> Checked {
    let least = extension.min_replicas.unwrap_or(1);
    let most = extension.max_replicas.unwrap_or(0);
    if least < 0 {
        return broken("'MinReplicas' cannot be less than 0");
    }
    if most < 0 {
        return broken("'MaxReplicas' cannot be less than 0");
    }
    if most != 0 && least > most {
        return broken("'MinReplicas' cannot be greater than MaxReplicas");
    }
    if extension.container_concurrency.unwrap_or(0) < 0 {
        return broken("parallelism cannot be less than 0");
    }
    if let Some(percent) = extension.canary_traffic_percent
        && !(0..=100).contains(&percent)
    {
        return broken(format!(
            "canaryTrafficPercent must be between 0 and 100, got {percent}"
        ));
    }
    if let Some(logger) = &extension.logger {
        if logger.mode.is_none() {
            return broken("invalid logger type");
        }
        let has = |storage: &Open, field: &str| {
            storage.0.get(field).is_some_and(|value| !value.is_null())
        };
        let is_whole = |storage: &Open| {
            ["path", "parameters", "key"]
                .iter()
                .all(|field| has(storage, field))
        };
        if logger
            .storage
            .as_ref()
            .is_some_and(|storage| !is_whole(storage))
        {
            return broken("invalid logger storage configuration");
        }
    }
    scaling::check(object, extension)
}

fn check_source(predictor: &PredictorSpec, source: &ModelSource) -> Checked {
    if source.storage_uri.is_some() && predictor.storage_uris.is_some() {
        return broken("Setting both StorageURI and StorageURIs is not supported.");
    }
    check_storage_uris(predictor.storage_uris.as_deref().unwrap_or_default())
}

/// Where several places put their files; volumes are mounted, so that no two may be at one path.
fn check_storage_uris(places: &[StorageUri]) -> Checked {
    let mut volumes = Vec::new();
    let mut downloads = Vec::new();
    for place in places {
        let path = place.mount_path.as_deref().unwrap_or("/mnt/models");
        if place.uri.is_empty() {
            return broken("storage URI cannot be empty");
        }
        if !path.is_empty() && path.trim_matches('/').is_empty() {
            return broken("storage path cannot be empty");
        }
        if !path.starts_with('/') {
            return broken(format!("storage path must be absolute: {path}"));
        }
        if path.contains("..") {
            return broken(format!(
                "storage path cannot contain '..' for security reasons: {path}"
            ));
        }
        match place.uri.starts_with("pvc://") {
            true if volumes.contains(&path) => {
                return broken("PVC storage paths must be unique");
            }
            true => volumes.push(path),
            false => downloads.push(path),
        }
    }
    let first = |path: &&str| {
        path.split('/')
            .find(|part| !part.is_empty())
            .map(str::to_owned)
    };
    let parent = downloads.first().map(first);
    if downloads.iter().any(|path| Some(first(path)) != parent) {
        return broken(format!(
            "storage paths must have a common parent directory. Current paths: [{}] have no common parent beyond root",
            downloads.join(" ")
        ));
    }
    Ok(())
}

fn check_canary(object: &Value, spec: &InferenceServiceSpec) -> Checked {
    if spec.canary.is_some() && spec.predictor.canary.is_some() {
        return broken("canary is given twice: under spec and under spec.predictor; keep one");
    }
    let canary = spec.canary.as_ref().or(spec.predictor.canary.as_deref());
    let Some(canary) = canary else {
        return Ok(());
    };
    if spec.predictor.source().is_none() {
        return broken(
            "canary requires a stable predictor with a model (multi-model serving is not supported with canary)",
        );
    }
    let list = match canary {
        Canary::Single(single) => {
            if let Some(percent) = single.traffic_percent
                && !(0..=100).contains(&percent)
            {
                return broken(format!(
                    "canary trafficPercent must be between 0 and 100, got {percent}"
                ));
            }
            return check_predictor(object, &single.predictor);
        }
        Canary::List(list) => list,
    };
    if annotation(object, "serving.kserve.io/deploymentMode") == "Knative" {
        return broken("canary is only supported in Standard deployment mode");
    }
    check_canary_list(spec, list)
}

fn check_canary_list(spec: &InferenceServiceSpec, list: &[CanarySpec]) -> Checked {
    let mut names = Vec::new();
    let mut sum = 0;
    for (index, canary) in list.iter().enumerate() {
        let predictor = &canary.predictor;
        let Some(name) = predictor.name.as_deref().filter(|name| !name.is_empty()) else {
            return broken(format!("canary[{index}] predictor.name is required"));
        };
        if names.contains(&name) {
            return broken(format!("canary predictor.name {name:?} is duplicated"));
        }
        if spec.predictor.name.as_deref() == Some(name) {
            return broken(format!(
                "canary predictor.name {name:?} conflicts with stable predictor name"
            ));
        }
        names.push(name);
        let percent = canary.traffic_percent;
        if !(0..=100).contains(&percent) {
            return broken(format!(
                "canary {name:?} trafficPercent must be between 0 and 100, got {percent}"
            ));
        }
        sum += percent;
        let extension = &predictor.extension;
        for (field, is_set) in [
            ("maxReplicas", extension.max_replicas.is_some()),
            ("scaleTarget", extension.scale_target.is_some()),
            ("scaleMetric", extension.scale_metric.is_some()),
            ("autoScaling", extension.auto_scaling.is_some()),
        ] {
            if is_set {
                return broken(format!(
                    "canary {name:?} must not set {field} (canary uses fixed replicas)"
                ));
            }
        }
        let least = spec.predictor.extension.min_replicas.unwrap_or(1);
        if let Some(own) = extension.min_replicas
            && own > least
        {
            return broken(format!(
                "canary {name:?} minReplicas ({own}) must not exceed stable predictor minReplicas ({least})"
            ));
        }
        if predictor.worker_spec.is_some() {
            return broken(format!(
                "canary {name:?} must not set workerSpec (multi-node is not yet supported for canary)"
            ));
        }
    }
    if sum > 100 {
        return broken(format!(
            "sum of canary trafficPercent values ({sum}) must be <= 100"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
