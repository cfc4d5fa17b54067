//! Rollouts and Experiments that say what cannot be: refused when they are applied, each fault by its field and with what is allowed, all of them at once.

use serde_json::{Value, json};

use super::{Answer, ApiRequest, Fixture, Key, User, fixture, kind};

const GROUP: &str = "/apis/serving.coracle.dev/v1alpha1/namespaces/ml";

fn rollout() -> Value {
    json!({
        "inferenceService": "iris",
        "steps": [{"percent": 10, "duration": "10m"}, {"percent": 50}],
        "analysis": {
            "unit": {"header": "x-user"},
            "metrics": [
                {"name": "bought", "type": "Conversion", "margin": 0.02},
                {"name": "orders", "type": "Prometheus", "address": "http://p:9090", "query": "a{r=\"{{revision}}\"}", "margin": 1}
            ],
            "predictions": {}
        }
    })
}

fn experiment() -> Value {
    json!({
        "inferenceService": "iris",
        "unit": {"header": "x-user"},
        "variants": [{"name": "a"}, {"name": "b", "inferenceService": "next"}],
        "metrics": [{"name": "bought", "type": "Conversion"}, {"name": "errors", "type": "Errors"}],
        "exclusionGroup": {"name": "g", "fromPercent": 0, "toPercent": 50},
        "allocation": {"strategy": "Fixed"},
        "analysis": {},
        "promotion": {}
    })
}

/// Sends an object as `kubectl apply` does, the first time; returns the status and the message.
fn create(fixture: &Fixture, kind: &str, name: &str, spec: &Value) -> (u16, String) {
    let target = format!("{GROUP}/{kind}?fieldValidation=Strict&dryRun=All");
    let object = json!({"metadata": {"name": name}, "spec": spec});
    let (status, answer) = fixture.post(&target, &object);
    let message = answer["message"].as_str().unwrap_or_default();
    (status, message.to_owned())
}

/// Reads a table of cases, one a line.
fn table(text: &str) -> Vec<(&str, Value, &str)> {
    let cases = text.lines().filter(|line| !line.is_empty()).map(|line| {
        let (pointer, rest) = line.split_once(" | ").unwrap();
        let (value, expected) = rest.split_once(" |").unwrap();
        let value = serde_json::from_str(value).unwrap();
        (pointer, value, expected.trim_start())
    });
    cases.collect()
}

/// Checks what is said of a spec with another value at one place; nothing is said of one that is taken.
fn check(kind: &str, good: fn() -> Value, cases: &[(&str, Value, &str)]) {
    let fixture = fixture();
    assert_eq!(create(&fixture, kind, "x", &good()).0, 201);
    for (pointer, value, expected) in cases {
        let mut spec = good();
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        match spec.pointer_mut(parent).unwrap() {
            Value::Object(fields) => drop(fields.insert(field.to_owned(), value.clone())),
            Value::Array(items) => items[field.parse::<usize>().unwrap()] = value.clone(),
            other => panic!("{pointer}: {other}"),
        }
        let (status, message) = create(&fixture, kind, "x", &spec);
        let shown = format!("{pointer} {value}: {status} {message}");
        if expected.is_empty() {
            assert_eq!(status, 201, "{shown}");
            continue;
        }
        let is_strict = expected.starts_with("strict");
        assert_eq!(status, if is_strict { 400 } else { 422 }, "{shown}");
        let (_, message) = message
            .split_once(if is_strict { ": " } else { "is invalid: " })
            .unwrap();
        assert!(message.starts_with(expected), "{shown}");
    }
}

