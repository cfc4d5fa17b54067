//! Which crate may use which: the floors of DESIGN section 3.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::command;

/// Every crate with its floor. A crate may use only crates on lower floors.
const FLOORS: [(&str, u8); 23] = [
    ("coracle-base", 0),
    ("coracle-tensor", 1),
    ("coracle-pickle", 1),
    ("coracle-model", 2),
    ("coracle-forest", 3),
    ("coracle-estimators", 3),
    ("coracle-onnx", 3),
    ("coracle-formats", 4),
    ("coracle-policy", 4),
    ("coracle-onnxruntime", 5),
    ("coracle-rten", 5),
    ("coracle-text", 5),
    ("coracle-serving", 5),
    ("coracle-access", 5),
    ("coracle-storage", 5),
    ("coracle-patch", 5),
    ("coracle-api", 5),
    ("coracle-protocol", 5),
    ("coracle-gateway", 6),
    ("coracle-process", 6),
    ("coracle-bench", 7),
    ("coracle-control", 7),
    ("coracle-cli", 8),
];

/// Outside crates that only some of ours may use directly, and why.
const WRAPPERS: [(&str, &[&str], &str); 7] = [
    (
        "tokio",
        &[
            "coracle-serving",
            "coracle-storage",
            "coracle-gateway",
            "coracle-process",
            "coracle-bench",
            "coracle-control",
            "coracle-cli",
        ],
        "floors 0 to 4 and the wire formats know no async runtime",
    ),
    (
        "hyper",
        &["coracle-gateway", "coracle-control"],
        "only the gateway and the control API own sockets",
    ),
    (
        "hyper-util",
        &["coracle-gateway", "coracle-control"],
        "only the gateway and the control API own sockets",
    ),
    (
        "socket2",
        &["coracle-gateway", "coracle-control"],
        "only the gateway and the control API own sockets",
    ),
    ("clap", &["coracle-cli"], "only the command reads arguments"),
    (
        "anyhow",
        &["coracle-cli", "xtask"],
        "libraries have typed errors",
    ),
    (
        "serde_json",
        &[
            "coracle-access",
            "coracle-protocol",
            "coracle-storage",
            "coracle-text",
            "coracle-patch",
            "coracle-api",
            "coracle-gateway",
            "coracle-bench",
            "coracle-control",
            "coracle-cli",
            "xtask",
        ],
        "no JSON below the wire formats",
    ),
];

/// The most packages (ours included) that the library half, floors 0 to 4, may pull in.
const LIBRARY_CLOSURE_MAX: usize = 60;

/// Returns what breaks the rules.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let arguments = ["metadata", "--format-version", "1", "--no-deps", "--locked"];
    let text = command::output(&mut command::cargo(root, &arguments))?;
    let metadata: Value = serde_json::from_str(&text).context("cargo metadata")?;
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata has no packages")?;
    let mut complaints = Vec::new();
    for package in packages {
        let name = package["name"].as_str().context("package has no name")?;
        let dependencies = package["dependencies"].as_array();
        for dependency in dependencies.into_iter().flatten() {
            if dependency["kind"] == "dev" {
                continue;
            }
            let used = dependency["name"]
                .as_str()
                .context("dependency has no name")?;
            complaints.extend(check_edge(name, used));
        }
        if name != "xtask" && floor(name).is_none() {
            complaints.push(format!(
                "{name} has no floor; add it to xtask/src/tidy/layers.rs"
            ));
        }
    }
    complaints.extend(check_library_closure(root)?);
    Ok(complaints)
}

fn floor(name: &str) -> Option<u8> {
    let found = FLOORS.iter().find(|(known, _)| *known == name);
    found.map(|(_, floor)| *floor)
}

/// Returns the complaint about crate `name` using crate `used` outside tests, if there is one.
fn check_edge(name: &str, used: &str) -> Option<String> {
    if let (Some(from), Some(to)) = (floor(name), floor(used)) {
        return (to >= from).then(|| {
            format!("{name} (floor {from}) uses {used} (floor {to}); only lower floors may be used")
        });
    }
    let (_, allowed, reason) = WRAPPERS.iter().find(|(outside, ..)| *outside == used)?;
    (!allowed.contains(&name)).then(|| format!("{name} uses {used}: {reason}"))
}

/// Counts the packages that a user of the library half has to build.
fn check_library_closure(root: &Path) -> Result<Option<String>> {
    let arguments = [
        "tree",
        "--locked",
        "--package",
        "coracle-formats",
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ];
    let tree = command::output(&mut command::cargo(root, &arguments))?;
    let packages: BTreeSet<&str> = tree
        .lines()
        .map(|line| line.trim_end_matches(" (*)"))
        .filter(|line| !line.is_empty())
        .collect();
    Ok((packages.len() > LIBRARY_CLOSURE_MAX).then(|| {
        format!(
            "coracle-formats pulls in {} packages; the library half may have {LIBRARY_CLOSURE_MAX}",
            packages.len()
        )
    }))
}

#[cfg(test)]
mod tests {
    use super::check_edge;

    #[test]
    fn edges_go_down_only() {
        let cases = [
            ("coracle-forest", "coracle-model", true),
            ("coracle-forest", "coracle-estimators", false),
            ("coracle-model", "coracle-formats", false),
            ("coracle-formats", "tokio", false),
            ("coracle-serving", "tokio", true),
            ("coracle-serving", "hyper", false),
            ("coracle-gateway", "hyper", true),
            ("coracle-model", "thiserror", true),
        ];
        for (name, used, allowed) in cases {
            assert_eq!(
                check_edge(name, used).is_none(),
                allowed,
                "{name} -> {used}"
            );
        }
    }
}
