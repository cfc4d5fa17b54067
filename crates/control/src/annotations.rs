//! The annotations of this server's own domain: the one list of them, with where each is read. Whoever reads one has its name from here, the docs are
//! checked against it, and one that it does not have, or that says nothing where it is written, is refused.
//!
//! What a value may be is for whoever reads it to say. Annotations of other domains are others' and are taken as they are.

use coracle_api::{Kind, kind};
use serde_json::Value;

/// What their names begin with.
const DOMAIN: &str = "serving.coracle.dev/";

/// The default prediction, as JSON: a row's value, or an object of such by output, as `0` or `{"predict": 0, "predict_proba": [0.5, 0.5]}`.
pub(crate) const FALLBACK: &str = "serving.coracle.dev/fallback";
/// The revision of the same service that is asked in place of the one that fails: `stable`, `previous`, or its name.
pub(crate) const FALLBACK_REVISION: &str = "serving.coracle.dev/fallback-revision";
/// The InferenceService of the same namespace whose model is asked in place of this one, before the default prediction is given.
pub(crate) const FALLBACK_SERVICE: &str = "serving.coracle.dev/fallback-service";
/// The header, such as `x-user`, whose value tells whose last good answer is given.
pub(crate) const FALLBACK_LAST_GOOD: &str = "serving.coracle.dev/fallback-last-good";
/// How long the model may take before something stands in for it, such as `200ms`.
pub(crate) const FALLBACK_TIMEOUT: &str = "serving.coracle.dev/fallback-timeout";
/// How often a request that failed is tried again, 0 to 5.
pub(crate) const RETRIES: &str = "serving.coracle.dev/retries";
/// So many failures in a row, and the model is not asked for a while.
pub(crate) const BREAKER_FAILURES: &str = "serving.coracle.dev/breaker-failures";
/// Calls that take longer, such as `200ms`, are slow; half of at least 20 that are, and the model is not asked for a while.
pub(crate) const BREAKER_LATENCY: &str = "serving.coracle.dev/breaker-latency";
/// After which time a second process is asked, too: `50ms`, or `p95` for what 95 of 100 calls took at most.
pub(crate) const HEDGE_AFTER: &str = "serving.coracle.dev/hedge-after";
/// Who is asked then, of those that stand in for a model that is read here: `revision` or `service`.
pub(crate) const HEDGE_TO: &str = "serving.coracle.dev/hedge-to";
/// So many requests of the service are in work at a time.
pub(crate) const BULKHEAD: &str = "serving.coracle.dev/bulkhead";
/// So many more wait; ten for each that is in work by default.
pub(crate) const BULKHEAD_QUEUE: &str = "serving.coracle.dev/bulkhead-queue";
/// The InferenceService of the same namespace that gets copies, such as `iris-next`.
pub(crate) const SHADOW: &str = "serving.coracle.dev/shadow";
/// How many of 100 requests are copied; without it, all of them.
pub(crate) const SHADOW_PERCENT: &str = "serving.coracle.dev/shadow-percent";
/// What is kept of the requests whose answers are farthest apart: `nothing`, `answers` (the default) or `requests`.
pub(crate) const SHADOW_KEEP: &str = "serving.coracle.dev/shadow-keep";
/// How much is kept of each revision's answers, such as `64MiB`; without it, nothing is.
pub(crate) const RESPONSE_CACHE: &str = "serving.coracle.dev/response-cache";
/// How long an answer is given, such as `60s`; without it, for as long as it is kept.
pub(crate) const RESPONSE_CACHE_TTL: &str = "serving.coracle.dev/response-cache-ttl";
/// The steps of a service's rollout, such as `10% for 1h, 50%`.
pub(crate) const ROLLOUT_STEPS: &str = "serving.coracle.dev/rollout-steps";
/// A command to a Rollout: `skip`, `abort`, `promote` or `retry`; removed when it is done.
pub const ROLLOUT: &str = "serving.coracle.dev/rollout";
/// A command to an Experiment: `promote:VARIANT`, `stop` or `resume`; removed when it is done.
pub const EXPERIMENT: &str = "serving.coracle.dev/experiment";
/// Marks the runtimes whose models are served within this process.
pub(crate) const ENGINE: &str = "serving.coracle.dev/engine";
/// Which annotations of an InferenceService its SeldonDeployment has given it.
pub(crate) const GIVEN_BY_SELDON: &str = "serving.coracle.dev/given-by-seldondeployment";
/// What a replica is.
pub(crate) const REPLICA: &str = "serving.coracle.dev/replica";
/// The number of a replica's process among those of its revision.
pub(crate) const PROCESS: &str = "serving.coracle.dev/process";
/// The process of the operating system.
pub(crate) const PID: &str = "serving.coracle.dev/pid";
/// What the process may use.
pub(crate) const LIMITS: &str = "serving.coracle.dev/limits";
/// What an autoscaler that is shown is.
pub(crate) const AUTOSCALER: &str = "serving.coracle.dev/autoscaler";

