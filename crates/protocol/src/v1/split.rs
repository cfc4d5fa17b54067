//! A data frame as pandas splits it (`dataframe_split`): the names of its columns beside its rows, as MLflow's clients send it.

use std::borrow::Cow;
use std::fmt;

use serde::de::value::CowStrDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::quoted;

/// The key of the body.
pub(super) const KEY: &str = "dataframe_split";

/// What reads the rows of an instances' list one by one.
pub(super) trait Rows: Sized {
    /// What the rows become.
    type Table;

    /// Tells whether rows have names to be told apart by.
    fn is_named(&self) -> bool;

    /// Tells whether names that the model does not know are passed over.
    fn passes_over_unknown(&self) -> bool;

    /// Returns which column of the model each name means.
    fn positions(&self, names: &[Cow<'_, str>]) -> Vec<Option<usize>>;

    /// Reads a row that is a list, or one that is an object.
    ///
    /// # Errors
    /// Those of the deserializer.
    fn row<'de, D: Deserializer<'de>>(&mut self, row: usize, cells: D) -> Result<(), D::Error>;

    /// Returns the table, of so many rows.
    ///
    /// # Errors
    /// Where there are none, or columns of several lengths.
    fn finish<E: Error>(self, n_rows: usize) -> Result<Self::Table, E>;
}

/// Reads a data frame into what `rows` makes of its rows.
pub(super) struct SplitSeed<R>(pub(super) R);

impl<'de, R: Rows> DeserializeSeed<'de> for SplitSeed<R> {
    type Value = R::Table;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<R::Table, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, R: Rows> Visitor<'de> for SplitSeed<R> {
    type Value = R::Table;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{KEY}\" to be an object of \"columns\" and \"data\"")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<R::Table, A::Error> {
        let mut columns: Option<Vec<Name<'de>>> = None;
        let mut data: Option<&'de RawValue> = None;
        while let Some(key) = entries.next_key::<Cow<'de, str>>()? {
            let is_twice = match key.as_ref() {
                "columns" => columns.replace(entries.next_value()?).is_some(),
                "data" => data.replace(entries.next_value()?).is_some(),
                "index" => {
                    entries.next_value::<IgnoredAny>()?;
                    false
                }
                other => {
                    let other = quoted(other);
                    return Err(A::Error::custom(format_args!(
                        "{KEY}: unknown key {other}; it has \"columns\", \"data\" and \"index\""
                    )));
                }
            };
            if is_twice {
                return Err(A::Error::custom(format_args!(
                    "{KEY}: \"{key}\" comes twice"
                )));
            }
        }
        let Some(data) = data else {
            return Err(A::Error::custom(format_args!("{KEY}: \"data\" is missing")));
        };
        let columns = columns.filter(|_| self.0.is_named());
        let mut deserializer = serde_json::Deserializer::from_str(data.get());
        let seed = DataSeed {
            rows: self.0,
            columns: columns.as_deref(),
        };
        // Its place is within the data, and no help in the body.
        seed.deserialize(&mut deserializer).map_err(|error| {
            let (mut message, at) = (error.to_string(), format!(" at line {}", error.line()));
            if let Some(end) = message.rfind(&at) {
                message.truncate(end);
            }
            A::Error::custom(message)
        })
    }
}

/// The name of a column: a text, or a number as pandas counts them.
struct Name<'a>(Cow<'a, str>);

impl<'de> serde::Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{KEY}.columns to be a list of names")
            }

            fn visit_borrowed_str<E: Error>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(name)))
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }

            fn visit_u64<E: Error>(self, name: u64) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(name.to_string())))
            }
        }
        deserializer.deserialize_any(Text)
    }
}

struct DataSeed<'c, 'n, R> {
    rows: R,
    columns: Option<&'c [Name<'n>]>,
}

impl<'de, R: Rows> DeserializeSeed<'de> for DataSeed<'_, '_, R> {
    type Value = R::Table;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<R::Table, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, R: Rows> Visitor<'de> for DataSeed<'_, '_, R> {
    type Value = R::Table;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{KEY}.data to be a list of rows")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut data: A) -> Result<R::Table, A::Error> {
        let mut n_rows = 0_usize;
        loop {
            let seed = RowSeed {
                row: n_rows,
                rows: &mut self.rows,
                columns: self.columns,
            };
            if data.next_element_seed(seed)?.is_none() {
                return self.rows.finish(n_rows);
            }
            n_rows = n_rows.saturating_add(1);
        }
    }
}

struct RowSeed<'r, 'c, 'n, R> {
    row: usize,
    rows: &'r mut R,
    columns: Option<&'c [Name<'n>]>,
}

impl<'de, R: Rows> DeserializeSeed<'de> for RowSeed<'_, '_, '_, R> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.columns {
            None => self.rows.row(self.row, deserializer),
            Some(_) => deserializer.deserialize_seq(self),
        }
    }
}

impl<'de, R: Rows> Visitor<'de> for RowSeed<'_, '_, '_, R> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{KEY}[{}] to be a list of values", self.row)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut cells: A) -> Result<(), A::Error> {
        let columns = self.columns.unwrap_or_default();
        let named = NamedCells {
            row: self.row,
            columns: columns.iter(),
            n_columns: columns.len(),
            cells: &mut cells,
        };
        let named = serde::de::value::MapAccessDeserializer::new(named);
        self.rows.row(self.row, named)?;
        match cells.next_element::<IgnoredAny>()? {
            None => Ok(()),
            Some(_) => Err(A::Error::custom(format_args!(
                "{KEY}[{}]: more values than the {} columns",
                self.row,
                columns.len()
            ))),
        }
    }
}

/// The values of a row, each under its column's name.
struct NamedCells<'a, 'c, 'n, A> {
    row: usize,
    columns: std::slice::Iter<'c, Name<'n>>,
    n_columns: usize,
    cells: &'a mut A,
}

impl<'de, A: SeqAccess<'de>> MapAccess<'de> for NamedCells<'_, '_, '_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        let Some(Name(name)) = self.columns.next() else {
            return Ok(None);
        };
        let name = Cow::Borrowed(name.as_ref());
        seed.deserialize(CowStrDeserializer::new(name)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        let value = self.cells.next_element_seed(seed)?;
        value.ok_or_else(|| {
            let (row, n_columns) = (self.row, self.n_columns);
            A::Error::custom(format_args!(
                "{KEY}[{row}]: fewer values than the {n_columns} columns"
            ))
        })
    }
}
