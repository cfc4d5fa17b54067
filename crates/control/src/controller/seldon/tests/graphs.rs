//! Graphs of several nodes: their services, their flow, and how one follows another. That no flow leads to a revision that is gone is asserted by the stage
//! in every round.

use coracle_serving::flow::{Join, PlannedBandit, PlannedFlow, Routing, Step};

use super::*;

fn model(name: &str, uri: &str) -> Value {
    json!({"name": name, "implementation": "SKLEARN_SERVER", "modelUri": uri})
}

fn node(name: &str, implementation: &str, children: &[Value]) -> Value {
    json!({"name": name, "implementation": implementation, "children": children})
}

fn chain(first: &str, second: &str) -> Value {
    let mut scale = model("scale", first);
    scale["children"] = json!([model("classify", second)]);
    scale
}

fn one(graph: Value) -> Value {
    json!({"predictors": [{"name": "default", "graph": graph}]})
}

fn flows(stage: &Stage) -> (Option<PlannedFlow>, Option<PlannedFlow>) {
    let planned = stage.plan.lock().unwrap().flows.values().next().cloned();
    let observed = stage.observed.get().flows.values().next().cloned();
    (planned, observed)
}

/// Returns the flow in force in short, each model with where its files are.
fn shown(stage: &Stage) -> String {
    let plan = stage.plan.lock().unwrap();
    let observed = stage.observed.get();
    let flow = observed.flows.values().next();
    let uri = |revision: &str| {
        let mut all = plan.revisions.iter();
        let found = all.find(|(id, _)| id.name == revision);
        found.map_or_else(
            || "gone".to_owned(),
            |(_, planned)| planned.source.uri.clone(),
        )
    };
    flow.map_or_else(String::new, |flow| short(&flow.root, &uri))
}

fn short(step: &Step, uri: &dyn Fn(&str) -> String) -> String {
    let several = |steps: &[Step]| {
        let all: Vec<String> = steps.iter().map(|step| short(step, uri)).collect();
        all.join(" ")
    };
    match step {
        Step::Ask(ask) => {
            let uri = uri(ask.revision.as_deref().unwrap());
            format!("{}={}", ask.node, uri.trim_start_matches("file:///"))
        }
        Step::Fixed { node } => node.clone(),
        Step::Chain(steps) => format!("({})", several(steps)),
        Step::All(all) => match all.join {
            Join::First => format!("first[{}]", several(&all.branches)),
            Join::Average => format!("{}[{}]", all.node, several(&all.branches)),
        },
        Step::One(one) => {
            let branches = one.branches.iter().map(|(_, branch)| branch.clone());
            let branches = several(&branches.collect::<Vec<Step>>());
            let how = match &one.routing {
                Routing::Shares(shares) => format!("{shares:?}"),
                Routing::Random { first } => first.to_string(),
                Routing::First => "first".to_owned(),
                Routing::Bandit(PlannedBandit::EpsilonGreedy { epsilon, .. }) => {
                    format!("epsilon {epsilon}")
                }
                Routing::Bandit(PlannedBandit::Thompson { .. }) => "thompson".to_owned(),
            };
            format!("{}<{how}>[{branches}]", one.node)
        }
    }
}

