//! Estimators around others: search, calibration, thresholds, one-versus-rest, several outputs, targets, unions.

use std::sync::Arc;

use coracle_estimators::{
    Chain, Choice, ColumnOperation, Columnwise, Composed, Constant, Facet, Labels, Mapped, Padded,
    Pointwise, Rule, Selected, SideBySide, TableFn, ZeroSum,
};
use coracle_model::{Accepts, Component, Estimator, LoadError, Method};
use coracle_pickle::Node;
use coracle_tensor::Values;

use super::arrays::has;
use super::convert::{self, Part};
use super::ensembles::{self, Members, after, method_of, ruled};
use super::fitted::Fitted;
use super::labels::labels;
use super::{boosted, functions, linear, pipeline, svm, transformers};

/// Returns the attribute of the one estimator that `fitted` gives its table to as it is, if it is of a class that does.
pub(super) fn within(fitted: &Fitted<'_>) -> Option<&'static str> {
    match fitted.short_class() {
        "FrozenEstimator" => Some("estimator"),
        "SelfTrainingClassifier" if fitted.attr("estimator_").is_some() => Some("estimator_"),
        "SelfTrainingClassifier" => Some("base_estimator_"),
        "GridSearchCV" | "HalvingGridSearchCV" | "HalvingRandomSearchCV" | "RandomizedSearchCV" => {
            Some("best_estimator_")
        }
        _ => None,
    }
}

/// Converts what answers exactly as the estimator within: a search, a frozen estimator.
pub(super) fn transparent(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let name = within(fitted).unwrap_or("best_estimator_");
    if fitted.attr(name).is_none() {
        return Err(fitted.unsupported(format!(
            "'{name}' is missing: a search with refit=False cannot predict"
        )));
    }
    let mut within = fitted.part_in(name)?;
    within.width = fitted.width;
    within.taken.clone_from(&fitted.taken);
    within.none_after.clone_from(&fitted.none_after);
    within.feeds_numbers = fitted.feeds_numbers;
    let (estimator, component, nones) = convert::read_after_others(&within, name.to_owned())?;
    let estimator = Arc::from(estimator);
    let facets = Facet::delegated(None, &estimator).map_err(|error| fitted.spec(error))?;
    Ok(with_child(fitted, facets, component)?.with_nones(nones))
}

fn with_child(
    fitted: &Fitted<'_>,
    facets: Vec<Facet>,
    component: Component,
) -> Result<Part, LoadError> {
    let mut part = fitted.faceted(facets)?;
    part.children.push(component);
    Ok(part)
}

fn one_column(
    fitted: &Fitted<'_>,
    function: Arc<dyn TableFn>,
    column: usize,
) -> Result<Arc<dyn TableFn>, LoadError> {
    let spec = |error| fitted.spec(error);
    if function.n_columns() == 1 && column == 0 {
        return Ok(function);
    }
    let selected = Selected::try_new(function.n_columns(), vec![column], Accepts::ANY);
    let composed = Composed::try_new(function, Arc::new(selected.map_err(spec)?));
    Ok(Arc::new(composed.map_err(spec)?))
}

/// What speaks for the second class: the decision, else its probability, else the prediction.
pub(super) struct Score {
    pub(super) function: Arc<dyn TableFn>,
    /// What it is above where the second class is predicted.
    pub(super) threshold: f64,
}

/// Returns the score of a binary classifier, or of a regressor on 0 and 1.
pub(super) fn binary_score(
    fitted: &Fitted<'_>,
    estimator: &Arc<dyn Estimator>,
) -> Result<Score, LoadError> {
    let (function, threshold) = if has(estimator.as_ref(), Method::DecisionFunction) {
        let decision = method_of(fitted, estimator, Method::DecisionFunction)?;
        (one_column(fitted, decision, 0)?, 0.0)
    } else if has(estimator.as_ref(), Method::PredictProba) {
        let probabilities = method_of(fitted, estimator, Method::PredictProba)?;
        (one_column(fitted, probabilities, 1)?, 0.5)
    } else {
        (method_of(fitted, estimator, Method::Predict)?, 0.5)
    };
    if function.n_columns() != 1 {
        return Err(fitted.malformed("a part gives more than one score"));
    }
    Ok(Score {
        function,
        threshold,
    })
}

/// Converts the constant that stands in where all rows were of one class.
pub(super) fn constant_predictor(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let spec = |error| fitted.spec(error);
    let value = match fitted.flat("y_")?.as_slice() {
        &[value] => value,
        _ => return Err(fitted.malformed("'y_' is not one number")),
    };
    let n_features = match fitted.version.is_from(0) {
        true => fitted.n_features()?,
        false => fitted.known_width()?,
    };
    let constant: Arc<dyn TableFn> = Arc::new(Constant::new(n_features, vec![value]));
    let pair = Constant::new(n_features, vec![1.0 - value, value]);
    fitted.faceted(vec![
        Facet::column(Method::Predict, Arc::clone(&constant)).map_err(spec)?,
        Facet::table(Method::PredictProba, Arc::new(pair)),
        Facet::column(Method::DecisionFunction, constant).map_err(spec)?,
    ])
}

/// Converts OneVsRestClassifier.
pub(super) fn one_vs_rest(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let spec = |error| fitted.spec(error);
    let binarizer = fitted.part_in("label_binarizer_")?;
    let kind = binarizer.text("y_type_")?;
    let members = ensembles::members(fitted, "estimators_")?;
    let scores = members
        .estimators
        .iter()
        .map(|member| binary_score(fitted, member));
    let scores = scores.collect::<Result<Vec<_>, _>>()?;
    let threshold = scores.first().map_or(0.0, |score| score.threshold);
    let scores: Vec<_> = scores.into_iter().map(|score| score.function).collect();
    let n_scores = scores.len();
    let predict = match kind.as_str() {
        "multiclass" => {
            // From 1.8 on the first of equal scores wins.
            let rule = match fitted.version.is_from(8) {
                true => Rule::FirstLargest,
                false => Rule::LastLargest,
            };
            let index = ruled(fitted, scores, rule)?;
            Facet::classes(index, labels(&binarizer)?, Choice::Index)
        }
        "binary" => {
            let score = scores.into_iter().next();
            let score = score.ok_or_else(|| fitted.malformed("there are no estimators"))?;
            Facet::classes(score, labels(&binarizer)?, Choice::Above(threshold))
        }
        "multilabel-indicator" => {
            let above = ruled(fitted, scores, Rule::Above(threshold))?;
            let labels = vec![Labels::new(Values::I64(vec![0, 1].into())); n_scores];
            Facet::class_table(above, labels)
        }
        other => return Err(fitted.unknown("target type", other)),
    };
    let mut facets = vec![predict.map_err(spec)?];
    let first = members.estimators.first();
    if first.is_some_and(|first| has(first.as_ref(), Method::PredictProba)) {
        let probabilities = rest_probabilities(fitted, &members, &kind)?;
        facets.push(Facet::table(Method::PredictProba, probabilities));
    }
    if first.is_some_and(|first| has(first.as_ref(), Method::DecisionFunction)) {
        let each = members.estimators.iter();
        let each = each.map(|member| method_of(fitted, member, Method::DecisionFunction));
        let all = SideBySide::try_new(each.collect::<Result<_, _>>()?).map_err(spec)?;
        facets.push(match fitted.version.is_up_to_zero(18) {
            true => Facet::table(Method::DecisionFunction, Arc::new(all)),
            false => Facet::flat(Method::DecisionFunction, Arc::new(all)),
        });
    }
    let part = fitted.faceted(facets)?;
    Ok(Part {
        children: members.components,
        ..part
    })
}

fn rest_probabilities(
    fitted: &Fitted<'_>,
    members: &Members,
    kind: &str,
) -> Result<Arc<dyn TableFn>, LoadError> {
    let each = members.estimators.iter().map(|member| {
        let probabilities = method_of(fitted, member, Method::PredictProba)?;
        one_column(fitted, probabilities, 1)
    });
    let each = each.collect::<Result<Vec<_>, _>>()?;
    let all = SideBySide::try_new(each).map_err(|error| fitted.spec(error))?;
    let mut all: Arc<dyn TableFn> = Arc::new(all);
    if members.estimators.len() == 1 {
        all = Arc::new(Mapped::new(all, Pointwise::WithComplement));
    }
    if kind == "multilabel-indicator" {
        return Ok(all);
    }
    let zero = match fitted.version.is_from(7) {
        true => ZeroSum::Keep,
        false => ZeroSum::Divide,
    };
    after(fitted, all, Rule::OverSum(zero))
}

/// Converts OneVsOneClassifier.
pub(super) fn one_vs_one(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let spec = |error| fitted.spec(error);
    let labels = labels(fitted)?;
    let n_classes = labels.len();
    if !fitted.is_none("pairwise_indices_") {
        return Err(fitted.unsupported("estimators over precomputed kernels are not supported"));
    }
    let members = ensembles::members(fitted, "estimators_")?;
    let mut parts = Vec::new();
    for member in &members.estimators {
        parts.push(method_of(fitted, member, Method::Predict)?);
    }
    let mut threshold = 0.0;
    for member in &members.estimators {
        let score = binary_score(fitted, member)?;
        threshold = score.threshold;
        parts.push(score.function);
    }
    let squeeze = svm::squeeze(fitted);
    let decision = ruled(fitted, parts, Rule::OneVersusOne { n_classes, squeeze })?;
    // Up to 0.18 there was a column for each of two classes, too.
    let facets = if n_classes == 2 && !fitted.version.is_up_to_zero(18) {
        let second = one_column(fitted, decision, 1)?;
        let threshold = if fitted.version.is_from(1) {
            threshold
        } else {
            0.0
        };
        let predict = Facet::classes(Arc::clone(&second), labels, Choice::Above(threshold));
        vec![
            predict.map_err(spec)?,
            Facet::column(Method::DecisionFunction, second).map_err(spec)?,
        ]
    } else {
        let predict = Facet::classes(Arc::clone(&decision), labels, Choice::FirstLargest);
        vec![
            predict.map_err(spec)?,
            Facet::table(Method::DecisionFunction, decision),
        ]
    };
    let part = fitted.faceted(facets)?;
    Ok(Part {
        children: members.components,
        ..part
    })
}

/// Converts OutputCodeClassifier.
pub(super) fn output_code(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let spec = |error| fitted.spec(error);
    let labels = labels(fitted)?;
    let members = ensembles::members(fitted, "estimators_")?;
    let scores = members
        .estimators
        .iter()
        .map(|member| binary_score(fitted, member));
    let scores = scores.map(|score| score.map(|score| score.function));
    let scores = SideBySide::try_new(scores.collect::<Result<_, _>>()?).map_err(spec)?;
    let codes = fitted.matrix_of("code_book_", members.estimators.len())?;
    if codes.n_rows != labels.len() {
        return Err(fitted.malformed("'code_book_' has another number of classes"));
    }
    let nearest = coracle_estimators::Centers::try_new(
        codes.values,
        codes.n_columns,
        coracle_estimators::Metric::SquaredEuclidean,
        coracle_estimators::CenterAnswer::Nearest,
    );
    let nearest = Arc::new(nearest.map_err(spec)?);
    let class = Composed::try_new(Arc::new(scores), nearest).map_err(spec)?;
    let predict = Facet::classes(Arc::new(class), labels, Choice::Index);
    let part = fitted.faceted(vec![predict.map_err(spec)?])?;
    Ok(Part {
        children: members.components,
        ..part
    })
}

/// Converts MultiOutputClassifier and MultiOutputRegressor.
///
/// A classifier's probabilities are one table per output; narrower ones are filled up with zeros.
pub(super) fn multi_output(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let members = ensembles::members(fitted, "estimators_")?;
    let spec = |error| fitted.spec(error);
    let mut facets = vec![Facet::columns(members.estimators.clone()).map_err(spec)?];
    let mut all = members.estimators.iter();
    if all.all(|member| has(member.as_ref(), Method::PredictProba)) {
        let probabilities = members.estimators.iter();
        let probabilities =
            probabilities.map(|member| method_of(fitted, member, Method::PredictProba));
        let padded = Padded::try_new(probabilities.collect::<Result<_, _>>()?).map_err(spec)?;
        let shape = padded.shape();
        let facet = Facet::outputs(Method::PredictProba, Arc::new(padded), shape);
        facets.push(facet.map_err(spec)?);
    }
    let part = fitted.faceted(facets)?;
    Ok(Part {
        children: members.components,
        ..part
    })
}

/// Converts ClassifierChain and RegressorChain.
pub(super) fn chain(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let spec = |error| fitted.spec(error);
    let members = ensembles::members(fitted, "estimators_")?;
    let order = chain_order(fitted, members.estimators.len())?;
    // The first link sees the features alone; before 1.0 nothing else tells how many they are.
    let n_features = members.estimators.first().map_or(0, |m| m.n_features());
    let feature_name = fitted.text_or("chain_method_", "predict")?;
    let feature = Method::ALL
        .into_iter()
        .find(|method| method.as_str() == feature_name);
    let feature = feature.ok_or_else(|| fitted.unknown("chain_method_", &feature_name))?;
    let one = |member: &Arc<dyn Estimator>, method: Method| {
        let function = method_of(fitted, member, method)?;
        let is_of_classes = matches!(method, Method::PredictProba | Method::PredictLogProba);
        let column = usize::from(is_of_classes);
        one_column(fitted, function, column)
    };
    let mut facets = Vec::new();
    for method in [
        Method::Predict,
        Method::PredictProba,
        Method::DecisionFunction,
    ] {
        if !members
            .estimators
            .iter()
            .all(|member| has(member.as_ref(), method))
        {
            continue;
        }
        let mut links = Vec::new();
        for member in &members.estimators {
            links.push((one(member, feature)?, one(member, method)?));
        }
        let chain = Chain::try_new(n_features, links, order.clone()).map_err(spec)?;
        let chain: Arc<dyn TableFn> = Arc::new(chain);
        facets.push(Facet::table(method, Arc::clone(&chain)));
        if method == Method::PredictProba && fitted.version.is_from(4) {
            let logarithms = Mapped::new(chain, Pointwise::Ln);
            facets.push(Facet::table(Method::PredictLogProba, Arc::new(logarithms)));
        }
    }
    let part = fitted.faceted(facets)?;
    Ok(Part {
        children: members.components,
        ..part
    })
}

fn chain_order(fitted: &Fitted<'_>, n: usize) -> Result<Vec<usize>, LoadError> {
    let id = fitted.require("order_")?;
    let order: Option<Vec<i64>> = match fitted.graph.array(id) {
        Some(array) => array.to_i64s(),
        None => {
            let items = fitted.graph.list(id).unwrap_or_default().iter();
            items.map(|&item| fitted.graph.int(item)).collect()
        }
    };
    let order = order.unwrap_or_default().into_iter();
    let order: Option<Vec<usize>> = order.map(|place| usize::try_from(place).ok()).collect();
    order
        .filter(|order| order.len() == n)
        .ok_or_else(|| fitted.malformed("'order_' is no order of the outputs"))
}

/// Converts TransformedTargetRegressor.
pub(super) fn transformed_target(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let (regressor, component) = fitted.estimator_in("regressor_")?;
    let predict = method_of(fitted, &regressor, Method::Predict)?;
    let transformer = fitted.part_in("transformer_")?;
    let n_outputs = predict.n_columns();
    let function = inverse(&transformer, predict)?;
    let is_flat = fitted.count("_training_dim")? == 1;
    let facet = match is_flat && n_outputs == 1 {
        true => Facet::column(Method::Predict, function).map_err(|error| fitted.spec(error))?,
        false => Facet::table(Method::Predict, function),
    };
    with_child(fitted, vec![facet], component)
}

/// Returns the inverse of a transformer after `function`.
fn inverse(
    transformer: &Fitted<'_>,
    function: Arc<dyn TableFn>,
) -> Result<Arc<dyn TableFn>, LoadError> {
    let n = function.n_columns();
    let per_column = |name: &str| transformer.finite(name, n);
    let scaled = |scale: Vec<f64>, shift: Vec<f64>| -> Result<Arc<dyn TableFn>, LoadError> {
        let scaled = coracle_estimators::ColumnAffine::try_new(scale, shift);
        let scaled = Arc::new(scaled.map_err(|error| transformer.spec(error))?);
        let composed = Composed::try_new(Arc::clone(&function), scaled);
        Ok(Arc::new(composed.map_err(|error| transformer.spec(error))?))
    };
    let ones = || vec![1.0; n];
    let zeros = || vec![0.0; n];
    match transformer.short_class() {
        "FunctionTransformer" => {
            let known = functions::known(transformer, "inverse_func")?;
            Ok(Arc::new(Mapped::new(function, Pointwise::Unary(known))))
        }
        "StandardScaler" => {
            let scale = match transformer.flag("with_std")? {
                true => per_column("scale_")?,
                false => ones(),
            };
            let shift = match transformer.flag("with_mean")? {
                true => per_column("mean_")?,
                false => zeros(),
            };
            scaled(scale, shift)
        }
        "RobustScaler" => {
            let scale = match transformer.flag("with_scaling")? {
                true => per_column("scale_")?,
                false => ones(),
            };
            let shift = match transformer.flag("with_centering")? {
                true => per_column("center_")?,
                false => zeros(),
            };
            scaled(scale, shift)
        }
        "MinMaxScaler" => {
            let (scale, min) = (per_column("scale_")?, per_column("min_")?);
            let shift = min.iter().zip(&scale).map(|(min, scale)| -min / scale);
            let shift = shift.collect();
            scaled(scale.iter().map(|scale| 1.0 / scale).collect(), shift)
        }
        "MaxAbsScaler" => scaled(per_column("scale_")?, zeros()),
        "PowerTransformer" => {
            let function = match transformer.flag("standardize")? {
                true => inverse(&transformer.part_in("_scaler")?, function)?,
                false => function,
            };
            composed(
                transformer,
                function,
                transformers::power_inverse(transformer)?,
            )
        }
        "QuantileTransformer" => {
            let operations = transformers::quantiles_inverse(transformer)?;
            composed(transformer, function, operations)
        }
        "Pipeline" => {
            let mut function = function;
            for (name, id) in pipeline::named_steps(transformer)?.iter().rev() {
                let step = transformer.part(*id, &format!("step '{name}'"))?;
                function = inverse(&step, function)?;
            }
            Ok(function)
        }
        class => Err(transformer.unsupported(format!("the inverse of {class} is not supported"))),
    }
}

/// Returns `operations`, one per column, after `function`.
fn composed(
    transformer: &Fitted<'_>,
    function: Arc<dyn TableFn>,
    operations: Vec<ColumnOperation>,
) -> Result<Arc<dyn TableFn>, LoadError> {
    let columnwise = Columnwise::try_new(operations, Accepts::ANY);
    let columnwise = Arc::new(columnwise.map_err(|error| transformer.spec(error))?);
    let composed = Composed::try_new(function, columnwise);
    Ok(Arc::new(composed.map_err(|error| transformer.spec(error))?))
}

/// Converts FixedThresholdClassifier and TunedThresholdClassifierCV.
pub(super) fn threshold(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let spec = |error| fitted.spec(error);
    let name = match fitted.attr("estimator_") {
        Some(_) => "estimator_",
        None => "estimator",
    };
    let (estimator, component) = fitted.estimator_in(name)?;
    let labels = threshold_labels(fitted, name)?;
    if labels.len() != 2 {
        return Err(fitted.malformed("a threshold needs two classes"));
    }
    let asked = fitted.text("response_method")?;
    let uses_probability = match asked.as_str() {
        "auto" => has(estimator.as_ref(), Method::PredictProba),
        "predict_proba" => true,
        "decision_function" => false,
        other => return Err(fitted.unknown("response_method", other)),
    };
    let positive = positive_class(fitted, &labels)?;
    let first_is_positive = positive == 0;
    let score = match uses_probability {
        true => {
            let probabilities = method_of(fitted, &estimator, Method::PredictProba)?;
            one_column(fitted, probabilities, positive)?
        }
        false => {
            let decision = method_of(fitted, &estimator, Method::DecisionFunction)?;
            match first_is_positive {
                true => Arc::new(Mapped::new(decision, Pointwise::Times(-1.0))),
                false => decision,
            }
        }
    };
    let limit = match fitted.attr("best_threshold_") {
        Some(_) => fitted.number("best_threshold_")?,
        None if fitted.text_if("threshold").as_deref() == Some("auto") => match uses_probability {
            true => 0.5,
            false => 0.0,
        },
        None => fitted.number("threshold")?,
    };
    let labels = match first_is_positive {
        true => reversed(labels),
        false => labels,
    };
    let predict = Facet::classes(score, labels, Choice::AtLeast(limit)).map_err(spec)?;
    let mut facets = vec![predict];
    facets.extend(
        Facet::delegated(None, &estimator)
            .map_err(spec)?
            .into_iter()
            .filter(|facet| {
                let wanted = [
                    Method::PredictProba,
                    Method::PredictLogProba,
                    Method::DecisionFunction,
                ];
                wanted.contains(&facet.method())
            }),
    );
    with_child(fitted, facets, component)
}

/// Returns the classes of what is thresholded: its own, or those of its last step.
fn threshold_labels(fitted: &Fitted<'_>, name: &str) -> Result<Labels, LoadError> {
    if fitted.attr("classes_").is_some() {
        return labels(fitted);
    }
    class_labels(&fitted.part_in(name)?)
}

/// Returns the classes of an estimator, of the last step of a pipeline, or of the part within.
fn class_labels(estimator: &Fitted<'_>) -> Result<Labels, LoadError> {
    if estimator.attr("classes_").is_some() {
        return labels(estimator);
    }
    if boosted::is_known(estimator.class()) {
        return boosted::class_labels(estimator);
    }
    if estimator.attr("steps").is_some() {
        let last = estimator.list("steps")?.last();
        let last = last.and_then(|&step| estimator.graph.list(step)?.get(1).copied());
        let last = last.ok_or_else(|| estimator.malformed("'steps' is empty"))?;
        return class_labels(&estimator.part(last, "the last step")?);
    }
    // Older ridge classifiers keep their classes in their label binarizer only.
    for within in ["best_estimator_", "estimator", "_label_binarizer"] {
        if estimator.attr(within).is_some() {
            return class_labels(&estimator.part_in(within)?);
        }
    }
    labels(estimator)
}

fn reversed(labels: Labels) -> Labels {
    Labels::new(labels.take(&[1, 0]).into_parts().1)
}

/// Returns the number of the class that the threshold is for.
fn positive_class(fitted: &Fitted<'_>, labels: &Labels) -> Result<usize, LoadError> {
    let own = fitted.attr("pos_label");
    let kept = fitted
        .attr("_curve_scorer")
        .and_then(|scorer| fitted.graph.attr(scorer, "_kwargs"))
        .and_then(|keywords| fitted.graph.dict_get(keywords, "pos_label"));
    let is_given = |id: &coracle_pickle::NodeId| !matches!(fitted.graph.node(*id), Node::None);
    let Some(id) = own.filter(is_given).or(kept.filter(is_given)) else {
        return Ok(1);
    };
    let value = match (fitted.graph.string(id), fitted.graph.float(id)) {
        (Some(text), _) => Values::Bytes([text].into_iter().collect()),
        (None, Some(number)) => Values::F64(vec![number].into()),
        _ => return Err(fitted.unsupported("'pos_label' is no text or number")),
    };
    match labels.indices_of(&value).as_deref() {
        Some([0.0]) => Ok(0),
        Some([1.0]) => Ok(1),
        _ => Err(fitted.malformed("'pos_label' is no class")),
    }
}

/// Converts CalibratedClassifierCV.
pub(super) fn calibrated(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let spec = |error| fitted.spec(error);
    let labels = labels(fitted)?;
    let mut parts = Vec::new();
    let mut components = Vec::new();
    for (index, &id) in fitted.list("calibrated_classifiers_")?.iter().enumerate() {
        let inner = fitted.part(id, &format!("calibrated_classifiers_[{index}]"))?;
        let (function, component) = one_calibrated(&inner, &labels)?;
        parts.push(function);
        components.push(component);
    }
    let probabilities = ensembles::mean(fitted, parts, None)?;
    let predict = Facet::classes(Arc::clone(&probabilities), labels, Choice::FirstLargest);
    let part = fitted.faceted(vec![
        predict.map_err(spec)?,
        Facet::table(Method::PredictProba, probabilities),
    ])?;
    Ok(Part {
        children: components,
        ..part
    })
}

fn one_calibrated(
    inner: &Fitted<'_>,
    labels: &Labels,
) -> Result<(Arc<dyn TableFn>, Component), LoadError> {
    let name = match inner.attr("estimator") {
        Some(_) => "estimator",
        None => "base_estimator",
    };
    let (estimator, component) = inner.estimator_in(name)?;
    let n_classes = labels.len();
    let is_decision = has(estimator.as_ref(), Method::DecisionFunction);
    let response = match is_decision {
        true => method_of(inner, &estimator, Method::DecisionFunction)?,
        false => method_of(inner, &estimator, Method::PredictProba)?,
    };
    let calibrators = match inner.attr("calibrators") {
        Some(_) => "calibrators",
        None => "calibrators_",
    };
    let calibrators = inner.list(calibrators)?;
    if inner.text("method")? == "temperature" {
        let &[calibrator] = calibrators else {
            return Err(inner.malformed("there is not one calibrator"));
        };
        let beta = inner.part(calibrator, "calibrator")?.number("beta_")?;
        let response = match n_classes == 2 && !is_decision {
            true => {
                let second = one_column(inner, response, 1)?;
                Arc::new(Mapped::new(second, Pointwise::WithComplement))
            }
            false => response,
        };
        let function = tempered(inner, response, is_decision, beta)?;
        return Ok((function, component));
    }
    // The classes that this part was fitted on, by their place among all.
    let own = class_labels(&inner.part_in(name)?)?;
    let places = labels.indices_of(own.values());
    let places = places.ok_or_else(|| inner.malformed("a part has a class of its own"))?;
    let places: Vec<usize> = (0..n_classes)
        .filter(|&class| places.contains(&super::numbers::exact(class)))
        .collect();
    let response = match n_classes == 2 && !is_decision {
        true => one_column(inner, response, 1)?,
        false => response,
    };
    let mut columns = Vec::new();
    for (index, &calibrator) in calibrators.iter().enumerate() {
        let calibrator = inner.part(calibrator, &format!("calibrators[{index}]"))?;
        let score = one_column(inner, Arc::clone(&response), index)?;
        columns.push(calibration(&calibrator, score)?);
    }
    let function = match n_classes {
        2 => {
            let first = columns.into_iter().next();
            let first = first.ok_or_else(|| inner.malformed("there is no calibrator"))?;
            Arc::new(Mapped::new(first, Pointwise::WithComplement))
        }
        _ => {
            let width = n_classes;
            let all = ruled(inner, columns, Rule::Scatter { places, width })?;
            after(inner, all, Rule::OverSum(ZeroSum::Even))?
        }
    };
    Ok((after(inner, function, Rule::TrimOne)?, component))
}

fn tempered(
    inner: &Fitted<'_>,
    response: Arc<dyn TableFn>,
    is_decision: bool,
    beta: f64,
) -> Result<Arc<dyn TableFn>, LoadError> {
    const SMALLEST: f64 = 1e-12;
    let logits: Arc<dyn TableFn> = match is_decision {
        true => response,
        false => {
            let shifted = Mapped::new(response, Pointwise::Add(SMALLEST));
            Arc::new(Mapped::new(Arc::new(shifted), Pointwise::Ln))
        }
    };
    let tempered = after(inner, logits, Rule::Tempered { beta })?;
    let probabilities: Arc<dyn TableFn> = Arc::new(Mapped::new(tempered, Pointwise::Softmax));
    after(inner, probabilities, Rule::TrimOne)
}

/// Returns one calibrator after a score.
fn calibration(
    calibrator: &Fitted<'_>,
    score: Arc<dyn TableFn>,
) -> Result<Arc<dyn TableFn>, LoadError> {
    match calibrator.short_class() {
        "_SigmoidCalibration" => {
            let platt = Pointwise::Platt {
                slope: calibrator.number("a_")?,
                offset: calibrator.number("b_")?,
            };
            Ok(Arc::new(Mapped::new(score, platt)))
        }
        "IsotonicRegression" => {
            let isotonic = Arc::new(linear::isotonic_function(calibrator)?);
            let composed = Composed::try_new(score, isotonic);
            Ok(Arc::new(composed.map_err(|error| calibrator.spec(error))?))
        }
        class => Err(calibrator.unsupported(format!("calibration by {class} is not supported"))),
    }
}
