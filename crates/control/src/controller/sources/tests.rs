//! Places by URI, by several URIs, and by a key of `storage-config`.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use coracle_api::kind::{CONFIG_MAP, SECRET, SERVICE_ACCOUNT};
use serde_json::json;

use super::*;
use crate::store::Key;

/// A store with the secret `storage-config`, whose entries are these.
fn store(entries: &[(&str, &str)]) -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("state.redb")).unwrap();
    if !entries.is_empty() {
        let data = entries
            .iter()
            .map(|(key, text)| ((*key).to_owned(), BASE64_STANDARD.encode(text).into()));
        let data = Value::Object(data.collect());
        store
            .create(
                Key::new(&SECRET, "ml", STORAGE_CONFIG),
                json!({"data": data}),
            )
            .unwrap();
    }
    (directory, store)
}

fn find_in(store: &Store, predictor: Value) -> Result<Source, String> {
    let service = json!({"metadata": {"name": "iris", "namespace": "ml"}});
    let typed: PredictorSpec = serde_json::from_value(predictor.clone()).unwrap();
    find(store, &service, (&predictor, &typed))
}

fn with_storage(storage: Value) -> Value {
    json!({"model": {"modelFormat": {"name": "sklearn"}, "storage": storage}})
}

const MINIO: &str = r#"{"type": "s3", "access_key_id": "minio", "secret_access_key": "minio123",
    "endpoint_url": "http://minio:9000", "bucket": "models", "region": "us-south", "verify_ssl": false}"#;

#[test]
fn a_key_names_a_place_with_its_credentials() {
    let (_directory, store) = store(&[("minio", MINIO)]);
    let storage = json!({"key": "minio", "path": "/sklearn/iris"});
    let source = find_in(&store, with_storage(storage)).unwrap();
    assert_eq!(source.uri, "s3://models/sklearn/iris");
    let data = &source.credentials.data;
    assert_eq!(data["AWS_ACCESS_KEY_ID"], "minio");
    assert_eq!(data["AWS_SECRET_ACCESS_KEY"], "minio123");
    let annotation = |name: &str| {
        let name = format!("serving.kserve.io/s3-{name}");
        source.credentials.annotations[&name].as_str()
    };
    assert_eq!(annotation("endpoint"), "http://minio:9000");
    assert_eq!(annotation("region"), "us-south");
    assert_eq!(annotation("verifyssl"), "false");
}

