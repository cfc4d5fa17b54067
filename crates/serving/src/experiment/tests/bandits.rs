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

/// Without a floor UCB1 chooses for certain: of what the other would have earned in its place nothing is known. Rewards of 1 for either looked like half of it by inverse propensities.
#[test]
fn what_could_not_be_chosen_has_no_estimate() {
    let planned = PlannedExperiment {
        allocation: Allocation::Bandit {
            strategy: BanditStrategy::Ucb1,
            floor: 0.0,
        },
        ..planned()
    };
    let fixture = Fixture::new();
    let book = fixture.open(&planned);
    let earn = |request: &str, variant, propensity| {
        book.expose(Exposure {
            request_id: request.to_owned(),
            propensity: Some(propensity),
            ..exposure(request, variant, true)
        });
        let told = outcome(of_request(request), "converted", 1.0, None);
        assert!(fixture.record(&book, vec![told])[0].is_ok());
    };
    let known = || {
        let estimates = book.standing().off_policy.into_iter();
        estimates.map(|one| one.variant).collect::<Vec<_>>()
    };
    earn("r1", "a", 1.0);
    assert_eq!(known(), ["a"]);
    earn("r2", "b", 1.0);
    assert!(known().is_empty());
}

/// Who comes again long after his first request is drawn for anew: his successes count as his failures do.
#[test]
fn a_reward_is_late_after_the_window_of_its_own_draw() {
    let mut planned = PlannedExperiment {
        allocation: Allocation::Bandit {
            strategy: BanditStrategy::Thompson,
            floor: 0.0,
        },
        ..planned()
    };
    planned.metrics[0].window_ms = Some(1_000);
    let fixture = Fixture::new();
    let book = fixture.open(&planned);
    // The fixture's clock stands at 1,000 s.
    for (request, at, ok) in [
        ("r1", 1_000, true),
        ("r2", 999_500, true),
        ("r3", 999_600, false),
    ] {
        book.expose(Exposure {
            at,
            request_id: request.to_owned(),
            propensity: Some(0.5),
            ..exposure("u", "b", ok)
        });
    }
    let told = |book: &Arc<Book>| {
        let about = [of_request("r1"), of_request("r2"), of_unit("u")];
        let outcomes = about.map(|about| outcome(about, "converted", 1.0, None));
        fixture.record(book, outcomes.into())
    };
    use Taken::{Counted, Late};
    assert_eq!(told(&book), [Late, Counted, Counted].map(Ok));
    let arm = |book: &Book| {
        let arm = &book.standing().arms[1];
        (arm.rewards, arm.mean)
    };
    let rewards = arm(&book);
    assert_eq!(rewards, (3, 2.0 / 3.0));
    // Nobody was shown the other one: what it would have earned cannot be told.
    let estimates = book.standing().off_policy;
    let variants: Vec<&str> = estimates.iter().map(|one| one.variant.as_str()).collect();
    assert_eq!(variants, ["b"]);
    // A file that is written anew knows when he came last.
    let mut read = ledger(10);
    let written = book
        .ledger()
        .each_record(Counters::default(), &mut |record| {
            let line = LINES.line(record)?;
            read.apply(LINES.record(&line).unwrap(), &planned);
            Ok(())
        });
    written.unwrap();
    let of_last = outcome(of_unit("u"), "converted", 1.0, None);
    assert_eq!(read.late(&planned, ("u", &of_last), 1_000_499), [false]);
    assert_eq!(read.late(&planned, ("u", &of_last), 1_000_500), [true]);
    drop(book);
    let fixture = fixture.again();
    let book = fixture.open(&planned);
    fixture.settle(&book);
    assert_eq!(arm(&book), rewards);
    fixture.experiments.stop();
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
    let earned = |planned: &PlannedExperiment| {
        let arm = &fixture.open(planned).standing().arms[0];
        (arm.rewards, (arm.mean * 1e9).round() / 1e9)
    };
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
    for (value, reward) in [
        (40.0, (1, 1.0)),
        (0.25, (2, 1.0)),
        (-1.0, (3, 0.666_666_667)),
    ] {
        assert_eq!(told(&planned, value), Ok(Taken::Counted));
        assert_eq!(earned(&planned), reward, "{value}");
    }
    planned.metrics[0].is_lower_better = true;
    planned.uid = "a third".to_owned();
    assert_eq!(told(&planned, 0.25), Ok(Taken::Counted));
    assert_eq!(earned(&planned), (1, 0.0));
    planned.metrics[0].is_lower_better = false;
    planned.metrics[0].kind = MetricForm::Sum;
    planned.uid = "another".to_owned();
    assert_eq!(told(&planned, 0.25), Ok(Taken::Counted));
    assert_eq!(earned(&planned), (1, 0.25));
    let refused = told(&planned, 40.0).unwrap_err().to_string();
    assert_eq!(
        refused,
        "metric \"converted\" is 40: it rewards a bandit, which takes values between 0 and 1"
    );
}

