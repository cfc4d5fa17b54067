//! Replicas, models that are let go of and loaded again, and the room that they take.

use super::watched::until;
use super::*;

#[test]
fn replicas_follow_the_plan_without_a_new_load() {
    let fixture = fixture();
    let with = |replicas: u32| {
        let mut plan = plan(&[("a", "", 0)], &[("a", 100)]);
        for planned in plan.revisions.values_mut() {
            planned.replicas = replicas;
        }
        plan
    };
    let has = |n: u32| move |observed: &Observed| matches!(observed.revisions.get(&id("a")), Some(RevisionState::Ready { replicas, .. }) if *replicas == n);
    fixture.plans.send(with(1));
    fixture.open.send(()).unwrap();
    fixture.wait(has(1));
    // The gate stays closed: another load would wait for ever.
    fixture.plans.send(with(3));
    fixture.wait(has(3));
    fixture.plans.stop();
}

/// A plan with one revision of so many replicas, one call in each at a time.
fn scaled(n: u32) -> Plan {
    let mut plan = plan(&[("a", "", 0)], &[("a", 100)]);
    for planned in plan.revisions.values_mut() {
        (planned.replicas, planned.concurrency) = (n, Some(1));
    }
    plan
}

fn replicas(observed: &Observed) -> Option<(usize, u32)> {
    match observed.revisions.get(&id("a")) {
        Some(RevisionState::Ready {
            memory_bytes,
            replicas,
        }) => Some((*memory_bytes, *replicas)),
        _ => None,
    }
}

impl Fixture {
    fn served(&self) -> Arc<ServedModel> {
        let table = self.table.load();
        Arc::clone(table.service(&service()).unwrap().choose())
    }
}

#[tokio::test]
async fn a_model_is_let_go_of_and_loaded_for_the_next_request() {
    let fixture = fixture();
    fixture.plans.send(scaled(1));
    fixture.open.send(()).unwrap();
    fixture.wait(|observed| observed.routes.contains_key(&service()));
    let served = fixture.served();
    let lease = served.try_enter().unwrap();
    assert!(served.try_enter().is_none(), "one call at a time");
    fixture.plans.send(scaled(0));
    fixture.wait(|observed| replicas(observed) == Some((0, 0)));
    // The call in flight ends on the model that it has.
    assert!(!served.is_loaded() && lease.run(&[], &[]).is_ok());
    drop(lease);
    fixture.open.send(()).unwrap();
    let woken = served.enter(std::time::Duration::from_secs(60)).await;
    assert!(woken.unwrap().run(&[], &[]).is_ok());
    fixture.wait(|observed| replicas(observed) == Some((7, 1)));
    fixture.plans.send(scaled(2));
    fixture.wait(|observed| replicas(observed) == Some((7, 2)));
    let both = [served.try_enter(), served.try_enter()];
    assert!(both.iter().all(Option::is_some) && served.try_enter().is_none());
    fixture.plans.stop();
}

#[tokio::test]
async fn what_is_planned_without_replicas_is_loaded_by_its_first_request() {
    let fixture = fixture();
    fixture.plans.send(scaled(0));
    fixture.wait(|observed| observed.routes.contains_key(&service()));
    let served = fixture.served();
    assert!(!served.is_loaded());
    fixture.open.send(()).unwrap();
    let second = std::time::Duration::from_secs(60);
    assert!(served.enter(second).await.is_ok());
    // Let go of by the plan, then planned again: loaded without a request.
    fixture.plans.send(scaled(1));
    fixture.wait(|observed| replicas(observed) == Some((7, 1)));
    fixture.plans.send(scaled(0));
    fixture.wait(|observed| replicas(observed) == Some((0, 0)));
    fixture.open.send(()).unwrap();
    fixture.plans.send(scaled(1));
    fixture.wait(|observed| replicas(observed) == Some((7, 1)));
    // The service goes: whoever comes late is told.
    fixture.plans.send(scaled(0));
    fixture.wait(|observed| replicas(observed) == Some((0, 0)));
    fixture.plans.send(Plan::default());
    fixture.wait(|observed| observed.revisions.is_empty());
    assert!(matches!(
        served.enter(second).await,
        Err(crate::Refusal::Failed(_))
    ));
    fixture.plans.stop();
}

