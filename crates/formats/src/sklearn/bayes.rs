//! Naive Bayes and other classifiers by log-probabilities of classes.

use std::sync::Arc;

use coracle_estimators::{
    CategoryScores, Choice, Composed, Facet, Factor, GaussianSpec, Gaussians, Labels, LinearScorer,
    LogNormalized, LogSum, Mapped, Pointwise, RowOperation, Rowwise, TableFn,
};
use coracle_model::{Accepts, LoadError, Method};

use super::convert::Part;
use super::fitted::Fitted;
use super::labels::labels;

/// Puts a classifier together from the joint log-probabilities of its classes.
pub(super) fn by_joint(
    fitted: &Fitted<'_>,
    joint: Arc<dyn TableFn>,
    labels: Labels,
) -> Result<Part, LoadError> {
    let facts = vec![("classes".to_owned(), labels.len().to_string())];
    let shares: Arc<dyn TableFn> = Arc::new(LogNormalized::new(Arc::clone(&joint), LogSum::Shares));
    let probabilities = Arc::new(Mapped::new(Arc::clone(&shares), Pointwise::Exp));
    let predict = Facet::classes(joint, labels, Choice::FirstLargest);
    let part = fitted.faceted(vec![
        predict.map_err(|error| fitted.spec(error))?,
        Facet::table(Method::PredictProba, probabilities),
        Facet::table(Method::PredictLogProba, shares),
    ])?;
    Ok(Part { facts, ..part })
}

/// Converts GaussianNB.
pub(super) fn gaussian(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let labels = labels(fitted)?;
    let n_features = fitted.n_features()?;
    let means = fitted.matrix_of("theta_", n_features)?;
    let variances = match fitted.attr("var_") {
        Some(_) => fitted.matrix_of("var_", n_features)?,
        None => fitted.matrix_of("sigma_", n_features)?,
    };
    let priors = fitted.finite("class_prior_", labels.len())?;
    let constants = variances.rows().zip(priors).map(|(variances, prior)| {
        let logarithms = variances
            .iter()
            .map(|v| (2.0 * std::f64::consts::PI * v).ln());
        prior.ln() - 0.5 * logarithms.sum::<f64>()
    });
    let spec = GaussianSpec {
        n_features,
        means: means.values,
        constants: constants.collect(),
        factors: variances
            .rows()
            .map(|row| Factor::Diagonal(row.iter().map(|v| 1.0 / v.sqrt()).collect()))
            .collect(),
        scale: -0.5,
    };
    let joint = Gaussians::try_new(spec).map_err(|error| fitted.spec(error))?;
    by_joint(fitted, Arc::new(joint), labels)
}

/// Converts MultinomialNB and ComplementNB.
pub(super) fn multinomial(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let labels = labels(fitted)?;
    let n_features = fitted.n_features()?;
    let weights = fitted.matrix_of("feature_log_prob_", n_features)?;
    let has_prior = fitted.short_class() == "MultinomialNB" || labels.len() == 1;
    let priors = match has_prior {
        true => fitted.vector("class_log_prior_", labels.len())?,
        false => vec![0.0; labels.len()],
    };
    let joint = LinearScorer::try_new(weights.values, priors, n_features);
    by_joint(
        fitted,
        Arc::new(joint.map_err(|error| fitted.spec(error))?),
        labels,
    )
}

/// Converts BernoulliNB.
pub(super) fn bernoulli(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let labels = labels(fitted)?;
    let n_features = fitted.n_features()?;
    let present = fitted.matrix_of("feature_log_prob_", n_features)?;
    let priors = fitted.vector("class_log_prior_", labels.len())?;
    let absent = |present: &f64| (1.0 - present.exp()).ln();
    let sums = present
        .rows()
        .map(|row| row.iter().map(absent).sum::<f64>());
    let intercepts = priors.iter().zip(sums).map(|(prior, sum)| prior + sum);
    let joint = LinearScorer::try_new(
        present
            .values
            .iter()
            .map(|value| value - absent(value))
            .collect(),
        intercepts.collect(),
        n_features,
    );
    let joint: Arc<dyn TableFn> = Arc::new(joint.map_err(|error| fitted.spec(error))?);
    if fitted.is_none("binarize") {
        return by_joint(fitted, joint, labels);
    }
    let threshold = RowOperation::Binarize(fitted.number("binarize")?);
    let binary = Rowwise::try_new(threshold, n_features, Accepts::FINITE);
    let binary = Arc::new(binary.map_err(|error| fitted.spec(error))?);
    let joint = Composed::try_new(binary, joint).map_err(|error| fitted.spec(error))?;
    by_joint(fitted, Arc::new(joint), labels)
}

/// Converts CategoricalNB.
pub(super) fn categorical(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let labels = labels(fitted)?;
    let n_classes = labels.len();
    let mut tables = Vec::new();
    for (shape, values) in fitted.arrays("feature_log_prob_")? {
        let &[rows, n_categories] = shape.as_slice() else {
            return Err(fitted.malformed("'feature_log_prob_' holds no tables"));
        };
        if rows != n_classes {
            return Err(fitted.malformed("'feature_log_prob_' has another number of classes"));
        }
        let by_category =
            (0..n_categories).flat_map(|at| values.iter().skip(at).step_by(n_categories.max(1)));
        tables.push(by_category.copied().collect());
    }
    if tables.len() != fitted.n_features()? {
        return Err(fitted.malformed("'feature_log_prob_' has another number of columns"));
    }
    let priors = fitted.vector("class_log_prior_", n_classes)?;
    let joint = CategoryScores::try_new(tables, priors).map_err(|error| fitted.spec(error))?;
    by_joint(fitted, Arc::new(joint), labels)
}
