//! Groups of columns, each made one: feature agglomeration.

use coracle_model::{Accepts, Scorer};
use coracle_tensor::Rows;

use crate::kernel::count;
use crate::spec_error::SpecError;

/// What becomes of the values of a group, named as in numpy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as in numpy")]
pub enum Pool {
    Max,
    Median,
    Min,
    Prod,
    Ptp,
    Std,
    Sum,
    Var,
}

impl Pool {
    /// Returns the function of this name in numpy.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "amax" | "max" => Self::Max,
            "median" => Self::Median,
            "amin" | "min" => Self::Min,
            "prod" => Self::Prod,
            "ptp" => Self::Ptp,
            "std" => Self::Std,
            "sum" => Self::Sum,
            "var" => Self::Var,
            _ => return None,
        })
    }

    /// Returns the function's value of finite numbers, of which there is at least one. Their order may change.
    fn of(self, values: &mut [f64]) -> f64 {
        let largest = |values: &[f64]| values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let smallest = |values: &[f64]| values.iter().copied().fold(f64::INFINITY, f64::min);
        match self {
            Self::Max => largest(values),
            Self::Min => smallest(values),
            Self::Ptp => largest(values) - smallest(values),
            Self::Prod => values.iter().product(),
            Self::Sum => values.iter().sum(),
            Self::Median => {
                values.sort_unstable_by(f64::total_cmp);
                let middle = values.len() / 2;
                match values.len() % 2 {
                    0 => f64::midpoint(values[middle - 1], values[middle]),
                    _ => values[middle],
                }
            }
            Self::Var | Self::Std => {
                let n = count(values.len());
                let mean = values.iter().sum::<f64>() / n;
                let squares = values.iter().map(|value| (value - mean) * (value - mean));
                let variance = squares.sum::<f64>() / n;
                match self {
                    Self::Std => variance.sqrt(),
                    _ => variance,
                }
            }
        }
    }
}

/// A function of each group of columns.
#[derive(Debug)]
pub struct Pooled {
    n_features: usize,
    groups: Vec<Vec<usize>>,
    pool: Pool,
}

impl Pooled {
    /// Returns the function of rows of `n_features` columns.
    ///
    /// # Errors
    /// [`SpecError`] if there are no groups, one is empty or a column does not exist.
    pub fn try_new(
        n_features: usize,
        groups: Vec<Vec<usize>>,
        pool: Pool,
    ) -> Result<Self, SpecError> {
        let is_sound = |group: &Vec<usize>| {
            !group.is_empty() && group.iter().all(|&column| column < n_features)
        };
        if groups.is_empty() || !groups.iter().all(is_sound) {
            return Err(SpecError::new(
                "a group has no columns, or one that does not exist",
            ));
        }
        Ok(Self {
            n_features,
            groups,
            pool,
        })
    }
}

impl Scorer for Pooled {
    fn n_features(&self) -> usize {
        self.n_features
    }

    fn n_scores(&self) -> usize {
        self.groups.len()
    }

    fn accepts(&self) -> Accepts {
        Accepts::FINITE
    }

    fn score(&self, rows: Rows<'_>, scores: &mut [f64]) {
        let mut values = Vec::new();
        for (row, scores) in rows.iter().zip(scores.chunks_exact_mut(self.groups.len())) {
            for (group, score) in self.groups.iter().zip(scores) {
                values.clear();
                values.extend(group.iter().map(|&column| row[column]));
                *score = self.pool.of(&mut values);
            }
        }
    }

    fn memory_bytes(&self) -> usize {
        let groups = self
            .groups
            .iter()
            .map(|group| group.capacity() * size_of::<usize>());
        groups.sum::<usize>() + self.groups.capacity() * size_of::<Vec<usize>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_must_have_columns_that_exist() {
        assert!(Pooled::try_new(2, vec![vec![0], vec![1]], Pool::Max).is_ok());
        assert!(Pooled::try_new(2, vec![vec![0], Vec::new()], Pool::Max).is_err());
        assert!(Pooled::try_new(2, vec![vec![2]], Pool::Max).is_err());
        assert!(Pooled::try_new(2, Vec::new(), Pool::Max).is_err());
    }
}
