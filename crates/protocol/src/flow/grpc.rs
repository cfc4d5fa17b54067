//! The Open Inference Protocol's messages on their way through a graph: outputs are the next model's inputs, with the very bytes that the model before wrote.

use std::collections::BTreeMap;

use bytes::Bytes;
use coracle_tensor::{DType, Tensor, Values};
use prost::Message as _;

use super::{internal, mean};
use crate::RequestError;
use crate::error::quoted;
use crate::grpc::inference::{
    InferInputTensor, InferOutputTensor, InferRequestedOutputTensor, ModelInferRequest,
    ModelInferResponse,
};
use crate::grpc::{PREFIX_BYTES, check_fields, decode, frame, typed};
use crate::raw::{self, Buffer};

/// Reads a model's answer, which has gRPC's prefix before it.
fn read(answer: &[u8]) -> Result<ModelInferResponse, RequestError> {
    let message = answer
        .get(PREFIX_BYTES..)
        .ok_or_else(|| internal("the model's answer is no message"))?;
    decode(Bytes::copy_from_slice(message))
        .map_err(|error| internal(format_args!("the model's answer: {error}")))
}

/// The outputs that a request over gRPC asks for: those of the models whose answers are the graph's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted(Vec<InferRequestedOutputTensor>);

/// Returns a ModelInferRequest without the outputs that it asks for, and these; `None` if it asks for none.
///
/// # Errors
/// Code `InvalidArgument` if it is none.
pub fn take_wanted(message: &Bytes) -> Result<Option<(Bytes, Wanted)>, RequestError> {
    check_fields(message)?;
    let mut request: ModelInferRequest = decode(message.clone())?;
    let wanted = std::mem::take(&mut request.outputs);
    let is_asked = !wanted.is_empty();
    Ok(is_asked.then(|| (request.encode_to_vec().into(), Wanted(wanted))))
}

/// Makes the next model's request of a model's answer; `wanted` are the outputs that it is asked for, if its answer is the graph's.
pub(super) fn as_request(answer: &[u8], wanted: Option<&Wanted>) -> Result<Vec<u8>, RequestError> {
    let answer = read(answer)?;
    let inputs = answer.outputs.into_iter().map(|output| InferInputTensor {
        name: output.name,
        datatype: output.datatype,
        shape: output.shape,
        parameters: BTreeMap::new(),
        contents: output.contents,
    });
    let request = ModelInferRequest {
        id: answer.id,
        inputs: inputs.collect(),
        raw_input_contents: answer.raw_output_contents,
        outputs: wanted.map(|wanted| wanted.0.clone()).unwrap_or_default(),
        ..ModelInferRequest::default()
    };
    Ok(request.encode_to_vec())
}

/// Returns the outputs of an answer.
pub(crate) fn outputs(
    answer: &[u8],
    elements_max: usize,
) -> Result<Vec<(String, Tensor)>, RequestError> {
    tensors(read(answer)?, elements_max)
}

/// Returns the outputs of an answer with their elements.
fn tensors(
    answer: ModelInferResponse,
    elements_max: usize,
) -> Result<Vec<(String, Tensor)>, RequestError> {
    let mut raw_contents = answer.raw_output_contents.into_iter();
    let outputs = answer.outputs.into_iter().map(|output| {
        let dtype = DType::from_name(&output.datatype);
        let place = quoted(&output.name);
        let dtype = dtype.ok_or_else(|| internal(format_args!("{place} has no datatype")))?;
        let values = match (output.contents, raw_contents.next()) {
            (Some(contents), None) => typed::decode(contents, dtype, elements_max, &place)?,
            (None, Some(bytes)) => raw::decode(&Buffer::Held(bytes), dtype, elements_max, &place)?,
            _ => {
                let message =
                    format_args!("output {place} is not averaged: it has no data of its own");
                return Err(internal(message));
            }
        };
        let shape = output.shape.iter().map(|size| usize::try_from(*size));
        let shape: Vec<usize> = shape.collect::<Result<_, _>>().map_err(internal)?;
        Ok((
            output.name,
            Tensor::try_new(shape, values).map_err(internal)?,
        ))
    });
    outputs.collect()
}

/// Returns a tensor as doubles.
fn as_doubles(tensor: &Tensor) -> Result<Tensor, RequestError> {
    let values = Values::F64(doubles(tensor.values())?.into());
    Tensor::try_new(tensor.shape().to_vec(), values).map_err(internal)
}

