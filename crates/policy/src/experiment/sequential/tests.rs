//! SciPy's values, and how often one is fooled who looks all the time: at few units of unequal shares, at rare events and at values most of which are zero.

use super::*;
use crate::experiment::tests::{close, reference};
use crate::experiment::{Bivariate, Moments, Proportion, cuped};
use crate::random::Random;

/// Shares of units that are the variant's.
const SHARES: [f64; 4] = [0.5, 0.2, 0.1, 0.05];
const UNITS: u32 = 4_000;
const ALPHA: f64 = 0.05;

/// How often there was enough evidence at some look: that B is more, that it is less (either at `alpha` for one side), and that they differ.
#[derive(Clone, Copy, Debug, Default)]
struct Fooled {
    more: u32,
    less: u32,
    differ: u32,
}

/// Gathers the units of either side, and tells what they are compared by.
trait Gather {
    fn push(&mut self, random: &mut Random, is_b: bool);
    fn sides(&self) -> Sides;
}

/// Runs experiments whose true difference is `truth`, with a look after every fifth unit of B once there are so many of either.
fn fooled<G: Gather>(
    new: impl Fn() -> G,
    (share, expected, truth): (f64, f64, f64),
    (units_min, n_runs): (u64, u64),
) -> Fooled {
    let mut fooled = Fooled::default();
    for seed in 0..n_runs {
        let mut random = Random::new(seed);
        let mut gathered = new();
        let mut is_fooled = [false; 3];
        for _ in 0..UNITS {
            let is_b = random.unit() < share;
            gathered.push(&mut random, is_b);
            let sides = gathered.sides();
            let (n_a, n_b) = sides.units();
            if !is_b || n_b % 5 != 0 || n_a.min(n_b) < units_min {
                continue;
            }
            let evidence = log_evidence(&sides, truth, mixture_for(expected)).exp();
            let found = sides.difference().unwrap();
            let of_one_side = evidence >= 1.0 / (2.0 * ALPHA);
            is_fooled[0] |= of_one_side && found > truth;
            is_fooled[1] |= of_one_side && found < truth;
            is_fooled[2] |= evidence >= 1.0 / ALPHA;
        }
        fooled.more += u32::from(is_fooled[0]);
        fooled.less += u32::from(is_fooled[1]);
        fooled.differ += u32::from(is_fooled[2]);
    }
    fooled
}

#[track_caller]
fn assert_seldom(fooled: Fooled, n_runs: u64, case: &str) {
    let most = ALPHA * n_runs as f64;
    for count in [fooled.more, fooled.less, fooled.differ] {
        assert!(f64::from(count) <= most, "{case}: {fooled:?} of {n_runs}");
    }
}

struct Shares {
    rates: (f64, f64),
    a: Proportion,
    b: Proportion,
}

impl Shares {
    fn of(a: f64, b: f64) -> Self {
        Self {
            rates: (a, b),
            a: Proportion::default(),
            b: Proportion::default(),
        }
    }
}

impl Gather for Shares {
    fn push(&mut self, random: &mut Random, is_b: bool) {
        let (side, rate) = match is_b {
            true => (&mut self.b, self.rates.1),
            false => (&mut self.a, self.rates.0),
        };
        side.units += 1;
        side.successes += u64::from(random.unit() < rate);
    }

    fn sides(&self) -> Sides {
        Sides::Shares(self.a, self.b)
    }
}

#[test]
fn looking_at_equal_shares_all_the_time_fools_seldom() {
    for rate in [0.01, 0.03, 0.1] {
        for share in SHARES {
            // What is expected may be said well or badly.
            for expected in [rate, 0.2 * rate, 0.1] {
                let found = fooled(|| Shares::of(rate, rate), (share, expected, 0.0), (1, 200));
                assert_seldom(
                    found,
                    200,
                    &format!("rate {rate}, share {share}, expected {expected}"),
                );
            }
        }
    }
}

