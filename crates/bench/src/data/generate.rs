//! Inputs made up from a model's metadata: seeded numbers of the right datatype and shape.

use coracle_protocol::client::NamedTensor;
use coracle_tensor::{DType, Tensor, Values, bf16, f16};

use super::Options;
use crate::{BenchError, Rng, TensorMetadata};

/// The most elements of one request.
const ELEMENTS_MAX: usize = 64 << 20;

/// Makes inputs up: numbers from 0 to 10 with three decimals, integers from 0 to 9, truth values.
///
/// # Errors
/// [`BenchError::Data`] for texts, whose meaning nobody can make up, and for shapes that are left open.
pub fn generate(
    metadata: &[TensorMetadata],
    options: &Options<'_>,
    seed: u64,
) -> Result<Vec<NamedTensor>, BenchError> {
    let mut rng = Rng::new(seed);
    let inputs = metadata.iter().map(|input| {
        let fault = |what: String| BenchError::Data(format!("input {:?}: {what}", input.name));
        let dtype = DType::from_name(&input.datatype)
            .ok_or_else(|| fault(format!("unknown datatype {:?}", input.datatype)))?;
        let shape = shape(input, options).map_err(fault)?;
        let n_elements: usize = shape.iter().product();
        let values = values(dtype, n_elements, &mut rng).ok_or_else(|| {
            fault("takes texts, which cannot be made up; give some with --data FILE.csv".to_owned())
        })?;
        let tensor = Tensor::try_new(shape, values).map_err(|error| fault(error.to_string()))?;
        Ok(NamedTensor {
            name: input.name.clone(),
            tensor,
        })
    });
    let inputs: Vec<NamedTensor> = inputs.collect::<Result<_, BenchError>>()?;
    if inputs.is_empty() {
        let message = "the model's metadata names no inputs; give data with --data";
        return Err(BenchError::Data(message.to_owned()));
    }
    Ok(inputs)
}

fn shape(input: &TensorMetadata, options: &Options<'_>) -> Result<Vec<usize>, String> {
    let given = options.shapes.iter().find(|(name, _)| *name == input.name);
    let shape = match given {
        Some((_, shape)) => shape.clone(),
        None => {
            let sizes = input.shape.iter().enumerate();
            let sizes = sizes.map(|(index, &size)| match usize::try_from(size) {
                Ok(size) => Ok(size),
                Err(_open) if index == 0 => Ok(options.n_rows),
                Err(_open) => Err(format!(
                    "its shape {:?} is left open; say it with --shape {}:...",
                    input.shape, input.name
                )),
            });
            sizes.collect::<Result<Vec<usize>, String>>()?
        }
    };
    let n_elements = shape
        .iter()
        .try_fold(1_usize, |product, size| product.checked_mul(*size));
    match n_elements {
        Some(n) if n <= ELEMENTS_MAX => Ok(shape),
        _ => Err(format!(
            "shape {shape:?} has more than {ELEMENTS_MAX} elements"
        )),
    }
}

/// Returns so many values; `None` for texts.
fn values(dtype: DType, n: usize, rng: &mut Rng) -> Option<Values> {
    let mut decimal = || (rng.uniform() * 10_000.0).floor() / 1_000.0;
    macro_rules! floats {
        ($variant:ident, $convert:expr) => {
            Values::$variant((0..n).map(|_| $convert(decimal())).collect())
        };
    }
    macro_rules! integers {
        ($variant:ident) => {
            Values::$variant((0..n).map(|_| (rng.bits() % 10) as _).collect())
        };
    }
    Some(match dtype {
        DType::Bool => Values::Bool((0..n).map(|_| rng.bits() & 1 == 1).collect()),
        DType::U8 => integers!(U8),
        DType::U16 => integers!(U16),
        DType::U32 => integers!(U32),
        DType::U64 => integers!(U64),
        DType::I8 => integers!(I8),
        DType::I16 => integers!(I16),
        DType::I32 => integers!(I32),
        DType::I64 => integers!(I64),
        DType::F16 => floats!(F16, f16::from_f64),
        DType::BF16 => floats!(BF16, bf16::from_f64),
        DType::F32 => floats!(F32, |value: f64| value as f32),
        DType::F64 => floats!(F64, |value: f64| value),
        DType::Bytes => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(datatype: &str, shape: &[i64]) -> TensorMetadata {
        TensorMetadata {
            name: "x".to_owned(),
            datatype: datatype.to_owned(),
            shape: shape.to_vec(),
            columns: Vec::new(),
        }
    }

    const OPTIONS: Options<'static> = Options {
        n_rows: 3,
        shapes: &[],
        seed: 1,
    };

    #[test]
    fn every_datatype_of_numbers_can_be_made_up() {
        for dtype in DType::ALL {
            let made = generate(&[input(dtype.name(), &[-1, 2])], &OPTIONS, 1);
            match made {
                Ok(inputs) => {
                    assert_eq!(inputs[0].tensor.shape(), [3, 2]);
                    assert_eq!(inputs[0].tensor.dtype(), dtype);
                }
                Err(error) => {
                    assert_eq!(dtype, DType::Bytes);
                    assert!(error.to_string().contains("--data"), "{error}");
                }
            }
        }
    }

    #[test]
    fn a_seed_gives_the_same_numbers() {
        let metadata = [input("FP64", &[-1, 4])];
        let made = |seed| generate(&metadata, &OPTIONS, seed).unwrap();
        assert_eq!(made(5), made(5));
        assert_ne!(made(5), made(6));
    }

    #[test]
    fn open_shapes_must_be_said() {
        let metadata = [input("FP32", &[-1, 3, -1])];
        let error = generate(&metadata, &OPTIONS, 1).unwrap_err().to_string();
        assert!(error.contains("--shape x:"), "{error}");
        let shapes = [("x".to_owned(), vec![1, 3, 224])];
        let options = Options {
            shapes: &shapes,
            ..OPTIONS
        };
        let made = generate(&metadata, &options, 1).unwrap();
        assert_eq!(made[0].tensor.shape(), [1, 3, 224]);
        let huge = [("x".to_owned(), vec![usize::MAX, 2])];
        let options = Options {
            shapes: &huge,
            ..OPTIONS
        };
        assert!(generate(&metadata, &options, 1).is_err());
    }
}
