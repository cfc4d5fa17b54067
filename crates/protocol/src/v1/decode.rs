//! Decoding a V1 request, straight into the table's buffer.

mod by_column;

use std::borrow::Cow;
use std::fmt;

use coracle_model::{NameRules, TensorSpec};
use coracle_tensor::{DType, Tensor, Values};
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, IntoDeserializer, MapAccess, SeqAccess,
    Visitor,
};

use super::columns::{ColumnLimits, ColumnsRows, ColumnsSeed};
use super::csv;
use super::plain;
use super::split::{self, SplitSeed};
use super::tensors;
use crate::error::quoted;
use crate::number::{ElementSeed, Place};
use crate::parameters::{Parameters, choose_outputs};
use crate::tfs::signature_outputs;
use crate::unknown::{self, UnknownNames};
use crate::{Call, DecodeContext, Layout, RequestError, column_names};

/// Decodes the body of `POST /v1/models/M:predict`.
///
/// `instances` (or `inputs`, which means the same, or MLflow's `dataframe_records`) holds rows: lists of values (under the name of the only input, too), or objects by
/// feature name; plain values where a model takes one column. It may be an object of columns, too, where features have names. A model of other tensors takes, in lists of any
/// depth, the values of its only input, or objects with a value for each input. `null` is a missing value. MLflow's `dataframe_split` has the columns' names beside
/// rows that are lists. `parameters.method` chooses the output.
///
/// # Errors
/// Code `InvalidArgument` naming the row and column at fault.
pub fn decode_predict(body: &[u8], ctx: &DecodeContext<'_>) -> Result<Call, RequestError> {
    let name_rules = NameRules {
        mlflow_names_columns: false,
        ..ctx.signature.name_rules
    };
    decode(body, ctx, name_rules)
}

/// Decodes the body of `POST /invocations`, MLflow's path: as [`decode_predict`], but what the signature of an MLflow model does not name is
/// passed over.
///
/// # Errors
/// As [`decode_predict`].
pub fn decode_invocations(body: &[u8], ctx: &DecodeContext<'_>) -> Result<Call, RequestError> {
    decode(body, ctx, ctx.signature.name_rules)
}

/// Decodes a table of comma-separated values to `POST /invocations`, MLflow's path: its columns are told apart as in [`decode_invocations`].
///
/// # Errors
/// Code `InvalidArgument` naming the row and column at fault, or a model that takes no table.
pub fn decode_csv(body: &[u8], ctx: &DecodeContext<'_>) -> Result<Call, RequestError> {
    let invalid = |error: &dyn fmt::Display| RequestError::invalid(error.to_string());
    let text = std::str::from_utf8(body);
    let text = text.map_err(|error| invalid(&format_args!("the table is not UTF-8: {error}")))?;
    let outputs = choose_outputs(ctx, None)?;
    match target(ctx, ctx.signature.name_rules) {
        Some(Target::Matrix(rows)) => {
            let read = TableRows::new(csv::KEY, rows);
            let table = csv::read(text, read, |_| csv::Kind::Numbers);
            table_call(table.map_err(|error| invalid(&error))?, rows, outputs)
        }
        Some(Target::Columns(limits)) => {
            let read = ColumnsRows::new(csv::KEY, limits);
            let inputs = csv::read(text, read, |position| limits.csv_kind(position));
            let inputs = inputs.map_err(|error| invalid(&error))?;
            Ok(Call {
                n_rows: inputs.first().map_or(0, Tensor::n_rows),
                inputs,
                outputs,
                ..Call::default()
            })
        }
        None => Err(RequestError::invalid(
            "the model takes no table that CSV could be; send JSON such as {\"instances\": [...]}",
        )),
    }
}

