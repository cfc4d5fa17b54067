//! An Experiment's spec in the words of the plan.

mod allocation;

use std::collections::BTreeMap;
use std::time::Duration;

use coracle_api::experiment::{
    ExperimentMetric, ExperimentSlice, ExperimentSpec, ExperimentUnit, ExperimentVariant,
};
use coracle_api::structural::Cause;
use coracle_serving::experiment::{
    Allocation, CorrectionForm, MetricForm, MetricRole, PlannedAnalysis, PlannedExperiment,
    PlannedMetric, PlannedSlice, PlannedVariant, UnitSource, VariantTarget,
};
use serde_json::{Value, json};

use crate::controller::faults::{
    Faults, MAGNITUDE_MAX, NAME_BYTES_MAX, name_length, number, one_of, service_name, shown_name,
    token,
};
use crate::controller::times::read_time;
use allocation::{allocation, roles_of_bandit, rules_of_bandit};

/// The most variants of an experiment.
const VARIANTS_MAX: usize = 16;
/// The most metrics.
const METRICS_MAX: usize = 32;
const METRIC_NAME_BYTES_MAX: usize = 128;
/// The longest name of a variant or a feature.
const LABEL_BYTES_MAX: usize = 63;
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
/// Says which fields have which values, and what is allowed.
pub(crate) fn read(
    spec: &ExperimentSpec,
    (namespace, name): (&str, &str),
) -> Result<Wanted, Vec<Cause>> {
    let mut faults = Faults::default();
    let service = service_name("spec.inferenceService", &spec.inference_service);
    faults.keep(service);
    let mode = faults.keep(one_of("spec.mode", spec.mode.as_deref(), ["AB", "AA"]));
    let variants = variants(spec, mode == Some(1), &mut faults);
    let (control, overrides) = (control(spec), overrides(spec));
    let (control, overrides) = (faults.keep(control), faults.keep_all(overrides.into_iter()));
    let unit = faults.keep(source("spec.unit", &spec.unit));
    let salt = faults.keep(read_salt(spec.salt.as_deref(), (namespace, name)));
    let share_ppm = faults.keep(percent("spec.percent", spec.percent.unwrap_or(100.0)));
    let slice = spec.exclusion_group.as_ref();
    let slice = slice.map(|slice| self::slice(slice, namespace));
    let slice = faults.keep(slice.transpose());
    let allocation = faults.keep(allocation(spec.allocation.as_ref()));
    let mut metrics = metrics(spec.metrics.as_deref().unwrap_or_default(), &mut faults);
    let promotion = promotion(spec, &mut faults);
    let is_bandit = |(allocation, _): &(Allocation, _)| *allocation != Allocation::Fixed;
    if let (true, Some(metrics)) = (allocation.as_ref().is_some_and(is_bandit), &mut metrics) {
        faults.keep(is_reward(metrics.first()));
        roles_of_bandit(spec, metrics, &mut faults);
        let rules = promotion.map(|(promotes, _, stops_on_harm)| (promotes, stops_on_harm));
        rules_of_bandit(rules.unwrap_or_default(), &mut faults);
    }
    let analysis = analysis(spec, &mut faults);
    let whole = || {
        let (promotes, after, stops_on_harm) = promotion?;
        let (allocation, features) = allocation?;
        Some(Wanted {
            promotes,
            stops_on_harm,
            after,
            planned: PlannedExperiment {
                name: name.to_owned(),
                uid: String::new(),
                salt: salt?,
                unit: unit?,
                variants: variants?,
                control: control?,
                share_ppm: share_ppm?,
                slice: slice?,
                overrides: overrides.into_iter().collect(),
                allocation,
                features,
                winner: None,
                stage: None,
                metrics: metrics?,
                analysis: analysis?,
            },
        })
    };
    let whole = whole();
    faults.finish(whole)
}

/// Returns the place of the control.
fn control(spec: &ExperimentSpec) -> Result<usize, Cause> {
    let control = spec.control.as_deref();
    control.map_or(Ok(0), |name| place(spec, "spec.control", name))
}

/// Returns the variants that are set by hand, by unit.
fn overrides(spec: &ExperimentSpec) -> Vec<Result<(String, String), Cause>> {
    let field = "spec.overrides";
    let given = spec.overrides.iter().flatten();
    let n_given = spec.overrides.as_ref().map_or(0, BTreeMap::len);
    if n_given > OVERRIDES_MAX {
        return vec![Err(Cause::too_many(field, n_given, OVERRIDES_MAX))];
    }
    let read = given.map(|(unit, variant)| {
        place(spec, &format!("{field}.{unit}"), variant)?;
        Ok((unit.clone(), variant.clone()))
    });
    read.collect()
}

