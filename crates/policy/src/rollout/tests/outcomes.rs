//! How often a metric of outcomes takes a canary back: one that is the same at a few units of a small stage, and one that does the worst to everybody.

use super::super::{Better, CheckState, MetricRule, check_metric};
use crate::experiment::Moments;
use crate::random::Random;

/// Three stages of a rollout with one metric share an `alpha` of 1 %.
const NEEDED: f64 = 900.0;
const UNITS: u32 = 4_000;

fn rule(better: Better, is_share: bool, margin: f64) -> MetricRule {
    MetricRule {
        name: "bought".to_owned(),
        better,
        is_share,
        margin,
        units_min: 100,
    }
}

fn state(rule: &MetricRule, stable: &Moments, canary: &Moments) -> CheckState {
    check_metric(rule, (stable, canary), NEEDED).state
}

/// Returns how many of so many canaries with a share of units go back at some look, after every fifth of their units.
fn n_back(
    rule: &MetricRule,
    (share, n_runs): (f64, u64),
    draw: impl Fn(&mut Random, bool) -> f64,
) -> usize {
    let goes_back = |seed: &u64| {
        let mut random = Random::new(*seed);
        let (mut stable, mut canary) = (Moments::default(), Moments::default());
        (0..UNITS).any(|_| {
            let is_canary = random.unit() < share;
            let value = draw(&mut random, is_canary);
            if !is_canary {
                stable.push(value);
                return false;
            }
            canary.push(value);
            canary.units % 5 == 0 && state(rule, &stable, &canary) == CheckState::Failed
        })
    };
    (0..n_runs).filter(goes_back).count()
}

#[test]
fn canaries_that_convert_alike_are_not_taken_back_by_chance() {
    for share in [0.05, 0.1, 0.5] {
        for (rate, margin) in [(0.01, 0.002), (0.02, 0.005), (0.03, 0.005), (0.2, 0.02)] {
            for better in [Better::Higher, Better::Lower] {
                // The same, and worse by what is just allowed.
                let worst = match better {
                    Better::Higher => rate - margin,
                    Better::Lower => rate + margin,
                };
                for of_canary in [rate, worst] {
                    let draw = |random: &mut Random, is_canary: bool| {
                        let rate = if is_canary { of_canary } else { rate };
                        f64::from(u8::from(random.unit() < rate))
                    };
                    let n_back = n_back(&rule(better, true, margin), (share, 300), draw);
                    assert!(n_back <= 3, "{share} {rate} {of_canary}: {n_back} of 300");
                }
            }
        }
    }
}

#[test]
fn canaries_that_earn_alike_are_not_taken_back_by_chance() {
    for share in [0.05, 0.1, 0.5] {
        for margin in [0.01, 0.05] {
            for better in [Better::Higher, Better::Lower] {
                let draw = |random: &mut Random, _is_canary: bool| {
                    let radius = (-2.0 * (1.0 - random.unit()).ln()).sqrt();
                    let normal = radius * (std::f64::consts::TAU * random.unit()).cos();
                    match random.unit() < 0.05 {
                        true => normal.exp(),
                        false => 0.0,
                    }
                };
                let rule = MetricRule {
                    units_min: 20,
                    ..rule(better, false, margin)
                };
                let n_back = n_back(&rule, (share, 300), draw);
                assert!(n_back <= 3, "{share} {margin}: {n_back} of 300");
            }
        }
    }
}

/// Of the auditor: 62 conversions of 2,074 beside none of 110.
#[test]
fn few_units_without_a_conversion_prove_nothing() {
    let rule = rule(Better::Higher, true, 0.005);
    let of = |ones: u32, units: u32| {
        let mut values = Moments::default();
        (0..units).for_each(|unit| values.push(f64::from(u8::from(unit < ones))));
        values
    };
    let check = check_metric(&rule, (&of(62, 2_074), &of(0, 110)), NEEDED);
    assert_eq!(check.state, CheckState::Doubtful);
    assert!(check.evidence < 5.0, "{check}");
    // A rate of a fifth that falls to nothing is known before there are as many units as a stage needs.
    assert_eq!(
        state(&rule, &of(400, 2_000), &of(0, 20)),
        CheckState::TooFew
    );
    assert_eq!(
        state(&rule, &of(400, 2_000), &of(0, 80)),
        CheckState::Failed
    );
    assert_eq!(
        state(&rule, &of(400, 2_000), &of(19, 95)),
        CheckState::TooFew
    );
}

/// What happens to everybody has no spread on either side.
#[test]
fn what_happens_to_everybody_takes_the_canary_back() {
    let all = |units: u32, value: f64| {
        let mut values = Moments::default();
        (0..units).for_each(|_| values.push(value));
        values
    };
    // Of shares it is known at once.
    let share = rule(Better::Higher, true, 0.1);
    for (n_stable, n_canary) in [(12, 12), (190, 10), (500, 500)] {
        let found = state(&share, &all(n_stable, 1.0), &all(n_canary, 0.0));
        assert_eq!(found, CheckState::Failed, "{n_stable} {n_canary}");
    }
    for (values, margin) in [((5.0, 1.0), 0.1), ((2.0, 0.0), 0.001), ((1e6, 0.0), 0.5)] {
        let rule = rule(Better::Higher, false, margin);
        let found = state(&rule, &all(900, values.0), &all(100, values.1));
        assert_eq!(found, CheckState::Failed, "{values:?}");
        let found = state(&rule, &all(900, values.1), &all(100, values.0));
        assert_eq!(found, CheckState::Passed, "{values:?}");
    }
}
