//! The forms in which inference requests and answers travel: which decoder and encoder of `protocol` a route takes.

use bytes::Bytes;
use coracle_base::Code;
use coracle_protocol::tfs::Question;
use coracle_protocol::{
    Call, DecodeContext, EncodeContext, RequestError, grpc, seldon, tfs, v1, v2,
};
use coracle_serving::Protocol;
use coracle_tensor::Tensor;

use crate::arriving::{CSV_TYPE, is_type};
use crate::route;
use crate::shadow::Answered;
use crate::spans::Phases;

/// The most bytes that are made room for before an answer is written: a guess is no reason to take more.
const ROOM_MAX: usize = 1 << 24;

/// The form of a request, with what the head of the request says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Codec {
    /// V1 over REST.
    V1 {
        /// The method named in the URL's query.
        method: Option<String>,
    },
    /// MLflow's bodies at MLflow's path, which are V1's, too.
    Invocations {
        /// The method named in the URL's query.
        method: Option<String>,
    },
    /// A table of CSV at MLflow's path.
    Csv {
        /// The method named in the URL's query.
        method: Option<String>,
    },
    /// V2 over REST.
    V2 {
        /// The method named in the URL's query.
        method: Option<String>,
        /// The length of the JSON where raw tensor data follows it.
        json_length: Option<usize>,
    },
    /// The Open Inference Protocol over gRPC.
    Grpc,
    /// TensorFlow Serving's examples over REST.
    Examples(Question),
    /// TensorFlow Serving's prediction over gRPC.
    PredictMessage,
    /// TensorFlow Serving's examples over gRPC.
    ExamplesMessage(Question),
    /// Seldon's messages over REST.
    Seldon,
}

/// What stands in for a model, and for which failure of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StoodIn {
    pub(crate) code: Code,
    pub(crate) by: StandIn,
    /// Whether it was sooner than the model, which has not failed by then, and may not.
    pub(crate) was_sooner: bool,
}

impl StoodIn {
    /// Returns that for a failure.
    pub(crate) fn new(code: Code, by: StandIn) -> Self {
        Self {
            code,
            by,
            was_sooner: false,
        }
    }
}

/// What stands in for a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StandIn {
    /// The default prediction.
    Constant,
    /// The model of another service.
    Service,
    /// Another revision of the same service.
    Revision,
    /// The last good answer to somebody.
    LastGood,
}

impl StandIn {
    /// Returns its name, as answers say it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Constant => "constant",
            Self::Service => "service",
            Self::Revision => "revision",
            Self::LastGood => "last-good",
        }
    }
}

/// An answer's body.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Encoded {
    pub(crate) body: Vec<u8>,
    /// The length of the JSON where raw tensor data follows it.
    pub(crate) json_length: Option<usize>,
    /// Where its time went, if that is wanted.
    pub(crate) phases: Option<Box<Phases>>,
    /// What it was made of, if a copy goes to a shadow.
    pub(crate) answered: Option<Box<Answered>>,
    /// What stands in for what, if it is not the model's.
    pub(crate) fallback: Option<StoodIn>,
    /// Whether the model was not run for it.
    pub(crate) from_cache: bool,
}

impl Codec {
    /// Returns the form of a prediction of V1, or of MLflow's at its own path.
    pub(crate) fn of_v1(path: &str, method: Option<String>) -> Self {
        match route::is_invocations(path) {
            true => Self::Invocations { method },
            false => Self::V1 { method },
        }
    }

    /// Returns the form of a body of this content type: at MLflow's path it may be CSV.
    pub(crate) fn of_type(self, content_type: Option<&str>) -> Self {
        match self {
            Self::Invocations { method } if is_type(content_type, CSV_TYPE) => Self::Csv { method },
            other => other,
        }
    }

