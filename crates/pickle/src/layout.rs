//! Bytes of arrays, brought to little-endian and C order.

use crate::{DTypeKind, NumpyDType};

/// Copies items into C order.
///
/// `shape` is the result's, `strides` says by how many items a step along each of its axes moves in
/// `data`. `None` where that leaves `data`.
pub(crate) fn gather(
    data: &[u8],
    item_size: usize,
    shape: &[usize],
    strides: &[usize],
) -> Option<Vec<u8>> {
    let mut gathered = Vec::with_capacity(data.len());
    let n_items = crate::array::product(shape)?;
    let mut position = vec![0_usize; shape.len()];
    let mut item = 0_usize;
    for _ in 0..n_items {
        let start = item.checked_mul(item_size)?;
        gathered.extend_from_slice(data.get(start..start.checked_add(item_size)?)?);
        let axes = position.iter_mut().zip(shape).zip(strides).rev();
        for ((step, length), stride) in axes {
            *step = step.checked_add(1)?;
            item = item.checked_add(*stride)?;
            if *step < *length {
                break;
            }
            *step = 0;
            item = item.checked_sub(length.checked_mul(*stride)?)?;
        }
    }
    Some(gathered)
}

/// Returns the strides, in items, of an array whose first axis is the fastest.
pub(crate) fn fortran_strides(shape: &[usize]) -> Option<Vec<usize>> {
    let mut stride = 1_usize;
    shape
        .iter()
        .map(|length| {
            let current = stride;
            stride = stride.checked_mul(*length)?;
            Some(current)
        })
        .collect()
}

/// Returns the strides, in items, of an array whose last axis is the fastest.
pub(crate) fn c_strides(shape: &[usize]) -> Option<Vec<usize>> {
    let reversed: Vec<usize> = shape.iter().rev().copied().collect();
    let mut strides = fortran_strides(&reversed)?;
    strides.reverse();
    Some(strides)
}

/// Says whether C and Fortran order are the same for this shape: at most one axis has several places.
pub(crate) fn is_order_free(shape: &[usize]) -> bool {
    shape.iter().filter(|length| **length != 1).count() <= 1 || shape.contains(&0)
}

/// Turns big-endian items around, in place.
pub(crate) fn swap_to_little_endian(data: &mut [u8], dtype: &NumpyDType) {
    if dtype.kind != DTypeKind::Struct {
        if dtype.big_endian {
            reverse_units(data, dtype.swap_unit());
        }
        return;
    }
    for record in data.chunks_exact_mut(dtype.item_size.max(1)) {
        for field in dtype.fields.iter().filter(|field| field.dtype.big_endian) {
            let end = field.offset.saturating_add(field.dtype.item_size);
            if let Some(bytes) = record.get_mut(field.offset..end) {
                reverse_units(bytes, field.dtype.swap_unit());
            }
        }
    }
}

fn reverse_units(data: &mut [u8], unit: usize) {
    if unit > 1 {
        for chunk in data.chunks_exact_mut(unit) {
            chunk.reverse();
        }
    }
}
