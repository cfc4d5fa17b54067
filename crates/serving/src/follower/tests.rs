//! Plans followed with a loader that waits for the test.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use coracle_base::ManualClock;
use coracle_model::Signature;

use super::*;
use crate::chaos::{ChaosFault, ChaosTarget};
use crate::experiment::LineForm;
use crate::fallback::FallbackSettings;
use crate::flow::Reward;
use crate::plan::{Observed, PlannedPredictor, PlannedTarget, RevisionSource};
use crate::predictors::Predictors;
use crate::served_model::tests::faulty;

/// Loads when the test says so, and fails where the source says so.
struct GatedLoader {
    gate: Mutex<Receiver<()>>,
}

impl Loader for GatedLoader {
    fn load(
        &self,
        _id: &RevisionId,
        revision: &PlannedRevision,
        _progress: &(dyn Fn(LogSource, &str) + Sync),
        _make_room: &dyn Fn(u64) -> Result<(), LoadFailure>,
    ) -> Result<(Box<dyn Model>, LoadPhases), LoadFailure> {
        self.gate.lock().unwrap().recv().unwrap();
        if revision.source.uri == "bad" && revision.attempt == 0 {
            return Err(LoadFailure {
                code: Code::NotFound,
                message: "nothing there".to_owned(),
                is_transient: true,
            });
        }
        let panics = revision.source.uri == "panics";
        Ok((Box::new(faulty(panics)), LoadPhases::default()))
    }
}

struct Fixture {
    plans: PlanSender,
    open: mpsc::Sender<()>,
    changes: mpsc::Receiver<()>,
    observed: Arc<ObservedCell>,
    table: Arc<SharedTable>,
}

fn fixture() -> Fixture {
    fixture_within(None)
}

/// A follower whose models may take so many bytes together; each takes seven.
fn fixture_within(limit: Option<u64>) -> Fixture {
    fixture_with(limit, None)
}

fn fixture_with(limit: Option<u64>, chaos: Option<Chaos>) -> Fixture {
    fixture_of(limit, chaos, None)
}

/// How often it was asked of the value `counted`.
static N_COUNTED: AtomicUsize = AtomicUsize::new(0);

fn fits_model(value: &str, signature: &Signature) -> Result<(), String> {
    match value {
        "none" => Err(format!("none of {}", signature.outputs.len())),
        "counted" => {
            N_COUNTED.fetch_add(1, Ordering::SeqCst);
            Err("counted".to_owned())
        }
        _ => Ok(()),
    }
}

fn fixture_of(
    limit: Option<u64>,
    chaos: Option<Chaos>,
    experiments: Option<Experiments>,
) -> Fixture {
    let (open, gate) = mpsc::channel();
    let (changed, changes) = mpsc::channel();
    let observed = Arc::new(ObservedCell::new(Box::new(move || {
        changed.send(()).unwrap_or_default()
    })));
    let table = Arc::new(SharedTable::default());
    let loader = GatedLoader {
        gate: Mutex::new(gate),
    };
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new());
    let (follower, plans) = Follower::new(FollowerConfig {
        loader: Arc::new(loader),
        processes: None,
        table: Arc::clone(&table),
        observed: Arc::clone(&observed),
        log: RevisionLog::none(Arc::clone(&clock)),
        chaos,
        budget: limit.map(|limit| {
            let limit = coracle_base::ByteCount::new(limit);
            Arc::new(MemoryBudget::new(limit, Arc::clone(&clock)))
        }),
        clock,
        n_workers: 1,
        experiments,
        routers: None,
        fits: Some(FitsOutputs {
            model: fits_model,
            flow: |value, flow, known| {
                let mut asks = flow.asks().into_iter();
                let last = asks.next_back().and_then(known)?;
                Some(fits_model(value, &last))
            },
        }),
    });
    std::thread::spawn(move || follower.run());
    Fixture {
        plans,
        open,
        changes,
        observed,
        table,
    }
}

fn id(name: &str) -> RevisionId {
    RevisionId {
        namespace: "n".to_owned(),
        name: name.to_owned(),
    }
}

fn service() -> ServiceId {
    ServiceId {
        namespace: "n".to_owned(),
        name: "s".to_owned(),
    }
}

