//! The record of one inference: what is fixed when its request comes, then its two payloads.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use coracle_base::Clock;
use coracle_protocol::grpc::PREFIX_BYTES;
use coracle_protocol::tfs::Question;
use coracle_protocol::{error_body, http_status};
use coracle_serving::{ExportStatistics, PayloadMode, ServedModel};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};

use super::event::{Context, Event, Kind, Part};
use super::{PayloadConfig, PayloadLog, PayloadTarget};
use crate::codec::{Codec, Encoded};
use crate::infer::Failure;
use crate::trace::TRACEPARENT;

const JSON: &str = "application/json";
const BINARY: &str = "application/octet-stream";
const MESSAGE: &str = "application/protobuf";
/// The header that names the event that a request already is.
const CE_ID: &str = "ce-id";
/// The most bytes of a payload that is copied; larger ones have memory of their own, which is shared.
const COPY_BYTES_MAX: usize = 64 << 10;

/// What recording needs besides the request.
#[derive(Debug)]
pub(super) struct Standing {
    config: PayloadConfig,
    source: String,
    pub(super) exports: Arc<ExportStatistics>,
    clock: Arc<dyn Clock>,
}

impl Standing {
    pub(super) fn new(
        config: PayloadConfig,
        source: String,
        exports: Arc<ExportStatistics>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            config,
            source,
            exports,
            clock,
        }
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller<'a> {
    pub(crate) headers: &'a HeaderMap,
    pub(crate) request_id: &'a HeaderValue,
    /// The number of the message in a stream, from 1 on; 0 for what is alone.
    pub(crate) n_message: u64,
}

impl Caller<'_> {
    /// Returns the id that a message is known by: the request's own, with the number of the message in a stream.
    pub(crate) fn id(self) -> String {
        let id = self.request_id.to_str().unwrap_or_default();
        match self.n_message {
            0 => id.to_owned(),
            number => format!("{id}-{number}"),
        }
    }
}

/// What an inference's payloads are recorded with.
#[derive(Clone, Debug)]
pub(crate) struct Recording {
    log: PayloadLog,
    mode: PayloadMode,
    context: Arc<Context>,
    content_type: Option<String>,
}

impl PayloadLog {
    /// Begins the record of an inference; `None` if it has none.
    pub(crate) fn recording(
        &self,
        model: &ServedModel,
        caller: Caller<'_>,
    ) -> Option<Box<Recording>> {
        let config = &self.standing.config;
        let own = model.payloads();
        let (target, mode, names) = match own {
            Some(own) => {
                let url = PayloadTarget::Url(own.url.clone());
                (url, own.mode, &own.metadata_headers)
            }
            None => (config.target.clone()?, config.mode, &config.headers),
        };
        let text = |name: &str| {
            let value = caller.headers.get(name)?;
            value.to_str().ok().map(str::to_owned)
        };
        let annotations = own.map(|own| &own.annotations);
        let annotations = annotations.filter(|annotations| !annotations.is_empty());
        let context = Context {
            target,
            id: text(CE_ID)
                .filter(|id| !id.is_empty())
                .unwrap_or_else(|| caller.id()),
            source: self.standing.source.clone(),
            model: model.name().to_owned(),
            version: model.version().to_owned(),
            namespace: model.revision().map(|revision| revision.namespace.clone()),
            revision: model.revision().map(|revision| revision.name.clone()),
            metadata: (!names.is_empty()).then(|| metadata(names, caller.headers)),
            annotations: annotations.map(to_json),
            traceparent: text(TRACEPARENT.as_str()),
        };
        Some(Box::new(Recording {
            log: self.clone(),
            mode,
            context: Arc::new(context),
            content_type: text(CONTENT_TYPE.as_str()),
        }))
    }
}

/// Returns the headers of these names with their values, as JSON.
fn metadata(names: &[String], headers: &HeaderMap) -> String {
    let values = |name: &str| -> Vec<String> {
        let values = headers.get_all(name).iter();
        let values = values.filter_map(|value: &HeaderValue| value.to_str().ok());
        values.map(str::to_owned).collect()
    };
    let found = names.iter().map(|name| (name.as_str(), values(name)));
    let found: BTreeMap<&str, Vec<String>> =
        found.filter(|(_, values)| !values.is_empty()).collect();
    to_json(&found)
}

