//! How an Experiment's variants are chosen.

use coracle_api::experiment::{
    ExperimentAllocation, ExperimentFeature, ExperimentSpec, ExperimentUnit,
};
use coracle_api::structural::Cause;
use coracle_serving::experiment::{
    Allocation, BanditStrategy, MetricRole, PlannedFeature, PlannedMetric,
};
use serde_json::json;

use super::{label, source};
use crate::controller::faults::{Faults, number, one_of};

/// The most features of a bandit.
const FEATURES_MAX: usize = 16;
/// What reports call the constant that is beside the features.
const CONSTANT: &str = "constant";
const ALPHA_MAX: f64 = 100.0;

/// Reads how variants are chosen, and by which features.
pub(super) fn allocation(
    allocation: Option<&ExperimentAllocation>,
) -> Result<(Allocation, Vec<PlannedFeature>), Cause> {
    let Some(allocation) = allocation else {
        return Ok((Allocation::Fixed, Vec::new()));
    };
    let within = |field: &str, given: Option<f64>, default: f64, most: f64| {
        let given = given.unwrap_or(default);
        let must = format!("between 0 and {most}");
        let is_good = (0.0..=most).contains(&given);
        number(&format!("spec.allocation.{field}"), given, (is_good, &must))
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
        return Err(Cause::forbidden(
            "spec.allocation.features",
            "only LinUCB chooses by features",
        ));
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
    faults: &mut Faults,
) {
    let given = spec.metrics.iter().flatten();
    for (index, (given, metric)) in given.zip(metrics).enumerate() {
        if metric.role != MetricRole::Guardrail {
            continue;
        }
        if given.role.is_some() {
            faults.keep::<()>(Err(Cause::forbidden(
                &format!("spec.metrics[{index}].role"),
                "a bandit has no Guardrail, since its variants are not compared; Primary and Secondary are allowed",
            )));
        }
        metric.role = MetricRole::Secondary;
    }
}

/// Refuses what is done by comparisons.
pub(super) fn rules_of_bandit((promotes, stops_on_harm): (bool, bool), faults: &mut Faults) {
    if promotes {
        faults.keep::<()>(Err(Cause::forbidden(
            "spec.promotion.when",
            "a bandit's variants are not compared, and it asks the better one more by itself; only Never is allowed",
        )));
    }
    if stops_on_harm {
        faults.keep::<()>(Err(Cause::forbidden(
            "spec.promotion.onHarm",
            "a bandit has no guardrails; only Wait is allowed",
        )));
    }
}

fn features(given: &[ExperimentFeature]) -> Result<Vec<PlannedFeature>, Cause> {
    let field = "spec.allocation.features";
    match given.len() {
        0 => {
            let why = format!("LinUCB chooses by 1 to {FEATURES_MAX} of them");
            return Err(Cause::required(field, &why));
        }
        n if n > FEATURES_MAX => return Err(Cause::too_many(field, n, FEATURES_MAX)),
        _ => {}
    }
    let mut planned: Vec<PlannedFeature> = Vec::new();
    for (index, feature) in given.iter().enumerate() {
        let (place, name) = (format!("{field}[{index}]"), &feature.name);
        let of_name = format!("{place}.name");
        label(&of_name, name)?;
        if name == CONSTANT {
            let why = format!("must not be {CONSTANT}, which is beside all features");
            return Err(Cause::invalid(&of_name, &json!(name), &why));
        }
        if planned.iter().any(|other| other.name == *name) {
            return Err(Cause::duplicate(&of_name, &json!(name)));
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
