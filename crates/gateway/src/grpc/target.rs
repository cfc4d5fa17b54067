//! Who answers a gRPC request: this server, or a process that it is passed on to.
//!
//! Found by the host, as for HTTP; else by metadata that names the model; else by the name in the first message of a
//! method that has one. The split is asked once, so that a request has one turn in it whoever answers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coracle_base::Code;
use coracle_protocol::grpc::inference::ModelMetadataRequest;
use coracle_protocol::grpc::tensorflow::ModelSpec;
use coracle_protocol::grpc::{
    FrameHead, InferHead, PREFIX_BYTES, decode, format_timeout, frame_followed,
};
use coracle_protocol::tfs::{self, Question, SpecHead};
use coracle_serving::{Coming, ComingKind, ModelTable, ServedModel, ServiceId};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::http::request::Parts;

use super::flows::SELDON;
use super::services::{INFER, INFERENCE, MODEL_STATUS, PREDICTION, is_streaming};
use super::{Caller, GRPC_TIMEOUT, compression_of, expanded, failure, timeout_of};
use crate::body::RequestBody;
use crate::codec::Codec;
use crate::connection::Handler;
use crate::experiment::{self, Held, Sent, Turn};
use crate::forward::Forwarding;
use crate::infer::{Failure, too_late};
use crate::payload;
use crate::scope::Scope;
use crate::terms::Terms;

/// The metadata in which ModelMesh's callers name the model.
const MODEL_HEADERS: [&str; 2] = ["mm-vmodel-id", "mm-model-id"];

/// Who answers.
pub(super) enum Target {
    /// This server, with the revision whose turn it is, and the variant of an experiment, where that is settled.
    Here(Option<Arc<ServedModel>>, Turn<Held>),
    /// A process, which knows the model by another name than the message's if one is there.
    Process(Forwarding, Option<String>),
}

/// What the head of a request tells of who answers it.
enum Told {
    All(Target),
    /// The first message will tell.
    InMessage,
}

/// A request as far as it is known.
struct Begun<'a> {
    head: &'a Parts,
    request_id: &'a HeaderValue,
    /// Its first message, once that is there.
    message: Option<Bytes>,
    started: Duration,
}

impl Handler {
    /// Finds out who answers a request; may read its first message for that.
    pub(super) async fn target(
        &self,
        (head, request_id): (&Parts, &HeaderValue),
        body: &mut RequestBody,
        started: Duration,
    ) -> Result<Target, Failure> {
        let mut begun = Begun {
            head,
            request_id,
            message: None,
            started,
        };
        let told = {
            let table = self.calls.table.load();
            if !table.is_forwarded() {
                return Ok(Target::Here(None, Turn::Open));
            }
            self.told(&table, &begun)
        };
        if let Told::All(target) = told {
            return Ok(target);
        }
        begun.message = self.first_message(head, body, started).await?;
        let Some(message) = begun.message.clone() else {
            return Ok(Target::Here(None, Turn::Open));
        };
        let told = self.told(&self.calls.table.load(), &begun);
        let Told::All(target) = told else {
            return Ok(Target::Here(None, Turn::Open));
        };
        if let Target::Process(_, Some(name)) = &target {
            *body = RequestBody::from(named(head.uri.path(), &message, name));
        }
        Ok(target)
    }

