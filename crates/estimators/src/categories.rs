//! The values that an encoder knows, and where each stands among them.

use std::collections::HashMap;

use coracle_base::{allocation_bytes, hash_table_bytes};
use coracle_model::{ColumnKind, ColumnSpec, KnownValue, RunError, RunErrorKind};
use coracle_tensor::{Cell, Table};

use crate::date_time::DateTime;
use crate::spec_error::SpecError;

/// One known value.
#[derive(Clone, Debug, PartialEq)]
pub enum Category {
    /// A number; truth values are 0 and 1.
    Number(f64),
    /// A text.
    Text(String),
    /// A date or a time, which requests write as ISO 8601 does.
    Date(DateTime),
    /// `None` or NaN. Where both are categories, `null` on the wire is the first.
    Missing,
    /// What has a place among the categories, but is never found.
    Never,
}

/// The known values of one column, all numbers, all texts or all dates.
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
    Dates(HashMap<DateTime, usize>),
}

/// Longer texts are cut in messages.
const SHOWN_CHARS_MAX: usize = 64;

impl Categories {
    /// Returns the categories in their order.
    ///
    /// # Errors
    /// [`SpecError`] if numbers, texts and dates are mixed, or dates with and without time zones.
    pub fn try_new(categories: &[Category]) -> Result<Self, SpecError> {
        let mut numbers = Vec::new();
        let mut texts = HashMap::new();
        let mut dates: HashMap<DateTime, usize> = HashMap::new();
        let mut missing = None;
        for (position, category) in categories.iter().enumerate() {
            match category {
                Category::Number(number) => numbers.push((*number, position)),
                Category::Text(text) => {
                    texts.entry(Box::from(text.as_bytes())).or_insert(position);
                }
                Category::Date(date) => {
                    dates.entry(*date).or_insert(position);
                }
                Category::Missing => missing = missing.or(Some(position)),
                Category::Never => {}
            }
        }
        let n_kinds = [!numbers.is_empty(), !texts.is_empty(), !dates.is_empty()];
        if n_kinds.into_iter().filter(|&is_there| is_there).count() > 1 {
            return Err(SpecError::new(
                "categories that mix numbers, texts and dates are not supported",
            ));
        }
        let with_zone = dates.keys().filter(|date| date.has_zone()).count();
        if with_zone > 0 && with_zone < dates.len() {
            return Err(SpecError::new(
                "dates with and without time zones are not supported together",
            ));
        }
        numbers.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        Ok(Self {
            n_categories: categories.len(),
            missing,
            known: match (texts.is_empty(), dates.is_empty()) {
                (true, true) => Known::Numbers(numbers),
                (true, false) => Known::Dates(dates),
                (false, _) => Known::Texts(texts),
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
            Known::Dates(dates) => {
                let first = dates.iter().min_by_key(|(_, position)| **position);
                first.map(|(date, _)| KnownValue::Date(date.to_string()))
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
            Known::Texts(_) | Known::Dates(_) => ColumnKind::Text,
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
            Known::Dates(dates) => hash_table_bytes::<(DateTime, usize)>(dates.capacity()),
        }
    }

    /// Returns the place of a number that is not missing.
    pub(crate) fn position_of(&self, number: f64) -> Option<usize> {
        match &self.known {
            Known::Numbers(numbers) => find(numbers, number),
            Known::Texts(_) | Known::Dates(_) => None,
        }
    }

    /// Returns the position of the value at `row` and `column` of `table`; `None` if it is no category.
    ///
    /// # Errors
    /// Kind `DTypeMismatch` for a text where the categories are numbers or the other way round, and for one that is no date
    /// where they are dates; `ValueOutOfRange` for an infinite number.
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
            (Cell::Text(Some(text)), Known::Dates(dates)) => {
                let has_zone = dates.keys().next().is_some_and(|date| date.has_zone());
                match DateTime::parse_like(text, has_zone) {
                    Some(date) => Ok(dates.get(&date).copied()),
                    None if has_zone => wrong(
                        RunErrorKind::DTypeMismatch,
                        "expected a date and time with its offset from UTC, as ISO 8601 writes it (2024-01-31T09:30:00+01:00)",
                    ),
                    None => wrong(
                        RunErrorKind::DTypeMismatch,
                        "expected a date, or a date and time without an offset, as ISO 8601 writes it (2024-01-31, 2024-01-31T09:30:00)",
                    ),
                }
            }
            (Cell::Number(_), Known::Texts(_) | Known::Dates(_)) => wrong(
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
        let date = |has_zone| Category::Date(DateTime::new(0, has_zone));
        assert!(Categories::try_new(&[date(true), Category::Number(1.0)]).is_err());
        assert!(Categories::try_new(&[date(true), date(false)]).is_err());
    }

    #[test]
    fn dates_are_found_by_the_time_that_they_mean() {
        let date = |text: &str| Category::Date(DateTime::parse(text.as_bytes()).unwrap());
        let local = [
            date("2024-01-31"),
            Category::Missing,
            date("2024-02-01T09:30"),
        ];
        let zoned = [date("2024-01-31T00:00Z"), date("2024-02-01T09:30+01:00")];
        let local = Categories::try_new(&local).unwrap();
        let zoned = Categories::try_new(&zoned).unwrap();
        let cases = [
            ("2024-01-31T00:00:00.000", Ok(Some(0)), Err(())),
            ("2024-02-01T09:30:00Z", Ok(Some(2)), Ok(None)),
            ("2024-02-01T08:30:00Z", Ok(None), Ok(Some(1))),
            ("2024-01-31T02:00:00+02:00", Err(()), Ok(Some(0))),
            ("2024-01-30", Ok(None), Err(())),
            ("31.1.2024", Err(()), Err(())),
        ];
        for (text, local_at, zoned_at) in cases {
            let mut texts = ByteStrings::new();
            texts.push(text.as_bytes());
            let table = Table::Columns(Columns::try_new(vec![Column::Text(&texts)]).unwrap());
            let at = |dates: &Categories| dates.position(&table, 0, 0, "0").map_err(drop);
            assert_eq!((at(&local), at(&zoned)), (local_at, zoned_at), "{text}");
        }
        assert_eq!(
            local.first(),
            Some(KnownValue::Date("2024-01-31".to_owned()))
        );
    }
}
