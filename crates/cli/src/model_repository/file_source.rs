//! Where the models of `coracle serve` come from: files on this machine.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use coracle_base::{Clock, Code};
use coracle_formats::{LoadOptions, Loaded, ModelFile, TritonConfig, bytes_to_read, load, locate};
use coracle_gateway::Log;
use coracle_model::LoadError;
use coracle_serving::{LoadFailure, LoadPhases, LoadReason, LoadedModel, ModelSource};

use super::own_config::{check_config, file_place};
use crate::engine_settings::over;
use crate::heap;
use crate::serve::ready_to_serve;
use crate::trial::Trial;

/// What reading a file of at least this many bytes left behind is given back at once.
const LARGE_FILE_BYTES: u64 = 16 << 20;

/// Loads model files.
#[derive(Clone)]
pub(super) struct FileLoader {
    pub(super) options: LoadOptions,
    pub(super) trial: Option<Arc<Trial>>,
    pub(super) log: Log,
    pub(super) clock: Arc<dyn Clock>,
}

impl FileLoader {
    /// Loads the model at `place`, warms it up, and says so.
    pub(super) fn load(&self, name: &str, place: &Path) -> Result<LoadedModel, (Code, String)> {
        let mut is_large = false;
        let loaded = self.guarded(place, || {
            let (file, config) = file_place(place)?;
            let path = locate(&file)?;
            is_large = bytes_to_read(&path) >= LARGE_FILE_BYTES;
            let options = self.options(config.as_ref());
            let (loaded, is_tried) = self.load_tried(&path, &options)?;
            if is_tried {
                self.log.info(&format!("{name}: the trial load went well"));
            }
            if let Some(config) = config {
                let notes = check_config(&config, name, place, loaded.model.as_ref())?;
                for note in config.notes.iter().chain(&notes) {
                    self.log.info(&format!("{name}: config.pbtxt: {note}"));
                }
            }
            let name = name.to_owned();
            Ok(ready_to_serve(
                &ModelFile { name, path },
                loaded,
                &self.log,
                self.clock.as_ref(),
            ))
        });
        if is_large {
            heap::give_back();
        }
        loaded.inspect(Self::settle)
    }

    /// Lays out the memory of a model that was loaded.
    fn settle(loaded: &LoadedModel) {
        heap::use_large_pages(loaded.model().memory_bytes());
    }

    /// Loads the model at `place` again, for a request that waits for it.
    fn load_again(&self, name: &str, place: &Path) -> Result<LoadedModel, (Code, String)> {
        let loaded = self.guarded(place, || {
            let (file, config) = file_place(place)?;
            let path = locate(&file)?;
            let options = self.options(config.as_ref());
            let (loaded, _is_tried) = self.load_tried(&path, &options)?;
            if let Some(config) = config {
                check_config(&config, name, place, loaded.model.as_ref())?;
            }
            let phases = LoadPhases {
                read: loaded.phases.read,
                parse: loaded.phases.parse,
                build: loaded.phases.build,
                ..LoadPhases::default()
            };
            Ok(LoadedModel::new(name.to_owned(), loaded.model, phases))
        });
        loaded.inspect(Self::settle)
    }

    /// Returns how a model is loaded: the command line goes before its configuration.
    fn options(&self, config: Option<&TritonConfig>) -> LoadOptions {
        let mut options = self.options.clone();
        if let Some(config) = config {
            options.engine_settings = over(config.engine.clone(), &options.engine_settings);
        }
        options
    }

    /// Loads a model's file, after a trial in a child process if models are tried; returns whether it was.
    fn load_tried(&self, path: &Path, options: &LoadOptions) -> Result<(Loaded, bool), LoadError> {
        let load = || load(path, options, self.clock.as_ref());
        match &self.trial {
            Some(trial) => trial.load(path, options, load),
            None => Ok((load()?, false)),
        }
    }

    /// What serves goes on whatever is in a file.
    fn guarded(
        &self,
        place: &Path,
        load: impl FnOnce() -> Result<LoadedModel, LoadError>,
    ) -> Result<LoadedModel, (Code, String)> {
        let loaded = catch_unwind(AssertUnwindSafe(load)).map_err(|_panic| {
            let message = format!(
                "{}: loading failed; this is a defect of the server",
                place.display()
            );
            (Code::Internal, message)
        })?;
        loaded.map_err(|error| (error.code(), format!("{:#}", anyhow::Error::new(error))))
    }
}

/// The file of one version of a model, which may be loaded again and again.
pub(super) struct FileSource {
    name: String,
    place: Arc<Mutex<PathBuf>>,
    loader: FileLoader,
    /// Whether it was never loaded: then it is told.
    is_new: AtomicBool,
}

impl FileSource {
    pub(super) fn new(name: String, place: Arc<Mutex<PathBuf>>, loader: FileLoader) -> Self {
        Self {
            name,
            place,
            loader,
            is_new: AtomicBool::new(true),
        }
    }

    fn place(&self) -> PathBuf {
        let place = self.place.lock();
        place.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ModelSource for FileSource {
    fn file_bytes(&self) -> u64 {
        let file = file_place(&self.place()).and_then(|(file, _config)| locate(&file));
        file.map_or(0, |file| bytes_to_read(&file))
    }

    fn load(&self, reason: LoadReason) -> Result<LoadedModel, LoadFailure> {
        let place = self.place();
        let is_told = self.is_new.load(Ordering::Relaxed) || reason == LoadReason::Ahead;
        let loaded = match is_told {
            true => self.loader.load(&self.name, &place),
            false => self.loader.load_again(&self.name, &place),
        };
        let loaded = loaded.map_err(|(code, message)| LoadFailure {
            code,
            message,
            is_transient: false,
        })?;
        self.is_new.store(false, Ordering::Relaxed);
        Ok(loaded)
    }
}
