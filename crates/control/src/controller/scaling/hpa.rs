//! The autoscaler of a revision as a HorizontalPodAutoscaler, for reading only: what `kubectl get hpa` shows.

use std::time::Duration;

use coracle_api::kind::{HORIZONTAL_POD_AUTOSCALER, REVISION};
use coracle_policy::autoscale::{Adjustment, AutoscaleSpec, Decision, Metric};
use serde_json::{Value, json};

use super::super::revisions::SERVICE_LABEL;
use super::REPLICAS_MAX;
use crate::annotations::AUTOSCALER;
use crate::object;
use crate::rest::rfc3339;

/// A revision's autoscaler.
pub(crate) struct View<'a> {
    /// The revision's object.
    pub(crate) revision: &'a Value,
    pub(crate) spec: &'a AutoscaleSpec,
    pub(crate) decision: Option<&'a Decision>,
    pub(crate) n_desired: u32,
    pub(crate) n_ready: u32,
    pub(crate) now: Duration,
}

impl View<'_> {
    /// Returns the object; `before` is the one that is there.
    pub(crate) fn object(&self, before: Option<&Value>) -> Value {
        let name = object::name(self.revision);
        let mut view = before.cloned().unwrap_or_else(|| {
            json!({
                "apiVersion": HORIZONTAL_POD_AUTOSCALER.api_version(),
                "kind": HORIZONTAL_POD_AUTOSCALER.kind,
                "metadata": {
                    "name": name,
                    "namespace": object::namespace(self.revision),
                    "uid": uuid::Uuid::new_v4().to_string(),
                    "creationTimestamp": rfc3339(self.now),
                    "labels": {(SERVICE_LABEL): object::text(self.revision, "labels", SERVICE_LABEL)},
                    "annotations": {
                        (AUTOSCALER): "what Coracle's autoscaler does, for reading only"
                    },
                    "ownerReferences": [{
                        "apiVersion": REVISION.api_version(),
                        "kind": REVISION.kind,
                        "name": name,
                        "uid": object::meta_str(self.revision, "uid"),
                        "controller": true,
                        "blockOwnerDeletion": true
                    }]
                }
            })
        });
        view["spec"] = json!({
            "scaleTargetRef": {
                "apiVersion": REVISION.api_version(),
                "kind": REVISION.kind,
                "name": name
            },
            "minReplicas": self.spec.min_replicas,
            "maxReplicas": match self.spec.max_replicas {
                0 => REPLICAS_MAX,
                most => most.min(REPLICAS_MAX),
            },
            "metrics": [self.metric("target", self.spec.target_per_replica())]
        });
        view["status"] = self.status(before);
        view
    }

    /// Returns a value of the metric, per replica, in the form of targets and of current values.
    fn metric(&self, role: &str, per_replica: f64) -> Value {
        let name = self.spec.metric.as_str();
        let value = json!({"averageValue": quantity(self.spec.metric, per_replica)});
        let value = match role {
            "target" => json!({"type": "AverageValue", "averageValue": value["averageValue"]}),
            _ => value,
        };
        if self.spec.metric.is_resource() {
            json!({"type": "Resource", "resource": {"name": name, (role): value}})
        } else {
            json!({"type": "Pods", "pods": {"metric": {"name": name}, (role): value}})
        }
    }

    fn status(&self, before: Option<&Value>) -> Value {
        let was = |pointer: &str| before.and_then(|view| view.pointer(pointer));
        let mut status = json!({
            "currentReplicas": self.n_ready,
            "desiredReplicas": self.n_desired,
            "conditions": self.conditions(before),
            "currentMetrics": [],
        });
        if let Some(decision) = self.decision {
            let per_replica = decision.stable_value / f64::from(self.n_ready.max(1));
            status["currentMetrics"] = json!([self.metric("current", per_replica)]);
        }
        let scaled_at = was("/status/lastScaleTime").cloned();
        let n_before = was("/status/desiredReplicas").and_then(Value::as_u64);
        let scaled_at = match n_before {
            Some(n_before) if n_before != u64::from(self.n_desired) => {
                Some(rfc3339(self.now).into())
            }
            _ => scaled_at,
        };
        if let Some(scaled_at) = scaled_at {
            status["lastScaleTime"] = scaled_at;
        }
        status
    }

    fn conditions(&self, before: Option<&Value>) -> Value {
        let bounded = self.decision.and_then(|decision| {
            let adjustments = decision.reason.adjustments.iter().rev();
            adjustments
                .into_iter()
                .find_map(|adjustment| match adjustment {
                    Adjustment::MaxScale { .. } => Some((
                        "TooManyReplicas",
                        "the desired replica count is more than the maximum replica count",
                    )),
                    Adjustment::MinScale { .. } => Some((
                        "TooFewReplicas",
                        "the desired replica count is less than the minimum replica count",
                    )),
                    _ => None,
                })
        });
        let why = self.decision.map_or_else(
            || "nothing was measured yet".to_owned(),
            |decision| decision.reason.to_string(),
        );
        let (is_limited, limit) = match bounded {
            Some(limit) => ("True", limit),
            None => (
                "False",
                (
                    "DesiredWithinRange",
                    "the desired count is within the acceptable range",
                ),
            ),
        };
        json!([
            self.condition(before, "AbleToScale", "True", ("ReadyForNewScale", &why)),
            self.condition(before, "ScalingActive", "True", ("ValidMetricFound", &why)),
            self.condition(before, "ScalingLimited", is_limited, limit),
        ])
    }

    fn condition(
        &self,
        before: Option<&Value>,
        name: &str,
        status: &str,
        (reason, message): (&str, &str),
    ) -> Value {
        let conditions = before.and_then(|view| view.pointer("/status/conditions"));
        let mut conditions = conditions.and_then(Value::as_array).into_iter().flatten();
        let old = conditions.find(|one| one["type"] == name && one["status"] == status);
        let since = old.and_then(|old| old.get("lastTransitionTime")).cloned();
        json!({
            "type": name,
            "status": status,
            "reason": reason,
            "message": message,
            "lastTransitionTime": since.unwrap_or_else(|| rfc3339(self.now).into())
        })
    }
}