#[test]
fn looking_at_what_is_just_allowed_all_the_time_fools_seldom() {
    for (rates, margin) in [
        ((0.0, 0.02), 0.02),
        ((0.01, 0.015), 0.005),
        ((0.03, 0.01), -0.02),
        ((0.5, 0.55), 0.05),
    ] {
        for share in SHARES {
            let new = || Shares::of(rates.0, rates.1);
            let found = fooled(new, (share, margin, margin), (1, 200));
            assert_seldom(found, 200, &format!("{rates:?}, share {share}"));
        }
    }
}

/// Most units spend nothing, some a lot, and with a covariate that knows some of it.
struct Spent {
    spenders: f64,
    deviation: f64,
    is_adjusted: bool,
    a: Bivariate,
    b: Bivariate,
}

impl Gather for Spent {
    fn push(&mut self, random: &mut Random, is_b: bool) {
        let radius = (-2.0 * (1.0 - random.unit()).ln()).sqrt();
        let normal = radius * (std::f64::consts::TAU * random.unit()).cos();
        let spent = match random.unit() < self.spenders {
            true => (self.deviation * normal).exp(),
            false => 0.0,
        };
        let side = if is_b { &mut self.b } else { &mut self.a };
        side.push(spent, spent + random.exponential());
    }

    fn sides(&self) -> Sides {
        match self.is_adjusted {
            true => {
                let (a, b) = cuped(&self.a, &self.b);
                Sides::means(&a, &b)
            }
            false => Sides::means(&self.a.first, &self.b.first),
        }
    }
}

#[test]
fn looking_at_means_of_mostly_zeros_all_the_time_fools_seldom() {
    for (spenders, deviation) in [(0.05, 1.0), (0.05, 2.0), (0.01, 1.0), (1.0, 1.0)] {
        for is_adjusted in [false, true] {
            for (share, expected) in SHARES.into_iter().zip([0.1, 0.1, 1.0, 0.1]) {
                let new = || Spent {
                    spenders,
                    deviation,
                    is_adjusted,
                    a: Bivariate::default(),
                    b: Bivariate::default(),
                };
                let found = fooled(new, (share, expected, 0.0), (20, 200));
                let case = format!(
                    "{spenders} spend, deviation {deviation}, adjusted {is_adjusted}, share {share}"
                );
                assert_seldom(found, 200, &case);
            }
        }
    }
}

/// Users with very different numbers of requests, of which few fail, and all of some users.
struct Failures {
    a: Bivariate,
    b: Bivariate,
}

impl Gather for Failures {
    fn push(&mut self, random: &mut Random, is_b: bool) {
        let requests = (1.0 - random.unit()).powf(-1.0 / 1.5).min(1_000.0).ceil();
        let failed = match random.unit() < 0.01 {
            true => requests,
            false => (0..requests as u32)
                .filter(|_| random.unit() < 0.002)
                .count() as f64,
        };
        let side = if is_b { &mut self.b } else { &mut self.a };
        side.push(failed, requests);
    }

    fn sides(&self) -> Sides {
        Sides::Ratios(self.a, self.b)
    }
}

#[test]
fn looking_at_ratios_of_clusters_all_the_time_fools_seldom() {
    for share in SHARES {
        let new = || Failures {
            a: Bivariate::default(),
            b: Bivariate::default(),
        };
        let found = fooled(new, (share, 0.01, 0.0), (20, 200));
        assert_seldom(found, 200, &format!("ratios, share {share}"));
    }
}

fn proportion(successes: f64, units: f64) -> Proportion {
    Proportion {
        successes: successes as u64,
        units: units as u64,
    }
}

