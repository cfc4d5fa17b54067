//! What the server says of itself: its models, what they take, and how long it spends on what.

use coracle_protocol::client::NamedTensor;
use coracle_protocol::grpc::inference::{
    InferStatistics, ModelMetadataRequest, ModelMetadataResponse, ModelStatisticsRequest,
    ModelStatisticsResponse, RepositoryIndexRequest, RepositoryIndexResponse, StatisticDuration,
};
use coracle_protocol::grpc::{self, Message, PREFIX_BYTES};
use http::Method;
use serde_json::Value;

use crate::connection::{Connector, Exchange, Keep};
use crate::data::Body;
use crate::payload::{Envelope, Payload};
use crate::record::{Failure, FailureKind};
use crate::{BenchError, Protocol, Target};

/// An input as the model's metadata describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TensorMetadata {
    /// The name.
    pub name: String,
    /// The datatype's name, such as `FP32`.
    pub datatype: String,
    /// The shape; -1 for a size that the request chooses.
    pub shape: Vec<i64>,
    /// The names of its columns, where the server tells them.
    pub columns: Vec<String>,
}

/// Where the server's time went: means per request over the window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ServerShare {
    /// Requests that it counted.
    pub n_requests: u64,
    /// Waiting, in microseconds.
    pub queue_us: f64,
    /// Reading inputs.
    pub input_us: f64,
    /// Running the model.
    pub infer_us: f64,
    /// Writing outputs.
    pub output_us: f64,
    /// Rows for each run of the model.
    pub rows_per_execution: f64,
}

/// What the statistics of a model add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    n_requests: u64,
    n_rows: u64,
    n_executions: u64,
    queue_ns: u64,
    input_ns: u64,
    infer_ns: u64,
    output_ns: u64,
}

impl Totals {
    /// Returns what happened from `before` to this; `None` if nothing did.
    pub(crate) fn since(self, before: Self) -> Option<ServerShare> {
        let n_requests = self.n_requests.checked_sub(before.n_requests)?;
        let mean =
            |after: u64, before: u64| after.saturating_sub(before) as f64 / 1e3 / n_requests as f64;
        let n_rows = self.n_rows.saturating_sub(before.n_rows) as f64;
        let n_executions = self.n_executions.saturating_sub(before.n_executions).max(1) as f64;
        (n_requests > 0).then(|| ServerShare {
            n_requests,
            queue_us: mean(self.queue_ns, before.queue_ns),
            input_us: mean(self.input_ns, before.input_ns),
            infer_us: mean(self.infer_ns, before.infer_ns),
            output_us: mean(self.output_ns, before.output_ns),
            rows_per_execution: n_rows / n_executions,
        })
    }

    fn add_json(&mut self, stats: &Value) {
        let number = |value: &Value| value.as_u64().unwrap_or(0);
        let inferences = &stats["inference_stats"];
        self.n_requests += number(&inferences["compute_infer"]["count"]);
        self.n_rows += number(&stats["inference_count"]);
        self.n_executions += number(&stats["execution_count"]);
        self.queue_ns += number(&inferences["queue"]["ns"]);
        self.input_ns += number(&inferences["compute_input"]["ns"]);
        self.infer_ns += number(&inferences["compute_infer"]["ns"]);
        self.output_ns += number(&inferences["compute_output"]["ns"]);
    }

    fn add_message(&mut self, n_rows: u64, n_executions: u64, inferences: &InferStatistics) {
        let ns = |duration: &Option<StatisticDuration>| duration.as_ref().map_or(0, |it| it.ns);
        let infer = inferences.compute_infer.as_ref();
        self.n_requests += infer.map_or(0, |it| it.count);
        self.n_rows += n_rows;
        self.n_executions += n_executions;
        self.queue_ns += ns(&inferences.queue);
        self.input_ns += ns(&inferences.compute_input);
        self.infer_ns += ns(&inferences.compute_infer);
        self.output_ns += ns(&inferences.compute_output);
    }
}

