//! Decodes bytes as a V1 request, against models with and without feature names.
#![no_main]

use coracle_model::{Signature, TensorSpec};
use coracle_protocol::{DecodeContext, NoRegions, v1};
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
            regions: &NoRegions,
        };
        if let Ok(call) = v1::decode_predict(body, &ctx) {
            assert_eq!(call.inputs[0].shape(), [call.n_rows, 2]);
            let mut out = Vec::new();
            v1::encode_predict(&signature, &call, &call.inputs, &mut out);
        }
    }
});
