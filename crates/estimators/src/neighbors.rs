//! Nearest neighbours by comparison with every row of the training data.
//!
//! Trees (`KDTree`, `BallTree`) find the same neighbours faster in few dimensions; the files hold the data beside them.
//! Of neighbours equally far, the one that comes first in the training data counts as nearer; scikit-learn's trees
//! and heaps decide such ties by the order in which they happen to visit.

use std::sync::Arc;

use coracle_model::{Accepts, RunError, RunErrorKind};
use coracle_tensor::Rows;

use crate::faceted::first_largest;
use crate::kernel::count;
use crate::linear::dot;
use crate::metric::Metric;
use crate::spec_error::{SpecError, expect_length};
use crate::table_fn::TableFn;

/// Which rows are neighbours.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reach {
    /// So many nearest ones.
    Nearest(usize),
    /// All within a distance.
    Within(f64),
}

/// The training data and the rule.
#[derive(Clone, Debug)]
pub struct Neighborhood {
    /// Shared by the methods of an estimator.
    data: Arc<[f64]>,
    squares: Arc<[f64]>,
    n_features: usize,
    metric: Metric,
    reach: Reach,
    is_expanded: bool,
    is_brute: bool,
    /// Whether rows without a distance are neighbours where there are too few others.
    fills: bool,
}

fn expect_rows(n_rows: usize, reach: Reach) -> Result<(), SpecError> {
    let needed = match reach {
        Reach::Nearest(k) => k.max(1),
        Reach::Within(_) => 1,
    };
    if n_rows < needed || reach == Reach::Nearest(0) {
        return Err(SpecError::new(format!(
            "{n_rows} rows of training data, {needed} neighbours"
        )));
    }
    Ok(())
}

impl Neighborhood {
    /// Returns the neighbourhoods in `data`, `(n, n_features)` row-major.
    ///
    /// `is_expanded` says that Euclidean distances are computed as differences of squares, as scikit-learn's
    /// brute force does.
    ///
    /// # Errors
    /// [`SpecError`] if lengths do not fit, or there are fewer rows than neighbours.
    pub fn try_new(
        data: Vec<f64>,
        n_features: usize,
        metric: Metric,
        reach: Reach,
        is_expanded: bool,
    ) -> Result<Self, SpecError> {
        let n_rows = data.len().checked_div(n_features).unwrap_or_default();
        expect_length("the training data", data.len(), n_rows * n_features)?;
        expect_rows(n_rows, reach)?;
        metric.check(n_features)?;
        let squares: Arc<[f64]> = match is_expanded {
            true => data
                .chunks_exact(n_features)
                .map(|row| dot(row, row))
                .collect(),
            false => Arc::default(),
        };
        Ok(Self {
            data: data.into(),
            squares,
            n_features,
            metric,
            reach,
            is_expanded,
            is_brute: false,
            fills: false,
        })
    }

    /// Says that scikit-learn searches by brute force, which takes rows without a distance where there are too few others.
    #[must_use]
    pub fn by_brute_force(mut self) -> Self {
        self.is_brute = true;
        self
    }

    /// Takes rows without a distance where scikit-learn's brute force does.
    pub(crate) fn filled(self) -> Self {
        Self {
            fills: self.is_brute,
            ..self
        }
    }

    /// Returns the same neighbourhoods of another reach.
    ///
    /// # Errors
    /// [`SpecError`] if there are fewer rows than neighbours.
    pub fn reaching(&self, reach: Reach) -> Result<Self, SpecError> {
        expect_rows(self.n_rows(), reach)?;
        Ok(Self {
            reach,
            ..self.clone()
        })
    }

