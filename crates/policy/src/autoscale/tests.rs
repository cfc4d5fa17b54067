//! The reference's worked numbers, the transitions between modes, the way to zero, and properties over random loads.

use super::*;
use crate::random::Random;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn spec(component: ComponentScaling<'_>) -> AutoscaleSpec {
    AutoscaleSpec::try_new(component, []).unwrap()
}

fn annotated(annotations: &[(&str, &str)]) -> AutoscaleSpec {
    AutoscaleSpec::try_new(ComponentScaling::default(), annotations.iter().copied()).unwrap()
}

/// KServe's default spec that may go to zero.
fn elastic() -> AutoscaleSpec {
    AutoscaleSpec {
        min_replicas: 0,
        ..AutoscaleSpec::default()
    }
}

/// An autoscaler with a clock and replicas that follow its decisions at once.
struct Run {
    scaler: Autoscaler,
    second: u64,
    ready: u32,
}

impl Run {
    fn new(spec: AutoscaleSpec, ready: u32) -> Self {
        Self {
            scaler: Autoscaler::new(spec, Duration::ZERO),
            second: 0,
            ready,
        }
    }

    fn record(&mut self, n_seconds: u64, sample: Sample) {
        for _ in 0..n_seconds {
            self.second += 1;
            self.scaler.record(seconds(self.second), sample);
        }
    }

    fn concurrency(&mut self, n_seconds: u64, concurrency: f64) {
        let sample = Sample {
            concurrency,
            ..Sample::default()
        };
        self.record(n_seconds, sample);
    }

    fn decide(&mut self) -> Decision {
        self.scaler
            .decide(seconds(self.second), Ready::new(self.ready))
    }

    /// Lets two seconds pass, decides, follows.
    fn tick(&mut self, concurrency: f64) -> Decision {
        self.concurrency(2, concurrency);
        let decision = self.decide();
        self.ready = decision.desired;
        decision
    }
}

#[test]
fn worked_1_no_target_and_700_in_flight_are_10_replicas() {
    let mut run = Run::new(AutoscaleSpec::default(), 10);
    run.concurrency(60, 700.0);
    let decision = run.decide();
    assert_eq!((decision.desired, decision.mode), (10, Mode::Stable));
    assert_eq!(decision.target_per_replica, 70.0);
    assert_eq!(
        decision.reason.to_string(),
        "concurrency 700 over 60s / target 70 per replica = 10"
    );
}

#[test]
fn worked_2_a_target_of_1_and_5_in_flight_are_8_replicas() {
    let by_target = ComponentScaling {
        scale_target: Some(1),
        ..ComponentScaling::default()
    };
    let by_limit = ComponentScaling {
        container_concurrency: Some(1),
        ..ComponentScaling::default()
    };
    for component in [by_target, by_limit] {
        let mut run = Run::new(spec(component), 8);
        run.concurrency(60, 5.0);
        assert_eq!(run.decide().desired, 8);
    }
}

#[test]
fn worked_3_panic_at_22_replicas_lasts_until_a_stable_window_after_the_last_trigger() {
    let mut run = Run::new(AutoscaleSpec::default(), 10);
    run.concurrency(60, 700.0);
    assert_eq!(run.decide().mode, Mode::Stable);
    run.concurrency(6, 1_500.0);
    let decision = run.decide();
    assert_eq!((decision.desired, decision.mode), (22, Mode::Panic));
    assert_eq!(decision.panic_value, 1_500.0);
    assert_eq!(
        decision.reason.to_string(),
        "concurrency 1500 over 6s / target 70 per replica = 22"
    );
    run.ready = 22;
    for _ in 0..30 {
        let decision = run.tick(0.0);
        assert_eq!(
            (decision.desired, decision.mode),
            (22, Mode::Panic),
            "second {}",
            run.second
        );
    }
    let decision = run.tick(0.0);
    assert_eq!((decision.desired, decision.mode), (11, Mode::Stable));
    assert_eq!(decision.reason.label(), "ScaleDownRate");
}

