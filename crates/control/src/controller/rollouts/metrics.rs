//! The metrics of a Rollout's spec: those that outcomes tell, and those that are asked for elsewhere.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::ops::RangeInclusive;
use std::time::Duration;

use coracle_api::rollout::{RolloutAnalysis, RolloutMetric, RolloutUnit};
use coracle_api::structural::Cause;
use coracle_policy::rollout::{Against, Better, MetricRule, QueryRule};
use coracle_serving::Sticky;
use coracle_serving::experiment::{
    CANARY, MetricForm, MetricRole, PlannedExperiment, PlannedMetric, PlannedStage, PlannedVariant,
    ROLLOUT_BOOK, STABLE, UnitSource, VariantTarget,
};
use serde_json::json;

use super::queries::{Question, REVISION};
use crate::controller::faults::{
    Faults, MAGNITUDE_MAX, name_length, number, one_of, shown_name, token,
};
use crate::controller::times::read_time;

/// The most metrics.
pub(super) const METRICS_MAX: usize = 16;
const METRIC_NAME_BYTES_MAX: usize = 128;
const QUERY_BYTES_MAX: usize = 8 * 1024;
/// The fewest units by which means are compared: the test is for many.
const UNITS_MIN: u64 = 100;
const CONVERSION_MARGIN: f64 = 0.02;
const LOOKS: i32 = 3;
const LOOKS_MAX: i32 = 1_000;
const INTERVAL: Duration = Duration::from_secs(15);
const INTERVAL_MIN: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(5);
const TIMEOUT_MAX: Duration = Duration::from_secs(30);

/// What a rollout looks at besides errors and latency.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Metrics {
    /// Whom outcomes are about.
    pub(crate) unit: UnitSource,
    /// What outcomes may tell.
    pub(crate) planned: Vec<PlannedMetric>,
    pub(crate) rules: Vec<MetricRule>,
    /// What is asked for elsewhere; each with its rule.
    pub(crate) queries: Vec<(QueryRule, Question)>,
}

impl Metrics {
    /// Tells whether users are split, and not requests.
    pub(super) fn is_by_unit(&self) -> bool {
        self.unit != UnitSource::Request
    }

    /// Returns a mark that is another one for other metrics.
    pub(super) fn mark(&self) -> String {
        let mut hasher = DefaultHasher::new();
        format!("{self:?}").hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    }
}

/// Reads the metrics of a spec whose new revisions must have so many requests, and of whose service requests are split by `sticky`; what is wrong goes to
/// `faults`.
pub(super) fn read(
    analysis: &RolloutAnalysis,
    (requests_min, sticky): (u64, Option<Sticky>),
    faults: &mut Faults,
) -> Option<Metrics> {
    let given = analysis.metrics.as_deref().unwrap_or_default();
    if given.len() > METRICS_MAX {
        let field = "spec.analysis.metrics";
        return faults.keep(Err(Cause::too_many(field, given.len(), METRICS_MAX)));
    }
    let unit = faults.keep(unit(analysis.unit.as_ref(), sticky));
    let mut metrics = Metrics {
        unit: unit.clone().unwrap_or(UnitSource::Request),
        planned: Vec::new(),
        rules: Vec::new(),
        queries: Vec::new(),
    };
    for (index, metric) in given.iter().enumerate() {
        let field = format!("spec.analysis.metrics[{index}]");
        let place = format!("{field}.name");
        faults.keep(shown_name(&place, &metric.name, METRIC_NAME_BYTES_MAX));
        let mut others = given.iter().take(index);
        if others.any(|other| other.name == metric.name) {
            faults.keep::<()>(Err(Cause::duplicate(&place, &json!(metric.name))));
        }
        match metric.metric_type.as_str() {
            "Prometheus" => metrics
                .queries
                .extend(faults.keep(read_query(metric, &field))),
            _ => {
                let read = faults.keep(read_outcome(metric, &field, requests_min));
                let (planned, rule) = read.unzip();
                metrics.planned.extend(planned);
                metrics.rules.extend(rule);
            }
        }
    }
    unit.map(|_| metrics)
}

