//! Versions side by side: which one answers, and what is told of those that do not.

use std::collections::BTreeMap;
use std::sync::Arc;

use coracle_base::Code;
use coracle_gateway::Limits;
use coracle_protocol::grpc::frame;
use coracle_protocol::grpc::inference::{
    ModelInferRequest, ModelInferResponse, ModelMetadataRequest, ModelMetadataResponse,
    ModelStatistics, ModelStatisticsResponse,
};
use coracle_protocol::grpc::tensorflow::{
    GetModelStatusResponse, Int64Value, ModelSpec, ModelVersionStatus, VersionChoice,
};
use coracle_protocol::tfs::SpecHead;
use coracle_serving::{
    IdleReason, IdleVersion, LoadPhases, LoadedModel, ModelTable, Route, ServedModel, ServiceId,
};

use crate::client::send;
use crate::fixture::{Running, config, start_with, sum_model};
use crate::grpc::{ask, call, row};

/// A server of `sum` with the versions 2, 9 and 10; 1 is let go of, 11 did not load, 12 is being loaded and 13 waits. Of `late` only
/// a version that is being loaded is there.
fn start() -> Running {
    start_with(config(Limits::default()), |newest| {
        let version = |version| {
            let (model, _entered, _gate) = sum_model();
            let phases = LoadPhases::default();
            let loaded = LoadedModel::new("sum".to_owned(), Box::new(model), phases);
            Arc::new(ServedModel::new(loaded, 2).with_version(version))
        };
        let models = vec![version(2), version(9), Arc::new(newest.with_version(10))];
        let labels = [("stable", "2"), ("gone", "1"), ("next", "12")];
        let labels = labels.map(|(label, version)| (label.to_owned(), version.to_owned()));
        let route = Route::versions(models, BTreeMap::from(labels)).unwrap();
        let id = ServiceId {
            namespace: String::new(),
            name: "sum".to_owned(),
        };
        let idle = |version, reason| IdleVersion { version, reason };
        let failed = IdleReason::Failed {
            code: Code::FailedPrecondition,
            message: "half a file".to_owned(),
        };
        let left = IdleReason::Left(std::sync::Weak::new());
        let of_sum = vec![
            idle(1, left),
            idle(11, failed),
            idle(12, IdleReason::Loading),
            idle(13, IdleReason::Waiting),
        ];
        let of_late = vec![idle(1, IdleReason::Loading)];
        let idle = [("sum".to_owned(), of_sum), ("late".to_owned(), of_late)];
        ModelTable::from_routes([(id, Arc::new(route))].into()).with_idle(idle.into())
    })
}

