//! Patches and applies as tables and scenarios.

use serde_json::json;

use super::*;

/// Containers by name, finalizers as a set, everything else whole.
struct Pods;

impl Topology for Pods {
    fn list(&self, path: &[&str]) -> ListKind {
        match path.last() {
            Some(&"containers") => ListKind::Map {
                keys: vec!["name".to_owned()],
            },
            Some(&"finalizers") => ListKind::Set,
            _ => ListKind::Atomic,
        }
    }

    fn is_atomic_map(&self, path: &[&str]) -> bool {
        path.last() == Some(&"selector")
    }
}

fn manager<'a>(name: &'a str, operation: Operation, time: &'a str) -> Manager<'a> {
    Manager {
        name,
        operation,
        api_version: "v1",
        subresource: "",
        time,
    }
}

fn applied(live: Option<&Value>, name: &str, config: &Value) -> Value {
    apply(
        live,
        config,
        &manager(name, Operation::Apply, "t"),
        false,
        &Pods,
    )
    .unwrap()
}

fn without_managers(object: &Value) -> Value {
    let mut object = object.clone();
    object["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("managedFields");
    object
}

fn fields_of(object: &Value, name: &str) -> Value {
    let list = object["metadata"]["managedFields"].as_array().unwrap();
    let entry = list.iter().find(|entry| entry["manager"] == name);
    entry
        .map(|entry| entry["fieldsV1"].clone())
        .unwrap_or_default()
}

#[test]
fn json_patches_follow_the_standard_with_kubernetes_one_exception() {
    let cases = [
        (
            json!({"a": 1}),
            json!([{"op": "add", "path": "/b", "value": 2}]),
            Ok(json!({"a": 1, "b": 2})),
        ),
        (
            json!({"a": [1, 2]}),
            json!([{"op": "remove", "path": "/a/0"}]),
            Ok(json!({"a": [2]})),
        ),
        (
            json!({"a": 1}),
            json!([{"op": "move", "from": "/a", "path": "/c"}]),
            Ok(json!({"c": 1})),
        ),
        (
            json!({}),
            json!([{"op": "test", "path": "/a/b", "value": null}]),
            Ok(json!({})),
        ),
        (
            json!({"a": 1}),
            json!([{"op": "test", "path": "/a", "value": 2}]),
            Err(PatchErrorKind::Invalid),
        ),
        (
            json!({}),
            json!([{"op": "remove", "path": "/a"}]),
            Err(PatchErrorKind::Invalid),
        ),
        (
            json!({}),
            json!([{"op": "fly", "path": "/a"}]),
            Err(PatchErrorKind::Malformed),
        ),
        (json!({}), json!({"a": 1}), Err(PatchErrorKind::Malformed)),
    ];
    for (mut target, patch, expected) in cases {
        let result = json_patch(&mut target, &patch)
            .map(|()| target)
            .map_err(|error| error.kind());
        assert_eq!(result, expected, "{patch}");
    }
}

#[test]
fn merge_patches_follow_the_standard() {
    // The table of RFC 7386, appendix A, where the target is an object.
    for (target, patch, expected) in [
        (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
        (
            json!({"a": "b"}),
            json!({"b": "c"}),
            json!({"a": "b", "b": "c"}),
        ),
        (json!({"a": "b"}), json!({"a": null}), json!({})),
        (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
        (
            json!({"a": {"b": "c"}}),
            json!({"a": {"b": "d", "c": null}}),
            json!({"a": {"b": "d"}}),
        ),
        (
            json!({"e": null}),
            json!({"a": 1}),
            json!({"e": null, "a": 1}),
        ),
        (
            json!({}),
            json!({"a": {"bb": {"ccc": null}}}),
            json!({"a": {"bb": {}}}),
        ),
    ] {
        let mut merged = target.clone();
        merge_patch(&mut merged, &patch);
        assert_eq!(merged, expected, "{target} {patch}");
    }
}

#[test]
fn strategic_patches_merge_lists_by_key_new_items_first() {
    let key = |path: &[&str]| (path.last() == Some(&"secrets")).then(|| "name".to_owned());
    let cases = [
        (
            json!({"secrets": [{"name": "old"}]}),
            json!({"secrets": [{"name": "new"}]}),
            json!({"secrets": [{"name": "new"}, {"name": "old"}]}),
        ),
        (
            json!({"secrets": [{"name": "a", "x": 1}]}),
            json!({"secrets": [{"name": "a", "y": 2}]}),
            json!({"secrets": [{"name": "a", "x": 1, "y": 2}]}),
        ),
        (
            json!({"secrets": [{"name": "a"}, {"name": "b"}]}),
            json!({"secrets": [{"name": "a", "$patch": "delete"}]}),
            json!({"secrets": [{"name": "b"}]}),
        ),
        (
            json!({"secrets": [{"name": "a"}]}),
            json!({"secrets": [{"$patch": "replace"}, {"name": "b"}]}),
            json!({"secrets": [{"name": "b"}]}),
        ),
        (
            json!({"data": {"a": 1, "b": 2}}),
            json!({"data": {"a": null, "c": 3}}),
            json!({"data": {"b": 2, "c": 3}}),
        ),
        (
            json!({"data": {"a": 1}}),
            json!({"data": {"$patch": "replace", "c": 3}}),
            json!({"data": {"c": 3}}),
        ),
        (
            json!({"data": {"a": 1}}),
            json!({"data": {"$patch": "delete"}}),
            json!({}),
        ),
        (
            json!({"list": [1, 2]}),
            json!({"list": [3]}),
            json!({"list": [3]}),
        ),
        (
            json!({"list": [1, 2, 3]}),
            json!({"$deleteFromPrimitiveList/list": [2], "$setElementOrder/list": [1, 3]}),
            json!({"list": [1, 3]}),
        ),
        (
            json!({"s": {"type": "a", "x": 1}}),
            json!({"s": {"$retainKeys": ["type"], "type": "b"}}),
            json!({"s": {"type": "b"}}),
        ),
    ];
    for (target, patch, expected) in cases {
        let mut merged = target.clone();
        strategic_merge(&mut merged, &patch, &key).unwrap();
        assert_eq!(merged, expected, "{target} {patch}");
    }
    assert!(strategic_merge(&mut json!({}), &json!({"a": {"$patch": "fly"}}), &key).is_err());
    assert!(
        strategic_merge(
            &mut json!({"secrets": []}),
            &json!({"secrets": [{"x": 1}]}),
            &key
        )
        .is_err()
    );
}

#[test]
fn sets_read_and_write_kubernetes_form() {
    let form = json!({
        "f:metadata": {"f:labels": {".": {}, "f:app": {}}, "f:finalizers": {"v:\"a\"": {}}},
        "f:spec": {"f:containers": {"k:{\"name\":\"x\"}": {".": {}, "f:image": {}, "f:name": {}}}, "f:n": {}}
    });
    assert_eq!(FieldSet::parse(&form).to_json(), form);
    let object = json!({
        "metadata": {"labels": {"app": "b"}, "finalizers": ["a"]},
        "spec": {"containers": [{"name": "x", "image": "i"}], "n": 1}
    });
    let set = FieldSet::of(&object, &Pods);
    assert_eq!(set.to_json(), form);
    assert_eq!(
        set.paths(),
        [
            ".metadata.finalizers[=\"a\"]",
            ".metadata.labels",
            ".metadata.labels.app",
            ".spec.containers[name=\"x\"]",
            ".spec.containers[name=\"x\"].image",
            ".spec.containers[name=\"x\"].name",
            ".spec.n"
        ]
    );
}

#[test]
fn an_applier_owns_what_it_applies_and_no_more() {
    let config =
        json!({"metadata": {"name": "a", "labels": {"x": "1"}}, "spec": {"a": 1, "b": {"c": 2}}});
    let object = applied(None, "one", &config);
    assert_eq!(without_managers(&object), config);
    assert_eq!(
        fields_of(&object, "one"),
        json!({"f:metadata": {"f:labels": {".": {}, "f:x": {}}}, "f:spec": {"f:a": {}, "f:b": {"f:c": {}}}})
    );
    assert_eq!(
        applied(Some(&object), "one", &config),
        object,
        "nothing changes, not even the time"
    );
    // What is no longer wanted goes, with the parents that it leaves empty.
    let fewer = json!({"metadata": {"name": "a"}, "spec": {"a": 1}});
    let object = applied(Some(&object), "one", &fewer);
    assert_eq!(without_managers(&object), fewer);
}

#[test]
fn other_managers_fields_conflict_unless_forced() {
    let object = applied(
        None,
        "one",
        &json!({"metadata": {"name": "a"}, "spec": {"a": 1, "b": 1}}),
    );
    let config = json!({"metadata": {"name": "a"}, "spec": {"a": 2, "b": 1}});
    let two = manager("two", Operation::Apply, "t2");
    let conflicts = apply(Some(&object), &config, &two, false, &Pods).unwrap_err();
    assert_eq!(
        conflict_message(&conflicts),
        "Apply failed with 1 conflict: conflict with \"one\": .spec.a"
    );
    let forced = apply(Some(&object), &config, &two, true, &Pods).unwrap();
    assert_eq!(forced["spec"], json!({"a": 2, "b": 1}));
    assert_eq!(
        fields_of(&forced, "one"),
        json!({"f:spec": {"f:b": {}}}),
        "b is shared"
    );
    assert_eq!(
        fields_of(&forced, "two"),
        json!({"f:spec": {"f:a": {}, "f:b": {}}})
    );
    // A field that another still owns is not removed.
    let less = applied(
        Some(&forced),
        "two",
        &json!({"metadata": {"name": "a"}, "spec": {"a": 2}}),
    );
    assert_eq!(less["spec"], json!({"a": 2, "b": 1}));
    let both = json!({"metadata": {"name": "a"}, "spec": {"a": 3, "b": 3}});
    let conflicts = apply(
        Some(&forced),
        &both,
        &manager("three", Operation::Apply, "t"),
        false,
        &Pods,
    )
    .unwrap_err();
    assert_eq!(
        conflict_message(&conflicts),
        "Apply failed with 3 conflicts: conflicts with \"one\":\n- .spec.b\nconflicts with \"two\":\n- .spec.a\n- .spec.b"
    );
}

#[test]
fn managers_of_other_writes_are_named_with_their_version() {
    let by_edit = Manager {
        subresource: "scale",
        ..manager("kubectl-edit", Operation::Update, "t")
    };
    let mut object = json!({"metadata": {"name": "a"}, "spec": {"a": 1}});
    record_update(None, &mut object, &by_edit, &Pods);
    let config = json!({"metadata": {"name": "a"}, "spec": {"a": 2}});
    let two = manager("two", Operation::Apply, "t2");
    let conflicts = apply(Some(&object), &config, &two, false, &Pods).unwrap_err();
    assert_eq!(
        conflict_message(&conflicts),
        format!(
            "Apply failed with 1 conflict: conflict with \"kubectl-edit\" with subresource \"scale\" using {}: .spec.a",
            by_edit.api_version
        )
    );
}

#[test]
fn another_annotation_is_no_conflict_about_the_annotations() {
    let mut object = json!({"metadata": {"name": "a", "annotations": {"theirs": "1"}}});
    let created = manager("kubectl-create", Operation::Update, "t");
    record_update(None, &mut object, &created, &Pods);
    let config = json!({"metadata": {"name": "a", "annotations": {"ours": "2"}}});
    let applied = applied(Some(&object), "kubectl-last-applied", &config);
    assert_eq!(
        applied["metadata"]["annotations"],
        json!({"theirs": "1", "ours": "2"})
    );
}

#[test]
fn items_of_keyed_lists_have_owners_of_their_own() {
    let container = |name: &str, image: &str| json!({"name": name, "image": image});
    let object = applied(
        None,
        "one",
        &json!({"metadata": {}, "spec": {"containers": [container("a", "1")]}}),
    );
    let object = applied(
        Some(&object),
        "two",
        &json!({"metadata": {}, "spec": {"containers": [container("b", "2")]}}),
    );
    assert_eq!(
        object["spec"]["containers"],
        json!([container("a", "1"), container("b", "2")])
    );
    let object = applied(Some(&object), "one", &json!({"metadata": {}, "spec": {}}));
    assert_eq!(object["spec"]["containers"], json!([container("b", "2")]));
    let conflicts = apply(
        Some(&object),
        &json!({"metadata": {}, "spec": {"containers": [container("b", "3")]}}),
        &manager("three", Operation::Apply, "t"),
        false,
        &Pods,
    );
    assert_eq!(
        conflicts.unwrap_err()[0].field,
        ".spec.containers[name=\"b\"].image"
    );
}

#[test]
fn ordinary_writes_take_what_they_change() {
    let object = applied(
        None,
        "one",
        &json!({"metadata": {"name": "a"}, "spec": {"a": 1, "b": 1, "c": 1}}),
    );
    let mut new = object.clone();
    new["spec"] = json!({"a": 2, "b": 1});
    let patcher = manager("patcher", Operation::Update, "t2");
    record_update(Some(&object), &mut new, &patcher, &Pods);
    assert_eq!(fields_of(&new, "one"), json!({"f:spec": {"f:b": {}}}));
    assert_eq!(fields_of(&new, "patcher"), json!({"f:spec": {"f:a": {}}}));
    let mut same = new.clone();
    record_update(
        Some(&new),
        &mut same,
        &manager("other", Operation::Update, "t3"),
        &Pods,
    );
    assert_eq!(same, new);
    let mut cleared = new.clone();
    cleared["metadata"]["managedFields"] = json!([{}]);
    record_update(Some(&new), &mut cleared, &patcher, &Pods);
    assert_eq!(cleared["metadata"].get("managedFields"), None);
}

#[test]
fn a_client_side_applied_object_moves_to_server_side_apply() {
    // kubectl rewrites the managers by a JSON patch, as this test does, before it applies again.
    let mut object = json!({"metadata": {"name": "a"}, "spec": {"a": 1, "b": 1}});
    record_update(
        None,
        &mut object,
        &manager("kubectl-client-side-apply", Operation::Update, "t"),
        &Pods,
    );
    let mut moved = object.clone();
    moved["metadata"]["managedFields"][0]["manager"] = json!("kubectl");
    moved["metadata"]["managedFields"][0]["operation"] = json!("Apply");
    record_update(
        Some(&object),
        &mut moved,
        &manager("kubectl", Operation::Update, "t"),
        &Pods,
    );
    let object = applied(
        Some(&moved),
        "kubectl",
        &json!({"metadata": {"name": "a"}, "spec": {"a": 1}}),
    );
    assert_eq!(
        object["spec"],
        json!({"a": 1}),
        "what is no longer wanted is removed"
    );
}

#[test]
fn applying_twice_is_applying_once() {
    let mut seed = 7_u64;
    let mut random = move |below: u64| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for _ in 0..200 {
        let mut config = json!({"metadata": {"name": "a"}, "spec": {"containers": []}});
        for name in ["x", "y", "z"] {
            if random(2) == 0 {
                config["spec"][name] = json!(random(3));
            }
            if random(2) == 0 {
                let item = json!({"name": name, "image": random(3).to_string()});
                config["spec"]["containers"]
                    .as_array_mut()
                    .unwrap()
                    .push(item);
            }
        }
        let base = applied(
            None,
            "base",
            &json!({"metadata": {"name": "a"}, "spec": {"w": 1, "containers": [{"name": "w"}]}}),
        );
        let force = manager("m", Operation::Apply, "t");
        let once = apply(Some(&base), &config, &force, true, &Pods).unwrap();
        let twice = apply(
            Some(&once),
            &config,
            &manager("m", Operation::Apply, "later"),
            true,
            &Pods,
        )
        .unwrap();
        assert_eq!(once, twice);
        let form = fields_of(&once, "m");
        assert_eq!(FieldSet::parse(&form).to_json(), form);
    }
}
