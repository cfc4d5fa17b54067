//! An estimator put together method by method.

use std::sync::Arc;

use coracle_model::{
    Accepts, ColumnSpec, Estimator, KnownValue, Method, MethodSpec, RunError, RunErrorKind, Width,
};
use coracle_tensor::{DType, Rows, Table, Tensor, Values};

use crate::spec_error::SpecError;
use crate::table_fn::{TableFn, common_accepts, common_columns, rows_of};
use crate::{Labels, table};

/// How a class follows from a row of numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Choice {
    /// The number of the first largest column; NaN counts as largest.
    FirstLargest,
    /// One column: the second class if it is above this number.
    Above(f64),
    /// One column: the second class if it is this number or above.
    AtLeast(f64),
    /// One column: it is the number of the class.
    Index,
}

/// What a method answers with.
#[derive(Debug)]
enum Answer {
    Values(Arc<dyn TableFn>),
    /// Whole numbers.
    Integers(Arc<dyn TableFn>),
    /// What is not zero is true.
    Truths(Arc<dyn TableFn>),
    Classes {
        function: Arc<dyn TableFn>,
        labels: Labels,
        choice: Choice,
    },
    /// The function gives the number of the class of each output; the labels of the outputs follow each other.
    ClassTable {
        function: Arc<dyn TableFn>,
        labels: Labels,
        starts: Vec<usize>,
    },
    Delegated {
        before: Option<Arc<dyn TableFn>>,
        estimator: Arc<dyn Estimator>,
    },
    /// The predictions of several estimators side by side.
    Columns(Vec<Arc<dyn Estimator>>),
}

/// A method and how it is computed.
#[derive(Debug)]
pub struct Facet {
    spec: MethodSpec,
    answer: Answer,
}

impl Facet {
    /// Returns a method that answers a table of doubles.
    #[must_use]
    pub fn table(method: Method, function: Arc<dyn TableFn>) -> Self {
        let width = Width::Columns(function.n_columns());
        Self::values(method, function, width)
    }

    /// Returns a method that answers a double per row.
    ///
    /// # Errors
    /// [`SpecError`] if `function` gives more than one column.
    pub fn column(method: Method, function: Arc<dyn TableFn>) -> Result<Self, SpecError> {
        match function.n_columns() {
            1 => Ok(Self::values(method, function, Width::Scalar)),
            n_columns => Err(SpecError::new(format!(
                "{} has {n_columns} columns, expected one",
                method.as_str()
            ))),
        }
    }

    /// Returns a method that answers a table of doubles for each of several outputs.
    ///
    /// # Errors
    /// [`SpecError`] if `function` gives another number of columns than outputs times width.
    pub fn outputs(
        method: Method,
        function: Arc<dyn TableFn>,
        [n_outputs, width]: [usize; 2],
    ) -> Result<Self, SpecError> {
        if n_outputs.checked_mul(width) != Some(function.n_columns()) {
            let n_columns = function.n_columns();
            return Err(SpecError::new(format!(
                "{n_columns} columns for {n_outputs} outputs of {width}"
            )));
        }
        Ok(Self::values(
            method,
            function,
            Width::Outputs(n_outputs, width),
        ))
    }

    /// Returns a method that answers a table of integers; `function` gives whole numbers.
    #[must_use]
    pub fn integers(method: Method, function: Arc<dyn TableFn>) -> Self {
        Self {
            spec: MethodSpec {
                method,
                dtype: DType::I64,
                width: Width::Columns(function.n_columns()),
            },
            answer: Answer::Integers(function),
        }
    }

    /// Returns a method that answers a table of truth values; `function` gives zero for what is false. To an estimator after this one
    /// they are numbers.
    #[must_use]
    pub fn truths(method: Method, function: Arc<dyn TableFn>) -> Self {
        Self {
            spec: MethodSpec {
                method,
                dtype: DType::Bool,
                width: Width::Columns(function.n_columns()),
            },
            answer: Answer::Truths(function),
        }
    }

    /// Returns a method that answers a double per row where there is one column, else a table.
    #[must_use]
    pub fn flat(method: Method, function: Arc<dyn TableFn>) -> Self {
        let width = match function.n_columns() {
            1 => Width::Scalar,
            n_columns => Width::Columns(n_columns),
        };
        Self::values(method, function, width)
    }

