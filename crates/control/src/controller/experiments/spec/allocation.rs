//! How an Experiment's variants are chosen.

use coracle_api::experiment::{
    ExperimentAllocation, ExperimentFeature, ExperimentSpec, ExperimentUnit,
};
use coracle_serving::experiment::{
    Allocation, BanditStrategy, MetricRole, PlannedFeature, PlannedMetric,
};

use super::{one_of, source};

/// The most features of a bandit.
const FEATURES_MAX: usize = 16;
const FEATURE_NAME_BYTES_MAX: usize = 63;
/// What reports call the constant that is beside the features.
const CONSTANT: &str = "constant";
const ALPHA_MAX: f64 = 100.0;

/// Reads how variants are chosen, and by which features.
pub(super) fn allocation(
    allocation: Option<&ExperimentAllocation>,
) -> Result<(Allocation, Vec<PlannedFeature>), String> {
    let Some(allocation) = allocation else {
        return Ok((Allocation::Fixed, Vec::new()));
    };
    let within = |field: &str, given: Option<f64>, default: f64, most: f64| {
        let number = given.unwrap_or(default);
        match (0.0..=most).contains(&number) {
            true => Ok(number),
            false => Err(format!(
                "spec.allocation.{field}: {number} is not between 0 and {most}"
            )),
        }
    };
    let epsilon = within("epsilon", allocation.epsilon, 0.1, 1.0)?;
    let floor = within("floor", allocation.floor, 0.01, 1.0)?;
    let alpha = within("alpha", allocation.alpha, 1.0, ALPHA_MAX)?;
    let words = ["Fixed", "EpsilonGreedy", "Thompson", "UCB1", "LinUCB"];
    let strategy = allocation.strategy.as_str();
    let place = one_of("spec.allocation.strategy", Some(strategy), words)?;
    let given = allocation.features.as_deref().unwrap_or_default();
    if place == 4 {
        let strategy = BanditStrategy::LinUcb(alpha);
        return Ok((Allocation::Bandit { strategy, floor }, features(given)?));
    }
    if !given.is_empty() {
        return Err("spec.allocation.features: only LinUCB chooses by features".to_owned());
    }
    let strategy = match place {
        1 => BanditStrategy::EpsilonGreedy(epsilon),
        2 => BanditStrategy::Thompson,
        3 => BanditStrategy::Ucb1,
        _ => return Ok((Allocation::Fixed, Vec::new())),
    };
    Ok((Allocation::Bandit { strategy, floor }, Vec::new()))
}

/// Lets no metric of a bandit be a guardrail, for its variants are not compared: each has the requests that it has earned. What would be one unless it is said
/// otherwise is only looked at.
pub(super) fn roles_of_bandit(
    spec: &ExperimentSpec,
    metrics: &mut [PlannedMetric],
) -> Result<(), String> {
    let given = spec.metrics.iter().flatten();
    for (index, (given, metric)) in given.zip(metrics).enumerate() {
        if metric.role != MetricRole::Guardrail {
            continue;
        }
        if given.role.is_some() {
            return Err(format!(
                "spec.metrics[{index}].role: a bandit has no Guardrail, since its variants are not compared; Primary and Secondary are allowed"
            ));
        }
        metric.role = MetricRole::Secondary;
    }
    Ok(())
}

/// Refuses what is done by comparisons.
pub(super) fn rules_of_bandit(promotes: bool, stops_on_harm: bool) -> Result<(), String> {
    if promotes {
        return Err("spec.promotion.when: a bandit's variants are not compared, and it asks the better one more by itself; only Never is allowed".to_owned());
    }
    if stops_on_harm {
        return Err(
            "spec.promotion.onHarm: a bandit has no guardrails; only Wait is allowed".to_owned(),
        );
    }
    Ok(())
}

fn features(given: &[ExperimentFeature]) -> Result<Vec<PlannedFeature>, String> {
    if !(1..=FEATURES_MAX).contains(&given.len()) {
        return Err(format!(
            "spec.allocation.features: LinUCB chooses by 1 to {FEATURES_MAX} of them, and {} are there",
            given.len()
        ));
    }
    let mut planned: Vec<PlannedFeature> = Vec::new();
    for (index, feature) in given.iter().enumerate() {
        let (place, name) = (format!("spec.allocation.features[{index}]"), &feature.name);
        let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let is_name = (1..=FEATURE_NAME_BYTES_MAX).contains(&name.len())
            && name.bytes().all(is_inner)
            && name != CONSTANT;
        if !is_name {
            return Err(format!(
                "{place}.name: '{name}' is none; letters, digits, '-', '_' and '.' are, {FEATURE_NAME_BYTES_MAX} at most, but for {CONSTANT}"
            ));
        }
        if planned.iter().any(|other| other.name == *name) {
            return Err(format!("{place}.name: '{name}' is there twice"));
        }
        let place_of = ExperimentUnit {
            header: feature.header.clone(),
            cookie: None,
            field: feature.field.clone(),
            parameter: feature.parameter.clone(),
            input: feature.input.clone(),
        };
        planned.push(PlannedFeature {
            name: name.clone(),
            source: source(&place, &place_of)?,
        });
    }
    Ok(planned)
}
