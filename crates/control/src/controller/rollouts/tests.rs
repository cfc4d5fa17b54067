//! Rollouts as the controller does them, from what people write to the split that is planned.

use coracle_api::kind::EVENT;
use coracle_serving::Sticky;
use coracle_serving::experiment::UnitSource;
use serde_json::json;

use super::super::tests::{NAMESPACE, SERVICE, Stage, model};
use super::*;

/// Creates a rollout of the service whose stages last no time, and need no requests.
fn create_rollout(stage: &mut Stage, steps: Value) -> Key {
    let key = Key::new(&coracle_api::kind::ROLLOUT, NAMESPACE, "careful");
    let rollout = json!({
        "metadata": {"name": "careful", "namespace": NAMESPACE, "uid": "r", "generation": 1},
        "spec": {"inferenceService": SERVICE, "steps": steps, "analysis": {"requestsMin": 0}}
    });
    stage.store.create(key.clone(), rollout).unwrap();
    stage.settle();
    key
}

fn annotate(stage: &Stage, key: &Key, command: &str) {
    stage.change(key, |object| {
        object["metadata"]["annotations"] = json!({COMMAND: command});
    });
}

/// Tells a rollout what is wanted of it; fails if that is not taken.
fn command(stage: &mut Stage, key: &Key, command: &str) {
    annotate(stage, key, command);
    stage.settle();
    let stored = stage.store.get(key).unwrap();
    assert_eq!(object::text(&stored.object, "annotations", COMMAND), None);
}

fn shares(stage: &Stage) -> Vec<(String, u8)> {
    let plan = stage.plan.lock().unwrap();
    let targets = plan.routes.values().flat_map(|route| &route.targets);
    targets
        .map(|target| (target.revision.clone(), target.percent))
        .collect()
}

