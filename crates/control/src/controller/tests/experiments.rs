//! Experiments from manifest to plan.

use coracle_api::kind::EXPERIMENT;
use coracle_serving::experiment::{ExperimentId, ExperimentSummary, SummaryVerdict};

use super::*;

const COMMAND: &str = "serving.coracle.dev/experiment";
const FIRST: &str = "iris-predictor-00001";
const SECOND: &str = "iris-predictor-00002";

fn experiment_key(name: &str) -> Key {
    Key::new(&EXPERIMENT, NAMESPACE, name)
}

/// Creates an experiment over the first two revisions, with what else its spec says.
fn create(stage: &mut Stage, name: &str, more: &Value) {
    let mut spec = json!({
        "inferenceService": SERVICE,
        "unit": {"header": "x-user"},
        "variants": [{"name": "a", "revision": FIRST}, {"name": "b", "revision": SECOND}]
    });
    coracle_patch::merge_patch(&mut spec, more);
    let created = format!(
        "2026-01-0{}T00:00:00Z",
        stage.store.list(&EXPERIMENT, None).0.len() + 1
    );
    let object = json!({
        "metadata": {"name": name, "namespace": NAMESPACE, "uid": format!("u-{name}"), "generation": 1, "creationTimestamp": created},
        "spec": spec
    });
    stage.store.create(experiment_key(name), object).unwrap();
    stage.settle();
}

fn status(stage: &Stage, name: &str) -> Value {
    let stored = stage.store.get(&experiment_key(name)).unwrap();
    stored.object["status"].clone()
}

/// The experiments that are in force, with their winners.
fn in_force(stage: &Stage) -> Vec<(String, Option<String>)> {
    let plan = stage.plan.lock().unwrap();
    let planned = plan.routes.values().flat_map(|route| &route.experiments);
    planned
        .map(|one| (one.name.clone(), one.winner.clone()))
        .collect()
}

fn running(name: &str) -> Vec<(String, Option<String>)> {
    vec![(name.to_owned(), None)]
}

fn won(name: &str, winner: &str) -> Vec<(String, Option<String>)> {
    vec![(name.to_owned(), Some(winner.to_owned()))]
}

fn tell(stage: &mut Stage, name: &str, command: &str) {
    stage.change(&experiment_key(name), |object| {
        object["metadata"]["annotations"] = json!({COMMAND: command});
    });
    stage.settle();
    let stored = stage.store.get(&experiment_key(name)).unwrap();
    assert_eq!(object::text(&stored.object, "annotations", COMMAND), None);
}

/// What the serving process tells.
fn report(stage: &mut Stage, name: &str, verdict: SummaryVerdict) {
    report_units(stage, name, verdict, 10);
}

/// The same, with so many units of the control.
fn report_units(stage: &mut Stage, name: &str, verdict: SummaryVerdict, units: u64) {
    let summary = ExperimentSummary {
        stage: None,
        id: ExperimentId {
            namespace: NAMESPACE.to_owned(),
            name: name.to_owned(),
        },
        uid: format!("u-{name}"),
        variants: vec![("a".to_owned(), units, 12), ("b".to_owned(), 11, 11)],
        n_unassigned: 2,
        verdict,
        why: "as the numbers say".to_owned(),
    };
    let loads = Arc::clone(&stage.controller.as_ref().unwrap().config.loads);
    loads.set_experiments(vec![summary]);
    stage.settle();
}

/// A service of two revisions, of which the first takes all requests.
fn stage() -> Stage {
    let mut stage = Stage::new();
    stage.predictor(json!({"model": model("file:///a"), "canaryTrafficPercent": 0}));
    stage.predictor(json!({"model": model("file:///b")}));
    stage
}

