//! Every message against its descriptor: bytes with every field of the descriptor come back as they were, so the struct has every
//! field, under its number, with its form on the wire.
#![expect(
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    reason = "the bytes are the test's own"
)]

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;

use crate::grpc::{inference as i, service as s, tensorflow as t};

#[derive(Clone, PartialEq, Message)]
struct File {
    #[prost(string, tag = "2")]
    package: String,
    #[prost(message, repeated, tag = "4")]
    messages: Vec<Described>,
}

#[derive(Clone, PartialEq, Message)]
struct Described {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    fields: Vec<Field>,
    #[prost(message, repeated, tag = "3")]
    nested: Vec<Described>,
}

#[derive(Clone, PartialEq, Message)]
struct Field {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int32, tag = "3")]
    number: i32,
    #[prost(int32, tag = "4")]
    label: i32,
    #[prost(int32, tag = "5")]
    kind: i32,
    #[prost(string, tag = "6")]
    type_name: String,
    #[prost(int32, optional, tag = "9")]
    oneof: Option<i32>,
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn collect(prefix: &str, described: &Described, all: &mut BTreeMap<String, Described>) {
    let name = format!("{prefix}.{}", described.name);
    for nested in &described.nested {
        collect(&name, nested, all);
    }
    all.insert(name, described.clone());
}

/// Every message of a descriptor by its full name, with a leading dot.
fn messages(descriptor: &[u8]) -> BTreeMap<String, Described> {
    let file = File::decode(descriptor).unwrap();
    let mut all = BTreeMap::new();
    for message in &file.messages {
        collect(&format!(".{}", file.package), message, &mut all);
    }
    all
}

/// The content of one field of this kind; packed where the field repeats.
fn content(field: &Field, all: &BTreeMap<String, Described>, depth: usize) -> Vec<u8> {
    match field.kind {
        1 => 1.5_f64.to_le_bytes().to_vec(),
        2 => 1.5_f32.to_le_bytes().to_vec(),
        3 | 4 | 5 | 8 | 13 | 14 => vec![1],
        9 | 12 => b"x".to_vec(),
        11 => sample(&all[&field.type_name], all, depth + 1),
        other => panic!("{}: kind {other}", field.name),
    }
}

/// Bytes of a message with every field; of a oneof, the field whose position is `depth`'s turn is enough, so all are tried by
/// `samples`.
fn sample(message: &Described, all: &BTreeMap<String, Described>, depth: usize) -> Vec<u8> {
    let first_of_oneof = message
        .fields
        .iter()
        .position(|field| field.oneof.is_some());
    sample_with(message, all, depth, first_of_oneof)
}

fn sample_with(
    message: &Described,
    all: &BTreeMap<String, Described>,
    depth: usize,
    chosen: Option<usize>,
) -> Vec<u8> {
    let mut fields: Vec<(usize, &Field)> = message.fields.iter().enumerate().collect();
    fields.sort_by_key(|(_, field)| field.number);
    let mut out = Vec::new();
    for (position, field) in fields {
        let is_left_out = field.oneof.is_some() && chosen != Some(position);
        if is_left_out || depth > 6 {
            continue;
        }
        let content = content(field, all, depth);
        let (wire, repeated) = (wire_type(field.kind), field.label == 3);
        // Repeated numbers are packed; lengths stand before what is not of fixed size.
        let wire = if repeated { 2 } else { wire };
        varint((field.number as u64) << 3 | wire, &mut out);
        if wire == 2 {
            varint(content.len() as u64, &mut out);
        }
        out.extend(content);
    }
    out
}

fn wire_type(kind: i32) -> u64 {
    match kind {
        1 => 1,
        2 => 5,
        9 | 11 | 12 => 2,
        _ => 0,
    }
}

type RoundTrip = fn(Vec<u8>) -> Vec<u8>;

fn round_trip<T: Message + Default>(bytes: Vec<u8>) -> Vec<u8> {
    T::decode(Bytes::from(bytes)).unwrap().encode_to_vec()
}

fn check(descriptor: &[u8], known: &[(&str, RoundTrip)]) {
    check_with(descriptor, &[], known);
}

