//! What is told again and again.

use super::super::tests::{NAMESPACE, SERVICE, Stage, model};
use super::*;

fn id() -> ServiceId {
    ServiceId {
        namespace: NAMESPACE.to_owned(),
        name: SERVICE.to_owned(),
    }
}

fn stage() -> Stage {
    let mut stage = Stage::new();
    stage.predictor(json!({"model": model("file:///a")}));
    stage
}

fn tell(stage: &mut Stage, event_type: &str, message: &str) {
    stage
        .controller()
        .record_for(&id(), event_type, "Told", message);
}

/// Returns what was told: the message, how often, and the seconds of the first and the last time.
fn told(stage: &Stage) -> Vec<(String, u64, String, String)> {
    let (events, _) = stage.store.list(&EVENT, Some(NAMESPACE));
    let events = events.iter().map(|stored| &stored.object);
    let told = events.filter(|event| event["reason"] == "Told");
    let text = |event: &Value, field: &str| event[field].as_str().unwrap().to_owned();
    let second = |event: &Value, field: &str| text(event, field)[14..19].to_owned();
    told.map(|event| {
        (
            text(event, "message"),
            event["count"].as_u64().unwrap(),
            second(event, "firstTimestamp"),
            second(event, "lastTimestamp"),
        )
    })
    .collect()
}

fn of(message: &str, count: u64, first: &str, last: &str) -> (String, u64, String, String) {
    let [message, first, last] = [message, first, last].map(str::to_owned);
    (message, count, first, last)
}

#[test]
fn what_happens_again_within_ten_minutes_is_counted() {
    let mut stage = stage();
    for minutes in [0, 9, 9] {
        stage.pass(Duration::from_secs(60 * minutes));
        tell(&mut stage, "Normal", "it runs again");
        stage.settle();
    }
    let often = of("it runs again", 3, "00:00", "18:00");
    assert_eq!(told(&stage), std::slice::from_ref(&often));
    stage.pass(Duration::from_secs(600));
    // Of one round, too.
    tell(&mut stage, "Normal", "it runs again");
    tell(&mut stage, "Normal", "it runs again");
    stage.settle();
    let anew = of("it runs again", 2, "28:00", "28:00");
    assert_eq!(told(&stage), [often, anew]);
}

#[test]
fn what_goes_wrong_again_is_counted_whatever_its_numbers_and_nothing_else_is() {
    let mut stage = stage();
    let crash = |n: u32| {
        format!(
            "v1 failed: the process ended {n} times; it is started again at 1970-01-01T00:00:0{n}Z"
        )
    };
    for n in 1..5 {
        tell(&mut stage, "Warning", &crash(n));
        stage.settle();
    }
    let crashes = of(&crash(4), 4, "00:00", "00:00");
    assert_eq!(told(&stage), std::slice::from_ref(&crashes));
    let others = [
        ("Warning", "v2 failed: the process ended 4 times"),
        ("Warning", "iris-predictor-00002 went back"),
        ("Warning", "iris-predictor-00003 went back"),
        ("Normal", "iris gets 10 % of the requests"),
        ("Normal", "iris gets 50 % of the requests"),
        ("Warning", "experiment 1-price: 10pct is not ready"),
        ("Warning", "experiment 2-copy: 10pct is not ready"),
        ("Warning", "experiment 2-copy: 50pct is not ready"),
        ("Warning", "iris failed: status 404"),
        ("Warning", "iris failed: status 503"),
    ];
    for (event_type, message) in others {
        tell(&mut stage, event_type, message);
        stage.settle();
    }
    let others = others.map(|(_, message)| of(message, 1, "00:00", "00:00"));
    assert_eq!(told(&stage), [vec![crashes], others.to_vec()].concat());
}

#[test]
fn what_comes_and_goes_pushes_nothing_else_out() {
    let mut stage = stage();
    tell(&mut stage, "Normal", "once");
    for n in 0..EVENTS_MAX {
        tell(&mut stage, "Warning", &format!("down for {n} s"));
        stage.settle();
        tell(&mut stage, "Normal", "up");
        stage.settle();
    }
    let count = u64::try_from(EVENTS_MAX).unwrap();
    let [down, up] = [format!("down for {} s", EVENTS_MAX - 1), "up".to_owned()];
    assert_eq!(
        told(&stage),
        [
            of("once", 1, "00:00", "00:00"),
            of(&down, count, "00:00", "00:00"),
            of(&up, count, "00:00", "00:00")
        ]
    );
    // What is counted is as new as what is told for the first time.
    for n in 1..EVENTS_MAX {
        tell(&mut stage, "Normal", "up");
        tell(&mut stage, "Normal", &format!("other {n}"));
        stage.settle();
    }
    assert_eq!(told(&stage).len(), EVENTS_MAX);
    let count = count + u64::try_from(EVENTS_MAX).unwrap() - 1;
    assert!(told(&stage).contains(&of("up", count, "00:00", "00:00")));
}

/// Returns the key of the one event that was told.
fn told_key(stage: &Stage) -> Key {
    let (events, _) = stage.store.list(&EVENT, Some(NAMESPACE));
    let mut events = events.iter();
    let event = events.find(|stored| stored.object["reason"] == "Told");
    event.unwrap().key.clone()
}

#[test]
fn what_is_counted_is_not_lost_where_its_event_is_deleted_or_changed_meanwhile() {
    let mut stage = stage();
    tell(&mut stage, "Warning", "down for 1 s");
    stage.settle();
    let key = told_key(&stage);
    tell(&mut stage, "Warning", "down for 2 s");
    stage.change(&key, |event| {
        event["metadata"]["labels"] = json!({"seen": "yes"});
    });
    stage.settle();
    assert_eq!(told(&stage), [of("down for 2 s", 2, "00:00", "00:00")]);
    let event = stage.store.get(&key).unwrap();
    assert_eq!(event.object["metadata"]["labels"]["seen"], "yes");
    let uid = object::meta_str(&event.object, "uid").to_owned();
    tell(&mut stage, "Warning", "down for 3 s");
    stage.store.delete_whatever(&key).unwrap();
    stage.settle();
    assert_eq!(told(&stage), [of("down for 3 s", 3, "00:00", "00:00")]);
    let event = stage.store.get(&key).unwrap();
    assert_ne!(object::meta_str(&event.object, "uid"), uid);
}
