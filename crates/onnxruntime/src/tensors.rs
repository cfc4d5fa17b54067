//! Between our tensors and the runtime's.

use coracle_model::{RunError, RunErrorKind};
use coracle_tensor::{ByteStrings, DType, Tensor, Values};
use ort::memory::Allocator;
use ort::session::SessionInputValue;
use ort::value::{
    DynValue, PrimitiveTensorElementType, Tensor as OrtTensor, TensorElementType, TensorRef,
};

/// Returns the datatype of elements, if it is one of ours.
pub(crate) fn dtype(element: TensorElementType) -> Option<DType> {
    Some(match element {
        TensorElementType::Bool => DType::Bool,
        TensorElementType::Uint8 => DType::U8,
        TensorElementType::Uint16 => DType::U16,
        TensorElementType::Uint32 => DType::U32,
        TensorElementType::Uint64 => DType::U64,
        TensorElementType::Int8 => DType::I8,
        TensorElementType::Int16 => DType::I16,
        TensorElementType::Int32 => DType::I32,
        TensorElementType::Int64 => DType::I64,
        TensorElementType::Float16 => DType::F16,
        TensorElementType::Bfloat16 => DType::BF16,
        TensorElementType::Float32 => DType::F32,
        TensorElementType::Float64 => DType::F64,
        TensorElementType::String => DType::Bytes,
        _ => return None,
    })
}

/// Lends a tensor to the runtime; texts are copied, and an empty tensor is made anew, since it has no address.
pub(crate) fn lent<'t>(tensor: &'t Tensor, name: &str) -> Result<SessionInputValue<'t>, RunError> {
    let shape = tensor.shape();
    let value = match tensor.values() {
        Values::Bool(items) => view(shape, items),
        Values::U8(items) => view(shape, items),
        Values::U16(items) => view(shape, items),
        Values::U32(items) => view(shape, items),
        Values::U64(items) => view(shape, items),
        Values::I8(items) => view(shape, items),
        Values::I16(items) => view(shape, items),
        Values::I32(items) => view(shape, items),
        Values::I64(items) => view(shape, items),
        Values::F16(items) => view(shape, items),
        Values::BF16(items) => view(shape, items),
        Values::F32(items) => view(shape, items),
        Values::F64(items) => view(shape, items),
        Values::Bytes(items) => {
            let texts = texts(items, name)?;
            OrtTensor::from_string_array((shape.to_vec(), texts.as_slice()))
                .map(SessionInputValue::from)
        }
    };
    value.map_err(|error| internal(format!("input \"{name}\": {}", error.message())))
}

fn view<'t, T: PrimitiveTensorElementType + std::fmt::Debug + Clone + 'static>(
    shape: &[usize],
    items: &'t [T],
) -> ort::Result<SessionInputValue<'t>> {
    if items.is_empty() {
        let empty = OrtTensor::<T>::new(&Allocator::default(), shape.to_vec())?;
        return Ok(SessionInputValue::from(empty));
    }
    let view = TensorRef::from_array_view((shape.to_vec(), items))?;
    Ok(SessionInputValue::from(view))
}

/// The runtime's texts are UTF-8 and end at a NUL.
fn texts(items: &ByteStrings, name: &str) -> Result<Vec<String>, RunError> {
    let texts = items.iter().enumerate().map(|(index, item)| {
        let text = str::from_utf8(item).ok();
        let text = text.filter(|text| !text.contains('\0'));
        text.map(str::to_owned).ok_or_else(|| {
            let message =
                format!("input \"{name}\": element {index} is no text; UTF-8 without NUL is taken");
            RunError::new(RunErrorKind::UnknownValue, message)
        })
    });
    texts.collect()
}

/// Copies what the runtime answered.
pub(crate) fn taken(value: &DynValue, name: &str) -> Result<Tensor, RunError> {
    let element = value.dtype().tensor_type();
    let Some(dtype) = element.and_then(dtype) else {
        let message = format!("output \"{name}\" is {}, no tensor", value.dtype());
        return Err(internal(message));
    };
    let copied = match dtype {
        DType::Bool => copied(value, Values::Bool),
        DType::U8 => copied(value, Values::U8),
        DType::U16 => copied(value, Values::U16),
        DType::U32 => copied(value, Values::U32),
        DType::U64 => copied(value, Values::U64),
        DType::I8 => copied(value, Values::I8),
        DType::I16 => copied(value, Values::I16),
        DType::I32 => copied(value, Values::I32),
        DType::I64 => copied(value, Values::I64),
        DType::F16 => copied(value, Values::F16),
        DType::BF16 => copied(value, Values::BF16),
        DType::F32 => copied(value, Values::F32),
        DType::F64 => copied(value, Values::F64),
        DType::Bytes => value
            .try_extract_strings()
            .map(|(shape, texts)| (shape.to_vec(), Values::Bytes(texts.iter().collect()))),
    };
    let (shape, values) =
        copied.map_err(|error| internal(format!("output \"{name}\": {}", error.message())))?;
    let shape: Result<Vec<usize>, _> = shape.into_iter().map(usize::try_from).collect();
    let shape = shape.map_err(|error| internal(format!("output \"{name}\": {error}")))?;
    Tensor::try_new(shape, values).map_err(|error| internal(format!("output \"{name}\": {error}")))
}

fn copied<T: PrimitiveTensorElementType + Clone, V: From<Vec<T>>>(
    value: &DynValue,
    values: impl Fn(V) -> Values,
) -> ort::Result<(Vec<i64>, Values)> {
    let (shape, items) = value.try_extract_tensor::<T>()?;
    Ok((shape.to_vec(), values(items.to_vec().into())))
}

pub(crate) fn internal(message: impl Into<String>) -> RunError {
    RunError::new(RunErrorKind::Internal, message)
}