    fn values(method: Method, function: Arc<dyn TableFn>, width: Width) -> Self {
        Self {
            spec: MethodSpec {
                method,
                dtype: DType::F64,
                width,
            },
            answer: Answer::Values(function),
        }
    }

    /// Returns `predict` of a classifier or clusterer.
    ///
    /// # Errors
    /// [`SpecError`] if the function's columns do not fit the labels and the choice.
    pub fn classes(
        function: Arc<dyn TableFn>,
        labels: Labels,
        choice: Choice,
    ) -> Result<Self, SpecError> {
        let (n_columns, n_classes) = (function.n_columns(), labels.len());
        let fits = match choice {
            Choice::FirstLargest => n_columns == n_classes,
            Choice::Above(_) | Choice::AtLeast(_) => n_columns == 1 && n_classes == 2,
            Choice::Index => n_columns == 1,
        };
        if !fits || n_classes == 0 {
            return Err(SpecError::new(format!(
                "{n_columns} scores do not fit {n_classes} classes"
            )));
        }
        Ok(Self {
            spec: MethodSpec {
                method: Method::Predict,
                dtype: labels.dtype(),
                width: Width::Scalar,
            },
            answer: Answer::Classes {
                function,
                labels,
                choice,
            },
        })
    }

    /// Returns `predict` of a classifier of several outputs.
    ///
    /// `function` gives the number of the class of each output. One column stays one column.
    ///
    /// # Errors
    /// [`SpecError`] if there is another number of columns than outputs, or their labels differ in datatype.
    pub fn class_table(function: Arc<dyn TableFn>, labels: Vec<Labels>) -> Result<Self, SpecError> {
        let n_outputs = labels.len();
        if function.n_columns() != n_outputs || labels.iter().any(Labels::is_empty) {
            let n_columns = function.n_columns();
            return Err(SpecError::new(format!(
                "{n_columns} columns for {n_outputs} outputs"
            )));
        }
        let mut starts = vec![0];
        for labels in &labels {
            starts.push(starts.last().copied().unwrap_or_default() + labels.len());
        }
        let labels = Labels::joined(labels)
            .ok_or_else(|| SpecError::new("the labels of the outputs differ in datatype"))?;
        Ok(Self {
            spec: MethodSpec {
                method: Method::Predict,
                dtype: labels.dtype(),
                width: Width::Columns(n_outputs),
            },
            answer: Answer::ClassTable {
                function,
                labels,
                starts,
            },
        })
    }

    /// Returns `predict` as the predictions of several estimators side by side.
    ///
    /// # Errors
    /// [`SpecError`] if there are none, one does not predict one value, or their datatypes differ.
    pub fn columns(estimators: Vec<Arc<dyn Estimator>>) -> Result<Self, SpecError> {
        let specs: Vec<Option<MethodSpec>> = estimators
            .iter()
            .map(|estimator| {
                let mut specs = estimator.methods().iter();
                specs.find(|spec| spec.method == Method::Predict).copied()
            })
            .collect();
        let Some(Some(first)) = specs.first().copied() else {
            return Err(SpecError::new("there are no estimators that predict"));
        };
        let is_alike = |spec: &Option<MethodSpec>| {
            spec.is_some_and(|spec| spec.dtype == first.dtype && spec.width == Width::Scalar)
        };
        if !specs.iter().all(is_alike) {
            return Err(SpecError::new("the predictions differ in datatype"));
        }
        Ok(Self {
            spec: MethodSpec {
                width: Width::Columns(estimators.len()),
                ..first
            },
            answer: Answer::Columns(estimators),
        })
    }

    /// Returns all methods of `estimator`, on tables that went through `before`.
    ///
    /// # Errors
    /// [`SpecError`] if the estimator takes another number of columns than `before` gives.
    pub fn delegated(
        before: Option<&Arc<dyn TableFn>>,
        estimator: &Arc<dyn Estimator>,
    ) -> Result<Vec<Self>, SpecError> {
        if let Some(before) = before
            && before.n_columns() != estimator.n_features()
        {
            return Err(SpecError::new(format!(
                "{} columns are given where {} are taken",
                before.n_columns(),
                estimator.n_features()
            )));
        }
        let facets = estimator.methods().iter().map(|&spec| Self {
            spec,
            answer: Answer::Delegated {
                before: before.cloned(),
                estimator: Arc::clone(estimator),
            },
        });
        Ok(facets.collect())
    }

