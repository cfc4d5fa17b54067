//! The metrics of a Rollout's spec: those that outcomes tell, and those that are asked for elsewhere.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use coracle_api::rollout::{RolloutAnalysis, RolloutMetric, RolloutUnit};
use coracle_policy::rollout::{Against, Better, MetricRule, QueryRule};
use coracle_serving::Sticky;
use coracle_serving::experiment::{
    CANARY, MetricForm, MetricRole, PlannedExperiment, PlannedMetric, PlannedStage, PlannedVariant,
    ROLLOUT_BOOK, STABLE, UnitSource, VariantTarget,
};

use super::queries::{Question, REVISION};
use crate::controller::times::read_time;

/// The most metrics.
pub(super) const METRICS_MAX: usize = 16;
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

/// Reads the metrics of a spec whose new revisions must have so many requests, and of whose service requests are split by `sticky`.
///
/// # Errors
/// Says which field has which value, and what is allowed.
pub(super) fn read(
    analysis: &RolloutAnalysis,
    (requests_min, sticky): (u64, Option<Sticky>),
) -> Result<Metrics, String> {
    let given = analysis.metrics.as_deref().unwrap_or_default();
    if given.len() > METRICS_MAX {
        return Err(format!("spec.analysis.metrics: more than {METRICS_MAX}"));
    }
    let mut metrics = Metrics {
        unit: unit(analysis.unit.as_ref(), sticky)?,
        planned: Vec::new(),
        rules: Vec::new(),
        queries: Vec::new(),
    };
    for (index, metric) in given.iter().enumerate() {
        let field = format!("spec.analysis.metrics[{index}]");
        let name = &metric.name;
        if name.is_empty() || name.len() > 128 {
            let n_bytes = name.len();
            return Err(format!(
                "{field}.name: it has {n_bytes} bytes; 1 to 128 are allowed"
            ));
        }
        if given.iter().take(index).any(|other| other.name == *name) {
            return Err(format!("{field}.name: '{name}' is there twice"));
        }
        match metric.metric_type.as_str() {
            "Prometheus" => metrics.queries.push(read_query(metric, &field)?),
            _ => {
                let (planned, rule) = read_outcome(metric, &field, requests_min)?;
                metrics.planned.push(planned);
                metrics.rules.push(rule);
            }
        }
    }
    Ok(metrics)
}

fn unit(unit: Option<&RolloutUnit>, sticky: Option<Sticky>) -> Result<UnitSource, String> {
    let Some(unit) = unit else {
        return Ok(match sticky {
            None => UnitSource::Request,
            Some(Sticky::Header(name)) => UnitSource::Header(name),
            Some(Sticky::Cookie(name)) => UnitSource::Cookie(name),
        });
    };
    let is_token = |text: &str| {
        let is_mark = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
        !text.is_empty() && text.as_bytes().iter().all(is_mark)
    };
    match (&unit.header, &unit.cookie) {
        (Some(name), None) if is_token(name) => Ok(UnitSource::Header(name.to_ascii_lowercase())),
        (None, Some(name)) if is_token(name) => Ok(UnitSource::Cookie(name.clone())),
        _ => Err("spec.analysis.unit: the name of a header or of a cookie, and of one only, says what the unit is".to_owned()),
    }
}

fn better(metric: &RolloutMetric, field: &str) -> Result<Better, String> {
    match metric.better.as_deref() {
        None | Some("Higher") => Ok(Better::Higher),
        Some("Lower") => Ok(Better::Lower),
        Some(other) => Err(format!(
            "{field}.better: '{other}' is none of Higher, Lower"
        )),
    }
}

/// Reads by how much a metric may be worse.
fn read_margin(metric: &RolloutMetric, field: &str, is_share: bool) -> Result<f64, String> {
    let default = is_share.then_some(CONVERSION_MARGIN);
    let margin = metric.margin.or(default).ok_or_else(|| {
        let kind = &metric.metric_type;
        format!("{field}.margin: of a {kind} it must be said by how much it may be worse")
    })?;
    if !(margin > 0.0 && margin.is_finite()) {
        return Err(format!("{field}.margin: {margin} is not above 0"));
    }
    if is_share && margin >= 1.0 {
        return Err(format!(
            "{field}.margin: {margin} is no difference of shares, which is below 1 (0.05 is 5 percent)"
        ));
    }
    Ok(margin)
}

