//! What the autoscalers decided last, in Prometheus' text format.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

use coracle_policy::autoscale::{Decision, Mode};
use coracle_serving::RevisionId;

/// A metric of an autoscaler: its name, one sentence on it, and its value.
struct Metric(&'static str, &'static str, fn(&Decision) -> Option<f64>);

const METRICS: [Metric; 7] = [
    Metric(
        "coracle_autoscaler_desired_replicas",
        "Replicas that the revision is to have.",
        |decision| Some(f64::from(decision.desired)),
    ),
    Metric(
        "coracle_autoscaler_stable_value",
        "The metric over the stable window, all replicas together.",
        |decision| Some(decision.stable_value),
    ),
    Metric(
        "coracle_autoscaler_panic_value",
        "The metric over the panic window, all replicas together.",
        |decision| Some(decision.panic_value),
    ),
    Metric(
        "coracle_autoscaler_target_per_replica",
        "What each replica is to have of the metric.",
        |decision| Some(decision.target_per_replica),
    ),
    Metric(
        "coracle_autoscaler_panic_mode",
        "Whether the panic window decides (1) or the stable one (0).",
        |decision| Some(f64::from(u8::from(decision.mode == Mode::Panic))),
    ),
    Metric(
        "coracle_autoscaler_excess_burst_capacity",
        "Requests that could come at once beyond a burst; below 0, the gateway holds some.",
        #[expect(clippy::cast_precision_loss, reason = "requests, far below 2^53")]
        |decision| Some(decision.excess_burst_capacity as f64),
    ),
    Metric(
        "coracle_autoscaler_predicted_value",
        "What the metric is predicted to reach, where it can be predicted.",
        |decision| decision.predicted.map(|predicted| predicted.value),
    ),
];

/// The last decision on each revision.
#[derive(Debug, Default)]
pub struct Decisions(Mutex<BTreeMap<RevisionId, Decision>>);

impl Decisions {
    fn all(&self) -> MutexGuard<'_, BTreeMap<RevisionId, Decision>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, id: &RevisionId, decision: &Decision) {
        self.all().insert(id.clone(), decision.clone());
    }

    pub(super) fn forget(&self, id: &RevisionId) {
        self.all().remove(id);
    }

    /// Returns the metrics of all autoscalers.
    pub(crate) fn render(&self) -> String {
        let all = self.all().clone();
        let mut text = String::new();
        for Metric(name, help, value) in METRICS {
            line(
                &mut text,
                format_args!("# HELP {name} {help}\n# TYPE {name} gauge"),
            );
            for (id, decision) in &all {
                if let Some(value) = value(decision) {
                    // Names of revisions and namespaces have nothing to escape.
                    let (namespace, revision) = (&id.namespace, &id.name);
                    let metric = decision.metric.as_str();
                    line(
                        &mut text,
                        format_args!(
                            "{name}{{namespace=\"{namespace}\",revision=\"{revision}\",metric=\"{metric}\"}} {value}"
                        ),
                    );
                }
            }
        }
        text
    }
}

/// Appends a line; writing to memory cannot fail.
fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    let written = writeln!(text, "{arguments}");
    debug_assert!(written.is_ok(), "a String takes every write");
}
