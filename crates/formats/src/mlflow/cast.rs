//! The types of a signature's columns: what numbers become on their way to the model.

use coracle_model::{
    Accepts, ColumnSpec, Estimator, KnownValue, Method, MethodSpec, RunError, RunErrorKind,
};
use coracle_tensor::{ByteStrings, Column, Columns, Rows, Table, Tensor};

use crate::numbers::to_single;

/// What a column's type does to a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cast {
    /// Nothing.
    Keep,
    /// It is rounded to single precision.
    Single,
    /// It has to be a whole number, and may not be missing.
    Whole,
    /// It has to be a truth value, 0 or 1, and may not be missing.
    Truth,
}

/// What a value is refused with that may not be missing.
const MISSING: (RunErrorKind, &str) = (
    RunErrorKind::MissingValue,
    "missing value (null); the model's signature has integers or truth values here",
);
/// What a value is refused with that is no truth value.
const NO_TRUTH: (RunErrorKind, &str) = (
    RunErrorKind::ValueOutOfRange,
    "expected true or false, by the model's signature",
);

/// An estimator whose numbers are cast first.
#[derive(Debug)]
pub(super) struct Casting {
    casts: Vec<Cast>,
    /// For messages, a name per column.
    names: Vec<String>,
    estimator: Box<dyn Estimator>,
}

impl Casting {
    /// Returns `estimator` after `casts`, one per column; as it is where they do nothing.
    pub(super) fn around(
        estimator: Box<dyn Estimator>,
        casts: Vec<Cast>,
        names: Vec<String>,
    ) -> Box<dyn Estimator> {
        if casts.iter().all(|cast| *cast == Cast::Keep) {
            return estimator;
        }
        Box::new(Self {
            casts,
            names,
            estimator,
        })
    }

    fn cast(&self, row: usize, column: usize, number: f64) -> Result<f64, RunError> {
        let wrong = match self.casts.get(column).unwrap_or(&Cast::Keep) {
            Cast::Keep => return Ok(number),
            Cast::Single => return Ok(to_single(number).into()),
            Cast::Whole | Cast::Truth if number.is_nan() => MISSING,
            Cast::Whole if number.fract() == 0.0 => return Ok(number),
            Cast::Truth if number == 0.0 || number == 1.0 => return Ok(number),
            Cast::Whole => (
                RunErrorKind::ValueOutOfRange,
                "expected a whole number, by the model's signature",
            ),
            Cast::Truth => NO_TRUTH,
        };
        Err(self.error(row, column, wrong))
    }

    /// Returns categories that are truth values as their digits: those of JSON are digits, a table of CSV has words.
    fn truths(&self, column: usize, texts: &ByteStrings) -> Result<ByteStrings, RunError> {
        let mut cast = ByteStrings::new();
        for row in 0..texts.len() {
            cast.push(match texts.get_present(row) {
                Some(b"1" | b"True" | b"TRUE" | b"true") => b"1",
                Some(b"0" | b"False" | b"FALSE" | b"false") => b"0",
                Some(_) => return Err(self.error(row, column, NO_TRUTH)),
                None => return Err(self.error(row, column, MISSING)),
            });
        }
        Ok(cast)
    }

    fn error(&self, row: usize, column: usize, (kind, what): (RunErrorKind, &str)) -> RunError {
        let name = self.names.get(column).map_or("", String::as_str);
        RunError::new(kind, format!("row {row}, column {name}: {what}"))
    }
}

/// The values of a column that were cast.
enum Owned {
    Numbers(Vec<f64>),
    Text(ByteStrings),
}

impl Estimator for Casting {
    fn n_features(&self) -> usize {
        self.estimator.n_features()
    }

    fn accepts(&self) -> Accepts {
        self.estimator.accepts()
    }

    fn methods(&self) -> &[MethodSpec] {
        self.estimator.methods()
    }

    fn class_names(&self) -> Option<Vec<String>> {
        self.estimator.class_names()
    }

    fn known_value(&self, column: usize) -> Option<KnownValue> {
        self.estimator.known_value(column)
    }

    fn columns(&self) -> Option<&[ColumnSpec]> {
        self.estimator.columns()
    }

    fn run(&self, method: Method, rows: Rows<'_>) -> Result<Tensor, RunError> {
        let mut cast = Vec::with_capacity(rows.values().len());
        for (index, row) in rows.iter().enumerate() {
            for (column, &number) in row.iter().enumerate() {
                cast.push(self.cast(index, column, number)?);
            }
        }
        let rows = Rows::try_new(&cast, rows.n_columns());
        let rows = rows.ok_or_else(|| RunError::new(RunErrorKind::Internal, "no rows"))?;
        self.estimator.run(method, rows)
    }

    fn run_table(&self, method: Method, table: &Table<'_>) -> Result<Tensor, RunError> {
        let Table::Columns(columns) = table else {
            return coracle_model::run_on_matrix(table, |rows| self.run(method, rows));
        };
        let cast = columns.as_slice().iter().enumerate();
        let cast = cast.map(|(column, values)| match values {
            Column::Numbers(numbers) => {
                let numbers = numbers.iter().enumerate();
                let cast = numbers.map(|(row, &number)| self.cast(row, column, number));
                let cast = cast.collect::<Result<Vec<f64>, RunError>>();
                cast.map(|cast| Some(Owned::Numbers(cast)))
            }
            Column::Text(texts) if self.casts.get(column) == Some(&Cast::Truth) => {
                Ok(Some(Owned::Text(self.truths(column, texts)?)))
            }
            Column::Text(_) => Ok(None),
        });
        let cast: Vec<Option<Owned>> = cast.collect::<Result<_, RunError>>()?;
        let columns = columns.as_slice().iter().zip(&cast);
        let columns = columns.map(|(values, cast)| match cast {
            Some(Owned::Numbers(numbers)) => Column::Numbers(numbers),
            Some(Owned::Text(texts)) => Column::Text(texts),
            None => *values,
        });
        let table = Columns::try_new(columns.collect())
            .map(Table::Columns)
            .ok_or_else(|| RunError::new(RunErrorKind::Internal, "cast columns differ"))?;
        self.estimator.run_table(method, &table)
    }

    fn memory_bytes(&self) -> usize {
        self.estimator.memory_bytes()
    }
}
