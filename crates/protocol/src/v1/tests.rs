//! V1 bodies and what they must become.

use coracle_model::TensorSpec;
use coracle_tensor::{ByteStrings, DType, Values};

use super::*;
use crate::{DecodeContext, NoRegions};

pub(crate) fn signature(columns: Option<[&str; 2]>, accepts_missing: bool) -> Signature {
    let output = |name: &str, shape| TensorSpec {
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
        inputs: vec![TensorSpec {
            name: "X".to_owned(),
            dtype: DType::F64,
            shape: vec![None, Some(2)],
            columns: columns.map(|names| names.map(str::to_owned).to_vec()),
            accepts_missing,
            accepts_integers: false,
        }],
        outputs: vec![
            output("predict", vec![None]),
            output("predict_proba", vec![None, Some(2)]),
        ],
        default_outputs: vec![0],
        columns: None,
    }
}

pub(crate) fn context(signature: &Signature) -> DecodeContext<'_> {
    DecodeContext {
        signature,
        default_outputs: &signature.default_outputs,
        method: None,
        elements_max: 1_000,
        filled_bytes_max: 4_000,
        regions: &NoRegions,
    }
}

fn decode(body: &str, signature: &Signature) -> Result<Call, String> {
    decode_predict(body.as_bytes(), &context(signature)).map_err(|error| error.to_string())
}

fn table(call: &Call) -> (&[usize], &[f64]) {
    match call.inputs[0].values() {
        Values::F64(values) => (call.inputs[0].shape(), values),
        other => panic!("{other:?}"),
    }
}

