//! An experiment as a whole: is the split as meant, how does each variant compare with the control, is there a winner.
//!
//! The split comes first: with a mismatch there are numbers, but no verdict. Every number names its method. Verdicts rest on anytime-valid
//! methods alone, so they may be asked for as often as one likes.

mod compare;
#[cfg(test)]
mod tests;

pub use crate::rollout::Better;

pub(super) use compare::ANYTIME_UNITS_MIN;

use super::{
    Bivariate, Bounds, Effect, Guardrail, Moments, Posterior, Proportion, RatioMismatch,
    benjamini_hochberg, bonferroni, ratio_mismatch, sequential_ratio_mismatch,
};

/// What a metric is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// It decides.
    Primary,
    /// It is looked at.
    #[default]
    Secondary,
    /// It must not get worse.
    Guardrail,
}

/// A metric of units.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// Its name.
    pub name: String,
    /// Which way it is good.
    pub better: Better,
    /// What it is for.
    pub role: Role,
    /// The difference that matters, above 0: the scale of the mixture of its confidence sequences.
    pub expected: f64,
    /// By how much a guardrail may be worse.
    pub margin: f64,
}

/// How p-values are corrected for there being several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Correction {
    /// The share of false discoveries is bounded (Benjamini and Hochberg, 1995).
    #[default]
    BenjaminiHochberg,
    /// The probability of any false discovery is bounded.
    Bonferroni,
    /// Not at all.
    None,
}

impl Correction {
    /// Returns the method's name for people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BenjaminiHochberg => "Benjamini and Hochberg",
            Self::Bonferroni => "Bonferroni",
            Self::None => "none",
        }
    }

    fn correct(self, p_values: &[f64]) -> Vec<f64> {
        match self {
            Self::BenjaminiHochberg => benjamini_hochberg(p_values),
            Self::Bonferroni => bonferroni(p_values),
            Self::None => p_values.to_vec(),
        }
    }
}

/// How an experiment is judged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AnalysisSpec {
    /// The most probable that no difference is taken for one; intervals have one minus it as their confidence.
    pub alpha: f64,
    /// How p-values are corrected.
    pub correction: Correction,
    /// Units that each variant must have before one is better; of each metric, 100 of them at least must have a value. Harm is told sooner: of shares at once, else from 20 units on.
    pub units_min: u64,
}

/// The values of a metric over a variant's units.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Values {
    /// Each unit did or did not.
    Shares(Proportion),
    /// Each unit has a number.
    Means(Moments),
    /// Each unit has a numerator and a denominator.
    Ratios(Bivariate),
    /// Each unit has a number, and one known before the experiment.
    Adjusted(Bivariate),
}

/// What the compared numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// See [`Values::Shares`].
    Share,
    /// See [`Values::Means`].
    Mean,
    /// See [`Values::Ratios`].
    Ratio,
    /// See [`Values::Adjusted`].
    Cuped,
}

impl Basis {
    /// Returns it in words.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Share => "share of units",
            Self::Mean => "mean over units",
            Self::Ratio => "ratio of means over units, variance by the delta method",
            Self::Cuped => "mean over units, adjusted for the covariate (CUPED)",
        }
    }
}

/// A variant's units.
#[derive(Clone, Debug, PartialEq)]
pub struct VariantUnits {
    /// The variant's name.
    pub name: String,
    /// The units that are analysed.
    pub units: u64,
    /// The units that it was given first, analysed or not.
    pub assigned: u64,
    /// How many of all units it should have been given, as the weights were when each of them came.
    pub expected: f64,
    /// Whether it is given units now: one that is not keeps nobody waiting, can do no harm, and is no winner.
    pub takes_units: bool,
    /// By metric.
    pub values: Vec<Values>,
}

/// A variant beside the control, in one metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// The variant's place.
    pub variant: usize,
    /// The metric's place.
    pub metric: usize,
    /// What is compared.
    pub basis: Basis,
    /// The control's units with a value, and their mean.
    pub control: (u64, f64),
    /// The variant's.
    pub treated: (u64, f64),
    /// The fixed-horizon test; `None` without spread.
    pub fixed: Option<Effect>,
    /// Fisher's exact p-value, where units are few enough.
    pub exact_p_value: Option<f64>,
    /// The relative lift.
    pub lift: Option<Effect>,
    /// The anytime-valid test; `None` where all units are alike, or of too few.
    pub anytime: Option<Effect>,
    /// The fixed-horizon p-value, corrected for all comparisons but guardrails.
    pub fixed_corrected: Option<f64>,
    /// The anytime-valid one.
    pub anytime_corrected: Option<f64>,
    /// What is believed after a flat prior.
    pub posterior: Option<Posterior>,
    /// Whether the metric is harmed, if it is a guardrail.
    pub guardrail: Option<Guardrail>,
}

