//! Tensors in files: inline in one of several fields, or in a file beside the model.

use coracle_model::LoadError;
use coracle_tensor::{ByteStrings, DType, Tensor, Values, bf16, f16};

use crate::error::{limit, malformed, unsupported};
use crate::file::{RANK_MAX, shown};
use crate::narrow::Narrow;
use crate::wire::{Reader, push_doubles, push_floats, push_ints};

/// Reads `length` bytes (all, if `None`) from `offset` on of the file at a location relative to the model.
pub type External<'e> = &'e dyn Fn(&str, u64, Option<u64>) -> Result<Vec<u8>, LoadError>;

/// How tensors are read.
#[derive(Clone, Copy)]
pub(crate) struct Reading<'e> {
    /// Reads those in other files.
    pub(crate) external: External<'e>,
    /// Whether those of datatypes that are narrower than ours are read in the next wider one of ours, instead of refused.
    pub(crate) widens: bool,
}

/// The most elements of one tensor.
const ELEMENTS_MAX: usize = 1 << 31;

#[derive(Default)]
pub(crate) struct Fields<'a> {
    name: &'a str,
    dims: Vec<i64>,
    data_type: i64,
    floats: Vec<f32>,
    /// `int32_data`, `int64_data` and `uint64_data`: at most one of them is there.
    ints: Vec<i64>,
    doubles: Vec<f64>,
    texts: Vec<&'a [u8]>,
    raw: Option<&'a [u8]>,
    is_external: bool,
    pub(crate) location: Option<&'a str>,
    pub(crate) offset: u64,
    pub(crate) length: Option<u64>,
}

/// Returns our datatype for ONNX's number of it, if we have it.
pub(crate) fn dtype(data_type: i64) -> Option<DType> {
    Some(match data_type {
        1 => DType::F32,
        2 => DType::U8,
        3 => DType::I8,
        4 => DType::U16,
        5 => DType::I16,
        6 => DType::I32,
        7 => DType::I64,
        8 => DType::Bytes,
        9 => DType::Bool,
        10 => DType::F16,
        11 => DType::F64,
        12 => DType::U32,
        13 => DType::U64,
        16 => DType::BF16,
        _ => return None,
    })
}

/// Returns ONNX's number of a datatype of ours.
pub(crate) fn data_type(wanted: DType) -> u64 {
    let number = (1_u32..32).find(|&number| dtype(number.into()) == Some(wanted));
    number.map_or(0, u64::from)
}

/// Reads a tensor with its name.
pub(crate) fn read_tensor<'a>(
    reader: Reader<'a>,
    reading: Reading<'_>,
) -> Result<(&'a str, Tensor), LoadError> {
    let fields = read_fields(reader)?;
    let name = fields.name;
    let tensor = tensor(fields, reading)
        .map_err(|error| error.at(format_args!("tensor '{}'", shown(name))))?;
    Ok((name, tensor))
}

/// Reads a file that holds one tensor, with its name; numbers of 4 and 8 bits that are no datatype of ours come in the next wider one,
/// as they are served.
///
/// # Errors
/// Kind `Malformed` or `LimitExceeded` where the bytes are no sound tensor; `Unsupported` for datatypes that are not served and for
/// tensors in other files.
pub fn read_tensor_file(bytes: &[u8]) -> Result<(String, Tensor), LoadError> {
    let external = |_: &str, _: u64, _: Option<u64>| Err(unsupported("external data"));
    let reading = Reading {
        external: &external,
        widens: true,
    };
    let (name, tensor) = read_tensor(Reader::new(bytes), reading)?;
    Ok((name.to_owned(), tensor))
}