    /// Returns the protocol that calls are counted under.
    pub(crate) fn protocol(&self) -> Protocol {
        match self {
            Self::V1 { .. } | Self::Invocations { .. } | Self::Csv { .. } => Protocol::V1,
            Self::V2 { .. } => Protocol::V2,
            Self::Grpc => Protocol::Grpc,
            Self::Examples(_) => Protocol::Tfs,
            Self::PredictMessage | Self::ExamplesMessage(_) => Protocol::TfsGrpc,
            Self::Seldon => Protocol::Seldon,
        }
    }

    /// Returns the method that the request's head names.
    pub(crate) fn method(&self) -> Option<&str> {
        match self {
            Self::V1 { method }
            | Self::Invocations { method }
            | Self::Csv { method }
            | Self::V2 { method, .. } => method.as_deref(),
            Self::Grpc
            | Self::Examples(_)
            | Self::PredictMessage
            | Self::ExamplesMessage(_)
            | Self::Seldon => None,
        }
    }

    /// Decodes a request.
    pub(crate) fn decode(
        &self,
        body: &Bytes,
        ctx: &DecodeContext<'_>,
    ) -> Result<Call, RequestError> {
        match self {
            // Columns by name are TensorFlow Serving's alone; who sends rows does not pay for telling them apart.
            Self::V1 { .. } => {
                v1::decode_predict(body, ctx).or_else(|error| tfs::decode_columns(body, ctx, error))
            }
            Self::Invocations { .. } => v1::decode_invocations(body, ctx)
                .or_else(|error| tfs::decode_columns(body, ctx, error)),
            Self::Csv { .. } => v1::decode_csv(body, ctx),
            Self::V2 { json_length, .. } => v2::decode_infer(body, *json_length, ctx),
            Self::Grpc => grpc::decode_infer(body, ctx),
            Self::Examples(question) => tfs::decode_examples(body, *question, ctx),
            Self::PredictMessage => tfs::decode_predict_message(body, ctx),
            Self::ExamplesMessage(question) => tfs::decode_examples_message(body, *question, ctx),
            Self::Seldon => seldon::decode_message(body, ctx),
        }
    }

    /// Encodes an answer.
    pub(crate) fn encode(
        &self,
        ctx: &EncodeContext<'_>,
        call: &Call,
        outputs: &[Tensor],
    ) -> Result<Encoded, RequestError> {
        let mut body = Vec::new();
        let mut json_length = None;
        match self {
            Self::V1 { .. } | Self::Invocations { .. } | Self::Csv { .. } => {
                let room = call.n_rows.saturating_mul(32).saturating_add(64);
                body.reserve(room.min(ROOM_MAX));
            }
            // The description of an output takes more than its first numbers.
            Self::V2 { .. } => {
                let of_each = call.n_rows.saturating_mul(32).saturating_add(96);
                let room = of_each.saturating_mul(outputs.len()).saturating_add(64);
                body.reserve(room.min(ROOM_MAX));
            }
            _ => {}
        }
        match self {
            Self::V1 { .. } => v1::encode_predict(ctx.signature, call, outputs, &mut body),
            Self::Invocations { .. } | Self::Csv { .. } => {
                v1::encode_invocations(ctx.signature, call, outputs, &mut body);
            }
            Self::V2 { .. } => json_length = v2::encode_infer(ctx, call, outputs, &mut body)?,
            Self::Grpc => body = grpc::encode_infer(ctx, call, outputs)?,
            Self::Examples(Question::Classify) => {
                tfs::encode_classes(ctx, call, outputs, &mut body);
            }
            Self::Examples(Question::Regress) => tfs::encode_values(outputs, &mut body),
            Self::PredictMessage => body = tfs::encode_prediction(ctx, call, outputs),
            Self::ExamplesMessage(Question::Classify) => {
                body = tfs::encode_classification(ctx, call, outputs);
            }
            Self::ExamplesMessage(Question::Regress) => {
                body = tfs::encode_regression(ctx, outputs);
            }
            Self::Seldon => seldon::encode_message(ctx, call, outputs, &mut body),
        }
        Ok(Encoded {
            body,
            json_length,
            phases: None,
            answered: None,
            fallback: None,
            from_cache: false,
        })
    }
}
