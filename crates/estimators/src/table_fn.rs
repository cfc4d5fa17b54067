//! Functions from tables to tables: what the methods of composed estimators are made of.
//!
//! Every [`Scorer`] is one. The others here join functions and whole estimators; these can fail, since an
//! estimator within may refuse a row that its neighbours take.

use std::fmt::Debug;
use std::sync::Arc;

use coracle_model::{
    Accepts, ColumnKind, ColumnSpec, Estimator, Method, MethodSpec, RunError, RunErrorKind, Scorer,
    Width, run_on_matrix,
};
use coracle_tensor::{Rows, Table, Tensor, Values};

use crate::spec_error::SpecError;
use crate::{Labels, Link, table};

/// A function from a table of numbers to a table of as many rows.
pub trait TableFn: Send + Sync + Debug {
    /// Returns the number of columns it reads.
    fn n_features(&self) -> usize;

    /// Returns the number of columns it gives.
    fn n_columns(&self) -> usize;

    /// Returns which numbers it takes; the caller has checked them.
    fn accepts(&self) -> Accepts;

    /// Returns the result, row by row.
    ///
    /// # Errors
    /// Those of an estimator within.
    fn apply(&self, rows: Rows<'_>) -> Result<Vec<f64>, RunError>;

    /// Returns what each column holds that it reads; `None` where all hold numbers. See [`Estimator::columns`].
    fn columns(&self) -> Option<&[ColumnSpec]> {
        None
    }

    /// Returns the result for a table in any layout, row by row.
    ///
    /// # Errors
    /// As [`TableFn::apply`]; kind `DTypeMismatch` for texts where numbers belong.
    fn apply_table(&self, table: &Table<'_>) -> Result<Vec<f64>, RunError> {
        on_matrix(table, self.n_columns(), |rows| self.apply(rows))
    }

    /// Returns the memory held, in bytes.
    fn memory_bytes(&self) -> usize;
}

/// Applies a function of matrices that gives `n_columns` per row to any table of numbers.
fn on_matrix(
    table: &Table<'_>,
    n_columns: usize,
    apply: impl Fn(Rows<'_>) -> Result<Vec<f64>, RunError>,
) -> Result<Vec<f64>, RunError> {
    if let Table::Matrix(rows) = table {
        return apply(*rows);
    }
    let tensor = run_on_matrix(table, |rows| {
        table::matrix(apply(rows)?, rows.n_rows(), n_columns)
    })?;
    match tensor.into_parts().1 {
        Values::F64(values) => Ok(values.into_vec()),
        _ => unreachable!("a matrix is of doubles"),
    }
}

impl<S: Scorer> TableFn for S {
    fn n_features(&self) -> usize {
        Scorer::n_features(self)
    }

    fn n_columns(&self) -> usize {
        self.n_scores()
    }

    fn accepts(&self) -> Accepts {
        Scorer::accepts(self)
    }

    fn apply(&self, rows: Rows<'_>) -> Result<Vec<f64>, RunError> {
        let mut scores = vec![0.0; rows.n_rows() * self.n_scores()];
        self.score(rows, &mut scores);
        Ok(scores)
    }

    fn apply_table(&self, table: &Table<'_>) -> Result<Vec<f64>, RunError> {
        let Table::Sparse(rows) = table else {
            return on_matrix(table, self.n_scores(), |rows| self.apply(rows));
        };
        let mut scores = vec![0.0; rows.n_rows() * self.n_scores()];
        self.score_sparse(rows, &mut scores);
        Ok(scores)
    }

    fn memory_bytes(&self) -> usize {
        Scorer::memory_bytes(self)
    }
}

/// Views `values` as rows of `n_columns`.
pub(crate) fn rows_of(values: &[f64], n_columns: usize) -> Result<Rows<'_>, RunError> {
    Rows::try_new(values, n_columns)
        .ok_or_else(|| RunError::new(RunErrorKind::Internal, "an inner table has ragged rows"))
}

/// The probabilities that follow from scores.
#[derive(Debug)]
pub struct Linked {
    inner: Arc<dyn TableFn>,
    link: Link,
    n_classes: usize,
}

impl Linked {
    /// Returns `link` after `inner`.
    ///
    /// # Errors
    /// [`SpecError`] if the link does not take that many scores to `n_classes`.
    pub fn try_new(
        inner: Arc<dyn TableFn>,
        link: Link,
        n_classes: usize,
    ) -> Result<Self, SpecError> {
        let n_scores = inner.n_columns();
        if n_scores == 0 || !link.fits(n_scores, n_classes) {
            return Err(SpecError::new(format!(
                "{n_scores} scores do not fit {n_classes} classes"
            )));
        }
        Ok(Self {
            inner,
            link,
            n_classes,
        })
    }
}

impl TableFn for Linked {
    fn n_features(&self) -> usize {
        self.inner.n_features()
    }

