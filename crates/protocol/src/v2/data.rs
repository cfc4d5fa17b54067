//! The `data` of a tensor: flat, or nested exactly as its shape.

use std::fmt;

use coracle_tensor::{ByteStrings, DType, Tensor, Values};
use serde::de::{self, DeserializeSeed, Deserializer, Error as _, SeqAccess, Visitor};

use crate::RequestError;
use crate::error::quoted;
use crate::number::{Element, ElementSeed, Place};

/// How messages name a tensor.
#[derive(Clone, Copy)]
pub(crate) enum TensorName<'a> {
    /// By its position among V2's inputs.
    Position(usize),
    /// By where V1 has its values.
    Instances {
        /// `instances` or `inputs`.
        key: &'a str,
        /// The input, where instances have a value for each.
        input: Option<&'a str>,
    },
}

impl fmt::Display for TensorName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Position(position) => write!(f, "inputs[{position}]"),
            Self::Instances { key, input: None } => f.write_str(key),
            Self::Instances {
                key,
                input: Some(input),
            } => write!(f, "{key}, input {}", quoted(input)),
        }
    }
}

/// What is known of a tensor before its data is read.
#[derive(Clone, Copy)]
pub(crate) struct TensorHead<'a> {
    pub(crate) name: TensorName<'a>,
    pub(crate) dtype: DType,
    /// As sent; -1 at most once.
    pub(crate) shape: &'a [i64],
    pub(crate) accepts_missing: bool,
    pub(crate) elements_max: usize,
}

/// The most dimensions of a tensor.
pub(crate) const RANK_MAX: usize = 16;

/// Reads `json`, the raw text of `data`, as a tensor.
///
/// # Errors
/// Code `InvalidArgument` naming the element at fault, or both shapes where they differ.
pub(super) fn read(json: &str, head: TensorHead<'_>) -> Result<Tensor, RequestError> {
    let (values, levels) = read_values(json, head)?;
    head.tensor(values, &levels)
}

/// Reads `json` as a tensor of the shape that its lists have; that of `head` says how deep they may be.
///
/// # Errors
/// Code `InvalidArgument` naming the element at fault, or lists of different lengths.
pub(crate) fn read_nested(json: &str, head: TensorHead<'_>) -> Result<Tensor, RequestError> {
    let (values, levels) = read_values(json, head)?;
    Tensor::try_new(levels.lengths(), values)
        .map_err(|error| RequestError::invalid(format!("{}: {error}", head.name)))
}

fn read_values(json: &str, head: TensorHead<'_>) -> Result<(Values, Levels), RequestError> {
    head.check_rank()?;
    let mut levels = Levels::default();
    let values = match head.dtype {
        DType::Bool => Values::Bool(items(json, head, &mut levels)?),
        DType::U8 => Values::U8(items(json, head, &mut levels)?.into()),
        DType::U16 => Values::U16(items(json, head, &mut levels)?.into()),
        DType::U32 => Values::U32(items(json, head, &mut levels)?.into()),
        DType::U64 => Values::U64(items(json, head, &mut levels)?.into()),
        DType::I8 => Values::I8(items(json, head, &mut levels)?.into()),
        DType::I16 => Values::I16(items(json, head, &mut levels)?.into()),
        DType::I32 => Values::I32(items(json, head, &mut levels)?.into()),
        DType::I64 => Values::I64(items(json, head, &mut levels)?.into()),
        DType::F16 => Values::F16(items(json, head, &mut levels)?.into()),
        DType::BF16 => Values::BF16(items(json, head, &mut levels)?.into()),
        DType::F32 => Values::F32(items(json, head, &mut levels)?.into()),
        DType::F64 => Values::F64(items(json, head, &mut levels)?.into()),
        DType::Bytes => Values::Bytes(strings(json, head, &mut levels)?),
    };
    Ok((values, levels))
}

/// Gives `values` the shape of `head`.
///
/// # Errors
/// Code `InvalidArgument` if the shape holds another number of elements.
pub(super) fn shaped(values: Values, head: TensorHead<'_>) -> Result<Tensor, RequestError> {
    head.check_rank()?;
    head.tensor(values, &Levels::default())
}