fn decode(
    body: &[u8],
    ctx: &DecodeContext<'_>,
    name_rules: NameRules,
) -> Result<Call, RequestError> {
    let target = target(ctx, name_rules);
    if let Some(Target::Matrix(rows)) = target
        && let Some(values) = plain::rows(body, rows.n_columns, rows.elements_max)
    {
        return table_call(values, rows, choose_outputs(ctx, None)?);
    }
    if body.iter().all(u8::is_ascii_whitespace) {
        let message = "the request body is empty; send JSON such as {\"instances\": [[1.0, 2.0]]}";
        return Err(RequestError::invalid(message));
    }
    let Some(target) = target else {
        return tensors::decode(body, ctx);
    };
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let request = RequestSeed { target }
        .deserialize(&mut deserializer)
        .and_then(|request| deserializer.end().map(|()| request))
        .map_err(|error| RequestError::from_json(body, &error))?;
    let outputs = match &request.signature_name {
        Some(name) => signature_outputs(ctx, name)?,
        None => choose_outputs(ctx, request.parameters.method.as_deref())?,
    };
    let Some(table) = request.table else {
        let message = "the request has neither \"instances\" nor \"inputs\"; send {\"instances\": [[...], ...]}, or MLflow's \"dataframe_split\" or \"dataframe_records\"";
        return Err(RequestError::invalid(message));
    };
    let (inputs, n_rows) = match (table, target) {
        (Instances::Columns(columns), _) => {
            let n_rows = columns.first().map_or(0, Tensor::n_rows);
            (columns, n_rows)
        }
        (Instances::Matrix(values), Target::Matrix(rows)) => {
            return Ok(Call {
                layout: request.layout,
                timeout: request.parameters.timeout(),
                priority: request.parameters.priority(),
                ..table_call(values, rows, outputs)?
            });
        }
        (Instances::Matrix(_), Target::Columns(_)) => {
            return Err(RequestError::invalid("the instances are no columns"));
        }
    };
    Ok(Call {
        inputs,
        outputs,
        n_rows,
        layout: request.layout,
        timeout: request.parameters.timeout(),
        priority: request.parameters.priority(),
        ..Call::default()
    })
}

/// Returns the call of a model with one table.
fn table_call(
    values: Vec<f64>,
    rows: RowsLimits<'_>,
    outputs: Vec<usize>,
) -> Result<Call, RequestError> {
    let n_rows = values.len().checked_div(rows.n_columns).unwrap_or(0);
    let table = Tensor::try_new(vec![n_rows, rows.n_columns], Values::F64(values.into()))
        .map_err(|error| RequestError::invalid(error.to_string()))?;
    Ok(Call {
        inputs: vec![table],
        outputs,
        n_rows,
        ..Call::default()
    })
}

/// Where instances go.
#[derive(Clone, Copy)]
enum Target<'a> {
    /// One table of doubles.
    Matrix(RowsLimits<'a>),
    /// A buffer for each column.
    Columns(ColumnLimits<'a>),
}

/// What instances became.
enum Instances {
    Matrix(Vec<f64>),
    Columns(Vec<Tensor>),
}

/// Returns what instances are to become, for models of one table.
fn target<'a>(ctx: &DecodeContext<'a>, name_rules: NameRules) -> Option<Target<'a>> {
    let elements_max = ctx.elements_max;
    if let Some(places) = &ctx.signature.columns {
        return Some(Target::Columns(ColumnLimits {
            places,
            inputs: &ctx.signature.inputs,
            elements_max,
            name_rules,
        }));
    }
    if let [spec] = ctx.signature.inputs.as_slice()
        && let Some(n_columns) = spec.n_columns()
        && !matches!(spec.dtype, DType::Bytes | DType::Bool)
    {
        return Some(Target::Matrix(RowsLimits {
            spec,
            n_columns,
            elements_max,
            name_rules,
        }));
    }
    None
}

/// What rows are checked against.
#[derive(Clone, Copy)]
struct RowsLimits<'a> {
    spec: &'a TensorSpec,
    n_columns: usize,
    elements_max: usize,
    name_rules: NameRules,
}

