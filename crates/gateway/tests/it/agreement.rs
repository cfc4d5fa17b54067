//! The same rows give the same numbers in the answer, whichever protocol they come in: over the whole server, seeded.

mod random;

use bytes::Bytes;
use coracle_gateway::Limits;
use coracle_model::{ColumnPlace, Description, Model, RunError, Signature, TensorSpec};
use coracle_protocol::grpc::frame;
use coracle_protocol::grpc::inference::{
    InferInputTensor, InferParameter, InferRequestedOutputTensor, InferTensorContents,
    ModelInferRequest, ModelInferResponse, ParameterChoice,
};
use coracle_protocol::grpc::tensorflow::{
    Dim, ModelSpec, PredictRequest, PredictResponse, TensorProto, TensorShapeProto,
};
use coracle_serving::{LoadPhases, LoadedModel, ModelTable, ServedModel};
use coracle_tensor::{ByteStrings, DType, Tensor, Values, bf16, f16};
use serde_json::{Value, json};

use self::random::Random;
use crate::client::send;
use crate::fixture::{Running, config, start_with};
use crate::grpc::{ask, call};

const N_COLUMNS: usize = 3;
const PREDICT: &str = "/tensorflow.serving.PredictionService/Predict";

fn spec(name: &str, dtype: DType, shape: Vec<Option<usize>>) -> TensorSpec {
    TensorSpec {
        name: name.to_owned(),
        dtype,
        shape,
        columns: None,
        accepts_missing: false,
        accepts_integers: false,
    }
}

/// Gives the first column in every numeric datatype, under the datatype's name, and the sum of each row as `sum`.
#[derive(Debug)]
struct Casts {
    signature: Signature,
    description: Description,
}

/// Takes a column of texts and one of numbers; gives each text with its number, and its length.
#[derive(Debug)]
struct Texts {
    signature: Signature,
    description: Description,
}

fn numeric() -> impl Iterator<Item = DType> {
    DType::ALL
        .into_iter()
        .filter(|dtype| *dtype != DType::Bytes)
}

fn casts() -> Casts {
    let outputs = numeric().map(|dtype| spec(dtype.name(), dtype, vec![None]));
    Casts {
        signature: Signature {
            keyed_outputs: Vec::new(),
            keyed_inputs: Vec::new(),
            unranked_inputs: Vec::new(),
            name_rules: Default::default(),
            inputs: vec![spec("X", DType::F64, vec![None, Some(N_COLUMNS)])],
            outputs: outputs
                .chain([spec("sum", DType::F64, vec![None])])
                .collect(),
            default_outputs: vec![0],
            columns: None,
        },
        description: Description::default(),
    }
}

fn texts() -> Texts {
    let place = |name: &str, input| ColumnPlace {
        name: name.to_owned(),
        input: Some(input),
    };
    Texts {
        signature: Signature {
            keyed_outputs: Vec::new(),
            keyed_inputs: Vec::new(),
            unranked_inputs: Vec::new(),
            name_rules: Default::default(),
            inputs: vec![
                spec("text", DType::Bytes, vec![None]),
                spec("number", DType::F64, vec![None]),
            ],
            outputs: vec![
                spec("joined", DType::Bytes, vec![None]),
                spec("length", DType::I64, vec![None]),
            ],
            default_outputs: vec![0],
            columns: Some(vec![place("text", 0), place("number", 1)]),
        },
        description: Description::default(),
    }
}

impl Model for Casts {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(&self, inputs: &[Tensor], outputs: &[usize]) -> Result<Vec<Tensor>, RunError> {
        let table = inputs[0].values().to_f64s().unwrap();
        let rows = table.chunks_exact(N_COLUMNS);
        let first: Vec<f64> = rows.clone().map(|row| row[0]).collect();
        let answer = |&output: &usize| match self.signature.outputs[output].name.as_str() {
            "sum" => Values::F64(rows.clone().map(sum).collect()),
            name => values(&first, DType::from_name(name).unwrap()),
        };
        Ok(outputs
            .iter()
            .map(answer)
            .map(Tensor::from_values)
            .collect())
    }

    fn description(&self) -> &Description {
        &self.description
    }

