//! Functions of a row's neighbours that are no votes: lists, graphs, embeddings, densities.

use coracle_model::{Accepts, RunError};
use coracle_tensor::Rows;

use crate::kernel::count;
use crate::linalg::solve;
use crate::linear::dot;
use crate::metric::Metric;
use crate::neighbors::{Neighborhood, at_row};
use crate::spec_error::{SpecError, expect_length};
use crate::table_fn::TableFn;

/// What is made of a row's neighbours.
#[derive(Clone, Debug)]
pub enum NeighborMap {
    /// The distances, nearest first.
    Distances,
    /// The numbers of the training rows, nearest first.
    Indices,
    /// A column per training row: its distance where it is a neighbour, else zero.
    DistanceGraph,
    /// A column per training row: one where it is a neighbour, else zero.
    Graph,
    /// The embedding of the training rows, weighted so that the neighbours make up the row (LocallyLinearEmbedding).
    Barycenter {
        /// `(rows, outputs)`, row-major.
        embedding: Vec<f64>,
        /// What steadies the weights.
        regularization: f64,
    },
    /// `-d^2 / 2` of the shortest way to each training row through a neighbour (Isomap).
    Geodesic {
        /// `(rows, rows)`, row-major: the distances along the graph.
        distances: Vec<f64>,
    },
}

/// A function of a row's neighbours.
#[derive(Debug)]
pub struct NeighborMaps {
    neighborhood: Neighborhood,
    map: NeighborMap,
    n_columns: usize,
}

impl NeighborMaps {
    /// Returns the function.
    ///
    /// # Errors
    /// [`SpecError`] if lengths do not fit, or the map needs a fixed number of neighbours and there is none.
    pub fn try_new(neighborhood: Neighborhood, map: NeighborMap) -> Result<Self, SpecError> {
        let n_rows = neighborhood.n_rows();
        let n_nearest = neighborhood.n_nearest();
        let n_columns = match &map {
            NeighborMap::Distances | NeighborMap::Indices => n_nearest,
            NeighborMap::DistanceGraph | NeighborMap::Graph => Some(n_rows),
            NeighborMap::Barycenter { embedding, .. } => {
                let n_outputs = embedding.len() / n_rows;
                expect_length("the embedding", embedding.len(), n_rows * n_outputs)?;
                n_nearest.map(|_| n_outputs).filter(|n| *n > 0)
            }
            NeighborMap::Geodesic { distances } => {
                expect_length(
                    "the distances",
                    distances.len(),
                    n_rows.saturating_mul(n_rows),
                )?;
                Some(n_rows)
            }
        };
        let n_columns =
            n_columns.ok_or_else(|| SpecError::new("there is no number of neighbours"))?;
        Ok(Self {
            neighborhood: match map {
                NeighborMap::Distances | NeighborMap::Indices => neighborhood.filled(),
                _ => neighborhood,
            },
            map,
            n_columns,
        })
    }

    fn row(&self, row: &[f64], found: &[(f64, usize)], output: &mut [f64]) -> Result<(), RunError> {
        match &self.map {
            NeighborMap::Distances => {
                for (output, (distance, _)) in output.iter_mut().zip(found) {
                    *output = *distance;
                }
            }
            NeighborMap::Indices => {
                for (output, (_, index)) in output.iter_mut().zip(found) {
                    *output = count(*index);
                }
            }
            NeighborMap::DistanceGraph => {
                found
                    .iter()
                    .for_each(|(distance, index)| output[*index] = *distance);
            }
            NeighborMap::Graph => found.iter().for_each(|(_, index)| output[*index] = 1.0),
            NeighborMap::Barycenter {
                embedding,
                regularization,
            } => {
                let weights = self.barycenter(row, found, *regularization)?;
                for (weight, (_, index)) in weights.iter().zip(found) {
                    let embedded = &embedding[index * output.len()..][..output.len()];
                    for (output, value) in output.iter_mut().zip(embedded) {
                        *output += weight * value;
                    }
                }
            }
            NeighborMap::Geodesic { distances } => {
                output.fill(f64::INFINITY);
                for (distance, index) in found {
                    let others = &distances[index * output.len()..][..output.len()];
                    for (output, other) in output.iter_mut().zip(others) {
                        *output = output.min(other + distance);
                    }
                }
                output
                    .iter_mut()
                    .for_each(|value| *value = *value * *value * -0.5);
            }
        }
        Ok(())
    }