#[test]
fn every_role_becomes_a_step() {
    let two = [model("a", "file:///a"), model("b", "file:///b")];
    let mut after = model("label", "file:///l");
    after["type"] = "OUTPUT_TRANSFORMER".into();
    after["children"] = json!([two[0]]);
    let mut several = model("m", "file:///m");
    several["children"] = json!(two);
    let mut ab = node("ab", "RANDOM_ABTEST", &two);
    ab["parameters"] = json!([{"name": "ratioA", "value": "0.2"}]);
    for (graph, expected) in [
        (chain("file:///s", "file:///c"), "(scale=s classify=c)"),
        (after, "(a=a label=l)"),
        (several, "(m=m first[a=a b=b])"),
        (ab, "ab<0.2>[a=a b=b]"),
        (node("mean", "AVERAGE_COMBINER", &two), "mean[a=a b=b]"),
        (node("r", "SIMPLE_ROUTER", &two), "r<first>[a=a b=b]"),
        (
            node("eg", "EPSILON_GREEDY", &two),
            "eg<epsilon 0.1>[a=a b=b]",
        ),
        (
            node("ts", "THOMPSON_SAMPLING", &two),
            "ts<thompson>[a=a b=b]",
        ),
        (node("simple", "SIMPLE_MODEL", &[]), "simple"),
    ] {
        let mut stage = Stage::new();
        apply(&mut stage, one(graph.clone()));
        assert_eq!(shown(&stage), expected, "{graph}");
        assert_eq!(status(&stage)["state"], "Available", "{}", status(&stage));
        let name = flows(&stage).0.unwrap().name;
        assert_eq!(json!(name), graph["name"]);
    }
}

#[test]
fn each_model_is_a_service_with_its_own_state() {
    let mut stage = Stage::new();
    let container = json!({"name": "classify", "resources": {"limits": {"memory": "1Gi"}}});
    let mut graph = chain("file:///s", "file:///c");
    graph["type"] = "TRANSFORMER".into();
    graph["children"][0]["parameters"] = json!([{"name": "method", "value": "predict"}]);
    let spec = json!({"predictors": [{
        "name": "default",
        "replicas": 2,
        "graph": graph,
        "componentSpecs": [{"spec": {"containers": [container]}}]
    }]});
    apply(&mut stage, spec);
    assert_eq!(service(&stage, "flowers"), None);
    for (name, node, method) in [
        ("flowers-default-scale", "scale", Some("transform")),
        ("flowers-default-classify", "classify", None),
    ] {
        let made = service(&stage, name).unwrap();
        assert_eq!(validation::inference_service(None, &made), Ok(()), "{made}");
        let model = &made["spec"]["predictor"]["model"];
        assert_eq!(model["env"][0]["value"], node);
        assert_eq!(model["env"][1]["value"], "false");
        assert_eq!(model["env"][2]["value"].as_str(), method);
        let memory = model.pointer("/resources/limits/memory").cloned();
        assert_eq!(memory, (node == "classify").then(|| json!("1Gi")));
        let shown = status(&stage);
        let state = &shown["deploymentStatus"][format!("flowers-default-0-{node}")];
        assert_eq!(state["replicas"], 2, "{shown}");
        assert_eq!(shown["serviceStatus"][name]["svcName"], name);
    }
    let shown = status(&stage);
    assert_eq!(
        shown["address"]["url"],
        "http://localhost:8080/seldon/ml/flowers/api/v1.0/predictions"
    );
    // Nothing is written again and again.
    let version = stage.store.version();
    stage.settle();
    assert_eq!(stage.store.version(), version);
}

#[test]
fn predictors_share_the_requests_of_one_flow() {
    let mut stage = Stage::new();
    let half = |name: &str, graph: Value| json!({"name": name, "traffic": 50, "graph": graph});
    let spec = json!({"predictors": [
        half("a", chain("file:///s", "file:///c")),
        half("b", model("classify", "file:///d"))
    ]});
    apply(&mut stage, spec);
    let expected = "flowers<[50, 50]>[(scale=s classify=c) classify=d]";
    assert_eq!(shown(&stage), expected);
}

