//! Tensors put together along their first dimension, and taken apart again.

use std::ops::Range;

use crate::{ByteStrings, Tensor, Values};

/// Returns one tensor with the rows of all `parts`, in order; `None` if there are none, or if they differ in datatype or in
/// any dimension but the first, or have no first dimension.
#[must_use]
pub fn stack(parts: &[&Tensor]) -> Option<Tensor> {
    let (first, rest) = parts.split_first()?;
    let (_, inner) = first.shape().split_first()?;
    let is_alike = |part: &&Tensor| {
        part.dtype() == first.dtype()
            && part.shape().split_first().map(|(_, inner)| inner) == Some(inner)
    };
    if !rest.iter().all(is_alike) {
        return None;
    }
    let n_rows = parts
        .iter()
        .try_fold(0_usize, |sum, part| sum.checked_add(part.n_rows()))?;
    let mut shape = first.shape().to_vec();
    *shape.first_mut()? = n_rows;
    Tensor::try_new(shape, stack_values(parts)?).ok()
}

macro_rules! numbers {
    ($parts:expr, $variant:ident) => {{
        let slices = $parts.iter().map(|part| match part.values() {
            Values::$variant(items) => Some(items.as_slice()),
            _ => None,
        });
        Values::$variant(slices.collect::<Option<Vec<_>>>()?.concat().into())
    }};
}

fn stack_values(parts: &[&Tensor]) -> Option<Values> {
    let (first, _) = parts.split_first()?;
    Some(match first.values() {
        Values::Bool(_) => numbers!(parts, Bool),
        Values::U8(_) => numbers!(parts, U8),
        Values::U16(_) => numbers!(parts, U16),
        Values::U32(_) => numbers!(parts, U32),
        Values::U64(_) => numbers!(parts, U64),
        Values::I8(_) => numbers!(parts, I8),
        Values::I16(_) => numbers!(parts, I16),
        Values::I32(_) => numbers!(parts, I32),
        Values::I64(_) => numbers!(parts, I64),
        Values::F16(_) => numbers!(parts, F16),
        Values::BF16(_) => numbers!(parts, BF16),
        Values::F32(_) => numbers!(parts, F32),
        Values::F64(_) => numbers!(parts, F64),
        Values::Bytes(_) => {
            let mut all = ByteStrings::new();
            for part in parts {
                let Values::Bytes(strings) = part.values() else {
                    return None;
                };
                for index in 0..strings.len() {
                    all.push_optional(strings.get_present(index));
                }
            }
            Values::Bytes(all)
        }
    })
}

/// Takes a tensor apart into one of each number of rows, in order; `None` unless its first dimension is as large as all of
/// them together.
#[must_use]
pub fn split(tensor: Tensor, rows: &[usize]) -> Option<Vec<Tensor>> {
    let n_rows = rows
        .iter()
        .try_fold(0_usize, |sum, n_rows| sum.checked_add(*n_rows))?;
    let row_elements = tensor.row_elements();
    let (shape, values) = tensor.into_parts();
    if *shape.first()? != n_rows {
        return None;
    }
    let mut start = 0;
    let parts = rows.iter().map(|&n_rows| {
        let end = start + n_rows * row_elements;
        let part = slice_values(&values, start..end)?;
        start = end;
        let mut shape = shape.clone();
        *shape.first_mut()? = n_rows;
        Tensor::try_new(shape, part).ok()
    });
    parts.collect()
}

/// Applies one expression to the numbers of every variant, which gives such numbers, and another to truth values and strings.
macro_rules! map_numbers {
    ($values:expr, $items:ident => $numbers:expr, $others:ident => $rest:expr) => {
        match $values {
            Values::U8($items) => Values::U8($numbers),
            Values::U16($items) => Values::U16($numbers),
            Values::U32($items) => Values::U32($numbers),
            Values::U64($items) => Values::U64($numbers),
            Values::I8($items) => Values::I8($numbers),
            Values::I16($items) => Values::I16($numbers),
            Values::I32($items) => Values::I32($numbers),
            Values::I64($items) => Values::I64($numbers),
            Values::F16($items) => Values::F16($numbers),
            Values::BF16($items) => Values::BF16($numbers),
            Values::F32($items) => Values::F32($numbers),
            Values::F64($items) => Values::F64($numbers),
            $others @ (Values::Bool(_) | Values::Bytes(_)) => $rest,
        }
    };
}

/// Returns a copy of the elements in `range`; `None` if there are not so many.
pub(crate) fn slice_values(values: &Values, range: Range<usize>) -> Option<Values> {
    Some(map_numbers!(values,
        items => items.get(range)?.to_vec().into(),
        others => slice_others(others, range)?))
}

/// Returns the elements in `range`, which share a buffer with `values` where those are numbers that stand in one.
fn share_values(values: &Values, range: Range<usize>) -> Option<Values> {
    Some(map_numbers!(values,
        items => items.range(range)?,
        others => slice_others(others, range)?))
}

fn slice_others(values: &Values, range: Range<usize>) -> Option<Values> {
    match values {
        Values::Bool(items) => Some(Values::Bool(items.get(range)?.to_vec())),
        Values::Bytes(strings) => {
            let mut part = ByteStrings::new();
            for index in range {
                strings.get(index)?;
                part.push_optional(strings.get_present(index));
            }
            Some(Values::Bytes(part))
        }
        _ => None,
    }
}

