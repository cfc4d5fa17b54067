//! Services from manifest to status: KServe's sequences, failures, stopping, deletion, all by way of the store.

use std::sync::Mutex;
use std::time::Duration;

use coracle_api::kind::{CONFIG_MAP, EVENT, EXPERIMENT, POD};
use coracle_base::Code;
use coracle_base::ManualClock;
use coracle_serving::{LoadFailure, PlannedRoute};

use super::*;

/// A controller with a data side that loads everything at once, but for what is missing or slow.
pub(super) struct Stage {
    /// Whether what is slow has been loaded by now.
    pub(super) is_slow_loaded: bool,
    /// Whether its files are gone.
    pub(super) is_slow_failed: bool,
    pub(super) store: Arc<Store>,
    pub(super) observed: Arc<ObservedCell>,
    clock: Arc<ManualClock>,
    pub(super) plan: Arc<Mutex<Plan>>,
    controller: Option<Controller>,
    dirty: BTreeSet<ServiceId>,
    _directory: tempfile::TempDir,
}

impl Stage {
    pub(super) fn controller(&mut self) -> &mut Controller {
        self.controller.as_mut().unwrap()
    }
}

pub(super) const SERVICE: &str = "iris";
pub(super) const NAMESPACE: &str = "ml";

fn key() -> Key {
    Key::new(&INFERENCE_SERVICE, NAMESPACE, SERVICE)
}

pub(super) fn model(uri: &str) -> Value {
    json!({"modelFormat": {"name": "sklearn"}, "storageUri": uri})
}

impl Stage {
    pub(super) fn new() -> Self {
        Self::running(Programs::default())
    }

