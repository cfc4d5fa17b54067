//! The answers and the leaves with AVX-512.

use std::arch::x86_64::{
    __m512i, _mm512_and_si512, _mm512_cmpeq_epi32_mask, _mm512_cmpgt_epu8_mask, _mm512_load_si512,
    _mm512_mask_blend_epi8, _mm512_movepi8_mask, _mm512_permutex2var_epi8, _mm512_permutexvar_epi8,
    _mm512_set1_epi32, _mm512_setzero_si512,
};

use std::ops::Range;

use super::super::batch::Lanes;
use super::{HEAP_LEVELS, Heap, Layout, Numbers, OneRow, PATHS, Paths, SPLITS, Splits};
use crate::leaves::{Leaves, Sum};
use crate::traversal::add_leaves;

/// A row by the columns of a group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a, const N: usize> {
    /// The ranks of the values, 0 for missing ones.
    pub(super) ranks: &'a [Lanes; N],
    /// All bits for missing values; `None` if there are none.
    pub(super) missing: Option<&'a [Lanes; N]>,
}

/// The trees whose leaves are found before they are added.
const TREES: usize = 64;

/// Adds the leaves that `row` reaches in `trees` to its sums.
///
/// # Safety
/// The processor has AVX-512 F, BW, DQ, VL and VBMI; `one_row` was compiled from `trees`, and `leaves` has theirs.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi")]
pub(super) unsafe fn add<S: Sum, const N: usize>(
    one_row: &OneRow,
    row: Row<'_, N>,
    leaves: &Leaves<S>,
    trees: Range<usize>,
    sums: &mut [S],
) {
    let ranks = Table::load(row.ranks);
    let missing = row.missing.map(|missing| Table::load(missing));
    let mut reached = [0; TREES];
    // A set of splits is a tree, or two.
    let (n_sets, trees_of_set) = match &one_row.layout {
        Layout::Heaps(heaps) => (heaps.len(), 1),
        Layout::Paths(pairs) => (pairs.len(), 2),
    };
    let sets_at_once = TREES / trees_of_set;
    for first in (0..n_sets).step_by(sets_at_once) {
        let sets = first..(first + sets_at_once).min(n_sets);
        let missing_right = &one_row.missing_right[sets.clone()];
        match &one_row.layout {
            Layout::Heaps(heaps) => {
                let heaps = heaps[sets].iter().zip(missing_right);
                for ((heap, missing_right), reached) in heaps.zip(&mut reached) {
                    let answers = answer(&heap.splits, ranks, missing, *missing_right);
                    *reached = heap_leaf(heap, answers);
                }
            }
            Layout::Paths(pairs) => {
                let pairs = pairs[sets].iter().zip(missing_right);
                for ((pair, missing_right), reached) in pairs.zip(reached.as_chunks_mut::<2>().0) {
                    let answers = answer(&pair.splits, ranks, missing, *missing_right);
                    let [low, high] = &pair.paths;
                    *reached = [
                        path_leaf(low, answers as u32),
                        path_leaf(high, (answers >> PATHS) as u32),
                    ];
                }
            }
        }
        let start = trees.start + first * trees_of_set;
        let end = (start + TREES).min(trees.end);
        let leaf_of = |tree: usize, _row: usize| usize::from(reached[(tree - start) % TREES]);
        // SAFETY: the trees exist, and the numbers are those of their leaves: every place of a heap and every path was
        // given one, and the answers lead to one place or along one path.
        unsafe { add_leaves::<S, 1>(leaves, start..end, leaf_of, sums) };
    }
}

/// A byte for each column, in registers.
#[derive(Clone, Copy, Debug)]
struct Table<const N: usize>([__m512i; N]);

impl<const N: usize> Table<N> {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn load(lanes: &[Lanes; N]) -> Self {
        let mut table = [_mm512_setzero_si512(); N];
        for (register, lanes) in table.iter_mut().zip(lanes) {
            *register = load(lanes);
        }
        Self(table)
    }

    /// Returns the bytes of `columns`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    fn get(self, columns: __m512i) -> __m512i {
        match self.0.as_slice() {
            [all] => _mm512_permutexvar_epi8(columns, *all),
            [low, high] => _mm512_permutex2var_epi8(*low, columns, *high),
            [first, second, third, fourth] => {
                let low = _mm512_permutex2var_epi8(*first, columns, *second);
                let high = _mm512_permutex2var_epi8(*third, columns, *fourth);
                _mm512_mask_blend_epi8(_mm512_movepi8_mask(columns), low, high)
            }
            _ => unreachable!("there are one, two or four tables"),
        }
    }
}

/// Returns for each split whether the row goes right.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn answer<const N: usize>(
    splits: &Splits,
    ranks: Table<N>,
    missing: Option<Table<N>>,
    missing_right: u64,
) -> u64 {
    let columns = load(&splits.columns);
    let above = _mm512_cmpgt_epu8_mask(ranks.get(columns), load(&splits.ranks));
    match missing {
        Some(missing) => above | _mm512_movepi8_mask(missing.get(columns)) & missing_right,
        None => above,
    }
}

/// Follows the answers from the root down.
#[inline]
fn heap_leaf(heap: &Heap, answers: u64) -> u8 {
    let mut place = 1;
    for _level in 0..HEAP_LEVELS {
        place = 2 * place + (answers >> place & 1) as usize;
    }
    heap.leaves[place % SPLITS]
}

/// Returns the leaf whose path has these answers.
#[inline]
#[target_feature(enable = "avx512f")]
fn path_leaf(paths: &Paths, answers: u32) -> u8 {
    let answers = _mm512_set1_epi32(answers.cast_signed());
    let ([asked_low, asked_high], [right_low, right_high]) =
        (halves(&paths.asked), halves(&paths.right));
    let low = _mm512_cmpeq_epi32_mask(_mm512_and_si512(answers, asked_low), right_low);
    let high = _mm512_cmpeq_epi32_mask(_mm512_and_si512(answers, asked_high), right_high);
    (u32::from(low) | u32::from(high) << 16).trailing_zeros() as u8
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(lanes: &Lanes) -> __m512i {
    // SAFETY: 64 aligned bytes.
    unsafe { _mm512_load_si512(std::ptr::from_ref(lanes).cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn halves(numbers: &Numbers) -> [__m512i; 2] {
    let start = std::ptr::from_ref(numbers).cast::<__m512i>();
    // SAFETY: twice 64 aligned bytes.
    unsafe { [_mm512_load_si512(start), _mm512_load_si512(start.add(1))] }
}
