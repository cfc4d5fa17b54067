//! Texts of different lengths as rectangles of tokens: which run together, and how the short ones are filled up.

use coracle_model::{RunError, RunErrorKind, TensorSpec};
use coracle_tensor::{Tensor, Values};

use crate::settings::{Fill, Side};
use crate::tokens::Encoded;

/// The most texts of a run: more make it no faster.
const TEXTS_MAX: usize = 32;
/// The most tokens of a run, with those that fill up: what a graph makes of them on the way is a thousand times as large.
const TOKENS_MAX: usize = 1 << 12;

/// How many places of a text may be filled up beyond as many as it has tokens.
const FILLED_MAX: usize = 16;

/// Which texts may share a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// Those that come near each other in length, filled up.
    Filled,
    /// Those of one length.
    OneLength,
    /// None.
    Alone,
}

/// Returns the texts of each run, as indices into `lengths`: texts of like lengths are together, so that little is filled up.
pub(crate) fn runs(lengths: &[usize], sharing: Sharing) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    let length = |index: usize| lengths.get(index).copied().unwrap_or(0);
    order.sort_by_key(|&index| length(index));
    let mut runs: Vec<Vec<usize>> = Vec::new();
    for index in order {
        let fits = |run: &&mut Vec<usize>| {
            let n = run.len().saturating_add(1);
            let alike = match sharing {
                Sharing::Alone => false,
                Sharing::OneLength => {
                    run.first().map(|&first| length(first)) == Some(length(index))
                }
                Sharing::Filled => {
                    let shortest = run.first().map_or(0, |&first| length(first));
                    length(index) <= shortest.saturating_mul(2).saturating_add(FILLED_MAX)
                }
            };
            // The one that comes is the longest.
            alike && n <= TEXTS_MAX && n.saturating_mul(length(index)) <= TOKENS_MAX
        };
        match runs.last_mut().filter(fits) {
            Some(run) => run.push(index),
            None => runs.push(vec![index]),
        }
    }
    runs
}

/// What the graph takes, by what its inputs are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The numbers of the tokens.
    Ids,
    /// One where there is a token, zero where it is filled up.
    Mask,
    /// Which of the texts a token is of; there is one.
    Types,
}

impl Part {
    /// Returns what an input is for; `None` where that is not known.
    pub(crate) fn of(spec: &TensorSpec) -> Option<Self> {
        use coracle_tensor::DType;
        let is_integer = matches!(spec.dtype, DType::I64 | DType::I32);
        if !is_integer || spec.shape.len() != 2 {
            return None;
        }
        match spec.name.as_str() {
            "input_ids" => Some(Self::Ids),
            "attention_mask" => Some(Self::Mask),
            "token_type_ids" => Some(Self::Types),
            _ => None,
        }
    }
}

/// Texts of one run: `n` rows of `width` places.
pub(crate) struct Padded<'t> {
    rows: Vec<&'t Encoded>,
    width: usize,
    fill: Fill,
}

/// Where the tokens of a text lie in its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) len: usize,
}

impl<'t> Padded<'t> {
    /// Lays texts out in rows as wide as the longest, or of `width` places.
    pub(crate) fn new(rows: Vec<&'t Encoded>, width: Option<usize>, fill: Fill) -> Self {
        let longest = rows.iter().map(|row| row.ids.len()).max().unwrap_or(0);
        Self {
            rows,
            width: width.unwrap_or(longest),
            fill,
        }
    }

    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// Returns where the tokens lie, row by row.
    pub(crate) fn spans(&self) -> Vec<Span> {
        let spans = self.rows.iter().map(|row| {
            let len = row.ids.len().min(self.width);
            let start = match self.fill.side {
                Side::Right => 0,
                Side::Left => self.width.saturating_sub(len),
            };
            Span { start, len }
        });
        spans.collect()
    }

    /// Returns what goes into an input.
    ///
    /// # Errors
    /// Kind `Internal` if the texts do not fit.
    pub(crate) fn tensor(&self, part: Part) -> Result<Tensor, RunError> {
        let n = self.rows.len().saturating_mul(self.width);
        let mut items: Vec<i64> = Vec::with_capacity(n);
        let filler = match part {
            Part::Ids => i64::from(self.fill.id),
            Part::Mask => 0,
            Part::Types => i64::from(self.fill.type_id),
        };
        for (row, span) in self.rows.iter().zip(self.spans()) {
            let end = span.start.saturating_add(span.len);
            items.extend(std::iter::repeat_n(filler, span.start));
            match part {
                Part::Ids => items.extend(row.ids.iter().take(span.len).map(|&id| i64::from(id))),
                Part::Mask => items.extend(std::iter::repeat_n(1, span.len)),
                Part::Types => {
                    items.extend(row.type_ids.iter().take(span.len).map(|&id| i64::from(id)));
                }
            }
            items.extend(std::iter::repeat_n(filler, self.width.saturating_sub(end)));
        }
        Tensor::try_new(vec![self.rows.len(), self.width], Values::I64(items.into()))
            .map_err(|error| RunError::new(RunErrorKind::Internal, error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_like_lengths_run_together() {
        let lengths = [5, 900, 5, 7, 4096, 900, 5_000];
        let filled = runs(&lengths, Sharing::Filled);
        assert_eq!(filled, [vec![0, 2, 3], vec![1, 5], vec![4], vec![6]]);
        let alike = runs(&lengths, Sharing::OneLength);
        assert_eq!(alike, [vec![0, 2], vec![3], vec![1, 5], vec![4], vec![6]]);
        assert_eq!(runs(&lengths, Sharing::Alone).len(), lengths.len());
        let many = runs(&[3; 70], Sharing::Filled);
        let sizes: Vec<usize> = many.iter().map(Vec::len).collect();
        assert_eq!(sizes, [32, 32, 6]);
        assert!(runs(&[], Sharing::Filled).is_empty());
    }

    #[test]
    fn short_texts_are_filled_up_on_the_side_that_is_said() {
        let encoded = |ids: &[u32]| Encoded {
            ids: ids.to_vec(),
            type_ids: vec![0; ids.len()],
            places: Vec::new(),
        };
        let texts = [encoded(&[7, 8, 9]), encoded(&[5])];
        let cases = [
            (
                Side::Right,
                vec![7, 8, 9, 5, 3, 3],
                vec![1, 1, 1, 1, 0, 0],
                0,
            ),
            (
                Side::Left,
                vec![7, 8, 9, 3, 3, 5],
                vec![1, 1, 1, 0, 0, 1],
                2,
            ),
        ];
        for (side, ids, mask, start) in cases {
            let fill = Fill {
                side,
                id: 3,
                type_id: 0,
            };
            let padded = Padded::new(texts.iter().collect(), None, fill);
            let expected =
                |items: Vec<i64>| Tensor::try_new(vec![2, 3], Values::I64(items.into())).unwrap();
            assert_eq!(padded.tensor(Part::Ids), Ok(expected(ids)));
            assert_eq!(padded.tensor(Part::Mask), Ok(expected(mask)));
            assert_eq!(padded.spans()[1], Span { start, len: 1 });
        }
    }
}
