//! Evidence that events (errors, slow requests) strike one of two revisions more often than its share of requests explains.
//!
//! Requests are split without regard to what they are, so which revision an event strikes depends only on the canary's share of the requests and on the
//! ratio of the two rates, whatever the rates are and however they change. Against the largest tolerated ratio stand a few larger ones; the evidence is the mean of
//! their likelihood ratios, multiplied up over the events. Under any tolerated ratio this is a nonnegative supermartingale, so by Ville's
//! inequality it ever exceeds `1 / alpha` with probability `alpha` at most. This is a mixture sequential probability ratio test
//! (Wald, 1945; Robbins, 1970) on the split of events.
//!
//! A canary may also be allowed events besides those ([`Evidence::allow`]): so many for each of its requests. They are taken off as the compensator of a
//! counting process is, which leaves a supermartingale what was one. [`RateEvidence`] is the evidence that a rate is beyond all that is allowed of it.

use super::Allowed;

/// The ratios that stand against the tolerated one, as multiples of it, each with its share of the evidence: from a canary that is hardly worse to one that always fails. What is
/// hardly worse takes so many events to tell that a small share costs it little.
const ALTERNATIVES: [(f64, f64); 9] = [
    (1.05, 1.0 / 30.0),
    (1.1, 1.0 / 30.0),
    (1.25, 1.0 / 30.0),
    (1.5, 0.15),
    (2.0, 0.15),
    (4.0, 0.15),
    (16.0, 0.15),
    (128.0, 0.15),
    (4_096.0, 0.15),
];

/// What speaks for a regression so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Evidence {
    /// The logarithm of the likelihood ratio of each alternative.
    log_ratios: [f64; ALTERNATIVES.len()],
}

impl Evidence {
    /// Takes the events of the stable and of the canary revision.
    ///
    /// `odds` are the canary's requests to the stable revision's, times the ratio that is tolerated. Too high odds err on the safe side.
    pub(super) fn observe(&mut self, odds: f64, (stable_events, canary_events): (u64, u64)) {
        if !odds.is_finite() {
            return;
        }
        for (log_ratio, (alternative, _)) in self.log_ratios.iter_mut().zip(ALTERNATIVES) {
            // Shares of events that strike the canary: odds / (1 + odds), and the same with the alternative's odds.
            let normalise = ((1.0 + odds) / (1.0 + alternative * odds)).ln();
            *log_ratio += canary_events as f64 * (alternative.ln() + normalise)
                + stable_events as f64 * normalise;
        }
    }

    /// Begins once more beside what began before, with so much of what the first beginning had.
    ///
    /// What went well for long is held against a failure that begins now: so much has been lost on bets on it. Whoever begins now has lost nothing.
    fn begin_again(&mut self, share: f64) {
        for log_ratio in &mut self.log_ratios {
            let most = log_ratio.max(share.ln());
            *log_ratio = most + ((*log_ratio - most).exp() + (share.ln() - most).exp()).ln();
        }
    }

    /// Takes that the canary is allowed so many events, in expectation, besides those that its odds explain.
    ///
    /// With the same odds as [`Self::observe`] is told. An event of the canary multiplies the likelihood ratio of an alternative by one and a gain; where events come at a
    /// rate that is allowed, the gain times what is allowed, in the exponent, is what makes up for it.
    pub(super) fn allow(&mut self, odds: f64, expected: f64) {
        if !(odds.is_finite() && expected > 0.0) {
            return;
        }
        for (log_ratio, (alternative, _)) in self.log_ratios.iter_mut().zip(ALTERNATIVES) {
            let gain = (alternative - 1.0) / (1.0 + alternative * odds);
            *log_ratio -= gain * expected;
        }
    }

    /// Returns the logarithm of the evidence: the weighted mean of the likelihood ratios.
    pub(super) fn log_value(&self) -> f64 {
        let most = self.log_ratios.iter().copied().fold(f64::MIN, f64::max);
        let weighted = self.log_ratios.iter().zip(ALTERNATIVES);
        let sum: f64 = weighted
            .map(|(log_ratio, (_, weight))| weight * (log_ratio - most).exp())
            .sum();
        most + sum.ln()
    }
}

/// How much of the evidence begins with the rollout; the rest begins with its intervals, less with each.
const FROM_THE_BEGINNING: f64 = 0.9;

