//! The largest error that fixtures show, and how docs/formats.md states it.
//!
//! The error of a number is its distance from the library's, divided by the library's where that is larger than one:
//! relative above one, absolute below. Labels and integers have none, since they must be the same.

use std::collections::BTreeMap;

/// Errors up to this are stated as this: the last bit of an `exp` differs between processors.
const STATED_MIN: f64 = 1e-15;
/// How many times what is seen may be what is stated.
const EXCESS_MAX: f64 = 100.0;

/// Returns the error of `got`; NaN and infinities that are the same have none.
pub(crate) fn error(got: f64, expected: f64) -> f64 {
    if got == expected || got.is_nan() && expected.is_nan() {
        return 0.0;
    }
    (got - expected).abs() / expected.abs().max(1.0)
}

/// Rounds an error up to a power of ten, with room for half of it; never above the bound that the tests hold.
fn rounded(seen: f64, bound: f64) -> String {
    if seen == 0.0 {
        return "0".to_owned();
    }
    let room = (2.0 * seen).max(STATED_MIN).min(bound.max(seen));
    let mut exponent = room.log10().ceil();
    // The logarithm of a power of ten may be a bit above it.
    if power(exponent - 1.0) >= room {
        exponent -= 1.0;
    }
    format!("{:e}", power(exponent))
}

/// Returns a power of ten with the bits that its decimal form has.
fn power(exponent: f64) -> f64 {
    format!("1e{exponent}").parse().unwrap()
}

/// Tells whether a table may say `stated` where `seen` is measured: neither less, nor far more, nor more than the bound.
fn holds(stated: &str, seen: f64, bound: f64) -> bool {
    let Ok(stated) = stated.parse::<f64>() else {
        return false;
    };
    seen <= stated && stated <= (EXCESS_MAX * seen).min(bound.max(seen)).max(STATED_MIN)
}

/// What a table states, by the cells before it.
pub(crate) struct Stated(BTreeMap<String, Vec<String>>);

impl Stated {
    /// Reads the rows of a table, whose first `n_keys` cells tell them apart.
    pub(crate) fn read(table: &str, n_keys: usize) -> Self {
        let rows = table.lines().map(|line| {
            let cells = line.trim_matches('|').split('|');
            let mut cells: Vec<String> = cells.map(|cell| cell.trim().to_owned()).collect();
            let rest = cells.split_off(n_keys.min(cells.len()));
            (cells.join("|"), rest)
        });
        Self(rows.collect())
    }

    /// Returns how to state `seen` in cell `at` behind a row's keys: as the table does if that is true, rounded up
    /// otherwise.
    pub(crate) fn cell(&self, keys: &[&str], at: usize, seen: f64, bound: f64) -> String {
        let cells = self.0.get(&keys.join("|"));
        match cells.and_then(|cells| cells.get(at)) {
            Some(stated) if holds(stated, seen, bound) => stated.clone(),
            _ => rounded(seen, bound),
        }
    }
}

#[test]
fn errors_are_rounded_up_and_held_from_both_sides() {
    assert_eq!(rounded(0.0, 1e-12), "0");
    assert_eq!(rounded(2e-17, 1e-12), "1e-15");
    assert_eq!(rounded(3e-14, 1e-12), "1e-13");
    assert_eq!(rounded(6e-14, 1e-12), "1e-12");
    assert_eq!(rounded(6e-13, 1e-12), "1e-12");
    let holds = |stated, seen| holds(stated, seen, 1e-12);
    assert!(holds("0", 0.0) && !holds("0", 1e-17));
    assert!(holds("1e-13", 2e-15) && holds("1e-13", 1e-13));
    assert!(!holds("1e-13", 2e-13) && !holds("1e-13", 1e-16));
    assert!(holds("1e-15", 0.0) && !holds("1e-14", 0.0));
    assert!(holds("1e-12", 2e-13) && !holds("1e-11", 2e-13));
    assert!(!holds("", 0.0));
    let stated = Stated::read("| a | b | 12 | 1e-14 | 1e-12 |\n", 2);
    assert_eq!(stated.cell(&["a", "b"], 1, 9e-15, 1e-12), "1e-14");
    assert_eq!(stated.cell(&["a", "c"], 1, 9e-15, 1e-12), "1e-13");
    assert_eq!(stated.cell(&["a", "b"], 1, 2e-14, 1e-12), "1e-13");
    assert_eq!(error(2.0, 4.0), 0.5);
    assert_eq!(error(0.5, 0.25), 0.25);
    assert_eq!(error(f64::NAN, f64::NAN), 0.0);
}