/// What is known of an experiment.
#[derive(Clone, Debug, PartialEq)]
pub struct Analysis {
    /// Whether units are split as meant, by a test that may be looked at once.
    pub split: Option<RatioMismatch>,
    /// The same, at any time.
    pub split_anytime: Option<RatioMismatch>,
    /// Every variant but the control in every metric.
    pub comparisons: Vec<Comparison>,
    /// What is to be done.
    pub verdict: Verdict,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Wait; why.
    Wait(String),
    /// Nothing can be believed; why.
    Mismatch(String),
    /// This variant does harm.
    Harm {
        /// Its place.
        variant: usize,
        /// Why, with the numbers.
        why: String,
    },
    /// This variant is better.
    Better {
        /// Its place.
        variant: usize,
        /// Why, with the numbers.
        why: String,
    },
}

/// How near to the weights mismatches of the split are expected, for the anytime-valid test.
const MISMATCH_SCALE: f64 = 1_000.0;

/// Analyses an experiment.
///
/// `control` is the place of the variant that the others are compared with. Each look is at the values that it is given: where they may still change, since outcomes come after their users do,
/// what earlier looks have come to is of other values, and intervals of several looks hold no better together.
#[must_use]
pub fn analyse(
    spec: &AnalysisSpec,
    metrics: &[Metric],
    (variants, control): (&[VariantUnits], usize),
) -> Analysis {
    let units: Vec<u64> = variants.iter().map(|variant| variant.assigned).collect();
    let expected: Vec<f64> = variants.iter().map(|variant| variant.expected).collect();
    let (used, weights): (Vec<u64>, Vec<f64>) = units
        .iter()
        .zip(&expected)
        .filter(|(units, expected)| **units > 0 || **expected > 0.0)
        .map(|(units, expected)| (*units, *expected))
        .unzip();
    let mut comparisons = Vec::new();
    for variant in (0..variants.len()).filter(|variant| *variant != control) {
        for (index, metric) in metrics.iter().enumerate() {
            let sides = (
                variants[control].values.get(index),
                variants[variant].values.get(index),
            );
            if let (Some(a), Some(b)) = sides {
                let place = (variant, index);
                comparisons.push(compare::compare(spec, metric, place, (a, b)));
            }
        }
    }
    correct(spec, metrics, &mut comparisons);
    let mut analysis = Analysis {
        split: ratio_mismatch(&used, &weights),
        split_anytime: sequential_ratio_mismatch(&used, &weights, MISMATCH_SCALE),
        comparisons,
        verdict: Verdict::Wait(String::new()),
    };
    analysis.verdict = judge(spec, metrics, (variants, control), &analysis);
    analysis
}

/// Corrects the p-values of all comparisons that are no guardrails.
fn correct(spec: &AnalysisSpec, metrics: &[Metric], comparisons: &mut [Comparison]) {
    let is_guardrail = |comparison: &Comparison| {
        let metric = metrics.get(comparison.metric);
        metric.is_some_and(|metric| metric.role == Role::Guardrail)
    };
    let counted: Vec<usize> = (0..comparisons.len())
        .filter(|index| !is_guardrail(&comparisons[*index]))
        .collect();
    let p_values = |of: fn(&Comparison) -> Option<Effect>| -> Vec<f64> {
        let effects = counted.iter().map(|index| of(&comparisons[*index]));
        effects
            .map(|effect| effect.map_or(1.0, |effect| effect.p_value))
            .collect()
    };
    let fixed = spec.correction.correct(&p_values(|one| one.fixed));
    let anytime = spec.correction.correct(&p_values(|one| one.anytime));
    for (place, index) in counted.into_iter().enumerate() {
        let comparison = &mut comparisons[index];
        comparison.fixed_corrected = comparison.fixed.map(|_| fixed[place]);
        comparison.anytime_corrected = comparison.anytime.map(|_| anytime[place]);
    }
}

