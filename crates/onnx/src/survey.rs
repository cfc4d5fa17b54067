//! What a file holds in all its graphs: those within nodes and functions too, which nothing else here reads.
//!
//! An engine that is given the whole file runs all of it, so all of it is looked through: which files it would open, what its
//! runs may cost, and whether its rows could depend on each other. Fields that come twice are each looked at, since other
//! readers merge them.

use std::collections::{BTreeSet, HashSet};

use coracle_model::LoadError;

use crate::error::{limit, malformed, unsupported};
use crate::file::{ValueKind, read_value, read_values, shown};
use crate::wire::Reader;

/// The deepest that messages may lie in each other; what writes ONNX stays far below.
const DEPTH_MAX: usize = 90;

/// Operators that run a graph of their own, as often as they like.
const CONTROL_FLOW: [&str; 4] = ["Loop", "Scan", "If", "SequenceMap"];

/// Operators whose answers follow from the whole of a tensor, or from nothing at all, so that a row's answer may depend on the
/// rows beside it in ways that examples need not show.
const WHOLE_TENSOR: [&str; 17] = [
    "Bernoulli",
    "Compress",
    "ConvInteger",
    "ConvIntegerToFloat",
    "MatMulInteger",
    "MatMulInteger16",
    "MatMulIntegerToFloat",
    "Multinomial",
    "NonMaxSuppression",
    "NonZero",
    "QAttention",
    "QGemm",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Unique",
];
/// The same, by how their names begin.
const WHOLE_TENSOR_PREFIXES: [&str; 2] = ["Dynamic", "QOrdered"];

/// Operators whose answers are as large as a value says, with the places of those among their inputs.
const SIZED_BY_VALUES: [(&str, &[usize]); 20] = [
    ("AffineGrid", &[1]),
    ("BlackmanWindow", &[0]),
    ("CenterCropPad", &[1]),
    ("Col2Im", &[1, 2]),
    ("ConstantOfShape", &[0]),
    ("DFT", &[1]),
    ("Expand", &[1]),
    ("GridSample", &[1]),
    ("HammingWindow", &[0]),
    ("HannWindow", &[0]),
    ("ImageDecoder", &[0]),
    ("MaxUnpool", &[1, 2]),
    ("MelWeightMatrix", &[0, 1]),
    ("OneHot", &[1]),
    ("Pad", &[1]),
    ("Range", &[0, 1, 2]),
    ("Resize", &[2, 3]),
    ("STFT", &[1, 3]),
    ("Tile", &[1, 2]),
    ("Upsample", &[1]),
];

/// What a file holds in all its graphs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// The files that hold initialisers of the outermost graph, as it calls them.
    pub locations: BTreeSet<String>,
    /// An operator that runs graphs of its own, if there is one.
    pub control_flow: Option<String>,
    /// An operator whose answer is as large as a value says that is computed or asked for, if there is one.
    pub sized_by_values: Option<String>,
    /// An operator that may make rows depend on each other, if there is one.
    pub mixes_rows: Option<String>,
    /// The inputs of the outermost graph of which the file does not say how many dimensions they have.
    pub shapeless: BTreeSet<String>,
    /// The optional inputs of the outermost graph that operators take which look at what is not there.
    pub never_missing: BTreeSet<String>,
    /// A node of which ONNX Runtime is known to read what is not there, and what of it, if there is one.
    pub misread: Option<&'static str>,
    /// Whether there is an operator of classical models, of the domain `ai.onnx.ml`.
    pub is_classical: bool,
    /// Whether matrices are multiplied.
    pub multiplies: bool,
}

/// Looks through all graphs of a file.
///
/// # Errors
/// Kind `Malformed` if it is not made of fields, `LimitExceeded` if it is nested too deeply, `Unsupported` where tensors other than
/// initialisers of the outermost graph lie in other files.
pub fn survey(bytes: &[u8]) -> Result<Survey, LoadError> {
    let mut walk = Walk::default();
    let mut ahead = vec![(Kind::Model, Reader::new(bytes))];
    while let Some((kind, reader)) = ahead.last_mut() {
        let kind = *kind;
        let Some((number, field)) = reader.next()? else {
            ahead.pop();
            continue;
        };
        let Some(inner) = kind.inner(number) else {
            walk.note(kind, number, field)?;
            continue;
        };
        if ahead.len() >= DEPTH_MAX {
            return Err(limit(format!("graphs are nested deeper than {DEPTH_MAX}")));
        }
        let content = field.message()?;
        walk.enter(inner, content)?;
        ahead.push((inner, content));
    }
    Ok(walk.finish())
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Model,
    Training,
    Function,
    /// The outermost graph.
    Outermost,
    Graph,
    Node,
    Attribute,
    /// An initialiser of the outermost graph, which may lie in another file.
    Initializer,
    Tensor,
    SparseTensor,
    External,
    /// The place of an initialiser in another file.
    Place,
}