fn unit(unit: Option<&RolloutUnit>, sticky: Option<Sticky>) -> Result<UnitSource, Cause> {
    let Some(unit) = unit else {
        return Ok(match sticky {
            None => UnitSource::Request,
            Some(Sticky::Header(name)) => UnitSource::Header(name),
            Some(Sticky::Cookie(name)) => UnitSource::Cookie(name),
        });
    };
    let field = "spec.analysis.unit";
    match (&unit.header, &unit.cookie) {
        (Some(name), None) => {
            token(&format!("{field}.header"), name)?;
            Ok(UnitSource::Header(name.to_ascii_lowercase()))
        }
        (None, Some(name)) => {
            token(&format!("{field}.cookie"), name)?;
            Ok(UnitSource::Cookie(name.clone()))
        }
        _ => Err(Cause::invalid(
            field,
            &json!(unit),
            "must have one of header and cookie, and one only",
        )),
    }
}

fn better(metric: &RolloutMetric, field: &str) -> Result<Better, Cause> {
    let field = format!("{field}.better");
    match one_of(&field, metric.better.as_deref(), ["Higher", "Lower"])? {
        0 => Ok(Better::Higher),
        _ => Ok(Better::Lower),
    }
}

/// Reads by how much a metric may be worse.
fn read_margin(metric: &RolloutMetric, field: &str, is_share: bool) -> Result<f64, Cause> {
    let field = format!("{field}.margin");
    let default = is_share.then_some(CONVERSION_MARGIN);
    let margin = metric.margin.or(default).ok_or_else(|| {
        let kind = &metric.metric_type;
        let why = format!("of a {kind} it must be said by how much it may be worse");
        Cause::required(&field, &why)
    })?;
    match is_share {
        true => number(
            &field,
            margin,
            (
                margin > 0.0 && margin < 1.0,
                "above 0 and below 1, a difference of shares: 0.05 is 5 percent",
            ),
        ),
        false => number(
            &field,
            margin,
            (
                margin > 0.0 && margin <= MAGNITUDE_MAX,
                "above 0, and at most 1e100",
            ),
        ),
    }
}

/// Refuses fields that are of another type of metric.
fn only_of<const N: usize>(field: &str, given: [(&str, bool); N], why: &str) -> Result<(), Cause> {
    match given.iter().find(|(_, is_there)| *is_there) {
        Some((name, _)) => Err(Cause::forbidden(&format!("{field}.{name}"), why)),
        None => Ok(()),
    }
}

fn read_outcome(
    metric: &RolloutMetric,
    field: &str,
    requests_min: u64,
) -> Result<(PlannedMetric, MetricRule), Cause> {
    let words = ["Conversion", "Sum", "Mean", "Prometheus"];
    let kind = match one_of(&format!("{field}.type"), Some(&metric.metric_type), words)? {
        0 => MetricForm::Conversion,
        1 => MetricForm::Sum,
        _ => MetricForm::Mean,
    };
    let of_prometheus = [
        ("address", metric.address.is_some()),
        ("query", metric.query.is_some()),
        ("bound", metric.bound.is_some()),
        ("interval", metric.interval.is_some()),
        ("timeout", metric.timeout.is_some()),
        ("looks", metric.looks.is_some()),
    ];
    let why = format!(
        "only a metric of type Prometheus has one, and this one's outcomes are told: it is a {}",
        metric.metric_type
    );
    only_of(field, of_prometheus, &why)?;
    let is_share = kind == MetricForm::Conversion;
    let margin = read_margin(metric, field, is_share)?;
    let missing = metric.missing.as_deref();
    let missing = one_of(&format!("{field}.missing"), missing, ["Exclude", "Zero"])?;
    let better = better(metric, field)?;
    let units_min = match metric.units_min {
        None => requests_min.max(UNITS_MIN),
        Some(given) => {
            let place = format!("{field}.unitsMin");
            let units = u64::try_from(given).ok().filter(|given| *given >= 2);
            units.ok_or_else(|| Cause::invalid(&place, &json!(given), "must be at least 2"))?
        }
    };
    let planned = PlannedMetric {
        name: metric.name.clone(),
        kind,
        covariate: None,
        zero_if_missing: missing == 1,
        is_lower_better: better == Better::Lower,
        role: MetricRole::Guardrail,
        expected: margin,
        margin,
        window_ms: None,
    };
    let rule = MetricRule {
        name: metric.name.clone(),
        better,
        is_share,
        margin,
        units_min,
    };
    Ok((planned, rule))
}

