//! Strategic merge patches: merge patches whose lists are merged by the keys of their items.

use serde_json::{Map, Value};

use crate::topology::ITEM;
use crate::{PatchError, PatchErrorKind};

/// Says what happens to the thing it stands in: `delete`, `replace` or `merge`.
const DIRECTIVE: &str = "$patch";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const ORDER: &str = "$setElementOrder/";
const RETAIN: &str = "$retainKeys";

/// Applies a strategic merge patch; `merge_key` tells the key of the items of the list at a path, `None` if the list is
/// replaced as a whole.
///
/// New items of merged lists go before those that are there, as in Kubernetes.
///
/// # Errors
/// [`PatchError`] for directives that are not known and items without their key.
pub fn strategic_merge(
    target: &mut Value,
    patch: &Value,
    merge_key: &dyn Fn(&[&str]) -> Option<String>,
) -> Result<(), PatchError> {
    let Some(patch) = patch.as_object() else {
        return Err(PatchError::new(
            PatchErrorKind::Malformed,
            "the patch is not an object",
        ));
    };
    merge_object(target, patch, merge_key, &mut Vec::new())
}

type MergeKey<'k> = &'k dyn Fn(&[&str]) -> Option<String>;

fn merge_object<'a>(
    target: &mut Value,
    patch: &'a Map<String, Value>,
    merge_key: MergeKey<'_>,
    path: &mut Vec<&'a str>,
) -> Result<(), PatchError> {
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(fields) = target.as_object_mut() else {
        return Ok(());
    };
    match patch.get(DIRECTIVE).and_then(Value::as_str) {
        Some("replace") => fields.clear(),
        Some("delete") => {
            fields.clear();
            return Ok(());
        }
        None | Some("merge") => {}
        Some(other) => return Err(unknown_directive(other)),
    }
    if let Some(Value::Array(kept)) = patch.get(RETAIN) {
        fields.retain(|name, _| kept.iter().any(|one| one == name));
    }
    for (name, wanted) in patch {
        if name == DIRECTIVE || name == RETAIN || name.starts_with(ORDER) {
            continue;
        }
        if let Some(list) = name.strip_prefix(DELETE_FROM) {
            if let (Some(Value::Array(items)), Value::Array(gone)) = (fields.get_mut(list), wanted)
            {
                items.retain(|item| !gone.contains(item));
            }
            continue;
        }
        path.push(name);
        match wanted {
            Value::Null => drop(fields.remove(name)),
            Value::Object(wanted)
                if wanted
                    .get(DIRECTIVE)
                    .is_some_and(|directive| directive == "delete") =>
            {
                fields.remove(name);
            }
            Value::Object(wanted) => {
                let field = fields.entry(name.clone()).or_insert(Value::Null);
                merge_object(field, wanted, merge_key, path)?;
            }
            Value::Array(wanted) => {
                let field = fields
                    .entry(name.clone())
                    .or_insert_with(|| Value::Array(Vec::new()));
                merge_list(field, wanted, merge_key, path)?;
            }
            scalar => drop(fields.insert(name.clone(), scalar.clone())),
        }
        path.pop();
    }
    Ok(())
}

fn merge_list<'a>(
    target: &mut Value,
    patch: &'a [Value],
    merge_key: MergeKey<'_>,
    path: &mut Vec<&'a str>,
) -> Result<(), PatchError> {
    let Some(key) = merge_key(path).filter(|_| target.is_array()) else {
        *target = Value::Array(patch.to_vec());
        return Ok(());
    };
    let Some(items) = target.as_array_mut() else {
        return Ok(());
    };
    let directive = |item: &Value| {
        item.get(DIRECTIVE)
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    if patch
        .iter()
        .any(|item| directive(item).as_deref() == Some("replace") && item.get(&key).is_none())
    {
        items.clear();
    }
    let mut added = Vec::new();
    for wanted in patch {
        let Some(value) = wanted.get(&key) else {
            if directive(wanted).is_some() {
                continue;
            }
            let message = format!("an item of the list {} has no '{key}'", path.join("."));
            return Err(PatchError::new(PatchErrorKind::Invalid, message));
        };
        let position = items.iter().position(|item| item.get(&key) == Some(value));
        match (directive(wanted).as_deref(), position, wanted.as_object()) {
            (Some("delete"), Some(position), _) => drop(items.remove(position)),
            (Some("delete"), None, _) => {}
            (_, Some(position), Some(fields)) => {
                if let Some(item) = items.get_mut(position) {
                    path.push(ITEM);
                    merge_object(item, fields, merge_key, path)?;
                    path.pop();
                }
            }
            _ => added.push(wanted.clone()),
        }
    }
    items.splice(0..0, added);
    Ok(())
}

fn unknown_directive(directive: &str) -> PatchError {
    let message = format!(
        "the directive $patch: {directive} is not known; allowed are delete, merge and replace"
    );
    PatchError::new(PatchErrorKind::Invalid, message)
}
