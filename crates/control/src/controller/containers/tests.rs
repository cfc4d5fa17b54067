//! Containers as people write them, and what becomes of them.

use coracle_api::kind::{CONFIG_MAP, SECRET};
use serde_json::json;

use super::*;
use crate::store::Key;

fn translate(predictor: Value) -> Result<(ProcessSpec, Option<String>), NotRunnable> {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("store")).unwrap();
    let put = |kind, name: &str, object: Value| {
        store.create(Key::new(kind, "ml", name), object).unwrap();
    };
    put(
        &SECRET,
        "token",
        json!({"metadata": {"name": "token", "namespace": "ml"}, "data": {"key": "c2VjcmV0"}}),
    );
    put(
        &CONFIG_MAP,
        "settings",
        json!({"metadata": {"name": "settings", "namespace": "ml"}, "data": {"A": "1", "B": "2"}}),
    );
    let service = json!({"metadata": {"name": "iris", "namespace": "ml", "labels": {"team": "x"}}});
    let images = Images::read(&["known=python3 -m server".to_owned()]).unwrap();
    let around = Around {
        store: &store,
        service: &service,
        revision: "iris-predictor-00001",
        images: &images,
    };
    let predictor: PredictorSpec = serde_json::from_value(predictor).unwrap();
    match &predictor.model {
        None => custom(&predictor, around),
        Some(model) => {
            let runtime = json!({"containers": [{
                "name": "kserve-container",
                "image": "known:v1",
                "args": ["--model_name={{.Name}}", "--model_dir=/mnt/models", "--http_port=8080"],
                "env": [{"name": "A", "value": "runtime"}, {"name": "TEAM", "value": "{{.Labels.team}}"}],
                "resources": {"limits": {"cpu": "1", "memory": "2Gi"}}
            }]});
            let runtime = serde_json::from_value(runtime).unwrap();
            of_runtime(&runtime, (&predictor, model), around).map(|spec| (spec, None))
        }
    }
}

fn variable<'a>(spec: &'a ProcessSpec, name: &str) -> Option<&'a str> {
    let mut found = spec.environment.iter().filter(|(own, _)| own == name);
    found.next().map(|(_, value)| value.as_str())
}

#[test]
fn a_custom_container_becomes_a_process() {
    let (spec, uri) = translate(json!({
        "terminationGracePeriodSeconds": 5,
        "containers": [{
            "name": "anything",
            "image": "unknown",
            "command": ["python3", "model.py"],
            "args": ["--port", "$(PORT)"],
            "workingDir": "/srv",
            "env": [
                {"name": "STORAGE_URI", "value": "gs://b/m"},
                {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "token", "key": "key"}}},
                {"name": "NONE", "valueFrom": {"configMapKeyRef": {"name": "gone", "key": "x", "optional": true}}},
                {"name": "WHERE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}}
            ],
            "envFrom": [{"prefix": "S_", "configMapRef": {"name": "settings"}}],
            "ports": [{"containerPort": 9000, "name": "http"}, {"containerPort": 9001}],
            "resources": {"limits": {"cpu": "1500m", "memory": "1Gi"}},
            "readinessProbe": {"httpGet": {"path": "/healthy", "port": "http"}, "periodSeconds": 2},
            "livenessProbe": {"tcpSocket": {"port": 0}, "failureThreshold": 5, "timeoutSeconds": 0}
        }]
    }))
    .unwrap();
    assert_eq!(uri.as_deref(), Some("gs://b/m"));
    assert_eq!(spec.argv, ["python3", "model.py", "--port", "$(PORT)"]);
    assert_eq!(spec.working_directory.as_deref(), Some("/srv"));
    assert_eq!(
        (spec.ports.as_slice(), spec.grace_seconds),
        ([9000, 9001].as_slice(), 5)
    );
    let values = ["STORAGE_URI", "TOKEN", "NONE", "WHERE", "S_A", "K_REVISION"];
    assert_eq!(
        values.map(|name| variable(&spec, name)),
        [
            Some("/mnt/models"),
            Some("secret"),
            None,
            Some("ml"),
            Some("1"),
            Some("iris-predictor-00001")
        ]
    );
    assert_eq!(
        (spec.limits.cpu_millis, spec.limits.memory_bytes),
        (Some(1_500), Some(1 << 30))
    );
    let readiness = spec.readiness.as_ref().unwrap();
    let path = "/healthy".to_owned();
    assert_eq!(
        readiness.action,
        ProbeAction::HttpGet {
            path,
            port: 9000,
            headers: vec![]
        }
    );
    assert_eq!(
        (readiness.period_seconds, readiness.failure_threshold),
        (2, 3)
    );
    let liveness = spec.liveness.as_ref().unwrap();
    assert_eq!(liveness.action, ProbeAction::TcpSocket { port: 9000 });
    assert_eq!(
        (liveness.failure_threshold, liveness.timeout_seconds),
        (5, 1)
    );
}