/// Returns what a queried number is held against.
fn against(metric: &RolloutMetric, field: &str, names_revision: bool) -> Result<Against, Cause> {
    let place = |name: &str| format!("{field}.{name}");
    match (metric.margin, metric.bound) {
        (Some(_), None) if !names_revision => Err(Cause::forbidden(
            &place("margin"),
            &format!(
                "the query is the same for both revisions; {REVISION} must stand for theirs in it, or `bound` say what is allowed"
            ),
        )),
        (Some(margin), None) => {
            let is_good = (0.0..=MAGNITUDE_MAX).contains(&margin);
            let must = "at least 0, and at most 1e100";
            number(&place("margin"), margin, (is_good, must)).map(Against::Stable)
        }
        (None, Some(bound)) => {
            let is_good = bound.abs() <= MAGNITUDE_MAX;
            let must = "between -1e100 and 1e100";
            number(&place("bound"), bound, (is_good, must)).map(Against::Bound)
        }
        (Some(_), Some(_)) => Err(Cause::forbidden(
            &place("bound"),
            "there is a margin, too; one of them says what is allowed",
        )),
        (None, None) => Err(Cause::required(
            &place("margin"),
            "margin (by how much it may be worse than the revision that serves) or bound (what it must not be worse than) must be there",
        )),
    }
}

fn read_query(metric: &RolloutMetric, field: &str) -> Result<(QueryRule, Question), Cause> {
    let of_outcomes = [
        ("unitsMin", metric.units_min.is_some()),
        ("missing", metric.missing.is_some()),
    ];
    let why = "only a metric of outcomes has one, and this one is asked for at Prometheus";
    only_of(field, of_outcomes, why)?;
    let place = |name: &str| format!("{field}.{name}");
    let example = "where Prometheus is, such as http://prometheus:9090";
    let Some(address) = metric.address.as_deref() else {
        return Err(Cause::required(&place("address"), example));
    };
    let short = address.trim_end_matches('/');
    let rest = short.strip_prefix("http://");
    let rest = rest.or(short.strip_prefix("https://"));
    if rest.is_none_or(|rest| rest.is_empty() || short.contains(['?', '#', ' '])) {
        let why = format!("must say {example}");
        return Err(Cause::invalid(&place("address"), &json!(address), &why));
    }
    let Some(query) = metric.query.clone() else {
        let why = "what Prometheus is asked, which gives one number";
        return Err(Cause::required(&place("query"), why));
    };
    name_length(&place("query"), query.trim(), QUERY_BYTES_MAX)?;
    let against = against(metric, field, query.contains(REVISION))?;
    let looks = metric.looks.unwrap_or(LOOKS);
    let looks_read = u32::try_from(looks).ok();
    let looks_read = looks_read.filter(|_| (1..=LOOKS_MAX).contains(&looks));
    let rule = QueryRule {
        name: metric.name.clone(),
        better: better(metric, field)?,
        against,
        looks: looks_read.ok_or_else(|| {
            let why = format!("must be between 1 and {LOOKS_MAX}");
            Cause::invalid(&place("looks"), &json!(looks), &why)
        })?,
    };
    let question = Question {
        address: short.to_owned(),
        query,
        interval: asking_time(
            (&place("interval"), metric.interval.as_deref()),
            (INTERVAL, INTERVAL_MIN..=Duration::MAX),
            "must be at least 1s",
        )?,
        timeout: asking_time(
            (&place("timeout"), metric.timeout.as_deref()),
            (TIMEOUT, Duration::from_millis(1)..=TIMEOUT_MAX),
            "must be between 1ms and 30s",
        )?,
        is_compared: matches!(rule.against, Against::Stable(_)),
    };
    Ok((rule, question))
}

/// Reads a time of asking elsewhere; without a text it is the default.
fn asking_time(
    (place, text): (&str, Option<&str>),
    (default, allowed): (Duration, RangeInclusive<Duration>),
    must: &str,
) -> Result<Duration, Cause> {
    let Some(text) = text else { return Ok(default) };
    let time = read_time(place, text, "5s or 1m")?;
    match allowed.contains(&time) {
        true => Ok(time),
        false => Err(Cause::invalid(place, &json!(text), must)),
    }
}

