//! What is planned of specs, and what is refused.

use super::*;
use crate::controller::faults::text;

fn of(change: &[(&str, Value)]) -> Result<Wanted, String> {
    let mut spec = json!({
        "inferenceService": "iris",
        "unit": {"header": "X-User"},
        "variants": [
            {"name": "a", "revision": "iris-predictor-00001"},
            {"name": "b", "inferenceService": "next", "weight": 3}
        ],
        "metrics": [{"name": "converted", "type": "Conversion"}, {"name": "errors", "type": "Errors"}]
    });
    for (pointer, value) in change {
        match spec.pointer_mut(pointer) {
            Some(place) => *place = value.clone(),
            None => spec[pointer.trim_start_matches('/')] = value.clone(),
        }
    }
    let spec = serde_json::from_value(spec).unwrap();
    read(&spec, ("ml", "ab")).map_err(|causes| text(&causes))
}

#[test]
fn defaults_are_as_the_schema_says() {
    let wanted = of(&[]).unwrap();
    let planned = &wanted.planned;
    assert_eq!(planned.salt, "ml/ab");
    assert_eq!(planned.unit, UnitSource::Header("x-user".to_owned()));
    assert_eq!((planned.control, planned.share_ppm), (0, 1_000_000));
    assert_eq!(
        (planned.variants[0].weight, planned.variants[1].weight),
        (1, 3)
    );
    let target = VariantTarget::Service("next".to_owned());
    assert_eq!(planned.variants[1].target, target);
    let [converted, errors] = planned.metrics.as_slice() else {
        panic!("two metrics");
    };
    assert_eq!(
        (converted.role, converted.is_lower_better),
        (MetricRole::Primary, false)
    );
    assert_eq!(
        (errors.role, errors.is_lower_better),
        (MetricRole::Guardrail, true)
    );
    assert!((errors.margin - 0.01).abs() < 1e-12);
    assert!(!wanted.promotes && !wanted.stops_on_harm);
    let group = json!({"name": "g", "fromPercent": 12.5, "toPercent": 50});
    let slice = of(&[("/exclusionGroup", group)])
        .unwrap()
        .planned
        .slice
        .unwrap();
    assert_eq!(slice.group, "ml/g");
    assert_eq!((slice.begin_ppm, slice.end_ppm), (125_000, 500_000));
}

fn refused(cases: &[(&str, Value, &str)]) {
    for (pointer, value, expected) in cases {
        let error = of(&[(pointer, value.clone())]).unwrap_err();
        assert!(error.contains(expected), "{pointer}: {error}");
    }
}

#[test]
fn services_units_and_targets_that_make_no_sense_are_refused() {
    refused(&[
        (
            "/inferenceService",
            json!("No!"),
            "spec.inferenceService: Invalid value: \"No!\": must be the name of an InferenceService",
        ),
        (
            "/unit",
            json!({}),
            "spec.unit: Invalid value: {}: must have one of header, cookie, field, parameter and input, and one only",
        ),
        (
            "/unit",
            json!({"header": "a", "cookie": "b"}),
            "}: must have one of header, cookie, field, parameter and input, and one only",
        ),
        (
            "/unit",
            json!({"header": "a b"}),
            "spec.unit.header: Invalid value: \"a b\": must be of ASCII letters",
        ),
        (
            "/unit",
            json!({"field": "a..b"}),
            "spec.unit.field: Invalid value: \"a..b\": must be a path of fields such as user.id",
        ),
        (
            "/unit",
            json!({"input": ""}),
            "spec.unit.input: Invalid value: \"\": must have 1 to 253 bytes",
        ),
        (
            "/variants",
            json!([{"name": "a"}]),
            "spec.variants: Invalid value: [\"a\"]: must be 2 to 16 variants",
        ),
        (
            "/variants",
            json!([{"name": "a"}, {"name": "b"}]),
            "spec.variants[1]: Forbidden: it is answered by the same model as a; name",
        ),
        (
            "/variants",
            json!([{"name": "a"}, {"name": "a", "inferenceService": "c"}]),
            "spec.variants[1].name: Duplicate value: \"a\"",
        ),
        (
            "/variants",
            json!([{"name": "a"}, {"name": "b", "revision": "other-predictor-00001"}]),
            "spec.variants[1].revision: Invalid value: \"other-predictor-00001\": must be a revision of iris; they are named iris-predictor-00001 and so on",
        ),
    ]);
}

