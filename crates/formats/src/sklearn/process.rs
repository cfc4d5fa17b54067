//! Gaussian processes.

use std::sync::Arc;

use coracle_estimators::{
    Choice, Covariance, Facet, Labels, Mapped, Pointwise, Prior, Process, ProcessAnswer,
    Smoothness, TableFn,
};
use coracle_model::{LoadError, Method};
use coracle_tensor::Values;

use super::arrays::Matrix;
use super::convert::Part;
use super::fitted::Fitted;
use super::labels::labels;

/// Reads a kernel: sums, products and powers of known ones.
fn covariance(kernel: &Fitted<'_>) -> Result<Covariance, LoadError> {
    let inner = |name: &str| covariance(&kernel.part_in(name)?).map(Box::new);
    Ok(match kernel.short_class() {
        "ConstantKernel" => Covariance::Constant(kernel.number("constant_value")?),
        "WhiteKernel" => Covariance::White(kernel.number("noise_level")?),
        "RBF" => Covariance::Rbf(scales(kernel)?),
        "Matern" => Covariance::Matern {
            scales: scales(kernel)?,
            smoothness: match kernel.number("nu")? {
                0.5 => Smoothness::Half,
                1.5 => Smoothness::ThreeHalves,
                2.5 => Smoothness::FiveHalves,
                f64::INFINITY => Smoothness::Infinite,
                other => return Err(kernel.unknown("nu", &other.to_string())),
            },
        },
        "RationalQuadratic" => Covariance::RationalQuadratic {
            scale: kernel.number("length_scale")?,
            alpha: kernel.number("alpha")?,
        },
        "ExpSineSquared" => Covariance::Periodic {
            scale: kernel.number("length_scale")?,
            period: kernel.number("periodicity")?,
        },
        "DotProduct" => Covariance::Dot(kernel.number("sigma_0")?),
        "Sum" => Covariance::Sum(inner("k1")?, inner("k2")?),
        "Product" => Covariance::Product(inner("k1")?, inner("k2")?),
        "Exponentiation" => Covariance::Power(inner("kernel")?, kernel.number("exponent")?),
        other => return Err(kernel.unknown("kernel", other)),
    })
}

fn scales(kernel: &Fitted<'_>) -> Result<Vec<f64>, LoadError> {
    let id = kernel.require("length_scale")?;
    if let Some(items) = kernel.graph.list(id) {
        let scales: Option<Vec<f64>> = items.iter().map(|&id| kernel.graph.float(id)).collect();
        return scales.ok_or_else(|| kernel.malformed("'length_scale' holds no numbers"));
    }
    kernel.flat("length_scale")
}

/// Reads the kernel, the training data, and with `factor` what is spread among these.
fn prior(fitted: &Fitted<'_>, factor: Option<&str>) -> Result<Arc<Prior>, LoadError> {
    let data = fitted.matrix("X_train_")?;
    let kernel = covariance(&fitted.part_in("kernel_")?)?;
    let factor = factor.map(|name| fitted.matrix_of(name, data.n_rows));
    let factor = factor.transpose()?.map(|factor| factor.values);
    let prior = Prior::try_new(kernel, data.values, data.n_columns, factor);
    Ok(Arc::new(prior.map_err(|error| fitted.spec(error))?))
}