/// A stage as far as its book is concerned.
#[derive(Clone, Copy, Debug)]
pub(super) struct StageOf<'a> {
    /// The Rollout's name and uid.
    pub(super) rollout: (&'a str, &'a str),
    pub(super) stable: &'a str,
    pub(super) canary: &'a str,
    /// In ms since 1970.
    pub(super) since_ms: u64,
    /// When the trial began that it is of, in ms since 1970.
    pub(super) trial_ms: u64,
    pub(super) predictions: bool,
    pub(super) slow_ns: Option<u64>,
}

/// Returns the name of a Rollout's book.
pub(super) fn book_name(rollout: &str) -> String {
    format!("{ROLLOUT_BOOK}{rollout}")
}

/// Returns the uid of the book of a trial: another canary is another one.
pub(super) fn book_uid(uid: &str, canary: &str) -> String {
    format!("{uid}/{canary}")
}

/// Returns what is planned of a stage's book; `None` if nobody looks at it.
pub(super) fn book(metrics: &Metrics, stage: StageOf<'_>) -> Option<PlannedExperiment> {
    let by_unit = metrics.is_by_unit();
    if metrics.planned.is_empty() && !stage.predictions && !by_unit {
        return None;
    }
    let variant = |name: &str, revision: &str| PlannedVariant {
        name: name.to_owned(),
        weight: 1,
        target: VariantTarget::Revision(revision.to_owned()),
    };
    let (name, uid) = stage.rollout;
    Some(PlannedExperiment {
        name: book_name(name),
        uid: book_uid(uid, stage.canary),
        salt: name.to_owned(),
        unit: metrics.unit.clone(),
        variants: vec![variant(STABLE, stage.stable), variant(CANARY, stage.canary)],
        share_ppm: 1_000_000,
        metrics: metrics.planned.clone(),
        stage: Some(PlannedStage {
            since_ms: stage.since_ms,
            trial_ms: stage.trial_ms,
            predictions: stage.predictions,
            by_unit,
            slow_ns: stage.slow_ns.filter(|_| by_unit),
        }),
        ..PlannedExperiment::default()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::controller::faults::text;

    fn of(analysis: Value) -> Result<Metrics, String> {
        let analysis = serde_json::from_value(analysis).unwrap();
        let mut faults = Faults::default();
        let metrics = read(&analysis, (40, None), &mut faults);
        faults.finish(metrics).map_err(|causes| text(&causes))
    }

    #[test]
    fn what_is_said_is_read_and_the_rest_has_defaults() {
        let metrics = of(json!({
            "unit": {"header": "X-User"},
            "metrics": [
                {"name": "converted", "type": "Conversion"},
                {"name": "spent", "type": "Sum", "margin": 1.5, "unitsMin": 20, "missing": "Zero"},
                {"name": "orders", "type": "Prometheus", "address": "http://p:9090/", "query": "sum(orders{revision=\"{{revision}}\"})", "margin": 0},
            ]
        }));
        let metrics = metrics.unwrap();
        assert_eq!(metrics.unit, UnitSource::Header("x-user".to_owned()));
        let rules: Vec<(f64, u64)> = metrics
            .rules
            .iter()
            .map(|rule| (rule.margin, rule.units_min))
            .collect();
        assert_eq!(rules, [(0.02, 100), (1.5, 20)]);
        assert!(metrics.planned[1].zero_if_missing);
        let (rule, question) = &metrics.queries[0];
        assert_eq!((rule.against, rule.looks), (Against::Stable(0.0), 3));
        assert_eq!(question.address, "http://p:9090");
        assert!(question.is_compared);
    }

    /// What splits requests is what is judged, unless the spec names another unit.
    #[test]
    fn whoever_sticks_to_a_revision_is_the_unit() {
        let of = |analysis: Value, sticky: Option<Sticky>| {
            let analysis = serde_json::from_value(analysis).unwrap();
            let mut faults = Faults::default();
            read(&analysis, (40, sticky), &mut faults).unwrap().unit
        };
        let header = |name: &str| UnitSource::Header(name.to_owned());
        let by_session = || Some(Sticky::Cookie("session".to_owned()));
        assert_eq!(of(json!({}), None), UnitSource::Request);
        assert_eq!(
            of(json!({}), by_session()),
            UnitSource::Cookie("session".to_owned())
        );
        assert_eq!(
            of(json!({}), Some(Sticky::Header("x-user".to_owned()))),
            header("x-user")
        );
        let named = json!({"unit": {"header": "X-Customer"}});
        assert_eq!(of(named, by_session()), header("x-customer"));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_place() {
        let metric = |metric: Value| json!({"metrics": [metric]});
        let same = json!({"name": "a", "type": "Conversion"});
        for (analysis, expected) in [
            (
                json!({"unit": {}}),
                "spec.analysis.unit: Invalid value: {}: must have one of header and cookie, and one only",
            ),
            (
                json!({"unit": {"header": "a", "cookie": "b"}}),
                "}: must have one of header and cookie, and one only",
            ),
            (
                metric(json!({"name": "", "type": "Sum"})),
                "spec.analysis.metrics[0].name: Invalid value: \"\": must have 1 to 128 bytes",
            ),
            (
                json!({"metrics": [same.clone(), same]}),
                "spec.analysis.metrics[1].name: Duplicate value: \"a\"",
            ),
            (
                metric(json!({"name": "a", "type": "Max"})),
                "spec.analysis.metrics[0].type: Unsupported value: \"Max\": supported values: \"Conversion\", \"Sum\", \"Mean\", \"Prometheus\"",
            ),
            (
                metric(json!({"name": "a", "type": "Sum"})),
                "spec.analysis.metrics[0].margin: Required value: of a Sum",
            ),
            (
                metric(json!({"name": "a", "type": "Sum", "margin": 0})),
                "spec.analysis.metrics[0].margin: Invalid value: 0.0: must be above 0, and at most 1e100",
            ),
            (
                metric(json!({"name": "a", "type": "Conversion", "margin": 1})),
                "spec.analysis.metrics[0].margin: Invalid value: 1.0: must be above 0 and below 1, a difference of shares",
            ),
            (
                metric(json!({"name": "a", "type": "Conversion", "looks": 3})),
                "spec.analysis.metrics[0].looks: Forbidden: only a metric of type Prometheus has one, and this one's outcomes are told: it is a Conversion",
            ),
        ] {
            let error = of(analysis.clone()).unwrap_err();
            assert!(error.contains(expected), "{analysis}: {error}");
        }
    }

    #[test]
    fn queries_that_make_no_sense_are_refused_with_their_place() {
        let query = |extra: Value| {
            let mut metric = json!({"name": "a", "type": "Prometheus", "address": "http://p", "query": "x{{revision}}"});
            let extra = extra.as_object().unwrap().clone();
            metric.as_object_mut().unwrap().extend(extra);
            json!({"metrics": [metric]})
        };
        for (analysis, expected) in [
            (
                query(json!({})),
                "spec.analysis.metrics[0].margin: Required value: margin (by",
            ),
            (
                query(json!({"margin": 1, "bound": 1})),
                "spec.analysis.metrics[0].bound: Forbidden: there is a margin, too",
            ),
            (
                query(json!({"margin": 1, "query": "x"})),
                "spec.analysis.metrics[0].margin: Forbidden: the query is the same for both revisions",
            ),
            (
                query(json!({"bound": 1, "address": "ftp://p"})),
                "spec.analysis.metrics[0].address: Invalid value: \"ftp://p\": must say where Prometheus is, such as",
            ),
            (
                query(json!({"bound": 1, "address": "http://p?x"})),
                "spec.analysis.metrics[0].address: Invalid value: \"http://p?x\"",
            ),
            (
                query(json!({"bound": 1, "query": " "})),
                "spec.analysis.metrics[0].query: Invalid value: \"\": must have 1 to 8192 bytes",
            ),
            (
                query(json!({"bound": 1, "looks": 0})),
                "spec.analysis.metrics[0].looks: Invalid value: 0: must be between 1 and 1000",
            ),
            (
                query(json!({"bound": 1, "interval": "10ms"})),
                "spec.analysis.metrics[0].interval: Invalid value: \"10ms\": must be at least 1s",
            ),
            (
                query(json!({"bound": 1, "timeout": "1m"})),
                "spec.analysis.metrics[0].timeout: Invalid value: \"1m\": must be between 1ms and 30s",
            ),
            (
                query(json!({"bound": 1, "missing": "Zero"})),
                "spec.analysis.metrics[0].missing: Forbidden: only a metric of outcomes has one",
            ),
        ] {
            let error = of(analysis.clone()).unwrap_err();
            assert!(error.contains(expected), "{analysis}: {error}");
        }
    }
}
