//! The walk in double precision: eight rows to a vector, four vectors side by side.

use std::arch::x86_64::{
    __m256i, _CMP_LE_OQ, _CMP_UNORD_Q, _mm256_add_epi32, _mm256_and_si256,
    _mm256_cmpneq_epi32_mask, _mm256_mask_add_epi32, _mm256_mullo_epi32, _mm256_set1_epi32,
    _mm256_setr_epi32, _mm256_storeu_si256, _mm512_cmp_pd_mask, _mm512_cvtepi64_epi32,
    _mm512_i32gather_epi64, _mm512_i32gather_pd, _mm512_movepi64_mask, _mm512_srli_epi64,
};

use super::ROWS;
use crate::traversal::{Compact, FEATURE_MASK};

const LANES: usize = 8;
const VECTORS: usize = ROWS / LANES;

/// Returns the node that each of [`ROWS`] rows ends on, from `root` on.
///
/// # Safety
/// As for the walk in single precision.
#[target_feature(enable = "avx512f,avx512dq,avx512vl")]
pub(in crate::traversal) unsafe fn walk(
    nodes: &[Compact<f64>],
    root: u32,
    rows: &[f64],
    n_features: usize,
) -> [u32; ROWS] {
    debug_assert_eq!(rows.len(), ROWS * n_features);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        reason = "is_available has checked"
    )]
    let (width, root) = (n_features as i32, root as i32);
    let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    let first_rows = _mm256_mullo_epi32(lanes, _mm256_set1_epi32(width));
    let mut row_starts = [first_rows; VECTORS];
    for vector in 1..VECTORS {
        row_starts[vector] = _mm256_add_epi32(row_starts[vector - 1], _mm256_set1_epi32(width * 8));
    }
    let mut at = [_mm256_set1_epi32(root); VECTORS];
    loop {
        let mut moved = 0;
        for (at, row_starts) in at.iter_mut().zip(row_starts) {
            // SAFETY: the caller's contract; each step ends on a node again.
            let next = unsafe { step(nodes, rows, *at, row_starts) };
            moved |= _mm256_cmpneq_epi32_mask(*at, next);
            *at = next;
        }
        if moved == 0 {
            break;
        }
    }
    let mut ends = [0; ROWS];
    for (ends, at) in ends.chunks_exact_mut(LANES).zip(at) {
        // SAFETY: the chunk has room for eight numbers.
        unsafe { _mm256_storeu_si256(ends.as_mut_ptr().cast(), at) };
    }
    ends
}

/// Takes one step from the nodes `at`; `row_starts` are the places of the rows' first values.
///
/// # Safety
/// As for [`walk`]; `at` are nodes of the tree.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl")]
unsafe fn step(nodes: &[Compact<f64>], rows: &[f64], at: __m256i, row_starts: __m256i) -> __m256i {
    // A node is two 64-bit words: threshold, then left child (low half) and feature with flags (high half).
    const { assert!(size_of::<Compact<f64>>() == 16) };
    let words = nodes.as_ptr().cast::<i64>();
    let place = _mm256_add_epi32(at, at);
    // SAFETY: `at` are indices of nodes, features are below the rows' width, and `is_available` has
    // checked that twice an index fits.
    let (threshold, links, value) = unsafe {
        let threshold = _mm512_i32gather_pd::<8>(place, words.cast());
        let links = _mm512_i32gather_epi64::<8>(place, words.add(1).cast());
        let feature = _mm512_cvtepi64_epi32(_mm512_srli_epi64::<32>(links));
        let column = _mm256_and_si256(feature, _mm256_set1_epi32(FEATURE_MASK.cast_signed()));
        let value =
            _mm512_i32gather_pd::<8>(_mm256_add_epi32(row_starts, column), rows.as_ptr().cast());
        (threshold, links, value)
    };
    let is_below = _mm512_cmp_pd_mask::<_CMP_LE_OQ>(value, threshold);
    // The flag for missing values is the sign bit of the second word.
    let missing_left =
        _mm512_cmp_pd_mask::<_CMP_UNORD_Q>(value, value) & _mm512_movepi64_mask(links);
    let left = _mm512_cvtepi64_epi32(links);
    _mm256_mask_add_epi32(left, !(is_below | missing_left), left, _mm256_set1_epi32(1))
}
