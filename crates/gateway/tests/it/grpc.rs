//! gRPC over HTTP/2, on the port of HTTP/1.1.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use coracle_gateway::Limits;
use coracle_protocol::compression::{Encoding, compress, expand};
use coracle_protocol::grpc::inference::{
    InferInputTensor, InferParameter, InferTensorContents, ModelInferRequest, ModelInferResponse,
    ModelMetadataRequest, ModelReadyRequest, ModelReadyResponse, ModelStatisticsResponse,
    ModelStreamInferResponse, ParameterChoice, RepositoryModelLoadRequest, ServerMetadataResponse,
    SystemSharedMemoryRegisterRequest, SystemSharedMemoryStatusRequest,
    SystemSharedMemoryStatusResponse,
};
use coracle_protocol::grpc::service::{
    HealthCheckRequest, HealthCheckResponse, MessageRequest, MessageResponse,
    ServerReflectionRequest, ServerReflectionResponse,
};
use coracle_protocol::grpc::{Message, frame};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::fixture::{Running, config, start};

const OIP: &str = "/inference.GRPCInferenceService/";

/// An answer: its messages, and the status at its end.
pub(crate) struct Answer {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) status: i32,
    pub(crate) message: String,
}

impl Answer {
    pub(crate) fn messages<T: Message + Default>(&self) -> Vec<T> {
        let mut rest = &self.body[..];
        let mut messages = Vec::new();
        while !rest.is_empty() {
            assert_eq!(rest.get_u8(), 0, "a compressed message");
            let length = usize::try_from(rest.get_u32()).unwrap();
            messages.push(T::decode(&rest[..length]).unwrap());
            rest.advance(length);
        }
        messages
    }

    pub(crate) fn message<T: Message + Default>(&self) -> T {
        assert_eq!((self.status, self.message.as_str()), (0, ""));
        self.messages().pop().unwrap()
    }
}

pub(crate) fn request(path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Request<Full<Bytes>> {
    request_of(path, headers, Full::new(Bytes::from(body)))
}

fn request_of<B>(path: &str, headers: &[(&str, &str)], body: B) -> Request<B> {
    let mut request = Request::post(format!("http://test{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body).unwrap()
}

/// A body that begins and never ends.
struct Endless(Option<Bytes>);

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _ctx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.0.take() {
            Some(begin) => Poll::Ready(Some(Ok(Frame::data(begin)))),
            None => Poll::Pending,
        }
    }
}

/// Begins a request, and does something once it has begun to be sent; reads the answer.
pub(crate) fn begin(server: &Running, path: &str, begin: &[u8], then: impl FnOnce()) -> Answer {
    let body = Endless(Some(Bytes::copy_from_slice(begin)));
    let request = request_of(path, &[], body);
    send(server.address, request, async |response| {
        then();
        read(response).await
    })
}

/// Sends a request on a connection of its own, and does something with the answer.
fn send<T, B: Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static>(
    address: SocketAddr,
    request: Request<B>,
    then: impl AsyncFnOnce(Response<Incoming>) -> T,
) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async move {
        let conversation = async {
            let stream = tokio::net::TcpStream::connect(address).await.unwrap();
            let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
            let (mut sender, connection) = handshake.await.unwrap();
            let connection = tokio::spawn(connection);
            let answer = then(sender.send_request(request).await.unwrap()).await;
            connection.abort();
            answer
        };
        let limit = Duration::from_secs(20);
        tokio::time::timeout(limit, conversation)
            .await
            .expect("no answer")
    })
}

async fn read(response: Response<Incoming>) -> Answer {
    assert_eq!(response.status(), 200);
    let headers = response.headers().clone();
    assert_eq!(headers["content-type"], "application/grpc");
    assert!(headers.contains_key("x-request-id"));
    let body = response.into_body().collect().await.unwrap();
    let trailers = body.trailers().cloned().unwrap_or_else(|| headers.clone());
    let text = |name: &str| {
        let value = trailers.get(name)?;
        Some(value.to_str().unwrap().to_owned())
    };
    Answer {
        headers,
        body: body.to_bytes().to_vec(),
        status: text("grpc-status").expect("no status").parse().unwrap(),
        message: text("grpc-message").unwrap_or_default(),
    }
}

