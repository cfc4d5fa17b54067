//! What KServe's defaulting webhook fills in.

use serde_json::{Map, Value, json};

/// The older blocks of a predictor, one for each framework.
const FRAMEWORKS: [&str; 10] = [
    "sklearn",
    "xgboost",
    "tensorflow",
    "pytorch",
    "triton",
    "onnx",
    "huggingface",
    "pmml",
    "lightgbm",
    "paddle",
];

/// Formats whose runtimes answer the Open Inference Protocol.
const V2_FORMATS: [&str; 4] = ["triton", "onnx", "huggingface", "vLLM"];

/// Rewrites the older framework blocks of an InferenceService as `model`, and names the format in an annotation.
pub fn inference_service(object: &mut Value) {
    if let Some(predictor) = object.pointer_mut("/spec/predictor") {
        rewrite_framework(predictor);
    }
    for pointer in ["/spec/canary/predictor", "/spec/predictor/canary/predictor"] {
        if let Some(predictor) = object.pointer_mut(pointer) {
            rewrite_framework(predictor);
        }
    }
    if let Some(Value::Array(canaries)) = object.pointer_mut("/spec/canary") {
        for canary in canaries {
            if let Some(predictor) = canary.get_mut("predictor") {
                rewrite_framework(predictor);
            }
        }
    }
    name_mode(object);
    let format = object.pointer("/spec/predictor/model/modelFormat/name");
    if let Some(format) = format.and_then(Value::as_str).map(str::to_owned)
        && let Some(Value::Object(metadata)) = object.get_mut("metadata")
    {
        let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
        if let Value::Object(annotations) = annotations {
            annotations.insert("modelFormat".to_owned(), format.into());
        }
    }
}

/// Writes the deployment mode under its name of today.
fn name_mode(object: &mut Value) {
    let mode = object.pointer_mut("/metadata/annotations/serving.kserve.io~1deploymentMode");
    if let Some(mode) = mode {
        let named = match mode.as_str() {
            Some("RawDeployment") => "Standard",
            Some("Serverless") => "Knative",
            _ => return,
        };
        *mode = json!(named);
    }
}

fn rewrite_framework(predictor: &mut Value) {
    let Some(fields) = predictor.as_object_mut() else {
        return;
    };
    let present: Vec<&str> = FRAMEWORKS
        .into_iter()
        .filter(|name| fields.contains_key(*name))
        .collect();
    // Two blocks, or one beside `model`, are refused later; they are left for the message to name.
    if let [framework] = present.as_slice()
        && !fields.contains_key("model")
        && let Some(Value::Object(mut block)) = fields.remove(*framework)
    {
        block.remove("name");
        block.insert("modelFormat".to_owned(), json!({"name": framework}));
        fields.insert("model".to_owned(), Value::Object(block));
    }
    default_mount_paths(fields);
    if let Some(Value::Object(model)) = fields.get_mut("model") {
        let format = model
            .get("modelFormat")
            .and_then(|format| format.get("name"));
        let answers_v2 = format
            .and_then(Value::as_str)
            .is_some_and(|format| V2_FORMATS.contains(&format));
        let runtime = model.get("runtime").and_then(Value::as_str);
        let protocol = match runtime {
            Some("kserve-mlserver") => Some("v2"),
            Some("kserve-torchserve") => Some("v1"),
            _ if answers_v2 => Some("v2"),
            _ => None,
        };
        if let Some(protocol) = protocol
            && !model.contains_key("protocolVersion")
        {
            model.insert("protocolVersion".to_owned(), json!(protocol));
        }
    }
}

/// Files of a place go where a runtime looks for its model, unless it is said otherwise.
fn default_mount_paths(component: &mut Map<String, Value>) {
    let places = component
        .get_mut("storageUris")
        .and_then(Value::as_array_mut);
    for place in places.into_iter().flatten() {
        if let Value::Object(place) = place {
            place
                .entry("mountPath")
                .or_insert_with(|| json!("/mnt/models"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_blocks_become_models() {
        let mut object = json!({
            "metadata": {"name": "a"},
            "spec": {"predictor": {"sklearn": {"storageUri": "gs://b", "name": "", "resources": {}}, "minReplicas": 1}}
        });
        inference_service(&mut object);
        assert_eq!(
            object,
            json!({
                "metadata": {"name": "a", "annotations": {"modelFormat": "sklearn"}},
                "spec": {"predictor": {"model": {"modelFormat": {"name": "sklearn"}, "storageUri": "gs://b", "resources": {}}, "minReplicas": 1}}
            })
        );
        let before = object.clone();
        inference_service(&mut object);
        assert_eq!(object, before);
    }

    #[test]
    fn protocols_follow_formats_and_runtimes() {
        let model = |format: &str, runtime: Value| json!({"model": {"modelFormat": {"name": format}, "runtime": runtime}});
        let cases = [
            (json!({"onnx": {"storageUri": "gs://b"}}), json!("v2")),
            (json!({"sklearn": {"storageUri": "gs://b"}}), Value::Null),
            (
                json!({"onnx": {"protocolVersion": "grpc-v2"}}),
                json!("grpc-v2"),
            ),
            (model("triton", Value::Null), json!("v2")),
            (model("sklearn", json!("kserve-mlserver")), json!("v2")),
            (model("pytorch", json!("kserve-torchserve")), json!("v1")),
        ];
        for (predictor, expected) in cases {
            let mut object = json!({"metadata": {}, "spec": {"predictor": predictor}});
            inference_service(&mut object);
            let protocol = object.pointer("/spec/predictor/model/protocolVersion");
            assert_eq!(
                protocol.cloned().unwrap_or_default(),
                expected,
                "{predictor}"
            );
        }
    }

    #[test]
    fn modes_have_their_names_of_today() {
        for (written, expected) in [
            ("RawDeployment", "Standard"),
            ("Serverless", "Knative"),
            ("Standard", "Standard"),
        ] {
            let mut object = json!({
                "metadata": {"annotations": {"serving.kserve.io/deploymentMode": written}},
                "spec": {"predictor": {"model": {"modelFormat": {"name": "sklearn"}}}}
            });
            inference_service(&mut object);
            let annotations = &object["metadata"]["annotations"];
            assert_eq!(annotations["serving.kserve.io/deploymentMode"], expected);
        }
    }

    #[test]
    fn files_of_a_place_go_where_models_are_looked_for() {
        let mut object = json!({"metadata": {}, "spec": {"predictor": {
            "model": {"modelFormat": {"name": "sklearn"}},
            "storageUris": [{"uri": "s3://b/a"}, {"uri": "s3://b/b", "mountPath": "/mnt/models/b"}]
        }}});
        inference_service(&mut object);
        let places = &object["spec"]["predictor"]["storageUris"];
        assert_eq!(
            (&places[0]["mountPath"], &places[1]["mountPath"]),
            (&json!("/mnt/models"), &json!("/mnt/models/b"))
        );
    }
}