    /// Returns the weights with which the neighbours make up `row`.
    fn barycenter(
        &self,
        row: &[f64],
        found: &[(f64, usize)],
        regularization: f64,
    ) -> Result<Vec<f64>, RunError> {
        let differences: Vec<Vec<f64>> = found
            .iter()
            .map(|(_, index)| {
                let other = self.neighborhood.row(*index).iter().zip(row);
                other.map(|(other, value)| other - value).collect()
            })
            .collect();
        let n = found.len();
        let mut products = Vec::with_capacity(n * n);
        for one in &differences {
            products.extend(differences.iter().map(|other| dot(one, other)));
        }
        let trace: f64 = products.iter().step_by(n + 1).sum();
        let extra = regularization * if trace > 0.0 { trace } else { 1.0 };
        products
            .iter_mut()
            .step_by(n + 1)
            .for_each(|value| *value += extra);
        let weights = solve(&products, n, &vec![1.0; n]).map_err(crate::table::internal)?;
        let sum: f64 = weights.iter().sum();
        Ok(weights.into_iter().map(|weight| weight / sum).collect())
    }
}

impl TableFn for NeighborMaps {
    fn n_features(&self) -> usize {
        self.neighborhood.n_features()
    }

    fn n_columns(&self) -> usize {
        self.n_columns
    }

    fn accepts(&self) -> Accepts {
        Accepts::FINITE
    }

    fn apply(&self, rows: Rows<'_>) -> Result<Vec<f64>, RunError> {
        let mut output = vec![0.0; rows.n_rows() * self.n_columns];
        let mut found = Vec::new();
        let outputs = output.chunks_exact_mut(self.n_columns);
        for (index, (row, output)) in rows.iter().zip(outputs).enumerate() {
            let neighbors = self.neighborhood.find(row, &mut found);
            neighbors.map_err(|error| at_row(index, &error))?;
            self.row(row, &found, output)?;
        }
        Ok(output)
    }

    fn memory_bytes(&self) -> usize {
        let own = match &self.map {
            NeighborMap::Barycenter { embedding, .. } => embedding.capacity(),
            NeighborMap::Geodesic { distances } => distances.capacity(),
            _ => 0,
        };
        self.neighborhood.n_rows() * self.neighborhood.n_features() * size_of::<f64>()
            + own * size_of::<f64>()
    }
}

/// Similarities to training rows, centred in the kernel's space.
#[derive(Debug)]
pub struct CenteredSimilarities {
    means: Vec<f64>,
    mean: f64,
}

impl CenteredSimilarities {
    /// Returns the centring by the mean similarity to each training row, and the mean of those.
    #[must_use]
    pub fn new(means: Vec<f64>, mean: f64) -> Self {
        Self { means, mean }
    }
}

impl TableFn for CenteredSimilarities {
    fn n_features(&self) -> usize {
        self.means.len()
    }

    fn n_columns(&self) -> usize {
        self.means.len()
    }

    fn accepts(&self) -> Accepts {
        Accepts::FINITE
    }

    fn apply(&self, rows: Rows<'_>) -> Result<Vec<f64>, RunError> {
        let mut output = Vec::with_capacity(rows.values().len());
        for row in rows.iter() {
            let own = row.iter().sum::<f64>() / count(row.len());
            let centered = row.iter().zip(&self.means);
            output.extend(centered.map(|(value, mean)| value - mean - own + self.mean));
        }
        Ok(output)
    }

