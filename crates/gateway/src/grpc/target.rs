//! Who answers a gRPC request: this server, or a process that it is passed on to.
//!
//! Found by the host, as for HTTP; else by metadata that names the model; else by the name in the first message of a
//! method that has one. The split is asked once, so that a request has one turn in it whoever answers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coracle_base::Code;
use coracle_protocol::grpc::inference::ModelMetadataRequest;
use coracle_protocol::grpc::{FrameHead, InferHead, PREFIX_BYTES, decode};
use coracle_protocol::tfs::{self, SpecHead};
use coracle_serving::{ModelTable, ServedModel};
use hyper::header::HeaderMap;
use hyper::http::request::Parts;

use super::services::{INFERENCE, MODEL_STATUS, PREDICTION, is_streaming};
use super::{compression_of, expanded, failure, timeout_of};
use crate::body::RequestBody;
use crate::connection::Handler;
use crate::infer::{Failure, too_late};
use crate::scope::Scope;

/// The metadata in which ModelMesh's callers name the model.
const MODEL_HEADERS: [&str; 2] = ["mm-vmodel-id", "mm-model-id"];

/// Who answers.
pub(super) enum Target {
    /// This server, with the revision whose turn it is where that is settled.
    Here(Option<Arc<ServedModel>>),
    /// A process of this revision.
    Process {
        model: Arc<ServedModel>,
        /// The path that it is asked at.
        path: String,
    },
}

/// What the head of a request tells of who answers it.
enum Told {
    All(Target),
    /// The first message will tell.
    InMessage,
}

impl Handler {
    /// Finds out who answers a request; may read its first message for that.
    pub(super) async fn target(
        &self,
        head: &Parts,
        body: &mut RequestBody,
        started: Duration,
    ) -> Result<Target, Failure> {
        let told = {
            let table = self.calls.table.load();
            if !table.is_forwarded() {
                return Ok(Target::Here(None));
            }
            told_by_head(&table, head)
        };
        if let Told::All(target) = told {
            return Ok(target);
        }
        let Some(message) = self.first_message(head, body, started).await? else {
            return Ok(Target::Here(None));
        };
        // Whoever answers says what is wrong with a message that names nothing.
        let name = name_in(head.uri.path(), message).unwrap_or_default();
        let table = self.calls.table.load();
        Ok(turn(
            &table,
            &Scope::All,
            Some(&name),
            head,
            head.uri.path(),
        ))
    }

    /// Waits for the first message, which stays in the body; `None` if there is none that is whole.
    async fn first_message(
        &self,
        head: &Parts,
        body: &mut RequestBody,
        started: Duration,
    ) -> Result<Option<Bytes>, Failure> {
        let compression = compression_of(&head.headers)?;
        let timeout = timeout_of(&head.headers)?;
        let limits = &self.shared.limits;
        // A stream may begin with a pause.
        let own = match is_streaming(head.uri.path()) {
            true => Duration::MAX,
            false => limits.body_timeout,
        };
        let elapsed = self.shared.clock.monotonic().saturating_sub(started);
        let left = timeout.map_or(own, |timeout| timeout.saturating_sub(elapsed).min(own));
        let most = limits.body_max.as_usize();
        let read = tokio::select! {
            read = tokio::time::timeout(left, framed_message(body, most)) => read,
            () = self.draining() => {
                return Err(failure(Code::Unavailable, "the server is shutting down"));
            }
        };
        let Ok(read) = read else {
            return Err(too_late(timeout.unwrap_or(own)));
        };
        match read? {
            Some((frame, message)) => expanded(message, frame, compression, most).map(Some),
            None => Ok(None),
        }
    }
}

/// Waits for the first message as it travels.
async fn framed_message(
    body: &mut RequestBody,
    most: usize,
) -> Result<Option<(FrameHead, Bytes)>, Failure> {
    let broken = |_error| failure(Code::InvalidArgument, "the request ended before its end");
    let begun = body.look_ahead(PREFIX_BYTES).await.map_err(broken)?;
    let Some(prefix) = begun.first_chunk::<PREFIX_BYTES>() else {
        return Ok(None);
    };
    let frame = FrameHead::read(*prefix, most)?;
    let end = PREFIX_BYTES.saturating_add(frame.length);
    let begun = body.look_ahead(end).await.map_err(broken)?;
    let is_whole = begun.len() >= end;
    Ok(is_whole.then(|| (frame, begun.slice(PREFIX_BYTES..end))))
}

/// Reads who answers from a request's head.
fn told_by_head(table: &ModelTable, head: &Parts) -> Told {
    let (scope, path) = Scope::of(table, head);
    if scope != Scope::All {
        return Told::All(turn(table, &scope, None, head, path));
    }
    if let Some(name) = name_in_headers(&head.headers) {
        return Told::All(turn(table, &scope, Some(name), head, path));
    }
    match names_a_model(path) {
        true => Told::InMessage,
        false => Told::All(Target::Here(None)),
    }
}

/// Returns whose turn it is among the revisions of a service, if processes answer for any of them.
fn turn(table: &ModelTable, scope: &Scope, name: Option<&str>, head: &Parts, path: &str) -> Target {
    let route = scope.route(table, name);
    let chosen = route
        .filter(|route| route.is_forwarded())
        .and_then(|route| scope.choose(route, &head.headers));
    match chosen.cloned() {
        Some(model) if model.is_forwarded() => Target::Process {
            model,
            path: path.to_owned(),
        },
        chosen => Target::Here(chosen),
    }
}

fn name_in_headers(headers: &HeaderMap) -> Option<&str> {
    let named = MODEL_HEADERS.iter().find_map(|name| headers.get(*name));
    named.and_then(|name| name.to_str().ok())
}

/// The methods of the Open Inference Protocol whose messages name a model.
const NAMING: [&str; 6] = [
    "ModelInfer",
    "ModelStreamInfer",
    "ModelReady",
    "ModelMetadata",
    "ModelConfig",
    "ModelStatistics",
];

fn names_a_model(path: &str) -> bool {
    let method = path.strip_prefix(INFERENCE);
    method.is_some_and(|method| NAMING.contains(&method))
        || path == MODEL_STATUS
        || path.starts_with(PREDICTION)
}

/// Returns the name in a message of a method whose messages have one.
fn name_in(path: &str, message: Bytes) -> Option<String> {
    match path.strip_prefix(INFERENCE) {
        Some("ModelInfer" | "ModelStreamInfer") => {
            InferHead::read(&message).ok().map(|head| head.model_name)
        }
        Some(_) => {
            let request: ModelMetadataRequest = decode(message).ok()?;
            Some(request.name)
        }
        None => {
            let head: SpecHead = decode(message).ok()?;
            tfs::read_version(head).ok().map(|(name, _)| name)
        }
    }
}
