//! Which graphs the runtime is given: those that ONNX's own tests and measurements show it to answer rightly.
//!
//! What it does not know it refuses itself. Refused here is what it would answer wrongly, and what would end the process.

#[cfg(feature = "engine")]
use coracle_model::GraphFile;
use coracle_model::{LoadError, LoadErrorKind};
#[cfg(feature = "engine")]
use coracle_onnx::outline;
use coracle_onnx::{Outline, OutlineNode};
use coracle_tensor::DType;

/// The most nodes of a graph.
const NODES_MAX: usize = 1 << 14;

/// An operator that is answered otherwise than ONNX says, or not as a server must.
#[derive(Clone, Copy, Debug)]
struct Refusal {
    operator: &'static str,
    when: When,
    why: &'static str,
}

/// When it is refused.
#[derive(Clone, Copy, Debug)]
enum When {
    Always,
    /// In graphs of versions of `ai.onnx` before this one.
    Before(i64),
    /// Where an attribute is this text.
    Text(&'static str, &'static str),
    /// Casts to this datatype, of whatever may be a fraction or of all.
    ToFromFractions(DType),
    To(DType),
}

/// All that are refused. `docs/formats.md` has this table, and the tests have a graph for each line.
const REFUSALS: [Refusal; 18] = [
    always("Bernoulli", RANDOM),
    Refusal {
        operator: "Cast",
        when: When::To(DType::F64),
        why: "doubles are computed in single precision",
    },
    Refusal {
        operator: "Cast",
        when: When::ToFromFractions(DType::Bool),
        why: "a fraction becomes an integer first",
    },
    always("DynamicQuantizeLinear", "it rounds otherwise"),
    before_13("Hardmax"),
    before_13("LogSoftmax"),
    always("Loop", "a run of it could not be ended"),
    always("Multinomial", RANDOM),
    always(
        "NonMaxSuppression",
        "boxes of several batches or classes are mixed up",
    ),
    always("RandomNormal", RANDOM),
    always("RandomNormalLike", RANDOM),
    always("RandomUniform", RANDOM),
    always("RandomUniformLike", RANDOM),
    cubic("Resize"),
    always("SequenceErase", "another element is erased"),
    always("Sign", "the sign of zero is not zero"),
    before_13("Softmax"),
    cubic("Upsample"),
];

const RANDOM: &str = "it draws numbers at random";

const fn always(operator: &'static str, why: &'static str) -> Refusal {
    Refusal {
        operator,
        when: When::Always,
        why,
    }
}

const fn before_13(operator: &'static str) -> Refusal {
    Refusal {
        operator,
        when: When::Before(13),
        why: "its axis was another",
    }
}

const fn cubic(operator: &'static str) -> Refusal {
    Refusal {
        operator,
        when: When::Text("mode", "cubic"),
        why: "the interpolation is another",
    }
}

impl Refusal {
    fn is_of(&self, node: &OutlineNode, outline: &Outline) -> bool {
        let is_to = |dtype| {
            let number = onnx_number(dtype);
            number.is_some() && node.integers.get("to").copied() == number
        };
        self.operator == node.operator
            && match self.when {
                When::Always => true,
                When::Before(version) => {
                    let own = outline.opsets.get("").copied().unwrap_or_default();
                    own < version && node.domain.is_empty()
                }
                When::Text(name, value) => node.texts.get(name).is_some_and(|text| text == value),
                When::To(dtype) => is_to(dtype),
                When::ToFromFractions(dtype) => {
                    let input = node.inputs.first();
                    is_to(dtype) && !input.is_some_and(|input| is_whole_input(input, outline))
                }
            }
    }
}

impl std::fmt::Display for When {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Always => f.write_str("always"),
            Self::Before(version) => write!(f, "before version {version}"),
            Self::Text(name, value) => write!(f, "`{name}` is `{value}`"),
            Self::To(dtype) => write!(f, "to {dtype}"),
            Self::ToFromFractions(dtype) => write!(f, "to {dtype}, but of an input of integers"),
        }
    }
}

/// Returns ONNX's number of a datatype that casts are refused to.
fn onnx_number(dtype: DType) -> Option<i64> {
    match dtype {
        DType::Bool => Some(9),
        DType::F64 => Some(11),
        _ => None,
    }
}

/// Tells whether the graph takes integers or truth values by a name.
fn is_whole_input(name: &str, outline: &Outline) -> bool {
    let spec = outline.inputs.iter().find(|spec| spec.name == name);
    let is_real = |dtype| matches!(dtype, DType::F16 | DType::BF16 | DType::F32 | DType::F64);
    spec.is_some_and(|spec| !is_real(spec.dtype))
}

/// Operators that take the ends of ranges, for which integers beyond 32 bits mean the end.
const RANGES: [&str; 1] = ["Slice"];

/// Reads what a file holds, with the tensors that lie elsewhere.
#[cfg(feature = "engine")]
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
    for node in &outline.nodes {
        let operator = node.operator.as_str();
        let refusal = REFUSALS.iter().find(|refusal| refusal.is_of(node, outline));
        if let Some(Refusal { when, why, .. }) = refusal {
            let when = match when {
                When::Always => String::new(),
                when => format!(" ({when})"),
            };
            return Err(refused(format!("operator '{operator}'{when}: {why}")));
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

fn refused(why: impl std::fmt::Display) -> LoadError {
    unsupported(format!("rten does not run the graph: {why}"))
}

pub(crate) fn unsupported(message: impl Into<String>) -> LoadError {
    LoadError::new(LoadErrorKind::Unsupported, message)
}

#[cfg(test)]
mod tests;
