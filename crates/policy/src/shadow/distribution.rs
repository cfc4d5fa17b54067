//! Whether two sets of scores are distributed alike: population stability index and Kolmogorov and Smirnov's distance.

/// Added to every count, so that an empty bin is not infinitely surprising.
const SMOOTHING: f64 = 0.5;
/// The most terms of the limiting distribution.
const TERMS_MAX: u32 = 200;

/// Counts of two sets of scores over the same bins.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// Where bins begin, but for the first, in rising order.
    pub edges: Vec<f64>,
    /// Counts of the reference.
    pub reference: Vec<u64>,
    /// Counts of what is compared with it.
    pub observed: Vec<u64>,
}

/// How far two sets of scores are apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drift {
    /// Population stability index: below 0.1 is taken for stable, above 0.25 for drift.
    pub stability_index: f64,
    /// The greatest distance of the two cumulative distributions at the edges of bins.
    pub distance: f64,
    /// The p-value of that distance, conservative because of the bins.
    pub p_value: f64,
}

impl Profile {
    /// Returns a profile whose bins hold equal parts of `scores`, at most `n_bins` of them; numbers that are none are passed over.
    #[must_use]
    pub fn of(scores: &[f64], n_bins: usize) -> Self {
        let sorted = sorted(scores);
        let edges = equal_parts(&sorted, n_bins);
        Self::between(edges, sorted)
    }

    /// Returns the same with a bin of its own for each number that fills a bin alone: equal parts say nothing of scores that are
    /// nearly all one number, and of those beyond it.
    #[must_use]
    pub fn with_atoms(scores: &[f64], n_bins: usize) -> Self {
        let sorted = sorted(scores);
        let mut edges = equal_parts(&sorted, n_bins);
        for equal in sorted.chunk_by(|one, other| one == other) {
            if equal.len() * n_bins >= sorted.len() {
                edges.extend([equal[0], equal[0].next_up()]);
            }
        }
        edges.sort_by(f64::total_cmp);
        edges.dedup();
        Self::between(edges, sorted)
    }

    /// Returns a profile with bins between `edges`, in which `scores` are counted.
    #[must_use]
    pub fn between(edges: Vec<f64>, scores: impl IntoIterator<Item = f64>) -> Self {
        let n_bins = edges.len() + 1;
        let mut profile = Self {
            edges,
            reference: vec![0; n_bins],
            observed: vec![0; n_bins],
        };
        for score in scores {
            profile.push_reference(score);
        }
        profile
    }

    /// Takes a score of the reference.
    pub fn push_reference(&mut self, score: f64) {
        if !score.is_nan() {
            let bin = self.bin(score);
            self.reference[bin] += 1;
        }
    }

    /// Takes a score of what is compared with it.
    pub fn push(&mut self, score: f64) {
        if !score.is_nan() {
            let bin = self.bin(score);
            self.observed[bin] += 1;
        }
    }

    fn bin(&self, score: f64) -> usize {
        self.edges.partition_point(|edge| *edge <= score)
    }

    /// Compares the two; `None` while one of them is empty.
    #[must_use]
    pub fn drift(&self) -> Option<Drift> {
        let n_reference: u64 = self.reference.iter().sum();
        let n_observed: u64 = self.observed.iter().sum();
        if n_reference == 0 || n_observed == 0 {
            return None;
        }
        let n_bins = self.reference.len() as f64;
        let share =
            |count: u64, all: u64| (count as f64 + SMOOTHING) / (all as f64 + SMOOTHING * n_bins);
        let (mut stability_index, mut distance) = (0.0, 0.0_f64);
        let (mut below_reference, mut below_observed) = (0_u64, 0_u64);
        for (reference, observed) in self.reference.iter().zip(&self.observed) {
            let (p, q) = (share(*reference, n_reference), share(*observed, n_observed));
            stability_index += (q - p) * (q / p).ln();
            below_reference += reference;
            below_observed += observed;
            let gap = below_reference as f64 / n_reference as f64
                - below_observed as f64 / n_observed as f64;
            distance = distance.max(gap.abs());
        }
        Some(Drift {
            stability_index,
            distance,
            p_value: p_value(distance, n_reference, n_observed),
        })
    }
}

fn sorted(scores: &[f64]) -> Vec<f64> {
    let numbers = scores.iter().copied().filter(|score| !score.is_nan());
    let mut sorted: Vec<f64> = numbers.collect();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// Returns where bins of equal parts begin, but for the first.
fn equal_parts(sorted: &[f64], n_bins: usize) -> Vec<f64> {
    let quantiles = (1..n_bins).map(|bin| sorted.get(bin * sorted.len() / n_bins).copied());
    let mut edges: Vec<f64> = quantiles.flatten().collect();
    edges.dedup();
    // A bin that begins at the least score would leave the first one empty.
    edges.retain(|edge| sorted.first().is_some_and(|least| edge > least));
    edges
}

/// Returns Kolmogorov and Smirnov's distance of two sets of scores, and its p-value; `None` while one of them is empty.
///
/// The p-value is from the limiting distribution with Stephens' correction (1970), good from some ten scores on.
#[must_use]
pub fn kolmogorov_smirnov(left: &[f64], right: &[f64]) -> Option<(f64, f64)> {
    let sorted = |scores: &[f64]| {
        let mut sorted: Vec<f64> = scores
            .iter()
            .copied()
            .filter(|score| !score.is_nan())
            .collect();
        sorted.sort_by(f64::total_cmp);
        sorted
    };
    let (left, right) = (sorted(left), sorted(right));
    if left.is_empty() || right.is_empty() {
        return None;
    }
    let share_up_to = |sorted: &[f64], score: f64| {
        sorted.partition_point(|one| *one <= score) as f64 / sorted.len() as f64
    };
    let scores = left.iter().chain(&right);
    let gaps = scores.map(|score| (share_up_to(&left, *score) - share_up_to(&right, *score)).abs());
    let distance = gaps.fold(0.0, f64::max);
    Some((
        distance,
        p_value(distance, left.len() as u64, right.len() as u64),
    ))
}

fn p_value(distance: f64, n_left: u64, n_right: u64) -> f64 {
    let (left, right) = (n_left as f64, n_right as f64);
    let root = (left * right / (left + right)).sqrt();
    kolmogorov_sf((root + 0.12 + 0.11 / root) * distance)
}

/// Returns the probability that Kolmogorov's limiting statistic exceeds `x`.
pub(crate) fn kolmogorov_sf(x: f64) -> f64 {
    if x < 0.2 {
        // One to twelve digits, and the alternating series is slow here.
        return 1.0;
    }
    let mut sum = 0.0;
    for k in 1..TERMS_MAX {
        let term = (-2.0 * f64::from(k * k) * x * x).exp();
        sum += if k % 2 == 1 { term } else { -term };
        if term < 1e-18 {
            break;
        }
    }
    (2.0 * sum).clamp(0.0, 1.0)
}
