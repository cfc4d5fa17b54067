//! Support vector machines.

use std::sync::Arc;

use coracle_estimators::{
    Choice, Facet, Kernel, Labels, Mapped, PairRule, Pairs, Pointwise, Squeeze, Svm, SvmSpec,
    TableFn,
};
use coracle_model::{LoadError, Method, Scorer};
use coracle_tensor::Values;

use super::arrays::Matrix;
use super::convert::Part;
use super::fitted::Fitted;
use super::labels::labels;

/// Converts SVC and NuSVC.
pub(super) fn classifier(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let labels = labels(fitted)?;
    let counts = fitted.counts(attribute(fitted, "_n_support", "n_support_"))?;
    let n_classes = labels.len();
    if counts.len() != n_classes || n_classes < 2 {
        let message = format!("{} counts of vectors for {n_classes} classes", counts.len());
        return Err(fitted.malformed(message));
    }
    let n_vectors = counts.iter().fold(0_usize, |sum, &n| sum.saturating_add(n));
    let svm: Arc<Svm> = Arc::new(machine(fitted, counts)?);
    let pairs = |rule: PairRule| -> Result<Arc<dyn TableFn>, LoadError> {
        let decisions: Arc<dyn Scorer> = Arc::<Svm>::clone(&svm);
        let pairs = Pairs::try_new(decisions, n_classes, rule);
        Ok(Arc::new(pairs.map_err(|error| fitted.spec(error))?))
    };
    // Up to 0.18 there is a `None`, for "ovo".
    let shape = fitted.text_or("decision_function_shape", "ovo")?;
    let decision: Arc<dyn TableFn> = match (shape.as_str(), n_classes) {
        ("ovr" | "ovo", 2) => pairs(PairRule::Negated)?,
        ("ovr", _) => pairs(PairRule::OneVersusRest(squeeze(fitted)))?,
        ("ovo", _) => Arc::<Svm>::clone(&svm),
        (other, _) => return Err(fitted.unknown("decision_function_shape", other)),
    };
    let breaks_ties = fitted.flag_or("break_ties", false)? && n_classes > 2;
    let predict = if breaks_ties && shape == "ovr" {
        Facet::classes(Arc::clone(&decision), labels, Choice::FirstLargest)
    } else {
        Facet::classes(pairs(PairRule::Vote)?, labels, Choice::Index)
    };
    let mut facets = vec![predict.map_err(|error| fitted.spec(error))?];
    if has_probabilities(fitted) {
        let slopes = fitted.flat(attribute(fitted, "_probA", "probA_"))?;
        let offsets = fitted.flat(attribute(fitted, "_probB", "probB_"))?;
        if slopes.len() != offsets.len() {
            return Err(fitted.malformed("'probA_' and 'probB_' differ in length"));
        }
        let sigmoids = slopes.into_iter().zip(offsets).collect();
        let probabilities = pairs(PairRule::Probabilities(sigmoids))?;
        facets.push(Facet::table(
            Method::PredictProba,
            Arc::clone(&probabilities),
        ));
        facets.push(Facet::table(
            Method::PredictLogProba,
            Arc::new(Mapped::new(probabilities, Pointwise::Ln)),
        ));
    }
    facets.push(Facet::flat(Method::DecisionFunction, decision));
    let mut part = fitted.faceted(facets)?;
    part.facts = facts(n_vectors, &svm_kernel_name(fitted));
    Ok(part)
}

/// How a release makes decisions of one class against the rest of those of pairs.
pub(super) fn squeeze(fitted: &Fitted<'_>) -> Squeeze {
    match fitted.version.is_up_to_zero(20) {
        true => Squeeze::HalfOfLargest,
        false => Squeeze::Third,
    }
}

fn has_probabilities(fitted: &Fitted<'_>) -> bool {
    // The parameter may be the text "deprecated" from 1.9 on.
    let asked = fitted.attr("probability");
    asked.and_then(|id| fitted.graph.bool(id)) == Some(true)
}

/// Converts SVR and NuSVR.
pub(super) fn regressor(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let n_vectors = n_vectors(fitted)?;
    let svm = machine(fitted, vec![n_vectors])?;
    let predict = Facet::column(Method::Predict, Arc::new(svm));
    let mut part = fitted.faceted(vec![predict.map_err(|error| fitted.spec(error))?])?;
    part.facts = facts(n_vectors, &svm_kernel_name(fitted));
    Ok(part)
}

