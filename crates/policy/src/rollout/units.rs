//! Whether a canary fails, or is slow, more often where users are split instead of requests.
//!
//! Requests of one user are not independent: one user whose requests all fail says as little of a revision as one request does, however often they ask. So
//! every number here is by unit. Three of them speak for a regression, and the evidence is their mean:
//!
//! - which revision the units have that were struck at least once. Units are split without regard to what they are, so this is exact ([`Evidence`]), however many requests
//!   anybody sends, and finds a revision that fails for everybody within a handful of units;
//! - the share of requests that were struck, a ratio of two sums over units: its variance is the delta method's, which is the cluster-robust one (Deng, Knoblich
//!   and Lu, 2018), of residuals from what is allowed: so one unit alone never moves the statistic beyond 1, nor do `k` beyond the root of `k`;
//! - the mean over units of their own shares, which one busy unit cannot hide anything in.
//!
//! What is allowed is the same to all three: a ratio, or a margin, or a floor, whichever is most. To the first a margin and a floor are rates at which units that were not
//! struck yet may be, request by request.
//!
//! The last two are mixture sequential probability ratio tests over several sizes of difference, and may be looked at any time, as the first may. They are of one stage:
//! who had the canary in the stage before has it in this one, and would count twice.

use super::evidence::Evidence;
use super::{Allowed, Check, CheckKind, CheckState};
use crate::experiment::{Bivariate, Moments, mixture_likelihood_ratio};

/// Units of either revision without which means are not compared, nor a stage ends; fewer where fewer requests are asked for.
pub const UNITS_MIN: u64 = 20;
/// The differences that are looked for, as multiples of what is tolerated: from a slight one to a revision that always fails.
const DIFFERENCES: [f64; 4] = [1.0, 4.0, 16.0, 64.0];
/// A difference that is looked for where none is tolerated.
const DIFFERENCE_MIN: f64 = 0.001;
/// Standard errors beyond which a difference is more than chance gives it: what is sure, and what is in doubt (one side's 95 %).
const SURE: f64 = 2.0;
const IN_DOUBT: f64 = 1.645;

/// What struck the units of a revision (errors, or slow requests).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct UnitEvents {
    /// Requests that were struck and all requests, by unit.
    pub requests: Bivariate,
    /// The share of its requests that were struck, by unit.
    pub shares: Moments,
    /// Units that were struck at least once.
    pub struck: u64,
    /// Those whose first request was.
    pub struck_at_once: u64,
    /// Requests of units that were not struck before.
    pub at_risk: u64,
}

/// What a unit met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Met {
    /// Its requests that were struck.
    pub struck: u64,
    /// All of its requests.
    pub requests: u64,
    /// Which of them was the first that was struck, from 1 on; 0 if that is not known.
    pub first: u64,
}

impl Met {
    /// Returns the requests that were sent before it was struck, with the one that was; all of them if it is not known which that was, which speaks for the canary.
    fn at_risk(self) -> u64 {
        match (self.struck, self.first) {
            (1.., 1..) => self.first.min(self.requests),
            _ => self.requests,
        }
    }
}

impl UnitEvents {
    /// Takes a unit. One without requests says nothing.
    pub fn push(&mut self, met: Met) {
        if met.requests == 0 {
            return;
        }
        let (events, all) = (met.struck.min(met.requests) as f64, met.requests as f64);
        self.requests.push(events, all);
        self.shares.push(events / all);
        self.struck += u64::from(met.struck > 0);
        self.struck_at_once += u64::from(met.struck > 0 && met.first == 1);
        self.at_risk += met.at_risk();
    }

    /// Takes so many units of one request each, of which so many were struck.
    pub fn push_single(&mut self, struck: u64, units: u64) {
        if units == 0 {
            return;
        }
        let struck = struck.min(units);
        let rate = struck as f64 / units as f64;
        let shares = Moments {
            units,
            mean: rate,
            squares: struck as f64 * (1.0 - rate),
        };
        self.requests.merge(&Bivariate::of_mean(&shares));
        self.shares.merge(&shares);
        self.struck += struck;
        self.struck_at_once += struck;
        self.at_risk += units;
    }

    /// Returns how many units there are.
    #[must_use]
    pub fn units(&self) -> u64 {
        self.shares.units
    }
}

/// What the units of a revision met in a stage.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct UnitSide {
    /// Requests that failed.
    pub errors: UnitEvents,
    /// Those that were slow.
    pub slow: UnitEvents,
}

/// Returns the size of difference that is looked for.
fn difference(allowed: Allowed) -> f64 {
    allowed.margin.max(allowed.floor).max(DIFFERENCE_MIN)
}

/// A rate of either revision, and by how much the canary's exceeds what is allowed.
#[derive(Clone, Copy, Debug)]
struct Excess {
    rates: (f64, f64),
    above: f64,
    variance: f64,
}

