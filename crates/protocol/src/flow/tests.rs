//! Answers on their way. What Seldon's wrapper (seldon-core 1.17.1) makes of the same messages is what is expected of `meta` and of means.

use super::*;

fn text(result: Result<Vec<u8>, RequestError>) -> String {
    match result {
        Ok(body) => String::from_utf8(body).unwrap(),
        Err(error) => format!("{}: {error}", error.code().as_str()),
    }
}

#[test]
fn answers_are_requests_with_the_same_numbers() {
    for (dialect, answer, expected) in [
        (
            Dialect::Seldon,
            r#"{"data":{"names":["t:0"],"ndarray":[[0.30000000000000004], [null]]},"meta":{"puid":"p","requestPath":{"a":"coracle"}}}"#,
            r#"{"data":{"ndarray":[[0.30000000000000004], [null]]}}"#,
        ),
        (
            Dialect::Seldon,
            r#"{"data":{"names":[],"tensor":{"shape":[1,2],"values":[1,2]}}}"#,
            r#"{"data":{"tensor":{"shape":[1,2],"values":[1,2]}}}"#,
        ),
        (
            Dialect::V1,
            r#"{"predictions": [[1.5, 2], [3, 4]]}"#,
            r#"{"instances":[[1.5, 2], [3, 4]]}"#,
        ),
        (
            Dialect::V2,
            r#"{"model_name":"a","model_version":"1","id":"i","outputs":[{"name":"transform","shape":[1,2],"datatype":"FP64","data":[0.1,1e300]}]}"#,
            r#"{"id":"i","inputs":[{"name":"transform","datatype":"FP64","shape":[1,2],"data":[0.1,1e300]}]}"#,
        ),
    ] {
        assert_eq!(text(as_request(dialect, answer.as_bytes(), None)), expected);
    }
}

