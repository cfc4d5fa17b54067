//! Manifests: files of objects, applied one after another.

use std::sync::Arc;

use serde_json::Value;

use crate::failure::Failure;
use crate::object;
use crate::rest::{Answer, Api, ApiRequest};

/// The namespace of objects that name none.
const DEFAULT_NAMESPACE: &str = "default";

impl Api {
    /// Applies the objects of a YAML or JSON text, namespaces that they need included; returns a line for each, as kubectl
    /// writes it.
    ///
    /// # Errors
    /// The first failure, with the object that it is about.
    pub fn apply_manifests(
        self: &Arc<Self>,
        text: &str,
        manager: &str,
    ) -> Result<Vec<String>, Failure> {
        let documents: Vec<Value> = serde_saphyr::from_multiple(text)
            .map_err(|error| Failure::bad_request(format!("the file is no YAML: {error}")))?;
        let mut lines = Vec::new();
        for document in documents {
            // A List is its items.
            let items = match document.get("items").and_then(Value::as_array) {
                Some(items) if object::is_list(&document) => items.clone(),
                _ => vec![document],
            };
            for item in items.into_iter().filter(|item| !item.is_null()) {
                lines.push(self.apply_manifest(item, manager)?);
            }
        }
        Ok(lines)
    }

    fn apply_manifest(
        self: &Arc<Self>,
        mut manifest: Value,
        manager: &str,
    ) -> Result<String, Failure> {
        let text = |field: &str| {
            manifest
                .get(field)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let (api_version, kind_name) = (text("apiVersion"), text("kind"));
        let kind = coracle_api::Kind::find_by_name(&api_version, &kind_name).ok_or_else(|| {
            let known: Vec<String> = coracle_api::KINDS
                .iter()
                .map(|kind| format!("{} {}", kind.api_version(), kind.kind))
                .collect();
            Failure::bad_request(format!(
                "no matches for kind \"{kind_name}\" in version \"{api_version}\"; known are: {}",
                known.join(", ")
            ))
        })?;
        let name = object::name(&manifest).to_owned();
        let mut path = match kind.group {
            "" => format!("/api/{}", kind.version),
            group => format!("/apis/{group}/{}", kind.version),
        };
        if kind.namespaced {
            let namespace = match object::namespace(&manifest) {
                "" => DEFAULT_NAMESPACE.to_owned(),
                namespace => namespace.to_owned(),
            };
            self.ensure_namespace(&namespace)?;
            path.push_str(&format!("/namespaces/{namespace}"));
            object::metadata_mut(&mut manifest).insert("namespace".to_owned(), namespace.into());
        }
        let request = ApiRequest {
            method: "PATCH".to_owned(),
            path: format!("{path}/{}/{name}", kind.plural),
            query: format!("fieldManager={manager}&force=true&fieldValidation=Strict"),
            content_type: "application/apply-patch+yaml".to_owned(),
            user_agent: manager.to_owned(),
            body: manifest.to_string().into(),
            ..ApiRequest::default()
        };
        let resource = format!("{}/{name}", kind.qualified_singular());
        match self.answer(&request) {
            Answer::Reply(reply) if reply.status == 201 => Ok(format!("{resource} created")),
            Answer::Reply(reply) if reply.status == 200 => Ok(format!("{resource} applied")),
            Answer::Reply(reply) => {
                let status: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
                let message = status["message"].as_str().unwrap_or("the API refused it");
                Err(Failure::bad_request(format!("{resource}: {message}")))
            }
            Answer::Watch(_) => Err(Failure::internal("an apply was answered with a watch")),
        }
    }
}
