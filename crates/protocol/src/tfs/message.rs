//! The dialect over gRPC.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeMap;

use bytes::Bytes;
use coracle_model::TensorSpec;
use coracle_tensor::{DType, Tensor, Values, bf16, f16};
use prost::Message;

use super::examples::{self, Features};
use super::predict_bytes::check_predict;
use super::{
    Question, class_name, datatype, examples_call, signature_outputs, signatures, tensorflow_type,
};
use crate::content::Content;
use crate::error::quoted;
use crate::facts::{ModelFacts, VersionEntry};
use crate::grpc::tensorflow::{
    Any, Class, ClassificationRequest, ClassificationResponse, ClassificationResult,
    Classifications, Dim, Example, FeatureKind, GetModelMetadataResponse, GetModelStatusResponse,
    InputKind, Int64Value, ModelSpec, ModelVersionStatus, PredictRequest, PredictResponse,
    Regression, RegressionResponse, RegressionResult, SignatureDef, SignatureDefMap, StatusProto,
    TensorInfo, TensorProto, TensorShapeProto, VersionChoice,
};
use crate::grpc::{check_fields, decode, frame};
use crate::raw::{self, Buffer};
use crate::v2::{self, Data, Input};
use crate::{Call, DecodeContext, EncodeContext, RequestError, grpc_status};

/// The field of every request that says which model is asked.
#[derive(Clone, PartialEq, Message)]
pub struct SpecHead {
    /// The model, its version and signature.
    #[prost(message, optional, tag = "1")]
    pub model_spec: Option<ModelSpec>,
}

/// Returns the name and the version, by its number or its label, that a request asks for, which costs little however large the rest is.
///
/// # Errors
/// Code `InvalidArgument` if `message` is none, or names no model.
pub fn read_version(message: &Bytes) -> Result<(String, Option<AskedVersion>), RequestError> {
    check_fields(message)?;
    let head: SpecHead = decode(message.clone())?;
    let spec = head.model_spec.filter(|spec| !spec.name.is_empty());
    let spec = spec.ok_or_else(|| RequestError::invalid("Missing ModelSpec"))?;
    let version = match spec.version_choice {
        Some(VersionChoice::Version(version)) => {
            Some(AskedVersion::Number(version.value.to_string()))
        }
        Some(VersionChoice::VersionLabel(label)) => Some(AskedVersion::Label(label)),
        None => None,
    };
    Ok((spec.name, version))
}

/// The version that a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AskedVersion {
    /// By its number.
    Number(String),
    /// By a name that was given to it.
    Label(String),
}

pub(super) fn signature_name(spec: Option<&ModelSpec>) -> &str {
    spec.map_or("", |spec| spec.signature_name.as_str())
}

/// Decodes a PredictRequest.
///
/// # Errors
/// Code `InvalidArgument` naming the input at fault.
pub fn decode_predict_message(
    message: &Bytes,
    ctx: &DecodeContext<'_>,
) -> Result<Call, RequestError> {
    check_predict(message)?;
    let request: PredictRequest = decode(message.clone())?;
    let mut outputs = signature_outputs(ctx, signature_name(request.model_spec.as_ref()))?;
    if !request.output_filter.is_empty() {
        let named = request.output_filter.iter().map(|name| {
            ctx.signature.output_index(name).ok_or_else(|| {
                RequestError::invalid(format!(
                    "output tensor alias not found in signature: {}; the model has {}",
                    quoted(name),
                    ctx.signature.output_names()
                ))
            })
        });
        outputs = named.collect::<Result<_, _>>()?;
    }
    let mut inputs = Vec::with_capacity(request.inputs.len());
    let mut room = Room::new(ctx.elements_max, ctx.filled_bytes_max);
    for (name, tensor) in request.inputs {
        inputs.push(input(name, tensor, &mut room)?);
    }
    let inputs = v2::tensors(ctx, &inputs)?;
    Ok(Call {
        n_rows: inputs.first().map_or(0, Tensor::n_rows),
        inputs,
        outputs,
        ..Call::default()
    })
}

/// How many elements the inputs of a request may still have, and how many bytes of those that are not in it: one that is written once is repeated to
/// fill its shape, whatever the message's size.
pub(super) struct Room {
    n_left: usize,
    elements_max: usize,
    filled_bytes_left: usize,
    filled_bytes_max: usize,
}

impl Room {
    /// Returns that of a request without inputs.
    pub(super) fn new(elements_max: usize, filled_bytes_max: usize) -> Self {
        Self {
            n_left: elements_max,
            elements_max,
            filled_bytes_left: filled_bytes_max,
            filled_bytes_max,
        }
    }