/// Checks that a bandit can be rewarded by its first metric.
fn is_reward(metric: Option<&PlannedMetric>) -> Result<(), Cause> {
    let rewards = |metric: &&PlannedMetric| {
        matches!(
            metric.kind,
            MetricForm::Conversion | MetricForm::Sum | MetricForm::Mean
        )
    };
    let Some(metric) = metric.filter(rewards) else {
        let why = "a bandit is rewarded by the first metric, a Conversion, Sum or Mean, which outcomes tell; there is none";
        return Err(Cause::required("spec.metrics", why));
    };
    match metric.zero_if_missing {
        true => Err(Cause::forbidden(
            "spec.metrics[0].missing",
            "a bandit cannot tell when an outcome that is missing is to count as 0; tell outcomes of 0",
        )),
        false => Ok(()),
    }
}

/// Returns what the hashes of units are salted with, and a book is kept by.
pub(super) fn salt(salt: Option<&str>, (namespace, name): (&str, &str)) -> String {
    salt.map_or_else(|| format!("{namespace}/{name}"), str::to_owned)
}

fn read_salt(given: Option<&str>, about: (&str, &str)) -> Result<String, Cause> {
    let checked = given.map(|given| name_length("spec.salt", given, NAME_BYTES_MAX));
    checked.transpose()?;
    Ok(salt(given, about))
}

/// Returns the place of the variant that `field` names.
fn place(spec: &ExperimentSpec, field: &str, name: &str) -> Result<usize, Cause> {
    let mut known = spec.variants.iter();
    let place = known.position(|variant| variant.name == name);
    place.ok_or_else(|| {
        let known = spec.variants.iter();
        let known: Vec<Value> = known.map(|known| json!(known.name)).collect();
        Cause::not_supported(field, &json!(name), &known)
    })
}

/// Returns whether a variant that is better gets all requests, after which time, and whether the control gets them when a guardrail is harmed.
fn promotion(spec: &ExperimentSpec, faults: &mut Faults) -> Option<(bool, Duration, bool)> {
    let given = spec.promotion.clone().unwrap_or_default();
    let field = |name: &str| format!("spec.promotion.{name}");
    let when = one_of(&field("when"), given.when.as_deref(), ["Never", "Better"]);
    let after = given.after.as_deref();
    let after = after.map_or(Ok(Duration::ZERO), |text| {
        read_time(&field("after"), text, "12h or 7d")
    });
    let on_harm = one_of(&field("onHarm"), given.on_harm.as_deref(), ["Wait", "Stop"]);
    let (when, after) = (faults.keep(when), faults.keep(after));
    let on_harm = faults.keep(on_harm);
    Some((when? == 1, after?, on_harm? == 1))
}

/// Returns percents in millionths.
fn percent(field: &str, percent: f64) -> Result<u32, Cause> {
    let is_good = (0.0..=100.0).contains(&percent);
    let percent = number(field, percent, (is_good, "between 0 and 100"))?;
    // A whole number within a million.
    Ok((percent * 10_000.0).round() as u32)
}

fn slice(slice: &ExperimentSlice, namespace: &str) -> Result<PlannedSlice, Cause> {
    let field = "spec.exclusionGroup";
    shown_name(&format!("{field}.name"), &slice.name, NAME_BYTES_MAX)?;
    let begin_ppm = percent(&format!("{field}.fromPercent"), slice.from_percent)?;
    let to_percent = format!("{field}.toPercent");
    let end_ppm = percent(&to_percent, slice.to_percent)?;
    if begin_ppm >= end_ppm {
        let why = format!("must be above fromPercent, {}", slice.from_percent);
        return Err(Cause::invalid(&to_percent, &json!(slice.to_percent), &why));
    }
    Ok(PlannedSlice {
        group: format!("{namespace}/{}", slice.name),
        begin_ppm,
        end_ppm,
    })
}

