//! The store: what is written is there again, writes expect what was read.

use coracle_api::kind::{CONFIG_MAP, SECRET};
use serde_json::json;

use super::*;

fn key(name: &str) -> Key {
    Key::new(&CONFIG_MAP, "default", name)
}

fn object(name: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "default"}})
}

#[test]
fn what_was_written_is_there_after_opening_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.redb");
    {
        let store = Store::open(&path).unwrap();
        store.create(key("a"), object("a")).unwrap();
        let b = store.create(key("b"), object("b")).unwrap();
        store
            .update(
                &key("b"),
                b.version,
                json!({"metadata": {"name": "b"}, "data": {"x": "1"}}),
            )
            .unwrap();
        let c = store.create(key("c"), object("c")).unwrap();
        store.delete(&key("c"), c.version).unwrap();
        assert!(matches!(Store::open(&path), Err(StoreError::InUse { .. })));
    }
    let store = Store::open(&path).unwrap();
    assert_eq!(store.version(), 5);
    let (objects, version) = store.list(&CONFIG_MAP, None);
    let names: Vec<&str> = objects.iter().map(|stored| stored.key.name()).collect();
    assert_eq!((names, version), (vec!["a", "b"], 5));
    assert_eq!(objects[1].version, 3);
    assert_eq!(objects[1].object["metadata"]["resourceVersion"], "3");
    assert_eq!(objects[1].object["data"]["x"], "1");
    assert_eq!(
        store.changes_after(4).unwrap_err(),
        Expired,
        "history starts anew"
    );
    assert!(store.changes_after(5).unwrap().is_empty());
}

#[test]
fn writes_expect_what_was_read() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("state.redb")).unwrap();
    let a = store.create(key("a"), object("a")).unwrap();
    assert!(matches!(
        store.create(key("a"), object("a")),
        Err(StoreError::AlreadyExists)
    ));
    assert!(matches!(
        store.update(&key("a"), 9, object("a")),
        Err(StoreError::Conflict)
    ));
    assert!(matches!(
        store.delete(&key("b"), 1),
        Err(StoreError::NotFound)
    ));
    store.delete(&key("a"), a.version).unwrap();
    let changes = store.changes_after(0).unwrap();
    let kinds: Vec<ChangeKind> = changes.iter().map(|change| change.kind).collect();
    assert_eq!(kinds, [ChangeKind::Added, ChangeKind::Deleted]);
    assert_eq!(changes[1].stored.version, 2);
    assert_eq!(*store.subscribe().borrow(), 2);
}

#[test]
fn lists_are_of_one_kind_and_namespace() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("state.redb")).unwrap();
    for (kind, namespace, name) in [
        (&SECRET, "default", "s"),
        (&CONFIG_MAP, "b", "x"),
        (&CONFIG_MAP, "a", "y"),
        (&CONFIG_MAP, "a", "x"),
    ] {
        store
            .create(Key::new(kind, namespace, name), json!({}))
            .unwrap();
    }
    let names = |namespace: Option<&str>| -> Vec<String> {
        let (objects, _) = store.list(&CONFIG_MAP, namespace);
        objects
            .iter()
            .map(|stored| format!("{}/{}", stored.key.namespace(), stored.key.name()))
            .collect()
    };
    assert_eq!(names(None), ["a/x", "a/y", "b/x"]);
    assert_eq!(names(Some("a")), ["a/x", "a/y"]);
    assert!(names(Some("c")).is_empty());
    assert_eq!(store.in_namespace("a").len(), 2);
}
