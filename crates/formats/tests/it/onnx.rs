//! ONNX graphs against ONNX Runtime's answers: one operator each, and what exporters write.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use coracle_base::SystemClock;
use coracle_formats::{LoadOptions, Loaded, bytes_to_read, load, load_bytes, locate};
use coracle_model::{GraphEngine, GraphFile, LoadError, LoadErrorKind, Model};
use coracle_tensor::{ByteStrings, Tensor, Values, f16};
use serde_json::{Map, Value};

use crate::damage::Random;
use crate::fixture::number;
use crate::seen;

/// The largest difference of floating-point numbers, relative or absolute.
const DIFFERENCE_MAX: f64 = 1e-5;

/// The difference allowed in a case; where it is wider than usual, because ONNX Runtime itself loses digits.
fn difference_max(case: &str) -> f64 {
    match case {
        // Its approximation of the normal quantile cancels near one half, so the last bit of a score matters.
        case if case.contains("PROBIT") => 1e-3,
        // Squared distances are expanded in single precision, and terms cancel.
        "kmeans" => 1e-4,
        _ => DIFFERENCE_MAX,
    }
}

/// Returns `fixtures/onnx`.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/onnx")
}

/// Reads a tensor of a fixture.
pub(crate) fn tensor(value: &Value) -> Tensor {
    let shape = value["shape"].as_array().unwrap().iter();
    let shape = shape.map(|size| usize::try_from(size.as_u64().unwrap()).unwrap());
    let data = value["data"].as_array().unwrap();
    let ints = || data.iter().map(|item| item.as_i64().unwrap());
    let values = match value["datatype"].as_str().unwrap() {
        "FP32" => Values::F32(data.iter().map(|item| number(item) as f32).collect()),
        "FP64" => Values::F64(data.iter().map(number).collect()),
        "FP16" => Values::F16(
            data.iter()
                .map(|item| f16::from_f64(number(item)))
                .collect(),
        ),
        "INT64" => Values::I64(ints().collect()),
        "INT32" => Values::I32(ints().map(|item| i32::try_from(item).unwrap()).collect()),
        "UINT8" => Values::U8(ints().map(|item| u8::try_from(item).unwrap()).collect()),
        "BOOL" => Values::Bool(data.iter().map(|item| item.as_bool().unwrap()).collect()),
        "BYTES" => Values::Bytes(
            data.iter()
                .map(|item| item.as_str().unwrap())
                .collect::<ByteStrings>(),
        ),
        other => panic!("unknown datatype {other}"),
    };
    Tensor::try_new(shape.collect(), values).unwrap()
}

/// Compares two tensors and returns the largest error.
fn compare(got: &Tensor, expected: &Tensor, difference_max: f64) -> Result<f64, String> {
    if got.shape() != expected.shape() || got.dtype() != expected.dtype() {
        return Err(format!(
            "{} {:?}, expected {} {:?}",
            got.dtype(),
            got.shape(),
            expected.dtype(),
            expected.shape()
        ));
    }
    let floats = matches!(
        expected.values(),
        Values::F32(_) | Values::F64(_) | Values::F16(_)
    );
    if !floats {
        return match got.values() == expected.values() {
            true => Ok(0.0),
            false => Err(format!(
                "{:?}, expected {:?}",
                got.values(),
                expected.values()
            )),
        };
    }
    let (got, expected) = (
        got.values().to_f64s().unwrap(),
        expected.values().to_f64s().unwrap(),
    );
    let mut seen = 0.0_f64;
    for (place, (got, expected)) in got.iter().zip(expected.iter()).enumerate() {
        let error = seen::error(*got, *expected);
        seen = seen.max(error);
        // An error that is no number is one.
        if error.is_nan() || error > difference_max {
            return Err(format!("element {place} is {got:?}, expected {expected:?}"));
        }
    }
    Ok(seen)
}

