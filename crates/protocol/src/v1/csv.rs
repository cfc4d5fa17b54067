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

/// The most values that the lines of any table may leave out; those of a longer one may leave out as many as it has bytes.
const LEFT_OUT_MIN: usize = 1 << 16;

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

/// Reads a table into what `rows` makes of its rows; `kind` says what the model's column at this place of a row holds.
///
/// A line may be shorter than the header, so that a short body could ask for rows times columns: the names are looked up once, a row has
/// only the columns that the model reads, whose number `rows` bounds, and how many values lines leave out of those is bounded by the body's length.
///
/// # Errors
/// Says which line is wrong, and those of `rows`.
pub(super) fn read<R: Rows>(
    text: &str,
    mut rows: R,
    kind: impl Fn(Option<usize>) -> Kind,
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
    let n_columns = header.len();
    let header: Vec<Cow<'_, str>> = header
        .into_iter()
        .enumerate()
        .map(|(index, name)| match name.is_empty() {
            // As pandas calls it.
            true => Cow::Owned(format!("Unnamed: {index}")),
            false => name,
        })
        .collect();
    let is_named = rows.is_named();
    let positions: Vec<Option<usize>> = match is_named {
        true => rows.positions(&header),
        false => (0..n_columns).map(Some).collect(),
    };
    let passes_over_unknown = is_named && rows.passes_over_unknown();
    let columns = header.iter().zip(positions).enumerate();
    let mut columns: Vec<Column<'_>> = columns
        .filter(|(_, (_, position))| position.is_some() || !passes_over_unknown)
        .map(|(index, (name, position))| Column {
            index,
            name,
            position,
            kind: kind(position),
        })
        .collect();
    let mut left_out = LeftOut::of(text);
    let mut n_rows = 0_usize;
    while let Some(fields) = lines.next(n_columns.saturating_add(1))? {
        if fields.len() > n_columns {
            return Err(Error::custom(format_args!(
                "{KEY}[{n_rows}]: more values than the {n_columns} columns"
            )));
        }
        if fields.len() < n_columns {
            left_out.add(&columns, fields.len(), n_rows)?;
        }
        // What is missing at the end of a line is missing in the row.
        let cells = columns.iter().map(|column| {
            let text = fields.get(column.index).map_or("", AsRef::as_ref);
            let kind = column.kind;
            (column.name, Cell { text, kind })
        });
        match is_named {
            true => rows.row(n_rows, MapDeserializer::<_, Error>::new(cells))?,
            false => {
                let cells = cells.map(|(_, cell)| cell);
                rows.row(n_rows, SeqDeserializer::<_, Error>::new(cells))?;
            }
        }
        if n_rows == 0 {
            // The order of the table is that of the first refusal; in the model's own no name is searched for.
            columns.sort_by_key(|column| column.position);
        }
        n_rows = n_rows.saturating_add(1);
    }
    rows.finish(n_rows)
}

/// How many values the lines of a table have left out at their ends.
struct LeftOut {
    n_values: usize,
    most: usize,
}

impl LeftOut {
    /// Returns that of the first line of a table.
    fn of(text: &str) -> Self {
        Self {
            n_values: 0,
            most: text.len().max(LEFT_OUT_MIN),
        }
    }

    /// Adds those of a line that has so many fields.
    fn add(&mut self, columns: &[Column<'_>], n_fields: usize, row: usize) -> Result<(), Error> {
        let is_left_out = |column: &&Column<'_>| column.index >= n_fields;
        let n_missing = columns.iter().filter(is_left_out).count();
        self.n_values = self.n_values.saturating_add(n_missing);
        let Self { n_values, most } = self;
        if n_values <= most {
            return Ok(());
        }
        Err(Error::custom(format_args!(
            "{KEY}[{row}]: the lines up to here leave out {n_values} values at their ends, more than {most}; send smaller batches, or write their commas"
        )))
    }
}

/// A column of the table that is read.
struct Column<'h> {
    /// Its place in the table.
    index: usize,
    name: &'h str,
    /// Its place in the model's rows.
    position: Option<usize>,
    kind: Kind,
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

#[cfg(test)]
mod tests {
    use serde::Deserialize as _;
    use serde::de::IgnoredAny;