/// What speaks for a rate of the canary that is beyond all that is allowed of it.
///
/// What is allowed is the greatest of three: so many times the stable revision's rate, so much more than it, or so much whatever it is. Evidence against each of them is evidence against the
/// greatest, so the least of the three counts (`log_value`). A canary goes back by two of its figures: that of the ratio alone (`log_worse`) must be believed, and the least must be above none.
/// So one that is within the ratio all the way goes back with probability `alpha` at most; one that is beyond it and within what is allowed besides may go back more often, the nearer it is to that.
///
/// Each begins with the rollout, and with a small part of the evidence anew with every interval, so that a canary which fails after hours goes back as soon as one that fails at once.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RateEvidence {
    /// Against so many times the stable revision's.
    by_ratio: Evidence,
    /// Against so much more.
    by_margin: Evidence,
    /// Against so much.
    by_floor: Evidence,
    /// How many intervals there were.
    n_intervals: f64,
}

impl RateEvidence {
    /// Takes the events of both revisions and the canary's requests; `odds` are the canary's requests to the stable revision's.
    pub(super) fn observe(
        &mut self,
        (odds, allowed): (f64, Allowed),
        events: (u64, u64),
        canary_requests: u64,
    ) {
        let requests = canary_requests as f64;
        self.n_intervals += 1.0;
        // All parts that ever begin are one together: 1 / 2 + 1 / 6 + 1 / 12 and so on is 1.
        let begins = (1.0 - FROM_THE_BEGINNING) / (self.n_intervals * (self.n_intervals + 1.0));
        for one in [&mut self.by_ratio, &mut self.by_margin, &mut self.by_floor] {
            one.begin_again(begins / FROM_THE_BEGINNING);
        }
        self.by_ratio.observe(odds * allowed.ratio, events);
        self.by_margin.observe(odds, events);
        self.by_margin.allow(odds, allowed.margin * requests);
        self.by_floor.observe(0.0, events);
        self.by_floor.allow(0.0, allowed.floor * requests);
    }

    /// Returns the logarithm of the evidence that the rate is beyond all that is allowed.
    pub(super) fn log_value(&self, allowed: Allowed) -> f64 {
        let by_margin = (allowed.margin > 0.0).then(|| self.by_margin.log_value());
        let by_floor = (allowed.floor > 0.0).then(|| self.by_floor.log_value());
        let others = by_margin.into_iter().chain(by_floor);
        others.fold(self.by_ratio.log_value(), f64::min) + FROM_THE_BEGINNING.ln()
    }

    /// Returns the logarithm of the evidence that the rate is beyond so many times the stable revision's, whatever else is allowed.
    pub(super) fn log_worse(&self) -> f64 {
        self.by_ratio.log_value() + FROM_THE_BEGINNING.ln()
    }

    /// Returns all that it knows, to be kept.
    #[must_use]
    pub fn to_parts(&self) -> Vec<f64> {
        let all = [&self.by_ratio, &self.by_margin, &self.by_floor];
        let ratios = all.iter().flat_map(|one| one.log_ratios);
        ratios.chain([self.n_intervals]).collect()
    }

