//! S3: listing, resumption, refusals, and what a second fetch does.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use coracle_base::{ByteCount, Code};
use coracle_storage::{ArtifactRequest, Credentials, StorageErrorKind, StorageLimits};

use crate::bucket::{Bucket, credentials, credentials_at};
use crate::server::{Reply, Request, Server};
use crate::{Setup, fetch, files_of, names_of, tar_of};

fn iris() -> Bucket {
    Bucket::with(&[
        ("models/iris/", b""),
        ("models/iris/a/model.bst", b"forest"),
        ("models/iris/empty", b""),
        ("models/iris/settings.json", b"{}"),
        ("models/iris2/model.bst", b"another"),
    ])
}

/// Returns what was asked of the objects themselves.
fn gets(requests: &[Request]) -> Vec<String> {
    requests
        .iter()
        .filter(|request| request.method == "GET" && request.path().len() > "/bucket/".len())
        .map(|request| format!("{} {}", request.path(), request.header("range")))
        .collect()
}

#[tokio::test]
async fn a_prefix_becomes_a_directory() {
    let server = iris().serve().await;
    let setup = Setup::new();
    let artifact = setup
        .fetch("s3://bucket/models/iris", &credentials(&server))
        .await
        .unwrap();
    let files = files_of(&artifact.directory);
    assert_eq!(files.len(), 2, "{files:?}");
    assert_eq!(files["a/model.bst"], b"forest");
    assert_eq!((artifact.bytes, artifact.n_files), (8, 2));
    let local = setup
        .fetch(
            artifact.directory.to_str().unwrap(),
            &Credentials::default(),
        )
        .await
        .unwrap();
    assert_eq!(local.digest, artifact.digest);
    let requests = server.requests();
    assert!(requests.iter().all(|request| {
        request
            .header("authorization")
            .starts_with("AWS4-HMAC-SHA256 Credential=key/")
    }));
}

#[tokio::test]
async fn a_second_fetch_downloads_nothing_until_the_store_changes() {
    let bucket = iris();
    let server = bucket.serve().await;
    let setup = Setup::new();
    let secret = credentials(&server);
    let uri = "s3://bucket/models/iris/";
    let first = setup.fetch(uri, &secret).await.unwrap();
    assert_eq!(gets(&server.requests()).len(), 2);
    assert_eq!(setup.fetch(uri, &secret).await.unwrap(), first);
    assert_eq!(gets(&server.requests()), [""; 0]);

    bucket.put("models/iris/a/model.bst", b"FOREST");
    let changed = setup.fetch(uri, &secret).await.unwrap();
    assert_ne!(changed.digest, first.digest);
    assert_eq!(gets(&server.requests()).len(), 2);

    // What somebody broke in the cache is fetched again.
    std::fs::remove_file(changed.directory.join("settings.json")).unwrap();
    assert_eq!(setup.fetch(uri, &secret).await.unwrap(), changed);
    assert_eq!(names_of(&changed).len(), 2);
}

#[tokio::test]
async fn two_fetches_at_once_download_once() {
    let server = iris().serve().await;
    let setup = Setup::new();
    let storage = Arc::new(setup.storage());
    let spawn = || {
        let storage = storage.clone();
        let secret = credentials(&server);
        tokio::spawn(async move { fetch(&storage, "s3://bucket/models/iris", &secret).await })
    };
    let (one, two) = tokio::join!(spawn(), spawn());
    assert_eq!(one.unwrap().unwrap(), two.unwrap().unwrap());
    assert_eq!(gets(&server.requests()).len(), 2);
}

#[tokio::test]
async fn equal_contents_share_one_directory() {
    let bucket = Bucket::with(&[("a/m.bst", b"forest"), ("b/m.bst", b"forest")]);
    let server = bucket.serve().await;
    let setup = Setup::new();
    let secret = credentials(&server);
    let one = setup.fetch("s3://bucket/a", &secret).await.unwrap();
    let two = setup.fetch("s3://bucket/b", &secret).await.unwrap();
    assert_eq!(one, two);
    // A key that is the prefix itself.
    let three = setup.fetch("s3://bucket/a/m.bst", &secret).await.unwrap();
    assert_eq!(three, one);
    assert_eq!(setup.n_artifacts(), 1);
}

