//! The Open Inference Protocol over gRPC: typed and raw contents, parameters, streams, repository, shared memory.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use coracle_gateway::{ControlError, IndexEntry, Limits, ModelControl, ServerConfig};
use coracle_protocol::grpc::frame;
use coracle_protocol::grpc::inference::{
    InferInputTensor, InferParameter, InferRequestedOutputTensor, InferTensorContents,
    ModelInferRequest, ModelMetadataRequest, ModelStreamInferResponse, ParameterChoice,
    RepositoryModelLoadRequest, SystemSharedMemoryRegisterRequest, SystemSharedMemoryStatusRequest,
};

use super::{start, start_as};
use crate::client::send;
use crate::fixture::{Running, config};
use crate::grpc::{Answer, begin, call};

const OIP: &str = "/inference.GRPCInferenceService/";

/// A message that is refused, with its status and the words of it, all of them.
type Refusal = (ModelInferRequest, i32, &'static str);

fn input(name: &str, datatype: &str, shape: &[i64]) -> InferInputTensor {
    InferInputTensor {
        name: name.to_owned(),
        datatype: datatype.to_owned(),
        shape: shape.to_vec(),
        ..InferInputTensor::default()
    }
}

fn infer(model: &str, inputs: Vec<InferInputTensor>, raw: &[&[u8]]) -> ModelInferRequest {
    let raw = raw.iter().map(|bytes| Bytes::copy_from_slice(bytes));
    ModelInferRequest {
        model_name: model.to_owned(),
        inputs,
        raw_input_contents: raw.collect(),
        ..ModelInferRequest::default()
    }
}

fn raw(datatype: &str, shape: &[i64], raw: &[&[u8]]) -> ModelInferRequest {
    infer("classifier", vec![input("X", datatype, shape)], raw)
}

fn good() -> ModelInferRequest {
    raw("FP64", &[1, 2], &[&[0; 16]])
}

fn typed(datatype: &str, contents: InferTensorContents) -> ModelInferRequest {
    let input = InferInputTensor {
        contents: Some(contents),
        ..input("X", datatype, &[1, 2])
    };
    infer("classifier", vec![input], &[])
}

fn fp32(items: &[f32]) -> InferTensorContents {
    InferTensorContents {
        fp32_contents: items.to_vec(),
        ..InferTensorContents::default()
    }
}

fn text(text: &str) -> ParameterChoice {
    ParameterChoice::StringParam(text.to_owned())
}

type Parameters<'a> = &'a [(&'a str, ParameterChoice)];

fn parameters(entries: Parameters<'_>) -> std::collections::BTreeMap<String, InferParameter> {
    let entries = entries.iter().map(|(name, choice)| {
        let parameter_choice = Some(choice.clone());
        ((*name).to_owned(), InferParameter { parameter_choice })
    });
    entries.collect()
}

fn with(entries: Parameters<'_>) -> ModelInferRequest {
    ModelInferRequest {
        parameters: parameters(entries),
        ..good()
    }
}

fn with_input(entries: Parameters<'_>) -> ModelInferRequest {
    let mut request = good();
    request.raw_input_contents.clear();
    request.inputs[0].parameters = parameters(entries);
    request
}

fn with_output(name: &str, entries: Parameters<'_>) -> ModelInferRequest {
    ModelInferRequest {
        outputs: vec![InferRequestedOutputTensor {
            name: name.to_owned(),
            parameters: parameters(entries),
        }],
        ..good()
    }
}

fn region(size: i64) -> [(&'static str, ParameterChoice); 2] {
    [
        ("shared_memory_region", text("r")),
        ("shared_memory_byte_size", ParameterChoice::Int64Param(size)),
    ]
}

#[rustfmt::skip]
fn refused_contents() -> Vec<Refusal> {
    let both = ModelInferRequest {
        raw_input_contents: vec![Bytes::from_static(&[0; 8])],
        ..typed("FP32", fp32(&[1.0, 2.0]))
    };
    let uint = |items: &[u32]| InferTensorContents { uint_contents: items.to_vec(), ..InferTensorContents::default() };
    let int = |items: &[i32]| InferTensorContents { int_contents: items.to_vec(), ..InferTensorContents::default() };
    let texts = || InferTensorContents { bytes_contents: vec![Bytes::new(); 2], ..InferTensorContents::default() };
    let pair = |names: [&str; 2], raw: &[&[u8]]| infer("pair", vec![input(names[0], "FP32", &[1, 3]), input(names[1], "FP32", &[1, 1])], raw);
    let mut region_and_contents = typed("FP32", fp32(&[1.0, 2.0]));
    region_and_contents.inputs[0].parameters = parameters(&region(8));
    vec![
        (infer("nope", vec![], &[]), 5, "Model with name nope does not exist."),
        (infer("", vec![], &[]), 5, "Model with name  does not exist."),
        (ModelInferRequest { model_version: "7".to_owned(), ..good() }, 5, "model 'classifier' has no version '7'; it has 1"),
        (infer("classifier", vec![], &[]), 3, "\"inputs\" is empty; send at least one tensor"),
        (both, 3, "raw_input_contents and typed contents exclude each other"),
        (raw("FP64", &[1, 2], &[]), 3, "inputs[0]: no contents and no raw_input_contents"),
        (raw("FP64", &[1, 2], &[&[0; 16], &[0; 16]]), 3, "2 raw_input_contents, 1 inputs are without data of their own"),
        (pair(["p", "q"], &[&[0; 12]]), 3, "inputs[1]: raw_input_contents has no entry for it"),
        (pair(["p", "z"], &[&[0; 12], &[0; 4]]), 3, "unknown input \"z\"; the model has p, q"),
        (pair(["p", "p"], &[&[0; 12], &[0; 12]]), 3, "input \"p\" occurs twice"),
        (infer("pair", vec![input("p", "FP32", &[1, 3])], &[&[0; 12]]), 3, "input \"q\" is missing; the model has p, q"),
        (raw("FP64", &[1, 2], &[&[0; 15]]), 3, "inputs[0]: 15 bytes, elements of FP64 have 8"),
        (raw("FP64", &[1, 3], &[&[0; 16]]), 3, "inputs[0]: 2 elements, shape [1, 3] holds 3"),
        (raw("FP64", &[1, -2], &[&[0; 16]]), 3, "inputs[0]: shape [1, -2], sizes are 0 or more (-1 at most once)"),
        (raw("FP64", &[1; 17], &[&[0; 8]]), 3, "inputs[0]: 17 dimensions, at most 16 are supported"),
        (raw("UINT8", &[1, 101], &[&[0; 101]]), 3, "inputs[0]: more than 100 elements; send smaller batches"),
        (raw("BOOL", &[1, 2], &[&[1, 2]]), 3, "inputs[0]: byte 1 is 2, truth values are 0 or 1"),
        (raw("BYTES", &[1, 1], &[&[9, 0, 0, 0, 1]]), 3, "inputs[0]: string 0 is cut off: each is its length in four bytes, then so many bytes"),
        (raw("FP8", &[1, 2], &[&[0; 2]]), 3, "inputs[0]: unknown datatype \"FP8\"; known are BOOL, UINT8, UINT16, UINT32, UINT64, INT8, INT16, INT32, INT64, FP16, BF16, FP32, FP64, BYTES"),
        (typed("FP16", fp32(&[1.0, 2.0])), 3, "inputs[0]: FP16 has no typed contents; send raw_input_contents"),
        (typed("INT32", fp32(&[1.0, 2.0])), 3, "inputs[0]: data in fp32_contents, INT32 belongs in int_contents"),
        (typed("FP32", texts()), 3, "inputs[0]: data in bytes_contents, FP32 belongs in fp32_contents"),
        (typed("FP32", fp32(&[1.0])), 3, "inputs[0]: 1 elements, shape [1, 2] holds 2"),
        (typed("FP32", fp32(&[1.0; 101])), 3, "inputs[0]: more than 100 elements; send smaller batches"),
        (typed("UINT8", uint(&[1, 256])), 3, "inputs[0].contents.uint_contents[1]: 256 is out of range for UINT8"),
        (typed("UINT16", uint(&[1, 65_536])), 3, "inputs[0].contents.uint_contents[1]: 65536 is out of range for UINT16"),
        (typed("INT8", int(&[1, 128])), 3, "inputs[0].contents.int_contents[1]: 128 is out of range for INT8"),
        (typed("INT16", int(&[1, 32_768])), 3, "inputs[0].contents.int_contents[1]: 32768 is out of range for INT16"),
        (region_and_contents, 3, "inputs[0]: contents and shared_memory_region exclude each other"),
    ]
}

#[rustfmt::skip]
fn refused_parameters() -> Vec<Refusal> {
    let number = ParameterChoice::Int64Param;
    let base64 = {
        let mut request = infer("words", vec![input("X", "BYTES", &[1, 1, 1])], &[b"\x01\x00\x00\x00%"]);
        request.inputs[0].parameters = parameters(&[("content_type", text("base64"))]);
        request
    };
    let [name, size] = region(8);
    vec![
        (with(&[("method", text("fly"))]), 3, "unknown method \"fly\"; the model has predict, predict_proba"),
        (with(&[("method", number(1))]), 3, "parameter \"method\": a string belongs there"),
        (with(&[("binary_data_output", number(1))]), 3, "parameter \"binary_data_output\": a truth value belongs there"),
        (with(&[("timeout", number(-1))]), 3, "parameter \"timeout\": a whole number, 0 or more, belongs there"),
        (with(&[("priority", text("high"))]), 3, "parameter \"priority\": a whole number, 0 or more, belongs there"),
        (with_output("zzz", &[]), 3, "unknown output \"zzz\"; the model has predict, predict_proba"),
        (with_output("predict", &[("classification", number(2))]), 12, "output \"predict\": classification of outputs is not supported; ask for predict or predict_proba"),
        (with_output("predict", &[("binary_data", number(2))]), 3, "parameter \"binary_data\": a truth value belongs there"),
        (with_output("predict", &[("binary_data", ParameterChoice::BoolParam(true)), name.clone(), size.clone()]), 3, "output \"predict\": binary_data and shared_memory_region exclude each other"),
        (with_output("predict", &region(8)), 3, "no shared memory region \"r\" is registered"),
        (with_output("predict", std::slice::from_ref(&name)), 3, "output \"predict\": shared memory needs both shared_memory_region and shared_memory_byte_size"),
        (with_input(&region(16)), 3, "inputs[0]: no shared memory region \"r\" is registered"),
        (with_input(&region(801)), 3, "inputs[0]: 801 bytes of shared memory, at most 800 are read"),
        (with_input(std::slice::from_ref(&size)), 3, "inputs[0]: shared memory needs both shared_memory_region and shared_memory_byte_size"),
        (with_input(&[("shared_memory_region", number(1))]), 3, "parameter \"shared_memory_region\": a string belongs there"),
        (with_input(&[("shared_memory_offset", number(-1))]), 3, "parameter \"shared_memory_offset\": a whole number, 0 or more, belongs there"),
        (base64, 3, "inputs[0].data[0]: not base64, which the content type says it is"),
    ]
}

fn assert_refused(answer: &Answer, what: &str, status: i32, words: &str) {
    assert_eq!(
        (answer.status, answer.message.as_str()),
        (status, words),
        "{what}"
    );
    assert!(answer.body.is_empty(), "{what}");
}

fn ask(server: &Running, method: &str, message: Vec<u8>) -> Answer {
    call(server, &format!("{OIP}{method}"), &[], message)
}

#[test]
fn of_inferences() {
    let server = start();
    for (request, status, words) in refused_contents().into_iter().chain(refused_parameters()) {
        let answer = ask(&server, "ModelInfer", frame(&request));
        assert_refused(&answer, words, status, words);
    }
}

#[test]
fn of_what_the_head_says() {
    let server = start();
    let cases: [(&[(&str, &str)], i32, &str); 6] = [
        (
            &[("grpc-timeout", "5")],
            3,
            "grpc-timeout must be up to eight digits and one of H M S m u n",
        ),
        (&[("grpc-timeout", "0S")], 4, "no answer within 0s"),
        (
            &[("grpc-encoding", "br")],
            12,
            "grpc-encoding 'br' is not supported; supported are identity,gzip,deflate",
        ),
        (
            &[("x-request-timeout", "soon")],
            3,
            "x-request-timeout must be seconds above 0, such as 1.5, or with a unit, such as 250ms",
        ),
        (
            &[("x-request-priority", "high")],
            3,
            "x-request-priority must be a whole number: 1 is the highest level, 0 the default",
        ),
        (&[("x-request-timeout", "1us")], 4, "no answer within 1us"),
    ];
    for method in ["ModelInfer", "ModelStreamInfer"] {
        let path = format!("{OIP}{method}");
        for (headers, status, words) in cases {
            let answer = call(&server, &path, headers, frame(&good()));
            // A stream whose time is over may have answered before it is noticed.
            if status == 4 && method == "ModelStreamInfer" {
                continue;
            }
            assert_refused(&answer, &format!("{method} {headers:?}"), status, words);
        }
    }
}

#[test]
fn of_messages_of_a_stream() {
    let server = start();
    for (request, status, words) in refused_contents().into_iter().chain(refused_parameters()) {
        let request = ModelInferRequest {
            id: "7".to_owned(),
            ..request
        };
        let answer = ask(&server, "ModelStreamInfer", frame(&request));
        let told: ModelStreamInferResponse = answer.message();
        assert_eq!(told.error_message, words);
        assert_eq!(told.infer_response.unwrap().id, "7");
        let path = format!("{OIP}ModelStreamInfer");
        let headers = [("triton_grpc_error", "true")];
        let answer = call(&server, &path, &headers, frame(&request));
        assert_refused(&answer, words, status, words);
    }
    // What is no message ends the stream, and so does a frame beyond the limit.
    let damaged = [0, 0, 0, 0, 2, 0x0a, 0xff];
    let cases: [(&[u8], i32, &str); 3] = [
        (&[0, 0, 0, 0], 3, "the request ended within a message"),
        (
            &[9, 0, 0, 0, 0],
            3,
            "a message begins with 9; 0 (plain) and 1 (compressed) are allowed",
        ),
        (
            &[0, 255, 255, 255, 255],
            8,
            "the message is larger than 67108864 bytes",
        ),
    ];
    for (body, status, words) in cases {
        let answer = ask(&server, "ModelStreamInfer", body.to_vec());
        assert_refused(&answer, words, status, words);
    }
    let answer = ask(&server, "ModelStreamInfer", damaged.to_vec());
    let told: ModelStreamInferResponse = answer.message();
    assert_eq!(told.error_message, "the message is damaged or cut off");
}

#[test]
fn of_messages_that_do_not_come() {
    let server = start_as(config(Limits {
        body_timeout: Duration::from_millis(50),
        ..Limits::default()
    }));
    let cut = [0, 0, 0, 0, 9, 1];
    let stream = format!("{OIP}ModelStreamInfer");
    let answer = begin(&server, &stream, &cut, || ());
    let words = "the message did not arrive within 50ms";
    assert_refused(&answer, words, 4, words);
    let answer = begin(&server, &format!("{OIP}ModelInfer"), &cut, || ());
    let words = "no answer within 50ms";
    assert_refused(&answer, words, 4, words);
    let watch = "/grpc.health.v1.Health/Watch";
    let answer = call(&server, watch, &[], Vec::new());
    let words = "the request has no message";
    assert_refused(&answer, words, 3, words);
}

#[test]
fn of_streams_while_the_server_shuts_down() {
    let mut server = start();
    let stream = format!("{OIP}ModelStreamInfer");
    let stop = server.stopper();
    let answer = begin(&server, &stream, b"", stop);
    let words = "the server is shutting down";
    assert_refused(&answer, words, 14, words);
    assert_eq!(server.wait().n_connections_cut, 0);
}

#[test]
fn of_messages_of_too_many_fields() {
    let server = start();
    let mut message = vec![0, 0, 0, 0, 0];
    message.extend([0x32, 0x00].repeat(65_537));
    let length = u32::try_from(message.len() - 5).unwrap();
    message[1..5].copy_from_slice(&length.to_be_bytes());
    let answer = ask(&server, "ModelInfer", message);
    let words = "the message has more than 65536 fields";
    assert_refused(&answer, words, 3, words);
}

#[test]
fn of_questions_about_models() {
    let server = start();
    let of = |name: &str, version: &str| {
        frame(&ModelMetadataRequest {
            name: name.to_owned(),
            version: version.to_owned(),
        })
    };
    for method in ["ModelMetadata", "ModelConfig", "ModelStatistics"] {
        let words = "Model with name nope does not exist.";
        assert_refused(&ask(&server, method, of("nope", "")), method, 5, words);
        let words = "model 'sum' has no version '7'; it has 1";
        assert_refused(&ask(&server, method, of("sum", "7")), method, 5, words);
        // The second field of a message that has a text there.
        let answer = ask(&server, method, vec![0, 0, 0, 0, 2, 0x10, 0x01]);
        let is_said = answer.message.starts_with("not the message expected: ");
        assert!(is_said, "{method}: {}", answer.message);
        assert_eq!(answer.status, 3, "{method}");
    }
}

#[test]
fn of_the_repository_and_shared_memory() {
    let server = start();
    let load = |parameter: &str| {
        frame(&RepositoryModelLoadRequest {
            model_name: "sum".to_owned(),
            parameters: match parameter {
                "" => [].into(),
                name => [(name.to_owned(), Default::default())].into(),
            },
            ..RepositoryModelLoadRequest::default()
        })
    };
    let register = |key: &str| {
        frame(&SystemSharedMemoryRegisterRequest {
            name: "r".to_owned(),
            key: key.to_owned(),
            offset: 0,
            byte_size: 1,
        })
    };
    let status = frame(&SystemSharedMemoryStatusRequest {
        name: "r".to_owned(),
    });
    let no_control = "models are not loaded and unloaded on request here; `coracle serve --model-control explicit` allows it";
    let services = "grpc.health.v1.Health, grpc.reflection.v1.ServerReflection, grpc.reflection.v1alpha.ServerReflection, inference.GRPCInferenceService, tensorflow.serving.ModelService, tensorflow.serving.PredictionService";
    let not_there =
        |method: &str| format!("method {OIP}{method} is not there; services are {services}");
    let cases = [
        ("RepositoryModelLoad", load(""), 9, no_control.to_owned()),
        ("RepositoryModelUnload", load(""), 9, no_control.to_owned()),
        (
            "RepositoryModelLoad",
            load("config"),
            12,
            "load parameter \"config\": models are loaded from their own files only".to_owned(),
        ),
        (
            "SystemSharedMemoryStatus",
            status,
            5,
            "no shared memory region \"r\" is registered".to_owned(),
        ),
        (
            "SystemSharedMemoryRegister",
            register("/"),
            3,
            "cannot use shared memory key \"/\": it must name a file directly under /dev/shm"
                .to_owned(),
        ),
        (
            "CudaSharedMemoryRegister",
            vec![0; 5],
            12,
            not_there("CudaSharedMemoryRegister"),
        ),
        ("TraceSetting", vec![0; 5], 12, not_there("TraceSetting")),
        ("LogSettings", vec![0; 5], 12, not_there("LogSettings")),
    ];
    for (method, message, status, words) in cases {
        assert_refused(&ask(&server, method, message), method, status, &words);
    }
}

/// What docs/compatibility.md says of the methods that other servers have.
#[test]
fn of_what_other_servers_have() {
    let server = start();
    let nothing = || vec![0; 5];
    for method in ["CudaSharedMemoryStatus", "CudaSharedMemoryUnregister"] {
        let answer = ask(&server, method, nothing());
        assert_eq!((answer.status, answer.body), (0, nothing()), "{method}");
    }
    for path in [
        "/tensorflow.serving.SessionService/SessionRun",
        "/tensorflow.serving.ModelService/HandleReloadConfigRequest",
        "/tensorflow.serving.PredictionService/MultiInference",
        "/inference.GRPCInferenceService/CudaSharedMemoryRegister",
    ] {
        let answer = call(&server, path, &[], nothing());
        let start = format!("method {path} is not there; services are ");
        assert!(answer.message.starts_with(&start), "{}", answer.message);
        assert_eq!(answer.status, 12, "{path}");
    }
    for (method, path) in [
        ("GET", "/v2/trace/setting"),
        ("POST", "/v2/models/sum/trace/setting"),
        ("GET", "/v2/logging"),
        ("POST", "/v2/cudasharedmemory/region/r/register"),
    ] {
        let answer = send(server.address, method, path, &[], b"{}");
        assert_eq!(answer.status, 404, "{path}: {}", answer.body);
        assert!(answer.body.contains("nothing is at"), "{}", answer.body);
    }
}

/// Tells which name a load is asked for.
#[derive(Debug)]
struct Asked(Mutex<Vec<String>>);

impl ModelControl for Asked {
    fn index(&self) -> Vec<IndexEntry> {
        Vec::new()
    }

    fn load(&self, name: &str) -> Result<(), ControlError> {
        self.0.lock().unwrap().push(name.to_owned());
        Ok(())
    }

    fn unload(&self, name: &str) -> Result<(), ControlError> {
        self.load(name)
    }
}

#[test]
fn of_no_load_whichever_field_has_the_name() {
    let asked = Arc::new(Asked(Mutex::default()));
    let server = start_as(ServerConfig {
        control: Some(Arc::clone(&asked) as Arc<dyn ModelControl>),
        ..config(Limits::default())
    });
    // KServe's clients send the name in the first field, Triton's in the second.
    for message in [b"\x0a\x03sum", b"\x12\x03sum"] {
        let framed = [&[0, 0, 0, 0, 5][..], message].concat();
        for method in ["RepositoryModelLoad", "RepositoryModelUnload"] {
            let answer = ask(&server, method, framed.clone());
            assert_eq!(answer.status, 0, "{method}: {}", answer.message);
        }
    }
    assert_eq!(*asked.0.lock().unwrap(), ["sum"; 4]);
}
