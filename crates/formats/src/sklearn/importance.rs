//! How much each feature counts in a fitted estimator: what SelectFromModel selects by.

use coracle_model::LoadError;

use super::boosted::{self, Importances};
use super::fitted::Fitted;
use super::{pipeline, svm};
use crate::numbers::{from_count, single_sum, to_single};

/// What tells how much each feature counts.
pub(super) struct Source<'g> {
    model: Fitted<'g>,
    /// The attribute that is looked at; none where coefficients go before importances.
    attribute: Option<String>,
}

impl<'g> Source<'g> {
    /// Follows `importance_getter`, such as `auto` or `named_steps.clf.coef_`, from `model`.
    pub(super) fn find(model: &Fitted<'g>, getter: &str) -> Result<Self, LoadError> {
        if getter == "auto" {
            return Ok(Self {
                model: model.clone(),
                attribute: None,
            });
        }
        let mut names: Vec<&str> = getter.split('.').collect();
        let attribute = names.pop().unwrap_or_default();
        let mut at = model.clone();
        let mut names = names.into_iter();
        while let Some(name) = names.next() {
            at = match name {
                "named_steps" if at.attr("steps").is_some() => step(&at, names.next())?,
                name => at.part_in(name)?,
            };
        }
        Ok(Self {
            model: at,
            attribute: Some(attribute.to_owned()),
        })
    }

    /// Returns the importance of each feature: the norm of its coefficients, or how much its splits gain.
    pub(super) fn importances(
        &self,
        n_features: usize,
        norm_order: f64,
    ) -> Result<Vec<f64>, LoadError> {
        let model = &self.model;
        match self.attribute.as_deref() {
            None if model.attr("coef_").is_some() || svm::is_linear(model) => {
                norms(model, "coef_", n_features, norm_order)
            }
            None | Some("feature_importances_") => gained(model, n_features),
            Some(name) => norms(model, name, n_features, norm_order),
        }
    }
}

/// Returns the step of a pipeline that has this name.
fn step<'g>(pipeline: &Fitted<'g>, name: Option<&str>) -> Result<Fitted<'g>, LoadError> {
    let name = name.unwrap_or_default();
    let steps = pipeline::named_steps(pipeline)?;
    let found = steps.into_iter().find(|(step, _)| step == name);
    let (_, id) = found.ok_or_else(|| {
        pipeline.malformed(format!(
            "'importance_getter' names the step '{name}', which is not there"
        ))
    })?;
    pipeline.part(id, &format!("step '{name}'"))
}

fn norms(
    model: &Fitted<'_>,
    name: &str,
    n_features: usize,
    norm_order: f64,
) -> Result<Vec<f64>, LoadError> {
    let (shape, values) = match name {
        "coef_" if svm::is_linear(model) => svm::coefficients(model)?,
        _ => model.numbers(name)?,
    };
    let width = shape.last().copied().unwrap_or_default();
    if width != n_features || width == 0 || shape.len() > 2 {
        return Err(model.malformed(format!("'{name}' has shape {shape:?}")));
    }
    let rows: Vec<&[f64]> = values.chunks_exact(width).collect();
    let column = |index: usize| rows.iter().filter_map(move |row| row.get(index));
    Ok((0..n_features)
        .map(|index| match (shape.len(), norm_order) {
            (1, _) => column(index).map(|value| value.abs()).sum(),
            (_, 1.0) => column(index).map(|value| value.abs()).sum(),
            (_, 2.0) => column(index).map(|value| value * value).sum::<f64>().sqrt(),
            (_, f64::INFINITY) => column(index).map(|v| v.abs()).fold(0.0, f64::max),
            (_, f64::NEG_INFINITY) => column(index).map(|v| v.abs()).fold(f64::INFINITY, f64::min),
            (_, order) => {
                let sum: f64 = column(index).map(|value| value.abs().powf(order)).sum();
                sum.powf(1.0 / order)
            }
        })
        .collect())
}