/// Where an annotation says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The metadata of an InferenceService.
    Service,
    /// A predictor of one.
    Predictor,
    /// The metadata of a SeldonDeployment, its spec, or a predictor.
    Seldon,
    /// The metadata of a Rollout.
    Rollout,
    /// That of an Experiment.
    Experiment,
    /// That of a ServingRuntime or ClusterServingRuntime.
    Runtime,
    /// That of what is shown only: pods and autoscalers.
    Shown,
    /// None.
    Nowhere,
}

impl Place {
    fn in_words(self) -> &'static str {
        match self {
            Self::Service => "the metadata of an InferenceService",
            Self::Predictor => "the annotations of an InferenceService's predictor",
            Self::Seldon => {
                "the metadata of a SeldonDeployment, in spec.annotations or those of a predictor"
            }
            Self::Rollout => "the metadata of a Rollout",
            Self::Experiment => "the metadata of an Experiment of serving.coracle.dev",
            Self::Runtime => "the metadata of a ServingRuntime or ClusterServingRuntime",
            Self::Shown => "what the server shows",
            Self::Nowhere => "nothing",
        }
    }
}

/// An annotation, with the places that it is read at or written to.
#[derive(Debug)]
struct Annotation {
    name: &'static str,
    places: &'static [Place],
}

const fn at(name: &'static str, places: &'static [Place]) -> Annotation {
    Annotation { name, places }
}

const SERVICE: &[Place] = &[Place::Service];
const SERVICE_OR_PREDICTOR: &[Place] = &[Place::Service, Place::Predictor];
const SERVICE_OR_SELDON: &[Place] = &[Place::Service, Place::Seldon];

/// All of them.
const ALL: &[Annotation] = &[
    at(FALLBACK, SERVICE_OR_SELDON),
    at(FALLBACK_REVISION, SERVICE_OR_SELDON),
    at(FALLBACK_SERVICE, SERVICE_OR_SELDON),
    at(FALLBACK_LAST_GOOD, SERVICE_OR_SELDON),
    at(FALLBACK_TIMEOUT, SERVICE_OR_SELDON),
    at(RETRIES, SERVICE_OR_SELDON),
    at(BREAKER_FAILURES, SERVICE_OR_SELDON),
    at(BREAKER_LATENCY, SERVICE_OR_SELDON),
    // Of a SeldonDeployment it is refused for what it is.
    at(HEDGE_AFTER, SERVICE_OR_SELDON),
    at(HEDGE_TO, SERVICE_OR_SELDON),
    at(BULKHEAD, SERVICE_OR_SELDON),
    at(BULKHEAD_QUEUE, SERVICE_OR_SELDON),
    at(SHADOW, SERVICE),
    at(SHADOW_PERCENT, SERVICE),
    at(SHADOW_KEEP, SERVICE),
    at(RESPONSE_CACHE, SERVICE),
    at(RESPONSE_CACHE_TTL, SERVICE),
    at(ROLLOUT_STEPS, SERVICE),
    at(coracle_api::validation::STICKY, SERVICE),
    at(coracle_policy::autoscale::KEEP_WARM, SERVICE_OR_PREDICTOR),
    at(
        "serving.coracle.dev/autoscale-target-p99",
        SERVICE_OR_PREDICTOR,
    ),
    at(
        "serving.coracle.dev/autoscale-target-queue-depth",
        SERVICE_OR_PREDICTOR,
    ),
    at(
        "serving.coracle.dev/autoscale-predictive",
        SERVICE_OR_PREDICTOR,
    ),
    at(
        "serving.coracle.dev/autoscale-predictive-lead",
        SERVICE_OR_PREDICTOR,
    ),
    at(GIVEN_BY_SELDON, SERVICE),
    at(ROLLOUT, &[Place::Rollout]),
    at(EXPERIMENT, &[Place::Experiment]),
    at(ENGINE, &[Place::Runtime]),
    at(REPLICA, &[Place::Shown]),
    at(PROCESS, &[Place::Shown]),
    at(PID, &[Place::Shown]),
    at(LIMITS, &[Place::Shown]),
    at(AUTOSCALER, &[Place::Shown]),
];

/// Checks that each annotation of the domain is one that there is, where it is read. Kinds that none is read of are let through: tools that write the same
/// annotations to all objects write them to ConfigMaps, too.
///
/// # Errors
/// Says which one is not known, or says nothing where it is, and what was meant or allowed.
pub(crate) fn check(kind: &Kind, object: &Value) -> Result<(), String> {
    for (path, place) in places(kind, object) {
        let names = object.pointer(&path).and_then(Value::as_object);
        let names = names.into_iter().flatten().map(|(name, _)| name);
        for name in names.filter(|name| name.starts_with(DOMAIN)) {
            check_name(name, place).map_err(|why| match path == METADATA {
                true => format!("annotation {name} {why}"),
                false => format!("{}: annotation {name} {why}", in_dots(&path)),
            })?;
        }
    }
    Ok(())
}

const METADATA: &str = "/metadata/annotations";