/// Converts OneClassSVM.
pub(super) fn one_class(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let n_vectors = n_vectors(fitted)?;
    let svm = machine(fitted, vec![n_vectors])?;
    if fitted.version.is_up_to_zero(19) {
        let labels = match fitted.version.is_up_to_zero(18) {
            true => Values::F64(vec![-1.0, 1.0].into()),
            false => Values::I64(vec![-1, 1].into()),
        };
        let decision: Arc<dyn TableFn> = Arc::new(svm);
        let spec = |error| fitted.spec(error);
        let labels = Labels::new(labels);
        let predict = Facet::classes(Arc::clone(&decision), labels, Choice::Above(0.0));
        let decision = Facet::table(Method::DecisionFunction, decision);
        let part = fitted.faceted(vec![predict.map_err(spec)?, decision])?;
        return Ok(Part {
            facts: facts(n_vectors, &svm_kernel_name(fitted)),
            ..part
        });
    }
    let offset = fitted.flat("offset_")?;
    let &[offset] = offset.as_slice() else {
        return Err(fitted.malformed("'offset_' is not one number"));
    };
    let mut part = novelty(fitted, Arc::new(svm), offset, Choice::Above(0.0), true)?;
    part.facts = facts(n_vectors, &svm_kernel_name(fitted));
    Ok(part)
}

/// Returns a detector: `predict` of 1 and -1, `decision_function`, and `score_samples` that lies `offset` above.
pub(super) fn novelty(
    fitted: &Fitted<'_>,
    decision: Arc<dyn TableFn>,
    offset: f64,
    choice: Choice,
    wide: bool,
) -> Result<Part, LoadError> {
    let labels = Labels::new(match wide {
        true => Values::I64(vec![-1, 1].into()),
        false => Values::I32(vec![-1, 1].into()),
    });
    let spec = |error| fitted.spec(error);
    let scores = Arc::new(Mapped::new(Arc::clone(&decision), Pointwise::Add(offset)));
    fitted.faceted(vec![
        Facet::classes(Arc::clone(&decision), labels, choice).map_err(spec)?,
        Facet::column(Method::DecisionFunction, decision).map_err(spec)?,
        Facet::column(Method::ScoreSamples, scores).map_err(spec)?,
    ])
}

fn n_vectors(fitted: &Fitted<'_>) -> Result<usize, LoadError> {
    fitted
        .matrix_or_sparse("support_vectors_")
        .map(|vectors| vectors.n_rows)
}

/// Tells whether a machine is a weighted sum of columns, so that it has `coef_`.
pub(super) fn is_linear(fitted: &Fitted<'_>) -> bool {
    fitted.class().starts_with("sklearn.svm.") && svm_kernel_name(fitted) == "linear"
}

/// Returns the shape and numbers of `coef_` of a linear machine, up to their sign: a row for each pair of classes.
pub(super) fn coefficients(fitted: &Fitted<'_>) -> Result<(Vec<usize>, Vec<f64>), LoadError> {
    let vectors = fitted.matrix_or_sparse("support_vectors_")?;
    let duals: Matrix = fitted.matrix_or_sparse("_dual_coef_")?;
    let (vector_rows, dual_rows): (Vec<&[f64]>, Vec<&[f64]>) =
        (vectors.rows().collect(), duals.rows().collect());
    let wrong = || fitted.malformed("'_dual_coef_' does not fit 'support_vectors_'");
    let add = |sum: &mut [f64], row: usize, (start, end): (usize, usize)| {
        let weights = dual_rows.get(row).and_then(|row| row.get(start..end));
        let vectors = vector_rows.get(start..end);
        let (weights, vectors) = weights.zip(vectors).ok_or_else(wrong)?;
        for (weight, vector) in weights.iter().zip(vectors) {
            let cells = sum.iter_mut().zip(*vector);
            cells.for_each(|(sum, value)| *sum += weight * value);
        }
        Ok::<(), LoadError>(())
    };
    let n_columns = vectors.n_columns;
    if duals.n_rows == 1 {
        let mut sum = vec![0.0; n_columns];
        add(&mut sum, 0, (0, vectors.n_rows))?;
        return Ok((vec![1, n_columns], sum));
    }
    let mut start = 0_usize;
    let mut ranges = Vec::new();
    for count in fitted.counts(attribute(fitted, "_n_support", "n_support_"))? {
        let end = start.checked_add(count).ok_or_else(wrong)?;
        ranges.push((start, end));
        start = end;
    }
    if ranges.len() != duals.n_rows.saturating_add(1) {
        return Err(wrong());
    }
    let mut rows = Vec::new();
    for (first, &own) in ranges.iter().enumerate() {
        for (second, &other) in ranges.iter().enumerate().skip(first.saturating_add(1)) {
            let mut sum = vec![0.0; n_columns];
            add(&mut sum, second.saturating_sub(1), own)?;
            add(&mut sum, first, other)?;
            rows.extend(sum);
        }
    }
    Ok((
        vec![rows.len().checked_div(n_columns).unwrap_or(0), n_columns],
        rows,
    ))
}