#[test]
fn the_version_that_is_asked_answers() {
    let server = start();
    let body =
        br#"{"inputs": [{"name": "X", "shape": [1, 2], "datatype": "FP64", "data": [1, 2]}]}"#;
    let cases = [
        ("/v2/models/sum/infer", 200, r#""model_version":"10""#),
        (
            "/v2/models/sum/versions/9/infer",
            200,
            r#""model_version":"9""#,
        ),
        (
            "/v2/models/sum/versions/1/infer",
            404,
            "model 'sum' has no version '1'; it has 2, 9, 10",
        ),
        (
            "/v2/models/sum/versions/11/infer",
            404,
            "model 'sum' version 11 did not load (half a file); it has 2, 9, 10",
        ),
        (
            "/v2/models/sum/versions/12/infer",
            503,
            "model 'sum' version 12 is being loaded",
        ),
        ("/v2/models/late/infer", 503, "model 'late' is being loaded"),
        // A label is no version, and V2 knows no labels.
        (
            "/v2/models/sum/versions/stable/infer",
            404,
            "model 'sum' has no version 'stable'",
        ),
        ("/v2/models/sum/labels/stable/infer", 404, "nothing is at"),
    ];
    for (path, status, message) in cases {
        let answer = send(server.address, "POST", path, &[], body);
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        assert!(answer.body.contains(message), "{path}: {}", answer.body);
    }
    let row = br#"{"instances": [[1, 2]]}"#;
    let cases = [
        ("/v1/models/sum/labels/stable:predict", 200),
        ("/v1/models/sum/versions/2:predict", 200),
        ("/v1/models/sum/labels/2:predict", 404),
        ("/v1/models/sum/labels/gone:predict", 404),
        ("/v1/models/sum/labels/next:predict", 503),
    ];
    for (path, status) in cases {
        let answer = send(server.address, "POST", path, &[], row);
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
    }
}

#[test]
fn what_answered_is_counted_where_it_belongs() {
    let server = start();
    let row = br#"{"instances": [[1, 2]]}"#;
    for (path, n_requests) in [
        ("/v1/models/sum/labels/stable:predict", 2),
        ("/v1/models/sum/versions/9:predict", 1),
        ("/v1/models/sum:predict", 1),
    ] {
        for _ in 0..n_requests {
            send(server.address, "POST", path, &[], row);
        }
    }
    let counts = |path: &str| {
        let answer = send(server.address, "GET", path, &[], b"");
        let document: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        let models = document["model_stats"].as_array().unwrap().iter();
        let pair = |model: &serde_json::Value| {
            let version = model["version"].as_str().unwrap().to_owned();
            (version, model["inference_count"].as_u64().unwrap())
        };
        models.map(pair).collect::<Vec<_>>()
    };
    let expected = [("2", 2), ("9", 1), ("10", 1)].map(|(version, n)| (version.to_owned(), n));
    assert_eq!(counts("/v2/models/sum/stats"), expected);
    assert_eq!(counts("/v2/models/sum/versions/9/stats"), expected[1..2]);
    let metrics = send(server.address, "GET", "/metrics", &[], b"").body;
    let line = r#"coracle_requests_total{model="sum",version="2",protocol="v1",code="ok"} 2"#;
    assert!(metrics.contains(line), "{metrics}");
    for (name, state, n_versions) in [
        ("sum", "available", 3),
        ("sum", "loading", 2),
        ("sum", "unloading", 0),
        ("sum", "failed", 1),
        ("late", "available", 0),
        ("late", "loading", 1),
    ] {
        let line =
            format!("coracle_model_versions{{model=\"{name}\",state=\"{state}\"}} {n_versions}\n");
        assert!(metrics.contains(&line), "{line}{metrics}");
    }
}

#[test]
fn versions_are_asked_for_over_grpc() {
    let server = start();
    let infer = |version: &str| {
        let request = ModelInferRequest {
            model_version: version.to_owned(),
            ..row("sum", [1.0, 2.0])
        };
        ask(&server, "ModelInfer", &request)
    };
    for (version, expected) in [("", "10"), ("2", "2")] {
        let answer: ModelInferResponse = infer(version).message();
        assert_eq!(answer.model_version, expected, "{version}");
    }
    // NOT_FOUND and UNAVAILABLE.
    for (version, status) in [("1", 5), ("stable", 5), ("12", 14)] {
        assert_eq!(infer(version).status, status, "{version}");
    }
    let about = |version: &str| ModelMetadataRequest {
        name: "sum".to_owned(),
        version: version.to_owned(),
    };
    let metadata: ModelMetadataResponse = ask(&server, "ModelMetadata", &about("2")).message();
    assert_eq!(metadata.versions, ["2", "9", "10"]);
    let counts = |version: &str| {
        let answer = ask(&server, "ModelStatistics", &about(version));
        let statistics: ModelStatisticsResponse = answer.message();
        let models = statistics.model_stats.into_iter();
        let pair = |model: ModelStatistics| (model.version, model.inference_count);
        models.map(pair).collect::<Vec<_>>()
    };
    let expected = [("2", 1), ("9", 0), ("10", 1)].map(|(version, n)| (version.to_owned(), n));
    assert_eq!(counts(""), expected);
    assert_eq!(counts("9"), expected[1..2]);
    let status = |choice| {
        let request = SpecHead {
            model_spec: Some(ModelSpec {
                name: "sum".to_owned(),
                version_choice: choice,
                ..ModelSpec::default()
            }),
        };
        let path = "/tensorflow.serving.ModelService/GetModelStatus";
        call(&server, path, &[], frame(&request))
    };
    let states = |choice| {
        let answer: GetModelStatusResponse = status(choice).message();
        let statuses = answer.model_version_status.into_iter();
        let shown = |status: ModelVersionStatus| (status.version, status.state);
        statuses.map(shown).collect::<Vec<_>>()
    };
    let all = [
        (1, 50),
        (2, 30),
        (9, 30),
        (10, 30),
        (11, 50),
        (12, 20),
        (13, 10),
    ];
    assert_eq!(states(None), all);
    let number = VersionChoice::Version(Int64Value { value: 12 });
    assert_eq!(states(Some(number)), [(12, 20)]);
    let label = |label: &str| Some(VersionChoice::VersionLabel(label.to_owned()));
    assert_eq!(states(label("stable")), [(2, 30)]);
    assert_eq!(status(label("canary")).status, 5);
}

#[test]
fn every_version_is_told_with_its_state() {
    let server = start();
    let get = |path: &str| send(server.address, "GET", path, &[], b"");
    let states = |path: &str| {
        let answer = get(path);
        let document: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        let statuses = document["model_version_status"].as_array().unwrap().iter();
        let shown = |status: &serde_json::Value| {
            let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
            let code = text(&status["status"]["error_code"]);
            format!(
                "{} {} {code}",
                text(&status["version"]),
                text(&status["state"])
            )
        };
        statuses.map(shown).collect::<Vec<_>>()
    };
    let expected = [
        "1 END OK",
        "2 AVAILABLE OK",
        "9 AVAILABLE OK",
        "10 AVAILABLE OK",
        "11 END FAILED_PRECONDITION",
        "12 LOADING OK",
        "13 START OK",
    ];
    assert_eq!(states("/v1/models/sum"), expected);
    assert_eq!(states("/v1/models/sum/versions/11"), [expected[4]]);
    assert_eq!(states("/v1/models/sum/labels/stable"), [expected[1]]);
    assert_eq!(states("/v1/models/late"), ["1 LOADING OK"]);
    for path in ["/v1/models/sum/versions/7", "/v1/models/sum/labels/x"] {
        assert_eq!(get(path).status, 404, "{path}");
    }
    for (path, status) in [
        ("/v2/models/sum/ready", 200),
        ("/v2/models/sum/versions/2/ready", 200),
        ("/v2/models/sum/versions/12/ready", 503),
        ("/v2/models/sum/versions/1/ready", 404),
        ("/v2/models/late/ready", 503),
    ] {
        assert_eq!(get(path).status, status, "{path}");
    }
    let metadata = get("/v2/models/sum/versions/9").body;
    assert!(
        metadata.contains(r#""versions":["2","9","10"]"#),
        "{metadata}"
    );
    let metadata = get("/v1/models/sum/labels/stable/metadata").body;
    assert!(metadata.contains(r#""version":"2""#), "{metadata}");
    let configuration = get("/v2/models/sum/config").body;
    assert!(configuration.contains("[2,9,10]"), "{configuration}");
}

#[test]
fn the_index_has_every_version() {
    let server = start();
    let index = |body: &[u8]| send(server.address, "POST", "/v2/repository/index", &[], body).body;
    let entry = |name: &str, version: u64, state: &str, reason: &str| {
        format!(
            r#"{{"name":"{name}","version":"{version}","state":"{state}","reason":"{reason}"}}"#
        )
    };
    let ready = [2, 9, 10].map(|version| entry("sum", version, "READY", ""));
    assert_eq!(
        index(br#"{"ready": true}"#),
        format!("[{}]", ready.join(","))
    );
    let [first, second, third] = ready;
    let all = [
        entry("late", 1, "LOADING", ""),
        entry("sum", 1, "UNAVAILABLE", "unloaded"),
        first,
        second,
        third,
        entry("sum", 11, "UNAVAILABLE", "half a file"),
        entry("sum", 12, "LOADING", ""),
        entry("sum", 13, "LOADING", ""),
    ];
    assert_eq!(index(b""), format!("[{}]", all.join(",")));
}
