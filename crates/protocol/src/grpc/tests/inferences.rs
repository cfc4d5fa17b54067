//! Inferences over gRPC. What raw bytes become is tested with V2's binary tensors, which are read by the same functions.

use std::collections::BTreeMap;

use bytes::Bytes;
use coracle_base::Code;
use coracle_tensor::{ByteStrings, Tensor, Values, bf16, f16};
use prost::Message;

use crate::grpc::inference::{
    InferInputTensor, InferParameter, InferRequestedOutputTensor, InferTensorContents,
    ModelInferRequest, ModelInferResponse, ModelStreamInferResponse, ParameterChoice,
};
use crate::grpc::{PREFIX_BYTES, decode_infer, encode_infer, stream_failure, stream_response};
use crate::v1::tests::{context, signature};
use crate::{Call, EncodeContext, NoRegions, OutputForm, RequestError};

fn decode(request: &ModelInferRequest) -> Result<Call, RequestError> {
    let signature = signature(None, false);
    decode_infer(&Bytes::from(request.encode_to_vec()), &context(&signature))
}

fn input(datatype: &str, contents: Option<InferTensorContents>) -> InferInputTensor {
    InferInputTensor {
        name: "X".to_owned(),
        datatype: datatype.to_owned(),
        shape: vec![1, 2],
        contents,
        ..InferInputTensor::default()
    }
}

fn typed(datatype: &str, contents: InferTensorContents) -> ModelInferRequest {
    ModelInferRequest {
        inputs: vec![input(datatype, Some(contents))],
        ..ModelInferRequest::default()
    }
}

