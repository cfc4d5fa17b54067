//! Conversations with the API, in-process.

mod annotations;
mod commands;
mod deletion;
mod scale;
mod versions;
mod watches;
mod wrong_specs;

use std::sync::atomic::{AtomicBool, Ordering};

use coracle_access::User;
use coracle_api::kind;
use coracle_base::ManualClock;
use serde_json::{Value, json};

use super::*;
use crate::object;
use crate::store::Key;

/// An API over an empty store, with the namespace `ml`.
struct Fixture {
    api: Arc<Api>,
    _directory: tempfile::TempDir,
}

fn fixture() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("state.redb")).unwrap();
    let api = Api::new(Arc::new(store), Arc::new(ManualClock::new()), "test");
    api.ensure_namespace("ml").unwrap();
    Fixture {
        api: Arc::new(api),
        _directory: directory,
    }
}

const ISVC: &str = "/apis/serving.kserve.io/v1beta1/namespaces/ml/inferenceservices";

impl Fixture {
    fn send(&self, method: &str, target: &str, content_type: &str, body: &Value) -> (u16, Value) {
        let (status, answer, _warnings) = self.send_warned(method, target, content_type, body);
        (status, answer)
    }

    /// As [`Fixture::send`]; returns the warnings, too.
    fn send_warned(
        &self,
        method: &str,
        target: &str,
        content_type: &str,
        body: &Value,
    ) -> (u16, Value, Vec<String>) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let request = ApiRequest {
            user: User::owner(),
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            content_type: content_type.to_owned(),
            user_agent: "test/1".to_owned(),
            body: if body.is_null() {
                bytes::Bytes::new()
            } else {
                body.to_string().into()
            },
            ..ApiRequest::default()
        };
        match self.api.answer(&request) {
            Answer::Reply(reply) => (
                reply.status,
                serde_json::from_slice(&reply.body).unwrap_or_default(),
                reply.warnings,
            ),
            Answer::Watch(_) | Answer::Log(_) => panic!("a watch"),
        }
    }

    /// Asks for a list as kubectl prints it.
    fn table(&self, path: &str) -> Value {
        let request = ApiRequest {
            user: User::owner(),
            method: "GET".to_owned(),
            path: path.to_owned(),
            accept: "application/json;as=Table;v=v1;g=meta.k8s.io".to_owned(),
            ..ApiRequest::default()
        };
        match self.api.answer(&request) {
            Answer::Reply(reply) => serde_json::from_slice(&reply.body).unwrap(),
            Answer::Watch(_) | Answer::Log(_) => panic!("a watch"),
        }
    }

    fn get(&self, target: &str) -> (u16, Value) {
        self.send("GET", target, "", &Value::Null)
    }

    fn post(&self, target: &str, body: &Value) -> (u16, Value) {
        self.send("POST", target, "application/json", body)
    }

    fn merge(&self, target: &str, patch: &Value) -> (u16, Value) {
        self.send("PATCH", target, "application/merge-patch+json", patch)
    }

    fn watch(&self, target: &str) -> Watch {
        let (path, query) = target.split_once('?').unwrap();
        let request = ApiRequest {
            user: User::owner(),
            method: "GET".to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            ..ApiRequest::default()
        };
        match self.api.answer(&request) {
            Answer::Watch(watch) => *watch,
            Answer::Log(_) => panic!("a log"),
            Answer::Reply(reply) => panic!("{:?}", String::from_utf8_lossy(&reply.body)),
        }
    }
}

fn service(name: &str) -> Value {
    json!({
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name},
        "spec": {"predictor": {"model": {"modelFormat": {"name": "sklearn"}, "storageUri": "s3://b/v1"}}}
    })
}

