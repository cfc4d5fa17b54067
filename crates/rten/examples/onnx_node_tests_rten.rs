//! Runs ONNX's own tests of operators on `rten` alone: `onnx_node_tests_rten DIRECTORY...`, as `onnx_node_tests` of
//! `coracle-onnxruntime` does on ONNX Runtime.

#[path = "../../onnxruntime/examples/onnx_node_tests/runner.rs"]
mod runner;

use std::process::ExitCode;
use std::sync::Arc;

use coracle_rten::Rten;

fn main() -> ExitCode {
    match runner::run_all(Some(Arc::new(Rten)), true, std::env::args().skip(1)) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
