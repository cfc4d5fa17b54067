//! Decompositions that solve a small problem for every row: non-negative factors, topics, sparse codes.
//!
//! Each row is solved to its own end, as scikit-learn solves a table of that row alone.

mod lasso;
mod multiplicative;

use coracle_model::{Accepts, RunError, RunErrorKind};
use coracle_tensor::Rows;

use crate::kernel::negative;
use crate::linear::dot;
use crate::spec_error::{SpecError, expect_length};
use crate::table_fn::TableFn;

pub use lasso::{Lasso, LeastAngles};
pub use multiplicative::{Multiplicative, UpdatesEnd};

/// How a row is decomposed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FactorRule {
    /// Non-negative weights by coordinate descent (NMF).
    CoordinateDescent {
        /// The most sweeps.
        sweeps_max: usize,
        /// The share of the first violation at which it ends.
        tolerance: f64,
        /// The penalties on weights and on their squares.
        penalties: [f64; 2],
    },
    /// Non-negative weights by multiplicative updates (MiniBatchNMF, NMF with the solver `mu`).
    Multiplicative(Multiplicative),
    /// The share of each topic (LatentDirichletAllocation).
    Topics {
        /// The prior of a document's topics.
        prior: f64,
        /// The most updates.
        updates_max: usize,
        /// The mean change at which it ends.
        tolerance: f64,
    },
    /// At most so many components, chosen one after the other (orthogonal matching pursuit).
    Pursuit(usize),
    /// The projections, brought nearer to zero.
    Threshold {
        /// By how much.
        threshold: f64,
        /// Whether those below zero become zero.
        is_positive: bool,
    },
    /// Few weights, by coordinate descent.
    Lasso(Lasso),
    /// Few weights, by least angle regression.
    LeastAngles(LeastAngles),
}

/// A decomposition over components.
#[derive(Debug)]
pub struct Factors {
    rule: FactorRule,
    n_features: usize,
    n_components: usize,
    /// `(components, features)`, row-major.
    components: Vec<f64>,
    /// The products of components with each other.
    gram: Vec<f64>,
    /// Whether positive and negative weights come apart, twice as many columns.
    splits_signs: bool,
}

/// The most components; the products of all pairs are kept.
const COMPONENTS_MAX: usize = 1 << 12;
/// What a denominator of zero becomes.
const SMALL: f64 = 1.192_092_9e-7;

impl Factors {
    /// Returns the decomposition over `components`, `(components, features)` row-major.
    ///
    /// # Errors
    /// [`SpecError`] if there are no components, or too many.
    pub fn try_new(
        rule: FactorRule,
        components: Vec<f64>,
        n_features: usize,
    ) -> Result<Self, SpecError> {
        let n_components = components.len().checked_div(n_features).unwrap_or(0);
        if n_components == 0 || n_components > COMPONENTS_MAX {
            return Err(SpecError::new(format!(
                "{n_components} components, 1 to {COMPONENTS_MAX} are supported"
            )));
        }
        expect_length("components", components.len(), n_components * n_features)?;
        let row = |index: usize| &components[index * n_features..][..n_features];
        let pairs = (0..n_components).flat_map(|a| (0..n_components).map(move |b| (a, b)));
        let gram = pairs.map(|(a, b)| dot(row(a), row(b))).collect();
        Ok(Self {
            rule,
            n_features,
            n_components,
            gram,
            components,
            splits_signs: false,
        })
    }

    /// Gives positive and negative weights apart.
    #[must_use]
    pub fn splitting_signs(mut self) -> Self {
        self.splits_signs = true;
        self
    }

    fn products(&self, row: &[f64]) -> Vec<f64> {
        let components = self.components.chunks_exact(self.n_features);
        components.map(|component| dot(row, component)).collect()
    }

    fn gram_row(&self, component: usize) -> &[f64] {
        &self.gram[component * self.n_components..][..self.n_components]
    }

    fn solve(&self, row: &[f64], weights: &mut [f64]) {
        match self.rule {
            FactorRule::CoordinateDescent {
                sweeps_max,
                tolerance,
                penalties,
            } => self.descend(row, weights, sweeps_max, tolerance, penalties),
            FactorRule::Multiplicative(rule) => self.multiply(row, weights, rule),
            FactorRule::Topics {
                prior,
                updates_max,
                tolerance,
            } => self.topics(row, weights, prior, updates_max, tolerance),
            FactorRule::Pursuit(n_nonzero) => self.pursue(row, weights, n_nonzero),
            FactorRule::Lasso(rule) => self.lasso(row, weights, rule),
            FactorRule::LeastAngles(rule) => self.least_angles(row, weights, rule),
            FactorRule::Threshold {
                threshold,
                is_positive,
            } => {
                for (weight, product) in weights.iter_mut().zip(self.products(row)) {
                    let magnitude = (product.abs() - threshold).max(0.0);
                    *weight = if product == 0.0 || is_positive && product < 0.0 {
                        0.0
                    } else {
                        magnitude.copysign(product)
                    };
                }
            }
        }
    }

