//! The operators there are, by domain and name.

use std::fmt::Debug;

use coracle_model::{LoadError, RunError};
use coracle_tensor::{DType, Tensor};

use crate::attributes::Attributes;
use crate::ensemble::TreeKernels;
use crate::file::MapType;
use crate::ops::{elementwise, layout, matrix, ml, reduce, text};

/// An operator with its attributes: a function from tensors to tensors.
pub(crate) trait Operator: Debug + Send + Sync {
    /// Computes the outputs; an input that is left out is `None`.
    fn run(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, RunError>;

    /// Returns the memory held, in bytes, where it is worth counting.
    fn memory_bytes(&self) -> usize {
        0
    }
}

/// What an operator is built from.
pub(crate) struct Build<'b, 'a> {
    pub(crate) attributes: Attributes<'b, 'a>,
    /// The version of the operator's domain.
    pub(crate) opset: i64,
    /// What is known of the inputs' datatypes.
    pub(crate) dtypes: &'b [Option<DType>],
    /// What the map holds that is its first input, if one is.
    pub(crate) map: Option<MapType>,
    pub(crate) n_outputs: usize,
    pub(crate) kernels: &'b dyn TreeKernels,
}

impl Build<'_, '_> {
    pub(crate) fn input_dtype(&self, index: usize) -> Option<DType> {
        self.dtypes.get(index).copied().flatten()
    }
}

/// A function of attributes and inputs.
pub(crate) type Run<A> = fn(&A, &[Option<&Tensor>]) -> Result<Vec<Tensor>, RunError>;

#[derive(Debug)]
struct Function<A> {
    attributes: A,
    run: Run<A>,
}

impl<A: Debug + Send + Sync> Operator for Function<A> {
    fn run(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, RunError> {
        (self.run)(&self.attributes, inputs)
    }
}

/// What building an operator gives.
pub(crate) type Built = Result<Box<dyn Operator>, LoadError>;

/// Returns an operator that is a plain function.
pub(crate) fn function<A: Debug + Send + Sync + 'static>(attributes: A, run: Run<A>) -> Built {
    Ok(Box::new(Function { attributes, run }))
}

/// Builds the operator of a domain and name; `None` if there is none.
pub(crate) fn build(domain: &str, name: &str, build: &Build<'_, '_>) -> Option<Built> {
    match domain {
        "" => elementwise::build(name, build)
            .or_else(|| layout::build(name, build))
            .or_else(|| reduce::build(name, build))
            .or_else(|| matrix::build(name, build))
            .or_else(|| text::build(name, build)),
        "ai.onnx.ml" => ml::build(name, build),
        "com.microsoft" => match name {
            "Tokenizer" => Some(text::tokenizer(build)),
            "CDist" => Some(matrix::distances(build)),
            _ => None,
        },
        _ => None,
    }
}

/// Returns the datatype of each output as far as it follows from the inputs'.
pub(crate) fn result_dtype(
    domain: &str,
    name: &str,
    inputs: &[Option<DType>],
    output: usize,
    cast_to: Option<DType>,
) -> Option<DType> {
    let first = inputs.first().copied().flatten();
    match (domain, name, output) {
        (_, "Cast" | "ConstantOfShape" | "Constant", _) => cast_to,
        ("ai.onnx.ml", "Scaler" | "Normalizer" | "LinearRegressor" | "SVMRegressor", _)
        | ("ai.onnx.ml", "TreeEnsembleRegressor" | "OneHotEncoder" | "FeatureVectorizer", _)
        | ("ai.onnx.ml", "TreeEnsembleClassifier" | "LinearClassifier" | "SVMClassifier", 1)
        | ("", "TfIdfVectorizer", _) => Some(DType::F32),
        ("ai.onnx.ml", "Imputer" | "Binarizer" | "ArrayFeatureExtractor" | "TreeEnsemble", 0) => {
            first
        }
        ("ai.onnx.ml", ..) => None,
        ("", "Shape" | "Size" | "ArgMax" | "ArgMin" | "NonZero", _) | ("", "TopK", 1) => {
            Some(DType::I64)
        }
        ("", "Equal" | "Less" | "Greater" | "LessOrEqual" | "GreaterOrEqual", _)
        | ("", "And" | "Or" | "Xor" | "Not" | "IsNaN" | "IsInf", _) => Some(DType::Bool),
        ("", "Where", _) => inputs.get(1).copied().flatten(),
        _ => first,
    }
}