fn read_outcome(
    metric: &RolloutMetric,
    field: &str,
    requests_min: u64,
) -> Result<(PlannedMetric, MetricRule), String> {
    let kind = match metric.metric_type.as_str() {
        "Conversion" => MetricForm::Conversion,
        "Sum" => MetricForm::Sum,
        "Mean" => MetricForm::Mean,
        other => {
            return Err(format!(
                "{field}.type: '{other}' is none of Conversion, Sum, Mean, Prometheus"
            ));
        }
    };
    let of_prometheus = [
        ("address", metric.address.is_some()),
        ("query", metric.query.is_some()),
        ("bound", metric.bound.is_some()),
        ("interval", metric.interval.is_some()),
        ("timeout", metric.timeout.is_some()),
        ("looks", metric.looks.is_some()),
    ];
    if let Some((name, _)) = of_prometheus.iter().find(|(_, is_there)| *is_there) {
        return Err(format!("{field}.{name}: only type Prometheus has one"));
    }
    let is_share = kind == MetricForm::Conversion;
    let margin = read_margin(metric, field, is_share)?;
    let zero_if_missing = match metric.missing.as_deref() {
        None | Some("Exclude") => false,
        Some("Zero") => true,
        Some(other) => {
            return Err(format!(
                "{field}.missing: '{other}' is none of Exclude, Zero"
            ));
        }
    };
    let better = better(metric, field)?;
    let units_min = match metric.units_min {
        None => requests_min.max(UNITS_MIN),
        Some(given) => u64::try_from(given)
            .ok()
            .filter(|given| *given >= 2)
            .ok_or_else(|| format!("{field}.unitsMin: {given} is less than 2"))?,
    };
    let planned = PlannedMetric {
        name: metric.name.clone(),
        kind,
        covariate: None,
        zero_if_missing,
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
fn against(metric: &RolloutMetric, field: &str, names_revision: bool) -> Result<Against, String> {
    match (metric.margin, metric.bound) {
        (Some(margin), None) if !(margin >= 0.0 && margin.is_finite()) => {
            Err(format!("{field}.margin: {margin} is less than 0"))
        }
        (Some(_), None) if !names_revision => Err(format!(
            "{field}.margin: the query is the same for both revisions; {REVISION} must stand for theirs, or `bound` say what is allowed"
        )),
        (Some(margin), None) => Ok(Against::Stable(margin)),
        (None, Some(bound)) if bound.is_finite() => Ok(Against::Bound(bound)),
        _ => Err(format!(
            "{field}: one of margin (by how much it may be worse than the revision that serves) and bound (what it must not be worse than) must be there"
        )),
    }
}

fn read_query(metric: &RolloutMetric, field: &str) -> Result<(QueryRule, Question), String> {
    let of_outcomes = [
        ("unitsMin", metric.units_min.is_some()),
        ("missing", metric.missing.is_some()),
    ];
    if let Some((name, _)) = of_outcomes.iter().find(|(_, is_there)| *is_there) {
        return Err(format!("{field}.{name}: only metrics of outcomes have one"));
    }
    let address = metric.address.as_deref().unwrap_or_default();
    let address = address.trim_end_matches('/');
    let rest = address
        .strip_prefix("http://")
        .or(address.strip_prefix("https://"));
    if rest.is_none_or(|rest| rest.is_empty() || address.contains(['?', '#', ' '])) {
        return Err(format!(
            "{field}.address: '{address}' is no address such as http://prometheus:9090"
        ));
    }
    let query = metric.query.clone().unwrap_or_default();
    if query.trim().is_empty() || query.len() > QUERY_BYTES_MAX {
        return Err(format!(
            "{field}.query: it has {} bytes; 1 to {QUERY_BYTES_MAX} are allowed",
            query.len()
        ));
    }
    let against = against(metric, field, query.contains(REVISION))?;
    let looks = metric.looks.unwrap_or(LOOKS);
    let looks_read = u32::try_from(looks)
        .ok()
        .filter(|_| (1..=LOOKS_MAX).contains(&looks));
    let rule = QueryRule {
        name: metric.name.clone(),
        better: better(metric, field)?,
        against,
        looks: looks_read
            .ok_or_else(|| format!("{field}.looks: {looks} is not between 1 and {LOOKS_MAX}"))?,
    };
    let time = |name: &str, text: Option<&str>, default: Duration| {
        text.map_or(Ok(default), |text| {
            read_time(&format!("{field}.{name}"), text, "5s or 1m")
        })
    };
    let interval = time("interval", metric.interval.as_deref(), INTERVAL)?;
    let timeout = time("timeout", metric.timeout.as_deref(), TIMEOUT)?;
    if interval < INTERVAL_MIN {
        return Err(format!("{field}.interval: it is less than 1s"));
    }
    if timeout.is_zero() || timeout > TIMEOUT_MAX {
        return Err(format!("{field}.timeout: it is not between 1ms and 30s"));
    }
    let question = Question {
        address: address.to_owned(),
        query,
        interval,
        timeout,
        is_compared: matches!(rule.against, Against::Stable(_)),
    };
    Ok((rule, question))
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
            predictions: stage.predictions,
            by_unit,
            slow_ns: stage.slow_ns.filter(|_| by_unit),
        }),
        ..PlannedExperiment::default()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(analysis: Value) -> Result<Metrics, String> {
        read(&serde_json::from_value(analysis).unwrap(), (40, None))
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
            read(&analysis, (40, sticky)).unwrap().unit
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
                "spec.analysis.unit: the name of a header",
            ),
            (
                json!({"unit": {"header": "a", "cookie": "b"}}),
                "of one only",
            ),
            (
                metric(json!({"name": "", "type": "Sum"})),
                "metrics[0].name: it has 0 bytes",
            ),
            (
                json!({"metrics": [same.clone(), same]}),
                "metrics[1].name: 'a' is there twice",
            ),
            (
                metric(json!({"name": "a", "type": "Max"})),
                "'Max' is none of Conversion",
            ),
            (
                metric(json!({"name": "a", "type": "Sum"})),
                "metrics[0].margin: of a Sum",
            ),
            (
                metric(json!({"name": "a", "type": "Sum", "margin": 0})),
                "margin: 0 is not above 0",
            ),
            (
                metric(json!({"name": "a", "type": "Conversion", "margin": 1})),
                "margin: 1 is no difference of shares",
            ),
            (
                metric(json!({"name": "a", "type": "Conversion", "looks": 3})),
                "looks: only type Prometheus",
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
            (query(json!({})), "one of margin"),
            (query(json!({"margin": 1, "bound": 1})), "one of margin"),
            (
                query(json!({"margin": 1, "query": "x"})),
                "the same for both revisions",
            ),
            (
                query(json!({"bound": 1, "address": "ftp://p"})),
                "'ftp://p' is no address",
            ),
            (
                query(json!({"bound": 1, "address": "http://p?x"})),
                "is no address",
            ),
            (
                query(json!({"bound": 1, "query": " "})),
                "query: it has 1 bytes",
            ),
            (
                query(json!({"bound": 1, "looks": 0})),
                "looks: 0 is not between",
            ),
            (
                query(json!({"bound": 1, "interval": "10ms"})),
                "interval: it is less than 1s",
            ),
            (
                query(json!({"bound": 1, "timeout": "1m"})),
                "timeout: it is not between",
            ),
            (
                query(json!({"bound": 1, "missing": "Zero"})),
                "missing: only metrics of outcomes",
            ),
        ] {
            let error = of(analysis.clone()).unwrap_err();
            assert!(error.contains(expected), "{analysis}: {error}");
        }
    }
}
