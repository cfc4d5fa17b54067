//! InferenceService (serving.kserve.io/v1beta1): the desired state, as KServe's users write it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What names of InferenceServices and predictors look like.
pub const NAME_PATTERN: &str = "^[a-z]([-a-z0-9]*[a-z0-9])?$";

/// Tells whether `text` matches [`NAME_PATTERN`].
#[must_use]
pub fn is_name(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    text.bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_lowercase())
        && text.bytes().all(is_inner)
        && !text.ends_with('-')
}

/// The desired state of an InferenceService.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[schemars(rename = "io.kserve.serving.v1beta1.InferenceServiceSpec")]
#[serde(rename_all = "camelCase")]
pub struct InferenceServiceSpec {
    /// The component that answers predictions.
    pub predictor: PredictorSpec,
    /// The component that transforms requests and answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transformer: Option<CustomSpec>,
    /// The component that explains predictions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explainer: Option<ExplainerSpec>,
    /// Predictors that run beside the stable one and take a share of its requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
}

/// Canary predictors: KServe's list, or the single block that tutorials print.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[schemars(rename = "io.kserve.serving.v1beta1.Canary")]
#[serde(untagged)]
pub enum Canary {
    /// KServe 0.20 and later: any number of canaries with their shares.
    List(Vec<CanarySpec>),
    /// One canary, whose share is the stable predictor's `canaryTrafficPercent`.
    Single(Box<SingleCanary>),
}

/// A canary of KServe's list.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[schemars(rename = "io.kserve.serving.v1beta1.CanarySpec")]
#[serde(rename_all = "camelCase")]
pub struct CanarySpec {
    /// What differs from the stable predictor; `name` is required.
    pub predictor: PredictorSpec,
    /// The share of requests, 0 to 100.
    pub traffic_percent: i32,
}

/// The single canary block of tutorials.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[schemars(rename = "io.kserve.serving.v1beta1.SingleCanary")]
#[serde(rename_all = "camelCase")]
pub struct SingleCanary {
    /// The canary's predictor.
    pub predictor: PredictorSpec,
    /// The share of requests, 0 to 100; the stable predictor's `canaryTrafficPercent` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic_percent: Option<i32>,
}

/// A predictor: one model or custom containers, with the fields of a pod and of scaling.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[schemars(rename = "io.kserve.serving.v1beta1.PredictorSpec")]
#[serde(rename_all = "camelCase")]
pub struct PredictorSpec {
    /// The model, served by the runtime that fits its format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Box<ModelSpec>>,
    /// A scikit-learn model (older form of `model`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sklearn: Option<Box<FrameworkSpec>>,
    /// An XGBoost model (older form of `model`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xgboost: Option<Box<FrameworkSpec>>,
    /// A TensorFlow model (older form of `model`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tensorflow: Option<Box<FrameworkSpec>>,
    /// A PyTorch model (older form of `model`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pytorch: Option<Box<FrameworkSpec>>,
    /// A Triton model repository (older form of `model`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub triton: Option<Box<FrameworkSpec>>,
    /// An ONNX model (older form of `model`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub onnx: Option<Box<FrameworkSpec>>,
    /// A Hugging Face model (older form of `model`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub huggingface: Option<Box<FrameworkSpec>>,
    /// A PMML model (older form of `model`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pmml: Option<Box<FrameworkSpec>>,
    /// A LightGBM model (older form of `model`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lightgbm: Option<Box<FrameworkSpec>>,
    /// A Paddle model (older form of `model`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paddle: Option<Box<FrameworkSpec>>,
    /// Several places to fetch files from, each with the path to put them at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_uris: Option<Vec<StorageUri>>,
    /// The container that fetches the files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_container_name: Option<String>,
    /// The workers of a model that spans several nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker_spec: Option<Box<WorkerSpec>>,
    /// A canary block that some tutorials indent under the predictor; the same as `spec.canary`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Box<Canary>>,
    /// Scaling, traffic and the other fields that all components have.
    #[serde(flatten)]
    pub extension: ComponentExtensionSpec,
    /// The fields of a pod.
    #[serde(flatten)]
    pub pod: PodSpec,
    /// The predictor's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = NAME_PATTERN))]
    pub name: Option<String>,
}

