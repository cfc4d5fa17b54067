//! V1 bodies of models that take other tensors than a table of doubles, and answers whose columns have names.

use coracle_model::{Signature, TensorSpec};
use coracle_tensor::{DType, Tensor, Values};

use super::tests::context;
use super::{decode_predict, encode_predict};
use crate::{Call, tfs};

fn spec(name: &str, dtype: DType, shape: &[Option<usize>]) -> TensorSpec {
    TensorSpec {
        name: name.to_owned(),
        dtype,
        shape: shape.to_vec(),
        columns: None,
        accepts_missing: false,
        accepts_integers: false,
    }
}

/// Every output whose columns have names is keyed here.
fn keyed(outputs: &[TensorSpec]) -> Vec<usize> {
    let indices = 0..outputs.len();
    indices
        .filter(|&index| outputs[index].columns.is_some())
        .collect()
}

fn signature(inputs: Vec<TensorSpec>, outputs: Vec<TensorSpec>) -> Signature {
    Signature {
        keyed_outputs: keyed(&outputs),
        keyed_inputs: Vec::new(),
        unranked_inputs: Vec::new(),
        name_rules: Default::default(),
        default_outputs: (0..outputs.len()).collect(),
        inputs,
        outputs,
        columns: None,
    }
}

fn decode(body: &str, inputs: &[TensorSpec]) -> Result<Call, String> {
    let output = spec("y", DType::F32, &[None]);
    let signature = signature(inputs.to_vec(), vec![output]);
    let call = decode_predict(body.as_bytes(), &context(&signature));
    call.map_err(|error| error.to_string())
}

#[test]
fn instances_become_tensors_of_any_rank_and_datatype() {
    let cube = [spec("a", DType::F32, &[None, Some(2), Some(2)])];
    let call = decode(
        r#"{"instances": [[[1, 2], [3, 4]], [[5, 6], [7, 8.5]]]}"#,
        &cube,
    )
    .unwrap();
    let expected = Values::F32(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.5].into());
    assert_eq!(
        call.inputs,
        [Tensor::try_new(vec![2, 2, 2], expected).unwrap()]
    );
    assert_eq!(call.n_rows, 2);
    let two = [
        spec("text", DType::Bytes, &[None, Some(1)]),
        spec("n", DType::I64, &[None, Some(2)]),
    ];
    let body = r#"{"instances": [{"n": [1, 9007199254740993], "text": ["a"]}, {"text": ["b"], "n": [3, 4]}]}"#;
    let call = decode(body, &two).unwrap();
    let texts = Values::Bytes(["a", "b"].into_iter().collect());
    let numbers = Values::I64(vec![1, 9_007_199_254_740_993, 3, 4].into());
    assert_eq!(
        call.inputs,
        [
            Tensor::try_new(vec![2, 1], texts).unwrap(),
            Tensor::try_new(vec![2, 2], numbers).unwrap()
        ]
    );
}

