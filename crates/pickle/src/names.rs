//! The names that one file uses: each is known, or it is written down for the refusal.

use crate::globals::{self, Special};
use crate::slot::Slot;
use crate::{ClassTable, Error, KnownGlobal};

/// How much of an unknown name is kept, in characters.
const NAME_CHARS_MAX: usize = 200;

/// How many unknown names are kept.
const UNKNOWN_NAMES_MAX: usize = 100;

/// Looks up names and collects those that nobody knows.
#[derive(Debug)]
pub(crate) struct Names<'t> {
    table: &'t ClassTable,
    pub(crate) unknown: Vec<Unknown>,
}

/// A name that nobody knows.
#[derive(Debug)]
pub(crate) struct Unknown {
    pub(crate) name: String,
    pub(crate) offset: usize,
}

impl<'t> Names<'t> {
    pub(crate) fn new(table: &'t ClassTable) -> Self {
        Self {
            table,
            unknown: Vec::new(),
        }
    }

    /// Finds a name that the file uses at `offset`: one of the reader's own set, of the caller's table, or unknown.
    pub(crate) fn find<'a>(
        &mut self,
        module: &str,
        name: &str,
        offset: usize,
    ) -> Result<Slot<'a>, Error> {
        if let Some(special) = Special::find(module, name) {
            return Ok(Slot::Special(special));
        }
        if let Some(known) = self.known(module, name) {
            return Ok(Slot::Known(known));
        }
        self.refuse(module, name, offset)
    }

    /// Finds a name that a file may hold or record.
    pub(crate) fn known(&self, module: &str, name: &str) -> Option<&'static KnownGlobal> {
        globals::find_plain(module, name).or_else(|| self.table.get(module, name))
    }

    /// Writes down a name that nobody knows.
    pub(crate) fn refuse<'a>(
        &mut self,
        module: &str,
        name: &str,
        offset: usize,
    ) -> Result<Slot<'a>, Error> {
        let name: String = module
            .chars()
            .chain(std::iter::once('.'))
            .chain(name.chars())
            .take(NAME_CHARS_MAX)
            .flat_map(char::escape_debug)
            .collect();
        if let Some(number) = self.unknown.iter().position(|unknown| unknown.name == name) {
            return Ok(Slot::Unknown(number));
        }
        if self.unknown.len() >= UNKNOWN_NAMES_MAX {
            return Err(Error::limit("the unknown names", UNKNOWN_NAMES_MAX));
        }
        self.unknown.push(Unknown { name, offset });
        Ok(Slot::Unknown(self.unknown.len().saturating_sub(1)))
    }
}
