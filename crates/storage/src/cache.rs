//! The cache directory: `artifacts/DIGEST` (whole, shared, never changed), `index/KEY.json` (which listing
//! of a URI gave which digest), `partial/KEY` (what an interrupted fetch left), `used/DIGEST.json` (when an
//! artifact was used last), `assembled/KEY` (links into several artifacts), `evicted` (what is being removed).

mod eviction;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use crate::config::{Artifact, StorageLimits};
use crate::digest::{self, Summary};
use crate::error::{StorageError, StorageErrorKind};
use crate::leases::Leases;

/// The cache directory of one process.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    root: PathBuf,
    /// What it may hold; what is in use may be more.
    bytes_max: Option<u64>,
    leases: Arc<Leases>,
    last_use: Arc<AtomicU64>,
    evicting: Arc<Mutex<()>>,
}

/// What the index remembers of a URI.
#[derive(Debug, Deserialize, Serialize)]
struct IndexEntry {
    /// Of the listing: every path, size and entity tag.
    fingerprint: String,
    digest: String,
    bytes: u64,
    n_files: usize,
}

impl Cache {
    pub(crate) fn try_new(root: &Path, bytes_max: Option<u64>) -> Result<Self, StorageError> {
        // Nobody uses yet what was assembled before; what was being removed is not wanted.
        for name in ["assembled", "evicted"] {
            remove(&root.join(name))?;
        }
        for name in [
            "artifacts",
            "index",
            "partial",
            "used",
            "assembled",
            "evicted",
        ] {
            let path = root.join(name);
            fs::create_dir_all(&path)
                .map_err(|source| StorageError::local("create", &path, source))?;
        }
        Ok(Self {
            root: root.to_path_buf(),
            bytes_max,
            leases: Arc::default(),
            last_use: Arc::new(AtomicU64::new(Self::last_use(root))),
            evicting: Arc::default(),
        })
    }

    /// Where files from several places are put together.
    pub(crate) fn assembled(&self, key: &str) -> PathBuf {
        self.root.join("assembled").join(key)
    }

    /// Where the files of an unfinished fetch are put.
    pub(crate) fn partial(&self, key: &str) -> PathBuf {
        self.root.join("partial").join(key)
    }

    /// Returns the artifact that a listing with this fingerprint gave, if it is still whole.
    pub(crate) fn recall(
        &self,
        key: &str,
        fingerprint: &str,
        limits: &StorageLimits,
    ) -> Option<Artifact> {
        // Whatever is wrong with an entry, the remedy is to fetch again.
        let text = fs::read(self.index_file(key)).ok()?;
        let entry: IndexEntry = serde_json::from_slice(&text).ok()?;
        let directory = self.artifact_dir(&entry.digest)?;
        if entry.fingerprint != fingerprint {
            return None;
        }
        // Taken into use before it is looked for: it cannot be evicted after it was found.
        let lease = self.leases.take(&entry.digest);
        let files = digest::walk(&directory, None, limits).ok()?;
        let bytes: u64 = files.iter().map(|file| file.bytes).sum();
        if files.len() != entry.n_files || bytes != entry.bytes {
            return None;
        }
        self.note_use(&entry.digest, bytes);
        Some(Artifact {
            directory,
            digest: entry.digest,
            bytes,
            n_files: entry.n_files,
            is_from_before: false,
            lease,
        })
    }

    /// Remembers which artifact a listing gave.
    pub(crate) fn remember(
        &self,
        key: &str,
        fingerprint: &str,
        artifact: &Artifact,
    ) -> Result<(), StorageError> {
        let entry = IndexEntry {
            fingerprint: fingerprint.to_owned(),
            digest: artifact.digest.clone(),
            bytes: artifact.bytes,
            n_files: artifact.n_files,
        };
        let path = self.index_file(key);
        let error = |source| StorageError::local("write", &path, source);
        let text = serde_json::to_vec(&entry).map_err(|source| error(source.into()))?;
        let unfinished = path.with_extension("new");
        fs::write(&unfinished, text).map_err(error)?;
        fs::rename(&unfinished, &path).map_err(error)
    }

    /// Turns a directory of finished files into an artifact: reads its digest and moves it there whole.
    pub(crate) fn publish(
        &self,
        staging: &Path,
        shown: &str,
        limits: &StorageLimits,
    ) -> Result<Artifact, StorageError> {
        let files = digest::walk(staging, None, limits)?;
        if files.is_empty() {
            return Err(no_model(shown));
        }
        let Summary {
            digest,
            bytes,
            n_files,
        } = digest::summarize(&files)?;
        let directory = self.root.join("artifacts").join(&digest);
        let lease = self.leases.take(&digest);
        let artifact = Artifact {
            directory,
            digest,
            bytes,
            n_files,
            is_from_before: false,
            lease,
        };
        let is_there = digest::walk(&artifact.directory, None, limits)
            .is_ok_and(|there| there.len() == n_files && sizes(&there) == sizes(&files));
        self.note_use(&artifact.digest, bytes);
        if is_there {
            remove(staging)?;
            return Ok(artifact);
        }
        remove(&artifact.directory)?;
        fs::rename(staging, &artifact.directory).map_err(|source| {
            StorageError::local("move a finished download to", &artifact.directory, source)
        })?;
        Ok(artifact)
    }

    fn index_file(&self, key: &str) -> PathBuf {
        self.root.join("index").join(format!("{key}.json"))
    }

    /// Returns where a digest's files are; none for text that is no digest.
    fn artifact_dir(&self, digest: &str) -> Option<PathBuf> {
        let is_digest = digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_digest.then(|| self.root.join("artifacts").join(digest))
    }
}

/// Removes a directory or file; its absence is success.
pub(crate) fn remove(path: &Path) -> Result<(), StorageError> {
    let outcome = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match outcome {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StorageError::local("remove", path, error))
        }
        _ => Ok(()),
    }
}

/// Says that nothing is stored under a URI, in KServe's words.
pub(crate) fn no_model(shown: &str) -> StorageError {
    StorageError::new(
        StorageErrorKind::NotFound,
        format!("Failed to fetch model. No model found in {shown}."),
    )
}

fn sizes(files: &[digest::TreeFile]) -> Vec<(&Path, u64)> {
    files
        .iter()
        .map(|file| (file.relative.as_path(), file.bytes))
        .collect()
}
