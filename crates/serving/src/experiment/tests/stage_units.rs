//! What units meet in a rollout's stage that is judged by unit.

use coracle_policy::rollout::Predicted;

use super::*;

fn stage(since_ms: u64) -> PlannedExperiment {
    let variant = |name: &str| PlannedVariant {
        name: name.to_owned(),
        weight: 1,
        target: VariantTarget::Revision(name.to_owned()),
    };
    PlannedExperiment {
        name: "rollout:careful".to_owned(),
        variants: vec![variant(STABLE), variant(CANARY)],
        unit: UnitSource::Header("x-user".to_owned()),
        metrics: Vec::new(),
        stage: Some(PlannedStage {
            since_ms,
            trial_ms: 0,
            predictions: true,
            by_unit: true,
            slow_ns: Some(500_000_000),
        }),
        ..planned()
    }
}

/// A request of a unit that took so many seconds; it failed unless it is `ok`.
fn met(unit: &str, variant: &str, (ok, seconds): (bool, f64), at: u64) -> Exposure {
    Exposure {
        at,
        seconds,
        request_id: format!("r-{unit}-{at}"),
        by: By::Route,
        ..exposure(unit, variant, ok)
    }
}

/// Units, those that were struck, and the mean of their shares.
fn shown(sums: EventSums) -> (u64, u64, f64) {
    (sums.units, sums.struck, sums.shares.0)
}

#[test]
fn a_stage_tells_what_its_units_met_and_what_requests_without_one_did() {
    let fixture = Fixture::new();
    let book = fixture.open(&stage(1_000));
    // One who fails always and asks a lot, one who was slow once in two, two without anything; and one who saw both.
    for at in 1_001..1_011 {
        book.expose(met("busy", CANARY, (false, 0.1), at));
    }
    book.expose(met("u1", CANARY, (true, 0.5), 1_002));
    book.expose(met("u1", CANARY, (true, 0.6), 1_003));
    for unit in ["u2", "u3"] {
        book.expose(met(unit, STABLE, (true, 0.1), 1_004));
    }
    book.expose(met("both", STABLE, (true, 0.1), 1_005));
    book.expose(met("both", CANARY, (false, 0.9), 1_006));
    let left = Exposure {
        end: ExposureEnd::Left,
        ..met("", STABLE, (true, 0.1), 1_007)
    };
    book.expose(left);
    book.expose(met("", STABLE, (false, 0.1), 1_008));
    // Of the stage before.
    book.expose(met("", STABLE, (false, 0.1), 999));
    fixture.settle(&book);
    let units = |book: &Book| book.summary().stage.unwrap().units.unwrap();
    let of = units(&book);
    assert_eq!(shown(of.canary.errors), (2, 1, 0.5));
    assert_eq!(shown(of.canary.slow), (2, 1, 0.25));
    assert_eq!(of.canary.errors.requests.0, 6.0);
    // Until they were struck first: one request of the one, both of the other; all where nobody was.
    assert_eq!((of.canary.errors.at_risk, of.canary.slow.at_risk), (3, 12));
    // u2, u3 and two requests, of which one failed and one was left.
    assert_eq!(shown(of.stable.errors), (4, 1, 0.25));
    assert_eq!(shown(of.stable.slow), (4, 1, 0.25));
    drop(book);
    let fixture = fixture.again();
    let book = fixture.open(&stage(1_000));
    fixture.settle(&book);
    let again = units(&book);
    assert_eq!(shown(again.canary.errors), (2, 1, 0.5));
    assert_eq!(
        (again.canary.errors.at_risk, again.canary.slow.at_risk),
        (3, 12)
    );
    assert_eq!(shown(again.stable.slow), (4, 1, 0.25));
    // Another stage is another one.
    let book = fixture.open(&stage(2_000));
    fixture.settle(&book);
    assert_eq!(units(&book), StageUnits::default());
    book.expose(met("busy", CANARY, (false, 0.1), 2_001));
    book.expose(met("", CANARY, (true, 0.1), 2_002));
    fixture.settle(&book);
    assert_eq!(shown(units(&book).canary.errors), (2, 1, 0.5));
    assert_eq!(units(&book).stable, SideUnits::default());
    // Another canary is another book: who had the one before is as new to it as everybody.
    let other = PlannedExperiment {
        uid: "2".to_owned(),
        ..stage(3_000)
    };
    let book = fixture.open(&other);
    fixture.settle(&book);
    assert_eq!(units(&book), StageUnits::default());
    book.expose(met("busy", STABLE, (true, 0.1), 3_001));
    fixture.settle(&book);
    assert_eq!(shown(units(&book).stable.errors), (1, 0, 0.0));
    assert_eq!(units(&book).canary, SideUnits::default());
}

