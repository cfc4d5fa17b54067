//! Multilayer perceptrons.

use coracle_model::{Accepts, Scorer};
use coracle_tensor::Rows;

use crate::linear::dot;
use crate::link::{sigmoid, softmax};
use crate::spec_error::{SpecError, expect_length};

/// The function after a layer's sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    Identity,
    /// 1 / (1 + exp(-x)).
    Logistic,
    /// The hyperbolic tangent.
    Tanh,
    /// Negative numbers become zero.
    Relu,
    /// The softmax over the layer.
    Softmax,
    /// The exponential, after which come counts.
    Exp,
}

impl Activation {
    /// Returns the activation of this name in scikit-learn.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "identity" => Self::Identity,
            "logistic" => Self::Logistic,
            "tanh" => Self::Tanh,
            "relu" => Self::Relu,
            "softmax" => Self::Softmax,
            "exp" => Self::Exp,
            _ => return None,
        })
    }

    fn apply(self, values: &mut [f64]) {
        match self {
            Self::Identity => {}
            Self::Logistic => values.iter_mut().for_each(|value| *value = sigmoid(*value)),
            Self::Tanh => values.iter_mut().for_each(|value| *value = value.tanh()),
            Self::Relu => values.iter_mut().for_each(|value| *value = value.max(0.0)),
            Self::Softmax => softmax(values),
            Self::Exp => values.iter_mut().for_each(|value| *value = value.exp()),
        }
    }
}

/// One layer.
#[derive(Clone, Debug)]
pub struct Layer {
    /// `(outputs, inputs)`, row-major.
    pub weights: Vec<f64>,
    /// One per output.
    pub intercepts: Vec<f64>,
    /// The function after the sums.
    pub activation: Activation,
}

/// A network of layers.
#[derive(Debug)]
pub struct Network {
    layers: Vec<Layer>,
    n_features: usize,
    widest: usize,
}

impl Network {
    /// Returns the network of `layers` over `n_features` columns.
    ///
    /// # Errors
    /// [`SpecError`] if there are no layers or the widths of neighbours do not fit.
    pub fn try_new(layers: Vec<Layer>, n_features: usize) -> Result<Self, SpecError> {
        let mut width = n_features;
        let mut widest = n_features;
        for layer in &layers {
            let n_outputs = layer.intercepts.len();
            if width == 0 || n_outputs == 0 {
                return Err(SpecError::new("a layer is empty"));
            }
            expect_length(
                "coefs_",
                layer.weights.len(),
                width.saturating_mul(n_outputs),
            )?;
            width = n_outputs;
            widest = widest.max(width);
        }
        if layers.is_empty() {
            return Err(SpecError::new("there are no layers"));
        }
        Ok(Self {
            layers,
            n_features,
            widest,
        })
    }
}

impl Scorer for Network {
    fn n_features(&self) -> usize {
        self.n_features
    }

    fn n_scores(&self) -> usize {
        self.layers.last().map_or(0, |layer| layer.intercepts.len())
    }

    fn accepts(&self) -> Accepts {
        Accepts::FINITE
    }

    fn score(&self, rows: Rows<'_>, scores: &mut [f64]) {
        let mut input = vec![0.0; self.widest];
        let mut output = vec![0.0; self.widest];
        for (row, scores) in rows.iter().zip(scores.chunks_exact_mut(self.n_scores())) {
            input[..row.len()].copy_from_slice(row);
            let mut width = row.len();
            for layer in &self.layers {
                let n_outputs = layer.intercepts.len();
                let sums = output[..n_outputs].iter_mut().zip(&layer.intercepts);
                for ((sum, intercept), weights) in sums.zip(layer.weights.chunks_exact(width)) {
                    *sum = dot(&input[..width], weights) + intercept;
                }
                layer.activation.apply(&mut output[..n_outputs]);
                std::mem::swap(&mut input, &mut output);
                width = n_outputs;
            }
            scores.copy_from_slice(&input[..width]);
        }
    }

    fn memory_bytes(&self) -> usize {
        let layers = self.layers.iter();
        let n_numbers: usize = layers
            .map(|layer| layer.weights.capacity() + layer.intercepts.capacity())
            .sum();
        n_numbers * size_of::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_follow_each_other_and_must_fit() {
        let layer = |weights: Vec<f64>, intercepts: Vec<f64>| Layer {
            weights,
            intercepts,
            activation: Activation::Relu,
        };
        let first = layer(vec![1.0, -1.0, 2.0, 0.0], vec![0.0, 1.0]);
        let second = layer(vec![1.0, 1.0], vec![-1.0]);
        let network = Network::try_new(vec![first.clone(), second], 2).unwrap();
        let mut scores = [0.0; 2];
        network.score(
            Rows::try_new(&[1.0, 3.0, 2.0, 1.0], 2).unwrap(),
            &mut scores,
        );
        assert_eq!(scores, [2.0, 5.0]);
        assert!(Network::try_new(vec![first.clone(), first], 3).is_err());
        assert!(Network::try_new(Vec::new(), 2).is_err());
    }
}
