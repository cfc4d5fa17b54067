//! Decompositions and kernel approximations: linear maps and maps in a kernel's space.

use std::sync::Arc;

use coracle_estimators::{
    Choice, ColumnOperation, Columnwise, Composed, Facet, Factor, GaussianSpec, Gaussians, Kernel,
    KernelMap, KernelMapSpec, Mapped, Pointwise, Projection, ProjectionSpec, Rule, ZeroSum,
    inverse, multiply, solve,
};
use coracle_model::{Accepts, LoadError, Method};

use super::arrays::Matrix;
use super::convert::Part;
use super::fitted::Fitted;
use super::numbers::exact;

/// Returns a transformer by a linear map.
pub(super) fn projector(fitted: &Fitted<'_>, spec: ProjectionSpec) -> Result<Part, LoadError> {
    let projection = Projection::try_new(spec).map_err(|error| fitted.spec(error))?;
    let facet = Facet::table(Method::Transform, Arc::new(projection));
    fitted.faceted(vec![facet])
}

fn components(fitted: &Fitted<'_>) -> Result<Matrix, LoadError> {
    fitted.matrix_of("components_", fitted.n_features()?)
}

/// Converts RandomizedPCA of releases up to 0.19; whitening is in its components.
pub(super) fn randomized_pca(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let components = components(fitted)?;
    let n_features = components.n_columns;
    let shift = match fitted.is_none("mean_") {
        true => Vec::new(),
        false => fitted.finite("mean_", n_features)?,
    };
    let spec = ProjectionSpec {
        n_features,
        shift,
        weights: components.values,
        ..ProjectionSpec::default()
    };
    projector(fitted, spec)
}

fn square_roots(values: Vec<f64>) -> Vec<f64> {
    values.into_iter().map(f64::sqrt).collect()
}

/// Converts PCA and IncrementalPCA.
pub(super) fn pca(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let components = components(fitted)?;
    let n_features = components.n_columns;
    let mean = fitted.finite("mean_", n_features)?;
    let mut spec = ProjectionSpec {
        n_features,
        ..ProjectionSpec::default()
    };
    // From 1.5 on the mean is projected too and subtracted from the result.
    if fitted.version.is_from(5) {
        let projected = multiply(&components.values, n_features, &mean, 1);
        let projected = projected.map_err(|error| fitted.spec(error))?;
        spec.offset = projected.into_iter().map(|value| -value).collect();
    } else {
        spec.shift = mean;
    }
    if fitted.flag("whiten")? {
        let variances = fitted.finite("explained_variance_", components.n_rows)?;
        spec.divisor = square_roots(variances);
        if fitted.version.is_from(5) {
            for scale in &mut spec.divisor {
                *scale = scale.max(f64::EPSILON);
            }
        }
    }
    let density = match fitted.short_class() {
        "PCA" => Some(pca_density(fitted, &components)?),
        _ => None,
    };
    spec.weights = components.values;
    let projection = Projection::try_new(spec).map_err(|error| fitted.spec(error))?;
    let mut facets = vec![Facet::table(Method::Transform, Arc::new(projection))];
    facets.extend(density);
    fitted.faceted(facets)
}

/// Returns `score_samples` of PCA: the log-density under its model.
fn pca_density(fitted: &Fitted<'_>, components: &Matrix) -> Result<Facet, LoadError> {
    let variances = fitted.finite("explained_variance_", components.n_rows)?;
    let noise = fitted.number("noise_variance_")?;
    let whitens = fitted.flag("whiten")?;
    let rows = components.rows().zip(&variances);
    let weighted: Vec<f64> = rows
        .flat_map(|(row, &variance)| {
            let own = (variance - noise).max(0.0);
            // When it whitens, scikit-learn scales the components once more.
            let weight = if whitens { own * variance } else { own };
            row.iter().map(move |value| value * weight)
        })
        .collect();
    let noise = vec![noise; components.n_columns];
    density(fitted, components, weighted, &noise)
}

/// Returns the log-density under the covariance `components^T weighted + diag(noise)`.
fn density(
    fitted: &Fitted<'_>,
    components: &Matrix,
    weighted: Vec<f64>,
    noise: &[f64],
) -> Result<Facet, LoadError> {
    let spec = |error| fitted.spec(error);
    let n_features = components.n_columns;
    let transposed = components.transposed();
    let covariance = multiply(&transposed.values, components.n_rows, &weighted, n_features);
    let mut covariance = covariance.map_err(spec)?;
    let diagonal = covariance.iter_mut().step_by(n_features.saturating_add(1));
    for (value, noise) in diagonal.zip(noise) {
        *value += noise;
    }
    let (precision, logarithm) = inverse(&covariance, n_features).map_err(spec)?;
    let constant = -0.5 * (exact(n_features) * (2.0 * std::f64::consts::PI).ln() + logarithm);
    let gaussians = Gaussians::try_new(GaussianSpec {
        n_features,
        means: fitted.finite("mean_", n_features)?,
        factors: vec![Factor::Form(precision)],
        constants: vec![constant],
        scale: -0.5,
    });
    let gaussians = Arc::new(gaussians.map_err(spec)?);
    Facet::column(Method::ScoreSamples, gaussians).map_err(spec)
}

