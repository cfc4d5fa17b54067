//! V1's answers: `predictions` are the next model's `instances`.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use coracle_tensor::Tensor;

use super::outputs::undeclared;
use super::{internal, mean, numbers, read};
use crate::{RequestError, render};

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    predictions: Option<&'a RawValue>,
}

fn predictions(answer: &[u8]) -> Result<&RawValue, RequestError> {
    let answer: Answer<'_> = read(answer, "the model's answer")?;
    answer.predictions.ok_or_else(|| {
        internal("only \"predictions\" are handed on, which \"instances\" are answered with")
    })
}

pub(super) fn form_refusal(request: &[u8]) -> Option<RequestError> {
    #[derive(Deserialize)]
    struct Asked {
        inputs: Option<IgnoredAny>,
        instances: Option<IgnoredAny>,
    }
    let asked: Asked = serde_json::from_slice(request).ok()?;
    (asked.inputs.is_some() && asked.instances.is_none()).then(|| {
        RequestError::invalid(
            "\"inputs\" are answered with \"outputs\", which no other model takes; ask this graph by \"instances\", or by the V2 protocol",
        )
    })
}

pub(super) fn as_request(answer: &[u8]) -> Result<Vec<u8>, RequestError> {
    let predictions = predictions(answer)?.get().as_bytes();
    Ok([b"{\"instances\":", predictions, b"}"].concat())
}

/// Returns the predictions of an answer.
pub(super) fn outputs(
    answer: &[u8],
    elements_max: usize,
) -> Result<Vec<(String, Tensor)>, RequestError> {
    let tensor = undeclared(predictions(answer)?, "predictions", elements_max)?;
    Ok(vec![("predictions".to_owned(), tensor)])
}

pub(super) fn average(answers: &[&[u8]], elements_max: usize) -> Result<Vec<u8>, RequestError> {
    let tensors = answers.iter().map(|answer| {
        let predictions = predictions(answer)?;
        numbers(predictions, "predictions", elements_max)
    });
    let tensors: Vec<_> = tensors.collect::<Result<_, _>>()?;
    let mut body = b"{\"predictions\":".to_vec();
    render::tensor(&mean(&tensors)?, &mut body);
    body.push(b'}');
    Ok(body)
}
