//! Ensembles of other estimators: voting, stacking, bagging, AdaBoost.

use std::sync::Arc;

use coracle_estimators::{
    Choice, ClassIndexOf, Composed, Facet, Faceted, Labels, Mapped, MethodOf, Pointwise,
    RowOperation, RowRule, Rowwise, Rule, Selected, SideBySide, TableFn, Unary,
};
use coracle_model::{Accepts, Component, Estimator, LoadError, Method};
use coracle_pickle::NodeId;

use super::arrays::has;
use super::convert::{self, Part};
use super::fitted::Fitted;
use super::labels::labels;
use super::numbers::exact;
use super::sparsity::Layout;

/// The converted parts of an estimator.
pub(super) struct Members {
    pub(super) estimators: Vec<Arc<dyn Estimator>>,
    pub(super) components: Vec<Component>,
}

/// Converts the estimators in list `name`.
pub(super) fn members(fitted: &Fitted<'_>, name: &str) -> Result<Members, LoadError> {
    let mut all = Members {
        estimators: Vec::new(),
        components: Vec::new(),
    };
    let width = width_of_others(fitted, name)?;
    for (index, id) in items(fitted, name)?.iter().enumerate() {
        let mut part = fitted.part(*id, &format!("{name}[{index}]"))?;
        part.width = width;
        let (estimator, component) = convert::estimator(&part, format!("{name}[{index}]"))?;
        let estimator: Arc<dyn Estimator> = Arc::from(estimator);
        all.estimators.push(estimator);
        all.components.push(component);
    }
    if all.estimators.is_empty() {
        return Err(fitted.malformed(format!("'{name}' is empty")));
    }
    Ok(all)
}

/// Returns what the members of list `name` take, where one of them is a constant that does not say it.
fn width_of_others(fitted: &Fitted<'_>, name: &str) -> Result<Option<usize>, LoadError> {
    const CONSTANT: &str = "sklearn.multiclass._ConstantPredictor";
    let is_constant = |id: &NodeId| {
        let class = fitted.graph.object(*id).map(|object| object.class);
        class == Some(CONSTANT) && fitted.graph.attr(*id, "n_features_in_").is_none()
    };
    let all = items(fitted, name)?;
    if !all.iter().any(is_constant) {
        return Ok(fitted.width);
    }
    let Some(&other) = all.iter().find(|&id| !is_constant(id)) else {
        return Ok(fitted.width);
    };
    let (other, _) = fitted.estimator(other, name)?;
    Ok(Some(other.n_features()))
}

/// Returns the items of a list or an array of objects.
pub(super) fn items<'g>(fitted: &Fitted<'g>, name: &str) -> Result<&'g [NodeId], LoadError> {
    let id = fitted.require(name)?;
    match fitted.graph.array(id).and_then(|array| array.objects()) {
        Some(items) => Ok(items),
        None => fitted.list(name),
    }
}

/// Returns a method of an estimator as a function.
pub(super) fn method_of(
    fitted: &Fitted<'_>,
    estimator: &Arc<dyn Estimator>,
    method: Method,
) -> Result<Arc<dyn TableFn>, LoadError> {
    match MethodOf::new(Arc::clone(estimator), method) {
        Some(function) => Ok(Arc::new(function)),
        None => Err(fitted.malformed(format!("a part has no method {}", method.as_str()))),
    }
}

/// Returns the results of `parts` side by side, brought together by `rule`.
pub(super) fn ruled(
    fitted: &Fitted<'_>,
    parts: Vec<Arc<dyn TableFn>>,
    rule: Rule,
) -> Result<Arc<dyn TableFn>, LoadError> {
    let spec = |error| fitted.spec(error);
    let parts = SideBySide::try_new(parts).map_err(spec)?;
    after(fitted, Arc::new(parts), rule)
}