    fn n_columns(&self) -> usize {
        self.n_classes
    }

    fn accepts(&self) -> Accepts {
        self.inner.accepts()
    }

    fn columns(&self) -> Option<&[ColumnSpec]> {
        self.inner.columns()
    }

    fn apply(&self, rows: Rows<'_>) -> Result<Vec<f64>, RunError> {
        self.apply_table(&Table::Matrix(rows))
    }

    fn apply_table(&self, table: &Table<'_>) -> Result<Vec<f64>, RunError> {
        let scores = self.inner.apply_table(table)?;
        let mut probabilities = vec![0.0; table.n_rows() * self.n_classes];
        let scores = scores.chunks_exact(self.inner.n_columns());
        for (scores, probabilities) in scores.zip(probabilities.chunks_exact_mut(self.n_classes)) {
            self.link.probabilities(scores, probabilities);
        }
        Ok(probabilities)
    }

    fn memory_bytes(&self) -> usize {
        0
    }
}

/// A function of each number alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pointwise {
    /// The natural logarithm.
    Ln,
    /// The natural logarithm; zero counts as the smallest normal number.
    LnOfPositive,
    /// The exponential.
    Exp,
    /// The cosine.
    Cos,
    /// This number is added.
    Add(f64),
    /// Multiplied by this number.
    Times(f64),
    /// The negative of a power of the negative: `-((-x) ^ p)`.
    NegatedPower(f64),
    /// Probability p of the second of two classes becomes (1 - p, p); doubles the columns.
    WithComplement,
    /// The softmax over the columns of each row.
    Softmax,
    /// `-(2 ^ -(x / depth))`: the score of an isolation forest.
    Isolation(f64),
    /// This number where `x` is it but for rounding, else `x`.
    Snapped(f64),
    /// `1 / (1 + exp(slope x + offset))`: Platt's calibration.
    Platt {
        /// The slope.
        slope: f64,
        /// The offset.
        offset: f64,
    },
    /// `x scale + shift`.
    Affine {
        /// The factor.
        scale: f64,
        /// The constant.
        shift: f64,
    },
    /// A numpy function.
    Unary(crate::Unary),
}

/// Numbers as near as this, relatively, are [`Pointwise::Snapped`]: a few units in the last place.
const SNAP: f64 = 4.0 * f64::EPSILON;

/// A pointwise function after another function.
#[derive(Debug)]
pub struct Mapped {
    inner: Arc<dyn TableFn>,
    pointwise: Pointwise,
}

impl Mapped {
    /// Returns `pointwise` after `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn TableFn>, pointwise: Pointwise) -> Self {
        Self { inner, pointwise }
    }
}

impl TableFn for Mapped {
    fn n_features(&self) -> usize {
        self.inner.n_features()
    }

    fn n_columns(&self) -> usize {
        match self.pointwise {
            Pointwise::WithComplement => 2 * self.inner.n_columns(),
            _ => self.inner.n_columns(),
        }
    }

    fn accepts(&self) -> Accepts {
        self.inner.accepts()
    }

    fn columns(&self) -> Option<&[ColumnSpec]> {
        self.inner.columns()
    }

    fn apply(&self, rows: Rows<'_>) -> Result<Vec<f64>, RunError> {
        self.apply_table(&Table::Matrix(rows))
    }

