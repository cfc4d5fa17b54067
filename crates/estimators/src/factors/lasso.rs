//! Sparse codes: the lasso by coordinate descent, and least angle regression, over the products of components.
//!
//! Both are walked as scikit-learn walks them (`enet_coordinate_descent_gram`, `lars_path`), since they end within
//! a tolerance and not at the solution.

use super::Factors;
use crate::linear::dot;

/// The lasso by coordinate descent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lasso {
    /// The penalty on weights; above zero.
    pub penalty: f64,
    /// The most sweeps.
    pub sweeps_max: usize,
    /// The relative change, and the share of the row's square that the duality gap is to reach.
    pub tolerance: f64,
    /// Whether weights are held at zero and above.
    pub is_positive: bool,
}

/// Least angle regression.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LeastAngles {
    /// The penalty at which the path ends.
    pub penalty: f64,
    /// The most steps.
    pub steps_max: usize,
    /// Whether components whose weight reaches zero are dropped, which makes it the lasso.
    pub is_lasso: bool,
    /// Whether weights are held at zero and above.
    pub is_positive: bool,
}

/// What keeps denominators from zero.
const TINY: f64 = 1.175_494_350_822_287_5e-38;
/// Penalties nearer to each other than this are the same.
const SAME: f64 = 1.192_092_9e-7;

impl Factors {
    pub(super) fn lasso(&self, row: &[f64], weights: &mut [f64], rule: Lasso) {
        let products = self.products(row);
        let square = dot(row, row);
        let goal = rule.tolerance * square;
        weights.fill(0.0);
        // The products of the components with what the weights make.
        let mut fitted = vec![0.0; weights.len()];
        for sweep in 1..=rule.sweeps_max {
            let (mut largest, mut change) = (0.0_f64, 0.0_f64);
            for component in 0..self.n_components {
                let own = self.gram_row(component);
                let curvature = own[component];
                if curvature == 0.0 {
                    continue;
                }
                let before = weights[component];
                let pull = products[component] - fitted[component] + before * curvature;
                let magnitude = (pull.abs() - rule.penalty).max(0.0) / curvature;
                let weight = match rule.is_positive && pull < 0.0 {
                    true => 0.0,
                    false => magnitude.copysign(pull),
                };
                if weight != before {
                    for (fitted, product) in fitted.iter_mut().zip(own) {
                        *fitted += (weight - before) * product;
                    }
                }
                weights[component] = weight;
                change = change.max((weight - before).abs());
                largest = largest.max(weight.abs());
            }
            let is_still = largest == 0.0 || change / largest <= rule.tolerance;
            if (is_still || sweep == rule.sweeps_max)
                && gap(&products, &fitted, weights, square, rule) <= goal
            {
                break;
            }
        }
        // Negative zeros are zeros.
        weights.iter_mut().for_each(|weight| *weight += 0.0);
    }

    pub(super) fn least_angles(&self, row: &[f64], weights: &mut [f64], rule: LeastAngles) {
        Path::new(self, row, rule).walk(weights);
    }
}

/// Returns the duality gap of the lasso.
fn gap(products: &[f64], fitted: &[f64], weights: &[f64], square: f64, rule: Lasso) -> f64 {
    let rest = products
        .iter()
        .zip(fitted)
        .map(|(product, fitted)| product - fitted);
    let largest = match rule.is_positive {
        true => rest.fold(f64::NEG_INFINITY, f64::max),
        false => rest.map(f64::abs).fold(0.0, f64::max),
    };
    let of_row = dot(weights, products);
    let rest_square = square + dot(weights, fitted) - 2.0 * of_row;
    let (scale, base) = match largest > rule.penalty {
        true => {
            let scale = rule.penalty / largest;
            (scale, 0.5 * (rest_square + rest_square * scale * scale))
        }
        false => (1.0, rest_square),
    };
    let magnitude: f64 = weights.iter().map(|weight| weight.abs()).sum();
    base + rule.penalty * magnitude - scale * square + scale * of_row
}

