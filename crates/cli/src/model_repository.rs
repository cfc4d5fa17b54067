//! The models of `coracle serve` and their versions: brought up at the start, on request, and as their files change.
//!
//! Start at [`ModelRepository::refresh`]. What is to be served is said by `coracle_serving::next_step`; here it is done, and every
//! step is published as a new table.

mod file_source;
mod fingerprint;
mod known;
mod own_config;
#[cfg(test)]
mod tests;
mod watcher;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use coracle_base::{Clock, Code, VersionState};
use coracle_formats::{LoadOptions, ModelVersions};
use coracle_gateway::{ControlError, IndexEntry, Log, ModelControl};
use coracle_serving::batch::BatchSettings;
use coracle_serving::{
    CacheSettings, IdleVersion, LoadFailure, ModelTable, OnDemand, Route, ServedModel, ServiceId,
    SharedTable, Sleeper, VersionPolicy, VersionStep, next_step, wanted_versions,
};

pub(crate) use self::own_config::{check_config, file_place};
pub(crate) use self::watcher::Watcher;

use self::file_source::{FileLoader, FileSource};
pub(crate) use self::fingerprint::Fingerprint;
use self::known::{FailedVersion, KnownModel, OnFile, ServedVersion};
use self::own_config::OwnConfig;
use crate::serve::ModelSources;
use crate::trial::Trial;

/// What decides which versions are served.
#[derive(Clone, Debug, Default)]
pub(crate) struct VersionRules {
    /// `None` for what a model's own configuration says, else the newest one.
    pub(crate) policy: Option<VersionPolicy>,
    /// By the model's name: labels and the versions that they name.
    pub(crate) labels: BTreeMap<String, BTreeMap<String, u64>>,
    /// How requests are put together; `None` for what a model's own configuration says, else what is queued anyhow.
    pub(crate) batching: Option<BatchSettings>,
}

/// Whose answers are kept for requests that come again.
#[derive(Clone, Debug, Default)]
pub(crate) struct CacheRules {
    pub(crate) by_model: BTreeMap<String, CacheSettings>,
    pub(crate) of_others: Option<CacheSettings>,
}

impl CacheRules {
    fn of(&self, model: &str) -> Option<CacheSettings> {
        self.by_model.get(model).copied().or(self.of_others)
    }
}

/// The models under the paths that were given at the start, looked up anew at every change.
pub(crate) struct ModelRepository {
    pub(crate) table: Arc<SharedTable>,
    sources: ModelSources,
    rules: VersionRules,
    loader: FileLoader,
    /// Loads models when they are asked for, where there is a memory budget.
    on_demand: Option<Arc<OnDemand>>,
    caches: CacheRules,
    n_workers: usize,
    log: Log,
    /// Held while models change, so that no change is lost. No request waits for it.
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    models: BTreeMap<String, KnownModel>,
    /// What was wrong when the paths were looked at last, so that it is said once.
    complaints: BTreeSet<String>,
    /// Whether they were looked at before; until then nobody asks.
    is_up: bool,
}

/// Who wants a model to be brought up to date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// Its files may have changed: what they were when it was loaded or failed is not tried again.
    Watch,
    /// Somebody asked: everything is loaded again, and versions whose files are gone may go.
    Request,
}

impl std::fmt::Debug for ModelRepository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ModelRepository")
            .field("sources", &self.sources)
            .finish_non_exhaustive()
    }
}

impl ModelRepository {
    /// Returns the repository of `sources`, of which nothing is loaded yet.
    pub(crate) fn new(
        sources: ModelSources,
        rules: VersionRules,
        options: LoadOptions,
        n_workers: usize,
        (log, clock): (Log, Arc<dyn Clock>),
    ) -> Self {
        Self {
            table: Arc::new(SharedTable::default()),
            sources,
            rules,
            loader: FileLoader {
                options,
                trial: None,
                log: log.clone(),
                clock,
            },
            on_demand: None,
            caches: CacheRules::default(),
            n_workers,
            log,
            known: Mutex::default(),
        }
    }

