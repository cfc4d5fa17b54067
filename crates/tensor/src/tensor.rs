//! Owned tensors: a shape and typed values, always of equal size.

use std::borrow::Cow;

use half::{bf16, f16};
use thiserror::Error;

use crate::{ByteStrings, DType, Elements};

/// The elements of a tensor, row-major.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each variant holds its datatype's elements")]
pub enum Values {
    Bool(Vec<bool>),
    U8(Elements<u8>),
    U16(Elements<u16>),
    U32(Elements<u32>),
    U64(Elements<u64>),
    I8(Elements<i8>),
    I16(Elements<i16>),
    I32(Elements<i32>),
    I64(Elements<i64>),
    F16(Elements<f16>),
    BF16(Elements<bf16>),
    F32(Elements<f32>),
    F64(Elements<f64>),
    Bytes(ByteStrings),
}

/// Applies one expression to the elements of every variant.
macro_rules! each {
    ($values:expr, $items:ident => $body:expr) => {
        match $values {
            Values::Bool($items) => $body,
            Values::U8($items) => $body,
            Values::U16($items) => $body,
            Values::U32($items) => $body,
            Values::U64($items) => $body,
            Values::I8($items) => $body,
            Values::I16($items) => $body,
            Values::I32($items) => $body,
            Values::I64($items) => $body,
            Values::F16($items) => $body,
            Values::BF16($items) => $body,
            Values::F32($items) => $body,
            Values::F64($items) => $body,
            Values::Bytes($items) => $body,
        }
    };
}

impl Values {
    /// Returns a copy of the elements in `range`; `None` if there are not so many.
    #[must_use]
    pub fn slice(&self, range: std::ops::Range<usize>) -> Option<Self> {
        crate::stack::slice_values(self, range)
    }

    /// Returns the number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        each!(self, items => items.len())
    }

    /// Tells whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the elements' datatype.
    #[must_use]
    pub fn dtype(&self) -> DType {
        match self {
            Self::Bool(_) => DType::Bool,
            Self::U8(_) => DType::U8,
            Self::U16(_) => DType::U16,
            Self::U32(_) => DType::U32,
            Self::U64(_) => DType::U64,
            Self::I8(_) => DType::I8,
            Self::I16(_) => DType::I16,
            Self::I32(_) => DType::I32,
            Self::I64(_) => DType::I64,
            Self::F16(_) => DType::F16,
            Self::BF16(_) => DType::BF16,
            Self::F32(_) => DType::F32,
            Self::F64(_) => DType::F64,
            Self::Bytes(_) => DType::Bytes,
        }
    }

    /// Returns the elements as doubles, borrowed where they are doubles already; `None` for strings.
    ///
    /// 64-bit integers beyond 2^53 are rounded to the nearest double.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "documented rounding")]
    pub fn to_f64s(&self) -> Option<Cow<'_, [f64]>> {
        fn widen<T: Copy>(items: &[T], widen: impl Fn(T) -> f64) -> Option<Cow<'_, [f64]>> {
            Some(Cow::Owned(items.iter().map(|&item| widen(item)).collect()))
        }
        match self {
            Self::Bool(items) => widen(items, |item| if item { 1.0 } else { 0.0 }),
            Self::U8(items) => widen(items, f64::from),
            Self::U16(items) => widen(items, f64::from),
            Self::U32(items) => widen(items, f64::from),
            Self::U64(items) => widen(items, |item| item as f64),
            Self::I8(items) => widen(items, f64::from),
            Self::I16(items) => widen(items, f64::from),
            Self::I32(items) => widen(items, f64::from),
            Self::I64(items) => widen(items, |item| item as f64),
            Self::F16(items) => widen(items, f64::from),
            Self::BF16(items) => widen(items, f64::from),
            Self::F32(items) => widen(items, f64::from),
            Self::F64(items) => Some(Cow::Borrowed(items)),
            Self::Bytes(_) => None,
        }
    }
}

/// A shape that does not fit its values.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("shape {shape:?} does not hold {n_values} values")]
pub struct ShapeError {
    shape: Vec<usize>,
    n_values: usize,
}

/// A dense tensor, row-major, whose shape always fits its values.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    values: Values,
}

impl Tensor {
    /// Returns a tensor of `shape` over `values`.
    ///
    /// # Errors
    /// [`ShapeError`] if the product of `shape` differs from the number of values.
    pub fn try_new(shape: Vec<usize>, values: Values) -> Result<Self, ShapeError> {
        let n_elements = shape
            .iter()
            .try_fold(1_usize, |product, &size| product.checked_mul(size));
        if n_elements == Some(values.len()) {
            Ok(Self { shape, values })
        } else {
            let n_values = values.len();
            Err(ShapeError { shape, n_values })
        }
    }

    /// Returns a one-dimensional tensor over `values`.
    #[must_use]
    pub fn from_values(values: Values) -> Self {
        Self {
            shape: vec![values.len()],
            values,
        }
    }

    /// Returns the size of each dimension.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Returns the elements, row-major.
    #[must_use]
    pub fn values(&self) -> &Values {
        &self.values
    }

    /// Returns the elements' datatype.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.values.dtype()
    }

    /// Returns the size of the first dimension; 1 for a scalar.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Returns the number of elements of a row; 0 if there are no rows.
    #[must_use]
    pub(crate) fn row_elements(&self) -> usize {
        // Not the product of the other dimensions, which is of any size where there are no rows.
        self.values.len().checked_div(self.n_rows()).unwrap_or(0)
    }

    /// Returns the tensor of a shape and of values that are known to fit it.
    pub(crate) fn of_parts(shape: Vec<usize>, values: Values) -> Self {
        Self { shape, values }
    }

    /// Takes the tensor apart into shape and values.
    #[must_use]
    pub fn into_parts(self) -> (Vec<usize>, Values) {
        (self.shape, self.values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shape_must_fit_values() {
        let values = || Values::F64(vec![1.0; 6].into());
        assert!(Tensor::try_new(vec![2, 3], values()).is_ok());
        assert!(Tensor::try_new(vec![], Values::F64(vec![1.0].into())).is_ok());
        let error = Tensor::try_new(vec![2, 4], values()).unwrap_err();
        assert_eq!(error.to_string(), "shape [2, 4] does not hold 6 values");
        assert!(Tensor::try_new(vec![usize::MAX, 2], values()).is_err());
    }

    #[test]
    fn every_number_widens_to_double() {
        let cases = [
            (Values::Bool(vec![true]), 1.0),
            (Values::I8(vec![-3].into()), -3.0),
            (Values::U64(vec![7].into()), 7.0),
            (Values::F16(vec![f16::from_f32(0.5)].into()), 0.5),
            (Values::BF16(vec![bf16::from_f32(2.0)].into()), 2.0),
            (Values::F32(vec![0.25].into()), 0.25),
        ];
        for (values, expected) in cases {
            assert_eq!(values.to_f64s().as_deref(), Some(&[expected][..]));
        }
        assert_eq!(Values::Bytes(ByteStrings::new()).to_f64s(), None);
    }
}