#[test]
fn worked_4_the_first_request_at_zero_is_one_replica_without_panic() {
    let mut run = Run {
        scaler: Autoscaler::resume(elastic(), Duration::ZERO, 0),
        second: 0,
        ready: 0,
    };
    run.concurrency(100, 0.0);
    assert_eq!(run.decide().desired, 0);
    run.concurrency(1, 1.0);
    let decision = run.decide();
    assert_eq!((decision.desired, decision.mode), (1, Mode::Stable));
}

#[test]
fn worked_5_without_load_each_decision_halves_at_most() {
    let mut run = Run::new(elastic(), 10);
    run.concurrency(60, 700.0);
    run.decide();
    run.concurrency(60, 0.0);
    let mut path = Vec::new();
    for _ in 0..4 {
        let decision = run.decide();
        path.push(decision.wanted_before_bounds);
        run.ready = decision.wanted_before_bounds;
    }
    assert_eq!(path, [5, 2, 1, 0]);
}

#[test]
fn worked_6_a_target_of_5_and_20_requests_per_second_are_6_replicas() {
    let component = ComponentScaling {
        scale_target: Some(5),
        scale_metric: Some(Metric::Rps),
        ..ComponentScaling::default()
    };
    let mut run = Run::new(spec(component), 6);
    let sample = Sample {
        requests: 20.0,
        concurrency: 1.0,
        ..Sample::default()
    };
    run.record(60, sample);
    let decision = run.decide();
    assert_eq!(decision.desired, 6);
    assert_eq!(
        decision.reason.to_string(),
        "rps 20 over 60s / target 3.5 per replica = 6"
    );
}

#[test]
fn worked_7_bounds_hold_the_number() {
    let component = ComponentScaling {
        min_replicas: Some(2),
        max_replicas: Some(4),
        ..ComponentScaling::default()
    };
    let mut run = Run::new(spec(component), 8);
    run.concurrency(60, 600.0);
    let decision = run.decide();
    assert_eq!((decision.desired, decision.wanted_before_bounds), (4, 9));
    assert!(
        decision
            .reason
            .to_string()
            .ends_with("; held at 4 by max-scale")
    );
    run.concurrency(60, 0.0);
    for ready in [8, 4, 2, 1, 0] {
        run.ready = ready;
        assert!((2..=4).contains(&run.decide().desired));
    }
}

#[test]
fn scaling_up_is_bounded_by_its_rate_but_never_stuck() {
    let spec = AutoscaleSpec {
        scale_up_rate_max: 1.1,
        total_per_replica: 1.0,
        target_utilization: 1.0,
        panic_threshold: 10.0,
        ..AutoscaleSpec::default()
    };
    let mut run = Run::new(spec, 2);
    run.concurrency(60, 10.0);
    let decision = run.decide();
    assert_eq!(decision.desired, 3);
    assert_eq!(decision.reason.label(), "ScaleUpRate");
}

#[test]
fn activation_scale_raises_what_is_not_zero() {
    let mut run = Run::new(
        AutoscaleSpec {
            activation_replicas: 5,
            ..elastic()
        },
        1,
    );
    run.concurrency(60, 1.0);
    assert_eq!(run.decide().desired, 5);
    run.concurrency(180, 0.0);
    run.ready = 1;
    assert_eq!(run.decide().wanted_before_bounds, 0);
}

#[test]
fn initial_scale_holds_until_reached_once() {
    let mut run = Run::new(
        AutoscaleSpec {
            initial_replicas: 3,
            ..AutoscaleSpec::default()
        },
        0,
    );
    run.concurrency(2, 1.0);
    for (ready, desired) in [(0, 3), (2, 3), (3, 1), (1, 1)] {
        run.ready = ready;
        assert_eq!(run.decide().desired, desired, "{ready} ready");
    }
}

#[test]
fn a_smaller_number_waits_for_the_scale_down_delay() {
    let mut run = Run::new(
        annotated(&[("autoscaling.knative.dev/scale-down-delay", "2m")]),
        10,
    );
    run.concurrency(60, 700.0);
    assert_eq!(run.decide().desired, 10);
    let wanted_last = run.second;
    // The falling average is above 630, and wants 10, for five seconds more than the load lasted.
    while run.decide().desired == 10 {
        run.concurrency(1, 0.0);
    }
    assert_eq!(run.second - wanted_last, 125);
}

