//! The tables of docs/formats.md: what the fixtures prove, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::Path;

use coracle_base::SystemClock;
use coracle_formats::{LoadOptions, load};
use coracle_model::Model;

use crate::boosted::{self, ErrorSeen, IMBALANCED_LEARN, LIBRARIES, Library, MLFLOW, Tolerance};
use crate::fixture::{self, Fixture, OLDER_RELEASES, RELEASES};
use crate::seen::Stated;
use crate::{columns, golden, onnx};

/// What is known of one class.
#[derive(Default)]
struct Row {
    outputs: BTreeSet<String>,
    releases: BTreeSet<String>,
    bound: f64,
    seen: f64,
    n_fixtures: usize,
}

/// Measures the largest error of a model's answers to a fixture.
type Measure = fn(&dyn Model, &Fixture) -> f64;

/// Returns the fixtures' directories within `fixtures/sklearn`, their release, and how to measure them.
fn directories() -> Vec<(String, &'static str, Measure)> {
    let mut directories: Vec<(String, &str, Measure)> = Vec::new();
    for release in OLDER_RELEASES.into_iter().chain(RELEASES) {
        directories.push((release.to_owned(), release, golden::error_seen));
        let numeric = format!("numeric/{release}");
        directories.push((numeric, release, golden::error_seen));
    }
    for release in OLDER_RELEASES.into_iter().chain(columns::RELEASES) {
        let columns = format!("columns/{release}");
        directories.push((columns, release, columns::error_seen));
    }
    for release in OLDER_RELEASES.into_iter().chain(columns::HASHED_RELEASES) {
        let hashed = format!("hashed/{release}");
        directories.push((hashed, release, columns::error_seen));
    }
    for release in columns::WRAPPED_RELEASES {
        let wrapped = format!("wrapped/columns/{release}");
        directories.push((wrapped, release, columns::error_seen));
    }
    directories
}

/// Returns the table of the classes that fixtures hold, alone or as the outermost part.
fn table(stated: &Stated) -> String {
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    for (directory, release, measure) in directories() {
        for fixture in fixture::read(&directory) {
            let model = fixture.load().unwrap();
            let row = rows
                .entry(model.description().root.class.clone())
                .or_default();
            let outputs = &model.signature().outputs;
            row.outputs
                .extend(outputs.iter().map(|output| output.name.clone()));
            row.releases.insert(release.to_owned());
            row.bound = row.bound.max(golden::tolerance(&fixture).relative_max);
            row.seen = row.seen.max(measure(model.as_ref(), &fixture));
            row.n_fixtures += 1;
        }
    }
    let mut page = String::from(
        "| estimator | outputs | releases | fixtures | largest error seen | within |\n|---|---|---|---|---|---|\n",
    );
    for (class, row) in rows {
        let outputs: Vec<&str> = row.outputs.iter().map(String::as_str).collect();
        let first = row.releases.first().map_or("", String::as_str);
        let last = row.releases.last().map_or("", String::as_str);
        writeln!(
            page,
            "| {class} | {} | {}: {first} to {last} | {} | {} | {:e} |",
            outputs.join(", "),
            row.releases.len(),
            row.n_fixtures,
            stated.cell(&[&class], 3, row.seen, row.bound),
            row.bound
        )
        .unwrap();
    }
    page
}

/// Returns the table of the classes of other libraries.
fn library_table(stated: &Stated) -> String {
    let mut page = String::from(
        "| library | class | outputs | releases | fixtures | largest error of margins | within | of the rest | within |\n|---|---|---|---|---|---|---|---|---|\n",
    );
    for library in LIBRARIES.into_iter().chain([&IMBALANCED_LEARN, &MLFLOW]) {
        write_library(&mut page, library, stated);
    }
    page
}

/// What is known of one class of a library; the releases are in order.
#[derive(Default)]
struct LibraryRow {
    outputs: BTreeSet<String>,
    releases: Vec<String>,
    n_fixtures: usize,
    seen: ErrorSeen,
}

fn write_library(page: &mut String, library: &Library, stated: &Stated) {
    let mut rows: BTreeMap<String, LibraryRow> = BTreeMap::new();
    for &release in library.releases {
        for (path, document) in boosted::documents(&boosted::root(library.name).join(release)) {
            let loaded = load(&path, &LoadOptions::default(), &SystemClock::new()).unwrap();
            let model = loaded.model;
            let class = model.description().root.class.clone();
            let row = rows.entry(class).or_default();
            let names = model.signature().outputs.iter();
            row.outputs.extend(names.map(|output| output.name.clone()));
            if row.releases.last().is_none_or(|last| last != release) {
                row.releases.push(release.to_owned());
            }
            row.n_fixtures += 1;
            boosted::error_seen(model.as_ref(), &document, library.tolerance, &mut row.seen);
        }
    }
    let within = |relative: f64| match relative {
        0.0 => "the same bits".to_owned(),
        relative => format!("{relative:e}"),
    };
    let Tolerance { margin, linked } = library.tolerance;
    for (class, row) in rows {
        let keys = [library.name, &class];
        let of_margins = match row.seen.margin {
            Some(seen) => format!(
                "{} | {}",
                stated.cell(&keys, 3, seen, margin),
                within(margin)
            ),
            None => "- | -".to_owned(),
        };
        let outputs: Vec<String> = row.outputs.into_iter().collect();
        writeln!(
            page,
            "| {} | {class} | {} | {} | {} | {of_margins} | {} | {} |",
            library.name,
            outputs.join(", "),
            row.releases.join(", "),
            row.n_fixtures,
            stated.cell(&keys, 5, row.seen.linked, linked),
            within(linked)
        )
        .unwrap();
    }
}

/// Returns the table of ONNX graphs.
fn graph_table(stated: &Stated) -> String {
    // Graphs, the largest error, and the bound.
    let mut rows: BTreeMap<&str, (usize, f64, f64)> = BTreeMap::new();
    for graph in [onnx::models(), onnx::operators(), onnx::maps()]
        .into_iter()
        .flatten()
    {
        let (n_graphs, seen, bound) = rows.entry(graph.kind).or_default();
        *n_graphs += 1;
        *seen = seen.max(graph.result.unwrap());
        *bound = bound.max(graph.bound);
    }
    let mut page =
        String::from("| graphs of | graphs | largest error seen | within |\n|---|---|---|---|\n");
    for (kind, (n_graphs, seen, bound)) in rows {
        let seen = stated.cell(&[kind], 1, seen, bound);
        writeln!(page, "| {kind} | {n_graphs} | {seen} | {bound:e} |").unwrap();
    }
    page
}

/// Checks that a table is what the page has between its marks, whose first `n_keys` cells tell rows apart.
fn check_table(mark: &str, n_keys: usize, table: fn(&Stated) -> String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/formats.md");
    let page = fs::read_to_string(&path).unwrap();
    let (_, after) = page
        .split_once(&format!("<!-- {mark}: begin -->\n"))
        .unwrap();
    let (listed, _) = after.split_once(&format!("<!-- {mark}: end -->")).unwrap();
    let table = table(&Stated::read(listed, n_keys));
    assert!(
        listed == table,
        "docs/formats.md should have this table:\n{table}"
    );
}

#[test]
fn the_page_lists_what_the_fixtures_prove() {
    check_table("numbers", 1, table);
}

#[test]
fn the_page_lists_what_the_fixtures_of_other_libraries_prove() {
    check_table("libraries", 2, library_table);
}

#[test]
fn the_page_lists_what_the_graphs_prove() {
    check_table("graphs", 1, graph_table);
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
    served.append(&mut words(&page, "Within others only:", "see `fixtures"));
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
