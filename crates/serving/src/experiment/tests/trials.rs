//! Stages of rollouts.

use coracle_policy::rollout::Predicted;

use super::*;

fn stage(since_ms: u64) -> PlannedExperiment {
    let target = |name: &str| VariantTarget::Revision(format!("iris-predictor-0000{name}"));
    let variant = |name: &str, target| PlannedVariant {
        name: name.to_owned(),
        weight: 1,
        target,
    };
    PlannedExperiment {
        name: "rollout:careful".to_owned(),
        variants: vec![variant(STABLE, target("1")), variant(CANARY, target("2"))],
        unit: UnitSource::Request,
        metrics: vec![metric("converted", MetricForm::Conversion)],
        stage: Some(PlannedStage {
            since_ms,
            predictions: true,
            ..PlannedStage::default()
        }),
        ..planned()
    }
}

fn shown_at(unit: &str, variant: &str, at: u64) -> Exposure {
    Exposure {
        at,
        request_id: format!("r-{unit}-{at}"),
        by: By::Route,
        ..exposure(unit, variant, true)
    }
}

/// Units with a value, and the mean of their values, of both revisions.
fn outcomes(book: &Book) -> [(u64, f64); 2] {
    let stage = book.summary().stage.unwrap();
    let ((stable, stable_mean, _), (canary, canary_mean, _)) = stage.outcomes[0];
    [(stable, stable_mean), (canary, canary_mean)]
}

#[test]
fn a_stage_has_its_own_units_and_outcomes() {
    let fixture = Fixture::new();
    let book = fixture.open(&stage(1_000));
    book.expose(shown_at("u1", STABLE, 1_001));
    book.expose(shown_at("u2", CANARY, 1_002));
    let converted = |about, value| outcome(about, "converted", value, None);
    let taken = fixture.record(
        &book,
        vec![converted(of_unit("u1"), 1.0), converted(of_unit("u2"), 0.0)],
    );
    assert_eq!(taken, [Ok(Taken::Counted), Ok(Taken::Counted)]);
    assert_eq!(outcomes(&book), [(1, 1.0), (1, 0.0)]);
    // In the next stage both count anew, be it for another revision.
    let book = fixture.open(&stage(2_000));
    fixture.settle(&book);
    assert_eq!(outcomes(&book), [(0, 0.0), (0, 0.0)]);
    book.expose(shown_at("u1", CANARY, 2_001));
    fixture.settle(&book);
    // What is told late of the other revision's request is taken, and does not count.
    let late = converted(of_request("r-u1-1001"), 1.0);
    assert_eq!(fixture.record(&book, vec![late]), [Ok(Taken::Counted)]);
    assert_eq!(outcomes(&book), [(0, 0.0), (0, 0.0)]);
    let own = converted(of_request("r-u1-2001"), 1.0);
    assert_eq!(fixture.record(&book, vec![own]), [Ok(Taken::Counted)]);
    assert_eq!(outcomes(&book), [(0, 0.0), (1, 1.0)]);
    // Nor does what is told of an earlier stage, if the revision is the same.
    let staying = converted(of_request("r-u2-1002"), 1.0);
    book.expose(shown_at("u2", CANARY, 2_001));
    fixture.settle(&book);
    assert_eq!(fixture.record(&book, vec![staying]), [Ok(Taken::Counted)]);
    assert_eq!(outcomes(&book), [(0, 0.0), (1, 1.0)]);
    // Who was shown both in a stage is not counted.
    book.expose(shown_at("u1", STABLE, 2_002));
    fixture.settle(&book);
    assert_eq!(outcomes(&book), [(0, 0.0), (0, 0.0)]);
}

#[test]
fn a_stage_is_read_again_from_its_file() {
    let fixture = Fixture::new();
    let book = fixture.open(&stage(1_000));
    book.expose(shown_at("u1", STABLE, 1_001));
    fixture.settle(&book);
    let book = fixture.open(&stage(2_000));
    for (unit, variant) in [("u1", CANARY), ("u2", STABLE), ("u3", CANARY)] {
        book.expose(shown_at(unit, variant, 2_001));
        let converted = outcome(of_unit(unit), "converted", 1.0, None);
        fixture.record(&book, vec![converted]);
    }
    let before = book.summary();
    assert_eq!(outcomes(&book), [(1, 1.0), (2, 1.0)]);
    drop(book);
    let fixture = fixture.again();
    let book = fixture.open(&stage(2_000));
    fixture.settle(&book);
    assert_eq!(book.summary(), before);
    // Two stages later nobody of the first is remembered.
    for since in [3_000, 4_000] {
        fixture.open(&stage(since));
        fixture.settle(&book);
    }
    let unknown = outcome(of_unit("u2"), "converted", 1.0, None);
    let fault = book.ledger().find(&unknown).unwrap_err().to_string();
    assert!(fault.contains("u2"), "{fault}");
    // Whoever tells of them does not know: it is taken, and does not count.
    assert_eq!(fixture.record(&book, vec![unknown]), [Ok(Taken::Late)]);
    assert_eq!(outcomes(&book), [(0, 0.0), (0, 0.0)]);
}

