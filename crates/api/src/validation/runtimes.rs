//! KServe's rules for ServingRuntimes and ClusterServingRuntimes: priorities must tell which one is chosen.

use super::{Checked, broken};
use crate::serving_runtime::{ServingRuntimeSpec, SupportedModelFormat};

/// A runtime, as far as it bears on the choice.
#[derive(Clone, Debug)]
pub struct NamedRuntime {
    /// The name.
    pub name: String,
    /// The namespace; empty for cluster-wide runtimes.
    pub namespace: String,
    /// What it serves.
    pub spec: ServingRuntimeSpec,
}

/// Checks a runtime against the others of its scope.
///
/// # Errors
/// The first rule that is broken.
pub fn serving_runtime(new: &NamedRuntime, others: &[NamedRuntime]) -> Checked {
    if new.spec.disabled == Some(true) {
        return Ok(());
    }
    let kind = match new.namespace.as_str() {
        "" => "clusterservingruntime",
        _ => "servingruntime",
    };
    if let Some(format) = with_two_priorities(&new.spec) {
        return broken(format!(
            "different priorities assigned for the model format {format} under the {kind} {}",
            new.name
        ));
    }
    for other in others.iter().filter(|other| other.name != new.name) {
        if let Some(format) = with_one_priority(&new.spec, &other.spec) {
            let place = match new.namespace.as_str() {
                "" => String::new(),
                namespace => format!(" in namespace {namespace}"),
            };
            return broken(format!(
                "same priority assigned for the model format {format} in the {kind}s {} and {}{place}",
                other.name, new.name
            ));
        }
    }
    Ok(())
}

/// Returns the formats that may be chosen without being asked for.
fn automatic(spec: &ServingRuntimeSpec) -> impl Iterator<Item = &SupportedModelFormat> {
    let formats = spec.supported_model_formats.iter().flatten();
    formats.filter(|format| format.auto_select == Some(true))
}

/// Returns the format to which a runtime gives two priorities.
fn with_two_priorities(spec: &ServingRuntimeSpec) -> Option<&str> {
    automatic(spec).find_map(|format| {
        let differs = automatic(spec).any(|other| {
            other.name == format.name
                && other.priority.is_some()
                && format.priority.is_some()
                && other.priority != format.priority
        });
        differs.then_some(format.name.as_str())
    })
}

/// Returns the format to which two runtimes of one protocol give the same priority.
fn with_one_priority<'a>(
    new: &'a ServingRuntimeSpec,
    other: &ServingRuntimeSpec,
) -> Option<&'a str> {
    let protocols = |spec: &ServingRuntimeSpec| spec.protocol_versions.clone().unwrap_or_default();
    let is_multi = |spec: &ServingRuntimeSpec| spec.multi_model == Some(true);
    let theirs = protocols(other);
    let share_protocol = protocols(new)
        .iter()
        .any(|protocol| theirs.contains(protocol));
    if other.disabled == Some(true) || is_multi(new) != is_multi(other) || !share_protocol {
        return None;
    }
    automatic(new).find_map(|format| {
        let collides = automatic(other).any(|theirs| {
            theirs.name.eq_ignore_ascii_case(&format.name)
                && theirs.version == format.version
                && theirs.priority.is_some()
                && theirs.priority == format.priority
        });
        collides.then_some(format.name.as_str())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn runtime(name: &str, namespace: &str, formats: &[(&str, i32)]) -> NamedRuntime {
        let formats = formats.iter().map(|(name, priority)| {
            json!({"name": name, "version": "1", "autoSelect": true, "priority": priority})
        });
        let formats: Vec<Value> = formats.collect();
        let spec = json!({"supportedModelFormats": formats, "protocolVersions": ["v1", "v2"], "containers": []});
        NamedRuntime {
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            spec: serde_json::from_value(spec).unwrap(),
        }
    }

    fn check(new: &NamedRuntime, others: &[NamedRuntime]) -> String {
        serving_runtime(new, others).map_or_else(|error| error.to_string(), |()| "ok".to_owned())
    }

    #[test]
    fn priorities_tell_runtimes_apart() {
        let own = runtime("new", "ml", &[("sklearn", 1)]);
        assert_eq!(check(&own, &[]), "ok");
        assert_eq!(
            check(&own, &[runtime("old", "ml", &[("sklearn", 2)])]),
            "ok"
        );
        assert_eq!(
            check(&own, &[runtime("old", "ml", &[("xgboost", 1)])]),
            "ok"
        );
        // Itself, as it was.
        assert_eq!(
            check(&own, &[runtime("new", "ml", &[("sklearn", 1)])]),
            "ok"
        );
        let old = [runtime("old", "ml", &[("sklearn", 1)])];
        assert_eq!(
            check(&own, &old),
            "same priority assigned for the model format sklearn in the servingruntimes old and new in namespace ml"
        );
        let old = [runtime("old", "", &[("sklearn", 1)])];
        let cluster_wide = runtime("new", "", &[("sklearn", 1)]);
        assert_eq!(
            check(&cluster_wide, &old),
            "same priority assigned for the model format sklearn in the clusterservingruntimes old and new"
        );
        let mut disabled = cluster_wide;
        disabled.spec.disabled = Some(true);
        assert_eq!(check(&disabled, &old), "ok");
        let mut others = old.to_vec();
        others[0].spec.protocol_versions = Some(vec!["grpc-v2".to_owned()]);
        assert_eq!(check(&runtime("new", "", &[("sklearn", 1)]), &others), "ok");
        assert_eq!(
            check(
                &runtime("new", "ml", &[("sklearn", 1), ("sklearn", 2)]),
                &[]
            ),
            "different priorities assigned for the model format sklearn under the servingruntime new"
        );
    }
}
