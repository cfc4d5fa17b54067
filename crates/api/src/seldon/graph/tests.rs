//! Graphs as Seldon's users write them, and what is said of those that are not served.

use serde_json::json;

use super::*;
use crate::seldon::rules::check;

fn model(name: &str) -> Value {
    json!({"name": name, "implementation": "SKLEARN_SERVER", "modelUri": "file:///m", "type": "MODEL"})
}

fn with(mut node: Value, children: &[Value]) -> Value {
    node["children"] = children.into();
    node
}

fn router(
    name: &str,
    implementation: &str,
    parameters: &[(&str, &str)],
    children: &[Value],
) -> Value {
    let parameters = parameters
        .iter()
        .map(|(name, value)| json!({"name": name, "value": value, "type": "STRING"}));
    let parameters: Vec<Value> = parameters.collect();
    with(
        json!({"name": name, "implementation": implementation, "parameters": parameters}),
        children,
    )
}

fn two() -> [Value; 2] {
    [model("a"), model("b")]
}

fn spec(graph: Value) -> SeldonDeploymentSpec {
    let spec = json!({"predictors": [{"name": "default", "graph": graph}]});
    serde_json::from_value(spec).unwrap()
}

fn read_one(graph: Value) -> Result<Node, String> {
    let spec = spec(graph);
    check("iris", &spec)?;
    read(("iris", "spec.predictors[0]"), &spec, &spec.predictors[0])
}

fn role(graph: Value) -> Role {
    read_one(graph).unwrap().role
}

#[test]
fn every_node_has_its_role() {
    let sklearn = Server::Sklearn;
    let mut transformer = with(model("scale"), &[model("a")]);
    transformer["type"] = "TRANSFORMER".into();
    assert_eq!(role(transformer), Role::Model(sklearn));
    let mut after = with(model("label"), &[model("a")]);
    after["type"] = "OUTPUT_TRANSFORMER".into();
    assert_eq!(role(after), Role::OutputTransformer(sklearn));
    let ab = |parameters: &[(&str, &str)]| role(router("ab", "RANDOM_ABTEST", parameters, &two()));
    assert_eq!(ab(&[]), Role::AbTest { ratio_a: 0.5 });
    assert_eq!(ab(&[("ratioA", "0.25")]), Role::AbTest { ratio_a: 0.25 });
    let mut combiner = router("mean", "AVERAGE_COMBINER", &[], &two());
    combiner["type"] = "COMBINER".into();
    assert_eq!(role(combiner), Role::Average);
    assert_eq!(role(router("r", "SIMPLE_ROUTER", &[], &two())), Role::First);
    assert_eq!(
        role(router("simple", "SIMPLE_MODEL", &[], &[])),
        Role::Fixed
    );
    let parameters = [
        ("n_branches", "2"),
        ("epsilon", "0.3"),
        ("best_branch", "1"),
        ("seed", "5"),
    ];
    let expected = Role::EpsilonGreedy {
        epsilon: 0.3,
        best_branch: Some(1),
        seed: 5,
    };
    assert_eq!(
        role(router("eg", "EPSILON_GREEDY", &parameters, &two())),
        expected
    );
    let thompson = router("ts", "THOMPSON_SAMPLING", &[("history", "true")], &two());
    assert_eq!(role(thompson), Role::Thompson { seed: 0 });
    // One model is one model, whatever it is called.
    assert!(read_one(model("My_Model")).unwrap().is_plain());
}

#[test]
fn the_nodes_come_in_order() {
    let inner = router("ab", "RANDOM_ABTEST", &[], &two());
    let graph = with(
        model("scale"),
        &[router(
            "mean",
            "AVERAGE_COMBINER",
            &[],
            &[inner, model("c")],
        )],
    );
    let node = read_one(graph).unwrap();
    let names: Vec<&str> = node
        .all()
        .iter()
        .map(|one| one.unit.name.as_str())
        .collect();
    assert_eq!(names, ["scale", "mean", "ab", "a", "b", "c"]);
    assert!(!node.is_plain());
}

