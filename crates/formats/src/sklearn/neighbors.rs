//! Nearest neighbours.

use std::sync::Arc;

use coracle_estimators::{
    Choice, Facet, Labels, LocalOutliers, Metric, NeighborAnswer, NeighborWeights, Neighborhood,
    Neighbors, Outlier, Padded, Reach, SideBySide, TableFn,
};
use coracle_model::{LoadError, Method};
use coracle_pickle::{DTypeKind, Graph, Node, NodeId};
use coracle_tensor::Values;

use super::arrays::Matrix;
use super::convert::Part;
use super::fitted::Fitted;
use super::labels::{labels, labels_of_outputs};
use super::{manifold, svm};

/// Reads the metric that distances were computed in.
fn metric(fitted: &Fitted<'_>) -> Result<Metric, LoadError> {
    let name = fitted
        .text_if("effective_metric_")
        .ok_or_else(|| fitted.unsupported("a metric that is a function is not supported"))?;
    let parameters = fitted.attr("effective_metric_params_");
    let parameter = |key: &str| {
        let id = fitted.graph.dict_get(parameters?, key)?;
        (!matches!(fitted.graph.node(id), Node::None)).then_some(id)
    };
    let numbers = |key: &str| {
        let id = parameter(key)
            .ok_or_else(|| fitted.unsupported(format!("metric '{name}' without '{key}'")))?;
        let wrong = || {
            let message = format!("parameter '{key}' of metric '{name}' is no list of numbers");
            fitted.malformed(message)
        };
        array_like(fitted.graph, id)
            .filter(|(shape, _)| shape.len() == 1)
            .map(|(_, numbers)| numbers)
            .ok_or_else(wrong)
    };
    match name.as_str() {
        "minkowski" | "p" | "wminkowski" => {
            let p = parameter("p")
                .and_then(|id| fitted.graph.float(id))
                .unwrap_or(2.0);
            match parameter("w") {
                Some(_) => Ok(Metric::WeightedMinkowski {
                    p,
                    weights: numbers("w")?,
                }),
                None => Ok(Metric::minkowski(p)),
            }
        }
        "mahalanobis" => mahalanobis(
            fitted,
            fitted.n_features()?,
            parameter("VI"),
            parameter("V"),
        ),
        "seuclidean" => Ok(Metric::StandardizedEuclidean {
            variances: numbers("V")?,
        }),
        "braycurtis" if is_by_scipy(fitted)? => Ok(Metric::BrayCurtisOfSums),
        name => Metric::named(name).ok_or_else(|| fitted.unknown("metric", name)),
    }
}

/// Tells whether SciPy computes the distances of what is asked as doubles: by brute force up to 1.0; later where the data are of another type.
fn is_by_scipy(fitted: &Fitted<'_>) -> Result<bool, LoadError> {
    let data = fitted
        .attr("_fit_X")
        .and_then(|data| fitted.graph.array(data));
    let is_double = data.is_some_and(|data| {
        let dtype = data.dtype();
        (dtype.kind, dtype.item_size) == (DTypeKind::Float, 8)
    });
    Ok(is_by_brute_force(fitted)? && !(fitted.version.is_from(1) && is_double))
}

fn is_by_brute_force(fitted: &Fitted<'_>) -> Result<bool, LoadError> {
    Ok(fitted.text_or("_fit_method", "brute")? == "brute")
}

/// Returns the shape and the numbers of what numpy makes an array of: one, a list of numbers, or a list of such lists.
fn array_like(graph: &Graph, id: NodeId) -> Option<(Vec<usize>, Vec<f64>)> {
    if let Some(array) = graph.array(id) {
        return Some((array.shape().to_vec(), array.to_f64s()?));
    }
    let items = graph.list(id)?;
    let row = |items: &[NodeId]| items.iter().map(|&item| graph.float(item)).collect();
    if let Some(numbers) = row(items) {
        return Some((vec![items.len()], numbers));
    }
    let rows = items.iter().map(|&item| row(graph.list(item)?));
    let rows: Vec<Vec<f64>> = rows.collect::<Option<_>>()?;
    let width = rows.first()?.len();
    let is_table = rows.iter().all(|row| row.len() == width);
    is_table.then(|| (vec![rows.len(), width], rows.concat()))
}

