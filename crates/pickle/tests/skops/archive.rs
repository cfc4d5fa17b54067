//! Zip archives as the tests take them apart and put them together.

use std::io::Read;

use flate2::read::DeflateDecoder;

/// A member's name and bytes.
pub(crate) type Member = (String, Vec<u8>);

/// Returns the members of an archive as Python writes it.
pub(crate) fn members(bytes: &[u8]) -> Vec<Member> {
    let end = bytes.len() - 22;
    let (count, mut at) = (number(bytes, end + 10, 2), number(bytes, end + 16, 4));
    let mut found = Vec::new();
    for _ in 0..count {
        let (size, name) = (number(bytes, at + 20, 4), number(bytes, at + 28, 2));
        let (extra, local) = (number(bytes, at + 30, 2), number(bytes, at + 42, 4));
        let data = local + 30 + number(bytes, local + 26, 2) + number(bytes, local + 28, 2);
        let text = String::from_utf8(bytes[at + 46..at + 46 + name].to_vec()).unwrap();
        let stored = &bytes[data..data + size];
        let mut inflated = Vec::new();
        match number(bytes, at + 10, 2) {
            0 => inflated.extend(stored),
            _ => drop(
                DeflateDecoder::new(stored)
                    .read_to_end(&mut inflated)
                    .unwrap(),
            ),
        }
        found.push((text, inflated));
        at += 46 + name + extra;
    }
    found
}

/// Returns an archive that stores these members, with sound checksums.
pub(crate) fn archive(members: &[Member]) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in members {
        let offset = four(bytes.len());
        // Version, flags, method, time and date; then the checksum, both sizes and the lengths.
        let mut shared = vec![20, 0, 0, 0, 0, 0, 0, 0, 33, 0];
        shared.extend(checksum(data).to_le_bytes());
        shared.extend([four(data.len()), four(data.len())].concat());
        shared.extend([two(name.len()), [0, 0]].concat());
        bytes.extend(b"PK\x03\x04");
        bytes.extend(&shared);
        bytes.extend(name.bytes().chain(data.iter().copied()));
        directory.extend(b"PK\x01\x02\x14\0");
        directory.extend(&shared);
        directory.extend([0; 10]);
        directory.extend(offset);
        directory.extend(name.bytes());
    }
    let (start, size, count) = (four(bytes.len()), four(directory.len()), two(members.len()));
    bytes.extend(directory);
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    bytes.extend([count, count].concat());
    bytes.extend([size, start].concat());
    bytes.extend([0, 0]);
    bytes
}

fn number(bytes: &[u8], at: usize, length: usize) -> usize {
    let digits = bytes[at..at + length].iter().rev();
    digits.fold(0, |number, byte| (number << 8) | usize::from(*byte))
}

fn two(number: usize) -> [u8; 2] {
    u16::try_from(number).unwrap().to_le_bytes()
}

fn four(number: usize) -> [u8; 4] {
    u32::try_from(number).unwrap().to_le_bytes()
}

/// CRC-32, bit by bit.
fn checksum(data: &[u8]) -> u32 {
    let step = |crc: u32, _bit: u32| match crc & 1 {
        1 => (crc >> 1) ^ 0xedb8_8320,
        _ => crc >> 1,
    };
    let byte = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), step);
    !data.iter().fold(!0, byte)
}
