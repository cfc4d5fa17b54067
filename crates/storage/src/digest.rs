//! What a directory holds and the digest that names it.
//!
//! Symbolic links are followed, as volumes made from ConfigMaps consist of them. Names that begin with
//! `..` (the hidden directories of such volumes) and `lost+found` are passed over.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::config::StorageLimits;
use crate::error::{StorageError, StorageErrorKind};

/// The deepest directory that is looked into; links that form a circle end here.
const DEPTH_MAX: usize = 32;

/// How many directories may be looked into for every file that is allowed.
const DIRECTORIES_PER_FILE_MAX: usize = 4;

const READ_BYTES: usize = 1 << 18;

/// A file of an artifact.
#[derive(Clone, Debug)]
pub(crate) struct TreeFile {
    /// The path within the artifact.
    pub(crate) relative: PathBuf,
    /// Where to read it.
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
}

/// What a list of files adds up to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) digest: String,
    pub(crate) bytes: u64,
    pub(crate) n_files: usize,
}

/// Lists the files of `root`, which may be a file itself, sorted by relative path.
///
/// With a `fence` (an absolute path without links) nothing outside of it is listed: a link that leads
/// out is an error.
pub(crate) fn walk(
    root: &Path,
    fence: Option<&Path>,
    limits: &StorageLimits,
) -> Result<Vec<TreeFile>, StorageError> {
    let mut files = Vec::new();
    let mut bytes: u64 = 0;
    let mut n_directories: usize = 0;
    let mut open = vec![(root.to_path_buf(), PathBuf::new(), 0)];
    while let Some((path, relative, depth)) = open.pop() {
        check_fence(&path, fence)?;
        let metadata =
            fs::metadata(&path).map_err(|source| StorageError::unreadable(&path, source))?;
        if metadata.is_dir() {
            n_directories += 1;
            let n_directories_max = limits
                .files_max
                .saturating_mul(DIRECTORIES_PER_FILE_MAX)
                .max(DEPTH_MAX);
            if depth == DEPTH_MAX || n_directories > n_directories_max {
                return Err(too_many_directories(root, n_directories_max));
            }
            for name in names(&path)? {
                open.push((path.join(&name), relative.join(&name), depth + 1));
            }
        } else if metadata.is_file() {
            let relative = match root.file_name() {
                Some(name) if relative.as_os_str().is_empty() => PathBuf::from(name),
                _ => relative,
            };
            bytes = bytes.saturating_add(metadata.len());
            files.push(TreeFile {
                relative,
                path,
                bytes: metadata.len(),
            });
            check_limits(root, files.len(), bytes, limits)?;
        }
    }
    files.sort_by(|a, b| a.relative.cmp(&b.relative));
    Ok(files)
}

fn too_many_directories(root: &Path, n_directories_max: usize) -> StorageError {
    StorageError::new(
        StorageErrorKind::TooLarge,
        format!(
            "`{}` holds more than {n_directories_max} directories, or goes deeper than {DEPTH_MAX}; look for a \
             link that leads back up",
            root.display()
        ),
    )
}

/// Checks the size of an artifact that is to be, or is, at `place`.
pub(crate) fn check_limits(
    place: impl AsRef<Path>,
    n_files: usize,
    bytes: u64,
    limits: &StorageLimits,
) -> Result<(), StorageError> {
    let place = place.as_ref().display();
    let message = if n_files > limits.files_max {
        format!(
            "`{place}` holds more than {} files; name a smaller directory or raise files_max",
            limits.files_max
        )
    } else if bytes > limits.artifact_bytes_max.as_u64() {
        format!(
            "`{place}` holds more than {}; name a smaller directory or raise artifact_bytes_max",
            limits.artifact_bytes_max
        )
    } else {
        return Ok(());
    };
    Err(StorageError::new(StorageErrorKind::TooLarge, message))
}

/// Reads every file and returns the digest of them all.
pub(crate) fn summarize(files: &[TreeFile]) -> Result<Summary, StorageError> {
    let mut whole = Sha256::new();
    let mut bytes: u64 = 0;
    for file in files {
        let (digest, size) = hash_file(&file.path)?;
        whole.update(file.relative.as_os_str().as_encoded_bytes());
        whole.update([0]);
        whole.update(digest.as_bytes());
        whole.update(b"\n");
        bytes = bytes.saturating_add(size);
    }
    Ok(Summary {
        digest: to_hex(&whole.finalize()),
        bytes,
        n_files: files.len(),
    })
}

/// Returns the SHA-256 of a file in hexadecimal, and its size.
pub(crate) fn hash_file(path: &Path) -> Result<(String, u64), StorageError> {
    let error = |source| StorageError::unreadable(path, source);
    let mut file = fs::File::open(path).map_err(error)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut bytes: u64 = 0;
    loop {
        let n_read = file.read(&mut buffer).map_err(error)?;
        if n_read == 0 {
            return Ok((to_hex(&hasher.finalize()), bytes));
        }
        hasher.update(&buffer[..n_read]);
        bytes = bytes.saturating_add(n_read.try_into().unwrap_or(u64::MAX));
    }
}

/// Returns the SHA-256 of several texts in hexadecimal; where one ends and the next begins counts.
pub(crate) fn hash_texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hasher = Sha256::new();
    for text in texts {
        hasher.update(text.len().to_le_bytes());
        hasher.update(text.as_bytes());
    }
    to_hex(&hasher.finalize())
}

pub(crate) fn to_hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string does not fail.
        let _always_ok = write!(text, "{byte:02x}");
    }
    text
}

fn names(directory: &Path) -> Result<Vec<std::ffi::OsString>, StorageError> {
    let error = |source| StorageError::unreadable(directory, source);
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(error)? {
        let name = entry.map_err(error)?.file_name();
        let is_hidden = name.as_encoded_bytes().starts_with(b"..");
        if !is_hidden && name != OsStr::new("lost+found") {
            names.push(name);
        }
    }
    Ok(names)
}

fn check_fence(path: &Path, fence: Option<&Path>) -> Result<(), StorageError> {
    let Some(fence) = fence else {
        return Ok(());
    };
    let real = fs::canonicalize(path).map_err(|source| StorageError::unreadable(path, source))?;
    if real.starts_with(fence) {
        return Ok(());
    }
    Err(StorageError::new(
        StorageErrorKind::AccessDenied,
        format!(
            "`{}` is a link that leads out of its volume; put the file itself there",
            path.display()
        ),
    ))
}