/// As [`check`], of messages that use those of the `imported` descriptors.
fn check_with(descriptor: &[u8], imported: &[&[u8]], known: &[(&str, RoundTrip)]) {
    let own = messages(descriptor);
    let mut all = own.clone();
    for descriptor in imported {
        all.extend(messages(descriptor));
    }
    for (name, message) in &own {
        if name.ends_with("Entry") {
            continue;
        }
        let (_, round_trip) = known
            .iter()
            .find(|(known, _)| name.ends_with(&format!(".{known}")))
            .unwrap_or_else(|| panic!("{name} has no struct"));
        let choices: Vec<Option<usize>> = message
            .fields
            .iter()
            .enumerate()
            .filter(|(_, field)| field.oneof.is_some())
            .map(|(position, _)| Some(position))
            .collect();
        let choices = if choices.is_empty() {
            vec![None]
        } else {
            choices
        };
        for chosen in choices {
            let bytes = sample_with(message, &all, 0, chosen);
            let back = round_trip(bytes.clone());
            // A choice among fields may stand elsewhere than its number says; nothing may be lost.
            let sorted = |mut bytes: Vec<u8>| {
                bytes.sort_unstable();
                bytes
            };
            assert_eq!(sorted(back), sorted(bytes), "{name}, field {chosen:?}");
        }
    }
    assert_eq!(
        known.len(),
        own.keys().filter(|name| !name.ends_with("Entry")).count()
    );
}

macro_rules! structs {
    ($module:ident: $($name:literal => $type:ident),* $(,)?) => {
        [$(($name, round_trip::<$module::$type> as RoundTrip)),*]
    };
}

#[test]
fn inference_messages_are_as_published() {
    let known = structs![i:
        "ServerLiveRequest" => ServerLiveRequest,
        "ServerLiveResponse" => ServerLiveResponse,
        "ServerReadyRequest" => ServerReadyRequest,
        "ServerReadyResponse" => ServerReadyResponse,
        "ModelReadyRequest" => ModelReadyRequest,
        "ModelReadyResponse" => ModelReadyResponse,
        "ServerMetadataRequest" => ServerMetadataRequest,
        "ServerMetadataResponse" => ServerMetadataResponse,
        "ModelMetadataRequest" => ModelMetadataRequest,
        "ModelMetadataResponse" => ModelMetadataResponse,
        "TensorMetadata" => TensorMetadata,
        "InferParameter" => InferParameter,
        "InferTensorContents" => InferTensorContents,
        "ModelInferRequest" => ModelInferRequest,
        "InferInputTensor" => InferInputTensor,
        "InferRequestedOutputTensor" => InferRequestedOutputTensor,
        "ModelInferResponse" => ModelInferResponse,
        "InferOutputTensor" => InferOutputTensor,
        "ModelStreamInferResponse" => ModelStreamInferResponse,
        "ModelConfigRequest" => ModelConfigRequest,
        "ModelConfigResponse" => ModelConfigResponse,
        "ModelInput" => ModelInput,
        "ModelOutput" => ModelOutput,
        "ModelVersionPolicy" => ModelVersionPolicy,
        "Latest" => Latest,
        "All" => All,
        "Specific" => Specific,
        "ModelTransactionPolicy" => ModelTransactionPolicy,
        "ModelConfig" => ModelConfig,
        "ModelStatisticsRequest" => ModelStatisticsRequest,
        "StatisticDuration" => StatisticDuration,
        "InferStatistics" => InferStatistics,
        "MemoryUsage" => MemoryUsage,
        "ModelStatistics" => ModelStatistics,
        "ModelStatisticsResponse" => ModelStatisticsResponse,
        "ModelRepositoryParameter" => ModelRepositoryParameter,
        "RepositoryIndexRequest" => RepositoryIndexRequest,
        "RepositoryIndexResponse" => RepositoryIndexResponse,
        "ModelIndex" => ModelIndex,
        "RepositoryModelLoadRequest" => RepositoryModelLoadRequest,
        "RepositoryModelLoadResponse" => RepositoryModelLoadResponse,
        "RepositoryModelUnloadRequest" => RepositoryModelUnloadRequest,
        "RepositoryModelUnloadResponse" => RepositoryModelUnloadResponse,
        "SystemSharedMemoryStatusRequest" => SystemSharedMemoryStatusRequest,
        "SystemSharedMemoryStatusResponse" => SystemSharedMemoryStatusResponse,
        "RegionStatus" => RegionStatus,
        "SystemSharedMemoryRegisterRequest" => SystemSharedMemoryRegisterRequest,
        "SystemSharedMemoryRegisterResponse" => SystemSharedMemoryRegisterResponse,
        "SystemSharedMemoryUnregisterRequest" => SystemSharedMemoryUnregisterRequest,
        "SystemSharedMemoryUnregisterResponse" => SystemSharedMemoryUnregisterResponse,
        "CudaSharedMemoryStatusRequest" => CudaSharedMemoryStatusRequest,
        "CudaSharedMemoryStatusResponse" => CudaSharedMemoryStatusResponse,
        "CudaSharedMemoryUnregisterRequest" => CudaSharedMemoryUnregisterRequest,
        "CudaSharedMemoryUnregisterResponse" => CudaSharedMemoryUnregisterResponse,
    ];
    check(
        include_bytes!("../../../proto/descriptors/inference.binpb"),
        &known,
    );
}