/// Converts TruncatedSVD and the random projections: nothing but components.
pub(super) fn components_only(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let components = fitted.matrix_or_sparse("components_")?;
    let n_features = fitted.n_features()?;
    if components.n_columns != n_features {
        return Err(fitted.malformed("'components_' has another width than the table"));
    }
    let spec = ProjectionSpec {
        n_features,
        weights: components.values,
        ..ProjectionSpec::default()
    };
    projector(fitted, spec)
}

/// Converts FastICA.
pub(super) fn fast_ica(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let components = components(fitted)?;
    // `whiten` is False, True or the name of a way to whiten.
    let whitens = fitted.text_if("whiten").is_some() || fitted.flag("whiten")?;
    let shift = match whitens {
        true => fitted.finite("mean_", components.n_columns)?,
        false => Vec::new(),
    };
    let spec = ProjectionSpec {
        n_features: components.n_columns,
        shift,
        weights: components.values,
        ..ProjectionSpec::default()
    };
    projector(fitted, spec)
}

/// Converts FactorAnalysis.
pub(super) fn factor_analysis(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let spec = |error| fitted.spec(error);
    let components = components(fitted)?;
    let (n, n_features) = (components.n_rows, components.n_columns);
    let noise = fitted.finite("noise_variance_", n_features)?;
    let scaled: Vec<f64> = components
        .rows()
        .flat_map(|row| row.iter().zip(&noise).map(|(value, noise)| value / noise))
        .collect();
    let transposed = components.transposed();
    let mut covariance = multiply(&scaled, n_features, &transposed.values, n).map_err(spec)?;
    for value in covariance.iter_mut().step_by(n.saturating_add(1)) {
        *value += 1.0;
    }
    // One solution per feature; the covariance is symmetric.
    let by_feature = Matrix {
        n_rows: n,
        n_columns: n_features,
        values: scaled,
    };
    let solved = solve(&covariance, n, &by_feature.transposed().values).map_err(spec)?;
    let weights = Matrix {
        n_rows: n_features,
        n_columns: n,
        values: solved,
    };
    let density = density(fitted, &components, components.values.clone(), &noise)?;
    let projection = Projection::try_new(ProjectionSpec {
        n_features,
        shift: fitted.finite("mean_", n_features)?,
        weights: weights.transposed().values,
        ..ProjectionSpec::default()
    });
    let projection = Arc::new(projection.map_err(spec)?);
    fitted.faceted(vec![Facet::table(Method::Transform, projection), density])
}

/// Converts SparsePCA and MiniBatchSparsePCA: a ridge regression on the components, solved once.
pub(super) fn sparse_pca(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let spec = |error| fitted.spec(error);
    let is_centred = match fitted.version.is_up_to_zero(21) {
        true => {
            let id = fitted.attr("normalize_components");
            id.and_then(|id| fitted.graph.bool(id)) == Some(true)
        }
        false => true,
    };
    if !is_centred {
        return Err(fitted.unsupported(
            "up to 0.21 its answers depend on the other rows of a request, without normalize_components=True",
        ));
    }
    let components = components(fitted)?;
    let (n, n_features) = (components.n_rows, components.n_columns);
    let transposed = components.transposed();
    let gram = multiply(&components.values, n_features, &transposed.values, n);
    let mut gram = gram.map_err(spec)?;
    let alpha = fitted.number("ridge_alpha")?;
    for value in gram.iter_mut().step_by(n.saturating_add(1)) {
        *value += alpha;
    }
    let solved = solve(&gram, n, &transposed.values).map_err(spec)?;
    let weights = Matrix {
        n_rows: n_features,
        n_columns: n,
        values: solved,
    };
    projector(
        fitted,
        ProjectionSpec {
            n_features,
            shift: fitted.finite("mean_", n_features)?,
            weights: weights.transposed().values,
            ..ProjectionSpec::default()
        },
    )
}