#[test]
fn after_a_restart_with_several_replicas_none_goes_at_once() {
    let mut run = Run {
        scaler: Autoscaler::resume(elastic(), Duration::ZERO, 4),
        second: 0,
        ready: 4,
    };
    let before = run.decide();
    assert_eq!((before.desired, before.reason.label()), (4, "NoData"));
    for _ in 0..30 {
        assert_eq!(run.tick(1.0).desired, 4);
    }
    assert_eq!(run.tick(1.0).desired, 2);
    let single = Autoscaler::resume(elastic(), Duration::ZERO, 1);
    assert_eq!(single.kpa.mode(), Mode::Stable);
}

/// `EBC = floor(ready * total - burst - panic value)`, with the defaults of 100 and 211.
#[test]
fn excess_burst_capacity_follows_the_formula() {
    let cases = [
        (211.0, 1, 0.0, -111),
        (211.0, 3, 0.0, 89),
        (211.0, 3, 89.5, -1),
        (211.0, 0, 0.0, -211),
        (0.0, 1, 500.0, 0),
        (-1.0, 50, 0.0, -1),
    ];
    for (target_burst_capacity, ready, concurrency, expected) in cases {
        let spec = AutoscaleSpec {
            target_burst_capacity,
            ..AutoscaleSpec::default()
        };
        let mut run = Run::new(spec, ready);
        run.concurrency(6, concurrency);
        assert_eq!(run.decide().excess_burst_capacity, expected);
    }
}

/// Runs load, then none; returns after how many seconds without load nothing is left.
fn seconds_to_zero(spec: AutoscaleSpec) -> u64 {
    let mut run = Run::new(spec, 1);
    for _ in 0..60 {
        run.tick(10.0);
    }
    let loaded_until = run.second;
    while run.tick(0.0).desired > 0 {
        assert!(run.second < loaded_until + 7_200, "never reached zero");
    }
    run.second - loaded_until
}

#[test]
fn zero_comes_a_stable_window_and_the_grace_period_after_the_last_load() {
    let direct = AutoscaleSpec {
        target_burst_capacity: 0.0,
        ..elastic()
    };
    let retained = AutoscaleSpec {
        pod_retention_period: seconds(300),
        ..elastic()
    };
    // Through the gateway's queue all along, the grace period has passed already.
    assert_eq!(seconds_to_zero(elastic()), 60);
    assert_eq!(seconds_to_zero(direct), 90);
    assert_eq!(seconds_to_zero(retained), 360);
}

#[test]
fn the_moment_of_zero_is_told_and_a_request_takes_it_back() {
    let mut run = Run::new(
        AutoscaleSpec {
            target_burst_capacity: 0.0,
            ..elastic()
        },
        1,
    );
    run.concurrency(100, 1.0);
    run.decide();
    run.concurrency(60, 0.0);
    let decision = run.decide();
    assert_eq!((decision.desired, decision.wanted_before_bounds), (1, 0));
    assert_eq!(decision.scale_to_zero_at, Some(seconds(190)));
    assert!(
        decision
            .reason
            .to_string()
            .ends_with("; 1 kept for another 30s")
    );
    run.concurrency(20, 0.0);
    run.concurrency(1, 1.0);
    assert_eq!(run.decide().scale_to_zero_at, None);
    // Active since second 181: idle at 241 at the earliest, zero 30 s later.
    run.concurrency(60, 0.0);
    assert_eq!(run.decide().scale_to_zero_at, Some(seconds(271)));
    run.concurrency(30, 0.0);
    assert_eq!(run.decide().desired, 0);
}

#[test]
fn a_new_revision_stays_a_stable_window_without_any_load() {
    let mut run = Run::new(elastic(), 0);
    run.concurrency(10, 0.0);
    assert_eq!(run.decide().desired, 1);
    run.ready = 1;
    run.decide();
    run.concurrency(59, 0.0);
    assert_eq!(run.decide().desired, 1);
    run.concurrency(1, 0.0);
    assert_eq!(run.decide().desired, 0);
}

