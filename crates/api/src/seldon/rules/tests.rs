//! Manifests and what is said of them. Seldon's messages are quoted from its webhook's description.

use serde_json::json;

use super::*;

/// A predictor as Seldon's tutorials print it.
fn predictor(name: &str, change: Value) -> Value {
    let mut predictor = json!({
        "name": name,
        "replicas": 1,
        "graph": {
            "name": "classifier",
            "implementation": "SKLEARN_SERVER",
            "modelUri": "gs://seldon-models/v1.19.0-dev/sklearn/iris",
            "children": []
        }
    });
    merge(&mut predictor, change);
    predictor
}

fn merge(into: &mut Value, change: Value) {
    match (into, change) {
        (Value::Object(fields), Value::Object(changes)) => {
            for (name, change) in changes {
                merge(fields.entry(name).or_insert(Value::Null), change);
            }
        }
        (into, change) => *into = change,
    }
}

fn checked(spec: Value) -> Result<(), String> {
    check("iris", &serde_json::from_value(spec).unwrap())
}

fn of_one(change: Value) -> Result<(), String> {
    checked(json!({"predictors": [predictor("default", change)]}))
}

#[test]
fn tutorials_are_served() {
    let ok = Ok(());
    assert_eq!(of_one(json!({})), ok);
    assert_eq!(of_one(json!({"traffic": 100})), ok);
    let with_type = json!({"graph": {"type": "MODEL", "parameters": [{"name": "method", "type": "STRING", "value": "predict"}]}});
    assert_eq!(of_one(with_type), ok);
    let resources = json!({"componentSpecs": [{"spec": {"containers": [{"name": "classifier", "resources": {"requests": {"memory": "1Mi"}}}]}}]});
    assert_eq!(of_one(resources), ok);
    for (protocol, implementation) in [
        ("seldon", "XGBOOST_SERVER"),
        ("v2", "MLFLOW_SERVER"),
        ("kfserving", "SKLEARN_SERVER"),
        ("tensorflow", "TENSORFLOW_SERVER"),
        ("seldon", "TENSORFLOW_SERVER"),
    ] {
        let graph = json!({"graph": {"implementation": implementation}});
        let spec = json!({"protocol": protocol, "predictors": [predictor("default", graph)]});
        assert_eq!(checked(spec), ok, "{protocol} {implementation}");
    }
    let split = json!({"name": "ab", "predictors": [
        predictor("model-a", json!({"traffic": 50})),
        predictor("model-b", json!({"traffic": 50})),
        predictor("next", json!({"shadow": true, "traffic": 10}))
    ]});
    assert_eq!(checked(split), ok);
}

#[test]
fn the_tutorial_of_tensorflow_is_served() {
    // As Seldon's documentation prints it, and a graph of it.
    let parameters = json!([
        {"name": "signature_name", "type": "STRING", "value": "predict_images"},
        {"name": "model_name", "type": "STRING", "value": "mnist-model"},
        {"name": "model_input", "type": "STRING", "value": "images"},
        {"name": "model_output", "type": "STRING", "value": "scores"}
    ]);
    let model = |name: &str| json!({"name": name, "implementation": "TENSORFLOW_SERVER", "modelUri": "gs://seldon-models/tfserving/mnist-model", "parameters": parameters});
    let router = json!({"name": "ab", "implementation": "RANDOM_ABTEST", "modelUri": null, "children": [model("a"), model("b")]});
    for protocol in ["seldon", "tensorflow"] {
        for graph in [model("mnist-model"), router.clone()] {
            let spec = json!({"name": "mnist", "protocol": protocol, "predictors": [predictor("default", json!({"graph": graph}))]});
            assert_eq!(checked(spec.clone()), Ok(()), "{spec}");
        }
    }
}

