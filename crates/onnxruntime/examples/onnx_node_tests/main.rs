//! Runs ONNX's own tests of operators through our kernels: `onnx_node_tests DIRECTORY...`; with `--onnxruntime FILE` before the
//! directories, what our kernels refuse goes to that library, and with `--only` after the file, everything.
//!
//! A directory is `onnx/backend/test/data/node` (or `simple`) of an installed `onnx` package that has it (1.17.0). A test passes, is
//! refused at load, cannot be asked (values that are neither tensors, sequences of them, nor such values that may be left out), or differs; only the last is a fault.

mod runner;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use coracle_model::GraphEngine;
use coracle_onnxruntime::{OnnxRuntime, Places};

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut engine: Option<Arc<dyn GraphEngine>> = None;
    if arguments
        .first()
        .is_some_and(|first| first == "--onnxruntime")
        && arguments.len() > 1
    {
        let places = Places {
            given: arguments.drain(..2).next_back().map(PathBuf::from),
            ..Places::default()
        };
        engine = Some(Arc::new(OnnxRuntime::new(places, 1)));
    }
    let is_alone = arguments.first().is_some_and(|first| first == "--only");
    let directories = arguments.into_iter().skip(usize::from(is_alone));
    match runner::run_all(engine, is_alone, directories) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
