//! Rollouts that something holds: a spec that cannot be, or people.

use super::*;

/// Writes a spec that cannot be, or mends it.
fn set_ratio(stage: &mut Stage, key: &Key, ratio: f64) {
    let stored = stage.store.get(key).unwrap();
    let mut object = stored.object.clone();
    object["spec"]["analysis"]["ratioTolerated"] = json!(ratio);
    stage.store.update(key, stored.version, object).unwrap();
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
