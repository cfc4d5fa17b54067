//! The one entry: from a request to an artifact.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::try_join_all;

use crate::archive::{self, ArchiveForm};
use crate::assembly;
use crate::attempts::Attempts;
use crate::cache::{self, Cache};
use crate::config::{
    Artifact, ArtifactRequest, Assembly, PlacedRequest, Progress, StorageConfig, StorageLimits,
};
use crate::digest;
use crate::download::Download;
use crate::error::{StorageError, StorageErrorKind};
use crate::local::{self, LocalPlace};
use crate::location::Location;
use crate::locks::{LockGuard, Locks};
use crate::source::{self, RemoteFile, Source};

/// Fetches artifacts into one cache directory.
///
/// Fetches run side by side; two of the same URI run one after the other, and the second finds the work
/// of the first.
#[derive(Debug)]
pub struct Storage {
    cache: Cache,
    pvc_dirs: BTreeMap<String, PathBuf>,
    limits: StorageLimits,
    locks: Arc<Locks>,
}

/// How long a store may take to list what is here from before.
const LIST_AGAIN_MAX: Duration = Duration::from_secs(10);

impl Storage {
    /// Creates the cache directory where it is absent.
    ///
    /// # Errors
    /// [`Local`](crate::StorageErrorKind::Local) if the cache directory cannot be created.
    pub fn try_new(config: StorageConfig) -> Result<Self, StorageError> {
        install_tls();
        Ok(Self {
            cache: Cache::try_new(
                &config.cache_dir,
                config.cache_bytes_max.map(|bytes| bytes.as_u64()),
            )?,
            pvc_dirs: config.pvc_dirs,
            limits: config.limits,
            locks: Arc::default(),
        })
    }