/// Serves one object, cutting the first answer of its content short.
async fn cutting_server(content: Vec<u8>, cut_at: usize) -> Server {
    let bucket = Bucket::with(&[("m/model.bst", &content)]);
    let n_gets = AtomicUsize::new(0);
    Server::start(move |request| {
        let mut reply = bucket.answer(request);
        let is_content = request.method == "GET" && request.path().ends_with(".bst");
        if is_content && n_gets.fetch_add(1, Ordering::Relaxed) == 0 {
            reply.cut_at = Some(cut_at);
        }
        reply
    })
    .await
}

fn pattern(n_bytes: usize) -> Vec<u8> {
    (0..n_bytes).map(|index| (index % 251) as u8).collect()
}

#[tokio::test]
async fn a_cut_download_goes_on_where_it_was_cut() {
    let content = pattern((8 << 20) + 5);
    let server = cutting_server(content.clone(), 1000).await;
    let setup = Setup::new();
    let artifact = setup
        .fetch("s3://bucket/m", &credentials(&server))
        .await
        .unwrap();
    let ranges = gets(&server.requests());
    assert_eq!(
        ranges,
        [
            "/bucket/m/model.bst bytes=0-8388607",
            "/bucket/m/model.bst bytes=1000-8388612",
        ]
    );
    assert_eq!(files_of(&artifact.directory)["model.bst"], content);
}

#[tokio::test]
async fn a_restart_goes_on_where_the_last_process_stopped() {
    let content = pattern(5000);
    let server = cutting_server(content.clone(), 1234).await;
    let setup = Setup::with(StorageLimits {
        attempts_max: 1,
        ..StorageLimits::default()
    });
    let secret = credentials(&server);
    let error = setup.fetch("s3://bucket/m", &secret).await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Unreachable, "{error:?}");
    assert_eq!(setup.n_artifacts(), 0);
    server.requests();
    let artifact = setup.fetch("s3://bucket/m", &secret).await.unwrap();
    assert_eq!(
        gets(&server.requests()),
        ["/bucket/m/model.bst bytes=1234-4999"]
    );
    assert_eq!(files_of(&artifact.directory)["model.bst"], content);
}

#[tokio::test]
async fn what_was_left_of_an_older_object_is_not_used() {
    let content = pattern(5000);
    let bucket = Bucket::with(&[("m/model.bst", &content)]);
    let n_gets = AtomicUsize::new(0);
    let served = bucket.clone();
    let server = Server::start(move |request| {
        let mut reply = served.answer(request);
        if !request.header("range").is_empty() && n_gets.fetch_add(1, Ordering::Relaxed) == 0 {
            reply.cut_at = Some(10);
        }
        reply
    })
    .await;
    let setup = Setup::with(StorageLimits {
        attempts_max: 1,
        ..StorageLimits::default()
    });
    let secret = credentials(&server);
    setup.fetch("s3://bucket/m", &secret).await.unwrap_err();
    let newer = vec![9; 5000];
    bucket.put("m/model.bst", &newer);
    let artifact = setup.fetch("s3://bucket/m", &secret).await.unwrap();
    assert_eq!(files_of(&artifact.directory)["model.bst"], newer);
}

#[tokio::test]
async fn passing_failures_are_tried_again_and_lasting_ones_are_not() {
    let bucket = iris();
    let n_requests = AtomicUsize::new(0);
    let server =
        Server::start(
            move |request| match n_requests.fetch_add(1, Ordering::Relaxed) % 2 {
                0 => Reply::new(503, "<Error><Code>SlowDown</Code></Error>"),
                _ => bucket.answer(request),
            },
        )
        .await;
    let limits = StorageLimits {
        attempts_max: 8,
        parallel_downloads: 1,
        ..StorageLimits::default()
    };
    let setup = Setup::with(limits);
    let artifact = setup
        .fetch("s3://bucket/models/iris/a/model.bst", &credentials(&server))
        .await
        .unwrap();
    assert_eq!(names_of(&artifact), ["model.bst"]);

    let server = Server::start(|_request| Reply::new(503, "")).await;
    let error = Setup::new()
        .fetch("s3://bucket/m", &credentials(&server))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Unreachable);
    assert_eq!(error.code(), Code::Unavailable);
    assert_eq!(server.requests().len(), 4);
}

