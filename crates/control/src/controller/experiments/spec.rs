//! An Experiment's spec in the words of the plan.

mod allocation;

use std::time::Duration;

use coracle_api::experiment::{
    ExperimentMetric, ExperimentSlice, ExperimentSpec, ExperimentUnit, ExperimentVariant,
};
use coracle_api::inference_service::is_name;
use coracle_serving::experiment::{
    Allocation, CorrectionForm, MetricForm, MetricRole, PlannedAnalysis, PlannedExperiment,
    PlannedMetric, PlannedSlice, PlannedVariant, UnitSource, VariantTarget,
};

use crate::controller::times::read_time;
use allocation::{allocation, roles_of_bandit, rules_of_bandit};

/// The most variants of an experiment.
const VARIANTS_MAX: usize = 16;
/// The most metrics.
const METRICS_MAX: usize = 32;
/// The most overrides.
const OVERRIDES_MAX: usize = 1_000;
const WEIGHT_MAX: i32 = 1_000_000;
/// Conversions' and errors' differences that matter, unless it is said.
const CONVERSION_EXPECTED: f64 = 0.02;
const ERRORS_EXPECTED: f64 = 0.01;

/// What an experiment goes by.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wanted {
    /// What is to be planned; its name and uid are the object's.
    pub(crate) planned: PlannedExperiment,
    /// Whether a better variant gets all requests by itself.
    pub(crate) promotes: bool,
    /// How long it must have run before.
    pub(crate) after: Duration,
    /// Whether it ends when a guardrail is harmed.
    pub(crate) stops_on_harm: bool,
}

/// Reads the spec of the experiment `namespace/name`.
///
/// # Errors
/// Says which field has which value, and what is allowed.
pub(crate) fn read(
    spec: &ExperimentSpec,
    (namespace, name): (&str, &str),
) -> Result<Wanted, String> {
    if !is_name(&spec.inference_service) {
        return Err(format!(
            "spec.inferenceService: '{}' is no name of an InferenceService",
            spec.inference_service
        ));
    }
    let is_same_model = match spec.mode.as_deref() {
        None | Some("AB") => false,
        Some("AA") => true,
        Some(mode) => return Err(format!("spec.mode: '{mode}' is neither AB nor AA")),
    };
    let variants = variants(spec, is_same_model)?;
    let control = spec.control.as_deref();
    let control = control.map_or(Ok(0), |name| place(&variants, "spec.control", name))?;
    let overrides = spec.overrides.clone().unwrap_or_default();
    if overrides.len() > OVERRIDES_MAX {
        return Err(format!("spec.overrides: more than {OVERRIDES_MAX}"));
    }
    for (unit, variant) in &overrides {
        place(&variants, &format!("spec.overrides.{unit}"), variant)?;
    }
    let (allocation, features) = allocation(spec.allocation.as_ref())?;
    let mut metrics = metrics(spec.metrics.as_deref().unwrap_or_default())?;
    let promotion = spec.promotion.clone().unwrap_or_default();
    let wanted = (promotion.when.as_deref(), promotion.on_harm.as_deref());
    let promotes = one_of("spec.promotion.when", wanted.0, ["Never", "Better"])? == 1;
    let stops_on_harm = one_of("spec.promotion.onHarm", wanted.1, ["Wait", "Stop"])? == 1;
    if allocation != Allocation::Fixed {
        is_reward(metrics.first())?;
        roles_of_bandit(spec, &mut metrics)?;
        rules_of_bandit(promotes, stops_on_harm)?;
    }
    Ok(Wanted {
        promotes,
        stops_on_harm,
        after: time(promotion.after.as_deref())?,
        planned: PlannedExperiment {
            name: name.to_owned(),
            uid: String::new(),
            salt: salt(spec.salt.as_deref(), (namespace, name)),
            unit: source("spec.unit", &spec.unit)?,
            variants,
            control,
            share_ppm: percent("spec.percent", spec.percent.unwrap_or(100.0))?,
            slice: spec
                .exclusion_group
                .as_ref()
                .map(|slice| self::slice(slice, namespace))
                .transpose()?,
            overrides,
            allocation,
            features,
            winner: None,
            stage: None,
            metrics,
            analysis: analysis(spec)?,
        },
    })
}

