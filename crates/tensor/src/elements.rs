//! The elements of a tensor: numbers of its own, or numbers that lie in a buffer which others hold too.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, Range};

use bytes::Bytes;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A number of fixed size, any bits of which are a number.
pub trait Number:
    FromBytes + IntoBytes + Immutable + KnownLayout + Copy + Send + Sync + 'static
{
}

impl<T> Number for T where
    T: FromBytes + IntoBytes + Immutable + KnownLayout + Copy + Send + Sync + 'static
{
}

/// Numbers in a row: a slice, whether they are the tensor's own or stand in a buffer that it keeps alive.
#[derive(Clone)]
pub struct Elements<T>(Held<T>);

#[derive(Clone)]
enum Held<T> {
    Own(Vec<T>),
    /// Whole elements, aligned for them; [`Elements::keep`] sees to it.
    Kept(Bytes, PhantomData<T>),
}

/// A vector as the bytes that it is in this machine's memory.
struct AsBytes<T>(Vec<T>);

impl<T: Number> AsRef<[u8]> for AsBytes<T> {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl<T: Number> Elements<T> {
    /// Returns the elements that `bytes` are, in this machine's byte order, without a copy; gives the bytes back if they
    /// are no whole elements or are not aligned for them.
    ///
    /// # Errors
    /// The bytes themselves.
    pub fn keep(bytes: Bytes) -> Result<Self, Bytes> {
        match <[T]>::ref_from_bytes(&bytes) {
            Ok(_whole) => Ok(Self(Held::Kept(bytes, PhantomData))),
            Err(_misfit) => Err(bytes),
        }
    }

    /// Returns the elements as a slice.
    #[must_use]
    #[inline]
    pub fn as_slice(&self) -> &[T] {
        match &self.0 {
            Held::Own(items) => items,
            // Checked when the bytes were taken; they neither move nor change.
            Held::Kept(bytes, _) => <[T]>::ref_from_bytes(bytes).unwrap_or_default(),
        }
    }

    /// Returns the elements as the bytes that they are in this machine's memory.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.as_slice().as_bytes()
    }

    /// Returns the elements as a vector; a copy if they stand in a buffer.
    #[must_use]
    pub fn into_vec(self) -> Vec<T> {
        match self.0 {
            Held::Own(items) => items,
            Held::Kept(..) => self.as_slice().to_vec(),
        }
    }

    /// Returns the same elements in a buffer that others may hold too, without a copy.
    #[must_use]
    pub fn into_shared(self) -> Self {
        match self.0 {
            // A vector is aligned and whole.
            Held::Own(items) => Self(Held::Kept(Bytes::from_owner(AsBytes(items)), PhantomData)),
            kept @ Held::Kept(..) => Self(kept),
        }
    }

    /// Returns the elements in `range`: of the same buffer where they stand in one, else a copy; `None` if there are not so many.
    #[must_use]
    pub fn range(&self, range: Range<usize>) -> Option<Self> {
        let items = self.get(range.clone())?;
        Some(match &self.0 {
            Held::Own(_) => items.to_vec().into(),
            Held::Kept(bytes, _) => {
                Self(Held::Kept(bytes.slice_ref(items.as_bytes()), PhantomData))
            }
        })
    }

    /// Tells whether the elements stand in a buffer that others may hold too.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        matches!(self.0, Held::Kept(..))
    }
}

impl<T: Number> Deref for Elements<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        self.as_slice()
    }
}

impl<T: Number> AsRef<[T]> for Elements<T> {
    fn as_ref(&self) -> &[T] {
        self
    }
}

impl<T> From<Vec<T>> for Elements<T> {
    fn from(items: Vec<T>) -> Self {
        Self(Held::Own(items))
    }
}

impl<T> Default for Elements<T> {
    fn default() -> Self {
        Vec::new().into()
    }
}

impl<T> FromIterator<T> for Elements<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Vec::from_iter(items).into()
    }
}

/// Elements that stand in a buffer are copied first.
impl<T: Number> Extend<T> for Elements<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, items: I) {
        let mut all = std::mem::take(self).into_vec();
        all.extend(items);
        *self = all.into();
    }
}

