//! Sets of fields, as `managedFields` holds them.
//!
//! A field is named by the path to it. The form on the wire is Kubernetes' `FieldsV1`: `f:` names a field, `k:` an item
//! of a list by its keys, `v:` an item by its value; `.` stands for the thing itself.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::topology::{ITEM, ListKind, Topology};

/// A step of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathElement {
    /// A field of an object.
    Field(String),
    /// The item of a list with these keys, as a JSON object with sorted names.
    Key(String),
    /// The item of a list with this value, as JSON.
    Value(String),
}

/// A set of fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    /// Whether the path that leads here is a member itself.
    member: bool,
    children: BTreeMap<PathElement, FieldSet>,
}

/// Maps whose entries come and go, so that the map itself is a member too.
const OPEN_MAPS: [&str; 2] = ["labels", "annotations"];

impl FieldSet {
    /// Reads `FieldsV1`; what is not understood is left out.
    #[must_use]
    pub fn parse(fields: &Value) -> Self {
        let mut set = Self::default();
        let Some(fields) = fields.as_object() else {
            return set;
        };
        for (name, below) in fields {
            let element = match name.split_once(':') {
                Some(("f", name)) => PathElement::Field(name.to_owned()),
                Some(("k", keys)) => PathElement::Key(keys.to_owned()),
                Some(("v", value)) => PathElement::Value(value.to_owned()),
                _ => {
                    set.member |= name == ".";
                    continue;
                }
            };
            let mut child = Self::parse(below);
            child.member |= child.children.is_empty();
            set.children.insert(element, child);
        }
        set
    }

    /// Writes `FieldsV1`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut fields = Map::new();
        if self.member && !self.children.is_empty() {
            fields.insert(".".to_owned(), json!({}));
        }
        for (element, child) in &self.children {
            let name = match element {
                PathElement::Field(name) => format!("f:{name}"),
                PathElement::Key(keys) => format!("k:{keys}"),
                PathElement::Value(value) => format!("v:{value}"),
            };
            fields.insert(name, child.to_json());
        }
        Value::Object(fields)
    }

    /// Returns whether nothing is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.member && self.children.is_empty()
    }

    /// Returns the fields of an object.
    #[must_use]
    pub fn of(value: &Value, topology: &dyn Topology) -> Self {
        Self::collect(value, topology, &mut Vec::new())
    }

    fn collect<'a>(value: &'a Value, topology: &dyn Topology, path: &mut Vec<&'a str>) -> Self {
        let mut set = Self::default();
        match value {
            Value::Object(fields) if !fields.is_empty() && !topology.is_atomic_map(path) => {
                set.member = path.last().is_some_and(|name| OPEN_MAPS.contains(name));
                for (name, value) in fields {
                    path.push(name);
                    let child = Self::collect(value, topology, path);
                    path.pop();
                    set.children.insert(PathElement::Field(name.clone()), child);
                }
            }
            Value::Array(items) if !items.is_empty() => match topology.list(path) {
                ListKind::Atomic => set.member = true,
                kind => {
                    for item in items {
                        let Some(element) = element_of(item, &kind) else {
                            // An item without its keys cannot be told from others: the list is taken as a whole.
                            return Self {
                                member: true,
                                children: BTreeMap::new(),
                            };
                        };
                        let mut child = Self::default();
                        if matches!(kind, ListKind::Map { .. }) {
                            path.push(ITEM);
                            child = Self::collect(item, topology, path);
                            path.pop();
                        }
                        child.member = true;
                        set.children.insert(element, child);
                    }
                }
            },
            _ => set.member = true,
        }
        set
    }

    /// Returns what is in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let mut both = Self {
            member: self.member && other.member,
            children: BTreeMap::new(),
        };
        for (element, child) in &self.children {
            if let Some(theirs) = other.children.get(element) {
                let child = child.intersection(theirs);
                if !child.is_empty() {
                    both.children.insert(element.clone(), child);
                }
            }
        }
        both
    }

    /// Adds what is in `other`.
    pub fn add(&mut self, other: &Self) {
        self.member |= other.member;
        for (element, theirs) in &other.children {
            self.children
                .entry(element.clone())
                .or_default()
                .add(theirs);
        }
    }

    /// Removes what is in `other`.
    pub fn remove(&mut self, other: &Self) {
        self.member &= !other.member;
        for (element, theirs) in &other.children {
            if let Some(ours) = self.children.get_mut(element) {
                ours.remove(theirs);
                if ours.is_empty() {
                    self.children.remove(element);
                }
            }
        }
    }

    /// Keeps the members for which `keep` says so; it is given the values at the member's path in two objects.
    pub(crate) fn retain_where(
        &mut self,
        new: Option<&Value>,
        old: Option<&Value>,
        keep: &dyn Fn(Option<&Value>, Option<&Value>) -> bool,
    ) {
        let is_whole = self.children.is_empty();
        self.retain(new, old, keep, is_whole);
    }

    fn retain(
        &mut self,
        new: Option<&Value>,
        old: Option<&Value>,
        keep: &dyn Fn(Option<&Value>, Option<&Value>) -> bool,
        is_whole: bool,
    ) {
        // Items and open maps are compared by being there; their fields are members of their own.
        let presence = |value: Option<&Value>| value.map(|_| &Value::Null);
        self.member = self.member
            && match is_whole {
                true => keep(new, old),
                false => keep(presence(new), presence(old)),
            };
        self.children.retain(|element, child| {
            let (new, old) = (get(new, element), get(old, element));
            let is_map = |value: Option<&Value>| value.is_some_and(Value::is_object);
            let is_whole = match element {
                PathElement::Field(name) => {
                    let is_open = OPEN_MAPS.contains(&name.as_str());
                    child.children.is_empty() && !(is_open && is_map(new) && is_map(old))
                }
                _ => false,
            };
            child.retain(new, old, keep, is_whole);
            !child.is_empty()
        });
    }

    /// Returns the paths of all members, as messages write them.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect_paths("", &mut paths);
        paths
    }

    fn collect_paths(&self, prefix: &str, into: &mut Vec<String>) {
        if self.member {
            into.push(prefix.to_owned());
        }
        for (element, child) in &self.children {
            child.collect_paths(&format!("{prefix}{}", element.to_text()), into);
        }
    }

    /// Removes from `value` what is in the set; parents that it empties go too.
    pub(crate) fn remove_from(&self, value: &mut Value) {
        for (element, child) in &self.children {
            let whole = child.member
                && (child.children.is_empty() || !matches!(element, PathElement::Field(_)));
            match (&mut *value, element) {
                (Value::Object(fields), PathElement::Field(name)) => {
                    if whole {
                        fields.remove(name);
                    } else if let Some(below) = fields.get_mut(name) {
                        child.remove_from(below);
                        if is_emptied(below) {
                            fields.remove(name);
                        }
                    }
                }
                (Value::Array(items), element) => {
                    let position = items.iter().position(|item| matches(item, element));
                    if let Some(position) = position {
                        if whole {
                            items.remove(position);
                        } else if let Some(item) = items.get_mut(position) {
                            child.remove_from(item);
                        }
                    }
                }
                _ => {}
            }
        }
    }
}

