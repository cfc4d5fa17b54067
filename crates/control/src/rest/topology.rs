//! How lists are merged: Kubernetes' keys of the lists that the known kinds have.

use coracle_patch::{ListKind, Topology};

/// The lists of all known kinds, by the names of their fields.
pub(crate) struct Lists;

/// Lists merged by a key of their items.
const KEYED: [(&str, &[&str]); 11] = [
    ("ownerReferences", &["uid"]),
    ("containers", &["name"]),
    ("initContainers", &["name"]),
    ("env", &["name"]),
    ("ports", &["containerPort", "protocol"]),
    ("volumes", &["name"]),
    ("volumeMounts", &["mountPath"]),
    ("imagePullSecrets", &["name"]),
    ("secrets", &["name"]),
    ("hostAliases", &["ip"]),
    (
        "topologySpreadConstraints",
        &["topologyKey", "whenUnsatisfiable"],
    ),
];

impl Topology for Lists {
    fn list(&self, path: &[&str]) -> ListKind {
        let name = path.last().copied().unwrap_or_default();
        if path == ["metadata", "finalizers"] {
            return ListKind::Set;
        }
        match KEYED.iter().find(|(list, _)| *list == name) {
            Some((_, keys)) => ListKind::Map {
                keys: keys.iter().map(|&key| key.to_owned()).collect(),
            },
            None => ListKind::Atomic,
        }
    }

    fn is_atomic_map(&self, path: &[&str]) -> bool {
        matches!(
            path.last(),
            Some(&("selector" | "nodeSelector" | "secretKeyRef" | "configMapKeyRef"))
        )
    }
}

impl Lists {
    /// Returns the key by which a strategic merge merges the list at `path`.
    pub(crate) fn merge_key(path: &[&str]) -> Option<String> {
        let name = path.last().copied().unwrap_or_default();
        let (_, keys) = KEYED.iter().find(|(list, _)| *list == name)?;
        keys.first().map(|&key| key.to_owned())
    }
}