#[test]
fn models_that_change_together_change_together_for_requests() {
    let mut stage = Stage::new();
    apply(&mut stage, one(chain("file:///s", "file:///c")));
    assert_eq!(shown(&stage), "(scale=s classify=c)");
    // One of the two is not there yet: requests go as before.
    apply(&mut stage, one(chain("file:///s2", "file:///slow")));
    assert_eq!(shown(&stage), "(scale=s classify=c)");
    assert_eq!(status(&stage)["state"], "Creating");
    stage.is_slow_loaded = true;
    stage.settle();
    assert_eq!(shown(&stage), "(scale=s2 classify=slow)");
    assert_eq!(status(&stage)["state"], "Available");
    // What is not needed any more goes.
    let uris = |stage: &Stage| {
        let plan = stage.plan.lock().unwrap();
        let uris = plan.revisions.values().map(|one| one.source.uri.clone());
        uris.collect::<BTreeSet<String>>()
    };
    assert!(!uris(&stage).contains("file:///s"), "{:?}", uris(&stage));
    // One that cannot be loaded changes nothing, whatever else would.
    apply(&mut stage, one(chain("file:///s3", "file:///missing")));
    assert_eq!(shown(&stage), "(scale=s2 classify=slow)");
    assert_eq!(status(&stage)["state"], "Failed");
    apply(&mut stage, one(chain("file:///s3", "file:///c3")));
    assert_eq!(shown(&stage), "(scale=s3 classify=c3)");
}

#[test]
fn graphs_and_models_follow_each_other_without_a_gap() {
    let mut stage = Stage::new();
    let is_asked = |stage: &Stage| {
        let observed = stage.observed.get();
        let has_flow = observed.flows.keys().any(|id| id.name == "flowers");
        has_flow || observed.routes.keys().any(|id| id.name == "flowers")
    };
    let change = |stage: &mut Stage, spec: Value| {
        stage.is_slow_loaded = false;
        apply_without_settling(stage, spec);
        for _ in 0..20 {
            stage.round();
            assert!(is_asked(stage), "nobody answers");
        }
        stage.is_slow_loaded = true;
        for _ in 0..20 {
            stage.round();
            assert!(is_asked(stage), "nobody answers");
        }
        stage.settle();
    };
    apply(
        &mut stage,
        json!({"predictors": [predictor("default", "file:///a", json!({}))]}),
    );
    assert_eq!(split(&stage, "flowers"), of(&[("file:///a", 100)]));
    // A model becomes a graph, which takes long.
    change(&mut stage, one(chain("file:///slow", "file:///c")));
    assert_eq!(shown(&stage), "(scale=slow classify=c)");
    assert_eq!(service(&stage, "flowers"), None);
    // A graph becomes another, which shares a service with it.
    let two = [
        model("classify", "file:///c"),
        model("other", "file:///slow2"),
    ];
    change(&mut stage, one(node("mean", "AVERAGE_COMBINER", &two)));
    assert_eq!(shown(&stage), "mean[classify=c other=slow2]");
    assert_eq!(service(&stage, "flowers-default-scale"), None);
    // And a graph becomes a model.
    let last = predictor("default", "file:///slow3", json!({}));
    change(&mut stage, json!({"predictors": [last]}));
    assert_eq!(flows(&stage), (None, None));
    assert_eq!(split(&stage, "flowers"), of(&[("file:///slow3", 100)]));
    assert_eq!(service(&stage, "flowers-default-classify"), None);
    assert_eq!(status(&stage)["state"], "Available");
}

#[test]
fn a_graph_takes_no_name_and_no_service_of_others() {
    for name in ["flowers", "flowers-default-classify"] {
        let mut stage = Stage::new();
        let mine = json!({
            "metadata": {"name": name, "namespace": NAMESPACE, "uid": "m", "generation": 1},
            "spec": {"predictor": {"model": super::super::super::tests::model("file:///mine")}}
        });
        stage.store.create(key_of(name), mine).unwrap();
        stage.settle();
        apply(&mut stage, one(chain("file:///s", "file:///c")));
        assert_eq!(flows(&stage), (None, None), "{name}");
        let shown = status(&stage);
        assert_eq!(shown["state"], "Failed");
        let description = shown["description"].as_str().unwrap();
        let words = format!("the InferenceService {name} is there already");
        assert!(description.contains(&words), "{description}");
        assert_eq!(split(&stage, name), of(&[("file:///mine", 100)]));
    }
}

