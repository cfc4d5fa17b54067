//! `hpaSpec` of a predictor's components: how many copies there are to be of the models whose containers they have, by the use of processors or memory. What
//! it says becomes what an InferenceService says of the same.

use coracle_api::seldon::{SeldonComponent, SeldonDeploymentSpec, SeldonPredictor, SeldonUnit};
use serde_json::{Value, json};

use super::children::parts;
use super::flows::Graphs;
use crate::controller::scaling::REPLICAS_MAX;

/// The use that there is to be where no metric is named, as Kubernetes has it.
const UTILIZATION: u64 = 80;

/// How many copies there are to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Autoscaled {
    least: u64,
    most: u64,
    /// `cpu` or `memory`.
    metric: &'static str,
    /// In percent of what is asked for.
    utilization: u64,
}

impl Autoscaled {
    /// Puts it into a predictor of an InferenceService.
    pub(super) fn put(self, predictor: &mut Value) {
        predictor["minReplicas"] = json!(self.least);
        predictor["maxReplicas"] = json!(self.most);
        predictor["scaleMetric"] = json!(self.metric);
        predictor["scaleMetricType"] = json!("Utilization");
        predictor["scaleTarget"] = json!(self.utilization);
    }
}

/// Returns how a node's model is scaled, if its component says it. One that no component has a container of is the first one's.
pub(super) fn of_unit(predictor: &SeldonPredictor, unit: &SeldonUnit) -> Option<Autoscaled> {
    let components = predictor.component_specs.as_deref().unwrap_or_default();
    let has_container = |component: &&SeldonComponent| {
        let pod = component.spec.as_ref().map(|pod| &pod.0);
        let containers = pod.and_then(|pod| pod.get("containers")?.as_array());
        let mut containers = containers.into_iter().flatten();
        containers.any(|container| container["name"] == unit.name.as_str())
    };
    let own = components.iter().find(has_container);
    let component = own.or(components.first())?;
    // What was stored passed the check.
    read(&component.hpa_spec.as_ref()?.0).ok()
}

/// Checks what components say of scaling.
///
/// # Errors
/// Says by its place what is not served, or cannot be.
pub(super) fn check(
    spec: &SeldonDeploymentSpec,
    graphs: Option<&Graphs<'_>>,
) -> Result<(), String> {
    let (taking, _) = parts(spec);
    for (index, predictor) in spec.predictors.iter().enumerate() {
        for (component, of) in predictor.component_specs.iter().flatten().enumerate() {
            let Some(hpa) = &of.hpa_spec else {
                continue;
            };
            let place = format!("spec.predictors[{index}].componentSpecs[{component}].hpaSpec");
            read(&hpa.0).map_err(|why| format!("{place}{why}"))?;
            if graphs.is_none() && taking.len() > 1 && !predictor.is_shadow() {
                return Err(format!(
                    "{place} is not served where several predictors that are one model each share the requests; replicas is"
                ));
            }
        }
    }
    Ok(())
}

/// Reads a spec; the text of an error begins with the place within it.
fn read(hpa: &Value) -> Result<Autoscaled, String> {
    let count = |name: &str, default: Option<u64>| match (&hpa[name], default) {
        (Value::Null, Some(default)) => Ok(default),
        (given, _) => {
            let number = given.as_u64();
            let number = number.filter(|n| (1..=u64::from(REPLICAS_MAX)).contains(n));
            number.ok_or_else(|| {
                let none = match given.as_u64() {
                    Some(0) => "; replicas: 0 of the predictor gives it none",
                    _ => "",
                };
                format!(".{name}: {given} is no number of replicas from 1 to {REPLICAS_MAX}{none}")
            })
        }
    };
    let most = count("maxReplicas", None)?;
    let least = count("minReplicas", Some(1))?;
    if least > most {
        return Err(format!(
            ".minReplicas: {least} is more than maxReplicas, {most}"
        ));
    }
    let mut metrics = ["metrics", "metricsv2"].into_iter().flat_map(|list| {
        let all = hpa[list].as_array().into_iter().flatten().enumerate();
        all.map(move |(index, metric)| (format!(".{list}[{index}]"), metric))
    });
    let (metric, utilization) = match metrics.next() {
        Some((place, metric)) => read_metric(metric).map_err(|why| format!("{place}{why}"))?,
        None => ("cpu", UTILIZATION),
    };
    if let Some((place, _)) = metrics.next() {
        return Err(format!("{place}: several metrics are not served; one is"));
    }
    Ok(Autoscaled {
        least,
        most,
        metric,
        utilization,
    })
}

