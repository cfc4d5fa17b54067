//! Manifests: files of objects, applied one after another.

use std::sync::Arc;

use coracle_access::User;
use serde_json::Value;

use crate::failure::Failure;
use crate::object;
use crate::rest::{Answer, Api, ApiRequest};

/// The namespace of objects that name none.
const DEFAULT_NAMESPACE: &str = "default";

/// An object of a file, with where the API has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// The path of the object.
    pub path: String,
    /// The namespace; none for cluster-wide objects.
    pub namespace: Option<String>,
    /// How kubectl names the object, such as `inferenceservice.serving.kserve.io/iris`.
    pub resource: String,
    /// The object.
    pub object: Value,
}

/// Returns how YAML is read: only `true` and `false` are truth values, as kubectl's users expect of a namespace `n`.
pub(crate) fn yaml_options() -> serde_saphyr::Options {
    serde_saphyr::options! { strict_booleans: true }
}

impl Manifest {
    /// Reads the objects of a YAML or JSON text; lists are their items. Objects that name no namespace get this one.
    ///
    /// # Errors
    /// If the text is no YAML, or holds an object of a kind that is not known.
    pub fn read_all(text: &str, namespace: &str) -> Result<Vec<Self>, Failure> {
        let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(text, yaml_options())
            .map_err(|error| Failure::bad_request(format!("the file is no YAML: {error}")))?;
        let mut manifests = Vec::new();
        for document in documents {
            let items = match document.get("items").and_then(Value::as_array) {
                Some(items) if object::is_list(&document) => items.clone(),
                _ => vec![document],
            };
            for item in items.into_iter().filter(|item| !item.is_null()) {
                manifests.push(Self::read(item, namespace)?);
            }
        }
        Ok(manifests)
    }

    fn read(mut object: Value, default_namespace: &str) -> Result<Self, Failure> {
        let text = |field: &str| {
            object
                .get(field)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let (api_version, kind_name) = (text("apiVersion"), text("kind"));
        let Some(kind) = coracle_api::Kind::find_by_name(api_version, kind_name) else {
            let known = coracle_api::KINDS.iter();
            let known = known.map(|kind| format!("{} {}", kind.api_version(), kind.kind));
            let known: Vec<String> = known.collect();
            return Err(Failure::bad_request(format!(
                "no matches for kind \"{kind_name}\" in version \"{api_version}\"; known are: {}",
                known.join(", ")
            )));
        };
        let name = object::name(&object).to_owned();
        let mut path = match kind.group {
            "" => format!("/api/{api_version}"),
            _ => format!("/apis/{api_version}"),
        };
        let namespace = kind.namespaced.then(|| match object::namespace(&object) {
            "" => default_namespace.to_owned(),
            namespace => namespace.to_owned(),
        });
        if let Some(namespace) = &namespace {
            path.push_str(&format!("/namespaces/{namespace}"));
            let metadata = object::metadata_mut(&mut object);
            metadata.insert("namespace".to_owned(), namespace.as_str().into());
        }
        Ok(Self {
            path: format!("{path}/{}/{name}", kind.plural),
            namespace,
            resource: format!("{}/{name}", kind.qualified_singular()),
            object,
        })
    }
}

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
        let manifests = Manifest::read_all(text, DEFAULT_NAMESPACE)?;
        let lines = manifests
            .into_iter()
            .map(|manifest| self.apply_manifest(manifest, manager));
        lines.collect()
    }

    fn apply_manifest(
        self: &Arc<Self>,
        manifest: Manifest,
        manager: &str,
    ) -> Result<String, Failure> {
        if let Some(namespace) = &manifest.namespace {
            self.ensure_namespace(namespace)?;
        }
        let resource = manifest.resource;
        let request = ApiRequest {
            user: User::owner(),
            method: "PATCH".to_owned(),
            path: manifest.path,
            query: format!("fieldManager={manager}&force=true&fieldValidation=Strict"),
            content_type: "application/apply-patch+yaml".to_owned(),
            user_agent: manager.to_owned(),
            body: manifest.object.to_string().into(),
            ..ApiRequest::default()
        };
        match self.answer(&request) {
            Answer::Reply(reply) if reply.status == 201 => Ok(format!("{resource} created")),
            Answer::Reply(reply) if reply.status == 200 => Ok(format!("{resource} applied")),
            Answer::Reply(reply) => {
                let status: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
                let message = status["message"].as_str().unwrap_or("the API refused it");
                Err(Failure::bad_request(format!("{resource}: {message}")))
            }
            Answer::Watch(_) | Answer::Log(_) => {
                Err(Failure::internal("an apply was answered with a watch"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_hold_several_objects_and_lists() {
        let text = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\n# nothing\n---\napiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: c}}\n- {apiVersion: v1, kind: Secret, metadata: {name: s, namespace: n}}\n";
        let manifests = Manifest::read_all(text, "default").unwrap();
        let paths: Vec<&str> = manifests
            .iter()
            .map(|manifest| manifest.path.as_str())
            .collect();
        assert_eq!(
            paths,
            [
                "/api/v1/namespaces/a",
                "/api/v1/namespaces/default/configmaps/c",
                "/api/v1/namespaces/n/secrets/s"
            ]
        );
        let unknown =
            Manifest::read_all("apiVersion: apps/v1\nkind: Deployment\n", "x").unwrap_err();
        assert!(
            unknown
                .message
                .starts_with("no matches for kind \"Deployment\" in version \"apps/v1\"")
        );
        assert!(Manifest::read_all("a: [", "x").is_err());
    }
}