/// Asks the server for what it knows, over a connection for each question.
pub(crate) struct Asker<'a> {
    pub(crate) target: &'a Target,
    pub(crate) connector: &'a Connector,
    pub(crate) envelope: &'a Envelope,
}

const SERVICE: &str = "/inference.GRPCInferenceService";

impl Asker<'_> {
    async fn exchange(&self, payload: &Payload) -> Result<Vec<u8>, Failure> {
        let call = async {
            let mut connection = self.connector.connect().await?;
            match connection.exchange(payload, Keep::All).await {
                Exchange::Answered(result, _) => result.map(|answer| answer.body),
                Exchange::Stale(failure) => Err(failure),
            }
        };
        let timeout = self.connector.timeout();
        tokio::time::timeout(timeout, call)
            .await
            .unwrap_or_else(|_elapsed| {
                let message = format!("no answer within {} ms", timeout.as_millis());
                Err(Failure::new(FailureKind::Timeout, message))
            })
    }

    async fn json(&self, method: Method, path: &str, body: &[u8]) -> Result<Value, Failure> {
        let path = format!("{}{path}", self.target.prefix);
        let ours = [("content-type", "application/json")];
        let body = self
            .exchange(&self.envelope.http1(&method, &path, &ours, body))
            .await?;
        serde_json::from_slice(&body).map_err(|error| Failure::new(FailureKind::Answer, error))
    }

    async fn call<T: Message + Default>(
        &self,
        method: &str,
        message: &impl Message,
    ) -> Result<T, Failure> {
        let path = format!("{SERVICE}/{method}");
        let payload = self.envelope.grpc(&path, grpc::frame(message));
        let payload = payload.map_err(|error| Failure::new(FailureKind::Answer, error))?;
        let answer = self.exchange(&payload).await?;
        let message = answer.get(PREFIX_BYTES..).unwrap_or_default();
        T::decode(message).map_err(|error| Failure::new(FailureKind::Answer, error))
    }

    fn model_path(&self) -> String {
        match self.target.version.as_str() {
            "" => format!("/v2/models/{}", self.target.model),
            version => format!("/v2/models/{}/versions/{version}", self.target.model),
        }
    }

    /// Returns what the model takes; `None` if the server does not tell.
    ///
    /// # Errors
    /// If the server cannot be reached, or has no such model.
    pub(crate) async fn metadata(&self) -> Result<Option<Vec<TensorMetadata>>, BenchError> {
        let asked = if self.target.protocol().is_grpc() {
            let request = ModelMetadataRequest {
                name: self.target.model.clone(),
                version: self.target.version.clone(),
            };
            let answer = self.call("ModelMetadata", &request).await;
            answer.map(|answer: ModelMetadataResponse| inputs_of_message(answer))
        } else {
            let answer = self.json(Method::GET, &self.model_path(), b"").await;
            answer.map(|answer| inputs_of_json(&answer))
        };
        let failure = match asked {
            Ok(inputs) => return Ok(Some(inputs)),
            Err(failure) => failure,
        };
        if failure.kind == FailureKind::Connect || failure.kind == FailureKind::Connection {
            return Err(self.unreachable(failure.message));
        }
        let is_unknown = matches!(
            failure.kind,
            FailureKind::Http(404 | 400) | FailureKind::Grpc(5 | 3)
        );
        if is_unknown && !self.has_v1_model().await {
            return Err(self.not_found().await);
        }
        Ok(None)
    }

    fn unreachable(&self, reason: String) -> BenchError {
        BenchError::Unreachable {
            url: self.target.base_url(),
            reason,
        }
    }

    async fn has_v1_model(&self) -> bool {
        let path = format!("/v1/models/{}", self.target.model);
        !self.target.protocol().is_grpc() && self.json(Method::GET, &path, b"").await.is_ok()
    }

    async fn not_found(&self) -> BenchError {
        let model = &self.target.model;
        let url = self.target.base_url();
        let version = match self.target.version.as_str() {
            "" => String::new(),
            version => format!(" in version {version}"),
        };
        BenchError::ModelNotFound(match self.models().await.as_slice() {
            [] => format!("{url} has no model {model:?}{version}, and does not list those it has"),
            models => format!(
                "{url} has no model {model:?}{version}; it has {}",
                models.join(", ")
            ),
        })
    }

    /// Returns the models that the server lists; none if it does not.
    async fn models(&self) -> Vec<String> {
        let names = |answer: &Value| -> Vec<String> {
            let entries = answer.as_array().or_else(|| answer["models"].as_array());
            let entries = entries.into_iter().flatten();
            let names =
                entries.filter_map(|entry| entry.as_str().or_else(|| entry["name"].as_str()));
            names.map(str::to_owned).collect()
        };
        let mut found = Vec::new();
        if self.target.protocol().is_grpc() {
            let request = RepositoryIndexRequest::default();
            if let Ok(answer) = self
                .call::<RepositoryIndexResponse>("RepositoryIndex", &request)
                .await
            {
                found = answer.models.into_iter().map(|model| model.name).collect();
            }
        } else {
            let questions = [
                (Method::GET, "/v1/models", ""),
                (Method::POST, "/v2/repository/index", "{}"),
                (Method::GET, "/v2/models", ""),
            ];
            for (method, path, body) in questions {
                if let Ok(answer) = self.json(method, path, body.as_bytes()).await {
                    found = names(&answer);
                }
                if !found.is_empty() {
                    break;
                }
            }
        }
        found.sort();
        found.dedup();
        found
    }

    /// Returns the one model that there is.
    ///
    /// # Errors
    /// If the server cannot be reached, or has several models or lists none.
    pub(crate) async fn only_model(&self) -> Result<String, BenchError> {
        // Tells a server that is not there from one that does not list its models.
        if let Err(failure) = self.connector.connect().await {
            return Err(self.unreachable(failure.message));
        }
        let url = self.target.base_url();
        match self.models().await.as_slice() {
            [only] => Ok(only.clone()),
            [] => Err(BenchError::ModelNotFound(format!(
                "{url} does not list its models; name one with --model"
            ))),
            models => Err(BenchError::ModelNotFound(format!(
                "{url} has several models; name one with --model: {}",
                models.join(", ")
            ))),
        }
    }

    /// Returns what the statistics add up to; `None` if the server gives none.
    pub(crate) async fn totals(&self) -> Option<Totals> {
        let mut totals = Totals::default();
        if self.target.protocol().is_grpc() {
            let request = ModelStatisticsRequest {
                name: self.target.model.clone(),
                version: self.target.version.clone(),
            };
            let answer: ModelStatisticsResponse =
                self.call("ModelStatistics", &request).await.ok()?;
            for stats in &answer.model_stats {
                let inferences = stats.inference_stats.as_ref()?;
                totals.add_message(stats.inference_count, stats.execution_count, inferences);
            }
        } else {
            let path = format!("{}/stats", self.model_path());
            let answer = self.json(Method::GET, &path, b"").await.ok()?;
            for stats in answer["model_stats"].as_array()? {
                totals.add_json(stats);
            }
        }
        Some(totals)
    }

    /// Returns the requests that carry `bodies`.
    pub(crate) fn payloads(&self, bodies: &[Body]) -> Result<Vec<Payload>, BenchError> {
        let path = self.target.path();
        let one = |body: &Body| {
            if self.target.protocol().is_grpc() {
                return self.envelope.grpc(&path, body.bytes.clone());
            }
            let length = body.json_length.map(|length| length.to_string());
            let ours = match &length {
                Some(length) => vec![
                    ("content-type", "application/octet-stream"),
                    ("inference-header-content-length", length.as_str()),
                ],
                None => vec![("content-type", "application/json")],
            };
            Ok(self
                .envelope
                .http1(&Method::POST, &path, &ours, &body.bytes))
        };
        bodies.iter().map(one).collect()
    }

    /// Sends one request; whether it is answered tells whether a load makes sense.
    pub(crate) async fn try_first(&self, payload: &Payload) -> Result<(), BenchError> {
        match self.exchange(payload).await {
            Ok(_answer) => Ok(()),
            Err(Failure {
                kind: FailureKind::Connect | FailureKind::Connection,
                message,
            }) => Err(self.unreachable(message)),
            Err(Failure { kind, message }) => Err(BenchError::Refused {
                status: kind.to_string(),
                message,
            }),
        }
    }
}

