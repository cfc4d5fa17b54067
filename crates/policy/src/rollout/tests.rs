//! Verdicts, and how often they are wrong: rollouts in simulation with and without a regression.

mod late;
mod margins;
mod outcomes;

use super::*;
use crate::experiment::Proportion;
use crate::random::Random;

/// What a revision is like at a moment of a rollout.
#[derive(Clone, Copy)]
struct Nature {
    error_rate: f64,
    slow_rate: f64,
}

const HEALTHY: Nature = Nature {
    error_rate: 0.002,
    slow_rate: 0.005,
};

/// A kind of rollout: how the stable revision and the canary behave by the second.
struct Scenario {
    name: &'static str,
    requests_per_second: f64,
    stable: fn(u64) -> Nature,
    canary: fn(u64) -> Nature,
}

/// How many of a scenario's rollouts ended how.
#[derive(Debug, Default)]
struct Tally {
    promoted: u32,
    rolled_back: u32,
    undecided: u32,
    /// Seconds until those that were rolled back were.
    seconds: Vec<u64>,
}

impl Tally {
    fn median_seconds(&self) -> u64 {
        let mut seconds = self.seconds.clone();
        seconds.sort_unstable();
        seconds[seconds.len() / 2]
    }

    /// Returns the seconds within which half of all rollouts had gone back, if so many did.
    fn half_back_within(&self) -> Option<u64> {
        let mut seconds = self.seconds.clone();
        seconds.sort_unstable();
        let all = self.promoted + self.rolled_back + self.undecided;
        seconds.get(all as usize / 2).copied()
    }
}

/// Writes a number with a comma before each three digits.
fn grouped(number: u64) -> String {
    match number {
        0..1_000 => number.to_string(),
        _ => format!("{},{:03}", grouped(number / 1_000), number % 1_000),
    }
}

/// Returns those rows that docs/rollouts.md lacks, one a line.
fn missing(rows: &[String]) -> String {
    let docs = include_str!("../../../../docs/rollouts.md");
    let is_there = |row: &str| docs.lines().any(|line| line == row);
    let missing = rows.iter().filter(|row| !is_there(row));
    missing.map(|row| format!("{row}\n")).collect()
}

/// Holds docs/rollouts.md to have these rows of a table.
fn documented(rows: &[String]) {
    let missing = missing(rows);
    assert!(missing.is_empty(), "docs/rollouts.md lacks:\n{missing}");
}

#[test]
fn all_rows_that_the_docs_lack_are_told_at_once() {
    let rows = ["| no | such row |", "| nor | this |", ""].map(str::to_owned);
    assert_eq!(missing(&rows), "| no | such row |\n| nor | this |\n");
}

fn row(name: &str, tally: &Tally) -> String {
    let seconds = tally.half_back_within();
    let seconds = seconds.map_or(String::new(), |seconds| format!("{} s ", grouped(seconds)));
    let (promoted, back) = (tally.promoted, tally.rolled_back);
    let undecided = tally.undecided;
    format!("| {name} | {promoted} | {back} | {undecided} | {seconds}|")
}

/// Draws how many of `n` happen, each with probability `rate`.
fn draw(random: &mut Random, n: u64, rate: f64) -> u64 {
    (0..n).filter(|_| random.unit() < rate).count() as u64
}

fn act(random: &mut Random, requests: u64, nature: Nature) -> Counts {
    Counts {
        requests,
        errors: draw(random, requests, nature.error_rate),
        slow: draw(random, requests, nature.slow_rate),
    }
}

/// Runs rollouts with the default spec.
fn run(scenario: &Scenario) -> Tally {
    simulated(&RolloutSpec::default(), |random, share, second| {
        let requests = draw(random, (scenario.requests_per_second * 2.0) as u64, 0.5);
        let canary = draw(random, requests, share);
        Interval {
            stable: act(random, requests - canary, (scenario.stable)(second)),
            canary: act(random, canary, (scenario.canary)(second)),
        }
    })
}