#[test]
fn what_cannot_be_handed_on_is_said() {
    for (dialect, answer, words) in [
        (Dialect::Seldon, r#"{"data":{}}"#, "none, or both"),
        (Dialect::Seldon, r#"{"meta":{}}"#, "missing field `data`"),
        (Dialect::Seldon, "[", "the model's answer"),
        (
            Dialect::V1,
            r#"{"outputs":{"a":[1]}}"#,
            "only \"predictions\"",
        ),
        (
            Dialect::V1,
            r#"{"result":{"a":[1]}}"#,
            "only \"predictions\"",
        ),
        (
            Dialect::V2,
            r#"{"outputs":[{"name":"a","shape":[1],"datatype":"FP64"}]}"#,
            "no data as JSON",
        ),
        (
            Dialect::V2,
            r#"{"outputs":[{"name":"a","shape":[-1],"datatype":"FP64","data":[1]}]}"#,
            "the model's answer",
        ),
    ] {
        let found = text(as_request(dialect, answer.as_bytes(), None));
        assert!(
            found.starts_with("Internal") || found.starts_with("internal"),
            "{found}"
        );
        assert!(found.contains(words), "{answer}: {found}");
    }
}

/// It is how the caller asks that is answered so, and his to mend; the same answer to `instances` is the model's fault.
#[test]
fn inputs_by_name_are_refused_of_graphs() {
    let refusal = form_refusal(Dialect::V1, br#"{"inputs": {"a": [1]}}"#);
    let error = refusal.unwrap();
    assert_eq!(error.code(), Code::InvalidArgument);
    let message = error.to_string();
    assert!(
        message.contains("ask this graph by \"instances\""),
        "{message}"
    );
    for (dialect, request) in [
        (Dialect::V1, r#"{"instances": [[1]]}"#),
        (Dialect::V1, r#"{"instances": [[1]], "inputs": [[1]]}"#),
        (Dialect::V1, "["),
        (Dialect::V2, r#"{"inputs": []}"#),
    ] {
        let found = form_refusal(dialect, request.as_bytes());
        assert!(found.is_none(), "{request}");
    }
    let answer = br#"{"outputs":{"a":[1]}}"#;
    let mean = average(Dialect::V1, "mean", &[answer, answer], 10);
    assert_eq!(mean.unwrap_err().code(), Code::Internal);
}

/// `numpy.mean([[0.1, 0.9]], [[0.2, 0.3]])` has these very numbers, as Seldon's wrapper gives them.
#[test]
fn means_are_numpys() {
    let rows = |a: f64, b: f64| {
        format!(r#"{{"data":{{"names":["t:0","t:1"],"ndarray":[[{a},{b}]]}},"meta":{{}}}}"#)
    };
    let both = [rows(0.1, 0.9), rows(0.2, 0.3)];
    assert_eq!(
        text(average(Dialect::Seldon, "mean", &both, 10)),
        r#"{"data":{"names":["t:0","t:1"],"ndarray":[[0.15000000000000002,0.6]]},"meta":{}}"#
    );
    // The form is that of the first.
    let tensor = r#"{"data":{"tensor":{"shape":[1,2],"values":[0.1,0.9]}}}"#.to_owned();
    assert_eq!(
        text(average(
            Dialect::Seldon,
            "mean",
            &[tensor, rows(0.2, 0.3)],
            10
        )),
        r#"{"data":{"names":[],"tensor":{"shape":[1,2],"values":[0.15000000000000002,0.6]}},"meta":{}}"#
    );
    let predictions = [
        r#"{"predictions":[1,2,3]}"#,
        r#"{"predictions":[2,2,4.5]}"#,
        r#"{"predictions":[6,2,0]}"#,
    ];
    assert_eq!(
        text(average(Dialect::V1, "mean", &predictions, 10)),
        r#"{"predictions":[3.0,2.0,2.5]}"#
    );
    let outputs = |datatype: &str, data: &str| {
        format!(
            r#"{{"model_name":"x","id":"7","outputs":[{{"name":"predict","shape":[2],"datatype":"{datatype}","data":{data}}}]}}"#
        )
    };
    let both = [outputs("INT64", "[1,2]"), outputs("FP32", "[2,4]")];
    assert_eq!(
        text(average(Dialect::V2, "mean", &both, 10)),
        r#"{"model_name":"mean","model_version":"1","id":"7","outputs":[{"name":"predict","datatype":"FP64","shape":[2],"data":[1.5,3.0]}]}"#
    );
    // Where there are several outputs, their names tell which is which.
    let two = |first: (&str, f64), second: (&str, f64)| {
        let output = |(name, value): (&str, f64)| {
            format!(r#"{{"name":"{name}","datatype":"FP64","shape":[1],"data":[{value}]}}"#)
        };
        format!(
            r#"{{"model_name":"m","outputs":[{},{}]}}"#,
            output(first),
            output(second)
        )
    };
    let (one, other) = (two(("p", 1.0), ("q", 10.0)), two(("q", 30.0), ("p", 3.0)));
    let mean = text(average(
        Dialect::V2,
        "mean",
        &[one.as_bytes(), other.as_bytes()],
        10,
    ));
    let mean: serde_json::Value = serde_json::from_str(&mean).unwrap();
    let data = |index: usize| mean["outputs"][index]["data"][0].as_f64();
    assert_eq!((data(0), data(1)), (Some(2.0), Some(20.0)));
    let strange = two(("p", 3.0), ("r", 30.0));
    let refused = average(
        Dialect::V2,
        "mean",
        &[one.as_bytes(), strange.as_bytes()],
        10,
    );
    assert!(refused.is_err_and(|error| error.to_string().contains("not in all")));
}

#[test]
fn what_has_no_mean_is_said() {
    let of = |ndarray: &str| format!(r#"{{"data":{{"ndarray":{ndarray}}}}}"#);
    let none: [String; 0] = [];
    for (dialect, answers, words) in [
        (
            Dialect::Seldon,
            vec![of("[[1,2]]"), of("[[1],[2]]")],
            "[1, 2] of the first, [2, 1] of the one at 1",
        ),
        (
            Dialect::Seldon,
            vec![of("[[1,2]]"), of("[1,2]")],
            "different shapes",
        ),
        (
            Dialect::Seldon,
            vec![of("[\"setosa\"]"), of("[1]")],
            "must be numbers",
        ),
        (Dialect::Seldon, vec![of("[[1,2],[3]]")], "ragged"),
        (
            Dialect::Seldon,
            vec![of("[[[[[[[[[1]]]]]]]]]")],
            "nested 9 deep",
        ),
        (
            Dialect::Seldon,
            vec![of("[1,2,3,4,5,6]")],
            "more than 5 elements",
        ),
        (
            Dialect::Seldon,
            vec![r#"{"data":{"tensor":{"shape":[3],"values":[1,2]}}}"#.to_owned()],
            "shape",
        ),
        (
            Dialect::Seldon,
            vec![
                r#"{"data":{"tensor":{"shape":[18446744073709551615,2],"values":[1,2]}}}"#
                    .to_owned(),
            ],
            "shape",
        ),
        (Dialect::Seldon, none.to_vec(), "nothing to average"),
        (Dialect::V1, none.to_vec(), "nothing to average"),
        (Dialect::V2, none.to_vec(), "nothing to average"),
        (
            Dialect::V1,
            vec![r#"{"predictions":[{"a":1}]}"#.to_owned()],
            "must be numbers",
        ),
        (
            Dialect::V2,
            vec![
                r#"{"outputs":[{"name":"a","shape":[1],"datatype":"FP64","data":[1]}]}"#.to_owned(),
                r#"{"outputs":[]}"#.to_owned(),
            ],
            "\"a\" of shape [1] is not in all of them",
        ),
    ] {
        let found = text(average(dialect, "mean", &answers, 5));
        assert!(found.contains(words), "{answers:?}: {found}");
    }
    assert!(text(fixed(Dialect::V2)).contains("Seldon's protocol only"));
}

#[test]
fn meta_tells_the_whole_way() {
    let body = br#"{"data":{"ndarray":[[1]]},"meta":{"puid":"p1","tags":{"a":[1,{"b":2}]},"routing":{"r":1}}}"#;
    let asked = request_meta(body).unwrap();
    assert_eq!(asked.tags.as_deref(), Some(r#"{"a":[1,{"b":2}]}"#));
    let answer = br#"{"data":{"names":["t:0"],"ndarray":[[2.50]]},"meta":{"requestPath":{"last":"coracle"}}}"#;
    let meta = Meta {
        asked: &asked,
        routing: &[("r", 1), ("in\"ner", 0)],
        path: &["first", "last"],
        fallback: None,
    };
    assert_eq!(
        text(with_meta(answer, &meta)),
        r#"{"data":{"names":["t:0"],"ndarray":[[2.50]]},"meta":{"puid":"p1","tags":{"a":[1,{"b":2}]},"routing":{"r":1,"in\"ner":0},"requestPath":{"first":"coracle","last":"coracle"}}}"#
    );
    let meta = Meta {
        asked: &RequestMeta::default(),
        routing: &[],
        path: &[],
        fallback: None,
    };
    let fixed = fixed(Dialect::Seldon).unwrap();
    assert_eq!(
        text(with_meta(&fixed, &meta)),
        r#"{"data":{"names":["class0","class1","class2"],"tensor":{"shape":[1,3],"values":[0.1,0.9,0.5]}},"meta":{"requestPath":{}}}"#
    );
    for (body, words) in [
        (r#"{"meta":{"tags":[1]}}"#, "meta.tags must be an object"),
        (r#"{"meta":{"puid":7}}"#, "string"),
        ("{", "not valid JSON"),
    ] {
        let error = request_meta(body.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn what_stands_in_is_told_as_a_tag() {
    let answer = br#"{"data":{"ndarray":[[2.50]]},"meta":{"tags":{"a":[1.0,{}]},"requestPath":{"last":"coracle"}}}"#;
    assert_eq!(
        text(with_fallback(answer, "service")),
        r#"{"data":{"ndarray":[[2.50]]},"meta":{"tags":{"a":[1.0,{}],"fallback":"service"},"requestPath":{"last":"coracle"}}}"#
    );
    let meta = |tags: &str| {
        let asked = RequestMeta {
            puid: None,
            tags: Some(tags.to_owned()),
        };
        let meta = Meta {
            asked: &asked,
            routing: &[("r", -2)],
            path: &[],
            fallback: Some("constant"),
        };
        text(with_meta(br#"{"data":{"ndarray":[1]}}"#, &meta))
    };
    // The caller's own of that name would say something else.
    for tags in ["{}", r#"{"fallback": "mine"}"#, r#"{"fall\u0062ack": 1}"#] {
        assert_eq!(
            meta(tags),
            r#"{"data":{"ndarray":[1]},"meta":{"tags":{"fallback":"constant"},"routing":{"r":-2},"requestPath":{}}}"#
        );
    }
    assert!(meta("{").contains("meta.tags"));
    for damaged in [
        "",
        "{",
        "[]",
        r#"{"data":1,"meta":[]}"#,
        r#"{"data":1,"meta":{"tags":2}}"#,
    ] {
        assert!(
            with_fallback(damaged.as_bytes(), "service").is_err(),
            "{damaged}"
        );
    }
}

#[test]
fn who_answered_is_told_once() {
    let answer = br#"{"data":{"ndarray":[[2.50]]},"meta":{"requestPath":{"last":"coracle"},"routing":{"other":1}}}"#;
    assert_eq!(
        text(with_routing(answer, ("a\"b", -2))),
        r#"{"data":{"ndarray":[[2.50]]},"meta":{"routing":{"a\"b":-2},"requestPath":{"last":"coracle"}}}"#
    );
    for damaged in ["", "{", "[]", r#"{"data":1,"meta":[]}"#] {
        assert!(with_routing(damaged.as_bytes(), ("a", 0)).is_err());
    }
}

#[test]
fn damaged_answers_are_errors() {
    let bodies: [&[u8]; 3] = [
        br#"{"data":{"names":["t:0"],"tensor":{"shape":[1,2],"values":[1,2]}},"meta":{"puid":"p","tags":{}}}"#,
        br#"{"predictions":[[1,2],[3,4]]}"#,
        br#"{"id":"i","outputs":[{"name":"a","shape":[2],"datatype":"FP64","data":[1,2]}]}"#,
    ];
    for (body, dialect) in bodies
        .iter()
        .zip([Dialect::Seldon, Dialect::V1, Dialect::V2])
    {
        assert!(
            as_request(dialect, body, None).is_ok()
                && average(dialect, "n", &[body, body], 9).is_ok()
        );
        for end in 0..body.len() {
            let cut = body.get(..end).unwrap();
            assert!(as_request(dialect, cut, None).is_err(), "{end}");
            assert!(average(dialect, "n", &[body, cut], 9).is_err(), "{end}");
        }
        for place in 0..body.len() {
            let mut flipped = body.to_vec();
            if let Some(byte) = flipped.get_mut(place) {
                *byte ^= 4;
            }
            // Whatever comes of it, it is no panic.
            drop(as_request(dialect, &flipped, None));
            drop(average(dialect, "n", &[&flipped, &flipped], 9));
            drop(outputs(dialect, &flipped, 9));
            drop(request_meta(&flipped));
        }
    }
}

#[test]
fn answers_are_read_as_what_they_are_for_comparing() {
    let f64s = |shape: &[usize], values: &[f64]| {
        let values = Values::F64(values.to_vec().into());
        Tensor::try_new(shape.to_vec(), values).unwrap()
    };
    let i64s = |values: &[i64]| {
        let values = Values::I64(values.to_vec().into());
        Tensor::try_new(vec![values.len()], values).unwrap()
    };
    let texts = |text: &str| {
        let mut texts = coracle_tensor::ByteStrings::new();
        texts.push(text.as_bytes());
        Tensor::try_new(vec![1], Values::Bytes(texts)).unwrap()
    };
    let by_name = r#"{"predictions":[{"a":1}]}"#;
    for (dialect, answer, name, expected) in [
        (
            Dialect::Seldon,
            r#"{"data":{"names":["t:0"],"ndarray":[[0.5,1.0]]},"meta":{}}"#,
            "data",
            f64s(&[1, 2], &[0.5, 1.0]),
        ),
        (
            Dialect::Seldon,
            r#"{"data":{"tensor":{"shape":[2,1],"values":[0.5,2.0]}}}"#,
            "data",
            f64s(&[2, 1], &[0.5, 2.0]),
        ),
        (
            Dialect::V1,
            r#"{"predictions":[0,2]}"#,
            "predictions",
            i64s(&[0, 2]),
        ),
        (
            Dialect::V1,
            r#"{"predictions":["no"]}"#,
            "predictions",
            texts("no"),
        ),
        (
            Dialect::V2,
            r#"{"outputs":[{"name":"p","shape":[1,2],"datatype":"FP64","data":[1,2]}]}"#,
            "p",
            f64s(&[1, 2], &[1.0, 2.0]),
        ),
        // What is no tensor can still be the same or another one.
        (Dialect::V1, by_name, "answer", texts(by_name)),
    ] {
        let found = outputs(dialect, answer.as_bytes(), 9);
        assert_eq!(found, [(name.to_owned(), expected)], "{answer}");
    }
    let many = outputs(Dialect::V1, br#"{"predictions":[0,2]}"#, 1);
    assert_eq!(many[0].0, "answer");
}
