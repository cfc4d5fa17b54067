//! Experiment of Seldon Core v2 (mlops.seldon.io/v1alpha1), as far as it is a mirror: copies of a service's requests for another one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::status::Condition;

/// Which service's requests are copied, and to whom. Names are those of InferenceServices of the same namespace.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(rename = "io.seldon.mlops.v1alpha1.ExperimentSpec")]
#[serde(rename_all = "camelCase")]
pub struct SeldonExperimentSpec {
    /// The service whose requests are copied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// Who answers: the default, and it alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<SeldonCandidate>,
    /// Who gets copies of the requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<SeldonMirror>,
    /// What the names are of: model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_type: Option<String>,
}

/// Who answers.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(rename = "io.seldon.mlops.v1alpha1.ExperimentCandidate")]
#[serde(rename_all = "camelCase")]
pub struct SeldonCandidate {
    /// The service.
    pub name: String,
    /// Its weight.
    #[serde(default)]
    pub weight: i64,
}

/// Who gets copies.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(rename = "io.seldon.mlops.v1alpha1.ExperimentMirror")]
#[serde(rename_all = "camelCase")]
pub struct SeldonMirror {
    /// The service.
    pub name: String,
    /// How many of 100 requests are copied, 1 to 100.
    #[serde(default)]
    pub percent: i64,
}

/// How it stands.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(rename = "io.seldon.mlops.v1alpha1.ExperimentStatus")]
#[serde(rename_all = "camelCase")]
pub struct SeldonExperimentStatus {
    /// CandidatesReady, ExperimentReady, MirrorReady and Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The generation of the manifest that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}
