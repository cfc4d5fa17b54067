//! What tells whether files have changed without reading them.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

/// The most files of a directory that are looked at.
const FILES_MAX: usize = 1_000;

/// The names, sizes and times of a file, or of the files at the top of a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fingerprint {
    files: Vec<(std::ffi::OsString, u64, Option<SystemTime>)>,
}

impl Fingerprint {
    /// Looks at `place`; what cannot be looked at is as if it were not there.
    pub(super) fn of(place: &Path) -> Self {
        let mut files = Vec::new();
        let entries = match fs::read_dir(place) {
            Ok(entries) => entries
                .filter_map(Result::ok)
                .take(FILES_MAX)
                .map(|entry| entry.path())
                .collect(),
            Err(_not_a_directory) => vec![place.to_path_buf()],
        };
        for path in entries {
            // Through links, as the model is read.
            if let Ok(metadata) = fs::metadata(&path) {
                let name = path.file_name().unwrap_or_default().to_owned();
                files.push((name, metadata.len(), metadata.modified().ok()));
            }
        }
        files.sort();
        Self { files }
    }
}