/// Returns the kernel of `name` with scikit-learn's defaults for absent parameters.
fn kernel(fitted: &Fitted<'_>, gamma_name: &str) -> Result<Kernel, LoadError> {
    if !fitted.is_none("kernel_params") {
        return Err(fitted.unsupported("'kernel_params' are not supported"));
    }
    let name = fitted
        .text_if("kernel")
        .ok_or_else(|| fitted.unsupported("a kernel that is a function is not supported"))?;
    let usual = 1.0 / exact(fitted.n_features()?);
    let gamma = fitted.number_or(gamma_name, usual)?;
    let coef0 = fitted.number_or("coef0", 1.0)?;
    Ok(match name.as_str() {
        "linear" => Kernel::Linear,
        "poly" | "polynomial" => Kernel::Polynomial {
            gamma,
            coef0,
            degree: fitted.number_or("degree", 3.0)?,
        },
        "rbf" => Kernel::Rbf { gamma },
        "sigmoid" => Kernel::Sigmoid { gamma, coef0 },
        "laplacian" => Kernel::Laplacian { gamma },
        "cosine" => Kernel::Cosine,
        "chi2" => Kernel::Chi2 {
            // Up to 0.18 it was not passed on.
            gamma: match fitted.version.is_up_to_zero(18) {
                true => 1.0,
                false => fitted.number_or(gamma_name, 1.0)?,
            },
        },
        "additive_chi2" => Kernel::AdditiveChi2,
        other => return Err(fitted.unknown("kernel", other)),
    })
}

fn kernel_map(fitted: &Fitted<'_>, spec: KernelMapSpec) -> Result<Arc<KernelMap>, LoadError> {
    let map = KernelMap::try_new(spec).map_err(|error| fitted.spec(error))?;
    Ok(Arc::new(map))
}

/// Returns the weights of the training rows in each component of KernelPCA, `(rows, components)`.
pub(super) fn kernel_components(fitted: &Fitted<'_>) -> Result<Matrix, LoadError> {
    let (values, vectors) = match fitted.attr("eigenvalues_") {
        None if !fitted.version.is_from(0) => ("lambdas_", "alphas_"),
        _ => ("eigenvalues_", "eigenvectors_"),
    };
    let eigenvalues = fitted.flat(values)?;
    let vectors = fitted.matrix_of(vectors, eigenvalues.len())?;
    let scaled: Vec<f64> = vectors
        .rows()
        .flat_map(|row| {
            row.iter()
                .zip(&eigenvalues)
                .map(|(value, eigenvalue)| match *eigenvalue {
                    0.0 => 0.0,
                    eigenvalue => value / eigenvalue.sqrt(),
                })
        })
        .collect();
    Ok(Matrix {
        values: scaled,
        ..vectors
    })
}

/// Converts KernelPCA.
pub(super) fn kernel_pca(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let n_features = fitted.n_features()?;
    let references = match fitted.attr("X_fit_") {
        Some(_) => fitted.matrix_or_sparse("X_fit_")?,
        None => return Err(fitted.malformed("attribute 'X_fit_' is missing")),
    };
    let alphas = kernel_components(fitted)?;
    let centerer = fitted.part_in("_centerer")?;
    let means = centerer.finite("K_fit_rows_", references.n_rows)?;
    let centering = Some((means, centerer.number("K_fit_all_")?));
    let gamma = match fitted.attr("gamma_") {
        Some(_) => "gamma_",
        None => "gamma",
    };
    let map = kernel_map(
        fitted,
        KernelMapSpec {
            kernel: kernel(fitted, gamma)?,
            n_features,
            references: references.values,
            weights: alphas.transposed().values,
            centering,
        },
    )?;
    fitted.faceted(vec![Facet::table(Method::Transform, map)])
}

/// Converts Nystroem.
pub(super) fn nystroem(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let references = fitted.matrix_or_sparse("components_")?;
    let weights = fitted.matrix_of("normalization_", references.n_rows)?;
    let map = kernel_map(
        fitted,
        KernelMapSpec {
            kernel: kernel(fitted, "gamma")?,
            n_features: fitted.n_features()?,
            references: references.values,
            weights: weights.values,
            centering: None,
        },
    )?;
    fitted.faceted(vec![Facet::table(Method::Transform, map)])
}

