//! Properties of whole runs: settling, going to zero, waking, and what prediction is worth.

use super::*;
use crate::autoscale::{Metric, Period, Prediction};

const SEEDS: [u64; 3] = [1, 2, 3];

fn spec() -> AutoscaleSpec {
    AutoscaleSpec {
        total_per_replica: 2.0,
        min_replicas: 0,
        max_replicas: 24,
        ..AutoscaleSpec::default()
    }
}

fn run(spec: &AutoscaleSpec, trace: Trace, seed: u64) -> Outcome {
    simulate(spec, &Service::default(), trace, seed)
}

#[test]
fn one_seed_gives_one_outcome() {
    assert_eq!(run(&spec(), Trace::Step, 1), run(&spec(), Trace::Step, 1));
    assert_ne!(run(&spec(), Trace::Step, 1), run(&spec(), Trace::Step, 2));
}

/// 48 requests per second of a quarter second are 12 in flight: at 1.4 per replica, 9 replicas.
#[test]
fn after_a_step_the_replicas_settle_at_load_by_target() {
    for seed in SEEDS {
        let outcome = run(&spec(), Trace::Step, seed);
        let settled = &outcome.seconds[600 + 240..1_800];
        let desired: Vec<u32> = settled.iter().map(|second| second.desired).collect();
        assert!(
            desired.iter().all(|n| (8..=10).contains(n)),
            "seed {seed}: {desired:?}"
        );
        let at_nine = desired.iter().filter(|n| **n == 9).count();
        assert!(
            at_nine * 10 >= desired.len() * 8,
            "seed {seed}: {at_nine} of {}",
            desired.len()
        );
        let slow = outcome.slow_share(600 + 240..1_800);
        assert!(slow < 0.001, "seed {seed}: {slow}");
    }
}

#[test]
fn without_load_nothing_is_left_between_60_and_90_seconds_later() {
    let direct = AutoscaleSpec {
        target_burst_capacity: 0.0,
        ..spec()
    };
    for seed in SEEDS {
        for spec in [&spec(), &direct] {
            let seconds = run(spec, Trace::Step, seed).seconds;
            let zero = (1_800..2_400).find(|second| seconds[*second].desired == 0);
            let after = zero.map(|second| second - 1_800);
            assert!(
                after.is_some_and(|after| (60..=92).contains(&after)),
                "seed {seed}: {after:?}"
            );
            let rest = &seconds[1_800 + 92..];
            assert!(
                rest.iter()
                    .all(|second| second.desired + second.ready + second.starting == 0)
            );
        }
    }
}

#[test]
fn the_first_request_at_zero_starts_a_replica_at_once() {
    let from_zero = AutoscaleSpec {
        initial_replicas: 0,
        ..spec()
    };
    let outcome = run(&from_zero, Trace::Step, 1);
    let first = outcome
        .seconds
        .iter()
        .position(|second| second.arrived > 0)
        .unwrap();
    assert_eq!(
        outcome.seconds[first].starting,
        outcome.seconds[first].desired
    );
    assert!(outcome.seconds[first].desired >= 1);
    let ready = outcome
        .seconds
        .iter()
        .position(|second| second.ready > 0)
        .unwrap();
    assert_eq!(
        ready - first,
        Service::default().cold_start.as_secs() as usize
    );
}

#[test]
fn every_trace_stays_within_the_most_and_serves_everything() {
    for trace in Trace::ALL {
        let outcome = run(&spec(), trace, 1);
        assert!(
            outcome.seconds.iter().all(|s| s.ready + s.starting <= 24),
            "{}",
            trace.as_str()
        );
        let last = outcome.seconds.last().unwrap();
        assert!(
            last.queued < 5.0,
            "{}: {} still wait",
            trace.as_str(),
            last.queued
        );
        let expected: f64 = (0..trace.length().as_secs())
            .map(|s| trace.requests_per_second(s))
            .sum();
        let arrived: u32 = outcome.seconds.iter().map(|second| second.arrived).sum();
        assert!(
            (f64::from(arrived) / expected - 1.0).abs() < 0.02,
            "{}: {arrived}",
            trace.as_str()
        );
    }
}

/// In a steady state, the mean number in flight is the arrival rate times the time in the system (Little's law).
#[test]
fn requests_obey_little_s_law() {
    let outcome = run(&spec(), Trace::Step, 1);
    let steady = &outcome.seconds[1_000..1_800];
    let mean =
        |value: fn(&Second) -> f64| steady.iter().map(value).sum::<f64>() / steady.len() as f64;
    let in_service = mean(|second| second.concurrency - second.queued);
    let expected = mean(|second| f64::from(second.arrived)) * 0.25;
    assert!(
        (in_service / expected - 1.0).abs() < 0.01,
        "{in_service} in service, {expected} expected"
    );
}