impl Kind {
    /// Returns what the field of a number holds, if that is a message that is looked into.
    fn inner(self, number: u64) -> Option<Self> {
        Some(match (self, number) {
            (Self::Model, 7) => Self::Outermost,
            (Self::Model, 20) => Self::Training,
            (Self::Model, 25) => Self::Function,
            (Self::Training, 1 | 2) => Self::Graph,
            (Self::Function, 7) | (Self::Outermost | Self::Graph, 1) => Self::Node,
            (Self::Function, 11) | (Self::Node, 5) => Self::Attribute,
            (Self::Outermost, 5) => Self::Initializer,
            (Self::Graph, 5) | (Self::Attribute, 5 | 10) | (Self::SparseTensor, 1 | 2) => {
                Self::Tensor
            }
            (Self::Outermost | Self::Graph, 15) | (Self::Attribute, 22 | 23) => Self::SparseTensor,
            (Self::Attribute, 6 | 11) => Self::Graph,
            (Self::Initializer, 13) => Self::Place,
            (Self::Tensor, 13) => Self::External,
            _ => return None,
        })
    }
}

/// What was seen.
#[derive(Default)]
struct Walk<'a> {
    survey: Survey,
    /// The values that are always the same: initialisers, and what `Constant` gives.
    constants: HashSet<&'a str>,
    /// All others.
    computed: HashSet<&'a str>,
    /// Those of them that nodes give, or that inner graphs take.
    given: HashSet<&'a str>,
    /// The scales and zero points of quantised operators, with their operators.
    scales: Vec<(&'a str, &'a str)>,
    /// The values that sizes follow from, with their operators.
    sizes: Vec<(&'a str, &'a str)>,
    /// What is taken by nodes that tell slices apart, which the runtime misreads where there are none.
    unique: Vec<&'a str>,
    /// The inputs of the outermost graph that have elements always.
    sized: HashSet<&'a str>,
    /// The optional inputs of the outermost graph.
    optional: HashSet<&'a str>,
    /// What is taken by other operators than those of optional values, or given by graphs.
    looked_at: HashSet<&'a str>,
}

impl<'a> Walk<'a> {
    /// Takes in a message that is looked into.
    fn enter(&mut self, kind: Kind, content: Reader<'a>) -> Result<(), LoadError> {
        match kind {
            Kind::Node => self.node(content),
            Kind::Outermost => {
                let (inputs, constants) = read_values(content)?;
                let inputs = inputs.iter();
                let inputs = inputs.filter(|input| !constants.contains(input.name));
                for input in inputs {
                    self.computed.insert(input.name);
                    if input.is_shapeless_tensor() {
                        self.survey.shapeless.insert(input.name.to_owned());
                    }
                    let sizes = input.shape.iter().flatten();
                    if input.shape.is_some() && sizes.clone().all(Option::is_some) {
                        self.sized.insert(input.name);
                    }
                    if input.kind == ValueKind::Optional {
                        self.optional.insert(input.name);
                    }
                }
                self.constants.extend(constants);
                Ok(())
            }
            Kind::Graph => {
                let (inputs, constants) = read_values(content)?;
                let names = inputs.iter().map(|input| input.name);
                self.given.extend(names.clone());
                self.computed.extend(names);
                self.constants.extend(constants);
                Ok(())
            }
            Kind::Place => self.place(content),
            Kind::External => Err(elsewhere()),
            _ => Ok(()),
        }
    }