    /// Returns what [`Self::to_parts`] has told; `None` if that is not of this kind, as what earlier releases kept.
    #[must_use]
    pub fn of_parts(parts: &[f64]) -> Option<Self> {
        let mut all = [Evidence::default(); 3];
        let (n_intervals, ratios) = parts.split_last()?;
        let is_one = ratios.len() == all.len() * ALTERNATIVES.len() && *n_intervals >= 0.0;
        if !is_one || !parts.iter().all(|part| part.is_finite()) {
            return None;
        }
        for (one, kept) in all.iter_mut().zip(ratios.chunks(ALTERNATIVES.len())) {
            one.log_ratios.copy_from_slice(kept);
        }
        let [by_ratio, by_margin, by_floor] = all;
        Some(Self {
            by_ratio,
            by_margin,
            by_floor,
            n_intervals: *n_intervals,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_seen_is_no_evidence() {
        let mut evidence = Evidence::default();
        assert!(evidence.log_value().abs() < 1e-12);
        evidence.observe(0.1, (0, 0));
        assert!(evidence.log_value().abs() < 1e-12);
    }

    /// By hand: a tenth of the requests, an error on the canary. The tolerated share is 0.1; the alternatives' are r / (r + 9).
    #[test]
    fn one_error_weighs_as_the_likelihood_ratio_says() {
        let mut evidence = Evidence::default();
        evidence.observe(10.0 / 90.0, (0, 1));
        let ratios = ALTERNATIVES.map(|(r, weight)| weight * r / (r + 9.0) / 0.1);
        let expected = ratios.iter().sum::<f64>();
        assert!((evidence.log_value().exp() - expected).abs() < 1e-12);
    }

    /// Under the tolerated ratio the expected evidence of any number of events is exactly 1.
    #[test]
    fn the_expected_evidence_is_one() {
        let (n_events, share) = (4_u32, 0.2_f64);
        let mut expected = 0.0;
        for canary_events in 0..=n_events {
            let ways = [1.0, 4.0, 6.0, 4.0, 1.0][canary_events as usize];
            let probability = ways
                * share.powi(canary_events as i32)
                * (1.0 - share).powi((n_events - canary_events) as i32);
            let mut evidence = Evidence::default();
            let stable_events = u64::from(n_events - canary_events);
            evidence.observe(0.25, (stable_events, u64::from(canary_events)));
            expected += probability * evidence.log_value().exp();
        }
        assert!((expected - 1.0).abs() < 1e-12, "{expected}");
    }

    /// The same where the canary's events are those of its share and allowed ones besides, each of a Poisson number; and where none of the share is known (odds of 0).
    #[test]
    fn the_expected_evidence_is_one_with_what_is_allowed() {
        let log_poisson = |mean: f64, n: u64| {
            let log_factorial: f64 = (1..=n).map(|factor| (factor as f64).ln()).sum();
            n as f64 * mean.ln() - mean - log_factorial
        };
        for (of_stable, odds, allowed) in [(2.0, 0.5, 0.7), (3.0, 0.0, 0.01), (0.1, 1.0, 0.3)] {
            let mut expected = [0.0; ALTERNATIVES.len()];
            for stable in 0..40 {
                for canary in 0..120 {
                    let log_probability = log_poisson(of_stable, stable)
                        + log_poisson(odds * of_stable + allowed, canary);
                    let mut evidence = Evidence::default();
                    evidence.observe(odds, (stable, canary));
                    evidence.allow(odds, allowed);
                    for (sum, log_ratio) in expected.iter_mut().zip(evidence.log_ratios) {
                        *sum += (log_probability + log_ratio).exp();
                    }
                }
            }
            for found in expected {
                assert!(
                    (found - 1.0_f64).abs() < 1e-9,
                    "{odds} {allowed}: {expected:?}"
                );
            }
        }
    }

    /// The same of one request that may be either's and fails or does not, as probable as is just allowed: at most 1, for each of the three.
    #[test]
    fn a_request_is_worth_one_at_most() {
        let (share, stable) = (0.25, 0.3);
        let odds = share / (1.0 - share);
        let none = Allowed {
            ratio: 1.0,
            margin: 0.0,
            floor: 0.0,
        };
        let by_ratio = Allowed { ratio: 1.5, ..none };
        let by_margin = Allowed {
            margin: 0.2,
            ..none
        };
        let by_floor = Allowed { floor: 0.6, ..none };
        for allowed in [by_ratio, by_margin, by_floor] {
            let canary = allowed.of(stable);
            let mut expected = 0.0;
            for (probability, events, n_canary) in [
                (share * canary, (0, 1), 1),
                (share * (1.0 - canary), (0, 0), 1),
                ((1.0 - share) * stable, (1, 0), 0),
                ((1.0 - share) * (1.0 - stable), (0, 0), 0),
            ] {
                let mut evidence = RateEvidence::default();
                evidence.observe((odds, allowed), events, n_canary);
                expected += probability * evidence.log_value(allowed).exp();
            }
            assert!(expected <= 1.0 + 1e-12, "{allowed:?}: {expected}");
            assert!(expected > 0.5, "{allowed:?}: {expected}");
        }
    }

    #[test]
    fn what_is_kept_is_known_again() {
        let allowed = Allowed {
            ratio: 1.25,
            margin: 0.005,
            floor: 0.01,
        };
        let mut evidence = RateEvidence::default();
        evidence.observe((0.1, allowed), (3, 2), 40);
        let kept = evidence.to_parts();
        assert_eq!(RateEvidence::of_parts(&kept), Some(evidence));
        // What earlier releases kept, what is too long, and what is no number.
        assert_eq!(RateEvidence::of_parts(&[0.5; 6]), None);
        assert_eq!(RateEvidence::of_parts(&[0.0; 29]), None);
        let broken: Vec<f64> = kept.iter().map(|_| f64::NAN).collect();
        assert_eq!(RateEvidence::of_parts(&broken), None);
    }

    #[test]
    fn events_that_strike_both_alike_are_no_evidence() {
        let mut evidence = Evidence::default();
        for _ in 0..100 {
            evidence.observe(10.0 / 90.0, (9, 1));
        }
        assert!(evidence.log_value() < 0.0);
    }
}
