//! Elements of any datatype: picking, joining, and shapes.

use coracle_model::RunError;
use coracle_tensor::{ByteStrings, DType, RANK_MAX, Tensor, Values, bf16, bounded_count, f16};

use crate::error::{internal, shape_error, too_large};

/// The most elements of a tensor that an operator may make.
pub const ELEMENTS_MAX: usize = 1 << 26;

/// Applies one expression to the elements of every variant but strings, which have their own.
macro_rules! map_values {
    ($values:expr, $items:ident => $body:expr, $texts:ident => $text_body:expr) => {
        match $values {
            Values::Bool($items) => Values::Bool($body),
            Values::U8($items) => Values::U8($body),
            Values::U16($items) => Values::U16($body),
            Values::U32($items) => Values::U32($body),
            Values::U64($items) => Values::U64($body),
            Values::I8($items) => Values::I8($body),
            Values::I16($items) => Values::I16($body),
            Values::I32($items) => Values::I32($body),
            Values::I64($items) => Values::I64($body),
            Values::F16($items) => Values::F16($body),
            Values::BF16($items) => Values::BF16($body),
            Values::F32($items) => Values::F32($body),
            Values::F64($items) => Values::F64($body),
            Values::Bytes($texts) => Values::Bytes($text_body),
        }
    };
}

/// Returns the number of elements of a shape.
///
/// # Errors
/// Kind `TooLarge` beyond [`ELEMENTS_MAX`], or beyond [`RANK_MAX`] dimensions.
pub(crate) fn n_elements(shape: &[usize]) -> Result<usize, RunError> {
    bounded_count(shape, ELEMENTS_MAX).ok_or_else(|| {
        let shown = &shape[..shape.len().min(RANK_MAX)];
        too_large(format!(
            "a tensor of shape {shown:?} would have more than {ELEMENTS_MAX} elements and lists, or more than {RANK_MAX} dimensions"
        ))
    })
}

/// Returns a tensor of this shape.
///
/// # Errors
/// As [`n_elements`].
pub(crate) fn tensor(shape: Vec<usize>, values: Values) -> Result<Tensor, RunError> {
    n_elements(&shape)?;
    Tensor::try_new(shape, values).map_err(|error| internal(error.to_string()))
}

/// Returns the elements at `indices`.
///
/// # Panics
/// If an index is beyond the elements.
pub(crate) fn pick(values: &Values, indices: &[usize]) -> Values {
    map_values!(values,
        items => indices.iter().map(|&index| items[index]).collect(),
        texts => {
            let mut picked = ByteStrings::new();
            for &index in indices {
                picked.push_optional(texts.get_present(index));
            }
            picked
        }
    )
}

fn copied<T: Copy, C: FromIterator<T>>(items: &[T]) -> C {
    items.iter().copied().collect()
}

/// Returns the elements from `first` to `last` (excluded).
pub(crate) fn range(values: &Values, first: usize, last: usize) -> Values {
    map_values!(values,
        items => copied(&items[first..last]),
        texts => {
            let mut picked = ByteStrings::new();
            for index in first..last {
                picked.push_optional(texts.get_present(index));
            }
            picked
        }
    )
}

/// Appends elements of the same datatype; `false` where the datatypes differ.
pub(crate) fn append(all: &mut Values, more: &Values, first: usize, last: usize) -> bool {
    macro_rules! same {
        ($($variant:ident),*) => {
            match (all, more) {
                $((Values::$variant(all), Values::$variant(more)) => all.extend(&more[first..last]),)*
                (Values::Bytes(all), Values::Bytes(more)) => {
                    for index in first..last {
                        all.push_optional(more.get_present(index));
                    }
                }
                _ => return false,
            }
        };
    }
    same!(
        Bool, U8, U16, U32, U64, I8, I16, I32, I64, F16, BF16, F32, F64
    );
    true
}

/// Returns `n` times the default of a datatype: zero, false, the empty string.
pub(crate) fn zeros(dtype: DType, n: usize) -> Values {
    match dtype {
        DType::Bool => Values::Bool(vec![false; n]),
        DType::U8 => Values::U8(vec![0; n].into()),
        DType::U16 => Values::U16(vec![0; n].into()),
        DType::U32 => Values::U32(vec![0; n].into()),
        DType::U64 => Values::U64(vec![0; n].into()),
        DType::I8 => Values::I8(vec![0; n].into()),
        DType::I16 => Values::I16(vec![0; n].into()),
        DType::I32 => Values::I32(vec![0; n].into()),
        DType::I64 => Values::I64(vec![0; n].into()),
        DType::F16 => Values::F16(vec![f16::ZERO; n].into()),
        DType::BF16 => Values::BF16(vec![bf16::ZERO; n].into()),
        DType::F32 => Values::F32(vec![0.0; n].into()),
        DType::F64 => Values::F64(vec![0.0; n].into()),
        DType::Bytes => Values::Bytes(std::iter::repeat_n("", n).collect()),
    }
}

/// Returns how far apart neighbours in each dimension are.
pub(crate) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (0..shape.len().saturating_sub(1)).rev() {
        strides[axis] = strides[axis + 1] * shape[axis + 1];
    }
    strides
}

