//! Stages of rollouts: which revision answered, what came of it, and what it predicted.

use std::collections::BTreeMap;
use std::sync::Arc;

use coracle_base::SystemClock;
use coracle_gateway::Limits;
use coracle_serving::experiment::{
    Book, CANARY, Experiments, MetricForm, MetricRole, PlannedExperiment, PlannedMetric,
    PlannedStage, PlannedVariant, RouteExperiments, STABLE, Split, SplitTarget, UnitSource,
    VariantTarget,
};
use coracle_serving::{
    LoadPhases, LoadedModel, ModelTable, RevisionId, RevisionLog, Route, RouteTarget, ServedModel,
    ServiceId, Teller,
};

use crate::client::{Answer, send};
use crate::fixture::{Running, config, start_experimenting, sum_model};
use crate::routes::JSON;

const PREDICT: &str = "/serving/ml/sum/v1/models/sum:predict";
const OUTCOMES: &str = "/serving/ml/sum/rollouts/careful/outcomes";

fn planned(unit: UnitSource) -> PlannedExperiment {
    let variant = |name: &str, revision: &str| PlannedVariant {
        name: name.to_owned(),
        weight: 1,
        target: VariantTarget::Revision(revision.to_owned()),
    };
    PlannedExperiment {
        name: "rollout:careful".to_owned(),
        salt: "s".to_owned(),
        unit,
        variants: vec![variant(STABLE, "sum-1"), variant(CANARY, "sum-2")],
        share_ppm: 1_000_000,
        metrics: vec![PlannedMetric {
            name: "clicked".to_owned(),
            kind: MetricForm::Conversion,
            covariate: None,
            zero_if_missing: false,
            is_lower_better: false,
            role: MetricRole::Guardrail,
            expected: 0.1,
            margin: 0.1,
            window_ms: None,
        }],
        stage: Some(PlannedStage {
            since_ms: 1,
            predictions: true,
            ..PlannedStage::default()
        }),
        ..PlannedExperiment::default()
    }
}

fn revision(model: ServedModel, name: &str) -> Arc<ServedModel> {
    let id = RevisionId {
        namespace: "ml".to_owned(),
        name: name.to_owned(),
    };
    let log = RevisionLog::none(Arc::new(SystemClock::new()));
    Arc::new(model.with_revision(&id, log, Box::new(|| ())))
}

/// A service whose requests two revisions answer in turn.
struct Stage {
    server: Running,
    experiments: Experiments,
    book: Arc<Book>,
    _directory: tempfile::TempDir,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.experiments.stop();
    }
}

fn start(planned: &PlannedExperiment) -> Stage {
    let directory = tempfile::tempdir().unwrap();
    let experiments = Experiments::start(
        directory.path().to_owned(),
        coracle_gateway::EXPERIMENT_LINES,
        Arc::new(SystemClock::new()),
        Teller::nobody(),
    )
    .unwrap();
    let book = experiments.open("ml", planned);
    let of_route = Arc::clone(&book);
    let limits = config(Limits::default());
    let server = start_experimenting(limits, Some(experiments.clone()), |stable| {
        let (canary, _entered, _gate) = sum_model();
        let canary = LoadedModel::new("sum".to_owned(), Box::new(canary), LoadPhases::default());
        let models = [
            revision(stable, "sum-1"),
            revision(ServedModel::new(canary, 2), "sum-2"),
        ];
        let split = Split::try_new(planned, of_route, |target| match target {
            VariantTarget::Revision(name) if name == "sum-1" => {
                SplitTarget::Revision(Arc::clone(&models[0]))
            }
            _ => SplitTarget::Revision(Arc::clone(&models[1])),
        });
        let target = |model: &Arc<ServedModel>| RouteTarget {
            model: Arc::clone(model),
            percent: 50,
            tags: Vec::new(),
        };
        let route = Route::try_new(models.iter().map(target).collect(), None).unwrap();
        let on_route = RouteExperiments::new(vec![split.unwrap()]);
        let id = ServiceId {
            namespace: "ml".to_owned(),
            name: "sum".to_owned(),
        };
        let route = Arc::new(route.with_experiments(Some(on_route)));
        ModelTable::from_routes(BTreeMap::from([(id, route)]))
    });
    Stage {
        server,
        experiments,
        book,
        _directory: directory,
    }
}