/// Runs a model on named inputs, compares every output, and returns the largest error.
fn check(
    model: &dyn Model,
    inputs: &Map<String, Value>,
    outputs: &Map<String, Value>,
    difference_max: f64,
) -> Result<f64, String> {
    let signature = model.signature();
    let inputs = signature
        .inputs
        .iter()
        .map(|spec| match inputs.get(&spec.name) {
            Some(value) => Ok(tensor(value)),
            None => Err(format!("there is no input {}", spec.name)),
        });
    let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
    let all: Vec<usize> = (0..signature.outputs.len()).collect();
    let results = model
        .run(&inputs, &all)
        .map_err(|error| error.to_string())?;
    if results.len() != outputs.len() {
        return Err(format!(
            "{} outputs, expected {}",
            results.len(),
            outputs.len()
        ));
    }
    let mut seen = 0.0_f64;
    for (index, (spec, result)) in signature.outputs.iter().zip(&results).enumerate() {
        let expected = tensor(&outputs[&spec.name]);
        let error = compare(result, &expected, difference_max)
            .map_err(|error| format!("{}: {error}", spec.name))?;
        seen = seen.max(error);
        let is_ranked = signature.unranked_inputs.is_empty();
        if result.dtype() != spec.dtype || is_ranked && result.shape().len() != spec.shape.len() {
            return Err(format!("{}: declared as {spec:?}", spec.name));
        }
        // An output alone is the same as among all.
        let alone = model
            .run(&inputs, &[index])
            .map_err(|error| error.to_string())?;
        compare(&alone[0], result, 0.0).map_err(|error| format!("{} alone: {error}", spec.name))?;
    }
    Ok(seen)
}

fn bytes_of(hexadecimal: &str) -> Vec<u8> {
    let digits = hexadecimal.as_bytes().chunks_exact(2);
    digits
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// What a graph of a fixture came to: its largest error and the error allowed, or a complaint.
pub(crate) struct Checked {
    name: String,
    /// What it holds, for the table of docs/formats.md.
    pub(crate) kind: &'static str,
    pub(crate) bound: f64,
    pub(crate) result: Result<f64, String>,
}

/// Runs a graph on a case's inputs.
fn checked(name: &str, case: &Value, loaded: Result<Loaded, LoadError>) -> Checked {
    let bound = difference_max(name);
    let mut kind = match name.contains("PROBIT") {
        true => "one operator, with `PROBIT`",
        false => "one operator",
    };
    let result = loaded
        .map_err(|error| error.to_string())
        .and_then(|loaded| {
            let model = loaded.model.as_ref();
            match name {
                "kmeans" => kind = "k-means",
                _ if case["model"].is_null() => kind = kind_of(model),
                _ => {}
            }
            let (inputs, outputs) = (case["inputs"].as_object(), case["outputs"].as_object());
            check(model, inputs.unwrap(), outputs.unwrap(), bound)
        });
    Checked {
        name: name.to_owned(),
        kind,
        bound,
        result,
    }
}

/// Returns what an exported model is made of, by the operators of its graph.
fn kind_of(model: &dyn Model) -> &'static str {
    let facts = &model.description().root.facts;
    let has = |name: &str| facts.iter().any(|(_, value)| value.contains(name));
    match () {
        () if has("TreeEnsemble") => "trees, alone and within others",
        () if has("SVMClassifier") || has("SVMRegressor") => "support vector machines",
        () if has("TfIdfVectorizer") => "texts",
        () if has("LinearClassifier") || has("LinearRegressor") => "linear models",
        () => "everything else: neighbours, networks, mixtures, naive Bayes",
    }
}

/// Runs every graph of one operator.
pub(crate) fn operators() -> Vec<Checked> {
    graphs_of("operators.jsonl")
}

/// Runs every graph that takes maps.
pub(crate) fn maps() -> Vec<Checked> {
    let kind = "maps";
    let maps = graphs_of("maps.jsonl").into_iter();
    maps.map(|checked| Checked { kind, ..checked }).collect()
}