#[test]
fn prediction_changes_nothing_where_nothing_recurs() {
    let predictive = AutoscaleSpec {
        prediction: Some(Prediction {
            period: Period::Detected,
            lead: Duration::from_secs(50),
        }),
        ..spec()
    };
    for trace in [Trace::Step, Trace::Ramp, Trace::Noise] {
        for seed in SEEDS {
            assert_eq!(
                run(&predictive, trace, seed),
                run(&spec(), trace, seed),
                "{}",
                trace.as_str()
            );
        }
    }
}

#[test]
fn seasons_are_found_without_being_told() {
    let detecting = AutoscaleSpec {
        prediction: Some(Prediction {
            period: Period::Detected,
            lead: Duration::from_secs(50),
        }),
        ..spec()
    };
    // Three seasons to find it; the last two of the six spikes are served from the forecast.
    let range = 4 * 1_200..6 * 1_200;
    for seed in SEEDS {
        let found = run(&detecting, Trace::Spike, seed).seconds_over_objective(range.clone());
        let reactive = run(&spec(), Trace::Spike, seed).seconds_over_objective(range.clone());
        assert!(
            found * 4 < reactive,
            "seed {seed}: {found} s over the objective, reactive {reactive} s"
        );
    }
}

#[test]
fn prediction_beats_the_best_reactive_run_of_equal_cost_on_recurring_load() {
    for (trace, at_least) in [
        (Trace::Diurnal, 1.2),
        (Trace::Spike, 5.0),
        (Trace::Sawtooth, 3.0),
    ] {
        for seed in [1, 2] {
            let comparison = compare(trace, &Service::default(), seed);
            let predictive = comparison.predictive.0;
            let rival = comparison.equal_cost.0;
            let numbers = format!(
                "{} (seed {seed}): predictive {} s over the objective at {} replica-seconds, reactive at {:.0} % {} s at {}, with defaults {} s at {}",
                trace.as_str(),
                predictive.seconds_over_objective,
                predictive.replica_seconds,
                rival.target_utilization * 100.0,
                rival.seconds_over_objective,
                rival.replica_seconds,
                comparison.reactive.0.seconds_over_objective,
                comparison.reactive.0.replica_seconds,
            );
            let dearest = comparison
                .reactive
                .0
                .replica_seconds
                .max(rival.replica_seconds);
            assert!(
                predictive.replica_seconds as f64 <= dearest as f64 * 1.03,
                "{numbers}"
            );
            let gain = rival.seconds_over_objective as f64
                / (predictive.seconds_over_objective as f64).max(1.0);
            assert!(gain >= at_least, "{numbers}");
        }
    }
}

#[test]
fn a_metric_of_rates_settles_too() {
    let by_rate = AutoscaleSpec {
        metric: Metric::Rps,
        total_per_replica: 8.0,
        ..spec()
    };
    let outcome = run(&by_rate, Trace::Step, 1);
    let desired: Vec<u32> = outcome.seconds[1_200..1_800]
        .iter()
        .map(|s| s.desired)
        .collect();
    assert!(
        desired.iter().all(|n| (8..=10).contains(n)),
        "48 / 5.6 = 9: {desired:?}"
    );
}

/// A target of all of a replica's places leaves no reserve: chance bursts wait. Targets on latency and on the queue find out how many replicas more are
/// needed, without going to the most and without going up and down.
#[test]
fn targets_on_latency_and_queue_find_the_reserve_that_is_needed() {
    let tight = AutoscaleSpec {
        target_utilization: 1.0,
        ..spec()
    };
    let by_latency = AutoscaleSpec {
        latency_p99_target: Some(Duration::from_millis(400)),
        ..tight.clone()
    };
    let by_queue = AutoscaleSpec {
        queue_depth_target: Some(0.2),
        ..tight.clone()
    };
    // Five minutes after the step, until the load ends.
    let range = 900..1_800;
    for seed in SEEDS {
        let without = run(&tight, Trace::Step, seed);
        for spec in [&by_latency, &by_queue] {
            let with = run(spec, Trace::Step, seed);
            let over = |outcome: &Outcome| outcome.seconds_over_objective(range.clone());
            assert!(
                over(&with) * 4 <= over(&without),
                "seed {seed}: {} s, {} s without",
                over(&with),
                over(&without)
            );
            let cost = |outcome: &Outcome| outcome.replica_seconds(range.clone()) as f64;
            assert!(
                cost(&with) < 1.6 * cost(&without),
                "seed {seed}: {} times the cost",
                cost(&with) / cost(&without)
            );
            let desired = with.seconds[range.clone()]
                .iter()
                .map(|second| second.desired);
            let desired: Vec<u32> = desired.collect();
            let n_changes = desired.windows(2).filter(|pair| pair[0] != pair[1]).count();
            assert!(n_changes <= 12, "seed {seed}: {n_changes} changes");
        }
    }
}
