//! Graphs over gRPC, and Seldon's own service: `seldon.protos.Seldon`, whose messages are answered as those over REST.
//!
//! A deployment is named by the host or path, or as Seldon's callers do it: by the metadata `seldon` and `namespace`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coracle_base::Code;
use coracle_protocol::facts::{ModelFacts, VersionEntry};
use coracle_protocol::flow::{Dialect, NO_VERSIONS};
use coracle_protocol::grpc::inference::ModelMetadataRequest;
use coracle_protocol::grpc::{self, decode, frame};
use coracle_protocol::{seldon, tfs};
use coracle_serving::flow::{Flow, FlowAsk};
use coracle_serving::{ModelTable, ServiceId};
use hyper::header::HeaderMap;
use hyper::http::request::Parts;

use super::services::unknown_method;
use super::{Caller, failure};
use crate::codec::Codec;
use crate::connection::Handler;
use crate::encoding::{EVENT_LOOP_BYTES_MAX, off_loop};
use crate::flow::{FlowCall, described, reward, trouble, trouble_of};
use crate::infer::{Failure, unknown_model};
use crate::scope::{self, Scope};
use crate::terms::Terms;

/// The name of Seldon's service, in paths.
pub(super) const SELDON: &str = "/seldon.protos.Seldon/";

/// Returns the deployment that a request names.
fn deployment(table: &ModelTable, head: &Parts) -> Option<ServiceId> {
    match Scope::of_call(table, head) {
        (Scope::Service { id, tag: None }, _path) => Some(id),
        _ => None,
    }
}

/// What a name is in a flow.
#[derive(Clone, Copy)]
enum Named<'a> {
    /// The flow's own.
    Flow(&'a Arc<Flow>),
    /// The name of one of its nodes.
    Node(&'a FlowAsk),
}

/// Returns what a name is in the flow that a message is for; `None` if that is for no flow.
///
/// # Errors
/// If the name is none of the flow's, and none of its nodes'.
fn named<'a>(
    table: &'a ModelTable,
    caller: &Caller,
    name: &str,
) -> Result<Option<Named<'a>>, Failure> {
    let Some(id) = deployment(table, &caller.head) else {
        return Ok(None);
    };
    let Some(flow) = table.flow(&id) else {
        return Ok(None);
    };
    let is_own = name.is_empty() || name == id.name || name == flow.name();
    if is_own {
        return Ok(Some(Named::Flow(flow)));
    }
    let unknown = || failure(Code::NotFound, &unknown_model(name));
    let node = described::node(flow.root(), name).ok_or_else(unknown)?;
    Ok(Some(Named::Node(node)))
}

/// Returns the flow that a message for a model of this name is for.
///
/// # Errors
/// If the name is none of its own; nodes take no requests by theirs.
pub(super) fn flow_of<'a>(
    table: &'a ModelTable,
    caller: &Caller,
    name: &str,
) -> Result<Option<&'a Arc<Flow>>, Failure> {
    match named(table, caller, name)? {
        None => Ok(None),
        Some(Named::Flow(flow)) => Ok(Some(flow)),
        Some(Named::Node(_)) => Err(failure(Code::NotFound, &unknown_model(name))),
    }
}

impl Handler {
    /// Tells whether the models of a flow of this name, or that of a node, take calls; `None` if there is none.
    pub(super) fn is_flow_well(&self, caller: &Caller, name: &str) -> Option<bool> {
        let table = self.calls.table.load();
        if !table.has_flows() {
            return None;
        }
        let trouble = match named(&table, caller, name) {
            Ok(None) => return None,
            Ok(Some(Named::Flow(flow))) => trouble(&table, flow.root()),
            Ok(Some(Named::Node(ask))) => trouble_of(&table, ask),
            // A model of the name that is elsewhere is not the deployment's.
            Err(_) => return Some(false),
        };
        Some(trouble.is_none())
    }

    /// Answers with what a flow of the name, or the model of a node, takes and gives; `None` if there is none.
    pub(super) async fn flow_metadata(
        &self,
        caller: &Caller,
        message: Bytes,
    ) -> Result<Option<Vec<u8>>, Failure> {
        let table = self.calls.table.load();
        if !table.has_flows() {
            return Ok(None);
        }
        let request: ModelMetadataRequest = decode(message)?;
        let flow = match named(&table, caller, &request.name)? {
            None => return Ok(None),
            Some(Named::Flow(flow)) => flow,
            Some(Named::Node(ask)) => {
                let framed = |facts: ModelFacts<'_>| frame(&grpc::model_metadata(facts));
                let described = self.node_described((&table, ask), framed);
                return described.await.map(Some);
            }
        };
        let signature = self.flow_signature((&table, flow)).await?;
        let metadata = grpc::model_metadata(self.flow_facts(flow, &signature));
        Ok(Some(frame(&metadata)))
    }

    /// Leads a message through a flow.
    pub(super) async fn flow_message(
        &self,
        (table, flow): (&ModelTable, &Flow),
        caller: &Caller,
        (codec, dialect): (Codec, Dialect),
        (message, arrived): (Bytes, Duration),
    ) -> Result<Vec<u8>, Failure> {
        let call = FlowCall {
            caller: caller.recorded(),
            sent: (codec, dialect),
            arrived,
            terms: Terms {
                timeout: caller.time_left(self.shared.clock.as_ref())?,
                priority: caller.priority,
            },
            trace: caller.trace,
        };
        let encoded = self.calls.lead((table, flow), call, message).await?;
        Ok(caller.note_answer(encoded))
    }

