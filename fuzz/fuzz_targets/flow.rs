//! Takes bytes for answers on their way through a flow of models.
#![no_main]

use bytes::Bytes;
use coracle_fuzz::ELEMENTS_MAX;
use coracle_protocol::flow::{
    Dialect, Meta, as_request, average, outputs, request_meta, take_wanted, with_meta,
};
use coracle_protocol::v2::{Forms, from_message, to_message};
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
    for dialect in [Dialect::Seldon, Dialect::V1, Dialect::V2, Dialect::Grpc] {
        let _compared = outputs(dialect, data, ELEMENTS_MAX);
    }
    let body = Bytes::copy_from_slice(data);
    let _wanted = take_wanted(&body);
    for json_length in [None, Some(data.len() / 2)] {
        if let Ok((message, _forms)) = to_message(&body, json_length, ELEMENTS_MAX) {
            assert!(take_wanted(&message).is_ok());
        }
    }
    if let Ok((answer, json_length)) = from_message(data, &Forms::default(), ELEMENTS_MAX) {
        assert!(json_length.is_none());
        assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&answer).is_ok());
    }
    if let Ok(asked) = request_meta(data) {
        let meta = Meta {
            asked: &asked,
            routing: &[("router", 1)],
            path: &["first", "second"],
            fallback: (data.len() % 2 == 1).then_some("constant"),
        };
        if let Ok(answer) = with_meta(data, &meta) {
            assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&answer).is_ok());
        }
    }
});