    fn memory_bytes(&self) -> usize {
        self.means.capacity() * size_of::<f64>()
    }
}

/// How density falls with distance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as in scikit-learn")]
pub enum DensityKernel {
    Gaussian,
    Tophat,
    Epanechnikov,
    Exponential,
    Linear,
    Cosine,
}

/// The logarithm of a density estimated from training rows.
#[derive(Debug)]
pub struct Density {
    data: Vec<f64>,
    n_features: usize,
    /// The logarithm of each training row's weight; none if all are alike.
    log_weights: Vec<f64>,
    metric: Metric,
    kernel: DensityKernel,
    bandwidth: f64,
    offset: f64,
}

impl Density {
    /// Returns the density around the rows of `data`; `weights` is empty if all weigh the same.
    ///
    /// # Errors
    /// [`SpecError`] if lengths do not fit, or the bandwidth or the weights are not positive.
    pub fn try_new(
        data: Vec<f64>,
        n_features: usize,
        weights: &[f64],
        metric: Metric,
        kernel: DensityKernel,
        bandwidth: f64,
    ) -> Result<Self, SpecError> {
        let n_rows = data.len().checked_div(n_features).unwrap_or(0);
        expect_length("the training data", data.len(), n_rows * n_features)?;
        if !weights.is_empty() {
            expect_length("the weights", weights.len(), n_rows)?;
        }
        let total: f64 = match weights {
            [] => count(n_rows),
            weights => weights.iter().sum(),
        };
        let is_sound =
            bandwidth > 0.0 && total > 0.0 && weights.iter().all(|weight| *weight >= 0.0);
        if !is_sound {
            return Err(SpecError::new("a bandwidth or weight is not positive"));
        }
        let offset = -kernel.log_volume(n_features) - count(n_features) * bandwidth.ln();
        Ok(Self {
            data,
            n_features,
            log_weights: weights.iter().map(|weight| weight.ln()).collect(),
            metric,
            kernel,
            bandwidth,
            offset: offset - total.ln(),
        })
    }
}

/// Returns the logarithm of the volume of the unit ball.
fn log_ball(n: usize) -> f64 {
    0.5 * count(n) * std::f64::consts::PI.ln() - log_gamma_of_half(n + 2)
}

/// Returns the logarithm of the surface of the unit sphere around a ball of one dimension more.
fn log_sphere(n: usize) -> f64 {
    (2.0 * std::f64::consts::PI).ln() + log_ball(n.saturating_sub(1))
}

/// Returns the logarithm of the gamma function of `twice / 2`.
fn log_gamma_of_half(twice: usize) -> f64 {
    let (mut value, mut at) = match twice % 2 {
        0 => (0.0, 2),
        _ => (0.5 * std::f64::consts::PI.ln(), 1),
    };
    while at < twice {
        value += (count(at) / 2.0).ln();
        at += 2;
    }
    value
}

impl DensityKernel {
    /// Returns the kernel of this name in scikit-learn.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "gaussian" => Self::Gaussian,
            "tophat" => Self::Tophat,
            "epanechnikov" => Self::Epanechnikov,
            "exponential" => Self::Exponential,
            "linear" => Self::Linear,
            "cosine" => Self::Cosine,
            _ => return None,
        })
    }

    /// Returns the logarithm of the integral over `n` dimensions, for a bandwidth of one.
    fn log_volume(self, n: usize) -> f64 {
        let d = count(n);
        match self {
            Self::Gaussian => 0.5 * d * (2.0 * std::f64::consts::PI).ln(),
            Self::Tophat => log_ball(n),
            Self::Epanechnikov => log_ball(n) + (2.0 / (d + 2.0)).ln(),
            Self::Exponential => log_sphere(n.saturating_sub(1)) + log_gamma_of_half(2 * n),
            Self::Linear => log_ball(n) - (d + 1.0).ln(),
            Self::Cosine => {
                let ratio = 2.0 / std::f64::consts::PI;
                let (mut sum, mut term) = (0.0, ratio);
                for k in (1..=n).step_by(2) {
                    sum += term;
                    term *= -(d - count(k)) * (d - count(k) - 1.0) * ratio * ratio;
                }
                sum.ln() + log_sphere(n.saturating_sub(1))
            }
        }
    }

    /// Returns the logarithm of the kernel at `distance`.
    fn log_of(self, distance: f64, bandwidth: f64) -> f64 {
        let x = distance / bandwidth;
        let within = |value: f64| {
            if distance < bandwidth {
                value
            } else {
                f64::NEG_INFINITY
            }
        };
        match self {
            Self::Gaussian => -0.5 * (distance * distance) / (bandwidth * bandwidth),
            Self::Exponential => -x,
            Self::Tophat => within(0.0),
            Self::Epanechnikov => {
                within((1.0 - (distance * distance) / (bandwidth * bandwidth)).ln())
            }
            Self::Linear => within((1.0 - x).ln()),
            Self::Cosine => within((0.5 * std::f64::consts::PI * x).cos().ln()),
        }
    }
}