/// A walk along the path of least angles.
struct Path<'f> {
    factors: &'f Factors,
    rule: LeastAngles,
    n_rows: f64,
    /// The products of the row with each component.
    products: Vec<f64>,
    /// The active components, then the others in the order in which they are searched.
    order: Vec<usize>,
    signs: Vec<f64>,
    /// The Cholesky factor of the products of the active components, row by row.
    factor: Vec<Vec<f64>>,
    /// The correlations of those that are not active, in the order of `order`.
    correlations: Vec<f64>,
}

impl<'f> Path<'f> {
    fn new(factors: &'f Factors, row: &[f64], rule: LeastAngles) -> Self {
        let products = factors.products(row);
        Self {
            factors,
            rule,
            n_rows: crate::kernel::count(row.len()),
            correlations: products.clone(),
            products,
            order: (0..factors.n_components).collect(),
            signs: Vec::new(),
            factor: Vec::new(),
        }
    }

    fn gram(&self, a: usize, b: usize) -> f64 {
        self.factors.gram_row(a)[b]
    }

    /// Returns the place of the largest correlation, and that.
    fn best(&self) -> (usize, f64) {
        let size = |value: f64| match self.rule.is_positive {
            true => value,
            false => value.abs(),
        };
        let mut best = 0;
        for (place, value) in self.correlations.iter().enumerate() {
            if size(*value) > size(self.correlations[best]) {
                best = place;
            }
        }
        (
            best,
            self.correlations
                .get(best)
                .map_or(0.0, |value| size(*value)),
        )
    }

    fn walk(mut self, weights: &mut [f64]) {
        weights.fill(0.0);
        let mut before = vec![0.0; weights.len()];
        let (mut n_steps, mut last_penalty, mut drops) = (0, 0.0, false);
        // Each turn of the loop takes a step, or sets a component aside until the next one.
        let steps_max = self.rule.steps_max.saturating_add(1);
        let mut turns_left = steps_max.saturating_mul(self.order.len() + 1);
        while turns_left > 0 {
            turns_left -= 1;
            let (best, correlation) = self.best();
            let penalty = correlation / self.n_rows;
            if penalty <= self.rule.penalty + SAME {
                if (penalty - self.rule.penalty).abs() > SAME && n_steps > 0 {
                    let share = (last_penalty - self.rule.penalty) / (last_penalty - penalty);
                    for (weight, before) in weights.iter_mut().zip(&before) {
                        *weight = before + share * (*weight - before);
                    }
                }
                return;
            }
            if n_steps >= self.rule.steps_max || self.signs.len() >= self.order.len() {
                return;
            }
            if !drops && !self.add(best) {
                continue;
            }
            if self.rule.is_lasso && n_steps > 0 && last_penalty < penalty {
                return;
            }
            before.copy_from_slice(weights);
            let Some(dropped) = self.step(correlation, weights) else {
                return;
            };
            drops = !dropped.is_empty();
            if self.rule.is_lasso {
                self.drop(&dropped, weights);
            }
            n_steps += 1;
            last_penalty = penalty;
        }
    }

    /// Takes the component at a place of the search among the active ones; `false` if it is made of these.
    fn add(&mut self, best: usize) -> bool {
        let n_active = self.signs.len();
        let component = self.order[n_active + best];
        let mut line: Vec<f64> = Vec::with_capacity(n_active + 1);
        for (known, &other) in self.factor.iter().zip(&self.order) {
            let done: f64 = line.iter().zip(known).map(|(a, b)| a * b).sum();
            line.push((self.gram(component, other) - done) / known[line.len()]);
        }
        let rest = self.gram(component, component) - dot(&line, &line);
        let diagonal = rest.abs().sqrt().max(f64::EPSILON);
        if diagonal < 1e-7 {
            self.correlations[best] = 0.0;
            return false;
        }
        line.push(diagonal);
        self.factor.push(line);
        let sign = match self.rule.is_positive {
            true => 1.0,
            false => signum(self.correlations[best]),
        };
        self.signs.push(sign);
        self.correlations.swap(0, best);
        self.correlations.remove(0);
        self.order.swap(n_active, n_active + best);
        true
    }

