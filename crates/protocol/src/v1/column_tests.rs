//! Bodies for models of columns, in both protocols, and what they must become.

use coracle_model::{ColumnPlace, Signature, TensorSpec};
use coracle_tensor::{ByteStrings, DType, Values};

use crate::v1::tests::context;
use crate::v1::{decode_invocations, decode_predict};
use crate::v2::decode_infer;
use crate::{Call, RequestError};

/// Columns `city` (texts, may be missing), `unused`, `age` (numbers, none missing).
pub(super) fn signature() -> Signature {
    let input = |name: &str, dtype, accepts_missing| TensorSpec {
        name: name.to_owned(),
        dtype,
        shape: vec![None],
        columns: None,
        accepts_missing,
        accepts_integers: false,
    };
    let place = |name: &str, input| ColumnPlace {
        name: name.to_owned(),
        input,
    };
    Signature {
        keyed_outputs: Vec::new(),
        keyed_inputs: Vec::new(),
        unranked_inputs: Vec::new(),
        name_rules: Default::default(),
        inputs: vec![
            input("city", DType::Bytes, true),
            input("age", DType::F64, false),
        ],
        outputs: vec![input("predict", DType::F64, false)],
        default_outputs: vec![0],
        columns: Some(vec![
            place("city", Some(0)),
            place("unused", None),
            place("age", Some(1)),
        ]),
    }
}

fn one_text() -> Signature {
    let mut signature = signature();
    signature.inputs.truncate(1);
    signature.columns = Some(vec![ColumnPlace {
        name: "city".to_owned(),
        input: Some(0),
    }]);
    signature
}

fn texts(strings: &[Option<&str>]) -> Values {
    let mut texts = ByteStrings::new();
    for string in strings {
        texts.push_optional(string.map(str::as_bytes));
    }
    Values::Bytes(texts)
}

fn values(call: Result<Call, RequestError>) -> Result<Vec<Values>, String> {
    let call = call.map_err(|error| error.to_string())?;
    for input in &call.inputs {
        assert_eq!(input.shape(), [call.n_rows]);
    }
    Ok(call
        .inputs
        .into_iter()
        .map(|input| input.into_parts().1)
        .collect())
}

fn v1(body: &str, signature: &Signature) -> Result<Vec<Values>, String> {
    values(decode_predict(body.as_bytes(), &context(signature)))
}

fn v2(inputs: &str, signature: &Signature) -> Result<Vec<Values>, String> {
    let body = format!("{{\"inputs\": [{inputs}]}}");
    values(decode_infer(
        &body.to_owned().into(),
        None,
        &context(signature),
    ))
}

#[test]
fn rows_become_columns_in_every_form() {
    let expected = vec![
        texts(&[Some("Ulm"), None]),
        Values::F64(vec![30.0, 1.0].into()),
    ];
    let first = [
        r#"{"instances": [["Ulm", {"any": 1}, 30], [null, null, true]]}"#,
        r#"{"instances": [{"age": 30, "city": "Ulm"}, {"city": null, "unused": [1], "age": true}]}"#,
        r#"{"inputs": {"city": ["Ulm", null], "age": [30, true]}}"#,
        r#"{"instances": {"age": [30, true], "unused": "x", "city": ["Ulm", null]}}"#,
    ];
    for body in first {
        assert_eq!(v1(body, &signature()), Ok(expected.clone()), "{body}");
    }
    let expected = [texts(&[Some("Ulm"), None]), Values::I32(vec![30, 1].into())];
    let columns = r#"{"name": "age", "shape": [2, 1], "datatype": "INT32", "data": [[30], [1]]},
        {"name": "unused", "shape": [1], "datatype": "BOOL", "data": [true]},
        {"name": "city", "shape": [2], "datatype": "BYTES", "data": ["Ulm", null]}"#;
    assert_eq!(v2(columns, &signature()), Ok(expected.to_vec()));
}