    /// Returns the method.
    #[must_use]
    pub fn method(&self) -> Method {
        self.spec.method
    }

    fn n_features(&self) -> usize {
        match &self.answer {
            Answer::Values(function)
            | Answer::Integers(function)
            | Answer::Truths(function)
            | Answer::Classes { function, .. }
            | Answer::ClassTable { function, .. } => function.n_features(),
            Answer::Columns(estimators) => estimators.first().map_or(0, |e| e.n_features()),
            Answer::Delegated {
                before: Some(before),
                ..
            } => before.n_features(),
            Answer::Delegated { estimator, .. } => estimator.n_features(),
        }
    }

    fn accepts(&self) -> Accepts {
        match &self.answer {
            Answer::Values(function)
            | Answer::Integers(function)
            | Answer::Truths(function)
            | Answer::Classes { function, .. }
            | Answer::ClassTable { function, .. } => function.accepts(),
            Answer::Columns(estimators) => {
                common_accepts(estimators.iter().map(|estimator| estimator.accepts()))
            }
            Answer::Delegated {
                before: Some(before),
                ..
            } => before.accepts(),
            Answer::Delegated { estimator, .. } => estimator.accepts(),
        }
    }

    fn memory_bytes(&self) -> usize {
        match &self.answer {
            Answer::Values(function)
            | Answer::Integers(function)
            | Answer::Truths(function)
            | Answer::Classes { function, .. }
            | Answer::ClassTable { function, .. } => function.memory_bytes(),
            Answer::Columns(estimators) => estimators.iter().map(|e| e.memory_bytes()).sum(),
            Answer::Delegated { estimator, .. } => estimator.memory_bytes(),
        }
    }

    /// Returns what each column holds that it reads; `None` where all hold numbers.
    fn kinds(&self) -> Result<Option<Vec<ColumnSpec>>, SpecError> {
        let columns = match &self.answer {
            Answer::Values(function)
            | Answer::Integers(function)
            | Answer::Truths(function)
            | Answer::Classes { function, .. }
            | Answer::ClassTable { function, .. } => function.columns(),
            Answer::Columns(estimators) => {
                return common_columns(estimators.iter().map(|e| e.columns()));
            }
            Answer::Delegated {
                before: Some(before),
                estimator,
            } => {
                if estimator.columns().is_some() {
                    return Err(SpecError::new("a part that takes texts is given numbers"));
                }
                before.columns()
            }
            Answer::Delegated { estimator, .. } => estimator.columns(),
        };
        Ok(columns.map(<[_]>::to_vec))
    }

    fn run(&self, table: &Table<'_>) -> Result<Tensor, RunError> {
        let n_rows = table.n_rows();
        match &self.answer {
            Answer::Values(function) => {
                let values = function.apply_table(table)?;
                match self.spec.width {
                    Width::Scalar => Ok(table::column(values)),
                    Width::Columns(n_columns) => table::matrix(values, n_rows, n_columns),
                    Width::Outputs(n_outputs, width) => {
                        let shape = vec![n_rows, n_outputs, width];
                        Tensor::try_new(shape, Values::F64(values.into())).map_err(table::internal)
                    }
                }
            }
            Answer::Integers(function) => {
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "whole numbers; the cast saturates"
                )]
                let integers = function.apply_table(table)?.into_iter().map(|x| x as i64);
                let shape = vec![n_rows, function.n_columns()];
                Tensor::try_new(shape, Values::I64(integers.collect())).map_err(table::internal)
            }
            Answer::Truths(function) => {
                let truths = function.apply_table(table)?.into_iter().map(|x| x != 0.0);
                let shape = vec![n_rows, function.n_columns()];
                Tensor::try_new(shape, Values::Bool(truths.collect())).map_err(table::internal)
            }
            Answer::Classes {
                function,
                labels,
                choice,
            } => {
                let values = function.apply_table(table)?;
                let rows = values.chunks_exact(function.n_columns());
                let indices: Vec<usize> = rows
                    .map(|row| choice.of(row).min(labels.len() - 1))
                    .collect();
                Ok(labels.take(&indices))
            }
            Answer::ClassTable {
                function,
                labels,
                starts,
            } => {
                let values = function.apply_table(table)?;
                let outputs = starts.windows(2).cycle();
                let indices: Vec<usize> = values
                    .iter()
                    .zip(outputs)
                    .map(|(value, bounds)| {
                        let class = Choice::Index.of(std::slice::from_ref(value));
                        (bounds[0] + class).min(bounds[1] - 1)
                    })
                    .collect();
                shaped(labels.take(&indices), n_rows, starts.len() - 1)
            }
            Answer::Columns(estimators) => side_by_side(estimators, self.spec.method, table),
            Answer::Delegated { before, estimator } => match before {
                Some(before) => {
                    let between = before.apply_table(table)?;
                    estimator.run(self.spec.method, rows_of(&between, before.n_columns())?)
                }
                None => estimator.run_table(self.spec.method, table),
            },
        }
    }
}

