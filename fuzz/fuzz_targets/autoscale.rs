//! Reads lines of `annotation=value` as a manifest's scaling; what is accepted must be within its ranges, and decide whatever it sees.
#![no_main]

use std::time::Duration;

use coracle_policy::autoscale::{
    AutoscaleSpec, Autoscaler, ComponentScaling, KeepWarm, Ready, Sample,
};
use libfuzzer_sys::fuzz_target;

const SECOND: Duration = Duration::from_secs(1);

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(keep_warm) = KeepWarm::parse(&text) {
        std::hint::black_box(keep_warm.contains(Duration::from_secs(bytes.len() as u64 * 1_000)));
    }
    let annotations = text.lines().filter_map(|line| line.split_once('='));
    let Ok(spec) = AutoscaleSpec::try_new(ComponentScaling::default(), annotations) else {
        return;
    };
    let target = spec.target_per_replica();
    assert!(target.is_finite() && target >= 0.01);
    assert!(spec.panic_window >= SECOND && spec.panic_window <= spec.stable_window);
    assert!(spec.max_replicas == 0 || spec.min_replicas <= spec.max_replicas);
    let most = spec.max_replicas;
    let mut autoscaler = Autoscaler::new(spec, SECOND);
    let mut ready = 0;
    for (second, byte) in (1_u32..).zip(bytes.iter().take(300)) {
        let load = f64::from(*byte);
        let sample = Sample {
            // Some of these are no numbers.
            concurrency: load / f64::from(*byte % 7),
            requests: load,
            arrived: (*byte % 5 > 0).then_some(load),
            queue_depth: load / 2.0,
            cpu_cores: load / 8.0,
            memory_bytes: load * 1e7,
            latency_p99: (*byte % 3 > 0).then_some(Duration::from_millis(u64::from(*byte))),
        };
        autoscaler.record(SECOND * second, sample);
        let decision = autoscaler.decide(SECOND * second, Ready::new(ready));
        assert!(most == 0 || decision.desired <= most);
        assert!(!decision.reason.to_string().is_empty());
        ready = decision.desired;
    }
});