#[test]
fn a_table_of_any_number_takes_rows() {
    let table = [spec("X", DType::F32, &[None, Some(2)])];
    let call = decode(r#"{"instances": [[1, 2.5]]}"#, &table).unwrap();
    let expected = Tensor::try_new(vec![1, 2], Values::F64(vec![1.0, 2.5].into())).unwrap();
    assert_eq!(call.inputs, [expected]);
}

#[test]
fn complaints_name_the_instance_and_input() {
    let cube = [spec("a", DType::F32, &[None, Some(2), Some(2)])];
    let two = [
        spec("a", DType::F32, &[None, Some(3)]),
        spec("b", DType::F32, &[None, Some(1)]),
    ];
    let cases: [(&str, &[TensorSpec], &str); 7] = [
        (
            r#"{"instances": [[[1, 2], [3]]]}"#,
            &cube,
            "instances: data is ragged",
        ),
        (r#"{"instances": []}"#, &cube, "\"instances\" is empty"),
        (r#"{"rows": 1}"#, &cube, "neither \"instances\" nor"),
        (
            r#"{"instances": [[1, 2]]}"#,
            &two,
            "is no list of objects with a value for each input: a, b",
        ),
        (
            r#"{"instances": [{"a": [1, 2, 3]}]}"#,
            &two,
            "instances[0]: input \"b\" is missing",
        ),
        (
            r#"{"instances": [{"a": [1, 2, 3], "b": 1}, {}]}"#,
            &two,
            "instances[1]: inputs \"a\", \"b\" are missing",
        ),
        (
            r#"{"instances": [{"a": 1, "c": 2}]}"#,
            &two,
            "instances[0]: unknown input \"c\"; the model has a, b",
        ),
    ];
    for (body, inputs, part) in cases {
        let error = decode(body, inputs).unwrap_err();
        assert!(error.contains(part), "{body}: {error}");
    }
}

#[test]
fn a_deadline_and_a_priority_of_the_body_reach_the_call_of_other_tensors() {
    let cube = [spec("a", DType::F32, &[None, Some(1), Some(1)])];
    let body = r#"{"instances": [[[1]]], "parameters": {"timeout": 2500, "priority": 3}}"#;
    let call = decode(body, &cube).unwrap();
    assert_eq!(call.timeout, Some(std::time::Duration::from_micros(2_500)));
    assert_eq!(call.priority, 3);
}

fn answer(outputs: Vec<TensorSpec>, tensors: &[Tensor], n_rows: usize) -> String {
    let signature = signature(vec![spec("X", DType::F32, &[None, Some(2)])], outputs);
    let call = Call {
        outputs: (0..tensors.len()).collect(),
        n_rows,
        ..Call::default()
    };
    let mut out = Vec::new();
    encode_predict(&signature, &call, tensors, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn columns_with_names_become_objects() {
    let mut scores = spec("p", DType::F32, &[None, Some(2)]);
    scores.columns = Some(vec!["no".to_owned(), "y\"es".to_owned()]);
    let values = Values::F32(vec![0.25, 0.75, 1.0, f32::NAN].into());
    let scores_tensor = Tensor::try_new(vec![2, 2], values).unwrap();
    assert_eq!(
        answer(
            vec![scores.clone()],
            std::slice::from_ref(&scores_tensor),
            2
        ),
        r#"{"predictions":[{"no":0.25,"y\"es":0.75},{"no":1.0,"y\"es":null}]}"#
    );
    let labels = Tensor::from_values(Values::I64(vec![1, 0].into()));
    assert_eq!(
        answer(
            vec![spec("label", DType::I64, &[None]), scores],
            &[labels, scores_tensor],
            2
        ),
        r#"{"predictions":[{"label":1,"p":{"no":0.25,"y\"es":0.75}},{"label":0,"p":{"no":1.0,"y\"es":null}}]}"#
    );
}

#[test]
fn outputs_that_have_no_row_for_each_instance_are_given_whole() {
    let total = Tensor::try_new(vec![], Values::I64(vec![7].into())).unwrap();
    assert_eq!(
        answer(vec![spec("n", DType::I64, &[])], &[total], 3),
        r#"{"predictions":7}"#
    );
}

#[test]
fn texts_of_a_keyed_output_are_the_json_that_they_hold() {
    let texts =
        |texts: &[&str]| Tensor::from_values(Values::Bytes(texts.iter().copied().collect()));
    let outputs = vec![
        spec("entities", DType::Bytes, &[None]),
        spec("label", DType::Bytes, &[None]),
    ];
    let mut signature = signature(vec![spec("a", DType::F32, &[None])], outputs);
    signature.keyed_outputs = vec![0];
    let lists = texts(&[r#"[{"word":"a"}]"#, "[]"]);
    let answer = |body: &str, outputs: &[usize], answers: &[Tensor]| {
        let mut call = decode_predict(body.as_bytes(), &context(&signature)).unwrap();
        call.outputs = outputs.to_vec();
        let mut out = Vec::new();
        encode_predict(&signature, &call, answers, &mut out);
        String::from_utf8(out).unwrap()
    };
    let rows = r#"{"instances": [1, 2]}"#;
    assert_eq!(
        answer(rows, &[0], std::slice::from_ref(&lists)),
        r#"{"predictions":[[{"word":"a"}],[]]}"#
    );
    assert_eq!(
        answer(rows, &[0, 1], &[lists.clone(), texts(&["x", "[]"])]),
        r#"{"predictions":[{"entities":[{"word":"a"}],"label":"x"},{"entities":[],"label":"[]"}]}"#
    );
    let columns = r#"{"inputs": [1, 2]}"#;
    assert_eq!(
        answer(columns, &[0], std::slice::from_ref(&lists)),
        r#"{"predictions":[[{"word":"a"}],[]],"outputs":[[{"word":"a"}],[]]}"#
    );
}

#[test]
fn what_is_no_tensor_comes_as_the_json_that_it_is() {
    let outputs = || vec![spec("y", DType::F32, &[None])];
    let map = spec("m", DType::Bytes, &[None]);
    let mut maps = signature(vec![map], outputs());
    maps.keyed_inputs = vec![0];
    let decode = |signature: &Signature, body: &str| {
        let ctx = context(signature);
        let call = decode_predict(body.as_bytes(), &ctx);
        let call = call.or_else(|error| tfs::decode_columns(body.as_bytes(), &ctx, error));
        call.map_err(|error| error.to_string())
    };
    let texts =
        |texts: &[&str]| Tensor::from_values(Values::Bytes(texts.iter().copied().collect()));
    let two = texts(&[r#"{"a": 1}"#, r#"{"b": 2.5, "m": 3}"#]);
    for body in [
        r#"{"instances": [{"a": 1}, {"b": 2.5, "m": 3}]}"#,
        r#"{"inputs": [{"a": 1}, {"b": 2.5, "m": 3}]}"#,
        r#"{"instances": [{"m": {"a": 1}}, {"m": {"b": 2.5, "m": 3}}]}"#,
        r#"{"inputs": {"m": [{"a": 1}, {"b": 2.5, "m": 3}]}}"#,
    ] {
        let call = decode(&maps, body).unwrap();
        assert_eq!(call.inputs, std::slice::from_ref(&two), "{body}");
        assert_eq!(call.n_rows, 2);
    }
    // A map whose only key is the input's name.
    let call = decode(&maps, r#"{"instances": [{"m": 3}]}"#).unwrap();
    assert_eq!(call.inputs, [texts(&[r#"{"m": 3}"#])]);
    assert!(
        decode(&maps, r#"{"instances": []}"#)
            .unwrap_err()
            .contains("empty")
    );
    // A sequence of any length, something that may not be there, and a tensor without dimensions.
    let inputs = vec![
        spec("s", DType::Bytes, &[None]),
        spec("o", DType::Bytes, &[]),
        spec("k", DType::I64, &[]),
    ];
    let mut several = signature(inputs, outputs());
    several.keyed_inputs = vec![0, 1];
    let body = r#"{"inputs": {"k": 7, "s": [[1, 2], [[]]], "o": null}}"#;
    let call = decode(&several, body).unwrap();
    let nothing = Values::Bytes(["null"].into_iter().collect());
    let expected = [
        texts(&["[1, 2]", "[[]]"]),
        Tensor::try_new(Vec::new(), nothing).unwrap(),
        Tensor::try_new(Vec::new(), Values::I64(vec![7].into())).unwrap(),
    ];
    assert_eq!(call.inputs, expected);
    let call = decode(&several, r#"{"inputs": {"k": 7, "s": [], "o": [1]}}"#).unwrap();
    assert_eq!(call.inputs[0].shape(), [0]);
    let call = decode(
        &several,
        r#"{"instances": [{"k": 7, "s": [1, 2], "o": null}]}"#,
    )
    .unwrap();
    assert_eq!(
        call.inputs,
        [texts(&["[1, 2]"]), expected[1].clone(), expected[2].clone()]
    );
    let error = decode(
        &several,
        r#"{"instances": [{"k": 7, "s": 1, "o": 1}, {"k": 7, "s": 1, "o": 2}]}"#,
    );
    assert!(error.unwrap_err().contains("2 values, the model takes one"));
    let error = decode(&several, r#"{"inputs": {"k": 7, "s": 1, "o": 1}}"#).unwrap_err();
    assert!(error.contains("\"s\": a list belongs there"), "{error}");
}

#[test]
fn an_input_of_any_number_of_dimensions_is_as_its_lists_are() {
    let x = spec("x", DType::F32, &[None]);
    let k = spec("k", DType::F32, &[None, Some(2)]);
    let outputs = || vec![spec("y", DType::F32, &[None])];
    let mut alone = signature(vec![x.clone()], outputs());
    alone.unranked_inputs = vec![0];
    let mut beside = signature(vec![x, k], outputs());
    beside.unranked_inputs = vec![0];
    let shape = |signature: &Signature, body: &str| {
        let ctx = context(signature);
        let call = decode_predict(body.as_bytes(), &ctx);
        let call = call.or_else(|error| tfs::decode_columns(body.as_bytes(), &ctx, error));
        let call = call.map_err(|error| error.to_string())?;
        Ok::<_, String>(call.inputs[0].shape().to_vec())
    };
    for (json, expected) in [
        ("7", &[][..]),
        ("[7]", &[1]),
        ("[1, 2, 3]", &[3]),
        ("[[1, 2], [3, 4]]", &[2, 2]),
        ("[[[1, 2]], [[3, 4]]]", &[2, 1, 2]),
    ] {
        let bodies = [
            (&alone, format!(r#"{{"inputs": {json}}}"#)),
            (&alone, format!(r#"{{"inputs": {{"x": {json}}}}}"#)),
            (
                &beside,
                format!(r#"{{"inputs": {{"x": {json}, "k": [[1, 2]]}}}}"#),
            ),
        ];
        for (signature, body) in bodies {
            assert_eq!(shape(signature, &body).as_deref(), Ok(expected), "{body}");
        }
    }
    let rows = r#"{"instances": [[[1, 2]], [[3, 4]]]}"#;
    assert_eq!(shape(&alone, rows).as_deref(), Ok(&[2, 1, 2][..]));
    let uneven = shape(&alone, r#"{"inputs": {"x": [[1, 2], [3]]}}"#).unwrap_err();
    assert!(uneven.contains("inputs[0]"), "{uneven}");
    let deep = format!(
        r#"{{"inputs": {{"x": {}}}}}"#,
        "[".repeat(40) + &"]".repeat(40)
    );
    assert!(shape(&alone, &deep).is_err());
}

#[test]
fn an_input_without_dimensions_takes_a_number_as_it_is() {
    let inputs = vec![spec("x", DType::F32, &[])];
    let signature = signature(inputs, vec![spec("y", DType::F32, &[])]);
    let ctx = context(&signature);
    let three = Tensor::try_new(Vec::new(), Values::F32(vec![3.0].into())).unwrap();
    for body in [
        r#"{"instances": [3]}"#,
        r#"{"inputs": [3]}"#,
        r#"{"inputs": 3}"#,
    ] {
        let call = decode_predict(body.as_bytes(), &ctx).unwrap();
        assert_eq!(call.inputs, std::slice::from_ref(&three), "{body}");
    }
    for body in [
        r#"{"instances": 3}"#,
        r#"{"inputs": "3"}"#,
        r#"{"inputs": null}"#,
    ] {
        assert!(decode_predict(body.as_bytes(), &ctx).is_err(), "{body}");
    }
}

#[test]
fn a_value_that_may_not_be_there_is_the_json_that_it_is() {
    let outputs = vec![spec("o", DType::Bytes, &[])];
    let mut signature = signature(vec![spec("a", DType::F32, &[None])], outputs);
    signature.keyed_outputs = vec![0];
    let call = Call {
        outputs: vec![0],
        n_rows: 2,
        ..Call::default()
    };
    let texts = Values::Bytes(["[[1.5]]"].into_iter().collect());
    let answer = Tensor::try_new(Vec::new(), texts).unwrap();
    let mut out = Vec::new();
    encode_predict(&signature, &call, &[answer], &mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        r#"{"predictions":[[1.5]]}"#
    );
}

/// An object of `inputs` is TensorFlow Serving's alone, which answers with `outputs` alone.
#[test]
fn columns_of_a_graph_are_answered_as_tensorflow_serving_does() {
    let x = vec![spec("x", DType::F32, &[None])];
    let signature = signature(x, vec![spec("y", DType::F32, &[None])]);
    let answer = |body: &str| {
        let ctx = context(&signature);
        let call = decode_predict(body.as_bytes(), &ctx);
        let call = call.or_else(|error| tfs::decode_columns(body.as_bytes(), &ctx, error));
        let mut out = Vec::new();
        let halves = Tensor::from_values(Values::F32(vec![2.5, 3.0, 4.5].into()));
        encode_predict(&signature, &call.unwrap(), &[halves], &mut out);
        String::from_utf8(out).unwrap()
    };
    for (body, expected) in [
        (
            r#"{"signature_name": "serving_default", "inputs": {"x": [1, 2, 5]}}"#,
            r#"{"outputs":[2.5,3.0,4.5]}"#,
        ),
        (
            r#"{"instances": [1, 2, 5]}"#,
            r#"{"predictions":[2.5,3.0,4.5]}"#,
        ),
        (
            r#"{"instances": [{"x": 1}, {"x": 2}, {"x": 5}]}"#,
            r#"{"predictions":[2.5,3.0,4.5]}"#,
        ),
    ] {
        assert_eq!(answer(body), expected, "{body}");
    }
}