/// Returns `rule` after `function`.
pub(super) fn after(
    fitted: &Fitted<'_>,
    function: Arc<dyn TableFn>,
    rule: Rule,
) -> Result<Arc<dyn TableFn>, LoadError> {
    let spec = |error| fitted.spec(error);
    let rule = RowRule::try_new(rule, function.n_columns()).map_err(spec)?;
    let composed = Composed::try_new(function, Arc::new(rule)).map_err(spec)?;
    Ok(Arc::new(composed))
}

/// Returns the mean of parts of the same width.
pub(super) fn mean(
    fitted: &Fitted<'_>,
    parts: Vec<Arc<dyn TableFn>>,
    weights: Option<Vec<f64>>,
) -> Result<Arc<dyn TableFn>, LoadError> {
    let width = parts.first().map_or(0, |part| part.n_columns());
    if width == 0 || parts.iter().any(|part| part.n_columns() != width) {
        return Err(fitted.malformed("its parts differ in the number of their outputs"));
    }
    let weights = weights.unwrap_or_else(|| vec![1.0; parts.len()]);
    let divisor = weights.iter().sum();
    let rule = Rule::Mean {
        width,
        weights,
        divisor,
    };
    ruled(fitted, parts, rule)
}

fn with_children(part: Part, members: Members) -> Part {
    Part {
        children: members.components,
        ..part
    }
}

/// Reads the weights of those members that were not dropped.
fn voting_weights(fitted: &Fitted<'_>) -> Result<Option<Vec<f64>>, LoadError> {
    if fitted.is_none("weights") {
        return Ok(None);
    }
    let wrong = || fitted.malformed("'weights' is not a list of numbers");
    let id = fitted.require("weights")?;
    let weights: Option<Vec<f64>> = match fitted.graph.array(id) {
        Some(array) => array.to_f64s(),
        None => {
            let numbers = fitted.list("weights")?.iter();
            numbers.map(|&id| fitted.graph.float(id)).collect()
        }
    };
    let mut kept = Vec::new();
    for (weight, &pair) in weights
        .ok_or_else(wrong)?
        .into_iter()
        .zip(fitted.list("estimators")?)
    {
        let estimator = fitted
            .graph
            .list(pair)
            .and_then(|pair| pair.get(1).copied());
        let is_dropped = estimator.is_some_and(|id| fitted.graph.str(id) == Some("drop"));
        if !is_dropped {
            kept.push(weight);
        }
    }
    Ok(Some(kept))
}

/// Converts VotingClassifier.
pub(super) fn voting_classifier(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let spec = |error| fitted.spec(error);
    let labels = labels(fitted)?;
    let members = members(fitted, "estimators_")?;
    let weights = voting_weights(fitted)?;
    let each = |method: Method| -> Result<Vec<Arc<dyn TableFn>>, LoadError> {
        let members = members.estimators.iter();
        members
            .map(|member| method_of(fitted, member, method))
            .collect()
    };
    let facets = match fitted.text("voting")?.as_str() {
        "soft" => {
            let parts = each(Method::PredictProba)?;
            let probabilities = mean(fitted, parts.clone(), weights)?;
            let predict = Facet::classes(Arc::clone(&probabilities), labels, Choice::FirstLargest);
            let mut facets = vec![
                predict.map_err(spec)?,
                Facet::table(Method::PredictProba, probabilities),
            ];
            // Up to 0.20 there is a `None`, for False, or nothing.
            if !fitted.is_none("flatten_transform") && fitted.flag("flatten_transform")? {
                let all = SideBySide::try_new(parts).map_err(spec)?;
                facets.push(Facet::table(Method::Transform, Arc::new(all)));
            }
            facets
        }
        "hard" => {
            let parts = each(Method::Predict)?;
            let weights = weights.unwrap_or_else(|| vec![1.0; parts.len()]);
            let n_classes = labels.len();
            let votes = ruled(fitted, parts.clone(), Rule::Votes { n_classes, weights })?;
            let predict = Facet::classes(votes, labels, Choice::FirstLargest);
            let all = SideBySide::try_new(parts).map_err(spec)?;
            vec![
                predict.map_err(spec)?,
                Facet::table(Method::Transform, Arc::new(all)),
            ]
        }
        other => return Err(fitted.unknown("voting", other)),
    };
    Ok(with_children(fitted.faceted(facets)?, members))
}

