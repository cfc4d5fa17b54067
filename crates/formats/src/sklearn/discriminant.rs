//! Discriminant analyses, mixtures and other estimators by normal distributions.

use std::f64::consts::PI;
use std::sync::Arc;

use coracle_estimators::{
    CenterAnswer, Centers, Choice, ColumnAffine, Composed, Facet, Factor, GaussianSpec, Gaussians,
    Labels, Link, Linked, LogNormalized, LogSum, Mapped, Metric, Pointwise, Projection,
    ProjectionSpec, Rule, TableFn, Unary, digamma,
};
use coracle_model::{LoadError, Method};
use coracle_tensor::Values;

use super::arrays::Matrix;
use super::convert::Part;
use super::ensembles::after;
use super::fitted::Fitted;
use super::labels::labels;
use super::linear;
use super::numbers::exact;
use super::svm;

/// Converts LinearDiscriminantAnalysis.
pub(super) fn linear_analysis(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let spec = |error| fitted.spec(error);
    let labels = labels(fitted)?;
    let n_classes = labels.len();
    let decision: Arc<dyn TableFn> = Arc::new(linear::scorer(fitted)?.0);
    let (link, choice) = match n_classes {
        2 => (Link::Sigmoid, Choice::Above(0.0)),
        _ if fitted.version.is_up_to_zero(20) => (Link::NormalizedSigmoids, Choice::FirstLargest),
        _ => (Link::Softmax, Choice::FirstLargest),
    };
    let linked = Linked::try_new(Arc::clone(&decision), link, n_classes).map_err(spec)?;
    let probabilities: Arc<dyn TableFn> = Arc::new(linked);
    let logarithm = match fitted.version.is_up_to_zero(23) {
        true => Pointwise::Ln,
        false => Pointwise::LnOfPositive,
    };
    let logarithms = Mapped::new(Arc::clone(&probabilities), logarithm);
    let mut facets = vec![
        Facet::classes(Arc::clone(&decision), labels, choice).map_err(spec)?,
        Facet::table(Method::PredictProba, probabilities),
        Facet::table(Method::PredictLogProba, Arc::new(logarithms)),
        Facet::flat(Method::DecisionFunction, decision),
    ];
    if fitted.text("solver")? != "lsqr" {
        let projection = Projection::try_new(discriminants(fitted)?).map_err(spec)?;
        facets.push(Facet::table(Method::Transform, Arc::new(projection)));
    }
    fitted.faceted(facets)
}

fn discriminants(fitted: &Fitted<'_>) -> Result<ProjectionSpec, LoadError> {
    let n_features = fitted.n_features()?;
    let scalings = fitted.matrix("scalings_")?.transposed();
    let n_outputs = fitted.count("_max_components")?.min(scalings.n_rows);
    let weights = scalings.rows().take(n_outputs).flatten().copied().collect();
    let shift = match fitted.text("solver")?.as_str() {
        "svd" => fitted.finite("xbar_", n_features)?,
        "eigen" => Vec::new(),
        other => return Err(fitted.unknown("solver", other)),
    };
    Ok(ProjectionSpec {
        n_features,
        shift,
        weights,
        ..ProjectionSpec::default()
    })
}

fn gaussians(fitted: &Fitted<'_>, spec: GaussianSpec) -> Result<Arc<dyn TableFn>, LoadError> {
    let gaussians = Gaussians::try_new(spec).map_err(|error| fitted.spec(error))?;
    Ok(Arc::new(gaussians))
}

/// Puts a classifier together from the discriminant scores of its classes.
fn by_discriminants(
    fitted: &Fitted<'_>,
    scores: Arc<dyn TableFn>,
    predict: Facet,
    n_classes: usize,
    logs_of_probabilities: bool,
) -> Result<Part, LoadError> {
    let shares: Arc<dyn TableFn> = Arc::new(LogNormalized::new(
        Arc::clone(&scores),
        LogSum::SharesOfLargest,
    ));
    let probabilities: Arc<dyn TableFn> =
        Arc::new(Mapped::new(Arc::clone(&shares), Pointwise::Exp));
    let logarithms: Arc<dyn TableFn> = match logs_of_probabilities {
        true => Arc::new(Mapped::new(Arc::clone(&probabilities), Pointwise::Ln)),
        false => shares,
    };
    let decision = match n_classes {
        2 => after(fitted, scores, Rule::Difference)?,
        _ => scores,
    };
    fitted.faceted(vec![
        predict,
        Facet::table(Method::PredictProba, probabilities),
        Facet::table(Method::PredictLogProba, logarithms),
        Facet::flat(Method::DecisionFunction, decision),
    ])
}

