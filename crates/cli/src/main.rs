//! The `coracle` command: reads arguments and the environment, wires the parts together, and nothing else.
//!
//! Arguments are read in two stages: as typed ([`args`]) and as meant (in [`serve`]).

mod access;
mod args;
mod bench;
mod bench_args;
mod chaos;
mod client;
mod compare;
mod control;
mod describe;
mod down;
mod engine;
mod engine_args;
mod engine_install;
mod engine_settings;
mod example;
mod experiment;
mod experiment_plan;
mod heap;
mod input_example;
mod inspect;
mod kubeconfig;
mod loader;
mod manifest_files;
mod model_repository;
mod objects;
mod observe_args;
mod package_index;
mod printed;
mod process_meter;
mod rollout;
mod serve;
mod shadow;
mod signals;
mod state;
mod status;
mod supervisor;
mod trial;
mod trial_args;
mod up;
mod usage;
mod warm_up;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser as _;

use args::{Arguments, Command};

fn main() -> ExitCode {
    let typed: Vec<OsString> = std::env::args_os().skip(1).collect();
    // Before anything else: guards are started by the server alone, and are to be small.
    if let Some((_, rest)) = typed.split_first().filter(|(mode, _)| *mode == GUARD_MODE) {
        return coracle_process::guard::run(&[GUARD_MODE], rest);
    }
    if let Some((_, rest)) = typed.split_first().filter(|(mode, _)| *mode == trial::MODE) {
        return trial::run(rest);
    }
    let given = args::with_default_command(std::env::args_os());
    let arguments = match Arguments::try_parse_from(given) {
        Ok(arguments) => arguments,
        Err(error) => return refuse(&error),
    };
    let result = match arguments.command {
        Command::Bench(arguments) => match bench::run(&arguments) {
            Ok(code) => return code,
            Err(error) => Err(error),
        },
        Command::Serve(arguments) => serve::run(&arguments, &Environment::read()),
        Command::Inspect(arguments) => inspect::run(&arguments, &Environment::read()),
        Command::Engine(command) => engine::run(&command, &Environment::read()),
        Command::Up(arguments) => up::run(&arguments, &Environment::read()),
        Command::Control(arguments) => control::run(&arguments),
        Command::Down(arguments) => down::run(&arguments, &Environment::read()),
        Command::Status(arguments) => status::run(&arguments, &Environment::read()),
        Command::Apply(arguments) => objects::apply(&arguments, &Environment::read()),
        Command::Get(arguments) => objects::get(&arguments, &Environment::read()),
        Command::Describe(arguments) => describe::describe(&arguments, &Environment::read()),
        Command::Logs(arguments) => describe::logs(&arguments, &Environment::read()),
        Command::Delete(arguments) => objects::delete(&arguments, &Environment::read()),
        Command::Promote(arguments) => objects::shift(&arguments, &Environment::read(), 100),
        Command::Rollback(arguments) => objects::shift(&arguments, &Environment::read(), 0),
        Command::Rollout(command) => rollout::run(&command, &Environment::read()),
        Command::Experiment(command) => experiment::run(&command, &Environment::read()),
        Command::Chaos(command) => chaos::run(&command, &Environment::read()),
        Command::Shadow(command) => shadow::run(&command, &Environment::read()),
        Command::Kubeconfig(arguments) => access::kubeconfig(&arguments, &Environment::read()),
        Command::Token(command) => access::token(&command, &Environment::read()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}

/// What the environment says; read here and nowhere else.
#[derive(Clone, Debug, Default)]
struct Environment {
    /// KServe's `PREDICT_PROBA=true`.
    predict_proba: bool,
    /// The user's directory.
    home: Option<PathBuf>,
    /// Where engines and package indexes are, as far as variables say.
    engines: engine_args::Variables,
    /// What programs are given of this process's environment.
    for_programs: BTreeMap<String, String>,
    /// OpenTelemetry's variables.
    telemetry: observe_args::Telemetry,
}

/// The first argument of a process that guards a program.
const GUARD_MODE: &str = "process-guard";

/// The variables that programs are given: what finds programs, libraries and certificates, and speaks the user's language;
/// nothing that may hold a secret.
const FOR_PROGRAMS: [&str; 20] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "PYTHONPATH",
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "JAVA_HOME",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "CUDA_VISIBLE_DEVICES",
    "XDG_CACHE_HOME",
    "HF_HOME",
];

impl Environment {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the environment"
    )]
    fn read() -> Self {
        let value = std::env::var("PREDICT_PROBA").unwrap_or_default();
        // OpenTelemetry and pip take an empty variable for one that is not set.
        let path = |name: &str| {
            let value = std::env::var_os(name).filter(|value| !value.is_empty());
            value.map(PathBuf::from)
        };
        let filled = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let disabled = filled("OTEL_SDK_DISABLED");
        Self {
            predict_proba: value.eq_ignore_ascii_case("true"),
            home: std::env::var_os("HOME").map(PathBuf::from),
            engines: engine_args::Variables {
                onnxruntime: path("ORT_DYLIB_PATH"),
                onnxruntime_providers: filled(engine_settings::PROVIDERS),
                onnxruntime_options: filled(engine_settings::OPTIONS),
                onnxruntime_libraries: std::env::var_os(engine_settings::LIBRARIES),
                data_home: path("XDG_DATA_HOME"),
                config_home: path("XDG_CONFIG_HOME"),
                library_path: std::env::var_os("LD_LIBRARY_PATH"),
                pip: package_index::VARIABLES
                    .into_iter()
                    .filter_map(|name| Some((package_index::option_of(name), filled(name)?)))
                    .collect(),
                pip_config_file: path("PIP_CONFIG_FILE"),
                virtual_env: path("VIRTUAL_ENV"),
                netrc: path("NETRC"),
            },
            for_programs: FOR_PROGRAMS
                .into_iter()
                .filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)))
                .collect(),
            telemetry: observe_args::Telemetry {
                endpoint: filled("OTEL_EXPORTER_OTLP_ENDPOINT"),
                traces_endpoint: filled("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
                headers: filled("OTEL_EXPORTER_OTLP_HEADERS"),
                service_name: filled("OTEL_SERVICE_NAME"),
                sampler: filled("OTEL_TRACES_SAMPLER"),
                sampler_argument: filled("OTEL_TRACES_SAMPLER_ARG"),
                is_disabled: disabled.is_some_and(|text| text.eq_ignore_ascii_case("true")),
            },
        }
    }
}

/// Says what is wrong with the arguments, which may have control characters of others; help and the version are printed as they are.
fn refuse(error: &clap::Error) -> ExitCode {
    use std::io::Write as _;
    match error.use_stderr() {
        true => drop(write!(printed::stderr(), "{}", error.render())),
        // A closed output is no reason to panic.
        false => drop(error.print()),
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// Prints an error with its causes; a closed stderr is no reason to panic.
fn report(error: &anyhow::Error) {
    use std::io::Write as _;
    drop(writeln!(printed::stderr(), "error: {error:#}"));
}