    fn memory_bytes(&self) -> usize {
        0
    }
}

impl Model for Texts {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(&self, inputs: &[Tensor], outputs: &[usize]) -> Result<Vec<Tensor>, RunError> {
        let Values::Bytes(texts) = inputs[0].values() else {
            panic!("texts expected")
        };
        let numbers = inputs[1].values().to_f64s().unwrap();
        let answer = |&output: &usize| match output {
            0 => {
                let rows = texts.iter().zip(numbers.iter());
                let joined = rows.map(|(text, n)| joined(std::str::from_utf8(text).unwrap(), *n));
                Values::Bytes(joined.collect::<ByteStrings>())
            }
            _ => Values::I64(texts.iter().map(|text| text.len() as i64).collect()),
        };
        Ok(outputs
            .iter()
            .map(answer)
            .map(Tensor::from_values)
            .collect())
    }

    fn description(&self) -> &Description {
        &self.description
    }

    fn memory_bytes(&self) -> usize {
        0
    }
}

fn sum(row: &[f64]) -> f64 {
    row[0] + row[1] + row[2]
}

fn joined(text: &str, number: f64) -> String {
    format!("{text}/{number}")
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the numbers are of the datatype"
)]
fn values(numbers: &[f64], dtype: DType) -> Values {
    let n = numbers.iter();
    match dtype {
        DType::Bool => Values::Bool(n.map(|&n| n != 0.0).collect()),
        DType::U8 => Values::U8(n.map(|&n| n as u8).collect()),
        DType::U16 => Values::U16(n.map(|&n| n as u16).collect()),
        DType::U32 => Values::U32(n.map(|&n| n as u32).collect()),
        DType::U64 => Values::U64(n.map(|&n| n as u64).collect()),
        DType::I8 => Values::I8(n.map(|&n| n as i8).collect()),
        DType::I16 => Values::I16(n.map(|&n| n as i16).collect()),
        DType::I32 => Values::I32(n.map(|&n| n as i32).collect()),
        DType::I64 => Values::I64(n.map(|&n| n as i64).collect()),
        DType::F16 => Values::F16(n.map(|&n| f16::from_f64(n)).collect()),
        DType::BF16 => Values::BF16(n.map(|&n| bf16::from_f64(n)).collect()),
        DType::F32 => Values::F32(n.map(|&n| n as f32).collect()),
        DType::F64 => Values::F64(numbers.to_vec().into()),
        DType::Bytes => panic!("no number"),
    }
}

