//! Support vector machines, as libsvm and ONNX Runtime evaluate them.

use coracle_model::{LoadError, RunError};
use coracle_tensor::{Tensor, Values};

use crate::attributes::Attributes;
use crate::error::{malformed, shape_error, unsupported};
use crate::labels::Labels;
use crate::ops::elementwise::needed;
use crate::ops::post::{Post, UNDEFINED_PROBIT, logistic};
use crate::ops::registry::{Build, Built, function};
use crate::ops::values::{n_elements, table, tensor, to_f32s};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kernel {
    Linear,
    Poly { gamma: f32, coef0: f32, degree: f32 },
    Rbf { gamma: f32 },
    Sigmoid { gamma: f32, coef0: f32 },
}

impl Kernel {
    fn read(attributes: &Attributes<'_, '_>) -> Result<Self, LoadError> {
        let params = attributes.floats("kernel_params")?;
        let (gamma, coef0, degree) = match params {
            [] => (0.0, 0.0, 0.0),
            &[gamma, coef0, degree] => (gamma, coef0, degree),
            _ => {
                let n = params.len();
                return Err(malformed(format!("{n} kernel_params, there must be 3")));
            }
        };
        Ok(match attributes.word("kernel_type", "LINEAR")? {
            "LINEAR" => Self::Linear,
            "POLY" => Self::Poly {
                gamma,
                coef0,
                degree,
            },
            "RBF" => Self::Rbf { gamma },
            "SIGMOID" => Self::Sigmoid { gamma, coef0 },
            other => return Err(unsupported(format!("kernel_type '{other}'"))),
        })
    }

    /// Returns the similarity of two rows, summed in double precision.
    #[expect(clippy::cast_possible_truncation, reason = "rounding is the point")]
    fn of(self, a: &[f32], b: &[f32]) -> f32 {
        let pairs = a.iter().zip(b).map(|(&a, &b)| (f64::from(a), f64::from(b)));
        let dot = || pairs.clone().map(|(a, b)| a * b).sum::<f64>() as f32;
        match self {
            Self::Linear => dot(),
            Self::Poly {
                gamma,
                coef0,
                degree,
            } => {
                let base = gamma * dot() + coef0;
                match degree {
                    2.0 => base * base,
                    3.0 => base * base * base,
                    degree => base.powf(degree),
                }
            }
            Self::Rbf { gamma } => {
                let squares: f64 = pairs.map(|(a, b)| (a - b) * (a - b)).sum();
                (-gamma * squares as f32).exp()
            }
            Self::Sigmoid { gamma, coef0 } => (gamma * dot() + coef0).tanh(),
        }
    }
}

/// Vectors that rows are compared with.
#[derive(Debug)]
struct Vectors {
    kernel: Kernel,
    /// `(vectors, features)`.
    values: Vec<f32>,
    n_features: usize,
}

impl Vectors {
    fn try_new(kernel: Kernel, values: &[f32], n_vectors: usize) -> Result<Self, LoadError> {
        let n_features = values.len().checked_div(n_vectors).unwrap_or(0);
        if n_features == 0 || n_features * n_vectors != values.len() {
            return Err(malformed(format!(
                "{} numbers for {n_vectors} vectors",
                values.len()
            )));
        }
        Ok(Self {
            kernel,
            values: values.to_vec(),
            n_features,
        })
    }

    /// Returns the similarities of each row to each vector, row by row.
    fn similarities(&self, input: &Tensor) -> Result<(usize, Vec<f32>), RunError> {
        let (n_rows, n_columns) = table(input.shape())?;
        if n_columns != self.n_features {
            return Err(shape_error(format!(
                "{n_columns} columns, the model reads {}",
                self.n_features
            )));
        }
        let values = to_f32s(input)?;
        let n_vectors = self.values.len() / self.n_features;
        let mut similarities = Vec::with_capacity(n_elements(&[n_rows, n_vectors])?);
        for row in values.chunks_exact(n_columns) {
            let vectors = self.values.chunks_exact(n_columns);
            similarities.extend(vectors.map(|vector| self.kernel.of(row, vector)));
        }
        Ok((n_rows, similarities))
    }
}

#[derive(Debug)]
struct Regressor {
    vectors: Vectors,
    /// A coefficient per vector; `None` where the vector is the coefficients.
    coefficients: Option<Vec<f32>>,
    rho: f32,
    one_class: bool,
}

pub(super) fn regressor(build: &Build<'_, '_>) -> Built {
    let attributes = &build.attributes;
    // ONNX Runtime does not apply it.
    if Post::read(attributes)? != Post::None {
        return Err(unsupported("post_transform of SVMRegressor"));
    }
    let kernel = Kernel::read(attributes)?;
    let coefficients = attributes.floats("coefficients")?;
    let supports = attributes.floats("support_vectors")?;
    let n_supports = usize::try_from(attributes.int("n_supports")?.unwrap_or(0)).unwrap_or(0);
    let rho = *attributes
        .floats("rho")?
        .first()
        .ok_or_else(|| malformed("'rho' is missing"))?;
    let (vectors, coefficients) = if n_supports > 0 {
        if coefficients.len() != n_supports {
            return Err(malformed(format!(
                "{} coefficients for {n_supports} support vectors",
                coefficients.len()
            )));
        }
        let vectors = Vectors::try_new(kernel, supports, n_supports)?;
        (vectors, Some(coefficients.to_vec()))
    } else {
        (Vectors::try_new(Kernel::Linear, coefficients, 1)?, None)
    };
    let regressor = Regressor {
        vectors,
        coefficients,
        rho,
        one_class: attributes.flag("one_class", false)?,
    };
    function(regressor, regress)
}

