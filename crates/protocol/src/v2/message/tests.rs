//! Requests to messages and back. What is raw is little-endian, as Triton's description of the extension says.

use super::*;
use crate::grpc::frame;

fn message(body: &[u8], json_length: Option<usize>) -> Result<(ModelInferRequest, Forms), String> {
    let read = to_message(&Bytes::copy_from_slice(body), json_length, 100);
    let (message, forms) = read.map_err(|error| error.to_string())?;
    Ok((decode(message).unwrap(), forms))
}

fn of_json(json: &str) -> Result<(ModelInferRequest, Forms), String> {
    message(json.as_bytes(), None)
}

fn floats(values: &[f32]) -> Vec<u8> {
    let bytes = values.iter().map(|value| value.to_le_bytes());
    bytes.flatten().collect()
}

#[test]
fn json_becomes_raw_contents_with_its_parameters() {
    let json = r#"{"id": "7", "parameters": {"binary_data_output": true, "timeout": 5, "who": "me", "list": [1]},
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2], "data": [[1.5, null]], "parameters": {"content_type": "np"}},
                   {"name": "t", "datatype": "BYTES", "shape": [1], "data": ["ab"]}],
        "outputs": [{"name": "y", "parameters": {"binary_data": false, "classification": 2}}, {"name": "z"}]}"#;
    let (request, forms) = of_json(json).unwrap();
    assert_eq!(request.id, "7");
    let names: Vec<&str> = request.parameters.keys().map(String::as_str).collect();
    assert_eq!(names, ["timeout", "who"]);
    assert_eq!(request.inputs[0].shape, [1, 2]);
    assert!(request.inputs[0].parameters.contains_key("content_type"));
    assert_eq!(request.raw_input_contents[0], floats(&[1.5, f32::NAN]));
    assert_eq!(request.raw_input_contents[1], b"\x02\0\0\0ab".as_slice());
    let asked: Vec<(&str, usize)> = request
        .outputs
        .iter()
        .map(|output| (output.name.as_str(), output.parameters.len()))
        .collect();
    assert_eq!(asked, [("y", 1), ("z", 0)]);
    assert!(!forms.is_raw("y") && forms.is_raw("z"));
}

#[test]
fn raw_data_stays_as_it_is() {
    let json = br#"{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}},
        {"name": "r", "datatype": "FP32", "shape": [1], "parameters": {"shared_memory_region": "s", "shared_memory_byte_size": 4}}]}"#;
    let body = [json.as_slice(), &floats(&[1.0, f32::NAN])].concat();
    let (request, forms) = message(&body, Some(json.len())).unwrap();
    assert_eq!(request.raw_input_contents, [floats(&[1.0, f32::NAN])]);
    assert!(request.inputs[0].parameters.is_empty() && request.inputs[1].parameters.len() == 2);
    assert!(!forms.is_raw("any"));
    let longer = [body.as_slice(), b"x"].concat();
    let error = message(&longer, Some(json.len())).unwrap_err();
    assert!(error.contains("1 bytes follow"), "{error}");
    for length in [0, body.len() + 1] {
        assert!(message(&body, Some(length)).is_err(), "{length}");
    }
    for cut in 0..body.len() {
        assert!(message(&body[..cut], Some(json.len())).is_err(), "{cut}");
    }
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let of_input = |fields: &str| {
        of_json(&format!(
            r#"{{"inputs": [{{"name": "x", "shape": [2], {fields}}}]}}"#
        ))
    };
    for (fields, words) in [
        (r#""datatype": "FP32""#, "inputs[0]: \"data\" is missing"),
        (
            r#""datatype": "F", "data": [1, 2]"#,
            "unknown datatype \"F\"",
        ),
        (r#""datatype": "FP32", "data": [1]"#, "inputs[0]"),
        (r#""datatype": "INT8", "data": [1, 300]"#, "inputs[0]"),
        (
            r#""datatype": "BYTES", "data": ["a", null]"#,
            "null among texts",
        ),
        (
            r#""datatype": "FP32", "data": [1, 2], "parameters": {"binary_data_size": 8}"#,
            "exclude each other",
        ),
        (
            r#""datatype": "FP32", "parameters": {"binary_data_size": 8}"#,
            "without the header",
        ),
    ] {
        let error = of_input(fields).unwrap_err();
        assert!(error.contains(words), "{fields}: {error}");
    }
    let many = format!(
        r#"{{"inputs": [{{"name": "x", "datatype": "FP32", "shape": [101], "data": {:?}}}]}}"#,
        [0; 101]
    );
    assert!(of_json(&many).is_err());
}

fn answer() -> ModelInferResponse {
    let output = |name: &str, datatype: &str| InferOutputTensor {
        name: name.to_owned(),
        datatype: datatype.to_owned(),
        shape: vec![1, 2],
        ..InferOutputTensor::default()
    };
    let fallback = InferParameter {
        parameter_choice: Some(ParameterChoice::StringParam("constant".to_owned())),
    };
    ModelInferResponse {
        model_name: "last".to_owned(),
        model_version: "1".to_owned(),
        id: "7".to_owned(),
        parameters: [("fallback".to_owned(), fallback)].into(),
        outputs: vec![output("y", "FP32"), output("z", "INT8")],
        raw_output_contents: vec![floats(&[0.5, 2.0]).into(), Bytes::from_static(&[1, 255])],
    }
}

#[test]
fn answers_have_each_output_as_it_was_asked_for() {
    let forms = Forms {
        raw: true,
        by_name: [("z".to_owned(), false)].into(),
    };
    let (body, json_length) = from_message(&frame(&answer()), &forms, 100).unwrap();
    let (json, raw) = body.split_at(json_length.unwrap());
    let json: serde_json::Value = serde_json::from_slice(json).unwrap();
    let expected = serde_json::json!({
        "parameters": {"fallback": "constant"}, "model_name": "last", "model_version": "1", "id": "7",
        "outputs": [
            {"name": "y", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}},
            {"name": "z", "shape": [1, 2], "datatype": "INT8", "data": [1, -1]}
        ]
    });
    assert_eq!((json, raw), (expected, floats(&[0.5, 2.0]).as_slice()));
    let (body, json_length) = from_message(&frame(&answer()), &Forms::default(), 100).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(json_length, None);
    assert_eq!(json["outputs"][0]["data"], serde_json::json!([0.5, 2.0]));
}

#[test]
fn damaged_answers_are_refused() {
    let framed = frame(&answer());
    for cut in 0..framed.len() {
        drop(from_message(&framed[..cut], &Forms::default(), 100));
    }
    let mut bare = answer();
    bare.raw_output_contents.clear();
    let mut other = answer();
    other.outputs[0].datatype = "F".to_owned();
    for broken in [bare, other] {
        let error = from_message(&frame(&broken), &Forms::default(), 100).unwrap_err();
        assert_eq!(error.code(), coracle_base::Code::Internal);
    }
    assert!(from_message(&framed, &Forms::default(), 1).is_err());
}

#[test]
fn who_says_nothing_of_outputs_is_told_apart() {
    for (json, expected) in [
        (r#"{"inputs": []}"#, false),
        (r#"{"outputs": [{"name": "y"}]}"#, true),
        (r#"{"parameters": {"binary_data_output": true}}"#, true),
    ] {
        assert_eq!(asks_for_outputs(json.as_bytes()), expected, "{json}");
    }
}
