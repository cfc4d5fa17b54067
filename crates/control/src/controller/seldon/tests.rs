//! SeldonDeployments from what people write to what is planned and shown.

mod graphs;
mod idle;
mod resilience;

use std::collections::BTreeSet;

use coracle_api::kind::SECRET;
use coracle_api::validation;
use coracle_serving::{PlannedRoute, ShadowKept, ShadowSettings};
use serde_json::{Value, json};

use super::super::scaling;
use super::super::tests::{NAMESPACE, Stage};
use super::*;

fn predictor(name: &str, uri: &str, change: Value) -> Value {
    let mut predictor = json!({
        "name": name,
        "graph": {"name": "classifier", "implementation": "SKLEARN_SERVER", "modelUri": uri, "children": []}
    });
    coracle_patch::merge_patch(&mut predictor, &change);
    predictor
}

fn key() -> Key {
    Key::new(&SELDON_DEPLOYMENT, NAMESPACE, "flowers")
}

/// Creates the SeldonDeployment `flowers`, or gives it another spec.
fn apply(stage: &mut Stage, spec: Value) {
    apply_without_settling(stage, spec);
    stage.settle();
}

fn apply_without_settling(stage: &mut Stage, spec: Value) {
    let object = json!({
        "metadata": {"name": "flowers", "namespace": NAMESPACE, "uid": "s", "generation": 1},
        "spec": spec
    });
    assert_eq!(check(&object), Ok(()));
    match stage.store.get(&key()) {
        None => drop(stage.store.create(key(), object).unwrap()),
        Some(stored) => {
            let mut changed = stored.object.clone();
            changed["spec"] = object["spec"].clone();
            drop(stage.store.update(&key(), stored.version, changed).unwrap());
        }
    }
}

fn status(stage: &Stage) -> Value {
    stage.store.get(&key()).unwrap().object["status"].clone()
}

fn service(stage: &Stage, name: &str) -> Option<Value> {
    let key = Key::new(&INFERENCE_SERVICE, NAMESPACE, name);
    stage.store.get(&key).map(|stored| stored.object.clone())
}

fn route(stage: &Stage, name: &str) -> PlannedRoute {
    let plan = stage.plan.lock().unwrap();
    let mut routes = plan.routes.iter();
    routes.find(|(id, _)| id.name == name).unwrap().1.clone()
}

/// Returns where each target's files are, with the share.
fn split(stage: &Stage, name: &str) -> Vec<(String, u8)> {
    let route = route(stage, name);
    let plan = stage.plan.lock().unwrap();
    let uri = |revision: &String| {
        let mut all = plan.revisions.iter();
        all.find(|(id, _)| id.name == *revision)
            .unwrap()
            .1
            .source
            .uri
            .clone()
    };
    let targets = route.targets.iter();
    let mut split: Vec<_> = targets
        .map(|target| (uri(&target.revision), target.percent))
        .collect();
    split.sort();
    split
}

/// Returns the predictors that callers are told of, each with its node and where its files are.
fn predictors(stage: &Stage) -> Vec<[String; 3]> {
    let route = route(stage, "flowers");
    let plan = stage.plan.lock().unwrap();
    let predictors = route.predictors.into_iter().map(|one| {
        let own = |name: &str| name == one.revisions[0];
        assert!(route.targets.iter().any(|target| own(&target.revision)));
        let mut all = plan.revisions.iter();
        let (_, revision) = all.find(|(id, _)| own(&id.name)).unwrap();
        [one.name, one.node, revision.source.uri.clone()]
    });
    predictors.collect()
}

fn of(pairs: &[(&str, u8)]) -> Vec<(String, u8)> {
    pairs
        .iter()
        .map(|(uri, percent)| ((*uri).to_owned(), *percent))
        .collect()
}