/// A transformer: custom containers, with the fields of a pod and of scaling.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[schemars(rename = "io.kserve.serving.v1beta1.TransformerSpec")]
#[serde(rename_all = "camelCase")]
pub struct CustomSpec {
    /// Several places to fetch files from, each with the path to put them at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_uris: Option<Vec<StorageUri>>,
    /// Scaling, traffic and the other fields that all components have.
    #[serde(flatten)]
    pub extension: ComponentExtensionSpec,
    /// The fields of a pod.
    #[serde(flatten)]
    pub pod: PodSpec,
}

/// An explainer: the built-in ART or custom containers.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[schemars(rename = "io.kserve.serving.v1beta1.ExplainerSpec")]
#[serde(rename_all = "camelCase")]
pub struct ExplainerSpec {
    /// The Adversarial Robustness Toolbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub art: Option<Box<ArtSpec>>,
    /// Several places to fetch files from, each with the path to put them at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_uris: Option<Vec<StorageUri>>,
    /// Scaling, traffic and the other fields that all components have.
    #[serde(flatten)]
    pub extension: ComponentExtensionSpec,
    /// The fields of a pod.
    #[serde(flatten)]
    pub pod: PodSpec,
}

/// The built-in explainer.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[schemars(rename = "io.kserve.serving.v1beta1.ARTExplainerSpec")]
#[serde(rename_all = "camelCase")]
pub struct ArtSpec {
    /// The kind of explanation.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub explainer_type: Option<String>,
    /// Settings of the explainer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<BTreeMap<String, String>>,
    /// Where the files are, and which runtime reads them.
    #[serde(flatten)]
    pub source: ModelSource,
    /// The fields of a container.
    #[serde(flatten)]
    pub container: Container,
}

/// A model and its format.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[schemars(rename = "io.kserve.serving.v1beta1.ModelSpec")]
#[serde(rename_all = "camelCase")]
pub struct ModelSpec {
    /// The format of the model.
    pub model_format: ModelFormat,
    /// The ServingRuntime or ClusterServingRuntime to use; chosen by format and protocol if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// Where the files are, and which protocol answers.
    #[serde(flatten)]
    pub source: ModelSource,
    /// The fields of a container.
    #[serde(flatten)]
    pub container: Container,
}

/// A model of a framework, in KServe's older form.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[schemars(rename = "io.kserve.serving.v1beta1.PredictorExtensionSpec")]
#[serde(rename_all = "camelCase")]
pub struct FrameworkSpec {
    /// Where the files are, and which protocol answers.
    #[serde(flatten)]
    pub source: ModelSource,
    /// The fields of a container.
    #[serde(flatten)]
    pub container: Container,
}

/// A model's format.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[schemars(rename = "io.kserve.serving.v1beta1.ModelFormat")]
#[serde(rename_all = "camelCase")]
pub struct ModelFormat {
    /// The format's name, such as `sklearn`.
    pub name: String,
    /// The format's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// Where a model's files are, and how it is asked.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelSource {
    /// The files' place, such as `s3://bucket/path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_uri: Option<String>,
    /// The files' place by a key of the secret `storage-config`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageSpec>,
    /// The version of the runtime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_version: Option<String>,
    /// The protocol: v1, v2, grpc-v1 or grpc-v2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol_version: Option<String>,
    /// Confidential serving of an encrypted model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidential: Option<Confidential>,
}

/// Confidential serving of an encrypted model.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[schemars(rename = "io.kserve.serving.v1beta1.ConfidentialSpec")]
#[serde(rename_all = "camelCase")]
pub struct Confidential {
    /// Whether it is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// The key broker's resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_id: Option<String>,
}

