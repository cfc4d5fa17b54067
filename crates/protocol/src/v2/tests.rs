//! V2 bodies and what they must become.

mod binary;

use coracle_base::Code;
use coracle_tensor::{ByteStrings, DType, Values, bf16, f16};

use coracle_model::{Signature, TensorSpec};

use super::*;
use crate::facts::{ModelFacts, ModelSettings};
use crate::v1::tests::{context, signature};
use crate::{EncodeContext, NoRegions, RequestError};

fn decode(body: &str, signature: &Signature) -> Result<Call, RequestError> {
    decode_infer(&body.to_owned().into(), None, &context(signature))
}

/// A request of one tensor.
fn tensor(datatype: &str, shape: &str, data: &str) -> String {
    format!(
        r#"{{"inputs": [{{"name": "input-0", "shape": {shape}, "datatype": "{datatype}", "data": {data}}}]}}"#
    )
}

#[test]
fn every_datatype_is_read_into_its_own_buffer() {
    let strings: ByteStrings = ["a", "é\n"].into_iter().collect();
    let cases: [(&str, &str, Values); 16] = [
        ("BOOL", "[true, 0]", Values::Bool(vec![true, false])),
        ("UINT8", "[0, 255]", Values::U8(vec![0, 255].into())),
        ("UINT16", "[0, 65535]", Values::U16(vec![0, 65_535].into())),
        (
            "UINT32",
            "[0, 4294967295]",
            Values::U32(vec![0, u32::MAX].into()),
        ),
        (
            "UINT64",
            "[0, 18446744073709551615]",
            Values::U64(vec![0, u64::MAX].into()),
        ),
        ("INT8", "[-128, 127]", Values::I8(vec![-128, 127].into())),
        ("INT16", "[-32768, 1]", Values::I16(vec![-32_768, 1].into())),
        (
            "INT32",
            "[-2147483648, 1]",
            Values::I32(vec![i32::MIN, 1].into()),
        ),
        (
            "INT64",
            "[-9223372036854775808, 3.0]",
            Values::I64(vec![i64::MIN, 3].into()),
        ),
        (
            "FP16",
            "[0.5, 1]",
            Values::F16(vec![f16::from_f32(0.5), f16::from_f32(1.0)].into()),
        ),
        (
            "BF16",
            "[0.5, 1]",
            Values::BF16(vec![bf16::from_f32(0.5), bf16::from_f32(1.0)].into()),
        ),
        ("FP32", "[0.1, 1]", Values::F32(vec![0.1, 1.0].into())),
        ("FP64", "[0.1, 1]", Values::F64(vec![0.1, 1.0].into())),
        ("fp64", "[[0.1, 1]]", Values::F64(vec![0.1, 1.0].into())),
        ("FP64", " [ [0.1,\n1] ]", Values::F64(vec![0.1, 1.0].into())),
        ("BYTES", r#"["a", "é\n"]"#, Values::Bytes(strings)),
    ];
    for (datatype, data, expected) in cases {
        let call = decode(&tensor(datatype, "[1, 2]", data), &signature(None, false)).unwrap();
        assert_eq!(call.inputs[0].values(), &expected, "{datatype} {data}");
        assert_eq!(call.inputs[0].shape(), [1, 2]);
        assert_eq!(call.n_rows, 1);
    }
}

#[test]
fn shapes_are_taken_as_sent_or_inferred() {
    let cases: [(&str, &str, &[usize]); 5] = [
        ("[2, 2]", "[1, 2, 3, 4]", &[2, 2]),
        ("[2, 2]", "[[1, 2], [3, 4]]", &[2, 2]),
        ("[-1, 2]", "[[1, 2], [3, 4]]", &[2, 2]),
        ("[-1, 2]", "[1, 2, 3, 4, 5, 6]", &[3, 2]),
        ("[2]", "[1, 2]", &[2]),
    ];
    for (shape, data, expected) in cases {
        let call = decode(&tensor("FP64", shape, data), &signature(None, false)).unwrap();
        assert_eq!(call.inputs[0].shape(), expected, "{shape} {data}");
    }
}

#[test]
fn fields_may_come_in_any_order() {
    let body = r#"{"id": "4\"2", "parameters": {"content_type": "np"}, "inputs": [{"data": [1, 2], "datatype": "FP32", "name": "anything", "shape": [1, 2], "extra": {}}]}"#;
    let call = decode(body, &signature(None, false)).unwrap();
    assert_eq!(call.id.as_deref(), Some("4\"2"));
    assert_eq!(call.inputs[0].values(), &Values::F32(vec![1.0, 2.0].into()));
}

#[test]
fn null_is_a_missing_value_where_the_model_takes_them() {
    let call = decode(
        &tensor("FP32", "[1, 2]", "[null, 2]"),
        &signature(None, true),
    )
    .unwrap();
    let Values::F32(values) = call.inputs[0].values() else {
        panic!("not singles")
    };
    assert!(values[0].is_nan());
}

/// Datatype, shape and data that are refused, each with its message.
const REFUSED: [(&str, &str, &str, &str); 22] = [
    (
        "FP8",
        "[1, 2]",
        "[1, 2]",
        "inputs[0]: unknown datatype \"FP8\"; known are BOOL, UINT8, UINT16, UINT32, UINT64, INT8, INT16, INT32, INT64, FP16, BF16, FP32, FP64, BYTES",
    ),
    (
        "UINT8",
        "[1, 2]",
        "[1, 256]",
        "inputs[0].data[1]: 256 is out of range for UINT8 (whole numbers 0 to 255)",
    ),
    (
        "UINT8",
        "[1, 2]",
        "[-1, 2]",
        "inputs[0].data[0]: -1 is out of range for UINT8 (whole numbers 0 to 255)",
    ),
    (
        "INT64",
        "[1, 2]",
        "[1, 9223372036854775808]",
        "inputs[0].data[1]: 9223372036854775808 is out of range for INT64 (whole numbers -9223372036854775808 to 9223372036854775807)",
    ),
    (
        "INT32",
        "[1, 2]",
        "[1.5, 2]",
        "inputs[0].data[0]: 1.5 is out of range for INT32 (whole numbers -2147483648 to 2147483647)",
    ),
    (
        "FP32",
        "[1, 2]",
        "[1e39, 2]",
        "inputs[0].data[0]: 1000000000000000000000000000000000000000 is out of range for FP32 (numbers within its range)",
    ),
    (
        "FP16",
        "[1, 2]",
        "[70000, 2]",
        "inputs[0].data[0]: 70000 is out of range for FP16 (numbers within its range)",
    ),
    (
        "BOOL",
        "[1, 2]",
        "[2, 0]",
        "inputs[0].data[0]: 2 is out of range for BOOL (true, false, 0 and 1)",
    ),
    (
        "BOOL",
        "[1, 2]",
        "[\"x\", 0]",
        "inputs[0].data[0]: a string where a truth value belongs",
    ),
    (
        "INT64",
        "[1, 2]",
        "[true, 0]",
        "inputs[0].data[0]: a truth value where a number belongs",
    ),
    (
        "INT64",
        "[1, 2]",
        "[null, 0]",
        "inputs[0].data[0]: null where a number belongs",
    ),
    (
        "FP64",
        "[1, 2]",
        "[\"1\", 0]",
        "inputs[0].data[0]: a string where a number belongs",
    ),
    (
        "FP64",
        "[1, 2]",
        "[null, 0]",
        "inputs[0].data[0]: null (a missing value), this model takes numbers only",
    ),
    (
        "BYTES",
        "[1, 2]",
        "[1, \"a\"]",
        "inputs[0].data[0]: a number where a string belongs",
    ),
    (
        "FP64",
        "[1, 2]",
        "[1, 2, 3]",
        "inputs[0]: 3 elements, shape [1, 2] holds 2",
    ),
    (
        "FP64",
        "[2, 2]",
        "[[1, 2, 3], [4]]",
        "inputs[0]: data is ragged: lists of different lengths",
    ),
    (
        "FP64",
        "[1, 4]",
        "[[1, 2], [3, 4]]",
        "inputs[0]: data is nested as [2, 2], shape is [1, 4]",
    ),
    (
        "FP64",
        "[1, 2]",
        "[[[1, 2]]]",
        "inputs[0]: data is nested 3 deep; send a flat list, or lists nested as shape [1, 2]",
    ),
    (
        "FP64",
        "[1, 2]",
        "5",
        "inputs[0]: data is nested 0 deep; send a flat list, or lists nested as shape [1, 2]",
    ),
    (
        "FP64",
        "[1, 2]",
        "[1, [2]]",
        "inputs[0].data[1]: a list where a number belongs",
    ),
    (
        "FP64",
        "[-1, -1]",
        "[1, 2]",
        "inputs[0]: shape [-1, -1], sizes are 0 or more (-1 at most once)",
    ),
    (
        "FP64",
        "[4611686018427387904, 4]",
        "[1, 2]",
        "inputs[0]: 2 elements, shape [4611686018427387904, 4] holds too many",
    ),
];

#[test]
fn what_is_wrong_with_a_tensor_is_said_with_its_place() {
    for (datatype, shape, data, message) in REFUSED {
        let error = decode(&tensor(datatype, shape, data), &signature(None, false)).unwrap_err();
        assert_eq!(error.to_string(), message);
        assert_eq!(error.code(), Code::InvalidArgument);
    }
}

#[test]
fn what_is_wrong_with_a_request_is_said() {
    let good = r#""inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [1, 2]}]"#;
    let cases: [(String, Code, &str); 18] = [
        (String::new(), Code::InvalidArgument, "the request body is empty"),
        ("{}".to_owned(), Code::InvalidArgument, "missing field `inputs`"),
        (r#"{"inputs": []}"#.to_owned(), Code::InvalidArgument, "\"inputs\" is empty"),
        (r#"{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP64"}]}"#.to_owned(), Code::InvalidArgument, "inputs[0]: \"data\" is missing"),
        (r#"{"inputs": [{"name": "x", "datatype": "FP64", "data": [1]}]}"#.to_owned(), Code::InvalidArgument, "missing field `shape`"),
        (format!(r#"{{"id": 5, {good}}}"#), Code::InvalidArgument, "invalid type: integer `5`"),
        (format!(r#"{{{good}, "outputs": [{{"name": "zzz"}}]}}"#), Code::InvalidArgument, "unknown output \"zzz\"; the model has predict, predict_proba"),
        (
            r#"{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "BYTES", "data": ["a", "\ud800"]}]}"#.to_owned(),
            Code::InvalidArgument,
            "inputs[0]: data is not valid JSON: ",
        ),
        (format!(r#"{{{good}, "parameters": {{"method": "fly"}}}}"#), Code::InvalidArgument, "unknown method \"fly\""),
        (format!(r#"{{{good}, "outputs": [{{"name": "predict", "parameters": {{"classification": 2}}}}]}}"#), Code::Unimplemented, "output \"predict\": classification of outputs is not supported"),
        (format!(r#"{{{good}, "outputs": [{{"name": "predict", "parameters": {{"binary_data": true, "shared_memory_region": "r", "shared_memory_byte_size": 8}}}}]}}"#), Code::InvalidArgument, "output \"predict\": binary_data and shared_memory_region exclude each other"),
        (r#"{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP64", "parameters": {"binary_data_size": 16}}]}"#.to_owned(), Code::InvalidArgument, "inputs[0]: binary_data_size without the header Inference-Header-Content-Length"),
        (r#"{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP64", "parameters": {"binary_data_size": -1}}]}"#.to_owned(), Code::InvalidArgument, "invalid value: integer `-1`"),
        (r#"{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP64", "parameters": {"shared_memory_region": "r"}}]}"#.to_owned(), Code::InvalidArgument, "inputs[0]: shared memory needs both"),
        (r#"{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP64", "parameters": {"shared_memory_region": "r", "shared_memory_byte_size": 16}}]}"#.to_owned(), Code::InvalidArgument, "inputs[0]: no shared memory region \"r\" is registered"),
        (r#"{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP64", "parameters": {"shared_memory_region": "r", "shared_memory_byte_size": 160000}}]}"#.to_owned(), Code::InvalidArgument, "inputs[0]: 160000 bytes of shared memory, at most 8000 are read"),
        (format!("{{{good}}} tail"), Code::InvalidArgument, "the body is not valid JSON: trailing characters"),
        (tensor("FP64", "[1, 2]", "[NaN, 1]"), Code::InvalidArgument, "JSON has no NaN or Infinity"),
    ];
    for (body, code, start) in cases {
        let error = decode(&body, &signature(None, false)).unwrap_err();
        assert!(error.to_string().starts_with(start), "{body}: {error}");
        assert_eq!(error.code(), code, "{body}");
    }
}

#[test]
fn outputs_are_chosen_by_name() {
    let request = |rest: &str| {
        format!(
            r#"{{"inputs": [{{"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [1, 2]}}]{rest}}}"#
        )
    };
    let cases: [(&str, &[usize]); 7] = [
        ("", &[0]),
        (r#", "outputs": []"#, &[0]),
        (
            r#", "outputs": [{"name": "predict"}, {"name": "predict_proba"}, {"name": "predict"}]"#,
            &[0, 1],
        ),
        (r#", "outputs": [{"name": "predict_proba"}]"#, &[1]),
        (
            r#", "outputs": [{"name": "predict_proba"}, {"name": "predict"}]"#,
            &[1, 0],
        ),
        (r#", "outputs": [{"name": "output-0"}]"#, &[0]),
        (
            r#", "outputs": [{"name": "output-0"}], "parameters": {"method": "predict_proba"}"#,
            &[1],
        ),
    ];
    for (rest, expected) in cases {
        let call = decode(&request(rest), &signature(None, false)).unwrap();
        assert_eq!(call.outputs, expected, "{rest}");
    }
}

#[test]
fn a_table_may_come_by_column() {
    let named = signature(Some(["a", "b"]), false);
    let column = |name: &str, datatype: &str, shape: &str, data: &str| {
        format!(
            r#"{{"name": "{name}", "shape": {shape}, "datatype": "{datatype}", "data": {data}}}"#
        )
    };
    let request = |columns: &[String]| format!(r#"{{"inputs": [{}]}}"#, columns.join(", "));
    let b = column("b", "INT64", "[2, 1]", "[3, 4]");
    let a = column("a", "FP32", "[2]", "[1.5, 2.5]");
    let call = decode(&request(&[b.clone(), a.clone()]), &named).unwrap();
    assert_eq!(call.inputs[0].shape(), [2, 2]);
    assert_eq!(
        call.inputs[0].values(),
        &Values::F64(vec![1.5, 3.0, 2.5, 4.0].into())
    );
    let cases = [
        (
            vec![b.clone(), b.clone()],
            "inputs[1]: column \"b\" occurs twice",
        ),
        (
            vec![b.clone(), column("c", "FP32", "[2]", "[1, 2]")],
            "inputs[1]: unknown column \"c\"; send one tensor \"X\", or one per column: a, b",
        ),
        (
            vec![
                column("d", "FP32", "[2]", "[1, 2]"),
                b.clone(),
                column("c", "FP32", "[2]", "[1, 2]"),
            ],
            "inputs[0]: unknown columns \"d\", \"c\"; send one tensor \"X\", or one per column: a, b",
        ),
        (
            vec![b.clone(), column("a", "FP32", "[1]", "[1]")],
            "inputs[1]: 1 rows, the columns before have 2",
        ),
        (
            vec![b.clone(), column("a", "FP32", "[1, 2]", "[1, 2]")],
            "inputs[1]: shape [1, 2], a column has shape [n] or [n, 1]",
        ),
        (
            vec![b, column("a", "BYTES", "[2]", "[\"x\", \"y\"]")],
            "inputs[1]: datatype BYTES, the column expects numbers",
        ),
    ];
    for (columns, message) in cases {
        assert_eq!(
            decode(&request(&columns), &named).unwrap_err().to_string(),
            message
        );
    }
    let unnamed = decode(&request(&[a.clone(), a]), &signature(None, false)).unwrap_err();
    assert_eq!(
        unnamed.to_string(),
        "2 input tensors, the model expects one, \"X\""
    );
}

fn encode(call: &Call, outputs: &[Tensor]) -> (Vec<u8>, Option<usize>) {
    let signature = signature(None, false);
    let ctx = EncodeContext {
        model_name: "iris",
        model_version: "1",
        signature: &signature,
        regions: &NoRegions,
    };
    let mut out = Vec::new();
    let json_length = encode_infer(&ctx, call, outputs, &mut out).unwrap();
    (out, json_length)
}

#[test]
fn all_inputs_that_are_missing_are_listed() {
    let mut several = signature(None, false);
    for name in ["Y", "Z"] {
        let mut spec = several.inputs[0].clone();
        spec.name = name.to_owned();
        several.inputs.push(spec);
    }
    let body =
        r#"{"inputs": [{"name": "Y", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}"#;
    assert_eq!(
        decode(body, &several).unwrap_err().to_string(),
        "inputs \"X\", \"Z\" are missing; the model has X, Y, Z"
    );
}

#[test]
fn answers_have_flat_data_and_no_nulls() {
    let call = Call {
        outputs: vec![1],
        id: Some("a\"b".to_owned()),
        n_rows: 2,
        ..Call::default()
    };
    let matrix =
        Tensor::try_new(vec![2, 2], Values::F64(vec![0.25, 0.75, 1.0, 0.0].into())).unwrap();
    let (out, json_length) = encode(&call, std::slice::from_ref(&matrix));
    assert_eq!(json_length, None);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        r#"{"model_name":"iris","model_version":"1","id":"a\"b","outputs":[{"name":"predict_proba","shape":[2,2],"datatype":"FP64","data":[0.25,0.75,1.0,0.0]}]}"#
    );
    let (out, _) = encode(&Call { id: None, ..call }, &[matrix]);
    assert!(!String::from_utf8(out).unwrap().contains("id"));
}

#[test]
fn what_has_any_number_of_dimensions_has_no_batches() {
    let batches = |unranked_inputs: Vec<usize>| {
        let signature = Signature {
            unranked_inputs,
            ..signature(None, false)
        };
        let facts = ModelFacts {
            name: "m",
            version: "1",
            versions: &["1"],
            platform: "onnx",
            signature: &signature,
            elements_max: 1_000,
            settings: ModelSettings::default(),
        };
        facts.batch_size_max()
    };
    assert_eq!(batches(Vec::new()), 500);
    assert_eq!(batches(vec![0]), 0);
}

#[test]
fn metadata_tells_the_signature() {
    let mut out = Vec::new();
    let signature = Signature {
        keyed_outputs: Vec::new(),
        keyed_inputs: Vec::new(),
        unranked_inputs: Vec::new(),
        default_outputs: vec![1],
        ..signature(Some(["a", "b"]), false)
    };
    let facts = ModelFacts {
        name: "iris",
        version: "1",
        versions: &["1"],
        platform: "sklearn",
        signature: &signature,
        elements_max: 1_000,
        settings: ModelSettings::default(),
    };
    model_metadata(facts, &mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        r#"{"name":"iris","versions":["1"],"platform":"sklearn","inputs":[{"name":"X","datatype":"FP64","shape":[-1,2],"parameters":{"columns":["a","b"]}}],"outputs":[{"name":"predict_proba","datatype":"FP64","shape":[-1,2]},{"name":"predict","datatype":"FP64","shape":[-1]}]}"#
    );
}

#[test]
fn metadata_says_what_texts_are() {
    let spec = |name: &str, dtype| TensorSpec {
        name: name.to_owned(),
        dtype,
        shape: vec![None],
        columns: None,
        accepts_missing: false,
        accepts_integers: false,
    };
    let mut signature = signature(None, false);
    signature.inputs = vec![spec("text", DType::Bytes), spec("map", DType::Bytes)];
    signature.keyed_inputs = vec![1];
    let table = TensorSpec {
        shape: vec![None, Some(1)],
        columns: Some(vec!["a".to_owned()]),
        ..spec("table", DType::F32)
    };
    signature.outputs = vec![
        spec("list", DType::Bytes),
        table,
        spec("label", DType::Bytes),
    ];
    signature.keyed_outputs = vec![0, 1];
    signature.default_outputs = vec![2];
    let facts = ModelFacts {
        name: "m",
        version: "1",
        versions: &["1"],
        platform: "onnx",
        signature: &signature,
        elements_max: 1_000,
        settings: ModelSettings::default(),
    };
    let mut out = Vec::new();
    model_metadata(facts, &mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        r#"{"name":"m","versions":["1"],"platform":"onnx","inputs":[{"name":"text","datatype":"BYTES","shape":[-1],"parameters":{"content_type":"str"}},{"name":"map","datatype":"BYTES","shape":[-1],"parameters":{"content_type":"json"}}],"outputs":[{"name":"label","datatype":"BYTES","shape":[-1],"parameters":{"content_type":"str"}},{"name":"list","datatype":"BYTES","shape":[-1],"parameters":{"content_type":"json"}},{"name":"table","datatype":"FP32","shape":[-1,1],"parameters":{"columns":["a"]}}]}"#
    );
}

#[test]
fn damaged_bodies_are_errors_or_requests_never_panics() {
    let named = signature(Some(["a", "b"]), true);
    let bodies = [
        tensor("FP64", "[-1, 2]", "[[1.5, null], [-2e3, 4]]"),
        r#"{"id": "é", "inputs": [{"name": "b", "shape": [1], "datatype": "BYTES", "data": ["x\n"]}], "outputs": [{"name": "output-0"}]}"#.to_owned(),
    ];
    for body in bodies {
        for end in 0..body.len() {
            assert!(
                decode_infer(
                    &body.as_bytes()[..end].to_vec().into(),
                    None,
                    &context(&named)
                )
                .is_err()
            );
        }
        for position in 0..body.len() {
            for byte in [0, b'"', b'[', b'}', b'-', b'e', b'9', 0xff] {
                let mut damaged = body.as_bytes().to_vec();
                damaged[position] = byte;
                drop(decode_infer(&damaged.into(), None, &context(&named)));
            }
        }
    }
}

#[test]
fn content_types_of_mlserver_say_how_texts_are_written() {
    let request = |content: &str, of: &str| {
        format!(
            r#"{{"parameters": {{"content_type": "{of}"}}, "inputs": [{{"name": "x", "shape": [2], "datatype": "BYTES", "data": ["aMOp", ""], "parameters": {{"content_type": {content}}}}}]}}"#
        )
    };
    let texts = |expected: [&str; 2]| Values::Bytes(expected.into_iter().collect());
    let cases = [
        (r#""base64""#, texts(["h\u{e9}", ""])),
        (r#""str""#, texts(["aMOp", ""])),
        (r#""datetime""#, texts(["aMOp", ""])),
        (r#""anything""#, texts(["aMOp", ""])),
        ("null", texts(["aMOp", ""])),
        ("[5, {}]", texts(["aMOp", ""])),
    ];
    for (content, expected) in cases {
        for of in ["pd", "np"] {
            let call = decode(&request(content, of), &signature(None, false)).unwrap();
            assert_eq!(call.inputs[0].values(), &expected, "{content}");
        }
    }
}
