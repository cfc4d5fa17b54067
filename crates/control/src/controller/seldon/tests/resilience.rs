//! What is done where models fail: annotations of a SeldonDeployment reach its InferenceServices.

use std::time::Duration;

use coracle_serving::FallbackSettings;

use super::*;

const FALLBACK: &str = "serving.coracle.dev/fallback";
const OTHER: &str = "serving.coracle.dev/fallback-service";
const TIMEOUT: &str = "serving.coracle.dev/fallback-timeout";
const RETRIES: &str = "serving.coracle.dev/retries";
const BREAKER: &str = "serving.coracle.dev/breaker-failures";

fn object(annotations: Value, spec: Value) -> Value {
    json!({
        "metadata": {"name": "flowers", "namespace": NAMESPACE, "uid": "s", "generation": 1, "annotations": annotations},
        "spec": spec
    })
}

/// Gives the SeldonDeployment `flowers` annotations and a spec.
fn annotate(stage: &mut Stage, annotations: Value, spec: Value) {
    let object = object(annotations, spec);
    assert_eq!(check(&object), Ok(()));
    match stage.store.get(&key()) {
        None => drop(stage.store.create(key(), object).unwrap()),
        Some(stored) => {
            let mut changed = stored.object.clone();
            changed["spec"] = object["spec"].clone();
            changed["metadata"]["annotations"] = object["metadata"]["annotations"].clone();
            drop(stage.store.update(&key(), stored.version, changed).unwrap());
        }
    }
    stage.settle();
}

fn default() -> Value {
    json!({"predictors": [predictor("default", "file:///a", json!({}))]})
}

fn fallback(stage: &Stage, name: &str) -> Option<FallbackSettings> {
    route(stage, name).fallback
}

#[test]
fn what_a_deployment_says_is_done_for_its_service() {
    let mut stage = Stage::new();
    let mut spec = default();
    spec["annotations"] = json!({RETRIES: "2", TIMEOUT: "200ms"});
    spec["predictors"][0]["annotations"] = json!({RETRIES: "1"});
    let own =
        json!({FALLBACK: "[0.5, 0.5]", RETRIES: "4", BREAKER: "5", OTHER: "small", "note": "mine"});
    annotate(&mut stage, own, spec);
    let expected = FallbackSettings {
        value: Some("[0.5, 0.5]".to_owned()),
        service: Some(ServiceId {
            namespace: NAMESPACE.to_owned(),
            name: "small".to_owned(),
        }),
        timeout: Some(Duration::from_millis(200)),
        // The predictor's before the spec's, and that before the object's.
        retries: 1,
        breaker_failures: Some(5),
        ..FallbackSettings::default()
    };
    assert_eq!(fallback(&stage, "flowers"), Some(expected));
    let revisions = stage.plan.lock().unwrap().revisions.len();
    let made = service(&stage, "flowers").unwrap();
    assert_eq!(made["metadata"]["annotations"].get("note"), None);
    // What the service's own writer says stays, and what the deployment says no more goes. Nothing is loaded again.
    let key = Key::new(&INFERENCE_SERVICE, NAMESPACE, "flowers");
    let stored = stage.store.get(&key).unwrap();
    let mut mine = stored.object.clone();
    mine["metadata"]["annotations"]["serving.coracle.dev/breaker-latency"] = json!("1s");
    drop(stage.store.update(&key, stored.version, mine).unwrap());
    annotate(&mut stage, json!({}), default());
    let expected = FallbackSettings {
        breaker_latency: Some(Duration::from_secs(1)),
        ..FallbackSettings::default()
    };
    assert_eq!(fallback(&stage, "flowers"), Some(expected));
    assert_eq!(stage.plan.lock().unwrap().revisions.len(), revisions);
}

