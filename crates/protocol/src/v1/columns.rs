//! Decoding the instances of a model of columns, straight into a buffer per column.

use std::borrow::Cow;
use std::fmt;

use coracle_model::{ColumnPlace, NameRules, TensorSpec};
use coracle_tensor::{DType, Tensor};
use serde::de::{
    DeserializeSeed, Deserializer, Error, IgnoredAny, IntoDeserializer, MapAccess, SeqAccess,
    Visitor,
};

use super::{csv, split};
use crate::cell::{CellPlace, CellSeed, ColumnBuffer};
use crate::column_names;
use crate::error::quoted;
use crate::unknown::{self, UnknownNames};

/// What instances are checked against.
#[derive(Clone, Copy)]
pub(super) struct ColumnLimits<'a> {
    /// The columns of a row.
    pub(super) places: &'a [ColumnPlace],
    /// The model's inputs.
    pub(super) inputs: &'a [TensorSpec],
    pub(super) elements_max: usize,
    pub(super) name_rules: NameRules,
}

impl<'a> ColumnLimits<'a> {
    /// Returns the input that the column at `position` of a row is for, and the column.
    fn place(&self, position: usize) -> Option<(&'a ColumnPlace, Option<(usize, &'a TensorSpec)>)> {
        let place = self.places.get(position)?;
        let input = place.input;
        Some((
            place,
            input.and_then(|input| Some((input, self.inputs.get(input)?))),
        ))
    }

    fn position(&self, name: &str) -> Option<usize> {
        let names = self.places.iter().map(|place| place.name.as_str());
        column_names::position(names, name, self.name_rules)
    }

    /// Returns the position of the column that is called `name`, most likely `expected`: columns mostly come in the model's order.
    fn position_from(&self, expected: usize, name: &str) -> Option<usize> {
        match self.places.get(expected) {
            Some(place) if place.name == name => Some(expected),
            _ => self.position(name),
        }
    }

    /// Returns the names of the columns that must be there, for messages.
    fn names(&self) -> String {
        let read = self.places.iter().filter(|place| place.input.is_some());
        unknown::listed(read.map(|place| place.name.as_str()))
    }

    fn is_single(&self) -> bool {
        self.places.len() == 1
    }

    /// Tells whether columns had names when the model was fitted.
    fn is_named(&self) -> bool {
        let mut numbered = self.places.iter().enumerate();
        let is_numbered = numbered.all(|(number, place)| place.name == format!("x{number}"));
        !is_numbered && !matches!(self.places, [only] if only.name == "X")
    }

    /// Returns what the column of a table of CSV that goes to `position` of a row is read as.
    pub(super) fn csv_kind(&self, position: Option<usize>) -> csv::Kind {
        let place = position.and_then(|position| self.place(position));
        match place.and_then(|(_, input)| input) {
            Some((_, spec)) if spec.dtype != DType::Bytes => csv::Kind::Numbers,
            Some((_, spec)) if spec.accepts_integers => csv::Kind::Categories,
            _ => csv::Kind::Texts,
        }
    }
}

/// Reads all instances: a list of rows, or an object of columns.
pub(super) struct ColumnsSeed<'a> {
    pub(super) key: &'static str,
    pub(super) limits: ColumnLimits<'a>,
}

impl ColumnsSeed<'_> {
    fn buffers(&self) -> Vec<ColumnBuffer> {
        let inputs = self.limits.inputs.iter();
        inputs.map(|input| ColumnBuffer::new(input.dtype)).collect()
    }

    /// Returns the buffers as tensors, which must be of one length.
    fn finish<E: Error>(&self, buffers: Vec<ColumnBuffer>) -> Result<Vec<Tensor>, E> {
        let n_rows = buffers.first().map_or(0, ColumnBuffer::len);
        for (buffer, input) in buffers.iter().zip(self.limits.inputs) {
            if buffer.len() != n_rows {
                return Err(E::custom(format_args!(
                    "{}: column {} has {} values, others have {n_rows}",
                    self.key,
                    quoted(&input.name),
                    buffer.len()
                )));
            }
        }
        if n_rows == 0 {
            let key = self.key;
            return Err(E::custom(format_args!(
                "\"{key}\" is empty; at least one row is needed"
            )));
        }
        Ok(buffers.into_iter().map(ColumnBuffer::into_tensor).collect())
    }

    fn too_many<E: Error>(&self) -> E {
        let most = self.limits.elements_max;
        E::custom(format_args!(
            "more than {most} values; send smaller batches"
        ))
    }
}