/// Runs rollouts that are decided every second, for at most an hour each; `in_second` says what happens in a second, from 0, in which the canary has this
/// share.
fn simulated(spec: &RolloutSpec, in_second: impl Fn(&mut Random, f64, u64) -> Interval) -> Tally {
    let mut tally = Tally::default();
    for seed in 0..N_ROLLOUTS {
        let mut random = Random::new(seed);
        let mut rollout = Rollout::new(Duration::ZERO);
        let mut is_decided = false;
        for second in 0..3_600 {
            let share = spec.steps[rollout.step].percent / 100.0;
            rollout.observe(spec, in_second(&mut random, share, second));
            let now = Duration::from_secs(second + 1);
            match rollout.decide(spec, now) {
                Verdict::Hold(_) | Verdict::Overdue(_) => continue,
                Verdict::Advance { .. } => {
                    rollout.advance(now);
                    continue;
                }
                Verdict::Promote => tally.promoted += 1,
                Verdict::RollBack(_) => {
                    tally.rolled_back += 1;
                    tally.seconds.push(second + 1);
                }
            }
            is_decided = true;
            break;
        }
        tally.undecided += u32::from(!is_decided);
    }
    tally
}

const N_ROLLOUTS: u64 = 300;

/// Rollouts without a regression: at most `alpha` (1 %) go back, plus what chance allows among 300 (three standard deviations: 5 more).
#[test]
fn canaries_that_are_not_worse_are_seldom_rolled_back() {
    let incident = |second: u64| {
        if second % 300 < 30 {
            Nature {
                error_rate: 0.3,
                slow_rate: 0.5,
            }
        } else {
            HEALTHY
        }
    };
    let scenarios = [
        Scenario {
            name: "the same",
            requests_per_second: 50.0,
            stable: |_| HEALTHY,
            canary: |_| HEALTHY,
        },
        Scenario {
            name: "the same, low traffic",
            requests_per_second: 2.0,
            stable: |_| HEALTHY,
            canary: |_| HEALTHY,
        },
        Scenario {
            name: "the same, both fail 10 %",
            requests_per_second: 50.0,
            stable: |_| Nature {
                error_rate: 0.1,
                slow_rate: 0.1,
            },
            canary: |_| Nature {
                error_rate: 0.1,
                slow_rate: 0.1,
            },
        },
        Scenario {
            name: "the same, incidents of 30 s strike both",
            requests_per_second: 50.0,
            stable: incident,
            canary: incident,
        },
        Scenario {
            name: "worse within what is tolerated (0.25 % fail)",
            requests_per_second: 50.0,
            stable: |_| HEALTHY,
            canary: |_| Nature {
                error_rate: 0.0025,
                slow_rate: 0.006,
            },
        },
    ];
    let rows = scenarios.map(|scenario| {
        let tally = run(&scenario);
        let name = scenario.name;
        assert!(tally.rolled_back <= 8, "{name}: {tally:?}");
        assert!(tally.undecided <= 30, "{name}: {tally:?}");
        row(name, &tally)
    });
    documented(&rows);
}

/// The revision that serves never fails: that the canary does is soon evident, and not that it does so by more than the margin. Of these 68 went back when that was judged by two standard errors.
#[test]
fn canaries_within_the_margin_mostly_stay_where_nothing_else_fails() {
    let scenario = Scenario {
        name: "0.3 % fail beside a revision that never does: within the margin",
        requests_per_second: 50.0,
        stable: |_| failing(0.0),
        canary: |_| failing(0.003),
    };
    let tally = run(&scenario);
    // A tenth of them, and three standard deviations.
    assert!(tally.rolled_back <= 30 + 16, "{tally:?}");
    assert!(tally.undecided <= 30, "{tally:?}");
    documented(&[row(scenario.name, &tally)]);
}