/// Converts KernelRidge.
pub(super) fn kernel_ridge(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let references = fitted.matrix_or_sparse("X_fit_")?;
    let (shape, values) = fitted.numbers("dual_coef_")?;
    let (weights, is_flat) = match *shape.as_slice() {
        [_] => (values, true),
        [n_rows, n_columns] => {
            let matrix = Matrix {
                n_rows,
                n_columns,
                values,
            };
            (matrix.transposed().values, false)
        }
        _ => return Err(fitted.malformed(format!("'dual_coef_' has shape {shape:?}"))),
    };
    let map = kernel_map(
        fitted,
        KernelMapSpec {
            kernel: kernel(fitted, "gamma")?,
            n_features: fitted.n_features()?,
            references: references.values,
            weights,
            centering: None,
        },
    )?;
    let facet = match is_flat {
        true => Facet::column(Method::Predict, map).map_err(|error| fitted.spec(error))?,
        false => Facet::table(Method::Predict, map),
    };
    fitted.faceted(vec![facet])
}

/// Converts RBFSampler.
pub(super) fn rbf_sampler(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let weights = fitted.matrix("random_weights_")?;
    let n_outputs = weights.n_columns;
    let spec = ProjectionSpec {
        n_features: fitted.n_features()?,
        offset: fitted.finite("random_offset_", n_outputs)?,
        weights: weights.transposed().values,
        ..ProjectionSpec::default()
    };
    let projection = Projection::try_new(spec).map_err(|error| fitted.spec(error))?;
    let scale = (2.0 / exact(n_outputs)).sqrt();
    let cosine = Mapped::new(Arc::new(projection), Pointwise::Cos);
    let scaled = Mapped::new(Arc::new(cosine), Pointwise::Times(scale));
    fitted.faceted(vec![Facet::table(Method::Transform, Arc::new(scaled))])
}

/// Converts BernoulliRBM: the probabilities of its hidden units.
pub(super) fn boltzmann(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let components = components(fitted)?;
    let spec = ProjectionSpec {
        n_features: components.n_columns,
        offset: fitted.finite("intercept_hidden_", components.n_rows)?,
        weights: components.values,
        ..ProjectionSpec::default()
    };
    let projection = Projection::try_new(spec).map_err(|error| fitted.spec(error))?;
    let platt = Pointwise::Platt {
        slope: -1.0,
        offset: 0.0,
    };
    let hidden = Mapped::new(Arc::new(projection), platt);
    fitted.faceted(vec![Facet::table(Method::Transform, Arc::new(hidden))])
}

/// Converts LabelPropagation and LabelSpreading.
pub(super) fn label_propagation(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    match fitted.text_if("kernel").as_deref() {
        Some("rbf") => {}
        Some("knn") => return super::manifold::propagated_by_neighbors(fitted),
        Some(other) => return Err(fitted.unknown("kernel", other)),
        None => return Err(fitted.unsupported("a kernel that is a function is not supported")),
    }
    let labels = super::labels::labels(fitted)?;
    let references = fitted.matrix_or_sparse("X_")?;
    let shares = fitted.matrix_of("label_distributions_", labels.len())?;
    let map = kernel_map(
        fitted,
        KernelMapSpec {
            kernel: Kernel::Rbf {
                gamma: fitted.number("gamma")?,
            },
            n_features: fitted.n_features()?,
            references: references.values,
            weights: shares.transposed().values,
            centering: None,
        },
    )?;
    let probabilities = super::ensembles::after(fitted, map, Rule::OverSum(ZeroSum::Divide))?;
    let predict = Facet::classes(Arc::clone(&probabilities), labels, Choice::FirstLargest);
    fitted.faceted(vec![
        predict.map_err(|error| fitted.spec(error))?,
        Facet::table(Method::PredictProba, probabilities),
    ])
}

/// Converts SkewedChi2Sampler.
pub(super) fn skewed_chi2(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let spec = |error| fitted.spec(error);
    let weights = fitted.matrix("random_weights_")?;
    let n_outputs = weights.n_columns;
    let n_features = fitted.n_features()?;
    let projection = Projection::try_new(ProjectionSpec {
        n_features,
        offset: fitted.finite("random_offset_", n_outputs)?,
        weights: weights.transposed().values,
        ..ProjectionSpec::default()
    })
    .map_err(spec)?;
    let logarithm = ColumnOperation::LnAbove {
        shift: fitted.number("skewedness")?,
    };
    let logarithms = Columnwise::try_new(vec![logarithm; n_features], Accepts::FINITE);
    let logarithms = Arc::new(logarithms.map_err(spec)?);
    let projected = Composed::try_new(logarithms, Arc::new(projection));
    let cosine = Mapped::new(Arc::new(projected.map_err(spec)?), Pointwise::Cos);
    let scale = Pointwise::Times(2.0_f64.sqrt() / exact(n_outputs).sqrt());
    let scaled = Mapped::new(Arc::new(cosine), scale);
    fitted.faceted(vec![Facet::table(Method::Transform, Arc::new(scaled))])
}