/// Where of a Rollout which value is there, and what is said of it; nothing of one that is taken.
const ROLLOUTS: &str = r#"
/stepz | [] | strict decoding error: unknown field "spec.stepz"
/steps/1 | {"prcent": 20} | strict decoding error: unknown field "spec.steps[1].prcent"
/steps/1/prcent | 20 | strict decoding error: unknown field "spec.steps[1].prcent"
/inferenceService | null | spec.inferenceService: Required value
/inferenceService | "" | spec.inferenceService: Invalid value: "": must be the name of an InferenceService
/inferenceService | "ïris" | spec.inferenceService: Invalid value: "ïris": must be the name of an InferenceService
/inferenceService | 7 | spec.inferenceService: Invalid value: "integer": spec.inferenceService in body must be of type string
/steps | [] | spec.steps: Invalid value: []: must have a step at least; without the field there are three
/steps | {"percent": 10} | spec.steps: Invalid value: "object": spec.steps in body must be of type array
/steps/1/percent | 150 | spec.steps[1].percent: Invalid value: 150: must be between 1 and 99; after the last step
/steps/1/percent | 100 | spec.steps[1].percent: Invalid value: 100: must be between 1 and 99; after the last step
/steps/1/percent | 0 | spec.steps[1].percent: Invalid value: 0: must be between 1 and 99
/steps/1/percent | 5 | spec.steps[1].percent: Invalid value: 5: must be above the 10 of the step before it
/steps/1/percent | 10 | spec.steps[1].percent: Invalid value: 10: must be above the 10 of the step before it
/steps/1/percent | 20.5 | spec.steps[1].percent: Invalid value: "number": spec.steps[1].percent in body must be of type integer: "number"
/steps/1/percent | 1e300 | spec.steps[1].percent: Invalid value: "number": spec.steps[1].percent in body must be of type integer: "number"
/steps/1/percent | 3000000000 | spec.steps[1].percent: Invalid value: 3000000000: spec.steps[1].percent in body must be of type int32
/steps/1/percent | "20" | spec.steps[1].percent: Invalid value: "string": spec.steps[1].percent in body must be of type integer
/steps/1 | {"duration": "1h"} | spec.steps[1].percent: Required value
/steps/0/duration | "1 hour" |
/steps/0/duration | "1h 30m" |
/steps/0/duration | "an hour" | spec.steps[0].duration: Invalid value: "an hour": must be a time such as 30s, 10m or 1h
/steps/0/duration | "-1h" | spec.steps[0].duration: Invalid value: "-1h": must be a time such as
/steps/0/duration | "600" | spec.steps[0].duration: Invalid value: "600": must be a time such as
/steps/0/duration | "" | spec.steps[0].duration: Invalid value: "": must be a time such as
/steps/0/duration | "400d" | spec.steps[0].duration: Invalid value: "400d": must be at most 365 days
/steps/0/duration | 600 | spec.steps[0].duration: Invalid value: "integer": spec.steps[0].duration in body must be of type string
/paused | "yes" | spec.paused: Invalid value: "string": spec.paused in body must be of type boolean
/analysis/alpha | 2 | spec.analysis.alpha: Invalid value: 2.0: must be above 0 and below 1
/analysis/alpha | 0 | spec.analysis.alpha: Invalid value: 0.0: must be above 0 and below 1
/analysis/alpha | 1 | spec.analysis.alpha: Invalid value: 1.0: must be above 0 and below 1
/analysis/requestsMin | -1 | spec.analysis.requestsMin: Invalid value: -1: must be at least 0
/analysis/requestsMin | 9223372036854775807 |
/analysis/ratioTolerated | 0.5 | spec.analysis.ratioTolerated: Invalid value: 0.5: must be at least 1, and at most 1000
/analysis/ratioTolerated | 1e308 | spec.analysis.ratioTolerated: Invalid value: 1e+308: must be at least 1, and at most 1000
/analysis/errorRateMargin | -0.1 | spec.analysis.errorRateMargin: Invalid value: -0.1: must be at least 0 and below 1
/analysis/errorRateMargin | 5 | spec.analysis.errorRateMargin: Invalid value: 5.0: must be at least 0 and below 1
/analysis/latencyPercentile | 100 | spec.analysis.latencyPercentile: Invalid value: 100: must be between 50 and 99
/analysis/latencyMax | "0ms" | spec.analysis.latencyMax: Invalid value: "0ms": must be above 0
/analysis/latencyMax | "fast" | spec.analysis.latencyMax: Invalid value: "fast": must be a time such as 50ms or 2s
/analysis/deadline | "soon" | spec.analysis.deadline: Invalid value: "soon": must be a time such as
/analysis/predictions/stabilityIndexMax | 0 | spec.analysis.predictions.stabilityIndexMax: Invalid value: 0.0: must be above 0
/analysis/unit | {} | spec.analysis.unit: Invalid value: {}: must have one of header and cookie, and one only
/analysis/unit/cookie | "session" | spec.analysis.unit: Invalid value: 
/analysis/unit | {"field": "user.id"} | strict decoding error: unknown field "spec.analysis.unit.field"
/analysis/unit/header | "x user" | spec.analysis.unit.header: Invalid value: "x user": must be of ASCII letters
/analysis/metrics/0/type | "Convertion" | spec.analysis.metrics[0].type: Unsupported value: "Convertion": supported values: "Conversion", "Sum", "Mean", "Prometheus"
/analysis/metrics/0/name | "" | spec.analysis.metrics[0].name: Invalid value: "": must have 1 to 128 bytes
/analysis/metrics/0/name | "gekauft – ünïcode" |
/analysis/metrics/0/name | "orders" | spec.analysis.metrics[1].name: Duplicate value: "orders"
/analysis/metrics/0/margin | -0.1 | spec.analysis.metrics[0].margin: Invalid value: -0.1: must be above 0 and below 1
/analysis/metrics/0/unitsMin | 1 | spec.analysis.metrics[0].unitsMin: Invalid value: 1: must be at least 2
/analysis/metrics/0/query | "sum(x)" | spec.analysis.metrics[0].query: Forbidden: only a metric of type Prometheus has one
/analysis/metrics/1/missing | "Zero" | spec.analysis.metrics[1].missing: Forbidden: only a metric of outcomes has one
/analysis/metrics/1/address | "prometheus:9090" | spec.analysis.metrics[1].address: Invalid value: "prometheus:9090": must say where Prometheus is, such as http://prometheus:9090
/analysis/metrics/1/address | null | spec.analysis.metrics[1].address: Required value: where Prometheus is
/analysis/metrics/1/query | null | spec.analysis.metrics[1].query: Required value: what Prometheus is asked
/analysis/metrics/1/margin | -1 | spec.analysis.metrics[1].margin: Invalid value: -1.0: must be at least 0, and at most 1e100
/analysis/metrics/1/margin | 1e200 | spec.analysis.metrics[1].margin: Invalid value: 1e+200: must be at least 0, and at most 1e100
/analysis/metrics/1/bound | 3 | spec.analysis.metrics[1].bound: Forbidden: there is a margin, too
/analysis/metrics/1/better | "Bigger" | spec.analysis.metrics[1].better: Unsupported value: "Bigger": supported values: "Higher", "Lower"
"#;

