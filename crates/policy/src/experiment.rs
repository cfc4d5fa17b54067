//! Statistics of experiments: is one variant better, by how much, and may one believe it already.
//!
//! Analysis is by unit (a user, a session), not by request: summaries of units go in ([`Moments`], [`Bivariate`], [`Proportion`]), and [`Effect`]s
//! that name their method come out. Fixed-horizon methods ([`welch`], [`two_proportions`]) may be looked at once, at the planned end; anytime-valid
//! ones ([`sequential`], [`bounded_mean`]) as often as one likes. Check [`ratio_mismatch`] first: if units are not split as meant, nothing
//! else can be believed. Every function is pure; nothing here assigns units or stores outcomes.

mod analysis;
mod bayes;
mod betting;
mod fixed;
mod plan;
mod sequential;
mod sides;
mod special;
mod split;
mod summary;

use std::fmt;

pub use analysis::{
    Analysis, AnalysisSpec, Basis, Better, Comparison, Correction, Metric, Role, Values,
    VariantUnits, Verdict, analyse,
};
pub use bayes::{Posterior, normal_posterior, posterior};
pub use betting::bounded_mean;
pub use fixed::{
    benjamini_hochberg, bonferroni, fisher_exact, relative_lift, two_proportions, welch,
};
pub use plan::{
    Design, Spread, units_per_arm_mean, units_per_arm_proportion, units_per_arm_sequential,
};
pub use sequential::{
    Guardrail, guardrail, log_evidence, mixture_for, mixture_likelihood_ratio, sequential,
};
pub use sides::Sides;
pub use split::{RatioMismatch, ratio_mismatch, sequential_ratio_mismatch};
pub use summary::{Bivariate, Moments, Proportion, cuped};

/// How a number was come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Welch's t-test; fixed horizon.
    Welch,
    /// Pooled two-proportion z-test with Newcombe's interval; fixed horizon.
    TwoProportions,
    /// Relative lift by the delta method; fixed horizon.
    RelativeLift,
    /// Mixture sequential probability ratio test with a normal mixture; anytime-valid.
    MixtureSequential,
    /// The same of shares, beside an exact test by mixtures of bets on either side's rate; anytime-valid.
    SharesSequential,
    /// Betting on bounded values, with a Beta mixture of bets; anytime-valid.
    Betting,
}

impl Method {
    /// Returns the method's name for people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Welch => "Welch's t-test (fixed horizon)",
            Self::TwoProportions => "pooled z-test, Newcombe interval (fixed horizon)",
            Self::RelativeLift => "relative lift, delta method (fixed horizon)",
            Self::MixtureSequential => "mSPRT, normal mixture (anytime-valid)",
            Self::SharesSequential => {
                "mSPRT, normal mixture, and exact by Beta mixtures (anytime-valid)"
            }
            Self::Betting => "betting, Beta mixture (anytime-valid)",
        }
    }

    /// Says whether the number may be looked at at any time.
    #[must_use]
    pub fn is_anytime_valid(self) -> bool {
        matches!(
            self,
            Self::MixtureSequential | Self::SharesSequential | Self::Betting
        )
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A range of values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// The least.
    pub low: f64,
    /// The greatest.
    pub high: f64,
}

/// How much variant B differs from variant A.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Effect {
    /// How it was computed.
    pub method: Method,
    /// B minus A (for [`Method::RelativeLift`], divided by A).
    pub difference: f64,
    /// What holds the true difference with the confidence asked for.
    pub interval: Bounds,
    /// The two-sided p-value of no difference.
    pub p_value: f64,
}

#[cfg(test)]
mod tests;
