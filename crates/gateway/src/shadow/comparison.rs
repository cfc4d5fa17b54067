//! What a shadow's answers are beside those that were given. Bounded, however many come.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use coracle_base::Code;
use coracle_policy::shadow::{Labels, Numbers, Worst};
use coracle_serving::ShadowKept;
use coracle_tensor::{Tensor, Values};

use super::Answered;
use super::classes::Classes;
use super::column::Column;
use super::latencies::Latencies;

/// What a shadow answered, or why it did not.
pub(super) type Outcome = Result<Box<Answered>, String>;

/// The most pairs of revisions that are kept of one service: older ones go.
const COMPARISONS_MAX: usize = 8;
/// The most outputs that are compared.
const OUTPUTS_MAX: usize = 32;
/// The most columns of an output whose distributions are compared.
const COLUMNS_MAX: usize = 16;
/// The most requests that are kept.
const WORST_MAX: usize = 20;
/// The most different failures that are told apart.
const FAILURES_MAX: usize = 8;
const FAILURE_CHARS_MAX: usize = 200;
/// Of an answer or request that is kept, so much is shown.
const SHOWN_CHARS_MAX: usize = 200;
const REQUEST_BYTES_MAX: usize = 2_048;
/// Distances beyond which numbers are counted.
const TOLERANCES: [f64; 4] = [1e-6, 1e-3, 1e-2, 1e-1];

/// Which revisions are compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pairing {
    pub(super) stable: String,
    /// Empty where there was none.
    pub(super) shadow: String,
}

/// What is kept of a request if its answers are among those farthest apart.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) kept: ShadowKept,
    pub(super) request: Option<Bytes>,
    pub(super) trace: Option<String>,
    /// Since 1970.
    pub(super) at: Duration,
}

/// A request whose answers are far apart.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Far {
    pub(super) output: String,
    /// Of its rows the one whose answers are farthest apart.
    pub(super) row: usize,
    /// In how many rows this output differs.
    pub(super) n_rows: usize,
    pub(super) stable: String,
    pub(super) shadow: String,
    pub(super) request: Option<String>,
    pub(super) trace: Option<String>,
    pub(super) at: Duration,
}

/// How copies ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ends {
    /// Both gave the same.
    pub(super) agreed: u64,
    /// They gave different answers.
    pub(super) differed: u64,
    /// Their answers have other outputs or shapes.
    pub(super) incomparable: u64,
    /// The shadow failed where the service did not.
    pub(super) failed: u64,
    /// The service failed where the shadow did not.
    pub(super) stable_failed: u64,
    /// Both failed.
    pub(super) both_failed: u64,
}

impl Ends {
    pub(super) fn all(self) -> [(&'static str, u64); 6] {
        [
            ("agreed", self.agreed),
            ("differed", self.differed),
            ("incomparable", self.incomparable),
            ("failed", self.failed),
            ("stable_failed", self.stable_failed),
            ("both_failed", self.both_failed),
        ]
    }
}

/// The comparisons of a service with its shadow, by their revisions, the newest last.
#[derive(Debug, Default)]
pub(super) struct Comparisons {
    list: Vec<Comparison>,
}

impl Comparisons {
    /// Takes the answers to one request, and what is kept of it.
    pub(super) fn push(
        &mut self,
        pairing: Pairing,
        stable: Result<&Answered, Code>,
        shadow: &Outcome,
        kept: impl FnOnce() -> Kept,
    ) {
        let kept = kept();
        let found = self.list.iter().position(|one| one.pairing == pairing);
        let index = found.unwrap_or_else(|| {
            if self.list.len() >= COMPARISONS_MAX {
                self.list.remove(0);
            }
            self.list.push(Comparison::new(pairing, kept.at));
            self.list.len() - 1
        });
        if let Some(comparison) = self.list.get_mut(index) {
            comparison.push(stable, shadow, &kept);
        }
    }

