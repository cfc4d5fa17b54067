//! Support vector machines as libsvm evaluates them.

use std::sync::Arc;

use coracle_model::{Accepts, Scorer};
use coracle_tensor::Rows;

use crate::kernel::Kernel;
use crate::spec_error::{SpecError, expect_length};

/// What a support vector machine learnt.
#[derive(Clone, Debug)]
pub struct SvmSpec {
    /// The kernel.
    pub kernel: Kernel,
    /// The number of columns.
    pub n_features: usize,
    /// `(vectors, features)`, row-major; sorted by class.
    pub support_vectors: Vec<f64>,
    /// libsvm's coefficients: `(classes - 1, vectors)`, or `(1, vectors)` for one function.
    pub coefficients: Vec<f64>,
    /// The constant of each function: one per pair of classes, or one.
    pub intercepts: Vec<f64>,
    /// How many vectors each class has; one number for a regression.
    pub counts: Vec<usize>,
}

/// The decision values of a support vector machine: one per pair of classes, or one.
#[derive(Debug)]
pub struct Svm {
    spec: SvmSpec,
}

impl Svm {
    /// Checks the parts and returns the machine.
    ///
    /// # Errors
    /// [`SpecError`] if lengths do not fit.
    pub fn try_new(spec: SvmSpec) -> Result<Self, SpecError> {
        let n_vectors = spec
            .counts
            .iter()
            .try_fold(0_usize, |sum, &count| sum.checked_add(count))
            .ok_or_else(|| SpecError::new("too many support vectors"))?;
        let n_classes = spec.counts.len();
        if n_classes == 0 || spec.n_features == 0 {
            return Err(SpecError::new("a machine needs features and classes"));
        }
        let n_functions = match n_classes {
            1 => 1,
            n => n * (n - 1) / 2,
        };
        let n_coefficient_rows = n_classes.max(2) - 1;
        expect_length(
            "support_vectors_",
            spec.support_vectors.len(),
            n_vectors.saturating_mul(spec.n_features),
        )?;
        expect_length(
            "dual_coef_",
            spec.coefficients.len(),
            n_vectors.saturating_mul(n_coefficient_rows),
        )?;
        expect_length("intercept_", spec.intercepts.len(), n_functions)?;
        Ok(Self { spec })
    }

    /// Returns the number of classes; 1 for a regression.
    #[must_use]
    pub fn n_classes(&self) -> usize {
        self.spec.counts.len()
    }

    fn n_vectors(&self) -> usize {
        self.spec.support_vectors.len() / self.spec.n_features
    }

    /// Writes the kernel of `row` with every vector.
    fn similarities(&self, row: &[f64], similarities: &mut [f64]) {
        let vectors = self.spec.support_vectors.chunks_exact(self.spec.n_features);
        for (similarity, vector) in similarities.iter_mut().zip(vectors) {
            *similarity = self.spec.kernel.of(row, vector);
        }
    }

    fn decide(&self, similarities: &[f64], decisions: &mut [f64]) {
        let n_vectors = similarities.len();
        let n_classes = self.n_classes();
        let weighted = |row: usize, start: usize, count: usize| -> f64 {
            let coefficients = &self.spec.coefficients[row * n_vectors + start..][..count];
            let similarities = &similarities[start..start + count];
            coefficients
                .iter()
                .zip(similarities)
                .map(|(a, b)| a * b)
                .sum()
        };
        if n_classes == 1 {
            decisions[0] = weighted(0, 0, n_vectors) + self.spec.intercepts[0];
            return;
        }
        let mut pair = 0;
        let mut start_i = 0;
        for i in 0..n_classes {
            let count_i = self.spec.counts[i];
            let mut start_j = start_i + count_i;
            for j in i + 1..n_classes {
                let count_j = self.spec.counts[j];
                let sum = weighted(j - 1, start_i, count_i) + weighted(i, start_j, count_j);
                decisions[pair] = sum + self.spec.intercepts[pair];
                pair += 1;
                start_j += count_j;
            }
            start_i += count_i;
        }
    }
}

impl Scorer for Svm {
    fn n_features(&self) -> usize {
        self.spec.n_features
    }

    fn n_scores(&self) -> usize {
        self.spec.intercepts.len()
    }

    fn accepts(&self) -> Accepts {
        Accepts::FINITE
    }

    fn score(&self, rows: Rows<'_>, scores: &mut [f64]) {
        let mut similarities = vec![0.0; self.n_vectors()];
        for (row, decisions) in rows.iter().zip(scores.chunks_exact_mut(self.n_scores())) {
            self.similarities(row, &mut similarities);
            self.decide(&similarities, decisions);
        }
    }

    fn memory_bytes(&self) -> usize {
        let n_numbers = self.spec.support_vectors.capacity() + self.spec.coefficients.capacity();
        n_numbers * size_of::<f64>()
    }
}

