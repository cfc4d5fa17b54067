//! `coracle engine`: the engines beside our own kernels, and where their libraries are.

#[cfg(feature = "rten")]
mod or_rten;

use std::io::Write as _;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use coracle_model::{GraphEngine, TextEngine};
use coracle_onnxruntime::{OnnxRuntime, Places, inspect};
use coracle_text::TextSteps;

use crate::engine_args::EngineCommand;
use crate::{Environment, engine_install};

/// Where the system's linker looks, as far as that is the same everywhere.
const SYSTEM_DIRECTORIES: [&str; 6] = [
    "/usr/local/lib",
    // Debian's name for this processor.
    if cfg!(target_arch = "aarch64") {
        "/usr/lib/aarch64-linux-gnu"
    } else {
        "/usr/lib/x86_64-linux-gnu"
    },
    "/usr/lib64",
    "/usr/lib",
    "/opt/homebrew/lib",
    "/lib",
];

/// Runs the command.
pub(crate) fn run(command: &EngineCommand, environment: &Environment) -> anyhow::Result<()> {
    match command {
        EngineCommand::Install(arguments) => engine_install::run(arguments, environment),
        EngineCommand::List { onnxruntime } => list(onnxruntime.as_deref(), environment),
    }
}

/// Returns what runs graphs that our own kernels do not: ONNX Runtime, whose library is looked for when a graph needs it; without
/// it `rten`, in builds that have it.
pub(crate) fn runtime(given: Option<&Path>, environment: &Environment) -> Arc<dyn GraphEngine> {
    or_else(
        onnxruntime(given, environment),
        is_named(given, environment),
    )
}

/// Returns the same for a server: ONNX Runtime's threads spin where its event loops do.
pub(crate) fn runtime_of_server(
    given: Option<&Path>,
    environment: &Environment,
    busy_poll: Option<Duration>,
) -> Arc<dyn GraphEngine> {
    let engine = onnxruntime(given, environment);
    let engine = match busy_poll {
        Some(_) => engine.with_spinning(),
        None => engine,
    };
    or_else(engine, is_named(given, environment))
}

/// Tells whether a library is named: then it is to be that one, and no other engine.
fn is_named(given: Option<&Path>, environment: &Environment) -> bool {
    given.is_some() || environment.engines.onnxruntime.is_some()
}

fn or_else(onnxruntime: OnnxRuntime, is_named: bool) -> Arc<dyn GraphEngine> {
    #[cfg(feature = "rten")]
    if !is_named {
        return Arc::new(or_rten::OrRten::new(onnxruntime));
    }
    let _ = is_named;
    Arc::new(onnxruntime)
}

fn onnxruntime(given: Option<&Path>, environment: &Environment) -> OnnxRuntime {
    let n_threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    OnnxRuntime::new(places(given, environment), n_threads)
}

/// The engines that there are, each by itself.
#[derive(Debug)]
pub(crate) struct Each {
    onnxruntime: OnnxRuntime,
}

impl Each {
    pub(crate) fn of(given: Option<&Path>, environment: &Environment) -> Self {
        Self {
            onnxruntime: onnxruntime(given, environment),
        }
    }

    /// Returns them by name.
    pub(crate) fn named(&self) -> Vec<(&'static str, &dyn GraphEngine)> {
        vec![
            ("ONNX Runtime", &self.onnxruntime),
            #[cfg(feature = "rten")]
            ("rten", &coracle_rten::Rten),
        ]
    }
}

/// Returns what makes models of texts of graphs that take tokens.
pub(crate) fn texts() -> Arc<dyn TextEngine> {
    Arc::new(TextSteps::default())
}

/// Returns the same, with two texts for each row of a classifier.
pub(crate) fn text_pairs() -> Arc<dyn TextEngine> {
    Arc::new(TextSteps::default().with_pairs())
}

/// Returns where the library is looked for.
fn places(given: Option<&Path>, environment: &Environment) -> Places {
    let given = given.or(environment.engines.onnxruntime.as_deref());
    let program = std::env::current_exe().ok();
    let beside = program.as_deref().and_then(Path::parent);
    let mut directories: Vec<PathBuf> = Vec::new();
    directories.extend(beside.map(Path::to_path_buf));
    directories.extend(beside.and_then(Path::parent).map(|above| above.join("lib")));
    directories.extend(data_directories(environment));
    if let Some(path) = &environment.engines.library_path {
        directories.extend(std::env::split_paths(path).filter(|path| path.is_absolute()));
    }
    directories.extend(SYSTEM_DIRECTORIES.map(PathBuf::from));
    Places {
        given: given.map(Path::to_path_buf),
        directories,
    }
}

/// Returns where engines are installed: with what `coracle up` keeps, and where desktops want such files.
fn data_directories(environment: &Environment) -> Vec<PathBuf> {
    let home = environment.home.as_deref();
    let ours = own_directory(environment);
    let share = environment.engines.data_home.clone();
    let share = share.or_else(|| home.map(|home| home.join(".local/share")));
    let share = share.map(|share| share.join("coracle/engines"));
    ours.into_iter().chain(share).collect()
}

/// Returns where engines are installed unless something else is said.
pub(crate) fn own_directory(environment: &Environment) -> Option<PathBuf> {
    let home = environment.home.as_deref();
    home.map(|home| home.join(".coracle/engines"))
}

fn list(given: Option<&Path>, environment: &Environment) -> anyhow::Result<()> {
    let places = places(given, environment);
    let mut text = String::from("onnx (built in)\n  runs        graphs of classical models\n");
    let found = places.all();
    if found.is_empty() {
        text.push_str("onnxruntime (not installed)\n  to install  coracle engine install onnxruntime\n  looked in\n");
        for directory in &places.directories {
            text.push_str(&format!("    {}\n", directory.display()));
        }
    }
    let taken = found.iter().position(|library| library.unfit.is_none());
    for (index, library) in found.iter().enumerate() {
        let path = library.path.display();
        if let Some(unfit) = &library.unfit {
            text.push_str(&format!(
                "onnxruntime (unfit)\n  file        {path}\n  why         {unfit}\n"
            ));
        } else if taken != Some(index) {
            text.push_str(&format!("onnxruntime (not taken)\n  file        {path}\n"));
        } else {
            text.push_str(&describe(&places, &library.path));
        }
    }
    if cfg!(feature = "rten") {
        text.push_str(
            "rten (built in)\n  runs        neural graphs, where ONNX Runtime is not there\n",
        );
    }
    drop(std::io::stdout().write_all(text.as_bytes()));
    Ok(())
}

/// Loads the library that is taken and describes it.
fn describe(places: &Places, path: &Path) -> String {
    match inspect(places) {
        Ok((path, version, providers)) => format!(
            "onnxruntime {version}\n  file        {}\n  providers   {}\n",
            path.display(),
            providers.join(", ")
        ),
        Err(error) => format!(
            "onnxruntime (unfit)\n  file        {}\n  why         {error}\n",
            path.display()
        ),
    }
}