#[track_caller]
fn check(sides: &Sides, (expected, confidence): (f64, f64), answers: &[f64]) {
    let mixture = mixture_for(expected);
    let effect = sequential(sides, mixture, confidence).unwrap();
    assert!(effect.method.is_anytime_valid());
    close(effect.interval.low, answers[0], 1e-8);
    close(effect.interval.high, answers[1], 1e-8);
    for (difference, answer) in [0.0, 0.01, -0.02, 0.05].into_iter().zip(&answers[2..]) {
        close(log_evidence(sides, difference, mixture), *answer, 1e-8);
    }
    close(effect.p_value, (-answers[2]).exp().min(1.0), 1e-7);
}

#[test]
fn evidence_and_intervals_are_scipy_s() {
    for (arguments, answers) in reference("sequential_shares") {
        let [xa, na, xb, nb, expected, confidence] = arguments[..] else {
            panic!("{arguments:?}");
        };
        let sides = Sides::Shares(proportion(xa, na), proportion(xb, nb));
        check(&sides, (expected, confidence), &answers);
    }
    for (arguments, answers) in reference("sequential_ratios") {
        let (n_a, rest) = (arguments[0] as usize, &arguments[1..]);
        let (rows, terms) = rest.split_at(rest.len() - 2);
        let mut sides = [Bivariate::default(); 2];
        for (row, pair) in rows.chunks(2).enumerate() {
            sides[usize::from(row >= n_a)].push(pair[0], pair[1]);
        }
        check(
            &Sides::Ratios(sides[0], sides[1]),
            (terms[0], terms[1]),
            &answers,
        );
    }
}

/// Whatever was found: the interval holds it, and leaves 0 out where the p-value is at most `alpha`, nowhere else.
#[test]
fn intervals_agree_with_p_values() {
    let mut random = Random::new(3);
    let mut draw = |below: f64| (random.unit() * below).floor();
    let mut n_out = 0;
    for case in 0..600 {
        let (n_a, n_b) = (1.0 + draw(400.0), 1.0 + draw(100.0));
        let (a, b) = (
            proportion(draw(n_a.min(60.0) + 1.0), n_a),
            proportion(draw(n_b + 1.0), n_b),
        );
        let sides = match case % 2 {
            0 => Sides::Shares(a, b),
            _ => Sides::means(
                &Moments::new(a.units, a.rate(), draw(4.0)),
                &Moments::new(b.units, b.rate(), draw(2.0)),
            ),
        };
        let Some(Effect {
            difference,
            interval,
            p_value,
            ..
        }) = sequential(&sides, mixture_for(0.05), 0.95)
        else {
            continue;
        };
        assert!(
            interval.low <= difference && difference <= interval.high,
            "{sides:?}: {interval:?}"
        );
        let is_out = interval.low > 0.0 || interval.high < 0.0;
        assert_eq!(
            is_out,
            p_value <= 1.0 - 0.95,
            "{sides:?}: {p_value} {interval:?}"
        );
        n_out += i32::from(is_out);
    }
    assert!((50..550).contains(&n_out), "{n_out}");
}

#[test]
fn nothing_is_no_evidence() {
    let nobody = Proportion::default();
    let none = Sides::Shares(nobody, proportion(3.0, 3.0));
    assert_eq!(sequential(&none, 0.01, 0.95), None);
    assert_eq!(log_evidence(&none, 0.0, 0.01), 0.0);
    // All alike.
    let alike = Sides::Shares(proportion(0.0, 500.0), proportion(0.0, 100.0));
    assert_eq!(sequential(&alike, 0.01, 0.95), None);
    let alike = Moments::new(100, 5.0, 0.0);
    assert_eq!(sequential(&Sides::means(&alike, &alike), 0.01, 0.95), None);
    let no_requests = Bivariate::default();
    let none = Sides::Ratios(no_requests, no_requests);
    assert_eq!(sequential(&none, 0.01, 0.95), None);
    // The greatest values that are taken.
    let great = |mean: f64| Moments::new(100, mean, 1e200);
    let effect = sequential(&Sides::means(&great(1e100), &great(-1e100)), 0.01, 0.95).unwrap();
    assert!(!effect.p_value.is_nan() && effect.interval.low <= effect.interval.high);
}

