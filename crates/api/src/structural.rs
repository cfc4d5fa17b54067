//! Objects against schemas: finds unknown fields, drops them, and says what else is wrong, in Kubernetes' words.

use serde_json::{Map, Value};

use crate::schema::Definitions;

/// Something that is wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The kind of fault, such as `FieldValueInvalid`.
    pub reason: &'static str,
    /// What is wrong and what was allowed, without the field.
    pub message: String,
    /// The field, such as `spec.predictor.minReplicas`.
    pub field: String,
}

impl Cause {
    /// A value that is not allowed; `message` starts with it.
    #[must_use]
    pub fn invalid(field: &str, value: &Value, why: &str) -> Self {
        Self {
            reason: "FieldValueInvalid",
            message: format!("Invalid value: {value}: {why}"),
            field: field.to_owned(),
        }
    }

    /// A field that must be there.
    #[must_use]
    pub fn required(field: &str, why: &str) -> Self {
        let message = match why {
            "" => "Required value".to_owned(),
            why => format!("Required value: {why}"),
        };
        Self {
            reason: "FieldValueRequired",
            message,
            field: field.to_owned(),
        }
    }

    /// A field that must not be there or not be so.
    #[must_use]
    pub fn forbidden(field: &str, why: &str) -> Self {
        Self {
            reason: "FieldValueForbidden",
            message: format!("Forbidden: {why}"),
            field: field.to_owned(),
        }
    }

    /// A value that is none of those that are allowed.
    #[must_use]
    pub fn not_supported(field: &str, value: &Value, allowed: &[Value]) -> Self {
        let allowed: Vec<String> = allowed.iter().map(Value::to_string).collect();
        Self {
            reason: "FieldValueNotSupported",
            message: format!(
                "Unsupported value: {value}: supported values: {}",
                allowed.join(", ")
            ),
            field: field.to_owned(),
        }
    }

    /// A value that is there twice where each may be there once.
    #[must_use]
    pub fn duplicate(field: &str, value: &Value) -> Self {
        Self {
            reason: "FieldValueDuplicate",
            message: format!("Duplicate value: {value}"),
            field: field.to_owned(),
        }
    }

    /// More items than there may be.
    #[must_use]
    pub fn too_many(field: &str, n_items: usize, most: usize) -> Self {
        Self {
            reason: "FieldValueTooMany",
            message: format!("Too many: {n_items}: must have at most {most} items"),
            field: field.to_owned(),
        }
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}: {}", self.field, self.message)
    }
}

/// What looking at an object found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// The paths of fields that no schema knows; they are dropped.
    pub unknown: Vec<String>,
    /// What is wrong with those it knows.
    pub causes: Vec<Cause>,
}

/// The deepest nesting that is looked at; deeper objects are refused.
const DEPTH_MAX: usize = 64;

/// Drops the fields of `object` that `schema` does not know, and nulls, and checks the rest.
#[must_use]
pub fn check(definitions: &Definitions, schema: &Value, object: &mut Value) -> Findings {
    let mut walk = Walk {
        definitions,
        findings: Findings::default(),
        path: String::new(),
        depth: 0,
    };
    walk.visit(schema, object);
    walk.findings
}

struct Walk<'a> {
    definitions: &'a Definitions,
    findings: Findings,
    path: String,
    depth: usize,
}

impl<'a> Walk<'a> {
    fn visit(&mut self, schema: &'a Value, value: &mut Value) {
        let schema = self.definitions.resolve(schema);
        if let Some(alternatives) = schema.get("anyOf").and_then(Value::as_array) {
            return self.visit_alternatives(alternatives, value);
        }
        if self.depth >= DEPTH_MAX {
            self.fault(value, "is nested too deeply");
            *value = Value::Null;
            return;
        }
        if is_open(schema) && schema.get("type").is_none() {
            return;
        }
        if schema.get("x-kubernetes-int-or-string").is_some() {
            if !value.is_string() && !value.is_i64() && !value.is_u64() {
                self.wrong_type("integer,string", value);
            }
            return;
        }
        let expected = schema
            .get("type")
            .and_then(Value::as_str)
            .unwrap_or_default();
        match (expected, &mut *value) {
            ("object", Value::Object(fields)) => return self.visit_object(schema, fields),
            ("array", Value::Array(items)) => return self.visit_array(schema, items),
            ("string", Value::String(_))
            | ("boolean", Value::Bool(_))
            | ("number", Value::Number(_))
            | ("", _) => {}
            ("integer", Value::Number(number)) if number.is_i64() || number.is_u64() => {}
            (expected, value) => return self.wrong_type(expected, value),
        }
        self.check_scalar(schema, value);
    }

