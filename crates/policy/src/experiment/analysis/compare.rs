//! One variant beside the control, in one metric.

use super::{AnalysisSpec, Basis, Better, Comparison, Metric, Role, Values};
use crate::experiment::{
    Guardrail, Moments, Posterior, Proportion, Sides, cuped, fisher_exact, guardrail, mixture_for,
    normal_posterior, posterior, relative_lift, sequential, two_proportions, welch,
};

/// Fisher's exact test is made for so many units of both variants together: it sums over as many tables.
const EXACT_UNITS_MAX: u64 = 100_000;
/// The closed sum of two Beta posteriors has a term for each of the rarest outcome; beyond so many the normal one is as good.
const BETA_TERMS_MAX: u64 = 20_000;

/// Fewer units than this tell too little of how values spread, which the anytime-valid test takes for known.
pub(in crate::experiment) const ANYTIME_UNITS_MIN: u64 = 100;
/// Harm waits for no more than these: the variance of both sides together is at hand before that of either is known.
const HARM_UNITS_MIN: u64 = 20;

/// Returns how many units with a value each side must have before anything is concluded of a comparison.
pub(super) fn values_min(spec: &AnalysisSpec) -> u64 {
    spec.units_min.max(ANYTIME_UNITS_MIN)
}

/// Compares the values `b` of a variant with the values `a` of the control.
pub(super) fn compare(
    spec: &AnalysisSpec,
    metric: &Metric,
    (variant, index): (usize, usize),
    (a, b): (&Values, &Values),
) -> Comparison {
    let (basis, sides, moments) = moments(a, b);
    let none = Moments::default();
    let (control, treated) = moments.unwrap_or((none, none));
    let confidence = 1.0 - spec.alpha;
    let shares = match sides {
        Some(Sides::Shares(a, b)) => Some((a, b)),
        _ => None,
    };
    let fixed = match shares {
        Some((a, b)) => two_proportions(a, b, confidence),
        None => welch(&control, &treated, confidence),
    };
    let exact = shares.filter(|(a, b)| a.units > 0 && b.units > 0);
    let exact = exact.filter(|(a, b)| a.units + b.units <= EXACT_UNITS_MAX);
    let mixture = mixture_for(metric.expected);
    let fewest = control.units.min(treated.units);
    let of_at_least = |units_min| sides.filter(|_| shares.is_some() || fewest >= units_min);
    let anytime = of_at_least(values_min(spec));
    let anytime = anytime.and_then(|sides| sequential(&sides, mixture, confidence));
    let guardrail = || {
        of_at_least(HARM_UNITS_MIN).map_or(Guardrail::Open, |sides| {
            let told = guardrail(&sides, (metric.better, metric.margin), mixture, spec.alpha);
            match told {
                Guardrail::Safe if fewest < values_min(spec) => Guardrail::Open,
                told => told,
            }
        })
    };
    Comparison {
        variant,
        metric: index,
        basis,
        control: (control.units, control.mean),
        treated: (treated.units, treated.mean),
        fixed,
        exact_p_value: exact.map(|(a, b)| fisher_exact(a, b)),
        lift: relative_lift(&control, &treated, confidence).filter(|_| treated.units > 1),
        anytime,
        fixed_corrected: None,
        anytime_corrected: None,
        posterior: believed(shares, (&control, &treated)).map(|belief| turned(belief, metric)),
        guardrail: (metric.role == Role::Guardrail).then(guardrail),
    }
}

/// Returns what both sides are compared by; nothing where a ratio has no denominator, or the two are not of one kind.
fn moments(a: &Values, b: &Values) -> (Basis, Option<Sides>, Option<(Moments, Moments)>) {
    let of_means =
        |basis, a: Moments, b: Moments| (basis, Some(Sides::means(&a, &b)), Some((a, b)));
    match (a, b) {
        (Values::Shares(a), Values::Shares(b)) => {
            let moments = (a.to_moments(), b.to_moments());
            (Basis::Share, Some(Sides::Shares(*a, *b)), Some(moments))
        }
        (Values::Means(a), Values::Means(b)) => of_means(Basis::Mean, *a, *b),
        (Values::Ratios(a), Values::Ratios(b)) => {
            let both = a.to_ratio().zip(b.to_ratio());
            (Basis::Ratio, Some(Sides::Ratios(*a, *b)), both)
        }
        (Values::Adjusted(a), Values::Adjusted(b)) => {
            let (a, b) = cuped(a, b);
            of_means(Basis::Cuped, a, b)
        }
        _ => (Basis::Mean, None, None),
    }
}

fn believed(
    shares: Option<(Proportion, Proportion)>,
    (control, treated): (&Moments, &Moments),
) -> Option<Posterior> {
    let rarest = |side: Proportion| {
        side.successes
            .min(side.units.saturating_sub(side.successes))
    };
    match shares {
        Some((a, b)) if a.units == 0 || b.units == 0 => None,
        Some((a, b)) if rarest(a).min(rarest(b)) <= BETA_TERMS_MAX => Some(posterior(a, b)),
        _ => normal_posterior(control, treated),
    }
}

/// Where less is better, the greater one is the worse.
fn turned(belief: Posterior, metric: &Metric) -> Posterior {
    match metric.better {
        Better::Higher => belief,
        Better::Lower => Posterior {
            b_is_better: 1.0 - belief.b_is_better,
            loss_of_a: belief.loss_of_b,
            loss_of_b: belief.loss_of_a,
        },
    }
}