    /// Returns the number of rows of training data.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.data.len() / self.n_features
    }

    pub(crate) fn n_features(&self) -> usize {
        self.n_features
    }

    /// Returns the number of neighbours, where it is fixed.
    pub(crate) fn n_nearest(&self) -> Option<usize> {
        match self.reach {
            Reach::Nearest(k) => Some(k),
            Reach::Within(_) => None,
        }
    }

    /// Returns a row of the training data.
    pub(crate) fn row(&self, index: usize) -> &[f64] {
        &self.data[index * self.n_features..][..self.n_features]
    }

    /// Writes the distance and index of each neighbour, nearest first (or in order, within a distance).
    ///
    /// Rows without a distance (all false, by Dice's) are farther than all others, as in scikit-learn.
    ///
    /// # Errors
    /// Kind `ValueOutOfRange` if fewer rows than there should be neighbours have a distance, but where the first others
    /// are taken: scikit-learn's trees take the first row several times then, and weights by distance are NaN.
    pub(crate) fn find(&self, row: &[f64], found: &mut Vec<(f64, usize)>) -> Result<(), RunError> {
        found.clear();
        let square = if self.is_expanded { dot(row, row) } else { 0.0 };
        for (index, other) in self.data.chunks_exact(self.n_features).enumerate() {
            let distance = match self.is_expanded {
                true => {
                    let squared = square - 2.0 * dot(row, other) + self.squares[index];
                    match self.metric {
                        Metric::SquaredEuclidean => squared.max(0.0),
                        _ => squared.max(0.0).sqrt(),
                    }
                }
                false => self.metric.of(row, other),
            };
            match self.reach {
                Reach::Within(radius) if distance <= radius => found.push((distance, index)),
                Reach::Within(_) => {}
                Reach::Nearest(_) if distance.is_nan() => {}
                Reach::Nearest(k) => insert(found, k, distance, index),
            }
        }
        match self.reach {
            Reach::Nearest(k) if found.len() < k && self.fills => {
                let n = found.len();
                let others =
                    (0..self.n_rows()).filter(|&row| found.iter().all(|&(_, at)| at != row));
                let others: Vec<usize> = others.take(k - n).collect();
                found.extend(others.into_iter().map(|index| (f64::NAN, index)));
                Ok(())
            }
            Reach::Nearest(k) if found.len() < k => {
                let n = found.len();
                let message = format!(
                    "{n} rows of the training data have a distance to it by the metric, {k} neighbours are needed"
                );
                Err(RunError::new(RunErrorKind::ValueOutOfRange, message))
            }
            _ => Ok(()),
        }
    }

    fn accepts(&self) -> Accepts {
        Accepts {
            missing: self.metric.accepts_missing(),
            ..Accepts::FINITE
        }
    }

    fn memory_bytes(&self) -> usize {
        (self.data.len() + self.squares.len()) * size_of::<f64>()
    }
}

/// Names the row that has no neighbours.
pub(crate) fn at_row(index: usize, error: &RunError) -> RunError {
    RunError::new(error.kind(), format!("row {index}: {error}"))
}

/// Keeps the `k` nearest, sorted.
fn insert(found: &mut Vec<(f64, usize)>, k: usize, distance: f64, index: usize) {
    if found.len() == k {
        match found.last() {
            Some((farthest, _)) if distance < *farthest => {
                found.pop();
            }
            _ => return,
        }
    }
    let place = found.partition_point(|(other, _)| *other <= distance);
    found.insert(place, (distance, index));
}

/// How much each neighbour counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighborWeights {
    /// All the same.
    Uniform,
    /// The inverse of the distance; those at distance zero alone where there are any.
    Distance,
}

/// What is answered for a row without neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlier {
    /// The row is refused.
    Refuse,
    /// This class.
    Class(usize),
    /// A label that is no class: the class number beyond the last.
    Beyond,
}

/// What is made of the neighbours.
#[derive(Clone, Debug)]
pub enum NeighborAnswer {
    /// The share of each class.
    Shares {
        /// The class of each row of the training data.
        classes: Vec<usize>,
        /// The number of classes.
        n_classes: usize,
        /// What rows without neighbours get.
        outlier: Outlier,
    },
    /// The number of the class with the largest share.
    Class {
        /// The class of each row of the training data.
        classes: Vec<usize>,
        /// The number of classes.
        n_classes: usize,
        /// What rows without neighbours get.
        outlier: Outlier,
    },
    /// The mean of the targets, NaN without neighbours.
    Mean {
        /// `(rows, targets)`, row-major.
        targets: Vec<f64>,
        /// The number of targets.
        n_targets: usize,
    },
}

/// A function of a row's neighbours.
#[derive(Debug)]
pub struct Neighbors {
    neighborhood: Neighborhood,
    weights: NeighborWeights,
    answer: NeighborAnswer,
}

impl Neighbors {
    /// Returns the function.
    ///
    /// # Errors
    /// [`SpecError`] if there is not a class or target for each row, or a class does not exist.
    pub fn try_new(
        mut neighborhood: Neighborhood,
        weights: NeighborWeights,
        answer: NeighborAnswer,
    ) -> Result<Self, SpecError> {
        let n_rows = neighborhood.n_rows();
        match &answer {
            NeighborAnswer::Shares {
                classes,
                n_classes,
                outlier,
            }
            | NeighborAnswer::Class {
                classes,
                n_classes,
                outlier,
            } => {
                expect_length("_y", classes.len(), n_rows)?;
                let is_class = |class: &usize| class < n_classes;
                let is_sound = match outlier {
                    Outlier::Class(class) => is_class(class),
                    _ => true,
                };
                if !classes.iter().all(is_class) || !is_sound {
                    return Err(SpecError::new(
                        "a class of the training data does not exist",
                    ));
                }
            }
            NeighborAnswer::Mean { targets, n_targets } => {
                expect_length("_y", targets.len(), n_rows.saturating_mul(*n_targets))?;
                if *n_targets == 0 {
                    return Err(SpecError::new("there are no targets"));
                }
            }
        }
        neighborhood.fills = neighborhood.is_brute && weights == NeighborWeights::Uniform;
        Ok(Self {
            neighborhood,
            weights,
            answer,
        })
    }

