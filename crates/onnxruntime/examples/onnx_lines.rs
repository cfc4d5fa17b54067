//! Compares graphs with the answers beside them, on our own kernels: `onnx_lines FILE...`, each with a graph a line as
//! `fixtures/onnx/fuzz.py` writes them. What our kernels refuse is counted by its reason; what differs is a fault.

#![expect(
    clippy::unwrap_used,
    reason = "files that are no fixtures end this program"
)]

#[expect(dead_code, reason = "shared with the tests")]
#[path = "../tests/it/fixture.rs"]
mod fixture;

use std::collections::BTreeMap;
use std::process::ExitCode;

use coracle_base::SystemClock;
use coracle_formats::{LoadOptions, load_bytes};
use coracle_model::Model;
use coracle_tensor::Tensor;

fn main() -> ExitCode {
    let mut n_faults = 0_usize;
    let mut n_same: BTreeMap<String, usize> = BTreeMap::new();
    let mut refusals: BTreeMap<(String, String), usize> = BTreeMap::new();
    for case in std::env::args()
        .skip(1)
        .flat_map(|file| fixture::lines(&file))
    {
        let operator = case.name.split(' ').next().unwrap_or_default().to_owned();
        let loaded = load_bytes(&case.model, &LoadOptions::default(), &SystemClock::new());
        match loaded {
            Err(error) => {
                *refusals.entry((operator, error.to_string())).or_default() += 1;
            }
            Ok(loaded) => match differs(&case, loaded.model.as_ref()) {
                Ok(()) => *n_same.entry(operator).or_default() += 1,
                Err(how) => {
                    n_faults += 1;
                    eprintln!("{}: {how}", case.name);
                }
            },
        }
    }
    for ((operator, why), n) in refusals {
        eprintln!("{operator}: {n} refused: {why}");
    }
    for (operator, n) in n_same {
        eprintln!("{operator}: {n} the same");
    }
    eprintln!("{n_faults} differ");
    match n_faults {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Says what of a graph's answers differs.
fn differs(case: &fixture::Case, model: &dyn Model) -> Result<(), String> {
    let signature = model.signature();
    let inputs = signature.inputs.iter();
    let inputs: Option<Vec<Tensor>> = inputs
        .map(|spec| case.inputs.get(&spec.name).cloned())
        .collect();
    let inputs = inputs.ok_or("an input has another name")?;
    // ONNX Runtime's normal quantile cancels near one half, so the last bit of a score matters.
    let difference_max = match case.name.ends_with("PROBIT") {
        true => 1e-3,
        false => 1e-5,
    };
    let all: Vec<usize> = (0..signature.outputs.len()).collect();
    let results = model
        .run(&inputs, &all)
        .map_err(|error| format!("{error}, of {inputs:?}"))?;
    for (result, spec) in results.iter().zip(&signature.outputs) {
        let expected = case.outputs.get(&spec.name);
        let expected = expected.ok_or(format!("output {} is new", spec.name))?;
        fixture::compare(result, expected, difference_max)
            .map_err(|error| format!("{}: {error}, of {inputs:?}", spec.name))?;
    }
    Ok(())
}
