//! Decompression bombs, one for each compressor.

use std::io::Write;

use coracle_pickle::{ClassTable, ErrorKind, Limits, read};

use super::load;

/// `n` bytes of a pickled list of zeros, written through each compressor.
fn bombs(n: usize) -> Vec<(&'static str, Vec<u8>)> {
    let zeros = vec![b'N'; n];
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    zlib.write_all(&zeros).unwrap();
    let zlib = zlib.finish().unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&zeros).unwrap();
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
    bzip2.write_all(&zeros).unwrap();
    let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
    lz4.write_all(&zeros).unwrap();
    let options = lzma_rust2::LzmaOptions::with_preset(6);
    let mut lzma = lzma_rust2::LzmaWriter::new_use_header(Vec::new(), &options, None).unwrap();
    lzma.write_all(&zeros).unwrap();
    let xz_options = lzma_rust2::XzOptions::with_preset(6);
    let mut xz = lzma_rust2::XzWriter::new(Vec::new(), xz_options).unwrap();
    xz.write_all(&zeros).unwrap();
    let zfile = [
        format!("ZF{:<19}", format!("{n:#x}")).into_bytes(),
        zlib.clone(),
    ]
    .concat();
    vec![
        ("zlib", zlib),
        ("gzip", gzip.finish().unwrap()),
        ("bzip2", bzip2.finish().unwrap()),
        ("lz4", lz4.finish().unwrap()),
        ("lzma", lzma.finish().unwrap()),
        ("xz", xz.finish().unwrap()),
        ("zfile", zfile),
    ]
}

#[test]
fn decompression_bombs_stop_early() {
    let mut limits = Limits::default();
    limits.inflated_bytes_free = 1 << 14;
    for (name, bomb) in bombs(1 << 20) {
        assert!(bomb.len() < 20_000, "{name}");
        let error = read(&bomb, &ClassTable::default(), &limits).expect_err("a bomb");
        assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{name}: {error}");
    }
    // The bound that holds whatever the ratio.
    let mut limits = Limits::default();
    limits.inflated_bytes_max = 1000;
    for (name, bomb) in bombs(2000) {
        let error = read(&bomb, &ClassTable::default(), &limits).expect_err("a bomb");
        assert_eq!(
            error.to_string(),
            "the decompressed size in bytes would exceed the limit of 1000",
            "{name}"
        );
    }
}

#[test]
fn dictionaries_of_lzma_are_bounded() {
    let (_, mut lzma) = bombs(2000).swap_remove(4);
    // The header's dictionary size: 3 GiB.
    lzma[1..5].copy_from_slice(&0xc000_0000_u32.to_le_bytes());
    assert!(load(&lzma).is_err());
}

#[test]
fn compressed_files_end_where_their_data_ends() {
    for (name, mut file) in bombs(1) {
        assert_eq!(
            load(&file).expect_err("no STOP").kind(),
            ErrorKind::Malformed
        );
        file.push(b'x');
        let error = load(&file).expect_err("trailing bytes");
        assert_eq!(error.kind(), ErrorKind::Malformed, "{name}: {error}");
    }
}
