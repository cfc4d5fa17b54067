//! Decodes bytes as a V1 request, against models of every kind of signature.
#![no_main]

use coracle_fuzz::each_signature;
use coracle_protocol::v1;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    each_signature(
        |ctx| v1::decode_predict(body, ctx),
        |ctx, call| {
            let mut out = Vec::new();
            v1::encode_predict(ctx.signature, call, &call.inputs, &mut out);
            serde_json::from_slice::<serde_json::Value>(&out).expect("answers are JSON");
        },
    );
    each_signature(
        |ctx| v1::decode_invocations(body, ctx),
        |ctx, call| {
            let mut out = Vec::new();
            v1::encode_invocations(ctx.signature, call, &call.inputs, &mut out);
            serde_json::from_slice::<serde_json::Value>(&out).expect("answers are JSON");
        },
    );
    each_signature(|ctx| v1::decode_csv(body, ctx), |_, _| ());
});
