//! ServingRuntime and ClusterServingRuntime (serving.kserve.io/v1alpha1): which models a runtime serves.

use k8s_openapi::api::core::v1::PodSpec;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::inference_service::{Open, WorkerSpec};

/// What a runtime serves, and its containers.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[schemars(rename = "io.kserve.serving.v1alpha1.ServingRuntimeSpec")]
#[serde(rename_all = "camelCase")]
pub struct ServingRuntimeSpec {
    /// The formats it serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supported_model_formats: Option<Vec<SupportedModelFormat>>,
    /// Whether one process serves several models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multi_model: Option<bool>,
    /// Whether it must not be chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    /// The protocols it answers: v1, v2, grpc-v1, grpc-v2; any if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol_versions: Option<Vec<String>>,
    /// The workers of models that span several nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker_spec: Option<Box<WorkerSpec>>,
    /// ModelMesh: the management endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc_endpoint: Option<String>,
    /// ModelMesh: the inference endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc_data_endpoint: Option<String>,
    /// ModelMesh: the HTTP inference endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_data_endpoint: Option<String>,
    /// ModelMesh: the number of pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// ModelMesh: the helper that fetches files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_helper: Option<Open>,
    /// ModelMesh: the adapter of a known server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub built_in_adapter: Option<Open>,
    /// Labels of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<std::collections::BTreeMap<String, String>>,
    /// Annotations of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<std::collections::BTreeMap<String, String>>,
    /// The fields of a pod.
    #[serde(flatten)]
    pub pod: PodSpec,
}

/// A format that a runtime serves.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[schemars(rename = "io.kserve.serving.v1alpha1.SupportedModelFormat")]
#[serde(rename_all = "camelCase")]
pub struct SupportedModelFormat {
    /// The format's name.
    pub name: String,
    /// The format's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Whether the runtime may be chosen without being named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_select: Option<bool>,
    /// The runtime with the highest priority is chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub priority: Option<i32>,
}
