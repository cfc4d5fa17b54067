//! `cargo xtask exercise`: the newcomer's exercise with real clients against the real binary.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{bench, command};

/// Programs the exercise drives, with an argument that makes each end at once.
const TOOLS: [(&str, &[&str]); 4] = [
    ("kubectl", &["version", "--client"]),
    ("curl", &["--version"]),
    ("pkill", &["--version"]),
    ("python3", &["-c", "import venv, ensurepip"]),
];

/// What is run, each against a server of its own: the newcomer's exercise, then what goes beyond it.
const SCRIPTS: &[&str] = &[
    "exercise.py",
    "scaling.py",
    "batching.py",
    "wire.py",
    "runtimes.py",
    "observe.py",
    "pipelines.py",
    "rollouts.py",
    "seldon.py",
    "experiments.py",
    "onnx.py",
    "models.py",
];

/// Requests of the short soak at the end.
const SOAK_REQUESTS: u64 = 30_000;

/// Installs what the exercise needs; returns the Python interpreter that has it.
///
/// # Errors
/// Says what is missing, so that a check can say why it did not run the exercise.
pub(crate) fn prepare(root: &Path) -> Result<PathBuf> {
    let is_there = |(name, arguments): &&(&str, &[&str])| {
        Command::new(name)
            .args(*arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    let missing: Vec<&str> = TOOLS
        .iter()
        .filter(|tool| !is_there(tool))
        .map(|(name, _)| *name)
        .collect();
    if !missing.is_empty() {
        bail!("needs {}", missing.join(", "));
    }
    install_clients(root, &command::target_directory(root)?.join("exercise"))
        .context("its Python packages cannot be installed")
}

/// Runs the exercise, and the tests of the engine whose library it has.
///
/// # Errors
/// If something cannot be built or installed, or a step of the exercise or a test fails.
pub(crate) fn run(root: &Path) -> Result<()> {
    let python = prepare(root)?;
    let library = library(&python)?;
    let arguments = ["test", "--locked", "--package", "coracle-onnxruntime"];
    let mut test = command::cargo(root, &arguments);
    command::run(test.env(LIBRARY_VARIABLE, library))?;
    run_scripts(root, &python)
}

/// Builds the binary and runs the exercise by this interpreter, which [`prepare`] has returned.
///
/// # Errors
/// If something cannot be built or installed, or a step of the exercise fails.
pub(crate) fn run_scripts(root: &Path, python: &Path) -> Result<()> {
    let build = ["build", "--locked", "--package", "coracle-cli"];
    command::run(&mut command::cargo(root, &build))?;
    let target = command::target_directory(root)?;
    let watcher = build_watcher(root, &target.join("exercise/watcher"))?;
    for script in SCRIPTS {
        let mut run = Command::new(python);
        run.arg(root.join("exercise").join(script));
        run.arg(target.join("debug/coracle")).arg(&watcher);
        command::run(&mut run)?;
    }
    let coracle = target.join("debug/coracle");
    bench::models::check(&coracle, &target)?;
    bench::soak::soak(root, &coracle, &target.join("exercise/soak"), SOAK_REQUESTS)
}

/// Says where the library of ONNX Runtime is, for tests that need it.
pub(crate) const LIBRARY_VARIABLE: &str = "ORT_DYLIB_PATH";

/// Returns the library of ONNX Runtime that is in its Python package.
///
/// # Errors
/// If this interpreter has none.
pub(crate) fn library(python: &Path) -> Result<String> {
    let script = "import glob, importlib.util, os\n\
        package = importlib.util.find_spec('onnxruntime').submodule_search_locations[0]\n\
        print(glob.glob(os.path.join(package, 'capi', 'libonnxruntime.so.*'))[0])";
    let found = Command::new(python).args(["-c", script]).output()?;
    if !found.status.success() {
        let error = String::from_utf8_lossy(&found.stderr);
        bail!("the Python package of ONNX Runtime has no library: {error}");
    }
    Ok(String::from_utf8(found.stdout)?.trim().to_owned())
}

/// Builds the kube-rs client, which is no part of the workspace: its many packages are the exercise's alone.
fn build_watcher(root: &Path, target: &Path) -> Result<PathBuf> {
    let manifest = root.join("exercise/watcher/Cargo.toml");
    let mut build = command::cargo(root, &["build", "--locked", "--quiet"]);
    build.arg("--manifest-path").arg(manifest);
    build.arg("--target-dir").arg(target);
    command::run(&mut build)?;
    Ok(target.join("debug/watcher"))
}

/// Installs the pinned Python packages unless they are there; returns the interpreter that has them.
fn install_clients(root: &Path, work: &Path) -> Result<PathBuf> {
    let requirements = root.join("exercise/requirements.txt");
    let wanted = fs::read_to_string(&requirements).context("exercise/requirements.txt")?;
    let installed = work.join("installed.txt");
    let python = work.join("venv/bin/python");
    if python.exists() && fs::read_to_string(&installed).is_ok_and(|text| text == wanted) {
        return Ok(python);
    }
    eprintln!("installing pinned Python packages into {}", work.display());
    fs::create_dir_all(work).with_context(|| work.display().to_string())?;
    command::run(
        Command::new("python3")
            .args(["-m", "venv"])
            .arg(work.join("venv")),
    )?;
    command::run(
        Command::new(&python)
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "-r",
            ])
            .arg(&requirements),
    )?;
    fs::write(&installed, wanted).with_context(|| installed.display().to_string())?;
    Ok(python)
}