impl Excess {
    /// Compares ratios of two sums over units; `None` without requests.
    ///
    /// The canary's variance is of residuals from the rate that is allowed, which are largest where one unit stands out. The stable revision's, that of few units that were
    /// struck, would be too small where by chance none was: it is held to what both have in common at least.
    fn of((stable, canary): (&Bivariate, &Bivariate), allowed: Allowed) -> Option<Self> {
        let rate = |side: &Bivariate| side.to_ratio().map(|ratio| ratio.mean);
        let rates = (rate(stable)?, rate(canary)?);
        let limit = allowed.of(rates.0);
        let mut both = *stable;
        both.merge(canary);
        let common = rate(&both)?;
        let in_common = residuals(&both, common) / both.first.units.max(1) as f64;
        let variance = |side: &Bivariate, around: f64| {
            let units = side.first.units as f64;
            let of_sum = residuals(side, around).max(in_common * units);
            of_sum / (side.second.mean * units).powi(2)
        };
        let of_limit = allowed.ratio * allowed.ratio * variance(stable, rates.0);
        Some(Self {
            rates,
            above: rates.1 - limit,
            variance: variance(canary, limit) + of_limit,
        })
    }

    fn is_beyond(self, standard_errors: f64) -> bool {
        self.above > 0.0 && self.above > standard_errors * self.variance.sqrt()
    }

    /// Returns the evidence that what is allowed is exceeded: none where it is not.
    fn evidence(self, allowed: Allowed) -> f64 {
        if self.above <= 0.0 {
            return 0.0;
        }
        let of = |multiple: f64| {
            let difference = multiple * difference(allowed);
            mixture_likelihood_ratio(self.above, self.variance, difference * difference)
        };
        DIFFERENCES.map(of).iter().sum::<f64>() / DIFFERENCES.len() as f64
    }
}

/// Returns the sum of squares of what the first values exceed `rate` times the second ones by.
fn residuals(side: &Bivariate, rate: f64) -> f64 {
    let Moments {
        units,
        mean,
        squares,
    } = side.less(rate).first;
    squares + units as f64 * mean * mean
}

/// Returns the evidence that more of the canary's units were struck at least once than is allowed.
///
/// What is allowed is the greatest of three rates: so many times the stable revision's, so much more than it, or one whatever that one's is. Evidence against each of them is evidence
/// against the greatest, so the least of the three counts. Against either it is the mean of two: of units that were struck by any request, of which a rate by request allows the more the more they
/// send; and by their first one, which tells units all of whose requests are struck from those that are struck now and then.
fn of_struck((stable, canary): (&UnitEvents, &UnitEvents), allowed: Allowed, odds: f64) -> f64 {
    let by_any = ((stable.struck, canary.struck), canary.at_risk);
    let by_first = (
        (stable.struck_at_once, canary.struck_at_once),
        canary.units(),
    );
    let against = |odds: f64, rate: f64| {
        let of = |(struck, requests)| {
            let mut evidence = Evidence::default();
            evidence.observe(odds, struck);
            evidence.allow(odds, rate * requests as f64);
            evidence.log_value().exp()
        };
        f64::midpoint(of(by_any), of(by_first))
    };
    let by_ratio = against(odds * allowed.ratio, 0.0);
    let by_margin = against(odds, allowed.margin);
    let by_floor = against(0.0, allowed.floor);
    by_ratio.min(by_margin).min(by_floor)
}

/// Judges what struck the units of a stage: `odds` are the canary's units to the stable revision's as they were meant, and as many units as
/// `units_min` must be there of either.
pub(super) fn check(
    kind: CheckKind,
    (stable, canary): (&UnitEvents, &UnitEvents),
    allowed: Allowed,
    (odds, units_min, needed): (f64, u64, f64),
) -> Check {
    let shares = |side: &UnitEvents| Bivariate::of_mean(&side.shares);
    let by_request = Excess::of((&stable.requests, &canary.requests), allowed);
    let by_unit = Excess::of((&shares(stable), &shares(canary)), allowed);
    let all = [by_request, by_unit];
    let came = canary.units() as f64 / stable.units().max(1) as f64;
    let first = of_struck((stable, canary), allowed, odds.max(came));
    let is_known = stable.units().min(canary.units()) >= units_min.max(1);
    let of = |excess: Option<Excess>| match excess {
        Some(excess) if is_known => excess.evidence(allowed),
        _ => 0.0,
    };
    let sum = first + all.into_iter().map(of).sum::<f64>();
    let evidence = sum / (1.0 + all.len() as f64);
    let mut excesses = all.into_iter().flatten();
    let state = if evidence >= needed && excesses.clone().any(|excess| excess.is_beyond(SURE)) {
        CheckState::Failed
    } else if !is_known {
        CheckState::TooFew
    } else if excesses.any(|excess| excess.is_beyond(IN_DOUBT)) {
        CheckState::Doubtful
    } else {
        CheckState::Passed
    };
    let shown = all.into_iter().flatten().max_by(|one, other| {
        let errors = |excess: &Excess| excess.above / excess.variance.sqrt().max(f64::MIN_POSITIVE);
        errors(one).total_cmp(&errors(other))
    });
    let (stable_rate, canary_rate) = shown.map_or((0.0, 0.0), |excess| excess.rates);
    let (n_stable, n_canary) = (stable.units(), canary.units());
    let least = match is_known {
        true => String::new(),
        false => format!(", {units_min} needed of each"),
    };
    Check {
        kind,
        state,
        stable: stable_rate,
        canary: canary_rate,
        evidence,
        needed,
        note: Some(format!(
            "by unit (cluster-robust), {n_canary} of the canary and {n_stable} of the stable revision{least}"
        )),
    }
}

#[cfg(test)]
mod tests;
