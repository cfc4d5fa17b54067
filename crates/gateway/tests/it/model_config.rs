//! What a model's own configuration looks like to who asks for it.

use std::sync::Arc;
use std::time::Duration;

use coracle_gateway::Limits;
use coracle_protocol::grpc::inference::{ModelConfigResponse, ModelMetadataRequest};
use coracle_serving::batch::BatchSettings;
use coracle_serving::{CacheSettings, DeclaredConfig, ModelTable, VersionPolicy};

use crate::client::send;
use crate::fixture::{Running, config, start_with};
use crate::grpc::ask;

fn start(declared: DeclaredConfig, batching: BatchSettings) -> Running {
    start_with(config(Limits::default()), |sum| {
        let cache = CacheSettings {
            size_bytes: 1 << 20,
            ttl: None,
        };
        let sum = sum
            .with_batching(batching)
            .with_response_cache(Some(cache))
            .with_declared(Some(Arc::new(declared)));
        ModelTable::try_new([sum]).unwrap()
    })
}

#[test]
fn it_says_what_the_file_says_and_how_it_is_served() {
    let declared = DeclaredConfig {
        max_batch_size: Some(8),
        versions: Some("latest:2".parse::<VersionPolicy>().unwrap()),
        has_batching: true,
        default_model_filename: Some("m.onnx".to_owned()),
        parameters: [("owner".to_owned(), "a \"b\"".to_owned())].into(),
    };
    let batching = BatchSettings {
        rows_max: 8,
        wait: Duration::from_micros(250),
        rows_preferred: vec![4, 8],
    };
    let server = start(declared, batching);
    let answer = send(server.address, "GET", "/v2/models/sum/config", &[], b"");
    let expected = r#"{"name":"sum","platform":"","backend":"coracle","version_policy":{"latest":{"num_versions":2}},"max_batch_size":8,"input":[{"name":"X","data_type":"TYPE_FP64","dims":[2]}],"output":[{"name":"predict","data_type":"TYPE_FP64","dims":[1]},{"name":"twice","data_type":"TYPE_FP64","dims":[1]}],"dynamic_batching":{"preferred_batch_size":[4,8],"max_queue_delay_microseconds":250},"response_cache":{"enable":true},"default_model_filename":"m.onnx","parameters":{"owner":{"string_value":"a \"b\""}},"model_transaction_policy":{"decoupled":false}}"#;
    assert_eq!((answer.status, answer.body.as_str()), (200, expected));
    let asked = ModelMetadataRequest {
        name: "sum".to_owned(),
        ..ModelMetadataRequest::default()
    };
    let told: ModelConfigResponse = ask(&server, "ModelConfig", &asked).message();
    assert_eq!(told.config.unwrap().max_batch_size, 8);
}

#[test]
fn without_a_batch_size_shapes_have_their_rows() {
    let declared = DeclaredConfig {
        max_batch_size: Some(0),
        versions: Some(VersionPolicy::Specific([1, 3].into())),
        ..DeclaredConfig::default()
    };
    let server = start(declared, BatchSettings::opportunistic());
    let answer = send(server.address, "GET", "/v2/models/sum/config", &[], b"");
    let expected = r#"{"name":"sum","platform":"","backend":"coracle","version_policy":{"specific":{"versions":[1,3]}},"max_batch_size":0,"input":[{"name":"X","data_type":"TYPE_FP64","dims":[-1,2]}],"output":[{"name":"predict","data_type":"TYPE_FP64","dims":[-1]},{"name":"twice","data_type":"TYPE_FP64","dims":[-1]}],"response_cache":{"enable":true},"model_transaction_policy":{"decoupled":false}}"#;
    assert_eq!((answer.status, answer.body.as_str()), (200, expected));
}