impl<'de> DeserializeSeed<'de> for ColumnsSeed<'_> {
    type Value = Vec<Tensor>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<Tensor>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ColumnsSeed<'_> {
    type Value = Vec<Tensor>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" to be a list of rows", self.key)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<Vec<Tensor>, A::Error> {
        let mut read = ColumnsRows::new(self.key, self.limits);
        let mut row = 0_usize;
        loop {
            if rows.next_element_seed(read.seed(row))?.is_none() {
                return read.all.finish(read.buffers);
            }
            read.check_size()?;
            row = row.saturating_add(1);
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Vec<Tensor>, A::Error> {
        let mut buffers = self.buffers();
        let mut seen = vec![false; self.limits.places.len()];
        let mut expected = 0_usize;
        while let Some(name) = entries.next_key::<Cow<'_, str>>()? {
            let name_at = (expected, name.as_ref());
            let Some(position) = mark(self.limits, &mut seen, name_at, self.key)? else {
                if self.limits.name_rules.mlflow_names_columns {
                    entries.next_value::<IgnoredAny>()?;
                    continue;
                }
                return Err(unknown_among(self.limits, &name, entries, self.key));
            };
            expected = position.saturating_add(1);
            let Some((place, Some((input, spec)))) = self.limits.place(position) else {
                entries.next_value::<IgnoredAny>()?;
                continue;
            };
            let Some(buffer) = buffers.get_mut(input) else {
                continue;
            };
            entries.next_value_seed(ColumnSeed {
                noun: "column",
                name: &place.name,
                n_values_max: self.limits.elements_max,
                elements_max: self.limits.elements_max,
                may_be_plain: self.limits.name_rules.mlflow_names_columns,
                cells: BufferedColumn {
                    key: self.key,
                    name: &place.name,
                    spec,
                    buffer,
                },
            })?;
            let n_elements: usize = buffers.iter().map(ColumnBuffer::len).sum();
            if n_elements > self.limits.elements_max {
                return Err(self.too_many());
            }
        }
        refuse_absent(self.limits, &seen, self.key)?;
        self.finish(buffers)
    }
}

/// Columns that are read row by row.
pub(super) struct ColumnsRows<'a> {
    all: ColumnsSeed<'a>,
    buffers: Vec<ColumnBuffer>,
    seen: Vec<bool>,
    n_elements: usize,
}

impl<'a> ColumnsRows<'a> {
    pub(super) fn new(key: &'static str, limits: ColumnLimits<'a>) -> Self {
        let all = ColumnsSeed { key, limits };
        Self {
            buffers: all.buffers(),
            all,
            seen: Vec::new(),
            n_elements: 0,
        }
    }

    fn seed(&mut self, row: usize) -> RowSeed<'a, '_> {
        RowSeed {
            key: self.all.key,
            row,
            limits: self.all.limits,
            buffers: &mut self.buffers,
            seen: &mut self.seen,
        }
    }

    fn check_size<E: Error>(&mut self) -> Result<(), E> {
        let limits = self.all.limits;
        self.n_elements = self.n_elements.saturating_add(limits.places.len());
        if self.n_elements > limits.elements_max {
            return Err(self.all.too_many());
        }
        Ok(())
    }
}

impl split::Rows for ColumnsRows<'_> {
    type Table = Vec<Tensor>;

    fn is_named(&self) -> bool {
        self.all.limits.is_named()
    }

    fn passes_over_unknown(&self) -> bool {
        self.all.limits.name_rules.mlflow_names_columns
    }

    fn positions(&self, names: &[Cow<'_, str>]) -> Vec<Option<usize>> {
        let limits = self.all.limits;
        let known = limits.places.iter().map(|place| place.name.as_str());
        column_names::positions(known, names, limits.name_rules)
    }

    fn row<'de, D: Deserializer<'de>>(&mut self, row: usize, cells: D) -> Result<(), D::Error> {
        self.seed(row).deserialize(cells)?;
        self.check_size()
    }

    fn finish<E: Error>(self, _n_rows: usize) -> Result<Vec<Tensor>, E> {
        self.all.finish(self.buffers)
    }
}

