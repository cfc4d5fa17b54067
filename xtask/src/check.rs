//! `cargo xtask check`: everything that must hold before a commit lands.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::{command, exercise, tidy};

/// One part of the check; given the Python interpreter that has what the exercise needs, if there is one.
struct Step {
    name: &'static str,
    run: fn(&Path, Option<&Path>) -> Result<()>,
}

const STEPS: [Step; 5] = [
    Step {
        name: "fmt",
        run: |root, _| command::run(&mut command::cargo(root, &["fmt", "--all", "--check"])),
    },
    Step {
        name: "tidy",
        run: |root, _| tidy::run(root),
    },
    Step {
        name: "clippy",
        run: |root, _| {
            let arguments = [
                "clippy",
                "--workspace",
                "--all-targets",
                "--locked",
                "--",
                "-D",
                "warnings",
            ];
            command::run(&mut command::cargo(root, &arguments))
        },
    },
    Step {
        name: "docs",
        run: |root, _| {
            let arguments = ["doc", "--workspace", "--no-deps", "--locked"];
            command::run(command::cargo(root, &arguments).env("RUSTDOCFLAGS", "-D warnings"))
        },
    },
    Step {
        name: "tests",
        run: |root, python| {
            let arguments = ["test", "--workspace", "--locked", "--no-fail-fast"];
            let mut test = command::cargo(root, &arguments);
            // Those that need a library of ONNX Runtime run where the exercise can; elsewhere they are reported as not run.
            with_library(python.map(exercise::library), |library| {
                command::run(test.envs(library.map(|path| (exercise::LIBRARY_VARIABLE, path))))
            })
        },
    },
];

/// Needs a C++ compiler, which may be missing. The targets are no part of the workspace, so that no other step compiles them.
const FUZZ: Step = Step {
    name: "fuzz",
    run: |root, _| {
        let mut check = command::cargo(root, &["check", "--locked", "--quiet", "--bins"]);
        check
            .arg("--manifest-path")
            .arg(root.join("fuzz/Cargo.toml"));
        let target = command::target_directory(root)?.join("fuzz");
        command::run(check.arg("--target-dir").arg(target))
    },
};

/// Needs several programs, which may be missing.
const EXERCISE: Step = Step {
    name: "exercise",
    run: |root, python| exercise::run_scripts(root, python.context("nothing is installed")?),
};

/// Runs every step, even after one fails, and ends with a line for each.
///
/// # Errors
/// If any step failed.
pub(crate) fn run(root: &Path) -> Result<()> {
    let mut failed = Vec::new();
    let prepared = exercise::prepare(root);
    let exercise = prepared.is_ok().then_some(&EXERCISE);
    let fuzz = is_there(root, "c++", &["--version"]).then_some(&FUZZ);
    let steps: Vec<&Step> = STEPS.iter().chain(fuzz).chain(exercise).collect();
    let mut took = Vec::new();
    for step in &steps {
        eprintln!("== {}", step.name);
        let (result, elapsed) = timed(step, root, prepared.as_deref().ok());
        if let Err(error) = result {
            eprintln!("error: {error:#}");
            failed.push(step.name);
        }
        took.push(elapsed);
    }
    eprintln!("== summary");
    for (step, took) in steps.iter().zip(took) {
        let verdict = if failed.contains(&step.name) {
            "FAILED"
        } else {
            "ok"
        };
        eprintln!("{:<9} {verdict:<6} {:>5} s", step.name, took.as_secs());
    }
    if let Err(why) = &prepared {
        eprintln!("not run: exercise ({why:#})");
    }
    if fuzz.is_none() {
        eprintln!("not run: compiling the fuzz targets (needs a C++ compiler, `c++`)");
    }
    report_not_run(root);
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

/// Runs a step; says how long it took, too.
#[expect(
    clippy::disallowed_types,
    reason = "people are told how long the machine took"
)]
fn timed(step: &Step, root: &Path, python: Option<&Path>) -> (Result<()>, Duration) {
    let started = std::time::Instant::now();
    let result = (step.run)(root, python);
    (result, started.elapsed())
}

/// Runs tests with the library that some of them need, if there is to be one. Where it cannot be found the others run all the same, and then that is the
/// failure.
fn with_library(
    library: Option<Result<String>>,
    run: impl FnOnce(Option<String>) -> Result<()>,
) -> Result<()> {
    match library.transpose() {
        Ok(library) => run(library),
        Err(why) => run(None).and(Err(why)),
    }
}

/// Names what this command leaves out, so that nobody takes it for checked.
fn report_not_run(root: &Path) {
    let how = if is_there(root, "cargo", &["fuzz", "--version"]) {
        "run `cargo fuzz run TARGET` by hand, see fuzz/README.md"
    } else {
        "needs cargo-fuzz and a C++ compiler, see fuzz/README.md"
    };
    eprintln!("not run: coverage-guided fuzzing ({how}); the seeded mutation tests above did run");
    eprintln!("not run: benchmarks (`cargo xtask bench http`, `cargo xtask bench kernels`)");
}

/// Tells whether a program runs.
fn is_there(root: &Path, program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .current_dir(root)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn tests_run_though_a_library_that_some_need_is_not_found() {
        let run = |library, fails: bool| {
            let mut ran_with = None;
            let result = with_library(library, |library| {
                ran_with = Some(library);
                match fails {
                    true => Err(anyhow!("a test failed")),
                    false => Ok(()),
                }
            });
            let failure = result.err().map(|error| error.to_string());
            (ran_with.expect("it is called"), failure)
        };
        let failed = |why: &str| Some(why.to_owned());
        let path = || "lib.so".to_owned();
        assert_eq!(run(None, false), (None, None));
        assert_eq!(run(Some(Ok(path())), false), (Some(path()), None));
        let missing = || Some(Err(anyhow!("no library")));
        assert_eq!(run(missing(), false), (None, failed("no library")));
        assert_eq!(run(missing(), true), (None, failed("a test failed")));
    }
}
