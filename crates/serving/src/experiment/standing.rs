//! How an experiment stands: the values of its metrics by variant, and what they say.

use coracle_policy::bandit::{Bandit, Logged, Strategy, off_policy};
use coracle_policy::experiment::{
    Analysis, AnalysisSpec, Better, Bivariate, Correction, Metric, Moments, Proportion, Role,
    Values, VariantUnits, Verdict, analyse,
};

use super::ledger::{Ledger, is_before};
use super::series::{Point, Series};
use super::settled::{Finality, SettledRate, Settling, compared_window};
use super::tally::{Cell, Unit};
use super::trial::{DECIDED_ELSEWHERE, UnitMoments};
use super::{
    Allocation, BanditStrategy, CorrectionForm, ExperimentId, MetricForm, MetricRole,
    PlannedAnalysis, PlannedExperiment, PlannedMetric,
};

/// How an experiment stands.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Which one.
    pub id: ExperimentId,
    /// What was planned.
    pub planned: PlannedExperiment,
    /// When the first unit came, in ms since 1970.
    pub since: Option<u64>,
    /// The variants.
    pub variants: Vec<VariantStanding>,
    /// Units that were shown several variants, which are not analysed.
    pub n_mixed: u64,
    /// Units whose variant was given by hand, which are not analysed.
    pub n_overridden: u64,
    /// Requests without a unit.
    pub n_unassigned: u64,
    /// Exposures that were lost because there were too many at a time, or the disk was full.
    pub n_lost: u64,
    /// Units for which there was no room.
    pub n_units_lost: u64,
    /// Outcomes that were taken.
    pub n_outcomes: u64,
    /// What is known; of a bandit, whose units are not gathered evenly, the verdict alone.
    pub analysis: Analysis,
    /// The looks at each comparison: the variant's and the metric's name, and the points.
    pub series: Vec<(String, String, Vec<Point>)>,
    /// What a bandit has earned.
    pub arms: Vec<ArmStanding>,
    /// What always choosing one variant would have earned, by a bandit's log.
    pub off_policy: Vec<OffPolicyStanding>,
}

/// A variant.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VariantStanding {
    /// Its name.
    pub name: String,
    /// The units that are analysed.
    pub units: u64,
    /// How many it should have had.
    pub expected: f64,
    /// Its requests, those that failed among them.
    pub requests: u64,
    /// Those that failed.
    pub errors: u64,
    /// By metric.
    pub metrics: Vec<MetricStanding>,
}

/// A metric of a variant.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MetricStanding {
    /// The units that have a value.
    pub units: u64,
    /// Those that have none.
    pub missing: u64,
    /// Those whose window is open: what they come to is not known yet, and not compared.
    pub open: u64,
    /// The mean of the values, or the ratio.
    pub mean: f64,
    /// What bets say, of rates with a window.
    pub settled: Option<SettledRate>,
}

/// What a bandit has earned with a variant.
#[derive(Clone, Debug, PartialEq)]
pub struct ArmStanding {
    /// The variant's name.
    pub variant: String,
    /// Choices with a reward.
    pub rewards: u64,
    /// Their mean.
    pub mean: f64,
    /// The probability with which it is chosen now; where that depends on the request, its share of the requests so far.
    pub propensity: f64,
    /// How much a constant and each feature add to what it is expected to earn, where it is chosen by features.
    pub weights: Vec<(String, f64)>,
}

/// What always choosing a variant would have earned.
#[derive(Clone, Debug, PartialEq)]
pub struct OffPolicyStanding {
    /// The variant's name.
    pub variant: String,
    /// By inverse propensities.
    pub inverse_propensity: f64,
    /// The same, self-normalised.
    pub self_normalised: f64,
    /// Doubly robust, where there is a model of rewards.
    pub doubly_robust: Option<f64>,
    /// The standard error: of the doubly robust one where there is one, of the self-normalised one elsewhere.
    pub standard_error: f64,
    /// How many choices the log is worth.
    pub effective_choices: f64,
}