#[test]
fn shares_and_names_of_variants_that_make_no_sense_are_refused() {
    let variant = |field: &str, value: Value| json!([{"name": "a"}, {"name": "b", field: value, "revision": "iris-predictor-00002"}]);
    refused(&[
        (
            "/variants",
            variant("weight", json!(-1)),
            "spec.variants[1].weight: Invalid value: -1: must be between 0 and 1000000",
        ),
        (
            "/variants",
            variant("inferenceService", json!("x")),
            "spec.variants[1].inferenceService: Forbidden: there is a revision, too",
        ),
        (
            "/variants",
            json!([{"name": "a", "weight": 0}, {"name": "b", "weight": 0, "inferenceService": "c"}]),
            "spec.variants: Invalid value: [0,0]: must have a weight above 0 at least once",
        ),
        (
            "/control",
            json!("c"),
            "spec.control: Unsupported value: \"c\": supported values: \"a\", \"b\"",
        ),
        (
            "/overrides",
            json!({"u": "c"}),
            "spec.overrides.u: Unsupported value: \"c\": supported values: \"a\", \"b\"",
        ),
        (
            "/mode",
            json!("AX"),
            "spec.mode: Unsupported value: \"AX\": supported values: \"AB\", \"AA\"",
        ),
        (
            "/percent",
            json!(101),
            "spec.percent: Invalid value: 101.0: must be between 0 and 100",
        ),
    ]);
}

#[test]
fn allocations_metrics_and_rules_that_make_no_sense_are_refused() {
    refused(&[
        (
            "/exclusionGroup",
            json!({"name": "g", "fromPercent": 50, "toPercent": 50}),
            "spec.exclusionGroup.toPercent: Invalid value: 50.0: must be above fromPercent, 50",
        ),
        (
            "/allocation",
            json!({"strategy": "Best"}),
            "spec.allocation.strategy: Unsupported value: \"Best\": supported values: \"Fixed\", \"EpsilonGreedy\"",
        ),
        (
            "/allocation",
            json!({"strategy": "EpsilonGreedy", "epsilon": 2}),
            "spec.allocation.epsilon: Invalid value: 2.0: must be between 0 and 1",
        ),
        (
            "/metrics/0/type",
            json!("Odd"),
            "spec.metrics[0].type: Unsupported value: \"Odd\": supported values: \"Conversion\"",
        ),
        (
            "/metrics/0/type",
            json!("Sum"),
            "spec.metrics[0].expectedDifference: Required value: of a Sum",
        ),
        (
            "/metrics/0/name",
            json!("a\u{1b}[2J"),
            "spec.metrics[0].name: Invalid value: \"a\\u001b[2J\": must have no control characters",
        ),
        (
            "/metrics/0/name",
            json!("a\nb\u{202e}"),
            "must have no control characters, nor any that turn the direction of writing",
        ),
        (
            "/metrics/1/name",
            json!("converted"),
            "spec.metrics[1].name: Duplicate value: \"converted\"",
        ),
        (
            "/metrics",
            json!([{"name": "x", "type": "Errors", "covariate": "y"}]),
            "spec.metrics[0].covariate: Forbidden: only a Conversion, Sum or Mean",
        ),
        (
            "/metrics",
            json!([{"name": "x", "type": "Conversion", "margin": -1}]),
            "spec.metrics[0].margin: Invalid value: -1.0: must be at least 0",
        ),
        (
            "/metrics",
            json!([{"name": "x", "type": "Conversion", "margin": 5}]),
            "spec.metrics[0].margin: Invalid value: 5.0: must be at least 0 and below 1, a difference of shares",
        ),
        (
            "/analysis",
            json!({"alpha": 1}),
            "spec.analysis.alpha: Invalid value: 1.0: must be above 0 and below 1",
        ),
        (
            "/analysis",
            json!({"correction": "All"}),
            "spec.analysis.correction: Unsupported value: \"All\": supported values: \"BenjaminiHochberg\"",
        ),
    ]);
}

