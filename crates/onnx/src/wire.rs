//! The protobuf wire format: fields one after another, borrowed, never deeper than asked for.

use coracle_model::LoadError;

use crate::error::malformed;

/// The bytes of a message that have not been read yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

/// The contents of a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Field<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    Fixed32([u8; 4]),
    Bytes(&'a [u8]),
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Returns the next field's number and contents; `None` at the end of the message.
    pub(crate) fn next(&mut self) -> Result<Option<(u64, Field<'a>)>, LoadError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        // Readers of 32 bits would see another field.
        let tag = u32::try_from(self.varint()?);
        let tag = tag
            .map_err(|error| malformed("a protobuf tag of more than 32 bits").with_source(error))?;
        let tag = u64::from(tag);
        let field = match tag & 7 {
            0 => Field::Varint(self.varint()?),
            1 => Field::Fixed64(self.array()?),
            2 => {
                let length = self.varint()?;
                Field::Bytes(self.take(length)?)
            }
            5 => Field::Fixed32(self.array()?),
            other => return Err(malformed(format!("protobuf wire type {other}"))),
        };
        match tag >> 3 {
            0 => Err(malformed("protobuf field number 0")),
            number => Ok(Some((number, field))),
        }
    }

    /// Returns the first byte of what is not read yet.
    pub(crate) fn rest_tag(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// Tells whether all is read.
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn varint(&mut self) -> Result<u64, LoadError> {
        let mut value = 0_u64;
        for shift in (0..64_u32).step_by(7) {
            let (&byte, rest) = self
                .rest
                .split_first()
                .ok_or_else(|| malformed("the file ends within a number"))?;
            self.rest = rest;
            value |= u64::from(byte & 0x7f).wrapping_shl(shift);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(malformed("a number of more than ten bytes"))
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], LoadError> {
        let split = usize::try_from(length)
            .ok()
            .and_then(|length| self.rest.split_at_checked(length));
        let (taken, rest) = split.ok_or_else(|| {
            malformed(format!(
                "a field of {length} bytes where {} are left",
                self.rest.len()
            ))
        })?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], LoadError> {
        let (taken, rest) = self
            .rest
            .split_first_chunk()
            .ok_or_else(|| malformed("the file ends within a number"))?;
        self.rest = rest;
        Ok(*taken)
    }
}

impl<'a> Field<'a> {
    pub(crate) fn bytes(self) -> Result<&'a [u8], LoadError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(malformed("a number where a message or text belongs")),
        }
    }

    pub(crate) fn text(self) -> Result<&'a str, LoadError> {
        let text = str::from_utf8(self.bytes()?);
        text.map_err(|error| malformed("a name that is not UTF-8").with_source(error))
    }

    pub(crate) fn message(self) -> Result<Reader<'a>, LoadError> {
        self.bytes().map(Reader::new)
    }

    pub(crate) fn int(self) -> Result<i64, LoadError> {
        match self {
            Self::Varint(value) => Ok(value.cast_signed()),
            _ => Err(malformed("a field of another kind than an integer")),
        }
    }

    pub(crate) fn float(self) -> Result<f32, LoadError> {
        match self {
            Self::Fixed32(bytes) => Ok(f32::from_le_bytes(bytes)),
            _ => Err(malformed(
                "a field of another kind than a single-precision number",
            )),
        }
    }
}

/// Appends the integers of a repeated field, packed or one by one.
pub(crate) fn push_ints(field: Field<'_>, ints: &mut Vec<i64>) -> Result<(), LoadError> {
    match field {
        Field::Bytes(packed) => {
            let mut reader = Reader::new(packed);
            while !reader.is_empty() {
                ints.push(reader.varint()?.cast_signed());
            }
        }
        field => ints.push(field.int()?),
    }
    Ok(())
}

/// Appends the single-precision numbers of a repeated field, packed or one by one.
pub(crate) fn push_floats(field: Field<'_>, floats: &mut Vec<f32>) -> Result<(), LoadError> {
    match field {
        Field::Bytes(packed) => {
            let (chunks, rest) = packed.as_chunks();
            if !rest.is_empty() {
                return Err(malformed("packed numbers end within a number"));
            }
            floats.extend(chunks.iter().map(|&bytes| f32::from_le_bytes(bytes)));
        }
        field => floats.push(field.float()?),
    }
    Ok(())
}

/// Appends the double-precision numbers of a repeated field, packed or one by one.
pub(crate) fn push_doubles(field: Field<'_>, doubles: &mut Vec<f64>) -> Result<(), LoadError> {
    match field {
        Field::Bytes(packed) => {
            let (chunks, rest) = packed.as_chunks();
            if !rest.is_empty() {
                return Err(malformed("packed numbers end within a number"));
            }
            doubles.extend(chunks.iter().map(|&bytes| f64::from_le_bytes(bytes)));
        }
        Field::Fixed64(bytes) => doubles.push(f64::from_le_bytes(bytes)),
        _ => {
            return Err(malformed(
                "a field of another kind than a double-precision number",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_one_after_another() {
        // 1: varint 300; 2: "ab"; 3: fixed32 1.0
        let bytes = [
            0x08, 0xac, 0x02, 0x12, 2, b'a', b'b', 0x1d, 0, 0, 0x80, 0x3f,
        ];
        let mut reader = Reader::new(&bytes);
        assert_eq!(reader.next().unwrap(), Some((1, Field::Varint(300))));
        assert_eq!(reader.next().unwrap(), Some((2, Field::Bytes(b"ab"))));
        let (_, field) = reader.next().unwrap().unwrap();
        assert_eq!(field.float().unwrap(), 1.0);
        assert_eq!(reader.next().unwrap(), None);
    }

    #[test]
    fn lengths_beyond_the_file_are_refused() {
        let cases: [&[u8]; 7] = [
            &[0x12, 5, b'a'],
            &[
                0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1,
            ],
            &[0x08],
            &[0x08, 0x80],
            &[0x1d, 0, 0],
            &[0x0b],
            // Field 1, and field 2^29 + 1, which 32 bits hold as field 1.
            &[0x88, 0x80, 0x80, 0x80, 0x10, 1],
        ];
        for bytes in cases {
            assert!(Reader::new(bytes).next().is_err(), "{bytes:?}");
        }
    }
}
