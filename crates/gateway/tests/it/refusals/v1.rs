//! V1.

use super::{ELEMENTS_MAX, check};

#[test]
#[rustfmt::skip]
fn of_a_table_of_numbers() {
    let path = "/v1/models/classifier:predict";
    let many = format!(r#"{{"instances": [{}[1, 2]]}}"#, "[1, 2],".repeat(50));
    let many_columns = format!(r#"{{"instances": {{"a": [{}1]}}}}"#, "1,".repeat(50));
    let too_many = format!("more than {ELEMENTS_MAX} values; send smaller batches");
    check(&[
        (path, " ", 400, "the request body is empty; send JSON such as {\"instances\": [[1.0, 2.0]]}"),
        (path, "{", 400, "the body is not valid JSON: EOF while parsing an object"),
        (path, "[]", 400, "invalid type: sequence, expected an object with \"instances\""),
        (path, "{}", 400, "the request has neither \"instances\" nor \"inputs\"; send {\"instances\": [[...], ...]}, or MLflow's \"dataframe_split\" or \"dataframe_records\""),
        (path, r#"{"instances": [[1, 2]]} x"#, 400, "the body is not valid JSON: trailing characters"),
        (path, r#"{"instances": [[1, NaN]]}"#, 400, "JSON has no NaN or Infinity; send null for a missing value (line 1 column 20)"),
        (path, r#"{"instances": 5}"#, 400, "invalid type: integer `5`, expected \"instances\" to be a list of rows"),
        (path, r#"{"instances": []}"#, 400, "\"instances\" is empty; at least one row is needed"),
        (path, r#"{"instances": [5]}"#, 400, "instances[0]: a number; each row is a list of 2 numbers"),
        (path, r#"{"instances": [null]}"#, 400, "instances[0]: null; each row is a list of 2 numbers"),
        (path, r#"{"instances": [[1, 2], [1]]}"#, 400, "instances[1]: 1 values, model expects 2"),
        (path, r#"{"instances": [[1, "x"]]}"#, 400, "instances[0][1]: a string where a number belongs"),
        (path, r#"{"instances": [[1, null]]}"#, 400, "instances[0][1]: null (a missing value), this model takes numbers only"),
        (path, r#"{"instances": [{"a": 1}]}"#, 400, "instances[0]: features missing: b"),
        (path, r#"{"instances": [{"z": 1}]}"#, 400, "instances[0]: unknown feature \"z\"; the model has a, b"),
        (path, r#"{"instances": [{"a": 1, "a": 1}]}"#, 400, "instances[0]: feature \"a\" occurs twice"),
        (path, r#"{"instances": [[1, 2]], "inputs": [[1, 2]]}"#, 400, "\"inputs\" comes after another list of instances; send one"),
        (path, r#"{"instances": [[1, 2]], "parameters": 5}"#, 400, "invalid type: integer `5`, expected \"parameters\" to be an object"),
        (path, r#"{"instances": [[1, 2]], "parameters": {"method": "fly"}}"#, 400, "unknown method \"fly\"; the model has predict, predict_proba"),
        (path, r#"{"instances": [[1, 2]], "parameters": {"timeout": -1}}"#, 400, "invalid value: integer `-1`, expected u64"),
        (path, r#"{"instances": {"a": [1]}}"#, 400, "instances: features missing: b"),
        (path, r#"{"instances": {"z": [1]}}"#, 400, "instances: unknown feature \"z\"; the model has a, b"),
        (path, r#"{"instances": {"a": [1], "a": [1]}}"#, 400, "instances: feature \"a\" occurs twice"),
        (path, r#"{"instances": {"a": [1], "b": [1, 2]}}"#, 400, "instances: feature \"b\" has 2 values, others have 1"),
        (path, r#"{"instances": {"a": [], "b": []}}"#, 400, "\"instances\" is empty; at least one row is needed"),
        (path, r#"{"instances": {"a": 5}}"#, 400, "invalid type: integer `5`, expected feature \"a\" to be a list of values"),
        (path, &many, 400, &too_many),
        (path, &many_columns, 400, &too_many),
        ("/v1/models/labels:predict", r#"{"instances": [{"a": 1}]}"#, 400, "instances[0]: an object, but the model was fitted without feature names; each row is a list of 2 numbers"),
        ("/v1/models/labels:predict", r#"{"instances": {"a": [1]}}"#, 400, "instances: an object of columns, but the model was fitted without feature names; send a list of rows"),
        ("/v1/models/labels:explain", r#"{"instances": [[1, 2]]}"#, 501, "model 'labels' has no explainer"),
    ]);
}

#[test]
#[rustfmt::skip]
fn of_columns_of_texts_and_numbers() {
    let path = "/v1/models/mixed:predict";
    let many = format!(
        r#"{{"instances": [{}["x", 1, 2]]}}"#,
        r#"["x", 1, 2],"#.repeat(50)
    );
    let too_many = format!("more than {ELEMENTS_MAX} values; send smaller batches");
    let many_columns = format!(r#"{{"instances": {{"c": [{}1]}}}}"#, "1,".repeat(200));
    check(&[
        (path, r#"{"instances": 5}"#, 400, "invalid type: integer `5`, expected \"instances\" to be a list of rows"),
        (path, r#"{"instances": []}"#, 400, "\"instances\" is empty; at least one row is needed"),
        (path, r#"{"instances": ["x"]}"#, 400, "instances[0]: a string; each row is a list of 3 values, or an object by column name"),
        (path, r#"{"instances": [-5]}"#, 400, "instances[0]: a number; each row is a list of 3 values, or an object by column name"),
        (path, r#"{"instances": [true]}"#, 400, "instances[0]: a truth value; each row is a list of 3 values, or an object by column name"),
        (path, r#"{"instances": [null]}"#, 400, "instances[0]: null; each row is a list of 3 values, or an object by column name"),
        (path, r#"{"instances": [["x", 1]]}"#, 400, "instances[0]: 2 values, model expects 3 (a, c)"),
        (path, r#"{"instances": [[1, 1, 2]]}"#, 400, "instances[0], column \"a\": expected a string, got 1"),
        (path, r#"{"instances": [[true, 1, 2]]}"#, 400, "instances[0], column \"a\": expected a string, got true"),
        (path, r#"{"instances": [[1.5, 1, 2]]}"#, 400, "instances[0], column \"a\": expected a string, got 1.5"),
        (path, r#"{"instances": [[[], 1, 2]]}"#, 400, "instances[0], column \"a\": expected a string, got a list"),
        (path, r#"{"instances": [[{}, 1, 2]]}"#, 400, "instances[0], column \"a\": expected a string, got an object"),
        (path, r#"{"instances": [[null, 1, 2]]}"#, 400, "instances[0], column \"a\": expected a string, got null (a missing value), which this column does not take"),
        (path, r#"{"instances": [["x", 1, "y"]]}"#, 400, "instances[0], column \"c\": a string where a number belongs"),
        (path, r#"{"instances": [{"a": "x"}]}"#, 400, "instances[0]: columns missing: c"),
        (path, r#"{"instances": [{"z": 1}]}"#, 400, "instances[0]: unknown column \"z\"; the model has a, c"),
        (path, r#"{"instances": [{"b": 1, "b": 1}]}"#, 400, "instances[0]: column \"b\" occurs twice"),
        (path, r#"{"instances": {"a": ["x"]}}"#, 400, "instances: columns missing: c"),
        (path, r#"{"instances": {"a": ["x"], "c": [1, 2]}}"#, 400, "instances: column \"c\" has 2 values, others have 1"),
        (path, r#"{"instances": {"a": 5}}"#, 400, "invalid type: integer `5`, expected column \"a\" to be a list of values"),
        (path, &many, 400, &too_many),
        (path, &many_columns, 400, &too_many),
        ("/v1/models/texts:predict", r#"{"instances": [5]}"#, 400, "instances[0], column \"t\": expected a string, got 5"),
    ]);
}

#[test]
#[rustfmt::skip]
fn of_other_tensors() {
    let pair = "/v1/models/pair:predict";
    let cube = "/v1/models/cube:predict";
    let words = "/v1/models/words:predict";
    let many = format!(
        r#"{{"instances": [{}[[1,2],[3,4]]]}}"#,
        "[[1,2],[3,4]],".repeat(30)
    );
    check(&[
        (cube, "{", 400, "the body is not valid JSON: EOF while parsing an object"),
        (cube, "5", 400, "invalid type: integer `5`, expected an object with \"instances\""),
        (cube, "{}", 400, "the request has neither \"instances\" nor \"inputs\"; send {\"instances\": [...]}, or MLflow's \"dataframe_records\""),
        (cube, r#"{"instances": [], "inputs": []}"#, 400, "the request has \"instances\" and \"inputs\"; send one of them"),
        (cube, r#"{"instances": [], "dataframe_split": {"columns": [], "data": []}}"#, 400, "the request has \"instances\" and \"dataframe_split\"; send one of them"),
        (cube, r#"{"instances": []}"#, 400, "\"instances\" is empty; at least one instance is needed"),
        (cube, r#"{"instances": 5}"#, 400, "instances: data is nested 0 deep; send a flat list, or lists nested as shape [-1, 2, 2]"),
        (cube, r#"{"instances": [[[[1]]]]}"#, 400, "instances: data is nested 4 deep; send a flat list, or lists nested as shape [-1, 2, 2]"),
        (cube, r#"{"instances": [[[1, 2], [3]]]}"#, 400, "instances: data is ragged: lists of different lengths"),
        (cube, r#"{"instances": [[[1, 2], 3]]}"#, 400, "invalid type: integer `3`, expected instances: lists nested as shape [-1, 2, 2]"),
        (cube, r#"{"instances": [[[1, "x"], [3, 4]]]}"#, 400, "instances: value 1: a string where a number belongs"),
        (cube, r#"{"instances": [[[1, 1e39], [3, 4]]]}"#, 400, "instances: value 1: 1000000000000000000000000000000000000000 is out of range for FP32 (numbers within its range)"),
        (cube, r#"{"instances": [[[1, null], [3, 4]]]}"#, 400, "instances: value 1: null (a missing value), this model takes numbers only"),
        (cube, r#"{"instances": [[[1, 2], [3, 4]]], "parameters": {"method": "fly"}}"#, 400, "unknown method \"fly\"; the model has predict"),
        (cube, r#"{"instances": [[[1, 2], [3, 4]]], "signature_name": "fly"}"#, 400, "Serving signature name: \"fly\" not found in signature def; the model has serving_default, predict"),
        (cube, &many, 400, "instances: more than 100 elements; send smaller batches"),
        (words, r#"{"instances": [[["a", 1]]]}"#, 400, "instances: value 1: a number where a string belongs"),
        (words, r#"{"instances": [[["a", true]]]}"#, 400, "instances: value 1: a truth value where a string belongs"),
        (words, r#"{"instances": [[["a", null]]]}"#, 400, "instances: value 1: null where a string belongs"),
        (words, r#"{"instances": [[["a", []]]]}"#, 400, "instances: value 1: a list where a string belongs"),
        (words, r#"{"instances": [[["a", {}]]]}"#, 400, "instances: value 1: an object where a string belongs"),
        (pair, r#"{"instances": [[1, 2]]}"#, 400, "\"instances\" is no list of objects with a value for each input: p, q"),
        (pair, r#"{"instances": [{"p": [1, 2, 3]}]}"#, 400, "instances[0]: input \"q\" is missing"),
        (pair, r#"{"instances": [{"z": 1}]}"#, 400, "instances[0]: unknown input \"z\"; the model has p, q"),
        (pair, r#"{"instances": [{"p": ["x", 2, 3], "q": [1]}]}"#, 400, "instances, input \"p\": value 0: a string where a number belongs"),
        (pair, r#"{"instances": []}"#, 400, "\"instances\" is empty; at least one instance is needed"),
    ]);
}
