//! GCS and Azure, as far as they differ from S3.

use coracle_storage::Credentials;

use crate::bucket::Bucket;
use crate::server::{Reply, Server};
use crate::{Setup, names_of};

#[tokio::test]
async fn gcs_reads_its_emulator() {
    let server = Bucket::with(&[
        ("models/iris/a/model.bst", b"forest"),
        ("models/iris/x.json", b"{}"),
    ])
    .serve()
    .await;
    let emulator = Credentials {
        data: [("STORAGE_EMULATOR_HOST".to_owned(), server.url())].into(),
        ..Credentials::default()
    };
    let setup = Setup::new();
    let artifact = setup
        .fetch("gs://bucket/models/iris", &emulator)
        .await
        .unwrap();
    assert_eq!(names_of(&artifact), ["a/model.bst", "x.json"]);
    assert!(
        server
            .requests()
            .iter()
            .all(|request| request.header("authorization").is_empty())
    );
}

#[tokio::test]
async fn azure_signs_with_the_access_key() {
    let setup = Setup::new();
    let azure = Server::start(|request| {
        if request.target.contains("comp=list") {
            return Reply::new(
                200,
                "<EnumerationResults><Blobs><Blob><Name>m/model.bst</Name><Properties>\
                 <Last-Modified>Thu, 01 Jan 2026 00:00:00 GMT</Last-Modified><Etag>0x1</Etag>\
                 <Content-Length>6</Content-Length>\
                 <Content-Type>application/octet-stream</Content-Type></Properties></Blob></Blobs><NextMarker/>\
                 </EnumerationResults>",
            );
        }
        match request.path() {
            "/box/m/model.bst" => Reply::file(request, b"forest", "0x1"),
            _ => Reply::new(404, ""),
        }
    })
    .await;
    let secret = Credentials {
        data: [
            ("AZURE_STORAGE_ENDPOINT".to_owned(), azure.url()),
            ("AZURE_STORAGE_ACCESS_KEY".to_owned(), "aHVzaA==".to_owned()),
        ]
        .into(),
        ..Credentials::default()
    };
    let artifact = setup
        .fetch("https://acc.blob.core.windows.net/box/m", &secret)
        .await
        .unwrap();
    assert_eq!(names_of(&artifact), ["model.bst"]);
    let requests = azure.requests();
    assert!(requests.iter().all(|request| {
        request
            .header("authorization")
            .starts_with("SharedKey acc:")
    }));
}
