//! Which graphs the runtime is given: those that ONNX's own tests and measurements show it to answer rightly.
//!
//! What it does not know it refuses itself. Refused here is what it would answer wrongly, and what would end the process.

use coracle_model::{GraphFile, LoadError};
use coracle_onnx::{Outline, OutlineNode, outline};
use coracle_tensor::DType;

use crate::engine::unsupported;

/// The most nodes of a graph.
const NODES_MAX: usize = 1 << 14;

/// Operators that are answered otherwise than ONNX says, with what is wrong.
const WRONG: [(&str, &str); 5] = [
    ("DynamicQuantizeLinear", "it rounds otherwise"),
    (
        "NonMaxSuppression",
        "boxes of several batches or classes are mixed up",
    ),
    ("Sign", "the sign of zero is not zero"),
    ("SequenceErase", "another element is erased"),
    ("Loop", "a run of it could not be ended"),
];

/// Operators whose axis was another before version 13.
const AXIS_CHANGED: [&str; 3] = ["Softmax", "LogSoftmax", "Hardmax"];
const AXIS_VERSION: i64 = 13;

/// Operators that take the ends of ranges, for which integers beyond 32 bits mean the end.
const RANGES: [&str; 1] = ["Slice"];

/// ONNX's numbers of datatypes that `Cast` makes otherwise than ONNX says.
const BOOL: i64 = 9;
const DOUBLE: i64 = 11;

/// Operators that draw numbers at random.
const RANDOM: [&str; 6] = [
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
];

/// Reads what a file holds, with the tensors that lie elsewhere.
pub(crate) fn outline_of(file: &GraphFile<'_>) -> Result<Outline, LoadError> {
    outline(file.bytes, &|location, offset, length| {
        let found = file.external.iter().find(|file| file.location == location);
        let bytes = found.map(|file| file.bytes.as_ref()).unwrap_or_default();
        let start = usize::try_from(offset).ok();
        let rest = start.and_then(|start| bytes.get(start..));
        let part = match length {
            None => rest,
            Some(length) => usize::try_from(length)
                .ok()
                .and_then(|length| rest?.get(..length)),
        };
        part.map(<[u8]>::to_vec)
            .ok_or_else(|| unsupported(format!("'{location}' is shorter than the graph says")))
    })
}

/// Refuses a graph that the runtime would not answer rightly.
///
/// # Errors
/// Kind `Unsupported`, with the operator or tensor and the reason.
pub(crate) fn check(outline: &Outline) -> Result<(), LoadError> {
    if outline.nodes.len() > NODES_MAX {
        let n = outline.nodes.len();
        return Err(refused(format!("{n} nodes, at most {NODES_MAX} are taken")));
    }
    if outline.has_functions {
        return Err(refused("functions within the file are not taken"));
    }
    let specs = outline.inputs.iter().chain(&outline.outputs);
    for spec in specs {
        if !is_taken(spec.dtype) {
            let (name, dtype) = (&spec.name, spec.dtype);
            return Err(refused(format!("'{name}' is of {dtype}")));
        }
    }
    if let Some(dtype) = outline.dtypes.iter().find(|dtype| !is_taken(**dtype)) {
        return Err(refused(format!("there are tensors of {dtype}")));
    }
    let version = outline.opsets.get("").copied().unwrap_or_default();
    for node in &outline.nodes {
        let operator = node.operator.as_str();
        let wrong = WRONG.iter().find(|(name, _)| *name == operator);
        if let Some((_, why)) = wrong {
            return Err(refused(format!("operator '{operator}': {why}")));
        }
        if AXIS_CHANGED.contains(&operator) && version < AXIS_VERSION && node.domain.is_empty() {
            return Err(refused(format!(
                "operator '{operator}' of version {version}: its axis is another before version {AXIS_VERSION}"
            )));
        }
        if RANDOM.contains(&operator) {
            return Err(refused(format!(
                "operator '{operator}' draws numbers at random"
            )));
        }
        let is_cubic = node.texts.get("mode").is_some_and(|mode| mode == "cubic");
        if matches!(operator, "Resize" | "Upsample") && is_cubic {
            return Err(refused("operator 'Resize': cubic interpolation is another"));
        }
        if operator == "Cast" {
            check_cast(outline, node)?;
        }
        let mut wide = node.inputs.iter();
        let wide = wide.find(|input| outline.wide_integers.contains(*input));
        if let Some(wide) = wide.filter(|_| !RANGES.contains(&operator)) {
            return Err(refused(format!(
                "operator '{operator}': '{wide}' has integers that 32 bits do not hold"
            )));
        }
    }
    Ok(())
}

/// Numbers that the runtime holds without loss, or with one that is checked.
fn is_taken(dtype: DType) -> bool {
    matches!(
        dtype,
        DType::Bool | DType::U8 | DType::I8 | DType::I32 | DType::I64 | DType::F16 | DType::F32
    )
}

/// Refuses a cast that is computed otherwise: to doubles in single precision, and of fractions to truth values as if to integers.
fn check_cast(outline: &Outline, node: &OutlineNode) -> Result<(), LoadError> {
    let is_whole = |input: &String| {
        let spec = outline.inputs.iter().find(|spec| spec.name == *input);
        let is_real = |dtype| matches!(dtype, DType::F16 | DType::BF16 | DType::F32 | DType::F64);
        spec.is_some_and(|spec| !is_real(spec.dtype))
    };
    match node.integers.get("to") {
        Some(&DOUBLE) => Err(refused(
            "operator 'Cast': doubles are computed in single precision",
        )),
        Some(&BOOL) if !node.inputs.first().is_some_and(is_whole) => Err(refused(
            "operator 'Cast': to truth values of what may be a fraction, which becomes an integer first",
        )),
        _ => Ok(()),
    }
}

fn refused(why: impl std::fmt::Display) -> LoadError {
    unsupported(format!("rten does not run the graph: {why}"))
}

#[cfg(test)]
mod tests {
    use coracle_model::TensorSpec;

    use super::*;

    fn of(operator: &str, input: &str, to: Option<i64>) -> Outline {
        let spec = |name: &str, dtype| TensorSpec {
            name: name.to_owned(),
            dtype,
            shape: vec![None],
            columns: None,
            accepts_missing: false,
            accepts_integers: false,
        };
        let node = OutlineNode {
            operator: operator.to_owned(),
            inputs: vec![input.to_owned()],
            integers: to.map(|to| ("to".to_owned(), to)).into_iter().collect(),
            ..OutlineNode::default()
        };
        Outline {
            opsets: [(String::new(), 20)].into(),
            nodes: vec![node],
            inputs: vec![spec("mask", DType::I64), spec("x", DType::F32)],
            ..Outline::default()
        }
    }

    #[test]
    fn casts_that_are_computed_otherwise_are_refused() {
        check(&of("Cast", "x", Some(1))).unwrap();
        check(&of("Cast", "mask", Some(BOOL))).unwrap();
        for (input, to) in [
            ("x", BOOL),
            ("computed", BOOL),
            ("x", DOUBLE),
            ("mask", DOUBLE),
        ] {
            let error = check(&of("Cast", input, Some(to))).unwrap_err().to_string();
            assert!(error.contains("operator 'Cast'"), "{error}");
        }
    }

    #[test]
    fn loops_are_refused() {
        let error = check(&of("Loop", "x", None)).unwrap_err().to_string();
        assert!(error.contains("operator 'Loop'"), "{error}");
    }
}