#[test]
fn health_and_reflection_messages_are_as_published() {
    let health = structs![s:
        "HealthCheckRequest" => HealthCheckRequest,
        "HealthCheckResponse" => HealthCheckResponse,
    ];
    check(
        include_bytes!("../../../proto/descriptors/health.binpb"),
        &health,
    );
    let reflection = structs![s:
        "ServerReflectionRequest" => ServerReflectionRequest,
        "ExtensionRequest" => ExtensionRequest,
        "ServerReflectionResponse" => ServerReflectionResponse,
        "FileDescriptorResponse" => FileDescriptorResponse,
        "ExtensionNumberResponse" => ExtensionNumberResponse,
        "ListServiceResponse" => ListServiceResponse,
        "ServiceResponse" => ServiceResponse,
        "ErrorResponse" => ErrorResponse,
    ];
    check(
        include_bytes!("../../../proto/descriptors/reflection_v1.binpb"),
        &reflection,
    );
    check(
        include_bytes!("../../../proto/descriptors/reflection_v1alpha.binpb"),
        &reflection,
    );
}

#[test]
fn tensorflow_messages_are_as_published() {
    let core = structs![t:
        "TensorShapeProto" => TensorShapeProto,
        "Dim" => Dim,
        "TensorProto" => TensorProto,
        "BytesList" => BytesList,
        "FloatList" => FloatList,
        "Int64List" => Int64List,
        "Feature" => Feature,
        "Features" => Features,
        "Example" => Example,
        "TensorInfo" => TensorInfo,
        "SignatureDef" => SignatureDef,
    ];
    let descriptor = include_bytes!("../../../proto/descriptors/tensorflow.binpb");
    check(descriptor, &core);
    let serving = structs![t:
        "ModelSpec" => ModelSpec,
        "ExampleList" => ExampleList,
        "ExampleListWithContext" => ExampleListWithContext,
        "Input" => Input,
        "PredictRequest" => PredictRequest,
        "PredictResponse" => PredictResponse,
        "Class" => Class,
        "Classifications" => Classifications,
        "ClassificationResult" => ClassificationResult,
        "ClassificationRequest" => ClassificationRequest,
        "ClassificationResponse" => ClassificationResponse,
        "Regression" => Regression,
        "RegressionResult" => RegressionResult,
        "RegressionRequest" => RegressionRequest,
        "RegressionResponse" => RegressionResponse,
        "SignatureDefMap" => SignatureDefMap,
        "GetModelMetadataRequest" => GetModelMetadataRequest,
        "GetModelMetadataResponse" => GetModelMetadataResponse,
        "StatusProto" => StatusProto,
        "ModelVersionStatus" => ModelVersionStatus,
        "GetModelStatusRequest" => GetModelStatusRequest,
        "GetModelStatusResponse" => GetModelStatusResponse,
    ];
    let imported: [&[u8]; 3] = [
        descriptor,
        include_bytes!("../../../proto/descriptors/google_protobuf_any.binpb"),
        include_bytes!("../../../proto/descriptors/google_protobuf_wrappers.binpb"),
    ];
    check_with(
        include_bytes!("../../../proto/descriptors/tensorflow_serving.binpb"),
        &imported,
        &serving,
    );
}
