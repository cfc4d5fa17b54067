//! Unpacks tar and zip archives that nobody vouches for.
//!
//! Only directories and plain files come out, all of them below the target; links, devices, absolute
//! names and `..` are errors, not skipped. Owners, modes and times in the archive are ignored. The target
//! is for the caller to move into place or to remove.

mod metered;
mod tarball;
mod zip_file;

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::config::StorageLimits;
use crate::error::{StorageError, StorageErrorKind};

/// What an archive may make its reader hold in memory for one entry (long names, extension headers) or
/// for the table of all entries, before the part that grows with the number of entries.
const HEADER_BYTES_MAX: u64 = 1 << 20;

/// The forms of archive that are unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ArchiveForm {
    Tar,
    TarGz,
    Zip,
}

impl ArchiveForm {
    /// Returns the form that a file's name says it has.
    pub(crate) fn of(file_name: &Path) -> Option<Self> {
        let name = file_name
            .file_name()?
            .to_string_lossy()
            .to_ascii_lowercase();
        let endings = [
            (".tar", Self::Tar),
            (".tar.gz", Self::TarGz),
            (".tgz", Self::TarGz),
            (".zip", Self::Zip),
        ];
        endings
            .into_iter()
            .find(|(ending, _)| name.ends_with(ending))
            .map(|(_, form)| form)
    }
}

/// Unpacks `archive` into `target`, a directory made anew. `shown` is what messages call the archive.
///
/// On failure the target is removed.
pub(crate) fn unpack(
    archive: &Path,
    form: ArchiveForm,
    target: &Path,
    shown: &str,
    limits: &StorageLimits,
) -> Result<(), StorageError> {
    crate::cache::remove(target)?;
    fs::create_dir_all(target).map_err(|source| StorageError::local("create", target, source))?;
    let mut unpacking = Unpacking {
        target,
        shown,
        limits,
        n_entries: 0,
        bytes_left: limits.artifact_bytes_max.as_u64(),
    };
    let file =
        fs::File::open(archive).map_err(|source| StorageError::unreadable(archive, source))?;
    let outcome = match form {
        ArchiveForm::Tar => tarball::unpack(io::BufReader::new(file), &mut unpacking),
        ArchiveForm::TarGz => {
            let decoder = flate2::bufread::MultiGzDecoder::new(io::BufReader::new(file));
            tarball::unpack(decoder, &mut unpacking)
        }
        ArchiveForm::Zip => zip_file::unpack(file, &mut unpacking),
    };
    if outcome.is_err() {
        crate::cache::remove(target)?;
    }
    outcome
}

/// One archive on its way to a directory, and what it may still use.
struct Unpacking<'a> {
    target: &'a Path,
    shown: &'a str,
    limits: &'a StorageLimits,
    n_entries: usize,
    bytes_left: u64,
}

impl Unpacking<'_> {
    /// Counts an entry and returns where it goes; none for the archive's own root.
    fn admit(&mut self, name: &[u8]) -> Result<Option<PathBuf>, StorageError> {
        self.n_entries += 1;
        if self.n_entries > self.limits.files_max {
            return Err(self.too_large(
                name,
                &format!(
                    "is past the {} entries that files_max allows",
                    self.limits.files_max
                ),
            ));
        }
        let relative = self.relative(name)?;
        Ok(relative.map(|relative| self.target.join(relative)))
    }

    fn relative(&self, name: &[u8]) -> Result<Option<PathBuf>, StorageError> {
        let text =
            std::str::from_utf8(name).map_err(|_bytes| self.unsafe_entry(name, "is not UTF-8"))?;
        if text.starts_with('/') {
            return Err(self.unsafe_entry(name, "is an absolute path"));
        }
        if text.contains(['\\', '\0']) {
            return Err(self.unsafe_entry(name, "has a backslash or NUL in its name"));
        }
        let mut relative = PathBuf::new();
        for part in text.split('/') {
            match part {
                "" | "." => {}
                ".." => return Err(self.unsafe_entry(name, "goes up with `..`")),
                _ => relative.push(part),
            }
        }
        Ok((!relative.as_os_str().is_empty()).then_some(relative))
    }

    fn make_directory(&self, name: &[u8], path: &Path) -> Result<(), StorageError> {
        fs::create_dir_all(path).map_err(|source| self.not_written(name, path, source))
    }

    /// Writes one file to its end; returns the number of bytes.
    fn write_file(
        &mut self,
        name: &[u8],
        path: &Path,
        content: &mut dyn Read,
    ) -> Result<u64, StorageError> {
        if let Some(parent) = path.parent() {
            self.make_directory(name, parent)?;
        }
        let mut file =
            fs::File::create_new(path).map_err(|source| self.not_written(name, path, source))?;
        let mut content = content.take(self.bytes_left.saturating_add(1));
        let mut buffer = vec![0; 1 << 16];
        let mut bytes: u64 = 0;
        loop {
            let n_read = match content.read(&mut buffer) {
                Ok(0) => break,
                Ok(n_read) => n_read,
                Err(source) => return Err(self.damaged(name, source)),
            };
            io::Write::write_all(&mut file, &buffer[..n_read])
                .map_err(|source| self.not_written(name, path, source))?;
            bytes = bytes.saturating_add(n_read.try_into().unwrap_or(u64::MAX));
        }
        match self.bytes_left.checked_sub(bytes) {
            Some(left) => self.bytes_left = left,
            None => {
                return Err(self.too_large(
                    name,
                    &format!(
                        "unpacks to more than the {} that artifact_bytes_max allows",
                        self.limits.artifact_bytes_max
                    ),
                ));
            }
        }
        Ok(bytes)
    }

    fn not_written(&self, name: &[u8], path: &Path, source: io::Error) -> StorageError {
        match source.kind() {
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
                self.unsafe_entry(name, "stands where another entry is already")
            }
            _ => StorageError::local("write", path, source),
        }
    }

    fn unsafe_entry(&self, name: &[u8], problem: &str) -> StorageError {
        StorageError::new(
            StorageErrorKind::UnsafeArchive,
            format!(
                "archive {}: entry `{}` {problem}; only plain files and directories below the archive's root \
                 are unpacked",
                self.shown,
                name.escape_ascii()
            ),
        )
    }

    fn too_large(&self, name: &[u8], problem: &str) -> StorageError {
        StorageError::new(
            StorageErrorKind::TooLarge,
            format!(
                "archive {}: entry `{}` {problem}",
                self.shown,
                name.escape_ascii()
            ),
        )
    }

    fn damaged(&self, name: &[u8], source: io::Error) -> StorageError {
        StorageError::new(
            StorageErrorKind::Damaged,
            format!(
                "archive {} is damaged or cut short near entry `{}`; store it anew",
                self.shown,
                name.escape_ascii()
            ),
        )
        .with_source(source)
    }

    fn unreadable(&self, source: io::Error) -> StorageError {
        StorageError::new(
            StorageErrorKind::Damaged,
            format!(
                "archive {} cannot be read after {} entries: it is damaged, cut short or not what its \
                 name says (.tar, .tar.gz, .tgz, .zip)",
                self.shown, self.n_entries
            ),
        )
        .with_source(source)
    }

    /// How many bytes the table of all entries may take.
    fn table_bytes_max(&self) -> u64 {
        u64::try_from(self.limits.files_max)
            .unwrap_or(u64::MAX)
            .saturating_mul(1 << 10)
            .saturating_add(HEADER_BYTES_MAX)
    }
}

#[cfg(test)]
mod tests;