/// Notes a column by name, most likely that at `expected`; `None` if the model has no such column.
fn mark<E: Error>(
    limits: ColumnLimits<'_>,
    seen: &mut [bool],
    (expected, name): (usize, &str),
    at: impl fmt::Display,
) -> Result<Option<usize>, E> {
    let Some(position) = limits.position_from(expected, name) else {
        return Ok(None);
    };
    match seen.get_mut(position) {
        Some(seen) if !*seen => *seen = true,
        _ => {
            let name = quoted(name);
            return Err(E::custom(format_args!("{at}: column {name} occurs twice")));
        }
    }
    Ok(Some(position))
}

/// Returns the refusal of an object whose key `first` is unknown, and whatever keys after it are.
fn unknown_among<'de, A: MapAccess<'de>>(
    limits: ColumnLimits<'_>,
    first: &str,
    entries: A,
    at: impl fmt::Display,
) -> A::Error {
    let is_known = |name: &str| limits.position(name).is_some();
    match UnknownNames::of_rest("column", first, entries, is_known) {
        Ok(unknown) => {
            let all = limits.names();
            A::Error::custom(format_args!("{at}: {unknown}; the model has {all}"))
        }
        Err(error) => error,
    }
}

fn refuse_absent<E: Error>(
    limits: ColumnLimits<'_>,
    seen: &[bool],
    at: impl fmt::Display,
) -> Result<(), E> {
    let absent = limits.places.iter().zip(seen);
    let mut absent = absent
        .filter(|(place, seen)| place.input.is_some() && !**seen)
        .map(|(place, _)| place.name.as_str())
        .peekable();
    if absent.peek().is_none() {
        return Ok(());
    }
    let absent = unknown::listed(absent);
    Err(E::custom(format_args!("{at}: columns missing: {absent}")))
}

/// Where the values of one column go.
pub(super) trait ColumnCells {
    /// Returns the number of values that are there.
    fn n_values(&self) -> usize;

    /// Returns the reader of the next value.
    fn next<'de>(&mut self) -> impl DeserializeSeed<'de, Value = ()>;
}

/// Reads the values of one column.
pub(super) struct ColumnSeed<'a, C> {
    /// What messages call it.
    pub(super) noun: &'static str,
    pub(super) name: &'a str,
    /// The most values that it may have.
    pub(super) n_values_max: usize,
    pub(super) elements_max: usize,
    /// Whether its only value need not be a list, as MLflow's server takes it.
    pub(super) may_be_plain: bool,
    pub(super) cells: C,
}

impl<'de, C: ColumnCells> DeserializeSeed<'de> for ColumnSeed<'_, C> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.may_be_plain {
            true => deserializer.deserialize_any(self),
            false => deserializer.deserialize_seq(self),
        }
    }
}

impl<C: ColumnCells> ColumnSeed<'_, C> {
    /// Reads the only value of the column, which need not be a list.
    fn only<'de, E: Error>(mut self, value: impl IntoDeserializer<'de, E>) -> Result<(), E> {
        self.cells.next().deserialize(value.into_deserializer())
    }
}

impl<'de, C: ColumnCells> Visitor<'de> for ColumnSeed<'_, C> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} to be a list of values",
            self.noun,
            quoted(self.name)
        )
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

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.only(value)
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.only(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut cells: A) -> Result<(), A::Error> {
        while self.cells.n_values() <= self.n_values_max {
            if cells.next_element_seed(self.cells.next())?.is_none() {
                return Ok(());
            }
        }
        let most = self.elements_max;
        Err(A::Error::custom(format_args!(
            "more than {most} values; send smaller batches"
        )))
    }
}

/// A column of a model of columns.
struct BufferedColumn<'a, 'b> {
    key: &'static str,
    name: &'a str,
    spec: &'a TensorSpec,
    buffer: &'b mut ColumnBuffer,
}

