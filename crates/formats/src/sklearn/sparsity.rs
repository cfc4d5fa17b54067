//! Whether a transformer gives a sparse table in Python, where XGBoost takes what is not stored for missing.

use coracle_estimators::Unary;
use coracle_model::LoadError;
use coracle_pickle::Node;

use super::fitted::Fitted;
use super::{columns, functions, imbalanced, pipeline};

/// What kind of table a transformer gives in Python.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Layout {
    Dense,
    /// A sparse one, and none of the values that it stores is zero.
    Sparse,
    /// A sparse one that may store zeros, and the sparse rows here store the same ones.
    WithZeros,
    /// A sparse one of which is not known here which zeros it stores, and why.
    Uncertain(String),
}

impl Layout {
    /// Returns what a part of an estimator of this class reads: not the sparse rows themselves.
    pub(crate) fn within(&self, class: &str) -> Self {
        self.after(|| format!("{class} passes them on"))
    }

    /// Returns what comes out of a transformer that keeps a sparse table sparse, but here makes it dense.
    fn after(&self, why: impl FnOnce() -> String) -> Self {
        match self {
            Self::WithZeros => Self::Uncertain(why()),
            other => other.clone(),
        }
    }

    fn is_dense(&self) -> bool {
        *self == Self::Dense
    }

    /// Returns the layout of two sparse or dense tables side by side, where one at least is sparse.
    fn beside(self, other: Self) -> Self {
        match (self, other) {
            (Self::Uncertain(why), _) | (_, Self::Uncertain(why)) => Self::Uncertain(why),
            (Self::WithZeros, _) | (_, Self::WithZeros) => Self::WithZeros,
            // Zeros of dense tables are not stored.
            _ => Self::Sparse,
        }
    }
}

fn sparse_if(is_sparse: bool) -> Layout {
    if is_sparse {
        Layout::Sparse
    } else {
        Layout::Dense
    }
}

/// Returns the layout of what `step` gives; `reads` is the layout of what it gets.
pub(super) fn layout(step: &Fitted<'_>, reads: &Layout) -> Result<Layout, LoadError> {
    if imbalanced::answers_as(step.class()) == "sklearn.pipeline.Pipeline" {
        let mut layout_so_far = reads.clone();
        for (name, id) in pipeline::named_steps(step)? {
            layout_so_far = layout(&step.part(id, &format!("step '{name}'"))?, &layout_so_far)?;
        }
        return Ok(layout_so_far);
    }
    let stores_zeros = |how: &str| {
        let (place, class) = (&step.place, step.short_class());
        Layout::Uncertain(format!("{place} ({class}) {how}"))
    };
    let is_sparse = match step.short_class() {
        "HashingVectorizer" if step.flag_or("alternate_sign", true)? && !step.flag("binary")? => {
            // Terms of one column that cancel leave a zero.
            return Ok(Layout::WithZeros);
        }
        "FeatureHasher" => return Ok(Layout::WithZeros),
        "CountVectorizer" | "TfidfVectorizer" | "HashingVectorizer" => true,
        "TfidfTransformer" if reads.is_dense() => true,
        "KNeighborsTransformer" | "RadiusNeighborsTransformer" => {
            match step.text("mode")?.as_str() {
                "connectivity" => true,
                _ => return Ok(stores_zeros("stores distances of zero")),
            }
        }
        "ColumnTransformer" if !step.flag_or("sparse_output_", false)? => false,
        "ColumnTransformer" => return of_columns(step, reads),
        "FeatureUnion" => return of_union(step, reads),
        // Numbers are stored whatever they are.
        "DictVectorizer" if step.flag_or("sparse", true)? => return Ok(Layout::WithZeros),
        "OneHotEncoder" => match step.attr("sparse_output") {
            Some(_) => step.flag("sparse_output")?,
            None => step.flag_or("sparse", true)?,
        },
        "RandomTreesEmbedding" => step.flag_or("sparse_output", true)?,
        "SplineTransformer" if step.flag_or("sparse_output", false)? => {
            return Ok(stores_zeros("stores splines that are zero at knots"));
        }
        "KBinsDiscretizer" => step.text("encode")? == "onehot",
        "MissingIndicator" => match step.text_if("sparse") {
            Some(_) => !reads.is_dense(),
            None => step.flag("sparse")?,
        },
        _ if reads.is_dense() => false,
        _ => return of_sparse(step, reads, stores_zeros),
    };
    Ok(sparse_if(is_sparse))
}

