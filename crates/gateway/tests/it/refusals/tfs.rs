//! TensorFlow Serving's REST.

use super::check;

#[test]
#[rustfmt::skip]
fn of_examples() {
    let classify = "/v1/models/classifier:classify";
    let many = format!(
        r#"{{"examples": [{}{{"a": 1, "b": 2}}]}}"#,
        r#"{"a": 1, "b": 2},"#.repeat(50)
    );
    let one = r#"{"examples": [{"a": 1, "b": 2}]}"#;
    let row = r#"{"examples": [{"X": [1, 2]}]}"#;
    let no_table =
        "examples are supported for models of one table of numbers; use predict for this one";
    check(&[
        (classify, "", 400, "the request body is empty; send JSON such as {\"examples\": [{\"x\": 1.0}]}"),
        (classify, "{", 400, "the body is not valid JSON: EOF while parsing an object"),
        (classify, "5", 400, "invalid type: integer `5`, expected an object with \"examples\""),
        (classify, "{}", 400, "missing field `examples`"),
        (classify, r#"{"examples": []}"#, 400, "\"examples\" is empty; send at least one"),
        (classify, r#"{"examples": [5]}"#, 400, "invalid type: integer `5`, expected a map"),
        (classify, r#"{"examples": [{"a": 1}]}"#, 400, "examples[0]: feature \"b\" is missing"),
        (classify, r#"{"examples": [{"a": 1, "b": [1, 2]}]}"#, 400, "examples[0]: feature \"b\" has 2 values, a column has one"),
        (classify, r#"{"examples": [{"a": 1, "b": 1, "z": 1}]}"#, 400, "examples[0]: unknown feature \"z\"; the model has a, b"),
        (classify, r#"{"examples": [{"X": [1]}]}"#, 400, "examples[0]: feature \"X\" has 1 values, model expects 2"),
        (classify, r#"{"examples": [{"a": 1, "b": "x"}]}"#, 400, "examples[0]: feature \"b\" is neither a number nor a list of numbers"),
        (classify, r#"{"context": {"b": {}}, "examples": [{"a": 1}]}"#, 400, "context: feature \"b\" is neither a number nor a list of numbers"),
        (classify, r#"{"signature_name": "zzz", "examples": [{"a": 1, "b": 2}]}"#, 400, "Serving signature name: \"zzz\" not found in signature def; the model has serving_default, predict, predict_proba"),
        (classify, &many, 400, "51 rows of 2 columns are more than 100 elements; send smaller batches"),
        ("/v1/models/classifier:regress", one, 400, "the model is a classifier; ask it to :classify or :predict"),
        ("/v1/models/labels:classify", row, 400, "the model gives no probabilities of classes; ask it to :regress or :predict"),
        ("/v1/models/labels:regress", row, 400, "the model does not give one number per row; ask it to :predict"),
        ("/v1/models/labels:regress", one, 400, "examples[0]: the model knows no names of columns; send the row as feature \"X\""),
        ("/v1/models/mixed:regress", one, 501, no_table),
        ("/v1/models/pair:regress", one, 501, no_table),
        ("/v1/models/cube:classify", one, 501, no_table),
        ("/v1/models/nope:classify", one, 404, "Model with name nope does not exist."),
        ("/v1/models/classifier/versions/7:classify", one, 404, "model 'classifier' has no version '7'; it has 1"),
        ("/v1/models/classifier/labels/best:classify", one, 404, "model 'classifier' has no label 'best'"),
    ]);
}

#[test]
#[rustfmt::skip]
fn of_columns() {
    let path = "/v1/models/pair:predict";
    let (classifier, mixed) = ("/v1/models/classifier:predict", "/v1/models/mixed:predict");
    let many = format!(r#"{{"inputs": {{"a": [{}1]}}}}"#, "1,".repeat(50));
    check(&[
        (classifier, r#"{"inputs": {"a": [1]}}"#, 400, "columns missing: b"),
        (classifier, r#"{"inputs": {"a": [1], "z": [1]}}"#, 400, "inputs[1]: unknown column \"z\"; send one tensor \"X\", or one per column: a, b"),
        (classifier, r#"{"inputs": {"a": [1], "b": [1, 2]}}"#, 400, "inputs[1]: 2 rows, the columns before have 1"),
        (classifier, &many, 400, "51 rows of 2 columns are more than 100 elements; send smaller batches"),
        (mixed, r#"{"inputs": {"a": ["x"]}}"#, 400, "columns missing: c"),
        (mixed, r#"{"inputs": {"a": ["x"], "c": ["y"]}}"#, 400, "inputs[1].data[0]: a string where a number belongs"),
        (path, r#"{"inputs": {"p": [[1, 2, 3]]}}"#, 400, "input \"q\" is missing; the model has p, q"),
        (path, r#"{"inputs": {"z": [[1]]}}"#, 400, "unknown input \"z\"; the model has p, q"),
        (path, r#"{"inputs": {"p": [["x"]], "q": [[1]]}}"#, 400, "inputs[0].data[0]: a string where a number belongs"),
        (path, r#"{"inputs": {"p": [[1, 2, 3]], "q": [[1]]}, "signature_name": "zzz"}"#, 400, "Serving signature name: \"zzz\" not found in signature def; the model has serving_default, predict"),
        (path, r#"{"inputs": {"p": [[1, 2, 3]], "q": [[1]]}, "parameters": {"method": "zzz"}}"#, 400, "unknown method \"zzz\"; the model has predict"),
    ]);
}