    /// Returns the solution of the active components' products for their signs.
    fn direction(&self) -> Vec<f64> {
        let mut solution: Vec<f64> = Vec::with_capacity(self.signs.len());
        for (line, sign) in self.factor.iter().zip(&self.signs) {
            let done: f64 = solution.iter().zip(line).map(|(a, b)| a * b).sum();
            solution.push((sign - done) / line[solution.len()]);
        }
        for at in (0..solution.len()).rev() {
            let later = self.factor.iter().zip(&solution).skip(at + 1);
            let done: f64 = later.map(|(line, value)| line[at] * value).sum();
            solution[at] = (solution[at] - done) / self.factor[at][at];
        }
        solution
    }

    /// Moves the weights until another component is as near; returns the active places whose weights reach zero, from the
    /// last on, and `None` where there is no way.
    fn step(&mut self, correlation: f64, weights: &mut [f64]) -> Option<Vec<usize>> {
        let n_active = self.signs.len();
        let mut direction = self.direction();
        let norm = 1.0 / dot(&direction, &self.signs).sqrt();
        if !norm.is_finite() {
            return None;
        }
        direction.iter_mut().for_each(|value| *value *= norm);
        let (active, others) = self.order.split_at(n_active);
        let turned: Vec<f64> = others
            .iter()
            .map(|&other| {
                let shares = active.iter().zip(&direction);
                shares
                    .map(|(&one, value)| self.gram(one, other) * value)
                    .sum()
            })
            .collect();
        let mut length = correlation / norm;
        for (own, turned) in self.correlations.iter().zip(&turned) {
            let nearer = (correlation - own) / (norm - turned + TINY);
            let farther = (correlation + own) / (norm + turned + TINY);
            if nearer > 0.0 {
                length = length.min(nearer);
            }
            if farther > 0.0 && !self.rule.is_positive {
                length = length.min(farther);
            }
        }
        let crossings = active.iter().zip(&direction);
        let crossings: Vec<f64> = crossings
            .map(|(&component, value)| -weights[component] / (value + TINY))
            .collect();
        let first = crossings.iter().copied().filter(|at| *at > 0.0);
        let first = first.fold(f64::MAX, f64::min);
        let mut dropped = Vec::new();
        if first < length {
            dropped.extend(
                (0..n_active)
                    .rev()
                    .filter(|&place| crossings[place] == first),
            );
            for &place in &dropped {
                self.signs[place] = -self.signs[place];
            }
            if self.rule.is_lasso {
                length = first;
            }
        }
        let moved = active.iter().zip(&direction);
        let moved: Vec<(usize, f64)> = moved
            .map(|(&component, value)| (component, weights[component] + length * value))
            .collect();
        weights.fill(0.0);
        for (component, weight) in moved {
            weights[component] = weight;
        }
        for (own, turned) in self.correlations.iter_mut().zip(&turned) {
            *own -= length * turned;
        }
        Some(dropped)
    }

    /// Takes components out of the active ones; `places` come from the last on.
    fn drop(&mut self, places: &[usize], weights: &[f64]) {
        for &place in places {
            let component = self.order.remove(place);
            self.signs.remove(place);
            self.order.insert(self.signs.len(), component);
            let fitted = dot(self.factors.gram_row(component), weights);
            self.correlations
                .insert(0, self.products[component] - fitted);
        }
        if let Some(&first) = places.last() {
            self.factor_from(first);
        }
    }

    /// Computes the rows of the factor anew from a place on.
    fn factor_from(&mut self, place: usize) {
        self.factor.truncate(place);
        while self.factor.len() < self.signs.len() {
            let component = self.order[self.factor.len()];
            let mut line: Vec<f64> = Vec::with_capacity(self.factor.len() + 1);
            for (known, &other) in self.factor.iter().zip(&self.order) {
                let done: f64 = line.iter().zip(known).map(|(a, b)| a * b).sum();
                line.push((self.gram(component, other) - done) / known[line.len()]);
            }
            let rest = self.gram(component, component) - dot(&line, &line);
            line.push(rest.abs().sqrt().max(f64::EPSILON));
            self.factor.push(line);
        }
    }
}

/// Returns 1, -1, or 0 for zero.
fn signum(value: f64) -> f64 {
    if value == 0.0 { 0.0 } else { value.signum() }
}