/// Returns a body of `inputs` in the form that `protocol` wants.
pub(crate) fn encode(target: &Target, protocol: Protocol, inputs: &[NamedTensor]) -> Body {
    use coracle_protocol::client;
    match protocol {
        Protocol::V1 => Body::json(client::v1_json(inputs)),
        Protocol::V2 => Body::json(client::v2_json(inputs)),
        Protocol::V2Binary => {
            let (bytes, json_length) = client::v2_binary(inputs);
            Body {
                bytes,
                json_length: Some(json_length),
            }
        }
        Protocol::Grpc => Body::json(client::grpc_infer(&target.model, &target.version, inputs)),
    }
}

fn inputs_of_json(metadata: &Value) -> Vec<TensorMetadata> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let inputs = metadata["inputs"].as_array().into_iter().flatten();
    let input = |input: &Value| TensorMetadata {
        name: text(&input["name"]),
        datatype: text(&input["datatype"]),
        shape: numbers(&input["shape"]),
        columns: input["parameters"]["columns"]
            .as_array()
            .map(|columns| columns.iter().map(text).collect())
            .unwrap_or_default(),
    };
    inputs.map(input).collect()
}

fn numbers(list: &Value) -> Vec<i64> {
    let items = list.as_array().into_iter().flatten();
    items.filter_map(Value::as_i64).collect()
}

