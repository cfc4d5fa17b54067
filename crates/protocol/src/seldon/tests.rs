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
