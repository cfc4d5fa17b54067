//! Annotations about fallbacks, from manifest to plan and conditions.

use super::*;

const REVISION: &str = "serving.coracle.dev/fallback-revision";

fn annotate(value: Value) -> Value {
    json!({"metadata": {"annotations": {REVISION: value}}})
}

/// Returns the revision that stands in as the plan has it, and all targets with their shares.
fn planned(stage: &Stage) -> (Option<String>, Vec<(String, u8)>) {
    let plan = stage.plan.lock().unwrap();
    let route = plan.routes.values().next().unwrap();
    let number = |name: &str| name.replace("iris-predictor-0000", "");
    let stand_in = route.fallback.as_ref();
    let stand_in = stand_in.and_then(|settings| settings.revision.as_deref());
    let targets = route.targets.iter();
    let targets = targets.map(|target| (number(&target.revision), target.percent));
    (stand_in.map(number), targets.collect())
}

fn is_planned(stage: &Stage, number: u64) -> bool {
    let plan = stage.plan.lock().unwrap();
    let name = format!("iris-predictor-0000{number}");
    plan.revisions.keys().any(|id| id.name == name)
}

fn in_force(stage: &Stage) -> (String, String, String) {
    let conditions = stage.status("/conditions");
    let mut conditions = conditions.as_array().unwrap().iter();
    let found = conditions.find(|one| one["type"] == "FallbackInForce");
    let text = |key: &str| found.unwrap()[key].as_str().unwrap_or_default().to_owned();
    (text("status"), text("reason"), text("message"))
}

fn owned(stand_in: Option<&str>, targets: &[(&str, u8)]) -> (Option<String>, Vec<(String, u8)>) {
    let targets = targets.iter();
    let targets = targets.map(|(name, percent)| ((*name).to_owned(), *percent));
    (stand_in.map(str::to_owned), targets.collect())
}

#[test]
fn the_stable_revision_stands_in_for_a_canary() {
    let mut stage = Stage::new();
    stage.predictor(json!({"model": model("s3://b/v1")}));
    stage.apply(annotate("stable".into()));
    // Where there is no other one it stands in for nobody.
    assert_eq!(planned(&stage), owned(Some("1"), &[("1", 100)]));
    assert_eq!(in_force(&stage).0, "True");
    stage.predictor(json!({"model": model("s3://b/v2"), "canaryTrafficPercent": 10}));
    assert_eq!(planned(&stage), owned(Some("1"), &[("2", 10), ("1", 90)]));
    stage.predictor(json!({"canaryTrafficPercent": null}));
    assert_eq!(planned(&stage), owned(Some("2"), &[("2", 100)]));
}

/// What could never be given is told as soon as the model is known, by a condition and an event; the service is none the worse for it.
#[test]
fn a_default_prediction_that_fits_no_answer_is_told() {
    let mut stage = Stage::new();
    stage.predictor(json!({"model": model("s3://b/v1")}));
    let annotation = "serving.coracle.dev/fallback";
    stage.apply(json!({"metadata": {"annotations": {annotation: "{\"nope\": 1}"}}}));
    let why = "revision iris-predictor-00001: the model has no output \"nope\"";
    let observe = |stage: &mut Stage, misfits: &[&str]| {
        let mut observed = stage.observed.get();
        let id = observed.routes.keys().next().unwrap().clone();
        observed.misfits = misfits
            .iter()
            .map(|why| (id.clone(), (*why).to_owned()))
            .collect();
        stage.observed.set(observed);
        stage.settle();
    };
    observe(&mut stage, &[why]);
    let (status, reason, message) = in_force(&stage);
    assert_eq!((status.as_str(), reason.as_str()), ("False", "DoesNotFit"));
    assert_eq!(
        message,
        format!("annotation {annotation}: {why}; no such answer is given")
    );
    assert_eq!(stage.ready(), "True");
    let (events, _) = stage.store.list(&coracle_api::kind::EVENT, None);
    let told = |event: &Arc<Stored>| event.object["reason"] == "FallbackDoesNotFit";
    assert_eq!(events.iter().filter(|event| told(event)).count(), 1);
    observe(&mut stage, &[]);
    let conditions = stage.status("/conditions");
    let mut conditions = conditions.as_array().unwrap().iter();
    assert!(!conditions.any(|one| one["type"] == "FallbackInForce"));
}