/// Returns where of a request something is that the field `place` says.
fn source(place: &str, unit: &ExperimentUnit) -> Result<UnitSource, Cause> {
    let given = [
        ("header", &unit.header),
        ("cookie", &unit.cookie),
        ("field", &unit.field),
        ("parameter", &unit.parameter),
        ("input", &unit.input),
    ];
    let mut there = given
        .into_iter()
        .filter_map(|(kind, text)| Some((kind, text.clone()?)));
    let (Some((kind, text)), None) = (there.next(), there.next()) else {
        let why = "must have one of header, cookie, field, parameter and input, and one only";
        return Err(Cause::invalid(place, &json!(unit), why));
    };
    let field = format!("{place}.{kind}");
    shown_name(&field, &text, NAME_BYTES_MAX)?;
    let invalid = |why: &str| Err(Cause::invalid(&field, &json!(text), why));
    Ok(match kind {
        "header" => {
            token(&field, &text)?;
            UnitSource::Header(text.to_ascii_lowercase())
        }
        "cookie" => {
            token(&field, &text)?;
            UnitSource::Cookie(text)
        }
        "field" if text.split('.').any(str::is_empty) => {
            return invalid("must be a path of fields such as user.id");
        }
        "field" => UnitSource::Field(text),
        "parameter" if text.contains('.') => return invalid("must have no '.'"),
        "parameter" => UnitSource::Parameter(text),
        _ => UnitSource::Input(text),
    })
}

fn variants(
    spec: &ExperimentSpec,
    is_same_model: bool,
    faults: &mut Faults,
) -> Option<Vec<PlannedVariant>> {
    let n_variants = spec.variants.len();
    let field = "spec.variants";
    if n_variants > VARIANTS_MAX {
        return faults.keep(Err(Cause::too_many(field, n_variants, VARIANTS_MAX)));
    }
    if n_variants < 2 {
        let given: Vec<&str> = spec.variants.iter().map(|one| one.name.as_str()).collect();
        let why = format!("must be 2 to {VARIANTS_MAX} variants");
        return faults.keep(Err(Cause::invalid(field, &json!(given), &why)));
    }
    let mut variants: Vec<PlannedVariant> = Vec::new();
    for (index, variant) in spec.variants.iter().enumerate() {
        let field = format!("{field}[{index}]");
        let Some(planned) = faults.keep(read_variant(spec, variant, &field)) else {
            continue;
        };
        let same = |other: &&PlannedVariant| other.target == planned.target;
        if variants.iter().any(|other| other.name == planned.name) {
            let field = format!("{field}.name");
            faults.keep::<()>(Err(Cause::duplicate(&field, &json!(planned.name))));
        } else if let (Some(other), false) = (variants.iter().find(same), is_same_model) {
            let why = format!(
                "it is answered by the same model as {}; name another revision or inferenceService, or say spec.mode: AA",
                other.name
            );
            faults.keep::<()>(Err(Cause::forbidden(&field, &why)));
        }
        variants.push(planned);
    }
    if variants.len() == n_variants && variants.iter().all(|variant| variant.weight == 0) {
        let weights: Vec<u32> = variants.iter().map(|variant| variant.weight).collect();
        let why = "must have a weight above 0 at least once";
        faults.keep::<()>(Err(Cause::invalid(field, &json!(weights), why)));
    }
    if is_same_model {
        for variant in &mut variants {
            variant.target = VariantTarget::Own;
        }
    }
    Some(variants)
}

/// Checks a name that reports, files and commands bear.
fn label(field: &str, name: &str) -> Result<(), Cause> {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    match (1..=LABEL_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_inner) {
        true => Ok(()),
        false => {
            let why =
                format!("must be 1 to {LABEL_BYTES_MAX} ASCII letters, digits, '-', '_' and '.'");
            Err(Cause::invalid(field, &json!(name), &why))
        }
    }
}