#[test]
fn an_object_lives_its_life() {
    let fixture = fixture();
    let (status, created) = fixture.post(ISVC, &service("iris"));
    assert_eq!(status, 201, "{created}");
    assert_eq!(created["metadata"]["generation"], 1);
    assert_eq!(created["metadata"]["namespace"], "ml");
    assert_eq!(created["metadata"]["uid"].as_str().unwrap().len(), 36);
    let url = format!("{ISVC}/iris");
    assert_eq!(fixture.get(&url), (200, created.clone()));
    let (status, patched) = fixture.merge(
        &url,
        &json!({"spec": {"predictor": {"canaryTrafficPercent": 10}}}),
    );
    assert_eq!(
        (status, &patched["metadata"]["generation"]),
        (200, &json!(2))
    );
    let (status, same) = fixture.merge(
        &url,
        &json!({"spec": {"predictor": {"canaryTrafficPercent": 10}}}),
    );
    assert_eq!(
        (status, &same),
        (200, &patched),
        "a patch that changes nothing changes nothing"
    );
    let (_, labelled) = fixture.merge(&url, &json!({"metadata": {"labels": {"a": "b"}}}));
    assert_eq!(labelled["metadata"]["generation"], 2);
    let (status, with_status) = fixture.merge(
        &format!("{url}/status"),
        &json!({"status": {"url": "http://x"}, "spec": {"predictor": null}}),
    );
    assert_eq!(
        (status, &with_status["status"]["url"]),
        (200, &json!("http://x"))
    );
    assert_eq!(with_status["spec"], labelled["spec"]);
    assert_eq!(with_status["metadata"]["generation"], 2);
    let (_, kept) = fixture.merge(&url, &json!({"status": {"url": "http://y"}}));
    assert_eq!(kept["status"]["url"], "http://x");
    let (status, gone) = fixture.send(
        "DELETE",
        &url,
        "application/json",
        &json!({"propagationPolicy": "Background"}),
    );
    assert_eq!((status, &gone["status"]), (200, &json!("Success")));
    let (status, missing) = fixture.get(&url);
    assert_eq!(status, 404);
    assert_eq!(
        missing["message"],
        "inferenceservices.serving.kserve.io \"iris\" not found"
    );
}