#[test]
fn the_previous_revision_stays_ready_to_stand_in() {
    let mut stage = Stage::new();
    stage.predictor(json!({"model": model("s3://b/v1")}));
    stage.apply(annotate("previous".into()));
    assert_eq!(planned(&stage), owned(None, &[("1", 100)]));
    let (status, reason, message) = in_force(&stage);
    assert_eq!((status.as_str(), reason.as_str()), ("False", "NoRevision"));
    let expected = format!(
        "annotation {REVISION}: no other revision had all requests before the one that has them; nothing stands in by it until there is one"
    );
    assert_eq!(message, expected);
    assert_eq!(stage.ready(), "True");
    stage.predictor(json!({"model": model("s3://b/v2")}));
    assert_eq!(planned(&stage), owned(Some("1"), &[("2", 100), ("1", 0)]));
    assert_eq!(in_force(&stage).0, "True");
    assert_eq!(stage.traffic(), split(&[(2, 100, "")]));
    // It is let go of once nothing asks for it.
    assert!(is_planned(&stage, 1));
    stage.apply(annotate(Value::Null));
    assert_eq!(planned(&stage), owned(None, &[("2", 100)]));
    assert!(!is_planned(&stage, 1));
}

/// What is dropped for a moment is loaded anew, which may take long.
#[test]
fn the_previous_revision_is_loaded_at_every_step_of_a_switch() {
    let mut stage = Stage::new();
    stage.predictor(json!({"model": model("s3://b/v1")}));
    stage.apply(annotate("previous".into()));
    for newest in 2..5 {
        let uri = format!("s3://b/v{newest}");
        stage.submit(&json!({"spec": {"predictor": {"model": model(&uri)}}}));
        let mut taken_over = Vec::new();
        stage.settle_with(|stage| {
            assert!(is_planned(stage, newest - 1), "at the switch to {newest}");
            let (stand_in, targets) = planned(stage);
            let of_targets = targets.iter().map(|(name, _)| name);
            for name in of_targets.chain(&stand_in) {
                let number = name.parse().unwrap();
                assert!(is_planned(stage, number), "{number} of {targets:?}");
            }
            let has_taken_over = targets[0].0 == newest.to_string();
            if has_taken_over {
                assert_eq!(stand_in, Some((newest - 1).to_string()));
            }
            taken_over.push(has_taken_over);
        });
        // Before and after it.
        assert!(taken_over.contains(&false) && taken_over.contains(&true));
        let (newest, before) = (newest.to_string(), (newest - 1).to_string());
        let targets = [(newest.as_str(), 100), (before.as_str(), 0)];
        assert_eq!(planned(&stage), owned(Some(before.as_str()), &targets));
    }
    assert!(!is_planned(&stage, 2));
    // With blocks, the stable one of them is what was before.
    let stable = json!({"spec": {"predictor": {"model": model("s3://b/v5")},
        "canary": {"predictor": {"model": model("s3://b/v6"), "canaryTrafficPercent": 20}}}});
    stage.submit(&stable);
    stage.settle_with(|stage| assert!(is_planned(stage, 4)));
    assert_eq!(planned(&stage).0.as_deref(), Some("4"));
}

/// As after a restart of the server, when the smaller one of two models is up first.
#[test]
fn a_stand_in_that_is_up_first_is_not_rolled_out() {
    let mut stage = Stage::new();
    stage.predictor(json!({"model": model("s3://b/v1")}));
    stage.apply(annotate("iris-predictor-00001".into()));
    stage.predictor(json!({"model": model("s3://b/v2")}));
    stage.is_slow_loaded = true;
    stage.predictor(json!({"model": model("s3://b/slow")}));
    let rolled_out = |stage: &Stage| {
        let of = |name: &str| stage.status(&format!("/components/predictor/{name}"));
        let names = ["latestRolledoutRevision", "previousRolledoutRevision"];
        names.map(|name| of(name).as_str().unwrap_or_default().to_owned())
    };
    let expected = ["iris-predictor-00003", "iris-predictor-00002"];
    assert_eq!(rolled_out(&stage), expected);
    stage.is_slow_loaded = false;
    stage.settle_with(|stage| assert_eq!(rolled_out(stage), expected));
    // What is up answers meanwhile.
    assert_eq!(stage.traffic(), split(&[(1, 100, "")]));
    stage.is_slow_loaded = true;
    stage.settle_with(|stage| assert_eq!(rolled_out(stage), expected));
    assert_eq!(stage.traffic(), split(&[(3, 100, "")]));
}

