//! KServe's rules for how a component is scaled, which depend on who scales it.

use serde_json::Value;

use super::{Checked, annotation, broken};
use crate::inference_service::{ComponentExtensionSpec, ScaleMetric};

/// Who scales, as far as the annotations say.
enum Scaler {
    /// Knative's autoscaler.
    Knative,
    Hpa,
    Keda,
    /// Nobody or anybody: a manifest without a mode goes to clusters of either.
    Unsaid,
}

impl Scaler {
    fn of(object: &Value) -> Self {
        let class = annotation(object, "autoscaling.knative.dev/class");
        let mode = annotation(object, "serving.kserve.io/deploymentMode");
        let autoscaler = annotation(object, "serving.kserve.io/autoscalerClass");
        match (mode, autoscaler, class) {
            ("Standard" | "RawDeployment", "hpa", _) => Self::Hpa,
            ("Standard" | "RawDeployment", "keda", _) => Self::Keda,
            ("Standard" | "RawDeployment", ..) => Self::Unsaid,
            (_, _, "hpa.autoscaling.knative.dev") => Self::Hpa,
            ("Knative" | "Serverless", ..) | (_, _, "kpa.autoscaling.knative.dev") => Self::Knative,
            _ => Self::Unsaid,
        }
    }
}

const RPS_TARGET: &str = "the target for rps should be greater than 1";

/// Checks the fields of a component of `object` that are about its scaling.
pub(super) fn check(object: &Value, extension: &ComponentExtensionSpec) -> Checked {
    let metric = extension.scale_metric;
    let target = extension.scale_target;
    let asks_rps = metric == Some(ScaleMetric::Rps);
    match Scaler::of(object) {
        Scaler::Knative => {
            if extension.deployment_strategy.is_some() {
                return broken(
                    "customizing deploymentStrategy is only supported for raw deployment mode",
                );
            }
            if let Some(metric @ (ScaleMetric::Cpu | ScaleMetric::Memory)) = metric {
                return unsupported(metric);
            }
        }
        Scaler::Hpa => check_hpa(extension)?,
        Scaler::Keda => check_keda(extension)?,
        Scaler::Unsaid => {}
    }
    if asks_rps && target.is_some_and(|target| target < 1) {
        return broken(RPS_TARGET);
    }
    Ok(())
}

fn unsupported(metric: ScaleMetric) -> Checked {
    let name = serde_json::to_value(metric).unwrap_or_default();
    let name = name.as_str().unwrap_or_default();
    broken(format!("[{name}] is not a supported metric"))
}