/// As Seldon's tutorials with MinIO do it.
#[test]
fn the_secret_of_a_node_has_the_credentials_for_its_files() {
    let mut stage = Stage::new();
    let secret = Key::new(&SECRET, NAMESPACE, "rclone");
    let data = json!({"data": {
        "RCLONE_CONFIG_S3_ACCESS_KEY_ID": "bWluaW9hZG1pbg==",
        "RCLONE_CONFIG_S3_ENDPOINT": "aHR0cDovL21pbmlvOjkwMDA="
    }});
    stage.store.create(secret, data).unwrap();
    let of = |secret: &str| json!({"graph": {"envSecretRefName": secret}});
    let shadow = json!({"shadow": true, "graph": {"envSecretRefName": "rclone"}});
    let spec = |secret: &str| {
        json!({"predictors": [
            predictor("a", "s3://models/a", of(secret)),
            predictor("b", "s3://models/b", shadow.clone())
        ]})
    };
    apply(&mut stage, spec("rclone"));
    {
        let plan = stage.plan.lock().unwrap();
        assert_eq!(plan.revisions.len(), 2);
        for planned in plan.revisions.values() {
            let source = &planned.source;
            assert_eq!(source.secret_data["AWS_ACCESS_KEY_ID"], "minioadmin");
            let endpoint = &source.secret_annotations["serving.kserve.io/s3-endpoint"];
            assert_eq!(endpoint, "http://minio:9000");
        }
    }
    // Without it there are none.
    apply(&mut stage, spec(""));
    let made = service(&stage, "flowers").unwrap();
    let name = "serving.kserve.io/storageSecretName";
    assert_eq!(made["metadata"]["annotations"].get(name), None);
    let two = json!({"predictors": [
        predictor("a", "s3://models/a", json!({"traffic": 50, "graph": {"envSecretRefName": "rclone"}})),
        predictor("b", "s3://models/b", json!({"traffic": 50}))
    ]});
    let object = json!({"metadata": {"name": "flowers", "namespace": NAMESPACE}, "spec": two});
    assert_eq!(
        check(&object).unwrap_err(),
        "spec.predictors[1].graph.envSecretRefName: '' of b and 'rclone' of a; predictors that are one model each have the same secret here"
    );
}

#[test]
fn an_autoscaler_of_a_component_is_that_of_its_models() {
    let mut stage = Stage::new();
    let metric =
        json!({"type": "Resource", "resource": {"name": "cpu", "targetAverageUtilization": 70}});
    let components = json!([{
        "hpaSpec": {"minReplicas": 2, "maxReplicas": 4, "metrics": [metric]},
        "pdbSpec": {"minAvailable": 1},
        "spec": {"containers": [{"name": "classifier", "resources": {"requests": {"cpu": "2"}}}]}
    }]);
    let one = predictor("a", "file:///a", json!({"componentSpecs": components}));
    apply(&mut stage, json!({"predictors": [one]}));
    let made = service(&stage, "flowers").unwrap();
    let scaled = made["spec"]["predictor"].clone();
    assert_eq!(
        [
            "minReplicas",
            "maxReplicas",
            "scaleMetric",
            "scaleTarget",
            "scaleMetricType"
        ]
        .map(|field| scaled[field].clone()),
        [
            json!(2),
            json!(4),
            json!("cpu"),
            json!(70),
            json!("Utilization")
        ]
    );
    assert_eq!(scaling::check(&made).map_err(|why| why.to_string()), Ok(()));
    assert_eq!(
        stage
            .plan
            .lock()
            .unwrap()
            .revisions
            .values()
            .next()
            .unwrap()
            .replicas,
        2
    );
    // Without it there is as much as there was.
    apply(
        &mut stage,
        json!({"predictors": [predictor("a", "file:///a", json!({}))]}),
    );
    let made = service(&stage, "flowers").unwrap();
    assert_eq!(made["spec"]["predictor"].get("maxReplicas"), None);
    let half = |name: &str| {
        predictor(
            name,
            "file:///a",
            json!({"traffic": 50, "componentSpecs": components}),
        )
    };
    let two = json!({"predictors": [half("a"), half("b")]});
    let object = json!({"metadata": {"name": "flowers", "namespace": NAMESPACE}, "spec": two});
    let error = check(&object).unwrap_err();
    assert!(
        error.starts_with(
            "spec.predictors[0].componentSpecs[0].hpaSpec is not served where several predictors"
        ),
        "{error}"
    );
}

