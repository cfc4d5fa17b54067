//! Gradient boosting of regression trees.

use coracle_estimators::{
    Classifier, Decision, Initial, InitialLink, InitialScorer, InverseLink, Link,
    ProbabilityMargin, Regressor,
};
use coracle_forest::{ForestSpec, Precision, Target};
use coracle_model::{Component, Estimator, LoadError, Scorer, Width};
use coracle_pickle::Node;

use super::convert::{self, Part};
use super::fitted::Fitted;
use super::labels::labels;
use super::tree::{self, LeafKind};

/// What the ensemble starts from.
enum Start {
    Scores(Vec<f64>),
    Estimator(Box<dyn Estimator>, Component),
}

/// A scorer with its description.
struct Boosted {
    scorer: Box<dyn Scorer>,
    facts: Vec<(String, String)>,
    children: Vec<Component>,
}

/// Converts a gradient boosting classifier.
pub(super) fn classifier(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let labels = labels(fitted)?;
    let is_binary = labels.len() == 2;
    let (link, initial) = match (fitted.text("loss")?.as_str(), is_binary) {
        ("deviance" | "log_loss", true) => (Link::Sigmoid, InitialLink::Logit),
        ("deviance" | "log_loss", false) if fitted.version.is_from(4) => {
            (Link::Softmax, InitialLink::CenteredLog)
        }
        ("deviance" | "log_loss", false) => (Link::Softmax, InitialLink::Log),
        ("exponential", true) => (Link::DoubledSigmoid, InitialLink::HalfLogit),
        (loss, _) => return Err(fitted.unsupported(format!("loss '{loss}' is not supported"))),
    };
    // Before 1.4 the logistic losses compare probabilities; the exponential one always compares scores.
    let decision = match link {
        Link::DoubledSigmoid => Decision::ScoreFromZero,
        _ if fitted.version.is_from(4) => Decision::ScoreFromZero,
        _ => Decision::LargestProbability,
    };
    let n_scores = if is_binary { 1 } else { labels.len() };
    let boosted = boosted(fitted, n_scores, initial, Some(labels.len()))?;
    let classifier = Classifier::try_new(boosted.scorer, Some(link), decision, labels)
        .map_err(|error| fitted.malformed(error.to_string()))?;
    Ok(Part {
        children: boosted.children,
        ..Part::new(classifier, boosted.facts)
    })
}

/// Converts a gradient boosting regressor; all its losses predict the raw score.
pub(super) fn regressor(fitted: &Fitted<'_>) -> Result<Part, LoadError> {
    let losses = [
        "squared_error",
        "ls",
        "absolute_error",
        "lad",
        "huber",
        "quantile",
    ];
    let loss = fitted.text("loss")?;
    if !losses.contains(&loss.as_str()) {
        return Err(fitted.unsupported(format!("loss '{loss}' is not supported")));
    }
    let boosted = boosted(fitted, 1, InitialLink::Value, None)?;
    let regressor = Regressor::new(boosted.scorer, InverseLink::Identity, Width::Scalar);
    Ok(Part {
        children: boosted.children,
        ..Part::new(regressor, boosted.facts)
    })
}

fn boosted(
    fitted: &Fitted<'_>,
    n_scores: usize,
    link: InitialLink,
    n_classes: Option<usize>,
) -> Result<Boosted, LoadError> {
    let margin = if fitted.version.is_from(8) {
        ProbabilityMargin::Double
    } else {
        ProbabilityMargin::Single
    };
    let transform = Initial { link, margin };
    let start = start(fitted, n_scores, transform)?;
    let base = match &start {
        Start::Scores(scores) => scores.clone(),
        Start::Estimator(..) => vec![0.0; n_scores],
    };
    let (spec, mut children) = stages(fitted, base)?;
    let forest = tree::compile(fitted, spec)?;
    let facts = tree::facts(&forest, n_classes);
    let scorer: Box<dyn Scorer> = match start {
        Start::Scores(_) => Box::new(forest),
        Start::Estimator(estimator, component) => {
            children.insert(0, component);
            let scorer = InitialScorer::try_new(estimator, transform, Box::new(forest));
            Box::new(scorer.map_err(|error| fitted.malformed(error.to_string()))?)
        }
    };
    Ok(Boosted {
        scorer,
        facts,
        children,
    })
}

