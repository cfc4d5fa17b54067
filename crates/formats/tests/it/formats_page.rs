//! The table of docs/formats.md: what the fixtures prove, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::Path;

use coracle_base::SystemClock;
use coracle_formats::{LoadOptions, load};

use crate::boosted::{self, IMBALANCED_LEARN, LIBRARIES, Library};
use crate::fixture::{self, RELEASES};
use crate::golden;

/// What is known of one class.
#[derive(Default)]
struct Row {
    outputs: BTreeSet<String>,
    releases: BTreeSet<String>,
    relative_max: f64,
    n_fixtures: usize,
}

/// Returns the table of the classes that fixtures hold, alone or as the outermost part.
fn table() -> String {
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    for release in RELEASES {
        for directory in [release.to_owned(), format!("numeric/{release}")] {
            for fixture in fixture::read(&directory) {
                let model = fixture.load().unwrap();
                let row = rows
                    .entry(model.description().root.class.clone())
                    .or_default();
                let outputs = &model.signature().outputs;
                row.outputs
                    .extend(outputs.iter().map(|output| output.name.clone()));
                row.releases.insert(release.to_owned());
                row.relative_max = row
                    .relative_max
                    .max(golden::tolerance(&fixture).relative_max);
                row.n_fixtures += 1;
            }
        }
    }
    let mut page = String::from(
        "| estimator | outputs | releases | fixtures | within |\n|---|---|---|---|---|\n",
    );
    for (class, row) in rows {
        let outputs: Vec<&str> = row.outputs.iter().map(String::as_str).collect();
        let first = row.releases.first().map_or("", String::as_str);
        let last = row.releases.last().map_or("", String::as_str);
        writeln!(
            page,
            "| {class} | {} | {}: {first} to {last} | {} | {:e} |",
            outputs.join(", "),
            row.releases.len(),
            row.n_fixtures,
            row.relative_max
        )
        .unwrap();
    }
    page
}

/// Returns the table of the classes of other libraries.
fn library_table() -> String {
    let mut page = String::from(
        "| library | class | outputs | releases | fixtures | margins within | the rest within |\n|---|---|---|---|---|---|---|\n",
    );
    for library in LIBRARIES.into_iter().chain([&IMBALANCED_LEARN]) {
        write_library(&mut page, library);
    }
    page
}

fn write_library(page: &mut String, library: &Library) {
    /// Outputs, releases in order, and the number of fixtures.
    type Proved = (BTreeSet<String>, Vec<String>, usize);
    let mut rows: BTreeMap<String, Proved> = BTreeMap::new();
    for &release in library.releases {
        for (path, _) in boosted::documents(&boosted::root(library.name).join(release)) {
            let loaded = load(&path, &LoadOptions::default(), &SystemClock::new()).unwrap();
            let model = loaded.model;
            let class = model.description().root.class.clone();
            let (outputs, releases, n_fixtures) = rows.entry(class).or_default();
            let names = model.signature().outputs.iter();
            outputs.extend(names.map(|output| output.name.clone()));
            if releases.last().is_none_or(|last| last != release) {
                releases.push(release.to_owned());
            }
            *n_fixtures += 1;
        }
    }
    let within = |relative: f64| match relative {
        0.0 => "the same bits".to_owned(),
        relative => format!("{relative:e}"),
    };
    let (margin, linked) = (
        within(library.tolerance.margin),
        within(library.tolerance.linked),
    );
    for (class, (outputs, releases, n_fixtures)) in rows {
        let outputs: Vec<String> = outputs.into_iter().collect();
        writeln!(
            page,
            "| {} | {class} | {} | {} | {n_fixtures} | {margin} | {linked} |",
            library.name,
            outputs.join(", "),
            releases.join(", "),
        )
        .unwrap();
    }
}

/// Checks that `table` is what the page has between its marks.
fn check_table(mark: &str, table: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/formats.md");
    let page = fs::read_to_string(&path).unwrap();
    let (_, after) = page
        .split_once(&format!("<!-- {mark}: begin -->\n"))
        .unwrap();
    let (listed, _) = after.split_once(&format!("<!-- {mark}: end -->")).unwrap();
    assert!(
        listed == table,
        "docs/formats.md should have this table:\n{table}"
    );
}

#[test]
fn the_page_lists_what_the_fixtures_prove() {
    check_table("numbers", &table());
    check_table("libraries", &library_table());
}

/// The words of the part of `page` between two marks.
fn words<'p>(page: &'p str, from: &str, to: &str) -> BTreeSet<&'p str> {
    let (_, after) = page.split_once(from).unwrap();
    let (part, _) = after.split_once(to).unwrap();
    part.split(|c: char| !c.is_alphanumeric()).collect()
}

#[test]
fn every_estimator_is_served_or_left_out_with_a_reason() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = fs::read_to_string(root.join("docs/formats.md")).unwrap();
    let all = fs::read_to_string(root.join("fixtures/sklearn/estimators.tsv")).unwrap();
    let mut served = words(&page, "<!-- numbers: begin -->", "<!-- numbers: end -->");
    served.append(&mut words(
        &page,
        "Columns, categories and texts:",
        "see `fixtures",
    ));
    let (_, after) = page.split_once("<!-- excluded: begin -->").unwrap();
    let (excluded, _) = after.split_once("<!-- excluded: end -->").unwrap();
    let excluded: BTreeSet<&str> = excluded
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" | ").next())
        .filter(|name| *name != "estimator")
        .collect();
    let estimators: BTreeSet<&str> = all
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split('\t').next())
        .collect();
    assert!(estimators.len() > 190);
    for estimator in &estimators {
        assert!(
            served.contains(estimator) != excluded.contains(estimator),
            "{estimator} must be either served or left out with a reason"
        );
    }
    let gone: Vec<&&str> = excluded.difference(&estimators).collect();
    assert!(gone.is_empty(), "{gone:?} answer nothing");
}