/// The raw form, written by this test on its own.
fn raw(values: &Values) -> Vec<u8> {
    macro_rules! bytes {
        ($items:expr) => {
            $items.iter().flat_map(|item| item.to_le_bytes()).collect()
        };
    }
    match values {
        Values::Bool(items) => items.iter().map(|&item| u8::from(item)).collect(),
        Values::U8(items) => items.to_vec(),
        Values::U16(items) => bytes!(items),
        Values::U32(items) => bytes!(items),
        Values::U64(items) => bytes!(items),
        Values::I8(items) => bytes!(items),
        Values::I16(items) => bytes!(items),
        Values::I32(items) => bytes!(items),
        Values::I64(items) => bytes!(items),
        Values::F16(items) => bytes!(items),
        Values::BF16(items) => bytes!(items),
        Values::F32(items) => bytes!(items),
        Values::F64(items) => bytes!(items),
        Values::Bytes(texts) => {
            let element =
                |text: &[u8]| [&u32::try_from(text.len()).unwrap().to_le_bytes(), text].concat();
            texts.iter().flat_map(element).collect()
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "the numbers are small enough")]
fn from_raw(bytes: &[u8], dtype: DType) -> Vec<f64> {
    macro_rules! numbers {
        ($type:ty, $to:expr) => {{
            let (chunks, rest) = bytes.as_chunks();
            assert!(rest.is_empty());
            let to: fn($type) -> f64 = $to;
            chunks
                .iter()
                .map(|&chunk| to(<$type>::from_le_bytes(chunk)))
                .collect()
        }};
    }
    match dtype {
        DType::Bool | DType::U8 => bytes.iter().map(|&byte| f64::from(byte)).collect(),
        DType::U16 => numbers!(u16, f64::from),
        DType::U32 => numbers!(u32, f64::from),
        DType::U64 => numbers!(u64, |n| n as f64),
        DType::I8 => numbers!(i8, f64::from),
        DType::I16 => numbers!(i16, f64::from),
        DType::I32 => numbers!(i32, f64::from),
        DType::I64 => numbers!(i64, |n| n as f64),
        DType::F16 => numbers!(f16, f16::to_f64),
        DType::BF16 => numbers!(bf16, bf16::to_f64),
        DType::F32 => numbers!(f32, f64::from),
        DType::F64 => numbers!(f64, |n| n),
        DType::Bytes => panic!("no number"),
    }
}

/// The numbers of a JSON answer, which are the shortest decimals that stand for those of the datatype.
fn from_json(value: &Value, dtype: DType) -> Vec<f64> {
    let number = match value {
        Value::Bool(truth) => f64::from(u8::from(*truth)),
        Value::Number(number) => number.as_f64().unwrap(),
        Value::Array(items) => {
            let items = items.iter().flat_map(|item| from_json(item, dtype));
            return items.collect();
        }
        other => panic!("{other} where numbers belong"),
    };
    values(&[number], dtype).to_f64s().unwrap().into_owned()
}

/// Numbers as JSON has them; truth values as such where the datatype is told.
fn json_data(numbers: &[f64], dtype: DType) -> Vec<Value> {
    let whole = |n: f64| n.fract() == 0.0 && n.abs() < 1e15 && n.is_sign_positive();
    let item = |&n: &f64| match dtype {
        DType::Bool => json!(n != 0.0),
        // Whole numbers without a fraction, as clients send them.
        #[expect(clippy::cast_possible_truncation, reason = "a small whole number")]
        _ if whole(n) => json!(n as i64),
        _ => json!(n),
    };
    numbers.iter().map(item).collect()
}

fn post(server: &Running, path: &str, headers: &[(&str, &str)], body: &[u8]) -> (Value, Vec<u8>) {
    let answer = send(server.address, "POST", path, headers, body);
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    let end = answer.header("inference-header-content-length");
    let end = end.map_or(answer.bytes.len(), |end| end.parse().unwrap());
    let (json, rest) = answer.bytes.split_at(end);
    (serde_json::from_slice(json).unwrap(), rest.to_vec())
}

/// The answers to V1 and TensorFlow Serving's REST, as numbers, each with the protocol's name.
fn rest_answers(
    server: &Running,
    numbers: &[f64],
    output: (&str, DType),
) -> Vec<(&'static str, Vec<f64>)> {
    let rows: Vec<Vec<Value>> = numbers
        .chunks(N_COLUMNS)
        .map(|row| json_data(row, DType::F64))
        .collect();
    let path = "/v1/models/casts:predict";
    let ask = |body: Value| post(server, path, &[], body.to_string().as_bytes()).0;
    let by_method = post(
        server,
        &format!("{path}?method={}", output.0),
        &[],
        json!({"instances": rows}).to_string().as_bytes(),
    );
    let both = ask(json!({"signature_name": output.0, "inputs": rows}));
    let columnar = ask(json!({"signature_name": output.0, "inputs": {"X": rows}}));
    let by_row = ask(json!({"signature_name": output.0, "instances": rows}));
    vec![
        ("V1 rows", from_json(&by_method.0["predictions"], output.1)),
        ("V1 inputs", from_json(&both["predictions"], output.1)),
        ("TFS inputs", from_json(&both["outputs"], output.1)),
        ("TFS rows", from_json(&by_row["predictions"], output.1)),
        ("TFS columns", from_json(&columnar["outputs"], output.1)),
    ]
}

fn v2_answers(
    server: &Running,
    sent: &Values,
    output: (&str, DType),
) -> Vec<(&'static str, Vec<f64>)> {
    let n_rows = sent.len() / N_COLUMNS;
    let dtype = sent.dtype();
    let path = "/v2/models/casts/infer";
    let numbers = sent.to_f64s().unwrap();
    let input = json!({"name": "X", "shape": [n_rows, N_COLUMNS], "datatype": dtype.name()});
    let mut typed = input.clone();
    typed["data"] = json_data(&numbers, dtype).into();
    let body = json!({"inputs": [typed], "outputs": [{"name": output.0}]}).to_string();
    let (json, _) = post(server, path, &[], body.as_bytes());
    assert_eq!(json["outputs"][0]["datatype"], output.1.name());
    let bytes = raw(sent);
    let mut binary = input;
    binary["parameters"] = json!({"binary_data_size": bytes.len()});
    let asked = json!([{"name": output.0, "parameters": {"binary_data": true}}]);
    let head = json!({"inputs": [binary], "outputs": asked}).to_string();
    let length = head.len().to_string();
    let headers = [("inference-header-content-length", length.as_str())];
    let (_, answered) = post(server, path, &headers, &[head.as_bytes(), &bytes].concat());
    vec![
        ("V2 JSON", from_json(&json["outputs"][0]["data"], output.1)),
        ("V2 binary", from_raw(&answered, output.1)),
    ]
}

fn infer_request(model: &str, inputs: &[(&str, &Tensor)], output: &str) -> ModelInferRequest {
    let inputs = inputs.iter().map(|(name, tensor)| InferInputTensor {
        name: (*name).to_owned(),
        datatype: tensor.dtype().name().to_owned(),
        shape: tensor
            .shape()
            .iter()
            .map(|&size| i64::try_from(size).unwrap())
            .collect(),
        ..InferInputTensor::default()
    });
    ModelInferRequest {
        model_name: model.to_owned(),
        inputs: inputs.collect(),
        outputs: vec![InferRequestedOutputTensor {
            name: output.to_owned(),
            ..InferRequestedOutputTensor::default()
        }],
        ..ModelInferRequest::default()
    }
}

/// Typed contents; `None` for the datatypes that have none.
fn contents(values: &Values) -> Option<InferTensorContents> {
    let mut contents = InferTensorContents::default();
    match values {
        Values::Bool(items) => contents.bool_contents.clone_from(items),
        Values::U8(items) => contents.uint_contents = items.iter().map(|&n| n.into()).collect(),
        Values::U16(items) => contents.uint_contents = items.iter().map(|&n| n.into()).collect(),
        Values::U32(items) => contents.uint_contents = items.to_vec(),
        Values::U64(items) => contents.uint64_contents = items.to_vec(),
        Values::I8(items) => contents.int_contents = items.iter().map(|&n| n.into()).collect(),
        Values::I16(items) => contents.int_contents = items.iter().map(|&n| n.into()).collect(),
        Values::I32(items) => contents.int_contents = items.to_vec(),
        Values::I64(items) => contents.int64_contents = items.to_vec(),
        Values::F32(items) => contents.fp32_contents = items.to_vec(),
        Values::F64(items) => contents.fp64_contents = items.to_vec(),
        Values::Bytes(texts) => {
            contents.bytes_contents = texts.iter().map(Bytes::copy_from_slice).collect();
        }
        Values::F16(_) | Values::BF16(_) => return None,
    }
    Some(contents)
}

#[expect(clippy::cast_precision_loss, reason = "the numbers are small enough")]
fn from_contents(contents: &InferTensorContents, dtype: DType) -> Vec<f64> {
    match dtype {
        DType::Bool => contents
            .bool_contents
            .iter()
            .map(|&n| f64::from(u8::from(n)))
            .collect(),
        DType::U8 | DType::U16 | DType::U32 => {
            contents.uint_contents.iter().map(|&n| n.into()).collect()
        }
        DType::U64 => contents.uint64_contents.iter().map(|&n| n as f64).collect(),
        DType::I8 | DType::I16 | DType::I32 => {
            contents.int_contents.iter().map(|&n| n.into()).collect()
        }
        DType::I64 => contents.int64_contents.iter().map(|&n| n as f64).collect(),
        DType::F32 => contents.fp32_contents.iter().map(|&n| n.into()).collect(),
        DType::F64 => contents.fp64_contents.clone(),
        DType::F16 | DType::BF16 | DType::Bytes => panic!("no typed contents"),
    }
}

fn grpc_answers(
    server: &Running,
    sent: &Tensor,
    output: (&str, DType),
) -> Vec<(&'static str, Vec<f64>)> {
    let mut answers = Vec::new();
    let mut request = infer_request("casts", &[("X", sent)], output.0);
    request.raw_input_contents = vec![raw(sent.values()).into()];
    let response: ModelInferResponse = ask(server, "ModelInfer", &request).message();
    answers.push((
        "gRPC raw",
        from_raw(&response.raw_output_contents[0], output.1),
    ));
    // The same in typed contents, where the answer has them.
    let typed = InferParameter {
        parameter_choice: Some(ParameterChoice::BoolParam(false)),
    };
    request
        .parameters
        .insert("binary_data_output".to_owned(), typed);
    if let Some(contents) = contents(sent.values()) {
        request.raw_input_contents.clear();
        request.inputs[0].contents = Some(contents);
    }
    let response: ModelInferResponse = ask(server, "ModelInfer", &request).message();
    let numbers = match &response.outputs[0].contents {
        Some(contents) => from_contents(contents, output.1),
        None => from_raw(&response.raw_output_contents[0], output.1),
    };
    answers.push(("gRPC typed", numbers));
    answers
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

/// TensorFlow's message of a tensor, in the field of its datatype.
fn proto(tensor: &Tensor) -> TensorProto {
    let sizes = tensor.shape().iter();
    let dims = sizes.map(|&size| Dim {
        size: i64::try_from(size).unwrap(),
        ..Dim::default()
    });
    let mut proto = TensorProto {
        dtype: tensorflow_number(tensor.dtype()),
        tensor_shape: Some(TensorShapeProto {
            dim: dims.collect(),
            unknown_rank: false,
        }),
        ..TensorProto::default()
    };
    match tensor.values() {
        Values::Bool(items) => proto.bool_val.clone_from(items),
        Values::U8(items) => proto.int_val = items.iter().map(|&n| n.into()).collect(),
        Values::U16(items) => proto.int_val = items.iter().map(|&n| n.into()).collect(),
        Values::U32(items) => proto.uint32_val = items.to_vec(),
        Values::U64(items) => proto.uint64_val = items.to_vec(),
        Values::I8(items) => proto.int_val = items.iter().map(|&n| n.into()).collect(),
        Values::I16(items) => proto.int_val = items.iter().map(|&n| n.into()).collect(),
        Values::I32(items) => proto.int_val = items.to_vec(),
        Values::I64(items) => proto.int64_val = items.to_vec(),
        Values::F16(items) => proto.half_val = items.iter().map(|n| n.to_bits().into()).collect(),
        Values::BF16(items) => proto.half_val = items.iter().map(|n| n.to_bits().into()).collect(),
        Values::F32(items) => proto.float_val = items.to_vec(),
        Values::F64(items) => proto.double_val = items.to_vec(),
        Values::Bytes(texts) => {
            proto.string_val = texts.iter().map(Bytes::copy_from_slice).collect()
        }
    }
    proto
}

#[expect(clippy::cast_precision_loss, reason = "the numbers are small enough")]
fn from_proto(proto: &TensorProto, dtype: DType) -> Vec<f64> {
    assert_eq!(proto.dtype, tensorflow_number(dtype));
    let half = |&bits: &i32| u16::try_from(bits).unwrap();
    match dtype {
        DType::Bool => proto
            .bool_val
            .iter()
            .map(|&n| f64::from(u8::from(n)))
            .collect(),
        DType::U8 | DType::U16 | DType::I8 | DType::I16 | DType::I32 => {
            proto.int_val.iter().map(|&n| n.into()).collect()
        }
        DType::U32 => proto.uint32_val.iter().map(|&n| n.into()).collect(),
        DType::U64 => proto.uint64_val.iter().map(|&n| n as f64).collect(),
        DType::I64 => proto.int64_val.iter().map(|&n| n as f64).collect(),
        DType::F16 => proto
            .half_val
            .iter()
            .map(|n| f16::from_bits(half(n)).to_f64())
            .collect(),
        DType::BF16 => proto
            .half_val
            .iter()
            .map(|n| bf16::from_bits(half(n)).to_f64())
            .collect(),
        DType::F32 => proto.float_val.iter().map(|&n| n.into()).collect(),
        DType::F64 => proto.double_val.clone(),
        DType::Bytes => panic!("no number"),
    }
}

fn predict(
    server: &Running,
    model: &str,
    inputs: Vec<(&str, TensorProto)>,
    output: &str,
) -> TensorProto {
    let request = PredictRequest {
        model_spec: Some(ModelSpec {
            name: model.to_owned(),
            ..ModelSpec::default()
        }),
        inputs: inputs
            .into_iter()
            .map(|(name, proto)| (name.to_owned(), proto))
            .collect(),
        output_filter: vec![output.to_owned()],
    };
    let mut response: PredictResponse = call(server, PREDICT, &[], frame(&request)).message();
    response.outputs.remove(output).unwrap()
}

fn tfs_grpc_answers(
    server: &Running,
    sent: &Tensor,
    output: (&str, DType),
) -> Vec<(&'static str, Vec<f64>)> {
    let typed = proto(sent);
    let content = TensorProto {
        dtype: typed.dtype,
        tensor_shape: typed.tensor_shape.clone(),
        tensor_content: raw(sent.values()).into(),
        ..TensorProto::default()
    };
    [("TFS gRPC values", typed), ("TFS gRPC content", content)]
        .map(|(protocol, proto)| {
            let answer = predict(server, "casts", vec![("X", proto)], output.0);
            (protocol, from_proto(&answer, output.1))
        })
        .into()
}

fn start() -> Running {
    start_with(config(Limits::default()), |sum| {
        let loaded =
            |name: &str, model| LoadedModel::new(name.to_owned(), model, LoadPhases::default());
        let casts = ServedModel::new(loaded("casts", Box::new(casts())), 2);
        let texts = ServedModel::new(loaded("texts", Box::new(texts())), 2);
        ModelTable::try_new([sum, casts, texts]).unwrap()
    })
}

#[test]
fn every_protocol_gives_the_same_numbers() {
    let server = start();
    let mut random = Random(11);
    for dtype in numeric() {
        for n_rows in [1, 7] {
            let numbers: Vec<f64> = (0..n_rows * N_COLUMNS)
                .map(|_| random.number(dtype))
                .collect();
            let sent = Tensor::try_new(vec![n_rows, N_COLUMNS], values(&numbers, dtype)).unwrap();
            let rows = numbers.chunks(N_COLUMNS);
            let first: Vec<f64> = rows.clone().map(|row| row[0]).collect();
            let sums: Vec<f64> = rows.map(sum).collect();
            for (output, expected) in [((dtype.name(), dtype), first), (("sum", DType::F64), sums)]
            {
                let mut answers = rest_answers(&server, &numbers, output);
                answers.extend(v2_answers(&server, sent.values(), output));
                answers.extend(grpc_answers(&server, &sent, output));
                answers.extend(tfs_grpc_answers(&server, &sent, output));
                assert_eq!(answers.len(), 11);
                for (protocol, answer) in answers {
                    let bits =
                        |numbers: &[f64]| numbers.iter().map(|n| n.to_bits()).collect::<Vec<_>>();
                    // Nothing but the sign of zero may differ, which JSON's whole numbers do not have.
                    let unsigned = |numbers: &[f64]| {
                        bits(&numbers.iter().map(|n| n + 0.0).collect::<Vec<_>>())
                    };
                    let place = format!("{protocol}: {dtype}, {n_rows} rows, {}", output.0);
                    assert_eq!(
                        unsigned(&answer),
                        unsigned(&expected),
                        "{place}: {answer:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn every_protocol_gives_the_same_texts() {
    let server = start();
    let mut random = Random(13);
    for n_rows in [1, 5, 20] {
        let texts: Vec<String> = (0..n_rows).map(|_| random.text()).collect();
        let numbers: Vec<f64> = (0..n_rows).map(|_| random.number(DType::I16)).collect();
        let expected: Vec<String> = texts
            .iter()
            .zip(&numbers)
            .map(|(text, &n)| joined(text, n))
            .collect();
        let tensors = [
            Tensor::from_values(Values::Bytes(texts.iter().map(String::as_str).collect())),
            Tensor::from_values(Values::F64(numbers.clone().into())),
        ];
        for (protocol, answer) in text_answers(&server, &texts, &numbers, &tensors) {
            assert_eq!(answer, expected, "{protocol}");
        }
    }
}

fn from_json_texts(value: &Value) -> Vec<String> {
    let items = value.as_array().unwrap().iter();
    items
        .map(|item| item.as_str().unwrap().to_owned())
        .collect()
}

fn from_raw_texts(mut bytes: &[u8]) -> Vec<String> {
    let mut texts = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let (text, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        texts.push(String::from_utf8(text.to_vec()).unwrap());
        bytes = rest;
    }
    texts
}

fn from_bytes(texts: &[Bytes]) -> Vec<String> {
    texts
        .iter()
        .map(|text| String::from_utf8(text.to_vec()).unwrap())
        .collect()
}

fn text_answers(
    server: &Running,
    texts: &[String],
    numbers: &[f64],
    tensors: &[Tensor; 2],
) -> Vec<(&'static str, Vec<String>)> {
    let mut answers = Vec::new();
    let v1 = |body: Value| {
        post(
            server,
            "/v1/models/texts:predict",
            &[],
            body.to_string().as_bytes(),
        )
        .0
    };
    let rows = || texts.iter().zip(numbers);
    let lists: Vec<Value> = rows().map(|(text, n)| json!([text, n])).collect();
    let objects: Vec<Value> = rows()
        .map(|(text, n)| json!({"number": n, "text": text}))
        .collect();
    answers.push((
        "V1 lists",
        from_json_texts(&v1(json!({"instances": lists}))["predictions"]),
    ));
    answers.push((
        "V1 objects",
        from_json_texts(&v1(json!({"instances": objects}))["predictions"]),
    ));
    let columns = v1(json!({"inputs": {"text": texts, "number": numbers}}));
    answers.push(("TFS columns", from_json_texts(&columns["outputs"])));
    let path = "/v2/models/texts/infer";
    let n_rows = texts.len();
    let input =
        |name: &str, dtype: &str| json!({"name": name, "shape": [n_rows], "datatype": dtype});
    let mut inputs = [input("text", "BYTES"), input("number", "FP64")];
    let raws = tensors.each_ref().map(|tensor| raw(tensor.values()));
    let mut binary = inputs.clone();
    for (input, bytes) in binary.iter_mut().zip(&raws) {
        input["parameters"] = json!({"binary_data_size": bytes.len()});
    }
    inputs[0]["data"] = json!(texts);
    inputs[1]["data"] = json!(numbers);
    let (typed, _) = post(
        server,
        path,
        &[],
        json!({"inputs": inputs}).to_string().as_bytes(),
    );
    answers.push(("V2 JSON", from_json_texts(&typed["outputs"][0]["data"])));
    let head = json!({"inputs": binary, "parameters": {"binary_data_output": true}}).to_string();
    let length = head.len().to_string();
    let headers = [("inference-header-content-length", length.as_str())];
    let body = [head.as_bytes(), &raws[0], &raws[1]].concat();
    answers.push((
        "V2 binary",
        from_raw_texts(&post(server, path, &headers, &body).1),
    ));
    let named = [("text", &tensors[0]), ("number", &tensors[1])];
    let mut request = infer_request("texts", &named, "joined");
    request.raw_input_contents = raws.map(Bytes::from).into();
    let response: ModelInferResponse = ask(server, "ModelInfer", &request).message();
    answers.push(("gRPC raw", from_raw_texts(&response.raw_output_contents[0])));
    request.raw_input_contents.clear();
    for (input, tensor) in request.inputs.iter_mut().zip(tensors) {
        input.contents = contents(tensor.values());
    }
    let response: ModelInferResponse = ask(server, "ModelInfer", &request).message();
    let typed = response.outputs[0].contents.as_ref().unwrap();
    answers.push(("gRPC typed", from_bytes(&typed.bytes_contents)));
    let protos = named.map(|(name, tensor)| (name, proto(tensor)));
    let answer = predict(server, "texts", protos.into(), "joined");
    answers.push(("TFS gRPC", from_bytes(&answer.string_val)));
    assert_eq!(answers.len(), 8);
    answers
}
