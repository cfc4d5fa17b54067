//! Non-negative weights by multiplicative updates, for any beta-divergence: what NMF's solver `mu` and MiniBatchNMF do.

use super::{Factors, SMALL};
use crate::kernel::count;
use crate::linear::dot;

/// When the updates end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdatesEnd {
    /// Once the weights' relative change is small (MiniBatchNMF).
    Change,
    /// Once ten updates lower the error by a small share of the first one (NMF).
    Error,
}

/// How weights are updated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Multiplicative {
    /// The most updates.
    pub updates_max: usize,
    /// The change at which it ends; zero or less is never.
    pub tolerance: f64,
    /// What the tolerance is compared with.
    pub end: UpdatesEnd,
    /// The penalties on weights and on their squares.
    pub penalties: [f64; 2],
    /// The beta of the divergence: 2 for squares, 1 for Kullback-Leibler's, 0 for Itakura-Saito's.
    pub beta: f64,
    /// Whether any approximation below `SMALL` is taken for that, as from 1.3 on, or zeros only.
    pub lifts_small: bool,
}

impl Multiplicative {
    /// Tells whether rows that hold zeros are refused.
    pub(super) fn refuses_zeros(&self) -> bool {
        self.end == UpdatesEnd::Error && self.beta <= 0.0
    }

    /// Returns the exponent with which updates count.
    fn exponent(&self) -> f64 {
        if self.beta < 1.0 {
            1.0 / (2.0 - self.beta)
        } else if self.beta > 2.0 {
            1.0 / (self.beta - 1.0)
        } else {
            1.0
        }
    }

    /// Returns an approximation as it may be divided by.
    fn lifted(&self, value: f64) -> f64 {
        let is_small = match self.lifts_small {
            true => value < SMALL,
            false => value == 0.0,
        };
        if is_small { SMALL } else { value }
    }
}

/// A row that is being decomposed.
struct Update<'f> {
    factors: &'f Factors,
    rule: Multiplicative,
    row: &'f [f64],
    /// The columns of the row that are read: those that hold something where zeros make no difference.
    columns: Vec<usize>,
    /// The sum of each component, to which Kullback-Leibler's penalty is added.
    sums: Vec<f64>,
    /// The products of the row with each component.
    products: Vec<f64>,
    approximation: Vec<f64>,
}

impl Factors {
    pub(super) fn multiply(&self, row: &[f64], weights: &mut [f64], rule: Multiplicative) {
        let mean = row.iter().sum::<f64>() / count(row.len());
        weights.fill((mean / count(self.n_components)).sqrt());
        let mut update = Update::new(self, row, rule);
        let checks_error = rule.end == UpdatesEnd::Error && rule.tolerance > 0.0;
        let first_error = match checks_error {
            true => update.error(weights),
            false => 0.0,
        };
        let mut last_error = first_error;
        let mut before = vec![0.0; weights.len()];
        for number in 1..=rule.updates_max {
            before.copy_from_slice(weights);
            update.apply(&before, weights);
            if before == weights && !update.grows() {
                return;
            }
            if checks_error && number % 10 == 0 {
                let error = update.error(weights);
                if (last_error - error) / first_error < rule.tolerance {
                    return;
                }
                last_error = error;
            }
            if rule.end == UpdatesEnd::Change && rule.tolerance > 0.0 {
                let changes = before.iter().zip(weights.iter());
                let change: f64 = changes.map(|(a, b)| (a - b) * (a - b)).sum();
                if change.sqrt() / dot(weights, weights).sqrt() <= rule.tolerance {
                    return;
                }
            }
        }
    }
}

impl<'f> Update<'f> {
    fn new(factors: &'f Factors, row: &'f [f64], rule: Multiplicative) -> Self {
        let is_read = |column: &usize| rule.beta != 1.0 || row[*column] != 0.0;
        let columns: Vec<usize> = match rule.beta == 2.0 {
            true => Vec::new(),
            false => (0..row.len()).filter(is_read).collect(),
        };
        let components = factors.components.chunks_exact(factors.n_features);
        Self {
            factors,
            rule,
            row,
            sums: components.map(|component| component.iter().sum()).collect(),
            products: match rule.beta == 2.0 {
                true => factors.products(row),
                false => Vec::new(),
            },
            approximation: vec![0.0; columns.len()],
            columns,
        }
    }