    /// Takes in any other field.
    fn note(
        &mut self,
        kind: Kind,
        number: u64,
        field: crate::wire::Field<'a>,
    ) -> Result<(), LoadError> {
        match (kind, number) {
            // Readers differ in what other numbers mean.
            (Kind::Initializer, 14) if !matches!(field.int()?, 0 | 1) => {
                Err(malformed("a tensor is in no place that ONNX has"))
            }
            (Kind::Tensor, 14) if field.int()? != 0 => Err(elsewhere()),
            (Kind::Outermost | Kind::Graph, 12) => {
                self.looked_at.insert(read_value(field.message()?)?.name);
                Ok(())
            }
            // Inside, its name is whatever the function is given.
            (Kind::Function, 4) => {
                let name = field.text()?;
                self.given.insert(name);
                self.computed.insert(name);
                Ok(())
            }
            (Kind::Function, 5) => {
                self.looked_at.insert(field.text()?);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn place(&mut self, mut reader: Reader<'a>) -> Result<(), LoadError> {
        let (mut key, mut value) = ("", "");
        while let Some((number, field)) = reader.next()? {
            match number {
                1 => key = field.text()?,
                2 => value = field.text()?,
                _ => {}
            }
        }
        if key == "location" {
            self.survey.locations.insert(value.to_owned());
        }
        Ok(())
    }

    fn node(&mut self, mut reader: Reader<'a>) -> Result<(), LoadError> {
        let (mut operator, mut domain) = ("", "");
        let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
        let (mut n_class_texts, mut has_axis) = (0, false);
        while let Some((number, field)) = reader.next()? {
            match number {
                1 => inputs.push(field.text()?),
                2 => outputs.push(field.text()?),
                4 => operator = field.text()?,
                5 => {
                    n_class_texts = n_class_texts.max(count_class_texts(field.message()?)?);
                    has_axis |= attribute_name(field.message()?)? == b"axis";
                }
                7 => domain = field.text()?,
                _ => {}
            }
        }
        let is_of_optional = ["OptionalHasElement", "OptionalGetElement"].contains(&operator);
        if !is_of_optional || !matches!(domain, "" | "ai.onnx") {
            self.looked_at.extend(&inputs);
        }
        self.survey.misread = self.survey.misread.or(match operator {
            "TreeEnsembleClassifier" if n_class_texts == 1 => {
                Some("TreeEnsembleClassifier of one class that a string names")
            }
            // Where there are no rows.
            "FeatureVectorizer" if inputs.len() > 1 => Some("FeatureVectorizer of several inputs"),
            // Of matrices that are not square.
            "Inverse" if domain == "com.microsoft" => Some("Inverse"),
            _ => None,
        });
        if operator == "Unique" && has_axis {
            self.unique
                .push(inputs.first().copied().unwrap_or_default());
        }
        self.survey.is_classical |= domain == "ai.onnx.ml";
        self.survey.multiplies |= matches!(operator, "MatMul" | "Gemm");
        match operator {
            "Constant" => self.constants.extend(outputs),
            _ => {
                self.given.extend(&outputs);
                self.computed.extend(outputs);
            }
        }
        let is_control_flow = CONTROL_FLOW.contains(&operator);
        if is_control_flow {
            self.survey.control_flow.get_or_insert(shown(operator));
        }
        let is_quantized = matches!(operator, "QuantizeLinear" | "DequantizeLinear");
        let has_scales = matches!(operator, "QLinearConv" | "QLinearMatMul");
        let mixes_rows = WHOLE_TENSOR.contains(&operator)
            || WHOLE_TENSOR_PREFIXES
                .iter()
                .any(|prefix| operator.starts_with(prefix))
            || operator.starts_with("QLinear") && !has_scales;
        if is_control_flow || mixes_rows {
            self.survey.mixes_rows.get_or_insert(shown(operator));
        }
        let sized = SIZED_BY_VALUES.iter().find(|(name, _)| *name == operator);
        if let Some((_, places)) = sized {
            let sizes = places.iter().filter_map(|&place| inputs.get(place));
            let sizes = sizes.copied().filter(|name| !name.is_empty());
            self.sizes.extend(sizes.map(|name| (operator, name)));
        }
        if is_quantized || has_scales {
            let inputs = inputs.into_iter().enumerate();
            // The first is what is quantised, and so is the fourth of a product.
            let scales = inputs.filter(|(place, name)| {
                !(*place == 0 || name.is_empty() || has_scales && matches!(place, 3 | 8))
            });
            self.scales.extend(scales.map(|(_, name)| (operator, name)));
        }
        Ok(())
    }

    fn finish(self) -> Survey {
        let mut survey = self.survey;
        let is_fixed = |name: &str| self.constants.contains(name) && !self.computed.contains(name);
        let not_fixed = |found: &[(&str, &str)]| {
            let computed = found.iter().find(|(_, name)| !is_fixed(name));
            computed.map(|(operator, _)| shown(operator))
        };
        // A name that comes twice may be of something else.
        let has_elements = |name: &&str| {
            self.sized.contains(name)
                && !self.constants.contains(name)
                && !self.given.contains(name)
        };
        if !self.unique.iter().all(has_elements) {
            let what = "Unique of slices that there may be none of";
            survey.misread = survey.misread.or(Some(what));
        }
        let looked_at = self.optional.intersection(&self.looked_at);
        survey.never_missing = looked_at.map(|&name| name.to_owned()).collect();
        survey.sized_by_values = not_fixed(&self.sizes);
        survey.mixes_rows = survey.mixes_rows.or_else(|| not_fixed(&self.scales));
        survey
    }
}

fn attribute_name(mut attribute: Reader<'_>) -> Result<&[u8], LoadError> {
    let mut name: &[u8] = b"";
    while let Some((number, field)) = attribute.next()? {
        if number == 1 {
            name = field.bytes()?;
        }
    }
    Ok(name)
}

/// Returns how many classes an attribute names by strings.
fn count_class_texts(mut attribute: Reader<'_>) -> Result<usize, LoadError> {
    let (mut is_of_classes, mut n) = (false, 0_usize);
    while let Some((number, field)) = attribute.next()? {
        match number {
            1 => is_of_classes = field.bytes()? == b"classlabels_strings",
            9 => n = n.saturating_add(1),
            _ => {}
        }
    }
    Ok(if is_of_classes { n } else { 0 })
}

fn elsewhere() -> LoadError {
    unsupported(
        "a tensor of a node, of an inner graph or of a function lies in another file; only initialisers of the outermost graph may",
    )
}

#[cfg(test)]
mod tests;