/// The manifest of Seldon's tutorial of its epsilon-greedy router, over prepackaged servers.
#[test]
fn seldons_own_routers_are_known_by_their_images() {
    let of = |image: &str| {
        let spec = json!({"predictors": [{
            "name": "eg-2",
            "componentSpecs": [{"spec": {"containers": [
                {"name": "eg-router", "image": image, "imagePullPolicy": "IfNotPresent"},
                {"name": "rf-model", "resources": {"requests": {"memory": "1Mi"}}}
            ]}}],
            "graph": {
                "name": "eg-router",
                "type": "ROUTER",
                "parameters": [
                    {"name": "n_branches", "type": "INT", "value": "2"},
                    {"name": "verbose", "type": "BOOL", "value": "1"},
                    {"name": "branch_names", "type": "STRING", "value": "rf:xgb"},
                    {"name": "seed", "type": "INT", "value": "1"}
                ],
                "children": [model("rf-model"), model("xgb-model")]
            }
        }]});
        let spec: SeldonDeploymentSpec = serde_json::from_value(spec).unwrap();
        check("eg-experiment", &spec)?;
        let node = read(("eg-experiment", "p"), &spec, &spec.predictors[0])?;
        Ok::<Role, String>(node.role)
    };
    let greedy = Role::EpsilonGreedy {
        epsilon: 0.1,
        best_branch: None,
        seed: 1,
    };
    for image in [
        "seldonio/mab_epsilon_greedy:1.6.0-dev",
        "docker.io/seldonio/mab_epsilon_greedy",
        "seldonio/mab_epsilon_greedy:1.1@sha256:00",
    ] {
        assert_eq!(of(image), Ok(greedy), "{image}");
    }
    let thompson = of("seldonio/mab_thompson_sampling:1.15.0");
    assert_eq!(thompson, Ok(Role::Thompson { seed: 1 }));
    for image in [
        "me/mab_epsilon_greedy:1",
        "registry:5000/seldonio/mab_epsilon_greedy",
        "seldonio/mab_epsilon_greedy_pers:1",
    ] {
        let error = of(image).unwrap_err();
        assert!(
            error.contains("containers of one's own ('eg-router')"),
            "{error}"
        );
    }
}

/// Checks that each graph is refused with these words.
fn refused(cases: &[(Value, &str)]) {
    for (graph, words) in cases {
        let error = read_one(graph.clone()).unwrap_err();
        assert!(error.contains(words), "{graph}: {error}");
    }
}

#[test]
fn graphs_that_are_not_served_are_refused_with_their_place() {
    let unknown = |field: &str| {
        let mut child = model("a");
        child[field] = 1.into();
        router("r", "SIMPLE_ROUTER", &[], &[child])
    };
    let deep = (0..16).fold(model("m"), |below, index| {
        with(model(&format!("m{index}")), &[below])
    });
    let wide: Vec<Value> = (0..64).map(|index| model(&format!("m{index}"))).collect();
    let long = "a".repeat(51);
    refused(&[
        (
            unknown("modelURI"),
            "spec.predictors[0].graph.children[0].modelURI: a node has no such field",
        ),
        (
            router("r", "SIMPLE_ROUTER", &[], &[json!(7)]),
            "graph.children[0]: a node is an object",
        ),
        (with(model("a"), &[model("a")]), "two nodes are named 'a'"),
        (
            with(model("A_b"), &[model("a")]),
            "'A_b' is no name of a node",
        ),
        (
            with(model(&long), &[model("a")]),
            "longer than 63 characters",
        ),
        (deep, "16 from the first to the last"),
        (router("r", "SIMPLE_ROUTER", &[], &wide), "at most 64 nodes"),
    ]);
}