impl ColumnCells for BufferedColumn<'_, '_> {
    fn n_values(&self) -> usize {
        self.buffer.len()
    }

    fn next<'de>(&mut self) -> impl DeserializeSeed<'de, Value = ()> {
        CellSeed {
            place: CellPlace {
                key: self.key,
                row: self.buffer.len(),
                column: self.name,
            },
            accepts_missing: self.spec.accepts_missing,
            accepts_integers: self.spec.accepts_integers,
            buffer: &mut *self.buffer,
        }
    }
}

/// Reads one row to the end of every column.
struct RowSeed<'a, 'b> {
    key: &'static str,
    row: usize,
    limits: ColumnLimits<'a>,
    buffers: &'b mut [ColumnBuffer],
    /// Which columns of an object were there; kept from row to row.
    seen: &'b mut Vec<bool>,
}

impl<'a> RowSeed<'a, '_> {
    fn not_a_row<E: Error>(&self, what: &str) -> E {
        let (key, row, n_columns) = (self.key, self.row, self.limits.places.len());
        E::custom(format_args!(
            "{key}[{row}]: {what}; each row is a list of {n_columns} values, or an object by column name"
        ))
    }

    /// Returns the reader of the cell at `position`; `None` where it is not read.
    fn cell(&mut self, position: usize) -> Option<CellSeed<'_, 'a>> {
        let (place, input) = self.limits.place(position)?;
        let (input, spec) = input?;
        Some(CellSeed {
            place: CellPlace {
                key: self.key,
                row: self.row,
                column: &place.name,
            },
            accepts_missing: spec.accepts_missing,
            accepts_integers: spec.accepts_integers,
            buffer: self.buffers.get_mut(input)?,
        })
    }

    /// Reads a row that is a plain value, where the model has one column.
    fn only<'de, E: Error>(
        mut self,
        value: impl IntoDeserializer<'de, E>,
        what: &str,
    ) -> Result<(), E> {
        if self.limits.is_single()
            && let Some(cell) = self.cell(0)
        {
            return cell.deserialize(value.into_deserializer());
        }
        Err(self.not_a_row(what))
    }
}

impl<'de> DeserializeSeed<'de> for RowSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for RowSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of {} values", self.limits.places.len())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut cells: A) -> Result<(), A::Error> {
        let n_columns = self.limits.places.len();
        let mut position = 0_usize;
        loop {
            let more = match self.cell(position) {
                Some(cell) => cells.next_element_seed(cell)?.is_some(),
                None => cells.next_element::<IgnoredAny>()?.is_some(),
            };
            if !more {
                break;
            }
            position = position.saturating_add(1);
        }
        if position != n_columns {
            let (key, row, names) = (self.key, self.row, self.limits.names());
            return Err(A::Error::custom(format_args!(
                "{key}[{row}]: {position} values, model expects {n_columns} ({names})"
            )));
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<(), A::Error> {
        self.seen.clear();
        self.seen.resize(self.limits.places.len(), false);
        let at = RowName(self.key, self.row);
        let mut expected = 0_usize;
        while let Some(name) = entries.next_key::<Cow<'_, str>>()? {
            let name_at = (expected, name.as_ref());
            let Some(position) = mark(self.limits, self.seen, name_at, at)? else {
                if self.limits.name_rules.mlflow_names_columns {
                    entries.next_value::<IgnoredAny>()?;
                    continue;
                }
                return Err(unknown_among(self.limits, &name, entries, at));
            };
            expected = position.saturating_add(1);
            match self.cell(position) {
                Some(cell) => entries.next_value_seed(cell)?,
                None => drop(entries.next_value::<IgnoredAny>()?),
            }
        }
        refuse_absent(self.limits, self.seen, at)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.only(value, "a number")
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.only(value, "a number")
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.only(value, "a number")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.only(value, "a truth value")
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.only(value, "a string")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.only((), "null")
    }
}

/// The place of a row, for messages.
#[derive(Clone, Copy)]
struct RowName(&'static str, usize);

impl fmt::Display for RowName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.0, self.1)
    }
}