/// Converts VotingRegressor.
pub(super) fn voting_regressor(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let spec = |error| fitted.spec(error);
    let members = members(fitted, "estimators_")?;
    let each = members.estimators.iter();
    let parts: Vec<_> = each
        .map(|member| method_of(fitted, member, Method::Predict))
        .collect::<Result<_, _>>()?;
    let predict = mean(fitted, parts.clone(), voting_weights(fitted)?)?;
    let all = SideBySide::try_new(parts).map_err(spec)?;
    let part = fitted.faceted(vec![
        Facet::column(Method::Predict, predict).map_err(spec)?,
        Facet::table(Method::Transform, Arc::new(all)),
    ])?;
    Ok(with_children(part, members))
}

/// Returns what a stack's final estimator sees.
fn stacked(
    fitted: &Fitted<'_>,
    members: &Members,
    is_binary: bool,
) -> Result<Arc<dyn TableFn>, LoadError> {
    let spec = |error| fitted.spec(error);
    let methods = fitted.list("stack_method_")?;
    if methods.len() != members.estimators.len() {
        return Err(fitted.malformed("'stack_method_' has another length than 'estimators_'"));
    }
    let mut parts: Vec<Arc<dyn TableFn>> = Vec::new();
    for (member, &method) in members.estimators.iter().zip(methods) {
        let name = fitted.graph.string(method).unwrap_or_default();
        let method = Method::ALL
            .into_iter()
            .find(|method| method.as_str() == name);
        let method = method.ok_or_else(|| fitted.unknown("stack_method_", &name))?;
        let part = method_of(fitted, member, method)?;
        if method == Method::PredictProba && is_binary {
            // Of two probabilities the second tells all.
            let second =
                Selected::try_new(part.n_columns(), vec![1], Accepts::ANY).map_err(spec)?;
            parts.push(Arc::new(
                Composed::try_new(part, Arc::new(second)).map_err(spec)?,
            ));
        } else {
            parts.push(part);
        }
    }
    if fitted.flag("passthrough")? {
        let n_features = members.estimators.first().map_or(0, |m| m.n_features());
        let same = RowOperation::Function(Unary::Identity);
        let same = Rowwise::try_new(same, n_features, Accepts::ANY).map_err(spec)?;
        parts.push(Arc::new(same));
    }
    Ok(Arc::new(SideBySide::try_new(parts).map_err(spec)?))
}

/// Converts StackingClassifier.
pub(super) fn stacking_classifier(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let spec = |error| fitted.spec(error);
    let labels = labels(fitted)?;
    let mut members = members(fitted, "estimators_")?;
    let inner = stacked(fitted, &members, labels.len() == 2)?;
    let (last, component) = final_estimator(fitted)?;
    let through = |method: Method| -> Result<Arc<dyn TableFn>, LoadError> {
        let last = method_of(fitted, &last, method)?;
        let composed = Composed::try_new(Arc::clone(&inner), last).map_err(spec)?;
        Ok(Arc::new(composed))
    };
    let predict = Facet::classes(through(Method::Predict)?, labels, Choice::Index);
    let mut facets = vec![predict.map_err(spec)?];
    if has(last.as_ref(), Method::PredictProba) {
        facets.push(Facet::table(
            Method::PredictProba,
            through(Method::PredictProba)?,
        ));
    }
    if has(last.as_ref(), Method::DecisionFunction) {
        let decision = through(Method::DecisionFunction)?;
        facets.push(Facet::flat(Method::DecisionFunction, decision));
    }
    facets.push(Facet::table(Method::Transform, inner));
    members.components.push(component);
    Ok(with_children(fitted.faceted(facets)?, members))
}

/// Converts what reads the answers of a stack's members, dense unless the members' sparse table is passed on.
fn final_estimator(fitted: &Fitted<'_>) -> Result<(Arc<dyn Estimator>, Component), LoadError> {
    let mut stack = fitted.clone();
    if !fitted.flag("passthrough")? {
        stack.reads = Layout::Dense;
    }
    stack.estimator_in("final_estimator_")
}

