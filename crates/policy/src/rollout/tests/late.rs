//! Requests that count as slow before they end, and whose errors come when they do.

use super::*;

fn both(stable: u64, canary: Counts) -> Interval {
    let stable = Counts {
        requests: stable,
        ..Counts::default()
    };
    Interval { stable, canary }
}

fn hanging(n: u64) -> Counts {
    Counts {
        requests: n,
        errors: 0,
        slow: n,
    }
}

fn failing(n: u64) -> Counts {
    Counts {
        errors: n,
        ..Counts::default()
    }
}

/// Whatever is slow is allowed, so that only errors can send a canary back.
fn only_errors() -> RolloutSpec {
    RolloutSpec {
        slow_rate_allowed: 0.999,
        ..RolloutSpec::default()
    }
}

#[test]
fn errors_that_come_after_their_requests_count() {
    for stable in [0, 100] {
        let spec = only_errors();
        let mut rollout = Rollout::new(Duration::ZERO);
        rollout.observe(&spec, both(2_000, hanging(100)));
        rollout.observe(&spec, both(stable, failing(60)));
        rollout.observe(&spec, both(stable, failing(40)));
        assert_eq!(rollout.in_step.canary.errors, 100);
        let verdict = rollout.decide(&spec, Duration::from_secs(3_600));
        let Verdict::RollBack(checks) = &verdict else {
            panic!("{verdict}");
        };
        assert_eq!(checks[0].kind, CheckKind::Errors);
    }
}

#[test]
fn errors_of_an_earlier_stages_requests_wait_for_requests_and_are_not_lost() {
    let spec = only_errors();
    let mut rollout = Rollout::new(Duration::ZERO);
    rollout.observe(&spec, both(2_000, hanging(50)));
    rollout.advance(Duration::from_secs(300));
    rollout.observe(&spec, both(100, failing(50)));
    let counts = |rollout: &Rollout| {
        (
            rollout.in_step.canary.requests,
            rollout.in_step.canary.errors,
        )
    };
    assert_eq!(counts(&rollout), (0, 0));
    let clean = Counts {
        requests: 30,
        ..Counts::default()
    };
    rollout.observe(&spec, both(100, clean));
    assert_eq!(counts(&rollout), (30, 30));
    rollout.observe(&spec, both(100, clean));
    assert_eq!(counts(&rollout), (60, 50));
    rollout.observe(&spec, both(100, clean));
    assert_eq!(counts(&rollout), (90, 50));
}