fn graphs_of(file: &str) -> Vec<Checked> {
    let lines = fs::read_to_string(root().join(file)).unwrap();
    let operators = lines.lines().map(|line| {
        let case: Value = serde_json::from_str(line).unwrap();
        let bytes = bytes_of(case["model"].as_str().unwrap());
        let loaded = load_bytes(&bytes, &LoadOptions::default(), &SystemClock::new());
        checked(case["name"].as_str().unwrap(), &case, loaded)
    });
    operators.collect()
}

/// Runs every exported model.
pub(crate) fn models() -> Vec<Checked> {
    let models = model_files().into_iter().map(|file| {
        let case = fs::read(file.with_extension("json")).unwrap();
        let case: Value = serde_json::from_slice(&case).unwrap();
        let loaded = load(&file, &LoadOptions::default(), &SystemClock::new());
        checked(file.file_stem().unwrap().to_str().unwrap(), &case, loaded)
    });
    models.collect()
}

fn complain(checked: &[Checked]) {
    let complaints = checked.iter().filter_map(|checked| {
        let complaint = checked.result.as_ref().err()?;
        Some(format!("{}: {complaint}", checked.name))
    });
    let complaints: Vec<String> = complaints.collect();
    assert!(
        complaints.is_empty(),
        "{} of {} cases differ:\n{}",
        complaints.len(),
        checked.len(),
        complaints.join("\n")
    );
}

#[test]
fn every_operator_answers_as_onnx_runtime_does() {
    let checked = operators();
    assert!(checked.len() > 400, "{} cases", checked.len());
    complain(&checked);
}

#[test]
fn maps_are_answered_as_onnx_runtime_answers_one_after_the_other() {
    let checked = maps();
    assert!(checked.len() > 9, "{} cases", checked.len());
    complain(&checked);
}

#[test]
fn every_exported_model_answers_as_onnx_runtime_does() {
    let checked = models();
    assert!(checked.len() >= 75, "{} models", checked.len());
    complain(&checked);
}

/// Returns the models' files, by name.
fn model_files() -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join("models")).unwrap();
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "onnx")
        })
        .collect();
    paths.sort();
    paths
}

/// Loads damaged bytes, and runs what comes of it.
fn exercise(bytes: &[u8]) {
    drop(coracle_onnx::survey(bytes));
    drop(coracle_onnx::with_portable_locale(bytes));
    drop(coracle_onnx::with_safe_divisions(bytes));
    let Ok(loaded) = load_bytes(bytes, &LoadOptions::default(), &SystemClock::new()) else {
        return;
    };
    let signature = loaded.model.signature();
    let n_elements = signature.inputs.iter().map(|spec| {
        let sizes = spec.shape.iter().map(|size| size.unwrap_or(2));
        sizes.fold(1_usize, usize::saturating_mul)
    });
    if n_elements.max() > Some(1 << 20) {
        return;
    }
    let inputs = signature.inputs.iter().map(|spec| {
        let shape: Vec<usize> = spec.shape.iter().map(|size| size.unwrap_or(2)).collect();
        let n: usize = shape.iter().product();
        let values = match spec.dtype.name() {
            "BYTES" => Values::Bytes(std::iter::repeat_n("a cat", n).collect()),
            _ => Values::F64((0..n).map(|place| (place % 3) as f64).collect()),
        };
        Tensor::try_new(shape, values).unwrap()
    });
    let inputs: Vec<Tensor> = inputs.collect();
    let outputs: Vec<usize> = (0..signature.outputs.len()).collect();
    drop(loaded.model.run(&inputs, &outputs));
}

#[test]
fn damaged_graphs_never_panic() {
    let mut random = Random(17);
    let files = model_files();
    assert!(files.len() >= 75, "{} models", files.len());
    for path in files {
        let bytes = fs::read(&path).unwrap();
        for _ in 0..6 {
            exercise(&bytes[..random.below(bytes.len())]);
        }
        for _ in 0..40 {
            let mut damaged = bytes.clone();
            for _ in 0..=random.below(4) {
                let position = random.below(damaged.len());
                damaged[position] ^= 1 << random.below(8);
            }
            exercise(&damaged);
        }
    }
}

