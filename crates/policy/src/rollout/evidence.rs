//! Evidence that events (errors, slow requests) strike one of two revisions more often than its share of requests explains.
//!
//! Requests are split without regard to what they are, so which revision an event strikes depends only on the canary's share of the requests and on the
//! ratio of the two rates, whatever the rates are and however they change. Against the largest tolerated ratio stand a few larger ones; the evidence is the mean of
//! their likelihood ratios, multiplied up over the events. Under any tolerated ratio this is a nonnegative supermartingale, so by Ville's
//! inequality it ever exceeds `1 / alpha` with probability `alpha` at most. This is a mixture sequential probability ratio test
//! (Wald, 1945; Robbins, 1970) on the split of events.
//!
//! A canary may also be allowed events besides those ([`Evidence::allow`]): so many for each of its requests. They are taken off as the compensator of a
//! counting process is, which leaves a supermartingale what was one.

/// The ratios that stand against the tolerated one, as multiples of it: from a slight regression to a canary that always fails.
const ALTERNATIVES: [f64; 6] = [1.5, 2.0, 4.0, 16.0, 128.0, 4_096.0];

/// What speaks for a regression so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Evidence {
    /// The logarithm of the likelihood ratio of each alternative.
    pub log_ratios: [f64; ALTERNATIVES.len()],
}

impl Evidence {
    /// Takes the events of the stable and of the canary revision.
    ///
    /// `odds` are the canary's requests to the stable revision's, times the ratio that is tolerated. Too high odds err on the safe side.
    pub(crate) fn observe(&mut self, odds: f64, (stable_events, canary_events): (u64, u64)) {
        if !odds.is_finite() {
            return;
        }
        for (log_ratio, alternative) in self.log_ratios.iter_mut().zip(ALTERNATIVES) {
            // Shares of events that strike the canary: odds / (1 + odds), and the same with the alternative's odds.
            let normalise = ((1.0 + odds) / (1.0 + alternative * odds)).ln();
            *log_ratio += canary_events as f64 * (alternative.ln() + normalise)
                + stable_events as f64 * normalise;
        }
    }

    /// Takes that the canary is allowed so many events, in expectation, besides those that its odds explain.
    ///
    /// With the same odds as [`Self::observe`] is told. An event of the canary multiplies the likelihood ratio of an alternative by one and a gain; where events come at a
    /// rate that is allowed, the gain times what is allowed, in the exponent, is what makes up for it.
    pub(crate) fn allow(&mut self, odds: f64, expected: f64) {
        if !(odds.is_finite() && expected > 0.0) {
            return;
        }
        for (log_ratio, alternative) in self.log_ratios.iter_mut().zip(ALTERNATIVES) {
            let gain = (alternative - 1.0) / (1.0 + alternative * odds);
            *log_ratio -= gain * expected;
        }
    }

    /// Returns the logarithm of the evidence: the mean of the likelihood ratios.
    #[must_use]
    pub fn log_value(&self) -> f64 {
        let most = self.log_ratios.iter().copied().fold(f64::MIN, f64::max);
        let sum: f64 = self
            .log_ratios
            .iter()
            .map(|ratio| (ratio - most).exp())
            .sum();
        most + (sum / ALTERNATIVES.len() as f64).ln()
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
        let ratios = ALTERNATIVES.map(|r| r / (r + 9.0) / 0.1);
        let expected = ratios.iter().sum::<f64>() / ratios.len() as f64;
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

    #[test]
    fn events_that_strike_both_alike_are_no_evidence() {
        let mut evidence = Evidence::default();
        for _ in 0..100 {
            evidence.observe(10.0 / 90.0, (9, 1));
        }
        assert!(evidence.log_value() < 0.0);
    }
}
