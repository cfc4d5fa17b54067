//! Estimators that answer the same whatever they are asked.

use std::sync::Arc;

use coracle_estimators::{Choice, Constant, Facet, Labels, Mapped, Padded, Pointwise, TableFn};
use coracle_model::{LoadError, Method};
use coracle_pickle::NodeId;
use coracle_tensor::Values;

use super::convert::Part;
use super::fitted::Fitted;
use super::labels::{labels, labels_of_outputs};
use super::numbers::exact;

/// Converts DummyClassifier; strategies that draw at random are refused.
pub(super) fn classifier(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let spec = |error| fitted.spec(error);
    if let Some(labels) = labels_of_outputs(fitted)? {
        return of_outputs(fitted, labels);
    }
    let labels = labels(fitted)?;
    let priors = fitted.finite("class_prior_", labels.len())?;
    let constant = match fitted.text("_strategy")?.as_str() {
        "constant" => Some(constant(fitted, fitted.require("constant")?)?),
        _ => None,
    };
    let probabilities = probabilities(fitted, &labels, priors, constant.as_ref())?;
    let constant: Arc<dyn TableFn> = Arc::new(Constant::new(fitted.known_width()?, probabilities));
    let predict = Facet::classes(Arc::clone(&constant), labels, Choice::FirstLargest);
    let logarithms = Mapped::new(Arc::clone(&constant), Pointwise::Ln);
    fitted.faceted(vec![
        predict.map_err(spec)?,
        Facet::table(Method::PredictProba, constant),
        Facet::table(Method::PredictLogProba, Arc::new(logarithms)),
    ])
}

fn of_outputs(fitted: &Fitted<'_>, labels: Vec<Labels>) -> Result<Part, LoadError> {
    let spec = |error| fitted.spec(error);
    if fitted.flag_or("sparse_output_", false)? {
        return Err(fitted.unsupported("sparse outputs are not supported"));
    }
    let width = fitted.known_width()?;
    let priors = fitted.list("class_prior_")?;
    let constants = match fitted.text("_strategy")?.as_str() {
        "constant" => Some(constants(fitted)?),
        _ => None,
    };
    let (mut classes, mut tables): (Vec<f64>, Vec<Arc<dyn TableFn>>) = Default::default();
    for (output, labels) in labels.iter().enumerate() {
        let priors = priors.get(output).and_then(|&id| fitted.graph.array(id));
        let priors = priors
            .and_then(|array| array.to_f64s())
            .filter(|priors| priors.len() == labels.len())
            .ok_or_else(|| fitted.malformed("'class_prior_' does not fit 'classes_'"))?;
        let constant = match &constants {
            Some(constants) => Some(constants.get(output).ok_or_else(|| {
                fitted.malformed("'constant' has fewer values than there are outputs")
            })?),
            None => None,
        };
        let probabilities = probabilities(fitted, labels, priors, constant)?;
        classes.push(exact(first_largest(&probabilities)));
        tables.push(Arc::new(Constant::new(width, probabilities)));
    }
    let classes = Arc::new(Constant::new(width, classes));
    let tables = Padded::try_new(tables).map_err(spec)?;
    let shape = tables.shape();
    let tables: Arc<dyn TableFn> = Arc::new(tables);
    let logarithms = Arc::new(Mapped::new(Arc::clone(&tables), Pointwise::Ln));
    fitted.faceted(vec![
        Facet::class_table(classes, labels).map_err(spec)?,
        Facet::outputs(Method::PredictProba, tables, shape).map_err(spec)?,
        Facet::outputs(Method::PredictLogProba, logarithms, shape).map_err(spec)?,
    ])
}

/// Returns the constant of each output.
fn constants(fitted: &Fitted<'_>) -> Result<Vec<Values>, LoadError> {
    let id = fitted.require("constant")?;
    let array = fitted.graph.array(id);
    let objects = array.and_then(|array| array.objects());
    if let Some(items) = fitted.graph.list(id).or(objects) {
        return items.iter().map(|&item| constant(fitted, item)).collect();
    }
    let texts = array.and_then(|array| array.to_strings());
    let numbers = array.and_then(|array| array.to_f64s());
    match (texts, numbers) {
        (Some(texts), _) => Ok(texts
            .into_iter()
            .map(|text| Values::Bytes([text].into_iter().collect()))
            .collect()),
        (None, Some(numbers)) => Ok(numbers
            .into_iter()
            .map(|number| Values::F64(vec![number].into()))
            .collect()),
        _ => Err(fitted.malformed("'constant' is no list of texts or numbers")),
    }
}

fn constant(fitted: &Fitted<'_>, id: NodeId) -> Result<Values, LoadError> {
    match (fitted.graph.string(id), fitted.graph.float(id)) {
        (Some(text), _) => Ok(Values::Bytes([text].into_iter().collect())),
        (None, Some(number)) => Ok(Values::F64(vec![number].into())),
        _ => Err(fitted.unsupported("'constant' is no text or number")),
    }
}

/// Returns the probabilities of the classes of one output.
fn probabilities(
    fitted: &Fitted<'_>,
    labels: &Labels,
    priors: Vec<f64>,
    constant: Option<&Values>,
) -> Result<Vec<f64>, LoadError> {
    let one_hot = |at: usize| {
        (0..labels.len())
            .map(|class| if class == at { 1.0 } else { 0.0 })
            .collect()
    };
    if let Some(constant) = constant {
        let found = labels.indices_of(constant).unwrap_or_default();
        let class = (0..labels.len()).find(|&at| found.first() == Some(&exact(at)));
        let class = class.ok_or_else(|| fitted.malformed("'constant' is no class"))?;
        return Ok(one_hot(class));
    }
    match fitted.text("_strategy")?.as_str() {
        "prior" => Ok(priors),
        "most_frequent" => Ok(one_hot(first_largest(&priors))),
        other => Err(fitted.unsupported(format!("strategy '{other}' draws at random"))),
    }
}

fn first_largest(values: &[f64]) -> usize {
    let mut largest = (0, f64::NEG_INFINITY);
    for (at, &value) in values.iter().enumerate() {
        if value > largest.1 {
            largest = (at, value);
        }
    }
    largest.0
}

/// Converts DummyRegressor.
pub(super) fn regressor(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let values = fitted.flat("constant_")?;
    let constant = Constant::new(fitted.known_width()?, values);
    fitted.faceted(vec![Facet::flat(Method::Predict, Arc::new(constant))])
}