#[test]
fn a_model_that_panics_again_and_again_is_seen_to_have_failed() {
    let fixture = fixture();
    fixture
        .plans
        .send(plan(&[("a", "panics", 0)], &[("a", 100)]));
    fixture.open.send(()).unwrap();
    fixture.wait(|observed| is_ready(observed, "a") && !observed.routes.is_empty());
    let table = fixture.table.load();
    let model = &table.service(&service()).unwrap().targets()[0].model;
    for _ in 0..5 {
        let lease = model.try_enter().unwrap();
        assert!(model.run(&lease, &[], &[], Duration::MAX).is_err());
    }
    assert!(model.try_enter().is_none());
    let observed = fixture.wait(|observed| !is_ready(observed, "a"));
    let Some(RevisionState::Failed { failure, .. }) = observed.revisions.get(&id("a")) else {
        panic!("{observed:?}");
    };
    assert!(failure.message.contains("again and again") && !failure.is_transient);
}

#[tokio::test]
async fn models_make_room_for_each_other_and_stay_ready() {
    let fixture = fixture_within(Some(7));
    let (a, b) = (("a", "", 0), ("b", "", 0));
    fixture.plans.send(plan(&[a], &[("a", 100)]));
    fixture.open.send(()).unwrap();
    fixture.wait(|observed| observed.routes.contains_key(&service()));
    let first = fixture.served();
    let split = [("a", 50), ("b", 50)];
    fixture.plans.send(plan(&[a, b], &split));
    fixture.open.send(()).unwrap();
    // One of them is in memory; both are ready, and have their lane.
    let memory = |observed: &Observed, name| match observed.revisions.get(&id(name)) {
        Some(RevisionState::Ready {
            memory_bytes,
            replicas: 1,
        }) => Some(*memory_bytes),
        _ => None,
    };
    let held = |observed: &Observed| ["a", "b"].map(|name| memory(observed, name));
    fixture.wait(|observed| held(observed) == [Some(0), Some(7)]);
    assert!(!first.is_loaded());
    // A request for the other one brings it back.
    fixture.open.send(()).unwrap();
    let minute = std::time::Duration::from_secs(60);
    assert!(first.enter(minute).await.is_ok());
    fixture.wait(|observed| held(observed) == [Some(7), Some(0)]);
    fixture.plans.stop();
}

/// Loads that wait on purpose are no loads that run: of those only so many do at a time.
#[test]
fn loads_that_faults_keep_waiting_take_no_place_from_others() {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new());
    let chaos = Chaos::new(clock, 0);
    let held: Vec<String> = (0..LOADS_MAX).map(|n| format!("held-{n}")).collect();
    let fault = ChaosFault {
        load_delay: Duration::from_secs(3_600),
        ..ChaosFault::default()
    };
    for name in &held {
        let target = ChaosTarget {
            namespace: Some("n".to_owned()),
            name: name.clone(),
        };
        let time = Duration::from_secs(7_200);
        chaos.set(target, fault, time).unwrap();
    }
    let fixture = fixture_with(None, Some(chaos.clone()));
    let mut revisions: Vec<(&str, &str, u32)> =
        held.iter().map(|name| (name.as_str(), "", 0)).collect();
    // Its name comes last, and so does its turn.
    revisions.push(("other", "", 0));
    fixture.plans.send(plan(&revisions, &[]));
    fixture.open.send(()).unwrap();
    let observed = fixture.wait(|observed| is_ready(observed, "other"));
    assert!(held.iter().all(|name| !is_ready(&observed, name)));
    // A request that wakes one, or another plan, begins no second wait.
    fixture.plans.send(plan(&revisions, &[("other", 100)]));
    fixture.wait(|observed| observed.routes.contains_key(&service()));
    // Each waits on a thread of its own, which may only be about to.
    until(|| chaos.counts().loads >= held.len() as u64);
    assert_eq!(chaos.counts().loads, held.len() as u64);
    chaos.clear(None);
    for _ in &held {
        fixture.open.send(()).unwrap();
    }
    fixture.wait(|observed| held.iter().all(|name| is_ready(observed, name)));
}