/// The failures of one canary, of a revision beside it that never fails.
#[test]
fn few_failures_at_the_beginning_of_a_stage_are_no_reason_to_go_back() {
    let spec = RolloutSpec {
        error_rate_margin: 0.2,
        ..RolloutSpec::default()
    };
    let interval = |stable, canary: (u64, u64)| Interval {
        stable: Counts {
            requests: stable,
            ..Counts::default()
        },
        canary: Counts {
            requests: canary.0,
            errors: canary.1,
            slow: 0,
        },
    };
    let mut rollout = Rollout::new(Duration::ZERO);
    // A twelfth fails, which is worse than nothing beyond doubt, and within the margin.
    rollout.observe(&spec, interval(10_000, (600, 50)));
    assert!(rollout.errors.log_worse() > 20.0);
    rollout.advance(Duration::from_secs(1));
    rollout.observe(&spec, interval(7, (7, 2)));
    let verdict = rollout.decide(&spec, Duration::from_secs(1));
    assert!(matches!(verdict, Verdict::Hold(_)), "{verdict:?}");
    // All of them are more than chance gives, whatever went well before.
    rollout.observe(&spec, interval(10, (10, 10)));
    let verdict = rollout.decide(&spec, Duration::from_secs(1));
    assert!(matches!(verdict, Verdict::RollBack(_)), "{verdict:?}");
}

/// What went well for hours is not set off against a failure that begins.
#[test]
fn a_canary_that_breaks_after_hours_goes_back_within_seconds() {
    let spec = RolloutSpec {
        steps: vec![Step {
            percent: 50.0,
            duration: Duration::from_secs(86_400),
        }],
        ..RolloutSpec::default()
    };
    let mut rollout = Rollout::new(Duration::ZERO);
    let second = |errors| Interval {
        stable: Counts {
            requests: 50,
            ..Counts::default()
        },
        canary: Counts {
            requests: 50,
            errors,
            slow: 0,
        },
    };
    for _ in 0..36_000 {
        rollout.observe(&spec, second(0));
    }
    let verdict = rollout.decide(&spec, Duration::from_secs(36_000));
    assert!(matches!(verdict, Verdict::Hold(_)), "{verdict:?}");
    rollout.observe(&spec, second(25));
    rollout.observe(&spec, second(25));
    let verdict = rollout.decide(&spec, Duration::from_secs(36_002));
    assert!(matches!(verdict, Verdict::RollBack(_)), "{verdict:?}");
}

/// A regression, and what is demanded: the most of [`N_ROLLOUTS`] that may be promoted all the same, and the most seconds
/// until half of the others have gone back.
struct Regression {
    scenario: Scenario,
    missed_max: u32,
    median_seconds_max: u64,
}

fn regression(
    name: &'static str,
    canary: fn(u64) -> Nature,
    (missed_max, median_seconds_max): (u32, u64),
) -> Regression {
    Regression {
        scenario: Scenario {
            name,
            requests_per_second: if name.ends_with("low traffic") {
                2.0
            } else {
                50.0
            },
            stable: |_| HEALTHY,
            canary,
        },
        missed_max,
        median_seconds_max,
    }
}

/// Returns a canary that is healthy but for its errors.
const fn failing(error_rate: f64) -> Nature {
    Nature {
        error_rate,
        ..HEALTHY
    }
}

#[test]
fn regressions_are_caught_and_sudden_failures_within_seconds() {
    let cases = [
        regression("fails always", |_| failing(1.0), (0, 3)),
        regression(
            "half fails from second 60 on",
            |second| failing(if second < 60 { 0.002 } else { 0.5 }),
            (0, 66),
        ),
        regression("2 % fail", |_| failing(0.02), (0, 150)),
        regression("1 % fail", |_| failing(0.01), (0, 500)),
        regression(
            "0.8 % fail, just over the margin",
            |_| failing(0.008),
            (6, 700),
        ),
        regression(
            "2.5 % slow",
            |_| Nature {
                slow_rate: 0.025,
                ..HEALTHY
            },
            (0, 210),
        ),
        regression(
            "errors creep up to 5 % in 15 minutes",
            |second| failing(0.002 + 0.05 * (second as f64 / 900.0).min(1.0)),
            (0, 350),
        ),
        regression("a fifth fails, low traffic", |_| failing(0.2), (0, 160)),
        regression("2 % fail, low traffic", |_| failing(0.02), (0, 2_200)),
    ];
    let rows = cases.map(|case| {
        let tally = run(&case.scenario);
        let name = case.scenario.name;
        assert!(tally.promoted <= case.missed_max, "{name}: {tally:?}");
        assert!(
            tally.median_seconds() <= case.median_seconds_max,
            "{name}: {tally:?}"
        );
        row(name, &tally)
    });
    documented(&rows);
}