    /// Returns it as one whose models are tried before they are loaded.
    pub(crate) fn with_trial(mut self, trial: Option<Trial>) -> Self {
        self.loader.trial = trial.map(Arc::new);
        self
    }

    /// Returns it as one whose models are in memory as far as a budget allows; the others are loaded when they are asked for.
    pub(crate) fn with_on_demand(mut self, on_demand: Option<Arc<OnDemand>>) -> Self {
        self.on_demand = on_demand;
        self
    }

    /// Returns it as one whose models keep their answers as the rules say.
    pub(crate) fn with_caches(mut self, caches: CacheRules) -> Self {
        self.caches = caches;
        self
    }

    /// Brings every model up to date with its files; one that does not load never takes the place of one that serves.
    pub(crate) fn refresh(&self) {
        let mut known = self.known();
        let found = self.sources.find();
        let complaints = found.errors.iter().map(|error| format!("{error:#}"));
        let complaints: BTreeSet<String> = complaints.collect();
        for complaint in complaints.difference(&known.complaints) {
            self.log
                .warn(&format!("{complaint}; what is served goes on"));
        }
        known.complaints = complaints;
        for model in &found.models {
            self.bring_up(&mut known, model, Order::Watch);
        }
        if !known.is_up {
            known.is_up = true;
            self.publish(&known);
        }
    }

    /// Returns how many models are known, and what was wrong with those of which no version serves.
    pub(crate) fn failures(&self) -> (usize, Vec<String>) {
        let known = self.known();
        let down = known
            .models
            .values()
            .filter(|model| model.served.is_empty());
        let failures = down.map(|model| {
            let failed = model.failed.values().rev();
            let messages: Vec<&str> = failed.map(|failed| failed.message.as_str()).collect();
            messages.join("\n  ")
        });
        (known.models.len(), failures.collect())
    }