#[test]
fn a_graph_that_is_gone_takes_no_requests() {
    let mut stage = Stage::new();
    apply(&mut stage, one(chain("file:///s", "file:///c")));
    let stored = stage.store.get(&key()).unwrap();
    stage.store.delete(&key(), stored.version).unwrap();
    stage.round();
    assert_eq!(flows(&stage), (None, None));
}

fn named(stage: &Stage) -> Vec<(String, Option<ShadowSettings>)> {
    let observed = stage.observed.get();
    let flows = observed.flows.iter();
    flows
        .map(|(id, flow)| (id.name.clone(), flow.shadow.clone()))
        .collect()
}

#[test]
fn a_graph_may_be_a_shadow_and_have_one() {
    let mut stage = Stage::new();
    let taking = |graph: Value| json!({"name": "default", "graph": graph});
    let shadow =
        |graph: Value| json!({"name": "next", "shadow": true, "traffic": 20, "graph": graph});
    let settings = ShadowSettings {
        service: "flowers-next".to_owned(),
        percent: 20,
        kept: ShadowKept::Answers,
    };
    let expected = vec![
        ("flowers".to_owned(), Some(settings)),
        ("flowers-next".to_owned(), None),
    ];
    let chained = || chain("file:///s", "file:///c");
    for (own, other) in [
        (chained(), chain("file:///t", "file:///d")),
        (chained(), model("classify", "file:///d")),
        (
            model("classify", "file:///c"),
            chain("file:///t", "file:///d"),
        ),
    ] {
        apply(
            &mut stage,
            json!({"predictors": [taking(own), shadow(other)]}),
        );
        assert_eq!(named(&stage), expected);
        assert_eq!(status(&stage)["state"], "Available", "{}", status(&stage));
        let service = status(&stage)["serviceStatus"]["flowers-next-classify"].clone();
        assert_eq!(service["svcName"], "flowers-next-classify");
    }
    // Without the shadow it goes, with what was made of it.
    apply(&mut stage, json!({"predictors": [taking(chained())]}));
    assert_eq!(named(&stage), [("flowers".to_owned(), None)]);
    assert!(service(&stage, "flowers-next-classify").is_none());
    // A model alone needs no flow; its shadow is a service then.
    let plain = json!({"predictors": [taking(model("classify", "file:///c")), shadow(model("classify", "file:///d"))]});
    apply(
        &mut stage,
        json!({"predictors": [taking(chained()), shadow(chained())]}),
    );
    apply(&mut stage, plain);
    assert_eq!(named(&stage), []);
    assert_eq!(
        route(&stage, "flowers").shadow.unwrap().service,
        "flowers-next"
    );
}

#[test]
fn a_shadow_that_does_not_load_keeps_no_graph_up() {
    let mut stage = Stage::new();
    let taking = json!({"name": "default", "graph": chain("file:///s", "file:///c")});
    let shadow =
        json!({"name": "next", "shadow": true, "graph": chain("file:///t", "file:///missing")});
    apply(&mut stage, json!({"predictors": [taking, shadow]}));
    let names: Vec<String> = named(&stage).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["flowers"]);
    assert_eq!(status(&stage)["state"], "Failed", "{}", status(&stage));
}

/// Creates another SeldonDeployment, with a graph unless it is to be a model.
fn deploy(stage: &Stage, name: &str, made_at: &str, spec: Value) {
    let key = Key::new(&SELDON_DEPLOYMENT, NAMESPACE, name);
    let metadata = json!({
        "name": name, "namespace": NAMESPACE, "uid": name, "generation": 1, "creationTimestamp": made_at
    });
    let object = json!({"metadata": metadata, "spec": spec});
    drop(stage.store.create(key, object).unwrap());
}

/// Creates an InferenceService of nobody's.
fn serve(stage: &Stage, name: &str) {
    let mine = json!({
        "metadata": {"name": name, "namespace": NAMESPACE, "uid": "m", "generation": 1},
        "spec": {"predictor": {"model": super::super::super::tests::model("file:///mine")}}
    });
    drop(stage.store.create(key_of(name), mine).unwrap());
}