impl RowsLimits<'_> {
    /// Returns which column a name means.
    fn position(&self, name: &str) -> Option<usize> {
        let names = self.spec.columns.as_deref()?;
        column_names::position_in(names, name, self.name_rules)
    }
}

/// Returns the refusal of an object whose key `first` is no feature, with whatever other keys are none.
fn unknown_feature<'de, A: MapAccess<'de>>(
    rows: RowsLimits<'_>,
    first: &str,
    entries: A,
    at: impl fmt::Display,
) -> A::Error {
    let names = rows.spec.columns.as_deref().unwrap_or_default();
    let is_known = |name: &str| rows.position(name).is_some();
    match UnknownNames::of_rest("feature", first, entries, is_known) {
        Ok(unknown) => {
            let all = unknown::listed(names.iter().map(String::as_str));
            A::Error::custom(format_args!("{at}: {unknown}; the model has {all}"))
        }
        Err(error) => error,
    }
}

struct Request {
    table: Option<Instances>,
    layout: Layout,
    /// TensorFlow Serving's name for the outputs that are wanted.
    signature_name: Option<String>,
    parameters: Parameters,
}

struct RequestSeed<'a> {
    target: Target<'a>,
}

impl<'de> DeserializeSeed<'de> for RequestSeed<'_> {
    type Value = Request;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Request, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for RequestSeed<'_> {
    type Value = Request;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with \"instances\"")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Request, A::Error> {
        let mut request = Request {
            table: None,
            layout: Layout::Rows,
            signature_name: None,
            parameters: Parameters::default(),
        };
        while let Some(key) = entries.next_key::<Cow<'_, str>>()? {
            match key.as_ref() {
                key @ ("instances" | "inputs" | "dataframe_records" | split::KEY) => {
                    if request.table.is_some() {
                        let message =
                            format!("\"{key}\" comes after another list of instances; send one");
                        return Err(A::Error::custom(message));
                    }
                    let key = match key {
                        "inputs" => {
                            request.layout = Layout::Both;
                            "inputs"
                        }
                        split::KEY => split::KEY,
                        "dataframe_records" => "dataframe_records",
                        _ => "instances",
                    };
                    request.table = Some(match self.target {
                        Target::Matrix(rows) if key == split::KEY => {
                            let seed = SplitSeed(TableRows::new(key, rows));
                            Instances::Matrix(entries.next_value_seed(seed)?)
                        }
                        Target::Columns(limits) if key == split::KEY => {
                            let seed = SplitSeed(ColumnsRows::new(key, limits));
                            Instances::Columns(entries.next_value_seed(seed)?)
                        }
                        Target::Matrix(rows) => {
                            Instances::Matrix(entries.next_value_seed(TableSeed { key, rows })?)
                        }
                        Target::Columns(limits) => {
                            let seed = ColumnsSeed { key, limits };
                            Instances::Columns(entries.next_value_seed(seed)?)
                        }
                    });
                }
                "signature_name" => request.signature_name = entries.next_value()?,
                "parameters" => request.parameters = entries.next_value()?,
                _ => drop(entries.next_value::<IgnoredAny>()?),
            }
        }
        Ok(request)
    }
}

/// Reads the list of rows.
struct TableSeed<'a> {
    key: &'static str,
    rows: RowsLimits<'a>,
}

impl<'de> DeserializeSeed<'de> for TableSeed<'_> {
    type Value = Vec<f64>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<f64>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for TableSeed<'_> {
    type Value = Vec<f64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" to be a list of rows", self.key)
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Vec<f64>, A::Error> {
        by_column::read(self.key, self.rows, entries)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<Vec<f64>, A::Error> {
        let mut table = TableRows::new(self.key, self.rows);
        let mut row = 0_usize;
        loop {
            if rows.next_element_seed(table.seed(row))?.is_none() {
                return split::Rows::finish(table, row);
            }
            table.check_size()?;
            row = row.saturating_add(1);
        }
    }
}

