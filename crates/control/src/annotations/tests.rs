//! Which annotations of our own are refused, where, and that the docs name them all.

use std::collections::BTreeSet;

use serde_json::json;

use super::*;

fn of(kind: &Kind, object: Value) -> Result<(), String> {
    check(kind, &object)
}

fn service(annotations: Value) -> Result<(), String> {
    of(
        &kind::INFERENCE_SERVICE,
        json!({"metadata": {"annotations": annotations}}),
    )
}

#[test]
fn what_is_misspelt_is_refused_with_the_name_that_is_meant() {
    for (name, meant) in [
        ("retrys", "retries"),
        ("retry", "retries"),
        ("fallback-timout", "fallback-timeout"),
        ("Fallback_Service", "fallback-service"),
        ("beraker-failures", "breaker-failures"),
        ("keepwarm", "keep-warm"),
        ("shadow-percentage", "shadow-percent"),
        ("rollout-step", "rollout-steps"),
    ] {
        let error = service(json!({format!("serving.coracle.dev/{name}"): "1"})).unwrap_err();
        let expected = format!(
            "annotation serving.coracle.dev/{name} is not known; serving.coracle.dev/{meant} is"
        );
        assert_eq!(error, expected);
    }
    let error = service(json!({"serving.coracle.dev/colour": "red"})).unwrap_err();
    assert!(
        error.starts_with("annotation serving.coracle.dev/colour is not known; known are serving.coracle.dev/fallback, "),
        "{error}"
    );
    let long = format!("serving.coracle.dev/{}", "r".repeat(10_000));
    assert!(service(json!({long: ""})).is_err());
}

fn retries() -> Value {
    json!({RETRIES: "1"})
}

fn warm() -> Value {
    json!({"serving.coracle.dev/keep-warm": "08:00-09:00"})
}

