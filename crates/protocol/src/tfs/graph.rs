//! Predictions of graphs over gRPC: a PredictRequest as the ModelInferRequest that a graph is led through by, and its answer as a PredictResponse.

use bytes::Bytes;
use prost::Message as _;

use super::DEFAULT_SIGNATURE;
use super::message::{Room, answered_spec, elements, proto, signature_name};
use super::predict_bytes::check_predict;
use crate::RequestError;
use crate::error::quoted;
use crate::flow::{NO_VERSIONS, message_outputs};
use crate::grpc::inference::{InferInputTensor, InferRequestedOutputTensor, ModelInferRequest};
use crate::grpc::tensorflow::{PredictRequest, PredictResponse};
use crate::grpc::{decode, frame};
use crate::raw;

/// Makes a ModelInferRequest of a PredictRequest for a graph, of up to so many elements and bytes of those that are repeated; the outputs of its filter are those of the models whose answers are the graph's.
///
/// # Errors
/// Code `InvalidArgument` naming the input at fault, or if it asks for another signature than the graph's one; `Unimplemented` if it asks for a version.
pub fn graph_request(
    message: &Bytes,
    (elements_max, filled_bytes_max): (usize, usize),
) -> Result<Bytes, RequestError> {
    check_predict(message)?;
    let request: PredictRequest = decode(message.clone())?;
    let spec = request.model_spec.as_ref();
    if spec.is_some_and(|spec| spec.version_choice.is_some()) {
        return Err(RequestError::unimplemented(NO_VERSIONS));
    }
    let signature = signature_name(spec);
    if !matches!(signature, "" | DEFAULT_SIGNATURE) {
        return Err(RequestError::invalid(format!(
            "Serving signature name: {} not found in signature def; a graph has {DEFAULT_SIGNATURE}",
            quoted(signature)
        )));
    }
    let mut infer = ModelInferRequest::default();
    let mut room = Room::new(elements_max, filled_bytes_max);
    for (name, tensor) in request.inputs {
        let (dtype, shape, values) = elements(&name, tensor, &mut room)?;
        let mut bytes = Vec::with_capacity(raw::size_bytes(&values));
        raw::encode(&values, &mut bytes);
        infer.raw_input_contents.push(bytes.into());
        infer.inputs.push(InferInputTensor {
            name,
            datatype: dtype.name().to_owned(),
            shape,
            ..InferInputTensor::default()
        });
    }
    let wanted = request.output_filter.into_iter();
    infer.outputs = wanted
        .map(|name| InferRequestedOutputTensor {
            name,
            ..InferRequestedOutputTensor::default()
        })
        .collect();
    Ok(infer.encode_to_vec().into())
}

/// Makes a framed PredictResponse of a graph's framed answer to such a request; `name` is the graph's.
///
/// # Errors
/// Code `Internal` if it is no such answer.
pub fn graph_answer(
    answer: &[u8],
    name: &str,
    elements_max: usize,
) -> Result<Vec<u8>, RequestError> {
    let outputs = message_outputs(answer, elements_max)?.into_iter();
    Ok(frame(&PredictResponse {
        outputs: outputs
            .map(|(name, tensor)| (name, proto(&tensor)))
            .collect(),
        model_spec: answered_spec(name, "1"),
    }))
}