fn gained(model: &Fitted<'_>, n_features: usize) -> Result<Vec<f64>, LoadError> {
    if boosted::is_known(model.class()) {
        let values = match boosted::importances(model, n_features)? {
            Importances::Singles(values) => values.into_iter().map(f64::from).collect(),
            Importances::Doubles(values) => values,
        };
        return match values.len() == n_features {
            true => Ok(values.into_iter().map(f64::abs).collect()),
            false => Err(model.malformed("the importance of another number of features")),
        };
    }
    match model.short_class() {
        "DecisionTreeClassifier"
        | "DecisionTreeRegressor"
        | "ExtraTreeClassifier"
        | "ExtraTreeRegressor" => Ok(over_sum(gains(model, n_features)?)),
        "RandomForestClassifier"
        | "RandomForestRegressor"
        | "ExtraTreesClassifier"
        | "ExtraTreesRegressor" => {
            let members = model.list("estimators_")?.to_vec();
            ensemble(model, &members, n_features, true)
        }
        "GradientBoostingClassifier" | "GradientBoostingRegressor" => {
            let members = model.array("estimators_")?.objects().unwrap_or_default();
            ensemble(model, members, n_features, false)
        }
        "AdaBoostClassifier" | "AdaBoostRegressor" => weighted(model, n_features),
        class => Err(model.unsupported(format!(
            "the importance of features to a {class} is not supported"
        ))),
    }
}

/// Returns the weighted mean of the importances to the members.
fn weighted(model: &Fitted<'_>, n_features: usize) -> Result<Vec<f64>, LoadError> {
    let members = model.list("estimators_")?;
    let weights = model.flat("estimator_weights_")?;
    let total: f64 = weights.iter().sum();
    let mut sums = vec![0.0; n_features];
    for (index, (&id, weight)) in members.iter().zip(&weights).enumerate() {
        let member = model.part(id, &format!("estimators_[{index}]"))?;
        let own = gained(&member, n_features)?;
        sums.iter_mut()
            .zip(own)
            .for_each(|(sum, own)| *sum += weight * own);
    }
    sums.iter_mut().for_each(|sum| *sum /= total);
    Ok(sums)
}

fn ensemble(
    model: &Fitted<'_>,
    members: &[coracle_pickle::NodeId],
    n_features: usize,
    normalizes_each: bool,
) -> Result<Vec<f64>, LoadError> {
    let mut sums = vec![0.0; n_features];
    let mut n_trees = 0_u32;
    for (index, &id) in members.iter().enumerate() {
        let tree = model.part(id, &format!("estimators_[{index}]"))?;
        let gains = gains(&tree, n_features)?;
        // A tree of one leaf has no say.
        if gains.iter().all(|&gain| gain == 0.0) {
            continue;
        }
        let gains = if normalizes_each {
            over_sum(gains)
        } else {
            gains
        };
        sums.iter_mut()
            .zip(gains)
            .for_each(|(sum, gain)| *sum += gain);
        n_trees = n_trees.saturating_add(1);
    }
    let n_trees = f64::from(n_trees.max(1));
    sums.iter_mut().for_each(|sum| *sum /= n_trees);
    Ok(over_sum(sums))
}

fn over_sum(mut values: Vec<f64>) -> Vec<f64> {
    let sum: f64 = values.iter().sum();
    if sum > 0.0 {
        values.iter_mut().for_each(|value| *value /= sum);
    }
    values
}

