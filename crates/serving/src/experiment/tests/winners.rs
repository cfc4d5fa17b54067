//! Experiments that are settled, beside others.

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