#[test]
fn predictions_are_compared_within_a_stage() {
    let fixture = Fixture::new();
    let book = fixture.open(&stage(1_000));
    let predict = |variant: &str, label: &'static str| {
        let predicted = [("predict".to_owned(), Predicted::Label(label))];
        book.predicted((variant, None), 0, predicted.into_iter());
    };
    for _ in 0..300 {
        predict(STABLE, "0");
        predict(CANARY, "1");
    }
    let drifts = |book: &Book| book.summary().stage.unwrap().drifts;
    let drift = &drifts(&book)[0];
    assert_eq!((drift.stable, drift.canary), (300, 300));
    assert!(
        drift.stability_index > 1.0 && drift.log_evidence > 10.0,
        "{drift:?}"
    );
    fixture.open(&stage(2_000));
    assert!(drifts(&book).is_empty());
    predict(CANARY, "1");
    assert_eq!(drifts(&book)[0].canary, 1);
}

/// Room of which one rollout takes a quarter at most.
fn stage_ledger(room: usize) -> Ledger {
    Ledger::new(Arc::new(Room::new(room, room / 4)))
}

#[test]
fn a_stage_leaves_room_to_others() {
    let planned = PlannedExperiment {
        unit: UnitSource::Header("x-user".to_owned()),
        ..stage(1_000)
    };
    let mut ledger = stage_ledger(8);
    for unit in ["u1", "u2", "u3"] {
        ledger.apply(record_exposure(unit, STABLE, 1), &planned);
    }
    assert_eq!((ledger.units.len(), ledger.n_units_lost), (2, 1));
    // Whom it knows it goes on to count.
    ledger.apply(record_exposure("u2", STABLE, 1), &planned);
    assert_eq!(ledger.n_units_lost, 1);
}

/// A stage whose units are its requests has as many as there are requests: it goes on deciding when its places are taken.
#[test]
fn a_stage_of_requests_goes_on_when_its_places_are_taken() {
    let mut planned = stage(1_000);
    planned.metrics.push(PlannedMetric {
        zero_if_missing: true,
        ..metric("spent", MetricForm::Sum)
    });
    let (mut small, mut large) = (stage_ledger(32), stage_ledger(10_000));
    for request in 0..500_u32 {
        let unit = format!("r{request}");
        let variant = if request % 10 == 0 { CANARY } else { STABLE };
        for ledger in [&mut small, &mut large] {
            let at = 1_001 + u64::from(request);
            ledger.apply(record_exposure(&unit, variant, at), &planned);
            if request % 3 == 0 {
                let value = f64::from(request % 2);
                ledger.apply(record_outcome(&unit, "converted", value), &planned);
                let value = f64::from(request % 7);
                ledger.apply(record_outcome(&unit, "spent", value), &planned);
            }
        }
        assert!(small.units.len() <= 8, "a quarter of the places");
    }
    assert_eq!(small.n_units_lost, 0);
    let (few, all) = (small.outcomes(&planned), large.outcomes(&planned));
    assert_eq!(all[0].0.0 + all[0].1.0, 167);
    assert_eq!(all[1].0.0 + all[1].1.0, 500);
    let close = |one: UnitMoments, other: UnitMoments, tolerance: f64| {
        assert_eq!(one.0, other.0);
        assert!((one.1 - other.1).abs() < 1e-12, "{one:?} {other:?}");
        let distance = (one.2 - other.2).abs();
        assert!(distance <= tolerance * other.2, "{one:?} {other:?}");
    };
    // Squares of a proportion are p (1 - p) (n - 1) of each part, which is less than one unit's off.
    for ((few, all), tolerance) in few.iter().zip(&all).zip([1.0 / 50.0, 1e-12]) {
        close(few.0, all.0, tolerance);
        close(few.1, all.1, tolerance);
    }
    // An outcome of a request whose place another one has is refused, as one of a request that is long ago.
    let late = outcome(of_request("r0"), "converted", 1.0, None);
    assert!(matches!(
        small.find(&late),
        Err(OutcomeFault::UnknownRequest { .. })
    ));
    // What is written anew says the same.
    let mut again = stage_ledger(32);
    let mut lines = Vec::new();
    let counters = Counters::default();
    let written = small.each_record(counters, &mut |record| {
        lines.push(LINES.line(record)?);
        Ok(())
    });
    written.unwrap();
    for line in lines {
        again.apply(LINES.record(&line).unwrap(), &planned);
    }
    assert_eq!(again.outcomes(&planned), few);
    // The next stage begins with nothing.
    let next = PlannedExperiment {
        stage: stage(2_000).stage,
        ..planned
    };
    assert_eq!(small.outcomes(&next)[0], ((0, 0.0, 0.0), (0, 0.0, 0.0)));
}

