//! Services whose spec is refused: what served before goes on, after a restart, too, in which not all that served can be loaded.

use super::*;

fn refuse(stage: &mut Stage) {
    let unknown = json!([{"name": "c", "image": "unknown"}]);
    stage.predictor(json!({"model": null, "containers": unknown}));
    assert_eq!(stage.ready(), "False");
}

/// A service of two revisions, of which the second has so many percent, that is refused; then both sides begin anew without the files of the first.
fn restarted(percent: u8) -> Stage {
    let mut stage = Stage::new();
    stage.is_slow_loaded = true;
    stage.predictor(json!({"model": model("file:///slow"), "canaryTrafficPercent": percent}));
    stage.predictor(json!({"model": model("file:///b")}));
    refuse(&mut stage);
    assert_eq!(taking(&stage), shares(percent));
    let mut stage = stage.restart();
    stage.is_slow_failed = true;
    stage.settle();
    stage
}

/// What both revisions have when both can be loaded.
fn shares(percent: u8) -> [(String, u8); 2] {
    [
        ("file:///b".to_owned(), percent),
        ("file:///slow".to_owned(), 100 - percent),
    ]
}

#[test]
fn what_had_no_requests_gets_none_where_what_served_cannot_be_loaded() {
    let mut stage = restarted(0);
    let absence = |stage: &Stage| {
        let plan = stage.plan.lock().unwrap();
        let route = plan.routes.values().next()?;
        route.absence.clone()
    };
    assert_eq!(taking(&stage), []);
    assert_eq!(
        absence(&stage).map(|absence| absence.why).as_deref(),
        Some(
            "no revision of the service is loaded yet: iris-predictor-00001 failed: nothing at file:///slow"
        )
    );
    stage.is_slow_failed = false;
    stage.settle();
    assert_eq!(taking(&stage), shares(0));
    assert_eq!(absence(&stage), None);
}

#[test]
fn what_could_not_be_loaded_has_its_share_again_once_it_can() {
    let mut stage = restarted(20);
    assert_eq!(taking(&stage), [("file:///b".to_owned(), 100)]);
    assert_eq!(stage.planned(), 2);
    stage.is_slow_failed = false;
    stage.settle();
    assert_eq!(taking(&stage), shares(20));
    assert_eq!(stage.traffic(), split(&[(2, 20, ""), (1, 80, "prev")]));
}

/// What is in force when a spec comes to be refused stays, whatever the status told before.
#[test]
fn a_switch_that_the_status_has_not_shown_yet_is_not_undone() {
    let mut stage = Stage::new();
    stage.predictor(json!({"model": model("file:///a")}));
    stage.submit(&json!({"spec": {"predictor": {"model": model("file:///b")}}}));
    let is_switched = |stage: &Stage| {
        let observed = stage.observed.get();
        let mut routes = observed.routes.values();
        routes.any(|route| route.targets[0].revision.ends_with("00002"))
    };
    while !is_switched(&stage) {
        stage.round();
    }
    assert_eq!(stage.traffic(), split(&[(1, 100, "")]));
    refuse(&mut stage);
    let after = [("file:///b".to_owned(), 100)];
    assert_eq!(taking(&stage), after);
    assert_eq!(stage.traffic(), split(&[(2, 100, "")]));
    let mut stage = stage.restart();
    stage.settle();
    assert_eq!(taking(&stage), after);
}

