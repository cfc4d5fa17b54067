//! A Rollout's spec in the words of the rules that decide.

use std::time::Duration;

use coracle_api::rollout::{RolloutAnalysis, RolloutSpec, RolloutStep};
use coracle_api::structural::Cause;
use coracle_policy::rollout::{RolloutSpec as Rules, Step, UNITS_MIN};
use coracle_serving::{Sticky, latency_bounds};
use serde_json::json;

use super::metrics::{self, Metrics};
use crate::controller::faults::{Faults, number, service_name};
use crate::controller::times::read_time;

/// From so much on a population has changed, by the common rule.
const STABILITY_INDEX_MAX: f64 = 0.25;
/// The most that a rate may be multiplied by and still be none that is worse; evidence is gathered on multiples of it.
const RATIO_MAX: f64 = 1_000.0;

/// What a rollout goes by.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) rules: Rules,
    /// The percentile of latency that is watched.
    pub(crate) percentile: u64,
    /// What is slow, if that is said.
    pub(crate) slow: Option<Duration>,
    /// What else is looked at.
    pub(crate) metrics: Metrics,
}

/// Reads a spec by itself.
///
/// # Errors
/// Says which fields have which values, and what is allowed.
pub(crate) fn read(spec: &RolloutSpec) -> Result<Wanted, Vec<Cause>> {
    read_split_by(spec, None)
}

/// Reads the spec of a service whose requests are split by `sticky`, if it says so: where the spec names no unit, that is one. Its requests are one revision's all together,
/// and would be no evidence of their own.
///
/// # Errors
/// Says which fields have which values, and what is allowed.
pub(crate) fn read_split_by(
    spec: &RolloutSpec,
    sticky: Option<Sticky>,
) -> Result<Wanted, Vec<Cause>> {
    let mut faults = Faults::default();
    let service = service_name("spec.inferenceService", &spec.inference_service);
    faults.keep(service);
    let analysis = spec.analysis.clone().unwrap_or_default();
    let defaults = Rules::default();
    let steps = match &spec.steps {
        Some(steps) => read_steps(steps, &mut faults),
        None => defaults.steps.clone(),
    };
    let percentile = faults.keep(percentile(&analysis));
    let requests_min = faults.keep(requests_min(&analysis, defaults.requests_min));
    let with = (requests_min.unwrap_or(defaults.requests_min), sticky);
    let metrics = metrics::read(&analysis, with, &mut faults);
    let slow = faults.keep(latency_max(&analysis));
    let deadline = analysis.deadline.as_deref();
    let deadline = deadline.map(|text| read_time("spec.analysis.deadline", text, "10m or 1h"));
    let deadline = faults.keep(deadline.transpose());
    let numbers = faults.keep_all(numbers(&analysis, &defaults).into_iter());
    let rules = || {
        let [
            alpha,
            ratio_tolerated,
            error_rate_margin,
            stability_index_max,
        ] = numbers.try_into().ok()?;
        let metrics = metrics.as_ref()?;
        let percent = u32::try_from(percentile?).unwrap_or(99);
        Some(Rules {
            steps,
            alpha,
            requests_min: requests_min?,
            ratio_tolerated,
            error_rate_margin,
            slow_rate_allowed: 1.0 - f64::from(percent) / 100.0,
            metrics: metrics.rules.clone(),
            queries: metrics
                .queries
                .iter()
                .map(|(rule, _)| rule.clone())
                .collect(),
            stability_index_max: analysis.predictions.map(|_| stability_index_max),
            units_min: metrics
                .is_by_unit()
                .then(|| requests_min.unwrap_or(UNITS_MIN).min(UNITS_MIN)),
            deadline: deadline?,
        })
    };
    let rules = rules();
    // All that it knows of was looked at above, by its place.
    let checked = rules.as_ref().map_or(Ok(()), Rules::validate);
    faults.keep(checked.map_err(|why| Cause::invalid("spec", &json!({}), &why.to_string())));
    let whole = || {
        Some(Wanted {
            rules: rules?,
            percentile: percentile?,
            slow: slow?.map(rounded_up),
            metrics: metrics?,
        })
    };
    let whole = whole();
    faults.finish(whole)
}