fn doubles(values: &Values) -> Result<Vec<f64>, RequestError> {
    macro_rules! each {
        ($items:expr) => {
            $items.iter().map(|item| f64::from(*item)).collect()
        };
    }
    Ok(match values {
        Values::U8(items) => each!(items),
        Values::U16(items) => each!(items),
        Values::U32(items) => each!(items),
        Values::I8(items) => each!(items),
        Values::I16(items) => each!(items),
        Values::I32(items) => each!(items),
        Values::F16(items) => each!(items),
        Values::BF16(items) => each!(items),
        Values::F32(items) => each!(items),
        Values::F64(items) => items.to_vec(),
        #[expect(
            clippy::as_conversions,
            reason = "to the nearest double, as JSON's numbers are read"
        )]
        Values::U64(items) => items.iter().map(|item| *item as f64).collect(),
        #[expect(
            clippy::as_conversions,
            reason = "to the nearest double, as JSON's numbers are read"
        )]
        Values::I64(items) => items.iter().map(|item| *item as f64).collect(),
        Values::Bool(_) | Values::Bytes(_) => {
            return Err(internal("what is averaged must be numbers"));
        }
    })
}

/// Averages as V2 does: by name where there are several outputs.
pub(super) fn average(
    node: &str,
    answers: &[&[u8]],
    elements_max: usize,
) -> Result<Vec<u8>, RequestError> {
    let answers: Vec<ModelInferResponse> = answers
        .iter()
        .map(|answer| read(answer))
        .collect::<Result<_, _>>()?;
    let id = answers
        .first()
        .map(|answer| answer.id.clone())
        .unwrap_or_default();
    let is_typed = answers
        .first()
        .is_some_and(|answer| answer.raw_output_contents.is_empty());
    let answers = answers.into_iter().map(|answer| {
        let tensors = tensors(answer, elements_max)?.into_iter();
        let doubles = tensors.map(|(name, tensor)| Ok((name, as_doubles(&tensor)?)));
        doubles.collect::<Result<_, RequestError>>()
    });
    let answers: Vec<Vec<(String, Tensor)>> = answers.collect::<Result<_, _>>()?;
    let first = answers
        .first()
        .ok_or_else(|| internal("there is nothing to average"))?;
    let mut response = ModelInferResponse {
        model_name: node.to_owned(),
        model_version: "1".to_owned(),
        id,
        ..ModelInferResponse::default()
    };
    for (name, output) in first {
        let same = answers.iter().map(|answer| {
            let same = match first.len() {
                1 => answer.first(),
                _ => answer.iter().find(|(other, _)| other == name),
            };
            let same = same.filter(|(_, same)| same.shape() == output.shape() && answer.len() == first.len());
            same.map(|(_, tensor)| tensor.clone()).ok_or_else(|| {
                let name = quoted(name);
                internal(format_args!(
                    "answers to average have different outputs: {name} of shape {:?} is not in all of them",
                    output.shape()
                ))
            })
        });
        let same: Vec<Tensor> = same.collect::<Result<_, _>>()?;
        put(name, &mean(&same)?, is_typed, &mut response)?;
    }
    Ok(frame(&response))
}