    /// A stage on which programs may run.
    fn running(programs: Programs) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(&directory.path().join("state.redb")).unwrap());
        Self::with(programs, (store, directory))
    }

    /// Both sides end, as by `kill -9`, and begin anew with what is stored.
    pub(super) fn restart(self) -> Self {
        drop(self.controller);
        let mut stage = Self::with(Programs::default(), (self.store, self._directory));
        stage.is_slow_loaded = self.is_slow_loaded;
        stage
    }

    fn with(programs: Programs, (store, directory): (Arc<Store>, tempfile::TempDir)) -> Self {
        let observed = Arc::new(ObservedCell::new(Box::new(|| ())));
        let clock = Arc::new(ManualClock::default());
        let plan = Arc::new(Mutex::new(Plan::default()));
        let published = Arc::clone(&plan);
        let controller = Controller::new(
            Arc::clone(&store),
            (Arc::clone(&observed), Arc::default()),
            Arc::<ManualClock>::clone(&clock),
            ControllerConfig {
                programs,
                loads: Arc::default(),
                queries: Arc::default(),
                decisions: Arc::default(),
                base_url: "http://localhost:8080".to_owned(),
                publish: Box::new(move |plan| published.lock().unwrap().clone_from(plan)),
                report: Box::new(|_, _| ()),
            },
        );
        controller.ensure_built_in_runtimes();
        Self {
            is_slow_loaded: false,
            is_slow_failed: false,
            store,
            observed,
            clock,
            plan,
            controller: Some(controller),
            dirty: BTreeSet::new(),
            _directory: directory,
        }
    }

    /// Creates the service, or changes it as a client does: what is not said stays, the generation counts up.
    pub(super) fn apply(&mut self, change: Value) {
        self.submit(&change);
        self.settle();
    }

    /// As [`apply`](Self::apply), but nobody has acted on it yet.
    pub(super) fn submit(&mut self, change: &Value) {
        match self.store.get(&key()) {
            None => {
                let mut service = json!({
                    "metadata": {"name": SERVICE, "namespace": NAMESPACE, "uid": "u", "generation": 1}
                });
                coracle_patch::merge_patch(&mut service, change);
                self.store.create(key(), service).unwrap();
            }
            Some(stored) => {
                let mut service = stored.object.clone();
                coracle_patch::merge_patch(&mut service, change);
                let generation = object::generation(&stored.object) + 1;
                service["metadata"]["generation"] = generation.into();
                self.store.update(&key(), stored.version, service).unwrap();
            }
        }
    }

    pub(super) fn predictor(&mut self, predictor: Value) {
        self.apply(json!({"spec": {"predictor": predictor}}));
    }

    /// Lets both sides act until nothing changes any more.
    pub(super) fn settle(&mut self) {
        self.settle_with(|_| ());
    }

    /// As [`settle`](Self::settle), with a look at every single step.
    pub(super) fn settle_with(&mut self, mut look: impl FnMut(&Self)) {
        for _ in 0..50 {
            let before = (self.store.version(), self.observed.get());
            self.round();
            look(self);
            if self.dirty.is_empty() && before == (self.store.version(), self.observed.get()) {
                return;
            }
        }
        panic!("does not settle");
    }

    /// Lets time pass, without a look.
    pub(super) fn pass(&self, time: Duration) {
        self.clock.advance(time);
    }

    /// Lets the controller look once, and the data side follow.
    pub(super) fn round(&mut self) {
        let controller = self.controller.take().unwrap();
        let (controller, dirty) = controller.round(std::mem::take(&mut self.dirty));
        self.controller = Some(controller);
        self.dirty = dirty;
        self.serve();
    }

    /// What a follower does: loads, and switches what can be switched.
    fn serve(&self) {
        let plan = self.plan.lock().unwrap().clone();
        let mut observed = self.observed.get();
        observed.revisions = plan
            .revisions
            .iter()
            .map(|(id, planned)| {
                let uri = &planned.source.uri;
                let is_gone = self.is_slow_failed && uri.contains("slow");
                let state = if uri.contains("missing") || is_gone {
                    RevisionState::Failed {
                        attempt: planned.attempt,
                        failure: LoadFailure {
                            code: Code::NotFound,
                            message: format!("nothing at {uri}"),
                            is_transient: false,
                        },
                    }
                } else if uri.contains("slow") && !self.is_slow_loaded {
                    RevisionState::Loading {
                        progress: "reading".to_owned(),
                    }
                } else {
                    RevisionState::Ready {
                        memory_bytes: 1,
                        replicas: planned.replicas,
                    }
                };
                (id.clone(), state)
            })
            .collect();
        let is_ready = |namespace: &str, name: &str| {
            let id = RevisionId {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            };
            matches!(
                observed.revisions.get(&id),
                Some(RevisionState::Ready { .. })
            )
        };
        let mut routes: BTreeMap<ServiceId, PlannedRoute> = observed.routes.clone();
        routes.retain(|id, _| plan.routes.contains_key(id));
        for (id, route) in plan.routes {
            let mut taking = route.targets.iter().filter(|target| target.percent > 0);
            if taking.all(|target| is_ready(&id.namespace, &target.revision)) {
                routes.insert(id, route);
            }
        }
        observed.flows.retain(|id, _| plan.flows.contains_key(id));
        for (id, flow) in plan.flows {
            let mut revisions = flow.revisions().into_iter();
            if revisions.all(|revision| is_ready(&id.namespace, revision)) {
                observed.flows.insert(id, flow);
            }
        }
        for (id, flow) in &observed.flows {
            for revision in flow.revisions() {
                let own = RevisionId {
                    namespace: id.namespace.clone(),
                    name: revision.to_owned(),
                };
                assert!(
                    plan.revisions.contains_key(&own),
                    "requests for {id} go to {revision}, which is gone"
                );
            }
        }
        observed.routes = routes;
        self.observed.set(observed);
    }

    /// Writes an object that is there otherwise than it is.
    pub(super) fn change(&self, key: &Key, change: impl FnOnce(&mut Value)) {
        let stored = self.store.get(key).unwrap();
        let mut object = stored.object.clone();
        change(&mut object);
        self.store.update(key, stored.version, object).unwrap();
    }

    fn service(&self) -> Value {
        self.store.get(&key()).unwrap().object.clone()
    }

    /// Returns a field of the status.
    pub(super) fn status(&self, pointer: &str) -> Value {
        let service = self.service();
        let status = service.pointer(&format!("/status{pointer}"));
        status.cloned().unwrap_or_default()
    }

    /// Returns the split as the status shows it: revision number, percent, tag.
    fn traffic(&self) -> Vec<(u64, u64, String)> {
        let traffic = self.status("/components/predictor/traffic");
        let targets = traffic.as_array().cloned().unwrap_or_default();
        let number = |target: &Value| {
            let name = target["revisionName"].as_str().unwrap();
            name.rsplit_once('-').unwrap().1.parse().unwrap()
        };
        targets
            .iter()
            .map(|target| {
                let tag = target["tag"].as_str().unwrap_or_default();
                (
                    number(target),
                    target["percent"].as_u64().unwrap(),
                    tag.to_owned(),
                )
            })
            .collect()
    }

    pub(super) fn rolled_out(&self) -> (String, String) {
        let name = |field: &str| {
            let name = self.status(&format!("/components/predictor/{field}RolledoutRevision"));
            let name = name.as_str().unwrap_or_default().to_owned();
            name.replace("iris-predictor-0000", "")
        };
        (name("latest"), name("previous"))
    }

    fn ready(&self) -> String {
        let (status, _) = {
            let service = self.service();
            let (status, message) = readiness(service.get("status"));
            (status.to_owned(), message.to_owned())
        };
        status
    }

    /// Returns the reason and the message of the condition Ready.
    fn why_not_ready(&self) -> (String, String) {
        let conditions = self.status("/conditions");
        let ready = conditions.as_array().unwrap().iter();
        let ready = ready.clone().find(|one| one["type"] == "Ready").unwrap();
        let text = |field: &str| ready[field].as_str().unwrap_or_default().to_owned();
        (text("reason"), text("message"))
    }

    /// Returns the planned sources of the service's revisions, oldest first.
    fn sources(&self) -> Vec<coracle_serving::RevisionSource> {
        let plan = self.plan.lock().unwrap();
        let planned = plan.revisions.values();
        planned.map(|planned| planned.source.clone()).collect()
    }

    fn planned(&self) -> usize {
        self.plan.lock().unwrap().revisions.len()
    }
}

