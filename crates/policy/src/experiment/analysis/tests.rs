//! Verdicts over made-up units; the numbers themselves are tested where they are computed.

use super::*;
use crate::random::Random;

const SPEC: AnalysisSpec = AnalysisSpec {
    alpha: 0.05,
    correction: Correction::BenjaminiHochberg,
    units_min: 100,
};

fn metric(name: &str, better: Better, role: Role) -> Metric {
    Metric {
        name: name.to_owned(),
        better,
        role,
        expected: 0.03,
        margin: 0.01,
    }
}

fn side(name: &str, units: u64, values: Vec<Values>) -> VariantUnits {
    VariantUnits {
        name: name.to_owned(),
        units,
        assigned: units,
        expected: 0.5,
        takes_units: true,
        values,
    }
}

fn shares(successes: u64, units: u64) -> Values {
    Values::Shares(Proportion { successes, units })
}

fn two(a: (u64, u64), b: (u64, u64)) -> [VariantUnits; 2] {
    [
        side("a", a.1, vec![shares(a.0, a.1)]),
        side("b", b.1, vec![shares(b.0, b.1)]),
    ]
}

fn verdict(metrics: &[Metric], variants: &[VariantUnits]) -> Verdict {
    analyse(&SPEC, metrics, (variants, 0)).verdict
}

/// The values are SciPy's (reference values of the experiment statistics: A 200 of 2,000, B 250 of 2,000).
#[test]
fn every_number_is_there_for_shares() {
    let metrics = [metric("converted", Better::Higher, Role::Primary)];
    let variants = two((200, 2_000), (250, 2_000));
    let analysis = analyse(&SPEC, &metrics, (&variants, 0));
    let one = &analysis.comparisons[0];
    let near = |found: f64, expected: f64, tolerance: f64| {
        assert!((found - expected).abs() < tolerance, "{found} {expected}");
    };
    near(one.fixed.unwrap().p_value, 0.012_351, 1e-6);
    near(one.exact_p_value.unwrap(), 0.014_139, 1e-6);
    near(one.posterior.unwrap().b_is_better, 0.993_814_348, 1e-9);
    near(one.lift.unwrap().difference, 0.25, 1e-12);
    assert_eq!(one.fixed_corrected, one.fixed.map(|effect| effect.p_value));
    assert_eq!(one.basis, Basis::Share);
    assert_eq!((one.control.0, one.treated.0), (2_000, 2_000));
    assert!(one.guardrail.is_none());
}

/// A mean of a difference of 1 with a deviation of 1: P = 0.841345, and the mean excesses are those of the normal law.
#[test]
fn means_have_a_normal_posterior() {
    let a = Moments::new(200, 0.0, 100.0);
    let b = Moments::new(200, 1.0, 100.0);
    let belief = super::super::normal_posterior(&a, &b).unwrap();
    assert!((belief.b_is_better - 0.841_344_746).abs() < 1e-9);
    assert!((belief.loss_of_a - 1.083_315_471).abs() < 1e-9);
    assert!((belief.loss_of_b - 0.083_315_471).abs() < 1e-9);
}

#[test]
fn a_variant_wins_only_by_what_may_be_looked_at_any_time() {
    let metrics = [metric("converted", Better::Higher, Role::Primary)];
    // Significant at a fixed horizon, not at any time.
    let narrow = verdict(&metrics, &two((200, 2_000), (250, 2_000)));
    assert!(matches!(narrow, Verdict::Wait(_)), "{narrow:?}");
    let wide = verdict(&metrics, &two((200, 2_000), (320, 2_000)));
    assert!(
        matches!(wide, Verdict::Better { variant: 1, .. }),
        "{wide:?}"
    );
    // What is worse does not win, nor what less of is better.
    let worse = verdict(&metrics, &two((320, 2_000), (200, 2_000)));
    assert!(matches!(worse, Verdict::Wait(_)), "{worse:?}");
    let lower = [metric("churned", Better::Lower, Role::Primary)];
    let won = verdict(&lower, &two((320, 2_000), (200, 2_000)));
    assert!(matches!(won, Verdict::Better { variant: 1, .. }), "{won:?}");
    let few = verdict(&metrics, &two((2, 50), (40, 50)));
    assert!(
        matches!(&few, Verdict::Wait(why) if why.contains("50 of the 100 units")),
        "{few:?}"
    );
}

/// A variant of weight 0, from the beginning or since it lost: it has few units or none, and nobody is to wait for them.
#[test]
fn a_variant_that_is_given_no_units_has_no_part_in_the_verdict() {
    let metrics = [
        metric("converted", Better::Higher, Role::Primary),
        metric("errors", Better::Lower, Role::Guardrail),
    ];
    let with = |units: u64, won: u64, errors: u64, expected: f64| {
        let side = |name, units, won, errors| {
            side(name, units, vec![shares(won, units), shares(errors, units)])
        };
        let mut last = side("c", units, won, errors);
        (last.takes_units, last.expected) = (false, expected);
        [side("a", 2_000, 200, 20), side("b", 2_000, 320, 20), last]
    };
    for variants in [with(0, 0, 0, 0.0), with(2_000, 1_000, 500, 0.5)] {
        let found = verdict(&metrics, &variants);
        assert!(
            matches!(found, Verdict::Better { variant: 1, .. }),
            "{found:?}"
        );
    }
    // The control is what others are compared with, given units or not.
    let mut variants = two((2, 50), (400, 2_000));
    variants[0].takes_units = false;
    variants[0].expected = 0.5 * 50.0 / 2_000.0;
    let found = verdict(&metrics[..1], &variants);
    assert!(
        matches!(&found, Verdict::Wait(why) if why.contains("50 of the 100 units")),
        "{found:?}"
    );
}