#[test]
fn tensorflows_protocol_is_shown_by_its_path() {
    let mut stage = Stage::new();
    let graph = json!({"graph": {"name": "halfplustwo", "implementation": "TENSORFLOW_SERVER"}});
    let predictors = [predictor("default", "file:///a", graph)];
    apply(
        &mut stage,
        json!({"protocol": "tensorflow", "predictors": predictors}),
    );
    let shown = status(&stage);
    assert_eq!(shown["state"], "Available", "{shown}");
    assert_eq!(
        shown["address"]["url"],
        "http://localhost:8080/seldon/ml/flowers/v1/models/halfplustwo:predict"
    );
    let plan = stage.plan.lock().unwrap();
    let planned = plan.revisions.values().next().unwrap();
    assert_eq!(planned.model_name, "halfplustwo");
}

#[test]
fn a_model_is_served_by_its_graphs_name_with_probabilities() {
    let mut stage = Stage::new();
    apply(
        &mut stage,
        json!({"predictors": [predictor("default", "file:///a", json!({"replicas": 2}))]}),
    );
    assert_eq!(split(&stage, "flowers"), of(&[("file:///a", 100)]));
    {
        let plan = stage.plan.lock().unwrap();
        let planned = plan.revisions.values().next().unwrap();
        assert_eq!(planned.model_name, "classifier");
        assert_eq!(planned.source.environment["PREDICT_PROBA"], "true");
    }
    let shown = status(&stage);
    assert_eq!(
        (&shown["state"], &shown["replicas"]),
        (&json!("Available"), &json!(2))
    );
    assert_eq!(
        shown["address"]["url"],
        "http://localhost:8080/seldon/ml/flowers/api/v1.0/predictions"
    );
    let predictor = &shown["deploymentStatus"]["flowers-default-0-classifier"];
    assert_eq!(predictor["replicas"], 2);
    assert!(
        predictor["availableReplicas"].as_i64().unwrap() > 0,
        "{predictor}"
    );
    // What is written by hand is put right, and nothing is written again and again.
    let version = stage.store.version();
    stage.settle();
    assert_eq!(stage.store.version(), version);
    let other = key_of("flowers");
    let stored = stage.store.get(&other).unwrap();
    let mut object = stored.object.clone();
    object["spec"]["predictor"]["model"]["storageUri"] = "file:///z".into();
    stage.store.update(&other, stored.version, object).unwrap();
    stage.settle();
    assert_eq!(split(&stage, "flowers"), of(&[("file:///a", 100)]));
}

fn key_of(service: &str) -> Key {
    Key::new(&INFERENCE_SERVICE, NAMESPACE, service)
}

/// Who of several answered is told, and of one nothing has to be; a shadow answers nobody.
#[test]
fn several_predictors_are_told_by_their_names_and_nodes() {
    let mut stage = Stage::new();
    let share = |percent: i32| json!({"traffic": percent});
    let a = predictor("model-a", "file:///a", share(60));
    let b = json!({"traffic": 40, "graph": {"name": "other"}});
    let b = predictor("model-b", "file:///b", b);
    let shadow = predictor("next", "file:///c", json!({"shadow": true}));
    apply(&mut stage, json!({"predictors": [a, b, shadow.clone()]}));
    let expected = [
        ["model-a", "classifier", "file:///a"],
        ["model-b", "other", "file:///b"],
    ];
    assert_eq!(predictors(&stage), expected.map(|of| of.map(str::to_owned)));
    let only = predictor("model-a", "file:///a", share(100));
    apply(&mut stage, json!({"predictors": [only, shadow]}));
    assert_eq!(predictors(&stage), Vec::<[String; 3]>::new());
}

