//! Every field and annotation, what it sets, and the values that are refused.

use coracle_base::Code;

use super::*;

const KNATIVE: &str = "autoscaling.knative.dev/";
const OURS: &str = "serving.coracle.dev/autoscale-";

fn read(
    component: ComponentScaling<'_>,
    annotations: &[(&str, &str)],
) -> Result<AutoscaleSpec, SpecError> {
    AutoscaleSpec::try_new(component, annotations.iter().copied())
}

fn annotated(name: &str, value: &str) -> Result<AutoscaleSpec, SpecError> {
    read(ComponentScaling::default(), &[(name, value)])
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn nothing_said_is_knative_s_defaults_with_kserve_s_one_replica() {
    let spec = read(ComponentScaling::default(), &[]).unwrap();
    assert_eq!(spec, AutoscaleSpec::default());
    assert_eq!((spec.min_replicas, spec.max_replicas), (1, 0));
    assert_eq!(spec.target_per_replica(), 70.0);
    assert_eq!(
        (spec.stable_window, spec.panic_window),
        (seconds(60), seconds(6))
    );
    assert_eq!(spec.panic_threshold, 2.0);
    assert_eq!(spec.target_burst_capacity, 211.0);
}

/// Targets by the formulas of the reference: `target = max(0.01, total * utilisation)`.
#[test]
fn targets_follow_from_fields_and_annotations() {
    let component = |scale_target, scale_metric, container_concurrency| ComponentScaling {
        scale_target,
        scale_metric,
        container_concurrency,
        ..ComponentScaling::default()
    };
    let target = ("autoscaling.knative.dev/target", "40");
    let rps = ("autoscaling.knative.dev/metric", "rps");
    let half = (
        "autoscaling.knative.dev/target-utilization-percentage",
        "50",
    );
    let tiny = ("autoscaling.knative.dev/target", "0.01");
    let none = component(None, None, None);
    let cases: [(ComponentScaling<'_>, &[(&str, &str)], f64, f64); 12] = [
        (component(Some(10), None, None), &[], 10.0, 7.0),
        (component(None, None, Some(1)), &[], 1.0, 0.7),
        (component(Some(10), None, Some(4)), &[], 4.0, 2.8),
        (component(Some(4), None, Some(10)), &[], 4.0, 2.8),
        (none, &[target], 40.0, 28.0),
        (component(Some(10), None, None), &[target], 10.0, 7.0),
        (component(None, None, Some(8)), &[target], 8.0, 5.6),
        (none, &[rps], 200.0, 140.0),
        (
            component(Some(5), Some(Metric::Rps), Some(2)),
            &[],
            5.0,
            3.5,
        ),
        (
            component(None, Some(Metric::Rps), Some(2)),
            &[target],
            40.0,
            28.0,
        ),
        (component(Some(10), None, None), &[half], 10.0, 5.0),
        (none, &[tiny], 0.01, 0.01),
    ];
    for (component, annotations, total, target) in cases {
        let spec = read(component, annotations).unwrap();
        assert_eq!(
            spec.total_per_replica, total,
            "{component:?} {annotations:?}"
        );
        assert!(
            (spec.target_per_replica() - target).abs() < 1e-12,
            "{component:?} {annotations:?}"
        );
    }
}

#[test]
fn resources_have_targets_like_hpa() {
    let component = |metric, target, kind| ComponentScaling {
        scale_metric: Some(metric),
        scale_target: target,
        scale_metric_type: kind,
        cpu_request_cores: Some(4.0),
        memory_request_bytes: Some(1e9),
        ..ComponentScaling::default()
    };
    let cases = [
        (component(Metric::Cpu, None, None), 3.2),
        (component(Metric::Cpu, Some(50), None), 2.0),
        (component(Metric::Cpu, Some(3), Some("AverageValue")), 3.0),
        (component(Metric::Memory, None, None), 0.8e9),
        (
            component(Metric::Memory, Some(512), None),
            512.0 * 1_048_576.0,
        ),
        (
            component(Metric::Memory, Some(50), Some("Utilization")),
            0.5e9,
        ),
    ];
    for (component, target) in cases {
        let spec = read(component, &[]).unwrap();
        assert_eq!(spec.target_per_replica(), target, "{component:?}");
        assert_eq!(spec.scale_down_delay, seconds(300));
    }
    let bad = [
        (component(Metric::Cpu, Some(101), None), "101"),
        (
            component(Metric::Cpu, None, Some("AverageValue")),
            "needs a scaleTarget",
        ),
        (component(Metric::Cpu, None, Some("Value")), "neither"),
    ];
    for (component, part) in bad {
        let error = read(component, &[]).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }
    let class = (
        "autoscaling.knative.dev/class",
        "hpa.autoscaling.knative.dev",
    );
    assert_eq!(
        read(ComponentScaling::default(), &[class]).unwrap().metric,
        Metric::Cpu
    );
    let memory = ("autoscaling.knative.dev/metric", "memory");
    assert_eq!(
        read(ComponentScaling::default(), &[class, memory])
            .unwrap()
            .metric,
        Metric::Memory
    );
}

#[test]
fn fields_win_over_annotations_and_zero_is_no_most() {
    let component = |min_replicas, max_replicas| ComponentScaling {
        min_replicas,
        max_replicas,
        ..ComponentScaling::default()
    };
    let min = ("autoscaling.knative.dev/min-scale", "3");
    let max = ("autoscaling.knative.dev/maxScale", "9");
    let cases: [(ComponentScaling<'_>, &[(&str, &str)], (u32, u32)); 6] = [
        (component(None, None), &[], (1, 0)),
        (component(Some(0), Some(0)), &[], (0, 0)),
        (component(Some(2), Some(4)), &[min, max], (2, 4)),
        (component(None, None), &[min, max], (3, 9)),
        (component(Some(0), None), &[min, max], (0, 9)),
        (component(None, Some(0)), &[max], (1, 9)),
    ];
    for (component, annotations, bounds) in cases {
        let spec = read(component, annotations).unwrap();
        assert_eq!(
            (spec.min_replicas, spec.max_replicas),
            bounds,
            "{component:?}"
        );
    }
    let bad = [
        (component(Some(-1), None), "minReplicas is less than 0"),
        (component(None, Some(-1)), "maxReplicas is less than 0"),
        (
            component(Some(5), Some(4)),
            "the fewest replicas (5) are more than the most (4)",
        ),
    ];
    for (component, message) in bad {
        assert_eq!(read(component, &[]).unwrap_err().to_string(), message);
    }
}

#[test]
fn the_name_proper_wins_over_its_alias() {
    let both = [
        ("autoscaling.knative.dev/initialScale", "4"),
        ("autoscaling.knative.dev/initial-scale", "3"),
    ];
    let spec = read(ComponentScaling::default(), &both).unwrap();
    assert_eq!(spec.initial_replicas, 3);
}

type Change = fn(&mut AutoscaleSpec);

/// Annotations of Knative, a value for each, and what that changes.
const SETTINGS: [(&str, &str, Change); 27] = [
    ("class", "kpa.autoscaling.knative.dev", |_| {}),
    ("metric", "concurrency", |_| {}),
    ("target", "12.5", |s| s.total_per_replica = 12.5),
    ("min-scale", "0", |s| s.min_replicas = 0),
    ("minScale", "2", |s| s.min_replicas = 2),
    ("max-scale", "7", |s| s.max_replicas = 7),
    ("maxScale", "7", |s| s.max_replicas = 7),
    ("initial-scale", "0", |s| s.initial_replicas = 0),
    ("initialScale", "4", |s| s.initial_replicas = 4),
    ("activation-scale", "3", |s| s.activation_replicas = 3),
    ("activationScale", "3", |s| s.activation_replicas = 3),
    ("scale-down-delay", "15m", |s| {
        s.scale_down_delay = seconds(900)
    }),
    ("scaleDownDelay", "0s", |_| {}),
    ("window", "2m", |s| {
        (s.stable_window, s.panic_window) = (seconds(120), seconds(12));
    }),
    ("window", "6s", |s| {
        (s.stable_window, s.panic_window) = (seconds(6), seconds(1));
    }),
    ("panic-window-percentage", "50", |s| {
        s.panic_window = seconds(30)
    }),
    ("panicWindowPercentage", "1", |s| {
        s.panic_window = seconds(1)
    }),
    ("panic-threshold-percentage", "110", |s| {
        s.panic_threshold = 1.1
    }),
    ("panicThresholdPercentage", "1000.0", |s| {
        s.panic_threshold = 10.0
    }),
    ("target-utilization-percentage", "100", |s| {
        s.target_utilization = 1.0
    }),
    ("targetUtilizationPercentage", "1", |s| {
        s.target_utilization = 0.01
    }),
    ("target-burst-capacity", "-1", |s| {
        s.target_burst_capacity = -1.0
    }),
    ("targetBurstCapacity", "0", |s| {
        s.target_burst_capacity = 0.0
    }),
    ("scale-to-zero-pod-retention-period", "1m5s", |s| {
        s.pod_retention_period = seconds(65)
    }),
    ("scaleToZeroPodRetentionPeriod", "1h", |s| {
        s.pod_retention_period = seconds(3_600)
    }),
    (
        "metric-aggregation-algorithm",
        "weighted-exponential",
        |s| {
            s.aggregation = Aggregation::WeightedExponential;
        },
    ),
    ("metricAggregationAlgorithm", "linear", |_| {}),
];

#[test]
fn every_annotation_sets_its_parameter() {
    for (name, value, change) in SETTINGS {
        let mut expected = AutoscaleSpec::default();
        change(&mut expected);
        assert_eq!(
            annotated(&format!("{KNATIVE}{name}"), value),
            Ok(expected),
            "{name}: {value}"
        );
    }
}

#[test]
fn bad_values_are_refused_by_name() {
    let cases = [
        ("class", "foo.autoscaling.knative.dev"),
        ("class", "keda"),
        ("metric", "qps"),
        ("metric", "cpu"),
        ("target", "0.009"),
        ("target", "many"),
        ("target", "NaN"),
        ("target", "inf"),
        ("min-scale", "-1"),
        ("min-scale", "1.5"),
        ("min-scale", "2147483648"),
        ("max-scale", "x"),
        ("initial-scale", "-1"),
        ("initial-scale", "one"),
        ("activation-scale", "0"),
        ("scale-down-delay", "-1s"),
        ("scale-down-delay", "61m"),
        ("scale-down-delay", "1.5s"),
        ("scale-down-delay", "15"),
        ("window", "5s"),
        ("window", "3601s"),
        ("window", "6500ms"),
        ("window", "60"),
        ("panic-window-percentage", "0.9"),
        ("panic-window-percentage", "101"),
        ("panic-window-percentage", "10%"),
        ("panic-threshold-percentage", "109"),
        ("panic-threshold-percentage", "1001"),
        ("target-utilization-percentage", "0"),
        ("target-utilization-percentage", "100.1"),
        ("target-burst-capacity", "-2"),
        ("target-burst-capacity", "-0.5"),
        ("scale-to-zero-pod-retention-period", "-1s"),
        ("scale-to-zero-pod-retention-period", "1h1ns"),
        ("metric-aggregation-algorithm", "median"),
    ];
    for (name, value) in cases {
        let full = format!("{KNATIVE}{name}");
        let error = annotated(&full, value).expect_err(&format!("{name}: {value}"));
        assert!(
            error
                .to_string()
                .starts_with(&format!("annotation {full}: ")),
            "{error}"
        );
        assert_eq!(error.code(), Code::InvalidArgument);
    }
    let message = |name: &str, value: &str| annotated(name, value).unwrap_err().to_string();
    assert_eq!(
        message("autoscaling.knative.dev/window", "5s"),
        "annotation autoscaling.knative.dev/window: \"5s\" is not a duration from 6s to 3600s, in whole seconds"
    );
    assert_eq!(
        message("autoscaling.knative.dev/metric", "qps"),
        "annotation autoscaling.knative.dev/metric: \"qps\" is not concurrency or rps"
    );
    assert_eq!(
        message("autoscaling.knative.dev/target", "0"),
        "annotation autoscaling.knative.dev/target: \"0\" is not a number of at least 0.01"
    );
}

#[test]
fn bad_fields_are_refused() {
    let bad = [
        ComponentScaling {
            scale_target: Some(0),
            ..ComponentScaling::default()
        },
        ComponentScaling {
            container_concurrency: Some(-1),
            ..ComponentScaling::default()
        },
        ComponentScaling {
            container_concurrency: Some(1_001),
            ..ComponentScaling::default()
        },
    ];
    for component in bad {
        assert!(read(component, &[]).is_err(), "{component:?}");
    }
    let component = ComponentScaling {
        max_replicas: Some(2),
        ..ComponentScaling::default()
    };
    assert!(
        read(
            component,
            &[("autoscaling.knative.dev/activation-scale", "3")]
        )
        .is_err()
    );
}

#[test]
fn extensions_are_read_and_refused() {
    let spec = |name: &str, value: &str| annotated(&format!("{OURS}{name}"), value);
    assert_eq!(
        spec("target-p99", "50ms").unwrap().latency_p99_target,
        Some(Duration::from_millis(50))
    );
    assert_eq!(
        spec("target-queue-depth", "2.5")
            .unwrap()
            .queue_depth_target,
        Some(2.5)
    );
    let prediction = |period, lead| {
        Some(Prediction {
            period,
            lead: seconds(lead),
        })
    };
    assert_eq!(
        spec("predictive", "auto").unwrap().prediction,
        prediction(Period::Detected, 30)
    );
    assert_eq!(
        spec("predictive", "24h").unwrap().prediction,
        prediction(Period::Given(seconds(86_400)), 30)
    );
    assert_eq!(spec("predictive", "off").unwrap().prediction, None);
    let lead = [
        ("serving.coracle.dev/autoscale-predictive", "1h"),
        ("serving.coracle.dev/autoscale-predictive-lead", "90s"),
    ];
    let given = read(ComponentScaling::default(), &lead).unwrap().prediction;
    assert_eq!(given, prediction(Period::Given(seconds(3_600)), 90));
    let bad = [
        ("target-p99", "0s"),
        ("target-p99", "50"),
        ("target-queue-depth", "0"),
        ("predictive", "yes"),
        ("predictive", "59s"),
        ("predictive", "169h"),
        ("predictive-lead", "0s"),
        ("predictive-lead", "2h"),
    ];
    for (name, value) in bad {
        assert!(spec(name, value).is_err(), "{name}: {value}");
    }
}

#[test]
fn unknown_annotations_are_errors_in_our_namespace_and_known_as_such_in_knative_s() {
    let error = annotated("serving.coracle.dev/autoscale-predictiv", "auto").unwrap_err();
    assert!(
        error
            .to_string()
            .contains("known are serving.coracle.dev/autoscale-target-p99"),
        "{error}"
    );
    assert!(annotated("serving.coracle.dev/sticky", "header=x").is_ok());
    assert!(annotated("autoscaling.knative.dev/minscale", "4").is_ok());
    let unknown = annotations::is_unknown_annotation;
    assert!(unknown("autoscaling.knative.dev/minscale"));
    assert!(!unknown("autoscaling.knative.dev/minScale"));
    assert!(!unknown("serving.coracle.dev/autoscale-predictive"));
    assert!(!unknown("prometheus.io/port"));
}

/// Values are outside text: whatever they are, they are read into the allowed ranges or refused.
#[test]
fn random_values_are_read_within_ranges_or_refused() {
    const PIECES: [&str; 24] = [
        "0",
        "1",
        "9",
        "60",
        "1e9",
        "-",
        "+",
        ".",
        "s",
        "m",
        "h",
        "ms",
        "ns",
        "µs",
        "NaN",
        "inf",
        "%",
        " ",
        "auto",
        "linear",
        "rps",
        "99999999999999999999",
        "é",
        "\u{0}",
    ];
    let mut random = crate::random::Random::new(3);
    let mut n_read = 0;
    for _ in 0..20_000 {
        let mut pick = |n: usize| (random.next_u64() % n as u64) as usize;
        let name = annotations::ALL[pick(annotations::ALL.len())].to_string();
        let value: String = (0..=pick(3)).map(|_| PIECES[pick(PIECES.len())]).collect();
        let Ok(spec) = annotated(&name, &value) else {
            continue;
        };
        n_read += 1;
        let target = spec.target_per_replica();
        assert!(target.is_finite() && target >= 0.01, "{name}: {value:?}");
        assert!(
            (WINDOW_MIN..=WINDOW_MAX).contains(&spec.stable_window),
            "{name}: {value:?}"
        );
        assert!(spec.panic_window >= seconds(1) && spec.panic_window <= spec.stable_window);
        assert!(
            (1.1..=10.0).contains(&spec.panic_threshold),
            "{name}: {value:?}"
        );
        assert!(spec.max_replicas == 0 || spec.min_replicas <= spec.max_replicas);
        assert!(spec.scale_down_delay <= WINDOW_MAX && spec.pod_retention_period <= WINDOW_MAX);
    }
    assert!(n_read > 500, "{n_read} were read");
}
