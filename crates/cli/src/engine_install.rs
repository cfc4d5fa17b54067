//! `coracle engine install`: fetches the library of an engine from a Python package index.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, bail};
use coracle_onnxruntime::{FILE_NAME, too_old};
use coracle_storage::{Member, Progress, PythonIndex, Wheel};

use crate::engine_args::{EngineArgument, InstallArguments};
use crate::engine_settings::LIBRARIES;
use crate::package_index::{IndexSettings, Place};
use crate::signals::Signals;
use crate::{Environment, engine};

/// The release of ONNX Runtime for processors that is installed unless another is asked for.
const VERSION: &str = "1.32.0";
/// The same of the build for GPUs, which comes later.
const GPU_VERSION: &str = "1.31.1";
/// Where the build for GPUs goes, below the directory of engines.
pub(crate) const GPU_DIRECTORY: &str = "onnxruntime-gpu";

/// A build of ONNX Runtime that can be installed.
struct Build {
    package: &'static str,
    /// The release that is installed unless another is asked for.
    version: &'static str,
    /// The libraries beside the runtime's own: what their names begin with is all of the name.
    companions: &'static [&'static str],
    /// The directory below that of engines, so that builds stay beside each other.
    directory: &'static str,
    /// The SHA-256 of that release's libraries on Linux, by the architecture and what the file's name begins with; the same in the wheels
    /// for all releases of Python.
    known: &'static [(&'static str, &'static str, &'static str)],
}

const ON_PROCESSORS: Build = Build {
    package: "onnxruntime",
    version: VERSION,
    companions: &[],
    directory: "",
    known: &[
        (
            "x86_64",
            "libonnxruntime.so.",
            "6c1585d1bbf45b0712ea4a21b705c5fcb4ba04ff2e30f1fbf81a49faf658638f",
        ),
        (
            "aarch64",
            "libonnxruntime.so.",
            "49852228a93995158b2a813d4df487d47a1b76b0eaa894507ef49e91b6d7954a",
        ),
    ],
};

const ON_GPUS: Build = Build {
    package: "onnxruntime-gpu",
    version: GPU_VERSION,
    companions: &[
        "libonnxruntime_providers_shared.so",
        "libonnxruntime_providers_cuda.so",
        "libonnxruntime_providers_tensorrt.so",
    ],
    directory: GPU_DIRECTORY,
    known: &[
        (
            "x86_64",
            "libonnxruntime.so.",
            "5104254339ecadae808da771bd0b63b240f0dbd466514234905e54372435c303",
        ),
        (
            "x86_64",
            "libonnxruntime_providers_shared.so",
            "086ec1d5388f64153d9c63470d126693db9a182c8ce236d3a1119068471b8a0d",
        ),
        (
            "x86_64",
            "libonnxruntime_providers_cuda.so",
            "8387867e857499e045caff5d13ac6a5de29571c801562fa2dde0e45f1f31de52",
        ),
        (
            "x86_64",
            "libonnxruntime_providers_tensorrt.so",
            "1882ee49fdb0e6fc2d272b00cfaf9a3310bf8580a34385c0eec4d82014ea172e",
        ),
    ],
};

impl Build {
    fn of(engine: EngineArgument) -> &'static Self {
        match engine {
            EngineArgument::Onnxruntime => &ON_PROCESSORS,
            EngineArgument::OnnxruntimeGpu => &ON_GPUS,
        }
    }

    /// Returns which files of the wheel go into `directory`; the runtime's own library is the last.
    fn members(&self, version: &str, platform: &Platform, directory: &Path) -> Vec<Member> {
        let (prefix, suffix) = platform.library;
        let companions = self.companions.iter();
        let companions = companions.map(|name| (*name, "", directory.join(name)));
        let own = (prefix, suffix, directory.join(FILE_NAME));
        let files = companions.chain([own]);
        let members = files.map(|(prefix, suffix, to)| Member {
            directory: "onnxruntime/capi/".to_owned(),
            name_prefix: prefix.to_owned(),
            name_suffix: suffix.to_owned(),
            sha256: self.known(version, prefix),
            to,
        });
        members.collect()
    }

    /// Returns the SHA-256 that a release's library has here, where we know it.
    fn known(&self, version: &str, prefix: &str) -> Option<String> {
        let is_known = version == self.version && std::env::consts::OS == "linux";
        let mut known = self.known.iter().filter(|_| is_known);
        let here = std::env::consts::ARCH;
        let found = known.find(|(of, name, _)| *of == here && *name == prefix);
        found.map(|(_, _, sha256)| (*sha256).to_owned())
    }
}

