//! Stages that are held to outcomes, predictions and answers of Prometheus.

use super::*;

/// A spec that asks Prometheus this.
fn with_question(query: &str) -> RolloutSpec {
    serde_json::from_value(json!({
        "inferenceService": "iris",
        "steps": [{"percent": 10, "duration": "5s"}, {"percent": 50, "duration": "5s"}],
        "analysis": {
            "requestsMin": 40,
            "latencyMax": "1s",
            "predictions": {},
            "metrics": [
                {"name": "converted", "type": "Conversion", "margin": 0.05},
                {"name": "orders", "type": "Prometheus", "address": "http://p", "query": query, "bound": 5, "looks": 2},
            ],
        }
    }))
    .unwrap()
}

/// A rollout that looks at an outcome, at predictions and at Prometheus.
fn with_metrics() -> Play {
    let mut play = Play {
        wanted: spec::read(&with_question("orders")).unwrap(),
        ..Play::new()
    };
    play.pass(1, (0, 0));
    play.newest = "v2";
    play
}

/// What the serving process tells of a stage with 400 units of either revision, of which so many percent of the canary's converted, and a fifth of the others.
fn told(since_ms: u64, percent: f64, log_evidence: f64) -> StageSummary {
    let moments = |rate: f64| (400, rate, 400.0 * rate * (1.0 - rate));
    StageSummary {
        stage: coracle_serving::experiment::PlannedStage {
            since_ms,
            predictions: true,
            ..Default::default()
        },
        outcomes: vec![(moments(0.2), moments(percent / 100.0))],
        drifts: vec![DriftSummary {
            name: "predict".to_owned(),
            stable: 400,
            canary: 400,
            stability_index: if log_evidence > 0.0 { 1.0 } else { 0.01 },
            distance: 0.0,
            log_evidence,
        }],
        units: None,
    }
}

fn orders(canary: f64) -> (usize, QueryLook) {
    let look = QueryLook::Numbers {
        stable: None,
        canary,
    };
    (0, look)
}

#[test]
fn a_stage_waits_for_its_metrics_and_goes_on_with_them() {
    let mut play = with_metrics();
    assert_eq!(play.pass(10, (0, 0)), "Progressing");
    let message = |play: &Play| play.course.status.message.clone();
    assert!(
        message(&play).contains("too few outcomes: converted"),
        "{}",
        message(&play)
    );
    assert_eq!(play.events, ["RolloutStarted", "RolloutWaits"]);
    let since_ms = play.course.stage_since_ms().unwrap();
    // What is told of another stage is no answer.
    play.stage = Some(told(since_ms - 1, 20.0, 0.0));
    play.pass(1, (0, 0));
    assert!(
        message(&play).contains("too few outcomes"),
        "{}",
        message(&play)
    );
    play.stage = Some(told(since_ms, 20.0, 0.0));
    play.pass(1, (0, 0));
    assert!(
        message(&play).contains("not known yet: orders"),
        "{}",
        message(&play)
    );
    play.looks = vec![orders(6.0)];
    play.pass(1, (0, 0));
    let failed = QueryLook::None("no answer within 5s".to_owned());
    play.looks = vec![orders(6.0), (0, failed)];
    play.pass(1, (0, 0));
    assert!(
        message(&play).ends_with("no answer within 5s"),
        "{}",
        message(&play)
    );
    // The control process is started anew; what was answered is remembered.
    play.course = Course::new(play.course.status.clone());
    play.looks = vec![orders(6.0)];
    play.pass(1, (0, 0));
    assert_eq!(play.course.status.step, Some(2), "{}", message(&play));
    // Each stage is judged by what comes of it.
    assert_ne!(play.course.stage_since_ms(), Some(since_ms));
    play.pass(10, (0, 0));
    assert!(
        message(&play).contains("too few outcomes"),
        "{}",
        message(&play)
    );
}