    /// Returns a local directory with what the URI names.
    ///
    /// What is on this machine already is not copied; a single archive is unpacked. Everything else is
    /// downloaded, unless the store lists the same as it did for the last fetch of this URI. Needs a
    /// tokio runtime with time and I/O.
    ///
    /// # Errors
    /// Any kind of [`StorageErrorKind`](crate::StorageErrorKind), each as documented there.
    ///
    /// # Cancel safety
    /// A fetch that is dropped leaves what it downloaded, and the next one goes on from there. No
    /// artifact is ever seen in part.
    pub async fn fetch(
        &self,
        request: &ArtifactRequest,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Artifact, StorageError> {
        let location = Location::parse(&request.uri)?;
        let artifact = match source::open(&location, &request.credentials, &self.limits) {
            Some(source) => Box::pin(self.fetch_remote(request, source?.as_ref(), progress)).await,
            None => self.fetch_local(request, location).await,
        }?;
        progress(Progress {
            bytes_done: artifact.bytes,
            bytes_total: Some(artifact.bytes),
            files_done: artifact.n_files,
            files_total: artifact.n_files,
        });
        Ok(artifact)
    }

    /// Returns a local directory with the files of several places, each below its mount path; they are links, nothing
    /// is copied.
    ///
    /// # Errors
    /// As [`fetch`](Self::fetch); [`UnsupportedUri`](crate::StorageErrorKind::UnsupportedUri) too if two places give the
    /// same file.
    ///
    /// # Cancel safety
    /// As [`fetch`](Self::fetch).
    pub async fn fetch_all(
        &self,
        places: &[PlacedRequest],
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Assembly, StorageError> {
        let each = Mutex::new(vec![None; places.len()]);
        let report = |index: usize, now: Progress| {
            let mut each = each.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(one) = each.get_mut(index) {
                *one = Some(now);
            }
            let together = Progress::together(&each);
            drop(each);
            progress(together);
        };
        let fetches = places.iter().enumerate().map(|(index, place)| async move {
            let report = |now| report(index, now);
            let artifact = self.fetch(&place.request, &report).await?;
            Ok((place.mount_path.clone(), artifact))
        });
        let placed = try_join_all(fetches).await?;
        let (cache, limits) = (self.cache.clone(), self.limits.clone());
        let key = digest::hash_texts(["assembly"]);
        let guard = self.locks.lock(&key).await;
        blocking(move || {
            let _held = guard;
            assembly::assemble(placed, &cache, &limits)
        })
        .await
    }

    async fn fetch_local(
        &self,
        request: &ArtifactRequest,
        location: Location,
    ) -> Result<Artifact, StorageError> {
        let shown = location.to_string();
        let key = digest::hash_texts([request.namespace.as_str(), shown.as_str()]);
        let guard = self.locks.lock(&key).await;
        let limits = self.limits.clone();
        let cache = self.cache.clone();
        let pvc_dirs = self.pvc_dirs.clone();
        let namespace = request.namespace.clone();
        blocking(move || {
            let _held = guard;
            let place = match location {
                Location::Pvc { claim, path } => {
                    local::pvc_place(&pvc_dirs, &namespace, &claim, &path)?
                }
                Location::Local { path } => LocalPlace { path, fence: None },
                // The caller opens a source for all others.
                _ => return Err(cache::no_model(&shown)),
            };
            local::check(&place)?;
            match ArchiveForm::of(&place.path).filter(|_| place.path.is_file()) {
                None => local::take(&place, &limits),
                Some(form) => {
                    let files = digest::walk(&place.path, place.fence.as_deref(), &limits)?;
                    let fingerprint = digest::summarize(&files)?.digest;
                    if let Some(artifact) = cache.recall(&key, &fingerprint, &limits) {
                        return Ok(artifact);
                    }
                    let target = cache.partial(&key);
                    archive::unpack(&place.path, form, &target, &shown, &limits)?;
                    let artifact = cache.publish(&target, &shown, &limits)?;
                    cache.remember(&key, &fingerprint, &artifact)?;
                    Ok(artifact)
                }
            }
        })
        .await
    }

    async fn fetch_remote(
        &self,
        request: &ArtifactRequest,
        source: &dyn Source,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Artifact, StorageError> {
        let remote = source.remote();
        // The endpoint counts: each namespace has its own idea of who answers for a bucket.
        let key = digest::hash_texts([request.uri.as_str(), remote.endpoint.as_str()]);
        let guard = self.locks.lock(&key).await;
        let asked = request.asker.as_ref().map(|asker| Asked {
            key: digest::hash_texts(["asker", asker, &request.uri, &remote.endpoint]),
            cache: self.cache.clone(),
            limits: self.limits.clone(),
        });
        let files = match self.list_or_recall(source, asked.as_ref()).await? {
            Listing::Files(files) => files,
            Listing::Before(artifact) => return Ok(artifact),
        };
        let fingerprint = source::fingerprint(&files);
        let bytes = files.iter().filter_map(|file| file.bytes);
        let bytes = bytes.fold(0, u64::saturating_add);
        let partial = Partial {
            root: self.cache.partial(&key),
            key,
            shown: remote.shown.clone(),
            fingerprint,
            cache: self.cache.clone(),
            limits: self.limits.clone(),
            guard,
        };
        let (partial, known) = blocking(move || {
            let known = partial.recall_or_prepare()?;
            Ok((partial, known))
        })
        .await?;
        if let Some(artifact) = known {
            // What was in use when it should have gone may go now.
            self.make_room(0).await?;
            return Asked::note(asked, artifact).await;
        }
        self.make_room(bytes).await?;
        let download = Download {
            source,
            directory: &partial.files(),
            limits: &self.limits,
        };
        download.all(&files, progress).await?;
        let artifact = blocking(move || partial.finish(&files)).await?;
        // What was unpacked may be more than was downloaded.
        self.make_room(0).await?;
        Asked::note(asked, artifact).await
    }

    async fn make_room(&self, bytes: u64) -> Result<(), StorageError> {
        let (cache, locks, limits) = (
            self.cache.clone(),
            Arc::clone(&self.locks),
            self.limits.clone(),
        );
        blocking(move || {
            cache.make_room(bytes, &locks, &limits);
            Ok(())
        })
        .await
    }

    /// Lists the store; what the asker had before does where the store does not answer.
    async fn list_or_recall(
        &self,
        source: &dyn Source,
        asked: Option<&Asked>,
    ) -> Result<Listing, StorageError> {
        let before = match asked.cloned() {
            Some(asked) => blocking(move || Ok(asked.recall())).await?,
            None => None,
        };
        let Some(before) = before else {
            return self.list(source).await.map(Listing::Files);
        };
        match tokio::time::timeout(LIST_AGAIN_MAX, self.list(source)).await {
            Ok(Ok(files)) => Ok(Listing::Files(files)),
            Ok(Err(error)) if error.kind() != StorageErrorKind::Unreachable => Err(error),
            Ok(Err(_)) | Err(_) => Ok(Listing::Before(before)),
        }
    }

    async fn list(&self, source: &dyn Source) -> Result<Vec<RemoteFile>, StorageError> {
        let mut attempts = Attempts::new(&self.limits);
        let files = loop {
            match source.list().await {
                Ok(files) => break files,
                Err(error) => attempts.pause(error).await?,
            }
        };
        let shown = &source.remote().shown;
        if files.is_empty() {
            return Err(cache::no_model(shown));
        }
        let bytes = files
            .iter()
            .filter_map(|file| file.bytes)
            .fold(0, u64::saturating_add);
        digest::check_limits(shown, files.len(), bytes, &self.limits)?;
        Ok(files)
    }
}

/// What a store was found to hold.
enum Listing {
    Files(Vec<RemoteFile>),
    /// It did not answer; this is what it gave before.
    Before(Artifact),
}

/// What an asker got from a URI before.
#[derive(Clone)]
struct Asked {
    key: String,
    cache: Cache,
    limits: StorageLimits,
}

/// Stands in for the fingerprint of a listing, which nobody knows when the store does not answer.
const ANY_LISTING: &str = "any";

impl Asked {
    fn recall(&self) -> Option<Artifact> {
        let artifact = self.cache.recall(&self.key, ANY_LISTING, &self.limits)?;
        Some(Artifact {
            is_from_before: true,
            ..artifact
        })
    }

    /// Remembers what the asker gets now.
    async fn note(asked: Option<Self>, artifact: Artifact) -> Result<Artifact, StorageError> {
        let Some(asked) = asked else {
            return Ok(artifact);
        };
        blocking(move || {
            asked.cache.remember(&asked.key, ANY_LISTING, &artifact)?;
            Ok(artifact)
        })
        .await
    }
}

/// The unfinished files of one URI.
struct Partial {
    key: String,
    root: PathBuf,
    shown: String,
    fingerprint: Option<String>,
    cache: Cache,
    limits: StorageLimits,
    #[expect(
        dead_code,
        reason = "held until the file work is done, even if the fetch is dropped"
    )]
    guard: LockGuard,
}

impl Partial {
    fn files(&self) -> PathBuf {
        self.root.join("files")
    }