#[test]
fn predictors_have_their_shares_and_a_shadow_gets_copies() {
    let mut stage = Stage::new();
    let share = |percent: i32| json!({"traffic": percent});
    let a = predictor("model-a", "file:///a", share(50));
    let b = predictor(
        "model-b",
        "file:///b",
        json!({"traffic": 50, "graph": {"name": "other", "parameters": [{"name": "method", "value": "predict"}]}}),
    );
    let shadow = predictor("next", "file:///c", json!({"shadow": true, "traffic": 20}));
    apply(&mut stage, json!({"predictors": [a, b, shadow]}));
    assert_eq!(
        split(&stage, "flowers"),
        of(&[("file:///a", 50), ("file:///b", 50)])
    );
    let expected = ShadowSettings {
        service: "flowers-next".to_owned(),
        percent: 20,
        kept: ShadowKept::Answers,
    };
    assert_eq!(route(&stage, "flowers").shadow, Some(expected));
    assert_eq!(split(&stage, "flowers-next"), of(&[("file:///c", 100)]));
    {
        let plan = stage.plan.lock().unwrap();
        let mut named: Vec<_> = plan
            .revisions
            .values()
            .map(|planned| {
                let environment = &planned.source.environment;
                (
                    planned.source.uri.as_str(),
                    planned.model_name.as_str(),
                    environment["PREDICT_PROBA"].as_str(),
                )
            })
            .collect();
        named.sort_unstable();
        assert_eq!(
            named,
            [
                ("file:///a", "classifier", "true"),
                ("file:///b", "other", "false"),
                ("file:///c", "classifier", "true")
            ]
        );
    }
    assert_eq!(status(&stage)["state"], "Available");
    let states = status(&stage)["deploymentStatus"]
        .as_object()
        .unwrap()
        .len();
    assert_eq!(states, 3);
    // What is made would pass as an InferenceService of its user's.
    for name in ["flowers", "flowers-next"] {
        let made = service(&stage, name).unwrap();
        assert_eq!(validation::inference_service(None, &made), Ok(()), "{made}");
    }
    // One predictor is left, without a share; what was the shadow's goes.
    apply(
        &mut stage,
        json!({"predictors": [predictor("model-b", "file:///b", json!({}))]}),
    );
    assert_eq!(split(&stage, "flowers"), of(&[("file:///b", 100)]));
    assert_eq!(route(&stage, "flowers").shadow, None);
    assert_eq!(service(&stage, "flowers-next"), None);
    let (revisions, _) = stage
        .store
        .list(&coracle_api::kind::REVISION, Some(NAMESPACE));
    let of_shadow = |revision: &Arc<Stored>| revision.key.name().starts_with("flowers-next");
    assert!(!revisions.iter().any(of_shadow));
}

#[test]
fn models_that_serve_no_more_are_let_go_of_whatever_they_are_called() {
    let mut stage = Stage::new();
    let uris = |stage: &Stage| {
        let plan = stage.plan.lock().unwrap();
        let planned = plan.revisions.values();
        let mut uris: Vec<String> = planned.map(|one| one.source.uri.clone()).collect();
        uris.sort();
        uris
    };
    for uri in ["file:///a", "file:///b", "file:///c"] {
        let one = predictor("default", uri, json!({}));
        apply(&mut stage, json!({"predictors": [one]}));
    }
    assert_eq!(split(&stage, "flowers"), of(&[("file:///c", 100)]));
    // What was rolled out before is at hand as long as it may be asked back, and no longer.
    assert!(
        !uris(&stage).contains(&"file:///a".to_owned()),
        "{:?}",
        uris(&stage)
    );
    let stored = stage.store.get(&key()).unwrap();
    stage.store.delete(&key(), stored.version).unwrap();
    let service = stage.store.get(&key_of("flowers")).unwrap();
    let deleted = stage.store.delete(&key_of("flowers"), service.version);
    deleted.unwrap();
    stage.settle();
    assert_eq!(uris(&stage), Vec::<String>::new());
}

#[test]
fn how_it_stands_follows_its_models() {
    let mut stage = Stage::new();
    apply(
        &mut stage,
        json!({"predictors": [predictor("default", "file:///slow", json!({}))]}),
    );
    assert_eq!(status(&stage)["state"], "Creating");
    stage.is_slow_loaded = true;
    stage.settle();
    assert_eq!(status(&stage)["state"], "Available");
    apply(
        &mut stage,
        json!({"predictors": [predictor("default", "file:///missing", json!({}))]}),
    );
    let shown = status(&stage);
    assert_eq!(shown["state"], "Failed");
    let description = shown["description"].as_str().unwrap();
    assert!(
        description.contains("nothing at file:///missing"),
        "{description}"
    );
    let predictor = &shown["deploymentStatus"]["flowers-default-0-classifier"];
    assert_eq!(predictor["description"], "nothing at file:///missing");
    // What served goes on.
    assert_eq!(split(&stage, "flowers"), of(&[("file:///slow", 100)]));
}

