//! What the sessions of a graph are made of, and the thread beside its runs that makes further ones.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use coracle_model::{ExternalFile, HeldMemory};
use ort::session::Session;
use ort::session::builder::SessionBuilder;

use crate::library::Library;
use crate::messages::shortened;
use crate::pool::Pool;
use crate::providers::with_fewer;
use crate::setup::Setup;
use crate::shared_weights::SharedWeights;

/// What a session takes of a file: its weights, and once more packed for the kernels.
pub(crate) const BYTES_PER_FILE_BYTE: usize = 2;

/// One session is made at a time in the process: those who run are to have the processors.
static MAKING: Mutex<()> = Mutex::new(());

/// What sessions are made of.
pub(crate) struct Source {
    pub(crate) library: &'static Library,
    pub(crate) setup: Setup,
    /// Empty where no further session is made.
    pub(crate) bytes: Vec<u8>,
    /// Sessions may refer to these; the binding does not keep them.
    pub(crate) external: Vec<ExternalFile>,
    /// What all sessions of a large graph hold together, and those of other graphs with the same weights.
    pub(crate) shared: Option<Arc<SharedWeights>>,
}

/// A graph's sessions with what they are made of.
#[derive(Debug)]
pub(crate) struct Sessions {
    /// Before `source`, to whose files sessions may refer: fields are dropped in this order.
    pub(crate) pool: Pool<Session>,
    pub(crate) source: Source,
    /// How long making one may take.
    pub(crate) load_time: Duration,
}

/// A further session that is to be told of, whatever comes of it.
struct Making {
    sessions: Arc<Sessions>,
    made: Option<Session>,
}

impl Sessions {
    /// Has a further session made by a thread of its own, which the pool is told of.
    pub(crate) fn make_beside(self: &Arc<Self>) {
        let weak = Arc::downgrade(self);
        let thread = thread::Builder::new().name("onnx-session".to_owned());
        let started = thread.spawn(move || {
            let _turn = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
            // The model may have gone meanwhile.
            let Some(sessions) = weak.upgrade() else {
                return;
            };
            let mut making = Making {
                sessions,
                made: None,
            };
            let Sessions {
                source, load_time, ..
            } = &*making.sessions;
            let until = source.library.watchdog.now().saturating_add(*load_time);
            // The binding has assertions about what the library gives it.
            let made = catch_unwind(AssertUnwindSafe(|| source.session(until)));
            making.made = made.ok().and_then(Result::ok);
        });
        if started.is_err() {
            self.pool.made(None);
        }
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        self.sessions.pool.made(self.made.take());
    }
}

impl Source {
    /// Returns the pool of a graph's first session and those that are made beside it, for `n_max` runs at a time; if the runs are `is_split`, those that meet have
    /// one thread each.
    pub(crate) fn pool(
        &mut self,
        first: Session,
        bytes: Cow<'_, [u8]>,
        (n_max, is_split): (usize, bool),
        until: Duration,
    ) -> Result<Pool<Session>, String> {
        if self.shared.is_none() {
            if n_max > 1 {
                self.bytes = bytes.into_owned();
            }
            return Ok(Pool::new(vec![first], n_max));
        }
        // A large file is in memory once, not twice: all its sessions are made now.
        self.setup.set_one_thread(is_split);
        let n_alike = n_max.saturating_sub(usize::from(!is_split));
        let made = (0..n_alike).map(|_| self.session_of(&bytes, until));
        let mut made = made.collect::<Result<Vec<_>, _>>()?;
        if is_split {
            return Ok(Pool::new(made, n_max).with_wide(first));
        }
        made.push(first);
        Ok(Pool::new(made, n_max))
    }

    /// Notes that one graph more holds the weights that it shares.
    pub(crate) fn held(&self) -> Vec<HeldMemory> {
        let shared = self.shared.as_deref();
        shared.map_or_else(Vec::new, SharedWeights::hold)
    }

    /// Makes a further session, and gives up at `until`.
    pub(crate) fn session(&self, until: Duration) -> Result<Session, String> {
        self.session_of(&self.bytes, until)
    }

    /// Makes a session of a file, without the providers that may be missing and do not work, of which it returns a warning.
    pub(crate) fn first_session(
        &mut self,
        bytes: &[u8],
        until: Duration,
    ) -> Result<(Session, Option<String>), String> {
        let mut providers = self.setup.exchange_providers(Vec::new());
        let environment = &self.library.environment;
        let made = with_fewer(&mut providers, |providers| {
            let builder = self.setup.builder_on(providers, environment)?;
            self.committed(builder, bytes, until)
        });
        self.setup.exchange_providers(providers);
        made
    }

    /// Makes a session of a file.
    fn session_of(&self, bytes: &[u8], until: Duration) -> Result<Session, String> {
        let builder = self.setup.builder(&self.library.environment)?;
        self.committed(builder, bytes, until)
    }

    /// Makes a session of what is begun.
    fn committed(
        &self,
        mut builder: SessionBuilder,
        bytes: &[u8],
        until: Duration,
    ) -> Result<Session, String> {
        let shown = |error: &dyn std::fmt::Display| shortened(&error.to_string());
        // No file is opened: one that is cut short while it is mapped would end the process.
        for file in &self.external {
            let bytes = Arc::clone(&file.bytes);
            builder = builder
                .with_external_initializer_file_in_memory(&file.location, bytes)
                .map_err(|error| shown(&error))?;
        }
        if let Some(shared) = &self.shared {
            for (name, value) in &shared.by_name {
                builder = builder
                    .with_initializer(name, Arc::clone(value))
                    .map_err(|error| shown(&error))?;
            }
            builder = builder
                .with_prepacked_weights(&shared.packed)
                .map_err(|error| shown(&error))?;
        }
        let canceler = builder.canceler();
        let watchdog = self.library.watchdog;
        let watched = watchdog.watch(until, move || drop(canceler.cancel()));
        let session = builder.commit_from_memory(bytes);
        session.map_err(|error| match watched.is_over() {
            true => "it took too long".to_owned(),
            false => shortened(error.message()),
        })
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source")
            .field("bytes", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

/// Returns what sessions take with what they are made of.
pub(crate) fn memory_bytes(source: &Source, session_bytes: usize, n_sessions: usize) -> usize {
    let shared = source.shared.as_ref().map_or(0, |shared| shared.n_bytes);
    let own = session_bytes.saturating_sub(shared.saturating_mul(BYTES_PER_FILE_BYTE));
    let further = n_sessions.saturating_sub(1).saturating_mul(own);
    session_bytes
        .saturating_add(further)
        .saturating_add(source.bytes.len())
}