/// What comes of requests of a canary that a newer one followed is taken without effect, as what comes after its stage is.
#[test]
fn outcomes_of_an_earlier_canary_are_taken_without_effect() {
    let fixture = Fixture::new();
    let earlier = fixture.open(&stage(1_000));
    earlier.expose(shown_at("u1", CANARY, 1_001));
    fixture.settle(&earlier);
    let later = fixture.open(&PlannedExperiment {
        uid: "r/iris-predictor-00003".to_owned(),
        ..stage(2_000)
    });
    let told = |about, metric| outcome(about, metric, 1.0, None);
    let taken = fixture.record(
        &later,
        vec![
            told(of_request("r-u1-1001"), "converted"),
            told(of_unit("u1"), "converted"),
        ],
    );
    assert_eq!(taken, [Ok(Taken::Late), Ok(Taken::Late)]);
    assert_eq!(outcomes(&later), [(0, 0.0), (0, 0.0)]);
    let taken = fixture.record(&later, vec![told(of_unit("u1"), "other")]);
    assert!(taken[0].is_err(), "{taken:?}");
}

/// Books are read in any order when a server begins: a rollout's must not take the places that experiments had.
#[test]
fn rollouts_take_no_places_of_experiments() {
    let fixture = Fixture::new();
    let (rollout, experiment) = (fixture.open(&stage(1_000)), fixture.open(&planned()));
    let used = |book: &Book| book.ledger().room_used();
    for unit in ["u1", "u2", "u3"] {
        rollout.expose(shown_at(unit, STABLE, 1_001));
    }
    experiment.expose(exposure("u1", "a", true));
    fixture.settle(&rollout);
    fixture.settle(&experiment);
    assert_eq!((used(&rollout), used(&experiment)), (3, 1));
}

/// A file that was written anew, with units that find no place any more when it is read.
#[test]
fn units_that_find_no_place_when_they_are_read_stay_in_the_sums() {
    let planned = stage(1_000);
    let mut before = stage_ledger(64);
    for request in 0..40_u32 {
        let (unit, at) = (format!("r{request}"), 1_001 + u64::from(request));
        let variant = if request % 4 == 0 { CANARY } else { STABLE };
        before.apply(record_exposure(&unit, variant, at), &planned);
        let value = f64::from(request % 2);
        before.apply(record_outcome(&unit, "converted", value), &planned);
    }
    let mut lines = Vec::new();
    let written = before.each_record(Counters::default(), &mut |record| {
        lines.push(LINES.line(record)?);
        Ok(())
    });
    written.unwrap();
    let read = |lines: &mut dyn Iterator<Item = &Vec<u8>>| {
        let mut again = stage_ledger(16);
        lines.for_each(|line| again.apply(LINES.record(line).unwrap(), &planned));
        (
            again.outcomes(&planned),
            again.n_units_lost,
            again.units.len(),
        )
    };
    let counts = |outcomes: &[(UnitMoments, UnitMoments)]| (outcomes[0].0.0, outcomes[0].1.0);
    let is_of_folded = |line: &Vec<u8>| line.starts_with(br#"{"type":"folded""#);
    assert_eq!(lines.iter().filter(|line| is_of_folded(line)).count(), 1);
    // As it is written now, and as it was before, with the sums at its end.
    let (sums, others): (Vec<_>, Vec<_>) = lines.iter().partition(|line| is_of_folded(line));
    let mut at_the_end = others.into_iter().chain(sums);
    for (outcomes, n_lost, n_units) in [read(&mut lines.iter()), read(&mut at_the_end)] {
        assert_eq!(counts(&outcomes), (30, 10));
        assert!(n_lost == 0 && n_units <= 4, "{n_lost} {n_units}");
    }
}