/// Returns the metric of a covariance, or of its inverse.
fn mahalanobis(
    fitted: &Fitted<'_>,
    n_features: usize,
    inverse: Option<NodeId>,
    covariance: Option<NodeId>,
) -> Result<Metric, LoadError> {
    let square = |id: NodeId| {
        let (shape, numbers) = array_like(fitted.graph, id)?;
        // Before the inversion, which takes the cube of the size.
        (shape == [n_features, n_features]).then_some((numbers, n_features))
    };
    let wrong = || {
        let message = format!("the metric's covariance is no matrix of {n_features} columns");
        fitted.malformed(format!("{message} and as many rows"))
    };
    let precision = match (inverse, covariance) {
        (Some(inverse), _) => square(inverse).ok_or_else(wrong)?.0,
        (None, Some(covariance)) => {
            let (covariance, n) = square(covariance).ok_or_else(wrong)?;
            let inverted = coracle_estimators::inverse(&covariance, n);
            inverted.map_err(|error| fitted.spec(error))?.0
        }
        (None, None) => {
            return Err(fitted.unsupported("metric 'mahalanobis' without 'VI' or 'V'"));
        }
    };
    Ok(Metric::Mahalanobis { precision })
}

/// Reads the training data, which files of trees hold beside the tree.
pub(super) fn neighborhood(fitted: &Fitted<'_>, reach: Reach) -> Result<Neighborhood, LoadError> {
    let data: Matrix = fitted.matrix_or_sparse("_fit_X")?;
    let n_features = fitted.n_features()?;
    let metric = metric(fitted)?;
    let is_sound = |value: &f64| value.is_finite() || value.is_nan() && metric.accepts_missing();
    if data.n_columns != n_features || !data.values.iter().all(is_sound) {
        return Err(fitted.malformed("'_fit_X' has another width, or holds NaN or infinity"));
    }
    let is_brute = is_by_brute_force(fitted)?;
    let is_expanded = is_brute && matches!(metric, Metric::Euclidean | Metric::SquaredEuclidean);
    let neighborhood = Neighborhood::try_new(data.values, n_features, metric, reach, is_expanded)
        .map_err(|error| fitted.spec(error))?;
    Ok(match is_brute {
        true => neighborhood.by_brute_force(),
        false => neighborhood,
    })
}

fn weights(fitted: &Fitted<'_>) -> Result<NeighborWeights, LoadError> {
    if fitted.is_none("weights") {
        return Ok(NeighborWeights::Uniform);
    }
    match fitted.text_if("weights").as_deref() {
        Some("uniform") => Ok(NeighborWeights::Uniform),
        Some("distance") => Ok(NeighborWeights::Distance),
        Some(other) => Err(fitted.unknown("weights", other)),
        None => Err(fitted.unsupported("weights that are a function are not supported")),
    }
}

pub(super) fn nearest(fitted: &Fitted<'_>) -> Result<Reach, LoadError> {
    fitted.count("n_neighbors").map(Reach::Nearest)
}

fn facts(neighborhood: &Neighborhood) -> Vec<(String, String)> {
    vec![("rows".to_owned(), neighborhood.n_rows().to_string())]
}

/// Converts KNeighborsClassifier.
pub(super) fn classifier(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let neighborhood = neighborhood(fitted, nearest(fitted)?)?;
    if let Some(labels) = labels_of_outputs(fitted)? {
        let outputs = labels.into_iter().map(|labels| (labels, Outlier::Refuse));
        return by_shares_of_outputs(fitted, &neighborhood, outputs.collect());
    }
    let labels = labels(fitted)?;
    by_shares(fitted, neighborhood, labels, Outlier::Refuse)
}