/// Returns the shape that two shapes are both stretched to.
pub(crate) fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>, RunError> {
    let rank = a.len().max(b.len());
    let size = |shape: &[usize], axis: usize| {
        (axis + shape.len())
            .checked_sub(rank)
            .map_or(1, |axis| shape[axis])
    };
    let sizes = (0..rank).map(|axis| match (size(a, axis), size(b, axis)) {
        (a, b) if a == b => Ok(a),
        (1, size) | (size, 1) => Ok(size),
        _ => Err(shape_error(format!(
            "shapes {a:?} and {b:?} cannot be brought to one"
        ))),
    });
    sizes.collect()
}

/// Visits, for each element of `shape` in order, the place of the element of a tensor of shape `from` that is stretched to it.
pub(crate) fn stretched(shape: &[usize], from: &[usize]) -> Vec<usize> {
    let rank = shape.len();
    let own = strides(from);
    let steps: Vec<usize> = (0..rank)
        .map(|axis| match (axis + from.len()).checked_sub(rank) {
            Some(axis) if from[axis] != 1 => own[axis],
            _ => 0,
        })
        .collect();
    walk(shape, &steps, 0)
}

/// Returns the places visited by counting through `shape`, where a step along each axis moves by `steps`.
pub(crate) fn walk(shape: &[usize], steps: &[usize], start: usize) -> Vec<usize> {
    let n: usize = shape.iter().product();
    let mut places = Vec::with_capacity(n);
    let mut counter = vec![0; shape.len()];
    let mut place = start;
    for _ in 0..n {
        places.push(place);
        for axis in (0..shape.len()).rev() {
            counter[axis] += 1;
            place += steps[axis];
            if counter[axis] < shape[axis] {
                break;
            }
            place -= steps[axis] * shape[axis];
            counter[axis] = 0;
        }
    }
    places
}

/// Returns an axis counted from the front; negative ones count from the end.
pub(crate) fn axis(axis: i64, rank: usize) -> Result<usize, RunError> {
    let signed = i64::try_from(rank).unwrap_or(i64::MAX);
    let from_front = if axis < 0 { axis + signed } else { axis };
    let index = usize::try_from(from_front)
        .ok()
        .filter(|&index| index < rank);
    index.ok_or_else(|| shape_error(format!("axis {axis} of {rank} dimensions")))
}

/// Returns the sizes before an axis, of it, and after it, multiplied.
pub(crate) fn around(shape: &[usize], axis: usize) -> (usize, usize, usize) {
    let before = shape[..axis].iter().product();
    let after = shape[axis + 1..].iter().product();
    (before, shape[axis], after)
}

/// Returns integers of any datatype of them as 64-bit ones.
pub(crate) fn to_i64s(tensor: &Tensor) -> Result<Vec<i64>, RunError> {
    match tensor.values() {
        Values::I64(values) => Ok(values.to_vec()),
        Values::I32(values) => Ok(values.iter().map(|&value| i64::from(value)).collect()),
        other => Err(crate::error::dtype_error(format!(
            "integers are needed, got {}",
            other.dtype()
        ))),
    }
}

/// Returns numbers as doubles.
pub(crate) fn to_f64s(tensor: &Tensor) -> Result<std::borrow::Cow<'_, [f64]>, RunError> {
    tensor
        .values()
        .to_f64s()
        .ok_or_else(|| crate::error::dtype_error("numbers are needed, got strings"))
}

/// Returns numbers as doubles that are told apart as the numbers are.
///
/// # Errors
/// Kind `ValueOutOfRange` for 64-bit integers beyond 2^53.
pub(crate) fn exact_f64s(tensor: &Tensor) -> Result<std::borrow::Cow<'_, [f64]>, RunError> {
    const EXACT_MAX: u64 = 1 << 53;
    let is_exact = match tensor.values() {
        Values::I64(items) => items.iter().all(|item| item.unsigned_abs() <= EXACT_MAX),
        Values::U64(items) => items.iter().all(|&item| item <= EXACT_MAX),
        _ => true,
    };
    if is_exact {
        return to_f64s(tensor);
    }
    Err(crate::error::value_error(
        "integers beyond 2^53 are not compared here",
    ))
}

/// Returns numbers as singles, as the operators of `ai.onnx.ml` read them.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "rounding is the point"
)]
pub(crate) fn to_f32s(tensor: &Tensor) -> Result<std::borrow::Cow<'_, [f32]>, RunError> {
    use std::borrow::Cow;
    Ok(match tensor.values() {
        Values::F32(values) => Cow::Borrowed(values.as_slice()),
        Values::I64(values) => Cow::Owned(values.iter().map(|&value| value as f32).collect()),
        Values::I32(values) => Cow::Owned(values.iter().map(|&value| value as f32).collect()),
        _ => Cow::Owned(to_f64s(tensor)?.iter().map(|&value| value as f32).collect()),
    })
}

/// Returns the rows and columns of a table: one dimension is one row.
pub(crate) fn table(shape: &[usize]) -> Result<(usize, usize), RunError> {
    match shape {
        [n_columns] => Ok((1, *n_columns)),
        [n_rows, inner @ ..] if !inner.is_empty() => Ok((*n_rows, inner.iter().product())),
        _ => Err(shape_error("a scalar where rows are needed")),
    }
}
