//! Bandits that choose by what is known of the request.

use super::*;

fn linear(names: &[&str]) -> PlannedExperiment {
    let feature = |name: &&str| PlannedFeature {
        name: (*name).to_owned(),
        source: UnitSource::Header(format!("x-{name}")),
    };
    PlannedExperiment {
        allocation: Allocation::Bandit {
            strategy: BanditStrategy::LinUcb(0.5),
            floor: 0.2,
        },
        features: names.iter().map(feature).collect(),
        ..planned()
    }
}

fn decided<'e>(experiments: &'e RouteExperiments, feature: Option<f64>) -> Decision<'e> {
    let read = |_source: &UnitSource| feature;
    match experiments.decide(|_source| Some("u".to_owned()), read) {
        Decided::Variant(decision, _) => decision,
        Decided::Outside => panic!("in it"),
    }
}

/// Plays `rounds` requests whose feature is -1 and 1 in turn; variant a is right for the one, b for the other. Returns how many had the right one.
fn play(
    fixture: &Fixture,
    planned: &PlannedExperiment,
    book: &Arc<Book>,
    rounds: std::ops::Range<u32>,
) -> u32 {
    let experiments = split(planned, book);
    let mut n_right = 0;
    for round in rounds {
        let feature = if round % 2 == 0 { -1.0 } else { 1.0 };
        let decision = decided(&experiments, Some(feature));
        assert_eq!(
            (decision.by, decision.features.as_slice()),
            (Some(By::Bandit), &[feature][..])
        );
        let variant = decision.split.variant(decision.variant).to_owned();
        let is_right = (variant == "b") == (feature > 0.0);
        n_right += u32::from(is_right);
        let request = format!("r{round}");
        book.expose(Exposure {
            request_id: request.clone(),
            propensity: decision.propensity,
            features: vec![("side".to_owned(), feature)],
            ..exposure("u", &variant, true)
        });
        let reward = f64::from(u8::from(is_right));
        let told = outcome(of_request(&request), "converted", reward, None);
        assert_eq!(fixture.record(book, vec![told]), [Ok(Taken::Counted)]);
    }
    n_right
}

#[test]
fn what_fits_the_request_is_learnt_and_remembered() {
    let planned = linear(&["side"]);
    let fixture = Fixture::new();
    let book = fixture.open(&planned);
    fixture.settle(&book);
    play(&fixture, &planned, &book, 0..300);
    // The floor gives the wrong one a tenth.
    let n_right = play(&fixture, &planned, &book, 300..500);
    assert!(n_right > 160, "{n_right}");
    let standing = book.standing();
    let weights = |standing: &Standing| -> Vec<Vec<(String, f64)>> {
        standing
            .arms
            .iter()
            .map(|arm| arm.weights.clone())
            .collect()
    };
    let before = weights(&standing);
    // a earns 1 at -1 and 0 at 1: half a reward, less half of the feature.
    for ((variant, sign), arm) in [("a", -0.5), ("b", 0.5)].into_iter().zip(&before) {
        let [(constant, half), (side, slope)] = arm.as_slice() else {
            panic!("{arm:?}")
        };
        assert_eq!((constant.as_str(), side.as_str()), ("constant", "side"));
        assert!(
            (half - 0.5).abs() < 0.05 && (slope - sign).abs() < 0.05,
            "{variant} {arm:?}"
        );
    }
    // Either variant alone would be right in every second request.
    for estimate in &standing.off_policy {
        let robust = estimate.doubly_robust.unwrap();
        let error = (robust - 0.5).abs();
        assert!(error < 4.0 * estimate.standard_error, "{estimate:?}");
        assert!(estimate.standard_error < 0.05, "{estimate:?}");
    }
    drop(book);
    // Another server goes on with the same.
    let fixture = fixture.again();
    let book = fixture.open(&planned);
    fixture.settle(&book);
    assert_eq!(weights(&book.standing()), before);
    let n_right = play(&fixture, &planned, &book, 500..700);
    assert!(n_right > 160, "{n_right}");
    // By other features nothing is known.
    let others = linear(&["other"]);
    let book = fixture.open(&others);
    fixture.settle(&book);
    let weights = weights(&book.standing());
    assert!(weights.iter().flatten().all(|(_, weight)| *weight == 0.0));
    fixture.experiments.stop();
}