/// A variant's values in a metric, as they are gathered.
struct Gathered {
    values: Values,
    missing: u64,
    open: u64,
    window_ms: Option<u64>,
    settling: Option<Settling>,
}

impl Gathered {
    fn new(metric: &PlannedMetric, planned: &PlannedExperiment) -> Self {
        let values = match metric.kind {
            MetricForm::Ratio(_) | MetricForm::Errors | MetricForm::Latency => {
                Values::Ratios(Bivariate::default())
            }
            _ if metric.covariate.is_some() => Values::Adjusted(Bivariate::default()),
            MetricForm::Conversion => Values::Shares(Proportion::default()),
            MetricForm::Sum | MetricForm::Mean => Values::Means(Moments::default()),
        };
        Self {
            values,
            missing: 0,
            open: 0,
            window_ms: compared_window(metric, planned),
            settling: Settling::of(metric, planned),
        }
    }

    fn standing(&self, alpha: f64) -> MetricStanding {
        let (units, mean) = match &self.values {
            Values::Shares(side) => (side.units, side.rate()),
            Values::Means(side) => (side.units, side.mean),
            Values::Ratios(both) => (
                both.first.units,
                both.to_ratio().map_or(0.0, |ratio| ratio.mean),
            ),
            Values::Adjusted(both) => (both.first.units, both.first.mean),
        };
        MetricStanding {
            units,
            missing: self.missing,
            open: self.open,
            mean,
            settled: self.settling.map(|settling| settling.rate(alpha)),
        }
    }
}

/// A variant's units, as they are gathered.
struct ArmGathered {
    units: u64,
    assigned: u64,
    values: Vec<Gathered>,
}

/// Where the cells of a metric, of its denominator and of its covariate are.
struct Places {
    own: Option<usize>,
    denominator: Option<usize>,
    covariate: Option<usize>,
}

fn cell(unit: &Unit, place: Option<usize>) -> Cell {
    let cell = place.and_then(|place| unit.cells.get(place));
    cell.copied().unwrap_or_default()
}

/// Returns a unit's value in a metric, over what where it is a ratio.
fn value((metric, places): (&PlannedMetric, &Places), unit: &Unit) -> Option<(f64, f64)> {
    let own = cell(unit, places.own);
    let is_there = own.n > 0 || metric.zero_if_missing;
    let requests = f64::from(unit.requests);
    match &metric.kind {
        MetricForm::Errors => Some((f64::from(unit.errors), requests)),
        MetricForm::Latency => Some((unit.seconds, requests)),
        MetricForm::Ratio(None) if is_there => {
            let counted = unit.requests.saturating_sub(own.late_requests);
            Some((own.sum, f64::from(counted)))
        }
        MetricForm::Ratio(Some(_)) => {
            let below = cell(unit, places.denominator);
            (below.n > 0 && is_there).then_some((own.sum, below.sum))
        }
        MetricForm::Conversion if is_there => {
            Some((f64::from(u8::from(own.n > 0 && own.most > 0.0)), 0.0))
        }
        MetricForm::Sum if is_there => Some((own.sum, 0.0)),
        MetricForm::Mean if is_there => Some((own.sum / f64::from(own.n.max(1)), 0.0)),
        _ => None,
    }
}

/// Bets on a unit's value, if it is final.
fn settle(
    (metric, places): (&PlannedMetric, &Places),
    unit: &Unit,
    finality: &Finality,
    into: &mut Gathered,
) {
    if let Some(settling) = &mut into.settling
        && let Some((value, _)) = value((metric, places), unit)
    {
        settling.take(unit, value > 0.0, finality);
    }
}

