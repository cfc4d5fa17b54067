//! Encoders of categories to numbers: OrdinalEncoder, TargetEncoder, LabelBinarizer.

use coracle_model::{
    Accepts, ColumnSpec, Estimator, KnownValue, Method, MethodSpec, RunError, Width,
};
use coracle_tensor::{DType, Rows, Table, Tensor, Values};

use crate::categories::{self, Categories};
use crate::one_hot::Reading;
use crate::scaler::transform_spec;
use crate::spec_error::{SpecError, expect_length};
use crate::table;

/// How one column is encoded.
#[derive(Debug)]
pub struct ValueColumn {
    /// The known values.
    pub categories: Categories,
    /// `width` numbers for each category.
    pub values: Vec<f64>,
    /// How many numbers a category becomes.
    pub width: usize,
    /// What an unknown value becomes; `None` refuses it.
    pub unknown: Option<Vec<f64>>,
}

/// A transformer of categories to numbers.
#[derive(Debug)]
pub struct ValueEncoder {
    columns: Vec<ValueColumn>,
    names: Vec<String>,
    specs: Option<Vec<ColumnSpec>>,
    reading: Reading,
    n_columns_out: usize,
    methods: [MethodSpec; 1],
}

impl ValueEncoder {
    /// Returns an encoder of `columns`; `names` are shown in messages.
    ///
    /// # Errors
    /// [`SpecError`] if lengths disagree or nothing comes out.
    pub fn try_new(columns: Vec<ValueColumn>, names: Vec<String>) -> Result<Self, SpecError> {
        expect_length("column names", names.len(), columns.len())?;
        let mut n_columns_out = 0_usize;
        for column in &columns {
            let expected = column.categories.len().saturating_mul(column.width);
            expect_length("the encoded values", column.values.len(), expected)?;
            if let Some(unknown) = &column.unknown {
                expect_length(
                    "the value of unknown categories",
                    unknown.len(),
                    column.width,
                )?;
            }
            n_columns_out = n_columns_out.saturating_add(column.width);
        }
        if n_columns_out == 0 {
            return Err(SpecError::new("the encoded table has no columns"));
        }
        let specs = categories::specs(
            columns
                .iter()
                .map(|column| (&column.categories, column.unknown.is_none())),
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
}

impl Estimator for ValueEncoder {
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
        table::check_width(table.n_columns(), self.n_features())?;
        let mut encoded = Vec::with_capacity(table.n_rows() * self.n_columns_out);
        for row in 0..table.n_rows() {
            for (index, (column, name)) in self.columns.iter().zip(&self.names).enumerate() {
                let categories = &column.categories;
                let position = match self.reading.read(categories, table, row, index, name)? {
                    Some(number) => categories.position_of(number),
                    None => categories.position(table, row, index, name)?,
                };
                let values = match position {
                    Some(position) => {
                        let start = position * column.width;
                        &column.values[start..start + column.width]
                    }
                    None => column
                        .unknown
                        .as_ref()
                        .ok_or_else(|| categories::unknown(table, row, index, name))?,
                };
                encoded.extend_from_slice(values);
            }
        }
        table::matrix(encoded, table.n_rows(), self.n_columns_out)
    }

    fn memory_bytes(&self) -> usize {
        let columns = self.columns.iter().map(|column| {
            column.categories.memory_bytes() + column.values.capacity() * size_of::<f64>()
        });
        columns.sum()
    }
}

/// LabelEncoder: the position of each label among the classes, an integer per row.
#[derive(Debug)]
pub struct LabelEncoder {
    classes: Categories,
    specs: Option<Vec<ColumnSpec>>,
    methods: [MethodSpec; 1],
}

impl LabelEncoder {
    /// Returns an encoder of `classes`.
    #[must_use]
    pub fn new(classes: Categories) -> Self {
        Self {
            specs: categories::specs([(&classes, true)].into_iter()),
            classes,
            methods: [MethodSpec {
                method: Method::Transform,
                dtype: DType::I64,
                width: Width::Scalar,
            }],
        }
    }
}

impl Estimator for LabelEncoder {
    fn n_features(&self) -> usize {
        1
    }

    fn accepts(&self) -> Accepts {
        Accepts::FINITE_OR_MISSING
    }

    fn methods(&self) -> &[MethodSpec] {
        &self.methods
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
        table::check_width(table.n_columns(), 1)?;
        let positions: Result<Vec<i64>, RunError> = (0..table.n_rows())
            .map(|row| {
                let position = self.classes.position(table, row, 0, "0")?;
                let position = position.and_then(|position| i64::try_from(position).ok());
                position.ok_or_else(|| categories::unknown(table, row, 0, "0"))
            })
            .collect();
        Ok(Tensor::from_values(Values::I64(positions?.into())))
    }

    fn memory_bytes(&self) -> usize {
        self.classes.memory_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::categories::Category;

    fn two() -> Categories {
        Categories::try_new(&[Category::Number(4.0), Category::Number(6.0)]).unwrap()
    }

    #[test]
    fn each_category_becomes_its_numbers() {
        let columns = vec![
            ValueColumn {
                categories: two(),
                values: vec![1.0, 2.0, 3.0, 4.0],
                width: 2,
                unknown: Some(vec![-1.0, -2.0]),
            },
            ValueColumn {
                categories: two(),
                values: vec![0.0, 1.0],
                width: 1,
                unknown: None,
            },
        ];
        let encoder = ValueEncoder::try_new(columns, vec!["0".to_owned(), "1".to_owned()]).unwrap();
        let run = |table: &[f64]| encoder.run(Method::Transform, Rows::try_new(table, 2).unwrap());
        let encoded = run(&[6.0, 4.0, 5.0, 6.0]).unwrap();
        let expected = vec![3.0, 4.0, 0.0, -1.0, -2.0, 1.0];
        assert_eq!(encoded.values(), &Values::F64(expected.into()));
        assert!(run(&[6.0, 5.0]).is_err());
    }

    #[test]
    fn labels_become_positions() {
        let encoder = LabelEncoder::new(two());
        let table = [6.0, 4.0];
        let encoded = encoder
            .run(Method::Transform, Rows::try_new(&table, 1).unwrap())
            .unwrap();
        assert_eq!(encoded.values(), &Values::I64(vec![1, 0].into()));
    }
}