/// Elements that stand in a buffer are copied first.
impl<'a, T: Number> Extend<&'a T> for Elements<T> {
    fn extend<I: IntoIterator<Item = &'a T>>(&mut self, items: I) {
        self.extend(items.into_iter().copied());
    }
}

impl<T: Number> IntoIterator for Elements<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.into_vec().into_iter()
    }
}

impl<'a, T: Number> IntoIterator for &'a Elements<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T: Number + PartialEq> PartialEq for Elements<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Number + PartialEq, const N: usize> PartialEq<[T; N]> for Elements<T> {
    fn eq(&self, other: &[T; N]) -> bool {
        **self == *other
    }
}

impl<T: Number + PartialEq> PartialEq<[T]> for Elements<T> {
    fn eq(&self, other: &[T]) -> bool {
        **self == *other
    }
}

impl<T: Number + PartialEq> PartialEq<Vec<T>> for Elements<T> {
    fn eq(&self, other: &Vec<T>) -> bool {
        **self == **other
    }
}

impl<T: Number + fmt::Debug> fmt::Debug for Elements<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns bytes at an address that is `offset` more than a multiple of eight.
    fn aligned(bytes: &[u8], offset: usize) -> Bytes {
        let mut buffer = vec![0; bytes.len() + 16];
        let start = buffer.as_ptr().align_offset(8) + offset;
        buffer[start..start + bytes.len()].copy_from_slice(bytes);
        Bytes::from(buffer).slice(start..start + bytes.len())
    }

    #[test]
    fn aligned_bytes_are_kept_and_not_copied() {
        let bytes = aligned(&[1.5_f32, -2.0].map(f32::to_ne_bytes).concat(), 0);
        let address = bytes.as_ptr();
        let elements = Elements::<f32>::keep(bytes.clone()).unwrap();
        assert!(elements.is_kept());
        assert_eq!(elements, [1.5, -2.0]);
        assert_eq!(elements.as_ptr().cast(), address);
        assert_eq!(elements.as_bytes(), bytes);
        assert_eq!(elements.clone().as_ptr().cast(), address);
    }

    #[test]
    fn bytes_that_do_not_fit_are_given_back() {
        let number = 7_u64.to_ne_bytes();
        let shifted = aligned(&number, 4);
        assert_eq!(Elements::<u64>::keep(shifted.clone()), Err(shifted.clone()));
        assert_eq!(Elements::<u32>::keep(shifted).unwrap().len(), 2);
        let cut = aligned(&number[..7], 0);
        assert_eq!(Elements::<u16>::keep(cut.clone()), Err(cut));
        assert!(Elements::<f64>::keep(aligned(&[], 0)).unwrap().is_empty());
    }

    #[test]
    fn what_is_shared_is_neither_copied_nor_are_its_parts() {
        let own = Elements::from(vec![1.5_f64, -0.0, 3.0]);
        let address = own.as_ptr();
        assert_eq!(own.range(1..3).unwrap(), [-0.0, 3.0]);
        let shared = own.into_shared();
        assert!(shared.is_kept());
        assert_eq!(shared.as_ptr(), address);
        let part = shared.range(1..3).unwrap();
        assert_eq!(part, [-0.0, 3.0]);
        assert_eq!(part.as_ptr(), address.wrapping_add(1));
        assert_eq!(shared.range(3..3).unwrap(), []);
        assert!(shared.range(2..4).is_none());
        let none = Elements::<i16>::default().into_shared();
        assert_eq!(none.range(0..0).unwrap(), []);
    }

    #[test]
    fn kept_elements_are_copied_before_more_are_added() {
        let bytes = aligned(&[1_i32, 2].map(i32::to_ne_bytes).concat(), 0);
        let kept = Elements::<i32>::keep(bytes).unwrap();
        let mut copied = kept.clone();
        copied.extend([3]);
        assert_eq!(copied.into_vec(), [1, 2, 3]);
        assert_eq!(kept, [1, 2]);
    }
}
