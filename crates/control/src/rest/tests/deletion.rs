//! What goes with an object that is deleted, and what holds it.

use super::*;

#[test]
fn finalizers_hold_an_object_until_they_are_gone() {
    let fixture = fixture();
    let mut object = service("iris");
    object["metadata"]["finalizers"] = json!(["example.com/a"]);
    fixture.post(ISVC, &object);
    let url = format!("{ISVC}/iris");
    let (status, waiting) = fixture.send("DELETE", &url, "", &Value::Null);
    assert_eq!(
        (status, &waiting["kind"]),
        (200, &json!("InferenceService"))
    );
    assert!(waiting["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(waiting["metadata"]["generation"], 2);
    let (_, again) = fixture.send("DELETE", &url, "", &Value::Null);
    assert_eq!(again, waiting);
    let (status, _) = fixture.merge(
        &url,
        &json!({"metadata": {"finalizers": ["example.com/a", "example.com/b"]}}),
    );
    assert_eq!(status, 422);
    // As kube-rs does it: a test of a missing path against null holds.
    let patch = json!([{"op": "test", "path": "/metadata/nothing", "value": null}, {"op": "remove", "path": "/metadata/finalizers/0"}]);
    let (status, _) = fixture.send("PATCH", &url, "application/json-patch+json", &patch);
    assert_eq!(status, 200);
    assert_eq!(fixture.get(&url).0, 404);
}

#[test]
fn namespaces_take_their_objects_with_them() {
    let fixture = fixture();
    fixture.post(ISVC, &service("iris"));
    assert_eq!(
        fixture
            .get("/api/v1/namespaces/ml/serviceaccounts/default")
            .0,
        200
    );
    let (status, terminating) = fixture.send("DELETE", "/api/v1/namespaces/ml", "", &Value::Null);
    assert_eq!(
        (status, &terminating["status"]["phase"]),
        (200, &json!("Terminating"))
    );
    assert_eq!(fixture.get("/api/v1/namespaces/ml").0, 404);
    assert_eq!(fixture.get(&format!("{ISVC}/iris")).0, 404);
}

#[test]
fn owned_objects_go_with_their_owner() {
    let fixture = fixture();
    let (_, owner) = fixture.post(
        "/api/v1/namespaces/ml/configmaps",
        &json!({"metadata": {"name": "owner"}}),
    );
    let owned = json!({"metadata": {"name": "owned", "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}]}});
    fixture.post("/api/v1/namespaces/ml/configmaps", &owned);
    fixture.send(
        "DELETE",
        "/api/v1/namespaces/ml/configmaps/owner",
        "",
        &Value::Null,
    );
    assert_eq!(fixture.get("/api/v1/namespaces/ml/configmaps/owned").0, 404);
}

#[test]
fn what_an_object_owned_goes_with_it_though_others_write_it() {
    let fixture = fixture();
    let store = &fixture.api.store;
    let [pod, held] = ["owned", "held"].map(|name| Key::new(&kind::POD, "ml", name));
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Somebody who writes the pods' status again and again.
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                for pod in [&pod, &held] {
                    if let Some(live) = store.get(pod) {
                        let mut object = live.object.clone();
                        object["status"]["n"] = json!(live.version);
                        drop(store.update(pod, live.version, object));
                    }
                }
            }
        });
        for _ in 0..20 {
            let (_, owner) = fixture.post(ISVC, &service("a"));
            for (key, finalizers) in [(&pod, json!([])), (&held, json!(["test/held"]))] {
                let owned = json!({
                    "metadata": {
                        "name": key.name(),
                        "namespace": "ml",
                        "ownerReferences": [{"uid": owner["metadata"]["uid"]}],
                        "finalizers": finalizers
                    }
                });
                store.create(key.clone(), owned).unwrap();
            }
            let (status, _) = fixture.send("DELETE", &format!("{ISVC}/a"), "", &Value::Null);
            let is_there = store.get(&pod).is_some();
            let held_ends = store
                .get(&held)
                .is_some_and(|held| object::is_terminating(&held.object));
            if (status, is_there, held_ends) != (200, false, true) {
                is_over.store(true, Ordering::Relaxed);
            }
            assert_eq!((status, is_there, held_ends), (200, false, true));
            store.delete_whatever(&held).unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
    });
}
