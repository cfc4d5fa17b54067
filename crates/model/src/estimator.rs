//! The contracts that models of tables of numbers are composed from.

use coracle_tensor::{DType, Frame, Rows, SparseRows, Table, Tensor};

use crate::columns::{self, ColumnKind, ColumnSpec};
use crate::{RunError, RunErrorKind};

/// What an estimator can be asked for, named as in scikit-learn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// Labels of a classifier, values of a regressor.
    Predict,
    /// The probability of each class.
    PredictProba,
    /// The natural logarithm of the probability of each class.
    PredictLogProba,
    /// Raw scores: one per row for two classes, else one per class.
    DecisionFunction,
    /// The transformed table.
    Transform,
    /// How normal each row is: higher is more normal.
    ScoreSamples,
    /// The standard deviation of each prediction, as the model sees it: what Python gives with `return_std=True`.
    PredictStd,
    /// The distances of the nearest training rows.
    NeighborDistances,
    /// The numbers of the nearest training rows.
    NeighborIndices,
}

impl Method {
    /// Every method, in the order in which a signature lists them.
    pub const ALL: [Self; 9] = [
        Self::Predict,
        Self::PredictProba,
        Self::PredictLogProba,
        Self::DecisionFunction,
        Self::Transform,
        Self::ScoreSamples,
        Self::PredictStd,
        Self::NeighborDistances,
        Self::NeighborIndices,
    ];

    /// Returns the name in Python and on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Predict => "predict",
            Self::PredictStd => "predict_std",
            Self::PredictProba => "predict_proba",
            Self::PredictLogProba => "predict_log_proba",
            Self::DecisionFunction => "decision_function",
            Self::Transform => "transform",
            Self::ScoreSamples => "score_samples",
            Self::NeighborDistances => "kneighbors_distances",
            Self::NeighborIndices => "kneighbors_indices",
        }
    }
}

/// A value of a column.
#[derive(Clone, Debug, PartialEq)]
pub enum KnownValue {
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
    /// A date, or a date and time, as ISO 8601 writes it.
    Date(String),
}

/// How many values a method gives per row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// One value; the result's shape is `[rows]`.
    Scalar,
    /// So many values; the result's shape is `[rows, n]`.
    Columns(usize),
    /// So many values for each of several outputs; the result's shape is `[rows, outputs, n]`.
    Outputs(usize, usize),
}

/// A method an estimator has, and what it gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MethodSpec {
    /// The method.
    pub method: Method,
    /// The datatype of its result.
    pub dtype: DType,
    /// The width of its result.
    pub width: Width,
}

/// A fitted estimator over tables: a classifier, a regressor, a transformer, a pipeline.
///
/// Most take numbers only and read them row by row ([`Estimator::run`]). Those that take texts too say so in
/// [`Estimator::columns`] and are run by [`Estimator::run_table`]; for the others that converts to numbers.
pub trait Estimator: Send + Sync + std::fmt::Debug {
    /// Returns the number of columns of the table it takes.
    fn n_features(&self) -> usize;

    /// Returns which numbers it takes; a table that breaks this is refused by [`Estimator::run`].
    fn accepts(&self) -> Accepts;

    /// Returns the methods it has, the default one first.
    fn methods(&self) -> &[MethodSpec];

    /// Returns the names of a classifier's classes, in the order of the columns of `predict_proba`.
    fn class_names(&self) -> Option<Vec<String>> {
        None
    }

    /// Returns a value that it knows for one of its columns, where it knows only some: for examples of requests.
    fn known_value(&self, column: usize) -> Option<KnownValue> {
        let _ = column;
        None
    }

    /// Runs `method` on each row; the result has the shape and datatype of its [`MethodSpec`].
    ///
    /// # Errors
    /// Kinds `ShapeMismatch`, `MissingValue`, `ValueOutOfRange` where `rows` is at fault; `Internal` if the
    /// estimator does not have the method.
    fn run(&self, method: Method, rows: Rows<'_>) -> Result<Tensor, RunError>;

    /// Returns what each column of its table holds; `None` where all hold numbers, and [`Estimator::accepts`] says which.
    fn columns(&self) -> Option<&[ColumnSpec]> {
        None
    }

    /// Returns what each column of the transformed table holds; `None` where all hold numbers.
    fn transformed(&self) -> Option<&[ColumnKind]> {
        None
    }

    /// Runs `method` on each row of a table in any layout, as [`Estimator::run`] does.
    ///
    /// # Errors
    /// As [`Estimator::run`]; kind `DTypeMismatch` for texts where numbers belong.
    fn run_table(&self, method: Method, table: &Table<'_>) -> Result<Tensor, RunError> {
        columns::run_on_matrix(table, |rows| self.run(method, rows))
    }

    /// Transforms a table for the estimator after this one: what [`Method::Transform`] gives, in the layout that costs
    /// least.
    ///
    /// # Errors
    /// As [`Estimator::run_table`].
    fn transform_table(&self, table: &Table<'_>) -> Result<Frame, RunError> {
        columns::frame_of(self.run_table(Method::Transform, table)?)
    }

    /// Returns the memory held, in bytes.
    fn memory_bytes(&self) -> usize;
}

/// A function from a row of numbers to raw scores: the kernel under a classifier or regressor.
pub trait Scorer: Send + Sync + std::fmt::Debug {
    /// Returns the number of columns it reads.
    fn n_features(&self) -> usize;

    /// Returns the number of scores per row.
    fn n_scores(&self) -> usize;

    /// Returns which numbers it takes; the caller has checked them.
    fn accepts(&self) -> Accepts;

