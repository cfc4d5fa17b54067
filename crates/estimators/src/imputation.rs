//! Missing values filled in from other rows or other columns.

use std::sync::Arc;

use coracle_model::{Accepts, Estimator, Method, RunError, RunErrorKind};
use coracle_tensor::{Rows, Values};

use crate::imputer::MissingMarker;
use crate::spec_error::{SpecError, expect_length};
use crate::table_fn::{TableFn, rows_of};
use crate::{NeighborWeights, kernel::count};

/// Values of the nearest rows of the training data that have them.
#[derive(Clone, Debug)]
pub struct KnnImputerSpec {
    /// What counts as missing.
    pub missing: MissingMarker,
    /// The training data, `(n, features)` row-major; NaN where missing.
    pub data: Vec<f64>,
    /// The number of columns.
    pub n_features: usize,
    /// How many neighbours are averaged.
    pub n_neighbors: usize,
    /// How they count.
    pub weights: NeighborWeights,
    /// Whether columns without any value are kept, as zeros; else they are dropped.
    pub keeps_empty: bool,
    /// The columns for which "was missing" is appended.
    pub indicator_columns: Vec<usize>,
}

/// A transformer that fills in from neighbours.
#[derive(Debug)]
pub struct KnnImputer {
    spec: KnnImputerSpec,
    /// The mean of each column; NaN without values.
    means: Vec<f64>,
}

impl KnnImputer {
    /// Checks the parts and returns the imputer.
    ///
    /// # Errors
    /// [`SpecError`] if lengths do not fit or nothing would be left.
    pub fn try_new(spec: KnnImputerSpec) -> Result<Self, SpecError> {
        let n_features = spec.n_features;
        let n_rows = spec.data.len().checked_div(n_features).unwrap_or_default();
        expect_length("_fit_X", spec.data.len(), n_rows * n_features)?;
        if n_rows == 0 || spec.n_neighbors == 0 {
            return Err(SpecError::new("there are no neighbours"));
        }
        if spec
            .indicator_columns
            .iter()
            .any(|&column| column >= n_features)
        {
            return Err(SpecError::new("an indicator column does not exist"));
        }
        let means: Vec<f64> = (0..n_features)
            .map(|column| {
                let values = spec.data.iter().skip(column).step_by(n_features);
                let known = values.filter(|value| !value.is_nan());
                let (sum, n) = known.fold((0.0, 0.0), |(sum, n), value| (sum + value, n + 1.0));
                sum / n
            })
            .collect();
        let imputer = Self { spec, means };
        if imputer.n_columns() == 0 {
            return Err(SpecError::new("every column would be dropped"));
        }
        Ok(imputer)
    }

    fn is_kept(&self, column: usize) -> bool {
        self.spec.keeps_empty || !self.means[column].is_nan()
    }

    /// scikit-learn's `nan_euclidean_distances`: over the columns both have, scaled up to all.
    fn distance(row: &[f64], other: &[f64]) -> f64 {
        let (mut sum, mut n) = (0.0, 0.0);
        for (a, b) in row.iter().zip(other) {
            if !a.is_nan() && !b.is_nan() {
                sum += (a - b) * (a - b);
                n += 1.0;
            }
        }
        if n == 0.0 {
            return f64::NAN;
        }
        (sum * (count(row.len()) / n)).sqrt()
    }

    fn impute(&self, column: usize, distances: &[f64]) -> f64 {
        let rows = self.spec.data.chunks_exact(self.spec.n_features);
        let donors = rows
            .zip(distances)
            .map(|(row, distance)| (*distance, row[column]));
        let mut donors: Vec<(f64, f64)> = donors.filter(|(_, value)| !value.is_nan()).collect();
        if donors.iter().all(|(distance, _)| distance.is_nan()) {
            return self.means[column];
        }
        // NaN is farther than any number.
        donors.sort_by(|(left, _), (right, _)| left.abs().total_cmp(&right.abs()));
        donors.truncate(self.spec.n_neighbors);
        let has_zero = donors.iter().any(|(distance, _)| *distance == 0.0);
        let (mut sum, mut total) = (0.0, 0.0);
        for (distance, value) in donors {
            let weight = match (self.spec.weights, has_zero) {
                _ if distance.is_nan() => 0.0,
                (NeighborWeights::Uniform, _) => 1.0,
                (NeighborWeights::Distance, true) => f64::from(u8::from(distance == 0.0)),
                (NeighborWeights::Distance, false) => 1.0 / distance,
            };
            sum += weight * value;
            total += weight;
        }
        sum / total
    }
}

impl TableFn for KnnImputer {
    fn n_features(&self) -> usize {
        self.spec.n_features
    }

    fn n_columns(&self) -> usize {
        let kept = (0..self.spec.n_features).filter(|&column| self.is_kept(column));
        kept.count() + self.spec.indicator_columns.len()
    }

    fn accepts(&self) -> Accepts {
        self.spec.missing.accepts()
    }