#[test]
fn seldons_rules_are_told_in_its_words() {
    let one = |change: Value| json!({"predictors": [predictor("a", change)]});
    let own = json!({"graph": {"implementation": null, "type": "UNKNOWN_TYPE"}, "componentSpecs": [{"spec": {"containers": [{"name": "classifier"}]}}]});
    let mut tensorflow = one(json!({}));
    tensorflow["protocol"] = "tensorflow".into();
    for (spec, message) in [
        (json!({"predictors": []}), "Graph contains no predictors"),
        (
            json!({"predictors": [predictor("a", json!({})), predictor("a", json!({}))]}),
            "Duplicate predictor name",
        ),
        (
            one(json!({"graph": {"implementation": null}})),
            "Can't find container for Predictive Unit",
        ),
        (
            one(own),
            "Predictive Unit has no implementation methods defined. Change to a known type or add what methods it defines",
        ),
        (
            one(json!({"graph": {"modelUri": null}})),
            "Predictive unit modelUri required when using standalone servers",
        ),
        (
            tensorflow,
            "Prepackaged server does not handle tensorflow protocol SKLEARN_SERVER",
        ),
        (
            one(json!({"graph": {"logger": {}}})),
            "No logger mode specified",
        ),
        (
            json!({"protocol": "x", "predictors": [predictor("a", json!({}))]}),
            "Invalid protocol",
        ),
        (
            json!({"transport": "x", "predictors": [predictor("a", json!({}))]}),
            "Invalid transport",
        ),
        (
            json!({"serverType": "x", "predictors": [predictor("a", json!({}))]}),
            "Invalid serverType",
        ),
        (
            json!({"serverType": "kafka", "predictors": [predictor("a", json!({}))]}),
            "For kafka please supply svcOrchSpec envs KAFKA_BROKER, KAFKA_INPUT_TOPIC, KAFKA_OUTPUT_TOPIC",
        ),
    ] {
        assert_eq!(checked(spec.clone()).unwrap_err(), message, "{spec}");
    }
}

#[test]
fn rules_about_what_seldon_makes_of_predictors_are_told_in_its_words() {
    let no_engine = |graph: Value| json!({"predictors": [predictor("a", json!({"annotations": {"seldon.io/no-engine": "true"}, "graph": graph}))]});
    let child = json!({"name": "b", "implementation": "SKLEARN_SERVER", "modelUri": "file:///m"});
    let endpoint = |kind: &str| json!({"graph": {"endpoint": {"type": kind}}});
    let mut both = endpoint("REST");
    both["graph"]["children"] = json!([{"name": "b", "implementation": "SKLEARN_SERVER", "modelUri": "file:///m", "endpoint": {"type": "GRPC"}}]);
    let over = |transport: Option<&str>, change: Value| json!({"transport": transport, "predictors": [predictor("a", change)]});
    let named = |a: &str, b: &str| {
        let named = |name: &str, service: &str| {
            predictor(
                name,
                json!({"traffic": 50, "annotations": {"seldon.io/svc-name": service}}),
            )
        };
        json!({"predictors": [named("a", a), named("b", b)]})
    };
    let multiple =
        "Multiple endpoint.types found - can only have 1 type in graph. Please use spec.transport";
    let mixed = "Mixed transport types found. Remove graph endpoint.types if transport set at deployment level";
    for (spec, message) in [
        (
            over(None, json!({"graph": {"implementation": "CUSTOM_SERVER"}})),
            Some("No entry in predictors map for CUSTOM_SERVER"),
        ),
        (
            over(
                None,
                json!({"graph": {"implementation": "CUSTOM_SERVER", "modelUri": ""}}),
            ),
            Some("Predictive unit modelUri required when using standalone servers"),
        ),
        (
            named("one", "one"),
            Some("Found duplicate service name in seldon.io/svc-name with value one"),
        ),
        (named("one", "two"), None),
        (
            no_engine(json!({"children": [child]})),
            Some("Running without engine only valid for single element graphs"),
        ),
        (no_engine(json!({})), None),
        (over(None, both.clone()), Some(multiple)),
        (over(Some("rest"), both), Some(multiple)),
        (over(Some("grpc"), endpoint("REST")), Some(mixed)),
        (over(Some("rest"), endpoint("GRPC")), Some(mixed)),
        (over(Some("rest"), endpoint("REST")), None),
        (over(None, endpoint("GRPC")), None),
    ] {
        assert_eq!(checked(spec.clone()).err().as_deref(), message, "{spec}");
    }
    // With an image it is a container of one's own, of which Seldon needs no entry.
    let own = json!({"graph": {"implementation": "CUSTOM_SERVER"}, "componentSpecs": [{"spec": {"containers": [{"name": "classifier", "image": "own:1"}]}}]});
    let message = of_one(own).unwrap_err();
    assert!(
        message.starts_with(
            "spec.predictors[0].graph.implementation: CUSTOM_SERVER is not served here"
        ),
        "{message}"
    );
}