/// Writes splits as the table does.
fn split(targets: &[(u64, u64, &str)]) -> Vec<(u64, u64, String)> {
    let targets = targets.iter();
    targets
        .map(|(revision, percent, tag)| (*revision, *percent, (*tag).to_owned()))
        .collect()
}

#[test]
fn kserves_sequences_from_manifest_to_status() {
    let mut stage = Stage::new();
    // (a) created with 10 percent: everything to the first; once it is rolled out, both entries are on it.
    stage.predictor(json!({"model": model("s3://b/v1"), "canaryTrafficPercent": 10}));
    assert_eq!(stage.traffic(), split(&[(1, 10, ""), (1, 90, "prev")]));
    assert_eq!(stage.ready(), "True");
    // (b) a second revision.
    stage.predictor(json!({"model": {"storageUri": "s3://b/v2"}}));
    assert_eq!(stage.traffic(), split(&[(2, 10, ""), (1, 90, "prev")]));
    // (c) only the percentage: the same revisions.
    stage.predictor(json!({"canaryTrafficPercent": 30}));
    assert_eq!(stage.traffic(), split(&[(2, 30, ""), (1, 70, "prev")]));
    // (d) a third revision while the second is a canary: that one gets nothing and is let go of.
    stage.predictor(json!({"model": {"storageUri": "s3://b/v3"}, "canaryTrafficPercent": 10}));
    assert_eq!(stage.traffic(), split(&[(3, 10, ""), (1, 90, "prev")]));
    assert_eq!(stage.planned(), 2);
    // (f) no requests for the canary, which stays at hand.
    stage.predictor(json!({"canaryTrafficPercent": 0}));
    assert_eq!(stage.traffic(), split(&[(3, 0, ""), (1, 100, "prev")]));
    assert_eq!(stage.planned(), 2);
    // (e) promoted by taking the percentage away.
    stage.predictor(json!({"canaryTrafficPercent": null}));
    assert_eq!(stage.traffic(), split(&[(3, 100, "")]));
    assert_eq!(stage.rolled_out(), ("3".to_owned(), "1".to_owned()));
    // (g) rolled back after that.
    stage.predictor(json!({"canaryTrafficPercent": 0}));
    assert_eq!(stage.traffic(), split(&[(3, 0, ""), (1, 100, "prev")]));
    // (h) and forward again.
    stage.predictor(json!({"canaryTrafficPercent": null}));
    assert_eq!(stage.traffic(), split(&[(3, 100, "")]));
    assert_eq!(stage.ready(), "True");
    let service = stage.service();
    assert_eq!(
        service["status"]["observedGeneration"],
        service["metadata"]["generation"]
    );
}

