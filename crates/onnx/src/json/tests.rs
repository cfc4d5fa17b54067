//! What is read of JSON, and what is refused.

use super::*;

fn numbers(text: &str) -> Result<(Vec<usize>, Vec<f64>), String> {
    let tensor = tensor_of_json(text.as_bytes(), DType::F64)?;
    let values = tensor.values().to_f64s().unwrap().into_owned();
    Ok((tensor.shape().to_vec(), values))
}

#[test]
fn lists_in_lists_are_tensors() {
    let cases: [(&str, &[usize], &[f64]); 9] = [
        ("1.5", &[], &[1.5]),
        (" [1, -2e3 ,3]\n", &[3], &[1.0, -2000.0, 3.0]),
        ("[]", &[0], &[]),
        ("[[],[]]", &[2, 0], &[]),
        (
            "[[1,2],[3,4],[5,6]]",
            &[3, 2],
            &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
        ),
        (
            "[[[1,2,3]],[[4,5,-6]]]",
            &[2, 1, 3],
            &[1.0, 2.0, 3.0, 4.0, 5.0, -6.0],
        ),
        ("[[[]]]", &[1, 1, 0], &[]),
        ("-0", &[], &[-0.0]),
        ("[ [ 0.5 ] ]", &[1, 1], &[0.5]),
    ];
    for (text, shape, values) in cases {
        assert_eq!(
            numbers(text).unwrap(),
            (shape.to_vec(), values.to_vec()),
            "{text}"
        );
    }
    assert!(numbers("[null]").unwrap().1[0].is_nan());
}

#[test]
fn what_is_no_tensor_is_said() {
    let cases = [
        ("", "ends where a value belongs"),
        ("[1", "ends where ']' belongs"),
        ("[1,]", "where a value belongs"),
        ("[1 2]", "where ']' belongs"),
        ("[1]]", "where the end belongs"),
        ("[[1],[2,3]]", "different lengths"),
        ("[[1],2]", "different lengths"),
        ("[[],2]", "different lengths"),
        ("[2,[]]", "different lengths"),
        ("[[],[1]]", "different lengths"),
        ("[[],[[]]]", "different lengths"),
        ("[[[]],[]]", "different lengths"),
        ("[01]", "a number"),
        ("[1.]", "a number"),
        ("[.5]", "a value"),
        ("[1e]", "a number"),
        ("[1e999]", "1e999 is no FP64"),
        ("[NaN]", "a value"),
        ("[nul]", "a value"),
        ("[true]", "a truth value, where FP64 belongs"),
        ("[\"a\"]", "a string, where FP64 belongs"),
        ("{}", "a value"),
    ];
    for (text, part) in cases {
        let error = numbers(text).unwrap_err();
        assert!(error.contains(part), "{text}: {error}");
    }
    let deep = "[".repeat(1 << 20);
    assert!(numbers(&deep).unwrap_err().contains("deeper than 32"));
}

#[test]
fn integers_are_in_range_and_exact() {
    let integers = |text: &str, dtype| tensor_of_json(text.as_bytes(), dtype);
    let large = integers(
        "[9223372036854775807, -9223372036854775808, 3.0, 1e2]",
        DType::I64,
    );
    let expected = Values::I64(vec![i64::MAX, i64::MIN, 3, 100].into());
    assert_eq!(large.unwrap().values(), &expected);
    let unsigned = integers("18446744073709551615", DType::U64).unwrap();
    assert_eq!(unsigned.values(), &Values::U64(vec![u64::MAX].into()));
    for (text, dtype) in [
        ("9223372036854775808", DType::I64),
        ("1.5", DType::I64),
        ("-1", DType::U8),
        ("256", DType::U8),
        ("1e300", DType::I64),
        ("null", DType::I64),
    ] {
        assert!(integers(text, dtype).is_err(), "{text}");
    }
}

#[test]
fn strings_have_escapes() {
    let text = r#"["a\"\\\/\b\f\n\r\t", "ü\u00fc\ud83d\ude00"]"#;
    let tensor = tensor_of_json(text.as_bytes(), DType::Bytes).unwrap();
    let expected = ["a\"\\/\u{8}\u{c}\n\r\t", "üü😀"];
    assert_eq!(
        tensor.values(),
        &Values::Bytes(expected.into_iter().collect())
    );
    for text in [
        r#""\x""#,
        r#""\ud83d""#,
        r#""\ude00""#,
        r#""\u12""#,
        r#""\u+123""#,
        "\"\n\"",
        "\"a",
    ] {
        assert!(
            tensor_of_json(text.as_bytes(), DType::Bytes).is_err(),
            "{text}"
        );
    }
    assert!(tensor_of_json(b"\"\xff\"", DType::Bytes).is_err());
}

#[test]
fn objects_are_maps() {
    let map = |text: &str, key| map_of_json(text.as_bytes(), key, DType::F32);
    let (keys, values) = map(r#" { "b" : 1.5 , "a":-2 } "#, DType::Bytes).unwrap();
    assert_eq!(keys, Values::Bytes(["b", "a"].into_iter().collect()));
    assert_eq!(values, Values::F32(vec![1.5, -2.0].into()));
    let (keys, _) = map(r#"{"-7": 1, "10": null}"#, DType::I64).unwrap();
    assert_eq!(keys, Values::I64(vec![-7, 10].into()));
    assert!(map("{}", DType::Bytes).unwrap().0.is_empty());
    for (text, key, part) in [
        (r#"{"a": 1, "a": 2}"#, DType::Bytes, "\"a\" occurs twice"),
        (r#"{"1": 1, "+1": 2}"#, DType::I64, "\"1\" occurs twice"),
        (r#"{"a": 1}"#, DType::I64, "\"a\" is no integer"),
        (r#"{"a": [1]}"#, DType::Bytes, "a value"),
        (r#"{"a": "1"}"#, DType::Bytes, "\"a\": a string, where FP32"),
        (r#"{"a" 1}"#, DType::Bytes, "':'"),
        (r#"{"a": 1,}"#, DType::Bytes, "a string"),
        ("[1]", DType::Bytes, "'{'"),
    ] {
        let error = map(text, key).unwrap_err();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn items_of_a_list_are_texts() {
    let items = |text: &'static str| {
        let items = items_of_json(text.as_bytes())?;
        let texts = items.iter().map(|item| str::from_utf8(item).unwrap());
        Ok::<_, String>(texts.collect::<Vec<_>>())
    };
    assert_eq!(items("[]").unwrap(), [""; 0]);
    let text = r#" [ [1, 2] , {"a": "]"}, "x,y" ,null] "#;
    assert_eq!(
        items(text).unwrap(),
        ["[1, 2]", r#"{"a": "]"}"#, r#""x,y""#, "null"]
    );
    for text in ["", "1", "[1", "[1,]", "[[1]", "[1] 2", "[]]"] {
        assert!(items(text).is_err(), "{text}");
    }
}