/// Reads a metric, as autoscaling/v2beta1 (`targetAverageUtilization`) or v2 (`target`) has it.
fn read_metric(metric: &Value) -> Result<(&'static str, u64), String> {
    if metric["type"] != "Resource" {
        return Err(format!(
            ".type: {} is not served; Resource is",
            metric["type"]
        ));
    }
    let resource = &metric["resource"];
    let name = match resource["name"].as_str() {
        Some("cpu") => "cpu",
        Some("memory") => "memory",
        _ => {
            return Err(format!(
                ".resource.name: {} is none of cpu and memory",
                resource["name"]
            ));
        }
    };
    let given = match &resource["targetAverageUtilization"] {
        Value::Null => &resource["target"]["averageUtilization"],
        given => given,
    };
    let percent = given.as_u64().filter(|percent| (1..=100).contains(percent));
    let percent = percent.ok_or_else(|| {
        format!(
            ".resource: {given} is no average utilization from 1 to 100 percent, which is all that is served"
        )
    })?;
    Ok((name, percent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_metrics_are_read() {
        let of = |least, most, metric, utilization| Autoscaled {
            least,
            most,
            metric,
            utilization,
        };
        let beta = json!([{"type": "Resource", "resource": {"name": "cpu", "targetAverageUtilization": 10}}]);
        let v2 = json!([{"type": "Resource", "resource": {"name": "memory", "target": {"type": "Utilization", "averageUtilization": 60}}}]);
        for (hpa, expected) in [
            (json!({"maxReplicas": 3}), of(1, 3, "cpu", 80)),
            (
                json!({"minReplicas": 2, "maxReplicas": 4, "metrics": beta}),
                of(2, 4, "cpu", 10),
            ),
            (
                json!({"maxReplicas": 4, "metricsv2": v2}),
                of(1, 4, "memory", 60),
            ),
        ] {
            assert_eq!(read(&hpa), Ok(expected), "{hpa}");
        }
        let with = |metric: Value| json!({"maxReplicas": 3, "metrics": [metric]});
        for (hpa, words) in [
            (
                json!({}),
                ".maxReplicas: null is no number of replicas from 1 to 500",
            ),
            (json!({"maxReplicas": 501}), ".maxReplicas: 501 is no"),
            (
                json!({"minReplicas": 0, "maxReplicas": 3}),
                ".minReplicas: 0 is no number of replicas from 1 to 500; replicas: 0 of the predictor gives it none",
            ),
            (
                json!({"maxReplicas": 2, "minReplicas": 3}),
                ".minReplicas: 3 is more than maxReplicas, 2",
            ),
            (
                json!({"maxReplicas": 2, "minReplicas": 0}),
                ".minReplicas: 0 is no",
            ),
            (
                with(json!({"type": "Pods"})),
                ".metrics[0].type: \"Pods\" is not served",
            ),
            (
                with(json!({"type": "Resource", "resource": {"name": "gpu"}})),
                ".metrics[0].resource.name: \"gpu\" is none of",
            ),
            (
                with(
                    json!({"type": "Resource", "resource": {"name": "cpu", "targetAverageValue": "1"}}),
                ),
                ".metrics[0].resource: null is no average utilization",
            ),
            (
                json!({"maxReplicas": 3, "metrics": beta, "metricsv2": v2}),
                ".metricsv2[0]: several metrics",
            ),
        ] {
            let error = read(&hpa).unwrap_err();
            assert!(error.starts_with(words), "{error}");
        }
    }
}
