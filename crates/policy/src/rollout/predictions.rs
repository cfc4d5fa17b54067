//! Whether a canary's predictions are distributed as the stable revision's are.
//!
//! Both revisions answer different requests of one stream. Values are put into bins that the stable revision's first ones set; how far both are apart is
//! the population stability index, and whether that is more than chance says a two-sample test that may be looked at after every
//! request: Turner, Ly and Grünwald's exact e-variable for blocks of one answer of each, "Generic E-variables for exact sequential k-sample tests" (2021).

use std::collections::BTreeMap;

use super::{Check, CheckKind, CheckState, judge};
use crate::shadow::Profile;

/// Outputs (or their columns) that are told apart.
const COLUMNS_MAX: usize = 16;
/// Values of the stable revision that set the bins.
const FIRST_MAX: usize = 200;
/// Bins of numbers.
const BINS: usize = 10;
/// Labels that have a bin of their own.
const LABELS_MAX: usize = 32;
/// What is added to each count, so that nothing is impossible.
const PRIOR: f64 = 0.5;

/// Whose prediction it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The revision that serves.
    Stable,
    /// The one on trial.
    Canary,
}

/// A prediction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Predicted<'a> {
    /// A score or an estimate; what is no number counts as the largest.
    Number(f64),
    /// A class.
    Label(&'a str),
}

/// How far the predictions of one output are apart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PredictionDrift {
    /// The output's name, with the column of several.
    pub name: String,
    /// Predictions of the stable revision.
    pub stable: u64,
    /// The canary's.
    pub canary: u64,
    /// The population stability index.
    pub stability_index: f64,
    /// Kolmogorov and Smirnov's distance at the edges of the bins.
    pub distance: f64,
    /// The logarithm of the evidence that both are distributed differently: 0 is none.
    pub log_evidence: f64,
}

/// The predictions of both revisions, bounded however many come.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Predictions {
    columns: BTreeMap<String, Column>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Column {
    labels: Vec<String>,
    is_labels: bool,
    first: (Vec<f64>, Vec<f64>),
    bins: Option<Bins>,
}

#[derive(Clone, Debug, PartialEq)]
struct Bins {
    profile: Profile,
    test: TwoSample,
}

impl Predictions {
    /// Takes what a revision predicted for an output. One answer must give each output one prediction at most: rows of one request are no independent ones.
    pub fn push(&mut self, side: Side, output: &str, predicted: Predicted<'_>) {
        if !self.columns.contains_key(output) {
            if self.columns.len() >= COLUMNS_MAX {
                return;
            }
            self.columns.insert(output.to_owned(), Column::default());
        }
        if let Some(column) = self.columns.get_mut(output) {
            column.push(side, predicted);
        }
    }

    /// Returns how far each output is apart.
    #[must_use]
    pub fn drifts(&self) -> Vec<PredictionDrift> {
        let columns = self.columns.iter();
        columns.map(|(name, column)| column.drift(name)).collect()
    }
}

impl Column {
    fn push(&mut self, side: Side, predicted: Predicted<'_>) {
        let value = self.value(predicted);
        if let Some(bins) = &mut self.bins {
            return bins.push(side, value);
        }
        match side {
            Side::Stable => self.first.0.push(value),
            // What comes before there are bins is bounded, too.
            Side::Canary if self.first.1.len() < FIRST_MAX => self.first.1.push(value),
            Side::Canary => {}
        }
        if self.first.0.len() >= FIRST_MAX {
            self.bins = Some(self.set_bins());
            self.first = (Vec::new(), Vec::new());
        }
    }

    /// Returns a prediction as a number: labels are numbered as they come, and those beyond the bins are one.
    fn value(&mut self, predicted: Predicted<'_>) -> f64 {
        let label = match predicted {
            Predicted::Number(number) if number.is_nan() => return f64::INFINITY,
            Predicted::Number(number) => return number,
            Predicted::Label(label) => label,
        };
        self.is_labels = true;
        let known = self.labels.iter().position(|known| known == label);
        let place = known.unwrap_or_else(|| {
            if self.bins.is_none() && self.labels.len() < LABELS_MAX {
                self.labels.push(label.to_owned());
                return self.labels.len() - 1;
            }
            LABELS_MAX
        });
        place as f64
    }

