//! numpy's `.npy` files: a header that is a Python literal, then the items.
//!
//! The header is read by a small parser of its own for the one dict that numpy writes; it nests at most
//! as deep as a list of fields and does not recurse.

use std::sync::Arc;

use crate::cursor::Cursor;
use crate::dtype::Field;
use crate::machine::npy_array;
use crate::{Array, DTypeKind, Error, Limits, NumpyDType};

/// Reads one array in numpy's `.npy` format (versions 1 to 3).
///
/// # Errors
/// [`ErrorKind::Malformed`](crate::ErrorKind::Malformed) for a damaged file,
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for arrays of objects and of nested records,
/// [`ErrorKind::LimitExceeded`](crate::ErrorKind::LimitExceeded) for files over `limits`.
pub fn read_npy(bytes: &[u8], limits: &Limits) -> Result<Array, Error> {
    if bytes.len() > limits.file_bytes_max {
        return Err(Error::limit(
            "the file's size in bytes",
            limits.file_bytes_max,
        ));
    }
    let mut cursor = Cursor::new(bytes);
    if cursor.take(6, "the npy magic")? != b"\x93NUMPY" {
        return Err(Error::malformed("no npy magic", 0));
    }
    let [major, _minor] = cursor.array("the npy version")?;
    let length = match major {
        1 => u64::from(u16::from_le_bytes(cursor.array("the npy header")?)),
        2 | 3 => u64::from(u32::from_le_bytes(cursor.array("the npy header")?)),
        _ => return Err(Error::unsupported(format!("npy version {major}"), 6)),
    };
    let start = cursor.position();
    let text = cursor.take_declared(length, "the npy header")?;
    let text = str::from_utf8(text).map_err(|error| {
        Error::malformed(
            "a header that is not text",
            start.saturating_add(error.valid_up_to()),
        )
    })?;
    let header = Header::parse(text).map_err(|problem| problem.at(start))?;
    let data = cursor.take(cursor.remaining(), "the items")?;
    npy_array(
        data,
        header.shape,
        &Arc::new(header.dtype),
        header.is_fortran,
    )
    .ok_or_else(|| Error::malformed("items that do not fit the shape", cursor.position()))
}

#[derive(Debug)]
struct Header {
    dtype: NumpyDType,
    shape: Vec<usize>,
    is_fortran: bool,
}

/// What is wrong with a header.
#[derive(Debug)]
enum Problem {
    Syntax,
    Unsupported(&'static str),
}

impl Problem {
    fn at(&self, offset: usize) -> Error {
        match self {
            Self::Syntax => Error::malformed("a header that cannot be read", offset),
            Self::Unsupported(what) => Error::unsupported(*what, offset),
        }
    }
}

impl Header {
    fn parse(text: &str) -> Result<Self, Problem> {
        let (mut dtype, mut shape, mut is_fortran) = (None, None, None);
        let mut tokens = Tokens { rest: text };
        tokens.expect('{')?;
        while !tokens.skip('}') {
            let key = tokens.quoted()?;
            tokens.expect(':')?;
            match key {
                "descr" => dtype = Some(tokens.descr()?),
                "fortran_order" => is_fortran = Some(tokens.bool()?),
                "shape" => shape = Some(tokens.shape()?),
                _ => return Err(Problem::Syntax),
            }
            if !tokens.skip(',') {
                tokens.expect('}')?;
                break;
            }
        }
        if !tokens.rest.trim().is_empty() {
            return Err(Problem::Syntax);
        }
        match (dtype, shape, is_fortran) {
            (Some(dtype), Some(shape), Some(is_fortran)) => Ok(Self {
                dtype,
                shape,
                is_fortran,
            }),
            _ => Err(Problem::Syntax),
        }
    }
}

struct Tokens<'t> {
    rest: &'t str,
}

impl<'t> Tokens<'t> {
    fn skip(&mut self, token: char) -> bool {
        match self.rest.trim_start().strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, token: char) -> Result<(), Problem> {
        self.skip(token).then_some(()).ok_or(Problem::Syntax)
    }

    fn quoted(&mut self) -> Result<&'t str, Problem> {
        let text = self.rest.trim_start();
        let quote = if text.starts_with('"') { '"' } else { '\'' };
        let (quoted, rest) = text
            .strip_prefix(quote)
            .and_then(|text| text.split_once(quote))
            .ok_or(Problem::Syntax)?;
        if quoted.contains('\\') {
            return Err(Problem::Unsupported("an escape in a header"));
        }
        self.rest = rest;
        Ok(quoted)
    }

    fn bool(&mut self) -> Result<bool, Problem> {
        let text = self.rest.trim_start();
        for (word, value) in [("True", true), ("False", false)] {
            if let Some(rest) = text.strip_prefix(word) {
                self.rest = rest;
                return Ok(value);
            }
        }
        Err(Problem::Syntax)
    }

    fn shape(&mut self) -> Result<Vec<usize>, Problem> {
        let mut shape = Vec::new();
        self.expect('(')?;
        while !self.skip(')') {
            let text = self.rest.trim_start();
            let end = text
                .find(|c: char| !c.is_ascii_digit())
                .ok_or(Problem::Syntax)?;
            let (digits, rest) = text.split_at_checked(end).ok_or(Problem::Syntax)?;
            shape.push(digits.parse().map_err(|_not_a_length| Problem::Syntax)?);
            // Python 2 wrote long integers.
            self.rest = rest.strip_prefix('L').unwrap_or(rest);
            if !self.skip(',') {
                self.expect(')')?;
                break;
            }
        }
        Ok(shape)
    }

    fn plain_descr(&mut self) -> Result<NumpyDType, Problem> {
        let dtype = NumpyDType::parse(self.quoted()?)
            .ok_or(Problem::Unsupported("an array of this dtype"))?;
        match dtype.kind {
            DTypeKind::Object => Err(Problem::Unsupported("an npy array of objects")),
            _ => Ok(dtype),
        }
    }

    fn descr(&mut self) -> Result<NumpyDType, Problem> {
        if !self.skip('[') {
            return self.plain_descr();
        }
        let mut record = NumpyDType::plain(DTypeKind::Struct, 0);
        while !self.skip(']') {
            self.expect('(')?;
            let name = self.quoted()?;
            self.expect(',')?;
            if self.rest.trim_start().starts_with('[') {
                return Err(Problem::Unsupported("an array of nested records"));
            }
            let dtype = self.plain_descr()?;
            if self.skip(',') && !self.rest.trim_start().starts_with(')') {
                return Err(Problem::Unsupported("an array of records of arrays"));
            }
            self.expect(')')?;
            // Fields of no size would cost work for each record without costing bytes.
            if dtype.item_size == 0 {
                return Err(Problem::Unsupported("a record with empty fields"));
            }
            let offset = record.item_size;
            record.item_size = offset.checked_add(dtype.item_size).ok_or(Problem::Syntax)?;
            // A field without a name is padding.
            if !name.is_empty() {
                record.fields.push(Field {
                    name: name.to_owned(),
                    offset,
                    dtype,
                });
            }
            if !self.skip(',') {
                self.expect(']')?;
                break;
            }
        }
        Ok(record)
    }
}