#[test]
fn a_broken_revision_takes_nothing_and_says_why() {
    let mut stage = Stage::new();
    stage.predictor(json!({"model": model("s3://b/v1")}));
    stage.predictor(json!({"model": {"storageUri": "s3://b/missing"}}));
    assert_eq!(stage.traffic(), split(&[(1, 100, "")]));
    assert_eq!(stage.ready(), "False");
    assert_eq!(
        stage.status("/modelStatus/transitionStatus"),
        "BlockedByFailedLoad"
    );
    let failure = stage.status("/modelStatus/lastFailureInfo");
    assert_eq!(failure["message"], "nothing at s3://b/missing");
    assert_eq!(failure["modelRevisionName"], "iris-predictor-00002");
    let states = stage.status("/modelStatus/states");
    assert_eq!(
        (&states["activeModelState"], &states["targetModelState"]),
        (&json!("Loaded"), &json!("FailedToLoad"))
    );
    // Put right, it is served; the failure is history. Within a shorter time the first event counts that, too.
    stage.pass(Duration::from_secs(600));
    stage.predictor(json!({"model": {"storageUri": "s3://b/v3"}}));
    assert_eq!(stage.traffic(), split(&[(3, 100, "")]));
    assert_eq!(stage.ready(), "True");
    assert_eq!(stage.status("/modelStatus/lastFailureInfo"), Value::Null);
    let (events, _) = stage.store.list(&EVENT, Some(NAMESPACE));
    let reasons: Vec<&str> = events
        .iter()
        .map(|event| event.object["reason"].as_str().unwrap())
        .collect();
    assert_eq!(
        reasons,
        [
            "InferenceServiceReady",
            "ModelLoadFailed",
            "InferenceServiceReady"
        ]
    );
}

#[test]
fn stopping_takes_everything_away_until_it_is_undone() {
    let mut stage = Stage::new();
    stage.predictor(json!({"model": model("s3://b/v1")}));
    let stop =
        |value: Value| json!({"metadata": {"annotations": {"serving.kserve.io/stop": value}}});
    stage.apply(stop("true".into()));
    assert_eq!(stage.planned(), 0);
    assert!(stage.observed.get().routes.is_empty());
    let conditions = stage.status("/conditions");
    let condition = |name: &str| {
        let all = conditions.as_array().unwrap();
        let one = all.iter().find(|one| one["type"] == name).unwrap();
        (one["status"].clone(), one["reason"].clone())
    };
    for name in ["PredictorReady", "IngressReady", "Ready"] {
        assert_eq!(
            condition(name),
            (json!("False"), json!("Stopped")),
            "{name}"
        );
    }
    assert_eq!(condition("Stopped").0, "True");
    assert_eq!(stage.status("/url"), Value::Null);
    assert_eq!(stage.status("/deploymentMode"), "Knative");
    let (pods, _) = stage.store.list(&POD, Some(NAMESPACE));
    assert!(pods.is_empty());
    stage.apply(stop(Value::Null));
    assert_eq!(stage.ready(), "True");
    assert_eq!(stage.traffic(), split(&[(1, 100, "")]));
}

/// What the plan has a route for is waited for by its requests.
#[test]
fn a_service_that_served_before_it_was_stopped_is_planned_at_once() {
    let mut stage = Stage::new();
    let planned = |stage: &Stage| {
        let plan = stage.plan.lock().unwrap();
        plan.routes.values().next().cloned()
    };
    stage.predictor(json!({"model": model("file:///slow")}));
    assert_eq!(planned(&stage), None);
    stage.is_slow_loaded = true;
    stage.settle();
    let before = planned(&stage).unwrap();
    let stop = |stage: &mut Stage, value: Value| {
        stage.apply(json!({"metadata": {"annotations": {"serving.kserve.io/stop": value}}}));
    };
    stop(&mut stage, "true".into());
    assert_eq!(planned(&stage), None);
    stage.is_slow_loaded = false;
    stop(&mut stage, Value::Null);
    assert_eq!(planned(&stage), Some(before.clone()));
    assert!(stage.observed.get().routes.is_empty());
    assert_ne!(stage.ready(), "True");
    stage.is_slow_failed = true;
    stage.settle();
    let absence = planned(&stage).unwrap().absence.unwrap();
    assert!(absence.why.contains("nothing at file:///slow"));
    (stage.is_slow_failed, stage.is_slow_loaded) = (false, true);
    stage.settle();
    assert_eq!(planned(&stage), Some(before));
    assert_eq!(stage.ready(), "True");
}

