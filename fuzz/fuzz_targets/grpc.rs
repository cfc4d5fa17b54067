//! Decodes bytes as gRPC's framing, a ModelInferRequest, TensorFlow Serving's requests and compressed data.
#![no_main]

use bytes::Bytes;
use coracle_base::Code;
use coracle_model::{Signature, TensorSpec};
use coracle_protocol::grpc::{self, Compression, FrameHead, InferHead};
use coracle_protocol::compression::{Encoding, expand};
use coracle_protocol::tfs::{self, Question};
use coracle_protocol::{DecodeContext, EncodeContext, NoRegions, RequestError};
use coracle_tensor::DType;
use libfuzzer_sys::fuzz_target;

fn signature() -> Signature {
    let spec = |name: &str, shape| TensorSpec {
        name: name.to_owned(),
        dtype: DType::F64,
        shape,
        columns: None,
        accepts_missing: true,
        accepts_integers: false,
    };
    Signature {
        inputs: vec![spec("X", vec![None, Some(2)])],
        outputs: vec![spec("predict", vec![None])],
        default_outputs: vec![0],
        columns: None,
    }
}

fuzz_target!(|data: &[u8]| {
    if let Some((prefix, rest)) = data.split_first_chunk() {
        drop(FrameHead::read(*prefix, 10_000));
        drop(Compression::Gzip.expand(rest, 10_000));
        drop(Compression::Deflate.expand(rest, 10_000));
        drop(expand(Encoding::Brotli, rest, 10_000));
        drop(expand(Encoding::Zstd, rest, 10_000));
    }
    let signature = signature();
    let ctx = DecodeContext {
        signature: &signature,
        default_outputs: &signature.default_outputs,
        method: None,
        elements_max: 10_000,
        regions: &NoRegions,
    };
    let message = Bytes::copy_from_slice(data);
    drop(InferHead::read(&message));
    drop(tfs::decode_predict_message(&message, &ctx));
    for question in [Question::Classify, Question::Regress] {
        drop(tfs::decode_examples_message(&message, question, &ctx));
        drop(tfs::decode_examples(data, question, &ctx));
    }
    let otherwise = RequestError::new(Code::InvalidArgument, "no columns");
    drop(tfs::decode_columns(data, &ctx, otherwise));
    if let Ok(call) = grpc::decode_infer(&message, &ctx) {
        let ctx = EncodeContext {
            model_name: "m",
            model_version: "1",
            signature: &signature,
            regions: &NoRegions,
        };
        drop(grpc::encode_infer(&ctx, &call, &call.inputs));
    }
});