fn shadowed(own: Value, shadow: Value) -> Value {
    let shadow = json!({"name": "next", "shadow": true, "graph": shadow});
    json!({"predictors": [{"name": "default", "graph": own}, shadow]})
}

/// Returns which deployments' flows are in force, and whether they have a shadow.
fn has_shadow(stage: &Stage) -> Vec<(String, bool)> {
    let named = named(stage).into_iter();
    named
        .map(|(name, shadow)| (name, shadow.is_some()))
        .collect()
}

/// Settles, and fails if the deployment `flowers` takes no requests in some round.
fn settle_serving(stage: &mut Stage) {
    for _ in 0..20 {
        stage.round();
        let observed = stage.observed.get();
        let has_flow = observed.flows.keys().any(|id| id.name == "flowers");
        let has_route = observed.routes.keys().any(|id| id.name == "flowers");
        assert!(has_flow || has_route, "nobody answers");
    }
    stage.settle();
}

#[test]
fn a_shadow_takes_nobodys_name() {
    let chained = || chain("file:///s", "file:///c");
    let other = || chain("file:///t", "file:///d");
    let single = |uri: &str| model("classify", uri);
    let create: [fn(&Stage); 3] = [
        |stage| {
            let spec = one(chain("file:///s", "file:///c"));
            deploy(stage, "flowers-next", "", spec);
        },
        |stage| serve(stage, "flowers-next"),
        |stage| serve(stage, "flowers-next-classify"),
    ];
    // What of these names a shadow's own services have cannot be created later.
    for (own, shadow, ways, later) in [
        (chained(), other(), 0..3, 0..2),
        (single("file:///c"), other(), 0..3, 0..2),
        (chained(), single("file:///d"), 0..3, 0..2),
        // The shadow is one service.
        (single("file:///c"), single("file:///d"), 0..2, 0..1),
    ] {
        for (index, create) in create.iter().enumerate() {
            for is_first in [true, false] {
                let possible = if is_first { &ways } else { &later };
                if !possible.contains(&index) {
                    continue;
                }
                let case = format!("{own} {shadow} {index} {is_first}");
                let mut stage = Stage::new();
                apply(&mut stage, one(own.clone()));
                if is_first {
                    create(&stage);
                    settle_serving(&mut stage);
                }
                apply_without_settling(&mut stage, shadowed(own.clone(), shadow.clone()));
                settle_serving(&mut stage);
                if !is_first {
                    let before = status(&stage);
                    assert_eq!(before["state"], "Available", "{case}: {before}");
                    create(&stage);
                    settle_serving(&mut stage);
                }
                let shown = status(&stage);
                assert_eq!(shown["state"], "Failed", "{case}: {shown}");
                let why = shown["description"].as_str().unwrap();
                assert!(why.contains("there is no shadow: "), "{case}: {why}");
                assert!(why.contains("flowers-next"), "{case}: {why}");
                // No flow, and no service, hands copies to what is another's.
                let is_copied = has_shadow(&stage).into_iter().any(|(_, has)| has);
                assert!(!is_copied, "{case}");
                let plan = stage.plan.lock().unwrap();
                assert!(plan.routes.values().all(|route| route.shadow.is_none()));
                let of_other = plan.routes.keys().chain(plan.flows.keys());
                let mut of_other = of_other.filter(|id| id.name.starts_with("flowers-next"));
                assert!(of_other.next().is_some(), "{case}");
            }
        }
    }
}

#[test]
fn a_shadow_comes_back_with_its_name() {
    let mut stage = Stage::new();
    let chained = || chain("file:///s", "file:///c");
    serve(&stage, "flowers-next");
    apply(&mut stage, shadowed(chained(), chained()));
    assert_eq!(has_shadow(&stage), [("flowers".to_owned(), false)]);
    let stored = stage.store.get(&key_of("flowers-next")).unwrap();
    stage.store.delete(&stored.key, stored.version).unwrap();
    settle_serving(&mut stage);
    let both = [
        ("flowers".to_owned(), true),
        ("flowers-next".to_owned(), false),
    ];
    assert_eq!(has_shadow(&stage), both);
    assert_eq!(status(&stage)["state"], "Available", "{}", status(&stage));
}