#[test]
fn rows_become_a_table() {
    let named = signature(Some(["a", "b"]), false);
    let cases: [(&str, &[f64]); 8] = [
        (
            r#"{"instances": [[1, 2], [3.5, -4e-2]]}"#,
            &[1.0, 2.0, 3.5, -0.04],
        ),
        (r#"{"inputs": [[1, 2]]}"#, &[1.0, 2.0]),
        (r#"{"instances": [[true, false]]}"#, &[1.0, 0.0]),
        (
            r#"{"instances": [{"a": 1, "b": 2}, {"b": 4, "a": 3}]}"#,
            &[1.0, 2.0, 3.0, 4.0],
        ),
        (
            r#"{"instances": [[1, 2], {"b": 4, "a": 3}]}"#,
            &[1.0, 2.0, 3.0, 4.0],
        ),
        (
            r#"{"other": {"x": [1]}, "instances": [[0.1, 5e-324]]}"#,
            &[0.1, 5e-324],
        ),
        (
            r#"{"instances": [[1.7976931348623157e308, 18446744073709551615]]}"#,
            &[f64::MAX, 18446744073709551615.0],
        ),
        ("\n{\"instances\" : [\n[1 ,2] ]}\n", &[1.0, 2.0]),
    ];
    for (body, expected) in cases {
        let call = decode(body, &named).unwrap();
        assert_eq!(
            table(&call),
            (&[expected.len() / 2, 2][..], expected),
            "{body}"
        );
        assert_eq!(call.n_rows, expected.len() / 2);
        assert_eq!(call.outputs, [0]);
    }
}

#[test]
fn null_is_a_missing_value_where_the_model_takes_them() {
    let call = decode(r#"{"instances": [[null, 2]]}"#, &signature(None, true)).unwrap();
    assert!(table(&call).1[0].is_nan());
}

/// Bodies that are refused, each with the start of its message.
const REFUSED: [(&str, &str); 31] = [
    ("", "the request body is empty; send JSON such as"),
    (" \n", "the request body is empty"),
    (
        "{",
        "the body is not valid JSON: EOF while parsing an object at line 1 column 1",
    ),
    (
        "[1]",
        "invalid type: sequence, expected an object with \"instances\"",
    ),
    ("{}", "the request has neither \"instances\" nor \"inputs\""),
    (
        r#"{"instances": []}"#,
        "\"instances\" is empty; at least one row is needed",
    ),
    (
        r#"{"instances": 5}"#,
        "invalid type: integer `5`, expected \"instances\" to be a list of rows",
    ),
    (
        r#"{"instances": [1, 2]}"#,
        "instances[0]: a number; each row is a list of 2 numbers",
    ),
    (
        r#"{"instances": ["a"]}"#,
        "instances[0]: a string; each row is a list of 2 numbers",
    ),
    (r#"{"instances": [null]}"#, "instances[0]: null; each row"),
    (
        r#"{"instances": [true]}"#,
        "instances[0]: a truth value; each row",
    ),
    (r#"{"instances": [-1]}"#, "instances[0]: a number; each row"),
    (
        r#"{"instances": [1.5]}"#,
        "instances[0]: a number; each row",
    ),
    (
        r#"{"instances": [[1]]}"#,
        "instances[0]: 1 values, model expects 2",
    ),
    (
        r#"{"instances": [[1, 2], [1, 2, 3]]}"#,
        "instances[1]: 3 values, model expects 2",
    ),
    (
        r#"{"instances": [[]]}"#,
        "instances[0]: 0 values, model expects 2",
    ),
    (
        r#"{"instances": [[1, "2"]]}"#,
        "instances[0][1]: a string where a number belongs",
    ),
    (
        r#"{"instances": [[1, [2]]]}"#,
        "instances[0][1]: a list where a number belongs",
    ),
    (
        r#"{"instances": [[1, {"a": 2}]]}"#,
        "instances[0][1]: an object where a number belongs",
    ),
    (
        r#"{"instances": [[1, null]]}"#,
        "instances[0][1]: null (a missing value), this model takes numbers only",
    ),
    (
        r#"{"instances": [[1, NaN]]}"#,
        "JSON has no NaN or Infinity; send null for a missing value (line 1",
    ),
    (
        r#"{"instances": [[1, -Infinity]]}"#,
        "JSON has no NaN or Infinity",
    ),
    (
        r#"{"instances": [[1, Infinity]]}"#,
        "JSON has no NaN or Infinity",
    ),
    (
        r#"{"instances": [[1, 1e999]]}"#,
        "the body is not valid JSON: number out of range",
    ),
    (
        r#"{"instances": [[1, 2]], "inputs": [[1, 2]]}"#,
        "\"inputs\" comes after another list of instances",
    ),
    (
        r#"{"instances": [[1, 2]], "instances": [[1, 2]]}"#,
        "\"instances\" comes after another list",
    ),
    (
        r#"{"instances": [[1, 2]]} x"#,
        "the body is not valid JSON: trailing characters",
    ),
    (
        r#"{"instances": [{"a": 1, "b": 2}]}"#,
        "instances[0]: an object, but the model was fitted without feature names",
    ),
    (
        r#"{"instances": [[1, 2]], "parameters": {"method": "transform"}}"#,
        "unknown method \"transform\"; the model has predict, predict_proba",
    ),
    (
        r#"{"instances": [[1, 2]], "parameters": 5}"#,
        "invalid type: integer `5`",
    ),
    (
        "{\"instances\": [[1, \u{1}2]]}",
        "the body is not valid JSON",
    ),
];

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let unnamed = signature(None, false);
    for (body, start) in REFUSED {
        let message = decode(body, &unnamed).unwrap_err();
        assert!(
            message.starts_with(start),
            "{body}: {message:?}, expected {start:?}"
        );
    }
    let deep = format!("{{\"instances\": {}", "[".repeat(100_000));
    assert!(decode(&deep, &unnamed).is_err());
    assert!(decode_predict(b"{\"instances\": [[1, \"\xff\"]]}", &context(&unnamed)).is_err());
}

#[test]
fn objects_are_checked_against_the_feature_names() {
    let named = signature(Some(["a", "b"]), false);
    let cases = [
        (
            r#"{"instances": [{"a": 1}]}"#,
            "instances[0]: features missing: b",
        ),
        (
            r#"{"instances": [{"a": 1, "c": 2}]}"#,
            "instances[0]: unknown feature \"c\"; the model has a, b",
        ),
        (
            r#"{"instances": [{"d": [{}], "a": 1, "c": null, "d": 1}]}"#,
            "instances[0]: unknown features \"d\", \"c\"; the model has a, b",
        ),
        (
            r#"{"instances": [{}]}"#,
            "instances[0]: features missing: a, b",
        ),
        (
            r#"{"instances": [{"a": 1, "a": 2}]}"#,
            "instances[0]: feature \"a\" occurs twice",
        ),
        (
            r#"{"instances": [{"a": 1, "b": "x"}]}"#,
            "instances[0].b: a string where a number belongs",
        ),
    ];
    for (body, start) in cases {
        let message = decode(body, &named).unwrap_err();
        assert!(message.starts_with(start), "{body}: {message:?}");
    }
}

#[test]
fn the_method_comes_from_the_body_then_the_url_then_the_default() {
    let signature = signature(None, false);
    let plain = br#"{"instances": [[1, 2]]}"#;
    let chosen =
        br#"{"instances": [[1, 2]], "parameters": {"method": "predict_proba", "other": 1}}"#;
    let ctx = |method| DecodeContext {
        method,
        ..context(&signature)
    };
    assert_eq!(decode_predict(plain, &ctx(None)).unwrap().outputs, [0]);
    assert_eq!(
        decode_predict(plain, &ctx(Some("predict_proba")))
            .unwrap()
            .outputs,
        [1]
    );
    assert_eq!(
        decode_predict(chosen, &ctx(Some("predict")))
            .unwrap()
            .outputs,
        [1]
    );
}

#[test]
fn a_deadline_and_a_priority_of_the_body_reach_the_call_of_a_table() {
    let signature = signature(None, false);
    let body = r#"{"instances": [[1, 2]], "parameters": {"timeout": 2500, "priority": 3}}"#;
    let call = decode(body, &signature).unwrap();
    assert_eq!(call.timeout, Some(std::time::Duration::from_micros(2_500)));
    assert_eq!(call.priority, 3);
    let plain = decode(r#"{"instances": [[1, 2]]}"#, &signature).unwrap();
    assert_eq!((plain.timeout, plain.priority), (None, 0));
}

#[test]
fn too_many_elements_are_refused() {
    let body = format!("{{\"instances\": [{}[1, 2]]}}", "[1, 2],".repeat(600));
    let message = decode(&body, &signature(None, false)).unwrap_err();
    assert!(message.starts_with("more than 1000 values"), "{message}");
}

#[test]
fn predictions_are_rendered_by_row() {
    let signature = signature(None, false);
    let render = |outputs: &[usize], tensors: &[Tensor]| {
        let call = Call {
            inputs: vec![],
            outputs: outputs.to_vec(),
            n_rows: tensors[0].n_rows(),
            ..Call::default()
        };
        let mut out = Vec::new();
        encode_predict(&signature, &call, tensors, &mut out);
        String::from_utf8(out).unwrap()
    };
    let labels: ByteStrings = ["set\"osa", "é"].into_iter().collect();
    let matrix = Tensor::try_new(
        vec![2, 2],
        Values::F64(vec![0.1, 0.9, f64::NAN, 1.0].into()),
    )
    .unwrap();
    let integers = Tensor::from_values(Values::I64(vec![0, -2].into()));
    let cases = [
        (
            render(&[0], std::slice::from_ref(&integers)),
            r#"{"predictions":[0,-2]}"#,
        ),
        (
            render(
                &[0],
                &[Tensor::from_values(Values::F64(
                    vec![1.0, 1e-7, 1e300].into(),
                ))],
            ),
            r#"{"predictions":[1.0,1e-7,1e300]}"#,
        ),
        (
            render(
                &[0],
                &[Tensor::from_values(Values::Bool(vec![true, false]))],
            ),
            r#"{"predictions":[true,false]}"#,
        ),
        (
            render(&[0], &[Tensor::from_values(Values::Bytes(labels))]),
            r#"{"predictions":["set\"osa","é"]}"#,
        ),
        (
            render(&[1], std::slice::from_ref(&matrix)),
            r#"{"predictions":[[0.1,0.9],[null,1.0]]}"#,
        ),
        (
            render(&[0, 1], &[integers, matrix]),
            r#"{"predictions":[{"predict":0,"predict_proba":[0.1,0.9]},{"predict":-2,"predict_proba":[null,1.0]}]}"#,
        ),
    ];
    for (rendered, expected) in cases {
        assert_eq!(rendered, expected);
    }
}

#[test]
fn doubles_survive_the_wire_bit_by_bit() {
    let signature = signature(None, false);
    let mut bits = 0x3fb9_9999_9999_999a_u64;
    for _ in 0..2_000 {
        bits = bits
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let value = f64::from_bits(bits);
        if !value.is_finite() {
            continue;
        }
        let body = format!("{{\"instances\": [[{value:?}, {value:e}]]}}");
        let call = decode(&body, &signature).unwrap();
        assert_eq!(table(&call).1[0].to_bits(), value.to_bits(), "{body}");
        assert_eq!(table(&call).1[1].to_bits(), value.to_bits(), "{body}");
        let mut out = Vec::new();
        encode_predict(
            &signature,
            &Call {
                outputs: vec![0],
                ..call
            },
            &[Tensor::from_values(Values::F64(vec![value].into()))],
            &mut out,
        );
        let text = String::from_utf8(out).unwrap();
        let number = text
            .trim_start_matches("{\"predictions\":[")
            .trim_end_matches("]}");
        assert_eq!(
            number.parse::<f64>().unwrap().to_bits(),
            value.to_bits(),
            "{number}"
        );
    }
}

/// As MLflow's server answers what its ONNX flavour gives: an object of outputs; and everything else, whatever was sent.
#[test]
fn invocations_are_answered_with_predictions_alone() {
    let signature = signature(None, false);
    let render = |outputs: &[usize], tensors: &[Tensor], layout| {
        let call = Call {
            outputs: outputs.to_vec(),
            n_rows: 2,
            layout,
            ..Call::default()
        };
        let mut out = Vec::new();
        encode_invocations(&signature, &call, tensors, &mut out);
        String::from_utf8(out).unwrap()
    };
    let labels = Tensor::from_values(Values::I64(vec![0, -2].into()));
    let values = Values::F64(vec![0.1, 0.9, f64::NAN, 1.0].into());
    let matrix = Tensor::try_new(vec![2, 2], values).unwrap();
    for layout in [Layout::Rows, Layout::Columns, Layout::Both] {
        assert_eq!(
            render(&[1], std::slice::from_ref(&matrix), layout),
            r#"{"predictions":[[0.1,0.9],[null,1.0]]}"#
        );
        let both = [labels.clone(), matrix.clone()];
        assert_eq!(
            render(&[0, 1], &both, layout),
            r#"{"predictions":{"predict":[0,-2],"predict_proba":[[0.1,0.9],[null,1.0]]}}"#
        );
    }
}

#[test]
fn damaged_bodies_are_errors_or_requests_never_panics() {
    let named = signature(Some(["a", "b"]), true);
    let bodies = [
        r#"{"instances": [[1.5, null], {"a": -2e3, "b": true}], "parameters": {"method": "predict"}}"#,
        r#"{"inputs": [[1, 2]], "x": "é\n"}"#,
    ];
    for body in bodies {
        for end in 0..body.len() {
            assert!(decode_predict(&body.as_bytes()[..end], &context(&named)).is_err());
        }
        for position in 0..body.len() {
            for byte in [0, b'"', b'[', b'}', b'-', b'e', b'9', 0xff] {
                let mut damaged = body.as_bytes().to_vec();
                damaged[position] = byte;
                drop(decode_predict(&damaged, &context(&named)));
            }
        }
    }
}

#[test]
fn a_table_of_numbers_may_come_by_column() {
    let named = signature(Some(["a", "b"]), true);
    let call = decode(r#"{"inputs": {"b": [3, null], "a": [1.5, true]}}"#, &named).unwrap();
    assert_eq!(call.n_rows, 2);
    let (shape, values) = table(&call);
    assert_eq!((shape, &values[..3]), (&[2, 2][..], &[1.5, 3.0, 1.0][..]));
    assert!(values[3].is_nan());
    let cases = [
        (r#"{"a": [1]}"#, "inputs: features missing: b"),
        (
            r#"{"a": [1], "c": [1]}"#,
            "inputs: unknown feature \"c\"; the model has a, b",
        ),
        (
            r#"{"d": [1], "a": [1], "c": 7}"#,
            "inputs: unknown features \"d\", \"c\"; the model has a, b",
        ),
        (
            r#"{"a": [1], "b": [1, 2]}"#,
            "inputs: feature \"b\" has 2 values, others have 1",
        ),
        (
            r#"{"a": [1], "a": [1]}"#,
            "inputs: feature \"a\" occurs twice",
        ),
        (
            r#"{"a": [], "b": []}"#,
            "\"inputs\" is empty; at least one row is needed",
        ),
        (
            r#"{"a": [1], "b": ["x"]}"#,
            "inputs[0].b: a string where a number belongs",
        ),
        (
            r#"{"a": [1], "b": 5}"#,
            "expected feature \"b\" to be a list of values",
        ),
    ];
    for (columns, message) in cases {
        let error = decode(&format!(r#"{{"inputs": {columns}}}"#), &named).unwrap_err();
        assert!(error.contains(message), "{error}");
    }
    let unnamed = decode(r#"{"inputs": {"a": [1]}}"#, &signature(None, false)).unwrap_err();
    assert!(
        unnamed.contains("fitted without feature names"),
        "{unnamed}"
    );
    let many = format!(r#"{{"inputs": {{"a": [{}1]}}}}"#, "1, ".repeat(600));
    let error = decode(&many, &named).unwrap_err();
    assert!(error.contains("more than 1000 values"), "{error}");
}

#[test]
fn data_frames_are_read_as_mlflow_sends_them() {
    let named = signature(Some(["a", "b"]), true);
    let unnamed = signature(None, true);
    let table = |body: &str, signature: &Signature| {
        let call = decode(body, signature)?;
        assert_eq!(call.layout, Layout::Rows);
        Ok::<_, String>(call.inputs[0].values().to_f64s().unwrap().into_owned())
    };
    let good = [
        (
            r#"{"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2], [3, 4]]}}"#,
            [1.0, 2.0, 3.0, 4.0],
        ),
        (
            r#"{"dataframe_split": {"index": [7, 9], "columns": ["b", "a"], "data": [[1, 2], [3, 4]]}}"#,
            [2.0, 1.0, 4.0, 3.0],
        ),
        (
            r#"{"dataframe_split": {"data": [[1, 2], [3, 4]], "columns": ["b", "a"]}, "params": {}}"#,
            [2.0, 1.0, 4.0, 3.0],
        ),
        (
            r#"{"dataframe_split": {"data": [[1, 2], [3, 4]]}}"#,
            [1.0, 2.0, 3.0, 4.0],
        ),
        (
            r#"{"dataframe_records": [{"a": 1, "b": 2}, {"b": 4, "a": 3}]}"#,
            [1.0, 2.0, 3.0, 4.0],
        ),
    ];
    for (body, expected) in good {
        assert_eq!(table(body, &named).unwrap(), expected, "{body}");
    }
    // Without names of its own a model takes the columns as they come.
    for columns in [r#"["b", "a"]"#, "[0, 1]"] {
        let body = format!(r#"{{"dataframe_split": {{"columns": {columns}, "data": [[1, 2]]}}}}"#);
        assert_eq!(table(&body, &unnamed).unwrap(), [1.0, 2.0]);
    }
}

#[test]
fn data_frames_that_are_none_are_refused() {
    let named = signature(Some(["a", "b"]), true);
    let bad = [
        (
            r#"{"columns": ["a", "b"], "data": [[1, 2, 3]]}"#,
            "dataframe_split[0]: more values than the 2 columns",
        ),
        (
            r#"{"columns": ["a", "b"], "data": [[1, 2], [1]]}"#,
            "dataframe_split[1]: fewer values than the 2 columns",
        ),
        (
            r#"{"columns": ["a", "c"], "data": [[1, 2]]}"#,
            "dataframe_split[0]: unknown feature \"c\"; the model has a, b",
        ),
        (
            r#"{"columns": ["d", "a", "c"], "data": [[1, 2, 3]]}"#,
            "dataframe_split[0]: unknown features \"d\", \"c\"; the model has a, b",
        ),
        (
            r#"{"columns": ["a"], "data": [[1]]}"#,
            "dataframe_split[0]: features missing: b",
        ),
        (
            r#"{"columns": ["a", "a"], "data": [[1, 2]]}"#,
            "dataframe_split[0]: feature \"a\" occurs twice",
        ),
        (
            r#"{"columns": ["a", "b"], "data": [["x", 2]]}"#,
            "dataframe_split[0].a",
        ),
        (
            r#"{"columns": ["a", "b"], "data": []}"#,
            "\"dataframe_split\" is empty",
        ),
        (r#"{"columns": ["a", "b"]}"#, "\"data\" is missing"),
        (
            r#"{"columns": ["a", "b"], "data": [[1, 2]], "index": [7], "dtypes": []}"#,
            "dataframe_split: unknown key \"dtypes\"; it has \"columns\", \"data\" and \"index\"",
        ),
        (r#"{"columns": "a", "data": [[1]]}"#, "expected a sequence"),
        (
            r#"{"columns": [null, "b"], "data": [[1, 2]]}"#,
            "dataframe_split.columns to be a list of names",
        ),
        (
            r#"{"columns": [], "columns": [], "data": []}"#,
            "\"columns\" comes twice",
        ),
        (
            r#"{"data": 3}"#,
            "dataframe_split.data to be a list of rows",
        ),
        (
            r#"{"data": [[1]]}"#,
            "dataframe_split[0]: 1 values, model expects 2",
        ),
        ("[1]", "\"dataframe_split\" to be an object"),
    ];
    for (split, message) in bad {
        let body = format!(r#"{{"dataframe_split": {split}}}"#);
        let error = decode(&body, &named).unwrap_err();
        assert!(error.contains(message), "{split}: {error}");
        assert_eq!(error.matches(" at line ").count(), 1, "{error}");
    }
    let two = r#"{"instances": [[1, 2]], "dataframe_records": [{"a": 1, "b": 2}]}"#;
    assert!(decode(two, &named).unwrap_err().contains("send one"));
}

#[test]
fn rows_may_stand_under_the_name_of_the_only_input() {
    let body = r#"{"instances": [{"X": [1, 2]}, [3, 4], {"X": [5, 6]}]}"#;
    let call = decode(body, &signature(None, false)).unwrap();
    let (shape, values) = table(&call);
    assert_eq!(shape, [3, 2]);
    assert_eq!(values, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    for (row, message) in [
        (r#"{"X": [1]}"#, "instances[0]: 1 values, model expects 2"),
        (r#"{"X": {"X": [1, 2]}}"#, "instances[0]: an object, but"),
        (r#"{"x": [1, 2]}"#, "instances[0]: an object, but"),
        ("{}", "instances[0]: an object, but"),
        (
            r#"{"X": [1, 2], "Y": 3}"#,
            "instances[0]: \"Y\" beside \"X\", which is the model's only input",
        ),
        (r#"{"X": [1, 2], "X": [1, 2]}"#, "\"X\" beside \"X\""),
    ] {
        let body = format!(r#"{{"instances": [{row}]}}"#);
        let error = decode(&body, &signature(None, false)).unwrap_err();
        assert!(error.contains(message), "{row}: {error}");
    }
}

#[test]
fn plain_values_are_rows_of_one_column() {
    let mut signature = signature(None, true);
    signature.inputs[0].shape = vec![None, Some(1)];
    let call = decode(r#"{"instances": [1, -2.5, [3], null, true]}"#, &signature).unwrap();
    let (shape, values) = table(&call);
    assert_eq!(shape, [5, 1]);
    assert_eq!(values[..3], [1.0, -2.5, 3.0]);
    assert!(values[3].is_nan() && values[4] == 1.0);
    let cases = [
        (
            r#"{"instances": ["x"]}"#,
            "instances[0][0]: a string where a number belongs",
        ),
        (
            r#"{"instances": [1, {"a": 1}]}"#,
            "instances[1]: an object, but the model was fitted without feature names",
        ),
    ];
    for (body, message) in cases {
        let error = decode(body, &signature).unwrap_err();
        assert!(error.contains(message), "{error}");
    }
    signature.inputs[0].accepts_missing = false;
    let error = decode(r#"{"instances": [1, null]}"#, &signature).unwrap_err();
    assert!(error.contains("instances[1][0]: "), "{error}");
}

#[test]
fn neighbours_are_two_outputs_of_one_method() {
    let mut signature = signature(None, false);
    for (output, name) in [(0, "kneighbors_distances"), (1, "kneighbors_indices")] {
        signature.outputs[output].name = name.to_owned();
    }
    let body = |method: &str| {
        format!(r#"{{"instances": [[1, 2]], "parameters": {{"method": "{method}"}}}}"#)
    };
    let asked = |method: &str| decode(&body(method), &signature).map(|call| call.outputs);
    assert_eq!(asked("kneighbors"), Ok(vec![0, 1]));
    assert_eq!(asked("kneighbors_indices"), Ok(vec![1]));
    signature.outputs[1].name = "predict".to_owned();
    let error = decode(&body("kneighbors"), &signature).unwrap_err();
    assert!(
        error.starts_with("unknown method \"kneighbors\""),
        "{error}"
    );
}