/// The files' place by a key of the secret `storage-config`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[schemars(rename = "io.kserve.serving.v1beta1.StorageSpec")]
#[serde(rename_all = "camelCase")]
pub struct StorageSpec {
    /// The path within the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The path of the model's schema file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_path: Option<String>,
    /// Settings that override those of the secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<BTreeMap<String, String>>,
    /// The key in the secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// A place to fetch files from.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[schemars(rename = "io.kserve.serving.v1beta1.StorageUri")]
#[serde(rename_all = "camelCase")]
pub struct StorageUri {
    /// The place.
    pub uri: String,
    /// Where the files are put.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount_path: Option<String>,
}

/// The workers of a model that spans several nodes.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[schemars(rename = "io.kserve.serving.v1beta1.WorkerSpec")]
#[serde(rename_all = "camelCase")]
pub struct WorkerSpec {
    /// The number of nodes that the layers are spread over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline_parallel_size: Option<i32>,
    /// The number of devices that each layer is spread over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tensor_parallel_size: Option<i32>,
    /// The fields of a pod.
    #[serde(flatten)]
    pub pod: PodSpec,
}

/// The fields that all components have.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ComponentExtensionSpec {
    /// The fewest replicas; 0 lets the component scale to zero. 1 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_replicas: Option<i32>,
    /// The most replicas; unlimited if absent or 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_replicas: Option<i32>,
    /// The value of the metric at which a replica is full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_target: Option<i32>,
    /// The metric to scale on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_metric: Option<ScaleMetric>,
    /// How the metric's value is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_metric_type: Option<String>,
    /// Metrics and behaviour of scaling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_scaling: Option<Open>,
    /// The requests that a replica takes at once; unlimited if 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_concurrency: Option<i64>,
    /// How long a request may take, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i64>,
    /// The share of requests that goes to the newest revision, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary_traffic_percent: Option<i64>,
    /// Where requests and answers are sent for the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logger: Option<LoggerSpec>,
    /// How requests are put together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batcher: Option<BatcherSpec>,
    /// Labels of the component's pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Annotations of the component's pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// How pods are replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment_strategy: Option<Open>,
}

/// A metric to scale on.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[schemars(inline)]
#[serde(rename_all = "lowercase")]
pub enum ScaleMetric {
    /// Use of processors.
    Cpu,
    /// Use of memory.
    Memory,
    /// Requests in flight.
    Concurrency,
    /// Requests per second.
    Rps,
}

/// Where requests and answers are sent for the record.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[schemars(rename = "io.kserve.serving.v1beta1.LoggerSpec")]
#[serde(rename_all = "camelCase")]
pub struct LoggerSpec {
    /// The receiver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// What is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<LoggerMode>,
    /// Request headers that are sent along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata_headers: Option<Vec<String>>,
    /// Annotations that are sent along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata_annotations: Option<Vec<String>>,
    /// The store that records go to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Open>,
    /// The service that shapes records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marshaller_url: Option<String>,
    /// The records per batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_size: Option<i32>,
    /// The longest wait for a batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_interval: Option<String>,
}

/// What a logger sends.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[schemars(inline)]
#[serde(rename_all = "lowercase")]
pub enum LoggerMode {
    /// Requests and answers.
    All,
    /// Requests.
    Request,
    /// Answers.
    Response,
}

/// How requests are put together.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[schemars(rename = "io.kserve.serving.v1beta1.Batcher")]
#[serde(rename_all = "camelCase")]
pub struct BatcherSpec {
    /// The most rows of a batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_batch_size: Option<i32>,
    /// The longest wait for a batch, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_latency: Option<i32>,
    /// The longest wait for an answer, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i32>,
}

/// A part of a manifest that is kept as it is written.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Open(pub Value);

impl JsonSchema for Open {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Open".into()
    }

    fn json_schema(_generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
    }
}

impl PredictorSpec {
    /// Returns the model block, whichever form it has, with its format's name: `model`, or one of the frameworks'.
    #[must_use]
    pub fn source(&self) -> Option<(&str, &ModelSource)> {
        if let Some(model) = &self.model {
            return Some((&model.model_format.name, &model.source));
        }
        let mut frameworks = self.frameworks().into_iter();
        frameworks.find_map(|(name, block)| block.map(|block| (name, &block.source)))
    }

    /// Returns the blocks of the older form, by their format.
    #[must_use]
    pub fn frameworks(&self) -> [(&'static str, Option<&FrameworkSpec>); 10] {
        [
            ("sklearn", self.sklearn.as_deref()),
            ("xgboost", self.xgboost.as_deref()),
            ("tensorflow", self.tensorflow.as_deref()),
            ("pytorch", self.pytorch.as_deref()),
            ("triton", self.triton.as_deref()),
            ("onnx", self.onnx.as_deref()),
            ("huggingface", self.huggingface.as_deref()),
            ("pmml", self.pmml.as_deref()),
            ("lightgbm", self.lightgbm.as_deref()),
            ("paddle", self.paddle.as_deref()),
        ]
    }
}
