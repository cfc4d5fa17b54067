//! Multilayer perceptrons.

use std::sync::Arc;

use coracle_estimators::{
    Activation, Choice, Composed, Facet, Labels, Layer, Mapped, Network, Pointwise, RowRule, Rule,
    TableFn,
};
use coracle_model::{LoadError, Method};
use coracle_tensor::Values;

use super::arrays::Matrix;
use super::convert::Part;
use super::fitted::Fitted;
use super::labels::labels;

fn network(fitted: &Fitted<'_>) -> Result<Network, LoadError> {
    let named = |attribute: &str| {
        let name = fitted.text(attribute)?;
        Activation::named(&name).ok_or_else(|| fitted.unknown(attribute, &name))
    };
    let (hidden, last) = (named("activation")?, named("out_activation_")?);
    let weights = fitted.arrays("coefs_")?;
    let intercepts = fitted.arrays("intercepts_")?;
    let n_layers = weights.len();
    if n_layers != intercepts.len() {
        return Err(fitted.malformed("'coefs_' and 'intercepts_' differ in length"));
    }
    let mut layers = Vec::with_capacity(n_layers);
    for (index, ((shape, values), (_, intercepts))) in
        weights.into_iter().zip(intercepts).enumerate()
    {
        let &[n_rows, n_columns] = shape.as_slice() else {
            return Err(fitted.malformed(format!("coefs_[{index}] has shape {shape:?}")));
        };
        let matrix = Matrix {
            n_rows,
            n_columns,
            values,
        };
        let is_last = index.saturating_add(1) == n_layers;
        layers.push(Layer {
            weights: matrix.transposed().values,
            intercepts,
            activation: if is_last { last } else { hidden },
        });
    }
    Network::try_new(layers, fitted.n_features()?).map_err(|error| fitted.spec(error))
}

fn facts(fitted: &Fitted<'_>) -> Vec<(String, String)> {
    let n_layers = fitted.count("n_layers_").unwrap_or_default();
    vec![("layers".to_owned(), n_layers.to_string())]
}

/// Converts MLPRegressor.
pub(super) fn regressor(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let part = fitted.faceted(vec![Facet::flat(
        Method::Predict,
        Arc::new(network(fitted)?),
    )])?;
    Ok(Part {
        facts: facts(fitted),
        ..part
    })
}

/// Converts MLPClassifier.
pub(super) fn classifier(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let spec = |error| fitted.spec(error);
    let network: Arc<dyn TableFn> = Arc::new(network(fitted)?);
    let binarizer = fitted.part_in("_label_binarizer")?;
    let kind = binarizer.text("y_type_")?;
    let (predict, probabilities): (Facet, Arc<dyn TableFn>) = match kind.as_str() {
        "binary" => {
            let labels = labels(fitted)?;
            let predict = Facet::classes(Arc::clone(&network), labels, Choice::Above(0.5));
            let pair = Mapped::new(Arc::clone(&network), Pointwise::WithComplement);
            (predict.map_err(spec)?, Arc::new(pair))
        }
        "multiclass" => {
            let labels = labels(fitted)?;
            let predict = Facet::classes(Arc::clone(&network), labels, Choice::FirstLargest);
            (predict.map_err(spec)?, Arc::clone(&network))
        }
        "multilabel-indicator" => {
            let n_outputs = network.n_columns();
            let above = RowRule::try_new(Rule::Above(0.5), n_outputs).map_err(spec)?;
            let above = Composed::try_new(Arc::clone(&network), Arc::new(above)).map_err(spec)?;
            let labels = vec![Labels::new(Values::I64(vec![0, 1].into())); n_outputs];
            let predict = Facet::class_table(Arc::new(above), labels);
            (predict.map_err(spec)?, Arc::clone(&network))
        }
        other => return Err(fitted.unknown("target type", other)),
    };
    let logarithms = Mapped::new(Arc::clone(&probabilities), Pointwise::Ln);
    let part = fitted.faceted(vec![
        predict,
        Facet::table(Method::PredictProba, probabilities),
        Facet::table(Method::PredictLogProba, Arc::new(logarithms)),
    ])?;
    Ok(Part {
        facts: facts(fitted),
        ..part
    })
}
