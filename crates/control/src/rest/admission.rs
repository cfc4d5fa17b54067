//! What every object goes through on its way in: names, schema, defaults, the rules of its kind.

use coracle_api::schema;
use coracle_api::structural::{self, Cause};
use coracle_api::validation::{self, NamedRuntime};
use coracle_api::{Kind, Origin, kind};
use serde_json::{Value, json};

use super::access;
use super::definitions;
use super::protobuf::to_base64;
use super::request::ApiRequest;
use crate::annotations;
use crate::controller::{
    caching, experiments, fallbacks, mirrors, rollouts, runtimes, scaling, seldon, shadows,
};
use crate::failure::Failure;
use crate::object;
use crate::store::Store;

/// Looks at unknown fields as the client asked: refuses them, or returns warnings.
///
/// Unknown fields and nulls are dropped.
pub(crate) fn check_schema(
    request: &ApiRequest,
    kind: &Kind,
    object: &mut Value,
) -> Result<Vec<String>, Failure> {
    let definitions = schema::definitions();
    let findings = structural::check(definitions, definitions.of(kind), object);
    let texts: Vec<String> = findings
        .unknown
        .iter()
        .map(|path| format!("unknown field \"{path}\""))
        .collect();
    let validation = request.parameter("fieldValidation");
    let validation = validation.as_deref().unwrap_or("Warn");
    // What is misspelt goes before what is missing, which may be the same.
    if validation == "Strict" && !texts.is_empty() {
        return Err(cannot_be_handled(
            kind,
            &format!("strict decoding error: {}", texts.join(", ")),
        ));
    }
    if !findings.causes.is_empty() {
        return Err(match kind.origin {
            Origin::Custom => Failure::invalid(kind, object::name(object), &findings.causes),
            Origin::BuiltIn => cannot_be_handled(kind, &builtin_fault(&findings.causes)),
        });
    }
    let mut warnings = match validation {
        "Strict" | "Ignore" => Vec::new(),
        "Warn" | "" => texts,
        other => {
            return Err(Failure::bad_request(format!(
                "fieldValidation: Unsupported value: {other:?}: supported values: \"Ignore\", \"Strict\", \"Warn\""
            )));
        }
    };
    if *kind == kind::INFERENCE_SERVICE {
        warnings.extend(scaling::warnings(object));
    }
    Ok(warnings)
}

fn cannot_be_handled(kind: &Kind, why: &str) -> Failure {
    Failure::bad_request(format!(
        "{} in version \"{}\" cannot be handled as a {}: {why}",
        kind.kind, kind.version, kind.kind
    ))
}

fn builtin_fault(causes: &[Cause]) -> String {
    let texts: Vec<String> = causes.iter().map(Cause::to_string).collect();
    texts.join(", ")
}

/// Says that an object is not what its path is for.
pub(crate) fn unrecognized(kind: &Kind, field: &str, (actual, expected): (&str, &str)) -> Failure {
    Failure::bad_request(format!(
        "the object provided is unrecognized (must be of type {}): {field} is \"{actual}\", expected \"{expected}\"",
        kind.kind
    ))
}

/// Checks what an object says about itself against the path it came to.
pub(crate) fn check_identity(
    kind: &Kind,
    namespace: Option<&str>,
    object: &mut Value,
) -> Result<(), Failure> {
    let Some(fields) = object.as_object_mut() else {
        return Err(Failure::bad_request("the body is not an object"));
    };
    for (field, expected) in [
        ("apiVersion", kind.api_version()),
        ("kind", kind.kind.to_owned()),
    ] {
        match fields.get(field).and_then(Value::as_str) {
            None | Some("") => drop(fields.insert(field.to_owned(), expected.into())),
            Some(actual) if actual == expected => {}
            Some(actual) => {
                return Err(unrecognized(kind, field, (actual, &expected)));
            }
        }
    }
    let metadata = object::metadata_mut(object);
    match (
        namespace,
        metadata
            .get("namespace")
            .and_then(Value::as_str)
            .unwrap_or_default(),
    ) {
        (Some(namespace), "") => drop(metadata.insert("namespace".to_owned(), namespace.into())),
        (Some(namespace), named) if named != namespace => {
            return Err(Failure::bad_request(format!(
                "the namespace of the provided object does not match the namespace sent on the request: \"{named}\", \"{namespace}\""
            )));
        }
        (None, _) => drop(metadata.remove("namespace")),
        _ => {}
    }
    Ok(())
}

