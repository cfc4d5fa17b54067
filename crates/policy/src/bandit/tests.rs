//! Strategies find the best arm, and their logs tell the truth about other policies.

use super::*;
use crate::random::Random;

const RATES: [f64; 3] = [0.3, 0.5, 0.4];
const STRATEGIES: [Strategy; 4] = [
    Strategy::EpsilonGreedy(0.1),
    Strategy::EpsilonOthers(0.1),
    Strategy::Thompson,
    Strategy::Ucb1,
];

/// Plays for arms of these rates of reward; returns the log.
fn play_rates(
    rates: &[f64],
    strategy: Strategy,
    floor: f64,
    seed: u64,
    n_rounds: usize,
) -> Vec<(Choice, f64)> {
    let mut random = Random::new(seed);
    let mut bandit = Bandit::new(strategy, floor, rates.len());
    let rounds = 0..n_rounds;
    let log = rounds.map(|_round| {
        let choice = bandit.choose(|| random.unit());
        let reward = f64::from(u8::from(random.unit() < rates[choice.arm]));
        bandit.reward(choice.arm, reward);
        (choice, reward)
    });
    log.collect()
}

/// Plays; returns how often each arm was chosen in the second half, and the log.
fn play(
    strategy: Strategy,
    floor: f64,
    seed: u64,
    n_rounds: usize,
) -> ([u32; 3], Vec<(Choice, f64)>) {
    let log = play_rates(&RATES, strategy, floor, seed, n_rounds);
    let mut n_chosen = [0; 3];
    for (choice, _reward) in &log[n_rounds / 2..] {
        n_chosen[choice.arm] += 1;
    }
    (n_chosen, log)
}

#[test]
fn every_strategy_finds_the_best_arm() {
    for strategy in STRATEGIES {
        let mut n_best = 0;
        for seed in 0..10 {
            let (n_chosen, _) = play(strategy, 0.01, seed, 2_000);
            n_best += n_chosen[1];
        }
        // 10,000 choices; a third would be chance.
        assert!(n_best > 6_000, "{strategy:?}: {n_best}");
    }
}

