//! Rollouts that something holds: a spec that cannot be, or people.

use super::*;

/// Writes a spec that cannot be, or mends it.
fn set_ratio(stage: &mut Stage, key: &Key, ratio: f64) {
    stage.change(key, |object| {
        object["spec"]["analysis"]["ratioTolerated"] = json!(ratio);
    });
    stage.settle();
}

fn status(stage: &Stage, key: &Key) -> RolloutStatus {
    status_of(&stage.store.get(key).unwrap().object)
}

#[test]
fn a_stage_does_not_last_while_its_spec_cannot_be() {
    let mut stage = Stage::new();
    stage.predictor(json!({"model": model("file:///a")}));
    let key = create_rollout(&mut stage, json!([{"percent": 20, "duration": "1h"}]));
    stage.predictor(json!({"model": model("file:///b")}));
    assert_eq!(step(&stage, &key), Some(1));
    set_ratio(&mut stage, &key, 5_000.0);
    stage.pass(Duration::from_secs(7_200));
    stage.settle();
    set_ratio(&mut stage, &key, 1.5);
    let in_stage = status(&stage, &key);
    assert_eq!(
        (in_stage.phase.as_str(), in_stage.step),
        ("Progressing", Some(1))
    );
    assert!(
        in_stage.message.contains("lasts another 1h"),
        "{}",
        in_stage.message
    );
}

#[test]
fn what_is_over_says_how_it_went_though_its_spec_cannot_be() {
    for over in ["abort", "promote"] {
        let mut stage = Stage::new();
        stage.predictor(json!({"model": model("file:///a")}));
        let key = create_rollout(&mut stage, json!([{"percent": 20, "duration": "1h"}]));
        stage.predictor(json!({"model": model("file:///b")}));
        command(&mut stage, &key, over);
        let went = status(&stage, &key);
        assert!(went.message.contains("by hand"), "{}", went.message);
        for ratio in [5_000.0, 1.5] {
            set_ratio(&mut stage, &key, ratio);
            let accepted = match ratio > 1_000.0 {
                true => of("False", "InvalidSpec"),
                false => of("True", ""),
            };
            assert_eq!(condition(&stage, &key, "Accepted"), accepted);
            let now = status(&stage, &key);
            assert_eq!(
                (now.phase, now.message),
                (went.phase.clone(), went.message.clone())
            );
        }
    }
}

/// Nobody takes a command for done that was neither done nor refused.
#[test]
fn commands_of_a_rollout_whose_spec_cannot_be_are_refused_and_those_before_are_known() {
    let mut stage = Stage::new();
    stage.predictor(json!({"model": model("file:///a")}));
    let key = create_rollout(&mut stage, json!([{"percent": 20, "duration": "1h"}]));
    stage.predictor(json!({"model": model("file:///b")}));
    command(&mut stage, &key, "abort");
    command(&mut stage, &key, "retry");
    set_ratio(&mut stage, &key, 5_000.0);
    assert_eq!(condition(&stage, &key, "CommandTaken"), of("True", ""));
    command(&mut stage, &key, "promote");
    for ratio in [5_000.0, 1.5] {
        set_ratio(&mut stage, &key, ratio);
        assert_eq!(
            condition(&stage, &key, "CommandTaken"),
            of("False", "NoEffect")
        );
        let conditions = status(&stage, &key).conditions;
        let mut conditions = conditions.into_iter();
        let taken = conditions.find(|one| one.condition_type == COMMAND_TAKEN);
        let why = taken.unwrap().message.unwrap_or_default();
        assert!(
            why.starts_with("spec cannot be: spec.analysis.ratio"),
            "{why}"
        );
    }
    assert_eq!(status(&stage, &key).phase, "Progressing");
}

/// Returns how often the status is written in so many seconds.
fn n_writes(stage: &mut Stage, key: &Key, n_seconds: u64) -> usize {
    let mut n_writes = 0;
    for _ in 0..n_seconds {
        let before = stage.store.get(key).unwrap().version;
        stage.pass(Duration::from_secs(1));
        stage.settle();
        n_writes += usize::from(stage.store.get(key).unwrap().version != before);
    }
    n_writes
}

#[test]
fn that_time_passes_is_written_seldom_and_of_a_paused_rollout_never() {
    let mut stage = Stage::new();
    stage.predictor(json!({"model": model("file:///a")}));
    let key = create_rollout(&mut stage, json!([{"percent": 20, "duration": "1s"}]));
    let change = |stage: &mut Stage, is_paused: bool| {
        stage.change(&key, |object| {
            object["spec"]["analysis"] = json!({"requestsMin": 10, "latencyMax": "1s"});
            object["spec"]["paused"] = is_paused.into();
        });
        stage.settle();
    };
    change(&mut stage, false);
    stage.predictor(json!({"model": model("file:///b")}));
    n_writes(&mut stage, &key, 5);
    let message = status(&stage, &key).message;
    assert!(message.contains("0 of the 10 requests"), "{message}");
    assert_eq!(n_writes(&mut stage, &key, 120), 4);
    let lasted_ms = status(&stage, &key).progress.unwrap().lasted_ms.unwrap();
    assert!((95_000..=125_000).contains(&lasted_ms), "{lasted_ms}");
    change(&mut stage, true);
    assert_eq!(n_writes(&mut stage, &key, 120), 0);
    // What it missed is written with what comes next.
    change(&mut stage, false);
    let lasted_ms = status(&stage, &key).progress.unwrap().lasted_ms;
    assert_eq!(lasted_ms, Some(245_000));
}

/// A status that counts seconds down is written for each, and whoever watches is woken by it.
#[test]
fn that_a_stage_lasts_is_written_seldom() {
    let mut stage = Stage::new();
    stage.predictor(json!({"model": model("file:///a")}));
    let key = create_rollout(&mut stage, json!([{"percent": 20, "duration": "1h"}]));
    stage.predictor(json!({"model": model("file:///b")}));
    let message = |stage: &Stage| status(stage, &key).message;
    let told = |left: &str| format!("iris-predictor-00002 at 20 %: the stage lasts another {left}");
    assert_eq!(message(&stage), told("1h"));
    // The minutes, and how long it has lasted every half of one.
    assert_eq!(n_writes(&mut stage, &key, 240), 8);
    assert_eq!(message(&stage), told("56m"));
}