/// How the sum of a class's decisions is made less than a vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Squeeze {
    /// `x / (3 (|x| + 1))`.
    Third,
    /// By what makes the largest of the row's sums a half, less the smallest difference: scikit-learn up to 0.20, asked
    /// for one row. (Of several it takes the largest of all of them.)
    HalfOfLargest,
}

/// How the decisions of pairs of classes are brought together.
#[derive(Clone, Debug, PartialEq)]
pub enum PairRule {
    /// Each pair has a vote; gives the number of the first class with most votes.
    Vote,
    /// Votes plus a bounded sum of the decisions: scikit-learn's `decision_function_shape='ovr'`.
    OneVersusRest(Squeeze),
    /// Platt's sigmoid of each decision, coupled: the slope and the offset of each pair.
    Probabilities(Vec<(f64, f64)>),
    /// The decisions with the opposite sign (one pair: positive means the second class).
    Negated,
}

/// What follows from a machine's decisions.
#[derive(Debug)]
pub struct Pairs {
    decisions: Arc<dyn Scorer>,
    n_classes: usize,
    rule: PairRule,
}

impl Pairs {
    /// Returns `rule` over the decisions of all pairs among `n_classes`, in order (0, 1), (0, 2) ...
    ///
    /// A decision above zero speaks for the first class of its pair.
    ///
    /// # Errors
    /// [`SpecError`] if the numbers of decisions, classes and sigmoids do not fit.
    pub fn try_new(
        decisions: Arc<dyn Scorer>,
        n_classes: usize,
        rule: PairRule,
    ) -> Result<Self, SpecError> {
        if n_classes < 2 {
            return Err(SpecError::new("pairs need two classes"));
        }
        let n_pairs = n_classes.saturating_mul(n_classes - 1) / 2;
        expect_length("decisions", decisions.n_scores(), n_pairs)?;
        if let PairRule::Probabilities(sigmoids) = &rule {
            expect_length("probA_", sigmoids.len(), n_pairs)?;
        }
        Ok(Self {
            decisions,
            n_classes,
            rule,
        })
    }

    fn bring_together(&self, decisions: &[f64], scores: &mut [f64]) {
        match &self.rule {
            PairRule::Negated => {
                for (score, decision) in scores.iter_mut().zip(decisions) {
                    *score = -decision;
                }
            }
            PairRule::Vote => {
                let mut votes = vec![0_u32; self.n_classes];
                for_pairs(self.n_classes, |pair, i, j| {
                    votes[if decisions[pair] > 0.0 { i } else { j }] += 1;
                });
                let mut best = 0;
                for class in 1..self.n_classes {
                    if votes[class] > votes[best] {
                        best = class;
                    }
                }
                scores[0] = f64::from(u32::try_from(best).unwrap_or(u32::MAX));
            }
            PairRule::OneVersusRest(squeeze) => {
                let negated: Vec<f64> = decisions.iter().map(|decision| -decision).collect();
                let is_second: Vec<bool> = decisions.iter().map(|&value| value < 0.0).collect();
                one_versus_rest(&negated, &is_second, *squeeze, scores);
            }
            PairRule::Probabilities(sigmoids) => self.couple(decisions, sigmoids, scores),
        }
    }

    fn couple(&self, decisions: &[f64], sigmoids: &[(f64, f64)], probabilities: &mut [f64]) {
        const SMALLEST: f64 = 1e-7;
        let n = self.n_classes;
        let mut pairwise = vec![0.0; n * n];
        for_pairs(n, |pair, i, j| {
            let (slope, offset) = sigmoids[pair];
            let exponent = decisions[pair] * slope + offset;
            let first = if exponent >= 0.0 {
                (-exponent).exp() / (1.0 + (-exponent).exp())
            } else {
                1.0 / (1.0 + exponent.exp())
            };
            let first = first.clamp(SMALLEST, 1.0 - SMALLEST);
            pairwise[i * n + j] = first;
            pairwise[j * n + i] = 1.0 - first;
        });
        couple_probabilities(&pairwise, probabilities);
    }
}

fn for_pairs(n_classes: usize, mut visit: impl FnMut(usize, usize, usize)) {
    let mut pair = 0;
    for i in 0..n_classes {
        for j in i + 1..n_classes {
            visit(pair, i, j);
            pair += 1;
        }
    }
}

/// scikit-learn's `_ovr_decision_function`: votes, with the sum of confidences squeezed to less than one.
///
/// A confidence is positive, and `is_second` true, where the second class of a pair is preferred.
pub(crate) fn one_versus_rest(
    confidences: &[f64],
    is_second: &[bool],
    squeeze: Squeeze,
    scores: &mut [f64],
) {
    let n_classes = scores.len();
    let mut votes = vec![0.0; n_classes];
    scores.fill(0.0);
    for_pairs(n_classes, |pair, i, j| {
        scores[i] -= confidences[pair];
        scores[j] += confidences[pair];
        votes[if is_second[pair] { j } else { i }] += 1.0;
    });
    let largest = scores.iter().fold(f64::NEG_INFINITY, |a, b| a.max(*b));
    let least = scores.iter().fold(f64::INFINITY, |a, b| a.min(*b));
    for (score, votes) in scores.iter_mut().zip(votes) {
        *score = match squeeze {
            Squeeze::Third => votes + *score / (3.0 * (score.abs() + 1.0)),
            Squeeze::HalfOfLargest if largest <= least => votes,
            Squeeze::HalfOfLargest => {
                votes + *score * ((0.5 - f64::EPSILON) / largest.abs().max(least.abs()))
            }
        };
    }
}