#[test]
fn rules_of_promotion_that_make_no_sense_are_refused() {
    refused(&[
        (
            "/promotion",
            json!({"when": "Soon"}),
            "spec.promotion.when: Unsupported value: \"Soon\": supported values: \"Never\", \"Better\"",
        ),
        (
            "/promotion",
            json!({"after": "soon"}),
            "spec.promotion.after: Invalid value: \"soon\": must be a time such as 12h or 7d",
        ),
        (
            "/promotion",
            json!({"after": "500000000000years"}),
            "spec.promotion.after: Invalid value: \"500000000000years\": must be at most 365 days",
        ),
    ]);
}

#[test]
fn rewards_of_a_bandit_that_make_no_sense_are_refused() {
    let bandit = ("/allocation", json!({"strategy": "Thompson"}));
    let errors = ("/metrics", json!([{"name": "e", "type": "Errors"}]));
    let ratio =
        json!([{"name": "r", "type": "Ratio", "denominator": "n", "expectedDifference": 1}]);
    for metrics in [errors, ("/metrics", ratio)] {
        let refusal = of(&[bandit.clone(), metrics]).unwrap_err();
        assert!(refusal.contains("a bandit is rewarded by"), "{refusal}");
    }
    let zero = json!([{"name": "c", "type": "Conversion", "missing": "Zero"}]);
    let refusal = of(&[bandit, ("/metrics", zero)]).unwrap_err();
    assert!(refusal.contains("spec.metrics[0].missing: Forbidden: a bandit cannot tell"));
}

#[test]
fn windows_that_make_no_sense_are_refused() {
    refused(&[
        (
            "/metrics",
            json!([{"name": "x", "type": "Conversion", "window": "0s"}]),
            "spec.metrics[0].window: Invalid value: \"0s\": must be above 0",
        ),
        (
            "/metrics",
            json!([{"name": "x", "type": "Conversion", "window": "soon"}]),
            "spec.metrics[0].window: Invalid value: \"soon\": must be a time such as 1h or 7d",
        ),
        (
            "/metrics",
            json!([{"name": "x", "type": "Errors", "window": "1h"}]),
            "spec.metrics[0].window: Forbidden: only a Conversion, Sum, Mean or Ratio has one",
        ),
        (
            "/metrics",
            json!([
                {"name": "n", "type": "Sum", "expectedDifference": 1, "window": "7d"},
                {"name": "x", "type": "Ratio", "denominator": "n", "expectedDifference": 1, "window": "1h"},
            ]),
            "spec.metrics[1].window: Invalid value: \"1h\": must be 7d, as that of \"n\": both count the outcomes \"n\"",
        ),
        (
            "/metrics",
            json!([
                {"name": "x", "type": "Ratio", "denominator": "n", "expectedDifference": 1, "window": "1h"},
                {"name": "y", "type": "Ratio", "denominator": "n", "expectedDifference": 1},
            ]),
            "spec.metrics[1].window: Invalid value: null: must be 1h, as that of \"x\": both count the outcomes \"n\"",
        ),
    ]);
}