/// After a restart: a canary that is still being loaded takes all requests once it is there, so they wait for it.
#[test]
fn a_service_is_not_lost_while_a_revision_of_it_is_being_loaded() {
    let mut stage = Stage::new();
    stage.predictor(json!({"model": model("file:///a")}));
    stage.predictor(json!({"canaryTrafficPercent": 20, "model": model("file:///b")}));
    let names = ["iris-predictor-00001", "iris-predictor-00002"];
    let failed = || RevisionState::Failed {
        attempt: 0,
        failure: LoadFailure {
            code: Code::NotFound,
            message: "gone".to_owned(),
            is_transient: false,
        },
    };
    let loading = RevisionState::Loading {
        progress: "reading".to_owned(),
    };
    let mut planned = |second: RevisionState| {
        let states = names.into_iter().zip([failed(), second]);
        let revisions = states.map(|(name, state)| {
            let (namespace, name) = (NAMESPACE.to_owned(), name.to_owned());
            (RevisionId { namespace, name }, state)
        });
        stage.observed.set(Observed {
            revisions: revisions.collect(),
            ..Observed::default()
        });
        stage.round();
        let plan = stage.plan.lock().unwrap();
        let route = plan.routes.values().next().unwrap();
        let shares = route.targets.iter().map(|target| target.percent);
        (shares.collect::<Vec<u8>>(), route.absence.is_some())
    };
    assert_eq!(planned(loading), (vec![20, 80], false));
    assert_eq!(planned(failed()), (vec![], true));
    let ready = RevisionState::Ready {
        memory_bytes: 1,
        replicas: 1,
    };
    assert_eq!(planned(ready), (vec![100], false));
}

#[test]
fn a_service_that_is_deleted_is_let_go_of_with_its_replicas() {
    let mut stage = Stage::new();
    stage.predictor(json!({"model": model("s3://b/v1")}));
    let (pods, _) = stage.store.list(&POD, Some(NAMESPACE));
    assert_eq!(pods.len(), 1);
    let stored = stage.store.get(&key()).unwrap();
    stage.store.delete(&key(), stored.version).unwrap();
    stage.settle();
    assert_eq!(stage.planned(), 0);
    assert!(stage.observed.get().routes.is_empty());
    let (pods, _) = stage.store.list(&POD, Some(NAMESPACE));
    assert!(pods.is_empty());
}

#[test]
fn labels_and_annotations_reach_revisions_and_replicas() {
    let mut stage = Stage::new();
    stage.apply(json!({
        "metadata": {"labels": {"team": "a"}, "annotations": {"note": "b"}},
        "spec": {"predictor": {"model": model("s3://b/v1")}}
    }));
    for kind in [&REVISION, &POD] {
        let (objects, _) = stage.store.list(kind, Some(NAMESPACE));
        let metadata = &objects[0].object["metadata"];
        assert_eq!(metadata["labels"]["team"], "a", "{}", kind.kind);
        assert_eq!(metadata["annotations"]["note"], "b", "{}", kind.kind);
    }
}

