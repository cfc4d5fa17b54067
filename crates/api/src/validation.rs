//! KServe's rules for InferenceServices, in the words of its validating webhook.

use serde_json::Value;
use thiserror::Error;

use crate::inference_service::{
    Canary, CanarySpec, InferenceServiceSpec, ModelSource, PredictorSpec, is_name,
};

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
    check_autoscaler_class(object)?;
    check_deployment_mode(old, object)?;
    check_sticky(object)?;
    check_predictor(&spec.predictor)?;
    check_canary(object, &spec)
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
    let text = annotation(object, "serving.coracle.dev/sticky");
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
            "annotation serving.coracle.dev/sticky: {text:?} is neither header=NAME nor cookie=NAME"
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

fn check_predictor(predictor: &PredictorSpec) -> Checked {
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
    let extension = &predictor.extension;
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
    if let Some(logger) = &extension.logger
        && logger.mode.is_none()
    {
        return broken("invalid logger type");
    }
    if let Some(model) = &predictor.model
        && !model.container.name.is_empty()
    {
        return broken("the 'name' field is not allowed in standard predictor");
    }
    match predictor.source() {
        Some((_, source)) => check_source(predictor, source),
        None => Ok(()),
    }
}

fn check_source(predictor: &PredictorSpec, source: &ModelSource) -> Checked {
    if source.storage_uri.is_some() && predictor.storage_uris.is_some() {
        return broken("Setting both StorageURI and StorageURIs is not supported.");
    }
    for place in predictor.storage_uris.iter().flatten() {
        let path = place.mount_path.as_deref().unwrap_or("/mnt/models");
        if place.uri.is_empty() {
            return broken("storage URI cannot be empty");
        }
        if !path.starts_with('/') {
            return broken(format!("storage path must be absolute: {path}"));
        }
        if path.split('/').any(|part| part == "..") {
            return broken(format!(
                "storage path cannot contain '..' for security reasons: {path}"
            ));
        }
        if path.trim_matches('/').is_empty() {
            return broken("storage path cannot be empty");
        }
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
            return check_predictor(&single.predictor);
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
mod tests {
    use serde_json::json;

    use super::*;

    fn check(spec: Value) -> String {
        let object = json!({"metadata": {"name": "iris"}, "spec": spec});
        inference_service(None, &object)
            .map_or_else(|error| error.to_string(), |()| "ok".to_owned())
    }

    fn model() -> Value {
        json!({"modelFormat": {"name": "sklearn"}, "storageUri": "s3://b/m"})
    }

    #[test]
    fn rules_have_kserves_words() {
        let cases = [
            (json!({"predictor": {"model": model()}}), "ok"),
            (json!({"predictor": {}}), "exactly one of [Name, SKLearn"),
            (
                json!({"predictor": {"model": model(), "sklearn": {}}}),
                "exactly one of [Name, SKLearn",
            ),
            (
                json!({"predictor": {"model": model(), "minReplicas": 3, "maxReplicas": 2}}),
                "'MinReplicas' cannot be greater than MaxReplicas",
            ),
            (
                json!({"predictor": {"model": model(), "minReplicas": 3, "maxReplicas": 0}}),
                "ok",
            ),
            (
                json!({"predictor": {"model": model(), "minReplicas": -1}}),
                "'MinReplicas' cannot be less than 0",
            ),
            (
                json!({"predictor": {"model": model(), "containerConcurrency": -1}}),
                "parallelism cannot be less than 0",
            ),
            (
                json!({"predictor": {"model": model(), "canaryTrafficPercent": 101}}),
                "canaryTrafficPercent must be between 0 and 100, got 101",
            ),
            (
                json!({"predictor": {"model": model(), "logger": {"url": "http://x"}}}),
                "invalid logger type",
            ),
            (
                json!({"predictor": {"model": model()}, "canary": {"predictor": {"model": model()}}}),
                "ok",
            ),
            (
                json!({"predictor": {"model": model()}, "canary": {"predictor": {}}}),
                "exactly one of",
            ),
            (
                json!({"predictor": {"model": model(), "canary": {"predictor": {"model": model()}}}}),
                "ok",
            ),
            (
                json!({"predictor": {"model": model()}, "canary": [{"predictor": {"name": "b", "model": model()}, "trafficPercent": 20}]}),
                "ok",
            ),
            (
                json!({"predictor": {"model": model()}, "canary": [{"predictor": {"model": model()}, "trafficPercent": 20}]}),
                "canary[0] predictor.name is required",
            ),
            (
                json!({"predictor": {"model": model()}, "canary": [{"predictor": {"name": "b"}, "trafficPercent": 60}, {"predictor": {"name": "c"}, "trafficPercent": 60}]}),
                "sum of canary trafficPercent values (120) must be <= 100",
            ),
        ];
        for (spec, expected) in cases {
            let actual = check(spec.clone());
            assert!(actual.starts_with(expected), "{spec}: {actual}");
        }
    }

    #[test]
    fn names_start_with_a_letter() {
        let object =
            json!({"metadata": {"name": "1iris"}, "spec": {"predictor": {"model": model()}}});
        let error = inference_service(None, &object).unwrap_err().to_string();
        assert!(
            error.starts_with("the InferenceService \"1iris\" is invalid"),
            "{error}"
        );
    }

    #[test]
    fn sticky_names_a_header_or_a_cookie() {
        for (text, is_good) in [
            ("header=x-user", true),
            ("cookie=id", true),
            ("query=id", false),
            ("header=", false),
            ("x", false),
        ] {
            let object = json!({"metadata": {"name": "iris", "annotations": {"serving.coracle.dev/sticky": text}}, "spec": {"predictor": {"model": model()}}});
            assert_eq!(inference_service(None, &object).is_ok(), is_good, "{text}");
        }
    }

    #[test]
    fn the_mode_stays() {
        let old = json!({"status": {"deploymentMode": "Knative"}});
        let object = json!({"metadata": {"name": "iris", "annotations": {"serving.kserve.io/deploymentMode": "RawDeployment"}}, "spec": {"predictor": {"model": model()}}});
        let error = inference_service(Some(&old), &object)
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "update rejected: deploymentMode cannot be changed from 'Knative' to 'Standard'"
        );
    }
}
