//! Experiments that are settled, beside others and until they are resumed.

use super::*;

/// Half of the units of a group.
fn half(name: &str, begin_ppm: u32) -> PlannedExperiment {
    let slice = PlannedSlice {
        group: "ml/page".to_owned(),
        begin_ppm,
        end_ppm: begin_ppm + 500_000,
    };
    PlannedExperiment {
        name: name.to_owned(),
        salt: name.to_owned(),
        slice: Some(slice),
        ..planned()
    }
}

/// Who gets what of 200 units: the experiment, the variant and how it was come by, with how many got it.
fn counted(
    experiments: &RouteExperiments,
) -> std::collections::BTreeMap<(String, String, bool), u32> {
    let mut counted = std::collections::BTreeMap::new();
    for index in 0..200 {
        let unit = format!("u{index}");
        let decided = experiments.decide(|_source| Some(unit.clone()), |_source| None);
        let Decided::Variant(decision, _) = decided else {
            continue;
        };
        let key = (
            decision.split.planned().name.clone(),
            decision.split.variant(decision.variant).to_owned(),
            decision.by.is_some(),
        );
        *counted.entry(key).or_default() += 1;
    }
    counted
}

#[test]
fn a_winner_takes_no_units_of_experiments_that_run() {
    let fixture = Fixture::new();
    let (a1, b2) = (half("a1", 0), half("b2", 500_000));
    let of = |settled: PlannedExperiment, running: &PlannedExperiment| {
        let splits = [&settled, running].map(|planned| {
            let book = fixture.open(planned);
            Split::try_new(planned, book, |_target| SplitTarget::Own).unwrap()
        });
        RouteExperiments::new(splits.into())
    };
    let before = counted(&of(a1.clone(), &b2));
    let key = |name: &str, variant: &str, by| (name.to_owned(), variant.to_owned(), by);
    let [a, b] = ["a", "b"].map(|variant| before[&key("b2", variant, true)]);
    assert!(a > 30 && b > 30, "{before:?}");
    for winner in ["a", "b"] {
        let settled = PlannedExperiment {
            winner: Some(winner.to_owned()),
            ..a1.clone()
        };
        let experiments = of(settled, &b2);
        let after = counted(&experiments);
        // Those of the other one get what they got before.
        let expected = [
            (key("a1", winner, false), 200 - a - b),
            (key("b2", "a", true), a),
            (key("b2", "b", true), b),
        ];
        assert_eq!(after, expected.into());
        // Who has no unit is the winner's, and missing to the one that runs.
        assert_eq!(variant_of(&experiments, None), Some((winner, None)));
    }
    assert_eq!(fixture.open(&b2).standing().n_unassigned, 2);
    assert_eq!(fixture.open(&a1).standing().n_unassigned, 0);
    // What the one that runs does not take is the winner's, too.
    let settled = PlannedExperiment {
        winner: Some("b".to_owned()),
        ..a1
    };
    let nobody = PlannedExperiment { share_ppm: 0, ..b2 };
    let all = [(key("a1", "b", false), 200)];
    assert_eq!(counted(&of(settled, &nobody)), all.into());
    fixture.experiments.stop();
}

