//! Archives, good and evil.

use std::io::Write;

use coracle_base::ByteCount;

use super::*;

/// Builds a tar without the checks that a polite writer makes.
fn tar_of(entries: &[(&str, tar::EntryType, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, entry_type, content) in entries {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*entry_type);
        header.set_size(content.len() as u64);
        header.as_old_mut().linkname[..4].copy_from_slice(b"/etc");
        header.set_cksum();
        builder.append(&header, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gz_of(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zip_of(entries: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
    for (name, mode, content) in entries {
        let options = zip::write::SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Deflated);
        if mode & FILE_TYPE_LINK == FILE_TYPE_LINK {
            writer.add_symlink(*name, "/etc", options).unwrap();
        } else {
            writer.start_file(*name, options).unwrap();
            writer.write_all(content).unwrap();
        }
    }
    writer.finish().unwrap().into_inner()
}

const FILE_TYPE_LINK: u32 = 0o120_000;

fn try_unpack(
    name: &str,
    bytes: &[u8],
    limits: &StorageLimits,
) -> (tempfile::TempDir, Result<(), StorageError>) {
    let root = tempfile::tempdir().unwrap();
    let archive = root.path().join(name);
    fs::write(&archive, bytes).unwrap();
    let form = ArchiveForm::of(&archive).unwrap();
    let target = root.path().join("target");
    let outcome = unpack(&archive, form, &target, "s3://b/a", limits);
    assert_eq!(target.exists(), outcome.is_ok());
    (root, outcome)
}

fn limits() -> StorageLimits {
    StorageLimits {
        files_max: 3,
        artifact_bytes_max: ByteCount::new(1000),
        ..StorageLimits::default()
    }
}

#[test]
fn names_tell_the_form() {
    let cases = [
        ("a.tar", Some(ArchiveForm::Tar)),
        ("a.TAR.GZ", Some(ArchiveForm::TarGz)),
        ("a.tgz", Some(ArchiveForm::TarGz)),
        ("a.zip", Some(ArchiveForm::Zip)),
        ("a.gz", None),
        ("tar", None),
    ];
    for (name, expected) in cases {
        assert_eq!(ArchiveForm::of(Path::new(name)), expected, "{name}");
    }
}

#[test]
fn unpacks_plain_archives() {
    use tar::EntryType::{Directory, Regular, XGlobalHeader};
    let tar = tar_of(&[
        ("pax_global_header", XGlobalHeader, b"52 comment=0"),
        ("./", Directory, b""),
        ("./m/", Directory, b""),
        ("./m/model.bst", Regular, b"forest"),
    ]);
    let cases = [
        ("a.tar", tar.clone()),
        ("a.tgz", gz_of(&tar)),
        ("a.zip", zip_of(&[("m/model.bst", 0, b"forest")])),
    ];
    for (name, bytes) in cases {
        let (root, outcome) = try_unpack(name, &bytes, &limits());
        outcome.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let content = fs::read(root.path().join("target/m/model.bst")).unwrap();
        assert_eq!(content, b"forest", "{name}");
    }
}

fn check_refused(name: &str, bytes: &[u8], kind: StorageErrorKind, text: &str) {
    let (_root, outcome) = try_unpack(name, bytes, &limits());
    let error = outcome.expect_err(text);
    assert_eq!(error.kind(), kind, "{text}: {error:?}");
    assert!(error.to_string().contains(text), "{text}: {error}");
    assert!(error.to_string().contains("s3://b/a"), "{error}");
}

#[test]
fn refuses_evil_tar_entries() {
    use tar::EntryType::{Block, Fifo, Link, Regular, Symlink};
    let cases = [
        ("/etc/x", Regular, "`/etc/x` is an absolute path"),
        ("a/../../x", Regular, "`a/../../x` goes up"),
        ("a\\b", Regular, "backslash"),
        ("link", Symlink, "`link` is a symbolic link"),
        ("link", Link, "`link` is a hard link"),
        ("pipe", Fifo, "`pipe` is a device"),
        ("disk", Block, "`disk` is a device"),
    ];
    for (name, entry_type, text) in cases {
        let bytes = tar_of(&[(name, entry_type, b"")]);
        check_refused("a.tar", &bytes, StorageErrorKind::UnsafeArchive, text);
    }
    for second in ["a", "a/b"] {
        let bytes = tar_of(&[("a", Regular, b""), (second, Regular, b"")]);
        check_refused(
            "a.tar",
            &bytes,
            StorageErrorKind::UnsafeArchive,
            "another entry",
        );
    }
}

#[test]
fn refuses_evil_zip_entries() {
    for (name, mode, text) in [
        ("../x", 0, "`../x` goes up"),
        ("/x", 0, "absolute"),
        ("link", FILE_TYPE_LINK, "`link` is a symbolic link"),
    ] {
        let bytes = zip_of(&[(name, mode, b"")]);
        check_refused("a.zip", &bytes, StorageErrorKind::UnsafeArchive, text);
    }
}

#[test]
fn refuses_archives_that_grow_past_the_limits() {
    use tar::EntryType::{GNULongName, Regular};
    let zeros = vec![0; 1001];
    let bomb = tar_of(&[("a", Regular, &[1; 500]), ("bomb", Regular, &zeros)]);
    let many = ["a", "b", "c", "d"].map(|name| (name, Regular, &b""[..]));
    let cases = [
        ("a.tar", tar_of(&many), "`d` is past the 3 entries"),
        (
            "a.tgz",
            gz_of(&bomb),
            "`bomb` unpacks to more than the 1000",
        ),
        ("a.zip", zip_of(&[("bomb", 0, &zeros)]), "`bomb` unpacks"),
    ];
    for (name, bytes, text) in cases {
        check_refused(name, &bytes, StorageErrorKind::TooLarge, text);
    }
    // Nothing past a sane size is kept in memory for a name.
    let long_name = gz_of(&tar_of(&[("l", GNULongName, &vec![b'x'; 2 << 20])]));
    check_refused(
        "a.tgz",
        &long_name,
        StorageErrorKind::Damaged,
        "after 0 entries",
    );
}

#[test]
fn says_which_archive_is_damaged() {
    let sound = tar_of(&[("a", tar::EntryType::Regular, &[7; 600])]);
    let cases = [
        ("a.tar", sound[..700].to_vec(), "near entry `a`"),
        ("a.tgz", gz_of(&sound)[..20].to_vec(), "cannot be read"),
        ("a.tgz", b"no gzip".to_vec(), "not what its name says"),
        ("a.zip", b"PK but no zip".to_vec(), "not what its name says"),
    ];
    for (name, bytes, text) in cases {
        check_refused(name, &bytes, StorageErrorKind::Damaged, text);
    }
}

#[test]
fn no_truncated_or_flipped_archive_panics() {
    let tar = tar_of(&[("m/a", tar::EntryType::Regular, &[7; 600])]);
    for (name, bytes) in [
        ("a.tgz", gz_of(&tar)),
        ("a.zip", zip_of(&[("m/a", 0, &[7; 600])])),
    ] {
        for index in 0..bytes.len() {
            let (_root, _any) = try_unpack(name, &bytes[..index], &limits());
            let mut flipped = bytes.clone();
            flipped[index] ^= 0x55;
            let (_root, _any) = try_unpack(name, &flipped, &limits());
        }
    }
}
