//! What is done where the models of a SeldonDeployment fail, or take long: Coracle's annotations of InferenceServices, and those of Seldon's that mean the same.
//! The InferenceServices that are made of the deployment get them, and their rules are those of any.
//!
//! A predictor's own annotations count before the spec's, and those before the object's.

use std::collections::BTreeMap;
use std::time::Duration;

use coracle_api::seldon::{SeldonDeploymentSpec, SeldonPredictor};
use coracle_serving::FallbackSettings;
use serde_json::{Value, json};

use super::children::parts;
use super::flows::Graphs;
use crate::annotations::GIVEN_BY_SELDON as GIVEN;
use crate::controller::credentials::STORAGE_SECRET_NAME;
use crate::controller::fallbacks;
use crate::object;

/// How often a request is tried again, on its way into the cluster and between the nodes.
const SELDONS_RETRIES: [&str; 2] = ["seldon.io/istio-retries", "seldon.io/rest-connect-retries"];
/// How long answers may take in milliseconds: of REST and of gRPC, each with the name that it had before.
const TIMEOUTS: [[&str; 2]; 2] = [
    ["seldon.io/rest-timeout", "seldon.io/rest-read-timeout"],
    ["seldon.io/grpc-timeout", "seldon.io/grpc-read-timeout"],
];

/// The longest time that an answer may take, in milliseconds: what Seldon's own readers hold, some 24 days.
const TIMEOUT_MILLIS_MAX: u64 = 2_147_483_647;

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
        read_millis(text).map(Duration::from_millis)
    };
    let times = TIMEOUTS.iter();
    times
        .filter_map(|names| names.iter().find_map(millis))
        .max()
}

/// Returns a time in milliseconds; `None` if it is none that an answer may take.
fn read_millis(text: &str) -> Option<u64> {
    let millis = text.parse().ok();
    millis.filter(|millis| (1..=TIMEOUT_MILLIS_MAX).contains(millis))
}

/// Checks the values of those of Seldon's annotations that count: what Seldon's own components cannot read they log, or fail at, later.
fn check_values(deployment: &Value, spec: &SeldonDeploymentSpec) -> Result<(), String> {
    let of_predictors = spec.predictors.iter().enumerate();
    let of_predictors = of_predictors.map(|(index, predictor)| {
        let place = format!("spec.predictors[{index}].annotations");
        (place, predictor.annotations.as_ref())
    });
    let of_spec = ("spec.annotations".to_owned(), spec.annotations.as_ref());
    for (place, annotations) in of_predictors.chain([of_spec]) {
        for (name, text) in annotations.into_iter().flatten() {
            check_retries(&place, name, text)?;
            let is_timeout = TIMEOUTS.iter().flatten().any(|one| one == name);
            if is_timeout && read_millis(text).is_none() {
                return Err(format!(
                    "{place}: annotation {name}: '{text}' is no number of milliseconds from 1 to {TIMEOUT_MILLIS_MAX}"
                ));
            }
        }
    }
    for (name, text) in object::texts(deployment, "annotations") {
        check_retries("metadata.annotations", name, text)?;
    }
    Ok(())
}

fn check_retries(place: &str, name: &str, text: &str) -> Result<(), String> {
    match SELDONS_RETRIES.contains(&name) && text.parse::<u32>().is_err() {
        true => Err(format!(
            "{place}: annotation {name}: '{text}' is no number of times, 0 or more"
        )),
        false => Ok(()),
    }
}

/// Returns a deployment with graphs as one object with the annotations that are of the graphs as a whole, and count.
fn as_whole(deployment: &Value, spec: &SeldonDeploymentSpec) -> Value {
    let (taking, _) = parts(spec);
    let only = match taking.as_slice() {
        [only] => Some(*only),
        _ => None,
    };
    let names = fallbacks::OF_GRAPHS.iter();
    let said = names.filter_map(|name| Some((*name, text(deployment, (spec, only), name)?)));
    let annotations: BTreeMap<&str, &str> = said.collect();
    json!({"metadata": {
        "name": object::name(deployment),
        "namespace": object::namespace(deployment),
        "annotations": annotations
    }})
}

/// Returns what is done where the graphs of a deployment give no answer, and how many of its requests there may be at a time.
pub(super) fn of_graphs(
    deployment: &Value,
    spec: &SeldonDeploymentSpec,
) -> Option<FallbackSettings> {
    fallbacks::in_force(&as_whole(deployment, spec))
}

/// Gives the annotations of an InferenceService those of its deployment, and the `secret` with the credentials for its files; the model of a node has only
/// those that let nothing stand in for it.
pub(super) fn give(
    deployment: &Value,
    of: (&SeldonDeploymentSpec, Option<&SeldonPredictor>),
    (is_node, secret): (bool, Option<&str>),
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
    if let Some(secret) = secret {
        given.insert(STORAGE_SECRET_NAME, secret.to_owned());
    }
    put(given, annotations);
}

/// Gives the annotations of an InferenceService nothing but the secret with the credentials for its files.
pub(super) fn give_secret(secret: Option<&str>, annotations: &mut Value) {
    let given = secret.map(|secret| (STORAGE_SECRET_NAME, secret.to_owned()));
    put(given.into_iter().collect(), annotations);
}

/// Puts what a deployment gives among the annotations, and names it there.
fn put(given: BTreeMap<&str, String>, annotations: &mut Value) {
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
    check_values(deployment, spec)?;
    let anywhere = |name: &str| {
        let mut predictors = spec.predictors.iter();
        predictors.any(|one| one.annotation(name).is_some())
            || text(deployment, (spec, None), name).is_some()
    };
    for name in fallbacks::OF_MODELS {
        if anywhere(name) {
            return Err(format!(
                "annotation {name} is not for a SeldonDeployment; annotate the InferenceService that is made of it"
            ));
        }
    }
    for name in fallbacks::OF_PROGRAMS {
        if anywhere(name) {
            return Err(format!(
                "annotation {name} is for programs; the models of a SeldonDeployment are read here"
            ));
        }
    }
    if graphs.is_some() {
        if anywhere(fallbacks::REVISION) {
            return Err(format!(
                "annotation {}: a graph of several nodes has no revisions, one of which could stand in; annotate the InferenceService of a node, DEPLOYMENT-PREDICTOR-NODE",
                fallbacks::REVISION
            ));
        }
        fallbacks::read(&as_whole(deployment, spec))?;
    }
    let (taking, _) = parts(spec);
    for (index, predictor) in spec.predictors.iter().enumerate() {
        let is_only = taking.len() == 1 && !predictor.is_shadow();
        let is_for_all = |name: &&&str| match graphs {
            None => !is_only,
            // Each model has what is done with calls; the whole is one.
            Some(_) => !is_only && fallbacks::OF_GRAPHS.contains(*name),
        };
        let said = fallbacks::ANNOTATIONS.iter().filter(is_for_all);
        let mut said = said.filter(|name| predictor.annotation(name).is_some());
        if let Some(name) = said.next() {
            return Err(format!(
                "spec.predictors[{index}].annotations: {name} is for all predictors together; say it in spec.annotations"
            ));
        }
    }
    for service in services {
        fallbacks::read(service)?;
    }
    Ok(())
}