/// Returns a value as a quantity: whole bytes, thousandths of everything else.
fn quantity(metric: Metric, value: f64) -> String {
    if metric == Metric::Memory {
        return format!("{value:.0}");
    }
    let thousandths = (value * 1e3).round();
    if thousandths % 1e3 == 0.0 {
        format!("{:.0}", thousandths / 1e3)
    } else {
        format!("{thousandths:.0}m")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_kubernetes() {
        assert_eq!(quantity(Metric::Concurrency, 7.0), "7");
        assert_eq!(quantity(Metric::Rps, 3.4567), "3457m");
        assert_eq!(quantity(Metric::Memory, 2.5e6), "2500000");
    }

    #[test]
    fn a_view_keeps_what_has_not_changed() {
        let revision = json!({"metadata": {"name": "a-predictor-00001", "namespace": "n", "uid": "u", "labels": {(SERVICE_LABEL): "a"}}});
        let spec = AutoscaleSpec::default();
        let view = |n_desired, seconds| View {
            revision: &revision,
            spec: &spec,
            decision: None,
            n_desired,
            n_ready: 1,
            now: Duration::from_secs(seconds),
        };
        let first = view(1, 1).object(None);
        assert_eq!(
            first["spec"]["metrics"][0]["pods"]["target"]["averageValue"],
            "70"
        );
        assert_eq!(first["spec"]["maxReplicas"], 500);
        assert_eq!(view(1, 2).object(Some(&first)), first);
        let second = view(3, 3).object(Some(&first));
        assert_eq!(second["status"]["desiredReplicas"], 3);
        assert_eq!(second["status"]["lastScaleTime"], "1970-01-01T00:00:03Z");
        assert_eq!(second["metadata"], first["metadata"]);
    }
}
