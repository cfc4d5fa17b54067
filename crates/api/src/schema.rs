//! The OpenAPI schemas of all kinds, derived from the Rust types; one source for validation, discovery and `explain`.

use std::sync::OnceLock;

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{
    ConfigMap, Event, Namespace, Pod, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, RoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::experiment::{ExperimentSpec, ExperimentStatus};
use crate::inference_service::InferenceServiceSpec;
use crate::kind::{self, KINDS, Kind};
use crate::rollout::{RolloutSpec, RolloutStatus};
use crate::seldon::{SeldonDeploymentSpec, SeldonDeploymentStatus};
use crate::seldon_experiment::{SeldonExperimentSpec, SeldonExperimentStatus};
use crate::serving_runtime::ServingRuntimeSpec;
use crate::status::InferenceServiceStatus;

const PREFIX: &str = "#/components/schemas/";
const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// All schemas, by name.
#[derive(Debug)]
pub struct Definitions {
    schemas: Map<String, Value>,
}

/// Returns the schemas; built at the first call.
pub fn definitions() -> &'static Definitions {
    static DEFINITIONS: OnceLock<Definitions> = OnceLock::new();
    DEFINITIONS.get_or_init(Definitions::build)
}

impl Definitions {
    fn build() -> Self {
        let mut generator = SchemaSettings::openapi3().into_generator();
        add_kubernetes_own(&mut generator);
        let custom = custom_kinds(&mut generator);
        let mut schemas = generator.take_definitions(true);
        for (kind, description, parts) in custom {
            schemas.insert(kind.schema.to_owned(), object(description, &parts));
        }
        for (name, schema) in &mut schemas {
            tidy(schema);
            if name.starts_with("dev.coracle.") {
                join_lines(schema);
            }
            loosen(name, schema);
        }
        for kind in &KINDS {
            if let Some(schema) = schemas.get_mut(kind.schema) {
                let named = kind.versions().map(
                    |version| json!({"group": kind.group, "version": version, "kind": kind.kind}),
                );
                schema["x-kubernetes-group-version-kind"] = named.collect();
            }
        }
        Self { schemas }
    }

    /// Returns the schema of a kind's objects.
    #[must_use]
    pub fn of(&self, kind: &Kind) -> &Value {
        self.schemas.get(kind.schema).unwrap_or(&Value::Null)
    }

    /// Follows references until there is a schema that says something.
    #[must_use]
    pub fn resolve<'a>(&'a self, mut schema: &'a Value) -> &'a Value {
        // References lead to definitions, which are no references themselves; the bound is for safety.
        for _ in 0..8 {
            let reference = schema.get("$ref").or_else(|| {
                let all = schema.get("allOf")?.as_array()?;
                all.first()?.get("$ref")
            });
            let name = reference
                .and_then(Value::as_str)
                .and_then(|text| text.strip_prefix(PREFIX));
            match name.and_then(|name| self.schemas.get(name)) {
                Some(target) => schema = target,
                None => break,
            }
        }
        schema
    }

    /// Returns the schemas that the kinds of a group version need, themselves included.
    #[must_use]
    pub fn closure(&self, group: &str, version: &str) -> Map<String, Value> {
        let mut wanted: Vec<&str> = KINDS
            .iter()
            .filter(|kind| kind.is_in(group, version))
            .map(|kind| kind.schema)
            .collect();
        let mut found = Map::new();
        while let Some(name) = wanted.pop() {
            if found.contains_key(name) {
                continue;
            }
            if let Some(schema) = self.schemas.get(name) {
                found.insert(name.to_owned(), schema.clone());
                collect_references(schema, &mut wanted);
            }
        }
        found
    }
}

#[derive(Clone)]
struct Parts {
    spec: Value,
    status: Value,
}

impl Parts {
    /// Returns parts of these types.
    fn of<Spec: JsonSchema, Status: JsonSchema>(generator: &mut SchemaGenerator) -> Self {
        Self {
            spec: reference::<Spec>(generator),
            status: reference::<Status>(generator),
        }
    }

    /// Returns parts of any fields.
    fn open(spec: &str) -> Self {
        Self {
            spec: open(spec),
            status: open("The observed state."),
        }
    }
}