fn to_json(value: &impl serde::Serialize) -> String {
    // Maps of texts are always JSON.
    serde_json::to_string(value).unwrap_or_default()
}

impl Recording {
    /// Records the request.
    pub(crate) fn request(&self, codec: &Codec, body: &Bytes) {
        if !self.mode.has_requests() {
            return;
        }
        let kind = match messages(codec) {
            Some((request, _)) => Kind {
                content_type: MESSAGE.into(),
                message_type: Some(request),
                ..Kind::default()
            },
            None => Kind {
                content_type: match &self.content_type {
                    Some(content_type) => Cow::Owned(content_type.clone()),
                    None => JSON.into(),
                },
                json_length: match codec {
                    Codec::V2 { json_length, .. } => *json_length,
                    _ => None,
                },
                ..Kind::default()
            },
        };
        let data = || match body.len() {
            // A small body is a part of what its connection reads into, which is larger.
            0..=COPY_BYTES_MAX => Bytes::copy_from_slice(body),
            _ => body.clone(),
        };
        self.record((Part::Request, kind), data, body.len());
    }

    /// Records the answer, be it a failure.
    pub(crate) fn response(&self, codec: &Codec, result: &Result<Encoded, Failure>) {
        if !self.mode.has_responses() {
            return;
        }
        let message_type = messages(codec).map(|(_, response)| response);
        match result {
            Ok(encoded) => {
                let (content_type, body) = match (message_type, encoded.json_length) {
                    // Framed already.
                    (Some(_), _) => (MESSAGE, encoded.body.get(PREFIX_BYTES..)),
                    (None, Some(_)) => (BINARY, Some(encoded.body.as_slice())),
                    (None, None) => (JSON, Some(encoded.body.as_slice())),
                };
                let body = body.unwrap_or_default();
                let kind = Kind {
                    content_type: content_type.into(),
                    message_type,
                    json_length: encoded.json_length,
                    status: Some(200),
                };
                let data = || Bytes::copy_from_slice(body);
                self.record((Part::Response, kind), data, body.len());
            }
            Err(failure) => {
                let (content_type, body) = match message_type {
                    Some(_) => ("text/plain", failure.message.clone().into_bytes()),
                    None => (JSON, error_body(&failure.message)),
                };
                let kind = Kind {
                    content_type: content_type.into(),
                    status: Some(http_status(failure.code)),
                    ..Kind::default()
                };
                let n_bytes = body.len();
                self.record((Part::Response, kind), || Bytes::from(body), n_bytes);
            }
        }
    }

    fn record(&self, what: (Part, Kind), data: impl FnOnce() -> Bytes, n_bytes: usize) {
        let standing = &self.log.standing;
        let room = (&standing.exports, standing.config.memory_max.as_u64());
        let at = standing.clock.unix_time();
        let event = Event::try_new(room, &self.context, what, at, data, n_bytes);
        self.log.send(event);
    }
}

/// Returns the protobuf messages of a codec's request and answer.
fn messages(codec: &Codec) -> Option<(&'static str, &'static str)> {
    match codec {
        Codec::V1 { .. }
        | Codec::Invocations { .. }
        | Codec::Csv { .. }
        | Codec::V2 { .. }
        | Codec::Examples(_)
        | Codec::Seldon => None,
        Codec::Grpc => Some((
            "inference.ModelInferRequest",
            "inference.ModelInferResponse",
        )),
        Codec::PredictMessage => Some((
            "tensorflow.serving.PredictRequest",
            "tensorflow.serving.PredictResponse",
        )),
        Codec::ExamplesMessage(Question::Classify) => Some((
            "tensorflow.serving.ClassificationRequest",
            "tensorflow.serving.ClassificationResponse",
        )),
        Codec::ExamplesMessage(Question::Regress) => Some((
            "tensorflow.serving.RegressionRequest",
            "tensorflow.serving.RegressionResponse",
        )),
    }
}