    /// Turns distances into weights, in place.
    fn weigh(&self, found: &mut [(f64, usize)]) {
        let is_uniform = self.weights == NeighborWeights::Uniform;
        let has_zero = found.iter().any(|(distance, _)| *distance == 0.0);
        for (value, _) in found {
            *value = match (is_uniform, has_zero) {
                (true, _) => 1.0,
                (false, true) if *value == 0.0 => 1.0,
                (false, true) => 0.0,
                (false, false) => 1.0 / *value,
            };
        }
    }

    fn shares(
        found: &[(f64, usize)],
        classes: &[usize],
        outlier: Outlier,
        shares: &mut [f64],
    ) -> bool {
        shares.fill(0.0);
        if found.is_empty() {
            match outlier {
                Outlier::Refuse => return false,
                Outlier::Class(class) => shares[class] = 1.0,
                Outlier::Beyond => {}
            }
            return true;
        }
        for (weight, index) in found {
            shares[classes[*index]] += weight;
        }
        let sum: f64 = shares.iter().sum();
        let divisor = if sum == 0.0 { 1.0 } else { sum };
        shares.iter_mut().for_each(|share| *share /= divisor);
        true
    }

    fn means(&self, found: &[(f64, usize)], targets: &[f64], means: &mut [f64]) {
        if found.is_empty() {
            return means.fill(f64::NAN);
        }
        means.fill(0.0);
        for (weight, index) in found {
            let row = &targets[index * means.len()..][..means.len()];
            for (mean, target) in means.iter_mut().zip(row) {
                *mean += target * weight;
            }
        }
        let divisor = match self.weights {
            NeighborWeights::Uniform => count(found.len()),
            NeighborWeights::Distance => found.iter().map(|(weight, _)| weight).sum(),
        };
        means.iter_mut().for_each(|mean| *mean /= divisor);
    }
}

impl TableFn for Neighbors {
    fn n_features(&self) -> usize {
        self.neighborhood.n_features
    }

    fn n_columns(&self) -> usize {
        match &self.answer {
            NeighborAnswer::Shares { n_classes, .. } => *n_classes,
            NeighborAnswer::Class { .. } => 1,
            NeighborAnswer::Mean { n_targets, .. } => *n_targets,
        }
    }

    fn accepts(&self) -> Accepts {
        self.neighborhood.accepts()
    }

    fn apply(&self, rows: Rows<'_>) -> Result<Vec<f64>, RunError> {
        let width = self.n_columns();
        let mut output = vec![0.0; rows.n_rows() * width];
        let mut found = Vec::new();
        let refused = |row: usize| {
            let message = format!("row {row}: no neighbours within the radius");
            RunError::new(RunErrorKind::ValueOutOfRange, message)
        };
        let mut scratch = Vec::new();
        for (index, (row, output)) in rows.iter().zip(output.chunks_exact_mut(width)).enumerate() {
            let neighbors = self.neighborhood.find(row, &mut found);
            neighbors.map_err(|error| at_row(index, &error))?;
            self.weigh(&mut found);
            match &self.answer {
                NeighborAnswer::Shares {
                    classes, outlier, ..
                } => {
                    if !Self::shares(&found, classes, *outlier, output) {
                        return Err(refused(index));
                    }
                }
                NeighborAnswer::Class {
                    classes,
                    n_classes,
                    outlier,
                } => {
                    scratch.resize(*n_classes, 0.0);
                    if !Self::shares(&found, classes, *outlier, &mut scratch) {
                        return Err(refused(index));
                    }
                    let is_beyond = found.is_empty() && *outlier == Outlier::Beyond;
                    let class = match is_beyond {
                        true => *n_classes,
                        false => first_largest(&scratch),
                    };
                    output[0] = count(class);
                }
                NeighborAnswer::Mean { targets, .. } => self.means(&found, targets, output),
            }
        }
        Ok(output)
    }

    fn memory_bytes(&self) -> usize {
        let answers = match &self.answer {
            NeighborAnswer::Shares { classes, .. } | NeighborAnswer::Class { classes, .. } => {
                classes.capacity() * size_of::<usize>()
            }
            NeighborAnswer::Mean { targets, .. } => targets.capacity() * size_of::<f64>(),
        };
        self.neighborhood.memory_bytes() + answers
    }
}