/// Returns the kinds that are not Kubernetes' own, with what is said of them.
fn custom_kinds(generator: &mut SchemaGenerator) -> Vec<(&'static Kind, &'static str, Parts)> {
    let isvc = Parts::of::<InferenceServiceSpec, InferenceServiceStatus>(generator);
    let runtime = Parts {
        spec: reference::<ServingRuntimeSpec>(generator),
        status: open("The observed state."),
    };
    let rollout = Parts::of::<RolloutSpec, RolloutStatus>(generator);
    let experiment = Parts::of::<ExperimentSpec, ExperimentStatus>(generator);
    let seldon = Parts::of::<SeldonDeploymentSpec, SeldonDeploymentStatus>(generator);
    let seldon_experiment = Parts::of::<SeldonExperimentSpec, SeldonExperimentStatus>(generator);
    let revision = Parts::open("What the revision serves.");
    let crd = Parts::open("The definition.");
    let metrics = Parts {
        spec: open("Nothing."),
        status: open("Nothing."),
    };
    vec![
        (
            &kind::INFERENCE_SERVICE,
            "A model, or a pipeline of components around one, that answers requests.",
            isvc,
        ),
        (
            &kind::SERVING_RUNTIME,
            "A server for models of some formats, for one namespace.",
            runtime.clone(),
        ),
        (
            &kind::CLUSTER_SERVING_RUNTIME,
            "A server for models of some formats, for every namespace.",
            runtime,
        ),
        (
            &kind::ROLLOUT,
            "How new revisions of an InferenceService come to take its requests.",
            rollout,
        ),
        (
            &kind::EXPERIMENT,
            "Which of several models answers a unit, what came of it, and which is better.",
            experiment,
        ),
        (
            &kind::SELDON_DEPLOYMENT,
            "Models that answer requests, as Seldon Core has them.",
            seldon,
        ),
        (
            &kind::SELDON_EXPERIMENT,
            "Who gets copies of a service's requests, as Seldon Core v2 has it.",
            seldon_experiment,
        ),
        (
            &kind::REVISION,
            "One thing that an InferenceService has asked to serve.",
            revision,
        ),
        (&kind::POD_METRICS, "What a replica uses.", metrics),
        (
            &kind::CUSTOM_RESOURCE_DEFINITION,
            "A definition of a kind; accepted, and without effect.",
            crd,
        ),
    ]
}

/// Adds the schemas of Kubernetes' own kinds.
fn add_kubernetes_own(generator: &mut SchemaGenerator) {
    // A schema that is asked for is defined, too.
    let _defined = (
        generator.subschema_for::<Namespace>(),
        generator.subschema_for::<ConfigMap>(),
        generator.subschema_for::<Service>(),
        generator.subschema_for::<Secret>(),
        generator.subschema_for::<ServiceAccount>(),
        generator.subschema_for::<Event>(),
        generator.subschema_for::<ObjectMeta>(),
        generator.subschema_for::<Pod>(),
        generator.subschema_for::<HorizontalPodAutoscaler>(),
        generator.subschema_for::<ClusterRole>(),
        generator.subschema_for::<RoleBinding>(),
        generator.subschema_for::<ClusterRoleBinding>(),
    );
}

fn reference<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    generator.subschema_for::<T>().to_value()
}

fn open(description: &str) -> Value {
    json!({
        "type": "object",
        "description": description,
        "x-kubernetes-preserve-unknown-fields": true
    })
}

fn object(description: &str, parts: &Parts) -> Value {
    json!({
        "type": "object",
        "description": description,
        "properties": {
            "apiVersion": {"type": "string", "description": "The group and version of this object's kind."},
            "kind": {"type": "string", "description": "The kind of this object."},
            "metadata": {
                "description": "Standard object's metadata.",
                "allOf": [{"$ref": format!("{PREFIX}{OBJECT_META}")}]
            },
            "spec": parts.spec,
            "status": parts.status
        }
    })
}