fn plan(revisions: &[(&str, &str, u32)], shares: &[(&str, u8)]) -> Plan {
    let revision = |&(name, uri, attempt): &(&str, &str, u32)| {
        let planned = PlannedRevision {
            model_name: "s".to_owned(),
            source: RevisionSource {
                uri: uri.to_owned(),
                ..RevisionSource::default()
            },
            attempt,
            replicas: 1,
            concurrency: None,
            timeout: None,
            payloads: None,
            batching: None,
            response_cache: None,
        };
        (id(name), planned)
    };
    let target = |&(revision, percent): &(&str, u8)| PlannedTarget {
        revision: revision.to_owned(),
        percent,
        tags: vec![],
    };
    let mut plan = Plan {
        revisions: revisions.iter().map(revision).collect(),
        ..Plan::default()
    };
    if !shares.is_empty() {
        plan.routes.insert(
            service(),
            PlannedRoute {
                targets: shares.iter().map(target).collect(),
                sticky: None,
                is_compared: false,
                shadow: None,
                fallback: None,
                experiments: Vec::new(),
                absence: None,
                predictors: Vec::new(),
            },
        );
    }
    plan
}

impl Fixture {
    /// Waits until what is observed satisfies `holds`.
    fn wait(&self, holds: impl Fn(&Observed) -> bool) -> Observed {
        loop {
            let observed = self.observed.get();
            if holds(&observed) {
                return observed;
            }
            self.changes.recv().unwrap();
        }
    }

    fn shares(&self) -> Vec<u8> {
        let table = self.table.load();
        let route = table.service(&service());
        route
            .map(|route| {
                route
                    .targets()
                    .iter()
                    .map(|target| target.percent)
                    .collect()
            })
            .unwrap_or_default()
    }
}

fn is_ready(observed: &Observed, name: &str) -> bool {
    matches!(
        observed.revisions.get(&id(name)),
        Some(RevisionState::Ready { .. })
    )
}

#[test]
fn a_route_switches_once_all_its_revisions_are_ready() {
    let fixture = fixture();
    fixture.plans.send(plan(&[("a", "", 0)], &[("a", 100)]));
    fixture.wait(|observed| observed.revisions.contains_key(&id("a")));
    assert_eq!(fixture.shares(), [0_u8; 0]);
    fixture.open.send(()).unwrap();
    fixture.wait(|observed| observed.routes.contains_key(&service()));
    assert_eq!(fixture.shares(), [100]);
    // Half the requests are to go to a revision that is not there yet.
    fixture
        .plans
        .send(plan(&[("a", "", 0), ("b", "", 0)], &[("a", 50), ("b", 50)]));
    let observed = fixture.wait(|observed| observed.revisions.contains_key(&id("b")));
    assert!(!is_ready(&observed, "b"));
    assert_eq!(fixture.shares(), [100]);
    fixture.open.send(()).unwrap();
    fixture.wait(|observed| observed.routes[&service()].targets.len() == 2);
    assert_eq!(fixture.shares(), [50, 50]);
    fixture.plans.send(Plan::default());
    fixture.wait(|observed| observed.revisions.is_empty() && observed.routes.is_empty());
    assert_eq!(fixture.shares(), [0_u8; 0]);
    fixture.plans.stop();
}

/// As after a restart: each service is waited for by itself, and what could not be loaded no longer.
#[test]
fn what_is_still_to_come_is_told_until_it_is_there() {
    let fixture = fixture();
    assert!(!fixture.table.load().is_planned());
    let mut planned = plan(&[("a", "", 0), ("b", "bad", 0)], &[("a", 100)]);
    let other = ServiceId {
        namespace: "n".to_owned(),
        name: "t".to_owned(),
    };
    let mut route = planned.routes[&service()].clone();
    route.targets[0].revision = "b".to_owned();
    planned.routes.insert(other.clone(), route);
    fixture.plans.send(planned.clone());
    fixture.wait(|observed| observed.revisions.contains_key(&id("b")));
    let second = Duration::from_secs(1);
    let coming = |until, failure: Option<&str>| {
        Some(Coming {
            until,
            failure: failure.map(str::to_owned),
        })
    };
    let now = |id: &ServiceId| fixture.table.load().coming(id).cloned();
    assert!(fixture.table.load().is_planned());
    assert_eq!(now(&service()), coming(60 * second, None));
    assert_eq!(now(&other), coming(60 * second, None));
    // Both loads end, in any order.
    fixture.open.send(()).unwrap();
    fixture.open.send(()).unwrap();
    let failed = |observed: &Observed| {
        let state = observed.revisions.get(&id("b"));
        matches!(state, Some(RevisionState::Failed { .. })) && is_ready(observed, "a")
    };
    fixture.wait(failed);
    assert_eq!(now(&service()), None);
    assert_eq!(fixture.shares(), [100]);
    // For a moment: another plan may say what answers instead.
    assert_eq!(now(&other), coming(2 * second, Some("nothing there")));
    planned.routes.remove(&other);
    fixture.plans.send(planned);
    until(|| now(&other).is_none());
    assert!(!fixture.table.load().has_coming());
    // What serves goes on until its successor is there: nobody waits.
    let successor = plan(&[("a", "", 0), ("c", "", 0)], &[("c", 100)]);
    fixture.plans.send(successor);
    fixture.wait(|observed| observed.revisions.contains_key(&id("c")));
    assert!(!fixture.table.load().has_coming());
    fixture.plans.stop();
}