#[test]
fn what_nobody_reads_where_it_is_is_refused_with_its_place() {
    let seldon = |change: Value| json!({"spec": {"predictors": [{"graph": {}}, change]}});
    for (kind, object, words) in [
        (
            kind::INFERENCE_SERVICE,
            json!({"metadata": {"annotations": {ROLLOUT: "skip"}}}),
            "annotation serving.coracle.dev/rollout says nothing here; it is read in the metadata of a Rollout",
        ),
        (
            kind::INFERENCE_SERVICE,
            json!({"spec": {"predictor": {"annotations": retries()}}}),
            "spec.predictor.annotations: annotation serving.coracle.dev/retries says nothing here; it is read in the metadata of an InferenceService, and in the metadata of a SeldonDeployment",
        ),
        (
            kind::INFERENCE_SERVICE,
            json!({"spec": {"canary": [{}, {"predictor": {"annotations": retries()}}]}}),
            "spec.canary[1].predictor.annotations: ",
        ),
        (
            kind::INFERENCE_SERVICE,
            json!({"spec": {"transformer": {"annotations": warm()}}}),
            "spec.transformer.annotations: annotation serving.coracle.dev/keep-warm says nothing here",
        ),
        (
            kind::SELDON_DEPLOYMENT,
            json!({"metadata": {"annotations": {"serving.coracle.dev/sticky": "header=x-user"}}}),
            "says nothing here",
        ),
        (
            kind::SELDON_DEPLOYMENT,
            json!({"spec": {"annotations": {"serving.coracle.dev/bulkheads": "3"}}}),
            "spec.annotations: annotation serving.coracle.dev/bulkheads is not known; serving.coracle.dev/bulkhead is",
        ),
        (
            kind::SELDON_DEPLOYMENT,
            seldon(json!({"annotations": warm()})),
            "spec.predictors[1].annotations: ",
        ),
        (
            kind::SELDON_DEPLOYMENT,
            seldon(json!({"componentSpecs": [{"metadata": {"annotations": retries()}}]})),
            "spec.predictors[1].componentSpecs[0].metadata.annotations: ",
        ),
        (
            kind::ROLLOUT,
            json!({"metadata": {"annotations": {EXPERIMENT: "stop"}}}),
            "it is read in the metadata of an Experiment",
        ),
        (
            kind::SELDON_EXPERIMENT,
            json!({"metadata": {"annotations": {"serving.coracle.dev/x": "stop"}}}),
            "is not known; none is read here",
        ),
        (
            kind::SERVING_RUNTIME,
            json!({"metadata": {"annotations": {"serving.coracle.dev/engin": "in-process"}}}),
            "serving.coracle.dev/engine is",
        ),
    ] {
        let error = of(&kind, object.clone()).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn each_is_taken_where_it_is_read() {
    for (kind, object) in [
        (
            kind::INFERENCE_SERVICE,
            json!({"metadata": {"annotations": {"note": "a", "other.coracle.dev/retrys": "", "seldon.io/x": "", GIVEN_BY_SELDON: RETRIES, RETRIES: "1"}}}),
        ),
        (
            kind::INFERENCE_SERVICE,
            json!({"metadata": {"annotations": warm()}, "spec": {"predictor": {"annotations": warm()}, "canary": {"predictor": {"annotations": warm()}}}}),
        ),
        (
            kind::SELDON_DEPLOYMENT,
            json!({"metadata": {"annotations": retries()}, "spec": {"annotations": retries(), "predictors": [{"annotations": retries()}]}}),
        ),
        (
            kind::ROLLOUT,
            json!({"metadata": {"annotations": {ROLLOUT: "skip"}}}),
        ),
        // Nothing of ours is read of these, and tools write to all objects alike.
        (
            kind::CONFIG_MAP,
            json!({"metadata": {"annotations": {"serving.coracle.dev/x": ""}}}),
        ),
    ] {
        assert_eq!(of(&kind, object.clone()), Ok(()), "{object}");
    }
}

#[test]
fn names_are_known_once_and_as_autoscaling_knows_its_own() {
    let names: BTreeSet<&str> = ALL.iter().map(|one| one.name).collect();
    assert_eq!(names.len(), ALL.len());
    assert!(names.iter().all(|name| name.starts_with(DOMAIN)));
    let scaling: Vec<&str> = ALL.iter().map(|one| one.name).collect();
    let scaling = scaling
        .into_iter()
        .filter(|name| name.contains("/autoscale-"));
    let scaling: Vec<&str> = scaling.collect();
    let unknown = [("serving.coracle.dev/autoscale-x", "1")];
    let known = coracle_policy::autoscale::AutoscaleSpec::try_new(
        coracle_policy::autoscale::ComponentScaling::default(),
        unknown,
    );
    let told = known.unwrap_err().to_string();
    let (_, known) = told.split_once("known are ").unwrap();
    assert_eq!(known.split(", ").collect::<Vec<_>>(), scaling);
}

/// Every name in the docs is known, and every one that people may write is in the docs.
#[test]
fn docs_name_all_that_may_be_written_and_no_others() {
    let docs = [
        include_str!("../../../../docs/autoscaling.md"),
        include_str!("../../../../docs/compatibility.md"),
        include_str!("../../../../docs/control-plane.md"),
        include_str!("../../../../docs/operations.md"),
        include_str!("../../../../docs/performance.md"),
        include_str!("../../../../docs/rollouts.md"),
        include_str!("../../../../docs/runtimes.md"),
        include_str!("../../../../docs/seldon.md"),
        include_str!("../../../../docs/serving.md"),
    ];
    let is_of_name = |byte: char| byte.is_ascii_alphanumeric() || byte == '-';
    let named = docs.iter().flat_map(|text| {
        let found = text.match_indices(DOMAIN);
        found.map(|(index, _)| {
            let rest = &text[index + DOMAIN.len()..];
            let end = rest.find(|byte| !is_of_name(byte)).unwrap_or(rest.len());
            &text[index..index + DOMAIN.len() + end]
        })
    });
    // A group's version is no annotation, and the prefix of several is none either.
    let is_name = |name: &&str| {
        *name != "serving.coracle.dev/v1alpha1" && *name != DOMAIN && !name.ends_with('-')
    };
    let named: BTreeSet<&str> = named.filter(is_name).collect();
    for name in &named {
        let is_label = *name == "serving.coracle.dev/track";
        let is_known = ALL.iter().any(|one| one.name == *name);
        assert!(is_known || is_label, "docs name {name}");
    }
    for one in ALL {
        let is_ours_to_write =
            one.places == [Place::Shown] || [GIVEN_BY_SELDON, ENGINE].contains(&one.name);
        assert!(
            is_ours_to_write || named.contains(one.name),
            "no docs name {}",
            one.name
        );
    }
}
