//! How the answers of several estimators become one: means, votes, medians, codes.
//!
//! The answers of a row stand side by side; a rule turns them into the result's columns.

use coracle_model::{Accepts, Scorer};
use coracle_tensor::Rows;

use crate::faceted::first_largest;
use crate::kernel::count;
use crate::spec_error::{SpecError, expect_length};
use crate::svm::{Squeeze, one_versus_rest};

/// What to do where the numbers that are divided by their sum are all zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZeroSum {
    /// Zero by zero: NaN.
    Divide,
    /// They stay zero.
    Keep,
    /// All equal.
    Even,
}

/// A function of the answers of one row.
#[derive(Clone, Debug, PartialEq)]
pub enum Rule {
    /// Parts of `width` columns each: their weighted sum over a divisor.
    Mean {
        /// The columns of each part.
        width: usize,
        /// A weight per part.
        weights: Vec<f64>,
        /// What the sum is divided by.
        divisor: f64,
    },
    /// The same of exponentials: the logarithm of the mean of what the columns are logarithms of.
    LogMean {
        /// The columns of each part.
        width: usize,
    },
    /// Each column is the number of a class: the weights of each class's votes.
    Votes {
        /// The number of classes.
        n_classes: usize,
        /// A weight per column.
        weights: Vec<f64>,
    },
    /// The same, where a vote also speaks against the other classes (AdaBoost from 1.3 on).
    OpposingVotes {
        /// The number of classes.
        n_classes: usize,
        /// A weight per column.
        weights: Vec<f64>,
    },
    /// Probabilities per part: AdaBoost's real-valued votes.
    RealVotes {
        /// The number of classes.
        n_classes: usize,
    },
    /// The weighted median of the columns.
    Median {
        /// A weight per column.
        weights: Vec<f64>,
    },
    /// Each column over the sum of all.
    OverSum(ZeroSum),
    /// First the predictions (0 or 1) of all pairs of classes, then their confidences.
    OneVersusOne {
        /// The number of classes.
        n_classes: usize,
        /// How confidences are made less than votes.
        squeeze: Squeeze,
    },
    /// The number of the largest column, the last of equal ones.
    LastLargest,
    /// The number of the largest column, the first of equal ones.
    FirstLargest,
    /// Groups of columns: the number of the first largest among the first columns of each group.
    LargestOfEach {
        /// The columns of each group.
        width: usize,
        /// How many of them count.
        sizes: Vec<usize>,
    },
    /// 1 where a column is above the threshold, else 0.
    Above(f64),
    /// One column: its negative and itself, each over two.
    HalvedPair,
    /// Two columns: the second minus the first (the first's sign turned).
    Difference,
    /// Two columns p and q: q, and 1 - q before it.
    Complement,
    /// The columns go to these places of a wider row of zeros.
    Scatter {
        /// The place of each column.
        places: Vec<usize>,
        /// The width of the result.
        width: usize,
    },
    /// Numbers above one by less than a hundred-thousandth become one.
    TrimOne,
    /// Two classes: the logits of one decision, or of probabilities that sum to one; multiplied by a factor.
    Tempered {
        /// The factor.
        beta: f64,
    },
}

/// A rule as a function of tables.
#[derive(Debug)]
pub struct RowRule {
    rule: Rule,
    n_features: usize,
    n_outputs: usize,
}

impl RowRule {
    /// Returns the rule for rows of `n_features` answers.
    ///
    /// # Errors
    /// [`SpecError`] if that number does not fit the rule.
    pub fn try_new(rule: Rule, n_features: usize) -> Result<Self, SpecError> {
        let n_outputs = rule.n_outputs(n_features)?;
        if n_outputs == 0 || n_features == 0 {
            return Err(SpecError::new("there is nothing to bring together"));
        }
        Ok(Self {
            rule,
            n_features,
            n_outputs,
        })
    }
}