/// A revision that is still being loaded may answer for one that could not be: the plan says so once it is there.
#[test]
fn what_is_still_being_loaded_is_waited_for_beside_what_failed() {
    let fixture = fixture();
    fixture.plans.send(plan(&[("b", "bad", 0)], &[]));
    fixture.open.send(()).unwrap();
    let is_failed = |observed: &Observed| {
        let state = observed.revisions.get(&id("b"));
        matches!(state, Some(RevisionState::Failed { .. }))
    };
    fixture.wait(is_failed);
    let both = [("b", "bad", 0), ("c", "", 0)];
    fixture.plans.send(plan(&both, &[("b", 50), ("c", 50)]));
    fixture.wait(|observed| observed.revisions.contains_key(&id("c")));
    let until = || {
        let table = fixture.table.load();
        table.coming(&service()).map(|coming| coming.until)
    };
    assert_eq!(until(), Some(Duration::from_secs(60)));
    fixture.open.send(()).unwrap();
    fixture.wait(|observed| is_ready(observed, "c"));
    assert_eq!(until(), Some(Duration::from_secs(2)));
    fixture.plans.send(plan(&both, &[("c", 100)]));
    fixture.wait(|observed| observed.routes.contains_key(&service()));
    assert_eq!((until(), fixture.shares()), (None, vec![100]));
    fixture.plans.stop();
}

/// Whoever asks for what has no replicas is told so, and not that there is no such model.
#[test]
fn a_service_that_is_absent_says_why() {
    let fixture = fixture();
    let mut planned = plan(&[], &[("a", 100)]);
    let route = planned.routes.get_mut(&service()).unwrap();
    route.targets.clear();
    route.absence = Some(crate::Absence {
        model: "classifier".to_owned(),
        why: "it has 0 replicas".to_owned(),
    });
    fixture.plans.send(planned);
    fixture.wait(|observed| observed.routes.contains_key(&service()));
    let table = fixture.table.load();
    let absent = table.service(&service()).unwrap().choose();
    assert_eq!(
        (absent.name(), absent.trouble().as_deref()),
        ("classifier", Some("it has 0 replicas"))
    );
    fixture.plans.stop();
}

/// What stands in answers for a service of which nothing is up yet.
#[test]
fn a_service_that_is_not_up_yet_has_a_route_to_what_stands_in() {
    let fixture = fixture();
    let mut planned = plan(&[("a", "", 0)], &[("a", 100)]);
    let route = planned.routes.get_mut(&service()).unwrap();
    let targets = std::mem::take(&mut route.targets);
    let other = ServiceId {
        name: "other".to_owned(),
        ..service()
    };
    route.fallback = Some(crate::FallbackSettings {
        service: Some(other.clone()),
        ..crate::FallbackSettings::default()
    });
    fixture.plans.send(planned.clone());
    fixture.wait(|observed| observed.routes.contains_key(&service()));
    let model = || {
        let table = fixture.table.load();
        Arc::clone(table.service(&service()).unwrap().choose())
    };
    let absent = model();
    assert_eq!(
        absent.trouble().as_deref(),
        Some("no revision of the service is up yet")
    );
    let fallback = absent.fallback().unwrap();
    assert_eq!(fallback.settings().service, Some(other));
    // Once it is up, it answers itself.
    planned.routes.get_mut(&service()).unwrap().targets = targets;
    fixture.open.send(()).unwrap();
    fixture.plans.send(planned);
    fixture.wait(|observed| !observed.routes[&service()].targets.is_empty());
    assert!(model().trouble().is_none() && model().revision().is_some());
    fixture.plans.stop();
}

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

/// Adds a flow of these revisions, one after another, to a plan.
fn with_flow(plan: Plan, revisions: &[&str]) -> Plan {
    use crate::flow::{AskStep, PlannedFlow, Step};

    let ask = |revision: &&str| {
        Step::Ask(AskStep {
            node: "node".to_owned(),
            service: "s".to_owned(),
            revision: Some((*revision).to_owned()),
        })
    };
    let flow = PlannedFlow {
        name: "node".to_owned(),
        root: Step::Chain(revisions.iter().map(ask).collect()),
        shadow: None,
        fallback: None,
    };
    Plan {
        flows: [(service(), flow)].into(),
        ..plan
    }
}

