//! Wire formats to tensors and back: KServe's V1 and the Open Inference Protocol's V2, as JSON over REST.
//!
//! Bytes in, tensors out, bytes out: no sockets, no HTTP types. A request is decoded against a model's
//! [`Signature`] straight into typed buffers ([`v1::decode_predict`], [`v2::decode_infer`]); every complaint
//! says what was wrong, where, and what was allowed. [`http_status`] and [`grpc_status`] are the only place
//! where failure codes become statuses.
#![forbid(unsafe_code)]
#![deny(
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    clippy::expect_used
)]

mod cell;
pub mod client;
mod column_names;
pub mod compression;
mod content;
mod error;
pub mod experiments;
pub mod facts;
pub mod flow;
pub mod grpc;
mod number;
pub mod otlp;
mod parameters;
mod raw;
mod regions;
mod render;
pub mod seldon;
mod status;
pub mod tfs;
mod unknown;
pub mod v1;
pub mod v2;

use std::time::Duration;

use coracle_model::Signature;
use coracle_tensor::Tensor;

pub use content::content_type;
pub use error::{RequestError, error_body};
pub use regions::{NoRegions, RegionSlice, Regions};
pub use render::string as json_string;
pub use status::{code_of_grpc, grpc_status, http_status};

/// What a request is decoded against.
#[derive(Clone, Copy, Debug)]
pub struct DecodeContext<'a> {
    /// What the model takes and gives.
    pub signature: &'a Signature,
    /// The outputs of a request that asks for none, as indices into the signature's.
    pub default_outputs: &'a [usize],
    /// The method named in the URL's query, if one is.
    pub method: Option<&'a str>,
    /// The most elements that one request may hold.
    pub elements_max: usize,
    /// The most bytes of elements that a request does not write, but has repeated.
    pub filled_bytes_max: usize,
    /// The shared memory that requests may name.
    pub regions: &'a dyn Regions,
}

/// What an answer is encoded with.
#[derive(Clone, Copy, Debug)]
pub struct EncodeContext<'a> {
    /// The model's name as asked for.
    pub model_name: &'a str,
    /// The version that answers.
    pub model_version: &'a str,
    /// What the model takes and gives.
    pub signature: &'a Signature,
    /// The shared memory that outputs may go to.
    pub regions: &'a dyn Regions,
}

/// A decoded inference request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Call {
    /// One tensor for each of the signature's inputs.
    pub inputs: Vec<Tensor>,
    /// The outputs asked for, as indices into the signature's.
    pub outputs: Vec<usize>,
    /// How each of `outputs` is to be given; those beyond its end are [`OutputForm::Typed`].
    pub forms: Vec<OutputForm>,
    /// How V1 and Seldon's protocol answer.
    pub layout: Layout,
    /// The caller's id for the request, given back in V2.
    pub id: Option<String>,
    /// The caller's tags as JSON, given back in Seldon's protocol.
    pub tags: Option<Box<str>>,
    /// The number of rows.
    pub n_rows: usize,
    /// How long the caller waits: the parameter `timeout`, in microseconds as Triton has it.
    pub timeout: Option<Duration>,
    /// How urgent it is: the parameter `priority`, of which 1 is the highest and 0 the default.
    pub priority: u64,
}

/// How an answer of V1 is laid out, which follows the request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// Row by row, as `predictions`: `instances` were sent.
    #[default]
    Rows,
    /// Output by output, as `outputs`: TensorFlow Serving's `inputs` by name were sent.
    Columns,
    /// Both: a list of `inputs` was sent, which KServe's servers answer the one way and TensorFlow Serving the other.
    Both,
    /// With its shape and all its elements in a list, as Seldon's `tensor` was sent.
    Tensor,
}

/// How an output is given to the caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OutputForm {
    /// In the protocol's own form: JSON numbers, typed contents.
    #[default]
    Typed,
    /// As raw bytes beside the answer.
    Raw,
    /// As raw bytes in shared memory.
    Region(RegionSlice),
}

impl Call {
    /// Returns how the output at `index` of `outputs` is to be given.
    #[must_use]
    pub fn form(&self, index: usize) -> &OutputForm {
        self.forms.get(index).unwrap_or(&OutputForm::Typed)
    }
}
