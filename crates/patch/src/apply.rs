//! Server-side apply: merges what an applier wants into what is, field by field, with respect for other managers.
//!
//! After Kubernetes' structured-merge-diff, whose rules its documentation "Server-Side Apply" states.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::field_set::{FieldSet, element_of, matches};
use crate::managed_fields::{Entry, Manager, entries, manageable, set_entries};
use crate::topology::{ITEM, ListKind, Topology};

/// A field that another manager owns with another value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The other manager, as messages name it: `"kubectl-edit" using serving.kserve.io/v1beta1`.
    pub manager: String,
    /// The field, such as `.spec.predictor.model.storageUri`.
    pub field: String,
}

/// Applies `config`, which is all that the applier wants, to `live` (`None` if there is no object yet).
///
/// Fields that the applier owned and no longer wants are removed unless others own them. An apply that changes nothing
/// returns an object equal to `live`.
///
/// # Errors
/// The conflicts, if there are any and `force` is not set; with it the fields become the applier's.
pub fn apply(
    live: Option<&Value>,
    config: &Value,
    manager: &Manager<'_>,
    force: bool,
    topology: &dyn Topology,
) -> Result<Value, Vec<Conflict>> {
    let wanted = manageable(config);
    let wanted_fields = FieldSet::of(&wanted, topology);
    let live_fields = live.map(manageable);
    let mut managers = entries(live);
    let mut conflicts = Vec::new();
    for entry in managers.iter_mut().filter(|entry| !entry.is_of(manager)) {
        let mut differing = entry.fields.intersection(&wanted_fields);
        differing.retain_where(Some(&wanted), live_fields.as_ref(), &|new, old| {
            old.is_some() && new != old
        });
        if force {
            entry.fields.remove(&differing);
        }
        conflicts.extend(differing.paths().into_iter().map(|field| Conflict {
            manager: entry.shown(),
            field,
        }));
    }
    if !conflicts.is_empty() && !force {
        return Err(conflicts);
    }
    let mut object = live.cloned().unwrap_or_else(|| Value::Object(Map::new()));
    merge(&mut object, config, topology, &mut Vec::new());
    let position = managers.iter().position(|entry| entry.is_of(manager));
    let mut own = match position {
        Some(position) => managers.remove(position),
        None => Entry::new(manager),
    };
    let mut dropped = own.fields.clone();
    dropped.remove(&wanted_fields);
    for entry in &managers {
        dropped.remove(&entry.fields);
    }
    dropped.remove_from(&mut object);
    let is_same = own.fields == wanted_fields && live_fields.as_ref() == Some(&manageable(&object));
    if !is_same {
        own.touch(manager);
    }
    own.fields = wanted_fields;
    managers.push(own);
    set_entries(&mut object, managers);
    Ok(object)
}

/// Merges `config` into `target`.
fn merge<'a>(
    target: &mut Value,
    config: &'a Value,
    topology: &dyn Topology,
    path: &mut Vec<&'a str>,
) {
    match (&mut *target, config) {
        (Value::Object(fields), Value::Object(wanted)) if !topology.is_atomic_map(path) => {
            for (name, wanted) in wanted {
                if path.as_slice() == ["metadata"] && name == "managedFields" {
                    continue;
                }
                path.push(name);
                match fields.get_mut(name) {
                    Some(field) => merge(field, wanted, topology, path),
                    None => drop(fields.insert(name.clone(), wanted.clone())),
                }
                path.pop();
            }
        }
        (Value::Array(items), Value::Array(wanted)) => match topology.list(path) {
            ListKind::Atomic => items.clone_from(wanted),
            kind => {
                for wanted in wanted {
                    let element = element_of(wanted, &kind);
                    let found = element
                        .and_then(|element| items.iter_mut().find(|item| matches(item, &element)));
                    match found {
                        Some(item) => {
                            path.push(ITEM);
                            merge(item, wanted, topology, path);
                            path.pop();
                        }
                        None => items.push(wanted.clone()),
                    }
                }
            }
        },
        (target, config) => *target = config.clone(),
    }
}

/// Returns the text of a refusal for `conflicts`: one in a line, several by manager.
#[must_use]
pub fn conflict_message(conflicts: &[Conflict]) -> String {
    if let [Conflict { manager, field }] = conflicts {
        return format!("Apply failed with 1 conflict: conflict with {manager}: {field}");
    }
    let mut by_manager: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for conflict in conflicts {
        let fields = by_manager.entry(&conflict.manager).or_default();
        fields.push(&conflict.field);
    }
    let texts = by_manager
        .into_iter()
        .map(|(manager, fields)| format!("conflicts with {manager}:\n- {}", fields.join("\n- ")));
    let texts: Vec<String> = texts.collect();
    format!(
        "Apply failed with {} conflicts: {}",
        conflicts.len(),
        texts.join("\n")
    )
}
