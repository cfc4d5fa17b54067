//! Every rule, in KServe's words.

use serde_json::json;

use super::*;

fn check(spec: Value) -> String {
    let object = json!({"metadata": {"name": "iris"}, "spec": spec});
    inference_service(None, &object).map_or_else(|error| error.to_string(), |()| "ok".to_owned())
}

/// Checks what is said of each spec.
fn check_all<const N: usize>(cases: [(Value, &str); N]) {
    for (spec, expected) in cases {
        assert_eq!(check(spec.clone()), expected, "{spec}");
    }
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
    let object = json!({"metadata": {"name": "1iris"}, "spec": {"predictor": {"model": model()}}});
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

#[test]
fn places_follow_kserves_rules() {
    let places = |places: Value| json!({"predictor": {"model": {"modelFormat": {"name": "sklearn"}}, "storageUris": places}});
    let cases = [
        (
            places(
                json!([{"uri": "s3://b/a", "mountPath": "/mnt/models/a"}, {"uri": "s3://b/b", "mountPath": "/mnt/models/b"}]),
            ),
            "ok",
        ),
        (places(json!([{"uri": ""}])), "storage URI cannot be empty"),
        (
            places(json!([{"uri": "s3://b/a", "mountPath": "/"}])),
            "storage path cannot be empty",
        ),
        (
            places(json!([{"uri": "s3://b/a", "mountPath": "models"}])),
            "storage path must be absolute: models",
        ),
        (
            places(json!([{"uri": "s3://b/a", "mountPath": "/mnt/../etc"}])),
            "storage path cannot contain '..' for security reasons: /mnt/../etc",
        ),
        (
            places(
                json!([{"uri": "pvc://a/x", "mountPath": "/mnt/a"}, {"uri": "pvc://b/x", "mountPath": "/mnt/a"}]),
            ),
            "PVC storage paths must be unique",
        ),
        (
            places(
                json!([{"uri": "s3://b/a", "mountPath": "/mnt/models"}, {"uri": "s3://b/b", "mountPath": "/opt/models"}]),
            ),
            "storage paths must have a common parent directory. Current paths: [/mnt/models /opt/models] have no common parent beyond root",
        ),
        // Volumes are mounted, not fetched: they may be anywhere.
        (
            places(
                json!([{"uri": "s3://b/a", "mountPath": "/mnt/models"}, {"uri": "pvc://b/b", "mountPath": "/opt/models"}]),
            ),
            "ok",
        ),
        (
            json!({"predictor": {"model": model(), "storageUris": [{"uri": "s3://b/a"}]}}),
            "Setting both StorageURI and StorageURIs is not supported.",
        ),
        (
            json!({"predictor": {"model": model()}, "transformer": {"containers": [{"name": "t"}], "storageUris": [{"uri": ""}]}}),
            "storage URI cannot be empty",
        ),
    ];
    check_all(cases);
}

#[test]
fn containers_and_components_follow_kserves_rules() {
    let container = |name: &str, env: Value| json!({"predictor": {"containers": [{"name": name, "image": "x", "env": env}]}});
    let cases = [
        (
            container(
                "transformer-container",
                json!([{"name": "STORAGE_URI", "value": "s3://b/x"}]),
            ),
            "storage uri should not be specified in transformer container",
        ),
        (
            container("mine", json!([{"name": "PROTOCOL", "value": "v3"}])),
            "invalid protocol v3. Must be one of [v1, v2]",
        ),
        (
            container("mine", json!([{"name": "PYTHONPATH", "value": "/x"}])),
            "the InferenceService \"iris\" is invalid: setting PYTHONPATH in container \"mine\" is not allowed for security reasons",
        ),
        (
            json!({"predictor": {"model": {"modelFormat": {"name": "sklearn"}, "storageUri": "s3://b/m", "name": "x"}}}),
            "the 'name' field is not allowed in standard predictor",
        ),
        (
            json!({"predictor": {"model": model(), "logger": {"mode": "all", "storage": {"path": "x", "key": "y"}}}}),
            "invalid logger storage configuration",
        ),
        (
            json!({"predictor": {"model": {"modelFormat": {"name": "sklearn"}, "confidential": {"enabled": true}}}}),
            "confidential model serving requires storageUri to be set",
        ),
        (
            json!({"predictor": {"model": model(), "minReplicas": 1, "maxReplicas": -2}}),
            "'MaxReplicas' cannot be less than 0",
        ),
        (
            json!({"predictor": {"model": model()}, "transformer": {"minReplicas": 1}}),
            "exactly one of [PodSpec, ComponentExtensionSpec] must be specified in TransformerSpec",
        ),
        (
            json!({"predictor": {"model": model()}, "explainer": {"minReplicas": 1}}),
            "exactly one of [ART, PodSpec, ComponentExtensionSpec] must be specified in ExplainerSpec",
        ),
    ];
    check_all(cases);
}

#[test]
fn the_list_of_canaries_follows_kserves_rules() {
    let list = |canaries: Value| json!({"predictor": {"name": "a", "model": model(), "minReplicas": 2}, "canary": canaries});
    let canary = |fields: Value| {
        let mut predictor = json!({"name": "b"});
        if let (Value::Object(predictor), Value::Object(fields)) = (&mut predictor, fields) {
            predictor.extend(fields);
        }
        json!({"predictor": predictor, "trafficPercent": 10})
    };
    let cases = [
        (list(json!([canary(json!({}))])), "ok"),
        (
            list(json!([canary(json!({})), canary(json!({}))])),
            "canary predictor.name \"b\" is duplicated",
        ),
        (
            list(json!([canary(json!({"name": "a"}))])),
            "canary predictor.name \"a\" conflicts with stable predictor name",
        ),
        (
            list(json!([{"predictor": {"name": "b"}, "trafficPercent": 101}])),
            "canary \"b\" trafficPercent must be between 0 and 100, got 101",
        ),
        (
            list(json!([canary(json!({"maxReplicas": 2}))])),
            "canary \"b\" must not set maxReplicas (canary uses fixed replicas)",
        ),
        (
            list(json!([canary(json!({"scaleTarget": 2}))])),
            "canary \"b\" must not set scaleTarget (canary uses fixed replicas)",
        ),
        (
            list(json!([canary(json!({"workerSpec": {}}))])),
            "canary \"b\" must not set workerSpec (multi-node is not yet supported for canary)",
        ),
        (
            list(json!([canary(json!({"minReplicas": 3}))])),
            "canary \"b\" minReplicas (3) must not exceed stable predictor minReplicas (2)",
        ),
        (
            json!({"predictor": {"containers": [{"name": "x"}]}, "canary": [canary(json!({}))]}),
            "canary requires a stable predictor with a model (multi-model serving is not supported with canary)",
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(check(spec.clone()), expected, "{spec}");
    }
    let object = json!({
        "metadata": {"name": "iris", "annotations": {"serving.kserve.io/deploymentMode": "Knative"}},
        "spec": list(json!([canary(json!({}))]))
    });
    let error = inference_service(None, &object).unwrap_err().to_string();
    assert_eq!(
        error,
        "canary is only supported in Standard deployment mode"
    );
}

#[test]
fn a_stable_predictor_takes_another_name_only_with_another_model() {
    let spec = |name: &str, uri: &str| {
        json!({"metadata": {"name": "iris"}, "spec": {
            "predictor": {"name": name, "model": {"modelFormat": {"name": "sklearn"}, "storageUri": uri}},
            "canary": [{"predictor": {"name": "c"}, "trafficPercent": 0}]
        }})
    };
    let old = spec("a", "s3://b/one");
    let error = inference_service(Some(&old), &spec("b", "s3://b/one"))
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "predictor.name change requires a model change (e.g. storageUri)"
    );
    assert!(inference_service(Some(&old), &spec("b", "s3://b/two")).is_ok());
}

#[test]
fn autoscaler_classes_are_kserves() {
    for (class, expected) in [
        ("hpa", "ok"),
        ("external", "ok"),
        ("keda", "ok"),
        ("none", "ok"),
        ("kpa", "[kpa] is not a supported autoscaler class type"),
    ] {
        let object = json!({
            "metadata": {"name": "iris", "annotations": {"serving.kserve.io/autoscalerClass": class}},
            "spec": {"predictor": {"model": model()}}
        });
        let result = inference_service(None, &object);
        let text = result.map_or_else(|error| error.to_string(), |()| "ok".to_owned());
        assert_eq!(text, expected);
    }
}