    fn component(&self, component: usize) -> &'f [f64] {
        &self.factors.components[component * self.factors.n_features..][..self.factors.n_features]
    }

    /// Tells whether what is divided by grows from update to update.
    fn grows(&self) -> bool {
        let keeps_sums = self.rule.beta == 1.0 && self.rule.end == UpdatesEnd::Error;
        keeps_sums && self.rule.penalties[0] > 0.0
    }

    /// Computes what `weights` make of the columns that are read.
    fn approximate(&mut self, weights: &[f64]) {
        let mut approximation = std::mem::take(&mut self.approximation);
        approximation.fill(0.0);
        for (component, weight) in weights.iter().enumerate() {
            let values = self.component(component);
            for (sum, &column) in approximation.iter_mut().zip(&self.columns) {
                *sum += weight * values[column];
            }
        }
        self.approximation = approximation;
    }

    /// Returns the product of `values`, one for each column that is read, with a component.
    fn product(&self, component: usize, values: &[f64]) -> f64 {
        let own = self.component(component);
        let columns = self.columns.iter().zip(values);
        columns.map(|(&column, value)| own[column] * value).sum()
    }

    /// Updates the weights once.
    fn apply(&mut self, before: &[f64], weights: &mut [f64]) {
        let Multiplicative {
            beta, penalties, ..
        } = self.rule;
        let (mut ratios, mut powers) = (Vec::new(), Vec::new());
        if beta != 2.0 {
            self.approximate(before);
            let approximated = || self.columns.iter().zip(&self.approximation);
            ratios = approximated()
                .map(|(&column, &value)| self.ratio(self.row[column], value))
                .collect();
            if beta != 1.0 {
                powers = approximated()
                    .map(|(_, &value)| match beta < 1.0 {
                        true => self.rule.lifted(value).powf(beta - 1.0),
                        false => value.powf(beta - 1.0),
                    })
                    .collect();
            }
        }
        if self.grows() {
            // scikit-learn adds the penalty to the sums themselves, which NMF keeps.
            self.sums.iter_mut().for_each(|sum| *sum += penalties[0]);
        }
        let exponent = self.rule.exponent();
        for (component, weight) in weights.iter_mut().enumerate() {
            let (numerator, mut denominator) = if beta == 2.0 {
                let own = self.factors.gram_row(component);
                (self.products[component], dot(own, before))
            } else if beta == 1.0 {
                (self.product(component, &ratios), self.sums[component])
            } else {
                let numerator = self.product(component, &ratios);
                (numerator, self.product(component, &powers))
            };
            if beta != 1.0 || self.rule.end == UpdatesEnd::Change {
                denominator += penalties[0];
            }
            denominator += penalties[1] * before[component];
            if denominator == 0.0 {
                denominator = SMALL;
            }
            let mut factor = numerator / denominator;
            if exponent != 1.0 {
                factor = factor.powf(exponent);
            }
            *weight = before[component] * factor;
            let vanishes = self.rule.end == UpdatesEnd::Error && beta < 1.0;
            if vanishes && *weight < f64::EPSILON {
                *weight = 0.0;
            }
        }
    }

    /// Returns how a value counts beside what it is approximated by.
    fn ratio(&self, value: f64, approximation: f64) -> f64 {
        let beta = self.rule.beta;
        let approximation = match beta < 2.0 {
            true => self.rule.lifted(approximation),
            false => approximation,
        };
        if beta == 1.0 {
            value / approximation
        } else if beta == 0.0 {
            let inverse = 1.0 / approximation;
            inverse * inverse * value
        } else {
            approximation.powf(beta - 2.0) * value
        }
    }

    /// Returns the root of twice the divergence of the row from what the weights make of it.
    fn error(&mut self, weights: &[f64]) -> f64 {
        let beta = self.rule.beta;
        if beta == 2.0 {
            let mut rest = self.row.to_vec();
            for (component, weight) in weights.iter().enumerate() {
                for (rest, value) in rest.iter_mut().zip(self.component(component)) {
                    *rest -= weight * value;
                }
            }
            return dot(&rest, &rest).sqrt();
        }
        self.approximate(weights);
        let pairs = self.columns.iter().zip(&self.approximation);
        let pairs = pairs.map(|(&column, &value)| (self.row[column], self.rule.lifted(value)));
        let pairs: Vec<(f64, f64)> = pairs.filter(|(value, _)| *value > SMALL).collect();
        let divergence = if beta == 1.0 {
            let components = self
                .factors
                .components
                .chunks_exact(self.factors.n_features);
            let sums = components.map(|component| component.iter().sum::<f64>());
            let total: f64 = sums.zip(weights).map(|(sum, weight)| sum * weight).sum();
            let logarithms = pairs.iter().map(|(value, of)| value * (value / of).ln());
            let sum: f64 = pairs.iter().map(|(value, _)| value).sum();
            logarithms.sum::<f64>() + (total - sum)
        } else if beta == 0.0 {
            let ratios = || pairs.iter().map(|(value, of)| value / of);
            let logarithms: f64 = ratios().map(f64::ln).sum();
            ratios().sum::<f64>() - count(self.row.len()) - logarithms
        } else {
            let all: f64 = self.approximation.iter().map(|of| of.powf(beta)).sum();
            let products = pairs.iter().map(|(value, of)| value * of.powf(beta - 1.0));
            let own: f64 = pairs.iter().map(|(value, _)| value.powf(beta)).sum();
            let sum = own - beta * products.sum::<f64>() + all * (beta - 1.0);
            sum / (beta * (beta - 1.0))
        };
        (2.0 * divergence.max(0.0)).sqrt()
    }
}
