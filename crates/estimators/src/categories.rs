//! The values that an encoder knows, and where each stands among them.

use std::collections::HashMap;

use coracle_base::{allocation_bytes, hash_table_bytes};
use coracle_model::{ColumnKind, ColumnSpec, KnownValue, RunError, RunErrorKind};
use coracle_tensor::{Cell, Table};

use crate::spec_error::SpecError;

/// One known value.
#[derive(Clone, Debug, PartialEq)]
pub enum Category {
    /// A number; truth values are 0 and 1.
    Number(f64),
    /// A text.
    Text(String),
    /// `None` or NaN. Where both are categories, `null` on the wire is the first.
    Missing,
}

/// The known values of one column, all numbers or all texts.
#[derive(Debug)]
pub struct Categories {
    n_categories: usize,
    missing: Option<usize>,
    known: Known,
}

#[derive(Debug)]
enum Known {
    /// Sorted, each with its position.
    Numbers(Vec<(f64, usize)>),
    Texts(HashMap<Box<[u8]>, usize>),
}

/// Longer texts are cut in messages.
const SHOWN_CHARS_MAX: usize = 64;

impl Categories {
    /// Returns the categories in their order.
    ///
    /// # Errors
    /// [`SpecError`] if numbers and texts are mixed.
    pub fn try_new(categories: &[Category]) -> Result<Self, SpecError> {
        let mut numbers = Vec::new();
        let mut texts = HashMap::new();
        let mut missing = None;
        for (position, category) in categories.iter().enumerate() {
            match category {
                Category::Number(number) => numbers.push((*number, position)),
                Category::Text(text) => {
                    texts.entry(Box::from(text.as_bytes())).or_insert(position);
                }
                Category::Missing => missing = missing.or(Some(position)),
            }
        }
        if !numbers.is_empty() && !texts.is_empty() {
            return Err(SpecError::new(
                "categories that mix numbers and texts are not supported",
            ));
        }
        numbers.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        Ok(Self {
            n_categories: categories.len(),
            missing,
            known: match texts.is_empty() {
                true => Known::Numbers(numbers),
                false => Known::Texts(texts),
            },
        })
    }

    /// Returns the number of categories, missing ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.n_categories
    }

    /// Tells whether there are no categories.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.n_categories == 0
    }

    /// Returns the first of them that is a value.
    #[must_use]
    pub fn first(&self) -> Option<KnownValue> {
        match &self.known {
            Known::Numbers(numbers) => {
                let first = numbers.iter().min_by_key(|(_, position)| *position);
                first.map(|(number, _)| KnownValue::Number(*number))
            }
            Known::Texts(texts) => {
                let first = texts.iter().min_by_key(|(_, position)| **position);
                first.map(|(text, _)| KnownValue::Text(String::from_utf8_lossy(text).into_owned()))
            }
        }
    }

    /// Returns the position of the missing value, if it is a category.
    #[must_use]
    pub fn missing(&self) -> Option<usize> {
        self.missing
    }

    /// Returns what the column holds.
    #[must_use]
    pub fn kind(&self) -> ColumnKind {
        match self.known {
            Known::Numbers(_) => ColumnKind::Numbers,
            Known::Texts(_) => ColumnKind::Text,
        }
    }

    /// Returns the memory held, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        match &self.known {
            Known::Numbers(numbers) => numbers.capacity() * size_of::<(f64, usize)>(),
            Known::Texts(texts) => {
                let texts_bytes = texts.keys().map(|text| allocation_bytes(text.len()));
                texts_bytes.sum::<usize>()
                    + hash_table_bytes::<(Box<[u8]>, usize)>(texts.capacity())
            }
        }
    }

    /// Returns the place of a number that is not missing.
    pub(crate) fn position_of(&self, number: f64) -> Option<usize> {
        match &self.known {
            Known::Numbers(numbers) => find(numbers, number),
            Known::Texts(_) => None,
        }
    }

    /// Returns the position of the value at `row` and `column` of `table`; `None` if it is no category.
    ///
    /// # Errors
    /// Kind `DTypeMismatch` for a text where the categories are numbers or the other way round,
    /// `ValueOutOfRange` for an infinite number.
    pub(crate) fn position(
        &self,
        table: &Table<'_>,
        row: usize,
        column: usize,
        name: &str,
    ) -> Result<Option<usize>, RunError> {
        let wrong = |kind, what: &str| {
            Err(RunError::new(
                kind,
                format!("row {row}, column {name}: {what}"),
            ))
        };
        match (table.cell(row, column), &self.known) {
            (Cell::Text(None), _) => Ok(self.missing),
            (Cell::Number(number), _) if number.is_nan() => Ok(self.missing),
            (Cell::Number(number), Known::Numbers(_)) if number.is_infinite() => {
                wrong(RunErrorKind::ValueOutOfRange, "infinity is not a category")
            }
            (Cell::Number(number), Known::Numbers(numbers)) => Ok(find(numbers, number)),
            (Cell::Text(Some(text)), Known::Texts(texts)) => Ok(texts.get(text).copied()),
            (Cell::Number(_), Known::Texts(_)) => wrong(
                RunErrorKind::DTypeMismatch,
                "expected a string, got a number",
            ),
            (Cell::Text(Some(_)), Known::Numbers(_)) => wrong(
                RunErrorKind::DTypeMismatch,
                "expected a number, got a string",
            ),
        }
    }
}

