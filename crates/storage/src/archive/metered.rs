//! A reader that gives out no more than it was allowed, for parsers that size buffers by what they read.

use std::cell::Cell;
use std::io::{self, Read, Seek, SeekFrom};
use std::rc::Rc;

/// What may still be read; shared by the reader and whoever grants.
#[derive(Clone, Debug)]
pub(super) struct Allowance(Rc<Cell<u64>>);

impl Allowance {
    pub(super) fn new(bytes: u64) -> Self {
        Self(Rc::new(Cell::new(bytes)))
    }

    pub(super) fn set(&self, bytes: u64) {
        self.0.set(bytes);
    }
}

/// Reads from `inner` what the allowance lets through; past it every read is an error.
#[derive(Debug)]
pub(super) struct Metered<R> {
    inner: R,
    allowance: Allowance,
}

impl<R> Metered<R> {
    pub(super) fn new(inner: R, allowance: Allowance) -> Self {
        Self { inner, allowance }
    }
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let allowed = self.allowance.0.get();
        if allowed == 0 && !buffer.is_empty() {
            return Err(io::Error::other(
                "the archive's own headers are larger than any honest archive's",
            ));
        }
        let wanted = buffer
            .len()
            .min(usize::try_from(allowed).unwrap_or(usize::MAX));
        let n_read = self.inner.read(&mut buffer[..wanted])?;
        let used = u64::try_from(n_read).unwrap_or(u64::MAX);
        self.allowance.set(allowed.saturating_sub(used));
        Ok(n_read)
    }
}

impl<R: Seek> Seek for Metered<R> {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.inner.seek(position)
    }
}