#[test]
fn refusals_have_kubernetes_words() {
    let fixture = fixture();
    fixture.post(ISVC, &service("iris"));
    let mut unknown = service("b");
    unknown["spec"]["predictor"]["model"]["bogus"] = json!(1);
    let mut elsewhere = service("b");
    elsewhere["metadata"]["namespace"] = json!("other");
    let mut typed = service("s2");
    typed["spec"]["predictor"]["minReplicas"] = json!("2");
    let mut broken = service("s3");
    broken["spec"]["predictor"] = json!({"minReplicas": 1});
    let cases = [
        (
            ISVC,
            service("iris"),
            409,
            "inferenceservices.serving.kserve.io \"iris\" already exists",
        ),
        (
            &format!("{ISVC}?fieldValidation=Strict"),
            unknown,
            400,
            "InferenceService in version \"v1beta1\" cannot be handled as a InferenceService: strict decoding error: unknown field \"spec.predictor.model.bogus\"",
        ),
        (
            ISVC,
            elsewhere,
            400,
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
        (
            ISVC,
            typed,
            422,
            "InferenceService.serving.kserve.io \"s2\" is invalid: spec.predictor.minReplicas: Invalid value: \"string\": spec.predictor.minReplicas in body must be of type integer: \"string\"",
        ),
        (
            ISVC,
            broken,
            403,
            "admission webhook \"inferenceservice.kserve-webhook-server.validator\" denied the request: exactly one of [Name,",
        ),
        (
            &ISVC.replace("/ml/", "/nope/"),
            service("x"),
            404,
            "namespaces \"nope\" not found",
        ),
        (
            "/api/v1/namespaces",
            json!({"metadata": {"name": "A"}}),
            422,
            "Namespace \"A\" is invalid: metadata.name: Invalid value: \"A\": a lowercase RFC 1123 label",
        ),
        (
            "/api/v1/namespaces/ml/configmaps",
            json!({"kind": "Secret", "metadata": {"name": "a"}}),
            400,
            "the object provided is unrecognized",
        ),
    ];
    for (url, body, status, message) in cases {
        let (actual, failure) = fixture.post(url, &body);
        let text = failure["message"].as_str().unwrap_or_default();
        assert_eq!(actual, status, "{failure}");
        assert!(text.starts_with(message), "{text}");
    }
}

#[test]
fn writes_from_old_copies_are_refused() {
    let fixture = fixture();
    fixture.post(ISVC, &service("iris"));
    let (_, live) = fixture.get(&format!("{ISVC}/iris"));
    let mut stale = live;
    stale["metadata"]["resourceVersion"] = json!("1");
    let (status, failure) =
        fixture.send("PUT", &format!("{ISVC}/iris"), "application/json", &stale);
    assert_eq!(status, 409);
    assert_eq!(
        failure["message"],
        "Operation cannot be fulfilled on inferenceservices.serving.kserve.io \"iris\": the object has been modified; please apply your changes to the latest version and try again"
    );
    let (status, _) = fixture.send(
        "PATCH",
        &format!("{ISVC}/iris"),
        "application/strategic-merge-patch+json",
        &json!({}),
    );
    assert_eq!(status, 415);
}

#[test]
fn secrets_keep_their_texts_in_base64() {
    let fixture = fixture();
    let (_, secret) = fixture.post(
        "/api/v1/namespaces/ml/secrets",
        &json!({"metadata": {"generateName": "kserve-"}, "stringData": {"a": "b"}}),
    );
    assert_eq!(
        (
            &secret["data"]["a"],
            &secret["type"],
            secret.get("stringData")
        ),
        (&json!("Yg=="), &json!("Opaque"), None)
    );
    assert_eq!(
        secret["metadata"]["name"].as_str().unwrap().len(),
        "kserve-".len() + 5
    );
}

#[test]
fn lists_come_in_pages() {
    let fixture = fixture();
    for name in ["a", "b", "c"] {
        fixture.post(ISVC, &service(name));
    }
    let (_, page) = fixture.get(&format!("{ISVC}?limit=2"));
    assert_eq!(page["items"].as_array().unwrap().len(), 2);
    assert_eq!(page["metadata"]["remainingItemCount"], 1);
    let token = page["metadata"]["continue"].as_str().unwrap();
    let (_, rest) = fixture.get(&format!("{ISVC}?limit=2&continue={token}"));
    assert_eq!(rest["items"][0]["metadata"]["name"], "c");
    assert_eq!(rest["metadata"].get("continue"), None);
    assert_eq!(
        fixture.get(&format!("{ISVC}?fieldSelector=spec.foo%3D1")).0,
        400
    );
    assert_eq!(fixture.get(&format!("{ISVC}?resourceVersion=999")).0, 504);
    assert_eq!(fixture.get(&format!("{ISVC}?resourceVersion=x")).0, 400);
    let (_, deleted) = fixture.send("DELETE", ISVC, "", &Value::Null);
    assert_eq!(deleted["items"].as_array().unwrap().len(), 3);
}

#[test]
fn applies_own_their_fields() {
    let fixture = fixture();
    let apply = |manager: &str, force: bool, uri: &str| {
        let mut object = service("iris");
        object["spec"]["predictor"]["model"]["storageUri"] = json!(uri);
        let target = format!("{ISVC}/iris?fieldManager={manager}&force={force}");
        fixture.send("PATCH", &target, "application/apply-patch+yaml", &object)
    };
    assert_eq!(apply("a", false, "s3://b/v1").0, 201);
    let (status, same) = apply("a", false, "s3://b/v1");
    assert_eq!((status, &same["metadata"]["generation"]), (200, &json!(1)));
    let (status, conflict) = apply("b", false, "s3://b/v2");
    assert_eq!(status, 409);
    assert_eq!(
        conflict["message"],
        "Apply failed with 1 conflict: conflict with \"a\": .spec.predictor.model.storageUri"
    );
    assert_eq!(
        conflict["details"]["causes"][0]["field"],
        ".spec.predictor.model.storageUri"
    );
    let (status, forced) = apply("b", true, "s3://b/v2");
    assert_eq!(
        (status, &forced["spec"]["predictor"]["model"]["storageUri"]),
        (200, &json!("s3://b/v2"))
    );
    let target = format!("{ISVC}/iris");
    let (status, _) = fixture.send(
        "PATCH",
        &target,
        "application/apply-patch+yaml",
        &service("iris"),
    );
    assert_eq!(status, 422, "an apply needs a manager");
}

/// Found by fuzzing: a question that is a number.
#[test]
fn questions_are_objects() {
    let fixture = fixture();
    let url = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    assert_eq!(fixture.post(url, &json!(2)).0, 400);
    assert_eq!(
        fixture.post(url, &json!({"spec": {}})).1["status"]["allowed"],
        true
    );
}

#[test]
fn dry_runs_write_nothing() {
    let fixture = fixture();
    assert_eq!(
        fixture
            .post(&format!("{ISVC}?dryRun=All"), &service("iris"))
            .0,
        201
    );
    assert_eq!(fixture.get(&format!("{ISVC}/iris")).0, 404);
    fixture.post(ISVC, &service("iris"));
    let (_, shown) = fixture.merge(
        &format!("{ISVC}/iris?dryRun=All"),
        &json!({"spec": {"predictor": {"minReplicas": 3}}}),
    );
    assert_eq!(shown["spec"]["predictor"]["minReplicas"], 3);
    assert_eq!(
        fixture.get(&format!("{ISVC}/iris")).1["spec"]["predictor"].get("minReplicas"),
        None
    );
    fixture.send(
        "DELETE",
        &format!("{ISVC}/iris?dryRun=All"),
        "",
        &Value::Null,
    );
    assert_eq!(fixture.get(&format!("{ISVC}/iris")).0, 200);
}

#[test]
fn a_scale_sets_the_least_number_of_replicas() {
    let fixture = fixture();
    fixture.post(ISVC, &service("iris"));
    let url = format!("{ISVC}/iris/scale");
    let (status, scale) = fixture.get(&url);
    assert_eq!(status, 200);
    assert_eq!(
        (&scale["kind"], &scale["spec"]),
        (&json!("Scale"), &json!({"replicas": 1}))
    );
    let (status, scaled) = fixture.merge(&url, &json!({"spec": {"replicas": 3}}));
    assert_eq!((status, &scaled["spec"]["replicas"]), (200, &json!(3)));
    let (_, service) = fixture.get(&format!("{ISVC}/iris"));
    assert_eq!(service["spec"]["predictor"]["minReplicas"], 3);
    assert_eq!(service["metadata"]["generation"], 2);
    // What was read before is not the version that is there.
    let (status, _) = fixture.send("PUT", &url, "application/json", &scale);
    assert_eq!(status, 409);
    let (status, _) = fixture.send("PUT", &url, "application/json", &scaled);
    assert_eq!(status, 200);
    for bad in [
        json!({"spec": {"replicas": -1}}),
        json!({"spec": {"replicas": "many"}}),
    ] {
        let (status, failure) = fixture.merge(&url, &bad);
        assert_eq!(status, 422, "{failure}");
        assert!(
            failure["message"]
                .as_str()
                .unwrap()
                .contains("spec.replicas")
        );
    }
    let (status, _) = fixture.merge(&url, &json!({"spec": {"replicas": 3_000_000_000_u64}}));
    assert_eq!(status, 422);
}

#[test]
fn pods_are_read_only_and_measured_ones_cannot_be_watched() {
    let fixture = fixture();
    let pods = "/api/v1/namespaces/ml/pods";
    let (status, failure) = fixture.post(pods, &json!({"metadata": {"name": "p"}}));
    assert_eq!(status, 405, "{failure}");
    let metrics = "/apis/metrics.k8s.io/v1beta1/namespaces/ml/pods";
    let (status, list) = fixture.get(metrics);
    assert_eq!((status, &list["kind"]), (200, &json!("PodMetricsList")));
    let (status, _) = fixture.get(&format!("{metrics}?watch=1"));
    assert_eq!(status, 405);
    let (status, _) = fixture.get(&format!("{pods}/nobody/log"));
    assert_eq!(status, 404);
}

#[test]
fn events_are_printed_with_kubernetes_columns() {
    let fixture = fixture();
    let event = json!({
        "metadata": {"name": "iris.1", "namespace": "ml"},
        "involvedObject": {"kind": "InferenceService", "name": "iris", "namespace": "ml"},
        "type": "Normal", "reason": "InferenceServiceReady", "message": "ready",
        "firstTimestamp": "1970-01-01T00:00:00Z", "lastTimestamp": "1970-01-01T00:00:00Z", "count": 1,
        "source": {"component": "coracle"}
    });
    let (status, _) = fixture.send(
        "POST",
        "/api/v1/namespaces/ml/events",
        "application/json",
        &event,
    );
    assert_eq!(status, 201);
    let table = fixture.table("/api/v1/namespaces/ml/events");
    let names: Vec<&str> = table["columnDefinitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|column| column["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "Last Seen",
            "Type",
            "Reason",
            "Object",
            "Subobject",
            "Source",
            "Message",
            "First Seen",
            "Count",
            "Name"
        ]
    );
    let cells = &table["rows"][0]["cells"];
    assert_eq!(
        cells,
        &json!([
            "0s",
            "Normal",
            "InferenceServiceReady",
            "inferenceservice/iris",
            null,
            "coracle",
            "ready",
            "0s",
            1,
            "iris.1"
        ])
    );
}

