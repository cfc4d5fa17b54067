//! The table of docs/formats.md: what the fixtures prove, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::Path;

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

#[test]
fn the_page_lists_what_the_fixtures_prove() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/formats.md");
    let page = fs::read_to_string(&path).unwrap();
    let (_, after) = page.split_once("<!-- numbers: begin -->\n").unwrap();
    let (listed, _) = after.split_once("<!-- numbers: end -->").unwrap();
    let table = table();
    assert!(
        listed == table,
        "docs/formats.md should have this table:\n{table}"
    );
}
