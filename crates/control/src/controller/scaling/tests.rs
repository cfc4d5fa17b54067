//! Scaling with a hand-held clock and made-up reports.

use coracle_serving::LoadReport;
use serde_json::{Value, json};

use super::super::templates::Templates;
use super::*;

fn revision() -> RevisionId {
    RevisionId {
        namespace: "n".to_owned(),
        name: "a-predictor-00001".to_owned(),
    }
}

fn service_id() -> ServiceId {
    ServiceId {
        namespace: "n".to_owned(),
        name: "a".to_owned(),
    }
}

fn service(predictor: Value, annotations: Value) -> Value {
    let mut predictor = predictor;
    predictor["model"] = json!({"modelFormat": {"name": "sklearn"}, "storageUri": "s3://b/m"});
    json!({
        "metadata": {"name": "a", "namespace": "n", "annotations": annotations},
        "spec": {"predictor": predictor}
    })
}

fn scaling(predictor: Value, annotations: Value) -> Scaling {
    let service = service(predictor, annotations);
    let templates = Templates::read(&service["spec"]).unwrap();
    read(&service, &templates.stable).unwrap()
}

fn spec(predictor: Value, annotations: Value) -> AutoscaleSpec {
    scaling(predictor, annotations).spec
}

/// A Thursday, at midnight.
const MIDNIGHT: Duration = Duration::ZERO;

fn at(monotonic: Duration) -> Now {
    Now {
        monotonic,
        unix: MIDNIGHT + monotonic,
    }
}

fn observed(replicas: u32) -> Observed {
    let state = RevisionState::Ready {
        memory_bytes: 1,
        replicas,
    };
    Observed {
        revisions: [(revision(), state)].into(),
        ..Observed::default()
    }
}

const SECOND: Duration = Duration::from_secs(1);
const NEW: Known = Known {
    observed: None,
    desired: None,
};

struct Fixture {
    scaler: Scaler,
    loads: Arc<LoadQueue>,
    now: Duration,
    n_ready: u32,
}

impl Fixture {
    fn new(scaling: Scaling, known: Known) -> Self {
        let loads = Arc::new(LoadQueue::default());
        let mut scaler = Scaler::new(Arc::clone(&loads), Arc::default());
        let now = Duration::from_secs(1_000);
        let n_ready = scaler.watch(&revision(), &service_id(), scaling, known, at(now));
        Self {
            scaler,
            loads,
            now,
            n_ready,
        }
    }

    /// Lets seconds pass with so many calls at a time; replicas follow at once. Returns what they came to.
    fn pass(&mut self, n_seconds: u32, concurrency: f64) -> Vec<u32> {
        let mut sizes = Vec::new();
        for _ in 0..n_seconds {
            self.now += SECOND;
            if concurrency > 0.0 {
                let load = RevisionLoad {
                    concurrency,
                    n_finished: 10,
                    ..RevisionLoad::default()
                };
                let report = LoadReport {
                    window: SECOND,
                    revisions: vec![(revision(), load)],
                };
                self.loads.push(self.now, report);
            }
            if self.scaler.next_look(self.now).is_none() {
                continue;
            }
            let (changes, _) = self.scaler.look(&observed(self.n_ready), at(self.now));
            for change in changes {
                assert_eq!(change.before, self.n_ready);
                self.n_ready = change.decision.desired;
                sizes.push(self.n_ready);
            }
        }
        sizes
    }
}

#[test]
fn manifests_are_read_as_kserve_does() {
    let exercise = spec(
        json!({"minReplicas": 1, "maxReplicas": 100, "scaleTarget": 10, "scaleMetric": "concurrency"}),
        json!({"autoscaling.knative.dev/target": "20", "autoscaling.knative.dev/window": "30s"}),
    );
    assert_eq!((exercise.min_replicas, exercise.max_replicas), (1, 100));
    // The field wins over the annotation; 70 % of it is aimed at.
    assert!((exercise.target_per_replica() - 7.0).abs() < 1e-9);
    assert_eq!(exercise.stable_window, Duration::from_secs(30));
    let own = json!({"annotations": {"autoscaling.knative.dev/target": "40"}});
    let own = spec(own, json!({"autoscaling.knative.dev/target": "20"}));
    assert!((own.target_per_replica() - 28.0).abs() < 1e-9);
    let limited = spec(json!({"containerConcurrency": 10}), json!({}));
    assert!((limited.target_per_replica() - 7.0).abs() < 1e-9);
    // In Standard mode there is no zero, and without a most nothing scales.
    let standard = json!({"serving.kserve.io/deploymentMode": "RawDeployment"});
    let standard = spec(json!({"minReplicas": 0}), standard);
    assert_eq!((standard.min_replicas, standard.max_replicas), (1, 1));
    assert_eq!(standard.metric.as_str(), "cpu");
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let bad = json!({"autoscaling.knative.dev/window": "1s"});
    let message = check(&service(json!({}), bad)).unwrap_err().to_string();
    assert!(
        message.contains("autoscaling.knative.dev/window"),
        "{message}"
    );
}