#[test]
fn texts_may_come_as_base64() {
    let column = |content: &str, data: &str| {
        format!(
            r#"{{"name": "city", "shape": [2], "datatype": "BYTES", "data": {data}, "parameters": {{"content_type": {content}}}}}"#
        )
    };
    let encoded = r#"["VWxt", null]"#;
    let signature = one_text();
    let expected = Ok(vec![texts(&[Some("Ulm"), None])]);
    assert_eq!(v2(&column(r#""base64""#, encoded), &signature), expected);
    let plain = Ok(vec![texts(&[Some("VWxt"), None])]);
    for content in [
        r#""str""#,
        r#""datetime""#,
        "null",
        "[1]",
        "{\"a\": 1}",
        "7",
    ] {
        assert_eq!(
            v2(&column(content, encoded), &signature),
            plain,
            "{content}"
        );
    }
    let error = v2(&column(r#""base64""#, r#"["VWxt", "?"]"#), &signature).unwrap_err();
    let expected = "inputs[0].data[1]: not base64, which the content type says it is";
    assert_eq!(error, expected);
}

#[test]
fn categories_may_be_integers() {
    let mut signature = signature();
    signature.inputs[0].accepts_integers = true;
    let expected = Ok(vec![
        texts(&[Some("-3"), Some("Ulm"), Some("18446744073709551615")]),
        Values::F64(vec![1.0, 2.0, 3.0].into()),
    ]);
    for body in [
        r#"{"instances": [[-3, 0, 1], ["Ulm", 0, 2], [18446744073709551615, 0, 3]]}"#,
        r#"{"inputs": {"city": [-3, "Ulm", 18446744073709551615], "age": [1, 2, 3]}}"#,
    ] {
        assert_eq!(v1(body, &signature), expected, "{body}");
    }
    for cell in ["1.5", "1.0", "[true]"] {
        let error = v1(&format!(r#"{{"instances": [[{cell}, 0, 1]]}}"#), &signature);
        let expected = "instances[0], column \"city\": expected a string or an integer, got ";
        assert!(error.unwrap_err().starts_with(expected), "{cell}");
    }
    let columns = |datatype: &str, data: &str| {
        format!(
            r#"{{"name": "age", "shape": [1], "datatype": "INT32", "data": [30]}},
            {{"name": "city", "shape": [1], "datatype": "{datatype}", "data": [{data}]}}"#
        )
    };
    let expected = Ok(vec![
        Values::I64(vec![7].into()),
        Values::I32(vec![30].into()),
    ]);
    assert_eq!(v2(&columns("INT64", "7"), &signature), expected);
}

#[test]
fn categories_that_may_be_integers_may_be_truth_values() {
    let mut signature = signature();
    let body = r#"{"instances": [[true, 0, 1], ["true", 0, 2], [false, 0, 3]]}"#;
    let tensor = r#"{"name": "age", "shape": [1], "datatype": "INT32", "data": [30]},
        {"name": "city", "shape": [1], "datatype": "BOOL", "data": [true]}"#;
    assert!(v1(body, &signature).is_err());
    assert!(v2(tensor, &signature).is_err());
    signature.inputs[0].accepts_integers = true;
    let expected = Ok(vec![
        texts(&[Some("1"), Some("true"), Some("0")]),
        Values::F64(vec![1.0, 2.0, 3.0].into()),
    ]);
    assert_eq!(v1(body, &signature), expected);
    let expected = Ok(vec![Values::Bool(vec![true]), Values::I32(vec![30].into())]);
    assert_eq!(v2(tensor, &signature), expected);
}

#[test]
fn a_model_of_one_text_column_takes_plain_texts() {
    let expected = Ok(vec![texts(&[Some("a"), Some("b")])]);
    let signature = one_text();
    for body in [
        r#"{"instances": ["a", "b"]}"#,
        r#"{"instances": [["a"], ["b"]]}"#,
        r#"{"instances": [{"city": "a"}, {"city": "b"}]}"#,
    ] {
        assert_eq!(v1(body, &signature), expected, "{body}");
    }
    for (name, shape) in [("anything", "[2]"), ("city", "[2]"), ("text", "[2, 1]")] {
        let input = format!(
            r#"{{"name": "{name}", "shape": {shape}, "datatype": "BYTES", "data": ["a", "b"]}}"#
        );
        assert_eq!(v2(&input, &signature), expected, "{name}");
    }
}

#[test]
fn v1_faults_name_row_and_column() {
    let cases = [
        (
            r#"{"instances": [["Ulm", 0, 1], [3, 0, 1]]}"#,
            r#"instances[1], column "city": expected a string, got 3"#,
        ),
        (
            r#"{"instances": [["Ulm", 0, "old"]]}"#,
            r#"instances[0], column "age": a string where a number belongs"#,
        ),
        (
            r#"{"instances": [{"city": "Ulm", "age": null}]}"#,
            r#"instances[0], column "age": null (a missing value), this model takes numbers only"#,
        ),
        (
            r#"{"instances": [["Ulm", 0]]}"#,
            "instances[0]: 2 values, model expects 3 (city, age)",
        ),
        (
            r#"{"instances": [["Ulm", 0, 1, 2]]}"#,
            "instances[0]: 4 values, model expects 3 (city, age)",
        ),
        (
            r#"{"instances": [{"town": "Ulm"}]}"#,
            r#"instances[0]: unknown column "town"; the model has city, age"#,
        ),
        (
            r#"{"instances": [{"town": "Ulm", "city": 1, "land": {"a": [1]}, "city": 2, "town": 3}]}"#,
            r#"instances[0]: unknown columns "town", "land"; the model has city, age"#,
        ),
        (
            r#"{"inputs": {"city": ["Ulm"], "town": ["Ulm"], "age": [1], "land": [1]}}"#,
            r#"inputs: unknown columns "town", "land"; the model has city, age"#,
        ),
        (
            r#"{"instances": [{"city": "Ulm"}]}"#,
            "instances[0]: columns missing: age",
        ),
        (
            r#"{"instances": [{"city": "Ulm", "city": "Bonn"}]}"#,
            r#"instances[0]: column "city" occurs twice"#,
        ),
        (
            r#"{"instances": ["Ulm"]}"#,
            "instances[0]: a string; each row is a list of 3 values, or an object by column name",
        ),
        (
            r#"{"inputs": {"city": ["Ulm"], "age": [1, 2]}}"#,
            r#"inputs: column "age" has 2 values, others have 1"#,
        ),
        (
            r#"{"instances": []}"#,
            "\"instances\" is empty; at least one row is needed",
        ),
    ];
    for (body, expected) in cases {
        let message = v1(body, &signature()).unwrap_err();
        assert!(message.starts_with(expected), "{body}: {message}");
    }
    let mut many = String::from(r#"{"instances": ["#);
    many.push_str(&r#"["a", 0, 1],"#.repeat(400));
    many.push_str(r#"["a", 0, 1]]}"#);
    let message = v1(&many, &signature()).unwrap_err();
    assert!(message.starts_with("more than 1000 values"), "{message}");
}

#[test]
fn v2_faults_name_the_column() {
    let city = r#"{"name": "city", "shape": [1], "datatype": "BYTES", "data": ["Ulm"]}"#;
    let cases = [
        (
            format!(
                r#"{city}, {{"name": "age", "shape": [1], "datatype": "BYTES", "data": ["1"]}}"#
            ),
            r#"inputs[1]: column "age": expected numbers (FP64 or any other numeric datatype), got BYTES"#,
        ),
        (
            r#"{"name": "city", "shape": [1], "datatype": "INT64", "data": [1]}"#.to_owned(),
            r#"inputs[0]: column "city": expected strings (BYTES), got INT64"#,
        ),
        (city.to_owned(), "columns missing: age"),
        (
            format!("{city}, {city}"),
            r#"inputs[1]: column "city" occurs twice"#,
        ),
        (
            format!(
                r#"{city}, {{"name": "town", "shape": [1], "datatype": "BYTES", "data": ["1"]}}"#
            ),
            r#"inputs[1]: unknown column "town"; send one tensor per column: city, age"#,
        ),
        (
            format!(
                r#"{city}, {{"name": "town", "shape": [1], "datatype": "BYTES", "data": ["1"]}}, {{"name": "land", "shape": [1], "datatype": "BYTES", "data": ["1"]}}"#
            ),
            r#"inputs[1]: unknown columns "town", "land"; send one tensor per column: city, age"#,
        ),
        (
            format!(
                r#"{city}, {{"name": "age", "shape": [2], "datatype": "FP64", "data": [1, 2]}}"#
            ),
            r#"column "age": 2 rows, other columns have 1"#,
        ),
        (
            r#"{"name": "X", "shape": [1, 3], "datatype": "BYTES", "data": ["Ulm", "", "1"]}"#
                .to_owned(),
            r#"inputs[0]: column "age": expected numbers (FP64 or any other numeric datatype), got BYTES"#,
        ),
        (
            r#"{"name": "X", "shape": [1, 2], "datatype": "BYTES", "data": ["Ulm", "1"]}"#
                .to_owned(),
            r#"inputs[0]: unknown column "X" of shape [1, 2]; send one tensor per column (city, age), or one of shape [-1, 3]"#,
        ),
    ];
    for (inputs, expected) in cases {
        assert_eq!(v2(&inputs, &signature()).unwrap_err(), expected, "{inputs}");
    }
}

#[test]
fn data_frames_of_texts_are_read_by_their_columns() {
    let split = |columns: &str, data: &str| {
        let body = format!(r#"{{"dataframe_split": {{"columns": {columns}, "data": {data}}}}}"#);
        v1(&body, &signature())
    };
    let expected = vec![
        texts(&[Some("Ulm"), None]),
        Values::F64(vec![3.0, 4.5].into()),
    ];
    let frames = [
        (
            r#"["city", "unused", "age"]"#,
            r#"[["Ulm", 1, 3], [null, "x", 4.5]]"#,
        ),
        (r#"["age", "city"]"#, r#"[[3, "Ulm"], [4.5, null]]"#),
    ];
    for (columns, data) in frames {
        assert_eq!(split(columns, data).unwrap(), expected);
    }
    let records =
        r#"{"dataframe_records": [{"city": "Ulm", "age": 3}, {"age": 4.5, "city": null}]}"#;
    assert_eq!(v1(records, &signature()).unwrap(), expected);
    let error = split(r#"["age", "town"]"#, "[[3, 4]]").unwrap_err();
    assert!(
        error.contains("dataframe_split[0]: unknown column"),
        "{error}"
    );
    let error = split(r#"["age"]"#, "[[3]]").unwrap_err();
    assert!(error.contains("columns missing: city"), "{error}");
    let body = r#"{"dataframe_split": {"columns": ["text"], "data": [["a"], ["b"]]}}"#;
    let mut unnamed = one_text();
    unnamed.columns.as_mut().unwrap()[0].name = "X".to_owned();
    assert_eq!(
        v1(body, &unnamed).unwrap(),
        [texts(&[Some("a"), Some("b")])]
    );
    assert!(v1(body, &one_text()).is_err());
}

/// LightGBM writes `_` for blanks, and takes data frames of the names that they were fitted with.
#[test]
fn names_with_blanks_mean_columns_of_lightgbm_without() {
    let mut columns = signature();
    columns.name_rules.underscores_may_be_blanks = true;
    columns.inputs[1].name = "age_in_years".to_owned();
    columns.columns.as_mut().unwrap()[2].name = "age_in_years".to_owned();
    let mut table = super::tests::signature(Some(["age_in_years", "b"]), false);
    table.name_rules.underscores_may_be_blanks = true;
    for name in ["age_in_years", "age in years", "age in_years"] {
        let expected = vec![texts(&[Some("Ulm")]), Values::F64(vec![3.0].into())];
        let city = r#"{"name": "city", "shape": [1], "datatype": "BYTES", "data": ["Ulm"]}"#;
        let number = |name: &str| {
            format!(r#"{{"name": "{name}", "shape": [1], "datatype": "FP64", "data": [3]}}"#)
        };
        let row = format!(r#"{{"instances": [{{"{name}": 3, "city": "Ulm"}}]}}"#);
        assert_eq!(v1(&row, &columns).as_ref(), Ok(&expected), "{row}");
        let inputs = format!("{}, {city}", number(name));
        assert_eq!(v2(&inputs, &columns), Ok(expected), "{inputs}");
        let bodies = [
            format!(r#"{{"instances": [{{"b": 3, "{name}": 3}}]}}"#),
            format!(r#"{{"inputs": {{"b": [3], "{name}": [3]}}}}"#),
        ];
        for body in bodies {
            let call = decode_predict(body.as_bytes(), &context(&table)).unwrap();
            assert_eq!(call.inputs[0].shape(), [1, 2], "{body}");
        }
        let body = format!(r#"{{"inputs": [{}, {}]}}"#, number("b"), number(name));
        assert!(
            decode_infer(&body.clone().into(), None, &context(&table)).is_ok(),
            "{body}"
        );
    }
    let twice = r#"{"instances": [{"age_in_years": 3, "age in years": 3, "b": 1}]}"#;
    let error = decode_predict(twice.as_bytes(), &context(&table)).unwrap_err();
    assert!(error.to_string().contains("occurs twice"), "{error}");
}

/// MLflow's server passes over what a signature does not name.
#[test]
fn columns_beyond_mlflows_signature_are_passed_over_where_its_server_does() {
    let mut columns = signature();
    columns.name_rules.mlflow_names_columns = true;
    let mut table = super::tests::signature(Some(["a", "b"]), false);
    table.name_rules.mlflow_names_columns = true;
    let cases = [
        (
            &columns,
            r#"{"inputs": {"city": ["Ulm"], "z": {"x": 1}, "age": [3]}}"#,
        ),
        (
            &columns,
            r#"{"instances": [{"z": [1], "city": "Ulm", "age": 3}]}"#,
        ),
        (
            &columns,
            r#"{"dataframe_split": {"columns": ["city", "z", "age"], "data": [["Ulm", 1, 3]]}}"#,
        ),
        (&table, r#"{"inputs": {"a": [1], "z": "x", "b": [3]}}"#),
        // One row, of plain values.
        (&table, r#"{"inputs": {"z": "x", "a": 1.5, "b": true}}"#),
        (
            &columns,
            r#"{"inputs": {"z": {}, "city": "Ulm", "age": 3}}"#,
        ),
        (
            &table,
            r#"{"dataframe_records": [{"z": null, "b": 3, "a": 1, "y": []}]}"#,
        ),
        (
            &table,
            r#"{"dataframe_split": {"index": [5], "columns": ["z", "b", "a"], "data": [["x", 3, 1]]}}"#,
        ),
    ];
    for (signature, body) in cases {
        let decoded = decode_invocations(body.as_bytes(), &context(signature));
        assert_eq!(decoded.unwrap().n_rows, 1, "{body}");
        assert!(decode_predict(body.as_bytes(), &context(signature)).is_err());
        let mut unsigned = signature.clone();
        unsigned.name_rules.mlflow_names_columns = false;
        let error = decode_invocations(body.as_bytes(), &context(&unsigned)).unwrap_err();
        assert!(error.to_string().contains("unknown"), "{error}");
    }
    let body = r#"{"inputs": {"z": [1], "b": [3]}}"#;
    let error = decode_invocations(body.as_bytes(), &context(&table)).unwrap_err();
    assert!(error.to_string().contains("features missing: a"), "{error}");
}

/// All other libraries compare names as they are.
#[test]
fn names_with_blanks_are_unknown_to_models_that_change_none() {
    let mut columns = signature();
    columns.inputs[1].name = "age_in_years".to_owned();
    columns.columns.as_mut().unwrap()[2].name = "age_in_years".to_owned();
    let row = r#"{"instances": [{"age in years": 3, "city": "Ulm"}]}"#;
    let error = v1(row, &columns).unwrap_err();
    assert!(error.contains("unknown column \"age in years\""), "{error}");
    let inputs = r#"{"name": "age in years", "shape": [1], "datatype": "FP64", "data": [3]},
        {"name": "city", "shape": [1], "datatype": "BYTES", "data": ["Ulm"]}"#;
    let error = v2(inputs, &columns).unwrap_err();
    assert!(error.contains("unknown column \"age in years\""), "{error}");
    let table = super::tests::signature(Some(["age_in_years", "b"]), false);
    for body in [
        r#"{"instances": [{"b": 3, "age in years": 3}]}"#,
        r#"{"inputs": {"b": [3], "age in years": [3]}}"#,
    ] {
        let error = decode_predict(body.as_bytes(), &context(&table)).unwrap_err();
        let expected = "unknown feature \"age in years\"; the model has age_in_years, b";
        assert!(error.to_string().contains(expected), "{error}");
    }
    let body = format!(
        "{{\"inputs\": [{}]}}",
        inputs
            .replace("\"BYTES\"", "\"FP64\"")
            .replace("\"Ulm\"", "1")
            .replace("\"city\"", "\"b\"")
    );
    let error = decode_infer(&body.into(), None, &context(&table)).unwrap_err();
    assert!(error.to_string().contains("unknown column"), "{error}");
}
