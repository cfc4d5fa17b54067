//! Times in-process predictions of model files, for `cargo xtask bench kernels`.
//!
//! Takes a directory of model directories, each with `rows.npy` (a table of doubles) beside the model file, and
//! prints one JSON document: median, 10th and 90th percentile of ns per row, for one row and for all rows.
#![expect(clippy::print_stdout, reason = "prints its results")]

use std::hint::black_box;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use coracle_base::{Clock, SystemClock};
use coracle_formats::{LoadOptions, load, locate_all};
use coracle_model::{Method, Model};
use coracle_pickle::{Limits, read_npy};
use coracle_tensor::{DType, Tensor, Values};

/// The time spent on each measurement.
const BUDGET: Duration = Duration::from_millis(1_500);

fn main() -> ExitCode {
    let Some(directory) = std::env::args().nth(1) else {
        eprintln!("usage: time_model DIRECTORY");
        return ExitCode::from(2);
    };
    match run(Path::new(&directory)) {
        Ok(results) => {
            println!("{{\"results\": [{}]}}", results.join(",\n"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(directory: &Path) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let clock = SystemClock::new();
    let mut results = Vec::new();
    for file in locate_all(directory)? {
        // A graph has outputs, not methods; the exporters' last one is the probabilities.
        let graph_of = file.name.strip_suffix("_onnx");
        // A booster's own file has one method.
        let is_booster = file
            .path
            .extension()
            .is_some_and(|extension| extension == "json" || extension == "txt");
        let options = LoadOptions {
            default_method: (graph_of.is_none() && !is_booster).then_some(Method::PredictProba),
            ..LoadOptions::default()
        };
        let peer = match graph_of {
            Some(_) => "coracle, ONNX",
            None => "coracle",
        };
        let model = load(&file.path, &options, &clock)?.model;
        let rows = std::fs::read(file.path.with_file_name("rows.npy"))?;
        let rows = read_npy(&rows, &Limits::default())?;
        let values = rows.to_f64s().ok_or("rows.npy holds no numbers")?;
        let n_columns = *rows.shape().get(1).ok_or("rows.npy is no table")?;
        for n_rows in [1, values.len() / n_columns] {
            let samples = measure(&clock, model.as_ref(), &values, n_rows, n_columns)?;
            let at = |percent: usize| samples[(samples.len() - 1) * percent / 100];
            results.push(format!(
                "{{\"model\": \"{}\", \"peer\": \"{peer}\", \"rows\": {n_rows}, \"ns_per_row_median\": {:.1}, \"ns_per_row_p10\": {:.1}, \"ns_per_row_p90\": {:.1}}}",
                graph_of.unwrap_or(&file.name),
                at(50),
                at(10),
                at(90)
            ));
        }
    }
    Ok(results)
}

/// The calls that are timed together: a clock reading costs as much as the shortest, and a longer group would hold what
/// other processes take of the time.
const GROUP: usize = 8;

/// Returns sorted times in ns per row.
fn measure(
    clock: &dyn Clock,
    model: &dyn Model,
    values: &[f64],
    n_rows: usize,
    n_columns: usize,
) -> Result<Vec<f64>, Box<dyn std::error::Error>> {
    let tables: Result<Vec<[Tensor; 1]>, _> = values
        .chunks_exact(n_rows * n_columns)
        .map(|chunk| {
            let values = match model.signature().inputs[0].dtype {
                DType::F32 => Values::F32(chunk.iter().map(|&value| value as f32).collect()),
                _ => Values::F64(chunk.to_vec().into()),
            };
            Tensor::try_new(vec![n_rows, n_columns], values).map(|table| [table])
        })
        .collect();
    let tables = tables?;
    let outputs: Vec<usize> = model
        .signature()
        .default_outputs
        .last()
        .copied()
        .into_iter()
        .collect();
    let mut samples = Vec::new();
    let started = clock.monotonic();
    while clock.monotonic() - started < BUDGET || samples.len() < 20 {
        for group in tables.chunks(GROUP) {
            let before = clock.monotonic();
            for table in group {
                black_box(model.run(black_box(table), &outputs)?);
            }
            let elapsed = clock.monotonic() - before;
            samples.push(elapsed.as_nanos() as f64 / (group.len() * n_rows) as f64);
        }
    }
    samples.sort_by(f64::total_cmp);
    Ok(samples)
}
