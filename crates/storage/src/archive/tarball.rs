//! Tar archives: one pass from front to back.

use std::io::{self, Read};

use tar::EntryType;

use super::metered::{Allowance, Metered};
use super::{HEADER_BYTES_MAX, Unpacking};
use crate::error::StorageError;

pub(super) fn unpack(reader: impl Read, unpacking: &mut Unpacking<'_>) -> Result<(), StorageError> {
    let allowance = Allowance::new(HEADER_BYTES_MAX);
    let mut archive = tar::Archive::new(Metered::new(reader, allowance.clone()));
    let mut entries = archive
        .entries()
        .map_err(|source| unpacking.unreadable(source))?;
    loop {
        // The tar reader keeps long names and extension headers in memory while it looks for an entry.
        allowance.set(HEADER_BYTES_MAX);
        let mut entry = match entries.next() {
            None => return Ok(()),
            Some(Ok(entry)) => entry,
            Some(Err(source)) => return Err(unpacking.unreadable(source)),
        };
        allowance.set(u64::MAX);
        let name = entry.path_bytes().into_owned();
        let entry_type = entry.header().entry_type();
        if entry_type == EntryType::XGlobalHeader {
            // A note by the program that made the archive (`git archive` puts the commit there).
            io::copy(&mut entry.by_ref().take(HEADER_BYTES_MAX), &mut io::sink())
                .map_err(|source| unpacking.damaged(&name, source))?;
            continue;
        }
        let Some(path) = unpacking.admit(&name)? else {
            continue;
        };
        match entry_type {
            EntryType::Directory => unpacking.make_directory(&name, &path)?,
            EntryType::Regular | EntryType::Continuous => {
                let expected = entry.size();
                let bytes = unpacking.write_file(&name, &path, &mut entry)?;
                if bytes != expected {
                    let source = io::Error::from(io::ErrorKind::UnexpectedEof);
                    return Err(unpacking.damaged(&name, source));
                }
            }
            EntryType::Symlink => return Err(unpacking.unsafe_entry(&name, "is a symbolic link")),
            EntryType::Link => return Err(unpacking.unsafe_entry(&name, "is a hard link")),
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                return Err(unpacking.unsafe_entry(&name, "is a device or pipe"));
            }
            _ => return Err(unpacking.unsafe_entry(&name, "is no plain file")),
        }
    }
}