impl TensorHead<'_> {
    fn check_rank(&self) -> Result<(), RequestError> {
        if self.shape.len() > RANK_MAX {
            let message = format!(
                "{}: {} dimensions, at most {RANK_MAX} are supported",
                self.name,
                self.shape.len()
            );
            return Err(RequestError::invalid(message));
        }
        Ok(())
    }

    fn tensor(&self, values: Values, levels: &Levels) -> Result<Tensor, RequestError> {
        let shape = self.resolve_shape(values.len(), levels)?;
        Tensor::try_new(shape, values)
            .map_err(|error| RequestError::invalid(format!("{}: {error}", self.name)))
    }

    /// Returns the shape with -1 replaced, checked against the data.
    fn resolve_shape(&self, n_values: usize, levels: &Levels) -> Result<Vec<usize>, RequestError> {
        let mut unknown = None;
        let mut shape = Vec::with_capacity(self.shape.len());
        for (dimension, &size) in self.shape.iter().enumerate() {
            match usize::try_from(size) {
                Ok(size) => shape.push(size),
                Err(_negative) if size == -1 && unknown.is_none() => {
                    unknown = Some(dimension);
                    shape.push(1);
                }
                Err(_negative) => {
                    let message = format!(
                        "{}: shape {:?}, sizes are 0 or more (-1 at most once)",
                        self.name, self.shape
                    );
                    return Err(RequestError::invalid(message));
                }
            }
        }
        let product = shape
            .iter()
            .try_fold(1_usize, |product, &size| product.checked_mul(size));
        if let (Some(dimension), Some(product)) = (unknown, product)
            && let Some(size) = shape.get_mut(dimension)
        {
            *size = n_values.checked_div(product).unwrap_or(0);
        }
        let n_expected = shape
            .iter()
            .try_fold(1_usize, |product, &size| product.checked_mul(size));
        if n_expected != Some(n_values) {
            let expected = n_expected.map_or_else(|| "too many".to_owned(), |n| n.to_string());
            let message = format!(
                "{}: {n_values} elements, shape {:?} holds {expected}",
                self.name, self.shape
            );
            return Err(RequestError::invalid(message));
        }
        let nested = levels.lengths();
        // Empty lists do not show what would be in them.
        let is_begun = nested.last() == Some(&0) && shape.starts_with(&nested);
        if nested.len() > 1 && nested != shape && !is_begun {
            let message = format!(
                "{}: data is nested as {nested:?}, shape is {:?}",
                self.name, self.shape
            );
            return Err(RequestError::invalid(message));
        }
        Ok(shape)
    }
}

/// The length of the lists at each depth of nesting; all lists at one depth have the same.
#[derive(Default)]
struct Levels {
    lengths: Vec<Option<usize>>,
}

impl Levels {
    /// Notes a list of `length` at `level`; false if an earlier one there was longer or shorter.
    fn note(&mut self, level: usize, length: usize) -> bool {
        if self.lengths.len() <= level {
            self.lengths.resize(level.saturating_add(1), None);
        }
        match self.lengths.get_mut(level) {
            Some(Some(known)) => *known == length,
            Some(unknown) => {
                *unknown = Some(length);
                true
            }
            None => false,
        }
    }

    fn lengths(&self) -> Vec<usize> {
        self.lengths
            .iter()
            .map(|length| length.unwrap_or(0))
            .collect()
    }
}

/// The place of an element, counted over the whole tensor.
#[derive(Clone, Copy)]
struct DataPlace<'a> {
    name: TensorName<'a>,
    element: usize,
}

impl fmt::Display for DataPlace<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, element) = (self.name, self.element);
        match name {
            TensorName::Position(_) => write!(f, "{name}.data[{element}]"),
            TensorName::Instances { .. } => write!(f, "{name}: value {element}"),
        }
    }
}