#[test]
fn what_a_bandit_does_not_heed_is_refused() {
    let bandit = || ("/allocation", json!({"strategy": "Thompson"}));
    for (pointer, value, expected) in [
        (
            "/metrics/1",
            json!({"name": "errors", "type": "Errors", "role": "Guardrail"}),
            "spec.metrics[1].role: Forbidden: a bandit has no Guardrail, since its variants are not compared; Primary and Secondary are allowed",
        ),
        (
            "/metrics/0",
            json!({"name": "converted", "type": "Conversion", "role": "Guardrail"}),
            "spec.metrics[0].role: Forbidden: a bandit has no Guardrail",
        ),
        (
            "/promotion",
            json!({"onHarm": "Stop"}),
            "spec.promotion.onHarm: Forbidden: a bandit has no guardrails; only Wait is allowed",
        ),
        (
            "/promotion",
            json!({"when": "Better"}),
            "spec.promotion.when: Forbidden: a bandit's variants are not compared, and it asks the better one more by itself; only Never is allowed",
        ),
    ] {
        assert!(of(&[(pointer, value.clone())]).is_ok(), "{pointer}");
        let error = of(&[bandit(), (pointer, value)]).unwrap_err();
        assert!(error.contains(expected), "{pointer}: {error}");
    }
    let promotion = json!({"when": "Never", "onHarm": "Wait"});
    let wanted = of(&[bandit(), ("/promotion", promotion)]).unwrap();
    // Errors are looked at, unless it is said otherwise.
    assert_eq!(wanted.planned.metrics[1].role, MetricRole::Secondary);
}

#[test]
fn features_that_make_no_sense_are_refused() {
    refused(&[
        (
            "/allocation",
            json!({"strategy": "LinUCB"}),
            "spec.allocation.features: Required value: LinUCB chooses by 1 to 16 of them",
        ),
        (
            "/allocation",
            json!({"strategy": "LinUCB", "features": [{"name": "age"}]}),
            "spec.allocation.features[0]: Invalid value: {}: must have one of header",
        ),
        (
            "/allocation",
            json!({"strategy": "LinUCB", "features": [{"name": "a", "header": "x-a"}, {"name": "a", "field": "a"}]}),
            "spec.allocation.features[1].name: Duplicate value: \"a\"",
        ),
        (
            "/allocation",
            json!({"strategy": "LinUCB", "features": [{"name": "constant", "header": "x-a"}]}),
            "spec.allocation.features[0].name: Invalid value: \"constant\": must not be constant, which",
        ),
        (
            "/allocation",
            json!({"strategy": "LinUCB", "alpha": -1, "features": [{"name": "a", "header": "x-a"}]}),
            "spec.allocation.alpha: Invalid value: -1.0: must be between 0 and 100",
        ),
        (
            "/allocation",
            json!({"strategy": "Thompson", "features": [{"name": "a", "header": "x-a"}]}),
            "spec.allocation.features: Forbidden: only LinUCB chooses by features",
        ),
    ]);
}

#[test]
fn features_are_planned_in_their_order() {
    let features =
        json!([{"name": "age", "field": "user.age"}, {"name": "hour", "header": "X-Hour"}]);
    let allocation = json!({"strategy": "LinUCB", "floor": 0.1, "features": features});
    let planned = of(&[("/allocation", allocation)]).unwrap().planned;
    assert_eq!(planned.linear(), Some((1.0, 0.1)));
    let expected = [
        ("age", UnitSource::Field("user.age".to_owned())),
        ("hour", UnitSource::Header("x-hour".to_owned())),
    ];
    let found = planned.features.into_iter();
    let found: Vec<_> = found.map(|one| (one.name, one.source)).collect();
    assert_eq!(
        found,
        expected.map(|(name, source)| (name.to_owned(), source))
    );
}

#[test]
fn in_an_aa_test_the_service_answers_for_all() {
    let variants = ("/variants", json!([{"name": "a"}, {"name": "b"}]));
    let wanted = of(&[("/mode", json!("AA")), variants]).unwrap();
    let mut variants = wanted.planned.variants.iter();
    assert!(variants.all(|variant| variant.target == VariantTarget::Own));
}
