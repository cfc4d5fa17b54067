//! Rows that nobody asked for, to see what a graph makes of them.

use coracle_model::TensorSpec;
use coracle_tensor::{ByteStrings, DType, Tensor, Values, bf16, f16};

/// Inputs with more elements are not made up.
const ELEMENTS_MAX: usize = 1 << 20;

/// How a row is made up.
#[derive(Clone, Copy, Debug)]
pub struct MadeUp {
    /// The size of dimensions whose size is open; of the first it is one.
    pub open: usize,
    /// Another number makes another row.
    pub seed: usize,
    /// Real numbers are of up to this magnitude.
    pub scale: f32,
}

impl MadeUp {
    /// Returns a row for each input; `None` if one would be too large.
    #[must_use]
    pub fn row(self, inputs: &[TensorSpec]) -> Option<Vec<Tensor>> {
        inputs.iter().map(|input| self.input(input)).collect()
    }

    fn input(self, spec: &TensorSpec) -> Option<Tensor> {
        let sizes = spec.shape.iter().enumerate();
        let sizes = sizes.map(|(place, size)| match (place, size) {
            (_, Some(size)) => *size,
            (0, None) => 1,
            (_, None) => self.open,
        });
        let shape: Vec<usize> = sizes.collect();
        let n = shape
            .iter()
            .try_fold(1_usize, |product, &size| product.checked_mul(size))
            .filter(|&n| n <= ELEMENTS_MAX)?;
        Tensor::try_new(shape, self.values(spec.dtype, n)).ok()
    }

    fn values(self, dtype: DType, n: usize) -> Values {
        // A few steps of a small congruence: any values will do, if they differ from row to row.
        let step = |index: usize| {
            let mixed = index
                .wrapping_mul(37)
                .wrapping_add(self.seed.wrapping_mul(101));
            u8::try_from(mixed.wrapping_mul(mixed).wrapping_add(mixed) % 97).unwrap_or(0)
        };
        let real = |index: usize| (f32::from(step(index)) / 48.5 - 1.0) * self.scale;
        let bit = |index: usize| step(index) % 2;
        let all = 0..n;
        match dtype {
            DType::Bool => Values::Bool(all.map(|index| bit(index) == 1).collect()),
            DType::U8 => Values::U8(all.map(step).collect()),
            DType::U16 => Values::U16(all.map(|index| bit(index).into()).collect()),
            DType::U32 => Values::U32(all.map(|index| bit(index).into()).collect()),
            DType::U64 => Values::U64(all.map(|index| bit(index).into()).collect()),
            DType::I8 => Values::I8(all.map(|index| i8::from(bit(index) == 1)).collect()),
            DType::I16 => Values::I16(all.map(|index| bit(index).into()).collect()),
            DType::I32 => Values::I32(all.map(|index| bit(index).into()).collect()),
            DType::I64 => Values::I64(all.map(|index| bit(index).into()).collect()),
            DType::F16 => Values::F16(all.map(|index| f16::from_f32(real(index))).collect()),
            DType::BF16 => Values::BF16(all.map(|index| bf16::from_f32(real(index))).collect()),
            DType::F32 => Values::F32(all.map(real).collect()),
            DType::F64 => Values::F64(all.map(|index| f64::from(real(index))).collect()),
            DType::Bytes => {
                let texts = all.map(|index| if bit(index) == 1 { "a" } else { "b" });
                Values::Bytes(texts.collect::<ByteStrings>())
            }
        }
    }
}