/// Plays 400 requests, one of five of which that `a` answers earns 1; `b` answers none, and nobody tells what came of nothing. Returns how many went to `b`.
fn play_with_one_that_fails(fixture: &Fixture, planned: &PlannedExperiment) -> u32 {
    let book = fixture.open(planned);
    fixture.settle(&book);
    let experiments = split(planned, &book);
    let (mut n_failed, mut n_answered) = (0, 0);
    for index in 0..400 {
        let unit = format!("u{index}");
        let decided = experiments.decide(|_source| Some(unit.clone()), |_source| Some(0.5));
        let Decided::Variant(decision, _) = decided else {
            panic!("in it");
        };
        let variant = decision.split.variant(decision.variant).to_owned();
        let is_answered = variant == "a";
        let names = planned.features.iter().map(|feature| feature.name.clone());
        book.expose(Exposure {
            propensity: decision.propensity,
            features: names.zip(decision.features).collect(),
            ..exposure(&unit, &variant, is_answered)
        });
        let outcomes = match is_answered {
            true => {
                n_answered += 1;
                let reward = f64::from(u8::from(n_answered % 5 == 0));
                vec![outcome(of_unit(&unit), "converted", reward, None)]
            }
            false => {
                n_failed += 1;
                vec![]
            }
        };
        fixture.record(&book, outcomes);
    }
    n_failed
}

#[test]
fn users_are_not_sent_to_the_variant_that_fails() {
    let feature = PlannedFeature {
        name: "side".to_owned(),
        source: UnitSource::Header("x-side".to_owned()),
    };
    for (strategy, features) in [
        (BanditStrategy::Thompson, vec![]),
        (BanditStrategy::Ucb1, vec![]),
        (BanditStrategy::EpsilonGreedy(0.1), vec![]),
        (BanditStrategy::LinUcb(0.5), vec![feature]),
    ] {
        let floor = 0.01;
        let planned = PlannedExperiment {
            allocation: Allocation::Bandit { strategy, floor },
            features,
            ..planned()
        };
        let fixture = Fixture::new();
        let n_failed = play_with_one_that_fails(&fixture, &planned);
        // UCB1 asks it longest: until sqrt(2 ln(400) / n) is less than what the other has earned and may earn.
        assert!(n_failed < 120, "{strategy:?}: {n_failed} of 400");
        let book = fixture.open(&planned);
        fixture.settle(&book);
        let before = book.standing().arms;
        assert_eq!(
            (before[1].rewards, before[1].mean),
            (u64::from(n_failed), 0.0)
        );
        drop(book);
        // It is known after a restart, too.
        let fixture = fixture.again();
        let book = fixture.open(&planned);
        fixture.settle(&book);
        let after = book.standing().arms;
        let rewards = |arms: &[ArmStanding]| -> Vec<(u64, f64)> {
            arms.iter().map(|arm| (arm.rewards, arm.mean)).collect()
        };
        assert_eq!(rewards(&after), rewards(&before));
        fixture.experiments.stop();
    }
}