fn read_variant(
    spec: &ExperimentSpec,
    variant: &ExperimentVariant,
    field: &str,
) -> Result<PlannedVariant, Cause> {
    label(&format!("{field}.name"), &variant.name)?;
    let weight = variant.weight.unwrap_or(1);
    let read = u32::try_from(weight).ok().filter(|_| weight <= WEIGHT_MAX);
    let weight = read.ok_or_else(|| {
        let why = format!("must be between 0 and {WEIGHT_MAX}");
        Cause::invalid(&format!("{field}.weight"), &json!(weight), &why)
    })?;
    let target = match (&variant.revision, &variant.inference_service) {
        (Some(_), Some(_)) => {
            return Err(Cause::forbidden(
                &format!("{field}.inferenceService"),
                "there is a revision, too; one of them says who answers",
            ));
        }
        (Some(revision), None) => {
            let prefix = format!("{}-predictor-", spec.inference_service);
            if !revision.starts_with(&prefix) {
                let why = format!(
                    "must be a revision of {}; they are named {prefix}00001 and so on",
                    spec.inference_service
                );
                let field = format!("{field}.revision");
                return Err(Cause::invalid(&field, &json!(revision), &why));
            }
            VariantTarget::Revision(revision.clone())
        }
        (None, Some(service)) if *service == spec.inference_service => VariantTarget::Own,
        (None, Some(service)) => {
            service_name(&format!("{field}.inferenceService"), service)?;
            VariantTarget::Service(service.clone())
        }
        (None, None) => VariantTarget::Own,
    };
    Ok(PlannedVariant {
        name: variant.name.clone(),
        weight,
        target,
    })
}

fn metrics(metrics: &[ExperimentMetric], faults: &mut Faults) -> Option<Vec<PlannedMetric>> {
    if metrics.len() > METRICS_MAX {
        let field = "spec.metrics";
        return faults.keep(Err(Cause::too_many(field, metrics.len(), METRICS_MAX)));
    }
    let mut planned = Vec::new();
    for (index, metric) in metrics.iter().enumerate() {
        let field = format!("spec.metrics[{index}]");
        let mut others = metrics.iter().take(index);
        if others.any(|other| other.name == metric.name) {
            let field = format!("{field}.name");
            faults.keep::<()>(Err(Cause::duplicate(&field, &json!(metric.name))));
        }
        planned.extend(faults.keep(read_metric(metric, &field, index == 0)));
    }
    let planned = (planned.len() == metrics.len()).then_some(planned)?;
    faults.keep(same_windows(metrics, &planned))?;
    Some(planned)
}

/// Refuses different windows of metrics that are made of the same outcomes: each of these is late, or it is not.
fn same_windows(metrics: &[ExperimentMetric], planned: &[PlannedMetric]) -> Result<(), Cause> {
    let given = |index: usize| metrics.get(index).and_then(|one| one.window.as_deref());
    for (index, metric) in planned.iter().enumerate() {
        for (earlier, other) in planned.iter().enumerate().take(index) {
            let shared = metric.counted().find(|name| other.counts(name));
            if let Some(shared) = shared.filter(|_| metric.window_ms != other.window_ms) {
                let field = format!("spec.metrics[{index}].window");
                let why = format!(
                    "must be {}, as that of {:?}: both count the outcomes {shared:?}",
                    given(earlier).unwrap_or("none"),
                    other.name
                );
                return Err(Cause::invalid(&field, &json!(given(index)), &why));
            }
        }
    }
    Ok(())
}

/// Returns the difference that matters, and the one that a guardrail lets pass.
fn differences(
    metric: &ExperimentMetric,
    kind: &MetricForm,
    field: &str,
) -> Result<(f64, f64), Cause> {
    let default = match kind {
        MetricForm::Conversion => Some(CONVERSION_EXPECTED),
        MetricForm::Errors => Some(ERRORS_EXPECTED),
        _ => None,
    };
    let is_share = default.is_some();
    let expected_field = format!("{field}.expectedDifference");
    let expected = metric.expected_difference.or(default).ok_or_else(|| {
        let kind = &metric.metric_type;
        let why = format!("of a {kind} it must be said which difference matters");
        Cause::required(&expected_field, &why)
    })?;
    let check = |field: &str, given: f64, least: &str, is_above: bool| {
        let (is_below, most) = match is_share {
            true => (
                given < 1.0,
                "and below 1, a difference of shares: 0.05 is 5 percent",
            ),
            false => (given <= MAGNITUDE_MAX, "and at most 1e100"),
        };
        let must = format!("{least} {most}");
        number(field, given, (is_above && is_below, &must))
    };
    let expected = check(&expected_field, expected, "above 0", expected > 0.0)?;
    let margin = metric.margin.unwrap_or(expected);
    let field = format!("{field}.margin");
    Ok((
        expected,
        check(&field, margin, "at least 0", margin >= 0.0)?,
    ))
}