impl Rule {
    fn n_outputs(&self, n_features: usize) -> Result<usize, SpecError> {
        let expect = |what: &str, expected: usize| expect_length(what, n_features, expected);
        Ok(match self {
            Self::Mean { width, weights, .. } => {
                expect("the answers", width.saturating_mul(weights.len()))?;
                *width
            }
            Self::LogMean { width } | Self::RealVotes { n_classes: width } => {
                if !n_features.is_multiple_of(*width) {
                    return Err(SpecError::new("the parts differ in width"));
                }
                *width
            }
            Self::Votes { n_classes, weights } | Self::OpposingVotes { n_classes, weights } => {
                expect("the votes", weights.len())?;
                *n_classes
            }
            Self::Median { weights } => {
                expect("the values", weights.len())?;
                1
            }
            Self::OneVersusOne { n_classes, .. } => {
                let n_pairs = n_classes.saturating_mul(n_classes.saturating_sub(1)) / 2;
                expect("the answers of pairs", n_pairs.saturating_mul(2))?;
                *n_classes
            }
            Self::LastLargest | Self::FirstLargest => 1,
            Self::LargestOfEach { width, sizes } => {
                expect("the groups", width.saturating_mul(sizes.len()))?;
                if sizes.iter().any(|size| *size == 0 || size > width) {
                    return Err(SpecError::new("a group has no columns"));
                }
                sizes.len()
            }
            Self::OverSum(_) | Self::Above(_) | Self::TrimOne => n_features,
            Self::HalvedPair => {
                expect("a decision", 1)?;
                2
            }
            Self::Difference => {
                expect("two scores", 2)?;
                1
            }
            Self::Complement => {
                expect("two probabilities", 2)?;
                2
            }
            Self::Scatter { places, width } => {
                expect("the columns", places.len())?;
                if places.iter().any(|place| place >= width) {
                    return Err(SpecError::new("a column has no place"));
                }
                *width
            }
            Self::Tempered { .. } => n_features.max(2),
        })
    }

    fn apply(&self, answers: &[f64], out: &mut [f64]) {
        match self {
            Self::Mean {
                width,
                weights,
                divisor,
            } => {
                out.fill(0.0);
                for (part, weight) in answers.chunks_exact(*width).zip(weights) {
                    for (sum, value) in out.iter_mut().zip(part) {
                        *sum += weight * value;
                    }
                }
                out.iter_mut().for_each(|sum| *sum /= divisor);
            }
            Self::LogMean { width } => log_mean(answers, *width, out),
            Self::Votes { weights, .. } => {
                out.fill(0.0);
                for (vote, weight) in answers.iter().zip(weights) {
                    out[class(*vote, out.len())] += weight;
                }
            }
            Self::OpposingVotes { n_classes, weights } => {
                out.fill(0.0);
                let against = -1.0 / (count(*n_classes) - 1.0);
                for (vote, weight) in answers.iter().zip(weights) {
                    let voted = class(*vote, out.len());
                    for (class, sum) in out.iter_mut().enumerate() {
                        *sum += if class == voted {
                            *weight
                        } else {
                            against * weight
                        };
                    }
                }
            }
            Self::RealVotes { n_classes } => real_votes(answers, *n_classes, out),
            Self::Median { weights } => out[0] = median(answers, weights),
            Self::OneVersusOne { squeeze, .. } => {
                let (predictions, confidences) = answers.split_at(answers.len() / 2);
                let is_second: Vec<bool> = predictions.iter().map(|&p| p == 1.0).collect();
                one_versus_rest(confidences, &is_second, *squeeze, out);
            }
            Self::LastLargest => out[0] = count(last_largest(answers)),
            Self::FirstLargest => out[0] = count(first_largest(answers)),
            Self::LargestOfEach { width, sizes } => {
                let groups = answers.chunks_exact(*width).zip(sizes);
                for (out, (group, size)) in out.iter_mut().zip(groups) {
                    *out = count(first_largest(&group[..*size]));
                }
            }
            _ => self.apply_each(answers, out),
        }
    }

    /// The rules that keep columns apart.
    fn apply_each(&self, answers: &[f64], out: &mut [f64]) {
        match self {
            Self::OverSum(zero) => {
                out.copy_from_slice(answers);
                over_sum(out, *zero);
            }
            Self::Above(threshold) => {
                for (out, answer) in out.iter_mut().zip(answers) {
                    *out = if answer > threshold { 1.0 } else { 0.0 };
                }
            }
            Self::HalvedPair => {
                out.copy_from_slice(&[-answers[0] / 2.0, answers[0] / 2.0]);
            }
            Self::Difference => out[0] = -answers[0] + answers[1],
            Self::Complement => out.copy_from_slice(&[1.0 - answers[1], answers[1]]),
            Self::Scatter { places, .. } => {
                out.fill(0.0);
                for (&place, answer) in places.iter().zip(answers) {
                    out[place] = *answer;
                }
            }
            Self::TrimOne => {
                for (out, &answer) in out.iter_mut().zip(answers) {
                    let is_over = answer > 1.0 && answer <= 1.0 + 1e-5;
                    *out = if is_over { 1.0 } else { answer };
                }
            }
            Self::Tempered { beta } => {
                match answers {
                    [decision] => out.copy_from_slice(&[-decision, *decision]),
                    _ => out.copy_from_slice(answers),
                }
                out.iter_mut().for_each(|value| *value *= beta);
            }
            _ => out.fill(f64::NAN),
        }
    }
}

#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a class number; the cast saturates and the result is limited"
)]
fn class(vote: f64, n_classes: usize) -> usize {
    (vote as usize).min(n_classes - 1)
}