    pub(super) fn all(&self) -> &[Comparison] {
        &self.list
    }
}

/// The comparison of two revisions.
#[derive(Debug)]
pub(super) struct Comparison {
    pub(super) pairing: Pairing,
    /// When it began, since 1970.
    pub(super) since: Duration,
    pub(super) ends: Ends,
    pub(super) outputs: BTreeMap<String, Output>,
    /// Of calls that both answered.
    pub(super) stable_latency: Latencies,
    pub(super) shadow_latency: Latencies,
    pub(super) worst: Worst<Far>,
    /// Why the shadow failed, with how often.
    pub(super) failures: Vec<(String, u64)>,
}

impl Comparison {
    fn new(pairing: Pairing, since: Duration) -> Self {
        Self {
            pairing,
            since,
            ends: Ends::default(),
            outputs: BTreeMap::new(),
            stable_latency: Latencies::default(),
            shadow_latency: Latencies::default(),
            worst: Worst::new(WORST_MAX),
            failures: Vec::new(),
        }
    }

    fn push(&mut self, stable: Result<&Answered, Code>, shadow: &Outcome, kept: &Kept) {
        if let Err(why) = shadow {
            self.note_failure(why);
        }
        match (stable, shadow) {
            (Ok(stable), Ok(shadow)) => {
                self.stable_latency.push(stable.elapsed);
                self.shadow_latency.push(shadow.elapsed);
                self.compare(stable, shadow, kept);
            }
            (Ok(_), Err(_)) => self.ends.failed += 1,
            (Err(_), Ok(_)) => self.ends.stable_failed += 1,
            (Err(_), Err(_)) => self.ends.both_failed += 1,
        }
    }

    fn note_failure(&mut self, why: &str) {
        let why: String = why.chars().take(FAILURE_CHARS_MAX).collect();
        let n_known = self.failures.len();
        match self.failures.iter_mut().find(|(known, _)| *known == why) {
            Some((_, count)) => *count += 1,
            None if n_known < FAILURES_MAX => self.failures.push((why, 1)),
            None => {}
        }
    }

    /// Compares the answers of both, output by output.
    fn compare(&mut self, stable: &Answered, shadow: &Answered, kept: &Kept) {
        let (mut is_comparable, mut farthest) = (true, None::<Farthest<'_>>);
        for (name, ours) in &stable.outputs {
            // Where each gave just one output, those are compared, whatever their names.
            let theirs = match (stable.outputs.as_slice(), shadow.outputs.as_slice()) {
                ([_], [(_, theirs)]) => Some(theirs),
                (_, outputs) => outputs
                    .iter()
                    .find_map(|(other, tensor)| (other == name).then_some(tensor)),
            };
            if self.outputs.len() >= OUTPUTS_MAX && !self.outputs.contains_key(name) {
                continue;
            }
            let output = self.outputs.entry(name.clone()).or_default();
            let distances = theirs.and_then(|theirs| output.push(ours, theirs));
            let (Some(distances), Some(theirs)) = (distances, theirs) else {
                output.n_incomparable += 1;
                is_comparable = false;
                continue;
            };
            let found = Farthest::of(name, (ours, theirs), &distances);
            let least = farthest.as_ref().map_or(0.0, |farthest| farthest.distance);
            if found.distance > least {
                farthest = Some(found);
            }
        }
        if let Some(farthest) = &farthest
            && kept.kept != ShadowKept::Nothing
        {
            self.worst
                .push(farthest.distance, || farthest.to_kept(kept));
        }
        match (is_comparable, farthest.is_some()) {
            (false, _) => self.ends.incomparable += 1,
            (true, true) => self.ends.differed += 1,
            (true, false) => self.ends.agreed += 1,
        }
    }
}

/// The row of a request whose answers are farthest apart.
struct Farthest<'t> {
    distance: f64,
    output: &'t str,
    row: usize,
    /// In how many rows the output differs.
    n_rows: usize,
    /// What both gave.
    answers: (&'t Tensor, &'t Tensor),
}

impl<'t> Farthest<'t> {
    /// Returns that of an output, the first of several.
    fn of(output: &'t str, answers: (&'t Tensor, &'t Tensor), distances: &[f64]) -> Self {
        let mut farthest = Self {
            distance: 0.0,
            output,
            row: 0,
            n_rows: 0,
            answers,
        };
        for (row, distance) in distances.iter().enumerate() {
            farthest.n_rows += usize::from(*distance > 0.0);
            if *distance > farthest.distance {
                (farthest.distance, farthest.row) = (*distance, row);
            }
        }
        farthest
    }