/// Converts QuadraticDiscriminantAnalysis.
pub(super) fn quadratic_analysis(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let labels = labels(fitted)?;
    let n_classes = labels.len();
    let n_features = fitted.n_features()?;
    let priors = fitted.finite("priors_", n_classes)?;
    let means = fitted.matrix_of("means_", n_features)?;
    let mut factors = Vec::new();
    let mut constants = Vec::new();
    let classes = fitted.arrays("rotations_")?.into_iter();
    let classes = classes.zip(fitted.arrays("scalings_")?).zip(priors);
    for (((shape, rotation), (_, scaling)), prior) in classes {
        let &[n_rows, n_columns] = shape.as_slice() else {
            return Err(fitted.malformed("'rotations_' holds no matrices"));
        };
        if n_rows != n_features || n_columns != scaling.len() {
            return Err(fitted.malformed("'rotations_' and 'scalings_' do not fit"));
        }
        let rotation = Matrix {
            n_rows,
            n_columns,
            values: rotation,
        };
        let factor = rotation.transposed();
        let rows = factor.rows().zip(&scaling);
        let scaled = rows.flat_map(|(row, s)| row.iter().map(move |value| value * s.powf(-0.5)));
        factors.push(Factor::Dense(scaled.collect()));
        let logarithm: f64 = scaling.iter().map(|s| s.ln()).sum();
        constants.push(-0.5 * logarithm + prior.ln());
    }
    let scores = gaussians(
        fitted,
        GaussianSpec {
            n_features,
            means: means.values,
            factors,
            constants,
            scale: -0.5,
        },
    )?;
    let predict = Facet::classes(Arc::clone(&scores), labels, Choice::FirstLargest);
    let predict = predict.map_err(|error| fitted.spec(error))?;
    by_discriminants(
        fitted,
        scores,
        predict,
        n_classes,
        !fitted.version.is_from(6),
    )
}

/// Converts NearestCentroid of releases from 1.6 on, which weigh classes and variances.
pub(super) fn nearest_centroid(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let spec = |error| fitted.spec(error);
    let labels = labels(fitted)?;
    let n_classes = labels.len();
    let n_features = fitted.n_features()?;
    let centers = fitted.matrix_of("centroids_", n_features)?;
    let name = fitted
        .text_if("metric")
        .ok_or_else(|| fitted.unsupported("a metric that is a function is not supported"))?;
    let metric = Metric::named(&name).ok_or_else(|| fitted.unknown("metric", &name))?;
    let priors = fitted.finite("class_prior_", n_classes)?;
    let even = 1.0 / exact(n_classes);
    let is_even = priors
        .iter()
        .all(|prior| (prior - even).abs() <= 1e-8 + 1e-5 * even);
    let deviations = fitted.finite("within_class_std_dev_", n_features)?;
    let inverse = deviations
        .iter()
        .map(|&d| if d == 0.0 { 1.0 } else { 1.0 / d });
    let scores = gaussians(
        fitted,
        GaussianSpec {
            n_features,
            means: centers.values.clone(),
            factors: vec![Factor::Diagonal(inverse.collect())],
            constants: priors.iter().map(|prior| 2.0 * prior.ln()).collect(),
            scale: -1.0,
        },
    )?;
    let is_euclidean = metric == Metric::Euclidean;
    let metric = super::clustering::whole(metric);
    let predict = if is_even {
        let nearest = Centers::try_new(centers.values, n_features, metric, CenterAnswer::Nearest);
        Facet::classes(Arc::new(nearest.map_err(spec)?), labels, Choice::Index)
    } else if is_euclidean {
        Facet::classes(Arc::clone(&scores), labels, Choice::FirstLargest)
    } else {
        let constants = priors.iter().map(|prior| 2.0 * prior.ln()).collect();
        let scores = weighed_distances(fitted, centers, &deviations, metric, constants)?;
        Facet::classes(scores, labels, Choice::FirstLargest)
    };
    let predict = predict.map_err(spec)?;
    match is_euclidean {
        true => by_discriminants(fitted, scores, predict, n_classes, false),
        false => fitted.faceted(vec![predict]),
    }
}