#[test]
fn wrong_rollouts_are_refused_by_their_fields() {
    check("rollouts", rollout, &table(ROLLOUTS));
    let header = json!("x".repeat(254));
    let expected = "spec.analysis.unit.header: Invalid value: \"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...\": must have 1 to 253 bytes, and has 254";
    check(
        "rollouts",
        rollout,
        &[("/analysis/unit/header", header, expected)],
    );
}

/// Where of an Experiment which value is there, and what is said of it; nothing of one that is taken.
const EXPERIMENTS: &str = r#"
/varients | [] | strict decoding error: unknown field "spec.varients"
/inferenceService | null | spec.inferenceService: Required value
/variants | null | spec.variants: Required value
/variants | [] | spec.variants: Invalid value: []: must be 2 to 16 variants
/variants | [{"name": "a"}, {"name": "a", "inferenceService": "next"}] | spec.variants[1].name: Duplicate value: "a"
/variants | [{"name": "a", "weight": 0}, {"name": "b", "weight": 0, "inferenceService": "next"}] | spec.variants: Invalid value: [0,0]: must have a weight above 0 at least once
/variants/0/weight | 0 |
/variants/1/weight | -1 | spec.variants[1].weight: Invalid value: -1: must be between 0 and 1000000
/variants/1/weight | 0.5 | spec.variants[1].weight: Invalid value: "number": spec.variants[1].weight in body must be of type integer
/variants/1/weight | 1e30 | spec.variants[1].weight: Invalid value: "number"
/variants/1/weight | 2000000 | spec.variants[1].weight: Invalid value: 2000000: must be between 0 and 1000000
/variants/1/name | "größer" | spec.variants[1].name: Invalid value: "größer": must be 1 to 63 ASCII letters
/variants/1/name | "" | spec.variants[1].name: Invalid value: "": must be 1 to 63 ASCII letters
/variants/1/revision | "iris-predictor-00002" | spec.variants[1].inferenceService: Forbidden: there is a revision, too
/variants/1 | {"name": "b"} | spec.variants[1]: Forbidden: it is answered by the same model as a; name another revision or inferenceService, or say spec.mode: AA
/variants/1 | {"inferenceService": "next"} | spec.variants[1].name: Required value
/variants/1/inferenceService | "No!" | spec.variants[1].inferenceService: Invalid value: "No!": must be the name of an InferenceService
/control | "c" | spec.control: Unsupported value: "c": supported values: "a", "b"
/mode | "A/B" | spec.mode: Unsupported value: "A/B": supported values: "AB", "AA"
/unit | null | spec.unit: Required value
/unit | {} | spec.unit: Invalid value: {}: must have one of header, cookie, field, parameter and input, and one only
/unit | {"query": "user"} | strict decoding error: unknown field "spec.unit.query"
/unit | {"header": "x user"} | spec.unit.header: Invalid value: "x user": must be of ASCII letters
/unit | {"field": ".id"} | spec.unit.field: Invalid value: ".id": must be a path of fields such as user.id
/unit | {"field": "benutzer.größe"} |
/percent | 150 | spec.percent: Invalid value: 150.0: must be between 0 and 100
/percent | -1 | spec.percent: Invalid value: -1.0: must be between 0 and 100
/overrides | {"tester": "c"} | spec.overrides.tester: Unsupported value: "c": supported values: "a", "b"
/exclusionGroup/toPercent | 0 | spec.exclusionGroup.toPercent: Invalid value: 0.0: must be above fromPercent, 0
/exclusionGroup/toPercent | 101 | spec.exclusionGroup.toPercent: Invalid value: 101.0: must be between 0 and 100
/exclusionGroup/name | "" | spec.exclusionGroup.name: Invalid value: "": must have 1 to 253 bytes
/allocation | {"strategy": "thompson"} | spec.allocation.strategy: Unsupported value: "thompson": supported values: "Fixed", "EpsilonGreedy", "Thompson", "UCB1", "LinUCB"
/allocation | {"strategy": "EpsilonGreedy", "epsilon": 2} | spec.allocation.epsilon: Invalid value: 2.0: must be between 0 and 1
/allocation | {"strategy": "LinUCB"} | spec.allocation.features: Required value: LinUCB chooses by 1 to 16 of them
/metrics/0/type | "Convert" | spec.metrics[0].type: Unsupported value: "Convert": supported values: "Conversion", "Sum", "Mean", "Ratio", "Errors", "Latency"
/metrics/1/type | "Latency" | spec.metrics[1].expectedDifference: Required value: of a Latency
/metrics/0/margin | -0.1 | spec.metrics[0].margin: Invalid value: -0.1: must be at least 0 and below 1
/metrics/0/expectedDifference | 0 | spec.metrics[0].expectedDifference: Invalid value: 0.0: must be above 0 and below 1
/metrics/0/window | "7 days" |
/metrics/0/window | "a week" | spec.metrics[0].window: Invalid value: "a week": must be a time such as 1h or 7d
/metrics/0/query | "sum(x)" | strict decoding error: unknown field "spec.metrics[0].query"
/metrics/0/denominator | "n" | spec.metrics[0].denominator: Forbidden: only a Ratio has one
/metrics/1/name | "bought" | spec.metrics[1].name: Duplicate value: "bought"
/analysis/alpha | 2 | spec.analysis.alpha: Invalid value: 2.0: must be above 0 and below 1
/analysis/alpha | 0 | spec.analysis.alpha: Invalid value: 0.0: must be above 0 and below 1
/analysis/unitsMin | -5 | spec.analysis.unitsMin: Invalid value: -5: must be at least 0
/analysis/correction | "Holm" | spec.analysis.correction: Unsupported value: "Holm": supported values: "BenjaminiHochberg", "Bonferroni", "None"
/promotion/when | "Always" | spec.promotion.when: Unsupported value: "Always": supported values: "Never", "Better"
/promotion/after | "-7d" | spec.promotion.after: Invalid value: "-7d": must be a time such as 12h or 7d
/promotion/onHarm | "Rollback" | spec.promotion.onHarm: Unsupported value: "Rollback": supported values: "Wait", "Stop"
"#;