    /// Of several alternatives, the one of the value's type is meant.
    fn visit_alternatives(&mut self, alternatives: &'a [Value], value: &mut Value) {
        let types = alternatives.iter().map(|schema| {
            let schema = self.definitions.resolve(schema);
            schema
                .get("type")
                .and_then(Value::as_str)
                .unwrap_or_default()
        });
        let types: Vec<&str> = types.collect();
        let chosen = types.iter().position(|expected| has_type(value, expected));
        match chosen.and_then(|index| alternatives.get(index)) {
            Some(schema) => self.visit(schema, value),
            None => self.wrong_type(&types.join(" or "), value),
        }
    }

    fn visit_object(&mut self, schema: &'a Value, fields: &mut Map<String, Value>) {
        fields.retain(|_name, value| !value.is_null());
        let properties = schema.get("properties").and_then(Value::as_object);
        let additional = schema
            .get("additionalProperties")
            .filter(|schema| schema.is_object());
        let open = is_open(schema) || properties.is_none() && additional.is_none();
        let mut unknown = Vec::new();
        for (name, value) in fields.iter_mut() {
            let known = properties.and_then(|properties| properties.get(name));
            match known.or(additional) {
                Some(schema) => self.within(&format!(".{name}"), |walk| walk.visit(schema, value)),
                None if open => {}
                None => unknown.push(name.clone()),
            }
        }
        for name in unknown {
            fields.remove(&name);
            let path = self.child(&format!(".{name}"));
            self.findings.unknown.push(path);
        }
        let required = schema.get("required").and_then(Value::as_array);
        for name in required.into_iter().flatten().filter_map(Value::as_str) {
            // An object's own metadata is looked at elsewhere.
            let is_own_metadata = self.depth == 0 && name == "metadata";
            if !fields.contains_key(name) && !is_own_metadata {
                let path = self.child(&format!(".{name}"));
                self.findings.causes.push(Cause::required(&path, ""));
            }
        }
    }

    fn visit_array(&mut self, schema: &'a Value, items: &mut [Value]) {
        let Some(schema) = schema.get("items") else {
            return;
        };
        for (index, item) in items.iter_mut().enumerate() {
            self.within(&format!("[{index}]"), |walk| walk.visit(schema, item));
        }
    }

    fn check_scalar(&mut self, schema: &Value, value: &Value) {
        if let Some(allowed) = schema.get("enum").and_then(Value::as_array)
            && !allowed.contains(value)
        {
            let cause = Cause::not_supported(&self.path, value, allowed);
            self.findings.causes.push(cause);
        }
        if let (Some(pattern), Some(text)) = (
            schema.get("pattern").and_then(Value::as_str),
            value.as_str(),
        ) && !matches_known(pattern, text)
        {
            let why = format!("{} in body should match '{pattern}'", self.path);
            self.fault(value, &why);
        }
        if let (Some(least), Some(number)) = (
            schema.get("minimum").and_then(Value::as_f64),
            value.as_f64(),
        ) && number < least
        {
            let why = format!(
                "{} in body should be greater than or equal to {least}",
                self.path
            );
            self.fault(value, &why);
        }
        let format = schema.get("format").and_then(Value::as_str);
        if let (Some("int32"), Some(number)) = (format, value.as_i64())
            && i32::try_from(number).is_err()
        {
            let why = format!("{} in body must be of type int32: {value}", self.path);
            self.fault(value, &why);
        }
    }

    fn fault(&mut self, value: &Value, why: &str) {
        self.findings
            .causes
            .push(Cause::invalid(&self.path, value, why));
    }

    fn wrong_type(&mut self, expected: &str, value: &Value) {
        let actual = type_name(value);
        self.findings.causes.push(Cause {
            reason: "FieldValueTypeInvalid",
            message: format!(
                "Invalid value: \"{actual}\": {} in body must be of type {expected}: \"{actual}\"",
                self.path
            ),
            field: self.path.clone(),
        });
    }

    fn child(&self, segment: &str) -> String {
        let path = format!("{}{segment}", self.path);
        path.strip_prefix('.').map(str::to_owned).unwrap_or(path)
    }

    fn within(&mut self, segment: &str, visit: impl FnOnce(&mut Self)) {
        let path = self.child(segment);
        let parent = std::mem::replace(&mut self.path, path);
        self.depth += 1;
        visit(self);
        self.depth -= 1;
        self.path = parent;
    }
}

fn is_open(schema: &Value) -> bool {
    schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true))
}

