//! Messages and what they must become. The answers' forms are those that Seldon's documentation and wrapper describe.

use coracle_model::{ColumnPlace, Signature, TensorSpec};
use coracle_tensor::ByteStrings;

use super::*;
use crate::v1::tests::{context, signature};
use crate::{NoRegions, RequestError};

fn decode(body: &str, signature: &Signature) -> Result<Call, String> {
    let decoded = decode_message(body.as_bytes(), &context(signature));
    decoded.map_err(|error: RequestError| error.to_string())
}

#[test]
fn rows_and_tensors_become_a_table() {
    let signature = signature(None, true);
    let expected = Values::F64(vec![1.0, 2.0, 3.5, -0.04].into());
    for (body, layout) in [
        (
            r#"{"data": {"ndarray": [[1, 2], [3.5, -4e-2]]}}"#,
            Layout::Rows,
        ),
        // Names are free where the model does not tell its columns apart.
        (
            r#"{"data": {"names": ["a", "b"], "ndarray": [[1, 2], [3.5, -4e-2]]}, "meta": {}}"#,
            Layout::Rows,
        ),
        (
            r#"{"data": {"tensor": {"shape": [2, 2], "values": [1, 2, 3.5, -0.04]}}}"#,
            Layout::Tensor,
        ),
    ] {
        let call = decode(body, &signature).unwrap();
        assert_eq!(call.inputs[0].values(), &expected, "{body}");
        assert_eq!((call.layout, call.n_rows), (layout, 2));
        assert_eq!(call.outputs, [0]);
    }
    let call = decode(
        r#"{"meta": {"puid": "p1"}, "data": {"ndarray": [[1, null]]}}"#,
        &signature,
    );
    assert_eq!(call.unwrap().id.as_deref(), Some("p1"));
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let signature = signature(None, false);
    for (body, expected) in [
        ("", "the request body is empty"),
        ("{", "the body is not valid JSON"),
        ("7", "SeldonMessage"),
        ("{}", "no \"data\""),
        (r#"{"strData": "x"}"#, "strData is not read"),
        (r#"{"binData": "eA=="}"#, "binData is not read"),
        (r#"{"jsonData": {"x": [1]}}"#, "jsonData is not read"),
        (r#"{"data": {"tftensor": {}}}"#, "data.tftensor is not read"),
        (r#"{"data": {}}"#, "none, or several"),
        (
            r#"{"data": {"ndarray": [[1, 2]], "tensor": {"shape": [1, 2], "values": [1, 2]}}}"#,
            "none, or several",
        ),
        (r#"{"data": {"ndarray": [[1, 2, 3]]}}"#, "data.ndarray"),
        (r#"{"data": {"ndarray": [[1, "x"]]}}"#, "data.ndarray"),
        (
            r#"{"data": {"tensor": {"shape": [2, 2], "values": [1, 2, 3]}}}"#,
            "data.tensor",
        ),
        (
            r#"{"data": {"tensor": {"values": [1, 2]}}}"#,
            "missing field `shape`",
        ),
    ] {
        let error = decode(body, &signature).unwrap_err();
        assert!(error.contains(expected), "{body}: {error}");
    }
}

#[test]
fn names_are_the_columns_of_a_model_that_tells_them_apart() {
    let column = |name: &str, dtype| TensorSpec {
        name: name.to_owned(),
        dtype,
        shape: vec![None],
        columns: None,
        accepts_missing: false,
        accepts_integers: false,
    };
    let place = |name: &str, input| ColumnPlace {
        name: name.to_owned(),
        input: Some(input),
    };
    let signature = Signature {
        inputs: vec![column("age", DType::F64), column("city", DType::Bytes)],
        columns: Some(vec![place("age", 0), place("city", 1)]),
        ..signature(None, false)
    };
    let ask = |names: &str| {
        let body = format!(r#"{{"data": {{"names": {names}, "ndarray": [[30, "Oslo"]]}}}}"#);
        decode(&body, &signature)
    };
    let call = ask(r#"["age", "city"]"#).unwrap();
    assert_eq!(call.inputs[0].values(), &Values::F64(vec![30.0].into()));
    let oslo: ByteStrings = ["Oslo"].into_iter().collect();
    assert_eq!(call.inputs[1].values(), &Values::Bytes(oslo));
    let error = ask(r#"["city", "age"]"#).unwrap_err();
    assert!(error.contains("data.names has \"city\" where the model's column is \"age\""));
    let error = ask(r#"["age"]"#).unwrap_err();
    assert!(
        error.contains("has 1 names, the model 2 columns"),
        "{error}"
    );
}

fn encode(layout: Layout, outputs: &[Tensor], id: Option<&str>) -> String {
    let signature = signature(None, false);
    let ctx = EncodeContext {
        model_name: "classifier",
        model_version: "1",
        signature: &signature,
        regions: &NoRegions,
    };
    let call = Call {
        outputs: vec![1],
        layout,
        id: id.map(str::to_owned),
        n_rows: outputs[0].n_rows(),
        ..Call::default()
    };
    let mut out = Vec::new();
    encode_message(&ctx, &call, outputs, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn answers_are_in_the_form_of_their_requests() {
    let matrix =
        Tensor::try_new(vec![1, 3], Values::F64(vec![0.25, 0.5, f64::NAN].into())).unwrap();
    assert_eq!(
        encode(Layout::Rows, std::slice::from_ref(&matrix), None),
        r#"{"data":{"names":["t:0","t:1","t:2"],"ndarray":[[0.25,0.5,null]]},"meta":{"requestPath":{"classifier":"coracle"}}}"#
    );
    assert_eq!(
        encode(Layout::Tensor, &[matrix], Some("p\"1")),
        r#"{"data":{"names":["t:0","t:1","t:2"],"tensor":{"shape":[1,3],"values":[0.25,0.5,null]}},"meta":{"puid":"p\"1","requestPath":{"classifier":"coracle"}}}"#
    );
    let labels = Tensor::from_values(Values::I64(vec![2, 0].into()));
    assert_eq!(
        encode(Layout::Tensor, &[labels], None),
        r#"{"data":{"names":[],"tensor":{"shape":[2],"values":[2,0]}},"meta":{"requestPath":{"classifier":"coracle"}}}"#
    );
    let texts: ByteStrings = ["no", "yes"].into_iter().collect();
    let texts = Tensor::from_values(Values::Bytes(texts));
    // Texts are no tensor.
    assert_eq!(
        encode(Layout::Tensor, &[texts], None),
        r#"{"data":{"names":[],"ndarray":["no","yes"]},"meta":{"requestPath":{"classifier":"coracle"}}}"#
    );
}

#[test]
fn errors_are_those_of_the_executor() {
    let body = String::from_utf8(error_body(400, "no \"data\"")).unwrap();
    assert_eq!(
        body,
        r#"{"status":{"code":400,"info":"no \"data\"","status":"FAILURE"}}"#
    );
}

fn feedback(body: &str) -> Result<Feedback, String> {
    read_feedback(body.as_bytes()).map_err(|error| error.to_string())
}

#[test]
fn feedback_says_what_came_of_which_way() {
    let sent = r#"{"request": {"data": {"names": ["a"], "ndarray": [[1], [2], [3]]}},
        "response": {"meta": {"puid": "p", "routing": {"router": 1, "other": -1}}, "data": {"ndarray": [[1]]}},
        "reward": 0.25, "truth": {"data": {"ndarray": [[1]]}}}"#;
    let expected = Feedback {
        reward: 0.25,
        n_rows: 3,
        routing: [("router".to_owned(), 1), ("other".to_owned(), -1)].into(),
        layout: Layout::Rows,
    };
    assert_eq!(feedback(sent), Ok(expected));
    for (body, reward, n_rows) in [
        ("{}", 0.0, 1),
        (r#"{"reward": -2}"#, -2.0, 1),
        (r#"{"reward": "1.5"}"#, 1.5, 1),
        (
            r#"{"reward": 1, "request": {"data": {"tensor": {"shape": [2, 2], "values": [1, 2, 3, 4]}}}}"#,
            1.0,
            2,
        ),
        (r#"{"reward": 1, "request": {"strData": "x"}}"#, 1.0, 1),
        (
            r#"{"reward": 1, "request": {"data": {"ndarray": []}}}"#,
            1.0,
            0,
        ),
        // Any number may stand beside a dimension of nothing.
        (
            r#"{"reward": 1, "request": {"data": {"tensor": {"shape": [18446744073709551615, 0], "values": []}}}}"#,
            1.0,
            0,
        ),
    ] {
        let found = feedback(body).unwrap();
        assert_eq!((found.reward, found.n_rows), (reward, n_rows), "{body}");
    }
    for (body, words) in [
        (" ", "the request body is empty"),
        ("7", "a Feedback"),
        (r#"{"reward": "x"}"#, "\"x\" is no number"),
        (r#"{"reward": "NaN"}"#, "is no number of magnitude"),
        (r#"{"reward": 1e300}"#, "of magnitude 1e100"),
        (r#"{"reward": true}"#, "a number"),
        (r#"{"response": {"meta": {"routing": {"r": "x"}}}}"#, "i64"),
        (
            r#"{"request": {"data": {"tensor": {"shape": [9000000000000000000], "values": [1]}}}}"#,
            "1 values",
        ),
        (
            r#"{"request": {"data": {"tensor": {"shape": [9000000000000000000, 9], "values": []}}}}"#,
            "0 values",
        ),
    ] {
        let error = feedback(body).unwrap_err();
        assert!(error.contains(words), "{body}: {error}");
    }
}

/// The answers of Seldon's wrapper (seldon-core 1.17.1) to feedback with the two kinds of requests.
#[test]
fn feedback_is_answered_as_seldons_wrapper_does() {
    for (request, expected) in [
        (
            r#"{"request": {"data": {"ndarray": [[1, 2]]}}, "reward": 1}"#,
            r#"{"data":{"ndarray":[]},"meta":{"requestPath":{"UNIT":"coracle","b":"coracle"}}}"#,
        ),
        (
            r#"{"reward": 1}"#,
            r#"{"data":{"tensor":{"shape":[0]}},"meta":{"requestPath":{"UNIT":"coracle","b":"coracle"}}}"#,
        ),
    ] {
        let mut body = Vec::new();
        encode_feedback(&feedback(request).unwrap(), &["UNIT", "b"], &mut body);
        assert_eq!(String::from_utf8(body).unwrap(), expected);
    }
}

#[test]
fn tags_are_given_back() {
    let signature = signature(None, false);
    let call = decode(
        r#"{"meta": {"puid": "p", "tags": {"a": [1, {"b": 2}]}}, "data": {"ndarray": [[1, 2]]}}"#,
        &signature,
    );
    let call = call.unwrap();
    assert_eq!(call.tags.as_deref(), Some(r#"{"a": [1, {"b": 2}]}"#));
    let error = decode(
        r#"{"meta": {"tags": 1}, "data": {"ndarray": [[1, 2]]}}"#,
        &signature,
    );
    assert!(error.unwrap_err().contains("meta.tags must be an object"));
    let ctx = EncodeContext {
        model_name: "m",
        model_version: "1",
        signature: &signature,
        regions: &NoRegions,
    };
    let mut body = Vec::new();
    encode_message(&ctx, &call, &[], &mut body);
    let body = String::from_utf8(body).unwrap();
    let meta = r#""meta":{"puid":"p","tags":{"a": [1, {"b": 2}]},"requestPath":{"m":"coracle"}}}"#;
    assert!(body.ends_with(meta), "{body}");
}

#[test]
fn rows_of_messages_are_counted_whatever_they_are() {
    for (body, expected) in [
        (r#"{"data": {"ndarray": [[1], [2], [3]]}}"#, 3),
        (
            r#"{"data": {"tensor": {"shape": [2, 2], "values": [1, 2, 3, 4]}}}"#,
            2,
        ),
        (
            r#"{"data": {"tensor": {"shape": [2, 2], "values": []}}}"#,
            1,
        ),
        (r#"{"data": {"ndarray": []}}"#, 0),
        (r#"{"strData": "x"}"#, 1),
        ("{", 1),
        ("", 1),
    ] {
        assert_eq!(n_rows(body.as_bytes()), expected, "{body}");
    }
}