#[test]
fn shares_and_shadows_have_seldons_rules() {
    let two = |a: Value, b: Value| json!({"predictors": [predictor("a", a), predictor("b", b)]});
    let one = |change: Value| json!({"predictors": [predictor("a", change)]});
    for (spec, message) in [
        (
            json!({"predictors": [predictor("a", json!({"shadow": true})), predictor("b", json!({"shadow": true})), predictor("c", json!({}))]}),
            "Multiple shadows are not allowed",
        ),
        (
            one(json!({"shadow": true})),
            "Shadow can not exist as only predictor",
        ),
        (
            two(
                json!({"traffic": 100}),
                json!({"shadow": true, "traffic": 101}),
            ),
            "shadow traffic is illegal, the traffic number should be between [0, 100]",
        ),
        (
            two(json!({"traffic": 50}), json!({"traffic": 40})),
            "Traffic must sum to 100 for multiple predictors",
        ),
        (
            two(json!({"traffic": 150}), json!({"traffic": -50})),
            "Traffic must sum to 100 for multiple predictors",
        ),
        (
            two(json!({}), json!({})),
            "Traffic must sum to 100 for multiple predictors",
        ),
        (
            one(json!({"traffic": 50})),
            "Traffic must sum be 100 for a single predictor when set",
        ),
    ] {
        assert_eq!(checked(spec.clone()).unwrap_err(), message, "{spec}");
    }
}

#[test]
fn what_is_not_served_is_refused_by_its_place() {
    for (change, start) in [
        (
            json!({"graph": {"type": "ROUTER"}}),
            "spec.predictors[0].graph.type: ROUTER is not served here with SKLEARN_SERVER; MODEL, TRANSFORMER and OUTPUT_TRANSFORMER are",
        ),
        (
            json!({"graph": {"implementation": "TRITON_SERVER"}}),
            "spec.predictors[0].graph.implementation: TRITON_SERVER is not served here",
        ),
        (
            json!({"graph": {"implementation": "RANDOM_ABTEST"}}),
            "spec.predictors[0].graph.children: RANDOM_ABTEST has two, and here are 0",
        ),
        (
            json!({"graph": {"implementation": null}, "componentSpecs": [{"spec": {"containers": [{"name": "classifier", "image": "x"}]}}]}),
            "spec.predictors[0].graph.implementation: containers of one's own ('classifier')",
        ),
        (
            json!({"graph": {"implementation": null}, "componentSpecs": [{"spec": {"containers": [{"name": "classifier", "image": "seldonio/mab_epsilon_greedy_of_mine:1"}]}}]}),
            "spec.predictors[0].graph.implementation: containers of one's own ('classifier')",
        ),
        (
            json!({"graph": {"logger": {"mode": "all"}}}),
            "spec.predictors[0].graph.logger is not served here",
        ),
        (
            json!({"graph": {"implementation": "SIMPLE_MODEL", "modelUri": null, "envSecretRefName": "rclone"}}),
            "spec.predictors[0].graph.envSecretRefName is not served here",
        ),
        (
            json!({"explainer": {"type": "AnchorTabular"}}),
            "spec.predictors[0].explainer is not served here",
        ),
    ] {
        let message = of_one(change.clone()).unwrap_err();
        assert!(message.starts_with(start), "{change}: {message}");
    }
    let graph = json!({"graph": {"implementation": "TENSORFLOW_SERVER"}});
    let of_v2 = json!({"protocol": "v2", "predictors": [predictor("a", graph)]});
    assert_eq!(
        checked(of_v2).unwrap_err(),
        "spec.predictors[0].graph.implementation: TENSORFLOW_SERVER is served with the protocols tensorflow and seldon"
    );
    // Both are served on one port.
    for transport in ["rest", "grpc"] {
        let one = json!({"transport": transport, "predictors": [predictor("a", json!({}))]});
        assert!(checked(one).is_ok(), "{transport}");
    }
}