#[test]
fn loggers_are_in_the_plan_or_refused() {
    let mut stage = Stage::new();
    let logger = json!({
        "mode": "response",
        "url": "http://broker.ml/default",
        "metadataHeaders": ["X-User"],
        "metadataAnnotations": ["team", "absent"]
    });
    stage.apply(json!({
        "metadata": {"annotations": {"team": "a", "note": "b"}},
        "spec": {"predictor": {"model": model("s3://b/v1"), "logger": logger}}
    }));
    assert_eq!(stage.ready(), "True");
    let planned = stage
        .plan
        .lock()
        .unwrap()
        .revisions
        .values()
        .next()
        .cloned();
    let expected = coracle_serving::PayloadLogging {
        url: "http://broker.ml/default".to_owned(),
        mode: coracle_serving::PayloadMode::Response,
        metadata_headers: vec!["X-User".to_owned()],
        annotations: [("team".to_owned(), "a".to_owned())].into(),
    };
    assert_eq!(planned.unwrap().payloads, Some(expected));
    for (change, part) in [
        (json!({"url": "s3://b/log"}), "logger.url 's3://b/log'"),
        (json!({"url": null}), "logger.url ''"),
        (
            json!({"marshallerUrl": "http://m"}),
            "logger.marshallerUrl is not served",
        ),
        (json!({"batchSize": 8}), "logger.batchSize is not served"),
    ] {
        let mut logger = logger.clone();
        coracle_patch::merge_patch(&mut logger, &change);
        let mut stage = Stage::new();
        stage.predictor(json!({"model": model("s3://b/v1"), "logger": logger}));
        assert_eq!(stage.ready(), "False");
        let failure = stage.status("/modelStatus/lastFailureInfo");
        let message = failure["message"].as_str().unwrap();
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn a_place_by_key_is_served_once_its_secret_is_there() {
    let mut stage = Stage::new();
    stage.predictor(json!({"model": {
        "modelFormat": {"name": "sklearn"},
        "storage": {"key": "minio", "path": "iris"}
    }}));
    assert_eq!(stage.ready(), "False");
    let failure = stage.status("/modelStatus/lastFailureInfo");
    assert_eq!(failure["reason"], "InvalidPredictorSpec");
    assert_eq!(
        failure["message"],
        "can't read storage secret storage-config: secrets \"storage-config\" not found"
    );
    // {"type":"s3","bucket":"b","cabundle_configmap":"authorities"}
    let entry =
        "eyJ0eXBlIjoiczMiLCJidWNrZXQiOiJiIiwiY2FidW5kbGVfY29uZmlnbWFwIjoiYXV0aG9yaXRpZXMifQ==";
    let secret = Key::new(&SECRET, NAMESPACE, "storage-config");
    stage
        .store
        .create(secret, json!({"data": {"minio": entry}}))
        .unwrap();
    stage.settle();
    let failure = stage.status("/modelStatus/lastFailureInfo");
    let message = failure["message"].as_str().unwrap();
    assert!(
        message.contains("configmaps \"authorities\" not found"),
        "{message}"
    );
    let map = Key::new(&CONFIG_MAP, NAMESPACE, "authorities");
    stage
        .store
        .create(map, json!({"data": {"cabundle.crt": "PEM"}}))
        .unwrap();
    stage.settle();
    assert_eq!(stage.ready(), "True");
    let plan = stage.plan.lock().unwrap();
    let planned = plan.revisions.values().next().unwrap();
    assert_eq!(planned.source.uri, "s3://b/iris");
    assert_eq!(planned.source.secret_data["cabundle.crt"], "PEM");
}

#[test]
fn canary_blocks_and_lists_split_as_they_say() {
    let mut stage = Stage::new();
    stage.predictor(json!({"model": model("s3://b/v1"), "canaryTrafficPercent": 20}));
    stage.apply(json!({"spec": {"canary": {"predictor": {"model": model("s3://b/v2")}}}}));
    assert_eq!(stage.traffic(), split(&[(2, 20, ""), (1, 80, "prev")]));
    // A canary that does not load leaves everything to the stable one.
    stage.apply(json!({"spec": {"canary": {"predictor": {"model": model("s3://b/missing")}}}}));
    assert_eq!(stage.ready(), "False");
    assert_eq!(
        stage
            .traffic()
            .iter()
            .map(|(_, percent, _)| percent)
            .sum::<u64>(),
        100
    );
    assert!(stage.traffic().iter().all(|(revision, ..)| *revision != 3));
    stage.apply(json!({"spec": {
        "predictor": {"name": "stable", "canaryTrafficPercent": null},
        "canary": [
            {"predictor": {"name": "a", "model": model("s3://b/v4")}, "trafficPercent": 25},
            {"predictor": {"name": "b", "model": model("s3://b/v5")}, "trafficPercent": 5}
        ]
    }}));
    assert_eq!(stage.ready(), "True");
    let mut percents: Vec<u64> = stage
        .traffic()
        .iter()
        .map(|(_, percent, _)| *percent)
        .collect();
    percents.sort_unstable();
    assert_eq!(percents, [5, 25, 70]);
}

/// What is planned to take requests: URI and share.
fn taking(stage: &Stage) -> Vec<(String, u8)> {
    let plan = stage.plan.lock().unwrap();
    let routes = plan.routes.iter();
    let targets = routes.flat_map(|(id, route)| {
        let with_id = |target| (id.namespace.clone(), target);
        route.targets.iter().map(with_id)
    });
    let taking = targets.map(|(namespace, target)| {
        let name = target.revision.clone();
        let planned = &plan.revisions[&RevisionId { namespace, name }];
        (planned.source.uri.clone(), target.percent)
    });
    taking.collect()
}

#[test]
fn annotations_that_name_a_service_say_whether_it_is_there() {
    for (annotation, condition, without) in [
        (
            "fallback-service",
            "FallbackInForce",
            "nothing stands in by it",
        ),
        ("shadow", "ShadowInForce", "no request is copied"),
    ] {
        let mut stage = Stage::new();
        stage.predictor(json!({"model": model("file:///a")}));
        let seen = |stage: &Stage| {
            let conditions = stage.status("/conditions");
            let mut conditions = conditions.as_array().unwrap().iter();
            let found = conditions.find(|one| one["type"] == condition)?;
            let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
            Some((text("status"), text("reason"), text("message")))
        };
        assert_eq!(seen(&stage), None);
        let name = format!("serving.coracle.dev/{annotation}");
        let annotate = |value: Value| json!({"metadata": {"annotations": {name.as_str(): value}}});
        stage.apply(annotate("next".into()));
        let (status, reason, message) = seen(&stage).unwrap();
        assert_eq!(
            (status.as_str(), reason.as_str()),
            ("False", "NoInferenceService")
        );
        let expected = format!(
            "annotation {name}: there is no InferenceService next in namespace ml; {without} until there is"
        );
        assert_eq!(message, expected);
        assert_eq!(stage.ready(), "True");
        let other = json!({
            "metadata": {"name": "next", "namespace": NAMESPACE, "uid": "n", "generation": 1},
            "spec": {"predictor": {"model": model("file:///b")}}
        });
        let key = Key::new(&INFERENCE_SERVICE, NAMESPACE, "next");
        stage.store.create(key.clone(), other).unwrap();
        stage.settle();
        assert_eq!(seen(&stage).unwrap().0, "True");
        let version = stage.store.get(&key).unwrap().version;
        stage.store.delete(&key, version).unwrap();
        stage.settle();
        assert_eq!(seen(&stage).unwrap().0, "False");
        // What serves goes on where a service is refused, and so do its conditions.
        let logger = |value: Value| json!({"spec": {"predictor": {"logger": value}}});
        stage.apply(logger(json!({"mode": "never", "url": "http://a"})));
        assert_eq!(stage.ready(), "False");
        assert_eq!(seen(&stage).unwrap().2, expected);
        stage.apply(logger(Value::Null));
        stage.apply(annotate(Value::Null));
        assert_eq!(seen(&stage), None);
    }
}

#[test]
fn a_batcher_reaches_the_plan_with_kserves_defaults() {
    let cases = [
        (json!({}), (32, 5_000, None)),
        (
            json!({"maxBatchSize": 8, "maxLatency": 20, "timeout": 7}),
            (8, 20, Some(7)),
        ),
        // No number above 0 is as good as none.
        (
            json!({"maxBatchSize": 0, "maxLatency": -1, "timeout": 0}),
            (32, 5_000, None),
        ),
    ];
    for (batcher, (rows, wait_ms, timeout)) in cases {
        let mut stage = Stage::new();
        stage.predictor(json!({"model": model("file:///a"), "batcher": batcher}));
        let plan = stage.plan.lock().unwrap();
        let planned = plan.revisions.values().next().unwrap();
        let settings = planned.batching.as_ref().unwrap();
        assert_eq!(settings.rows_max, rows, "{batcher}");
        assert_eq!(settings.wait, Duration::from_millis(wait_ms), "{batcher}");
        assert_eq!(planned.timeout.map(|timeout| timeout.as_secs()), timeout);
    }
    let mut stage = Stage::new();
    stage.predictor(json!({"model": model("file:///a"), "timeout": 5, "batcher": {"timeout": 9}}));
    let plan = stage.plan.lock().unwrap();
    let planned = plan.revisions.values().next().unwrap();
    assert_eq!(planned.timeout, Some(Duration::from_secs(5)));
}

/// Programs may run, and one runs in place of an image.
fn programs() -> Programs {
    Programs {
        are_allowed: true,
        images: crate::Images::read(&["known=python3 serve.py".to_owned()]).unwrap(),
    }
}

mod experiments;
mod fallbacks;
mod programs;
mod refused;
