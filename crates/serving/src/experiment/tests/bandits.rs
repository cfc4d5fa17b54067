//! Bandits whose variants are chosen by their rewards alone.

use super::*;

#[test]
fn bandits_learn_log_propensities_and_remember() {
    let mut planned = planned();
    planned.allocation = Allocation::Bandit {
        strategy: BanditStrategy::EpsilonGreedy(0.1),
        floor: 0.0,
    };
    let fixture = Fixture::new();
    let book = fixture.open(&planned);
    let experiments = split(&planned, &book);
    let draw = || match experiments.decide(|_source| Some("u".to_owned()), |_source| None) {
        Decided::Variant(decision, _) => decision,
        Decided::Outside => panic!("in it"),
    };
    fixture.settle(&book);
    for index in 0..200 {
        let decision = draw();
        assert_eq!(decision.by, Some(By::Bandit));
        let variant = decision.split.variant(decision.variant).to_owned();
        let mut exposure = exposure("u", &variant, true);
        exposure.request_id = format!("r{index}");
        exposure.propensity = decision.propensity;
        book.expose(exposure);
        let reward = f64::from(u8::from(variant == "b"));
        let about = of_request(&format!("r{index}"));
        let taken = fixture.record(&book, vec![outcome(about, "converted", reward, None)]);
        assert_eq!(taken, [Ok(Taken::Counted)]);
    }
    let standing = book.standing();
    let [a, b] = standing.arms.as_slice() else {
        panic!("two arms");
    };
    assert!(a.mean < 1e-9 && b.mean > 1.0 - 1e-9 && b.rewards > 150);
    assert!((b.propensity - 0.95).abs() < 1e-9, "{}", b.propensity);
    let always_b = &standing.off_policy[1];
    assert!((always_b.self_normalised - 1.0).abs() < 1e-9);
    let rewards = (a.rewards, b.rewards);
    drop((book, experiments));
    let fixture = fixture.again();
    let book = fixture.open(&planned);
    fixture.settle(&book);
    let arms = book.standing().arms;
    assert_eq!((arms[0].rewards, arms[1].rewards), rewards);
    assert!((arms[1].propensity - 0.95).abs() < 1e-9);
    fixture.experiments.stop();
}

#[test]
fn a_bandit_is_credited_with_what_it_drew_alone() {
    let thompson = PlannedExperiment {
        allocation: Allocation::Bandit {
            strategy: BanditStrategy::Thompson,
            floor: 0.0,
        },
        ..planned()
    };
    let mut not_drawn = record_exposure("fixed", "a", 1);
    if let Record::Exposure { propensity, .. } = &mut not_drawn {
        *propensity = None;
    }
    let told = |unit: &'static str| record_outcome(unit, "converted", 1.0);
    // Fixed, then drawn, then fixed again when the outcome of the draw comes.
    let records = [
        (planned(), not_drawn),
        (planned(), told("fixed")),
        (thompson.clone(), record_exposure("drawn", "b", 2)),
        (thompson.clone(), told("fixed")),
        (thompson.clone(), told("drawn")),
        (planned(), told("drawn")),
    ];
    let (mut live, mut read) = (ledger(10), ledger(10));
    for (planned, record) in records {
        live.apply(record.clone(), &planned);
        read.apply(record, &thompson);
    }
    let (live, read) = (standing_of(&live, &thompson), standing_of(&read, &thompson));
    let rewards: Vec<u64> = live.arms.iter().map(|arm| arm.rewards).collect();
    assert_eq!(rewards, [0, 2]);
    assert_eq!((live.arms, live.off_policy), (read.arms, read.off_policy));
}

/// A Sum of 2 and one of 40 would both be the reward 1.
#[test]
fn a_reward_outside_of_its_range_is_refused_by_name() {
    let mut planned = planned();
    planned.allocation = Allocation::Bandit {
        strategy: BanditStrategy::Thompson,
        floor: 0.1,
    };
    let fixture = Fixture::new();
    let told = |planned: &PlannedExperiment, value: f64| {
        let book = fixture.open(planned);
        let mut exposure = exposure("u", "a", true);
        exposure.request_id = "r".to_owned();
        exposure.propensity = Some(0.5);
        book.expose(exposure);
        let told = outcome(of_request("r"), "converted", value, None);
        fixture.record(&book, vec![told]).remove(0)
    };
    // Of a conversion counts whether it is above 0.
    assert_eq!(told(&planned, 40.0), Ok(Taken::Counted));
    planned.metrics[0].kind = MetricForm::Sum;
    planned.uid = "another".to_owned();
    assert_eq!(told(&planned, 0.4), Ok(Taken::Counted));
    let refused = told(&planned, 40.0).unwrap_err().to_string();
    assert_eq!(
        refused,
        "metric \"converted\" is 40: it rewards a bandit, which takes values between 0 and 1"
    );
}