    /// Takes the bytes of an input whose elements are repeated until there are `wanted`, if they are.
    fn take_filled(
        &mut self,
        values: &Values,
        wanted: usize,
        place: &str,
    ) -> Result<(), RequestError> {
        let n_written = values.len();
        let Some(size) = values.dtype().size_bytes() else {
            return Ok(());
        };
        if n_written == 0 || n_written >= wanted {
            return Ok(());
        }
        let n_bytes = wanted.saturating_mul(size);
        let left = self.filled_bytes_left.checked_sub(n_bytes);
        self.filled_bytes_left = left.ok_or_else(|| {
            RequestError::invalid(format!(
                "{place}: {n_written} of {wanted} elements are written and the last one repeated; inputs that are filled so may have {} bytes in all; send smaller batches",
                self.filled_bytes_max
            ))
        })?;
        Ok(())
    }
}

fn input(
    name: String,
    tensor: TensorProto,
    room: &mut Room,
) -> Result<Input<'static>, RequestError> {
    let (dtype, shape, values) = elements(&name, tensor, room)?;
    Ok(Input {
        name: Cow::Owned(name),
        shape: Cow::Owned(shape),
        datatype: Cow::Borrowed(dtype.name()),
        content: Content::Plain,
        data: Data::Values(Cell::new(Some(values))),
    })
}

/// Returns the datatype, shape and elements of an input.
pub(super) fn elements(
    name: &str,
    tensor: TensorProto,
    room: &mut Room,
) -> Result<(DType, Vec<i64>, Values), RequestError> {
    let elements_max = room.elements_max;
    let place = format!("inputs[{}]", quoted(name));
    let dtype = datatype(tensor.dtype).ok_or_else(|| {
        RequestError::invalid(format!(
            "{place}: datatype {} is not supported; supported are {}",
            tensor.dtype,
            super::datatype_names()
        ))
    })?;
    let shape = tensor.tensor_shape.as_ref();
    let shape: Vec<i64> = shape.map_or_else(Vec::new, |shape| {
        shape.dim.iter().map(|dim| dim.size).collect()
    });
    let wanted = shape.iter().try_fold(1_usize, |product, &size| {
        product.checked_mul(usize::try_from(size).ok()?)
    });
    let wanted = wanted.filter(|&n_elements| n_elements <= elements_max);
    let wanted = wanted.ok_or_else(|| {
        RequestError::invalid(format!(
            "{place}: shape {shape:?}, sizes are 0 or more, and up to {elements_max} elements"
        ))
    })?;
    room.n_left = room.n_left.checked_sub(wanted).ok_or_else(|| {
        RequestError::invalid(format!(
            "{place}: shape {shape:?}, more than {elements_max} elements with the inputs before it; send smaller batches"
        ))
    })?;
    let values = if tensor.tensor_content.is_empty() {
        let values = typed_values(tensor, dtype, &place)?;
        room.take_filled(&values, wanted, &place)?;
        filled(values, wanted)
    } else if dtype == DType::Bytes {
        let message = format!("{place}: strings belong in string_val");
        return Err(RequestError::invalid(message));
    } else {
        let content = Buffer::Held(tensor.tensor_content);
        raw::decode(&content, dtype, elements_max, &place)?
    };
    Ok((dtype, shape, values))
}

/// Returns the elements in the field of `dtype`.
fn typed_values(tensor: TensorProto, dtype: DType, place: &str) -> Result<Values, RequestError> {
    fn narrowed<W: Copy + std::fmt::Display, T: TryFrom<W>>(
        items: &[W],
        dtype: DType,
        place: &str,
    ) -> Result<Vec<T>, RequestError> {
        let narrow = |&item: &W| {
            T::try_from(item).map_err(|_out_of_range| {
                RequestError::invalid(format!("{place}: {item} is out of range for {dtype}"))
            })
        };
        items.iter().map(narrow).collect()
    }
    let halves = || narrowed::<i32, u16>(&tensor.half_val, dtype, place);
    Ok(match dtype {
        DType::F32 => Values::F32(tensor.float_val.into()),
        DType::F64 => Values::F64(tensor.double_val.into()),
        DType::I32 => Values::I32(tensor.int_val.into()),
        DType::I64 => Values::I64(tensor.int64_val.into()),
        DType::U32 => Values::U32(tensor.uint32_val.into()),
        DType::U64 => Values::U64(tensor.uint64_val.into()),
        DType::Bool => Values::Bool(tensor.bool_val),
        DType::U8 => Values::U8(narrowed(&tensor.int_val, dtype, place)?.into()),
        DType::U16 => Values::U16(narrowed(&tensor.int_val, dtype, place)?.into()),
        DType::I8 => Values::I8(narrowed(&tensor.int_val, dtype, place)?.into()),
        DType::I16 => Values::I16(narrowed(&tensor.int_val, dtype, place)?.into()),
        DType::F16 => Values::F16(halves()?.into_iter().map(f16::from_bits).collect()),
        DType::BF16 => Values::BF16(halves()?.into_iter().map(bf16::from_bits).collect()),
        DType::Bytes => Values::Bytes(tensor.string_val.iter().collect()),
    })
}