    /// Waits for what a call is for, where that is still being loaded; returns when it is taken. May read its only message for that: messages of a stream
    /// wait each for its own. Who takes it finds in its head how long it may still take.
    ///
    /// # Errors
    /// If it does not come in time.
    pub(super) async fn hold_call(
        &self,
        head: &mut Parts,
        body: &mut RequestBody,
        started: Duration,
    ) -> Result<Duration, Failure> {
        let is_streaming = is_streaming(head.uri.path());
        let is_told_in_message = (!is_streaming || self.has_programs_to_come()) && {
            let (scope, path) = Scope::of_call(&self.calls.table.load(), head);
            let has_name = name_in_headers(&head.headers).is_some();
            let is_told = has_name || asks_how_it_stands(path);
            scope == Scope::All && names_a_model(path) && !is_told
        };
        let message = match is_told_in_message {
            true => self.first_message(head, body, started).await?,
            false => None,
        };
        let of_terms = Terms::of(&head.headers).unwrap_or_default().timeout;
        let timeout = timeout_of(&head.headers)?;
        let timeout = timeout.into_iter().chain(of_terms).min();
        let taken = {
            let awaited = |table: &ModelTable| awaited(table, head, message.as_ref());
            self.wait_for(timeout, started, awaited).await?
        };
        let path = head.uri.path();
        let is_ours = KNOWN.iter().any(|packages| path.starts_with(packages));
        let waited = taken.at.saturating_sub(started);
        let left = match is_ours && !is_streaming {
            true => taken.left,
            // What may be a stream, as methods of programs' own may, has no end but its caller's.
            false => timeout
                .filter(|_| !waited.is_zero())
                .map(|all| all.saturating_sub(waited)),
        };
        if let Some(left) = left.and_then(|left| HeaderValue::try_from(format_timeout(left)).ok()) {
            head.headers.insert(GRPC_TIMEOUT, left);
        }
        Ok(taken.at)
    }

    /// Tells whether a program is still being started: who is answered by it is known before the first answer, so a stream's first message is
    /// read before.
    fn has_programs_to_come(&self) -> bool {
        let table = self.calls.table.load();
        let mut coming = table.all_coming();
        coming.any(|(_, one)| one.kind == ComingKind::Programs)
    }

    /// Waits for what a message of a stream is for, where that is still being loaded; returns when it is taken.
    ///
    /// # Errors
    /// If it does not come in time.
    pub(super) async fn hold_message(
        &self,
        caller: &Caller,
        message: &Bytes,
    ) -> Result<Duration, Failure> {
        let clock = self.shared.clock.as_ref();
        let arrived = clock.monotonic();
        if !self.calls.table.load().has_coming() {
            return Ok(arrived);
        }
        let timeout = caller.time_left(clock)?;
        let awaited = |table: &ModelTable| awaited(table, &caller.head, Some(message));
        let taken = self.wait_for(timeout, arrived, awaited).await?;
        Ok(taken.at)
    }

    /// Reads who answers from a request's head, and from its first message once that is there.
    fn told(&self, table: &ModelTable, begun: &Begun<'_>) -> Told {
        let head = begun.head;
        let (scope, path) = Scope::of_call(table, head);
        if scope != Scope::All {
            return self.turn(table, (&scope, None), path, begun);
        }
        if let Some(name) = name_in_headers(&head.headers) {
            return self.turn(table, (&scope, Some(name)), path, begun);
        }
        match &begun.message {
            // Whoever answers says what is wrong with a message that names nothing.
            Some(message) => {
                let name = name_in(path, message.clone()).unwrap_or_default();
                self.turn(table, (&scope, Some(&name)), path, begun)
            }
            None if names_a_model(path) => Told::InMessage,
            None => Told::All(Target::Here(None, Turn::Open)),
        }
    }

