//! Reads bytes as the JSON that maps, sequences and optional values come as; what is written of a tensor is read as it was.
#![no_main]

use coracle_onnx::{is_null, items_of_json, map_of_json, tensor_of_json};
use coracle_tensor::DType;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = is_null(bytes);
    for item in items_of_json(bytes).unwrap_or_default() {
        drop(tensor_of_json(item, DType::F32));
    }
    for dtype in [DType::F32, DType::F16, DType::I64, DType::U8, DType::Bool, DType::Bytes] {
        if let Ok(tensor) = tensor_of_json(bytes, dtype) {
            let n: usize = tensor.shape().iter().product();
            assert_eq!(tensor.values().len(), n);
            assert!(n <= bytes.len());
        }
        for key in [DType::I64, DType::Bytes] {
            if let Ok((keys, values)) = map_of_json(bytes, key, dtype) {
                assert_eq!(keys.len(), values.len());
            }
        }
    }
});
