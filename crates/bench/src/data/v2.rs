//! A JSON body of V2 as tensors, for protocols that carry raw bytes.

use coracle_protocol::client::NamedTensor;
use coracle_tensor::{ByteStrings, DType, Tensor, Values, bf16, f16};
use serde_json::Value;

/// Returns the inputs of a body.
///
/// # Errors
/// In words, with the input.
pub(super) fn inputs(body: &Value) -> Result<Vec<NamedTensor>, String> {
    let inputs = body["inputs"].as_array();
    let inputs = inputs.ok_or("has no list of \"inputs\", which raw bytes are made from")?;
    inputs.iter().map(input).collect()
}

fn input(input: &Value) -> Result<NamedTensor, String> {
    let name = input["name"].as_str().ok_or("an input has no name")?;
    let fault = |what: String| format!("input {name:?}: {what}");
    let datatype = input["datatype"].as_str().unwrap_or_default();
    let dtype = DType::from_name(datatype)
        .ok_or_else(|| fault(format!("unknown datatype {datatype:?}")))?;
    let sizes = input["shape"].as_array().into_iter().flatten();
    let sizes = sizes.map(|size| size.as_u64().and_then(|size| usize::try_from(size).ok()));
    let shape: Option<Vec<usize>> = sizes.collect();
    let shape = shape.ok_or_else(|| fault("its shape is no list of sizes".to_owned()))?;
    let mut cells = Vec::new();
    flatten(&input["data"], &mut cells);
    let values = values(dtype, &cells).map_err(fault)?;
    let tensor = Tensor::try_new(shape, values).map_err(|error| fault(error.to_string()))?;
    Ok(NamedTensor {
        name: name.to_owned(),
        tensor,
    })
}

/// Collects the elements of nested lists. The JSON reader has bounded their depth.
fn flatten<'a>(value: &'a Value, cells: &mut Vec<&'a Value>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| flatten(item, cells)),
        other => cells.push(other),
    }
}

fn values(dtype: DType, cells: &[&Value]) -> Result<Values, String> {
    macro_rules! each {
        ($variant:ident, $convert:expr) => {{
            let convert = $convert;
            let values = cells
                .iter()
                .map(|cell| convert(*cell).ok_or_else(|| format!("{cell} where {dtype} belongs")));
            Values::$variant(values.collect::<Result<_, String>>()?)
        }};
    }
    let unsigned = |cell: &Value| cell.as_u64();
    let signed = |cell: &Value| cell.as_i64();
    let double = |cell: &Value| {
        if cell.is_null() {
            Some(f64::NAN)
        } else {
            cell.as_f64()
        }
    };
    Ok(match dtype {
        DType::Bool => each!(Bool, |cell: &Value| cell.as_bool()),
        DType::U8 => each!(U8, |cell| unsigned(cell)?.try_into().ok()),
        DType::U16 => each!(U16, |cell| unsigned(cell)?.try_into().ok()),
        DType::U32 => each!(U32, |cell| unsigned(cell)?.try_into().ok()),
        DType::U64 => each!(U64, unsigned),
        DType::I8 => each!(I8, |cell| signed(cell)?.try_into().ok()),
        DType::I16 => each!(I16, |cell| signed(cell)?.try_into().ok()),
        DType::I32 => each!(I32, |cell| signed(cell)?.try_into().ok()),
        DType::I64 => each!(I64, signed),
        DType::F16 => each!(F16, |cell| double(cell).map(f16::from_f64)),
        DType::BF16 => each!(BF16, |cell| double(cell).map(bf16::from_f64)),
        DType::F32 => each!(F32, |cell| double(cell).map(|value| value as f32)),
        DType::F64 => each!(F64, double),
        DType::Bytes => {
            let mut strings = ByteStrings::new();
            for cell in cells {
                let text = cell
                    .as_str()
                    .ok_or_else(|| format!("{cell} where a text belongs"))?;
                strings.push(text.as_bytes());
            }
            Values::Bytes(strings)
        }
    })
}