#[test]
fn a_revision_that_is_named_stands_in_once_it_is_ready() {
    let mut stage = Stage::new();
    stage.predictor(json!({"model": model("s3://b/slow")}));
    stage.is_slow_loaded = true;
    stage.settle();
    stage.predictor(json!({"model": model("s3://b/v2")}));
    stage.is_slow_loaded = false;
    let timeout =
        json!({"metadata": {"annotations": {"serving.coracle.dev/fallback-timeout": "50ms"}}});
    stage.apply(annotate("iris-predictor-00001".into()));
    stage.apply(timeout);
    let (status, reason, message) = in_force(&stage);
    assert_eq!(
        (status.as_str(), reason.as_str()),
        ("False", "RevisionNotReady")
    );
    assert!(
        message.contains("revision iris-predictor-00001 is not ready"),
        "{message}"
    );
    // Until then no call is cut short.
    let timeout = |stage: &Stage| {
        let plan = stage.plan.lock().unwrap();
        let route = plan.routes.values().next().unwrap();
        route
            .fallback
            .as_ref()
            .and_then(|settings| settings.timeout)
    };
    assert_eq!(planned(&stage), owned(None, &[("2", 100)]));
    assert_eq!(timeout(&stage), None);
    stage.is_slow_loaded = true;
    stage.settle();
    assert_eq!(planned(&stage), owned(Some("1"), &[("2", 100), ("1", 0)]));
    assert_eq!(timeout(&stage), Some(Duration::from_millis(50)));
    stage.apply(annotate("iris-predictor-00007".into()));
    assert_eq!(planned(&stage), owned(None, &[("2", 100)]));
    let (_, reason, message) = in_force(&stage);
    assert_eq!(reason, "NoRevision");
    assert!(
        message.contains("has no revision iris-predictor-00007"),
        "{message}"
    );
}

/// A service that is refused keeps what served, but for a revision that stands in and cannot: nobody waits for that one until it can again.
#[test]
fn what_cannot_stand_in_is_not_asked_while_the_service_is_refused() {
    let mut stage = Stage::new();
    stage.is_slow_loaded = true;
    stage.predictor(json!({"model": model("s3://b/slow")}));
    stage.predictor(json!({"model": model("s3://b/v2")}));
    stage.apply(annotate("previous".into()));
    let timeout = "serving.coracle.dev/fallback-timeout";
    stage.apply(json!({"metadata": {"annotations": {timeout: "50ms"}}}));
    let asked = || owned(Some("1"), &[("2", 100), ("1", 0)]);
    assert_eq!(planned(&stage), asked());
    let transformer = json!({"containers": [{"name": "c", "image": "i"}]});
    stage.apply(json!({"spec": {"transformer": transformer}}));
    assert_eq!(stage.ready(), "False");
    assert_eq!(
        (planned(&stage), in_force(&stage).0),
        (asked(), "True".to_owned())
    );
    let timeout = |stage: &Stage| {
        let plan = stage.plan.lock().unwrap();
        let fallback = plan.routes.values().next().unwrap().fallback.clone();
        fallback.and_then(|settings| settings.timeout)
    };
    for _ in 0..2 {
        stage.is_slow_loaded = false;
        stage.settle();
        // It is kept, and nothing is cut short for it.
        assert_eq!(planned(&stage), owned(None, &[("2", 100), ("1", 0)]));
        assert_eq!(timeout(&stage), None);
        assert!(is_planned(&stage, 1));
        let (status, reason, message) = in_force(&stage);
        assert_eq!(
            (status.as_str(), reason.as_str()),
            ("False", "RevisionNotReady")
        );
        let expected = format!(
            "annotation {REVISION}: revision iris-predictor-00001 is not ready; nothing stands in by it until it is"
        );
        assert_eq!(message, expected);
        stage.is_slow_loaded = true;
        stage.settle();
        assert_eq!(
            (planned(&stage), in_force(&stage).0),
            (asked(), "True".to_owned())
        );
        assert_eq!(timeout(&stage), Some(Duration::from_millis(50)));
    }
}

