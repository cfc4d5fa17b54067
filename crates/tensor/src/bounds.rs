//! How large a tensor may be that a model makes, whatever its file asks for.

/// The most dimensions of what is answered: lists in lists are written as deep.
pub const RANK_MAX: usize = 32;

/// Returns the number of elements of a shape; `None` beyond `most`, or beyond [`RANK_MAX`] dimensions.
///
/// A dimension of no elements counts as one: written as lists, a tensor of 2^40 times nothing is 2^40 empty lists.
#[must_use]
pub fn bounded_count(shape: &[usize], most: usize) -> Option<usize> {
    if shape.len() > RANK_MAX {
        return None;
    }
    let lists = shape
        .iter()
        .try_fold(1_usize, |product, &size| product.checked_mul(size.max(1)));
    lists.filter(|&lists| lists <= most)?;
    Some(shape.iter().product())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_bounded_though_there_is_nothing_in_it() {
        assert_eq!(bounded_count(&[2, 3], 6), Some(6));
        assert_eq!(bounded_count(&[2, 3], 5), None);
        assert_eq!(bounded_count(&[], 1), Some(1));
        assert_eq!(bounded_count(&[0, 4], 4), Some(0));
        assert_eq!(bounded_count(&[1 << 40, 0], 1 << 26), None);
        assert_eq!(bounded_count(&[usize::MAX, 2], usize::MAX), None);
        assert_eq!(bounded_count(&[1; RANK_MAX], 1), Some(1));
        assert_eq!(bounded_count(&[1; RANK_MAX + 1], 1), None);
    }
}
