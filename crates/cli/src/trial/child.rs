//! The child of a trial load: bounds itself, loads one model, runs it, and says how that went.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum as _;
use coracle_base::SystemClock;
use coracle_formats::{LoadOptions, load};
use coracle_model::{LoadError, LoadErrorKind, Method};
use coracle_serving::{LoadPhases, LoadedModel};
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::args::MethodArgument;
use crate::engine_settings::{EngineSettings, over};
use crate::{Environment, engine, heap, warm_up};

/// What the child says where all went well.
const SUCCESS: &str = "loaded\n";
/// What comes before the kind of an error.
const FAILURE: &str = "refused ";

/// The kinds of errors by name.
const KINDS: [(LoadErrorKind, &str); 7] = [
    (LoadErrorKind::NotFound, "not-found"),
    (LoadErrorKind::Ambiguous, "ambiguous"),
    (LoadErrorKind::Unreadable, "unreadable"),
    (LoadErrorKind::Refused, "refused"),
    (LoadErrorKind::Unsupported, "unsupported"),
    (LoadErrorKind::Malformed, "malformed"),
    (LoadErrorKind::LimitExceeded, "limit-exceeded"),
];

/// What becomes of a graph beside a tokeniser's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Texts {
    /// It takes tokens.
    None,
    /// A text for each row, or two where its files say so.
    One,
    /// Two texts for each row of a classifier.
    Pairs,
}

impl Texts {
    const ALL: [Self; 3] = [Self::None, Self::One, Self::Pairs];

    fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::One => "one",
            Self::Pairs => "pairs",
        }
    }

    fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|texts| texts.word() == word)
    }
}

/// What the child is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) memory_bytes: u64,
    pub(super) time: Duration,
    pub(super) texts: Texts,
    pub(super) onnxruntime: Option<PathBuf>,
    pub(super) settings: EngineSettings,
    pub(super) object: Option<String>,
    pub(super) method: Option<String>,
    /// The process that waits for it.
    pub(super) server: u32,
    pub(super) path: PathBuf,
}

impl Wanted {
    /// Returns it as arguments, each in its place; an empty one is for what is not there.
    pub(super) fn arguments(&self) -> [OsString; 9] {
        let text = |text: &Option<String>| text.clone().unwrap_or_default().into();
        [
            self.memory_bytes.to_string().into(),
            self.time.as_secs().to_string().into(),
            self.texts.word().into(),
            self.onnxruntime.clone().unwrap_or_default().into(),
            settings_text(&self.settings).into(),
            text(&self.object),
            text(&self.method),
            self.server.to_string().into(),
            self.path.clone().into(),
        ]
    }

    /// Reads arguments.
    pub(super) fn of(arguments: &[OsString]) -> Option<Self> {
        let [
            memory,
            time,
            texts,
            onnxruntime,
            settings,
            object,
            method,
            server,
            path,
        ] = arguments
        else {
            return None;
        };
        let given = |text: &OsString| {
            let text = text.to_str().filter(|text| !text.is_empty());
            text.map(str::to_owned)
        };
        Some(Self {
            memory_bytes: memory.to_str()?.parse().ok()?,
            time: Duration::from_secs(time.to_str()?.parse().ok()?),
            texts: Texts::of(texts.to_str()?)?,
            onnxruntime: (!onnxruntime.is_empty()).then(|| onnxruntime.into()),
            settings: settings_of(settings.to_str()?),
            object: given(object),
            method: given(method),
            server: server.to_str()?.parse().ok()?,
            path: path.into(),
        })
    }
}

/// What is between settings, and between a setting's name and value; neither has it.
const BETWEEN: char = '\u{1f}';

fn settings_text(settings: &EngineSettings) -> String {
    let parts = settings.iter().flat_map(|(name, value)| [name, value]);
    let parts: Vec<&str> = parts.map(String::as_str).collect();
    parts.join(&BETWEEN.to_string())
}