#[test]
fn places_of_each_type_have_their_uris() {
    let (_directory, store) = store(&[
        ("default", MINIO),
        ("default_gs", r#"{"bucket": "b"}"#),
        (
            "gcs",
            r#"{"type": "gcs", "bucket": "b", "private_key": "k", "client_email": "e@x"}"#,
        ),
        (
            "az",
            r#"{"type": "azure", "account_name": "acc", "container": "box"}"#,
        ),
        ("web", r#"{"type": "https", "url": "https://h/models/"}"#),
        ("disk", r#"{"type": "pvc", "name": "claim"}"#),
    ]);
    let cases = [
        (json!({"path": "iris"}), "s3://models/iris"),
        // Parameters come before what the secret says.
        (
            json!({"path": "iris", "parameters": {"bucket": "other"}}),
            "s3://other/iris",
        ),
        (
            json!({"path": "iris", "parameters": {"type": "gs"}}),
            "gs://b/iris",
        ),
        (json!({"key": "gcs", "path": "iris"}), "gs://b/iris"),
        (
            json!({"key": "az", "path": "iris"}),
            "https://acc.blob.core.windows.net/box/iris",
        ),
        (
            json!({"key": "web", "path": "iris.joblib"}),
            "https://h/models/iris.joblib",
        ),
        (json!({"key": "disk", "path": "iris"}), "pvc://claim/iris"),
    ];
    for (storage, expected) in cases {
        let source = find_in(&store, with_storage(storage.clone())).unwrap();
        assert_eq!(source.uri, expected, "{storage}");
    }
    let source = find_in(&store, with_storage(json!({"key": "gcs", "path": "iris"}))).unwrap();
    let key = &source.credentials.data["gcloud-application-credentials.json"];
    let key: Value = serde_json::from_str(key).unwrap();
    assert_eq!(
        (&key["private_key"], &key["client_email"]),
        (&json!("k"), &json!("e@x"))
    );
}

#[test]
fn a_key_goes_with_a_storage_uri_too() {
    let (_directory, store) = store(&[("minio", MINIO)]);
    let model = json!({"model": {"modelFormat": {"name": "sklearn"}, "storageUri": "s3://else/iris", "storage": {"key": "minio"}}});
    let source = find_in(&store, model).unwrap();
    assert_eq!(source.uri, "s3://else/iris");
    assert_eq!(source.credentials.data["AWS_ACCESS_KEY_ID"], "minio");
}

#[test]
fn what_is_missing_is_said_in_kserves_words() {
    let (_directory, full) = store(&[
        ("minio", MINIO),
        ("broken", "{"),
        ("list", "[]"),
        ("typeless", r#"{"bucket": "b"}"#),
        ("hadoop", r#"{"type": "hdfs", "HDFS_NAMENODE": "n"}"#),
        ("bucketless", r#"{"type": "s3"}"#),
    ]);
    let (_directory, empty) = store(&[]);
    let cases = [
        (
            &empty,
            json!({"key": "minio", "path": "x"}),
            "can't read storage secret storage-config: secrets \"storage-config\" not found",
        ),
        (
            &empty,
            json!({"path": "x"}),
            "unable to determine storage type",
        ),
        (
            &full,
            json!({"key": "other", "path": "x"}),
            "specified storage key other not found in storage secret storage-config",
        ),
        (
            &full,
            json!({"key": "broken", "path": "x"}),
            "invalid json encountered in key broken of storage secret storage-config: ",
        ),
        (
            &full,
            json!({"key": "list", "path": "x"}),
            "invalid json encountered in key list of storage secret storage-config: it is no object",
        ),
        (
            &full,
            json!({"key": "typeless", "path": "x"}),
            "unable to determine storage type",
        ),
        (
            &full,
            json!({"key": "hadoop", "path": "x"}),
            "storage type must be one of [s3, gs, azure, http, https, pvc]. storage type [hdfs] is not supported",
        ),
        (
            &full,
            json!({"key": "bucketless", "path": "x"}),
            "format [s3] requires a bucket but one wasn't found in storage data or parameters",
        ),
        (&full, json!({"key": "minio"}), "no storage.path: "),
    ];
    for (store, storage, expected) in cases {
        let problem = find_in(store, with_storage(storage.clone())).err();
        let problem = problem.unwrap_or_else(|| panic!("{storage} was found"));
        assert!(problem.starts_with(expected), "{storage}: {problem}");
    }
    let both = json!({"model": {"modelFormat": {"name": "sklearn"}, "storageUri": "s3://b/x", "storage": {"path": "y"}}});
    assert_eq!(
        find_in(&full, both).err().as_deref(),
        Some("must provide only one of storageUri and storage.path")
    );
}

#[test]
fn several_uris_are_places_with_mount_paths() {
    let (_directory, store) = store(&[]);
    let predictor = json!({
        "model": {"modelFormat": {"name": "sklearn"}},
        "storageUris": [{"uri": "s3://b/iris"}, {"uri": "hf://o/m", "mountPath": "/mnt/models/words"}]
    });
    let source = find_in(&store, predictor).unwrap();
    assert_eq!(source.uri, "s3://b/iris, hf://o/m");
    let place = |uri: &str, mount_path: &str| SourcePlace {
        uri: uri.to_owned(),
        mount_path: mount_path.to_owned(),
    };
    assert_eq!(
        source.places,
        [
            place("s3://b/iris", "/mnt/models"),
            place("hf://o/m", "/mnt/models/words")
        ]
    );
    let one = json!({"model": {"modelFormat": {"name": "sklearn"}}, "storageUris": [{"uri": "s3://b/x"}]});
    let source = find_in(&store, one).unwrap();
    assert_eq!((source.uri.as_str(), source.places.len()), ("s3://b/x", 0));
}

#[test]
fn authorities_come_from_the_config_map() {
    let entry = r#"{"type": "s3", "bucket": "b", "cabundle_configmap": "authorities"}"#;
    let (_directory, store) = store(&[("tls", entry)]);
    let storage = || with_storage(json!({"key": "tls", "path": "x"}));
    let problem = find_in(&store, storage()).err().unwrap();
    assert!(
        problem.ends_with("configmaps \"authorities\" not found in namespace ml"),
        "{problem}"
    );
    let key = Key::new(&CONFIG_MAP, "ml", "authorities");
    store
        .create(key, json!({"data": {"cabundle.crt": "PEM"}}))
        .unwrap();
    let source = find_in(&store, storage()).unwrap();
    assert_eq!(source.credentials.data["cabundle.crt"], "PEM");
}

#[test]
fn accounts_and_secrets_that_are_named_must_be_there() {
    let (_directory, store) = store(&[]);
    let model = json!({"modelFormat": {"name": "sklearn"}, "storageUri": "s3://b/x"});
    assert!(find_in(&store, json!({"model": model})).is_ok());
    let with_account = || json!({"model": model, "serviceAccountName": "robot"});
    assert_eq!(
        find_in(&store, with_account()).err().as_deref(),
        Some(
            "serviceaccount \"robot\" not found in namespace ml; spec.predictor.serviceAccountName names it"
        )
    );
    let account = Key::new(&SERVICE_ACCOUNT, "ml", "robot");
    store
        .create(account, json!({"secrets": [{"name": "s3"}]}))
        .unwrap();
    assert_eq!(
        find_in(&store, with_account()).err().as_deref(),
        Some("secret \"s3\" not found in namespace ml; serviceaccount robot names it")
    );
    let secret = Key::new(&SECRET, "ml", "s3");
    let data = json!({"data": {"AWS_ACCESS_KEY_ID": "dXNlcg=="}});
    store.create(secret, data).unwrap();
    let source = find_in(&store, with_account()).unwrap();
    assert_eq!(source.credentials.data["AWS_ACCESS_KEY_ID"], "user");
    let service = json!({"metadata": {
        "name": "iris", "namespace": "ml", "annotations": {(STORAGE_SECRET_NAME): "other"}
    }});
    let template = json!({"model": model});
    let predictor: PredictorSpec = serde_json::from_value(template.clone()).unwrap();
    let found = find(&store, &service, (&template, &predictor));
    assert_eq!(
        found.err().as_deref(),
        Some(
            "secret \"other\" not found in namespace ml; annotation serving.kserve.io/storageSecretName names it"
        )
    );
}
