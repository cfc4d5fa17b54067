//! `coracle engine install`: fetches the library of an engine from a Python package index.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, bail};
use coracle_onnxruntime::FILE_NAME;
use coracle_storage::{Member, Progress, PythonIndex, Wheel};

use crate::engine_args::InstallArguments;
use crate::package_index::{IndexSettings, Place};
use crate::signals::Signals;
use crate::{Environment, engine};

/// The release that is installed unless another is asked for.
pub(crate) const VERSION: &str = "1.32.0";

/// The SHA-256 of that release's library; the same in the wheels for all releases of Python.
const KNOWN: [(&str, &str); 2] = [
    (
        "x86_64",
        "6c1585d1bbf45b0712ea4a21b705c5fcb4ba04ff2e30f1fbf81a49faf658638f",
    ),
    (
        "aarch64",
        "49852228a93995158b2a813d4df487d47a1b76b0eaa894507ef49e91b6d7954a",
    ),
];

/// What the wheels of a platform look like.
struct Platform {
    /// The start and the end of the platform's name.
    tag: (&'static str, &'static str),
    /// The start and the end of the library's name.
    library: (&'static str, &'static str),
}

/// Runs the command.
pub(crate) fn run(arguments: &InstallArguments, environment: &Environment) -> anyhow::Result<()> {
    let platform = platform(std::env::consts::OS, std::env::consts::ARCH)?;
    let directory = match (&arguments.to, engine::own_directory(environment)) {
        (Some(directory), _) => std::path::absolute(directory)?,
        (None, Some(directory)) => directory,
        (None, None) => bail!("there is no home directory to install into; name one with --to DIR"),
    };
    let to = directory.join(FILE_NAME);
    let settings = IndexSettings::find(arguments.index_url.as_deref(), environment)?;
    let member = Member {
        directory: "onnxruntime/capi/".to_owned(),
        name_prefix: platform.library.0.to_owned(),
        name_suffix: platform.library.1.to_owned(),
        sha256: known(&arguments.version),
        to: to.clone(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let install = async {
        let mut signals = Signals::listen()?;
        // What is given up removes what it has written so far.
        tokio::select! {
            () = signals.next() => bail!("told to stop"),
            installed = install(&settings, platform.tag, &arguments.version, &member) => installed,
        }
    };
    runtime
        .block_on(install)
        .with_context(|| format!("onnxruntime {} is not installed", arguments.version))?;
    let version = &arguments.version;
    say(&format!(
        "installed onnxruntime {version}: {}\n",
        to.display()
    ));
    Ok(())
}

/// Takes the wheel from the first place that has it, and tells what those before it failed of.
async fn install(
    settings: &IndexSettings,
    tag: (&str, &str),
    version: &str,
    member: &Member,
) -> anyhow::Result<()> {
    let mut failures: Vec<String> = Vec::new();
    for place in &settings.places {
        let error = match find(place, settings, (tag, version)).await {
            Err(error) => error,
            Ok(found) => {
                for failure in &failures {
                    say(&format!("{failure}\n"));
                }
                return bring(found, member).await;
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
    (tag, version): ((&str, &str), &str),
) -> anyhow::Result<Found> {
    let index = match place {
        Place::Index(url) => PythonIndex::try_new(url, &settings.access)?,
        Place::Page(url) => PythonIndex::of_page(url, &settings.access)?,
        Place::Directory(directory) => {
            let wheel = PythonIndex::find_local(directory, ("onnxruntime", version), tag)?;
            let (prefix, suffix) = tag;
            let wheel = wheel.with_context(|| {
                let directory = directory.display();
                format!("{directory} has no onnxruntime {version} for {prefix}*{suffix}")
            });
            return Ok(Found::Local(wheel?));
        }
    };
    let wheel = index.find("onnxruntime", version, tag).await?;
    Ok(Found::Remote(Box::new(index), wheel))
}

async fn bring(found: Found, member: &Member) -> anyhow::Result<()> {
    match found {
        Found::Local(wheel) => {
            say(&format!("taking {}\n", wheel.display()));
            PythonIndex::install_local_member(&wheel, member.clone()).await?;
        }
        Found::Remote(index, wheel) => {
            say(&format!("fetching {}\n", wheel.file_name));
            let told = AtomicU64::new(0);
            let progress = |now: Progress| tell(now, &told);
            index
                .install_member(&wheel, member.clone(), &progress)
                .await?;
        }
    }
    Ok(())
}

/// Returns the SHA-256 that a release's library has here, where we know it.
fn known(version: &str) -> Option<String> {
    let is_known = version == VERSION && std::env::consts::OS == "linux";
    let mut known = KNOWN.iter().filter(|_| is_known);
    let found = known.find(|(architecture, _)| *architecture == std::env::consts::ARCH);
    found.map(|(_, sha256)| (*sha256).to_owned())
}

fn platform(system: &str, architecture: &str) -> anyhow::Result<Platform> {
    Ok(match (system, architecture) {
        ("linux", "x86_64") => Platform {
            tag: ("manylinux", "_x86_64"),
            library: ("libonnxruntime.so.", ""),
        },
        ("linux", "aarch64") => Platform {
            tag: ("manylinux", "_aarch64"),
            library: ("libonnxruntime.so.", ""),
        },
        ("macos", "aarch64") => Platform {
            tag: ("macosx", "_arm64"),
            library: ("libonnxruntime.", ".dylib"),
        },
        _ => bail!("there is no ready build of ONNX Runtime for {system} on {architecture}"),
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