fn percentile(analysis: &RolloutAnalysis) -> Result<u64, Cause> {
    let given = analysis.latency_percentile.unwrap_or(99);
    let percentile = u64::try_from(given).ok();
    let percentile = percentile.filter(|percentile| (50..=99).contains(percentile));
    let field = "spec.analysis.latencyPercentile";
    percentile.ok_or_else(|| Cause::invalid(field, &json!(given), "must be between 50 and 99"))
}

fn requests_min(analysis: &RolloutAnalysis, default: u64) -> Result<u64, Cause> {
    let given = analysis.requests_min;
    let field = "spec.analysis.requestsMin";
    given.map_or(Ok(default), |given| {
        u64::try_from(given)
            .map_err(|_negative| Cause::invalid(field, &json!(given), "must be at least 0"))
    })
}

/// Reads alpha, the ratio and the margin that are tolerated, and the stability index.
fn numbers(analysis: &RolloutAnalysis, defaults: &Rules) -> [Result<f64, Cause>; 4] {
    let predictions = analysis.predictions.as_ref();
    let index = predictions.and_then(|given| given.stability_index_max);
    let alpha = analysis.alpha.unwrap_or(defaults.alpha);
    let ratio = analysis.ratio_tolerated.unwrap_or(defaults.ratio_tolerated);
    let margin = analysis
        .error_rate_margin
        .unwrap_or(defaults.error_rate_margin);
    let index = index.unwrap_or(STABILITY_INDEX_MAX);
    let must = format!("at least 1, and at most {RATIO_MAX}");
    [
        number(
            "spec.analysis.alpha",
            alpha,
            (alpha > 0.0 && alpha < 1.0, "above 0 and below 1"),
        ),
        number(
            "spec.analysis.ratioTolerated",
            ratio,
            ((1.0..=RATIO_MAX).contains(&ratio), &must),
        ),
        number(
            "spec.analysis.errorRateMargin",
            margin,
            ((0.0..1.0).contains(&margin), "at least 0 and below 1"),
        ),
        number(
            "spec.analysis.predictions.stabilityIndexMax",
            index,
            (index > 0.0 && index.is_finite(), "above 0"),
        ),
    ]
}

fn read_steps(steps: &[RolloutStep], faults: &mut Faults) -> Vec<Step> {
    if steps.is_empty() {
        let why =
            "must have a step at least; without the field there are three, of 5, 25 and 50 percent";
        faults.keep::<()>(Err(Cause::invalid("spec.steps", &json!([]), why)));
    }
    let mut read = Vec::new();
    let mut reached = 0;
    for (index, step) in steps.iter().enumerate() {
        let percent = faults.keep(read_percent(index, (reached, step.percent)));
        reached = percent.map_or(reached, |_| step.percent);
        let text = step.duration.as_deref().unwrap_or("0s");
        let field = format!("spec.steps[{index}].duration");
        let duration = faults.keep(read_time(&field, text, "30s, 10m or 1h"));
        if let (Some(percent), Some(duration)) = (percent, duration) {
            read.push(Step { percent, duration });
        }
    }
    read
}

fn read_percent(index: usize, (reached, percent): (i32, i32)) -> Result<f64, Cause> {
    let refused = |why: &str| {
        let field = format!("spec.steps[{index}].percent");
        Err(Cause::invalid(&field, &json!(percent), why))
    };
    if !(1..=99).contains(&percent) {
        return refused(
            "must be between 1 and 99; after the last step the new revision takes all requests by itself",
        );
    }
    match percent > reached {
        true => Ok(f64::from(percent)),
        false => refused(&format!(
            "must be above the {reached} of the step before it, since shares grow from step to step"
        )),
    }
}

