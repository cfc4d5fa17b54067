//! Agreement, distances and drift, with SciPy's values where it has them.

use super::distribution::kolmogorov_sf;
use super::*;
use crate::random::Random;

/// Written by fixtures/statistics/generate.py.
const REFERENCE: &str = include_str!("../../../../fixtures/statistics/reference.tsv");

fn reference(function: &str) -> Vec<(Vec<f64>, Vec<f64>)> {
    let numbers = |text: &str| {
        text.split(' ')
            .map(|number| number.parse().unwrap())
            .collect()
    };
    let lines = REFERENCE
        .lines()
        .map(|line| line.split('\t').collect::<Vec<_>>());
    let ours = lines.filter(|fields| fields[0] == function);
    let ours: Vec<_> = ours
        .map(|fields| {
            (
                numbers(fields[1]),
                fields[2..]
                    .iter()
                    .map(|text| text.parse().unwrap())
                    .collect(),
            )
        })
        .collect();
    assert!(!ours.is_empty(), "{function}");
    ours
}

#[test]
fn distances_of_distributions_are_scipy_s() {
    for (arguments, answers) in reference("kolmogorov_sf") {
        let found = kolmogorov_sf(arguments[0]);
        assert!(
            (found - answers[0]).abs() < 1e-12,
            "{}: {found}",
            arguments[0]
        );
    }
    for (arguments, answers) in reference("ks_2samp") {
        let (left, right) = arguments[1..].split_at(arguments[0] as usize);
        let (distance, p_value) = kolmogorov_smirnov(left, right).unwrap();
        assert!((distance - answers[0]).abs() < 1e-12, "{distance}");
        // SciPy's is exact, ours the corrected limit.
        assert!(
            (p_value - answers[1]).abs() < 0.05,
            "{p_value} for {}",
            answers[1]
        );
    }
    assert_eq!(kolmogorov_smirnov(&[], &[1.0]), None);
}

#[test]
fn stability_indices_are_scipy_s_divergences() {
    for (arguments, answers) in reference("stability_index") {
        let counts: Vec<u64> = arguments.iter().map(|count| *count as u64).collect();
        let (reference, observed) = counts.split_at(counts.len() / 2);
        let profile = Profile {
            edges: (1..reference.len()).map(|edge| edge as f64).collect(),
            reference: reference.to_vec(),
            observed: observed.to_vec(),
        };
        let found = profile.drift().unwrap().stability_index;
        assert!((found - answers[0]).abs() < 1e-12, "{found}, {answers:?}");
    }
}

#[test]
fn agreement_and_kappa_are_scikit_learn_s() {
    for (arguments, answers) in reference("cohen_kappa") {
        let mut labels = Labels::default();
        let (stable, shadow) = arguments.split_at(arguments.len() / 2);
        for (stable, shadow) in stable.iter().zip(shadow) {
            labels.push(&stable.to_string(), &shadow.to_string());
        }
        assert!((labels.kappa().unwrap() - answers[0]).abs() < 1e-12);
        assert!((labels.agreement().unwrap() - answers[1]).abs() < 1e-12);
    }
    let mut same = Labels::default();
    assert_eq!((same.agreement(), same.kappa()), (None, None));
    same.push("a", "a");
    assert_eq!((same.agreement(), same.kappa()), (Some(1.0), None));
}

#[test]
fn labels_without_end_take_no_memory_without_end() {
    let mut labels = Labels::default();
    for index in 0..10_000 {
        labels.push(&index.to_string(), "x");
    }
    labels.push("y", "y");
    assert_eq!(
        (labels.pairs.len(), labels.others, labels.count()),
        (4_096, (1, 5_904), 10_001)
    );
    assert_eq!(labels.kappa(), None);
    assert_eq!(labels.agreement(), Some(1.0 / 10_001.0));
}

#[test]
fn distances_of_numbers_are_counted() {
    let mut numbers = Numbers::new(&[0.0, 0.1]);
    let nan = f64::NAN;
    let infinity = f64::INFINITY;
    let cases = [
        (1.0, 1.0, 0.0),
        (1.0, 1.05, 0.05),
        (1.0, 0.5, 0.5),
        (nan, nan, 0.0),
        (infinity, infinity, 0.0),
        (nan, 1.0, infinity),
        (infinity, -infinity, infinity),
    ];
    for (stable, shadow, expected) in cases {
        let distance = numbers.push(stable, shadow);
        assert!(
            distance == expected || (distance - expected).abs() < 1e-12,
            "{stable} {shadow}: {distance}"
        );
    }
    assert_eq!(numbers.beyond, [(0.0, 4), (0.1, 3)]);
    assert_eq!(numbers.n_only_one_missing, 1);
    assert_eq!(numbers.differences.units, 4);
    assert!((numbers.differences.mean - (0.05 - 0.5) / 4.0).abs() < 1e-12);
}