/// The local outlier factor of new rows, negated: the more normal, the higher.
#[derive(Debug)]
pub struct LocalOutliers {
    neighborhood: Neighborhood,
    /// The density around each row of the training data.
    densities: Vec<f64>,
    /// The distance of each row's k-th neighbour.
    reaches: Vec<f64>,
}

impl LocalOutliers {
    /// Returns the function.
    ///
    /// # Errors
    /// [`SpecError`] if there is not a density and a distance for each row.
    pub fn try_new(
        neighborhood: Neighborhood,
        densities: Vec<f64>,
        reaches: Vec<f64>,
    ) -> Result<Self, SpecError> {
        let n_rows = neighborhood.n_rows();
        expect_length("_lrd", densities.len(), n_rows)?;
        expect_length("_distances_fit_X_", reaches.len(), n_rows)?;
        Ok(Self {
            neighborhood,
            densities,
            reaches,
        })
    }
}

impl TableFn for LocalOutliers {
    fn n_features(&self) -> usize {
        self.neighborhood.n_features
    }

    fn n_columns(&self) -> usize {
        1
    }

    fn accepts(&self) -> Accepts {
        self.neighborhood.accepts()
    }

    fn apply(&self, rows: Rows<'_>) -> Result<Vec<f64>, RunError> {
        let mut found = Vec::new();
        let scores = rows.iter().enumerate().map(|(index, row)| {
            let neighbors = self.neighborhood.find(row, &mut found);
            neighbors.map_err(|error| at_row(index, &error))?;
            let n = count(found.len());
            let reach = |(distance, index): &(f64, usize)| distance.max(self.reaches[*index]);
            let mean_reach = found.iter().map(reach).sum::<f64>() / n;
            let density = 1.0 / (mean_reach + 1e-10);
            let ratios = found
                .iter()
                .map(|(_, index)| self.densities[*index] / density);
            Ok(-(ratios.sum::<f64>() / n))
        });
        scores.collect()
    }

    fn memory_bytes(&self) -> usize {
        let numbers = self.densities.capacity() + self.reaches.capacity();
        self.neighborhood.memory_bytes() + numbers * size_of::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn neighborhood(reach: Reach) -> Result<Neighborhood, SpecError> {
        Neighborhood::try_new(vec![0.0, 1.0, 3.0], 1, Metric::Euclidean, reach, false)
    }

    #[test]
    fn the_first_of_equally_near_rows_counts() {
        let mut found = Vec::new();
        let one = neighborhood(Reach::Nearest(1)).unwrap();
        one.find(&[2.0], &mut found).unwrap();
        assert_eq!(found, [(1.0, 1)]);
        let within = neighborhood(Reach::Within(1.0)).unwrap();
        within.find(&[2.0], &mut found).unwrap();
        assert_eq!(found, [(1.0, 1), (1.0, 2)]);
        assert!(neighborhood(Reach::Nearest(4)).is_err());
        assert!(neighborhood(Reach::Nearest(0)).is_err());
    }

    #[test]
    fn rows_without_a_distance_are_no_neighbours() {
        let dice = Metric::named("dice").unwrap();
        let data = vec![0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0];
        let nearest = |k| {
            let reach = Reach::Nearest(k);
            Neighborhood::try_new(data.clone(), 2, dice.clone(), reach, false).unwrap()
        };
        let mut found = Vec::new();
        nearest(2).find(&[0.0, 0.0], &mut found).unwrap();
        assert_eq!(found, [(1.0, 1), (1.0, 3)]);
        let error = nearest(3).find(&[0.0, 0.0], &mut found).unwrap_err();
        assert_eq!(error.kind(), RunErrorKind::ValueOutOfRange);
        assert!(error.to_string().contains("2 rows"), "{error}");
    }

    #[test]
    fn a_row_without_neighbours_is_an_outlier() {
        let answer = |outlier| NeighborAnswer::Class {
            classes: vec![0, 1, 1],
            n_classes: 2,
            outlier,
        };
        let class = |outlier| {
            let reach = neighborhood(Reach::Within(0.5)).unwrap();
            let neighbors =
                Neighbors::try_new(reach, NeighborWeights::Distance, answer(outlier)).unwrap();
            neighbors.apply(Rows::try_new(&[9.0, 3.0], 1).unwrap())
        };
        assert_eq!(class(Outlier::Class(0)).unwrap(), [0.0, 1.0]);
        assert_eq!(class(Outlier::Beyond).unwrap(), [2.0, 1.0]);
        assert!(class(Outlier::Refuse).is_err());
    }
}
