//! Decodes bytes as Seldon's messages and feedback.
#![no_main]

use bytes::Bytes;
use coracle_fuzz::each_signature;
use coracle_protocol::seldon;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(feedback) = seldon::read_feedback(data) {
        assert!(feedback.reward.is_finite());
        seldon::encode_feedback(&feedback, &["a"], &mut Vec::new());
    }
    let message = Bytes::copy_from_slice(data);
    if let Ok(json) = seldon::request_json(message.clone()) {
        assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&json).is_ok());
    }
    if let Ok(json) = seldon::feedback_json(message) {
        assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&json).is_ok());
    }
    let _answer = seldon::response_message(data);
    each_signature(
        |ctx| seldon::decode_message(data, ctx),
        |ctx, call| seldon::encode_message(ctx, call, &call.inputs, &mut Vec::new()),
    );
});
