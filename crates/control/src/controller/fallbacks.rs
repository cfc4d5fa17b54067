//! What is done where a service's model fails, takes long, or has too much to do: twelve annotations.

use std::collections::BTreeMap;
use std::time::Duration;

use coracle_api::inference_service::is_name;
use coracle_serving::{BulkheadSettings, FallbackSettings, HedgeAfter, HedgeTo, ServiceId};
use serde_json::Value;

use super::faults::is_of_token;
use crate::annotations::{
    BREAKER_FAILURES as BREAKER, BREAKER_LATENCY, BULKHEAD, BULKHEAD_QUEUE,
    FALLBACK_LAST_GOOD as KEY, FALLBACK_TIMEOUT as TIMEOUT, HEDGE_AFTER as HEDGE, HEDGE_TO,
};
pub(crate) use crate::annotations::{
    FALLBACK as VALUE, FALLBACK_REVISION as REVISION, FALLBACK_SERVICE as SERVICE, RETRIES,
};
use crate::object;

/// The revision that takes all requests but a canary's.
pub(crate) const STABLE_REVISION: &str = "stable";
/// The one that had all of them before.
pub(crate) const PREVIOUS_REVISION: &str = "previous";

const BULKHEAD_MAX: u32 = 100_000;
pub(crate) const RETRIES_MAX: u32 = 5;
const VALUE_BYTES_MAX: usize = 4_096;
/// What says how a request comes, not whose it is, and is not kept for all requests.
const NO_KEYS: [&str; 12] = [
    "accept",
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "inference-header-content-length",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];
const HEDGE_MAX: Duration = Duration::from_secs(10 * 60);

/// What is for predictors that run as programs, and does nothing for others but with [`OF_MODELS`].
pub(crate) const OF_PROGRAMS: [&str; 1] = [HEDGE];
/// What is for models that are read here: programs have further processes to ask.
pub(crate) const OF_MODELS: [&str; 1] = [HEDGE_TO];
/// What is done with calls to a model, so that nothing has to stand in for it.
pub(crate) const OF_CALLS: [&str; 3] = [RETRIES, BREAKER, BREAKER_LATENCY];
/// What may be said of a graph of several models as a whole: it has no revisions.
pub(crate) const OF_GRAPHS: [&str; 6] = [VALUE, SERVICE, KEY, TIMEOUT, BULKHEAD, BULKHEAD_QUEUE];
/// What may be said of models that are read here.
pub(crate) const ANNOTATIONS: [&str; 10] = [
    VALUE,
    REVISION,
    SERVICE,
    KEY,
    TIMEOUT,
    RETRIES,
    BREAKER,
    BREAKER_LATENCY,
    BULKHEAD,
    BULKHEAD_QUEUE,
];

/// Reads the annotations of a service; the revision that stands in is as it is written there.
///
/// # Errors
/// Says which annotation has which value, and what is allowed.
pub(crate) fn read(service: &Value) -> Result<Option<FallbackSettings>, String> {
    let (settings, faults) = read_all(service);
    match faults.into_iter().next() {
        Some(fault) => Err(fault),
        None => Ok((settings != FallbackSettings::default()).then_some(settings)),
    }
}

/// Returns what the annotations of a stored service come to, without those that make no sense: an earlier version may have let them pass.
pub(crate) fn in_force(service: &Value) -> Option<FallbackSettings> {
    let (settings, _faults) = read_all(service);
    (settings != FallbackSettings::default()).then_some(settings)
}

/// Says what is wrong with the annotations of a service, each of them.
pub(crate) fn faults(service: &Value) -> Vec<String> {
    read_all(service).1
}

/// Returns the services of whose default predictions something else is known than before: why they are none, if they are none.
pub(crate) fn changed_misfits(
    before: &BTreeMap<ServiceId, String>,
    now: &BTreeMap<ServiceId, String>,
) -> Vec<(ServiceId, Option<String>)> {
    let ids = now
        .keys()
        .chain(before.keys().filter(|id| !now.contains_key(*id)));
    let changed = ids.filter(|id| now.get(*id) != before.get(*id));
    let told = |why: &String| format!("the default prediction fits no answer: {why}");
    changed
        .map(|id| (id.clone(), now.get(id).map(told)))
        .collect()
}

/// Returns what was read, and notes what could not be.
fn kept<T>(read: Option<Result<T, String>>, faults: &mut Vec<String>) -> Option<T> {
    match read? {
        Ok(read) => Some(read),
        Err(fault) => {
            faults.push(fault);
            None
        }
    }
}

