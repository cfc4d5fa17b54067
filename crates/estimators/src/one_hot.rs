//! OneHotEncoder: a column of 0 and 1 for each category.

use coracle_model::{
    Accepts, ColumnSpec, Estimator, KnownValue, Method, MethodSpec, RunError, RunErrorKind,
    tensor_of,
};
use coracle_tensor::{Cell, Frame, Rows, SparseRows, Table, Tensor};

use crate::categories::{self, Categories};
use crate::scaler::transform_spec;
use crate::spec_error::{SpecError, expect_length};
use crate::table;

/// What an unknown value becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// An error.
    Refuse,
    /// Zeros in every column.
    Zeros,
    /// A one in this output of its column, counted from the column's first.
    Output(usize),
}

/// What an encoder takes besides the categories it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Anything.
    Any,
    /// No missing values, unless they are a category.
    Present,
    /// Counts: numbers are cut to whole ones, and neither missing nor negative.
    Counts,
}

impl Reading {
    /// Checks a row's value; `Some` is what it is read as, where that is another.
    pub(crate) fn read(
        self,
        categories: &Categories,
        table: &Table<'_>,
        row: usize,
        column: usize,
        name: &str,
    ) -> Result<Option<f64>, RunError> {
        if self == Self::Any || categories.missing().is_some() {
            return Ok(None);
        }
        let wrong = |kind, what: &str| {
            let message = format!("row {row}, column {name}: {what}");
            Err(RunError::new(kind, message))
        };
        match table.cell(row, column) {
            Cell::Text(None) => wrong(RunErrorKind::MissingValue, "a missing value"),
            Cell::Number(number) if number.is_nan() => {
                wrong(RunErrorKind::MissingValue, "a missing value")
            }
            Cell::Number(number) if self == Self::Counts => match number.trunc() {
                count if (0.0..COUNT_MAX).contains(&count) => Ok(Some(count)),
                _ => wrong(RunErrorKind::ValueOutOfRange, "not a count"),
            },
            _ => Ok(None),
        }
    }
}

/// The largest number that is surely an integer in C.
const COUNT_MAX: f64 = 9_007_199_254_740_992.0;

/// How one column is encoded.
#[derive(Debug)]
pub struct OneHotColumn {
    /// The known values.
    pub categories: Categories,
    /// Which output of the column each category sets; `None` for a dropped one. Categories may share one.
    pub outputs: Vec<Option<usize>>,
    /// The number of outputs.
    pub width: usize,
    /// What an unknown value becomes.
    pub unknown: Unknown,
}

/// A transformer of categories to indicator columns.
#[derive(Debug)]
pub struct OneHotEncoder {
    columns: Vec<OneHotColumn>,
    names: Vec<String>,
    specs: Option<Vec<ColumnSpec>>,
    reading: Reading,
    n_columns_out: usize,
    methods: [MethodSpec; 1],
}

/// Wider results are kept sparse: one value per column against a row of mostly zeros.
const DENSE_WIDTH_MAX: usize = 64;

impl OneHotEncoder {
    /// Returns an encoder of `columns`; `names` are shown in messages.
    ///
    /// # Errors
    /// [`SpecError`] if lengths disagree, an output does not exist, or there is none.
    pub fn try_new(columns: Vec<OneHotColumn>, names: Vec<String>) -> Result<Self, SpecError> {
        expect_length("column names", names.len(), columns.len())?;
        for column in &columns {
            expect_length("outputs", column.outputs.len(), column.categories.len())?;
            let unknown = match column.unknown {
                Unknown::Output(output) => Some(output),
                Unknown::Refuse | Unknown::Zeros => None,
            };
            let used = column.outputs.iter().copied().chain([unknown]);
            if used.flatten().any(|output| output >= column.width) {
                return Err(SpecError::new("a category's output does not exist"));
            }
        }
        let n_columns_out = columns
            .iter()
            .try_fold(0_usize, |sum, column| sum.checked_add(column.width))
            .filter(|&sum| sum > 0 && sum <= SparseRows::COLUMNS_MAX)
            .ok_or_else(|| SpecError::new("the encoded table has no columns, or too many"))?;
        let refuses = |column: &OneHotColumn| column.unknown == Unknown::Refuse;
        let specs = categories::specs(
            columns
                .iter()
                .map(|column| (&column.categories, refuses(column))),
        );
        Ok(Self {
            columns,
            names,
            specs,
            reading: Reading::Any,
            n_columns_out,
            methods: [transform_spec(n_columns_out)],
        })
    }

    /// Reads values so.
    #[must_use]
    pub fn reading(mut self, reading: Reading) -> Self {
        self.reading = reading;
        self
    }