#[test]
fn of_two_shadows_of_one_name_the_older_deployments_stays() {
    let graphs = |uri: &str, shadow: &str| {
        let mut spec = shadowed(chain("file:///s", uri), chain("file:///t", uri));
        spec["predictors"][1]["name"] = shadow.into();
        spec
    };
    for (a, a_b, has) in [
        ("2026-01-01", "2026-01-02", "a"),
        ("2026-01-02", "2026-01-01", "a-b"),
    ] {
        let mut stage = Stage::new();
        deploy(&stage, "a", a, graphs("file:///a", "b-c"));
        deploy(&stage, "a-b", a_b, graphs("file:///ab", "c"));
        stage.settle();
        let of = |name: &str| (name.to_owned(), name == has);
        assert_eq!(has_shadow(&stage), [of("a"), of("a-b"), of("a-b-c")]);
        for name in ["a", "a-b"] {
            let key = Key::new(&SELDON_DEPLOYMENT, NAMESPACE, name);
            let shown = stage.store.get(&key).unwrap().object["status"].clone();
            let words = "a-b-c, which is the shadow of an older SeldonDeployment";
            let description = shown["description"].as_str().unwrap_or_default();
            assert_eq!(description.contains(words), name != has, "{shown}");
        }
    }
}

#[test]
fn a_graph_that_serves_goes_on_when_its_name_is_taken() {
    for name in ["flowers", "flowers-default-new"] {
        let mut stage = Stage::new();
        apply(&mut stage, one(chain("file:///s", "file:///c")));
        serve(&stage, name);
        settle_serving(&mut stage);
        let mut next = chain("file:///s", "file:///c");
        next["children"][0]["children"] = json!([model("new", "file:///n")]);
        apply_without_settling(&mut stage, one(next));
        settle_serving(&mut stage);
        assert_eq!(shown(&stage), "(scale=s classify=c)", "{name}");
        let status = status(&stage);
        assert_eq!(status["state"], "Failed", "{status}");
        let words = format!("the InferenceService {name} is there already");
        let description = status["description"].as_str().unwrap();
        assert!(description.contains(&words), "{description}");
    }
}

/// Who names a graph where an InferenceService is meant is told that it is one.
#[test]
fn a_graph_is_no_inference_service_for_others() {
    let mut stage = Stage::new();
    apply(&mut stage, one(chain("file:///a", "file:///b")));
    let stands_in = json!({"serving.coracle.dev/fallback-service": "flowers"});
    stage.apply(json!({
        "metadata": {"annotations": stands_in},
        "spec": {"predictor": {"model": {"modelFormat": {"name": "sklearn"}, "storageUri": "file:///c"}}}
    }));
    let conditions = stage.status("/conditions");
    let conditions = conditions.as_array().unwrap();
    let mut found = conditions
        .iter()
        .filter(|one| one["type"] == "FallbackInForce");
    let message = found.next().unwrap()["message"].as_str().unwrap();
    let expected = "there is no InferenceService flowers in namespace ml, but a SeldonDeployment that is a graph of several nodes, which takes no part in this: its requests are split by its predictors (traffic, shadow) and routers";
    assert!(message.contains(expected), "{message}");
    // The services of its nodes do.
    let key = (NAMESPACE, "flowers-default-scale");
    assert_eq!(
        no_service(&stage.store, key.0, key.1),
        "there is no InferenceService flowers-default-scale in namespace ml"
    );
    let labels = &service(&stage, key.1).unwrap()["metadata"]["labels"];
    assert_eq!(labels["seldon-deployment-id"], "flowers");
}
