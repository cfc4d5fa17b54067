//! Commands of Rollouts and Experiments.

use super::*;

#[test]
fn a_rollout_takes_one_command_at_a_time_and_none_without_effect() {
    let fixture = fixture();
    let rollouts = "/apis/serving.coracle.dev/v1alpha1/namespaces/ml/rollouts";
    let (status, _) = fixture.post(
        rollouts,
        &json!({"metadata": {"name": "careful"}, "spec": {"inferenceService": "iris"}}),
    );
    assert_eq!(status, 201);
    let target = format!("{rollouts}/careful");
    let command = |command: Value| {
        let patch = json!({"metadata": {"annotations": {"serving.coracle.dev/rollout": command}}});
        let (status, answer) = fixture.merge(&target, &patch);
        let message = answer["message"].as_str().unwrap_or_default();
        (status, message.to_owned())
    };
    let (status, message) = command("skip".into());
    assert!(
        status == 403 && message.ends_with("denied the request: skip: nothing is on trial"),
        "{message}"
    );
    let progressing = json!({"status": {"phase": "Progressing", "message": "", "step": 1}});
    fixture.merge(&format!("{target}/status"), &progressing);
    assert_eq!(command("skip".into()).0, 200);
    for another in ["skip", "abort"] {
        let (status, message) = command(another.into());
        assert!(
            status == 403 && message.contains("'skip', is not done yet"),
            "{message}"
        );
    }
    // Other changes go through, and so does taking it back.
    assert_eq!(
        fixture.merge(&target, &json!({"spec": {"paused": true}})).0,
        200
    );
    assert_eq!(command(Value::Null).0, 200);
    assert_eq!(command("abort".into()).0, 200);
}

/// Commands of several people at once: the one before is done, or the next one is refused; none is lost.
#[test]
fn an_experiment_takes_one_command_at_a_time() {
    let fixture = fixture();
    let experiments = "/apis/serving.coracle.dev/v1alpha1/namespaces/ml/experiments";
    let spec = json!({
        "inferenceService": "iris", "unit": {"header": "x-user"},
        "variants": [{"name": "control"}, {"name": "treatment", "inferenceService": "next"}],
        "metrics": [{"name": "converted", "type": "Conversion", "expectedDifference": 0.1}]
    });
    let (status, made) = fixture.post(
        experiments,
        &json!({"metadata": {"name": "ab"}, "spec": spec}),
    );
    assert_eq!(status, 201, "{made}");
    let target = format!("{experiments}/ab");
    let command = |command: Value| {
        let annotations = json!({"serving.coracle.dev/experiment": command});
        let (status, answer) =
            fixture.merge(&target, &json!({"metadata": {"annotations": annotations}}));
        let message = answer["message"].as_str().unwrap_or_default();
        (status, message.to_owned())
    };
    assert_eq!(command("promote:treatment".into()).0, 200);
    for another in ["promote:treatment", "stop", "resume"] {
        let (status, message) = command(another.into());
        assert!(
            status == 403 && message.contains("'promote:treatment', is not done yet"),
            "{another}: {status} {message}"
        );
    }
    // Other changes go through, and so does taking it back.
    let change = json!({"spec": {"analysis": {"unitsMin": 200}}});
    assert_eq!(fixture.merge(&target, &change).0, 200);
    assert_eq!(command(Value::Null).0, 200);
    assert_eq!(command("stop".into()).0, 200);
}