#[test]
fn propensities_sum_to_one_and_keep_the_floor() {
    for strategy in STRATEGIES {
        let mut random = Random::new(1);
        let mut bandit = Bandit::new(strategy, 0.06, 3);
        for round in 0..200 {
            let propensities = bandit.propensities(|| random.unit());
            assert!((propensities.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            assert!(
                propensities.iter().all(|share| *share >= 0.02 - 1e-12),
                "{propensities:?}"
            );
            bandit.reward(round % 3, random.unit());
        }
    }
}

/// With a floor, the log of each strategy tells what always choosing arm 2 (0.4) would have earned, within four standard errors.
#[test]
fn logs_tell_what_another_policy_would_have_earned() {
    for strategy in STRATEGIES {
        let (_, log) = play(strategy, 0.3, 7, 8_000);
        let log = log.into_iter().map(|(choice, reward)| Logged {
            propensity: choice.propensity,
            target: f64::from(u8::from(choice.arm == 2)),
            reward,
            expected: RATES[choice.arm],
            expected_of_target: RATES[2],
        });
        let estimate = off_policy(log).unwrap();
        let error = (estimate.doubly_robust - 0.4).abs();
        assert!(
            error < 4.0 * estimate.robust_error,
            "{strategy:?}: {estimate:?}"
        );
        assert!(
            (estimate.self_normalised - 0.4).abs() < 0.06,
            "{strategy:?}: {estimate:?}"
        );
        assert!(
            (estimate.inverse_propensity - 0.4).abs() < 0.06,
            "{strategy:?}: {estimate:?}"
        );
        assert!(estimate.effective_choices > 300.0);
    }
    assert_eq!(off_policy([]), None);
}

/// Of an arm that the log never chose nothing is known, whatever a model expects of it: it is not worth 0, without any error.
#[test]
fn a_log_tells_nothing_of_an_arm_that_it_never_chose() {
    let log = |n_chosen: u32| {
        (0..100).map(move |index| Logged {
            propensity: 0.5,
            target: f64::from(u8::from(index < n_chosen)),
            reward: 1.0,
            expected: 0.9,
            expected_of_target: 0.4 + 1e-6 * f64::from(index),
        })
    };
    assert_eq!(off_policy(log(0)), None);
    assert!(off_policy(log(1)).is_some());
}

/// An arm that a bandit left early is known by few choices, some of great weight. The error says so: the truth is hardly ever four of
/// them away (that of the estimate by inverse propensities, which once stood here, was exceeded in one log of eighty), and about as often
/// beyond two of them as a normal number's is.
#[test]
fn the_error_of_what_an_arm_left_early_would_have_earned_is_honest() {
    let (rates, n_logs) = ([0.2, 0.6], 400);
    let (mut beyond_two, mut beyond_four) = (0, 0);
    for seed in 0..n_logs {
        let log = play_rates(&rates, Strategy::Thompson, 0.1, seed, 600);
        let log = log.into_iter().map(|(choice, reward)| Logged {
            propensity: choice.propensity,
            target: f64::from(u8::from(choice.arm == 0)),
            reward,
            expected: 0.0,
            expected_of_target: 0.0,
        });
        let estimate = off_policy(log).unwrap();
        let error = (estimate.self_normalised - rates[0]).abs();
        beyond_two += u32::from(error > 1.96 * estimate.self_normalised_error);
        beyond_four += u32::from(error > 4.0 * estimate.self_normalised_error);
    }
    assert!((12..=28).contains(&beyond_two), "{beyond_two}");
    assert!(beyond_four <= 2, "{beyond_four}");
}

#[test]
fn zero_is_a_reward_and_nothing_is_none() {
    let mut bandit = Bandit::new(Strategy::Ucb1, 0.0, 2);
    bandit.reward(0, 0.0);
    bandit.reward(1, f64::NAN);
    bandit.reward(2, 1.0);
    assert_eq!((bandit.arms[0].units, bandit.arms[1].units), (1, 0));
    assert_eq!(
        bandit.choose(|| 0.0).arm,
        1,
        "an arm without a reward comes first"
    );
}

/// Means of the Beta distribution are alpha / (alpha + beta), variances alpha beta / ((alpha + beta)^2 (alpha + beta + 1)).
#[test]
fn posterior_draws_have_the_right_moments() {
    for (alpha, beta_parameter) in [(1.0, 1.0), (3.0, 9.0), (120.0, 40.0)] {
        let mut random = Random::new(2);
        let mut moments = Moments::default();
        for _ in 0..20_000 {
            moments.push(beta(&mut || random.unit(), alpha, beta_parameter));
        }
        let sum: f64 = alpha + beta_parameter;
        let variance = alpha * beta_parameter / (sum * sum * (sum + 1.0));
        assert!((moments.mean - alpha / sum).abs() < 4.0 * (variance / 20_000.0).sqrt());
        assert!((moments.variance() / variance - 1.0).abs() < 0.05);
    }
}

#[test]
fn arms_are_drawn_with_their_propensities() {
    let propensities = [0.2, 0.0, 0.7, 0.1];
    for (uniform, arm) in [
        (0.0, 0),
        (0.199, 0),
        (0.2, 2),
        (0.899, 2),
        (0.9, 3),
        (0.999_999, 3),
    ] {
        let choice = Choice::draw(&propensities, uniform);
        assert_eq!(
            (choice.arm, choice.propensity),
            (arm, propensities[arm]),
            "{uniform}"
        );
    }
    assert_eq!(
        Choice::draw(&[0.5, 0.5 - 1e-12, 0.0], 0.999_999_999_999_999).arm,
        1
    );
}

#[test]
fn seldons_epsilon_is_that_of_the_others() {
    // The best, how many won of how many tried; what Seldon's router does: the best unless a draw is below epsilon, then one of the others.
    let cases: [(f64, &[(u64, u64)], &[f64]); 6] = [
        // Nothing is known: each is as good.
        (0.2, &[(0, 0), (0, 0)], &[0.5, 0.5]),
        (0.2, &[(1, 1), (0, 0)], &[0.8, 0.2]),
        (
            0.3,
            &[(0, 2), (3, 4), (1, 2), (0, 0)],
            &[0.1, 0.7, 0.1, 0.1],
        ),
        // Two are the best, each half of the time: 0.5 * 0.7 as the best, 0.5 * 0.3 / 2 as another.
        (0.3, &[(1, 2), (1, 2), (0, 2)], &[0.425, 0.425, 0.15]),
        (1.0, &[(1, 1), (0, 1)], &[0.0, 1.0]),
        (0.5, &[(0, 3)], &[1.0]),
    ];
    for (epsilon, trials, expected) in cases {
        let mut bandit = Bandit::new(Strategy::EpsilonOthers(epsilon), 0.0, trials.len());
        for (arm, (n_won, n_trials)) in trials.iter().enumerate() {
            bandit.reward_trials(arm, *n_won, *n_trials);
        }
        let propensities = bandit.propensities(|| 0.5);
        let pairs = propensities.iter().zip(expected);
        assert!(
            pairs
                .clone()
                .all(|(found, expected)| (found - expected).abs() < 1e-12),
            "{trials:?}: {propensities:?}"
        );
    }
}

#[test]
fn trials_count_as_so_many_rewards() {
    let new = || Bandit::new(Strategy::Thompson, 0.0, 2);
    let (mut at_once, mut singly) = (new(), new());
    for (n_won, n_trials) in [(3_u64, 5_u64), (0, 4), (2, 2), (0, 0)] {
        at_once.reward_trials(1, n_won, n_trials);
        for trial in 0..n_trials {
            singly.reward(1, f64::from(u8::from(trial < n_won)));
        }
    }
    at_once.reward_trials(7, 1, 1);
    let (found, expected) = (at_once.arms[1], singly.arms[1]);
    assert_eq!((found.units, at_once.arms[0].units), (expected.units, 0));
    assert!((found.mean - 5.0 / 11.0).abs() < 1e-12 && (found.mean - expected.mean).abs() < 1e-12);
    assert!((found.squares - expected.squares).abs() < 1e-12);
}

/// Arm 0 is Beta(4, 2) after three of four trials, arm 1 is uniform: the one is greater as often as its mean says, 2/3.
#[test]
fn a_single_draw_is_thompsons() {
    let mut random = Random::new(11);
    let mut bandit = Bandit::new(Strategy::Thompson, 0.0, 2);
    bandit.reward_trials(0, 3, 4);
    let n = 30_000;
    let n_first = (0..n)
        .filter(|_| bandit.draw(|| random.unit()) == 0)
        .count();
    let share = n_first as f64 / f64::from(n);
    // Four standard errors.
    assert!((share - 2.0 / 3.0).abs() < 0.011, "{share}");
    // Half of all draws go to any arm with a floor of one half.
    bandit.floor = 0.5;
    let n_first = (0..n)
        .filter(|_| bandit.draw(|| random.unit()) == 0)
        .count();
    let share = n_first as f64 / f64::from(n);
    assert!((share - (0.5 * 2.0 / 3.0 + 0.25)).abs() < 0.0116, "{share}");
    // Others draw by their propensities.
    bandit.strategy = Strategy::EpsilonOthers(0.25);
    bandit.floor = 0.0;
    let n_first = (0..n)
        .filter(|_| bandit.draw(|| random.unit()) == 0)
        .count();
    let share = n_first as f64 / f64::from(n);
    assert!((share - 0.75).abs() < 0.01, "{share}");
}

#[test]
fn rewards_that_no_trial_has_end_no_draw() {
    let mut bandit = Bandit::new(Strategy::Thompson, 0.0, 2);
    // More won than tried, less than nothing won, and as many as can be counted.
    bandit.reward(0, 5.0);
    bandit.reward(1, -5.0);
    bandit.reward_trials(1, 0, u64::MAX);
    bandit.reward_trials(1, 2, 2);
    let mut state = 1_u64;
    let uniform = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    assert!(bandit.draw(uniform) < 2);
}

/// Written by fixtures/statistics/generate.py.
fn reference(function: &str) -> Vec<(Vec<f64>, Vec<f64>)> {
    let text = include_str!("../../../../fixtures/statistics/reference.tsv");
    let read = |text: &str| text.parse::<f64>().unwrap();
    let lines = text.lines().filter_map(|line| {
        let mut fields = line.split('\t');
        let arguments = (fields.next() == Some(function)).then(|| fields.next().unwrap())?;
        let arguments = arguments.split(' ').map(read).collect();
        Some((arguments, fields.map(read).collect()))
    });
    let lines: Vec<_> = lines.collect();
    assert!(!lines.is_empty(), "{function}");
    lines
}

fn close(found: f64, expected: f64) {
    let error = (found - expected).abs();
    assert!(
        error <= 1e-10 * expected.abs().max(1.0),
        "{found} is not {expected}"
    );
}

/// Rewards that are taken one by one come to what NumPy solves from all of them.
#[test]
fn linear_arms_are_numpys_ridge_regression() {
    for (arguments, answers) in reference("linear_bandit") {
        let n_features = arguments[0] as usize;
        let (probe, rounds) = arguments[1..].split_at(n_features);
        let mut arm = LinearArm::new(n_features);
        for round in rounds.chunks(n_features + 1) {
            arm.learn(&round[..n_features], round[n_features]);
        }
        let (weights, rest) = answers.split_at(n_features);
        let (expected, width) = (rest[0], rest[1]);
        for (found, expected) in arm.weights().iter().zip(weights) {
            close(*found, *expected);
        }
        close(arm.expected(probe), expected.clamp(0.0, 1.0));
        // The bound of one arm decides between it and one that is certain to be so good.
        for alpha in [0.0, 1.0, 2.5] {
            close(arm.bound(probe, alpha), expected + alpha * width);
        }
        // What is kept of it is all that it knows.
        let (factor, earned) = arm.parts();
        let again = LinearArm::of_parts(factor.to_vec(), earned.to_vec());
        assert_eq!(again, Some(arm));
    }
    assert_eq!(LinearArm::of_parts(vec![1.0; 3], vec![0.0; 2]), None);
    assert_eq!(LinearArm::of_parts(vec![f64::NAN], vec![0.0]), None);
    let n = FEATURES_MAX + 1;
    assert_eq!(LinearArm::of_parts(vec![0.0; n * n], vec![0.0; n]), None);
}

#[test]
fn off_policy_estimates_are_numpys() {
    for (arguments, answers) in reference("off_policy") {
        let log = arguments.chunks(5).map(|row| Logged {
            propensity: row[0],
            target: row[1],
            reward: row[2],
            expected: row[3],
            expected_of_target: row[4],
        });
        let found = off_policy(log).unwrap();
        for (found, expected) in [
            found.inverse_propensity,
            found.self_normalised,
            found.doubly_robust,
            found.robust_error,
            found.self_normalised_error,
            found.effective_choices,
        ]
        .into_iter()
        .zip(answers)
        {
            close(found, expected);
        }
    }
}