/// Reads `estimators_`, `(stages, scores)` regression trees.
fn stages(fitted: &Fitted<'_>, base: Vec<f64>) -> Result<(ForestSpec, Vec<Component>), LoadError> {
    let n_scores = base.len();
    let estimators = fitted.array("estimators_")?;
    let wrong = || {
        let shape = estimators.shape();
        fitted.malformed(format!(
            "'estimators_' has shape {shape:?}, expected trees in {n_scores} columns"
        ))
    };
    let members = estimators.objects().ok_or_else(wrong)?;
    if !matches!(estimators.shape(), [n_stages, n_columns] if *n_stages > 0 && *n_columns == n_scores)
    {
        return Err(wrong());
    }
    let learning_rate = fitted.number("learning_rate")?;
    let mut trees = Vec::with_capacity(members.len());
    let mut summary = Vec::new();
    for (index, (&member, score)) in members.iter().zip((0..n_scores).cycle()).enumerate() {
        let member = fitted.part(member, &format!("estimators_[{index}]"))?;
        let leaf = LeafKind::Values { n_outputs: 1 };
        trees.push(tree::read_tree(
            &member,
            leaf,
            Target::OneScore(score),
            learning_rate,
        )?);
        if summary.is_empty() {
            summary.push(tree::member_summary(&member, members.len()));
        }
    }
    let spec = ForestSpec {
        n_features: fitted.n_features()?,
        n_scores,
        precision: Precision::Single,
        summation: Precision::Double,
        base,
        divisor: None,
        accepts_missing: false,
        accepts_infinite: false,
        trees,
    };
    Ok((spec, summary))
}

/// Reads `init_`: zero, a constant predictor, or any estimator.
fn start(fitted: &Fitted<'_>, n_scores: usize, transform: Initial) -> Result<Start, LoadError> {
    let id = fitted.require("init_")?;
    if let Node::Str(text) = fitted.graph.node(id) {
        return match text.as_ref() {
            "zero" => Ok(Start::Scores(vec![0.0; n_scores])),
            other => Err(fitted.unsupported(format!("init '{other}' is not supported"))),
        };
    }
    let init = fitted.part(id, "init_")?;
    if let Some(scores) = older_start(&init, n_scores)? {
        return Ok(Start::Scores(scores));
    }
    let predicted = match init.class() {
        "sklearn.dummy.DummyClassifier" if init.text("strategy")? == "prior" => {
            init.numbers("class_prior_")?.1
        }
        "sklearn.dummy.DummyRegressor" => init.numbers("constant_")?.1,
        _ => {
            let (estimator, component) = convert::estimator(&init, "init".to_owned())?;
            return Ok(Start::Estimator(estimator, component));
        }
    };
    let scores = transform.scores(&predicted);
    if scores.len() != n_scores {
        let message = format!("gives {} initial scores, expected {n_scores}", scores.len());
        return Err(init.malformed(message));
    }
    Ok(Start::Scores(scores))
}

/// Reads the scores that an ensemble up to 0.20 starts from, which has estimators of its own for them.
fn older_start(init: &Fitted<'_>, n_scores: usize) -> Result<Option<Vec<f64>>, LoadError> {
    if !init.version.is_up_to_zero(20) {
        return Ok(None);
    }
    let scores = match init.short_class() {
        "ZeroEstimator" => vec![0.0; n_scores],
        "MeanEstimator" => init.flat("mean")?,
        "QuantileEstimator" => init.flat("quantile")?,
        "LogOddsEstimator" | "ScaledLogOddsEstimator" => init.flat("prior")?,
        "PriorProbabilityEstimator" => init.flat("priors")?,
        other => return Err(init.unknown("init", other)),
    };
    if scores.len() != n_scores {
        let message = format!("gives {} initial scores, expected {n_scores}", scores.len());
        return Err(init.malformed(message));
    }
    Ok(Some(scores))
}
