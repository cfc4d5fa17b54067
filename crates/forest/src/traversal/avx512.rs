//! Walks of one tree for many rows at once, with AVX-512 gathers; thresholds only, no categories.
//!
//! The same steps as the portable walk: sixteen rows to a vector in single precision, eight in double, and
//! several vectors side by side, so that one's gathers are under way while the other's are used.

mod double;

use std::arch::x86_64::{
    __m512i, _CMP_LE_OQ, _CMP_UNORD_Q, _mm512_add_epi32, _mm512_and_si512, _mm512_cmp_ps_mask,
    _mm512_cmpneq_epi32_mask, _mm512_i32gather_epi32, _mm512_i32gather_ps, _mm512_mask_add_epi32,
    _mm512_movepi32_mask, _mm512_mullo_epi32, _mm512_set1_epi32, _mm512_setr_epi32,
    _mm512_slli_epi32, _mm512_storeu_si512,
};

use super::{Compact, FEATURE_MASK};

pub(super) use double::walk as walk_double;

/// Rows that are walked at once.
pub(super) const ROWS: usize = 2 * LANES;
const LANES: usize = 16;

/// Tells whether this processor can, and whether every index fits the signed 32 bits of a gather.
pub(super) fn is_available(n_nodes: usize, n_values: usize) -> bool {
    let fits = n_nodes <= i32::MAX as usize / 3 && n_values <= i32::MAX as usize;
    fits && std::arch::is_x86_feature_detected!("avx512f")
        && std::arch::is_x86_feature_detected!("avx512dq")
        && std::arch::is_x86_feature_detected!("avx512vl")
}

/// Returns the node that each of [`ROWS`] rows ends on, from `root` on.
///
/// # Safety
/// [`is_available`] for these nodes and rows; `root` is the root of a validated tree without category splits;
/// `rows` holds [`ROWS`] rows of `n_features` values, and every feature of the tree is below that.
#[target_feature(enable = "avx512f,avx512dq")]
pub(super) unsafe fn walk(
    nodes: &[Compact<f32>],
    root: u32,
    rows: &[f32],
    n_features: usize,
) -> [u32; ROWS] {
    debug_assert_eq!(rows.len(), ROWS * n_features);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        reason = "is_available has checked"
    )]
    let (width, root) = (n_features as i32, root as i32);
    let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    let first_rows = _mm512_mullo_epi32(lanes, _mm512_set1_epi32(width));
    let second_rows = _mm512_add_epi32(first_rows, _mm512_set1_epi32(width * 16));
    let mut first = _mm512_set1_epi32(root);
    let mut second = first;
    loop {
        // SAFETY: the caller's contract; each step ends on a node again.
        let (next_first, next_second) = unsafe {
            (
                step(nodes, rows, first, first_rows),
                step(nodes, rows, second, second_rows),
            )
        };
        let moved = _mm512_cmpneq_epi32_mask(first, next_first)
            | _mm512_cmpneq_epi32_mask(second, next_second);
        first = next_first;
        second = next_second;
        if moved == 0 {
            break;
        }
    }
    let mut ends = [0; ROWS];
    let (low, high) = ends.split_at_mut(LANES);
    // SAFETY: each half has room for sixteen numbers.
    unsafe {
        _mm512_storeu_si512(low.as_mut_ptr().cast(), first);
        _mm512_storeu_si512(high.as_mut_ptr().cast(), second);
    }
    ends
}

/// Takes one step from the nodes `at`; `row_starts` are the places of the rows' first values.
///
/// # Safety
/// As for [`walk`]; `at` are nodes of the tree.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
unsafe fn step(nodes: &[Compact<f32>], rows: &[f32], at: __m512i, row_starts: __m512i) -> __m512i {
    // A node is three 32-bit words: threshold, left child, feature with flags.
    const { assert!(size_of::<Compact<f32>>() == 12) };
    let words = nodes.as_ptr().cast::<i32>();
    let place = _mm512_add_epi32(at, _mm512_slli_epi32::<1>(at));
    // SAFETY: `at` are indices of nodes, features are below the rows' width, and `is_available` has
    // checked that three times an index fits.
    let (threshold, left, feature, value) = unsafe {
        let threshold = _mm512_i32gather_ps::<4>(place, words.cast());
        let left = _mm512_i32gather_epi32::<4>(place, words.add(1).cast());
        let feature = _mm512_i32gather_epi32::<4>(place, words.add(2).cast());
        let column = _mm512_and_si512(feature, _mm512_set1_epi32(FEATURE_MASK.cast_signed()));
        let value =
            _mm512_i32gather_ps::<4>(_mm512_add_epi32(row_starts, column), rows.as_ptr().cast());
        (threshold, left, feature, value)
    };
    let is_below = _mm512_cmp_ps_mask::<_CMP_LE_OQ>(value, threshold);
    // The flag for missing values is the sign bit.
    let missing_left =
        _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(value, value) & _mm512_movepi32_mask(feature);
    _mm512_mask_add_epi32(left, !(is_below | missing_left), left, _mm512_set1_epi32(1))
}
