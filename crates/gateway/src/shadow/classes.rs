//! Labels that come as floats. Scikit-learn gives the floats that a classifier was fitted with, and XGBoost gives no others.

use coracle_policy::shadow::Labels;

/// The most different numbers that are taken for labels.
const CLASSES_MAX: usize = 32;

/// What the numbers of an output are as labels, as long as they may be some: a number a row, all of them whole, and few different ones.
/// Such numbers are compared as numbers, too.
#[derive(Debug, Default)]
pub(super) struct Classes {
    known: Vec<f64>,
    labels: Labels,
    /// Whether they are none.
    are_none: bool,
}

impl Classes {
    /// Takes the numbers of both in as many rows, `width` a row.
    pub(super) fn push(&mut self, ours: &[f64], theirs: &[f64], width: usize) {
        for (ours, theirs) in ours.iter().zip(theirs) {
            self.are_none = self.are_none || width != 1 || !self.note(*ours) || !self.note(*theirs);
            if self.are_none {
                // None of it is needed any more.
                (self.known, self.labels) = (Vec::new(), Labels::default());
                return;
            }
            self.labels.push(&text(*ours), &text(*theirs));
        }
    }

    /// Notes a number; returns whether it may be a label. One that is missing may be.
    fn note(&mut self, number: f64) -> bool {
        if number.is_nan() || self.known.contains(&number) {
            return true;
        }
        let is_label = number.fract() == 0.0 && self.known.len() < CLASSES_MAX;
        if is_label {
            self.known.push(number);
        }
        is_label
    }

    /// Returns them as labels, if there were some and they are.
    pub(super) fn labels(&self) -> Option<&Labels> {
        (!self.known.is_empty()).then_some(&self.labels)
    }
}

/// Returns a whole number as integers are written, zero without a sign.
fn text(number: f64) -> String {
    (number + 0.0).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(classes: &Classes) -> Option<Vec<(&str, &str, u64)>> {
        let pairs = &classes.labels()?.pairs;
        let pairs = pairs
            .iter()
            .map(|((ours, theirs), count)| (ours.as_str(), theirs.as_str(), *count));
        Some(pairs.collect())
    }

    #[test]
    fn whole_numbers_are_labels_until_there_is_another() {
        let mut classes = Classes::default();
        classes.push(&[0.0, 1.0, 2.0, -0.0], &[0.0, 2.0, 2.0, f64::NAN], 1);
        let expected = [("0", "0", 1), ("0", "NaN", 1), ("1", "2", 1), ("2", "2", 1)];
        assert_eq!(pairs(&classes).unwrap(), expected);
        for other in [0.5, f64::INFINITY] {
            let mut classes = Classes::default();
            classes.push(&[1.0], &[1.0], 1);
            classes.push(&[1.0], &[other], 1);
            classes.push(&[1.0], &[1.0], 1);
            assert_eq!(pairs(&classes), None, "{other}");
        }
    }

    #[test]
    fn neither_tables_nor_many_numbers_nor_none_are_labels() {
        let mut table = Classes::default();
        table.push(&[0.0, 1.0], &[0.0, 1.0], 2);
        let mut many = Classes::default();
        let counts: Vec<f64> = (0..100).map(f64::from).collect();
        many.push(&counts, &counts, 1);
        let mut missing = Classes::default();
        missing.push(&[f64::NAN], &[f64::NAN], 1);
        for classes in [&table, &many, &missing] {
            assert_eq!(pairs(classes), None);
        }
    }
}
