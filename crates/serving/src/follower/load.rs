//! The loading of one revision: on a thread of its own, warmed up before it is handed over.

use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coracle_base::{ByteCount, Code};
use coracle_model::Model;

use super::{Event, FollowerConfig, Loaded};
use crate::budget::{LoadReason, Room, SizeEstimate};
use crate::plan::{LoadFailure, PlannedRevision, RevisionId};
use crate::revision_log::LogSource;
use crate::{LoadPhases, LoadedModel, ServedModel, warm_up};

/// What was loaded, before it is warmed up.
enum Loading {
    Model(Box<dyn Model>, LoadPhases),
    Files(Option<PathBuf>),
}

/// The loading of one revision, on its own thread.
pub(super) struct Load {
    pub(super) id: RevisionId,
    pub(super) planned: PlannedRevision,
    pub(super) config: FollowerConfig,
    pub(super) sender: Sender<Event>,
    /// What requests are handed, if they are; they may wait for this load.
    pub(super) served: Option<Arc<ServedModel>>,
    /// When the load was asked for, or got its turn.
    pub(super) asked_at: Duration,
}

impl Load {
    /// Loads, warms up, and tells the follower.
    pub(super) fn run(self) {
        let FollowerConfig {
            loader, log, clock, ..
        } = &self.config;
        let source = Mutex::new(LogSource::Fetch);
        let progress = |now: LogSource, text: &str| {
            *source.lock().unwrap_or_else(PoisonError::into_inner) = now;
            log.write(&self.id, now, text);
            let event = Event::Progress(self.id.clone(), text.to_owned());
            drop(self.sender.send(event));
        };
        let room = Mutex::new(None);
        let make_room = |file_bytes| {
            *room.lock().unwrap_or_else(PoisonError::into_inner) = self.room(file_bytes)?;
            Ok(())
        };
        let is_process = self.planned.source.process.is_some();
        let load = || match (is_process, &self.config.processes) {
            (false, _) => {
                let loaded = loader.load(&self.id, &self.planned, &progress, &make_room);
                loaded.map(|(model, phases)| Loading::Model(model, phases))
            }
            (true, Some(_)) => {
                let files = loader.fetch(&self.id, &self.planned, &progress);
                files.map(Loading::Files)
            }
            (true, None) => Err(LoadFailure {
                code: Code::Unimplemented,
                message: "this server runs no processes".to_owned(),
                is_transient: false,
            }),
        };
        let result =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(load)).unwrap_or_else(|_panic| {
                Err(LoadFailure {
                    code: Code::Internal,
                    message: "loading failed; this is a defect of the server, not of the model"
                        .to_owned(),
                    is_transient: false,
                })
            });
        let room = room.into_inner().unwrap_or_else(PoisonError::into_inner);
        let result = result.and_then(|loading| {
            let (model, phases) = match loading {
                Loading::Model(model, phases) => (model, phases),
                Loading::Files(files) => return Ok(Loaded::Files(files)),
            };
            let name = self.planned.model_name.clone();
            let mut loaded = LoadedModel::new(name, model, phases);
            let started = clock.monotonic();
            warm_up(&mut loaded, clock.as_ref());
            loaded.add_warm_up(clock.monotonic().saturating_sub(started));
            log.write(&self.id, LogSource::Serve, &loaded_line(&loaded));
            self.settle(loaded, room).map(Loaded::Model)
        });
        if let Err(failure) = &result {
            let source = *source.lock().unwrap_or_else(PoisonError::into_inner);
            log.write(&self.id, source, &format!("error: {}", failure.message));
            if let Some(budget) = &self.config.budget {
                budget.counters().failed();
            }
        }
        let attempt = self.planned.attempt;
        drop(
            self.sender
                .send(Event::Loaded(self.id, attempt, Box::new(result))),
        );
    }

    /// Makes room for a model whose file has so many bytes, where there is a memory budget.
    fn room(&self, file_bytes: u64) -> Result<Option<Room>, LoadFailure> {
        let Some(budget) = &self.config.budget else {
            return Ok(None);
        };
        let known_bytes = self.served.as_ref().and_then(|served| served.known_bytes());
        let estimate = SizeEstimate {
            file_bytes,
            known_bytes,
        };
        let room = budget.make_room(&self.planned.model_name, estimate, &|| true);
        Ok(Some(room?))
    }

    /// Counts a model that was loaded in `room` within the memory budget.
    fn settle(&self, loaded: LoadedModel, room: Option<Room>) -> Result<LoadedModel, LoadFailure> {
        let Some(budget) = &self.config.budget else {
            return Ok(loaded);
        };
        let room = match room {
            Some(room) => Some(room),
            // Whoever loaded it has not said how large it is.
            None => self.room(0)?,
        };
        let Some(room) = room else { return Ok(loaded) };
        let loaded = room.settle(loaded)?;
        let is_awaited = |served: &Arc<ServedModel>| served.n_waiting() > 0;
        let waited = self.config.clock.monotonic().saturating_sub(self.asked_at);
        match self.served.as_ref().is_some_and(is_awaited) {
            true => budget.counters().loaded(LoadReason::Request, waited),
            false => budget.counters().loaded(LoadReason::Ahead, waited),
        }
        Ok(loaded)
    }
}

fn loaded_line(loaded: &LoadedModel) -> String {
    let description = loaded.model().description();
    let milliseconds = |time: Duration| format!("{:.1}", time.as_secs_f64() * 1e3);
    let phases = loaded.phases();
    let parts = phases
        .named()
        .map(|(name, time)| format!("{name} {}", milliseconds(time)));
    let bytes = u64::try_from(loaded.memory_bytes()).unwrap_or(u64::MAX);
    format!(
        "loaded {}: {}, {} {}, {} in memory, {} ms ({}); ready",
        loaded.name(),
        description.root.class,
        description.library,
        description
            .library_version
            .as_deref()
            .unwrap_or("of unknown version"),
        ByteCount::new(bytes).to_rounded(),
        milliseconds(phases.total()),
        parts.join(", ")
    )
}
