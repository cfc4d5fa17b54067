//! From what a manifest says about scaling to what an autoscaler is told.

use std::collections::BTreeMap;
use std::time::Duration;

use coracle_api::inference_service::ScaleMetric;
use coracle_api::quantity;
use coracle_policy::autoscale::{
    AutoscaleSpec, ComponentScaling, KEEP_WARM, KeepWarm, Metric, SpecError, is_unknown_annotation,
};
use serde_json::Value;

use super::super::service::is_standard_mode;
use super::super::templates::{Canaries, Template, Templates};
use crate::object;

/// The most replicas of a revision: lanes of one process cost little, the objects that show them do.
pub(crate) const REPLICAS_MAX: u32 = 500;

const CLASS: &str = "autoscaling.knative.dev/class";
const HPA: &str = "hpa.autoscaling.knative.dev";

/// How a revision is scaled.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Scaling {
    /// What its autoscaler is told.
    pub(crate) spec: AutoscaleSpec,
    /// When it keeps a replica although nobody asks for it.
    pub(crate) keep_warm: Option<KeepWarm>,
}

impl Scaling {
    /// Returns what the autoscaler is told at `unix`, a time since 1970.
    pub(crate) fn at(&self, unix: Duration) -> AutoscaleSpec {
        let is_warm = self
            .keep_warm
            .as_ref()
            .is_some_and(|times| times.contains(unix));
        let mut spec = self.spec.clone();
        spec.min_replicas = spec.min_replicas.max(u32::from(is_warm));
        spec
    }
}

/// Returns how a template of a service is scaled.
///
/// # Errors
/// If the manifest says what cannot be.
pub(crate) fn read(service: &Value, template: &Template) -> Result<Scaling, SpecError> {
    let number = |name: &str| template.scaling.get(name).and_then(Value::as_i64);
    let count = |name: &str| number(name).and_then(|number| i32::try_from(number).ok());
    let is_standard = is_standard_mode(service);
    let metric = template.scaling.get("scaleMetric").cloned();
    let metric = metric.and_then(|metric| serde_json::from_value::<ScaleMetric>(metric).ok());
    let metric = metric.map(|metric| match metric {
        ScaleMetric::Cpu => Metric::Cpu,
        ScaleMetric::Memory => Metric::Memory,
        ScaleMetric::Concurrency => Metric::Concurrency,
        ScaleMetric::Rps => Metric::Rps,
    });
    let (mut min, mut max) = (count("minReplicas"), count("maxReplicas"));
    if is_standard {
        // As KServe does it with Kubernetes' autoscaler, which knows no zero: without a most there is nothing to scale to.
        min = Some(min.unwrap_or(1).max(1));
        max = max.map_or(min, |max| Some(max.max(min.unwrap_or(1))));
    }
    let request = |resource: &str| {
        let requests = template.spec.pointer("/model/resources/requests")?;
        quantity::parse(requests.get(resource)?.as_str()?)
    };
    let component = ComponentScaling {
        min_replicas: min,
        max_replicas: max,
        scale_target: count("scaleTarget"),
        scale_metric: metric,
        scale_metric_type: template
            .scaling
            .get("scaleMetricType")
            .and_then(Value::as_str),
        container_concurrency: template
            .spec
            .get("containerConcurrency")
            .and_then(Value::as_i64),
        cpu_request_cores: request("cpu"),
        memory_request_bytes: request("memory"),
    };
    let own = template.spec.get("annotations").and_then(Value::as_object);
    let own = own.into_iter().flatten();
    let own = own.filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)));
    let mut annotations: BTreeMap<&str, &str> = object::texts(service, "annotations").collect();
    annotations.extend(own);
    if is_standard && !matches!(metric, Some(Metric::Concurrency | Metric::Rps)) {
        annotations.entry(CLASS).or_insert(HPA);
    }
    let keep_warm = annotations.get(KEEP_WARM).map(|text| KeepWarm::parse(text));
    Ok(Scaling {
        keep_warm: keep_warm.transpose()?,
        spec: AutoscaleSpec::try_new(component, annotations)?,
    })
}

/// Checks what a service says about scaling, for its predictor and its canaries.
///
/// # Errors
/// In words for its author.
pub(crate) fn check(service: &Value) -> Result<(), SpecError> {
    let Some(templates) = service.get("spec").and_then(Templates::read) else {
        return Ok(());
    };
    read(service, &templates.stable)?;
    match &templates.canaries {
        Canaries::Revisions(_) => {}
        Canaries::Block(template, _) => drop(read(service, template)?),
        Canaries::List(list) => {
            for (_, template, _) in list {
                read(service, template)?;
            }
        }
    }
    Ok(())
}

/// Returns what the author of a service should know although it is no error: annotations about scaling that nobody reads.
pub(crate) fn warnings(service: &Value) -> Vec<String> {
    let names = object::texts(service, "annotations").map(|(name, _)| name);
    let unknown = names.filter(|name| is_unknown_annotation(name));
    unknown
        .map(|name| format!("annotation {name} is not known and has no effect"))
        .collect()
}
