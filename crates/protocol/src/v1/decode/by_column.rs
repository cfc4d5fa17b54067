//! A table of numbers that comes as an object of columns.

use std::borrow::Cow;
use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, Error, IgnoredAny, IntoDeserializer, MapAccess, SeqAccess,
    Visitor,
};

use super::{Cell, Column, RowsLimits, unknown_feature};
use crate::error::quoted;
use crate::number::ElementSeed;
use crate::unknown;

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
            key,
            name: &name,
            rows,
            values: &mut values,
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

/// Reads the values of one column; all columns together hold no more than the limit.
struct ColumnSeed<'a, 'v> {
    key: &'static str,
    name: &'a str,
    rows: RowsLimits<'a>,
    values: &'v mut Vec<f64>,
}

impl<'de> DeserializeSeed<'de> for ColumnSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.rows.name_rules.mlflow_names_columns {
            true => deserializer.deserialize_any(self),
            false => deserializer.deserialize_seq(self),
        }
    }
}

impl ColumnSeed<'_, '_> {
    /// Reads the next value of the column.
    fn cell(&self) -> ElementSeed<f64, Cell<'_>> {
        let place = Cell {
            key: self.key,
            row: self.values.len(),
            column: Column::Name(self.name),
        };
        ElementSeed::new(place, self.rows.spec.accepts_missing)
    }

    /// Reads the only value of the column, which need not be a list where MLflow's server takes it.
    fn only<'de, E: Error>(self, value: impl IntoDeserializer<'de, E>) -> Result<(), E> {
        let value = self.cell().deserialize(value.into_deserializer())?;
        self.values.push(value);
        Ok(())
    }
}

impl<'de> Visitor<'de> for ColumnSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "feature {} to be a list of values", quoted(self.name))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.only(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.only(value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.only(value)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.only(value)
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.only(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut cells: A) -> Result<(), A::Error> {
        let n_columns = self.rows.n_columns.max(1);
        loop {
            let Some(value) = cells.next_element_seed(self.cell())? else {
                return Ok(());
            };
            self.values.push(value);
            if self.values.len().saturating_mul(n_columns) > self.rows.elements_max {
                let most = self.rows.elements_max;
                return Err(A::Error::custom(format_args!(
                    "more than {most} values; send smaller batches"
                )));
            }
        }
    }
}