/// Reads each annotation by itself; returns what makes sense, and what does not.
fn read_all(service: &Value) -> (FallbackSettings, Vec<String>) {
    let mut faults = Vec::new();
    let annotation = |name| object::text(service, "annotations", name);
    let number = |name: &str, text: &str, least: u32, most: u32| {
        let number = text.parse().ok();
        let number = number.filter(|number| (least..=most).contains(number));
        number.ok_or_else(|| {
            format!("annotation {name}: '{text}' is no number from {least} to {most}")
        })
    };
    let time = |name| annotation(name).map(|text| read_time(name, text));
    let other = annotation(SERVICE).map(|name| read_service(service, name));
    let retries = annotation(RETRIES).map(|text| number(RETRIES, text, 0, RETRIES_MAX));
    let breaker = annotation(BREAKER).map(|text| number(BREAKER, text, 1, 1_000));
    let places = annotation(BULKHEAD).map(|text| number(BULKHEAD, text, 1, BULKHEAD_MAX));
    let places = kept(places, &mut faults);
    let queue = annotation(BULKHEAD_QUEUE);
    let queue = queue.map(|text| number(BULKHEAD_QUEUE, text, 0, BULKHEAD_MAX));
    let queue = kept(queue, &mut faults);
    if queue.is_some() && annotation(BULKHEAD).is_none() {
        faults.push(format!(
            "annotation {BULKHEAD_QUEUE} says nothing without {BULKHEAD}"
        ));
    }
    let mut settings = FallbackSettings {
        value: kept(annotation(VALUE).map(check_value), &mut faults),
        revision: kept(annotation(REVISION).map(read_revision), &mut faults),
        service: kept(other, &mut faults),
        key: kept(annotation(KEY).map(read_key), &mut faults),
        timeout: kept(time(TIMEOUT), &mut faults),
        retries: kept(retries, &mut faults).unwrap_or(0),
        breaker_failures: kept(breaker, &mut faults),
        breaker_latency: kept(time(BREAKER_LATENCY), &mut faults),
        hedge: kept(annotation(HEDGE).map(read_hedge), &mut faults),
        hedge_to: kept(annotation(HEDGE_TO).map(read_hedge_to), &mut faults),
        bulkhead: places.map(|places| BulkheadSettings {
            places,
            queue: queue
                .unwrap_or_else(|| places.saturating_mul(BulkheadSettings::QUEUE_PER_PLACE)),
        }),
    };
    let stands_in = settings.stands_in();
    if settings.timeout.is_some() && !stands_in {
        settings.timeout = None;
        faults.push(format!(
            "annotation {TIMEOUT} says nothing without {VALUE}, {REVISION}, {SERVICE} or {KEY}"
        ));
    }
    if let (Some(timeout), Some(slow)) = (settings.timeout, settings.breaker_latency)
        && timeout <= slow
    {
        settings.breaker_latency = None;
        faults.push(format!(
            "annotation {BREAKER_LATENCY}: {} is not below {TIMEOUT}, {}, at which calls end: none would be slow",
            humantime::format_duration(slow),
            humantime::format_duration(timeout)
        ));
    }
    if let Err(fault) = check_hedge(&settings) {
        settings.hedge_to = None;
        faults.push(fault);
    }
    (settings, faults)
}

/// Checks that there is somebody to be asked, at a time when it may help.
fn check_hedge(settings: &FallbackSettings) -> Result<(), String> {
    let Some(to) = settings.hedge_to else {
        return Ok(());
    };
    let (other, is_there) = match to {
        HedgeTo::Revision => (REVISION, settings.revision.is_some()),
        HedgeTo::Service => (SERVICE, settings.service.is_some()),
    };
    let Some(after) = settings.hedge else {
        return Err(format!(
            "annotation {HEDGE_TO} says nothing without {HEDGE}"
        ));
    };
    if !is_there {
        return Err(format!(
            "annotation {HEDGE_TO} says nothing without {other}, which names who is asked"
        ));
    }
    match (after, settings.timeout) {
        (HedgeAfter::Time(after), Some(timeout)) if timeout <= after => Err(format!(
            "annotation {HEDGE}: {} is not below {TIMEOUT}, {}, at which calls end: nobody would be asked before",
            humantime::format_duration(after),
            humantime::format_duration(timeout)
        )),
        _ => Ok(()),
    }
}

fn read_hedge_to(text: &str) -> Result<HedgeTo, String> {
    match text {
        "revision" => Ok(HedgeTo::Revision),
        "service" => Ok(HedgeTo::Service),
        _ => Err(format!(
            "annotation {HEDGE_TO}: '{text}' is neither revision, the one of {REVISION}, nor service, the one of {SERVICE}"
        )),
    }
}

