//! numpy's description of an array's items.

use std::sync::Arc;

/// The memory of one field, its name's text not counted.
pub(crate) const FIELD_BYTES: usize = size_of::<Field>();

/// What the items of an array are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DTypeKind {
    /// One byte, zero or not.
    Bool,
    /// Signed integers of 1, 2, 4 or 8 bytes.
    Int,
    /// Unsigned integers of 1, 2, 4 or 8 bytes.
    UInt,
    /// IEEE floats of 2, 4 or 8 bytes.
    Float,
    /// Two floats of 4 or 8 bytes each.
    Complex,
    /// Fixed-width text, 4 bytes (UTF-32) a character, filled up with zeros.
    Unicode,
    /// Fixed-width bytes, filled up with zeros.
    ByteString,
    /// References to other nodes of the graph.
    Object,
    /// Records with named fields.
    Struct,
    /// Dates (numpy `M8`), 8 bytes.
    DateTime,
    /// Durations (numpy `m8`), 8 bytes.
    TimeDelta,
    /// Bytes whose meaning the reader does not know, such as 16-byte floats.
    Opaque,
}

/// What one item of an array is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NumpyDType {
    /// What the items are.
    pub kind: DTypeKind,
    /// The size of one item, in bytes; for objects, what the writing machine used.
    pub item_size: usize,
    /// The fields of a [`DTypeKind::Struct`], in the file's order; empty for other kinds.
    pub fields: Vec<Field>,
    /// How many nanoseconds one step of a [`DTypeKind::DateTime`] is; `None` for other kinds, and for months, years and
    /// parts of nanoseconds.
    pub tick_ns: Option<u64>,
    /// Whether the file's items are big-endian. Arrays are always given in little-endian.
    pub(crate) big_endian: bool,
}

/// One field of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// The field's name.
    pub name: String,
    /// Where the field starts in the record, in bytes; not aligned in general.
    pub offset: usize,
    /// What the field is; never itself a struct, and never an object.
    pub dtype: NumpyDType,
}

impl NumpyDType {
    pub(crate) fn plain(kind: DTypeKind, item_size: usize) -> Self {
        Self {
            kind,
            item_size,
            fields: Vec::new(),
            tick_ns: None,
            big_endian: false,
        }
    }

    /// Reads numpy's short form: an optional byte order, a kind letter, a size (`<f8`, `U12`, `|b1`).
    ///
    /// Returns `None` for what numpy would not write or the reader cannot hold.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (big_endian, rest) = match text.strip_prefix(['<', '|', '=']) {
            Some(rest) => (false, rest),
            None => match text.strip_prefix('>') {
                Some(rest) => (true, rest),
                None => (false, text),
            },
        };
        let mut chars = rest.chars();
        let letter = chars.next()?;
        let (digits, unit) = match (letter, chars.as_str().strip_suffix(']')) {
            ('M' | 'm', Some(rest)) => rest.split_once('[').map(|(d, unit)| (d, Some(unit)))?,
            _ => (chars.as_str(), None),
        };
        if letter == '?' && digits.is_empty() {
            return Some(Self::plain(DTypeKind::Bool, 1));
        }
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let size = match (letter, digits.is_empty()) {
            ('O', true) => 8,
            _ if !is_number => return None,
            _ => digits.parse::<usize>().ok()?,
        };
        let (kind, item_size) = match (letter, size) {
            ('b', 1) => (DTypeKind::Bool, 1),
            ('i', 1 | 2 | 4 | 8) => (DTypeKind::Int, size),
            ('u', 1 | 2 | 4 | 8) => (DTypeKind::UInt, size),
            ('f', 2 | 4 | 8) => (DTypeKind::Float, size),
            ('f', 10 | 12 | 16) | ('c', 20 | 24 | 32) => (DTypeKind::Opaque, size),
            ('c', 8 | 16) => (DTypeKind::Complex, size),
            ('U', _) => (DTypeKind::Unicode, size.checked_mul(4)?),
            ('S' | 'a', _) => (DTypeKind::ByteString, size),
            ('O', 4 | 8) => (DTypeKind::Object, size),
            ('V', _) => (DTypeKind::Opaque, size),
            ('M', 8) => (DTypeKind::DateTime, 8),
            ('m', 8) => (DTypeKind::TimeDelta, 8),
            _ => return None,
        };
        let tick_ns = unit.and_then(|unit| {
            let n_digits = unit.bytes().take_while(u8::is_ascii_digit).count();
            let (count, unit) = unit.split_at_checked(n_digits)?;
            tick_ns(
                if count.is_empty() {
                    1
                } else {
                    count.parse().ok()?
                },
                unit,
            )
        });
        Some(Self {
            big_endian,
            tick_ns: tick_ns.filter(|_| kind == DTypeKind::DateTime),
            ..Self::plain(kind, item_size)
        })
    }

    /// Returns the size of the units whose bytes a big-endian file holds in reverse; 1 where none are.
    pub(crate) fn swap_unit(&self) -> usize {
        match self.kind {
            DTypeKind::Int | DTypeKind::UInt | DTypeKind::Float => self.item_size,
            DTypeKind::DateTime | DTypeKind::TimeDelta => 8,
            DTypeKind::Complex => self.item_size.checked_div(2).unwrap_or(1),
            DTypeKind::Unicode => 4,
            _ => 1,
        }
    }

    /// Says whether items or fields of items are stored big-endian.
    pub(crate) fn is_swapped(&self) -> bool {
        self.big_endian || self.fields.iter().any(|field| field.dtype.big_endian)
    }

    /// Returns what a copy of this type takes, in bytes; nearly nothing for types without fields.
    pub(crate) fn copy_bytes(&self) -> usize {
        let field_bytes = self
            .fields
            .iter()
            .map(|field| field.name.len().saturating_add(FIELD_BYTES));
        field_bytes.fold(0, usize::saturating_add)
    }

    /// Returns the same type with every byte order little-endian.
    pub(crate) fn to_little_endian(self: &Arc<Self>) -> Arc<Self> {
        if !self.is_swapped() {
            return Arc::clone(self);
        }
        let mut dtype = Self::clone(self);
        dtype.big_endian = false;
        for field in &mut dtype.fields {
            field.dtype.big_endian = false;
        }
        Arc::new(dtype)
    }
}