/// Checks that a bandit can be rewarded by its first metric.
fn is_reward(metric: Option<&PlannedMetric>) -> Result<(), String> {
    let rewards = |metric: &&PlannedMetric| {
        matches!(
            metric.kind,
            MetricForm::Conversion | MetricForm::Sum | MetricForm::Mean
        )
    };
    let Some(metric) = metric.filter(rewards) else {
        return Err("spec.metrics: a bandit is rewarded by the first metric, a Conversion, Sum or Mean, which outcomes tell; there is none".to_owned());
    };
    match metric.zero_if_missing {
        true => Err("spec.metrics[0].missing: a bandit cannot tell when an outcome that is missing is to count as 0; tell outcomes of 0".to_owned()),
        false => Ok(()),
    }
}

/// Returns what the hashes of units are salted with, and a book is kept by.
pub(super) fn salt(salt: Option<&str>, (namespace, name): (&str, &str)) -> String {
    salt.map_or_else(|| format!("{namespace}/{name}"), str::to_owned)
}

/// Returns the place of the variant that `field` names.
fn place(variants: &[PlannedVariant], field: &str, name: &str) -> Result<usize, String> {
    let mut known = variants.iter();
    let place = known.position(|variant| variant.name == name);
    place.ok_or_else(|| {
        let names: Vec<&str> = variants.iter().map(|known| known.name.as_str()).collect();
        let names = names.join(", ");
        format!("{field}: there is no variant '{name}', only {names}")
    })
}

/// Returns the place of a word among those that are allowed; the first is the default.
fn one_of<const N: usize>(
    field: &str,
    given: Option<&str>,
    allowed: [&str; N],
) -> Result<usize, String> {
    let Some(given) = given else { return Ok(0) };
    let place = allowed.iter().position(|word| *word == given);
    place.ok_or_else(|| format!("{field}: '{given}' is none of {}", allowed.join(", ")))
}

fn time(text: Option<&str>) -> Result<Duration, String> {
    text.map_or(Ok(Duration::ZERO), |text| {
        read_time("spec.promotion.after", text, "12h or 7d")
    })
}

/// Returns percents in millionths.
fn percent(field: &str, percent: f64) -> Result<u32, String> {
    if !(0.0..=100.0).contains(&percent) {
        return Err(format!("{field}: {percent} is not between 0 and 100"));
    }
    // A whole number within a million.
    Ok((percent * 10_000.0).round() as u32)
}

fn slice(slice: &ExperimentSlice, namespace: &str) -> Result<PlannedSlice, String> {
    let field = "spec.exclusionGroup";
    if slice.name.is_empty() {
        return Err(format!("{field}.name: it is empty"));
    }
    let begin_ppm = percent(&format!("{field}.fromPercent"), slice.from_percent)?;
    let end_ppm = percent(&format!("{field}.toPercent"), slice.to_percent)?;
    if begin_ppm >= end_ppm {
        return Err(format!(
            "{field}: from {} to {} percent is no part of the units",
            slice.from_percent, slice.to_percent
        ));
    }
    Ok(PlannedSlice {
        group: format!("{namespace}/{}", slice.name),
        begin_ppm,
        end_ppm,
    })
}