#[test]
fn who_came_while_a_winner_took_all_is_not_analysed_once_it_is_resumed() {
    let running = planned();
    let promoted = PlannedExperiment {
        winner: Some("b".to_owned()),
        ..planned()
    };
    let fixture = Fixture::new();
    let book = fixture.open(&running);
    let (before, during) = (split(&running, &book), split(&promoted, &book));
    let units: Vec<String> = (0..100).map(|index| format!("u{index}")).collect();
    for unit in &units {
        let (variant, _) = variant_of(&before, Some(unit)).unwrap();
        book.expose(exposure(unit, variant, true));
    }
    let book = fixture.open(&promoted);
    // A fifth of them comes again, and somebody who was not there.
    for unit in units.iter().step_by(5).map(String::as_str).chain(["new"]) {
        let decided = during.decide(|_source| Some(unit.to_owned()), |_source| None);
        let Decided::Variant(decision, Some(unit)) = decided else {
            panic!("not its unit");
        };
        let variant = decision.split.variant(decision.variant);
        assert_eq!((variant, decision.by), ("b", None));
        book.show_winner(unit, variant.to_owned());
    }
    fixture.settle(&book);
    let analysed = |book: &Book| {
        let standing = book.standing();
        let units: u64 = standing.variants.iter().map(|one| one.units).sum();
        (units, standing.n_mixed)
    };
    // How it ended stays.
    assert_eq!(analysed(&book), (100, 0));
    let book = fixture.open(&running);
    fixture.settle(&book);
    // Of both variants: who comes again is not as others are.
    assert_eq!(analysed(&book), (80, 20));
    let resumed = shown(&book);
    assert!(!book.standing().analysis.split.unwrap().is_mismatch);
    // Once for each is enough.
    let lines = fs::read_to_string(fixture.file()).unwrap();
    assert_eq!(lines.matches(r#""type":"winner""#).count(), 20);
    // Who came first while a winner took all is new to both.
    let (variant, by) = variant_of(&before, Some("new")).unwrap();
    assert_eq!(by, Some(By::Hash));
    book.expose(exposure("new", variant, true));
    fixture.settle(&book);
    assert_eq!(analysed(&book), (81, 20));
    assert_ne!(shown(&book), resumed);
    // If somebody wins once more, they are not compared again.
    let book = fixture.open(&promoted);
    fixture.settle(&book);
    assert_eq!(analysed(&book), (81, 20));
    let book = fixture.open(&running);
    fixture.settle(&book);
    drop((book, before, during));
    let fixture = fixture.again();
    let book = fixture.open(&promoted);
    fixture.settle(&book);
    assert_eq!(analysed(&book), (81, 20));
    let lines = fs::read_to_string(fixture.file()).unwrap();
    assert_eq!(lines.matches(r#""type":"resumed""#).count(), 1);
    // A file that is written anew says the same.
    let mut read = ledger(1_000);
    let written = book
        .ledger()
        .each_record(Counters::default(), &mut |record| {
            read.apply(record.clone(), &running);
            Ok(())
        });
    written.unwrap();
    for planned in [&running, &promoted] {
        assert_eq!(standing_of(&read, planned).n_mixed, 20);
    }
    fixture.experiments.stop();
}

#[test]
fn what_comes_of_a_winner_is_not_the_variants_that_lost() {
    let running = planned();
    let promoted = PlannedExperiment {
        winner: Some("b".to_owned()),
        ..planned()
    };
    let fixture = Fixture::new();
    let book = fixture.open(&running);
    for unit in ["back", "away"] {
        book.expose(exposure(unit, "a", true));
    }
    let of_a = |book: &Book| {
        let (_, units, .., metrics) = shown(book).remove(0);
        (units, metrics[0].units, metrics[0].mean)
    };
    let told = |about: UnitRef, value: f64| {
        let taken = fixture.record(&book, vec![outcome(about, "converted", value, None)]);
        (taken[0].clone(), of_a(&book))
    };
    use Taken::{Counted, Late};
    assert_eq!(told(of_unit("back"), 0.0), (Ok(Counted), (2, 1, 0.0)));
    fixture.open(&promoted);
    book.show_winner("back".to_owned(), "b".to_owned());
    fixture.settle(&book);
    assert_eq!(told(of_unit("back"), 1.0), (Ok(Late), (2, 1, 0.0)));
    // What the request of before came to, and who did not come since, is of the variant.
    assert_eq!(told(of_unit("away"), 0.0), (Ok(Counted), (2, 2, 0.0)));
    assert_eq!(told(of_request("r-back"), 1.0), (Ok(Counted), (2, 2, 0.5)));
    let lines = fs::read_to_string(fixture.file()).unwrap();
    assert!(lines.contains(r#""late":[["converted",1.0]]"#), "{lines}");
    // Who was shown his variant again, once it was resumed, was shown both, whatever wins then.
    fixture.open(&running);
    book.expose(exposure("back", "a", true));
    fixture.settle(&book);
    fixture.open(&promoted);
    assert_eq!((of_a(&book), book.standing().n_mixed), ((1, 1, 0.0), 1));
    drop(book);
    let fixture = fixture.again();
    let book = fixture.open(&promoted);
    fixture.settle(&book);
    assert_eq!((of_a(&book), book.standing().n_mixed), ((1, 1, 0.0), 1));
    fixture.experiments.stop();
}

#[test]
fn what_a_winner_showed_is_no_draw_of_a_bandit() {
    let drawn = PlannedExperiment {
        allocation: Allocation::Bandit {
            strategy: BanditStrategy::Thompson,
            floor: 0.0,
        },
        ..planned()
    };
    let mut ledger = ledger(10);
    ledger.apply(record_exposure("u", "a", 1), &drawn);
    ledger.apply(record_outcome("u", "converted", 1.0), &drawn);
    assert!(ledger.is_news_of_winner("u") && !ledger.is_news_of_winner("nobody"));
    let winner = Record::Winner {
        at: Some(2),
        unit: "u".into(),
        variant: "b".into(),
    };
    ledger.apply(winner, &drawn);
    assert!(!ledger.is_news_of_winner("u"));
    ledger.apply(record_outcome("u", "converted", 1.0), &drawn);
    let rewards = standing_of(&ledger, &drawn).arms;
    assert_eq!((rewards[0].rewards, rewards[1].rewards), (1, 0));
    // Drawn again, and then the winner's again.
    ledger.apply(record_exposure("u", "a", 2), &drawn);
    assert!(ledger.is_news_of_winner("u"));
}
