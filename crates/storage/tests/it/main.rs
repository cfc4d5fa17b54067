//! Fetches over loopback from stubs of the stores.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bucket;
mod cache;
mod clouds;
mod hub;
mod python_index;
mod s3;
mod server;
mod web;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use coracle_base::ByteCount;
use coracle_storage::{
    Artifact, ArtifactRequest, Credentials, Storage, StorageConfig, StorageError, StorageLimits,
};

/// A cache directory that goes with the test.
pub(crate) struct Setup {
    pub(crate) root: tempfile::TempDir,
    pub(crate) cache_bytes_max: Option<ByteCount>,
    limits: StorageLimits,
}

impl Setup {
    pub(crate) fn new() -> Self {
        Self::with(StorageLimits::default())
    }

    /// Takes the limits but for the delay between attempts, of which there is none.
    pub(crate) fn with(limits: StorageLimits) -> Self {
        Self {
            root: tempfile::tempdir().unwrap(),
            cache_bytes_max: None,
            limits: StorageLimits {
                retry_delay: Duration::ZERO,
                ..limits
            },
        }
    }

    /// Returns a new storage over the same cache, as after a restart.
    pub(crate) fn storage(&self) -> Storage {
        Storage::try_new(StorageConfig {
            cache_dir: self.root.path().to_path_buf(),
            pvc_dirs: BTreeMap::new(),
            cache_bytes_max: self.cache_bytes_max,
            limits: self.limits.clone(),
        })
        .unwrap()
    }

    pub(crate) async fn fetch(
        &self,
        uri: &str,
        credentials: &Credentials,
    ) -> Result<Artifact, StorageError> {
        fetch(&self.storage(), uri, credentials).await
    }

    /// Counts the artifacts in the cache.
    pub(crate) fn n_artifacts(&self) -> usize {
        std::fs::read_dir(self.root.path().join("artifacts"))
            .unwrap()
            .count()
    }
}

pub(crate) async fn fetch(
    storage: &Storage,
    uri: &str,
    credentials: &Credentials,
) -> Result<Artifact, StorageError> {
    let request = ArtifactRequest {
        namespace: "team".to_owned(),
        uri: uri.to_owned(),
        credentials: credentials.clone(),
        asker: None,
    };
    storage.fetch(&request, &|_progress| ()).await
}

/// Returns every file below a directory with its content, sorted.
pub(crate) fn files_of(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut open = vec![directory.to_path_buf()];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(
                std::fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        } else {
            let relative = path.strip_prefix(directory).unwrap();
            files.insert(
                relative.to_str().unwrap().to_owned(),
                std::fs::read(&path).unwrap(),
            );
        }
    }
    files
}

pub(crate) fn names_of(artifact: &Artifact) -> Vec<String> {
    files_of(&artifact.directory).into_keys().collect()
}

pub(crate) fn tar_of(name: &str, content: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_size(content.len() as u64);
    header.set_cksum();
    builder.append(&header, content).unwrap();
    builder.into_inner().unwrap()
}
