//! Experiments of Seldon's from manifest to plan and status.

use serde_json::json;

use super::super::tests::{NAMESPACE, SERVICE, Stage, model};
use super::*;

fn spec(name: &str, percent: i64) -> Value {
    json!({
        "default": SERVICE,
        "candidates": [{"name": SERVICE, "weight": 100}],
        "mirror": {"name": name, "percent": percent},
    })
}

fn key(name: &str) -> Key {
    Key::new(&SELDON_EXPERIMENT, NAMESPACE, name)
}

fn create(stage: &Stage, key: Key, created: &str, spec: &Value) {
    let name = key.name().to_owned();
    let object = json!({
        "metadata": {"name": name, "namespace": NAMESPACE, "uid": name, "generation": 1, "creationTimestamp": created},
        "spec": spec,
    });
    stage.store.create(key, object).unwrap();
}

fn serve(stage: &Stage, name: &str) {
    let key = Key::new(&INFERENCE_SERVICE, NAMESPACE, name);
    let predictor = json!({"predictor": {"model": model("s3://models/next")}});
    create(stage, key, "2026-01-01T00:00:00Z", &predictor);
}

/// The shadow that the plan has, and how many of 100 requests it gets.
fn shadow(stage: &Stage) -> Option<(String, u8)> {
    let plan = stage.plan.lock().unwrap();
    let id = ServiceId {
        namespace: NAMESPACE.to_owned(),
        name: SERVICE.to_owned(),
    };
    let shadow = plan.routes.get(&id)?.shadow.clone()?;
    Some((shadow.service, shadow.percent))
}

/// The status of a condition, and its reason.
fn condition(stage: &Stage, experiment: &str, name: &str) -> (String, String) {
    let stored = stage.store.get(&key(experiment)).unwrap();
    let conditions = stored.object["status"]["conditions"].as_array().cloned();
    let conditions = conditions.unwrap_or_default();
    let found = conditions.iter().find(|one| one["type"] == name).unwrap();
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    (text("status"), text("reason"))
}

fn is(status: &str, reason: &str) -> (String, String) {
    (status.to_owned(), reason.to_owned())
}

#[test]
fn a_mirror_is_a_shadow_as_long_as_its_experiment_is_there() {
    let mut stage = Stage::new();
    stage.predictor(json!({"model": model("s3://models/iris")}));
    create(
        &stage,
        key("mirror"),
        "2026-01-02T00:00:00Z",
        &spec("next", 25),
    );
    stage.settle();
    assert_eq!(shadow(&stage), None);
    let missing = is("False", "NoInferenceService");
    assert_eq!(condition(&stage, "mirror", "MirrorReady"), missing);
    assert_eq!(
        condition(&stage, "mirror", "CandidatesReady"),
        is("True", "")
    );
    assert_eq!(condition(&stage, "mirror", "ExperimentReady"), missing);
    serve(&stage, "next");
    stage.settle();
    assert_eq!(shadow(&stage), Some(("next".to_owned(), 25)));
    for name in ["MirrorReady", "ExperimentReady", "Ready"] {
        assert_eq!(condition(&stage, "mirror", name), is("True", ""));
    }
    // A younger one has to wait.
    create(
        &stage,
        key("younger"),
        "2026-01-03T00:00:00Z",
        &spec("next", 50),
    );
    stage.settle();
    assert_eq!(shadow(&stage), Some(("next".to_owned(), 25)));
    let waits = is("False", "AnotherExperiment");
    assert_eq!(condition(&stage, "younger", "ExperimentReady"), waits);
    stage.store.delete_whatever(&key("mirror")).unwrap();
    stage.settle();
    assert_eq!(shadow(&stage), Some(("next".to_owned(), 50)));
    // What the service itself says goes first.
    stage.apply(json!({"metadata": {"annotations": {shadows::SERVICE: "other"}}}));
    assert_eq!(shadow(&stage), Some(("other".to_owned(), 100)));
    assert_eq!(
        condition(&stage, "younger", "MirrorReady"),
        is("False", "AnotherShadow")
    );
    stage.apply(json!({"metadata": {"annotations": {shadows::SERVICE: null}}}));
    assert_eq!(shadow(&stage), Some(("next".to_owned(), 50)));
    stage.store.delete_whatever(&key("younger")).unwrap();
    stage.settle();
    assert_eq!(shadow(&stage), None);
}

#[test]
fn what_is_not_served_is_refused_with_its_place() {
    let with = |changes: Value| {
        let mut experiment = json!({"metadata": {"name": "e"}, "spec": spec("next", 25)});
        coracle_patch::merge_patch(&mut experiment, &json!({"spec": changes}));
        check(&experiment)
    };
    assert_eq!(with(json!({"resourceType": "model"})), Ok(()));
    for (changes, expected) in [
        (
            json!({"candidates": null, "mirror": null}),
            "experiment e has no candidates or mirror",
        ),
        (json!({"mirror": null}), "spec.mirror: it must be there"),
        (
            json!({"default": null}),
            "spec.default: the InferenceService",
        ),
        (
            json!({"default": "other"}),
            "default model/pipeline other not found in experiment e candidates",
        ),
        (
            json!({"candidates": [{"name": "iris", "weight": 50}, {"name": "b", "weight": 50}]}),
            "spec.candidates[1]: 'b': requests are not split",
        ),
        (
            json!({"mirror": {"name": "iris"}}),
            "but found resource iris duplicated in experiment e",
        ),
        (
            json!({"mirror": {"name": "No!"}}),
            "spec.mirror.name: 'No!' is no name",
        ),
        (
            json!({"mirror": {"percent": 0}}),
            "spec.mirror.percent: 0 is not between 1 and 100",
        ),
        (
            json!({"mirror": {"percent": 300}}),
            "spec.mirror.percent: 300 is not",
        ),
        (
            json!({"resourceType": "pipeline"}),
            "spec.resourceType: 'pipeline' is not served",
        ),
    ] {
        let error = with(changes.clone()).unwrap_err();
        assert!(error.contains(expected), "{changes}: {error}");
    }
}
