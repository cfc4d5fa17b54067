//! What each route answers.

use coracle_gateway::Limits;
use coracle_serving::{LoadPhases, LoadedModel, ModelTable, ServedModel};

use crate::client::{connect, read_answer, send, write_request};
use crate::fixture::{config, start, start_with, sum_model};

pub(crate) const JSON: (&str, &str) = ("content-type", "application/json");
pub(crate) const ROW: &[u8] = br#"{"instances": [[1, 2]]}"#;

#[test]
fn reading_routes_answer() {
    let server = start(config(Limits::default()));
    let cases = [
        ("/", r#"{"status":"alive"}"#),
        ("/healthz", r#"{"live":true}"#),
        ("/readyz", r#"{"ready":true}"#),
        ("/v1/models", r#"{"models":["sum"]}"#),
        (
            "/v1/models/sum",
            r#"{"name":"sum","ready":true,"model_version_status":[{"version":"1","state":"AVAILABLE","status":{"error_code":"OK","error_message":""}}]}"#,
        ),
        (
            "/v2",
            r#"{"name":"coracle","version":"9.8.7","extensions":["binary_tensor_data","model_configuration","model_repository","parameters","statistics","system_shared_memory"]}"#,
        ),
        ("/v2/health/live", r#"{"live":true}"#),
        ("/v2/health/ready", r#"{"ready":true}"#),
        ("/v2/models", r#"{"models":["sum"]}"#),
        ("/v2/models/sum/ready", r#"{"name":"sum","ready":true}"#),
        (
            "/v2/models/sum/versions/1/ready",
            r#"{"name":"sum","ready":true}"#,
        ),
        (
            "/v2/models/sum",
            r#"{"name":"sum","versions":["1"],"platform":"","inputs":[{"name":"X","datatype":"FP64","shape":[-1,2]}],"outputs":[{"name":"predict","datatype":"FP64","shape":[-1]},{"name":"twice","datatype":"FP64","shape":[-1]}]}"#,
        ),
    ];
    for (path, body) in cases {
        let answer = send(server.address, "GET", path, &[], b"");
        assert_eq!((answer.status, answer.body.as_str()), (200, body), "{path}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let head = send(server.address, "HEAD", path, &[], b"");
        assert_eq!((head.status, head.body.as_str()), (200, ""), "HEAD {path}");
        assert_eq!(
            head.header("content-length"),
            Some(body.len().to_string().as_str())
        );
    }
}

#[test]
fn mlflows_paths_are_the_only_models() {
    let server = start(config(Limits::default()));
    let bodies = [
        r#"{"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2], [3, 4]]}}"#,
        r#"{"instances": [[1, 2], [3, 4]], "params": {"unknown": true}}"#,
        r#"{"inputs": [[1, 2], [3, 4]]}"#,
        r#"{"inputs": {"X": [[1, 2], [3, 4]]}}"#,
    ];
    for path in ["/invocations", "/invocations/"] {
        for body in bodies {
            let answer = send(server.address, "POST", path, &[JSON], body.as_bytes());
            let expected = (200, r#"{"predictions":[3.0,7.0]}"#);
            assert_eq!((answer.status, answer.body.as_str()), expected, "{body}");
        }
    }
    for path in ["/ping", "/health"] {
        assert_eq!(send(server.address, "GET", path, &[], b"").status, 200);
    }
    let answer = send(server.address, "GET", "/invocations", &[], b"");
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
}

#[test]
fn columns_beyond_an_mlflow_signature_are_passed_over_at_mlflows_path_alone() {
    let server = start_with(config(Limits::default()), |_sum| {
        ModelTable::try_new([named("signed", true)]).unwrap()
    });
    let body = br#"{"dataframe_split": {"columns": ["z", "b", "a"], "data": [["x", 2, 1]]}}"#;
    let answer = send(server.address, "POST", "/invocations", &[JSON], body);
    let expected = (200, r#"{"predictions":[3.0]}"#);
    assert_eq!((answer.status, answer.body.as_str()), expected);
    let path = "/v1/models/signed:predict";
    let answer = send(server.address, "POST", path, &[JSON], body);
    assert_eq!(answer.status, 400, "{}", answer.body);
    assert!(
        answer.body.contains("unknown feature \\\"z\\\""),
        "{}",
        answer.body
    );
}

#[test]
fn mlflows_path_takes_csv_in_utf_8() {
    let server = start_with(config(Limits::default()), |_sum| {
        ModelTable::try_new([named("signed", true)]).unwrap()
    });
    let table = b",b,a\n0,2,1\n1,\"4\",3.5\n";
    let ask = |path: &str, content_type: &str| {
        send(
            server.address,
            "POST",
            path,
            &[("content-type", content_type)],
            table,
        )
    };
    for content_type in [
        "text/csv",
        "Text/CSV;Charset=UTF-8",
        "text/csv; header=present",
    ] {
        let answer = ask("/invocations", content_type);
        let expected = (200, r#"{"predictions":[3.0,7.5]}"#);
        assert_eq!(
            (answer.status, answer.body.as_str()),
            expected,
            "{content_type}"
        );
    }
    for (path, content_type, what) in [
        (
            "/invocations",
            "text/csv; charset=latin-1",
            "or CSV in UTF-8",
        ),
        (
            "/invocations",
            "text/plain",
            "send application/json, or a table as text/csv",
        ),
        (
            "/v1/models/signed:predict",
            "text/csv",
            "CSV is taken at /invocations",
        ),
    ] {
        let answer = ask(path, content_type);
        assert_eq!(answer.status, 415, "{content_type}");
        assert!(answer.body.contains(what), "{}", answer.body);
    }
}

#[test]
fn mlflows_path_fails_in_mlflows_words() {
    let server = start(config(Limits::default()));
    let few = br#"{"dataframe_split": {"data": [[1, "x"]]}}"#;
    for (body, status, code, message) in [
        (
            &few[..],
            400,
            "BAD_REQUEST",
            "dataframe_split[0][1]: a string where a number belongs",
        ),
        (
            b"",
            400,
            "BAD_REQUEST",
            "the request body is empty; send JSON such as",
        ),
        (b"{", 400, "BAD_REQUEST", "the body is not valid JSON"),
    ] {
        let answer = send(server.address, "POST", "/invocations", &[JSON], body);
        assert_eq!(answer.status, status);
        let start = format!(r#"{{"error_code":"{code}","message":"{message}"#);
        assert!(answer.body.starts_with(&start), "{}", answer.body);
        assert!(!answer.body.contains("\"error\""), "{}", answer.body);
    }
    let v1 = send(
        server.address,
        "POST",
        "/v1/models/sum:predict",
        &[JSON],
        few,
    );
    assert!(
        v1.body.starts_with(r#"{"error":"dataframe_split"#),
        "{}",
        v1.body
    );
}

#[test]
fn paths_that_name_no_model_say_which_there_are() {
    let server = start_with(config(Limits::default()), |sum| {
        ModelTable::try_new([sum, named("other", false)]).unwrap()
    });
    for path in ["/invocations", "/v1/models:predict", "/v2/models/infer"] {
        let answer = send(server.address, "POST", path, &[JSON], ROW);
        assert_eq!(answer.status, 404, "{path}");
        let expected = "the path names no model, and more than one may be meant: other, sum; ask for one at /v1/models/NAME:predict, which takes the same bodies";
        assert!(answer.body.contains(expected), "{path}: {}", answer.body);
    }
}

/// A model like `sum` of another name, with or without a signature of MLflow's.
fn named(name: &str, is_signed: bool) -> ServedModel {
    let (mut model, ..) = sum_model();
    model.signature.name_rules.mlflow_names_columns = is_signed;
    model.signature.inputs[0].columns = Some(vec!["a".to_owned(), "b".to_owned()]);
    let loaded = LoadedModel::new(name.to_owned(), Box::new(model), LoadPhases::default());
    ServedModel::new(loaded, 2)
}

#[test]
fn inferences_answer_in_both_protocols() {
    let server = start(config(Limits::default()));
    let v2 = br#"{"id": "7", "inputs": [{"name": "a", "shape": [1, 2], "datatype": "INT64", "data": [1, 2]}]}"#;
    let cases: [(&str, &[u8], &str); 5] = [
        ("/v1/models/sum:predict", ROW, r#"{"predictions":[3.0]}"#),
        ("/v1/models/%73um:predict", ROW, r#"{"predictions":[3.0]}"#),
        (
            "/v1/models/sum:predict?method=twice",
            ROW,
            r#"{"predictions":[3.0]}"#,
        ),
        (
            "/v2/models/sum/infer",
            v2,
            r#"{"model_name":"sum","model_version":"1","id":"7","outputs":[{"name":"predict","shape":[1],"datatype":"FP64","data":[3.0]}]}"#,
        ),
        (
            "/v2/models/sum/versions/1/infer",
            v2,
            r#"{"model_name":"sum","model_version":"1","id":"7","outputs":[{"name":"predict","shape":[1],"datatype":"FP64","data":[3.0]}]}"#,
        ),
    ];
    for (path, body, expected) in cases {
        let answer = send(server.address, "POST", path, &[JSON], body);
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (200, expected),
            "{path}"
        );
    }
}

#[test]
fn tensors_travel_as_raw_bytes() {
    let server = start(config(Limits::default()));
    let json = br#"{"inputs":[{"name":"x","shape":[2,2],"datatype":"FP32","parameters":{"binary_data_size":16}}],"outputs":[{"name":"predict","parameters":{"binary_data":true}}]}"#;
    let mut body = json.to_vec();
    for number in [1.0_f32, 2.0, 0.5, 0.25] {
        body.extend_from_slice(&number.to_le_bytes());
    }
    let length = json.len().to_string();
    let headers = [
        ("content-type", "application/octet-stream"),
        ("inference-header-content-length", &length),
    ];
    let path = "/v2/models/sum/infer";
    let answer = send(server.address, "POST", path, &headers, &body);
    assert_eq!(answer.status, 200, "{}", answer.body);
    let json = r#"{"model_name":"sum","model_version":"1","outputs":[{"name":"predict","shape":[2],"datatype":"FP64","parameters":{"binary_data_size":16}}]}"#;
    let header = answer.header("inference-header-content-length").unwrap();
    assert_eq!(header, json.len().to_string());
    assert_eq!(
        answer.header("content-type"),
        Some("application/octet-stream")
    );
    let sums = [3.0_f64, 0.75].map(f64::to_le_bytes).concat();
    assert_eq!(answer.bytes, [json.as_bytes(), &sums].concat());
    // The body alone, without JSON: the model's only input in its own datatype.
    let rows = [1.0_f64, 2.0].map(f64::to_le_bytes).concat();
    let headers = [("inference-header-content-length", "0")];
    let answer = send(server.address, "POST", path, &headers, &rows);
    assert_eq!(
        (
            answer.status,
            answer.bytes.ends_with(&3.0_f64.to_le_bytes())
        ),
        (200, true)
    );
}

#[test]
fn tritons_extensions_answer() {
    let server = start(config(Limits::default()));
    let ask = |method: &str, path: &str, body: &[u8]| {
        let answer = send(server.address, method, path, &[], body);
        (answer.status, answer.body)
    };
    let config = r#"{"name":"sum","platform":"","backend":"coracle","version_policy":{"specific":{"versions":[1]}},"max_batch_size":33554432,"input":[{"name":"X","data_type":"TYPE_FP64","dims":[2]}],"output":[{"name":"predict","data_type":"TYPE_FP64","dims":[1]},{"name":"twice","data_type":"TYPE_FP64","dims":[1]}],"model_transaction_policy":{"decoupled":false}}"#;
    let index = r#"[{"name":"sum","version":"1","state":"READY","reason":""}]"#;
    for (method, path, expected) in [
        ("GET", "/v2/models/sum/config", config),
        ("GET", "/v2/models/sum/versions/1/config", config),
        ("POST", "/v2/repository/index", index),
        ("GET", "/v2/systemsharedmemory/status", "[]"),
        ("GET", "/v2/cudasharedmemory/status", "[]"),
        ("POST", "/v2/systemsharedmemory/unregister", ""),
        ("POST", "/v2/cudasharedmemory/unregister", ""),
    ] {
        assert_eq!(ask(method, path, b""), (200, expected.to_owned()), "{path}");
    }
    assert_eq!(
        ask("POST", "/v2/repository/index", br#"{"ready":true}"#).1,
        index
    );
    ask(
        "POST",
        "/v1/models/sum:predict",
        br#"{"instances": [[1, 2], [3, 4]]}"#,
    );
    ask("POST", "/v1/models/sum:predict", b"{");
    let (_, one) = ask("GET", "/v2/models/sum/stats", b"");
    let (_, all) = ask("GET", "/v2/models/stats", b"");
    assert_eq!(one, all);
    assert!(
        one.starts_with(r#"{"model_stats":[{"name":"sum","version":"1","last_inference":"#),
        "{one}"
    );
    for part in [
        r#","inference_count":2,"execution_count":1,"inference_stats":{"success":{"count":1,"ns":"#,
        r#""fail":{"count":1,"ns":"#,
        r#""compute_infer":{"count":1,"ns":"#,
        r#""memory_usage":[{"type":"CPU","id":0,"byte_size":123}]"#,
    ] {
        assert!(one.contains(part), "{part}: {one}");
    }
}

/// Path, headers and body of requests of extensions that are refused, with the status and a part of the message.
const EXTENSION_REFUSALS: [(&str, &[(&str, &str)], &[u8], u16, &str); 9] = [
    ("/v2/repository/index", &[], b"[", 400, "not valid JSON"),
    (
        "/v2/repository/models/sum/load",
        &[],
        b"",
        400,
        "models are not loaded and unloaded on request here",
    ),
    (
        "/v2/repository/models/sum/unload",
        &[],
        b"",
        400,
        "models are not loaded and unloaded on request here",
    ),
    (
        "/v2/repository/models/sum/load",
        &[],
        br#"{"parameters": {"config": "{}"}}"#,
        501,
        "load parameter \\\"config\\\": models are loaded from their own files only",
    ),
    (
        "/v2/systemsharedmemory/region/r/register",
        &[],
        b"{}",
        400,
        "missing field `key`",
    ),
    (
        "/v2/systemsharedmemory/region/r/register",
        &[],
        br#"{"key": "/../x", "byte_size": 1}"#,
        400,
        "it must name a file directly under /dev/shm",
    ),
    (
        "/v2/systemsharedmemory/region/r/register",
        &[],
        br#"{"key": "x", "byte_size": -1}"#,
        400,
        "invalid value",
    ),
    (
        "/v2/systemsharedmemory/region/r/register",
        &[("origin", "http://example.com")],
        br#"{"key": "x", "byte_size": 1}"#,
        400,
        "web pages may not change",
    ),
    (
        "/v2/models/nope/config",
        &[],
        b"",
        405,
        "takes GET, HEAD only",
    ),
];

#[test]
fn tritons_extensions_refuse() {
    let server = start(config(Limits::default()));
    for (path, headers, body, status, message) in EXTENSION_REFUSALS {
        let answer = send(server.address, "POST", path, headers, body);
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        assert!(answer.body.contains(message), "{path}: {}", answer.body);
    }
    for path in [
        "/v2/models/nope/config",
        "/v2/models/nope/stats",
        "/v2/systemsharedmemory/region/r/status",
    ] {
        assert_eq!(
            send(server.address, "GET", path, &[], b"").status,
            404,
            "{path}"
        );
    }
}

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

/// Method, path, headers and body of requests that are refused, with the status and a part of the message.
const REFUSALS: &[(&str, &str, &[(&str, &str)], &[u8], u16, &str)] = &[
    (
        "GET",
        "/nope",
        &[],
        b"",
        404,
        "nothing is at /nope; there are /v1/models",
    ),
    (
        "GET",
        "/api?timeout=32s",
        &[],
        b"",
        404,
        "export KUBECONFIG=~/.coracle/kubeconfig",
    ),
    (
        "GET",
        "/v1/models/nope",
        &[],
        b"",
        404,
        "Model with name nope does not exist.",
    ),
    (
        "POST",
        "/v1/models/nope:predict",
        &[JSON],
        ROW,
        404,
        "Model with name nope does not exist.",
    ),
    (
        "POST",
        "/v2/models/nope/infer",
        &[JSON],
        ROW,
        404,
        "Model with name nope does not exist.",
    ),
    (
        "GET",
        "/v2/models/sum/versions/2",
        &[],
        b"",
        404,
        "model 'sum' has no version '2'; it has 1",
    ),
    (
        "POST",
        "/v2/models/sum/versions/x/infer",
        &[JSON],
        ROW,
        404,
        "model 'sum' has no version 'x'",
    ),
    (
        "GET",
        "/v1/models/sum:predict",
        &[],
        b"",
        405,
        "takes POST only",
    ),
    (
        "POST",
        "/v1/models",
        &[JSON],
        b"{}",
        405,
        "takes GET, HEAD only",
    ),
    (
        "POST",
        "/v1/models/sum:explain",
        &[JSON],
        ROW,
        501,
        "model 'sum' has no explainer",
    ),
    (
        "POST",
        "/v1/models/sum:predict",
        &[FORM],
        ROW,
        415,
        "add -H 'Content-Type: application/json'",
    ),
    (
        "POST",
        "/v1/models/sum:predict",
        &[("content-type", "text/plain")],
        ROW,
        415,
        "content type 'text/plain' is not supported",
    ),
    (
        "POST",
        "/v1/models/sum:predict",
        &[JSON, ("content-encoding", "gzip")],
        ROW,
        400,
        "not gzip data",
    ),
    (
        "POST",
        "/v1/models/sum:predict",
        &[JSON, ("content-encoding", "compress")],
        ROW,
        415,
        "content encoding 'compress' is not supported; supported are gzip, br, zstd, deflate",
    ),
    (
        "POST",
        "/v2/models/sum/infer",
        &[JSON, ("inference-header-content-length", "500")],
        ROW,
        400,
        "Inference-Header-Content-Length is 500, the body has 23 bytes",
    ),
    (
        "POST",
        "/v2/models/sum/infer",
        &[("inference-header-content-length", "-5")],
        ROW,
        400,
        "Inference-Header-Content-Length must be the number of bytes of the JSON",
    ),
    (
        "POST",
        "/v2/models/sum/infer",
        &[("content-type", "application/octet-stream")],
        ROW,
        415,
        "or binary tensor data to V2 with the header Inference-Header-Content-Length",
    ),
    (
        "POST",
        "/v1/models/sum:predict",
        &[JSON],
        b"",
        400,
        "the request body is empty",
    ),
    (
        "POST",
        "/v1/models/sum:predict",
        &[JSON],
        b"{",
        400,
        "the body is not valid JSON",
    ),
    (
        "POST",
        "/v1/models/sum:predict",
        &[JSON],
        br#"{"instances": [[1]]}"#,
        400,
        "instances[0]: 1 values, model expects 2",
    ),
    (
        "POST",
        "/v1/models/sum:predict",
        &[JSON],
        br#"{"instances": [[1, NaN]]}"#,
        400,
        "JSON has no NaN",
    ),
    (
        "POST",
        "/v1/models/sum:predict?method=fly",
        &[JSON],
        ROW,
        400,
        "unknown method \\\"fly\\\"; the model has predict, twice",
    ),
    (
        "POST",
        "/v2/models/sum/infer",
        &[JSON],
        br#"{"inputs": [{"name": "x", "shape": [2], "datatype": "FP64", "data": [1, 2]}]}"#,
        400,
        "two columns, please",
    ),
    (
        "POST",
        "/v1/models/sum:predict",
        &[JSON],
        br#"{"instances": [[-1, 0]]}"#,
        500,
        "model 'sum' failed",
    ),
];

#[test]
fn refusals_are_json_and_say_why() {
    let server = start(config(Limits::default()));
    for &(method, path, headers, body, status, message) in REFUSALS {
        let answer = send(server.address, method, path, headers, body);
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
        assert!(
            answer.body.starts_with(r#"{"error":""#) && answer.body.contains(message),
            "{path}: {}",
            answer.body
        );
        assert!(answer.header("x-request-id").is_some());
        if status == 405 {
            assert!(answer.header("allow").is_some());
        }
    }
    // After all that, and a panic among it, the server still answers.
    assert_eq!(
        send(
            server.address,
            "POST",
            "/v1/models/sum:predict",
            &[JSON],
            ROW
        )
        .status,
        200
    );
}

#[test]
fn json_content_types_are_accepted_with_parameters_or_not_at_all() {
    let server = start(config(Limits::default()));
    let headers: [&[(&str, &str)]; 4] = [
        &[],
        &[("content-type", "application/json; charset=utf-8")],
        &[("content-type", "Application/JSON")],
        &[("content-type", "application/ld+json")],
    ];
    for headers in headers {
        assert_eq!(
            send(
                server.address,
                "POST",
                "/v1/models/sum:predict",
                headers,
                ROW
            )
            .status,
            200,
            "{headers:?}"
        );
    }
}

#[test]
fn request_ids_are_given_back_or_made() {
    let server = start(config(Limits::default()));
    let id_of = |headers: &[(&str, &str)]| {
        let answer = send(server.address, "GET", "/healthz", headers, b"");
        answer.header("x-request-id").unwrap().to_owned()
    };
    assert_eq!(id_of(&[("x-request-id", "abc-123")]), "abc-123");
    let made = [
        id_of(&[]),
        id_of(&[]),
        id_of(&[("x-request-id", "has space")]),
        id_of(&[("x-request-id", &"x".repeat(200))]),
    ];
    for (index, id) in made.iter().enumerate() {
        assert_eq!(id.len(), 16, "{id}");
        assert!(!made[..index].contains(id), "{id} twice");
    }
}

#[test]
fn pipelined_requests_are_answered_in_order_on_one_connection() {
    let server = start(config(Limits::default()));
    let mut stream = connect(server.address);
    for sum in 0..5 {
        let body = format!("{{\"instances\": [[{sum}, 0]]}}");
        write_request(
            &mut stream,
            "POST",
            "/v1/models/sum:predict",
            &[JSON],
            body.as_bytes(),
        );
    }
    for sum in 0..5 {
        let answer = read_answer(&mut stream, false).unwrap();
        assert_eq!(answer.body, format!("{{\"predictions\":[{sum}.0]}}"));
    }
}

#[test]
fn metrics_count_calls_and_bound_their_labels() {
    let server = start(config(Limits::default()));
    send(
        server.address,
        "POST",
        "/v1/models/sum:predict",
        &[JSON],
        ROW,
    );
    send(
        server.address,
        "POST",
        "/v1/models/sum:predict",
        &[JSON],
        b"{",
    );
    send(
        server.address,
        "POST",
        "/v1/models/unheard-of:predict",
        &[JSON],
        ROW,
    );
    let answer = send(server.address, "GET", "/metrics", &[], b"");
    assert!(
        answer
            .header("content-type")
            .unwrap()
            .starts_with("text/plain; version=0.0.4")
    );
    for line in [
        r#"coracle_requests_total{model="sum",version="1",protocol="v1",code="ok"} 1"#,
        r#"coracle_requests_total{model="sum",version="1",protocol="v1",code="invalid_argument"} 1"#,
        r#"coracle_request_duration_seconds_count{model="sum",version="1"} 2"#,
        r#"coracle_requests_in_flight{model="sum",version="1"} 0"#,
        r#"coracle_model_memory_bytes{model="sum",version="1"} 123"#,
        r#"coracle_model_ready{model="sum",version="1"} 1"#,
        r#"coracle_http_responses_total{status="4xx"} 2"#,
        r#"coracle_build_info{version="9.8.7"} 1"#,
    ] {
        assert!(
            answer.body.lines().any(|shown| shown == line),
            "{line} is not in\n{}",
            answer.body
        );
    }
    assert!(!answer.body.contains("unheard-of"));
}
