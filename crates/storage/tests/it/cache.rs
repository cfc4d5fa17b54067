//! What stays in the cache, what goes, and what several places become together.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use coracle_base::ByteCount;
use coracle_storage::{
    Artifact, ArtifactRequest, Assembly, Credentials, PlacedRequest, Storage, StorageError,
    StorageErrorKind, StorageLimits,
};

use crate::bucket::{Bucket, credentials};
use crate::server::{Reply, Server};
use crate::{Setup, fetch, files_of};

/// Four models of 100 bytes each.
fn four() -> Bucket {
    Bucket::with(&[
        ("a/m.bst", &[b'a'; 100]),
        ("b/m.bst", &[b'b'; 100]),
        ("c/m.bst", &[b'c'; 100]),
        ("d/m.bst", &[b'd'; 100]),
    ])
}

/// Room for two of them and a half.
fn small() -> Setup {
    Setup {
        cache_bytes_max: Some(ByteCount::new(250)),
        ..Setup::new()
    }
}

/// Fetches and gives back at once, so that the artifact may be evicted; returns where it is, or was.
async fn visit(storage: &Storage, server: &Server, name: &str) -> std::path::PathBuf {
    let uri = format!("s3://bucket/{name}");
    let artifact = fetch(storage, &uri, &credentials(server)).await.unwrap();
    artifact.directory
}

fn entries(directory: &Path) -> usize {
    std::fs::read_dir(directory).unwrap().count()
}

#[tokio::test]
async fn what_was_used_least_recently_goes_first() {
    let server = four().serve().await;
    let setup = small();
    let storage = setup.storage();
    let a = visit(&storage, &server, "a").await;
    let b = visit(&storage, &server, "b").await;
    visit(&storage, &server, "a").await;
    let c = visit(&storage, &server, "c").await;
    assert!(a.exists() && !b.exists() && c.exists());
    // As after a restart: the order of uses is on the disk.
    drop(storage);
    let storage = setup.storage();
    visit(&storage, &server, "a").await;
    let d = visit(&storage, &server, "d").await;
    assert!(a.exists() && !c.exists() && d.exists());
    assert_eq!(setup.n_artifacts(), 2);
    assert_eq!(entries(&setup.root.path().join("used")), 2);
    assert_eq!(entries(&setup.root.path().join("evicted")), 0);
    // What went is fetched again.
    server.requests();
    let b = visit(&storage, &server, "b").await;
    assert_eq!(files_of(&b)["m.bst"], [b'b'; 100]);
    assert!(!a.exists());
}

#[tokio::test]
async fn what_is_in_use_stays_even_if_it_is_more_than_the_limit() {
    let server = four().serve().await;
    let setup = small();
    let storage = setup.storage();
    let secret = credentials(&server);
    let mut held = Vec::new();
    for name in ["a", "b", "c"] {
        let uri = format!("s3://bucket/{name}");
        held.push(fetch(&storage, &uri, &secret).await.unwrap());
    }
    assert_eq!(setup.n_artifacts(), 3);
    assert!(held.iter().all(|artifact| artifact.directory.exists()));
    // The one that is let go of first is the one that goes, although it was used last.
    let c = held.pop().unwrap().directory;
    visit(&storage, &server, "d").await;
    assert!(held.iter().all(|artifact| artifact.directory.exists()));
    assert!(!c.exists());
}

#[tokio::test]
async fn without_a_limit_nothing_goes() {
    let server = four().serve().await;
    let setup = Setup::new();
    let storage = setup.storage();
    for name in ["a", "b", "c", "d"] {
        visit(&storage, &server, name).await;
    }
    assert_eq!(setup.n_artifacts(), 4);
}

#[tokio::test]
async fn what_an_interrupted_fetch_left_goes_before_artifacts() {
    let server = four().serve().await;
    let setup = small();
    let partial = setup.root.path().join("partial/abandoned/files");
    std::fs::create_dir_all(&partial).unwrap();
    std::fs::write(partial.join("m.bst"), [0; 100]).unwrap();
    let storage = setup.storage();
    let a = visit(&storage, &server, "a").await;
    assert!(partial.exists());
    let b = visit(&storage, &server, "b").await;
    assert!(!partial.exists() && a.exists() && b.exists());
}