fn last_largest(values: &[f64]) -> usize {
    let mut best = 0;
    for (index, value) in values.iter().enumerate() {
        if *value >= values[best] {
            best = index;
        }
    }
    best
}

fn log_mean(answers: &[f64], width: usize, out: &mut [f64]) {
    out.fill(f64::NEG_INFINITY);
    for part in answers.chunks_exact(width) {
        for (sum, &value) in out.iter_mut().zip(part) {
            let (low, high) = (sum.min(value), sum.max(value));
            *sum = match high == f64::NEG_INFINITY {
                true => high,
                false => high + (low - high).exp().ln_1p(),
            };
        }
    }
    let logarithm = count(answers.len() / width).ln();
    out.iter_mut().for_each(|sum| *sum -= logarithm);
}

fn real_votes(answers: &[f64], n_classes: usize, out: &mut [f64]) {
    out.fill(0.0);
    let n = count(n_classes);
    let logarithm = |p: &f64| p.max(f64::EPSILON).ln();
    for part in answers.chunks_exact(n_classes) {
        let mean = 1.0 / n * part.iter().map(logarithm).sum::<f64>();
        for (sum, p) in out.iter_mut().zip(part) {
            *sum += (n - 1.0) * (logarithm(p) - mean);
        }
    }
}

fn median(values: &[f64], weights: &[f64]) -> f64 {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&left, &right| values[left].total_cmp(&values[right]));
    let total: f64 = order.iter().map(|&index| weights[index]).sum();
    let mut sum = 0.0;
    for &index in &order {
        sum += weights[index];
        if sum >= 0.5 * total {
            return values[index];
        }
    }
    values[order[0]]
}

fn over_sum(values: &mut [f64], zero: ZeroSum) {
    let sum: f64 = values.iter().sum();
    if sum == 0.0 && zero != ZeroSum::Divide {
        if zero == ZeroSum::Even {
            values.fill(1.0 / count(values.len()));
        }
        return;
    }
    values.iter_mut().for_each(|value| *value /= sum);
}

impl Scorer for RowRule {
    fn n_features(&self) -> usize {
        self.n_features
    }

    fn n_scores(&self) -> usize {
        self.n_outputs
    }

    fn accepts(&self) -> Accepts {
        Accepts::ANY
    }

    fn score(&self, rows: Rows<'_>, scores: &mut [f64]) {
        for (row, scores) in rows.iter().zip(scores.chunks_exact_mut(self.n_outputs)) {
            self.rule.apply(row, scores);
        }
    }

    fn memory_bytes(&self) -> usize {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(rule: Rule, answers: &[f64]) -> Vec<f64> {
        let rule = RowRule::try_new(rule, answers.len()).unwrap();
        let mut out = vec![0.0; rule.n_scores()];
        rule.score(Rows::try_new(answers, answers.len()).unwrap(), &mut out);
        out
    }

    #[test]
    fn rules_follow_their_definitions() {
        let mean = Rule::Mean {
            width: 2,
            weights: vec![1.0, 3.0],
            divisor: 4.0,
        };
        assert_eq!(apply(mean, &[1.0, 2.0, 5.0, 2.0]), [4.0, 2.0]);
        let votes = Rule::Votes {
            n_classes: 3,
            weights: vec![1.0, 2.0, 1.0],
        };
        assert_eq!(apply(votes, &[2.0, 0.0, 2.0]), [2.0, 0.0, 2.0]);
        let median = Rule::Median {
            weights: vec![1.0, 1.0, 5.0],
        };
        assert_eq!(apply(median, &[1.0, 2.0, 3.0]), [3.0]);
        assert_eq!(apply(Rule::LastLargest, &[1.0, 2.0, 2.0]), [2.0]);
        let even = Rule::OverSum(ZeroSum::Even);
        assert_eq!(apply(even, &[0.0, 0.0]), [0.5, 0.5]);
        let log = apply(Rule::LogMean { width: 1 }, &[0.5_f64.ln(), 0.25_f64.ln()]);
        assert!((log[0] - 0.375_f64.ln()).abs() < 1e-15);
    }

    #[test]
    fn rules_refuse_other_numbers_of_answers() {
        let weights = || vec![1.0, 1.0];
        assert!(RowRule::try_new(Rule::Median { weights: weights() }, 3).is_err());
        assert!(RowRule::try_new(Rule::Difference, 3).is_err());
        assert!(RowRule::try_new(Rule::LogMean { width: 2 }, 3).is_err());
        let scatter = Rule::Scatter {
            places: vec![3],
            width: 3,
        };
        assert!(RowRule::try_new(scatter, 1).is_err());
    }
}
