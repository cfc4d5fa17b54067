//! Between our tensors and the runtime's, which are of four datatypes.

use coracle_model::{RunError, RunErrorKind, TensorSpec};
use coracle_onnx::ELEMENTS_MAX;
use coracle_tensor::{DType, RANK_MAX, Tensor, Values, bounded_count, f16};
use rten::Value;
use rten_tensor::prelude::*;

/// Gives a tensor to the runtime.
///
/// # Errors
/// Kind `ValueOutOfRange` for an integer that 32 bits do not hold.
pub(crate) fn given(tensor: &Tensor, name: &str) -> Result<Value, RunError> {
    let shape = tensor.shape();
    let made = match tensor.values() {
        Values::F32(items) => Value::from_shape(shape, items.to_vec()).map_err(shown),
        Values::F16(items) => {
            let floats: Vec<f32> = items.iter().map(|item| item.to_f32()).collect();
            Value::from_shape(shape, floats).map_err(shown)
        }
        Values::I64(items) => {
            let narrow = items.iter().map(|&item| {
                i32::try_from(item).map_err(|_too_large| {
                    let message = format!(
                        "input \"{name}\": {item} is out of the range of 32 bits, which is what rten computes in"
                    );
                    RunError::new(RunErrorKind::ValueOutOfRange, message)
                })
            });
            let narrow = narrow.collect::<Result<Vec<i32>, _>>()?;
            Value::from_shape(shape, narrow).map_err(shown)
        }
        Values::I32(items) => Value::from_shape(shape, items.to_vec()).map_err(shown),
        Values::Bool(items) => {
            let narrow: Vec<i32> = items.iter().map(|&item| i32::from(item)).collect();
            Value::from_shape(shape, narrow).map_err(shown)
        }
        Values::I8(items) => Value::from_shape(shape, items.to_vec()).map_err(shown),
        Values::U8(items) => Value::from_shape(shape, items.to_vec()).map_err(shown),
        values => Err(format!("{} is not taken", values.dtype())),
    };
    made.map_err(|error| internal(format!("input \"{name}\": {error}")))
}

fn shown(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Returns what the runtime answered, in the datatype of the signature.
pub(crate) fn taken(value: Value, spec: &TensorSpec) -> Result<Tensor, RunError> {
    let name = &spec.name;
    let shape = value.shape().to_vec();
    if bounded_count(&shape, ELEMENTS_MAX).is_none() {
        let shown = shape.get(..RANK_MAX).unwrap_or(&shape);
        let message = format!(
            "output \"{name}\": a tensor of shape {shown:?} has more than {ELEMENTS_MAX} elements and lists, or more than {RANK_MAX} dimensions"
        );
        return Err(RunError::new(RunErrorKind::TooLarge, message));
    }
    let came = value.dtype();
    let values = match (value, spec.dtype) {
        (Value::FloatTensor(items), DType::F32) => Some(Values::F32(items.to_vec().into())),
        (Value::FloatTensor(items), DType::F16) => {
            let items = items.to_vec();
            Some(Values::F16(items.into_iter().map(f16::from_f32).collect()))
        }
        (Value::Int32Tensor(items), DType::I32) => Some(Values::I32(items.to_vec().into())),
        (Value::Int32Tensor(items), DType::I64) => {
            let items = items.to_vec();
            Some(Values::I64(items.into_iter().map(i64::from).collect()))
        }
        (Value::Int32Tensor(items), DType::Bool) => {
            let items = items.to_vec();
            Some(Values::Bool(
                items.into_iter().map(|item| item != 0).collect(),
            ))
        }
        (Value::Int8Tensor(items), DType::I8) => Some(Values::I8(items.to_vec().into())),
        (Value::UInt8Tensor(items), DType::U8) => Some(Values::U8(items.to_vec().into())),
        _ => None,
    };
    let values = values.ok_or_else(|| {
        let declared = spec.dtype;
        internal(format!(
            "output \"{name}\" is of {came:?}, the file declares {declared}"
        ))
    })?;
    Tensor::try_new(shape, values).map_err(|error| internal(format!("output \"{name}\": {error}")))
}

pub(crate) fn internal(message: impl Into<String>) -> RunError {
    RunError::new(RunErrorKind::Internal, message)
}
