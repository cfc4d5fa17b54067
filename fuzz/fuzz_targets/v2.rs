//! Decodes bytes as a V2 request, against models with and without feature names.
#![no_main]

use coracle_model::{Signature, TensorSpec};
use coracle_protocol::{DecodeContext, v2};
use coracle_tensor::DType;
use libfuzzer_sys::fuzz_target;

fn signature(columns: Option<Vec<String>>) -> Signature {
    let spec = |name: &str, shape| TensorSpec {
        name: name.to_owned(),
        dtype: DType::F64,
        shape,
        columns: None,
        accepts_missing: true,
    };
    Signature {
        inputs: vec![TensorSpec { columns, ..spec("X", vec![None, Some(2)]) }],
        outputs: vec![spec("predict", vec![None])],
        default_outputs: vec![0],
    }
}

fuzz_target!(|body: &[u8]| {
    for columns in [None, Some(vec!["a".to_owned(), "b".to_owned()])] {
        let signature = signature(columns);
        let ctx = DecodeContext {
            signature: &signature,
            default_outputs: &signature.default_outputs,
            method: None,
            elements_max: 10_000,
        };
        if let Ok(call) = v2::decode_infer(body, &ctx) {
            let mut out = Vec::new();
            v2::encode_infer("m", "1", &signature, &call, &call.inputs, &mut out);
        }
    }
});