fn is_emptied(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

impl PathElement {
    fn to_text(&self) -> String {
        match self {
            Self::Field(name) => format!(".{name}"),
            Self::Value(value) => format!("[={value}]"),
            Self::Key(keys) => {
                let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
                let mut text = String::from("[");
                for (index, (name, value)) in keys.iter().enumerate() {
                    let separator = if index == 0 { "" } else { "," };
                    text.push_str(&format!("{separator}{name}={value}"));
                }
                text.push(']');
                text
            }
        }
    }
}

/// Returns the path element of a list's item; `None` if it lacks a key.
pub(crate) fn element_of(item: &Value, kind: &ListKind) -> Option<PathElement> {
    match kind {
        ListKind::Atomic => None,
        ListKind::Set => Some(PathElement::Value(item.to_string())),
        ListKind::Map { keys } => {
            let fields = item.as_object()?;
            let mut found = Map::new();
            for key in keys {
                // Kubernetes' only defaulted key: a port without a protocol is TCP.
                let default = (key == "protocol").then(|| json!("TCP"));
                found.insert(key.clone(), fields.get(key).cloned().or(default)?);
            }
            Some(PathElement::Key(Value::Object(found).to_string()))
        }
    }
}

/// Returns whether a list's item is the one that `element` names.
pub(crate) fn matches(item: &Value, element: &PathElement) -> bool {
    match element {
        PathElement::Field(_) => false,
        PathElement::Value(value) => {
            serde_json::from_str::<Value>(value).is_ok_and(|value| value == *item)
        }
        PathElement::Key(keys) => {
            let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
            !keys.is_empty()
                && keys.iter().all(|(name, value)| match item.get(name) {
                    Some(actual) => actual == value,
                    None => name == "protocol" && value == "TCP",
                })
        }
    }
}

fn get<'a>(value: Option<&'a Value>, element: &PathElement) -> Option<&'a Value> {
    match (value?, element) {
        (Value::Object(fields), PathElement::Field(name)) => fields.get(name),
        (Value::Array(items), element) => items.iter().find(|item| matches(item, element)),
        _ => None,
    }
}
