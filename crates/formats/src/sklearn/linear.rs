//! Linear models.

use std::sync::Arc;

use coracle_estimators::{
    Choice, Classifier, Composed, Decision, Facet, InverseLink, Isotonic, Labels, LinearDeviation,
    LinearScorer, Link, OutOfBounds, Regressor, RowRule, Rule, TableFn,
};
use coracle_model::{LoadError, Method, Scorer, Width};
use coracle_tensor::Values;

use super::convert::Part;
use super::fitted::Fitted;
use super::labels::labels;
use super::svm;

/// Converts a logistic regression, with or without cross-validation.
pub(super) fn logistic(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let labels = labels(fitted)?;
    let link = logistic_link(fitted, labels.len())?;
    classifier(fitted, labels, Some(link))
}

/// Returns how a logistic regression's scores become probabilities: a matter of parameters and release.
fn logistic_link(fitted: &Fitted<'_>, n_classes: usize) -> Result<Link, LoadError> {
    let version = fitted.version;
    let per_class = if n_classes <= 2 {
        Link::Sigmoid
    } else {
        Link::NormalizedSigmoids
    };
    let joint = if n_classes <= 2 {
        Link::SymmetricSoftmax
    } else {
        Link::Softmax
    };
    // From 1.8 on the parameter is gone.
    if version.is_from(8) {
        return Ok(if n_classes <= 2 { per_class } else { joint });
    }
    let solver = fitted.text("solver")?;
    let solves_per_class = solver == "liblinear"
        || solver == "newton-cholesky" && version.is_from(2) && !version.is_from(6);
    // Up to 0.19 two classes were always apart.
    if n_classes <= 2 && fitted.version.is_up_to_zero(19) {
        return Ok(per_class);
    }
    match fitted.text("multi_class")?.as_str() {
        "ovr" | "warn" => Ok(per_class),
        "auto" | "deprecated" if n_classes <= 2 || solves_per_class => Ok(per_class),
        "auto" | "deprecated" | "multinomial" => Ok(joint),
        other => Err(fitted.unsupported(format!("multi_class '{other}' is not supported"))),
    }
}

/// Converts a ridge classifier, whose labels older releases keep in its label binarizer only.
pub(super) fn ridge_classifier(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let binarizer = fitted.part_in("_label_binarizer")?;
    // Before 1.0 several labels were learnt, and one of them answered.
    if fitted.version.is_from(0) && binarizer.text("y_type_")?.starts_with("multilabel") {
        return ridge_of_outputs(fitted);
    }
    let labels = labels(&binarizer)?;
    classifier(fitted, labels, None)
}

/// Converts a ridge classifier of several outputs, each of which is there or not.
fn ridge_of_outputs(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let spec = |error| fitted.spec(error);
    let (scorer, _) = scorer(fitted)?;
    let n_outputs = scorer.n_scores();
    let scores: Arc<dyn TableFn> = Arc::new(scorer);
    let above = RowRule::try_new(Rule::Above(0.0), n_outputs).map_err(spec)?;
    let above = Composed::try_new(Arc::clone(&scores), Arc::new(above)).map_err(spec)?;
    let labels = vec![Labels::new(Values::I64(vec![0, 1].into())); n_outputs];
    fitted.faceted(vec![
        Facet::class_table(Arc::new(above), labels).map_err(spec)?,
        Facet::table(Method::DecisionFunction, scores),
    ])
}

/// Converts a linear classifier fitted by stochastic gradient descent.
pub(super) fn sgd_classifier(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let labels = labels(fitted)?;
    let link = match (fitted.text("loss")?.as_str(), labels.len()) {
        ("log" | "log_loss", 2) => Some(Link::Sigmoid),
        ("log" | "log_loss", _) if fitted.version.is_from(9) => {
            Some(Link::NormalizedSigmoidsOrEven)
        }
        ("log" | "log_loss", _) => Some(Link::NormalizedSigmoids),
        ("modified_huber", _) => Some(Link::ModifiedHuber),
        // These have no probabilities; what they are fitted with does not show in a prediction.
        (
            "hinge"
            | "squared_hinge"
            | "perceptron"
            | "squared_error"
            | "squared_loss"
            | "huber"
            | "epsilon_insensitive"
            | "squared_epsilon_insensitive",
            _,
        ) => None,
        (loss, _) => return Err(fitted.unsupported(format!("loss '{loss}' is not supported"))),
    };
    classifier(fitted, labels, link)
}