#[test]
fn what_is_emptied_in_the_metadata_goes() {
    let fixture = fixture();
    let object = json!({"metadata": {"name": "c", "labels": {"a": "b"}}});
    fixture.send(
        "POST",
        "/api/v1/namespaces/ml/configmaps",
        "application/json",
        &object,
    );
    let patch = json!({"metadata": {"labels": {"a": null}}});
    let target = "/api/v1/namespaces/ml/configmaps/c";
    let (status, object) = fixture.send("PATCH", target, "application/merge-patch+json", &patch);
    assert_eq!(status, 200);
    assert_eq!(object["metadata"].get("labels"), None);
}

#[test]
fn a_json_patch_that_does_not_fit_says_so_without_blaming_a_field() {
    let fixture = fixture();
    let object = json!({"metadata": {"name": "c"}, "data": {"a": "b"}});
    fixture.send(
        "POST",
        "/api/v1/namespaces/ml/configmaps",
        "application/json",
        &object,
    );
    let patch = json!([{"op": "test", "path": "/data/a", "value": "x"}]);
    let target = "/api/v1/namespaces/ml/configmaps/c";
    let (status, failure) = fixture.send("PATCH", target, "application/json-patch+json", &patch);
    assert_eq!((status, &failure["reason"]), (422, &json!("Invalid")));
    assert_eq!(failure.get("details"), None);
    let message = failure["message"].as_str().unwrap();
    assert!(
        message.starts_with("the server rejected our request due to an error in our request: "),
        "{message}"
    );
}

