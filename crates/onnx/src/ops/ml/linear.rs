//! Linear models: products with coefficients, in single precision after sums in double.

use coracle_model::RunError;
use coracle_tensor::{Tensor, Values};

use crate::error::{malformed, shape_error, unsupported};
use crate::labels::Labels;
use crate::ops::elementwise::needed;
use crate::ops::post::{Post, UNDEFINED_PROBIT};
use crate::ops::registry::{Build, Built, function};
use crate::ops::values::{table, tensor, to_f32s};

/// Coefficients and intercepts, target by target.
#[derive(Debug)]
struct Linear {
    /// `(targets, features)`.
    coefficients: Vec<f32>,
    intercepts: Vec<f32>,
    n_targets: usize,
}

impl Linear {
    fn scores(&self, input: &Tensor) -> Result<(usize, Vec<f32>), RunError> {
        let (n_rows, n_columns) = table(input.shape())?;
        if n_columns * self.n_targets != self.coefficients.len() {
            return Err(shape_error(format!(
                "{n_columns} columns, the coefficients are for {}",
                self.coefficients.len() / self.n_targets
            )));
        }
        let values = to_f32s(input)?;
        let mut scores = Vec::with_capacity(n_rows * self.n_targets);
        for row in values.chunks_exact(n_columns.max(1)) {
            for target in 0..self.n_targets {
                let coefficients = &self.coefficients[target * n_columns..(target + 1) * n_columns];
                let mut sum = 0.0_f64;
                for (value, coefficient) in row.iter().zip(coefficients) {
                    sum += f64::from(*value) * f64::from(*coefficient);
                }
                sum += f64::from(self.intercepts.get(target).copied().unwrap_or(0.0));
                #[expect(clippy::cast_possible_truncation, reason = "rounding is the point")]
                scores.push(sum as f32);
            }
        }
        Ok((n_rows, scores))
    }
}

pub(super) fn regressor(build: &Build<'_, '_>) -> Built {
    let attributes = &build.attributes;
    let n_targets = usize::try_from(attributes.int("targets")?.unwrap_or(1)).unwrap_or(0);
    let linear = Linear {
        coefficients: attributes.floats("coefficients")?.to_vec(),
        intercepts: attributes.floats("intercepts")?.to_vec(),
        n_targets,
    };
    let post = Post::read(attributes)?;
    let fits = n_targets > 0
        && linear.coefficients.len().is_multiple_of(n_targets)
        && !linear.coefficients.is_empty()
        && (linear.intercepts.is_empty() || linear.intercepts.len() == n_targets);
    if !fits {
        return Err(malformed(format!(
            "{} coefficients and {} intercepts for {n_targets} targets",
            linear.coefficients.len(),
            linear.intercepts.len()
        )));
    }
    function((linear, post), |(linear, post), inputs| {
        let (n_rows, mut scores) = linear.scores(needed(inputs, 0)?)?;
        let post = post.of_one(linear.n_targets);
        scores
            .chunks_exact_mut(linear.n_targets)
            .for_each(|row| post.apply(row));
        Ok(vec![tensor(
            vec![n_rows, linear.n_targets],
            Values::F32(scores.into()),
        )?])
    })
}

#[derive(Debug)]
struct Classifier {
    linear: Linear,
    post: Post,
    labels: Labels,
    /// Whether there is one score for two classes.
    adds_second: bool,
}

pub(super) fn classifier(build: &Build<'_, '_>) -> Built {
    let attributes = &build.attributes;
    let labels = Labels::read(attributes, "classlabels_ints", "classlabels_strings")?;
    let intercepts = attributes.floats("intercepts")?.to_vec();
    // `multi_class` changes nothing in ONNX Runtime.
    attributes.ignore("multi_class");
    let linear = Linear {
        coefficients: attributes.floats("coefficients")?.to_vec(),
        n_targets: intercepts.len(),
        intercepts,
    };
    let n_targets = linear.n_targets;
    let fits = n_targets > 0
        && !linear.coefficients.is_empty()
        && linear.coefficients.len().is_multiple_of(n_targets)
        && (labels.len() == n_targets || n_targets == 1 && labels.len() == 2);
    if !fits {
        return Err(malformed(format!(
            "{} coefficients and {n_targets} intercepts for {} classes",
            linear.coefficients.len(),
            labels.len()
        )));
    }
    if labels.len() < 2 {
        return Err(unsupported("a classifier of one class"));
    }
    let post = Post::read(attributes)?;
    let adds_second = n_targets == 1;
    if adds_second && post == Post::Probit {
        return Err(unsupported(UNDEFINED_PROBIT));
    }
    let classifier = Classifier {
        adds_second,
        linear,
        post,
        labels,
    };
    function(classifier, classify)
}

fn classify(model: &Classifier, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, RunError> {
    let (n_rows, mut scores) = model.linear.scores(needed(inputs, 0)?)?;
    let n_targets = model.linear.n_targets;
    let mut best = Vec::with_capacity(n_rows);
    for row in scores.chunks_exact(n_targets) {
        let mut largest = 0;
        for (class, score) in row.iter().enumerate() {
            if *score > row[largest] {
                largest = class;
            }
        }
        best.push(match model.adds_second {
            true => usize::from(row[0] > 0.0),
            false => largest,
        });
    }
    let n_scores = if model.adds_second {
        let pairs = scores.iter().flat_map(|&score| model.post.of_two(score));
        scores = pairs.collect();
        2
    } else {
        scores
            .chunks_exact_mut(n_targets)
            .for_each(|row| model.post.apply(row));
        n_targets
    };
    Ok(vec![
        tensor(vec![n_rows], model.labels.pick(&best))?,
        tensor(vec![n_rows, n_scores], Values::F32(scores.into()))?,
    ])
}