fn has_type(value: &Value, expected: &str) -> bool {
    expected == type_name(value) || expected == "number" && value.is_number()
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Matches the one pattern that our own schemas use; others are Kubernetes' documentation.
fn matches_known(pattern: &str, text: &str) -> bool {
    pattern != crate::inference_service::NAME_PATTERN || crate::inference_service::is_name(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kind::{CONFIG_MAP, INFERENCE_SERVICE};
    use crate::schema::definitions;

    fn findings(kind: &crate::Kind, object: &mut Value) -> Findings {
        let definitions = definitions();
        check(definitions, definitions.of(kind), object)
    }

    fn service(predictor: Value) -> Value {
        json!({"metadata": {"name": "x"}, "spec": {"predictor": predictor}})
    }

    #[test]
    fn good_objects_pass_unchanged() {
        let cases = [
            json!({"model": {"modelFormat": {"name": "sklearn"}, "storageUri": "s3://b/m",
                "resources": {"limits": {"cpu": 1, "memory": "1Gi"}}}, "minReplicas": 0,
                "scaleMetric": "rps", "tolerations": [{"key": "a"}]}),
            json!({"sklearn": {"storageUri": "gs://b/m", "name": ""}, "canaryTrafficPercent": 10}),
            json!({"containers": [{"name": "kserve-container", "image": "x", "ports": [{"containerPort": 8080}]}]}),
            json!({"model": {"modelFormat": {"name": "sklearn"}}, "canary": {"predictor": {"model": {"modelFormat": {"name": "sklearn"}}}}}),
        ];
        for predictor in cases {
            let mut object = service(predictor);
            let before = object.clone();
            assert_eq!(
                findings(&INFERENCE_SERVICE, &mut object),
                Findings::default(),
                "{before}"
            );
            assert_eq!(object, before);
        }
        let mut both = json!({"spec": {"predictor": {}, "canary": [{"predictor": {"name": "v2"}, "trafficPercent": 5}]}});
        assert_eq!(findings(&INFERENCE_SERVICE, &mut both), Findings::default());
    }

    #[test]
    fn unknown_fields_are_named_and_dropped() {
        let mut object = service(
            json!({"model": {"modelFormat": {"name": "sklearn"}, "bogus": 1},
            "containers": [{"name": "a", "imag": "x"}], "minReplicas": null}),
        );
        let found = findings(&INFERENCE_SERVICE, &mut object);
        assert_eq!(
            found.unknown,
            [
                "spec.predictor.containers[0].imag",
                "spec.predictor.model.bogus"
            ]
        );
        assert_eq!(found.causes, []);
        assert_eq!(
            object,
            service(
                json!({"model": {"modelFormat": {"name": "sklearn"}}, "containers": [{"name": "a"}]})
            )
        );
    }

    #[test]
    fn faults_have_kubernetes_words() {
        let cases = [
            (
                json!({"minReplicas": "2"}),
                "FieldValueTypeInvalid",
                "spec.predictor.minReplicas",
                "Invalid value: \"string\": spec.predictor.minReplicas in body must be of type integer: \"string\"",
            ),
            (
                json!({"model": {}}),
                "FieldValueRequired",
                "spec.predictor.model.modelFormat",
                "Required value",
            ),
            (
                json!({"scaleMetric": "latency"}),
                "FieldValueNotSupported",
                "spec.predictor.scaleMetric",
                "Unsupported value: \"latency\": supported values: \"cpu\", \"memory\", \"concurrency\", \"rps\"",
            ),
            (
                json!({"name": "A"}),
                "FieldValueInvalid",
                "spec.predictor.name",
                "Invalid value: \"A\": spec.predictor.name in body should match '^[a-z]([-a-z0-9]*[a-z0-9])?$'",
            ),
            (
                json!({"minReplicas": 3_000_000_000_u64}),
                "FieldValueInvalid",
                "spec.predictor.minReplicas",
                "Invalid value: 3000000000: spec.predictor.minReplicas in body must be of type int32: 3000000000",
            ),
            (
                json!({"containers": [{"ports": [{"containerPort": 1.5}], "name": "a"}]}),
                "FieldValueTypeInvalid",
                "spec.predictor.containers[0].ports[0].containerPort",
                "Invalid value: \"number\": spec.predictor.containers[0].ports[0].containerPort in body must be of type integer: \"number\"",
            ),
        ];
        for (predictor, reason, field, message) in cases {
            let mut object = service(predictor);
            let found = findings(&INFERENCE_SERVICE, &mut object);
            let expected = Cause {
                reason,
                message: message.to_owned(),
                field: field.to_owned(),
            };
            assert_eq!(found.causes, [expected]);
        }
    }

    #[test]
    fn maps_of_strings_hold_strings() {
        let mut object = json!({"data": {"a": "1", "b": 2}});
        let found = findings(&CONFIG_MAP, &mut object);
        assert_eq!(found.causes.len(), 1, "{found:?}");
        assert_eq!(found.causes[0].field, "data.b");
    }
}