    fn apply_table(&self, table: &Table<'_>) -> Result<Vec<f64>, RunError> {
        let mut values = self.inner.apply_table(table)?;
        let apply = |values: &mut [f64], function: &dyn Fn(f64) -> f64| {
            values
                .iter_mut()
                .for_each(|value| *value = function(*value));
        };
        match self.pointwise {
            Pointwise::Ln => apply(&mut values, &f64::ln),
            Pointwise::LnOfPositive => apply(&mut values, &|value| match value {
                0.0 => f64::MIN_POSITIVE.ln(),
                value => value.ln(),
            }),
            Pointwise::Exp => apply(&mut values, &f64::exp),
            Pointwise::Cos => apply(&mut values, &f64::cos),
            Pointwise::Add(number) => apply(&mut values, &|value| value + number),
            Pointwise::NegatedPower(power) => apply(&mut values, &|value| -(-value).powf(power)),
            Pointwise::Times(number) => apply(&mut values, &|value| value * number),
            Pointwise::Snapped(to) => apply(&mut values, &|value| match (value - to).abs()
                <= SNAP * to.abs()
            {
                true => to,
                false => value,
            }),
            Pointwise::Isolation(depth) => apply(&mut values, &|value| {
                let share = if depth == 0.0 { 1.0 } else { value / depth };
                -(-share).exp2()
            }),
            Pointwise::Platt { slope, offset } => {
                apply(&mut values, &|value| {
                    crate::link::sigmoid(-(slope * value + offset))
                });
            }
            Pointwise::Affine { scale, shift } => apply(&mut values, &|x| x * scale + shift),
            Pointwise::Unary(function) => apply(&mut values, &|value| function.of(value)),
            Pointwise::WithComplement => {
                values = values.into_iter().flat_map(|p| [1.0 - p, p]).collect();
            }
            Pointwise::Softmax => {
                for row in values.chunks_exact_mut(self.inner.n_columns().max(1)) {
                    crate::link::softmax(row);
                }
            }
        }
        Ok(values)
    }

    fn memory_bytes(&self) -> usize {
        0
    }
}

/// Some columns of a function's result, or of the table itself.
#[derive(Debug)]
pub struct Selected {
    n_features: usize,
    columns: Vec<usize>,
    accepts: Accepts,
}

impl Selected {
    /// Returns the selection of `columns`, in this order, from tables of `n_features` columns.
    ///
    /// # Errors
    /// [`SpecError`] if there are none, or one does not exist.
    pub fn try_new(
        n_features: usize,
        columns: Vec<usize>,
        accepts: Accepts,
    ) -> Result<Self, SpecError> {
        if columns.is_empty() || columns.iter().any(|&column| column >= n_features) {
            return Err(SpecError::new(format!(
                "selects columns {columns:?} of {n_features}"
            )));
        }
        Ok(Self {
            n_features,
            columns,
            accepts,
        })
    }
}

impl Scorer for Selected {
    fn n_features(&self) -> usize {
        self.n_features
    }

    fn n_scores(&self) -> usize {
        self.columns.len()
    }

    fn accepts(&self) -> Accepts {
        self.accepts
    }

    fn score(&self, rows: Rows<'_>, scores: &mut [f64]) {
        for (row, scores) in rows.iter().zip(scores.chunks_exact_mut(self.columns.len())) {
            for (score, &column) in scores.iter_mut().zip(&self.columns) {
                *score = row[column];
            }
        }
    }

    fn memory_bytes(&self) -> usize {
        self.columns.capacity() * size_of::<usize>()
    }
}

/// Refuses a function that reads texts, where it would be given numbers.
pub(crate) fn refuse_texts(function: &Arc<dyn TableFn>) -> Result<(), SpecError> {
    match function.columns() {
        Some(_) => Err(SpecError::new("a part that takes texts is given numbers")),
        None => Ok(()),
    }
}

/// One function after another.
#[derive(Debug)]
pub struct Composed {
    first: Arc<dyn TableFn>,
    second: Arc<dyn TableFn>,
}

impl Composed {
    /// Returns `second` after `first`.
    ///
    /// # Errors
    /// [`SpecError`] if the second takes another number of columns than the first gives.
    pub fn try_new(first: Arc<dyn TableFn>, second: Arc<dyn TableFn>) -> Result<Self, SpecError> {
        if first.n_columns() != second.n_features() {
            return Err(SpecError::new(format!(
                "{} columns are given where {} are taken",
                first.n_columns(),
                second.n_features()
            )));
        }
        refuse_texts(&second)?;
        Ok(Self { first, second })
    }
}