/// What the wheels of a platform look like.
struct Platform {
    /// The start and the end of the platform's name.
    tag: (&'static str, &'static str),
    /// The start and the end of the library's name.
    library: (&'static str, &'static str),
}

/// Which wheel is wanted.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    package: &'static str,
    version: &'a str,
    /// The start and the end of the platform's name.
    tag: (&'static str, &'static str),
}

/// Runs the command.
pub(crate) fn run(arguments: &InstallArguments, environment: &Environment) -> anyhow::Result<()> {
    let build = Build::of(arguments.engine);
    let platform = platform(build, std::env::consts::OS, std::env::consts::ARCH)?;
    let directory = match (&arguments.to, engine::own_directory(environment)) {
        (Some(directory), _) => std::path::absolute(directory)?,
        (None, Some(directory)) => directory.join(build.directory),
        (None, None) => bail!("there is no home directory to install into; name one with --to DIR"),
    };
    let version = arguments.version.as_deref().unwrap_or(build.version);
    if let Some(why) = too_old(version, arguments.engine == EngineArgument::OnnxruntimeGpu) {
        bail!("what is asked for {why}");
    }
    let settings = IndexSettings::find(arguments.index_url.as_deref(), environment)?;
    let wanted = Wanted {
        package: build.package,
        version,
        tag: platform.tag,
    };
    let members = build.members(version, &platform, &directory);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let install = async {
        let mut signals = Signals::listen()?;
        // What is given up removes what it has written so far.
        tokio::select! {
            () = signals.next() => bail!("told to stop"),
            installed = install(&settings, wanted, &members) => installed,
        }
    };
    let package = build.package;
    runtime
        .block_on(install)
        .with_context(|| format!("{package} {version} is not installed"))?;
    let to = directory.join(FILE_NAME);
    say(&format!(
        "installed {package} {version}: {}\n",
        to.display()
    ));
    if arguments.engine == EngineArgument::OnnxruntimeGpu {
        say(&gpu_needs(&directory, arguments.to.is_some()));
    }
    Ok(())
}

/// Says what the build for GPUs needs beside itself, and how to get that.
fn gpu_needs(directory: &Path, is_elsewhere: bool) -> String {
    let directory = directory.display();
    let named = match is_elsewhere {
        true => format!(" --onnxruntime {directory}/{FILE_NAME}"),
        false => String::new(),
    };
    format!(
        "\
Its provider cuda needs NVIDIA's driver (libcuda.so.1) and, of CUDA 13, the runtime, cuBLAS, cuRAND, cuFFT and cuDNN 9.
They are looked for where the system's linker looks (LD_LIBRARY_PATH), in the directories of
{LIBRARIES} and beside this library, where these packages put them without being root:
  pip install --target {directory} nvidia-cuda-runtime nvidia-cublas nvidia-curand nvidia-cufft nvidia-cudnn-cu13
To see what is missing:  coracle engine list{named}
To serve on it:          coracle serve MODEL --onnxruntime-providers cuda{named}
"
    )
}

