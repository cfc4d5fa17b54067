//! Bodies to objects.

use serde_json::Value;

use super::protobuf;
use super::request::ApiRequest;
use crate::failure::Failure;
use crate::manifests::yaml_options;

/// Returns the essence of a content type.
pub(crate) fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// Returns the object in the body, which is JSON, YAML or, for a few kinds, protobuf; `None` for an empty body.
pub(crate) fn read(request: &ApiRequest) -> Result<Option<Value>, Failure> {
    if request.body.is_empty() {
        return Ok(None);
    }
    let value = match essence(&request.content_type) {
        ""
        | "application/json"
        | "application/merge-patch+json"
        | "application/json-patch+json"
        | "application/strategic-merge-patch+json" => from_json(&request.body)?,
        "application/yaml" | "application/apply-patch+yaml" => from_yaml(&request.body)?,
        "application/vnd.kubernetes.protobuf" => protobuf::decode(&request.body)
            .map_err(|why| Failure::bad_request(format!("couldn't decode the body: {why}")))?,
        _ => {
            let allowed = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
            return Err(Failure::unsupported_media_type(allowed));
        }
    };
    Ok(Some(value))
}

fn from_json(bytes: &[u8]) -> Result<Value, Failure> {
    serde_json::from_slice(bytes)
        .map_err(|error| Failure::bad_request(format!("couldn't decode the body as JSON: {error}")))
}

fn from_yaml(bytes: &[u8]) -> Result<Value, Failure> {
    // Most of what is sent as YAML is JSON.
    if let Ok(value) = serde_json::from_slice(bytes) {
        return Ok(value);
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        Failure::bad_request(format!("couldn't decode the body as YAML: {error}"))
    })?;
    serde_saphyr::from_str_with_options(text, yaml_options())
        .map_err(|error| Failure::bad_request(format!("couldn't decode the body as YAML: {error}")))
}
