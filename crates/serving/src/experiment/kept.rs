//! Which files of experiments stay. Those of objects that are gone, and of canaries that are over, go; nothing else under the directory does.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::BookId;

/// What the name of a book's file ends with.
const ENDING: &str = ".jsonl";
/// The digits of the hash in it.
const HASH_DIGITS: usize = 16;

/// Returns the file of a book.
pub(super) fn file_name(of: &BookId) -> PathBuf {
    let salt = super::tally::hash(&format!("{}\n{}", of.uid, of.salt));
    PathBuf::from(&of.namespace).join(format!("{}-{salt:016x}{ENDING}", of.name))
}

/// The files that stay.
#[derive(Debug)]
pub(super) struct Kept {
    directory: PathBuf,
    /// All do as long as nothing is known.
    files: Option<BTreeSet<PathBuf>>,
}

impl Kept {
    /// Keeps all files under `directory`.
    pub(super) fn all(directory: PathBuf) -> Self {
        Self {
            directory,
            files: None,
        }
    }

    /// Keeps these from now on, and those that are open as long as they are.
    pub(super) fn set(&mut self, files: BTreeSet<PathBuf>, is_open: impl Fn(&Path) -> bool) {
        self.files = Some(files);
        for namespace in entries(&self.directory) {
            for path in entries(&namespace) {
                if let Some(book) = book_of(&path).filter(|book| !is_open(book)) {
                    self.let_go(&book);
                }
            }
        }
    }

    /// Tells whether a file stays when it is not open.
    pub(super) fn contains(&self, book: &Path) -> bool {
        self.files.as_ref().is_none_or(|files| files.contains(book))
    }

    /// Removes the files of a book that is not open, unless they are to stay. What cannot be removed is tried again at the next change, or
    /// start.
    pub(super) fn let_go(&self, book: &Path) {
        if !self.contains(book) {
            for path in [book.to_owned(), beside(book, "1"), beside(book, "new")] {
                drop(fs::remove_file(path));
            }
            // That of a namespace goes with its last file; one that is not empty stays.
            if let Some(namespace) = book.parent() {
                drop(fs::remove_dir(namespace));
            }
        }
    }
}

/// Returns the path of a file that is kept beside a book's.
pub(super) fn beside(path: &Path, what: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(what);
    name.into()
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// Returns the book that a file is of, if its name is one of ours.
fn book_of(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let name = name
        .strip_suffix(".1")
        .or_else(|| name.strip_suffix(".new"))
        .unwrap_or(name);
    let (_, hash) = name.strip_suffix(ENDING)?.rsplit_once('-')?;
    let is_hash = hash.len() == HASH_DIGITS
        && hash
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_hash.then(|| path.with_file_name(name))
}
