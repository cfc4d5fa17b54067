//! Who wrote which fields: `metadata.managedFields`.

use serde_json::{Value, json};

use crate::field_set::FieldSet;
use crate::topology::Topology;

/// How a manager writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// By server-side apply.
    Apply,
    /// By any other write.
    Update,
}

impl Operation {
    fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// Someone who writes.
#[derive(Clone, Copy, Debug)]
pub struct Manager<'a> {
    /// The name.
    pub name: &'a str,
    /// How it writes.
    pub operation: Operation,
    /// The version of the kind in which it writes.
    pub api_version: &'a str,
    /// The subresource it writes; empty for the object itself.
    pub subresource: &'a str,
    /// The time, in RFC 3339.
    pub time: &'a str,
}

/// A manager with its fields.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    operation: Operation,
    api_version: String,
    subresource: String,
    time: String,
    pub(crate) fields: FieldSet,
}

impl Entry {
    fn parse(entry: &Value) -> Option<Self> {
        let text = |field: &str| {
            entry
                .get(field)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        Some(Self {
            name: text("manager"),
            operation: match text("operation").as_str() {
                "Apply" => Operation::Apply,
                "Update" => Operation::Update,
                _ => return None,
            },
            api_version: text("apiVersion"),
            subresource: text("subresource"),
            time: text("time"),
            fields: FieldSet::parse(entry.get("fieldsV1")?),
        })
    }

    fn to_json(&self) -> Value {
        let mut entry = json!({
            "manager": self.name,
            "operation": self.operation.as_str(),
            "apiVersion": self.api_version,
            "time": self.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": self.fields.to_json()
        });
        if !self.subresource.is_empty() {
            entry["subresource"] = self.subresource.clone().into();
        }
        entry
    }

    /// Returns how messages name the manager: in quotes, with what tells it from others of its name.
    pub(crate) fn shown(&self) -> String {
        let mut text = format!("{:?}", self.name);
        if !self.subresource.is_empty() {
            text.push_str(&format!(" with subresource {:?}", self.subresource));
        }
        if self.operation == Operation::Update {
            text.push_str(&format!(" using {}", self.api_version));
        }
        text
    }

    pub(crate) fn is_of(&self, manager: &Manager<'_>) -> bool {
        self.name == manager.name
            && self.operation == manager.operation
            && self.subresource == manager.subresource
    }

    pub(crate) fn new(manager: &Manager<'_>) -> Self {
        Self {
            name: manager.name.to_owned(),
            operation: manager.operation,
            api_version: manager.api_version.to_owned(),
            subresource: manager.subresource.to_owned(),
            time: manager.time.to_owned(),
            fields: FieldSet::default(),
        }
    }

    pub(crate) fn touch(&mut self, manager: &Manager<'_>) {
        manager.api_version.clone_into(&mut self.api_version);
        manager.time.clone_into(&mut self.time);
    }
}

/// Reads the managers of an object.
pub(crate) fn entries(object: Option<&Value>) -> Vec<Entry> {
    let list = object.and_then(|object| object.pointer("/metadata/managedFields"));
    let list = list.and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Entry::parse).collect()
}

/// Writes the managers into an object, those without fields left out.
pub(crate) fn set_entries(object: &mut Value, mut entries: Vec<Entry>) {
    entries.retain(|entry| !entry.fields.is_empty());
    entries.sort_by(|a, b| {
        let order = |entry: &Entry| (entry.operation, entry.time.clone(), entry.name.clone());
        order(a).cmp(&order(b))
    });
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    if entries.is_empty() {
        metadata.remove("managedFields");
    } else {
        let list = entries.iter().map(Entry::to_json).collect();
        metadata.insert("managedFields".to_owned(), Value::Array(list));
    }
}

/// The metadata that has no managers.
const SYSTEM_METADATA: [&str; 10] = [
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "managedFields",
    "selfLink",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
];

/// Returns an object without what has no managers.
pub(crate) fn manageable(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("apiVersion");
        fields.remove("kind");
        if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.retain(|name, _| !SYSTEM_METADATA.contains(&name.as_str()));
        }
        if fields
            .get("metadata")
            .is_some_and(|metadata| *metadata == json!({}))
        {
            fields.remove("metadata");
        }
    }
    object
}

/// Notes in `new`'s `metadata.managedFields` what `manager` changed against `live` (`None` if it is new) by an ordinary write.
///
/// Fields whose value is another one become the manager's and are taken from others; fields that are gone are
/// dropped from everyone. A writer that sets `managedFields` to `[]` or `[{}]` clears them; one that sets others is
/// believed.
pub fn record_update(
    live: Option<&Value>,
    new: &mut Value,
    manager: &Manager<'_>,
    topology: &dyn Topology,
) {
    let written = new.pointer("/metadata/managedFields").cloned();
    let before = live.and_then(|live| live.pointer("/metadata/managedFields"));
    if let Some(Value::Array(list)) = &written
        && list.iter().all(|entry| *entry == json!({}))
    {
        return set_entries(new, Vec::new());
    }
    let mut managers = match &written {
        Some(list) if Some(list) != before => entries(Some(new)),
        _ => entries(live),
    };
    let (new_fields, live_fields) = (manageable(new), live.map(manageable));
    let mut changed = FieldSet::of(&new_fields, topology);
    changed.retain_where(Some(&new_fields), live_fields.as_ref(), &|new, old| {
        new != old
    });
    let mut gone = live_fields
        .as_ref()
        .map(|live| FieldSet::of(live, topology))
        .unwrap_or_default();
    gone.retain_where(Some(&new_fields), live_fields.as_ref(), &|new, _old| {
        new.is_none()
    });
    for entry in &mut managers {
        entry.fields.remove(&gone);
        if !entry.is_of(manager) {
            entry.fields.remove(&changed);
        }
    }
    if !changed.is_empty() {
        let position = managers.iter().position(|entry| entry.is_of(manager));
        let mut own = match position {
            Some(position) => managers.remove(position),
            None => Entry::new(manager),
        };
        own.touch(manager);
        own.fields.add(&changed);
        managers.push(own);
    }
    set_entries(new, managers);
}