#[test]
fn wrong_experiments_are_refused_by_their_fields() {
    check("experiments", experiment, &table(EXPERIMENTS));
    let many: Vec<Value> = (0..17).map(|n| json!({"name": format!("v{n}")})).collect();
    let overrides = (0..1_001).map(|n| (format!("u{n}"), json!("a")));
    let overrides: serde_json::Map<String, Value> = overrides.collect();
    let long = [
        (
            "/variants",
            json!(many),
            "spec.variants: Too many: 17: must have at most 16 items",
        ),
        (
            "/salt",
            json!("s".repeat(300)),
            "spec.salt: Invalid value: \"ssssssssssssssssssssssssssssssss...\": must have 1 to 253 bytes, and has 300",
        ),
        (
            "/overrides",
            json!(overrides),
            "spec.overrides: Too many: 1001: must have at most 1000 items",
        ),
    ];
    check("experiments", experiment, &long);
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let fixture = fixture();
    let spec = json!({
        "inferenceService": "iris",
        "steps": [{"percent": 150}, {"percent": 20, "duration": "soon"}, {"percent": 10}],
        "analysis": {"alpha": 2, "metrics": [{"name": "a", "type": "Max"}]}
    });
    let (_, message) = create(&fixture, "rollouts", "iris", &spec);
    let expected = "Rollout.serving.coracle.dev \"iris\" is invalid: [\
        spec.steps[0].percent: Invalid value: 150: must be between 1 and 99; after the last step the new revision takes all requests by itself, \
        spec.steps[1].duration: Invalid value: \"soon\": must be a time such as 30s, 10m or 1h, \
        spec.steps[2].percent: Invalid value: 10: must be above the 20 of the step before it, since shares grow from step to step, \
        spec.analysis.metrics[0].type: Unsupported value: \"Max\": supported values: \"Conversion\", \"Sum\", \"Mean\", \"Prometheus\", \
        spec.analysis.alpha: Invalid value: 2.0: must be above 0 and below 1]";
    assert_eq!(message, expected);
    let spec = json!({"inferenceService": "iris", "unit": {}, "variants": [{"name": "a", "weight": -1}, {"name": "b c"}], "percent": 101});
    let (_, message) = create(&fixture, "experiments", "ab", &spec);
    for field in [
        "spec.variants[0].weight: ",
        "spec.variants[1].name: ",
        "spec.unit: ",
        "spec.percent: ",
    ] {
        assert!(message.contains(field), "{field} {message}");
    }
}