pub(crate) fn call(
    server: &Running,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> Answer {
    call_at(server.address, path, headers, body)
}

pub(crate) fn call_at(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> Answer {
    send(address, request(path, headers, body), read)
}

pub(crate) fn ask(server: &Running, method: &str, message: &impl Message) -> Answer {
    call(server, &format!("{OIP}{method}"), &[], frame(message))
}

pub(crate) fn row(model: &str, numbers: [f64; 2]) -> ModelInferRequest {
    ModelInferRequest {
        model_name: model.to_owned(),
        inputs: vec![InferInputTensor {
            name: "X".to_owned(),
            datatype: "FP64".to_owned(),
            shape: vec![1, 2],
            ..InferInputTensor::default()
        }],
        raw_input_contents: vec![numbers.map(f64::to_le_bytes).concat().into()],
        ..ModelInferRequest::default()
    }
}

fn typed_row(numbers: [f64; 2]) -> ModelInferRequest {
    let mut request = row("sum", numbers);
    request.raw_input_contents.clear();
    request.inputs[0].contents = Some(InferTensorContents {
        fp64_contents: numbers.to_vec(),
        ..InferTensorContents::default()
    });
    request
}

#[test]
fn inferences_are_answered_in_the_form_they_came_in() {
    let server = start(config(Limits::default()));
    let raw: ModelInferResponse = ask(&server, "ModelInfer", &row("sum", [1.0, 2.5])).message();
    assert_eq!(raw.raw_output_contents, [&3.5_f64.to_le_bytes()[..]]);
    assert_eq!(
        (raw.model_name.as_str(), raw.model_version.as_str()),
        ("sum", "1")
    );
    let typed: ModelInferResponse = ask(&server, "ModelInfer", &typed_row([1.0, 2.5])).message();
    let contents = typed.outputs[0].contents.as_ref().unwrap();
    assert_eq!(contents.fp64_contents, [3.5]);
    assert!(typed.raw_output_contents.is_empty());
    let asked = ModelMetadataRequest {
        name: "sum".to_owned(),
        version: "1".to_owned(),
    };
    let statistics: ModelStatisticsResponse = ask(&server, "ModelStatistics", &asked).message();
    let model = &statistics.model_stats[0];
    assert_eq!((model.inference_count, model.execution_count), (2, 2));
    let inferences = model.inference_stats.as_ref().unwrap();
    assert_eq!(inferences.success.as_ref().unwrap().count, 2);
    assert_eq!(inferences.fail.as_ref().unwrap().count, 0);
}

#[test]
fn servers_and_models_tell_what_they_are() {
    let server = start(config(Limits::default()));
    let nothing = ModelReadyRequest::default();
    let metadata: ServerMetadataResponse = ask(&server, "ServerMetadata", &nothing).message();
    assert_eq!(
        (metadata.name.as_str(), metadata.version.as_str()),
        ("coracle", "9.8.7")
    );
    for (name, version, expected) in [("sum", "", true), ("sum", "2", false), ("nope", "", false)] {
        let request = ModelReadyRequest {
            name: name.to_owned(),
            version: version.to_owned(),
        };
        let ready: ModelReadyResponse = ask(&server, "ModelReady", &request).message();
        assert_eq!(ready.ready, expected, "{name} {version}");
    }
}

/// Path, headers, body, status and a part of the message.
type Refusal = (
    String,
    &'static [(&'static str, &'static str)],
    Vec<u8>,
    i32,
    &'static str,
);

/// What is wrong with what is asked.
fn refused_requests() -> Vec<Refusal> {
    let infer = || format!("{OIP}ModelInfer");
    let good = frame(&row("sum", [1.0, 2.0]));
    let mut short = row("sum", [1.0, 2.0]);
    short.raw_input_contents[0].truncate(8);
    let version = ModelInferRequest {
        model_version: "7".to_owned(),
        ..row("sum", [1.0, 2.0])
    };
    let load = frame(&RepositoryModelLoadRequest::default());
    let health = frame(&HealthCheckRequest {
        service: "nope".to_owned(),
    });
    let nope = "method /inference.GRPCInferenceService/Nope is not there";
    let not_here = "models are not loaded and unloaded on request here";
    let negative = frame(&row("sum", [-1.0, 0.0]));
    vec![
        (format!("{OIP}Nope"), &[], good.clone(), 12, nope),
        (
            "/a.B/C".to_owned(),
            &[],
            good,
            12,
            "method /a.B/C is not there",
        ),
        (
            infer(),
            &[],
            frame(&row("nope", [1.0, 2.0])),
            5,
            "Model with name nope does not exist.",
        ),
        (
            infer(),
            &[],
            frame(&version),
            5,
            "model 'sum' has no version '7'; it has 1",
        ),
        (
            infer(),
            &[],
            frame(&short),
            3,
            "inputs[0]: 1 elements, shape [1, 2] holds 2",
        ),
        (infer(), &[], negative, 13, "model 'sum' failed"),
        (format!("{OIP}RepositoryModelLoad"), &[], load, 9, not_here),
        (
            "/grpc.health.v1.Health/Check".to_owned(),
            &[],
            health,
            5,
            "unknown service",
        ),
    ]
}

/// What is wrong with how it is sent; every one of an inference.
fn refused_frames() -> Vec<Refusal> {
    let good = || frame(&row("sum", [1.0, 2.0]));
    let mut marked = good();
    marked[0] = 1;
    let too_large = "the message is larger than 4096 bytes";
    let cases: [(&[_], Vec<u8>, i32, &str); 11] = [
        (&[], vec![], 3, "the request has no message"),
        (&[], [good(), good()].concat(), 3, "its head says"),
        (&[], vec![9, 0, 0, 0, 0], 3, "a message begins with 9"),
        (
            &[],
            vec![0, 0, 0, 0, 3, 0x2a, 0xff, 1],
            3,
            "the message is damaged or cut off",
        ),
        (&[], vec![0, 0, 1, 0, 0], 8, too_large),
        (&[], vec![0; 5_000], 8, too_large),
        (
            &[("grpc-timeout", "soon")],
            good(),
            3,
            "grpc-timeout must be",
        ),
        (&[("grpc-timeout", "1n")], good(), 4, "no answer within 1ns"),
        (
            &[("grpc-encoding", "snappy")],
            good(),
            12,
            "grpc-encoding 'snappy' is not supported; supported are identity,gzip,deflate",
        ),
        (
            &[("grpc-encoding", "gzip")],
            marked.clone(),
            3,
            "not gzip data",
        ),
        (&[], marked, 3, "grpc-encoding names no compression"),
    ];
    let path = || format!("{OIP}ModelInfer");
    cases
        .into_iter()
        .map(|(headers, body, status, message)| (path(), headers, body, status, message))
        .collect()
}

#[test]
fn refusals_have_a_status_and_say_why() {
    let limits = Limits {
        body_max: coracle_base::ByteCount::new(4_096),
        ..Limits::default()
    };
    let server = start(config(limits));
    for (path, headers, body, status, message) in
        refused_requests().into_iter().chain(refused_frames())
    {
        let answer = call(&server, &path, headers, body);
        assert_eq!(answer.status, status, "{path}: {}", answer.message);
        assert!(
            answer.message.contains(message),
            "{path}: {}",
            answer.message
        );
        assert!(answer.body.is_empty());
    }
}

#[test]
fn messages_are_compressed_as_the_caller_compresses() {
    let server = start(config(Limits::default()));
    // Long enough to become smaller.
    let mut wide = row("sum", [1.0, 2.0]);
    let rows = vec![[1.0, 2.0]; 200].concat();
    wide.inputs[0].shape = vec![200, 2];
    let bytes: Vec<u8> = rows
        .iter()
        .flat_map(|number: &f64| number.to_le_bytes())
        .collect();
    wide.raw_input_contents = vec![bytes.into()];
    for (name, encoding) in [("gzip", Encoding::Gzip), ("deflate", Encoding::Deflate)] {
        let mut body = vec![1, 0, 0, 0, 0];
        compress(encoding, &wide.encode_to_vec(), &mut body).unwrap();
        let length = u32::try_from(body.len() - 5).unwrap();
        body[1..5].copy_from_slice(&length.to_be_bytes());
        let path = format!("{OIP}ModelInfer");
        let answer = call(&server, &path, &[("grpc-encoding", name)], body);
        assert_eq!(
            (answer.status, answer.body[0]),
            (0, 1),
            "{}",
            answer.message
        );
        assert_eq!(answer.headers["grpc-encoding"], name);
        let message = expand(encoding, &answer.body[5..], 100_000).unwrap();
        let answer = ModelInferResponse::decode(&message[..]).unwrap();
        assert_eq!(
            answer.raw_output_contents[0],
            3.0_f64.to_le_bytes().repeat(200)
        );
    }
}

#[test]
fn a_stream_answers_in_order_and_goes_on_after_a_failure() {
    let server = start(config(Limits::default()));
    let mut body = frame(&row("sum", [1.0, 2.0]));
    let failing = ModelInferRequest {
        id: "second".to_owned(),
        ..row("nope", [1.0, 2.0])
    };
    body.extend(frame(&failing));
    body.extend(frame(&row("sum", [2.0, 2.0])));
    let path = format!("{OIP}ModelStreamInfer");
    let answer = call(&server, &path, &[], body.clone());
    assert_eq!(answer.status, 0, "{}", answer.message);
    let messages: Vec<ModelStreamInferResponse> = answer.messages();
    let [first, second, third] = &messages[..] else {
        panic!("{} messages", messages.len())
    };
    let sum = |message: &ModelStreamInferResponse| {
        message.infer_response.as_ref().unwrap().raw_output_contents[0].to_vec()
    };
    assert_eq!(
        (sum(first), sum(third)),
        (
            3.0_f64.to_le_bytes().to_vec(),
            4.0_f64.to_le_bytes().to_vec()
        )
    );
    assert_eq!(second.error_message, "Model with name nope does not exist.");
    assert_eq!(second.infer_response.as_ref().unwrap().id, "second");
    // Triton's clients may ask for a status instead.
    let answer = call(
        &server,
        &path,
        &[("triton_grpc_error", "true")],
        body.clone(),
    );
    assert_eq!(
        (
            answer.status,
            answer.messages::<ModelStreamInferResponse>().len()
        ),
        (5, 1)
    );
    // A message that is cut off ends the stream.
    body.truncate(body.len() - 1);
    let answer = call(&server, &path, &[], body);
    assert_eq!(
        (answer.status, answer.message.as_str()),
        (3, "the request ended within a message")
    );
    assert_eq!(answer.messages::<ModelStreamInferResponse>().len(), 2);
}

#[test]
fn health_is_told_and_watched_until_the_end() {
    let mut server = start(config(Limits::default()));
    let check = |service: &str| {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        let answer = call(
            &server,
            "/grpc.health.v1.Health/Check",
            &[],
            frame(&request),
        );
        answer.message::<HealthCheckResponse>().status
    };
    assert_eq!(
        [
            check(""),
            check("inference.GRPCInferenceService"),
            check("sum")
        ],
        [1, 1, 1]
    );
    let watch = frame(&HealthCheckRequest::default());
    let watch = request("/grpc.health.v1.Health/Watch", &[], watch);
    let frames = send(server.address, watch, async |response| {
        let mut body = response.into_body();
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        server.tell_to_stop();
        let second = body.frame().await.unwrap().unwrap().into_data().unwrap();
        let trailers = body
            .frame()
            .await
            .unwrap()
            .unwrap()
            .into_trailers()
            .unwrap();
        (first, second, trailers["grpc-status"].clone())
    });
    assert_eq!(frames.0, frame(&HealthCheckResponse { status: 1 }));
    assert_eq!(frames.1, frame(&HealthCheckResponse { status: 2 }));
    assert_eq!(frames.2, "14");
    assert_eq!(server.wait().n_connections_cut, 0);
}

#[test]
fn reflection_tells_the_services_and_their_files() {
    let server = start(config(Limits::default()));
    for version in ["v1", "v1alpha"] {
        let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
        let symbol = "inference.GRPCInferenceService.ModelInfer".to_owned();
        let mut body = Vec::new();
        for request in [
            MessageRequest::ListServices(String::new()),
            MessageRequest::FileContainingSymbol(symbol),
            MessageRequest::FileByFilename("nope.proto".to_owned()),
        ] {
            body.extend(frame(&ServerReflectionRequest {
                host: String::new(),
                message_request: Some(request),
            }));
        }
        let answer = call(&server, &path, &[], body);
        let responses: Vec<ServerReflectionResponse> = answer.messages();
        let choices: Vec<_> = responses
            .into_iter()
            .map(|response| response.message_response.unwrap())
            .collect();
        let [
            MessageResponse::ListServicesResponse(services),
            MessageResponse::FileDescriptorResponse(file),
            MessageResponse::ErrorResponse(error),
        ] = &choices[..]
        else {
            panic!("{choices:?}")
        };
        let names: Vec<&str> = services
            .service
            .iter()
            .map(|service| service.name.as_str())
            .collect();
        assert!(
            names.contains(&"inference.GRPCInferenceService"),
            "{names:?}"
        );
        assert!(file.file_descriptor_proto[0].starts_with(b"\x0a\x0finference.proto"));
        assert_eq!(error.error_code, 5);
    }
}

#[test]
fn http2_carries_rest_too() {
    let server = start(config(Limits::default()));
    let request = Request::get("http://test/v2/health/live");
    let request = request.body(Full::new(Bytes::new())).unwrap();
    let body = send(server.address, request, async |response| {
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "application/json");
        response.into_body().collect().await.unwrap().to_bytes()
    });
    assert_eq!(body, &b"{\"live\":true}"[..]);
}

/// A shared memory object of this test's own; gone with it.
struct Object(String);

impl Drop for Object {
    fn drop(&mut self) {
        drop(std::fs::remove_file(format!("/dev/shm/{}", self.0)));
    }
}

#[test]
fn tensors_lie_in_shared_memory() {
    let server = start(config(Limits::default()));
    let object = Object(format!("coracle-test-{}-grpc", std::process::id()));
    let path = format!("/dev/shm/{}", object.0);
    let input = [1.0_f64, 2.0].map(f64::to_le_bytes).concat();
    std::fs::write(&path, [input, vec![0; 8]].concat()).unwrap();
    let register = SystemSharedMemoryRegisterRequest {
        name: "r".to_owned(),
        key: format!("/{}", object.0),
        offset: 0,
        byte_size: 24,
    };
    assert_eq!(
        ask(&server, "SystemSharedMemoryRegister", &register).status,
        0
    );
    let again = ask(&server, "SystemSharedMemoryRegister", &register);
    assert_eq!(again.status, 6);
    let place = |offset, byte_size| {
        let number = |number| InferParameter {
            parameter_choice: Some(ParameterChoice::Int64Param(number)),
        };
        let region = InferParameter {
            parameter_choice: Some(ParameterChoice::StringParam("r".to_owned())),
        };
        [
            ("shared_memory_region".to_owned(), region),
            ("shared_memory_offset".to_owned(), number(offset)),
            ("shared_memory_byte_size".to_owned(), number(byte_size)),
        ]
    };
    let mut request = row("sum", [0.0, 0.0]);
    request.raw_input_contents.clear();
    request.inputs[0].parameters = place(0, 16).into();
    let output = coracle_protocol::grpc::inference::InferRequestedOutputTensor {
        name: "predict".to_owned(),
        parameters: place(16, 8).into(),
    };
    request.outputs = vec![output];
    let answer: ModelInferResponse = ask(&server, "ModelInfer", &request).message();
    assert_eq!(answer.outputs[0].parameters.len(), 3);
    assert_eq!(std::fs::read(&path).unwrap()[16..], 3.0_f64.to_le_bytes());
    request.outputs[0].parameters = place(20, 8).into();
    let beyond = ask(&server, "ModelInfer", &request);
    assert_eq!(beyond.status, 3);
    assert!(
        beyond
            .message
            .contains("has 24 bytes, asked for are 8 at offset 20"),
        "{}",
        beyond.message
    );
    let all = SystemSharedMemoryStatusRequest::default();
    let status: SystemSharedMemoryStatusResponse =
        ask(&server, "SystemSharedMemoryStatus", &all).message();
    assert_eq!(status.regions["r"].byte_size, 24);
    assert_eq!(ask(&server, "SystemSharedMemoryUnregister", &all).status, 0);
    let status: SystemSharedMemoryStatusResponse =
        ask(&server, "SystemSharedMemoryStatus", &all).message();
    assert!(status.regions.is_empty());
}
