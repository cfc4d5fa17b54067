//! Fetches and loads revisions: storage and formats behind serving's contract.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coracle_base::{ByteCount, Clock, Code};
use coracle_formats::{LoadOptions, bytes_to_read, load, locate};
use coracle_model::{GraphEngine, LoadError, LoadErrorKind, Method, Model, TextEngine};
use coracle_serving::{
    LoadFailure, LoadPhases, Loader, LogSource, PlannedRevision, RevisionId, RevisionSource,
};
use coracle_storage::{
    Artifact, ArtifactRequest, Assembly, Credentials, PlacedRequest, Progress, Storage,
    StorageError, StorageErrorKind,
};
use tokio::runtime::Handle;

use crate::engine_settings::{EngineSettings, of_predictor};
use crate::trial::Trial;
use crate::{engine, heap, warm_up};

/// Fetches and loads revisions.
pub(crate) struct StorageLoader {
    storage: Storage,
    runtime: Handle,
    clock: Arc<dyn Clock>,
    /// What runs the graphs that our own kernels do not.
    graph_engine: Arc<dyn GraphEngine>,
    /// How it runs them, where a predictor says nothing else.
    engine_settings: EngineSettings,
    /// How models are tried before they are loaded.
    trial: Option<Arc<Trial>>,
    /// What was fetched for the revisions that are served: a model that was let go of is loaded from there again, and
    /// nothing of it is evicted.
    fetched: Mutex<BTreeMap<RevisionId, Assembly>>,
}

impl StorageLoader {
    pub(crate) fn new(
        storage: Storage,
        runtime: Handle,
        clock: Arc<dyn Clock>,
        graph_engine: Arc<dyn GraphEngine>,
    ) -> Self {
        Self {
            storage,
            runtime,
            clock,
            graph_engine,
            engine_settings: EngineSettings::new(),
            trial: None,
            fetched: Mutex::default(),
        }
    }

    /// Returns it as one that runs graphs so where a predictor says nothing else.
    pub(crate) fn with_engine_settings(mut self, settings: EngineSettings) -> Self {
        self.engine_settings = settings;
        self
    }

    /// Returns it as one that tries models before it loads them.
    pub(crate) fn with_trial(mut self, trial: Option<Arc<Trial>>) -> Self {
        self.trial = trial;
        self
    }

    /// Returns how a revision's graph is run.
    fn engine_settings(&self, revision: &PlannedRevision) -> Result<EngineSettings, LoadFailure> {
        let settings = of_predictor(&self.engine_settings, &revision.source.environment);
        settings.map_err(|message| LoadFailure {
            code: Code::InvalidArgument,
            message,
            is_transient: false,
        })
    }

    fn fetched(&self) -> MutexGuard<'_, BTreeMap<RevisionId, Assembly>> {
        self.fetched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns where the files of a revision are, and how long it took to get them there.
    fn fetch_files(
        &self,
        id: &RevisionId,
        revision: &PlannedRevision,
        progress: &(dyn Fn(LogSource, &str) + Sync),
    ) -> Result<(Assembly, Duration), LoadFailure> {
        let kept = self.fetched().get(id).cloned();
        if let Some(kept) = kept.filter(|kept| kept.artifact.directory.exists()) {
            return Ok((kept, Duration::ZERO));
        }
        let source = &revision.source;
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
        let assembly = self.fetch_places(id, source, &report);
        let assembly = assembly.map_err(|error| storage_failure(&error, source))?;
        let took = self.clock.monotonic().saturating_sub(started);
        if assembly.artifact.is_from_before {
            let warning = "the store does not answer: going on with the files fetched before";
            progress(LogSource::Fetch, warning);
        }
        progress(LogSource::Fetch, &fetched(&assembly.artifact, took));
        self.fetched().insert(id.clone(), assembly.clone());
        Ok((assembly, took))
    }

    /// Brings the files of all places onto this machine.
    fn fetch_places(
        &self,
        id: &RevisionId,
        source: &RevisionSource,
        report: &(dyn Fn(Progress) + Sync),
    ) -> Result<Assembly, StorageError> {
        let request = |uri: &str| ArtifactRequest {
            namespace: id.namespace.clone(),
            uri: uri.to_owned(),
            credentials: Credentials {
                data: source.secret_data.clone(),
                annotations: source.secret_annotations.clone(),
            },
            asker: Some(id.to_string()),
        };
        if source.places.is_empty() {
            let request = request(&source.uri);
            let fetch = self.storage.fetch(&request, report);
            let artifact = self.runtime.block_on(fetch)?;
            let places = Vec::new();
            return Ok(Assembly { artifact, places });
        }
        let places = source.places.iter().map(|place| PlacedRequest {
            request: request(&place.uri),
            mount_path: place.mount_path.clone(),
        });
        let places: Vec<PlacedRequest> = places.collect();
        self.runtime
            .block_on(self.storage.fetch_all(&places, report))
    }
}

