//! Files that only their owner may read.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use crate::AccessError;

fn failure(action: &'static str, path: &Path, reason: impl ToString) -> AccessError {
    AccessError {
        action,
        path: path.display().to_string(),
        reason: reason.to_string(),
    }
}

/// Returns the text of a file; `None` if there is no such file.
pub(crate) fn read(path: &Path) -> Result<Option<String>, AccessError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failure("cannot read", path, error)),
    }
}

/// Returns the failure of a file that says what cannot be understood.
pub(crate) fn malformed(path: &Path, reason: impl ToString) -> AccessError {
    failure("cannot use", path, reason)
}

/// Writes a file whole or not at all; its directory is made if it is missing.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), AccessError> {
    let write = || -> std::io::Result<()> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        let temporary = path.with_extension("new");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        restrict(&mut options);
        let mut file = options.open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|error| failure("cannot write", path, error))
}

#[cfg(unix)]
fn restrict(options: &mut OpenOptions) {
    use std::os::unix::fs::OpenOptionsExt as _;
    options.mode(0o600);
}

#[cfg(not(unix))]
fn restrict(_options: &mut OpenOptions) {}