#[test]
fn specs_that_make_no_sense_are_refused() {
    let step = |percent| Step {
        percent,
        duration: Duration::from_secs(60),
    };
    let with_steps = |percents: &[f64]| RolloutSpec {
        steps: percents.iter().copied().map(step).collect(),
        ..RolloutSpec::default()
    };
    let default = RolloutSpec::default;
    assert_eq!(default().validate(), Ok(()));
    let message = |spec: RolloutSpec| spec.validate().unwrap_err().to_string();
    assert_eq!(
        message(with_steps(&[10.0, 10.0])),
        "steps[1]: 10 % is not above 10 % and below 100 %"
    );
    assert_eq!(
        message(with_steps(&[100.0])),
        "steps[0]: 100 % is not above 0 % and below 100 %"
    );
    assert!(with_steps(&[f64::NAN]).validate().is_err());
    let alpha = |alpha| RolloutSpec { alpha, ..default() };
    assert_eq!(message(alpha(0.0)), "alpha 0 is not between 0 and 1");
    let ratio = |ratio_tolerated| RolloutSpec {
        ratio_tolerated,
        ..default()
    };
    assert_eq!(
        message(ratio(0.9)),
        "ratio tolerated 0.9 is not a number of at least 1"
    );
}

fn busy(canary: Counts) -> Interval {
    Interval {
        stable: Counts {
            requests: 1_000,
            errors: 2,
            slow: 5,
        },
        canary,
    }
}

#[test]
fn a_stage_lasts_has_its_requests_and_then_goes_on() {
    let spec = RolloutSpec {
        steps: vec![
            Step {
                percent: 10.0,
                duration: Duration::from_secs(60),
            },
            Step {
                percent: 50.0,
                duration: Duration::from_secs(60),
            },
        ],
        ..RolloutSpec::default()
    };
    let mut rollout = Rollout::new(Duration::from_secs(100));
    let at = Duration::from_secs;
    let clean = |requests| Counts {
        requests,
        ..Counts::default()
    };
    rollout.observe(&spec, busy(clean(99)));
    let verdict = rollout.decide(&spec, at(130));
    assert_eq!(verdict.to_string(), "waits: the stage lasts another 30 s");
    let verdict = rollout.decide(&spec, at(160));
    assert_eq!(
        verdict.to_string(),
        "waits: the canary had 99 of 100 requests"
    );
    rollout.observe(&spec, busy(clean(1)));
    assert_eq!(
        rollout.decide(&spec, at(160)),
        Verdict::Advance { percent: 50.0 }
    );
    rollout.advance(at(160));
    assert!(matches!(
        rollout.decide(&spec, at(161)),
        Verdict::Hold(Hold::Duration { .. })
    ));
    rollout.observe(&spec, busy(clean(100)));
    assert_eq!(rollout.decide(&spec, at(220)), Verdict::Promote);
}