#[test]
fn lengths_that_lie_are_refused_before_memory_is_taken() {
    // A tensor of 2^40 elements that has four bytes, and a graph of 2^62 bytes.
    let tensor = [
        0x08, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20, 0x10, 1, 0x4a, 4, 0, 0, 0, 0,
    ];
    let mut graph = vec![0x2a, tensor.len() as u8];
    graph.extend(tensor);
    let mut model = vec![0x08, 8, 0x3a, graph.len() as u8];
    model.extend(&graph);
    model.extend([0x42, 2, 0x10, 18]);
    let error = load_bytes(&model, &LoadOptions::default(), &SystemClock::new()).unwrap_err();
    assert!(error.to_string().contains("elements"), "{error}");
    let model = [
        0x08, 8, 0x3a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0,
    ];
    let error = load_bytes(&model, &LoadOptions::default(), &SystemClock::new()).unwrap_err();
    assert!(
        error.to_string().contains("bytes where 1 are left"),
        "{error}"
    );
}

/// A directory that is removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        drop(fs::remove_dir_all(&root));
        fs::create_dir_all(&root).unwrap();
        Self(root)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

#[test]
fn directories_of_every_layout_are_found() {
    let scratch = Scratch::new("onnx-layouts");
    let file = root().join("models/logistic.onnx");
    let mlmodel = "flavors:\n  onnx:\n    data: model.onnx\n    onnx_version: 1.17.0\n  python_function:\n    data: model.onnx\n";
    for place in ["plain", "triton/1", "mlflow"] {
        let directory = scratch.0.join(place);
        fs::create_dir_all(&directory).unwrap();
        fs::copy(&file, directory.join("model.onnx")).unwrap();
    }
    fs::write(scratch.0.join("mlflow/MLmodel"), mlmodel).unwrap();
    for place in ["plain", "triton", "mlflow"] {
        let found = locate(&scratch.0.join(place)).unwrap();
        let loaded = load(&found, &LoadOptions::default(), &SystemClock::new()).unwrap();
        assert_eq!(loaded.model.description().library, "skl2onnx", "{place}");
    }
}

/// Writes a length-delimited field.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    let mut length = content.len();
    while length > 127 {
        bytes.push(u8::try_from(length % 128).unwrap() | 128);
        length /= 128;
    }
    bytes.push(u8::try_from(length).unwrap());
    bytes.extend_from_slice(content);
    bytes
}

/// Returns a graph that adds to its input of two numbers a tensor that lies at `location`.
fn with_external_data(location: &str, entries: &[(&str, &str)]) -> Vec<u8> {
    let value = |name: &str| {
        let shape = field(2, &[field(1, &[0x12, 1, b'N']), field(1, &[8, 2])].concat());
        let kind = field(2, &field(1, &[vec![8, 1], shape].concat()));
        [field(1, name.as_bytes()), kind].concat()
    };
    let mut tensor = [vec![8, 2, 0x10, 1], field(8, b"w"), vec![0x70, 1]].concat();
    for (key, value) in [("location", location)].iter().chain(entries) {
        let entry = [field(1, key.as_bytes()), field(2, value.as_bytes())].concat();
        tensor.extend(field(13, &entry));
    }
    let node = [
        field(1, b"x"),
        field(1, b"w"),
        field(2, b"y"),
        field(4, b"Add"),
    ]
    .concat();
    let graph = [
        field(1, &node),
        field(5, &tensor),
        field(11, &value("x")),
        field(12, &value("y")),
    ];
    [vec![8, 8], field(7, &graph.concat()), field(8, &[0x10, 18])].concat()
}

