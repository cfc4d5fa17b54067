//! SeldonDeployment (machinelearning.seldon.io/v1): the desired and the observed state, as Seldon's users write and read it. What of it is served
//! here is for [`rules`] to say; `control` makes InferenceServices of it.

pub mod graph;
pub mod rules;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::inference_service::Open;
use crate::status::Condition;

/// The desired state of a SeldonDeployment.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(rename = "io.seldon.machinelearning.v1.SeldonDeploymentSpec")]
#[serde(rename_all = "camelCase")]
pub struct SeldonDeploymentSpec {
    /// A name of old; without effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The graphs that requests are split over.
    #[serde(default)]
    pub predictors: Vec<SeldonPredictor>,
    /// A key of old; without effect.
    #[serde(default, rename = "oauth_key", skip_serializing_if = "Option::is_none")]
    pub oauth_key: Option<String>,
    /// A secret of old; without effect.
    #[serde(
        default,
        rename = "oauth_secret",
        skip_serializing_if = "Option::is_none"
    )]
    pub oauth_secret: Option<String>,
    /// Annotations of what is made of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// seldon (the default), tensorflow, kfserving or v2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// rest or grpc; without it, both where there are both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transport: Option<String>,
    /// The replicas of every predictor that names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// rpc (the default) or kafka.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_type: Option<String>,
}

/// A graph with its share of the requests.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(rename = "io.seldon.machinelearning.v1.PredictorSpec")]
#[serde(rename_all = "camelCase")]
pub struct SeldonPredictor {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// The node that requests come to first.
    #[serde(default)]
    pub graph: SeldonUnit,
    /// The containers of the nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component_specs: Option<Vec<SeldonComponent>>,
    /// How many copies of it there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Annotations of its pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// What Seldon's orchestrator may use; there is none here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_resources: Option<Open>,
    /// Labels of its pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Seldon's orchestrator; there is none here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub svc_orch_spec: Option<Open>,
    /// Its share of the requests, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<i32>,
    /// What explains its predictions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explainer: Option<Open>,
    /// Whether it gets copies of the requests, and its answers go to nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<bool>,
    /// The certificate of its orchestrator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssl: Option<Open>,
    /// How long it may take to be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress_deadline_seconds: Option<i32>,
}

/// The containers of some nodes, and how many there are.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(rename = "io.seldon.machinelearning.v1.SeldonPodSpec")]
#[serde(rename_all = "camelCase")]
pub struct SeldonComponent {
    /// The metadata of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Open>,
    /// The pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<Open>,
    /// How many there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// How they are scaled by an autoscaler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hpa_spec: Option<Open>,
    /// How they are scaled by KEDA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keda_spec: Option<Open>,
    /// How many of them may be missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pdb_spec: Option<Open>,
}

/// A node of a graph.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(rename = "io.seldon.machinelearning.v1.PredictiveUnit")]
#[serde(rename_all = "camelCase")]
pub struct SeldonUnit {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// The nodes below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub children: Option<Vec<Open>>,
    /// MODEL, TRANSFORMER, OUTPUT_TRANSFORMER, ROUTER, COMBINER or UNKNOWN_TYPE.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub unit_type: Option<String>,
    /// The prepackaged server, such as SKLEARN_SERVER.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub implementation: Option<String>,
    /// What it is asked to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub methods: Option<Vec<String>>,
    /// Where it takes requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Open>,
    /// What its server is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Vec<SeldonParameter>>,
    /// Where the model is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_uri: Option<String>,
    /// The service account with the credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_name: Option<String>,
    /// The secret with rclone's settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env_secret_ref_name: Option<String>,
    /// The image that fetches the model; it is fetched without one here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_initializer_image: Option<String>,
    /// Where requests and answers are recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logger: Option<SeldonLogger>,
}

/// A value that a node's server is told.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(rename = "io.seldon.machinelearning.v1.Parameter")]
#[serde(rename_all = "camelCase")]
pub struct SeldonParameter {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// The value, as text.
    #[serde(default)]
    pub value: String,
    /// INT, FLOAT, DOUBLE, STRING or BOOL.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub value_type: Option<String>,
}

/// Where a node's requests and answers are recorded.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(rename = "io.seldon.machinelearning.v1.Logger")]
#[serde(rename_all = "camelCase")]
pub struct SeldonLogger {
    /// The receiver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// all, request or response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
}

/// The observed state of a SeldonDeployment.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(rename = "io.seldon.machinelearning.v1.SeldonDeploymentStatus")]
#[serde(rename_all = "camelCase")]
pub struct SeldonDeploymentStatus {
    /// Available, Creating or Failed.
    #[serde(default)]
    pub state: String,
    /// Why, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// How each predictor's model is.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub deployment_status: BTreeMap<String, SeldonDeploymentState>,
    /// Where each service is asked.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub service_status: BTreeMap<String, SeldonServiceState>,
    /// The replicas of all predictors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Where requests go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<SeldonAddress>,
    /// What is the case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The generation of the object that this state is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// How a predictor's model is.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(rename = "io.seldon.machinelearning.v1.DeploymentStatus")]
#[serde(rename_all = "camelCase")]
pub struct SeldonDeploymentState {
    /// Why it is not there, if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The replicas that are wanted.
    #[serde(default)]
    pub replicas: i32,
    /// The replicas that are there.
    #[serde(default)]
    pub available_replicas: i32,
}

/// Where a service is asked.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(rename = "io.seldon.machinelearning.v1.ServiceStatus")]
#[serde(rename_all = "camelCase")]
pub struct SeldonServiceState {
    /// The InferenceService that serves it.
    #[serde(default)]
    pub svc_name: String,
    /// Where it takes REST.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_endpoint: Option<String>,
}

/// Where requests go.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[schemars(rename = "io.seldon.machinelearning.v1.SeldonAddressable")]
pub struct SeldonAddress {
    /// The URL.
    #[serde(default)]
    pub url: String,
}
