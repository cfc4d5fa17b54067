//! SeldonDeployments in the versions that Seldon's older manifests name.

use super::*;

const GROUP: &str = "/apis/machinelearning.seldon.io";
const OLDER: [&str; 2] = ["v1alpha2", "v1alpha3"];

fn path(version: &str) -> String {
    format!("{GROUP}/{version}/namespaces/ml/seldondeployments")
}

/// A manifest as Seldon's first documentation printed it.
fn manifest(version: &str, replicas: i32) -> Value {
    json!({
        "apiVersion": format!("machinelearning.seldon.io/{version}"),
        "kind": "SeldonDeployment",
        "metadata": {"name": "iris", "namespace": "ml"},
        "spec": {
            "name": "iris",
            "predictors": [{
                "name": "default",
                "replicas": replicas,
                "graph": {
                    "children": [],
                    "endpoint": {"type": "REST"},
                    "implementation": "SKLEARN_SERVER",
                    "modelUri": "gs://seldon-models/sklearn/iris",
                    "name": "classifier"
                }
            }]
        }
    })
}

fn version_of(object: &Value) -> &str {
    object["apiVersion"].as_str().unwrap()
}

#[test]
fn older_manifests_are_taken_and_kept_in_the_newest_version() {
    for older in OLDER {
        let fixture = fixture();
        let named = format!("machinelearning.seldon.io/{older}");
        let (status, made) = fixture.post(&path(older), &manifest(older, 1));
        assert_eq!((status, version_of(&made)), (201, named.as_str()), "{made}");
        let managed = &made["metadata"]["managedFields"][0]["apiVersion"];
        assert_eq!(managed, named.as_str());
        let key = Key::new(&kind::SELDON_DEPLOYMENT, "ml", "iris");
        let stored = fixture.api.store().get(&key).unwrap();
        assert_eq!(version_of(&stored.object), "machinelearning.seldon.io/v1");
        // Each version shows the same object.
        for version in [older, "v1"] {
            let named = format!("machinelearning.seldon.io/{version}");
            let one = format!("{}/iris", path(version));
            let (status, found) = fixture.send("GET", &one, "", &Value::Null);
            assert_eq!((status, version_of(&found)), (200, named.as_str()));
            let (_, list) = fixture.send("GET", &path(version), "", &Value::Null);
            assert_eq!(version_of(&list), named);
            assert_eq!(version_of(&list["items"][0]), named);
        }
        let one = format!("{}/iris", path(older));
        // All the ways in which it may change.
        let (_, mut live) = fixture.send("GET", &one, "", &Value::Null);
        live["spec"]["predictors"][0]["replicas"] = json!(2);
        let (status, changed) = fixture.send("PUT", &one, "application/json", &live);
        assert_eq!(
            (status, version_of(&changed)),
            (200, named.as_str()),
            "{changed}"
        );
        let merged = json!({"apiVersion": named, "spec": {"replicas": 3}});
        let (status, changed) =
            fixture.send("PATCH", &one, "application/merge-patch+json", &merged);
        assert_eq!(
            (status, &changed["spec"]["replicas"]),
            (200, &json!(3)),
            "{changed}"
        );
        let operations = json!([
            {"op": "test", "path": "/apiVersion", "value": named},
            {"op": "replace", "path": "/spec/replicas", "value": 4}
        ]);
        let (status, changed) =
            fixture.send("PATCH", &one, "application/json-patch+json", &operations);
        assert_eq!(
            (status, &changed["spec"]["replicas"]),
            (200, &json!(4)),
            "{changed}"
        );
        let apply = format!("{one}?fieldManager=me&force=true");
        let (status, changed) = fixture.send(
            "PATCH",
            &apply,
            "application/apply-patch+yaml",
            &manifest(older, 5),
        );
        let replicas = &changed["spec"]["predictors"][0]["replicas"];
        assert_eq!((status, replicas), (200, &json!(5)), "{changed}");
        let (status, _) = fixture.send("DELETE", &one, "", &Value::Null);
        assert_eq!(status, 200);
        assert!(fixture.api.store().get(&key).is_none());
    }
}

#[test]
fn a_version_is_that_of_the_path_and_of_none_that_is_not_there() {
    let fixture = fixture();
    let (status, failure) = fixture.post(&path("v1"), &manifest("v1alpha2", 1));
    assert_eq!(status, 400, "{failure}");
    for other in ["v1", "v1alpha3"] {
        let (status, failure) = fixture.post(&path("v1alpha2"), &manifest(other, 1));
        let message = failure["message"].as_str().unwrap();
        assert_eq!(status, 400, "{failure}");
        assert!(
            message.ends_with("expected \"machinelearning.seldon.io/v1alpha2\""),
            "{message}"
        );
    }
    let (status, _) = fixture.post(&path("v1alpha1"), &manifest("v1alpha1", 1));
    assert_eq!(status, 404);
    // Rules are the same.
    let mut manifest = manifest("v1alpha3", 1);
    manifest["spec"]["predictors"] = json!([]);
    let (status, failure) = fixture.post(&path("v1alpha3"), &manifest);
    let message = failure["message"].as_str().unwrap();
    assert_eq!(status, 403);
    assert!(
        message.ends_with("Graph contains no predictors"),
        "{message}"
    );
}

#[test]
fn older_versions_are_discovered_after_the_newest() {
    let fixture = fixture();
    let (_, group) = fixture.send("GET", GROUP, "", &Value::Null);
    let versions = group["versions"].as_array().unwrap().iter();
    let versions: Vec<&str> = versions
        .map(|one| one["version"].as_str().unwrap())
        .collect();
    assert_eq!(versions, ["v1", "v1alpha3", "v1alpha2"]);
    assert_eq!(group["preferredVersion"]["version"], "v1");
    for version in versions {
        let target = format!("{GROUP}/{version}");
        let (_, list) = fixture.send("GET", &target, "", &Value::Null);
        assert_eq!(
            list["groupVersion"],
            format!("machinelearning.seldon.io/{version}")
        );
        assert_eq!(list["resources"][0]["name"], "seldondeployments");
        let schemas = format!("/openapi/v3{target}");
        let (status, document) = fixture.send("GET", &schemas, "", &Value::Null);
        let one = format!("{target}/namespaces/{{namespace}}/seldondeployments/{{name}}");
        let patch = &document["paths"][one]["patch"];
        assert_eq!(status, 200);
        assert_eq!(patch["x-kubernetes-group-version-kind"]["version"], version);
    }
}

#[tokio::test]
async fn watches_show_the_version_that_is_asked_for() {
    let fixture = fixture();
    fixture.post(&path("v1"), &manifest("v1", 1));
    let request = ApiRequest {
        user: User::owner(),
        method: "GET".to_owned(),
        path: path("v1alpha2"),
        query: "watch=true".to_owned(),
        ..ApiRequest::default()
    };
    let Answer::Watch(mut watch) = fixture.api.answer(&request) else {
        panic!("a watch");
    };
    let event: Value = serde_json::from_slice(&watch.next().await.unwrap()).unwrap();
    assert_eq!(event["type"], "ADDED");
    assert_eq!(
        version_of(&event["object"]),
        "machinelearning.seldon.io/v1alpha2"
    );
}