/// Returns how many nanoseconds `count` of numpy's units of time are.
pub(crate) fn tick_ns(count: u64, unit: &str) -> Option<u64> {
    const SECOND: u64 = 1_000_000_000;
    let unit_ns = match unit {
        "ns" => 1,
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => SECOND,
        "m" => 60 * SECOND,
        "h" => 3_600 * SECOND,
        "D" => 86_400 * SECOND,
        "W" => 604_800 * SECOND,
        _ => return None,
    };
    count.checked_mul(unit_ns)
}

#[cfg(test)]
mod tests {
    use super::{DTypeKind, NumpyDType};

    #[test]
    fn steps_of_dates_are_read() {
        let day = 86_400_000_000_000;
        let cases = [
            ("<M8[ns]", Some(1)),
            (">M8[25us]", Some(25_000)),
            ("<M8[D]", Some(day)),
            ("<M8[W]", Some(7 * day)),
            ("<M8", None),
            ("<M8[M]", None),
            ("<M8[99999999999999999999s]", None),
            ("<m8[s]", None),
        ];
        for (text, expected) in cases {
            let got = NumpyDType::parse(text).unwrap();
            assert_eq!((got.item_size, got.tick_ns), (8, expected), "{text}");
        }
        assert_eq!(NumpyDType::parse("<f8[s]"), None);
        assert_eq!(NumpyDType::parse("<M8ns]"), None);
    }

    #[test]
    fn reads_short_forms() {
        let cases: [(&str, Option<(DTypeKind, usize, bool)>); 16] = [
            ("<f8", Some((DTypeKind::Float, 8, false))),
            (">i4", Some((DTypeKind::Int, 4, true))),
            ("|b1", Some((DTypeKind::Bool, 1, false))),
            ("?", Some((DTypeKind::Bool, 1, false))),
            ("U12", Some((DTypeKind::Unicode, 48, false))),
            ("S3", Some((DTypeKind::ByteString, 3, false))),
            ("O8", Some((DTypeKind::Object, 8, false))),
            ("|O", Some((DTypeKind::Object, 8, false))),
            ("V56", Some((DTypeKind::Opaque, 56, false))),
            ("c16", Some((DTypeKind::Complex, 16, false))),
            ("f16", Some((DTypeKind::Opaque, 16, false))),
            ("f3", None),
            ("U99999999999999999999", None),
            ("U-1", None),
            ("", None),
            ("f+8", None),
        ];
        for (text, expected) in cases {
            let got = NumpyDType::parse(text).map(|d| (d.kind, d.item_size, d.big_endian));
            assert_eq!(got, expected, "{text:?}");
        }
    }
}