impl TableFn for Composed {
    fn n_features(&self) -> usize {
        self.first.n_features()
    }

    fn n_columns(&self) -> usize {
        self.second.n_columns()
    }

    fn accepts(&self) -> Accepts {
        self.first.accepts()
    }

    fn columns(&self) -> Option<&[ColumnSpec]> {
        self.first.columns()
    }

    fn apply(&self, rows: Rows<'_>) -> Result<Vec<f64>, RunError> {
        self.apply_table(&Table::Matrix(rows))
    }

    fn apply_table(&self, table: &Table<'_>) -> Result<Vec<f64>, RunError> {
        let between = self.first.apply_table(table)?;
        let between = rows_of(&between, self.first.n_columns())?;
        self.second.accepts().check(between)?;
        self.second.apply(between)
    }

    fn memory_bytes(&self) -> usize {
        self.first.memory_bytes() + self.second.memory_bytes()
    }
}

/// A method of an estimator whose results are numbers.
#[derive(Debug)]
pub struct MethodOf {
    estimator: Arc<dyn Estimator>,
    spec: MethodSpec,
}

impl MethodOf {
    /// Returns the method, if the estimator has it.
    #[must_use]
    pub fn new(estimator: Arc<dyn Estimator>, method: Method) -> Option<Self> {
        let mut specs = estimator.methods().iter();
        let spec = *specs.find(|spec| spec.method == method)?;
        // Tables of several outputs are no table.
        if matches!(spec.width, Width::Outputs(..)) {
            return None;
        }
        Some(Self { estimator, spec })
    }
}

fn not_numbers(method: Method) -> RunError {
    let message = format!("{} of a part gave no numbers", method.as_str());
    RunError::new(RunErrorKind::Internal, message)
}

impl TableFn for MethodOf {
    fn n_features(&self) -> usize {
        self.estimator.n_features()
    }

    fn n_columns(&self) -> usize {
        match self.spec.width {
            Width::Scalar => 1,
            Width::Columns(n_columns) => n_columns,
            Width::Outputs(n_outputs, width) => n_outputs * width,
        }
    }

    fn accepts(&self) -> Accepts {
        self.estimator.accepts()
    }

    fn columns(&self) -> Option<&[ColumnSpec]> {
        self.estimator.columns()
    }

    fn apply(&self, rows: Rows<'_>) -> Result<Vec<f64>, RunError> {
        self.apply_table(&Table::Matrix(rows))
    }

    fn apply_table(&self, table: &Table<'_>) -> Result<Vec<f64>, RunError> {
        let result = self.estimator.run_table(self.spec.method, table)?;
        let (_, values) = result.into_parts();
        match values {
            Values::F64(values) => Ok(values.into_vec()),
            values => values
                .to_f64s()
                .map(std::borrow::Cow::into_owned)
                .ok_or_else(|| not_numbers(self.spec.method)),
        }
    }

    fn memory_bytes(&self) -> usize {
        self.estimator.memory_bytes()
    }
}

/// The predictions of a classifier as indices into the classes of another.
#[derive(Debug)]
pub struct ClassIndexOf {
    estimator: Arc<dyn Estimator>,
    labels: Labels,
}

impl ClassIndexOf {
    /// Returns the index into `labels` of what `estimator` predicts.
    #[must_use]
    pub fn new(estimator: Arc<dyn Estimator>, labels: Labels) -> Self {
        Self { estimator, labels }
    }
}

impl TableFn for ClassIndexOf {
    fn n_features(&self) -> usize {
        self.estimator.n_features()
    }

    fn n_columns(&self) -> usize {
        1
    }

    fn accepts(&self) -> Accepts {
        self.estimator.accepts()
    }

    fn columns(&self) -> Option<&[ColumnSpec]> {
        self.estimator.columns()
    }

    fn apply(&self, rows: Rows<'_>) -> Result<Vec<f64>, RunError> {
        self.apply_table(&Table::Matrix(rows))
    }

