//! An experiment's file: lines that are only ever added to. One that has become long is written anew, as what has come of it; the old one
//! stays beside it, with `.1` after its name, in the place of the one before.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};

use super::kept::beside;
use super::record::{LineForm, Record};

/// Longer lines are none of ours.
const LINE_BYTES_MAX: u64 = 64 << 20;
/// A file of so many bytes is written anew.
pub(super) const FILE_BYTES_MAX: u64 = 256 << 20;

/// An experiment's file.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    form: LineForm,
    file: File,
    n_bytes: u64,
    /// From so many bytes on it is written anew.
    n_bytes_max: u64,
}

/// What was found in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Lines that were taken.
    pub(super) n_lines: u64,
    /// Lines that could not be read; a last one that was cut is none of them.
    pub(super) n_bad: u64,
    /// The number of the first one of those, from 1.
    pub(super) first_bad: Option<u64>,
}

impl Found {
    fn note_bad(&mut self, line: u64) {
        self.n_bad += 1;
        self.first_bad = self.first_bad.or(Some(line));
    }

    /// Returns what is to be said of lines of `path` that could not be read, if there are some.
    pub(super) fn complaint(&self, path: &Path) -> Option<String> {
        let (path, first) = (path.display(), self.first_bad?);
        Some(match self.n_bad {
            1 => format!("{path}: line {first} could not be read"),
            n_bad => {
                format!("{path}: {n_bad} lines could not be read, the first is line {first}")
            }
        })
    }
}

impl Journal {
    /// Opens a file, or makes it; every record goes to `take`. A last line that was cut goes.
    pub(super) fn open(
        path: &Path,
        form: LineForm,
        mut take: impl FnMut(Record<'_>),
    ) -> io::Result<(Self, Found)> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        let is_new = !path.exists();
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path)?;
        if is_new {
            sync_names(path)?;
        }
        let (mut found, mut n_bytes) = (Found::default(), 0_u64);
        let mut reader = BufReader::new(&file);
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            let mut bounded = reader.by_ref().take(LINE_BYTES_MAX);
            let n_read = bounded.read_until(b'\n', &mut line)?;
            if n_read == 0 {
                break;
            }
            if line.last() != Some(&b'\n') {
                // The end of a line that was being written, or no line at all.
                if u64::try_from(n_read).is_ok_and(|n_read| n_read >= LINE_BYTES_MAX) {
                    found.note_bad(number);
                }
                break;
            }
            n_bytes += u64::try_from(n_read).unwrap_or(0);
            match form.record(&line) {
                Some(record) => {
                    found.n_lines += 1;
                    take(record);
                }
                None => found.note_bad(number),
            }
        }
        let is_cut = file.metadata()?.len() > n_bytes;
        if is_cut {
            file.set_len(n_bytes)?;
        }
        let journal = Self {
            path: path.to_owned(),
            form,
            file,
            n_bytes,
            n_bytes_max: FILE_BYTES_MAX.max(n_bytes.saturating_mul(2)),
        };
        Ok((journal, found))
    }

    /// Adds lines, all or none.
    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all(lines) {
            // Half a line would spoil the next one.
            self.file.set_len(self.n_bytes)?;
            return Err(error);
        }
        self.n_bytes += u64::try_from(lines.len()).unwrap_or(0);
        Ok(())
    }

    /// Waits until everything is on the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Tells whether it is time to write it anew.
    pub(super) fn is_long(&self) -> bool {
        self.n_bytes >= self.n_bytes_max
    }

    /// Writes the file anew with what `records` gives to its argument.
    pub(super) fn rewrite(
        &mut self,
        records: impl FnOnce(&mut dyn FnMut(&Record<'_>) -> io::Result<()>) -> io::Result<()>,
    ) -> io::Result<()> {
        let (new, old) = (beside(&self.path, "new"), beside(&self.path, "1"));
        let mut out = BufWriter::new(File::create(&new)?);
        let mut n_bytes = 0_u64;
        records(&mut |record| {
            let line = self.form.line(record)?;
            n_bytes += u64::try_from(line.len()).unwrap_or(0);
            out.write_all(&line)
        })?;
        let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        // The file itself is there at every moment: a link to what it was, then the new one in its place.
        drop(fs::remove_file(&old));
        fs::hard_link(&self.path, &old)?;
        fs::rename(&new, &self.path)?;
        sync_names(&self.path)?;
        self.file = OpenOptions::new().append(true).open(&self.path)?;
        self.n_bytes = n_bytes;
        self.n_bytes_max = FILE_BYTES_MAX.max(n_bytes.saturating_mul(2));
        Ok(())
    }

    /// Makes it long after so many bytes.
    #[cfg(test)]
    pub(super) fn set_max(&mut self, n_bytes: u64) {
        self.n_bytes_max = n_bytes;
    }
}

/// Waits until the directory of a file, and that of the directory, have their names on the disk: a file without a name is none after the machine is lost.
fn sync_names(path: &Path) -> io::Result<()> {
    let directories = path.ancestors().skip(1).take(2);
    for directory in directories.filter(|directory| !directory.as_os_str().is_empty()) {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}