    fn profile(&self) -> Profile {
        let mut profile = match self.is_labels {
            true => {
                let edges = (1..=self.labels.len()).map(|edge| edge as f64);
                Profile::between(edges.collect(), self.first.0.iter().copied())
            }
            false => Profile::with_atoms(&self.first.0, BINS),
        };
        for value in &self.first.1 {
            profile.push(*value);
        }
        profile
    }

    fn set_bins(&self) -> Bins {
        let profile = self.profile();
        // The bins were set by these: they are learned from, and not tested.
        let test = TwoSample {
            counts: (profile.reference.clone(), profile.observed.clone()),
            waiting: None,
            log_evidence: 0.0,
        };
        Bins { profile, test }
    }

    fn drift(&self, name: &str) -> PredictionDrift {
        let (profile, log_evidence) = match &self.bins {
            Some(bins) => (bins.profile.clone(), bins.test.log_evidence),
            None => (self.profile(), 0.0),
        };
        let drift = profile.drift();
        PredictionDrift {
            name: name.to_owned(),
            stable: profile.reference.iter().sum(),
            canary: profile.observed.iter().sum(),
            stability_index: drift.map_or(0.0, |drift| drift.stability_index),
            distance: drift.map_or(0.0, |drift| drift.distance),
            log_evidence,
        }
    }
}

impl Bins {
    fn push(&mut self, side: Side, value: f64) {
        let bin = self.profile.edges.partition_point(|edge| *edge <= value);
        match side {
            Side::Stable => self.profile.push_reference(value),
            Side::Canary => self.profile.push(value),
        }
        match side {
            Side::Stable => self.test.stable(bin),
            Side::Canary => self.test.canary(bin),
        }
    }
}

/// Evidence that two streams of bins are distributed differently.
#[derive(Clone, Debug, PartialEq)]
struct TwoSample {
    counts: (Vec<u64>, Vec<u64>),
    /// The stable revision's last answer, for the block with the canary's next.
    waiting: Option<usize>,
    log_evidence: f64,
}

fn count(counts: &mut [u64], bin: usize) {
    if let Some(count) = counts.get_mut(bin) {
        *count += 1;
    }
}

fn share(counts: &[u64], bin: usize) -> f64 {
    let all: u64 = counts.iter().sum();
    let count = counts.get(bin).copied().unwrap_or_default();
    (count as f64 + PRIOR) / (all as f64 + PRIOR * counts.len() as f64)
}

impl TwoSample {
    fn stable(&mut self, bin: usize) {
        if let Some(unpaired) = self.waiting.replace(bin) {
            count(&mut self.counts.0, unpaired);
        }
    }

    /// Takes an answer of the canary. With the stable revision's last one it makes a block, whose bins are bet on by what was learned before.
    fn canary(&mut self, bin: usize) {
        if let Some(stable) = self.waiting.take() {
            let (own, other) = (&self.counts.0, &self.counts.1);
            let both = |bin| 0.5 * (share(own, bin) + share(other, bin));
            self.log_evidence += (share(own, stable) / both(stable)).ln();
            self.log_evidence += (share(other, bin) / both(bin)).ln();
            count(&mut self.counts.0, stable);
        }
        count(&mut self.counts.1, bin);
    }
}

/// An output that less than one in so many answers of either revision has is not waited for.
const RARE: u64 = 20;

