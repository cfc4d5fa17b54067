//! Numbers of 4 and 8 bits that are no datatype of ours: read in the next wider one, where each of them is exactly.

use coracle_model::LoadError;
use coracle_tensor::Values;

use crate::error::malformed;

/// A datatype that is narrower than the one that it is served in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Narrow {
    /// `FLOAT8E4M3FN`: no infinities.
    E4M3Fn,
    /// `FLOAT8E4M3FNUZ`: no infinities, no negative zero.
    E4M3Fnuz,
    /// `FLOAT8E5M2`, as half precision cut short.
    E5M2,
    /// `FLOAT8E5M2FNUZ`: no infinities, no negative zero.
    E5M2Fnuz,
    /// `UINT4`.
    U4,
    /// `INT4`.
    I4,
}

/// The numbers of a narrower datatype, between which reals are rounded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Range {
    /// From the least to the greatest integer.
    Integers(i64, i64),
    /// Up to the greatest finite number, of either sign.
    Reals {
        /// The greatest finite number.
        greatest: f32,
        /// Whether infinities are among them.
        has_infinities: bool,
    },
}

/// The number of ONNX's `FLOAT`.
const FLOAT: u64 = 1;
/// The number of ONNX's `UINT8`.
const UINT8: u64 = 2;
/// The number of ONNX's `INT8`.
const INT8: u64 = 3;

impl Narrow {
    /// Returns the datatype of a number of ONNX's, if it is one of these.
    pub(crate) fn of(data_type: i64) -> Option<Self> {
        Some(match data_type {
            17 => Self::E4M3Fn,
            18 => Self::E4M3Fnuz,
            19 => Self::E5M2,
            20 => Self::E5M2Fnuz,
            21 => Self::U4,
            22 => Self::I4,
            _ => return None,
        })
    }

    /// Returns the number of ONNX's datatype.
    pub(crate) fn number(self) -> u64 {
        match self {
            Self::E4M3Fn => 17,
            Self::E4M3Fnuz => 18,
            Self::E5M2 => 19,
            Self::E5M2Fnuz => 20,
            Self::U4 => 21,
            Self::I4 => 22,
        }
    }

    /// Returns the number of the datatype of ONNX's that it is served in.
    pub(crate) fn wider(self) -> u64 {
        match self {
            Self::U4 => UINT8,
            Self::I4 => INT8,
            _ => FLOAT,
        }
    }

    /// Returns which numbers it has, of those of the datatype that it is served in.
    pub(crate) fn range(self) -> Range {
        let reals = |greatest, has_infinities| Range::Reals {
            greatest,
            has_infinities,
        };
        match self {
            Self::U4 => Range::Integers(0, 15),
            Self::I4 => Range::Integers(-8, 7),
            Self::E4M3Fn => reals(448.0, false),
            Self::E4M3Fnuz => reals(240.0, false),
            Self::E5M2 => reals(57_344.0, true),
            Self::E5M2Fnuz => reals(57_344.0, false),
        }
    }

    /// Reads `n_elements` elements; two integers lie in each byte, the first in its lower half.
    pub(crate) fn widened(self, bytes: &[u8], n_elements: usize) -> Result<Values, LoadError> {
        let n_bytes = match self {
            Self::U4 | Self::I4 => n_elements.div_ceil(2),
            _ => n_elements,
        };
        if bytes.len() != n_bytes {
            let n = bytes.len();
            let message = format!("{n} bytes for {n_elements} elements of {self:?}");
            return Err(malformed(message));
        }
        let halves = || bytes.iter().flat_map(|byte| [byte & 15, byte >> 4]);
        Ok(match self {
            Self::U4 => Values::U8(halves().take(n_elements).collect()),
            Self::I4 => {
                let signed = halves().map(|half| (half << 4).cast_signed() >> 4);
                Values::I8(signed.take(n_elements).collect())
            }
            _ => Values::F32(bytes.iter().map(|&byte| self.float(byte)).collect()),
        })
    }