/// Converts RadiusNeighborsClassifier.
pub(super) fn radius_classifier(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let neighborhood = neighborhood(fitted, Reach::Within(fitted.number("radius")?))?;
    let Some(outputs) = labels_of_outputs(fitted)? else {
        let labels = labels(fitted)?;
        let label = outlier_labels(fitted, 1)?;
        let label = label.as_ref().and_then(|labels| labels.first());
        let (labels, outlier) = outlier(fitted, labels, label)?;
        return by_shares(fitted, neighborhood, labels, outlier);
    };
    let given = outlier_labels(fitted, outputs.len())?;
    let outputs = outputs.into_iter().enumerate().map(|(output, labels)| {
        let label = given.as_ref().and_then(|given| given.get(output));
        outlier(fitted, labels, label)
    });
    let outputs: Result<Vec<_>, LoadError> = outputs.collect();
    by_shares_of_outputs(fitted, &neighborhood, outputs?)
}

/// Reads the label that rows without neighbours get in each output; `None` where they are refused.
fn outlier_labels(fitted: &Fitted<'_>, n_outputs: usize) -> Result<Option<Vec<Values>>, LoadError> {
    let is_older = fitted.version.is_up_to_zero(21);
    let name = match is_older {
        true => "outlier_label",
        false => "outlier_label_",
    };
    if fitted.is_none(name) {
        return Ok(None);
    }
    let given = fitted.require(name)?;
    if is_older {
        return Ok(Some(vec![outlier_label(fitted, given)?; n_outputs]));
    }
    let each = |ids: &[NodeId]| {
        ids.iter()
            .map(|&id| outlier_label(fitted, id))
            .collect::<Result<Vec<_>, _>>()
    };
    let labels: Vec<Values> = match fitted.graph.array(given) {
        // None is of numbers alone: scikit-learn takes each of those for a list, and refuses it.
        Some(array) => match (array.objects(), array.to_strings()) {
            (Some(ids), _) => each(ids)?,
            (None, Some(texts)) => texts.iter().map(|text| text_label(text)).collect(),
            (None, None) => return Err(unknown_label(fitted)),
        },
        None => each(fitted.list(name)?)?,
    };
    match labels.len() == n_outputs {
        true => Ok(Some(labels)),
        false => Err(fitted.malformed("'outlier_label_' is not a label per output")),
    }
}

fn text_label(text: &str) -> Values {
    Values::Bytes([text].into_iter().collect())
}

fn unknown_label(fitted: &Fitted<'_>) -> LoadError {
    fitted.unsupported("'outlier_label_' is no text or number")
}

fn outlier_label(fitted: &Fitted<'_>, id: NodeId) -> Result<Values, LoadError> {
    match (fitted.graph.string(id), fitted.graph.float(id)) {
        (Some(text), _) => Ok(text_label(&text)),
        (None, Some(number)) => Ok(Values::F64(vec![number].into())),
        (None, None) => Err(unknown_label(fitted)),
    }
}

/// Returns the labels of an output and what rows without neighbours get: a class, or a further label after the classes.
fn outlier(
    fitted: &Fitted<'_>,
    labels: Labels,
    label: Option<&Values>,
) -> Result<(Labels, Outlier), LoadError> {
    let is_older = fitted.version.is_up_to_zero(21);
    let Some(values) = label else {
        return Ok((labels, Outlier::Refuse));
    };
    let at = labels
        .indices_of(values)
        .and_then(|found| found.first().copied());
    let at = at.and_then(|at| (0..labels.len()).find(|&class| super::numbers::exact(class) == at));
    match at {
        Some(class) => Ok((labels, Outlier::Class(class))),
        None => match with_label(&labels, values) {
            Some(labels) => Ok((labels, Outlier::Beyond)),
            // There a label that does not fit failed when it was asked for.
            None if is_older => Ok((labels, Outlier::Refuse)),
            None => Err(fitted.malformed("'outlier_label_' is of another kind than the classes")),
        },
    }
}

