//! Transformers of columns: norms, thresholds, bins, powers, quantiles, splines, products, functions.

use std::sync::Arc;

use coracle_estimators::{
    BinEncoding, ColumnOperation, ColumnSplines, Columnwise, Distribution, Extrapolation, Facet,
    Faceted, Norm, Products, RowOperation, Rowwise, Scaler, ScalerStep, Splines, TableFn,
};
use coracle_model::{Accepts, Estimator, LoadError, Method};
use coracle_pickle::NodeId;

use super::arrays::Matrix;
use super::convert::Part;
use super::fitted::Fitted;
use super::functions;

fn transformer(fitted: &Fitted<'_>, function: Arc<dyn TableFn>) -> Result<Part, LoadError> {
    fitted.faceted(vec![Facet::table(Method::Transform, function)])
}

fn rowwise(
    fitted: &Fitted<'_>,
    operation: RowOperation,
    accepts: Accepts,
) -> Result<Part, LoadError> {
    let rowwise = Rowwise::try_new(operation, fitted.kept_width()?, accepts);
    transformer(
        fitted,
        Arc::new(rowwise.map_err(|error| fitted.spec(error))?),
    )
}

/// Converts Normalizer.
pub(super) fn normalizer(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let norm = match fitted.text("norm")?.as_str() {
        "l1" => Norm::L1,
        "l2" => Norm::L2,
        "max" => Norm::Max,
        other => return Err(fitted.unknown("norm", other)),
    };
    rowwise(fitted, RowOperation::Normalize(norm), Accepts::FINITE)
}

/// Converts Binarizer.
pub(super) fn binarizer(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let threshold = fitted.number("threshold")?;
    rowwise(fitted, RowOperation::Binarize(threshold), Accepts::FINITE)
}

/// Tells whether FunctionTransformer makes its table one of numbers first, and looks for what is missing there.
fn validates(fitted: &Fitted<'_>) -> Result<bool, LoadError> {
    // `None` stood for True in 0.20 and 0.21, and is no truth before and after.
    let version = fitted.version;
    match fitted.is_none("validate") {
        true => Ok(version.is_up_to_zero(21) && !version.is_up_to_zero(19)),
        false => fitted.flag("validate"),
    }
}

/// Tells whether an estimator is a FunctionTransformer that gives the very table that it gets.
pub(super) fn is_identity(fitted: &Fitted<'_>) -> Result<bool, LoadError> {
    Ok(fitted.short_class() == "FunctionTransformer"
        && fitted.is_none("func")
        && !validates(fitted)?)
}

/// Converts FunctionTransformer over a function that Coracle knows.
pub(super) fn function(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let function = functions::known(fitted, "func")?;
    let accepts = match validates(fitted)? {
        true => Accepts::FINITE,
        false => Accepts::ANY,
    };
    let operation = RowOperation::Function(function);
    if function.is_truth() {
        let rowwise = Rowwise::try_new(operation, fitted.kept_width()?, accepts);
        let rowwise = Arc::new(rowwise.map_err(|error| fitted.spec(error))?);
        return fitted.faceted(vec![Facet::truths(Method::Transform, rowwise)]);
    }
    rowwise(fitted, operation, accepts)
}

/// Converts PolynomialFeatures.
pub(super) fn polynomial(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let degree = fitted.require("degree")?;
    let count = |id: NodeId| {
        let value = fitted
            .graph
            .int(id)
            .and_then(|value| usize::try_from(value).ok());
        value.ok_or_else(|| fitted.malformed("'degree' is not a count or a pair of counts"))
    };
    let degrees = match fitted.graph.list(degree) {
        Some(&[low, high]) => (count(low)?, count(high)?),
        _ => (0, count(degree)?),
    };
    let products = Products::try_new(
        fitted.n_features()?,
        degrees,
        fitted.flag("interaction_only")?,
        fitted.flag("include_bias")?,
        polynomial_width(fitted)?,
    );
    transformer(
        fitted,
        Arc::new(products.map_err(|error| fitted.spec(error))?),
    )
}

fn polynomial_width(fitted: &Fitted<'_>) -> Result<usize, LoadError> {
    let name = match fitted.attr("n_output_features_") {
        Some(_) => "n_output_features_",
        None => "_n_out_full",
    };
    fitted.count(name)
}

/// Converts KBinsDiscretizer; one column per bin is written out densely.
pub(super) fn bins(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let encoding = match fitted.text("encode")?.as_str() {
        "ordinal" => BinEncoding::Ordinal,
        "onehot" | "onehot-dense" => BinEncoding::OneHot,
        other => return Err(fitted.unknown("encode", other)),
    };
    let n_features = fitted.n_features()?;
    let operations: Vec<ColumnOperation> = fitted
        .arrays("bin_edges_")?
        .into_iter()
        .map(|(_, edges)| {
            let inner = edges.len().saturating_sub(2);
            ColumnOperation::Bins {
                edges: edges.into_iter().skip(1).take(inner).collect(),
                encoding,
                with_slack: !fitted.version.is_from(1),
            }
        })
        .collect();
    if operations.len() != n_features {
        return Err(fitted.malformed("'bin_edges_' has another number of columns"));
    }
    columnwise(fitted, operations, Accepts::FINITE)
}

fn columnwise(
    fitted: &Fitted<'_>,
    operations: Vec<ColumnOperation>,
    accepts: Accepts,
) -> Result<Part, LoadError> {
    let columnwise = Columnwise::try_new(operations, accepts);
    transformer(
        fitted,
        Arc::new(columnwise.map_err(|error| fitted.spec(error))?),
    )
}

