//! Configurations as Triton's documentation has them, and what is wrong with others.

use std::num::NonZero;
use std::time::Duration;

use coracle_model::{Component, Description, LoadErrorKind, Signature, TensorSpec};
use coracle_tensor::DType;

use super::{TritonBatching, TritonConfig, TritonQueue, TritonTensor, TritonVersions};

fn read(text: &str) -> TritonConfig {
    TritonConfig::from_bytes(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The example of Triton's documentation of model configuration, with its other fields.
const FULL: &str = r#"
# Comments begin so.
name: "iris"
platform: "onnxruntime_onnx"
max_batch_size: 8
input [
  {
    name: "input0"
    data_type: TYPE_FP32
    dims: [ 16 ]
  },
  {
    name: "input1"
    data_type: TYPE_STRING
    dims: [ 4, -1 ]
  }
]
output { name: "output0" data_type: 12 dims: 16; }
version_policy: { specific: { versions: [1, 0x3] } }
instance_group [ { count: 2 kind: KIND_GPU gpus: [ 0 ] } ]
dynamic_batching < preferred_batch_size: [ 4, 8 ], max_queue_delay_microseconds: 100
  priority_levels: 2 default_priority_level: 1 preserve_ordering: true
  default_queue_policy { timeout_action: DELAY default_timeout_microseconds: 5 max_queue_size: 3 } >
response_cache { enable: true }
parameters { key: "model_type" value: { string_value: "xg" 'boost' } }
parameters: { key: "a\tb\x41\u00e9" value { string_value: "" } }
default_model_filename: "m.onnx"
model_warmup [ { name: "w" batch_size: 1 } ]
optimization { graph { level: 1 } }
[triton.extension] { x: 1 }
"#;

#[test]
fn what_means_something_is_read_and_the_rest_is_noted() {
    let config = read(FULL);
    let tensor = |name: &str, dtype, dims: &[i64], line| TritonTensor {
        name: name.to_owned(),
        dtype: Some(dtype),
        dims: Some(dims.to_vec()),
        line,
    };
    assert_eq!(config.name.as_deref(), Some("iris"));
    assert_eq!(config.platform.as_deref(), Some("onnxruntime_onnx"));
    assert_eq!(config.max_batch_size, Some(8));
    assert_eq!(
        config.inputs,
        [
            tensor("input0", DType::F32, &[16], 6),
            tensor("input1", DType::Bytes, &[4, -1], 6)
        ]
    );
    assert_eq!(config.outputs, [tensor("output0", DType::F64, &[16], 18)]);
    assert_eq!(
        config.versions,
        Some(TritonVersions::Specific([1, 3].into()))
    );
    let batching = TritonBatching {
        preferred_sizes: vec![4, 8],
        max_queue_delay: Duration::from_micros(100),
    };
    assert_eq!(config.batching, Some(batching));
    let queue = TritonQueue {
        size_max: NonZero::new(3),
        timeout: None,
    };
    assert_eq!((config.instances, config.queue), (None, queue));
    assert_eq!(config.response_cache, Some(true));
    assert_eq!(config.default_model_filename.as_deref(), Some("m.onnx"));
    assert_eq!(config.parameters["model_type"], "xgboost");
    assert_eq!(config.parameters["a\tbAé"], "");
    assert_eq!(
        config.notes,
        [
            "line 20: kind: graphs run there where ONNX Runtime has CUDA, all else on the processor",
            "line 20: gpus: not read of instance_group, it changes nothing here",
            "line 22: priority_levels: there are always five levels",
            "line 22: default_priority_level: requests that ask for none have level 3",
            "line 23: timeout_action: calls keep their place until their callers' deadlines",
            "line 28: model_warmup: every model is warmed up anyhow, with rows of its own",
            "line 30: [triton.extension]: not read, it changes nothing here",
        ]
    );
}

#[test]
fn what_is_said_to_onnx_runtime_is_a_setting_of_the_engine() {
    let graph = |level| format!("optimization {{ graph {{ level: {level} }} }}");
    let parameter = |key: &str, value: &str| {
        format!("parameters {{ key: \"{key}\" value {{ string_value: \"{value}\" }} }}")
    };
    let on_gpu = |rest: &str| {
        format!(
            "optimization {{ execution_accelerators {{ gpu_execution_accelerator: [ {{ {rest} }} ] }} }}"
        )
    };
    let option =
        |key: &str, value: &str| format!("parameters {{ key: \"{key}\" value: \"{value}\" }}");
    let cases: [(String, &[(&str, &str)]); 13] = [
        (graph(-1), &[("graph_optimization_level", "basic")]),
        (graph(0), &[]),
        (graph(1), &[("graph_optimization_level", "extended")]),
        (graph(2), &[("graph_optimization_level", "disabled")]),
        (
            parameter("intra_op_thread_count", "4") + &parameter("note", "7"),
            &[("intra_op_thread_count", "4")],
        ),
        (
            parameter("enable_mem_arena", "false") + &parameter("execution_mode", "1"),
            &[("enable_mem_arena", "false"), ("execution_mode", "1")],
        ),
        (
            "instance_group { kind: KIND_GPU }".to_owned(),
            &[("providers", "cuda?")],
        ),
        (
            on_gpu("name: \"tensorrt\""),
            &[("providers", "tensorrt?,cuda?")],
        ),
        (
            on_gpu(&("name: \"tensorrt\"".to_owned()
                + &option("precision_mode", "FP16")
                + &option("max_workspace_size_bytes", "1073741824")
                + &option("trt_engine_cache_enable", "true"))),
            &[
                ("providers", "tensorrt?,cuda?"),
                ("tensorrt.trt_engine_cache_enable", "1"),
                ("tensorrt.trt_fp16_enable", "1"),
                ("tensorrt.trt_max_workspace_size", "1073741824"),
            ],
        ),
        (
            on_gpu("name: \"cuda\" parameters { key: \"cudnn_conv_use_max_workspace\" value: \"0\" } }, { name: \"tensorrt\""),
            &[
                ("cuda.cudnn_conv_use_max_workspace", "0"),
                ("providers", "tensorrt?,cuda?"),
            ],
        ),
        (on_gpu("name: \"gpu_io\""), &[]),
        (
            "optimization { execution_accelerators { cpu_execution_accelerator { name: \"openvino\" } } }".to_owned(),
            &[("providers", "openvino?")],
        ),
        ("optimization { priority: PRIORITY_MAX }".to_owned(), &[]),
    ];
    for (text, expected) in cases {
        let engine = read(&text).engine;
        let found: Vec<(&str, &str)> = engine
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn instances_on_the_processor_are_counted_together() {
    let cases = [
        ("", None),
        ("instance_group {}", Some(1)),
        ("instance_group { count: 0 }", Some(1)),
        (
            "instance_group [ { count: 2 kind: KIND_CPU }, { count: 3 } ]",
            Some(5),
        ),
        (
            "instance_group [ { count: 2 kind: KIND_GPU }, { kind: KIND_AUTO } ]",
            Some(1),
        ),
        ("instance_group { count: 2 kind: KIND_GPU }", None),
    ];
    for (text, expected) in cases {
        let instances = read(text).instances.map(NonZero::get);
        assert_eq!(instances, expected, "{text}");
    }
}

#[test]
fn queues_are_bounded_as_the_policy_says() {
    let queue = |text: &str| {
        let text = format!("dynamic_batching {{ default_queue_policy {{ {text} }} }}");
        read(&text).queue
    };
    let none = TritonQueue::default();
    assert_eq!(
        queue("default_timeout_microseconds: 0 max_queue_size: 0"),
        none
    );
    let both = TritonQueue {
        size_max: NonZero::new(8),
        timeout: Some(Duration::from_micros(1_500)),
    };
    let text = "timeout_action: REJECT default_timeout_microseconds: 1500 max_queue_size: 8";
    assert_eq!(queue(text), both);
    assert_eq!(
        queue("timeout_action: DELAY default_timeout_microseconds: 5"),
        none
    );
}

#[test]
fn version_policies_are_one_of_three() {
    let latest = |n| Some(TritonVersions::Latest(NonZero::new(n).unwrap()));
    let cases = [
        ("", None),
        ("version_policy {}", None),
        ("version_policy { latest {} }", latest(1)),
        ("version_policy: { latest: { num_versions: 2 } }", latest(2)),
        ("version_policy { all {} }", Some(TritonVersions::All)),
        (
            "version_policy { specific { versions: 2 versions: 1 } }",
            Some(TritonVersions::Specific([1, 2].into())),
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(read(text).versions, expected, "{text}");
    }
}

/// Files that are refused, each with all of its message.
const MALFORMED: [(&str, &str); 44] = [
    (
        "name",
        "line 1 column 5: expected a colon and a value, or {, after name, got the end of the file",
    ),
    (
        "name: ",
        "line 1 column 7: expected a value, got the end of the file",
    ),
    (
        "name \"x\"",
        "line 1 column 6: expected a colon and a value, or {, after name, got \"\\\"\"",
    ),
    (
        "name: \"x",
        "line 1 column 7: a string that is not closed on its line",
    ),
    (
        "name: \"x\ny\"",
        "line 1 column 7: a string that is not closed on its line",
    ),
    (
        "name: \"\\q\"",
        "line 1 column 8: an escape that means nothing in a string",
    ),
    (
        "name: \"\\x\"",
        "line 1 column 8: an escape that means nothing in a string",
    ),
    (
        "name: \"\\u12\"",
        "line 1 column 8: an escape that means nothing in a string",
    ),
    (
        "name: \"\\ud800\"",
        "line 1 column 8: an escape that means nothing in a string",
    ),
    (
        "name: \"\\777\"",
        "line 1 column 8: an escape that means nothing in a string",
    ),
    (
        "name: \"\\xff\"",
        "line 1 column 7: a string that is no UTF-8",
    ),
    (
        "name: x",
        "line 1 column 1: name is x, a string in quotes is wanted",
    ),
    (
        "name: \"x\"\nname: \"y\"",
        "line 2 column 1: name is there twice",
    ),
    (
        "\n  }",
        "line 2 column 3: expected the name of a field, got \"}\"",
    ),
    (
        "input {",
        "line 1 column 1: the file ends before the } of input",
    ),
    (
        "input { name: \"x\" >",
        "line 1 column 19: expected the name of a field, got \">\"",
    ),
    (
        "input [ {}",
        "line 1 column 11: expected a comma or the end of the list of input, got the end of the file",
    ),
    (
        "input [ {} {} ]",
        "line 1 column 12: expected a comma or the end of the list of input, got \"{\"",
    ),
    (
        "input [ , ]",
        "line 1 column 9: expected a value, got \",\"",
    ),
    (
        "input [ {}, ]",
        "line 1 column 13: expected a value, got \"]\"",
    ),
    ("input {}", "line 1 column 1: input has no name"),
    (
        "input: 5",
        "line 1 column 1: input is 5, a message in {} is wanted",
    ),
    (
        "output { name: \"x\" dims: -2 }",
        "line 1 column 20: dims is -2, a whole number from -1 to 9223372036854775807 is wanted",
    ),
    (
        "output { name: \"x\" data_type: TYPE_FP8 }",
        "line 1 column 20: data_type is TYPE_FP8, one of TYPE_BOOL, TYPE_UINT8, TYPE_UINT16, TYPE_UINT32, TYPE_UINT64, TYPE_INT8, TYPE_INT16, TYPE_INT32, TYPE_INT64, TYPE_FP16, TYPE_FP32, TYPE_FP64, TYPE_STRING, TYPE_BF16 is wanted",
    ),
    (
        "max_batch_size: -1",
        "line 1 column 1: max_batch_size is -1, a whole number from 0 to 2147483647 is wanted",
    ),
    (
        "max_batch_size: 1.5",
        "line 1 column 1: max_batch_size is 1.5, a whole number from 0 to 2147483647 is wanted",
    ),
    (
        "max_batch_size: \"8\"",
        "line 1 column 1: max_batch_size is '8', a whole number from 0 to 2147483647 is wanted",
    ),
    (
        "max_batch_size: 99999999999999999999999",
        "line 1 column 1: max_batch_size is 99999999999999999999999, a whole number from 0 to 2147483647 is wanted",
    ),
    (
        "version_policy { latest { num_versions: 0 } }",
        "line 1 column 27: num_versions is 0, a whole number from 1 to 4294967295 is wanted",
    ),
    (
        "version_policy { specific {} }",
        "line 1 column 18: specific has no versions, one at least is wanted",
    ),
    (
        "version_policy { all {} latest {} }",
        "line 1 column 25: version_policy has several choices, one of latest, all and specific is wanted",
    ),
    (
        "max_batch_size: 4\ndynamic_batching { preferred_batch_size: [ 8 ] }",
        "line 2 column 1: preferred_batch_size 8 is more than max_batch_size, 4",
    ),
    (
        "dynamic_batching { preferred_batch_size: 0 }",
        "line 1 column 20: preferred_batch_size is 0, a whole number from 1 to 2147483647 is wanted",
    ),
    (
        "dynamic_batching { default_queue_policy { timeout_action: WAIT } }",
        "line 1 column 43: timeout_action is WAIT, REJECT or DELAY is wanted",
    ),
    (
        "response_cache { enable: yes }",
        "line 1 column 18: enable is yes, true or false is wanted",
    ),
    (
        "instance_group { kind: KIND_TPU }",
        "line 1 column 18: kind is KIND_TPU, KIND_AUTO, KIND_CPU or KIND_GPU is wanted",
    ),
    (
        "default_model_filename: \"../m.onnx\"",
        "line 1 column 1: default_model_filename is '../m.onnx', the name of a file in the directory of a version is wanted",
    ),
    (
        "optimization { graph { level: 3 } }",
        "line 1 column 24: level is 3, a whole number from -1 to 2 is wanted",
    ),
    (
        "optimization { execution_accelerators { gpu_execution_accelerator { name: \"tensorrt\" parameters { key: \"precision_mode\" value: \"FP8\" } } } }",
        "line 1 column 86: precision_mode may be FP32, FP16 or INT8",
    ),
    (
        "optimization { execution_accelerators { gpu_execution_accelerator { parameters { key: \"x\" value: \"y\" } } } }",
        "line 1 column 41: gpu_execution_accelerator has no name",
    ),
    (
        "parameters { value { string_value: \"x\" } }",
        "line 1 column 1: parameters has no key",
    ),
    (
        "model_transaction_policy { decoupled: true }",
        "line 1 column 28: decoupled is true, false is wanted",
    ),
    (
        "ensemble_scheduling {}",
        "line 1 column 1: ensemble_scheduling: models are served one by one, without a state",
    ),
    (
        "[x: 1",
        "line 1 column 3: expected the name of an extension and ], got \":\"",
    ),
];

#[test]
fn what_is_wrong_is_said_with_its_place() {
    for (text, message) in MALFORMED {
        let error = TritonConfig::from_bytes(text.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), message, "{text}");
        assert_eq!(error.kind(), LoadErrorKind::Malformed, "{text}");
    }
    let error = TritonConfig::from_bytes(b"name: \"a\"\n# \xff").unwrap_err();
    assert_eq!(
        error.to_string(),
        "line 2 column 3: what follows is no UTF-8"
    );
    let deep = TritonConfig::from_bytes("a {".repeat(100_000).as_bytes()).unwrap_err();
    assert!(deep.to_string().ends_with("more than 32 deep"), "{deep}");
    let many = TritonConfig::from_bytes("a:1 ".repeat(70_000).as_bytes()).unwrap_err();
    assert!(
        many.to_string().ends_with("more than 65536 fields"),
        "{many}"
    );
    let notes = read(&"a: 1\n".repeat(100)).notes;
    assert_eq!(notes.last().unwrap(), "80 more like these");
}

/// A linear congruential generator; enough to pick places and bytes.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let number = usize::try_from(self.0 >> 33).unwrap();
        number.checked_rem(below).unwrap_or(0)
    }
}

#[test]
fn damaged_files_are_errors_or_configurations_never_panics() {
    let pieces = [
        "{", "}", "[", "]", "<", ">", ":", ",", "\"", "\\", "#", "-1", "\n", "é",
    ];
    let mut random = Random(1);
    let mut n_read = 0;
    for _ in 0..4_000 {
        let mut bytes = FULL.as_bytes().to_vec();
        for _ in 0..=random.next(2) {
            let at = random.next(bytes.len());
            let to = (at + random.next(8)).min(bytes.len());
            let piece = pieces[random.next(pieces.len())].as_bytes();
            match random.next(4) {
                0 => bytes.truncate(at),
                1 => drop(bytes.drain(at..to)),
                2 => drop(bytes.splice(at..to, piece.iter().copied())),
                _ => {
                    let byte = u8::try_from(random.next(256)).unwrap();
                    bytes.splice(at..to.min(at.saturating_add(1)), [byte]);
                }
            }
        }
        match TritonConfig::from_bytes(&bytes) {
            Ok(_config) => n_read += 1,
            Err(error) => assert!(error.to_string().starts_with("line "), "{error}"),
        }
    }
    assert!(n_read > 100, "{n_read}");
}

fn spec(name: &str, dtype: DType, shape: &[Option<usize>]) -> TensorSpec {
    TensorSpec {
        name: name.to_owned(),
        dtype,
        shape: shape.to_vec(),
        columns: None,
        accepts_missing: false,
        accepts_integers: false,
    }
}

fn signature(inputs: Vec<TensorSpec>) -> Signature {
    Signature {
        inputs,
        outputs: vec![
            spec("predict", DType::I64, &[None]),
            spec("predict_proba", DType::F64, &[None, Some(3)]),
        ],
        default_outputs: vec![0],
        keyed_outputs: Vec::new(),
        keyed_inputs: Vec::new(),
        unranked_inputs: Vec::new(),
        name_rules: Default::default(),
        columns: None,
    }
}

fn table() -> Signature {
    signature(vec![TensorSpec {
        columns: Some(["a", "b"].map(str::to_owned).to_vec()),
        ..spec("X", DType::F64, &[None, Some(2)])
    }])
}

fn pair() -> Signature {
    signature(vec![
        spec("p", DType::F32, &[None, Some(3)]),
        spec("q", DType::Bytes, &[None, Some(1)]),
    ])
}

fn unranked() -> Signature {
    Signature {
        unranked_inputs: vec![0],
        ..signature(vec![spec("X", DType::F64, &[None])])
    }
}

fn fixed() -> Signature {
    signature(vec![spec("X", DType::F64, &[Some(3)])])
}

fn description(format: &str, library: &str) -> Description {
    Description {
        format: format.to_owned(),
        library: library.to_owned(),
        library_version: None,
        root: Component::default(),
    }
}

fn check(text: &str, signature: &Signature) -> Result<Vec<String>, String> {
    let description = description("pickle", "scikit-learn");
    let notes = read(text).check("iris", signature, &description);
    notes.map_err(|error| error.to_string())
}

#[test]
fn configurations_that_are_true_of_a_model() {
    let cases = [
        ("", table()),
        (
            "max_batch_size: 8 input { name: \"X\" data_type: TYPE_FP32 dims: 2 } output { name: \"predict\" data_type: TYPE_INT64 dims: 1 }",
            table(),
        ),
        (
            "input { name: \"X\" dims: [ -1, 2 ] } output { name: \"predict_proba\" data_type: TYPE_FP64 dims: [ -1, 3 ] }",
            table(),
        ),
        ("max_batch_size: 8 output { name: \"predict\" }", table()),
        ("output { name: \"predict\" dims: -1 }", table()),
        (
            "max_batch_size: 8 input [ { name: \"a\" dims: 1 }, { name: \"b\" dims: [] } ]",
            table(),
        ),
        (
            "max_batch_size: 8 input [ { name: \"p\" dims: 3 }, { name: \"q\" data_type: TYPE_STRING dims: 1 } ]",
            pair(),
        ),
        ("max_batch_size: 0 input { name: \"X\" dims: 3 }", fixed()),
        (
            "max_batch_size: 4 input { name: \"X\" dims: [2, 3] } output { name: \"predict\" dims: [2, 3] }",
            unranked(),
        ),
    ];
    for (text, signature) in cases {
        assert_eq!(check(text, &signature), Ok(Vec::new()), "{text}");
    }
    let noted =
        "name: \"other\" backend: \"mine\"\nmax_batch_size: 8 input { name: \"input__0\" dims: 2 }";
    assert_eq!(
        check(noted, &table()).unwrap(),
        [
            "name is 'other', the model is served as 'iris'",
            "backend 'mine' is not known, the file says what it is",
            "line 2: input 'input__0' is 'X' of the model, which takes it under any name",
        ]
    );
}

#[test]
fn configurations_that_are_not_true_of_a_model() {
    let cases = [
        (
            "output { name: \"output__0\" }",
            table(),
            "line 1: output 'output__0': the model has predict, predict_proba",
        ),
        (
            "output { name: \"predict\" data_type: TYPE_FP32 }",
            table(),
            "line 1: output 'predict': data_type is FP32, the model gives INT64",
        ),
        (
            "max_batch_size: 8 output { name: \"predict_proba\" dims: 2 }",
            table(),
            "line 1: output 'predict_proba': dims are [2], 'predict_proba' of the model has [3] without the rows",
        ),
        (
            "input { name: \"X\" dims: 2 }",
            table(),
            "line 1: input 'X': dims are [2], 'X' of the model has [-1, 2]",
        ),
        (
            "\ninput { name: \"X\" data_type: TYPE_STRING }",
            table(),
            "line 2: input 'X': data_type is BYTES, the model takes FP64",
        ),
        (
            "input [ { name: \"a\" }, { name: \"z\" } ]",
            table(),
            "line 1: input 'z': the model has a, b",
        ),
        (
            "input [ { name: \"a\" } ]",
            table(),
            "input 'b' of the model is not among those of the configuration",
        ),
        (
            "input [ { name: \"z\" }, { name: \"q\" } ]",
            pair(),
            "line 1: input 'z': the model has p, q",
        ),
        (
            "input { name: \"p\" }",
            pair(),
            "input 'q' of the model is not among those of the configuration",
        ),
        (
            "max_batch_size: 8",
            fixed(),
            "max_batch_size is 8, but 'X' of the model has the shape [3], which does not begin with rows",
        ),
        (
            "backend: \"onnxruntime\"",
            table(),
            "backend is 'onnxruntime', but the model's file is pickle, written by scikit-learn",
        ),
        (
            "platform: \"tensorrt_plan\"",
            table(),
            "platform 'tensorrt_plan' runs files that are not served; the model's is pickle, written by scikit-learn",
        ),
    ];
    for (text, signature, message) in cases {
        assert_eq!(check(text, &signature), Err(message.to_owned()), "{text}");
    }
}

#[test]
fn backends_are_those_of_the_files() {
    let onnx = description("ONNX", "skl2onnx");
    let boosted = description("XGBoost JSON", "XGBoost");
    let cases = [
        ("platform: \"onnxruntime_onnx\"", &onnx, true),
        ("backend: \"onnxruntime\"", &boosted, false),
        ("backend: \"fil\"", &boosted, true),
        ("backend: \"fil\"", &onnx, false),
        ("backend: \"xgboost\"", &boosted, true),
        ("backend: \"lightgbm\"", &boosted, false),
        ("backend: \"coracle\"", &onnx, true),
        ("backend: \"python\"", &boosted, false),
    ];
    for (text, description, fits) in cases {
        let checked = read(text).check("iris", &table(), description);
        assert_eq!(checked.is_ok(), fits, "{text}: {checked:?}");
    }
}
