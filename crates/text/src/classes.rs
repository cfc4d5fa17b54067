//! The logits of a classifier to labels and scores, as transformers' pipeline of text classification makes them.

use coracle_model::{LoadError, LoadErrorKind, RunError, RunErrorKind, TensorSpec};
use coracle_tensor::{ByteStrings, DType, Tensor, Values};

use crate::settings::{Activation, Classes, Problem};

/// A classifier's classes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Classifier {
    labels: Vec<String>,
    activation: Activation,
    is_multi_label: bool,
}

/// The outputs, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    Label,
    Score,
    Scores,
    Logits,
}

const OUTPUTS: [(Output, &str); 4] = [
    (Output::Label, "label"),
    (Output::Score, "score"),
    (Output::Scores, "scores"),
    (Output::Logits, "logits"),
];

impl Classifier {
    /// Returns the classifier of a graph that gives `n` logits.
    ///
    /// # Errors
    /// Kind `Malformed` where the files have another number of labels.
    pub(crate) fn try_new(classes: &Classes, n: usize) -> Result<Self, LoadError> {
        let labels = match &classes.labels {
            Some(labels) if labels.len() != n => {
                let message = format!(
                    "config.json: id2label has {} labels, the graph gives {n} logits",
                    labels.len()
                );
                return Err(LoadError::new(LoadErrorKind::Malformed, message));
            }
            Some(labels) => labels.clone(),
            None => (0..n).map(|class| format!("LABEL_{class}")).collect(),
        };
        let activation = match (classes.activation, classes.problem) {
            (Some(activation), _) => activation,
            (None, _) if classes.is_cross_encoder && n > 1 => Activation::None,
            (None, Some(Problem::Regression)) if !classes.is_cross_encoder => Activation::None,
            (None, Some(Problem::MultiLabel)) => Activation::Sigmoid,
            _ if n == 1 => Activation::Sigmoid,
            _ => Activation::Softmax,
        };
        Ok(Self {
            labels,
            activation,
            is_multi_label: classes.problem == Some(Problem::MultiLabel),
        })
    }

    pub(crate) fn outputs(&self) -> Vec<TensorSpec> {
        let specs = OUTPUTS.iter().map(|(output, name)| {
            let is_table = matches!(output, Output::Scores | Output::Logits);
            TensorSpec {
                name: (*name).to_owned(),
                dtype: match output {
                    Output::Label => DType::Bytes,
                    _ => DType::F32,
                },
                shape: match is_table {
                    true => vec![None, Some(self.labels.len())],
                    false => vec![None],
                },
                columns: is_table.then(|| self.labels.clone()),
                accepts_missing: false,
                accepts_integers: false,
            }
        });
        specs.collect()
    }

    /// Returns what a request gets that asks for nothing: the best label with its score, or the score of every label where
    /// several may be right.
    /// Of pairs with one label the score is all that there is to say.
    pub(crate) fn default_outputs(&self, is_of_pairs: bool) -> Vec<usize> {
        let is_one = is_of_pairs && self.labels.len() == 1;
        let is_default = |output: Output| match self.is_multi_label {
            _ if is_one => output == Output::Score,
            true => output == Output::Scores,
            false => matches!(output, Output::Label | Output::Score),
        };
        let places = OUTPUTS.iter().enumerate();
        let places = places.filter(|(_, (output, _))| is_default(*output));
        places.map(|(place, _)| place).collect()
    }

    /// Returns the outputs that V1 gives by label.
    pub(crate) fn keyed_outputs(&self) -> Vec<usize> {
        let places = OUTPUTS.iter().enumerate();
        let places =
            places.filter(|(_, (output, _))| matches!(output, Output::Scores | Output::Logits));
        places.map(|(place, _)| place).collect()
    }

    /// Says what is done, for people.
    pub(crate) fn described(&self) -> String {
        let activation = match self.activation {
            Activation::Softmax => "softmax",
            Activation::Sigmoid => "sigmoid",
            Activation::None => "the logits themselves",
        };
        format!("{} labels, scores by {activation}", self.labels.len())
    }

    /// Computes outputs of rows of logits.
    ///
    /// # Errors
    /// Kind `Internal` for an output that is not there.
    pub(crate) fn answer(
        &self,
        logits: Vec<f32>,
        outputs: &[usize],
    ) -> Result<Vec<Tensor>, RunError> {
        let n_labels = self.labels.len().max(1);
        let n_rows = logits.len().checked_div(n_labels).unwrap_or(0);
        let scores = self.scores(&logits, n_labels);
        let best: Vec<(usize, f32)> = scores.chunks_exact(n_labels).map(largest).collect();
        let table = |values: &[f32]| (vec![n_rows, n_labels], Values::F32(values.to_vec().into()));
        let tensors = outputs.iter().map(|&output| {
            let known = OUTPUTS.get(output).map(|(output, _)| *output);
            let (shape, values) = match known {
                Some(Output::Label) => {
                    let labels = best.iter().map(|(class, _)| self.labels.get(*class));
                    let labels = labels.map(|label| label.map_or("", String::as_str));
                    let labels: ByteStrings = labels.collect();
                    (vec![n_rows], Values::Bytes(labels))
                }
                Some(Output::Score) => {
                    let scores = best.iter().map(|(_, score)| *score);
                    (vec![n_rows], Values::F32(scores.collect()))
                }
                Some(Output::Scores) => table(&scores),
                Some(Output::Logits) => table(&logits),
                None => {
                    let message = format!("there is no output {output}");
                    return Err(RunError::new(RunErrorKind::Internal, message));
                }
            };
            Tensor::try_new(shape, values)
                .map_err(|error| RunError::new(RunErrorKind::Internal, error.to_string()))
        });
        tensors.collect()
    }

    fn scores(&self, logits: &[f32], n_labels: usize) -> Vec<f32> {
        match self.activation {
            Activation::None => logits.to_vec(),
            Activation::Sigmoid => {
                let scores = logits.iter().map(|&logit| 1.0 / (1.0 + (-logit).exp()));
                scores.collect()
            }
            Activation::Softmax => {
                let mut scores = Vec::with_capacity(logits.len());
                for row in logits.chunks_exact(n_labels) {
                    let (_, most) = largest(row);
                    let start = scores.len();
                    scores.extend(row.iter().map(|&logit| (logit - most).exp()));
                    let row = scores.get_mut(start..).unwrap_or_default();
                    let sum: f32 = row.iter().sum();
                    row.iter_mut().for_each(|score| *score /= sum);
                }
                scores
            }
        }
    }
}

/// Returns the first of the largest values; what is not a number is the largest, as in numpy.
pub(crate) fn largest(row: &[f32]) -> (usize, f32) {
    let mut best = (0, row.first().copied().unwrap_or(f32::NAN));
    for (place, &value) in row.iter().enumerate().skip(1) {
        if !best.1.is_nan() && (value > best.1 || value.is_nan()) {
            best = (place, value);
        }
    }
    best
}

#[cfg(test)]
mod tests;