    fn descend(
        &self,
        row: &[f64],
        weights: &mut [f64],
        sweeps_max: usize,
        tolerance: f64,
        [penalty, square_penalty]: [f64; 2],
    ) {
        let products = self.products(row);
        weights.fill(0.0);
        let mut first = 0.0;
        for sweep in 0..sweeps_max {
            let mut violation = 0.0;
            for component in 0..self.n_components {
                let own = self.gram_row(component);
                let mut gradient = penalty - products[component];
                for (other, (product, weight)) in own.iter().zip(weights.iter()).enumerate() {
                    let extra = if other == component {
                        square_penalty
                    } else {
                        0.0
                    };
                    gradient += (product + extra) * weight;
                }
                let weight = weights[component];
                violation += match weight == 0.0 {
                    true => gradient.min(0.0).abs(),
                    false => gradient.abs(),
                };
                let curvature = own[component] + square_penalty;
                if curvature != 0.0 {
                    weights[component] = (weight - gradient / curvature).max(0.0);
                }
            }
            if sweep == 0 {
                first = violation;
            }
            if first == 0.0 || violation / first <= tolerance {
                return;
            }
        }
    }

    fn topics(
        &self,
        row: &[f64],
        weights: &mut [f64],
        prior: f64,
        updates_max: usize,
        tolerance: f64,
    ) {
        let words = row.iter().enumerate();
        let words: Vec<(usize, f64)> = words
            .filter(|(_, count)| **count != 0.0)
            .map(|(word, count)| (word, *count))
            .collect();
        weights.fill(1.0);
        let count = crate::kernel::count(self.n_components);
        let mut expected = vec![(psi(1.0) - psi(count)).exp(); self.n_components];
        let mut before = vec![0.0; self.n_components];
        for _ in 0..updates_max {
            before.copy_from_slice(weights);
            let mut sums = vec![0.0; self.n_components];
            for &(word, n) in &words {
                let column = self.components.iter().skip(word).step_by(self.n_features);
                let norm: f64 = column.clone().zip(&expected).map(|(a, b)| a * b).sum();
                let share = n / (norm + f64::EPSILON);
                for (sum, value) in sums.iter_mut().zip(column) {
                    *sum += share * value;
                }
            }
            let mut total = 0.0;
            for (weight, (expected, sum)) in weights.iter_mut().zip(expected.iter().zip(&sums)) {
                *weight = expected * sum + prior;
                total += *weight;
            }
            let of_total = psi(total);
            for (expected, weight) in expected.iter_mut().zip(weights.iter()) {
                *expected = (psi(*weight) - of_total).exp();
            }
            let change: f64 = before
                .iter()
                .zip(weights.iter())
                .map(|(a, b)| (a - b).abs())
                .sum();
            if change / count < tolerance {
                break;
            }
        }
        let total: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|weight| *weight /= total);
    }

    /// Chooses the component that fits best what is left, and fits all chosen ones anew.
    fn pursue(&self, row: &[f64], weights: &mut [f64], n_nonzero: usize) {
        let products = self.products(row);
        weights.fill(0.0);
        let mut left = products.clone();
        let mut chosen: Vec<usize> = Vec::new();
        // The Cholesky factor of the products of the chosen ones, row by row.
        let mut factor: Vec<Vec<f64>> = Vec::new();
        while chosen.len() < n_nonzero.min(self.n_components) {
            let mut best = 0;
            for (component, value) in left.iter().enumerate() {
                if value.abs() > left[best].abs() {
                    best = component;
                }
            }
            if chosen.contains(&best) || left[best] * left[best] < f64::EPSILON {
                break;
            }
            let own = self.gram_row(best);
            let mut line = Vec::with_capacity(chosen.len() + 1);
            for (other, known) in chosen.iter().zip(&factor) {
                let done = dot_of(&line, known);
                line.push((own[*other] - done) / known[known.len() - 1]);
            }
            let rest = own[best] - line.iter().map(|value| value * value).sum::<f64>();
            if !chosen.is_empty() && rest <= f64::EPSILON {
                break;
            }
            line.push(rest.sqrt());
            factor.push(line);
            chosen.push(best);
            let fitted = substitute(&factor, &chosen, &products);
            weights.fill(0.0);
            for (component, weight) in chosen.iter().zip(&fitted) {
                weights[*component] = *weight;
            }
            for (component, value) in left.iter_mut().enumerate() {
                *value = products[component] - dot(self.gram_row(component), weights);
            }
        }
    }
}