    /// Returns the number that a byte is: a sign, an exponent and a fraction.
    fn float(self, byte: u8) -> f32 {
        let (n_fraction_bits, bias) = match self {
            Self::E4M3Fn => (3, 7),
            Self::E4M3Fnuz => (3, 8),
            Self::E5M2 => (2, 15),
            _ => (2, 16),
        };
        let magnitude = byte & 0x7f;
        let is_negative = byte & 0x80 != 0;
        let special = match (self, magnitude) {
            (Self::E4M3Fn, 0x7f) | (Self::E5M2, 0x7d..) => Some(f32::NAN),
            (Self::E5M2, 0x7c) => Some(f32::INFINITY),
            (Self::E4M3Fnuz | Self::E5M2Fnuz, 0) if is_negative => Some(f32::NAN),
            _ => None,
        };
        let exponent = magnitude >> n_fraction_bits;
        let fraction = f32::from(magnitude & !(u8::MAX << n_fraction_bits));
        let unit = 2_f32.powi(n_fraction_bits).recip();
        let finite = match exponent {
            0 => fraction * unit * 2_f32.powi(1_i32.saturating_sub(bias)),
            exponent => {
                let power = i32::from(exponent).saturating_sub(bias);
                (1.0 + fraction * unit) * 2_f32.powi(power)
            }
        };
        let magnitude = special.unwrap_or(finite);
        if is_negative { -magnitude } else { magnitude }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(narrow: Narrow, bytes: &[u8]) -> Vec<f32> {
        match narrow.widened(bytes, bytes.len()).unwrap() {
            Values::F32(items) => items.to_vec(),
            values => panic!("{values:?}"),
        }
    }

    /// The values are of ONNX's tables of its 8-bit floats: the greatest, the least normal, the least, and one.
    #[test]
    fn floats_of_eight_bits_are_those_of_the_tables() {
        let cases = [
            (
                Narrow::E4M3Fn,
                [0x7e, 0x08, 0x01, 0x38],
                [448.0, 2_f32.powi(-6), 2_f32.powi(-9), 1.0],
            ),
            (
                Narrow::E4M3Fnuz,
                [0x7f, 0x08, 0x01, 0x40],
                [240.0, 2_f32.powi(-7), 2_f32.powi(-10), 1.0],
            ),
            (
                Narrow::E5M2,
                [0x7b, 0x04, 0x01, 0x3c],
                [57344.0, 2_f32.powi(-14), 2_f32.powi(-16), 1.0],
            ),
            (
                Narrow::E5M2Fnuz,
                [0x7f, 0x04, 0x01, 0x40],
                [57344.0, 2_f32.powi(-15), 2_f32.powi(-17), 1.0],
            ),
        ];
        for (narrow, bytes, expected) in cases {
            assert_eq!(floats(narrow, &bytes), expected, "{narrow:?}");
            let negative = bytes.map(|byte| byte | 0x80);
            assert_eq!(
                floats(narrow, &negative),
                expected.map(|value| -value),
                "{narrow:?}"
            );
        }
        assert_eq!(
            floats(Narrow::E5M2, &[0x7c, 0xfc]),
            [f32::INFINITY, f32::NEG_INFINITY]
        );
        for (narrow, byte) in [
            (Narrow::E4M3Fn, 0x7f),
            (Narrow::E4M3Fn, 0xff),
            (Narrow::E4M3Fnuz, 0x80),
            (Narrow::E5M2, 0x7d),
            (Narrow::E5M2, 0xff),
            (Narrow::E5M2Fnuz, 0x80),
        ] {
            assert!(
                floats(narrow, &[byte]).iter().all(|value| value.is_nan()),
                "{narrow:?} {byte}"
            );
        }
    }

    #[test]
    fn integers_of_four_bits_lie_two_in_a_byte() {
        let bytes = [0x21, 0xf8, 0x07];
        let unsigned = Narrow::U4.widened(&bytes, 5).unwrap();
        assert_eq!(unsigned, Values::U8(vec![1, 2, 8, 15, 7].into()));
        let signed = Narrow::I4.widened(&bytes, 5).unwrap();
        assert_eq!(signed, Values::I8(vec![1, 2, -8, -1, 7].into()));
        for n_elements in [0, 4, 7, usize::MAX] {
            assert!(
                Narrow::I4.widened(&bytes, n_elements).is_err(),
                "{n_elements}"
            );
        }
    }
}
