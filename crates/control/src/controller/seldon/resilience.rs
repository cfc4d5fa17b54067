//! What is done where the models of a SeldonDeployment fail, or take long: Coracle's annotations of InferenceServices, and those of Seldon's that mean the same.
//! The InferenceServices that are made of the deployment get them, and their rules are those of any.
//!
//! A predictor's own annotations count before the spec's, and those before the object's.

use std::collections::BTreeMap;
use std::time::Duration;

use coracle_api::seldon::{SeldonDeploymentSpec, SeldonPredictor};
use serde_json::{Value, json};

use super::children::parts;
use super::flows::Graphs;
use crate::controller::fallbacks;
use crate::object;

/// Which annotations of an InferenceService its deployment has given it: they go when the deployment says them no more, and others stay.
pub(super) const GIVEN: &str = "serving.coracle.dev/given-by-seldondeployment";
/// How often a request is tried again, on its way into the cluster and between the nodes.
const SELDONS_RETRIES: [&str; 2] = ["seldon.io/istio-retries", "seldon.io/rest-connect-retries"];
/// How long answers may take in milliseconds: of REST and of gRPC, each with the name that it had before.
const TIMEOUTS: [[&str; 2]; 2] = [
    ["seldon.io/rest-timeout", "seldon.io/rest-read-timeout"],
    ["seldon.io/grpc-timeout", "seldon.io/grpc-read-timeout"],
];

/// Returns an annotation as it counts for a predictor, or for all of them.
fn text<'a>(
    deployment: &'a Value,
    (spec, predictor): (&'a SeldonDeploymentSpec, Option<&'a SeldonPredictor>),
    name: &str,
) -> Option<&'a str> {
    let of_spec = || {
        let annotations = spec.annotations.as_ref()?;
        annotations.get(name).map(String::as_str)
    };
    let of_predictor = predictor.and_then(|predictor| predictor.annotation(name));
    let own = of_predictor.or_else(of_spec);
    own.or_else(|| object::text(deployment, "annotations", name))
}

/// Returns how long the answers of a predictor may take; REST and gRPC share one time, the longer one.
pub(super) fn timeout(
    spec: &SeldonDeploymentSpec,
    predictor: &SeldonPredictor,
) -> Option<Duration> {
    let millis = |name: &&str| {
        let text = text(&Value::Null, (spec, Some(predictor)), name)?;
        text.parse().ok().map(Duration::from_millis)
    };
    let times = TIMEOUTS.iter();
    times
        .filter_map(|names| names.iter().find_map(millis))
        .max()
}

/// Gives the annotations of an InferenceService those of its deployment; the model of a node has only those that let nothing stand in for it.
pub(super) fn give(
    deployment: &Value,
    of: (&SeldonDeploymentSpec, Option<&SeldonPredictor>),
    is_node: bool,
    annotations: &mut Value,
) {
    let names: &[&str] = match is_node {
        true => &fallbacks::OF_CALLS,
        false => &fallbacks::ANNOTATIONS,
    };
    let said = names.iter().map(|&name| (name, text(deployment, of, name)));
    let mut given: BTreeMap<&str, String> = said
        .filter_map(|(name, text)| Some((name, text?.to_owned())))
        .collect();
    let retries = || {
        let mut all = SELDONS_RETRIES.iter();
        all.find_map(|name| text(deployment, of, name)?.parse::<u32>().ok())
    };
    if !given.contains_key(fallbacks::RETRIES)
        && let Some(retries) = retries().filter(|retries| *retries > 0)
    {
        let retries = retries.min(fallbacks::RETRIES_MAX);
        given.insert(fallbacks::RETRIES, retries.to_string());
    }
    if given.is_empty() {
        return;
    }
    let names: Vec<&str> = given.keys().copied().collect();
    annotations[GIVEN] = json!(names.join(","));
    for (name, text) in given {
        annotations[name] = text.into();
    }
}

/// Returns the annotations that a deployment gave to a live InferenceService.
pub(super) fn given(live: &Value) -> Vec<String> {
    let names = object::text(live, "annotations", GIVEN).unwrap_or_default();
    names.split(',').map(str::to_owned).collect()
}

/// Checks that what a deployment says can be done for the InferenceServices that are made of it.
///
/// # Errors
/// Says which annotation says nothing, and where it would, or which value is none.
pub(super) fn check(
    deployment: &Value,
    spec: &SeldonDeploymentSpec,
    (graphs, services): (Option<&Graphs<'_>>, &[Value]),
) -> Result<(), String> {
    let anywhere = |name: &str| {
        let mut predictors = spec.predictors.iter();
        predictors.any(|one| one.annotation(name).is_some())
            || text(deployment, (spec, None), name).is_some()
    };
    for name in fallbacks::OF_PROGRAMS {
        if anywhere(name) {
            return Err(format!(
                "annotation {name} is for programs; the models of a SeldonDeployment are read here"
            ));
        }
    }
    let stands_in = |name: &&&str| !fallbacks::OF_CALLS.contains(*name);
    let mut stand_ins = fallbacks::ANNOTATIONS.iter().filter(stands_in);
    let of_graph = stand_ins.find(|name| graphs.is_some() && anywhere(name));
    if let Some(name) = of_graph {
        return Err(format!(
            "annotation {name}: a graph of several nodes has no one model that something could stand in for; annotate the InferenceService of a node, DEPLOYMENT-PREDICTOR-NODE"
        ));
    }
    let (taking, _) = parts(spec);
    for (index, predictor) in spec.predictors.iter().enumerate() {
        let is_alone = graphs.is_some() || taking.len() == 1 && !predictor.is_shadow();
        let mut names = fallbacks::ANNOTATIONS.iter();
        let said = names.find(|name| predictor.annotation(name).is_some());
        if let Some(name) = said.filter(|_| !is_alone) {
            return Err(format!(
                "spec.predictors[{index}].annotations: {name} is for all predictors that are one model each; say it in spec.annotations"
            ));
        }
    }
    for service in services {
        fallbacks::read(service)?;
    }
    Ok(())
}
