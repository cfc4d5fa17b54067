//! Recorded requests, run on a model before it takes others: `warmup.jsonl` beside the model file, a V1 or V2 body a line,
//! and the example of an input that MLflow keeps there.

use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use coracle_base::ByteCount;
use coracle_model::Model;
use coracle_protocol::{DecodeContext, NoRegions, v1, v2};

use crate::input_example;

/// The name of the file.
pub(crate) const FILE_NAME: &str = "warmup.jsonl";
/// The largest file that is read.
const BYTES_MAX: u64 = 16 << 20;
/// The most requests that are run: enough to touch what a model has, not so many that it is ready late.
const REQUESTS_MAX: usize = 1_000;
/// The most numbers in one request.
const ELEMENTS_MAX: usize = 1 << 22;

/// Runs the recorded requests that lie beside `model_file`, if some do; `tell` is given a line on what happened.
///
/// A request that the model refuses, or that is none, is told and left out: it says something of the file, not of the model.
pub(crate) fn run(model: &dyn Model, model_file: &Path, tell: impl Fn(&str)) {
    match input_example::request(model, model_file) {
        Ok(Some(_answered)) => tell("warm-up: the input example"),
        Ok(None) => {}
        Err(why) => tell(&format!("warm-up: the input example: {why}")),
    }
    let path = model_file.with_file_name(FILE_NAME);
    let text = match read(&path) {
        Ok(Some(text)) => text,
        Ok(None) => return,
        Err(why) => return tell(&format!("warm-up: {}: {why}", path.display())),
    };
    let lines = text.lines().zip(1_usize..);
    let mut requests = lines.filter(|(line, _)| !line.trim().is_empty());
    let mut n_run = 0;
    for (line, number) in requests.by_ref().take(REQUESTS_MAX) {
        match run_one(model, line) {
            Ok(()) => n_run += 1,
            Err(why) => tell(&format!("warm-up: {FILE_NAME} line {number}: {why}")),
        }
    }
    let rest = match requests.count() {
        0 => String::new(),
        n_left => format!("; the last {n_left} are left out, the most is {REQUESTS_MAX}"),
    };
    tell(&format!("warm-up: {n_run} recorded requests{rest}"));
}

fn read(path: &Path) -> Result<Option<String>, String> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let mut text = String::new();
    let read = file.take(BYTES_MAX + 1).read_to_string(&mut text);
    match read {
        Ok(n_bytes) if n_bytes as u64 > BYTES_MAX => {
            Err(format!("larger than {}", ByteCount::new(BYTES_MAX)))
        }
        Ok(_) => Ok(Some(text)),
        Err(error) => Err(error.to_string()),
    }
}

/// Runs one request, a body of V1 or V2.
pub(crate) fn run_one(model: &dyn Model, body: &str) -> Result<(), String> {
    let signature = model.signature();
    let ctx = DecodeContext {
        signature,
        default_outputs: &signature.default_outputs,
        method: None,
        elements_max: ELEMENTS_MAX,
        // Neither V1 nor V2 repeats elements.
        filled_bytes_max: 0,
        regions: &NoRegions,
    };
    let first = v1::decode_predict(body.as_bytes(), &ctx);
    let call = match first {
        Ok(call) => call,
        // Only V2 has `inputs` with datatypes; where it is neither, V1's words are the plainer ones.
        Err(error) => v2::decode_infer(&body.to_owned().into(), None, &ctx).map_err(|second| {
            let is_v2 = body.contains("\"datatype\"");
            if is_v2 { second } else { error }.to_string()
        })?,
    };
    let run = || model.run(&call.inputs, &call.outputs);
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(_answer)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_panic) => Err("the model failed; this is a defect of the server".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use coracle_base::SystemClock;
    use coracle_formats::{LoadOptions, load};

    use super::*;

    fn lines(file: &str) -> Vec<String> {
        let example =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/iris/model.joblib");
        let loaded = load(&example, &LoadOptions::default(), &SystemClock::new()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(FILE_NAME), file).unwrap();
        let told = RefCell::new(Vec::new());
        run(
            loaded.model.as_ref(),
            &directory.path().join("model.joblib"),
            |line| told.borrow_mut().push(line.to_owned()),
        );
        told.into_inner()
    }

    #[test]
    fn recorded_requests_are_run_and_bad_ones_told() {
        let v1 = r#"{"instances": [[5.1, 3.5, 1.4, 0.2]]}"#;
        let v2 = r#"{"inputs": [{"name": "X", "shape": [1, 4], "datatype": "FP64", "data": [1, 2, 3, 4]}]}"#;
        assert_eq!(
            lines(&format!("{v1}\n\n{v2}\n")),
            ["warm-up: 2 recorded requests"]
        );
        let told = lines(&format!("{v1}\n{{\"instances\": [[1]]}}\nnonsense\n"));
        assert!(
            told[0].starts_with("warm-up: warmup.jsonl line 2: "),
            "{told:?}"
        );
        assert!(
            told[1].starts_with("warm-up: warmup.jsonl line 3: "),
            "{told:?}"
        );
        assert_eq!(told[2], "warm-up: 1 recorded requests");
        let many = format!("{v1}\n").repeat(REQUESTS_MAX + 2);
        let told = lines(&many);
        assert!(told[0].contains("the last 2 are left out"), "{told:?}");
    }

    #[test]
    fn without_a_file_nothing_is_said() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(read(&directory.path().join(FILE_NAME)), Ok(None));
    }
}