fn classifier(fitted: &Fitted<'_>, labels: Labels, link: Option<Link>) -> Result<Part, LoadError> {
    let (scorer, _) = scorer(fitted)?;
    let facts = vec![("classes".to_owned(), labels.len().to_string())];
    let classifier = Classifier::try_new(Box::new(scorer), link, Decision::ScoreAboveZero, labels)
        .map_err(|error| fitted.malformed(error.to_string()))?;
    Ok(Part::new(classifier, facts))
}

/// Converts a linear regressor of one or several targets.
pub(super) fn regressor(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let (scorer, width) = scorer(fitted)?;
    let facts = vec![("outputs".to_owned(), scorer.n_scores().to_string())];
    Ok(Part::new(
        Regressor::new(Box::new(scorer), InverseLink::Identity, width),
        facts,
    ))
}

/// Converts BayesianRidge and ARDRegression: predictions, and their deviations beside them.
pub(super) fn bayesian(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let spec = |error| fitted.spec(error);
    // 0.18 knew no deviations.
    if !fitted.is_whole || fitted.version.is_up_to_zero(18) {
        return regressor(fitted);
    }
    let (scorer, _) = scorer(fitted)?;
    let n_features = fitted.n_features()?;
    // Up to 1.1 rows were scaled where training was, from 1.9 on they are centred, and between they were taken as they are.
    let normalizes = match fitted.attr("_normalize") {
        Some(_) => fitted.flag("_normalize")?,
        None => !fitted.version.is_from(0) && fitted.flag_or("normalize", false)?,
    };
    if normalizes && fitted.attr("X_offset_").is_none() {
        // Relevance determination did not keep it up to 0.22, so no deviations there.
        return regressor(fitted);
    }
    let (mut offsets, mut scales) = (vec![0.0; n_features], vec![1.0; n_features]);
    if normalizes || fitted.version.is_from(9) {
        offsets = per_feature(fitted, "X_offset_", n_features)?;
    }
    if normalizes {
        scales = per_feature(fitted, "X_scale_", n_features)?;
    }
    let is_kept = match fitted.short_class() {
        "ARDRegression" => {
            let threshold = fitted.number("threshold_lambda")?;
            let precisions = fitted.finite("lambda_", n_features)?.into_iter();
            precisions.map(|precision| precision < threshold).collect()
        }
        _ => vec![true; n_features],
    };
    let columns = offsets.into_iter().zip(scales).zip(is_kept).enumerate();
    let columns = columns.filter(|(_, (_, is_kept))| *is_kept);
    let columns = columns.map(|(column, ((offset, scale), _))| (column, offset, scale));
    let (_, covariance) = fitted.numbers("sigma_")?;
    let noise = 1.0 / fitted.number("alpha_")?;
    let deviation = LinearDeviation::try_new(n_features, columns.collect(), covariance, noise);
    fitted.faceted(vec![
        Facet::column(Method::Predict, Arc::new(scorer)).map_err(spec)?,
        Facet::column(Method::PredictStd, Arc::new(deviation.map_err(spec)?)).map_err(spec)?,
    ])
}

/// Reads a number for each feature, or one for all.
fn per_feature(fitted: &Fitted<'_>, name: &str, n_features: usize) -> Result<Vec<f64>, LoadError> {
    let values = fitted.flat(name)?;
    match values.as_slice() {
        [value] => Ok(vec![*value; n_features]),
        values if values.len() == n_features => Ok(values.to_vec()),
        _ => Err(fitted.malformed(format!("'{name}' is not a number per feature"))),
    }
}

/// Converts a linear classifier without probabilities.
pub(super) fn plain_classifier(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    classifier(fitted, labels(fitted)?, None)
}