#[test]
fn whoever_makes_a_second_rollout_of_a_service_is_warned() {
    let fixture = fixture();
    let target = format!("{GROUP}/rollouts");
    let make = |name: &str, service: &str| {
        let object = json!({"metadata": {"name": name}, "spec": {"inferenceService": service}});
        let (status, _, warnings) =
            fixture.send_warned("POST", &target, "application/json", &object);
        assert_eq!(status, 201);
        warnings
    };
    assert!(make("first", "iris").is_empty());
    assert!(make("other", "next").is_empty());
    let expected =
        "Rollout first is there already for iris, and the oldest one decides; delete one of them";
    assert_eq!(make("second", "iris"), [expected]);
}

/// What an object of a longer name keeps could not be written to a file of its name.
#[test]
fn names_that_no_file_can_have_are_refused() {
    let fixture = fixture();
    for (kind, spec) in [("rollouts", rollout()), ("experiments", experiment())] {
        assert_eq!(create(&fixture, kind, &"n".repeat(60), &spec).0, 201);
        let long = [&*"n".repeat(63); 4].join(".");
        let (status, message) = create(&fixture, kind, &long, &spec);
        let expected = "metadata.name: Invalid value: \"nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn...\": must have 1 to 200 bytes, and has 255";
        let too_long = "metadata.name: Invalid value";
        assert!(status == 422 && message.contains(too_long), "{message}");
        let long = [&*"n".repeat(60); 4].join(".");
        let (status, message) = create(&fixture, kind, &long, &spec);
        let expected = expected.replace("255", "243");
        assert!(status == 422 && message.ends_with(&expected), "{message}");
    }
}