#[test]
fn an_inference_service_of_somebody_else_is_left_alone() {
    let mut stage = Stage::new();
    let mine = json!({
        "metadata": {"name": "flowers", "namespace": NAMESPACE, "uid": "m", "generation": 1},
        "spec": {"predictor": {"model": super::super::tests::model("file:///mine")}}
    });
    stage.store.create(key_of("flowers"), mine).unwrap();
    stage.settle();
    apply(
        &mut stage,
        json!({"predictors": [predictor("default", "file:///a", json!({}))]}),
    );
    assert_eq!(split(&stage, "flowers"), of(&[("file:///mine", 100)]));
    let shown = status(&stage);
    assert_eq!(shown["state"], "Failed");
    let description = shown["description"].as_str().unwrap();
    assert!(
        description.contains("InferenceService flowers is there already"),
        "{description}"
    );
}

#[test]
fn timeouts_and_resources_reach_the_services() {
    let mut stage = Stage::new();
    let container = json!({"name": "classifier", "env": [{"name": "A", "value": "b"}], "resources": {"limits": {"memory": "1Gi"}}});
    let change = json!({
        "annotations": {"seldon.io/rest-timeout": "2500"},
        "componentSpecs": [{"replicas": 3, "spec": {"containers": [container]}}]
    });
    apply(
        &mut stage,
        json!({"protocol": "v2", "predictors": [predictor("default", "file:///a", change)]}),
    );
    let made = service(&stage, "flowers").unwrap();
    let predictor = &made["spec"]["predictor"];
    assert_eq!(
        (&predictor["timeout"], &predictor["minReplicas"]),
        (&json!(3), &json!(3))
    );
    assert_eq!(predictor["model"]["resources"]["limits"]["memory"], "1Gi");
    let plan = stage.plan.lock().unwrap();
    let environment = &plan.revisions.values().next().unwrap().source.environment;
    assert_eq!(
        (
            environment["A"].as_str(),
            environment["PREDICT_PROBA"].as_str()
        ),
        ("b", "false")
    );
    drop(plan);
    assert_eq!(
        status(&stage)["address"]["url"],
        "http://localhost:8080/seldon/ml/flowers/v2/models/classifier/infer"
    );
}

#[test]
fn more_replicas_than_there_can_be_are_refused_and_overflow_nothing() {
    let of = |n: i32| {
        let one = |name: &str| predictor(name, "file:///a", json!({"replicas": n, "traffic": 50}));
        let spec = json!({"predictors": [one("a"), one("b")]});
        json!({
            "metadata": {"name": "flowers", "namespace": NAMESPACE, "uid": "s", "generation": 1},
            "spec": spec
        })
    };
    assert_eq!(check(&of(500)), Ok(()));
    let error = check(&of(501)).unwrap_err();
    let expected = "spec.predictors[0]: 501 replicas of a; at most 500 are allowed";
    assert_eq!(error, expected);
    let error = check(&of(-1)).unwrap_err();
    assert_eq!(
        error,
        "spec.predictors[0]: -1 replicas of a; at least 0 are allowed"
    );
    // One that was stored before that was refused.
    let spec = read_spec(&of(2_000_000_000)).unwrap();
    assert_eq!(children::all_replicas(&spec), i32::MAX);
}

#[test]
fn what_is_made_of_a_deployment_that_has_just_gone_goes_too() {
    let mut stage = Stage::new();
    apply(
        &mut stage,
        json!({"predictors": [predictor("a", "file:///a", json!({}))]}),
    );
    let gone = stage.store.delete_whatever(&key()).unwrap();
    stage.settle();
    let orphan = Key::new(&INFERENCE_SERVICE, NAMESPACE, "orphan");
    let object = json!({"metadata": {"name": "orphan", "namespace": NAMESPACE, "uid": "o", "ownerReferences": [{
        "apiVersion": SELDON_DEPLOYMENT.api_version(), "kind": SELDON_DEPLOYMENT.kind, "name": "flowers",
        "uid": object::meta_str(&gone.object, "uid"), "controller": true
    }]}});
    let id = ServiceId {
        namespace: NAMESPACE.to_owned(),
        name: "flowers".to_owned(),
    };
    // It was put off while the deployment was there.
    let controller = stage.controller();
    let (key, object) = (orphan.clone(), object);
    controller
        .pending
        .push((id.clone(), Write::Create { key, object }));
    assert_eq!(controller.write_pending(), [id].into());
    assert!(stage.store.get(&orphan).is_none());
}