fn post(stage: &Stage, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut all = vec![JSON];
    all.extend_from_slice(headers);
    send(stage.server.address, "POST", path, &all, body.as_bytes())
}

/// Sends requests, tells that those of the canary came to something, and returns how many each revision answered.
fn ask(stage: &Stage, n_requests: usize) -> [u64; 2] {
    let mut n_answered = [0, 0];
    for index in 0..n_requests {
        let id = format!("r{index}");
        let headers = [("x-request-id", id.as_str())];
        let answer = post(stage, PREDICT, &headers, r#"{"instances": [[1, 2]]}"#);
        assert_eq!(
            answer.header("x-coracle-experiment"),
            Some("rollout:careful")
        );
        let is_canary = answer.header("x-coracle-variant") == Some(CANARY);
        n_answered[usize::from(is_canary)] += 1;
        let value = u8::from(is_canary);
        let outcome = format!(r#"{{"requestId": "{id}", "metric": "clicked", "value": {value}}}"#);
        let told = post(stage, OUTCOMES, &[], &outcome);
        assert_eq!(told.status, 200, "{}", told.body);
    }
    n_answered
}

#[test]
fn requests_are_units_of_the_revision_that_answered_them() {
    let stage = start(&planned(UnitSource::Request));
    assert_eq!(ask(&stage, 20), [10, 10]);
    let summary = stage.book.summary().stage.unwrap();
    let [((stable, stable_mean, _), (canary, canary_mean, _))] = summary.outcomes[..] else {
        panic!("{summary:?}");
    };
    assert_eq!((stable, canary), (10, 10));
    assert!(stable_mean.abs() < 1e-9 && (canary_mean - 1.0).abs() < 1e-9);
    let [drift] = summary.drifts.as_slice() else {
        panic!("{summary:?}");
    };
    assert_eq!((drift.stable, drift.canary), (10, 10));
}

#[test]
fn who_has_no_unit_is_split_as_ever_and_takes_no_part() {
    let stage = start(&planned(UnitSource::Header("x-user".to_owned())));
    let answer = post(&stage, PREDICT, &[], r#"{"instances": [[1, 2]]}"#);
    assert_eq!(
        (answer.status, answer.header("x-coracle-variant")),
        (200, None)
    );
    let answer = post(
        &stage,
        PREDICT,
        &[("x-user", "u1")],
        r#"{"instances": [[1, 2]]}"#,
    );
    assert!(answer.header("x-coracle-variant").is_some());
    let outcome = r#"{"unit": "u1", "metric": "clicked", "value": 1}"#;
    assert_eq!(post(&stage, OUTCOMES, &[], outcome).status, 200);
    assert_eq!(stage.book.summary().n_unassigned, 1);
    let unknown = post(&stage, "/rollouts/other/outcomes", &[], outcome);
    assert_eq!(unknown.status, 404);
}

/// Errors and latency are judged by unit: users count as one each, and requests without one as one each, too.
#[test]
fn what_users_meet_is_told_by_user() {
    let mut planned = planned(UnitSource::Header("x-user".to_owned()));
    planned.metrics.clear();
    planned.stage = Some(PlannedStage {
        since_ms: 1,
        trial_ms: 1,
        predictions: true,
        by_unit: true,
        slow_ns: Some(60_000_000_000),
    });
    let stage = start(&planned);
    // Both revisions answer in turn.
    for user in ["u1", "u2", "u1", "u2", "u1", "u2"] {
        let answer = post(&stage, PREDICT, &[("x-user", user)], "{}");
        assert_eq!(answer.status, 400, "{}", answer.body);
    }
    for _ in 0..4 {
        let answer = post(&stage, PREDICT, &[], r#"{"instances": [[1, 2]]}"#);
        assert!(answer.header("x-coracle-variant").is_some());
    }
    stage.experiments.stop();
    let summary = stage.book.summary().stage.unwrap();
    let units = summary.units.unwrap();
    for side in [units.stable, units.canary] {
        // One user with three requests, all of which failed, and two requests without one.
        assert_eq!((side.errors.units, side.errors.struck), (3, 1));
        assert!((side.errors.shares.0 - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!((side.slow.units, side.slow.struck), (3, 0));
    }
    assert_eq!(summary.drifts[0].stable, 2);
}
