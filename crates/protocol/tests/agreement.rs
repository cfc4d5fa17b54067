//! The same rows in every protocol and datatype become the same numbers, and the same outputs come back.
#![expect(
    clippy::unwrap_used,
    reason = "a test stops where something is not as expected"
)]

use bytes::Bytes;
use coracle_model::{Signature, TensorSpec};
use coracle_protocol::grpc::inference::{InferInputTensor, InferTensorContents, ModelInferRequest};
use coracle_protocol::grpc::tensorflow::{Dim, PredictRequest, TensorProto, TensorShapeProto};
use coracle_protocol::grpc::{self, Message as _};
use coracle_protocol::{Call, DecodeContext, NoRegions, tfs, v1, v2};
use coracle_tensor::DType;

const N_COLUMNS: usize = 3;

fn signature() -> Signature {
    let spec = |name: &str, shape| TensorSpec {
        name: name.to_owned(),
        dtype: DType::F64,
        shape,
        columns: None,
        accepts_missing: false,
        accepts_integers: false,
    };
    Signature {
        keyed_outputs: Vec::new(),
        keyed_inputs: Vec::new(),
        unranked_inputs: Vec::new(),
        name_rules: Default::default(),
        inputs: vec![spec("X", vec![None, Some(N_COLUMNS)])],
        outputs: vec![spec("predict", vec![None])],
        default_outputs: vec![0],
        columns: None,
    }
}

/// Numbers that every datatype but BOOL can hold, from a fixed sequence.
fn numbers(n: usize, dtype: DType, seed: &mut u64) -> Vec<f64> {
    let mut next = || {
        *seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 33) % 120
    };
    let numbers = (0..n).map(|_| f64::from(u32::try_from(next()).unwrap()));
    match dtype {
        DType::Bool => numbers.map(|number| number % 2.0).collect(),
        DType::F16 | DType::BF16 | DType::F32 | DType::F64 => {
            numbers.map(|number| number / 4.0 - 15.0).collect()
        }
        DType::I8 | DType::I16 | DType::I32 | DType::I64 => {
            numbers.map(|number| number - 60.0).collect()
        }
        _ => numbers.collect(),
    }
}

/// The raw form of one number, with its place in typed contents and in TensorFlow's tensors.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small whole numbers"
)]
fn raw(number: f64, dtype: DType) -> Vec<u8> {
    use coracle_tensor::{bf16, f16};
    match dtype {
        DType::Bool | DType::U8 => vec![number as u8],
        DType::U16 => (number as u16).to_le_bytes().to_vec(),
        DType::U32 => (number as u32).to_le_bytes().to_vec(),
        DType::U64 => (number as u64).to_le_bytes().to_vec(),
        DType::I8 => (number as i8).to_le_bytes().to_vec(),
        DType::I16 => (number as i16).to_le_bytes().to_vec(),
        DType::I32 => (number as i32).to_le_bytes().to_vec(),
        DType::I64 => (number as i64).to_le_bytes().to_vec(),
        DType::F16 => f16::from_f64(number).to_le_bytes().to_vec(),
        DType::BF16 => bf16::from_f64(number).to_le_bytes().to_vec(),
        DType::F32 => (number as f32).to_le_bytes().to_vec(),
        DType::F64 => number.to_le_bytes().to_vec(),
        DType::Bytes => panic!("no number"),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small whole numbers"
)]
fn typed(numbers: &[f64], dtype: DType) -> Option<InferTensorContents> {
    let mut contents = InferTensorContents::default();
    let items = numbers.iter();
    match dtype {
        DType::Bool => contents.bool_contents = items.map(|&n| n != 0.0).collect(),
        DType::U8 | DType::U16 | DType::U32 => {
            contents.uint_contents = items.map(|&n| n as u32).collect();
        }
        DType::U64 => contents.uint64_contents = items.map(|&n| n as u64).collect(),
        DType::I8 | DType::I16 | DType::I32 => {
            contents.int_contents = items.map(|&n| n as i32).collect();
        }
        DType::I64 => contents.int64_contents = items.map(|&n| n as i64).collect(),
        DType::F32 => contents.fp32_contents = items.map(|&n| n as f32).collect(),
        DType::F64 => contents.fp64_contents = numbers.to_vec(),
        DType::F16 | DType::BF16 | DType::Bytes => return None,
    }
    Some(contents)
}

fn tensorflow_number(dtype: DType) -> i32 {
    match dtype {
        DType::F32 => 1,
        DType::F64 => 2,
        DType::I32 => 3,
        DType::U8 => 4,
        DType::I16 => 5,
        DType::I8 => 6,
        DType::Bytes => 7,
        DType::I64 => 9,
        DType::Bool => 10,
        DType::BF16 => 14,
        DType::U16 => 17,
        DType::F16 => 19,
        DType::U32 => 22,
        DType::U64 => 23,
    }
}

