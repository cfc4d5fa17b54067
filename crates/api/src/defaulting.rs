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
        if answers_v2 && !model.contains_key("protocolVersion") {
            model.insert("protocolVersion".to_owned(), json!("v2"));
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
    fn onnx_speaks_v2() {
        let mut object =
            json!({"metadata": {}, "spec": {"predictor": {"onnx": {"storageUri": "gs://b"}}}});
        inference_service(&mut object);
        assert_eq!(
            object["spec"]["predictor"]["model"]["protocolVersion"],
            "v2"
        );
    }
}
