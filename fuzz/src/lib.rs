//! What the targets of the wire formats share: models of every kind of signature to decode against.

use coracle_model::{ColumnPlace, NameRules, Signature, TensorSpec};
use coracle_protocol::{Call, DecodeContext, EncodeContext, NoRegions, RequestError};
use coracle_tensor::DType;

/// The most elements of a request.
pub const ELEMENTS_MAX: usize = 10_000;

fn spec(name: &str, dtype: DType, shape: &[Option<usize>]) -> TensorSpec {
    TensorSpec {
        name: name.to_owned(),
        dtype,
        shape: shape.to_vec(),
        columns: None,
        accepts_missing: true,
        accepts_integers: false,
    }
}

fn signature(inputs: Vec<TensorSpec>) -> Signature {
    Signature {
        inputs,
        outputs: vec![
            spec("predict", DType::F64, &[None]),
            spec("predict_proba", DType::F64, &[None, Some(2)]),
        ],
        default_outputs: vec![0],
        keyed_outputs: Vec::new(),
        keyed_inputs: Vec::new(),
        unranked_inputs: Vec::new(),
        name_rules: NameRules {
            underscores_may_be_blanks: true,
            mlflow_names_columns: true,
            mlflow_names_outputs: true,
        },
        columns: None,
    }
}

/// A table without names, one with names, columns of texts and numbers, two tensors.
#[must_use]
pub fn signatures() -> [Signature; 4] {
    let table = || spec("X", DType::F64, &[None, Some(2)]);
    let named = TensorSpec {
        columns: Some(["a", "b"].map(str::to_owned).to_vec()),
        ..table()
    };
    let mut mixed = signature(vec![
        spec("a", DType::Bytes, &[None]),
        spec("c", DType::F64, &[None]),
    ]);
    let places = [("a", Some(0)), ("b", None), ("c", Some(1))].map(|(name, input)| ColumnPlace {
        name: name.to_owned(),
        input,
    });
    mixed.columns = Some(places.to_vec());
    let two = vec![
        spec("p", DType::F32, &[None, Some(2)]),
        spec("q", DType::Bytes, &[None, Some(1)]),
    ];
    [
        signature(vec![table()]),
        signature(vec![named]),
        mixed,
        signature(two),
    ]
}

/// Decodes against every signature; what is accepted has the shape that it says, and is encoded.
///
/// # Panics
/// If it has not.
pub fn each_signature(
    decode: impl Fn(&DecodeContext<'_>) -> Result<Call, RequestError>,
    encode: impl Fn(&EncodeContext<'_>, &Call),
) {
    for signature in signatures() {
        let ctx = DecodeContext {
            signature: &signature,
            default_outputs: &signature.default_outputs,
            method: None,
            elements_max: ELEMENTS_MAX,
            filled_bytes_max: 8 * ELEMENTS_MAX,
            regions: &NoRegions,
        };
        let Ok(call) = decode(&ctx) else {
            continue;
        };
        assert_eq!(call.inputs.len(), signature.inputs.len());
        for input in &call.inputs {
            let n_elements: usize = input.shape().iter().product();
            assert_eq!(input.values().len(), n_elements);
            assert!(n_elements <= ELEMENTS_MAX);
        }
        let ctx = EncodeContext {
            model_name: "m",
            model_version: "1",
            signature: &signature,
            regions: &NoRegions,
        };
        encode(&ctx, &call);
    }
}