#[test]
fn a_flow_switches_once_all_its_revisions_are_ready_and_not_before_that() {
    use crate::flow::{FlowStep, FlowTarget};

    let fixture = fixture();
    let observed_revisions = |observed: &Observed| {
        let flow = observed.flows.get(&service());
        let revisions = flow.map(|flow| flow.revisions().len());
        revisions.unwrap_or_default()
    };
    let of_a = plan(&[("a", "", 0)], &[("a", 100)]);
    fixture.plans.send(with_flow(of_a, &["a"]));
    fixture.wait(|observed| observed.revisions.contains_key(&id("a")));
    assert!(!fixture.table.load().has_flows());
    fixture.open.send(()).unwrap();
    fixture.wait(|observed| observed_revisions(observed) == 1);
    assert!(fixture.table.load().flow(&service()).is_some());
    // A revision that goes and comes back is another model, which requests get once it is there.
    fixture.plans.send(with_flow(Plan::default(), &["a"]));
    fixture.wait(|observed| observed.revisions.is_empty());
    let of_a = plan(&[("a", "", 0)], &[("a", 100)]);
    fixture.plans.send(with_flow(of_a, &["a"]));
    fixture.open.send(()).unwrap();
    fixture.wait(|observed| is_ready(observed, "a") && !observed.routes.is_empty());
    {
        let table = fixture.table.load();
        let FlowStep::Chain(steps) = table.flow(&service()).unwrap().root() else {
            panic!("no chain");
        };
        let FlowStep::Ask(ask) = &steps[0] else {
            panic!("no model");
        };
        let FlowTarget::Revision(held) = &ask.target else {
            panic!("no revision");
        };
        let now = table.service(&service()).unwrap().choose();
        assert!(Arc::ptr_eq(held, now));
    }
    let of_both = plan(&[("a", "", 0), ("b", "", 0)], &[("a", 100)]);
    fixture.plans.send(with_flow(of_both.clone(), &["a", "b"]));
    let observed = fixture.wait(|observed| observed.revisions.contains_key(&id("b")));
    assert_eq!(observed_revisions(&observed), 1);
    fixture.open.send(()).unwrap();
    fixture.wait(|observed| observed_revisions(observed) == 2);
    fixture.plans.send(of_both);
    fixture.wait(|observed| observed.flows.is_empty());
    assert!(!fixture.table.load().has_flows());
    fixture.plans.stop();
}

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

/// Who is one of several predictors knows which one, for as long as there are several; what came of their answers stays.
#[test]
fn several_predictors_know_which_one_they_are() {
    let fixture = fixture();
    let predictor = |name: &str| PlannedPredictor {
        name: name.to_owned(),
        node: "classify".to_owned(),
        revisions: vec![name.to_owned()],
    };
    let both = |predictors: Vec<PlannedPredictor>, shares: &[(&str, u8)]| {
        let mut plan = plan(&[("a", "", 0), ("b", "", 0)], shares);
        plan.routes.get_mut(&service()).unwrap().predictors = predictors;
        plan
    };
    let planned = both(
        vec![predictor("b"), predictor("a")],
        &[("a", 50), ("b", 50)],
    );
    fixture.plans.send(planned);
    for _ in 0..2 {
        fixture.open.send(()).unwrap();
    }
    fixture.wait(|observed| !observed.routes.is_empty());
    let numbers = || {
        let table = fixture.table.load();
        let targets = table.service(&service()).unwrap().targets().iter();
        let numbers = targets.map(|target| target.model.branch().map(|branch| branch.number));
        numbers.collect::<Vec<_>>()
    };
    assert_eq!(numbers(), [Some(1), Some(0)]);
    let reward = Reward {
        reward: 1.0,
        n_rows: 1,
        routing: &|_node| Some(0),
    };
    let told = || {
        let table = fixture.table.load();
        let route = Arc::clone(table.service(&service()).unwrap());
        let predictors = route.predictors().into_iter();
        let all = predictors.flat_map(Predictors::feedback);
        let all = all.map(|(key, counters)| (key.to_owned(), counters.count()));
        (Arc::clone(&route), all.collect::<Vec<_>>())
    };
    assert_eq!(told().0.reward(&reward), Ok(Some("classify")));
    let planned = both(
        vec![predictor("a"), predictor("b")],
        &[("a", 60), ("b", 40)],
    );
    fixture.plans.send(planned);
    fixture.wait(|observed| observed.routes[&service()].targets[0].percent == 60);
    assert_eq!(numbers(), [Some(0), Some(1)]);
    let expected = [("a/classify".to_owned(), 0), ("b/classify".to_owned(), 1)];
    assert_eq!(told().1, expected);
    fixture
        .plans
        .send(both(Vec::new(), &[("a", 60), ("b", 40)]));
    fixture.wait(|observed| observed.routes[&service()].predictors.is_empty());
    assert_eq!(numbers(), [None, None]);
    assert_eq!(
        told().0.reward(&reward),
        Ok(Some(told().0.targets()[0].model.name()))
    );
    fixture.plans.stop();
}