    /// Writes the scores of each row to `scores`, which is `(rows, n_scores)`, row-major.
    ///
    /// # Panics
    /// If `rows` or `scores` has another size than `n_features` and `n_scores` demand.
    fn score(&self, rows: Rows<'_>, scores: &mut [f64]);

    /// Writes the scores of the rows of a sparse table, as [`Scorer::score`] does.
    ///
    /// # Panics
    /// As [`Scorer::score`].
    fn score_sparse(&self, rows: &SparseRows, scores: &mut [f64]) {
        let mut dense = Vec::new();
        for (row, scores) in scores.chunks_exact_mut(self.n_scores()).enumerate() {
            dense.clear();
            rows.densify(row, row.saturating_add(1), &mut dense);
            if let Some(rows) = Rows::try_new(&dense, self.n_features()) {
                self.score(rows, scores);
            }
        }
    }

    /// Returns the memory held, in bytes.
    fn memory_bytes(&self) -> usize;
}

/// Which numbers an estimator takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Accepts {
    /// Whether NaN is accepted, as a missing value.
    pub missing: bool,
    /// The largest magnitude accepted, such as `f64::MAX` (finite), `f32::MAX` rounded (trees compare
    /// in single precision) or infinity (anything).
    pub magnitude_max: f64,
}

impl Accepts {
    /// Takes finite numbers only.
    pub const FINITE: Self = Self {
        missing: false,
        magnitude_max: f64::MAX,
    };
    /// Takes finite numbers and NaN.
    pub const FINITE_OR_MISSING: Self = Self {
        missing: true,
        magnitude_max: f64::MAX,
    };
    /// Takes any number.
    pub const ANY: Self = Self {
        missing: true,
        magnitude_max: f64::INFINITY,
    };

    /// Checks every value of `rows`.
    ///
    /// # Errors
    /// Kind `MissingValue` or `ValueOutOfRange`, naming the first row and column at fault (0-based).
    pub fn check(self, rows: Rows<'_>) -> Result<(), RunError> {
        // NaN fails the comparison too, so one test per value covers both rules on the common path.
        let is_plain = |value: &f64| value.abs() <= self.magnitude_max;
        let mut search = rows.values();
        let mut offset = 0;
        while let Some(at) = search.iter().position(|value| !is_plain(value)) {
            offset += at;
            if let Some((kind, what)) = self.complaint(search[at]) {
                let (row, column) = (offset / rows.n_columns(), offset % rows.n_columns());
                return Err(RunError::new(
                    kind,
                    format!("row {row}, column {column}: {what}"),
                ));
            }
            search = &search[at + 1..];
            offset += 1;
        }
        Ok(())
    }
}

impl Accepts {
    /// Checks every value of a sparse table.
    ///
    /// # Errors
    /// As [`Accepts::check`].
    pub fn check_sparse(self, rows: &SparseRows) -> Result<(), RunError> {
        for (row, (columns, values)) in rows.iter().enumerate() {
            for (column, value) in columns.iter().zip(values) {
                if value.abs() <= self.magnitude_max {
                    continue;
                }
                if let Some((kind, what)) = self.complaint(*value) {
                    return Err(RunError::new(
                        kind,
                        format!("row {row}, column {column}: {what}"),
                    ));
                }
            }
        }
        Ok(())
    }

    /// Returns what is wrong with a value, if anything is.
    #[must_use]
    pub fn complaint(self, value: f64) -> Option<(RunErrorKind, String)> {
        if value.is_nan() {
            let what = "missing value (null or NaN); this model takes numbers only";
            return (!self.missing).then(|| (RunErrorKind::MissingValue, what.to_owned()));
        }
        (value.abs() > self.magnitude_max).then(|| {
            let what = format!(
                "{value:e} is too large for this model (magnitude up to {:e})",
                self.magnitude_max
            );
            (RunErrorKind::ValueOutOfRange, what)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_name_the_first_value_at_fault() {
        let nan = f64::NAN;
        let inf = f64::INFINITY;
        let cases: [(Accepts, [f64; 4], Option<(RunErrorKind, &str)>); 7] = [
            (Accepts::FINITE, [1.0, 2.0, 3.0, -4.0], None),
            (
                Accepts::FINITE,
                [1.0, 2.0, nan, 4.0],
                Some((RunErrorKind::MissingValue, "row 1, column 0:")),
            ),
            (
                Accepts::FINITE,
                [1.0, -inf, 3.0, 4.0],
                Some((RunErrorKind::ValueOutOfRange, "row 0, column 1: -inf")),
            ),
            (Accepts::FINITE_OR_MISSING, [nan, nan, 3.0, nan], None),
            (
                Accepts::FINITE_OR_MISSING,
                [nan, 2.0, nan, inf],
                Some((RunErrorKind::ValueOutOfRange, "row 1, column 1: inf")),
            ),
            (Accepts::ANY, [nan, inf, -inf, 0.0], None),
            (
                Accepts {
                    missing: false,
                    magnitude_max: f64::from(f32::MAX),
                },
                [0.0, 0.0, 0.0, 1e39],
                Some((RunErrorKind::ValueOutOfRange, "row 1, column 1: 1e39")),
            ),
        ];
        for (accepts, values, expected) in cases {
            let rows = Rows::try_new(&values, 2).unwrap();
            match (accepts.check(rows), expected) {
                (Ok(()), None) => {}
                (Err(error), Some((kind, start))) => {
                    assert_eq!(error.kind(), kind);
                    assert!(error.to_string().starts_with(start), "{error}");
                }
                (got, expected) => panic!("{values:?}: {got:?}, expected {expected:?}"),
            }
        }
    }
}