/// Judges the predictions of a stage: that output which says most against the canary. One that is rarely asked for has a say, but is
/// not waited for.
pub(super) fn check(
    drifts: &[PredictionDrift],
    index_max: f64,
    (predictions_min, needed): (u64, f64),
) -> Check {
    let n_outputs = drifts.len().max(1) as f64;
    let most = |count: fn(&PredictionDrift) -> u64| drifts.iter().map(count).max().unwrap_or(0);
    let most = (most(|drift| drift.stable), most(|drift| drift.canary));
    let is_rare = |drift: &PredictionDrift| {
        drift.stable.saturating_mul(RARE) < most.0 && drift.canary.saturating_mul(RARE) < most.1
    };
    let checks = drifts.iter().map(|drift| {
        // The mean over outputs is evidence, too: none of them is more than all.
        let evidence = drift.log_evidence.exp() / n_outputs;
        let matters = drift.stability_index > index_max;
        let state = match drift.stable.min(drift.canary) < predictions_min {
            true if matters && evidence >= needed => CheckState::Failed,
            true if is_rare(drift) => CheckState::Passed,
            true => CheckState::TooFew,
            false => judge(matters, evidence >= needed),
        };
        Check {
            kind: CheckKind::Predictions(drift.name.clone()),
            state,
            stable: index_max,
            canary: drift.stability_index,
            evidence,
            needed,
            note: None,
        }
    });
    let severity = |check: &Check| match check.state {
        CheckState::Failed => 3,
        CheckState::TooFew => 2,
        CheckState::Doubtful => 1,
        CheckState::Passed => 0,
    };
    let worst = checks.max_by(|one, other| {
        let by_index = one.canary.total_cmp(&other.canary);
        severity(one).cmp(&severity(other)).then(by_index)
    });
    worst.unwrap_or_else(|| Check {
        kind: CheckKind::Predictions(String::new()),
        state: CheckState::TooFew,
        stable: index_max,
        canary: 0.0,
        evidence: 0.0,
        needed,
        note: Some("there are none yet".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// Sends requests of which `share` go to the canary; returns after how many the evidence reached `needed`, at which index.
    fn run(
        seed: u64,
        share: f64,
        draw: impl Fn(Side, f64) -> f64,
        (n_requests, needed): (u64, f64),
    ) -> Option<(u64, f64)> {
        let mut random = Random::new(seed);
        let mut predictions = Predictions::default();
        for request in 1..=n_requests {
            let side = match random.unit() < share {
                true => Side::Canary,
                false => Side::Stable,
            };
            let value = draw(side, random.unit());
            predictions.push(side, "predict", Predicted::Number(value));
            let drift = &predictions.drifts()[0];
            if drift.log_evidence.exp() >= needed {
                return Some((request, drift.stability_index));
            }
        }
        None
    }

    #[test]
    fn the_evidence_of_a_block_is_as_by_hand() {
        let mut test = TwoSample {
            counts: (vec![9, 0], vec![0, 9]),
            waiting: None,
            log_evidence: 0.0,
        };
        test.stable(0);
        test.canary(1);
        // Shares 9.5/10 and 0.5/10, their mean 0.5: each bin says 1.9.
        assert!((test.log_evidence - 2.0 * 1.9_f64.ln()).abs() < 1e-12);
        assert_eq!(test.counts, (vec![10, 0], vec![0, 10]));
        // Without an answer of the stable revision there is no block.
        test.canary(0);
        assert!((test.log_evidence - 2.0 * 1.9_f64.ln()).abs() < 1e-12);
        assert_eq!(test.counts.1, [1, 10]);
    }

    #[test]
    fn the_same_distribution_is_seldom_taken_for_another_however_often_one_looks() {
        // Evidence of 20 would be reached by 1 in 20 at most.
        let n_runs = 200;
        let wrong = (0..n_runs).filter(|seed| {
            let same = |_: Side, uniform: f64| uniform;
            run(*seed, 0.3, same, (2_000, 20.0)).is_some()
        });
        let n_wrong = wrong.count();
        assert!(n_wrong <= 10, "{n_wrong} of {n_runs}");
    }

    #[test]
    fn another_distribution_is_noticed_soon() {
        // Scores whose squares are even: a stability index of about 0.4.
        let shifted = |side: Side, uniform: f64| match side {
            Side::Stable => uniform,
            Side::Canary => uniform.sqrt(),
        };
        let mut noticed: Vec<u64> = (0..100)
            .filter_map(|seed| run(seed, 0.3, shifted, (20_000, 900.0)))
            .map(|(requests, _)| requests)
            .collect();
        noticed.sort_unstable();
        assert_eq!(noticed.len(), 100);
        assert!(noticed[50] < 2_000, "half within {} requests", noticed[50]);
    }

    #[test]
    fn labels_and_what_is_no_number_are_compared() {
        let mut predictions = Predictions::default();
        for index in 0..2_000_u32 {
            let label = ["a", "b"][usize::from(index % 2 == 0)];
            predictions.push(Side::Stable, "class", Predicted::Label(label));
            predictions.push(Side::Canary, "class", Predicted::Label("b"));
            let number = f64::from(index % 100);
            predictions.push(Side::Stable, "score", Predicted::Number(number));
            predictions.push(Side::Canary, "score", Predicted::Number(f64::NAN));
        }
        for drift in predictions.drifts() {
            assert_eq!((drift.stable, drift.canary), (2_000, 2_000), "{drift:?}");
            assert!(drift.stability_index > 0.25 && drift.log_evidence > 20.0);
        }
        let check = |drifts: &[PredictionDrift]| check(drifts, 0.25, (100, 900.0)).state;
        assert_eq!(check(&predictions.drifts()), CheckState::Failed);
        assert_eq!(check(&[]), CheckState::TooFew);
        let quiet = PredictionDrift {
            stable: 900,
            canary: 100,
            stability_index: 0.1,
            ..PredictionDrift::default()
        };
        assert_eq!(check(std::slice::from_ref(&quiet)), CheckState::Passed);
        let doubtful = PredictionDrift {
            stability_index: 0.3,
            ..quiet.clone()
        };
        assert_eq!(check(&[quiet.clone(), doubtful]), CheckState::Doubtful);
        let few = PredictionDrift {
            canary: 99,
            ..quiet.clone()
        };
        assert_eq!(check(&[quiet.clone(), few.clone()]), CheckState::TooFew);
        // What few ask for is not waited for, unless one of the two always gives it.
        let common = PredictionDrift {
            stable: 18_000,
            canary: 2_000,
            ..quiet
        };
        let rare = PredictionDrift {
            stable: 800,
            canary: 0,
            ..few
        };
        assert_eq!(check(&[common.clone(), rare.clone()]), CheckState::Passed);
        let missing = PredictionDrift {
            stable: 18_000,
            ..rare
        };
        assert_eq!(check(&[common, missing]), CheckState::TooFew);
    }

    #[test]
    fn numbers_that_are_nearly_all_one_are_compared() {
        // Fraud that is rare, a model that is always right, and numbers on both sides of the usual one.
        let stable: [fn(u32) -> f64; 3] = [
            |index| f64::from(u8::from(index % 50 == 0)),
            |_| 1.0,
            |index| if index % 10 == 0 { 0.0 } else { 1.0 },
        ];
        for (stable, canary) in stable.into_iter().zip([1.0, 0.5, 5.0]) {
            let mut predictions = Predictions::default();
            for index in 0..2_000 {
                let number = Predicted::Number(stable(index));
                predictions.push(Side::Stable, "score", number);
                predictions.push(Side::Stable, "as before", number);
                predictions.push(Side::Canary, "score", Predicted::Number(canary));
                predictions.push(Side::Canary, "as before", number);
            }
            let state = |drift: &PredictionDrift| {
                check(std::slice::from_ref(drift), 0.25, (100, 900.0)).state
            };
            let drifts = predictions.drifts();
            let states: Vec<_> = drifts
                .iter()
                .map(|drift| (drift.name.as_str(), state(drift)))
                .collect();
            let expected = [
                ("as before", CheckState::Passed),
                ("score", CheckState::Failed),
            ];
            assert_eq!(states, expected, "{canary}");
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut predictions = Predictions::default();
        for index in 0..1_000_u32 {
            let name = format!("output-{index}");
            predictions.push(Side::Canary, &name, Predicted::Label(&name));
            predictions.push(Side::Canary, "output-0", Predicted::Label(&name));
        }
        assert_eq!(predictions.columns.len(), COLUMNS_MAX);
        let column = &predictions.columns["output-0"];
        assert_eq!(
            (column.labels.len(), column.first.1.len()),
            (LABELS_MAX, FIRST_MAX)
        );
    }
}
