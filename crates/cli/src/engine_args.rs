//! The arguments of `coracle engine`, and the variables that say where engines and package indexes are.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum EngineCommand {
    /// Show the engines that are there, their versions, and what they run on
    List {
        /// The library of ONNX Runtime [default: $ORT_DYLIB_PATH, else the first that is found]
        #[arg(long, value_name = "FILE")]
        onnxruntime: Option<PathBuf>,
    },
}

/// What the environment says of engines and package indexes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Variables {
    /// `ORT_DYLIB_PATH`, which every program with ONNX Runtime's binding for Rust reads.
    pub(crate) onnxruntime: Option<PathBuf>,
    /// `XDG_DATA_HOME`.
    pub(crate) data_home: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`.
    pub(crate) config_home: Option<PathBuf>,
    /// `LD_LIBRARY_PATH`.
    pub(crate) library_path: Option<OsString>,
    /// `PIP_INDEX_URL`.
    pub(crate) pip_index_url: Option<String>,
    /// `PIP_CERT`.
    pub(crate) pip_cert: Option<PathBuf>,
    /// `PIP_CONFIG_FILE`.
    pub(crate) pip_config_file: Option<PathBuf>,
}