    fn apply(&self, rows: Rows<'_>) -> Result<Vec<f64>, RunError> {
        let mut output = Vec::with_capacity(rows.n_rows() * self.n_columns());
        let mut marked = vec![0.0; self.spec.n_features];
        let mut distances = Vec::new();
        for row in rows.iter() {
            for (marked, &value) in marked.iter_mut().zip(row) {
                let is_missing = self.spec.missing.matches(value);
                *marked = if is_missing { f64::NAN } else { value };
            }
            distances.clear();
            if marked.iter().any(|value| value.is_nan()) {
                let data = self.spec.data.chunks_exact(self.spec.n_features);
                distances.extend(data.map(|other| Self::distance(&marked, other)));
            }
            for (column, &value) in marked.iter().enumerate() {
                if self.means[column].is_nan() {
                    if self.spec.keeps_empty {
                        output.push(0.0);
                    }
                } else if value.is_nan() {
                    output.push(self.impute(column, &distances));
                } else {
                    output.push(value);
                }
            }
            let indicators = self.spec.indicator_columns.iter();
            output.extend(indicators.map(|&c| f64::from(u8::from(marked[c].is_nan()))));
        }
        Ok(output)
    }

    fn memory_bytes(&self) -> usize {
        self.spec.data.capacity() * size_of::<f64>()
    }
}

/// One regression of a column on others.
#[derive(Debug)]
pub struct ImputationStep {
    /// The column that is filled in.
    pub column: usize,
    /// The columns it is predicted from.
    pub from: Vec<usize>,
    /// The regressor.
    pub estimator: Arc<dyn Estimator>,
}

/// What an iterative imputer learnt.
#[derive(Debug)]
pub struct IterativeImputerSpec {
    /// What counts as missing.
    pub missing: MissingMarker,
    /// The first guess; what it drops is dropped.
    pub initial: Arc<dyn TableFn>,
    /// The columns of the table that the first guess keeps, in order.
    pub kept: Vec<usize>,
    /// The regressions, in order.
    pub steps: Vec<ImputationStep>,
    /// The least and the largest value of each kept column.
    pub bounds: Vec<(f64, f64)>,
    /// The columns for which "was missing" is appended.
    pub indicator_columns: Vec<usize>,
}

/// A transformer that predicts each column from the others, in rounds.
#[derive(Debug)]
pub struct IterativeImputer {
    spec: IterativeImputerSpec,
}

impl IterativeImputer {
    /// Checks the parts and returns the imputer.
    ///
    /// # Errors
    /// [`SpecError`] if columns or lengths do not fit.
    pub fn try_new(spec: IterativeImputerSpec) -> Result<Self, SpecError> {
        let n_features = spec.initial.n_features();
        let n_kept = spec.kept.len();
        expect_length("the first guess", spec.initial.n_columns(), n_kept)?;
        expect_length("min_value", spec.bounds.len(), n_kept)?;
        let is_column = |column: &usize| *column < n_features;
        if n_kept == 0
            || !spec
                .kept
                .iter()
                .chain(&spec.indicator_columns)
                .all(is_column)
        {
            return Err(SpecError::new("a column does not exist"));
        }
        for step in &spec.steps {
            let is_kept = |column: &usize| *column < n_kept;
            if !is_kept(&step.column) || step.from.is_empty() || !step.from.iter().all(is_kept) {
                return Err(SpecError::new("a step's column does not exist"));
            }
            expect_length(
                "a step's columns",
                step.from.len(),
                step.estimator.n_features(),
            )?;
        }
        if spec
            .bounds
            .iter()
            .any(|(low, high)| !matches!(low.partial_cmp(high), Some(o) if o.is_le()))
        {
            return Err(SpecError::new("a least value is above the largest"));
        }
        Ok(Self { spec })
    }

    /// Fills in one column for the rows that lack it.
    fn step(
        &self,
        step: &ImputationStep,
        is_missing: &[bool],
        filled: &mut [f64],
    ) -> Result<(), RunError> {
        let n_kept = self.spec.kept.len();
        let lacking: Vec<usize> = is_missing
            .chunks_exact(n_kept)
            .enumerate()
            .filter_map(|(row, missing)| missing[step.column].then_some(row))
            .collect();
        if lacking.is_empty() {
            return Ok(());
        }
        let mut seen = Vec::with_capacity(lacking.len() * step.from.len());
        for &row in &lacking {
            let row = &filled[row * n_kept..(row + 1) * n_kept];
            seen.extend(step.from.iter().map(|&column| row[column]));
        }
        let predicted = step
            .estimator
            .run(Method::Predict, rows_of(&seen, step.from.len())?)?;
        let Values::F64(predicted) = predicted.values() else {
            let message = "a part gave no numbers";
            return Err(RunError::new(RunErrorKind::Internal, message));
        };
        let (low, high) = self.spec.bounds[step.column];
        for (&row, value) in lacking.iter().zip(predicted) {
            filled[row * n_kept + step.column] = value.clamp(low, high);
        }
        Ok(())
    }
}