#[test]
fn the_worst_are_kept_and_only_they_are_made() {
    let mut worst = Worst::new(3);
    let mut n_made = 0;
    for distance in [0.0, 1.0, 5.0, 2.0, 4.0, 0.5, f64::INFINITY, f64::NAN] {
        worst.push(distance, || {
            n_made += 1;
            format!("request at {distance}")
        });
    }
    let kept: Vec<f64> = worst.kept().iter().map(|(distance, _)| *distance).collect();
    assert_eq!(kept, [f64::INFINITY, 5.0, 4.0]);
    assert_eq!(n_made, 5);
    let mut none = Worst::new(0);
    none.push(1.0, || ());
    assert!(none.kept().is_empty());
}

/// Labels are all 1 apart: what is kept of a thousand requests is from all of that time.
#[test]
fn of_requests_equally_far_apart_a_fair_sample_is_kept() {
    // How often one of each tenth was kept, over many lists.
    let mut tenths = [0_u32; 10];
    let mut worst = Worst::new(20);
    for index in 0..200 * 1_000 {
        if index % 1_000 == 0 {
            worst.kept.clear();
            worst.least = None;
        }
        worst.push(1.0, || index % 1_000);
        if index % 1_000 == 999 {
            assert_eq!(worst.kept().len(), 20);
            for (_, kept) in worst.kept() {
                tenths[kept / 100] += 1;
            }
        }
    }
    // 400 are expected of each; the deviation is 19.
    assert!(
        tenths.iter().all(|count| (300..=500).contains(count)),
        "{tenths:?}"
    );
    // Those that are farther apart stay, whatever comes, and take the place of any of the others.
    let mut worst = Worst::new(5);
    for index in 0..1_000 {
        worst.push(if index % 400 == 7 { 2.0 } else { 1.0 }, || index);
    }
    let kept: Vec<i32> = worst.kept().iter().map(|(_, index)| *index).collect();
    assert_eq!(kept[..3], [7, 407, 807]);
    assert!(kept[3..].iter().any(|index| *index > 5), "{kept:?}");
}

#[test]
fn drift_is_told_from_chance() {
    let mut random = Random::new(1);
    let reference: Vec<f64> = (0..5_000).map(|_| random.unit()).collect();
    let mut same = Profile::of(&reference, 10);
    let mut moved = same.clone();
    assert_eq!(same.drift(), None);
    for _ in 0..5_000 {
        let score = random.unit();
        same.push(score);
        moved.push(score * score);
    }
    let (same, moved) = (same.drift().unwrap(), moved.drift().unwrap());
    assert!(
        same.stability_index < 0.01 && same.p_value > 0.01,
        "{same:?}"
    );
    assert!(
        moved.stability_index > 0.25 && moved.p_value < 1e-9,
        "{moved:?}"
    );
    // The distributions x and sqrt(x) are farthest apart at a quarter, by a quarter.
    assert!((moved.distance - 0.25).abs() < 0.03, "{moved:?}");
}

/// Two bins of 50 and 50 against 80 and 20, with half a count added to each: by hand.
#[test]
fn the_stability_index_is_the_sum_of_surprises() {
    let profile = Profile {
        edges: vec![0.5],
        reference: vec![50, 50],
        observed: vec![80, 20],
    };
    let (p, q) = (
        [50.5 / 101.0, 50.5 / 101.0_f64],
        [80.5 / 101.0, 20.5 / 101.0_f64],
    );
    let expected: f64 = (0..2)
        .map(|bin| (q[bin] - p[bin]) * (q[bin] / p[bin]).ln())
        .sum();
    let drift = profile.drift().unwrap();
    assert!((drift.stability_index - expected).abs() < 1e-12);
    assert!((drift.distance - 0.3).abs() < 1e-12);
}

#[test]
fn bins_of_few_different_scores_are_few() {
    let mut profile = Profile::of(&[0.0, 0.0, 0.0, 1.0, 1.0, f64::NAN], 10);
    assert_eq!(
        (profile.edges.as_slice(), profile.reference.as_slice()),
        (&[1.0][..], &[3, 2][..])
    );
    profile.push(f64::NAN);
    profile.push(0.5);
    profile.push_reference(7.0);
    assert_eq!(
        (profile.observed, profile.reference),
        (vec![1, 0], vec![3, 3])
    );
}