/// Converts a generalised linear model: Poisson, gamma, Tweedie.
pub(super) fn generalized(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let is_tweedie = fitted.short_class() == "TweedieRegressor";
    let link = match is_tweedie {
        true => fitted.text("link")?,
        false => "log".to_owned(),
    };
    let inverse = match link.as_str() {
        "identity" => InverseLink::Identity,
        "log" => InverseLink::Exponential,
        // Up to 0 is the normal distribution and more extreme ones.
        "auto" if fitted.number("power")? <= 0.0 => InverseLink::Identity,
        "auto" => InverseLink::Exponential,
        other => return Err(fitted.unknown("link", other)),
    };
    let (scorer, width) = scorer(fitted)?;
    Ok(Part::new(
        Regressor::new(Box::new(scorer), inverse, width),
        vec![("link".to_owned(), link)],
    ))
}

/// Converts a one-class machine fitted by stochastic gradient descent.
pub(super) fn one_class(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let n_features = fitted.n_features()?;
    let offset = fitted.finite("offset_", 1)?;
    let offset = offset.first().copied().unwrap_or_default();
    let decision = LinearScorer::try_new(fitted.flat("coef_")?, vec![-offset], n_features)
        .map_err(|error| fitted.spec(error))?;
    svm::novelty(
        fitted,
        Arc::new(decision),
        offset,
        Choice::AtLeast(0.0),
        false,
    )
}

/// Converts a robust regression by random samples, which predicts as the estimator of its best sample.
pub(super) fn ransac(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let (estimator, component) = fitted.estimator_in("estimator_")?;
    let facets = Facet::delegated(None, &estimator).map_err(|error| fitted.spec(error))?;
    let only = facets
        .into_iter()
        .filter(|facet| facet.method() == Method::Predict);
    let mut part = fitted.faceted(only.collect())?;
    part.children.push(component);
    Ok(part)
}

/// Converts an isotonic regression.
pub(super) fn isotonic(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let function: Arc<dyn TableFn> = Arc::new(isotonic_function(fitted)?);
    let spec = |error| fitted.spec(error);
    fitted.faceted(vec![
        Facet::column(Method::Predict, Arc::clone(&function)).map_err(spec)?,
        Facet::column(Method::Transform, function).map_err(spec)?,
    ])
}

/// Reads the steps of an isotonic regression.
pub(super) fn isotonic_function(fitted: &Fitted<'_>) -> Result<Isotonic, LoadError> {
    let out_of_bounds = match fitted.text("out_of_bounds")?.as_str() {
        "nan" => OutOfBounds::Nan,
        "clip" => OutOfBounds::Clip,
        "raise" => OutOfBounds::Refuse,
        other => return Err(fitted.unknown("out_of_bounds", other)),
    };
    let (xs, ys) = match fitted.attr("X_thresholds_") {
        None if !fitted.version.is_from(0) => ("_necessary_X_", "_necessary_y_"),
        _ => ("X_thresholds_", "y_thresholds_"),
    };
    let (xs, ys) = (fitted.flat(xs)?, fitted.flat(ys)?);
    Isotonic::try_new(xs, ys, out_of_bounds).map_err(|error| fitted.spec(error))
}

/// Reads `coef_` and `intercept_`; the width is scalar where `coef_` has one dimension.
pub(super) fn scorer(fitted: &Fitted<'_>) -> Result<(LinearScorer, Width), LoadError> {
    let (shape, coefficients) = match fitted.array("coef_") {
        Ok(_) => fitted.numbers("coef_")?,
        Err(_not_dense) => {
            return Err(
                fitted.unsupported("'coef_' is not a dense array; call densify() before saving")
            );
        }
    };
    let (n_scores, n_features, width) = match shape.as_slice() {
        [n_features] => (1, *n_features, Width::Scalar),
        [n_scores, n_features] => (*n_scores, *n_features, Width::Columns(*n_scores)),
        other => return Err(fitted.malformed(format!("'coef_' has shape {other:?}"))),
    };
    let (_, mut intercepts) = fitted.numbers("intercept_")?;
    // A model fitted without intercept stores one zero for all scores.
    if intercepts.len() == 1 && n_scores > 1 {
        intercepts = intercepts.repeat(n_scores);
    }
    if intercepts.len() != n_scores || n_features != fitted.n_features()? {
        let message = format!(
            "'coef_' has shape {shape:?}, 'intercept_' {} elements",
            intercepts.len()
        );
        return Err(fitted.malformed(message));
    }
    let scorer = LinearScorer::try_new(coefficients, intercepts, n_features)
        .map_err(|error| fitted.malformed(error.to_string()))?;
    Ok((scorer, width))
}
