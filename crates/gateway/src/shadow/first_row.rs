//! The first rows of outputs: all that is compared of predictions, and all that is copied for it, however much a model answers.

use std::time::Duration;

use coracle_model::Signature;
use coracle_protocol::Call;
use coracle_tensor::{ByteStrings, Tensor, Values};

use super::Answered;

/// The most outputs that are compared.
const OUTPUTS_MAX: usize = 16;
/// The most columns of an output that are compared.
pub(super) const COLUMNS_MAX: usize = 16;
/// Longer texts are cut.
const TEXT_BYTES_MAX: usize = 1_024;

/// Copies the first rows of the outputs of a call.
pub(super) fn of_call(
    signature: &Signature,
    call: &Call,
    outputs: &[Tensor],
    elapsed: Duration,
) -> Box<Answered> {
    let each = call.outputs.iter().zip(outputs).take(OUTPUTS_MAX);
    let rows = each.filter_map(|(index, output)| {
        let spec = signature.outputs.get(*index);
        let name = spec.map(|spec| spec.name.clone()).unwrap_or_default();
        Some((name, first_row(output)?))
    });
    Box::new(Answered {
        outputs: rows.collect(),
        elapsed,
        is_whole: false,
    })
}

/// Copies the first rows of what was copied whole.
pub(super) fn of_whole(whole: &Answered) -> Box<Answered> {
    let rows = whole.outputs.iter().take(OUTPUTS_MAX);
    let rows = rows.filter_map(|(name, output)| Some((name.clone(), first_row(output)?)));
    Box::new(Answered {
        outputs: rows.collect(),
        elapsed: whole.elapsed,
        is_whole: false,
    })
}

/// Returns the first row of a tensor, as one of a row; `None` if it has none.
fn first_row(tensor: &Tensor) -> Option<Tensor> {
    let values = tensor.values();
    let width = values.len().checked_div(tensor.n_rows())?;
    let width = width.min(COLUMNS_MAX);
    let row = match values {
        Values::Bytes(texts) => {
            let mut row = ByteStrings::new();
            for index in 0..width {
                let text = texts.get_present(index);
                row.push_optional(text.map(|text| text.get(..TEXT_BYTES_MAX).unwrap_or(text)));
            }
            Values::Bytes(row)
        }
        numbers => numbers.slice(0..width)?,
    };
    Tensor::try_new(vec![1, width], row).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_copied_than_is_compared() {
        let texts: ByteStrings = vec![vec![b'x'; 1 << 20]; 4].into_iter().collect();
        let texts = Tensor::try_new(vec![2, 2], Values::Bytes(texts)).unwrap();
        let Values::Bytes(row) = first_row(&texts).unwrap().values().clone() else {
            panic!()
        };
        assert_eq!((row.len(), row.get(1).unwrap().len()), (2, TEXT_BYTES_MAX));
        let many = vec![0.5; 1 << 20];
        let many = Tensor::try_new(vec![2, 1 << 19], Values::F64(many.into())).unwrap();
        assert_eq!(first_row(&many).unwrap().shape(), [1, COLUMNS_MAX]);
        let labels = Tensor::from_values(Values::I64(vec![2, 1].into()));
        let row = first_row(&labels).unwrap();
        assert_eq!(
            (row.shape(), row.values()),
            (&[1, 1][..], &Values::I64(vec![2].into()))
        );
        let none = Tensor::try_new(vec![0, 3], Values::F32(Vec::new().into())).unwrap();
        assert!(first_row(&none).is_none());
    }
}