#[test]
fn with_canary_blocks_the_stable_one_is_the_blocks_other() {
    let mut stage = Stage::new();
    stage.predictor(json!({"model": model("s3://b/v1"), "canaryTrafficPercent": 20}));
    stage.apply(json!({"spec": {"canary": {"predictor": {"model": model("s3://b/v2")}}}}));
    stage.apply(annotate("stable".into()));
    assert_eq!(planned(&stage), owned(Some("1"), &[("2", 20), ("1", 80)]));
}

#[test]
fn what_is_done_where_programs_fail_is_in_the_plan() {
    let mut stage = Stage::running(programs());
    let container = json!({"name": "kserve-container", "image": "known:v1"});
    stage.predictor(json!({"containers": [container]}));
    let of = |name: &str| format!("serving.coracle.dev/{name}");
    let annotations = json!({
        of("fallback-service"): "next",
        of("fallback-revision"): "stable",
        of("fallback-timeout"): "2s",
        of("retries"): "2",
        of("breaker-failures"): "5",
        of("breaker-latency"): "1s",
        of("hedge-after"): "p95"
    });
    stage.apply(json!({"metadata": {"annotations": annotations}}));
    assert_eq!(stage.ready(), "True", "{}", stage.status("/conditions"));
    let plan = stage.plan.lock().unwrap();
    let settings = plan.routes.values().next().unwrap().fallback.clone();
    let expected = coracle_serving::FallbackSettings {
        service: Some(ServiceId {
            namespace: NAMESPACE.to_owned(),
            name: "next".to_owned(),
        }),
        revision: Some("iris-predictor-00001".to_owned()),
        timeout: Some(Duration::from_secs(2)),
        retries: 2,
        breaker_failures: Some(5),
        breaker_latency: Some(Duration::from_secs(1)),
        hedge: Some(coracle_serving::HedgeAfter::Percentile(95)),
        ..coracle_serving::FallbackSettings::default()
    };
    assert_eq!(settings, Some(expected));
}

/// An earlier version may have let them pass; one takes another one with it.
#[test]
fn every_annotation_that_is_not_in_force_is_named() {
    let mut stage = Stage::new();
    stage.predictor(json!({"model": model("s3://b/v1")}));
    let [service, timeout, retries] = ["fallback-service", "fallback-timeout", "retries"]
        .map(|name| format!("serving.coracle.dev/{name}"));
    let annotations = json!({&service: "iris", &timeout: "200ms", &retries: "2"});
    stage.apply(json!({"metadata": {"annotations": annotations}}));
    let (status, reason, message) = in_force(&stage);
    assert_eq!(
        (status.as_str(), reason.as_str()),
        ("False", "InvalidAnnotation")
    );
    for name in [&service, &timeout] {
        assert!(message.contains(&format!("annotation {name}")), "{message}");
    }
    assert!(
        message.ends_with("; the other annotations are in force"),
        "{message}"
    );
    assert!(!message.contains(&retries), "{message}");
    assert_eq!(stage.ready(), "True");
}

/// A service of which nothing has been up yet is answered for by another one, and is not ready for that.
#[test]
fn another_service_answers_until_the_first_revision_is_up() {
    let mut stage = Stage::new();
    stage.predictor(json!({"model": model("s3://b/slow")}));
    assert!(stage.plan.lock().unwrap().routes.is_empty());
    let annotations = json!({
        "serving.coracle.dev/fallback-service": "next",
        "serving.coracle.dev/fallback-timeout": "50ms"
    });
    stage.apply(json!({"metadata": {"annotations": annotations}}));
    let route = |stage: &Stage| {
        let plan = stage.plan.lock().unwrap();
        plan.routes.values().next().unwrap().clone()
    };
    let absent = route(&stage);
    assert!(absent.targets.is_empty());
    let service = absent.fallback.unwrap().service.unwrap();
    assert_eq!(service.to_string(), "ml/next");
    assert_ne!(stage.ready(), "True");
    assert_eq!(stage.traffic(), []);
    assert_eq!(stage.status("/url"), Value::Null);
    stage.is_slow_loaded = true;
    stage.settle();
    assert_eq!(planned(&stage), owned(None, &[("1", 100)]));
    assert_eq!(stage.ready(), "True");
    assert!(stage.status("/url").is_string());
    // What was up once stays: its own processes or files are waited for.
    stage.predictor(json!({"model": model("s3://b/missing")}));
    assert_eq!(planned(&stage), owned(None, &[("1", 100)]));
}
