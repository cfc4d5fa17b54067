//! The same with AVX-512: a comparison and an addition a step for 64 rows, and leaves looked up in registers.

use std::arch::x86_64::{
    __m512, __m512i, _mm_load_si128, _mm_loadl_epi64, _mm256_cvtepu8_epi32, _mm512_add_pd,
    _mm512_add_ps, _mm512_cmpgt_epu8_mask, _mm512_cvtepu8_epi32, _mm512_i32gather_pd,
    _mm512_i32gather_ps, _mm512_load_si512, _mm512_loadu_pd, _mm512_loadu_ps, _mm512_mask_add_epi8,
    _mm512_mask_blend_ps, _mm512_maskz_loadu_ps, _mm512_movepi32_mask, _mm512_permutex2var_ps,
    _mm512_set1_epi32, _mm512_slli_epi32, _mm512_store_si512, _mm512_storeu_pd, _mm512_storeu_ps,
};

use super::super::program::TreeSteps;
use super::{LANES, Lanes, Slots, Sums, Work};
use crate::leaves::Sum;

/// Evaluates the trees.
///
/// # Safety
/// The processor has AVX-512 F, BW, DQ and VL.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) unsafe fn run<S: Sum, const V: usize>(
    work: Work<'_, S>,
    slots: &mut Slots<V>,
    sums: &mut Sums<'_, S, V>,
) {
    let are_single_numbers = work.leaves.are_single_numbers();
    for (tree, steps) in (work.first_tree..).zip(work.program.trees()) {
        evaluate(&steps, work.planes, slots);
        let reached = &slots.0[steps.result];
        if !are_single_numbers {
            // SAFETY: the steps of a tree give numbers of its leaves.
            unsafe { sums.add_rows(work.leaves, tree, reached) };
            continue;
        }
        let values = work.leaves.of_tree(tree);
        let column = sums.column(work.leaves.score_of(tree));
        // SAFETY: as above; and S is what it is taken for.
        unsafe {
            if S::IS_SINGLE {
                add_singles::<V>(
                    values.as_ptr().cast(),
                    values.len(),
                    reached,
                    column.as_mut_ptr().cast(),
                );
            } else {
                add_doubles::<V>(values.as_ptr().cast(), reached, column.as_mut_ptr().cast());
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn evaluate<const V: usize>(tree: &TreeSteps<'_>, planes: &[Lanes], slots: &mut Slots<V>) {
    for step in tree.steps {
        let plane = &planes[usize::from(step.plane) * V..][..V];
        let rank = _mm512_set1_epi32(i32::from_ne_bytes(step.rank));
        let left_leaves = _mm512_set1_epi32(i32::from_ne_bytes(step.left_leaves));
        for (vector, ranks) in plane.iter().enumerate() {
            let left = load(&slots.0[usize::from(step.left)][vector]);
            let right = load(&slots.0[usize::from(step.right)][vector]);
            let goes_right = _mm512_cmpgt_epu8_mask(load(ranks), rank);
            let result = _mm512_mask_add_epi8(left, goes_right, right, left_leaves);
            store(&mut slots.0[usize::from(step.result)][vector], result);
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(lanes: &Lanes) -> __m512i {
    // SAFETY: 64 aligned bytes.
    unsafe { _mm512_load_si512(std::ptr::from_ref(lanes).cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(lanes: &mut Lanes, value: __m512i) {
    // SAFETY: 64 aligned bytes.
    unsafe { _mm512_store_si512(std::ptr::from_mut(lanes).cast(), value) };
}

/// Adds the values that `reached` names to the sums of as many rows.
///
/// # Safety
/// `values` has `n_leaves` numbers, more than any in `reached`; `sums` has `V * LANES`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn add_singles<const V: usize>(
    values: *const f32,
    n_leaves: usize,
    reached: &[Lanes; V],
    sums: *mut f32,
) {
    // SAFETY: the caller's contract.
    unsafe {
        if n_leaves <= 32 {
            let table = load_table::<2>(values, n_leaves);
            add_by(reached, sums, |leaf| {
                _mm512_permutex2var_ps(table[0], leaf, table[1])
            });
        } else if n_leaves <= 64 {
            let table = load_table::<4>(values, n_leaves);
            add_by(reached, sums, |leaf| {
                let low = _mm512_permutex2var_ps(table[0], leaf, table[1]);
                let high = _mm512_permutex2var_ps(table[2], leaf, table[3]);
                // Bit 5 of the number becomes the sign.
                let is_high = _mm512_movepi32_mask(_mm512_slli_epi32::<26>(leaf));
                _mm512_mask_blend_ps(is_high, low, high)
            });
        } else {
            add_by(reached, sums, |leaf| _mm512_i32gather_ps::<4>(leaf, values));
        }
    }
}

/// Loads up to `16 * N` values, zeros after them.
///
/// # Safety
/// `values` has `n` numbers.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load_table<const N: usize>(values: *const f32, n: usize) -> [__m512; N] {
    let mask = u64::MAX >> (64 - n.clamp(1, 64));
    // SAFETY: numbers outside the mask are not touched.
    std::array::from_fn(|index| unsafe {
        _mm512_maskz_loadu_ps(
            (mask >> (16 * index)) as u16,
            values.wrapping_add(16 * index),
        )
    })
}

/// Adds what `value_of` gives for sixteen leaves at a time.
///
/// # Safety
/// `sums` has `V * LANES` numbers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn add_by<const V: usize>(
    reached: &[Lanes; V],
    sums: *mut f32,
    value_of: impl Fn(__m512i) -> __m512,
) {
    for start in (0..V * LANES).step_by(16) {
        // SAFETY: the starts are those of whole groups of sixteen.
        unsafe {
            let leaf = _mm512_cvtepu8_epi32(_mm_load_si128(
                reached.as_ptr().cast::<u8>().add(start).cast(),
            ));
            let sum = _mm512_add_ps(_mm512_loadu_ps(sums.add(start)), value_of(leaf));
            _mm512_storeu_ps(sums.add(start), sum);
        }
    }
}

/// As [`add_singles`], in double precision.
///
/// # Safety
/// `values` has more numbers than any in `reached`; `sums` has `V * LANES`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn add_doubles<const V: usize>(values: *const f64, reached: &[Lanes; V], sums: *mut f64) {
    for start in (0..V * LANES).step_by(8) {
        // SAFETY: the starts are those of whole groups of eight; the caller's contract.
        unsafe {
            let leaf = _mm256_cvtepu8_epi32(_mm_loadl_epi64(
                reached.as_ptr().cast::<u8>().add(start).cast(),
            ));
            let value = _mm512_i32gather_pd::<8>(leaf, values);
            let sum = _mm512_add_pd(_mm512_loadu_pd(sums.add(start)), value);
            _mm512_storeu_pd(sums.add(start), sum);
        }
    }
}
