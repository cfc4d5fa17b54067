//! A table of comma-separated values, as pandas reads it where MLflow's server takes one: a line of names, then a line for each row.

use std::borrow::Cow;

use serde::de::value::{Error, MapDeserializer, SeqDeserializer};
use serde::de::{Deserializer, Error as _, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use super::split::Rows;

/// What places in the table are called by in messages.
pub(super) const KEY: &str = "csv";

/// The most columns that a table may have: names take more memory than the commas between them.
pub(super) const COLUMNS_MAX: usize = 1 << 20;

/// What pandas takes for a missing value.
const MISSING: [&str; 19] = [
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN",
    "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null",
];

/// What the values of a column are read as.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// Numbers and truth values.
    Numbers,
    /// Texts, whatever they look like.
    Texts,
    /// Texts, among which whole numbers may be written as numbers with a fraction: pandas writes them so beside missing values.
    Categories,
}

/// Reads a table into what `rows` makes of its rows; `kind` says what the column of this place and name holds.
///
/// # Errors
/// Says which line is wrong, and those of `rows`.
pub(super) fn read<R: Rows>(
    text: &str,
    mut rows: R,
    kind: impl Fn(usize, &str) -> Kind,
) -> Result<R::Table, Error> {
    let mut lines = Lines(text.strip_prefix('\u{feff}').unwrap_or(text));
    let Some(header) = lines.next(COLUMNS_MAX.saturating_add(1))? else {
        return Err(Error::custom(
            "the table is empty; its first line has the names of the columns",
        ));
    };
    if header.len() > COLUMNS_MAX {
        let message = format_args!("{KEY}: more than {COLUMNS_MAX} columns");
        return Err(Error::custom(message));
    }
    let header: Vec<(Cow<'_, str>, Kind)> = header
        .into_iter()
        .enumerate()
        .map(|(index, name)| {
            // As pandas calls it.
            let name = match name.is_empty() {
                true => Cow::Owned(format!("Unnamed: {index}")),
                false => name,
            };
            let kind = kind(index, &name);
            (name, kind)
        })
        .collect();
    let is_named = rows.is_named();
    let mut n_rows = 0_usize;
    while let Some(fields) = lines.next(header.len().saturating_add(1))? {
        if fields.len() > header.len() {
            return Err(Error::custom(format_args!(
                "{KEY}[{n_rows}]: more values than the {} columns",
                header.len()
            )));
        }
        // What is missing at the end of a line is missing in the row.
        let mut fields = fields.iter();
        let cells = header.iter().map(|(name, kind)| {
            let text = fields.next().map_or("", AsRef::as_ref);
            (name.as_ref(), Cell { text, kind: *kind })
        });
        match is_named {
            true => rows.row(n_rows, MapDeserializer::<_, Error>::new(cells))?,
            false => {
                let cells = cells.map(|(_, cell)| cell);
                rows.row(n_rows, SeqDeserializer::<_, Error>::new(cells))?;
            }
        }
        n_rows = n_rows.saturating_add(1);
    }
    rows.finish(n_rows)
}

/// The lines that are left; a line ends within no quotes.
struct Lines<'t>(&'t str);

impl<'t> Lines<'t> {
    /// Returns the fields of the next line that has some, no more than `most` of them; `None` at the end.
    fn next(&mut self, most: usize) -> Result<Option<Vec<Cow<'t, str>>>, Error> {
        while !self.0.is_empty() {
            let is_quoted = self.0.starts_with('"');
            let fields = self.line(most)?;
            let is_blank = match fields.as_slice() {
                [only] => !is_quoted && only.bytes().all(|byte| matches!(byte, b' ' | b'\t')),
                _ => false,
            };
            if !is_blank {
                return Ok(Some(fields));
            }
        }
        Ok(None)
    }

    fn line(&mut self, most: usize) -> Result<Vec<Cow<'t, str>>, Error> {
        let mut fields = Vec::new();
        loop {
            fields.push(self.field()?);
            match self.0.strip_prefix(',') {
                // What comes after too many is not read.
                Some(_) if fields.len() >= most => return Ok(fields),
                Some(rest) => self.0 = rest,
                None => break,
            }
        }
        let rest = self.0.strip_prefix('\r').unwrap_or(self.0);
        self.0 = rest.strip_prefix('\n').unwrap_or(rest);
        Ok(fields)
    }

    /// Returns the next field, and goes on to what ends it.
    fn field(&mut self) -> Result<Cow<'t, str>, Error> {
        let mut quoted = None;
        if let Some(rest) = self.0.strip_prefix('"') {
            quoted = Some(self.quoted(rest)?);
        }
        let end = self.0.find([',', '\n', '\r']).unwrap_or(self.0.len());
        let (plain, rest) = self.0.split_at_checked(end).unwrap_or((self.0, ""));
        self.0 = rest;
        Ok(match quoted {
            None => Cow::Borrowed(plain),
            Some(quoted) if plain.is_empty() => quoted,
            Some(quoted) => Cow::Owned(format!("{quoted}{plain}")),
        })
    }

    /// Returns what is in quotes, of which `rest` is after the first.
    fn quoted(&mut self, mut rest: &'t str) -> Result<Cow<'t, str>, Error> {
        let mut text = Cow::Borrowed("");
        loop {
            let Some((part, after)) = rest.split_once('"') else {
                return Err(Error::custom("the table ends within quotes"));
            };
            match text.is_empty() {
                true => text = Cow::Borrowed(part),
                false => text.to_mut().push_str(part),
            }
            let Some(more) = after.strip_prefix('"') else {
                self.0 = after;
                return Ok(text);
            };
            text.to_mut().push('"');
            rest = more;
        }
    }
}

/// A value of the table.
struct Cell<'t> {
    text: &'t str,
    kind: Kind,
}

impl<'de> IntoDeserializer<'de, Error> for Cell<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Cell<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let Self { text, kind } = self;
        if MISSING.contains(&text) {
            return visitor.visit_unit();
        }
        match kind {
            Kind::Texts => visitor.visit_str(text),
            Kind::Categories => match text.split_once('.') {
                Some((whole, zeros))
                    if whole.parse::<i64>().is_ok() && zeros.bytes().all(|byte| byte == b'0') =>
                {
                    visitor.visit_str(whole)
                }
                _ => visitor.visit_str(text),
            },
            Kind::Numbers => match (text, text.trim_matches([' ', '\t']).parse::<f64>()) {
                ("True" | "TRUE" | "true", _) => visitor.visit_bool(true),
                ("False" | "FALSE" | "false", _) => visitor.visit_bool(false),
                (_, Ok(number)) if !number.is_nan() => visitor.visit_f64(number),
                _ => visitor.visit_str(text),
            },
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct seq tuple
        tuple_struct map struct enum identifier ignored_any
    }
}
