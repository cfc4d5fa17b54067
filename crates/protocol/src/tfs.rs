//! TensorFlow Serving's dialect, over REST and gRPC: predictions by column, classification, regression, signatures, status.
//!
//! A model's signatures are its outputs: `serving_default` is what it gives by default, and each output is a signature of its own
//! name. Examples (features by name) become rows of the model's table.

mod examples;
mod graph;
mod message;
mod predict_bytes;
mod rest;
#[cfg(test)]
mod tests;

use coracle_model::TensorSpec;
use coracle_tensor::{DType, Tensor};

use crate::error::quoted;
use crate::facts::ModelFacts;
use crate::parameters::choose_outputs;
use crate::{Call, DecodeContext, RequestError};

pub use graph::{graph_answer, graph_request};
pub use message::{
    AskedVersion, SpecHead, decode_examples_message, decode_predict_message, encode_classification,
    encode_prediction, encode_regression, model_metadata_message, model_status_message,
    read_version,
};
pub use predict_bytes::predict_bytes;
pub use rest::{
    decode_columns, decode_examples, encode_classes, encode_values, metadata, model_status,
};

/// The signature of the default outputs.
const DEFAULT_SIGNATURE: &str = "serving_default";

/// What examples are to be turned into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// The score of each class.
    Classify,
    /// One number.
    Regress,
}

/// Returns the outputs of a signature; an empty name is the default one.
pub(crate) fn signature_outputs(
    ctx: &DecodeContext<'_>,
    name: &str,
) -> Result<Vec<usize>, RequestError> {
    let method = match name {
        "" | DEFAULT_SIGNATURE => None,
        name => Some(name),
    };
    choose_outputs(ctx, method).map_err(|_unknown| {
        RequestError::invalid(format!(
            "Serving signature name: {} not found in signature def; the model has {DEFAULT_SIGNATURE}, {}",
            quoted(name),
            ctx.signature.output_names()
        ))
    })
}

/// Returns the output that answers `question`.
fn answering_output(ctx: &DecodeContext<'_>, question: Question) -> Result<usize, RequestError> {
    let outputs = || ctx.signature.outputs.iter().enumerate();
    let probabilities = outputs().find(|(_, spec)| spec.name == "predict_proba");
    match (question, probabilities) {
        (Question::Classify, Some((index, _))) => Ok(index),
        (Question::Classify, None) => Err(RequestError::invalid(
            "the model gives no probabilities of classes; ask it to :regress or :predict",
        )),
        (Question::Regress, Some(_)) => Err(RequestError::invalid(
            "the model is a classifier; ask it to :classify or :predict",
        )),
        (Question::Regress, None) => {
            let number = outputs().find(|(_, spec)| {
                spec.name == "predict" && spec.dtype != DType::Bytes && spec.shape == [None]
            });
            number.map(|(index, _)| index).ok_or_else(|| {
                RequestError::invalid(
                    "the model does not give one number per row; ask it to :predict",
                )
            })
        }
    }
}

/// Returns the call of examples that have become a table.
fn examples_call(
    ctx: &DecodeContext<'_>,
    question: Question,
    table: Tensor,
) -> Result<Call, RequestError> {
    Ok(Call {
        n_rows: table.n_rows(),
        outputs: vec![answering_output(ctx, question)?],
        inputs: vec![table],
        ..Call::default()
    })
}

/// Returns the class's name; empty where the signature does not tell it, as TensorFlow Serving answers for models without one.
fn class_name(spec: Option<&TensorSpec>, column: usize) -> String {
    let names = spec.and_then(|spec| spec.columns.as_ref());
    let name = names.and_then(|names| names.get(column).cloned());
    name.unwrap_or_default()
}

/// Returns the signatures of a model, each with its outputs.
fn signatures(facts: ModelFacts<'_>) -> Vec<(String, Vec<&TensorSpec>)> {
    let signature = facts.signature;
    let defaults = signature.default_outputs.iter();
    let default: Vec<&TensorSpec> = defaults
        .filter_map(|&index| signature.outputs.get(index))
        .collect();
    let own = signature
        .outputs
        .iter()
        .map(|spec| (spec.name.clone(), vec![spec]));
    let mut all = vec![(DEFAULT_SIGNATURE.to_owned(), default)];
    all.extend(own);
    all
}

/// Returns a datatype's name and number in TensorFlow.
fn tensorflow_type(dtype: DType) -> (&'static str, i32) {
    match dtype {
        DType::F32 => ("DT_FLOAT", 1),
        DType::F64 => ("DT_DOUBLE", 2),
        DType::I32 => ("DT_INT32", 3),
        DType::U8 => ("DT_UINT8", 4),
        DType::I16 => ("DT_INT16", 5),
        DType::I8 => ("DT_INT8", 6),
        DType::Bytes => ("DT_STRING", 7),
        DType::I64 => ("DT_INT64", 9),
        DType::Bool => ("DT_BOOL", 10),
        DType::BF16 => ("DT_BFLOAT16", 14),
        DType::U16 => ("DT_UINT16", 17),
        DType::F16 => ("DT_HALF", 19),
        DType::U32 => ("DT_UINT32", 22),
        DType::U64 => ("DT_UINT64", 23),
    }
}

/// Returns the datatypes that are read, with their numbers, for messages.
fn datatype_names() -> String {
    let names = DType::ALL.map(|dtype| {
        let (name, number) = tensorflow_type(dtype);
        format!("{name} ({number})")
    });
    names.join(", ")
}

/// Returns the datatype of a TensorFlow number.
fn datatype(number: i32) -> Option<DType> {
    DType::ALL
        .into_iter()
        .find(|&dtype| tensorflow_type(dtype).1 == number)
}