/// Returns the layout of what a transformer makes of a sparse table.
fn of_sparse(
    step: &Fitted<'_>,
    reads: &Layout,
    stores_zeros: impl Fn(&str) -> Layout,
) -> Result<Layout, LoadError> {
    Ok(match step.short_class() {
        "SparseRandomProjection" if step.flag_or("dense_output", false)? => Layout::Dense,
        "SparseRandomProjection" => stores_zeros("stores sums that cancel"),
        "QuantileTransformer" => stores_zeros("stores quantiles of zero"),
        "SimpleImputer" if step.flat("statistics_")?.contains(&0.0) => {
            stores_zeros("fills with zeros")
        }
        "FunctionTransformer" if rounds(step) => stores_zeros("rounds to zero"),
        // Zeros are removed.
        "Binarizer" => Layout::Sparse,
        "AdditiveChi2Sampler"
        | "FunctionTransformer"
        | "GenericUnivariateSelect"
        | "MaxAbsScaler"
        | "Normalizer"
        | "PolynomialFeatures"
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
        // Drops zeros or keeps them, by its release and SciPy's.
        | "TfidfTransformer"
        | "VarianceThreshold" => reads.after(|| {
            let (place, class) = (&step.place, step.short_class());
            format!("{place} ({class}) passes stored zeros on")
        }),
        _ => Layout::Dense,
    })
}

/// Tells whether a function gives zero for numbers that are not.
fn rounds(step: &Fitted<'_>) -> bool {
    let function = functions::known(step, "func");
    matches!(
        function,
        Ok(Unary::Ceil | Unary::Floor | Unary::Rint | Unary::Round { .. } | Unary::Trunc)
    )
}

/// Returns the layout of a sparse table of transformed columns.
fn of_columns(step: &Fitted<'_>, reads: &Layout) -> Result<Layout, LoadError> {
    let mut all = Layout::Sparse;
    for &entry in step.list("transformers_")? {
        let Some(&[name, part, given]) = step.graph.list(entry) else {
            return Err(step.malformed("'transformers_' holds something else than triples"));
        };
        let name = step.graph.string(name).unwrap_or_default();
        if let Node::None = step.graph.node(part) {
            continue;
        }
        if matches!(step.graph.node(part), Node::Str(text) if text.as_ref() == "drop")
            || columns::input_columns(step, &name, given)?.is_empty()
        {
            continue;
        }
        all = all.beside(of_part(step, part, &name, reads)?);
    }
    Ok(all)
}

/// Returns the layout of a union, which one sparse part makes sparse.
fn of_union(union: &Fitted<'_>, reads: &Layout) -> Result<Layout, LoadError> {
    let mut all = Layout::Dense;
    for &entry in union.list("transformer_list")? {
        let Some(&[name, part]) = union.graph.list(entry) else {
            return Err(union.malformed("'transformer_list' holds something else than pairs"));
        };
        let name = union.graph.string(name).unwrap_or_default();
        let part = of_part(union, part, &name, reads)?;
        if !(all.is_dense() && part.is_dense()) {
            all = all.beside(part);
        }
    }
    Ok(all)
}

/// Returns the layout of what a part of several side by side gives.
fn of_part(
    step: &Fitted<'_>,
    part: coracle_pickle::NodeId,
    name: &str,
    reads: &Layout,
) -> Result<Layout, LoadError> {
    let place = format!("transformer '{name}'");
    // Columns are picked from a dense table here.
    let reads = reads.within(step.short_class());
    let layout = match step.graph.node(part) {
        Node::Str(text) if text.as_ref() == "passthrough" => reads,
        Node::Str(_) | Node::None => Layout::Dense,
        _ => layout(&step.part(part, &place)?, &reads)?,
    };
    match columns::weight(step, name)? {
        Some(0.0) if !layout.is_dense() => {
            let why = format!("{} {place} has a weight of zero", step.place);
            Ok(Layout::Uncertain(why))
        }
        _ => Ok(layout),
    }
}