    /// Visits the outputs that are one in `row`, in order.
    fn each_one(
        &self,
        table: &Table<'_>,
        row: usize,
        mut set: impl FnMut(usize),
    ) -> Result<(), RunError> {
        let mut start = 0;
        for (index, (column, name)) in self.columns.iter().zip(&self.names).enumerate() {
            let position = match self
                .reading
                .read(&column.categories, table, row, index, name)?
            {
                Some(number) => column.categories.position_of(number),
                None => column.categories.position(table, row, index, name)?,
            };
            let output = match (position, column.unknown) {
                (Some(position), _) => column.outputs[position],
                (None, Unknown::Zeros) => None,
                (None, Unknown::Output(output)) => Some(output),
                (None, Unknown::Refuse) => {
                    return Err(categories::unknown(table, row, index, name));
                }
            };
            if let Some(output) = output {
                set(start + output);
            }
            start += column.width;
        }
        Ok(())
    }
}

impl Estimator for OneHotEncoder {
    fn n_features(&self) -> usize {
        self.columns.len()
    }

    fn accepts(&self) -> Accepts {
        Accepts::FINITE_OR_MISSING
    }

    fn methods(&self) -> &[MethodSpec] {
        &self.methods
    }

    fn known_value(&self, column: usize) -> Option<KnownValue> {
        self.columns.get(column)?.categories.first()
    }

    fn columns(&self) -> Option<&[ColumnSpec]> {
        self.specs.as_deref()
    }

    fn run(&self, method: Method, rows: Rows<'_>) -> Result<Tensor, RunError> {
        self.run_table(method, &Table::Matrix(rows))
    }

    fn run_table(&self, method: Method, table: &Table<'_>) -> Result<Tensor, RunError> {
        if method != Method::Transform {
            return Err(table::no_method(method));
        }
        tensor_of(self.transform_table(table)?)
    }

    fn transform_table(&self, table: &Table<'_>) -> Result<Frame, RunError> {
        table::check_width(table.n_columns(), self.n_features())?;
        if self.n_columns_out <= DENSE_WIDTH_MAX {
            let mut values = vec![0.0; table.n_rows() * self.n_columns_out];
            for (row, values) in values.chunks_exact_mut(self.n_columns_out).enumerate() {
                self.each_one(table, row, |output| values[output] = 1.0)?;
            }
            return Ok(Frame::Matrix {
                values,
                n_columns: self.n_columns_out,
            });
        }
        let mut sparse = table::sparse(self.n_columns_out)?;
        for row in 0..table.n_rows() {
            self.each_one(table, row, |output| sparse.push(table::narrow(output), 1.0))?;
            sparse.end_row();
        }
        Ok(Frame::Sparse(sparse))
    }

    fn memory_bytes(&self) -> usize {
        let columns = self.columns.iter().map(|column| {
            column.categories.memory_bytes()
                + column.outputs.capacity() * size_of::<Option<usize>>()
        });
        columns.sum()
    }
}

#[cfg(test)]
mod tests {
    use coracle_tensor::Values;

    use super::*;
    use crate::categories::{Category, shown_names};

    fn column(n_categories: u32, unknown: Unknown) -> OneHotColumn {
        let categories: Vec<Category> = (0..n_categories)
            .map(|value| Category::Number(f64::from(value)))
            .collect();
        OneHotColumn {
            categories: Categories::try_new(&categories).unwrap(),
            outputs: (0..categories.len()).map(Some).collect(),
            width: categories.len(),
            unknown,
        }
    }

    #[test]
    fn narrow_and_wide_tables_hold_the_same() {
        for n_categories in [3, 100] {
            let columns = vec![
                column(n_categories, Unknown::Zeros),
                column(2, Unknown::Output(1)),
            ];
            let encoder = OneHotEncoder::try_new(columns, shown_names(None, 2)).unwrap();
            let table = [1.0, 0.0, 500.0, 9.0];
            let table = Rows::try_new(&table, 2).unwrap();
            let encoded = encoder.run(Method::Transform, table).unwrap();
            let width = n_categories as usize + 2;
            let Values::F64(values) = encoded.values() else {
                panic!("not doubles")
            };
            let ones: Vec<usize> = (0..values.len()).filter(|&at| values[at] == 1.0).collect();
            assert_eq!(ones, [1, width - 2, 2 * width - 1]);
            assert_eq!(values.iter().sum::<f64>(), 3.0);
        }
    }

    #[test]
    fn unknown_values_can_be_refused_and_outputs_must_exist() {
        let encoder =
            OneHotEncoder::try_new(vec![column(2, Unknown::Refuse)], shown_names(None, 1)).unwrap();
        let error = encoder
            .run(Method::Transform, Rows::try_new(&[5.0], 1).unwrap())
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "row 0, column 0: 5 is not one of the known categories"
        );
        let mut wrong = column(2, Unknown::Refuse);
        wrong.width = 1;
        assert!(OneHotEncoder::try_new(vec![wrong], shown_names(None, 1)).is_err());
    }
}
