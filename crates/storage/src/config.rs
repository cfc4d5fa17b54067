//! What a [`Storage`](crate::Storage) needs to know before the first request, and what a request brings.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use coracle_base::ByteCount;

use crate::leases::Lease;

/// Where artifacts are kept and what bounds a fetch.
#[derive(Clone, Debug)]
pub struct StorageConfig {
    /// The directory for downloads. Created when absent; belongs to one process, which may be restarted.
    pub cache_dir: PathBuf,
    /// Where the volumes of `pvc://` URIs are mounted: `namespace/claim` or `claim` to a directory.
    /// The entry with a namespace wins.
    pub pvc_dirs: BTreeMap<String, PathBuf>,
    /// The most bytes of downloads that are kept; unlimited if absent. What was used least recently goes first.
    /// What is in use stays, even if it is more than this.
    pub cache_bytes_max: Option<ByteCount>,
    /// What bounds a fetch.
    pub limits: StorageLimits,
}

/// What bounds a fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageLimits {
    /// The most bytes of one artifact, downloaded and unpacked each counted by themselves; 20 GiB.
    pub artifact_bytes_max: ByteCount,
    /// The most files of one artifact, and the most entries of an archive; 10,000.
    pub files_max: usize,
    /// How many files are downloaded at a time, KServe's number; 4. Zero counts as one.
    pub parallel_downloads: usize,
    /// How often one request is tried while nothing comes of it; 4. Zero counts as one.
    pub attempts_max: u32,
    /// How long one request may take, a chunk of 8 MiB included, and how long a plain download may stand
    /// still; 60 s.
    pub request_timeout: Duration,
    /// How long to wait before the second attempt; doubles with every further one, up to 30 s; 500 ms.
    pub retry_delay: Duration,
}

impl Default for StorageLimits {
    fn default() -> Self {
        Self {
            artifact_bytes_max: ByteCount::new(20 << 30),
            files_max: 10_000,
            parallel_downloads: 4,
            attempts_max: 4,
            request_timeout: Duration::from_secs(60),
            retry_delay: Duration::from_millis(500),
        }
    }
}

/// Credentials as KServe's secrets hold them: key/value data plus the annotations of the secret.
///
/// `Debug` prints the keys and no values.
#[derive(Clone, Default)]
pub struct Credentials {
    /// The secret's data, decoded: `AWS_ACCESS_KEY_ID`, `gcloud-application-credentials.json`, `HF_TOKEN`.
    pub data: BTreeMap<String, String>,
    /// The secret's annotations: `serving.kserve.io/s3-endpoint` and its like.
    pub annotations: BTreeMap<String, String>,
}

impl Credentials {
    /// Returns the first of `keys` that holds more than blanks, trimmed.
    pub(crate) fn first(&self, keys: &[&str]) -> Option<&str> {
        keys.iter()
            .filter_map(|key| self.data.get(*key))
            .map(|value| value.trim())
            .find(|value| !value.is_empty())
    }

    /// Returns the annotation `serving.kserve.io/s3-NAME`, trimmed, unless blank.
    pub(crate) fn s3_annotation(&self, name: &str) -> Option<&str> {
        let value = self
            .annotations
            .get(&format!("serving.kserve.io/s3-{name}"))?
            .trim();
        (!value.is_empty()).then_some(value)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("data", &self.data.keys().collect::<Vec<_>>())
            .field("annotations", &self.annotations.keys().collect::<Vec<_>>())
            .finish()
    }
}

/// What to fetch, for whom, and with which credentials.
#[derive(Clone, Debug)]
pub struct ArtifactRequest {
    /// The namespace of whoever asks; chooses among the claims of [`StorageConfig::pvc_dirs`].
    pub namespace: String,
    /// The storage URI.
    pub uri: String,
    /// Credentials for the store; empty for anonymous access.
    pub credentials: Credentials,
    /// Who asks, by a name that is theirs alone. If the store does not answer, what the same asker got from the same
    /// URI before will do.
    pub asker: Option<String>,
}

/// A request with the path that its files are to have.
#[derive(Clone, Debug)]
pub struct PlacedRequest {
    /// What to fetch.
    pub request: ArtifactRequest,
    /// Where its files are wanted: an absolute path, such as `/mnt/models/tokenizer`.
    pub mount_path: String,
}

/// How far a fetch has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes on this machine, those kept from an interrupted fetch included.
    pub bytes_done: u64,
    /// Bytes in all, where the store tells.
    pub bytes_total: Option<u64>,
    /// Files that are complete.
    pub files_done: usize,
    /// Files in all.
    pub files_total: usize,
}

impl Progress {
    /// Returns how far several fetches have come together; those that have not begun are `None`.
    pub(crate) fn together(each: &[Option<Self>]) -> Self {
        let begun = || each.iter().flatten();
        let totals = each.iter().map(|one| one.and_then(|one| one.bytes_total));
        Self {
            bytes_done: begun().map(|one| one.bytes_done).sum(),
            bytes_total: totals.sum(),
            files_done: begun().map(|one| one.files_done).sum(),
            files_total: begun().map(|one| one.files_total).sum(),
        }
    }
}

/// A verified artifact on this machine.
#[derive(Clone, Debug)]
pub struct Artifact {
    /// What to load from: a directory, or the file itself for a single plain file of this machine.
    /// Must not be changed: requests of the same content share it.
    pub directory: PathBuf,
    /// SHA-256 in hexadecimal over the sorted list of relative paths and their files' SHA-256.
    pub digest: String,
    /// The sum of the files' sizes.
    pub bytes: u64,
    /// The number of files.
    pub n_files: usize,
    /// Whether the store did not answer, and this is what it gave before.
    pub is_from_before: bool,
    /// Keeps the files from being evicted.
    pub lease: Lease,
}

impl PartialEq for Artifact {
    /// Compares what the artifacts are, not who uses them.
    fn eq(&self, other: &Self) -> bool {
        self.directory == other.directory
            && self.digest == other.digest
            && self.bytes == other.bytes
            && self.n_files == other.n_files
    }
}

/// Artifacts of several places, put together as their mount paths say.
#[derive(Clone, Debug)]
pub struct Assembly {
    /// All of them. The directory stands for `/mnt/models`, or, if all mount paths are below that or none is, for what
    /// they have in common.
    pub artifact: Artifact,
    /// Where each place's files are, in the order of the requests.
    pub places: Vec<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_of_credentials_shows_no_values() {
        let credentials = Credentials {
            data: [("HF_TOKEN".to_owned(), "hf_secret".to_owned())].into(),
            annotations: [("a".to_owned(), "hidden".to_owned())].into(),
        };
        let shown = format!("{credentials:?}");
        assert!(shown.contains("HF_TOKEN"), "{shown}");
        assert!(
            !shown.contains("secret") && !shown.contains("hidden"),
            "{shown}"
        );
    }
}
