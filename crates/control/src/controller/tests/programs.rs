//! Services whose predictors run as programs.

use super::*;

#[test]
fn a_program_is_a_canary_of_a_model_and_the_other_way_round() {
    let mut stage = Stage::running(programs());
    stage.predictor(json!({"model": model("s3://b/v1")}));
    assert_eq!(
        stage.status("/clusterServingRuntimeName"),
        "kserve-sklearnserver"
    );
    let container = json!({"name": "c", "image": "known:v1", "env": [{"name": "STORAGE_URI", "value": "s3://b/v2"}]});
    stage.predictor(json!({"model": null, "containers": [container], "canaryTrafficPercent": 20}));
    assert_eq!(stage.ready(), "True");
    assert_eq!(stage.traffic(), split(&[(2, 20, ""), (1, 80, "prev")]));
    assert_eq!(stage.status("/clusterServingRuntimeName"), Value::Null);
    let sources = stage.sources();
    assert_eq!(
        (sources[0].uri.as_str(), &sources[0].process),
        ("s3://b/v1", &None)
    );
    assert_eq!(sources[1].uri, "s3://b/v2");
    let process = sources[1].process.as_deref().unwrap();
    assert_eq!(process.argv, ["python3", "serve.py"]);
    stage.predictor(
        json!({"model": model("s3://b/v3"), "containers": null, "canaryTrafficPercent": 10}),
    );
    assert_eq!(stage.traffic(), split(&[(3, 10, ""), (1, 90, "prev")]));
}

#[test]
fn programs_take_part_in_experiments() {
    let mut stage = Stage::running(programs());
    stage.predictor(json!({"model": model("s3://b/v1")}));
    let container = json!({"name": "c", "image": "known:v1"});
    stage.predictor(json!({"model": null, "containers": [container], "canaryTrafficPercent": 0}));
    let revisions = [1, 2].map(|number| format!("{SERVICE}-predictor-{number:05}"));
    let variants = revisions
        .each_ref()
        .map(|revision| json!({"name": revision, "revision": revision}));
    let experiment = json!({
        "metadata": {"name": "ab", "namespace": NAMESPACE, "uid": "e", "generation": 1},
        "spec": {
            "inferenceService": SERVICE, "unit": {"header": "x-user"}, "variants": variants,
            "metrics": [{"name": "bought", "type": "Conversion", "window": "7d"}]
        }
    });
    let key = Key::new(&EXPERIMENT, NAMESPACE, "ab");
    stage.store.create(key.clone(), experiment).unwrap();
    stage.settle();
    let status = |stage: &Stage| {
        let experiment = stage.store.get(&key).unwrap();
        experiment.object["status"].clone()
    };
    assert_eq!(status(&stage)["phase"], "Running", "{}", status(&stage));
    let plan = stage.plan.lock().unwrap();
    let route = plan.routes.values().next().unwrap();
    let planned = &route.experiments[0];
    assert_eq!(planned.revisions().collect::<Vec<&str>>(), revisions);
    assert_eq!(planned.metrics[0].window_ms, Some(7 * 24 * 3_600_000));
}

#[test]
fn a_runtime_with_a_command_serves_its_format() {
    let mut stage = Stage::running(programs());
    let runtime = json!({
        "metadata": {"name": "own", "namespace": NAMESPACE},
        "spec": {
            "supportedModelFormats": [{"name": "own", "autoSelect": true}],
            "containers": [{"name": "kserve-container", "command": ["serve"], "args": ["--name={{.Name}}"]}]
        }
    });
    let key = Key::new(&SERVING_RUNTIME, NAMESPACE, "own");
    stage.store.create(key, runtime).unwrap();
    stage.predictor(json!({"model": {"modelFormat": {"name": "own"}, "args": ["--more"]}}));
    assert_eq!(stage.ready(), "True");
    assert_eq!(stage.status("/servingRuntimeName"), "own");
    let sources = stage.sources();
    assert_eq!(sources[0].uri, "");
    let argv = &sources[0].process.as_deref().unwrap().argv;
    assert_eq!(argv[..], ["serve", &format!("--name={SERVICE}"), "--more"]);
}