/// Returns the negated squares of the distances to each centre, in units of the deviations, and a constant for each.
fn weighed_distances(
    fitted: &Fitted<'_>,
    mut centers: Matrix,
    deviations: &[f64],
    metric: Metric,
    constants: Vec<f64>,
) -> Result<Arc<dyn TableFn>, LoadError> {
    let spec = |error| fitted.spec(error);
    let n_features = centers.n_columns;
    let units = deviations.iter().map(|&d| if d == 0.0 { 1.0 } else { d });
    let units: Vec<f64> = units.collect();
    for (value, unit) in centers.values.iter_mut().zip(units.iter().cycle()) {
        *value /= unit;
    }
    let scale = units.iter().map(|unit| 1.0 / unit).collect();
    let scaled = ColumnAffine::try_new(scale, vec![0.0; n_features]).map_err(spec)?;
    let distances = Centers::try_new(centers.values, n_features, metric, CenterAnswer::Distances);
    let distances = Arc::new(distances.map_err(spec)?);
    let distances = Composed::try_new(Arc::new(scaled), distances).map_err(spec)?;
    let squares = Mapped::new(Arc::new(distances), Pointwise::Unary(Unary::Square));
    let negated = ColumnAffine::try_new(vec![-1.0; constants.len()], constants).map_err(spec)?;
    let scores = Composed::try_new(Arc::new(squares), Arc::new(negated)).map_err(spec)?;
    Ok(Arc::new(scores))
}

/// What a covariance type makes of the precisions' factors, and the logarithms of their determinants.
fn precision_factors(
    fitted: &Fitted<'_>,
    n_components: usize,
) -> Result<(Vec<Factor>, Vec<f64>), LoadError> {
    let n = fitted.n_features()?;
    let (shape, values) = fitted.numbers("precisions_cholesky_")?;
    let wrong = || fitted.malformed(format!("'precisions_cholesky_' has shape {shape:?}"));
    let dense = |values: &[f64]| {
        let matrix = Matrix {
            n_rows: n,
            n_columns: n,
            values: values.to_vec(),
        };
        let diagonal = values.iter().step_by(n.saturating_add(1));
        let logarithm: f64 = diagonal.map(|value| value.ln()).sum();
        (Factor::Dense(matrix.transposed().values), logarithm)
    };
    match (fitted.text("covariance_type")?.as_str(), shape.as_slice()) {
        ("full", &[k, rows, columns]) if (k, rows, columns) == (n_components, n, n) => {
            let square = n.saturating_mul(n).max(1);
            Ok(values.chunks_exact(square).map(dense).unzip())
        }
        ("tied", &[rows, columns]) if (rows, columns) == (n, n) => {
            let (factor, logarithm) = dense(&values);
            Ok((vec![factor], vec![logarithm; n_components]))
        }
        ("diag", &[k, columns]) if (k, columns) == (n_components, n) => {
            let rows = values.chunks_exact(n.max(1));
            let rows = rows.map(|row| {
                let logarithm: f64 = row.iter().map(|value| value.ln()).sum();
                (Factor::Diagonal(row.to_vec()), logarithm)
            });
            Ok(rows.unzip())
        }
        ("spherical", &[k]) if k == n_components => {
            let one = |value: &f64| (Factor::Diagonal(vec![*value; n]), exact(n) * value.ln());
            Ok(values.iter().map(one).unzip())
        }
        ("full" | "tied" | "diag" | "spherical", _) => Err(wrong()),
        (other, _) => Err(fitted.unknown("covariance_type", other)),
    }
}

