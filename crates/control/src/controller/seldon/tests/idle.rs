//! Predictors without replicas.

use super::*;

/// Two predictors, the first one with this share and so many replicas each.
fn two(share: i32, first: i32, second: i32) -> Value {
    let one = |name: &str, uri: &str, traffic: i32, replicas: i32| {
        predictor(name, uri, json!({"traffic": traffic, "replicas": replicas}))
    };
    json!({"predictors": [one("a", "file:///a", share, first), one("b", "file:///b", 100 - share, second)]})
}

fn shown(stage: &Stage) -> (String, String, [i64; 4]) {
    let status = status(stage);
    let text = |field: &str| status[field].as_str().unwrap_or_default().to_owned();
    let count = |name: &str, field: &str| {
        status["deploymentStatus"][name][field]
            .as_i64()
            .unwrap_or(-1)
    };
    let [a, b] = ["flowers-a-0-classifier", "flowers-b-0-classifier"];
    let counts = [
        count(a, "replicas"),
        count(a, "availableReplicas"),
        count(b, "replicas"),
        count(b, "availableReplicas"),
    ];
    (text("state"), text("description"), counts)
}

#[test]
fn a_predictor_without_replicas_takes_nothing_and_the_others_all() {
    let mut stage = Stage::new();
    let both = of(&[("file:///a", 70), ("file:///b", 30)]);
    apply(&mut stage, two(70, 1, 1));
    assert_eq!(split(&stage, "flowers"), both);
    for (first, second, left, name) in [(0, 1, "file:///b", "a"), (1, 0, "file:///a", "b")] {
        apply(&mut stage, two(70, first, second));
        assert_eq!(split(&stage, "flowers"), of(&[(left, 100)]));
        let (state, description, counts) = shown(&stage);
        let expected = format!("no replicas, and so no requests: {name}");
        assert_eq!((state.as_str(), description), ("Available", expected));
        let n = |n: i32| i64::from(n);
        assert_eq!(counts, [n(first), n(first), n(second), n(second)]);
        // It is out of memory, too.
        assert_eq!(stage.plan.lock().unwrap().revisions.len(), 1);
        apply(&mut stage, two(70, 1, 1));
        assert_eq!(split(&stage, "flowers"), both);
    }
}

#[test]
fn those_that_are_left_share_as_they_did() {
    let spec = |shares: &[(i32, i32)]| {
        let one = |(index, (traffic, replicas)): (usize, &(i32, i32))| {
            let change = json!({"traffic": traffic, "replicas": replicas});
            predictor(&format!("p{index}"), "file:///a", change)
        };
        let predictors: Vec<Value> = shares.iter().enumerate().map(one).collect();
        let object = json!({"spec": {"predictors": predictors}});
        let kept = super::super::idle::without_idle(&read_spec(&object).unwrap())?;
        let kept = kept.predictors.into_iter();
        Some(
            kept.map(|one| (one.name, one.traffic.unwrap()))
                .collect::<Vec<_>>(),
        )
    };
    let of = |pairs: &[(&str, i32)]| {
        Some(
            pairs
                .iter()
                .map(|&(name, share)| (name.to_owned(), share))
                .collect::<Vec<_>>(),
        )
    };
    assert_eq!(spec(&[(50, 1), (50, 2)]), None);
    assert_eq!(
        spec(&[(20, 0), (40, 1), (40, 1)]),
        of(&[("p1", 50), ("p2", 50)])
    );
    assert_eq!(
        spec(&[(40, 0), (10, 1), (20, 1), (30, 1)]),
        of(&[("p1", 17), ("p2", 33), ("p3", 50)])
    );
    assert_eq!(spec(&[(0, 1), (100, 0)]), of(&[("p0", 100)]));
    assert_eq!(spec(&[(50, 0), (50, 0)]), of(&[]));
}

#[test]
fn without_any_replicas_requests_are_told_why_until_there_are_some() {
    let mut stage = Stage::new();
    let with = |replicas: i32| json!({"replicas": replicas, "predictors": [predictor("a", "file:///a", json!({}))]});
    apply(&mut stage, with(1));
    for _ in 0..2 {
        apply(&mut stage, with(0));
        let absent = route(&stage, "flowers");
        assert!(absent.targets.is_empty());
        let absence = absent.absence.unwrap();
        assert_eq!(absence.model, "classifier");
        assert_eq!(
            absence.why,
            "the SeldonDeployment flowers has 0 replicas; it answers once it has some"
        );
        assert!(stage.plan.lock().unwrap().revisions.is_empty());
        assert_eq!(service(&stage, "flowers"), None);
        let (state, description, counts) = shown(&stage);
        assert_eq!((state.as_str(), counts), ("Available", [0, 0, -1, -1]));
        assert!(
            description.starts_with("no predictor has replicas: requests are answered with 503")
        );
        assert_eq!(status(&stage)["replicas"], 0);
        // So it is after a restart.
        stage = stage.restart();
        stage.settle();
        assert!(route(&stage, "flowers").absence.is_some());
        apply(&mut stage, with(2));
        assert_eq!(split(&stage, "flowers"), of(&[("file:///a", 100)]));
        assert_eq!(
            (shown(&stage).0.as_str(), shown(&stage).1.as_str()),
            ("Available", "")
        );
    }
    apply(&mut stage, with(0));
    stage.store.delete_whatever(&key()).unwrap();
    stage.settle();
    assert!(stage.plan.lock().unwrap().routes.is_empty());
}