impl Tensor {
    /// Returns the same tensor, whose numbers others may hold too, without a copy: [`Tensor::rows`] then takes none either.
    #[must_use]
    pub fn into_shared(self) -> Self {
        let (shape, values) = self.into_parts();
        let values = map_numbers!(values, items => items.into_shared(), others => others);
        Self::of_parts(shape, values)
    }

    /// Returns the rows in `range`, which share a buffer with this tensor where its numbers stand in one; `None` if there are not
    /// so many, or no first dimension.
    #[must_use]
    pub fn rows(&self, range: Range<usize>) -> Option<Self> {
        let n_rows = *self.shape().first()?;
        if range.start > range.end || range.end > n_rows {
            return None;
        }
        let row_elements = self.row_elements();
        let elements = range.start * row_elements..range.end * row_elements;
        let mut shape = self.shape().to_vec();
        *shape.first_mut()? = range.len();
        let values = share_values(self.values(), elements)?;
        Self::try_new(shape, values).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(shape: &[usize], values: &[f64]) -> Tensor {
        Tensor::try_new(shape.to_vec(), Values::F64(values.to_vec().into())).unwrap()
    }

    fn texts(texts: &[Option<&str>]) -> Tensor {
        let mut strings = ByteStrings::new();
        for text in texts {
            strings.push_optional(text.map(str::as_bytes));
        }
        Tensor::from_values(Values::Bytes(strings))
    }

    #[test]
    fn what_is_put_together_comes_apart_again() {
        let parts = [
            numbers(&[1, 2], &[1.0, 2.0]),
            numbers(&[0, 2], &[]),
            numbers(&[2, 2], &[3.0, f64::NAN, -0.0, 6.0]),
        ];
        let all = stack(&parts.iter().collect::<Vec<_>>()).unwrap();
        assert_eq!(all.shape(), [3, 2]);
        let back = split(all, &[1, 0, 2]).unwrap();
        // Shown, because NaN is not equal to itself and -0.0 is to 0.0.
        assert_eq!(format!("{back:?}"), format!("{parts:?}"));
        let parts = [texts(&[Some("a"), None]), texts(&[Some("")])];
        let all = stack(&[&parts[0], &parts[1]]).unwrap();
        assert_eq!(split(all, &[2, 1]).unwrap(), parts);
    }

    #[test]
    fn what_differs_is_not_put_together() {
        let row = numbers(&[1, 2], &[1.0, 2.0]);
        assert!(stack(&[]).is_none());
        assert!(stack(&[&row, &numbers(&[1, 3], &[0.0; 3])]).is_none());
        assert!(stack(&[&row, &numbers(&[2], &[0.0; 2])]).is_none());
        let scalar = numbers(&[], &[1.0]);
        assert!(stack(&[&scalar, &scalar]).is_none());
        let single = Tensor::try_new(vec![1, 2], Values::F32(vec![1.0, 2.0].into())).unwrap();
        assert!(stack(&[&row, &single]).is_none());
    }

    #[test]
    fn rows_of_what_is_shared_are_no_copies() {
        let own = numbers(&[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let shared = own.clone().into_shared();
        assert_eq!(shared, own);
        for tensor in [&own, &shared] {
            let part = tensor.rows(1..3).unwrap();
            assert_eq!(part, numbers(&[2, 2], &[3.0, 4.0, 5.0, 6.0]));
            assert_eq!(tensor.rows(1..1).unwrap().shape(), [0, 2]);
            assert!(tensor.rows(2..4).is_none());
        }
        let (Values::F64(all), Some(part)) = (shared.values(), shared.rows(1..2)) else {
            panic!("doubles");
        };
        let Values::F64(part) = part.values() else {
            panic!("doubles");
        };
        assert_eq!(part.as_ptr(), all[2..].as_ptr());
        let words = texts(&[Some("a"), None, Some("c")]).into_shared();
        assert_eq!(words.rows(1..3).unwrap(), texts(&[None, Some("c")]));
        let flags = Tensor::from_values(Values::Bool(vec![true, false])).into_shared();
        assert_eq!(
            flags.rows(1..2).unwrap().values(),
            &Values::Bool(vec![false])
        );
        assert!(numbers(&[], &[1.0]).rows(0..1).is_none());
    }

    #[test]
    fn a_slice_is_a_copy_of_what_is_there() {
        let values = numbers(&[3], &[1.0, 2.0, 3.0]);
        let part = values.values().slice(1..3).unwrap();
        assert_eq!(part, Values::F64(vec![2.0, 3.0].into()));
        assert!(values.values().slice(2..4).is_none());
        let words = texts(&[Some("a"), None]);
        assert!(words.values().slice(1..2).is_some() && words.values().slice(1..3).is_none());
    }

    #[test]
    fn no_rows_of_any_width_are_taken_apart() {
        let wide = numbers(&[0, 1 << 40, 1 << 40], &[]);
        assert_eq!(wide.rows(0..0).as_ref(), Some(&wide));
        assert_eq!(split(wide.clone(), &[0, 0]), Some(vec![wide.clone(), wide]));
    }

    #[test]
    fn a_result_of_other_rows_is_not_taken_apart() {
        assert!(split(numbers(&[3], &[1.0; 3]), &[1, 1]).is_none());
        assert!(split(numbers(&[], &[1.0]), &[1]).is_none());
        assert!(split(numbers(&[1], &[1.0]), &[usize::MAX, 2]).is_none());
    }
}
