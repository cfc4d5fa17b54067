//! Whether a transformer gives a sparse table in Python, where XGBoost takes what is not stored for missing.

use coracle_model::LoadError;
use coracle_pickle::Node;

use super::fitted::Fitted;
use super::{imbalanced, pipeline};

/// Tells whether `step` gives a sparse table; `reads` says whether it gets one.
pub(super) fn gives_sparse(step: &Fitted<'_>, reads: bool) -> Result<bool, LoadError> {
    if imbalanced::answers_as(step.class()) == "sklearn.pipeline.Pipeline" {
        let mut sparse = reads;
        for (name, id) in pipeline::named_steps(step)? {
            sparse = gives_sparse(&step.part(id, &format!("step '{name}'"))?, sparse)?;
        }
        return Ok(sparse);
    }
    Ok(match step.short_class() {
        "CountVectorizer"
        | "TfidfVectorizer"
        | "TfidfTransformer"
        | "HashingVectorizer"
        | "KNeighborsTransformer"
        | "RadiusNeighborsTransformer" => true,
        "ColumnTransformer" => step.flag_or("sparse_output_", false)?,
        "FeatureUnion" => return any_is_sparse(step, reads),
        "DictVectorizer" => step.flag_or("sparse", true)?,
        "OneHotEncoder" => match step.attr("sparse_output") {
            Some(_) => step.flag("sparse_output")?,
            None => step.flag_or("sparse", true)?,
        },
        "RandomTreesEmbedding" => step.flag_or("sparse_output", true)?,
        "SplineTransformer" => step.flag_or("sparse_output", false)?,
        "KBinsDiscretizer" => step.text("encode")? == "onehot",
        "MissingIndicator" => match step.text_if("sparse") {
            Some(_) => reads,
            None => step.flag("sparse")?,
        },
        "SparseRandomProjection" => reads && !step.flag_or("dense_output", false)?,
        "AdditiveChi2Sampler"
        | "Binarizer"
        | "FunctionTransformer"
        | "GenericUnivariateSelect"
        | "MaxAbsScaler"
        | "Normalizer"
        | "PolynomialFeatures"
        | "QuantileTransformer"
        | "RFE"
        | "RFECV"
        | "RobustScaler"
        | "SelectFdr"
        | "SelectFpr"
        | "SelectFromModel"
        | "SelectFwe"
        | "SelectKBest"
        | "SelectPercentile"
        | "SequentialFeatureSelector"
        | "SimpleImputer"
        | "StandardScaler"
        | "VarianceThreshold" => reads,
        _ => false,
    })
}

/// Tells whether one of a union's parts gives a sparse table, which makes the whole sparse.
fn any_is_sparse(union: &Fitted<'_>, reads: bool) -> Result<bool, LoadError> {
    let mut sparse = false;
    for &entry in union.list("transformer_list")? {
        let Some(&[_, part]) = union.graph.list(entry) else {
            return Err(union.malformed("'transformer_list' holds something else than pairs"));
        };
        sparse |= match union.graph.node(part) {
            Node::Str(text) if text.as_ref() == "passthrough" => reads,
            Node::Str(_) | Node::None => false,
            _ => gives_sparse(&union.part(part, "transformer")?, reads)?,
        };
    }
    Ok(sparse)
}
