//! Files that must be refused, naming why.

use coracle_base::ManualClock;
use coracle_formats::{LoadOptions, load_bytes};
use coracle_model::LoadErrorKind;

use crate::fixture;

#[test]
fn what_is_not_served_is_refused_by_name() {
    let (fixtures, skops) = (
        fixture::read("unsupported"),
        fixture::read("skops/unsupported"),
    );
    assert!(fixtures.len() >= 8 && skops.len() >= 3);
    let older = fixture::OLDER_RELEASES.iter();
    let older = older.filter(|release| **release != "0.24.2");
    let older = older.map(|release| fixture::read(&format!("unsupported-older/{release}")));
    let older: Vec<fixture::Fixture> = older.flatten().collect();
    assert!(older.len() >= 30);
    for fixture in fixtures.into_iter().chain(skops).chain(older) {
        let error = fixture
            .load()
            .err()
            .unwrap_or_else(|| panic!("{} loaded", fixture.label()));
        assert!(
            matches!(
                error.kind(),
                LoadErrorKind::Unsupported | LoadErrorKind::Refused | LoadErrorKind::Malformed
            ),
            "{error}"
        );
        let message = error.to_string();
        let file = fixture
            .path
            .file_name()
            .unwrap()
            .to_string_lossy()
            .into_owned();
        assert!(message.contains(&file), "{message} does not name {file}");
        for name in fixture.document["names"].as_array().unwrap() {
            let name = name.as_str().unwrap();
            assert!(message.contains(name), "{message:?} does not name {name:?}");
        }
    }
}

/// A pickle of protocol 0 that asks for `module.name` and calls it with one text.
fn calling(module: &str, name: &str) -> Vec<u8> {
    format!("c{module}\n{name}\n(S'x'\ntR.").into_bytes()
}

#[test]
fn foreign_names_are_refused_and_damaged_files_are_told_from_them() {
    let load = |bytes: &[u8]| {
        let error = load_bytes(bytes, &LoadOptions::default(), &ManualClock::new());
        let error = error.err().unwrap_or_else(|| panic!("{bytes:?} loaded"));
        (error.kind(), error.to_string())
    };
    let cases: [(Vec<u8>, LoadErrorKind, &str); 7] = [
        (
            b"PK\x03\x04".to_vec(),
            LoadErrorKind::Malformed,
            "not a sound skops file: a zip archive without the end of its directory at byte 0",
        ),
        (
            calling("posix", "system"),
            LoadErrorKind::Refused,
            "refuses to load 'posix.system' (not a known data type)",
        ),
        (
            calling("sklearn.utils", "os.system"),
            LoadErrorKind::Refused,
            "refuses to load 'sklearn.utils.os.system' (not a known data type)",
        ),
        (
            calling("sklearn.svm._classes", "SVC"),
            LoadErrorKind::Unsupported,
            "class 'sklearn.svm._classes.SVC' is not a fitted scikit-learn estimator",
        ),
        (
            b"N.".to_vec(),
            LoadErrorKind::Unsupported,
            "holds None, not a fitted scikit-learn estimator; save the estimator itself",
        ),
        (Vec::new(), LoadErrorKind::Malformed, "the file is empty"),
        (
            b"# Title".to_vec(),
            LoadErrorKind::Malformed,
            "not a sound pickle or joblib file: the unknown opcode 0x23 at byte 0",
        ),
    ];
    for (bytes, kind, message) in cases {
        assert_eq!(load(&bytes), (kind, message.to_owned()));
    }
}
