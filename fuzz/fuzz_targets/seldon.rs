//! Decodes bytes as Seldon's messages.
#![no_main]

use coracle_fuzz::each_signature;
use coracle_protocol::seldon;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    each_signature(
        |ctx| seldon::decode_message(data, ctx),
        |ctx, call| seldon::encode_message(ctx, call, &call.inputs, &mut Vec::new()),
    );
});
