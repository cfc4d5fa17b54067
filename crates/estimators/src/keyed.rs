//! DictVectorizer: dicts of numbers and texts as rows of numbers; each key is a column here.

use std::collections::HashMap;

use coracle_model::{
    Accepts, ColumnKind, ColumnSpec, Estimator, Method, MethodSpec, RunError, RunErrorKind,
    tensor_of,
};
use coracle_tensor::{Cell, Frame, Rows, Table, Tensor};

use crate::scaler::transform_spec;
use crate::spec_error::SpecError;
use crate::table;

/// What a key's values become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyedColumn {
    /// The number, at this place of the row.
    Number(usize),
    /// A one at the place of the text; nothing where the text is not known, or missing.
    Texts(HashMap<Box<[u8]>, usize>),
}

/// A transformer of columns by key to one wide row.
#[derive(Debug)]
pub struct Keyed {
    columns: Vec<KeyedColumn>,
    n_columns_out: usize,
    specs: Option<Vec<ColumnSpec>>,
    methods: [MethodSpec; 1],
}

impl Keyed {
    /// Returns the transformer to rows of `n_columns_out` numbers.
    ///
    /// # Errors
    /// [`SpecError`] if there are no columns, or two values share a place, or one is beyond the row.
    pub fn try_new(columns: Vec<KeyedColumn>, n_columns_out: usize) -> Result<Self, SpecError> {
        let mut taken = vec![false; n_columns_out];
        for column in &columns {
            let places: Vec<usize> = match column {
                KeyedColumn::Number(place) => vec![*place],
                KeyedColumn::Texts(texts) => texts.values().copied().collect(),
            };
            for place in places {
                match taken.get_mut(place) {
                    Some(taken) if !*taken => *taken = true,
                    _ => {
                        return Err(SpecError::new(format!(
                            "place {place} is taken or no place"
                        )));
                    }
                }
            }
        }
        if columns.is_empty() {
            return Err(SpecError::new("there are no keys"));
        }
        table::sparse(n_columns_out).map_err(|error| SpecError::new(error.to_string()))?;
        let specs = columns.iter().map(|column| ColumnSpec {
            kind: match column {
                KeyedColumn::Number(_) => ColumnKind::Numbers,
                KeyedColumn::Texts(_) => ColumnKind::Text,
            },
            accepts_missing: true,
        });
        let specs: Vec<ColumnSpec> = specs.collect();
        let has_texts = specs.iter().any(|spec| spec.kind == ColumnKind::Text);
        Ok(Self {
            specs: has_texts.then_some(specs),
            methods: [transform_spec(n_columns_out)],
            columns,
            n_columns_out,
        })
    }
}

impl Estimator for Keyed {
    fn n_features(&self) -> usize {
        self.columns.len()
    }

    fn accepts(&self) -> Accepts {
        Accepts::ANY
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
        tensor_of(self.transform_table(table)?)
    }

    fn transform_table(&self, table: &Table<'_>) -> Result<Frame, RunError> {
        table::check_width(table.n_columns(), self.n_features())?;
        let mut sparse = table::sparse(self.n_columns_out)?;
        let mut row_values: Vec<(usize, f64)> = Vec::with_capacity(self.columns.len());
        for row in 0..table.n_rows() {
            row_values.clear();
            for (index, column) in self.columns.iter().enumerate() {
                match (column, table.cell(row, index)) {
                    (KeyedColumn::Number(place), Cell::Number(number)) => {
                        row_values.push((*place, number));
                    }
                    (KeyedColumn::Texts(texts), Cell::Text(text)) => {
                        let place = text.and_then(|text| texts.get(text));
                        row_values.extend(place.map(|&place| (place, 1.0)));
                    }
                    (KeyedColumn::Number(_), Cell::Text(_)) => {
                        return Err(wrong(row, index, "a number", "a string"));
                    }
                    (KeyedColumn::Texts(_), Cell::Number(_)) => {
                        return Err(wrong(row, index, "a string", "a number"));
                    }
                }
            }
            row_values.sort_unstable_by_key(|(place, _)| *place);
            for &(place, value) in &row_values {
                sparse.push(table::narrow(place), value);
            }
            sparse.end_row();
        }
        Ok(Frame::Sparse(sparse))
    }

    fn memory_bytes(&self) -> usize {
        let texts = self.columns.iter().map(|column| match column {
            KeyedColumn::Number(_) => 0,
            KeyedColumn::Texts(texts) => {
                let bytes: usize = texts.keys().map(|text| text.len()).sum();
                bytes + texts.capacity() * size_of::<(Box<[u8]>, usize)>()
            }
        });
        texts.sum()
    }
}

fn wrong(row: usize, column: usize, expected: &str, got: &str) -> RunError {
    let message = format!("row {row}, column {column}: expected {expected}, got {got}");
    RunError::new(RunErrorKind::DTypeMismatch, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_taken_once() {
        let texts = |place: usize| {
            let text: Box<[u8]> = Box::from(&b"a"[..]);
            KeyedColumn::Texts([(text, place)].into_iter().collect())
        };
        assert!(Keyed::try_new(vec![KeyedColumn::Number(0), texts(1)], 2).is_ok());
        assert!(Keyed::try_new(vec![KeyedColumn::Number(0), texts(0)], 2).is_err());
        assert!(Keyed::try_new(vec![texts(2)], 2).is_err());
        assert!(Keyed::try_new(Vec::new(), 2).is_err());
    }
}