fn facts(n_vectors: usize, kernel: &str) -> Vec<(String, String)> {
    vec![
        ("support vectors".to_owned(), n_vectors.to_string()),
        ("kernel".to_owned(), kernel.to_owned()),
    ]
}

fn svm_kernel_name(fitted: &Fitted<'_>) -> String {
    fitted.text_if("kernel").unwrap_or_default()
}

/// Returns the private name where it is there, as libsvm is called with those.
fn attribute<'a>(fitted: &Fitted<'_>, private: &'a str, public: &'a str) -> &'a str {
    match fitted.attr(private) {
        Some(_) => private,
        None => public,
    }
}

fn kernel(fitted: &Fitted<'_>) -> Result<Kernel, LoadError> {
    Ok(match fitted.text_if("kernel").as_deref() {
        Some("linear") => Kernel::Linear,
        Some("poly") => Kernel::Polynomial {
            gamma: fitted.number("_gamma")?,
            coef0: fitted.number("coef0")?,
            degree: fitted.number("degree")?,
        },
        Some("rbf") => Kernel::Rbf {
            gamma: fitted.number("_gamma")?,
        },
        Some("sigmoid") => Kernel::Sigmoid {
            gamma: fitted.number("_gamma")?,
            coef0: fitted.number("coef0")?,
        },
        Some(other) => return Err(fitted.unknown("kernel", other)),
        None => return Err(fitted.unsupported("a kernel that is a function is not supported")),
    })
}

fn machine(fitted: &Fitted<'_>, counts: Vec<usize>) -> Result<Svm, LoadError> {
    // First, since a machine over precomputed similarities has no vectors.
    let kernel = kernel(fitted)?;
    let n_features = fitted.n_features()?;
    let vectors = fitted.matrix_or_sparse("support_vectors_")?;
    let coefficients: Matrix = fitted.matrix_or_sparse("_dual_coef_")?;
    // A machine of no vectors is stored as an empty matrix of another width.
    let is_empty = vectors.values.is_empty() && counts.iter().all(|&count| count == 0);
    if vectors.n_columns != n_features && !is_empty {
        return Err(fitted.malformed(format!(
            "support vectors have {} columns, expected {n_features}",
            vectors.n_columns
        )));
    }
    let spec = SvmSpec {
        kernel,
        n_features,
        support_vectors: vectors.values,
        coefficients: coefficients.values,
        intercepts: fitted.flat("_intercept_")?,
        counts,
    };
    Svm::try_new(spec).map_err(|error| fitted.spec(error))
}

/// A detector of releases before 0.20, which gives no scores.
pub(super) fn novelty_without_scores(
    fitted: &Fitted<'_>,
    decision: Arc<dyn TableFn>,
    choice: Choice,
) -> Result<Part, LoadError> {
    let labels = Labels::new(Values::I64(vec![-1, 1].into()));
    let spec = |error| fitted.spec(error);
    fitted.faceted(vec![
        Facet::classes(Arc::clone(&decision), labels, choice).map_err(spec)?,
        Facet::column(Method::DecisionFunction, decision).map_err(spec)?,
    ])
}

/// The same from scores: `decision_function` lies `offset` below them.
pub(super) fn novelty_by_scores(
    fitted: &Fitted<'_>,
    scores: Arc<dyn TableFn>,
    offset: f64,
) -> Result<Part, LoadError> {
    novelty_above(fitted, scores, offset, 0.0)
}

/// As [`novelty_by_scores`], with rows from `threshold` on within.
pub(super) fn novelty_above(
    fitted: &Fitted<'_>,
    scores: Arc<dyn TableFn>,
    offset: f64,
    threshold: f64,
) -> Result<Part, LoadError> {
    fitted.faceted(novelty_facets(fitted, scores, offset, threshold)?)
}

/// The methods of [`novelty_above`].
pub(super) fn novelty_facets(
    fitted: &Fitted<'_>,
    scores: Arc<dyn TableFn>,
    offset: f64,
    threshold: f64,
) -> Result<Vec<Facet>, LoadError> {
    let labels = Labels::new(Values::I64(vec![-1, 1].into()));
    let spec = |error| fitted.spec(error);
    let decision: Arc<dyn TableFn> =
        Arc::new(Mapped::new(Arc::clone(&scores), Pointwise::Add(-offset)));
    let predict = Facet::classes(Arc::clone(&decision), labels, Choice::AtLeast(threshold));
    Ok(vec![
        predict.map_err(spec)?,
        Facet::column(Method::DecisionFunction, decision).map_err(spec)?,
        Facet::column(Method::ScoreSamples, scores).map_err(spec)?,
    ])
}