fn raw(contents: &[&'static [u8]]) -> ModelInferRequest {
    ModelInferRequest {
        inputs: vec![input("FP32", None)],
        raw_input_contents: contents
            .iter()
            .map(|bytes| Bytes::from_static(bytes))
            .collect(),
        ..ModelInferRequest::default()
    }
}

const ROW: &[u8] = b"\x00\x00\xc0\x3f\x00\x00\x00\xc0";

/// Datatypes with typed contents, with what they hold as elements.
fn typed_cases() -> [(&'static str, InferTensorContents, Values); 12] {
    let none = InferTensorContents::default;
    let int = |items: [i32; 2]| InferTensorContents {
        int_contents: items.to_vec(),
        ..none()
    };
    let uint = |items: [u32; 2]| InferTensorContents {
        uint_contents: items.to_vec(),
        ..none()
    };
    let strings: ByteStrings = ["a", "\u{e9}"].into_iter().collect();
    let (mut flags, mut long, mut ulong, mut single, mut double, mut text) =
        (none(), none(), none(), none(), none(), none());
    flags.bool_contents = vec![true, false];
    long.int64_contents = vec![i64::MIN, 2];
    ulong.uint64_contents = vec![0, u64::MAX];
    single.fp32_contents = vec![0.5, -2.0];
    double.fp64_contents = vec![0.1, -2.0];
    text.bytes_contents = vec![Bytes::from_static(b"a"), Bytes::from_static(b"\xc3\xa9")];
    [
        ("BOOL", flags, Values::Bool(vec![true, false])),
        ("INT8", int([-128, 127]), Values::I8(vec![-128, 127].into())),
        ("INT16", int([-1, 2]), Values::I16(vec![-1, 2].into())),
        (
            "INT32",
            int([i32::MIN, 2]),
            Values::I32(vec![i32::MIN, 2].into()),
        ),
        ("INT64", long, Values::I64(vec![i64::MIN, 2].into())),
        ("UINT8", uint([0, 255]), Values::U8(vec![0, 255].into())),
        (
            "UINT16",
            uint([0, 65_535]),
            Values::U16(vec![0, 65_535].into()),
        ),
        (
            "UINT32",
            uint([0, u32::MAX]),
            Values::U32(vec![0, u32::MAX].into()),
        ),
        ("UINT64", ulong, Values::U64(vec![0, u64::MAX].into())),
        ("FP32", single, Values::F32(vec![0.5, -2.0].into())),
        ("FP64", double, Values::F64(vec![0.1, -2.0].into())),
        ("BYTES", text, Values::Bytes(strings)),
    ]
}

fn encode(call: &Call, outputs: &[Tensor]) -> Vec<u8> {
    let signature = signature(None, false);
    let ctx = EncodeContext {
        model_name: "iris",
        model_version: "1",
        signature: &signature,
        regions: &NoRegions,
    };
    encode_infer(&ctx, call, outputs).unwrap()
}

fn response(framed: &[u8]) -> ModelInferResponse {
    ModelInferResponse::decode(&framed[PREFIX_BYTES..]).unwrap()
}

#[test]
fn typed_contents_are_read_and_given_back() {
    for (datatype, contents, values) in typed_cases() {
        let call = decode(&typed(datatype, contents.clone())).unwrap();
        assert_eq!(call.inputs[0].values(), &values, "{datatype}");
        assert_eq!(call.forms, [OutputForm::Typed]);
        let answer = response(&encode(&call, &call.inputs));
        assert_eq!(
            answer.outputs[0].contents.as_ref(),
            Some(&contents),
            "{datatype}"
        );
        assert_eq!(answer.outputs[0].datatype, datatype);
        assert!(answer.raw_output_contents.is_empty());
    }
}

#[test]
fn raw_contents_are_answered_raw() {
    let mut request = raw(&[ROW]);
    request.id = "7".to_owned();
    let call = decode(&request).unwrap();
    assert_eq!(
        call.inputs[0].values(),
        &Values::F32(vec![1.5, -2.0].into())
    );
    let framed = encode(&call, &call.inputs);
    let answer = response(&framed);
    assert_eq!(answer.raw_output_contents, [Bytes::from_static(ROW)]);
    assert_eq!(
        (
            answer.id.as_str(),
            answer.model_name.as_str(),
            answer.model_version.as_str()
        ),
        ("7", "iris", "1")
    );
    assert_eq!(answer.outputs[0].name, "predict");
    assert_eq!(answer.outputs[0].shape, [1, 2]);
    let streamed = stream_response(framed, &[]).unwrap();
    let streamed = ModelStreamInferResponse::decode(&streamed[PREFIX_BYTES..]).unwrap();
    assert_eq!(streamed.infer_response, Some(answer));
    let failed = stream_failure("no", "7", &[]);
    let failed = ModelStreamInferResponse::decode(&failed[PREFIX_BYTES..]).unwrap();
    assert_eq!(failed.error_message, "no");
    assert_eq!(failed.infer_response.unwrap().id, "7");
}

#[test]
fn halves_are_answered_raw_because_they_have_no_typed_form() {
    let call = Call {
        outputs: vec![0, 1],
        ..Call::default()
    };
    let outputs = [
        Tensor::from_values(Values::F16(vec![f16::from_f32(1.5)].into())),
        Tensor::from_values(Values::BF16(vec![bf16::from_f32(1.5)].into())),
    ];
    let answer = response(&encode(&call, &outputs));
    let halves = [
        Bytes::from_static(b"\x00\x3e"),
        Bytes::from_static(b"\xc0\x3f"),
    ];
    assert_eq!(answer.raw_output_contents, halves);
}

fn parameter(choice: ParameterChoice) -> InferParameter {
    InferParameter {
        parameter_choice: Some(choice),
    }
}

fn parameters(entries: &[(&str, ParameterChoice)]) -> BTreeMap<String, InferParameter> {
    let entries = entries.iter();
    entries
        .map(|(name, choice)| ((*name).to_owned(), parameter(choice.clone())))
        .collect()
}

#[test]
fn outputs_and_methods_are_chosen() {
    let output = |name: &str| InferRequestedOutputTensor {
        name: name.to_owned(),
        ..InferRequestedOutputTensor::default()
    };
    let request = ModelInferRequest {
        outputs: vec![output("predict_proba"), output("predict")],
        ..raw(&[ROW])
    };
    assert_eq!(decode(&request).unwrap().outputs, [1, 0]);
    let method = ParameterChoice::StringParam("predict_proba".to_owned());
    let request = ModelInferRequest {
        parameters: parameters(&[
            ("method", method),
            ("other", ParameterChoice::BoolParam(true)),
        ]),
        ..raw(&[ROW])
    };
    assert_eq!(decode(&request).unwrap().outputs, [1]);
}

fn fp32(items: &[f32]) -> InferTensorContents {
    InferTensorContents {
        fp32_contents: items.to_vec(),
        ..InferTensorContents::default()
    }
}

/// Requests whose contents are refused, each with the start of its message.
fn refused_contents() -> Vec<(ModelInferRequest, &'static str)> {
    let pair = || fp32(&[1.0, 2.0]);
    let both = ModelInferRequest {
        raw_input_contents: vec![Bytes::from_static(ROW)],
        ..typed("FP32", pair())
    };
    let large = InferTensorContents {
        uint_contents: vec![1, 256],
        ..InferTensorContents::default()
    };
    let out_of_range = "inputs[0].contents.uint_contents[1]: 256 is out of range for UINT8";
    let elsewhere = "inputs[0]: data in fp32_contents, INT32 belongs in int_contents";
    let one = "inputs[0]: 1 elements, shape [1, 2] holds 2";
    vec![
        (
            both,
            "raw_input_contents and typed contents exclude each other",
        ),
        (raw(&[]), "inputs[0]: no contents and no raw_input_contents"),
        (
            raw(&[ROW, ROW]),
            "2 raw_input_contents, 1 inputs are without data of their own",
        ),
        (
            raw(&[b"\x00"]),
            "inputs[0]: 1 bytes, elements of FP32 have 4",
        ),
        (raw(&[&ROW[..4]]), one),
        (
            typed("FP16", pair()),
            "inputs[0]: FP16 has no typed contents",
        ),
        (typed("FP8", pair()), "inputs[0]: unknown datatype \"FP8\""),
        (typed("INT32", pair()), elsewhere),
        (typed("FP32", fp32(&[1.0])), one),
        (typed("UINT8", large), out_of_range),
        (
            typed("FP32", fp32(&[0.0; 1_001])),
            "inputs[0]: more than 1000 elements",
        ),
        (ModelInferRequest::default(), "\"inputs\" is empty"),
    ]
}

/// Requests whose parameters are refused, each with the start of its message.
fn refused_parameters() -> Vec<(ModelInferRequest, &'static str)> {
    let with_parameters = |entries: &[(&str, ParameterChoice)]| {
        let mut request = raw(&[ROW]);
        request.inputs[0].parameters = parameters(entries);
        request
    };
    let region = || {
        (
            "shared_memory_region",
            ParameterChoice::StringParam("r".to_owned()),
        )
    };
    let size = |size| ("shared_memory_byte_size", ParameterChoice::Int64Param(size));
    let negative =
        "parameter \"shared_memory_byte_size\": a whole number, 0 or more, belongs there";
    vec![
        (
            with_parameters(&[region()]),
            "inputs[0]: shared memory needs both",
        ),
        (
            with_parameters(&[region(), size(8)]),
            "inputs[0]: no shared memory region \"r\" is registered",
        ),
        (with_parameters(&[size(-1)]), negative),
    ]
}

#[test]
fn refusals_say_why() {
    for (request, message) in refused_contents().into_iter().chain(refused_parameters()) {
        let error = decode(&request).unwrap_err();
        assert!(error.to_string().starts_with(message), "{error}");
        assert_eq!(error.code(), Code::InvalidArgument);
    }
    let unknown = ModelInferRequest {
        outputs: vec![InferRequestedOutputTensor {
            name: "zzz".to_owned(),
            ..InferRequestedOutputTensor::default()
        }],
        ..raw(&[ROW])
    };
    let error = decode(&unknown).unwrap_err();
    assert!(
        error.to_string().starts_with("unknown output \"zzz\""),
        "{error}"
    );
}

#[test]
fn damaged_messages_are_errors_or_requests_never_panics() {
    let signature = signature(None, false);
    let context = context(&signature);
    let requests = [raw(&[ROW]), typed("BYTES", typed_cases()[11].1.clone())];
    for request in requests {
        let message = request.encode_to_vec();
        for end in 0..message.len() {
            drop(decode_infer(
                &Bytes::copy_from_slice(&message[..end]),
                &context,
            ));
        }
        for position in 0..message.len() {
            for byte in [0, 1, 0x0a, 0x7f, 0x80, 0xff] {
                let mut damaged = message.clone();
                damaged[position] = byte;
                drop(decode_infer(&Bytes::from(damaged), &context));
            }
        }
    }
}