#[test]
fn a_revision_that_never_becomes_ready_is_given_up_when_nobody_asks() {
    let mut run = Run {
        scaler: Autoscaler::resume(elastic(), Duration::ZERO, 0),
        second: 0,
        ready: 0,
    };
    run.concurrency(1, 3.0);
    assert_eq!(run.decide().desired, 1);
    run.concurrency(400, 0.0);
    assert_eq!(run.decide().scale_to_zero_at, Some(seconds(631)));
    run.concurrency(230, 0.0);
    assert_eq!(run.decide().desired, 0);
}

#[test]
fn waiting_requests_wake_a_revision_whatever_the_metric() {
    for metric in [Metric::Concurrency, Metric::Rps] {
        let mut scaler = Autoscaler::resume(
            AutoscaleSpec {
                metric,
                ..elastic()
            },
            Duration::ZERO,
            0,
        );
        let idle = scaler.decide(seconds(1_000), Ready::new(0));
        assert_eq!(idle.desired, 0);
        let ready = Ready {
            waiting: 2,
            ..Ready::new(0)
        };
        let woken = scaler.decide(seconds(1_000), ready);
        assert_eq!(woken.desired, 1);
        assert!(
            woken
                .reason
                .to_string()
                .ends_with("; woken to 1 by 2 waiting requests")
        );
    }
}

#[test]
fn scaling_to_zero_can_be_off() {
    let mut run = Run::new(
        AutoscaleSpec {
            scale_to_zero: false,
            ..elastic()
        },
        1,
    );
    run.concurrency(1_000, 0.0);
    let decision = run.decide();
    assert_eq!(
        (decision.desired, decision.reason.label()),
        (1, "ScaleToZeroOff")
    );
}

#[test]
fn a_revision_that_nothing_leads_to_has_no_fewest() {
    let mut run = Run::new(
        AutoscaleSpec {
            min_replicas: 3,
            ..AutoscaleSpec::default()
        },
        3,
    );
    run.concurrency(70, 0.0);
    assert_eq!(run.decide().desired, 3);
    let ready = Ready {
        is_reachable: false,
        ..Ready::new(3)
    };
    run.scaler.decide(seconds(run.second), ready);
    run.concurrency(60, 0.0);
    let idle = run.scaler.decide(seconds(run.second), ready);
    assert_eq!(
        (idle.desired, idle.scale_to_zero_at),
        (1, Some(seconds(160)))
    );
    run.concurrency(30, 0.0);
    assert_eq!(run.scaler.decide(seconds(run.second), ready).desired, 0);
}

/// HPA: `ceil(ready * value / target)`, nothing within 10 %, never zero.
#[test]
fn resources_follow_hpa() {
    let component = ComponentScaling {
        min_replicas: Some(0),
        scale_metric: Some(Metric::Cpu),
        scale_target: Some(50),
        cpu_request_cores: Some(2.0),
        ..ComponentScaling::default()
    };
    let cases = [
        (4, 4.0, 4, "WithinTolerance"),
        (4, 4.39, 4, "WithinTolerance"),
        (4, 4.41, 5, "Metric"),
        (4, 8.0, 8, "Metric"),
        (4, 40.0, 40, "Metric"),
        (4, 3.0, 3, "Metric"),
        (1, 0.0, 1, "NeverZero"),
    ];
    for (ready, cpu_cores, desired, label) in cases {
        let mut run = Run::new(spec(component), ready);
        let sample = Sample {
            cpu_cores,
            ..Sample::default()
        };
        run.record(60, sample);
        let decision = run.decide();
        let found = (decision.desired, decision.mode, decision.reason.label());
        assert_eq!(
            found,
            (desired, Mode::Stable, label),
            "{cpu_cores} cores: {}",
            decision.reason
        );
    }
}