#[test]
fn a_seldon_deployment_is_taken_or_refused_in_seldons_words() {
    let fixture = fixture();
    let deployments = "/apis/machinelearning.seldon.io/v1/namespaces/ml/seldondeployments";
    let deployment = |name: &str, implementation: &str, uri: Value| {
        let graph =
            json!({"name": "classifier", "implementation": implementation, "modelUri": uri});
        json!({"metadata": {"name": name}, "spec": {"predictors": [{"name": "default", "graph": graph}]}})
    };
    let (status, made) = fixture.post(
        deployments,
        &deployment("iris", "SKLEARN_SERVER", "gs://b/iris".into()),
    );
    assert_eq!((status, &made["kind"]), (201, &json!("SeldonDeployment")));
    for (implementation, uri, message) in [
        (
            "SKLEARN_SERVER",
            Value::Null,
            "admission webhook \"v1.vseldondeployment.kb.io\" denied the request: Predictive unit modelUri required when using standalone servers",
        ),
        (
            "TRITON_SERVER",
            "gs://b".into(),
            "admission webhook \"v1.vseldondeployment.kb.io\" denied the request: spec.predictors[0].graph.implementation: TRITON_SERVER is not served here; SKLEARN_SERVER, XGBOOST_SERVER, MLFLOW_SERVER, TENSORFLOW_SERVER, RANDOM_ABTEST, AVERAGE_COMBINER, SIMPLE_MODEL, SIMPLE_ROUTER, EPSILON_GREEDY and THOMPSON_SAMPLING are",
        ),
    ] {
        let (status, failure) =
            fixture.post(deployments, &deployment("other", implementation, uri));
        assert_eq!((status, failure["message"].as_str()), (403, Some(message)));
    }
    let table = fixture.table(deployments);
    let names = table["columnDefinitions"].as_array().unwrap().iter();
    let names: Vec<&str> = names
        .map(|column| column["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["Name", "State", "URL", "Description", "Age"]);
}