/// Finds a number by value: negative zero is zero.
#[expect(
    clippy::float_cmp,
    reason = "categories are compared exactly, as in numpy"
)]
fn find(numbers: &[(f64, usize)], wanted: f64) -> Option<usize> {
    let first = numbers.partition_point(|&(number, _)| number < wanted);
    let (number, position) = *numbers.get(first)?;
    (number == wanted).then_some(position)
}

/// Returns the error of a value that is no category.
pub(crate) fn unknown(table: &Table<'_>, row: usize, column: usize, name: &str) -> RunError {
    let value = match table.cell(row, column) {
        Cell::Number(number) if number.is_nan() => "a missing value".to_owned(),
        Cell::Number(number) => number.to_string(),
        Cell::Text(None) => "a missing value".to_owned(),
        Cell::Text(Some(text)) => {
            let text = String::from_utf8_lossy(text);
            let shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
            format!("{shown:?}")
        }
    };
    let message = format!("row {row}, column {name}: {value} is not one of the known categories");
    RunError::new(RunErrorKind::UnknownValue, message)
}

/// Returns what each column holds, where at least one holds texts.
pub(crate) fn specs<'c>(
    columns: impl Iterator<Item = (&'c Categories, bool)>,
) -> Option<Vec<ColumnSpec>> {
    let specs: Vec<ColumnSpec> = columns
        .map(|(categories, refuses_unknown)| ColumnSpec {
            kind: categories.kind(),
            accepts_missing: !refuses_unknown || categories.missing().is_some(),
        })
        .collect();
    specs
        .iter()
        .any(|spec| spec.kind == ColumnKind::Text)
        .then_some(specs)
}

/// The names of an encoder's columns, for messages: the user's in quotes, else positions.
#[must_use]
pub fn shown_names(names: Option<&[String]>, n_columns: usize) -> Vec<String> {
    match names {
        Some(names) => names.iter().map(|name| format!("{name:?}")).collect(),
        None => (0..n_columns).map(|column| column.to_string()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use coracle_tensor::{ByteStrings, Column, Columns, Rows};

    use super::*;

    fn number_position(categories: &Categories, value: f64) -> Option<usize> {
        let values = [value];
        let table = Table::Matrix(Rows::try_new(&values, 1).unwrap());
        categories.position(&table, 0, 0, "0").unwrap()
    }

    #[test]
    fn numbers_are_found_by_value_in_any_order() {
        let categories = [
            Category::Number(3.0),
            Category::Number(-0.0),
            Category::Missing,
            Category::Number(7.5),
        ];
        let categories = Categories::try_new(&categories).unwrap();
        let cases = [
            (3.0, Some(0)),
            (0.0, Some(1)),
            (7.5, Some(3)),
            (8.0, None),
            (f64::NAN, Some(2)),
        ];
        for (value, expected) in cases {
            assert_eq!(number_position(&categories, value), expected, "{value}");
        }
    }

    #[test]
    fn texts_are_found_and_missing_ones_are_unknown_unless_they_are_a_category() {
        let categories = [
            Category::Text("a".to_owned()),
            Category::Text(String::new()),
        ];
        let categories = Categories::try_new(&categories).unwrap();
        let mut texts = ByteStrings::new();
        texts.push(b"");
        texts.push_missing();
        texts.push(b"b");
        let table = Columns::try_new(vec![Column::Text(&texts)]).unwrap();
        let table = Table::Columns(table);
        let found: Vec<_> = (0..3)
            .map(|row| categories.position(&table, row, 0, "0").unwrap())
            .collect();
        assert_eq!(found, [Some(1), None, None]);
        assert_eq!(
            unknown(&table, 2, 0, "\"city\"").to_string(),
            "row 2, column \"city\": \"b\" is not one of the known categories"
        );
    }

    #[test]
    fn mixed_categories_are_refused() {
        let mixed = [Category::Text("a".to_owned()), Category::Number(1.0)];
        assert!(Categories::try_new(&mixed).is_err());
    }
}