#[test]
fn latency_raises_in_steps_and_relaxes_slowly() {
    let spec = AutoscaleSpec {
        latency_p99_target: Some(Duration::from_millis(100)),
        max_replicas: 6,
        ..AutoscaleSpec::default()
    };
    let mut run = Run::new(spec, 2);
    let sample = |millis| Sample {
        concurrency: 5.0,
        requests: 50.0,
        latency_p99: Some(Duration::from_millis(millis)),
        ..Sample::default()
    };
    run.record(10, sample(105));
    assert_eq!(run.decide().desired, 1);
    run.record(10, sample(150));
    let raised = run.decide();
    assert_eq!(raised.desired, 3);
    assert!(
        raised
            .reason
            .to_string()
            .ends_with("at least 3 for latency: p99 150 ms, target 100 ms")
    );
    run.ready = 3;
    run.record(10, sample(150));
    assert_eq!(
        run.decide().desired,
        3,
        "a raise that did not help is not repeated"
    );
    run.record(10, sample(120));
    assert_eq!(run.decide().desired, 4, "one that helped is");
    run.ready = 4;
    // Three were too few, so four stay for ten stable windows; then one after the other goes.
    let mut path = Vec::new();
    for _ in 0..14 {
        for _ in 0..30 {
            run.record(2, sample(80));
            run.ready = run.decide().desired;
        }
        path.push(run.ready);
    }
    assert_eq!(path[..9], [4; 9], "{path:?}");
    assert!(
        path.is_sorted_by(|before, after| before >= after),
        "{path:?}"
    );
    assert_eq!(path.last(), Some(&1), "{path:?}");
}

#[test]
fn queues_raise_up_to_the_most() {
    let spec = AutoscaleSpec {
        queue_depth_target: Some(2.0),
        max_replicas: 5,
        ..AutoscaleSpec::default()
    };
    let mut run = Run::new(spec, 2);
    let sample = |queue_depth| Sample {
        concurrency: 5.0,
        queue_depth,
        ..Sample::default()
    };
    run.record(10, sample(6.0));
    let raised = run.decide();
    assert_eq!(raised.desired, 3);
    assert!(
        raised
            .reason
            .to_string()
            .contains("3 waiting per replica, target 2"),
        "{}",
        raised.reason
    );
    run.ready = 3;
    run.record(10, sample(3.0));
    assert_eq!(run.decide().desired, 3);
    run.ready = 0;
    run.record(10, sample(0.0));
    assert_eq!(run.decide().desired, 1);
}

#[test]
fn a_recurring_spike_gets_its_replicas_before_it_comes() {
    let prediction = Prediction {
        period: Period::Given(seconds(600)),
        lead: seconds(30),
    };
    let spec = AutoscaleSpec {
        prediction: Some(prediction),
        ..elastic()
    };
    let mut run = Run::new(spec, 1);
    let load = |second: u64| if second % 600 < 60 { 350.0 } else { 0.0 };
    while run.second < 1_760 {
        let load = load(run.second);
        run.tick(load);
    }
    assert_eq!(run.ready, 0, "between spikes there is nothing");
    let mut decision = run.decide();
    while run.second < 1_780 {
        let load = load(run.second);
        decision = run.tick(load);
    }
    assert_eq!(
        decision.desired, 5,
        "350 in flight / 70: {}",
        decision.reason
    );
    assert_eq!(decision.reason.label(), "Predicted");
    assert!(
        decision.reason.to_string().contains("(season of 600s)"),
        "{}",
        decision.reason
    );
}

#[test]
fn a_changed_spec_keeps_the_history() {
    let mut run = Run::new(AutoscaleSpec::default(), 10);
    run.concurrency(60, 700.0);
    let doubled = AutoscaleSpec {
        total_per_replica: 200.0,
        stable_window: seconds(120),
        ..AutoscaleSpec::default()
    };
    run.scaler.set_spec(doubled);
    let decision = run.decide();
    assert_eq!((decision.desired, decision.stable_value), (5, 700.0));
}

/// A spec with everything on, drawn at random within the allowed values.
fn random_spec(random: &mut Random) -> AutoscaleSpec {
    let below = |random: &mut Random, most: u64| random.next_u64() % most;
    let stable = 6 + below(random, 100);
    let min = below(random, 4) as u32;
    let max = if below(random, 3) == 0 {
        0
    } else {
        min.max(1) + below(random, 20) as u32
    };
    AutoscaleSpec {
        metric: [Metric::Concurrency, Metric::Rps, Metric::Cpu][below(random, 3) as usize],
        total_per_replica: 1.0 + 20.0 * random.unit(),
        min_replicas: min,
        max_replicas: max,
        initial_replicas: below(random, 5) as u32,
        activation_replicas: 1 + below(random, 3) as u32,
        stable_window: seconds(stable),
        panic_window: seconds((stable / 10).max(1)),
        scale_up_rate_max: 1.5 + 10.0 * random.unit(),
        scale_down_delay: seconds(below(random, 2) * below(random, 60)),
        target_burst_capacity: [-1.0, 0.0, 10.0][below(random, 3) as usize],
        latency_p99_target: (below(random, 2) == 0).then(|| Duration::from_millis(50)),
        queue_depth_target: (below(random, 2) == 0).then_some(1.0),
        prediction: (below(random, 2) == 0).then_some(Prediction {
            period: Period::Given(seconds(60)),
            lead: seconds(10),
        }),
        ..AutoscaleSpec::default()
    }
}

