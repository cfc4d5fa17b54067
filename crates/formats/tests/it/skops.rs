//! Models in skops files must answer as those in pickles do: as scikit-learn does.

use crate::fixture::{self, Fixture};
use crate::{columns, golden};

/// The releases of scikit-learn there must be fixtures of.
const RELEASES: [&str; 2] = ["1.3.2", "1.9.1"];

/// Returns the fixtures of a family of every release.
pub(crate) fn fixtures(family: &str) -> Vec<Fixture> {
    let directories = RELEASES.map(|release| format!("skops/{family}/{release}"));
    directories
        .iter()
        .flat_map(|path| fixture::read(path))
        .collect()
}

fn check_all(families: &[&str], n_least: usize, check: fn(&Fixture) -> Result<(), String>) {
    let mut complaints = Vec::new();
    let mut n_fixtures = 0;
    for fixture in families.iter().flat_map(|family| fixtures(family)) {
        n_fixtures += 1;
        if let Err(complaint) = check(&fixture) {
            complaints.push(format!("{}: {complaint}", fixture.label()));
        }
    }
    assert!(n_fixtures >= n_least, "{n_fixtures} fixtures");
    let complaints = complaints.join("\n");
    assert!(complaints.is_empty(), "{complaints}");
}

#[test]
fn the_format_is_named() {
    let mut formats: Vec<String> = fixtures("trees")
        .iter()
        .map(|fixture| fixture.load().unwrap().description().format.clone())
        .collect();
    formats.sort();
    formats.dedup();
    assert_eq!(
        formats,
        ["skops 0.16.0, protocol 2", "skops 0.9.0, protocol 1"]
    );
}

#[test]
fn every_fixture_answers_as_scikit_learn_does() {
    check_all(&["trees", "numeric"], 98, golden::check);
}

#[test]
fn every_fixture_of_columns_answers_as_scikit_learn_does() {
    check_all(&["columns", "wrapped/columns"], 44, columns::check);
}