#[tokio::test]
async fn fetches_side_by_side_in_a_cache_that_is_too_small_all_succeed() {
    let server = four().serve().await;
    let setup = small();
    let storage = Arc::new(setup.storage());
    let mut tasks = Vec::new();
    for round in 0..8 {
        for name in ["a", "b", "c", "d"] {
            let (storage, secret) = (Arc::clone(&storage), credentials(&server));
            tasks.push(tokio::spawn(async move {
                let uri = format!("s3://bucket/{name}");
                let artifact = fetch(&storage, &uri, &secret).await.unwrap();
                // As long as it is held, it is there.
                tokio::task::yield_now().await;
                let content = std::fs::read(artifact.directory.join("m.bst")).unwrap();
                assert_eq!(content, [name.as_bytes()[0]; 100], "round {round}");
            }));
        }
    }
    for task in tasks {
        task.await.unwrap();
    }
    visit(&storage, &server, "a").await;
    visit(&storage, &server, "b").await;
    visit(&storage, &server, "c").await;
    assert!(setup.n_artifacts() <= 2);
}

async fn fetch_for(
    storage: &Storage,
    asker: &str,
    secret: &Credentials,
) -> Result<Artifact, StorageError> {
    let request = ArtifactRequest {
        namespace: "team".to_owned(),
        uri: "s3://bucket/a".to_owned(),
        credentials: secret.clone(),
        asker: Some(asker.to_owned()),
    };
    storage.fetch(&request, &|_progress| ()).await
}

#[tokio::test]
async fn a_store_that_does_not_answer_takes_nothing_from_who_had_it_before() {
    let bucket = four();
    let is_down = Arc::new(AtomicBool::new(false));
    let down = Arc::clone(&is_down);
    let server = Server::start(move |request| {
        if down.load(Ordering::Relaxed) {
            Reply::new(503, "")
        } else {
            bucket.answer(request)
        }
    })
    .await;
    let setup = Setup::with(StorageLimits {
        attempts_max: 2,
        ..StorageLimits::default()
    });
    let secret = credentials(&server);
    let first = fetch_for(&setup.storage(), "team/iris-1", &secret)
        .await
        .unwrap();
    assert!(!first.is_from_before);
    is_down.store(true, Ordering::Relaxed);
    let again = fetch_for(&setup.storage(), "team/iris-1", &secret)
        .await
        .unwrap();
    assert_eq!(again, first);
    assert!(again.is_from_before);
    // Others are not given what they could not have asked for.
    let error = fetch_for(&setup.storage(), "other/iris-1", &secret)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Unreachable, "{error}");
    is_down.store(false, Ordering::Relaxed);
    let up = fetch_for(&setup.storage(), "team/iris-1", &secret)
        .await
        .unwrap();
    assert!(!up.is_from_before);
}

async fn assemble(
    setup: &Setup,
    server: &Server,
    places: &[(&str, &str)],
) -> Result<Assembly, StorageError> {
    let places = places.iter().map(|(uri, mount_path)| PlacedRequest {
        request: ArtifactRequest {
            namespace: "team".to_owned(),
            uri: (*uri).to_owned(),
            credentials: credentials(server),
            asker: None,
        },
        mount_path: (*mount_path).to_owned(),
    });
    let places: Vec<PlacedRequest> = places.collect();
    setup.storage().fetch_all(&places, &|_progress| ()).await
}