/// Returns the answers of several estimators as the columns of one table.
fn side_by_side(
    estimators: &[Arc<dyn Estimator>],
    method: Method,
    table: &Table<'_>,
) -> Result<Tensor, RunError> {
    let n_rows = table.n_rows();
    let mut columns = Vec::with_capacity(estimators.len());
    for estimator in estimators {
        let predicted = estimator.run_table(method, table)?;
        let (_, values) = predicted.into_parts();
        columns.push(Labels::new(values));
    }
    let by_row = (0..n_rows).flat_map(|row| (0..estimators.len()).map(move |c| c * n_rows + row));
    let joined = Labels::joined(columns)
        .ok_or_else(|| RunError::new(RunErrorKind::Internal, "predictions differ in datatype"))?;
    let indices: Vec<usize> = by_row.collect();
    shaped(joined.take(&indices), n_rows, estimators.len())
}

/// Returns the values of `tensor` as a table.
fn shaped(tensor: Tensor, n_rows: usize, n_columns: usize) -> Result<Tensor, RunError> {
    Tensor::try_new(vec![n_rows, n_columns], tensor.into_parts().1)
        .map_err(|error| RunError::new(RunErrorKind::Internal, error.to_string()))
}

impl Choice {
    fn of(self, row: &[f64]) -> usize {
        match self {
            Self::FirstLargest => first_largest(row),
            Self::Above(threshold) => usize::from(row[0] > threshold),
            Self::AtLeast(threshold) => usize::from(row[0] >= threshold),
            #[expect(
                clippy::as_conversions,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a class index; the cast saturates and the caller limits it"
            )]
            Self::Index => row[0] as usize,
        }
    }
}

/// Returns the index of the first largest value; NaN counts as larger than any number, as in numpy.
pub(crate) fn first_largest(values: &[f64]) -> usize {
    let mut best = 0;
    for (index, value) in values.iter().enumerate() {
        if value.is_nan() {
            return index;
        }
        if *value > values[best] {
            best = index;
        }
    }
    best
}

/// An estimator whose methods are functions of tables.
#[derive(Debug)]
pub struct Faceted {
    facets: Vec<Facet>,
    methods: Vec<MethodSpec>,
    accepts: Accepts,
    columns: Option<Vec<ColumnSpec>>,
}

impl Faceted {
    /// Returns an estimator of these methods, the default one first.
    ///
    /// # Errors
    /// [`SpecError`] if there are none, or they take different numbers of columns.
    pub fn try_new(facets: Vec<Facet>) -> Result<Self, SpecError> {
        let Some(first) = facets.first() else {
            return Err(SpecError::new("there are no methods"));
        };
        let n_features = first.n_features();
        if n_features == 0 || facets.iter().any(|facet| facet.n_features() != n_features) {
            let all: Vec<usize> = facets.iter().map(Facet::n_features).collect();
            return Err(SpecError::new(format!("methods take {all:?} columns")));
        }
        let kinds: Result<Vec<_>, SpecError> = facets.iter().map(Facet::kinds).collect();
        let kinds = kinds?;
        Ok(Self {
            columns: common_columns(kinds.iter().map(Option::as_deref))?,
            accepts: first.accepts(),
            methods: facets.iter().map(|facet| facet.spec).collect(),
            facets,
        })
    }

