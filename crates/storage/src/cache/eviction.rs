//! Keeps the cache within its size: what was used least recently goes first, what is in use stays.
//!
//! `used/DIGEST.json` says how large an artifact is and when it was used last, counted in uses. Removal begins with
//! a rename, so that an artifact is there whole or not at all, whenever the process ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use super::{Cache, remove};
use crate::config::StorageLimits;
use crate::digest;
use crate::error::StorageError;
use crate::locks::{LockGuard, Locks};

/// What is known of an artifact's use.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(super) struct Use {
    bytes: u64,
    /// Higher is later.
    number: u64,
}

/// Something that may be removed.
struct Removable {
    path: PathBuf,
    name: String,
    bytes: u64,
    number: u64,
}

impl Cache {
    /// Returns the number of the last use that is written down in `root`.
    pub(super) fn last_use(root: &Path) -> u64 {
        let uses = entries(&root.join("used"));
        let uses = uses.filter_map(|path| read_use(&path));
        uses.map(|last| last.number).max().unwrap_or(0)
    }

    /// Writes down that an artifact is used now. What cannot be written is taken to be old.
    pub(super) fn note_use(&self, digest: &str, bytes: u64) {
        let number = self.last_use.fetch_add(1, Ordering::Relaxed) + 1;
        let path = self.use_file(digest);
        let text = serde_json::to_vec(&Use { bytes, number }).unwrap_or_default();
        let unfinished = path.with_extension(format!("{number}.new"));
        if fs::write(&unfinished, text).is_ok() {
            drop(fs::rename(&unfinished, &path));
        }
    }

    fn use_file(&self, digest: &str) -> PathBuf {
        self.root.join("used").join(format!("{digest}.json"))
    }

    /// Removes what is not in use until `bytes` more are within the cache's size, or nothing is left to remove.
    ///
    /// What an interrupted fetch left goes first; then artifacts, by their last use.
    pub(crate) fn make_room(&self, bytes: u64, locks: &Locks, limits: &StorageLimits) {
        let Some(bytes_max) = self.bytes_max else {
            return;
        };
        let _one_at_a_time = self
            .evicting
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let partial = self.partial_fetches(limits);
        let artifacts = self.artifacts(limits);
        let all = partial.iter().chain(&artifacts);
        let mut total: u64 = all.map(|one| one.bytes).fold(bytes, u64::saturating_add);
        for one in &partial {
            if total <= bytes_max {
                return;
            }
            // A running fetch holds the lock of its files.
            if let Some(guard) = locks.try_lock(&one.name)
                && self.remove_idle(one, Some(guard)).is_ok_and(|done| done)
            {
                total = total.saturating_sub(one.bytes);
            }
        }
        for one in &artifacts {
            if total <= bytes_max {
                return;
            }
            if self.remove_idle(one, None).is_ok_and(|done| done) {
                total = total.saturating_sub(one.bytes);
            }
        }
    }

    fn partial_fetches(&self, limits: &StorageLimits) -> Vec<Removable> {
        let paths = entries(&self.root.join("partial"));
        let all = paths.filter_map(|path| {
            Some(Removable {
                name: path.file_name()?.to_str()?.to_owned(),
                bytes: size(&path.join("files"), limits),
                number: 0,
                path,
            })
        });
        all.collect()
    }

    /// Returns the artifacts by their last use; what is in use counts as used now.
    fn artifacts(&self, limits: &StorageLimits) -> Vec<Removable> {
        let paths = entries(&self.root.join("artifacts"));
        let all = paths.filter_map(|path| {
            let name = path.file_name()?.to_str()?.to_owned();
            let mut last = read_use(&self.use_file(&name)).unwrap_or_else(|| Use {
                bytes: size(&path, limits),
                number: 0,
            });
            if self.leases.if_idle(&name, || ()).is_none() {
                self.note_use(&name, last.bytes);
                last.number = u64::MAX;
            }
            Some(Removable {
                name,
                bytes: last.bytes,
                number: last.number,
                path,
            })
        });
        let mut all: Vec<Removable> = all.collect();
        all.sort_by_key(|one| one.number);
        all
    }

    /// Removes `one` unless it is in use; tells whether it was removed.
    fn remove_idle(&self, one: &Removable, guard: Option<LockGuard>) -> Result<bool, StorageError> {
        let aside = self.root.join("evicted").join(&one.name);
        remove(&aside)?;
        let moved = self
            .leases
            .if_idle(&one.name, || fs::rename(&one.path, &aside));
        drop(guard);
        match moved {
            None => Ok(false),
            Some(Err(source)) => Err(StorageError::local("remove", &one.path, source)),
            Some(Ok(())) => {
                remove(&self.use_file(&one.name))?;
                remove(&aside)?;
                Ok(true)
            }
        }
    }
}

fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path()))
}

fn read_use(path: &Path) -> Option<Use> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Returns the size of a directory's files; what cannot be read counts as nothing.
fn size(path: &Path, limits: &StorageLimits) -> u64 {
    let files = digest::walk(path, None, limits).unwrap_or_default();
    files.iter().map(|file| file.bytes).sum()
}