/// Returns the product of the common beginning of two rows.
fn dot_of(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Solves for the weights of the chosen components by the Cholesky factor of their products.
fn substitute(factor: &[Vec<f64>], chosen: &[usize], products: &[f64]) -> Vec<f64> {
    let mut solution: Vec<f64> = Vec::with_capacity(chosen.len());
    for (line, &component) in factor.iter().zip(chosen) {
        let done = dot_of(&solution, line);
        solution.push((products[component] - done) / line[line.len() - 1]);
    }
    for at in (0..solution.len()).rev() {
        let later = factor.iter().enumerate().skip(at + 1);
        let done: f64 = later.map(|(other, line)| line[at] * solution[other]).sum();
        solution[at] = (solution[at] - done) / factor[at][at];
    }
    solution
}

/// The digamma function as scikit-learn's topics compute it (Bernardo, AS 103), with its few terms.
fn psi(mut x: f64) -> f64 {
    const EULER: f64 = 0.577_215_664_901_532_9;
    if x <= 1e-6 {
        return -EULER - 1.0 / x;
    }
    let mut result = 0.0;
    while x < 6.0 {
        result -= 1.0 / x;
        x += 1.0;
    }
    let inverse = 1.0 / x;
    result += x.ln() - 0.5 * inverse;
    let square = inverse * inverse;
    result - square * (1.0 / 12.0 - square * (1.0 / 120.0 - square * (1.0 / 252.0)))
}

impl TableFn for Factors {
    fn n_features(&self) -> usize {
        self.n_features
    }

    fn n_columns(&self) -> usize {
        match self.splits_signs {
            true => self.n_components * 2,
            false => self.n_components,
        }
    }

    fn accepts(&self) -> Accepts {
        Accepts::FINITE
    }

    fn apply(&self, rows: Rows<'_>) -> Result<Vec<f64>, RunError> {
        let takes_negative = match self.rule {
            FactorRule::CoordinateDescent { .. }
            | FactorRule::Multiplicative(_)
            | FactorRule::Topics { .. } => false,
            FactorRule::Pursuit(_)
            | FactorRule::Threshold { .. }
            | FactorRule::Lasso(_)
            | FactorRule::LeastAngles(_) => true,
        };
        if !takes_negative && rows.values().iter().any(|value| *value < 0.0) {
            return Err(negative());
        }
        let refuses_zeros =
            matches!(self.rule, FactorRule::Multiplicative(rule) if rule.refuses_zeros());
        if refuses_zeros && let Some(row) = rows.iter().position(|row| row.contains(&0.0)) {
            let message = format!("row {row}: a zero, where the model's loss takes numbers above");
            return Err(RunError::new(RunErrorKind::ValueOutOfRange, message));
        }
        let mut weights = vec![0.0; self.n_components];
        let mut all = Vec::with_capacity(rows.n_rows() * TableFn::n_columns(self));
        for row in rows.iter() {
            self.solve(row, &mut weights);
            match self.splits_signs {
                true => {
                    all.extend(weights.iter().map(|weight| weight.max(0.0)));
                    all.extend(weights.iter().map(|weight| (-weight).max(0.0)));
                }
                false => all.extend_from_slice(&weights),
            }
        }
        Ok(all)
    }

    fn memory_bytes(&self) -> usize {
        (self.components.capacity() + self.gram.capacity()) * size_of::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pursuit_finds_the_components_of_a_sum() {
        let components = vec![1.0, 0.0, 0.0, 0.0, 0.6, 0.8, 0.0, 0.0, 1.0];
        let factors = Factors::try_new(FactorRule::Pursuit(2), components, 3).unwrap();
        let rows = Rows::try_new(&[2.0, -1.8, -2.4], 3).unwrap();
        let weights = factors.apply(rows).unwrap();
        let expected = [2.0, -3.0, 0.0];
        for (weight, expected) in weights.iter().zip(expected) {
            assert!((weight - expected).abs() < 1e-12, "{weights:?}");
        }
        let split = factors.splitting_signs();
        assert_eq!(split.apply(rows).unwrap().len(), 6);
    }

    #[test]
    fn factors_of_numbers_from_zero_refuse_others() {
        let rule = FactorRule::Multiplicative(Multiplicative {
            updates_max: 5,
            tolerance: 0.0,
            end: UpdatesEnd::Change,
            penalties: [0.0; 2],
            beta: 2.0,
            lifts_small: true,
        });
        let factors = Factors::try_new(rule, vec![1.0, 2.0], 2).unwrap();
        let rows = Rows::try_new(&[1.0, -1.0], 2).unwrap();
        assert!(factors.apply(rows).is_err());
        assert!(Factors::try_new(rule, Vec::new(), 2).is_err());
    }
}