#[test]
fn what_served_before_a_restart_serves_after_it_though_the_spec_is_refused() {
    let cannot_be = || json!({"model": null, "containers": [{"name": "c", "image": "unknown"}]});
    let mut stage = Stage::new();
    stage.predictor(json!({"model": model("file:///a")}));
    stage.predictor(cannot_be());
    let before = (taking(&stage), stage.why_not_ready());
    assert_eq!(before.0, [("file:///a".to_owned(), 100)]);
    let mut stage = stage.restart();
    assert_eq!(taking(&stage), []);
    stage.settle();
    assert_eq!((taking(&stage), stage.why_not_ready()), before);
    assert!(stage.observed.get().routes.len() == 1);
    // Put right, it is served.
    stage.predictor(json!({"containers": null, "model": model("file:///c")}));
    assert_eq!(taking(&stage), [("file:///c".to_owned(), 100)]);
    // A split is what it was; whose files are gone by then leaves its share.
    for (uri, expected) in [
        ("file:///d", vec![("file:///d", 20), ("file:///c", 80)]),
        ("file:///slow", vec![("file:///c", 100)]),
    ] {
        (stage.is_slow_loaded, stage.is_slow_failed) = (true, false);
        stage.predictor(json!({"model": model(uri), "canaryTrafficPercent": 20}));
        stage.predictor(cannot_be());
        assert_eq!(
            taking(&stage),
            [(uri.to_owned(), 20), ("file:///c".to_owned(), 80)]
        );
        stage = stage.restart();
        stage.is_slow_failed = true;
        stage.settle();
        let taken = taking(&stage);
        let taken: Vec<(&str, u8)> = taken
            .iter()
            .map(|(uri, share)| (uri.as_str(), *share))
            .collect();
        assert_eq!(taken, expected);
        stage.predictor(json!({"containers": null, "model": model("file:///c")}));
    }
    // A service that served nothing serves nothing.
    let mut stage = Stage::new();
    stage.predictor(cannot_be());
    let mut stage = stage.restart();
    stage.settle();
    assert_eq!(stage.planned(), 0);
}

#[test]
fn what_cannot_run_says_so_and_what_serves_goes_on() {
    let mut stage = Stage::running(programs());
    stage.predictor(json!({"model": model("s3://b/v1")}));
    let unknown = json!([{"name": "c", "image": "unknown"}]);
    stage.predictor(json!({"model": null, "containers": unknown}));
    let (reason, message) = stage.why_not_ready();
    assert_eq!(reason, "ImageWithoutCommand");
    assert!(
        message.contains("--image 'unknown=PROGRAM ARGUMENTS'"),
        "{message}"
    );
    assert_eq!(stage.sources()[0].uri, "s3://b/v1");
    // Where programs may not run, even a command is none.
    let mut stage = Stage::new();
    stage.predictor(json!({"containers": [{"name": "c", "command": ["x"]}]}));
    let (reason, message) = stage.why_not_ready();
    assert_eq!(reason, "ProgramsNotAllowed");
    assert!(message.contains("--run-programs"), "{message}");
    assert_eq!(stage.planned(), 0);
}

/// What is seen is what the status tells, at once and from then on.
#[test]
fn what_served_before_a_stop_serves_after_it_though_the_spec_is_refused_by_then() {
    let stop =
        |value: Value| json!({"metadata": {"annotations": {"serving.kserve.io/stop": value}}});
    let mut stage = Stage::new();
    stage.predictor(json!({"model": model("file:///a")}));
    stage.apply(stop("true".into()));
    stage.apply(json!({"spec": {"transformer": {"containers": [{"name": "t"}]}}}));
    assert_eq!(stage.planned(), 0);
    stage.submit(&stop(Value::Null));
    let expected = [("file:///a".to_owned(), 100)];
    stage.settle_with(|stage| {
        let is_told = stage.traffic() == split(&[(1, 100, "")]);
        assert!(is_told, "{:?}", stage.traffic());
        assert_eq!(taking(stage), expected);
    });
    assert_eq!(stage.ready(), "False");
    assert_eq!(stage.observed.get().routes.len(), 1);
    let mut stage = stage.restart();
    stage.settle();
    assert_eq!(taking(&stage), expected);
    assert_eq!(stage.traffic(), split(&[(1, 100, "")]));
    let mended = json!({"spec": {"transformer": null, "predictor": {"model": model("file:///b")}}});
    stage.apply(mended);
    assert_eq!(taking(&stage), [("file:///b".to_owned(), 100)]);
    assert_eq!(stage.ready(), "True");
}

#[test]
fn what_is_left_of_a_split_has_all_requests() {
    let mut stage = Stage::new();
    stage.predictor(json!({"model": model("file:///a"), "canaryTrafficPercent": 20}));
    stage.predictor(json!({"model": model("file:///b")}));
    refuse(&mut stage);
    assert_eq!(stage.traffic(), split(&[(2, 20, ""), (1, 80, "prev")]));
    let first = Key::new(&REVISION, NAMESPACE, "iris-predictor-00001");
    stage.store.delete_whatever(&first).unwrap();
    let mut stage = stage.restart();
    stage.settle();
    assert_eq!(taking(&stage), [("file:///b".to_owned(), 100)]);
    assert_eq!(stage.traffic(), split(&[(2, 100, "")]));
}