/// Converts StackingRegressor.
pub(super) fn stacking_regressor(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let spec = |error| fitted.spec(error);
    let mut members = members(fitted, "estimators_")?;
    let inner = stacked(fitted, &members, false)?;
    let (last, component) = final_estimator(fitted)?;
    let last = method_of(fitted, &last, Method::Predict)?;
    let predict = Composed::try_new(Arc::clone(&inner), last).map_err(spec)?;
    members.components.push(component);
    let part = fitted.faceted(vec![
        Facet::flat(Method::Predict, Arc::new(predict)),
        Facet::table(Method::Transform, inner),
    ])?;
    Ok(with_children(part, members))
}

/// A bagged member: its estimator on its columns.
struct Bagged {
    estimator: Arc<dyn Estimator>,
    columns: Arc<dyn TableFn>,
    /// The places of its classes among all.
    places: Vec<usize>,
}

fn bagged(
    fitted: &Fitted<'_>,
    members: &Members,
    n_classes: usize,
) -> Result<Vec<Bagged>, LoadError> {
    let n_features = fitted.n_features()?;
    let columns = feature_lists(fitted)?;
    if columns.len() != members.estimators.len() {
        return Err(fitted.malformed("'estimators_features_' has another length"));
    }
    let ids = items(fitted, "estimators_")?;
    let mut all = Vec::new();
    for ((estimator, columns), &id) in members.estimators.iter().zip(columns).zip(ids) {
        let selected = Selected::try_new(n_features, columns, Accepts::ANY);
        let classes = fitted.graph.attr(id, "classes_");
        let classes = classes.and_then(|classes| fitted.graph.array(classes)?.to_i64s());
        let places = classes.map(|classes| {
            let places = classes.into_iter().map(|class| usize::try_from(class).ok());
            places.collect::<Option<Vec<usize>>>()
        });
        all.push(Bagged {
            estimator: Arc::clone(estimator),
            columns: Arc::new(selected.map_err(|error| fitted.spec(error))?),
            places: places.flatten().unwrap_or_else(|| (0..n_classes).collect()),
        });
    }
    Ok(all)
}

/// Reads the columns of each member.
pub(super) fn feature_lists(fitted: &Fitted<'_>) -> Result<Vec<Vec<usize>>, LoadError> {
    let wrong = || fitted.malformed("'estimators_features_' holds something else than columns");
    let lists = items(fitted, "estimators_features_")?.iter().map(|&id| {
        let columns = fitted.graph.array(id).and_then(|array| array.to_i64s());
        let columns = columns.ok_or_else(wrong)?.into_iter();
        let columns = columns.map(|column| usize::try_from(column).ok());
        columns.collect::<Option<Vec<usize>>>().ok_or_else(wrong)
    });
    lists.collect()
}

fn bagged_method(
    fitted: &Fitted<'_>,
    bagged: &Bagged,
    method: Method,
) -> Result<Arc<dyn TableFn>, LoadError> {
    let function = method_of(fitted, &bagged.estimator, method)?;
    let composed = Composed::try_new(Arc::clone(&bagged.columns), function);
    Ok(Arc::new(composed.map_err(|error| fitted.spec(error))?))
}

/// Converts BaggingRegressor.
pub(super) fn bagging_regressor(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let members = members(fitted, "estimators_")?;
    let bagged = bagged(fitted, &members, 0)?;
    let parts = bagged
        .iter()
        .map(|member| bagged_method(fitted, member, Method::Predict));
    let predict = mean(fitted, parts.collect::<Result<_, _>>()?, None)?;
    let part = fitted.faceted(vec![Facet::flat(Method::Predict, predict)])?;
    Ok(with_children(part, members))
}