    /// Returns the labels that name no version that is served, as they were given.
    pub(crate) fn dangling_labels(&self) -> Vec<String> {
        let table = self.table.load();
        let labels = self.rules.labels.iter();
        let labels =
            labels.flat_map(|(name, labels)| labels.iter().map(move |label| (name, label)));
        let is_served = |name: &str, version: u64| {
            let route = table.by_name(name).ok();
            route.is_some_and(|route| route.version(&version.to_string()).is_some())
        };
        labels
            .filter(|(name, (_, version))| !is_served(name, **version))
            .map(|(name, (label, version))| format!("{label}={name}:{version}"))
            .collect()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what the policy says of a model, step by step; returns what did not load.
    fn bring_up(
        &self,
        known: &mut Known,
        model: &ModelVersions,
        order: Order,
    ) -> Vec<FailedVersion> {
        let name = model.name.as_str();
        let prints: BTreeMap<u64, Fingerprint> = model
            .versions
            .iter()
            .map(|(&version, place)| (version, Fingerprint::of_model(place)))
            .collect();
        let entry = known.models.entry(name.to_owned()).or_default();
        let newest = model.versions.values().next_back();
        if let Some(own) = newest.and_then(|place| OwnConfig::beside(place)) {
            entry.own = own;
        }
        let own = entry.own.clone();
        let policy = self.rules.policy.clone().or_else(|| own.versions.clone());
        let policy = policy.unwrap_or_default();
        let n_failed_before = entry.failed.len();
        entry.failed.retain(|version, failed| {
            order == Order::Watch && prints.get(version) == Some(&failed.print)
        });
        let mut failures = self.reload(entry, model, &prints, order);
        let n_failed = known.models.get(name).map_or(0, |entry| entry.failed.len());
        if n_failed != n_failed_before {
            self.publish(known);
        }
        loop {
            let entry = known.models.entry(name.to_owned()).or_default();
            let mut sets = entry.sets(model.versions.keys().copied());
            let labels = self.rules.labels.get(name);
            sets.labelled = labels
                .into_iter()
                .flat_map(|labels| labels.values().copied())
                .collect();
            if order == Order::Request {
                sets.dismissed = sets.served.difference(&sets.found).copied().collect();
            }
            match next_step(&policy, &sets) {
                VersionStep::Load(version) => {
                    let wanted = wanted_versions(&policy, &sets);
                    entry.waiting = wanted.difference(&sets.served).copied().collect();
                    entry.waiting.remove(&version);
                    entry.loading = Some(version);
                    self.publish(known);
                    let place = model.versions.get(&version).map(AsRef::as_ref);
                    let loaded = self.bring_in((name, version), place, &own, order);
                    let print = prints.get(&version).cloned().unwrap_or_default();
                    let entry = known.models.entry(name.to_owned()).or_default();
                    failures.extend(self.settle(entry, (name, version), loaded, print));
                }
                VersionStep::Unload(version) => {
                    entry.let_go(version);
                    self.log
                        .info(&format!("{name}: version {version} is let go of"));
                }
                VersionStep::Done => break,
            }
            self.publish(known);
        }
        failures
    }

    /// Loads again what serves and whose files have changed, in place: what was counted stays, and requests in flight end on the
    /// model that they have.
    fn reload(
        &self,
        entry: &mut KnownModel,
        model: &ModelVersions,
        prints: &BTreeMap<u64, Fingerprint>,
        order: Order,
    ) -> Vec<FailedVersion> {
        let name = model.name.as_str();
        let mut failures = Vec::new();
        for (version, served) in &mut entry.served {
            let (Some(print), Some(place)) = (prints.get(version), model.versions.get(version))
            else {
                continue;
            };
            if order == Order::Watch && *print == served.print {
                continue;
            }
            served.print = print.clone();
            let reloaded = match (&self.on_demand, &served.on_file) {
                (Some(on_demand), Some(on_file)) => on_file.reload(on_demand, place, order),
                _ => {
                    let loaded = self.loader.load(name, place);
                    loaded.map(|loaded| {
                        served.model.renew_content();
                        served.model.load(loaded);
                    })
                }
            };
            match reloaded {
                Ok(()) => {}
                Err((code, message)) => {
                    self.log.warn(&format!(
                        "{name}: version {version} does not load any more, what it was goes on: {message}"
                    ));
                    failures.push(FailedVersion {
                        code,
                        message,
                        print: print.clone(),
                    });
                }
            }
        }
        failures
    }

    /// Puts what was loaded into service, or notes why it was not.
    fn settle(
        &self,
        entry: &mut KnownModel,
        (name, version): (&str, u64),
        brought: Result<(Arc<ServedModel>, Option<OnFile>), (Code, String)>,
        print: Fingerprint,
    ) -> Option<FailedVersion> {
        entry.loading = None;
        entry.waiting = BTreeSet::new();
        match brought {
            Ok((model, on_file)) => {
                let served = ServedVersion {
                    model,
                    on_file,
                    print,
                };
                entry.served.insert(version, served);
                None
            }
            Err((code, message)) => {
                let goes_on = entry.served.keys().next_back();
                let goes_on =
                    goes_on.map_or_else(String::new, |other| format!(", {other} goes on"));
                self.log.warn(&format!(
                    "{name}: version {version} did not load{goes_on}: {message}"
                ));
                let failed = FailedVersion {
                    code,
                    message,
                    print,
                };
                entry.failed.insert(version, failed.clone());
                Some(failed)
            }
        }
    }

    /// Returns what serves a version: loaded and warmed up, or, within a memory budget that has no room for it, to be loaded by its
    /// first request.
    fn bring_in(
        &self,
        (name, version): (&str, u64),
        place: Option<&Path>,
        own: &OwnConfig,
        order: Order,
    ) -> Result<(Arc<ServedModel>, Option<OnFile>), (Code, String)> {
        let place = place.ok_or_else(|| (Code::NotFound, "its files are gone".to_owned()))?;
        let batching = self
            .rules
            .batching
            .as_ref()
            .or(own.batching.as_ref())
            .cloned();
        let model = ServedModel::unloaded(name.to_owned(), self.n_workers)
            .with_version(version)
            .with_batching(batching.unwrap_or_else(BatchSettings::opportunistic))
            .with_queue_limits(own.queue)
            .with_response_cache(self.caches.of(name).or(own.cache))
            .with_declared(own.declared.clone());
        let Some(on_demand) = &self.on_demand else {
            let loaded = self.loader.load(name, place)?;
            model.load(loaded);
            return Ok((Arc::new(model), None));
        };
        let place: Arc<Mutex<PathBuf>> = Arc::new(Mutex::new(place.to_path_buf()));
        let source = FileSource::new(name.to_owned(), Arc::clone(&place), self.loader.clone());
        let sleeper = Arc::new(Sleeper::new(Box::new(source), Arc::new(|| ())));
        let model = on_demand.serve(&sleeper, model);
        let loaded = match order {
            Order::Watch => on_demand.load_if_room(&sleeper),
            Order::Request => on_demand.load_ahead(&sleeper),
        };
        loaded.map_err(|LoadFailure { code, message, .. }| (code, message))?;
        Ok((model, Some(OnFile { sleeper, place })))
    }

    /// Makes what is known what requests find.
    fn publish(&self, known: &Known) {
        // Every look at all of thousands of models counts.
        if !known.is_up {
            return;
        }
        let mut routes = BTreeMap::new();
        let mut idle: BTreeMap<String, Vec<IdleVersion>> = BTreeMap::new();
        for (name, model) in &known.models {
            let labels = self.rules.labels.get(name).into_iter().flatten();
            let labels = labels.map(|(label, version)| (label.clone(), version.to_string()));
            if let Some(route) = Route::versions(model.models(), labels.collect()) {
                let id = ServiceId {
                    namespace: String::new(),
                    name: name.clone(),
                };
                routes.insert(id, Arc::new(route));
            }
            let versions = model.idle();
            if !versions.is_empty() {
                idle.insert(name.clone(), versions);
            }
        }
        self.table
            .store(ModelTable::from_routes(routes).with_idle(idle));
    }
}

impl ModelControl for ModelRepository {
    fn index(&self) -> Vec<IndexEntry> {
        let models = self.sources.find().models.into_iter();
        let entries = models.flat_map(|model| {
            let name = model.name;
            let versions = model.versions.into_keys();
            versions.map(move |version| IndexEntry {
                name: name.clone(),
                version: version.to_string(),
                state: VersionState::End,
                reason: "unloaded".to_owned(),
            })
        });
        entries.collect()
    }