impl Loader for StorageLoader {
    fn load(
        &self,
        id: &RevisionId,
        revision: &PlannedRevision,
        progress: &(dyn Fn(LogSource, &str) + Sync),
        make_room: &dyn Fn(u64) -> Result<(), LoadFailure>,
    ) -> Result<(Box<dyn Model>, LoadPhases), LoadFailure> {
        let is_first = !self.fetched().contains_key(id);
        let (assembly, fetch) = self.fetch_files(id, revision, progress)?;
        progress(LogSource::Serve, "loading the model");
        let options = LoadOptions {
            default_method: method(revision)?,
            object: revision.source.environment.get("CORACLE_OBJECT").cloned(),
            graph_engine: Some(Arc::clone(&self.graph_engine)),
            engine_settings: self.engine_settings(revision)?,
            text_engine: text_engine(revision)?,
        };
        let failed = |error: LoadError| LoadFailure {
            code: error.code(),
            // Where a download is kept says nothing to whoever wrote the manifest.
            message: chain(&error).replace(
                &assembly.artifact.directory.display().to_string(),
                &revision.source.uri,
            ),
            is_transient: false,
        };
        let path = find_model(&assembly).map_err(failed)?;
        make_room(bytes_to_read(&path))?;
        let load = || load(&path, &options, self.clock.as_ref());
        let loaded = match &self.trial {
            Some(trial) => trial.load(&path, &options, load),
            None => load().map(|loaded| (loaded, false)),
        };
        let (loaded, is_tried) = loaded.map_err(failed)?;
        if is_tried {
            progress(LogSource::Serve, "the trial load went well");
        }
        if let Some(version) = version_below(&assembly.artifact.directory, &path) {
            let line = format!("numbered directories: version {version} is the newest");
            progress(LogSource::Serve, &line);
        }
        for warning in loaded.model.description().warnings() {
            progress(LogSource::Serve, &format!("warning: {warning}"));
        }
        let started = self.clock.monotonic();
        // Who waits for a model that was let go of is served sooner without.
        if is_first {
            let tell = |line: &str| progress(LogSource::Serve, line);
            warm_up::run(loaded.model.as_ref(), &path, tell);
        }
        let phases = LoadPhases {
            warm_up: self.clock.monotonic().saturating_sub(started),
            fetch,
            read: loaded.phases.read,
            parse: loaded.phases.parse,
            build: loaded.phases.build,
        };
        // What reading left behind is more than the model.
        heap::give_back();
        heap::use_large_pages(loaded.model.memory_bytes());
        Ok((loaded.model, phases))
    }

    fn fetch(
        &self,
        id: &RevisionId,
        revision: &PlannedRevision,
        progress: &(dyn Fn(LogSource, &str) + Sync),
    ) -> Result<Option<PathBuf>, LoadFailure> {
        if revision.source.uri.is_empty() {
            return Ok(None);
        }
        let (assembly, _took) = self.fetch_files(id, revision, progress)?;
        Ok(Some(assembly.artifact.directory))
    }

    fn forget(&self, id: &RevisionId) {
        self.fetched().remove(id);
    }

    fn let_go(&self) {
        heap::give_back();
    }
}

/// Returns the model file: in the directory itself, or in the only one of several places that has one.
fn find_model(assembly: &Assembly) -> Result<PathBuf, LoadError> {
    let error = match locate(&assembly.artifact.directory) {
        Err(error) if error.kind() == LoadErrorKind::NotFound => error,
        found => return found,
    };
    let mut found: Vec<PathBuf> = Vec::new();
    for place in &assembly.places {
        match locate(place) {
            Err(error) if error.kind() == LoadErrorKind::NotFound => {}
            file => found.push(file?),
        }
    }
    found.dedup();
    match found.as_slice() {
        [file] => Ok(file.clone()),
        [] => Err(error),
        several => {
            let files: Vec<String> = several.iter().map(|file| shown(file)).collect();
            let message = format!(
                "several of the storageUris hold a model file ({}): give the one to serve the mountPath /mnt/models",
                files.join(", ")
            );
            Err(LoadError::new(LoadErrorKind::Ambiguous, message))
        }
    }
}

/// Returns the version that a file of a fetched directory is of, where it lies in a numbered one.
fn version_below(directory: &Path, file: &Path) -> Option<u64> {
    let place = file.strip_prefix(directory).ok()?.parent()?;
    place.to_str()?.parse().ok()
}

