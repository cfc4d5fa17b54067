//! Zip archives, stored or deflated: by the table at their end.

use std::fs::File;
use std::io::{self, BufReader};

use zip::result::ZipError;

use super::Unpacking;
use super::metered::{Allowance, Metered};
use crate::error::StorageError;

const FILE_TYPE_MASK: u32 = 0o170_000;
const FILE_TYPE_REGULAR: u32 = 0o100_000;
const FILE_TYPE_DIRECTORY: u32 = 0o040_000;

pub(super) fn unpack(file: File, unpacking: &mut Unpacking<'_>) -> Result<(), StorageError> {
    // The zip reader keeps the whole table in memory.
    let allowance = Allowance::new(unpacking.table_bytes_max());
    let reader = BufReader::new(Metered::new(file, allowance.clone()));
    let mut archive =
        zip::ZipArchive::new(reader).map_err(|error| unpacking.unreadable(to_io(error)))?;
    allowance.set(u64::MAX);
    for index in 0..archive.len() {
        let mut entry = archive
            .by_index(index)
            .map_err(|error| unpacking.unreadable(to_io(error)))?;
        let name = entry.name_raw().to_vec();
        let Some(path) = unpacking.admit(&name)? else {
            continue;
        };
        if entry.is_symlink() {
            return Err(unpacking.unsafe_entry(&name, "is a symbolic link"));
        }
        let file_type = entry.unix_mode().map_or(0, |mode| mode & FILE_TYPE_MASK);
        if ![0, FILE_TYPE_REGULAR, FILE_TYPE_DIRECTORY].contains(&file_type) {
            return Err(unpacking.unsafe_entry(&name, "is a device or pipe"));
        }
        if entry.is_dir() {
            unpacking.make_directory(&name, &path)?;
        } else {
            unpacking.write_file(&name, &path, &mut entry)?;
        }
    }
    Ok(())
}

/// Keeps what the zip reader says, which for a method or password it lacks is the whole story.
fn to_io(error: ZipError) -> io::Error {
    match error {
        ZipError::Io(error) => error,
        other => io::Error::other(other),
    }
}