#[test]
fn seldons_own_retries_and_timeouts_are_kept() {
    let mut stage = Stage::new();
    for (annotations, retries, timeout) in [
        (json!({"seldon.io/istio-retries": "3"}), 3, None),
        (json!({"seldon.io/rest-connect-retries": "9"}), 5, None),
        (
            json!({"seldon.io/istio-retries": "3", RETRIES: "1"}),
            1,
            None,
        ),
        (
            json!({"seldon.io/istio-retries": "0", "seldon.io/grpc-timeout": "1500"}),
            0,
            Some(2),
        ),
        (
            json!({"seldon.io/rest-timeout": "4000", "seldon.io/grpc-timeout": "1500"}),
            0,
            Some(4),
        ),
        (json!({"seldon.io/rest-read-timeout": "5000"}), 0, Some(5)),
        (json!({"seldon.io/grpc-read-timeout": "100"}), 0, Some(1)),
        // Others of Seldon's are taken, and say nothing here.
        (json!({"seldon.io/grpc-max-message-size": "x"}), 0, None),
    ] {
        let mut spec = default();
        spec["annotations"] = annotations.clone();
        annotate(&mut stage, json!({}), spec);
        let found = fallback(&stage, "flowers").map_or(0, |settings| settings.retries);
        assert_eq!(found, retries, "{annotations}");
        let made = service(&stage, "flowers").unwrap();
        let found = made["spec"]["predictor"]["timeout"].as_u64();
        assert_eq!(found, timeout, "{annotations}");
    }
}

#[test]
fn values_that_nobody_can_read_are_refused_by_their_place() {
    let of_spec = |annotations: Value| {
        let mut spec = default();
        spec["annotations"] = annotations;
        object(json!({}), spec)
    };
    let of_predictor = |annotations: Value| {
        let mut spec = default();
        spec["predictors"][0]["annotations"] = annotations;
        object(json!({}), spec)
    };
    for (object, expected) in [
        (
            of_spec(json!({"seldon.io/rest-timeout": "soon"})),
            "spec.annotations: annotation seldon.io/rest-timeout: 'soon' is no number of milliseconds from 1 to 2147483647",
        ),
        (
            of_spec(json!({"seldon.io/grpc-read-timeout": "0"})),
            "spec.annotations: annotation seldon.io/grpc-read-timeout: '0' is no number of milliseconds from 1 to 2147483647",
        ),
        (
            of_predictor(json!({"seldon.io/grpc-timeout": "2147483648"})),
            "spec.predictors[0].annotations: annotation seldon.io/grpc-timeout: '2147483648' is no number of milliseconds from 1 to 2147483647",
        ),
        (
            of_predictor(json!({"seldon.io/rest-connect-retries": "-1"})),
            "spec.predictors[0].annotations: annotation seldon.io/rest-connect-retries: '-1' is no number of times, 0 or more",
        ),
        (
            object(json!({"seldon.io/istio-retries": "x"}), default()),
            "metadata.annotations: annotation seldon.io/istio-retries: 'x' is no number of times, 0 or more",
        ),
    ] {
        assert_eq!(check(&object).unwrap_err(), expected);
    }
    // What an earlier version let pass says nothing.
    let mut stage = Stage::new();
    let said = json!({"seldon.io/rest-timeout": "soon", "seldon.io/istio-retries": "x"});
    drop(stage.store.create(key(), of_spec(said)).unwrap());
    stage.settle();
    assert_eq!(fallback(&stage, "flowers"), None);
    let made = service(&stage, "flowers").unwrap();
    assert_eq!(made["spec"]["predictor"].get("timeout"), None);
}

#[test]
fn each_model_of_a_graph_has_what_is_done_with_calls() {
    let mut stage = Stage::new();
    let child =
        json!({"name": "classify", "implementation": "SKLEARN_SERVER", "modelUri": "file:///b"});
    let graph = json!({"graph": {"name": "scale", "type": "TRANSFORMER", "children": [child]}, "annotations": {BREAKER: "3"}});
    let spec = json!({"predictors": [predictor("default", "file:///a", graph)]});
    annotate(&mut stage, json!({RETRIES: "2"}), spec.clone());
    for node in ["scale", "classify"] {
        let settings = fallback(&stage, &format!("flowers-default-{node}")).unwrap();
        assert_eq!(
            (settings.retries, settings.breaker_failures),
            (2, Some(3)),
            "{node}"
        );
    }
}

fn two_nodes(change: Value) -> Value {
    let child =
        json!({"name": "classify", "implementation": "SKLEARN_SERVER", "modelUri": "file:///b"});
    let mut graph = json!({"graph": {"name": "scale", "type": "TRANSFORMER", "children": [child]}});
    coracle_patch::merge_patch(&mut graph, &change);
    predictor("default", "file:///a", graph)
}

