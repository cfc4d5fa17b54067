//! Decompositions that solve a small problem for every row: NMF, topics, dictionaries.

use std::sync::Arc;

use coracle_estimators::{
    Facet, FactorRule, Factors, Lasso, LeastAngles, Multiplicative, Pool, Pooled, ProjectionSpec,
    UpdatesEnd,
};
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
    let beta = match fitted.text_if("beta_loss").as_deref() {
        // Up to 0.18 there was no other.
        None if fitted.is_none("beta_loss") => 2.0,
        None => fitted.number("beta_loss")?,
        Some("frobenius") => 2.0,
        Some("kullback-leibler") => 1.0,
        Some("itakura-saito") => 0.0,
        Some(other) => return Err(fitted.unknown("beta_loss", other)),
    };
    if !beta.is_finite() {
        return Err(fitted.malformed("'beta_loss' is no finite number"));
    }
    let tolerance = fitted.number("tol")?;
    let updates = |updates_max: usize, end: UpdatesEnd| {
        FactorRule::Multiplicative(Multiplicative {
            updates_max,
            tolerance,
            end,
            penalties,
            beta,
            lifts_small: fitted.version.is_from(3),
        })
    };
    let solver = fitted.text_if("solver");
    let rule = match (fitted.short_class(), solver.as_deref()) {
        ("MiniBatchNMF", _) => {
            let updates_max = match fitted.is_none("transform_max_iter") {
                true => fitted.count("max_iter")?,
                false => fitted.count("transform_max_iter")?,
            };
            updates(updates_max, UpdatesEnd::Change)
        }
        (_, Some("mu")) => updates(fitted.count("max_iter")?, UpdatesEnd::Error),
        (_, Some("cd")) if beta != 2.0 => {
            return Err(fitted.malformed("the solver 'cd' is of the loss 'frobenius' only"));
        }
        (_, Some("cd")) => {
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
        (_, other) => return Err(fitted.unknown("solver", other.unwrap_or("None"))),
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
    let rule = code_rule(fitted, n_features, components.n_rows)?;
    let factors = Factors::try_new(rule, components.values, n_features);
    let factors = factors.map_err(|error| fitted.spec(error))?;
    match fitted.flag("split_sign")? {
        true => transformer(fitted, factors.splitting_signs()),
        false => transformer(fitted, factors),
    }
}

/// Reads how rows are encoded by a dictionary.
fn code_rule(
    fitted: &Fitted<'_>,
    n_features: usize,
    n_components: usize,
) -> Result<FactorRule, LoadError> {
    let is_positive = fitted.flag_or("positive_code", false)?;
    let n_nonzero = || {
        let usual = n_features.checked_div(10).unwrap_or(0).max(1);
        match fitted.is_none("transform_n_nonzero_coefs") {
            true => Ok(usual.min(n_components)),
            false => fitted.count("transform_n_nonzero_coefs"),
        }
    };
    let penalty = || match fitted.is_none("transform_alpha") {
        false => fitted.number("transform_alpha"),
        // Releases from 1.2 on take what they were trained with.
        true if fitted.version.is_from(2) => fitted.number_or("alpha", 1.0),
        true => Ok(1.0),
    };
    // Up to 0.21 it could not be chosen.
    let steps_max = || match fitted.attr("transform_max_iter") {
        Some(_) => fitted.count("transform_max_iter"),
        None => Ok(1_000),
    };
    let algorithm = fitted.text("transform_algorithm")?;
    Ok(match algorithm.as_str() {
        "omp" | "lars" if is_positive => {
            let message = format!("positive_code=True with '{algorithm}' is not supported");
            return Err(fitted.unsupported(message));
        }
        "omp" => FactorRule::Pursuit(n_nonzero()?),
        "lars" => FactorRule::LeastAngles(LeastAngles {
            penalty: 0.0,
            steps_max: n_nonzero()?,
            is_lasso: false,
            is_positive,
        }),
        "threshold" => FactorRule::Threshold {
            threshold: penalty()?,
            is_positive,
        },
        "lasso_lars" => FactorRule::LeastAngles(LeastAngles {
            penalty: penalty()? / exact(n_features),
            steps_max: steps_max()?,
            is_lasso: true,
            is_positive,
        }),
        "lasso_cd" => {
            let penalty = penalty()?;
            if penalty <= 0.0 {
                return Err(fitted.unsupported("'lasso_cd' without a penalty is not supported"));
            }
            FactorRule::Lasso(Lasso {
                penalty,
                sweeps_max: steps_max()?,
                tolerance: if fitted.version.is_from(8) {
                    1e-8
                } else {
                    1e-4
                },
                is_positive,
            })
        }
        other => return Err(fitted.unknown("transform_algorithm", other)),
    })
}

/// Converts FeatureAgglomeration.
pub(super) fn agglomeration(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let n_features = fitted.n_features()?;
    let pooling = fitted
        .attr("pooling_func")
        .and_then(|id| fitted.graph.global(id));
    let pooling = pooling.and_then(|name| name.strip_prefix("numpy.")?.rsplit('.').next());
    let clusters = fitted.counts("labels_")?;
    let n_clusters = clusters
        .iter()
        .max()
        .map_or(0, |last| last.saturating_add(1));
    if clusters.len() != n_features || n_clusters > n_features {
        return Err(fitted.malformed("'labels_' are not a cluster for each feature"));
    }
    if pooling != Some("mean") {
        let pool = pooling.and_then(Pool::named);
        let pool = pool.ok_or_else(|| {
            fitted.unsupported("a 'pooling_func' that is none of numpy's amax, amin, mean, median, prod, ptp, std, sum and var is not supported")
        })?;
        let mut groups = vec![Vec::new(); n_clusters];
        for (feature, &cluster) in clusters.iter().enumerate() {
            if let Some(group) = groups.get_mut(cluster) {
                group.push(feature);
            }
        }
        let pooled = Pooled::try_new(n_features, groups, pool);
        let pooled = Arc::new(pooled.map_err(|error| fitted.spec(error))?);
        return fitted.faceted(vec![Facet::table(Method::Transform, pooled)]);
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
