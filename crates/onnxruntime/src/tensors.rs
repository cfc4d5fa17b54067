//! Between our tensors and the runtime's.

use coracle_model::{RunError, RunErrorKind};
use coracle_onnx::ELEMENTS_MAX;
use coracle_tensor::{ByteStrings, DType, RANK_MAX, Tensor, Values, bounded_count};
use ort::memory::Allocator;
use ort::session::SessionInputValue;
use ort::value::{
    DynValue, PrimitiveTensorElementType, Tensor as OrtTensor, TensorElementType, TensorRef,
    ValueType,
};
use zerocopy::IntoBytes as _;

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

/// Whose the elements are that the runtime reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Elements {
    /// Ours.
    Lent,
    /// The runtime's own: the binding cannot keep what is lent to it beyond a call.
    Copied,
}

/// Gives a tensor to the runtime; texts are copied always, and an empty tensor is made anew, since it has no address.
pub(crate) fn given<'t>(
    tensor: &'t Tensor,
    name: &str,
    elements: Elements,
) -> Result<SessionInputValue<'t>, RunError> {
    let shape = tensor.shape();
    let value = match tensor.values() {
        Values::Bool(items) => value(shape, items, elements),
        Values::U8(items) => value(shape, items, elements),
        Values::U16(items) => value(shape, items, elements),
        Values::U32(items) => value(shape, items, elements),
        Values::U64(items) => value(shape, items, elements),
        Values::I8(items) => value(shape, items, elements),
        Values::I16(items) => value(shape, items, elements),
        Values::I32(items) => value(shape, items, elements),
        Values::I64(items) => value(shape, items, elements),
        Values::F16(items) => value(shape, items, elements),
        Values::BF16(items) => value(shape, items, elements),
        Values::F32(items) => value(shape, items, elements),
        Values::F64(items) => value(shape, items, elements),
        Values::Bytes(items) => {
            let texts = texts(items, name)?;
            OrtTensor::from_string_array((shape.to_vec(), texts.as_slice()))
                .map(SessionInputValue::from)
        }
    };
    value.map_err(|error| internal(format!("input \"{name}\": {}", error.message())))
}

/// Gives a tensor to the runtime for good.
pub(crate) fn kept(tensor: &Tensor, name: &str) -> Result<DynValue, RunError> {
    match given(tensor, name, Elements::Copied)? {
        SessionInputValue::Owned(value) => Ok(value),
        _ => Err(internal(format!("\"{name}\" was lent"))),
    }
}

fn value<'t, T: PrimitiveTensorElementType + std::fmt::Debug + Clone + 'static>(
    shape: &[usize],
    items: &'t [T],
    elements: Elements,
) -> ort::Result<SessionInputValue<'t>> {
    let shape = shape.to_vec();
    if items.is_empty() {
        let empty = OrtTensor::<T>::new(&Allocator::default(), shape)?;
        return Ok(SessionInputValue::from(empty));
    }
    Ok(match elements {
        Elements::Lent => SessionInputValue::from(TensorRef::from_array_view((shape, items))?),
        Elements::Copied => {
            SessionInputValue::from(OrtTensor::from_array((shape, items.to_vec()))?)
        }
    })
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
    if let ValueType::Tensor { shape, .. } = value.dtype() {
        bounded(shape, name)?;
    }
    let copied = match dtype {
        DType::Bool => value.try_extract_tensor::<bool>().map(|(shape, items)| {
            // Files may have any bytes where a truth value belongs, and the runtime passes them on.
            let bytes = items.as_bytes().iter();
            (
                shape.to_vec(),
                Values::Bool(bytes.map(|&byte| byte != 0).collect()),
            )
        }),
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

/// Refuses what has more elements than our own kernels would make, or is lists of nothing without end.
fn bounded(shape: &[i64], name: &str) -> Result<(), RunError> {
    let sizes = shape.iter().map(|&size| usize::try_from(size));
    let sizes: Result<Vec<usize>, _> = sizes.collect();
    if sizes.is_ok_and(|sizes| bounded_count(&sizes, ELEMENTS_MAX).is_some()) {
        return Ok(());
    }
    let shown = shape.get(..RANK_MAX).unwrap_or(shape);
    let message = format!(
        "output \"{name}\": a tensor of shape {shown:?} has more than {ELEMENTS_MAX} elements and lists, or more than {RANK_MAX} dimensions"
    );
    Err(RunError::new(RunErrorKind::TooLarge, message))
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