#[test]
fn loggers_of_programs_are_refused() {
    let mut stage = Stage::running(programs());
    let container = json!({"name": "c", "image": "known:v1"});
    let logger = json!({"mode": "all", "url": "http://broker"});
    stage.predictor(json!({"containers": [container], "logger": logger}));
    let (reason, message) = stage.why_not_ready();
    assert_eq!(reason, "InvalidPredictorSpec");
    assert!(
        message.contains("logger is not served for programs"),
        "{message}"
    );
    stage.predictor(json!({"logger": null}));
    assert_eq!(stage.ready(), "True");
}

#[test]
fn what_is_not_done_for_programs_is_refused_by_its_name() {
    for (name, value) in [
        ("serving.coracle.dev/shadow", "next"),
        ("serving.coracle.dev/response-cache", "1MiB"),
        ("serving.coracle.dev/hedge-to", "service"),
    ] {
        let mut stage = Stage::running(programs());
        let container = json!({"name": "kserve-container", "image": "known:v1"});
        stage.predictor(json!({"containers": [container]}));
        assert_eq!(stage.ready(), "True", "{}", stage.status("/conditions"));
        let annotate = |value: Value| json!({"metadata": {"annotations": {name: value}}});
        stage.apply(annotate(value.into()));
        let (reason, message) = stage.why_not_ready();
        assert_eq!(reason, "InvalidPredictorSpec");
        let start = format!("annotation {name}: this predictor runs as a program");
        assert!(message.starts_with(&start), "{message}");
        // What serves goes on.
        assert_eq!(stage.plan.lock().unwrap().routes.len(), 1);
        stage.apply(annotate(Value::Null));
        assert_eq!(stage.ready(), "True");
        // For a model it is done.
        stage.predictor(json!({"containers": null, "model": model("file:///a")}));
        stage.apply(annotate(value.into()));
        assert_eq!(stage.ready(), "True");
    }
}

#[test]
fn a_program_may_have_a_default_prediction_and_last_good_answers() {
    let mut stage = Stage::running(programs());
    let container = json!({"name": "kserve-container", "image": "known:v1"});
    stage.predictor(json!({"containers": [container]}));
    let annotations = json!({
        "serving.coracle.dev/fallback": "0",
        "serving.coracle.dev/fallback-last-good": "x-user"
    });
    stage.apply(json!({"metadata": {"annotations": annotations}}));
    assert_eq!(stage.ready(), "True", "{}", stage.status("/conditions"));
    let plan = stage.plan.lock().unwrap();
    let route = plan.routes.values().next().unwrap();
    let fallback = route.fallback.as_ref().unwrap();
    assert_eq!(fallback.value.as_deref(), Some("0"));
    assert_eq!(fallback.key.as_deref(), Some("x-user"));
}

#[test]
fn hedging_is_refused_for_what_has_one_instance() {
    let name = "serving.coracle.dev/hedge-after";
    let annotate = |value: Value| json!({"metadata": {"annotations": {name: value}}});
    let mut stage = Stage::running(programs());
    let container = json!({"name": "kserve-container", "image": "known:v1"});
    stage.predictor(json!({"containers": [container]}));
    stage.apply(annotate("p95".into()));
    assert_eq!(stage.ready(), "True", "{}", stage.status("/conditions"));
    let hedge = |stage: &Stage| {
        let plan = stage.plan.lock().unwrap();
        let route = plan.routes.values().next().unwrap();
        route.fallback.as_ref().and_then(|fallback| fallback.hedge)
    };
    let expected = coracle_serving::HedgeAfter::Percentile(95);
    assert_eq!(hedge(&stage), Some(expected));
    stage.predictor(json!({"containers": null, "model": model("file:///a")}));
    let (reason, message) = stage.why_not_ready();
    assert_eq!(reason, "InvalidPredictorSpec");
    let start = format!("annotation {name}: this predictor's model is read here once");
    assert!(message.starts_with(&start), "{message}");
}
