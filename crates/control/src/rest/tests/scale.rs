//! `kubectl scale` of SeldonDeployments.

use serde_json::{Value, json};

use super::fixture;

const SDEP: &str = "/apis/machinelearning.seldon.io/v1/namespaces/ml/seldondeployments";

fn predictor(name: &str, change: Value) -> Value {
    let mut predictor = json!({
        "name": name,
        "graph": {"name": "classifier", "implementation": "SKLEARN_SERVER", "modelUri": "file:///a"}
    });
    coracle_patch::merge_patch(&mut predictor, &change);
    predictor
}

#[test]
fn a_seldon_deployment_is_scaled_by_the_replicas_of_its_spec() {
    let fixture = fixture();
    let own = json!({"replicas": 3, "traffic": 50});
    let predictors = [predictor("a", json!({"traffic": 50})), predictor("b", own)];
    let (status, made) = fixture.post(
        SDEP,
        &json!({"metadata": {"name": "iris"}, "spec": {"predictors": predictors}}),
    );
    assert_eq!(status, 201, "{made}");
    let url = format!("{SDEP}/iris/scale");
    let (status, scale) = fixture.get(&url);
    assert_eq!(
        (status, &scale["kind"], &scale["spec"]),
        (200, &json!("Scale"), &json!({"replicas": 1}))
    );
    assert_eq!(scale["status"]["selector"], "seldon-deployment-id=iris");
    let (status, scaled) = fixture.merge(&url, &json!({"spec": {"replicas": 2}}));
    assert_eq!((status, &scaled["spec"]["replicas"]), (200, &json!(2)));
    let (_, deployment) = fixture.get(&format!("{SDEP}/iris"));
    assert_eq!(deployment["spec"]["replicas"], 2);
    assert_eq!(deployment["spec"]["predictors"][1]["replicas"], 3);
    // What a predictor says of itself goes before, which whoever scales is told.
    let merge = "application/merge-patch+json";
    let four = json!({"spec": {"replicas": 4}});
    let (status, _, warnings) = fixture.send_warned("PATCH", &url, merge, &four);
    let expected = "predictors with a number of replicas of their own keep it: b";
    assert_eq!((status, warnings), (200, vec![expected.to_owned()]));
    let (status, failure) = fixture.merge(&url, &json!({"spec": {"replicas": 501}}));
    let message = failure["message"].as_str().unwrap();
    assert!(
        status == 403 && message.contains("501 replicas of a; at most 500 are allowed"),
        "{message}"
    );
}

#[test]
fn a_scale_that_would_change_nothing_is_refused() {
    let fixture = fixture();
    let components = json!({"componentSpecs": [{"replicas": 2}]});
    let spec = json!({"predictors": [predictor("a", components)]});
    let (status, made) = fixture.post(SDEP, &json!({"metadata": {"name": "iris"}, "spec": spec}));
    assert_eq!(status, 201, "{made}");
    let url = format!("{SDEP}/iris/scale");
    let (status, failure) = fixture.merge(&url, &json!({"spec": {"replicas": 4}}));
    let message = failure["message"].as_str().unwrap();
    assert!(
        status == 422 && message.contains("each predictor has a number of replicas of its own, which goes before spec.replicas (a)"),
        "{message}"
    );
}