/// Whom a number is not for has its own.
#[test]
fn what_is_scaled_by_use_goes_on_until_its_own_number_is_0() {
    let mut stage = Stage::new();
    let spec = |own: Value| {
        let component = json!({"hpaSpec": {"minReplicas": 1, "maxReplicas": 2}, "replicas": own});
        json!({"replicas": 0, "predictors": [predictor("a", "file:///a", json!({"componentSpecs": [component]}))]})
    };
    apply(&mut stage, spec(Value::Null));
    assert_eq!(split(&stage, "flowers"), of(&[("file:///a", 100)]));
    apply(&mut stage, spec(json!(0)));
    assert!(route(&stage, "flowers").absence.is_some());
}

/// There is no moment in which whoever asks is told that there is no such service.
#[test]
fn requests_are_told_why_until_what_is_loaded_answers() {
    let mut stage = Stage::new();
    let with = |replicas: i32| json!({"replicas": replicas, "predictors": [predictor("a", "file:///slow", json!({}))]});
    apply(&mut stage, with(0));
    apply(&mut stage, with(1));
    let absence = route(&stage, "flowers").absence.unwrap();
    assert!(
        absence
            .why
            .ends_with("those that it has now are being loaded"),
        "{}",
        absence.why
    );
    assert_eq!(shown(&stage).0, "Creating");
    stage.is_slow_loaded = true;
    stage.settle();
    assert_eq!(split(&stage, "flowers"), of(&[("file:///slow", 100)]));
    assert!(stage.controller().idle.is_empty());
}

/// Nobody is told that what failed is being loaded, before and after a restart.
#[test]
fn requests_are_told_why_while_what_there_is_again_cannot_be_loaded() {
    let mut stage = Stage::new();
    let with = |uri: &str, replicas: i32| json!({"replicas": replicas, "predictors": [predictor("a", uri, json!({}))]});
    let why = |stage: &Stage| route(stage, "flowers").absence.unwrap().why;
    let is_waking = |stage: &Stage| {
        let status = status(stage);
        let mut conditions = status["conditions"].as_array().unwrap().iter();
        conditions.any(|one| one["type"] == "Waking")
    };
    apply(&mut stage, with("file:///missing", 0));
    assert!(!is_waking(&stage));
    apply(&mut stage, with("file:///missing", 1));
    let expected = "the SeldonDeployment flowers had 0 replicas; those that it has now are not loaded: Revision \"flowers-predictor-00001\" failed with message: nothing at file:///missing.";
    for _ in 0..2 {
        assert_eq!(why(&stage), expected);
        assert_eq!(
            (shown(&stage).0.as_str(), is_waking(&stage)),
            ("Failed", true)
        );
        stage = stage.restart();
        stage.settle();
    }
    apply(&mut stage, with("file:///b", 1));
    assert_eq!(split(&stage, "flowers"), of(&[("file:///b", 100)]));
    assert!(!is_waking(&stage));
    // What has served is not waking after a restart, and one that is new is not either.
    let mut stage = stage.restart();
    stage.settle_with(|stage| assert!(!is_waking(stage)));
}

#[test]
fn graphs_without_replicas_take_nothing() {
    let mut stage = Stage::new();
    let graph = |uri: &str| {
        let classify =
            json!({"name": "classify", "implementation": "SKLEARN_SERVER", "modelUri": uri});
        json!({"name": "scale", "implementation": "SKLEARN_SERVER", "modelUri": "file:///s", "children": [classify]})
    };
    let spec = |first: i32, second: i32| {
        let one = |name: &str, replicas: i32| json!({"name": name, "traffic": 50, "replicas": replicas, "graph": graph(&format!("file:///{name}"))});
        json!({"predictors": [one("a", first), one("b", second)]})
    };
    let used = |stage: &Stage| {
        let observed = stage.observed.get();
        let plan = stage.plan.lock().unwrap();
        let flow = observed.flows.values().next()?;
        let used = flow.revisions().into_iter().map(|revision| {
            let mut all = plan.revisions.iter();
            let (_, planned) = all.find(|(id, _)| id.name == revision).unwrap();
            planned.source.uri.clone()
        });
        let mut used: Vec<String> = used.filter(|uri| uri != "file:///s").collect();
        used.sort();
        Some(used)
    };
    let uses = |names: &[&str]| {
        Some(
            names
                .iter()
                .map(|name| format!("file:///{name}"))
                .collect::<Vec<_>>(),
        )
    };
    apply(&mut stage, spec(1, 1));
    assert_eq!(used(&stage), uses(&["a", "b"]));
    apply(&mut stage, spec(0, 1));
    assert_eq!(used(&stage), uses(&["b"]));
    let counts = status(&stage)["deploymentStatus"]["flowers-a-0-classify"].clone();
    assert_eq!(
        (&counts["replicas"], &counts["availableReplicas"]),
        (&json!(0), &json!(0))
    );
    apply(&mut stage, spec(0, 0));
    assert_eq!(used(&stage), None);
    assert_eq!(route(&stage, "flowers").absence.unwrap().model, "scale");
    assert!(stage.plan.lock().unwrap().revisions.is_empty());
    apply(&mut stage, spec(1, 1));
    assert_eq!(used(&stage), uses(&["a", "b"]));
}

#[test]
fn a_shadow_without_replicas_gets_no_copies() {
    let mut stage = Stage::new();
    let spec = |replicas: i32| {
        let shadow = json!({"shadow": true, "replicas": replicas});
        json!({"predictors": [predictor("a", "file:///a", json!({})), predictor("next", "file:///b", shadow)]})
    };
    apply(&mut stage, spec(1));
    assert!(route(&stage, "flowers").shadow.is_some());
    apply(&mut stage, spec(0));
    assert!(route(&stage, "flowers").shadow.is_none());
    assert_eq!(service(&stage, "flowers-next"), None);
    assert_eq!(split(&stage, "flowers"), of(&[("file:///a", 100)]));
}