/// Converts PowerTransformer.
pub(super) fn power(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let n_features = fitted.n_features()?;
    let lambdas = fitted.vector("lambdas_", n_features)?;
    let method = fitted.text("method")?;
    let precise = fitted.version.is_from(9);
    let operations = lambdas
        .into_iter()
        .map(|lambda| match method.as_str() {
            "yeo-johnson" => Ok(ColumnOperation::YeoJohnson { lambda, precise }),
            "box-cox" => Ok(ColumnOperation::BoxCox { lambda }),
            other => Err(fitted.unknown("method", other)),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let columnwise = Columnwise::try_new(operations, Accepts::FINITE_OR_MISSING);
    let power: Arc<dyn TableFn> = Arc::new(columnwise.map_err(|error| fitted.spec(error))?);
    if !fitted.flag("standardize")? {
        return transformer(fitted, power);
    }
    let scaler = fitted.part_in("_scaler")?;
    let steps = vec![
        ScalerStep::Subtract(scaler.vector("mean_", n_features)?),
        ScalerStep::Divide(scaler.vector("scale_", n_features)?),
    ];
    let scaler = Scaler::try_new(n_features, steps).map_err(|error| fitted.spec(error))?;
    let scaler: Arc<dyn Estimator> = Arc::new(scaler);
    let facets = Facet::delegated(Some(&power), &scaler);
    let facets = facets.map_err(|error| fitted.spec(error))?;
    let faceted = Faceted::try_new(facets).map_err(|error| fitted.spec(error))?;
    Ok(Part::new(faceted, vec![("method".to_owned(), method)]))
}

/// Converts QuantileTransformer.
pub(super) fn quantiles(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let distribution = distribution(fitted)?;
    let (columns, references) = learnt_quantiles(fitted)?;
    let operations = columns
        .into_iter()
        .map(|quantiles| ColumnOperation::Quantiles {
            quantiles,
            references: references.clone(),
            distribution,
        });
    columnwise(fitted, operations.collect(), Accepts::FINITE_OR_MISSING)
}

/// Returns the quantiles of each column, and the share below each.
fn learnt_quantiles(fitted: &Fitted<'_>) -> Result<(Vec<Vec<f64>>, Vec<f64>), LoadError> {
    let quantiles: Matrix = fitted.matrix("quantiles_")?;
    if quantiles.n_columns != fitted.n_features()? {
        return Err(fitted.malformed("'quantiles_' has another number of columns"));
    }
    let references = fitted.finite("references_", quantiles.n_rows)?;
    let columns = quantiles.transposed();
    Ok((columns.rows().map(<[f64]>::to_vec).collect(), references))
}

/// Returns what a QuantileTransformer's inverse does with each column.
pub(super) fn quantiles_inverse(fitted: &Fitted<'_>) -> Result<Vec<ColumnOperation>, LoadError> {
    let distribution = distribution(fitted)?;
    let (columns, references) = learnt_quantiles(fitted)?;
    let operations = columns
        .into_iter()
        .map(|quantiles| ColumnOperation::QuantilesInverse {
            quantiles,
            references: references.clone(),
            distribution,
        });
    Ok(operations.collect())
}

fn distribution(fitted: &Fitted<'_>) -> Result<Distribution, LoadError> {
    match fitted.text("output_distribution")?.as_str() {
        "uniform" if fitted.version.is_up_to_zero(20) => Ok(Distribution::BoundedUniform),
        "uniform" => Ok(Distribution::Uniform),
        "normal" => Ok(Distribution::Normal),
        other => Err(fitted.unknown("output_distribution", other)),
    }
}

/// Returns what a PowerTransformer's inverse does with each column, before the scaler's.
pub(super) fn power_inverse(fitted: &Fitted<'_>) -> Result<Vec<ColumnOperation>, LoadError> {
    let lambdas = fitted.vector("lambdas_", fitted.n_features()?)?;
    let method = fitted.text("method")?;
    let operations = lambdas.into_iter().map(|lambda| match method.as_str() {
        "yeo-johnson" => Ok(ColumnOperation::YeoJohnsonInverse { lambda }),
        "box-cox" => Ok(ColumnOperation::BoxCoxInverse { lambda }),
        other => Err(fitted.unknown("method", other)),
    });
    operations.collect()
}

/// Converts SplineTransformer.
pub(super) fn splines(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let extrapolation = match fitted.text("extrapolation")?.as_str() {
        "error" => Extrapolation::Refuse,
        "constant" => Extrapolation::Constant,
        "linear" => Extrapolation::Linear,
        "continue" => Extrapolation::Continue,
        "periodic" => Extrapolation::Periodic,
        other => return Err(fitted.unknown("extrapolation", other)),
    };
    let mut columns = Vec::new();
    for (index, &id) in fitted.list("bsplines_")?.iter().enumerate() {
        columns.push(column_splines(
            &fitted.part(id, &format!("bsplines_[{index}]"))?,
        )?);
    }
    if columns.len() != fitted.n_features()? {
        return Err(fitted.malformed("'bsplines_' has another number of columns"));
    }
    let zeros = fitted.text_or("handle_missing", "error")? == "zeros";
    let splines = Splines::try_new(columns, extrapolation, fitted.flag("include_bias")?, zeros);
    transformer(
        fitted,
        Arc::new(splines.map_err(|error| fitted.spec(error))?),
    )
}

/// Reads scipy's spline, whose attributes have an underscore from scipy 1.17 on.
fn column_splines(spline: &Fitted<'_>) -> Result<ColumnSplines, LoadError> {
    let either = |old: &'static str, new: &'static str| match spline.attr(new) {
        Some(_) => new,
        None => old,
    };
    let coefficients = spline.matrix(either("c", "_c"))?;
    Ok(ColumnSplines {
        knots: spline.flat(either("t", "_t"))?,
        degree: spline.count("k")?,
        n_splines: coefficients.n_columns,
        coefficients: coefficients.values,
    })
}
