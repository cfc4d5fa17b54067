//! Decompositions that solve a small problem for every row: NMF, topics, dictionaries.

use std::sync::Arc;

use coracle_estimators::{Facet, FactorRule, Factors, ProjectionSpec};
use coracle_model::{LoadError, Method};

use super::convert::Part;
use super::decomposition::projector;
use super::fitted::Fitted;
use super::numbers::exact;

fn transformer(fitted: &Fitted<'_>, factors: Factors) -> Result<Part, LoadError> {
    fitted.faceted(vec![Facet::table(Method::Transform, Arc::new(factors))])
}

/// Converts NMF and MiniBatchNMF.
pub(super) fn non_negative(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let n_features = fitted.n_features()?;
    let components = fitted.matrix_of("components_", n_features)?;
    // Up to 1.1 the penalties had other names and another scale.
    if fitted.attr("alpha").is_some()
        && fitted.text_if("alpha").as_deref() != Some("deprecated")
        && fitted.number("alpha")? != 0.0
    {
        return Err(fitted.unsupported("'alpha' is not supported; 'alpha_W' is"));
    }
    let penalty = fitted.number_or("alpha_W", 0.0)?;
    if penalty != 0.0 && !fitted.version.is_from(2) {
        return Err(fitted.unsupported("'alpha_W' of releases before 1.2 is not supported"));
    }
    let scaled = penalty * exact(n_features);
    let share = fitted.number_or("l1_ratio", 0.0)?;
    let penalties = [scaled * share, scaled * (1.0 - share)];
    let is_squared = fitted.is_none("beta_loss")
        || fitted.text_if("beta_loss").as_deref() == Some("frobenius")
        || fitted.text_if("beta_loss").is_none() && fitted.number("beta_loss")? == 2.0;
    if !is_squared {
        return Err(fitted.unsupported("a 'beta_loss' other than 'frobenius' is not supported"));
    }
    let tolerance = fitted.number("tol")?;
    let rule = match fitted.short_class() {
        "MiniBatchNMF" => FactorRule::Multiplicative {
            updates_max: match fitted.is_none("transform_max_iter") {
                true => fitted.count("max_iter")?,
                false => fitted.count("transform_max_iter")?,
            },
            tolerance,
            penalties,
        },
        _ => {
            let solver = fitted.text("solver")?;
            if solver != "cd" {
                return Err(fitted.unknown("solver", &solver));
            }
            if fitted.flag("shuffle")? {
                return Err(
                    fitted.unsupported("shuffle=True draws at random, which is not supported")
                );
            }
            FactorRule::CoordinateDescent {
                sweeps_max: fitted.count("max_iter")?,
                tolerance,
                penalties,
            }
        }
    };
    let factors = Factors::try_new(rule, components.values, n_features);
    transformer(fitted, factors.map_err(|error| fitted.spec(error))?)
}

/// Converts LatentDirichletAllocation.
pub(super) fn topics(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let n_features = fitted.n_features()?;
    let components = fitted.matrix_of("exp_dirichlet_component_", n_features)?;
    let rule = FactorRule::Topics {
        prior: fitted.number("doc_topic_prior_")?,
        updates_max: fitted.count("max_doc_update_iter")?,
        tolerance: fitted.number("mean_change_tol")?,
    };
    let factors = Factors::try_new(rule, components.values, n_features);
    transformer(fitted, factors.map_err(|error| fitted.spec(error))?)
}

/// Converts DictionaryLearning, MiniBatchDictionaryLearning and SparseCoder.
pub(super) fn dictionary(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let components = match fitted.attr("components_") {
        Some(_) => fitted.matrix("components_")?,
        None => fitted.matrix("dictionary")?,
    };
    if !components.values.iter().all(|value| value.is_finite()) {
        return Err(fitted.malformed("the dictionary holds NaN or infinity"));
    }
    let n_features = components.n_columns;
    if fitted.flag_or("positive_code", false)? {
        return Err(fitted.unsupported("positive_code=True is not supported"));
    }
    let algorithm = fitted.text("transform_algorithm")?;
    let rule = match algorithm.as_str() {
        "omp" => {
            let usual = n_features.checked_div(10).unwrap_or(0).max(1);
            FactorRule::Pursuit(match fitted.is_none("transform_n_nonzero_coefs") {
                true => usual.min(components.n_rows),
                false => fitted.count("transform_n_nonzero_coefs")?,
            })
        }
        "threshold" => FactorRule::Threshold(match fitted.is_none("transform_alpha") {
            false => fitted.number("transform_alpha")?,
            // Releases from 1.2 on take what they were trained with.
            true if fitted.version.is_from(2) => fitted.number_or("alpha", 1.0)?,
            true => 1.0,
        }),
        other => return Err(fitted.unknown("transform_algorithm", other)),
    };
    let factors = Factors::try_new(rule, components.values, n_features);
    let factors = factors.map_err(|error| fitted.spec(error))?;
    match fitted.flag("split_sign")? {
        true => transformer(fitted, factors.splitting_signs()),
        false => transformer(fitted, factors),
    }
}

/// Converts FeatureAgglomeration that pools by the mean.
pub(super) fn agglomeration(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let n_features = fitted.n_features()?;
    let pooling = fitted
        .attr("pooling_func")
        .and_then(|id| fitted.graph.global(id));
    if pooling.is_none_or(|name| !name.ends_with(".mean")) {
        return Err(fitted.unsupported("a 'pooling_func' other than numpy.mean is not supported"));
    }
    let clusters = fitted.counts("labels_")?;
    let n_clusters = clusters
        .iter()
        .max()
        .map_or(0, |last| last.saturating_add(1));
    if clusters.len() != n_features || n_clusters > n_features {
        return Err(fitted.malformed("'labels_' are not a cluster for each feature"));
    }
    let mut weights = vec![0.0; n_clusters.saturating_mul(n_features)];
    let mut sizes = vec![0.0; n_clusters];
    for (feature, &cluster) in clusters.iter().enumerate() {
        let at = cluster.saturating_mul(n_features).saturating_add(feature);
        if let (Some(weight), Some(size)) = (weights.get_mut(at), sizes.get_mut(cluster)) {
            *weight = 1.0;
            *size += 1.0;
        }
    }
    let spec = ProjectionSpec {
        n_features,
        weights,
        divisor: sizes,
        ..ProjectionSpec::default()
    };
    projector(fitted, spec)
}
