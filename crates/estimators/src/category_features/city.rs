//! CityHash64 in its first version, which CatBoost hashes texts of categories with.
//!
//! Source: Geoff Pike and Jyrki Alakuijala, CityHash 1.0 (2011). Later versions give other numbers.

const K0: u64 = 0xc3a5_c85c_97cb_3127;
const K1: u64 = 0xb492_b66f_be98_f273;
const K2: u64 = 0x9ae1_6a3b_2f90_404f;
const K3: u64 = 0xc949_d7c7_509e_6557;

/// Returns the hash of `bytes`.
pub(super) fn city_hash(bytes: &[u8]) -> u64 {
    match bytes.len() {
        0..=16 => up_to_16(bytes),
        17..=32 => up_to_32(bytes),
        33..=64 => up_to_64(bytes),
        _ => longer(bytes),
    }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|index| bytes[at + index]))
}

fn half_word(bytes: &[u8], at: usize) -> u64 {
    u32::from_le_bytes(std::array::from_fn(|index| bytes[at + index])).into()
}

fn shift_mix(value: u64) -> u64 {
    value ^ value >> 47
}

fn mix(low: u64, high: u64) -> u64 {
    const MULTIPLIER: u64 = 0x9ddf_ea08_eb38_2d69;
    let a = shift_mix((low ^ high).wrapping_mul(MULTIPLIER));
    shift_mix((high ^ a).wrapping_mul(MULTIPLIER)).wrapping_mul(MULTIPLIER)
}

fn up_to_16(bytes: &[u8]) -> u64 {
    let length = bytes.len() as u64;
    match bytes {
        [] => K2,
        [first, ..] if bytes.len() < 4 => {
            let (middle, last) = (bytes[bytes.len() >> 1], bytes[bytes.len() - 1]);
            let y = u64::from(*first) + (u64::from(middle) << 8);
            let z = length + (u64::from(last) << 2);
            shift_mix(y.wrapping_mul(K2) ^ z.wrapping_mul(K3)).wrapping_mul(K2)
        }
        _ if bytes.len() <= 8 => {
            let last = half_word(bytes, bytes.len() - 4);
            mix(length + (half_word(bytes, 0) << 3), last)
        }
        _ => {
            let (a, b) = (word(bytes, 0), word(bytes, bytes.len() - 8));
            let turned = b
                .wrapping_add(length)
                .rotate_right(u32::from(bytes.len() as u8));
            mix(a, turned) ^ b
        }
    }
}

fn up_to_32(bytes: &[u8]) -> u64 {
    let length = bytes.len();
    let a = word(bytes, 0).wrapping_mul(K1);
    let b = word(bytes, 8);
    let c = word(bytes, length - 8).wrapping_mul(K2);
    let d = word(bytes, length - 16).wrapping_mul(K0);
    let low = a.wrapping_sub(b).rotate_right(43);
    let low = low.wrapping_add(c.rotate_right(30)).wrapping_add(d);
    let high = a.wrapping_add((b ^ K3).rotate_right(20));
    mix(low, high.wrapping_sub(c).wrapping_add(length as u64))
}

/// Sums of one half of up to 64 bytes.
fn half(a: u64, z: u64, words: [u64; 2]) -> (u64, u64) {
    let b = a.wrapping_add(z).rotate_right(52);
    let c = a.rotate_right(37);
    let a = a.wrapping_add(words[0]);
    let c = c.wrapping_add(a.rotate_right(7));
    let a = a.wrapping_add(words[1]);
    let second = b.wrapping_add(a.rotate_right(31)).wrapping_add(c);
    (a.wrapping_add(z), second)
}

fn up_to_64(bytes: &[u8]) -> u64 {
    let length = bytes.len();
    let from_end = |distance: usize| word(bytes, length - distance);
    let start = (length as u64).wrapping_add(from_end(16)).wrapping_mul(K0);
    let a = word(bytes, 0).wrapping_add(start);
    let v = half(a, word(bytes, 24), [word(bytes, 8), word(bytes, 16)]);
    let a = word(bytes, 16).wrapping_add(from_end(32));
    let w = half(a, from_end(8), [from_end(24), from_end(16)]);
    let sum = v.0.wrapping_add(w.1).wrapping_mul(K2);
    let r = shift_mix(sum.wrapping_add(w.0.wrapping_add(v.1).wrapping_mul(K0)));
    shift_mix(r.wrapping_mul(K0).wrapping_add(v.1)).wrapping_mul(K2)
}

fn weak_hash(bytes: &[u8], at: usize, a: u64, b: u64) -> (u64, u64) {
    let z = word(bytes, at + 24);
    let a = a.wrapping_add(word(bytes, at));
    let b = b.wrapping_add(a).wrapping_add(z).rotate_right(21);
    let c = a;
    let a = a
        .wrapping_add(word(bytes, at + 8))
        .wrapping_add(word(bytes, at + 16));
    let b = b.wrapping_add(a.rotate_right(44));
    (a.wrapping_add(z), b.wrapping_add(c))
}

fn longer(bytes: &[u8]) -> u64 {
    let length = bytes.len();
    let mut x = word(bytes, 0);
    let mut y = word(bytes, length - 16) ^ K1;
    let mut z = word(bytes, length - 56) ^ K0;
    let long = length as u64;
    let mut v = weak_hash(bytes, length - 64, long, y);
    let mut w = weak_hash(bytes, length - 32, long.wrapping_mul(K1), K0);
    z = z.wrapping_add(shift_mix(v.1).wrapping_mul(K1));
    x = z.wrapping_add(x).rotate_right(39).wrapping_mul(K1);
    y = y.rotate_right(33).wrapping_mul(K1);
    for at in (0..(length - 1) / 64).map(|block| block * 64) {
        x = x
            .wrapping_add(y)
            .wrapping_add(v.0)
            .wrapping_add(word(bytes, at + 16));
        x = x.rotate_right(37).wrapping_mul(K1) ^ w.1;
        y = y.wrapping_add(v.1).wrapping_add(word(bytes, at + 48));
        y = y.rotate_right(42).wrapping_mul(K1) ^ v.0;
        z = (z ^ w.0).rotate_right(33);
        v = weak_hash(bytes, at, v.1.wrapping_mul(K1), x.wrapping_add(w.0));
        w = weak_hash(bytes, at + 32, z.wrapping_add(w.1), y);
        (z, x) = (x, z);
    }
    let low = mix(v.0, w.0)
        .wrapping_add(shift_mix(y).wrapping_mul(K1))
        .wrapping_add(z);
    mix(low, mix(v.1, w.1).wrapping_add(x))
}