impl Place for DataPlace<'_> {
    fn write(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Where elements go.
trait Sink {
    fn len(&self) -> usize;
    fn push_next<'de, A: SeqAccess<'de>>(
        &mut self,
        items: &mut A,
        head: TensorHead<'_>,
    ) -> Result<bool, A::Error>;
}

impl<T: Element> Sink for Vec<T> {
    fn len(&self) -> usize {
        Self::len(self)
    }

    fn push_next<'de, A: SeqAccess<'de>>(
        &mut self,
        items: &mut A,
        head: TensorHead<'_>,
    ) -> Result<bool, A::Error> {
        let place = DataPlace {
            name: head.name,
            element: self.len(),
        };
        let next =
            items.next_element_seed(ElementSeed::<T, _>::new(place, head.accepts_missing))?;
        Ok(next.map(|element| self.push(element)).is_some())
    }
}

impl Sink for ByteStrings {
    fn len(&self) -> usize {
        Self::len(self)
    }

    fn push_next<'de, A: SeqAccess<'de>>(
        &mut self,
        items: &mut A,
        head: TensorHead<'_>,
    ) -> Result<bool, A::Error> {
        let element = self.len();
        let next = items.next_element_seed(StringSeed {
            place: DataPlace {
                name: head.name,
                element,
            },
            accepts_missing: head.accepts_missing,
            strings: self,
        })?;
        Ok(next.is_some())
    }
}

fn items<T: Element>(
    json: &str,
    head: TensorHead<'_>,
    levels: &mut Levels,
) -> Result<Vec<T>, RequestError> {
    let mut items = Vec::new();
    fill(json, head, levels, &mut items)?;
    Ok(items)
}

fn strings(
    json: &str,
    head: TensorHead<'_>,
    levels: &mut Levels,
) -> Result<ByteStrings, RequestError> {
    let mut strings = ByteStrings::new();
    fill(json, head, levels, &mut strings)?;
    Ok(strings)
}

fn fill(
    json: &str,
    head: TensorHead<'_>,
    levels: &mut Levels,
    sink: &mut impl Sink,
) -> Result<(), RequestError> {
    // The depth is that of the first element: lists all the way down, then elements.
    let depth = json
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .take_while(|&byte| byte == b'[')
        .count();
    if depth == 0 || depth > head.shape.len().max(1) {
        let message = format!(
            "{}: data is nested {depth} deep; send a flat list, or lists nested as shape {:?}",
            head.name, head.shape
        );
        return Err(RequestError::invalid(message));
    }
    let seed = LevelSeed {
        head,
        level: 0,
        depth,
        levels,
        sink,
    };
    let mut deserializer = serde_json::Deserializer::from_str(json);
    seed.deserialize(&mut deserializer).map_err(|error| {
        // Lines and columns of a part of the body would mislead; the place is in the message.
        let message = error.to_string();
        let end = message.rfind(" at line ").unwrap_or(message.len());
        let message = message.get(..end).unwrap_or_default();
        // What the reader of JSON itself says has no place: escapes that are no characters, which nobody looked at before.
        RequestError::invalid(match error.is_syntax() || error.is_eof() {
            true => format!("{}: data is not valid JSON: {message}", head.name),
            false => message.to_owned(),
        })
    })
}

/// Reads the lists of one level; recursion ends at the depth of the tensor's shape.
struct LevelSeed<'a, 's, S> {
    head: TensorHead<'a>,
    level: usize,
    depth: usize,
    levels: &'s mut Levels,
    sink: &'s mut S,
}

impl<'de, S: Sink> DeserializeSeed<'de> for LevelSeed<'_, '_, S> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, S: Sink> Visitor<'de> for LevelSeed<'_, '_, S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: lists nested as shape {:?}",
            self.head.name, self.head.shape
        )
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut lists: A) -> Result<(), A::Error> {
        let inner = self.level.saturating_add(1);
        let mut length = 0_usize;
        loop {
            let more = if inner < self.depth {
                lists
                    .next_element_seed(LevelSeed {
                        head: self.head,
                        level: inner,
                        depth: self.depth,
                        levels: &mut *self.levels,
                        sink: &mut *self.sink,
                    })?
                    .is_some()
            } else {
                self.sink.push_next(&mut lists, self.head)?
            };
            if !more {
                break;
            }
            length = length.saturating_add(1);
            if self.sink.len() > self.head.elements_max {
                let (name, most) = (self.head.name, self.head.elements_max);
                return Err(A::Error::custom(format_args!(
                    "{name}: more than {most} elements; send smaller batches"
                )));
            }
        }
        if !self.levels.note(self.level, length) {
            let name = self.head.name;
            return Err(A::Error::custom(format_args!(
                "{name}: data is ragged: lists of different lengths"
            )));
        }
        Ok(())
    }
}

/// Reads one string to the end of the column.
struct StringSeed<'a, 's> {
    place: DataPlace<'a>,
    accepts_missing: bool,
    strings: &'s mut ByteStrings,
}

impl StringSeed<'_, '_> {
    fn wrong<E: de::Error>(&self, what: &str) -> E {
        let place = self.place;
        E::custom(format_args!("{place}: {what} where a string belongs"))
    }
}

impl<'de> DeserializeSeed<'de> for StringSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for StringSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
        self.strings.push(text.as_bytes());
        Ok(())
    }

    fn visit_f64<E: de::Error>(self, _value: f64) -> Result<(), E> {
        Err(self.wrong("a number"))
    }

    fn visit_u64<E: de::Error>(self, _value: u64) -> Result<(), E> {
        Err(self.wrong("a number"))
    }

    fn visit_i64<E: de::Error>(self, _value: i64) -> Result<(), E> {
        Err(self.wrong("a number"))
    }

    fn visit_bool<E: de::Error>(self, _value: bool) -> Result<(), E> {
        Err(self.wrong("a truth value"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _items: A) -> Result<(), A::Error> {
        Err(self.wrong("a list"))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, _entries: A) -> Result<(), A::Error> {
        Err(self.wrong("an object"))
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        if self.accepts_missing {
            self.strings.push_missing();
            return Ok(());
        }
        Err(self.wrong("null"))
    }
}