#[test]
fn doubt_holds_and_the_deadline_ends_it() {
    let spec = RolloutSpec {
        deadline: Some(Duration::from_secs(600)),
        ..RolloutSpec::default()
    };
    let mut rollout = Rollout::new(Duration::ZERO);
    let doubtful = Counts {
        requests: 150,
        errors: 2,
        slow: 0,
    };
    rollout.observe(&spec, busy(doubtful));
    let verdict = rollout.decide(&spec, Duration::from_secs(300));
    let text = verdict.to_string();
    assert!(
        text.starts_with("waits: in doubt: errors 1.33 % of the canary, 0.20 % of the stable"),
        "{text}"
    );
    let verdict = rollout.decide(&spec, Duration::from_secs(900));
    assert!(
        matches!(verdict, Verdict::Overdue(Hold::Doubt(_))),
        "{verdict}"
    );
}

#[test]
fn a_failed_canary_goes_back_at_any_time_with_its_numbers() {
    let spec = RolloutSpec::default();
    let mut rollout = Rollout::new(Duration::ZERO);
    let failing = Counts {
        requests: 50,
        errors: 50,
        slow: 50,
    };
    rollout.observe(&spec, busy(failing));
    let verdict = rollout.decide(&spec, Duration::from_secs(1));
    let Verdict::RollBack(checks) = &verdict else {
        panic!("{verdict}");
    };
    assert_eq!(checks.len(), 2);
    assert!(
        verdict
            .to_string()
            .starts_with("goes back: errors 100.00 % of the canary"),
        "{verdict}"
    );
}

/// Runs rollouts with a conversion rate of 20 % of the stable revision and `rate` of the canary; returns how many were promoted and rolled back.
fn run_with_outcomes(rate: f64, n_rollouts: u64) -> (u32, u32) {
    let spec = RolloutSpec {
        metrics: vec![MetricRule {
            name: "conversion".to_owned(),
            better: Better::Higher,
            is_share: true,
            margin: 0.02,
            units_min: 100,
        }],
        ..RolloutSpec::default()
    };
    let (mut promoted, mut rolled_back) = (0, 0);
    for seed in 0..n_rollouts {
        let mut random = Random::new(seed);
        let mut rollout = Rollout::new(Duration::ZERO);
        for second in 1..=3_600 {
            let share = spec.steps[rollout.step].percent / 100.0;
            let canary = draw(&mut random, 40, share);
            let mut outcomes = |units, rate| {
                let successes = draw(&mut random, units, rate);
                Proportion { successes, units }.to_moments()
            };
            // The base drifts over the day; both see it.
            let drift = 0.05 * (second as f64 / 500.0).sin();
            let stable_outcomes = outcomes(40 - canary, 0.2 + drift);
            let canary_outcomes = outcomes(canary, rate + drift);
            rollout.observe_outcomes(0, &stable_outcomes, &canary_outcomes);
            let healthy = |requests| Counts {
                requests,
                ..Counts::default()
            };
            let interval = Interval {
                stable: healthy(40 - canary),
                canary: healthy(canary),
            };
            rollout.observe(&spec, interval);
            let now = Duration::from_secs(second);
            match rollout.decide(&spec, now) {
                Verdict::Hold(_) | Verdict::Overdue(_) => continue,
                Verdict::Advance { .. } => {
                    rollout.advance(now);
                    continue;
                }
                Verdict::Promote => promoted += 1,
                Verdict::RollBack(_) => rolled_back += 1,
            }
            break;
        }
    }
    (promoted, rolled_back)
}

#[test]
fn outcomes_are_judged_with_the_rates() {
    let n_rollouts = 100;
    let (promoted, rolled_back) = run_with_outcomes(0.2, n_rollouts);
    assert!(
        rolled_back <= 2 && promoted >= 95,
        "the same: {promoted} promoted, {rolled_back} back"
    );
    let (promoted, rolled_back) = run_with_outcomes(0.12, n_rollouts);
    assert!(
        promoted <= 3 && rolled_back >= 95,
        "8 points less: {promoted} promoted, {rolled_back} back"
    );
}

