//! The hinge between the control process and the serving process: plans one way, observations the other, as JSON lines.
//!
//! The two are processes of their own so that the end of one is not the end of the other: what serves goes on serving
//! while the control process is started again. Messages carry what changed, since with a thousand services
//! the whole would be large.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, Write};

use coracle_serving::experiment::{BookId, ExperimentSummary};
use coracle_serving::flow::PlannedFlow;
use coracle_serving::{
    LoadReport, Observed, Plan, PlannedRevision, PlannedRoute, ProcessState, RevisionId,
    RevisionState, ServiceId,
};
use serde::{Deserialize, Serialize};

use crate::usage::UsageReport;

/// A message of the control process.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub enum FromControl {
    /// The API listens there.
    Listening {
        /// The address.
        address: std::net::SocketAddr,
    },
    /// What is to be served from now on.
    Plan(PlanChange),
    /// A line for the log.
    Log {
        /// Whether it is a warning.
        is_warning: bool,
        /// The line.
        message: String,
    },
    /// The control process cannot start.
    Failed {
        /// Why.
        message: String,
    },
}

/// A message of the serving process.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub enum ToControl {
    /// What is observed now.
    Observed(ObservedChange),
    /// What revisions used since the last report.
    Usage(UsageReport),
    /// What revisions did since the last report.
    Load(LoadReport),
    /// What revisions that fail have done since the last [`ToControl::Load`], which the next one tells once more.
    Failures(LoadReport),
    /// How experiments stand.
    Experiments(Vec<ExperimentSummary>),
}

/// What changed in a map: new values, and keys that are gone.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct MapChange<K: Ord, V> {
    set: Vec<(K, V)>,
    gone: Vec<K>,
}

impl<K: Ord + Clone, V: Clone + PartialEq> MapChange<K, V> {
    fn between(before: &BTreeMap<K, V>, after: &BTreeMap<K, V>) -> Self {
        let set = after
            .iter()
            .filter(|(key, value)| before.get(key) != Some(value));
        let gone = before.keys().filter(|key| !after.contains_key(key));
        Self {
            set: set
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
            gone: gone.cloned().collect(),
        }
    }

    fn apply(self, map: &mut BTreeMap<K, V>) {
        for key in self.gone {
            map.remove(&key);
        }
        map.extend(self.set);
    }
}

/// What changed in the plan.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct PlanChange {
    revisions: MapChange<RevisionId, PlannedRevision>,
    routes: MapChange<ServiceId, PlannedRoute>,
    flows: MapChange<ServiceId, PlannedFlow>,
    /// All of them, if they are others.
    #[serde(default)]
    books: Option<BTreeSet<BookId>>,
}

impl PlanChange {
    /// Returns what changed between two plans.
    #[must_use]
    pub fn between(before: &Plan, after: &Plan) -> Self {
        Self {
            revisions: MapChange::between(&before.revisions, &after.revisions),
            routes: MapChange::between(&before.routes, &after.routes),
            flows: MapChange::between(&before.flows, &after.flows),
            books: after
                .books
                .clone()
                .filter(|books| before.books.as_ref() != Some(books)),
        }
    }

    /// Makes the change to the plan that it is against.
    pub fn apply(self, plan: &mut Plan) {
        self.revisions.apply(&mut plan.revisions);
        self.routes.apply(&mut plan.routes);
        self.flows.apply(&mut plan.flows);
        plan.books = self.books.or(plan.books.take());
    }
}

/// What changed in what is observed.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ObservedChange {
    revisions: MapChange<RevisionId, RevisionState>,
    routes: MapChange<ServiceId, PlannedRoute>,
    flows: MapChange<ServiceId, PlannedFlow>,
    processes: MapChange<RevisionId, Vec<ProcessState>>,
    misfits: MapChange<ServiceId, String>,
}

impl ObservedChange {
    /// Returns what changed between two observations.
    #[must_use]
    pub fn between(before: &Observed, after: &Observed) -> Self {
        Self {
            revisions: MapChange::between(&before.revisions, &after.revisions),
            routes: MapChange::between(&before.routes, &after.routes),
            flows: MapChange::between(&before.flows, &after.flows),
            processes: MapChange::between(&before.processes, &after.processes),
            misfits: MapChange::between(&before.misfits, &after.misfits),
        }
    }

    /// Makes the change to the observation that it is against.
    pub fn apply(self, observed: &mut Observed) {
        self.revisions.apply(&mut observed.revisions);
        self.routes.apply(&mut observed.routes);
        self.flows.apply(&mut observed.flows);
        self.processes.apply(&mut observed.processes);
        self.misfits.apply(&mut observed.misfits);
    }
}

/// Writes a message as a line.
///
/// # Errors
/// If the other process is gone.
pub fn write_message<M: Serialize>(out: &mut impl Write, message: &M) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    out.write_all(&line)?;
    out.flush()
}

/// Reads the next message; `None` when the other process is gone.
///
/// # Errors
/// If what comes is no message.
pub fn read_message<M: for<'de> Deserialize<'de>>(
    input: &mut impl BufRead,
) -> io::Result<Option<M>> {
    let mut line = String::new();
    if input.read_line(&mut line)? == 0 || !line.ends_with('\n') {
        return Ok(None);
    }
    Ok(Some(serde_json::from_str(&line)?))
}

#[cfg(test)]
mod tests {
    use coracle_base::Code;
    use coracle_serving::flow::{AllStep, AskStep, Join, OneStep, PlannedBandit, Routing, Step};
    use coracle_serving::{LoadFailure, PlannedTarget, RevisionSource};

    use super::*;

    fn revision(name: &str) -> RevisionId {
        RevisionId {
            namespace: "n".to_owned(),
            name: name.to_owned(),
        }
    }

