//! One JSON value to the end of a column of numbers or texts.

use std::fmt;

use coracle_tensor::{ByteStrings, DType, Tensor, Values};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::error::quoted;
use crate::number::{ElementSeed, Place};

/// The values of a column while they are read.
pub(crate) enum ColumnBuffer {
    /// Numbers; NaN is a missing value.
    Numbers(Vec<f64>),
    /// Texts, some of which may be missing.
    Text(ByteStrings),
}

impl ColumnBuffer {
    /// Returns an empty buffer for a column of `dtype`.
    pub(crate) fn new(dtype: DType) -> Self {
        match dtype {
            DType::Bytes => Self::Text(ByteStrings::new()),
            _ => Self::Numbers(Vec::new()),
        }
    }

    /// Returns the number of values.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Numbers(numbers) => numbers.len(),
            Self::Text(texts) => texts.len(),
        }
    }

    /// Returns the column as a tensor of shape `[rows]`.
    pub(crate) fn into_tensor(self) -> Tensor {
        Tensor::from_values(match self {
            Self::Numbers(numbers) => Values::F64(numbers.into()),
            Self::Text(texts) => Values::Bytes(texts),
        })
    }
}

/// Where a value stands, for messages.
#[derive(Clone, Copy)]
pub(crate) struct CellPlace<'a> {
    pub(crate) key: &'static str,
    pub(crate) row: usize,
    pub(crate) column: &'a str,
}

impl Place for CellPlace<'_> {
    fn write(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, row, column) = (self.key, self.row, quoted(self.column));
        write!(f, "{key}[{row}], column {column}")
    }
}

/// Reads one value.
pub(crate) struct CellSeed<'b, 'a> {
    pub(crate) place: CellPlace<'a>,
    pub(crate) accepts_missing: bool,
    /// Whether integers may stand for the texts of their digits, and truth values for 0 and 1.
    pub(crate) accepts_integers: bool,
    pub(crate) buffer: &'b mut ColumnBuffer,
}

impl<'de> DeserializeSeed<'de> for CellSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.buffer {
            ColumnBuffer::Numbers(numbers) => {
                let seed = ElementSeed::<f64, _>::new(self.place, self.accepts_missing);
                numbers.push(seed.deserialize(deserializer)?);
                Ok(())
            }
            ColumnBuffer::Text(texts) => deserializer.deserialize_any(TextVisitor {
                place: self.place,
                accepts_missing: self.accepts_missing,
                accepts_integers: self.accepts_integers,
                texts,
            }),
        }
    }
}

struct TextVisitor<'b, 'a> {
    place: CellPlace<'a>,
    accepts_missing: bool,
    accepts_integers: bool,
    texts: &'b mut ByteStrings,
}

impl TextVisitor<'_, '_> {
    fn wrong<E: Error>(&self, got: impl fmt::Display) -> E {
        let CellPlace { key, row, column } = self.place;
        let column = quoted(column);
        let expected = match self.accepts_integers {
            true => "a string or an integer",
            false => "a string",
        };
        E::custom(format_args!(
            "{key}[{row}], column {column}: expected {expected}, got {got}"
        ))
    }

    fn integer<E: Error>(self, value: impl itoa::Integer + fmt::Display) -> Result<(), E> {
        if !self.accepts_integers {
            return Err(self.wrong(value));
        }
        self.texts
            .push(itoa::Buffer::new().format(value).as_bytes());
        Ok(())
    }
}

impl<'de> Visitor<'de> for TextVisitor<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.texts.push(text.as_bytes());
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        if !self.accepts_missing {
            return Err(self.wrong("null (a missing value), which this column does not take"));
        }
        self.texts.push_missing();
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.integer(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.integer(value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        Err(self.wrong(value))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        if !self.accepts_integers {
            return Err(self.wrong(value));
        }
        // To CatBoost, which alone takes integers here, truth values are the integers 0 and 1.
        self.integer(u8::from(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _items: A) -> Result<(), A::Error> {
        Err(self.wrong("a list"))
    }

    fn visit_map<A: MapAccess<'de>>(self, _entries: A) -> Result<(), A::Error> {
        Err(self.wrong("an object"))
    }
}
