//! Which calls fit together.

use coracle_tensor::{Tensor, Values};

use super::Entry;

/// Tells whether two calls want the same outputs of the same model from inputs that differ in their rows only.
pub(super) fn fit_together(first: &Entry, other: &Entry) -> bool {
    let is_alike = |(first, other): (&Tensor, &Tensor)| {
        first.dtype() == other.dtype() && inner_shape(first) == inner_shape(other)
    };
    std::ptr::eq::<crate::LoadedModel>(&*first.lease, &*other.lease)
        && first.outputs == other.outputs
        && first.inputs.len() == other.inputs.len()
        && first.inputs.iter().zip(&other.inputs).all(is_alike)
}

fn inner_shape(tensor: &Tensor) -> Option<&[usize]> {
    tensor.shape().split_first().map(|(_, inner)| inner)
}

/// Tells whether a call may share a run: the model takes and gives any number of rows, its inputs have the same number of them,
/// and hold nothing that a model would refuse.
pub(super) fn is_mergeable(entry: &Entry) -> bool {
    let loaded = &*entry.lease;
    let signature = loaded.model().signature();
    let is_rowwise = |shape: &[Option<usize>]| shape.first() == Some(&None);
    let mut outputs = entry.outputs.iter();
    let mut inputs = entry.inputs.iter().zip(&signature.inputs);
    !loaded.forbids_batches()
        && entry.n_rows > 0
        && entry.inputs.len() == signature.inputs.len()
        && inputs.all(|(input, spec)| {
            is_rowwise(&spec.shape)
                && input.shape().first() == Some(&entry.n_rows)
                && is_plain(input.values(), spec.accepts_missing)
        })
        && outputs.all(|&output| {
            let spec = signature.outputs.get(output);
            spec.is_some_and(|spec| is_rowwise(&spec.shape))
        })
}

/// Tells whether there is nothing among the values for which models refuse a request: infinity, or a missing value where none is
/// accepted. Such a call runs alone, and spares the others a run that fails.
fn is_plain(values: &Values, accepts_missing: bool) -> bool {
    let is_plain = |finite: bool, missing: bool| finite || (accepts_missing && missing);
    match values {
        Values::F64(items) => all(items, |x| is_plain(x.is_finite(), x.is_nan())),
        Values::F32(items) => all(items, |x| is_plain(x.is_finite(), x.is_nan())),
        Values::F16(items) => all(items, |x| is_plain(x.is_finite(), x.is_nan())),
        Values::BF16(items) => all(items, |x| is_plain(x.is_finite(), x.is_nan())),
        Values::Bytes(strings) => accepts_missing || strings.first_missing().is_none(),
        _ => true,
    }
}

/// Tells whether all items are such, block by block: within one nothing is left out, so that many are compared at once.
fn all<T>(items: &[T], is_such: impl Fn(&T) -> bool) -> bool {
    let mut blocks = items.chunks(64);
    blocks.all(|block| block.iter().fold(true, |all, item| all & is_such(item)))
}