    fn load(&self, name: &str) -> Result<(), ControlError> {
        let mut known = self.known();
        let found = self.sources.find();
        let model = found.models.iter().find(|model| model.name == name);
        let model = model.ok_or_else(|| match found.errors.first() {
            // It may be the one with which something is wrong.
            Some(error) => ControlError {
                code: Code::FailedPrecondition,
                message: format!("{error:#}"),
            },
            None => unknown(name),
        })?;
        let failures = self.bring_up(&mut known, model, Order::Request);
        match failures.into_iter().next() {
            None => Ok(()),
            Some(FailedVersion { code, message, .. }) => Err(ControlError { code, message }),
        }
    }

    fn unload(&self, name: &str) -> Result<(), ControlError> {
        let mut known = self.known();
        let model = known.models.get_mut(name);
        let model = model.filter(|model| !model.served.is_empty());
        let model = model.ok_or_else(|| unknown(name))?;
        let versions: Vec<u64> = model.served.keys().copied().collect();
        for version in versions {
            model.let_go(version);
        }
        self.publish(&known);
        self.log.info(&format!("unloaded {name}"));
        Ok(())
    }
}

fn unknown(name: &str) -> ControlError {
    let shown: String = name.chars().take(128).collect();
    ControlError {
        code: Code::NotFound,
        message: format!("Model with name {shown} does not exist."),
    }
}
