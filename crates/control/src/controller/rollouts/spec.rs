//! A Rollout's spec in the words of the rules that decide.

use std::time::Duration;

use coracle_api::rollout::{RolloutAnalysis, RolloutSpec, RolloutStep};
use coracle_policy::rollout::{RolloutSpec as Rules, Step, UNITS_MIN};
use coracle_serving::{Sticky, latency_bounds};

use super::metrics::{self, Metrics};
use crate::controller::times::read_time;

/// From so much on a population has changed, by the common rule.
const STABILITY_INDEX_MAX: f64 = 0.25;

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
/// Says which field has which value, and what is allowed.
pub(crate) fn read(spec: &RolloutSpec) -> Result<Wanted, String> {
    read_split_by(spec, None)
}

/// Reads the spec of a service whose requests are split by `sticky`, if it says so: where the spec names no unit, that is one. Its requests are one revision's all together,
/// and would be no evidence of their own.
///
/// # Errors
/// Says which field has which value, and what is allowed.
pub(crate) fn read_split_by(spec: &RolloutSpec, sticky: Option<Sticky>) -> Result<Wanted, String> {
    let defaults = Rules::default();
    let analysis = spec.analysis.clone().unwrap_or_default();
    let percentile = analysis.latency_percentile.unwrap_or(99);
    let percentile = u64::try_from(percentile)
        .ok()
        .filter(|percentile| (50..=99).contains(percentile));
    let percentile = percentile.ok_or_else(|| {
        let given = analysis.latency_percentile.unwrap_or_default();
        format!("spec.analysis.latencyPercentile: {given} is not between 50 and 99")
    })?;
    let steps = match &spec.steps {
        Some(steps) if steps.is_empty() => return Err("spec.steps: there is no stage".to_owned()),
        Some(steps) => steps
            .iter()
            .enumerate()
            .map(|(index, step)| read_step(index, step))
            .collect::<Result<_, _>>()?,
        None => defaults.steps.clone(),
    };
    let requests_min = requests_min(&analysis, defaults.requests_min)?;
    let metrics = metrics::read(&analysis, (requests_min, sticky))?;
    let slow = time("latencyMax", analysis.latency_max.as_deref())?;
    let rules = Rules {
        steps,
        alpha: analysis.alpha.unwrap_or(defaults.alpha),
        requests_min,
        ratio_tolerated: analysis.ratio_tolerated.unwrap_or(defaults.ratio_tolerated),
        error_rate_margin: analysis
            .error_rate_margin
            .unwrap_or(defaults.error_rate_margin),
        slow_rate_allowed: 1.0 - f64::from(u32::try_from(percentile).unwrap_or(99)) / 100.0,
        metrics: metrics.rules.clone(),
        queries: metrics
            .queries
            .iter()
            .map(|(rule, _)| rule.clone())
            .collect(),
        stability_index_max: analysis
            .predictions
            .map(|given| given.stability_index_max.unwrap_or(STABILITY_INDEX_MAX)),
        units_min: metrics.is_by_unit().then(|| requests_min.min(UNITS_MIN)),
        deadline: time("deadline", analysis.deadline.as_deref())?,
    };
    rules.validate().map_err(|why| format!("spec: {why}"))?;
    Ok(Wanted {
        rules,
        percentile,
        slow: slow.map(rounded_up),
        metrics,
    })
}

fn requests_min(analysis: &RolloutAnalysis, default: u64) -> Result<u64, String> {
    match analysis.requests_min {
        None => Ok(default),
        Some(given) => u64::try_from(given)
            .map_err(|_negative| format!("spec.analysis.requestsMin: {given} is less than 0")),
    }
}

fn read_step(index: usize, step: &RolloutStep) -> Result<Step, String> {
    if !(1..=99).contains(&step.percent) {
        return Err(format!(
            "spec.steps[{index}].percent: {} is not between 1 and 99",
            step.percent
        ));
    }
    let text = step.duration.as_deref().unwrap_or("0s");
    Ok(Step {
        percent: f64::from(step.percent),
        duration: read_time(&format!("spec.steps[{index}].duration"), text, "30s or 10m")?,
    })
}

fn time(field: &str, text: Option<&str>) -> Result<Option<Duration>, String> {
    let place = format!("spec.analysis.{field}");
    let parsed = text.map(|text| read_time(&place, text, "50ms or 10m"));
    parsed.transpose()
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
    use serde_json::{Value, json};

    use super::*;

    fn of(spec: Value) -> Result<Wanted, String> {
        read(&serde_json::from_value(spec).unwrap())
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
            (json!({"steps": []}), "spec.steps: there is no stage"),
            (
                json!({"steps": [{"percent": 0}]}),
                "spec.steps[0].percent: 0 is not between 1 and 99",
            ),
            (
                json!({"steps": [{"percent": 20}, {"percent": 10}]}),
                "steps[1]: 10 % is not above 20 %",
            ),
            (
                json!({"steps": [{"percent": 20, "duration": "soon"}]}),
                "spec.steps[0].duration: 'soon' is no time",
            ),
            (
                json!({"analysis": {"alpha": 2.0}}),
                "alpha 2 is not between",
            ),
            (
                json!({"analysis": {"requestsMin": -1}}),
                "requestsMin: -1 is less than 0",
            ),
            (
                json!({"analysis": {"latencyPercentile": 100}}),
                "latencyPercentile: 100",
            ),
            (
                json!({"analysis": {"deadline": "x"}}),
                "spec.analysis.deadline: 'x'",
            ),
            (
                json!({"analysis": {"predictions": {"stabilityIndexMax": 0}}}),
                "stability index 0 is not a number above 0",
            ),
            // Such sums of times have no end.
            (
                json!({"analysis": {"deadline": "500000000000years"}}),
                "spec.analysis.deadline: '500000000000years' is longer than 365 days",
            ),
            (
                json!({"steps": [{"percent": 20, "duration": "366days"}]}),
                "spec.steps[0].duration: '366days' is longer than 365 days",
            ),
            (
                json!({"analysis": {"latencyMax": "366days"}}),
                "spec.analysis.latencyMax: '366days' is longer than 365 days",
            ),
        ] {
            let mut spec = spec;
            spec["inferenceService"] = "iris".into();
            let error = of(spec).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