/// Converts BaggingClassifier.
pub(super) fn bagging_classifier(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let spec = |error| fitted.spec(error);
    let labels = labels(fitted)?;
    let n_classes = labels.len();
    let members = members(fitted, "estimators_")?;
    let bagged = bagged(fitted, &members, n_classes)?;
    let all_have = |method| bagged.iter().all(|m| has(m.estimator.as_ref(), method));
    let each = |method: Method| -> Result<Vec<Arc<dyn TableFn>>, LoadError> {
        let parts = bagged.iter().map(|member| {
            let function = bagged_method(fitted, member, method)?;
            if function.n_columns() == n_classes || method == Method::Predict {
                return Ok(function);
            }
            let rule = Rule::Scatter {
                places: member.places.clone(),
                width: n_classes,
            };
            after(fitted, function, rule)
        });
        parts.collect()
    };
    let probabilities = match all_have(Method::PredictProba) {
        true => mean(fitted, each(Method::PredictProba)?, None)?,
        false => {
            let weights = vec![1.0; bagged.len()];
            let votes = Rule::Votes { n_classes, weights };
            let votes = ruled(fitted, each(Method::Predict)?, votes)?;
            let share = Pointwise::Times(1.0 / exact(bagged.len()));
            Arc::new(Mapped::new(votes, share))
        }
    };
    let every = bagged.iter().all(|member| member.places.len() == n_classes);
    let logarithms: Arc<dyn TableFn> = match all_have(Method::PredictLogProba) && every {
        true => ruled(
            fitted,
            each(Method::PredictLogProba)?,
            Rule::LogMean { width: n_classes },
        )?,
        false => Arc::new(Mapped::new(Arc::clone(&probabilities), Pointwise::Ln)),
    };
    let predict = Facet::classes(Arc::clone(&probabilities), labels, Choice::FirstLargest);
    let mut facets = vec![
        predict.map_err(spec)?,
        Facet::table(Method::PredictProba, probabilities),
        Facet::table(Method::PredictLogProba, logarithms),
    ];
    if all_have(Method::DecisionFunction) {
        let parts = bagged
            .iter()
            .map(|member| bagged_method(fitted, member, Method::DecisionFunction));
        let decision = mean(fitted, parts.collect::<Result<_, _>>()?, None)?;
        facets.push(Facet::flat(Method::DecisionFunction, decision));
    }
    Ok(with_children(fitted.faceted(facets)?, members))
}

/// Returns an estimator that refuses missing and infinite values before its parts see them.
fn finite(fitted: &Fitted<'_>, facets: Vec<Facet>, members: Members) -> Result<Part, LoadError> {
    let faceted = Faceted::try_new(facets).map_err(|error| fitted.spec(error))?;
    let part = Part::new(faceted.narrowed(Accepts::FINITE), Vec::new());
    Ok(with_children(part, members))
}

/// Converts AdaBoostRegressor.
pub(super) fn ada_regressor(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let members = members(fitted, "estimators_")?;
    let weights = ada_weights(fitted, members.estimators.len())?.0;
    let parts = members.estimators.iter();
    let parts = parts.map(|member| method_of(fitted, member, Method::Predict));
    let median = ruled(
        fitted,
        parts.collect::<Result<_, _>>()?,
        Rule::Median { weights },
    )?;
    let predict = Facet::column(Method::Predict, median).map_err(|error| fitted.spec(error))?;
    finite(fitted, vec![predict], members)
}

/// Reads the weights of the members there are, and the sum of all weights.
fn ada_weights(fitted: &Fitted<'_>, n_members: usize) -> Result<(Vec<f64>, f64), LoadError> {
    let mut weights = fitted.flat("estimator_weights_")?;
    let sum = weights.iter().sum();
    if weights.len() < n_members {
        return Err(fitted.malformed("there are more estimators than weights"));
    }
    weights.truncate(n_members);
    Ok((weights, sum))
}

