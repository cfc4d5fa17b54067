//! Plans followed with a loader that waits for the test.

mod fallbacks;
mod flows;
mod misfits;
mod predictors;
mod replicas;
mod watched;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use coracle_base::ManualClock;
use coracle_model::Signature;

use super::*;
use crate::ComingKind;
use crate::chaos::{ChaosFault, ChaosTarget};
use crate::experiment::{LineForm, PlannedExperiment};
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
                trial: 0,
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
            kind: ComingKind::Models,
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
    watched::until(|| now(&other).is_none());
    assert!(!fixture.table.load().has_coming());
    // What serves goes on until its successor is there: nobody waits.
    let successor = plan(&[("a", "", 0), ("c", "", 0)], &[("c", 100)]);
    fixture.plans.send(successor);
    fixture.wait(|observed| observed.revisions.contains_key(&id("c")));
    assert!(!fixture.table.load().has_coming());
    fixture.plans.stop();
}

/// What a graph is asked, and where programs are, is not what a model's name finds.
#[test]
fn what_is_still_to_come_is_told_with_what_it_is() {
    let fixture = fixture();
    let mut planned = flows::with_flow(plan(&[("a", "", 0), ("p", "", 0)], &[]), &["a"]);
    let named = |name: &str| ServiceId {
        name: name.to_owned(),
        ..service()
    };
    for (service, revision) in [("models", "a"), ("programs", "p")] {
        let mut route = plan(&[], &[("a", 100)]).routes[&self::service()].clone();
        route.targets[0].revision = revision.to_owned();
        planned.routes.insert(named(service), route);
    }
    let program = planned.revisions.get_mut(&id("p")).unwrap();
    program.source.process = Some(Box::default());
    planned.routes.remove(&service());
    fixture.plans.send(planned);
    let kind = |id: &ServiceId| {
        let table = fixture.table.load();
        table.coming(id).map(|coming| coming.kind)
    };
    watched::until(|| kind(&service()).is_some());
    let told = [service(), named("models"), named("programs")].map(|id| kind(&id));
    let kinds = [ComingKind::Graph, ComingKind::Models, ComingKind::Programs];
    assert_eq!(told, kinds.map(Some));
    fixture.open.send(()).unwrap();
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
