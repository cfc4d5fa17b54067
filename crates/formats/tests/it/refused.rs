//! Files that must be refused, naming why.

use coracle_model::LoadErrorKind;

use crate::fixture;

#[test]
fn what_is_not_served_is_refused_by_name() {
    let fixtures = fixture::read("unsupported");
    assert!(fixtures.len() >= 8);
    for fixture in fixtures {
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
