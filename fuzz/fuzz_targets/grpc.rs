//! Decodes bytes as gRPC's framing and as a ModelInferRequest.
#![no_main]

use bytes::Bytes;
use coracle_fuzz::each_signature;
use coracle_protocol::grpc::{self, Compression, FrameHead, InferHead};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some((prefix, rest)) = data.split_first_chunk()
        && let Ok(head) = FrameHead::read(*prefix, 10_000)
    {
        assert!(head.length <= 10_000);
        drop(Compression::Gzip.expand(rest, 10_000));
        drop(Compression::Deflate.expand(rest, 10_000));
    }
    let message = Bytes::copy_from_slice(data);
    drop(InferHead::read(&message));
    each_signature(
        |ctx| grpc::decode_infer(&message, ctx),
        |ctx, call| {
            if let Ok(framed) = grpc::encode_infer(ctx, call, &call.inputs) {
                grpc::stream_response(framed, &[]).expect("what is written is read");
            }
        },
    );
});