fn grpc_request(dtype: DType, n_rows: usize) -> ModelInferRequest {
    ModelInferRequest {
        inputs: vec![InferInputTensor {
            name: "X".to_owned(),
            datatype: dtype.name().to_owned(),
            shape: vec![i64::try_from(n_rows).unwrap(), 3],
            ..InferInputTensor::default()
        }],
        ..ModelInferRequest::default()
    }
}

/// The same rows as a call of every protocol, each with the protocol's name.
fn calls(numbers: &[f64], dtype: DType, ctx: &DecodeContext<'_>) -> Vec<(&'static str, Call)> {
    let n_rows = numbers.len() / N_COLUMNS;
    let name = dtype.name();
    let bytes: Vec<u8> = numbers
        .iter()
        .flat_map(|&number| raw(number, dtype))
        .collect();
    let rows: Vec<&[f64]> = numbers.chunks(N_COLUMNS).collect();
    let v1_body = format!("{{\"instances\": {rows:?}}}");
    let head = format!(r#""name": "X", "shape": [{n_rows}, 3], "datatype": "{name}""#);
    let json = format!(r#"{{"inputs": [{{{head}, "data": {numbers:?}}}]}}"#);
    let size = bytes.len();
    let binary =
        format!(r#"{{"inputs": [{{{head}, "parameters": {{"binary_data_size": {size}}}}}]}}"#);
    let binary_body = [binary.as_bytes(), &bytes].concat();
    let mut raw_request = grpc_request(dtype, n_rows);
    raw_request.raw_input_contents = vec![Bytes::from(bytes.clone())];
    let sizes = [n_rows, N_COLUMNS].map(|size| Dim {
        size: i64::try_from(size).unwrap(),
        ..Dim::default()
    });
    let tensor = TensorProto {
        dtype: tensorflow_number(dtype),
        tensor_shape: Some(TensorShapeProto {
            dim: sizes.to_vec(),
            unknown_rank: false,
        }),
        tensor_content: Bytes::from(bytes),
        ..TensorProto::default()
    };
    let predict = PredictRequest {
        inputs: [("X".to_owned(), tensor)].into(),
        ..PredictRequest::default()
    };
    let message = |message: Vec<u8>| Bytes::from(message);
    let mut calls = vec![
        ("V1", v1::decode_predict(v1_body.as_bytes(), ctx)),
        (
            "V2 binary",
            v2::decode_infer(&binary_body.into(), Some(binary.len()), ctx),
        ),
        (
            "gRPC raw",
            grpc::decode_infer(&message(raw_request.encode_to_vec()), ctx),
        ),
        (
            "TensorFlow Serving",
            tfs::decode_predict_message(&message(predict.encode_to_vec()), ctx),
        ),
    ];
    if dtype != DType::Bool {
        calls.push(("V2 JSON", v2::decode_infer(&json.into(), None, ctx)));
    }
    if let Some(contents) = typed(numbers, dtype) {
        let mut request = grpc_request(dtype, n_rows);
        request.inputs[0].contents = Some(contents);
        calls.push((
            "gRPC typed",
            grpc::decode_infer(&message(request.encode_to_vec()), ctx),
        ));
    }
    let calls = calls.into_iter();
    calls
        .map(|(protocol, call)| {
            (
                protocol,
                call.unwrap_or_else(|error| panic!("{protocol}, {name}: {error}")),
            )
        })
        .collect()
}

#[test]
fn every_protocol_and_datatype_gives_the_same_rows() {
    let signature = signature();
    let ctx = DecodeContext {
        signature: &signature,
        default_outputs: &signature.default_outputs,
        method: None,
        elements_max: 1_000,
        filled_bytes_max: 8_000,
        regions: &NoRegions,
    };
    let mut seed = 7;
    for dtype in DType::ALL
        .into_iter()
        .filter(|dtype| *dtype != DType::Bytes)
    {
        for n_rows in [1, 2, 17] {
            let numbers = numbers(n_rows * N_COLUMNS, dtype, &mut seed);
            for (protocol, call) in calls(&numbers, dtype, &ctx) {
                let place = format!("{protocol}, {dtype}, {n_rows} rows");
                assert_eq!(call.inputs[0].shape(), [n_rows, N_COLUMNS], "{place}");
                let values = call.inputs[0].values().to_f64s().unwrap();
                assert_eq!(values.as_ref(), numbers, "{place}");
                assert_eq!(
                    (call.n_rows, &call.outputs[..]),
                    (n_rows, &[0][..]),
                    "{place}"
                );
            }
        }
    }
}