fn latency_max(analysis: &RolloutAnalysis) -> Result<Option<Duration>, Cause> {
    let Some(text) = analysis.latency_max.as_deref() else {
        return Ok(None);
    };
    let field = "spec.analysis.latencyMax";
    match read_time(field, text, "50ms or 2s")? {
        Duration::ZERO => Err(Cause::invalid(field, &json!(text), "must be above 0")),
        time => Ok(Some(time)),
    }
}

/// Returns the next bound of the histogram of latencies: what is slow can be told at those only.
fn rounded_up(time: Duration) -> Duration {
    let bounds = latency_bounds();
    let [.., last] = bounds;
    bounds
        .into_iter()
        .find(|bound| *bound >= time)
        .unwrap_or(last)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::controller::faults::text;

    fn of(spec: Value) -> Result<Wanted, String> {
        read(&serde_json::from_value(spec).unwrap()).map_err(|causes| text(&causes))
    }

    #[test]
    fn what_is_not_said_is_as_the_rules_have_it() {
        let wanted = of(json!({"inferenceService": "iris"})).unwrap();
        let rules = Rules {
            slow_rate_allowed: 1.0 - 0.99,
            ..Rules::default()
        };
        assert_eq!(
            (wanted.rules, wanted.percentile, wanted.slow),
            (rules, 99, None)
        );
    }

    #[test]
    fn what_is_slow_is_rounded_up_to_a_bound() {
        let slow = |text| {
            let spec = json!({"inferenceService": "iris", "analysis": {"latencyMax": text}});
            of(spec).unwrap().slow.unwrap()
        };
        assert_eq!(slow("50ms"), Duration::from_millis(50));
        assert_eq!(slow("51ms"), Duration::from_millis(100));
        assert_eq!(slow("1h"), Duration::from_secs(10));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_place() {
        for (spec, expected) in [
            (
                json!({"steps": []}),
                "spec.steps: Invalid value: []: must have a step at least",
            ),
            (
                json!({"steps": [{"percent": 0}]}),
                "spec.steps[0].percent: Invalid value: 0: must be between 1 and 99",
            ),
            (
                json!({"steps": [{"percent": 20}, {"percent": 10}]}),
                "spec.steps[1].percent: Invalid value: 10: must be above the 20 of the step before it",
            ),
            (
                json!({"steps": [{"percent": 20, "duration": "soon"}]}),
                "spec.steps[0].duration: Invalid value: \"soon\": must be a time such as 30s, 10m or 1h",
            ),
            (
                json!({"analysis": {"alpha": 2.0}}),
                "spec.analysis.alpha: Invalid value: 2.0: must be above 0 and below 1",
            ),
            (
                json!({"analysis": {"requestsMin": -1}}),
                "spec.analysis.requestsMin: Invalid value: -1: must be at least 0",
            ),
            (
                json!({"analysis": {"latencyPercentile": 100}}),
                "spec.analysis.latencyPercentile: Invalid value: 100: must be between 50 and 99",
            ),
            (
                json!({"analysis": {"deadline": "x"}}),
                "spec.analysis.deadline: Invalid value: \"x\": must be a time such as 10m or 1h",
            ),
            (
                json!({"analysis": {"predictions": {"stabilityIndexMax": 0}}}),
                "spec.analysis.predictions.stabilityIndexMax: Invalid value: 0.0: must be above 0",
            ),
            // Such sums of times have no end.
            (
                json!({"analysis": {"deadline": "500000000000years"}}),
                "spec.analysis.deadline: Invalid value: \"500000000000years\": must be at most 365 days",
            ),
            (
                json!({"steps": [{"percent": 20, "duration": "366days"}]}),
                "spec.steps[0].duration: Invalid value: \"366days\": must be at most 365 days",
            ),
            (
                json!({"analysis": {"latencyMax": "366days"}}),
                "spec.analysis.latencyMax: Invalid value: \"366days\": must be at most 365 days",
            ),
        ] {
            let mut spec = spec;
            spec["inferenceService"] = "iris".into();
            let error = of(spec).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
