//! Columns whose categories a model knows by their codes: each value becomes its place among the categories.

use coracle_model::{
    Accepts, ColumnKind, ColumnSpec, Estimator, Method, MethodSpec, RunError, RunErrorKind,
};
use coracle_tensor::{Cell, Rows, Table, Tensor};

use crate::categories::{self, Categories};
use crate::spec_error::{SpecError, expect_length};
use crate::table;

/// An estimator of rows of numbers, given the codes of categories.
#[derive(Debug)]
pub struct WithCodes {
    /// The categories of each column; `None` where it holds numbers that are read as they are.
    columns: Vec<Option<Categories>>,
    names: Vec<String>,
    /// Whether a value that is no category is refused; else it counts as missing.
    refuses_unknown: bool,
    specs: Option<Vec<ColumnSpec>>,
    estimator: Box<dyn Estimator>,
}

impl WithCodes {
    /// Returns `estimator` on tables of categories; `names` are shown in messages.
    ///
    /// # Errors
    /// [`SpecError`] if there is another number of columns or names than the estimator has features.
    pub fn try_new(
        columns: Vec<Option<Categories>>,
        names: Vec<String>,
        refuses_unknown: bool,
        estimator: Box<dyn Estimator>,
    ) -> Result<Self, SpecError> {
        expect_length("columns", columns.len(), estimator.n_features())?;
        expect_length("column names", names.len(), columns.len())?;
        let accepts_missing = estimator.accepts().missing;
        let specs = columns.iter().map(|categories| ColumnSpec {
            kind: categories
                .as_ref()
                .map_or(ColumnKind::Numbers, Categories::kind),
            accepts_missing,
        });
        let specs: Vec<ColumnSpec> = specs.collect();
        let has_texts = specs.iter().any(|spec| spec.kind == ColumnKind::Text);
        Ok(Self {
            columns,
            names,
            refuses_unknown,
            specs: has_texts.then_some(specs),
            estimator,
        })
    }

    /// Returns what the estimator reads in a column.
    fn code(&self, table: &Table<'_>, row: usize, column: usize) -> Result<f64, RunError> {
        let cell = table.cell(row, column);
        let Some(categories) = &self.columns[column] else {
            return match cell {
                Cell::Number(number) => Ok(number),
                Cell::Text(_) => {
                    let name = &self.names[column];
                    let message =
                        format!("row {row}, column {name}: expected a number, got a string");
                    Err(RunError::new(RunErrorKind::DTypeMismatch, message))
                }
            };
        };
        let is_missing = match cell {
            Cell::Number(number) => number.is_nan(),
            Cell::Text(text) => text.is_none(),
        };
        let position = categories.position(table, row, column, &self.names[column])?;
        match position {
            Some(position) => Ok(crate::kernel::count(position)),
            None if is_missing || !self.refuses_unknown => Ok(f64::NAN),
            None => Err(categories::unknown(table, row, column, &self.names[column])),
        }
    }
}

impl Estimator for WithCodes {
    fn n_features(&self) -> usize {
        self.columns.len()
    }

    fn accepts(&self) -> Accepts {
        self.estimator.accepts()
    }

    fn methods(&self) -> &[MethodSpec] {
        self.estimator.methods()
    }

    fn columns(&self) -> Option<&[ColumnSpec]> {
        self.specs.as_deref()
    }

    fn run(&self, method: Method, rows: Rows<'_>) -> Result<Tensor, RunError> {
        self.run_table(method, &Table::Matrix(rows))
    }

    fn run_table(&self, method: Method, table: &Table<'_>) -> Result<Tensor, RunError> {
        let width = self.columns.len();
        table::check_width(table.n_columns(), width)?;
        let mut values = Vec::with_capacity(table.n_rows() * width);
        for row in 0..table.n_rows() {
            for column in 0..width {
                values.push(self.code(table, row, column)?);
            }
        }
        let rows = Rows::try_new(&values, width);
        let rows = rows.ok_or_else(|| RunError::new(RunErrorKind::Internal, "no rows"))?;
        self.estimator.run(method, rows)
    }

    fn memory_bytes(&self) -> usize {
        let categories: usize = self
            .columns
            .iter()
            .flatten()
            .map(Categories::memory_bytes)
            .sum();
        categories + self.estimator.memory_bytes()
    }
}

#[cfg(test)]
mod tests {
    use coracle_tensor::{ByteStrings, Column, Columns, Values};

    use super::*;
    use crate::{Category, InverseLink, LinearScorer, Regressor};

    fn coded(refuses_unknown: bool) -> WithCodes {
        let scorer = LinearScorer::try_new(vec![10.0, 1.0], vec![0.0], 2).unwrap();
        let regressor = Regressor::new(
            Box::new(scorer),
            InverseLink::Identity,
            coracle_model::Width::Scalar,
        );
        let categories: Vec<Category> = ["b", "a"]
            .map(|text| Category::Text(text.to_owned()))
            .into();
        let columns = vec![Some(Categories::try_new(&categories).unwrap()), None];
        let names = categories::shown_names(None, 2);
        WithCodes::try_new(columns, names, refuses_unknown, Box::new(regressor)).unwrap()
    }

    fn run(estimator: &WithCodes, text: &str) -> Result<Tensor, RunError> {
        let texts: ByteStrings = [text].into_iter().collect();
        let columns = vec![Column::Text(&texts), Column::Numbers(&[0.5])];
        let table = Table::Columns(Columns::try_new(columns).unwrap());
        estimator.run_table(Method::Predict, &table)
    }

    #[test]
    fn texts_become_their_places() {
        let estimator = coded(true);
        let result = run(&estimator, "a").unwrap();
        assert_eq!(result.values(), &Values::F64(vec![10.5].into()));
        let error = run(&estimator, "c").unwrap_err();
        assert_eq!(error.kind(), RunErrorKind::UnknownValue);
        // The linear model refuses the missing value that an unknown category is.
        assert_eq!(
            run(&coded(false), "c").unwrap_err().kind(),
            RunErrorKind::MissingValue
        );
        let rows = Rows::try_new(&[1.0, 2.0], 2).unwrap();
        let error = estimator.run(Method::Predict, rows).unwrap_err();
        assert_eq!(error.kind(), RunErrorKind::DTypeMismatch);
    }
}