#[test]
fn external_data_is_read_within_the_directory_only() {
    let scratch = Scratch::new("onnx-external");
    let directory = scratch.0.join("model");
    fs::create_dir_all(&directory).unwrap();
    let numbers: Vec<u8> = [9.0_f32, 1.5, -2.0]
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    fs::write(directory.join("weights.bin"), &numbers).unwrap();
    fs::write(scratch.0.join("outside.bin"), &numbers).unwrap();
    std::os::unix::fs::symlink(scratch.0.join("outside.bin"), directory.join("link.bin")).unwrap();
    let path = directory.join("model.onnx");
    let outcome = |location: &str, entries: &[(&str, &str)]| {
        fs::write(&path, with_external_data(location, entries)).unwrap();
        load(&path, &LoadOptions::default(), &SystemClock::new())
    };
    let good = [("offset", "4"), ("length", "8")];
    let loaded = outcome("weights.bin", &good).unwrap();
    let input = Tensor::try_new(vec![1, 2], Values::F32(vec![1.0, 1.0].into())).unwrap();
    let sums = loaded.model.run(&[input], &[0]).unwrap();
    assert_eq!(sums[0].values(), &Values::F32(vec![2.5, -1.0].into()));
    for location in ["../outside.bin", "/etc/passwd", "link.bin"] {
        let error = outcome(location, &good).unwrap_err();
        assert_eq!(error.kind(), LoadErrorKind::Refused, "{location}: {error}");
    }
    for (offset, length) in [
        ("4", "80"),
        ("18446744073709551615", "8"),
        ("4", "4"),
        ("0", "12"),
    ] {
        let error = outcome("weights.bin", &[("offset", offset), ("length", length)]).unwrap_err();
        assert_eq!(error.kind(), LoadErrorKind::Malformed, "{error}");
    }
}

#[test]
fn the_size_of_a_model_is_that_of_all_its_files() {
    let scratch = Scratch::new("onnx-size");
    let path = with_unknown_operator(&scratch.0);
    let alone = fs::metadata(&path).unwrap().len();
    assert_eq!(bytes_to_read(&path), alone + 8);
    let flavour = "flavors:\n  onnx:\n    data: model.onnx\n    onnx_version: 1.17.0\n";
    let described = scratch.0.join("MLmodel");
    fs::write(&described, flavour).unwrap();
    assert_eq!(bytes_to_read(&described), alone + 8);
    // What lies outside is never read.
    fs::write(&path, with_external_data("../w", &[])).unwrap();
    assert_eq!(bytes_to_read(&path), fs::metadata(&path).unwrap().len());
    assert_eq!(bytes_to_read(&scratch.0.join("none.onnx")), 0);
}

/// Writes a graph of an operator that our kernels do not run, with weights of 8 bytes in another file.
fn with_unknown_operator(directory: &Path) -> PathBuf {
    let bytes = with_external_data("w", &[]);
    let place = bytes
        .windows(3)
        .position(|window| window == b"Add")
        .unwrap();
    let mut unknown = bytes;
    unknown[place..place + 3].copy_from_slice(b"LRN");
    // The weights are read first.
    fs::write(directory.join("w"), [0; 8]).unwrap();
    let path = directory.join("model.onnx");
    fs::write(&path, unknown).unwrap();
    path
}

/// An engine that notes what it is asked to run, and refuses it.
#[derive(Debug, Default)]
struct Refuses(Mutex<Vec<(Vec<(String, usize)>, String)>>);

impl GraphEngine for Refuses {
    fn look(&self) -> Result<(), LoadError> {
        Ok(())
    }

    fn load(&self, file: GraphFile<'_>) -> Result<Box<dyn Model>, LoadError> {
        let facts = file.description.root.facts;
        let why = facts
            .iter()
            .find(|(name, _)| name.starts_with("not "))
            .unwrap();
        let external = file.external.iter();
        let external = external.map(|file| (file.location.clone(), file.bytes.len()));
        let asked = (external.collect(), why.1.clone());
        self.0.lock().unwrap().push(asked);
        Err(LoadError::new(LoadErrorKind::NotFound, "the engine is out"))
    }
}

