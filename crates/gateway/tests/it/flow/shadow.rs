//! Graphs with shadows, which are graphs, too.

use coracle_serving::{FallbackSettings, ShadowKept, ShadowSettings};

use super::*;

/// Starts a server with the flow `iris` whose shadow is the flow `next`.
fn start_pair(root: Step, shadow: Step) -> Running {
    start_pair_of(root, shadow, None)
}

/// The same; something may stand in for the model `bad`.
fn start_pair_of(root: Step, shadow: Step, stands_in: Option<&str>) -> Running {
    let stands_in = stands_in.map(|value| FallbackSettings {
        value: Some(value.to_owned()),
        ..FallbackSettings::default()
    });
    start_with(config(Limits::default()), move |_| {
        let models: BTreeMap<String, Arc<ServedModel>> = MODELS
            .into_iter()
            .map(|(name, of)| (name.to_owned(), model(name, of)))
            .collect();
        models["bad"].set_fallback(stands_in.as_ref());
        let find = |revision: &RevisionId| models.get(&revision.name).cloned();
        let flow = |name: &str, root, shadow| {
            let planned = PlannedFlow {
                name: "first".to_owned(),
                root,
                shadow,
                fallback: None,
            };
            let flow = Flow::try_new(&id(name), &planned, &find, None).unwrap();
            (id(name), Arc::new(flow))
        };
        let settings = ShadowSettings {
            service: "next".to_owned(),
            percent: 100,
            kept: ShadowKept::Requests,
        };
        let flows = [
            flow("iris", root, Some(settings)),
            flow("next", shadow, None),
        ];
        let routes = models
            .iter()
            .map(|(name, model)| (id(name), Arc::new(Route::single(Arc::clone(model)))));
        ModelTable::from_routes(routes.collect()).with_flows(flows.into())
    })
}

/// Waits until so many copies are compared; returns the first comparison.
fn compared(server: &Running, n_copies: u64) -> Value {
    loop {
        let answer = send(server.address, "GET", "/serving/ml/iris/shadow", &[], b"");
        let report: Value = serde_json::from_str(&answer.body).unwrap();
        let found = &report["shadows"][0]["comparisons"][0];
        if found["requests"].as_u64() >= Some(n_copies) {
            return found.clone();
        }
        std::thread::yield_now();
    }
}

fn outcome(comparison: &Value, name: &str) -> u64 {
    let outcomes = comparison["outcomes"].as_array().unwrap();
    let found = outcomes.iter().find(|one| one["name"] == name);
    found.unwrap()["count"].as_u64().unwrap()
}

#[test]
fn a_graphs_answers_are_compared_with_its_shadows() {
    let chain = |last| Step::Chain(vec![ask("double"), ask(last)]);
    let server = start_pair(chain("swap"), chain("tenth"));
    // The same where both numbers are 0.
    for first in [0.0, 0.0, 1.0] {
        let (status, answer) = predict(&server, &json!([[first, 0]]));
        assert_eq!(status, 200);
        assert_eq!(answer["data"]["ndarray"], json!([[0.0, 2.0 * first]]));
    }
    let found = compared(&server, 3);
    assert_eq!(
        (outcome(&found, "agreed"), outcome(&found, "differed")),
        (2, 1),
        "{found}"
    );
    assert_eq!(found["stable"], "double + swap");
    assert_eq!(found["shadow"], "double + tenth");
    let numbers = &found["outputs"][0]["numbers"];
    assert_eq!(
        (&found["outputs"][0]["name"], &numbers["distanceMax"]),
        (&json!("data"), &json!(2.0))
    );
    let kept = found["worst"][0]["request"].as_str().unwrap();
    assert!(kept.contains("[[1.0,0]]"), "{kept}");
    // Its copies are nobody's requests.
    for (name, n_requests) in [("double", 3), ("swap", 3), ("tenth", 0)] {
        let labels = format!(r#"model="{name}",version="1",protocol="seldon",code="ok""#);
        has_line(
            &server,
            &format!("coracle_requests_total{{{labels}}} {n_requests}"),
        );
    }
}

#[test]
fn shadows_of_graphs_change_no_answer() {
    for (shadow, name) in [
        (ask("bad"), "failed"),
        (ask("wide"), "incomparable"),
        (average(&["double", "double"]), "agreed"),
        (
            one("r", Routing::Random { first: 1.0 }, &["double", "bad"]),
            "agreed",
        ),
        (Step::Chain(vec![ask("wide"), ask("double")]), "failed"),
    ] {
        let server = start_pair(ask("double"), shadow);
        for _ in 0..4 {
            let (status, answer) = predict(&server, &json!([[1, 2]]));
            assert_eq!(
                (status, &answer["data"]["ndarray"]),
                (200, &json!([[2.0, 4.0]]))
            );
        }
        let found = compared(&server, 4);
        assert_eq!(outcome(&found, name), 4, "{found}");
    }
}

#[test]
fn every_protocol_is_copied() {
    let server = start_pair(ask("double"), average(&["double", "double"]));
    let (status, _) = post(
        &server,
        "/seldon/ml/iris/v1/models/first:predict",
        &json!({"instances": [[1, 2]]}),
    );
    assert_eq!(status, 200);
    let inputs = json!([{"name": "X", "datatype": "FP64", "shape": [1, 2], "data": [1, 2]}]);
    let path = "/seldon/ml/iris/v2/models/first/infer";
    assert_eq!(post(&server, path, &json!({"inputs": inputs})).0, 200);
    let raw = json!({"inputs": inputs, "outputs": [{"name": "transform", "parameters": {"binary_data": false}}]});
    assert_eq!(post(&server, path, &raw).0, 200);
    let found = compared(&server, 3);
    assert_eq!(outcome(&found, "agreed"), 3, "{found}");
}

/// As of a model: what stood in says nothing of how the two compare.
#[test]
fn an_answer_that_something_stood_in_for_is_a_failure_of_the_graph() {
    let step = |last: &str| Step::Chain(vec![ask(last), ask("double")]);
    let server = start_pair_of(step("bad"), step("double"), Some("[9, 9]"));
    let answer = send(
        server.address,
        "POST",
        "/seldon/ml/iris/api/v1.0/predictions",
        &[JSON],
        br#"{"data": {"ndarray": [[1, 2]]}}"#,
    );
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.header("x-coracle-fallback"), Some("constant"));
    let found = compared(&server, 1);
    assert_eq!(outcome(&found, "stable_failed"), 1, "{found}");
}