/// Removes what Kubernetes' schemas do not say: `nullable`, bounds that follow from the format, defaults that are null.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.remove("nullable");
            merge_alternatives(fields);
            if fields.get("default").is_some_and(Value::is_null) {
                fields.remove("default");
            }
            for (name, value) in fields.iter_mut() {
                // Examples and enumerations hold values, not schemas.
                if name != "enum" && name != "default" {
                    tidy(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

/// Writes the texts of our own kinds without the ends of the lines that they have in the source.
fn join_lines(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                match value {
                    Value::String(text) if name == "description" => {
                        let paragraphs: Vec<String> = text
                            .split("\n\n")
                            .map(|one| one.replace('\n', " "))
                            .collect();
                        *text = paragraphs.join("\n\n");
                    }
                    value => join_lines(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(join_lines),
        _ => {}
    }
}

/// Writes an optional value without its null, and constants one by one as the enumeration that they are.
fn merge_alternatives(fields: &mut Map<String, Value>) {
    if let Some(Value::Array(mut alternatives)) = fields.remove("anyOf") {
        alternatives.retain(|schema| schema["enum"] != json!([null]));
        match alternatives.as_mut_slice() {
            [Value::Object(only)] => fields.append(only),
            _ => drop(fields.insert("anyOf".to_owned(), Value::Array(alternatives))),
        }
    }
    if let Some(Value::Array(alternatives)) = fields.remove("oneOf") {
        let constants = alternatives
            .iter()
            .flat_map(|schema| match schema.get("enum") {
                Some(Value::Array(values)) => values.clone(),
                _ => schema.get("const").cloned().into_iter().collect(),
            });
        let constants: Vec<Value> = constants.collect();
        fields.insert("type".to_owned(), json!("string"));
        fields.insert("enum".to_owned(), Value::Array(constants));
    }
}

/// KServe embeds pods and containers without requiring what Kubernetes requires of them.
fn loosen(name: &str, schema: &mut Value) {
    // Quantities may be written as numbers.
    if name == "io.k8s.apimachinery.pkg.api.resource.Quantity" {
        schema.as_object_mut().map(|fields| fields.remove("type"));
        schema["x-kubernetes-int-or-string"] = Value::Bool(true);
    }
    if !name.starts_with("io.kserve.") {
        return;
    }
    if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
        let embedded = name.ends_with("RuntimeSpec");
        required.retain(|field| match field.as_str() {
            Some("containers") => embedded,
            Some("name") => name.ends_with("Format"),
            _ => true,
        });
        if required.is_empty() {
            schema
                .as_object_mut()
                .map(|fields| fields.remove("required"));
        }
    }
}

fn collect_references<'a>(schema: &'a Value, into: &mut Vec<&'a str>) {
    match schema {
        Value::Object(fields) => {
            if let Some(name) = fields.get("$ref").and_then(Value::as_str) {
                into.extend(name.strip_prefix(PREFIX));
            }
            fields
                .values()
                .for_each(|value| collect_references(value, into));
        }
        Value::Array(items) => items.iter().for_each(|item| collect_references(item, into)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_schema_with_metadata() {
        for kind in &KINDS {
            let schema = definitions().of(kind);
            assert!(
                schema["properties"]["metadata"].is_object(),
                "{}: {schema}",
                kind.kind
            );
        }
    }

    #[test]
    fn an_inference_service_embeds_pods_and_containers() {
        let all = definitions();
        let schema = all.of(&kind::INFERENCE_SERVICE);
        let spec = all.resolve(&schema["properties"]["spec"]);
        let predictor = all.resolve(&spec["properties"]["predictor"]);
        for field in [
            "model",
            "sklearn",
            "canaryTrafficPercent",
            "serviceAccountName",
            "containers",
            "tolerations",
        ] {
            assert!(predictor["properties"][field].is_object(), "{field}");
        }
        assert!(
            predictor.get("required").is_none(),
            "{}",
            predictor["required"]
        );
        let model = all.resolve(&predictor["properties"]["model"]);
        for field in ["modelFormat", "storageUri", "resources", "env", "args"] {
            assert!(model["properties"][field].is_object(), "{field}");
        }
        assert_eq!(model["required"], json!(["modelFormat"]));
        let metric = &predictor["properties"]["scaleMetric"];
        assert_eq!(
            all.resolve(metric)["enum"],
            json!(["cpu", "memory", "concurrency", "rps"]),
            "{metric}"
        );
    }

    /// What `kubectl explain` says of every field of the spec of our own kinds: what it is, and what it is if it is left out.
    #[test]
    fn every_field_of_rollouts_and_experiments_is_explained() {
        let all = definitions();
        let mut left = Vec::new();
        for kind in [&kind::ROLLOUT, &kind::EXPERIMENT] {
            let spec = &all.of(kind)["properties"]["spec"];
            left.push((format!("{}.spec", kind.kind), spec));
        }
        let mut required = Vec::new();
        while let Some((path, schema)) = left.pop() {
            let schema = all.resolve(schema);
            let is_required = |name: &str| {
                let required = schema["required"].as_array().into_iter().flatten();
                required.into_iter().any(|one| one == name)
            };
            // Of these exactly one is there.
            let is_choice = schema["description"]
                .as_str()
                .is_some_and(|text| text.contains("exactly one"));
            for (name, field) in schema["properties"].as_object().into_iter().flatten() {
                let path = format!("{path}.{name}");
                let text = field["description"].as_str().unwrap_or_default();
                assert!(text.len() > 20 && text.ends_with('.'), "{path}: '{text}'");
                assert!(!text.contains('\n'), "{path}: '{text}'");
                match is_required(name) {
                    true => required.push(path.clone()),
                    false => assert!(
                        is_choice || text.contains("Default: ") || text.starts_with("Of "),
                        "{path}: '{text}'"
                    ),
                }
                let items = field.get("items").map(|items| (format!("{path}[]"), items));
                left.push((path, field));
                left.extend(items);
            }
        }
        required.sort();
        let expected = [
            "Experiment.spec.allocation.features[].name",
            "Experiment.spec.allocation.strategy",
            "Experiment.spec.exclusionGroup.fromPercent",
            "Experiment.spec.exclusionGroup.name",
            "Experiment.spec.exclusionGroup.toPercent",
            "Experiment.spec.inferenceService",
            "Experiment.spec.metrics[].name",
            "Experiment.spec.metrics[].type",
            "Experiment.spec.unit",
            "Experiment.spec.variants",
            "Experiment.spec.variants[].name",
            "Rollout.spec.analysis.metrics[].name",
            "Rollout.spec.analysis.metrics[].type",
            "Rollout.spec.inferenceService",
            "Rollout.spec.steps[].percent",
        ];
        assert_eq!(required, expected);
    }

    #[test]
    fn the_closure_holds_every_reference() {
        let closure = definitions().closure("serving.kserve.io", "v1beta1");
        let mut references = Vec::new();
        closure
            .values()
            .for_each(|schema| collect_references(schema, &mut references));
        for name in references {
            assert!(closure.contains_key(name), "{name}");
        }
        assert!(closure.contains_key("io.k8s.api.core.v1.Container"));
    }
}
