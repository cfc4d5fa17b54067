//! Which runtime serves a model: KServe's rules.

use coracle_api::inference_service::ModelSpec;
use coracle_api::serving_runtime::ServingRuntimeSpec;
use serde_json::{Value, json};

use crate::annotations::ENGINE;
use crate::object;

/// A runtime that may be chosen.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) name: String,
    /// Empty for cluster-wide runtimes.
    namespace: String,
    /// Whether its models are served within this process.
    pub(crate) in_process: bool,
    spec: ServingRuntimeSpec,
}

/// A model that no runtime serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NoRuntime {
    /// KServe's reason.
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// The one engine that a runtime may name.
const IN_PROCESS: &str = "in-process";

/// Checks which engine a runtime names, if it names one.
///
/// # Errors
/// Says what is allowed.
pub(crate) fn check_engine(runtime: &Value) -> Result<(), String> {
    match object::text(runtime, "annotations", ENGINE) {
        None | Some(IN_PROCESS) => Ok(()),
        Some(other) => Err(format!(
            "annotation {ENGINE}: '{other}' is no engine; {IN_PROCESS} is"
        )),
    }
}

/// A runtime that is there from the start.
struct BuiltIn {
    name: &'static str,
    protocols: &'static [&'static str],
    formats: &'static [Format],
}