/// Returns the labels and one more, in their datatype.
fn with_label(labels: &Labels, label: &Values) -> Option<Labels> {
    let added = match (labels.values(), label) {
        (Values::Bytes(_), Values::Bytes(_)) => label.clone(),
        (Values::F64(_), Values::F64(_)) => label.clone(),
        (Values::I64(_) | Values::I32(_), Values::F64(number)) => {
            let number = number.first().copied()?;
            let label = crate::document::whole(number.abs())?;
            let label = i32::try_from(label).ok()?;
            let label = if number < 0.0 {
                label.checked_neg()?
            } else {
                label
            };
            match labels.values() {
                Values::I64(_) => Values::I64(vec![i64::from(label)].into()),
                _ => Values::I32(vec![label].into()),
            }
        }
        _ => return None,
    };
    Labels::joined(vec![labels.clone(), Labels::new(added)])
}

/// Returns the number of classes; the label of rows without neighbours, if it is no class, comes after them.
fn n_classes(labels: &Labels, outlier: Outlier) -> usize {
    match outlier {
        Outlier::Beyond => labels.len().saturating_sub(1),
        _ => labels.len(),
    }
}

fn by_shares(
    fitted: &Fitted<'_>,
    neighborhood: Neighborhood,
    labels: Labels,
    outlier: Outlier,
) -> Result<Part, LoadError> {
    let spec = |error| fitted.spec(error);
    let n_classes = n_classes(&labels, outlier);
    let classes = fitted.counts("_y")?;
    let weights = weights(fitted)?;
    let function = |answer: NeighborAnswer| -> Result<Arc<dyn TableFn>, LoadError> {
        let neighbors = Neighbors::try_new(neighborhood.clone(), weights, answer);
        Ok(Arc::new(neighbors.map_err(spec)?))
    };
    let class = function(NeighborAnswer::Class {
        classes: classes.clone(),
        n_classes,
        outlier,
    })?;
    let shares = function(NeighborAnswer::Shares {
        classes,
        n_classes,
        outlier,
    })?;
    let mut facets = vec![Facet::classes(class, labels, Choice::Index).map_err(spec)?];
    let has_radius = fitted.short_class() == "RadiusNeighborsClassifier";
    if !(has_radius && fitted.version.is_up_to_zero(21)) {
        facets.push(Facet::table(Method::PredictProba, shares));
    }
    if !has_radius {
        facets.extend(manifold::lists_beside(fitted, &neighborhood)?);
    }
    let part = fitted.faceted(facets)?;
    Ok(Part {
        facts: facts(&neighborhood),
        ..part
    })
}

/// Returns a classifier of several outputs: the neighbours are asked for each.
fn by_shares_of_outputs(
    fitted: &Fitted<'_>,
    neighborhood: &Neighborhood,
    outputs: Vec<(Labels, Outlier)>,
) -> Result<Part, LoadError> {
    let spec = |error| fitted.spec(error);
    let weights = weights(fitted)?;
    let all = fitted.matrix("_y")?;
    if all.n_columns != outputs.len() {
        return Err(fitted.malformed("'_y' has another width than there are outputs"));
    }
    let (mut classes, mut shares): (Vec<Arc<dyn TableFn>>, Vec<Arc<dyn TableFn>>) =
        Default::default();
    for (output, (labels, outlier)) in outputs.iter().enumerate() {
        let own = all
            .rows()
            .filter_map(|row| crate::document::whole(*row.get(output)?));
        let own: Vec<usize> = own.collect();
        let (n_classes, outlier) = (n_classes(labels, *outlier), *outlier);
        let class = NeighborAnswer::Class {
            classes: own.clone(),
            n_classes,
            outlier,
        };
        let share = NeighborAnswer::Shares {
            classes: own,
            n_classes,
            outlier,
        };
        for (answer, functions) in [(class, &mut classes), (share, &mut shares)] {
            let function = Neighbors::try_new(neighborhood.clone(), weights, answer);
            functions.push(Arc::new(function.map_err(spec)?));
        }
    }
    let classes = Arc::new(SideBySide::try_new(classes).map_err(spec)?);
    let shares = Padded::try_new(shares).map_err(spec)?;
    let shape = shares.shape();
    let labels = outputs.into_iter().map(|(labels, _)| labels).collect();
    let mut facets = vec![Facet::class_table(classes, labels).map_err(spec)?];
    let has_radius = fitted.short_class() == "RadiusNeighborsClassifier";
    if !(has_radius && fitted.version.is_up_to_zero(21)) {
        facets.push(Facet::outputs(Method::PredictProba, Arc::new(shares), shape).map_err(spec)?);
    }
    if !has_radius {
        facets.extend(manifold::lists_beside(fitted, neighborhood)?);
    }
    let part = fitted.faceted(facets)?;
    Ok(Part {
        facts: facts(neighborhood),
        ..part
    })
}