/// Converts AdaBoostClassifier.
pub(super) fn ada_classifier(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let spec = |error| fitted.spec(error);
    let labels = labels(fitted)?;
    let n_classes = labels.len();
    if n_classes < 2 {
        return Err(fitted.unsupported("a classifier of one class is not supported"));
    }
    let members = members(fitted, "estimators_")?;
    let scores = ada_scores(fitted, &members, &labels)?;
    let (decision, choice, pair) = match n_classes {
        2 => {
            let decision = after(fitted, scores, Rule::Difference)?;
            let pair = after(fitted, Arc::clone(&decision), Rule::HalvedPair)?;
            (decision, Choice::Above(0.0), pair)
        }
        _ => {
            let scale = Pointwise::Affine {
                scale: 1.0 / (exact(n_classes) - 1.0),
                shift: 0.0,
            };
            let scaled: Arc<dyn TableFn> = Arc::new(Mapped::new(Arc::clone(&scores), scale));
            (scores, Choice::FirstLargest, scaled)
        }
    };
    let is_weighed = fitted.version.is_up_to_zero(21) && fitted.text("algorithm")? == "SAMME";
    let pair = match is_weighed {
        true => ada_shares(fitted, &members, n_classes)?,
        false => pair,
    };
    let probabilities: Arc<dyn TableFn> = Arc::new(Mapped::new(pair, Pointwise::Softmax));
    let logarithms = Mapped::new(Arc::clone(&probabilities), Pointwise::Ln);
    let predict = Facet::classes(Arc::clone(&decision), labels, choice);
    let facets = vec![
        predict.map_err(spec)?,
        Facet::table(Method::PredictProba, probabilities),
        Facet::table(Method::PredictLogProba, Arc::new(logarithms)),
        Facet::flat(Method::DecisionFunction, decision),
    ];
    finite(fitted, facets, members)
}

/// Returns what the probabilities of SAMME are the softmax of up to 0.21: the members' probabilities, weighed.
fn ada_shares(
    fitted: &Fitted<'_>,
    members: &Members,
    n_classes: usize,
) -> Result<Arc<dyn TableFn>, LoadError> {
    let (weights, divisor) = ada_weights(fitted, members.estimators.len())?;
    let parts = members.estimators.iter();
    let parts = parts.map(|member| method_of(fitted, member, Method::PredictProba));
    let parts = parts.collect::<Result<Vec<_>, _>>()?;
    if parts.iter().any(|part| part.n_columns() != n_classes) {
        return Err(fitted.malformed("its parts differ in the number of their classes"));
    }
    let rule = Rule::Mean {
        width: n_classes,
        weights,
        divisor,
    };
    let scale = Pointwise::Times(1.0 / (exact(n_classes) - 1.0));
    Ok(Arc::new(Mapped::new(ruled(fitted, parts, rule)?, scale)))
}

fn ada_scores(
    fitted: &Fitted<'_>,
    members: &Members,
    labels: &Labels,
) -> Result<Arc<dyn TableFn>, LoadError> {
    let n_classes = labels.len();
    let (weights, sum) = ada_weights(fitted, members.estimators.len())?;
    let is_real = match fitted.text_or("algorithm", "SAMME")?.as_str() {
        "SAMME.R" => true,
        "SAMME" | "deprecated" => false,
        other => return Err(fitted.unknown("algorithm", other)),
    };
    let each = members.estimators.iter();
    let (parts, rule) = if is_real {
        let parts = each.map(|member| method_of(fitted, member, Method::PredictProba));
        (
            parts.collect::<Result<Vec<_>, _>>()?,
            Rule::RealVotes { n_classes },
        )
    } else {
        let parts = each.map(|member| {
            let class = ClassIndexOf::new(Arc::clone(member), labels.clone());
            let class: Arc<dyn TableFn> = Arc::new(class);
            class
        });
        let rule = match fitted.version.is_from(3) {
            true => Rule::OpposingVotes { n_classes, weights },
            false => Rule::Votes { n_classes, weights },
        };
        (parts.collect(), rule)
    };
    if is_real && parts.iter().any(|part| part.n_columns() != n_classes) {
        return Err(fitted.malformed("its parts differ in the number of their classes"));
    }
    let scores = ruled(fitted, parts, rule)?;
    let rule = Rule::Mean {
        width: n_classes,
        weights: vec![1.0],
        divisor: sum,
    };
    after(fitted, scores, rule)
}