#[test]
fn a_choice_that_failed_earns_nothing_once() {
    let planned = PlannedExperiment {
        allocation: Allocation::Bandit {
            strategy: BanditStrategy::Thompson,
            floor: 0.0,
        },
        ..planned()
    };
    let shown = |id: &'static str, variant: &'static str, is_answered: bool| {
        let mut record = record_exposure("u", variant, 1);
        if let Record::Exposure { request_id, ok, .. } = &mut record {
            (*request_id, *ok) = (id.into(), is_answered);
        }
        record
    };
    let told = |request: Option<&'static str>| {
        let mut record = record_outcome("u", "converted", 1.0);
        if let Record::Outcome { request_id, .. } = &mut record {
            *request_id = request.map(Into::into);
        }
        record
    };
    let rewards = |ledger: &Ledger| -> Vec<(u64, f64)> {
        let standing = standing_of(ledger, &planned);
        standing
            .arms
            .iter()
            .map(|arm| (arm.rewards, arm.mean))
            .collect()
    };
    let mut live = ledger(10);
    for (record, expected) in [
        (shown("r1", "b", false), [(0, 0.0), (1, 0.0)]),
        // Nothing was shown that this could come of.
        (told(Some("r1")), [(0, 0.0), (1, 0.0)]),
        (told(None), [(0, 0.0), (1, 0.0)]),
        (shown("r2", "a", true), [(0, 0.0), (1, 0.0)]),
        (shown("r3", "b", false), [(0, 0.0), (2, 0.0)]),
        // What comes of the user comes of what was shown last.
        (told(None), [(1, 1.0), (2, 0.0)]),
        (told(Some("r3")), [(1, 1.0), (2, 0.0)]),
        // The same request again is another draw.
        (shown("r3", "b", true), [(1, 1.0), (2, 0.0)]),
        (told(Some("r3")), [(1, 1.0), (3, 1.0 / 3.0)]),
        (shown("r4", "b", false), [(1, 1.0), (4, 0.25)]),
    ] {
        live.apply(record.clone(), &planned);
        assert_eq!(rewards(&live), expected, "{record:?}");
    }
    // The metric of the user has all that was told.
    assert_eq!(live.units["u"].cells[0].n, 5);
    let logged: Vec<(u8, f32, f32)> = live.rewards.log.iter().copied().collect();
    let (a, b) = (1, 0);
    assert_eq!(
        logged,
        [
            (b, 0.25, 0.0),
            (b, 0.25, 0.0),
            (a, 0.25, 1.0),
            (b, 0.25, 1.0),
            (b, 0.25, 0.0)
        ]
    );
    // A file that is written anew says the same.
    let mut read = ledger(10);
    live.each_record(Counters::default(), &mut |record| {
        read.apply(record.clone(), &planned);
        Ok(())
    })
    .unwrap();
    read.apply(told(Some("r4")), &planned);
    assert_eq!(rewards(&read), rewards(&live));
}

#[test]
fn a_caller_that_leaves_is_no_error_and_waited_so_long_at_least() {
    let planned = PlannedExperiment {
        allocation: Allocation::Bandit {
            strategy: BanditStrategy::Thompson,
            floor: 0.0,
        },
        ..planned()
    };
    let fixture = Fixture::new();
    let book = fixture.open(&planned);
    for (unit, end) in [
        ("u1", ExposureEnd::Left),
        ("u2", ExposureEnd::Answered),
        ("u3", ExposureEnd::Failed),
    ] {
        book.expose(Exposure {
            end,
            propensity: Some(0.5),
            ..exposure(unit, "b", true)
        });
    }
    fixture.settle(&book);
    let before = shown(&book);
    let (name, units, requests, errors, metrics) = &before[1];
    assert_eq!((name.as_str(), *units, *requests, *errors), ("b", 3, 3, 1));
    let errors = &metrics[2];
    assert!((errors.mean - 1.0 / 3.0).abs() < 1e-9, "{errors:?}");
    // Nobody was served, so nothing comes of it.
    let arm = &book.standing().arms[1];
    assert_eq!((arm.rewards, arm.mean), (2, 0.0));
    drop(book);
    let fixture = fixture.again();
    let book = fixture.open(&planned);
    fixture.settle(&book);
    assert_eq!(shown(&book), before);
    assert_eq!(book.standing().arms[1].rewards, 2);
    fixture.experiments.stop();
}
