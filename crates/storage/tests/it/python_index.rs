//! A package index over loopback: a wheel is found, checked, and one file of it put in place.

use std::io::{Cursor, Write as _};
use std::path::Path;

use coracle_storage::{IndexAccess, Member, PythonIndex, StorageErrorKind};
use sha2::{Digest as _, Sha256};

use crate::server::{Reply, Request, Server};

const NAME: &str = "engine-1.2.0-cp312-cp312-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl";
const LIBRARY: &[u8] = b"a library";

fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn wheel() -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    let files: [(&str, &[u8]); 4] = [
        ("engine/lib/libengine_shared.so", b"not this"),
        ("other/libengine.so.1.2.0", b"nor this"),
        ("engine/lib/libengine.so.1.2.0", LIBRARY),
        ("engine/__init__.py", b""),
    ];
    for (name, content) in files {
        archive.start_file(name, options).unwrap();
        archive.write_all(content).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

fn member(directory: &Path) -> Member {
    Member {
        directory: "engine/lib/".to_owned(),
        name_prefix: "libengine.so.".to_owned(),
        name_suffix: String::new(),
        sha256: Some(sha256(LIBRARY)),
        to: directory.join("engines/libengine.so"),
    }
}

/// The page of a package that has wheels for several machines.
fn page(hash: &str) -> String {
    let names = [
        "engine-1.2.0-cp312-cp312-musllinux_1_2_x86_64.whl",
        "engine-1.2.0-cp312-cp312-manylinux_2_28_aarch64.whl",
        "engine-1.2.0.1-cp312-cp312-manylinux_2_28_x86_64.whl",
        "engine-1.2.0.tar.gz",
        NAME,
    ];
    let links =
        names.map(|name| format!("<a href=\"../../files/{name}#sha256={hash}\">{name}</a>"));
    format!(
        "<!DOCTYPE html><html><body>{}</body></html>",
        links.join("<br>")
    )
}

async fn serve(hash: String, body: Vec<u8>) -> Server {
    Server::start(move |request: &Request| match request.path() {
        "/root/simple/engine/" => Reply::new(200, page(&hash)).with("content-type", "text/html"),
        path if path == format!("/root/files/{NAME}") => Reply::new(200, body.clone()),
        _ => Reply::new(404, ""),
    })
    .await
}

async fn install(server: &Server, user: &str, member: Member) -> Result<(), StorageErrorKind> {
    let url = format!("http://{user}{}/root/simple/", server.address);
    let index = PythonIndex::try_new(&url, &IndexAccess::default()).unwrap();
    let platform = ("manylinux", "_x86_64");
    let wheel = index.find("engine", "1.2.0", platform).await;
    let wheel = wheel.map_err(|error| error.kind())?;
    assert_eq!(wheel.file_name, NAME);
    let installed = index
        .install_members(&wheel, vec![member], &|_progress| {})
        .await;
    installed.map_err(|error| error.kind())
}

fn files(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory.join("engines")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

#[tokio::test]
async fn one_file_of_a_wheel_is_put_in_place() {
    let directory = tempfile::tempdir().unwrap();
    let wheel = wheel();
    let server = serve(sha256(&wheel), wheel).await;
    let member = member(directory.path());
    install(&server, "user:secret@", member.clone())
        .await
        .unwrap();
    assert_eq!(std::fs::read(&member.to).unwrap(), LIBRARY);
    assert_eq!(files(directory.path()), ["libengine.so"]);
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    for request in requests {
        // user:secret
        assert_eq!(request.header("authorization"), "Basic dXNlcjpzZWNyZXQ=");
    }
}

#[tokio::test]
async fn several_files_of_a_wheel_are_put_in_place_or_none() {
    let directory = tempfile::tempdir().unwrap();
    let wheel = wheel();
    let server = serve(sha256(&wheel), wheel).await;
    let url = format!("{}/root/simple", server.url());
    let index = PythonIndex::try_new(&url, &IndexAccess::default()).unwrap();
    let platform = ("manylinux", "_x86_64");
    let found = index.find("engine", "1.2.0", platform).await.unwrap();
    let main = member(directory.path());
    let companion = Member {
        name_prefix: "libengine_shared.so".to_owned(),
        sha256: Some(sha256(b"not this")),
        to: directory.path().join("engines/libengine_shared.so"),
        ..main.clone()
    };
    let other = Member {
        sha256: Some(sha256(b"something else")),
        ..main.clone()
    };
    let members = vec![companion.clone(), other];
    let installed = index.install_members(&found, members, &|_progress| {});
    let error = installed.await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Damaged);
    assert!(error.to_string().contains("libengine.so"), "{error}");
    assert_eq!(files(directory.path()), Vec::<String>::new());
    let members = vec![companion.clone(), main.clone()];
    let installed = index.install_members(&found, members, &|_progress| {});
    installed.await.unwrap();
    assert_eq!(std::fs::read(&main.to).unwrap(), LIBRARY);
    assert_eq!(std::fs::read(&companion.to).unwrap(), b"not this");
    assert_eq!(files(directory.path()).len(), 2);
}

#[tokio::test]
async fn bytes_that_were_not_promised_leave_what_was_there() {
    let directory = tempfile::tempdir().unwrap();
    let member = member(directory.path());
    std::fs::create_dir(directory.path().join("engines")).unwrap();
    std::fs::write(&member.to, "before").unwrap();
    let wheel = wheel();
    let hash = sha256(&wheel);
    let unknown = Member {
        sha256: Some(sha256(b"another library")),
        ..member.clone()
    };
    let absent = Member {
        name_prefix: "libother.so.".to_owned(),
        ..member.clone()
    };
    let cut = wheel[..wheel.len() - 40].to_vec();
    let cases = [
        // The index promises something else.
        (
            sha256(b""),
            wheel.clone(),
            member.clone(),
            StorageErrorKind::Damaged,
        ),
        // The index keeps its promise of an archive that is none.
        (sha256(&cut), cut, member.clone(), StorageErrorKind::Damaged),
        // The library is not the release that we know.
        (
            hash.clone(),
            wheel.clone(),
            unknown,
            StorageErrorKind::Damaged,
        ),
        (hash, wheel.clone(), absent, StorageErrorKind::NotFound),
        // The index promises nothing.
        (
            "00".to_owned(),
            wheel,
            member.clone(),
            StorageErrorKind::Damaged,
        ),
    ];
    for (hash, body, wanted, kind) in cases {
        let server = serve(hash, body).await;
        assert_eq!(install(&server, "", wanted).await, Err(kind));
        assert_eq!(std::fs::read(&member.to).unwrap(), b"before");
        assert_eq!(files(directory.path()), ["libengine.so"]);
    }
}

#[tokio::test]
async fn plain_http_is_believed_of_no_file_that_is_not_known() {
    let directory = tempfile::tempdir().unwrap();
    let wheel = wheel();
    let server = serve(sha256(&wheel), wheel).await;
    let unknown = Member {
        sha256: None,
        ..member(directory.path())
    };
    let installed = install(&server, "", unknown).await;
    assert_eq!(installed, Err(StorageErrorKind::UnsupportedUri));
    // The page alone was asked for.
    assert_eq!(server.requests().len(), 1);
    assert!(!directory.path().join("engines").exists());
}

#[tokio::test]
async fn what_is_given_up_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let large = vec![7; 8 << 20];
    let server = serve(sha256(&large), large).await;
    let index = PythonIndex::try_new(
        &format!("{}/root/simple", server.url()),
        &IndexAccess::default(),
    )
    .unwrap();
    let wheel = index
        .find("engine", "1.2.0", ("manylinux", "_x86_64"))
        .await;
    let wheel = wheel.unwrap();
    let has_begun = tokio::sync::Notify::new();
    let begin = |_progress| {
        assert_eq!(files(directory.path()).len(), 1);
        has_begun.notify_one();
    };
    // As when the program is told to stop.
    tokio::select! {
        biased;
        () = has_begun.notified() => {}
        done = index.install_members(&wheel, vec![member(directory.path())], &begin) => panic!("{done:?}"),
    }
    assert_eq!(files(directory.path()), Vec::<String>::new());
}