#[test]
fn a_request_without_a_feature_gets_the_control() {
    let planned = PlannedExperiment {
        control: 1,
        ..linear(&["side"])
    };
    let fixture = Fixture::new();
    let book = fixture.open(&planned);
    fixture.settle(&book);
    let experiments = split(&planned, &book);
    for feature in [None, Some(f64::NAN), Some(1e300)] {
        let decision = decided(&experiments, feature);
        assert_eq!((decision.variant, decision.by), (1, None), "{feature:?}");
    }
    assert_eq!(book.standing().n_unassigned, 3);
    // While nothing is known the first one is best, but for the floor: each choice says how probable it was.
    let decision = decided(&experiments, Some(0.5));
    let expected = if decision.variant == 0 { 0.9 } else { 0.1 };
    let propensity = decision.propensity.unwrap();
    assert!((propensity - expected).abs() < 1e-12, "{decision:?}");
    drop(experiments);
    fixture.experiments.stop();
}

#[test]
fn what_is_learnt_is_in_a_file_that_is_written_anew() {
    let planned = linear(&["side"]);
    let mut ledger = ledger(100);
    for round in 0..20_u32 {
        let (unit, variant) = (format!("u{round}"), if round % 3 == 0 { "b" } else { "a" });
        let mut shown = record_exposure(&unit, variant, 1);
        if let Record::Exposure { features, .. } = &mut shown {
            *features = vec![("side".into(), f64::from(round) / 7.0)];
        }
        ledger.apply(shown, &planned);
        // Half of the outcomes come later.
        if round % 2 == 0 {
            let told = record_outcome(&unit, "converted", f64::from(round % 5) / 5.0);
            ledger.apply(told, &planned);
        }
    }
    let mut again = self::ledger(100);
    let mut lines = Vec::new();
    let written = ledger.each_record(Counters::default(), &mut |record| {
        lines.push(LINES.line(record)?);
        Ok(())
    });
    written.unwrap();
    for line in &lines {
        again.apply(LINES.record(line).unwrap(), &planned);
    }
    for ledger in [&mut ledger, &mut again] {
        for round in (1..20_u32).step_by(2) {
            let told = record_outcome("", "converted", 1.0);
            let unit = format!("u{round}");
            let Record::Outcome {
                at, id, metrics, ..
            } = told
            else {
                panic!()
            };
            let told = Record::Outcome {
                at,
                unit: unit.as_str().into(),
                request_id: None,
                id,
                metrics,
                late: Vec::new(),
            };
            ledger.apply(told, &planned);
        }
    }
    let standing = standing_of(&ledger, &planned);
    assert_eq!(standing.arms, standing_of(&again, &planned).arms);
    assert_eq!(
        standing.off_policy,
        standing_of(&again, &planned).off_policy
    );
    assert!(standing.arms.iter().all(|arm| arm.weights[1].1 != 0.0));
}

#[test]
fn outcomes_of_requests_chosen_by_other_features_teach_nothing_of_these() {
    let (before, now) = (linear(&["night"]), linear(&["age"]));
    let shown = |unit: &'static str, name: &'static str, feature: f64| {
        let mut shown = record_exposure(unit, "a", 1);
        if let Record::Exposure { features, .. } = &mut shown {
            *features = vec![(name.into(), feature)];
        }
        shown
    };
    let weights = |ledger: &Ledger| {
        let standing = standing_of(ledger, &now);
        standing.arms[0].weights.clone()
    };
    // Whether the change is noticed by a request or by an outcome.
    for is_asked_first in [true, false] {
        let mut ledger = ledger(10);
        ledger.apply(shown("old", "night", 1.0), &before);
        if is_asked_first {
            ledger.apply(shown("new", "age", 0.5), &now);
        }
        ledger.apply(record_outcome("old", "converted", 1.0), &now);
        let learnt = weights(&ledger);
        assert!(
            learnt.iter().all(|(_, weight)| *weight == 0.0),
            "{learnt:?}"
        );
        ledger.apply(shown("newer", "age", 0.5), &now);
        ledger.apply(record_outcome("newer", "converted", 1.0), &now);
        let learnt = weights(&ledger);
        assert!(learnt.iter().all(|(_, weight)| *weight > 0.0), "{learnt:?}");
    }
}
