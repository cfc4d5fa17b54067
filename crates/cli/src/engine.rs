//! `coracle engine`: the engines beside our own kernels, and where their libraries are.

#[cfg(feature = "rten")]
mod or_rten;

use std::io::Write as _;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use coracle_model::{GraphEngine, TextEngine, named_providers};
use coracle_onnxruntime::{Inspected, OnnxRuntime, Places, inspect};
use coracle_process::guard::this_program;
use coracle_text::TextSteps;

use crate::engine_args::EngineCommand;
use crate::engine_install::GPU_DIRECTORY;
use crate::engine_settings::{EngineArguments, EngineSettings};
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
pub(crate) fn runtime(
    given: Option<&Path>,
    settings: &EngineSettings,
    environment: &Environment,
) -> Arc<dyn GraphEngine> {
    or_else(
        onnxruntime(given, settings, environment),
        is_named(given, environment),
    )
}

/// Returns the same for a server: ONNX Runtime's threads spin where its event loops do.
pub(crate) fn runtime_of_server(
    given: Option<&Path>,
    settings: &EngineSettings,
    environment: &Environment,
    busy_poll: Option<Duration>,
) -> Arc<dyn GraphEngine> {
    let engine = onnxruntime(given, settings, environment);
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

fn onnxruntime(
    given: Option<&Path>,
    settings: &EngineSettings,
    environment: &Environment,
) -> OnnxRuntime {
    let n_threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    OnnxRuntime::new(places(given, settings, environment), n_threads)
}

/// The engines that there are, each by itself.
#[derive(Debug)]
pub(crate) struct Each {
    onnxruntime: OnnxRuntime,
}

impl Each {
    pub(crate) fn of(
        given: Option<&Path>,
        settings: &EngineSettings,
        environment: &Environment,
    ) -> Self {
        Self {
            onnxruntime: onnxruntime(given, settings, environment),
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

/// Returns where the library is looked for: where graphs are to run on GPUs, those of builds for them first.
fn places(given: Option<&Path>, settings: &EngineSettings, environment: &Environment) -> Places {
    let given = given.or(environment.engines.onnxruntime.as_deref());
    let program = std::env::current_exe().ok();
    let beside = program.as_deref().and_then(Path::parent);
    let mut directories: Vec<PathBuf> = Vec::new();
    directories.extend(beside.map(Path::to_path_buf));
    directories.extend(beside.and_then(Path::parent).map(|above| above.join("lib")));
    let (engines, gpu_engines) = data_directories(environment);
    match wants_gpu(settings) {
        true => {
            let before = gpu_engines.into_iter().chain(directories);
            directories = before.chain(engines).collect();
        }
        false => directories.extend(engines.into_iter().chain(gpu_engines)),
    }
    if let Some(path) = &environment.engines.library_path {
        directories.extend(std::env::split_paths(path).filter(|path| path.is_absolute()));
    }
    directories.extend(SYSTEM_DIRECTORIES.map(PathBuf::from));
    let companions = environment.engines.onnxruntime_libraries.as_deref();
    let companions = companions.map(std::env::split_paths).into_iter().flatten();
    Places {
        given: given.map(Path::to_path_buf),
        directories,
        companions: companions.filter(|path| path.is_absolute()).collect(),
    }
}

/// Tells whether settings name an execution provider of a GPU.
fn wants_gpu(settings: &EngineSettings) -> bool {
    let list = settings.get("providers").map_or("", String::as_str);
    let mut providers = named_providers(list);
    providers.any(|provider| ["cuda", "tensorrt"].contains(&provider.name))
}

/// Returns where engines are installed, those for processors and those for GPUs: with what `coracle up` keeps, and where desktops want such files.
fn data_directories(environment: &Environment) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let home = environment.home.as_deref();
    let ours = own_directory(environment);
    let share = environment.engines.data_home.clone();
    let share = share.or_else(|| home.map(|home| home.join(".local/share")));
    let share = share.map(|share| share.join("coracle/engines"));
    let engines: Vec<PathBuf> = ours.into_iter().chain(share).collect();
    let gpu_engines = engines
        .iter()
        .map(|place| place.join(GPU_DIRECTORY))
        .collect();
    (engines, gpu_engines)
}

/// Returns where engines are installed unless something else is said.
pub(crate) fn own_directory(environment: &Environment) -> Option<PathBuf> {
    let home = environment.home.as_deref();
    home.map(|home| home.join(".coracle/engines"))
}

fn list(given: Option<&Path>, environment: &Environment) -> anyhow::Result<()> {
    let settings = EngineArguments::default().settings(&environment.engines)?;
    let places = places(given, &settings, environment);
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
        } else if taken == Some(index) {
            text.push_str(&describe(inspect(&places), &library.path));
        } else {
            text.push_str(&not_taken(&library.path));
        }
    }
    if cfg!(feature = "rten") {
        text.push_str(
            "rten (built in)\n  runs        neural graphs, where ONNX Runtime is not there\n",
        );
    }
    drop(crate::printed::stdout().write_all(text.as_bytes()));
    Ok(())
}

/// Describes a library that was loaded, or could not be.
fn describe(inspected: Result<Inspected, String>, path: &Path) -> String {
    match inspected {
        Ok(library) => {
            let mut text = format!(
                "onnxruntime {}\n  file        {}\n  providers   {}\n",
                library.version,
                library.path.display(),
                library.providers.join(", ")
            );
            for (name, why) in &library.unusable {
                text.push_str(&format!("  not usable  {name}: {why}\n"));
            }
            text
        }
        Err(error) => format!(
            "onnxruntime (unfit)\n  file        {}\n  why         {error}\n",
            path.display()
        ),
    }
}

/// Describes a library that another goes before. A process has one, so this program is asked again.
fn not_taken(path: &Path) -> String {
    let mut asked = Command::new(this_program());
    let asked = asked.args(["engine", "list", "--onnxruntime"]).arg(path);
    let told = asked.output().ok().filter(|told| told.status.success());
    let told = told.map(|told| String::from_utf8_lossy(&told.stdout).into_owned());
    let told = told.unwrap_or_default();
    let lines = told
        .lines()
        .skip_while(|line| !line.starts_with("onnxruntime"));
    let lines = lines.enumerate();
    let lines = lines.take_while(|(index, line)| *index == 0 || line.starts_with(' '));
    let mut text: String = lines.map(|(_, line)| format!("{line}\n")).collect();
    if text.is_empty() {
        text = format!("onnxruntime\n  file        {}\n", path.display());
    }
    let is_for_gpus = path
        .parent()
        .is_some_and(|place| place.ends_with(GPU_DIRECTORY));
    let also = match is_for_gpus {
        true => ", or --onnxruntime-providers names a provider of GPUs",
        false => "",
    };
    text.push_str(&format!(
        "  not taken   unless --onnxruntime names it{also}\n"
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_for_gpus_go_first_where_they_are_wanted() {
        let mut environment = Environment {
            home: Some(PathBuf::from("/home/user")),
            ..Environment::default()
        };
        environment.engines.onnxruntime_libraries = Some("/cuda:relative:/cudnn".into());
        let on = |providers: &str| {
            let providers = [("providers".to_owned(), providers.to_owned())];
            places(None, &EngineSettings::from(providers), &environment)
        };
        let place = |providers: &str, wanted: &str| {
            let directories = on(providers).directories;
            let wanted = Path::new(wanted);
            directories.iter().position(|place| place == wanted)
        };
        let (engines, gpu) = (
            "/home/user/.coracle/engines",
            "/home/user/.coracle/engines/onnxruntime-gpu",
        );
        for providers in ["cuda", "tensorrt?, cuda?,cpu", "openvino,cuda?"] {
            assert_eq!(place(providers, gpu), Some(0), "{providers}");
            assert!(place(providers, engines) > Some(0));
        }
        for providers in ["", "cpu", "openvino?"] {
            assert!(
                place(providers, engines) < place(providers, gpu),
                "{providers}"
            );
        }
        let cuda = ["/cuda", "/cudnn"].map(PathBuf::from);
        assert_eq!(on("cpu").companions, cuda);
    }
}