    /// Returns whose turn it is among the revisions of a service and the variants of its experiments, if processes answer for any of them.
    fn turn(
        &self,
        table: &ModelTable,
        (scope, name): (&Scope, Option<&str>),
        path: &str,
        begun: &Begun<'_>,
    ) -> Told {
        let headers = &begun.head.headers;
        let route = scope.route(table, name);
        let route = route.filter(|route| experiment::may_forward(table, route));
        let Some((route, own)) =
            route.and_then(|route| Some((route, scope.choose(route, headers)?)))
        else {
            return Told::All(Target::Here(None, Turn::Open));
        };
        let codec = codec_of(path).filter(|_| experiment::is_split(route, scope));
        let Some(codec) = codec else {
            return Told::All(match own.is_forwarded() {
                true => Target::Process(Forwarding::plain(own, path), None),
                false => Target::Here(Some(Arc::clone(own)), Turn::Open),
            });
        };
        // Units may be in it, and it may have to name another model.
        let Some(message) = &begun.message else {
            return Told::InMessage;
        };
        let sent = Sent {
            headers,
            codec: &codec,
            body: message,
        };
        let chosen = experiment::choose((table, scope), own, sent);
        let model = chosen.as_ref().map_or(own, |chosen| chosen.model);
        if !model.is_forwarded() {
            let held = chosen.and_then(|chosen| Held::of(chosen, route));
            let turn = Turn::Settled(held);
            return Told::All(Target::Here(Some(Arc::clone(own)), turn));
        }
        let other_name = chosen.as_ref().and_then(|chosen| chosen.other_name());
        let other_name = other_name.map(str::to_owned);
        let caller = payload::Caller {
            headers,
            request_id: begun.request_id,
            n_message: 0,
        };
        let clock = &self.shared.clock;
        let part = chosen.map(|chosen| chosen.part(caller, clock, begun.started));
        let forwarding = Forwarding {
            part: part.unwrap_or_default(),
            ..Forwarding::plain(model, path)
        };
        Told::All(Target::Process(forwarding, other_name))
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

/// Returns what a call waits for, as far as its head and message tell.
fn awaited(
    table: &ModelTable,
    head: &Parts,
    message: Option<&Bytes>,
) -> Option<(ServiceId, Coming)> {
    let (scope, path) = Scope::of_call(table, head);
    let in_message = || name_in(path, message?.clone());
    let in_headers = name_in_headers(&head.headers).map(str::to_owned);
    let name = in_headers.or_else(in_message);
    let (id, coming) = scope.coming(table, name.as_deref())?;
    waits_for(path, coming).then(|| (id.clone(), coming.clone()))
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

/// Returns what the one message of a method asks, if that is an inference.
pub(crate) fn codec_of(path: &str) -> Option<Codec> {
    if path == INFER {
        return Some(Codec::Grpc);
    }
    match path.strip_prefix(PREDICTION)? {
        "Predict" => Some(Codec::PredictMessage),
        "Classify" => Some(Codec::ExamplesMessage(Question::Classify)),
        "Regress" => Some(Codec::ExamplesMessage(Question::Regress)),
        _ => None,
    }
}

/// Returns a message, with its frame, that asks a model of another name.
pub(crate) fn named(path: &str, message: &[u8], name: &str) -> Bytes {
    let name = name.to_owned();
    let framed = match path {
        INFER => {
            let last = InferHead {
                model_name: name,
                ..InferHead::default()
            };
            frame_followed(message, &last)
        }
        _ => {
            let spec = ModelSpec {
                name,
                ..ModelSpec::default()
            };
            let last = SpecHead {
                model_spec: Some(spec),
            };
            frame_followed(message, &last)
        }
    };
    Bytes::from(framed)
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

/// The methods of Seldon's service, all of which need the deployment's models.
const DEPLOYED: [&str; 4] = ["Predict", "SendFeedback", "ModelMetadata", "GraphMetadata"];

/// How the paths of the services begin that are known here.
const KNOWN: [&str; 4] = ["/inference.", "/grpc.", "/tensorflow.serving.", SELDON];

/// Tells whether a method asks how a model stands: that is told at once, whatever it is.
fn asks_how_it_stands(path: &str) -> bool {
    path == MODEL_STATUS || path.strip_prefix(INFERENCE) == Some("ModelReady")
}

/// Tells whether a method waits for a service that is not there yet: those do that need a model, Seldon's too, and those that only programs can know.
fn waits_for(path: &str, coming: &Coming) -> bool {
    let of_deployment = path.strip_prefix(SELDON);
    let needs_model = names_a_model(path) && !asks_how_it_stands(path)
        || of_deployment.is_some_and(|method| DEPLOYED.contains(&method));
    let is_known = KNOWN.iter().any(|packages| path.starts_with(packages));
    needs_model || coming.kind == ComingKind::Programs && !is_known
}

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
        None => tfs::read_version(&message).ok().map(|(name, _)| name),
    }
}