fn read_key(name: &str) -> Result<String, String> {
    if name.is_empty() || name.len() > 128 || !is_of_token(name) {
        return Err(format!(
            "annotation {KEY}: '{name}' is no name of a header, such as x-user"
        ));
    }
    let name = name.to_ascii_lowercase();
    match NO_KEYS.contains(&name.as_str()) {
        true => Err(format!(
            "annotation {KEY}: header '{name}' does not say whose a request is; name one of your own, such as x-user"
        )),
        false => Ok(name),
    }
}

fn read_revision(name: &str) -> Result<String, String> {
    match is_name(name) {
        true => Ok(name.to_owned()),
        false => Err(format!(
            "annotation {REVISION}: '{name}' is neither {STABLE_REVISION}, {PREVIOUS_REVISION} nor the name of a revision, such as iris-predictor-00001"
        )),
    }
}

fn read_service(service: &Value, name: &str) -> Result<ServiceId, String> {
    if !is_name(name) {
        return Err(format!(
            "annotation {SERVICE}: '{name}' is no name of an InferenceService of the same namespace"
        ));
    }
    if name == object::name(service) {
        return Err(format!(
            "annotation {SERVICE}: a service does not stand in for itself"
        ));
    }
    Ok(ServiceId {
        namespace: object::namespace(service).to_owned(),
        name: name.to_owned(),
    })
}

fn read_time(name: &str, text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).ok();
    time.filter(|time| !time.is_zero())
        .ok_or_else(|| format!("annotation {name}: '{text}' is no time; write such as 200ms"))
}

fn read_hedge(text: &str) -> Result<HedgeAfter, String> {
    let percent = text.strip_prefix('p').and_then(|text| text.parse().ok());
    if let Some(percent) = percent.filter(|percent| (50..=99).contains(percent)) {
        return Ok(HedgeAfter::Percentile(percent));
    }
    let time = humantime::parse_duration(text).ok();
    let time = time.filter(|time| !time.is_zero() && *time <= HEDGE_MAX);
    time.map(HedgeAfter::Time).ok_or_else(|| {
        format!("annotation {HEDGE}: '{text}' is neither a time of at most 10m, such as 50ms, nor one of p50 to p99")
    })
}