fn metrics(extension: &ComponentExtensionSpec) -> impl Iterator<Item = &Value> {
    let scaling = extension.auto_scaling.as_ref();
    let metrics = scaling.and_then(|scaling| scaling.0.get("metrics"));
    metrics.and_then(Value::as_array).into_iter().flatten()
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn check_hpa(extension: &ComponentExtensionSpec) -> Checked {
    let metric = extension.scale_metric.unwrap_or(ScaleMetric::Cpu);
    if matches!(metric, ScaleMetric::Concurrency | ScaleMetric::Rps) {
        return unsupported(metric);
    }
    if let Some(target) = extension.scale_target {
        if metric == ScaleMetric::Cpu && !(1..=100).contains(&target) {
            return broken("the target utilization percentage should be a [1-100] integer");
        }
        if metric == ScaleMetric::Memory && target < 1 {
            return broken("the target memory should be greater than 1 MiB");
        }
    }
    for metric in metrics(extension) {
        match text(metric, "/type") {
            "Resource" if metric.get("resource").is_none() => {
                return broken("metricSpec.Resource is not set for resource metric source type");
            }
            "Resource" => {}
            other => {
                return broken(format!(
                    "invalid HPA metric source type with value [{other}],valid metric source types are Resource"
                ));
            }
        }
    }
    Ok(())
}

fn check_keda(extension: &ComponentExtensionSpec) -> Checked {
    if extension.scale_metric.is_some() {
        return broken("ScaleMetric is not supported for KEDA");
    }
    for metric in metrics(extension) {
        match text(metric, "/type") {
            "Resource" => check_keda_resource(metric.get("resource"))?,
            "External" => check_query(metric.get("external"), "External", "external")?,
            "PodMetric" => check_query(metric.get("podmetric"), "PodMetric", "pod")?,
            other => {
                return broken(format!(
                    "unknown KEDA metric type with value [{other}].Valid types are Resource,External,PodMetric"
                ));
            }
        }
    }
    Ok(())
}

fn check_keda_resource(resource: Option<&Value>) -> Checked {
    let Some(resource) = resource else {
        return broken("metricSpec.Resource is not set for resource metric source type");
    };
    let kind = text(resource, "/target/type");
    match (text(resource, "/name"), kind) {
        ("cpu", "Utilization") | ("memory", "Utilization" | "AverageValue") => {}
        ("cpu", _) => return broken("the cpu target value type should be Utilization"),
        ("memory", _) => {
            return broken("the memory target value type should be AverageValue or Utilization");
        }
        (other, _) => return broken(format!("resource type {other} is not supported")),
    }
    check_target(resource.get("target"))
}

fn check_query(source: Option<&Value>, field: &str, kind: &str) -> Checked {
    let Some(source) = source else {
        return broken(format!(
            "metricSpec.{field} is not set for {kind} metric source type"
        ));
    };
    if text(source, "/metric/query").is_empty() {
        return broken("the query should not be empty");
    }
    if source.pointer("/target/value").is_none() {
        return broken("the target threshold value should not be empty");
    }
    check_target(source.get("target"))
}

fn check_target(target: Option<&Value>) -> Checked {
    let Some(target) = target else {
        return Ok(());
    };
    let is_set = |name: &str| target.get(name).is_some_and(|value| !value.is_null());
    match text(target, "/type") {
        "Utilization" => match target.get("averageUtilization").and_then(Value::as_i64) {
            None => broken("the AverageUtilization type should be set"),
            Some(1..=100) => Ok(()),
            Some(_) => broken("the target utilization percentage should be a [1-100] integer"),
        },
        "AverageValue" if !is_set("averageValue") => broken("the AverageValue type should be set"),
        "Value" if !is_set("value") => broken("the Value type should be set"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check_with(annotations: &Value, fields: Value) -> String {
        let object = json!({"metadata": {"annotations": annotations}});
        let extension: ComponentExtensionSpec = serde_json::from_value(fields).unwrap();
        check(&object, &extension).map_or_else(|error| error.to_string(), |()| "ok".to_owned())
    }

    /// Checks what is said of each component under these annotations.
    fn check_all<const N: usize>(annotations: &Value, cases: [(Value, &str); N]) {
        for (fields, expected) in cases {
            let shown = fields.to_string();
            assert_eq!(
                check_with(annotations, fields),
                expected,
                "{annotations} {shown}"
            );
        }
    }

    fn metric(metric: Value) -> Value {
        json!({"autoScaling": {"metrics": [metric]}})
    }

    #[test]
    fn rules_of_knatives_autoscaler() {
        let annotations = json!({"serving.kserve.io/deploymentMode": "Knative"});
        let cases = [
            (
                json!({"scaleMetric": "concurrency", "scaleTarget": 10}),
                "ok",
            ),
            (
                json!({"scaleMetric": "cpu"}),
                "[cpu] is not a supported metric",
            ),
            (json!({"scaleMetric": "rps", "scaleTarget": 0}), RPS_TARGET),
            (
                json!({"deploymentStrategy": {"type": "Recreate"}}),
                "customizing deploymentStrategy is only supported for raw deployment mode",
            ),
        ];
        check_all(&annotations, cases);
        let annotations = json!({});
        let cases = [
            (
                json!({"scaleMetric": "cpu", "deploymentStrategy": {}}),
                "ok",
            ),
            (json!({"scaleMetric": "rps", "scaleTarget": 0}), RPS_TARGET),
        ];
        check_all(&annotations, cases);
    }

    #[test]
    fn rules_of_the_horizontal_autoscaler() {
        let annotations = json!({"serving.kserve.io/deploymentMode": "Standard", "serving.kserve.io/autoscalerClass": "hpa"});
        let cases = [
            (
                json!({"scaleMetric": "rps"}),
                "[rps] is not a supported metric",
            ),
            (json!({"scaleTarget": 80}), "ok"),
            (
                json!({"scaleTarget": 101}),
                "the target utilization percentage should be a [1-100] integer",
            ),
            (
                metric(json!({"type": "Resource"})),
                "metricSpec.Resource is not set for resource metric source type",
            ),
            (
                metric(json!({"type": "External"})),
                "invalid HPA metric source type with value [External],valid metric source types are Resource",
            ),
        ];
        check_all(&annotations, cases);
        let annotations = json!({"autoscaling.knative.dev/class": "hpa.autoscaling.knative.dev"});
        let cases = [(
            json!({"scaleMetric": "memory", "scaleTarget": 0}),
            "the target memory should be greater than 1 MiB",
        )];
        check_all(&annotations, cases);
    }

    #[test]
    fn rules_of_keda() {
        let annotations = json!({"serving.kserve.io/deploymentMode": "Standard", "serving.kserve.io/autoscalerClass": "keda"});
        let cases = [
            (
                json!({"scaleMetric": "cpu"}),
                "ScaleMetric is not supported for KEDA",
            ),
            (
                metric(
                    json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Value"}}}),
                ),
                "the cpu target value type should be Utilization",
            ),
            (
                metric(
                    json!({"type": "Resource", "resource": {"name": "memory", "target": {"type": "Value"}}}),
                ),
                "the memory target value type should be AverageValue or Utilization",
            ),
            (
                metric(json!({"type": "Resource", "resource": {"name": "disk"}})),
                "resource type disk is not supported",
            ),
            (
                metric(
                    json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization"}}}),
                ),
                "the AverageUtilization type should be set",
            ),
            (
                metric(json!({"type": "External"})),
                "metricSpec.External is not set for external metric source type",
            ),
            (
                metric(json!({"type": "PodMetric"})),
                "metricSpec.PodMetric is not set for pod metric source type",
            ),
            (
                metric(json!({"type": "External", "external": {"metric": {}}})),
                "the query should not be empty",
            ),
            (
                metric(
                    json!({"type": "External", "external": {"metric": {"query": "q"}, "target": {}}}),
                ),
                "the target threshold value should not be empty",
            ),
            (
                metric(json!({"type": "Other"})),
                "unknown KEDA metric type with value [Other].Valid types are Resource,External,PodMetric",
            ),
        ];
        check_all(&annotations, cases);
    }
}
