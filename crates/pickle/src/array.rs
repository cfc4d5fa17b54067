//! numpy arrays, in one form: little-endian, C order, contiguous, of the length that the shape says.

use std::sync::Arc;

use half::f16;

use crate::{DTypeKind, NodeId, NumpyDType};

/// A numpy array or scalar.
///
/// Items are little-endian and in C order whatever the file held; the data's length is always the
/// product of the shape times the item size.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    shape: Vec<usize>,
    dtype: Arc<NumpyDType>,
    items: Items,
}

#[derive(Clone, Debug, PartialEq)]
enum Items {
    Bytes(Box<[u8]>),
    Objects(Vec<NodeId>),
}

impl Array {
    /// Makes an array of items in C order and little-endian.
    ///
    /// Returns `None` where the length of `data` is not what shape and type say.
    pub(crate) fn from_bytes(
        shape: Vec<usize>,
        dtype: Arc<NumpyDType>,
        data: Box<[u8]>,
    ) -> Option<Self> {
        let expected = product(&shape)?.checked_mul(dtype.item_size)?;
        let is_sound = data.len() == expected && dtype.kind != DTypeKind::Object;
        is_sound.then_some(Self {
            shape,
            dtype,
            items: Items::Bytes(data),
        })
    }

    /// Makes an array of references, in C order.
    pub(crate) fn from_objects(
        shape: Vec<usize>,
        dtype: Arc<NumpyDType>,
        objects: Vec<NodeId>,
    ) -> Option<Self> {
        let is_sound = product(&shape)? == objects.len() && dtype.kind == DTypeKind::Object;
        is_sound.then_some(Self {
            shape,
            dtype,
            items: Items::Objects(objects),
        })
    }

    /// Returns the length along each axis; empty for a scalar.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Returns what the items are.
    #[must_use]
    pub fn dtype(&self) -> &NumpyDType {
        &self.dtype
    }

    /// Returns the number of items.
    #[must_use]
    pub fn len(&self) -> usize {
        product(&self.shape).unwrap_or(0)
    }

