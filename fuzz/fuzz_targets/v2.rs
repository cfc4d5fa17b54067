//! Decodes bytes as a V2 request, JSON alone or with raw tensor data after it, and as the bodies of Triton's extensions.
#![no_main]

use bytes::Bytes;
use coracle_fuzz::each_signature;
use coracle_protocol::v2;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // The first two bytes say how much of the rest is JSON.
    let Some((length, body)) = data.split_first_chunk::<2>() else {
        return;
    };
    let length = usize::from(u16::from_le_bytes(*length));
    let whole = Bytes::copy_from_slice(body);
    for json_length in [None, Some(length)] {
        each_signature(
            |ctx| v2::decode_infer(&whole, json_length, ctx),
            |ctx, call| {
                let mut out = Vec::new();
                drop(v2::encode_infer(ctx, call, &call.inputs, &mut out));
            },
        );
    }
    drop(v2::RegisterRegion::decode(body));
    drop(v2::decode_index(body));
    drop(v2::check_load(body));
});