#[test]
fn a_mismatch_and_harm_come_before_a_winner() {
    let metrics = [
        metric("converted", Better::Higher, Role::Primary),
        metric("errors", Better::Lower, Role::Guardrail),
    ];
    let with = |units: u64, errors: u64| {
        [
            side("a", 2_000, vec![shares(200, 2_000), shares(20, 2_000)]),
            side(
                "b",
                units,
                vec![shares(units / 6, units), shares(errors, units)],
            ),
        ]
    };
    let mismatch = verdict(&metrics, &with(1_500, 15));
    assert!(matches!(mismatch, Verdict::Mismatch(_)), "{mismatch:?}");
    let harm = verdict(&metrics, &with(2_000, 200));
    assert!(matches!(harm, Verdict::Harm { variant: 1, .. }), "{harm:?}");
    let fine = verdict(&metrics, &with(2_000, 21));
    assert!(
        matches!(fine, Verdict::Better { variant: 1, .. }),
        "{fine:?}"
    );
    // A guardrail of which more is better.
    let metrics = [metric("answered", Better::Higher, Role::Guardrail)];
    let harm = verdict(&metrics, &two((1_900, 2_000), (1_500, 2_000)));
    assert!(matches!(harm, Verdict::Harm { variant: 1, .. }), "{harm:?}");
}

#[test]
fn several_metrics_are_corrected_without_guardrails() {
    let metrics = [
        metric("one", Better::Higher, Role::Primary),
        metric("two", Better::Higher, Role::Secondary),
        metric("errors", Better::Lower, Role::Guardrail),
    ];
    let values = |a: u64, b: u64| vec![shares(a, 2_000), shares(b, 2_000), shares(20, 2_000)];
    let variants = [
        side("a", 2_000, values(200, 200)),
        side("b", 2_000, values(250, 205)),
    ];
    let spec = AnalysisSpec {
        correction: Correction::Bonferroni,
        ..SPEC
    };
    let analysis = analyse(&spec, &metrics, (&variants, 0));
    let first = &analysis.comparisons[0];
    let (plain, corrected) = (first.fixed.unwrap().p_value, first.fixed_corrected.unwrap());
    assert!((corrected - 2.0 * plain).abs() < 1e-12);
    assert!(analysis.comparisons[2].fixed_corrected.is_none());
    assert!(analysis.comparisons[2].guardrail.is_some());
}

/// Peeking after every hundred units at experiments without a difference declares a winner in at most alpha of them.
#[test]
fn peeking_at_nothing_finds_a_winner_rarely() {
    let metrics = [metric("converted", Better::Higher, Role::Primary)];
    let mut random = Random::new(9);
    let (mut n_won, n_runs) = (0, 300);
    for _ in 0..n_runs {
        let mut successes = [0_u64; 2];
        for look in 1..=40_u64 {
            for _ in 0..100 {
                for arm in &mut successes {
                    *arm += u64::from(random.unit() < 0.1);
                }
            }
            let units = look * 100;
            let variants = two((successes[0], units), (successes[1], units));
            let analysis = analyse(&SPEC, &metrics, (&variants, 0));
            if matches!(analysis.verdict, Verdict::Better { .. }) {
                n_won += 1;
                break;
            }
        }
    }
    assert!(f64::from(n_won) <= 0.05 * f64::from(n_runs), "{n_won}");
}

/// The same from the second unit on, with a guardrail, and values that most units have not and that vary a lot.
#[test]
fn peeking_from_the_first_units_on_finds_neither_winners_nor_harm() {
    let metrics = [
        metric("spent", Better::Higher, Role::Primary),
        Metric {
            margin: 0.0,
            ..metric("seconds", Better::Lower, Role::Guardrail)
        },
    ];
    let mut random = Random::new(4);
    let (mut n_wrong, n_runs) = (0, 200);
    for _ in 0..n_runs {
        let mut sums = [[Moments::default(); 2]; 2];
        for units in 1..=2_000_u64 {
            for of_arm in &mut sums {
                let has_value = random.unit() < 0.2;
                let value = -(1.0 - random.unit()).ln();
                if has_value {
                    of_arm[0].push(value);
                }
                of_arm[1].push(-(1.0 - random.unit()).ln());
            }
            // Early every unit is looked at, later every twentieth.
            if units > 200 && units % 20 != 0 {
                continue;
            }
            let values = |arm: usize| sums[arm].map(Values::Means).to_vec();
            let variants = [side("a", units, values(0)), side("b", units, values(1))];
            let analysis = analyse(&SPEC, &metrics, (&variants, 0));
            if !matches!(analysis.verdict, Verdict::Wait(_)) {
                n_wrong += 1;
                break;
            }
        }
    }
    // A twentieth for the winner, and one for the harm.
    assert!(f64::from(n_wrong) <= 0.1 * f64::from(n_runs), "{n_wrong}");
}