fn read_fields(mut reader: Reader<'_>) -> Result<Fields<'_>, LoadError> {
    let mut fields = Fields::default();
    while let Some((number, field)) = reader.next()? {
        match number {
            1 => push_ints(field, &mut fields.dims)?,
            2 => fields.data_type = field.int()?,
            4 => push_floats(field, &mut fields.floats)?,
            5 | 7 | 11 => push_ints(field, &mut fields.ints)?,
            6 => fields.texts.push(field.bytes()?),
            8 => fields.name = field.text()?,
            9 => fields.raw = Some(field.bytes()?),
            10 => push_doubles(field, &mut fields.doubles)?,
            13 => read_external(field.message()?, &mut fields)?,
            14 => fields.is_external = field.int()? == 1,
            _ => {}
        }
    }
    Ok(fields)
}

pub(crate) fn read_external<'a>(
    mut reader: Reader<'a>,
    fields: &mut Fields<'a>,
) -> Result<(), LoadError> {
    let (mut key, mut value) = ("", "");
    while let Some((number, field)) = reader.next()? {
        match number {
            1 => key = field.text()?,
            2 => value = field.text()?,
            _ => {}
        }
    }
    let number = |text: &str| {
        text.parse::<u64>().map_err(|error| {
            malformed(format!("external data: {key} is no number")).with_source(error)
        })
    };
    match key {
        "location" => fields.location = Some(value),
        "offset" => fields.offset = number(value)?,
        "length" => fields.length = Some(number(value)?),
        _ => {}
    }
    Ok(())
}

/// The datatype of a tensor in a file.
#[derive(Clone, Copy)]
enum Kind {
    Ours(DType),
    Narrow(Narrow),
}

impl Kind {
    fn of(data_type: i64, widens: bool) -> Result<Self, LoadError> {
        let narrow = || Narrow::of(data_type).filter(|_| widens);
        let kind = dtype(data_type).map(Self::Ours);
        let kind = kind.or_else(|| narrow().map(Self::Narrow));
        kind.ok_or_else(|| unsupported(format!("datatype {data_type} is not supported")))
    }

    fn raw_values(self, raw: &[u8], n_elements: usize) -> Result<Values, LoadError> {
        match self {
            Self::Ours(dtype) => raw_values(dtype, raw, n_elements),
            Self::Narrow(narrow) => narrow.widened(raw, n_elements),
        }
    }

    fn typed_values(self, fields: Fields<'_>, n_elements: usize) -> Result<Values, LoadError> {
        match self {
            Self::Ours(dtype) => typed_values(dtype, fields),
            Self::Narrow(narrow) => {
                let bytes: Vec<u8> = narrowed(&fields.ints)?;
                narrow.widened(&bytes, n_elements)
            }
        }
    }
}

fn tensor(fields: Fields<'_>, reading: Reading<'_>) -> Result<Tensor, LoadError> {
    let kind = Kind::of(fields.data_type, reading.widens)?;
    if fields.dims.len() > RANK_MAX {
        let rank = fields.dims.len();
        return Err(limit(format!(
            "{rank} dimensions, at most {RANK_MAX} are read"
        )));
    }
    let shape: Option<Vec<usize>> = fields
        .dims
        .iter()
        .map(|&size| usize::try_from(size).ok())
        .collect();
    let shape = shape.ok_or_else(|| malformed(format!("shape {:?}", fields.dims)))?;
    let n_elements = shape
        .iter()
        .try_fold(1_usize, |product, &size| product.checked_mul(size))
        .filter(|&n_elements| n_elements <= ELEMENTS_MAX)
        .ok_or_else(|| {
            limit(format!(
                "shape {shape:?} has more than {ELEMENTS_MAX} elements"
            ))
        })?;
    let values = if fields.is_external {
        let location = fields
            .location
            .ok_or_else(|| malformed("external data without a location"))?;
        let bytes = (reading.external)(location, fields.offset, fields.length)?;
        kind.raw_values(&bytes, n_elements)?
    } else if let Some(raw) = fields.raw {
        kind.raw_values(raw, n_elements)?
    } else {
        kind.typed_values(fields, n_elements)?
    };
    Tensor::try_new(shape, values).map_err(|error| malformed(error.to_string()))
}