    /// Returns the artifact of an equal listing; or readies the directory, keeping what belongs to this
    /// listing.
    fn recall_or_prepare(&self) -> Result<Option<Artifact>, StorageError> {
        let side_file = self.root.join("fingerprint");
        if let Some(fingerprint) = &self.fingerprint {
            let known = self.cache.recall(&self.key, fingerprint, &self.limits);
            if known.is_some() {
                return Ok(known);
            }
            if fs::read_to_string(&side_file).is_ok_and(|kept| kept == *fingerprint) {
                return Ok(None);
            }
        }
        cache::remove(&self.root)?;
        let files = self.files();
        fs::create_dir_all(&files)
            .map_err(|source| StorageError::local("create", &files, source))?;
        if let Some(fingerprint) = &self.fingerprint {
            fs::write(&side_file, fingerprint)
                .map_err(|source| StorageError::local("write", &side_file, source))?;
        }
        Ok(None)
    }

    /// Turns the finished files into an artifact.
    fn finish(&self, files: &[RemoteFile]) -> Result<Artifact, StorageError> {
        let outcome = self.publish(files);
        let is_worth_keeping = outcome
            .as_ref()
            .is_err_and(|error| error.kind() == StorageErrorKind::Local);
        if !is_worth_keeping {
            cache::remove(&self.root)?;
        }
        outcome
    }

    fn publish(&self, files: &[RemoteFile]) -> Result<Artifact, StorageError> {
        let artifact = match single_archive(files) {
            Some((file, form)) => {
                let target = self.root.join("unpacked");
                let archive = self.files().join(file);
                archive::unpack(&archive, form, &target, &self.shown, &self.limits)?;
                self.cache.publish(&target, &self.shown, &self.limits)?
            }
            None => self
                .cache
                .publish(&self.files(), &self.shown, &self.limits)?,
        };
        if let Some(fingerprint) = &self.fingerprint {
            self.cache.remember(&self.key, fingerprint, &artifact)?;
        }
        Ok(artifact)
    }
}

fn single_archive(files: &[RemoteFile]) -> Option<(&Path, ArchiveForm)> {
    let [file] = files else {
        return None;
    };
    ArchiveForm::of(&file.relative).map(|form| (file.relative.as_path(), form))
}

/// Runs file work where it may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
) -> Result<T, StorageError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(StorageError::interrupted)?
}

/// Chooses the cryptography of every TLS connection of this process, unless somebody chose already.
pub(crate) fn install_tls() {
    let _already_chosen = rustls::crypto::ring::default_provider().install_default();
}

#[cfg(test)]
mod tests;