#[test]
fn it_is_in_force_once_all_its_revisions_are_there() {
    let mut stage = Stage::new();
    stage.predictor(json!({"model": model("file:///a"), "canaryTrafficPercent": 0}));
    create(&mut stage, "ab", &json!({}));
    assert_eq!(status(&stage, "ab")["phase"], "Waiting");
    let message = status(&stage, "ab")["message"].as_str().unwrap().to_owned();
    assert_eq!(
        message,
        format!(
            "variant b: there is no revision {SECOND}; `kubectl get revisions` lists those that there are"
        )
    );
    stage.predictor(json!({"model": model("file:///slow")}));
    assert_eq!(in_force(&stage), []);
    stage.is_slow_loaded = true;
    stage.settle();
    stage.settle();
    assert_eq!(in_force(&stage), running("ab"));
    assert_eq!(status(&stage, "ab")["phase"], "Running");
    // A third revision: those of the experiment stay in memory.
    stage.predictor(json!({"model": model("file:///c")}));
    assert_eq!(in_force(&stage), running("ab"));
    let plan = stage.plan.lock().unwrap();
    let held: Vec<&str> = plan.revisions.keys().map(|id| id.name.as_str()).collect();
    assert_eq!(held, [FIRST, SECOND, "iris-predictor-00003"]);
}

#[test]
fn experiments_of_one_service_are_parts_of_one_group() {
    let mut stage = stage();
    let part = |name: &str, from: i32, to: i32| json!({"exclusionGroup": {"name": name, "fromPercent": from, "toPercent": to}});
    create(&mut stage, "one", &part("g", 0, 40));
    create(&mut stage, "two", &part("g", 40, 100));
    create(&mut stage, "three", &part("g", 90, 100));
    create(&mut stage, "four", &part("h", 0, 10));
    create(&mut stage, "five", &json!({}));
    let names: Vec<String> = in_force(&stage).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["one", "two"]);
    for (name, expected) in [
        ("three", "experiment two has 40 to 100 percent of the units"),
        ("four", "experiment one is on iris already"),
        ("five", "experiment one is on iris already"),
    ] {
        let status = status(&stage, name);
        let message = status["message"].as_str().unwrap();
        assert!(
            status["phase"] == "Waiting" && message.contains(expected),
            "{name}: {message}"
        );
    }
    // Who waits gets its turn.
    let stored = stage.store.get(&experiment_key("two")).unwrap();
    stage.store.delete(&stored.key, stored.version).unwrap();
    stage.settle();
    let names: Vec<String> = in_force(&stage).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["one", "three"]);
}

#[test]
fn a_winner_is_planned_by_hand_and_by_rule() {
    let mut stage = stage();
    create(
        &mut stage,
        "ab",
        &json!({"promotion": {"when": "Better", "onHarm": "Stop"}}),
    );
    report(&mut stage, "ab", SummaryVerdict::Wait);
    assert_eq!(in_force(&stage), running("ab"));
    report(&mut stage, "ab", SummaryVerdict::Better("b".to_owned()));
    assert_eq!(in_force(&stage), won("ab", "b"));
    let shown = status(&stage, "ab");
    assert_eq!(
        (&shown["phase"], &shown["winner"]),
        (&json!("Promoted"), &json!("b"))
    );
    assert_eq!(
        shown["variants"][1],
        json!({"name": "b", "units": 11, "requests": 11})
    );
    assert_eq!(
        shown["url"],
        "http://localhost:8080/serving/ml/iris/experiments/ab"
    );
    report(&mut stage, "ab", SummaryVerdict::Wait);
    tell(&mut stage, "ab", "resume");
    assert_eq!(in_force(&stage), running("ab"));
    report(&mut stage, "ab", SummaryVerdict::Harm("b".to_owned()));
    assert_eq!(in_force(&stage), won("ab", "a"));
    assert_eq!(status(&stage, "ab")["phase"], "Stopped");
    tell(&mut stage, "ab", "promote:b");
    assert_eq!(in_force(&stage), won("ab", "b"));
    let stored = stage.store.get(&experiment_key("ab")).unwrap();
    stage.store.delete(&stored.key, stored.version).unwrap();
    stage.settle();
    assert_eq!(in_force(&stage), []);
}

#[test]
fn a_variant_that_fails_ends_the_split_and_says_so() {
    let mut stage = Stage::new();
    stage.predictor(json!({"model": model("file:///a"), "canaryTrafficPercent": 0}));
    stage.predictor(json!({"model": model("file:///missing")}));
    create(&mut stage, "ab", &json!({}));
    assert_eq!(in_force(&stage), []);
    let message = status(&stage, "ab")["message"].as_str().unwrap().to_owned();
    assert!(
        message.contains("variant b: iris-predictor-00002 failed: nothing at"),
        "{message}"
    );
}