fn judge(
    spec: &AnalysisSpec,
    metrics: &[Metric],
    (variants, control): (&[VariantUnits], usize),
    analysis: &Analysis,
) -> Verdict {
    if let Some(mismatch) = analysis.split_anytime.filter(|split| split.is_mismatch) {
        return Verdict::Mismatch(format!(
            "units are not split as the weights say (p {:.2e}): something loses units of a variant, and no comparison can be believed",
            mismatch.p_value
        ));
    }
    let name = |comparison: &Comparison| &variants[comparison.variant].name;
    let counts = |comparison: &&Comparison| variants[comparison.variant].takes_units;
    let harmed = |comparison: &&Comparison| comparison.guardrail == Some(Guardrail::Harmed);
    let mut counted = analysis.comparisons.iter().filter(counts);
    if let Some(harmed) = counted.find(harmed) {
        let metric = &metrics[harmed.metric];
        let why = format!(
            "{} of {} is worse by more than {}: {:.6}, {:.6} of the control",
            metric.name,
            name(harmed),
            metric.margin,
            harmed.treated.1,
            harmed.control.1
        );
        return Verdict::Harm {
            variant: harmed.variant,
            why,
        };
    }
    let counted = variants.iter().enumerate();
    let counted = counted.filter(|(place, variant)| *place == control || variant.takes_units);
    let fewest = counted.map(|(_, variant)| variant.units).min();
    if fewest < Some(spec.units_min) {
        return Verdict::Wait(format!(
            "{} of the {} units that each variant must have",
            fewest.unwrap_or(0),
            spec.units_min
        ));
    }
    let mut primary = analysis.comparisons.iter().filter(counts);
    let wanted = compare::values_min(spec);
    let few = primary.find(|one| {
        metrics[one.metric].role == Role::Primary && one.control.0.min(one.treated.0) < wanted
    });
    if let Some(few) = few {
        return Verdict::Wait(format!(
            "{} of the {wanted} units with a value of {} that each variant must have",
            few.control.0.min(few.treated.0),
            metrics[few.metric].name
        ));
    }
    better(spec, metrics, variants, analysis)
}

/// Returns the best of the variants that are known to be better in every primary metric.
fn better(
    spec: &AnalysisSpec,
    metrics: &[Metric],
    variants: &[VariantUnits],
    analysis: &Analysis,
) -> Verdict {
    let is_primary = |comparison: &&Comparison| metrics[comparison.metric].role == Role::Primary;
    let wins = |comparison: &&Comparison| {
        let is_good = |interval: Bounds| match metrics[comparison.metric].better {
            Better::Higher => interval.low > 0.0,
            Better::Lower => interval.high < 0.0,
        };
        comparison
            .anytime
            .is_some_and(|effect| is_good(effect.interval))
            && comparison
                .anytime_corrected
                .is_some_and(|p_value| p_value < spec.alpha)
    };
    let of = |variant: usize| {
        let own = analysis.comparisons.iter().filter(is_primary);
        own.filter(move |comparison| comparison.variant == variant)
    };
    let winners = (0..variants.len())
        .filter(|variant| variants[*variant].takes_units)
        .filter(|variant| of(*variant).count() > 0 && of(*variant).all(|one| wins(&one)));
    let gain = |variant: &usize| {
        let first = of(*variant).next();
        first.and_then(|first| first.gain(metrics)).unwrap_or(0.0)
    };
    let best = winners.max_by(|left, right| gain(left).total_cmp(&gain(right)));
    let Some((variant, first)) = best.and_then(|best| Some((best, of(best).next()?))) else {
        return Verdict::Wait(
            "no variant is known to be better in every primary metric".to_owned(),
        );
    };
    let interval = first.anytime.map(|effect| effect.interval);
    let (low, high) = interval.map_or((0.0, 0.0), |interval| (interval.low, interval.high));
    Verdict::Better {
        variant,
        why: format!(
            "{} of {} is {:.6}, {:.6} of the control; the difference is between {low:.6} and {high:.6} (anytime-valid, p {:.2e} corrected)",
            metrics[first.metric].name,
            variants[variant].name,
            first.treated.1,
            first.control.1,
            first.anytime_corrected.unwrap_or(1.0)
        ),
    }
}

impl Comparison {
    /// Returns how much the variant is ahead: positive if it is better.
    fn gain(&self, metrics: &[Metric]) -> Option<f64> {
        let difference = self.anytime?.difference;
        Some(match metrics.get(self.metric)?.better {
            Better::Higher => difference,
            Better::Lower => -difference,
        })
    }
}