/// A table that is read row by row.
struct TableRows<'a> {
    key: &'static str,
    rows: RowsLimits<'a>,
    table: Vec<f64>,
    /// Which features of an object were there; kept from row to row.
    seen: Vec<bool>,
}

impl<'a> TableRows<'a> {
    fn new(key: &'static str, rows: RowsLimits<'a>) -> Self {
        Self {
            key,
            rows,
            table: Vec::with_capacity(rows.n_columns.min(rows.elements_max)),
            seen: Vec::new(),
        }
    }

    fn seed(&mut self, row: usize) -> RowSeed<'a, '_> {
        RowSeed {
            key: self.key,
            row,
            rows: self.rows,
            table: &mut self.table,
            seen: &mut self.seen,
            is_named: false,
        }
    }

    fn check_size<E: serde::de::Error>(&self) -> Result<(), E> {
        let most = self.rows.elements_max;
        if self.table.len() > most {
            return Err(E::custom(format_args!(
                "more than {most} values; send smaller batches"
            )));
        }
        Ok(())
    }
}

impl split::Rows for TableRows<'_> {
    type Table = Vec<f64>;

    fn is_named(&self) -> bool {
        self.rows.spec.columns.is_some()
    }

    fn passes_over_unknown(&self) -> bool {
        self.rows.name_rules.mlflow_names_columns
    }

    fn positions(&self, names: &[Cow<'_, str>]) -> Vec<Option<usize>> {
        let known = self.rows.spec.columns.iter().flatten();
        let known = known.map(String::as_str);
        column_names::positions(known, names, self.rows.name_rules)
    }

    fn row<'de, D: Deserializer<'de>>(&mut self, row: usize, cells: D) -> Result<(), D::Error> {
        self.seed(row).deserialize(cells)?;
        self.check_size()
    }

    fn finish<E: serde::de::Error>(self, n_rows: usize) -> Result<Vec<f64>, E> {
        match n_rows {
            0 => Err(E::custom(format_args!(
                "\"{}\" is empty; at least one row is needed",
                self.key
            ))),
            _ => Ok(self.table),
        }
    }
}

/// The place of a number in a table.
#[derive(Clone, Copy)]
struct Cell<'a> {
    key: &'static str,
    row: usize,
    column: Column<'a>,
}

#[derive(Clone, Copy)]
enum Column<'a> {
    Index(usize),
    Name(&'a str),
}

impl Place for Cell<'_> {
    fn write(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, row) = (self.key, self.row);
        match self.column {
            Column::Index(column) => write!(f, "{key}[{row}][{column}]"),
            Column::Name(name) => write!(f, "{key}[{row}].{name}"),
        }
    }
}

/// Reads one row to the end of the table.
struct RowSeed<'a, 't> {
    key: &'static str,
    row: usize,
    rows: RowsLimits<'a>,
    table: &'t mut Vec<f64>,
    /// Which features of an object were there.
    seen: &'t mut Vec<bool>,
    /// Whether it stands under the input's name.
    is_named: bool,
}

impl RowSeed<'_, '_> {
    fn not_a_row<E: serde::de::Error>(&self, what: &str) -> E {
        let (key, row, n_columns) = (self.key, self.row, self.rows.n_columns);
        E::custom(format_args!(
            "{key}[{row}]: {what}; each row is a list of {n_columns} numbers"
        ))
    }