#[test]
fn nodes_that_are_not_served_are_refused_with_their_place() {
    let mut typed = router("mean", "AVERAGE_COMBINER", &[], &two());
    typed["type"] = "ROUTER".into();
    let mut triton = model("a");
    triton["implementation"] = "TRITON_SERVER".into();
    let mut without_uri = model("a");
    without_uri["modelUri"] = Value::Null;
    refused(&[
        (
            router("r", "SIMPLE_ROUTER", &[], &[]),
            "graph.children: SIMPLE_ROUTER has one or more, and here are 0",
        ),
        (
            router("r", "RANDOM_ABTEST", &[], &[model("a")]),
            "graph.children: RANDOM_ABTEST has two, and here are 1",
        ),
        (
            router("s", "SIMPLE_MODEL", &[], &[model("a")]),
            "SIMPLE_MODEL has none, and here are 1",
        ),
        (
            typed,
            "graph.type: ROUTER is not served here with AVERAGE_COMBINER; COMBINER is",
        ),
        (
            with(model("b"), &[triton]),
            "graph.children[0].implementation: TRITON_SERVER is not served here",
        ),
        // Seldon's own rules hold for every node.
        (
            with(model("b"), &[without_uri]),
            "Predictive unit modelUri required when using standalone servers",
        ),
        (
            with(model("b"), &[json!({"name": "c"})]),
            "Can't find container for Predictive Unit",
        ),
    ]);
}

#[test]
fn parameters_that_mean_nothing_are_refused() {
    let ab = |parameters: &[(&str, &str)]| router("r", "RANDOM_ABTEST", parameters, &two());
    let eg = |parameters: &[(&str, &str)]| router("eg", "EPSILON_GREEDY", parameters, &two());
    refused(&[
        (
            ab(&[("ratioA", "1.5")]),
            "ratioA is '1.5', and must be a number from 0 to 1",
        ),
        (ab(&[("ratioA", "NaN")]), "ratioA is 'NaN'"),
        (
            ab(&[("ratio", "0.5")]),
            "graph.parameters[0]: 'ratio' says nothing to RANDOM_ABTEST",
        ),
        (
            eg(&[("n_branches", "3")]),
            "n_branches is 3, and there are 2 children",
        ),
        (
            eg(&[("best_branch", "2")]),
            "best_branch is '2', and must be a whole number from 0 to 1",
        ),
        (eg(&[("seed", "-1")]), "seed is '-1'"),
    ]);
}

#[test]
fn predictors_with_graphs_have_services_of_their_own() {
    let of = |predictors: Value| {
        let spec: SeldonDeploymentSpec =
            serde_json::from_value(json!({"predictors": predictors})).unwrap();
        check("iris", &spec)
    };
    let graph = |name: &str| with(model(name), &[model("z")]);
    let half = |name: &str, graph: Value| json!({"name": name, "traffic": 50, "graph": graph});
    assert_eq!(
        of(json!([half("p", graph("a")), half("q", graph("a"))])),
        Ok(())
    );
    let error = of(json!([half("p", graph("b-c")), half("p-b", graph("c"))])).unwrap_err();
    assert!(error.contains("one service, iris-p-b-c"), "{error}");
    // Feedback would not know whose branch is meant.
    let error = of(json!([half("p", graph("iris")), half("q", graph("a"))])).unwrap_err();
    assert!(
        error.contains("has the name of the SeldonDeployment"),
        "{error}"
    );
    assert_eq!(of(json!([{"name": "p", "graph": graph("iris")}])), Ok(()));
    let shadow = json!({"name": "s", "shadow": true, "graph": model("a")});
    assert_eq!(
        of(json!([{"name": "p", "graph": graph("a")}, shadow])),
        Ok(())
    );
    // A shadow has a name of its own, which is no node's.
    let shadow = json!({"name": "p-a", "shadow": true, "graph": graph("b")});
    let error = of(json!([{"name": "p", "graph": graph("a")}, shadow])).unwrap_err();
    assert!(
        error.contains("spec.predictors[1].name: the shadow would be"),
        "{error}"
    );
}
