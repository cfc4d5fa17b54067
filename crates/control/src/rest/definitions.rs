//! CustomResourceDefinitions: those of the kinds that are served are there from the start; others are kept, and say in
//! their status that nothing serves them.

use coracle_api::structural::Cause;
use coracle_api::{KINDS, Kind, Origin, kind};
use serde_json::{Value, json};

use super::Api;
use crate::failure::Failure;
use crate::object;

impl Api {
    /// Makes the definitions of the kinds that are served where they are not there.
    ///
    /// # Errors
    /// If one cannot be stored.
    pub fn ensure_definitions(&self) -> Result<(), Failure> {
        built_in()
            .try_for_each(|definition| self.ensure(&kind::CUSTOM_RESOURCE_DEFINITION, definition))
    }
}

/// Returns the definitions of the kinds that are served.
fn built_in() -> impl Iterator<Item = Value> {
    let custom = KINDS.iter().filter(|kind| kind.origin == Origin::Custom);
    custom.map(|kind| {
        let versions = kind.versions().map(|version| {
            json!({
                "name": version,
                "served": true,
                "storage": version == kind.version,
                "subresources": if kind.has_status { json!({"status": {}}) } else { json!({}) },
                "schema": {"openAPIV3Schema": {
                    "description": format!("Built in; kubectl explain {} tells the fields.", kind.plural),
                    "type": "object",
                    "x-kubernetes-preserve-unknown-fields": true
                }}
            })
        });
        let versions: Vec<Value> = versions.collect();
        json!({
            "apiVersion": kind::CUSTOM_RESOURCE_DEFINITION.api_version(),
            "kind": kind::CUSTOM_RESOURCE_DEFINITION.kind,
            "metadata": {"name": kind.resource()},
            "spec": {
                "group": kind.group,
                "names": names(kind),
                "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
                "versions": versions
            }
        })
    })
}

fn names(kind: &Kind) -> Value {
    let mut names = json!({
        "kind": kind.kind,
        "listKind": format!("{}List", kind.kind),
        "plural": kind.plural,
        "singular": kind.singular
    });
    for (field, list) in [
        ("shortNames", kind.short_names),
        ("categories", kind.categories),
    ] {
        if !list.is_empty() {
            names[field] = json!(list);
        }
    }
    names
}

/// Says in a definition's status whether its kind is served.
pub(crate) fn set_status(definition: &mut Value) {
    let text = |pointer: &str| definition.pointer(pointer).and_then(Value::as_str);
    let (group, plural) = (text("/spec/group"), text("/spec/names/plural"));
    let is_served = KINDS
        .iter()
        .any(|kind| Some(kind.group) == group && Some(kind.plural) == plural);
    let versions = definition
        .pointer("/spec/versions")
        .and_then(Value::as_array);
    let stored = versions.into_iter().flatten();
    let stored = stored.filter(|version| version["storage"] == true);
    let stored: Vec<Value> = stored.map(|version| version["name"].clone()).collect();
    let condition = |name: &str, reason: &str, message: &str| {
        let status = if is_served { "True" } else { "False" };
        json!({"type": name, "status": status, "reason": reason, "message": message})
    };
    let conditions = if is_served {
        json!([
            condition("NamesAccepted", "NoConflicts", "no conflicts found"),
            condition(
                "Established",
                "InitialNamesAccepted",
                "the initial names have been accepted"
            ),
        ])
    } else {
        json!([condition(
            "Established",
            "NotServed",
            "coracle serves the kinds that are built in; objects of this one are not taken"
        )])
    };
    definition["status"] = json!({
        "acceptedNames": definition.pointer("/spec/names").cloned().unwrap_or_default(),
        "conditions": conditions,
        "storedVersions": stored
    });
}

/// Checks that a definition has the name of what it defines.
pub(crate) fn check(definition: &Value) -> Result<(), Failure> {
    let text = |pointer: &str| definition.pointer(pointer).and_then(Value::as_str);
    let expected = format!(
        "{}.{}",
        text("/spec/names/plural").unwrap_or_default(),
        text("/spec/group").unwrap_or_default()
    );
    let name = object::name(definition);
    if name == expected {
        return Ok(());
    }
    let rule = "must be spec.names.plural+\".\"+spec.group";
    let cause = Cause::invalid("metadata.name", &json!(name), rule);
    Err(Failure::invalid(
        &kind::CUSTOM_RESOURCE_DEFINITION,
        name,
        &[cause],
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_of_served_kinds_are_established_and_others_say_why_not() {
        let all: Vec<Value> = built_in().collect();
        let names: Vec<&str> = all.iter().map(object::name).collect();
        assert!(
            names.contains(&"inferenceservices.serving.kserve.io"),
            "{names:?}"
        );
        for mut definition in all {
            check(&definition).unwrap();
            set_status(&mut definition);
            assert_eq!(definition["status"]["conditions"][1]["type"], "Established");
            assert_eq!(definition["status"]["conditions"][1]["status"], "True");
        }
        let mut other = json!({
            "metadata": {"name": "trainedmodels.serving.kserve.io"},
            "spec": {"group": "serving.kserve.io", "names": {"plural": "trainedmodels"}, "versions": [{"name": "v1alpha1", "storage": true}]}
        });
        check(&other).unwrap();
        set_status(&mut other);
        assert_eq!(other["status"]["conditions"][0]["status"], "False");
        assert_eq!(other["status"]["storedVersions"], json!(["v1alpha1"]));
        other["metadata"]["name"] = json!("x");
        assert!(check(&other).is_err());
    }
}