/// The reasons of the events about an object, oldest first.
fn events(stage: &Stage, kind: &str, name: &str) -> Vec<String> {
    let (events, _) = stage.store.list(&EVENT, Some(NAMESPACE));
    let mut events: Vec<_> = events
        .iter()
        .filter(|event| {
            let about = &event.object["involvedObject"];
            about["kind"] == kind && about["name"] == name
        })
        .collect();
    events.sort_by_key(|event| event.version);
    let reasons = events.iter().map(|event| event.object["reason"].as_str());
    reasons.map(|reason| reason.unwrap().to_owned()).collect()
}

#[test]
fn of_several_events_of_one_look_none_is_lost() {
    let mut stage = stage();
    create(
        &mut stage,
        "ab",
        &json!({"promotion": {"when": "Better", "onHarm": "Stop"}}),
    );
    report(&mut stage, "ab", SummaryVerdict::Better("b".to_owned()));
    let expected = [
        "ExperimentRunning",
        "ExperimentVariantBetter",
        "ExperimentPromoted",
    ];
    assert_eq!(events(&stage, "Experiment", "ab"), expected);
    let mut of_service = events(&stage, "InferenceService", SERVICE);
    of_service.retain(|reason| reason.starts_with("Experiment"));
    assert_eq!(of_service, expected);
}

#[test]
fn the_newest_events_of_each_object_are_kept_while_it_is_there() {
    let mut stage = stage();
    create(&mut stage, "ab", &json!({}));
    for _ in 0..20 {
        // Within a shorter time one event counts them.
        stage.pass(Duration::from_secs(600));
        tell(&mut stage, "ab", "promote:b");
        tell(&mut stage, "ab", "stop");
    }
    let pair = ["ExperimentPromoted", "ExperimentStopped"];
    assert_eq!(events(&stage, "Experiment", "ab"), pair.repeat(15));
    assert_eq!(events(&stage, "InferenceService", SERVICE).len(), 30);
    let stored = stage.store.get(&experiment_key("ab")).unwrap();
    stage.store.delete(&stored.key, stored.version).unwrap();
    stage.settle();
    assert!(events(&stage, "Experiment", "ab").is_empty());
    assert_eq!(events(&stage, "InferenceService", SERVICE).len(), 30);
    let stored = stage.store.get(&key()).unwrap();
    stage.store.delete(&stored.key, stored.version).unwrap();
    stage.settle();
    assert!(events(&stage, "InferenceService", SERVICE).is_empty());
}

#[test]
fn the_last_numbers_are_shown_although_nothing_happens_after_them() {
    let mut stage = stage();
    create(&mut stage, "ab", &json!({}));
    let units = |stage: &Stage| status(stage, "ab")["variants"][0]["units"].clone();
    let next = |stage: &Stage| stage.controller.as_ref().unwrap().experiments.next_look();
    report_units(&mut stage, "ab", SummaryVerdict::Wait, 10);
    assert_eq!((units(&stage), next(&stage)), (json!(10), None));
    report_units(&mut stage, "ab", SummaryVerdict::Wait, 11);
    assert_eq!(units(&stage), json!(10));
    // It wakes by itself until they are.
    let wait = next(&stage).unwrap();
    for _ in 0..5 {
        stage.clock.advance(wait);
        stage.settle();
    }
    assert_eq!((units(&stage), next(&stage)), (json!(11), None));
}