/// Returns how much each feature's splits lower the impurity, over the weight of the root.
fn gains(estimator: &Fitted<'_>, n_features: usize) -> Result<Vec<f64>, LoadError> {
    let tree = estimator.part_in("tree_")?;
    let nodes = tree.array("nodes")?;
    let wrong = || tree.malformed("nodes lack a field");
    let integers = |name: &str| {
        let column = nodes.field(name).and_then(|column| column.to_i64s());
        column.ok_or_else(wrong)
    };
    let numbers = |name: &str| {
        let column = nodes.field(name).and_then(|column| column.to_f64s());
        column.ok_or_else(wrong)
    };
    let (left, right) = (integers("left_child")?, integers("right_child")?);
    let features = integers("feature")?;
    let impurity = numbers("impurity")?;
    let weight = numbers("weighted_n_node_samples")?;
    let weighted = |index: usize| Some(impurity.get(index)? * weight.get(index)?);
    let mut gains = vec![0.0; n_features];
    for (index, ((&left, &right), &feature)) in left.iter().zip(&right).zip(&features).enumerate() {
        let (Ok(left), Ok(right)) = (usize::try_from(left), usize::try_from(right)) else {
            continue;
        };
        let gain = weighted(index)
            .zip(weighted(left))
            .zip(weighted(right))
            .map(|((own, left), right)| own - left - right);
        let target = usize::try_from(feature).ok().and_then(|f| gains.get_mut(f));
        let (Some(gain), Some(target)) = (gain, target) else {
            return Err(tree.malformed(format!("node {index} is out of range")));
        };
        *target += gain;
    }
    let root = weight.first().copied().unwrap_or(1.0);
    gains.iter_mut().for_each(|gain| *gain /= root);
    Ok(gains)
}

/// Returns the least importance that stays.
pub(super) fn threshold(
    selector: &Fitted<'_>,
    model: &Fitted<'_>,
    source: &Source<'_>,
    importances: &[f64],
) -> Result<f64, LoadError> {
    let text = if selector.is_none("threshold") {
        match is_sparse_by_penalty(model) {
            true => return Ok(1e-5),
            false => "mean".to_owned(),
        }
    } else {
        match selector.text_if("threshold") {
            Some(text) => text,
            None => return selector.number("threshold"),
        }
    };
    let (scale, reference) = match text.split_once('*') {
        Some((scale, reference)) => (scale.trim().parse::<f64>().ok(), reference.trim()),
        None => (Some(1.0), text.as_str()),
    };
    let scale = scale.ok_or_else(|| selector.unknown("threshold", &text))?;
    let reference = match reference {
        "mean" if is_single(&source.model) => single_mean(importances),
        "mean" => mean(importances),
        "median" => median(importances),
        _ => return Err(selector.unknown("threshold", &text)),
    };
    match is_single(&source.model) {
        true => Ok(to_single(scale * reference).into()),
        false => Ok(scale * reference),
    }
}

/// Tells whether a library tells importances in single precision, so that numpy goes on in it.
fn is_single(model: &Fitted<'_>) -> bool {
    model.class().starts_with("xgboost.")
}

fn single_mean(importances: &[f64]) -> f64 {
    let singles: Vec<f32> = importances.iter().map(|&value| to_single(value)).collect();
    to_single(f64::from(single_sum(&singles)) / from_count(singles.len().max(1))).into()
}

/// Tells whether the estimator's penalty makes coefficients zero.
fn is_sparse_by_penalty(model: &Fitted<'_>) -> bool {
    let is_one = |name: &str| {
        let ratio = model.attr(name).and_then(|id| model.graph.float(id));
        ratio.is_some_and(|ratio| (ratio - 1.0).abs() <= 1e-5)
    };
    let class = model.short_class();
    model.text_if("penalty").as_deref() == Some("l1")
        || class.contains("Lasso")
        || class == "ElasticNet" && is_one("l1_ratio")
        || class == "ElasticNetCV" && is_one("l1_ratio_")
        || class == "LogisticRegression" && model.version.is_from(8) && is_one("l1_ratio")
}

#[expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "a number of features"
)]
fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
    let upper = at(sorted.len() / 2);
    match sorted.len().is_multiple_of(2) {
        true => (at((sorted.len() / 2).saturating_sub(1)) + upper) / 2.0,
        false => upper,
    }
}