impl TableFn for IterativeImputer {
    fn n_features(&self) -> usize {
        self.spec.initial.n_features()
    }

    fn n_columns(&self) -> usize {
        self.spec.kept.len() + self.spec.indicator_columns.len()
    }

    fn accepts(&self) -> Accepts {
        self.spec.missing.accepts()
    }

    fn apply(&self, rows: Rows<'_>) -> Result<Vec<f64>, RunError> {
        let mut filled = self.spec.initial.apply(rows)?;
        let marker = self.spec.missing;
        let is_missing: Vec<bool> = rows
            .iter()
            .flat_map(|row| self.spec.kept.iter().map(move |&c| marker.matches(row[c])))
            .collect();
        // A table without any value keeps the first guess, as in scikit-learn.
        if !is_missing.iter().all(|&missing| missing) {
            for step in &self.spec.steps {
                self.step(step, &is_missing, &mut filled)?;
            }
        }
        if self.spec.indicator_columns.is_empty() {
            return Ok(filled);
        }
        let mut output = Vec::with_capacity(rows.n_rows() * self.n_columns());
        for (row, filled) in rows.iter().zip(filled.chunks_exact(self.spec.kept.len())) {
            output.extend_from_slice(filled);
            let indicators = self.spec.indicator_columns.iter();
            output.extend(indicators.map(|&c| f64::from(u8::from(marker.matches(row[c])))));
        }
        Ok(output)
    }

    fn memory_bytes(&self) -> usize {
        let steps = self.spec.steps.iter();
        steps.map(|step| step.estimator.memory_bytes()).sum()
    }
}

/// Which values are missing.
#[derive(Debug)]
pub struct MissingIndicator {
    missing: MissingMarker,
    n_features: usize,
    columns: Vec<usize>,
    /// Whether a missing value in another column is refused.
    refuses_new: bool,
}

impl MissingIndicator {
    /// Returns the indicator of `columns`.
    ///
    /// # Errors
    /// [`SpecError`] if there are none, or one does not exist.
    pub fn try_new(
        missing: MissingMarker,
        n_features: usize,
        columns: Vec<usize>,
        refuses_new: bool,
    ) -> Result<Self, SpecError> {
        if columns.is_empty() || columns.iter().any(|&column| column >= n_features) {
            return Err(SpecError::new("an indicator column does not exist"));
        }
        Ok(Self {
            missing,
            n_features,
            columns,
            refuses_new,
        })
    }
}

impl TableFn for MissingIndicator {
    fn n_features(&self) -> usize {
        self.n_features
    }

    fn n_columns(&self) -> usize {
        self.columns.len()
    }

    fn accepts(&self) -> Accepts {
        self.missing.accepts()
    }

    fn apply(&self, rows: Rows<'_>) -> Result<Vec<f64>, RunError> {
        let mut output = Vec::with_capacity(rows.n_rows() * self.columns.len());
        for (index, row) in rows.iter().enumerate() {
            let is_missing = |column: usize| self.missing.matches(row[column]);
            let mut others = (0..row.len()).filter(|column| !self.columns.contains(column));
            if self.refuses_new
                && let Some(column) = others.find(|&column| is_missing(column))
            {
                let message = format!(
                    "row {index}, column {column}: missing, which did not occur in training"
                );
                return Err(RunError::new(RunErrorKind::MissingValue, message));
            }
            let flags = self
                .columns
                .iter()
                .map(|&c| f64::from(u8::from(is_missing(c))));
            output.extend(flags);
        }
        Ok(output)
    }

    fn memory_bytes(&self) -> usize {
        self.columns.capacity() * size_of::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> KnnImputerSpec {
        KnnImputerSpec {
            missing: MissingMarker::Nan,
            data: vec![0.0, 1.0, 1.0, 3.0, 9.0, f64::NAN],
            n_features: 2,
            n_neighbors: 1,
            weights: NeighborWeights::Uniform,
            keeps_empty: false,
            indicator_columns: vec![1],
        }
    }

    #[test]
    fn the_nearest_row_that_has_a_value_gives_it() {
        let imputer = KnnImputer::try_new(spec()).unwrap();
        let table = [8.0, f64::NAN, f64::NAN, f64::NAN];
        let filled = imputer.apply(Rows::try_new(&table, 2).unwrap()).unwrap();
        assert_eq!(filled, [8.0, 3.0, 1.0, 10.0 / 3.0, 2.0, 1.0]);
        let broken = KnnImputerSpec {
            indicator_columns: vec![2],
            ..spec()
        };
        assert!(KnnImputer::try_new(broken).is_err());
    }

    #[test]
    fn a_new_kind_of_missing_value_is_refused() {
        let marker = MissingMarker::Number(-1.0);
        let indicator = MissingIndicator::try_new(marker, 2, vec![0], true).unwrap();
        let apply = |table: [f64; 2]| indicator.apply(Rows::try_new(&table, 2).unwrap());
        assert_eq!(apply([-1.0, 0.0]).unwrap(), [1.0]);
        assert!(apply([-1.0, -1.0]).is_err());
    }
}