#[tokio::test]
async fn a_release_that_is_not_there_is_told() {
    let server = serve(sha256(b""), Vec::new()).await;
    let index = PythonIndex::try_new(
        &format!("{}/root/simple", server.url()),
        &IndexAccess::default(),
    )
    .unwrap();
    for (package, version, kind) in [
        ("engine", "1.3.0", StorageErrorKind::NotFound),
        ("motor", "1.2.0", StorageErrorKind::NotFound),
    ] {
        let found = index.find(package, version, ("manylinux", "_x86_64")).await;
        assert_eq!(found.unwrap_err().kind(), kind);
    }
    let error =
        PythonIndex::try_new("ftp://index.example/simple", &IndexAccess::default()).unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::UnsupportedUri);
}

#[tokio::test]
async fn a_file_says_who_asks_where_the_url_does_not() {
    let directory = tempfile::tempdir().unwrap();
    let netrc = directory.path().join("netrc");
    std::fs::write(&netrc, "machine 127.0.0.1 login user password secret").unwrap();
    let wheel = wheel();
    let server = serve(sha256(&wheel), wheel).await;
    let access = IndexAccess {
        netrc: Some(netrc),
        ..IndexAccess::default()
    };
    for (user, expected) in [
        ("", "Basic dXNlcjpzZWNyZXQ="),
        // other:one
        ("other:one@", "Basic b3RoZXI6b25l"),
    ] {
        let url = format!("http://{user}{}/root/simple/", server.address);
        let index = PythonIndex::try_new(&url, &access).unwrap();
        let platform = ("manylinux", "_x86_64");
        index.find("engine", "1.2.0", platform).await.unwrap();
        for request in server.requests() {
            assert_eq!(request.header("authorization"), expected);
        }
    }
}