/// Repeats the last element until there are `wanted`, as TensorFlow does; `wanted` is within the bound on elements.
fn filled(values: Values, wanted: usize) -> Values {
    macro_rules! fill {
        ($($variant:ident),*) => {
            match values {
                $(Values::$variant(items) if items.len() < wanted => {
                    let mut items = Vec::from_iter(items);
                    if let Some(&last) = items.last() {
                        items.resize(wanted, last);
                    }
                    Values::$variant(items.into())
                })*
                enough => enough,
            }
        };
    }
    fill!(
        Bool, U8, U16, U32, U64, I8, I16, I32, I64, F16, BF16, F32, F64
    )
}

fn dims(sizes: impl Iterator<Item = i64>) -> TensorShapeProto {
    TensorShapeProto {
        dim: sizes
            .map(|size| Dim {
                size,
                name: String::new(),
            })
            .collect(),
        unknown_rank: false,
    }
}

pub(super) fn proto(tensor: &Tensor) -> TensorProto {
    let sizes = tensor.shape().iter();
    let mut proto = TensorProto {
        dtype: tensorflow_type(tensor.dtype()).1,
        tensor_shape: Some(dims(
            sizes.map(|&size| i64::try_from(size).unwrap_or(i64::MAX)),
        )),
        ..TensorProto::default()
    };
    match tensor.values() {
        Values::Bool(items) => proto.bool_val.clone_from(items),
        Values::U8(items) => proto.int_val = items.iter().map(|&item| item.into()).collect(),
        Values::U16(items) => proto.int_val = items.iter().map(|&item| item.into()).collect(),
        Values::U32(items) => proto.uint32_val = items.to_vec(),
        Values::U64(items) => proto.uint64_val = items.to_vec(),
        Values::I8(items) => proto.int_val = items.iter().map(|&item| item.into()).collect(),
        Values::I16(items) => proto.int_val = items.iter().map(|&item| item.into()).collect(),
        Values::I32(items) => proto.int_val = items.to_vec(),
        Values::I64(items) => proto.int64_val = items.to_vec(),
        Values::F16(items) => {
            proto.half_val = items.iter().map(|item| item.to_bits().into()).collect();
        }
        Values::BF16(items) => {
            proto.half_val = items.iter().map(|item| item.to_bits().into()).collect();
        }
        Values::F32(items) => proto.float_val = items.to_vec(),
        Values::F64(items) => proto.double_val = items.to_vec(),
        Values::Bytes(strings) => {
            proto.string_val = strings.iter().map(Bytes::copy_from_slice).collect();
        }
    }
    proto
}

pub(super) fn answered_spec(name: &str, version: &str) -> Option<ModelSpec> {
    Some(ModelSpec {
        name: name.to_owned(),
        signature_name: super::DEFAULT_SIGNATURE.to_owned(),
        version_choice: version
            .parse()
            .ok()
            .map(|value| VersionChoice::Version(Int64Value { value })),
    })
}

/// Returns the framed answer to a prediction.
#[must_use]
pub fn encode_prediction(ctx: &EncodeContext<'_>, call: &Call, outputs: &[Tensor]) -> Vec<u8> {
    let named = call.outputs.iter().zip(outputs).map(|(&index, output)| {
        let spec = ctx.signature.outputs.get(index);
        let name = spec.map(|spec| spec.name.clone()).unwrap_or_default();
        (name, proto(output))
    });
    frame(&PredictResponse {
        outputs: named.collect(),
        model_spec: answered_spec(ctx.model_name, ctx.model_version),
    })
}

/// Decodes a ClassificationRequest or RegressionRequest, which are alike.
///
/// # Errors
/// Code `InvalidArgument` naming the example and feature at fault.
pub fn decode_examples_message(
    message: &Bytes,
    question: Question,
    ctx: &DecodeContext<'_>,
) -> Result<Call, RequestError> {
    let request: ClassificationRequest = decode(message.clone())?;
    signature_outputs(ctx, signature_name(request.model_spec.as_ref()))?;
    let (sent, context) = match request.input.and_then(|input| input.kind) {
        Some(InputKind::ExampleList(list)) => (list.examples, None),
        Some(InputKind::ExampleListWithContext(list)) => (list.examples, list.context),
        None => (Vec::new(), None),
    };
    let rows: Vec<Features> = sent.into_iter().map(features).collect::<Result<_, _>>()?;
    let common = context.map(features).transpose()?.unwrap_or_default();
    let table = examples::table(ctx, &rows, &common)?;
    examples_call(ctx, question, table)
}