fn random_sample(random: &mut Random) -> Sample {
    let burst = if random.unit() < 0.1 { 50.0 } else { 3.0 };
    let concurrency = (random.unit() - 0.3).max(0.0) * burst;
    Sample {
        concurrency,
        requests: concurrency * 5.0,
        queue_depth: concurrency / 2.0,
        cpu_cores: concurrency,
        latency_p99: (concurrency > 0.0).then(|| Duration::from_millis(random.next_u64() % 200)),
        ..Sample::default()
    }
}

#[test]
fn decisions_are_bounded_and_repeatable_whatever_comes() {
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let spec = random_spec(&mut random);
        let mut scaler = Autoscaler::new(spec.clone(), Duration::ZERO);
        let mut ready = 0;
        for second in 1..400 {
            let now = seconds(second);
            if random.unit() < 0.9 {
                scaler.record(now, random_sample(&mut random));
            }
            if second % 2 == 1 {
                continue;
            }
            let state = Ready {
                waiting: (random.next_u64() % 2) as u32,
                ..Ready::new(ready)
            };
            let decision = scaler.decide(now, state);
            assert_eq!(
                decision,
                scaler.decide(now, state),
                "seed {seed}, second {second}"
            );
            let desired = decision.desired;
            assert!(
                desired >= spec.at_most(spec.min_replicas),
                "seed {seed}: {decision:?}"
            );
            assert!(
                spec.max_replicas == 0 || desired <= spec.max_replicas,
                "seed {seed}: {decision:?}"
            );
            assert!(!decision.reason.to_string().is_empty());
            // Replicas follow slowly and sometimes fail.
            let step = (random.next_u64() % 3) as u32;
            ready = if desired > ready {
                (ready + step).min(desired)
            } else {
                desired
            };
            if random.unit() < 0.02 {
                ready = 0;
            }
        }
    }
}

/// Returns how many replicas were wanted over 20 minutes of load that goes up and down by 20 % around what is half-way between two numbers.
fn under_noise(spec: AutoscaleSpec, seed: u64, replicas: u32) -> Vec<u32> {
    let mut random = Random::new(seed);
    let level = spec.target_per_replica() * (f64::from(replicas) - 0.5);
    let mut run = Run::new(spec, replicas);
    let mut seen = Vec::new();
    for tick in 0..600 {
        let decision = run.tick(level * (0.8 + 0.4 * random.unit()));
        if tick >= 30 {
            seen.push(decision.desired);
            assert_eq!(decision.mode, Mode::Stable);
        }
    }
    seen
}

#[test]
fn noise_around_a_constant_load_does_not_flap() {
    for seed in 0..40 {
        let replicas = 2 + (seed % 4) as u32;
        let seen = under_noise(AutoscaleSpec::default(), seed, replicas);
        assert!(
            seen.iter().all(|desired| *desired == replicas),
            "seed {seed}: {seen:?}"
        );
    }
}

/// With many replicas the noise of the average spans more than one; the delay turns that into at most one step.
#[test]
fn a_scale_down_delay_stops_flapping_among_many_replicas() {
    for seed in 0..40 {
        let delayed = AutoscaleSpec {
            scale_down_delay: seconds(1_200),
            ..AutoscaleSpec::default()
        };
        let replicas = 8 + (seed % 10) as u32;
        let mut seen = under_noise(delayed, seed, replicas);
        assert!(seen.is_sorted(), "seed {seed}: {seen:?}");
        seen.dedup();
        assert!(
            seen.len() <= 2 && seen[0] >= replicas,
            "seed {seed}: {seen:?}"
        );
    }
}
