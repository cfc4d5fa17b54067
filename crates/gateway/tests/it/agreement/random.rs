//! Numbers and texts from a seed.

use coracle_tensor::{DType, bf16, f16};

/// Numbers of a datatype, from a seed: any bits for floating point (finite ones), the whole range for integers, as far as
/// doubles hold it exactly.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let mixed = (self.0 ^ (self.0 >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ (mixed >> 29)
    }

    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "cut to the datatype on purpose"
    )]
    pub(super) fn number(&mut self, dtype: DType) -> f64 {
        let bits = self.next();
        let small = |number: f64| (number.is_finite() && number.abs() < 1e30).then_some(number);
        let number = match dtype {
            DType::Bool => Some((bits & 1) as f64),
            DType::U8 => Some(f64::from(bits as u8)),
            DType::U16 => Some(f64::from(bits as u16)),
            DType::U32 => Some(f64::from(bits as u32)),
            DType::U64 => Some((bits >> 11) as f64),
            DType::I8 => Some(f64::from(bits as i8)),
            DType::I16 => Some(f64::from(bits as i16)),
            DType::I32 => Some(f64::from(bits as i32)),
            DType::I64 => Some((bits.cast_signed() >> 11) as f64),
            DType::F16 => small(f16::from_bits(bits as u16).to_f64()),
            DType::BF16 => small(bf16::from_bits(bits as u16).to_f64()),
            DType::F32 => small(f64::from(f32::from_bits(bits as u32))),
            DType::F64 => small(f64::from_bits(bits)),
            DType::Bytes => panic!("no number"),
        };
        number.unwrap_or_else(|| self.number(dtype))
    }

    pub(super) fn text(&mut self) -> String {
        let letters = [
            "",
            "a",
            "\"",
            "\\",
            "\u{e9}",
            "\u{1f600}",
            "\n",
            " ",
            "0",
            "\u{0}",
        ];
        let n_letters = self.next() % 6;
        let pick = |_| letters[usize::try_from(self.next() % 10).unwrap()];
        (0..n_letters).map(pick).collect()
    }
}