/// Checks the name of a new object.
pub(crate) fn check_name(kind: &Kind, object: &Value) -> Result<(), Failure> {
    let name = object::name(object);
    if name.is_empty() {
        let cause = Cause::required("metadata.name", "name or generateName is required");
        return Err(Failure::invalid(kind, "", &[cause]));
    }
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let (good, rule) = if kind.plural == "namespaces" {
        (
            is_label(name),
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
        )
    } else {
        (
            name.len() <= 253 && name.split('.').all(is_label),
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
        )
    };
    if good {
        return Ok(());
    }
    let cause = Cause::invalid("metadata.name", &json!(name), rule);
    Err(Failure::invalid(kind, name, &[cause]))
}

/// Fills in what a kind's objects have by default.
pub(crate) fn set_defaults(kind: &Kind, object: &mut Value) {
    drop_emptied(object);
    if *kind == kind::CUSTOM_RESOURCE_DEFINITION {
        definitions::set_status(object);
    }
    match kind.plural {
        "secrets" => {
            if let Some(Value::Object(texts)) = object
                .as_object_mut()
                .and_then(|fields| fields.remove("stringData"))
            {
                for (key, text) in texts {
                    object["data"][key] =
                        to_base64(text.as_str().unwrap_or_default().as_bytes()).into();
                }
            }
            if object.get("type").is_none_or(|kind| kind == "") {
                object["type"] = json!("Opaque");
            }
        }
        "namespaces" => {
            let name = object::name(object).to_owned();
            let metadata = object::metadata_mut(object);
            let labels = metadata.entry("labels").or_insert_with(|| json!({}));
            labels["kubernetes.io/metadata.name"] = name.into();
            if object.get("spec").is_none() {
                object["spec"] = json!({"finalizers": ["kubernetes"]});
            }
            if object.get("status").is_none() {
                object["status"] = json!({"phase": "Active"});
            }
        }
        "serviceaccounts" => {
            // Only the names of secrets are kept.
            let secrets = object.get_mut("secrets").and_then(Value::as_array_mut);
            for secret in secrets.into_iter().flatten() {
                *secret = json!({"name": secret["name"]});
            }
        }
        _ => {}
    }
    if *kind == kind::INFERENCE_SERVICE {
        coracle_api::defaulting::inference_service(object);
    }
}

/// Leaves out of the metadata what is empty, as Kubernetes does: the last label may have been taken away.
fn drop_emptied(object: &mut Value) {
    let metadata = object::metadata_mut(object);
    for field in ["labels", "annotations", "finalizers", "ownerReferences"] {
        let is_empty = match metadata.get(field) {
            Some(Value::Object(fields)) => fields.is_empty(),
            Some(Value::Array(items)) => items.is_empty(),
            _ => false,
        };
        if is_empty {
            metadata.remove(field);
        }
    }
}