/// Of the auditor: 100 users without a refund beside 900 with 15, and 0 of 982 requests that failed beside 1,018 of 1,018.
#[test]
fn few_units_without_an_event_prove_nothing_and_total_failure_does() {
    let few = Sides::Shares(proportion(15.0, 900.0), proportion(0.0, 100.0));
    let effect = sequential(&few, mixture_for(0.01), 0.95).unwrap();
    assert!(
        effect.p_value > 0.3 && effect.interval.high > 0.0,
        "{effect:?}"
    );
    let total = Sides::Shares(proportion(0.0, 982.0), proportion(1_018.0, 1_018.0));
    let effect = sequential(&total, mixture_for(0.01), 0.95).unwrap();
    assert!(
        effect.p_value < 1e-100 && effect.interval.low > 0.9,
        "{effect:?}"
    );
    // At either share within so many units, however much is expected.
    for (n_a, n_b) in [(8.0, 8.0), (95.0, 5.0), (5.0, 95.0)] {
        for expected in [0.001, 0.1] {
            let sides = Sides::Shares(proportion(0.0, n_a), proportion(n_b, n_b));
            let effect = sequential(&sides, mixture_for(expected), 0.95).unwrap();
            assert!(effect.p_value < 0.05, "{n_a} {n_b}: {effect:?}");
        }
    }
    // Means without spread on either side, of which as little was expected as one likes.
    for expected in [0.01, 0.1, 10.0] {
        let sides = Sides::means(&Moments::new(60, 5.0, 0.0), &Moments::new(30, 1.0, 0.0));
        let effect = sequential(&sides, mixture_for(expected), 0.95).unwrap();
        assert!(effect.p_value < 1e-3, "{expected}: {effect:?}");
    }
}

/// After how many units half of the experiments with these rates know of the difference, by the evidence that is given.
fn found_after(rates: (f64, f64), share: f64, evidence: impl Fn(&Sides) -> f64) -> u32 {
    let mut found: Vec<u32> = (0..200)
        .map(|seed| {
            let mut random = Random::new(seed);
            let mut shares = Shares::of(rates.0, rates.1);
            let is_found = |units: &u32| {
                let is_b = random.unit() < share;
                shares.push(&mut random, is_b);
                let sides = shares.sides();
                let (n_a, n_b) = sides.units();
                units.is_multiple_of(10) && n_a.min(n_b) >= 100 && evidence(&sides) >= 1.0 / ALPHA
            };
            (1..100_000).find(is_found).expect("it is found")
        })
        .collect();
    found.sort_unstable();
    found[found.len() / 2]
}

/// A doubled rate is found after hardly more units than by the variance that either side shows by itself, which holds its promise at even shares alone.
#[test]
fn real_differences_are_found_as_soon_as_ever() {
    let stated = [
        (0.01, 0.5, 5_500),
        (0.03, 0.5, 1_700),
        (0.1, 0.5, 500),
        (0.03, 0.1, 6_500),
    ];
    for (rate, share, units_max) in stated {
        let mixture = mixture_for(rate);
        let now = found_after((rate, 2.0 * rate), share, |sides| {
            log_evidence(sides, 0.0, mixture).exp()
        });
        let by_own = found_after((rate, 2.0 * rate), share, |sides| {
            let Sides::Shares(a, b) = sides else {
                return 0.0;
            };
            let [of_a, of_b] = [a, b].map(|side| side.to_moments().variance_of_mean());
            mixture_likelihood_ratio(b.rate() - a.rate(), of_a + of_b, mixture)
        });
        let case = format!("{rate}, share {share}: {now} units, {by_own} by own variances");
        assert!(f64::from(now) <= 1.25 * f64::from(by_own), "{case}");
        assert!(now <= units_max, "{case}");
    }
}