    fn planned(uri: &str) -> PlannedRevision {
        PlannedRevision {
            model_name: "m".to_owned(),
            source: RevisionSource {
                uri: uri.to_owned(),
                secret_data: [("key".to_owned(), "value".to_owned())].into(),
                ..RevisionSource::default()
            },
            attempt: 2,
            replicas: 3,
            concurrency: None,
            timeout: None,
            payloads: Some(coracle_serving::PayloadLogging {
                url: "http://sink".to_owned(),
                mode: coracle_serving::PayloadMode::Response,
                metadata_headers: vec!["x-who".to_owned()],
                annotations: [("a".to_owned(), "b".to_owned())].into(),
            }),
            batching: None,
            response_cache: None,
        }
    }

    fn flow() -> PlannedFlow {
        let ask = Step::Ask(AskStep {
            node: "a".to_owned(),
            service: "s-a".to_owned(),
            revision: Some("s-a-predictor-00001".to_owned()),
        });
        let bandit = PlannedBandit::EpsilonGreedy {
            epsilon: 0.1,
            start: Some(1),
            seed: u64::MAX,
        };
        let one = Step::One(OneStep {
            node: "r".to_owned(),
            routing: Routing::Bandit(bandit),
            branches: vec![("a".to_owned(), ask.clone())],
        });
        let all = Step::All(AllStep {
            node: "mean".to_owned(),
            join: Join::Average,
            branches: vec![ask, one],
        });
        PlannedFlow {
            name: "mean".to_owned(),
            root: Step::Chain(vec![all]),
            shadow: None,
            fallback: Some(coracle_serving::FallbackSettings {
                value: Some("0".to_owned()),
                ..coracle_serving::FallbackSettings::default()
            }),
        }
    }

    #[test]
    fn changes_bring_plans_across() {
        let route = PlannedRoute {
            targets: vec![PlannedTarget {
                revision: "a".to_owned(),
                percent: 100,
                tags: vec!["prev".to_owned()],
            }],
            sticky: Some(coracle_serving::Sticky::Cookie("id".to_owned())),
            is_compared: false,
            trial: 7,
            shadow: Some(coracle_serving::ShadowSettings {
                service: "next".to_owned(),
                percent: 10,
                kept: coracle_serving::ShadowKept::Requests,
            }),
            fallback: Some(coracle_serving::FallbackSettings {
                value: Some("0".to_owned()),
                ..coracle_serving::FallbackSettings::default()
            }),
            experiments: vec![coracle_serving::experiment::PlannedExperiment {
                name: "ab".to_owned(),
                unit: coracle_serving::experiment::UnitSource::Field("user.id".to_owned()),
                share_ppm: 1,
                ..coracle_serving::experiment::PlannedExperiment::default()
            }],
            absence: None,
            predictors: vec![coracle_serving::PlannedPredictor {
                name: "main".to_owned(),
                node: "classify".to_owned(),
                revisions: vec!["a".to_owned()],
            }],
        };
        let service = ServiceId {
            namespace: "n".to_owned(),
            name: "s".to_owned(),
        };
        let book = |uid: &str| BookId {
            namespace: "n".to_owned(),
            name: "ab".to_owned(),
            uid: uid.to_owned(),
            salt: "n/ab".to_owned(),
        };
        let before = Plan {
            revisions: [(revision("a"), planned("1")), (revision("b"), planned("2"))].into(),
            books: Some([book("1"), book("2")].into()),
            ..Plan::default()
        };
        let same = PlanChange::between(&before, &before);
        assert_eq!(same.books, None, "what is the same is not sent");
        let after = Plan {
            revisions: [(revision("a"), planned("3")), (revision("c"), planned("2"))].into(),
            routes: [(service.clone(), route)].into(),
            flows: [(service, flow())].into(),
            books: Some([book("2")].into()),
        };
        let mut there = Plan::default();
        let mut wire = Vec::new();
        for (from, to) in [(&Plan::default(), &before), (&before, &after)] {
            write_message(&mut wire, &FromControl::Plan(PlanChange::between(from, to))).unwrap();
        }
        let mut wire = wire.as_slice();
        while let Some(FromControl::Plan(change)) = read_message(&mut wire).unwrap() {
            change.apply(&mut there);
        }
        assert_eq!(there, after);
    }

    #[test]
    fn changes_bring_observations_across() {
        let failed = RevisionState::Failed {
            attempt: 1,
            failure: LoadFailure {
                code: Code::NotFound,
                message: "nothing there".to_owned(),
                is_transient: true,
            },
        };
        let after = Observed {
            revisions: [(revision("a"), failed)].into(),
            processes: [(revision("a"), vec![ProcessState::default()])].into(),
            misfits: [(
                ServiceId::try_from("n/s".to_owned()).unwrap(),
                "no".to_owned(),
            )]
            .into(),
            flows: [(ServiceId::try_from("n/s".to_owned()).unwrap(), flow())].into(),
            ..Observed::default()
        };
        let mut wire = Vec::new();
        write_message(
            &mut wire,
            &ToControl::Observed(ObservedChange::between(&Observed::default(), &after)),
        )
        .unwrap();
        let mut there = Observed::default();
        let Some(ToControl::Observed(change)) = read_message(&mut wire.as_slice()).unwrap() else {
            panic!("no message");
        };
        change.apply(&mut there);
        assert_eq!(there, after);
    }

    #[test]
    fn a_line_that_was_cut_is_the_end() {
        assert_eq!(
            read_message::<ToControl>(&mut b"{\"Obs".as_slice()).unwrap(),
            None
        );
        assert!(read_message::<ToControl>(&mut b"{}\n".as_slice()).is_err());
    }
}