fn settings_of(text: &str) -> EngineSettings {
    let mut parts = text.split(BETWEEN);
    let pairs = std::iter::from_fn(|| Some((parts.next()?.to_owned(), parts.next()?.to_owned())));
    pairs.collect()
}

/// Runs the child; `arguments` are those after the mode.
#[must_use]
pub(crate) fn run(arguments: &[OsString]) -> ExitCode {
    let Some(wanted) = Wanted::of(arguments) else {
        drop(writeln!(
            std::io::stderr(),
            "not for use by hand: the server starts it"
        ));
        return ExitCode::from(2);
    };
    let tried = bound(&wanted)
        .map_err(|error| {
            let message = "the child process cannot bound itself";
            LoadError::new(LoadErrorKind::Unreadable, message).with_source(error)
        })
        .and_then(|()| try_out(&wanted));
    let said = match tried {
        Ok(()) => SUCCESS.to_owned(),
        Err(error) => words(&error),
    };
    match std::io::stdout().write_all(said.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_nobody_listens) => ExitCode::FAILURE,
    }
}

/// Bounds this process's memory and time, and lets it end with the server.
fn bound(wanted: &Wanted) -> std::io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    // A server that was gone before this was said tells nobody any more.
    if std::os::unix::process::parent_id() != wanted.server {
        return Err(std::io::Error::other("the server has ended"));
    }
    let limit = |resource, most: u64| {
        let limit = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        setrlimit(resource, limit)
    };
    limit(Resource::Core, 0)?;
    // Threads of one process: their time adds up, and the server looks at the clock.
    let n_threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    limit(Resource::Cpu, (wanted.time.as_secs() + 1) * n_threads)?;
    limit(Resource::As, wanted.memory_bytes)?;
    heap::keep_compact();
    Ok(())
}

fn try_out(wanted: &Wanted) -> Result<(), LoadError> {
    let environment = Environment::read();
    let method = wanted.method.as_deref();
    let method = method.and_then(|method| MethodArgument::from_str(method, false).ok());
    let options = LoadOptions {
        default_method: method.map(Method::from),
        object: wanted.object.clone(),
        graph_engine: Some(engine::runtime(
            wanted.onnxruntime.as_deref(),
            &wanted.settings,
            &environment,
        )),
        engine_settings: on_processor(&wanted.settings),
        text_engine: match wanted.texts {
            Texts::None => None,
            Texts::One => Some(engine::texts()),
            Texts::Pairs => Some(engine::text_pairs()),
        },
    };
    let clock = SystemClock::new();
    let loaded = load(&wanted.path, &options, &clock)?;
    // A request that the model refuses says nothing of the model.
    warm_up::run(loaded.model.as_ref(), &wanted.path, |_line| {});
    let mut model = LoadedModel::new(String::new(), loaded.model, LoadPhases::default());
    coracle_serving::warm_up(&mut model, &clock);
    Ok(())
}

/// Returns settings with the processor as the only execution provider: the driver of a device takes more addresses than a trial load may.
pub(super) fn on_processor(settings: &EngineSettings) -> EngineSettings {
    let cpu = EngineSettings::from([("providers".to_owned(), "cpu".to_owned())]);
    over(settings.clone(), &cpu)
}

/// Returns an error as the child says it: the kind, and the message with its causes.
fn words(error: &LoadError) -> String {
    let kind = KINDS.iter().find(|(kind, _)| *kind == error.kind());
    let kind = kind.map_or("unsupported", |(_, name)| name);
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    format!("{FAILURE}{kind}\n{text}")
}

/// Tells whether the child said that all went well.
pub(super) fn is_success(said: &str) -> bool {
    said == SUCCESS
}

/// Returns the error that the child told.
pub(super) fn failure(said: &str) -> Option<LoadError> {
    let (head, message) = said.strip_prefix(FAILURE)?.split_once('\n')?;
    let (kind, _) = KINDS.iter().find(|(_, name)| *name == head)?;
    Some(LoadError::new(*kind, message))
}
