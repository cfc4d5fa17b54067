//! The arguments of `coracle engine`, and the variables that say where engines and package indexes are.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Subcommand)]
pub(crate) enum EngineCommand {
    Install(InstallArguments),
    /// Show the engines that are there, their versions, and what they run on
    List {
        /// The library of ONNX Runtime [default: $ORT_DYLIB_PATH, else the first that is found]
        #[arg(long, value_name = "FILE")]
        onnxruntime: Option<PathBuf>,
    },
}

/// Install an engine: fetch its library from a Python package index, and check it.
///
/// Needs no Python. The index is the one that pip would ask: its variables and configuration files count.
#[derive(Debug, Args)]
pub(crate) struct InstallArguments {
    /// The engine
    #[arg(value_enum, value_name = "ENGINE")]
    pub(crate) engine: EngineArgument,

    /// The package index [default: as pip is told, else PyPI]
    #[arg(long, value_name = "URL")]
    pub(crate) index_url: Option<String>,

    /// The release [default: 1.32.0 of onnxruntime, 1.31.1 of onnxruntime-gpu]
    #[arg(long, value_name = "VERSION", value_parser = parse_version)]
    pub(crate) version: Option<String>,

    /// The directory to install into [default: ~/.coracle/engines, and onnxruntime-gpu in it]
    #[arg(long, value_name = "DIR")]
    pub(crate) to: Option<PathBuf>,
}

/// An engine that can be installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum EngineArgument {
    /// ONNX Runtime
    Onnxruntime,
    /// ONNX Runtime with the execution providers cuda and tensorrt, beside the other
    OnnxruntimeGpu,
}

fn parse_version(text: &str) -> Result<String, String> {
    let is_version = text.starts_with(|letter: char| letter.is_ascii_digit())
        && text
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || letter == '.');
    match is_version {
        true => Ok(text.to_owned()),
        false => Err("a version is digits and dots, as 1.32.0".to_owned()),
    }
}

/// What the environment says of engines and package indexes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Variables {
    /// `ORT_DYLIB_PATH`, which every program with ONNX Runtime's binding for Rust reads.
    pub(crate) onnxruntime: Option<PathBuf>,
    /// `CORACLE_ONNXRUNTIME_PROVIDERS`.
    pub(crate) onnxruntime_providers: Option<String>,
    /// `CORACLE_ONNXRUNTIME_OPTIONS`.
    pub(crate) onnxruntime_options: Option<String>,
    /// `CORACLE_ONNXRUNTIME_LIBRARIES`, directories with what execution providers need.
    pub(crate) onnxruntime_libraries: Option<OsString>,
    /// `XDG_DATA_HOME`.
    pub(crate) data_home: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`.
    pub(crate) config_home: Option<PathBuf>,
    /// `LD_LIBRARY_PATH`.
    pub(crate) library_path: Option<OsString>,
    /// The variables of pip's settings (`PIP_INDEX_URL` and others), by the names that its options have.
    pub(crate) pip: BTreeMap<String, String>,
    /// `PIP_CONFIG_FILE`.
    pub(crate) pip_config_file: Option<PathBuf>,
    /// `VIRTUAL_ENV`, which has settings of pip's, too.
    pub(crate) virtual_env: Option<PathBuf>,
    /// `NETRC`.
    pub(crate) netrc: Option<PathBuf>,
}
