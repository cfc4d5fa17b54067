//! Loads bytes as an ONNX file and runs what comes of it; and looks through them as is done for an engine.
#![no_main]

use coracle_base::ManualClock;
use coracle_formats::{LoadOptions, load_bytes};
use coracle_tensor::{ByteStrings, DType, Tensor, Values};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // Without its first bytes a file would be taken for another kind.
    let mut file = vec![0x08, 8];
    file.extend_from_slice(bytes);
    drop(coracle_onnx::survey(&file));
    drop(coracle_onnx::large_weights(&file, 8));
    drop(coracle_onnx::with_portable_locale(&file));
    drop(coracle_onnx::with_safe_divisions(&file));
    drop(coracle_onnx::as_served(&file));
    let nowhere = |_: &str, _: u64, _: Option<u64>| {
        Err(coracle_model::LoadError::new(coracle_model::LoadErrorKind::Unsupported, "elsewhere"))
    };
    drop(coracle_onnx::outline(&file, &nowhere));
    let Ok(loaded) = load_bytes(&file, &LoadOptions::default(), &ManualClock::new()) else {
        return;
    };
    let signature = loaded.model.signature();
    let mut inputs = Vec::new();
    for spec in &signature.inputs {
        let shape: Vec<usize> = spec.shape.iter().map(|size| size.unwrap_or(3)).collect();
        let n = shape
            .iter()
            .try_fold(1_usize, |n, &size| n.checked_mul(size));
        let Some(n) = n.filter(|&n| n < 1 << 16) else {
            return;
        };
        let values = match spec.dtype {
            DType::Bytes => Values::Bytes(std::iter::repeat_n("a b", n).collect::<ByteStrings>()),
            _ => Values::F64(vec![1.0; n].into()),
        };
        inputs.push(Tensor::try_new(shape, values).expect("the shape fits"));
    }
    let outputs: Vec<usize> = (0..signature.outputs.len()).collect();
    drop(loaded.model.run(&inputs, &outputs));
});