/// Converts KNeighborsRegressor.
pub(super) fn regressor(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let neighborhood = neighborhood(fitted, nearest(fitted)?)?;
    let lists = manifold::lists_beside(fitted, &neighborhood)?;
    by_mean(fitted, neighborhood, lists)
}

/// Converts RadiusNeighborsRegressor.
pub(super) fn radius_regressor(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let neighborhood = neighborhood(fitted, Reach::Within(fitted.number("radius")?))?;
    by_mean(fitted, neighborhood, Vec::new())
}

/// Returns a regressor, with what it answers `beside` its predictions.
fn by_mean(
    fitted: &Fitted<'_>,
    neighborhood: Neighborhood,
    beside: Vec<Facet>,
) -> Result<Part, LoadError> {
    let (shape, targets) = fitted.numbers("_y")?;
    let (n_targets, is_flat) = match shape.as_slice() {
        [_] => (1, true),
        [_, n_targets] => (*n_targets, false),
        other => return Err(fitted.malformed(format!("'_y' has shape {other:?}"))),
    };
    let answer = NeighborAnswer::Mean { targets, n_targets };
    let facts = facts(&neighborhood);
    let neighbors = Neighbors::try_new(neighborhood, weights(fitted)?, answer);
    let neighbors = Arc::new(neighbors.map_err(|error| fitted.spec(error))?);
    let facet = match is_flat {
        true => Facet::column(Method::Predict, neighbors).map_err(|error| fitted.spec(error))?,
        false => Facet::table(Method::Predict, neighbors),
    };
    let mut facets = vec![facet];
    facets.extend(beside);
    let part = fitted.faceted(facets)?;
    Ok(Part { facts, ..part })
}

/// Converts LocalOutlierFactor for new rows (`novelty=True`).
pub(super) fn local_outliers(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    if !fitted.flag("novelty")? {
        return Err(fitted.unsupported("without novelty=True it has no answers for new rows"));
    }
    let k = fitted.count("n_neighbors_")?;
    let neighborhood = neighborhood(fitted, Reach::Nearest(k))?;
    let lists = manifold::lists_beside(fitted, &neighborhood)?;
    let distances = fitted.matrix("_distances_fit_X_")?;
    let last = k.checked_sub(1).filter(|&last| last < distances.n_columns);
    let last = last.ok_or_else(|| fitted.malformed("'_distances_fit_X_' is too narrow"))?;
    let reaches = distances
        .rows()
        .filter_map(|row| row.get(last).copied())
        .collect();
    let outliers = LocalOutliers::try_new(neighborhood, fitted.flat("_lrd")?, reaches);
    let scores = Arc::new(outliers.map_err(|error| fitted.spec(error))?);
    let mut facets = svm::novelty_facets(fitted, scores, fitted.number("offset_")?, 0.0)?;
    facets.extend(lists);
    fitted.faceted(facets)
}
