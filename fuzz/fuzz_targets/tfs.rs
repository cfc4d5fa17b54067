//! Decodes bytes as TensorFlow Serving's bodies and messages.
#![no_main]

use bytes::Bytes;
use coracle_base::Code;
use coracle_fuzz::each_signature;
use coracle_protocol::tfs::{self, Question};
use coracle_protocol::{RequestError, v1};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let message = Bytes::copy_from_slice(data);
    drop(tfs::read_version(&message));
    each_signature(
        |ctx| tfs::decode_predict_message(&message, ctx),
        |ctx, call| drop(tfs::encode_prediction(ctx, call, &call.inputs)),
    );
    let _request = tfs::graph_request(&message, (1 << 16, 1 << 16));
    let _n_bytes = tfs::predict_bytes(&message);
    let _answer = tfs::graph_answer(data, "graph", 1 << 16);
    let otherwise = || RequestError::new(Code::InvalidArgument, "no columns");
    each_signature(
        |ctx| tfs::decode_columns(data, ctx, otherwise()),
        |ctx, call| v1::encode_predict(ctx.signature, call, &call.inputs, &mut Vec::new()),
    );
    for question in [Question::Classify, Question::Regress] {
        each_signature(
            |ctx| tfs::decode_examples_message(&message, question, ctx),
            |ctx, call| drop(tfs::encode_classification(ctx, call, &call.inputs)),
        );
        each_signature(
            |ctx| tfs::decode_examples(data, question, ctx),
            |ctx, call| tfs::encode_classes(ctx, call, &call.inputs, &mut Vec::new()),
        );
    }
});