#[test]
fn sound_graphs_that_are_not_ours_go_to_the_engine_and_no_others() {
    let engine = Arc::new(Refuses::default());
    let options = LoadOptions {
        graph_engine: Some(engine.clone()),
        ..LoadOptions::default()
    };
    let attempt = |path: &Path| load(path, &options, &SystemClock::new());
    let scratch = Scratch::new("onnx-engine");
    let path = with_unknown_operator(&scratch.0);
    let error = attempt(&path).unwrap_err();
    assert_eq!(error.kind(), LoadErrorKind::NotFound);
    let message = error.to_string();
    assert!(message.contains("node 0 (LRN)"), "{message}");
    assert!(message.ends_with("; the engine is out"), "{message}");
    let asked = std::mem::take(&mut *engine.0.lock().unwrap());
    let [(external, why)] = asked.as_slice() else {
        panic!("{asked:?}");
    };
    assert_eq!(external, &[("w".to_owned(), 8)]);
    assert!(why.contains("operator 'LRN'"), "{why}");
    // One that is ours, one that is not sound, and one with data outside of its directory.
    attempt(&root().join("models/columns_one_hot_logistic.onnx")).unwrap();
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 3]).unwrap();
    assert_eq!(attempt(&path).unwrap_err().kind(), LoadErrorKind::Malformed);
    fs::write(&path, with_external_data("../w", &[])).unwrap();
    assert_eq!(attempt(&path).unwrap_err().kind(), LoadErrorKind::Refused);
    assert!(engine.0.lock().unwrap().is_empty());
}

#[test]
fn graphs_of_many_weights_go_to_the_engine_where_it_runs_them() {
    let engine = Arc::new(Refuses::default());
    let load_on = |name: &str, n_padding: usize, providers: &str| {
        let settings = [("providers".to_owned(), providers.to_owned())];
        let options = LoadOptions {
            graph_engine: Some(engine.clone()),
            engine_settings: settings.into(),
            ..LoadOptions::default()
        };
        let scratch = Scratch::new("onnx-dense");
        let path = scratch.0.join("model.onnx");
        let mut bytes = fs::read(root().join("models").join(name)).unwrap();
        // A text about the model, of which nothing depends: its tag, its length, itself.
        let length = u32::try_from(n_padding).unwrap();
        let low = u8::try_from(length & 0x7f).unwrap() | 0x80;
        let middle = u8::try_from(length >> 7 & 0x7f).unwrap() | 0x80;
        bytes.extend([0x32, low, middle, u8::try_from(length >> 14).unwrap()]);
        bytes.extend(vec![b'x'; n_padding]);
        fs::write(&path, bytes).unwrap();
        load(&path, &options, &SystemClock::new()).map(drop)
    };
    let asked = |name: &str, n_padding: usize| {
        // This engine refuses whatever it gets; our kernels run it then.
        load_on(name, n_padding, "cpu").unwrap();
        std::mem::take(&mut *engine.0.lock().unwrap())
    };
    let dense = asked("mlp_regressor.onnx", 128 << 10);
    assert!(dense[0].1.contains("more slowly"), "{dense:?}");
    assert!(asked("mlp_regressor.onnx", 10 << 10).is_empty());
    // A classical model is ours, however large it is.
    assert!(asked("columns_one_hot_logistic.onnx", 128 << 10).is_empty());
    // What is to run on a device does not run elsewhere instead, unless that may be.
    let refused = load_on("mlp_regressor.onnx", 128 << 10, "cuda,cpu").unwrap_err();
    assert!(
        refused.to_string().ends_with("the engine is out"),
        "{refused}"
    );
    load_on("mlp_regressor.onnx", 128 << 10, "cuda?,cpu?").unwrap();
    load_on("columns_one_hot_logistic.onnx", 128 << 10, "cuda").unwrap();
}