/// Converts GaussianMixture and BayesianGaussianMixture.
pub(super) fn mixture(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let spec = |error| fitted.spec(error);
    let n_features = fitted.n_features()?;
    let means = fitted.matrix_of("means_", n_features)?;
    let n_components = means.n_rows;
    let (factors, logarithms) = precision_factors(fitted, n_components)?;
    let weights = match fitted.short_class() {
        "GaussianMixture" => {
            let weights = fitted.finite("weights_", n_components)?;
            weights.into_iter().map(f64::ln).collect()
        }
        _ => bayesian_weights(fitted, n_components)?,
    };
    let usual = -0.5 * exact(n_features) * (2.0 * PI).ln();
    let constants = logarithms.iter().zip(weights).map(|(l, w)| usual + l + w);
    let joint = gaussians(
        fitted,
        GaussianSpec {
            n_features,
            means: means.values,
            factors,
            constants: constants.collect(),
            scale: -0.5,
        },
    )?;
    let shares = LogNormalized::new(Arc::clone(&joint), LogSum::Shares);
    let probabilities = Mapped::new(Arc::new(shares), Pointwise::Exp);
    let total = LogNormalized::new(Arc::clone(&joint), LogSum::Total);
    let count = i64::try_from(n_components).unwrap_or_default();
    let labels = Labels::new(Values::I64((0..count).collect()));
    let part = fitted.faceted(vec![
        Facet::classes(joint, labels, Choice::FirstLargest).map_err(spec)?,
        Facet::table(Method::PredictProba, Arc::new(probabilities)),
        Facet::column(Method::ScoreSamples, Arc::new(total)).map_err(spec)?,
    ])?;
    let facts = vec![("components".to_owned(), n_components.to_string())];
    Ok(Part { facts, ..part })
}

/// Returns what a Bayesian mixture adds to each component's log-density.
fn bayesian_weights(fitted: &Fitted<'_>, n_components: usize) -> Result<Vec<f64>, LoadError> {
    let n = exact(fitted.n_features()?);
    // Components that share a covariance share its degrees of freedom.
    let freedoms = match fitted.text("covariance_type")?.as_str() {
        "tied" => vec![fitted.number("degrees_of_freedom_")?; n_components],
        _ => fitted.finite("degrees_of_freedom_", n_components)?,
    };
    let precisions = fitted.finite("mean_precision_", n_components)?;
    let lambdas = freedoms
        .iter()
        .zip(&precisions)
        .map(|(freedom, precision)| {
            let features = (0..fitted.n_features().unwrap_or_default()).map(exact);
            let digammas: f64 = features.map(|i| digamma(0.5 * (freedom - i))).sum();
            let lambda = n * 2.0_f64.ln() + digammas;
            -0.5 * n * freedom.ln() + 0.5 * (lambda - n / precision)
        });
    let weights = match fitted.text("weight_concentration_prior_type")?.as_str() {
        "dirichlet_distribution" => {
            let concentration = fitted.finite("weight_concentration_", n_components)?;
            let sum = digamma(concentration.iter().sum());
            concentration
                .iter()
                .map(|&c| digamma(c) - sum)
                .collect::<Vec<f64>>()
        }
        "dirichlet_process" => {
            let parts = fitted.arrays("weight_concentration_")?;
            let [(_, a), (_, b)] = parts.as_slice() else {
                return Err(fitted.malformed("'weight_concentration_' is no pair"));
            };
            if a.len() != n_components || b.len() != n_components {
                return Err(fitted.malformed("'weight_concentration_' has another length"));
            }
            let mut before = 0.0;
            let pairs = a.iter().zip(b).map(|(&a, &b)| {
                let sum = digamma(a + b);
                let weight = digamma(a) - sum + before;
                before += digamma(b) - sum;
                weight
            });
            pairs.collect()
        }
        other => return Err(fitted.unknown("weight_concentration_prior_type", other)),
    };
    Ok(lambdas.zip(weights).map(|(l, w)| l + w).collect())
}

