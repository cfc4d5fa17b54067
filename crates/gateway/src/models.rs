//! What is said of models in every protocol: facts and counters; and loading and unloading them on request.

use std::sync::atomic::Ordering;
use std::time::Duration;

use coracle_base::{Code, VersionState};
use coracle_protocol::facts::{
    BatchingFacts, CountAndTime, ModelCounters, ModelFacts, ModelSettings, VersionChoice,
    VersionEntry,
};
use coracle_serving::{
    LoadedModel, ModelTable, ResponseCache, ServedModel, VersionPolicy, VersionStatus,
};
use hyper::header::HeaderMap;

use crate::connection::Handler;
use crate::infer::Failure;
use crate::model_control::{ControlError, ModelControl};
use crate::route::AskedVersion;
use crate::scope::Scope;

impl Handler {
    /// Returns what metadata and configuration say of a version of a model that serves `versions`.
    pub(crate) fn facts<'m>(
        &self,
        served: &'m ServedModel,
        model: &'m LoadedModel,
        versions: &'m [&'m str],
    ) -> ModelFacts<'m> {
        let platform = match model.model().description().library.as_str() {
            "scikit-learn" => "sklearn",
            other => other,
        };
        ModelFacts {
            name: model.name(),
            version: served.version(),
            versions,
            platform,
            signature: model.model().signature(),
            elements_max: self.calls.elements_max,
            settings: settings(served),
        }
    }

    /// Returns what was counted of a model.
    pub(crate) fn counters<'m>(&self, model: &'m ServedModel) -> ModelCounters<'m> {
        let totals = model.statistics().inferences().totals();
        let [success, fail] = model.statistics().ended();
        let of_all = |time: Duration| count_and_time((totals.count, time));
        let last_inference_ms = if totals.count == 0 {
            0
        } else {
            let clock = &self.shared.clock;
            let ago = clock.monotonic().saturating_sub(totals.last_ended);
            let last = clock.unix_time().saturating_sub(ago);
            u64::try_from(last.as_millis()).unwrap_or(u64::MAX)
        };
        let cache = model.response_cache().map(ResponseCache::totals);
        let cache = cache.unwrap_or_default();
        ModelCounters {
            name: model.name(),
            version: model.version(),
            last_inference_ms,
            inference_count: totals.n_rows,
            execution_count: totals.n_runs(),
            success: count_and_time(success),
            fail: count_and_time(fail),
            queue: of_all(totals.queue),
            compute_input: of_all(totals.decode),
            compute_infer: of_all(totals.run),
            compute_output: of_all(totals.encode),
            cache_hit: count_and_time((cache.hits, cache.hit_time)),
            cache_miss: count_and_time((cache.misses, cache.miss_time)),
            memory_bytes: model.loaded().map_or(0, |loaded| {
                u64::try_from(loaded.memory_bytes()).unwrap_or(u64::MAX)
            }),
        }
    }

    /// Returns where the versions of a model are in their lives: all of them, or the one that is asked for.
    ///
    /// # Errors
    /// Code `NotFound` if there is no such model, version or label.
    pub(crate) fn version_entries(
        &self,
        scope: &Scope,
        table: &ModelTable,
        name: &str,
        version: Option<&AskedVersion<'_>>,
        headers: &HeaderMap,
    ) -> Result<Vec<VersionEntry>, Failure> {
        let is_ready = self.shared.ready.load(Ordering::Acquire);
        let entry = |status: VersionStatus| version_entry(status, is_ready);
        let mut entries: Vec<VersionEntry> = match scope {
            Scope::All => table
                .version_statuses(name)
                .into_iter()
                .map(entry)
                .collect(),
            Scope::Service { .. } => Vec::new(),
        };
        let number = match version {
            None => None,
            Some(AskedVersion::Number(number)) => Some(number.as_ref()),
            Some(AskedVersion::Label(label)) => {
                let route = scope.route(table, Some(name));
                route.and_then(|route| route.label(label))
            }
        };
        // A label that names nothing asks for no version, which is not the same as for all.
        if number.is_some() || version.is_some() {
            entries.retain(|entry| Some(entry.version.as_str()) == number);
        }
        if entries.is_empty() {
            let model = scope.named(table, name, version, headers)?;
            entries.push(entry(model.status()));
        }
        Ok(entries)
    }

    /// Loads a model on request.
    pub(crate) async fn load_model(&self, name: String) -> Result<(), Failure> {
        self.control(move |control| control.load(&name)).await
    }

    /// Unloads a model on request.
    pub(crate) async fn unload_model(&self, name: String) -> Result<(), Failure> {
        self.control(move |control| control.unload(&name)).await
    }

    async fn control(
        &self,
        change: impl FnOnce(&dyn ModelControl) -> Result<(), ControlError> + Send + 'static,
    ) -> Result<(), Failure> {
        let Some(control) = self.shared.control.clone() else {
            return Err(Failure::new(
                Code::FailedPrecondition,
                "models are not loaded and unloaded on request here; `coracle serve --model-control explicit` allows it",
            ));
        };
        // Loading reads files and warms the model up, which no event loop waits for.
        let changed = tokio::task::spawn_blocking(move || change(control.as_ref())).await;
        match changed {
            Ok(Ok(())) => Ok(()),
            Ok(Err(ControlError { code, message })) => Err(Failure::new(code, message)),
            Err(_panicked) => Err(Failure::new(
                Code::Internal,
                "the model could not be loaded; this is a defect of the server",
            )),
        }
    }
}

/// Returns how a model is served: what its own configuration says, and what holds whoever says it.
fn settings(served: &ServedModel) -> ModelSettings<'_> {
    let batching = served.batching();
    let (declared, set) = (served.declared(), batching.settings());
    let waits = batching.waits() || declared.is_some_and(|declared| declared.has_batching);
    let cache = served.response_cache();
    let policy = declared.and_then(|declared| declared.versions.as_ref());
    ModelSettings {
        max_batch_size: declared.and_then(|declared| declared.max_batch_size),
        versions: policy.map(|policy| match policy {
            VersionPolicy::Latest(n_versions) => VersionChoice::Latest(n_versions.get()),
            VersionPolicy::All => VersionChoice::All,
            VersionPolicy::Specific(versions) => VersionChoice::Specific(versions),
        }),
        batching: waits.then_some(BatchingFacts {
            preferred_sizes: &set.rows_preferred,
            delay: set.wait,
        }),
        keeps_answers: cache.is_some_and(ResponseCache::is_on),
        default_model_filename: declared
            .and_then(|declared| declared.default_model_filename.as_deref()),
        parameters: declared.map(|declared| &declared.parameters),
    }
}

/// Returns a version's place in its life; while the server shuts down, none takes requests.
pub(crate) fn version_entry(status: VersionStatus, is_ready: bool) -> VersionEntry {
    let state = match status.state {
        VersionState::Available if !is_ready => VersionState::Unloading,
        state => state,
    };
    VersionEntry {
        version: status.version,
        state,
        failure: status.failure,
    }
}

fn count_and_time((count, time): (u64, Duration)) -> CountAndTime {
    CountAndTime {
        count,
        ns: u64::try_from(time.as_nanos()).unwrap_or(u64::MAX),
    }
}
