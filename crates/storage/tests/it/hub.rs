//! Hugging Face: the listing, the commit, the digests, the token.

use coracle_storage::{Credentials, StorageErrorKind};

use crate::server::{Reply, Request, Server};
use crate::{Setup, files_of};

const FOREST_SHA256: &str = "619a2ccf126ce837dc7cd3bdb4d7f44280a0ea4f721e5a738f859aa19d52a78f";

fn hub(request: &Request, sha256: &str) -> Reply {
    match request.path() {
        "/api/models/team/iris/revision/v1" => Reply::new(
            200,
            format!(
                r#"{{"id": "team/iris", "sha": "c0ffee", "siblings": [
                    {{"rfilename": ".gitattributes", "size": 0, "blobId": "b0"}},
                    {{"rfilename": "config.json", "size": 2, "blobId": "b1"}},
                    {{"rfilename": "a b/model.bst", "size": 6, "blobId": "b2",
                      "lfs": {{"sha256": "{sha256}", "size": 6}}}}]}}"#
            ),
        ),
        "/team/iris/resolve/c0ffee/config.json" => Reply::file(request, b"{}", "x"),
        "/team/iris/resolve/c0ffee/a%20b/model.bst" => Reply::file(request, b"forest", "y"),
        _ => Reply::new(404, ""),
    }
}

fn secret(server: &Server) -> Credentials {
    Credentials {
        data: [
            ("HF_ENDPOINT".to_owned(), server.url()),
            ("HF_TOKEN".to_owned(), "hush".to_owned()),
        ]
        .into(),
        ..Credentials::default()
    }
}

#[tokio::test]
async fn a_model_is_fetched_at_its_commit_and_checked() {
    let server = Server::start(|request| hub(request, FOREST_SHA256)).await;
    let setup = Setup::new();
    let secret = secret(&server);
    let artifact = setup.fetch("hf://team/iris:v1", &secret).await.unwrap();
    let files = files_of(&artifact.directory);
    assert_eq!(files["a b/model.bst"], b"forest");
    assert_eq!(files["config.json"], b"{}");
    assert_eq!(files.len(), 2);
    let requests = server.requests();
    assert!(
        requests
            .iter()
            .all(|request| request.header("authorization") == "Bearer hush")
    );
    setup.fetch("hf://team/iris:v1", &secret).await.unwrap();
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_wrong_digest_is_not_accepted() {
    let server = Server::start(|request| hub(request, &"0".repeat(64))).await;
    let setup = Setup::new();
    let error = setup
        .fetch("hf://team/iris:v1", &secret(&server))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Damaged);
    assert!(error.to_string().contains("a b/model.bst"), "{error}");
    assert_eq!(setup.n_artifacts(), 0);
}

#[tokio::test]
async fn says_why_a_model_was_not_fetched() {
    use StorageErrorKind::{AuthenticationFailed, Damaged, NotFound, Unreachable};
    let cases = [
        (
            Reply::new(404, ""),
            NotFound,
            "HuggingFace resource 'hf://team/iris:v1' not found.",
        ),
        (Reply::new(401, ""), AuthenticationFailed, "set HF_TOKEN"),
        (Reply::new(200, "no json"), Unreachable, "did not serve"),
        (
            Reply::new(200, r#"{"siblings": []}"#),
            NotFound,
            "No model found in",
        ),
        (
            Reply::new(200, r#"{"siblings": [{"rfilename": "../x"}]}"#),
            Damaged,
            "`../x`",
        ),
    ];
    for (reply, kind, text) in cases {
        let server = Server::start(move |_request| reply.clone()).await;
        let error = Setup::new()
            .fetch("hf://team/iris:v1", &secret(&server))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), kind, "{error:?}");
        assert!(error.to_string().contains(text), "{error}");
    }
}