/// Converts EllipticEnvelope.
pub(super) fn elliptic_envelope(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let n_features = fitted.n_features()?;
    if fitted.is_none("precision_") {
        return Err(fitted.unsupported("without store_precision=True it is not supported"));
    }
    let scores = gaussians(
        fitted,
        GaussianSpec {
            n_features,
            means: fitted.finite("location_", n_features)?,
            factors: vec![Factor::Form(
                fitted.matrix_of("precision_", n_features)?.values,
            )],
            constants: vec![0.0],
            scale: -1.0,
        },
    )?;
    if fitted.version.is_up_to_zero(19) {
        return older_envelope(fitted, scores);
    }
    svm::novelty_by_scores(fitted, scores, fitted.number("offset_")?)
}

/// Up to 0.19 decisions were roots of distances, and the threshold a distance.
fn older_envelope(fitted: &Fitted<'_>, scores: Arc<dyn TableFn>) -> Result<Part, LoadError> {
    const POWER: f64 = 0.33;
    let threshold = fitted.number("threshold_")?;
    let labels = Labels::new(Values::I64(vec![-1, 1].into()));
    let spec = |error| fitted.spec(error);
    let roots = Mapped::new(Arc::clone(&scores), Pointwise::NegatedPower(POWER));
    let decision = Mapped::new(Arc::new(roots), Pointwise::Add(threshold.powf(POWER)));
    fitted.faceted(vec![
        Facet::classes(scores, labels, Choice::AtLeast(-threshold)).map_err(spec)?,
        Facet::column(Method::DecisionFunction, Arc::new(decision)).map_err(spec)?,
    ])
}

/// Where the means and deviations of the columns are.
struct ScalingNames {
    mean: &'static str,
    unit: &'static str,
    mean_of_targets: &'static str,
}

/// Up to 0.23 they have public names.
fn scaling_names(fitted: &Fitted<'_>) -> ScalingNames {
    match fitted.version.is_up_to_zero(23) {
        true => ScalingNames {
            mean: "x_mean_",
            unit: "x_std_",
            mean_of_targets: "y_mean_",
        },
        false => ScalingNames {
            mean: "_x_mean",
            unit: "_x_std",
            mean_of_targets: "_y_mean",
        },
    }
}

/// Converts PLSRegression, PLSCanonical and CCA.
pub(super) fn partial_least_squares(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let spec = |error| fitted.spec(error);
    let n_features = fitted.n_features()?;
    let names = scaling_names(fitted);
    let mean = fitted.finite(names.mean, n_features)?;
    let unit = fitted.finite(names.unit, n_features)?;
    let rotations = fitted.matrix("x_rotations_")?.transposed();
    let transform = Projection::try_new(ProjectionSpec {
        n_features,
        shift: mean.clone(),
        unit: unit.clone(),
        weights: rotations.values,
        ..ProjectionSpec::default()
    });
    let (weights, offset) = match fitted.version.is_from(1) {
        true => {
            let name = match fitted.attr("_coef_") {
                Some(_) => "_coef_",
                None => "coef_",
            };
            (fitted.matrix_of(name, n_features)?, "intercept_")
        }
        false => (fitted.matrix("coef_")?.transposed(), names.mean_of_targets),
    };
    let predict = Projection::try_new(ProjectionSpec {
        n_features,
        shift: mean,
        // From 1.5 on the coefficients are those of unscaled columns.
        unit: if fitted.version.is_from(5) {
            Vec::new()
        } else {
            unit
        },
        weights: weights.values,
        offset: fitted.flat(offset)?,
        ..ProjectionSpec::default()
    });
    let predict: Arc<dyn TableFn> = Arc::new(predict.map_err(spec)?);
    let predict = match fitted.flag_or("_predict_1d", false)? {
        true => Facet::column(Method::Predict, predict).map_err(spec)?,
        false => Facet::table(Method::Predict, predict),
    };
    let transform = Facet::table(Method::Transform, Arc::new(transform.map_err(spec)?));
    fitted.faceted(vec![predict, transform])
}

/// Converts PLSSVD.
pub(super) fn partial_least_squares_svd(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let n_features = fitted.n_features()?;
    let names = scaling_names(fitted);
    let spec = ProjectionSpec {
        n_features,
        shift: fitted.finite(names.mean, n_features)?,
        unit: fitted.finite(names.unit, n_features)?,
        weights: fitted.matrix("x_weights_")?.transposed().values,
        ..ProjectionSpec::default()
    };
    super::decomposition::projector(fitted, spec)
}