/// Takes the wheel from the first place that has it, and tells what those before it failed of.
async fn install(
    settings: &IndexSettings,
    wanted: Wanted<'_>,
    members: &[Member],
) -> anyhow::Result<()> {
    let mut failures: Vec<String> = Vec::new();
    for place in &settings.places {
        let error = match find(place, settings, wanted).await {
            Err(error) => error,
            Ok(found) => {
                for failure in &failures {
                    say(&format!("{failure}\n"));
                }
                return bring(found, members).await;
            }
        };
        failures.push(match settings.trusting(place) {
            None => format!("{error:#}"),
            Some(host) => format!(
                "{error:#} (pip's setting trusted-host = {host} does nothing here: certificates are always checked; name the authority's with cert)"
            ),
        });
    }
    bail!("{}", failures.join("; "))
}

/// A wheel that was found.
enum Found {
    Remote(Box<PythonIndex>, Wheel),
    Local(PathBuf),
}

async fn find(
    place: &Place,
    settings: &IndexSettings,
    wanted: Wanted<'_>,
) -> anyhow::Result<Found> {
    let Wanted {
        package,
        version,
        tag,
    } = wanted;
    let index = match place {
        Place::Index(url) => PythonIndex::try_new(url, &settings.access)?,
        Place::Page(url) => PythonIndex::of_page(url, &settings.access)?,
        Place::Directory(directory) => {
            let wheel = PythonIndex::find_local(directory, (package, version), tag)?;
            let (prefix, suffix) = tag;
            let wheel = wheel.with_context(|| {
                let directory = directory.display();
                format!("{directory} has no {package} {version} for {prefix}*{suffix}")
            });
            return Ok(Found::Local(wheel?));
        }
    };
    let wheel = index.find(package, version, tag).await?;
    Ok(Found::Remote(Box::new(index), wheel))
}

async fn bring(found: Found, members: &[Member]) -> anyhow::Result<()> {
    let members = members.to_vec();
    match found {
        Found::Local(wheel) => {
            say(&format!("taking {}\n", wheel.display()));
            PythonIndex::install_local_members(&wheel, members).await?;
        }
        Found::Remote(index, wheel) => {
            say(&format!("fetching {}\n", wheel.file_name));
            let told = AtomicU64::new(0);
            let progress = |now: Progress| tell(now, &told);
            index.install_members(&wheel, members, &progress).await?;
        }
    }
    Ok(())
}

fn platform(build: &Build, system: &str, architecture: &str) -> anyhow::Result<Platform> {
    let is_on_gpus = build.package == ON_GPUS.package;
    Ok(match (system, architecture) {
        ("linux", "x86_64") => Platform {
            tag: ("manylinux", "_x86_64"),
            library: ("libonnxruntime.so.", ""),
        },
        ("linux", "aarch64") if !is_on_gpus => Platform {
            tag: ("manylinux", "_aarch64"),
            library: ("libonnxruntime.so.", ""),
        },
        ("macos", "aarch64") if !is_on_gpus => Platform {
            tag: ("macosx", "_arm64"),
            library: ("libonnxruntime.", ".dylib"),
        },
        _ => bail!(
            "there is no ready build of {} for {system} on {architecture}",
            build.package
        ),
    })
}

/// Tells every tenth part, or every percent to a person.
fn tell(now: Progress, told: &AtomicU64) {
    let Some(total) = now.bytes_total else {
        return;
    };
    let percent = now.bytes_done.saturating_mul(100) / total.max(1);
    let (step, end) = match std::io::stderr().is_terminal() {
        true => (1, "\r"),
        false => (10, "\n"),
    };
    if percent < told.load(Ordering::Relaxed).saturating_add(step) && percent < 100 {
        return;
    }
    if told.swap(percent, Ordering::Relaxed) < percent {
        let end = if percent == 100 { "\n" } else { end };
        let (done, total) = (now.bytes_done >> 20, total >> 20);
        say(&format!("  {percent:3} %  {done} of {total} MiB{end}"));
    }
}

fn say(text: &str) {
    drop(std::io::stderr().write_all(text.as_bytes()));
}

#[cfg(test)]
mod tests;