#[test]
fn who_runs_keeps_its_place_although_an_older_one_waits() {
    let mut stage = stage();
    let third = "iris-predictor-00003";
    let variants = json!([{"name": "a", "revision": FIRST}, {"name": "b", "revision": third}]);
    create(&mut stage, "old", &json!({"variants": variants}));
    create(&mut stage, "young", &json!({}));
    assert_eq!(in_force(&stage), running("young"));
    stage.predictor(json!({"model": model("file:///c")}));
    assert_eq!(in_force(&stage), running("young"));
    stage.clock.advance(Duration::from_secs(5));
    stage.settle();
    let shown = status(&stage, "old");
    let message = shown["message"].as_str().unwrap();
    let expected = "experiment young is on iris already";
    assert!(message.starts_with(expected), "{message}");
    tell(&mut stage, "young", "promote:b");
    assert_eq!(in_force(&stage), won("young", "b"));
    let stored = stage.store.get(&experiment_key("young")).unwrap();
    stage.store.delete(&stored.key, stored.version).unwrap();
    stage.settle();
    assert_eq!(in_force(&stage), running("old"));
}

#[test]
fn a_command_without_effect_is_refused_where_it_is_sent() {
    let mut stage = stage();
    let promotion = json!({"promotion": {"when": "Better"}});
    create(&mut stage, "ab", &promotion);
    report(&mut stage, "ab", SummaryVerdict::Better("b".to_owned()));
    let old = stage.store.get(&experiment_key("ab")).unwrap();
    let told = |command: &str, promotion: Value| {
        let mut new = old.object.clone();
        new["metadata"]["annotations"] = json!({COMMAND: command});
        new["spec"]["promotion"] = promotion;
        super::super::experiments::check_command(Some(&old.object), &new)
    };
    let error = told("resume", json!({"when": "Better"})).unwrap_err();
    let expected = "resume: by spec.promotion it ends again at once";
    assert!(error.starts_with(expected), "{error}");
    assert_eq!(told("resume", json!({"when": "Never"})), Ok(()));
    // Whether that time is over, the controller knows.
    let later = json!({"when": "Better", "after": "1h"});
    assert_eq!(told("resume", later), Ok(()));
    assert_eq!(told("stop", json!({"when": "Better"})), Ok(()));
}

#[test]
fn a_command_that_is_sent_again_as_soon_as_it_is_done_is_another_one() {
    let mut stage = stage();
    create(&mut stage, "ab", &json!({}));
    for _ in 0..2 {
        // Within a shorter time one event counts both.
        stage.pass(Duration::from_secs(600));
        stage.change(&experiment_key("ab"), |object| {
            object["metadata"]["annotations"] = json!({COMMAND: "promote:b"});
        });
        stage.round();
    }
    let mut told = events(&stage, "Experiment", "ab");
    told.retain(|reason| reason == "ExperimentPromoted");
    assert_eq!(told.len(), 2);
}

/// Makes the other service, with this model.
fn other_service(stage: &mut Stage, uri: &str) -> Key {
    let key = Key::new(&INFERENCE_SERVICE, NAMESPACE, "next");
    let service = json!({
        "metadata": {"name": "next", "namespace": NAMESPACE, "uid": format!("n-{uri}"), "generation": 1},
        "spec": {"predictor": {"model": model(uri)}}
    });
    stage.store.create(key.clone(), service).unwrap();
    stage.settle();
    key
}