#[test]
fn a_metric_without_outcomes_holds_the_stage() {
    let spec = RolloutSpec {
        metrics: vec![MetricRule {
            name: "revenue".to_owned(),
            better: Better::Higher,
            is_share: false,
            margin: 1.0,
            units_min: 100,
        }],
        ..RolloutSpec::default()
    };
    assert_eq!(spec.validate(), Ok(()));
    let mut rollout = Rollout::new(Duration::ZERO);
    let clean = Counts {
        requests: 500,
        ..Counts::default()
    };
    rollout.observe(&spec, busy(clean));
    let verdict = rollout.decide(&spec, Duration::from_secs(300));
    assert!(
        verdict
            .to_string()
            .starts_with("waits: too few outcomes: revenue"),
        "{verdict}"
    );
    let outcomes = |mean| Moments::new(200, mean, 4.0);
    rollout.observe_outcomes(0, &outcomes(10.0), &outcomes(9.9));
    assert_eq!(
        rollout.decide(&spec, Duration::from_secs(300)),
        Verdict::Advance { percent: 25.0 }
    );
    rollout.observe_outcomes(0, &outcomes(10.0), &outcomes(3.0));
    let verdict = rollout.decide(&spec, Duration::from_secs(300));
    assert!(
        verdict
            .to_string()
            .starts_with("goes back: revenue 6.4500 of the canary, 10.0000"),
        "{verdict}"
    );
    let broken = RolloutSpec {
        metrics: vec![MetricRule {
            margin: 0.0,
            ..spec.metrics[0].clone()
        }],
        ..RolloutSpec::default()
    };
    assert!(
        broken
            .validate()
            .unwrap_err()
            .to_string()
            .contains("\"revenue\": margin 0 is not")
    );
}

/// Nothing has happened in the third stage, and then the spec has two.
fn beyond_the_last_stage() -> (RolloutSpec, Rollout) {
    let mut spec = RolloutSpec::default();
    let mut rollout = Rollout::new(Duration::ZERO);
    rollout.advance(Duration::ZERO);
    rollout.advance(Duration::ZERO);
    spec.steps.pop();
    (spec, rollout)
}

#[test]
fn a_spec_that_loses_stages_promotes_nobody_without_checks() {
    let (spec, mut rollout) = beyond_the_last_stage();
    // It is judged as in the last stage that there is.
    let verdict = rollout.decide(&spec, Duration::from_secs(1));
    assert!(
        matches!(verdict, Verdict::Hold(Hold::Duration { .. })),
        "{verdict:?}"
    );
    let failing = Counts {
        requests: 100,
        errors: 100,
        slow: 0,
    };
    let stable = Counts {
        requests: 300,
        ..Counts::default()
    };
    rollout.observe(
        &spec,
        Interval {
            stable,
            canary: failing,
        },
    );
    let verdict = rollout.decide(&spec, Duration::from_secs(3_600));
    assert!(matches!(verdict, Verdict::RollBack(_)), "{verdict:?}");
    // The last stage begins anew; one that is not beyond it goes on.
    let (spec, mut rollout) = beyond_the_last_stage();
    let now = Duration::from_secs(3_600);
    assert!(rollout.hold_to(&spec, now));
    assert_eq!((rollout.step, rollout.step_began), (1, now));
    assert!(!rollout.hold_to(&spec, now + now));
    assert_eq!(rollout.step_began, now);
}

#[test]
fn the_longest_times_overflow_nothing() {
    let mut spec = RolloutSpec {
        deadline: Some(Duration::MAX),
        ..RolloutSpec::default()
    };
    spec.steps[0].duration = Duration::MAX;
    let rollout = Rollout::new(Duration::ZERO);
    let verdict = rollout.decide(&spec, Duration::from_secs(1));
    assert!(matches!(verdict, Verdict::Hold(_)), "{verdict:?}");
}

