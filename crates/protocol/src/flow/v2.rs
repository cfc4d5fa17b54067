//! V2's answers: `outputs` are the next model's `inputs`.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use coracle_tensor::{DType, Tensor};

use super::outputs::declared;
use super::{internal, mean, numbers, read};
use crate::error::quoted;
use crate::{RequestError, json_string, render};

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    outputs: Vec<Output<'a>>,
}

#[derive(Deserialize)]
struct Output<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    shape: Vec<u64>,
    #[serde(borrow)]
    datatype: Cow<'a, str>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

fn answer(body: &[u8]) -> Result<Answer<'_>, RequestError> {
    read(body, "the model's answer")
}

impl<'a> Output<'a> {
    fn data(&self) -> Result<&'a RawValue, RequestError> {
        self.data.ok_or_else(|| {
            let name = quoted(&self.name);
            internal(format_args!(
                "output {name} is not handed on: it has no data as JSON"
            ))
        })
    }
}

/// Appends the id, if there is one, with what follows it.
fn write_id(id: Option<&str>, out: &mut Vec<u8>) {
    if let Some(id) = id {
        out.extend_from_slice(b"\"id\":");
        json_string(id, out);
        out.push(b',');
    }
}

/// Appends a tensor; `data` appends its elements.
fn write_tensor(
    (name, datatype, shape): (&str, &str, &[u64]),
    data: impl FnOnce(&mut Vec<u8>),
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"{\"name\":");
    json_string(name, out);
    out.extend_from_slice(b",\"datatype\":");
    json_string(datatype, out);
    out.extend_from_slice(b",\"shape\":[");
    render::separated(shape.iter(), out, |size, out| render::integer(*size, out));
    out.extend_from_slice(b"],\"data\":");
    data(out);
    out.push(b'}');
}

pub(super) fn as_request(body: &[u8]) -> Result<Vec<u8>, RequestError> {
    let answer = answer(body)?;
    let mut request = b"{".to_vec();
    write_id(answer.id.as_deref(), &mut request);
    request.extend_from_slice(b"\"inputs\":[");
    for (index, output) in answer.outputs.iter().enumerate() {
        if index > 0 {
            request.push(b',');
        }
        let data = output.data()?;
        let head = (&*output.name, &*output.datatype, &*output.shape);
        let write = |out: &mut Vec<u8>| out.extend_from_slice(data.get().as_bytes());
        write_tensor(head, write, &mut request);
    }
    request.extend_from_slice(b"]}");
    Ok(request)
}

/// Returns the outputs of an answer.
pub(super) fn outputs(
    body: &[u8],
    elements_max: usize,
) -> Result<Vec<(String, Tensor)>, RequestError> {
    let outputs = answer(body)?.outputs.into_iter().map(|output| {
        let dtype = DType::from_name(&output.datatype);
        let dtype = dtype.ok_or_else(|| internal("an output has no datatype"))?;
        let data = declared(output.data()?, ("outputs", dtype), elements_max)?;
        let shape = output.shape.iter().map(|size| usize::try_from(*size));
        let shape: Vec<usize> = shape.collect::<Result<_, _>>().map_err(internal)?;
        let tensor = Tensor::try_new(shape, data.values().clone()).map_err(internal)?;
        Ok((output.name.into_owned(), tensor))
    });
    outputs.collect()
}

pub(super) fn average(
    node: &str,
    answers: &[&[u8]],
    elements_max: usize,
) -> Result<Vec<u8>, RequestError> {
    let answers = answers.iter().map(|body| answer(body));
    let answers: Vec<Answer<'_>> = answers.collect::<Result<_, _>>()?;
    let first = answers
        .first()
        .ok_or_else(|| internal("there is nothing to average"))?;
    let mut body = b"{\"model_name\":".to_vec();
    json_string(node, &mut body);
    body.extend_from_slice(b",\"model_version\":\"1\",");
    write_id(first.id.as_deref(), &mut body);
    body.extend_from_slice(b"\"outputs\":[");
    for (index, output) in first.outputs.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        let tensors = answers.iter().map(|answer| {
            // Models name their outputs as they like; where there are several, names tell which is which.
            let same = match first.outputs.len() {
                1 => answer.outputs.first(),
                _ => answer.outputs.iter().find(|same| same.name == output.name),
            };
            let same = same.filter(|same| {
                same.shape == output.shape && answer.outputs.len() == first.outputs.len()
            });
            let same = same.ok_or_else(|| {
                let name = quoted(&output.name);
                internal(format_args!(
                    "answers to average have different outputs: {name} of shape {:?} is not in all of them",
                    output.shape
                ))
            })?;
            numbers(same.data()?, "outputs", elements_max)
        });
        let tensors: Vec<_> = tensors.collect::<Result<_, _>>()?;
        let mean = mean(&tensors)?;
        let head = (&*output.name, "FP64", &*output.shape);
        write_tensor(head, |out| render::flat(mean.values(), out), &mut body);
    }
    body.extend_from_slice(b"]}");
    Ok(body)
}
