//! Services that are stopped and started again while a new revision is on trial, or after it went back: each is as it was.

use super::*;

fn stop(stage: &mut Stage) {
    stage.apply(json!({"metadata": {"annotations": {"serving.kserve.io/stop": "true"}}}));
    assert_eq!(shares(stage), []);
}

/// Starts the service; fails if the second revision has more than `percent` of the requests at any time.
fn start(stage: &mut Stage, percent: u8) {
    stage.submit(&json!({"metadata": {"annotations": {"serving.kserve.io/stop": null}}}));
    settle_below(stage, "00002", percent);
}

fn split(percent: u8) -> Vec<(String, u8)> {
    vec![
        ("iris-predictor-00002".to_owned(), percent),
        ("iris-predictor-00001".to_owned(), 100 - percent),
    ]
}

fn phase(stage: &Stage, key: &Key) -> (String, String) {
    let status = status_of(&stage.store.get(key).unwrap().object);
    (status.phase, status.message)
}

#[test]
fn a_stopped_service_goes_on_where_its_rollout_was() {
    let mut stage = Stage::new();
    stage.predictor(json!({"model": model("file:///a")}));
    let key = create_rollout(&mut stage, json!([{"percent": 20, "duration": "1h"}]));
    stage.predictor(json!({"model": model("file:///b")}));
    for is_paused in [false, true] {
        stage.change(&key, |object| object["spec"]["paused"] = is_paused.into());
        stage.settle();
        let in_stage = phase(&stage, &key);
        stop(&mut stage);
        let stopped = (
            in_stage.0.clone(),
            "iris-predictor-00002 waits: the service is stopped".to_owned(),
        );
        assert_eq!(phase(&stage, &key), stopped);
        start(&mut stage, 20);
        assert_eq!(
            (phase(&stage, &key), step(&stage, &key)),
            (in_stage, Some(1))
        );
        assert_eq!(shares(&stage), split(20));
        assert_eq!(stage.rolled_out().0, "1");
    }
    command(&mut stage, &key, "abort");
    let went_back = phase(&stage, &key);
    assert_eq!(went_back.0, "RolledBack");
    stop(&mut stage);
    assert_eq!(phase(&stage, &key), went_back);
    start(&mut stage, 0);
    assert_eq!((phase(&stage, &key), shares(&stage)), (went_back, split(0)));
}

#[test]
fn of_a_stopped_service_the_new_revision_may_be_taken_back_and_nothing_else() {
    let mut stage = Stage::new();
    stage.predictor(json!({"model": model("file:///a")}));
    let key = create_rollout(&mut stage, json!([{"percent": 20, "duration": "1h"}]));
    stage.predictor(json!({"model": model("file:///b")}));
    stop(&mut stage);
    for refused in ["skip", "promote"] {
        command(&mut stage, &key, refused);
        assert_eq!(
            condition(&stage, &key, "CommandTaken"),
            of("False", "NoEffect")
        );
    }
    command(&mut stage, &key, "abort");
    assert_eq!(condition(&stage, &key, "CommandTaken"), of("True", ""));
    assert_eq!(phase(&stage, &key).0, "RolledBack");
    start(&mut stage, 0);
    assert_eq!(shares(&stage), split(0));
}

#[test]
fn a_stopped_service_keeps_the_steps_of_its_annotation_and_its_own_split() {
    for by_hand in [false, true] {
        let mut stage = Stage::new();
        stage.predictor(json!({"model": model("file:///a")}));
        if by_hand {
            stage.predictor(json!({"canaryTrafficPercent": 20, "model": model("file:///b")}));
        } else {
            stage.apply(json!({"metadata": {"annotations": {STEPPED: "20% for 1h"}}}));
            let key = Key::new(&coracle_api::kind::ROLLOUT, NAMESPACE, SERVICE);
            need_no_requests(&mut stage, &key);
            stage.predictor(json!({"model": model("file:///b")}));
        }
        assert_eq!(shares(&stage), split(20));
        stop(&mut stage);
        start(&mut stage, 20);
        assert_eq!(shares(&stage), split(20));
    }
}

#[test]
fn an_event_says_that_it_is_stopped() {
    let mut stage = Stage::new();
    stage.predictor(json!({"model": model("file:///a")}));
    stop(&mut stage);
    let (events, _) = stage.store.list(&EVENT, Some(NAMESPACE));
    let mut told = events
        .iter()
        .filter(|event| event.object["reason"] == "InferenceServiceNotReady");
    assert_eq!(
        told.next().unwrap().object["message"],
        "InferenceService [iris] is no longer Ready because of: Stopped"
    );
}

/// Nobody looks for a failure where there is none.
#[test]
fn what_is_stopped_before_it_was_ready_has_not_failed() {
    let mut stage = Stage::new();
    stage.submit(&json!({
        "metadata": {"annotations": {"serving.kserve.io/stop": "true"}},
        "spec": {"predictor": {"model": model("file:///a")}}
    }));
    stage.settle();
    let (events, _) = stage.store.list(&EVENT, Some(NAMESPACE));
    let told = events.iter().map(|event| {
        let text = |field: &str| event.object[field].as_str().unwrap().to_owned();
        (text("reason"), text("message"))
    });
    let expected = "InferenceService [iris] is not Ready because of: Stopped";
    assert_eq!(
        told.collect::<Vec<_>>(),
        [("InferenceServiceNotReady".to_owned(), expected.to_owned())]
    );
}
