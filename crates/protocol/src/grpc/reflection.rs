//! gRPC's server reflection: which services there are, and the files that describe them.

use bytes::Bytes;
use coracle_base::Code;
use prost::Message;

use super::service::{
    ErrorResponse, FileDescriptorResponse, ListServiceResponse, MessageRequest, MessageResponse,
    ServerReflectionRequest, ServerReflectionResponse, ServiceResponse,
};
use crate::grpc_status;

/// Every service that is served, by its full name.
pub const SERVICES: [&str; 6] = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "inference.GRPCInferenceService",
    "tensorflow.serving.ModelService",
    "tensorflow.serving.PredictionService",
];

/// The files of `proto/` and those that they import, as descriptors; clients ask for imports by name.
const FILES: [&[u8]; 8] = [
    include_bytes!("../../proto/descriptors/health.binpb"),
    include_bytes!("../../proto/descriptors/reflection_v1.binpb"),
    include_bytes!("../../proto/descriptors/reflection_v1alpha.binpb"),
    include_bytes!("../../proto/descriptors/inference.binpb"),
    include_bytes!("../../proto/descriptors/tensorflow.binpb"),
    include_bytes!("../../proto/descriptors/tensorflow_serving.binpb"),
    include_bytes!("../../proto/descriptors/google_protobuf_any.binpb"),
    include_bytes!("../../proto/descriptors/google_protobuf_wrappers.binpb"),
];

/// What is read of a file's descriptor.
#[derive(Clone, PartialEq, Message)]
struct FileDescriptor {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    package: String,
    #[prost(message, repeated, tag = "4")]
    messages: Vec<Described>,
    #[prost(message, repeated, tag = "5")]
    enums: Vec<Described>,
    #[prost(message, repeated, tag = "6")]
    services: Vec<Described>,
}

/// A message, enum or service with its name.
#[derive(Clone, PartialEq, Message)]
struct Described {
    #[prost(string, tag = "1")]
    name: String,
}

/// Answers one request for reflection.
#[must_use]
pub fn answer(request: ServerReflectionRequest) -> ServerReflectionResponse {
    let response = match &request.message_request {
        Some(MessageRequest::ListServices(_)) => {
            let service = |name: &str| ServiceResponse {
                name: name.to_owned(),
            };
            MessageResponse::ListServicesResponse(ListServiceResponse {
                service: SERVICES.map(service).to_vec(),
            })
        }
        Some(MessageRequest::FileByFilename(name)) => file(|file| file.name == *name, name),
        Some(MessageRequest::FileContainingSymbol(symbol)) => {
            file(|file| file.describes(symbol), symbol)
        }
        Some(MessageRequest::FileContainingExtension(extension)) => {
            missing(Code::NotFound, &extension.containing_type)
        }
        Some(MessageRequest::AllExtensionNumbersOfType(name)) => missing(Code::NotFound, name),
        None => missing(Code::InvalidArgument, "a request"),
    };
    ServerReflectionResponse {
        valid_host: request.host.clone(),
        original_request: Some(request),
        message_response: Some(response),
    }
}

impl FileDescriptor {
    /// Tells whether `symbol`, or what it is within, is in this file.
    fn describes(&self, symbol: &str) -> bool {
        let within = symbol
            .strip_prefix(&self.package)
            .and_then(|rest| rest.strip_prefix('.'));
        let top = within.and_then(|within| within.split('.').next());
        let mut all = self
            .messages
            .iter()
            .chain(&self.enums)
            .chain(&self.services);
        top.is_some_and(|top| all.any(|described| described.name == top))
    }
}

fn file(is_wanted: impl Fn(&FileDescriptor) -> bool, name: &str) -> MessageResponse {
    let found = FILES
        .into_iter()
        .find(|bytes| FileDescriptor::decode(*bytes).is_ok_and(|file| is_wanted(&file)));
    match found {
        Some(bytes) => MessageResponse::FileDescriptorResponse(FileDescriptorResponse {
            file_descriptor_proto: vec![Bytes::from_static(bytes)],
        }),
        None => missing(Code::NotFound, name),
    }
}

fn missing(code: Code, name: &str) -> MessageResponse {
    let shown: String = name.chars().take(128).collect();
    MessageResponse::ErrorResponse(ErrorResponse {
        error_code: grpc_status(code),
        error_message: format!("{shown} is not there"),
    })
}
