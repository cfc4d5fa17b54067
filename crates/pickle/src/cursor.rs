//! A position in the file's bytes; every step checks what is left.

use crate::Error;

/// Reads forward through bytes.
#[derive(Debug)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// Returns the number of bytes read.
    pub(crate) fn position(&self) -> usize {
        self.position
    }

    /// Returns the number of bytes left.
    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len().saturating_sub(self.position)
    }

    /// Takes the next `length` bytes.
    pub(crate) fn take(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], Error> {
        let end = self.position.checked_add(length);
        match end.and_then(|end| Some((end, self.bytes.get(self.position..end)?))) {
            Some((end, taken)) => {
                self.position = end;
                Ok(taken)
            }
            None => Err(self.too_short(what, u64::try_from(length).unwrap_or(u64::MAX))),
        }
    }

    /// Takes as many bytes as a length field says.
    pub(crate) fn take_declared(
        &mut self,
        length: u64,
        what: &'static str,
    ) -> Result<&'a [u8], Error> {
        match usize::try_from(length) {
            Ok(length) => self.take(length, what),
            Err(_) => Err(self.too_short(what, length)),
        }
    }

    /// Takes `N` bytes.
    pub(crate) fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Error> {
        match self.take(N, what)?.first_chunk() {
            Some(array) => Ok(*array),
            None => Err(self.too_short(what, 0)),
        }
    }

    /// Takes one byte.
    pub(crate) fn byte(&mut self, what: &'static str) -> Result<u8, Error> {
        let [byte] = self.array(what)?;
        Ok(byte)
    }

    /// Takes the bytes up to the next newline, and the newline, which is not returned.
    pub(crate) fn line(&mut self, what: &'static str) -> Result<&'a [u8], Error> {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        match rest.iter().position(|byte| *byte == b'\n') {
            Some(length) => {
                let line = self.take(length, what)?;
                self.take(1, what)?;
                Ok(line)
            }
            None => Err(Error::malformed(
                format!("{what} without its newline"),
                self.position,
            )),
        }
    }

    fn too_short(&self, what: &'static str, needed: u64) -> Error {
        Error::truncated(what, self.position, needed, self.remaining())
    }
}