#[tokio::test]
async fn refusals_speak_as_kserve_does() {
    use StorageErrorKind::{AccessDenied, AuthenticationFailed, NotFound};
    let code = |status, code| Reply::new(status, format!("<Error><Code>{code}</Code></Error>"));
    let cases = [
        (
            code(403, "AccessDenied"),
            AccessDenied,
            "Access denied to S3 resource 's3://bucket/m'.",
        ),
        (
            code(403, "InvalidAccessKeyId"),
            AuthenticationFailed,
            "S3 authentication failed. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the secret",
        ),
        (
            code(401, "x"),
            AuthenticationFailed,
            "S3 authentication failed.",
        ),
        (
            code(404, "NoSuchBucket"),
            NotFound,
            "S3 resource 's3://bucket/m' not found.",
        ),
    ];
    for (reply, kind, text) in cases {
        let server = Server::start(move |_request| reply.clone()).await;
        let error = Setup::new()
            .fetch("s3://bucket/m", &credentials(&server))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), kind, "{error:?}");
        assert!(error.to_string().starts_with(text), "{error}");
        assert!(!format!("{error:?}").contains("hush"), "{error:?}");
        // HEAD and the listing, each once.
        assert!(server.requests().len() <= 2);
    }
    let server = Bucket::default().serve().await;
    let error = Setup::new()
        .fetch("s3://bucket/m", &credentials(&server))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), NotFound);
    assert_eq!(
        error.to_string(),
        "Failed to fetch model. No model found in s3://bucket/m."
    );
}

#[tokio::test]
async fn a_refused_connection_names_the_endpoint() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = Setup::new()
        .fetch("s3://bucket/m", &credentials_at(address))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Unreachable);
    assert_eq!(
        error.to_string(),
        format!(
            "Failed to connect to S3 endpoint 'http://{address}'. Check the endpoint's host, port, scheme and certificate."
        )
    );
}

#[tokio::test]
async fn without_credentials_nothing_is_signed() {
    let server = iris().serve().await;
    let mut secret = credentials(&server);
    secret.data.clear();
    let setup = Setup::new();
    setup
        .fetch("s3://bucket/models/iris", &secret)
        .await
        .unwrap();
    let requests = server.requests();
    assert!(
        requests
            .iter()
            .all(|request| request.header("authorization").is_empty())
    );
}

#[tokio::test]
async fn limits_hold_before_anything_is_downloaded() {
    let server = iris().serve().await;
    for (files_max, bytes_max, text) in [(1, 100, "more than 1 files"), (9, 7, "more than 7;")] {
        let setup = Setup::with(StorageLimits {
            files_max,
            artifact_bytes_max: ByteCount::new(bytes_max),
            ..StorageLimits::default()
        });
        let error = setup
            .fetch("s3://bucket/models/iris", &credentials(&server))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), StorageErrorKind::TooLarge);
        assert!(error.to_string().contains(text), "{error}");
    }
    assert_eq!(gets(&server.requests()), [""; 0]);
}

#[tokio::test]
async fn a_single_archive_is_unpacked() {
    let bucket = Bucket::with(&[
        ("good/m.tar", &tar_of("m/model.bst", b"forest")),
        ("evil/m.tar", &tar_of("../model.bst", b"forest")),
    ]);
    let server = bucket.serve().await;
    let setup = Setup::new();
    let secret = credentials(&server);
    let error = setup.fetch("s3://bucket/evil", &secret).await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::UnsafeArchive);
    assert!(
        error
            .to_string()
            .contains("s3://bucket/evil: entry `../model.bst`"),
        "{error}"
    );
    assert_eq!(setup.n_artifacts(), 0);
    let artifact = setup.fetch("s3://bucket/good", &secret).await.unwrap();
    assert_eq!(names_of(&artifact), ["m/model.bst"]);
}

#[tokio::test]
async fn progress_ends_at_the_whole() {
    let content = pattern(3 << 20);
    let server = Bucket::with(&[("m/a", &content), ("m/b", b"b")])
        .serve()
        .await;
    let setup = Setup::new();
    let request = ArtifactRequest {
        namespace: "team".to_owned(),
        uri: "s3://bucket/m".to_owned(),
        credentials: credentials(&server),
        asker: None,
    };
    let seen = Mutex::new(Vec::new());
    let storage = setup.storage();
    storage
        .fetch(&request, &|progress| seen.lock().unwrap().push(progress))
        .await
        .unwrap();
    let seen = seen.into_inner().unwrap();
    let last = seen.last().unwrap();
    assert_eq!((last.files_done, last.files_total), (2, 2));
    assert_eq!(last.bytes_done, (3 << 20) + 1);
    assert_eq!(seen[0].bytes_total, Some((3 << 20) + 1));
    assert!(
        seen.windows(2)
            .all(|pair| pair[0].bytes_done <= pair[1].bytes_done)
    );
}