/// Adds a unit to the values of a metric, if its own is final or never will be.
///
/// Outcomes come after their units do, and of one variant later than of another: values that may still change would be compared with values that change no more.
fn gather(
    (metric, places): (&PlannedMetric, &Places),
    unit: &Unit,
    finality: &Finality,
    into: &mut Gathered,
) {
    let is_open = |window_ms| !finality.is_closed(unit, window_ms);
    if into.window_ms.is_some_and(is_open) {
        into.open += 1;
        return;
    }
    let pair = value((metric, places), unit);
    let covariate = cell(unit, places.covariate);
    let lacks_covariate = matches!(into.values, Values::Adjusted(_)) && covariate.n == 0;
    let Some((first, second)) = pair.filter(|_| !lacks_covariate) else {
        into.missing += 1;
        return;
    };
    match &mut into.values {
        Values::Shares(side) => {
            side.units += 1;
            side.successes += u64::from(first > 0.0);
        }
        Values::Means(side) => side.push(first),
        Values::Ratios(both) => both.push(first, second),
        Values::Adjusted(both) => both.push(first, covariate.last),
    }
}

fn moments_of(values: &Values) -> Moments {
    match values {
        Values::Shares(side) => side.to_moments(),
        Values::Means(side) => *side,
        Values::Ratios(both) => both.to_ratio().unwrap_or_default(),
        Values::Adjusted(both) => both.first,
    }
}

fn policy_metric(metric: &PlannedMetric) -> Metric {
    Metric {
        name: metric.name.clone(),
        better: match metric.is_lower_better {
            true => Better::Lower,
            false => Better::Higher,
        },
        role: match metric.role {
            MetricRole::Primary => Role::Primary,
            MetricRole::Secondary => Role::Secondary,
            MetricRole::Guardrail => Role::Guardrail,
        },
        expected: metric.expected,
        margin: metric.margin,
    }
}

fn policy_spec(analysis: &PlannedAnalysis) -> AnalysisSpec {
    AnalysisSpec {
        alpha: analysis.alpha,
        units_min: analysis.units_min,
        correction: match analysis.correction {
            CorrectionForm::BenjaminiHochberg => Correction::BenjaminiHochberg,
            CorrectionForm::Bonferroni => Correction::Bonferroni,
            CorrectionForm::None => Correction::None,
        },
    }
}

/// The variants' units and values, with the metrics in the words of the rules.
struct Gathering {
    metrics: Vec<Metric>,
    units: Vec<VariantUnits>,
    shown: Vec<VariantStanding>,
    n_mixed: u64,
    n_overridden: u64,
}

impl Gathering {
    /// Returns how many units of all variants have a window that is open, in the primary metric that has most of them.
    fn n_open(&self) -> u64 {
        let open = |index: usize| {
            let metrics = self.shown.iter().map(|variant| variant.metrics.get(index));
            metrics.flatten().map(|metric| metric.open).sum()
        };
        let metrics = self.metrics.iter().enumerate();
        let primary = metrics.filter(|(_, metric)| metric.role == Role::Primary);
        primary.map(|(index, _)| open(index)).max().unwrap_or(0)
    }
}