/// Runs rollouts of 50 requests a second whose predictions are even numbers, raised to `power` by the canary; returns how many were promoted and went back.
fn run_with_predictions(power: f64, n_rollouts: u64) -> (u32, u32) {
    let spec = RolloutSpec {
        stability_index_max: Some(0.25),
        ..RolloutSpec::default()
    };
    let (mut promoted, mut rolled_back) = (0, 0);
    for seed in 0..n_rollouts {
        let mut random = Random::new(seed);
        let mut rollout = Rollout::new(Duration::ZERO);
        let mut predictions = Predictions::default();
        for second in 1..=3_600 {
            let share = spec.steps[rollout.step].percent / 100.0;
            let canary = draw(&mut random, 50, share);
            for request in 0..50 {
                let score = random.unit();
                match request < canary {
                    true => {
                        let score = Predicted::Number(score.powf(power));
                        predictions.push(Side::Canary, "score", score);
                    }
                    false => predictions.push(Side::Stable, "score", Predicted::Number(score)),
                }
            }
            let healthy = |requests| Counts {
                requests,
                ..Counts::default()
            };
            let interval = Interval {
                stable: healthy(50 - canary),
                canary: healthy(canary),
            };
            rollout.observe(&spec, interval);
            rollout.predictions = predictions.drifts();
            let now = Duration::from_secs(second);
            match rollout.decide(&spec, now) {
                Verdict::Hold(_) | Verdict::Overdue(_) => continue,
                Verdict::Advance { .. } => {
                    rollout.advance(now);
                    predictions = Predictions::default();
                    continue;
                }
                Verdict::Promote => promoted += 1,
                Verdict::RollBack(_) => rolled_back += 1,
            }
            break;
        }
    }
    (promoted, rolled_back)
}

#[test]
fn canaries_that_predict_otherwise_go_back() {
    let (promoted, rolled_back) = run_with_predictions(1.0, 40);
    assert_eq!((promoted, rolled_back), (40, 0), "the same");
    // A stability index of 0.05: another distribution, but not so much.
    let (promoted, rolled_back) = run_with_predictions(0.8, 20);
    assert_eq!((promoted, rolled_back), (20, 0), "within what is allowed");
    let (promoted, rolled_back) = run_with_predictions(0.4, 20);
    assert_eq!((promoted, rolled_back), (0, 20), "others");
}

#[test]
fn a_queried_number_holds_while_it_is_not_known() {
    let spec = RolloutSpec {
        queries: vec![QueryRule {
            name: "orders".to_owned(),
            better: Better::Higher,
            against: Against::Stable(1.0),
            looks: 2,
        }],
        ..RolloutSpec::default()
    };
    assert_eq!(spec.validate(), Ok(()));
    let mut rollout = Rollout::new(Duration::ZERO);
    let clean = Counts {
        requests: 500,
        ..Counts::default()
    };
    rollout.observe(&spec, busy(clean));
    let at = Duration::from_secs(300);
    let decided = |rollout: &Rollout| rollout.decide(&spec, at).to_string();
    assert_eq!(
        decided(&rollout),
        "waits: not known yet: orders 0 of the canary, 0 of the stable revision (bad looks in a row 0, needed 2): not asked yet"
    );
    let look = |stable, canary| QueryLook::Numbers {
        stable: Some(stable),
        canary,
    };
    rollout.observe_query(&spec, 0, look(10.0, 10.0));
    rollout.observe_query(&spec, 0, look(10.0, 9.5));
    assert_eq!(decided(&rollout), "goes on with 25 % of requests");
    rollout.observe_query(&spec, 0, QueryLook::None("no answer within 5s".to_owned()));
    assert!(
        decided(&rollout).ends_with(": no answer within 5s"),
        "{}",
        decided(&rollout)
    );
    rollout.observe_query(&spec, 0, look(10.0, 8.0));
    assert!(decided(&rollout).starts_with("waits: in doubt: orders 8 of the canary, 10 of"));
    rollout.observe_query(&spec, 0, look(10.0, 8.0));
    assert!(decided(&rollout).starts_with("goes back: orders 8 of the canary, 10 of"));
    // The next stage asks anew.
    rollout.advance(at);
    assert!(rollout.queries.is_empty());
}