/// What a graph could never give is told as soon as its models are known, by a condition and an event; the deployment is none the worse for it.
#[test]
fn a_default_prediction_of_a_graph_that_fits_no_answer_is_told() {
    let mut stage = Stage::new();
    let spec = json!({"predictors": [two_nodes(json!({}))]});
    annotate(&mut stage, json!({FALLBACK: "\"no\""}), spec.clone());
    let why = "\"no\" is no row of output \"predict\", which is INT64 of shape [-1]";
    let observe = |stage: &mut Stage, why: Option<&str>| {
        let mut observed = stage.observed.get();
        let id = observed.flows.keys().next().unwrap().clone();
        observed.misfits = why.map(|why| (id, why.to_owned())).into_iter().collect();
        stage.observed.set(observed);
        stage.settle();
    };
    let condition = |stage: &Stage| {
        let status = status(stage);
        assert_eq!(status["state"], "Available", "{status}");
        let conditions = status["conditions"].as_array().unwrap().clone();
        let mut all = conditions.into_iter();
        let found = all.find(|one| one["type"] == "FallbackInForce")?;
        Some([&found["status"], &found["reason"], &found["message"]].map(Value::clone))
    };
    assert_eq!(condition(&stage), None);
    observe(&mut stage, Some(why));
    let told = format!("annotation {FALLBACK}: {why}; no such answer is given");
    let expected = ["False", "DoesNotFit", &told].map(Value::from);
    assert_eq!(condition(&stage), Some(expected));
    let (events, _) = stage.store.list(&coracle_api::kind::EVENT, None);
    let told = |event: &&std::sync::Arc<crate::store::Stored>| {
        let object = &event.object;
        object["reason"] == "FallbackDoesNotFit"
            && object["involvedObject"]["kind"] == "SeldonDeployment"
    };
    assert_eq!(events.iter().filter(told).count(), 1);
    // That nothing stands in by the service that is named goes first.
    annotate(
        &mut stage,
        json!({FALLBACK: "\"no\"", OTHER: "small"}),
        spec,
    );
    observe(&mut stage, Some(why));
    let [_, _, message] = condition(&stage).unwrap();
    let message = message.as_str().unwrap();
    assert!(message.contains("no InferenceService small"), "{message}");
}

/// What stands in, and the bulkhead, are of the graph as a whole; nothing is loaded for them.
#[test]
fn a_graph_is_stood_in_for_as_a_whole() {
    let mut stage = Stage::new();
    let spec = |change: Value| json!({"predictors": [two_nodes(change)]});
    annotate(&mut stage, json!({}), spec(json!({})));
    let flow = |stage: &Stage| {
        let observed = stage.observed.get();
        let flow = observed.flows.values().next().unwrap().clone();
        flow.fallback
    };
    assert_eq!(flow(&stage), None);
    let revisions = stage.plan.lock().unwrap().revisions.len();
    let of_predictor = json!({"annotations": {TIMEOUT: "200ms"}});
    let own = json!({
        FALLBACK: "[0.5, 0.5]", OTHER: "small", RETRIES: "2", TIMEOUT: "1s",
        "serving.coracle.dev/fallback-last-good": "X-User", "serving.coracle.dev/bulkhead": "8"
    });
    annotate(&mut stage, own, spec(of_predictor));
    let expected = FallbackSettings {
        value: Some("[0.5, 0.5]".to_owned()),
        service: Some(ServiceId {
            namespace: NAMESPACE.to_owned(),
            name: "small".to_owned(),
        }),
        key: Some("x-user".to_owned()),
        timeout: Some(Duration::from_millis(200)),
        bulkhead: Some(coracle_serving::BulkheadSettings {
            places: 8,
            queue: 80,
        }),
        // Of calls to the models.
        retries: 0,
        ..FallbackSettings::default()
    };
    assert_eq!(flow(&stage), Some(expected));
    let of_node = fallback(&stage, "flowers-default-scale").unwrap();
    let retries = FallbackSettings {
        retries: 2,
        ..FallbackSettings::default()
    };
    assert_eq!(of_node, retries);
    assert_eq!(stage.plan.lock().unwrap().revisions.len(), revisions);
    let condition = |stage: &Stage| {
        let status = status(stage);
        let conditions = status["conditions"].as_array().unwrap().clone();
        let mut found = conditions
            .into_iter()
            .filter(|one| one["type"] == "FallbackInForce");
        let state = status["state"].clone();
        (
            state,
            found
                .next()
                .map(|one| (one["status"].clone(), one["message"].clone())),
        )
    };
    let message = "annotation serving.coracle.dev/fallback-service: there is no InferenceService small in namespace ml; nothing stands in by it until there is";
    assert_eq!(
        condition(&stage),
        (json!("Available"), Some((json!("False"), json!(message))))
    );
    annotate(&mut stage, json!({}), spec(json!({})));
    assert_eq!(flow(&stage), None);
    assert_eq!(condition(&stage), (json!("Available"), None));
    assert_eq!(stage.plan.lock().unwrap().revisions.len(), revisions);
}