    /// Takes only what `accepts` allows, too.
    #[must_use]
    pub fn narrowed(mut self, accepts: Accepts) -> Self {
        self.accepts = common_accepts([self.accepts, accepts].into_iter());
        self
    }
}

impl Estimator for Faceted {
    fn n_features(&self) -> usize {
        self.facets.first().map_or(0, Facet::n_features)
    }

    fn accepts(&self) -> Accepts {
        self.accepts
    }

    fn methods(&self) -> &[MethodSpec] {
        &self.methods
    }

    fn known_value(&self, column: usize) -> Option<KnownValue> {
        self.facets.iter().find_map(|facet| match &facet.answer {
            Answer::Delegated {
                before: None,
                estimator,
            } => estimator.known_value(column),
            _ => None,
        })
    }

    fn class_names(&self) -> Option<Vec<String>> {
        let mut facets = self.facets.iter();
        let facet = facets.find(|facet| facet.spec.method == Method::Predict)?;
        match &facet.answer {
            Answer::Classes { labels, .. } => Some(labels.names()),
            Answer::Delegated { estimator, .. } => estimator.class_names(),
            _ => None,
        }
    }

    fn columns(&self) -> Option<&[ColumnSpec]> {
        self.columns.as_deref()
    }

    fn run(&self, method: Method, rows: Rows<'_>) -> Result<Tensor, RunError> {
        self.run_table(method, &Table::Matrix(rows))
    }

    fn run_table(&self, method: Method, table: &Table<'_>) -> Result<Tensor, RunError> {
        let mut facets = self.facets.iter();
        let facet = facets.find(|facet| facet.spec.method == method);
        let facet = facet.ok_or_else(|| table::no_method(method))?;
        if self.columns.is_some() {
            // The parts check their own columns.
            table::check_width(table.n_columns(), self.n_features())?;
            return facet.run(table);
        }
        table::with_numbers(table, self.n_features(), self.accepts, |table| {
            facet.run(table)
        })
    }

    fn memory_bytes(&self) -> usize {
        // Methods share their kernels; the first stands for all.
        self.facets.first().map_or(0, Facet::memory_bytes)
    }
}

#[cfg(test)]
mod tests {
    use coracle_tensor::Values;

    use super::*;
    use crate::LinearScorer;

    fn scores() -> Arc<dyn TableFn> {
        let weights = vec![1.0, 0.0, 0.0, 1.0];
        Arc::new(LinearScorer::try_new(weights, vec![0.0, 0.0], 2).unwrap())
    }

    #[test]
    fn methods_share_a_function_and_refuse_what_it_does_not_take() {
        let labels = Labels::new(Values::I64(vec![7, 9].into()));
        let facets = vec![
            Facet::classes(scores(), labels, Choice::FirstLargest).unwrap(),
            Facet::table(Method::Transform, scores()),
        ];
        let estimator = Faceted::try_new(facets).unwrap();
        let rows = Rows::try_new(&[1.0, 2.0, 5.0, 5.0], 2).unwrap();
        let predicted = estimator.run(Method::Predict, rows).unwrap();
        assert_eq!(predicted.values(), &Values::I64(vec![9, 7].into()));
        let transformed = estimator.run(Method::Transform, rows).unwrap();
        assert_eq!(
            transformed.values(),
            &Values::F64(vec![1.0, 2.0, 5.0, 5.0].into())
        );
        assert!(estimator.run(Method::PredictProba, rows).is_err());
        let missing = Rows::try_new(&[f64::NAN, 1.0], 2).unwrap();
        assert!(estimator.run(Method::Predict, missing).is_err());
    }

    #[test]
    fn labels_must_fit_the_scores() {
        let three = || Labels::new(Values::I64(vec![1, 2, 3].into()));
        assert!(Facet::classes(scores(), three(), Choice::FirstLargest).is_err());
        assert!(Facet::classes(scores(), three(), Choice::Above(0.0)).is_err());
        assert!(Facet::column(Method::Predict, scores()).is_err());
        assert!(Faceted::try_new(Vec::new()).is_err());
    }
}
