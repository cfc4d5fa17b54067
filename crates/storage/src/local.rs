//! Artifacts that are on this machine already: `file://`, absolute paths and mounted volumes. No copy is
//! made; the digest is read in place.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::cache;
use crate::config::{Artifact, StorageLimits};
use crate::digest::{self, Summary};
use crate::error::{StorageError, StorageErrorKind};
use crate::leases::Lease;

/// A place on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LocalPlace {
    pub(crate) path: PathBuf,
    /// The directory that links may not lead out of.
    pub(crate) fence: Option<PathBuf>,
}

/// Returns where a claim's path is mounted.
pub(crate) fn pvc_place(
    pvc_dirs: &BTreeMap<String, PathBuf>,
    namespace: &str,
    claim: &str,
    path: &Path,
) -> Result<LocalPlace, StorageError> {
    let volume = pvc_dirs
        .get(&format!("{namespace}/{claim}"))
        .or_else(|| pvc_dirs.get(claim))
        .ok_or_else(|| {
            StorageError::new(
                StorageErrorKind::NotFound,
                format!("pvc://{claim}: no directory is known for claim `{namespace}/{claim}`"),
            )
        })?;
    let fence =
        fs::canonicalize(volume).map_err(|source| StorageError::unreadable(volume, source))?;
    Ok(LocalPlace {
        path: volume.join(path),
        fence: Some(fence),
    })
}

/// Checks that the place exists and stays behind its fence.
pub(crate) fn check(place: &LocalPlace) -> Result<(), StorageError> {
    fs::metadata(&place.path).map_err(|source| StorageError::unreadable(&place.path, source))?;
    Ok(())
}

/// Reads the digest of what is there and returns it as it is.
pub(crate) fn take(place: &LocalPlace, limits: &StorageLimits) -> Result<Artifact, StorageError> {
    let files = digest::walk(&place.path, place.fence.as_deref(), limits)?;
    if files.is_empty() {
        return Err(cache::no_model(&place.path.display().to_string()));
    }
    let Summary {
        digest,
        bytes,
        n_files,
    } = digest::summarize(&files)?;
    Ok(Artifact {
        directory: place.path.clone(),
        digest,
        bytes,
        n_files,
        is_from_before: false,
        lease: Lease::default(),
    })
}
