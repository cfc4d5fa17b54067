//! How an experiment stands, as JSON. Every number names its method.

use std::time::{Duration, SystemTime};

use coracle_policy::experiment::{
    Basis, Comparison, Correction, Effect, Guardrail, Method, RatioMismatch, Verdict,
};
use coracle_serving::experiment::{
    Allocation, BanditStrategy, CorrectionForm, MetricRole, Standing, UnitSource, VariantStanding,
};
use serde_json::{Map, Value, json};

/// The name of Fisher's test.
pub(super) const EXACT: &str = "Fisher's exact test (fixed horizon)";
/// The names of the tests of the split.
const SPLIT: &str = "Pearson's chi-squared test (fixed horizon)";
const SPLIT_ANYTIME: &str = "sequential multinomial test, Dirichlet mixture (anytime-valid)";

/// Returns how an experiment stands.
pub(super) fn report(standing: &Standing) -> Value {
    let planned = &standing.planned;
    let mut report = json!({
        "experiment": standing.id.name,
        "namespace": standing.id.namespace,
        "since": standing.since.map(time),
        "allocation": allocation(planned.allocation),
        "unit": unit(&planned.unit),
        "winner": planned.winner,
        "alpha": planned.analysis.alpha,
        "correction": correction(planned.analysis.correction).as_str(),
        "outcomes": standing.n_outcomes,
        "requests": {"unassigned": standing.n_unassigned, "exposuresLost": standing.n_lost},
        "units": {
            "severalVariants": standing.n_mixed,
            "overridden": standing.n_overridden,
            "lost": standing.n_units_lost,
        },
        "verdict": verdict(standing),
        "split": split(standing),
        "variants": standing.variants.iter().enumerate()
            .map(|(index, one)| variant(standing, index, one)).collect::<Vec<Value>>(),
        "comparisons": standing.analysis.comparisons.iter()
            .map(|one| comparison(standing, one)).collect::<Vec<Value>>(),
        "series": standing.series.iter().map(series).collect::<Vec<Value>>(),
    });
    if planned.allocation != Allocation::Fixed {
        report["bandit"] = bandit(standing);
    }
    report
}

/// Returns a time in the words of the API.
pub(super) fn time(ms: u64) -> String {
    let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(ms));
    at.map(|at| humantime::format_rfc3339_seconds(at).to_string())
        .unwrap_or_default()
}

fn allocation(allocation: Allocation) -> &'static str {
    match allocation {
        Allocation::Fixed => "Fixed",
        Allocation::Bandit { strategy, .. } => match strategy {
            BanditStrategy::EpsilonGreedy(_) => "EpsilonGreedy",
            BanditStrategy::Thompson => "Thompson",
            BanditStrategy::Ucb1 => "UCB1",
            BanditStrategy::LinUcb(_) => "LinUCB",
        },
    }
}

fn unit(unit: &UnitSource) -> Value {
    match unit {
        UnitSource::Header(name) => json!({"header": name}),
        UnitSource::Cookie(name) => json!({"cookie": name}),
        UnitSource::Field(path) => json!({"field": path}),
        UnitSource::Parameter(name) => json!({"parameter": name}),
        UnitSource::Input(name) => json!({"input": name}),
        UnitSource::Request => json!({"request": true}),
    }
}

fn correction(form: CorrectionForm) -> Correction {
    match form {
        CorrectionForm::BenjaminiHochberg => Correction::BenjaminiHochberg,
        CorrectionForm::Bonferroni => Correction::Bonferroni,
        CorrectionForm::None => Correction::None,
    }
}

/// Returns the name of a variant.
pub(super) fn name(standing: &Standing, variant: usize) -> &str {
    let variant = standing.variants.get(variant);
    variant.map_or("", |variant| &variant.name)
}

/// Returns the state of a verdict and why.
pub(super) fn verdict_words(verdict: &Verdict) -> (&'static str, &str, Option<usize>) {
    match verdict {
        Verdict::Wait(why) => ("Wait", why, None),
        Verdict::Mismatch(why) => ("Mismatch", why, None),
        Verdict::Harm { variant, why } => ("Harm", why, Some(*variant)),
        Verdict::Better { variant, why } => ("Better", why, Some(*variant)),
    }
}

fn verdict(standing: &Standing) -> Value {
    let (state, why, variant) = verdict_words(&standing.analysis.verdict);
    json!({
        "state": state,
        "variant": variant.map(|variant| name(standing, variant)),
        "why": why,
    })
}

fn split(standing: &Standing) -> Value {
    let test = |method: &str, found: Option<RatioMismatch>| {
        found.map(|found| {
            json!({"method": method, "pValue": found.p_value, "isMismatch": found.is_mismatch})
        })
    };
    let analysis = &standing.analysis;
    json!({
        "fixed": test(SPLIT, analysis.split),
        "anytime": test(SPLIT_ANYTIME, analysis.split_anytime),
    })
}

fn variant(standing: &Standing, index: usize, variant: &VariantStanding) -> Value {
    let metrics = standing.planned.metrics.iter().zip(&variant.metrics);
    let metrics: Map<String, Value> = metrics
        .map(|(metric, standing)| {
            let mut shown = json!({
                "units": standing.units,
                "missing": standing.missing,
                "mean": standing.mean,
            });
            if metric.window_ms.is_some() {
                shown["open"] = json!(standing.open);
            }
            if let Some(settled) = standing.settled {
                shown["settled"] = json!({
                    "method": Method::Betting.as_str(),
                    "units": settled.units,
                    "mean": settled.rate,
                    "low": settled.interval.low,
                    "high": settled.interval.high,
                });
            }
            (metric.name.clone(), shown)
        })
        .collect();
    json!({
        "name": variant.name,
        "isControl": index == standing.planned.control,
        "units": variant.units,
        "unitsExpected": variant.expected,
        "requests": variant.requests,
        "errors": variant.errors,
        "metrics": metrics,
    })
}

