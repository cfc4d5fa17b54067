//! Sizes and names of files, with a ratchet: an old offender may shrink, never grow.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::command;

/// The most lines a source file may have, its tests left out.
const FILE_LINES_MAX: usize = 800;

/// The most functions that may be exempt from the limit of 70 lines (`clippy::too_many_lines`).
const LONG_FUNCTIONS_MAX: usize = 0;

/// Files allowed to be longer, with the length they may not exceed. Entries only shrink or go.
const RATCHET: [(&str, usize); 0] = [];

/// Names that say nothing about what is inside.
const BANNED_STEMS: [&str; 6] = ["mod", "utils", "util", "helpers", "common", "misc"];

/// Documents with a bound on their length.
const DOCUMENTS: [(&str, usize); 1] = [("ARCHITECTURE.md", 399)];

/// Crates that read bytes from outside, and the lints their `lib.rs` must deny.
const PARSERS: [&str; 4] = ["pickle", "formats", "protocol", "text"];
const PARSER_LINTS: [&str; 4] = [
    "clippy::indexing_slicing",
    "clippy::as_conversions",
    "clippy::arithmetic_side_effects",
    "clippy::expect_used",
];

/// The most lines `coracle-base` may have in all, so that it stays a vocabulary.
const BASE_LINES_MAX: usize = 1_500;

/// Returns what breaks the rules.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let mut complaints = Vec::new();
    let mut n_long_functions = 0;
    let mut n_base_lines = 0;
    for path in source_files(root)? {
        let text = read(root, &path)?;
        let name = path.to_string_lossy().into_owned();
        complaints.extend(check_source(&name, &text));
        n_long_functions += count_exemptions(&text);
        if name.starts_with("crates/base/") {
            n_base_lines += text.lines().count();
        }
    }
    if n_long_functions > LONG_FUNCTIONS_MAX {
        complaints.push(format!(
            "{n_long_functions} functions are exempt from the limit of 70 lines; at most {LONG_FUNCTIONS_MAX} may be"
        ));
    }
    if n_base_lines > BASE_LINES_MAX {
        complaints.push(format!(
            "crates/base has {n_base_lines} lines; at most {BASE_LINES_MAX} may be"
        ));
    }
    for (document, lines_max) in DOCUMENTS {
        let n_lines = read(root, Path::new(document))?.lines().count();
        if n_lines > lines_max {
            complaints.push(format!(
                "{document} has {n_lines} lines; at most {lines_max} may be"
            ));
        }
    }
    for parser in PARSERS {
        let path = format!("crates/{parser}/src/lib.rs");
        let text = read(root, Path::new(&path))?;
        let missing = PARSER_LINTS.iter().filter(|lint| !text.contains(**lint));
        complaints.extend(
            missing.map(|lint| format!("{path} must deny {lint}: it reads bytes from outside")),
        );
    }
    complaints.extend(unmerged(root)?);
    Ok(complaints)
}

/// Returns the files that a merge was left in the middle of, tables of tests among them.
fn unmerged(root: &Path) -> Result<Vec<String>> {
    let mut git = std::process::Command::new("git");
    git.current_dir(root)
        .args(["grep", "-I", "-l", "-E", "^(<<<<<<<|>>>>>>>) "]);
    // It fails where nothing is found.
    let listing = git.output().context("git grep")?.stdout;
    let listing = String::from_utf8_lossy(&listing);
    let files = listing.lines();
    Ok(files
        .map(|file| format!("{file} holds both sides of a merge"))
        .collect())
}

/// Lists the Rust files that git tracks or would track.
fn source_files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut git = std::process::Command::new("git");
    git.current_dir(root).args([
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "*.rs",
    ]);
    let listing = command::output(&mut git)?;
    let paths = listing.lines().map(PathBuf::from);
    Ok(paths.filter(|path| root.join(path).exists()).collect())
}

fn read(root: &Path, path: &Path) -> Result<String> {
    std::fs::read_to_string(root.join(path)).with_context(|| path.display().to_string())
}

fn check_source(name: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let stem = Path::new(name).file_stem().and_then(|stem| stem.to_str());
    if stem.is_some_and(|stem| BANNED_STEMS.contains(&stem)) {
        complaints.push(format!("{name}: name the file for its main type or noun"));
    }
    if !text.trim_start().starts_with("//!") && !text.starts_with("#!") {
        complaints.push(format!(
            "{name}: must begin with `//!`, saying what the file is for"
        ));
    }
    let n_lines = count_lines_without_tests(name, text);
    let ratchet: BTreeMap<&str, usize> = RATCHET.into_iter().collect();
    let lines_max = ratchet.get(name).copied().unwrap_or(FILE_LINES_MAX);
    if n_lines > lines_max {
        complaints.push(format!(
            "{name} has {n_lines} lines; at most {lines_max} may be (tests left out)"
        ));
    }
    complaints
}

/// Counts the lines of a file up to its test module; test files count as nothing.
fn count_lines_without_tests(name: &str, text: &str) -> usize {
    if name.contains("/tests/") || name.ends_with("/tests.rs") {
        return 0;
    }
    text.lines()
        .take_while(|line| *line != "#[cfg(test)]")
        .count()
}

fn count_exemptions(text: &str) -> usize {
    let is_exemption = |line: &&str| {
        line.contains("clippy::too_many_lines")
            && (line.contains("allow(") || line.contains("expect("))
    };
    text.lines().filter(is_exemption).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lengths_and_headers_are_checked() {
        let long = format!("//! Doc.\n{}", "fn f() {}\n".repeat(900));
        let long_tests = format!("//! Doc.\n#[cfg(test)]\n{}", "fn f() {}\n".repeat(900));
        let cases = [
            ("crates/a/src/tree.rs", "//! Doc.\n", 0),
            ("crates/a/src/tree.rs", "fn main() {}\n", 1),
            ("crates/a/src/utils.rs", "//! Doc.\n", 1),
            ("crates/a/src/mod.rs", "//! Doc.\n", 1),
            ("crates/a/src/tree.rs", long.as_str(), 1),
            ("crates/a/src/tree/tests.rs", long.as_str(), 0),
            ("crates/a/src/tree.rs", long_tests.as_str(), 0),
        ];
        for (name, text, n_complaints) in cases {
            assert_eq!(check_source(name, text).len(), n_complaints, "{name}");
        }
    }

    #[test]
    fn exemptions_from_the_function_limit_are_counted() {
        let exempt = [
            "#[expect(",
            "clippy::too_many_lines, reason = \"a table\")]",
        ]
        .concat();
        assert_eq!(count_exemptions(&exempt), 1);
        assert_eq!(count_exemptions("// clippy::too_many_lines"), 0);
    }
}