#[test]
fn a_rollout_gives_a_new_revision_its_share_and_takes_it_back() {
    let mut stage = Stage::new();
    stage.predictor(json!({"model": model("file:///a")}));
    let steps = json!([{"percent": 20, "duration": "1h"}]);
    let key = create_rollout(&mut stage, steps);
    let phase = |stage: &Stage| {
        let status = stage.store.get(&key).unwrap().object["status"].clone();
        status["phase"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(phase(&stage), "Idle");
    stage.predictor(json!({"model": model("file:///b")}));
    let (first, second) = ("iris-predictor-00001", "iris-predictor-00002");
    let split = |percent: u8| {
        vec![
            (second.to_owned(), percent),
            (first.to_owned(), 100 - percent),
        ]
    };
    assert_eq!(
        (phase(&stage), shares(&stage)),
        ("Progressing".to_owned(), split(20))
    );
    command(&mut stage, &key, "abort");
    assert_eq!(
        (phase(&stage), shares(&stage)),
        ("RolledBack".to_owned(), split(0))
    );
    command(&mut stage, &key, "retry");
    assert_eq!(
        (phase(&stage), shares(&stage)),
        ("Progressing".to_owned(), split(20))
    );
    command(&mut stage, &key, "promote");
    assert_eq!(phase(&stage), "Promoted");
    assert_eq!(shares(&stage), [(second.to_owned(), 100)]);
    // Without the rollout, a new revision takes all at once.
    let stored = stage.store.get(&key).unwrap();
    stage.store.delete(&key, stored.version).unwrap();
    stage.predictor(json!({"model": model("file:///c")}));
    assert_eq!(shares(&stage), [("iris-predictor-00003".to_owned(), 100)]);
}

/// Returns the books that are kept, in force or not, by name, uid and salt.
fn books(stage: &Stage) -> Vec<[String; 3]> {
    let plan = stage.plan.lock().unwrap();
    let books = plan.books.iter().flatten();
    books
        .map(|book| [&book.name, &book.uid, &book.salt].map(String::clone))
        .collect()
}

#[test]
fn the_book_of_a_canary_is_kept_until_it_is_over_and_an_experiments_as_long_as_it_is_there() {
    let mut stage = Stage::new();
    stage.predictor(json!({"model": model("file:///a")}));
    let steps = json!([{"percent": 20, "duration": "1h"}]);
    let key = create_rollout(&mut stage, steps);
    assert_eq!(books(&stage), Vec::<[String; 3]>::new());
    let of_canary = |canary: &str| {
        let uid = format!("r/iris-predictor-{canary}");
        vec![[metrics::book_name("careful"), uid, "careful".to_owned()]]
    };
    stage.predictor(json!({"model": model("file:///b")}));
    assert_eq!(books(&stage), of_canary("00002"));
    command(&mut stage, &key, "abort");
    assert!(books(&stage).is_empty());
    command(&mut stage, &key, "retry");
    assert_eq!(books(&stage), of_canary("00002"));
    stage.predictor(json!({"model": model("file:///c")}));
    assert_eq!(books(&stage), of_canary("00003"));
    command(&mut stage, &key, "promote");
    assert!(books(&stage).is_empty());
    stage.predictor(json!({"model": model("file:///d")}));
    let stored = stage.store.get(&key).unwrap();
    stage.store.delete(&key, stored.version).unwrap();
    stage.settle();
    assert!(books(&stage).is_empty());
    // Whether or not it can be in force.
    let kind = &coracle_api::kind::EXPERIMENT;
    for (name, spec) in [("ab", json!({})), ("cd", json!({"salt": "s"}))] {
        let key = Key::new(kind, NAMESPACE, name);
        let metadata = json!({"name": name, "namespace": NAMESPACE, "uid": name, "generation": 1});
        let experiment = json!({"metadata": metadata, "spec": spec});
        stage.store.create(key, experiment).unwrap();
    }
    stage.settle();
    let default = format!("{NAMESPACE}/ab");
    assert_eq!(
        books(&stage),
        [["ab", "ab", &default], ["cd", "cd", "s"]].map(|book| book.map(str::to_owned))
    );
}

/// Returns the books of stages that are in force: the uid, the unit, and whether it is judged by that.
fn stages(stage: &Stage) -> Vec<(String, UnitSource, bool)> {
    let plan = stage.plan.lock().unwrap();
    let planned = plan.routes.values().flat_map(|route| &route.experiments);
    let planned = planned.filter_map(|planned| {
        let by_unit = planned.stage?.by_unit;
        Some((planned.uid.clone(), planned.unit.clone(), by_unit))
    });
    planned.collect()
}

/// Requests that an annotation splits by user are judged by user, and another canary's users are counted anew, whoever had the one before.
#[test]
fn whoever_sticks_to_a_revision_is_judged_and_by_each_rollout_anew() {
    let mut stage = Stage::new();
    stage.predictor(json!({"model": model("file:///a")}));
    let steps = json!([{"percent": 20, "duration": "1h"}]);
    let key = create_rollout(&mut stage, steps);
    stage.predictor(json!({"model": model("file:///b")}));
    assert_eq!(stages(&stage), []);
    let stick =
        |value: Value| json!({"metadata": {"annotations": {"serving.coracle.dev/sticky": value}}});
    stage.apply(stick("cookie=session".into()));
    let of = |canary: &str, unit| (format!("r/iris-predictor-{canary}"), unit, true);
    let by_session = || UnitSource::Cookie("session".to_owned());
    assert_eq!(stages(&stage), [of("00002", by_session())]);
    // Which one of them decides is in the split, too.
    let sticky = |stage: &Stage| {
        let plan = stage.plan.lock().unwrap();
        plan.routes.values().next().unwrap().sticky.clone()
    };
    assert_eq!(sticky(&stage), Some(Sticky::Cookie("session".to_owned())));
    command(&mut stage, &key, "promote");
    assert_eq!(stages(&stage), []);
    stage.predictor(json!({"model": model("file:///c")}));
    assert_eq!(stages(&stage), [of("00003", by_session())]);
    let by_customer = json!({"unit": {"header": "X-Customer"}, "requestsMin": 0});
    stage.change(&key, |object| object["spec"]["analysis"] = by_customer);
    stage.settle();
    let by_customer = UnitSource::Header("x-customer".to_owned());
    assert_eq!(stages(&stage), [of("00003", by_customer)]);
}

#[test]
fn a_revision_that_does_not_load_is_rolled_back_and_says_so() {
    let mut stage = Stage::new();
    stage.predictor(json!({"model": model("file:///a")}));
    let key = create_rollout(&mut stage, json!([{"percent": 20}]));
    stage.predictor(json!({"model": model("file:///missing")}));
    let status = stage.store.get(&key).unwrap().object["status"].clone();
    assert_eq!(status["phase"], "RolledBack");
    let message = status["message"].as_str().unwrap();
    assert!(message.contains("nothing at file:///missing"), "{message}");
    assert_eq!(shares(&stage), [("iris-predictor-00001".to_owned(), 100)]);
}

#[test]
fn what_is_promoted_before_it_is_loaded_gives_nothing_to_what_went_back() {
    let mut stage = Stage::new();
    stage.predictor(json!({"model": model("file:///a")}));
    let steps = json!([{"percent": 20, "duration": "1h"}]);
    let key = create_rollout(&mut stage, steps);
    stage.predictor(json!({"model": model("file:///b")}));
    command(&mut stage, &key, "abort");
    stage.predictor(json!({"model": model("file:///slow")}));
    command(&mut stage, &key, "promote");
    // The second went back and is ready still; the third is not loaded.
    let of_old = shares(&stage)
        .into_iter()
        .filter(|(_, percent)| *percent > 0);
    assert_eq!(
        of_old.collect::<Vec<_>>(),
        [("iris-predictor-00001".to_owned(), 100)]
    );
    assert_eq!(stage.rolled_out().0, "1");
    stage.is_slow_loaded = true;
    stage.settle();
    stage.settle();
    assert_eq!(shares(&stage), [("iris-predictor-00003".to_owned(), 100)]);
    assert_eq!(stage.rolled_out().0, "3");
}

/// A command has its effect or is refused, and nobody is told that requests go where they do not.
#[test]
fn what_cannot_be_loaded_is_not_promoted_and_says_so() {
    let mut stage = Stage::new();
    stage.predictor(json!({"model": model("file:///a")}));
    let key = create_rollout(&mut stage, json!([{"percent": 20, "duration": "1h"}]));
    stage.predictor(json!({"model": model("file:///missing")}));
    let status = |stage: &Stage| status_of(&stage.store.get(&key).unwrap().object);
    let refused = |stage: &Stage| {
        let conditions = status(stage).conditions;
        let taken = conditions
            .into_iter()
            .find(|one| one.condition_type == COMMAND_TAKEN);
        taken.unwrap().message.unwrap_or_default()
    };
    for wanted in ["promote", "retry"] {
        command(&mut stage, &key, wanted);
        assert_eq!(status(&stage).phase, "RolledBack");
        let why = format!("{wanted}: iris-predictor-00002 failed: nothing at file:///missing");
        assert_eq!(refused(&stage), why);
    }
    // One that may load yet is promoted once it is; if it is not, it goes back.
    stage.predictor(json!({"model": model("file:///slow-missing")}));
    assert_eq!(status(&stage).phase, "RolledBack");
    for is_there in [true, false] {
        stage.is_slow_loaded = false;
        stage.predictor(json!({"model": model(&format!("file:///slow/{is_there}"))}));
        command(&mut stage, &key, "promote");
        let name = status(&stage).canary_revision.unwrap();
        assert_eq!(
            (status(&stage).phase, status(&stage).message),
            (
                "Promoted".to_owned(),
                format!("{name} takes all requests once it is loaded: by hand")
            )
        );
        stage.is_slow_failed = !is_there;
        stage.is_slow_loaded = true;
        stage.settle();
        let (phase, words) = match is_there {
            true => ("Promoted", "takes all requests: by hand"),
            false => ("RolledBack", "went back: it failed: nothing at"),
        };
        assert_eq!(status(&stage).phase, phase);
        let message = status(&stage).message;
        assert!(message.contains(words), "{message}");
    }
}

/// What went back is tried again when somebody says so, not because the spec split requests for a while.
#[test]
fn a_split_by_hand_does_not_try_again_what_went_back() {
    let mut stage = Stage::new();
    stage.predictor(json!({"model": model("file:///a")}));
    let key = create_rollout(&mut stage, json!([{"percent": 20, "duration": "1h"}]));
    stage.predictor(json!({"model": model("file:///b")}));
    command(&mut stage, &key, "abort");
    let split = |percent: u8| {
        vec![
            ("iris-predictor-00002".to_owned(), percent),
            ("iris-predictor-00001".to_owned(), 100 - percent),
        ]
    };
    stage.predictor(json!({"canaryTrafficPercent": 10}));
    assert_eq!(shares(&stage), split(10));
    command(&mut stage, &key, "retry");
    assert_eq!(
        condition(&stage, &key, "CommandTaken"),
        of("False", "NoEffect")
    );
    stage.predictor(json!({"canaryTrafficPercent": null}));
    settle_below(&mut stage, "00002", 0);
    assert_eq!(shares(&stage), split(0));
    let phase = |stage: &Stage| status_of(&stage.store.get(&key).unwrap().object).phase;
    assert_eq!(phase(&stage), "RolledBack");
    command(&mut stage, &key, "retry");
    assert_eq!(
        (phase(&stage), shares(&stage)),
        ("Progressing".to_owned(), split(20))
    );
}

/// After a restart without the files of the revision that served: the one on trial takes all, and nobody takes it for promoted.
#[test]
fn what_can_be_loaded_takes_the_requests_of_what_cannot() {
    let mut stage = Stage::new();
    stage.predictor(json!({"model": model("file:///slow")}));
    stage.is_slow_loaded = true;
    stage.settle();
    let key = create_rollout(&mut stage, json!([{"percent": 20, "duration": "1h"}]));
    stage.predictor(json!({"model": model("file:///b")}));
    let (first, second) = ("iris-predictor-00001", "iris-predictor-00002");
    let split = [(second.to_owned(), 20), (first.to_owned(), 80)];
    assert_eq!(shares(&stage), split);
    let restart = |stage: &mut Stage| {
        stage.observed.set(coracle_serving::Observed::default());
        stage.settle();
    };
    let in_force = |stage: &Stage| {
        let observed = stage.observed.get();
        let targets = observed
            .routes
            .values()
            .flat_map(|route| route.targets.clone());
        targets
            .map(|target| (target.revision, target.percent))
            .collect::<Vec<_>>()
    };
    let status = |stage: &Stage| status_of(&stage.store.get(&key).unwrap().object);
    stage.is_slow_failed = true;
    restart(&mut stage);
    assert_eq!(in_force(&stage), [(second.to_owned(), 100)]);
    let message = format!("{second} waits: {first} failed: nothing at file:///slow");
    assert_eq!(
        (status(&stage).phase.as_str(), status(&stage).message),
        ("Progressing", message.clone())
    );
    assert_eq!(stage.rolled_out().0, "1");
    let (events, _) = stage.store.list(&EVENT, Some(NAMESPACE));
    assert!(
        events
            .iter()
            .any(|event| event.object["message"] == message)
    );
    let conditions = stage.status("/conditions");
    let ready = conditions
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["type"] == "Ready");
    assert!(
        ready.unwrap()["message"]
            .as_str()
            .unwrap()
            .contains("nothing at file:///slow")
    );
    // Once the files are there again it is as it was.
    stage.is_slow_failed = false;
    stage.settle();
    assert_eq!(in_force(&stage), split);
    assert_eq!(status(&stage).step, Some(1));
    // What went back takes nothing for that.
    command(&mut stage, &key, "abort");
    stage.is_slow_failed = true;
    restart(&mut stage);
    assert_eq!(in_force(&stage), []);
    let plan = stage.plan.lock().unwrap();
    let absence = plan.routes.values().next().unwrap().absence.as_ref();
    assert_eq!(
        absence.unwrap().why,
        format!(
            "no revision of the service is loaded yet: {first} failed: nothing at file:///slow"
        )
    );
}

/// Returns the status and the reason of a condition.
fn condition(stage: &Stage, key: &Key, name: &str) -> (String, String) {
    let status = status_of(&stage.store.get(key).unwrap().object);
    let found = status.conditions.into_iter();
    let found = found.into_iter().find(|one| one.condition_type == name);
    let found = found.unwrap();
    (found.status, found.reason.unwrap_or_default())
}

fn step(stage: &Stage, key: &Key) -> Option<i32> {
    status_of(&stage.store.get(key).unwrap().object).step
}

fn of(status: &str, reason: &str) -> (String, String) {
    (status.to_owned(), reason.to_owned())
}

#[test]
fn the_same_command_again_has_its_effect_again() {
    let mut stage = Stage::new();
    stage.predictor(json!({"model": model("file:///a")}));
    let steps = [10, 20, 30].map(|percent| json!({"percent": percent, "duration": "1h"}));
    let key = create_rollout(&mut stage, steps.to_vec().into());
    stage.predictor(json!({"model": model("file:///b")}));
    assert_eq!(step(&stage, &key), Some(1));
    for reached in [2, 3] {
        annotate(&stage, &key, "skip");
        // The next one comes before the controller has looked without any.
        stage.round();
        assert_eq!(step(&stage, &key), Some(reached));
    }
    assert_eq!(condition(&stage, &key, "CommandTaken"), of("True", ""));
}

#[test]
fn a_command_without_effect_is_refused_and_said_so() {
    let mut stage = Stage::new();
    stage.predictor(json!({"model": model("file:///a")}));
    let key = create_rollout(&mut stage, json!([{"percent": 20, "duration": "1h"}]));
    command(&mut stage, &key, "skip");
    let taken = |stage: &Stage| condition(stage, &key, "CommandTaken");
    assert_eq!(taken(&stage), of("False", "NoEffect"));
    let (events, _) = stage.store.list(&EVENT, Some(NAMESPACE));
    let refused = events
        .iter()
        .find(|event| event.object["reason"] == REFUSED);
    let message = refused.unwrap().object["message"].as_str().unwrap();
    assert!(
        message.starts_with("skip: nothing is on trial"),
        "{message}"
    );
    stage.predictor(json!({"model": model("file:///slow")}));
    command(&mut stage, &key, "skip");
    assert_eq!(taken(&stage), of("False", "NoEffect"));
    // What was promoted before it is loaded may still be taken back.
    command(&mut stage, &key, "promote");
    command(&mut stage, &key, "abort");
    assert_eq!(taken(&stage), of("True", ""));
    stage.is_slow_loaded = true;
    stage.settle();
    let of_old = ("iris-predictor-00001".to_owned(), 100);
    assert!(shares(&stage).contains(&of_old));
}

#[test]
fn of_two_rollouts_of_a_service_the_older_decides_and_the_other_says_so() {
    let mut stage = Stage::new();
    stage.predictor(json!({"model": model("file:///a")}));
    let rollout = |name: &str, second: u32| {
        let key = Key::new(&ROLLOUT, NAMESPACE, name);
        let at = format!("2026-01-01T00:00:0{second}Z");
        let object = json!({
            "metadata": {"name": name, "namespace": NAMESPACE, "uid": name, "generation": 1, "creationTimestamp": at},
            "spec": {"inferenceService": SERVICE, "steps": [{"percent": 10 * (second + 1), "duration": "1h"}], "analysis": {"requestsMin": 0}}
        });
        (key, object)
    };
    let ((older, first), (younger, second)) = (rollout("b", 1), rollout("a", 2));
    stage.store.create(older.clone(), first).unwrap();
    stage.settle();
    stage.store.create(younger.clone(), second).unwrap();
    stage.settle();
    assert_eq!(condition(&stage, &older, "Accepted"), of("True", ""));
    assert_eq!(
        condition(&stage, &younger, "Accepted"),
        of("False", "AnotherRollout")
    );
    let status = status_of(&stage.store.get(&younger).unwrap().object);
    assert_eq!(
        status.message,
        "Rollout b, which is older, decides about ml/iris; delete one of them"
    );
    command(&mut stage, &younger, "promote");
    assert_eq!(
        condition(&stage, &younger, "CommandTaken"),
        of("False", "NoEffect")
    );
    stage.predictor(json!({"model": model("file:///b")}));
    assert!(shares(&stage).contains(&("iris-predictor-00002".to_owned(), 20)));
    // When the older goes, the other goes on.
    let version = stage.store.get(&older).unwrap().version;
    stage.store.delete(&older, version).unwrap();
    stage.settle();
    assert_eq!(condition(&stage, &younger, "Accepted"), of("True", ""));
    assert_eq!(step(&stage, &younger), Some(1));
}

#[test]
fn a_rollout_without_its_service_says_so() {
    let mut stage = Stage::new();
    let key = create_rollout(&mut stage, json!([{"percent": 20}]));
    assert_eq!(
        condition(&stage, &key, "Accepted"),
        of("False", "NoService")
    );
    stage.predictor(json!({"model": model("file:///a")}));
    assert_eq!(condition(&stage, &key, "Accepted"), of("True", ""));
}

/// The simple case: an annotation of the service.
#[test]
fn a_services_annotation_is_a_rollout_of_its_own() {
    let mut stage = Stage::new();
    stage.predictor(json!({"model": model("file:///a")}));
    let annotate = |steps: Value| {
        let annotations = json!({"serving.coracle.dev/rollout-steps": steps});
        json!({"metadata": {"annotations": annotations}})
    };
    stage.apply(annotate("20% for 1h, 50%, 100%".into()));
    let key = Key::new(&coracle_api::kind::ROLLOUT, NAMESPACE, SERVICE);
    let rollout = |stage: &Stage| stage.store.get(&key).map(|stored| stored.object.clone());
    let made = rollout(&stage).unwrap();
    let steps = json!([{"percent": 20, "duration": "1h"}, {"percent": 50}]);
    assert_eq!(made["spec"]["steps"], steps);
    assert_eq!(made["status"]["phase"], "Idle");
    // What people write into it stays, but for the steps; it is commanded as any other.
    stage.change(&key, |changed| {
        changed["spec"]["analysis"] = json!({"requestsMin": 0});
        changed["spec"]["steps"] = json!([{"percent": 1}]);
    });
    stage.settle();
    let spec = rollout(&stage).unwrap()["spec"].clone();
    assert_eq!(
        (&spec["steps"], &spec["analysis"]["requestsMin"]),
        (&steps, &json!(0))
    );
    stage.predictor(json!({"model": model("file:///b")}));
    let split = |percent: u8| {
        let share = |revision: &str, percent| (format!("{SERVICE}-predictor-{revision}"), percent);
        vec![share("00002", percent), share("00001", 100 - percent)]
    };
    assert_eq!(shares(&stage), split(20));
    command(&mut stage, &key, "abort");
    assert_eq!(shares(&stage), split(0));
    // It goes with the annotation; the service is as if there had never been one, as after any Rollout that is deleted.
    stage.apply(annotate(Value::Null));
    assert_eq!(rollout(&stage), None);
    assert_eq!(
        shares(&stage),
        [(format!("{SERVICE}-predictor-00002"), 100)]
    );
    // Somebody's own Rollout of the name is left alone.
    let other = json!({
        "metadata": {"name": SERVICE, "namespace": NAMESPACE, "uid": "r", "generation": 1},
        "spec": {"inferenceService": SERVICE, "steps": [{"percent": 5}]}
    });
    stage.store.create(key.clone(), other).unwrap();
    stage.apply(annotate("20%".into()));
    assert_eq!(
        rollout(&stage).unwrap()["spec"]["steps"],
        json!([{"percent": 5}])
    );
    stage.apply(annotate(Value::Null));
    assert!(rollout(&stage).is_some());
}

/// Fails if more than `percent` of the requests go to the revision `number` in some round.
fn settle_below(stage: &mut Stage, number: &str, percent: u8) {
    for _ in 0..12 {
        stage.round();
        let shares = shares(stage).into_iter();
        let mut over = shares.filter(|(name, share)| name.ends_with(number) && *share > percent);
        assert_eq!(over.next(), None);
    }
    stage.settle();
}

/// Lets the stages of a rollout need no requests.
fn need_no_requests(stage: &mut Stage, key: &Key) {
    stage.change(key, |changed| {
        changed["spec"]["analysis"] = json!({"requestsMin": 0});
    });
    stage.settle();
}

fn in_force(stage: &Stage) -> (String, String) {
    let conditions = stage.status("/conditions");
    let mut conditions = conditions.as_array().unwrap().iter();
    let found = conditions.find(|one| one["type"] == "RolloutStepsInForce");
    let text = |key: &str| found.unwrap()[key].as_str().unwrap_or_default().to_owned();
    (text("status"), text("message"))
}

const STEPPED: &str = "serving.coracle.dev/rollout-steps";

#[test]
fn steps_whose_rollout_cannot_be_let_nothing_new_take_requests_and_say_so() {
    let owner = json!([{"uid": "else", "controller": true}]);
    for (about, owners) in [
        ("other", Value::Null),
        ("other", owner.clone()),
        ("other", json!([])),
    ] {
        let mut stage = Stage::new();
        let key = Key::new(&coracle_api::kind::ROLLOUT, NAMESPACE, SERVICE);
        let rollout = json!({
            "metadata": {
                "name": SERVICE, "namespace": NAMESPACE, "uid": "r", "generation": 1, "ownerReferences": owners
            },
            "spec": {"inferenceService": about, "steps": [{"percent": 5}]}
        });
        stage.store.create(key.clone(), rollout).unwrap();
        stage.apply(json!({
            "metadata": {"annotations": {STEPPED: "20% for 1h"}},
            "spec": {"predictor": {"model": model("file:///a")}}
        }));
        // The first one serves: there is nothing else.
        let (first, second) = ("iris-predictor-00001", "iris-predictor-00002");
        assert_eq!(shares(&stage), [(first.to_owned(), 100)]);
        stage.predictor(json!({"model": model("file:///b")}));
        let held = [(second.to_owned(), 0), (first.to_owned(), 100)];
        assert_eq!(shares(&stage), held);
        let (status, message) = in_force(&stage);
        assert_eq!(status, "False");
        assert!(
            message.contains("the Rollout iris is there already"),
            "{message}"
        );
        let (events, _) = stage.store.list(&EVENT, None);
        let events = events.iter();
        let told = events.filter(|event| event.object["reason"] == "RolloutStepsNotInForce");
        assert_eq!(told.count(), 1);
        // Once the name is free, the steps are in force.
        let stored = stage.store.get(&key).unwrap();
        stage.store.delete(&key, stored.version).unwrap();
        settle_below(&mut stage, "00002", 0);
        assert_eq!(in_force(&stage).0, "True");
        need_no_requests(&mut stage, &key);
        assert_eq!(
            shares(&stage),
            [(second.to_owned(), 20), (first.to_owned(), 80)]
        );
    }
}

#[test]
fn a_deleted_rollout_of_an_annotation_begins_anew() {
    let mut stage = Stage::new();
    stage.predictor(json!({"model": model("file:///a")}));
    stage.apply(json!({"metadata": {"annotations": {STEPPED: "20% for 1h"}}}));
    let key = Key::new(&coracle_api::kind::ROLLOUT, NAMESPACE, SERVICE);
    stage.predictor(json!({"model": model("file:///b")}));
    command(&mut stage, &key, "abort");
    let stored = stage.store.get(&key).unwrap();
    stage.store.delete(&key, stored.version).unwrap();
    settle_below(&mut stage, "00002", 0);
    let split = |percent: u8| {
        vec![
            ("iris-predictor-00002".to_owned(), percent),
            ("iris-predictor-00001".to_owned(), 100 - percent),
        ]
    };
    assert_eq!(shares(&stage), split(0));
    need_no_requests(&mut stage, &key);
    assert_eq!((step(&stage, &key), shares(&stage)), (Some(1), split(20)));
    // One that is written to be another service's is this one's again.
    stage.change(&key, |changed| {
        changed["spec"]["inferenceService"] = "other".into();
    });
    settle_below(&mut stage, "00002", 20);
    let spec = stage.store.get(&key).unwrap().object["spec"].clone();
    assert_eq!(spec["inferenceService"], SERVICE);
}

/// The reasons and messages of a rollout's events.
fn told(stage: &Stage, name: &str) -> Vec<(String, String)> {
    let (events, _) = stage.store.list(&EVENT, Some(NAMESPACE));
    let mut events: Vec<_> = events
        .iter()
        .filter(|event| {
            let about = &event.object["involvedObject"];
            about["kind"] == "Rollout" && about["name"] == name
        })
        .collect();
    events.sort_by_key(|event| event.version);
    let text = |event: &Stored, field: &str| event.object[field].as_str().unwrap().to_owned();
    let told = events
        .iter()
        .map(|event| (text(event, "reason"), text(event, "message")));
    told.collect()
}

#[test]
fn a_rollout_whose_service_goes_says_so_and_so_it_does_when_it_comes_back() {
    let mut stage = Stage::new();
    stage.predictor(json!({"model": model("file:///a")}));
    let key = create_rollout(&mut stage, json!([{"percent": 20}]));
    assert_eq!(told(&stage, "careful"), []);
    let service = Key::new(&INFERENCE_SERVICE, NAMESPACE, SERVICE);
    let stored = stage.store.get(&service).unwrap();
    stage.store.delete(&service, stored.version).unwrap();
    stage.settle();
    let missing = "there is no InferenceService iris in namespace ml; apply it, or let spec.inferenceService name another one";
    let status = stage.store.get(&key).unwrap().object["status"].clone();
    assert_eq!(
        (&status["phase"], &status["message"]),
        (&json!("Waiting"), &json!(missing))
    );
    let event = |reason: &str, message: &str| (reason.to_owned(), message.to_owned());
    let gone = event("RolloutNotAccepted", missing);
    assert_eq!(told(&stage, "careful"), std::slice::from_ref(&gone));
    stage.predictor(json!({"model": model("file:///a")}));
    let back = event("RolloutAccepted", "it decides about ml/iris now");
    assert_eq!(told(&stage, "careful"), [gone, back]);
}

#[test]
fn a_rollout_that_another_one_is_before_says_so_once() {
    let mut stage = Stage::new();
    stage.predictor(json!({"model": model("file:///a")}));
    create_rollout(&mut stage, json!([{"percent": 20}]));
    let key = Key::new(&ROLLOUT, NAMESPACE, "late");
    let rollout = json!({
        "metadata": {"name": "late", "namespace": NAMESPACE, "uid": "l", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"inferenceService": SERVICE}
    });
    stage.store.create(key, rollout).unwrap();
    stage.settle();
    stage.settle();
    let message = "Rollout careful, which is older, decides about ml/iris; delete one of them";
    let refused = ("RolloutNotAccepted".to_owned(), message.to_owned());
    assert_eq!(told(&stage, "late"), [refused]);
    let older = Key::new(&ROLLOUT, NAMESPACE, "careful");
    let stored = stage.store.get(&older).unwrap();
    stage.store.delete(&older, stored.version).unwrap();
    stage.settle();
    assert_eq!(told(&stage, "late").len(), 2);
    assert_eq!(told(&stage, "late")[1].0, "RolloutAccepted");
}

/// Bounds may be set after something was stored that is beyond them.
#[test]
fn a_stored_rollout_whose_spec_cannot_be_lets_nothing_through() {
    let mut stage = Stage::new();
    stage.predictor(json!({"model": model("file:///a")}));
    let steps = json!([{"percent": 20, "duration": "1h"}]);
    let key = create_rollout(&mut stage, steps);
    stage.predictor(json!({"model": model("file:///b")}));
    let (first, second) = ("iris-predictor-00001", "iris-predictor-00002");
    let split = |percent: u8| {
        vec![
            (second.to_owned(), percent),
            (first.to_owned(), 100 - percent),
        ]
    };
    assert_eq!(shares(&stage), split(20));
    let ratio = |stage: &mut Stage, ratio: f64| {
        stage.change(&key, |object| {
            object["spec"]["analysis"]["ratioTolerated"] = json!(ratio);
        });
        stage.settle();
    };
    ratio(&mut stage, 5_000.0);
    assert_eq!(shares(&stage), split(0));
    let status = stage.store.get(&key).unwrap().object["status"].clone();
    let message = status["message"].as_str().unwrap();
    assert!(
        message.starts_with("spec cannot be: spec.analysis.ratioTolerated: Invalid value: 5000.0"),
        "{message}"
    );
    assert_eq!(status["conditions"][0]["reason"], "InvalidSpec");
    let reasons: Vec<String> = told(&stage, "careful")
        .into_iter()
        .map(|(reason, _)| reason)
        .collect();
    assert_eq!(reasons.last().unwrap(), "RolloutNotAccepted");
    ratio(&mut stage, 1.5);
    assert_eq!(shares(&stage), split(20));
}

mod held;
mod stopped;
