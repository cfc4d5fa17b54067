//! Takes bytes for answers on their way through a flow of models.
#![no_main]

use coracle_fuzz::ELEMENTS_MAX;
use coracle_protocol::flow::{Dialect, Meta, as_request, average, request_meta, with_meta};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for dialect in [Dialect::Seldon, Dialect::V1, Dialect::V2] {
        if let Ok(request) = as_request(dialect, data, None) {
            assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&request).is_ok());
        }
        if let Ok(mean) = average(dialect, "node", &[data, data], ELEMENTS_MAX) {
            assert!(as_request(dialect, &mean, None).is_ok());
        }
    }
    let _request = as_request(Dialect::Grpc, data, None);
    if let Ok(mean) = average(Dialect::Grpc, "node", &[data, data], ELEMENTS_MAX) {
        assert!(as_request(Dialect::Grpc, &mean, None).is_ok());
    }
    if let Ok(asked) = request_meta(data) {
        let meta = Meta {
            asked: &asked,
            routing: &[("router", 1)],
            path: &["first", "second"],
        };
        if let Ok(answer) = with_meta(data, &meta) {
            assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&answer).is_ok());
        }
    }
});