/// The status, reason and message of a condition.
fn condition(stage: &Stage, name: &str) -> [String; 3] {
    let status = status(stage, "ab");
    let mut conditions = status["conditions"].as_array().unwrap().iter();
    let found = conditions.find(|condition| condition["type"] == name);
    let text = |field: &str| {
        found.unwrap()[field]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    [text("status"), text("reason"), text("message")]
}

/// The newest event of the experiment.
fn last_event(stage: &Stage) -> (String, String) {
    let (events, _) = stage.store.list(&EVENT, Some(NAMESPACE));
    let events = events
        .iter()
        .filter(|event| event.object["involvedObject"]["kind"] == "Experiment");
    let last = events.max_by_key(|event| event.version).unwrap();
    let text = |field: &str| last.object[field].as_str().unwrap().to_owned();
    (text("reason"), text("message"))
}

#[test]
fn a_variant_whose_service_goes_says_so_and_so_it_does_when_it_comes_back() {
    let mut stage = stage();
    let variants = json!({"variants": [{"name": "a"}, {"name": "b", "inferenceService": "next"}]});
    let missing = "variant b: there is no InferenceService next in namespace ml; apply it, or let the variant's inferenceService name another one";
    create(&mut stage, "ab", &variants);
    let waits = ["False", "NoService", missing].map(str::to_owned);
    assert_eq!(condition(&stage, "InForce"), waits);
    assert_eq!(
        last_event(&stage),
        ("ExperimentWaits".to_owned(), missing.to_owned())
    );
    let key = other_service(&mut stage, "file:///b");
    let is_so = ["True", "", ""].map(str::to_owned);
    let running = |again: &str| {
        (
            "ExperimentRunning".to_owned(),
            format!("its requests are split{again}"),
        )
    };
    for again in ["", " again"] {
        assert_eq!(
            (in_force(&stage), last_event(&stage)),
            (vec![("ab".to_owned(), None)], running(again))
        );
        assert_eq!(condition(&stage, "InForce"), is_so);
        assert_eq!(condition(&stage, "VariantsReady"), is_so);
        if !again.is_empty() {
            break;
        }
        let stored = stage.store.get(&key).unwrap();
        stage.store.delete(&key, stored.version).unwrap();
        stage.settle();
        assert_eq!(in_force(&stage), []);
        assert_eq!(condition(&stage, "InForce"), waits);
        let message = format!(
            "it is no longer in force, and its requests go as the service itself says: {missing}"
        );
        assert_eq!(last_event(&stage), ("ExperimentWaits".to_owned(), message));
        other_service(&mut stage, "file:///c");
    }
    let told = events(&stage, "Experiment", "ab");
    let expected = [
        "ExperimentWaits",
        "ExperimentRunning",
        "ExperimentWaits",
        "ExperimentRunning",
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_variant_whose_service_is_not_ready_says_so_while_it_goes_on() {
    let mut stage = stage();
    let variants = json!({"variants": [{"name": "a"}, {"name": "b", "inferenceService": "next"}]});
    let key = other_service(&mut stage, "file:///b");
    create(&mut stage, "ab", &variants);
    let model_of = |stage: &mut Stage, uri: &str| {
        stage.change(&key, |object| {
            object["spec"]["predictor"]["model"] = model(uri);
            let generation = object::generation(object) + 1;
            object["metadata"]["generation"] = generation.into();
        });
        stage.settle();
    };
    model_of(&mut stage, "file:///missing");
    assert_eq!(in_force(&stage), running("ab"));
    let [status, reason, message] = condition(&stage, "VariantsReady");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "NotReady"));
    let begin = "variant b: InferenceService next is not ready: Revision \"next-predictor-00002\" failed with message: nothing at file:///missing";
    assert!(message.starts_with(begin), "{message}");
    assert!(
        message.ends_with("; see `kubectl describe isvc next`"),
        "{message}"
    );
    assert_eq!(
        last_event(&stage),
        ("ExperimentVariantNotReady".to_owned(), message)
    );
    assert_eq!(condition(&stage, "InForce")[0], "True");
    model_of(&mut stage, "file:///c");
    assert_eq!(condition(&stage, "VariantsReady")[0], "True");
    let told = events(&stage, "Experiment", "ab");
    let expected = [
        "ExperimentRunning",
        "ExperimentVariantNotReady",
        "ExperimentVariantsReady",
    ];
    assert_eq!(told, expected);
}

/// Bounds may be set after something was stored that is beyond them.
#[test]
fn a_stored_experiment_whose_spec_cannot_be_is_not_in_force_and_says_so() {
    let mut stage = stage();
    create(&mut stage, "ab", &json!({}));
    assert_eq!(in_force(&stage), running("ab"));
    let set_percent = |stage: &mut Stage, percent: u32| {
        stage.change(&experiment_key("ab"), |object| {
            object["spec"]["percent"] = percent.into();
        });
        stage.settle();
    };
    let condition = |stage: &Stage| {
        let status = status(stage, "ab");
        let mut conditions = status["conditions"].as_array().unwrap().iter();
        let found = conditions.find(|one| one["type"] == "InForce").unwrap();
        (found["status"].clone(), found["reason"].clone())
    };
    let told = |stage: &Stage, reason: &str| {
        let (events, _) = stage.store.list(&EVENT, Some(NAMESPACE));
        let mut events = events.iter().map(|stored| stored.object.clone());
        let event = events.find(|event| {
            event["reason"] == reason && event["involvedObject"]["kind"] == "Experiment"
        });
        event.unwrap()["message"].as_str().unwrap().to_owned()
    };
    set_percent(&mut stage, 150);
    for is_restarted in [false, true] {
        if is_restarted {
            stage = stage.restart();
            stage.settle();
        }
        assert_eq!(in_force(&stage), []);
        assert_eq!(condition(&stage), (json!("False"), json!("InvalidSpec")));
        let status = status(&stage, "ab");
        assert_eq!(status["phase"], "Waiting");
        assert_eq!(
            status["message"],
            "spec cannot be: spec.percent: Invalid value: 150.0: must be between 0 and 100"
        );
    }
    let why = "it is no longer in force, and its requests go as the service itself says: spec cannot be: spec.percent";
    assert!(told(&stage, "ExperimentWaits").starts_with(why));
    tell(&mut stage, "ab", "stop");
    let refused = told(&stage, "ExperimentCommandRefused");
    assert!(refused.starts_with("stop: spec cannot be: "), "{refused}");
    set_percent(&mut stage, 50);
    assert_eq!(in_force(&stage), running("ab"));
    assert_eq!(condition(&stage).0, "True");
}

#[test]
fn a_variant_that_comes_and_goes_pushes_no_other_event_out() {
    let mut stage = Stage::new();
    stage.is_slow_loaded = true;
    stage.predictor(json!({"model": model("file:///a"), "canaryTrafficPercent": 0}));
    stage.predictor(json!({"model": model("file:///slow")}));
    create(&mut stage, "ab", &json!({}));
    let told = |stage: &Stage| {
        let (events, _) = stage.store.list(&EVENT, Some(NAMESPACE));
        let events = events.iter().map(|stored| &stored.object);
        let of_service = events.filter(|event| event["involvedObject"]["name"] == SERVICE);
        let told = of_service.map(|event| {
            let reason = event["reason"].as_str().unwrap().to_owned();
            (reason, event["count"].as_u64().unwrap())
        });
        told.collect::<Vec<(String, u64)>>()
    };
    let before = told(&stage);
    for _ in 0..40 {
        for is_failed in [true, false] {
            stage.is_slow_failed = is_failed;
            stage.settle();
            stage.settle();
        }
    }
    let after = told(&stage);
    for (reason, _) in before {
        assert!(after.iter().any(|(after, _)| *after == reason), "{reason}");
    }
    assert!(
        after.contains(&("ExperimentWaits".to_owned(), 40)),
        "{after:?}"
    );
    assert!(after.len() < 10, "{after:?}");
}

#[test]
fn what_an_experiment_names_and_its_winner_are_there_once_its_spec_is_mended() {
    let mut stage = stage();
    create(&mut stage, "ab", &json!({}));
    tell(&mut stage, "ab", "promote:b");
    assert_eq!(in_force(&stage), won("ab", "b"));
    let set_percent = |stage: &mut Stage, percent: u32| {
        stage.change(&experiment_key("ab"), |object| {
            object["spec"]["percent"] = percent.into();
        });
        stage.settle();
    };
    set_percent(&mut stage, 150);
    assert_eq!(in_force(&stage), []);
    assert_eq!(status(&stage, "ab")["winner"], "b");
    // More than the revisions that are kept of those that are idle.
    for n in 0..30 {
        let uri = format!("file:///n{n}");
        stage.predictor(json!({"model": model(&uri), "canaryTrafficPercent": null}));
    }
    let is_there = |stage: &Stage, name: &str| {
        let plan = stage.plan.lock().unwrap();
        let mut planned = plan.revisions.keys();
        let key = Key::new(&REVISION, NAMESPACE, name);
        planned.any(|id| id.name == name) && stage.store.get(&key).is_some()
    };
    let third = "iris-predictor-00003";
    let there = [FIRST, SECOND, third].map(|name| is_there(&stage, name));
    assert_eq!(there, [true, true, false]);
    set_percent(&mut stage, 50);
    assert_eq!(in_force(&stage), won("ab", "b"));
    assert_eq!(status(&stage, "ab")["phase"], "Promoted");
}
