//! Objects as JSON, with what all of them have: the metadata.

use serde_json::{Map, Value};

/// Returns the string at `/metadata/<field>`; empty if there is none.
pub(crate) fn meta_str<'a>(object: &'a Value, field: &str) -> &'a str {
    object
        .get("metadata")
        .and_then(|metadata| metadata.get(field))
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// Returns the name.
pub(crate) fn name(object: &Value) -> &str {
    meta_str(object, "name")
}

/// Returns the namespace; empty for cluster-wide objects.
pub(crate) fn namespace(object: &Value) -> &str {
    meta_str(object, "namespace")
}

/// Returns the generation; 0 if there is none.
pub(crate) fn generation(object: &Value) -> i64 {
    let generation = object
        .get("metadata")
        .and_then(|metadata| metadata.get("generation"));
    generation.and_then(Value::as_i64).unwrap_or(0)
}

/// Returns the metadata, which is made if it is missing.
pub(crate) fn metadata_mut(object: &mut Value) -> &mut Map<String, Value> {
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let metadata = &mut object["metadata"];
    if !metadata.is_object() {
        *metadata = Value::Object(Map::new());
    }
    metadata.as_object_mut().expect("just made one")
}

/// Returns whether the object is being deleted.
pub(crate) fn is_terminating(object: &Value) -> bool {
    !meta_str(object, "deletionTimestamp").is_empty()
}

/// Tells whether one of its owners is of this kind.
pub(crate) fn has_owner(object: &Value, kind: &str) -> bool {
    let owners = object.pointer("/metadata/ownerReferences");
    let mut owners = owners.and_then(Value::as_array).into_iter().flatten();
    owners.any(|owner| owner["kind"] == kind)
}

/// Returns the finalizers.
pub(crate) fn finalizers(object: &Value) -> impl Iterator<Item = &str> {
    let list = object
        .get("metadata")
        .and_then(|metadata| metadata.get("finalizers"));
    let list = list.and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str)
}

/// Returns the labels or annotations.
pub(crate) fn texts<'a>(
    object: &'a Value,
    field: &str,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    let map = object
        .get("metadata")
        .and_then(|metadata| metadata.get(field));
    let map = map.and_then(Value::as_object);
    let pairs = map.into_iter().flatten();
    pairs.filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
}

/// Returns one label or annotation.
pub(crate) fn text<'a>(object: &'a Value, field: &str, key: &str) -> Option<&'a str> {
    texts(object, field)
        .find(|(name, _)| *name == key)
        .map(|(_, value)| value)
}

/// Returns the value at a path of fields; a segment that is a number names an item of a list.
pub(crate) fn at<'a>(object: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(object, |value, segment| match value {
        Value::Array(items) => items.get(segment.parse::<usize>().ok()?),
        value => value.get(segment),
    })
}

/// Returns whether this is a list of objects.
pub(crate) fn is_list(object: &Value) -> bool {
    let kind = object.get("kind").and_then(Value::as_str);
    kind.is_some_and(|kind| kind.ends_with("List"))
}