/// Returns how long outcomes of a metric count, in ms.
fn window(metric: &ExperimentMetric, field: &str, has_none: bool) -> Result<Option<u64>, Cause> {
    let Some(text) = &metric.window else {
        return Ok(None);
    };
    let field = format!("{field}.window");
    if has_none {
        let why = "only a Conversion, Sum, Mean or Ratio has one";
        return Err(Cause::forbidden(&field, why));
    }
    let window = read_time(&field, text, "1h or 7d")?;
    match u64::try_from(window.as_millis()) {
        Ok(0) | Err(_) => Err(Cause::invalid(&field, &json!(text), "must be above 0")),
        Ok(window) => Ok(Some(window)),
    }
}

fn read_metric(
    metric: &ExperimentMetric,
    field: &str,
    is_first: bool,
) -> Result<PlannedMetric, Cause> {
    let place = |name: &str| format!("{field}.{name}");
    shown_name(&place("name"), &metric.name, METRIC_NAME_BYTES_MAX)?;
    let words = ["Conversion", "Sum", "Mean", "Ratio", "Errors", "Latency"];
    let kind = match one_of(&place("type"), Some(&metric.metric_type), words)? {
        0 => MetricForm::Conversion,
        1 => MetricForm::Sum,
        2 => MetricForm::Mean,
        3 => MetricForm::Ratio(metric.denominator.clone()),
        4 => MetricForm::Errors,
        _ => MetricForm::Latency,
    };
    let is_measured = matches!(kind, MetricForm::Errors | MetricForm::Latency);
    let is_ratio = matches!(kind, MetricForm::Ratio(_));
    for (name, other) in [
        ("denominator", &metric.denominator),
        ("covariate", &metric.covariate),
    ] {
        let Some(other) = other else { continue };
        let (is_its, why) = match name {
            "denominator" => (is_ratio, "only a Ratio has one"),
            _ => (
                !is_measured && !is_ratio,
                "only a Conversion, Sum or Mean is adjusted for one",
            ),
        };
        if !is_its {
            return Err(Cause::forbidden(&place(name), why));
        }
        shown_name(&place(name), other, METRIC_NAME_BYTES_MAX)?;
    }
    let window_ms = window(metric, field, is_measured)?;
    let better = metric.better.as_deref();
    let better = one_of(&place("better"), better, ["Higher", "Lower"])?;
    let default = match (is_measured, is_first) {
        (true, _) => "Guardrail",
        (false, true) => "Primary",
        (false, false) => "Secondary",
    };
    let role = metric.role.as_deref().unwrap_or(default);
    let words = ["Primary", "Secondary", "Guardrail"];
    let role = match one_of(&place("role"), Some(role), words)? {
        0 => MetricRole::Primary,
        1 => MetricRole::Secondary,
        _ => MetricRole::Guardrail,
    };
    let missing = metric.missing.as_deref();
    let missing = one_of(&place("missing"), missing, ["Exclude", "Zero"])?;
    let (expected, margin) = differences(metric, &kind, field)?;
    Ok(PlannedMetric {
        name: metric.name.clone(),
        kind,
        covariate: metric.covariate.clone(),
        zero_if_missing: missing == 1,
        is_lower_better: better == 1 || metric.better.is_none() && is_measured,
        role,
        expected,
        margin,
        window_ms,
    })
}

fn analysis(spec: &ExperimentSpec, faults: &mut Faults) -> Option<PlannedAnalysis> {
    let given = spec.analysis.clone().unwrap_or_default();
    let default = PlannedAnalysis::default();
    let field = |name: &str| format!("spec.analysis.{name}");
    let alpha = given.alpha.unwrap_or(default.alpha);
    let is_good = alpha > 0.0 && alpha < 1.0;
    let alpha = number(&field("alpha"), alpha, (is_good, "above 0 and below 1"));
    let words = ["BenjaminiHochberg", "Bonferroni", "None"];
    let correction = one_of(&field("correction"), given.correction.as_deref(), words);
    let units_min = given.units_min.map_or(Ok(default.units_min), |units| {
        u64::try_from(units).map_err(|_negative| {
            Cause::invalid(&field("unitsMin"), &json!(units), "must be at least 0")
        })
    });
    let (alpha, correction) = (faults.keep(alpha), faults.keep(correction));
    let units_min = faults.keep(units_min);
    Some(PlannedAnalysis {
        alpha: alpha?,
        units_min: units_min?,
        correction: match correction? {
            0 => CorrectionForm::BenjaminiHochberg,
            1 => CorrectionForm::Bonferroni,
            _ => CorrectionForm::None,
        },
    })
}

#[cfg(test)]
mod tests;