#[test]
fn what_no_graph_can_do_is_refused() {
    let one = json!({"predictors": [two_nodes(json!({}))]});
    let said = json!({"annotations": {FALLBACK: "0"}});
    let mut second = two_nodes(json!({"traffic": 50}));
    second["name"] = json!("other");
    let two = json!({"predictors": [two_nodes(json!({"traffic": 50, "annotations": {FALLBACK: "0"}})), second]});
    let mut shadow = two_nodes(json!({"shadow": true}));
    shadow["name"] = json!("next");
    coracle_patch::merge_patch(&mut shadow, &said);
    let with_shadow = json!({"predictors": [two_nodes(json!({})), shadow]});
    for (annotations, spec, words) in [
        (
            json!({"serving.coracle.dev/fallback-revision": "previous"}),
            one.clone(),
            "a graph of several nodes has no revisions",
        ),
        (json!({TIMEOUT: "1s"}), one.clone(), "says nothing without"),
        (
            json!({FALLBACK: "null"}),
            one.clone(),
            "no default prediction",
        ),
        (
            json!({OTHER: "flowers"}),
            one.clone(),
            "does not stand in for itself",
        ),
        (
            json!({}),
            two,
            "spec.predictors[0].annotations: serving.coracle.dev/fallback is for all predictors together",
        ),
        (
            json!({}),
            with_shadow,
            "spec.predictors[1].annotations: serving.coracle.dev/fallback is for all predictors together",
        ),
    ] {
        let error = check(&object(annotations, spec)).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
    assert_eq!(check(&object(json!({FALLBACK: "0"}), one)), Ok(()));
}

#[test]
fn annotations_that_can_do_nothing_are_refused() {
    let ab = |change: Value| {
        let share = json!({"traffic": 50});
        let mut first = share.clone();
        coracle_patch::merge_patch(&mut first, &change);
        json!({"predictors": [predictor("a", "file:///a", first), predictor("b", "file:///b", share)]})
    };
    let shadow = json!({"shadow": true, "annotations": {RETRIES: "1"}});
    let with_shadow = json!({"predictors": [predictor("a", "file:///a", json!({})), predictor("b", "file:///b", shadow)]});
    for (annotations, spec, words) in [
        (
            json!({RETRIES: "6"}),
            default(),
            "annotation serving.coracle.dev/retries: '6' is no number from 0 to 5",
        ),
        (json!({TIMEOUT: "1s"}), default(), "says nothing without"),
        (
            json!({OTHER: "flowers"}),
            default(),
            "does not stand in for itself",
        ),
        (
            json!({"serving.coracle.dev/hedge-after": "p95"}),
            default(),
            "is for programs",
        ),
        (
            json!({OTHER: "next", "serving.coracle.dev/hedge-to": "service"}),
            default(),
            "annotate the InferenceService that is made of it",
        ),
        (
            json!({}),
            ab(json!({"annotations": {RETRIES: "1"}})),
            "spec.predictors[0].annotations: serving.coracle.dev/retries is for all predictors",
        ),
        (
            json!({}),
            with_shadow,
            "spec.predictors[1].annotations: serving.coracle.dev/retries is for all predictors",
        ),
    ] {
        let error = check(&object(annotations, spec)).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
    assert_eq!(check(&object(json!({RETRIES: "1"}), ab(json!({})))), Ok(()));
}