#[test]
fn what_is_not_served_of_components_and_parameters_is_refused_by_its_place() {
    let container = |fields: Value| {
        let mut container = json!({"name": "classifier"});
        merge(&mut container, fields);
        json!({"componentSpecs": [{"spec": {"containers": [container]}}]})
    };
    let parameter = |name: &str, value: &str| json!({"graph": {"parameters": [{"name": name, "value": value, "type": "STRING"}]}});
    for (change, start) in [
        (
            json!({"componentSpecs": [{"kedaSpec": {"maxReplicaCount": 3}}]}),
            "spec.predictors[0].componentSpecs[0].kedaSpec is not served here",
        ),
        (
            container(json!({"image": "own:1"})),
            "spec.predictors[0].componentSpecs[0].spec.containers: image of 'classifier'",
        ),
        (
            container(json!({"name": "sidecar"})),
            "spec.predictors[0].componentSpecs[0].spec.containers: 'sidecar' is no node",
        ),
        (
            parameter("method", "score"),
            "spec.predictors[0].graph.parameters[0]: method 'score' is not served here",
        ),
        (
            parameter("depth", "3"),
            "spec.predictors[0].graph.parameters[0]: 'depth' says nothing to SKLEARN_SERVER",
        ),
        (
            json!({"name": "A!"}),
            "spec.predictors[0].name: 'A!' is no name",
        ),
    ] {
        let message = of_one(change.clone()).unwrap_err();
        assert!(message.starts_with(start), "{change}: {message}");
    }
}

#[test]
fn scikit_learns_models_answer_with_what_the_graph_says_in_seldons_protocol() {
    let method_of = |protocol: Option<&str>, change: Value| {
        let spec = json!({"protocol": protocol, "predictors": [predictor("a", change)]});
        let spec: SeldonDeploymentSpec = serde_json::from_value(spec).unwrap();
        let method = spec.method(&spec.predictors[0].graph);
        method.map(str::to_owned)
    };
    let method =
        |value: &str| json!({"graph": {"parameters": [{"name": "method", "value": value}]}});
    let of_type = |name: &str| json!({"graph": {"type": name}});
    for (protocol, change, expected) in [
        (None, json!({}), Some("predict_proba")),
        (
            Some("seldon"),
            method("predict_proba"),
            Some("predict_proba"),
        ),
        (None, method("predict"), Some("predict")),
        (None, method("decision_function"), Some("decision_function")),
        (None, of_type("MODEL"), Some("predict_proba")),
        (None, of_type("TRANSFORMER"), Some("transform")),
        (None, of_type("OUTPUT_TRANSFORMER"), Some("transform")),
        (Some("v2"), json!({}), None),
        (Some("v2"), of_type("TRANSFORMER"), None),
        (
            None,
            json!({"graph": {"implementation": "XGBOOST_SERVER"}}),
            None,
        ),
    ] {
        let found = method_of(protocol, change.clone());
        assert_eq!(found.as_deref(), expected, "{protocol:?} {change}");
    }
}
