//! The search for ranks with AVX-512 gathers: as many values side by side as a vector holds, several vectors at a time.

use std::arch::x86_64::{
    __m256i, __m512i, _CMP_GT_OQ, _mm_storel_epi64, _mm_storeu_si128, _mm256_add_epi32,
    _mm256_cvtepi32_epi8, _mm256_mask_add_epi32, _mm256_set1_epi32, _mm256_setzero_si256,
    _mm512_add_epi32, _mm512_cmp_pd_mask, _mm512_cmp_ps_mask, _mm512_cvtepi32_epi8,
    _mm512_i32gather_pd, _mm512_i32gather_ps, _mm512_loadu_pd, _mm512_loadu_ps,
    _mm512_mask_add_epi32, _mm512_set1_epi32, _mm512_setzero_si512,
};

use super::super::batch::{LANES, Lanes};

/// Writes how many of `thresholds`, in order and at most 255 of them, are below each value; none are below NaN.
///
/// # Safety
/// The processor has AVX-512 F and VL.
#[target_feature(enable = "avx512f,avx512vl")]
pub(crate) unsafe fn rank_single(thresholds: &[f32], values: &[f32; LANES], ranks: &mut Lanes) {
    const VECTORS: usize = LANES / 16;
    let start = thresholds.as_ptr();
    // SAFETY: there are that many values.
    let values: [_; VECTORS] =
        std::array::from_fn(|vector| unsafe { _mm512_loadu_ps(values.as_ptr().add(vector * 16)) });
    let mut below: [__m512i; VECTORS] = [_mm512_setzero_si512(); VECTORS];
    let mut n_left = thresholds.len();
    while n_left > 0 {
        let step = (n_left / 2).max(1);
        let last = _mm512_set1_epi32(lanes_of(step - 1));
        let step_lanes = _mm512_set1_epi32(lanes_of(step));
        for (below, value) in below.iter_mut().zip(values) {
            // SAFETY: `below + n_left` is at most the number of thresholds in every lane, and `step` at most `n_left`.
            let threshold =
                unsafe { _mm512_i32gather_ps::<4>(_mm512_add_epi32(*below, last), start) };
            let is_above = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(value, threshold);
            *below = _mm512_mask_add_epi32(*below, is_above, *below, step_lanes);
        }
        n_left -= step;
    }
    for (vector, below) in below.into_iter().enumerate() {
        let bytes = _mm512_cvtepi32_epi8(below);
        // SAFETY: sixteen bytes for each vector.
        unsafe { _mm_storeu_si128(ranks.0.as_mut_ptr().add(vector * 16).cast(), bytes) };
    }
}

/// As [`rank_single`], in double precision.
///
/// # Safety
/// As for [`rank_single`].
#[target_feature(enable = "avx512f,avx512vl")]
pub(crate) unsafe fn rank_double(thresholds: &[f64], values: &[f64; LANES], ranks: &mut Lanes) {
    const VECTORS: usize = LANES / 8;
    let start = thresholds.as_ptr();
    // SAFETY: there are that many values.
    let values: [_; VECTORS] =
        std::array::from_fn(|vector| unsafe { _mm512_loadu_pd(values.as_ptr().add(vector * 8)) });
    let mut below: [__m256i; VECTORS] = [_mm256_setzero_si256(); VECTORS];
    let mut n_left = thresholds.len();
    while n_left > 0 {
        let step = (n_left / 2).max(1);
        let last = _mm256_set1_epi32(lanes_of(step - 1));
        let step_lanes = _mm256_set1_epi32(lanes_of(step));
        for (below, value) in below.iter_mut().zip(values) {
            // SAFETY: `below + n_left` is at most the number of thresholds in every lane, and `step` at most `n_left`.
            let threshold =
                unsafe { _mm512_i32gather_pd::<8>(_mm256_add_epi32(*below, last), start) };
            let is_above = _mm512_cmp_pd_mask::<_CMP_GT_OQ>(value, threshold);
            *below = _mm256_mask_add_epi32(*below, is_above, *below, step_lanes);
        }
        n_left -= step;
    }
    for (vector, below) in below.into_iter().enumerate() {
        let bytes = _mm256_cvtepi32_epi8(below);
        // SAFETY: eight bytes for each vector.
        unsafe { _mm_storel_epi64(ranks.0.as_mut_ptr().add(vector * 8).cast(), bytes) };
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "at most 255"
)]
fn lanes_of(n: usize) -> i32 {
    n as i32
}
