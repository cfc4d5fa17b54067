//! CatBoost's losses: whether a model predicts values or classes, and through which link.

use coracle_estimators::{BoostedLink, Labels};
use coracle_model::LoadError;
use coracle_tensor::Values;

use super::ensemble::{Ensemble, Loss};
use super::{malformed, unsupported};
use crate::document::{Document, Entry, quoted, whole};

/// What a model predicts.
#[derive(Debug)]
pub(super) enum Task {
    Values(BoostedLink),
    Classes {
        link: BoostedLink,
        labels: Labels,
        /// Of two classes, the score above which it is the second.
        threshold: f64,
        /// Whether labels come in a column.
        in_column: bool,
    },
    /// Several things, each of which holds or does not.
    Outputs {
        /// The score above which one holds.
        threshold: f64,
    },
}

/// Returns what an ensemble predicts.
///
/// # Errors
/// Kind `Unsupported` if the loss is not known, `Malformed` if the classes do not fit the scores.
pub(super) fn task(ensemble: &Ensemble) -> Result<Task, LoadError> {
    let link = match ensemble.loss.name() {
        _ if ensemble.loss == Loss::Several => return Ok(Task::Values(BoostedLink::Identity)),
        "RMSE"
        | "MAE"
        | "Quantile"
        | "MAPE"
        | "Huber"
        | "Expectile"
        | "Lq"
        | "LogCosh"
        | "LogLinQuantile"
        | "RMSPE"
        | "Cox"
        | "SurvivalAft"
        | "MultiQuantile"
        | "MultiRMSE"
        | "MultiRMSEWithMissingValues"
        | "YetiRank"
        | "YetiRankPairwise"
        | "PairLogit"
        | "PairLogitPairwise"
        | "QueryRMSE"
        | "QuerySoftMax"
        | "QueryCrossEntropy"
        | "StochasticRank"
        | "StochasticFilter"
        | "LambdaMart" => {
            return Ok(Task::Values(BoostedLink::Identity));
        }
        "Poisson" | "Tweedie" => {
            return Ok(Task::Values(match ensemble.loss {
                Loss::One(_) => BoostedLink::Exponential,
                // What the library goes by are the parameters of training, which a sum does not have.
                Loss::OfSum(_) | Loss::Several => BoostedLink::Identity,
            }));
        }
        "Logloss" | "CrossEntropy" | "Focal" | "MultiClassOneVsAll" => {
            BoostedLink::Sigmoid { scale: 1.0 }
        }
        "MultiLogloss" | "MultiCrossEntropy" => {
            let threshold = threshold(ensemble)?;
            return Ok(Task::Outputs { threshold });
        }
        "MultiClass" => BoostedLink::Softmax,
        loss => {
            return Err(unsupported(format!(
                "loss {} is not supported",
                quoted(loss)
            )));
        }
    };
    let threshold = threshold(ensemble)?;
    let n_classes = ensemble.n_scores.max(2);
    let labels = match &ensemble.classes {
        Some(classes) if has_names(classes) => labels(&Entry::root(classes), n_classes)?,
        // Classes of targets that are probabilities have no names.
        _ => Labels::new(numbered(n_classes)),
    };
    Ok(Task::Classes {
        link,
        labels,
        threshold,
        in_column: false,
    })
}

/// Returns the score above which a thing holds, or the second class is it.
fn threshold(ensemble: &Ensemble) -> Result<f64, LoadError> {
    let text = ensemble.probability_threshold.as_deref();
    text.map_or(Ok(0.0), score_threshold)
}

/// Returns the score at which the probability of the second class is the one in `text`.
fn score_threshold(text: &str) -> Result<f64, LoadError> {
    let probability: Option<f64> = text.parse().ok();
    match probability.filter(|probability| (0.0..=1.0).contains(probability)) {
        // Of 0 and 1, minus infinity and infinity: always, and never.
        Some(probability) => Ok(-(1.0 / probability - 1.0).ln()),
        None => Err(malformed(format!(
            "the probability threshold {} is not from 0 to 1",
            quoted(text)
        ))),
    }
}

fn has_names(classes: &Document) -> bool {
    let names = Entry::root(classes).find("class_names");
    names.is_some_and(|names| *names.document() != Document::Array(Vec::new()))
}

fn numbered(n_classes: usize) -> Values {
    let count = u16::try_from(n_classes).unwrap_or(u16::MAX);
    Values::I64((0..count).map(i64::from).collect())
}

/// Reads the labels of `class_params`.
fn labels(classes: &Entry<'_>, n_classes: usize) -> Result<Labels, LoadError> {
    let names = classes.field("class_names")?;
    let kind = classes.field("class_label_type")?.text()?;
    let values = match kind {
        "Integer" => {
            let integers = names.numbers()?.iter().map(|&number| {
                let magnitude = whole(number.abs()).and_then(|n| i64::try_from(n).ok());
                magnitude.map(|n| if number < 0.0 { n.saturating_neg() } else { n })
            });
            let integers: Option<Vec<i64>> = integers.collect();
            Values::I64(
                integers
                    .ok_or_else(|| names.malformed("are not integers"))?
                    .into(),
            )
        }
        "Float" => Values::F64(names.numbers()?.to_vec().into()),
        "String" => Values::Bytes(names.texts()?.into_iter().collect()),
        // Up to 1.2.2 the library writes the texts of truth values instead.
        "Boolean" => {
            let Document::Array(items) = names.document() else {
                return Err(names.malformed("is not a list"));
            };
            let truths = items.iter().map(|item| match item {
                Document::Bool(truth) => Some(*truth),
                _ => None,
            });
            let truths: Option<Vec<bool>> = truths.collect();
            Values::Bool(truths.ok_or_else(|| names.malformed("are not truth values"))?)
        }
        kind => {
            return Err(unsupported(format!(
                "labels of type {} are not supported",
                quoted(kind)
            )));
        }
    };
    if values.len() != n_classes {
        return Err(malformed(format!(
            "{} labels for {n_classes} classes",
            values.len()
        )));
    }
    Ok(Labels::new(values))
}