/// Returns a file with the directory it is in: what tells assembled files apart.
fn shown(file: &Path) -> String {
    let parts: Vec<_> = file.iter().rev().take(2).collect();
    let path: PathBuf = parts.into_iter().rev().collect();
    path.display().to_string()
}

/// Returns the method that the predictor's environment says the model answers with: `CORACLE_METHOD`, or KServe's `PREDICT_PROBA=true`.
fn method(revision: &PlannedRevision) -> Result<Option<Method>, LoadFailure> {
    const METHODS: [Method; 4] = [
        Method::Predict,
        Method::PredictProba,
        Method::DecisionFunction,
        Method::Transform,
    ];
    let environment = &revision.source.environment;
    if let Some(name) = environment.get("CORACLE_METHOD") {
        let found = METHODS.into_iter().find(|method| method.as_str() == name);
        return found.map(Some).ok_or_else(|| LoadFailure {
            code: Code::InvalidArgument,
            message: format!(
                "CORACLE_METHOD is '{name}'; it may be {}",
                METHODS.map(Method::as_str).join(", ")
            ),
            is_transient: false,
        });
    }
    let value = environment.get("PREDICT_PROBA");
    let is_probable = value.is_some_and(|value| value.eq_ignore_ascii_case("true"));
    Ok(is_probable.then_some(Method::PredictProba))
}

/// Returns what serves a graph beside a tokeniser's file with texts: unless `CORACLE_TEXT` in the predictor's environment is `false`,
/// and with two of them for each row of a classifier if it is `pairs`.
fn text_engine(revision: &PlannedRevision) -> Result<Option<Arc<dyn TextEngine>>, LoadFailure> {
    let value = revision.source.environment.get("CORACLE_TEXT");
    let value = value.map(|value| value.to_ascii_lowercase());
    match value.as_deref() {
        None | Some("true" | "") => Ok(Some(engine::texts())),
        Some("pairs") => Ok(Some(engine::text_pairs())),
        Some("false") => Ok(None),
        Some(value) => Err(LoadFailure {
            code: Code::InvalidArgument,
            message: format!("CORACLE_TEXT is '{value}'; it may be true, false or pairs"),
            is_transient: false,
        }),
    }
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

fn storage_failure(error: &StorageError, source: &RevisionSource) -> LoadFailure {
    let mut message = error.explained();
    if error.kind() == StorageErrorKind::NotFound && message.contains("no directory is known") {
        message.push_str(": start it with `coracle up --pvc CLAIM=DIRECTORY`");
    }
    if error.kind() == StorageErrorKind::Unreachable && source.secret_data.is_empty() {
        message.push_str(
            "; no secret with credentials or an endpoint was found: name one in the predictor's service account",
        );
    }
    LoadFailure {
        code: error.code(),
        message,
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

#[cfg(test)]
mod tests {
    use coracle_serving::RevisionSource;

    use super::*;

    #[test]
    fn the_environment_says_the_method() {
        for (variables, expected) in [
            (&[][..], Ok(None)),
            (&[("PREDICT_PROBA", "True")], Ok(Some(Method::PredictProba))),
            (
                &[("PREDICT_PROBA", "true"), ("CORACLE_METHOD", "transform")],
                Ok(Some(Method::Transform)),
            ),
            (&[("CORACLE_METHOD", "guess")], Err(())),
        ] {
            let variables = variables.iter();
            let environment =
                variables.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            let revision = PlannedRevision {
                model_name: "m".to_owned(),
                source: RevisionSource {
                    environment: environment.collect(),
                    ..RevisionSource::default()
                },
                attempt: 0,
                replicas: 1,
                concurrency: None,
                timeout: None,
                payloads: None,
                batching: None,
                response_cache: None,
            };
            let found = method(&revision);
            if let Err(failure) = &found {
                assert!(
                    failure.message.contains("'guess'; it may be predict, "),
                    "{}",
                    failure.message
                );
            }
            assert_eq!(found.map_err(|_| ()), expected);
        }
    }

    #[test]
    fn versions_are_those_of_numbered_directories_below() {
        let cases = [
            ("/cache/7", "/cache/7/model.joblib", None),
            ("/cache/7", "/cache/7/00012/model.joblib", Some(12)),
            ("/cache/7", "/cache/7/a/model.joblib", None),
            ("/cache/7", "/elsewhere/3/model.joblib", None),
        ];
        for (directory, file, expected) in cases {
            let version = version_below(Path::new(directory), Path::new(file));
            assert_eq!(version, expected, "{file}");
        }
    }
}