#[test]
fn few_values_conclude_nothing_however_far_apart_they_are() {
    let spent = |values: [f64; 2]| {
        let mut moments = Moments::default();
        values.iter().for_each(|value| moments.push(*value));
        vec![Values::Means(moments)]
    };
    let variants = [
        side("a", 100, spent([20.0, 20.01])),
        side("b", 100, spent([23.0, 23.02])),
    ];
    let primary = [metric("spent", Better::Higher, Role::Primary)];
    let found = verdict(&primary, &variants);
    assert!(
        matches!(&found, Verdict::Wait(why) if why.contains("2 of the 100 units with a value of spent")),
        "{found:?}"
    );
    let analysis = analyse(&SPEC, &primary, (&variants, 0));
    assert_eq!(analysis.comparisons[0].anytime, None);
    let guarded = [metric("seconds", Better::Lower, Role::Guardrail)];
    let found = verdict(&guarded, &variants);
    assert!(matches!(found, Verdict::Wait(_)), "{found:?}");
}

/// Conversions of the control come later than the variant's: what an earlier look has seen of them is none of what there is to see now.
#[test]
fn outcomes_that_came_late_leave_no_winner_behind() {
    let metrics = [metric("converted", Better::Higher, Role::Primary)];
    let early = two((180, 1_000), (300, 1_000));
    let found = verdict(&metrics, &early);
    assert!(matches!(found, Verdict::Better { .. }), "{found:?}");
    let all = two((295, 1_000), (300, 1_000));
    let analysis = analyse(&SPEC, &metrics, (&all, 0));
    assert!(
        matches!(analysis.verdict, Verdict::Wait(_)),
        "{:?}",
        analysis.verdict
    );
    let effect = analysis.comparisons[0].anytime.unwrap();
    let Bounds { low, high } = effect.interval;
    assert!(low < effect.difference && effect.difference < high);
    assert!(effect.p_value > 0.05);
}

/// Of 100 users none had a refund, of the control's 900 some had.
#[test]
fn a_variant_wins_not_by_lacking_what_is_rare() {
    let metrics = [metric("refunded", Better::Lower, Role::Primary)];
    let with = |refunds: u64| {
        let mut variants = two((refunds, 900), (0, 100));
        variants[0].expected = 0.9;
        variants[1].expected = 0.1;
        variants
    };
    for refunds in [0, 9, 15, 40] {
        let found = verdict(&metrics, &with(refunds));
        assert!(matches!(found, Verdict::Wait(_)), "{refunds}: {found:?}");
    }
    let won = verdict(&metrics, &with(400));
    assert!(matches!(won, Verdict::Better { variant: 1, .. }), "{won:?}");
}

/// A variant that fails every request of everybody: neither side has any spread. Harm is told within a few dozen users; a winner when there are as many as there must be.
#[test]
fn total_failure_trips_guardrails_within_a_few_dozen_units() {
    let metrics = [
        metric("answered", Better::Higher, Role::Primary),
        metric("errors", Better::Lower, Role::Guardrail),
    ];
    let failing = |units: u64, share: f64| {
        let mut errors = Bivariate::default();
        (0..units).for_each(|unit| {
            let requests = 1.0 + (unit % 3) as f64;
            errors.push(share * requests, requests);
        });
        errors
    };
    let by_user = |units: u64| {
        let side = |name, share: f64| {
            let answered = units - (share * units as f64) as u64;
            let errors = Values::Ratios(failing(units, share));
            side(name, units, vec![shares(answered, units), errors])
        };
        [side("a", 0.0), side("b", 1.0)]
    };
    let by_unit = |units: u64| {
        let side = |name, failed| {
            let answered = shares(units - failed, units);
            side(name, units, vec![answered, shares(failed, units)])
        };
        [side("a", 0), side("b", units)]
    };
    for (variants, units) in [(by_user(20), 20), (by_unit(8), 8), (by_user(1_000), 1_000)] {
        let found = verdict(&metrics, &variants);
        assert!(
            matches!(found, Verdict::Harm { variant: 1, .. }),
            "{units}: {found:?}"
        );
    }
    let few = verdict(&metrics, &by_unit(3));
    assert!(matches!(few, Verdict::Wait(_)), "{few:?}");
    // The other way round it wins, once every variant has its units.
    let turned = |[a, b]: [VariantUnits; 2]| [b, a];
    let found = verdict(&metrics[..1], &turned(by_unit(505)));
    assert!(matches!(found, Verdict::Better { .. }), "{found:?}");
    let early = verdict(&metrics[..1], &turned(by_unit(50)));
    assert!(
        matches!(&early, Verdict::Wait(why) if why.contains("50 of the 100 units")),
        "{early:?}"
    );
}