#[test]
fn a_misspelt_annotation_is_told() {
    let annotations = json!({"autoscaling.knative.dev/min-scal": "1", "autoscaling.knative.dev/min-scale": "1", "team": "a"});
    let service = service(json!({}), annotations);
    assert!(check(&service).is_ok());
    assert_eq!(
        warnings(&service),
        ["annotation autoscaling.knative.dev/min-scal is not known and has no effect"]
    );
}

#[test]
fn replicas_follow_the_load_to_zero_and_back() {
    let manifest = json!({"minReplicas": 0, "maxReplicas": 5, "scaleTarget": 10});
    let mut fixture = Fixture::new(scaling(manifest, json!({})), NEW);
    assert_eq!(fixture.n_ready, 1);
    let up = fixture.pass(70, 20.0);
    assert_eq!(up.last(), Some(&3), "{up:?}");
    assert_eq!(fixture.pass(30, 100.0).last(), Some(&5));
    let text = fixture.scaler.decisions.render();
    let labels = "{namespace=\"n\",revision=\"a-predictor-00001\",metric=\"concurrency\"}";
    assert!(
        text.contains(&format!("coracle_autoscaler_desired_replicas{labels} 5\n")),
        "{text}"
    );
    assert!(
        text.contains(&format!(
            "coracle_autoscaler_target_per_replica{labels} 7\n"
        )),
        "{text}"
    );
    let down = fixture.pass(300, 0.0);
    assert_eq!(down.last(), Some(&0), "{down:?}");
    // At rest nothing is looked at any more.
    assert_eq!(fixture.scaler.next_look(fixture.now), None);
    // The serving process has loaded it for a request.
    let woken = fixture.scaler.woken(&observed(1), fixture.now);
    assert_eq!((woken.len(), woken[0].decision.desired), (1, 1));
    fixture.n_ready = 1;
    assert_eq!(fixture.scaler.woken(&observed(1), fixture.now), []);
    assert_eq!(fixture.pass(10, 1.0), [0_u32; 0]);
    assert_eq!(fixture.pass(300, 0.0), [0]);
}

#[test]
fn a_new_manifest_acts_at_once() {
    let mut fixture = Fixture::new(scaling(json!({"minReplicas": 1}), json!({})), NEW);
    let now = fixture.now;
    let mut watch = |manifest: Value| {
        let scaling = scaling(manifest, json!({}));
        fixture
            .scaler
            .watch(&revision(), &service_id(), scaling, NEW, at(now))
    };
    assert_eq!(watch(json!({"minReplicas": 3})), 3);
    assert_eq!(watch(json!({"minReplicas": 1, "maxReplicas": 2})), 2);
    assert_eq!(watch(json!({"minReplicas": 9_000})), REPLICAS_MAX);
    assert_eq!(watch(json!({"minReplicas": 1})), REPLICAS_MAX);
    fixture.n_ready = REPLICAS_MAX;
    // What is no longer asked for goes by halves.
    assert_eq!(fixture.pass(300, 0.0).last(), Some(&1));
}

#[test]
fn a_restart_goes_on_with_what_there_is() {
    let spec = || scaling(json!({"minReplicas": 0, "maxReplicas": 10}), json!({}));
    let known = |observed, desired| Known { observed, desired };
    assert_eq!(Fixture::new(spec(), known(Some(4), Some(4))).n_ready, 4);
    assert_eq!(Fixture::new(spec(), known(None, Some(0))).n_ready, 0);
    assert_eq!(Fixture::new(spec(), known(None, Some(4))).n_ready, 1);
}

#[test]
fn a_replica_is_kept_at_the_times_that_are_named() {
    let manifest = json!({"minReplicas": 0, "maxReplicas": 5});
    // The fixture begins 1,000 s after midnight.
    let times = json!({"serving.coracle.dev/keep-warm": "Thu 00:30-00:40"});
    let mut fixture = Fixture::new(scaling(manifest, times), NEW);
    assert_eq!(fixture.pass(300, 0.0), [0]);
    assert_eq!(fixture.pass(499, 0.0), [0_u32; 0]);
    assert_eq!(fixture.pass(17, 0.0), [1]);
    assert_eq!(fixture.pass(580, 0.0), [0_u32; 0]);
    assert_eq!(fixture.pass(120, 0.0), [0]);
}