/// Bounds may be set after something was stored that is beyond them: it takes what says nothing of them, and a spec that is mended.
#[test]
fn what_is_stored_beyond_bounds_may_be_labelled_commanded_paused_and_mended() {
    let long = [&*"n".repeat(60); 4].join(".");
    let (mut bad_rollout, mut bad_experiment) = (rollout(), experiment());
    bad_rollout["analysis"]["alpha"] = json!(2);
    bad_experiment["percent"] = json!(150);
    let stop = json!({"annotations": {"serving.coracle.dev/experiment": "stop"}});
    for (kind, spec, also_taken, wrong, mended) in [
        (
            &kind::ROLLOUT,
            bad_rollout,
            json!({"spec": {"paused": true}}),
            "spec.analysis.alpha: Invalid value: 2.0: must be above 0 and below 1",
            json!({"spec": {"analysis": {"alpha": 0.05}}}),
        ),
        (
            &kind::EXPERIMENT,
            bad_experiment,
            json!({"metadata": stop}),
            "spec.percent: Invalid value: 150.0: must be between 0 and 100",
            json!({"spec": {"percent": 50}}),
        ),
    ] {
        let fixture = fixture();
        let object = json!({
            "apiVersion": kind.api_version(), "kind": kind.kind,
            "metadata": {"name": long, "namespace": "ml", "uid": "u", "generation": 1}, "spec": spec
        });
        let store = &fixture.api.store;
        store.create(Key::new(kind, "ml", &long), object).unwrap();
        let target = format!("{GROUP}/{}/{long}", kind.plural);
        let merge = |patch: Value| {
            let (status, answer) = fixture.merge(&target, &patch);
            let message = answer["message"].as_str().unwrap_or_default();
            (status, message.to_owned())
        };
        let taken = (200, String::new());
        assert_eq!(merge(json!({"metadata": {"labels": {"a": "b"}}})), taken);
        assert_eq!(merge(also_taken), taken);
        let (status, message) = merge(json!({"spec": {"inferenceService": "other"}}));
        assert_eq!(status, 422, "{message}");
        assert!(message.ends_with(wrong), "{message}");
        assert_eq!(merge(mended), taken);
    }
}

/// YAML has numbers that JSON has not; kubectl itself refuses them, other clients may not.
#[test]
fn what_is_no_number_is_none() {
    let fixture = fixture();
    for (number, expected, words) in [
        (
            ".nan",
            400,
            "couldn't decode the body as YAML: error: line 4 column 50: non-finite float `.nan` rejected",
        ),
        (".inf", 400, "non-finite float `.inf` rejected"),
        ("-.inf", 400, "non-finite float `-.inf` rejected"),
        ("1e999", 400, "non-finite float `1e999` rejected"),
        ("0.05", 201, "\"alpha\":0.05"),
    ] {
        let body = format!(
            "apiVersion: serving.coracle.dev/v1alpha1\nkind: Rollout\nmetadata: {{name: x}}\nspec: {{inferenceService: iris, analysis: {{alpha: {number}}}}}\n"
        );
        let request = ApiRequest {
            user: User::owner(),
            method: "PATCH".to_owned(),
            path: format!("{GROUP}/rollouts/x"),
            query: "fieldManager=test&fieldValidation=Strict&dryRun=All".to_owned(),
            content_type: "application/apply-patch+yaml".to_owned(),
            body: body.into(),
            ..ApiRequest::default()
        };
        let Answer::Reply(reply) = fixture.api.answer(&request) else {
            panic!("a watch");
        };
        let text = String::from_utf8_lossy(&reply.body);
        assert_eq!(reply.status, expected, "{number}: {text}");
        assert!(text.contains(words), "{number}: {text}");
    }
}