#[test]
fn other_metrics_begin_the_stage_anew() {
    for is_restarted in [false, true] {
        let mut play = with_metrics();
        play.pass(10, (0, 0));
        let since_ms = play.course.stage_since_ms().unwrap();
        play.stage = Some(told(since_ms, 20.0, 0.0));
        // All is well but for one look that is still to come; then another question takes its place.
        play.looks = vec![orders(6.0)];
        play.pass(1, (0, 0));
        assert_eq!(play.course.status.step, Some(1));
        if is_restarted {
            play.course = Course::new(play.course.status.clone());
        }
        play.wanted = spec::read(&with_question("refunds")).unwrap();
        play.looks = vec![orders(6.0)];
        play.pass(1, (0, 0));
        let message = &play.course.status.message;
        assert_eq!(play.course.status.step, Some(1), "{message}");
        let anew = play.course.stage_since_ms().unwrap();
        assert!(anew > since_ms, "{message}");
        // What it was told before counts no more.
        play.pass(10, (0, 0));
        let message = &play.course.status.message;
        assert!(message.contains("too few outcomes: converted"), "{message}");
        assert_eq!(play.course.stage_since_ms(), Some(anew));
    }
}

#[test]
fn what_is_worse_in_a_metric_goes_back_and_says_so() {
    type Case = (StageSummary, Vec<(usize, QueryLook)>, &'static str);
    let of = |case: &dyn Fn(u64) -> Case| {
        let mut play = with_metrics();
        play.pass(1, (0, 0));
        let (stage, looks, expected) = case(play.course.stage_since_ms().unwrap());
        (play.stage, play.looks) = (Some(stage), looks);
        play.pass(1, (0, 0));
        let status = &play.course.status;
        assert_eq!(status.phase, "RolledBack", "{}", status.message);
        assert!(status.message.contains(expected), "{}", status.message);
        assert_eq!(play.events.last(), Some(&"RolloutRolledBack"));
        assert!(play.course.book.is_none());
    };
    of(&|since_ms| {
        (
            told(since_ms, 2.0, 0.0),
            vec![],
            "converted 0.0200 of the canary, 0.2000",
        )
    });
    of(&|since_ms| {
        (
            told(since_ms, 20.0, 9.0),
            vec![],
            "predictions of predict: stability index 1.000",
        )
    });
    of(&|since_ms| {
        let looks = vec![orders(4.0), orders(4.5)];
        (
            told(since_ms, 20.0, 0.0),
            looks,
            "orders 4.5 of the canary, 5 allowed",
        )
    });
}

#[test]
fn the_book_of_a_stage_is_planned_while_there_is_one() {
    let rollout = json!({"metadata": {"name": "careful", "uid": "r"}});
    let mut play = with_metrics();
    let planned = |play: &Play| {
        let seen = play.seen();
        let book = play.course.planned_book(&seen, &rollout);
        let service = ServiceId {
            namespace: "ml".to_owned(),
            name: "iris".to_owned(),
        };
        (book, play.course.asking(&seen, &service))
    };
    assert_eq!(planned(&play), (None, Vec::new()));
    play.pass(1, (0, 0));
    let (book, asking) = planned(&play);
    let book = book.unwrap();
    assert_eq!(
        (book.name.as_str(), book.uid.as_str()),
        ("rollout:careful", "r/v2")
    );
    let since_ms = play.course.stage_since_ms().unwrap();
    assert_eq!(book.stage.map(|stage| stage.since_ms), Some(since_ms));
    let revisions: Vec<&str> = book.revisions().collect();
    assert_eq!(revisions, ["v1", "v2"]);
    assert_eq!(
        (asking[0].0.since_ms, asking[0].1.canary.as_str()),
        (since_ms, "orders")
    );
}

#[test]
fn programs_whose_predictions_are_not_known_get_no_requests() {
    let mut play = with_metrics();
    play.has_program = true;
    assert_eq!(play.pass(60, (0, 0)), "Progressing");
    assert_eq!(play.percent(), Some(0));
    let message = &play.course.status.message;
    assert!(
        message.contains("predictors that run as programs"),
        "{message}"
    );
    // Without predictions they are as others: what comes of their requests is known.
    let mut play = with_metrics();
    play.has_program = true;
    play.wanted.rules.stability_index_max = None;
    play.pass(2, (0, 0));
    assert_eq!(play.percent(), Some(10));
    assert!(play.course.stage_since_ms().is_some());
    let mut play = Play::new();
    play.has_program = true;
    play.pass(1, (0, 0));
    play.newest = "v2";
    play.pass(2, (0, 0));
    assert_eq!(play.percent(), Some(10));
}
