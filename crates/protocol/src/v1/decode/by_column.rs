//! A table of numbers that comes as an object of columns.

use std::borrow::Cow;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess};

use super::{Cell, Column, RowsLimits, unknown_feature};
use crate::error::quoted;
use crate::number::ElementSeed;
use crate::unknown;
use crate::v1::columns::{ColumnCells, ColumnSeed};

/// Reads columns in any order into a row-major table.
///
/// # Errors
/// Of the deserializer's type, naming the column at fault.
pub(super) fn read<'de, A: MapAccess<'de>>(
    key: &'static str,
    rows: RowsLimits<'_>,
    mut entries: A,
) -> Result<Vec<f64>, A::Error> {
    let Some(names) = &rows.spec.columns else {
        return Err(A::Error::custom(format_args!(
            "{key}: an object of columns, but the model was fitted without feature names; send a list of rows"
        )));
    };
    let mut table: Vec<f64> = Vec::new();
    let mut n_rows = None;
    let mut seen = vec![false; names.len()];
    let mut values = Vec::new();
    while let Some(name) = entries.next_key::<Cow<'_, str>>()? {
        let Some(index) = rows.position(&name) else {
            if rows.name_rules.mlflow_names_columns {
                entries.next_value::<IgnoredAny>()?;
                continue;
            }
            return Err(unknown_feature(rows, &name, entries, key));
        };
        match seen.get_mut(index) {
            Some(seen) if !*seen => *seen = true,
            _ => {
                let name = quoted(&name);
                return Err(A::Error::custom(format_args!(
                    "{key}: feature {name} occurs twice"
                )));
            }
        }
        values.clear();
        entries.next_value_seed(ColumnSeed {
            noun: "feature",
            name: &name,
            // All columns together hold no more than the limit.
            n_values_max: rows.elements_max.checked_div(names.len()).unwrap_or(0),
            elements_max: rows.elements_max,
            may_be_plain: rows.name_rules.mlflow_names_columns,
            cells: NumberColumn {
                key,
                name: &name,
                accepts_missing: rows.spec.accepts_missing,
                values: &mut values,
            },
        })?;
        let expected = *n_rows.get_or_insert(values.len());
        if values.len() != expected {
            let name = quoted(&name);
            return Err(A::Error::custom(format_args!(
                "{key}: feature {name} has {} values, others have {expected}",
                values.len()
            )));
        }
        table.resize(expected.saturating_mul(names.len()), 0.0);
        let cells = table.iter_mut().skip(index).step_by(names.len().max(1));
        for (cell, value) in cells.zip(&values) {
            *cell = *value;
        }
    }
    if let Some(absent) = unknown::absent(names.iter().map(String::as_str), &seen) {
        return Err(A::Error::custom(format_args!(
            "{key}: features missing: {absent}"
        )));
    }
    if table.is_empty() {
        return Err(A::Error::custom(format_args!(
            "\"{key}\" is empty; at least one row is needed"
        )));
    }
    Ok(table)
}

/// A column of a table of numbers.
struct NumberColumn<'a, 'v> {
    key: &'static str,
    name: &'a str,
    accepts_missing: bool,
    values: &'v mut Vec<f64>,
}

impl ColumnCells for NumberColumn<'_, '_> {
    fn n_values(&self) -> usize {
        self.values.len()
    }

    fn next<'de>(&mut self) -> impl DeserializeSeed<'de, Value = ()> {
        let place = Cell {
            key: self.key,
            row: self.values.len(),
            column: Column::Name(self.name),
        };
        NumberSeed {
            element: ElementSeed::new(place, self.accepts_missing),
            values: &mut *self.values,
        }
    }
}

/// Reads a number to the end of a column.
struct NumberSeed<'a, 'v> {
    element: ElementSeed<f64, Cell<'a>>,
    values: &'v mut Vec<f64>,
}

impl<'de> DeserializeSeed<'de> for NumberSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.values.push(self.element.deserialize(deserializer)?);
        Ok(())
    }
}