#[expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "rounds to the nearest double, as JSON numbers do"
)]
fn features(example: Example) -> Result<Features, RequestError> {
    let features = example.features.unwrap_or_default().feature;
    let mut all = Features::new();
    for (name, feature) in features {
        let values = match feature.kind {
            Some(FeatureKind::FloatList(list)) => list.value.into_iter().map(f64::from).collect(),
            Some(FeatureKind::Int64List(list)) => {
                list.value.into_iter().map(|value| value as f64).collect()
            }
            Some(FeatureKind::BytesList(_)) => {
                return Err(RequestError::invalid(format!(
                    "feature {}: text where numbers belong",
                    quoted(&name)
                )));
            }
            None => continue,
        };
        all.insert(name, values);
    }
    Ok(all)
}

/// Returns single-precision numbers, which is what these answers hold.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    reason = "the protocol's scores are single precision"
)]
fn singles(outputs: &[Tensor]) -> Vec<f32> {
    let values = outputs.first().and_then(|output| output.values().to_f64s());
    let values = values.unwrap_or_default();
    values.iter().map(|&value| value as f32).collect()
}

/// Returns the framed answer to a classification.
#[must_use]
pub fn encode_classification(ctx: &EncodeContext<'_>, call: &Call, outputs: &[Tensor]) -> Vec<u8> {
    let spec = call.outputs.first();
    let spec = spec.and_then(|&index| ctx.signature.outputs.get(index));
    let n_classes = outputs.first().and_then(|output| output.shape().get(1));
    let scores = singles(outputs);
    let rows = scores.chunks(n_classes.copied().unwrap_or(1).max(1));
    let classifications = rows.map(|row| {
        let classes = row.iter().enumerate().map(|(column, &score)| Class {
            label: class_name(spec, column),
            score,
        });
        Classifications {
            classes: classes.collect(),
        }
    });
    frame(&ClassificationResponse {
        result: Some(ClassificationResult {
            classifications: classifications.collect(),
        }),
        model_spec: answered_spec(ctx.model_name, ctx.model_version),
    })
}

/// Returns the framed answer to a regression.
#[must_use]
pub fn encode_regression(ctx: &EncodeContext<'_>, outputs: &[Tensor]) -> Vec<u8> {
    let values = singles(outputs).into_iter();
    frame(&RegressionResponse {
        result: Some(RegressionResult {
            regressions: values.map(|value| Regression { value }).collect(),
        }),
        model_spec: answered_spec(ctx.model_name, ctx.model_version),
    })
}

/// Returns the framed answer to GetModelMetadata: the model's signatures.
#[must_use]
pub fn model_metadata_message(facts: ModelFacts<'_>) -> Vec<u8> {
    let info = |spec: &TensorSpec, unknown_rank: bool| {
        // What takes any number of dimensions has none to tell.
        let sizes = spec.wire_shape().into_iter().filter(|_| !unknown_rank);
        let info = TensorInfo {
            name: format!("{}:0", spec.name),
            dtype: tensorflow_type(spec.dtype).1,
            tensor_shape: Some(TensorShapeProto {
                unknown_rank,
                ..dims(sizes)
            }),
        };
        (spec.name.clone(), info)
    };
    let unranked = &facts.signature.unranked_inputs;
    let defs = signatures(facts).into_iter().map(|(name, outputs)| {
        let inputs = facts.signature.inputs.iter().enumerate();
        let inputs = inputs.map(|(index, spec)| info(spec, unranked.contains(&index)));
        let def = SignatureDef {
            inputs: inputs.collect(),
            outputs: outputs.into_iter().map(|spec| info(spec, false)).collect(),
            method_name: "tensorflow/serving/predict".to_owned(),
        };
        (name, def)
    });
    let map = SignatureDefMap {
        signature_def: defs.collect(),
    };
    let any = Any {
        type_url: "type.googleapis.com/tensorflow.serving.SignatureDefMap".to_owned(),
        value: map.encode_to_vec().into(),
    };
    frame(&GetModelMetadataResponse {
        model_spec: answered_spec(facts.name, facts.version),
        metadata: BTreeMap::from([("signature_def".to_owned(), any)]),
    })
}

/// Returns the framed answer to GetModelStatus.
#[must_use]
pub fn model_status_message(versions: &[VersionEntry]) -> Vec<u8> {
    let statuses = versions.iter().filter_map(|entry| {
        let failure = entry.failure.as_ref();
        let status = failure.map(|(code, message)| StatusProto {
            error_code: grpc_status(*code),
            error_message: message.clone(),
        });
        Some(ModelVersionStatus {
            version: entry.version.parse().ok()?,
            state: entry.state().1,
            status: Some(status.unwrap_or_default()),
        })
    });
    frame(&GetModelStatusResponse {
        model_version_status: statuses.collect(),
    })
}