#[tokio::test]
async fn requests_go_through_the_proxy_that_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let wheel = wheel();
    let hash = sha256(&wheel);
    // A proxy is asked for whole URLs.
    let proxy = Server::start(move |request: &Request| {
        match request.target.strip_prefix("http://index.invalid") {
            Some("/simple/engine/") => Reply::new(200, page(&hash)),
            Some(path) if path == format!("/files/{NAME}") => Reply::new(200, wheel.clone()),
            _ => Reply::new(404, ""),
        }
    })
    .await;
    let access = IndexAccess {
        proxy: Some(proxy.url()),
        ..IndexAccess::default()
    };
    let index = PythonIndex::try_new("http://index.invalid/simple", &access).unwrap();
    let platform = ("manylinux", "_x86_64");
    let found = index.find("engine", "1.2.0", platform).await.unwrap();
    let member = member(directory.path());
    let installed = index.install_members(&found, vec![member.clone()], &|_progress| {});
    installed.await.unwrap();
    assert_eq!(std::fs::read(&member.to).unwrap(), LIBRARY);
    let unfit = IndexAccess {
        proxy: Some("no proxy:".to_owned()),
        ..IndexAccess::default()
    };
    assert!(PythonIndex::try_new("http://index.invalid/simple", &unfit).is_err());
}

#[tokio::test]
async fn wheels_are_found_on_pages_and_in_directories() {
    let directory = tempfile::tempdir().unwrap();
    let wheel = wheel();
    let server = serve(sha256(&wheel), wheel.clone()).await;
    let platform = ("manylinux", "_x86_64");
    let url = format!("{}/root/simple/engine/", server.url());
    let page = PythonIndex::of_page(&url, &IndexAccess::default()).unwrap();
    let found = page.find("engine", "1.2.0", platform).await.unwrap();
    assert_eq!(found.file_name, NAME);
    let member = member(directory.path());
    let installed = page.install_members(&found, vec![member.clone()], &|_progress| {});
    installed.await.unwrap();
    assert_eq!(std::fs::read(&member.to).unwrap(), LIBRARY);
    // A directory of wheels.
    let wheels = directory.path().join("wheels");
    std::fs::create_dir(&wheels).unwrap();
    let find = |version| PythonIndex::find_local(&wheels, ("engine", version), platform);
    for name in [NAME, "engine-1.2.0-cp312-cp312-manylinux_2_28_aarch64.whl"] {
        std::fs::write(wheels.join(name), &wheel).unwrap();
    }
    assert_eq!(find("1.2.1").unwrap(), None);
    let found = find("1.2.0").unwrap().unwrap();
    assert_eq!(found, wheels.join(NAME));
    std::fs::remove_file(&member.to).unwrap();
    let installed = PythonIndex::install_local_members(&found, vec![member.clone()]);
    installed.await.unwrap();
    assert_eq!(std::fs::read(&member.to).unwrap(), LIBRARY);
    assert!(found.exists());
    assert_eq!(files(directory.path()), ["libengine.so"]);
    let absent = directory.path().join("absent");
    let error = PythonIndex::find_local(&absent, ("engine", "1.2.0"), platform).unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Local);
}
