//! Services whose spec is refused, after a restart in which not all that served can be loaded.

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