/// libsvm's second coupling method (Wu, Lin and Weng), with its stopping rule.
fn couple_probabilities(pairwise: &[f64], p: &mut [f64]) {
    let n = p.len();
    let mut q = vec![0.0; n * n];
    for t in 0..n {
        for j in (0..n).filter(|&j| j != t) {
            q[t * n + t] += pairwise[j * n + t] * pairwise[j * n + t];
            q[t * n + j] = if j < t {
                q[j * n + t]
            } else {
                -pairwise[j * n + t] * pairwise[t * n + j]
            };
        }
    }
    let count = f64::from(u32::try_from(n).unwrap_or(u32::MAX));
    p.fill(1.0 / count);
    let mut qp = vec![0.0; n];
    for _ in 0..n.max(100) {
        let mut pqp = 0.0;
        for t in 0..n {
            qp[t] = (0..n).map(|j| q[t * n + j] * p[j]).sum();
            pqp += p[t] * qp[t];
        }
        let error = qp.iter().map(|qp| (qp - pqp).abs()).fold(0.0, f64::max);
        if error < 0.005 / count {
            break;
        }
        for t in 0..n {
            let difference = (-qp[t] + pqp) / q[t * n + t];
            p[t] += difference;
            let scale = 1.0 + difference;
            pqp = (pqp + difference * (difference * q[t * n + t] + 2.0 * qp[t])) / scale / scale;
            for j in 0..n {
                qp[j] = (qp[j] + difference * q[t * n + j]) / scale;
                p[j] /= scale;
            }
        }
    }
}

impl Scorer for Pairs {
    fn n_features(&self) -> usize {
        self.decisions.n_features()
    }

    fn n_scores(&self) -> usize {
        match self.rule {
            PairRule::Vote => 1,
            PairRule::Negated => self.decisions.n_scores(),
            PairRule::OneVersusRest(_) | PairRule::Probabilities(_) => self.n_classes,
        }
    }

    fn accepts(&self) -> Accepts {
        self.decisions.accepts()
    }

    fn score(&self, rows: Rows<'_>, scores: &mut [f64]) {
        let n_decisions = self.decisions.n_scores();
        let mut decisions = vec![0.0; rows.n_rows() * n_decisions];
        self.decisions.score(rows, &mut decisions);
        let rows = decisions.chunks_exact(n_decisions);
        for (decisions, scores) in rows.zip(scores.chunks_exact_mut(self.n_scores())) {
            self.bring_together(decisions, scores);
        }
    }

    fn memory_bytes(&self) -> usize {
        self.decisions.memory_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> SvmSpec {
        SvmSpec {
            kernel: Kernel::Linear,
            n_features: 1,
            support_vectors: vec![1.0, 2.0],
            coefficients: vec![1.0, -1.0],
            intercepts: vec![0.5],
            counts: vec![1, 1],
        }
    }

    #[test]
    fn a_pair_decides_by_its_weighted_similarities() {
        let svm = Svm::try_new(spec()).unwrap();
        let mut scores = [0.0; 2];
        svm.score(Rows::try_new(&[1.0, -1.0], 1).unwrap(), &mut scores);
        assert_eq!(scores, [-0.5, 1.5]);
        let votes = Pairs::try_new(Arc::new(svm), 2, PairRule::Vote).unwrap();
        votes.score(Rows::try_new(&[1.0, -1.0], 1).unwrap(), &mut scores);
        assert_eq!(scores, [1.0, 0.0]);
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        let broken = |change: fn(&mut SvmSpec)| {
            let mut spec = spec();
            change(&mut spec);
            Svm::try_new(spec).is_err()
        };
        assert!(broken(|spec| spec.counts = vec![1, 1, 1]));
        assert!(broken(|spec| spec.counts = vec![usize::MAX, 3]));
        assert!(broken(|spec| spec.counts.clear()));
        assert!(broken(|spec| spec.n_features = 0));
        assert!(broken(|spec| spec.intercepts.clear()));
        assert!(broken(|spec| spec.coefficients.push(0.0)));
    }

    #[test]
    fn coupled_probabilities_sum_to_one() {
        let pairwise = [0.0, 0.9, 0.8, 0.1, 0.0, 0.4, 0.2, 0.6, 0.0];
        let mut p = [0.0; 3];
        couple_probabilities(&pairwise, &mut p);
        assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{p:?}");
        assert!(p[0] > p[2] && p[2] > p[1], "{p:?}");
    }
}
