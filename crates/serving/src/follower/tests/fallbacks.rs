//! What revisions of a service share for where they fail: places, who stands in, and what is kept for that.

use super::*;

/// A service has its places, whichever of its revisions takes them, and has as many after a change that is about something else.
#[test]
fn revisions_of_a_service_share_its_bulkhead() {
    let fixture = fixture();
    let planned = |revisions: &[(&str, &str, u32)], shares: &[(&str, u8)], places, retries| {
        let mut plan = plan(revisions, shares);
        let route = plan.routes.get_mut(&service()).unwrap();
        route.fallback = Some(crate::FallbackSettings {
            bulkhead: Some(crate::BulkheadSettings { places, queue: 0 }),
            retries,
            ..crate::FallbackSettings::default()
        });
        plan
    };
    for _ in 0..2 {
        fixture.open.send(()).unwrap();
    }
    let [a, b] = ["a", "b"].map(|name| (name, "", 0));
    let model = |name: &str| {
        let table = fixture.table.load();
        let route = table.service(&service()).unwrap();
        Arc::clone(route.revision(name).unwrap())
    };
    let shows = |places, retries| {
        move |observed: &Observed| {
            let route = observed.routes.get(&service());
            let settings = route.and_then(|route| route.fallback.as_ref());
            settings.is_some_and(|settings| {
                settings.retries == retries
                    && settings.bulkhead.is_some_and(|own| own.places == places)
            })
        }
    };
    let both = &[("a", 50), ("b", 50)];
    fixture.plans.send(planned(&[a, b], both, 2, 0));
    fixture.wait(shows(2, 0));
    let one = model("a").try_enter().unwrap();
    let two = model("b").try_enter().unwrap();
    assert!(model("a").try_enter().is_none() && model("b").try_enter().is_none());
    fixture.plans.send(planned(&[a, b], both, 2, 1));
    fixture.wait(shows(2, 1));
    assert!(model("a").try_enter().is_none());
    drop(one);
    assert!(model("b").try_enter().is_some());
    // Another number of places is another bulkhead: who is in work is not of it.
    fixture.plans.send(planned(&[a, b], both, 1, 1));
    fixture.wait(shows(1, 1));
    let three = model("a").try_enter().unwrap();
    assert!(model("b").try_enter().is_none());
    drop((two, three));
    assert!(model("b").try_enter().is_some());
    fixture.plans.stop();
}

/// A revision that takes no requests of its own stands in for the one that does, and is let go of with its plan.
#[test]
fn a_revision_stands_in_for_the_others_of_its_service() {
    let fixture = fixture();
    let mut planned = plan(&[("a", "", 0), ("b", "", 0)], &[("a", 100), ("b", 0)]);
    let route = planned.routes.get_mut(&service()).unwrap();
    route.fallback = Some(crate::FallbackSettings {
        revision: Some("b".to_owned()),
        ..crate::FallbackSettings::default()
    });
    for _ in 0..2 {
        fixture.open.send(()).unwrap();
    }
    // Both are there before there is a route.
    let mut first = planned.clone();
    first.routes.clear();
    fixture.plans.send(first);
    fixture.wait(|observed| is_ready(observed, "a") && is_ready(observed, "b"));
    fixture.plans.send(planned);
    fixture.wait(|observed| observed.routes.contains_key(&service()));
    let stand_in = || {
        let table = fixture.table.load();
        let route = table.service(&service()).unwrap();
        let fallback = route.revision("a").unwrap().fallback().unwrap();
        let other = fallback.revision()?;
        Some(other.revision().unwrap().name.clone())
    };
    assert_eq!(stand_in().as_deref(), Some("b"));
    fixture.plans.send(plan(&[("a", "", 0)], &[("a", 100)]));
    fixture.wait(|observed| !observed.revisions.contains_key(&id("b")));
    let table = fixture.table.load();
    let route = table.service(&service()).unwrap();
    assert!(route.revision("a").unwrap().fallback().is_none());
    fixture.plans.stop();
}

/// What a revision was told to keep is there for the next one, unless it is kept by another header.
#[test]
fn revisions_of_a_service_keep_the_same_for_their_fallbacks() {
    let fixture = fixture();
    let planned = |revisions: &[(&str, &str, u32)], shares: &[(&str, u8)], key: &str| {
        let mut plan = plan(revisions, shares);
        let route = plan.routes.get_mut(&service()).unwrap();
        route.fallback = Some(crate::FallbackSettings {
            key: Some(key.to_owned()),
            ..crate::FallbackSettings::default()
        });
        plan
    };
    let kept = |name: &str| {
        let table = fixture.table.load();
        let mut targets = table.service(&service()).unwrap().targets().iter();
        let target = targets.find(|target| {
            let revision = target.model.revision();
            revision.is_some_and(|revision| revision.name == name)
        });
        let fallback = target.unwrap().model.fallback().unwrap();
        fallback.memory().get::<Mutex<()>>().unwrap()
    };
    let ([a, b, c], n_targets) = (
        ["a", "b", "c"].map(|name| (name, "", 0)),
        |observed: &Observed, n| {
            let route = observed.routes.get(&service());
            route.is_some_and(|route| route.targets.len() == n)
        },
    );
    for _ in 0..3 {
        fixture.open.send(()).unwrap();
    }
    let send = |plan| fixture.plans.send(plan);
    send(planned(&[a], &[("a", 100)], "x-user"));
    fixture.wait(|observed| n_targets(observed, 1));
    let before = kept("a");
    send(planned(&[a, b], &[("a", 90), ("b", 10)], "x-user"));
    fixture.wait(|observed| n_targets(observed, 2));
    assert!(Arc::ptr_eq(&kept("b"), &before) && Arc::ptr_eq(&kept("a"), &before));
    send(planned(&[b], &[("b", 100)], "x-user"));
    fixture.wait(|observed| n_targets(observed, 1));
    assert!(Arc::ptr_eq(&kept("b"), &before));
    send(planned(&[b, c], &[("b", 50), ("c", 50)], "x-device"));
    fixture.wait(|observed| n_targets(observed, 2));
    assert!(!Arc::ptr_eq(&kept("b"), &before) && Arc::ptr_eq(&kept("b"), &kept("c")));
    fixture.plans.stop();
}