    use super::*;

    /// Rows that know `a` and `b`, and count what they are given.
    #[derive(Default)]
    struct Counted {
        n_cells: usize,
        last: Vec<String>,
    }

    impl Rows for Counted {
        type Table = Self;

        fn is_named(&self) -> bool {
            true
        }

        fn passes_over_unknown(&self) -> bool {
            true
        }

        fn positions(&self, names: &[Cow<'_, str>]) -> Vec<Option<usize>> {
            let names = names.iter();
            names
                .map(|name| ["a", "b"].iter().position(|known| known == name))
                .collect()
        }

        fn row<'de, D: Deserializer<'de>>(
            &mut self,
            _row: usize,
            cells: D,
        ) -> Result<(), D::Error> {
            let cells = std::collections::BTreeMap::<String, IgnoredAny>::deserialize(cells)?;
            self.n_cells = self.n_cells.saturating_add(cells.len());
            self.last = cells.into_keys().collect();
            Ok(())
        }

        fn finish<E: serde::de::Error>(self, _n_rows: usize) -> Result<Self, E> {
            Ok(self)
        }
    }

    /// Rows that take all columns, and are counted by their cells.
    #[derive(Default)]
    struct All(usize);

    impl Rows for All {
        type Table = Self;

        fn is_named(&self) -> bool {
            false
        }

        fn passes_over_unknown(&self) -> bool {
            false
        }

        fn positions(&self, names: &[Cow<'_, str>]) -> Vec<Option<usize>> {
            (0..names.len()).map(Some).collect()
        }

        fn row<'de, D: Deserializer<'de>>(
            &mut self,
            _row: usize,
            cells: D,
        ) -> Result<(), D::Error> {
            self.0 = self
                .0
                .saturating_add(Vec::<IgnoredAny>::deserialize(cells)?.len());
            Ok(())
        }

        fn finish<E: serde::de::Error>(self, _n_rows: usize) -> Result<Self, E> {
            Ok(self)
        }
    }

    #[test]
    fn a_short_body_has_no_long_table() {
        // Each line leaves out the `b` that the model reads.
        let table = |n_rows: usize| format!("a,b\n{}", "1\n".repeat(n_rows));
        let count = |n_rows| read(&table(n_rows), Counted::default(), |_| Kind::Numbers);
        assert_eq!(count(LEFT_OUT_MIN).unwrap().n_cells, 2 * LEFT_OUT_MIN);
        // Of columns that the model does not read nothing is left out.
        let more = format!("a,u,v,b\n{}", "1,,,2\n1\n".repeat(LEFT_OUT_MIN / 2));
        assert!(read(&more, Counted::default(), |_| Kind::Numbers).is_ok());
        let wide: String = (0..1_000).map(|index| format!(",c{index}")).collect();
        let short = format!("c{wide}\n{}", "1\n".repeat(100));
        let all = |text: &str| read(text, All::default(), |_| Kind::Numbers).map(|all| all.0);
        assert_eq!(
            all(&short).unwrap_err().to_string(),
            "csv[65]: the lines up to here leave out 66000 values at their ends, more than 65536; send smaller batches, or write their commas"
        );
        let commas = format!(
            "c{wide}\n{}",
            format!("1{}\n", ",".repeat(1_000)).repeat(100)
        );
        assert_eq!(all(&commas).unwrap(), 100_100);
        // As many as it has bytes, where it is longer.
        let long = format!(
            "{}{}",
            table(0),
            format!("\"{}\"\n", "1".repeat(9)).repeat(100_000)
        );
        assert_eq!(all(&long).unwrap(), 200_000);
    }

    #[test]
    fn a_short_line_costs_no_walk_through_a_long_header() {
        let unknown: String = (0..10_000).map(|index| format!("u{index},")).collect();
        let rows = "1\n".repeat(1_000);
        let text = format!("b,{unknown}a\n{rows}");
        let found = read(&text, Counted::default(), |_| Kind::Numbers).unwrap();
        assert_eq!(found.n_cells, 2 * 1_000);
        assert_eq!(found.last, ["a", "b"]);
    }
}
