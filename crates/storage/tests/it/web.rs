//! Plain HTTP: one file or archive behind a URL.

use std::sync::atomic::{AtomicUsize, Ordering};

use coracle_base::ByteCount;
use coracle_storage::{Credentials, StorageErrorKind, StorageLimits};

use crate::server::{Reply, Server};
use crate::{Setup, names_of, tar_of};

fn secret(host: &str) -> Credentials {
    Credentials {
        data: [
            ("https-host".to_owned(), host.to_owned()),
            ("headers".to_owned(), "{\"x-api-key\": \"hush\"}".to_owned()),
        ]
        .into(),
        ..Credentials::default()
    }
}

#[tokio::test]
async fn a_file_is_fetched_and_remembered() {
    let server = Server::start(|request| Reply::file(request, b"forest", "v1")).await;
    let setup = Setup::new();
    let uri = format!("{}/a/model.bst?token=1", server.url());
    let first = setup.fetch(&uri, &Credentials::default()).await.unwrap();
    assert_eq!(names_of(&first), ["model.bst"]);
    assert_eq!(first.bytes, 6);
    assert_eq!(server.requests().len(), 2);
    let second = setup.fetch(&uri, &Credentials::default()).await.unwrap();
    assert_eq!(second, first);
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_server_without_ranges_or_tags_will_do() {
    let content = vec![5; 9 << 20];
    let served = content.clone();
    let n_requests = AtomicUsize::new(0);
    let server = Server::start(move |_request| {
        let mut reply = Reply::new(200, served.clone());
        // The first is the look at the headers; the second breaks off.
        if n_requests.fetch_add(1, Ordering::Relaxed) == 1 {
            reply.cut_at = Some(100);
        }
        reply
    })
    .await;
    let setup = Setup::new();
    let uri = format!("{}/model.bst", server.url());
    let artifact = setup.fetch(&uri, &Credentials::default()).await.unwrap();
    assert_eq!(
        std::fs::read(artifact.directory.join("model.bst")).unwrap(),
        content
    );
    assert_eq!(server.requests().len(), 3);
    // Nothing tells whether it changed.
    setup.fetch(&uri, &Credentials::default()).await.unwrap();
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn an_archive_is_unpacked() {
    let tar = tar_of("model.bst", b"forest");
    let server = Server::start(move |request| Reply::file(request, &tar, "v1")).await;
    let uri = format!("{}/m.tar", server.url());
    let setup = Setup::new();
    let artifact = setup.fetch(&uri, &Credentials::default()).await.unwrap();
    assert_eq!(names_of(&artifact), ["model.bst"]);
}

#[tokio::test]
async fn secret_headers_do_not_follow_a_redirect_to_another_host() {
    let other = Server::start(|request| Reply::file(request, b"forest", "v1")).await;
    let target = format!("{}/real", other.url());
    let server = Server::start(move |_request| Reply::new(302, "").with("location", &target)).await;
    let setup = Setup::new();
    let uri = format!("{}/model.bst", server.url());
    let artifact = setup.fetch(&uri, &secret("127.0.0.1")).await.unwrap();
    assert_eq!(names_of(&artifact), ["model.bst"]);
    assert!(
        server
            .requests()
            .iter()
            .all(|request| request.header("x-api-key") == "hush")
    );
    let others = other.requests();
    assert_eq!(others.len(), 2);
    assert!(
        others
            .iter()
            .all(|request| request.header("x-api-key").is_empty())
    );
}

#[tokio::test]
async fn says_why_a_file_was_not_fetched() {
    use StorageErrorKind::{
        AccessDenied, AuthenticationFailed, Damaged, NotFound, TooLarge, Unreachable,
    };
    let page = Reply::new(200, "<html>").with("content-type", "text/html; charset=utf-8");
    let circle = Reply::new(302, "").with("location", "/x");
    let cases = [
        (Reply::new(404, ""), NotFound, "HTTP resource 'http://"),
        (
            Reply::new(403, ""),
            AccessDenied,
            "No credentials were given",
        ),
        (
            Reply::new(401, ""),
            AuthenticationFailed,
            "HTTP authentication failed.",
        ),
        (Reply::new(500, ""), Unreachable, "did not serve"),
        (page, Damaged, "web page"),
        (circle, Unreachable, "did not serve"),
        (Reply::new(200, ""), NotFound, "No model found in"),
        (Reply::new(200, vec![0; 101]), TooLarge, "more than 100;"),
    ];
    for (reply, kind, text) in cases {
        let server = Server::start(move |_request| reply.clone()).await;
        let setup = Setup::with(StorageLimits {
            artifact_bytes_max: ByteCount::new(100),
            ..StorageLimits::default()
        });
        let uri = format!("{}/x?token=hush", server.url());
        let error = setup
            .fetch(&uri, &Credentials::default())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), kind, "{error:?}");
        assert!(error.to_string().contains(text), "{error}");
        assert!(!format!("{error:?}").contains("hush"), "{error:?}");
    }
}