/// Returns where of a request something is that the field `place` says.
fn source(place: &str, unit: &ExperimentUnit) -> Result<UnitSource, String> {
    let given: Vec<UnitSource> = [
        unit.header
            .as_ref()
            .map(|name| UnitSource::Header(name.to_ascii_lowercase())),
        unit.cookie.clone().map(UnitSource::Cookie),
        unit.field.clone().map(UnitSource::Field),
        unit.parameter.clone().map(UnitSource::Parameter),
        unit.input.clone().map(UnitSource::Input),
    ]
    .into_iter()
    .flatten()
    .collect();
    let [source] = given.as_slice() else {
        return Err(format!(
            "{place}: {} of header, cookie, field, parameter and input are there; exactly one says what it is",
            given.len()
        ));
    };
    let is_token = |text: &str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
    };
    let is_good = match source {
        UnitSource::Header(name) | UnitSource::Cookie(name) => is_token(name),
        UnitSource::Field(path) => path.split('.').all(|field| !field.is_empty()),
        UnitSource::Parameter(name) => !name.is_empty() && !name.contains('.'),
        UnitSource::Input(name) => !name.is_empty(),
        UnitSource::Request => true,
    };
    match is_good {
        true => Ok(source.clone()),
        false => Err(match source {
            UnitSource::Header(name) => {
                format!("{place}.header: '{name}' is no name of a header")
            }
            UnitSource::Cookie(name) => {
                format!("{place}.cookie: '{name}' is no name of a cookie")
            }
            UnitSource::Field(path) => {
                format!("{place}.field: '{path}' is no path of fields such as user.id")
            }
            UnitSource::Parameter(name) => {
                format!("{place}.parameter: '{name}' is no name of a parameter")
            }
            UnitSource::Input(name) => format!("{place}.input: '{name}' is no name of an input"),
            UnitSource::Request => format!("{place}: it is no single request"),
        }),
    }
}

fn variants(spec: &ExperimentSpec, is_same_model: bool) -> Result<Vec<PlannedVariant>, String> {
    let n_variants = spec.variants.len();
    if !(2..=VARIANTS_MAX).contains(&n_variants) {
        return Err(format!(
            "spec.variants: there are {n_variants}; 2 to {VARIANTS_MAX} are allowed"
        ));
    }
    let mut variants: Vec<PlannedVariant> = Vec::new();
    for (index, variant) in spec.variants.iter().enumerate() {
        let field = format!("spec.variants[{index}]");
        let planned = read_variant(spec, variant, &field)?;
        if let Some(other) = variants.iter().find(|other| other.name == planned.name) {
            return Err(format!("{field}.name: '{}' is there twice", other.name));
        }
        let same = variants.iter().find(|other| other.target == planned.target);
        if let (Some(other), false) = (same, is_same_model) {
            return Err(format!(
                "{field}: it is answered by the same model as '{}'; name another revision or inferenceService, or say spec.mode: AA",
                other.name
            ));
        }
        variants.push(planned);
    }
    if variants.iter().all(|variant| variant.weight == 0) {
        return Err("spec.variants: none has a weight above 0".to_owned());
    }
    if is_same_model {
        for variant in &mut variants {
            variant.target = VariantTarget::Own;
        }
    }
    Ok(variants)
}