    fn to_kept(&self, kept: &Kept) -> Far {
        let request = kept.request.as_ref().map(|body| {
            let start = body.get(..REQUEST_BYTES_MAX).unwrap_or(body);
            String::from_utf8_lossy(start).into_owned()
        });
        Far {
            output: self.output.to_owned(),
            row: self.row,
            n_rows: self.n_rows,
            stable: row_text(self.answers.0, self.row),
            shadow: row_text(self.answers.1, self.row),
            request,
            trace: kept.trace.clone(),
            at: kept.at,
        }
    }
}

/// Returns the elements of a row as text.
fn row_text(tensor: &Tensor, row: usize) -> String {
    let (elements, width) = (Elements::new(tensor.values()), width(tensor));
    let first = row * width;
    let mut text = String::new();
    for index in first..first + width {
        if text.len() > SHOWN_CHARS_MAX {
            text.push_str(" ...");
            break;
        }
        if index > first {
            text.push_str(", ");
        }
        text.push_str(&elements.text(index));
    }
    text
}

/// The elements of a tensor one by one; numbers are widened once, when the first is asked for.
struct Elements<'t> {
    values: &'t Values,
    numbers: OnceCell<Cow<'t, [f64]>>,
}

impl<'t> Elements<'t> {
    fn new(values: &'t Values) -> Self {
        Self {
            values,
            numbers: OnceCell::new(),
        }
    }

    /// Returns an element as a label.
    fn text(&self, index: usize) -> String {
        match self.values {
            Values::Bytes(strings) => {
                let text = String::from_utf8_lossy(strings.get(index).unwrap_or_default());
                text.chars().take(SHOWN_CHARS_MAX).collect()
            }
            Values::Bool(items) => items.get(index).map(bool::to_string).unwrap_or_default(),
            Values::U64(items) => items.get(index).map(u64::to_string).unwrap_or_default(),
            Values::I64(items) => items.get(index).map(i64::to_string).unwrap_or_default(),
            values => {
                let numbers = self
                    .numbers
                    .get_or_init(|| values.to_f64s().unwrap_or_default());
                numbers.get(index).map(f64::to_string).unwrap_or_default()
            }
        }
    }
}

/// Returns every element as a label.
fn labels(values: &Values) -> Vec<String> {
    let elements = Elements::new(values);
    (0..values.len())
        .map(|index| elements.text(index))
        .collect()
}

fn is_fractional(values: &Values) -> bool {
    matches!(
        values,
        Values::F16(_) | Values::BF16(_) | Values::F32(_) | Values::F64(_)
    )
}

/// Returns the number of elements of a row.
fn width(tensor: &Tensor) -> usize {
    let n_rows = tensor.n_rows().max(1);
    tensor.values().len() / n_rows
}

/// What the answers of one output are.
#[derive(Debug, Default)]
pub(super) struct Output {
    /// Rows that were compared.
    pub(super) n_rows: u64,
    /// Answers with another shape, or without this output.
    pub(super) n_incomparable: u64,
    /// Rows in which both gave the same.
    pub(super) n_same: u64,
    /// Of labels: integers, texts, truth values.
    labels: Option<Labels>,
    /// Of numbers.
    pub(super) numbers: Option<Numbers>,
    /// Of numbers that may be labels.
    classes: Classes,
    /// How the numbers of each column are distributed.
    pub(super) columns: Vec<Column>,
}

impl Output {
    /// Returns which labels both gave, if they are some.
    pub(super) fn labels(&self) -> Option<&Labels> {
        self.labels.as_ref().or_else(|| self.classes.labels())
    }

    /// Takes two answers; returns the distance of each row, or `None` if they cannot be compared.
    fn push(&mut self, stable: &Tensor, shadow: &Tensor) -> Option<Vec<f64>> {
        if stable.shape() != shadow.shape() {
            return None;
        }
        let width = width(stable).max(1);
        let distances = match (is_fractional(stable.values()), stable.values().to_f64s()) {
            (true, Some(ours)) => {
                let theirs = shadow.values().to_f64s()?;
                self.push_numbers(&ours, &theirs, width)
            }
            _ => self.push_labels(stable.values(), shadow.values(), width),
        };
        let n_same = distances.iter().filter(|distance| **distance <= 0.0);
        self.n_same += u64::try_from(n_same.count()).unwrap_or(0);
        self.n_rows += u64::try_from(distances.len()).unwrap_or(0);
        Some(distances)
    }

