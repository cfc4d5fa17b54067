//! Default predictions that no answer could be.

use super::flows::with_flow;
use super::*;

/// Whether a default prediction is one is known once the model is, and of the one that is said by now.
#[test]
fn a_default_prediction_that_no_answer_could_be_is_told() {
    let fixture = fixture();
    let with_value = |value: Option<&str>| {
        let mut plan = plan(&[("a", "", 0)], &[("a", 100)]);
        let route = plan.routes.get_mut(&service()).unwrap();
        route.fallback = value.map(|value| FallbackSettings {
            value: Some(value.to_owned()),
            ..FallbackSettings::default()
        });
        plan
    };
    fixture.plans.send(with_value(Some("none")));
    fixture.open.send(()).unwrap();
    let told = |observed: &Observed| observed.misfits.get(&service()).cloned();
    let observed = fixture.wait(|observed| !observed.routes.is_empty());
    assert_eq!(told(&observed).as_deref(), Some("revision a: none of 0"));
    fixture.plans.send(with_value(Some("0")));
    fixture.wait(|observed| told(observed).is_none());
    fixture.plans.send(with_value(Some("none")));
    fixture.wait(|observed| told(observed).is_some());
    fixture.plans.send(with_value(None));
    fixture.wait(|observed| told(observed).is_none());
    fixture.plans.stop();
}

/// What is put together after every change is not read again for that.
#[test]
fn a_default_prediction_is_checked_once_for_what_is_known() {
    let fixture = fixture();
    let with_value = |revisions: &[(&str, &str, u32)], shares: &[(&str, u8)], value: &str| {
        let mut plan = plan(revisions, shares);
        plan.routes.get_mut(&service()).unwrap().fallback = Some(FallbackSettings {
            value: Some(value.to_owned()),
            ..FallbackSettings::default()
        });
        plan
    };
    let one = [("a", "", 0)];
    fixture
        .plans
        .send(with_value(&one, &[("a", 100)], "counted"));
    fixture.open.send(()).unwrap();
    let told = |observed: &Observed| observed.misfits.get(&service()).cloned();
    let observed = fixture.wait(|observed| told(observed).is_some());
    assert_eq!(told(&observed).as_deref(), Some("revision a: counted"));
    let checked = || N_COUNTED.load(Ordering::SeqCst);
    assert_eq!(checked(), 1);
    // Another revision loads beside it, and takes no requests yet.
    let two = [("a", "", 0), ("b", "", 0)];
    fixture
        .plans
        .send(with_value(&two, &[("a", 100)], "counted"));
    fixture.wait(|observed| observed.revisions.contains_key(&id("b")));
    fixture.open.send(()).unwrap();
    fixture.wait(|observed| is_ready(observed, "b"));
    assert_eq!(checked(), 1);
    // With that, something else is known; and another value is another one.
    let both = [("a", 50), ("b", 50)];
    fixture.plans.send(with_value(&two, &both, "counted"));
    fixture.wait(|observed| {
        let route = observed.routes.get(&service());
        route.is_some_and(|route| route.targets.len() == 2)
    });
    assert_eq!(checked(), 2);
    fixture.plans.send(with_value(&two, &both, "0"));
    fixture.wait(|observed| told(observed).is_none());
    fixture.plans.send(with_value(&two, &both, "counted"));
    fixture.wait(|observed| told(observed).is_some());
    assert_eq!(checked(), 3);
    fixture.plans.stop();
}

#[test]
fn a_default_prediction_of_a_flow_that_no_answer_could_be_is_told() {
    let fixture = fixture();
    let with_value = |value: &str| {
        let mut plan = with_flow(plan(&[("a", "", 0)], &[("a", 100)]), &["a"]);
        plan.flows.get_mut(&service()).unwrap().fallback = Some(FallbackSettings {
            value: Some(value.to_owned()),
            ..FallbackSettings::default()
        });
        plan
    };
    fixture.plans.send(with_value("none"));
    fixture.open.send(()).unwrap();
    let told = |observed: &Observed| observed.misfits.get(&service()).cloned();
    let observed = fixture.wait(|observed| told(observed).is_some());
    assert_eq!(told(&observed).as_deref(), Some("none of 0"));
    fixture.plans.send(with_value("0"));
    fixture.wait(|observed| !observed.flows.is_empty() && told(observed).is_none());
    fixture.plans.stop();
}