impl Ledger {
    /// Returns what tells whether a unit would be given another variant now than it was first.
    ///
    /// Where weights have changed, all such units are left out, whether or not they came again: those that come again are others than those that do not.
    fn moved(&self, planned: &PlannedExperiment) -> impl Fn(&str, &Unit) -> bool + '_ {
        let assignment = match self.is_reweighted {
            true => super::split::assignment(planned).ok(),
            false => None,
        };
        move |name, unit| {
            let assigned = assignment.as_ref().and_then(|assignment| {
                let assigned = assignment.assign(name)?;
                assignment.variants().get(assigned.variant)
            });
            let arm = self.arms.get(usize::from(unit.variant));
            match (assigned, arm) {
                (Some(assigned), Some(arm)) => assigned.name != arm.name,
                _ => false,
            }
        }
    }

    fn gathering(&self, planned: &PlannedExperiment, now: u64) -> Gathering {
        let place = |name: &str| self.metrics.iter().position(|known| known == name);
        let places: Vec<Places> = planned
            .metrics
            .iter()
            .map(|metric| Places {
                own: place(&metric.name),
                denominator: match &metric.kind {
                    MetricForm::Ratio(Some(name)) => place(name),
                    _ => None,
                },
                covariate: metric.covariate.as_deref().and_then(place),
            })
            .collect();
        // The place among the planned variants of each that the ledger knows.
        let planned_place = |name: &str| {
            let mut variants = planned.variants.iter();
            variants.position(|variant| variant.name == name)
        };
        let places_of_arms: Vec<Option<usize>> = self
            .arms
            .iter()
            .map(|arm| planned_place(&arm.name))
            .collect();
        let nothing = |metric| Gathered::new(metric, planned);
        let new = || ArmGathered {
            units: 0,
            assigned: 0,
            values: planned.metrics.iter().map(nothing).collect(),
        };
        let mut gathered: Vec<ArmGathered> = planned.variants.iter().map(|_| new()).collect();
        let moved = self.moved(planned);
        let is_bandit = planned.allocation != Allocation::Fixed;
        let finality = self.finality(now);
        let (mut n_mixed, mut n_overridden) = (0, 0);
        for (name, unit) in &self.units {
            if is_before(unit, planned) {
                continue;
            }
            n_overridden += u64::from(unit.is_override);
            let place = places_of_arms.get(usize::from(unit.variant));
            let Some(arm) = place.and_then(|place| gathered.get_mut((*place)?)) else {
                continue;
            };
            arm.assigned += u64::from(!unit.is_override);
            // A bandit's unit is shown what is drawn; its outcomes are credited one by one.
            let has_moved = !is_bandit && moved(name, unit);
            let was_shown_others = unit.is_mixed || unit.saw_winner && planned.winner.is_none();
            let is_mixed = has_moved || !is_bandit && was_shown_others;
            n_mixed += u64::from(is_mixed && !unit.is_override);
            let is_analysed = !is_mixed && !unit.is_override;
            arm.units += u64::from(is_analysed);
            let values = &mut arm.values;
            for (metric, into) in planned.metrics.iter().zip(&places).zip(values) {
                if !has_moved {
                    settle(metric, unit, &finality, into);
                }
                if is_analysed {
                    gather(metric, unit, &finality, into);
                }
            }
        }
        self.gathered(planned, gathered, (n_mixed, n_overridden))
    }

    fn gathered(
        &self,
        planned: &PlannedExperiment,
        gathered: Vec<ArmGathered>,
        (n_mixed, n_overridden): (u64, u64),
    ) -> Gathering {
        let arm = |name: &str| self.arms.iter().find(|arm| arm.name == name);
        let alpha = planned.analysis.alpha;
        let (mut units, mut shown) = (Vec::new(), Vec::new());
        for (variant, gathered) in planned.variants.iter().zip(gathered) {
            let ArmGathered {
                units: n_units,
                assigned,
                values,
            } = gathered;
            let arm = arm(&variant.name).cloned().unwrap_or_default();
            shown.push(VariantStanding {
                name: variant.name.clone(),
                units: n_units,
                expected: arm.expected,
                requests: arm.requests,
                errors: arm.errors,
                metrics: values.iter().map(|one| one.standing(alpha)).collect(),
            });
            units.push(VariantUnits {
                name: variant.name.clone(),
                units: n_units,
                assigned,
                expected: arm.expected,
                takes_units: variant.weight > 0,
                values: values.into_iter().map(|gathered| gathered.values).collect(),
            });
        }
        Gathering {
            metrics: planned.metrics.iter().map(policy_metric).collect(),
            units,
            shown,
            n_mixed,
            n_overridden,
        }
    }

    fn analysis(&self, planned: &PlannedExperiment, gathering: &Gathering) -> Analysis {
        let is_bandit = planned.allocation != Allocation::Fixed;
        if is_bandit || planned.stage.is_some() {
            let why = match is_bandit {
                true => {
                    "a bandit gives each variant what it has earned; means gathered so are biased, and are not compared"
                }
                false => DECIDED_ELSEWHERE,
            };
            return Analysis {
                split: None,
                split_anytime: None,
                comparisons: Vec::new(),
                verdict: Verdict::Wait(why.to_owned()),
            };
        }
        let sides = (gathering.units.as_slice(), planned.control);
        let spec = policy_spec(&planned.analysis);
        let mut analysis = analyse(&spec, &gathering.metrics, sides);
        let n_open = gathering.n_open();
        if let Verdict::Wait(why) = &mut analysis.verdict
            && n_open > 0
        {
            why.push_str(&format!(
                "; {n_open} more units count once their windows have closed"
            ));
        }
        analysis
    }

    /// Looks at every comparison, and notes what is seen.
    pub(super) fn look(&mut self, at: u64, planned: &PlannedExperiment) {
        let gathering = self.gathering(planned, at);
        let analysis = self.analysis(planned, &gathering);
        for comparison in analysis.comparisons {
            let (Some(variant), Some(metric), Some(effect)) = (
                planned.variants.get(comparison.variant),
                planned.metrics.get(comparison.metric),
                comparison.anytime,
            ) else {
                continue;
            };
            let alpha = planned.analysis.alpha;
            let mut series = self.series.iter_mut();
            match series.find(|series| series.is_of(&variant.name, metric, alpha)) {
                Some(series) => series.push(at, effect),
                None => {
                    let is_old = |series: &Series| {
                        series.variant == variant.name && series.metric.name == metric.name
                    };
                    self.series.retain(|series| !is_old(series));
                    let mut series = Series::new(&variant.name, metric, alpha);
                    series.push(at, effect);
                    self.series.push(series);
                }
            }
        }
    }

    /// Returns what those units of a rollout's stage came to that are known, by metric: of the first variant and of the second.
    pub(super) fn outcomes_of_units(
        &self,
        planned: &PlannedExperiment,
    ) -> Vec<(UnitMoments, UnitMoments)> {
        // Its rollout judges values as they are.
        let gathering = self.gathering(planned, 0);
        let of = |variant: usize, metric: usize| {
            let values = gathering.units.get(variant);
            let values = values.and_then(|variant| variant.values.get(metric));
            let moments = values.map(moments_of).unwrap_or_default();
            (moments.units, moments.mean, moments.squares)
        };
        (0..planned.metrics.len())
            .map(|metric| (of(0, metric), of(1, metric)))
            .collect()
    }

    /// Returns a bandit over the planned variants.
    pub(super) fn bandit(&self, planned: &PlannedExperiment) -> Option<Bandit> {
        let Allocation::Bandit { strategy, floor } = planned.allocation else {
            return None;
        };
        let strategy = match strategy {
            BanditStrategy::EpsilonGreedy(epsilon) => Strategy::EpsilonGreedy(epsilon),
            BanditStrategy::Thompson => Strategy::Thompson,
            BanditStrategy::Ucb1 => Strategy::Ucb1,
            // Chooses request by request.
            BanditStrategy::LinUcb(_) => return None,
        };
        if planned.variants.is_empty() {
            return None;
        }
        let mut bandit = Bandit::new(strategy, floor, planned.variants.len());
        for (arm, variant) in bandit.arms.iter_mut().zip(&planned.variants) {
            *arm = self.earned(&variant.name);
        }
        Some(bandit)
    }

    /// Returns what a bandit has earned with a variant.
    fn earned(&self, variant: &str) -> Moments {
        let index = self.arms.iter().position(|arm| arm.name == variant);
        let earned = index.and_then(|index| self.rewards.arms.get(index));
        let moments = earned.map(|(units, mean, squares)| Moments {
            units: *units,
            mean: *mean,
            squares: *squares,
        });
        moments.unwrap_or_default()
    }

    /// Returns how a bandit stands with each variant; nothing where there is none.
    fn arm_standings(&self, planned: &PlannedExperiment, propensities: &[f64]) -> Vec<ArmStanding> {
        if planned.allocation == Allocation::Fixed {
            return Vec::new();
        }
        let n_requests: u64 = self.arms.iter().map(|arm| arm.requests).sum();
        let share = |variant: &str| {
            let arm = self.arms.iter().find(|arm| arm.name == variant);
            let requests = arm.map_or(0, |arm| arm.requests);
            requests as f64 / n_requests.max(1) as f64
        };
        let variants = planned.variants.iter().enumerate();
        let standings = variants.map(|(index, variant)| {
            let earned = self.earned(&variant.name);
            ArmStanding {
                variant: variant.name.clone(),
                rewards: earned.units,
                mean: earned.mean,
                propensity: match planned.linear() {
                    Some(_) => share(&variant.name),
                    None => propensities.get(index).copied().unwrap_or_default(),
                },
                weights: self.linear_weights(planned, &variant.name),
            }
        });
        standings.collect()
    }

    fn off_policy(&self, planned: &PlannedExperiment) -> Vec<OffPolicyStanding> {
        let of = |name: &str| {
            let index = self.arms.iter().position(|arm| arm.name == name);
            let logged = self
                .rewards
                .choices()
                .map(|((variant, propensity, reward), expected)| {
                    let of = |index: Option<usize>| {
                        let expected = index.and_then(|index| expected.get(index));
                        expected.copied().map_or(0.0, f64::from)
                    };
                    let variant = usize::from(variant);
                    Logged {
                        propensity: f64::from(propensity),
                        target: f64::from(u8::from(index == Some(variant))),
                        reward: f64::from(reward),
                        expected: of(Some(variant)),
                        expected_of_target: of(index),
                    }
                });
            let has_model = planned.linear().is_some();
            off_policy(logged).map(|estimate| OffPolicyStanding {
                variant: name.to_owned(),
                inverse_propensity: estimate.inverse_propensity,
                self_normalised: estimate.self_normalised,
                doubly_robust: has_model.then_some(estimate.doubly_robust),
                standard_error: match has_model {
                    true => estimate.robust_error,
                    false => estimate.self_normalised_error,
                },
                effective_choices: estimate.effective_choices,
            })
        };
        // What was chosen for certain might have been no other, so nothing is known of the others where it was.
        let might_be = |name: &str| {
            let index = self.arms.iter().position(|arm| arm.name == name);
            let mut choices = self.rewards.choices();
            choices.all(|((variant, propensity, _), _)| {
                index == Some(usize::from(variant)) || propensity < 1.0
            })
        };
        let variants = planned.variants.iter();
        let possible = variants.filter(|variant| might_be(&variant.name));
        possible.filter_map(|variant| of(&variant.name)).collect()
    }

    /// Returns how the experiment stands at `now`, in ms since 1970; what is counted outside of the ledger is left at 0.
    pub(super) fn standing(
        &self,
        id: &ExperimentId,
        planned: &PlannedExperiment,
        propensities: &[f64],
        now: u64,
    ) -> Standing {
        let gathering = self.gathering(planned, now);
        let analysis = self.analysis(planned, &gathering);
        let series = self.series.iter().map(|series| {
            let names = (series.variant.clone(), series.metric.name.clone());
            (names.0, names.1, series.points.clone())
        });
        Standing {
            id: id.clone(),
            planned: planned.clone(),
            since: self.since,
            arms: self.arm_standings(planned, propensities),
            off_policy: match planned.allocation {
                Allocation::Bandit { .. } => self.off_policy(planned),
                Allocation::Fixed => Vec::new(),
            },
            series: series.collect(),
            variants: gathering.shown,
            n_mixed: gathering.n_mixed,
            n_overridden: gathering.n_overridden,
            n_unassigned: 0,
            n_lost: 0,
            n_units_lost: self.n_units_lost,
            n_outcomes: self.n_outcomes,
            analysis,
        }
    }
}