/// Reads elements from their little-endian bytes.
fn raw_values(dtype: DType, raw: &[u8], n_elements: usize) -> Result<Values, LoadError> {
    fn all<const N: usize, T>(raw: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
        raw.as_chunks().0.iter().map(|&bytes| read(bytes)).collect()
    }
    let size = dtype
        .size_bytes()
        .ok_or_else(|| malformed("strings as raw data"))?;
    if n_elements.checked_mul(size) != Some(raw.len()) {
        return Err(malformed(format!(
            "{} bytes for {n_elements} elements of {dtype}",
            raw.len()
        )));
    }
    Ok(match dtype {
        DType::Bool => Values::Bool(raw.iter().map(|&byte| byte != 0).collect()),
        DType::U8 => Values::U8(raw.to_vec().into()),
        DType::I8 => Values::I8(raw.iter().map(|&byte| byte.cast_signed()).collect()),
        DType::U16 => Values::U16(all(raw, u16::from_le_bytes).into()),
        DType::I16 => Values::I16(all(raw, i16::from_le_bytes).into()),
        DType::F16 => Values::F16(all(raw, f16::from_le_bytes).into()),
        DType::BF16 => Values::BF16(all(raw, bf16::from_le_bytes).into()),
        DType::U32 => Values::U32(all(raw, u32::from_le_bytes).into()),
        DType::I32 => Values::I32(all(raw, i32::from_le_bytes).into()),
        DType::F32 => Values::F32(all(raw, f32::from_le_bytes).into()),
        DType::U64 => Values::U64(all(raw, u64::from_le_bytes).into()),
        DType::I64 => Values::I64(all(raw, i64::from_le_bytes).into()),
        DType::F64 => Values::F64(all(raw, f64::from_le_bytes).into()),
        DType::Bytes => return Err(malformed("strings as raw data")),
    })
}

fn narrowed<T: TryFrom<i64>>(ints: &[i64]) -> Result<Vec<T>, LoadError> {
    let narrowed = ints.iter().map(|&value| {
        T::try_from(value)
            .map_err(|_too_large| malformed(format!("{value} is out of the datatype's range")))
    });
    narrowed.collect()
}

/// Takes elements from the typed field that ONNX keeps such in.
fn typed_values(dtype: DType, fields: Fields<'_>) -> Result<Values, LoadError> {
    Ok(match dtype {
        DType::F32 => Values::F32(fields.floats.into()),
        DType::F64 => Values::F64(fields.doubles.into()),
        DType::I64 => Values::I64(fields.ints.into()),
        DType::U64 => Values::U64(
            fields
                .ints
                .iter()
                .map(|value| value.cast_unsigned())
                .collect(),
        ),
        DType::I32 => Values::I32(narrowed(&fields.ints)?.into()),
        DType::I16 => Values::I16(narrowed(&fields.ints)?.into()),
        DType::I8 => Values::I8(narrowed(&fields.ints)?.into()),
        DType::U8 => Values::U8(narrowed(&fields.ints)?.into()),
        DType::U16 => Values::U16(narrowed(&fields.ints)?.into()),
        DType::U32 => Values::U32(narrowed(&fields.ints)?.into()),
        DType::Bool => Values::Bool(fields.ints.iter().map(|&value| value != 0).collect()),
        DType::F16 => {
            let bits: Vec<u16> = narrowed(&fields.ints)?;
            Values::F16(bits.into_iter().map(f16::from_bits).collect())
        }
        DType::BF16 => {
            let bits: Vec<u16> = narrowed(&fields.ints)?;
            Values::BF16(bits.into_iter().map(bf16::from_bits).collect())
        }
        DType::Bytes => Values::Bytes(fields.texts.into_iter().collect::<ByteStrings>()),
    })
}