/// A format with its versions, priority, and whether it is chosen without being named.
type Format = (&'static str, &'static [&'static str], i32, bool);

/// The built-in runtimes: KServe's, under KServe's names, with the versions that its releases list. What KServe has no
/// runtime for (CatBoost, MLflow over V1) is under a name of our own.
const BUILT_IN: [BuiltIn; 6] = [
    BuiltIn {
        name: "kserve-sklearnserver",
        protocols: &["v1", "v2"],
        formats: &[("sklearn", &["1"], 1, true)],
    },
    BuiltIn {
        name: "kserve-xgbserver",
        protocols: &["v1", "v2"],
        formats: &[("xgboost", &["1", "2", "3"], 1, true)],
    },
    BuiltIn {
        name: "kserve-lgbserver",
        protocols: &["v1", "v2"],
        formats: &[("lightgbm", &["3", "4"], 1, true)],
    },
    BuiltIn {
        name: "kserve-mlserver",
        protocols: &["v2"],
        formats: &[
            ("sklearn", &["0", "1"], 2, true),
            ("xgboost", &["1", "2"], 2, true),
            ("lightgbm", &["3", "4"], 2, true),
            ("catboost", &["1"], 1, true),
            ("mlflow", &["1", "2"], 1, true),
        ],
    },
    BuiltIn {
        name: "kserve-predictiveserver",
        protocols: &["v1", "v2"],
        formats: &[
            ("sklearn", &["1"], 3, false),
            ("xgboost", &["2"], 3, false),
            ("lightgbm", &["4"], 3, false),
        ],
    },
    BuiltIn {
        name: "coracle-server",
        protocols: &["v1", "v2"],
        formats: &[
            ("catboost", &["1"], 1, true),
            ("mlflow", &["1", "2", "3"], 1, true),
            ("onnx", &["1"], 1, true),
        ],
    },
];

/// Returns the objects of the built-in runtimes.
pub(crate) fn built_in() -> Vec<Value> {
    BUILT_IN.iter().map(BuiltIn::object).collect()
}

impl BuiltIn {
    fn object(&self) -> Value {
        let formats = self.formats.iter().flat_map(|(format, versions, priority, auto)| {
            versions.iter().map(move |version| {
                json!({"name": format, "version": version, "autoSelect": auto, "priority": priority})
            })
        });
        json!({
            "apiVersion": "serving.kserve.io/v1alpha1",
            "kind": "ClusterServingRuntime",
            "metadata": {"name": self.name, "annotations": {ENGINE: IN_PROCESS}},
            "spec": {
                "supportedModelFormats": formats.collect::<Vec<Value>>(),
                "protocolVersions": self.protocols,
                "containers": [{"name": "kserve-container", "image": "coracle:in-process"}]
            }
        })
    }
}

impl Candidate {
    /// Reads a ServingRuntime or ClusterServingRuntime.
    pub(crate) fn read(runtime: &Value) -> Option<Self> {
        Some(Self {
            name: object::name(runtime).to_owned(),
            namespace: object::namespace(runtime).to_owned(),
            in_process: object::text(runtime, "annotations", ENGINE).is_some(),
            spec: serde_json::from_value(runtime.get("spec")?.clone()).ok()?,
        })
    }

    pub(crate) fn spec(&self) -> &ServingRuntimeSpec {
        &self.spec
    }

    pub(crate) fn is_cluster_wide(&self) -> bool {
        self.namespace.is_empty()
    }

    /// Returns whether it may serve models of a namespace.
    pub(crate) fn is_for(&self, namespace: &str) -> bool {
        self.is_cluster_wide() || self.namespace == namespace
    }

    fn is_disabled(&self) -> bool {
        self.spec.disabled == Some(true)
    }

    fn speaks(&self, protocol: &str) -> bool {
        let protocols = self.spec.protocol_versions.as_deref().unwrap_or_default();
        protocols.is_empty() || protocols.iter().any(|one| one == protocol)
    }

    /// Returns the priority with which it serves the format (0 if it has none); `None` if it does not.
    fn serves(&self, name: &str, version: Option<&str>, automatically: bool) -> Option<i32> {
        let formats = self
            .spec
            .supported_model_formats
            .as_deref()
            .unwrap_or_default();
        let fits = formats.iter().filter(|format| {
            format.name == name
                && version.is_none_or(|version| format.version.as_deref() == Some(version))
                && (!automatically || format.auto_select == Some(true))
        });
        fits.map(|format| format.priority.unwrap_or(0)).max()
    }
}

/// Chooses the runtime of a model.
pub(crate) fn choose<'a>(
    candidates: &'a [Candidate],
    namespace: &str,
    model: &ModelSpec,
) -> Result<&'a Candidate, NoRuntime> {
    let candidates = || {
        candidates
            .iter()
            .filter(|candidate| candidate.is_for(namespace))
    };
    let protocol = model.source.protocol_version.as_deref().unwrap_or("v1");
    let format = &model.model_format;
    let version = format.version.as_deref();
    let refused = |reason, message: &str| {
        Err(NoRuntime {
            reason,
            message: message.to_owned(),
        })
    };
    if let Some(name) = model.runtime.as_deref().filter(|name| !name.is_empty()) {
        // A runtime of the namespace hides a cluster-wide one of the same name.
        let named = candidates().filter(|candidate| candidate.name == name);
        let Some(candidate) = named.min_by_key(|candidate| candidate.is_cluster_wide()) else {
            return refused(
                "RuntimeNotRecognized",
                "Waiting for runtime to become available",
            );
        };
        if candidate.is_disabled() {
            return refused("RuntimeDisabled", "Specified runtime is disabled");
        }
        if !candidate.speaks(protocol) {
            return refused(
                "NoSupportingRuntime",
                "Specified runtime does not support specified protocol version",
            );
        }
        if candidate.serves(&format.name, version, false).is_none() {
            return refused(
                "NoSupportingRuntime",
                "Specified runtime does not support specified framework/version",
            );
        }
        return Ok(candidate);
    }
    let mut fitting: Vec<(&Candidate, i32)> = candidates()
        .filter(|candidate| !candidate.is_disabled() && candidate.speaks(protocol))
        .filter_map(|candidate| Some((candidate, candidate.serves(&format.name, version, true)?)))
        .collect();
    fitting.sort_by(|(a, a_priority), (b, b_priority)| {
        (a.is_cluster_wide(), -a_priority, &a.name).cmp(&(
            b.is_cluster_wide(),
            -b_priority,
            &b.name,
        ))
    });
    match fitting.first() {
        Some((candidate, _)) => Ok(candidate),
        None => refused(
            "NoSupportingRuntime",
            "No runtime found to support specified framework/version",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates() -> Vec<Candidate> {
        let mut all: Vec<Candidate> = built_in().iter().filter_map(Candidate::read).collect();
        let own = json!({
            "metadata": {"name": "own", "namespace": "n"},
            "spec": {"supportedModelFormats": [{"name": "custom", "autoSelect": true}], "containers": []}
        });
        let disabled = json!({
            "metadata": {"name": "off"},
            "spec": {"disabled": true, "supportedModelFormats": [{"name": "sklearn", "autoSelect": true, "priority": 9}], "containers": []}
        });
        all.extend([own, disabled].iter().filter_map(Candidate::read));
        all
    }

    #[test]
    fn formats_versions_and_protocols_choose() {
        let cases = [
            (
                json!({"modelFormat": {"name": "sklearn"}}),
                Ok("kserve-sklearnserver"),
            ),
            (
                json!({"modelFormat": {"name": "sklearn"}, "protocolVersion": "v2"}),
                Ok("kserve-mlserver"),
            ),
            (
                json!({"modelFormat": {"name": "sklearn", "version": "0"}}),
                Err("No runtime found"),
            ),
            (
                json!({"modelFormat": {"name": "sklearn", "version": "0"}, "protocolVersion": "v2"}),
                Ok("kserve-mlserver"),
            ),
            (
                json!({"modelFormat": {"name": "xgboost"}}),
                Ok("kserve-xgbserver"),
            ),
            (
                json!({"modelFormat": {"name": "lightgbm", "version": "4"}, "protocolVersion": "v2"}),
                Ok("kserve-mlserver"),
            ),
            (
                json!({"modelFormat": {"name": "mlflow"}, "protocolVersion": "v2"}),
                Ok("coracle-server"),
            ),
            (
                json!({"modelFormat": {"name": "onnx", "version": "1"}}),
                Ok("coracle-server"),
            ),
            (
                json!({"modelFormat": {"name": "sklearn"}, "runtime": "kserve-predictiveserver"}),
                Ok("kserve-predictiveserver"),
            ),
            (json!({"modelFormat": {"name": "custom"}}), Ok("own")),
            (
                json!({"modelFormat": {"name": "nope"}}),
                Err("No runtime found"),
            ),
            (
                json!({"modelFormat": {"name": "sklearn"}, "runtime": "kserve-mlserver"}),
                Err("Specified runtime does not support specified protocol"),
            ),
            (
                json!({"modelFormat": {"name": "xgboost"}, "runtime": "kserve-sklearnserver"}),
                Err("Specified runtime does not support specified framework"),
            ),
            (
                json!({"modelFormat": {"name": "sklearn"}, "runtime": "off"}),
                Err("Specified runtime is disabled"),
            ),
            (
                json!({"modelFormat": {"name": "sklearn"}, "runtime": "gone"}),
                Err("Waiting for runtime"),
            ),
        ];
        let candidates = candidates();
        for (model, expected) in cases {
            let model: ModelSpec = serde_json::from_value(model).unwrap();
            match (choose(&candidates, "n", &model), expected) {
                (Ok(chosen), Ok(name)) => assert_eq!(chosen.name, name),
                (Err(refused), Err(message)) => {
                    assert!(refused.message.starts_with(message), "{refused:?}")
                }
                (chosen, expected) => panic!("{chosen:?}, expected {expected:?}"),
            }
        }
    }
}
