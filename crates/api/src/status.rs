//! The observed state of an InferenceService, as KServe shows it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The observed state of an InferenceService.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(rename = "io.kserve.serving.v1beta1.InferenceServiceStatus")]
#[serde(rename_all = "camelCase")]
pub struct InferenceServiceStatus {
    /// Where requests are answered, from inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,
    /// The states of the components.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub components: Option<Components>,
    /// What is the case, by kind of fact.
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// How components are run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment_mode: Option<String>,
    /// The state of the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_status: Option<ModelStatus>,
    /// The generation of the object that this state is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The cluster-wide runtime that serves the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_serving_runtime_name: Option<String>,
    /// The runtime of the namespace that serves the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serving_runtime_name: Option<String>,
    /// Where requests are answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// An address.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(rename = "dev.knative.pkg.apis.duck.v1.Addressable")]
pub struct Address {
    /// The URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// The states of the components.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(rename = "io.kserve.serving.v1beta1.Components")]
pub struct Components {
    /// The predictor's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predictor: Option<ComponentStatus>,
}

/// The state of one component.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(rename = "io.kserve.serving.v1beta1.ComponentStatusSpec")]
#[serde(rename_all = "camelCase")]
pub struct ComponentStatus {
    /// Where requests are answered, from inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,
    /// The newest revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_created_revision: Option<String>,
    /// The newest revision that is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_ready_revision: Option<String>,
    /// The newest revision that had all requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_rolledout_revision: Option<String>,
    /// The one that had them before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_rolledout_revision: Option<String>,
    /// How requests are split.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traffic: Vec<TrafficTarget>,
    /// Where requests are answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// A revision's share of requests.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(rename = "dev.knative.serving.v1.TrafficTarget")]
#[serde(rename_all = "camelCase")]
pub struct TrafficTarget {
    /// Whether the target is whatever revision is the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_revision: Option<bool>,
    /// The share in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<i64>,
    /// The revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision_name: Option<String>,
    /// A name under which the revision can be asked directly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// The address under that name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// Something that is the case, is not, or is not known.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(rename = "dev.knative.pkg.apis.Condition")]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// When it changed last, in RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<String>,
    /// Details for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The reason in one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// `Info` where it does not bear on being ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<String>,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// What it is about.
    #[serde(rename = "type")]
    pub condition_type: String,
}

/// The state of the model.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(rename = "io.kserve.serving.v1beta1.ModelStatus")]
#[serde(rename_all = "camelCase")]
pub struct ModelStatus {
    /// How many copies there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copies: Option<ModelCopies>,
    /// The last failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure_info: Option<FailureInfo>,
    /// The states of what serves and of what is to serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub states: Option<ModelStates>,
    /// `UpToDate`, `InProgress`, `BlockedByFailedLoad` or `InvalidSpec`.
    #[serde(default)]
    pub transition_status: String,
}

/// How many copies of a model there are.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(rename = "io.kserve.serving.v1beta1.ModelCopies")]
#[serde(rename_all = "camelCase")]
pub struct ModelCopies {
    /// Those that failed.
    #[serde(default)]
    pub failed_copies: i32,
    /// All of them.
    #[serde(default)]
    pub total_copies: i32,
}

/// The states of what serves and of what is to serve: `Pending`, `Standby`, `Loading`, `Loaded` or `FailedToLoad`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(rename = "io.kserve.serving.v1beta1.ModelRevisionStates")]
#[serde(rename_all = "camelCase")]
pub struct ModelStates {
    /// What serves.
    #[serde(default)]
    pub active_model_state: String,
    /// What is to serve.
    #[serde(default)]
    pub target_model_state: String,
}

/// A failure to load.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(rename = "io.kserve.serving.v1beta1.FailureInfo")]
#[serde(rename_all = "camelCase")]
pub struct FailureInfo {
    /// Where it happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// What happened, and what to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_revision_name: Option<String>,
    /// The reason in one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When, in RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
}
