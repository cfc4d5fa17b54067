//! MurmurHash3 of 32 bits, which scikit-learn hashes terms with.

/// Returns the hash of `bytes` with seed 0, as a signed number.
///
/// Method: Austin Appleby's `MurmurHash3_x86_32`, in the public domain.
pub(super) fn hash(bytes: &[u8]) -> i32 {
    const C1: u32 = 0xcc9e_2d51;
    const C2: u32 = 0x1b87_3593;
    let scramble = |block: u32| block.wrapping_mul(C1).rotate_left(15).wrapping_mul(C2);
    let (blocks, tail) = bytes.as_chunks::<4>();
    let mut hash = 0_u32;
    for block in blocks {
        hash ^= scramble(u32::from_le_bytes(*block));
        hash = hash
            .rotate_left(13)
            .wrapping_mul(5)
            .wrapping_add(0xe654_6b64);
    }
    if !tail.is_empty() {
        let mut block = [0; 4];
        block[..tail.len()].copy_from_slice(tail);
        hash ^= scramble(u32::from_le_bytes(block));
    }
    // The length counts modulo 2^32.
    hash ^= (bytes.len() & 0xffff_ffff) as u32;
    hash ^= hash >> 16;
    hash = hash.wrapping_mul(0x85eb_ca6b);
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(0xc2b2_ae35);
    hash ^= hash >> 16;
    hash.cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_scikit_learns() {
        // From sklearn.utils.murmurhash3_32(text, seed=0).
        let cases = [
            ("", 0),
            ("a", 1_009_084_850),
            ("foo", -156_908_512),
            ("free", 1_363_043_438),
            ("caf\u{e9}", 605_818_632),
            ("hello world", 1_586_663_183),
        ];
        for (text, expected) in cases {
            assert_eq!(hash(text.as_bytes()), expected, "{text}");
        }
    }
}