#[test]
fn a_model_takes_what_its_runtime_says_and_adds_its_own() {
    let (spec, uri) = translate(json!({"model": {
        "modelFormat": {"name": "custom"},
        "args": ["--workers=2"],
        "env": [{"name": "A", "value": "model"}],
        "resources": {"limits": {"memory": "4Gi"}},
        "ports": [{"containerPort": 8080}]
    }}))
    .unwrap();
    assert_eq!(
        spec.argv,
        [
            "python3",
            "-m",
            "server",
            "--model_name=iris",
            "--model_dir=/mnt/models",
            "--http_port=8080",
            "--workers=2"
        ]
    );
    assert_eq!(uri, None);
    assert_eq!(
        (variable(&spec, "A"), variable(&spec, "TEAM")),
        (Some("model"), Some("x"))
    );
    assert_eq!(
        (spec.limits.cpu_millis, spec.limits.memory_bytes),
        (Some(1_000), Some(4 << 30))
    );
    assert_eq!(spec.grace_seconds, 30);
}

#[test]
fn what_a_container_asks_for_in_vain_is_refused_by_name() {
    let secret =
        json!([{"name": "A", "valueFrom": {"secretKeyRef": {"name": "gone", "key": "k"}}}]);
    let field = json!([{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]);
    let cases = [
        (
            "volumeMounts",
            json!([{"name": "v", "mountPath": "/data"}]),
            "nothing is mounted at /data",
        ),
        (
            "lifecycle",
            json!({"preStop": {"exec": {"command": ["x"]}}}),
            "lifecycle hooks",
        ),
        (
            "env",
            secret,
            "env A: secret gone with the key k does not exist",
        ),
        ("env", field, "the field metadata.name is not known"),
        (
            "envFrom",
            json!([{"secretRef": {"name": "gone"}}]),
            "secret gone does not exist",
        ),
        (
            "resources",
            json!({"limits": {"memory": "much"}}),
            "\"much\" is no quantity",
        ),
        (
            "resources",
            json!({"limits": {"cpu": "-1"}}),
            "\"-1\" is no quantity",
        ),
        ("ports", json!([{"containerPort": 0}]), "port 0 is none"),
        (
            "readinessProbe",
            json!({"grpc": {"port": 1}, "tcpSocket": {"port": 1}}),
            "readinessProbe: exactly one of httpGet, tcpSocket, exec and grpc",
        ),
        (
            "livenessProbe",
            json!({"httpGet": {"port": "web"}}),
            "no port is named \"web\"",
        ),
        (
            "startupProbe",
            json!({"httpGet": {"port": 1, "scheme": "HTTPS"}}),
            "only the scheme HTTP",
        ),
        ("startupProbe", json!({}), "startupProbe: exactly one of"),
    ];
    for (field, value, message) in cases {
        let mut container = json!({"name": "c", "command": ["x"]});
        container[field] = value;
        let refused = translate(json!({"containers": [container]})).unwrap_err();
        assert_eq!(refused.reason, "InvalidPredictorSpec", "{field}");
        let why = refused.message;
        assert!(
            why.starts_with("container c: ") && why.contains(message),
            "{why}"
        );
    }
}

#[test]
fn the_progress_deadline_is_knatives() {
    let cases = [
        (json!({}), Some(600)),
        (json!({(PROGRESS_DEADLINE): "30s"}), Some(30)),
        (json!({(PROGRESS_DEADLINE): "1h10m"}), Some(4_200)),
        (json!({(PROGRESS_DEADLINE): "1500ms"}), None),
        (json!({(PROGRESS_DEADLINE): "0s"}), None),
        (json!({(PROGRESS_DEADLINE): "soon"}), None),
    ];
    for (annotations, expected) in cases {
        let service = json!({"metadata": {"annotations": annotations}});
        assert_eq!(progress_seconds(&service).ok(), expected, "{service}");
    }
}

#[test]
fn what_has_no_program_says_what_to_do() {
    let image = json!({"containers": [{"name": "c", "image": "other:v1"}]});
    let cases = [
        (
            image.clone(),
            "ImageWithoutCommand",
            "the image \"other:v1\" and no command, and this machine runs no images",
        ),
        (
            image,
            "ImageWithoutCommand",
            "--image 'other:v1=PROGRAM ARGUMENTS'",
        ),
        (
            json!({"containers": [{"name": "c"}]}),
            "InvalidPredictorSpec",
            "neither a command nor an image",
        ),
        (
            json!({"containers": [{"name": "kserve-container"}, {"name": "transformer-container"}]}),
            "InvalidPredictorSpec",
            "beside it there is transformer-container",
        ),
        (
            json!({"containers": [{"name": "c"}], "initContainers": [{"name": "i"}]}),
            "InvalidPredictorSpec",
            "init container i",
        ),
    ];
    for (predictor, reason, message) in cases {
        let refused = translate(predictor.clone()).unwrap_err();
        assert_eq!(refused.reason, reason, "{predictor}");
        assert!(refused.message.contains(message), "{}", refused.message);
    }
}

#[test]
fn an_empty_dir_for_shared_memory_is_there_anyhow() {
    let predictor = json!({
        "containers": [{"name": "c", "command": ["x"], "volumeMounts": [{"name": "v", "mountPath": "/dev/shm"}]}],
        "volumes": [{"name": "v", "emptyDir": {"medium": "Memory"}}]
    });
    assert!(translate(predictor).is_ok());
}

#[test]
fn the_runtimes_version_is_the_images_tag() {
    let cases = [
        ("a:v1", "a:v2"),
        ("a", "a:v2"),
        ("h:5000/a", "h:5000/a:v2"),
        ("a@sha256:0", "a@sha256:0"),
    ];
    for (image, expected) in cases {
        assert_eq!(with_tag(image, "v2"), expected);
    }
}