    fn push_numbers(&mut self, ours: &[f64], theirs: &[f64], width: usize) -> Vec<f64> {
        let numbers = self
            .numbers
            .get_or_insert_with(|| Numbers::new(&TOLERANCES));
        self.columns.resize_with(
            width.min(COLUMNS_MAX).max(self.columns.len()),
            Column::default,
        );
        self.classes.push(ours, theirs, width);
        let rows = ours.chunks(width).zip(theirs.chunks(width));
        rows.map(|(ours, theirs)| {
            let mut columns = self.columns.iter_mut();
            let pairs = ours.iter().zip(theirs);
            pairs.fold(0.0_f64, |farthest, (ours, theirs)| {
                if let Some(column) = columns.next() {
                    column.push(*ours, *theirs);
                }
                farthest.max(numbers.push(*ours, *theirs))
            })
        })
        .collect()
    }

    fn push_labels(&mut self, ours: &Values, theirs: &Values, width: usize) -> Vec<f64> {
        let known = self.labels.get_or_insert_default();
        let (ours, theirs) = (labels(ours), labels(theirs));
        let rows = ours.chunks(width).zip(theirs.chunks(width));
        rows.map(|(ours, theirs)| {
            let mut is_same = true;
            for (ours, theirs) in ours.iter().zip(theirs) {
                known.push(ours, theirs);
                is_same &= ours == theirs;
            }
            if is_same { 0.0 } else { 1.0 }
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use coracle_tensor::ByteStrings;

    use super::*;

    fn answered(values: Values) -> Box<Answered> {
        Box::new(Answered {
            outputs: vec![("predict".to_owned(), Tensor::from_values(values))],
            elapsed: Duration::ZERO,
            is_whole: true,
        })
    }

    fn compared(ours: Values, theirs: Values) -> Comparisons {
        let mut comparisons = Comparisons::default();
        let pairing = Pairing {
            stable: "a".to_owned(),
            shadow: "b".to_owned(),
        };
        let kept = || Kept {
            kept: ShadowKept::Answers,
            request: None,
            trace: None,
            at: Duration::ZERO,
        };
        comparisons.push(pairing, Ok(&answered(ours)), &Ok(answered(theirs)), kept);
        comparisons
    }

    /// As many as are compared: widening all of them for each takes hours.
    const N_ELEMENTS: i32 = 1 << 18;

    #[test]
    fn labels_and_rows_of_the_largest_answer_are_read_once() {
        let labels = || (0..N_ELEMENTS).map(|index| index % 7).collect();
        let comparisons = compared(Values::I32(labels()), Values::I32(labels()));
        assert_eq!(comparisons.all()[0].ends.agreed, 1);
        // Every row is farther apart than those before it.
        let (ours, theirs) = (
            vec![0.0_f32; labels().len()],
            (0..N_ELEMENTS).map(|index| index as f32).collect(),
        );
        let comparisons = compared(Values::F32(ours.into()), Values::F32(theirs));
        let (distance, far) = &comparisons.all()[0].worst.kept()[0];
        assert_eq!(*distance, f64::from(N_ELEMENTS - 1));
        assert_eq!((far.stable.as_str(), far.shadow.as_str()), ("0", "262143"));
    }

    #[test]
    fn rows_are_shown_as_their_elements_up_to_a_length() {
        let of = |shape: Vec<usize>, values, row| {
            row_text(&Tensor::try_new(shape, values).unwrap(), row)
        };
        let texts = ByteStrings::from_iter(["no", "yes", "maybe", ""]);
        assert_eq!(of(vec![2, 2], Values::Bytes(texts), 1), "maybe, ");
        assert_eq!(
            of(vec![2, 2], Values::U8(vec![1, 2, 3, 4].into()), 0),
            "1, 2"
        );
        assert_eq!(of(vec![2], Values::Bool(vec![true, false]), 1), "false");
        let large = Values::I64(vec![i64::MAX; 100].into());
        let shown = of(vec![1, 100], large, 0);
        assert!(shown.starts_with("9223372036854775807, ") && shown.ends_with(" ..."));
    }
}