    fn apply_table(&self, table: &Table<'_>) -> Result<Vec<f64>, RunError> {
        let predicted: Tensor = self.estimator.run_table(Method::Predict, table)?;
        let indices = self.labels.indices_of(predicted.values());
        indices.ok_or_else(|| {
            RunError::new(
                RunErrorKind::Internal,
                "a part predicted a class that the whole does not have",
            )
        })
    }

    fn memory_bytes(&self) -> usize {
        self.estimator.memory_bytes()
    }
}

/// The results of several functions of the same table, side by side.
#[derive(Debug)]
pub struct SideBySide {
    parts: Vec<Arc<dyn TableFn>>,
    n_columns: usize,
    accepts: Accepts,
    columns: Option<Vec<ColumnSpec>>,
}

impl SideBySide {
    /// Returns the results of `parts` side by side.
    ///
    /// # Errors
    /// [`SpecError`] if there are none, or they take different numbers or kinds of columns.
    pub fn try_new(parts: Vec<Arc<dyn TableFn>>) -> Result<Self, SpecError> {
        let Some(first) = parts.first() else {
            return Err(SpecError::new("there are no parts"));
        };
        let n_features = first.n_features();
        if let Some(other) = parts.iter().find(|part| part.n_features() != n_features) {
            return Err(SpecError::new(format!(
                "one part takes {n_features} columns, another {}",
                other.n_features()
            )));
        }
        Ok(Self {
            n_columns: parts.iter().map(|part| part.n_columns()).sum(),
            accepts: common_accepts(parts.iter().map(|part| part.accepts())),
            columns: common_columns(parts.iter().map(|part| part.columns()))?,
            parts,
        })
    }
}

/// Returns what all of several estimators take.
pub(crate) fn common_accepts(all: impl Iterator<Item = Accepts>) -> Accepts {
    all.fold(Accepts::ANY, |common, accepts| Accepts {
        missing: common.missing && accepts.missing,
        magnitude_max: common.magnitude_max.min(accepts.magnitude_max),
    })
}

/// Returns what the columns hold that all of several functions read; `None` where all hold numbers.
///
/// # Errors
/// [`SpecError`] where one reads texts and another numbers.
pub(crate) fn common_columns<'c>(
    mut all: impl Iterator<Item = Option<&'c [ColumnSpec]>>,
) -> Result<Option<Vec<ColumnSpec>>, SpecError> {
    let mut common = all.next().flatten().map(<[_]>::to_vec);
    for columns in all {
        let (Some(common), Some(columns)) = (&mut common, columns) else {
            if common.is_some() || columns.is_some() {
                return Err(SpecError::new("one part takes texts, another numbers only"));
            }
            continue;
        };
        for (common, column) in common.iter_mut().zip(columns) {
            common.accepts_missing &= column.accepts_missing;
            match (common.kind, column.kind) {
                (ColumnKind::Ignored, kind) => common.kind = kind,
                (_, ColumnKind::Ignored) => {}
                (a, b) if a == b => {}
                _ => {
                    return Err(SpecError::new(
                        "parts read a column as numbers and as texts",
                    ));
                }
            }
        }
    }
    Ok(common)
}

impl TableFn for SideBySide {
    fn n_features(&self) -> usize {
        self.parts.first().map_or(0, |part| part.n_features())
    }

    fn n_columns(&self) -> usize {
        self.n_columns
    }

    fn accepts(&self) -> Accepts {
        self.accepts
    }

    fn columns(&self) -> Option<&[ColumnSpec]> {
        self.columns.as_deref()
    }

    fn apply(&self, rows: Rows<'_>) -> Result<Vec<f64>, RunError> {
        self.apply_table(&Table::Matrix(rows))
    }

    fn apply_table(&self, table: &Table<'_>) -> Result<Vec<f64>, RunError> {
        let mut joined = vec![0.0; table.n_rows() * self.n_columns];
        let mut start = 0;
        for part in &self.parts {
            let width = part.n_columns();
            let values = part.apply_table(table)?;
            if width == 0 {
                continue;
            }
            for (target, values) in joined
                .chunks_exact_mut(self.n_columns)
                .zip(values.chunks_exact(width))
            {
                target[start..start + width].copy_from_slice(values);
            }
            start += width;
        }
        Ok(joined)
    }

    fn memory_bytes(&self) -> usize {
        self.parts.iter().map(|part| part.memory_bytes()).sum()
    }
}