/// Adds an output of doubles, raw or in typed contents.
fn put(
    name: &str,
    tensor: &Tensor,
    is_typed: bool,
    response: &mut ModelInferResponse,
) -> Result<(), RequestError> {
    let sizes = tensor.shape().iter().map(|size| i64::try_from(*size));
    let mut output = InferOutputTensor {
        name: name.to_owned(),
        datatype: DType::F64.name().to_owned(),
        shape: sizes.collect::<Result<_, _>>().map_err(internal)?,
        ..InferOutputTensor::default()
    };
    match is_typed {
        true => {
            let contents = output.contents.get_or_insert_default();
            contents.fp64_contents = doubles(tensor.values())?;
        }
        false => {
            let mut bytes = Vec::with_capacity(raw::size_bytes(tensor.values()));
            raw::encode(tensor.values(), &mut bytes);
            response.raw_output_contents.push(bytes.into());
        }
    }
    response.outputs.push(output);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::inference::InferTensorContents;

    fn answer(outputs: &[(&str, DType, &[i64])], raw: &[&[u8]]) -> ModelInferResponse {
        let output = |&(name, dtype, shape): &(&str, DType, &[i64])| InferOutputTensor {
            name: name.to_owned(),
            datatype: dtype.name().to_owned(),
            shape: shape.to_vec(),
            ..InferOutputTensor::default()
        };
        ModelInferResponse {
            id: "7".to_owned(),
            outputs: outputs.iter().map(output).collect(),
            raw_output_contents: raw
                .iter()
                .map(|bytes| Bytes::copy_from_slice(bytes))
                .collect(),
            ..ModelInferResponse::default()
        }
    }

    fn floats(values: &[f32]) -> Vec<u8> {
        values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect()
    }

    #[test]
    fn outputs_are_the_next_inputs_byte_for_byte() {
        let bytes = floats(&[0.1, f32::NAN]);
        let sent = answer(&[("y", DType::F32, &[2, 1])], &[&bytes]);
        let request = as_request(&frame(&sent), None).unwrap();
        let request: ModelInferRequest = decode(request.into()).unwrap();
        let [input] = request.inputs.as_slice() else {
            panic!()
        };
        assert_eq!(
            (input.name.as_str(), input.datatype.as_str()),
            ("y", "FP32")
        );
        assert_eq!((&input.shape, request.id.as_str()), (&vec![2, 1], "7"));
        assert_eq!(request.raw_input_contents, [bytes]);
        assert!(as_request(b"\0\0", None).is_err());
        assert!(as_request(b"\0\0\0\0\x01\xff", None).is_err());
    }

    #[test]
    fn outputs_that_are_asked_for_are_those_of_the_last_model() {
        let asked = ModelInferRequest {
            id: "7".to_owned(),
            outputs: vec![InferRequestedOutputTensor {
                name: "p".to_owned(),
                parameters: BTreeMap::new(),
            }],
            ..ModelInferRequest::default()
        };
        let (first, wanted) = take_wanted(&asked.encode_to_vec().into()).unwrap().unwrap();
        let first: ModelInferRequest = decode(first).unwrap();
        assert_eq!((first.id.as_str(), first.outputs.len()), ("7", 0));
        let given = frame(&answer(&[("y", DType::F32, &[1])], &[&floats(&[0.1])]));
        let last = as_request(&given, Some(&wanted)).unwrap();
        let last: ModelInferRequest = decode(last.into()).unwrap();
        assert_eq!(last.outputs, asked.outputs);
        let none = ModelInferRequest::default().encode_to_vec();
        assert_eq!(take_wanted(&none.into()).unwrap(), None);
        assert!(take_wanted(&Bytes::from_static(b"\xff")).is_err());
    }

    #[test]
    fn answers_are_averaged_raw_and_typed() {
        let raw =
            |values: &[f32]| frame(&answer(&[("y", DType::F32, &[1, 2])], &[&floats(values)]));
        let (one, other) = (raw(&[1.0, 2.0]), raw(&[2.0, 4.0]));
        let mean: ModelInferResponse =
            read(&average("mean", &[&one, &other], 10).unwrap()).unwrap();
        assert_eq!((mean.model_name.as_str(), mean.id.as_str()), ("mean", "7"));
        let expected: Vec<u8> = [1.5_f64, 3.0]
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        assert_eq!(mean.raw_output_contents, [expected]);
        let typed = |values: &[i64]| {
            let mut sent = answer(&[("y", DType::I64, &[2])], &[]);
            sent.outputs.iter_mut().for_each(|output| {
                output.contents = Some(InferTensorContents {
                    int64_contents: values.to_vec(),
                    ..InferTensorContents::default()
                });
            });
            frame(&sent)
        };
        let (one, other) = (typed(&[1, 0]), typed(&[2, 0]));
        let mean: ModelInferResponse =
            read(&average("mean", &[&one, &other], 10).unwrap()).unwrap();
        let contents = mean.outputs.into_iter().next().unwrap().contents.unwrap();
        assert_eq!(contents.fp64_contents, [1.5, 0.0]);
        // What is not alike, or no numbers, or too much, is refused.
        let wide = frame(&answer(
            &[("y", DType::F32, &[1, 3])],
            &[&floats(&[0.0; 3])],
        ));
        let texts = frame(&answer(&[("y", DType::Bytes, &[1])], &[b"\x01\0\0\0a"]));
        let bare = frame(&answer(&[("y", DType::F32, &[1, 2])], &[]));
        for (answers, words) in [
            ([&raw(&[0.0; 2]), &wide], "different outputs"),
            ([&texts, &texts], "must be numbers"),
            ([&bare, &bare], "no data of its own"),
        ] {
            let answers = answers.map(Vec::as_slice);
            let error = average("mean", &answers, 10).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
        assert!(average("mean", &[&raw(&[0.0; 2])], 1).is_err());
    }
}