#[test]
fn a_failed_revision_is_tried_again_when_the_plan_says_so() {
    let fixture = fixture();
    fixture.plans.send(plan(&[("a", "bad", 0)], &[("a", 100)]));
    fixture.open.send(()).unwrap();
    let failed = |observed: &Observed| {
        matches!(
            observed.revisions.get(&id("a")),
            Some(RevisionState::Failed { attempt: 0, .. })
        )
    };
    fixture.wait(failed);
    // The same plan again is no reason to try again.
    fixture.plans.send(plan(&[("a", "bad", 0)], &[("a", 100)]));
    fixture.plans.send(plan(&[("a", "bad", 1)], &[("a", 100)]));
    fixture.open.send(()).unwrap();
    fixture.wait(|observed| is_ready(observed, "a") && !observed.routes.is_empty());
    assert_eq!(fixture.shares(), [100]);
    fixture.plans.stop();
}

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

/// Waits for what another thread does, a minute at most.
fn until(is_done: impl Fn() -> bool) {
    let mut looks = 0..6_000;
    while !is_done() {
        assert!(
            looks.next().is_some(),
            "it did not come to that in a minute"
        );
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// What a plan says of books, and needs for its routes: an experiment whose revisions are not loaded yet is not open, and its file stays.
#[test]
fn files_of_books_that_no_plan_needs_go() {
    let directory = tempfile::tempdir().unwrap();
    let lines = LineForm {
        write: |line| Ok(serde_json::to_vec(line)?),
        read: |line| serde_json::from_slice(line).ok(),
    };
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new());
    let path = directory.path().to_owned();
    let experiments = Experiments::start(path, lines, clock).unwrap();
    let of = |name: &str| PlannedExperiment {
        name: name.to_owned(),
        uid: "u".to_owned(),
        ..PlannedExperiment::default()
    };
    // Written by an earlier run.
    let is_there = |name: &str| {
        let files = std::fs::read_dir(directory.path().join("n"));
        let mut names = files
            .into_iter()
            .flatten()
            .flatten()
            .map(|file| file.file_name());
        names.any(|file| file.to_string_lossy().starts_with(name))
    };
    for name in ["routed", "there", "gone"] {
        drop(experiments.open("n", &of(name)));
        until(|| is_there(name));
    }
    let fixture = fixture_of(None, None, Some(experiments.clone()));
    let mut plan = plan(&[("a", "", 1)], &[("a", 100)]);
    if let Some(route) = plan.routes.get_mut(&service()) {
        route.experiments.push(of("routed"));
    }
    fixture.plans.send(plan.clone());
    fixture.wait(|observed| observed.revisions.contains_key(&id("a")));
    plan.books = Some([BookId::of("n", &of("there"))].into());
    fixture.plans.send(plan);
    until(|| !is_there("gone"));
    // Files go in any order; this one comes after all that go have gone.
    let _open = experiments.open("n", &of("after"));
    until(|| is_there("after"));
    assert!(is_there("routed") && is_there("there"));
    fixture.plans.stop();
}

/// Of a route whose revisions are compared it is known what they have in work.
#[test]
fn calls_in_work_are_watched_where_revisions_are_compared() {
    let fixture = fixture();
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new());
    for is_compared in [true, false] {
        let mut planned = plan(&[("a", "", 0)], &[("a", 100)]);
        planned.routes.get_mut(&service()).unwrap().is_compared = is_compared;
        let route = planned.routes[&service()].clone();
        fixture.plans.send(planned);
        fixture.open.send(()).unwrap();
        fixture.wait(|observed| observed.routes.get(&service()) == Some(&route));
        let table = fixture.table.load();
        let model = table.service(&service()).unwrap().choose();
        let call = model.start_call(0, clock.monotonic(), &clock);
        let in_work = model.statistics().in_work(clock.monotonic());
        assert_eq!(in_work.iter().sum::<u64>(), u64::from(is_compared));
        drop(call);
    }
    fixture.plans.stop();
}