fn effect(effect: Option<Effect>, corrected: Option<f64>) -> Value {
    effect.map_or(Value::Null, |effect| {
        json!({
            "method": effect.method.as_str(),
            "difference": effect.difference,
            "low": effect.interval.low,
            "high": effect.interval.high,
            "pValue": effect.p_value,
            "pValueCorrected": corrected,
        })
    })
}

/// Returns how guardrails on such numbers are judged.
fn guardrail_method(basis: Basis) -> &'static str {
    match basis {
        Basis::Share => {
            "mSPRT, normal mixture, and exact by Beta mixtures, one-sided (anytime-valid)"
        }
        _ => "mSPRT, normal mixture, one-sided (anytime-valid)",
    }
}

/// Returns the name of what a posterior was computed by.
pub(super) fn posterior_method(comparison: &Comparison) -> &'static str {
    match comparison.basis {
        Basis::Share => "Beta posteriors, uniform priors",
        _ => "normal posteriors, flat priors",
    }
}

/// Returns the word for how a guardrail stands.
pub(super) fn guardrail_word(guardrail: Guardrail) -> &'static str {
    match guardrail {
        Guardrail::Harmed => "Harmed",
        Guardrail::Safe => "Safe",
        Guardrail::Open => "Open",
    }
}

fn comparison(standing: &Standing, comparison: &Comparison) -> Value {
    let metric = standing.planned.metrics.get(comparison.metric);
    let role = metric.map_or("", |metric| match metric.role {
        MetricRole::Primary => "Primary",
        MetricRole::Secondary => "Secondary",
        MetricRole::Guardrail => "Guardrail",
    });
    let side = |(units, mean): (u64, f64)| json!({"units": units, "mean": mean});
    let exact = comparison.exact_p_value;
    json!({
        "variant": name(standing, comparison.variant),
        "control": name(standing, standing.planned.control),
        "metric": metric.map(|metric| &metric.name),
        "role": role,
        "better": metric.map(|metric| if metric.is_lower_better { "Lower" } else { "Higher" }),
        "basis": comparison.basis.as_str(),
        "ofControl": side(comparison.control),
        "ofVariant": side(comparison.treated),
        "fixed": effect(comparison.fixed, comparison.fixed_corrected),
        "exact": exact.map(|p_value| json!({"method": EXACT, "pValue": p_value})),
        "lift": effect(comparison.lift, None),
        "anytime": effect(comparison.anytime, comparison.anytime_corrected),
        "posterior": comparison.posterior.map(|belief| json!({
            "method": posterior_method(comparison),
            "probabilityBetter": belief.b_is_better,
            "expectedLossOfVariant": belief.loss_of_b,
            "expectedLossOfControl": belief.loss_of_a,
        })),
        "guardrail": comparison.guardrail.map(|guardrail| json!({
            "method": guardrail_method(comparison.basis),
            "state": guardrail_word(guardrail),
            "margin": metric.map(|metric| metric.margin),
        })),
    })
}

fn series(
    (variant, metric, points): &(String, String, Vec<coracle_serving::experiment::Point>),
) -> Value {
    let points: Vec<Value> = points
        .iter()
        .map(|point| {
            json!({
                "at": time(point.at),
                "difference": point.difference,
                "low": point.low,
                "high": point.high,
            })
        })
        .collect();
    json!({"variant": variant, "metric": metric, "points": points})
}

fn bandit(standing: &Standing) -> Value {
    let arms: Vec<Value> = standing
        .arms
        .iter()
        .map(|arm| {
            let mut shown = json!({
                "variant": arm.variant,
                "rewards": arm.rewards,
                "mean": arm.mean,
                "propensity": arm.propensity,
            });
            if !arm.weights.is_empty() {
                let weights = arm.weights.iter();
                let weights = weights.map(|(name, weight)| (name.clone(), (*weight).into()));
                shown["weights"] = Value::Object(weights.collect());
            }
            shown
        })
        .collect();
    let off_policy: Vec<Value> = standing
        .off_policy
        .iter()
        .map(|estimate| {
            let mut shown = json!({
                "variant": estimate.variant,
                "inversePropensity": estimate.inverse_propensity,
                "selfNormalised": estimate.self_normalised,
                "standardError": estimate.standard_error,
                "effectiveChoices": estimate.effective_choices,
            });
            if let Some(robust) = estimate.doubly_robust {
                shown["doublyRobust"] = robust.into();
            }
            shown
        })
        .collect();
    let method = match standing.planned.linear() {
        Some(_) => {
            "doubly robust (with what ridge regression expected before each reward), inverse propensity scoring and its self-normalised form, over the last choices with a reward; the standard error is the doubly robust one's"
        }
        None => {
            "inverse propensity scoring and its self-normalised form, over the last choices with a reward; the standard error is the self-normalised one's"
        }
    };
    json!({
        "arms": arms,
        "offPolicy": {"method": method, "estimates": off_policy},
    })
}