fn read_variant(
    spec: &ExperimentSpec,
    variant: &ExperimentVariant,
    field: &str,
) -> Result<PlannedVariant, String> {
    let is_label = |text: &str| {
        (1..=63).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    if !is_label(&variant.name) {
        return Err(format!(
            "{field}.name: '{}' is no name: 1 to 63 letters, digits, '-', '_' and '.'",
            variant.name
        ));
    }
    let weight = variant.weight.unwrap_or(1);
    let weight = u32::try_from(weight).ok().filter(|_| weight <= WEIGHT_MAX);
    let weight = weight.ok_or_else(|| {
        let given = variant.weight.unwrap_or(1);
        format!("{field}.weight: {given} is not between 0 and {WEIGHT_MAX}")
    })?;
    let target = match (&variant.revision, &variant.inference_service) {
        (Some(_), Some(_)) => {
            return Err(format!(
                "{field}: there are both revision and inferenceService; one says who answers"
            ));
        }
        (Some(revision), None) => {
            let prefix = format!("{}-predictor-", spec.inference_service);
            if !revision.starts_with(&prefix) {
                return Err(format!(
                    "{field}.revision: '{revision}' is no revision of {}; they are named {prefix}00001 and so on",
                    spec.inference_service
                ));
            }
            VariantTarget::Revision(revision.clone())
        }
        (None, Some(service)) if *service == spec.inference_service => VariantTarget::Own,
        (None, Some(service)) if !is_name(service) => {
            return Err(format!(
                "{field}.inferenceService: '{service}' is no name of an InferenceService"
            ));
        }
        (None, Some(service)) => VariantTarget::Service(service.clone()),
        (None, None) => VariantTarget::Own,
    };
    Ok(PlannedVariant {
        name: variant.name.clone(),
        weight,
        target,
    })
}

fn metrics(metrics: &[ExperimentMetric]) -> Result<Vec<PlannedMetric>, String> {
    if metrics.len() > METRICS_MAX {
        return Err(format!("spec.metrics: more than {METRICS_MAX}"));
    }
    let mut planned: Vec<PlannedMetric> = Vec::new();
    for (index, metric) in metrics.iter().enumerate() {
        let field = format!("spec.metrics[{index}]");
        let metric = read_metric(metric, &field, index == 0)?;
        if planned.iter().any(|other| other.name == metric.name) {
            return Err(format!("{field}.name: '{}' is there twice", metric.name));
        }
        planned.push(metric);
    }
    Ok(planned)
}

/// Returns the difference that matters, and the one that a guardrail lets pass.
fn differences(
    metric: &ExperimentMetric,
    kind: &MetricForm,
    field: &str,
) -> Result<(f64, f64), String> {
    let default = match kind {
        MetricForm::Conversion => Some(CONVERSION_EXPECTED),
        MetricForm::Errors => Some(ERRORS_EXPECTED),
        _ => None,
    };
    let expected = metric.expected_difference.or(default).ok_or_else(|| {
        format!(
            "{field}.expectedDifference: of a {} it must be said which difference matters",
            metric.metric_type
        )
    })?;
    let margin = metric.margin.unwrap_or(expected);
    for (name, number) in [("expectedDifference", expected), ("margin", margin)] {
        let is_good = number.is_finite() && (number > 0.0 || name == "margin" && number == 0.0);
        if !is_good {
            return Err(format!("{field}.{name}: {number} is not above 0"));
        }
        if matches!(metric.metric_type.as_str(), "Conversion" | "Errors") && number >= 1.0 {
            return Err(format!(
                "{field}.{name}: {number} is no difference of shares, which is below 1 (0.05 is 5 percent)"
            ));
        }
    }
    Ok((expected, margin))
}

/// Returns how long outcomes of a metric count, in ms.
fn window(metric: &ExperimentMetric, field: &str, has_none: bool) -> Result<Option<u64>, String> {
    let Some(text) = &metric.window else {
        return Ok(None);
    };
    if has_none {
        return Err(format!(
            "{field}.window: only a Conversion, Sum or Mean has one"
        ));
    }
    let window = read_time(&format!("{field}.window"), text, "1h or 7d")?;
    match u64::try_from(window.as_millis()) {
        Ok(0) | Err(_) => Err(format!("{field}.window: '{text}' is not above 0")),
        Ok(window) => Ok(Some(window)),
    }
}

fn read_metric(
    metric: &ExperimentMetric,
    field: &str,
    is_first: bool,
) -> Result<PlannedMetric, String> {
    if metric.name.is_empty() || metric.name.len() > 128 {
        return Err(format!(
            "{field}.name: it has {} bytes; 1 to 128 are allowed",
            metric.name.len()
        ));
    }
    let words = ["Conversion", "Sum", "Mean", "Ratio", "Errors", "Latency"];
    let kind = match one_of(&format!("{field}.type"), Some(&metric.metric_type), words)? {
        0 => MetricForm::Conversion,
        1 => MetricForm::Sum,
        2 => MetricForm::Mean,
        3 => MetricForm::Ratio(metric.denominator.clone()),
        4 => MetricForm::Errors,
        _ => MetricForm::Latency,
    };
    let is_measured = matches!(kind, MetricForm::Errors | MetricForm::Latency);
    let is_ratio = matches!(kind, MetricForm::Ratio(_));
    if metric.denominator.is_some() && !is_ratio {
        return Err(format!("{field}.denominator: only a Ratio has one"));
    }
    if metric.covariate.is_some() && (is_measured || is_ratio) {
        return Err(format!(
            "{field}.covariate: only a Conversion, Sum or Mean is adjusted for one"
        ));
    }
    let window_ms = window(metric, field, is_measured || is_ratio)?;
    let better = one_of(
        &format!("{field}.better"),
        metric.better.as_deref(),
        ["Higher", "Lower"],
    )?;
    let default = match (is_measured, is_first) {
        (true, _) => "Guardrail",
        (false, true) => "Primary",
        (false, false) => "Secondary",
    };
    let role = metric.role.as_deref().unwrap_or(default);
    let words = ["Primary", "Secondary", "Guardrail"];
    let role = match one_of(&format!("{field}.role"), Some(role), words)? {
        0 => MetricRole::Primary,
        1 => MetricRole::Secondary,
        _ => MetricRole::Guardrail,
    };
    let (expected, margin) = differences(metric, &kind, field)?;
    Ok(PlannedMetric {
        name: metric.name.clone(),
        kind,
        covariate: metric.covariate.clone(),
        zero_if_missing: one_of(
            &format!("{field}.missing"),
            metric.missing.as_deref(),
            ["Exclude", "Zero"],
        )? == 1,
        is_lower_better: better == 1 || metric.better.is_none() && is_measured,
        role,
        expected,
        margin,
        window_ms,
    })
}

fn analysis(spec: &ExperimentSpec) -> Result<PlannedAnalysis, String> {
    let given = spec.analysis.clone().unwrap_or_default();
    let default = PlannedAnalysis::default();
    let alpha = given.alpha.unwrap_or(default.alpha);
    if !(alpha > 0.0 && alpha < 1.0) {
        return Err(format!(
            "spec.analysis.alpha: {alpha} is not between 0 and 1"
        ));
    }
    let words = ["BenjaminiHochberg", "Bonferroni", "None"];
    let correction = one_of(
        "spec.analysis.correction",
        given.correction.as_deref(),
        words,
    )?;
    let units_min = given.units_min.map_or(Ok(default.units_min), |units| {
        u64::try_from(units)
            .map_err(|_negative| format!("spec.analysis.unitsMin: {units} is less than 0"))
    })?;
    Ok(PlannedAnalysis {
        alpha,
        units_min,
        correction: match correction {
            0 => CorrectionForm::BenjaminiHochberg,
            1 => CorrectionForm::Bonferroni,
            _ => CorrectionForm::None,
        },
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(change: &[(&str, Value)]) -> Result<Wanted, String> {
        let mut spec = json!({
            "inferenceService": "iris",
            "unit": {"header": "X-User"},
            "variants": [
                {"name": "a", "revision": "iris-predictor-00001"},
                {"name": "b", "inferenceService": "next", "weight": 3}
            ],
            "metrics": [{"name": "converted", "type": "Conversion"}, {"name": "errors", "type": "Errors"}]
        });
        for (pointer, value) in change {
            match spec.pointer_mut(pointer) {
                Some(place) => *place = value.clone(),
                None => spec[pointer.trim_start_matches('/')] = value.clone(),
            }
        }
        read(&serde_json::from_value(spec).unwrap(), ("ml", "ab"))
    }

    #[test]
    fn defaults_are_as_the_schema_says() {
        let wanted = of(&[]).unwrap();
        let planned = &wanted.planned;
        assert_eq!(planned.salt, "ml/ab");
        assert_eq!(planned.unit, UnitSource::Header("x-user".to_owned()));
        assert_eq!((planned.control, planned.share_ppm), (0, 1_000_000));
        assert_eq!(
            (planned.variants[0].weight, planned.variants[1].weight),
            (1, 3)
        );
        let target = VariantTarget::Service("next".to_owned());
        assert_eq!(planned.variants[1].target, target);
        let [converted, errors] = planned.metrics.as_slice() else {
            panic!("two metrics");
        };
        assert_eq!(
            (converted.role, converted.is_lower_better),
            (MetricRole::Primary, false)
        );
        assert_eq!(
            (errors.role, errors.is_lower_better),
            (MetricRole::Guardrail, true)
        );
        assert!((errors.margin - 0.01).abs() < 1e-12);
        assert!(!wanted.promotes && !wanted.stops_on_harm);
        let group = json!({"name": "g", "fromPercent": 12.5, "toPercent": 50});
        let slice = of(&[("/exclusionGroup", group)])
            .unwrap()
            .planned
            .slice
            .unwrap();
        assert_eq!(slice.group, "ml/g");
        assert_eq!((slice.begin_ppm, slice.end_ppm), (125_000, 500_000));
    }

    fn refused(cases: &[(&str, Value, &str)]) {
        for (pointer, value, expected) in cases {
            let error = of(&[(pointer, value.clone())]).unwrap_err();
            assert!(error.contains(expected), "{pointer}: {error}");
        }
    }

    #[test]
    fn services_units_and_targets_that_make_no_sense_are_refused() {
        refused(&[
            (
                "/inferenceService",
                json!("No!"),
                "spec.inferenceService: 'No!'",
            ),
            ("/unit", json!({}), "spec.unit: 0 of header"),
            (
                "/unit",
                json!({"header": "a", "cookie": "b"}),
                "spec.unit: 2 of header",
            ),
            (
                "/unit",
                json!({"header": "a b"}),
                "spec.unit.header: 'a b' is no name of a header",
            ),
            ("/unit", json!({"field": "a..b"}), "no path of fields"),
            (
                "/unit",
                json!({"input": ""}),
                "spec.unit.input: '' is no name of an input",
            ),
            ("/variants", json!([{"name": "a"}]), "there are 1; 2 to 16"),
            (
                "/variants",
                json!([{"name": "a"}, {"name": "b"}]),
                "spec.variants[1]: it is answered by the same model as 'a'",
            ),
            (
                "/variants",
                json!([{"name": "a"}, {"name": "a", "inferenceService": "c"}]),
                "'a' is there twice",
            ),
            (
                "/variants",
                json!([{"name": "a"}, {"name": "b", "revision": "other-predictor-00001"}]),
                "no revision of iris",
            ),
        ]);
    }

    #[test]
    fn shares_and_names_of_variants_that_make_no_sense_are_refused() {
        let variant = |field: &str, value: Value| json!([{"name": "a"}, {"name": "b", field: value, "revision": "iris-predictor-00002"}]);
        refused(&[
            (
                "/variants",
                variant("weight", json!(-1)),
                "-1 is not between 0 and 1000000",
            ),
            (
                "/variants",
                variant("inferenceService", json!("x")),
                "both revision and inferenceService",
            ),
            (
                "/variants",
                json!([{"name": "a", "weight": 0}, {"name": "b", "weight": 0, "inferenceService": "c"}]),
                "none has a weight above 0",
            ),
            (
                "/control",
                json!("c"),
                "spec.control: there is no variant 'c', only a, b",
            ),
            (
                "/overrides",
                json!({"u": "c"}),
                "spec.overrides.u: there is no variant",
            ),
            ("/mode", json!("AX"), "neither AB nor AA"),
            (
                "/percent",
                json!(101),
                "spec.percent: 101 is not between 0 and 100",
            ),
        ]);
    }

    #[test]
    fn allocations_metrics_and_rules_that_make_no_sense_are_refused() {
        refused(&[
            (
                "/exclusionGroup",
                json!({"name": "g", "fromPercent": 50, "toPercent": 50}),
                "no part of the units",
            ),
            (
                "/allocation",
                json!({"strategy": "Best"}),
                "'Best' is none of Fixed, EpsilonGreedy",
            ),
            (
                "/allocation",
                json!({"strategy": "EpsilonGreedy", "epsilon": 2}),
                "2 is not between 0 and 1",
            ),
            (
                "/metrics/0/type",
                json!("Odd"),
                "spec.metrics[0].type: 'Odd' is none of",
            ),
            (
                "/metrics/0/type",
                json!("Sum"),
                "spec.metrics[0].expectedDifference: of a Sum",
            ),
            (
                "/metrics/1/name",
                json!("converted"),
                "spec.metrics[1].name: 'converted' is there twice",
            ),
            (
                "/metrics",
                json!([{"name": "x", "type": "Errors", "covariate": "y"}]),
                "only a Conversion, Sum or Mean",
            ),
            (
                "/metrics",
                json!([{"name": "x", "type": "Conversion", "margin": -1}]),
                "margin: -1 is not above 0",
            ),
            (
                "/metrics",
                json!([{"name": "x", "type": "Conversion", "margin": 5}]),
                "margin: 5 is no difference of shares",
            ),
            (
                "/analysis",
                json!({"alpha": 1}),
                "spec.analysis.alpha: 1 is not",
            ),
            (
                "/analysis",
                json!({"correction": "All"}),
                "'All' is none of BenjaminiHochberg",
            ),
            (
                "/promotion",
                json!({"when": "Soon"}),
                "'Soon' is none of Never, Better",
            ),
            ("/promotion", json!({"after": "soon"}), "'soon' is no time"),
            (
                "/promotion",
                json!({"after": "500000000000years"}),
                "spec.promotion.after: '500000000000years' is longer than 365 days",
            ),
        ]);
    }

    #[test]
    fn rewards_of_a_bandit_that_make_no_sense_are_refused() {
        let bandit = ("/allocation", json!({"strategy": "Thompson"}));
        let errors = ("/metrics", json!([{"name": "e", "type": "Errors"}]));
        let ratio =
            json!([{"name": "r", "type": "Ratio", "denominator": "n", "expectedDifference": 1}]);
        for metrics in [errors, ("/metrics", ratio)] {
            let refusal = of(&[bandit.clone(), metrics]).unwrap_err();
            assert!(refusal.contains("a bandit is rewarded by"), "{refusal}");
        }
        let zero = json!([{"name": "c", "type": "Conversion", "missing": "Zero"}]);
        let refusal = of(&[bandit, ("/metrics", zero)]).unwrap_err();
        assert!(refusal.contains("spec.metrics[0].missing: a bandit cannot tell"));
    }

    #[test]
    fn windows_that_make_no_sense_are_refused() {
        refused(&[
            (
                "/metrics",
                json!([{"name": "x", "type": "Conversion", "window": "0s"}]),
                "spec.metrics[0].window: '0s' is not above 0",
            ),
            (
                "/metrics",
                json!([{"name": "x", "type": "Conversion", "window": "soon"}]),
                "spec.metrics[0].window: 'soon' is no time",
            ),
            (
                "/metrics",
                json!([{"name": "x", "type": "Errors", "window": "1h"}]),
                "spec.metrics[0].window: only a Conversion, Sum or Mean has one",
            ),
        ]);
    }

    #[test]
    fn what_a_bandit_does_not_heed_is_refused() {
        let bandit = || ("/allocation", json!({"strategy": "Thompson"}));
        for (pointer, value, expected) in [
            (
                "/metrics/1",
                json!({"name": "errors", "type": "Errors", "role": "Guardrail"}),
                "spec.metrics[1].role: a bandit has no Guardrail, since its variants are not compared; Primary and Secondary are allowed",
            ),
            (
                "/metrics/0",
                json!({"name": "converted", "type": "Conversion", "role": "Guardrail"}),
                "spec.metrics[0].role: a bandit has no Guardrail",
            ),
            (
                "/promotion",
                json!({"onHarm": "Stop"}),
                "spec.promotion.onHarm: a bandit has no guardrails; only Wait is allowed",
            ),
            (
                "/promotion",
                json!({"when": "Better"}),
                "spec.promotion.when: a bandit's variants are not compared, and it asks the better one more by itself; only Never is allowed",
            ),
        ] {
            assert!(of(&[(pointer, value.clone())]).is_ok(), "{pointer}");
            let error = of(&[bandit(), (pointer, value)]).unwrap_err();
            assert!(error.contains(expected), "{pointer}: {error}");
        }
        let promotion = json!({"when": "Never", "onHarm": "Wait"});
        let wanted = of(&[bandit(), ("/promotion", promotion)]).unwrap();
        // Errors are looked at, unless it is said otherwise.
        assert_eq!(wanted.planned.metrics[1].role, MetricRole::Secondary);
    }

    #[test]
    fn features_that_make_no_sense_are_refused() {
        refused(&[
            (
                "/allocation",
                json!({"strategy": "LinUCB"}),
                "spec.allocation.features: LinUCB chooses by 1 to 16 of them, and 0 are there",
            ),
            (
                "/allocation",
                json!({"strategy": "LinUCB", "features": [{"name": "age"}]}),
                "spec.allocation.features[0]: 0 of header",
            ),
            (
                "/allocation",
                json!({"strategy": "LinUCB", "features": [{"name": "a", "header": "x-a"}, {"name": "a", "field": "a"}]}),
                "spec.allocation.features[1].name: 'a' is there twice",
            ),
            (
                "/allocation",
                json!({"strategy": "LinUCB", "features": [{"name": "constant", "header": "x-a"}]}),
                "spec.allocation.features[0].name: 'constant' is none",
            ),
            (
                "/allocation",
                json!({"strategy": "LinUCB", "alpha": -1, "features": [{"name": "a", "header": "x-a"}]}),
                "spec.allocation.alpha: -1 is not between 0 and 100",
            ),
            (
                "/allocation",
                json!({"strategy": "Thompson", "features": [{"name": "a", "header": "x-a"}]}),
                "spec.allocation.features: only LinUCB chooses by features",
            ),
        ]);
    }

    #[test]
    fn features_are_planned_in_their_order() {
        let features =
            json!([{"name": "age", "field": "user.age"}, {"name": "hour", "header": "X-Hour"}]);
        let allocation = json!({"strategy": "LinUCB", "floor": 0.1, "features": features});
        let planned = of(&[("/allocation", allocation)]).unwrap().planned;
        assert_eq!(planned.linear(), Some((1.0, 0.1)));
        let expected = [
            ("age", UnitSource::Field("user.age".to_owned())),
            ("hour", UnitSource::Header("x-hour".to_owned())),
        ];
        let found = planned.features.into_iter();
        let found: Vec<_> = found.map(|one| (one.name, one.source)).collect();
        assert_eq!(
            found,
            expected.map(|(name, source)| (name.to_owned(), source))
        );
    }

    #[test]
    fn in_an_aa_test_the_service_answers_for_all() {
        let variants = ("/variants", json!([{"name": "a"}, {"name": "b"}]));
        let wanted = of(&[("/mode", json!("AA")), variants]).unwrap();
        let mut variants = wanted.planned.variants.iter();
        assert!(variants.all(|variant| variant.target == VariantTarget::Own));
    }
}