#[test]
fn maps_that_are_none_are_refused_with_what_belongs_there() {
    let lines = fs::read_to_string(root().join("maps.jsonl")).unwrap();
    let model_of = |name: &str| {
        let mut cases = lines
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let case = cases.find(|case| case["name"] == name).unwrap();
        let bytes = bytes_of(case["model"].as_str().unwrap());
        load_bytes(&bytes, &LoadOptions::default(), &SystemClock::new())
            .unwrap()
            .model
    };
    let cases = [
        (
            "words to columns",
            r#"{"a": "b"}"#,
            "map 1: key \"a\": a string, where FP32 belongs",
        ),
        (
            "words to columns",
            "[1]",
            "an object of keys and values belongs there",
        ),
        ("words to columns", "", "ends where '{' belongs"),
        ("numbers to columns", r#"{"a": 1}"#, "\"a\" is no integer"),
        ("values at their keys", r#"{"-1": 1}"#, "key -1 is negative"),
        (
            "values in the order of keys",
            r#"{"1": 1, "2": 2}"#,
            "have as many",
        ),
        (
            "integers at their keys",
            r#"{"1": 1e30}"#,
            "out of the range of INT64",
        ),
    ];
    for (name, text, part) in cases {
        let model = model_of(name);
        let texts = Values::Bytes([r#"{"1": 1}"#, text].iter().collect::<ByteStrings>());
        let error = model.run(&[Tensor::from_values(texts)], &[0]).unwrap_err();
        assert_eq!(error.code(), coracle_base::Code::InvalidArgument, "{error}");
        assert!(error.to_string().contains(part), "{name}: {error}");
    }
    // No maps are no rows.
    let none = Tensor::from_values(Values::Bytes(ByteStrings::new()));
    let answer = model_of("words to columns").run(&[none], &[0]).unwrap();
    assert_eq!(answer[0].shape(), [0, 5]);
}

/// The least of two trees, of which one has a leaf without a weight.
const EMPTY_LEAF: &str = "\
    08083a9f030af3020a0178120179221554726565456e73656d626c65526567726573736f722a1c0a126167677265676174655f66756e6374696f6e22\
    034d494ea001032a100a096e5f746172676574731801a001022a1b0a126e6f6465735f66616c73656e6f646569647340004000a001072a190a106e6f\
    6465735f6665617475726569647340004000a001072a1c0a0b6e6f6465735f6d6f6465734a044c4541464a044c454146a001082a160a0d6e6f646573\
    5f6e6f646569647340004000a001072a160a0d6e6f6465735f7472656569647340004001a001072a1a0a116e6f6465735f747275656e6f6465696473\
    40004000a001072a1b0a0c6e6f6465735f76616c7565733d000000003d00000000a001062a110a0a7461726765745f6964734000a001072a150a0e74\
    61726765745f6e6f64656964734000a001072a150a0e7461726765745f747265656964734000a001072a180a0e7461726765745f776569676874733d\
    00002040a001063a0a61692e6f6e6e782e6d6c1201675a110a0178120c0a0a080112060a000a02080162110a0179120c0a0a080112060a000a020801\
    42040a001011420e0a0a61692e6f6e6e782e6d6c1003";

#[test]
fn leaves_without_weights_are_no_extremes() {
    let outcome = |digits: &str| {
        load_bytes(
            &bytes_of(digits),
            &LoadOptions::default(),
            &SystemClock::new(),
        )
    };
    let error = outcome(EMPTY_LEAF).unwrap_err();
    assert_eq!(error.kind(), LoadErrorKind::Unsupported);
    assert!(
        error.to_string().contains("a leaf without a weight"),
        "{error}"
    );
    // Of sums it changes nothing.
    let sum = EMPTY_LEAF.replace("4d494e", "53554d");
    let loaded = outcome(&sum).unwrap();
    let x = Tensor::try_new(vec![1, 1], Values::F32(vec![0.0].into())).unwrap();
    let answer = loaded.model.run(&[x], &[0]).unwrap();
    assert_eq!(answer[0].values(), &Values::F32(vec![2.5].into()));
}

#[test]
fn locales_with_letters_of_their_own_are_refused() {
    let lines = fs::read_to_string(root().join("operators.jsonl")).unwrap();
    let line = lines
        .lines()
        .find(|line| line.contains("StringNormalizer UPPER"));
    let case: Value = serde_json::from_str(line.unwrap()).unwrap();
    let mut bytes = bytes_of(case["model"].as_str().unwrap());
    let outcome = |bytes: &[u8]| load_bytes(bytes, &LoadOptions::default(), &SystemClock::new());
    outcome(&bytes).unwrap();
    let (portable, turkish) = (b"C.UTF-8", b"tr_TR.8");
    let place = bytes.windows(7).position(|window| window == portable);
    bytes[place.unwrap()..][..7].copy_from_slice(turkish);
    let error = outcome(&bytes).unwrap_err();
    assert_eq!(error.kind(), LoadErrorKind::Unsupported);
    assert!(error.to_string().contains("tr_TR.8"), "{error}");
}

#[test]
fn operators_that_are_not_known_are_named() {
    let scratch = Scratch::new("onnx-unknown");
    let path = with_unknown_operator(&scratch.0);
    let error = load(&path, &LoadOptions::default(), &SystemClock::new()).unwrap_err();
    assert_eq!(error.kind(), LoadErrorKind::Unsupported);
    let message = error.to_string();
    for part in [
        "node 0 (LRN)",
        "operator 'LRN' of domain 'ai.onnx'",
        "among those that Coracle's own kernels run",
    ] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn wrong_shapes_and_datatypes_name_both() {
    let path = root().join("models/columns_one_hot_logistic.onnx");
    let loaded = load(&path, &LoadOptions::default(), &SystemClock::new()).unwrap();
    let text = || Tensor::from_values(Values::Bytes(["Rom"].into_iter().collect()));
    let number = |value: f64| Tensor::from_values(Values::F64(vec![value].into()));
    let cases = [
        (
            [number(1.0), text(), number(1.5)],
            "input \"size\": 1.5 is no integer",
        ),
        (
            [number(1.0), number(1.0), number(1.0)],
            "input \"city\": datatype FP64, model expects BYTES",
        ),
        (
            [text(), text(), number(1.0)],
            "input \"age\": datatype BYTES, model expects FP32",
        ),
        (
            [
                Tensor::try_new(vec![1, 2], Values::F64(vec![1.0; 2].into())).unwrap(),
                text(),
                number(1.0),
            ],
            "input \"age\": shape [1, 2], model expects [-1, 1]",
        ),
    ];
    for (inputs, expected) in cases {
        let error = loaded.model.run(&inputs, &[0]).unwrap_err();
        assert!(error.to_string().starts_with(expected), "{error}");
    }
    assert!(
        loaded
            .model
            .run(&[number(1.0), text(), number(2.0)], &[0, 1])
            .is_ok()
    );
}

#[test]
fn rows_share_a_run_only_where_that_is_sure() {
    let independent = |name: &str| {
        let path = root().join(format!("models/{name}.onnx"));
        let loaded = load(&path, &LoadOptions::default(), &SystemClock::new()).unwrap();
        loaded.model.rows_are_independent()
    };
    assert!(independent("forest_classifier"));
    assert!(independent("scaled_logistic"));
    assert!(!independent("text_tfidf"));
}

#[test]
fn no_rows_give_no_rows() {
    for name in [
        "forest_classifier",
        "boosting_regressor",
        "mlp_classifier",
        "svc_probability",
        "scaled_logistic",
    ] {
        let path = root().join(format!("models/{name}.onnx"));
        let loaded = load(&path, &LoadOptions::default(), &SystemClock::new()).unwrap();
        let width = loaded.model.signature().inputs[0].shape[1].unwrap();
        let nothing = Tensor::try_new(vec![0, width], Values::F32(vec![].into())).unwrap();
        let all: Vec<usize> = (0..loaded.model.signature().outputs.len()).collect();
        for result in loaded.model.run(&[nothing], &all).unwrap() {
            assert_eq!(result.shape().first(), Some(&0), "{name}");
        }
    }
}