#[expect(clippy::cast_possible_truncation, reason = "rounding is the point")]
fn regress(model: &Regressor, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, RunError> {
    let (n_rows, similarities) = model.vectors.similarities(needed(inputs, 0)?)?;
    let mut values: Vec<f32> = match &model.coefficients {
        None => similarities.iter().map(|value| value + model.rho).collect(),
        Some(coefficients) => similarities
            .chunks_exact(coefficients.len())
            .map(|row| {
                let terms = row.iter().zip(coefficients);
                let sum: f64 = terms.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
                (sum + f64::from(model.rho)) as f32
            })
            .collect(),
    };
    if model.one_class {
        values
            .iter_mut()
            .for_each(|value| *value = if *value > 0.0 { 1.0 } else { -1.0 });
    }
    Ok(vec![tensor(vec![n_rows, 1], Values::F32(values.into()))?])
}

#[derive(Debug)]
struct Classifier {
    vectors: Vectors,
    labels: Labels,
    post: Post,
    coefficients: Vec<f32>,
    rho: Vec<f32>,
    /// How many vectors each class has; none for a linear model.
    per_class: Vec<usize>,
    prob_a: Vec<f32>,
    prob_b: Vec<f32>,
}

pub(super) fn classifier(build: &Build<'_, '_>) -> Built {
    let attributes = &build.attributes;
    let labels = Labels::read(attributes, "classlabels_ints", "classlabels_strings")?;
    let n_classes = labels.len();
    let kernel = Kernel::read(attributes)?;
    let per_class = attributes.ints("vectors_per_class")?;
    let per_class = per_class
        .iter()
        .map(|&n| usize::try_from(n).ok().filter(|&n| n < 1 << 32));
    let per_class: Option<Vec<usize>> = per_class.collect();
    let per_class = per_class.ok_or_else(|| malformed("'vectors_per_class' out of range"))?;
    let n_vectors: usize = per_class.iter().sum();
    let coefficients = attributes.floats("coefficients")?.to_vec();
    let supports = attributes.floats("support_vectors")?;
    let vectors = match n_vectors {
        0 => Vectors::try_new(Kernel::Linear, &coefficients, n_classes)?,
        n => Vectors::try_new(kernel, supports, n)?,
    };
    let classifier = Classifier {
        vectors,
        labels,
        post: Post::read(attributes)?,
        coefficients,
        rho: attributes.floats("rho")?.to_vec(),
        per_class: if n_vectors == 0 {
            Vec::new()
        } else {
            per_class
        },
        prob_a: attributes.floats("prob_a")?.to_vec(),
        prob_b: attributes.floats("prob_b")?.to_vec(),
    };
    check(&classifier, n_vectors)?;
    let has_one_score = n_vectors > 0 && n_classes == 2 && classifier.prob_a.is_empty();
    if has_one_score && classifier.post == Post::Probit {
        return Err(unsupported(UNDEFINED_PROBIT));
    }
    function(classifier, classify)
}

fn check(model: &Classifier, n_vectors: usize) -> Result<(), LoadError> {
    let n_classes = model.labels.len();
    if n_vectors == 0 {
        return match model.rho.is_empty() || !model.prob_a.is_empty() {
            true => Err(malformed(
                "'rho' is missing, or 'prob_a' where no pairs are",
            )),
            false => Ok(()),
        };
    }
    let n_pairs = n_classes * n_classes.saturating_sub(1) / 2;
    let is_sound = (2..1 << 16).contains(&n_classes)
        && model.per_class.len() == n_classes
        && model.coefficients.len() == (n_classes - 1) * n_vectors
        && model.rho.len() >= n_pairs
        && model.prob_a.len() == model.prob_b.len()
        && (model.prob_a.is_empty() || model.prob_a.len() >= n_pairs);
    if is_sound {
        return Ok(());
    }
    Err(malformed(format!(
        "{n_classes} classes and {n_vectors} vectors with {} coefficients, {} rho, {} prob_a and {} prob_b",
        model.coefficients.len(),
        model.rho.len(),
        model.prob_a.len(),
        model.prob_b.len()
    )))
}

fn classify(model: &Classifier, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, RunError> {
    let (n_rows, similarities) = model.vectors.similarities(needed(inputs, 0)?)?;
    let n_vectors = (model.vectors.values.len() / model.vectors.n_features).max(1);
    let mut labels = Vec::with_capacity(n_rows);
    let mut scores = Vec::new();
    for row in similarities.chunks_exact(n_vectors) {
        let (label, row_scores) = if model.per_class.is_empty() {
            linear(model, row)
        } else {
            pairs(model, row)
        };
        labels.push(label);
        scores.extend(row_scores);
    }
    let n_classes = model.labels.len();
    let width = match (
        model.per_class.is_empty(),
        model.prob_a.is_empty(),
        n_classes,
    ) {
        (false, true, 3..) => n_classes * (n_classes - 1) / 2,
        _ => n_classes,
    };
    Ok(vec![
        tensor(vec![n_rows], model.labels.pick(&labels))?,
        tensor(vec![n_rows, width], Values::F32(scores.into()))?,
    ])
}

/// Decides by one linear score per class.
fn linear(model: &Classifier, row: &[f32]) -> (usize, Vec<f32>) {
    let mut scores: Vec<f32> = row.iter().map(|score| score + model.rho[0]).collect();
    let mut best = first_largest(&scores);
    if scores.len() == 2 {
        let largest = scores[best];
        let all_positive = model.coefficients.iter().all(|&value| value >= 0.0);
        if all_positive && largest >= 0.5 || !all_positive && largest > 0.0 {
            best = 1;
        }
    }
    model.post.apply(&mut scores);
    (best, scores)
}

fn first_largest<T: PartialOrd>(items: &[T]) -> usize {
    let mut best = 0;
    for (place, item) in items.iter().enumerate() {
        if *item > items[best] {
            best = place;
        }
    }
    best
}

/// Decides by the votes of the pairs of classes.
#[expect(clippy::cast_possible_truncation, reason = "rounding is the point")]
fn pairs(model: &Classifier, row: &[f32]) -> (usize, Vec<f32>) {
    let n_classes = model.labels.len();
    let n_vectors = row.len();
    let mut starts = Vec::with_capacity(n_classes);
    let mut start = 0;
    for n in &model.per_class {
        starts.push(start);
        start += n;
    }
    let part = |line: usize, class: usize| {
        let first = starts[class];
        let last = first + model.per_class[class];
        let coefficients = &model.coefficients[line * n_vectors..][first..last];
        let terms = coefficients.iter().zip(&row[first..last]);
        // Products are single, sums double, as in ONNX Runtime.
        terms.map(|(a, b)| f64::from(a * b)).sum::<f64>()
    };
    let mut votes = vec![0_usize; n_classes];
    let mut scores = Vec::with_capacity(model.rho.len());
    for i in 0..n_classes {
        for j in i + 1..n_classes {
            let rho = model.rho[scores.len()];
            let score = part(j - 1, i) + part(i, j) + f64::from(rho);
            votes[if score > 0.0 { i } else { j }] += 1;
            scores.push(score as f32);
        }
    }
    let best = first_largest(&votes);
    if !model.prob_a.is_empty() {
        let mut probabilities = coupled(model, &scores);
        model.post.apply(&mut probabilities);
        return (best, probabilities);
    }
    if n_classes > 2 {
        model.post.apply(&mut scores);
        return (best, scores);
    }
    let score = scores[0];
    let both = match model.post {
        Post::None => vec![-score, score],
        post => post.of_two(score).to_vec(),
    };
    (best, both)
}

/// Returns the probabilities of classes from those of pairs (Wu, Lin and Weng, 2004, second method), as libsvm does.
fn coupled(model: &Classifier, scores: &[f32]) -> Vec<f32> {
    let n = model.labels.len();
    let mut r = vec![0.0_f32; n * n];
    let mut pair = 0;
    for i in 0..n {
        for j in i + 1..n {
            let value = scores[pair] * model.prob_a[pair] + model.prob_b[pair];
            let probability = (1.0 - logistic(value)).clamp(1.0e-7, 1.0 - 1.0e-7);
            r[i * n + j] = probability;
            r[j * n + i] = 1.0 - probability;
            pair += 1;
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "a number of classes")]
    let count = n as f32;
    let mut q = vec![0.0_f32; n * n];
    let mut p = vec![1.0 / count; n];
    for i in 0..n {
        for j in (0..n).filter(|&j| j != i) {
            q[i * n + i] += r[j * n + i] * r[j * n + i];
            q[i * n + j] = if j < i {
                q[j * n + i]
            } else {
                -r[j * n + i] * r[i * n + j]
            };
        }
    }
    let mut qp = vec![0.0_f32; n];
    for _ in 0..100 {
        let mut pqp = 0.0;
        for i in 0..n {
            qp[i] = (0..n).fold(0.0, |sum, j| sum + q[i * n + j] * p[j]);
            pqp += p[i] * qp[i];
        }
        let error = qp
            .iter()
            .fold(0.0_f32, |most, qp| most.max((qp - pqp).abs()));
        if error < 0.005 / count {
            break;
        }
        for i in 0..n {
            let diff = (-qp[i] + pqp) / q[i * n + i];
            p[i] += diff;
            pqp = (pqp + diff * (diff * q[i * n + i] + 2.0 * qp[i])) / (1.0 + diff) / (1.0 + diff);
            for j in 0..n {
                qp[j] = (qp[j] + diff * q[i * n + j]) / (1.0 + diff);
                p[j] /= 1.0 + diff;
            }
        }
    }
    p
}
