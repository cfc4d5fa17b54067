//! Fetching from this machine.

use std::fs;

use super::*;
use crate::error::StorageErrorKind;

struct Setup {
    root: tempfile::TempDir,
    storage: Storage,
}

fn setup(limits: StorageLimits) -> Setup {
    let root = tempfile::tempdir().unwrap();
    let volume = root.path().join("volume");
    fs::create_dir_all(volume.join("iris")).unwrap();
    fs::write(volume.join("iris/model.bst"), b"forest").unwrap();
    let storage = Storage::try_new(StorageConfig {
        cache_dir: root.path().join("cache"),
        pvc_dirs: [("team/claim".to_owned(), volume)].into(),
        cache_bytes_max: None,
        limits,
    })
    .unwrap();
    Setup { root, storage }
}

async fn fetch(storage: &Storage, uri: &str) -> Result<Artifact, StorageError> {
    let request = ArtifactRequest {
        namespace: "team".to_owned(),
        uri: uri.to_owned(),
        credentials: crate::Credentials::default(),
        asker: None,
    };
    storage.fetch(&request, &|_progress| ()).await
}

#[tokio::test]
async fn what_is_local_is_returned_as_it_is() {
    let setup = setup(StorageLimits::default());
    let iris = setup.root.path().join("volume/iris");
    let file = iris.join("model.bst");
    let by_path = fetch(&setup.storage, iris.to_str().unwrap()).await.unwrap();
    assert_eq!(by_path.directory, iris);
    assert_eq!((by_path.bytes, by_path.n_files), (6, 1));
    let by_claim = fetch(&setup.storage, "pvc://claim/iris").await.unwrap();
    assert_eq!(by_claim, by_path);
    let one_file = fetch(&setup.storage, &format!("file://{}", file.display()))
        .await
        .unwrap();
    assert_eq!(one_file.directory, file);
    assert_eq!(one_file.digest, by_path.digest);
}

#[tokio::test]
async fn digest_follows_names_and_contents() {
    let setup = setup(StorageLimits::default());
    let before = fetch(&setup.storage, "pvc://claim/iris").await.unwrap();
    let iris = setup.root.path().join("volume/iris");
    fs::rename(iris.join("model.bst"), iris.join("model.json")).unwrap();
    let renamed = fetch(&setup.storage, "pvc://claim/iris").await.unwrap();
    fs::write(iris.join("model.json"), b"fores!").unwrap();
    let changed = fetch(&setup.storage, "pvc://claim/iris").await.unwrap();
    assert_ne!(before.digest, renamed.digest);
    assert_ne!(renamed.digest, changed.digest);
    assert_eq!(before.digest.len(), 64);
}

#[tokio::test]
async fn says_what_is_missing_or_refused() {
    let limits = StorageLimits {
        files_max: 1,
        artifact_bytes_max: coracle_base::ByteCount::new(10),
        ..StorageLimits::default()
    };
    let setup = setup(limits);
    let volume = setup.root.path().join("volume");
    fs::create_dir_all(volume.join("empty")).unwrap();
    fs::create_dir_all(volume.join("two")).unwrap();
    fs::write(volume.join("two/a"), "a").unwrap();
    fs::write(volume.join("two/b"), "b").unwrap();
    fs::write(volume.join("large"), "12345678901").unwrap();
    fs::write(setup.root.path().join("outside"), "x").unwrap();
    fs::create_dir_all(volume.join("leak")).unwrap();
    std::os::unix::fs::symlink(setup.root.path().join("outside"), volume.join("leak/x")).unwrap();
    fs::create_dir_all(volume.join("circle")).unwrap();
    std::os::unix::fs::symlink(".", volume.join("circle/again")).unwrap();
    let cases: [(&str, StorageErrorKind, &str); 8] = [
        (
            "/no/such",
            StorageErrorKind::NotFound,
            "no file or directory at `/no/such`",
        ),
        (
            "pvc://claim/none",
            StorageErrorKind::NotFound,
            "no file or directory at",
        ),
        (
            "pvc://other/x",
            StorageErrorKind::NotFound,
            "claim `team/other`",
        ),
        (
            "pvc://claim/empty",
            StorageErrorKind::NotFound,
            "No model found in",
        ),
        (
            "pvc://claim/two",
            StorageErrorKind::TooLarge,
            "more than 1 files",
        ),
        (
            "pvc://claim/large",
            StorageErrorKind::TooLarge,
            "more than 10;",
        ),
        (
            "pvc://claim/leak",
            StorageErrorKind::AccessDenied,
            "leads out of its volume",
        ),
        (
            "pvc://claim/circle",
            StorageErrorKind::TooLarge,
            "goes deeper than 32",
        ),
    ];
    for (uri, kind, text) in cases {
        let error = fetch(&setup.storage, uri).await.expect_err(uri);
        assert_eq!(error.kind(), kind, "{uri}: {error}");
        assert!(error.to_string().contains(text), "{uri}: {error}");
    }
}

#[tokio::test]
async fn volumes_of_config_maps_count_each_file_once() {
    let setup = setup(StorageLimits::default());
    let map = setup.root.path().join("volume/map");
    fs::create_dir_all(map.join("..2026_01")).unwrap();
    fs::write(map.join("..2026_01/model.bst"), "forest").unwrap();
    std::os::unix::fs::symlink("..2026_01", map.join("..data")).unwrap();
    std::os::unix::fs::symlink("..data/model.bst", map.join("model.bst")).unwrap();
    let artifact = fetch(&setup.storage, "pvc://claim/map").await.unwrap();
    let plain = fetch(&setup.storage, "pvc://claim/iris").await.unwrap();
    assert_eq!(artifact.digest, plain.digest);
}

#[tokio::test]
async fn a_local_archive_is_unpacked_once() {
    let setup = setup(StorageLimits::default());
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_path("model.bst").unwrap();
    header.set_size(6);
    header.set_cksum();
    builder.append(&header, &b"forest"[..]).unwrap();
    let bytes = builder.into_inner().unwrap();
    fs::write(setup.root.path().join("volume/m.tar"), &bytes).unwrap();
    let artifact = fetch(&setup.storage, "pvc://claim/m.tar").await.unwrap();
    let plain = fetch(&setup.storage, "pvc://claim/iris").await.unwrap();
    assert_eq!(artifact.digest, plain.digest);
    assert!(
        artifact
            .directory
            .starts_with(setup.root.path().join("cache/artifacts"))
    );
    assert_eq!(
        fs::read(artifact.directory.join("model.bst")).unwrap(),
        b"forest"
    );
    let again = fetch(&setup.storage, "pvc://claim/m.tar").await.unwrap();
    assert_eq!(again, artifact);
    let partial = setup.root.path().join("cache/partial");
    assert_eq!(fs::read_dir(partial).unwrap().count(), 0);
}