#[tokio::test]
async fn several_places_become_one_directory_of_links() {
    let bucket = Bucket::with(&[
        ("iris/m.bst", b"forest"),
        ("words/vocabulary.txt", b"words"),
        ("words/deep/more.txt", b"more"),
    ]);
    let server = bucket.serve().await;
    let setup = Setup::new();
    let local = setup.root.path().join("labels.txt");
    std::fs::write(&local, "labels").unwrap();
    let local = format!("file://{}", local.display());
    let places = [
        ("s3://bucket/iris", "/mnt/models"),
        ("s3://bucket/words", "/mnt/models/tokenizer"),
        (local.as_str(), "/mnt/extra"),
    ];
    let assembly = assemble(&setup, &server, &places).await.unwrap();
    let artifact = &assembly.artifact;
    // The paths have /mnt in common; the model is looked for at /mnt/models.
    let root = artifact.directory.parent().unwrap();
    assert!(artifact.directory.ends_with("models"));
    let expected: BTreeMap<String, Vec<u8>> = [
        ("models/m.bst", "forest"),
        ("models/tokenizer/vocabulary.txt", "words"),
        ("models/tokenizer/deep/more.txt", "more"),
        ("extra/labels.txt", "labels"),
    ]
    .map(|(path, content)| (path.to_owned(), content.as_bytes().to_vec()))
    .into();
    assert_eq!(files_of(root), expected);
    assert_eq!((artifact.bytes, artifact.n_files), (21, 4));
    assert_eq!(assembly.places[1], root.join("models/tokenizer"));
    // Nothing is copied.
    let link = root.join("models/m.bst");
    assert!(link.is_symlink());
    let target = std::fs::canonicalize(link).unwrap();
    let artifacts = std::fs::canonicalize(setup.root.path().join("artifacts")).unwrap();
    assert!(target.starts_with(artifacts), "{}", target.display());
    // The same places again are the same directory.
    let again = assemble(&setup, &server, &places).await.unwrap();
    assert_eq!(again.artifact, *artifact);
    assert_eq!(files_of(root), expected);
}

#[tokio::test]
async fn one_mount_path_takes_the_files_of_several_places() {
    let bucket = Bucket::with(&[("x/m.bst", b"forest"), ("y/notes.txt", b"notes")]);
    let server = bucket.serve().await;
    let setup = Setup::new();
    let places = [
        ("s3://bucket/x", "/mnt/models"),
        ("s3://bucket/y", "/mnt/models"),
    ];
    let assembly = assemble(&setup, &server, &places).await.unwrap();
    let files = files_of(&assembly.artifact.directory);
    assert_eq!(files.keys().collect::<Vec<_>>(), ["m.bst", "notes.txt"]);
}

#[tokio::test]
async fn places_that_give_the_same_file_are_refused() {
    let bucket = Bucket::with(&[
        ("x/m.bst", b"one"),
        ("y/m.bst", b"two"),
        ("z/deep/m.bst", b"three"),
        ("w/deep", b"a file"),
    ]);
    let server = bucket.serve().await;
    let cases = [
        [
            ("s3://bucket/x", "/mnt/models"),
            ("s3://bucket/y", "/mnt/models"),
        ],
        [
            ("s3://bucket/w", "/mnt/models"),
            ("s3://bucket/x", "/mnt/models/deep"),
        ],
    ];
    for places in cases {
        let setup = Setup::new();
        let error = assemble(&setup, &server, &places).await.unwrap_err();
        assert_eq!(error.kind(), StorageErrorKind::UnsupportedUri);
        assert!(
            error
                .to_string()
                .starts_with("two of the storageUris give `"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn what_is_assembled_keeps_its_artifacts_in_the_cache() {
    let server = four().serve().await;
    let setup = small();
    let places = [
        ("s3://bucket/a", "/mnt/models/a"),
        ("s3://bucket/b", "/mnt/models/b"),
    ];
    let placed: Vec<PlacedRequest> = places
        .iter()
        .map(|(uri, mount_path)| PlacedRequest {
            request: ArtifactRequest {
                namespace: "team".to_owned(),
                uri: (*uri).to_owned(),
                credentials: credentials(&server),
                asker: None,
            },
            mount_path: (*mount_path).to_owned(),
        })
        .collect();
    let storage = setup.storage();
    let assembly = storage.fetch_all(&placed, &|_progress| ()).await.unwrap();
    visit(&storage, &server, "c").await;
    visit(&storage, &server, "d").await;
    let files = files_of(&assembly.artifact.directory);
    assert_eq!(files["a/m.bst"], [b'a'; 100]);
    assert_eq!(files["b/m.bst"], [b'b'; 100]);
    let links = assembly.artifact.directory.join("a/m.bst");
    drop(assembly);
    visit(&storage, &server, "c").await;
    visit(&storage, &server, "d").await;
    assert!(std::fs::read(links).is_err(), "evicted once it was let go");
}
