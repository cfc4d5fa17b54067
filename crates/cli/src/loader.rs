//! Fetches and loads revisions: storage and formats behind serving's contract.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coracle_base::{ByteCount, Clock};
use coracle_formats::{LoadOptions, load, locate};
use coracle_model::{Method, Model};
use coracle_serving::{LoadFailure, LoadPhases, Loader, LogSource, PlannedRevision, RevisionId};
use coracle_storage::{
    Artifact, ArtifactRequest, Credentials, Progress, Storage, StorageError, StorageErrorKind,
};
use tokio::runtime::Handle;

/// Fetches and loads revisions.
pub(crate) struct StorageLoader {
    storage: Storage,
    runtime: Handle,
    clock: Arc<dyn Clock>,
    /// What was fetched for the revisions that are served: a model that was let go of is loaded from there again.
    fetched: Mutex<BTreeMap<RevisionId, Artifact>>,
}

impl StorageLoader {
    pub(crate) fn new(storage: Storage, runtime: Handle, clock: Arc<dyn Clock>) -> Self {
        Self {
            storage,
            runtime,
            clock,
            fetched: Mutex::default(),
        }
    }

    fn fetched(&self) -> MutexGuard<'_, BTreeMap<RevisionId, Artifact>> {
        self.fetched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns where the files of a revision are, and how long it took to get them there.
    fn fetch(
        &self,
        id: &RevisionId,
        revision: &PlannedRevision,
        progress: &(dyn Fn(LogSource, &str) + Sync),
    ) -> Result<(PathBuf, Duration), LoadFailure> {
        let kept = self.fetched().get(id).map(|kept| kept.directory.clone());
        if let Some(directory) = kept.filter(|directory| directory.exists()) {
            return Ok((directory, Duration::ZERO));
        }
        let source = &revision.source;
        let request = ArtifactRequest {
            namespace: id.namespace.clone(),
            uri: source.uri.clone(),
            credentials: Credentials {
                data: source.secret_data.clone(),
                annotations: source.secret_annotations.clone(),
            },
        };
        let started = self.clock.monotonic();
        progress(LogSource::Fetch, &format!("fetching {}", source.uri));
        let told = AtomicU64::new(0);
        let report = |now: Progress| {
            // Every step is an update of the status: only what a person would notice is told.
            let percent = now
                .bytes_total
                .map_or(0, |total| now.bytes_done * 100 / total.max(1));
            let last = told.load(Ordering::Relaxed);
            if percent >= last + 10 && told.swap(percent, Ordering::Relaxed) == last {
                progress(LogSource::Fetch, &describe(&source.uri, now));
            }
        };
        let artifact = self.runtime.block_on(self.storage.fetch(&request, &report));
        let artifact = artifact.map_err(|error| storage_failure(&error))?;
        let took = self.clock.monotonic().saturating_sub(started);
        progress(LogSource::Fetch, &fetched(&artifact, took));
        let directory = artifact.directory.clone();
        self.fetched().insert(id.clone(), artifact);
        Ok((directory, took))
    }
}

impl Loader for StorageLoader {
    fn load(
        &self,
        id: &RevisionId,
        revision: &PlannedRevision,
        progress: &(dyn Fn(LogSource, &str) + Sync),
    ) -> Result<(Box<dyn Model>, LoadPhases), LoadFailure> {
        let (directory, fetch) = self.fetch(id, revision, progress)?;
        progress(LogSource::Serve, "loading the model");
        let options = LoadOptions {
            default_method: predict_proba(revision).then_some(Method::PredictProba),
        };
        let loaded = locate(&directory)
            .and_then(|path| load(&path, &options, self.clock.as_ref()))
            .map_err(|error| LoadFailure {
                code: error.code(),
                message: chain(&error),
                is_transient: false,
            })?;
        let phases = LoadPhases {
            fetch,
            read: loaded.phases.read,
            parse: loaded.phases.parse,
            build: loaded.phases.build,
            ..LoadPhases::default()
        };
        Ok((loaded.model, phases))
    }

    fn forget(&self, id: &RevisionId) {
        self.fetched().remove(id);
    }
}

/// KServe's `PREDICT_PROBA=true` in the predictor's environment.
fn predict_proba(revision: &PlannedRevision) -> bool {
    let value = revision.source.environment.get("PREDICT_PROBA");
    value.is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

fn fetched(artifact: &Artifact, took: Duration) -> String {
    format!(
        "fetched {} files, {}, in {:.1} ms: {}",
        artifact.n_files,
        ByteCount::new(artifact.bytes).to_rounded(),
        took.as_secs_f64() * 1e3,
        artifact.directory.display()
    )
}

fn describe(uri: &str, progress: Progress) -> String {
    let done = ByteCount::new(progress.bytes_done).to_rounded();
    let total = progress
        .bytes_total
        .map(|total| format!(" of {}", ByteCount::new(total).to_rounded()));
    format!("fetching {uri}: {done}{}", total.unwrap_or_default())
}

fn storage_failure(error: &StorageError) -> LoadFailure {
    LoadFailure {
        code: error.code(),
        message: chain(error),
        // What is not there, or not allowed, may be put right without a new manifest.
        is_transient: matches!(
            error.kind(),
            StorageErrorKind::Unreachable
                | StorageErrorKind::NotFound
                | StorageErrorKind::AccessDenied
                | StorageErrorKind::AuthenticationFailed
                | StorageErrorKind::Local
        ),
    }
}

/// Returns an error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