/// A canary is tried once more: what hung before that says nothing, whenever it ends.
#[test]
fn requests_that_came_before_the_trial_do_not_count() {
    let fixture = Fixture::new();
    let mut planned = stage(10_000);
    planned.stage.as_mut().unwrap().trial_ms = 9_000;
    let book = fixture.open(&planned);
    for unit in ["u1", ""] {
        book.expose(met(unit, CANARY, (false, 2.5), 11_000));
        book.expose(met(unit, CANARY, (true, 0.1), 12_000));
        // It came in the stage before, of the same trial.
        book.expose(met(unit, CANARY, (true, 1.5), 10_500));
    }
    let predicted = |trial_ms| {
        let predicted = [("predict".to_owned(), Predicted::Number(1.0))];
        book.predicted((CANARY, None), trial_ms, predicted.into_iter());
    };
    predicted(8_000);
    assert!(book.summary().stage.unwrap().drifts.is_empty());
    predicted(9_000);
    fixture.settle(&book);
    let stage = book.summary().stage.unwrap();
    assert_eq!(stage.drifts[0].canary, 1);
    let units = stage.units.unwrap();
    // The unit, and two requests without one.
    assert_eq!(shown(units.canary.errors), (3, 0, 0.0));
    assert_eq!(units.canary.slow.struck, 2);
}

#[test]
fn what_has_no_unit_is_written_anew_with_the_rest() {
    let planned = stage(1_000);
    let mut ledger = Ledger::new(Arc::new(Room::new(100, 100)));
    for at in 1_001..1_004 {
        ledger.apply(record_exposure("", CANARY, at), &planned);
    }
    ledger.apply(record_exposure("u1", CANARY, 1_005), &planned);
    let mut read = Ledger::new(Arc::new(Room::new(100, 100)));
    let mut records = Vec::new();
    let form = LINES;
    ledger
        .each_record(Counters::default(), &mut |record| {
            records.push(form.line(record)?);
            Ok(())
        })
        .unwrap();
    for line in &records {
        read.apply(form.record(line).unwrap(), &planned);
    }
    let units = ledger.stage_units(&planned).unwrap();
    assert_eq!(units.canary.errors.units, 4);
    assert_eq!(read.stage_units(&planned), Some(units));
}

#[test]
fn of_a_unit_the_first_prediction_of_each_output_is_compared() {
    let fixture = Fixture::new();
    let book = fixture.open(&stage(1_000));
    let predict = |unit: Option<&str>, output: &str| {
        let predicted = [(output.to_owned(), Predicted::Number(1.0))];
        book.predicted((CANARY, unit), 0, predicted.into_iter());
    };
    for _ in 0..5 {
        predict(Some("u1"), "a");
        predict(Some("u2"), "a");
        predict(Some("u1"), "b");
        predict(None, "b");
    }
    let drifts = book.summary().stage.unwrap().drifts;
    let counts: Vec<u64> = drifts.iter().map(|drift| drift.canary).collect();
    assert_eq!(counts, [2, 6]);
}