/// Returns the pointers to an object's annotations, with what they are.
fn places(kind: &Kind, object: &Value) -> Vec<(String, Place)> {
    let own = |place: Place| (METADATA.to_owned(), place);
    let count = |pointer: &str| {
        let list = object.pointer(pointer).and_then(Value::as_array);
        0..list.map_or(0, Vec::len)
    };
    if *kind == kind::INFERENCE_SERVICE {
        let mut places = vec![
            own(Place::Service),
            ("/spec/predictor/annotations".to_owned(), Place::Predictor),
            // The one block of tutorials.
            (
                "/spec/canary/predictor/annotations".to_owned(),
                Place::Predictor,
            ),
        ];
        places.extend(count("/spec/canary").map(|index| {
            let pointer = format!("/spec/canary/{index}/predictor/annotations");
            (pointer, Place::Predictor)
        }));
        for component in ["transformer", "explainer"] {
            places.push((format!("/spec/{component}/annotations"), Place::Nowhere));
        }
        return places;
    }
    if *kind == kind::SELDON_DEPLOYMENT {
        let mut places = vec![
            own(Place::Seldon),
            ("/spec/annotations".to_owned(), Place::Seldon),
        ];
        for index in count("/spec/predictors") {
            let predictor = format!("/spec/predictors/{index}");
            places.push((format!("{predictor}/annotations"), Place::Seldon));
            places.extend(count(&format!("{predictor}/componentSpecs")).map(|index| {
                let pointer = format!("{predictor}/componentSpecs/{index}/metadata/annotations");
                (pointer, Place::Nowhere)
            }));
        }
        return places;
    }
    let place = [
        (kind::ROLLOUT, Place::Rollout),
        (kind::EXPERIMENT, Place::Experiment),
        (kind::SELDON_EXPERIMENT, Place::Nowhere),
        (kind::SERVING_RUNTIME, Place::Runtime),
        (kind::CLUSTER_SERVING_RUNTIME, Place::Runtime),
    ];
    let mut place = place.into_iter().filter(|(one, _)| one == kind);
    place
        .next()
        .map(|(_, place)| own(place))
        .into_iter()
        .collect()
}

/// Returns a pointer as people write paths.
fn in_dots(pointer: &str) -> String {
    let mut dotted = String::new();
    for segment in pointer.split('/').skip(1) {
        match segment.parse::<usize>() {
            Ok(index) => dotted.push_str(&format!("[{index}]")),
            Err(_) if dotted.is_empty() => dotted.push_str(segment),
            Err(_) => dotted.push_str(&format!(".{segment}")),
        }
    }
    dotted
}

fn check_name(name: &str, place: Place) -> Result<(), String> {
    let here = |one: &&Annotation| one.places.contains(&place);
    let Some(known) = ALL.iter().find(|one| one.name == name) else {
        let all = ALL.iter().filter(here).map(|one| one.name);
        let names: Vec<&str> = all.filter(|name| *name != GIVEN_BY_SELDON).collect();
        return Err(match (nearest(name, &names), names.as_slice()) {
            (Some(meant), _) => format!("is not known; {meant} is"),
            (None, []) => "is not known; none is read here".to_owned(),
            (None, names) => format!("is not known; known are {}", names.join(", ")),
        });
    };
    if here(&known) {
        return Ok(());
    }
    let places = known.places.iter().map(|place| place.in_words());
    let places: Vec<&str> = places.collect();
    Err(format!(
        "says nothing here; it is read in {}",
        places.join(", and in ")
    ))
}

/// Returns the name that is meant by one that is misspelt, if one is near.
fn nearest<'n>(name: &str, known: &[&'n str]) -> Option<&'n str> {
    let own = |name: &str| {
        let name = name.strip_prefix(DOMAIN).unwrap_or(name);
        name.to_ascii_lowercase().replace(['_', '.', ' '], "-")
    };
    let wanted = own(name);
    // No name is nearly as long, and what is compared is bounded.
    if wanted.len() > 64 {
        return None;
    }
    let with_distance = known.iter().map(|known| {
        let one = own(known);
        (
            distance(wanted.as_bytes(), one.as_bytes()),
            one.len(),
            *known,
        )
    });
    let near = with_distance.filter(|(distance, length, _)| distance * 2 <= *length);
    near.min_by_key(|(distance, _, _)| *distance)
        .map(|(_, _, known)| known)
}

/// Returns how many bytes are to be changed, added, left out, or swapped with their neighbour to make one of the other (optimal string alignment).
fn distance(one: &[u8], other: &[u8]) -> usize {
    let first: Vec<usize> = (0..=other.len()).collect();
    let mut rows = (Vec::new(), first);
    for (i, left) in one.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, right) in other.iter().enumerate() {
            let (before, last) = &rows;
            let mut least = (last[j] + usize::from(left != right))
                .min(last[j + 1] + 1)
                .min(row[j] + 1);
            if i > 0 && j > 0 && *left == other[j - 1] && one[i - 1] == *right {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        rows = (rows.1, row);
    }
    rows.1[other.len()]
}

#[cfg(test)]
mod tests;
