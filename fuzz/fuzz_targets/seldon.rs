//! Decodes bytes as Seldon's messages and feedback.
#![no_main]

use coracle_fuzz::each_signature;
use coracle_protocol::seldon;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(feedback) = seldon::read_feedback(data) {
        assert!(feedback.reward.is_finite());
        seldon::encode_feedback(&feedback, &["a"], &mut Vec::new());
    }
    each_signature(
        |ctx| seldon::decode_message(data, ctx),
        |ctx, call| seldon::encode_message(ctx, call, &call.inputs, &mut Vec::new()),
    );
});
