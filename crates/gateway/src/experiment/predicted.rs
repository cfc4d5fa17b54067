//! What a revision predicted, for the comparison with the other one of its rollout: the first row of each output, since rows of one request are no
//! independent ones.

use coracle_policy::rollout::Predicted;
use coracle_serving::experiment::Book;
use coracle_tensor::{Tensor, Values};

use crate::shadow::Answered;

/// The most columns of an output that are compared.
const COLUMNS_MAX: usize = 16;
/// Longer texts are cut.
const LABEL_CHARS_MAX: usize = 200;

/// A prediction of one column.
enum Own {
    Number(f64),
    Label(String),
}

/// Tells a rollout's book what a variant predicted for a unit, if there is one, in which trial.
pub(super) fn note(book: &Book, (by, trial_ms): ((&str, Option<&str>), u64), answered: &Answered) {
    let outputs = answered.outputs().iter();
    let columns: Vec<(String, Own)> = outputs
        .flat_map(|(name, tensor)| first_row(name, tensor))
        .collect();
    let predicted = columns.iter().map(|(name, own)| {
        let predicted = match own {
            Own::Number(number) => Predicted::Number(*number),
            Own::Label(label) => Predicted::Label(label),
        };
        (name.clone(), predicted)
    });
    book.predicted(by, trial_ms, predicted);
}

fn first_row(name: &str, tensor: &Tensor) -> Vec<(String, Own)> {
    let values = tensor.values();
    let n_rows = tensor.n_rows();
    let width = values.len().checked_div(n_rows).unwrap_or(0);
    let columns = 0..width.min(COLUMNS_MAX);
    columns
        .filter_map(|column| {
            let name = match width {
                1 => name.to_owned(),
                _ => format!("{name}[{column}]"),
            };
            Some((name, element(values, column)?))
        })
        .collect()
}

fn element(values: &Values, index: usize) -> Option<Own> {
    let label = |text: String| Some(Own::Label(text));
    match values {
        Values::Bytes(texts) => {
            let text = String::from_utf8_lossy(texts.get(index)?);
            label(text.chars().take(LABEL_CHARS_MAX).collect())
        }
        Values::Bool(items) => label(items.get(index)?.to_string()),
        Values::U8(items) => label(items.get(index)?.to_string()),
        Values::U16(items) => label(items.get(index)?.to_string()),
        Values::U32(items) => label(items.get(index)?.to_string()),
        Values::U64(items) => label(items.get(index)?.to_string()),
        Values::I8(items) => label(items.get(index)?.to_string()),
        Values::I16(items) => label(items.get(index)?.to_string()),
        Values::I32(items) => label(items.get(index)?.to_string()),
        Values::I64(items) => label(items.get(index)?.to_string()),
        Values::F16(items) => Some(Own::Number(f64::from(*items.get(index)?))),
        Values::BF16(items) => Some(Own::Number(f64::from(*items.get(index)?))),
        Values::F32(items) => Some(Own::Number(f64::from(*items.get(index)?))),
        Values::F64(items) => Some(Own::Number(*items.get(index)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(tensor: &Tensor) -> Vec<String> {
        let row = first_row("out", tensor).into_iter();
        row.map(|(name, own)| match own {
            Own::Number(number) => format!("{name} {number}"),
            Own::Label(label) => format!("{name} '{label}'"),
        })
        .collect()
    }

    #[test]
    fn the_first_row_is_what_is_compared() {
        let labels = Tensor::from_values(Values::I64(vec![2, 1].into()));
        assert_eq!(shown(&labels), ["out '2'"]);
        let scores = Tensor::try_new(vec![2, 2], Values::F64(vec![0.25, 0.75, 1.0, 0.0].into()));
        assert_eq!(shown(&scores.unwrap()), ["out[0] 0.25", "out[1] 0.75"]);
        let none = Tensor::try_new(vec![0, 3], Values::F32(Vec::new().into())).unwrap();
        assert!(shown(&none).is_empty());
        let wide = Tensor::try_new(vec![1, 100], Values::Bool(vec![true; 100])).unwrap();
        assert_eq!(shown(&wide).len(), COLUMNS_MAX);
    }
}
