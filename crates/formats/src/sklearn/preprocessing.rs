//! Scalers and the simple imputer.

use coracle_estimators::{ImputerSpec, MissingMarker, Scaler, ScalerStep, SimpleImputer};
use coracle_model::{Accepts, LoadError};
use coracle_pickle::{Array, Node};

use super::convert::Part;
use super::fitted::Fitted;
use super::nones::NoneIs;
use super::{categories, column_imputer};

/// Converts a standard scaler.
pub(super) fn standard_scaler(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let n_features = fitted.kept_width()?;
    let mut steps = Vec::new();
    if fitted.flag("with_mean")? {
        steps.push(ScalerStep::Subtract(fitted.vector("mean_", n_features)?));
    }
    if fitted.flag("with_std")? {
        steps.push(ScalerStep::Divide(fitted.vector("scale_", n_features)?));
    }
    scaler(fitted, n_features, steps)
}

/// Converts a min-max scaler.
pub(super) fn min_max_scaler(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let n_features = fitted.n_features()?;
    let mut steps = vec![
        ScalerStep::Multiply(fitted.vector("scale_", n_features)?),
        ScalerStep::Add(fitted.vector("min_", n_features)?),
    ];
    if fitted.flag_or("clip", false)? {
        let wrong = || fitted.malformed("'feature_range' is not a pair of numbers");
        let range = fitted.list("feature_range")?;
        let mut ends = range.iter().map(|&end| fitted.graph.float(end));
        let (Some(Some(low)), Some(Some(high)), None) = (ends.next(), ends.next(), ends.next())
        else {
            return Err(wrong());
        };
        steps.push(ScalerStep::Clip { low, high });
    }
    scaler(fitted, n_features, steps)
}

/// Converts a robust scaler.
pub(super) fn robust_scaler(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let n_features = fitted.kept_width()?;
    let mut steps = Vec::new();
    if fitted.flag("with_centering")? {
        steps.push(ScalerStep::Subtract(fitted.vector("center_", n_features)?));
    }
    if fitted.flag("with_scaling")? {
        steps.push(ScalerStep::Divide(fitted.vector("scale_", n_features)?));
    }
    scaler(fitted, n_features, steps)
}

/// Converts a scaler by largest absolute values.
pub(super) fn max_abs_scaler(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let n_features = fitted.n_features()?;
    let scale = fitted.vector("scale_", n_features)?;
    let mut steps = vec![ScalerStep::Divide(scale)];
    if fitted.flag_or("clip", false)? {
        steps.push(ScalerStep::Clip {
            low: -1.0,
            high: 1.0,
        });
    }
    scaler(fitted, n_features, steps)
}

fn scaler(
    fitted: &Fitted<'_>,
    n_features: usize,
    steps: Vec<ScalerStep>,
) -> Result<Part, LoadError> {
    let scaler = Scaler::try_new(n_features, steps).map_err(|error| fitted.spec(error))?;
    // Up to 0.19 missing values were refused.
    let scaler = match fitted.version.is_up_to_zero(19) {
        true => scaler.narrowed(Accepts::FINITE),
        false => scaler,
    };
    Ok(Part::new(scaler, Vec::new()))
}

/// Converts a simple imputer.
pub(super) fn simple_imputer(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    if column_imputer::fills_objects(fitted)? {
        return column_imputer::convert(fitted);
    }
    let missing = missing_marker(fitted)?;
    let n_features = fitted.n_features()?;
    let statistics = fitted.array("statistics_")?;
    if statistics.shape() != [n_features] {
        return Err(fitted.malformed("'statistics_' is not a number per feature"));
    }
    // From 1.8 on constants are kept as Python objects.
    let numbers = match statistics.objects() {
        Some(ids) => ids.iter().map(|&id| fitted.graph.float(id)).collect(),
        None => statistics.to_f64s(),
    };
    let numbers: Vec<f64> = numbers.ok_or_else(|| {
        fitted.unsupported("imputers of anything but numbers and texts are not supported")
    })?;
    // Columns that were all missing in training are dropped, unless they are to be kept.
    let keeps_empty = fitted.flag_or("keep_empty_features", false)?;
    let replacements = numbers
        .into_iter()
        .map(|number| (keeps_empty || !number.is_nan()).then_some(number));
    let spec = ImputerSpec {
        missing,
        replacements: replacements.collect(),
        indicator_columns: indicator_columns(fitted)?,
    };
    let imputer =
        SimpleImputer::try_new(spec).map_err(|error| fitted.malformed(error.to_string()))?;
    let facts = vec![("strategy".to_owned(), fitted.text("strategy")?)];
    let part = Part::new(imputer, facts);
    let marker = fitted.require("missing_values")?;
    Ok(match fitted.graph.node(marker) {
        // It is for an imputer of NaN before this one to leave `None` to it.
        Node::None => part.with_nones(vec![NoneIs::Known; n_features]),
        // In a table of objects, which may have `None`, NA marks it, too; of one of floats, as of means and medians, it is NaN.
        node if categories::is_na(node) && statistics.objects().is_some() => {
            part.with_nones(vec![NoneIs::Untold; n_features])
        }
        _ => part,
    })
}

/// Converts the imputer of releases up to 0.21, which takes everything.
pub(super) fn older_imputer(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    if fitted.number("axis")? != 0.0 {
        return Err(
            fitted.unsupported("axis=1, which fills from the row's own values, is not supported")
        );
    }
    let missing = match fitted.text_if("missing_values") {
        Some(text) if text == "NaN" => MissingMarker::Nan,
        Some(text) => return Err(fitted.unknown("missing_values", &text)),
        None => missing_marker(fitted)?,
    };
    let statistics = fitted.vector("statistics_", fitted.n_features()?)?;
    let replacements = statistics
        .into_iter()
        .map(|number| (!number.is_nan()).then_some(number));
    let spec = ImputerSpec {
        missing,
        replacements: replacements.collect(),
        indicator_columns: Vec::new(),
    };
    let imputer = SimpleImputer::try_new(spec).map_err(|error| fitted.spec(error))?;
    let facts = vec![("strategy".to_owned(), fitted.text("strategy")?)];
    Ok(Part::new(imputer.accepting(Accepts::ANY), facts))
}

/// Reads what counts as missing.
pub(super) fn missing_marker(fitted: &Fitted<'_>) -> Result<MissingMarker, LoadError> {
    let id = fitted.require("missing_values")?;
    match fitted.graph.float(id) {
        Some(number) if number.is_nan() => Ok(MissingMarker::Nan),
        Some(number) => Ok(MissingMarker::Number(number)),
        // Numbers that pandas holds may be marked missing by its NA.
        None if categories::is_missing(fitted.graph, id) => Ok(MissingMarker::Nan),
        None => Err(fitted.unsupported("missing_values other than numbers are not supported")),
    }
}

/// Reads which columns get a "was missing" column.
pub(super) fn indicator_columns(fitted: &Fitted<'_>) -> Result<Vec<usize>, LoadError> {
    if !fitted.flag_or("add_indicator", false)? {
        return Ok(Vec::new());
    }
    let indicator = fitted.part_in("indicator_")?;
    let columns = indicator
        .graph
        .array(indicator.require("features_")?)
        .and_then(Array::to_i64s);
    let columns: Option<Vec<usize>> = columns.and_then(|columns| {
        columns
            .into_iter()
            .map(|column| usize::try_from(column).ok())
            .collect()
    });
    columns.ok_or_else(|| indicator.malformed("'features_' is not an array of columns"))
}
