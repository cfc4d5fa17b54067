//! Sets of leaves as integers.

use std::fmt::Debug;
use std::ops::BitAndAssign;

/// A set of up to 16, 32 or 64 leaves; the lowest bit is the leftmost leaf.
pub(super) trait Mask: Copy + Debug + BitAndAssign + Send + Sync {
    /// The empty set.
    const NONE: Self;
    /// Keeps the bits that fit.
    fn from_u64(bits: u64) -> Self;
    /// Returns the number of the leftmost leaf.
    fn first_leaf(self) -> usize;
}

macro_rules! mask {
    ($integer:ty) => {
        impl Mask for $integer {
            const NONE: Self = 0;

            fn from_u64(bits: u64) -> Self {
                bits as Self
            }

            #[inline(always)]
            fn first_leaf(self) -> usize {
                self.trailing_zeros() as usize
            }
        }
    };
}

mask!(u16);
mask!(u32);
mask!(u64);