fn inputs_of_message(metadata: ModelMetadataResponse) -> Vec<TensorMetadata> {
    let inputs = metadata.inputs.into_iter();
    let input = |input: coracle_protocol::grpc::inference::TensorMetadata| TensorMetadata {
        name: input.name,
        datatype: input.datatype,
        shape: input.shape,
        columns: Vec::new(),
    };
    inputs.map(input).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_metadata_says_is_read() {
        let metadata = serde_json::json!({"name": "m", "inputs": [
            {"name": "X", "datatype": "FP64", "shape": [-1, 2], "parameters": {"columns": ["a", "b"]}},
            {"name": "y", "datatype": "BYTES", "shape": [-1]},
        ]});
        let inputs = inputs_of_json(&metadata);
        assert_eq!(inputs[0].columns, ["a", "b"]);
        assert_eq!(
            (inputs[1].datatype.as_str(), inputs[1].shape.as_slice()),
            ("BYTES", &[-1][..])
        );
    }

    #[test]
    fn the_servers_share_is_what_happened_meanwhile() {
        let stats = |n: u64| {
            let timed = |ns: u64| serde_json::json!({"count": n, "ns": ns * n});
            let mut totals = Totals::default();
            totals.add_json(&serde_json::json!({
                "inference_count": 8 * n, "execution_count": n / 2,
                "inference_stats": {"queue": timed(1_000), "compute_input": timed(2_000), "compute_infer": timed(3_000), "compute_output": timed(500)},
            }));
            totals
        };
        let share = stats(30).since(stats(10)).unwrap();
        assert_eq!((share.n_requests, share.rows_per_execution), (20, 16.0));
        let times = (
            share.queue_us,
            share.input_us,
            share.infer_us,
            share.output_us,
        );
        assert_eq!(times, (1.0, 2.0, 3.0, 0.5));
        assert_eq!(stats(10).since(stats(10)), None);
        // A server that began anew meanwhile tells nothing.
        assert_eq!(stats(5).since(stats(10)), None);
    }
}