    /// Says whether the array has no items.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the items' bytes; empty for arrays of objects.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match &self.items {
            Items::Bytes(data) => data,
            Items::Objects(_) => &[],
        }
    }

    /// Returns the items of an array of objects.
    #[must_use]
    pub fn objects(&self) -> Option<&[NodeId]> {
        match &self.items {
            Items::Bytes(_) => None,
            Items::Objects(objects) => Some(objects),
        }
    }

    pub(crate) fn objects_mut(&mut self) -> &mut [NodeId] {
        match &mut self.items {
            Items::Bytes(_) => &mut [],
            Items::Objects(objects) => objects,
        }
    }

    /// Returns the items as floats: bools, integers (rounded past 2^53) and floats.
    #[must_use]
    pub fn to_f64s(&self) -> Option<Vec<f64>> {
        match (self.dtype.kind, self.dtype.item_size) {
            (DTypeKind::Float, 8) => Some(self.map(f64::from_le_bytes)),
            (DTypeKind::Float, 4) => Some(self.map(|b| f64::from(f32::from_le_bytes(b)))),
            (DTypeKind::Float, 2) => Some(self.map(|b| f16::from_le_bytes(b).to_f64())),
            (DTypeKind::UInt, 8) => Some(self.map(|b| uint_to_f64(u64::from_le_bytes(b)))),
            _ => Some(self.to_i64s()?.into_iter().map(int_to_f64).collect()),
        }
    }

    /// Returns the items as integers: bools, and integers where all fit.
    #[must_use]
    pub fn to_i64s(&self) -> Option<Vec<i64>> {
        match (self.dtype.kind, self.dtype.item_size) {
            (DTypeKind::Bool, 1) => Some(self.map(|[b]| i64::from(b != 0))),
            (DTypeKind::Int, 1) => Some(self.map(|b| i64::from(i8::from_le_bytes(b)))),
            (DTypeKind::Int, 2) => Some(self.map(|b| i64::from(i16::from_le_bytes(b)))),
            (DTypeKind::Int, 4) => Some(self.map(|b| i64::from(i32::from_le_bytes(b)))),
            (DTypeKind::Int, 8) => Some(self.map(i64::from_le_bytes)),
            (DTypeKind::UInt, 1) => Some(self.map(|[b]| i64::from(b))),
            (DTypeKind::UInt, 2) => Some(self.map(|b| i64::from(u16::from_le_bytes(b)))),
            (DTypeKind::UInt, 4) => Some(self.map(|b| i64::from(u32::from_le_bytes(b)))),
            (DTypeKind::UInt, 8) => self
                .chunks()
                .map(|b| i64::try_from(u64::from_le_bytes(b)).ok())
                .collect(),
            _ => None,
        }
    }

    /// Returns dates as nanoseconds since 1970, without those that are no time (`NaT`).
    ///
    /// `None` for other arrays, and for dates that count months, years or parts of nanoseconds.
    #[must_use]
    pub fn to_instants_ns(&self) -> Option<Vec<Option<i128>>> {
        if self.dtype.kind != DTypeKind::DateTime {
            return None;
        }
        let tick_ns = i128::from(self.dtype.tick_ns?);
        let ticks = self.chunks().map(i64::from_le_bytes);
        let instant = |tick| match tick {
            i64::MIN => Some(None),
            tick => i128::from(tick).checked_mul(tick_ns).map(Some),
        };
        ticks.map(instant).collect()
    }

    /// Returns the items of an array of bools.
    #[must_use]
    pub fn to_bools(&self) -> Option<Vec<bool>> {
        let is_bool = self.dtype.kind == DTypeKind::Bool;
        is_bool.then(|| self.bytes().iter().map(|byte| *byte != 0).collect())
    }

    /// Returns the items of an array of text (numpy `U`, and `S` read as latin-1), without the filling zeros.
    ///
    /// `None` for other kinds, and for text with numbers that are no characters.
    #[must_use]
    pub fn to_strings(&self) -> Option<Vec<String>> {
        let is_wide = match self.dtype.kind {
            DTypeKind::Unicode => true,
            DTypeKind::ByteString => false,
            _ => return None,
        };
        if self.dtype.item_size == 0 {
            return Some(vec![String::new(); self.len()]);
        }
        self.bytes()
            .chunks_exact(self.dtype.item_size)
            .map(|item| match is_wide {
                true => wide_text(item),
                false => Some(latin1_text(item)),
            })
            .collect()
    }

    /// Returns one column of an array of records, of the same shape.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<Self> {
        let field = self.dtype.fields.iter().find(|field| field.name == name)?;
        let size = field.dtype.item_size;
        let end = field.offset.checked_add(size)?;
        let mut data = Vec::with_capacity(self.len().checked_mul(size)?);
        for record in self.bytes().chunks_exact(self.dtype.item_size.max(1)) {
            data.extend_from_slice(record.get(field.offset..end)?);
        }
        Self::from_bytes(
            self.shape.clone(),
            Arc::new(field.dtype.clone()),
            data.into_boxed_slice(),
        )
    }

    fn chunks<const N: usize>(&self) -> impl Iterator<Item = [u8; N]> + '_ {
        self.bytes().as_chunks::<N>().0.iter().copied()
    }

    fn map<const N: usize, T>(&self, convert: impl Fn([u8; N]) -> T) -> Vec<T> {
        self.chunks().map(convert).collect()
    }
}

/// Returns the number of items that a shape holds; `None` where that overflows.
pub(crate) fn product(shape: &[usize]) -> Option<usize> {
    shape
        .iter()
        .try_fold(1_usize, |count, length| count.checked_mul(*length))
}

/// Returns the nearest float.
#[expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "rounding to the nearest float is what numpy does"
)]
pub(crate) fn int_to_f64(value: i64) -> f64 {
    value as f64
}

#[expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "rounding to the nearest float is what numpy does"
)]
fn uint_to_f64(value: u64) -> f64 {
    value as f64
}

fn wide_text(item: &[u8]) -> Option<String> {
    let codes = item.as_chunks::<4>().0;
    let length = codes
        .iter()
        .rposition(|code| *code != [0; 4])
        .map_or(0, |last| last.saturating_add(1));
    codes
        .iter()
        .take(length)
        .map(|code| char::from_u32(u32::from_le_bytes(*code)))
        .collect()
}

fn latin1_text(item: &[u8]) -> String {
    let length = item
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last.saturating_add(1));
    item.iter()
        .take(length)
        .map(|byte| char::from(*byte))
        .collect()
}