    /// Answers TensorFlow Serving's PredictionService for a flow of the name, or of its node; `None` if there is none.
    ///
    /// A flow is asked by the Open Inference Protocol's messages, so that tensors of every datatype go from node to node.
    pub(super) async fn flow_prediction(
        &self,
        table: &ModelTable,
        (caller, name): (&Caller, &str),
        method: &str,
        (message, arrived): (&Bytes, Duration),
    ) -> Result<Option<Vec<u8>>, Failure> {
        let flow = match (named(table, caller, name)?, method) {
            (None, _) => return Ok(None),
            (Some(Named::Flow(flow)), _) => flow,
            (Some(Named::Node(ask)), "GetModelMetadata") => {
                let described = self.node_described((table, ask), tfs::model_metadata_message);
                return described.await.map(Some);
            }
            (Some(Named::Node(_)), _) => return Err(failure(Code::NotFound, &unknown_model(name))),
        };
        match method {
            "GetModelMetadata" => {
                let signature = self.flow_signature((table, flow)).await?;
                let facts = self.flow_facts(flow, &signature);
                return Ok(Some(tfs::model_metadata_message(facts)));
            }
            "Predict" => {}
            method => {
                let message = format!(
                    "a graph has no {method}; ask it to Predict, or its models, which are services of their own"
                );
                return Err(failure(Code::Unimplemented, &message));
            }
        }
        let (elements_max, body_max) = (self.calls.elements_max, self.calls.body_max);
        // All of it is looked at for what it comes to, which few bytes alone may be here.
        let n_bytes = match message.len() {
            own if own > EVENT_LOOP_BYTES_MAX => own,
            _ => tfs::predict_bytes(message),
        };
        let read = {
            let message = message.clone();
            off_loop(n_bytes, move || {
                tfs::graph_request(&message, (elements_max, body_max))
            })
        };
        let request = read.await.ok_or_else(defect)?.inspect_err(|error| {
            flow.count(Err(error.code()));
        })?;
        let sent = (Codec::Grpc, Dialect::Grpc);
        let led = self.flow_message((table, flow), caller, sent, (request, arrived));
        let answer = led.await?;
        let name = flow.name().to_owned();
        let written = off_loop(answer.len(), move || {
            tfs::graph_answer(&answer, &name, elements_max)
        });
        Ok(Some(written.await.ok_or_else(defect)??))
    }

    /// Returns the state of the one version of a flow of the name, or of its node; `None` if there is none.
    pub(super) fn flow_status(
        &self,
        table: &ModelTable,
        (caller, name): (&Caller, &str),
        has_version: bool,
    ) -> Result<Option<VersionEntry>, Failure> {
        if !table.has_flows() {
            return Ok(None);
        }
        let trouble = match named(table, caller, name)? {
            None => return Ok(None),
            Some(Named::Flow(flow)) => trouble(table, flow.root()),
            Some(Named::Node(ask)) => trouble_of(table, ask),
        };
        match has_version {
            true => Err(failure(Code::Unimplemented, NO_VERSIONS)),
            false => Ok(Some(self.flow_version(trouble))),
        }
    }

    /// Answers a message of Seldon's service.
    pub(super) async fn seldon_message(
        &self,
        caller: &Caller,
        method: &str,
        message: Bytes,
        arrived: Duration,
    ) -> Result<Vec<u8>, Failure> {
        let table = self.calls.table.load();
        let id = deployment(&table, &caller.head).ok_or_else(|| {
            let message = "no such deployment; name one in the metadata seldon and namespace";
            failure(Code::NotFound, message)
        })?;
        match method {
            "Predict" => {
                let body = Bytes::from(seldon::request_json(message)?);
                let answer = match table.flow(&id) {
                    Some(flow) => {
                        let sent = (Codec::Seldon, Dialect::Seldon);
                        self.flow_message((&table, flow), caller, sent, (body, arrived))
                            .await?
                    }
                    None => {
                        let model = scope::choose(route(&table, &id)?, headers(caller));
                        self.inferred((&table, caller), model, (Codec::Seldon, body, arrived))
                            .await?
                    }
                };
                Ok(seldon::response_message(&answer)?)
            }
            "SendFeedback" => {
                let body = seldon::feedback_json(message)?;
                let feedback = seldon::read_feedback(&body)?;
                let nodes = match table.flow(&id) {
                    Some(flow) => reward(flow, &feedback)?,
                    None => crate::seldon::reward(route(&table, &id)?, &feedback)?,
                };
                let mut answer = Vec::new();
                seldon::encode_feedback(&feedback, &nodes, &mut answer);
                Ok(seldon::response_message(&answer)?)
            }
            "ModelMetadata" => {
                let name = seldon::metadata_name(message)?;
                let body = self.deployed_model((&table, &id), &name).await?;
                Ok(seldon::model_metadata_message(&body)?)
            }
            "GraphMetadata" => {
                let body = self.deployed_graph((&table, &id)).await?;
                Ok(seldon::graph_metadata_message(&body)?)
            }
            method => Err(unknown_method(&format!("{SELDON}{method}"))),
        }
    }
}

fn defect() -> Failure {
    let message = "the message could not be read or written; this is a defect of the server, not of the request";
    failure(Code::Internal, message)
}

fn headers(caller: &Caller) -> &HeaderMap {
    &caller.head.headers
}

fn route<'a>(
    table: &'a ModelTable,
    id: &ServiceId,
) -> Result<&'a Arc<coracle_serving::Route>, Failure> {
    let found = table.service(id);
    found.ok_or_else(|| failure(Code::NotFound, &format!("there is no deployment {id}")))
}