/// Checks the rules of a kind; `old` is the object before, if there was one.
pub(crate) fn check_rules(
    store: &Store,
    kind: &Kind,
    old: Option<&Value>,
    object: &Value,
) -> Result<(), Failure> {
    annotations::check(kind, object)
        .map_err(|why| Failure::denied("annotations.coracle.dev.validator", &why))?;
    if *kind == kind::INFERENCE_SERVICE {
        let denied =
            |why: String| Failure::denied("inferenceservice.kserve-webhook-server.validator", &why);
        validation::inference_service(old, object).map_err(|why| denied(why.to_string()))?;
        caching::read(object).map_err(denied)?;
        shadows::read(object).map_err(denied)?;
        fallbacks::read(object).map_err(denied)?;
        rollouts::read_inline(object).map_err(denied)?;
        return scaling::check(object).map_err(|why| denied(why.to_string()));
    }
    if *kind == kind::ROLLOUT {
        rollouts::check(old, object)
            .map_err(|causes| Failure::invalid(kind, object::name(object), &causes))?;
        let denied = |why: String| Failure::denied("rollout.coracle.dev.validator", &why);
        return rollouts::check_command(old, object).map_err(denied);
    }
    if *kind == kind::SELDON_DEPLOYMENT {
        return seldon::check(object)
            .map_err(|why| Failure::denied("v1.vseldondeployment.kb.io", &why));
    }
    if *kind == kind::SELDON_EXPERIMENT {
        let denied = |why: String| Failure::denied("experiment.mlops.seldon.io.validator", &why);
        return mirrors::check(object).map_err(denied);
    }
    if *kind == kind::EXPERIMENT {
        experiments::check(old, object)
            .map_err(|causes| Failure::invalid(kind, object::name(object), &causes))?;
        let denied = |why: String| Failure::denied("experiment.coracle.dev.validator", &why);
        return experiments::check_command(old, object).map_err(denied);
    }
    if *kind == kind::SERVING_RUNTIME || *kind == kind::CLUSTER_SERVING_RUNTIME {
        return check_runtime(store, kind, object);
    }
    if *kind == kind::CUSTOM_RESOURCE_DEFINITION {
        return definitions::check(object);
    }
    if *kind == kind::ROLE_BINDING || *kind == kind::CLUSTER_ROLE_BINDING {
        return access::check_binding(kind, old, object);
    }
    if kind.plural == "secrets" || kind.plural == "configmaps" {
        let is_immutable = old.is_some_and(|old| old.get("immutable") == Some(&Value::Bool(true)));
        if is_immutable && old.is_some_and(|old| old.get("data") != object.get("data")) {
            let cause = Cause::forbidden("data", "field is immutable when `immutable` is set");
            return Err(Failure::invalid(kind, object::name(object), &[cause]));
        }
    }
    Ok(())
}

/// Says why a new object that may be there will do nothing, if so.
pub(crate) fn warning(store: &Store, kind: &Kind, object: &Value) -> Option<String> {
    if *kind != kind::ROLLOUT {
        return None;
    }
    let service = object.pointer("/spec/inferenceService");
    let (others, _) = store.list(kind, Some(object::namespace(object)));
    let mut others = others.iter().map(|stored| &stored.object);
    let other = others.find(|other| {
        other.pointer("/spec/inferenceService") == service && !object::is_terminating(other)
    })?;
    Some(format!(
        "Rollout {} is there already for {}, and the oldest one decides; delete one of them",
        object::name(other),
        service.and_then(Value::as_str).unwrap_or_default()
    ))
}

/// Checks the rules of a kind that a patch itself may break, whatever comes of it.
pub(crate) fn check_patch(kind: &Kind, live: &Value, patch: &Value) -> Result<(), Failure> {
    let (checked, webhook) = if *kind == kind::ROLLOUT {
        let checked = rollouts::check_patch(live, patch);
        (checked, "rollout.coracle.dev.validator")
    } else if *kind == kind::EXPERIMENT {
        let checked = experiments::check_patch(live, patch);
        (checked, "experiment.coracle.dev.validator")
    } else {
        return Ok(());
    };
    checked.map_err(|why| Failure::denied(webhook, &why))
}

/// Checks a runtime against the others of its scope.
fn check_runtime(store: &Store, kind: &Kind, object: &Value) -> Result<(), Failure> {
    let (namespace, webhook) = if *kind == kind::SERVING_RUNTIME {
        let webhook = "servingruntime.kserve-webhook-server.validator";
        (Some(object::namespace(object)), webhook)
    } else {
        (
            None,
            "clusterservingruntime.kserve-webhook-server.validator",
        )
    };
    runtimes::check_engine(object).map_err(|why| Failure::denied(webhook, &why))?;
    let read = |runtime: &Value| {
        Some(NamedRuntime {
            name: object::name(runtime).to_owned(),
            namespace: object::namespace(runtime).to_owned(),
            spec: serde_json::from_value(runtime.get("spec")?.clone()).ok()?,
        })
    };
    // One that cannot be read was refused by its schema.
    let Some(new) = read(object) else {
        return Ok(());
    };
    let (others, _) = store.list(kind, namespace);
    let others: Vec<NamedRuntime> = others
        .iter()
        .filter_map(|stored| read(&stored.object))
        .collect();
    validation::serving_runtime(&new, &others)
        .map_err(|why| Failure::denied(webhook, &why.to_string()))
}