/// Checks that a value is one that an output may have: a number, text or truth value, or a list of such.
fn check_value(text: &str) -> Result<String, String> {
    let is_plain = |value: &Value| value.is_number() || value.is_string() || value.is_boolean();
    let is_row = |value: &Value| match value {
        Value::Array(items) => !items.is_empty() && items.iter().all(is_plain),
        value => is_plain(value),
    };
    let parsed: Option<Value> = serde_json::from_str(text).ok();
    let is_good = parsed.is_some_and(|value| match value {
        Value::Object(by_output) => !by_output.is_empty() && by_output.values().all(is_row),
        value => is_row(&value),
    });
    match is_good && text.len() <= VALUE_BYTES_MAX {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "annotation {VALUE}: no default prediction; write the JSON of a row's value, such as 0 or [0.5, 0.5], or an object of such by output, in at most {VALUE_BYTES_MAX} bytes"
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(annotations: Value) -> Result<Option<FallbackSettings>, String> {
        let metadata = json!({"name": "iris", "namespace": "ml", "annotations": annotations});
        read(&json!({"metadata": metadata}))
    }

    #[test]
    fn annotations_say_what_is_done() {
        assert_eq!(of(json!({})), Ok(None));
        let all = json!({VALUE: "{\"predict\": 0}", TIMEOUT: "2s", RETRIES: "2", BREAKER: "5", BREAKER_LATENCY: "1s"});
        let expected = FallbackSettings {
            value: Some("{\"predict\": 0}".to_owned()),
            revision: None,
            service: None,
            key: None,
            timeout: Some(Duration::from_secs(2)),
            retries: 2,
            breaker_failures: Some(5),
            breaker_latency: Some(Duration::from_secs(1)),
            hedge: None,
            hedge_to: None,
            bulkhead: None,
        };
        assert_eq!(of(all), Ok(Some(expected)));
        let other = of(json!({SERVICE: "iris-small", TIMEOUT: "50ms"})).unwrap();
        assert_eq!(other.unwrap().service.unwrap().to_string(), "ml/iris-small");
        let by_revision = of(json!({REVISION: "stable", TIMEOUT: "50ms"})).unwrap();
        assert_eq!(by_revision.unwrap().revision.as_deref(), Some("stable"));
        let by_key = of(json!({KEY: "X-User"})).unwrap();
        assert_eq!(by_key.unwrap().key.as_deref(), Some("x-user"));
        for (text, hedge) in [
            ("50ms", HedgeAfter::Time(Duration::from_millis(50))),
            ("p95", HedgeAfter::Percentile(95)),
        ] {
            let read = of(json!({HEDGE: text})).unwrap().unwrap();
            assert_eq!(read.hedge, Some(hedge));
        }
        for (name, other, to) in [
            ("service", json!({SERVICE: "iris-small"}), HedgeTo::Service),
            ("revision", json!({REVISION: "stable"}), HedgeTo::Revision),
        ] {
            let mut all = json!({HEDGE: "p95", HEDGE_TO: name, TIMEOUT: "1s"});
            coracle_patch::merge_patch(&mut all, &other);
            assert_eq!(of(all).unwrap().unwrap().hedge_to, Some(to));
        }
        for (annotations, places, queue) in [
            (json!({BULKHEAD: "8"}), 8, 80),
            (json!({BULKHEAD: "1", BULKHEAD_QUEUE: "0"}), 1, 0),
        ] {
            let read = of(annotations).unwrap().unwrap();
            assert_eq!(read.bulkhead, Some(BulkheadSettings { places, queue }));
        }
        for good in ["0", "\"no\"", "[0.5, 0.5]", "true"] {
            assert!(of(json!({VALUE: good})).is_ok(), "{good}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (annotations, expected) in [
            (json!({HEDGE: "0s"}), "neither a time"),
            (json!({HEDGE: "1h"}), "neither a time"),
            (json!({HEDGE: "p100"}), "nor one of p50"),
            (
                json!({HEDGE: "p95", HEDGE_TO: "next"}),
                "'next' is neither revision",
            ),
            (
                json!({SERVICE: "next", HEDGE_TO: "service"}),
                "says nothing without serving.coracle.dev/hedge-after",
            ),
            (
                json!({SERVICE: "next", HEDGE: "p95", HEDGE_TO: "revision"}),
                "says nothing without serving.coracle.dev/fallback-revision",
            ),
            (
                json!({SERVICE: "next", HEDGE: "1s", HEDGE_TO: "service", TIMEOUT: "1s"}),
                "nobody would be asked before",
            ),
            (json!({VALUE: "null"}), "no default prediction"),
            (json!({VALUE: "{}"}), "no default prediction"),
            (json!({VALUE: "[[1]]"}), "no default prediction"),
            (json!({VALUE: "0", TIMEOUT: "0s"}), "'0s' is no time"),
            (json!({TIMEOUT: "1s"}), "says nothing without"),
            (json!({BREAKER_LATENCY: "0s"}), "'0s' is no time"),
            (
                json!({VALUE: "0", TIMEOUT: "1s", BREAKER_LATENCY: "1s"}),
                "none would be slow",
            ),
            (json!({KEY: "Host"}), "does not say whose"),
            (json!({KEY: "user-agent"}), "does not say whose"),
            (json!({KEY: "accept"}), "does not say whose"),
            (json!({KEY: "content-type"}), "does not say whose"),
            (json!({KEY: "x user"}), "no name of a header"),
            (json!({REVISION: "Iris 1"}), "nor the name of a revision"),
            (json!({SERVICE: "Iris!"}), "no name of an InferenceService"),
            (json!({SERVICE: "iris"}), "does not stand in for itself"),
            (json!({BULKHEAD: "0"}), "no number from 1 to 100000"),
            (
                json!({BULKHEAD: "8", BULKHEAD_QUEUE: "-1"}),
                "no number from 0",
            ),
            (json!({BULKHEAD_QUEUE: "8"}), "says nothing without"),
            (json!({RETRIES: "6"}), "no number from 0 to 5"),
            (json!({BREAKER: "0"}), "no number from 1 to 1000"),
        ] {
            let error = of(annotations).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    /// What an earlier version has stored stays in force but for what makes no sense.
    #[test]
    fn a_contradiction_takes_nothing_else_with_it() {
        let of = |annotations: Value| {
            let metadata = json!({"name": "iris", "namespace": "ml", "annotations": annotations});
            in_force(&json!({"metadata": metadata}))
        };
        let expected = FallbackSettings {
            value: Some("0".to_owned()),
            timeout: Some(Duration::from_secs(1)),
            retries: 2,
            ..FallbackSettings::default()
        };
        let good = json!({VALUE: "0", TIMEOUT: "1s", RETRIES: "2"});
        assert_eq!(of(good.clone()), Some(expected.clone()));
        for bad in [
            json!({BREAKER_LATENCY: "1s"}),
            json!({KEY: "host"}),
            json!({SERVICE: "iris"}),
            json!({BREAKER: "0"}),
        ] {
            let mut all = good.clone();
            coracle_patch::merge_patch(&mut all, &bad);
            assert_eq!(of(all), Some(expected.clone()), "{bad}");
        }
        assert_eq!(of(json!({TIMEOUT: "1s"})), None);
        assert_eq!(of(json!({})), None);
    }
}