/// Converts GaussianProcessRegressor: the mean, and the deviation beside it.
pub(super) fn regressor(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let deviation_scale = deviation_scale(fitted)?;
    let factor = deviation_scale.is_some().then_some("L_");
    let prior = prior(fitted, factor)?;
    let (shape, values) = fitted.numbers("alpha_")?;
    let (weights, n_targets, is_flat) = match *shape.as_slice() {
        [_] => (values, 1, true),
        [n_rows, n_columns] => {
            let matrix = Matrix {
                n_rows,
                n_columns,
                values,
            };
            // Up to 1.0 a column of targets was answered by a column.
            let is_flat = n_columns == 1 && fitted.version.is_from(1);
            (matrix.transposed().values, n_columns, is_flat)
        }
        _ => return Err(fitted.malformed(format!("'alpha_' has shape {shape:?}"))),
    };
    let per_target = |name: &str| -> Result<Vec<f64>, LoadError> {
        let values = fitted.flat(name)?;
        Ok(match values.as_slice() {
            [value] => vec![*value; n_targets],
            _ => values,
        })
    };
    let answer = ProcessAnswer::Mean {
        weights,
        // Up to 0.22 targets were shifted only.
        scale: match fitted.version.is_up_to_zero(22) {
            true => vec![1.0; n_targets],
            false => per_target("_y_train_std")?,
        },
        shift: per_target(match fitted.version.is_up_to_zero(18) {
            true => "y_train_mean",
            false => "_y_train_mean",
        })?,
    };
    let process = |answer: ProcessAnswer| -> Result<Arc<dyn TableFn>, LoadError> {
        let process = Process::try_new(Arc::clone(&prior), answer);
        Ok(Arc::new(process.map_err(|error| fitted.spec(error))?))
    };
    let deviation = match deviation_scale {
        Some(scale) => {
            let deviation = process(ProcessAnswer::Deviation { scale })?;
            Some(Facet::flat(Method::PredictStd, deviation))
        }
        None => None,
    };
    let process = process(answer)?;
    let facet = match is_flat {
        true => Facet::column(Method::Predict, process).map_err(|error| fitted.spec(error))?,
        false => Facet::table(Method::Predict, process),
    };
    fitted.faceted([facet].into_iter().chain(deviation).collect())
}

/// Returns what the deviations of each target are multiplied by, which `predict` says with `return_std`; `None` of a part of a model, and where it
/// is an error.
fn deviation_scale(fitted: &Fitted<'_>) -> Result<Option<Vec<f64>>, LoadError> {
    // Up to 0.22 targets were shifted only; up to 0.24 those of several scales were an error.
    let scale = match fitted.version.is_up_to_zero(22) {
        true => vec![1.0],
        false => fitted.flat("_y_train_std")?,
    };
    let is_error = scale.len() > 1 && !fitted.version.is_from(0);
    Ok(Some(scale).filter(|_| fitted.is_whole && !is_error))
}

/// Converts the binary classifier within GaussianProcessClassifier.
pub(super) fn binary(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let spec = |error| fitted.spec(error);
    let prior = prior(fitted, Some("L_"))?;
    let n = prior.n_rows();
    let probabilities = fitted.finite("pi_", n)?;
    let targets = match fitted.array("y_train_")?.to_bools() {
        Some(flags) => flags
            .into_iter()
            .map(|flag| f64::from(u8::from(flag)))
            .collect(),
        None => fitted.flat("y_train_")?,
    };
    if targets.len() != n {
        return Err(fitted.malformed("'y_train_' has another length"));
    }
    let weights: Vec<f64> = targets
        .iter()
        .zip(&probabilities)
        .map(|(y, p)| y - p)
        .collect();
    let process = |answer: ProcessAnswer| -> Result<Arc<dyn TableFn>, LoadError> {
        let process = Process::try_new(Arc::clone(&prior), answer);
        Ok(Arc::new(process.map_err(spec)?))
    };
    let latent = process(ProcessAnswer::Mean {
        weights: weights.clone(),
        scale: vec![1.0],
        shift: vec![0.0],
    })?;
    let probability = process(ProcessAnswer::Probability {
        weights,
        roots: fitted.finite("W_sr_", n)?,
    })?;
    let labels = match fitted.attr("classes_") {
        Some(_) => labels(fitted)?,
        None => Labels::new(Values::I64(vec![0, 1].into())),
    };
    let pair = Mapped::new(probability, Pointwise::WithComplement);
    fitted.faceted(vec![
        Facet::classes(latent, labels, Choice::Above(0.0)).map_err(spec)?,
        Facet::table(Method::PredictProba, Arc::new(pair)),
    ])
}

/// Converts GaussianProcessClassifier, which answers as the estimator within.
pub(super) fn classifier(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let (estimator, component) = fitted.estimator_in("base_estimator_")?;
    let facets = Facet::delegated(None, &estimator).map_err(|error| fitted.spec(error))?;
    let wanted = [Method::Predict, Method::PredictProba];
    let facets = facets
        .into_iter()
        .filter(|facet| wanted.contains(&facet.method()));
    let mut part = fitted.faceted(facets.collect())?;
    part.children.push(component);
    Ok(part)
}