impl TableFn for Density {
    fn n_features(&self) -> usize {
        self.n_features
    }

    fn n_columns(&self) -> usize {
        1
    }

    fn accepts(&self) -> Accepts {
        Accepts::FINITE
    }

    fn apply(&self, rows: Rows<'_>) -> Result<Vec<f64>, RunError> {
        let logarithms = rows.iter().map(|row| {
            let others = self.data.chunks_exact(self.n_features).enumerate();
            let terms: Vec<f64> = others
                .map(|(index, other)| {
                    let weight = self.log_weights.get(index).copied().unwrap_or(0.0);
                    weight
                        + self
                            .kernel
                            .log_of(self.metric.of(row, other), self.bandwidth)
                })
                .collect();
            let largest = terms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            match largest == f64::NEG_INFINITY {
                true => largest,
                false => crate::special::log_sum_exp(&terms) + self.offset,
            }
        });
        Ok(logarithms.collect())
    }

    fn memory_bytes(&self) -> usize {
        (self.data.capacity() + self.log_weights.capacity()) * size_of::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::neighbors::Reach;

    #[test]
    fn neighbours_are_listed_and_graphed() {
        let data = vec![0.0, 1.0, 5.0];
        let neighborhood = |reach| {
            Neighborhood::try_new(data.clone(), 1, Metric::Euclidean, reach, false).unwrap()
        };
        let rows = Rows::try_new(&[0.75], 1).unwrap();
        let nearest = |map| NeighborMaps::try_new(neighborhood(Reach::Nearest(2)), map);
        let apply = |map| nearest(map).unwrap().apply(rows).unwrap();
        assert_eq!(apply(NeighborMap::Indices), [1.0, 0.0]);
        assert_eq!(apply(NeighborMap::Distances), [0.25, 0.75]);
        assert_eq!(apply(NeighborMap::DistanceGraph), [0.75, 0.25, 0.0]);
        let within = NeighborMaps::try_new(neighborhood(Reach::Within(0.5)), NeighborMap::Graph);
        assert_eq!(within.unwrap().apply(rows).unwrap(), [0.0, 1.0, 0.0]);
        let no_number =
            NeighborMaps::try_new(neighborhood(Reach::Within(0.5)), NeighborMap::Indices);
        assert!(no_number.is_err());
        assert!(
            nearest(NeighborMap::Geodesic {
                distances: vec![0.0]
            })
            .is_err()
        );
    }

    #[test]
    fn half_integers_have_their_gammas() {
        // gamma(5/2) = 3 sqrt(pi) / 4, gamma(4) = 6
        let expected = (3.0 * std::f64::consts::PI.sqrt() / 4.0).ln();
        assert!((log_gamma_of_half(5) - expected).abs() < 1e-15);
        assert!((log_gamma_of_half(8) - 6.0_f64.ln()).abs() < 1e-15);
        assert_eq!(log_gamma_of_half(2), 0.0);
    }
}