    /// Takes a row that stands under the input's name, as in TensorFlow Serving.
    fn named<'de, A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let (key, row, name) = (self.key, self.row, self.rows.spec.name.as_str());
        let first = entries.next_key::<Cow<'_, str>>()?;
        if self.is_named || first.as_deref() != Some(name) {
            let what = "an object, but the model was fitted without feature names";
            return Err(self.not_a_row(what));
        }
        entries.next_value_seed(Self {
            is_named: true,
            ..self
        })?;
        match entries.next_key::<Cow<'_, str>>()? {
            None => Ok(()),
            Some(other) => Err(A::Error::custom(format_args!(
                "{key}[{row}]: {} beside {}, which is the model's only input",
                quoted(&other),
                quoted(name)
            ))),
        }
    }

    /// Takes a plain value for a row, as scikit-learn's models of one column do.
    fn lone<'de, D: Deserializer<'de>>(self, what: &str, value: D) -> Result<(), D::Error> {
        if self.rows.n_columns != 1 {
            return Err(self.not_a_row(what));
        }
        let place = Cell {
            key: self.key,
            row: self.row,
            column: Column::Index(0),
        };
        let seed = ElementSeed::<f64, _>::new(place, self.rows.spec.accepts_missing);
        self.table.push(seed.deserialize(value)?);
        Ok(())
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
        write!(f, "a list of {} numbers", self.rows.n_columns)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut cells: A) -> Result<(), A::Error> {
        let n_columns = self.rows.n_columns;
        let mut column = 0_usize;
        loop {
            let place = Cell {
                key: self.key,
                row: self.row,
                column: Column::Index(column),
            };
            let seed = ElementSeed::<f64, _>::new(place, self.rows.spec.accepts_missing);
            match cells.next_element_seed(seed)? {
                // One more than expected is kept for the message; further ones are only counted.
                Some(value) if column < n_columns => self.table.push(value),
                Some(_) => {}
                None => break,
            }
            column = column.saturating_add(1);
        }
        if column != n_columns {
            let (key, row) = (self.key, self.row);
            return Err(A::Error::custom(format_args!(
                "{key}[{row}]: {column} values, model expects {n_columns}"
            )));
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let Some(columns) = &self.rows.spec.columns else {
            return self.named(entries);
        };
        let start = self.table.len();
        self.table.resize(start.saturating_add(columns.len()), 0.0);
        self.seen.clear();
        self.seen.resize(columns.len(), false);
        let mut expected = 0_usize;
        while let Some(name) = entries.next_key::<Cow<'_, str>>()? {
            let (key, row) = (self.key, self.row);
            // Features mostly come in the model's order.
            let is_next = columns.get(expected).is_some_and(|column| *column == name);
            let found = if is_next {
                Some(expected)
            } else {
                self.rows.position(&name)
            };
            let Some(index) = found else {
                if self.rows.name_rules.mlflow_names_columns {
                    entries.next_value::<IgnoredAny>()?;
                    continue;
                }
                let at = format_args!("{key}[{row}]");
                return Err(unknown_feature(self.rows, &name, entries, at));
            };
            expected = index.saturating_add(1);
            if self.seen.get(index) == Some(&true) {
                let name = quoted(&name);
                return Err(A::Error::custom(format_args!(
                    "{key}[{row}]: feature {name} occurs twice"
                )));
            }
            let place = Cell {
                key,
                row,
                column: Column::Name(&name),
            };
            let value = entries.next_value_seed(ElementSeed::<f64, _>::new(
                place,
                self.rows.spec.accepts_missing,
            ))?;
            if let (Some(cell), Some(seen)) = (
                self.table.get_mut(start.saturating_add(index)),
                self.seen.get_mut(index),
            ) {
                *cell = value;
                *seen = true;
            }
        }
        let names = columns.iter().map(String::as_str);
        if let Some(absent) = unknown::absent(names, self.seen) {
            let (key, row) = (self.key, self.row);
            return Err(A::Error::custom(format_args!(
                "{key}[{row}]: features missing: {absent}"
            )));
        }
        Ok(())
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        self.lone("a number", value.into_deserializer())
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        self.lone("a number", value.into_deserializer())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        self.lone("a number", value.into_deserializer())
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        self.lone("a truth value", value.into_deserializer())
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        self.lone("a string", text.into_deserializer())
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.lone("null", ().into_deserializer())
    }
}
