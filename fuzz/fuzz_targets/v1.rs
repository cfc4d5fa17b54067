//! Decodes bytes as a V1 request, against models with and without feature names.
#![no_main]

use coracle_model::{ColumnPlace, Signature, TensorSpec};
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
        accepts_integers: false,
    };
    Signature {
        inputs: vec![TensorSpec { columns, ..spec("X", vec![None, Some(2)]) }],
        outputs: vec![spec("predict", vec![None])],
        default_outputs: vec![0],
        columns: None,
    }
}

/// A column of texts, one that is not read, a column of numbers.
fn columns() -> Signature {
    let mut signature = signature(None);
    let column = |name: &str, dtype| TensorSpec {
        name: name.to_owned(),
        dtype,
        shape: vec![None],
        columns: None,
        accepts_missing: true,
        accepts_integers: false,
    };
    signature.inputs = vec![column("a", DType::Bytes), column("c", DType::F64)];
    let places = [("a", Some(0)), ("b", None), ("c", Some(1))].map(|(name, input)| ColumnPlace {
        name: name.to_owned(),
        input,
    });
    signature.columns = Some(places.to_vec());
    signature
}

fuzz_target!(|body: &[u8]| {
    let names = vec!["a".to_owned(), "b".to_owned()];
    for signature in [signature(None), signature(Some(names)), columns()] {
        let ctx = DecodeContext {
            signature: &signature,
            default_outputs: &signature.default_outputs,
            method: None,
            elements_max: 10_000,
            regions: &NoRegions,
        };
        if let Ok(call) = v1::decode_predict(body, &ctx) {
            match &signature.columns {
                None => assert_eq!(call.inputs[0].shape(), [call.n_rows, 2]),
                Some(_) => assert!(call.inputs.iter().all(|input| input.shape() == [call.n_rows])),
            }
            let mut out = Vec::new();
            v1::encode_predict(&signature, &call, &call.inputs, &mut out);
        }
    }
});
